//! What went wrong while content was copied, and on which side.

use std::error::Error;
use std::fmt::{self, Display};

use crate::signals::Interrupted;
use crate::sys::Errno;

/// An error of a copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CopyError {
    Reading(Errno),
    Writing(Errno),
    /// Reading the file that is DEST now.
    ReadingOld(Errno),
    /// The content is not that of DEST, which cannot become anything else.
    Different,
    /// The terminal went away while content was typed.
    HungUp,
    Interrupted(Interrupted),
}

impl CopyError {
    /// The same, where what was read is the file that is DEST now.
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
            Self::HungUp => f.write_str("the terminal is gone"),
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
