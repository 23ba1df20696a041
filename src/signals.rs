//! Signals that end the run. They leave no file behind and do not interrupt a commit.
//!
//! The run is *guarded* while something has a name on the disk or a program runs. As PID 1 it is
//! guarded from the start. While the run is guarded, the ending signals are blocked, so no signal
//! comes between a call that makes a name and the code that owns the name. Only [`check`] and
//! [`wait`] deliver them, and then return [`Interrupted`]. Ordinary code cleans up, in `Drop`.
//! While the run is not guarded, the default actions are enough, because an unnamed file vanishes
//! with the process.
//!
//! Invariant: guarded code waits only in [`wait`].

use std::error::Error;
use std::fmt::{self, Display};
use std::os::fd::BorrowedFd;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::sys::{self, Errno, Event, Ready};

static HELD: AtomicBool = AtomicBool::new(false);

/// A signal came that ends the run. DEST is unchanged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Interrupted(pub(crate) i32);

impl Display for Interrupted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "interrupted by signal {}", self.0)
    }
}

impl Error for Interrupted {}

/// Blocks the ending signals from here on: something gets a name, or a program starts.
pub(crate) fn guard() -> Result<()> {
    sys::block_signals().context("cannot block signals")
}

/// Guards the run from its start if it is PID 1, which default actions do not kill.
pub(crate) fn guard_if_init() -> Result<()> {
    if sys::is_init() { guard() } else { Ok(()) }
}

pub(crate) fn is_guarded() -> bool {
    sys::are_signals_blocked()
}

/// Defers signals to the end of the run: the commit of many files has begun.
pub(crate) fn hold() {
    HELD.store(true, Relaxed);
}

/// Returns true if [`hold`] was called.
pub(crate) fn are_held() -> bool {
    HELD.load(Relaxed)
}

/// Returns an error if a signal came. Makes no system call unless the run is guarded.
pub(crate) fn check() -> Result<(), Interrupted> {
    if !is_guarded() || are_held() {
        return Ok(());
    }
    if sys::are_signals_pending() {
        // Without descriptors, because one that is always ready hides a pending signal. EINTR means
        // that a signal was delivered.
        let _ = sys::poll([], Some(Duration::ZERO));
    }
    match sys::first_signal() {
        Some(signal) => Err(Interrupted(signal)),
        None => Ok(()),
    }
}

/// Waits until one of the descriptors is ready, for at most `timeout`.
pub(crate) fn wait<const N: usize>(
    wanted: [(BorrowedFd<'_>, Event); N],
    timeout: Option<Duration>,
) -> Result<[Ready; N], Interrupted> {
    let deadline = timeout.map(|timeout| Instant::now() + timeout);
    loop {
        check()?;
        let rest = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        match sys::poll(wanted, rest) {
            Err(Errno::INTR) => {}
            Ok(ready) => return Ok(ready),
            // ENOMEM: the following call on the descriptor waits or reports the error.
            Err(_) => return Ok([Ready::unknown(); N]),
        }
    }
}

/// Waits for a descriptor.
pub(crate) fn wait_for(file: BorrowedFd<'_>, event: Event) -> Result<Ready, Interrupted> {
    wait([(file, event)], None).map(|[ready]| ready)
}

/// Waits for `time` to pass.
pub(crate) fn pause(time: Duration) -> Result<(), Interrupted> {
    wait([], Some(time)).map(|[]| ())
}

/// Ends the run: kills this process with the signal that came or that is pending. Returns the exit
/// status if no signal came, and as PID 1, which signals do not kill.
pub(crate) fn finish(status: u8) -> u8 {
    HELD.store(false, Relaxed);
    match check() {
        Ok(()) => status,
        Err(Interrupted(signal)) => {
            sys::raise_default(signal);
            exit_status(signal)
        }
    }
}

/// Returns the exit status that a shell reports for a program that `signal` killed.
pub(crate) fn exit_status(signal: i32) -> u8 {
    u8::try_from(128 + signal).unwrap_or(u8::MAX)
}
