//! A new file of `-t`, closed, under its own name in a staging directory, until all are renamed.

use std::os::fd::{AsFd, OwnedFd};

use anyhow::{Context, Result, anyhow};

use super::commit::{MAX_RENAMES, Renaming, keeps_appearing, outcome, rename};
use super::seal::Seal;
use super::{Backing, CommitMethod, Sealed, Staged};
use crate::destination::Destination;
use crate::outcome::{Failure, Outcome};
use crate::request::Sync;
use crate::run_context::RunContext;
use crate::sys::{self, Errno, Identity, Metadata};
use crate::temp_name::TempName;

/// How the content of many files is synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flush {
    /// Not at all.
    Never,
    /// By an fsync of each file.
    Each,
    /// By one syncfs for all files, later.
    Once,
}

/// A complete new file that waits to be renamed.
#[derive(Debug)]
pub(crate) struct Pending<'d> {
    destination: &'d Destination,
    name: TempName,
    identity: Identity,
    size: u64,
    seal: Seal,
}

impl<'d> Staged<'d, Sealed> {
    /// Closes the file. Returns the errors that only close(2) reports.
    pub(crate) fn close_staged(self, flush: Flush) -> Result<Pending<'d>> {
        let destination = self.destination;
        let cannot_write = || destination.cannot("write");
        if flush == Flush::Each {
            self.sync_file()?;
        }
        let identity = sys::metadata(&self.file)
            .with_context(cannot_write)?
            .identity;
        let (staged, Sealed { content, seal }) = self.split();
        let CommitMethod::Rename(Backing::Named(name)) = staged.method else {
            return Err(anyhow!("{}: it has no name", cannot_write()));
        };
        sys::close(staged.file).with_context(cannot_write)?;
        Ok(Pending {
            destination,
            name,
            identity,
            size: content.size,
            seal,
        })
    }
}

impl<'d> Pending<'d> {
    pub(crate) fn destination(&self) -> &'d Destination {
        self.destination
    }

    /// Returns what had DEST's name a moment ago.
    pub(crate) fn seen(&self) -> Option<Metadata> {
        self.seal.seen
    }

    /// Returns warnings about the attributes that could not be preserved.
    pub(crate) fn warnings(&self) -> &[String] {
        &self.seal.warnings
    }

    /// Opens the file again and syncs it.
    pub(crate) fn sync(&self) -> Result<()> {
        open(&self.name, self.identity)
            .and_then(|file| sys::sync_file(&file))
            .with_context(|| self.destination.cannot("write"))
    }

    /// Applies DEST's attributes again, if they have changed since they were read. `destination` is
    /// DEST in its own directory.
    pub(crate) fn reseal(
        &mut self,
        destination: &Destination,
        context: &RunContext<'_>,
    ) -> Result<(), Failure> {
        let (name, identity) = (&self.name, self.identity);
        let opened = || open(name, identity).with_context(|| destination.cannot("write"));
        if let Some(file) = self.seal.renew(destination, context, opened)? {
            if context.sync() != Sync::None {
                sys::sync_file(&file).with_context(|| destination.cannot("write"))?;
            }
        }
        Ok(())
    }

    /// Renames the file to DEST. The run must be guarded.
    pub(crate) fn commit(
        mut self,
        destination: &Destination,
        context: &RunContext<'_>,
    ) -> Result<Outcome, Failure> {
        for _ in 0..MAX_RENAMES {
            let (new, seen) = (self.identity, self.seal.seen);
            let renamed = rename(&mut self.name, || Some(new), destination, seen, context)?;
            if let Renaming::Done { backup } = renamed {
                return Ok(outcome(destination, seen, self.size, backup));
            }
            self.reseal(destination, context)?;
        }
        Err(keeps_appearing(destination))
    }
}

/// Opens the file that was closed; fails with ESTALE if the name leads to another one. Adds read
/// permission for the moment if the mode denies it.
fn open(name: &TempName, identity: Identity) -> Result<OwnedFd, Errno> {
    let directory = name.directory().fd.as_fd();
    let file = match sys::open_existing(directory, name.name()) {
        Err(Errno::ACCESS) => {
            let handle = sys::open_handle(directory, name.name())?;
            let seen = handle.metadata()?;
            if seen.identity != identity {
                return Err(Errno::STALE);
            }
            handle.set_mode(seen.mode | 0o400)?;
            let file = sys::open_existing(directory, name.name());
            handle.set_mode(seen.mode)?;
            file?
        }
        opened => opened?,
    };
    if sys::metadata(&file)?.identity != identity {
        return Err(Errno::STALE);
    }
    Ok(file)
}
