//! The process and its terminal.

use std::os::fd::{AsFd, BorrowedFd};

/// Standard input.
pub(crate) fn stdin() -> BorrowedFd<'static> {
    rustix::stdio::stdin()
}

/// Tells whether a person types into, or reads from, this descriptor.
pub(crate) fn is_terminal(file: impl AsFd) -> bool {
    rustix::termios::isatty(file)
}
