//! The first and the last moment: what std's start-up does before `main`, done here as far as it is needed.
//!
//! std asks for the stack's limits, sets up a second stack and handlers for its overflow, and ignores SIGPIPE: 18 system
//! calls, of which a small write makes as many again in all. And it opens a closed stdin as /dev/null, where it looks
//! like empty input. So `main` is ours (see main.rs), and this is what it begins with.

use std::ffi::{CStr, OsStr, OsString, c_char, c_int};
use std::os::fd::IntoRawFd;
use std::os::unix::ffi::OsStrExt;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags, open};

static STDIN_WAS_CLOSED: AtomicBool = AtomicBool::new(false);

/// Tells whether descriptor 0 was closed when the process started.
pub(crate) fn stdin_was_closed() -> bool {
    STDIN_WAS_CLOSED.load(Relaxed)
}

/// Puts something on those of the descriptors 0, 1 and 2 that are closed, so that no file of ours gets such a number and
/// is written to by a message.
pub(crate) fn occupy_standard_streams() {
    let (stdin, stdout, stderr) = (
        rustix::stdio::stdin(),
        rustix::stdio::stdout(),
        rustix::stdio::stderr(),
    );
    let mut streams =
        [stdin, stdout, stderr].map(|stream| PollFd::from_borrowed_fd(stream, PollFlags::empty()));
    // An error here says that memory is short, and then the next call says so too.
    let _ = poll(&mut streams, Some(&Timespec::default()));
    let closed = streams.map(|stream| stream.revents().contains(PollFlags::NVAL));
    STDIN_WAS_CLOSED.store(closed[0], Relaxed);
    // The kernel gives the lowest number that is free. It stays open to the end.
    for _ in closed.iter().filter(|closed| **closed) {
        let null = open("/dev/null", OFlags::RDWR, Mode::empty())
            // No /dev: anything will do that can be neither read nor written.
            .or_else(|_| open("/", OFlags::PATH, Mode::empty()));
        // Nothing could be opened at all: there will be no file of ours either.
        let _ = null.map(IntoRawFd::into_raw_fd);
    }
}

/// The words of the command line, as C's `main` gets them.
#[expect(unsafe_code, reason = "they come as pointers")]
pub(crate) fn arguments(count: c_int, values: *const *const c_char) -> Vec<OsString> {
    let count = usize::try_from(count).unwrap_or(0);
    // SAFETY: `count` and `values` are those of C's `main`: so many pointers, each to a string that ends in NUL and
    // lives as long as the process (C11, 5.1.2.2.1).
    let words = (0..count).map(|word| unsafe { CStr::from_ptr(*values.add(word)) });
    words
        .map(|word| OsStr::from_bytes(word.to_bytes()).to_owned())
        .collect()
}
