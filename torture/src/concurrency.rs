//! Concurrency: 200 writers and 8 readers of one file, and concurrent writers of many files.
//!
//! Invariant: every content names its writer and has a checksum, so each read, each backup and each
//! line can be checked by itself. The seed chooses which runs are killed, and when. It does not
//! choose what the scheduler does, so an example may need several runs to be seen again.
//!
//! These tests cannot see a state that is shorter than the time between two reads.

mod aftermath;
mod append;
mod backup;
mod content;
mod counter;
mod create;
mod many;
mod plain;
mod writers;

use anyhow::Result;

use self::plain::Form;
use crate::ground::{Ground, Length};
use crate::programs::Program;
use crate::report::{Promise, Report, Tally};

/// Whether some of the writers are killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kills {
    None,
    Some,
}

/// The result of one group of writers.
#[derive(Debug, Default)]
struct Outcome {
    runs: Tally,
    seen: Tally,
    /// Random temporary names that stay (see the manual, FILES).
    random: usize,
}

impl Outcome {
    fn add(&mut self, other: Self) {
        self.runs.add(other.runs);
        self.seen.add(other.seen);
        self.random += other.random;
    }
}

/// The report's row.
pub(crate) const READERS: &str = "8 readers of a file with 200 writers";

/// Prints how many random temporary names of killed runs stay, because the manual says that some
/// do.
pub(crate) fn run(ground: &Ground, report: &mut Report) -> Result<()> {
    let mut random = 0;
    let mut add = |report: &mut Report, test, program, outcome: Outcome| {
        random += outcome.random;
        report.add(test, Promise::Made, program, outcome.runs);
        report.add(READERS, Promise::Made, program, outcome.seen);
    };
    for program in Program::ALL {
        add(
            report,
            "200 writers of one file",
            program,
            plain(ground, program, Kills::None)?,
        );
        add(
            report,
            "200 writers of one file, SIGKILL among them",
            program,
            plain(ground, program, Kills::Some)?,
        );
    }
    let rounds = ground.many(1, 2);
    let mut created = Outcome::default();
    let mut appended = Outcome::default();
    let mut counted = Outcome::default();
    let mut kept = Outcome::default();
    for kills in [Kills::None, Kills::Some] {
        for round in 0..rounds {
            created.add(create::run(ground, round, kills)?);
            // In a short run, one begins with a file and the other without.
            let round = if kills == Kills::None {
                round
            } else {
                round + 1
            };
            appended.add(append::run(ground, Program::Atomwrite, round, kills)?);
            counted.add(counter::run(ground, Program::Atomwrite, round, kills)?);
            for form in backup::Form::ALL {
                kept.add(backup::run(ground, form, round, kills)?);
            }
        }
    }
    add(
        report,
        "200 writers with `-n`: one wins",
        Program::Atomwrite,
        created,
    );
    add(
        report,
        "200 writers with `-b`: every backup is complete, with `--lock` no content is lost",
        Program::Atomwrite,
        kept,
    );
    let test = "200 writers with `-a`: every line is there, once and complete";
    add(report, test, Program::Atomwrite, appended);
    let peer = append::run(ground, Program::Sponge, 0, Kills::None)?;
    add(report, test, Program::Sponge, peer);
    let test = "200 writers with `--lock`: each reads a number and writes the next";
    add(report, test, Program::Atomwrite, counted);
    for program in Program::OTHERS {
        add(
            report,
            test,
            program,
            counter::run(ground, program, 0, Kills::None)?,
        );
    }
    many(ground, report, &mut random)?;
    println!("torture: concurrency: {random} random temporary names of killed runs stay");
    Ok(())
}

fn many(ground: &Ground, report: &mut Report, random: &mut usize) -> Result<()> {
    for form in many::Form::ALL {
        for kills in [Kills::None, Kills::Some] {
            let mut outcome = Outcome::default();
            for round in 0..ground.many(1, 2) {
                outcome.add(many::run(ground, form, round, kills)?);
            }
            *random += outcome.random;
            let readers = "8 readers of the files that writers with `-t` write";
            let (made, ours) = (Promise::Made, Program::Atomwrite);
            report.add(form.test(kills), made, ours, outcome.runs);
            report.add(readers, made, ours, outcome.seen);
        }
    }
    Ok(())
}

/// Returns how many runs each writer has, one after the other.
fn runs(ground: &Ground, program: Program) -> usize {
    match program {
        Program::Atomwrite => ground.many(1, 2),
        _ => 1,
    }
}

/// Every form in a long run; in a short one, the commonest and all of them at once.
fn plain(ground: &Ground, program: Program, kills: Kills) -> Result<Outcome> {
    let mut sum = Outcome::default();
    let forms = match (program, ground.length) {
        (Program::Atomwrite, Length::Long) => &Form::ALL[..],
        (Program::Atomwrite, Length::Short) => &[Form::Stdin, Form::Named, Form::Mixed],
        _ => &[Form::Stdin],
    };
    for form in forms {
        sum.add(plain::run(ground, program, *form, 0, kills)?);
    }
    Ok(sum)
}
