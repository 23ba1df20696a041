//! Growth: how time and memory grow with the size, the number of files, the number of names in
//! DEST's directory, and the number of writers.
//!
//! None may grow faster than what it grows with. From each amount to the next, the time or memory
//! for each byte, file, name or writer may rise by a quarter at most: that much is noise. Where it
//! also rises for a program that does nothing but write, the disk or the filesystem is the reason,
//! and the rise is divided by that program's.

use crate::contest::{Outcome, Results};
use crate::lines::Program;
use crate::work::{COUNTS, Input, NAMES, SIZES, Sync, WRITERS, Work, grouped, human};

/// How many times the cost of one may rise from an amount to the next.
pub(crate) const STEEPEST: f64 = 1.25;

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cost {
    Time,
    Memory,
}

/// The works of one growth.
#[derive(Debug)]
pub(crate) struct Growth {
    /// What the cost grows with.
    pub(crate) with: &'static str,
    pub(crate) costs: &'static [Cost],
    /// The amount, its label, and the work.
    pub(crate) works: Vec<(f64, String, Work)>,
    pub(crate) programs: &'static [Program],
    /// The program that shows what the disk and the filesystem add.
    beside: Option<Program>,
}

/// The steepest step of one program.
#[derive(Debug)]
pub(crate) struct Step<'a> {
    /// How many times the cost of one has risen.
    pub(crate) rise: f64,
    pub(crate) from: &'a str,
    pub(crate) to: &'a str,
}

#[expect(clippy::cast_precision_loss, reason = "an amount is below 2^53")]
pub(crate) fn all() -> [Growth; 4] {
    let counted = |counts: &[usize], work: fn(usize) -> Work| {
        let each = |count: &usize| (*count as f64, grouped(*count), work(*count));
        counts.iter().map(each).collect()
    };
    let sized = |size| Work::new(Input::Produced, size, Sync::Full);
    [
        Growth {
            with: "size, from a pipe, full sync",
            costs: &[Cost::Time, Cost::Memory],
            works: SIZES
                .map(|size| (size as f64, human(size), sized(size)))
                .to_vec(),
            programs: &[Program::Atomwrite, Program::Straight, Program::Sponge],
            beside: Some(Program::Straight),
        },
        Growth {
            with: "number of files of 4 KiB, full sync",
            costs: &[Cost::Time, Cost::Memory],
            works: counted(&COUNTS, Work::files),
            programs: &[
                Program::AtomwriteTogether,
                Program::AtomwriteLoop,
                Program::CpTogether,
            ],
            beside: Some(Program::CpTogether),
        },
        Growth {
            with: "names in DEST's directory, 100 B",
            costs: &[Cost::Time],
            works: counted(&NAMES, Work::among),
            programs: &[Program::Atomwrite, Program::AtomwriteBackup],
            beside: None,
        },
        Growth {
            with: "writers at once on 2 cores, 100 B",
            costs: &[Cost::Time],
            works: counted(&WRITERS, Work::by),
            programs: &[Program::Atomwrite, Program::AtomwriteOne, Program::Sponge],
            beside: None,
        },
    ]
}

impl Cost {
    #[expect(
        clippy::cast_precision_loss,
        reason = "2^53 KiB are no machine's memory"
    )]
    fn of(self, outcome: &Outcome, program: Program) -> Option<f64> {
        match self {
            Self::Time => outcome.time(program),
            Self::Memory => {
                let peak = outcome.peak(program)?;
                (peak > 0).then_some(peak as f64)
            }
        }
    }
}

impl Growth {
    /// Returns the amounts that were measured, with their labels and costs.
    pub(crate) fn costs(
        &self,
        cost: Cost,
        program: Program,
        results: &Results,
    ) -> Vec<(f64, &str, f64)> {
        let works = self.works.iter();
        let costs = works.filter_map(|(amount, label, work)| {
            Some((
                *amount,
                label.as_str(),
                cost.of(results.of(*work)?, program)?,
            ))
        });
        costs.collect()
    }

    /// Returns the steepest step. `None` unless two amounts were measured.
    pub(crate) fn steepest(
        &self,
        cost: Cost,
        program: Program,
        results: &Results,
    ) -> Option<Step<'_>> {
        let costs = self.costs(cost, program, results);
        let beside = self.beside.map(|beside| self.costs(cost, beside, results));
        let steps = costs.windows(2).enumerate().map(|(n, pair)| {
            let theirs = beside.as_ref().and_then(|costs| costs.get(n..n + 2));
            Step {
                rise: rise(pair) / theirs.map_or(1.0, |theirs| rise(theirs).max(1.0)),
                from: pair[0].1,
                to: pair[1].1,
            }
        });
        steps.max_by(|one, other| one.rise.total_cmp(&other.rise))
    }
}

/// Returns how many times the cost of one rises from the first amount to the second.
fn rise(pair: &[(f64, &str, f64)]) -> f64 {
    let [(less, _, before), (more, _, after)] = pair else {
        return 1.0;
    };
    (after / more) / (before / less)
}
