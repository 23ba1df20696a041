//! What one machine has found: for each row and promise, whether it is kept.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use anyhow::{Context, Result};

use crate::known::{self, Tolerated};
use crate::page::Cell;

/// What the columns of the table are: the word of the guest's scripts, and the heading.
pub(crate) const PROMISES: [(&str, &str); 17] = [
    ("replaces", "every input"),
    ("fails", "unchanged after an error"),
    ("killed", "SIGKILL"),
    ("readers", "readers"),
    ("writers", "writers"),
    ("lock", "`--lock`, `-a`"),
    ("no_clobber", "`-n`"),
    ("backup", "`-b`"),
    ("compare", "`-C`"),
    ("many", "`-t`"),
    ("looks", "mode, owner, ACL, label"),
    ("validated", "`--validate`"),
    ("inplace", "`--inplace`"),
    ("links", "links"),
    ("opened", "DEST is open"),
    ("full", "no space"),
    ("left", "nothing is left"),
];

/// How one check ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Verdict {
    Kept,
    /// The program said that it cannot, and changed nothing.
    SaidNo,
    /// It is broken, for a reason that is known and cannot be mended here.
    Limit,
    Broken,
    /// It should have been tried.
    Missing,
}

impl Verdict {
    fn shown(self) -> &'static str {
        match self {
            Self::Kept => "kept",
            Self::SaidNo => "says no",
            Self::Limit => "limit",
            Self::Broken => "**broken**",
            Self::Missing => "**did not run**",
        }
    }

    fn is_bad(self) -> bool {
        self >= Self::Broken
    }
}

#[derive(Debug)]
struct Check {
    verdict: Verdict,
    /// Below the table: why it is no better, or which check is broken.
    note: Option<String>,
}

/// How often the power was cut, and how often a file was harmed.
#[derive(Debug, Default)]
struct Cuts {
    harmed: u64,
    tried: u64,
}

/// What is found by one part, on one kernel.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) part: &'static str,
    /// The kernel's series.
    pub(crate) kernel: String,
    /// By row and promise.
    checks: BTreeMap<(String, String), Vec<Check>>,
    /// By row and program.
    cuts: BTreeMap<(String, &'static str), Cuts>,
}

impl Report {
    pub(crate) fn new(part: &'static str, kernel: &str) -> Self {
        Self {
            part,
            kernel: kernel.to_owned(),
            checks: BTreeMap::new(),
            cuts: BTreeMap::new(),
        }
    }

    /// Begins a row, in which the promises must be found in the end.
    pub(crate) fn begin(&mut self, row: &str, promises: &[&str]) {
        for promise in promises {
            let cell = (row.to_owned(), (*promise).to_owned());
            self.checks.entry(cell).or_default();
        }
    }

    /// Adds how a check ended.
    pub(crate) fn add(
        &mut self,
        row: &str,
        promise: &str,
        verdict: Verdict,
        check: &str,
        detail: &str,
    ) {
        let (verdict, note) = match (verdict, known::find(row, check)) {
            (Verdict::SaidNo, Some((_, reason))) => (verdict, Some(reason.to_owned())),
            (Verdict::Broken, Some((Tolerated::Loss, reason))) => {
                (Verdict::Limit, Some(reason.to_owned()))
            }
            // A new refusal counts as broken until it has a reason.
            (Verdict::SaidNo | Verdict::Broken, _) => {
                (Verdict::Broken, Some(format!("Broken: {check}.")))
            }
            (verdict, _) => (verdict, None),
        };
        if verdict != Verdict::Kept {
            println!(
                "machines: {row}, Linux {}: {check}: {}: {detail}",
                self.kernel,
                verdict.shown()
            );
        }
        let cell = (row.to_owned(), promise.to_owned());
        self.checks
            .entry(cell)
            .or_default()
            .push(Check { verdict, note });
    }

    /// Counts a power cut.
    pub(crate) fn add_cut(&mut self, row: &str, program: &'static str, is_whole: bool) {
        let cuts = self.cuts.entry((row.to_owned(), program)).or_default();
        cuts.tried += 1;
        cuts.harmed += u64::from(!is_whole);
    }

    /// How often a program's file was harmed in a row.
    pub(crate) fn harmed(&self, row: &str, program: &'static str) -> u64 {
        self.cuts
            .get(&(row.to_owned(), program))
            .map_or(0, |cuts| cuts.harmed)
    }

    /// Whether all is kept that can be.
    pub(crate) fn is_good(&self) -> bool {
        !self.checks.values().any(|checks| worst(checks).is_bad())
    }

    pub(crate) fn count(&self) -> usize {
        self.checks.values().map(Vec::len).sum()
    }

    /// The cells of the tables, with today's date.
    pub(crate) fn cells(&self) -> Result<Vec<Cell>> {
        let date = Command::new("date")
            .arg("+%F")
            .output()
            .context("cannot run date")?;
        let date = String::from_utf8(date.stdout)?.trim().to_owned();
        let cell = |row: &str, column: &str, result: String| Cell {
            row: row.to_owned(),
            kernel: self.kernel.clone(),
            date: date.clone(),
            column: column.to_owned(),
            result,
            notes: Vec::new(),
        };
        let promises = self.checks.iter().map(|((row, promise), checks)| {
            let notes: BTreeSet<_> = checks
                .iter()
                .filter_map(|check| check.note.clone())
                .collect();
            Cell {
                notes: notes.into_iter().collect(),
                ..cell(row, promise, worst(checks).shown().to_owned())
            }
        });
        let cuts = self.cuts.iter().map(|((row, program), cuts)| {
            cell(row, program, format!("{} of {}", cuts.harmed, cuts.tried))
        });
        Ok(promises.chain(cuts).collect())
    }
}

fn worst(checks: &[Check]) -> Verdict {
    let worst = checks.iter().map(|check| check.verdict).max();
    worst.unwrap_or(Verdict::Missing)
}
