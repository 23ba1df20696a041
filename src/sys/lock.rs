//! Locks of temporary files: flock.

use std::os::fd::AsFd;

use rustix::fs::{self, FlockOperation};
use rustix::io::retry_on_intr;

use super::Result;

/// Takes an exclusive flock(2) on an open file. Errors: EWOULDBLOCK if another process has it.
pub(crate) fn try_flock(file: impl AsFd) -> Result<()> {
    retry_on_intr(|| fs::flock(&file, FlockOperation::NonBlockingLockExclusive))
}
