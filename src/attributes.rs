//! The attributes of the new file: owner, group, mode, ACL, extended attributes.
//!
//! Invariant: the attributes come from the old file, unless the user asked for others, and all are
//! applied before the file is visible as DEST. If one cannot be preserved, the file still is not
//! accessible to more users than the old file was.

mod apply;
mod names;

use std::collections::BTreeMap;
use std::ffi::CString;
use std::os::fd::BorrowedFd;
use std::time::Duration;

use anyhow::{Context, Error, Result, anyhow};

use self::apply::Applier;
use self::names::Database;
use crate::destination::{Destination, Opened, Seen};
use crate::message::Chain;
use crate::mode::ModeChange;
use crate::outcome::Failure;
use crate::request::{AttributeOptions, Group, Keep};
use crate::signals;
use crate::sys::{self, Acl, Errno, Kind, Metadata, Times};

const SET_ID: u32 = 0o6000;
const SET_GID: u32 = 0o2000;

/// How often the attributes of an open file are read that another client of an NFS or SMB server
/// replaces.
const MAX_READS: usize = 100;

const READ_PAUSE: Duration = Duration::from_millis(20);

/// The attributes that the new file gets from the old file and from the user's options.
#[derive(Debug, Clone)]
pub(crate) struct Attributes {
    keep: Keep,
    old: Option<Old>,
    /// The mode of a new DEST, before the umask.
    mode_of_new: u32,
    owner: Option<u32>,
    group: Option<u32>,
    change: Option<ModeChange>,
    /// SOURCE's times, for `--preserve-timestamps`.
    times: Option<Times>,
}

/// The attributes that the new file should have. They are compared just before the commit, so that
/// a change by another process during the run is not undone.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    uid: u32,
    gid: u32,
    mode: u32,
    acl: Option<Acl>,
    others: BTreeMap<CString, Vec<u8>>,
}

/// The requested owner and group, as numbers.
#[derive(Debug, Clone, Copy)]
pub(crate) struct OwnerGroup {
    user: Option<u32>,
    group: Option<u32>,
}

impl OwnerGroup {
    /// Looks up the names that the user gave.
    pub(crate) fn look_up(options: &AttributeOptions) -> Result<Self> {
        let owner = options.owner.as_deref();
        let user = owner.map(|name| Database::User.id(name)).transpose()?;
        let group = match (&options.group, owner) {
            (Some(Group::Named(name)), _) => Some(Database::Group.id(name)?),
            (Some(Group::OfOwner), Some(owner)) => Some(names::login_group(owner)?),
            (Some(Group::OfOwner) | None, _) => None,
        };
        Ok(Self { user, group })
    }
}

/// The attributes of the old file.
#[derive(Debug, Clone)]
struct Old {
    uid: u32,
    gid: u32,
    mode: u32,
    acl: Option<Acl>,
    others: BTreeMap<CString, Vec<u8>>,
    /// The chattr(1) letters of its flags. Read only with `--keep=all`, for a warning.
    flags: String,
    /// The attributes that exist but that we may not read.
    unreadable: Vec<(CString, Errno)>,
    /// The file has vanished, and what is not known of it may matter.
    is_gone: bool,
}

/// The mode that the new file is created with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum InitialMode {
    /// The mode of a new DEST: these bits minus the umask, or restricted by the directory's default
    /// ACL.
    FromUmask(u32),
    /// 0600: the file will get the mode of the old file, or it has a name by which other users
    /// could open it too early.
    Private,
}

impl InitialMode {
    pub(crate) fn bits(self) -> u32 {
        match self {
            Self::FromUmask(mode) => mode,
            Self::Private => 0o600,
        }
    }
}

impl Attributes {
    /// Returns the attributes that the user asked for. `mode_of_new` is the mode of a new DEST,
    /// before the umask. `times` are SOURCE's.
    pub(crate) fn requested(
        options: &AttributeOptions,
        owners: OwnerGroup,
        mode_of_new: u32,
        times: Option<Times>,
    ) -> Self {
        Self {
            keep: options.keep,
            old: None,
            mode_of_new,
            owner: owners.user,
            group: owners.group,
            change: options.mode.clone(),
            times: times.filter(|_| options.preserve_times),
        }
    }

    /// Returns the attributes for a copy of the old file.
    pub(crate) fn for_copy() -> Self {
        Self {
            keep: Keep::Try,
            old: None,
            mode_of_new: 0o600,
            owner: None,
            group: None,
            change: None,
            times: None,
        }
    }

    /// Returns these attributes with those of the open file added.
    pub(crate) fn of(&self, destination: &Destination, opened: &Opened) -> Result<Self> {
        Ok(Self {
            old: Some(Old::read(destination, opened, self.keep)?),
            ..self.clone()
        })
    }

    /// Returns these attributes with those of the current DEST added, as far as `--keep` says. Also
    /// returns what has DEST's name now. `seen` is what had it a moment ago.
    pub(crate) fn read_from(
        &self,
        destination: &Destination,
        seen: Option<Metadata>,
    ) -> Result<(Self, Option<Metadata>)> {
        let none = || Self {
            old: None,
            ..self.clone()
        };
        if self.keep == Keep::None {
            return Ok((none(), destination.snapshot()?));
        }
        let mut reads = 1;
        loop {
            return Ok(match (destination.open_or_see(seen)?, seen) {
                // The user who planted the file chose its mode and ACL.
                (Seen::Regular(opened), _) if destination.is_shared_trap(&opened.metadata) => {
                    (none(), Some(opened.metadata))
                }
                (Seen::Regular(opened), _) => match self.of(destination, &opened) {
                    Err(error) if reads < MAX_READS && is_gone(&error, destination) => {
                        reads += 1;
                        signals::pause(READ_PAUSE)?;
                        continue;
                    }
                    attributes => (attributes?, Some(opened.metadata)),
                },
                // DEST was there a moment ago, and other users may not be able to read it.
                (Seen::Other(now), Some(seen))
                    if seen.kind == Kind::Regular && !destination.is_shared_trap(&seen) =>
                {
                    // With an ACL, the bits of the group are the mask.
                    let mode = apply::revoke_group(seen.mode);
                    let old = Some(Old {
                        mode,
                        is_gone: mode != seen.mode || self.keep == Keep::All,
                        ..Old::of(&seen)
                    });
                    (Self { old, ..none() }, now)
                }
                (Seen::Other(now), _) => (none(), now),
            });
        }
    }

    /// Returns what the new file should have. `None` if nothing comes from an old file.
    pub(crate) fn plan(&self) -> Option<Plan> {
        let old = self.old.as_ref()?;
        Some(Plan {
            uid: self.owner.unwrap_or(old.uid),
            gid: self.group.unwrap_or(old.gid),
            mode: self.changed(old.mode),
            acl: old.acl.clone(),
            others: old.others.clone(),
        })
    }

    /// Removes the attributes that the file has from `before` and that the old file has lost.
    pub(crate) fn remove_gone(&self, before: &Self, file: BorrowedFd<'_>) {
        let others = |of: &Self| of.old.as_ref().map(|old| old.others.clone());
        let (now, before) = (others(self), others(before));
        for name in before.unwrap_or_default().into_keys() {
            if now.as_ref().is_none_or(|now| !now.contains_key(&name)) {
                // An error means that the attribute could not be set.
                let _ = sys::remove_attribute(file, &name);
            }
        }
    }

    /// Applies `--mode` to a mode.
    fn changed(&self, mode: u32) -> u32 {
        match &self.change {
            Some(change) => change.apply(mode, sys::umask),
            None => mode,
        }
    }

    /// Returns true if the user asked for a mode, an owner or a group that the file does not have.
    pub(crate) fn would_change(&self, existing: &Metadata) -> bool {
        let mode = self.changed(existing.mode);
        let uid = self.owner.unwrap_or(existing.uid);
        let gid = self.group.unwrap_or(existing.gid);
        (mode, uid, gid) != (existing.mode, existing.uid, existing.gid)
    }

    /// Returns the mode for creating the new file, if `existing` has DEST's name.
    pub(crate) fn initial_mode(&self, existing: Option<Metadata>) -> InitialMode {
        match existing {
            Some(old) if self.keep != Keep::None && old.kind == Kind::Regular => {
                InitialMode::Private
            }
            _ => InitialMode::FromUmask(self.mode_of_new),
        }
    }

    /// Prepares a file that is overwritten in place, and is as it was `before`: removes the
    /// permissions that `--mode` or a new group does not grant, and sets the owner and the group.
    /// Added permissions come after the new content, because the old content is not for those
    /// users. After an error, and until the first byte is written, [`Self::release`] ends this.
    pub(crate) fn restrict(
        &self,
        file: BorrowedFd<'_>,
        destination: &Destination,
        before: &Metadata,
    ) -> Result<()> {
        let restricted = self.restricted(before);
        if restricted != before.mode {
            let what = if self.change.is_some() {
                "mode"
            } else if before.mode & !SET_ID == restricted {
                "owner"
            } else {
                "group"
            };
            sys::set_mode(file, restricted)
                .with_context(|| destination.cannot(&format!("set the {what} of")))?;
        }
        let applier = Applier::new(self, file, destination);
        applier.chown_as_asked(before)?;
        applier.verify()
    }

    /// Returns the mode of a file while it is overwritten in place.
    fn restricted(&self, before: &Metadata) -> u32 {
        let mode = before.mode & self.changed(before.mode);
        match (self.owner, self.group) {
            (_, Some(gid)) if gid != before.gid => mode & !(SET_ID | 0o070),
            (Some(uid), _) if uid != before.uid => mode & !SET_ID,
            _ => mode,
        }
    }

    /// Gives a file whose content is old the mode from `before` [`Self::restrict`], and returns the
    /// failure. An owner and a group that were set stay, and so does the mode: the new owner may
    /// have opened the file, and would write to what belongs to the old one.
    pub(crate) fn release(&self, file: BorrowedFd<'_>, before: &Metadata, error: Error) -> Failure {
        let release = || {
            let now = sys::metadata(file)?;
            let has_owner = (now.uid, now.gid) == (before.uid, before.gid);
            // Another process may have set the mode since.
            let is_restricted = now.mode & !SET_ID == self.restricted(before) & !SET_ID;
            if has_owner && is_restricted && now.mode != before.mode {
                sys::set_mode(file, before.mode)?;
            }
            // chmod drops a set-group-ID bit without an error.
            let has_mode = sys::metadata(file)?.mode == before.mode;
            Ok::<_, Errno>(has_owner && (has_mode || !is_restricted))
        };
        let is_released = release() == Ok(true);
        match error.into() {
            Failure::Failed(error) if !is_released => Failure::Uncertain(anyhow!(
                "{}; the content is old, and the mode, owner or group may be new",
                Chain(&error)
            )),
            failure => failure,
        }
    }

    /// Returns true if the user asked for a mode, an owner or a group.
    fn asks_for_any(&self) -> bool {
        self.change.is_some() || self.owner.is_some() || self.group.is_some()
    }

    /// Gives a file that was overwritten in place the mode that the user asked for, or the one from
    /// `before` [`Self::restrict`].
    pub(crate) fn apply_requested(
        &self,
        file: BorrowedFd<'_>,
        destination: &Destination,
        before: &Metadata,
    ) -> Result<()> {
        if self.asks_for_any() {
            let mut applier = Applier::new(self, file, destination);
            applier.change_mode(before)?;
            applier.verify()?;
        }
        self.set_times(file, destination)
    }

    /// Sets the times for `--preserve-timestamps`. Must come after all other changes to the file.
    pub(crate) fn set_times(&self, file: BorrowedFd<'_>, destination: &Destination) -> Result<()> {
        match self.times {
            Some(times) => set_times(file, destination, times),
            None => Ok(()),
        }
    }

    /// Returns an error if the user asked for a mode or times, and this process may not set those
    /// of the file. Sets those that the file has already.
    pub(crate) fn may_be_set(&self, file: BorrowedFd<'_>, destination: &Destination) -> Result<()> {
        if self.change.is_none() && self.times.is_none() {
            return Ok(());
        }
        let now = sys::metadata(file).with_context(|| destination.cannot("stat"))?;
        // On our own file, chmod succeeds, but may drop a set-group-ID bit.
        let may_be_dropped = now.mode & SET_GID != 0 && now.uid == sys::effective_uid();
        if self.changed(now.mode) != now.mode && !may_be_dropped {
            let cannot = || destination.cannot("set the mode of");
            sys::set_mode(file, now.mode).with_context(cannot)?;
        }
        match self.times {
            Some(_) => set_times(file, destination, now.times()),
            None => Ok(()),
        }
    }

    /// Applies the attributes to the new file. Returns a warning for each that could not be
    /// preserved, if the user allows that.
    ///
    /// The order matters. chown comes first, because it clears set-id bits. User attributes come
    /// before the mode, because they need write permission. The ACL contains the final mode. The
    /// mode comes last, because an ACL attribute on NFS 4 sets the mode.
    pub(crate) fn apply(
        &self,
        file: BorrowedFd<'_>,
        destination: &Destination,
        initial: InitialMode,
    ) -> Result<Vec<String>> {
        if let (None, InitialMode::FromUmask(_), false) = (&self.old, initial, self.asks_for_any())
        {
            // The kernel has set the mode already.
            self.set_times(file, destination)?;
            return Ok(Vec::new());
        }
        let mut applier = Applier::new(self, file, destination);
        let now = applier.metadata()?;
        match &self.old {
            None => applier.make_new(&now, initial)?,
            Some(old) => {
                applier.make_like(old, &now)?;
                applier.warn_of_flags(old);
            }
        }
        applier.verify()?;
        self.set_times(file, destination)?;
        Ok(applier.warnings)
    }
}

fn set_times(file: BorrowedFd<'_>, destination: &Destination, times: Times) -> Result<()> {
    sys::set_times(file, times).with_context(|| destination.cannot("set the times of"))
}

impl Old {
    /// Returns what stat(2) shows without opening the file.
    fn of(seen: &Metadata) -> Self {
        let Metadata { uid, gid, mode, .. } = *seen;
        Self {
            uid,
            gid,
            mode,
            acl: None,
            others: BTreeMap::new(),
            flags: String::new(),
            unreadable: Vec::new(),
            is_gone: false,
        }
    }

    fn read(destination: &Destination, opened: &Opened, keep: Keep) -> Result<Self> {
        let file = opened.readable();
        let cannot_read = || destination.cannot("read the attributes of");
        let mut old = Self::of(&opened.metadata);
        if let (Keep::All, Some(file)) = (keep, opened.content()) {
            old.flags = sys::chattr_flags(file);
        }
        // An ACL changes the meaning of the mode. Without the list of attributes we cannot know
        // whether there is one, and no guess is safe.
        for name in sys::list_attributes(file).with_context(cannot_read)? {
            match sys::read_attribute(file, &name) {
                Ok(Some(value)) if sys::is_acl(&name) => {
                    let acl = Acl::parse(value).with_context(|| {
                        format!("cannot parse the ACL of {}", destination.display())
                    })?;
                    old.acl = Some(acl);
                }
                Ok(Some(value)) => drop(old.others.insert(name, value)),
                // The attribute was removed after the listing.
                Ok(None) => {}
                Err(errno) if is_grave(errno) || sys::is_acl(&name) => {
                    return Err(errno).with_context(cannot_read);
                }
                Err(errno) => old.unreadable.push((name, errno)),
            }
        }
        Ok(old)
    }
}

/// Returns true for an error of the disk or the machine, rather than of permissions or support.
fn is_grave(errno: Errno) -> bool {
    matches!(
        errno,
        Errno::IO | Errno::NOSPC | Errno::DQUOT | Errno::ROFS | Errno::NOMEM
    )
}

/// Returns whether an open file is gone from its server (NFS, SMB).
fn is_gone(error: &anyhow::Error, destination: &Destination) -> bool {
    let errno = error.downcast_ref().copied();
    !destination.filesystem().is_local() && matches!(errno, Some(Errno::NOENT | Errno::STALE))
}
