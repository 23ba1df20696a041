//! Directories of mode 0700 with random names: the preview of `--validate`, and where new files of `-t` are staged.
//!
//! Invariant: only a directory that this run has just made is ever emptied, by its descriptor, without following links and
//! without entering what is mounted in it; one that a killed run left behind stays.

use std::cell::Cell;
use std::ffi::OsStr;
use std::ops::ControlFlow;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use anyhow::{Result, bail};

use crate::signals;
use crate::sys::{self, Errno, FileSystem, OpenDirectory};
use crate::temp_name::TempName;

/// How deep a program's directories are removed, and how often one is read again.
const MAX_DEPTH: usize = 64;
const MAX_PASSES: usize = 8;

/// A directory, removed with its content when dropped.
#[derive(Debug)]
pub(crate) struct PrivateDir {
    parent: Rc<OpenDirectory>,
    name: PathBuf,
    directory: Rc<OpenDirectory>,
}

impl PrivateDir {
    /// Makes one in a directory of this filesystem.
    pub(crate) fn make(parent: &Rc<OpenDirectory>, filesystem: FileSystem) -> Result<Self> {
        signals::guard()?;
        let at = parent.fd.as_fd();
        let (mut temporary, ()) =
            TempName::random(parent, |name| sys::make_private_directory(at, name))?;
        let name = temporary.name().to_owned();
        temporary.disarm();
        let opened = open_own(at, &name, filesystem).inspect_err(|_| {
            // The error under way is what the user needs to know.
            let _ = sys::remove_directory(at, &name);
        })?;
        Ok(Self {
            parent: Rc::clone(parent),
            name,
            directory: Rc::new(opened),
        })
    }

    pub(crate) fn directory(&self) -> &Rc<OpenDirectory> {
        &self.directory
    }

    /// Removes an entry, if there is one by that name.
    pub(crate) fn remove(&self, name: &Path) {
        // What is left is in the way of what is made next, which then reports it.
        let _ = remove_entry(self.directory.fd.as_fd(), name, MAX_DEPTH);
    }

    /// Its name in the directory that it was made in.
    pub(crate) fn name(&self) -> &Path {
        &self.name
    }
}

impl Drop for PrivateDir {
    fn drop(&mut self) {
        let parent = self.parent.fd.as_fd();
        if sys::remove_directory(parent, &self.name).is_ok() {
            return;
        }
        // What a validator has started may make an entry just after the directory was seen empty.
        for _ in 0..MAX_PASSES {
            let was_empty = remove_content(self.directory.fd.as_fd(), MAX_DEPTH);
            let removed = sys::remove_directory(parent, &self.name);
            // What is left, if anything, is private and has a random name. The error under way is what the user needs to know.
            if !was_empty || removed != Err(Errno::NOTEMPTY) {
                return;
            }
        }
    }
}

/// Opens a directory that was just made. The owner of `parent` may have put another one in its place: one of their own, to
/// choose what is done in it, or one of ours, to have it emptied.
fn open_own(parent: BorrowedFd<'_>, name: &Path, filesystem: FileSystem) -> Result<OpenDirectory> {
    let opened = sys::open_child(parent, name)?;
    let seen = sys::metadata(&opened.fd)?;
    // Other filesystems may have owners and modes of their own (NFS with root_squash, SMB, FAT).
    let is_private = seen.mode & 0o777 == 0o700;
    let is_ours = seen.uid == sys::effective_uid() && is_private;
    if filesystem.is_local() && !is_ours {
        bail!("another process has replaced a directory that was just made");
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

/// Removes all that is in a directory, in a bounded number of passes: FUSE and NFS give an open file that is removed a new
/// name in the same directory, and what a validator has started may still write. Returns whether it was seen empty.
fn remove_content(directory: BorrowedFd<'_>, depth: usize) -> bool {
    for _ in 0..MAX_PASSES {
        // Opened again for each pass: btrfs lists only what was there at the open.
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

/// Errors: ENOTEMPTY only if a directory has got a new entry after it was empty.
fn remove_entry(parent: BorrowedFd<'_>, name: &Path, depth: usize) -> Result<(), Errno> {
    match sys::unlink(parent, name) {
        // EPERM is what POSIX says of a directory.
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

/// How many files are staged in one directory. ext4 and xfs scan a directory for each name that is added or removed, so a
/// rename out of one with thousands costs twice as much.
const FILES_PER_SUBDIR: usize = 64;

/// Where many new files wait under their own names, to be renamed together.
#[derive(Debug)]
pub(crate) struct StagingDir {
    private: PrivateDir,
    files: Cell<usize>,
    /// All files are in one directory: where names that differ in case only are one file, so that a clash is EEXIST; and
    /// where the directory cannot be proven to be ours, so that no path is walked in it.
    is_flat: bool,
    pub(crate) ignores_case: bool,
}

impl StagingDir {
    pub(crate) fn make(parent: &Rc<OpenDirectory>, filesystem: FileSystem) -> Result<Self> {
        let private = PrivateDir::make(parent, filesystem)?;
        let directory = private.directory().fd.as_fd();
        sys::make_private_directory(directory, &subdir(0))?;
        let upper_case = subdir(0).to_string_lossy().to_uppercase();
        let ignores_case = sys::metadata_at(directory, Path::new(&upper_case)).is_ok();
        let is_flat = ignores_case || !filesystem.is_local();
        if is_flat {
            sys::remove_directory(directory, &subdir(0))?;
        }
        Ok(Self {
            private,
            files: Cell::new(0),
            is_flat,
            ignores_case,
        })
    }

    /// Creates a file with its own name. Errors: EEXIST if the directory ignores case, and there is a file whose name differs
    /// in case only.
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
        let file = sys::create_new(directory.fd.as_fd(), &name, mode)?;
        Ok((TempName::own(directory, name), file))
    }

    pub(crate) fn directory(&self) -> &Rc<OpenDirectory> {
        self.private.directory()
    }
}

impl Drop for StagingDir {
    fn drop(&mut self) {
        // After a commit all are empty; to read them would take a descriptor, and there may be none left.
        for number in 0..=self.files.get() / FILES_PER_SUBDIR {
            // What is not empty is removed with the directory.
            let _ = sys::remove_directory(self.private.directory().fd.as_fd(), &subdir(number));
        }
    }
}

fn subdir(number: usize) -> PathBuf {
    PathBuf::from(format!("d{number}"))
}
