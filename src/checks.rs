//! Checks of DEST before any input is read, and of the content when it is complete.
//!
//! Invariant: if a check that the user asked for refuses the write (`--no-clobber`, empty content),
//! the exit status is 3. If DEST cannot be written at all, it is 1. Each message names an
//! alternative, if there is one.

use std::os::fd::AsFd;
use std::path::Path;

use anyhow::{Result, anyhow, bail};

use crate::attributes::Attributes;
use crate::destination::{Destination, Opened};
use crate::inspector::Content;
use crate::message::Chain;
use crate::outcome::Failure;
use crate::request::{
    AttributeOptions, EmptyInput, Files, Guards, InPlace, Keep, Links, Overwrite, Request,
    Sha256Digest,
};
use crate::source::Input;
use crate::sys::{self, Errno, Kind, Metadata};

/// What the user allows to be done to an existing DEST.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rules<'r> {
    pub(crate) request: &'r Request,
    pub(crate) in_place: InPlace,
}

impl<'r> Rules<'r> {
    pub(crate) fn of(request: &'r Request) -> Self {
        Self {
            request,
            in_place: request.in_place,
        }
    }

    /// Returns true if the new file will belong to the owner of the old one.
    fn keep_owner(self) -> bool {
        let AttributeOptions { keep, owner, .. } = &self.request.attributes;
        *keep != Keep::None && owner.is_none()
    }

    /// Returns true if a backup gets its name by a rename or a link.
    fn back_up(self) -> bool {
        self.request.backups.is_some()
    }
}

/// Refuses a DEST that cannot be replaced, or that the user does not allow to be replaced.
pub(crate) fn destination(
    destination: &Destination,
    existing: Option<Metadata>,
    rules: Rules<'_>,
) -> Result<(), Failure> {
    let (overwrite, in_place) = (rules.request.overwrite, rules.in_place);
    if existing.is_some() && overwrite == Overwrite::Never {
        return Err(exists(destination));
    }
    directory(destination, existing, rules)?;
    let Some(metadata) = existing else {
        return Ok(());
    };
    let is_trap = destination.is_shared_trap(&metadata);
    let is_in_place = is_in_place(destination, existing.as_ref(), in_place);
    let is_protected = protected_by_sticky_bit(destination, &metadata);
    // The reason, and a hint for a DEST that may be overwritten.
    let not_renamed_to = match metadata.kind {
        Kind::Directory if matches!(rules.request.files, Files::Into { .. }) => {
            Some(("it is a directory", ""))
        }
        Kind::Directory => Some(("it is a directory; name the file in it", "")),
        // Links were followed before.
        Kind::Symlink if rules.request.links() == Links::Follow => {
            Some(("it has become a symbolic link", ""))
        }
        Kind::Socket => Some(("it is a socket; only a regular file can be replaced", "")),
        Kind::Regular if metadata.is_immutable => {
            Some(("it is immutable (chattr(1) can change that)", ""))
        }
        Kind::Regular if metadata.is_append_only => {
            Some(("it can only be appended to (chattr(1) can change that)", ""))
        }
        Kind::Fifo if is_trap && is_in_place => Some((
            "it is another user's FIFO, in a world-writable directory, and that user would \
             get the content",
            "",
        )),
        Kind::Regular if is_trap && is_protected => Some((
            "it is another user's, in a directory where only its owner may replace it (the sticky \
             bit)",
            "",
        )),
        Kind::Regular if is_trap && is_in_place => Some((
            "it is another user's, in a world-writable directory, and that user would get \
             the content; omit --inplace, and use --keep=none or -o to replace it",
            "",
        )),
        Kind::Regular if is_trap && rules.keep_owner() => Some((
            "it is another user's, in a world-writable directory, and that user would get \
             the content; use --keep=none or -o to replace it",
            "",
        )),
        _ if in_place != InPlace::Never => None,
        Kind::Fifo => Some(("it is a FIFO", "; use --inplace to write into it")),
        Kind::CharacterDevice | Kind::BlockDevice => {
            Some(("it is a device", "; use --inplace to write to it"))
        }
        Kind::Regular | Kind::Symlink if metadata.mount_root => Some((
            "it is a mount point, and nothing can be renamed to it; mount its directory instead",
            ", or use --inplace to overwrite it",
        )),
        Kind::Regular | Kind::Symlink if is_protected => Some((
            "it is another user's, in a directory where only its owner may replace it (the sticky \
             bit)",
            "; use --inplace to overwrite it",
        )),
        Kind::Regular | Kind::Symlink => None,
    };
    if let Some((reason, or_in_place)) = not_renamed_to {
        let hint = if may_be_overwritten(destination, existing, rules) {
            or_in_place
        } else {
            ""
        };
        return Err(anyhow!("cannot replace {}: {reason}{hint}", destination.display()).into());
    }
    if overwrite == Overwrite::Writable && metadata.kind == Kind::Regular {
        let directory = destination.directory().fd.as_fd();
        let error = match sys::may_write(directory, destination.name()) {
            // ENOENT, ESTALE: DEST has been removed or replaced. The commit looks it up again.
            Ok(()) | Err(Errno::NOENT | Errno::STALE) => return Ok(()),
            Err(errno) => errno,
        };
        let line = anyhow!(error).context(destination.cannot("write"));
        let may_force = error == Errno::ACCESS && may_be_forced(destination, &metadata, rules);
        return Err(Failure::Failed(if may_force {
            anyhow!("{}; use --force to replace it", Chain(&line))
        } else {
            line
        }));
    }
    Ok(())
}

/// Refuses a directory in which nothing can be renamed, and from which no temporary file could be
/// removed.
pub(crate) fn directory(
    destination: &Destination,
    existing: Option<Metadata>,
    rules: Rules<'_>,
) -> Result<()> {
    let may_overwrite = rules.in_place != InPlace::Never && existing.is_some();
    if (!may_overwrite || rules.back_up()) && destination.directory_metadata().is_append_only {
        bail!(
            "cannot write {}: its directory is append-only (chattr(1) can change that)",
            destination.display()
        );
    }
    Ok(())
}

/// Returns true if DEST must be overwritten in place: it cannot be replaced, or the user wants it.
pub(crate) fn is_in_place(
    destination: &Destination,
    existing: Option<&Metadata>,
    policy: InPlace,
) -> bool {
    let Some(existing) = existing else {
        return false;
    };
    match (policy, existing.kind) {
        (InPlace::Never, _) | (_, Kind::Symlink) => false,
        (InPlace::Always, _)
        | (InPlace::Auto, Kind::Fifo | Kind::CharacterDevice | Kind::BlockDevice) => true,
        (InPlace::Auto, _) => {
            existing.mount_root
                || destination.directory_metadata().is_append_only
                || protected_by_sticky_bit(destination, existing)
        }
    }
}

/// Returns true if --inplace would help for a DEST, which is `existing`, that cannot be replaced.
pub(crate) fn may_be_overwritten(
    destination: &Destination,
    existing: Option<Metadata>,
    rules: Rules<'_>,
) -> bool {
    let request = rules.request;
    if !matches!(request.files, Files::One { .. }) || request.links() != Links::Follow {
        return false;
    }
    let Some(existing) = existing else {
        return true;
    };
    let us = sys::effective_uid();
    let directory = destination.directory().fd.as_fd();
    let backs_up = rules.back_up() && existing.kind == Kind::Regular;
    !matches!(
        existing.kind,
        Kind::Directory | Kind::Socket | Kind::Symlink
    ) && !destination.is_shared_trap(&existing)
        && sys::may_write(directory, destination.name()).is_ok()
        && (!backs_up || sys::may_write(directory, Path::new(".")).is_ok())
        && (!request.attributes.set_any() || us == 0 || us == existing.uid)
}

/// Returns true if --force would help for a DEST whose mode denies writing: a rename only needs
/// write permission on the directory.
fn may_be_forced(destination: &Destination, existing: &Metadata, rules: Rules<'_>) -> bool {
    let directory = destination.directory().fd.as_fd();
    let is_ours = existing.uid == sys::effective_uid();
    let reads = rules.request.appends() || rules.back_up() && !is_ours;
    !is_in_place(destination, Some(existing), rules.in_place)
        && sys::may_write(directory, Path::new(".")).is_ok()
        && (is_ours || rules.request.attributes.keep != Keep::All)
        && (!reads || sys::may_read(directory, destination.name()).is_ok())
}

/// Returns true if the sticky bit forbids a rename to DEST. It allows that only to the owner of the
/// file and the owner of the directory.
fn protected_by_sticky_bit(destination: &Destination, existing: &Metadata) -> bool {
    const STICKY: u32 = 0o1000;
    let us = sys::effective_uid();
    // root usually may; otherwise the rename fails.
    if us == 0 || us == existing.uid {
        return false;
    }
    let directory = destination.directory_metadata();
    directory.mode & STICKY != 0 && us != directory.uid
}

/// Returns the refusal of a DEST that exists, with `--no-clobber`.
pub(crate) fn exists(destination: &Destination) -> Failure {
    Failure::Refused(anyhow!(
        "cannot create {}: it exists, and --no-clobber was given",
        destination.display()
    ))
}

/// Refuses content that the user does not allow.
pub(crate) fn content(
    destination: &Destination,
    existing: Option<Metadata>,
    input: &Input<'_>,
    content: &Content,
    guards: &Guards,
) -> Result<(), Failure> {
    size(destination, existing, input, content, guards)?;
    match (guards.sum, content.sum) {
        (Some(wanted), Some(sum)) if wanted != sum => Err(Failure::Refused(anyhow!(
            "cannot write {}: the content's SHA-256 is {}, and not the one that was given",
            destination.display(),
            hex(&sum)
        ))),
        _ => Ok(()),
    }
}

fn hex(sum: &Sha256Digest) -> String {
    sum.iter()
        .fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}

/// Refuses input that is empty or too small. Only the input counts, not what `--append` writes
/// before it.
fn size(
    destination: &Destination,
    existing: Option<Metadata>,
    input: &Input<'_>,
    content: &Content,
    guards: &Guards,
) -> Result<(), Failure> {
    let size = content.size;
    let size = size - input.first().map_or(0, |old| old.metadata.size).min(size);
    let typed = destination.display();
    let refused = |reason| Err(Failure::Refused(reason));
    if size == 0 {
        match (guards.empty, input.empty_because_of_failure()) {
            (EmptyInput::Refuse, _) => {
                return refused(anyhow!(
                    "cannot write {typed}: the content is empty, and --no-empty was given"
                ));
            }
            (EmptyInput::RejectStdin, Some(reason)) => {
                let verb = existing.map_or("create", |_| "replace");
                let is_enough = guards.min_size.is_none_or(|least| least == 0);
                let is_expected = guards.sum.is_none() || guards.sum == content.sum;
                return refused(if is_enough && is_expected {
                    anyhow!("cannot {verb} {typed}: {reason}; use --allow-empty to {verb} it")
                } else {
                    anyhow!("cannot {verb} {typed}: {reason}")
                });
            }
            (EmptyInput::RejectStdin, None) | (EmptyInput::Allow, _) => {}
        }
    }
    match guards.min_size {
        Some(least) if size < least => refused(anyhow!(
            "cannot write {typed}: the input is truncated: {size} bytes, and --min-size is {least}"
        )),
        _ => Ok(()),
    }
}

/// Refuses to overwrite what another process has written to DEST since it was read, without waiting
/// for the lock.
pub(crate) fn append_base(
    destination: &Destination,
    read: Option<Metadata>,
    now: Option<Metadata>,
) -> Result<(), Failure> {
    let is_same = match (read, now) {
        (Some(read), Some(now)) => read.is_same_content(&now),
        (read, now) => read.is_none() && now.is_none(),
    };
    if is_same {
        return Ok(());
    }
    Err(anyhow!(
        "cannot append to {}: another process has changed it without taking the lock",
        destination.display()
    )
    .into())
}

/// Returns true if DEST, which was compared and is `now`, has the new content already, and the
/// mode, owner and group that the user asked for.
pub(crate) fn is_equal(
    old: Option<&Opened>,
    now: Option<Metadata>,
    content: &Content,
    attributes: &Attributes,
) -> bool {
    let (Some(old), Some(now)) = (old, now) else {
        return false;
    };
    // The file that was compared must still be DEST.
    content.same && old.metadata.is_same_content(&now) && !attributes.would_change(&now)
}
