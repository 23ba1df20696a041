//! What the new file looks like: owner, group, mode, ACL, extended attributes.
//!
//! The rule: read from the old file, overridden by what the user asked for, and all of it in place before the file can be
//! seen as DEST. What cannot be kept never makes the file open to more people than the old one was.

mod acl;
mod mode;
mod names;
mod work;

use std::ffi::{CStr, CString};
use std::os::fd::BorrowedFd;

use anyhow::{Context, Result};

use self::acl::Acl;
pub(crate) use self::mode::ModeChange;
use self::names::Database;
use self::work::Work;
use crate::destination::{Destination, Opened};
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
