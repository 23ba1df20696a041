//! What is the same for every file of a run.

use crate::attributes::OwnerGroup;
use crate::backup::Numbers;
use crate::checks::Rules;
use crate::message::Messages;
use crate::request::{Backups, Request, Sync};

/// The user's request, and what was looked up once for all files.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RunContext<'r> {
    pub(crate) request: &'r Request,
    pub(crate) messages: Messages,
    pub(crate) owners: OwnerGroup,
    /// The numbers of the existing backups. Read again for the commit, which may come hours later.
    pub(crate) numbers: &'r Numbers,
    /// How to sync a DEST that has the content already.
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
