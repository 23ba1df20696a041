//! Names, all relative to an open directory, so that no path is resolved twice.

use std::ffi::OsString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use rustix::fs::{self, Access, AtFlags, FileType, Mode, OFlags};
use rustix::io::retry_on_intr;

use super::status::permissions;
use super::{CWD, Errno, Result};

/// An open directory.
#[derive(Debug)]
pub(crate) struct OpenDirectory {
    pub(crate) fd: OwnedFd,
    /// False if we may write to the directory but not read it. Such a descriptor cannot be fsynced.
    pub(crate) readable: bool,
}

impl OpenDirectory {
    /// Waits until the names in the directory are on the disk. `inside` is a file on the same
    /// filesystem.
    pub(crate) fn sync(&self, inside: impl AsFd) -> Result<()> {
        if self.readable {
            super::sync_directory(&self.fd)
        } else {
            // The directory cannot be opened for fsync, so sync its whole filesystem.
            super::sync_filesystem(inside)
        }
    }
}

/// Opens a file for reading, without following a symbolic link and without waiting for a FIFO's
/// writer.
pub(crate) fn open_existing(directory: BorrowedFd<'_>, name: &Path) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    match retry_on_intr(|| fs::openat(directory, name, flags, Mode::empty())) {
        // FreeBSD (open(2)).
        Err(Errno::MLINK) => Err(Errno::LOOP),
        opened => opened,
    }
}

/// Opens SOURCE for reading with O_NONBLOCK, so that opening a FIFO does not wait for a writer.
/// Errors: EAGAIN while another process has a lease on the file.
pub(crate) fn open_source(path: &Path) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
    retry_on_intr(|| fs::openat(CWD, path, flags, Mode::empty()))
}

/// Opens an open directory again. NFS then asks the server for the entries again.
pub(crate) fn reopen_directory(directory: BorrowedFd<'_>) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    retry_on_intr(|| fs::openat(directory, c".", flags, Mode::empty()))
}

/// Opens a lock file for reading and writing. Without O_CREAT, because fs.protected_regular refuses
/// it for another user's file in a sticky directory, even to root (proc_sys_fs(5)).
pub(crate) fn open_lock_file(directory: BorrowedFd<'_>, name: &Path) -> Result<OwnedFd> {
    let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    retry_on_intr(|| fs::openat(directory, name, flags, Mode::empty()))
}

/// Creates a lock file with exactly this mode, whatever the umask and the directory's default ACL.
/// Errors: EEXIST if the name exists. Only for a process with one thread, because it changes the
/// umask.
pub(crate) fn create_lock_file(
    directory: BorrowedFd<'_>,
    name: &Path,
    mode: u32,
) -> Result<OwnedFd> {
    let umask = rustix::process::umask(Mode::empty());
    let created = create_new(directory, name, mode);
    rustix::process::umask(umask);
    let file = created?;
    // EPERM from filesystems with fixed modes (vfat, SMB), whose modes then apply.
    let _ = fs::fchmod(&file, permissions(mode));
    Ok(file)
}

/// Creates a file. Errors: EEXIST if the name exists.
pub(crate) fn create_new(directory: BorrowedFd<'_>, name: &Path, mode: u32) -> Result<OwnedFd> {
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    retry_on_intr(|| fs::openat(directory, name, flags, permissions(mode)))
}

/// Creates a hard link. Errors: EEXIST if the new name exists; ENOENT also if another process
/// replaces the old name at this moment; EPERM, EMLINK, EXDEV and EOPNOTSUPP if the link is not
/// possible.
pub(crate) fn link(from: BorrowedFd<'_>, old: &Path, to: BorrowedFd<'_>, new: &Path) -> Result<()> {
    match retry_on_intr(|| fs::linkat(from, old, to, new, AtFlags::empty())) {
        // macOS, where it is a number of its own (link(2)).
        Err(errno) if errno == Errno::NOTSUP => Err(Errno::OPNOTSUPP),
        linked => linked,
    }
}

/// Creates a symbolic link. Errors: EEXIST if the name exists.
pub(crate) fn symlink(target: &Path, directory: BorrowedFd<'_>, name: &Path) -> Result<()> {
    retry_on_intr(|| fs::symlinkat(target, directory, name))
}

/// Renames a file and replaces the new name atomically: it exists at every moment.
pub(crate) fn rename(
    from: BorrowedFd<'_>,
    old: &Path,
    to: BorrowedFd<'_>,
    new: &Path,
) -> Result<()> {
    retry_on_intr(|| fs::renameat(from, old, to, new))
}

/// Removes a name, except a directory's.
pub(crate) fn unlink(directory: BorrowedFd<'_>, name: &Path) -> Result<()> {
    fs::unlinkat(directory, name, AtFlags::empty())
}

/// Removes an empty directory.
pub(crate) fn remove_directory(parent: BorrowedFd<'_>, name: &Path) -> Result<()> {
    fs::unlinkat(parent, name, AtFlags::REMOVEDIR)
}

/// Makes a directory with mode 0777 minus the umask.
pub(crate) fn make_directory(parent: BorrowedFd<'_>, name: &Path) -> Result<()> {
    retry_on_intr(|| fs::mkdirat(parent, name, permissions(0o777)))
}

/// Makes a directory with mode 0700, whatever the umask. Only for a process with one thread,
/// because it changes the umask.
pub(crate) fn make_private_directory(parent: BorrowedFd<'_>, name: &Path) -> Result<()> {
    let umask = rustix::process::umask(Mode::empty());
    let made = retry_on_intr(|| fs::mkdirat(parent, name, permissions(0o700)));
    rustix::process::umask(umask);
    made
}

/// Opens a file for overwriting in place, without waiting. Errors: ENXIO for a FIFO without a
/// reader.
pub(crate) fn open_in_place(directory: BorrowedFd<'_>, name: &Path) -> Result<OwnedFd> {
    let flags =
        OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
    retry_on_intr(|| fs::openat(directory, name, flags, Mode::empty()))
}

/// Returns true if the path leads to a regular file that this process may execute.
pub(crate) fn may_execute(path: &Path) -> bool {
    let is_regular =
        |stat: fs::Stat| FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
    fs::stat(path).is_ok_and(is_regular)
        && fs::accessat(CWD, path, Access::EXEC_OK, AtFlags::empty()).is_ok()
}

/// Returns the target of a symbolic link.
pub(crate) fn read_link(directory: BorrowedFd<'_>, name: &Path) -> Result<PathBuf> {
    let target = fs::readlinkat(directory, name, Vec::new())?;
    Ok(PathBuf::from(OsString::from_vec(target.into_bytes())))
}

/// Checks whether this process may write to a file, by its effective user and groups. Errors:
/// EACCES, EPERM or EROFS if it may not.
pub(crate) fn may_write(directory: BorrowedFd<'_>, name: &Path) -> Result<()> {
    may(directory, name, Access::WRITE_OK)
}

/// Checks whether this process may read a file, as [`may_write`] does. Errors: EACCES if it may
/// not.
pub(crate) fn may_read(directory: BorrowedFd<'_>, name: &Path) -> Result<()> {
    may(directory, name, Access::READ_OK)
}

fn may(directory: BorrowedFd<'_>, name: &Path, access: Access) -> Result<()> {
    match fs::accessat(directory, name, access, AtFlags::EACCESS) {
        // EPERM comes from an immutable file, or from seccomp filters that are older than the call.
        // The old call shows which, if real and effective IDs are the same.
        Err(Errno::PERM) if rustix::process::getuid() == rustix::process::geteuid() => {
            fs::accessat(directory, name, access, AtFlags::empty())
        }
        answer => answer,
    }
}
