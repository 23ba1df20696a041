//! Signals: masks and dispositions. What is done about them is in the room `signals`.

use std::ffi::CString;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering::SeqCst};

use rustix::fs::{AtFlags, unlinkat};
use rustix::process::{Pid, Signal, getpgid, getpgrp, kill_process};
use signal_hook::SigId;

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
pub(crate) fn block_signals() -> Result<Mask> {
    set_mask(libc::sigfillset)
}

/// Holds back none; gives the mask as it was.
pub(crate) fn unblock_signals() -> Result<Mask> {
    set_mask(libc::sigemptyset)
}

#[expect(
    unsafe_code,
    reason = "neither std nor rustix has a stable call for it"
)]
fn set_mask(fill: unsafe extern "C" fn(*mut Mask) -> i32) -> Result<Mask> {
    let mut new = MaybeUninit::<Mask>::uninit();
    let mut before = MaybeUninit::<Mask>::uninit();
    // SAFETY: `fill`, sigfillset or sigemptyset, initialises `new` before it is read, sigprocmask initialises `before` if
    // it returns 0, and `before` is taken for initialised only then. This process has one thread.
    unsafe {
        fill(new.as_mut_ptr());
        if libc::sigprocmask(libc::SIG_SETMASK, new.as_ptr(), before.as_mut_ptr()) != 0 {
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

/// Has a write to a pipe that nobody reads fail with EPIPE, and not kill. Programs that we start die of it again.
#[expect(
    unsafe_code,
    reason = "neither std nor rustix has a stable call for it"
)]
pub(crate) fn ignore_broken_pipes() {
    // SAFETY: SIG_IGN is a disposition that needs no function of ours.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) };
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

/// A name that a signal shall remove, while it is armed.
#[derive(Debug)]
pub(crate) struct Doomed {
    pub(crate) directory: OwnedFd,
    pub(crate) name: CString,
    /// The name is this directory's, and what is in it goes first.
    pub(crate) inside: Option<OwnedFd>,
    pub(crate) armed: AtomicBool,
}

impl Doomed {
    /// Removes it, once. There is nobody to tell of an error; the next write to the same DEST removes what is left.
    fn remove(&self) {
        if !self.armed.swap(false, SeqCst) {
            return;
        }
        let flags = match &self.inside {
            None => AtFlags::empty(),
            Some(inside) => {
                super::empty_directory(inside.as_fd());
                AtFlags::REMOVEDIR
            }
        };
        let _ = unlinkat(self.directory.as_fd(), self.name.as_c_str(), flags);
    }
}

/// In place of a process id: there is none yet, but soon.
pub(crate) const ABOUT_TO_START: i32 = -1;

/// The program that runs for us, 0 if none: a signal is for it first.
static CHILD: AtomicI32 = AtomicI32::new(0);
/// The first signal that came while a program ran for us, 0 if none.
static CAUGHT: AtomicI32 = AtomicI32::new(0);

/// A program starts (its process id) or has ended (0).
pub(crate) fn set_child(pid: i32) {
    CHILD.store(pid, SeqCst);
}

/// The signal that ended the program which ran for us, and that shall end us.
pub(crate) fn caught() -> Option<i32> {
    Some(CAUGHT.load(SeqCst)).filter(|signal| *signal != 0)
}

/// Passes a caught signal on to the program that runs for us.
pub(crate) fn pass_on(signal: i32) {
    let child = CHILD.load(SeqCst).max(0);
    if let (Some(pid), Some(signal)) = (Pid::from_raw(child), Signal::from_named_raw(signal)) {
        // It has ended; then there is nobody to tell.
        let _ = kill_process(pid, signal);
    }
}

/// Whether the terminal has sent the signal to our whole group (SI_KERNEL), and the program that runs for us is in it: a
/// second one would be one too many. A hangup goes to the session's leader alone, which may be us.
fn child_got_it_too(signal: i32, info: &libc::siginfo_t) -> bool {
    let child = Pid::from_raw(CHILD.load(SeqCst).max(0));
    info.si_code > libc::SI_USER
        && signal != libc::SIGHUP
        && child.is_some_and(|child| getpgid(Some(child)).is_ok_and(|group| group == getpgrp()))
}

/// Has the ends of programs that we start be kept for us, also where our parent does not want to hear of its own.
#[expect(
    unsafe_code,
    reason = "neither std nor rustix has a stable call for it"
)]
pub(crate) fn hear_of_children() {
    // SAFETY: SIG_DFL is a disposition that needs no function of ours.
    unsafe { libc::signal(libc::SIGCHLD, libc::SIG_DFL) };
}

/// What is done on a signal.
#[derive(Debug, Clone)]
pub(crate) enum Action {
    /// Remove a name, unless a program runs for us: then it is removed when that has ended.
    Remove(Arc<Doomed>),
    /// Do what the signal does by default; while a program runs for us, note it and pass it on.
    End,
}

/// Adds an action to a signal; actions run in the order in which they were added.
#[expect(
    unsafe_code,
    reason = "a handler may do little, and the compiler cannot see what it does"
)]
pub(crate) fn on_signal(signal: i32, action: Action) -> std::io::Result<SigId> {
    let act = move |info: &libc::siginfo_t| {
        let child_runs = CHILD.load(SeqCst) != 0;
        match &action {
            Action::Remove(doomed) if !child_runs => {
                // A second signal would find the removal begun, and kill us before it is done. The first one kills.
                let _ = block_signals();
                doomed.remove();
            }
            Action::Remove(_) => {}
            Action::End if child_runs => {
                // The first one counts, and is what the caller sees us die of.
                let _ = CAUGHT.compare_exchange(0, signal, SeqCst, SeqCst);
                if !child_got_it_too(signal, info) {
                    pass_on(signal);
                }
            }
            // Fails for unknown signals only; then the signal does nothing more.
            Action::End => drop(signal_hook::low_level::emulate_default_handler(signal)),
        }
    };
    // SAFETY: the action is async-signal-safe: atomics, raw system calls with arguments that exist already, and a
    // function of which signal-hook promises it. It allocates and frees nothing, as what it holds lives on in the
    // registry.
    unsafe { signal_hook_registry::register_sigaction(signal, act) }
}

fn last_errno() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::INVAL)
}
