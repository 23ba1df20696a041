//! The start of the process: the part of std's start-up before `main` that atomwrite needs.
//!
//! std asks for the stack's limits, sets up an alternate stack and handlers for stack overflow, and
//! ignores SIGPIPE. That takes 18 system calls, as many as all others of a small write. std also
//! opens a closed stdin as /dev/null, which looks like empty input. So `main` is our own (see
//! main.rs), and it begins with the functions of this module.

use std::ffi::{CStr, OsStr, OsString, c_char, c_int};
use std::os::fd::IntoRawFd;
use std::os::unix::ffi::OsStrExt;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use rustix::fs::{Mode, OFlags, open};

use super::NO_ACCESS;

static STDIN_WAS_CLOSED: AtomicBool = AtomicBool::new(false);

/// Returns true if descriptor 0 was closed when the process started.
pub(crate) fn stdin_was_closed() -> bool {
    STDIN_WAS_CLOSED.load(Relaxed)
}

/// Opens /dev/null for each of the descriptors 0, 1 and 2 that is closed. Otherwise a file of ours
/// could get that number, and a message would be written to it.
pub(crate) fn occupy_standard_streams() {
    let closed = super::closed_streams();
    STDIN_WAS_CLOSED.store(closed[0], Relaxed);
    // The kernel assigns the lowest free number. The descriptor stays open to the end.
    for _ in closed.iter().filter(|closed| **closed) {
        let null = open("/dev/null", OFlags::RDWR, Mode::empty())
            // Without /dev, use a descriptor that can be neither read nor written.
            .or_else(|_| open("/", NO_ACCESS, Mode::empty()));
        // If nothing can be opened, no file of ours can either.
        let _ = null.map(IntoRawFd::into_raw_fd);
    }
}

/// Returns the words of the command line, from the arguments of C's `main`.
#[expect(unsafe_code, reason = "they come as pointers")]
pub(crate) fn arguments(count: c_int, values: *const *const c_char) -> Vec<OsString> {
    let count = usize::try_from(count).unwrap_or(0);
    // SAFETY: `count` and `values` are those of C's `main`: so many pointers, each to a string that
    // ends in NUL and lives as long as the process (C11, 5.1.2.2.1).
    let words = (0..count).map(|word| unsafe { CStr::from_ptr(*values.add(word)) });
    words
        .map(|word| OsStr::from_bytes(word.to_bytes()).to_owned())
        .collect()
}
