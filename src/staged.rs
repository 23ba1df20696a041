//! The new file, from its first byte to its name.
//!
//! ```text
//! beside() ──> Staged<Open> ──fill──> Staged<Filled> ──seal──> Staged<Sealed> ──commit──> Committed ──make_durable──> Outcome
//!                   │                      │                        │                        │
//!                   └──────────────────────┴───── dropped ──────────┘                        └ DEST is new from here on
//!                              nothing is left, DEST is as it was
//! ```
//!
//! The rule: DEST changes in one call, the rename, and everything that can fail comes before it, but for the directory's
//! fsync. The phases are types, so that nothing is written after the guards have looked and nothing is committed that is
//! not on the disk. The file has no name until `commit`, where the filesystem can do that (O_TMPFILE); otherwise it has a
//! temporary one from the start, with mode 0600 until it is sealed.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use anyhow::{Context, Result, anyhow};

use crate::attributes::Attributes;
use crate::checks;
use crate::destination::Destination;
use crate::outcome::{Change, Failure, Outcome};
use crate::parents::Parents;
use crate::request::{Overwrite, Sync};
use crate::signals;
use crate::source::Input;
use crate::sys::{self, Errno, FileSystem, LinkBy};
use crate::temp_name::TempName;
use crate::transfer::{self, Broken, Writeback};

/// A new file that nobody can see as DEST yet.
#[derive(Debug)]
pub(crate) struct Staged<'d, Phase> {
    destination: &'d Destination,
    // Before the file, and so dropped before it: a name goes while its lock is still held.
    origin: Origin<'d>,
    file: OwnedFd,
    phase: Phase,
}

/// How the file came to be.
#[derive(Debug)]
enum Origin<'d> {
    Unnamed(LinkBy),
    Named(TempName<'d>),
}

/// Nothing is in it.
#[derive(Debug)]
pub(crate) struct Open;

/// All of the content is in it.
#[derive(Debug)]
pub(crate) struct Filled {
    size: u64,
}

/// It is what DEST shall be, and as durable as was asked for.
#[derive(Debug)]
pub(crate) struct Sealed {
    size: u64,
    sync: Sync,
    warnings: Vec<String>,
}

impl<'d> Staged<'d, Open> {
    /// Makes the file in DEST's directory, or where that is missing in the nearest one above it.
    pub(crate) fn beside(destination: &'d Destination, attributes: &Attributes) -> Result<Self> {
        let directory = destination.directory().fd.as_fd();
        let (origin, file) = match unnamed(directory, attributes.creation_mode()) {
            Ok(Some((link_by, file))) => (Origin::Unnamed(link_by), file),
            Ok(None) => {
                let (name, file) =
                    TempName::create(directory, destination.name(), attributes.owner())
                        .with_context(|| cannot_create(destination))?;
                (Origin::Named(name), file)
            }
            Err(errno) => return Err(errno).with_context(|| cannot_create(destination)),
        };
        Ok(Self {
            destination,
            origin,
            file,
            phase: Open,
        })
    }

    /// Reads the input to its end.
    pub(crate) fn fill(self, input: &Input, sync: Sync) -> Result<Staged<'d, Filled>> {
        let writeback = match sync {
            Sync::None => Writeback::Late,
            Sync::File | Sync::Full => Writeback::Early,
        };
        let size = transfer::copy(input.file(), input.metadata(), self.file.as_fd(), writeback)
            .map_err(|broken| match broken {
                Broken::Reading(errno) => anyhow!(errno).context(input.cannot_read()),
                Broken::Writing(errno) => anyhow!(errno).context(cannot_write(self.destination)),
            })?;
        Ok(self.into_phase(Filled { size }))
    }
}

impl<'d> Staged<'d, Filled> {
    pub(crate) fn size(&self) -> u64 {
        self.phase.size
    }

    /// Gives the file what DEST shall look like, and puts it on the disk.
    pub(crate) fn seal(self, attributes: &Attributes, sync: Sync) -> Result<Staged<'d, Sealed>> {
        let destination = self.destination;
        let had_name = matches!(self.origin, Origin::Named(_));
        let warnings = attributes.put_on(self.file.as_fd(), destination, had_name)?;
        if sync != Sync::None {
            sys::sync_file(&self.file).with_context(|| cannot_write(destination))?;
        }
        sys::close_error(&self.file).with_context(|| cannot_write(destination))?;
        let size = self.phase.size;
        Ok(self.into_phase(Sealed {
            size,
            sync,
            warnings,
        }))
    }
}

impl<'d> Staged<'d, Sealed> {
    /// Renames the file to DEST. Until the rename DEST is the old file; after it, the new one.
    pub(crate) fn commit(self, overwrite: Overwrite) -> Result<Committed<'d>, Failure> {
        let Self {
            destination,
            origin,
            file,
            phase:
                Sealed {
                    size,
                    sync,
                    warnings,
                },
        } = self;
        signals::hold()?;
        let mut parents = Parents::make(destination)?;
        let directory = parents.innermost().fd.as_fd();
        let (name, needs_sync) = match origin {
            Origin::Named(name) => (name, false),
            Origin::Unnamed(by) => (
                TempName::link(&file, by, directory, destination.name())
                    .with_context(|| cannot_write(destination))?,
                sync != Sync::None && !is_durable_without_a_name(&file),
            ),
        };
        if needs_sync {
            sys::sync_file(&file).with_context(|| cannot_write(destination))?;
        }
        match overwrite {
            Overwrite::Never => match name.rename_to_free(&file, directory, destination.name()) {
                Err(Errno::EXIST) => return Err(checks::exists(destination)),
                renamed => renamed.with_context(|| cannot_write(destination))?,
            },
            Overwrite::Writable | Overwrite::Any => name
                .rename(&file, directory, destination.name())
                .with_context(|| cannot_replace(destination))?,
        }
        parents.keep();
        Ok(Committed {
            destination,
            parents,
            file,
            phase: Sealed {
                size,
                sync,
                warnings,
            },
        })
    }
}

impl<'d, Phase> Staged<'d, Phase> {
    fn into_phase<Next>(self, phase: Next) -> Staged<'d, Next> {
        let Self {
            destination,
            origin,
            file,
            ..
        } = self;
        Staged {
            destination,
            origin,
            file,
            phase,
        }
    }
}

/// DEST is the new file.
#[derive(Debug)]
#[must_use = "the rename is durable only after make_durable"]
pub(crate) struct Committed<'d> {
    destination: &'d Destination,
    parents: Parents<'d>,
    file: OwnedFd,
    phase: Sealed,
}

impl Committed<'_> {
    /// Puts the new name on the disk, where that was asked for. An error leaves DEST new.
    pub(crate) fn make_durable(self) -> Result<Outcome, Failure> {
        if self.phase.sync == Sync::Full {
            self.sync_names().map_err(|errno| {
                let typed = self.destination.typed();
                Failure::Changed(anyhow!(errno).context(format!(
                    "cannot sync the directory of {typed}, which is new but may not survive power loss"
                )))
            })?;
        }
        let existing = self.destination.existing();
        Ok(Outcome {
            change: if existing.is_some() {
                Change::Replaced
            } else {
                Change::Created
            },
            destination: self.destination.path().to_owned(),
            size: self.phase.size,
            split_links: existing.map_or(0, |existing| existing.metadata.links.saturating_sub(1)),
            warnings: self.phase.warnings,
        })
    }

    fn sync_names(&self) -> Result<(), Errno> {
        for directory in self.parents.changed() {
            if directory.readable {
                sys::sync_directory(&directory.fd)?;
            } else {
                // It cannot be opened for fsync, but the file in it stands for its filesystem.
                sys::sync_filesystem(&self.file)?;
            }
        }
        Ok(())
    }
}

/// Opens a file without a name and makes sure that it can get one; `None` where either cannot be had.
fn unnamed(directory: BorrowedFd<'_>, mode: u32) -> Result<Option<(LinkBy, OwnedFd)>, Errno> {
    let Some(file) = sys::open_unnamed(directory, mode)? else {
        return Ok(None);
    };
    Ok(sys::probe_link(file.as_fd(), directory).map(|by| (by, file)))
}

/// An answer that we do not get is a no: to sync once more is never wrong.
fn is_durable_without_a_name(file: &OwnedFd) -> bool {
    matches!(sys::filesystem(file), Ok(FileSystem::SyncsUnnamed))
}

fn cannot_create(destination: &Destination) -> String {
    format!(
        "cannot create a file in the directory of {}",
        destination.typed()
    )
}

fn cannot_write(destination: &Destination) -> String {
    format!("cannot write {}", destination.typed())
}

fn cannot_replace(destination: &Destination) -> String {
    format!("cannot replace {}", destination.typed())
}
