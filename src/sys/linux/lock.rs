//! Open file description locks (fcntl_locking(2)).

use std::os::fd::{AsFd, AsRawFd};

use rustix::io::retry_on_intr;

use super::super::{Errno, Result};

/// Takes the write lock on a whole file, for this open file description. `file` must be open for
/// writing. Unlike flock, the lock holds between an NFS server and its clients. Errors: EAGAIN, or
/// EACCES on cifs, if another process has a lock; ENOLCK if the filesystem has no locks.
pub(crate) fn try_lock(file: impl AsFd) -> Result<()> {
    let mut lock = libc::flock {
        l_type: TYPE,
        l_whence: WHENCE,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    };
    let file = file.as_fd().as_raw_fd();
    retry_on_intr(|| {
        #[expect(unsafe_code, reason = "rustix does not have this command")]
        // SAFETY: takes an open descriptor and a pointer to a lock that lives until the call
        // returns.
        let done = unsafe { libc::fcntl(file, libc::F_OFD_SETLK, &raw mut lock) };
        if done == 0 {
            return Ok(());
        }
        let error = std::io::Error::last_os_error();
        Err(Errno::from_io_error(&error).unwrap_or(Errno::INVAL))
    })
}

/// `F_WRLCK` and `SEEK_SET`, in the widths of the structure.
#[expect(clippy::cast_possible_truncation, reason = "1 and 0")]
const TYPE: libc::c_short = libc::F_WRLCK as libc::c_short;
#[expect(clippy::cast_possible_truncation, reason = "1 and 0")]
const WHENCE: libc::c_short = libc::SEEK_SET as libc::c_short;
