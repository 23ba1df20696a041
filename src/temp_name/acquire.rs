//! Which temporary name to take, and what to do about one that is taken.
//!
//! The rule: the tempfile crate names, tries again and guards; what makes the name, a link or an open, is ours. What is
//! met under the first choice is removed if its owner is dead, and if it is a regular file or a directory of our own.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::{io, iter};

use tempfile::{Builder, NamedTempFile, TempPath};

use crate::sys::{self, Errno, Kind};

const PREFIX: &str = ".atomwrite.";
const SUFFIX: &str = ".tmp";
const LETTERS: usize = 16;

/// How often a leftover is removed, or lost to somebody else, before the next choice is taken.
pub(super) const TRIES: usize = 3;

/// How many choices there are before random letters are taken.
#[derive(Debug, Clone, Copy)]
pub(super) struct Choices(usize);

impl Choices {
    /// The second is for where the first is our own already: that of a lock, or of a backup that is being exchanged; the
    /// third for an older backup, where names cannot be exchanged.
    pub(super) const OF_A_FILE: Self = Self(3);
    /// The directories of many files last as long as their input comes, so there may be many at once.
    pub(super) const OF_MANY: Self = Self(32);

    /// Each is made from the one before it.
    fn names(self, destination: &Path) -> impl Iterator<Item = String> {
        let next = |name: &String| Some(choice(name.as_bytes()));
        iter::successors(Some(first_choice(destination)), next).take(self.0)
    }

    /// Removes those that were killed while others had the one that is ours now. To be called when ours is locked: until
    /// then it looks dead itself, and this may take a while.
    pub(super) fn remove_others(
        self,
        directory: BorrowedFd<'_>,
        destination: &Path,
        ours: &Path,
        owner: &impl Fn() -> Option<u32>,
    ) {
        let ours = ours.file_name().unwrap_or_default();
        for other in self.names(destination).filter(|name| ours != name.as_str()) {
            let leftover = Leftover {
                destination,
                name: Path::new(&other),
            };
            drop(leftover.remove(directory, owner));
        }
    }
}

/// Takes the first choice, if need be from a dead owner, or else the next one or, at last, a random name. `make` makes
/// the name.
///
/// `owner` is the user that a leftover may belong to, but for us.
pub(super) fn acquire<T>(
    directory: BorrowedFd<'_>,
    destination: &Path,
    choices: Choices,
    owner: &impl Fn() -> Option<u32>,
    mut make: impl FnMut(&Path) -> Result<T, Errno>,
) -> io::Result<(TempPath, T)> {
    // Through the open directory, so that the guard removes the name there and nowhere else.
    let base = sys::proc_path(directory);
    let mut make = |path: &Path| {
        let name = Path::new(path.file_name().unwrap_or_default());
        Ok(make(name).inspect_err(|errno| {
            if *errno != Errno::EXIST {
                remove_dead(directory, destination, name, owner);
            }
        })?)
    };
    // Locked until our own name stands, so that nobody else can meet the dead file and think us dead.
    let mut dead = Vec::new();
    for choice in choices.names(destination) {
        for _ in 0..TRIES {
            match Builder::new()
                .prefix(&choice)
                .rand_bytes(0)
                .make_in(&base, &mut make)
            {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
                Ok(named) => return Ok(parts(named)),
            }
            let leftover = Leftover {
                destination,
                name: Path::new(&choice),
            };
            match leftover.remove(directory, owner) {
                Some(file) => dead.push(file),
                None => break,
            }
        }
    }
    acquire_random(directory, |name| make(&base.join(name)))
}

/// Removes what a run with `--create-dirs` left that was killed before its file came into the directories that it made: in
/// `directory`, and in those above it as long as it can have been made there. `searched` are their names, the innermost
/// last; `None` where no directory is ever made.
pub(super) fn remove_leftovers_from(
    directory: BorrowedFd<'_>,
    searched: Option<&[OsString]>,
    destination: &Path,
    choices: Choices,
    owner: impl Fn() -> Option<u32>,
) {
    let mut path = PathBuf::from(".");
    let (Some(searched), Ok(mut here)) = (searched, sys::metadata_at(directory, &path)) else {
        return;
    };
    let mut names = searched.iter().rev();
    loop {
        for name in choices.names(destination) {
            if sys::metadata_at(directory, &path.join(&name)).is_err() {
                continue;
            }
            if let Ok(above) = sys::open_directory(directory, &path) {
                let name = Path::new(&name);
                let leftover = Leftover { destination, name };
                drop(leftover.remove(above.fd.as_fd(), &owner));
            }
        }
        let Some(name) = names.next() else {
            return;
        };
        path.push("..");
        let above = sys::metadata_at(directory, &path);
        let entry = sys::metadata_at(directory, &path.join(name));
        match (above, entry) {
            // A link on the way was there before, and so was a mount point.
            (Ok(above), Ok(entry))
                if entry.identity == here.identity && above.is_on_filesystem_of(&here) =>
            {
                here = above;
            }
            _ => return,
        }
    }
}

/// Takes a random name, that nobody else comes upon; and so nobody removes it if we are killed.
pub(super) fn acquire_random<T>(
    directory: BorrowedFd<'_>,
    mut make: impl FnMut(&Path) -> io::Result<T>,
) -> io::Result<(TempPath, T)> {
    let named = Builder::new()
        .prefix(PREFIX)
        .suffix(SUFFIX)
        .rand_bytes(LETTERS)
        .make_in(sys::proc_path(directory), |path| {
            make(Path::new(path.file_name().unwrap_or_default()))
        })?;
    Ok(parts(named))
}

fn parts<T>(named: NamedTempFile<T>) -> (TempPath, T) {
    let (made, guard) = named.into_parts();
    (guard, made)
}

/// The name that a new file for `destination` takes first.
pub(super) fn first_choice(destination: &Path) -> String {
    choice(destination.as_os_str().as_bytes())
}

/// `.atomwrite.<16 hex>.tmp`: always of one length, so that the longest DEST has one, hidden, and with no ending by
/// which programs choose files to load.
fn choice(of: &[u8]) -> String {
    format!("{PREFIX}{:016x}{SUFFIX}", hash(of))
}

/// FNV-1a, 64 bits. It must stay the same from release to release, or leftovers are not met again; collisions cost
/// nothing but the first choice.
fn hash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// What may be left of a run that was killed.
#[derive(Debug, Clone, Copy)]
struct Leftover<'n> {
    /// What the name is made from; nothing for many files.
    destination: &'n Path,
    name: &'n Path,
}

impl Leftover<'_> {
    /// Removes it if its owner is dead. Gives its file, which is locked; `None` if there was nothing to remove.
    fn remove(
        self,
        directory: BorrowedFd<'_>,
        owner: &impl Fn() -> Option<u32>,
    ) -> Option<OwnedFd> {
        let Self { destination, name } = self;
        let seen = sys::metadata_at(directory, name).ok()?;
        if seen.uid != sys::effective_uid() && Some(seen.uid) != owner() {
            return None;
        }
        let file = match seen.kind {
            Kind::Regular => sys::open_own_to_lock(directory, name).ok()?,
            // A set-gid bit may come from the directory above.
            Kind::Directory if seen.mode & 0o777 == 0o700 => {
                sys::open_child(directory, name).ok()?.fd
            }
            _ => return None,
        };
        sys::try_lock(&file).ok()?;
        if !is_file_at(&file, directory, name) || !is_at(directory, name, seen.identity) {
            return None;
        }
        remove(directory, name, &file, destination).ok()?;
        Some(file)
    }
}

/// Removes what may be left under a name that could not be made: a call may fail that has made it (open, where Landlock
/// allows files to be made but not to be written).
pub(super) fn remove_dead(
    directory: BorrowedFd<'_>,
    destination: &Path,
    name: &Path,
    owner: &impl Fn() -> Option<u32>,
) {
    drop(Leftover { destination, name }.remove(directory, owner));
}

/// Removes what a run left that was killed: a file, or a directory in which new files waited. One that has anything else
/// in it is somebody's who was given our name by somebody else (EEXIST).
pub(super) fn remove(
    directory: BorrowedFd<'_>,
    name: &Path,
    file: &OwnedFd,
    destination: &Path,
) -> io::Result<()> {
    if sys::metadata(file)?.kind != Kind::Directory {
        return Ok(sys::unlink(directory, name)?);
    }
    if !is_as_we_make_it(file.as_fd(), destination)? {
        return Err(Errno::EXIST.into());
    }
    // By the descriptor: whoever may rename it may put another one in its place. That is then not empty.
    sys::empty_directory(file.as_fd());
    Ok(sys::remove_directory(directory, name)?)
}

/// Whether only such things are in a directory as are in ours: rooms with files, or the new file by DEST's name and what a
/// validator has written beside it, as they do (`DEST.bak`, `DEST~`).
fn is_as_we_make_it(directory: BorrowedFd<'_>, destination: &Path) -> io::Result<bool> {
    let is_file = |at: BorrowedFd<'_>, name: &Path| {
        sys::metadata_at(at, name).is_ok_and(|seen| seen.kind == Kind::Regular)
    };
    let of_many = destination.as_os_str().is_empty();
    let mut as_ours = true;
    sys::for_each_name(directory, |name| {
        let path = Path::new(OsStr::from_bytes(name));
        as_ours = as_ours
            && match name {
                b"." | b".." => true,
                _ if of_many => {
                    name.iter().all(u8::is_ascii_digit)
                        && holds_files_only(directory, path).unwrap_or(false)
                }
                _ => {
                    name.starts_with(destination.as_os_str().as_bytes()) && is_file(directory, path)
                }
            };
    })?;
    Ok(as_ours)
}

fn holds_files_only(parent: BorrowedFd<'_>, name: &Path) -> Result<bool, Errno> {
    let room = sys::open_child(parent, name)?.fd;
    let mut files_only = true;
    sys::for_each_name(room.as_fd(), |name| {
        let path = Path::new(OsStr::from_bytes(name));
        let is_file =
            || sys::metadata_at(room.as_fd(), path).is_ok_and(|seen| seen.kind == Kind::Regular);
        files_only = files_only && (matches!(name, b"." | b"..") || is_file());
    })?;
    Ok(files_only)
}

/// Locks what was just made, and tells which file it is; `None` if it has lost its name. To be called while signals wait.
pub(super) fn claim(file: &OwnedFd) -> io::Result<Option<sys::Identity>> {
    match where_supported(sys::try_lock(file)) {
        // Somebody is about to remove it.
        Err(Errno::WOULDBLOCK) => return Ok(None),
        locked => locked?,
    }
    let file = sys::metadata(file)?;
    Ok((file.links > 0).then_some(file.identity))
}

/// What became of a lock, where there are any. A filesystem without (ENOLCK, EOPNOTSUPP, ENOSYS) leaves leftovers to
/// people: nobody can tell a dead owner there.
pub(super) fn where_supported(locked: Result<(), Errno>) -> Result<(), Errno> {
    match locked {
        Err(Errno::NOLCK | Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => Ok(()),
        other => other,
    }
}

/// Whether a name still is that of an open file.
pub(super) fn is_file_at(file: impl AsFd, directory: BorrowedFd<'_>, name: &Path) -> bool {
    sys::metadata(file).is_ok_and(|ours| is_at(directory, name, ours.identity))
}

/// Whether a name is that of the file.
pub(super) fn is_at(directory: BorrowedFd<'_>, name: &Path, identity: sys::Identity) -> bool {
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
