//! `--backup`: the old file keeps a name, by GNU's rules.
//!
//! The rule: the backup is whole and has its name before DEST is new; there is no moment without DEST. A run that fails
//! afterwards takes the backup back, and gives an older one that it replaced its name again, unless DEST is another
//! run's by then, whose backup it may be.
//!
//! A second name for the old file is the first choice. Where that is forbidden (another's file and
//! fs.protected_hardlinks, a filesystem without links), the new file and the old one change names in one call, and the
//! old one gets the backup's name then; where that cannot be either, a copy, complete before it has a name. A file that
//! is overwritten in place is copied: a second name would be one for the new content.

mod names;

use std::io;
use std::mem;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};

pub(crate) use self::names::{forget_numbers, originals};
use crate::attributes::Attributes;
use crate::destination::Destination;
use crate::message::{Chain, Quoted};
use crate::outcome::Failure;
use crate::request::{Backups, Sync};
use crate::signals;
use crate::staged::Staged;
use crate::sys::{self, Errno, Identity, Kind, Metadata};
use crate::temp_name::{Choice, TempName};

/// The old file's name to be.
#[derive(Debug)]
pub(crate) struct Backup<'d> {
    destination: &'d Destination,
    backups: &'d Backups,
    name: PathBuf,
    kept: Kept<'d>,
    /// Of old files that have a temporary name for a moment, so that nobody takes them for leftovers.
    locks: Vec<(Identity, OwnedFd)>,
}

/// How far it has come.
#[derive(Debug)]
enum Kept<'d> {
    NotYet,
    /// It has its name, and goes again if the run fails.
    Named(Old, Older<'d>),
    /// The commit has to exchange the two files, and to name the old one after that.
    ByExchange,
    /// It stays, whatever happens.
    Final,
}

/// What has the backup's name.
#[derive(Debug, Clone, Copy)]
enum Old {
    /// The file that is DEST still.
    Itself,
    Copy(Identity),
}

/// What has become of an older backup that had the name.
#[derive(Debug)]
enum Older<'d> {
    None,
    /// It has a temporary name until the commit.
    Exchanged(TempName<'d>),
    /// As that, where names cannot be exchanged: the name is a second one, that it had before it lost the first.
    Replaced(TempName<'d>),
    /// It was the old file already, which has a temporary name too: another run may have given it the name, and may take
    /// that back.
    TheOld(TempName<'d>),
}

/// What the old file can be given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Spare {
    /// Another name: it stays what it is.
    TheFile,
    /// Only a copy of it, as durable as what will be written over it.
    ACopy(Sync),
}

impl<'d> Backup<'d> {
    /// Chooses the name. `None` if there is nothing to back up. `held` is the file that `--lock` has
    /// locked already.
    pub(crate) fn plan(
        destination: &'d Destination,
        backups: Option<&'d Backups>,
        held: impl FnOnce() -> Option<(Identity, OwnedFd)>,
    ) -> Result<Option<Self>> {
        let (Some(backups), Some(_)) = (backups, destination.existing()) else {
            return Ok(None);
        };
        let name = names::choose(destination, backups).with_context(|| cannot(destination))?;
        Ok(Some(Self {
            destination,
            backups,
            name,
            kept: Kept::NotYet,
            locks: held().into_iter().collect(),
        }))
    }

    /// Somebody took that number meanwhile.
    fn choose_next_number(&mut self) -> Result<()> {
        forget_numbers(self.destination);
        self.name = names::choose(self.destination, self.backups)?;
        Ok(())
    }

    fn is_numbered(&self) -> bool {
        names::is_numbered(&self.name, self.destination, self.backups)
    }

    /// Makes the backup, or leaves it to the commit's exchange. From here on signals wait.
    pub(crate) fn keep(&mut self, spare: Spare) -> Result<()> {
        let kept = match spare {
            Spare::ACopy(sync) => self.copy(sync),
            Spare::TheFile => self.link(),
        };
        kept.with_context(|| cannot(self.destination))
    }

    fn link(&mut self) -> Result<()> {
        signals::hold()?;
        let directory = self.destination.directory().fd.as_fd();
        let old = self.destination.name();
        loop {
            match sys::link(directory, old, directory, &self.name) {
                Ok(()) => {
                    self.kept = Kept::Named(Old::Itself, Older::None);
                    return Ok(());
                }
                Err(Errno::EXIST) if self.is_numbered() => self.choose_next_number()?,
                Err(Errno::EXIST) => break,
                Err(errno) => return self.keep_without_link(errno),
            }
        }
        let older = self.name.clone();
        let choice = match self.lock(old) {
            Choice::First => self.lock(&older),
            Choice::Random => Choice::Random,
        };
        match self.second_name(old, choice) {
            Ok((second, choice)) => self.give_name(second, Old::Itself, choice),
            Err(error) => match Errno::from_io_error(&error) {
                Some(errno) => self.keep_without_link(errno),
                None => Err(error.into()),
            },
        }
    }

    /// There is another way, if that is all that was wrong.
    fn keep_without_link(&mut self, errno: Errno) -> Result<()> {
        match errno {
            // fs.protected_hardlinks, or no links at all; EMLINK: it has as many names as it can have.
            Errno::PERM | Errno::ACCESS | Errno::OPNOTSUPP | Errno::NOSYS | Errno::MLINK => {
                self.leave_to_exchange()
            }
            // It counts for another quota than its directory (xfs, ext4), and cannot be renamed either.
            Errno::XDEV => self.copy(Sync::File),
            errno => Err(errno.into()),
        }
    }

    /// Gives a file in DEST's directory a temporary name, and tells which it is.
    fn second_name(&self, of: &Path, choice: Choice) -> io::Result<(TempName<'d>, Choice)> {
        let directory = self.destination.directory().fd.as_fd();
        if choice == Choice::First {
            // Not by its name, which may be another file's by now: whatever others meet has to be locked.
            let at = sys::metadata_at(directory, of)?.identity;
            let locked = self.locks.iter().find(|(locked, _)| *locked == at);
            let by = locked
                .and_then(|(_, file)| Some((file, sys::probe_link(file.as_fd(), directory)?)));
            if let Some((file, by)) = by {
                match TempName::link(file, by, directory, self.destination.name()) {
                    Err(error) if is_missing(&error) => {}
                    linked => return Ok((linked?, choice)),
                }
            }
        }
        Ok((TempName::link_existing(of, directory)?, Choice::Random))
    }

    /// The old file will have a temporary name for a moment; where it cannot be locked, it stays where it is.
    fn leave_to_exchange(&mut self) -> Result<()> {
        let old = self.destination.name();
        match self.lock(old) {
            Choice::First => {
                self.kept = Kept::ByExchange;
                Ok(())
            }
            Choice::Random => self.copy(Sync::File),
        }
    }

    /// Locks a file, if nobody else has, and tells which temporary name it can have. A link needs no lock: it is never
    /// taken for a leftover.
    fn lock(&mut self, name: &Path) -> Choice {
        let directory = self.destination.directory().fd.as_fd();
        let file = match sys::open_to_lock(directory, name) {
            Ok(file) => file,
            Err(Errno::LOOP) => return Choice::First,
            Err(_) => return Choice::Random,
        };
        match sys::metadata(&file) {
            Ok(seen) if self.has_locked(seen.identity) => Choice::First,
            Ok(seen) if sys::try_lock(&file).is_ok() => {
                self.locks.push((seen.identity, file));
                Choice::First
            }
            _ => Choice::Random,
        }
    }

    /// Whether nobody takes it for a leftover when it has a temporary name.
    fn is_safe(&self, file: Metadata) -> bool {
        file.kind != Kind::Regular || self.has_locked(file.identity)
    }

    fn has_locked(&self, file: Identity) -> bool {
        self.locks.iter().any(|(locked, _)| *locked == file)
    }

    /// Makes a copy with the old file's attributes, and puts it on the disk; with [`Sync::Full`], its name too.
    fn copy(&mut self, sync: Sync) -> Result<()> {
        let attributes = Attributes::of(self.destination)?;
        let copy = Staged::beside(self.destination, &attributes)?
            .fill_from_existing()?
            .seal(&attributes)?
            .sync(Sync::File)?;
        signals::hold()?;
        // Open, and so locked, until it has its name.
        let (name, file) = copy.into_name()?;
        let identity = sys::metadata(&file)?.identity;
        self.give_name(name, Old::Copy(identity), Choice::First)?;
        if sync == Sync::Full {
            self.destination.directory().sync(&file)?;
        }
        Ok(())
    }

    /// Gives a file its name as the backup. An older one changes places with it, so that it can come back.
    fn give_name(&mut self, mut file: TempName<'d>, old: Old, choice: Choice) -> Result<()> {
        let directory = self.destination.directory().fd.as_fd();
        loop {
            match file.move_to_free(directory, &self.name) {
                Ok(true) => {
                    file.forget();
                    self.kept = Kept::Named(old, Older::None);
                    return Ok(());
                }
                Err(Errno::EXIST) if self.is_numbered() => self.choose_next_number()?,
                Ok(false) | Err(Errno::EXIST) => break,
                Err(errno) => return Err(lost(file, errno).into()),
            }
        }
        let older = self.name.clone();
        let choice_of_older = self.lock(&older);
        if choice == Choice::First && choice_of_older == Choice::Random {
            // The older one must not get the name that this one has.
            return self.move_over(file, old, choice_of_older);
        }
        // Not what DEST was when it was looked at: another run may have replaced it, and backed that up.
        let ours = file.metadata().map(|it| it.identity);
        match file.exchange(directory, &self.name) {
            Ok(true) => {}
            Err(Errno::NOENT) | Ok(false) => {
                return self.move_over(file, old, choice_of_older);
            }
            Err(errno) => return Err(errno.into()),
        }
        file.holds_another();
        let displaced = file.metadata();
        if displaced.is_some_and(|it| it.kind == Kind::Directory) {
            // Somebody has made it meanwhile. It must not go with the name that it has now.
            if !matches!(file.exchange(directory, &self.name), Ok(true)) {
                file.forget();
            }
            return Err(names::is_directory(&self.name));
        }
        let is_safe = choice == Choice::Random
            || displaced.is_some_and(|it| self.is_safe(it))
            // It is not the one that was locked.
            || self.lock(&file.path()) == Choice::First;
        self.kept = if is_safe {
            let older = if displaced.is_some_and(|it| Some(it.identity) == ours) {
                Older::TheOld(file)
            } else {
                Older::Exchanged(file)
            };
            Kept::Named(old, older)
        } else {
            file.remove_if(displaced);
            file.forget();
            Kept::Final
        };
        Ok(())
    }

    /// Gives a file its name as the backup, over an older one. That keeps a second name until the commit, where there are
    /// links.
    fn move_over(&mut self, file: TempName<'d>, old: Old, choice: Choice) -> Result<()> {
        let directory = self.destination.directory().fd.as_fd();
        let ours = file.metadata().map(|ours| ours.identity);
        let older = match self.second_name(&self.name, choice) {
            Ok((older, _)) if older.is_of(&ours) => {
                if older.path() == file.path() {
                    // A file that is locked has one first name.
                    file.forget();
                } else {
                    drop(file);
                }
                self.kept = Kept::Named(old, Older::TheOld(older));
                return Ok(());
            }
            older => older,
        };
        if let Err(errno) = file.move_over(directory, &self.name) {
            return Err(lost(file, errno).into());
        }
        // To rename a file to another name of its own does nothing (rename(2)).
        file.remove_if(sys::metadata_at(directory, &self.name).ok());
        file.forget();
        self.kept = match older {
            Ok((older, _)) => Kept::Named(old, Older::Replaced(older)),
            Err(error) if is_missing(&error) => Kept::Named(old, Older::None),
            Err(_) => Kept::Final,
        };
        Ok(())
    }

    /// The commit, where the old file can only keep a name by it: the two files change names, and the old one gets the
    /// backup's. Gives the new file's name back where that is not needed, or cannot be and there is a copy. An error
    /// leaves DEST as it was, or says that it does not.
    pub(crate) fn exchange<'n>(
        &mut self,
        new: TempName<'n>,
    ) -> Result<Option<TempName<'n>>, Failure> {
        self.keep_again()
            .with_context(|| cannot(self.destination))?;
        if !matches!(self.kept, Kept::ByExchange) {
            return Ok(Some(new));
        }
        let (directory, dest) = (
            self.destination.directory().fd.as_fd(),
            self.destination.name(),
        );
        let cannot = || cannot(self.destination);
        if !new.exchange(directory, dest).with_context(cannot)? {
            self.copy(Sync::File).with_context(cannot)?;
            return Ok(Some(new));
        }
        let displaced = new.metadata();
        if displaced.is_some_and(|it| !self.is_safe(it)) {
            // Somebody has replaced DEST since the old file was locked. If somebody else has locked it, that is as good.
            self.lock(&new.path());
        }
        if let Err(errno) = self.name_exchanged(&new, displaced) {
            let error = errno.context(cannot());
            if let Ok(true) = new.exchange(directory, dest) {
                return Err(error.into());
            }
            // The old file has no name but this one, and must not go with it.
            let name = new.keep();
            return Err(Failure::Changed(anyhow!(
                "{}; the file is new, and the old one is beside it as {}",
                Chain(&error),
                Quoted::new(&name)
            )));
        }
        // To rename a file to another name of its own does nothing (rename(2)).
        if displaced.is_some_and(|old| old.links > 1) {
            new.remove_if(displaced);
        }
        new.forget();
        Ok(None)
    }

    /// Gives the old file the backup's name again, if the run that had given it that has failed and taken it back.
    fn keep_again(&mut self) -> Result<()> {
        let (name, old) = match mem::replace(&mut self.kept, Kept::NotYet) {
            Kept::Named(old, Older::TheOld(name)) => (name, old),
            other => {
                self.kept = other;
                return Ok(());
            }
        };
        let directory = self.destination.directory().fd.as_fd();
        let at = |name| {
            let seen = sys::metadata_at(directory, name).ok();
            seen.map(|seen| seen.identity)
        };
        let now = at(&self.name);
        // If DEST is another file by now, that run has not failed, and this is a later one's backup.
        let is_later = || now.is_some() && !name.is_of(&at(self.destination.name()));
        if name.is_of(&now) || is_later() {
            self.kept = Kept::Named(old, Older::TheOld(name));
            return Ok(());
        }
        match name.metadata() {
            None => {
                name.forget();
                self.link()
            }
            Some(seen) if self.is_safe(seen) => self.give_name(name, old, Choice::First),
            Some(_) => self.give_name(name, old, Choice::Random),
        }
    }

    /// Gives the old file the backup's name.
    fn name_exchanged(&mut self, old: &TempName<'_>, seen: Option<Metadata>) -> Result<()> {
        let directory = self.destination.directory().fd.as_fd();
        if seen.is_some_and(|it| it.kind == Kind::Directory) {
            bail!("it is a directory");
        }
        while self.is_numbered() {
            match old.move_to_free(directory, &self.name) {
                Ok(true) => return Ok(()),
                Ok(false) => break,
                Err(Errno::EXIST) => self.choose_next_number()?,
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(old.move_over(directory, &self.name)?)
    }

    /// DEST is new: the backup stays, and an older one goes.
    pub(crate) fn confirm(mut self) {
        self.kept = Kept::Final;
    }

    /// Whether another run has made DEST new since, or has put a backup of its own in the place of ours.
    fn is_anothers(&self, old: Old) -> bool {
        let directory = self.destination.directory().fd.as_fd();
        let at = |name| sys::metadata_at(directory, name).map(|seen| seen.identity);
        let ours = match old {
            Old::Itself => at(self.destination.name()),
            Old::Copy(identity) => Ok(identity),
        };
        match (ours, at(&self.name)) {
            (Ok(ours), Ok(now)) => ours != now,
            (Err(Errno::NOENT), Ok(_)) => true,
            _ => false,
        }
    }
}

impl Drop for Backup<'_> {
    fn drop(&mut self) {
        let directory = self.destination.directory().fd.as_fd();
        let Kept::Named(old, older) = mem::replace(&mut self.kept, Kept::Final) else {
            return;
        };
        if self.is_anothers(old) {
            return;
        }
        // The error under way is what the user wants to know.
        match older {
            Older::None => drop(sys::unlink(directory, &self.name)),
            Older::Exchanged(older)
                if matches!(older.exchange(directory, &self.name), Ok(true)) =>
            {
                drop(older);
            }
            // The backup's name is another run's, or was.
            Older::TheOld(second) => drop(second),
            Older::Exchanged(older) | Older::Replaced(older) => {
                if older.move_over(directory, &self.name).is_ok() {
                    older.remove_if(sys::metadata_at(directory, &self.name).ok());
                    older.forget();
                } else {
                    // It must not go with the only name that it may have.
                    older.keep();
                }
            }
        }
    }
}

fn cannot(destination: &Destination) -> String {
    format!("cannot back up {}", destination.typed())
}

/// A name that is not there any more may be somebody else's by now.
fn lost(name: TempName<'_>, errno: Errno) -> Errno {
    if errno == Errno::NOENT {
        name.forget();
    }
    errno
}

fn is_missing(error: &io::Error) -> bool {
    Errno::from_io_error(error) == Some(Errno::NOENT)
}
