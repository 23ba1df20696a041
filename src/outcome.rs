//! The results of a run, and their exit statuses.
//!
//! Invariant: a failure says what it means for DEST. Only [`Failure::Uncertain`] and
//! [`Failure::PartialCommit`] come after the commit has begun. All others leave DEST unchanged.

use std::error::Error;
use std::ffi::OsStr;
use std::fmt::{self, Display};
use std::path::{Component, Path, PathBuf};

use crate::message::{self, Chain, Messages, Quoted};
use crate::signals::{self, Interrupted};

/// What a successful run did.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) change: Change,
    /// DEST as the user typed it.
    pub(crate) destination: PathBuf,
    /// Bytes.
    pub(crate) size: u64,
    /// The number of the other hard links of the replaced file, which keep the old content.
    pub(crate) other_hard_links: u32,
    /// The number of bytes that `--append` added.
    pub(crate) appended: Option<u64>,
    /// The path of the backup.
    pub(crate) backup: Option<PathBuf>,
    /// The directories that were made for DEST, the outermost first.
    pub(crate) directories: Vec<PathBuf>,
}

/// What became of DEST.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    /// DEST did not exist.
    Created,
    /// DEST was another file.
    Replaced,
    /// DEST had the content already.
    Unchanged,
    /// DEST is the same file with new content.
    WrittenInPlace,
}

/// The exit statuses of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StatusScheme {
    /// atomwrite's own.
    Plain,
    /// COMMAND's. atomwrite's own differ from those that a command is likely to have (POSIX, "env";
    /// coreutils, "timeout").
    Command,
}

impl Outcome {
    pub(crate) fn new(change: Change, destination: PathBuf, size: u64) -> Self {
        Self {
            change,
            destination,
            size,
            other_hard_links: 0,
            appended: None,
            backup: None,
            directories: Vec::new(),
        }
    }

    pub(crate) fn is_unchanged(&self) -> bool {
        self.change == Change::Unchanged
    }
}

impl Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plural = |count: u64| if count == 1 { "" } else { "s" };
        match (self.change, self.appended) {
            (Change::Created, _) => write!(f, "created")?,
            (Change::Replaced, None) => write!(f, "replaced")?,
            (Change::Replaced, Some(bytes)) => {
                write!(f, "appended {bytes} byte{} to", plural(bytes))?;
            }
            (Change::Unchanged, _) => write!(f, "unchanged")?,
            (Change::WrittenInPlace, _) => write!(f, "written in place:")?,
        }
        let (path, size) = (Quoted::new(&self.destination), self.size);
        write!(f, " {path} ({size} byte{})", plural(size))?;
        if let (Change::WrittenInPlace, Some(bytes)) = (self.change, self.appended) {
            write!(f, "; appended {bytes} byte{}", plural(bytes))?;
        }
        if self.other_hard_links > 0 {
            let (links, s) = (self.other_hard_links, plural(self.other_hard_links.into()));
            let verb = if links == 1 { "keeps" } else { "keep" };
            write!(f, "; {links} other hard link{s} {verb} the old content")?;
        }
        if let Some(backup) = &self.backup {
            write!(f, "; the backup is {}", Quoted::new(&without_dots(backup)))?;
        }
        for (index, directory) in self.directories.iter().enumerate() {
            let before = match (index, self.directories.len()) {
                (0, 1) => "; made directory",
                (0, _) => "; made directories",
                _ => ",",
            };
            write!(f, "{before} {}", Quoted::new(&without_dots(directory)))?;
        }
        Ok(())
    }
}

/// Returns the path as the user would type it, without the `.` components of path resolution.
pub(crate) fn without_dots(path: &Path) -> PathBuf {
    let parts = path.components();
    parts.filter(|part| *part != Component::CurDir).collect()
}

/// Why a run failed, and what the failure means for DEST.
#[derive(Debug)]
pub(crate) enum Failure {
    /// A step failed. DEST is unchanged.
    Failed(anyhow::Error),
    /// A check refused the write. DEST is unchanged.
    Refused(anyhow::Error),
    /// COMMAND did not exit with 0, or could not be run. DEST is unchanged.
    Command { status: u8, error: anyhow::Error },
    /// A signal came that must end this process. DEST is unchanged.
    Interrupted(i32),
    /// A usage error that parsing could not find. Nothing was touched.
    Usage(anyhow::Error),
    /// Some of many files are new, and the others are not.
    PartialCommit {
        error: anyhow::Error,
        /// The paths as the user would type them.
        new: Vec<PathBuf>,
        old: Vec<PathBuf>,
        /// Warnings about the new files.
        warnings: Vec<String>,
    },
    /// DEST has changed, but it may not survive a power loss, or writing it in place failed
    /// halfway. Or the answer to a rename is lost (FUSE), and DEST is old or new.
    Uncertain(anyhow::Error),
}

impl Failure {
    /// The exit status for usage errors.
    pub(crate) const USAGE: u8 = 2;

    /// Adds to a failure before the commit that DEST is unchanged.
    pub(crate) fn leaving(self, destination: &OsStr) -> Self {
        self.adding(&format!("{} is unchanged", Quoted(destination)))
    }

    /// Adds DEST's state to a failure before the commit.
    pub(crate) fn adding(self, state: &str) -> Self {
        let with_state = |error: &anyhow::Error| anyhow::anyhow!("{}; {state}", Chain(error));
        match self {
            Self::Failed(error) => Self::Failed(with_state(&error)),
            Self::Refused(error) => Self::Refused(with_state(&error)),
            Self::Command { status, error } => Self::Command {
                status,
                error: with_state(&error),
            },
            other @ (Self::Interrupted(_)
            | Self::Usage(_)
            | Self::PartialCommit { .. }
            | Self::Uncertain(_)) => other,
        }
    }

    /// Adds the attempted step to a failure before the commit.
    pub(crate) fn within(self, what: &str) -> Self {
        match self {
            Self::Failed(error) => Self::Failed(error.context(what.to_owned())),
            other => other,
        }
    }

    /// Returns the error without its meaning for DEST.
    pub(crate) fn into_error(self) -> anyhow::Error {
        match self {
            Self::Failed(error)
            | Self::Refused(error)
            | Self::Usage(error)
            | Self::Uncertain(error)
            | Self::PartialCommit { error, .. }
            | Self::Command { error, .. } => error,
            Self::Interrupted(_) => anyhow::anyhow!("{self}"),
        }
    }

    /// Prints why the run did not do everything. Prints nothing for a signal: the shell reports
    /// that this process died of it.
    pub(crate) fn report(&self, messages: Messages) {
        if let Self::Interrupted(_) = self {
            return;
        }
        message::error(self);
        if let Self::PartialCommit {
            new, old, warnings, ..
        } = self
        {
            for warning in warnings {
                messages.warn(warning);
            }
            message::list("new", new);
            message::list("old", old);
        }
    }

    pub(crate) fn exit_status(&self, scheme: StatusScheme) -> u8 {
        match (self, scheme) {
            (Self::Command { status, .. }, _) => *status,
            (Self::Usage(_), _) => Self::USAGE,
            (Self::Failed(_), StatusScheme::Plain) => 1,
            (Self::Refused(_), StatusScheme::Plain) => 3,
            (Self::Uncertain(_) | Self::PartialCommit { .. }, StatusScheme::Plain) => 4,
            (Self::Uncertain(_) | Self::PartialCommit { .. }, StatusScheme::Command) => 124,
            (Self::Failed(_) | Self::Refused(_), StatusScheme::Command) => 125,
            // Reached only if the signal could not kill this process.
            (Self::Interrupted(signal), _) => signals::exit_status(*signal),
        }
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        let interrupted = |cause: &(dyn Error + 'static)| cause.downcast_ref().copied();
        match error.chain().find_map(interrupted) {
            Some(Interrupted(signal)) => Self::Interrupted(signal),
            None => Self::Failed(error),
        }
    }
}

impl From<Interrupted> for Failure {
    fn from(Interrupted(signal): Interrupted) -> Self {
        Self::Interrupted(signal)
    }
}

impl Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(error)
            | Self::Refused(error)
            | Self::Usage(error)
            | Self::Uncertain(error)
            | Self::PartialCommit { error, .. }
            | Self::Command { error, .. } => Chain(error).fmt(f),
            Self::Interrupted(signal) => Interrupted(*signal).fmt(f),
        }
    }
}
