//! A directory that nobody else can look into, beside DEST.
//!
//! The rule: as for a name, who has it has its lock; it is removed when dropped, or by a signal, with all that is in it.

use std::cell::Cell;
use std::ffi::OsString;
use std::iter;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use anyhow::Result;

use super::Choice;
use super::acquire::{
    Choices, TRIES, acquire, acquire_random, claim, is_file_at, remove_leftovers_from,
};
use crate::signals::{self, RemoveOnDeath};
use crate::sys::{self, Errno};

/// A directory in which new files have the names that they will have: for programs that choose by it what to make of a
/// file, and for many files that wait for one another.
#[derive(Debug)]
pub(crate) struct PrivateDirectory<'d> {
    pub(super) parent: BorrowedFd<'d>,
    pub(super) name: PathBuf,
    pub(super) fd: OwnedFd,
    /// Ends with the directory.
    on_death: Option<RemoveOnDeath>,
    /// How many files were given a room.
    files: Cell<usize>,
}

/// How many files wait in one directory. To add a name to a small one and to take it away again costs ext4 and xfs less:
/// half of what is paid for a rename between directories of thousands.
const ROOM: usize = 64;

impl<'d> PrivateDirectory<'d> {
    /// Makes one for one file in `parent`. The next one for the same `destination` meets it, if we are killed.
    pub(crate) fn make(parent: BorrowedFd<'d>, destination: &Path) -> Result<Self> {
        Self::named(parent, destination, Choices::OF_A_FILE)
    }

    /// Makes one for many files in `parent`. No file has the name that it is made from, so that all who write many files
    /// here meet one another's leftovers; also those in the directories above that are searched.
    pub(crate) fn for_many(parent: BorrowedFd<'d>, searched: Option<&[OsString]>) -> Result<Self> {
        let (many, choices) = (Path::new(""), Choices::OF_MANY);
        remove_leftovers_from(parent, searched, many, choices, || None);
        Self::named(parent, many, choices)
    }

    fn named(parent: BorrowedFd<'d>, destination: &Path, choices: Choices) -> Result<Self> {
        // In a crowd each may take the other's directory for a leftover, again and again; a random one meets nobody.
        let last = iter::once(Choice::Random);
        for choice in iter::repeat_n(Choice::First, TRIES).chain(last) {
            let made = signals::without(|| {
                let make = |name: &Path| sys::make_private_directory(parent, name);
                let (mut guard, ()) = match choice {
                    Choice::First => acquire(parent, destination, choices, &|| None, make)?,
                    Choice::Random => acquire_random(parent, |name| Ok(make(name)?))?,
                };
                // It removes files only.
                guard.disable_cleanup(true);
                let name = PathBuf::from(guard.file_name().unwrap_or_default());
                let open = Self::open(parent, &name);
                if open.is_err() {
                    // The error under way is what the user wants to know.
                    let _ = sys::remove_directory(parent, &name);
                }
                open
            })?;
            if let Some(made) = made {
                choices.remove_others(parent, destination, &made.name, &|| None);
                return Ok(made);
            }
        }
        Err(Errno::BUSY.into())
    }

    /// `None` if somebody has taken it for a leftover meanwhile; then the name may be that of a file.
    fn open(parent: BorrowedFd<'d>, name: &Path) -> Result<Option<Self>> {
        let fd = match sys::open_child(parent, name) {
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
            opened => opened?.fd,
        };
        if claim(&fd)?.is_none() {
            return Ok(None);
        }
        let on_death = RemoveOnDeath::arm(parent, name, Some(fd.try_clone()?))?;
        Ok(Some(Self {
            parent,
            name: name.to_owned(),
            fd,
            on_death: Some(on_death),
            files: Cell::new(0),
        }))
    }

    /// Where in it the next one of many files goes.
    pub(super) fn next_room(&self) -> Result<PathBuf, Errno> {
        let files = self.files.replace(self.files.get() + 1);
        let room = PathBuf::from((files / ROOM).to_string());
        if files % ROOM == 0 {
            sys::make_private_directory(self.fd.as_fd(), &room)?;
        }
        Ok(room)
    }

    pub(crate) fn as_file(&self) -> &OwnedFd {
        &self.fd
    }
}

impl Drop for PrivateDirectory<'_> {
    fn drop(&mut self) {
        let remove = || {
            // After a commit all rooms are empty. To look into them would take a descriptor, and there may be none left.
            for room in 0..self.files.get().div_ceil(ROOM) {
                // One that is not empty is what comes next.
                let _ = sys::remove_directory(self.fd.as_fd(), Path::new(&room.to_string()));
            }
            sys::empty_directory(self.fd.as_fd());
            if sys::remove_directory(self.parent, &self.name).is_err()
                && is_file_at(&self.fd, self.parent, &self.name)
            {
                // A program made a directory in it. The error under way, if any, is what the user wants to know.
                let path = sys::proc_path(self.parent).join(&self.name);
                drop(std::fs::remove_dir_all(path));
            }
            self.on_death = None;
            Ok(())
        };
        // As for a name: between the removal and the disarming it may become somebody else's.
        drop(signals::without(remove));
    }
}
