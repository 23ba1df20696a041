//! Where the new content comes from.
//!
//! The rule: a closed stdin is an error and not an empty file; whatever can be read to its end is read to its end.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::message::Quoted;
use crate::request::Source;
use crate::sys::{self, Kind, Metadata};

/// An open source of bytes.
#[derive(Debug)]
pub(crate) struct Input {
    origin: Origin,
    metadata: Metadata,
}

#[derive(Debug)]
enum Origin {
    Stdin,
    File(OwnedFd, PathBuf),
}

impl Input {
    /// Opens what the user named; reads nothing yet.
    pub(crate) fn open(source: &Source) -> Result<Self> {
        let (origin, metadata) = match source {
            Source::Stdin if sys::stdin_was_closed() => {
                bail!("cannot read standard input: it is closed");
            }
            Source::Stdin => (Origin::Stdin, sys::metadata(sys::stdin())),
            Source::File(path) => {
                let file = sys::open_source(path).with_context(|| cannot_open(path))?;
                let metadata = sys::metadata(&file);
                (Origin::File(file, path.clone()), metadata)
            }
        };
        let input = Self {
            metadata: metadata.with_context(|| origin.cannot_read())?,
            origin,
        };
        if input.metadata.kind == Kind::Directory {
            bail!("{}: it is a directory", input.cannot_read());
        }
        Ok(input)
    }

    pub(crate) fn file(&self) -> BorrowedFd<'_> {
        match &self.origin {
            Origin::Stdin => sys::stdin(),
            Origin::File(file, _) => file.as_fd(),
        }
    }

    pub(crate) fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    pub(crate) fn is_stdin(&self) -> bool {
        matches!(self.origin, Origin::Stdin)
    }

    /// Somebody is expected to type the content.
    pub(crate) fn is_typed(&self) -> bool {
        self.is_stdin()
            && self.metadata.kind == Kind::CharacterDevice
            && sys::is_terminal(sys::stdin())
    }

    /// The permission bits that a new DEST starts from, before the umask: those of SOURCE, as cp does, and otherwise
    /// what a shell's `>` asks for.
    pub(crate) fn mode(&self) -> u32 {
        match self.origin {
            Origin::Stdin => 0o666,
            Origin::File(..) => self.metadata.mode & 0o777,
        }
    }

    pub(crate) fn cannot_read(&self) -> String {
        self.origin.cannot_read()
    }
}

impl Origin {
    fn cannot_read(&self) -> String {
        match self {
            Self::Stdin => "cannot read standard input".to_owned(),
            Self::File(_, path) => format!("cannot read {}", Quoted::new(path)),
        }
    }
}

fn cannot_open(path: &Path) -> String {
    format!("cannot open {}", Quoted::new(path))
}
