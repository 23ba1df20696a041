//! `--lock` and `--append`: one writer after the other.
//!
//! The rule: who holds the lock (flock) of the file that DEST names is the only one at work. The file that replaces it is
//! locked too before it gets the name, and until it has it; so whoever waited for the old file looks again, finds the new
//! one, and waits for that if need be. Where DEST does not exist yet, the lock is that of an empty file under the first
//! temporary name.

use std::os::fd::{AsFd, OwnedFd};

use anyhow::{Context, Result};

use crate::destination::Destination;
use crate::parents::Parents;
use crate::request::Locking;
use crate::sys::{self, Errno, Identity, Kind, Metadata};
use crate::temp_name::LockName;

/// Held until it is dropped, which must be after the commit.
#[derive(Debug)]
pub(crate) struct Lock {
    // The name goes before the lock.
    _name: Option<LockName>,
    file: OwnedFd,
}

/// DEST may be replaced as often as we look, but not for ever.
const MOST_LOOKS: usize = 100_000;

impl Lock {
    /// Waits for the lock, with DEST as it is then. `resolve` looks what DEST is now.
    pub(crate) fn take(
        locking: Locking,
        resolve: impl Fn() -> Result<Destination>,
    ) -> Result<(Option<Self>, Destination)> {
        let mut destination = resolve()?;
        if locking == Locking::None {
            return Ok((None, destination));
        }
        for _ in 0..MOST_LOOKS {
            if !destination.missing().is_empty() {
                // Where there is no directory there is no lock in it; so here they are made before the commit.
                Parents::make(&destination)?.keep();
                destination = resolve()?;
            }
            let lock = match Self::of(&destination) {
                Ok(Some(lock)) => Some(lock),
                // Not a file; it will be refused, or written to as it is.
                Ok(None) => return Ok((None, destination)),
                // It has gone since it was looked at.
                Err(error) if error.downcast_ref() == Some(&Errno::NOENT) => None,
                Err(error) => return Err(error.context(cannot_lock(&destination))),
            };
            let now = resolve()?;
            match lock {
                Some(lock) if lock.counts_for(&destination, &now) => return Ok((Some(lock), now)),
                _ => destination = now,
            }
        }
        Err(Errno::BUSY).context(cannot_lock(&destination))
    }

    /// Which file is locked, and what holds the lock as well.
    pub(crate) fn share(&self) -> Option<(Identity, OwnedFd)> {
        let identity = sys::metadata(&self.file).ok()?.identity;
        Some((identity, self.file.try_clone().ok()?))
    }

    fn of(destination: &Destination) -> Result<Option<Self>> {
        let directory = destination.directory().fd.as_fd();
        match destination.existing() {
            // A link itself is to be replaced: it cannot be locked.
            None
            | Some(Metadata {
                kind: Kind::Symlink,
                ..
            }) => {
                let (name, file) = LockName::make(directory, destination.name())?;
                Ok(Some(Self {
                    _name: Some(name),
                    file,
                }))
            }
            Some(existing) if existing.kind == Kind::Regular => {
                let mut file = sys::open_to_lock(directory, destination.name())?;
                match sys::lock(&file) {
                    // NFS wants a descriptor that can write (flock(2)).
                    Err(Errno::BADF) => {
                        file = sys::open_own_to_lock(directory, destination.name())?;
                        sys::lock(&file)?;
                    }
                    locked => locked?,
                }
                Ok(Some(Self { _name: None, file }))
            }
            Some(_) => Ok(None),
        }
    }

    /// While we waited, DEST may have become another file, or one at all.
    fn counts_for(&self, before: &Destination, now: &Destination) -> bool {
        if !before.is_same_place(now) {
            return false;
        }
        let file = |existing: &Metadata| existing.kind == Kind::Regular;
        match now.existing().filter(file) {
            None => before.existing().is_none_or(|before| !file(&before)),
            Some(now) => sys::metadata(&self.file).is_ok_and(|ours| ours.identity == now.identity),
        }
    }
}

fn cannot_lock(destination: &Destination) -> String {
    format!("cannot lock {}", destination.typed())
}
