//! The record: the figures of a run as text, from which the tables and pictures can be written
//! again without measuring.
//!
//! One line for each fact, with its fields separated by tabs. `read` returns what `write` was
//! given, to six digits.

use std::fmt::Write;

use anyhow::{Context, Result, bail};

use crate::contest::{Effort, Figures, Outcome, Results};
use crate::lines::Program;
use crate::statistics::Spread;
use crate::work::{self, Work};

/// Returns the record of a run.
pub(crate) fn write(results: &Results, machine: &str) -> String {
    let mut text = format!("machine\t{machine}\n");
    for outcome in &results.outcomes {
        let _ = writeln!(text, "work\t{}\t{}", outcome.work, outcome.rounds);
        for Figures {
            program,
            time,
            peak,
        } in &outcome.programs
        {
            let _ = writeln!(text, "time\t{}\t{time:.5e}\t{peak}", program.label());
        }
        for (ours, theirs, ratio) in &outcome.ratios {
            let (ours, theirs) = (ours.label(), theirs.label());
            let _ = writeln!(text, "ratio\t{ours}\t{theirs}\t{}", show(*ratio));
        }
    }
    text
}

fn show(spread: Spread) -> String {
    let Spread { low, median, high } = spread;
    format!("{low:.5e}\t{median:.5e}\t{high:.5e}")
}

/// Returns the figures of a record, and the line about the machine.
pub(crate) fn read(text: &str) -> Result<(Results, String)> {
    let mut results = Results::default();
    let mut machine = String::new();
    for line in text.lines() {
        add(&mut results, &mut machine, line)
            .with_context(|| format!("cannot understand the line '{line}'"))?;
    }
    Ok((results, machine))
}

fn add(results: &mut Results, machine: &mut String, line: &str) -> Result<()> {
    let fields: Vec<&str> = line.split('\t').collect();
    match fields[..] {
        ["machine", words] => words.clone_into(machine),
        ["work", name, rounds] => results.outcomes.push(Outcome {
            work: find_work(name)?,
            rounds: rounds.parse()?,
            programs: Vec::new(),
            ratios: Vec::new(),
        }),
        ["time", program, time, peak] => last(results)?.programs.push(Figures {
            program: find_program(program)?,
            time: time.parse()?,
            peak: peak.parse()?,
        }),
        ["ratio", ours, theirs, low, median, high] => last(results)?.ratios.push((
            find_program(ours)?,
            find_program(theirs)?,
            spread(low, median, high)?,
        )),
        _ => bail!("no such line"),
    }
    Ok(())
}

/// Returns the work that the line belongs to.
fn last(results: &mut Results) -> Result<&mut Outcome> {
    results.outcomes.last_mut().context("no work before it")
}

fn spread(low: &str, median: &str, high: &str) -> Result<Spread> {
    Ok(Spread {
        low: low.parse()?,
        median: median.parse()?,
        high: high.parse()?,
    })
}

fn find_work(name: &str) -> Result<Work> {
    let mut all = work::all(Effort::Full).into_iter();
    all.find(|work| work.to_string() == name)
        .with_context(|| format!("no work is called '{name}'"))
}

fn find_program(label: &str) -> Result<Program> {
    let mut all = Program::ALL.into_iter();
    all.find(|program| program.label() == label)
        .with_context(|| format!("no program is called '{label}'"))
}
