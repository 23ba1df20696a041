//! A new terminal.

use std::fs::File;
use std::os::fd::{FromRawFd, OwnedFd};

/// The two ends of a new terminal; what is written to the first is typed at the second.
pub(crate) fn terminal() -> (File, OwnedFd) {
    let (mut ours, mut theirs) = (-1, -1);
    #[expect(
        unsafe_code,
        reason = "a terminal can be had in no other way without another crate"
    )]
    // SAFETY: both pointers are to integers that live until the call returns; null asks for
    // defaults. The two descriptors are new and have no other owner.
    let (ours, theirs) = unsafe {
        let (name, how, size) = (std::ptr::null_mut(), std::ptr::null(), std::ptr::null());
        assert_eq!(
            libc::openpty(&raw mut ours, &raw mut theirs, name, how, size),
            0
        );
        (OwnedFd::from_raw_fd(ours), OwnedFd::from_raw_fd(theirs))
    };
    for end in [&ours, &theirs] {
        rustix::io::fcntl_setfd(end, rustix::io::FdFlags::CLOEXEC).unwrap();
    }
    (File::from(ours), theirs)
}
