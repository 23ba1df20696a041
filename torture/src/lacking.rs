//! A kernel that lacks something, so that atomwrite goes another way.
//!
//! The rule: it is for the calling thread and for all that it starts from then on, and cannot be taken back.

use std::env::consts::ARCH;

use anyhow::{Context, Result};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, apply_filter,
};

/// What is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lacking {
    /// Files that have no name: open(2) refuses O_TMPFILE, as on a filesystem that does not know it. A new file then has a
    /// temporary name from the start.
    UnnamedFiles,
    /// fstatfs(2): what filesystem it is cannot be told. Then `-t` has each file flushed by itself, as on one of which it
    /// is not known whether syncfs(2) does it for all.
    Statfs,
}

impl Lacking {
    /// From now on.
    pub(crate) fn begin(self) -> Result<()> {
        let (call, rules, errno) = match self {
            Self::UnnamedFiles => {
                let flag = u64::try_from(libc::O_TMPFILE).context("O_TMPFILE is no flag")?;
                let has_it = SeccompCmpOp::MaskedEq(flag);
                let asks_for_it = SeccompCondition::new(2, SeccompCmpArgLen::Dword, has_it, flag)?;
                let rules = vec![SeccompRule::new(vec![asks_for_it])?];
                (libc::SYS_openat, rules, libc::EOPNOTSUPP)
            }
            Self::Statfs => (libc::SYS_fstatfs, Vec::new(), libc::ENOSYS),
        };
        let filter = SeccompFilter::new(
            [(call, rules)].into_iter().collect(),
            SeccompAction::Allow,
            SeccompAction::Errno(u32::try_from(errno).context("it is no errno")?),
            ARCH.try_into()?,
        )?;
        let program: BpfProgram = filter.try_into()?;
        apply_filter(&program).context("cannot have a seccomp filter")
    }
}
