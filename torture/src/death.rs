//! Death at every step: SIGKILL and each signal that ends a program, at every system call of every form.
//!
//! The rule: after each, DEST is the whole old file or the whole new one, and looks as it should. What SIGKILL leaves is
//! what the manual allows. The next write to the same DEST removes the derived name and the lock file, and leaves alone
//! what has a random name. The other signals leave nothing, and the program dies by them. A backup holds the old content
//! from the moment on at which DEST is new. A file that is overwritten in place can be torn by SIGKILL only.
//!
//! What it cannot see: a death within a call (the kernel does one of ours whole or not at all, and power cuts are another
//! part), and the death of the machine. A signal is sent at the entry of a call and arrives at its end, or breaks it off
//! if it waits.

mod judge;

use anyhow::Result;
use nix::sys::signal::Signal;

use self::judge::judge;
use crate::forms::{Form, Kind, try_all};
use crate::ground::{Ground, Length};
use crate::report::Report;
use crate::tracer::{Act, Call};

const KINDS: [Kind; 2] = [
    Kind {
        row: "SIGKILL at every system call",
        acts: kills_at,
    },
    Kind {
        row: "SIGTERM, SIGINT and other signals at every system call",
        acts: signals_at,
    },
];

pub(crate) fn run(ground: &Ground, report: &mut Report) -> Result<()> {
    try_all(ground, report, &KINDS, judge)
}

/// Between fork and exec the C library sets each signal's disposition anew, two calls for each: every eighth will do.
fn is_repetition(call: &Call) -> bool {
    !call.by_main() && call.name() == "rt_sigaction" && call.nth() % 8 != 0
}

/// One of them at each call.
const OTHERS: [Signal; 6] = [
    Signal::SIGHUP,
    Signal::SIGQUIT,
    Signal::SIGXCPU,
    Signal::SIGALRM,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
];

fn kills_at(form: &Form, _at: usize, call: &Call, _length: Length) -> Vec<Act> {
    if form.lacks(call) || is_repetition(call) {
        return Vec::new();
    }
    let mut acts = vec![Act::Kill];
    // What it has started lives on.
    if form.starts_others() {
        acts.push(Act::KillMain);
    }
    if call.names() {
        acts.push(Act::KillAfter);
    }
    acts
}

/// If time is short, each call has one of them.
fn signals_at(form: &Form, at: usize, call: &Call, length: Length) -> Vec<Act> {
    if form.lacks(call) || is_repetition(call) {
        return Vec::new();
    }
    let all = [
        Act::Signal(Signal::SIGTERM),
        Act::SignalAll(Signal::SIGINT),
        Act::SignalAll(OTHERS[at / 3 % OTHERS.len()]),
    ];
    match length {
        Length::Short => vec![all[at % all.len()]],
        Length::Long => all.to_vec(),
    }
}
