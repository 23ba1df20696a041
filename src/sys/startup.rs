//! What can only be seen before `main`: std reopens a closed stdin as /dev/null, and then it looks like empty input.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

static STDIN_WAS_CLOSED: AtomicBool = AtomicBool::new(false);

/// Tells whether descriptor 0 was closed when the process started.
pub(crate) fn stdin_was_closed() -> bool {
    STDIN_WAS_CLOSED.load(Relaxed)
}

extern "C" fn look_at_stdin() {
    if rustix::io::fcntl_getfd(rustix::stdio::stdin()).is_err() {
        STDIN_WAS_CLOSED.store(true, Relaxed);
    }
}

#[expect(
    unsafe_code,
    reason = "the attribute places the pointer where the loader calls it before std's own start-up"
)]
// SAFETY: `.init_array` holds pointers to C functions; the loader calls each once, on the main thread, before `main`.
// This one makes a single system call and stores to an atomic; it needs nothing that std sets up.
#[used]
#[unsafe(link_section = ".init_array")]
static LOOK_AT_STDIN: extern "C" fn() = look_at_stdin;
