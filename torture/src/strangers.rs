//! Strangers: others who change DEST, its directory and its temporary names while we write, and words that make no sense.
//!
//! The rule: beside the directory that is written in there is one of a victim, which nobody has asked to change; it is
//! compared after each run, with its modes, owners and times. What a user has asked for is no harm: where DEST is a link
//! from the beginning, what it leads to is replaced.
//!
//! It cannot see a race that needs more luck than the runs that there is time for.

mod exchange;
mod fuzz;
mod grammar;
mod held;
mod hostile;
mod place;
mod planted;
mod race;
mod vacant;

use anyhow::Result;

use crate::ground::Ground;
use crate::report::Report;

pub(crate) fn run(ground: &Ground, report: &mut Report) -> Result<()> {
    held::run(ground, report)?;
    exchange::run(ground, report)?;
    vacant::run(ground, report)?;
    planted::run(ground, report)?;
    hostile::run(ground, report)?;
    fuzz::run(ground, report)
}
