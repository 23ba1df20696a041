//! What was found: for each filesystem and promise, whether it is kept.

use std::collections::BTreeMap;
use std::fmt::Write;

use crate::known::{self, Tolerated};

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
    /// What is to be read below the table.
    reason: Option<&'static str>,
}

/// The rows in the order in which they were begun, and their cells.
#[derive(Debug, Default)]
pub(crate) struct Report {
    rows: Vec<String>,
    checks: BTreeMap<(String, String), Vec<Check>>,
}

impl Report {
    /// Begins a row, in which the promises must be found in the end.
    pub(crate) fn begin(&mut self, row: &str, promises: &[&str]) {
        if !self.rows.iter().any(|known| known == row) {
            self.rows.push(row.to_owned());
        }
        for promise in promises {
            self.checks
                .entry((row.to_owned(), (*promise).to_owned()))
                .or_default();
        }
    }

    /// Adds what a check has found.
    pub(crate) fn add(
        &mut self,
        row: &str,
        promise: &str,
        found: Verdict,
        check: &str,
        detail: &str,
    ) {
        self.begin(row, &[promise]);
        let known = known::find(row, check);
        let (verdict, reason) = match (found, known) {
            (Verdict::SaidNo, Some((_, reason))) => (Verdict::SaidNo, Some(reason)),
            (Verdict::Broken, Some((Tolerated::Loss, reason))) => (Verdict::Limit, Some(reason)),
            // What is new must be looked at.
            (Verdict::SaidNo, None) => (Verdict::Broken, None),
            (verdict, _) => (verdict, None),
        };
        if verdict != Verdict::Kept {
            println!("machines: {row}: {check}: {}: {detail}", verdict.shown());
        }
        self.checks
            .entry((row.to_owned(), promise.to_owned()))
            .or_default()
            .push(Check { verdict, reason });
    }

    /// Whether all is kept that can be.
    pub(crate) fn is_good(&self) -> bool {
        !self.checks.keys().any(|cell| self.verdict(cell).is_bad())
    }

    pub(crate) fn count(&self) -> usize {
        self.checks.values().map(Vec::len).sum()
    }

    fn verdict(&self, cell: &(String, String)) -> Verdict {
        let checks = self.checks.get(cell).map(Vec::as_slice).unwrap_or_default();
        let worst = checks.iter().map(|check| check.verdict).max();
        worst.unwrap_or(Verdict::Missing)
    }

    /// The table, in Markdown, with the reasons below it.
    pub(crate) fn table(&self) -> String {
        let mut table = String::from("| |");
        for (_, heading) in PROMISES {
            let _ = write!(table, " {heading} |");
        }
        table.push_str("\n|---|");
        table.push_str(&"---|".repeat(PROMISES.len()));
        table.push('\n');
        let mut reasons: Vec<&str> = Vec::new();
        for row in &self.rows {
            let _ = write!(table, "| {row} |");
            for (promise, _) in PROMISES {
                let cell = (row.clone(), promise.to_owned());
                let Some(checks) = self.checks.get(&cell) else {
                    table.push_str(" |");
                    continue;
                };
                let verdict = self.verdict(&cell);
                let _ = write!(table, " {}", verdict.shown());
                let mut notes: Vec<usize> = Vec::new();
                for reason in checks.iter().filter_map(|check| check.reason) {
                    let at = reasons.iter().position(|known| *known == reason);
                    let at = at.unwrap_or_else(|| {
                        reasons.push(reason);
                        reasons.len() - 1
                    });
                    if !notes.contains(&(at + 1)) {
                        notes.push(at + 1);
                    }
                }
                for note in notes {
                    let _ = write!(table, " [{note}]");
                }
                table.push_str(" |");
            }
            table.push('\n');
        }
        table.push('\n');
        for (at, reason) in reasons.iter().enumerate() {
            let _ = writeln!(table, "{}. {reason}", at + 1);
        }
        table
    }
}
