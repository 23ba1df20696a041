//! The commit: the call by which DEST is the new file, and what makes that durable.
//!
//! Invariant: until the rename DEST is the old file, and after it the new one. On a local filesystem nothing stands between
//! the link that gives the file its name and the rename, but what must: the second fsync on btrfs, and a backup.

use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use anyhow::{Context, Result, anyhow};

use super::{Backing, CommitMethod, Seal, Staged, Synced, errno};
use crate::backup::{self, NewBackup};
use crate::checks::{self, Rules};
use crate::copy_error::CopyError;
use crate::destination::Destination;
use crate::inplace;
use crate::message::{Chain, Quoted};
use crate::named_copy::NamedCopy;
use crate::outcome::{Change, Failure, Outcome};
use crate::parents::Parents;
use crate::request::{InPlace, Overwrite, Sync};
use crate::run_context::RunContext;
use crate::signals;
use crate::sys::{self, Errno, Identity, Metadata};
use crate::temp_name::{Moved, TempName, has_name};

/// How often attributes that change again and again are put on the disk before the rename. After that it is done after it.
pub(super) const MAX_RESEALS: usize = 3;

/// How often the rename to a missing DEST is tried that appears in this moment, and is gone when it is looked up.
pub(super) const MAX_RENAMES: usize = 100;

impl Staged<'_, Synced> {
    /// Makes DEST the new file. An error leaves DEST untouched, or is [`Failure::Uncertain`].
    pub(crate) fn commit(mut self, context: &RunContext<'_>) -> Result<Committed, Failure> {
        signals::guard()?;
        if let CommitMethod::InPlace(target) = &mut self.method {
            let (target, destination) = (target.take(), self.destination);
            let mut outcome = self.overwrite(target, destination, context)?;
            outcome.appended = self.phase.content.appended;
            return Ok(Committed::in_place(outcome, self.file));
        }
        let mut parents = Parents::make(self.destination)?;
        let destination = parents.destination().clone();
        let committed = match self.rename_to(&destination, context) {
            Ok(None) => {
                // It stays the file that it is.
                self.phase.seal.warnings.clear();
                self.overwrite(None, &destination, context)
            }
            Ok(Some(outcome)) => Ok(outcome),
            Err(failure) => Err(failure),
        };
        let mut outcome = match committed {
            Ok(outcome) => outcome,
            Err(failure) => {
                // The file first: its name may be in a directory that was made.
                drop(self);
                return Err(failure);
            }
        };
        outcome.directories = parents.disarm();
        let Synced {
            content,
            seal,
            unsynced,
            ..
        } = self.phase;
        outcome.appended = content.appended;
        Ok(Committed {
            outcome,
            parents: Some(parents),
            file: self.file,
            name: match self.method {
                CommitMethod::Rename(Backing::Named(name)) => Some(name),
                _ => None,
            },
            sync: context.sync(),
            unsynced,
            warnings: seal.warnings,
        })
    }

    /// Copies the content into DEST.
    fn overwrite(
        &mut self,
        target: Option<OwnedFd>,
        destination: &Destination,
        context: &RunContext<'_>,
    ) -> Result<Outcome, Failure> {
        let is_spool = self.is_spool();
        let Seal {
            attributes, seen, ..
        } = &mut self.phase.seal;
        let spool = inplace::Spool {
            file: self.file.as_fd(),
            size: self.phase.content.size,
        };
        for _ in 0..MAX_RENAMES {
            if let Some(seen) = *seen {
                let in_place = InPlace::Always;
                let rules = Rules {
                    in_place,
                    ..context.rules()
                };
                checks::destination(destination, Some(seen), rules)?;
                return inplace::overwrite(&spool, target, destination, seen, attributes, context);
            }
            // What was to be overwritten can have been a device.
            if is_spool {
                return Err(inplace::not_checked(destination));
            }
            if let Some(outcome) = inplace::create(&spool, destination, attributes, context)? {
                return Ok(outcome);
            }
            *seen = destination.snapshot()?;
            if context.request.appends() {
                checks::append_base(destination, None, *seen)?;
            }
        }
        Err(keeps_appearing(destination))
    }

    /// Renames the file to DEST, in its own directory, with the attributes that DEST has now. `None` if that is impossible, and
    /// DEST may be written in place.
    fn rename_to(
        &mut self,
        destination: &Destination,
        context: &RunContext<'_>,
    ) -> Result<Option<Outcome>, Failure> {
        let mut resealed = 0;
        for _ in 0..MAX_RENAMES {
            self.reseal(destination, context, &mut resealed)?;
            if let (Some(backups), Some(_)) = (context.backups(), self.phase.seal.seen) {
                backup::read_numbers(destination, backups, context.numbers)?;
            }
            signals::check()?;
            self.link(destination)?;
            match self.rename(destination, context)? {
                Renaming::Appeared => {}
                Renaming::Impossible => return Ok(None),
                Renaming::Done { backup } => {
                    let (seen, size) = (self.phase.seal.seen, self.phase.content.size);
                    return Ok(Some(outcome(destination, seen, size, backup)));
                }
            }
        }
        Err(keeps_appearing(destination))
    }

    /// Applies the attributes of DEST again, if they have changed since they were read.
    fn reseal(
        &mut self,
        destination: &Destination,
        context: &RunContext<'_>,
        resealed: &mut usize,
    ) -> Result<(), Failure> {
        let file = &self.file;
        let open = || Ok(file.try_clone()?);
        while let Some(file) = self.phase.seal.renew(destination, context, open)? {
            *resealed += 1;
            if context.sync() == Sync::None {
                return Ok(());
            }
            if *resealed > MAX_RESEALS {
                self.phase.unsynced = true;
                return Ok(());
            }
            sys::sync_file(&file).with_context(|| destination.cannot("write"))?;
        }
        Ok(())
    }

    /// Gives the file a temporary name, if it has none.
    fn link(&mut self, destination: &Destination) -> Result<()> {
        let CommitMethod::Rename(Backing::Anonymous(by)) = self.method else {
            return Ok(());
        };
        if self.linked.is_some() {
            return Ok(());
        }
        let (directory, filesystem) = (destination.directory(), destination.filesystem());
        let linked = if filesystem.is_local() && sys::try_flock(&self.file).is_ok() {
            TempName::link_derived(&self.file, by, directory, destination.name())
        } else {
            TempName::link(&self.file, by, directory)
        };
        match linked {
            Err(error) if errno(&error) == Some(Errno::NOENT) => {
                return self.copy_to_named(destination);
            }
            linked => self.linked = Some(linked.with_context(|| destination.cannot("write"))?),
        }
        if self.phase.sync != Sync::None && !filesystem.syncs_unnamed_files() {
            sys::sync_file(&self.file).with_context(|| destination.cannot("write"))?;
        }
        Ok(())
    }

    /// Copies the file to one that has a name. Some AppArmor profiles (attach_disconnected without mediate_deleted) refuse the
    /// link of an unnamed file with ENOENT, although a link that must fail was answered as expected.
    fn copy_to_named(&mut self, destination: &Destination) -> Result<()> {
        let seal = &mut self.phase.seal;
        let NamedCopy {
            file,
            name,
            warnings,
        } = NamedCopy::make(
            self.file.as_fd(),
            &seal.attributes,
            destination,
            self.phase.sync,
        )
        .with_context(|| destination.cannot("write"))?;
        seal.warnings = warnings;
        self.file = file;
        self.method = CommitMethod::Rename(Backing::Named(name));
        Ok(())
    }

    /// Renames the file to DEST.
    fn rename(
        &mut self,
        destination: &Destination,
        context: &RunContext<'_>,
    ) -> Result<Renaming, Failure> {
        let name = match (&mut self.linked, &mut self.method) {
            (Some(linked), _) => linked,
            (None, CommitMethod::Rename(Backing::Named(name))) => name,
            (None, _) => {
                return Err(anyhow!("{}: it has no name", destination.cannot("write")).into());
            }
        };
        let file = &self.file;
        let identity = || Some(sys::metadata(file).ok()?.identity);
        rename(name, identity, destination, self.phase.seal.seen, context)
    }
}

/// What became of a rename.
#[derive(Debug)]
pub(super) enum Renaming {
    Done {
        /// The name that the old file has now.
        backup: Option<PathBuf>,
    },
    /// DEST was missing and has appeared.
    Appeared,
    /// The filesystem refuses it, and the user allows that DEST is written in place.
    Impossible,
}

/// Renames a file to DEST, which was `seen` a moment ago, and makes the backup.
pub(super) fn rename(
    name: &mut TempName,
    identity: impl FnOnce() -> Option<Identity>,
    destination: &Destination,
    seen: Option<Metadata>,
    context: &RunContext<'_>,
) -> Result<Renaming, Failure> {
    let backup = match (context.backups(), seen) {
        (Some(backups), Some(_)) => backup::make(destination, backups, context.numbers)?,
        _ => None,
    };
    // What has the name now and was not there a moment ago has no backup yet, and perhaps other attributes.
    let was_missing = seen.is_none() || (context.backups().is_some() && backup.is_none());
    let (directory, to) = (destination.directory().fd.as_fd(), destination.name());
    let moved = if context.request.overwrite == Overwrite::Never {
        name.rename_noreplace(directory, to)
    } else if was_missing {
        match name.rename_noreplace(directory, to) {
            // A filesystem that has neither such a rename nor links: there, DEST was missing a moment ago.
            Err(Errno::PERM | Errno::OPNOTSUPP | Errno::NOSYS | Errno::MLINK) => {
                name.rename(directory, to).map(|()| Moved::Renamed)
            }
            moved => moved,
        }
    } else {
        name.rename(directory, to).map(|()| Moved::Renamed)
    };
    match moved {
        Ok(Moved::Renamed) => name.disarm(),
        Ok(Moved::Linked) => {}
        // The answer to a rename that was done can get lost (NFS; a call that was interrupted and made again).
        Err(_) if identity().is_some_and(|identity| has_name(directory, to, identity)) => {}
        Err(Errno::EXIST) if context.request.overwrite == Overwrite::Never => {
            return Err(checks::exists(destination));
        }
        Err(Errno::EXIST) if was_missing => return Ok(Renaming::Appeared),
        Err(Errno::PERM | Errno::XDEV | Errno::OPNOTSUPP | Errno::NOSYS)
            if context.request.in_place != InPlace::Never =>
        {
            return Ok(Renaming::Impossible);
        }
        Err(errno @ (Errno::XDEV | Errno::OPNOTSUPP | Errno::NOSYS))
            if checks::may_be_overwritten(destination, seen, context.rules()) =>
        {
            let line = anyhow!(errno).context(destination.cannot("write"));
            return Err(anyhow!("{}; --inplace writes it in place", Chain(&line)).into());
        }
        Err(errno) => return Err(errno).with_context(|| destination.cannot("write"))?,
    }
    Ok(Renaming::Done {
        backup: backup.map(NewBackup::confirm),
    })
}

pub(super) fn keeps_appearing(destination: &Destination) -> Failure {
    let error = anyhow!(Errno::EXIST).context(destination.cannot("write"));
    error.into()
}

/// What was done.
pub(super) fn outcome(
    destination: &Destination,
    seen: Option<Metadata>,
    size: u64,
    backup: Option<PathBuf>,
) -> Outcome {
    let change = if seen.is_some() {
        Change::Replaced
    } else {
        Change::Created
    };
    Outcome {
        other_hard_links: seen.map_or(0, |seen| seen.links.saturating_sub(1)),
        backup,
        ..Outcome::new(change, destination.path().to_owned(), size)
    }
}

/// DEST is the new file.
#[derive(Debug)]
#[must_use = "the rename is durable only after make_durable"]
pub(crate) struct Committed {
    outcome: Outcome,
    /// `None` if DEST was overwritten in place, and is on the disk.
    parents: Option<Parents>,
    file: OwnedFd,
    /// A random name that the file still has, if it was linked to DEST. Removed after the file is closed.
    name: Option<TempName>,
    sync: Sync,
    /// Attributes were applied after the last fsync.
    unsynced: bool,
    /// What could not be kept.
    warnings: Vec<String>,
}

impl Committed {
    fn in_place(outcome: Outcome, file: OwnedFd) -> Self {
        Self {
            outcome,
            parents: None,
            file,
            name: None,
            sync: Sync::None,
            unsynced: false,
            warnings: Vec::new(),
        }
    }

    /// Puts the new name on the disk, where that was asked for. Returns what was done, and what could not be kept. An error
    /// leaves DEST new.
    pub(crate) fn make_durable(self) -> (Result<Outcome, Failure>, Vec<String>) {
        let Self {
            outcome,
            parents,
            file,
            name,
            sync,
            unsynced,
            warnings,
        } = self;
        let sync_all = || -> Result<(), Errno> {
            if unsynced {
                sys::sync_file(&file)?;
            }
            let Some(parents) = parents.filter(|_| sync == Sync::Full) else {
                drop(file);
                drop(name);
                return Ok(());
            };
            // A watcher takes the close of a file that can be written to for a change of it (IN_CLOSE_WRITE). So it is
            // closed before the wait for the disk, in which a watcher has time to begin to watch DEST anew.
            let kept = parents
                .changed()
                .any(|directory| !directory.readable)
                .then_some(file);
            drop(name);
            let mut changed = parents.changed();
            changed.try_for_each(|directory| directory.sync(kept.as_ref().unwrap_or(&directory.fd)))
        };
        let durable = sync_all().map_err(|errno| {
            let path = Quoted::new(&outcome.destination).to_string();
            Failure::Uncertain(anyhow!(errno).context(format!(
                "cannot sync the directory of {path}, which is new but may not survive power loss"
            )))
        });
        (durable.map(|()| outcome), warnings)
    }
}

impl From<CopyError> for Failure {
    fn from(error: CopyError) -> Self {
        anyhow::Error::from(error).into()
    }
}
