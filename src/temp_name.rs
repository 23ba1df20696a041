//! Temporary names: `.atomwrite.<16 characters>.tmp`, hidden, and always of one length, so that the longest DEST has one.
//!
//! A new file has no name until the commit, where the filesystem allows that. On a local filesystem its name is then
//! *derived* from DEST's, so that the next write to the same DEST meets what a killed run left behind.
//!
//! Invariant: a file is flock'ed before it gets a derived name and until it loses it. An unlocked file of that name is
//! therefore stale, and the next write to the same DEST removes it, if it is regular and of our user. Every other name is
//! random: this run removes it, or it stays. Directories are never met by name.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime};

use anyhow::Result;
use tempfile::Builder;

use crate::signals;
use crate::sys::{self, Errno, Identity, Kind, LinkBy, OpenDirectory};

const PREFIX: &str = ".atomwrite.";
const SUFFIX: &str = ".tmp";
const LOCK_SUFFIX: &str = ".lock";
const LETTERS: usize = 16;

/// How long a derived name is waited for that another process has locked. A writer needs it for two system calls; one that
/// is stopped would have it for ever.
const PATIENCE: Duration = Duration::from_secs(1);

/// A name on the disk, removed when dropped.
#[derive(Debug)]
pub(crate) struct TempName {
    directory: Rc<OpenDirectory>,
    name: PathBuf,
    armed: bool,
}

impl TempName {
    /// Owns a name that this run has just made.
    pub(crate) fn own(directory: &Rc<OpenDirectory>, name: PathBuf) -> Self {
        Self {
            directory: Rc::clone(directory),
            name,
            armed: true,
        }
    }

    /// Takes a random name; `make` makes it. To be called while the run is guarded.
    pub(crate) fn random<T>(
        directory: &Rc<OpenDirectory>,
        mut make: impl FnMut(&Path) -> Result<T, Errno>,
    ) -> io::Result<(Self, T)> {
        let named = Builder::new()
            .prefix(PREFIX)
            .suffix(SUFFIX)
            .rand_bytes(LETTERS)
            // Only the last component is used, relative to the descriptor.
            .make_in(sys::proc_path(&directory.fd), |path| {
                let name = Path::new(path.file_name().unwrap_or_default());
                Ok(make(name).inspect_err(|errno| {
                    if *errno != Errno::EXIST {
                        // A call can fail that has made the name (FUSE, NFS, Landlock). It is random, so it is ours.
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

    /// Links an unnamed file, which is flock'ed, to the name derived from DEST's. Removes a stale file of that name. Takes
    /// a random name if something else has it.
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
                State::Taken => return Self::link(file, by, directory),
                _ if waited >= PATIENCE => return Self::link(file, by, directory),
                State::Free => {}
                State::Locked => signals::pause(Duration::from_millis(1) + jitter(4))?,
            }
        }
    }

    pub(crate) fn directory(&self) -> &Rc<OpenDirectory> {
        &self.directory
    }

    /// The name, relative to the directory.
    pub(crate) fn name(&self) -> &Path {
        &self.name
    }

    /// Has the name stay when this is dropped: it has been renamed.
    pub(crate) fn disarm(&mut self) {
        self.armed = false;
    }

    /// Renames it over whatever has the other name, in a directory of the same filesystem.
    pub(crate) fn rename(&self, to: BorrowedFd<'_>, name: &Path) -> Result<(), Errno> {
        sys::rename(self.directory.fd.as_fd(), &self.name, to, name)
    }

    /// Renames it if nothing has the other name (EEXIST); where that is not possible, gives the file that name as well.
    pub(crate) fn rename_noreplace(&self, to: BorrowedFd<'_>, name: &Path) -> Result<Moved, Errno> {
        let from = self.directory.fd.as_fd();
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
            // The error under way is what the user needs to know; and the name may be gone.
            let _ = sys::unlink(self.directory.fd.as_fd(), &self.name);
        }
    }
}

/// How a file got another name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Moved {
    Renamed,
    /// It still has the temporary one, too.
    Linked,
}

/// What has a derived name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Nothing, any more.
    Free,
    /// A file that a live process has locked.
    Locked,
    /// Something that is not ours to remove.
    Taken,
}

/// Removes a stale file. `ours` is the new file, whose owner a stale one may have too: root gives files away.
fn remove_stale(ours: &OwnedFd, directory: &OpenDirectory, name: &Path) -> State {
    let directory = directory.fd.as_fd();
    let opened = match sys::open_existing(directory, name) {
        // Its mode may forbid to read it.
        Err(Errno::ACCESS) => sys::open_in_place(directory, name),
        opened => opened,
    };
    let file = match opened {
        Err(Errno::NOENT) => return State::Free,
        Err(_) => return State::Taken,
        Ok(file) => file,
    };
    let Ok(stale) = sys::metadata(&file) else {
        return State::Taken;
    };
    let is_ours = stale.uid == sys::effective_uid()
        || sys::metadata(ours).is_ok_and(|ours| ours.uid == stale.uid);
    if stale.kind != Kind::Regular || !is_ours {
        return State::Taken;
    }
    match sys::try_flock(&file) {
        Err(Errno::WOULDBLOCK) => return State::Locked,
        Err(_) => return State::Taken,
        Ok(()) => {}
    }
    // Its writer may have renamed it before the lock was taken.
    if has_name(directory, name, stale.identity) && sys::unlink(directory, name).is_err() {
        return State::Taken;
    }
    State::Free
}

/// Tells whether a name leads to this file.
pub(crate) fn has_name(directory: BorrowedFd<'_>, name: &Path, identity: Identity) -> bool {
    sys::metadata_at(directory, name).is_ok_and(|seen| seen.identity == identity)
}

/// Tells whether a name is one that this program gives.
pub(crate) fn is_temporary(name: &[u8]) -> bool {
    name.starts_with(PREFIX.as_bytes())
}

/// The name of DEST's lock file. Names that differ in case only share one, because they may be one file.
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

/// FNV-1a, 64 bits. It must stay the same from release to release, or stale files are not met again. A collision costs
/// nothing but the derived name.
fn fnv(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// Up to so many milliseconds, so that processes that wait for one another do not wake together.
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
