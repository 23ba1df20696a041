//! A kernel without files that have no name: atomwrite then gives its file a temporary name from the start.
//!
//! The rule: it is for the calling thread and for all that it starts from then on, and cannot be taken back.

use std::env::consts::ARCH;

use anyhow::{Context, Result};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, apply_filter,
};

/// Has open(2) refuse O_TMPFILE, as a filesystem does that does not know it.
pub(crate) fn refuse() -> Result<()> {
    let flag = u64::try_from(libc::O_TMPFILE).context("O_TMPFILE is no flag")?;
    let errno = u32::try_from(libc::EOPNOTSUPP).context("EOPNOTSUPP is no errno")?;
    let asks_for_it = SeccompCondition::new(
        2,
        SeccompCmpArgLen::Dword,
        SeccompCmpOp::MaskedEq(flag),
        flag,
    )?;
    let rules = [(libc::SYS_openat, vec![SeccompRule::new(vec![asks_for_it])?])];
    let filter = SeccompFilter::new(
        rules.into_iter().collect(),
        SeccompAction::Allow,
        SeccompAction::Errno(errno),
        ARCH.try_into()?,
    )?;
    let program: BpfProgram = filter.try_into()?;
    apply_filter(&program).context("cannot have a seccomp filter")
}
