//! Content: copying in the kernel, preallocating, and syncing.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::{self, FallocateFlags};
use rustix::io::retry_on_intr;
use rustix::pipe::SpliceFlags;

use super::super::{Errno, Result, Waiting};

/// Sets the capacity of a pipe. Does nothing if `pipe` is not a pipe or the size is not permitted,
/// because only speed depends on the capacity.
pub(crate) fn enlarge_pipe(pipe: BorrowedFd<'_>, size: usize) {
    // EBADF: not a pipe. EPERM: above fs.pipe-max-size or the user's limit. EBUSY: it holds more.
    let _ = rustix::pipe::fcntl_setpipe_size(pipe, size);
}

/// Moves up to `length` bytes in the kernel, from a pipe to a pipe or a file. Returns their number,
/// or 0 at end of file. Errors: with [`Waiting::Never`], EAGAIN if the pipe is empty, even without
/// O_NONBLOCK.
pub(crate) fn splice(
    from: BorrowedFd<'_>,
    to: BorrowedFd<'_>,
    length: usize,
    waiting: Waiting,
) -> Result<usize> {
    let flags = match waiting {
        Waiting::Allowed => SpliceFlags::MOVE,
        Waiting::Never => SpliceFlags::MOVE | SpliceFlags::NONBLOCK,
    };
    retry_on_intr(|| rustix::pipe::splice(from, None, to, None, length, flags))
}

/// Makes `to` a clone that shares all of `from`'s blocks. An error changes nothing, and may mean
/// that the filesystem cannot clone.
pub(crate) fn clone_file(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> Result<()> {
    fs::ioctl_ficlone(to, from)
}

/// Copies up to `length` bytes in the kernel. Returns their number.
pub(crate) fn copy_range(
    from: BorrowedFd<'_>,
    read_at: u64,
    to: BorrowedFd<'_>,
    write_at: u64,
    length: u64,
) -> Result<u64> {
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    retry_on_intr(|| {
        let (mut read_at, mut write_at) = (read_at, write_at);
        fs::copy_file_range(from, Some(&mut read_at), to, Some(&mut write_at), length)
    })
    .map(|copied| copied as u64)
}

/// Starts writeback of a range, without waiting. A later fsync reports its errors.
pub(crate) fn start_writeback(file: BorrowedFd<'_>, offset: u64, length: u64) {
    let (Ok(offset), Ok(length)) = (i64::try_from(offset), i64::try_from(length)) else {
        return;
    };
    #[expect(unsafe_code, reason = "rustix does not have this call")]
    // SAFETY: takes an open descriptor and three numbers, and touches no memory of ours.
    let _ = unsafe {
        libc::sync_file_range(
            file.as_raw_fd(),
            offset,
            length,
            libc::SYNC_FILE_RANGE_WRITE,
        )
    };
}

/// Waits until content and attributes are on the disk.
///
/// Never call it again after an error other than EINTR: the kernel may already have marked the
/// dirty pages clean, so a second fsync would wrongly succeed (PostgreSQL's "fsyncgate", 2018).
pub(crate) fn sync_file(file: impl AsFd) -> Result<()> {
    retry_on_intr(|| fs::fsync(&file))
}

/// Waits until the whole filesystem of a file is on the disk.
pub(crate) fn sync_filesystem(file: impl AsFd) -> Result<()> {
    retry_on_intr(|| fs::syncfs(&file))
}

/// Preallocates `length` bytes from `offset` on, without changing the size. Errors: ENOSPC, EDQUOT,
/// EFBIG and EIO. Ignores any other error: the file cannot be preallocated, or a seccomp filter
/// forbids the call.
pub(crate) fn preallocate(file: impl AsFd, offset: u64, length: u64) -> Result<()> {
    if length == 0 {
        return Ok(());
    }
    match retry_on_intr(|| fs::fallocate(&file, FallocateFlags::KEEP_SIZE, offset, length)) {
        Err(errno @ (Errno::NOSPC | Errno::DQUOT | Errno::FBIG | Errno::IO)) => Err(errno),
        _ => Ok(()),
    }
}

/// Makes a pipe. Returns its reading end and its writing end.
pub(crate) fn pipe() -> Result<(OwnedFd, OwnedFd)> {
    rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)
}
