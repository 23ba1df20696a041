//! By which name a backup goes: `NAME~` or `NAME.~N~`.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};

use crate::destination::Destination;
use crate::message::Quoted;
use crate::request::{Backups, Naming};
use crate::sys::{self, Errno, Kind};

/// Bytes in a name, on every filesystem of Linux that matters (NAME_MAX).
const LONGEST_NAME: usize = 255;

/// Chooses the name of a backup of DEST.
pub(super) fn choose(destination: &Destination, backups: &Backups) -> Result<PathBuf> {
    let directory = destination.directory().fd.as_fd();
    let mut name = destination.name().as_os_str().to_owned();
    let number = match backups.naming {
        Naming::Simple => None,
        Naming::Numbered => Some(highest_number(destination)?.unwrap_or(0)),
        Naming::Existing => highest_number(destination)?,
    };
    match number {
        Some(highest) => {
            let number = highest
                .checked_add(1)
                .context("there is no higher number")?;
            name.push(format!(".~{number}~"));
        }
        None => name.push(&backups.suffix),
    }
    if name.len() > LONGEST_NAME {
        bail!(
            "its name {} would be too long; a shorter --suffix may do",
            Quoted(&name)
        );
    }
    let name = PathBuf::from(name);
    let taken = sys::metadata_at(directory, &name);
    if taken.is_ok_and(|taken| taken.kind == Kind::Directory) {
        return Err(is_directory(&name));
    }
    Ok(name)
}

/// It cannot be a backup's name.
pub(super) fn is_directory(name: &Path) -> anyhow::Error {
    anyhow!(
        "its name {} is that of a directory; another --suffix may do",
        Quoted::new(name)
    )
}

/// Whether a name is NAME.~N~ for DEST.
pub(super) fn is_numbered(name: &Path, destination: &Destination, backups: &Backups) -> bool {
    backups.naming != Naming::Simple
        && number_of(name.as_os_str().as_bytes())
            .is_some_and(|(base, _)| base == destination.name().as_os_str().as_bytes())
}

/// The highest N of all NAME.~N~ in DEST's directory.
fn highest_number(destination: &Destination) -> Result<Option<u64>> {
    let mut numbers = destination.place().numbers.borrow_mut();
    if numbers.is_none() {
        let directory = destination.directory();
        let read = if directory.readable {
            read_numbers(directory.fd.as_fd())
        } else {
            Err(Errno::ACCESS)
        };
        *numbers = Some(read.context("cannot read its directory")?);
    }
    let base = destination.name().as_os_str();
    Ok(numbers.as_ref().and_then(|all| all.get(base).copied()))
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
