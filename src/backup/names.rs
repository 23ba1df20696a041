//! The names of backups: `NAME~`, or `NAME.~N~`.

use std::cell::RefCell;
use std::collections::btree_map::{BTreeMap, Entry};
use std::ffi::{OsStr, OsString};
use std::ops::ControlFlow;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use anyhow::{Context, Result, bail};

use crate::destination::Destination;
use crate::message::Quoted;
use crate::request::{Backups, Naming};
use crate::sys::{self, Errno, Kind, OpenDirectory};

/// The maximum length of a name in bytes (NAME_MAX).
const MAX_NAME: usize = 255;

/// The highest backup number of each name in a directory, read once for many files.
#[derive(Debug, Default)]
pub(crate) struct Numbers(RefCell<BTreeMap<*const OpenDirectory, BTreeMap<OsString, u64>>>);

impl Numbers {
    /// Returns the highest N of all NAME.~N~ in DEST's directory.
    fn highest(&self, destination: &Destination) -> Result<Option<u64>> {
        let directory = destination.directory();
        let mut read = self.0.borrow_mut();
        let key = Rc::as_ptr(directory);
        if let Entry::Vacant(entry) = read.entry(key) {
            let numbers = if directory.readable {
                read_numbers(directory.fd.as_fd())
            } else {
                Err(Errno::ACCESS)
            };
            entry.insert(numbers.context("cannot read its directory")?);
        }
        let name = destination.name().as_os_str();
        Ok(read.get(&key).and_then(|all| all.get(name).copied()))
    }

    /// Records a number that another process has used since the directory was read.
    fn taken(&self, destination: &Destination, number: u64) {
        let key = Rc::as_ptr(destination.directory());
        if let Some(numbers) = self.0.borrow_mut().get_mut(&key) {
            numbers.insert(destination.name().as_os_str().to_owned(), number);
        }
    }
}

/// A name for a backup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BackupName {
    Simple,
    Numbered(u64),
}

impl BackupName {
    pub(super) fn path(self, destination: &Destination, backups: &Backups) -> PathBuf {
        let mut name = destination.name().as_os_str().to_owned();
        match self {
            Self::Simple => name.push(&backups.suffix),
            Self::Numbered(number) => name.push(format!(".~{number}~")),
        }
        PathBuf::from(name)
    }

    /// Refuses a name that is too long. The error names --suffix if a shorter one would help.
    pub(super) fn check_length(self, destination: &Destination, backups: &Backups) -> Result<()> {
        let name = self.path(destination, backups);
        let length = name.as_os_str().len();
        if length <= MAX_NAME {
            return Ok(());
        }
        let shortest = match self {
            Self::Simple => length - backups.suffix.len() + 1,
            Self::Numbered(_) => length,
        };
        let hint = if shortest <= MAX_NAME {
            "; use a shorter --suffix"
        } else {
            ""
        };
        bail!("its name {} would be too long{hint}", Quoted::new(&name));
    }

    /// Returns the name to try if this one exists. `None` for a simple backup, which replaces the
    /// older one.
    pub(super) fn next(self, destination: &Destination, numbers: &Numbers) -> Result<Option<Self>> {
        match self {
            Self::Simple => Ok(None),
            Self::Numbered(number) => {
                numbers.taken(destination, number);
                Ok(Some(Self::Numbered(after(number)?)))
            }
        }
    }
}

/// Chooses the name of a backup of DEST.
pub(super) fn choose(
    destination: &Destination,
    backups: &Backups,
    numbers: &Numbers,
) -> Result<BackupName> {
    let highest = match backups.naming {
        Naming::Simple => None,
        Naming::Numbered => Some(numbers.highest(destination)?.unwrap_or(0)),
        Naming::Existing => numbers.highest(destination)?,
    };
    Ok(match highest {
        None => BackupName::Simple,
        Some(highest) => BackupName::Numbered(after(highest)?),
    })
}

fn after(number: u64) -> Result<u64> {
    number.checked_add(1).context("there is no higher number")
}

/// Refuses a name that a backup cannot have.
pub(super) fn check(destination: &Destination, backups: &Backups, name: BackupName) -> Result<()> {
    name.check_length(destination, backups)?;
    check_replaceable(destination, &name.path(destination, backups))
}

/// Refuses to replace a directory, or a symbolic link that leads to DEST.
pub(super) fn check_replaceable(destination: &Destination, name: &Path) -> Result<()> {
    let directory = destination.directory().fd.as_fd();
    let leads_to_dest = || {
        let dest = destination.snapshot_errno().ok().flatten();
        let target = sys::metadata_through_links(directory, name).ok();
        dest.is_some_and(|dest| target.is_some_and(|target| target.identity == dest.identity))
    };
    let what = match sys::metadata_at(directory, name).map(|taken| taken.kind) {
        Ok(Kind::Directory) => "directory",
        Ok(Kind::Symlink) if leads_to_dest() => "symbolic link to it",
        _ => return Ok(()),
    };
    bail!(
        "its name {} belongs to a {what}; use another --suffix",
        Quoted::new(name)
    );
}

/// Returns the highest N of all NAME.~N~ in a directory, for each NAME.
fn read_numbers(directory: BorrowedFd<'_>) -> Result<BTreeMap<OsString, u64>, Errno> {
    let mut numbers = BTreeMap::new();
    sys::for_each_name(directory, |name| {
        if let Some((base, number)) = number_of(name) {
            let highest = numbers.entry(OsStr::from_bytes(base).to_owned());
            let highest = highest.or_insert(number);
            *highest = number.max(*highest);
        }
        ControlFlow::Continue(())
    })?;
    Ok(numbers)
}

/// Returns the names whose backup could have this name.
pub(crate) fn originals<'n>(name: &'n Path, backups: &Backups) -> impl Iterator<Item = &'n Path> {
    let bytes = name.as_os_str().as_bytes();
    let simple = || bytes.strip_suffix(backups.suffix.as_bytes());
    let numbered = || number_of(bytes).map(|(base, _)| base);
    let bases = match backups.naming {
        Naming::Simple => [simple(), None],
        Naming::Numbered => [None, numbered()],
        Naming::Existing => [simple(), numbered()],
    };
    bases
        .into_iter()
        .flatten()
        .map(|base| Path::new(OsStr::from_bytes(base)))
}

/// Returns the NAME and the N of NAME.~N~. `None` if N has leading zeros or does not fit.
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
