//! The guards: what is asked before any input is read, and what is asked of the content.
//!
//! The rule: a refusal by what the user asked for (`--no-clobber`, empty content) is status 3; what cannot be written at
//! all is status 1. Each names the way out.

use std::os::fd::AsFd;

use anyhow::anyhow;

use crate::destination::Destination;
use crate::message::Chain;
use crate::outcome::Failure;
use crate::request::{Empty, Overwrite};
use crate::source::Input;
use crate::sys::{self, Errno, Kind};

/// Refuses a DEST that cannot be replaced, or that the user does not want to be replaced.
pub(crate) fn admit_destination(
    destination: &Destination,
    overwrite: Overwrite,
) -> Result<(), Failure> {
    let Some(existing) = destination.existing() else {
        return Ok(());
    };
    if overwrite == Overwrite::Never {
        return Err(exists(destination));
    }
    let metadata = &existing.metadata;
    let other_than_a_file = match metadata.kind {
        Kind::Regular | Kind::Symlink => None,
        Kind::Directory => Some("it is a directory; name the file in it"),
        Kind::Fifo => Some("it is a FIFO; only a regular file can be replaced"),
        Kind::Socket => Some("it is a socket; only a regular file can be replaced"),
        Kind::CharacterDevice | Kind::BlockDevice => {
            Some("it is a device; only a regular file can be replaced")
        }
    };
    if let Some(reason) = other_than_a_file {
        return Err(anyhow!("cannot replace {}: {reason}", destination.typed()).into());
    }
    if metadata.mount_root {
        return Err(anyhow!(
            "cannot replace {}: it is a mount point, over which nothing can be renamed; \
             mount its directory instead",
            destination.typed()
        )
        .into());
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

/// DEST exists, and that is what it must not.
pub(crate) fn exists(destination: &Destination) -> Failure {
    Failure::Refused(anyhow!(
        "cannot create {}: it exists, and --no-clobber was given",
        destination.typed()
    ))
}

/// Refuses content that the user does not want.
pub(crate) fn admit_content(
    destination: &Destination,
    input: &Input,
    size: u64,
    empty: Empty,
) -> Result<(), Failure> {
    if size > 0 {
        return Ok(());
    }
    let typed = destination.typed();
    let replaces_something = destination
        .existing()
        .is_some_and(|existing| existing.metadata.size > 0);
    match empty {
        Empty::Refuse => Err(Failure::Refused(anyhow!(
            "cannot write {typed}: the content is empty, and --no-empty was given"
        ))),
        Empty::Suspect if input.is_stdin() && replaces_something => Err(Failure::Refused(anyhow!(
            "cannot replace {typed}: standard input is empty (did the command before the pipe fail?); \
                 --allow-empty replaces it all the same"
        ))),
        _ => Ok(()),
    }
}
