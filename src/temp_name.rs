//! Temporary names: `.atomwrite.<16 characters>.tmp`. They are hidden and of constant length, so
//! that DEST may have the longest name.
//!
//! Where the filesystem allows it, a new file is unnamed until the commit. On a local filesystem
//! its name is then *derived* from DEST's, so that the next write to the same DEST finds a file
//! that a killed run has left.
//!
//! Invariant: a file is flock'ed before it gets a derived name and until it loses it. An unlocked
//! file of that name is therefore stale, and the next write to the same DEST removes it, if it is
//! regular and belongs to our user. Every other name is random: this run removes it, or it stays.
//! Directories never have a derived name.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime};

use anyhow::Result;
use tempfile::Builder;

use crate::signals;
use crate::sys::{self, Errno, FileSystem, Identity, Kind, LinkBy, OpenDirectory};

const PREFIX: &str = ".atomwrite.";
const SUFFIX: &str = ".tmp";

/// How often a rename is tried that another process disturbs.
const MAX_RENAMES: usize = 100;

const RENAME_PAUSE: Duration = Duration::from_millis(5);
const LOCK_SUFFIX: &str = ".lock";
const LETTERS: usize = 16;

/// How long to wait for a derived name that another process has locked. A writer holds it for two
/// system calls, but a stopped writer would hold it forever.
const PATIENCE: Duration = Duration::from_secs(1);

/// A name on the disk, removed when dropped.
#[derive(Debug)]
pub(crate) struct TempName {
    directory: Rc<OpenDirectory>,
    name: PathBuf,
    armed: bool,
}

impl TempName {
    /// Takes ownership of a name that this run has just made.
    pub(crate) fn own(directory: &Rc<OpenDirectory>, name: PathBuf) -> Self {
        Self {
            directory: Rc::clone(directory),
            name,
            armed: true,
        }
    }

    /// Makes a random name by calling `make`. The run must be guarded.
    pub(crate) fn random<T>(
        directory: &Rc<OpenDirectory>,
        mut make: impl FnMut(&Path) -> Result<T, Errno>,
    ) -> io::Result<(Self, T)> {
        let named = Builder::new()
            .prefix(PREFIX)
            .suffix(SUFFIX)
            .rand_bytes(LETTERS)
            // Only the last component is used, relative to the descriptor.
            .make_in("/", |path| {
                let name = Path::new(path.file_name().unwrap_or_default());
                Ok(make(name).inspect_err(|errno| {
                    if *errno != Errno::EXIST {
                        // A failed call may have made the name (FUSE, NFS, Landlock). The name is
                        // random, so it is ours.
                        let _ = sys::unlink(directory.fd.as_fd(), name);
                    }
                })?)
            })?;
        let (file, mut path) = named.into_parts();
        path.disable_cleanup(true);
        let name = PathBuf::from(path.file_name().unwrap_or_default());
        Ok((Self::own(directory, name), file))
    }

    /// Creates a file with a random name and mode 0600.
    pub(crate) fn create(directory: &Rc<OpenDirectory>) -> Result<(Self, OwnedFd)> {
        signals::guard()?;
        let create = |name: &Path| sys::create_new(directory.fd.as_fd(), name, 0o600);
        Ok(Self::random(directory, create)?)
    }

    /// Links an unnamed file to a random name.
    pub(crate) fn link(file: &OwnedFd, by: LinkBy, directory: &Rc<OpenDirectory>) -> Result<Self> {
        let link = |name: &Path| sys::link_open_file(file.as_fd(), by, directory.fd.as_fd(), name);
        let (name, ()) = Self::random(directory, link)?;
        Ok(name)
    }

    /// Links an unnamed file, which is flock'ed, to the name derived from DEST's. Removes a stale
    /// file of that name. Falls back to a random name if the derived one is not available.
    pub(crate) fn link_derived(
        file: &OwnedFd,
        by: LinkBy,
        directory: &Rc<OpenDirectory>,
        destination: &Path,
    ) -> Result<Self> {
        let name = PathBuf::from(derived(destination, SUFFIX));
        let mut since = None;
        loop {
            match sys::link_open_file(file.as_fd(), by, directory.fd.as_fd(), &name) {
                Ok(()) => return Ok(Self::own(directory, name)),
                Err(Errno::EXIST) => {}
                Err(errno) => return Err(errno.into()),
            }
            let state = remove_stale(file, directory, &name);
            let waited = since.get_or_insert_with(Instant::now).elapsed();
            match state {
                NameState::Taken => return Self::link(file, by, directory),
                _ if waited >= PATIENCE => return Self::link(file, by, directory),
                NameState::Free => {}
                NameState::Locked => signals::pause(Duration::from_millis(1) + jitter(4))?,
            }
        }
    }

    pub(crate) fn directory(&self) -> &Rc<OpenDirectory> {
        &self.directory
    }

    /// Returns the name, relative to the directory.
    pub(crate) fn name(&self) -> &Path {
        &self.name
    }

    /// Keeps the drop from removing the name, after a rename.
    pub(crate) fn disarm(&mut self) {
        self.armed = false;
    }

    /// Removes the name. Errors: ENOENT if it was gone already. After any other error, the drop
    /// tries again: FUSE may refuse it while the file is open.
    pub(crate) fn remove(&mut self) -> Result<(), Errno> {
        let removed = sys::unlink(self.directory.fd.as_fd(), &self.name);
        self.armed = !matches!(removed, Ok(()) | Err(Errno::NOENT));
        removed
    }

    /// Renames the file to `name`, replacing what has it. `to` is a directory on the same
    /// filesystem.
    ///
    /// Retries for half a second after the errors of a rename that another process has disturbed.
    /// An NFS client reports ETXTBSY while another process on it renames a file to the same name.
    /// SMB reports EACCES while another process has the file of that name open (measured).
    pub(crate) fn rename(
        &self,
        to: BorrowedFd<'_>,
        name: &Path,
        filesystem: FileSystem,
    ) -> Result<(), Errno> {
        let rename = || sys::rename(self.directory.fd.as_fd(), &self.name, to, name);
        for _ in 1..MAX_RENAMES {
            match rename() {
                Err(Errno::TXTBSY) => {}
                Err(Errno::ACCESS) if !filesystem.is_local() => {}
                renamed => return renamed,
            }
            // A signal ends the pause; the commit sees it later.
            let _ = signals::pause(RENAME_PAUSE);
        }
        rename()
    }

    /// Renames the file to `name`, unless the name exists (EEXIST). Where the filesystem cannot do
    /// that, links the file to `name` instead.
    ///
    /// If the filesystem is not local, tries the link first. cifs looks for `name` in its own
    /// cache, and then lets the server replace it, so two clients that race both succeed (Linux
    /// 6.12). A link does not replace.
    pub(crate) fn rename_noreplace(
        &self,
        to: BorrowedFd<'_>,
        name: &Path,
        filesystem: FileSystem,
    ) -> Result<Moved, Errno> {
        let from = self.directory.fd.as_fd();
        if !filesystem.is_local() {
            match sys::link(from, &self.name, to, name) {
                Ok(()) => return Ok(Moved::Linked),
                Err(Errno::EXIST) => return Err(Errno::EXIST),
                // The filesystem has no links. After any other error, the rename fails too.
                Err(_) => {}
            }
        }
        if sys::rename_noreplace(from, &self.name, to, name)? {
            return Ok(Moved::Renamed);
        }
        sys::link(from, &self.name, to, name)?;
        Ok(Moved::Linked)
    }
}

impl Drop for TempName {
    fn drop(&mut self) {
        if self.armed {
            // The first error is the one to report, and the name may be gone.
            let _ = sys::unlink(self.directory.fd.as_fd(), &self.name);
        }
    }
}

/// How a file got its new name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Moved {
    Renamed,
    /// The file still has the temporary name, too.
    Linked,
}

/// The state of a derived name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum NameState {
    /// No file has it.
    Free,
    /// A file that a live process has locked.
    Locked,
    /// A file that is not ours to remove.
    Taken,
}

/// Removes a stale file. A stale file is ours if it belongs to our user or to the owner of `ours`,
/// the new file: root gives files away.
fn remove_stale(ours: &OwnedFd, directory: &OpenDirectory, name: &Path) -> NameState {
    let directory = directory.fd.as_fd();
    let opened = match sys::open_existing(directory, name) {
        // The mode may forbid reading it.
        Err(Errno::ACCESS) => sys::open_in_place(directory, name),
        opened => opened,
    };
    let file = match opened {
        Err(Errno::NOENT) => return NameState::Free,
        Err(_) => return NameState::Taken,
        Ok(file) => file,
    };
    let Ok(stale) = sys::metadata(&file) else {
        return NameState::Taken;
    };
    let is_ours = stale.uid == sys::effective_uid()
        || sys::metadata(ours).is_ok_and(|ours| ours.uid == stale.uid);
    if stale.kind != Kind::Regular || !is_ours {
        return NameState::Taken;
    }
    match sys::try_flock(&file) {
        Err(Errno::WOULDBLOCK) => return NameState::Locked,
        Err(_) => return NameState::Taken,
        Ok(()) => {}
    }
    // The writer may have renamed the file before this process locked it.
    if has_name(directory, name, stale.identity) && sys::unlink(directory, name).is_err() {
        return NameState::Taken;
    }
    NameState::Free
}

/// Returns true if a name leads to this file.
pub(crate) fn has_name(directory: BorrowedFd<'_>, name: &Path, identity: Identity) -> bool {
    sys::metadata_at(directory, name).is_ok_and(|seen| seen.identity == identity)
}

/// Returns true if atomwrite gives such names.
pub(crate) fn is_temporary(name: &[u8]) -> bool {
    name.starts_with(PREFIX.as_bytes())
}

/// Returns the name of DEST's lock file. Names that differ only in case share one, because on some
/// filesystems they are one file.
pub(crate) fn lock_name(destination: &Path) -> PathBuf {
    let lower_case = match destination.to_str() {
        Some(name) => name.to_lowercase().into_bytes(),
        None => destination.as_os_str().as_bytes().to_ascii_lowercase(),
    };
    let name = Path::new(std::ffi::OsStr::from_bytes(&lower_case));
    PathBuf::from(derived(name, LOCK_SUFFIX))
}

fn derived(from: &Path, suffix: &str) -> String {
    let hash = fnv(from.as_os_str().as_bytes());
    format!("{PREFIX}{hash:016x}{suffix}")
}

/// Hashes with FNV-1a, 64 bits. Must stay the same from release to release, or stale files are not
/// found. A collision only costs the derived name.
fn fnv(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// Returns a random time of less than `milliseconds`, so that waiting processes do not wake
/// together.
pub(crate) fn jitter(milliseconds: u32) -> Duration {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let noise = now.map_or(0, |now| {
        now.subsec_nanos() ^ std::process::id().wrapping_mul(0x9e37_79b1)
    });
    Duration::from_micros(u64::from(noise % (milliseconds * 1000)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_of_one_length_and_stay_the_same() {
        let name = |destination: &str| derived(Path::new(destination), SUFFIX);
        assert_eq!(name("a").len(), name(&"a".repeat(255)).len());
        assert_eq!(name(""), ".atomwrite.cbf29ce484222325.tmp");
    }

    #[test]
    fn names_that_differ_in_case_share_a_lock() {
        assert_eq!(lock_name(Path::new("Ä.Txt")), lock_name(Path::new("ä.txt")));
        assert_ne!(lock_name(Path::new("a")), lock_name(Path::new("b")));
    }
}
