//! The directories that `--create-dirs` makes.
//!
//! The rule: they are made at the commit and not before, so that whatever fails earlier, or kills us, leaves none; what
//! fails later removes those that are still empty.

use std::ffi::OsString;
use std::os::fd::AsFd;
use std::path::Path;

use anyhow::{Context, Result};

use crate::destination::Destination;
use crate::message::Quoted;
use crate::sys::{self, Errno, OpenDirectory};

/// DEST's directory, and those above it that had to be made.
#[derive(Debug)]
pub(crate) struct Parents<'d> {
    present: &'d OpenDirectory,
    made: Vec<OpenDirectory>,
    /// The names that did not exist, each with its place in `made`.
    removable: Vec<(usize, OsString)>,
}

impl<'d> Parents<'d> {
    /// Makes what is missing; mostly nothing.
    pub(crate) fn make(destination: &'d Destination) -> Result<Self> {
        let mut parents = Self {
            present: destination.directory(),
            made: Vec::new(),
            removable: Vec::new(),
        };
        for name in destination.missing() {
            parents.descend(name).with_context(|| {
                format!(
                    "cannot make directory {} for {}",
                    Quoted(name),
                    destination.typed()
                )
            })?;
        }
        Ok(parents)
    }

    fn descend(&mut self, name: &OsString) -> Result<(), Errno> {
        let path = Path::new(name);
        match sys::make_directory(self.innermost().fd.as_fd(), path) {
            Ok(()) => self.removable.push((self.made.len(), name.clone())),
            // Somebody else made it meanwhile.
            Err(Errno::EXIST) => {}
            Err(errno) => return Err(errno),
        }
        // No link: in a directory that all may write to, it would be another's to say where it leads.
        let directory = sys::open_child(self.innermost().fd.as_fd(), path)?;
        self.made.push(directory);
        Ok(())
    }

    /// DEST's own directory.
    pub(crate) fn innermost(&self) -> &OpenDirectory {
        self.made.last().unwrap_or(self.present)
    }

    /// All directories in which a name is new: DEST's own first.
    pub(crate) fn changed(&self) -> impl Iterator<Item = &OpenDirectory> {
        self.made.iter().rev().chain([self.present])
    }

    /// The commit is done: they stay.
    pub(crate) fn keep(&mut self) {
        self.removable.clear();
    }
}

impl Drop for Parents<'_> {
    fn drop(&mut self) {
        for (place, name) in self.removable.drain(..).rev() {
            let above = place
                .checked_sub(1)
                .map_or(self.present, |above| &self.made[above]);
            // Not empty any more: somebody else uses it, so it stays.
            let _ = sys::remove_directory(above.fd.as_fd(), Path::new(&name));
        }
    }
}
