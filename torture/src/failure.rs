//! Failure at every step: each system call on files, with each error that it may have, and short reads and writes.
//!
//! The rule: the exit status and DEST agree. Status 0 means new, whole and with all that it should have; a failure means
//! untouched, with the same inode and time, or, with its own status, new; nothing is left; and the one line that is said
//! is in the form that was promised. What could not be put on the disk is no success, though DEST is new. A read or write
//! that does less than was asked for, or is interrupted, is no error.
//!
//! What it cannot see: what a call does that fails half-way: here it does nothing at all, only close does its work. Real
//! faults of real filesystems are another part.

mod errors;
mod judge;
mod verdict;

use anyhow::Result;
use nix::errno::Errno;

use self::errors::errors_of;
use self::judge::judge;
use crate::forms::{Case, Form, Kind, try_all};
use crate::ground::{Ground, Length};
use crate::report::Report;
use crate::tracer::{Act, Call};

const KINDS: [Kind; 3] = [
    Kind {
        row: "Every error at every system call",
        acts: errors_at,
    },
    Kind {
        row: "Short reads and writes at every call",
        acts: shortened,
    },
    Kind {
        row: "A disk that is gone, from every call on",
        acts: gone_at,
    },
];

/// Whether names could not be removed.
fn may_leave(case: &Case<'_>) -> bool {
    match case.act {
        Act::Fail(_) => matches!(&*case.call.name(), "unlink" | "unlinkat" | "rmdir"),
        Act::FailEver(_) => true,
        _ => false,
    }
}

fn errors_at(form: &Form, _at: usize, call: &Call, _length: Length) -> Vec<Act> {
    if form.lacks(call) {
        return Vec::new();
    }
    errors_of(&call.name())
        .iter()
        .copied()
        // The number is taken: then the next one is right, as the crowds show.
        .filter(|errno| !(*errno == Errno::EEXIST && form.makes_numbered_backup(call)))
        .map(Act::Fail)
        .collect()
}

fn shortened(form: &Form, _at: usize, call: &Call, _length: Length) -> Vec<Act> {
    let Some(asked) = call.asks_for().filter(|_| !form.lacks(call)) else {
        return Vec::new();
    };
    let mut acts = vec![Act::Interrupt];
    if asked > 1 {
        acts.push(Act::Shorten(1));
    }
    if asked > 3 {
        acts.push(Act::Shorten(asked / 2));
    }
    acts
}

fn gone_at(form: &Form, _at: usize, call: &Call, _length: Length) -> Vec<Act> {
    if call.changes() && !form.lacks(call) {
        vec![Act::FailEver(Errno::EIO), Act::FailEver(Errno::EROFS)]
    } else {
        Vec::new()
    }
}

pub(crate) fn run(ground: &Ground, report: &mut Report) -> Result<()> {
    try_all(ground, report, &KINDS, judge)
}
