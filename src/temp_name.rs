//! The temporary name that the new file has for a moment, or on some filesystems from its start.
//!
//! The rule: whoever has the name has the file's lock (flock), from before the name exists. So a name whose file is not
//! locked was left by a run that was killed, and may be removed. The first choice is made from DEST's own name: the next
//! write to the same DEST meets a leftover without looking for it. Nothing but a regular file of our own is touched;
//! where the first choice is taken, and not by a leftover, random letters are as good.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use anyhow::Result;
use tempfile::{Builder, NamedTempFile, TempPath};

use crate::signals::{self, RemoveOnDeath};
use crate::sys::{self, Errno, Kind, LinkBy};

const PREFIX: &str = ".atomwrite.";
const SUFFIX: &str = ".tmp";
const LETTERS: usize = 16;

/// How often a leftover is removed, or lost to somebody else, before random letters are taken.
const TRIES: usize = 3;

/// A name on the disk, removed when dropped.
#[derive(Debug)]
pub(crate) struct TempName<'d> {
    directory: BorrowedFd<'d>,
    name: PathBuf,
    guard: Option<TempPath>,
    /// Only for a file that has its name while input is read; during a commit signals wait.
    on_death: Option<RemoveOnDeath>,
}

impl<'d> TempName<'d> {
    /// Gives a file that has none a name in `directory`. To be called while signals wait.
    pub(crate) fn link(
        file: &OwnedFd,
        by: LinkBy,
        directory: BorrowedFd<'d>,
        destination: &Path,
    ) -> io::Result<Self> {
        let ours = sys::metadata(file)?;
        where_supported(sys::try_lock(file))?;
        let (name, ()) = Self::acquire(directory, destination, ours.uid, |name| {
            match sys::link_open_file(file.as_fd(), by, directory, name) {
                // A call that was interrupted after its work was done, and made again.
                Err(Errno::EXIST) if is_at(directory, name, ours.identity) => Ok(()),
                linked => linked,
            }
        })?;
        Ok(name)
    }

    /// Makes a file that has a name from the start.
    pub(crate) fn create(
        directory: BorrowedFd<'d>,
        destination: &Path,
        owner: Option<u32>,
    ) -> Result<(Self, OwnedFd)> {
        let owner = owner.unwrap_or_else(sys::effective_uid);
        loop {
            let (name, file) = signals::without(|| {
                let (mut name, file) = Self::acquire(directory, destination, owner, |name| {
                    sys::create_new(directory, name, 0o600)
                })?;
                name.on_death = Some(RemoveOnDeath::arm(directory, &name.name)?);
                Ok((name, file))
            })?;
            where_supported(sys::lock(&file))?;
            if is_at(directory, &name.name, sys::metadata(&file)?.identity) {
                return Ok((name, file));
            }
            // Somebody took it for a leftover before it was locked.
            name.forget();
        }
    }

    /// Takes the first choice, if need be from a dead owner, or else a random name.
    fn acquire<T>(
        directory: BorrowedFd<'d>,
        destination: &Path,
        owner: u32,
        mut make: impl FnMut(&Path) -> Result<T, Errno>,
    ) -> io::Result<(Self, T)> {
        // Through the open directory, so that the guard removes the name there and nowhere else.
        let base = sys::proc_path(directory);
        let mut make = |path: &Path| Ok(make(Path::new(path.file_name().unwrap_or_default()))?);
        let first = first_choice(destination);
        // Locked until our own name stands, so that nobody else can meet the dead file and think us dead.
        let mut dead = Vec::new();
        for _ in 0..TRIES {
            match Builder::new()
                .prefix(&first)
                .rand_bytes(0)
                .make_in(&base, &mut make)
            {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                named => return named.map(|named| Self::guard(directory, named)),
            }
            match remove_leftover(directory, Path::new(&first), owner) {
                Some(file) => dead.push(file),
                None => break,
            }
        }
        Builder::new()
            .prefix(PREFIX)
            .suffix(SUFFIX)
            .rand_bytes(LETTERS)
            .make_in(&base, &mut make)
            .map(|named| Self::guard(directory, named))
    }

    fn guard<T>(directory: BorrowedFd<'d>, named: NamedTempFile<T>) -> (Self, T) {
        let (made, guard) = named.into_parts();
        let name = PathBuf::from(guard.file_name().unwrap_or_default());
        (
            Self {
                directory,
                name,
                guard: Some(guard),
                on_death: None,
            },
            made,
        )
    }

    /// Moves the file to its last name, over whatever has that.
    pub(crate) fn rename(
        self,
        file: &OwnedFd,
        to: BorrowedFd<'_>,
        destination: &Path,
    ) -> Result<(), Errno> {
        let renamed = sys::rename(self.directory, &self.name, to, destination);
        self.renamed(renamed, file, to, destination)
    }

    /// Moves the file to its last name if nothing has that (EEXIST).
    pub(crate) fn rename_to_free(
        self,
        file: &OwnedFd,
        to: BorrowedFd<'_>,
        destination: &Path,
    ) -> Result<(), Errno> {
        match sys::rename_to_free(self.directory, &self.name, to, destination) {
            Ok(true) => self.renamed(Ok(()), file, to, destination),
            // A second name in place of the first: just as atomic, and the first goes when we are dropped.
            Ok(false) => match sys::link(self.directory, &self.name, to, destination) {
                Err(errno) if !is_file_at(file, to, destination) => Err(errno),
                _ => Ok(()),
            },
            Err(errno) => self.renamed(Err(errno), file, to, destination),
        }
    }

    /// The name is gone if the rename was done, even where the answer got lost (NFS; a call that was interrupted and
    /// made again).
    fn renamed(
        self,
        result: Result<(), Errno>,
        file: &OwnedFd,
        to: BorrowedFd<'_>,
        destination: &Path,
    ) -> Result<(), Errno> {
        if result.is_ok() || is_file_at(file, to, destination) {
            self.forget();
            return Ok(());
        }
        result
    }

    /// Removes nothing: the name is not ours any more.
    fn forget(mut self) {
        if let Some(guard) = &mut self.guard {
            guard.disable_cleanup(true);
        }
        self.guard = None;
    }
}

impl Drop for TempName<'_> {
    fn drop(&mut self) {
        let Some(guard) = self.guard.take() else {
            return;
        };
        if guard.close().is_err() {
            // No /proc. The error under way is what the user wants to know; what may be left is removed by the next run.
            let _ = sys::unlink(self.directory, &self.name);
        }
    }
}

/// `.atomwrite.<16 hex>.tmp`: always of one length, so that the longest DEST has one, hidden, and with no ending by
/// which programs choose files to load.
fn first_choice(destination: &Path) -> String {
    // FNV-1a, 64 bits. It must stay the same from release to release, or leftovers are not met again; collisions cost
    // nothing but the first choice.
    let hash = destination
        .as_os_str()
        .as_bytes()
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
        });
    format!("{PREFIX}{hash:016x}{SUFFIX}")
}

/// Removes a name if its owner is dead. Gives its file, which is locked; `None` if there was nothing to remove.
fn remove_leftover(directory: BorrowedFd<'_>, name: &Path, owner: u32) -> Option<OwnedFd> {
    let seen = sys::metadata_at(directory, name).ok()?;
    let is_ours = seen.uid == sys::effective_uid() || seen.uid == owner;
    if seen.kind != Kind::Regular || !is_ours {
        return None;
    }
    let file = sys::open_to_lock(directory, name).ok()?;
    sys::try_lock(&file).ok()?;
    if !is_file_at(&file, directory, name) || !is_at(directory, name, seen.identity) {
        return None;
    }
    sys::unlink(directory, name).ok()?;
    Some(file)
}

/// What became of a lock, where there are any. A filesystem without (ENOLCK, EOPNOTSUPP, ENOSYS) leaves leftovers to
/// people: nobody can tell a dead owner there.
fn where_supported(locked: Result<(), Errno>) -> Result<(), Errno> {
    match locked {
        Err(Errno::NOLCK | Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => Ok(()),
        other => other,
    }
}

fn is_file_at(file: &OwnedFd, directory: BorrowedFd<'_>, name: &Path) -> bool {
    sys::metadata(file).is_ok_and(|ours| is_at(directory, name, ours.identity))
}

fn is_at(directory: BorrowedFd<'_>, name: &Path, identity: sys::Identity) -> bool {
    sys::metadata_at(directory, name).is_ok_and(|seen| seen.identity == identity)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_of_one_length_and_stay_the_same() {
        assert_eq!(
            first_choice(Path::new("out.json")),
            first_choice(Path::new("out.json"))
        );
        assert_eq!(
            first_choice(Path::new("a")).len(),
            first_choice(Path::new(&"a".repeat(255))).len()
        );
        assert_eq!(
            first_choice(Path::new("")),
            ".atomwrite.cbf29ce484222325.tmp"
        );
    }
}
