//! `--backup`: the old file keeps a name, by GNU's rules.
//!
//! The rule: the backup is whole and has its name before DEST is new; there is no moment without DEST. A run that fails
//! afterwards takes the backup back, and gives an older one that it replaced its name again.
//!
//! A second name for the old file is the first choice. Where that is forbidden (another's file and
//! fs.protected_hardlinks, a filesystem without links), the new file and the old one change names in one call, and the
//! old one gets the backup's name then; where that cannot be either, a copy, complete before it has a name. A file that
//! is overwritten in place is copied: a second name would be one for the new content.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::mem;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};

use crate::attributes::Attributes;
use crate::destination::Destination;
use crate::message::{Chain, Quoted};
use crate::outcome::Failure;
use crate::request::{Backups, Locking, Naming, Sync};
use crate::signals;
use crate::staged::Staged;
use crate::sys::{self, Errno, Kind, Metadata};
use crate::temp_name::{Choice, TempName};

/// Bytes in a name, on every filesystem of Linux that matters (NAME_MAX).
const LONGEST_NAME: usize = 255;

/// The old file's name to be.
#[derive(Debug)]
pub(crate) struct Backup<'d> {
    destination: &'d Destination,
    backups: &'d Backups,
    locking: Locking,
    name: PathBuf,
    kept: Kept<'d>,
    /// Of old files that have a temporary name for a moment, so that nobody takes them for leftovers.
    locks: Vec<OwnedFd>,
}

/// How far it has come.
#[derive(Debug)]
enum Kept<'d> {
    NotYet,
    /// It has its name. An older backup that had it has a temporary one until the commit.
    Named(Option<TempName<'d>>),
    /// As that, where two names cannot be exchanged.
    Over(TempName<'d>),
    /// The commit has to exchange the two files, and to name the old one after that.
    ByExchange,
    /// It stays, whatever happens.
    Final,
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
    /// Chooses the name. `None` if there is nothing to back up.
    pub(crate) fn plan(
        destination: &'d Destination,
        backups: Option<&'d Backups>,
        locking: Locking,
    ) -> Result<Option<Self>> {
        let (Some(backups), Some(_)) = (backups, destination.existing()) else {
            return Ok(None);
        };
        let mut backup = Self {
            destination,
            backups,
            locking,
            name: PathBuf::new(),
            kept: Kept::NotYet,
            locks: Vec::new(),
        };
        backup.choose_name().with_context(|| backup.cannot())?;
        Ok(Some(backup))
    }

    fn choose_name(&mut self) -> Result<()> {
        let directory = self.destination.directory().fd.as_fd();
        let base = self.destination.name().as_os_str();
        let number = match self.backups.naming {
            Naming::Simple => None,
            Naming::Numbered => Some(self.highest_number()?.unwrap_or(0)),
            Naming::Existing => self.highest_number()?,
        };
        let mut name = base.to_owned();
        match number {
            Some(highest) => {
                let number = highest
                    .checked_add(1)
                    .context("there is no higher number")?;
                name.push(format!(".~{number}~"));
            }
            None => name.push(&self.backups.suffix),
        }
        if name.len() > LONGEST_NAME {
            bail!(
                "its name {} would be too long; a shorter --suffix may do",
                Quoted(&name)
            );
        }
        self.name = PathBuf::from(name);
        let taken = sys::metadata_at(directory, &self.name);
        if taken.is_ok_and(|taken| taken.kind == Kind::Directory) {
            bail!(
                "its name {} is that of a directory; another --suffix may do",
                Quoted::new(&self.name)
            );
        }
        Ok(())
    }

    /// The highest N of all NAME.~N~ in DEST's directory.
    fn highest_number(&self) -> Result<Option<u64>> {
        let mut numbers = self.destination.place().numbers.borrow_mut();
        if numbers.is_none() {
            let read = read_numbers(self.destination.directory().fd.as_fd());
            *numbers = Some(read.context("cannot read its directory")?);
        }
        let base = self.destination.name().as_os_str();
        Ok(numbers.as_ref().and_then(|all| all.get(base).copied()))
    }

    /// Somebody took that number meanwhile.
    fn choose_next_number(&mut self) -> Result<()> {
        forget_numbers(self.destination);
        self.choose_name()
    }

    /// Makes the backup, or leaves it to the commit's exchange. From here on signals wait.
    pub(crate) fn keep(&mut self, spare: Spare) -> Result<()> {
        let kept = match spare {
            Spare::ACopy(_) => self.copy(),
            Spare::TheFile => self.link(),
        };
        self.kept = kept.with_context(|| self.cannot())?;
        // From now on the copy is the only whole one.
        if spare == Spare::ACopy(Sync::Full) {
            sys::sync_directory(&self.destination.directory().fd).with_context(|| self.cannot())?;
        }
        Ok(())
    }

    fn link(&mut self) -> Result<Kept<'d>> {
        signals::hold()?;
        let directory = self.destination.directory().fd.as_fd();
        loop {
            match sys::link(directory, self.destination.name(), directory, &self.name) {
                Ok(()) => return Ok(Kept::Named(None)),
                Err(Errno::EXIST) if self.is_numbered() => self.choose_next_number()?,
                Err(Errno::EXIST) => break,
                Err(errno) if is_no_link(errno) => return self.leave_to_exchange(),
                Err(errno) => return Err(errno.into()),
            }
        }
        let older = self.name.clone();
        let choice = Choice::where_locked(self.lock_old() && self.lock(&older));
        let owner = self
            .destination
            .existing()
            .map_or_else(sys::effective_uid, |old| old.uid);
        let old = self.destination.name();
        let mut link = |choice| match TempName::link_existing(old, directory, old, owner, choice) {
            Ok(second) => self.give_name(second),
            Err(error) if Errno::from_io_error(&error).is_some_and(is_no_link) => {
                self.leave_to_exchange()
            }
            Err(error) => Err(error.into()),
        };
        match link(choice) {
            // Somebody replaced DEST between the lock and the link, and another took the second name for a leftover.
            Err(error) if error.downcast_ref() == Some(&Errno::NOENT) => link(Choice::Random),
            linked => linked,
        }
    }

    /// The old file will have a temporary name for a moment; where it cannot be locked, it stays where it is.
    fn leave_to_exchange(&mut self) -> Result<Kept<'d>> {
        if self.lock_old() {
            Ok(Kept::ByExchange)
        } else {
            self.copy()
        }
    }

    fn lock_old(&mut self) -> bool {
        let old = self.destination.name();
        // The first lock is the old file's.
        self.locking == Locking::Exclusive || !self.locks.is_empty() || self.lock(old)
    }

    /// Locks a file, if nobody else has. A link needs none: it is never taken for a leftover.
    fn lock(&mut self, name: &Path) -> bool {
        let directory = self.destination.directory().fd.as_fd();
        match sys::open_to_lock(directory, name) {
            Ok(file) if sys::metadata(&file).is_ok_and(|file| self.has_locked(&file)) => true,
            Ok(file) if TempName::lock_before(&file).is_ok() => {
                self.locks.push(file);
                true
            }
            Err(Errno::LOOP) => true,
            _ => false,
        }
    }

    /// Whether nobody takes for a leftover what has a temporary name now.
    fn is_safe(&self, name: &TempName<'_>) -> bool {
        name.metadata()
            .is_some_and(|now| now.kind != Kind::Regular || self.has_locked(&now))
    }

    fn has_locked(&self, file: &Metadata) -> bool {
        self.locks
            .iter()
            .any(|lock| sys::metadata(lock).is_ok_and(|ours| ours.identity == file.identity))
    }

    fn is_numbered(&self) -> bool {
        self.backups.naming != Naming::Simple
            && number_of(self.name.as_os_str().as_bytes())
                .is_some_and(|(base, _)| base == self.destination.name().as_os_str().as_bytes())
    }

    /// Makes a copy with the old file's attributes, and puts it on the disk.
    fn copy(&mut self) -> Result<Kept<'d>> {
        let attributes = Attributes::of(self.destination)?;
        let copy = Staged::beside(self.destination, &attributes)?
            .fill_from_existing()?
            .seal(&attributes)?
            .sync(Sync::File)?;
        signals::hold()?;
        // Open, and so locked, until it has its name.
        let (name, _file) = copy.into_name()?;
        self.give_name(name)
    }

    /// Gives a file its name as the backup. An older one changes places with it, so that it can come back.
    fn give_name(&mut self, file: TempName<'d>) -> Result<Kept<'d>> {
        let directory = self.destination.directory().fd.as_fd();
        loop {
            match file.move_to_free(directory, &self.name) {
                Ok(true) => {
                    file.forget();
                    return Ok(Kept::Named(None));
                }
                Err(Errno::EXIST) if self.is_numbered() => self.choose_next_number()?,
                Ok(false) | Err(Errno::EXIST) => break,
                Err(errno) => return Err(lost(file, errno).into()),
            }
        }
        let older = self.name.clone();
        let choice = Choice::where_locked(self.lock(&older));
        match file.exchange(directory, &self.name) {
            Ok(true) if self.is_safe(&file) => Ok(Kept::Named(Some(file))),
            Ok(true) => {
                file.remove_at_once();
                Ok(Kept::Final)
            }
            Err(Errno::NOENT) | Ok(false) => self.move_over(file, choice),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Gives a file its name as the backup, over an older one. That keeps a second name until the commit, where there are
    /// links.
    fn move_over(&self, file: TempName<'d>, choice: Choice) -> Result<Kept<'d>> {
        let directory = self.destination.directory().fd.as_fd();
        let owner = sys::metadata_at(directory, &self.name)
            .map_or_else(|_| sys::effective_uid(), |older| older.uid);
        let destination = self.destination.name();
        let older = TempName::link_existing(&self.name, directory, destination, owner, choice);
        let mut older = older.ok();
        if let Some(other) = older.take_if(|it| choice == Choice::First && !self.is_safe(it)) {
            other.remove_at_once();
        }
        if let Err(errno) = file.move_over(directory, &self.name) {
            return Err(lost(file, errno).into());
        }
        // To rename a file to another name of its own does nothing (rename(2)).
        file.remove_if(sys::metadata_at(directory, &self.name).ok());
        file.forget();
        Ok(older.map_or(Kept::Final, Kept::Over))
    }

    /// The commit, where the old file can only keep a name by it: the two files change names, and the old one gets the
    /// backup's. Gives the new file's name back where that is not needed, or cannot be and there is a copy. An error
    /// leaves DEST as it was, or says that it does not.
    pub(crate) fn exchange<'n>(
        &mut self,
        new: TempName<'n>,
    ) -> Result<Option<TempName<'n>>, Failure> {
        if !matches!(self.kept, Kept::ByExchange) {
            return Ok(Some(new));
        }
        let directory = self.destination.directory().fd.as_fd();
        let exchanged = new.exchange(directory, self.destination.name());
        if !exchanged.with_context(|| self.cannot())? {
            self.kept = self.copy().with_context(|| self.cannot())?;
            return Ok(Some(new));
        }
        if let Err(errno) = self.name_exchanged(&new) {
            let error = errno.context(self.cannot());
            if let Ok(true) = new.exchange(directory, self.destination.name()) {
                return Err(error.into());
            }
            // The old file has no name but this one, and must not go with it.
            let name = new.path();
            new.forget();
            return Err(Failure::Changed(anyhow!(
                "{}; the file is new, and the old one is beside it as {}",
                Chain(&error),
                Quoted::new(&name)
            )));
        }
        // To rename a file to another name of its own does nothing (rename(2)).
        if self.destination.existing().is_some_and(|old| old.links > 1) {
            new.remove_if(self.destination.existing());
        }
        new.forget();
        Ok(None)
    }

    /// Gives the old file the backup's name.
    fn name_exchanged(&mut self, old: &TempName<'_>) -> Result<()> {
        let directory = self.destination.directory().fd.as_fd();
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

    fn cannot(&self) -> String {
        format!("cannot back up {}", self.destination.typed())
    }
}

impl Drop for Backup<'_> {
    fn drop(&mut self) {
        let directory = self.destination.directory().fd.as_fd();
        // The error under way is what the user wants to know.
        match mem::replace(&mut self.kept, Kept::Final) {
            Kept::Named(None) => drop(sys::unlink(directory, &self.name)),
            Kept::Named(Some(older)) => drop(older.exchange(directory, &self.name)),
            Kept::Over(older) => {
                if older.move_over(directory, &self.name).is_ok() {
                    older.remove_if(sys::metadata_at(directory, &self.name).ok());
                }
                // It must not go with the only name that it may have.
                older.forget();
            }
            Kept::NotYet | Kept::ByExchange | Kept::Final => {}
        }
    }
}

/// A name that is not there any more may be somebody else's by now.
fn lost(name: TempName<'_>, errno: Errno) -> Errno {
    if errno == Errno::NOENT {
        name.forget();
    }
    errno
}

/// EPERM: fs.protected_hardlinks, or no links at all; EMLINK: it has as many names as it can have.
fn is_no_link(errno: Errno) -> bool {
    matches!(
        errno,
        Errno::PERM | Errno::ACCESS | Errno::OPNOTSUPP | Errno::NOSYS | Errno::MLINK
    )
}

/// The highest N of all NAME.~N~ in a directory, for each NAME.
fn read_numbers(directory: BorrowedFd<'_>) -> Result<HashMap<OsString, u64>, Errno> {
    let mut numbers = HashMap::new();
    sys::for_each_name(directory, |name| {
        if let Some((base, number)) = number_of(name) {
            let highest = numbers.entry(OsStr::from_bytes(base).to_owned());
            let highest = highest.or_insert(number);
            *highest = number.max(*highest);
        }
    })?;
    Ok(numbers)
}

/// Has the directory of the file be read anew, which may have changed while input was awaited.
pub(crate) fn forget_numbers(destination: &Destination) {
    destination.place().numbers.take();
}

/// The names of which this one may be a backup's.
pub(crate) fn originals<'n>(name: &'n Path, backups: &Backups) -> impl Iterator<Item = &'n Path> {
    let bytes = name.as_os_str().as_bytes();
    let simple = bytes.strip_suffix(backups.suffix.as_bytes());
    let numbered = number_of(bytes).map(|(base, _)| base);
    [simple, numbered]
        .into_iter()
        .flatten()
        .map(|base| Path::new(OsStr::from_bytes(base)))
}

/// The NAME and the N of NAME.~N~. A longer number than fits is none, as one with leading zeros is.
fn number_of(name: &[u8]) -> Option<(&[u8], u64)> {
    let rest = name.strip_suffix(b"~")?;
    let start = rest.iter().rposition(|byte| !byte.is_ascii_digit())? + 1;
    let (base, digits) = rest.split_at(start);
    let base = base.strip_suffix(b".~")?;
    if digits.first()? == &b'0' {
        return None;
    }
    let number = std::str::from_utf8(digits).ok()?.parse().ok()?;
    Some((base, number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_number_of_a_backup() {
        assert_eq!(number_of(b"a.~12~"), Some((&b"a"[..], 12)));
        assert_eq!(number_of(b"a.~1~.~2~"), Some((&b"a.~1~"[..], 2)));
        for other in [
            "a",
            "a~",
            "a.~~",
            "a.~0~",
            "a.~01~",
            "a.~1",
            "a.~+1~",
            "a.~1x~",
            "a.~99999999999999999999~",
            "~",
            "1~",
        ] {
            assert_eq!(number_of(other.as_bytes()), None, "{other}");
        }
    }
}
