//! The directories that `--create-dirs` makes.
//!
//! Invariant: the directories are made in the commit, so a run that fails or is killed before it
//! leaves none. A run that fails later removes those that are still empty.

use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use anyhow::{Context, Result};

use crate::destination::Destination;
use crate::message::Quoted;
use crate::request::Sync;
use crate::sys::{self, Errno, OpenDirectory};
use crate::temp_name::has_name;

/// DEST's directory, and its ancestors in which a name is new.
#[derive(Debug)]
pub(crate) struct Parents {
    destination: Destination,
    /// All directories in which a name is new, the outermost first. The last is DEST's own.
    changed: Vec<Rc<OpenDirectory>>,
    /// The names that this run has made, each with the index of its directory in `changed`.
    made: Vec<(usize, PathBuf)>,
}

impl Parents {
    /// Makes the missing directories, if any.
    pub(crate) fn make(destination: &Destination) -> Result<Self> {
        let mut parents = Self {
            destination: destination.clone(),
            changed: vec![Rc::clone(destination.directory())],
            made: Vec::new(),
        };
        if destination.missing().is_empty() {
            return Ok(parents);
        }
        for name in destination.missing() {
            parents.descend(Path::new(name)).with_context(|| {
                format!(
                    "cannot make directory {} for {}",
                    Quoted(name),
                    destination.display()
                )
            })?;
        }
        parents.destination = destination.inside(Rc::clone(parents.innermost()));
        Ok(parents)
    }

    fn descend(&mut self, name: &Path) -> Result<(), Errno> {
        let index = self.changed.len() - 1;
        match sys::make_directory(self.innermost().fd.as_fd(), name) {
            Ok(()) => self.made.push((index, name.to_owned())),
            // Another process has made the directory.
            Err(Errno::EXIST) => {}
            Err(errno) => return Err(errno),
        }
        // Without following a link: where all users may write, another user could choose its
        // target.
        let directory = sys::open_child(self.innermost().fd.as_fd(), name)?;
        self.changed.push(Rc::new(directory));
        Ok(())
    }

    fn innermost(&self) -> &Rc<OpenDirectory> {
        &self.changed[self.changed.len() - 1]
    }

    /// Returns DEST in its own directory.
    pub(crate) fn destination(&self) -> &Destination {
        &self.destination
    }

    /// Keeps the directories before the commit. With [`Sync::Full`], syncs their names. Returns the
    /// paths of those that were made.
    pub(crate) fn keep(mut self, sync: Sync) -> Result<Vec<PathBuf>> {
        let made = self.disarm();
        if sync == Sync::Full {
            let inside = self.innermost();
            let mut changed = self.changed.iter();
            changed
                .try_for_each(|directory| directory.sync(&inside.fd))
                .with_context(|| self.destination.cannot("sync the directory of"))?;
        }
        Ok(made)
    }

    /// Keeps the directories, because the commit is done. Returns the paths of those that were
    /// made, the outermost first.
    pub(crate) fn disarm(&mut self) -> Vec<PathBuf> {
        let innermost = self.destination.directory_path();
        let last = self.changed.len() - 1;
        let made = self.made.drain(..);
        made.filter_map(|(index, _)| innermost.ancestors().nth(last - index - 1))
            .map(Path::to_owned)
            .collect()
    }

    /// Returns all directories in which a name is new, DEST's own first.
    pub(crate) fn changed(&self) -> impl Iterator<Item = &OpenDirectory> {
        self.changed.iter().rev().map(Rc::as_ref)
    }
}

impl Drop for Parents {
    fn drop(&mut self) {
        for (index, name) in self.made.drain(..).rev() {
            let parent = self.changed[index].fd.as_fd();
            let made = self.changed.get(index + 1);
            let made = made.and_then(|made| Some(sys::metadata(&made.fd).ok()?.identity));
            // The descriptor may be missing after a failure of the open.
            if made.is_none_or(|made| has_name(parent, &name, made)) {
                // ENOTEMPTY: another process uses the directory, so it stays.
                let _ = sys::remove_directory(parent, &name);
            }
        }
    }
}
