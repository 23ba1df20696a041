//! DEST: an open directory and a name in it, and what has that name.
//!
//! The rule: a path is resolved once. From here on everything happens in the directory that was opened, so that one
//! which is renamed meanwhile is followed, and one which is exchanged for another is not. What has the name is looked at
//! twice: before the input, to refuse early, and after it, since input may take hours.

mod walk;

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::ffi::OsString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use anyhow::{Context, Result, bail};

use self::walk::{Aim, Walk};
use crate::message::Quoted;
use crate::outcome::Failure;
use crate::request::{Links, Parents};
use crate::sys::{self, Errno, Kind, Metadata, OpenDirectory};

/// The file to be written.
#[derive(Debug)]
pub(crate) struct Destination {
    typed: PathBuf,
    place: Rc<Place>,
    name: PathBuf,
    existing: Cell<Option<Metadata>>,
}

/// The directory that DEST is in, or will be. Many files share one.
#[derive(Debug)]
pub(crate) struct Place {
    directory: OpenDirectory,
    path: PathBuf,
    missing: Vec<OsString>,
    /// The names on the way to it, with `--create-dirs`: an earlier run may have begun above, when they were missing.
    searched: Option<Vec<OsString>>,
    /// The highest number of the backups in it, by the name of what they are of; read once for many files.
    pub(crate) numbers: RefCell<Option<HashMap<OsString, u64>>>,
}

/// The file that has DEST's name, open. It is better closed before the commit: on NFS a file that is open is renamed out
/// of the way first, and for other clients there is a moment without DEST.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) metadata: Metadata,
    handle: Handle,
}

#[derive(Debug)]
enum Handle {
    Readable(OwnedFd),
    /// We may not read it.
    Closed(OwnedFd),
}

impl Destination {
    /// Finds the directory and the name that `typed` leads to.
    pub(crate) fn resolve(typed: &Path, links: Links, parents: Parents) -> Result<Self> {
        let aim = Aim::File;
        let walk = Walk {
            typed,
            parents,
            aim,
        };
        walk.follow(None, typed.to_owned(), links)
    }

    /// Finds the directory that many files shall be in.
    pub(crate) fn resolve_directory(typed: &Path, parents: Parents) -> Result<Rc<Place>> {
        let aim = Aim::Directory;
        let walk = Walk {
            typed,
            parents,
            aim,
        };
        walk.open_directory()
    }

    /// Finds what the name of a file in that directory leads to.
    pub(crate) fn resolve_in(
        place: &Rc<Place>,
        name: &Path,
        typed: &Path,
        links: Links,
        parents: Parents,
    ) -> Result<Self> {
        let aim = Aim::File;
        let walk = Walk {
            typed,
            parents,
            aim,
        };
        walk.follow(Some(Rc::clone(place)), name.to_owned(), links)
    }

    /// A failure to find it, and that it still is what it was, if there is anything by that name.
    pub(crate) fn unresolved(typed: &Path, error: anyhow::Error) -> Failure {
        match sys::metadata_at(sys::CWD, typed) {
            Ok(_) => Failure::from(error).leaving(typed.as_os_str()),
            Err(_) => error.into(),
        }
    }

    /// The path as the user typed it, for messages.
    pub(crate) fn typed(&self) -> Quoted<'_> {
        Quoted::new(&self.typed)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.typed
    }

    /// The directory that is there already: DEST's own, or the nearest above it if that is still to be made.
    pub(crate) fn directory(&self) -> &OpenDirectory {
        &self.place.directory
    }

    /// The same for all files whose directory was opened once.
    pub(crate) fn place(&self) -> &Rc<Place> {
        &self.place
    }

    /// Takes a directory that is open already, if it is the same.
    pub(crate) fn share(&mut self, open: &Rc<Place>) -> bool {
        if self.place.is_same(open) {
            self.place = Rc::clone(open);
            return true;
        }
        false
    }

    /// By which path that directory was found, for programs that need one; somebody may have moved it since.
    pub(crate) fn directory_path(&self) -> &Path {
        &self.place.path
    }

    /// The names of the directories that are still to be made, from the outermost on.
    pub(crate) fn missing(&self) -> &[OsString] {
        &self.place.missing
    }

    /// The names of the directories that are there, the innermost last, above which leftovers are looked for too: with
    /// `--create-dirs` an earlier run may have begun there, when they were missing.
    pub(crate) fn searched(&self) -> Option<&[OsString]> {
        self.place.searched.as_deref()
    }

    /// The last component: DEST's own name, after all links.
    pub(crate) fn name(&self) -> &Path {
        &self.name
    }

    /// Whether both are the same name in the same directory, whatever has the name.
    pub(crate) fn is_same_place(&self, other: &Self) -> bool {
        self.name == other.name && self.place.is_same(&other.place)
    }

    /// What has DEST's name, as it was when last looked at.
    pub(crate) fn existing(&self) -> Option<Metadata> {
        self.existing.get()
    }

    /// Looks what has DEST's name now.
    pub(crate) fn look_again(&self) -> Result<()> {
        // Its directories may have been made meanwhile, and it too.
        let look = |path: &Path| sys::metadata_at(self.directory().fd.as_fd(), path);
        let looked = match self.missing() {
            [] => look(&self.name),
            missing => look(&missing.iter().collect::<PathBuf>().join(&self.name)),
        };
        let seen = match looked {
            Ok(metadata) => Some(metadata),
            Err(Errno::NOENT) => None,
            Err(errno) => return Err(errno).with_context(|| self.cannot("look at")),
        };
        self.existing.set(seen);
        if seen.is_some() && !self.missing().is_empty() {
            bail!(
                "{}: somebody else has made it, and its directory, meanwhile",
                self.cannot("write")
            );
        }
        Ok(())
    }

    /// Opens what has DEST's name now, to read from it; `None` if that is not a regular file: to open anything else can
    /// have effects.
    pub(crate) fn open(&self) -> Result<Option<Opened>> {
        if self
            .existing()
            .is_none_or(|seen| seen.kind != Kind::Regular)
        {
            self.look_again()?;
        }
        loop {
            if self
                .existing()
                .is_none_or(|seen| seen.kind != Kind::Regular)
            {
                return Ok(None);
            }
            if let Some(handle) = self.handle()? {
                let (Handle::Readable(fd) | Handle::Closed(fd)) = &handle;
                let metadata = sys::metadata(fd).with_context(|| self.cannot("look at"))?;
                self.existing.set(Some(metadata));
                if metadata.kind == Kind::Regular {
                    return Ok(Some(Opened { metadata, handle }));
                }
            }
            self.look_again()?;
        }
    }

    /// `None` if what was there has gone, or is a link now, or a socket.
    fn handle(&self) -> Result<Option<Handle>> {
        let directory = self.directory().fd.as_fd();
        let opened = match sys::open_existing(directory, &self.name) {
            // EAGAIN: somebody has a lease on it.
            Err(Errno::ACCESS | Errno::PERM | Errno::AGAIN) => {
                sys::open_handle(directory, &self.name).map(Handle::Closed)
            }
            opened => opened.map(Handle::Readable),
        };
        match opened {
            Err(Errno::NOENT | Errno::LOOP | Errno::NXIO) => Ok(None),
            opened => opened.map(Some).with_context(|| self.cannot("open")),
        }
    }

    /// A failure, and that DEST still is what it was, if it was anything.
    pub(crate) fn unchanged(&self, failure: Failure) -> Failure {
        match self.existing() {
            Some(_) => failure.leaving(self.typed.as_os_str()),
            None => failure,
        }
    }

    fn cannot(&self, verb: &str) -> String {
        format!("cannot {verb} {}", self.typed())
    }
}

impl Place {
    /// Whether it need not be made first.
    pub(crate) fn is_there(&self) -> bool {
        self.missing.is_empty()
    }

    fn is_same(&self, other: &Self) -> bool {
        let identity = |place: &Self| sys::metadata(&place.directory.fd).map(|seen| seen.identity);
        self.missing == other.missing
            && matches!((identity(self), identity(other)), (Ok(one), Ok(other)) if one == other)
    }
}

impl Opened {
    /// The file, to read its content from, if we may.
    pub(crate) fn content(&self) -> Option<BorrowedFd<'_>> {
        match &self.handle {
            Handle::Readable(fd) => Some(fd.as_fd()),
            Handle::Closed(_) => None,
        }
    }

    /// The file, to read its attributes from.
    pub(crate) fn readable(&self) -> sys::Readable<'_> {
        match &self.handle {
            Handle::Readable(fd) => sys::Readable::File(fd.as_fd()),
            Handle::Closed(fd) => sys::Readable::Handle(fd.as_fd()),
        }
    }
}
