//! The two ways in which a new file is made.

use crate::harness::{Run, has_tool, report_skipped};

/// What the new file is until the commit.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Way {
    /// An unnamed temporary file.
    Unnamed,
    /// A file with a temporary name.
    Named,
}

pub(crate) const WAYS: [Way; 2] = [Way::Unnamed, Way::Named];

impl Way {
    /// Both, where strace(1) can make the first one impossible. The POSIX backend has only the
    /// second.
    pub(crate) fn all() -> &'static [Self] {
        if cfg!(atomwrite_posix) {
            &[Self::Named]
        } else if has_tool("strace") {
            &WAYS
        } else {
            report_skipped("needs strace");
            &[Self::Unnamed]
        }
    }

    pub(crate) fn take(self, run: Run<'_>) -> Run<'_> {
        match self {
            Self::Unnamed => run,
            Self::Named => run.without_linkat(),
        }
    }
}
