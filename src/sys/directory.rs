//! Names: all relative to a directory that is open already, so that nothing is resolved twice.

use std::ffi::{OsStr, OsString};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use rustix::fs::{
    self, Access, AtFlags, Mode, OFlags, RawDir, RenameFlags, ResolveFlags, SeekFrom,
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

/// Opens what the user named as SOURCE, as `cat` would: a FIFO waits for its writer.
pub(crate) fn open_source(path: &Path) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOCTTY;
    retry_on_intr(|| fs::openat(CWD, path, flags, Mode::empty()))
}

/// Makes a file without a name in `directory`; it is gone when its descriptor is, unless it is linked before.
///
/// `Ok(None)` where that cannot be had: EOPNOTSUPP (the filesystem has no such thing: NFS, FUSE, overlayfs before Linux
/// 6.1), EISDIR (Linux before 3.11), EINVAL and ENOENT (some network filesystems take it for an open of the directory),
/// ENOSYS (a seccomp filter).
pub(crate) fn open_unnamed(directory: BorrowedFd<'_>, mode: u32) -> Result<Option<OwnedFd>> {
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    match retry_on_intr(|| fs::openat(directory, c".", flags, Mode::from_raw_mode(mode))) {
        Ok(fd) => Ok(Some(fd)),
        Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL | Errno::NOENT | Errno::NOSYS) => {
            Ok(None)
        }
        Err(errno) => Err(errno),
    }
}

/// Makes sure that there is room for a little more in the directory's filesystem (ENOSPC, EDQUOT if not).
///
/// In a file of its own: nobody else is to be disturbed. Where that cannot be had, there is no answer, and no error.
pub(crate) fn probe_room(directory: BorrowedFd<'_>) -> Result<()> {
    const LITTLE: u64 = 4096;
    match open_unnamed(directory, 0o600)? {
        Some(file) => super::reserve(file, 0, LITTLE),
        None => Ok(()),
    }
}

/// Opens a file for locking it: for reading or, where that is forbidden, for writing.
pub(crate) fn open_to_lock(directory: BorrowedFd<'_>, name: &Path) -> Result<OwnedFd> {
    match open_existing(directory, name) {
        Err(Errno::ACCESS) => open_for(OFlags::WRONLY, directory, name),
        other => other,
    }
}

/// Opens a file of our own for locking it: for writing first, as NFS wants it (EBADF from flock(2) otherwise).
pub(crate) fn open_own_to_lock(directory: BorrowedFd<'_>, name: &Path) -> Result<OwnedFd> {
    match open_for(OFlags::RDWR, directory, name) {
        // ETXTBSY: a program that runs.
        Err(Errno::ACCESS | Errno::PERM | Errno::ROFS | Errno::TXTBSY) => {
            open_to_lock(directory, name)
        }
        other => other,
    }
}

fn open_for(access: OFlags, directory: BorrowedFd<'_>, name: &Path) -> Result<OwnedFd> {
    let flags = access | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    retry_on_intr(|| fs::openat(directory, name, flags, Mode::empty()))
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

/// Gives a file a second name; EEXIST if anything by that name is there.
///
/// ENOENT also means that the file was replaced while the kernel looked: then there is another one by its name. After an
/// error that is not the kernel's own, it may have been done all the same: an answer can get lost (FUSE, NFS).
pub(crate) fn link(from: BorrowedFd<'_>, old: &Path, to: BorrowedFd<'_>, new: &Path) -> Result<()> {
    const TRIES: usize = 1000;
    let at = |directory, name| super::metadata_at(directory, name).map(|seen| seen.identity);
    let is_done = || at(to, new).is_ok_and(|is| Ok(is) == at(from, old));
    let link = || {
        let mut interrupted = false;
        loop {
            match fs::linkat(from, old, to, new, AtFlags::empty()) {
                Err(Errno::INTR) => interrupted = true,
                Err(Errno::EXIST) if interrupted && is_done() => return Ok(()),
                linked => return linked,
            }
        }
    };
    for _ in 1..TRIES {
        match link() {
            Err(Errno::NOENT) if at(from, old).is_ok() => {}
            Err(
                errno @ (Errno::EXIST
                | Errno::PERM
                | Errno::ACCESS
                | Errno::OPNOTSUPP
                | Errno::NOSYS
                | Errno::MLINK),
            ) => return Err(errno),
            Err(_) if is_done() => return Ok(()),
            linked => return linked,
        }
    }
    link()
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
/// `Ok(false)` where the filesystem cannot (EINVAL: NFS, FUSE) or the kernel (ENOSYS: before Linux 3.15).
pub(crate) fn rename_to_free(
    from: BorrowedFd<'_>,
    old: &Path,
    to: BorrowedFd<'_>,
    new: &Path,
) -> Result<bool> {
    match retry_on_intr(|| fs::renameat_with(from, old, to, new, RenameFlags::NOREPLACE)) {
        Ok(()) => Ok(true),
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => Ok(false),
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

/// Removes the files in a directory, and in the directories in it. Allocates nothing: it may run in the handler of a
/// signal. There is no error; what is left shows.
pub(crate) fn empty_directory(directory: BorrowedFd<'_>) {
    remove_all_in(directory, |name| {
        if let Ok(inner) = open_child(directory, name) {
            remove_all_in(inner.fd.as_fd(), |_| {});
            let _ = remove_directory(directory, name);
        }
    });
}

/// Removes the files in a directory; for each that is none, calls `other`.
fn remove_all_in(directory: BorrowedFd<'_>, mut other: impl FnMut(&Path)) {
    loop {
        // From the start again, until nothing goes any more: a removal may move what comes after it.
        if fs::seek(directory, SeekFrom::Start(0)).is_err() {
            return;
        }
        let mut removed = false;
        let mut buffer = [MaybeUninit::<u8>::uninit(); 8192];
        let mut entries = RawDir::new(directory, &mut buffer);
        while let Some(Ok(entry)) = entries.next() {
            let name = entry.file_name();
            match fs::unlinkat(directory, name, AtFlags::empty()) {
                Ok(()) => removed = true,
                Err(_) if matches!(name.to_bytes(), b"." | b"..") => {}
                Err(_) => other(Path::new(OsStr::from_bytes(name.to_bytes()))),
            }
        }
        if !removed {
            return;
        }
    }
}

/// Makes a directory, 0777 less the umask.
pub(crate) fn make_directory(parent: BorrowedFd<'_>, name: &Path) -> Result<()> {
    retry_on_intr(|| fs::mkdirat(parent, name, Mode::from_raw_mode(0o777)))
}

/// Makes a directory that nobody else may look into, and we may, whatever the umask. Only to be called while there is one
/// thread.
pub(crate) fn make_private_directory(parent: BorrowedFd<'_>, name: &Path) -> Result<()> {
    let mask = rustix::process::umask(Mode::empty());
    let made = retry_on_intr(|| fs::mkdirat(parent, name, Mode::from_raw_mode(0o700)));
    rustix::process::umask(mask);
    made
}

/// Makes two names change places; at no moment is there nothing by either.
///
/// `Ok(false)` where the filesystem cannot (EINVAL) or the kernel (ENOSYS: before Linux 3.15).
pub(crate) fn exchange(
    from: BorrowedFd<'_>,
    one: &Path,
    to: BorrowedFd<'_>,
    other: &Path,
) -> Result<bool> {
    // Not made again when interrupted: done twice is not done.
    let exchanged = match fs::renameat_with(from, one, to, other, RenameFlags::EXCHANGE) {
        // xfs asks only for which project's quota the first one counts; to it, it is the same the other way round.
        Err(Errno::XDEV) => fs::renameat_with(to, other, from, one, RenameFlags::EXCHANGE),
        exchanged => exchanged,
    };
    match exchanged {
        Ok(()) => Ok(true),
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => Ok(false),
        Err(errno) => Err(errno),
    }
}

/// Opens a file to overwrite it where it is; a FIFO waits for its reader.
pub(crate) fn open_in_place(directory: BorrowedFd<'_>, name: &Path) -> Result<OwnedFd> {
    let flags = OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NOCTTY;
    retry_on_intr(|| fs::openat(directory, name, flags, Mode::empty()))
}

/// Calls `see` with each name in a directory; there may be many.
pub(crate) fn for_each_name(directory: BorrowedFd<'_>, mut see: impl FnMut(&[u8])) -> Result<()> {
    for entry in retry_on_intr(|| fs::Dir::read_from(directory))? {
        see(entry?.file_name().to_bytes());
    }
    Ok(())
}

/// Reads where a link points to.
pub(crate) fn read_link(directory: BorrowedFd<'_>, name: &Path) -> Result<PathBuf> {
    let target = fs::readlinkat(directory, name, Vec::new())?;
    Ok(PathBuf::from(OsString::from_vec(target.into_bytes())))
}

/// Asks whether this process may write to the file, by its effective user and groups (EACCES, EPERM, EROFS if not).
pub(crate) fn may_write(directory: BorrowedFd<'_>, name: &Path) -> Result<()> {
    match fs::accessat(directory, name, Access::WRITE_OK, AtFlags::EACCESS) {
        // EPERM is that of seccomp filters that are older than the call, or an immutable file's: the old call tells,
        // where real and effective ids are the same.
        Err(Errno::PERM) if rustix::process::getuid() == rustix::process::geteuid() => {
            fs::accessat(directory, name, Access::WRITE_OK, AtFlags::empty())
        }
        answer => answer,
    }
}
