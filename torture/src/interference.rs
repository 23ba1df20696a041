//! Interference: other processes change DEST, its directory and its temporary names during a write.
//!
//! Invariant: beside the directory that is written to is a victim's directory that no run may
//! change. It is compared after each run, with its modes, owners and times. What the user asked for
//! is no harm: if DEST is a symbolic link from the beginning, its target is replaced.
//!
//! These tests cannot see a race that is too rare for the number of runs.

mod exchange;
mod held;
mod hostile;
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
    hostile::run(ground, report)
}
