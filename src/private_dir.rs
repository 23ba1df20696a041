//! Directories of mode 0700 with random names: the preview of `--validate`, and the staging
//! directory of `-t`.
//!
//! Invariant: only a preview is emptied. No other user can rename it, so it is the directory that
//! the run has made. It is emptied by its descriptor, without following links and without entering
//! mounted filesystems. A staging directory is removed only if it is empty: each file in it removes
//! its own name. A directory that a killed run has left stays.

use std::cell::Cell;
use std::ffi::OsStr;
use std::ops::ControlFlow;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::thread;
use std::time::Duration;

use anyhow::{Result, bail};

use crate::signals;
use crate::sys::{self, Errno, FileSystem, OpenDirectory};
use crate::temp_name::TempName;

/// The depth to which a program's directories are removed, and how often each is read again.
const MAX_DEPTH: usize = 64;
const MAX_PASSES: usize = 8;

/// The pause between two attempts to remove a directory.
const PAUSE: Duration = Duration::from_millis(10);

/// A directory that is removed when dropped, if it is empty.
#[derive(Debug)]
pub(crate) struct PrivateDir {
    parent: Rc<OpenDirectory>,
    name: PathBuf,
    directory: Rc<OpenDirectory>,
    is_local: bool,
}

impl PrivateDir {
    /// Makes a private directory in `parent`, which is on this filesystem.
    pub(crate) fn make(parent: &Rc<OpenDirectory>, filesystem: FileSystem) -> Result<Self> {
        signals::guard()?;
        let at = parent.fd.as_fd();
        let (mut temporary, ()) = TempName::random(parent, |name| {
            sys::make_private_directory(at, name).inspect_err(|errno| {
                if *errno != Errno::EXIST {
                    // A failed call may have made it (FUSE).
                    let _ = sys::remove_directory(at, name);
                }
            })
        })?;
        let name = temporary.name().to_owned();
        temporary.disarm();
        let opened = open_own(at, &name, filesystem).inspect_err(|_| {
            // The first error is the one to report.
            let _ = sys::remove_directory(at, &name);
        })?;
        Ok(Self {
            parent: Rc::clone(parent),
            name,
            directory: Rc::new(opened),
            is_local: filesystem.is_local(),
        })
    }

    pub(crate) fn directory(&self) -> &Rc<OpenDirectory> {
        &self.directory
    }

    /// Removes an entry, if it exists.
    pub(crate) fn remove(&self, name: &Path) {
        // If the entry stays, creating the next one of that name reports it.
        let _ = remove_entry(self.directory.fd.as_fd(), name, MAX_DEPTH);
    }

    /// Returns the directory's name in its parent.
    pub(crate) fn name(&self) -> &Path {
        &self.name
    }

    /// Removes the directory with its content. Only where no other user can rename it.
    pub(crate) fn remove_all(&self) {
        let parent = self.parent.fd.as_fd();
        // A validator may have changed its mode.
        let _ = sys::set_mode(&self.directory.fd, 0o700);
        // A process that a validator has started may create an entry after the directory was found
        // empty.
        for _ in 0..MAX_PASSES {
            let was_empty = remove_content(self.directory.fd.as_fd(), MAX_DEPTH);
            let removed = sys::remove_directory(parent, &self.name);
            // Anything that remains is private and has a random name. The first error is the one to
            // report.
            if !was_empty || removed != Err(Errno::NOTEMPTY) {
                return;
            }
        }
    }
}

impl Drop for PrivateDir {
    fn drop(&mut self) {
        let parent = self.parent.fd.as_fd();
        for _ in 0..MAX_PASSES {
            let removed = sys::remove_directory(parent, &self.name);
            if removed != Err(Errno::NOTEMPTY) || self.is_local {
                return;
            }
            // On FUSE and NFS, a file that was open when it was unlinked stays for a moment, as
            // `.fuse_hidden…` or `.nfs…`.
            thread::sleep(PAUSE);
        }
    }
}

/// Opens a directory that was just made. The owner of `parent` may have replaced it with one of
/// their own, to control what is done in it.
fn open_own(parent: BorrowedFd<'_>, name: &Path, filesystem: FileSystem) -> Result<OpenDirectory> {
    let opened = sys::open_child(parent, name)?;
    let seen = sys::metadata(&opened.fd)?;
    // Other filesystems may map owners and modes (NFS with root_squash, SMB, FAT).
    let of_others = seen.mode & 0o077;
    let is_ours = seen.uid == sys::effective_uid() && of_others == 0;
    if filesystem.is_local() && !is_ours {
        bail!("another process has replaced a directory that was just made");
    }
    if filesystem.is_local() && seen.mode & 0o700 != 0o700 {
        bail!(
            "a new directory there has mode {:04o}, by a default ACL",
            seen.mode & 0o777
        );
    }
    let mut is_empty = true;
    sys::for_each_name(opened.fd.as_fd(), |_| {
        is_empty = false;
        ControlFlow::Break(())
    })?;
    if !is_empty {
        bail!("another process has replaced a directory that was just made");
    }
    Ok(opened)
}

/// Removes everything in a directory, in a bounded number of passes: FUSE and NFS rename an open
/// file that is unlinked within its directory, and a process that a validator has started may still
/// write. Returns true if the directory was found empty.
fn remove_content(directory: BorrowedFd<'_>, depth: usize) -> bool {
    for _ in 0..MAX_PASSES {
        // Each pass opens the directory again, because btrfs lists only what was there at the open.
        let mut names = Vec::new();
        let read = sys::for_each_name(directory, |name| {
            names.push(PathBuf::from(OsStr::from_bytes(name)));
            ControlFlow::Continue(())
        });
        if names.is_empty() && read.is_ok() {
            return true;
        }
        let has_changed = |removed| matches!(removed, Ok(()) | Err(Errno::NOTEMPTY));
        let changed = names
            .iter()
            .filter(|name| has_changed(remove_entry(directory, name, depth)))
            .count();
        if changed == 0 && read.is_ok() {
            break;
        }
    }
    false
}

/// Removes an entry. Errors: ENOTEMPTY only if a directory got a new entry after it was emptied.
fn remove_entry(parent: BorrowedFd<'_>, name: &Path, depth: usize) -> Result<(), Errno> {
    match sys::unlink(parent, name) {
        // POSIX specifies EPERM for a directory.
        Err(Errno::ISDIR | Errno::PERM) if depth > 0 => {
            let child = sys::open_to_empty(parent, name)?;
            if !remove_content(child.as_fd(), depth - 1) {
                return Err(Errno::BUSY);
            }
            sys::remove_directory(parent, name)
        }
        unlinked => unlinked,
    }
}

/// How many files are staged in one directory. ext4 and xfs scan the directory for each name that
/// is added or removed, so a rename out of a directory with thousands of names takes twice as long.
const FILES_PER_SUBDIR: usize = 64;

/// A directory in which many new files have their own names until they are renamed.
#[derive(Debug)]
pub(crate) struct StagingDir {
    private: PrivateDir,
    files: Cell<usize>,
    /// All files are in one directory. True if the filesystem ignores case, so that a clash fails
    /// with EEXIST; and if it is not local, so that no path leads through a subdirectory whose
    /// owner cannot be checked.
    is_flat: bool,
    pub(crate) ignores_case: bool,
}

impl StagingDir {
    pub(crate) fn make(parent: &Rc<OpenDirectory>, filesystem: FileSystem) -> Result<Self> {
        let mut staging = Self {
            private: PrivateDir::make(parent, filesystem)?,
            files: Cell::new(0),
            is_flat: false,
            ignores_case: false,
        };
        let directory = staging.private.directory().fd.as_fd();
        sys::make_private_directory(directory, &subdir(0))?;
        let upper_case = subdir(0).to_string_lossy().to_uppercase();
        let ignores_case = sys::metadata_at(directory, Path::new(&upper_case)).is_ok();
        let is_flat = ignores_case || !filesystem.is_local();
        if is_flat {
            sys::remove_directory(directory, &subdir(0))?;
        }
        (staging.is_flat, staging.ignores_case) = (is_flat, ignores_case);
        Ok(staging)
    }

    /// Creates a file with its own name. Errors: EEXIST if the directory ignores case and has a
    /// name that differs only in case.
    pub(crate) fn create(
        &self,
        name: &Path,
        mode: u32,
    ) -> Result<(TempName, std::os::fd::OwnedFd), Errno> {
        let directory = self.private.directory();
        let index = self.files.replace(self.files.get() + 1);
        let number = index / FILES_PER_SUBDIR;
        if index > 0 && index % FILES_PER_SUBDIR == 0 && !self.is_flat {
            sys::make_private_directory(directory.fd.as_fd(), &subdir(number))?;
        }
        let name = if self.is_flat {
            name.to_owned()
        } else {
            subdir(number).join(name)
        };
        let at = directory.fd.as_fd();
        let file = sys::create_new(at, &name, mode).inspect_err(|errno| {
            if *errno != Errno::EXIST {
                // A failed call may have made the name (FUSE).
                let _ = sys::unlink(at, &name);
            }
        })?;
        Ok((TempName::own(directory, name), file))
    }

    pub(crate) fn directory(&self) -> &Rc<OpenDirectory> {
        self.private.directory()
    }
}

impl Drop for StagingDir {
    fn drop(&mut self) {
        // Without reading which there are: that would need a descriptor, and none may be left.
        for number in 0..=self.files.get() / FILES_PER_SUBDIR {
            let _ = sys::remove_directory(self.private.directory().fd.as_fd(), &subdir(number));
        }
    }
}

fn subdir(number: usize) -> PathBuf {
    PathBuf::from(format!("d{number}"))
}
