//! Signals that end the run: nothing is left behind, and a commit is not broken off.
//!
//! The run is *guarded* while something has a name on the disk or a program runs for it, and from the start as PID 1.
//! Guarded means that the ending signals are blocked, so that no signal can come between a call that makes a name and the
//! code that owns it. They are delivered only in [`check`] and [`wait`], which then return [`Interrupted`]; the clean-up is
//! `Drop`, in ordinary code. Not guarded, the default actions do all that is needed: an unnamed file goes with the process.
//!
//! Invariant: guarded code waits nowhere but in [`wait`].

use std::error::Error;
use std::fmt::{self, Display};
use std::os::fd::BorrowedFd;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::sys::{self, Errno, Event, Ready};

static HELD: AtomicBool = AtomicBool::new(false);

/// A signal came that ends the run. DEST is untouched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Interrupted(pub(crate) i32);

impl Display for Interrupted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "interrupted by signal {}", self.0)
    }
}

impl Error for Interrupted {}

/// Has signals wait from here on: something gets a name, or a program starts.
pub(crate) fn guard() -> Result<()> {
    sys::block_signals().context("cannot block signals")
}

/// Guards the run from its start where a signal would have no effect otherwise.
pub(crate) fn guard_if_init() -> Result<()> {
    if sys::is_init() { guard() } else { Ok(()) }
}

pub(crate) fn is_guarded() -> bool {
    sys::are_signals_blocked()
}

/// Has signals wait for the end of the run: the commit of many files has begun.
pub(crate) fn hold() {
    HELD.store(true, Relaxed);
}

/// Tells whether [`hold`] was called.
pub(crate) fn are_held() -> bool {
    HELD.load(Relaxed)
}

/// Returns the signal that came, if any. Costs nothing unless guarded.
pub(crate) fn check() -> Result<(), Interrupted> {
    if !is_guarded() || are_held() {
        return Ok(());
    }
    if sys::are_signals_pending() {
        // Without descriptors: one that is always ready hides a pending signal. EINTR says that one was delivered.
        let _ = sys::poll([], Some(Duration::ZERO));
    }
    match sys::first_signal() {
        Some(signal) => Err(Interrupted(signal)),
        None => Ok(()),
    }
}

/// Waits until one of the descriptors is ready, at most for `timeout`.
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
            // ENOMEM: the call that follows waits, or says what is wrong.
            Err(_) => return Ok([Ready::unknown(); N]),
        }
    }
}

/// Waits for a descriptor.
pub(crate) fn wait_for(file: BorrowedFd<'_>, event: Event) -> Result<Ready, Interrupted> {
    wait([(file, event)], None).map(|[ready]| ready)
}

/// Waits for some time.
pub(crate) fn pause(time: Duration) -> Result<(), Interrupted> {
    wait([], Some(time)).map(|[]| ())
}

/// Ends the guard at the end of the run: ends this process by the signal that came, or by one that is pending. Returns the
/// exit status where there is none, and as PID 1, which signals do not kill.
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

/// The status of a program that was killed by a signal, as shells give it.
pub(crate) fn exit_status(signal: i32) -> u8 {
    u8::try_from(128 + signal).unwrap_or(u8::MAX)
}
