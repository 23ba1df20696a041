//! The report: harms, counted by test and program.

use std::collections::BTreeMap;
use std::fmt::{self, Display};
use std::path::PathBuf;
use std::time::Instant;

use anyhow::Result;

use crate::ground::{Ground, Length};
use crate::programs::Program;
use crate::{page, picture};

/// What can happen to a file and to its user.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Harm {
    /// DEST is neither the complete old file nor the complete new one.
    Torn,
    /// There is no DEST, and there was or must be one.
    Missing,
    /// The program reported success, and DEST is not what it must be, or is no longer.
    Lost,
    /// Another mode, owner or group than the file had or was to have.
    Attributes,
    /// A file stays that was not asked for; for atomwrite, one that the next write to the same DEST
    /// does not remove.
    Litter,
    /// The exit status or the message is wrong.
    Answer,
    /// It does not end.
    Hung,
    /// A file that has nothing to do with the run was changed.
    Foreign,
}

impl Harm {
    fn shown(self) -> &'static str {
        match self {
            Self::Torn => "torn",
            Self::Missing => "missing",
            Self::Lost => "lost",
            Self::Attributes => "mode or owner",
            Self::Litter => "litter",
            Self::Answer => "wrong answer",
            Self::Hung => "hung",
            Self::Foreign => "another's file",
        }
    }
}

/// What one program did in one test.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tally {
    tried: u64,
    harms: BTreeMap<Harm, u64>,
    examples: Vec<String>,
}

/// How many examples of each test are printed.
const EXAMPLES: usize = 20;

impl Tally {
    /// Counts one more case.
    pub(crate) fn tried(&mut self) {
        self.tried += 1;
    }

    /// Counts a harm; `example` says how to see it again.
    pub(crate) fn harmed(&mut self, harm: Harm, example: impl FnOnce() -> String) {
        *self.harms.entry(harm).or_default() += 1;
        if self.examples.len() < EXAMPLES {
            self.examples
                .push(format!("{}: {}", harm.shown(), example()));
        }
    }

    /// Returns the share of cases that did one of these harms, 1 at most.
    #[expect(clippy::cast_precision_loss, reason = "for a picture")]
    pub(crate) fn part(&self, harms: &[Harm]) -> f64 {
        let harmed: u64 = harms.iter().filter_map(|harm| self.harms.get(harm)).sum();
        harmed.min(self.tried) as f64 / self.tried.max(1) as f64
    }

    /// Adds the counts of another thread.
    pub(crate) fn add(&mut self, other: Self) {
        self.tried += other.tried;
        for (harm, count) in other.harms {
            *self.harms.entry(harm).or_default() += count;
        }
        self.examples.extend(other.examples);
        self.examples.truncate(EXAMPLES);
    }
}

/// Writes a cell of the table: `0 of 1204`, `**30 torn, 7 missing** of 1204`. One case may count as
/// several harms.
impl Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.harms.is_empty() {
            return write!(f, "0 of {}", self.tried);
        }
        let harms: Vec<String> = self
            .harms
            .iter()
            .map(|(harm, count)| format!("{count} {}", harm.shown()))
            .collect();
        write!(f, "**{}** of {}", harms.join(", "), self.tried)
    }
}

/// Whether atomwrite promises not to do the harms that a test counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Promise {
    Made,
    /// Counted and shown only, as for `--sync=none` after a power cut.
    NotMade,
}

#[derive(Debug)]
struct Row {
    part: &'static str,
    test: String,
    promise: Promise,
    cells: BTreeMap<Program, Tally>,
}

/// Whether the run writes README.md and the picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Published {
    Yes,
    No,
}

/// All rows so far.
#[derive(Debug)]
pub(crate) struct Report {
    length: Length,
    seed: u64,
    binary: PathBuf,
    began: Instant,
    part: &'static str,
    rows: Vec<Row>,
}

impl Report {
    pub(crate) fn begin(ground: &Ground) -> Self {
        Self {
            length: ground.length,
            seed: ground.seed,
            binary: ground.binary.clone(),
            began: Instant::now(),
            part: "",
            rows: Vec::new(),
        }
    }

    /// Begins a part: it gets the rows that follow.
    pub(crate) fn enter(&mut self, part: &'static str) {
        self.part = part;
    }

    /// Adds the result of a program in a test, to the row of that name or in a new one.
    pub(crate) fn add(&mut self, test: &str, promise: Promise, program: Program, tally: Tally) {
        println!(
            "torture: {}: {test}: {}: {tally} ({} s)",
            self.part,
            program.shown(),
            self.began.elapsed().as_secs()
        );
        if program == Program::Atomwrite {
            for example in &tally.examples {
                println!("torture:     {example}");
            }
        }
        let part = self.part;
        let row = if let Some(at) = self
            .rows
            .iter_mut()
            .position(|row| row.part == part && row.test == test)
        {
            &mut self.rows[at]
        } else {
            self.rows.push(Row {
                part,
                test: test.to_owned(),
                promise,
                cells: BTreeMap::new(),
            });
            self.rows.last_mut().expect("one was pushed")
        };
        row.cells.entry(program).or_default().add(tally);
    }

    /// Returns the result of a program in a test, or `None` if it was not tried.
    pub(crate) fn tally(&self, test: &str, program: Program) -> Option<&Tally> {
        let row = self.rows.iter().find(|row| row.test == test)?;
        row.cells.get(&program)
    }

    /// Prints the table. Returns whether atomwrite has kept its promise.
    pub(crate) fn end(self, published: Published) -> Result<bool> {
        println!("\n{}", self.table());
        let broken: Vec<&Row> = self
            .rows
            .iter()
            .filter(|row| {
                row.promise == Promise::Made
                    && row
                        .cells
                        .get(&Program::Atomwrite)
                        .is_some_and(|tally| !tally.harms.is_empty())
            })
            .collect();
        let (failed, passed) = (broken.len(), self.rows.len() - broken.len());
        for row in &broken {
            println!(
                "torture: atomwrite broke its promise: {}: {}",
                row.part, row.test
            );
            for example in &row.cells[&Program::Atomwrite].examples {
                println!("torture:     {example}");
            }
        }
        if published == Published::Yes {
            let picture = picture::draw(&self)?;
            page::publish(
                &self.binary,
                &self.sum(),
                &self.table(),
                &picture,
                &self.run(),
            )?;
        }
        println!(
            "torture: seed {}, {} s",
            self.seed,
            self.began.elapsed().as_secs()
        );
        println!("{passed} passed, {failed} failed");
        Ok(broken.is_empty())
    }

    /// Describes the run.
    fn run(&self) -> String {
        let length = match self.length {
            Length::Short => "a short run",
            Length::Long => "a long run",
        };
        format!("{length}, seed {}", self.seed)
    }

    /// Counts the harms of each program in one line, of those rows for which atomwrite promises
    /// that there are none. The other rows are named, with atomwrite's harms.
    fn sum(&self) -> String {
        let count = |program: Program, promise: Promise| {
            self.rows
                .iter()
                .filter(|row| row.promise == promise)
                .filter_map(|row| row.cells.get(&program))
                .fold((0, 0), |(harms, tried), tally| {
                    let more: u64 = tally.harms.values().sum();
                    (harms + more, tried + tally.tried)
                })
        };
        let parts = Program::ALL.map(|program| {
            let (harms, tried) = count(program, Promise::Made);
            format!(
                "{} {} in {} cases",
                program.shown(),
                grouped(harms),
                grouped(tried)
            )
        });
        let left_out: Vec<String> = self
            .rows
            .iter()
            .filter(|row| row.promise == Promise::NotMade)
            .map(|row| format!("\"{}\"", row.test))
            .collect();
        let (harms, tried) = count(Program::Atomwrite, Promise::NotMade);
        let rest = if left_out.is_empty() {
            String::new()
        } else {
            format!(
                " These counts leave out the rows for which atomwrite promises nothing: {}. In them `atomwrite` did {} \
                 harms in {} cases.",
                left_out.join(", "),
                grouped(harms),
                grouped(tried)
            )
        };
        format!("Harms: {}.{rest}", parts.join("; "))
    }

    fn table(&self) -> String {
        let head: Vec<&str> = Program::ALL.iter().map(|program| program.shown()).collect();
        let mut table = format!(
            "| test | {} |\n|---|{}\n",
            head.join(" | "),
            "---|".repeat(head.len())
        );
        for row in &self.rows {
            let cells: Vec<String> = Program::ALL
                .iter()
                .map(|program| {
                    row.cells
                        .get(program)
                        .map_or_else(String::new, ToString::to_string)
                })
                .collect();
            let promise = match row.promise {
                Promise::Made => "",
                Promise::NotMade => " (no promise)",
            };
            table.extend(["| ", &row.test, promise, " | ", &cells.join(" | "), " |\n"]);
        }
        table
    }
}

/// Writes a number with commas: 4,257,592.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::new();
    for (at, digit) in digits.char_indices() {
        if at > 0 && (digits.len() - at) % 3 == 0 {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_digits_by_three() {
        for (number, shown) in [
            (0, "0"),
            (999, "999"),
            (1000, "1,000"),
            (4_257_592, "4,257,592"),
        ] {
            assert_eq!(grouped(number), shown);
        }
    }
}
