//! Errors while content is copied, and on which side they occurred.

use std::error::Error;
use std::fmt::{self, Display};

use crate::signals::Interrupted;
use crate::sys::Errno;

/// An error of a copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CopyError {
    Reading(Errno),
    Writing(Errno),
    /// Reading the current DEST failed.
    ReadingOld(Errno),
    /// The content differs from DEST's, and DEST cannot be replaced.
    Different,
    /// The terminal hung up while content was typed.
    HungUp,
    Interrupted(Interrupted),
}

impl CopyError {
    /// Marks an error of reading as one of reading the current DEST.
    pub(crate) fn of_old(self) -> Self {
        match self {
            Self::Reading(errno) => Self::ReadingOld(errno),
            other => other,
        }
    }
}

impl From<Interrupted> for CopyError {
    fn from(interrupted: Interrupted) -> Self {
        Self::Interrupted(interrupted)
    }
}

impl Display for CopyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Reading(errno) | Self::Writing(errno) | Self::ReadingOld(errno) => errno.fmt(f),
            Self::Different => f.write_str("the content is not the same"),
            Self::HungUp => f.write_str("the terminal has hung up"),
            Self::Interrupted(interrupted) => interrupted.fmt(f),
        }
    }
}

impl Error for CopyError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Interrupted(interrupted) => Some(interrupted),
            _ => None,
        }
    }
}
