//! Content: reading, writing, copying inside the kernel, and getting it to the disk.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, IntoRawFd, OwnedFd};

use rustix::buffer::spare_capacity;
use rustix::fs::{self, FallocateFlags, Mode, OFlags, SeekFrom};
use rustix::io::{fcntl_dupfd_cloexec, retry_on_intr};
use rustix::net::RecvFlags;
use rustix::pipe::SpliceFlags;

use super::{Errno, Result};

/// Reads what is there, up to the buffer's capacity; leaves the buffer empty at end of file. Errors: EAGAIN if `file` is
/// non-blocking and nothing is there.
pub(crate) fn read(file: BorrowedFd<'_>, buffer: &mut Vec<u8>) -> Result<()> {
    buffer.clear();
    retry_on_intr(|| rustix::io::read(file, spare_capacity(buffer))).map(|_| ())
}

/// Receives what is there from a socket, as [`read`] does, but never waits (EAGAIN).
pub(crate) fn receive(socket: BorrowedFd<'_>, buffer: &mut Vec<u8>) -> Result<()> {
    buffer.clear();
    let flags = RecvFlags::DONTWAIT;
    retry_on_intr(|| rustix::net::recv(socket, spare_capacity(buffer), flags)).map(|_| ())
}

/// Writes some of the bytes; returns how many, at least one. Errors: EAGAIN if `file` is non-blocking and full.
pub(crate) fn write(file: BorrowedFd<'_>, bytes: &[u8]) -> Result<usize> {
    match retry_on_intr(|| rustix::io::write(file, bytes)) {
        // No file does this; it must not become an endless loop if one does.
        Ok(0) => Err(Errno::IO),
        written => written,
    }
}

/// Makes a pipe hold `size` bytes, if it is one and if the user's share allows it; says whether it does. Only speed
/// depends on it.
pub(crate) fn enlarge_pipe(pipe: BorrowedFd<'_>, size: usize) -> bool {
    // EBADF: no pipe; EPERM: beyond fs.pipe-max-size or the user's share; EBUSY: it holds more than that.
    rustix::pipe::fcntl_setpipe_size(pipe, size).is_ok()
}

/// Moves up to `length` bytes from a pipe to a pipe or a file, inside the kernel; returns how many, 0 at end of file.
/// Errors: EAGAIN with [`Waiting::Never`] if nothing is there, whatever the mode of the descriptor.
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

/// Whether a call on a pipe may wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Waiting {
    Allowed,
    Never,
}

/// Makes `to` share all of `from`'s blocks. Fails where the filesystem cannot; then nothing has happened.
pub(crate) fn clone_file(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> Result<()> {
    fs::ioctl_ficlone(to, from)
}

/// Copies up to `length` bytes inside the kernel; says how many.
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

/// Where the descriptor stands.
pub(crate) fn position(file: BorrowedFd<'_>) -> Result<u64> {
    fs::tell(file)
}

/// Puts the descriptor at `offset` bytes from the start.
pub(crate) fn seek(file: BorrowedFd<'_>, offset: u64) -> Result<()> {
    fs::seek(file, SeekFrom::Start(offset)).map(|_| ())
}

/// Puts the descriptor at the end; gives where that is, in bytes.
pub(crate) fn seek_end(file: BorrowedFd<'_>) -> Result<u64> {
    fs::seek(file, SeekFrom::End(0))
}

/// Finds the next data and where it ends, from `offset` on; `None` if only a hole is left, or nothing.
///
/// EINVAL where the file cannot tell.
pub(crate) fn next_data(file: BorrowedFd<'_>, offset: u64) -> Result<Option<(u64, u64)>> {
    match fs::seek(file, SeekFrom::Data(offset)) {
        Ok(start) => Ok(Some((start, fs::seek(file, SeekFrom::Hole(start))?))),
        Err(Errno::NXIO) => Ok(None),
        Err(errno) => Err(errno),
    }
}

/// Sets the size; what is added is a hole.
pub(crate) fn set_size(file: BorrowedFd<'_>, size: u64) -> Result<()> {
    retry_on_intr(|| fs::ftruncate(file, size))
}

/// Starts to write a range to the disk and does not wait. Whether it succeeds is told by the fsync that follows.
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
/// After any error but EINTR the kernel may have marked the lost pages clean, so a second call would lie: never retry it
/// (PostgreSQL's "fsyncgate", 2018).
pub(crate) fn sync_file(file: impl AsFd) -> Result<()> {
    retry_on_intr(|| fs::fsync(&file))
}

/// Waits until what was written in place is on the disk. That a FIFO or a device has none is no error.
pub(crate) fn sync_in_place(file: impl AsFd) -> Result<()> {
    match sync_file(file) {
        Err(Errno::INVAL | Errno::OPNOTSUPP) => Ok(()),
        other => other,
    }
}

/// Waits until the names in a directory are on the disk. That a filesystem has no such thing is no error.
pub(crate) fn sync_directory(directory: impl AsFd) -> Result<()> {
    match sync_file(directory) {
        Err(Errno::INVAL | Errno::OPNOTSUPP | Errno::BADF) => Ok(()),
        other => other,
    }
}

/// Waits until all of a file's filesystem is on the disk.
pub(crate) fn sync_filesystem(file: impl AsFd) -> Result<()> {
    retry_on_intr(|| fs::syncfs(&file))
}

/// Collects the error that only a close reports (EIO, EDQUOT and ENOSPC on NFS, FUSE and with quotas).
///
/// Closes a duplicate, for which the kernel asks the filesystem just the same: the file itself stays open and locked.
pub(crate) fn close_error(file: impl AsFd) -> Result<()> {
    close(retry_on_intr(|| fcntl_dupfd_cloexec(&file, 3))?)
}

/// Puts /dev/null in the place of standard input, so that the file there is not open any more.
pub(crate) fn detach_stdin() -> Result<()> {
    let open = |path, flag| retry_on_intr(|| fs::open(path, flag | OFlags::CLOEXEC, Mode::empty()));
    // No /dev: anything will do.
    let null = open("/dev/null", OFlags::RDONLY).or_else(|_| open("/", OFlags::PATH))?;
    rustix::stdio::dup2_stdin(null)
}

/// Closes a file and takes the error that only the close reports. EINTR from close means closed.
pub(crate) fn close(file: OwnedFd) -> Result<()> {
    #[expect(unsafe_code, reason = "std and rustix drop the error of close")]
    // SAFETY: `into_raw_fd` gave up the ownership of this descriptor, so nobody else closes or uses it.
    let closed = unsafe { libc::close(file.into_raw_fd()) };
    match Errno::from_io_error(&std::io::Error::last_os_error()) {
        Some(errno) if closed != 0 && errno != Errno::INTR => Err(errno),
        _ => Ok(()),
    }
}

/// Preallocates `length` bytes from `offset` on, without changing the size. Errors: ENOSPC, EDQUOT, EFBIG and EIO. Any
/// other answer says that this file cannot be preallocated, or that a filter forbids the call, and is no error.
pub(crate) fn preallocate(file: impl AsFd, offset: u64, length: u64) -> Result<()> {
    if length == 0 {
        return Ok(());
    }
    match retry_on_intr(|| fs::fallocate(&file, FallocateFlags::KEEP_SIZE, offset, length)) {
        Err(errno @ (Errno::NOSPC | Errno::DQUOT | Errno::FBIG | Errno::IO)) => Err(errno),
        _ => Ok(()),
    }
}

/// Has reads of this open file description fail with EAGAIN instead of waiting.
pub(crate) fn set_nonblocking(file: impl AsFd) -> Result<()> {
    let flags = fs::fcntl_getfl(&file)?;
    fs::fcntl_setfl(&file, flags | OFlags::NONBLOCK)
}

/// Reads at `offset` bytes from the start, up to the buffer's capacity; empty at the end.
pub(crate) fn read_at(file: impl AsFd, offset: u64, buffer: &mut Vec<u8>) -> Result<()> {
    buffer.clear();
    retry_on_intr(|| rustix::io::pread(&file, spare_capacity(buffer), offset)).map(|_| ())
}

/// Reads at `offset` bytes from the start, up to the buffer's length; returns the number of bytes, or 0 at end of file.
pub(crate) fn read_into(file: impl AsFd, offset: u64, buffer: &mut [u8]) -> Result<usize> {
    retry_on_intr(|| rustix::io::pread(&file, &mut *buffer, offset))
}

/// Makes a pipe; its ends, for reading and for writing.
pub(crate) fn pipe() -> Result<(OwnedFd, OwnedFd)> {
    rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)
}
