//! The process, its children and its terminal.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::process::{Pid, PidfdFlags, Resource, getrlimit, pidfd_open};

/// Standard input.
pub(crate) fn stdin() -> BorrowedFd<'static> {
    rustix::stdio::stdin()
}

/// Returns true if the descriptor is a terminal.
pub(crate) fn is_terminal(file: impl AsFd) -> bool {
    rustix::termios::isatty(file)
}

/// Returns the width of a terminal, if it reports one.
pub(crate) fn terminal_columns(file: impl AsFd) -> Option<u16> {
    let size = rustix::termios::tcgetwinsize(file).ok()?;
    Some(size.ws_col).filter(|columns| *columns > 0)
}

/// Opens a pidfd, which becomes readable when the child process ends. `None` before Linux 5.3, and
/// if a seccomp filter forbids the call.
pub(crate) fn open_process(child: u32) -> Option<OwnedFd> {
    let child = i32::try_from(child).ok().and_then(Pid::from_raw)?;
    pidfd_open(child, PidfdFlags::empty()).ok()
}

/// Returns true if the process has a file size limit.
pub(crate) fn has_file_size_limit() -> bool {
    getrlimit(Resource::Fsize).current.is_some()
}
