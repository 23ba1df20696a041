//! Failure: each system call on files, with each error that it can have, and short reads and
//! writes.
//!
//! Invariant: the exit status and DEST agree. Status 0 means new, complete and with all attributes.
//! A failure means unchanged, with the same inode and time, or, with a status of its own, new.
//! Nothing stays, and the message has the documented form. What could not be flushed is no success,
//! even if DEST is new. A short or interrupted read or write is no error.
//!
//! What these tests cannot see: calls that fail halfway. Here a failing call does nothing; only
//! close does its work. Real faults of real filesystems are the part `environment`.

mod check;
mod errors;
mod verdict;

use anyhow::Result;
use nix::errno::Errno;

use self::check::check;
use self::errors::errors_of;
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

/// Returns whether names could not be removed.
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
        // The number is taken: then the next one is right, as the part `concurrency` shows.
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
    try_all(ground, report, &KINDS, check)
}
