//! A contest: several programs do the same work in turn, many times over, and each round gives a pair for every two.

use std::cell::Cell;
use std::env;
use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::ground::Place;
use crate::launch::{Launcher, Sample};
use crate::lines::{self, Who};
use crate::statistics::Spread;
use crate::table::duration;
use crate::work::{Input, KIB, LARGE, MIB, Old, PACED, Sync, Work};

/// How much time is spent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Effort {
    /// A quarter of an hour or so: for figures that may be shown.
    Full,
    /// Two minutes: to try the benchmark itself.
    Quick,
}

impl Effort {
    /// $BENCH.
    pub(crate) fn from_environment() -> Result<Self> {
        match env::var("BENCH").as_deref() {
            Err(_) | Ok("" | "full") => Ok(Self::Full),
            Ok("quick") => Ok(Self::Quick),
            Ok(other) => bail!("BENCH is '{other}'; it can be quick or full"),
        }
    }

    /// The time for a contest, and how many rounds there are at least and at most.
    fn rounds(self, work: Work) -> (Duration, usize, usize) {
        let (seconds, least, most) = match (self, work.size * count(work)) {
            // What they write stays until the end.
            (_, LARGE..) if count(work) > 1 => (20, 2, 3),
            (Self::Quick, _) => (2, 3, 100),
            _ if count(work) > 1 => (60, 5, 21),
            // A clone costs the same at any size.
            _ if work.place != Place::Disk => (10, 20, 400),
            (Self::Full, ..KIB) => (15, 20, 400),
            (Self::Full, ..=MIB) => (10, 5, 200),
            (Self::Full, PACED) => (40, 7, 25),
            (Self::Full, ..LARGE) => (20, 5, 40),
            (Self::Full, LARGE) => (55, 7, 25),
            (Self::Full, _) => (40, 5, 15),
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

/// What a contest gave: for each program its samples, one for each round.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) work: Work,
    all: Vec<(Who, Vec<Sample>)>,
}

/// Lets everybody do the work until the time is over.
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
        // What the last one left for the disk is not for the next one to wait for.
        if work.sync == Sync::Full || work.size > MIB {
            rustix::fs::syncfs(&directory)?;
        }
        launcher.run(line, place)
    };
    let mut all: Vec<(Who, Vec<Sample>)> = Vec::new();
    for (who, line) in &lines {
        // For warmth; it counts for nothing.
        one(line)?;
        all.push((*who, Vec::new()));
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
    Ok(Outcome { work, all })
}

/// The order of a round: each begins in its turn, and every second round goes backwards.
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
    fn samples(&self, who: Who) -> Option<&[Sample]> {
        let (_, samples) = self.all.iter().find(|(one, _)| *one == who)?;
        Some(samples)
    }

    fn time(&self, sample: &Sample) -> f64 {
        match self.work.input {
            Input::Paced => sample.wait,
            _ => sample.whole,
        }
    }

    pub(crate) fn rounds(&self) -> usize {
        self.all.first().map_or(0, |(_, samples)| samples.len())
    }

    pub(crate) fn everybody(&self) -> impl Iterator<Item = Who> {
        self.all.iter().map(|(who, _)| *who)
    }

    /// Seconds; None for who did not take part.
    pub(crate) fn times(&self, who: Who) -> Option<Spread> {
        let samples = self.samples(who)?;
        Some(Spread::of(samples.iter().map(|s| self.time(s))))
    }

    /// Ours divided by theirs, round by round.
    pub(crate) fn ratio(&self, ours: Who, theirs: Who) -> Option<Spread> {
        let pairs = self.samples(ours)?.iter().zip(self.samples(theirs)?);
        Some(Spread::of(
            pairs.map(|(ours, theirs)| self.time(ours) / self.time(theirs)),
        ))
    }

    /// The largest peak of memory, in KiB.
    pub(crate) fn peak(&self, who: Who) -> Option<u64> {
        self.samples(who)?.iter().map(|s| s.peak).max()
    }

    /// A line for whoever waits.
    pub(crate) fn summary(&self) -> String {
        let first = self.all[0].0;
        let each = |who: Who| {
            let ratio = self.ratio(first, who)?.median;
            let time = duration(self.times(who)?.median);
            Some(format!("{} {time} ({ratio:.2})", who.plain()))
        };
        let all: Vec<String> = self.everybody().filter_map(each).collect();
        format!(
            "{}, {} rounds: {}",
            self.work,
            self.rounds(),
            all.join(", ")
        )
    }
}

/// System calls for 100 bytes, no fsync.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Calls {
    pub(crate) who: Who,
    pub(crate) old: Old,
    pub(crate) count: usize,
}

/// All that was measured.
#[derive(Debug, Default)]
pub(crate) struct Results {
    outcomes: Vec<Outcome>,
    pub(crate) calls: Vec<Calls>,
}

impl Results {
    pub(crate) fn add(&mut self, outcome: Outcome) {
        self.outcomes.push(outcome);
    }

    pub(crate) fn of(&self, work: Work) -> Option<&Outcome> {
        self.outcomes.iter().find(|outcome| outcome.work == work)
    }

    /// The largest peak of atomwrite in any contest, in KiB.
    pub(crate) fn peak(&self) -> Option<u64> {
        let ours = [Who::Atomwrite, Who::AtomwriteCommand];
        let each = |outcome: &Outcome| ours.iter().filter_map(|who| outcome.peak(*who)).max();
        self.outcomes.iter().filter_map(each).max()
    }
}

/// Counts the system calls of those who write a small file.
pub(crate) fn count_calls(launcher: &Launcher, place: &Path) -> Result<Vec<Calls>> {
    let lines: [(Who, &[&str]); 3] = [
        (Who::Atomwrite, &["atomwrite", "--sync=none", "o"]),
        (Who::Sponge, &["sponge", "o"]),
        (Who::Floor, &["floor", "none", "o"]),
    ];
    let mut calls = Vec::new();
    for (who, words) in lines {
        for old in [Old::Removed, Old::Replaced] {
            let count = launcher
                .count_calls(words, place)
                .context("cannot count system calls")?;
            calls.push(Calls { who, old, count });
        }
        clear_names(place, &["o"])?;
    }
    Ok(calls)
}
