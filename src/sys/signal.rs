//! Signals and waiting: masks, dispositions, and the one handler.
//!
//! Invariant: the handler only stores which signal came first, and counts. It runs only in [`poll`]
//! and while a program is started, because the signals are blocked everywhere else.

#![expect(
    unsafe_code,
    reason = "neither std nor rustix has stable calls for signals"
)]

use std::mem::{MaybeUninit, zeroed};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, Ordering::SeqCst};
use std::time::Duration;

pub(crate) use libc::{SIGCONT, SIGHUP, SIGTERM};
use rustix::process::{Pid, Signal, getpgid, getpgrp, kill_process};

use super::{Errno, Result};

/// A set of signals.
pub(crate) type Mask = libc::sigset_t;

/// The signals that end a process by default and that a process can handle.
const ENDING: [i32; 8] = [
    libc::SIGHUP,
    libc::SIGINT,
    libc::SIGQUIT,
    libc::SIGTERM,
    libc::SIGXCPU,
    libc::SIGALRM,
    libc::SIGUSR1,
    libc::SIGUSR2,
];

/// The signal mask from before [`block_signals`].
static ORIGINAL_MASK: OnceLock<Mask> = OnceLock::new();
/// Whether the handlers are set. Most runs do not need them, because they do not wait while the
/// signals are blocked.
static HANDLED: AtomicBool = AtomicBool::new(false);
/// The first signal that was delivered, or 0.
static FIRST: AtomicI32 = AtomicI32::new(0);
/// The si_code of the first signal.
static FIRST_CODE: AtomicI32 = AtomicI32::new(0);
/// The number of delivered signals.
static COUNT: AtomicU32 = AtomicU32::new(0);

extern "C" fn store(signal: i32, info: *mut libc::siginfo_t, _context: *mut libc::c_void) {
    if FIRST.compare_exchange(0, signal, SeqCst, SeqCst).is_ok() {
        // SAFETY: with SA_SIGINFO the kernel passes a valid siginfo_t, which lives until the
        // handler returns.
        FIRST_CODE.store(unsafe { (*info).si_code }, SeqCst);
    }
    COUNT.fetch_add(1, SeqCst);
}

extern "C" fn do_nothing(_signal: i32, _info: *mut libc::siginfo_t, _context: *mut libc::c_void) {}

/// Blocks the ending signals. A second call does nothing.
pub(crate) fn block_signals() -> Result<()> {
    if ORIGINAL_MASK.get().is_some() {
        return Ok(());
    }
    let mut blocked = MaybeUninit::<Mask>::uninit();
    let mut original = MaybeUninit::<Mask>::uninit();
    // SAFETY: sigemptyset initialises `blocked` before sigaddset and sigprocmask read it.
    // sigprocmask initialises `original` if it returns 0, and only then is it used.
    let original = unsafe {
        libc::sigemptyset(blocked.as_mut_ptr());
        for signal in ENDING {
            libc::sigaddset(blocked.as_mut_ptr(), signal);
        }
        if libc::sigprocmask(libc::SIG_BLOCK, blocked.as_ptr(), original.as_mut_ptr()) != 0 {
            return Err(last_errno());
        }
        original.assume_init()
    };
    // The lock is empty: this function returned early otherwise, and there is one thread.
    let _ = ORIGINAL_MASK.set(original);
    Ok(())
}

/// Sets the handler for the ending signals. Ignored signals stay ignored (nohup, background jobs of
/// a shell without job control). A second call does nothing.
pub(crate) fn handle_signals() {
    if !HANDLED.swap(true, SeqCst) {
        for signal in ENDING {
            // It cannot fail: the signals exist, and can be handled.
            if handle(signal, store) == Ok(libc::SIG_IGN) {
                ignore(signal);
            }
        }
    }
}

/// Returns true if an ending signal is pending, even an ignored one.
pub(crate) fn are_signals_pending() -> bool {
    let mut pending = MaybeUninit::<Mask>::uninit();
    // SAFETY: sigpending initialises the set if it returns 0, and only then is it read.
    unsafe {
        libc::sigpending(pending.as_mut_ptr()) == 0
            && ENDING
                .into_iter()
                .any(|signal| libc::sigismember(pending.as_ptr(), signal) == 1)
    }
}

/// Returns true if [`block_signals`] was called.
pub(crate) fn are_signals_blocked() -> bool {
    ORIGINAL_MASK.get().is_some()
}

/// Returns the first signal that was delivered since the signals were blocked.
pub(crate) fn first_signal() -> Option<i32> {
    Some(FIRST.load(SeqCst)).filter(|signal| *signal != 0)
}

/// Returns the number of signals delivered since the signals were blocked.
pub(crate) fn signal_count() -> u32 {
    COUNT.load(SeqCst)
}

/// Kills this process with the default action of `signal`. Returns only if the kernel does not
/// deliver the signal (PID 1).
pub(crate) fn raise_default(signal: i32) {
    set_default(signal);
    let mut only = MaybeUninit::<Mask>::uninit();
    // SAFETY: sigemptyset initialises the set before it is read; raise takes a number.
    unsafe {
        libc::sigemptyset(only.as_mut_ptr());
        libc::sigaddset(only.as_mut_ptr(), signal);
        libc::sigprocmask(libc::SIG_UNBLOCK, only.as_ptr(), ptr::null_mut());
        libc::raise(signal);
    }
}

/// Runs `start` with an empty signal mask, which the program that it starts inherits
/// (rust-lang/rust#101077). A signal that is delivered then is stored as usual.
pub(crate) fn with_empty_mask<T>(start: impl FnOnce() -> T) -> T {
    let mut empty = MaybeUninit::<Mask>::uninit();
    // SAFETY: sigemptyset initialises `empty`.
    let empty = unsafe {
        libc::sigemptyset(empty.as_mut_ptr());
        empty.assume_init()
    };
    with_mask(&empty, start)
}

/// Runs `work` with a signal mask.
pub(super) fn with_mask<T>(mask: &Mask, work: impl FnOnce() -> T) -> T {
    let mut before = MaybeUninit::<Mask>::uninit();
    // SAFETY: `mask` is an initialised set. sigprocmask with valid arguments cannot fail (POSIX:
    // EINVAL only), and initialises `before`.
    let before = unsafe {
        libc::sigprocmask(libc::SIG_SETMASK, mask, before.as_mut_ptr());
        before.assume_init()
    };
    let done = work();
    set_mask(&before);
    done
}

/// Makes a write beyond the file size limit (`ulimit -f`) fail with EFBIG instead of killing this
/// process. Uses an empty handler and not SIG_IGN, which programs started from here would inherit.
pub(crate) fn survive_file_size_limit() {
    // If this fails, the signal kills this process. DEST is unchanged, and only the message is
    // lost.
    if handle(libc::SIGXFSZ, do_nothing) == Ok(libc::SIG_IGN) {
        ignore(libc::SIGXFSZ);
    }
}

/// Makes a write to a pipe without a reader fail with EPIPE instead of killing this process. std
/// resets SIGPIPE to its default action in programs started from here.
pub(crate) fn ignore_broken_pipes() {
    ignore(libc::SIGPIPE);
}

/// Makes the kernel keep the exit status of child processes, even if this process inherited an
/// ignored SIGCHLD.
pub(crate) fn keep_child_status() {
    set_default(libc::SIGCHLD);
}

/// Returns true if the kernel sent the first signal, as for keys of a terminal (SI_KERNEL).
pub(crate) fn first_signal_is_from_kernel() -> bool {
    super::is_from_kernel(FIRST_CODE.load(SeqCst))
}

/// Returns true if a child process is in this process's group.
pub(crate) fn is_in_our_group(child: u32) -> bool {
    process(child).is_some_and(|child| getpgid(Some(child)) == Ok(getpgrp()))
}

/// Sends a signal to a child process. Does nothing if the child has ended.
pub(crate) fn send_signal(child: u32, signal: i32) {
    if let (Some(child), Some(signal)) = (process(child), Signal::from_named_raw(signal)) {
        let _ = kill_process(child, signal);
    }
}

/// Returns true if this process is the first of its PID namespace. The kernel does not deliver
/// signals with the default action to it (pid_namespaces(7)).
pub(crate) fn is_init() -> bool {
    rustix::process::getpid().is_init()
}

fn process(id: u32) -> Option<Pid> {
    i32::try_from(id).ok().and_then(Pid::from_raw)
}

/// What to wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Event {
    Readable,
    Writable,
}

/// The state of a descriptor after [`poll`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ready(i16);

impl Ready {
    /// The state after a wait that failed: the next call on the descriptor shows it.
    pub(crate) fn unknown() -> Self {
        Self(libc::POLLERR)
    }

    /// Returns true if a call on the descriptor would not wait.
    pub(crate) fn is_any(self) -> bool {
        self.0 != 0
    }

    /// Returns true if the other end is closed.
    pub(crate) fn has_hung_up(self) -> bool {
        self.0 & libc::POLLHUP != 0
    }
}

/// Waits until one of the descriptors is ready, for at most `timeout`. Delivers blocked signals,
/// even with a timeout of zero. Errors: EINTR if a signal was delivered.
pub(crate) fn poll<const N: usize>(
    wanted: [(BorrowedFd<'_>, Event); N],
    timeout: Option<Duration>,
) -> Result<[Ready; N]> {
    if are_signals_blocked() {
        handle_signals();
    }
    let mut files = wanted.map(|(file, event)| libc::pollfd {
        fd: file.as_raw_fd(),
        events: match event {
            Event::Readable => libc::POLLIN,
            Event::Writable => libc::POLLOUT,
        },
        revents: 0,
    });
    super::wait(&mut files, timeout, ORIGINAL_MASK.get())?;
    Ok(files.map(|file| Ready(file.revents)))
}

/// Sets a handler. Returns the previous disposition.
fn handle(
    signal: i32,
    handler: extern "C" fn(i32, *mut libc::siginfo_t, *mut libc::c_void),
) -> Result<libc::sighandler_t> {
    // SAFETY: all-zero is a valid sigaction; sigfillset initialises its mask; the handler is
    // async-signal-safe, because it uses atomics only.
    let (done, before) = unsafe {
        let mut action: libc::sigaction = zeroed();
        let mut before: libc::sigaction = zeroed();
        action.sa_sigaction = handler as libc::sighandler_t;
        action.sa_flags = libc::SA_SIGINFO;
        libc::sigfillset(&raw mut action.sa_mask);
        let done = libc::sigaction(signal, &raw const action, &raw mut before);
        (done, before.sa_sigaction)
    };
    if done == 0 {
        Ok(before)
    } else {
        Err(last_errno())
    }
}

fn ignore(signal: i32) {
    // SAFETY: SIG_IGN is a disposition that needs no function of ours.
    unsafe { libc::signal(signal, libc::SIG_IGN) };
}

fn set_default(signal: i32) {
    // SAFETY: SIG_DFL is a disposition that needs no function of ours.
    unsafe { libc::signal(signal, libc::SIG_DFL) };
}

fn set_mask(mask: &Mask) {
    // SAFETY: `mask` is an initialised set, and the call writes nothing back.
    unsafe { libc::sigprocmask(libc::SIG_SETMASK, mask, ptr::null_mut()) };
}

pub(super) fn last_errno() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::INVAL)
}
