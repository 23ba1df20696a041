//! The process and its terminal.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::retry_on_intr;
use rustix::process::{
    Pid, PidfdFlags, Resource, WaitId, WaitIdOptions, getrlimit, pidfd_open, waitid,
};

use super::{Errno, Result};

/// The signal that asks a program to end.
pub(crate) const PLEASE_END: i32 = libc::SIGTERM;

/// Standard input.
pub(crate) fn stdin() -> BorrowedFd<'static> {
    rustix::stdio::stdin()
}

/// Tells whether a person types into, or reads from, this descriptor.
pub(crate) fn is_terminal(file: impl AsFd) -> bool {
    rustix::termios::isatty(file)
}

/// Waits for the end of a program that we started, and leaves its status to be collected.
pub(crate) fn wait_for_end(pid: u32) -> Result<()> {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
    retry_on_intr(|| waitid(WaitId::Pid(child(pid)?), options)).map(|_| ())
}

/// Waits for the end of a program that we started, but not for long; tells whether it has ended.
pub(crate) fn ends_within(pid: u32, time: Duration) -> Result<bool> {
    if !time.is_zero() {
        match pidfd_open(child(pid)?, PidfdFlags::empty()) {
            Ok(ending) => drop(is_readable_within(ending, time)?),
            // ENOSYS before Linux 5.3.
            Err(_) => pause(time),
        }
    }
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
    retry_on_intr(|| waitid(WaitId::Pid(child(pid)?), options)).map(|ended| ended.is_some())
}

fn child(pid: u32) -> Result<Pid> {
    i32::try_from(pid)
        .ok()
        .and_then(Pid::from_raw)
        .ok_or(Errno::SRCH)
}

/// Waits until a descriptor can be read from, or is at its end, but not for long.
pub(crate) fn is_readable_within(file: impl AsFd, time: Duration) -> Result<bool> {
    let mut wanted = [PollFd::new(&file, PollFlags::IN)];
    match poll(&mut wanted, Timespec::try_from(time).ok().as_ref()) {
        // A signal came: ask again later.
        Err(Errno::INTR) => Ok(false),
        ready => ready.map(|ready| ready > 0),
    }
}

/// Waits, or until a signal comes.
pub(crate) fn pause(time: Duration) {
    // EINTR is no error here.
    let _ = poll(&mut [], Timespec::try_from(time).ok().as_ref());
}

/// Tells whether a write can go beyond the file size limit.
pub(crate) fn has_file_size_limit() -> bool {
    getrlimit(Resource::Fsize).current.is_some()
}

/// Tells whether a write to the descriptor would not wait.
pub(crate) fn is_writable(file: impl AsFd) -> bool {
    let mut wanted = [PollFd::new(&file, PollFlags::OUT)];
    poll(&mut wanted, Some(&Timespec::default())).is_ok_and(|ready| ready > 0)
}
