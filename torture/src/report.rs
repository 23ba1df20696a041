//! What was found: harms, counted by test and program.

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
    /// DEST is neither the whole old file nor the whole new one.
    Torn,
    /// There is no DEST, and there was or must be one.
    Missing,
    /// The program said that it was done, and it is not so (any more).
    Lost,
    /// Another mode, owner or group than the file had or was to have.
    Looks,
    /// A file stays that nobody asked for; for atomwrite, one that the next write to the same DEST does not remove.
    Left,
    /// The exit status or the message is wrong.
    Answer,
    /// It does not end.
    Hung,
    /// A file that has nothing to do with it was changed.
    Stranger,
}

impl Harm {
    fn shown(self) -> &'static str {
        match self {
            Self::Torn => "torn",
            Self::Missing => "missing",
            Self::Lost => "lost",
            Self::Looks => "mode or owner",
            Self::Left => "litter",
            Self::Answer => "wrong answer",
            Self::Hung => "hung",
            Self::Stranger => "another's file",
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

/// How many examples of each test are told.
const EXAMPLES: usize = 20;

impl Tally {
    /// One more case was tried.
    pub(crate) fn tried(&mut self) {
        self.tried += 1;
    }

    /// It did harm; `example` tells how to see it again.
    pub(crate) fn harmed(&mut self, harm: Harm, example: impl FnOnce() -> String) {
        *self.harms.entry(harm).or_default() += 1;
        if self.examples.len() < EXAMPLES {
            self.examples
                .push(format!("{}: {}", harm.shown(), example()));
        }
    }

    /// Which part of the cases did one of these harms, at most.
    #[expect(clippy::cast_precision_loss, reason = "for a picture")]
    pub(crate) fn part(&self, harms: &[Harm]) -> f64 {
        let harmed: u64 = harms.iter().filter_map(|harm| self.harms.get(harm)).sum();
        harmed.min(self.tried) as f64 / self.tried.max(1) as f64
    }

    /// Adds what another thread has counted.
    pub(crate) fn add(&mut self, other: Self) {
        self.tried += other.tried;
        for (harm, count) in other.harms {
            *self.harms.entry(harm).or_default() += count;
        }
        self.examples.extend(other.examples);
        self.examples.truncate(EXAMPLES);
    }
}

/// As a cell of the table: `0 of 1204`, `**30 torn, 7 missing** of 1204`. The parts may add up to more than the whole.
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

/// Whether atomwrite has promised not to do what a test looks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Promise {
    Made,
    /// Only told, as `--sync=none` after a power cut.
    NotMade,
}

#[derive(Debug)]
struct Row {
    part: &'static str,
    test: String,
    promise: Promise,
    cells: BTreeMap<Program, Tally>,
}

/// Whether the pages that people read are written.
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

    /// The rows that follow are of this part.
    pub(crate) fn enter(&mut self, part: &'static str) {
        self.part = part;
    }

    /// Adds what a program did in a test: to its row if there is one, else in a new one.
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

    /// What a program did in a test.
    pub(crate) fn tally(&self, test: &str, program: Program) -> Option<&Tally> {
        let row = self.rows.iter().find(|row| row.test == test)?;
        row.cells.get(&program)
    }

    /// Prints the table; gives whether atomwrite has kept what it promises.
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

    /// Which run it was.
    fn run(&self) -> String {
        let length = match self.length {
            Length::Short => "a short run",
            Length::Long => "a long run",
        };
        format!("{length}, seed {}", self.seed)
    }

    /// All tests in one line. Of atomwrite's, those about which it promises something.
    fn sum(&self) -> String {
        let parts = Program::ALL.map(|program| {
            let tallies = self.rows.iter().filter_map(|row| {
                let counts = program != Program::Atomwrite || row.promise == Promise::Made;
                row.cells.get(&program).filter(|_| counts)
            });
            let (tried, harms) = tallies.fold((0, 0), |(tried, harms), tally| {
                let more: u64 = tally.harms.values().sum();
                (tried + tally.tried, harms + more)
            });
            format!("{} {harms} in {tried} cases", program.shown())
        });
        format!("Harms: {}.", parts.join("; "))
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
            table.extend(["| ", &row.test, " | ", &cells.join(" | "), " |\n"]);
        }
        table
    }
}
