//! `--inplace`: the one way that is not atomic, apart from all others.
//!
//! The rule: it is taken only where the user allowed it. The input is taken in whole, and all guards have looked, before
//! the first byte of DEST changes; the space is reserved first. What can go wrong after that is told as what it is: DEST
//! is half new.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use anyhow::{Context, Result, anyhow};

use crate::attributes::Attributes;
use crate::checks::is_anothers;
use crate::destination::Destination;
use crate::message::{Chain, Messages};
use crate::outcome::{Change, Failure, Outcome};
use crate::request::{InPlace, Sync};
use crate::signals;
use crate::staged::{Open, Sealed, Staged, cannot_take_in};
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

impl Way {
    /// What may be admitted on this way: what has become a device meanwhile is not to be renamed to.
    pub(crate) fn policy(&self, asked_for: InPlace) -> InPlace {
        match self {
            Self::Rename => InPlace::Never,
            Self::Overwrite(_) => asked_for,
        }
    }
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
    let spool = tempfile::tempfile().with_context(cannot_take_in)?;
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
    let regular = is_regular(destination);
    let file = match file {
        Some(file) => file,
        None => sys::open_in_place(destination.directory().fd.as_fd(), destination.name())
            .with_context(cannot)?,
    };
    let prepare = || -> Result<(), Failure> {
        let now = sys::metadata(&file).with_context(cannot)?;
        if destination
            .existing()
            .is_none_or(|seen| seen.identity != now.identity)
        {
            return Err(anyhow!("{}: somebody has replaced it meanwhile", cannot()).into());
        }
        if regular {
            sys::reserve(&file, 0, size).with_context(cannot)?;
            // A write to a pipe or a device may wait for ever; here it cannot.
            signals::hold()?;
        }
        if let Some(signal) = signals::caught() {
            return Err(Failure::Interrupted(signal));
        }
        attributes.narrow(file.as_fd(), destination)?;
        sys::seek(sealed.file(), 0).with_context(cannot)?;
        Ok(())
    };
    if let Err(failure) = prepare() {
        give_back(file.as_fd(), destination);
        return Err(failure);
    }
    let mut transfer = Transfer::over(file.as_fd());
    let copied = loop {
        match transfer.take_some(sealed.file()) {
            Ok(0) => break Ok(()),
            Ok(_) => {}
            Err(broken) => break Err(broken.errno()),
        }
    };
    // A write that failed may have written a part.
    let written = sys::position(file.as_fd()).unwrap_or(transfer.size());
    let finish = || -> Result<()> {
        copied.with_context(cannot)?;
        if regular {
            sys::set_size(file.as_fd(), size).with_context(cannot)?;
        }
        attributes.put_what_was_asked_for(file.as_fd(), destination)?;
        if sync != Sync::None {
            sys::sync_in_place(&file).with_context(cannot)?;
        }
        sys::close_error(&file).with_context(cannot)
    };
    if let Err(error) = finish() {
        // The first write has failed, as on a device that takes nothing: nothing has happened.
        return Err(if written == 0 && size > 0 {
            give_back(file.as_fd(), destination);
            error.into()
        } else {
            Failure::Changed(anyhow!(
                "{}; {written} of {size} bytes are written, and the file is not what it was",
                Chain(&error)
            ))
        });
    }
    Ok(Outcome {
        change: Change::WrittenInPlace,
        destination: destination.path().to_owned(),
        size,
        split_links: 0,
    })
}

/// Gives back the space that was reserved, and the time of the last write, which that has changed.
fn give_back(file: BorrowedFd<'_>, destination: &Destination) {
    if let Some(before) = destination
        .existing()
        .filter(|before| before.kind == Kind::Regular)
    {
        // The error under way is what the user wants to know. The time can be set by the file's owner only.
        let _ = sys::metadata(file).and_then(|now| sys::set_size(file, now.size));
        let _ = sys::set_modified(file, before.modified);
    }
}

fn cannot_write(destination: &Destination) -> String {
    format!("cannot write {}", destination.typed())
}
