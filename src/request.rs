//! The user's request as plain data. The policies are enums, so no module below needs to know the
//! name of an option.

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
    /// Returns what to do if DEST is a symbolic link. With --no-clobber even a link counts as an
    /// existing DEST, wherever it points.
    pub(crate) fn links(&self) -> Links {
        match self.overwrite {
            Overwrite::Never => Links::Replace,
            Overwrite::Writable | Overwrite::Any => self.links,
        }
    }

    /// Adds a hint to the error of a SOURCE that does not exist, as in `--lock 5 f` or
    /// `-t d -- cat f`.
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
            ) => anyhow!("{}; name SOURCEs after -t, not a COMMAND", Chain(&error)),
            (_, Locking::Exclusive(None), Some(seconds)) => anyhow!(
                "{}; use --lock={seconds} to wait at most {seconds} seconds",
                Chain(&error)
            ),
            _ => error,
        }
    }

    /// Returns true if the input is appended to DEST's current content.
    pub(crate) fn appends(&self) -> bool {
        self.start == Start::Old
    }

    /// Returns whether the run exits with atomwrite's statuses or with COMMAND's.
    pub(crate) fn status_scheme(&self) -> StatusScheme {
        match &self.files {
            Files::One {
                source: Source::Command(_),
                ..
            } => StatusScheme::Command,
            Files::One { .. } | Files::Into { .. } => StatusScheme::Plain,
        }
    }

    /// Returns true if DEST's content is read, to append to it or to compare with it.
    pub(crate) fn reads_old_content(&self) -> bool {
        self.start == Start::Old || self.if_unchanged != IfUnchanged::Replace
    }
}

/// Returns true if a text is a number that --lock accepts.
pub(crate) fn is_decimal(text: &str) -> bool {
    let may_have = |byte: u8| byte.is_ascii_digit() || byte == b'.';
    text.bytes().all(may_have) && text.parse::<f64>().is_ok()
}

/// The files to write, and their sources.
#[derive(Debug)]
pub(crate) enum Files {
    One {
        source: Source,
        destination: PathBuf,
    },
    /// Each source is written under its own base name.
    Into {
        directory: PathBuf,
        sources: Sources,
    },
}

/// The files to write into a directory.
#[derive(Debug)]
pub(crate) enum Sources {
    Named(Vec<OsString>),
    /// The operands after `--`, where a COMMAND would stand.
    BehindDashes(Vec<OsString>),
    Listed {
        /// The file with the names; `None` for standard input.
        list: Option<PathBuf>,
        separator: Separator,
    },
}

/// The byte that ends a name in a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Separator {
    Nul,
    Newline,
}

/// The source of the new content.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Source {
    Stdin,
    File(PathBuf),
    Command(Command),
}

/// The command whose output is the content.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Command {
    /// A program and its arguments; at least one word.
    Program(Vec<OsString>),
    /// For a shell whose pipelines fail if any part fails.
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

/// Returns true if a path stands for standard input.
pub(crate) fn is_stdin(path: &Path) -> bool {
    ["/dev/stdin", "/dev/fd/0", "/proc/self/fd/0"]
        .iter()
        .any(|name| path.as_os_str() == *name)
}

/// What the new content starts with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Start {
    Empty,
    /// DEST's current content.
    Old,
}

/// Whether the run takes the lock, which only one run at a time can hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Locking {
    None,
    /// Waits at most this long. `None`: as long as it takes.
    Exclusive(Option<Duration>),
}

/// The checks that the input and the content must pass.
#[derive(Debug)]
pub(crate) struct Guards {
    pub(crate) empty: EmptyInput,
    /// Bytes.
    pub(crate) min_size: Option<u64>,
    pub(crate) sum: Option<Sha256Digest>,
    /// The command for `sh -c`.
    pub(crate) validator: Option<OsString>,
    /// The same, for all files together.
    pub(crate) directory_validator: Option<OsString>,
}

/// What to do if DEST has the same content already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum IfUnchanged {
    /// Replace it without comparing.
    Replace,
    /// Leave it as it is, and exit with this status.
    Skip(u8),
}

/// How the backup of the old file is named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Backups {
    pub(crate) naming: Naming,
    pub(crate) suffix: OsString,
}

/// The kinds of backup names that GNU programs use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Naming {
    /// NAME and the suffix.
    Simple,
    /// NAME.~N~.
    Numbered,
    /// Numbered if there are numbered ones already, else simple.
    Existing,
}

/// Whether DEST may be overwritten in place, which is not atomic. `--help` shows the variants'
/// texts.
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

/// Which existing DEST may be replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Overwrite {
    /// A file that the user may write to.
    Writable,
    /// Even a file that the user may not write to, if the directory permits it.
    Any,
    /// None: DEST must be new.
    Never,
}

/// What to do with empty input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EmptyInput {
    /// Accept it, unless it may come from a failed command whose exit status this process does not
    /// see.
    RejectStdin,
    /// Accept it.
    Allow,
    /// Refuse it.
    Refuse,
}

/// What to do if DEST is a symbolic link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Links {
    /// Keep the link, and replace its target.
    Follow,
    /// Replace the link itself.
    Replace,
}

/// Whether to make missing parent directories of DEST.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CreateDirs {
    No,
    Yes,
}

/// The attributes of the new file.
#[derive(Debug)]
pub(crate) struct AttributeOptions {
    pub(crate) keep: Keep,
    pub(crate) mode: Option<ModeChange>,
    /// A name or a number.
    pub(crate) owner: Option<OsString>,
    pub(crate) group: Option<Group>,
    /// DEST gets SOURCE's times from before it was read.
    pub(crate) preserve_times: bool,
}

impl AttributeOptions {
    /// Returns true if the user asked for an attribute that only the owner of a file may set.
    pub(crate) fn set_any(&self) -> bool {
        self.mode.is_some() || self.owner.is_some() || self.group.is_some() || self.preserve_times
    }
}

/// The group that the new file gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Group {
    /// A name or a number.
    Named(OsString),
    /// The login group of the requested owner.
    OfOwner,
}

/// Which attributes of an existing DEST the new file keeps. `--help` shows the variants' texts.
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

/// What survives a power loss after atomwrite returns. `--help` shows the variants' texts.
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
