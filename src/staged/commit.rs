//! The commit: the call by which DEST is the new file, and what makes that durable.
//!
//! The rule: until the rename DEST is the old file, and after it the new one; signals wait from before it until the
//! outcome is told.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use anyhow::{Context, Result, anyhow};

use super::{Origin, Staged, Synced, cannot_write};
use crate::checks;
use crate::destination::Destination;
use crate::outcome::{Change, Failure, Outcome};
use crate::parents::Parents;
use crate::request::{Overwrite, Sync};
use crate::signals;
use crate::sys::{self, Errno, FileSystem};
use crate::temp_name::{Identify, TempName};

impl<'d> Staged<'d, Synced> {
    /// Renames the file to DEST. Until the rename DEST is the old file; after it, the new one. `exchange` may do it in
    /// its own way, by which the old file keeps a name, and then does not give the name back.
    pub(crate) fn commit(
        self,
        overwrite: Overwrite,
        exchange: impl for<'n> FnOnce(TempName<'n>) -> Result<Option<TempName<'n>>, Failure>,
    ) -> Result<Committed<'d>, Failure> {
        signals::hold()?;
        // One that came while a program ran for us wins over the commit.
        if let Some(signal) = signals::caught() {
            return Err(Failure::Interrupted(signal));
        }
        let Self {
            destination,
            origin,
            file,
            phase,
            ..
        } = self;
        let mut parents = Parents::make(destination)?;
        let directory = parents.innermost().fd.as_fd();
        let name = name(origin, &file, phase.sync, directory, destination)?;
        give_name(name, &file, directory, destination, overwrite, exchange)?;
        parents.keep();
        Ok(Committed {
            destination,
            parents,
            file,
            phase,
        })
    }

    /// Gives the file a temporary name, and no more; it is locked as long as it is open.
    pub(crate) fn into_name(self) -> Result<(TempName<'d>, OwnedFd)> {
        let Self {
            destination,
            origin,
            file,
            phase,
            ..
        } = self;
        let directory = destination.directory().fd.as_fd();
        let name = name(origin, &file, phase.sync, directory, destination)?;
        Ok((name, file))
    }
}

/// Gives a file a temporary name, if it has none.
fn name<'d>(
    origin: Origin<'d>,
    file: &OwnedFd,
    sync: Sync,
    directory: BorrowedFd<'d>,
    destination: &Destination,
) -> Result<TempName<'d>> {
    let by = match origin {
        Origin::Named(name) => return Ok(name),
        Origin::Unnamed(by) => by,
        Origin::Elsewhere => unreachable!("a file elsewhere is written in place"),
    };
    let cannot_write = || cannot_write(destination);
    let name =
        TempName::link(file, by, directory, destination.name()).with_context(cannot_write)?;
    if sync != Sync::None && !is_durable_without_a_name(file) {
        sys::sync_file(file).with_context(cannot_write)?;
    }
    Ok(name)
}

/// What was done.
pub(super) fn outcome(destination: &Destination, size: u64) -> Outcome {
    let existing = destination.existing();
    Outcome {
        change: if existing.is_some() {
            Change::Replaced
        } else {
            Change::Created
        },
        destination: destination.path().to_owned(),
        size,
        split_links: existing.map_or(0, |existing| existing.links.saturating_sub(1)),
    }
}

/// Renames a file to DEST.
pub(super) fn give_name<'d>(
    name: TempName<'d>,
    file: &impl Identify,
    directory: BorrowedFd<'_>,
    destination: &Destination,
    overwrite: Overwrite,
    exchange: impl FnOnce(TempName<'d>) -> Result<Option<TempName<'d>>, Failure>,
) -> Result<(), Failure> {
    if name.is_old() && !name.is_of(file) {
        return Err(if name.was_shown() {
            checks::was_changed_by_validator(destination)
        } else {
            anyhow!(
                "{}: somebody has removed the new file",
                cannot_write(destination)
            )
            .into()
        });
    }
    let to = destination.name();
    match overwrite {
        Overwrite::Never => match name.rename_to_free(file, directory, to) {
            Err(Errno::EXIST) => Err(checks::exists(destination)),
            renamed => Ok(renamed.with_context(|| cannot_write(destination))?),
        },
        Overwrite::Writable | Overwrite::Any => match exchange(name)? {
            Some(name) => Ok(name
                .rename(file, directory, to)
                .with_context(|| cannot_write(destination))?),
            None => Ok(()),
        },
    }
}

/// DEST is the new file.
#[derive(Debug)]
#[must_use = "the rename is durable only after make_durable"]
pub(crate) struct Committed<'d> {
    destination: &'d Destination,
    parents: Parents<'d>,
    file: OwnedFd,
    phase: Synced,
}

impl Committed<'_> {
    /// What could not be done as the user might expect.
    pub(crate) fn warnings(&self) -> &[String] {
        &self.phase.warnings
    }

    /// Puts the new name on the disk, where that was asked for. An error leaves DEST new.
    pub(crate) fn make_durable(self) -> Result<Outcome, Failure> {
        let Self {
            destination,
            parents,
            file,
            phase,
        } = self;
        // To close a file that can be written to is a change of it for who watches it (IN_CLOSE_WRITE). So it is closed
        // before the wait for the disk, in which a watcher has time to look at DEST and to begin to watch it anew.
        let kept = parents.changed().any(|on| !on.readable).then_some(file);
        if phase.sync == Sync::Full {
            let mut changed = parents.changed();
            let synced = changed.try_for_each(|on| on.sync(kept.as_ref().unwrap_or(&on.fd)));
            synced.map_err(|errno| {
                let typed = destination.typed();
                Failure::Changed(anyhow!(errno).context(format!(
                    "cannot sync the directory of {typed}, which is new but may not survive power loss"
                )))
            })?;
        }
        Ok(outcome(destination, phase.content.size))
    }
}

/// An answer that we do not get is a no: to sync once more is never wrong.
fn is_durable_without_a_name(file: &OwnedFd) -> bool {
    matches!(
        sys::filesystem(file),
        Ok(FileSystem::Journaling | FileSystem::Memory)
    )
}
