//! `--backup`: the old file keeps a name, by GNU's rules.
//!
//! The rule: the backup is whole and has its name before DEST is new; there is no moment without DEST. A run that fails
//! afterwards takes the backup back, and gives an older one that it replaced its name again.
//!
//! A second name for the old file is the first choice. Where that is forbidden (another's file and
//! fs.protected_hardlinks, a filesystem without links), the new file and the old one change names in one call, and the
//! old one gets the backup's name then; where that cannot be either, a copy, complete before it has a name. A file that
//! is overwritten in place is copied: a second name would be one for the new content.

use std::ffi::OsStr;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};

use crate::attributes::Attributes;
use crate::destination::Destination;
use crate::message::Quoted;
use crate::request::{Backups, Naming, Sync};
use crate::signals;
use crate::staged::Staged;
use crate::sys::{self, Errno, Kind};
use crate::temp_name::TempName;

/// Bytes in a name, on every filesystem of Linux that matters (NAME_MAX).
const LONGEST_NAME: usize = 255;

/// The old file's name to be.
#[derive(Debug)]
pub(crate) struct Backup<'d> {
    destination: &'d Destination,
    backups: &'d Backups,
    name: PathBuf,
    kept: Kept<'d>,
}

/// How far it has come.
#[derive(Debug)]
enum Kept<'d> {
    NotYet,
    /// It has its name. An older backup that had it has a temporary one until the commit.
    Named(Option<TempName<'d>>),
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
    /// Only a copy of it.
    ACopy,
}

impl<'d> Backup<'d> {
    /// Chooses the name. `None` if there is nothing to back up.
    pub(crate) fn plan(
        destination: &'d Destination,
        backups: Option<&'d Backups>,
    ) -> Result<Option<Self>> {
        let (Some(backups), Some(_)) = (backups, destination.existing()) else {
            return Ok(None);
        };
        let mut backup = Self {
            destination,
            backups,
            name: PathBuf::new(),
            kept: Kept::NotYet,
        };
        backup.choose_name().with_context(|| backup.cannot())?;
        Ok(Some(backup))
    }

    fn choose_name(&mut self) -> Result<()> {
        let directory = self.destination.directory().fd.as_fd();
        let base = self.destination.name().as_os_str();
        let number = match self.backups.naming {
            Naming::Simple => None,
            Naming::Numbered => Some(highest_number(directory, base)?.unwrap_or(0) + 1),
            Naming::Existing => highest_number(directory, base)?.map(|highest| highest + 1),
        };
        let mut name = base.to_owned();
        match number {
            Some(number) => name.push(format!(".~{number}~")),
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
                "its name {} is that of a directory",
                Quoted::new(&self.name)
            );
        }
        Ok(())
    }

    /// Makes the backup, or leaves it to the commit's exchange. From here on signals wait.
    pub(crate) fn keep(&mut self, spare: Spare) -> Result<()> {
        let kept = match spare {
            Spare::ACopy => self.copy(),
            Spare::TheFile => self.link(),
        };
        self.kept = kept.with_context(|| self.cannot())?;
        Ok(())
    }

    fn link(&mut self) -> Result<Kept<'d>> {
        signals::hold()?;
        let directory = self.destination.directory().fd.as_fd();
        loop {
            match sys::link(directory, self.destination.name(), directory, &self.name) {
                Ok(()) => return Ok(Kept::Named(None)),
                // Somebody took that number meanwhile.
                Err(Errno::EXIST) if self.is_numbered() => self.choose_name()?,
                Err(Errno::EXIST) => break,
                // EPERM: fs.protected_hardlinks, or no links at all; EMLINK: it has as many names as it can have.
                Err(
                    Errno::PERM | Errno::ACCESS | Errno::OPNOTSUPP | Errno::NOSYS | Errno::MLINK,
                ) => {
                    return Ok(Kept::ByExchange);
                }
                Err(errno) => return Err(errno.into()),
            }
        }
        let owner = self
            .destination
            .existing()
            .map_or_else(sys::effective_uid, |old| old.uid);
        let second = TempName::link_existing(self.destination.name(), directory, owner)?;
        self.give_name(second)
    }

    fn is_numbered(&self) -> bool {
        self.backups.naming != Naming::Simple
            && number_of(self.destination.name().as_os_str(), self.name.as_os_str()).is_some()
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
                Err(Errno::EXIST) if self.is_numbered() => self.choose_name()?,
                Ok(false) | Err(Errno::EXIST) => break,
                Err(errno) => return Err(errno.into()),
            }
        }
        match file.exchange(directory, &self.name) {
            Ok(true) => Ok(Kept::Named(Some(file))),
            Err(Errno::NOENT) | Ok(false) => {
                file.move_over(directory, &self.name)?;
                file.forget();
                Ok(Kept::Final)
            }
            Err(errno) => Err(errno.into()),
        }
    }

    /// The commit, where the old file can only keep a name by it: the two files change names, and the old one gets the
    /// backup's. `Ok(false)` where that cannot be; then there is a copy. An error leaves DEST as it was.
    pub(crate) fn exchange(&mut self, new: &TempName<'d>) -> Result<bool> {
        if !matches!(self.kept, Kept::ByExchange) {
            return Ok(false);
        }
        let directory = self.destination.directory().fd.as_fd();
        if !new.exchange(directory, self.destination.name())? {
            self.kept = self.copy().with_context(|| self.cannot())?;
            return Ok(false);
        }
        if let Err(errno) = new.move_over(directory, &self.name) {
            new.exchange(directory, self.destination.name())?;
            return Err(errno).with_context(|| self.cannot());
        }
        Ok(true)
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
        match &self.kept {
            Kept::Named(None) => drop(sys::unlink(directory, &self.name)),
            Kept::Named(Some(older)) => drop(older.exchange(directory, &self.name)),
            Kept::NotYet | Kept::ByExchange | Kept::Final => {}
        }
    }
}

/// The highest N of all NAME.~N~ in a directory.
fn highest_number(directory: std::os::fd::BorrowedFd<'_>, base: &OsStr) -> Result<Option<u64>> {
    let names = sys::list(directory).context("cannot read its directory")?;
    Ok(names.iter().filter_map(|name| number_of(base, name)).max())
}

/// The N of NAME.~N~.
fn number_of(base: &OsStr, name: &OsStr) -> Option<u64> {
    let rest = name.as_bytes().strip_prefix(base.as_bytes())?;
    let digits = rest.strip_prefix(b".~")?.strip_suffix(b"~")?;
    let is_number = digits.first()?.is_ascii_digit() && digits[0] != b'0';
    std::str::from_utf8(digits)
        .ok()?
        .parse()
        .ok()
        .filter(|_| is_number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_number_of_a_backup() {
        let number = |name: &str| number_of(OsStr::new("a"), OsStr::new(name));
        assert_eq!(number("a.~12~"), Some(12));
        for other in [
            "a", "a~", "a.~~", "a.~0~", "a.~01~", "a.~1", "b.~1~", "a.~+1~", "a.~1x~",
        ] {
            assert_eq!(number(other), None, "{other}");
        }
    }
}
