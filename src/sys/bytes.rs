//! Content: reading, writing, copying in the kernel, and syncing.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, IntoRawFd, OwnedFd};

use rustix::buffer::spare_capacity;
use rustix::fs::{self, FallocateFlags, Mode, OFlags, SeekFrom};
use rustix::io::{fcntl_dupfd_cloexec, retry_on_intr};
use rustix::net::RecvFlags;
use rustix::pipe::SpliceFlags;

use super::{Errno, Result};

/// Reads available bytes, up to the buffer's capacity. Leaves the buffer empty at end of file.
/// Errors: EAGAIN if `file` is non-blocking and no byte is available.
pub(crate) fn read(file: BorrowedFd<'_>, buffer: &mut Vec<u8>) -> Result<()> {
    buffer.clear();
    retry_on_intr(|| rustix::io::read(file, spare_capacity(buffer))).map(|_| ())
}

/// Returns true if a socket is a stream, without boundaries of messages.
pub(crate) fn is_stream(socket: BorrowedFd<'_>) -> Result<bool> {
    Ok(rustix::net::sockopt::socket_type(socket)? == rustix::net::SocketType::STREAM)
}

/// Receives available bytes from a socket, as [`read`] does, but never waits. Errors: EAGAIN.
pub(crate) fn receive(socket: BorrowedFd<'_>, buffer: &mut Vec<u8>) -> Result<()> {
    buffer.clear();
    let flags = RecvFlags::DONTWAIT;
    retry_on_intr(|| rustix::net::recv(socket, spare_capacity(buffer), flags)).map(|_| ())
}

/// Writes some of the bytes. Returns their number, at least one. Errors: EAGAIN if `file` is
/// non-blocking and full.
pub(crate) fn write(file: BorrowedFd<'_>, bytes: &[u8]) -> Result<usize> {
    match retry_on_intr(|| rustix::io::write(file, bytes)) {
        // No file returns 0; if one did, the caller's loop would never end.
        Ok(0) => Err(Errno::IO),
        written => written,
    }
}

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

/// Whether a call on a pipe may wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Waiting {
    Allowed,
    Never,
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

/// Returns the file offset.
pub(crate) fn position(file: BorrowedFd<'_>) -> Result<u64> {
    fs::tell(file)
}

/// Sets the file offset to `offset` bytes from the start.
pub(crate) fn seek(file: BorrowedFd<'_>, offset: u64) -> Result<()> {
    fs::seek(file, SeekFrom::Start(offset)).map(|_| ())
}

/// Sets the file offset to the end. Returns it, in bytes.
pub(crate) fn seek_end(file: BorrowedFd<'_>) -> Result<u64> {
    fs::seek(file, SeekFrom::End(0))
}

/// Returns the start and the end of the next data at or after `offset`. `None` if only a hole
/// follows, or nothing. Errors: EINVAL if the file does not report holes.
pub(crate) fn next_data(file: BorrowedFd<'_>, offset: u64) -> Result<Option<(u64, u64)>> {
    match fs::seek(file, SeekFrom::Data(offset)) {
        Ok(start) => Ok(Some((start, fs::seek(file, SeekFrom::Hole(start))?))),
        Err(Errno::NXIO) => Ok(None),
        Err(errno) => Err(errno),
    }
}

/// Sets the size. Added bytes are a hole.
pub(crate) fn set_size(file: BorrowedFd<'_>, size: u64) -> Result<()> {
    retry_on_intr(|| fs::ftruncate(file, size))
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

/// Waits until a file that was written in place is on the disk. Does nothing for a FIFO or a device
/// that cannot be synced.
pub(crate) fn sync_in_place(file: impl AsFd) -> Result<()> {
    match sync_file(file) {
        Err(Errno::INVAL | Errno::OPNOTSUPP) => Ok(()),
        other => other,
    }
}

/// Waits until the names in a directory are on the disk. Does nothing if the filesystem cannot sync
/// directories.
pub(crate) fn sync_directory(directory: impl AsFd) -> Result<()> {
    match sync_file(directory) {
        Err(Errno::INVAL | Errno::OPNOTSUPP | Errno::BADF) => Ok(()),
        other => other,
    }
}

/// Waits until the whole filesystem of a file is on the disk.
pub(crate) fn sync_filesystem(file: impl AsFd) -> Result<()> {
    retry_on_intr(|| fs::syncfs(&file))
}

/// Returns the errors that only close(2) reports (EIO, EDQUOT and ENOSPC on NFS, FUSE and with
/// quotas).
///
/// Closes a duplicate, for which the kernel calls the filesystem as well. The file itself stays
/// open and locked.
pub(crate) fn close_error(file: impl AsFd) -> Result<()> {
    close(retry_on_intr(|| fcntl_dupfd_cloexec(&file, 3))?)
}

/// Replaces standard input with /dev/null, which closes the file that was there.
pub(crate) fn detach_stdin() -> Result<()> {
    let open = |path, flag| retry_on_intr(|| fs::open(path, flag | OFlags::CLOEXEC, Mode::empty()));
    // Without /dev, any other descriptor will do.
    let null = open("/dev/null", OFlags::RDONLY).or_else(|_| open("/", OFlags::PATH))?;
    rustix::stdio::dup2_stdin(null)
}

/// Closes a file. Returns the errors that only close(2) reports. EINTR from close means closed.
pub(crate) fn close(file: OwnedFd) -> Result<()> {
    #[expect(unsafe_code, reason = "std and rustix drop the error of close")]
    // SAFETY: `into_raw_fd` gave up the ownership, so nothing else closes or uses this descriptor.
    let closed = unsafe { libc::close(file.into_raw_fd()) };
    match Errno::from_io_error(&std::io::Error::last_os_error()) {
        Some(errno) if closed != 0 && errno != Errno::INTR => Err(errno),
        _ => Ok(()),
    }
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

/// Sets O_NONBLOCK on the open file description: reads fail with EAGAIN instead of waiting.
pub(crate) fn set_nonblocking(file: impl AsFd) -> Result<()> {
    let flags = fs::fcntl_getfl(&file)?;
    fs::fcntl_setfl(&file, flags | OFlags::NONBLOCK)
}

/// Reads at `offset` bytes from the start, up to the buffer's capacity. Leaves the buffer empty at
/// end of file.
pub(crate) fn read_at(file: impl AsFd, offset: u64, buffer: &mut Vec<u8>) -> Result<()> {
    buffer.clear();
    retry_on_intr(|| rustix::io::pread(&file, spare_capacity(buffer), offset)).map(|_| ())
}

/// Reads at `offset` bytes from the start, up to the buffer's length. Returns the number of bytes,
/// or 0 at end of file.
pub(crate) fn read_into(file: impl AsFd, offset: u64, buffer: &mut [u8]) -> Result<usize> {
    retry_on_intr(|| rustix::io::pread(&file, &mut *buffer, offset))
}

/// Makes a pipe. Returns its reading end and its writing end.
pub(crate) fn pipe() -> Result<(OwnedFd, OwnedFd)> {
    rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)
}
