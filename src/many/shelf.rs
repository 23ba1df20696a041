//! Where new files wait for one another: a private directory beside those that they will replace.
//!
//! The rule: one for each directory in which a name will change. That is DIR and, where names in it are links that are
//! followed, wherever those lead.

use std::collections::HashMap;
use std::os::fd::AsFd;
use std::path::Path;
use std::rc::Rc;

use anyhow::{Context, Result, anyhow, bail};

use crate::backup::originals;
use crate::destination::Destination;
use crate::message::Quoted;
use crate::outcome::Failure;
use crate::parents::Parents;
use crate::request::{Backups, Sync};
use crate::staged::Flush;
use crate::sys;
use crate::temp_name::PrivateDirectory;

/// The new files of one directory.
#[derive(Debug)]
pub(super) struct Shelf<'d> {
    /// One of the files that it is for.
    first: &'d Destination,
    pub(super) waiting: PrivateDirectory<'d>,
    pub(super) flush: Flush,
}

impl<'d> Shelf<'d> {
    /// Makes one beside each directory that any of the files is in.
    pub(super) fn beside(destinations: &'d [Destination], sync: Sync) -> Result<Vec<Self>> {
        let mut shelves: Vec<Self> = Vec::new();
        for first in destinations {
            if shelves.iter().any(|shelf| shelf.is_for(first)) {
                continue;
            }
            let directory = first.directory().fd.as_fd();
            let waiting = PrivateDirectory::for_many(directory, first.searched())
                .with_context(|| format!("cannot create a directory beside {}", first.typed()))?;
            let flush = match sync {
                Sync::None => Flush::Never,
                Sync::File | Sync::Full if sys::flushes_at_once(waiting.as_file()) => Flush::Once,
                Sync::File | Sync::Full => Flush::Each,
            };
            shelves.push(Self {
                first,
                waiting,
                flush,
            });
        }
        Ok(shelves)
    }

    /// Where in `shelves` the file's is.
    pub(super) fn position(shelves: &[Self], destination: &Destination) -> usize {
        shelves
            .iter()
            .position(|shelf| shelf.is_for(destination))
            .expect("there is one for each directory")
    }

    fn is_for(&self, destination: &Destination) -> bool {
        Rc::ptr_eq(self.first.place(), destination.place())
    }

    /// Makes the directories that are missing; mostly none.
    pub(super) fn make_parents(&self) -> Result<Parents<'d>> {
        Parents::make(self.first)
    }
}

/// Refuses two names that lead to one file, and a file that has the name of another one's backup.
pub(super) fn find_same(destinations: &[Destination], backups: Option<&Backups>) -> Result<()> {
    let mut seen = HashMap::with_capacity(destinations.len());
    for destination in destinations {
        let name = destination.name().as_os_str();
        let key = (Rc::as_ptr(destination.place()), name);
        if let Some(other) = seen.insert(key, destination) {
            bail!(
                "cannot write {}: it is the same file as {}",
                destination.typed(),
                Destination::typed(other)
            );
        }
    }
    let Some(backups) = backups else {
        return Ok(());
    };
    for destination in destinations {
        for original in originals(destination.name(), backups) {
            if let Some(other) = seen.get(&(Rc::as_ptr(destination.place()), original.as_os_str()))
            {
                bail!(
                    "cannot write {}: its name is that of a backup of {}",
                    destination.typed(),
                    Destination::typed(other)
                );
            }
        }
    }
    Ok(())
}

/// Puts all that waits on the disk.
pub(super) fn flush(shelves: &[Shelf<'_>]) -> Result<()> {
    for shelf in shelves.iter().filter(|shelf| shelf.flush == Flush::Once) {
        sys::sync_filesystem(shelf.waiting.as_file())
            .with_context(|| format!("cannot write {}", shelf.first.typed()))?;
    }
    Ok(())
}

/// Removes what has become empty, and puts the new names on the disk. An error leaves the files new.
pub(super) fn end(
    shelves: Vec<Shelf<'_>>,
    parents: &[Parents<'_>],
    sync: Sync,
    directory: &Path,
) -> Result<(), Failure> {
    let durable = shelves
        .into_iter()
        .zip(parents)
        .try_for_each(|(shelf, parents)| {
            if sync != Sync::Full {
                return Ok(());
            }
            let inside = shelf.waiting.as_file().try_clone()?;
            drop(shelf);
            parents
                .changed()
                .try_for_each(|directory| directory.sync(&inside))
                .map_err(Into::into)
        });
    durable.map_err(|error: std::io::Error| {
        Failure::Changed(anyhow!(error).context(format!(
            "cannot sync directory {}, whose files are new but may not survive power loss",
            Quoted::new(directory)
        )))
    })
}
