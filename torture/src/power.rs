//! Power cuts: programs write to filesystems, the disk keeps a log, and the power goes at any
//! moment of it.
//!
//! Invariant: a test covers what a disk may leave, not only what it happens to leave. Each cut is
//! made from the log by random choices that the seed repeats (see `cut`). The kernel mounts it as
//! after a real power loss, and the suite reads it. All authors write to the same filesystem, so
//! the fsync of one puts the rename of another on the disk, as in practice. The exception is
//! `window`.
//!
//! What these tests cannot see: the log differs from run to run, because the kernel decides when to
//! write. So images in which atomwrite has broken its promise are kept. Disks that ignore a flush
//! are not tried.

mod check;
mod cut;
mod disk;
pub(crate) mod filesystem;
mod history;
mod many;
mod order;
mod run;
pub(crate) mod window;
mod workload;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::Path;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::thread;

use anyhow::{Context, Result, anyhow, ensure};
use nix::unistd::syncfs;
use rand::Rng;

use self::check::{Scene, Verdicts};
use self::disk::Disk;
use self::filesystem::Filesystem;
use self::history::{Author, Record, Sync, Synced};
use self::workload::Writers;
use crate::ground::Ground;
use crate::report::{Promise, Report};
use crate::served::{Entry, Sparse};

/// Images that are kept of each filesystem.
const KEPT: usize = 2;

pub(crate) fn run(ground: &Ground, report: &mut Report) -> Result<()> {
    let queue = Mutex::new(Filesystem::ALL.into_iter());
    let results = Mutex::new(BTreeMap::new());
    // Two at a time: while one waits for its disk, the other works.
    let work = || -> Result<()> {
        loop {
            let next = queue.lock().unwrap_or_else(PoisonError::into_inner).next();
            let Some(filesystem) = next else {
                return Ok(());
            };
            let verdicts = try_filesystem(ground, filesystem)
                .with_context(|| format!("power cut, {}", filesystem.shown()))?;
            results
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .insert(filesystem.word(), verdicts);
        }
    };
    thread::scope(|scope| {
        let workers = [scope.spawn(work), scope.spawn(work)];
        workers.into_iter().try_for_each(|worker| {
            worker
                .join()
                .map_err(|_| anyhow!("a worker has panicked"))?
        })
    })?;
    let mut results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
    let mut seen = Seen::default();
    for filesystem in Filesystem::ALL {
        for (author, verdict) in results
            .remove(filesystem.word())
            .unwrap_or_default()
            .into_values()
        {
            seen.add(author, verdict.harms);
            add(report, filesystem, author, verdict);
        }
    }
    seen.is_enough()?;
    window::measure(ground, report)?;
    order::run(ground, report)
}

/// The harms of the modes that promise less. Without them, the test might see nothing at all.
#[derive(Debug, Default)]
struct Seen {
    one: Less,
    many: Less,
}

#[derive(Debug, Default)]
struct Less {
    /// By `--sync=none`.
    torn: usize,
    /// By `--sync=file`.
    lost: usize,
}

impl Seen {
    fn add(&mut self, author: Author, harms: check::Harms) {
        let less = match author {
            Author::Atomwrite(_) => &mut self.one,
            Author::Many(_) => &mut self.many,
            Author::Other(_) => return,
        };
        match author.sync() {
            Some(Sync::None) => less.torn += harms.torn,
            Some(Sync::File) => less.lost += harms.lost,
            _ => {}
        }
    }

    fn is_enough(&self) -> Result<()> {
        for (less, by) in [(&self.one, ""), (&self.many, " -t")] {
            let Less { torn, lost } = less;
            println!(
                "torture: power: atomwrite{by}: {torn} torn with --sync=none, {lost} lost with --sync=file"
            );
            ensure!(
                *torn > 0,
                "no power cut has torn a file of{by} --sync=none: the test sees nothing"
            );
            ensure!(
                *lost > 0,
                "no power cut has lost a file of{by} --sync=file: the test sees nothing"
            );
        }
        Ok(())
    }
}

fn add(report: &mut Report, filesystem: Filesystem, author: Author, verdict: check::Verdict) {
    let program = author.program();
    let whole = format!(
        "Power cut, {}: torn, empty, zeroed or missing",
        filesystem.shown()
    );
    let kept = format!(
        "Power cut, {}: lost after exit status 0",
        filesystem.shown()
    );
    let left = "Power cut: files that the next write does not remove";
    let promise = if filesystem.tears_what_was_replaced() {
        Promise::NotMade
    } else {
        Promise::Made
    };
    match author.sync() {
        Some(Sync::None) => {
            let none = "Power cut, `--sync=none`: torn, missing or lost";
            report.add(none, Promise::NotMade, program, verdict.whole);
        }
        Some(Sync::File) => report.add(&whole, promise, program, verdict.whole),
        Some(Sync::Full) | None => {
            report.add(&whole, promise, program, verdict.whole);
            report.add(&kept, Promise::Made, program, verdict.kept);
        }
    }
    report.add(left, Promise::Made, program, verdict.left);
}

fn try_filesystem(ground: &Ground, filesystem: Filesystem) -> Result<Verdicts> {
    let place = ground.directory("power")?;
    let mut chance = ground.chance(&format!("power {}", filesystem.word()));
    let clean = Sparse::read_from(&filesystem.make()?).context("cannot read the new filesystem")?;
    let began = std::time::Instant::now();
    let (log, start, record) = write_and_log(
        ground,
        filesystem,
        place.path(),
        clean.clone(),
        chance.random(),
    )?;
    let recorded = began.elapsed();
    let cuts = cut::choose(&log, &record, start, ground.many(60, 250), &mut chance);
    let mut platter = cut::Platter::new(clean, &log);
    let mut verdicts = Verdicts::new();
    for failed in &record.failed {
        check::of(&mut verdicts, failed.author)
            .whole
            .harmed(failed.harm, || failed.shown.clone());
    }
    let mut kept = 0;
    let on = place.path().join("cut");
    for (number, cut) in cuts.iter().enumerate() {
        let shown = format!(
            "{}, seed {}, cut {number} at {} of {}, flushed to {}",
            filesystem.shown(),
            ground.seed,
            cut.position,
            log.len(),
            cut.flushed
        );
        let image = platter.image(cut)?;
        let mounted = filesystem
            .mount(&image, &on)
            .with_context(|| shown.clone())?;
        let scene = Scene {
            ground,
            filesystem,
            record: &record,
            position: cut.position,
            root: mounted.path(),
            shown: &shown,
        };
        let broken = scene.check(&mut verdicts).with_context(|| shown.clone())?;
        mounted.unmount()?;
        if broken && kept < KEPT {
            kept += 1;
            keep(ground, filesystem, number, &platter.image(cut)?)?;
        }
    }
    let count = |kind: fn(&Entry) -> bool| log.iter().filter(|entry| kind(entry)).count();
    println!(
        "torture: power: {}: {} writes, {} discards and {} flushes in {} s, {} cuts in {} s, {} temporary names seen",
        filesystem.shown(),
        count(|entry| matches!(entry, Entry::Write { .. })),
        count(|entry| matches!(entry, Entry::Zero { .. })),
        count(|entry| matches!(entry, Entry::Flush)),
        recorded.as_secs(),
        cuts.len(),
        began.elapsed().saturating_sub(recorded).as_secs(),
        verdicts
            .values()
            .map(|(_, verdict)| verdict.harms.names)
            .sum::<usize>()
    );
    Ok(verdicts)
}

/// Returns the log, the position at which the work begins, and what was written.
fn write_and_log(
    ground: &Ground,
    filesystem: Filesystem,
    place: &Path,
    clean: Sparse,
    seed: u64,
) -> Result<(Vec<Entry>, usize, Record)> {
    let below = place.join("disk");
    fs::create_dir(&below)?;
    let disk = Disk::mount(clean, &below)?;
    let log = disk.log();
    let root = place.join("fs");
    let mounted = filesystem.mount(disk.file(), &root)?;
    let mut groups = Vec::new();
    for (name, more) in [("a", 0), ("b", 1)] {
        groups.push(Writers::prepare(
            ground,
            filesystem,
            &root,
            log.clone(),
            name,
            seed.wrapping_add(more),
        )?);
    }
    let begun = log.position();
    syncfs(&File::open(&root)?).context("syncfs")?;
    let start = log.position();
    let steps = ground.many(400, 900);
    thread::scope(|scope| {
        let workers: Vec<_> = groups
            .iter_mut()
            .map(|group| scope.spawn(move || group.work(steps)))
            .collect();
        workers.into_iter().try_for_each(|worker| {
            worker
                .join()
                .map_err(|_| anyhow!("a writer has panicked"))?
        })
    })?;
    let entries = log.take();
    let mut record = Record {
        synced: vec![Synced { begun, done: start }],
        ..Record::default()
    };
    for group in groups {
        record.add(group.into_record());
    }
    mounted.unmount()?;
    Ok((entries, start, record))
}

/// Keeps an image beside the program that is tested.
fn keep(ground: &Ground, filesystem: Filesystem, number: usize, image: &File) -> Result<()> {
    let above = ground.binary.parent().context("the program is nowhere")?;
    let path = above.join(format!(
        "torture-{}-seed{}-cut{number}.img",
        filesystem.word(),
        ground.seed
    ));
    let to = File::create(&path).with_context(|| format!("cannot make {}", path.display()))?;
    Sparse::read_from(image)?.write_to(&to)?;
    println!(
        "torture: what the power cut has left is kept in {}",
        path.display()
    );
    Ok(())
}
