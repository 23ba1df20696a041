//! Processes, and locks between them.

use std::os::fd::{AsFd, OwnedFd};

use super::super::{Errno, Result, try_flock};

/// Returns `None`: only Linux has a descriptor that becomes readable when a child process ends.
pub(crate) fn open_process(_child: u32) -> Option<OwnedFd> {
    None
}

/// Takes the lock on a whole file, for this open file description, by flock(2). The locks of
/// fcntl(2) belong to the process, and end when it closes any descriptor of the file (POSIX).
/// Errors: EAGAIN if another process has a lock.
pub(crate) fn try_lock(file: impl AsFd) -> Result<()> {
    try_flock(file)
}

/// Tells which of the descriptors 0, 1 and 2 are closed. poll(2) of macOS "does not support
/// devices", so it is not asked.
pub(crate) fn closed_streams() -> [bool; 3] {
    let (stdin, stdout, stderr) = (
        rustix::stdio::stdin(),
        rustix::stdio::stdout(),
        rustix::stdio::stderr(),
    );
    [stdin, stdout, stderr].map(|stream| rustix::io::fcntl_getfd(stream) == Err(Errno::BADF))
}
