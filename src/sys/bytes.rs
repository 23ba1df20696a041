//! Content: reading, writing, copying in the kernel, and syncing.

use std::os::fd::{AsFd, BorrowedFd, IntoRawFd, OwnedFd};

use rustix::buffer::spare_capacity;
use rustix::fs::{self, Mode, OFlags, SeekFrom};
use rustix::io::{fcntl_dupfd_cloexec, retry_on_intr};
use rustix::net::RecvFlags;

use super::{Errno, NO_ACCESS, Result, sync_file};

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

/// Whether a call on a pipe may wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Waiting {
    Allowed,
    Never,
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
    let null = open("/dev/null", OFlags::RDONLY).or_else(|_| open("/", NO_ACCESS))?;
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
