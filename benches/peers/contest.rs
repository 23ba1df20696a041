//! A contest: several programs do the same work in turn, many times. Each round gives a ratio for
//! every two of them.

use std::cell::Cell;
use std::env;
use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::ground::Place;
use crate::launch::{Launcher, Sample};
use crate::lines::{self, Program};
use crate::statistics::Spread;
use crate::table::duration;
use crate::work::{Input, KIB, LARGE, MIB, Old, PACED, Sync, Work};

/// How much is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Effort {
    /// Everything, in about a quarter of an hour: for the page.
    Full,
    /// Less, in two minutes: to try the benchmark itself.
    Quick,
    /// Nothing: the page is drawn again from the record of the last full run.
    Draw,
}

impl Effort {
    /// Reads $BENCH.
    pub(crate) fn from_environment() -> Result<Self> {
        match env::var("BENCH").as_deref() {
            Err(_) | Ok("" | "full") => Ok(Self::Full),
            Ok("quick") => Ok(Self::Quick),
            Ok("draw") => Ok(Self::Draw),
            Ok(other) => bail!("BENCH is '{other}'; it can be full, quick or draw"),
        }
    }

    /// Returns the time for a contest, and the smallest and the largest number of rounds.
    fn rounds(self, work: Work) -> (Duration, usize, usize) {
        let (seconds, least, most) = match (self, work.size * count(work)) {
            // The files stay until the end of the contest.
            (_, LARGE..) if count(work) > 1 => (20, 2, 3),
            (Self::Quick, _) => (2, 3, 100),
            _ if count(work) > 1 => (60, 5, 21),
            // A clone costs the same at any size.
            _ if work.place != Place::Disk => (10, 20, 400),
            (_, ..KIB) => (15, 20, 400),
            (_, ..=MIB) => (10, 5, 200),
            (_, PACED) => (40, 7, 25),
            (_, ..LARGE) => (20, 5, 40),
            (_, LARGE) => (55, 7, 25),
            _ => (40, 5, 15),
        };
        (Duration::from_secs(seconds), least, most)
    }
}

fn count(work: Work) -> u64 {
    match work.input {
        Input::Files(count) => count as u64,
        _ => 1,
    }
}

/// The result of a contest.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) work: Work,
    pub(crate) rounds: usize,
    pub(crate) programs: Vec<Figures>,
    /// The time of the first program divided by the time of the second, round by round.
    pub(crate) ratios: Vec<(Program, Program, Spread)>,
}

/// What one program needed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Figures {
    pub(crate) program: Program,
    /// The median, in seconds.
    pub(crate) time: f64,
    /// The largest peak of memory, in KiB.
    pub(crate) peak: u64,
}

/// Lets all programs do the work in turn until the time is over.
pub(crate) fn run(
    work: Work,
    place: &Path,
    launcher: &Launcher,
    effort: Effort,
) -> Result<Outcome> {
    let lines = lines::of(work);
    prepare(work, place, launcher)?;
    let directory = File::open(place)?;
    let runs = Cell::new(0);
    let one = |line: &str| -> Result<Sample> {
        runs.set(runs.get() + 1);
        clear(work, place, runs.get())?;
        // No program waits for what the last one has left for the disk.
        if work.sync == Sync::Full || work.size > MIB {
            rustix::fs::syncfs(&directory)?;
        }
        launcher.run(line, place)
    };
    let mut all: Vec<(Program, Vec<Sample>)> = Vec::new();
    for (program, line) in &lines {
        // A warm-up, which is not counted.
        one(line)?;
        all.push((*program, Vec::new()));
    }
    let (time, least, most) = effort.rounds(work);
    let started = Instant::now();
    for round in 0..most {
        if round >= least && started.elapsed() >= time {
            break;
        }
        for turn in turns(round, lines.len()) {
            let sample = one(&lines[turn].1)?;
            all[turn].1.push(sample);
        }
    }
    fs::remove_dir_all(place.join("d"))?;
    clear_names(place, &["src", "o", "t"])?;
    rustix::fs::syncfs(&directory)?;
    Ok(Outcome::of(work, &all))
}

/// Returns the order of a round: each begins in its turn, and every second round goes backwards.
fn turns(round: usize, many: usize) -> Vec<usize> {
    let mut turns: Vec<usize> = (0..many).map(|n| (n + round / 2) % many).collect();
    if round % 2 == 1 {
        turns.reverse();
    }
    turns
}

fn prepare(work: Work, place: &Path, launcher: &Launcher) -> Result<()> {
    fs::create_dir_all(place.join("d"))?;
    match work.input {
        Input::File => {
            launcher.run(&format!("produce {} > src", work.size), place)?;
        }
        Input::Files(count) => {
            fs::create_dir_all(place.join("s"))?;
            launcher.run(&format!("produce {} > s/1", work.size), place)?;
            let mut list = b"s/1\0".to_vec();
            for n in 2..=count {
                fs::copy(place.join("s/1"), place.join(format!("s/{n}")))?;
                list.extend(format!("s/{n}\0").bytes());
            }
            File::create(place.join("list"))?.write_all(&list)?;
        }
        Input::Held | Input::Produced | Input::ProducedInPages | Input::Paced => {}
    }
    Ok(())
}

fn clear(work: Work, place: &Path, run: usize) -> Result<()> {
    if matches!(work.input, Input::Files(_)) {
        // Not removed: see `Fresh`.
        rustix::fs::rename(place.join("d"), place.join(format!("d{run}")))?;
        fs::create_dir(place.join("d"))?;
    }
    match work.old {
        Old::Removed => clear_names(place, &["o", "t"]),
        Old::Replaced => Ok(()),
    }
}

fn clear_names(place: &Path, names: &[&str]) -> Result<()> {
    for name in names {
        let path = place.join(name);
        if path.exists() {
            fs::remove_file(&path)?;
        }
    }
    Ok(())
}

impl Outcome {
    fn of(work: Work, all: &[(Program, Vec<Sample>)]) -> Self {
        let time = |sample: &Sample| match work.input {
            Input::Paced => sample.wait,
            _ => sample.whole,
        };
        let mut ratios = Vec::new();
        for (ours, our_samples) in all.iter().filter(|(program, _)| program.is_ours()) {
            for (theirs, their_samples) in all {
                let pairs = our_samples.iter().zip(their_samples);
                let ratio = Spread::of(pairs.map(|(ours, theirs)| time(ours) / time(theirs)));
                ratios.push((*ours, *theirs, ratio));
            }
        }
        Self {
            work,
            rounds: all.first().map_or(0, |(_, samples)| samples.len()),
            programs: all
                .iter()
                .map(|(program, samples)| Figures {
                    program: *program,
                    time: Spread::of(samples.iter().map(time)).median,
                    peak: samples.iter().map(|sample| sample.peak).max().unwrap_or(0),
                })
                .collect(),
            ratios,
        }
    }

    fn figures(&self, program: Program) -> Option<&Figures> {
        self.programs.iter().find(|one| one.program == program)
    }

    /// Returns the median in seconds, or `None` if the program did not take part.
    pub(crate) fn time(&self, program: Program) -> Option<f64> {
        Some(self.figures(program)?.time)
    }

    /// Returns the time of `ours`, which is one of atomwrite's, divided by the time of `theirs`.
    pub(crate) fn ratio(&self, ours: Program, theirs: Program) -> Option<Spread> {
        let mut ratios = self.ratios.iter();
        let (.., ratio) = ratios.find(|(one, other, _)| (*one, *other) == (ours, theirs))?;
        Some(*ratio)
    }

    /// Returns the largest peak of memory, in KiB.
    pub(crate) fn peak(&self, program: Program) -> Option<u64> {
        Some(self.figures(program)?.peak)
    }

    /// Returns a line of progress.
    pub(crate) fn summary(&self) -> String {
        let first = self.programs[0].program;
        let each = |program: Program| {
            let ratio = self.ratio(first, program)?.median;
            let time = duration(self.time(program)?);
            Some(format!("{} {time} ({ratio:.2})", program.plain()))
        };
        let all: Vec<String> = self
            .programs
            .iter()
            .map(|one| one.program)
            .filter_map(each)
            .collect();
        format!("{}, {} rounds: {}", self.work, self.rounds, all.join(", "))
    }
}

/// System calls for 100 bytes, no fsync.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Calls {
    pub(crate) program: Program,
    pub(crate) old: Old,
    pub(crate) count: usize,
}

/// All that was measured.
#[derive(Debug, Default)]
pub(crate) struct Results {
    pub(crate) outcomes: Vec<Outcome>,
    pub(crate) calls: Vec<Calls>,
}

impl Results {
    pub(crate) fn of(&self, work: Work) -> Option<&Outcome> {
        self.outcomes.iter().find(|outcome| outcome.work == work)
    }

    /// Returns the largest peak of atomwrite in any contest, in KiB.
    pub(crate) fn peak(&self) -> Option<u64> {
        let ours = [Program::Atomwrite, Program::AtomwriteCommand];
        let each = |outcome: &Outcome| {
            ours.iter()
                .filter_map(|program| outcome.peak(*program))
                .max()
        };
        self.outcomes.iter().filter_map(each).max()
    }
}

/// Counts the system calls of the programs that write a small file.
pub(crate) fn count_calls(launcher: &Launcher, place: &Path) -> Result<Vec<Calls>> {
    let lines: [(Program, &[&str]); 3] = [
        (Program::Atomwrite, &["atomwrite", "--sync=none", "o"]),
        (Program::Sponge, &["sponge", "o"]),
        (Program::Floor, &["floor", "none", "o"]),
    ];
    let mut calls = Vec::new();
    for (program, words) in lines {
        for old in [Old::Removed, Old::Replaced] {
            let count = launcher
                .count_calls(words, place)
                .context("cannot count system calls")?;
            calls.push(Calls {
                program,
                old,
                count,
            });
        }
        clear_names(place, &["o"])?;
    }
    Ok(calls)
}
