//! A kernel that lacks something, so that atomwrite uses a fallback.
//!
//! Invariant: the calling thread and all processes that it starts from then on lack it, and it
//! cannot be undone.

use std::collections::BTreeMap;
use std::env::consts::ARCH;

use anyhow::{Context, Result};
use libc::c_long;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, apply_filter,
};

/// What is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lacking {
    /// Unnamed temporary files: open(2) refuses O_TMPFILE, as on a filesystem without it. A new
    /// file then has a temporary name from the start.
    UnnamedFiles,
    /// fstatfs(2): the filesystem is unknown. Then `-t` flushes each file by itself, as on a
    /// filesystem whose syncfs(2) may not be reliable.
    Statfs,
}

impl Lacking {
    /// From now on.
    pub(crate) fn begin(self) -> Result<()> {
        let program = match self {
            Self::UnnamedFiles => refusing([UNNAMED_FILES], libc::EOPNOTSUPP),
            Self::Statfs => refusing([Calls::all(&[libc::SYS_fstatfs])], libc::ENOSYS),
        };
        apply_filter(&program?).context("cannot have a seccomp filter")
    }
}

/// System calls of one kind.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Calls {
    numbers: &'static [c_long],
    /// An argument, and the bits in it by which the kind is known; none for all calls.
    bits: Option<(u8, u64)>,
}

pub(crate) const UNNAMED_FILES: Calls = Calls {
    numbers: &[libc::SYS_openat],
    bits: Some((2, (libc::O_TMPFILE & !libc::O_DIRECTORY) as u64)),
};

impl Calls {
    pub(crate) const fn all(numbers: &'static [c_long]) -> Self {
        Self {
            numbers,
            bits: None,
        }
    }
}

/// Returns a filter with which calls fail with an error, and do nothing.
pub(crate) fn refusing(all: impl IntoIterator<Item = Calls>, errno: i32) -> Result<BpfProgram> {
    let mut rules = BTreeMap::new();
    for Calls { numbers, bits } in all {
        let mut rule = Vec::new();
        if let Some((argument, bits)) = bits {
            let has = SeccompCmpOp::MaskedEq(bits);
            let condition = SeccompCondition::new(argument, SeccompCmpArgLen::Dword, has, bits)?;
            rule.push(SeccompRule::new(vec![condition])?);
        }
        for number in numbers {
            rules.insert(*number, rule.clone());
        }
    }
    let filter = SeccompFilter::new(
        rules,
        SeccompAction::Allow,
        SeccompAction::Errno(u32::try_from(errno).context("it is no errno")?),
        ARCH.try_into().context("no filters on this machine")?,
    )?;
    Ok(filter.try_into()?)
}
