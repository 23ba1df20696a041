//! Death: SIGKILL and each signal that ends a program, at every system call of every form.
//!
//! Invariant: after each signal, DEST is the complete old file or the complete new one, with the
//! right attributes. SIGKILL leaves only what the manual allows. The next write to the same DEST
//! removes the derived name and the lock file, and does not touch random names. The other signals
//! leave nothing, and the program dies by them. A backup holds the old content as soon as DEST is
//! new. Only SIGKILL may tear a file that is overwritten in place.
//!
//! What these tests cannot see: a kill within a system call, which the kernel completes or does not
//! begin; and a crash of the machine, which is the part `power`. A signal is sent at the entry of a
//! call, and arrives at its end or interrupts its wait.

mod check;

use anyhow::Result;
use nix::sys::signal::Signal;

use self::check::check;
use crate::forms::{Form, Kind, try_all};
use crate::ground::{Ground, Length};
use crate::report::Report;
use crate::tracer::{Act, Call};

/// The report's row.
pub(crate) const KILLED: &str = "SIGKILL at every system call";

const KINDS: [Kind; 2] = [
    Kind {
        row: KILLED,
        acts: kills_at,
    },
    Kind {
        row: "SIGTERM, SIGINT and other signals at every system call",
        acts: signals_at,
    },
];

pub(crate) fn run(ground: &Ground, report: &mut Report) -> Result<()> {
    try_all(ground, report, &KINDS, check)
}

/// Between fork and exec the C library sets each signal's disposition anew, two calls for each:
/// every eighth will do.
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
