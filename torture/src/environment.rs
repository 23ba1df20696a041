//! Environment: real faults, not injected ones. A full disk is full, and a filesystem that was shut
//! down is down.
//!
//! Invariant: the kernel causes each fault, or a FUSE filesystem of the suite. Every form of
//! atomwrite and every other program runs with every fault, and is checked after the fault is
//! repaired (see `check`).
//!
//! What these tests cannot see: each fault comes at one or two moments, not at every call, which is
//! the part `failure`. A real disk can break in more ways than these.

mod calls;
mod check;
mod child;
mod course;
mod disk;
mod fault;
mod form;
mod full;
mod fuse;
mod sandbox;
mod stops;

use anyhow::{Context, Result};

use self::course::Course;
pub(crate) use self::full::DISK_FULL;
use crate::ground::Ground;
use crate::report::Report;

type Group = fn(&Course<'_>, &mut Report) -> Result<()>;

pub(crate) fn run(ground: &Ground, report: &mut Report) -> Result<()> {
    let course = Course::lay(ground)?;
    let groups: [(&str, Group); 5] = [
        ("full", full::run),
        ("limits", sandbox::limits),
        ("stops", stops::run),
        ("sandbox", sandbox::run),
        ("fuse", fuse::run),
    ];
    for (name, group) in groups {
        group(&course, report).with_context(|| format!("in the group {name}"))?;
    }
    Ok(())
}
