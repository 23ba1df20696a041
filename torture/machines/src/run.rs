//! Boots the machines, two at a time, and takes down what they say.

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::thread;

use anyhow::{Result, ensure};
use rand::SeedableRng;
use rand::rngs::StdRng;

use crate::devices::Devices;
use crate::machine::{Machine, Plan, Said};
use crate::plan::{Part, Work};
use crate::power;
use crate::report::{Report, Verdict};
use crate::root::Kernel;

/// A machine mostly does one thing after another, and a host has two processors or more.
const AT_ONCE: usize = 2;

/// What all machines share.
#[derive(Debug)]
pub(crate) struct Run {
    /// Where images and logs are.
    pub(crate) work: PathBuf,
    /// The oldest first.
    pub(crate) kernels: Vec<Kernel>,
    /// Of each filesystem.
    pub(crate) cuts: u64,
    pub(crate) seed: u64,
    /// The only promises that are tried, unless it is empty.
    pub(crate) only: String,
    pub(crate) report: Report,
}

impl Run {
    /// Runs all parts to their end.
    pub(crate) fn all(&self, parts: &[Part]) {
        for part in parts {
            self.begin(part);
        }
        let queue = Mutex::new(parts.iter());
        let work = || {
            loop {
                let next = queue.lock().unwrap_or_else(PoisonError::into_inner).next();
                let Some(part) = next else {
                    break;
                };
                self.part(part);
            }
        };
        thread::scope(|scope| {
            for _ in 0..AT_ONCE {
                scope.spawn(work);
            }
        });
    }

    /// Begins the rows of a part: what is not found for them in the end was not tried.
    fn begin(&self, part: &Part) {
        match part.work {
            Work::Checks(rows, promises) => {
                let tried = |promise: &&str| {
                    self.only.is_empty() || self.only.split(',').any(|only| only == *promise)
                };
                let promises: Vec<&str> = promises.iter().copied().filter(tried).collect();
                for row in rows {
                    self.report.begin(row, &promises);
                }
            }
            Work::Cuts(filesystem) => self.report.begin(filesystem, &["power"]),
        }
    }

    fn part(&self, part: &Part) {
        let kernel = part.kernel(&self.kernels);
        println!("machines: {} with Linux {}", part.name, kernel.series());
        let (row, promise, ended) = match part.work {
            Work::Checks(rows, promises) => (rows[0], promises[0], self.check(kernel, part)),
            Work::Cuts(filesystem) => (filesystem, "power", self.cut(kernel, filesystem)),
        };
        if let Err(error) = ended {
            let why = format!("{error:#}");
            self.report
                .add(row, promise, Verdict::Missing, part.name, &why);
        }
        println!("machines: {} has ended", part.name);
    }

    fn cut(&self, kernel: &Kernel, filesystem: &str) -> Result<()> {
        let mut random = StdRng::seed_from_u64(self.seed);
        power::run(
            &self.work,
            kernel,
            filesystem,
            self.cuts,
            &mut random,
            &self.report,
        )
    }

    /// Runs a script of checks.
    fn check(&self, kernel: &Kernel, part: &Part) -> Result<()> {
        let devices = Devices::prepare(&self.work, part)?;
        let script: Vec<String> = part.script.iter().map(|&word| word.to_owned()).collect();
        let machine = Machine::boot(
            &self.work,
            &Plan {
                kernel,
                name: part.name,
                script: &script,
                only: &self.only,
                devices: devices.words(),
            },
        )?;
        let mut ended = false;
        while let Said::Line(line) = machine.next()? {
            let words: Vec<&str> = line.splitn(6, '\t').collect();
            match words[..] {
                ["CELL", row, promise, verdict, check, detail] => {
                    let verdict = match verdict {
                        "kept" => Verdict::Kept,
                        "cannot" => Verdict::SaidNo,
                        _ => Verdict::Broken,
                    };
                    self.report.add(row, promise, verdict, check, detail);
                }
                _ => ended |= line.starts_with("END "),
            }
        }
        ensure!(ended, "it has not come to its end{}", machine.last_words());
        Ok(())
    }
}
