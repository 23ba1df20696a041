//! Names: openat2, unnamed files, and ways through /proc.

use std::ops::ControlFlow;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{self, AtFlags, Mode, OFlags, RawDir, RenameFlags, ResolveFlags};
use rustix::io::retry_on_intr;

use super::super::status::permissions;
use super::super::{CWD, Errno, Metadata, OpenDirectory, Result, read_link, reopen_directory};

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
        fs::chmod(self.proc_path(), permissions(mode))
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

/// Opens an open pipe or terminal again, for reading with O_NONBLOCK. The flags of the descriptor
/// that other processes share do not change. Errors: ENOENT without /proc, EACCES if the mode
/// forbids it.
pub(crate) fn reopen_nonblocking(file: impl AsFd) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
    let path = proc_path(file);
    retry_on_intr(|| fs::open(&path, flags, Mode::empty()))
}

/// Creates an unnamed temporary file (O_TMPFILE) in `directory`. It vanishes when its descriptor is
/// closed, unless it is linked before.
///
/// Returns `Ok(None)` if that is not available. EOPNOTSUPP: the filesystem does not have it (NFS,
/// FUSE, overlayfs before Linux 6.1). EISDIR: Linux before 3.11. EINVAL and ENOENT: some network
/// filesystems, which take the call for opening the directory. ENOSYS: a seccomp filter.
pub(crate) fn open_tmpfile(directory: BorrowedFd<'_>, mode: u32) -> Result<Option<OwnedFd>> {
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    match retry_on_intr(|| fs::openat(directory, c".", flags, permissions(mode))) {
        Ok(fd) => Ok(Some(fd)),
        Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL | Errno::NOENT | Errno::NOSYS) => {
            Ok(None)
        }
        Err(errno) => Err(errno),
    }
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
