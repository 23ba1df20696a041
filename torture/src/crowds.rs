//! Crowds: 200 writers and 8 readers on one file, and writers of many files at once.
//!
//! The rule: every content says whose it is and has a checksum, so that each read, each backup and each line can be
//! judged by itself. Who is killed, and when, is chosen by the seed; what the scheduler makes of it is not, so an
//! example may need several runs to be seen again.
//!
//! It cannot see a moment that is shorter than the time between two reads.

mod aftermath;
mod append;
mod backup;
mod content;
mod counter;
mod create;
mod crowd;
mod many;
mod plain;

use anyhow::Result;

use self::plain::Form;
use crate::ground::{Ground, Length};
use crate::programs::Program;
use crate::report::{Promise, Report, Tally};

/// Whether some of a crowd are killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kills {
    None,
    Some,
}

/// What came of one crowd.
#[derive(Debug, Default)]
struct Crowd {
    runs: Tally,
    seen: Tally,
    /// Random temporary names that stay (see the manual, FILES).
    random: usize,
}

impl Crowd {
    fn add(&mut self, other: Self) {
        self.runs.add(other.runs);
        self.seen.add(other.seen);
        self.random += other.random;
    }
}

const READERS: &str = "8 readers of a file with 200 writers";

/// Prints how many random temporary names of killed runs stay, since the manual says that some do.
pub(crate) fn run(ground: &Ground, report: &mut Report) -> Result<()> {
    let mut random = 0;
    let mut add = |report: &mut Report, test, program, crowd: Crowd| {
        random += crowd.random;
        report.add(test, Promise::Made, program, crowd.runs);
        report.add(READERS, Promise::Made, program, crowd.seen);
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
    let mut created = Crowd::default();
    let mut appended = Crowd::default();
    let mut counted = Crowd::default();
    let mut kept = Crowd::default();
    for kills in [Kills::None, Kills::Some] {
        for round in 0..rounds {
            created.add(create::crowd(ground, round, kills)?);
            // In a short run, one begins with a file and the other without.
            let round = if kills == Kills::None {
                round
            } else {
                round + 1
            };
            appended.add(append::crowd(ground, Program::Atomwrite, round, kills)?);
            counted.add(counter::crowd(ground, Program::Atomwrite, round, kills)?);
            for form in backup::Form::ALL {
                kept.add(backup::crowd(ground, form, round, kills)?);
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
        "200 writers with `-b`: every backup is whole, with `--lock` no content is lost",
        Program::Atomwrite,
        kept,
    );
    let test = "200 writers with `-a`: every line is there, once and whole";
    add(report, test, Program::Atomwrite, appended);
    let peer = append::crowd(ground, Program::Sponge, 0, Kills::None)?;
    add(report, test, Program::Sponge, peer);
    let test = "200 writers with `--lock`: each reads a number and writes the next";
    add(report, test, Program::Atomwrite, counted);
    for program in Program::OTHERS {
        add(
            report,
            test,
            program,
            counter::crowd(ground, program, 0, Kills::None)?,
        );
    }
    many(ground, report, &mut random)?;
    println!("torture: crowds: {random} random temporary names of killed runs stay");
    Ok(())
}

fn many(ground: &Ground, report: &mut Report, random: &mut usize) -> Result<()> {
    for form in many::Form::ALL {
        for kills in [Kills::None, Kills::Some] {
            let mut crowd = Crowd::default();
            for round in 0..ground.many(1, 2) {
                crowd.add(many::crowd(ground, form, round, kills)?);
            }
            *random += crowd.random;
            let readers = "8 readers of the files that a crowd of `-t` writes";
            let (made, ours) = (Promise::Made, Program::Atomwrite);
            report.add(form.test(kills), made, ours, crowd.runs);
            report.add(readers, made, ours, crowd.seen);
        }
    }
    Ok(())
}

/// How many runs each writer has, one after the other.
fn runs(ground: &Ground, program: Program) -> usize {
    match program {
        Program::Atomwrite => ground.many(1, 2),
        _ => 1,
    }
}

/// Every form in a long run; in a short one, the commonest and all of them at once.
fn plain(ground: &Ground, program: Program, kills: Kills) -> Result<Crowd> {
    let mut sum = Crowd::default();
    let forms = match (program, ground.length) {
        (Program::Atomwrite, Length::Long) => &Form::ALL[..],
        (Program::Atomwrite, Length::Short) => &[Form::Stdin, Form::Named, Form::Mixed],
        _ => &[Form::Stdin],
    };
    for form in forms {
        sum.add(plain::crowd(ground, program, *form, 0, kills)?);
    }
    Ok(sum)
}
