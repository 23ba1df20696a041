//! The commit: the rename that makes DEST the new file, and the sync that makes the rename durable.
//!
//! Invariant: DEST is the old file until the rename, and the new one after it. On a local
//! filesystem, only the second fsync on btrfs and the backup come between the link that names the
//! file and the rename.

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
use crate::sys::{self, Errno, FileSystem, Identity, Metadata};
use crate::temp_name::{Moved, TempName, has_name};

/// How often changed attributes are applied and synced again before the rename. If they change
/// once more, they are applied without a sync.
pub(super) const MAX_RESEALS: usize = 3;

/// How often the rename to a missing DEST is retried when DEST appears at that moment and is gone
/// again at the next lookup.
pub(super) const MAX_RENAMES: usize = 100;

impl Staged<'_, Synced> {
    /// Makes DEST the new file. An error leaves DEST unchanged, unless it is
    /// [`Failure::Uncertain`].
    pub(crate) fn commit(mut self, context: &RunContext<'_>) -> Result<Committed, Failure> {
        signals::guard()?;
        if self.is_spool() {
            let mut outcome = self.overwrite(self.destination, context)?;
            outcome.appended = self.phase.content.appended;
            return Ok(Committed::in_place(outcome, self.file));
        }
        let mut parents = Parents::make(self.destination)?;
        let destination = parents.destination().clone();
        let committed = match self.rename_to(&destination, context) {
            Ok(None) => {
                // DEST is not replaced, so it keeps its attributes.
                self.phase.seal.warnings.clear();
                self.overwrite(&destination, context)
            }
            Ok(Some(outcome)) => Ok(outcome),
            Err(failure) => Err(failure),
        };
        let mut outcome = match committed {
            Ok(outcome) => outcome,
            Err(failure) => {
                // The file first: its name may be in a directory that `parents` removes.
                drop(self);
                return Err(failure);
            }
        };
        outcome.directories = parents.disarm();
        let Synced { content, seal, .. } = self.phase;
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
            warnings: seal.warnings,
        })
    }

    /// Copies the content into DEST.
    fn overwrite(
        &mut self,
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
                return inplace::overwrite(&spool, destination, seen, attributes, context);
            }
            // The missing DEST may have been a device.
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

    /// Renames the file to DEST, in DEST's own directory, with the attributes that DEST has now.
    /// Returns `None` if the filesystem refuses the rename and DEST may be written in place.
    fn rename_to(
        &mut self,
        destination: &Destination,
        context: &RunContext<'_>,
    ) -> Result<Option<Outcome>, Failure> {
        for _ in 0..MAX_RENAMES {
            self.reseal(destination, context)?;
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

    /// Applies DEST's attributes again, if they have changed since they were read.
    fn reseal(
        &mut self,
        destination: &Destination,
        context: &RunContext<'_>,
    ) -> Result<(), Failure> {
        let file = &self.file;
        let open = || Ok(file.try_clone()?);
        for _ in 0..MAX_RESEALS {
            let renewed = self.phase.seal.renew(destination, context, open)?;
            let (Some(file), Sync::File | Sync::Full) = (renewed, context.sync()) else {
                return Ok(());
            };
            // The sync takes time, in which the attributes may change again.
            sys::sync_file(&file).with_context(|| destination.cannot("write"))?;
        }
        self.phase.seal.renew(destination, context, open)?;
        Ok(())
    }

    /// Gives an unnamed file a temporary name.
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

    /// Replaces the unnamed file with a named copy. Some AppArmor profiles (attach_disconnected
    /// without mediate_deleted) refuse to link an unnamed file with ENOENT, although the probe of
    /// linkat succeeded.
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
        let new = || Some(sys::metadata(file).ok()?.identity);
        rename(name, new, destination, self.phase.seal.seen, context)
    }
}

/// The result of a rename that did not fail.
#[derive(Debug)]
pub(super) enum Renaming {
    Done {
        /// The name of the backup.
        backup: Option<PathBuf>,
    },
    /// DEST was missing and has appeared.
    Appeared,
    /// The filesystem refuses the rename, and the user allows writing DEST in place.
    Impossible,
}

/// Makes the backup, and renames a file to DEST, which was `seen` a moment ago. `new` identifies
/// the file.
pub(super) fn rename(
    name: &mut TempName,
    new: impl FnOnce() -> Option<Identity>,
    destination: &Destination,
    seen: Option<Metadata>,
    context: &RunContext<'_>,
) -> Result<Renaming, Failure> {
    let backup = match (context.backups(), seen) {
        (Some(backups), Some(_)) => backup::make(destination, backups, context.numbers)?,
        _ => None,
    };
    // A DEST that appeared after `seen` has no backup yet, and may have other attributes.
    let was_missing = seen.is_none() || (context.backups().is_some() && backup.is_none());
    let (directory, to) = (destination.directory().fd.as_fd(), destination.name());
    let filesystem = destination.filesystem();
    let is_done = || new().is_some_and(|new| new.is_unique() && has_name(directory, to, new));
    let moved = if context.request.overwrite == Overwrite::Never {
        name.rename_noreplace(directory, to, filesystem)
    } else if was_missing {
        match name.rename_noreplace(directory, to, filesystem) {
            // The filesystem has neither RENAME_NOREPLACE nor links. DEST was missing a moment ago.
            Err(Errno::PERM | Errno::OPNOTSUPP | Errno::NOSYS | Errno::MLINK) => name
                .rename(directory, to, filesystem)
                .map(|()| Moved::Renamed),
            moved => moved,
        }
    } else {
        name.rename(directory, to, filesystem)
            .map(|()| Moved::Renamed)
    };
    match moved {
        Ok(Moved::Renamed) => name.disarm(),
        Ok(Moved::Linked) => {}
        // A rename can succeed and still report an error: NFS can lose the reply, or the call was
        // interrupted and retried.
        Err(_) if is_done() => {}
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
            return Err(anyhow!("{}; use --inplace to write it in place", Chain(&line)).into());
        }
        Err(errno) => {
            let error = anyhow!(errno).context(destination.cannot("write"));
            if filesystem != FileSystem::Other {
                return Err(error.into());
            }
            // FUSE may answer from a cache of names. The server knows if the temporary name is
            // gone.
            match name.remove() {
                Ok(()) | Err(Errno::PERM | Errno::ACCESS | Errno::ROFS) => {}
                Err(removed) => {
                    // It may be the only file with the old content.
                    if let Some(backup) = backup {
                        backup.confirm();
                    }
                    if removed == Errno::NOENT {
                        let line = Chain(&error);
                        return Err(Failure::Uncertain(anyhow!("{line}; the file may be new")));
                    }
                }
            }
            return Err(error.into());
        }
    }
    Ok(Renaming::Done {
        backup: backup.map(NewBackup::confirm),
    })
}

pub(super) fn keeps_appearing(destination: &Destination) -> Failure {
    let error = anyhow!(Errno::EXIST).context(destination.cannot("write"));
    error.into()
}

/// Returns the outcome of a commit by rename.
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
    /// The directories to sync. `None` if DEST was overwritten in place, which syncs by itself.
    parents: Option<Parents>,
    file: OwnedFd,
    /// The random name that the file still has if it was linked to DEST. Removed after the file is
    /// closed.
    name: Option<TempName>,
    sync: Sync,
    /// The attributes that could not be preserved, as warnings.
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
            warnings: Vec::new(),
        }
    }

    /// Syncs DEST's directory, if `--sync` requires it. Returns the outcome, and warnings about the
    /// attributes that could not be preserved. After an error, DEST is new all the same.
    pub(crate) fn make_durable(self) -> (Result<Outcome, Failure>, Vec<String>) {
        let Self {
            outcome,
            parents,
            file,
            name,
            sync,
            warnings,
        } = self;
        let sync_all = || -> Result<(), Errno> {
            let Some(parents) = parents.filter(|_| sync == Sync::Full) else {
                drop(file);
                drop(name);
                return Ok(());
            };
            // Closing a file that was open for writing raises IN_CLOSE_WRITE, which a watcher takes
            // for a change. So the file is closed before the sync, which gives a watcher time to
            // watch the new DEST.
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
