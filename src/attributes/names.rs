//! User and group names.
//!
//! A name means the same as everywhere on this machine. getent(1) asks every source of the machine
//! (files, LDAP, systemd). On Linux, atomwrite runs getent, because a static binary that asked them
//! itself would load the C library's modules and could crash. Without getent, only the files are
//! read. A number needs no lookup.

use std::ffi::{CString, OsStr};
use std::fs;
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, anyhow, bail};

use crate::message::Quoted;
use crate::program;
use crate::sys::{self, Errno};

/// The fields of a line: the ID of the user or group, and the ID of the user's login group.
const ID: usize = 2;
const LOGIN_GROUP: usize = 3;

/// The database that has a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Database {
    User,
    Group,
}

impl Database {
    fn noun(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Group => "group",
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::User => "passwd",
            Self::Group => "group",
        }
    }

    fn file(self) -> &'static str {
        match self {
            Self::User => "/etc/passwd",
            Self::Group => "/etc/group",
        }
    }

    /// Returns the ID of a user or a group.
    pub(super) fn id(self, name: &OsStr) -> Result<u32> {
        let noun = self.noun();
        if name.as_bytes().iter().all(u8::is_ascii_digit) {
            let id = name.to_str().and_then(parse);
            return id.ok_or_else(|| {
                anyhow!(
                    "cannot use {noun} {}: the number is too large",
                    Quoted(name)
                )
            });
        }
        self.look_up(name, ID)
    }

    /// Returns the number in a field of the entry for `name`.
    fn look_up(self, name: &OsStr, field: usize) -> Result<u32> {
        let noun = self.noun();
        match self
            .ask(name, field)
            .with_context(|| format!("cannot look up {noun} {}", Quoted(name)))?
        {
            Some(id) => Ok(id),
            None => bail!(
                "cannot find {noun} {}: no such {noun}{}",
                Quoted(name),
                self.way_out(name)
            ),
        }
    }

    /// Returns a hint for users who expect `-o FILE` to name the output file.
    fn way_out(self, name: &OsStr) -> &'static str {
        let has = |letter| name.as_bytes().contains(&letter);
        match self {
            Self::User if has(b'.') || has(b'/') => {
                "; name the file to write without an option (-o sets the owner)"
            }
            Self::User | Self::Group => "",
        }
    }

    fn ask(self, name: &OsStr, field: usize) -> Result<Option<u32>> {
        if let Some(answer) = self.ask_library(name, field) {
            return Ok(answer?);
        }
        // getent would take the name for an option or a number, so only the file is searched.
        if !name.as_bytes()[0].is_ascii_alphabetic() && name.as_bytes()[0] != b'_' {
            return Ok(find(&fs::read(self.file())?, name, field));
        }
        let mut command = Command::new("getent");
        command
            .args([OsStr::new(self.name()), name])
            .stdin(Stdio::null())
            .stderr(Stdio::null());
        match program::output(command)? {
            // getent may answer with a different spelling: `name@domain` for `DOMAIN\Name`.
            Ok((status, answer)) if status.success() => Ok(number(&answer, field)),
            Ok((status, _)) if status.code() == Some(2) => Ok(None),
            Ok(_) => Ok(find(&fs::read(self.file())?, name, field)),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                Ok(find(&fs::read(self.file())?, name, field))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Asks the C library, on a system where that is safe.
    fn ask_library(self, name: &OsStr, field: usize) -> Option<Result<Option<u32>, Errno>> {
        // A word of the command line has no NUL.
        let name = CString::new(name.as_bytes()).ok()?;
        match (self, field) {
            (Self::User, LOGIN_GROUP) => Some(sys::user(&name)?.map(|ids| Some(ids?.1))),
            (Self::User, _) => Some(sys::user(&name)?.map(|ids| Some(ids?.0))),
            (Self::Group, _) => sys::group(&name),
        }
    }
}

/// Returns the ID of a user's login group.
pub(super) fn login_group(user: &OsStr) -> Result<u32> {
    Database::User.look_up(user, LOGIN_GROUP)
}

/// Finds a name in lines of `name:password:number:`. Returns the number in `field`.
fn find(lines: &[u8], name: &OsStr, field: usize) -> Option<u32> {
    lines
        .split(|byte| *byte == b'\n')
        .find(|line| line.split(|byte| *byte == b':').next() == Some(name.as_bytes()))
        .and_then(|line| number(line, field))
}

/// Returns the number in a field of a line.
fn number(line: &[u8], field: usize) -> Option<u32> {
    let field = line.split(|byte| *byte == b':').nth(field)?;
    std::str::from_utf8(field).ok().and_then(parse)
}

/// Parses an ID. Rejects the largest number, which means "none" to chown(2).
fn parse(digits: &str) -> Option<u32> {
    digits.parse().ok().filter(|id| *id != u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_a_name_and_not_its_beginning() {
        let lines = b"rooty:x:7:7::/:\nroot:x:0:0:root:/root:/bin/sh\n";
        assert_eq!(find(lines, OsStr::new("root"), ID), Some(0));
        assert_eq!(find(lines, OsStr::new("rooty"), LOGIN_GROUP), Some(7));
        assert_eq!(find(lines, OsStr::new("roo"), ID), None);
    }

    #[test]
    fn takes_numbers_as_they_are() {
        assert_eq!(Database::User.id(OsStr::new("1234")).ok(), Some(1234));
        assert!(Database::User.id(OsStr::new("4294967295")).is_err());
        assert!(Database::User.id(OsStr::new("99999999999")).is_err());
    }
}
