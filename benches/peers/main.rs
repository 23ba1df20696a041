//! Measures the time and memory of atomwrite, side by side with what a user would run instead.
//!
//! Invariant: the table and the pictures come from the same run, and nothing in them is edited by
//! hand. benches/README.md says how the benchmark measures.

mod chart;
mod contest;
mod ground;
mod growth;
mod launch;
mod limits;
mod lines;
mod machine;
mod page;
mod picture;
mod record;
mod statistics;
mod table;
mod work;

use std::env;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result};

use crate::contest::{Effort, Results};
use crate::ground::{Fresh, Ground};
use crate::launch::Launcher;

fn main() -> ExitCode {
    match measure() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn measure() -> Result<()> {
    // Cargo puts `--bench` among the arguments; the others choose what is measured.
    let wanted: Vec<String> = env::args().skip(1).filter(|a| a != "--bench").collect();
    let effort = Effort::from_environment()?;
    ground::have_own_mounts()?;
    let target = ground::target()?;
    let launcher = Launcher::build(&target)?;
    if effort == Effort::Draw {
        return page::redraw(&launcher);
    }
    let ground = Ground::prepare(&target)?;
    let description = machine::describe(&launcher, ground.words())?;
    say(&description);
    let load = machine::load()?;
    if load > 0.5 {
        say(&format!(
            "the machine is busy (load {load}): the times will be too long"
        ));
    }

    let started = Instant::now();
    let mut results = Results::default();
    for work in work::all(effort) {
        let name = work.to_string();
        if !wanted.iter().all(|word| name.contains(word)) {
            continue;
        }
        if !ground.has_space(work)? {
            say(&format!("{name}: not measured, the disk has no space"));
            continue;
        }
        let fresh = if work.needs_fresh_ground() {
            Fresh::mount(work.place, &target)?
        } else {
            None
        };
        let place = match &fresh {
            Some(fresh) => Some(fresh.path()),
            None if work.needs_fresh_ground() => None,
            None => ground.at(work),
        };
        let Some(place) = place else {
            say(&format!("{name}: not measured, needs root for its mount"));
            continue;
        };
        let outcome = contest::run(work, place, &launcher, effort)
            .with_context(|| format!("cannot measure {name}"))?;
        say(&outcome.summary());
        results.outcomes.push(outcome);
    }
    for line in table::missed(&results) {
        say(&line);
    }

    let took = format!("{:.0} s", started.elapsed().as_secs_f64());
    if wanted.is_empty() && effort == Effort::Full {
        page::publish(&launcher, &results, &description)?;
        say(&format!(
            "{took}; wrote benches/results/ and the section of benches/README.md"
        ));
    } else {
        page::try_out(&launcher, &target, &results, &description)?;
        say(&format!(
            "{took}; wrote table.md, speed.svg, growth.svg and figures.tsv in {}",
            target.display()
        ));
    }
    Ok(())
}

#[expect(clippy::print_stderr, reason = "the one place that prints")]
fn say(line: &str) {
    eprintln!("bench: {line}");
}
