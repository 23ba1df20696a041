//! A new file that waits for others, closed and under its own name where nobody else can look: many are renamed together.

use std::os::fd::BorrowedFd;

use anyhow::{Context, Result};

use super::commit::{give_name, outcome};
use super::{Origin, Sealed, Staged, cannot_write};
use crate::checks;
use crate::destination::Destination;
use crate::outcome::{Failure, Outcome};
use crate::request::Overwrite;
use crate::sys::{self, Identity, Metadata, Writers};
use crate::temp_name::TempName;

/// Who puts the content on the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flush {
    /// Nobody.
    Never,
    /// An fsync of each file.
    Each,
    /// One syncfs for all of them, later.
    Once,
}

/// A new file that waits.
#[derive(Debug)]
pub(crate) struct Shelved<'d> {
    destination: &'d Destination,
    name: TempName<'d>,
    /// `None` where nobody else saw the file, and the answer to a rename cannot get lost.
    identity: Option<Identity>,
    /// What a file was that a program of the user's has judged. Its time is set back by a second while it waits, so that
    /// a write shows however fast it follows.
    judged: Option<Metadata>,
    size: u64,
    warnings: Vec<String>,
}

impl<'d> Staged<'d, Sealed> {
    /// Closes the file, and takes what errors are left to be told.
    pub(crate) fn shelve(self, flush: Flush) -> Result<Shelved<'d>> {
        let destination = self.destination;
        let cannot_write = || cannot_write(destination);
        if flush == Flush::Each {
            sys::sync_file(&self.file).with_context(cannot_write)?;
        }
        let (staged, Sealed { content, warnings }) = self.split();
        let Origin::Named(name) = staged.origin else {
            unreachable!("only a file with a name can wait without being open");
        };
        let (mut identity, mut judged) = (None, None);
        if flush != Flush::Once || name.was_shown() {
            let seen = sys::metadata(&staged.file).with_context(cannot_write)?;
            identity = Some(seen.identity);
            if name.was_shown() {
                sys::set_modified(&staged.file, seen.modified.second_before())
                    .with_context(cannot_write)?;
                judged = Some(seen);
            }
        }
        sys::close(staged.file).with_context(cannot_write)?;
        Ok(Shelved {
            destination,
            name,
            identity,
            judged,
            size: content.size,
            warnings,
        })
    }
}

impl<'d> Shelved<'d> {
    pub(crate) fn destination(&self) -> &'d Destination {
        self.destination
    }

    /// Refuses a file that somebody has changed, or may yet change, since it was judged. To be called when the last of the
    /// user's programs has ended.
    pub(crate) fn still_as_judged(&self) -> Result<(), Failure> {
        let Some(judged) = self.judged else {
            return Ok(());
        };
        let expected = Metadata {
            modified: judged.modified.second_before(),
            ..judged
        };
        let may_change = || {
            let file = self.name.open();
            file.is_ok_and(|file| sys::writers(file) == Writers::Somebody)
        };
        if self.name.metadata() != Some(expected) || may_change() {
            return Err(checks::was_changed_by_validator(self.destination));
        }
        let put_right = self.name.set_modified(judged.modified);
        Ok(put_right.with_context(|| cannot_write(self.destination))?)
    }

    /// What could not be done as the user might expect.
    pub(crate) fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Renames the file to DEST, in `directory`. To be called while signals wait.
    pub(crate) fn commit(
        self,
        directory: BorrowedFd<'_>,
        overwrite: Overwrite,
        exchange: impl FnOnce(TempName<'d>) -> Result<Option<TempName<'d>>, Failure>,
    ) -> Result<Outcome, Failure> {
        let Self {
            destination,
            name,
            identity,
            size,
            ..
        } = self;
        give_name(name, &identity, directory, destination, overwrite, exchange)?;
        Ok(outcome(destination, size))
    }
}
