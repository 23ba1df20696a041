//! What is the same for every file of a run.

use crate::attributes::OwnerGroup;
use crate::backup::Numbers;
use crate::checks::Rules;
use crate::message::Messages;
use crate::request::{Backups, Request, Sync};

/// What the user asked for, and what was found out once for all files.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RunContext<'r> {
    pub(crate) request: &'r Request,
    pub(crate) messages: Messages,
    pub(crate) owners: OwnerGroup,
    /// Of the backups that are there. Read again for the commit, which may come hours later.
    pub(crate) numbers: &'r Numbers,
    /// How a DEST that has the content already is put on the disk.
    pub(crate) sync_unchanged: Sync,
}

impl<'r> RunContext<'r> {
    pub(crate) fn rules(&self) -> Rules<'r> {
        Rules::of(self.request)
    }

    pub(crate) fn backups(&self) -> Option<&'r Backups> {
        self.request.backups.as_ref()
    }

    pub(crate) fn sync(&self) -> Sync {
        self.request.sync
    }
}
