//! The values of options.

use std::env;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

use clap::ValueEnum;

use crate::message::Quoted;
use crate::mode::ModeChange;
use crate::request::{Backups, Group, Naming, Sha256Digest, Sync, is_decimal};

/// The environment variable for the default of --sync.
const SYNC_VARIABLE: &str = "ATOMWRITE_SYNC";
/// GNU's environment variables for the kind of backups and the suffix of simple ones.
const CONTROL_VARIABLE: &str = "VERSION_CONTROL";
const SUFFIX_VARIABLE: &str = "SIMPLE_BACKUP_SUFFIX";
const DEFAULT_SUFFIX: &str = "~";

pub(super) fn sync_of_environment() -> Result<Sync, String> {
    let Some(value) = env::var_os(SYNC_VARIABLE).filter(|value| !value.is_empty()) else {
        return Ok(Sync::Full);
    };
    value
        .to_str()
        .and_then(|value| Sync::from_str(value, false).ok())
        .ok_or_else(|| {
            format!(
                "${SYNC_VARIABLE} is {}: it must be none, file or full",
                Quoted(&value)
            )
        })
}

pub(super) fn parse_mode(text: impl AsRef<OsStr>) -> Result<ModeChange, String> {
    ModeChange::parse(text.as_ref()).ok_or_else(|| {
        "it must be octal like 640, or symbolic like u=rw,go=r, as for chmod(1)".to_owned()
    })
}

pub(super) fn parse_command(command: OsString) -> Result<OsString, &'static str> {
    if command.is_empty() {
        Err("it must be a command")
    } else {
        Ok(command)
    }
}

/// The value of `--owner`.
#[derive(Debug, Clone, Default)]
pub(super) struct Owner {
    pub(super) user: Option<OsString>,
    pub(super) group: Option<Group>,
}

/// Parses USER, USER:GROUP, USER: or :GROUP. A dot is part of a name.
pub(super) fn parse_owner(value: impl AsRef<OsStr>) -> Result<Owner, &'static str> {
    let name = |bytes: &[u8]| OsStr::from_bytes(bytes).to_owned();
    let bytes = value.as_ref().as_bytes();
    let colon = bytes.iter().position(|byte| *byte == b':');
    let (user, group) = match colon {
        None => (bytes, None),
        Some(at) => (&bytes[..at], Some(&bytes[at + 1..])),
    };
    match (user, group) {
        (b"", None | Some(b"")) => Err("it must be a name or a number, USER, USER:GROUP or :GROUP"),
        (user, group) => Ok(Owner {
            user: (!user.is_empty()).then(|| name(user)),
            group: group.map(|group| match group {
                b"" => Group::OfOwner,
                group => Group::Named(name(group)),
            }),
        }),
    }
}

pub(super) fn parse_group(name: OsString) -> Result<OsString, &'static str> {
    if name.is_empty() {
        Err("it must be a name or a number")
    } else {
        Ok(name)
    }
}

/// The value of `--backup`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Control {
    /// From the environment.
    Default,
    None,
    Named(Naming),
}

pub(super) fn parse_control(word: impl AsRef<OsStr>) -> Result<Control, &'static str> {
    match word.as_ref().as_bytes() {
        b"" => Ok(Control::Default),
        b"none" | b"off" => Ok(Control::None),
        b"simple" | b"never" => Ok(Control::Named(Naming::Simple)),
        b"existing" | b"nil" => Ok(Control::Named(Naming::Existing)),
        b"numbered" | b"t" => Ok(Control::Named(Naming::Numbered)),
        [b'.' | b'~', ..] => {
            Err("it must be none, simple, numbered or existing; use -S to set the suffix")
        }
        _ => Err("it must be none, simple, numbered or existing"),
    }
}

pub(super) fn parse_suffix(suffix: OsString) -> Result<OsString, &'static str> {
    match suffix.as_bytes() {
        // As in GNU programs.
        b"" => Ok(DEFAULT_SUFFIX.into()),
        bytes if bytes.contains(&b'/') => {
            Err("it has a slash, and a backup stays in DEST's directory")
        }
        _ => Ok(suffix),
    }
}

/// Returns the backups to make. A suffix implies a backup.
pub(super) fn backups(
    control: Option<Control>,
    suffix: Option<OsString>,
) -> Result<Option<Backups>, String> {
    let naming = match (control, &suffix) {
        (None, None) | (Some(Control::None), _) => return Ok(None),
        (Some(Control::Named(naming)), _) => naming,
        (Some(Control::Default), _) | (None, Some(_)) => {
            let value = env::var_os(CONTROL_VARIABLE).unwrap_or_default();
            match parse_control(&value) {
                Ok(Control::Default) => Naming::Existing,
                Ok(Control::None) => return Ok(None),
                Ok(Control::Named(naming)) => naming,
                Err(problem) => {
                    return Err(format!(
                        "${CONTROL_VARIABLE} is {}: {problem}",
                        Quoted(&value)
                    ));
                }
            }
        }
    };
    let of_environment = || {
        // An invalid suffix is ignored, as in GNU programs.
        env::var_os(SUFFIX_VARIABLE).and_then(|suffix| parse_suffix(suffix).ok())
    };
    let suffix = suffix
        .or_else(of_environment)
        .unwrap_or_else(|| DEFAULT_SUFFIX.into());
    Ok(Some(Backups { naming, suffix }))
}

/// Parses seconds as flock(1) does, with an optional decimal fraction.
pub(super) fn parse_timeout(seconds: impl AsRef<OsStr>) -> Result<Duration, &'static str> {
    let text = seconds.as_ref().to_str().unwrap_or_default();
    let seconds = text.parse().ok().filter(|_| is_decimal(text));
    match seconds.map(Duration::try_from_secs_f64) {
        Some(Ok(timeout)) => Ok(timeout),
        _ => Err("it must be a number of seconds, such as 10 or 0.5"),
    }
}

/// Parses a number of bytes as dd(1) does: K and KiB are 1024, KB is 1000.
pub(super) fn parse_size(text: impl AsRef<OsStr>) -> Result<u64, &'static str> {
    let text = text.as_ref().to_str().unwrap_or_default();
    let (digits, unit) = text.split_at(text.bytes().take_while(u8::is_ascii_digit).count());
    let unit = unit.to_ascii_uppercase();
    let base: u64 = match unit.as_bytes() {
        [_, b'B'] => 1000,
        _ => 1024,
    };
    let exponent = match unit.as_str() {
        "" => Some(0),
        "K" | "KB" | "KIB" => Some(1),
        "M" | "MB" | "MIB" => Some(2),
        "G" | "GB" | "GIB" => Some(3),
        "T" | "TB" | "TIB" => Some(4),
        _ => None,
    };
    let number: Option<u64> = digits.parse().ok();
    number
        .zip(exponent)
        .and_then(|(number, exponent)| number.checked_mul(base.pow(exponent)))
        .ok_or("it must be a number of bytes, such as 512, 10K or 1GB")
}

pub(super) fn parse_status(number: impl AsRef<OsStr>) -> Result<u8, &'static str> {
    let number = number.as_ref().to_str().and_then(|text| text.parse().ok());
    number.ok_or("it must be a number from 0 to 255")
}

pub(super) fn parse_sum(text: impl AsRef<OsStr>) -> Result<Sha256Digest, String> {
    const WANTED: &str = "a SHA-256 digest is 64 hexadecimal digits";
    let bytes = text.as_ref().as_bytes();
    let digits: Option<Vec<u8>> = bytes
        .iter()
        .map(|digit| {
            char::from(*digit)
                .to_digit(16)
                .and_then(|digit| u8::try_from(digit).ok())
        })
        .collect();
    let Some(digits) = digits else {
        let mut runs = bytes.split(|byte| !byte.is_ascii_hexdigit());
        return Err(if runs.any(|run| run.len() == 64) {
            format!("{WANTED}, and nothing else")
        } else {
            format!("{WANTED}, and not the name of a file")
        });
    };
    let pairs = digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]);
    let sum: Option<Sha256Digest> = match digits.len() {
        64 => pairs.collect::<Vec<u8>>().try_into().ok(),
        _ => None,
    };
    sum.ok_or_else(|| format!("{WANTED}, and these are {}", digits.len()))
}
