//! `--inplace`: DEST is overwritten, which is not atomic.
//!
//! Invariant: only where the user allowed it, and only when the input is complete and every guard has passed. The space is
//! preallocated, or the size of the device compared, before the first byte of DEST changes. What fails after that is
//! reported as what it is: DEST is a mix of new and old.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use anyhow::{Context, Result, anyhow};

use crate::attributes::Attributes;
use crate::backup;
use crate::checks::{self, protected_by_sticky_bit};
use crate::copy_error::CopyError;
use crate::destination::Destination;
use crate::message::Chain;
use crate::outcome::{Change, Failure, Outcome};
use crate::request::{InPlace, Start, Sync};
use crate::signals;
use crate::staged::CommitOptions;
use crate::sys::{self, Errno, Kind, Metadata};
use crate::temp_name::has_name;
use crate::transfer::{Available, ReadMethod, Reader, Transfer};

/// How long is waited between two tries to open DEST.
const PAUSE: Duration = Duration::from_millis(10);

/// Tells whether DEST is one that nothing can be renamed to, or that the user wants to be overwritten.
pub(crate) fn is_wanted(
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

/// Opens DEST, which is of this kind, for writing. Waits for the reader of a FIFO, and for the end of another process's
/// lease.
pub(crate) fn open(destination: &Destination, kind: Kind) -> Result<OwnedFd> {
    loop {
        match sys::open_in_place(destination.directory().fd.as_fd(), destination.name()) {
            Err(Errno::NXIO) if kind == Kind::Fifo => signals::pause(PAUSE)?,
            Err(Errno::AGAIN) => signals::pause(PAUSE)?,
            opened => return opened.with_context(|| cannot_write(destination)),
        }
    }
}

/// Writes the content of `spool` over that of DEST, which was `seen` before. `target` is DEST, if it is open already. An
/// error may leave DEST changed, and then is [`Failure::Uncertain`].
pub(crate) fn overwrite(
    spool: BorrowedFd<'_>,
    size: u64,
    target: Option<OwnedFd>,
    destination: &Destination,
    seen: Option<Metadata>,
    attributes: &Attributes,
    options: CommitOptions<'_>,
) -> Result<Outcome, Failure> {
    // A FIFO whose reader has gone is an error to be reported.
    sys::ignore_broken_pipes();
    let cannot = || cannot_write(destination);
    let is_seen = |kind| seen.is_some_and(|seen| seen.kind == kind);
    let file = match target {
        Some(file) => file,
        None => open(destination, seen.map_or(Kind::Regular, |seen| seen.kind))?,
    };
    let make_backup = || match options.backups {
        Some(backups) if is_seen(Kind::Regular) => {
            backup::make_copy(destination, backups, options.numbers, options.sync)
        }
        _ => Ok(None),
    };
    check_target(&file, spool, size, destination, seen, options.start)?;
    let backup = make_backup()?;
    signals::check()?;
    let prepare = || -> Result<()> {
        if is_seen(Kind::Regular) {
            sys::preallocate(&file, 0, size).with_context(cannot)?;
        }
        attributes.restrict_mode(file.as_fd(), destination)
    };
    prepare().inspect_err(|_| undo_preparation(file.as_fd(), seen))?;
    options.messages.warn(format_args!(
        "overwriting {} in place: readers may see partial content, and an interruption will leave it",
        destination.typed()
    ));
    let is_regular = is_seen(Kind::Regular);
    let mut transfer = Transfer::over(file.as_fd());
    let copied = copy_all(&mut transfer, spool);
    // A write that failed may have written a part.
    let written = sys::position(file.as_fd()).unwrap_or(transfer.size());
    let finish = || -> Result<()> {
        copied.with_context(cannot)?;
        if is_regular {
            sys::set_size(file.as_fd(), size).with_context(cannot)?;
        }
        attributes.apply_requested(file.as_fd(), destination)?;
        if options.sync != Sync::None {
            sys::sync_in_place(&file).with_context(cannot)?;
        }
        sys::close_error(&file).with_context(cannot)
    };
    if let Err(error) = finish() {
        // The first write has failed, as on a device that takes nothing: nothing has happened.
        if written == 0 && size > 0 {
            undo_preparation(file.as_fd(), seen);
            return Err(error.into());
        }
        if let Some(backup) = backup {
            backup.confirm();
        }
        return Err(Failure::Uncertain(anyhow!(
            "{}; {written} of {size} bytes are written, and the file is a mix of new and old",
            Chain(&error)
        )));
    }
    if let Some(backup) = backup {
        backup.confirm();
    }
    Ok(Outcome {
        change: Change::WrittenInPlace,
        destination: destination.path().to_owned(),
        size,
        other_hard_links: 0,
    })
}

/// The last checks of DEST.
fn check_target(
    file: &OwnedFd,
    spool: BorrowedFd<'_>,
    size: u64,
    destination: &Destination,
    seen: Option<Metadata>,
    start: Start,
) -> Result<(), Failure> {
    let cannot = || cannot_write(destination);
    let now = sys::metadata(file).with_context(cannot)?;
    let is_seen = seen.is_some_and(|seen| seen.identity == now.identity);
    let directory = destination.directory().fd.as_fd();
    if !is_seen || !has_name(directory, destination.name(), now.identity) {
        return Err(anyhow!("{}: it is not the file that was checked", cannot()).into());
    }
    if start == Start::Old {
        checks::append_base(destination, seen, Some(now))?;
    }
    if now.kind == Kind::BlockDevice {
        let room = sys::seek_end(file.as_fd()).with_context(cannot)?;
        sys::seek(file.as_fd(), 0).with_context(cannot)?;
        if room < size {
            return Err(anyhow!(
                "{}: it has {room} bytes, and the input has {size}",
                cannot()
            )
            .into());
        }
    }
    sys::seek(spool, 0).with_context(cannot)?;
    Ok(())
}

fn copy_all(transfer: &mut Transfer<'_, '_>, spool: BorrowedFd<'_>) -> Result<()> {
    let reader = Reader {
        file: spool,
        metadata: sys::metadata(spool)?,
        method: ReadMethod::Read,
    };
    loop {
        match transfer.read_available(&reader) {
            Ok(Available::End) => return Ok(()),
            Ok(_) => {}
            Err(CopyError::Reading(errno) | CopyError::Writing(errno)) => return Err(errno.into()),
            Err(error) => return Err(error.into()),
        }
    }
}

/// Gives back preallocated space and permissions, and the time of the last write, which the preallocation has changed.
fn undo_preparation(file: BorrowedFd<'_>, seen: Option<Metadata>) {
    if let Some(seen) = seen.filter(|seen| seen.kind == Kind::Regular) {
        // The error under way is what the user needs to know. Only the file's owner can set the time.
        let _ = sys::metadata(file).and_then(|now| {
            if now.mode != seen.mode {
                sys::set_mode(file, seen.mode)?;
            }
            sys::set_size(file, now.size)
        });
        let _ = sys::set_modified(file, seen.modified);
    }
}

fn cannot_write(destination: &Destination) -> String {
    format!("cannot write {}", destination.typed())
}
