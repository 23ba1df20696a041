//! Content: what the kernel could do by itself, all of it left to read and write.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::{FdFlags, fcntl_setfd, retry_on_intr};

use super::super::{Errno, Result, Waiting};

/// Does nothing: only speed depends on the capacity of a pipe.
pub(crate) fn enlarge_pipe(_pipe: BorrowedFd<'_>, _size: usize) {}

/// Cannot be done. Errors: ENOSYS.
pub(crate) fn splice(
    _from: BorrowedFd<'_>,
    _to: BorrowedFd<'_>,
    _length: usize,
    _waiting: Waiting,
) -> Result<usize> {
    Err(Errno::NOSYS)
}

/// Cannot be done. Errors: ENOSYS. macOS clones a file to a new name only (clonefile(2)), and our
/// file has one already.
pub(crate) fn clone_file(_from: BorrowedFd<'_>, _to: BorrowedFd<'_>) -> Result<()> {
    Err(Errno::NOSYS)
}

/// Cannot be done. Errors: ENOSYS.
pub(crate) fn copy_range(
    _from: BorrowedFd<'_>,
    _read_at: u64,
    _to: BorrowedFd<'_>,
    _write_at: u64,
    _length: u64,
) -> Result<u64> {
    Err(Errno::NOSYS)
}

/// Does nothing: only speed depends on when writeback starts.
pub(crate) fn start_writeback(_file: BorrowedFd<'_>, _offset: u64, _length: u64) {}

/// Waits until content and attributes are on the disk. Never call it again after an error: the
/// kernel may already have marked the dirty pages clean.
#[cfg(not(target_os = "macos"))]
pub(crate) fn sync_file(file: impl AsFd) -> Result<()> {
    retry_on_intr(|| rustix::fs::fsync(&file))
}

/// Waits until content and attributes are on the disk. fsync(2) of macOS: "the disk drive may also
/// re-order the data"; `F_FULLFSYNC` has the drive flush its buffers, and fcntl(2) names the
/// filesystems that have it. Where it is refused, fsync is the best there is.
#[cfg(target_os = "macos")]
pub(crate) fn sync_file(file: impl AsFd) -> Result<()> {
    match retry_on_intr(|| rustix::fs::fcntl_fullfsync(&file)) {
        Err(Errno::NOTSUP | Errno::OPNOTSUPP | Errno::NOTTY | Errno::INVAL | Errno::NOSYS) => {
            match retry_on_intr(|| rustix::fs::fsync(&file)) {
                Err(Errno::NOTSUP) => Err(Errno::OPNOTSUPP),
                synced => synced,
            }
        }
        synced => synced,
    }
}

/// Cannot be done: sync(2) reports no error, and need not wait (POSIX). Errors: ENOSYS.
pub(crate) fn sync_filesystem(_file: impl AsFd) -> Result<()> {
    Err(Errno::NOSYS)
}

/// Does nothing: posix_fallocate(3) changes the size.
#[expect(clippy::unnecessary_wraps, reason = "as on Linux")]
pub(crate) fn preallocate(_file: impl AsFd, _offset: u64, _length: u64) -> Result<()> {
    Ok(())
}

/// Makes a pipe. Returns its reading end and its writing end.
pub(crate) fn pipe() -> Result<(OwnedFd, OwnedFd)> {
    let (read, write) = rustix::pipe::pipe()?;
    fcntl_setfd(&read, FdFlags::CLOEXEC)?;
    fcntl_setfd(&write, FdFlags::CLOEXEC)?;
    Ok((read, write))
}
