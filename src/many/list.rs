//! The files to write into the directory, and their names.
//!
//! Invariant: an error that the names alone show is a usage error, even if the names come from a
//! list.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, anyhow};

use crate::copy_error::CopyError;
use crate::message::{Chain, Quoted};
use crate::outcome::Failure;
use crate::request::{EmptyInput, Separator, Sources, is_stdin};
use crate::signals;
use crate::source;
use crate::sys::{self, Errno, Event, Kind};

/// A file to write, and its source.
#[derive(Debug)]
pub(super) struct SourceEntry {
    pub(super) source: PathBuf,
    /// The base name of the source.
    pub(super) name: PathBuf,
}

/// Returns the files, from the operands or from the list.
pub(super) fn read(sources: &Sources, empty: EmptyInput) -> Result<Vec<SourceEntry>, Failure> {
    let names = match sources {
        Sources::Named(names) | Sources::BehindDashes(names) => names.clone(),
        Sources::Listed { list, separator } => {
            let names = split(&content(list.as_deref())?, *separator);
            for name in &names {
                refuse_other_ends(name, *separator)?;
            }
            names
        }
    };
    if names.is_empty() && empty != EmptyInput::Allow {
        return Err(Failure::Refused(anyhow!(
            "cannot write files: the list of their names is empty (did the command that makes it fail?); use --allow-empty \
             to accept it"
        )));
    }
    let mut files = Vec::with_capacity(names.len());
    for (at, name) in names.into_iter().enumerate() {
        if name.is_empty() {
            return Err(Failure::Usage(anyhow!(
                "SOURCE {} has an empty name",
                at + 1
            )));
        }
        files.push(SourceEntry::new(name)?);
    }
    match twice(&files) {
        None => Ok(files),
        Some((one, other)) => Err(Failure::Usage(anyhow!(
            "{} and {} have the same base name",
            Quoted::new(&one.source),
            Quoted::new(&other.source)
        ))),
    }
}

impl SourceEntry {
    fn new(source: OsString) -> Result<Self, Failure> {
        let bytes = source.as_bytes();
        let start = bytes
            .iter()
            .rposition(|byte| *byte == b'/')
            .map_or(0, |slash| slash + 1);
        let problem = match &bytes[start..] {
            _ if is_stdin(Path::new(&source)) => "standard input does not go with -t",
            b"-" if start == 0 => "standard input has no name; use './-' for a file of that name",
            b"" | b"." | b".." => "it names a directory, not a file",
            name => {
                let name = PathBuf::from(OsStr::from_bytes(name));
                let source = PathBuf::from(source);
                return Ok(Self { source, name });
            }
        };
        Err(Failure::Usage(anyhow!(
            "SOURCE {}: {problem}",
            Quoted(&source)
        )))
    }
}

fn content(list: Option<&Path>) -> Result<Vec<u8>> {
    let mut content = Vec::new();
    match list {
        None => {
            let cannot = "cannot read the list of files from standard input";
            if sys::stdin_was_closed() {
                return Err(anyhow!("{cannot}: it is closed"));
            }
            source::check_stdin()?;
            read_to_end(sys::stdin(), &mut content).context(cannot)?;
        }
        Some(path) => {
            let cannot = || format!("cannot read the list of files {}", Quoted::new(path));
            let file = sys::open_source(path).with_context(cannot)?;
            read_to_end(file.as_fd(), &mut content).with_context(cannot)?;
        }
    }
    Ok(content)
}

/// Reads to the end. Signals are noticed while waiting.
fn read_to_end(file: BorrowedFd<'_>, content: &mut Vec<u8>) -> Result<()> {
    let mut chunk = Vec::with_capacity(64 * 1024);
    loop {
        signals::wait_for(file, Event::Readable)?;
        match sys::read(file, &mut chunk) {
            Err(Errno::AGAIN) => continue,
            read => read?,
        }
        if chunk.is_empty() {
            // After a hangup of the terminal, the typed names are incomplete.
            let is_device = sys::metadata(file)?.kind == Kind::CharacterDevice;
            let [now] = signals::wait([(file, Event::Readable)], Some(Duration::ZERO))?;
            return if is_device && now.has_hung_up() {
                Err(CopyError::HungUp.into())
            } else {
                Ok(())
            };
        }
        content.extend_from_slice(&chunk);
    }
}

/// Splits a list into names. The last name may end with the list. Empty lines are skipped.
fn split(list: &[u8], separator: Separator) -> Vec<OsString> {
    let name = |name: &[u8]| OsString::from_vec(name.to_vec());
    match separator {
        Separator::Newline => {
            let lines = list.split(|byte| *byte == b'\n');
            lines.filter(|line| !line.is_empty()).map(name).collect()
        }
        Separator::Nul if list.is_empty() || list == b"\0" => Vec::new(),
        Separator::Nul => {
            let list = list.strip_suffix(b"\0").unwrap_or(list);
            list.split(|byte| *byte == 0).map(name).collect()
        }
    }
}

/// Refuses a missing file if the names in the list seem to end differently than the option says.
fn refuse_other_ends(name: &OsStr, separator: Separator) -> Result<()> {
    let bytes = name.as_bytes();
    let reason = match separator {
        Separator::Newline if bytes.ends_with(b"\r") => "the lines of the list end with CR LF",
        Separator::Newline if bytes.contains(&0) => "use --files0-from for names that end with NUL",
        Separator::Nul if bytes.contains(&b'\n') => "use --files-from for one name per line",
        Separator::Newline | Separator::Nul => return Ok(()),
    };
    match sys::metadata_through_links(sys::CWD, Path::new(name)) {
        Err(errno @ (Errno::NOENT | Errno::INVAL)) => {
            let error = anyhow!(errno).context(format!("cannot open {}", Quoted(name)));
            Err(anyhow!("{}; {reason}", Chain(&error)))
        }
        _ => Ok(()),
    }
}

/// Returns two files that would have the same name, if there are any.
fn twice(files: &[SourceEntry]) -> Option<(&SourceEntry, &SourceEntry)> {
    let mut seen = HashMap::with_capacity(files.len());
    files
        .iter()
        .find_map(|file| Some((seen.insert(file.name.as_os_str(), file)?, file)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splits_a_list_as_other_programs_do() {
        let names = |list: &[u8]| split(list, Separator::Nul);
        assert_eq!(names(b""), [""; 0]);
        assert_eq!(names(b"a"), ["a"]);
        assert_eq!(names(b"a\0"), ["a"]);
        assert_eq!(names(b"a\0\0b\n\0"), ["a", "", "b\n"]);
        let names = |list: &[u8]| split(list, Separator::Newline);
        assert_eq!(names(b""), [""; 0]);
        assert_eq!(names(b"\na\n\n b\r\nc"), ["a", " b\r", "c"]);
    }
}
