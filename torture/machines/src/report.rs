//! What was found: for each filesystem and promise, whether it is kept.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::known::{self, Tolerated};
use crate::power;

/// What the columns of the table are: the word of the guest's scripts, and the heading.
pub(crate) const PROMISES: [(&str, &str); 18] = [
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
    ("looks", "mode, owner, ACL"),
    ("validated", "`--validate`"),
    ("inplace", "`--inplace`"),
    ("links", "links"),
    ("opened", "DEST is open"),
    ("full", "no space"),
    ("left", "nothing is left"),
    ("power", "power cut"),
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
    /// The note below the table.
    reason: Option<&'static str>,
}

/// What is found, by machines that run at the same time.
#[derive(Debug, Default)]
pub(crate) struct Report(Mutex<Found>);

#[derive(Debug, Default)]
struct Found {
    /// In the order in which they were begun.
    rows: Vec<String>,
    /// By row and promise.
    checks: BTreeMap<(String, String), Vec<Check>>,
    /// The rows of the second table.
    cuts: BTreeMap<String, String>,
}

impl Report {
    /// Begins a row, in which the promises must be found in the end.
    pub(crate) fn begin(&self, row: &str, promises: &[&str]) {
        let mut found = self.lock();
        if !found.rows.iter().any(|known| known == row) {
            found.rows.push(row.to_owned());
        }
        for promise in promises {
            let cell = (row.to_owned(), (*promise).to_owned());
            found.checks.entry(cell).or_default();
        }
    }

    /// Adds what a check has found.
    pub(crate) fn add(&self, row: &str, promise: &str, found: Verdict, check: &str, detail: &str) {
        let (verdict, reason) = match (found, known::find(row, check)) {
            (Verdict::SaidNo, Some((_, reason))) => (Verdict::SaidNo, Some(reason)),
            (Verdict::Broken, Some((Tolerated::Loss, reason))) => (Verdict::Limit, Some(reason)),
            // A new refusal counts as broken until it has a reason.
            (Verdict::SaidNo, None) => (Verdict::Broken, None),
            (verdict, _) => (verdict, None),
        };
        if verdict != Verdict::Kept {
            println!("machines: {row}: {check}: {}: {detail}", verdict.shown());
        }
        let cell = (row.to_owned(), promise.to_owned());
        let check = Check { verdict, reason };
        self.lock().checks.entry(cell).or_default().push(check);
    }

    /// Adds rows to the second table.
    pub(crate) fn add_cuts(&self, filesystem: &str, rows: String) {
        self.lock().cuts.insert(filesystem.to_owned(), rows);
    }

    /// Whether all is kept that can be.
    pub(crate) fn is_good(&self) -> bool {
        let found = self.lock();
        !found.checks.keys().any(|cell| found.verdict(cell).is_bad())
    }

    pub(crate) fn count(&self) -> usize {
        self.lock().checks.values().map(Vec::len).sum()
    }

    /// The tables, in Markdown, with the reasons below the first one.
    pub(crate) fn table(&self) -> String {
        let found = self.lock();
        let mut table = found.table();
        if !found.cuts.is_empty() {
            table.push('\n');
            table.push_str(power::HEADING);
            table.extend(found.cuts.values().map(String::as_str));
        }
        table
    }

    fn lock(&self) -> MutexGuard<'_, Found> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Found {
    fn verdict(&self, cell: &(String, String)) -> Verdict {
        let checks = self.checks.get(cell).map(Vec::as_slice).unwrap_or_default();
        let worst = checks.iter().map(|check| check.verdict).max();
        worst.unwrap_or(Verdict::Missing)
    }

    fn table(&self) -> String {
        // Without the columns that nothing was tried for.
        let tried = |promise: &str| self.checks.keys().any(|(_, known)| known == promise);
        let columns: Vec<_> = PROMISES
            .iter()
            .filter(|(promise, _)| tried(promise))
            .collect();
        let mut table = String::from("| |");
        for (_, heading) in &columns {
            let _ = write!(table, " {heading} |");
        }
        table.push_str("\n|---|");
        table.push_str(&"---|".repeat(columns.len()));
        table.push('\n');
        let mut reasons: Vec<&'static str> = Vec::new();
        for row in &self.rows {
            let _ = write!(table, "| {row} |");
            for (promise, _) in &columns {
                table.push_str(&self.cell(row, promise, &mut reasons));
            }
            table.push('\n');
        }
        table.push('\n');
        for (at, reason) in reasons.iter().enumerate() {
            let _ = writeln!(table, "{}. {reason}", at + 1);
        }
        table
    }

    /// A cell, and the numbers of its reasons, which are added to those that are there.
    fn cell(&self, row: &str, promise: &str, reasons: &mut Vec<&'static str>) -> String {
        let cell = (row.to_owned(), promise.to_owned());
        let Some(checks) = self.checks.get(&cell) else {
            return " |".to_owned();
        };
        let mut shown = format!(" {}", self.verdict(&cell).shown());
        let mut notes = BTreeSet::new();
        for reason in checks.iter().filter_map(|check| check.reason) {
            let at = reasons.iter().position(|known| *known == reason);
            notes.insert(at.unwrap_or(reasons.len()));
            if at.is_none() {
                reasons.push(reason);
            }
        }
        for note in notes {
            let _ = write!(shown, " [{}]", note + 1);
        }
        shown.push_str(" |");
        shown
    }
}
