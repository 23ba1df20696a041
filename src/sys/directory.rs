//! Names, all relative to an open directory, so that no path is resolved twice.

use std::ffi::OsString;
use std::ops::ControlFlow;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use rustix::fs::{
    self, Access, AtFlags, FileType, Mode, OFlags, RawDir, RenameFlags, ResolveFlags,
};
use rustix::io::retry_on_intr;

use super::{CWD, Errno, Metadata, Result};

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

/// Opens a directory, following symbolic links but not the magic ones of /proc. Errors: ELOOP for a
/// magic link, as for a loop.
pub(crate) fn open_directory(at: BorrowedFd<'_>, path: &Path) -> Result<OpenDirectory> {
    let flags = OFlags::DIRECTORY | OFlags::CLOEXEC;
    match open_without_magic(at, path, OFlags::RDONLY | flags) {
        Ok(fd) => Ok(OpenDirectory { fd, readable: true }),
        Err(Errno::ACCESS) => Ok(OpenDirectory {
            fd: open_without_magic(at, path, OFlags::PATH | flags)?,
            readable: false,
        }),
        Err(errno) => Err(errno),
    }
}

fn open_without_magic(at: BorrowedFd<'_>, path: &Path, flags: OFlags) -> Result<OwnedFd> {
    let no_magic = ResolveFlags::NO_MAGICLINKS;
    match retry_on_intr(|| fs::openat2(at, path, flags, Mode::empty(), no_magic)) {
        // ENOSYS before Linux 5.6; EPERM from seccomp filters that are older than the call. Then
        // magic links are followed, too. The last component is checked without openat2.
        Err(Errno::NOSYS | Errno::PERM) => {
            retry_on_intr(|| fs::openat(at, path, flags, Mode::empty()))
        }
        // A rename raced with the path walk.
        Err(Errno::AGAIN) => open_without_magic(at, path, flags),
        other => other,
    }
}

/// Opens a directory, without following a symbolic link (ENOTDIR).
pub(crate) fn open_child(parent: BorrowedFd<'_>, name: &Path) -> Result<OpenDirectory> {
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let open = |flags| retry_on_intr(|| fs::openat(parent, name, flags, Mode::empty()));
    match open(OFlags::RDONLY | flags) {
        Ok(fd) => Ok(OpenDirectory { fd, readable: true }),
        Err(Errno::ACCESS) => Ok(OpenDirectory {
            fd: open(OFlags::PATH | flags)?,
            readable: false,
        }),
        Err(errno) => Err(errno),
    }
}

/// Opens a file for reading, without following a symbolic link and without waiting for a FIFO's
/// writer.
pub(crate) fn open_existing(directory: BorrowedFd<'_>, name: &Path) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    retry_on_intr(|| fs::openat(directory, name, flags, Mode::empty()))
}

/// A file that need not be readable, or a symbolic link: opened with O_PATH.
#[derive(Debug)]
pub(crate) struct Handle(OwnedFd);

/// Opens a file for its status, but neither for reading nor for writing.
pub(crate) fn open_handle(directory: BorrowedFd<'_>, name: &Path) -> Result<Handle> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    retry_on_intr(|| fs::openat(directory, name, flags, Mode::empty())).map(Handle)
}

impl Handle {
    pub(crate) fn metadata(&self) -> Result<Metadata> {
        super::metadata(&self.0)
    }

    /// Changes the permission bits.
    pub(crate) fn set_mode(&self, mode: u32) -> Result<()> {
        fs::chmod(self.proc_path(), Mode::from_raw_mode(mode))
    }

    /// Returns the target of a symbolic link.
    pub(crate) fn read_link(&self) -> Result<PathBuf> {
        read_link(self.0.as_fd(), Path::new(""))
    }

    /// Returns the path by which the file's attributes can be read.
    pub(super) fn proc_path(&self) -> PathBuf {
        proc_path(&self.0)
    }
}

/// Opens SOURCE for reading with O_NONBLOCK, so that opening a FIFO does not wait for a writer.
/// Errors: EAGAIN while another process has a lease on the file.
pub(crate) fn open_source(path: &Path) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
    retry_on_intr(|| fs::openat(CWD, path, flags, Mode::empty()))
}

/// Opens an open pipe or terminal again, for reading with O_NONBLOCK. The flags of the descriptor
/// that other processes share do not change. Errors: ENOENT without /proc, EACCES if the mode
/// forbids it.
pub(crate) fn reopen_nonblocking(file: impl AsFd) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
    let path = proc_path(file);
    retry_on_intr(|| fs::open(&path, flags, Mode::empty()))
}

/// Opens an open directory again. NFS then asks the server for the entries again.
pub(crate) fn reopen_directory(directory: BorrowedFd<'_>) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    retry_on_intr(|| fs::openat(directory, c".", flags, Mode::empty()))
}

/// Creates an unnamed temporary file (O_TMPFILE) in `directory`. It vanishes when its descriptor is
/// closed, unless it is linked before.
///
/// Returns `Ok(None)` if that is not available. EOPNOTSUPP: the filesystem does not have it (NFS,
/// FUSE, overlayfs before Linux 6.1). EISDIR: Linux before 3.11. EINVAL and ENOENT: some network
/// filesystems, which take the call for opening the directory. ENOSYS: a seccomp filter.
pub(crate) fn open_tmpfile(directory: BorrowedFd<'_>, mode: u32) -> Result<Option<OwnedFd>> {
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    match retry_on_intr(|| fs::openat(directory, c".", flags, Mode::from_raw_mode(mode))) {
        Ok(fd) => Ok(Some(fd)),
        Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL | Errno::NOENT | Errno::NOSYS) => {
            Ok(None)
        }
        Err(errno) => Err(errno),
    }
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
    let _ = fs::fchmod(&file, Mode::from_raw_mode(mode));
    Ok(file)
}

/// Creates a file. Errors: EEXIST if the name exists.
pub(crate) fn create_new(directory: BorrowedFd<'_>, name: &Path, mode: u32) -> Result<OwnedFd> {
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    retry_on_intr(|| fs::openat(directory, name, flags, Mode::from_raw_mode(mode)))
}

/// The call that can link an unnamed file to a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LinkBy {
    /// linkat with AT_EMPTY_PATH: without privilege since Linux 6.10, before that with
    /// CAP_DAC_READ_SEARCH.
    Descriptor,
    /// linkat with AT_SYMLINK_FOLLOW through /proc/self/fd, which needs /proc.
    Proc,
}

/// Returns the call that can link `file` to a name in `directory`, without linking it.
///
/// Tries the name ".", which no call can create. EEXIST means that the link would succeed
/// otherwise, because the kernel checks the file before it checks the new name.
pub(crate) fn probe_link(file: BorrowedFd<'_>, directory: BorrowedFd<'_>) -> Option<LinkBy> {
    [LinkBy::Descriptor, LinkBy::Proc]
        .into_iter()
        .find(|by| link_open_file(file, *by, directory, Path::new(".")) == Err(Errno::EXIST))
}

/// Links an open file to a name. Errors: EEXIST if the name exists.
pub(crate) fn link_open_file(
    file: BorrowedFd<'_>,
    by: LinkBy,
    directory: BorrowedFd<'_>,
    name: &Path,
) -> Result<()> {
    retry_on_intr(|| match by {
        LinkBy::Descriptor => fs::linkat(file, c"", directory, name, AtFlags::EMPTY_PATH),
        LinkBy::Proc => {
            let path = proc_path(file);
            fs::linkat(CWD, &path, directory, name, AtFlags::SYMLINK_FOLLOW)
        }
    })
}

/// Returns the path in /proc of an open file of this process.
pub(super) fn proc_path(file: impl AsFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", file.as_fd().as_raw_fd()))
}

/// Creates a hard link. Errors: EEXIST if the new name exists; ENOENT also if another process
/// replaces the old name at this moment; EPERM, EMLINK, EXDEV and EOPNOTSUPP if the link is not
/// possible.
pub(crate) fn link(from: BorrowedFd<'_>, old: &Path, to: BorrowedFd<'_>, new: &Path) -> Result<()> {
    retry_on_intr(|| fs::linkat(from, old, to, new, AtFlags::empty()))
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

/// Renames a file, unless the new name exists (EEXIST).
///
/// Returns `Ok(false)` if the filesystem cannot do that (EINVAL: NFS, FUSE), or the kernel cannot
/// (ENOSYS: before Linux 3.15). EPERM can come from seccomp filters that are older than the call; a
/// call without flags then shows the real error.
pub(crate) fn rename_noreplace(
    from: BorrowedFd<'_>,
    old: &Path,
    to: BorrowedFd<'_>,
    new: &Path,
) -> Result<bool> {
    match retry_on_intr(|| fs::renameat_with(from, old, to, new, RenameFlags::NOREPLACE)) {
        Ok(()) => Ok(true),
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP | Errno::PERM) => Ok(false),
        Err(errno) => Err(errno),
    }
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
    retry_on_intr(|| fs::mkdirat(parent, name, Mode::from_raw_mode(0o777)))
}

/// Makes a directory with mode 0700, whatever the umask. Only for a process with one thread,
/// because it changes the umask.
pub(crate) fn make_private_directory(parent: BorrowedFd<'_>, name: &Path) -> Result<()> {
    let umask = rustix::process::umask(Mode::empty());
    let made = retry_on_intr(|| fs::mkdirat(parent, name, Mode::from_raw_mode(0o700)));
    rustix::process::umask(umask);
    made
}

/// Opens a directory to empty it. Gives its owner all permissions, because the directory may not
/// even be readable. Errors: EXDEV if it is a mount point, even for the same filesystem; ENOTDIR if
/// it is not a directory; ENOSYS or EPERM if the kernel or a seccomp filter does not have the call.
pub(crate) fn open_to_empty(parent: BorrowedFd<'_>, name: &Path) -> Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let same_mount = ResolveFlags::NO_XDEV;
    let handle = retry_on_intr(|| fs::openat2(parent, name, flags, Mode::empty(), same_mount))?;
    fs::chmod(proc_path(&handle), Mode::from_raw_mode(0o700))?;
    reopen_directory(handle.as_fd())
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

/// Calls `visit` with each name in a directory except `.` and `..`, until `visit` breaks.
pub(crate) fn for_each_name(
    directory: BorrowedFd<'_>,
    mut visit: impl FnMut(&[u8]) -> ControlFlow<()>,
) -> Result<()> {
    let opened = reopen_directory(directory)?;
    let mut buffer = Vec::with_capacity(32 * 1024);
    let mut entries = RawDir::new(opened, buffer.spare_capacity_mut());
    while let Some(entry) = entries.next() {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if !matches!(name, b"." | b"..") && visit(name).is_break() {
            break;
        }
    }
    Ok(())
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
