//! The name of a lock where there is no file to lock yet: an empty file under the first temporary name.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use anyhow::Result;

use super::acquire::{claim, first_choice, is_file_at, remove};
use crate::signals::{self, RemoveOnDeath};
use crate::sys::{self, Errno};

/// Each wait is for one writer; a filesystem whose files cannot be told apart must not keep us for ever.
const MOST_WAITS: usize = 100_000;

/// A name that says that somebody is about to make DEST. Removed when dropped.
#[derive(Debug)]
pub(crate) struct LockName {
    directory: OwnedFd,
    name: PathBuf,
    /// Ends with the name.
    _on_death: RemoveOnDeath,
}

impl LockName {
    /// Makes the name, and waits while another has it. Gives the file too, which is locked.
    pub(crate) fn make(directory: BorrowedFd<'_>, destination: &Path) -> Result<(Self, OwnedFd)> {
        let name = PathBuf::from(first_choice(destination));
        for _ in 0..MOST_WAITS {
            // Nothing is in it, so others may see it: they must open it to wait for it.
            let made = signals::without(|| {
                let file = match sys::create_new(directory, &name, 0o444) {
                    Err(Errno::EXIST) => return Ok(None),
                    created => created?,
                };
                if !claim(&file)? {
                    return Ok(None);
                }
                let on_death = RemoveOnDeath::arm(directory, &name, None)?;
                let directory = directory.try_clone_to_owned()?;
                Ok(Some((
                    Self {
                        directory,
                        name: name.clone(),
                        _on_death: on_death,
                    },
                    file,
                )))
            })?;
            if let Some(made) = made {
                return Ok(made);
            }
            match sys::open_to_lock(directory, &name) {
                Ok(other) => {
                    sys::lock(&other)?;
                    // Locked, and the name still is there: its owner is dead.
                    if is_file_at(&other, directory, &name) {
                        remove(directory, &name, &other)?;
                    }
                }
                Err(Errno::NOENT) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        Err(Errno::BUSY.into())
    }
}

impl Drop for LockName {
    fn drop(&mut self) {
        // What is left, if anything, is removed by the next write to the same DEST.
        let _ = sys::unlink(self.directory.as_fd(), &self.name);
    }
}
