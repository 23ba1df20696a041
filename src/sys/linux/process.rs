//! Processes.

use std::os::fd::OwnedFd;

use rustix::process::{Pid, PidfdFlags, pidfd_open};

/// Opens a pidfd, which becomes readable when the child process ends. `None` before Linux 5.3, and
/// if a seccomp filter forbids the call.
pub(crate) fn open_process(child: u32) -> Option<OwnedFd> {
    let child = i32::try_from(child).ok().and_then(Pid::from_raw)?;
    pidfd_open(child, PidfdFlags::empty()).ok()
}
