//! What a sealed file's attributes were made from, and their renewal just before the commit.
//!
//! Invariant: what another process does to DEST's attributes while this run works is not undone. What is compared is the
//! plan, which is what this run would set, and not DEST's own values: two users who write in turn would disturb one another.

use std::mem;
use std::os::fd::{AsFd, OwnedFd};

use crate::attributes::{Attributes, InitialMode};
use crate::checks::{self, Rules};
use crate::destination::Destination;
use crate::outcome::Failure;
use crate::request::{InPlace, Start};
use crate::run_context::RunContext;
use crate::sys::{Kind, Metadata};

/// The attributes of a new file.
#[derive(Debug)]
pub(super) struct Seal {
    pub(super) attributes: Attributes,
    /// What had DEST's name when they were read.
    pub(super) seen: Option<Metadata>,
    /// What could not be kept.
    pub(super) warnings: Vec<String>,
}

impl Seal {
    /// Looks up DEST again, and applies its attributes again if this run would now set others. A DEST that has appeared is an
    /// existing one; one that has vanished, or is a link that will be replaced, is written as planned. Returns the file if it was changed. `open` opens it.
    pub(super) fn renew(
        &mut self,
        destination: &Destination,
        context: &RunContext<'_>,
        open: impl FnOnce() -> anyhow::Result<OwnedFd>,
    ) -> Result<Option<OwnedFd>, Failure> {
        let latest = destination.snapshot()?;
        if Metadata::are_same(self.seen.as_ref(), latest.as_ref()) {
            return Ok(None);
        }
        if context.request.start == Start::Old {
            checks::append_base(destination, self.seen, latest)?;
        }
        self.seen = latest;
        if latest.is_none() {
            return Ok(None);
        }
        let (attributes, seen) = self.attributes.read_from(destination, latest)?;
        if seen.is_none() {
            self.seen = None;
            return Ok(None);
        }
        let is_regular = seen.is_some_and(|seen| seen.kind == Kind::Regular);
        let in_place = InPlace::Never;
        let rules = Rules {
            in_place,
            ..context.rules()
        };
        checks::destination(destination, seen, rules)?;
        if !is_regular {
            self.seen = seen;
            return Ok(None);
        }
        let is_same = attributes.plan() == self.attributes.plan();
        let before = mem::replace(&mut self.attributes, attributes);
        self.seen = seen;
        if is_same {
            return Ok(None);
        }
        let file = open()?;
        self.attributes.remove_gone(&before, file.as_fd());
        // The file has all that a new DEST would have; what is read from DEST comes on top.
        self.warnings = self
            .attributes
            .apply(file.as_fd(), destination, InitialMode::Private)?;
        Ok(Some(file))
    }
}
