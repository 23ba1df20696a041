//! `--inplace`: the one way that is not atomic, apart from all others.
//!
//! The rule: it is taken only where the user allowed it. The input is taken in whole, and all guards have looked, before
//! the first byte of DEST changes; the space is reserved first. What can go wrong after that is told as what it is: DEST
//! is half new.

use std::os::fd::{AsFd, OwnedFd};

use anyhow::{Context, Result, anyhow};

use crate::attributes::Attributes;
use crate::checks::is_anothers;
use crate::destination::Destination;
use crate::message::{Chain, Messages};
use crate::outcome::{Change, Failure, Outcome};
use crate::request::{InPlace, Sync};
use crate::signals;
use crate::staged::{Open, Sealed, Staged};
use crate::sys::{self, Errno, Kind};
use crate::transfer::Transfer;

/// How DEST gets its content.
#[derive(Debug)]
pub(crate) enum Way {
    Rename,
    /// Into this file, which is DEST; `None` if it is to be opened when there is something to write: to open a device or
    /// a FIFO has effects.
    Overwrite(Option<OwnedFd>),
}

/// Makes the new file where the way that is open wants it. Whether there is any is known before any input is read.
pub(crate) fn stage<'d>(
    destination: &'d Destination,
    attributes: &Attributes,
    policy: InPlace,
) -> Result<(Way, Staged<'d, Open>)> {
    if is_wanted(destination, policy)? {
        return elsewhere(destination);
    }
    match Staged::beside(destination, attributes) {
        Err(error) if is_for_lack_of_permission(&error) && is_regular(destination) => {
            match policy {
                InPlace::Auto => elsewhere(destination),
                _ => Err(anyhow!(
                    "{}; --inplace overwrites the file where it is",
                    Chain(&error)
                )),
            }
        }
        staged => Ok((Way::Rename, staged?)),
    }
}

/// Whether DEST can be seen to be one that nothing can be renamed to, or shall not be.
fn is_wanted(destination: &Destination, policy: InPlace) -> Result<bool> {
    let Some(existing) = destination.existing() else {
        return Ok(false);
    };
    Ok(match (policy, existing.kind) {
        (InPlace::Never, _) | (_, Kind::Symlink) => false,
        (InPlace::Always, _)
        | (InPlace::Auto, Kind::Fifo | Kind::CharacterDevice | Kind::BlockDevice) => true,
        (InPlace::Auto, _) => existing.mount_root || is_anothers(destination, &existing)?,
    })
}

fn is_regular(destination: &Destination) -> bool {
    destination
        .existing()
        .is_some_and(|existing| existing.kind == Kind::Regular)
}

fn is_for_lack_of_permission(error: &anyhow::Error) -> bool {
    let errno = error.downcast_ref::<Errno>().copied().or_else(|| {
        error
            .downcast_ref::<std::io::Error>()
            .and_then(Errno::from_io_error)
    });
    matches!(errno, Some(Errno::ROFS | Errno::ACCESS | Errno::PERM))
}

fn elsewhere(destination: &Destination) -> Result<(Way, Staged<'_, Open>)> {
    let file = if is_regular(destination) {
        let directory = destination.directory().fd.as_fd();
        Some(
            sys::open_in_place(directory, destination.name())
                .with_context(|| cannot_write(destination))?,
        )
    } else {
        None
    };
    let spool =
        tempfile::tempfile().context("cannot make a temporary file to take in the input")?;
    Ok((
        Way::Overwrite(file),
        Staged::elsewhere(destination, spool.into()),
    ))
}

/// Writes the content over DEST's. An error may leave DEST half new, and then says so.
pub(crate) fn overwrite(
    sealed: &Staged<'_, Sealed>,
    file: Option<OwnedFd>,
    destination: &Destination,
    attributes: &Attributes,
    sync: Sync,
    messages: Messages,
) -> Result<Outcome, Failure> {
    messages.warn(format_args!(
        "{} is overwritten in place: who reads it now can see half of it, and if this breaks off, half is what is left",
        destination.typed()
    ));
    // A FIFO whose reader has gone is an error to be told.
    sys::ignore_broken_pipes();
    let size = sealed.content().size;
    let cannot = || cannot_write(destination);
    let file = if let Some(file) = file {
        sys::reserve(&file, 0, size).with_context(cannot)?;
        // A write to a pipe or a device may wait for ever; here it cannot.
        signals::hold()?;
        file
    } else {
        sys::open_in_place(destination.directory().fd.as_fd(), destination.name())
            .with_context(cannot)?
    };
    if let Some(signal) = signals::caught() {
        return Err(Failure::Interrupted(signal));
    }
    attributes.put_what_was_asked_for(file.as_fd(), destination)?;
    sys::seek(sealed.file(), 0).with_context(cannot)?;
    let mut transfer = Transfer::over(file.as_fd());
    let copied = loop {
        match transfer.take_some(sealed.file()) {
            Ok(0) => break Ok(()),
            Ok(_) => {}
            Err(broken) => break Err(broken.errno()),
        }
    };
    let written = transfer.size();
    let regular = is_regular(destination);
    copied
        .and_then(|()| {
            if regular {
                sys::set_size(file.as_fd(), size)
            } else {
                Ok(())
            }
        })
        .and_then(|()| match sync {
            Sync::None => Ok(()),
            Sync::File | Sync::Full => sys::sync_in_place(&file),
        })
        .and_then(|()| sys::close(file))
        .map_err(|errno| {
            let error = anyhow!(errno).context(cannot());
            Failure::Changed(anyhow!(
                "{}; {written} of {size} bytes are written, and the file is not what it was",
                Chain(&error)
            ))
        })?;
    Ok(Outcome {
        change: Change::WrittenInPlace,
        destination: destination.path().to_owned(),
        size,
        split_links: 0,
    })
}

fn cannot_write(destination: &Destination) -> String {
    format!("cannot write {}", destination.typed())
}
