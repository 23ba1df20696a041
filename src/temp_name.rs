//! The temporary name that the new file has for a moment, or on some filesystems from its start.
//!
//! The rule: whoever has the name has the file's lock (flock), from before the name exists. So a name whose file is not
//! locked was left by a run that was killed, and may be removed (see `acquire`). The first choice is made from DEST's own
//! name: the next write to the same DEST meets a leftover without looking for it. Nothing is touched but a regular file of
//! our own, and a private directory with only what we put there; where the first choice is taken, and not by a leftover,
//! the next one or random letters are as good.

mod acquire;
mod lock_name;
mod private;

use std::ffi::OsString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::{io, iter};

use anyhow::Result;
use tempfile::TempPath;

use self::acquire::{
    Choices, TRIES, acquire, acquire_random, claim, is_at, is_file_at, remove_leftovers_from,
    where_supported,
};
pub(crate) use self::lock_name::LockName;
pub(crate) use self::private::PrivateDirectory;
use crate::signals::{self, RemoveOnDeath};
use crate::sys::{self, Errno, Identity, LinkBy, Metadata, Time};

/// A name on the disk, removed when dropped.
#[derive(Debug)]
pub(crate) struct TempName<'d> {
    // The name goes first: `Drop` removes it, and after that the place is dropped.
    name: PathBuf,
    guard: Option<TempPath>,
    /// Only for a name that is there before the commit; during a commit signals wait.
    early: Option<Box<Early>>,
    place: Place<'d>,
}

/// Which temporary name to take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Choice {
    /// One that the next write to the same DEST comes upon, and removes if the file is not locked.
    First,
    /// One that nobody else comes upon.
    Random,
}

/// What can be told to be at a place, or not: a file that is open, or one that was.
pub(crate) trait Identify {
    fn is_at(&self, directory: BorrowedFd<'_>, name: &Path) -> bool;
}

impl Identify for OwnedFd {
    fn is_at(&self, directory: BorrowedFd<'_>, name: &Path) -> bool {
        is_file_at(self, directory, name)
    }
}

impl Identify for Option<Identity> {
    fn is_at(&self, directory: BorrowedFd<'_>, name: &Path) -> bool {
        self.is_some_and(|identity| is_at(directory, name, identity))
    }
}

/// What becomes of a name that is there while input comes.
#[derive(Debug)]
struct Early {
    /// What was made with it. Where there are no locks, somebody may take that for a leftover, and the name for another.
    made: Identity,
    _on_death: RemoveOnDeath,
}

/// Where the name is.
#[derive(Debug)]
enum Place<'d> {
    /// In the directory that the new file was made in.
    Beside(BorrowedFd<'d>),
    /// In a directory of its own, in that one.
    Private(PrivateDirectory<'d>),
    /// In a directory with others, with which it goes.
    Shared(&'d PrivateDirectory<'d>, Shown),
}

/// Whether programs of the user's have seen the file under its name; they may have put another in its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shown {
    No,
    Yes,
}

impl Place<'_> {
    fn directory(&self) -> BorrowedFd<'_> {
        match self {
            Self::Beside(directory) => *directory,
            Self::Private(private) => private.fd.as_fd(),
            Self::Shared(shared, _) => shared.fd.as_fd(),
        }
    }
}

impl<'d> TempName<'d> {
    /// Locks a new file, as it must be before it gets a temporary name, where there are locks at all.
    pub(crate) fn lock_before(file: &OwnedFd) -> Result<(), Errno> {
        where_supported(sys::try_lock(file))
    }

    /// Gives an open file a temporary name in `directory`. To be called while signals wait, and the file is locked.
    pub(crate) fn link(
        file: &OwnedFd,
        by: LinkBy,
        directory: BorrowedFd<'d>,
        destination: &Path,
    ) -> io::Result<Self> {
        let owner = || sys::metadata(file).map(|ours| ours.uid).ok();
        let (guard, ()) = acquire(directory, destination, Choices::OF_A_FILE, &owner, |name| {
            match sys::link_open_file(file.as_fd(), by, directory, name) {
                // A call that was interrupted after its work was done, and made again; or what a run has left of this very
                // file, which nobody but us can lock.
                Err(_) if is_file_at(file, directory, name) => Ok(()),
                linked => linked,
            }
        })?;
        Choices::OF_A_FILE.remove_others(directory, destination, &guard, &owner);
        Ok(Self::beside(directory, guard))
    }

    /// Removes what a run with `--create-dirs` that was killed has left for the same DEST, in `directory` and in those above
    /// it.
    pub(crate) fn remove_leftovers_from(
        directory: BorrowedFd<'_>,
        searched: Option<&[OsString]>,
        destination: &Path,
        owner: impl Fn() -> Option<u32>,
    ) {
        let choices = Choices::OF_A_FILE;
        remove_leftovers_from(directory, searched, destination, choices, owner);
    }

    /// Gives an existing file a second, temporary name that nobody else comes upon. To be called while signals wait.
    pub(crate) fn link_existing(existing: &Path, directory: BorrowedFd<'d>) -> io::Result<Self> {
        let link = |name: &Path| Ok(sys::link(directory, existing, directory, name)?);
        let (guard, ()) = acquire_random(directory, link)?;
        Ok(Self::beside(directory, guard))
    }

    /// Makes a file that has a name from the start.
    pub(crate) fn create(
        directory: BorrowedFd<'d>,
        destination: &Path,
        owner: Option<u32>,
    ) -> Result<(Self, OwnedFd)> {
        // In a crowd each may take the other's name for a leftover, again and again; a random one meets nobody.
        let last = iter::once(Choice::Random);
        for choice in iter::repeat_n(Choice::First, TRIES).chain(last) {
            let made = signals::without(|| {
                let create = |name: &Path| sys::create_new(directory, name, 0o600);
                let (guard, file) = match choice {
                    Choice::First => {
                        let choices = Choices::OF_A_FILE;
                        acquire(directory, destination, choices, &|| owner, create)?
                    }
                    Choice::Random => acquire_random(directory, |name| Ok(create(name)?))?,
                };
                let mut name = Self::beside(directory, guard);
                // Until it is locked, somebody may take it for a leftover; then it is not ours to remove.
                let Some(made) = claim(&file)? else {
                    name.forget();
                    return Ok(None);
                };
                let on_death = RemoveOnDeath::arm(directory, &name.name, None)?;
                name.early = Some(Box::new(Early {
                    made,
                    _on_death: on_death,
                }));
                Choices::OF_A_FILE.remove_others(directory, destination, &name.name, &|| owner);
                Ok(Some((name, file)))
            })?;
            if let Some(made) = made {
                return Ok(made);
            }
        }
        Err(Errno::BUSY.into())
    }

    fn beside(directory: BorrowedFd<'d>, guard: TempPath) -> Self {
        let name = PathBuf::from(guard.file_name().unwrap_or_default());
        Self {
            name,
            guard: Some(guard),
            early: None,
            place: Place::Beside(directory),
        }
    }

    /// Gives a file that has none DEST's own name, in a directory of its own, where others can look at it.
    pub(crate) fn link_private(
        file: &OwnedFd,
        by: LinkBy,
        directory: BorrowedFd<'d>,
        destination: &Path,
    ) -> Result<Self> {
        let private = PrivateDirectory::make(directory, destination)?;
        sys::link_open_file(file.as_fd(), by, private.fd.as_fd(), destination)?;
        Ok(Self::private(private, destination))
    }

    /// Makes a file that has DEST's own name from the start, in a directory where nobody else can look at it.
    pub(crate) fn create_in(
        directory: &'d PrivateDirectory<'d>,
        destination: &Path,
        mode: u32,
    ) -> Result<(Self, OwnedFd), Errno> {
        let name = directory.next_room()?.join(destination);
        let file = sys::create_new(directory.fd.as_fd(), &name, mode)?;
        let name = Self {
            name,
            guard: None,
            early: None,
            place: Place::Shared(directory, Shown::No),
        };
        Ok((name, file))
    }

    /// Moves a file that has a name to DEST's own name, in a directory of its own, where others can look at it.
    pub(crate) fn move_private(
        mut self,
        directory: BorrowedFd<'d>,
        destination: &Path,
    ) -> Result<Self> {
        if let Place::Shared(_, shown) = &mut self.place {
            *shown = Shown::Yes;
            return Ok(self);
        }
        let private = PrivateDirectory::make(directory, destination)?;
        sys::rename(
            self.place.directory(),
            &self.name,
            private.fd.as_fd(),
            destination,
        )?;
        self.forget();
        Ok(Self::private(private, destination))
    }

    fn private(private: PrivateDirectory<'d>, destination: &Path) -> Self {
        Self {
            name: destination.to_owned(),
            guard: TempPath::try_from_path(sys::proc_path(&private.fd).join(destination)).ok(),
            // The directory is removed by a signal, and so is this.
            early: None,
            place: Place::Private(private),
        }
    }

    /// Whether programs of the user's were shown the file under this name; they may have put another in its place.
    pub(crate) fn was_shown(&self) -> bool {
        matches!(self.place, Place::Private(_) | Place::Shared(_, Shown::Yes))
    }

    /// Whether it was there for so long that somebody may have put another file in its place.
    pub(crate) fn is_old(&self) -> bool {
        self.was_shown() || self.early.is_some()
    }

    /// Opens what has the name now, to read from it.
    pub(crate) fn open(&self) -> Result<OwnedFd, Errno> {
        sys::open_existing(self.place.directory(), &self.name)
    }

    /// Sets the time of the last write of what has the name now.
    pub(crate) fn set_modified(&self, time: Time) -> Result<(), Errno> {
        sys::set_modified_at(self.place.directory(), &self.name, time)
    }

    /// Whether the name still is that of the file.
    pub(crate) fn is_of(&self, file: &impl Identify) -> bool {
        file.is_at(self.place.directory(), &self.name)
    }

    /// The name and, if it is in one, that of its private directory before it.
    pub(crate) fn path(&self) -> PathBuf {
        match &self.place {
            Place::Beside(_) => self.name.clone(),
            Place::Private(private) => private.name.join(&self.name),
            Place::Shared(shared, _) => shared.name.join(&self.name),
        }
    }

    /// Moves the file to its last name, over whatever has that.
    pub(crate) fn rename(
        self,
        file: &impl Identify,
        to: BorrowedFd<'_>,
        destination: &Path,
    ) -> Result<(), Errno> {
        let moved = sys::rename(self.place.directory(), &self.name, to, destination);
        self.ended(moved, file, to, destination)
    }

    /// Moves the file to its last name if nothing has that (EEXIST).
    pub(crate) fn rename_to_free(
        self,
        file: &impl Identify,
        to: BorrowedFd<'_>,
        destination: &Path,
    ) -> Result<(), Errno> {
        match sys::rename_to_free(self.place.directory(), &self.name, to, destination) {
            // A second name in place of the first: just as atomic, and the first goes when we are dropped.
            Ok(false) => match sys::link(self.place.directory(), &self.name, to, destination) {
                Err(errno) if !file.is_at(to, destination) => Err(errno),
                _ => Ok(()),
            },
            moved => self.ended(moved.map(|_| ()), file, to, destination),
        }
    }

    /// The name is gone if the rename was done, even where the answer got lost (NFS; a call that was interrupted and
    /// made again).
    fn ended(
        self,
        moved: Result<(), Errno>,
        file: &impl Identify,
        to: BorrowedFd<'_>,
        destination: &Path,
    ) -> Result<(), Errno> {
        if moved.is_ok() || file.is_at(to, destination) {
            self.forget();
            return Ok(());
        }
        moved
    }

    /// Moves whatever has our name, over whatever has the other one.
    pub(crate) fn move_over(&self, to: BorrowedFd<'_>, name: &Path) -> Result<(), Errno> {
        self.or_found_done(to, name, (), || {
            sys::rename(self.place.directory(), &self.name, to, name)
        })
    }

    /// Moves whatever has our name, if nothing has the other one (EEXIST). False where that cannot be done.
    pub(crate) fn move_to_free(&self, to: BorrowedFd<'_>, name: &Path) -> Result<bool, Errno> {
        let directory = self.place.directory();
        let moved = self.or_found_done(to, name, true, || {
            sys::rename_to_free(directory, &self.name, to, name)
        })?;
        if moved {
            return Ok(true);
        }
        // A second name in place of the first.
        match sys::link(directory, &self.name, to, name) {
            Ok(()) => {
                // What is left is a second name, and is removed by the next write.
                let _ = sys::unlink(directory, &self.name);
                Ok(true)
            }
            Err(Errno::EXIST) => Err(Errno::EXIST),
            Err(_) => Ok(false),
        }
    }

    /// Has what is under our name and what is under the other one change places. False where that cannot be done.
    pub(crate) fn exchange(&self, to: BorrowedFd<'_>, name: &Path) -> Result<bool, Errno> {
        self.or_found_done(to, name, true, || {
            sys::exchange(self.place.directory(), &self.name, to, name)
        })
    }

    /// Moves what has our name to another one, and looks whether it has gone there where the answer is an error: one that
    /// got lost (NFS, FUSE) must not have us remove what has our name since.
    fn or_found_done<T>(
        &self,
        to: BorrowedFd<'_>,
        name: &Path,
        done: T,
        work: impl FnOnce() -> Result<T, Errno>,
    ) -> Result<T, Errno> {
        let ours = self.metadata().map(|ours| ours.identity);
        // To be there is not enough: another run may have given the same old file that name.
        let has_gone =
            |ours| is_at(to, name, ours) && !is_at(self.place.directory(), &self.name, ours);
        match work() {
            Err(_) if ours.is_some_and(has_gone) => Ok(done),
            answer => answer,
        }
    }

    /// What has the name now.
    pub(crate) fn metadata(&self) -> Option<Metadata> {
        sys::metadata_at(self.place.directory(), &self.name).ok()
    }

    /// Removes the name if it is that of the file.
    pub(crate) fn remove_if(&self, file: Option<Metadata>) {
        let directory = self.place.directory();
        if file.is_some_and(|file| is_at(directory, &self.name, file.identity)) {
            // What is left is a second name of a file that has one, and is removed by the next write.
            let _ = sys::unlink(directory, &self.name);
        }
    }

    /// What has the name is not what was made with it, and goes with it all the same.
    pub(crate) fn holds_another(&mut self) {
        self.early = None;
    }

    /// Leaves what has the name, and tells where: under one that nobody takes for a leftover, and in no directory that
    /// goes, if it can have such.
    pub(crate) fn keep(self) -> PathBuf {
        let outside = match &self.place {
            Place::Beside(directory) => *directory,
            Place::Private(private) => private.parent,
            Place::Shared(shared, _) => shared.parent,
        };
        let moved = acquire_random(outside, |to| {
            Ok(sys::rename(
                self.place.directory(),
                &self.name,
                outside,
                to,
            )?)
        });
        match moved.map(|(guard, ())| TempName::beside(outside, guard).leave()) {
            Ok(path) => {
                self.forget();
                path
            }
            Err(_) => self.leave(),
        }
    }

    fn leave(self) -> PathBuf {
        let path = self.path();
        self.forget();
        path
    }

    /// Removes nothing: the name is not ours any more.
    pub(crate) fn forget(mut self) {
        if let Some(guard) = &mut self.guard {
            guard.disable_cleanup(true);
        }
        self.guard = None;
    }
}

impl Drop for TempName<'_> {
    fn drop(&mut self) {
        let Some(mut guard) = self.guard.take() else {
            return;
        };
        let remove = || {
            let anothers = |early: &Early| {
                self.metadata()
                    .is_some_and(|now| now.identity != early.made)
            };
            if self.early.as_deref().is_some_and(anothers) {
                guard.disable_cleanup(true);
            } else if guard.close().is_err() {
                // No /proc. The error under way is what the user wants to know; what may be left is removed by the next
                // run.
                let _ = sys::unlink(self.place.directory(), &self.name);
            }
            self.early = None;
            Ok(())
        };
        // A signal between the removal and the disarming would remove what somebody else has made by that name.
        drop(signals::without(remove));
    }
}
