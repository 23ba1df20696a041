//! What the new file looks like: owner, group, mode, ACL, extended attributes.
//!
//! The rule: read from the old file, overridden by what the user asked for, and all of it in place before the file can be
//! seen as DEST. What cannot be kept never makes the file open to more people than the old one was.

mod acl;
mod mode;
mod names;

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd};

use anyhow::{Context, Result, anyhow};

use self::acl::Acl;
pub(crate) use self::mode::ModeChange;
use self::names::Database;
use crate::destination::{Destination, Opened};
use crate::message::{Chain, Quoted};
use crate::request::{Keep, Look};
use crate::source::Input;
use crate::sys::{self, Errno, Kind, Metadata};

const SET_ID: u32 = 0o6000;

/// Not kept: these vouch for the content, or give it power, and new content has not earned them.
const NEVER_KEPT: [&CStr; 3] = [c"security.capability", c"security.ima", c"security.evm"];

/// What the new file shall look like.
#[derive(Debug)]
pub(crate) struct Attributes {
    keep: Keep,
    old: Option<Old>,
    /// The bits that a new DEST is asked for with.
    mode_of_new: u32,
    owner: Option<u32>,
    group: Option<u32>,
    change: Option<ModeChange>,
}

/// The owner and the group that the user asked for, as numbers.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Owners {
    user: Option<u32>,
    group: Option<u32>,
}

impl Owners {
    /// Looks up the names that the user gave.
    pub(crate) fn look_up(look: &Look) -> Result<Self> {
        let number = |database: Database, name: &Option<_>| -> Result<Option<u32>> {
            name.as_deref().map(|name| database.id(name)).transpose()
        };
        Ok(Self {
            user: number(Database::User, &look.owner)?,
            group: number(Database::Group, &look.group)?,
        })
    }
}

/// What the old file looks like.
#[derive(Debug)]
struct Old {
    uid: u32,
    gid: u32,
    mode: u32,
    acl: Option<Acl>,
    others: Vec<(CString, Vec<u8>)>,
    /// There, but not for us to read.
    unreadable: Vec<(CString, Errno)>,
}

/// With which mode the new file began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Birth {
    /// That of a new DEST, by the kernel: less the umask, or by the directory's default ACL.
    AsNew(u32),
    /// 0600: it takes over an old mode, or has a name by which others could open it too early.
    Private,
}

impl Birth {
    pub(crate) fn mode(self) -> u32 {
        match self {
            Self::AsNew(mode) => mode,
            Self::Private => 0o600,
        }
    }
}

impl Attributes {
    /// Those that the user asked for.
    pub(crate) fn plan(look: &Look, owners: Owners, input: &Input<'_>) -> Self {
        Self {
            keep: look.keep,
            old: None,
            mode_of_new: input.mode(),
            owner: owners.user,
            group: owners.group,
            change: look.mode.clone(),
        }
    }

    /// Those of the old file, for a copy of it.
    pub(crate) fn of(destination: &Destination) -> Result<Self> {
        let mut attributes = Self {
            keep: Keep::Try,
            old: None,
            mode_of_new: 0o600,
            owner: None,
            group: None,
            change: None,
        };
        attributes.take_over(destination)?;
        Ok(attributes)
    }

    /// Reads those of what has DEST's name now, as far as they are to be kept. To be called when the input has ended,
    /// which may be hours after its beginning.
    pub(crate) fn take_over(&mut self, destination: &Destination) -> Result<()> {
        self.old = match self.keep {
            Keep::None => {
                destination.look_again()?;
                None
            }
            Keep::Try | Keep::All => match destination.open()? {
                Some(opened) => Some(Old::read(destination, &opened)?),
                None => None,
            },
        };
        Ok(())
    }

    /// Whether a mode, an owner or a group was asked for that the file does not have.
    pub(crate) fn would_change(&self, existing: &Metadata) -> bool {
        let mode = match &self.change {
            Some(change) => change.apply(existing.mode, sys::umask),
            None => existing.mode,
        };
        let uid = self.owner.unwrap_or(existing.uid);
        let gid = self.group.unwrap_or(existing.gid);
        (mode, uid, gid) != (existing.mode, existing.uid, existing.gid)
    }

    /// How to make the new file.
    pub(crate) fn birth(&self, destination: &Destination) -> Birth {
        match destination.existing() {
            Some(old) if self.keep != Keep::None && old.kind == Kind::Regular => Birth::Private,
            _ => Birth::AsNew(self.mode_of_new),
        }
    }

    /// The user that the new file will belong to, if that is decided; a leftover may be his.
    pub(crate) fn owner(&self, destination: &Destination) -> Option<u32> {
        self.owner
            .or_else(|| destination.existing().map(|existing| existing.uid))
    }

    /// Takes from a file that is to be overwritten where it is what the mode that was asked for does not give. What that
    /// gives in addition comes afterwards: the old content is not for those.
    pub(crate) fn narrow(&self, file: BorrowedFd<'_>, destination: &Destination) -> Result<()> {
        let Some(change) = &self.change else {
            return Ok(());
        };
        let cannot = || format!("cannot set the mode of {}", destination.typed());
        let now = sys::metadata(file).with_context(cannot)?.mode;
        let narrow = now & change.apply(now, sys::umask);
        if narrow != now {
            sys::set_mode(file, narrow).with_context(cannot)?;
        }
        Ok(())
    }

    /// Whether a mode, an owner or a group was asked for.
    fn asks_for_any(&self) -> bool {
        self.change.is_some() || self.owner.is_some() || self.group.is_some()
    }

    /// Puts only what was asked for explicitly on a file that is to be overwritten where it is.
    pub(crate) fn put_what_was_asked_for(
        &self,
        file: BorrowedFd<'_>,
        destination: &Destination,
    ) -> Result<()> {
        if !self.asks_for_any() {
            return Ok(());
        }
        let mut work = Work {
            attributes: self,
            file,
            destination,
            warnings: Vec::new(),
        };
        let now = sys::metadata(file).with_context(|| work.cannot("look at"))?;
        work.chown(&now, self.owner, self.group, now.uid, now.gid)?;
        match &self.change {
            Some(change) => work.chmod(now.mode, change.apply(now.mode, sys::umask)),
            None => Ok(()),
        }
    }

    /// Puts them on the new file. Gives a warning for each that could not be kept, if that is allowed.
    ///
    /// The order matters: chown first, since it takes away set-id bits; user attributes before the mode, since a mode
    /// without the right to write forbids them; the ACL with the final mode in it, and the mode last.
    pub(crate) fn put_on(
        &self,
        file: BorrowedFd<'_>,
        destination: &Destination,
        birth: Birth,
    ) -> Result<Vec<String>> {
        if let (None, Birth::AsNew(_), false) = (&self.old, birth, self.asks_for_any()) {
            // The kernel has made it as it shall be.
            return Ok(Vec::new());
        }
        let mut work = Work {
            attributes: self,
            file,
            destination,
            warnings: Vec::new(),
        };
        let now = sys::metadata(file).with_context(|| work.cannot("look at"))?;
        match &self.old {
            None => work.make_new(&now, birth)?,
            Some(old) => work.make_like(old, &now)?,
        }
        Ok(work.warnings)
    }
}

impl Old {
    fn read(destination: &Destination, opened: &Opened) -> Result<Self> {
        let file = opened.readable();
        let cannot_read = || format!("cannot read the attributes of {}", destination.typed());
        let Metadata { uid, gid, mode, .. } = opened.metadata;
        let mut old = Self {
            uid,
            gid,
            mode,
            acl: None,
            others: Vec::new(),
            unreadable: Vec::new(),
        };
        // Without the list we do not know of an ACL, by which the mode means something else: no guess is safe.
        for name in sys::list_attributes(file).with_context(cannot_read)? {
            if NEVER_KEPT.contains(&name.as_c_str()) || acl::is_copy(&name) {
                continue;
            }
            match sys::read_attribute(file, &name) {
                Ok(value) if name.as_c_str() == acl::ACCESS => {
                    let acl = Acl::parse(value).with_context(|| {
                        format!("cannot understand the ACL of {}", destination.typed())
                    })?;
                    old.acl = Some(acl);
                }
                Ok(value) => old.others.push((name, value)),
                // Removed since it was listed.
                Err(Errno::NODATA) => {}
                Err(errno) if is_grave(errno) || name.as_c_str() == acl::ACCESS => {
                    return Err(errno).with_context(cannot_read);
                }
                Err(errno) => old.unreadable.push((name, errno)),
            }
        }
        Ok(old)
    }
}

/// An error of the disk or of the machine, and not a lack of permission or of support.
fn is_grave(errno: Errno) -> bool {
    matches!(
        errno,
        Errno::IO | Errno::NOSPC | Errno::DQUOT | Errno::ROFS | Errno::NOMEM
    )
}

/// One file being given its attributes.
struct Work<'a> {
    attributes: &'a Attributes,
    file: BorrowedFd<'a>,
    destination: &'a Destination,
    warnings: Vec<String>,
}

/// Whether something of the old file is on the new one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kept {
    Yes,
    No,
}

impl Work<'_> {
    /// A new DEST, or one that keeps nothing.
    fn make_new(&mut self, now: &Metadata, birth: Birth) -> Result<()> {
        let wanted = self.attributes;
        self.chown(now, wanted.owner, wanted.group, now.uid, now.gid)?;
        let base = match birth {
            Birth::AsNew(_) => now.mode,
            Birth::Private => self.mode_of_new()?,
        };
        let mode = self.changed(base);
        if mode == now.mode {
            return Ok(());
        }
        match sys::set_mode(self.file, mode) {
            Err(errno) if wanted.change.is_some() || is_grave(errno) => {
                Err(errno).with_context(|| self.cannot("set the mode of"))
            }
            // The filesystem has modes of its own (vfat); it is not for us to keep what never was.
            Err(errno) => self.check_mode(mode, errno),
            Ok(()) => self.check_mode(mode, Errno::PERM),
        }
    }

    /// A DEST that takes over what the old one had.
    fn make_like(&mut self, old: &Old, now: &Metadata) -> Result<()> {
        let wanted = self.attributes;
        let (owner, group) = self.chown(now, wanted.owner, wanted.group, old.uid, old.gid)?;
        for (name, value) in &old.others {
            self.set_attribute(name, value)?;
        }
        for (name, errno) in &old.unreadable {
            self.lose_attribute(name, *errno)?;
        }
        let mut old_mode = old.mode;
        let same_owner = owner == Kept::Yes && wanted.owner.is_none_or(|uid| uid == old.uid);
        let same_group = group == Kept::Yes && wanted.group.is_none_or(|gid| gid == old.gid);
        if !(same_owner && same_group) {
            old_mode &= !SET_ID;
        }
        let Some(acl) = &old.acl else {
            self.remove_acl()?;
            if group == Kept::No {
                old_mode = without_group(old_mode);
            }
            return self.chmod(now.mode, self.changed(old_mode));
        };
        let mut acl = acl.clone();
        if group == Kept::No {
            acl.limit_group();
        }
        let mode = self.changed(old_mode & !0o007 | acl.others());
        // With the mode that it will have: nobody may open a file by the list who will not by the mode.
        acl.set_mode(mode);
        match sys::set_attribute(self.file, acl::ACCESS, acl.as_bytes()) {
            // The mode's group bits are the list's mask; chmod sets both.
            Ok(()) => self.chmod_always(mode),
            Err(errno) => {
                self.lose("ACL", errno)?;
                self.remove_acl()?;
                self.chmod(now.mode, self.changed(old_mode & !0o077 | acl.least()))
            }
        }
    }

    fn changed(&self, mode: u32) -> u32 {
        match &self.attributes.change {
            Some(change) => change.apply(mode, sys::umask),
            None => mode,
        }
    }

    /// Changes owner and group: those asked for must succeed, those of the old file should.
    fn chown(
        &mut self,
        now: &Metadata,
        owner: Option<u32>,
        group: Option<u32>,
        old_owner: u32,
        old_group: u32,
    ) -> Result<(Kept, Kept)> {
        let uid = Some(owner.unwrap_or(old_owner)).filter(|uid| *uid != now.uid);
        let gid = Some(group.unwrap_or(old_group)).filter(|gid| *gid != now.gid);
        if uid.is_none() && gid.is_none() || sys::set_owner(self.file, uid, gid).is_ok() {
            return Ok((Kept::Yes, Kept::Yes));
        }
        // Not both at once; perhaps one of them. The group first: once the file is another's, it is not ours to change.
        let group_kept = match gid.map(|gid| sys::set_owner(self.file, None, Some(gid))) {
            Some(Err(errno)) if group.is_some() => {
                return Err(errno).with_context(|| self.cannot("set the group of"));
            }
            Some(Err(errno)) => self.lose("group", errno)?,
            _ => Kept::Yes,
        };
        let owner_kept = match uid.map(|uid| sys::set_owner(self.file, Some(uid), None)) {
            Some(Err(errno)) if owner.is_some() => {
                return Err(errno).with_context(|| self.cannot("set the owner of"));
            }
            Some(Err(errno)) => self.lose("owner", errno)?,
            _ => Kept::Yes,
        };
        Ok((owner_kept, group_kept))
    }

    fn set_attribute(&mut self, name: &CStr, value: &[u8]) -> Result<()> {
        match sys::set_attribute(self.file, name, value) {
            Ok(()) => Ok(()),
            // A security module refuses even what is there already; then nothing is lost.
            Err(_)
                if sys::read_attribute(sys::Readable::File(self.file), name).as_deref()
                    == Ok(value) =>
            {
                Ok(())
            }
            Err(errno) => self.lose_attribute(name, errno),
        }
    }

    fn lose_attribute(&mut self, name: &CStr, errno: Errno) -> Result<()> {
        let name = name.to_string_lossy();
        self.lose(&format!("attribute {}", Quoted::new(name.as_ref())), errno)
            .map(|_| ())
    }

    /// Takes away what the directory gave to a file whose old one has none.
    fn remove_acl(&mut self) -> Result<()> {
        // To ask first is cheaper: a removal is a transaction of the filesystem even if there is nothing to remove.
        sys::has_attribute(self.file, acl::ACCESS)
            .and_then(|inherited| {
                if inherited {
                    sys::remove_attribute(self.file, acl::ACCESS)
                } else {
                    Ok(())
                }
            })
            .with_context(|| self.cannot("remove the inherited ACL of"))
    }

    fn chmod(&mut self, now: u32, mode: u32) -> Result<()> {
        if mode == now {
            Ok(())
        } else {
            self.chmod_always(mode)
        }
    }

    fn chmod_always(&mut self, mode: u32) -> Result<()> {
        match sys::set_mode(self.file, mode) {
            Err(errno) if self.attributes.change.is_some() => {
                Err(errno).with_context(|| self.cannot("set the mode of"))
            }
            Err(errno) => self.lose("mode", errno).map(|_| ()),
            // The kernel drops the set-gid bit without an error where we are not in the group (chmod(2)).
            Ok(()) if mode & SET_ID != 0 => {
                let now = sys::metadata(self.file).with_context(|| self.cannot("look at"))?;
                match (now.mode == mode, &self.attributes.change) {
                    (true, _) => Ok(()),
                    (false, Some(_)) => {
                        Err(Errno::PERM).with_context(|| self.cannot("set the set-group-ID bit of"))
                    }
                    (false, None) => self.lose("set-group-ID bit", Errno::PERM).map(|_| ()),
                }
            }
            Ok(()) => Ok(()),
        }
    }

    /// A new file has another mode than it should: worth a warning, or a failure if the mode was asked for.
    fn check_mode(&mut self, mode: u32, errno: Errno) -> Result<()> {
        let now = sys::metadata(self.file).with_context(|| self.cannot("look at"))?;
        if now.mode != mode {
            let error = anyhow!(errno).context(self.cannot("set the mode of"));
            if self.attributes.change.is_some() {
                return Err(error);
            }
            self.warnings.push(Chain(&error).to_string());
        }
        Ok(())
    }

    /// What the kernel would have given to a new file that did not begin with 0600.
    fn mode_of_new(&self) -> Result<u32> {
        let mode = self.attributes.mode_of_new;
        let directory = self.destination.directory();
        let readable = if directory.readable {
            sys::Readable::File(directory.fd.as_fd())
        } else {
            sys::Readable::Handle(directory.fd.as_fd())
        };
        match sys::read_attribute(readable, acl::DEFAULT) {
            Ok(value) => Ok(match Acl::parse(value) {
                Some(default) => default.mode_of_new(mode),
                None => mode & !sys::umask(),
            }),
            Err(Errno::NODATA | Errno::OPNOTSUPP | Errno::NOSYS) => Ok(mode & !sys::umask()),
            Err(errno) => Err(errno).with_context(|| self.cannot("look at the directory of")),
        }
    }

    /// Something cannot be kept: a warning, or a failure if all was to be kept, or if the error is a grave one.
    fn lose(&mut self, what: &str, errno: Errno) -> Result<Kept> {
        let error = anyhow!(errno).context(self.cannot(&format!("keep the {what} of")));
        if self.attributes.keep == Keep::All || is_grave(errno) {
            return Err(error);
        }
        self.warnings.push(Chain(&error).to_string());
        Ok(Kept::No)
    }

    fn cannot(&self, verb: &str) -> String {
        format!("cannot {verb} {}", self.destination.typed())
    }
}

/// The owning group could not be kept: the new one gets no more than others have, and others, whom the old group's
/// members now belong to, no more than that had.
fn without_group(mode: u32) -> u32 {
    let (group, others) = (mode >> 3 & 7, mode & 7);
    mode & !0o077 | (group & others) << 3 | (group & others)
}
