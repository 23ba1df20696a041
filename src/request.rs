//! What the user asked for: plain data, with the policies as enums, so that no module below must know an option's name.

use std::ffi::OsString;
use std::fmt::{self, Display};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Error, anyhow};
use clap::ValueEnum;

use crate::message::{Chain, Quoted, Verbosity};
use crate::mode::ModeChange;
use crate::outcome::StatusScheme;
use crate::sys::Errno;

/// A SHA-256 digest.
pub(crate) type Sha256Digest = [u8; 32];

/// One run.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) files: Files,
    pub(crate) start: Start,
    pub(crate) locking: Locking,
    pub(crate) overwrite: Overwrite,
    pub(crate) guards: Guards,
    pub(crate) if_unchanged: IfUnchanged,
    pub(crate) links: Links,
    pub(crate) create_dirs: CreateDirs,
    pub(crate) attributes: AttributeOptions,
    pub(crate) backups: Option<Backups>,
    pub(crate) in_place: InPlace,
    pub(crate) sync: Sync,
    pub(crate) progress: bool,
    pub(crate) verbosity: Verbosity,
}

impl Request {
    /// What to do where DEST is a link. Whatever has DEST's name is in the way of --no-clobber, a link too, wherever it
    /// points.
    pub(crate) fn links(&self) -> Links {
        match self.overwrite {
            Overwrite::Never => Links::Replace,
            Overwrite::Writable | Overwrite::Any => self.links,
        }
    }

    /// Adds what `--lock 5 f` or `-t d -- cat f` was meant to be to the error of a SOURCE that does not exist.
    pub(crate) fn with_hint(&self, source: &Source, error: Error) -> Error {
        if error.downcast_ref() != Some(&Errno::NOENT) {
            return error;
        }
        let seconds = match source {
            Source::File(path) => path.to_str().filter(|name| is_decimal(name)),
            Source::Stdin | Source::Command(_) => None,
        };
        match (&self.files, self.locking, seconds) {
            (
                Files::Into {
                    sources: Sources::BehindDashes(_),
                    ..
                },
                ..,
            ) => anyhow!("{}; -t takes SOURCEs, and no COMMAND", Chain(&error)),
            (_, Locking::Exclusive(None), Some(seconds)) => anyhow!(
                "{}; to wait at most {seconds} seconds, use --lock={seconds}",
                Chain(&error)
            ),
            _ => error,
        }
    }

    /// Tells whether the input comes after what DEST holds now.
    pub(crate) fn appends(&self) -> bool {
        self.start == Start::Old
    }

    /// Whose exit statuses count.
    pub(crate) fn status_scheme(&self) -> StatusScheme {
        match &self.files {
            Files::One {
                source: Source::Command(_),
                ..
            } => StatusScheme::Command,
            Files::One { .. } | Files::Into { .. } => StatusScheme::Plain,
        }
    }

    /// Whether the old content is needed: to begin with, or to compare with.
    pub(crate) fn reads_old_content(&self) -> bool {
        self.start == Start::Old || self.if_unchanged != IfUnchanged::Replace
    }
}

/// Tells whether a text is a number as --lock takes it.
pub(crate) fn is_decimal(text: &str) -> bool {
    let may_have = |byte: u8| byte.is_ascii_digit() || byte == b'.';
    text.bytes().all(may_have) && text.parse::<f64>().is_ok()
}

/// What is to be written, and from what.
#[derive(Debug)]
pub(crate) enum Files {
    One {
        source: Source,
        destination: PathBuf,
    },
    /// Each source under its own base name.
    Into {
        directory: PathBuf,
        sources: Sources,
    },
}

/// The files that go into a directory.
#[derive(Debug)]
pub(crate) enum Sources {
    Named(Vec<OsString>),
    /// The same, all behind `--`, where a COMMAND would be.
    BehindDashes(Vec<OsString>),
    Listed {
        /// The file with the names; `None` for standard input.
        list: Option<PathBuf>,
        separator: Separator,
    },
}

/// What ends a name in a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Separator {
    Nul,
    Newline,
}

/// Where the new content comes from.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Source {
    Stdin,
    File(PathBuf),
    Command(Command),
}

/// What is run for its output.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Command {
    /// A program and its arguments; at least one word.
    Program(Vec<OsString>),
    /// For a shell whose pipelines fail if any part of them does.
    Pipeline(OsString),
}

impl Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Program(words) => Quoted(&words[0]).fmt(f),
            Self::Pipeline(_) => f.write_str("the command"),
        }
    }
}

/// Tells whether a path is one of standard input.
pub(crate) fn is_stdin(path: &Path) -> bool {
    ["/dev/stdin", "/dev/fd/0", "/proc/self/fd/0"]
        .iter()
        .any(|name| path.as_os_str() == *name)
}

/// What the new content starts with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Start {
    Empty,
    /// What DEST holds now.
    Old,
}

/// Whether only one run that asks for the lock works on DEST at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Locking {
    None,
    /// Waits at most this long; `None`: as long as it takes.
    Exclusive(Option<Duration>),
}

/// What the content must be, or DEST stays as it is.
#[derive(Debug)]
pub(crate) struct Guards {
    pub(crate) empty: EmptyInput,
    /// Bytes.
    pub(crate) min_size: Option<u64>,
    pub(crate) sum: Option<Sha256Digest>,
    /// For `sh -c`.
    pub(crate) validator: Option<OsString>,
    /// The same, for all files together.
    pub(crate) directory_validator: Option<OsString>,
}

/// What to do if DEST has the same content already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum IfUnchanged {
    /// Replace it all the same; nobody looks.
    Replace,
    /// Leave it alone, and exit with this status.
    Skip(u8),
}

/// What the old file is called afterwards.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Backups {
    pub(crate) naming: Naming,
    pub(crate) suffix: OsString,
}

/// How GNU's programs name backups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Naming {
    /// NAME and the suffix.
    Simple,
    /// NAME.~N~.
    Numbered,
    /// Numbered if there are numbered ones already, else simple.
    Existing,
}

/// Whether DEST may be overwritten where it is, which is not atomic. The variants' texts are those of the help.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum InPlace {
    /// Not at all: it is an error (the default)
    #[default]
    Never,
    /// Only where DEST cannot be replaced
    Auto,
    /// Wherever DEST exists: it keeps its inode and its hard links
    Always,
}

/// What may be replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Overwrite {
    /// A file that the user may write to.
    Writable,
    /// A file that the user may not write to, too, where the directory lets him.
    Any,
    /// Nothing: DEST must be new.
    Never,
}

/// What to think of input of no bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EmptyInput {
    /// It is fine, but not where a command may have failed whose status this process does not see.
    RejectStdin,
    /// It is fine.
    Allow,
    /// It is never right.
    Refuse,
}

/// What to do where DEST is a symbolic link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Links {
    /// The link stays, and what it points to is replaced.
    Follow,
    /// The link itself is replaced.
    Replace,
}

/// Whether missing parent directories of DEST are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CreateDirs {
    No,
    Yes,
}

/// What the new file shall look like.
#[derive(Debug)]
pub(crate) struct AttributeOptions {
    pub(crate) keep: Keep,
    pub(crate) mode: Option<ModeChange>,
    /// A name or a number.
    pub(crate) owner: Option<OsString>,
    pub(crate) group: Option<Group>,
    /// DEST gets the times that SOURCE had before it was read.
    pub(crate) preserve_times: bool,
}

impl AttributeOptions {
    /// Tells whether any is to be set that only the owner of a file may set.
    pub(crate) fn set_any(&self) -> bool {
        self.mode.is_some() || self.owner.is_some() || self.group.is_some() || self.preserve_times
    }
}

/// The group that the new file gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Group {
    /// A name or a number.
    Named(OsString),
    /// The login group of the owner who was asked for.
    OfOwner,
}

/// Which attributes of an existing DEST the new file keeps. The variants' texts are those of the help.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Keep {
    /// Those that can be kept, with a warning about the rest
    #[default]
    Try,
    /// All of them; if one cannot be kept, fail
    All,
    /// None of them, as if DEST were new
    None,
}

/// What is on the disk when atomwrite returns. The variants' texts are those of the help.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Sync {
    /// No promise; after power loss DEST may be empty, or full of zeros
    None,
    /// DEST, as the complete old file or the complete new one
    File,
    /// The new file, once atomwrite has ended with status 0
    #[default]
    Full,
}
