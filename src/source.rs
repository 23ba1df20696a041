//! Where the new content comes from.
//!
//! The rule: a closed stdin is an error and not an empty file; whatever can be read to its end is read to its end. With
//! `--append`, what DEST holds now comes first.

use std::ffi::OsString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::destination::{Destination, Opened};
use crate::message::Quoted;
use crate::request::{Source, Start};
use crate::sys::{self, Kind, Metadata};

/// An open source of bytes.
#[derive(Debug)]
pub(crate) struct Input<'d> {
    first: Option<(BorrowedFd<'d>, Metadata)>,
    origin: Origin<'d>,
}

/// What the new bytes come from.
#[derive(Debug)]
pub(crate) enum Origin<'d> {
    Stdin(Metadata),
    File(OwnedFd, Metadata, &'d Path),
    /// To be run when there is a file for its output.
    Command(&'d [OsString]),
}

impl<'d> Input<'d> {
    /// Opens what the user named; reads nothing yet.
    pub(crate) fn open(
        source: &'d Source,
        start: Start,
        destination: &Destination,
        old: Option<&'d Opened>,
    ) -> Result<Self> {
        let first = match (start, destination.existing()) {
            (Start::Old, Some(_)) => {
                let readable = old.and_then(|old| Some((old.content()?, old.metadata)));
                let Some(first) = readable else {
                    bail!(
                        "cannot append to {}: it cannot be read",
                        destination.typed()
                    );
                };
                Some(first)
            }
            _ => None,
        };
        let origin = match source {
            // The same by another name: the same guards hold.
            Source::File(path) if is_stdin(path) => {
                return Self::open(&Source::Stdin, start, destination, old);
            }
            Source::Stdin if sys::stdin_was_closed() => bail!("{STDIN}: it is closed"),
            Source::Stdin => Origin::Stdin(sys::metadata(sys::stdin()).context(STDIN)?),
            Source::File(path) => {
                let file = sys::open_source(path).with_context(|| cannot("open", path))?;
                let metadata = sys::metadata(&file).with_context(|| cannot("read", path))?;
                Origin::File(file, metadata, path)
            }
            Source::Command(words) => Origin::Command(words),
        };
        if origin
            .metadata()
            .is_some_and(|metadata| metadata.kind == Kind::Directory)
        {
            bail!(
                "{}: it is a directory; name the file in it",
                origin.cannot_read()
            );
        }
        Ok(Self { first, origin })
    }

    /// The old content, and what is known of it, if that comes first.
    pub(crate) fn first(&self) -> Option<&(BorrowedFd<'d>, Metadata)> {
        self.first.as_ref()
    }

    pub(crate) fn origin(&self) -> &Origin<'d> {
        &self.origin
    }

    pub(crate) fn is_stdin(&self) -> bool {
        matches!(self.origin, Origin::Stdin(_))
    }

    /// Whether it may be empty because a command failed, whose end we do not see: stdin, and what a shell puts in place
    /// of `<(command)`.
    pub(crate) fn is_of_unseen_command(&self) -> bool {
        match &self.origin {
            Origin::Stdin(_) => true,
            Origin::File(_, metadata, _) => matches!(metadata.kind, Kind::Fifo | Kind::Socket),
            Origin::Command(_) => false,
        }
    }

    /// Somebody is expected to type the content.
    pub(crate) fn is_typed(&self) -> bool {
        match &self.origin {
            Origin::Stdin(metadata) => {
                metadata.kind == Kind::CharacterDevice && sys::is_terminal(sys::stdin())
            }
            _ => false,
        }
    }

    /// How many bytes will come, if that can be told: a regular file says it, from where it stands.
    pub(crate) fn size(&self) -> Option<u64> {
        let (file, metadata) = match &self.origin {
            Origin::Stdin(metadata) => (sys::stdin(), metadata),
            Origin::File(file, metadata, _) => (file.as_fd(), metadata),
            Origin::Command(_) => return None,
        };
        if metadata.kind != Kind::Regular || metadata.size == 0 {
            return None;
        }
        let rest = metadata.size.saturating_sub(sys::position(file).ok()?);
        Some(rest + self.first.map_or(0, |(_, old)| old.size))
    }

    /// The permission bits that a new DEST starts from, before the umask: those of SOURCE, as cp does, and otherwise
    /// what a shell's `>` asks for.
    pub(crate) fn mode(&self) -> u32 {
        match &self.origin {
            Origin::File(_, metadata, _) => metadata.mode & 0o777,
            Origin::Stdin(_) | Origin::Command(_) => 0o666,
        }
    }

    pub(crate) fn cannot_read(&self) -> String {
        self.origin.cannot_read()
    }
}

const STDIN: &str = "cannot read standard input";

impl Origin<'_> {
    fn metadata(&self) -> Option<&Metadata> {
        match self {
            Self::Stdin(metadata) | Self::File(_, metadata, _) => Some(metadata),
            Self::Command(_) => None,
        }
    }

    fn cannot_read(&self) -> String {
        match self {
            Self::Stdin(_) => STDIN.to_owned(),
            Self::File(_, _, path) => cannot("read", path),
            Self::Command(words) => cannot("read the output of", words[0].as_ref()),
        }
    }
}

pub(crate) fn is_stdin(path: &Path) -> bool {
    ["/dev/stdin", "/dev/fd/0", "/proc/self/fd/0"]
        .iter()
        .any(|name| path.as_os_str() == *name)
}

fn cannot(verb: &str, path: &Path) -> String {
    format!("cannot {verb} {}", Quoted::new(path))
}
