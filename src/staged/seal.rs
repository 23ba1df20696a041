//! The attributes of a sealed file, and their renewal just before the commit.
//!
//! Invariant: atomwrite does not undo a change that another process makes to DEST's attributes
//! during the run. `renew` compares the plan, which is what the new file should have.

use std::mem;
use std::os::fd::{AsFd, OwnedFd};

use crate::attributes::{Attributes, InitialMode};
use crate::checks::{self, Rules};
use crate::destination::Destination;
use crate::outcome::Failure;
use crate::request::{InPlace, Start};
use crate::run_context::RunContext;
use crate::sys::{self, Kind, Metadata};

/// The attributes of a new file.
#[derive(Debug)]
pub(super) struct Seal {
    pub(super) attributes: Attributes,
    /// What had DEST's name when the attributes were read.
    pub(super) seen: Option<Metadata>,
    /// The attributes that could not be preserved, as warnings.
    pub(super) warnings: Vec<String>,
}

impl Seal {
    /// Looks up DEST again. If the new file should now have different attributes, applies them to
    /// the file that `open` returns. A DEST that has appeared counts as an existing one. If DEST
    /// has vanished, or is a link that will be replaced, the file stays as planned. Returns the
    /// file if its attributes changed.
    pub(super) fn renew(
        &mut self,
        destination: &Destination,
        context: &RunContext<'_>,
        open: impl FnOnce() -> anyhow::Result<OwnedFd>,
    ) -> Result<Option<OwnedFd>, Failure> {
        let latest = destination.snapshot()?;
        if context.request.start == Start::Old {
            checks::append_base(destination, self.seen, latest)?;
        }
        // A change within the same second may be invisible.
        let is_certain = latest.is_none_or(|latest| !latest.counts_seconds());
        if is_certain && Metadata::are_same(self.seen.as_ref(), latest.as_ref()) {
            return Ok(None);
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
        // The file may have a name, and its mode grants rights to whatever group it gets. If this
        // fails, the modes are fixed (vfat), or setting the final one fails as well.
        let initial = InitialMode::Private;
        let _ = sys::set_mode(&file, initial.bits());
        self.attributes.remove_gone(&before, file.as_fd());
        // The file has all that a new DEST would have. What is read from DEST is added.
        self.warnings = self.attributes.apply(file.as_fd(), destination, initial)?;
        Ok(Some(file))
    }
}
