//! `--inplace`: overwriting DEST, which is not atomic.
//!
//! Invariant: DEST is overwritten only if the user allows it, the input is complete and every check
//! has passed. Before the first byte of DEST changes, its space is preallocated if the filesystem
//! can do that, or the size of the device is checked. A later failure says that DEST is a mix of
//! new and old.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use anyhow::{Context, Error, Result, anyhow};

use crate::attributes::{Attributes, InitialMode};
use crate::backup::{self, NewBackup};
use crate::checks;
use crate::copy_error::CopyError;
use crate::destination::Destination;
use crate::message::Chain;
use crate::outcome::{Change, Failure, Outcome};
use crate::request::{Overwrite, Start, Sync};
use crate::run_context::RunContext;
use crate::signals;
use crate::sys::{self, Errno, Kind, Metadata};
use crate::temp_name::has_name;
use crate::transfer::{Available, ReadMethod, Reader, Transfer};

/// The pause between two attempts to open DEST.
const PAUSE: Duration = Duration::from_millis(10);

/// Opens DEST, which is of this kind, for writing. Waits for the reader of a FIFO, and while
/// another process has a lease on DEST.
fn open(destination: &Destination, kind: Kind) -> Result<OwnedFd> {
    loop {
        match sys::open_in_place(destination.directory().fd.as_fd(), destination.name()) {
            Err(Errno::NXIO) if kind == Kind::Fifo => signals::pause(PAUSE)?,
            Err(Errno::AGAIN) => signals::pause(PAUSE)?,
            opened => return opened.with_context(|| destination.cannot("write")),
        }
    }
}

/// Overwrites DEST, which was `seen` before, with the content of `spool`. An error leaves DEST
/// unchanged, unless it is [`Failure::Uncertain`].
pub(crate) fn overwrite(
    spool: &Spool<'_>,
    destination: &Destination,
    seen: Metadata,
    attributes: &Attributes,
    context: &RunContext<'_>,
) -> Result<Outcome, Failure> {
    // If the reader of a FIFO has gone, that must be an error and not kill this process.
    sys::ignore_broken_pipes();
    let is_regular = seen.kind == Kind::Regular;
    let file = open(destination, seen.kind)?;
    check_target(&file, spool, destination, seen, context.request.start)?;
    signals::check()?;
    attributes.may_be_set(file.as_fd(), destination)?;
    // With a backup, this runs between the copy, which takes time and space, and its name, which
    // may replace an older backup.
    let ready = || -> Result<(), Failure> {
        if is_regular {
            spool.find_space(&file, destination)?;
        }
        context.messages.warn(format_args!(
            "overwriting {} in place: readers may see partial content, and an interruption will leave it",
            destination.display()
        ));
        // The warning may have waited for its reader.
        signals::check()?;
        check_target(&file, spool, destination, seen, context.request.start)
    };
    let backup = if let Some(backups) = context.backups().filter(|_| is_regular) {
        let (numbers, sync) = (context.numbers, context.sync());
        let backup = backup::make_copy(destination, backups, numbers, sync, ready)?;
        // Without a backup, DEST must not be overwritten.
        Some(backup.ok_or_else(|| not_checked(destination))?)
    } else {
        ready()?;
        None
    };
    let before = sys::metadata(&file).with_context(|| destination.cannot("stat"))?;
    let release = |error| attributes.release(file.as_fd(), &before, error);
    attributes
        .restrict(file.as_fd(), destination, &before)
        .map_err(release)?;
    if is_regular {
        spool.preallocate(&file, destination).map_err(release)?;
    }
    let finish = || attributes.apply_requested(file.as_fd(), destination, &before);
    let (written, finished) = spool.write_to(&file, is_regular, destination, finish, context);
    let Written { bytes, state } = written;
    if let Err(error) = finished {
        if state == ContentState::Old {
            return Err(release(error));
        }
        if let Some(backup) = backup {
            backup.confirm();
        }
        let (error, size) = (Chain(&error), spool.size);
        return Err(Failure::Uncertain(match state {
            ContentState::Broken if bytes > 0 => anyhow!(
                "{error}; {bytes} of {size} bytes are written, and the file is a mix of new and old"
            ),
            ContentState::Old | ContentState::Broken | ContentState::Unsynced => {
                anyhow!("{error}; the file may be a mix of new and old")
            }
            ContentState::Complete => anyhow!("{error}; the content is new"),
        }));
    }
    Ok(Outcome {
        backup: backup.map(NewBackup::confirm),
        ..outcome(destination, Change::WrittenInPlace, spool.size)
    })
}

/// Returns the error that DEST has been replaced or is gone.
pub(crate) fn not_checked(destination: &Destination) -> Failure {
    let cannot = destination.cannot("write");
    anyhow!("{cannot}: it is not the file that was checked").into()
}

/// Creates a missing DEST, if the filesystem refuses to rename a file to it. Returns `None` if DEST
/// has appeared.
pub(crate) fn create(
    spool: &Spool<'_>,
    destination: &Destination,
    attributes: &Attributes,
    context: &RunContext<'_>,
) -> Result<Option<Outcome>, Failure> {
    signals::check()?;
    let directory = destination.directory().fd.as_fd();
    let initial = InitialMode::Private;
    let file = match sys::create_new(directory, destination.name(), initial.bits()) {
        Err(Errno::EXIST) if context.request.overwrite == Overwrite::Never => {
            return Err(checks::exists(destination));
        }
        Err(Errno::EXIST) => return Ok(None),
        created => created.with_context(|| destination.cannot("write"))?,
    };
    context.messages.warn(format_args!(
        "writing {} in place: readers may see partial content, and an interruption will leave it",
        destination.display()
    ));
    let finish = || {
        attributes
            .apply(file.as_fd(), destination, initial)
            .map(drop)
    };
    let prepared = attributes
        .may_be_set(file.as_fd(), destination)
        .and_then(|()| {
            let before = sys::metadata(&file).with_context(|| destination.cannot("stat"))?;
            attributes.restrict(file.as_fd(), destination, &before)
        })
        .and_then(|()| spool.find_space(&file, destination))
        .and_then(|()| spool.preallocate(&file, destination))
        // Printing the warning may have waited for its reader.
        .and_then(|()| Ok(signals::check()?));
    let (written, finished) = match prepared {
        Ok(()) => spool.write_to(&file, true, destination, finish, context),
        Err(error) => (Written::default(), Err(error)),
    };
    let Err(error) = finished else {
        return Ok(Some(outcome(destination, Change::Created, spool.size)));
    };
    let is_empty =
        |now: Metadata| now.size == 0 && has_name(directory, destination.name(), now.identity);
    if written.bytes == 0
        && sys::metadata(&file).is_ok_and(is_empty)
        && sys::unlink(directory, destination.name()).is_ok()
    {
        return Err(error.into());
    }
    // Another process may have written to the file by now, so it stays.
    Err(Failure::Uncertain(anyhow!(
        "{}; {} of {} bytes are written",
        Chain(&error),
        written.bytes,
        spool.size
    )))
}

fn outcome(destination: &Destination, change: Change, size: u64) -> Outcome {
    Outcome::new(change, destination.path().to_owned(), size)
}

/// The complete input.
#[derive(Debug)]
pub(crate) struct Spool<'f> {
    pub(crate) file: BorrowedFd<'f>,
    /// Bytes.
    pub(crate) size: u64,
}

impl Spool<'_> {
    /// Returns an error if the disk is too full. Preallocation would fail, too, but it changes DEST
    /// even if it fails.
    fn find_space(&self, file: &OwnedFd, destination: &Destination) -> Result<()> {
        let cannot = || destination.cannot("write");
        let now = sys::metadata(file).with_context(cannot)?;
        match sys::available_space(file, now.size.saturating_sub(self.size)) {
            Some(available) if available < self.size => Err(Errno::NOSPC).with_context(cannot),
            _ => Ok(()),
        }
    }

    /// Preallocates the space for the content. DEST keeps its size.
    fn preallocate(&self, file: &OwnedFd, destination: &Destination) -> Result<()> {
        let cannot = || destination.cannot("write");
        let before = sys::metadata(file).with_context(cannot)?;
        let done = sys::preallocate(file, 0, self.size);
        let after = sys::metadata(file).with_context(cannot)?;
        if done.is_err() {
            if after.allocated > before.allocated {
                // The failed call has preallocated some of the space, and a failed run must not
                // fill the disk. The first error is the one to report.
                let _ = sys::set_size(file.as_fd(), after.size);
            }
            // Unless another process has appended, the change was ours. Only the file's owner can
            // set its time.
            if sys::metadata(file).is_ok_and(|now| now.size == before.size) {
                let _ = sys::set_modified(file, before.modified);
            }
        }
        done.with_context(cannot)
    }

    /// Copies the content and syncs it. Also returns how much was written.
    fn write_to(
        &self,
        file: &OwnedFd,
        is_regular: bool,
        destination: &Destination,
        set_attributes: impl FnOnce() -> Result<()>,
        context: &RunContext<'_>,
    ) -> (Written, Result<()>) {
        let cannot = || destination.cannot("write");
        let mut transfer = Transfer::over(file.as_fd());
        let copied = copy_all(&mut transfer, self.file);
        // A failed write may have written some bytes.
        let bytes = sys::position(file.as_fd())
            .unwrap_or(0)
            .max(transfer.size());
        let mut state = match copied {
            // A write that failed may have changed a file: with `mount -o sync`, the data is in the
            // cache before the disk refuses it.
            Err(CopyError::Writing(_)) if is_regular => ContentState::Broken,
            Err(_) if bytes == 0 => ContentState::Old,
            _ => ContentState::Broken,
        };
        let finish = || -> Result<()> {
            copied.map_err(without_side).with_context(cannot)?;
            if is_regular {
                sys::set_size(file.as_fd(), self.size).with_context(cannot)?;
            }
            state = ContentState::Unsynced;
            // Before the sync, which covers them too.
            let attributes = set_attributes();
            if context.sync() != Sync::None {
                sys::sync_in_place(file).with_context(cannot)?;
            }
            sys::close_error(file).with_context(cannot)?;
            state = ContentState::Complete;
            attributes
        };
        let finished = finish();
        (Written { bytes, state }, finished)
    }
}

/// How much of the content is in DEST.
#[derive(Debug, Clone, Copy, Default)]
struct Written {
    bytes: u64,
    state: ContentState,
}

/// What DEST's content is after an error.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum ContentState {
    #[default]
    Old,
    /// It may be a mix of new and old.
    Broken,
    /// The content is copied, but the disk or the server may not have it.
    Unsynced,
    /// The content is new. The attributes may not be.
    Complete,
}

/// Checks DEST a last time, just before it is overwritten.
fn check_target(
    file: &OwnedFd,
    spool: &Spool<'_>,
    destination: &Destination,
    seen: Metadata,
    start: Start,
) -> Result<(), Failure> {
    let cannot = || destination.cannot("write");
    let now = sys::metadata(file).with_context(cannot)?;
    let directory = destination.directory().fd.as_fd();
    // A file that was removed may have given its inode number to another user's.
    if (seen.identity, seen.kind) != (now.identity, now.kind)
        || !has_name(directory, destination.name(), now.identity)
        || (matches!(now.kind, Kind::Regular | Kind::Fifo) && destination.is_shared_trap(&now))
    {
        return Err(not_checked(destination));
    }
    if start == Start::Old {
        checks::append_base(destination, Some(seen), Some(now))?;
    }
    if now.kind == Kind::BlockDevice {
        let capacity = sys::seek_end(file.as_fd()).with_context(cannot)?;
        sys::seek(file.as_fd(), 0).with_context(cannot)?;
        if capacity < spool.size {
            return Err(anyhow!(
                "{}: it has {capacity} bytes, and the input has {}",
                cannot(),
                spool.size
            )
            .into());
        }
    }
    Ok(())
}

fn copy_all(transfer: &mut Transfer<'_, '_>, spool: BorrowedFd<'_>) -> Result<(), CopyError> {
    sys::seek(spool, 0).map_err(CopyError::Reading)?;
    let reader = Reader {
        file: spool,
        metadata: sys::metadata(spool).map_err(CopyError::Reading)?,
        method: ReadMethod::Read,
    };
    while !matches!(transfer.read_available(&reader)?, Available::End) {}
    Ok(())
}

/// Both sides of the copy have one message: that DEST cannot be written.
fn without_side(error: CopyError) -> Error {
    match error {
        CopyError::Reading(errno) | CopyError::Writing(errno) => errno.into(),
        error => error.into(),
    }
}
