//! Signals: masks and dispositions. What is done about them is in the room `signals`.

use std::ffi::CString;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use rustix::fs::{AtFlags, unlinkat};

use super::{Errno, Result};

/// A set of signals.
pub(crate) type Mask = libc::sigset_t;

/// The signals by which a user, a shell or the system ends a program, and which it can answer.
pub(crate) const ENDING: [i32; 5] = [
    libc::SIGHUP,
    libc::SIGINT,
    libc::SIGQUIT,
    libc::SIGTERM,
    libc::SIGXCPU,
];

/// The signal for a write beyond the file size limit.
pub(crate) const FILE_TOO_LARGE: i32 = libc::SIGXFSZ;

/// Holds back all signals that can be held back; gives the mask as it was.
#[expect(
    unsafe_code,
    reason = "neither std nor rustix has a stable call for it"
)]
pub(crate) fn block_signals() -> Result<Mask> {
    let mut all = MaybeUninit::<Mask>::uninit();
    let mut before = MaybeUninit::<Mask>::uninit();
    // SAFETY: sigfillset initialises `all` before it is read, sigprocmask initialises `before` if it returns 0, and
    // `before` is taken for initialised only then. This process has one thread.
    unsafe {
        libc::sigfillset(all.as_mut_ptr());
        if libc::sigprocmask(libc::SIG_SETMASK, all.as_ptr(), before.as_mut_ptr()) != 0 {
            return Err(last_errno());
        }
        Ok(before.assume_init())
    }
}

/// Puts a mask back; a signal that was held back and is not in it arrives before this returns.
#[expect(
    unsafe_code,
    reason = "neither std nor rustix has a stable call for it"
)]
pub(crate) fn restore_signals(mask: &Mask) {
    // SAFETY: `mask` is an initialised set, and the call writes nothing back.
    unsafe { libc::sigprocmask(libc::SIG_SETMASK, mask, ptr::null_mut()) };
}

/// Tells whether a signal is ignored (nohup, a background job of a shell without job control).
#[expect(
    unsafe_code,
    reason = "neither std nor rustix has a stable call for it"
)]
pub(crate) fn is_ignored(signal: i32) -> bool {
    let mut now = MaybeUninit::<libc::sigaction>::uninit();
    // SAFETY: with a null new action the call only writes `now`, which is read only if the call returned 0.
    unsafe {
        libc::sigaction(signal, ptr::null(), now.as_mut_ptr()) == 0
            && now.assume_init().sa_sigaction == libc::SIG_IGN
    }
}

/// A name in a directory that a signal shall remove, while it is armed.
#[derive(Debug)]
pub(crate) struct Doomed {
    pub(crate) directory: OwnedFd,
    pub(crate) name: CString,
    pub(crate) armed: AtomicBool,
}

/// On `signal`, removes the name if it is armed, and then does what the signal does by default.
#[expect(
    unsafe_code,
    reason = "a handler may do little, and the compiler cannot see what it does"
)]
pub(crate) fn remove_on_signal(signal: i32, doomed: &Arc<Doomed>) -> std::io::Result<()> {
    let doomed = Arc::clone(doomed);
    let remove_and_die = move || {
        if doomed.armed.swap(false, SeqCst) {
            // There is nobody to tell, and the next write to the same DEST removes what is left.
            let _ = unlinkat(
                doomed.directory.as_fd(),
                doomed.name.as_c_str(),
                AtFlags::empty(),
            );
        }
        // Fails for unknown signals only; then the signal does nothing more.
        drop(signal_hook::low_level::emulate_default_handler(signal));
    };
    // SAFETY: the action is async-signal-safe: an atomic swap, one raw system call with arguments that exist already,
    // and a function of which signal-hook promises it. It allocates and frees nothing, as the Arc lives on in the
    // registry.
    unsafe { signal_hook::low_level::register(signal, remove_and_die) }.map(|_| ())
}

fn last_errno() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::INVAL)
}
