//! The process and its terminal.

use std::os::fd::{AsFd, BorrowedFd};

use rustix::process::{Resource, getrlimit};

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

/// Returns true if the process has a file size limit.
pub(crate) fn has_file_size_limit() -> bool {
    getrlimit(Resource::Fsize).current.is_some()
}
