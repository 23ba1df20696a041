//! Power cuts: QEMU is killed while the guest writes and reports each exit status 0.
//!
//! Each program writes to a disk of its own, so that no program's flush saves another's file, and
//! to two of them:
//!
//! * with a cache: a qcow2 overlay with cache=writeback. QEMU keeps the table of what was written
//!   since the last flush in its memory, so that those blocks are lost with it, as in a disk's
//!   volatile cache, and older blocks that were written again are not.
//! * without: a raw image with cache=writethrough. The guest sends no flushes, and only its own
//!   memory is lost.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use rand::Rng;
use rand::rngs::StdRng;

use crate::machine::{Machine, Plan, Said};
use crate::report::{Report, Verdict};
use crate::root::{self, Kernel};

/// The programs that write, as power.sh knows them, and as they are shown.
const PROGRAMS: [(&str, &str); 4] = [
    ("atomwrite", "`atomwrite`"),
    ("sponge", "`sponge`"),
    ("mv", "`cat >t && mv t o`"),
    ("redirect", "`cat >o`"),
];
/// XFS takes no less.
const SIZE: u64 = 300 << 20;
/// Each cut begins with a number that no earlier one has reached.
const STEP: u64 = 100_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Cache {
    On,
    Off,
}

/// A disk, and what is known of its DEST.
#[derive(Debug)]
struct Disk {
    name: String,
    program: usize,
    cache: Cache,
    image: PathBuf,
    /// What DEST was before the last cut.
    before: String,
    /// The last number that was reported as written since then.
    reported: Option<u64>,
}

/// How often each program, with each cache, has lost or torn a file that it had reported.
type Harms = BTreeMap<(&'static str, Cache), (u64, u64)>;

impl Disk {
    /// What QEMU gets for it.
    fn device(&self) -> String {
        let image = self.image.display();
        match self.cache {
            Cache::On => format!("file={image}.cache,format=qcow2,if=virtio,cache=writeback"),
            Cache::Off => format!("file={image},format=raw,if=virtio,cache=writethrough"),
        }
    }

    /// Begins with an empty cache.
    fn switch_on(&self) -> Result<()> {
        if self.cache == Cache::Off {
            return Ok(());
        }
        let image = fs::canonicalize(&self.image)?;
        image_tool(&[
            "create",
            "-q",
            "-f",
            "qcow2",
            "-F",
            "raw",
            "-b",
            &image.to_string_lossy(),
            "-o",
            "cluster_size=4k",
            &self.overlay(),
        ])
    }

    /// What the cache has lost is lost; the rest is on the disk.
    fn settle(&self) -> Result<()> {
        if self.cache == Cache::Off {
            return Ok(());
        }
        image_tool(&["commit", "-q", "-d", &self.overlay()])?;
        fs::remove_file(self.overlay()).context("cannot remove an overlay")
    }

    fn overlay(&self) -> String {
        format!("{}.cache", self.image.display())
    }

    /// Whether DEST, as it is after a cut, is what it must be.
    fn is_whole(&self, found: &str, cut: u64) -> bool {
        let number = found.parse().ok();
        match self.reported {
            Some(reported) => number == Some(reported) || number == Some(reported + 1),
            None => found == self.before || number == Some(cut * STEP + 1),
        }
    }
}

pub(crate) const HEADING: &str = "\
| Power cuts: torn, missing or lost after exit status 0 | `atomwrite` | `sponge` | `cat >t && mv t o` | `cat >o` |
|---|---|---|---|---|
";

/// Two rows of the second table.
fn row(filesystem: &str, harms: &Harms) -> String {
    let mut rows = String::new();
    for (cache, shown) in [
        (Cache::On, "disk with a cache"),
        (Cache::Off, "disk without a cache"),
    ] {
        let _ = write!(rows, "| {filesystem}, {shown} |");
        for (_, program) in PROGRAMS {
            let (harmed, tried) = harms.get(&(program, cache)).copied().unwrap_or_default();
            let _ = write!(rows, " {harmed} of {tried} |");
        }
        rows.push('\n');
    }
    rows
}

fn image_tool(words: &[&str]) -> Result<()> {
    root::run(Command::new("qemu-img").args(words).stdout(Stdio::null()))
}

/// Cuts the power of a filesystem so often.
pub(crate) fn run(
    work: &Path,
    kernel: &Kernel,
    filesystem: &str,
    cuts: u64,
    random: &mut StdRng,
    report: &Report,
) -> Result<()> {
    let mut disks = disks(work, filesystem)?;
    start(work, kernel, filesystem, "make", 0, &disks)?.end()?;
    settle(&disks)?;
    let mut harms = Harms::new();
    // The last round only reads.
    for cut in 0..=cuts {
        let machine = start(work, kernel, filesystem, "write", cut + 1, &disks)?;
        let found = read_back(&machine)?;
        for disk in &mut disks {
            let found = found
                .get(&disk.name)
                .with_context(|| format!("nothing was said about {}", disk.name))?;
            if cut > 0 {
                count_harm(disk, found, cut, filesystem, &mut harms, report);
            }
            found.clone_into(&mut disk.before);
            disk.reported = None;
        }
        if cut == cuts {
            drop(machine);
        } else {
            write_until_cut(machine, &mut disks, random)?;
        }
        settle(&disks)?;
    }
    for disk in &disks {
        fs::remove_file(&disk.image)?;
    }
    let lost: u64 = PROGRAMS
        .iter()
        .filter(|(word, _)| *word == "redirect")
        .flat_map(|(_, shown)| [Cache::On, Cache::Off].map(|cache| (*shown, cache)))
        .filter_map(|key| harms.get(&key))
        .map(|(harmed, _)| harmed)
        .sum();
    if lost == 0 {
        let why = "cat >o has lost nothing, so these cuts show nothing";
        report.add(filesystem, "power", Verdict::Broken, "the control", why);
    }
    report.add_cuts(filesystem, row(filesystem, &harms));
    Ok(())
}

fn disks(work: &Path, filesystem: &str) -> Result<Vec<Disk>> {
    let mut disks = Vec::new();
    for cache in [Cache::On, Cache::Off] {
        for program in 0..PROGRAMS.len() {
            let name = format!("vd{}", char::from(b'a' + u8::try_from(disks.len())?));
            let image = work.join(format!("power-{filesystem}-{name}"));
            File::create(&image)?.set_len(SIZE)?;
            disks.push(Disk {
                name,
                program,
                cache,
                image,
                before: "missing".to_owned(),
                reported: None,
            });
        }
    }
    Ok(disks)
}

fn settle(disks: &[Disk]) -> Result<()> {
    disks.iter().try_for_each(Disk::settle)
}

fn start(
    work: &Path,
    kernel: &Kernel,
    filesystem: &str,
    what: &str,
    cut: u64,
    disks: &[Disk],
) -> Result<Machine> {
    let mut script = vec!["power".to_owned(), what.to_owned(), filesystem.to_owned()];
    let mut devices = Vec::new();
    for disk in disks {
        disk.switch_on()?;
        let (program, _) = PROGRAMS[disk.program];
        script.push(format!("{}:{program}:{}", disk.name, cut * STEP));
        devices.extend(["-drive".to_owned(), disk.device()]);
    }
    Machine::boot(
        work,
        &Plan {
            kernel,
            name: &format!("power-{filesystem}"),
            script: &script,
            only: "",
            devices: &devices,
        },
    )
}

/// What each disk has after a cut.
fn read_back(machine: &Machine) -> Result<BTreeMap<String, String>> {
    let mut found = BTreeMap::new();
    loop {
        match machine.next()? {
            Said::Line(line) if line == "WRITING" => return Ok(found),
            Said::Line(line) => {
                if let Some((disk, content)) = line
                    .strip_prefix("HAS\t")
                    .and_then(|rest| rest.split_once('\t'))
                {
                    found.insert(disk.to_owned(), content.to_owned());
                }
            }
            Said::Off => bail!("a disk cannot be read after a cut{}", machine.last_words()),
        }
    }
}

fn count_harm(
    disk: &Disk,
    found: &str,
    cut: u64,
    filesystem: &str,
    harms: &mut Harms,
    report: &Report,
) {
    let whole = disk.is_whole(found, cut);
    let (word, shown) = PROGRAMS[disk.program];
    let (harmed, tried) = harms.entry((shown, disk.cache)).or_default();
    *tried += 1;
    *harmed += u64::from(!whole);
    if word == "atomwrite" {
        let verdict = if whole {
            Verdict::Kept
        } else {
            Verdict::Broken
        };
        let reported = disk
            .reported
            .map_or("nothing".to_owned(), |number| number.to_string());
        let detail = format!(
            "{reported} was reported, and DEST is {found}; it was {}",
            disk.before
        );
        let check = format!("cut {cut}, cache {:?}", disk.cache);
        report.add(filesystem, "power", verdict, &check, &detail);
    }
}

/// Lets the programs write until those with atomwrite have reported some writes, and any program
/// some more.
fn write_until_cut(machine: Machine, disks: &mut [Disk], random: &mut StdRng) -> Result<()> {
    let enough = random.random_range(1..6);
    let mut more = random.random_range(0..40_u32);
    let mut written = BTreeMap::new();
    loop {
        let Said::Line(line) = machine.next()? else {
            bail!("the writers have ended{}", machine.last_words());
        };
        let Some(name) = note(&line, disks) else {
            continue;
        };
        *written.entry(name).or_insert(0_u32) += 1;
        let waiting = disks
            .iter()
            .filter(|disk| PROGRAMS[disk.program].0 == "atomwrite")
            .any(|disk| written.get(&disk.name).is_none_or(|count| *count < enough));
        if waiting {
            continue;
        }
        if more == 0 {
            break;
        }
        more -= 1;
    }
    for line in machine.cut()? {
        note(&line, disks);
    }
    Ok(())
}

/// Takes down what a program has reported; returns its disk.
fn note(line: &str, disks: &mut [Disk]) -> Option<String> {
    let (name, number) = line.strip_prefix("WROTE\t")?.split_once('\t')?;
    // The last line may be cut, too.
    let number = number.parse().ok().filter(|number| number % STEP > 0)?;
    let disk = disks.iter_mut().find(|disk| disk.name == name)?;
    disk.reported = disk.reported.max(Some(number));
    Some(name.to_owned())
}
