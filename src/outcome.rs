//! How a run can end, and the exit status that says so.
//!
//! The rule: a failure says what it means for DEST. Only [`Failure::Changed`] comes after the commit; every other leaves
//! DEST as it was.

use std::ffi::OsStr;
use std::fmt::{self, Display};
use std::path::PathBuf;
use std::process::ExitCode;

use crate::message::{Chain, Quoted};

/// What was done.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) change: Change,
    /// As the user typed it.
    pub(crate) destination: PathBuf,
    /// Bytes.
    pub(crate) size: u64,
    /// The other names of the file that was replaced; they keep the old content.
    pub(crate) split_links: u32,
    /// What could not be done as the user might expect.
    pub(crate) warnings: Vec<String>,
}

/// What became of DEST.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    /// There was nothing by that name.
    Created,
    /// There was a file by that name.
    Replaced,
}

impl Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verb = match self.change {
            Change::Created => "created",
            Change::Replaced => "replaced",
        };
        let plural = |count: u64| if count == 1 { "" } else { "s" };
        let (path, size) = (Quoted::new(&self.destination), self.size);
        write!(f, "{verb} {path} ({size} byte{})", plural(size))?;
        if self.split_links > 0 {
            let (links, s) = (self.split_links, plural(self.split_links.into()));
            let verb = if links == 1 { "keeps" } else { "keep" };
            write!(f, "; {links} other hard link{s} {verb} the old content")?;
        }
        Ok(())
    }
}

/// Why it was not done, and what that means for DEST.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Something did not work; DEST is untouched.
    Failed(anyhow::Error),
    /// A guard refused; DEST is untouched.
    Refused(anyhow::Error),
    /// DEST is new, but that it survives power loss is not certain.
    Changed(anyhow::Error),
}

impl Failure {
    /// The status for arguments that make no sense; it is decided before there is a request that could fail.
    pub(crate) const USAGE: u8 = 2;

    /// Adds that the file which was there still is as it was. For failures before the commit.
    pub(crate) fn leaving(self, destination: &OsStr) -> Self {
        let unchanged = |error: &anyhow::Error| {
            anyhow::anyhow!("{}; {} is unchanged", Chain(error), Quoted(destination))
        };
        match self {
            Self::Failed(error) => Self::Failed(unchanged(&error)),
            Self::Refused(error) => Self::Refused(unchanged(&error)),
            changed @ Self::Changed(_) => changed,
        }
    }

    pub(crate) fn exit_status(&self) -> ExitCode {
        ExitCode::from(match self {
            Self::Failed(_) => 1,
            Self::Refused(_) => 3,
            Self::Changed(_) => 4,
        })
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::Failed(error)
    }
}

impl Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Failed(error) | Self::Refused(error) | Self::Changed(error)) = self;
        Chain(error).fmt(f)
    }
}
