//! The seconds after a write has returned: which files a power cut destroys or loses then.
//!
//! Invariant: each program has filesystems of its own, on which nothing else writes. So no other
//! program's fsync puts its files on the disk, and the kernel alone decides when they get there: by
//! the commit interval of the journal and by the age of dirty pages. The test waits for that in
//! real time, for many files at once.
//!
//! What these tests cannot see: a busy filesystem, on which the fsync of another program ends the
//! window earlier.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use nix::unistd::syncfs;
use rand::Rng;
use rand::rngs::StdRng;

use super::cut::{Cut, Platter};
use super::disk::Disk;
use super::filesystem::Filesystem;
use super::run::run;
use super::workload::content;
use crate::ground::Ground;
use crate::programs::Program;
use crate::report::{Harm, Promise, Report, Tally};
use crate::served::{Entry, Log, Sparse};

pub(crate) const FILESYSTEMS: [Filesystem; 3] =
    [Filesystem::Ext4, Filesystem::Xfs, Filesystem::Btrfs];
pub(crate) const PROGRAMS: [Program; 4] = [
    Program::Redirect,
    Program::Sponge,
    Program::CatAndMove,
    Program::Atomwrite,
];

/// How long after the program's exit the power goes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Age {
    after: Duration,
    pub(crate) shown: &'static str,
}

pub(crate) const AGES: [Age; 4] = [
    Age {
        after: Duration::from_millis(100),
        shown: "0.1 s",
    },
    Age {
        after: Duration::from_secs(1),
        shown: "1 s",
    },
    Age {
        after: Duration::from_secs(5),
        shown: "5 s",
    },
    Age {
        after: Duration::from_secs(30),
        shown: "30 s",
    },
];

/// Returns the name of the report's row.
pub(crate) fn row(filesystem: Filesystem, age: Age) -> String {
    format!(
        "Power cut, {}, {} after exit status 0",
        filesystem.shown(),
        age.shown
    )
}

pub(super) fn measure(ground: &Ground, report: &mut Report) -> Result<()> {
    let pairs = FILESYSTEMS
        .into_iter()
        .flat_map(|filesystem| PROGRAMS.map(|program| (filesystem, program)));
    // All wait at once; what is then found is a matter of computing, for which there are few
    // processors.
    let recordings = thread::scope(|scope| {
        let recorders: Vec<_> = pairs
            .map(|(filesystem, program)| {
                scope.spawn(move || {
                    Recording::make(ground, filesystem, program).with_context(|| {
                        format!("power window, {}, {}", filesystem.shown(), program.shown())
                    })
                })
            })
            .collect();
        recorders
            .into_iter()
            .map(|recorder| {
                recorder
                    .join()
                    .map_err(|_| anyhow!("a recorder has panicked"))?
            })
            .collect::<Result<Vec<_>>>()
    })?;
    let queue = Mutex::new(recordings.iter().enumerate());
    let results = Mutex::new(Vec::new());
    let work = || -> Result<()> {
        loop {
            let next = queue.lock().unwrap_or_else(PoisonError::into_inner).next();
            let Some((number, recording)) = next else {
                return Ok(());
            };
            let tallies = recording.cut_power(ground)?;
            results
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push((number, tallies));
        }
    };
    thread::scope(|scope| {
        // More than there are processors, because most of a mount is waiting.
        let workers = [(); 4].map(|()| scope.spawn(work));
        workers.into_iter().try_for_each(|worker| {
            worker
                .join()
                .map_err(|_| anyhow!("a worker has panicked"))?
        })
    })?;
    let mut results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
    results.sort_by_key(|(number, _)| *number);
    for (recording, (_, tallies)) in recordings.iter().zip(results) {
        for (age, tally) in AGES.into_iter().zip(tallies) {
            let test = row(recording.filesystem, age);
            report.add(&test, Promise::Made, recording.program, tally);
        }
    }
    Ok(())
}

/// A file that is written once.
#[derive(Debug)]
struct Sample {
    /// From the root of the filesystem.
    directory: PathBuf,
    old: Vec<u8>,
    new: Vec<u8>,
    /// How long after the beginning it is written.
    starts: Duration,
}

/// A moment of power loss: a place in the log, and the file that is checked then.
#[derive(Debug, Clone, Copy)]
struct Moment {
    position: usize,
    sample: usize,
    /// Which of [`AGES`].
    age: usize,
}

/// What one program did to one filesystem, and what of that came to the disk, when.
struct Recording {
    filesystem: Filesystem,
    program: Program,
    clean: Sparse,
    log: Vec<Entry>,
    samples: Vec<Sample>,
    /// In the order of their positions.
    moments: Vec<Moment>,
}

impl Recording {
    fn make(ground: &Ground, filesystem: Filesystem, program: Program) -> Result<Self> {
        let mut chance = chance(ground, filesystem, program);
        let place = ground.directory("window")?;
        // One each: btrfs cannot be mounted twice with the same identity.
        let clean =
            Sparse::read_from(&filesystem.make()?).context("cannot read the new filesystem")?;
        let below = place.path().join("disk");
        fs::create_dir(&below)?;
        let disk = Disk::mount(clean.clone(), &below)?;
        let log = disk.log();
        let root = place.path().join("fs");
        let mounted = filesystem.mount(disk.file(), &root)?;
        let aside = root.join("aside");
        fs::create_dir(&aside)?;
        let samples = Sample::lay_out(ground, &root, &mut chance)?;
        syncfs(&File::open(&root)?).context("syncfs")?;
        let began = Instant::now();
        let mut moments: Vec<Moment> =
            thread::scope(|scope| {
                let writers: Vec<_> = samples
                    .iter()
                    .map(|sample| {
                        let (log, root, aside) = (&log, &root, &aside);
                        scope.spawn(move || {
                            thread::sleep(
                                (began + sample.starts).saturating_duration_since(Instant::now()),
                            );
                            sample.write(ground, program, root, aside, log)
                        })
                    })
                    .collect();
                let mut moments = Vec::new();
                for (sample, writer) in writers.into_iter().enumerate() {
                    let positions = writer
                        .join()
                        .map_err(|_| anyhow!("a writer has panicked"))??;
                    moments.extend(positions.into_iter().enumerate().map(|(age, position)| {
                        Moment {
                            position,
                            sample,
                            age,
                        }
                    }));
                }
                Ok::<_, anyhow::Error>(moments)
            })?;
        let log = log.take();
        mounted.unmount()?;
        moments.sort_by_key(|moment| moment.position);
        Ok(Self {
            filesystem,
            program,
            clean,
            log,
            samples,
            moments,
        })
    }

    /// Returns what became of the files, for each of [`AGES`].
    fn cut_power(&self, ground: &Ground) -> Result<[Tally; AGES.len()]> {
        let mut chance = chance(ground, self.filesystem, self.program);
        let place = ground.directory("cut")?;
        let on = place.path().join("fs");
        let mut platter = Platter::new(self.clean.clone(), &self.log);
        let mut tallies: [Tally; AGES.len()] = Default::default();
        for moment in &self.moments {
            let (sample, tally) = (&self.samples[moment.sample], &mut tallies[moment.age]);
            let cut = Cut::choose(&self.log, moment.position, &mut chance);
            let image = platter.image(&cut)?;
            let mounted = self.filesystem.mount(&image, &on)?;
            tally.tried();
            if let Some(harm) = sample.harm(mounted.path()) {
                tally.harmed(harm, || {
                    format!(
                        "{}, seed {}, {}: power cut {} after the exit",
                        self.filesystem.shown(),
                        ground.seed,
                        sample.directory.display(),
                        AGES[moment.age].shown
                    )
                });
            }
            mounted.unmount()?;
        }
        Ok(tallies)
    }
}

fn chance(ground: &Ground, filesystem: Filesystem, program: Program) -> StdRng {
    ground.chance(&format!("power window {} {program:?}", filesystem.word()))
}

impl Sample {
    /// Writes the old files. Each is in a directory of its own, as most files of most programs are.
    fn lay_out(ground: &Ground, root: &Path, chance: &mut StdRng) -> Result<Vec<Self>> {
        // Long enough for every phase of a timer of 30 seconds.
        let seconds = f64::from(u32::try_from(ground.many(12, 30))?);
        (0..ground.many(8, 60))
            .map(|number| {
                let directory = PathBuf::from(number.to_string());
                let old = content(chance);
                fs::create_dir(root.join(&directory))?;
                fs::write(root.join(&directory).join("o"), &old)?;
                Ok(Self {
                    directory,
                    old,
                    new: content(chance),
                    starts: Duration::from_secs_f64(chance.random_range(0.0..seconds)),
                })
            })
            .collect()
    }

    /// Returns how long the log was at each of [`AGES`].
    fn write(
        &self,
        ground: &Ground,
        program: Program,
        root: &Path,
        aside: &Path,
        log: &Log,
    ) -> Result<[usize; AGES.len()]> {
        let directory = root.join(&self.directory);
        let ended = run(&program.words(ground), &directory, aside, &self.new)?;
        let returned = Instant::now();
        ensure!(ended.is_success(), "{}", ended.summary());
        Ok(AGES.map(|age| {
            thread::sleep((returned + age.after).saturating_duration_since(Instant::now()));
            log.position()
        }))
    }

    /// Returns what is wrong with the file, which must have the new content.
    fn harm(&self, root: &Path) -> Option<Harm> {
        match fs::read(root.join(&self.directory).join("o")) {
            Ok(content) if content == self.new => None,
            Ok(content) if content == self.old => Some(Harm::Lost),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Some(Harm::Missing),
            // Another content, or one that cannot be read.
            Ok(_) | Err(_) => Some(Harm::Torn),
        }
    }
}
