//! The guards: what is asked before any input is read, and what is asked of the content.
//!
//! The rule: a refusal by what the user asked for (`--no-clobber`, empty content) is status 3; what cannot be written at
//! all is status 1. Each names the way out.

use std::os::fd::AsFd;

use anyhow::{Context, Result, anyhow};

use crate::attributes::Attributes;
use crate::destination::{Destination, Opened};
use crate::message::Chain;
use crate::outcome::{Change, Failure, Outcome};
use crate::request::{Empty, Guards, InPlace, Overwrite, Start, Sync};
use crate::source::Input;
use crate::sys::{self, Errno, Kind, Metadata};
use crate::watch::{Content, Sum};

/// Refuses a DEST that cannot be replaced, or that the user does not want to be replaced.
pub(crate) fn admit_destination(
    destination: &Destination,
    overwrite: Overwrite,
    in_place: InPlace,
) -> Result<(), Failure> {
    let Some(metadata) = destination.existing() else {
        return Ok(());
    };
    if overwrite == Overwrite::Never {
        return Err(exists(destination));
    }
    let not_renamed_to = match metadata.kind {
        Kind::Directory => {
            Some("it is a directory; name the file in it, or write files into it with -t")
        }
        Kind::Socket => Some("it is a socket; only a regular file can be replaced"),
        Kind::Regular if metadata.is_immutable => {
            Some("it is immutable (chattr(1) can change that)")
        }
        Kind::Regular if metadata.is_append_only => {
            Some("it can only be appended to (chattr(1) can change that)")
        }
        _ if in_place != InPlace::Never => None,
        Kind::Fifo => Some("it is a FIFO; --inplace writes into it"),
        Kind::CharacterDevice | Kind::BlockDevice => Some("it is a device; --inplace writes to it"),
        Kind::Regular | Kind::Symlink if metadata.mount_root => Some(
            "it is a mount point, and nothing can be renamed to it; mount its directory instead, \
             or let --inplace overwrite it",
        ),
        Kind::Regular | Kind::Symlink if is_anothers(destination, &metadata)? => Some(
            "it is another user's, in a directory where only its owner may replace it (the sticky \
             bit); --inplace overwrites it",
        ),
        Kind::Regular | Kind::Symlink => None,
    };
    if let Some(reason) = not_renamed_to {
        return Err(anyhow!("cannot replace {}: {reason}", destination.typed()).into());
    }
    if overwrite == Overwrite::Writable && metadata.kind == Kind::Regular {
        let directory = destination.directory().fd.as_fd();
        if let Err(errno) = sys::may_write(directory, destination.name()) {
            let error = anyhow!(errno).context(format!("cannot write {}", destination.typed()));
            return Err(Failure::Failed(match errno {
                Errno::ACCESS => anyhow!("{}; --force replaces it all the same", Chain(&error)),
                _ => error,
            }));
        }
    }
    Ok(())
}

/// In a sticky directory only the owner of a file, or of the directory, may rename to it.
pub(crate) fn is_anothers(destination: &Destination, existing: &Metadata) -> Result<bool> {
    const STICKY: u32 = 0o1000;
    let us = sys::effective_uid();
    // root mostly may; where it may not, the rename says so.
    if us == 0 || us == existing.uid {
        return Ok(false);
    }
    let directory = sys::metadata(&destination.directory().fd)
        .with_context(|| format!("cannot look at the directory of {}", destination.typed()))?;
    Ok(directory.mode & STICKY != 0 && us != directory.uid)
}

/// DEST exists, and that is what it must not.
pub(crate) fn exists(destination: &Destination) -> Failure {
    Failure::Refused(anyhow!(
        "cannot create {}: it exists, and --no-clobber was given",
        destination.typed()
    ))
}

/// What was validated is not what would be committed.
pub(crate) fn was_changed_by_validator(destination: &Destination) -> Failure {
    Failure::Refused(anyhow!(
        "cannot write {}: the program that validates it changed it",
        destination.typed()
    ))
}

/// Refuses content that the user does not want.
pub(crate) fn admit_content(
    destination: &Destination,
    input: &Input<'_>,
    content: &Content,
    guards: &Guards,
) -> Result<(), Failure> {
    admit_size(destination, input, content.size, guards.empty)?;
    match (guards.sum, content.sum) {
        (Some(wanted), Some(sum)) if wanted != sum => Err(Failure::Refused(anyhow!(
            "cannot write {}: the content's SHA-256 is {}, and not the one that was given",
            destination.typed(),
            hex(&sum)
        ))),
        _ => Ok(()),
    }
}

fn hex(sum: &Sum) -> String {
    sum.iter()
        .fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}

fn admit_size(
    destination: &Destination,
    input: &Input<'_>,
    size: u64,
    empty: Empty,
) -> Result<(), Failure> {
    if size > 0 {
        return Ok(());
    }
    let typed = destination.typed();
    let replaces_something = destination
        .existing()
        .is_some_and(|existing| existing.size > 0);
    match empty {
        Empty::Refuse => Err(Failure::Refused(anyhow!(
            "cannot write {typed}: the content is empty, and --no-empty was given"
        ))),
        Empty::Suspect if input.is_of_unseen_command() && replaces_something => {
            Err(Failure::Refused(anyhow!(
                "cannot replace {typed}: {} is empty (did the command before the pipe fail?); \
                 --allow-empty replaces it all the same",
                if input.is_stdin() {
                    "standard input"
                } else {
                    "the input"
                }
            )))
        }
        _ => Ok(()),
    }
}

/// Refuses to lose what somebody has written to DEST while we read what shall come behind it.
pub(crate) fn still_begins_with(
    destination: &Destination,
    start: Start,
    old: Option<&Opened>,
) -> Result<(), Failure> {
    let same = match (old, destination.existing()) {
        (Some(old), Some(now)) => old.metadata.is_same_content(&now),
        (old, now) => old.is_none() && now.is_none(),
    };
    if start == Start::Empty || same {
        return Ok(());
    }
    Err(anyhow!(
        "cannot append to {}: somebody has changed it meanwhile, who did not wait for the lock",
        destination.typed()
    )
    .into())
}

/// Refuses to give DEST a mode or an owner that it has not any more: to validate content may take a while.
pub(crate) fn still_looks_so(
    destination: &Destination,
    overwrite: Overwrite,
) -> Result<(), Failure> {
    let look = |seen: Option<Metadata>| seen.map(|seen| (seen.kind, seen.mode, seen.uid, seen.gid));
    let before = look(destination.existing());
    destination.look_again()?;
    if look(destination.existing()) == before {
        return Ok(());
    }
    if overwrite == Overwrite::Never && destination.existing().is_some() {
        return Err(exists(destination));
    }
    let what = match (before, destination.existing()) {
        (None, _) => "somebody has made it meanwhile",
        (_, None) => "somebody has removed it meanwhile",
        _ => "its mode or owner has changed meanwhile",
    };
    Err(anyhow!("cannot write {}: {what}", destination.typed()).into())
}

/// Tells whether DEST is already what it would become: it has the content, and the mode, owner and group that were
/// asked for, if any were.
pub(crate) fn is_equal(
    destination: &Destination,
    old: Option<&Opened>,
    content: &Content,
    attributes: &Attributes,
) -> Result<bool> {
    if !content.same {
        return Ok(false);
    }
    destination.look_again()?;
    let Some(existing) = destination.existing() else {
        return Ok(false);
    };
    // What was compared must still be DEST.
    if old.is_none_or(|old| !old.metadata.is_same_content(&existing)) {
        return Ok(false);
    }
    Ok(!attributes.would_change(&existing))
}

/// Leaves DEST alone, and has it on the disk as if it were new.
pub(crate) fn leave_equal(
    destination: &Destination,
    old: Option<&Opened>,
    content: &Content,
    sync: Sync,
) -> Result<Outcome, Failure> {
    let durable = || -> Result<(), Errno> {
        let existing = old.and_then(Opened::content);
        if let (Sync::File | Sync::Full, Some(file)) = (sync, existing) {
            sys::sync_file(file)?;
        }
        match (sync, existing) {
            (Sync::Full, Some(file)) => destination.directory().sync(file),
            _ => Ok(()),
        }
    };
    durable().with_context(|| format!("cannot sync {}", destination.typed()))?;
    Ok(Outcome {
        change: Change::Unchanged,
        destination: destination.path().to_owned(),
        size: content.size,
        split_links: 0,
    })
}
