//! DEST: an open directory and a name in it, and what has that name now.
//!
//! The rule: a path is resolved once. From here on everything happens in the directory that was opened, so that one
//! which is renamed meanwhile is followed, and one which is exchanged for another is not.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};

use crate::message::Quoted;
use crate::outcome::Failure;
use crate::request::{Links, Parents};
use crate::sys::{self, Errno, FileSystem, Kind, Metadata, OpenDirectory};

/// As many links as the kernel follows in one path (path_resolution(7)).
const MOST_LINKS: usize = 40;

/// The file to be written.
#[derive(Debug)]
pub(crate) struct Destination {
    typed: PathBuf,
    directory: OpenDirectory,
    missing: Vec<OsString>,
    name: PathBuf,
    existing: Option<Existing>,
}

/// What has DEST's name now.
#[derive(Debug)]
pub(crate) struct Existing {
    pub(crate) metadata: Metadata,
    /// Only a regular file is opened: to open anything else can have effects.
    handle: Option<Handle>,
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
        Walk { typed, parents }.follow(links)
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
        &self.directory
    }

    /// The names of the directories that are still to be made, from the outermost on.
    pub(crate) fn missing(&self) -> &[OsString] {
        &self.missing
    }

    /// The last component: DEST's own name, after all links.
    pub(crate) fn name(&self) -> &Path {
        &self.name
    }

    pub(crate) fn existing(&self) -> Option<&Existing> {
        self.existing.as_ref()
    }

    /// A failure, and that DEST still is what it was, if it was anything.
    pub(crate) fn unchanged(&self, failure: Failure) -> Failure {
        match self.existing {
            Some(_) => failure.leaving(self.typed.as_os_str()),
            None => failure,
        }
    }
}

impl Existing {
    /// The old file, to read its attributes from.
    pub(crate) fn readable(&self) -> Option<sys::Readable<'_>> {
        self.handle.as_ref().map(|handle| match handle {
            Handle::Readable(fd) => sys::Readable::File(fd.as_fd()),
            Handle::Closed(fd) => sys::Readable::Handle(fd.as_fd()),
        })
    }
}

/// One walk along a path.
struct Walk<'t> {
    typed: &'t Path,
    parents: Parents,
}

impl Walk<'_> {
    fn follow(&self, links: Links) -> Result<Destination> {
        let mut from: Option<OpenDirectory> = None;
        let mut path = self.typed.to_owned();
        for _ in 0..=MOST_LINKS {
            let (parent, name) = self.split(&path)?;
            let at = from
                .as_ref()
                .map_or(sys::CWD, |directory| directory.fd.as_fd());
            let (directory, missing) = self.open_parent(at, &parent)?;
            let mut destination = Destination {
                typed: self.typed.to_owned(),
                directory,
                missing,
                name,
                existing: None,
            };
            if !destination.missing.is_empty() {
                return Ok(destination);
            }
            let at = destination.directory.fd.as_fd();
            let metadata = match sys::metadata_at(at, &destination.name) {
                Ok(metadata) => metadata,
                Err(Errno::NOENT) => return Ok(destination),
                Err(errno) => return Err(errno).context(self.cannot("look at")),
            };
            match metadata.kind {
                Kind::Symlink if links == Links::Follow => {
                    path = self.target(at, &destination.name, &metadata)?;
                    from = Some(destination.directory);
                }
                Kind::Regular => {
                    // Not the same file any more: somebody else is at work here; look again.
                    let Some(existing) = self.open_existing(at, &destination.name, metadata)?
                    else {
                        continue;
                    };
                    destination.existing = Some(existing);
                    return Ok(destination);
                }
                _ => {
                    destination.existing = Some(Existing {
                        metadata,
                        handle: None,
                    });
                    return Ok(destination);
                }
            }
        }
        bail!(
            "{}: too many levels of symbolic links",
            self.cannot("follow")
        );
    }

    /// Cuts a path into its directory and the last component.
    ///
    /// The directory ends in "/.", so that a link as its last component is one on the way and not one at the end: the
    /// kernel has other rules for those, and we want those of an ordinary open of the whole path.
    fn split(&self, path: &Path) -> Result<(PathBuf, PathBuf)> {
        let bytes = path.as_os_str().as_bytes();
        let start = bytes
            .iter()
            .rposition(|byte| *byte == b'/')
            .map_or(0, |slash| slash + 1);
        let (parent, name) = bytes.split_at(start);
        if matches!(name, b"" | b"." | b"..") {
            bail!("{}: it names a directory, not a file", self.cannot("write"));
        }
        let mut directory = OsStr::from_bytes(parent).to_owned();
        directory.push(".");
        Ok((
            PathBuf::from(directory),
            PathBuf::from(OsStr::from_bytes(name)),
        ))
    }

    /// Opens DEST's directory, or with `Parents::Create` the nearest one above it that is there.
    fn open_parent(
        &self,
        at: BorrowedFd<'_>,
        parent: &Path,
    ) -> Result<(OpenDirectory, Vec<OsString>)> {
        let mut missing = Vec::new();
        let mut path = parent.to_owned();
        loop {
            match sys::open_directory(at, &path) {
                Ok(directory) => {
                    missing.reverse();
                    return Ok((directory, missing));
                }
                Err(Errno::NOENT) if self.parents == Parents::Create => {
                    let Some((above, name)) = split_directory(&path) else {
                        return Err(Errno::NOENT).context(self.cannot_open_parent());
                    };
                    missing.push(name);
                    path = above;
                }
                Err(Errno::NOENT) => {
                    bail!(
                        "{}: its directory does not exist; --create-dirs makes it",
                        self.cannot("write")
                    );
                }
                // A circle of links cannot be opened in any way; a path through a magic link can, but for our ban.
                Err(Errno::LOOP) if sys::metadata_through_links(at, &path).is_ok() => {
                    return Err(self.magic());
                }
                Err(errno) => return Err(errno).context(self.cannot_open_parent()),
            }
        }
    }

    /// Opens the file that shall be replaced, to read from it; `None` if the name has gone to another file meanwhile.
    fn open_existing(
        &self,
        at: BorrowedFd<'_>,
        name: &Path,
        seen: Metadata,
    ) -> Result<Option<Existing>> {
        let handle = match sys::open_existing(at, name) {
            Ok(fd) => Handle::Readable(fd),
            // EAGAIN: somebody has a lease on it.
            Err(Errno::ACCESS | Errno::PERM | Errno::AGAIN) => match sys::open_handle(at, name) {
                Ok(fd) => Handle::Closed(fd),
                Err(Errno::NOENT) => return Ok(None),
                Err(errno) => return Err(errno).context(self.cannot("open")),
            },
            Err(Errno::NOENT | Errno::LOOP | Errno::NXIO) => return Ok(None),
            Err(errno) => return Err(errno).context(self.cannot("open")),
        };
        let (Handle::Readable(fd) | Handle::Closed(fd)) = &handle;
        let metadata = sys::metadata(fd).context(self.cannot("look at"))?;
        let same = metadata.identity == seen.identity;
        Ok(same.then_some(Existing {
            metadata,
            handle: Some(handle),
        }))
    }

    /// Reads a link, unless following it would let somebody else choose what we write to.
    fn target(&self, at: BorrowedFd<'_>, name: &Path, link: &Metadata) -> Result<PathBuf> {
        const STICKY_AND_WRITABLE_BY_ALL: u32 = 0o1002;
        if sys::filesystem(at).context(self.cannot("follow"))? == FileSystem::Proc {
            return Err(self.magic());
        }
        let directory = sys::metadata(at).context(self.cannot("follow"))?;
        // The kernel's rule for fs.protected_symlinks (proc_sys_fs(5)), whether it is switched on or not.
        if directory.mode & STICKY_AND_WRITABLE_BY_ALL == STICKY_AND_WRITABLE_BY_ALL
            && link.uid != sys::effective_uid()
            && link.uid != directory.uid
        {
            bail!(
                "{}: the link is another user's, in a directory that all may write to; \
                 name the file that it points to",
                self.cannot("follow")
            );
        }
        sys::read_link(at, name).context(self.cannot("follow"))
    }

    fn magic(&self) -> anyhow::Error {
        anyhow!(
            "{}: it leads through /proc to an open file, which has no name to replace",
            self.cannot("write")
        )
    }

    fn cannot(&self, verb: &str) -> String {
        format!("cannot {verb} {}", Quoted::new(self.typed))
    }

    fn cannot_open_parent(&self) -> String {
        format!("cannot open the directory of {}", Quoted::new(self.typed))
    }
}

/// Cuts the last component off a directory's path that ends in "/."; `None` if nothing is left to cut.
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
