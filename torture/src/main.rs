//! Tries to break atomwrite's promise in every way that one machine can, and counts the harms.
//!
//! Each part is a module with one entry point, `run`, which adds rows to the report. Where it makes
//! sense, the same run does the same test with the programs that people use instead. The run fails
//! if atomwrite does a harm that it has promised not to do. README.md describes each test and what
//! it cannot see.

mod concurrency;
mod death;
mod environment;
mod failure;
mod fuzz;
mod interference;
mod power;

mod child;
mod forms;
mod ground;
mod image;
mod lacking;
mod page;
mod picture;
mod place;
mod programs;
mod report;
mod served;
mod tracer;
mod tree;

use std::process::ExitCode;

use anyhow::{Result, bail};

use crate::ground::{Ground, Length, Needs};
use crate::report::{Published, Report};

type Part = fn(&Ground, &mut Report) -> Result<()>;

const PARTS: [(&str, Needs, Part); 7] = [
    ("death", Needs::Little, death::run),
    ("failure", Needs::Little, failure::run),
    ("power", Needs::Root, power::run),
    ("environment", Needs::Root, environment::run),
    ("concurrency", Needs::Root, concurrency::run),
    ("interference", Needs::Root, interference::run),
    ("fuzz", Needs::Root, fuzz::run),
];

const USAGE: &str = "torture [--short] [--publish] [--seed N] [--form TEXT] \
    [death|failure|power|environment|concurrency|interference|fuzz]...";

fn main() -> ExitCode {
    match torture() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("torture: {error:#}");
            ExitCode::from(2)
        }
    }
}

/// Returns whether atomwrite has kept its promise.
fn torture() -> Result<bool> {
    let mut length = Length::Long;
    let mut seed = 1;
    let mut publish = false;
    let mut form = None;
    let mut wanted = Vec::new();
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        match word.as_str() {
            "--short" => length = Length::Short,
            "--publish" => publish = true,
            "--seed" => match words.next().map(|number| number.parse()) {
                Some(Ok(number)) => seed = number,
                _ => bail!("--seed needs a number; usage: {USAGE}"),
            },
            "--form" => match words.next() {
                Some(text) => form = Some(text),
                None => bail!("--form needs a text; usage: {USAGE}"),
            },
            name => match PARTS.iter().find(|(part, ..)| *part == name) {
                Some(part) => wanted.push(*part),
                None => bail!("unknown part '{name}'; usage: {USAGE}"),
            },
        }
    }
    let whole = wanted.is_empty() && form.is_none();
    if wanted.is_empty() {
        wanted.extend(PARTS);
    }
    let needs_root = wanted.iter().any(|(_, needs, _)| *needs == Needs::Root);
    let needs = if needs_root {
        Needs::Root
    } else {
        Needs::Little
    };
    let ground = Ground::prepare(seed, length, form, needs)?;
    let mut report = Report::begin(&ground);
    for (name, _, part) in wanted {
        report.enter(name);
        part(&ground, &mut report)?;
    }
    let published = if whole && (publish || length == Length::Long) {
        Published::Yes
    } else {
        Published::No
    };
    report.end(published)
}
