//! DEST: an open directory and a name in it.
//!
//! Invariant: a path is resolved once. From then on all calls use the open directory. If that
//! directory is renamed, atomwrite follows it; if another directory gets its path, atomwrite
//! ignores that. What has DEST's name is returned by value, as a snapshot of one moment. Nothing
//! here changes behind a shared reference.

mod walk;

use std::ffi::OsString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use self::walk::{Aim, Walk};
use crate::message::{Quoted, cannot};
use crate::outcome::Failure;
use crate::request::{CreateDirs, Links};
use crate::signals;
use crate::sys::{self, Errno, FileSystem, Kind, Metadata, OpenDirectory};

/// How often to retry the lookup of a name that another client is replacing.
const MAX_LOOKUPS: usize = 100;

const LONGEST_LEASE: Duration = Duration::from_secs(60);

/// The pause between lookups. Clients cache attributes for a second.
const LOOKUP_PAUSE: Duration = Duration::from_millis(20);

/// The file to write.
#[derive(Debug, Clone)]
pub(crate) struct Destination {
    typed: PathBuf,
    parent: Rc<ParentDir>,
    name: PathBuf,
}

/// The directory of DEST, or its nearest existing ancestor. Many files can share one.
#[derive(Debug)]
pub(crate) struct ParentDir {
    pub(crate) directory: Rc<OpenDirectory>,
    pub(crate) metadata: Metadata,
    pub(crate) filesystem: FileSystem,
    /// The path for programs that need one. It may be out of date.
    pub(crate) path: PathBuf,
    /// The names of the directories that must still be made, the outermost first.
    pub(crate) missing: Vec<OsString>,
}

/// The file that had DEST's name, open. It must be closed before the commit. When another file is
/// renamed over a file that this machine has open, cifs deletes it, and nfs renames it away first.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) metadata: Metadata,
    handle: Access,
}

/// What had DEST's name.
#[derive(Debug)]
pub(crate) enum Seen {
    Regular(Opened),
    /// Nothing, or something that is not a regular file.
    Other(Option<Metadata>),
}

#[derive(Debug)]
enum Access {
    Readable(OwnedFd),
    /// Its mode or another process's lease forbids reading it.
    NotReadable(sys::Handle),
}

impl Destination {
    /// Finds the directory and the name that `typed` leads to.
    pub(crate) fn resolve(typed: &Path, links: Links, create_dirs: CreateDirs) -> Result<Self> {
        let aim = Aim::File;
        let walk = Walk {
            typed,
            create_dirs,
            aim,
        };
        walk.follow(None, typed.to_owned(), links)
    }

    /// Finds the directory to write many files into.
    pub(crate) fn resolve_directory(
        typed: &Path,
        create_dirs: CreateDirs,
    ) -> Result<Rc<ParentDir>> {
        let aim = Aim::Directory;
        let walk = Walk {
            typed,
            create_dirs,
            aim,
        };
        walk.open_directory()
    }

    /// Finds what the name of a file in that directory leads to.
    pub(crate) fn resolve_in(
        parent: &Rc<ParentDir>,
        name: &Path,
        typed: &Path,
        links: Links,
        create_dirs: CreateDirs,
    ) -> Result<Self> {
        let aim = Aim::File;
        let walk = Walk {
            typed,
            create_dirs,
            aim,
        };
        walk.follow(Some(Rc::clone(parent)), name.to_owned(), links)
    }

    /// Adds to a failure to resolve or lock DEST that DEST is unchanged, if it exists.
    pub(crate) fn unresolved(typed: &Path, failure: Failure) -> Failure {
        match sys::metadata_at(sys::CWD, typed) {
            Ok(_) => failure.leaving(typed.as_os_str()),
            Err(_) => failure,
        }
    }

    /// Returns the path as the user typed it, for messages.
    pub(crate) fn display(&self) -> Quoted<'_> {
        Quoted::new(&self.typed)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.typed
    }

    /// Returns DEST's directory, or its nearest existing ancestor if DEST's own must still be made.
    pub(crate) fn directory(&self) -> &Rc<OpenDirectory> {
        &self.parent.directory
    }

    /// Returns the status of that directory.
    pub(crate) fn directory_metadata(&self) -> &Metadata {
        &self.parent.metadata
    }

    /// Returns the type of that directory's filesystem.
    pub(crate) fn filesystem(&self) -> FileSystem {
        self.parent.filesystem
    }

    /// Returns that directory, which many files can share.
    pub(crate) fn parent(&self) -> &Rc<ParentDir> {
        &self.parent
    }

    /// Uses an open directory if it is the same as DEST's. Returns true if it is.
    pub(crate) fn share(&mut self, open: &Rc<ParentDir>) -> bool {
        if self.parent.is_same(open) {
            self.parent = Rc::clone(open);
            return true;
        }
        false
    }

    /// Returns the path of that directory, for programs that need one. It may be out of date.
    pub(crate) fn directory_path(&self) -> &Path {
        &self.parent.path
    }

    /// Returns the names of the directories that must still be made, the outermost first.
    pub(crate) fn missing(&self) -> &[OsString] {
        &self.parent.missing
    }

    /// Returns DEST's own name: the last component, after all links.
    pub(crate) fn name(&self) -> &Path {
        &self.name
    }

    /// Returns the same DEST in its own directory, which exists now.
    pub(crate) fn inside(&self, directory: Rc<OpenDirectory>) -> Self {
        // Another process may have made the directory, and all users may write to it.
        let shared = sys::metadata(&directory.fd)
            .ok()
            .filter(Metadata::is_shared);
        let metadata = shared.unwrap_or(self.parent.metadata);
        Self {
            typed: self.typed.clone(),
            parent: Rc::new(ParentDir {
                directory,
                metadata,
                filesystem: self.parent.filesystem,
                path: self
                    .parent
                    .path
                    .join(self.missing().iter().collect::<PathBuf>()),
                missing: Vec::new(),
            }),
            name: self.name.clone(),
        }
    }

    /// Returns the same name in the directory of another DEST.
    pub(crate) fn moved_to(&self, other: &Self) -> Self {
        Self {
            typed: self.typed.clone(),
            parent: Rc::clone(&other.parent),
            name: self.name.clone(),
        }
    }

    /// Returns true if both are the same name in the same directory, whatever has the name.
    pub(crate) fn is_same_place(&self, other: &Self) -> bool {
        self.name == other.name && self.parent.is_same(&other.parent)
    }

    /// Returns the status of what has DEST's name at this moment; `None` if nothing has.
    pub(crate) fn snapshot(&self) -> Result<Option<Metadata>> {
        self.snapshot_errno().with_context(|| self.cannot("stat"))
    }

    pub(crate) fn snapshot_errno(&self) -> Result<Option<Metadata>, Errno> {
        if !self.missing().is_empty() {
            return Ok(None);
        }
        for _ in 1..MAX_LOOKUPS {
            match sys::metadata_at(self.directory().fd.as_fd(), &self.name) {
                Ok(metadata) => return Ok(Some(metadata)),
                Err(Errno::NOENT) => return Ok(None),
                // NFS, SMB: another client has replaced it. The caller notices a signal that
                // interrupts the pause.
                Err(Errno::STALE) => drop(signals::pause(LOOKUP_PAUSE)),
                Err(errno) => return Err(errno),
            }
        }
        Err(Errno::STALE)
    }

    /// Opens DEST for reading. `seen` is what had its name a moment ago. Returns `None` if DEST is
    /// not a regular file, because opening anything else can have side effects.
    pub(crate) fn open(&self, seen: Option<Metadata>) -> Result<Option<Opened>> {
        Ok(match self.look(seen, true)? {
            Seen::Regular(opened) => Some(opened),
            Seen::Other(_) => None,
        })
    }

    /// As [`open`](Self::open), but also returns the status of what is not a regular file, and does
    /// not wait for a lease: the file is then open for its attributes only.
    pub(crate) fn open_or_see(&self, seen: Option<Metadata>) -> Result<Seen> {
        self.look(seen, false)
    }

    fn look(&self, seen: Option<Metadata>, needs_content: bool) -> Result<Seen> {
        let mut seen = match seen {
            Some(seen) if seen.kind == Kind::Regular => Some(seen),
            _ => self.snapshot()?,
        };
        for _ in 0..MAX_LOOKUPS {
            if seen.is_none_or(|seen| seen.kind != Kind::Regular) {
                return Ok(Seen::Other(seen));
            }
            if let Some(opened) = self.try_open(needs_content)? {
                return Ok(Seen::Regular(opened));
            }
            signals::pause(LOOKUP_PAUSE)?;
            seen = self.snapshot()?;
        }
        Err(Errno::STALE).with_context(|| self.cannot("open"))
    }

    /// Returns `None` if DEST has vanished or is not a regular file any more.
    fn try_open(&self, needs_content: bool) -> Result<Option<Opened>> {
        let directory = self.directory().fd.as_fd();
        let since = Instant::now();
        let opened = loop {
            break match sys::open_existing(directory, &self.name) {
                // Another process has a lease on it, which the kernel ends after 45 s.
                Err(Errno::AGAIN) if needs_content && since.elapsed() < LONGEST_LEASE => {
                    signals::pause(LOOKUP_PAUSE)?;
                    continue;
                }
                Err(Errno::ACCESS | Errno::PERM | Errno::AGAIN) => {
                    sys::open_handle(directory, &self.name).map(Access::NotReadable)
                }
                opened => opened.map(Access::Readable),
            };
        };
        let handle = match opened {
            // EINVAL: another client has replaced it on SMB.
            Err(Errno::NOENT | Errno::LOOP | Errno::NXIO | Errno::STALE | Errno::INVAL) => {
                return Ok(None);
            }
            opened => opened.with_context(|| self.cannot("open"))?,
        };
        let seen = match &handle {
            Access::Readable(fd) => sys::metadata(fd),
            Access::NotReadable(handle) => handle.metadata(),
        };
        match seen {
            Err(Errno::STALE) => Ok(None),
            seen => {
                let metadata = seen.with_context(|| self.cannot("stat"))?;
                let opened = Opened { metadata, handle };
                Ok((metadata.kind == Kind::Regular).then_some(opened))
            }
        }
    }

    /// Returns true if DEST may be there to get the content. The kernel's rule does not cover a
    /// rename.
    pub(crate) fn is_shared_trap(&self, existing: &Metadata) -> bool {
        // Usually, only root can have mounted a file there.
        !existing.mount_root && existing.may_be_trap_in(self.directory_metadata())
    }

    /// Adds DEST's state to a failure. DEST was `before` at the start.
    pub(crate) fn left_by(&self, failure: Failure, before: Option<Metadata>) -> Failure {
        let Some(before) = before else {
            return failure;
        };
        match self.snapshot_errno() {
            Ok(None) => failure.adding(&format!("{} no longer exists", self.display())),
            // cifs has deleted it, because this machine has it open.
            Ok(Some(now)) if now.links == 0 && before.links > 0 => {
                failure.adding(&format!("{} no longer exists", self.display()))
            }
            Ok(Some(now)) if (now.identity, now.kind) != (before.identity, before.kind) => {
                failure.adding(&format!("another process has replaced {}", self.display()))
            }
            // Another process may have written into it.
            Ok(Some(now)) if now.kind == Kind::Regular && !now.is_same_content(&before) => failure,
            _ => failure.leaving(self.typed.as_os_str()),
        }
    }

    /// Returns the beginning of a message.
    pub(crate) fn cannot(&self, verb: &str) -> String {
        cannot(verb, &self.typed)
    }
}

impl ParentDir {
    /// Returns true if the directory exists.
    pub(crate) fn exists(&self) -> bool {
        self.missing.is_empty()
    }

    fn is_same(&self, other: &Self) -> bool {
        let identity =
            |parent: &Self| sys::metadata(&parent.directory.fd).map(|seen| seen.identity);
        self.missing == other.missing
            && matches!((identity(self), identity(other)), (Ok(one), Ok(other)) if one == other)
    }
}

impl Opened {
    /// Returns the file for reading its content. `None` if we may not read it.
    pub(crate) fn content(&self) -> Option<BorrowedFd<'_>> {
        match &self.handle {
            Access::Readable(fd) => Some(fd.as_fd()),
            Access::NotReadable(_) => None,
        }
    }

    /// Returns the file for reading its attributes.
    pub(crate) fn readable(&self) -> sys::Readable<'_> {
        match &self.handle {
            Access::Readable(fd) => sys::Readable::File(fd.as_fd()),
            Access::NotReadable(handle) => sys::Readable::Handle(handle),
        }
    }
}
