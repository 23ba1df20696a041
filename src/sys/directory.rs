//! Names: all relative to a directory that is open already, so that nothing is resolved twice.

use std::ffi::OsString;
use std::ops::ControlFlow;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use rustix::fs::{
    self, Access, AtFlags, FileType, Mode, OFlags, RawDir, RenameFlags, ResolveFlags,
};
use rustix::io::retry_on_intr;

use super::{CWD, Errno, Result};

/// A directory that was opened.
#[derive(Debug)]
pub(crate) struct OpenDirectory {
    pub(crate) fd: OwnedFd,
    /// False where its owner lets us write into it but not read it: such a descriptor cannot be fsynced.
    pub(crate) readable: bool,
}

impl OpenDirectory {
    /// Waits until the names in it are on the disk; `inside` is a file on the same filesystem.
    pub(crate) fn sync(&self, inside: impl AsFd) -> Result<()> {
        if self.readable {
            super::sync_directory(&self.fd)
        } else {
            // It cannot be opened for fsync, but the file stands for its filesystem.
            super::sync_filesystem(inside)
        }
    }
}

/// Opens a directory, through any links but the magic ones of /proc (ELOOP, as for a circle of links).
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
        // ENOSYS before Linux 5.6; EPERM from seccomp filters that are older than the call. There a directory behind a
        // magic link is opened as any other; the last component is checked without this call.
        Err(Errno::NOSYS | Errno::PERM) => {
            retry_on_intr(|| fs::openat(at, path, flags, Mode::empty()))
        }
        // "Try again": a rename somewhere on the way while the path was walked.
        Err(Errno::AGAIN) => open_without_magic(at, path, flags),
        other => other,
    }
}

/// Opens a directory that is there, and no link to one (ENOTDIR).
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

/// Opens a file for reading, without waiting for the other end of a FIFO and without following a link.
pub(crate) fn open_existing(directory: BorrowedFd<'_>, name: &Path) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    retry_on_intr(|| fs::openat(directory, name, flags, Mode::empty()))
}

/// Opens a file that may be looked at, but neither read nor written (O_PATH).
pub(crate) fn open_handle(directory: BorrowedFd<'_>, name: &Path) -> Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    retry_on_intr(|| fs::openat(directory, name, flags, Mode::empty()))
}

/// Opens what the user named as SOURCE, for reading without waiting: a FIFO whose writer has not come can be opened, and
/// is waited for when it is read. Errors: EAGAIN while another process has a lease on the file.
pub(crate) fn open_source(path: &Path) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
    retry_on_intr(|| fs::openat(CWD, path, flags, Mode::empty()))
}

/// Opens a pipe or a terminal that is open already anew, for reading without waiting; the mode of the descriptor that
/// other processes share stays as it is. Errors: ENOENT without /proc, EACCES where the mode forbids it.
pub(crate) fn reopen_nonblocking(file: impl AsFd) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
    let path = proc_path(file);
    retry_on_intr(|| fs::open(&path, flags, Mode::empty()))
}

/// Opens a directory that is open already anew. NFS asks the server again what is in it.
pub(crate) fn reopen_directory(directory: BorrowedFd<'_>) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    retry_on_intr(|| fs::openat(directory, c".", flags, Mode::empty()))
}

/// Creates an unnamed temporary file (O_TMPFILE) in `directory`; it goes with its descriptor, unless it is linked before.
///
/// `Ok(None)` where that is not available: EOPNOTSUPP (the filesystem does not have it: NFS, FUSE, overlayfs before Linux
/// 6.1), EISDIR (Linux before 3.11), EINVAL and ENOENT (some network filesystems take it for an open of the directory),
/// ENOSYS (a seccomp filter).
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

/// Opens a lock file for reading and writing. Never with O_CREAT: fs.protected_regular refuses that for another user's
/// file in a sticky directory, even to root (proc_sys_fs(5)).
pub(crate) fn open_lock_file(directory: BorrowedFd<'_>, name: &Path) -> Result<OwnedFd> {
    let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    retry_on_intr(|| fs::openat(directory, name, flags, Mode::empty()))
}

/// Creates a lock file with exactly this mode, whatever the umask and the directory's default ACL. Errors: EEXIST if
/// anything has that name. Only to be called while there is one thread.
pub(crate) fn create_lock_file(
    directory: BorrowedFd<'_>,
    name: &Path,
    mode: u32,
) -> Result<OwnedFd> {
    let umask = rustix::process::umask(Mode::empty());
    let created = create_new(directory, name, mode);
    rustix::process::umask(umask);
    let file = created?;
    // EPERM where the filesystem has modes of its own (vfat, SMB); then its modes count.
    let _ = fs::fchmod(&file, Mode::from_raw_mode(mode));
    Ok(file)
}

/// Makes a file with a name; EEXIST if anything by that name is there.
pub(crate) fn create_new(directory: BorrowedFd<'_>, name: &Path, mode: u32) -> Result<OwnedFd> {
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    retry_on_intr(|| fs::openat(directory, name, flags, Mode::from_raw_mode(mode)))
}

/// By which call a file without a name can get one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LinkBy {
    /// linkat with AT_EMPTY_PATH: without privilege since Linux 6.10, before that with CAP_DAC_READ_SEARCH.
    Descriptor,
    /// linkat with AT_SYMLINK_FOLLOW through /proc/self/fd: wherever /proc is mounted.
    Proc,
}

/// Finds out by which call `file` can get a name in `directory`, without giving it one.
///
/// The name tried is ".", which no call can create: EEXIST says that all else is well, since the kernel looks at the
/// file first and at the new name after it.
pub(crate) fn probe_link(file: BorrowedFd<'_>, directory: BorrowedFd<'_>) -> Option<LinkBy> {
    [LinkBy::Descriptor, LinkBy::Proc]
        .into_iter()
        .find(|by| link_open_file(file, *by, directory, Path::new(".")) == Err(Errno::EXIST))
}

/// Gives an open file a name; EEXIST if anything by that name is there.
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

/// The path by which /proc names one of our open files.
pub(crate) fn proc_path(file: impl AsFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", file.as_fd().as_raw_fd()))
}

/// Creates a hard link. Errors: EEXIST if anything has the new name; ENOENT also if another process replaced the old name
/// in this moment; EPERM, EMLINK, EXDEV, EOPNOTSUPP where a link is not possible.
pub(crate) fn link(from: BorrowedFd<'_>, old: &Path, to: BorrowedFd<'_>, new: &Path) -> Result<()> {
    retry_on_intr(|| fs::linkat(from, old, to, new, AtFlags::empty()))
}

/// Creates a symbolic link. Errors: EEXIST if anything has that name.
pub(crate) fn symlink(target: &Path, directory: BorrowedFd<'_>, name: &Path) -> Result<()> {
    retry_on_intr(|| fs::symlinkat(target, directory, name))
}

/// Moves a name, over whatever has the new one; at no moment is there nothing by the new name.
pub(crate) fn rename(
    from: BorrowedFd<'_>,
    old: &Path,
    to: BorrowedFd<'_>,
    new: &Path,
) -> Result<()> {
    retry_on_intr(|| fs::renameat(from, old, to, new))
}

/// Moves a name if nothing has the new one (EEXIST).
///
/// `Ok(false)` where the filesystem cannot (EINVAL: NFS, FUSE) or the kernel (ENOSYS: before Linux 3.15; EPERM from
/// seccomp filters that are older than the call, of which a rename without flags tells more).
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

/// Removes a name that is not a directory's.
pub(crate) fn unlink(directory: BorrowedFd<'_>, name: &Path) -> Result<()> {
    fs::unlinkat(directory, name, AtFlags::empty())
}

/// Removes an empty directory.
pub(crate) fn remove_directory(parent: BorrowedFd<'_>, name: &Path) -> Result<()> {
    fs::unlinkat(parent, name, AtFlags::REMOVEDIR)
}

/// Makes a directory, 0777 less the umask.
pub(crate) fn make_directory(parent: BorrowedFd<'_>, name: &Path) -> Result<()> {
    retry_on_intr(|| fs::mkdirat(parent, name, Mode::from_raw_mode(0o777)))
}

/// Makes a directory with mode 0700, whatever the umask. Only to be called while there is one thread.
pub(crate) fn make_private_directory(parent: BorrowedFd<'_>, name: &Path) -> Result<()> {
    let umask = rustix::process::umask(Mode::empty());
    let made = retry_on_intr(|| fs::mkdirat(parent, name, Mode::from_raw_mode(0o700)));
    rustix::process::umask(umask);
    made
}

/// Opens a directory to empty it, and gives its owner all rights to it, as it may not even be readable. Errors: EXDEV if
/// something is mounted there, also of the same filesystem; ENOTDIR if it is not a directory; ENOSYS or EPERM where the
/// kernel or a filter does not have the call.
pub(crate) fn open_to_empty(parent: BorrowedFd<'_>, name: &Path) -> Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let same_mount = ResolveFlags::NO_XDEV;
    let handle = retry_on_intr(|| fs::openat2(parent, name, flags, Mode::empty(), same_mount))?;
    fs::chmod(proc_path(&handle), Mode::from_raw_mode(0o700))?;
    reopen_directory(handle.as_fd())
}

/// Opens a file to overwrite it in place, without waiting. Errors: ENXIO for a FIFO that has no reader yet.
pub(crate) fn open_in_place(directory: BorrowedFd<'_>, name: &Path) -> Result<OwnedFd> {
    let flags =
        OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
    retry_on_intr(|| fs::openat(directory, name, flags, Mode::empty()))
}

/// Tells whether the path leads to a regular file that this process may execute.
pub(crate) fn may_execute(path: &Path) -> bool {
    let is_regular =
        |stat: fs::Stat| FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
    fs::stat(path).is_ok_and(is_regular)
        && fs::accessat(CWD, path, Access::EXEC_OK, AtFlags::empty()).is_ok()
}

/// Calls `visit` with each name in a directory but `.` and `..`, until it breaks.
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

/// Reads where a link points to. The name of one that was opened as a handle is empty.
pub(crate) fn read_link(directory: BorrowedFd<'_>, name: &Path) -> Result<PathBuf> {
    let target = fs::readlinkat(directory, name, Vec::new())?;
    Ok(PathBuf::from(OsString::from_vec(target.into_bytes())))
}

/// Asks whether this process may write to the file, by its effective user and groups (EACCES, EPERM, EROFS if not).
pub(crate) fn may_write(directory: BorrowedFd<'_>, name: &Path) -> Result<()> {
    may(directory, name, Access::WRITE_OK)
}

/// The same for reading (EACCES if not).
pub(crate) fn may_read(directory: BorrowedFd<'_>, name: &Path) -> Result<()> {
    may(directory, name, Access::READ_OK)
}

fn may(directory: BorrowedFd<'_>, name: &Path, access: Access) -> Result<()> {
    match fs::accessat(directory, name, access, AtFlags::EACCESS) {
        // EPERM is that of seccomp filters that are older than the call, or an immutable file's: the old call tells,
        // where real and effective ids are the same.
        Err(Errno::PERM) if rustix::process::getuid() == rustix::process::geteuid() => {
            fs::accessat(directory, name, access, AtFlags::empty())
        }
        answer => answer,
    }
}
