//! A contest: several programs do the same work in turn, many times. Each round gives a ratio for
//! every two of them.

use std::cell::Cell;
use std::env;
use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::ground::Place;
use crate::launch::{Launcher, Sample};
use crate::lines::{self, Program};
use crate::statistics::Spread;
use crate::table::duration;
use crate::work::{GIB, Input, LARGE, MIB, MOST, Old, SMALL, Sync, Work};

/// How much is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Effort {
    /// Everything, in about twenty minutes: for the page.
    Full,
    /// Less, in three minutes: to try the benchmark itself.
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
        let (seconds, least, most) = match (self, work.input, work.size) {
            (Self::Quick, ..) => (2, 2, 100),
            // The files stay until the end of the contest.
            (_, Input::Files(MOST..), _) => (50, 3, 4),
            (_, Input::Files(_), _) => (25, 7, 21),
            (_, Input::Names(_) | Input::Writers(_), _) => (8, 20, 200),
            // A clone costs the same at any size.
            _ if work.place != Place::Disk => (10, 20, 400),
            (_, _, SMALL) => (15, 20, 400),
            (_, _, ..=MIB) => (8, 10, 200),
            (_, Input::Paced, _) => (40, 7, 25),
            (_, Input::Foreign, _) => (15, 7, 25),
            (_, _, LARGE) => (55, 7, 25),
            (_, _, ..GIB) => (15, 5, 25),
            _ => (120, 3, 7),
        };
        (Duration::from_secs(seconds), least, most)
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
        let many = matches!(work.input, Input::Files(_));
        if many || work.sync == Sync::Full || work.size > MIB {
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
    for name in DIRECTORIES {
        fs::remove_dir_all(place.join(name))?;
    }
    clear_names(place, &["src", "../xfs/src", "o", "t"])?;
    rustix::fs::syncfs(&directory)?;
    Ok(Outcome::of(work, &all))
}

/// What the lines write into.
const DIRECTORIES: [&str; 3] = ["d", "e", "stage"];

/// Returns the order of a round: each begins in its turn, and every second round goes backwards.
fn turns(round: usize, many: usize) -> Vec<usize> {
    let mut turns: Vec<usize> = (0..many).map(|n| (n + round / 2) % many).collect();
    if round % 2 == 1 {
        turns.reverse();
    }
    turns
}

fn prepare(work: Work, place: &Path, launcher: &Launcher) -> Result<()> {
    for name in DIRECTORIES {
        fs::create_dir_all(place.join(name))?;
    }
    match work.input {
        Input::File => {
            launcher.run(&format!("produce {} > src", work.size), place)?;
        }
        Input::Foreign => {
            launcher.run(&format!("produce {} > ../xfs/src", work.size), place)?;
        }
        Input::Files(count) => {
            fs::create_dir_all(place.join("s"))?;
            make_files(&place.join("s"), count, work.size)?;
        }
        // One of the names is DEST.
        Input::Names(count) => make_files(&place.join("d"), count - 1, 0)?,
        Input::Held
        | Input::Writers(_)
        | Input::Produced
        | Input::ProducedInPages
        | Input::Paced => {}
    }
    Ok(())
}

/// Makes the files 1, 2 and so on. Their content is no hole, and no clone.
fn make_files(directory: &Path, count: usize, size: u64) -> Result<()> {
    let content = vec![b'a'; usize::try_from(size)?];
    for n in 1..=count {
        File::create(directory.join(n.to_string()))?.write_all(&content)?;
    }
    Ok(())
}

fn clear(work: Work, place: &Path, run: usize) -> Result<()> {
    match (work.input, work.old) {
        (Input::Files(count), old) => {
            for name in ["d", "stage"] {
                // Not removed: see `Fresh`.
                rustix::fs::rename(place.join(name), place.join(format!("{name}{run}")))?;
                fs::create_dir(place.join(name))?;
            }
            match old {
                Old::Removed => Ok(()),
                Old::Replaced => make_files(&place.join("d"), count, work.size),
            }
        }
        (Input::Names(_), _) => clear_names(place, &["d/o.~1~"]),
        (_, Old::Removed) => clear_names(place, &["o", "t"]),
        (_, Old::Replaced) => Ok(()),
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

/// All that was measured.
#[derive(Debug, Default)]
pub(crate) struct Results {
    pub(crate) outcomes: Vec<Outcome>,
}

impl Results {
    pub(crate) fn of(&self, work: Work) -> Option<&Outcome> {
        self.outcomes.iter().find(|outcome| outcome.work == work)
    }

    /// Returns the largest peak of atomwrite in any contest of one file, in KiB.
    pub(crate) fn peak(&self) -> Option<u64> {
        let one = self
            .outcomes
            .iter()
            .filter(|outcome| !matches!(outcome.work.input, Input::Files(_)));
        let programs = one.flat_map(|outcome| &outcome.programs);
        let ours = programs.filter(|figures| figures.program.is_ours());
        ours.map(|figures| figures.peak).max()
    }
}
