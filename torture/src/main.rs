//! Tries to break the promise that atomwrite makes, in every way that a machine can, and counts.
//!
//! Each part is a room with one entrance, `run`, which adds rows to the report. The same test, in the same run, is done
//! with what people use in place of atomwrite, where that makes sense. A harm that atomwrite has promised not to do fails
//! the run; README.md tells what each test does and what it cannot see.

mod crowds;
mod death;
mod failure;
mod power;
mod reality;
mod strangers;

mod child;
mod forms;
mod ground;
mod image;
mod lacking;
mod page;
mod picture;
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

const PARTS: [(&str, Needs, Part); 6] = [
    ("death", Needs::Little, death::run),
    ("failure", Needs::Little, failure::run),
    ("power", Needs::Root, power::run),
    ("reality", Needs::Root, reality::run),
    ("crowds", Needs::Root, crowds::run),
    ("strangers", Needs::Root, strangers::run),
];

const USAGE: &str = "torture [--short] [--publish] [--seed N] [--form TEXT] [death|failure|power|reality|crowds|strangers]...";

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

/// Gives whether atomwrite has kept its promise.
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
                None => bail!("what is '{name}'? usage: {USAGE}"),
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
