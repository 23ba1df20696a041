//! Boots the machines, two at a time, and takes down what they say.

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError, mpsc};
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
    /// Of each filesystem.
    pub(crate) cuts: u64,
    pub(crate) seed: u64,
    /// The only promises that are tried, unless it is empty.
    pub(crate) only: String,
}

impl Run {
    /// Runs all parts on all kernels to their end, and hands over each report as soon as it is
    /// there.
    pub(crate) fn all(
        &self,
        parts: &[Part],
        kernels: &[Kernel],
        take: &mut dyn FnMut(Report) -> Result<()>,
    ) -> Result<()> {
        let machines = parts
            .iter()
            .flat_map(|part| kernels.iter().map(move |kernel| (part, kernel)));
        let queue = Mutex::new(machines);
        let (sender, reports) = mpsc::channel();
        let work = |sender: mpsc::Sender<Report>| {
            loop {
                let next = queue.lock().unwrap_or_else(PoisonError::into_inner).next();
                let Some((part, kernel)) = next else {
                    break;
                };
                // Reports are taken until one cannot be published.
                if sender.send(self.part(part, kernel)).is_err() {
                    break;
                }
            }
        };
        thread::scope(|scope| {
            for _ in 0..AT_ONCE {
                let sender = sender.clone();
                scope.spawn(|| work(sender));
            }
            drop(sender);
            reports.into_iter().try_for_each(take)
        })
    }

    fn part(&self, part: &Part, kernel: &Kernel) -> Report {
        let name = format!("{}-{}", part.name, kernel.series());
        println!("machines: {} with Linux {}", part.name, kernel.release);
        let mut report = Report::new(part.name, kernel.series());
        let promises: Vec<&str> = part
            .promises()
            .iter()
            .copied()
            .filter(|promise| self.is_tried(promise))
            .collect();
        // What is not found for a row in the end was not tried.
        for row in part.rows {
            report.begin(row, &promises);
        }
        let ended = match part.work {
            Work::Checks(_) => self.check(&name, kernel, part, &mut report),
            Work::Cuts(filesystem) => {
                let power = power::Power {
                    work: &self.work,
                    name: &name,
                    kernel,
                    filesystem,
                    rows: part.rows,
                };
                let mut random = StdRng::seed_from_u64(self.seed);
                power.cut(self.cuts, &mut random, &mut report)
            }
        };
        if let Err(error) = ended {
            let why = format!("{error:#}");
            let row = part.rows[0];
            report.add(row, part.promises()[0], Verdict::Missing, part.name, &why);
        }
        println!(
            "machines: {} with Linux {} has ended",
            part.name, kernel.release
        );
        report
    }

    fn is_tried(&self, promise: &str) -> bool {
        self.only.is_empty() || self.only.split(',').any(|only| only == promise)
    }

    /// Runs a script of checks.
    fn check(&self, name: &str, kernel: &Kernel, part: &Part, report: &mut Report) -> Result<()> {
        let devices = Devices::prepare(&self.work, name, part.device)?;
        let script: Vec<String> = part.script.iter().map(|&word| word.to_owned()).collect();
        let machine = Machine::boot(
            &self.work,
            &Plan {
                kernel,
                name,
                script: &script,
                words: part.words,
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
                    report.add(row, promise, verdict, check, detail);
                }
                _ => ended |= line.starts_with("END "),
            }
        }
        ensure!(ended, "it has not come to its end{}", machine.last_words());
        Ok(())
    }
}
