//! Signals: nothing is left behind, a program that runs for us gets them too, and a commit is not broken off.
//!
//! The rule: while the new file has no name there is nothing to remove, and the default dispositions do all that is
//! needed: a signal kills, the kernel frees the file. Only a name needs a handler, and a program that runs for us (we
//! die by the signal when it has ended). From just before the commit until the outcome is reported all signals wait; one
//! that came meanwhile kills then, so that a shell sees it.

use std::ffi::CString;
use std::mem;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use anyhow::{Context, Result};
use signal_hook::SigId;

use crate::sys::{self, Action, Doomed, Mask};

/// The mask as it was before the commit.
static BEFORE_COMMIT: OnceLock<Mask> = OnceLock::new();

/// The action that ends us, for each signal: always the last one, so that it comes after all removals.
static LAST: Mutex<Vec<SigId>> = Mutex::new(Vec::new());

/// Has a write beyond the file size limit (`ulimit -f`) fail with EFBIG, which can be told, and not kill.
pub(crate) fn survive_file_size_limit() {
    if !sys::has_file_size_limit() {
        return;
    }
    // A handler and not SIG_IGN: programs that we start have the default disposition again. If this fails, the signal
    // kills, DEST is untouched, and only the message is lost.
    drop(signal_hook::flag::register(
        sys::FILE_TOO_LARGE,
        Arc::new(AtomicBool::new(false)),
    ));
}

/// Holds back all signals until [`release`].
pub(crate) fn hold() -> Result<()> {
    let before = sys::block_signals().context("cannot hold back signals")?;
    // Set already: held once more within the first one's mask.
    let _ = BEFORE_COMMIT.set(before);
    Ok(())
}

/// There is something to tell. If nobody reads it, that must not make us deaf to signals too.
pub(crate) fn release_if_nobody_listens() {
    if BEFORE_COMMIT.get().is_some() && !sys::is_writable(std::io::stderr()) {
        release();
    }
}

/// Lets the signals come that were held back, if any were. May not return.
pub(crate) fn release() {
    if let Some(before) = BEFORE_COMMIT.get() {
        sys::restore_signals(before);
    }
}

/// Does something that no signal may interrupt half-way.
pub(crate) fn without<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    let before = sys::block_signals().context("cannot hold back signals")?;
    let done = work();
    sys::restore_signals(&before);
    done
}

/// Does something while no signal is held back, not even one that was when we started.
pub(crate) fn with_none_held<T>(work: impl FnOnce() -> T) -> Result<T> {
    let before = sys::unblock_signals().context("cannot let signals come")?;
    let done = work();
    sys::restore_signals(&before);
    Ok(done)
}

/// The signal that we have to die of, if one came while a program ran for us.
pub(crate) fn caught() -> Option<i32> {
    sys::caught()
}

/// Dies of a signal, so that whoever waits for us sees which.
pub(crate) fn die(signal: i32) {
    drop(signal_hook::low_level::emulate_default_handler(signal));
}

/// Removes a temporary name if a signal kills us. Ends with its owner.
#[derive(Debug)]
pub(crate) struct RemoveOnDeath(Arc<Doomed>);

impl RemoveOnDeath {
    /// To be called [`without`] signals, in the same breath as the call that makes the name. With `inside`, the name is
    /// that directory's, and the files in it go first.
    pub(crate) fn arm(
        directory: BorrowedFd<'_>,
        name: &Path,
        inside: Option<OwnedFd>,
    ) -> Result<Self> {
        let doomed = Arc::new(Doomed {
            directory: directory.try_clone_to_owned()?,
            name: CString::new(name.as_os_str().as_bytes())?,
            inside,
            armed: AtomicBool::new(true),
        });
        handle(Some(&doomed))?;
        Ok(Self(doomed))
    }
}

impl Drop for RemoveOnDeath {
    fn drop(&mut self) {
        self.0.armed.store(false, SeqCst);
    }
}

/// From here to its drop a program runs for us, or is about to: signals are for it, and we wait for its end.
#[derive(Debug)]
pub(crate) struct Attending(());

impl Attending {
    pub(crate) fn begin() -> Result<Self> {
        sys::hear_of_children();
        sys::set_child(sys::ABOUT_TO_START);
        let attending = Self(());
        // A signal between the handler and what it shall do would do nothing at all.
        without(|| handle(None))?;
        Ok(attending)
    }

    /// The program runs now; what came before is passed on.
    pub(crate) fn to(self, pid: u32) -> Self {
        sys::set_child(i32::try_from(pid).unwrap_or(sys::ABOUT_TO_START));
        if let Some(signal) = caught() {
            sys::pass_on(signal);
        }
        self
    }
}

impl Drop for Attending {
    fn drop(&mut self) {
        sys::set_child(0);
    }
}

fn handle(doomed: Option<&Arc<Doomed>>) -> Result<()> {
    let mut last = LAST.lock().unwrap_or_else(PoisonError::into_inner);
    let before = mem::take(&mut *last);
    for signal in sys::ENDING {
        // One that was ignored when we started stays ignored (nohup).
        if sys::is_ignored(signal) {
            continue;
        }
        if let Some(doomed) = doomed {
            sys::on_signal(signal, Action::Remove(Arc::clone(doomed)))?;
        }
        last.push(sys::on_signal(signal, Action::End)?);
    }
    for id in before {
        signal_hook::low_level::unregister(id);
    }
    Ok(())
}
