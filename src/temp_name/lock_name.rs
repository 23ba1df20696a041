//! The name of a lock where there is no file to lock yet: an empty file under the first temporary name.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use anyhow::Result;

use super::acquire::{claim, first_choice, is_file_at, remove, remove_dead};
use crate::signals::{self, RemoveOnDeath};
use crate::sys::{self, Errno, Kind, Metadata};

/// Each wait is for one writer; a filesystem whose files cannot be told apart must not keep us for ever.
const MOST_WAITS: usize = 100_000;

/// A name that says that somebody is about to make DEST. Removed when dropped.
#[derive(Debug)]
pub(crate) struct LockName {
    directory: OwnedFd,
    name: PathBuf,
    /// Ends with the name. `None` for another user's, which is only borrowed.
    on_death: Option<RemoveOnDeath>,
}

impl LockName {
    /// Makes the name, and waits while another has it. Gives the file too, which is locked.
    pub(crate) fn make(directory: BorrowedFd<'_>, destination: &Path) -> Result<(Self, OwnedFd)> {
        let name = PathBuf::from(first_choice(destination));
        for _ in 0..MOST_WAITS {
            let create = || Self::create(directory, destination, &name);
            if let Some(made) = signals::without(create)? {
                return Ok(made);
            }
            match sys::open_to_lock(directory, &name) {
                Ok(other) => {
                    sys::lock(&other)?;
                    if !is_file_at(&other, directory, &name) {
                        continue;
                    }
                    // Locked, and the name still is there: its owner is dead.
                    let ours = is_ours(&sys::metadata(&other)?);
                    if ours && remove(directory, &name, &other, destination).is_ok() {
                        continue;
                    }
                    // Not ours to remove, but as good a lock as any: who comes after us waits for the same.
                    let borrowed = Self {
                        directory: directory.try_clone_to_owned()?,
                        name,
                        on_death: None,
                    };
                    return Ok((borrowed, other));
                }
                Err(Errno::NOENT) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        Err(Errno::BUSY.into())
    }

    /// `None` if somebody has the name. To be called without signals.
    fn create(
        directory: BorrowedFd<'_>,
        destination: &Path,
        name: &Path,
    ) -> Result<Option<(Self, OwnedFd)>> {
        let directory = directory.try_clone_to_owned()?;
        // Nothing is in it, so others may see it: they must open it to wait for it.
        let file = match sys::create_new(directory.as_fd(), name, 0o444) {
            Err(Errno::EXIST) => return Ok(None),
            Err(errno) => {
                remove_dead(directory.as_fd(), destination, name, &|| None);
                return Err(errno.into());
            }
            Ok(file) => file,
        };
        let arm = || {
            // Until it is locked, somebody may take it for a leftover.
            let claimed = claim(&file)?.is_some();
            claimed
                .then(|| RemoveOnDeath::arm(directory.as_fd(), name, None))
                .transpose()
        };
        match arm() {
            Ok(None) => Ok(None),
            Ok(on_death) => {
                let name = name.to_owned();
                let made = Self {
                    directory,
                    name,
                    on_death,
                };
                Ok(Some((made, file)))
            }
            Err(error) => {
                // The error under way is what the user wants to know.
                let _ = sys::unlink(directory.as_fd(), name);
                Err(error)
            }
        }
    }
}

/// As a run of ours makes them: locks, new files, and the directories of `--validate`.
fn is_ours(file: &Metadata) -> bool {
    file.uid == sys::effective_uid()
        && match file.kind {
            Kind::Regular => true,
            Kind::Directory => file.mode & 0o777 == 0o700,
            _ => false,
        }
}

impl Drop for LockName {
    fn drop(&mut self) {
        if self.on_death.is_none() {
            return;
        }
        // A signal between the removal and the disarming would remove the next one's lock.
        drop(signals::without(|| {
            // What is left, if anything, is removed by the next write to the same DEST.
            let _ = sys::unlink(self.directory.as_fd(), &self.name);
            self.on_death = None;
            Ok(())
        }));
    }
}
