//! Owner and mode.

use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::{self, Gid, Mode, Uid};
use rustix::io::retry_on_intr;

use super::status::{bits, permissions};
use super::{Handle, Result};

/// An open file whose attributes can be read.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Readable<'f> {
    /// Opened for reading.
    File(BorrowedFd<'f>),
    /// We may not read the file.
    Handle(&'f Handle),
}

/// Changes owner and group; `None` leaves one as it is. Clears the set-id bits and
/// security.capability.
pub(crate) fn set_owner(file: impl AsFd, uid: Option<u32>, gid: Option<u32>) -> Result<()> {
    retry_on_intr(|| fs::fchown(&file, uid.map(Uid::from_raw), gid.map(Gid::from_raw)))
}

/// Changes the permission bits, 07777. In the presence of an ACL, the group bits are its mask.
pub(crate) fn set_mode(file: impl AsFd, mode: u32) -> Result<()> {
    retry_on_intr(|| fs::fchmod(&file, permissions(mode)))
}

/// Returns the umask. Only for a process with one thread, because reading the umask sets it for a
/// moment.
pub(crate) fn umask() -> u32 {
    let mask = rustix::process::umask(Mode::empty());
    rustix::process::umask(mask);
    bits(mask.as_raw_mode())
}
