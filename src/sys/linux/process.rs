//! Processes, and the names of users.

use std::ffi::CStr;
use std::os::fd::OwnedFd;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::super::Result;

/// Opens a pidfd, which becomes readable when the child process ends. `None` before Linux 5.3, and
/// if a seccomp filter forbids the call.
pub(crate) fn open_process(child: u32) -> Option<OwnedFd> {
    let child = i32::try_from(child).ok().and_then(Pid::from_raw)?;
    pidfd_open(child, PidfdFlags::empty()).ok()
}

/// Tells which of the descriptors 0, 1 and 2 are closed.
pub(crate) fn closed_streams() -> [bool; 3] {
    let (stdin, stdout, stderr) = (
        rustix::stdio::stdin(),
        rustix::stdio::stdout(),
        rustix::stdio::stderr(),
    );
    let mut streams =
        [stdin, stdout, stderr].map(|stream| PollFd::from_borrowed_fd(stream, PollFlags::empty()));
    // An error means ENOMEM, and then a later call fails too.
    let _ = poll(&mut streams, Some(&Timespec::default()));
    streams.map(|stream| stream.revents().contains(PollFlags::NVAL))
}

/// Returns `None`: a static binary that asks the C library for a user loads its modules, and could
/// crash.
pub(crate) fn user(_name: &CStr) -> Option<Result<Option<(u32, u32)>>> {
    None
}

/// Returns `None`, as [`user`] does.
pub(crate) fn group(_name: &CStr) -> Option<Result<Option<u32>>> {
    None
}
