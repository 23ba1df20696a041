//! Real faults, not injected ones: a full disk is full, a filesystem that was shut down is down.
//!
//! The rule: what is wrong is made wrong by the kernel, or by a filesystem of our own that the kernel asks. Every form of
//! atomwrite and every other program is run through every fault, and is judged when the fault is mended (see `judge`).
//!
//! What it cannot see: each fault comes at one moment or two, and not at every call; that is what the room `failure` is
//! for. What a real disk does when it breaks is more than any of this.

mod calls;
mod child;
mod course;
mod disk;
mod fault;
mod form;
mod full;
mod fuse;
mod judge;
mod sandbox;
mod stops;

use anyhow::{Context, Result};

use self::course::Course;
use crate::ground::Ground;
use crate::report::Report;

type Room = fn(&Course<'_>, &mut Report) -> Result<()>;

pub(crate) fn run(ground: &Ground, report: &mut Report) -> Result<()> {
    let course = Course::lay(ground)?;
    let rooms: [(&str, Room); 5] = [
        ("full", full::run),
        ("limits", sandbox::limits),
        ("stops", stops::run),
        ("sandbox", sandbox::run),
        ("fuse", fuse::run),
    ];
    for (name, room) in rooms {
        room(&course, report).with_context(|| format!("in the room {name}"))?;
    }
    Ok(())
}
