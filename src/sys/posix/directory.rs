//! Names.

use std::ops::ControlFlow;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{self, AtFlags, Dir, Mode, OFlags};
use rustix::io::{fcntl_dupfd_cloexec, retry_on_intr};

use super::super::status::permissions;
use super::super::{
    Errno, Metadata, OpenDirectory, Result, metadata, metadata_at, open_existing, read_link,
    reopen_directory,
};

/// Opens a directory, following symbolic links. Errors: EACCES if we may not read it, because it
/// could not be synced.
pub(crate) fn open_directory(at: BorrowedFd<'_>, path: &Path) -> Result<OpenDirectory> {
    open(at, path, OFlags::empty())
}

/// Opens a directory, without following a symbolic link (ENOTDIR).
pub(crate) fn open_child(parent: BorrowedFd<'_>, name: &Path) -> Result<OpenDirectory> {
    open(parent, name, OFlags::NOFOLLOW)
}

fn open(at: BorrowedFd<'_>, path: &Path, flag: OFlags) -> Result<OpenDirectory> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | flag;
    let fd = retry_on_intr(|| fs::openat(at, path, flags, Mode::empty()))?;
    Ok(OpenDirectory { fd, readable: true })
}

/// A file that need not be readable, or a symbolic link: known by its name and its status.
#[derive(Debug)]
pub(crate) struct Handle {
    directory: OwnedFd,
    name: PathBuf,
    seen: Metadata,
}

/// Notes which file has a name.
pub(crate) fn open_handle(directory: BorrowedFd<'_>, name: &Path) -> Result<Handle> {
    Ok(Handle {
        directory: fcntl_dupfd_cloexec(directory, 3)?,
        name: name.to_owned(),
        seen: metadata_at(directory, name)?,
    })
}

impl Handle {
    #[expect(clippy::unnecessary_wraps, reason = "as on Linux")]
    pub(crate) fn metadata(&self) -> Result<Metadata> {
        Ok(self.seen)
    }

    /// Changes the permission bits of what has the name now. Only for a private directory.
    pub(crate) fn set_mode(&self, mode: u32) -> Result<()> {
        let mode = permissions(mode);
        fs::chmodat(&self.directory, &self.name, mode, AtFlags::empty())
    }

    /// Opens the file for reading after all. Errors: EACCES if we may not read it; ESTALE if
    /// another file has the name now.
    pub(super) fn reopen(&self) -> Result<OwnedFd> {
        let file = open_existing(self.directory.as_fd(), &self.name)?;
        if metadata(&file)?.identity == self.seen.identity {
            Ok(file)
        } else {
            Err(Errno::STALE)
        }
    }

    /// Returns the target of a symbolic link. Errors: ESTALE if another file has the name now.
    pub(crate) fn read_link(&self) -> Result<PathBuf> {
        let directory = self.directory.as_fd();
        let target = read_link(directory, &self.name)?;
        let now = metadata_at(directory, &self.name)?;
        if Metadata::are_same(Some(&self.seen), Some(&now)) {
            Ok(target)
        } else {
            Err(Errno::STALE)
        }
    }
}

/// Cannot be done. /dev/fd/N of macOS and FreeBSD is a duplicate of the descriptor (fd(4)), which
/// shares its flags. Errors: ENOSYS.
pub(crate) fn reopen_nonblocking(_file: impl AsFd) -> Result<OwnedFd> {
    Err(Errno::NOSYS)
}

/// Returns `Ok(None)`: only Linux has unnamed files.
#[expect(clippy::unnecessary_wraps, reason = "as on Linux")]
pub(crate) fn open_tmpfile(_directory: BorrowedFd<'_>, _mode: u32) -> Result<Option<OwnedFd>> {
    Ok(None)
}

/// The call that can link an unnamed file to a name: there is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LinkBy {}

/// Returns the call that can link `file` to a name: none.
pub(crate) fn probe_link(_file: BorrowedFd<'_>, _directory: BorrowedFd<'_>) -> Option<LinkBy> {
    None
}

/// Never called.
pub(crate) fn link_open_file(
    _file: BorrowedFd<'_>,
    by: LinkBy,
    _directory: BorrowedFd<'_>,
    _name: &Path,
) -> Result<()> {
    match by {}
}

/// Renames a file, unless the new name exists (EEXIST). Returns `Ok(false)`: that cannot be done.
#[cfg(not(target_os = "macos"))]
#[expect(clippy::unnecessary_wraps, reason = "as on Linux")]
pub(crate) fn rename_noreplace(
    _from: BorrowedFd<'_>,
    _old: &Path,
    _to: BorrowedFd<'_>,
    _new: &Path,
) -> Result<bool> {
    Ok(false)
}

/// Renames a file, unless the new name exists (EEXIST). Returns `Ok(false)` if the filesystem
/// cannot do that: rename(2) of macOS, renameatx_np with `RENAME_EXCL`, has ENOTSUP for it, and
/// EINVAL for flags that it does not know.
#[cfg(target_os = "macos")]
pub(crate) fn rename_noreplace(
    from: BorrowedFd<'_>,
    old: &Path,
    to: BorrowedFd<'_>,
    new: &Path,
) -> Result<bool> {
    let flags = fs::RenameFlags::NOREPLACE;
    match retry_on_intr(|| fs::renameat_with(from, old, to, new, flags)) {
        Ok(()) => Ok(true),
        Err(Errno::NOTSUP | Errno::OPNOTSUPP | Errno::INVAL | Errno::NOSYS) => Ok(false),
        Err(errno) => Err(errno),
    }
}

/// Opens a directory to empty it. Gives its owner all permissions, because the directory may not
/// even be readable. Errors: EXDEV if it is on another filesystem; ENOTDIR if it is not a
/// directory.
pub(crate) fn open_to_empty(parent: BorrowedFd<'_>, name: &Path) -> Result<OwnedFd> {
    let opened = match open_child(parent, name) {
        Err(Errno::ACCESS) => {
            open_handle(parent, name)?.set_mode(0o700)?;
            open_child(parent, name)?
        }
        opened => opened?,
    };
    let seen = metadata(&opened.fd)?;
    if !seen.is_on_filesystem_of(&metadata(parent)?) {
        return Err(Errno::XDEV);
    }
    fs::fchmod(&opened.fd, permissions(0o700))?;
    Ok(opened.fd)
}

/// Calls `visit` with each name in a directory except `.` and `..`, until `visit` breaks.
pub(crate) fn for_each_name(
    directory: BorrowedFd<'_>,
    mut visit: impl FnMut(&[u8]) -> ControlFlow<()>,
) -> Result<()> {
    for entry in Dir::new(reopen_directory(directory)?)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if !matches!(name, b"." | b"..") && visit(name).is_break() {
            break;
        }
    }
    Ok(())
}
