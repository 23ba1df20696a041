//! The exit status that an error must lead to, where atomwrite has no choice.
//!
//! Invariant: a committed write stays a success, unless it may not be on the disk. A call with a
//! fallback is no error. No error of a call that carries the content is ignored.

use nix::errno::Errno;

use crate::forms::Case;
use crate::tracer::{Act, Call};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    MustSucceed,
    MustFail,
}

/// Returns nothing if either can be right.
pub(super) fn verdict(case: &Case<'_>) -> Option<Verdict> {
    let errno = match case.act {
        Act::Shorten(_) | Act::Interrupt => return Some(Verdict::MustSucceed),
        Act::Fail(errno) => errno,
        _ => return None,
    };
    let call = &case.call;
    let name = call.name();
    let is_full = matches!(
        errno,
        Errno::EIO | Errno::ENOSPC | Errno::EDQUOT | Errno::ESTALE
    );
    let syncs = call.syncs();
    if syncs && is_full {
        return Some(Verdict::MustFail);
    }
    if errno == Errno::EINTR && (call.asks_for().is_some() || opens_or_locks(&name)) {
        return Some(Verdict::MustSucceed);
    }
    if case.form.is_in_place() {
        return (&*name == "write" && !is_message(call)).then_some(Verdict::MustFail);
    }
    if is_committed(case) {
        // The directory may need to be opened for its sync.
        return (!syncs && &*name != "openat").then_some(Verdict::MustSucceed);
    }
    match &*name {
        // Read and write can do the same, and find out whose error it is.
        "splice" => Some(Verdict::MustSucceed),
        "fallocate" if !is_full && errno != Errno::EFBIG => Some(Verdict::MustSucceed),
        "write" if !is_message(call) => Some(Verdict::MustFail),
        "close" if is_full && closes_duplicate(case) => Some(Verdict::MustFail),
        // A link does the same, or a plain rename if nothing must be kept.
        "renameat2"
            if matches!(errno, Errno::EPERM | Errno::EINVAL | Errno::ENOSYS) && is_commit(case) =>
        {
            Some(Verdict::MustSucceed)
        }
        // Where the filesystem is not known to be local, the call is made again.
        "renameat" if errno == Errno::EACCES && !case.form.is_local() => None,
        "renameat" if is_commit(case) && errno != Errno::EINTR => Some(Verdict::MustFail),
        _ => None,
    }
}

fn opens_or_locks(name: &str) -> bool {
    matches!(name, "openat" | "openat2" | "flock")
}

fn is_message(call: &Call) -> bool {
    call.argument(0) == 2
}

/// Returns whether the last rename has been made.
fn is_committed(case: &Case<'_>) -> bool {
    last_rename(case).is_some_and(|last| last < case.at)
}

fn is_commit(case: &Case<'_>) -> bool {
    last_rename(case) == Some(case.at)
}

fn last_rename(case: &Case<'_>) -> Option<usize> {
    let made = |call: &Call| call.renames() && !case.form.lacks(call);
    case.calls.iter().rposition(made)
}

/// Returns whether the call closes a duplicate that was made just before, to collect the error that
/// only a close reports.
fn closes_duplicate(case: &Case<'_>) -> bool {
    let before = case.at.checked_sub(1).map(|at| &case.calls[at]);
    before.is_some_and(|call| {
        &*call.name() == "fcntl"
            && call.argument(1) == u64::from(libc::F_DUPFD_CLOEXEC.unsigned_abs())
    })
}
