//! Signals: nothing is left behind, and a commit is not broken off.
//!
//! The rule: while the new file has no name there is nothing to remove, and the default dispositions do all that is
//! needed: a signal kills, the kernel frees the file. Only a file that has a name needs a handler. From just before the
//! commit until the outcome is reported all signals wait; one that came meanwhile kills then, so that a shell sees it.

use std::ffi::CString;
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, OnceLock};

use anyhow::{Context, Result};

use crate::sys::{self, Doomed, Mask};

/// The mask as it was before the commit.
static BEFORE_COMMIT: OnceLock<Mask> = OnceLock::new();

/// Has a write beyond the file size limit (`ulimit -f`) fail with EFBIG, which can be told, and not kill.
pub(crate) fn survive_file_size_limit() {
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
    // Set already: a second commit in one run, within the first one's mask.
    let _ = BEFORE_COMMIT.set(before);
    Ok(())
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

/// Removes a file's temporary name if a signal kills us. Ends with its owner.
#[derive(Debug)]
pub(crate) struct RemoveOnDeath(Arc<Doomed>);

impl RemoveOnDeath {
    /// To be called [`without`] signals, in the same breath as the call that makes the name.
    pub(crate) fn arm(directory: BorrowedFd<'_>, name: &Path) -> Result<Self> {
        let doomed = Arc::new(Doomed {
            directory: directory.try_clone_to_owned()?,
            name: CString::new(name.as_os_str().as_bytes())?,
            armed: AtomicBool::new(true),
        });
        for signal in sys::ENDING {
            // One that was ignored when we started stays ignored (nohup).
            if !sys::is_ignored(signal) {
                sys::remove_on_signal(signal, &doomed)?;
            }
        }
        Ok(Self(doomed))
    }
}

impl Drop for RemoveOnDeath {
    fn drop(&mut self) {
        self.0.armed.store(false, SeqCst);
    }
}
