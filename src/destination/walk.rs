//! From a path to an open directory and a name: follows links one by one, and opens the directory
//! once.

use std::env;
use std::ffi::{OsStr, OsString};
use std::io::ErrorKind::NotFound;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use anyhow::{Context, Result, anyhow, bail};

use super::{Destination, ParentDir};
use crate::message::{Quoted, cannot};
use crate::outcome::without_dots;
use crate::request::{CreateDirs, Links};
use crate::sys::{self, Errno, FileSystem, Kind, Metadata};

/// As many links as the kernel follows in one path (path_resolution(7)).
const MAX_LINKS: usize = 40;

/// The resolution of one path.
pub(super) struct Walk<'t> {
    pub(super) typed: &'t Path,
    pub(super) create_dirs: CreateDirs,
    pub(super) aim: Aim,
}

/// What the path names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Aim {
    /// DEST.
    File,
    /// The directory of many files.
    Directory,
}

impl Walk<'_> {
    /// Follows `path`, relative to an open directory or to the current one.
    pub(super) fn follow(
        &self,
        mut from: Option<Rc<ParentDir>>,
        mut path: PathBuf,
        links: Links,
    ) -> Result<Destination> {
        for _ in 0..=MAX_LINKS {
            let (parent, name) = self.split(from.as_deref(), &path)?;
            let parent = match from {
                Some(same) if parent == Path::new(".") => same,
                from => Rc::new(self.open_parent(from.as_deref(), &parent)?),
            };
            let destination = Destination {
                typed: self.typed.to_owned(),
                parent,
                name,
            };
            if links == Links::Replace {
                return Ok(destination);
            }
            match destination.snapshot()? {
                Some(seen) if seen.kind == Kind::Symlink => {
                    path = self.target(&destination)?;
                    from = Some(destination.parent);
                }
                _ => return Ok(destination),
            }
        }
        bail!(
            "{}: too many levels of symbolic links",
            cannot("follow", self.typed)
        );
    }

    /// Opens the directory that the user typed.
    pub(super) fn open_directory(&self) -> Result<Rc<ParentDir>> {
        let mut path = self.typed.as_os_str().to_owned();
        path.push("/.");
        Ok(Rc::new(self.open_parent(None, Path::new(&path))?))
    }

    /// Splits a path into its directory and its last component.
    ///
    /// Appends "/." to the directory, so that a symbolic link at its end is not the last component.
    /// The kernel has other rules for a last component, and the path must be resolved as in an
    /// ordinary open of the whole.
    fn split(&self, from: Option<&ParentDir>, path: &Path) -> Result<(PathBuf, PathBuf)> {
        let bytes = path.as_os_str().as_bytes();
        let start = bytes
            .iter()
            .rposition(|byte| *byte == b'/')
            .map_or(0, |slash| slash + 1);
        let (parent, name) = bytes.split_at(start);
        if matches!(name, b"" | b"." | b"..") {
            let cannot = cannot("write", self.typed);
            let end = parent.iter().rposition(|byte| *byte != b'/');
            let without_slash = OsStr::from_bytes(&parent[..end.map_or(0, |last| last + 1)]);
            match sys::metadata_through_links(at(from), Path::new(without_slash)) {
                Ok(there) if name.is_empty() && there.kind != Kind::Directory => {
                    bail!("{cannot}: it is not a directory; name it without the slash")
                }
                _ => bail!("{cannot}: it names a directory; name the file in it"),
            }
        }
        let mut directory = OsStr::from_bytes(parent).to_owned();
        directory.push(".");
        Ok((
            PathBuf::from(directory),
            PathBuf::from(OsStr::from_bytes(name)),
        ))
    }

    /// Opens DEST's directory, or with [`CreateDirs::Yes`] its nearest existing ancestor.
    fn open_parent(&self, from: Option<&ParentDir>, parent: &Path) -> Result<ParentDir> {
        let at = at(from);
        let mut missing: Vec<OsString> = Vec::new();
        let mut path = parent.to_owned();
        loop {
            // The last component of a typed directory, for which fs.protected_symlinks may hold.
            let is_typed = self.aim == Aim::Directory && missing.is_empty();
            match sys::open_directory(at, if is_typed { self.typed } else { &path }) {
                Ok(directory) => {
                    missing.reverse();
                    let path = match from {
                        Some(from) => from.path.join(path),
                        None => path,
                    };
                    // If a seccomp filter forbids the call, assume nothing about the filesystem.
                    let filesystem = sys::filesystem(&directory.fd).unwrap_or(FileSystem::Other);
                    let metadata =
                        sys::metadata(&directory.fd).with_context(|| self.cannot_open_parent())?;
                    if metadata.links == 0 {
                        self.refuse_deleted(from, &path)?;
                    }
                    if let (CreateDirs::No, Some(name)) = (self.create_dirs, missing.first()) {
                        let is_creatable = is_creatable(directory.fd.as_fd(), &metadata, name);
                        return Err(self.does_not_exist(from, parent, is_creatable));
                    }
                    return Ok(ParentDir {
                        directory: Rc::new(directory),
                        metadata,
                        filesystem,
                        path,
                        missing,
                    });
                }
                Err(Errno::NOENT) => {
                    self.refuse_deleted(from, &path)?;
                    match split_directory(&path) {
                        Some((above, name)) if name != ".." => {
                            missing.push(name);
                            path = above;
                        }
                        // A missing directory has no parent.
                        Some(_) if self.create_dirs == CreateDirs::No => {
                            return Err(self.does_not_exist(from, parent, false));
                        }
                        _ => return Err(Errno::NOENT).context(self.cannot_open_parent()),
                    }
                }
                // A loop of links cannot be opened at all; a magic link can, but not with our
                // flags.
                Err(Errno::LOOP) if sys::metadata_through_links(at, &path).is_ok() => {
                    return Err(self.magic());
                }
                Err(Errno::NOTDIR)
                    if self.aim == Aim::Directory
                        && sys::metadata_through_links(at, self.typed).is_ok() =>
                {
                    bail!(
                        "{}: it is not a directory; omit -t to write one file",
                        self.cannot_open_parent()
                    );
                }
                Err(errno) => return Err(errno).context(self.cannot_open_parent()),
            }
        }
    }

    /// Refuses a relative path if the current directory has been deleted.
    fn refuse_deleted(&self, from: Option<&ParentDir>, path: &Path) -> Result<()> {
        let is_deleted = || env::current_dir().is_err_and(|error| error.kind() == NotFound);
        if from.is_none() && path.is_relative() && is_deleted() {
            bail!(
                "{}: the current directory has been deleted",
                self.cannot_open_parent()
            );
        }
        Ok(())
    }

    /// Reads a link, unless following it would let another user choose what we write to.
    fn target(&self, destination: &Destination) -> Result<PathBuf> {
        if destination.filesystem() == FileSystem::Proc {
            return Err(self.magic());
        }
        let cannot_follow = || cannot("follow", self.typed);
        let at = destination.directory().fd.as_fd();
        if sys::forbids_following_links(at) {
            return Err(Errno::LOOP).with_context(cannot_follow);
        }
        // Through one handle, because the name could lead to another link by now.
        let handle = sys::open_handle(at, &destination.name).with_context(cannot_follow)?;
        let link = handle.metadata().with_context(cannot_follow)?;
        // Even if fs.protected_symlinks is off.
        if link.may_be_trap_in(destination.directory_metadata()) {
            bail!(
                "{}: the link is another user's, in a world-writable directory; \
                 name the file that it points to",
                cannot("follow", self.typed)
            );
        }
        handle.read_link().with_context(cannot_follow)
    }

    fn magic(&self) -> anyhow::Error {
        anyhow!(
            "{}: it leads through /proc to an open file, which has no name to replace; \
             name the file itself",
            cannot("write", self.typed)
        )
    }

    fn cannot_open_parent(&self) -> String {
        match self.aim {
            Aim::File => format!("cannot open the directory of {}", Quoted::new(self.typed)),
            Aim::Directory => format!("cannot open directory {}", Quoted::new(self.typed)),
        }
    }

    /// Returns the error that the directory, to which a link may have led, is missing.
    /// `is_creatable` is true if --create-dirs would help.
    fn does_not_exist(
        &self,
        from: Option<&ParentDir>,
        parent: &Path,
        is_creatable: bool,
    ) -> anyhow::Error {
        let line = match (self.aim, from) {
            (Aim::Directory, _) => format!("{}: it does not exist", self.cannot_open_parent()),
            (Aim::File, None) => format!(
                "{}: its directory does not exist",
                cannot("write", self.typed)
            ),
            (Aim::File, Some(from)) => format!(
                "{}: it leads into {}, which does not exist",
                cannot("write", self.typed),
                Quoted::new(&without_dots(&from.path.join(parent)))
            ),
        };
        if is_creatable {
            anyhow!("{line}; use --create-dirs to create it")
        } else {
            anyhow!(line)
        }
    }
}

/// Returns the directory in which a path begins.
fn at(from: Option<&ParentDir>) -> BorrowedFd<'_> {
    from.map_or(sys::CWD, |parent| parent.directory.fd.as_fd())
}

/// Returns true if directories can be made in an existing one. `name` is the outermost missing one.
fn is_creatable(directory: BorrowedFd<'_>, metadata: &Metadata, name: &OsStr) -> bool {
    // A dangling link has the name, and a directory cannot replace it.
    let is_free = sys::metadata_at(directory, Path::new(name)).is_err();
    is_free && !metadata.is_append_only && sys::may_write(directory, Path::new(".")).is_ok()
}

/// Cuts the last component off a directory's path that ends in "/.". `None` if nothing is left.
fn split_directory(path: &Path) -> Option<(PathBuf, OsString)> {
    let bytes = path.as_os_str().as_bytes().strip_suffix(b".")?;
    let end = bytes.iter().rposition(|byte| *byte != b'/')? + 1;
    let start = bytes[..end]
        .iter()
        .rposition(|byte| *byte == b'/')
        .map_or(0, |slash| slash + 1);
    let mut above = OsStr::from_bytes(&bytes[..start]).to_owned();
    above.push(".");
    Some((
        PathBuf::from(above),
        OsStr::from_bytes(&bytes[start..end]).to_owned(),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cuts_one_directory_after_the_other() {
        let cut = |path: &str| {
            split_directory(Path::new(path)).map(|(above, name)| (above, name.into_string().ok()))
        };
        assert_eq!(
            cut("a//b/."),
            Some((PathBuf::from("a//."), Some("b".to_owned())))
        );
        assert_eq!(
            cut("a//."),
            Some((PathBuf::from("."), Some("a".to_owned())))
        );
        assert_eq!(
            cut("/a/."),
            Some((PathBuf::from("/."), Some("a".to_owned())))
        );
        assert_eq!(cut("."), None);
        assert_eq!(cut("/."), None);
    }
}
