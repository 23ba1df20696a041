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
use crate::destination::{Destination, Existing};
use crate::message::{Chain, Quoted};
use crate::request::{Keep, Look};
use crate::source::Input;
use crate::sys::{self, Errno};

const SET_ID: u32 = 0o6000;

/// Not kept: these vouch for the content, or give it power, and new content has not earned them.
const NEVER_KEPT: [&CStr; 3] = [c"security.capability", c"security.ima", c"security.evm"];

/// What the new file shall look like.
#[derive(Debug)]
pub(crate) struct Attributes {
    old: Option<Old>,
    /// The bits that a new DEST is asked for with.
    mode_of_new: u32,
    strict: bool,
    owner: Option<u32>,
    group: Option<u32>,
    change: Option<ModeChange>,
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

impl Attributes {
    /// Reads the old file's, and looks up the names that the user gave.
    pub(crate) fn plan(destination: &Destination, look: &Look, input: &Input) -> Result<Self> {
        let lookup = |database: Database, name: &Option<_>| -> Result<Option<u32>> {
            name.as_deref().map(|name| database.id(name)).transpose()
        };
        let old = match destination.existing() {
            Some(existing) if look.keep != Keep::None => Old::read(destination, existing)?,
            _ => None,
        };
        Ok(Self {
            old,
            mode_of_new: input.mode(),
            strict: look.keep == Keep::All,
            owner: lookup(Database::User, &look.owner)?,
            group: lookup(Database::Group, &look.group)?,
            change: look.mode.clone(),
        })
    }

    /// The mode to create the new file with: what the kernel makes of it, with the umask or the directory's default
    /// ACL, is right for a new DEST. One that takes over an old mode is nobody's business until it has it.
    pub(crate) fn creation_mode(&self) -> u32 {
        match self.old {
            None => self.mode_of_new,
            Some(_) => 0o600,
        }
    }

    /// The user that the new file will belong to, if that is decided.
    pub(crate) fn owner(&self) -> Option<u32> {
        self.owner.or(self.old.as_ref().map(|old| old.uid))
    }

    /// Puts them on the new file. Gives a warning for each that could not be kept, if that is allowed.
    ///
    /// The order matters: chown first, since it takes away set-id bits; user attributes before the mode, since a mode
    /// without the right to write forbids them; the ACL before the mode, which then sets its mask.
    pub(crate) fn put_on(
        &self,
        file: BorrowedFd<'_>,
        destination: &Destination,
        was_named: bool,
    ) -> Result<Vec<String>> {
        let mut work = Work {
            attributes: self,
            file,
            destination,
            warnings: Vec::new(),
        };
        work.put(was_named)?;
        Ok(work.warnings)
    }
}

impl Old {
    /// `None` for a link, which has no attributes that a file could take over.
    fn read(destination: &Destination, existing: &Existing) -> Result<Option<Self>> {
        let Some(file) = existing.readable() else {
            return Ok(None);
        };
        let cannot_read = || format!("cannot read the attributes of {}", destination.typed());
        let mut old = Self {
            uid: existing.metadata.uid,
            gid: existing.metadata.gid,
            mode: existing.metadata.mode,
            acl: None,
            others: Vec::new(),
            unreadable: Vec::new(),
        };
        for name in sys::list_attributes(file).with_context(cannot_read)? {
            if NEVER_KEPT.contains(&name.as_c_str()) {
                continue;
            }
            let value = match sys::read_attribute(file, &name) {
                Ok(value) => value,
                // Removed since it was listed.
                Err(Errno::NODATA) => continue,
                // An ACL can be read by everybody who can find the file.
                Err(errno @ (Errno::ACCESS | Errno::PERM)) if name.as_c_str() != acl::ACCESS => {
                    old.unreadable.push((name, errno));
                    continue;
                }
                Err(errno) => return Err(errno).with_context(cannot_read),
            };
            if name.as_c_str() == acl::ACCESS {
                old.acl = Acl::parse(value);
            } else {
                old.others.push((name, value));
            }
        }
        Ok(Some(old))
    }
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
    fn put(&mut self, was_named: bool) -> Result<()> {
        let now = sys::metadata(self.file).with_context(|| self.cannot("look at"))?;
        let wanted = self.attributes;
        let Some(old) = &wanted.old else {
            self.chown(&now, wanted.owner, wanted.group, now.uid, now.gid)?;
            let base = if was_named {
                self.mode_of_new()?
            } else {
                now.mode
            };
            return self.chmod(now.mode, self.changed(base));
        };
        let (owner, group) = self.chown(&now, wanted.owner, wanted.group, old.uid, old.gid)?;
        for (name, value) in &old.others {
            self.set_attribute(name, value)?;
        }
        for (name, errno) in &old.unreadable {
            self.lose_attribute(name, *errno)?;
        }
        let acl = self.put_acl(old, group)?;
        let mut mode = old.mode;
        let same_owner = owner == Kept::Yes && wanted.owner.is_none_or(|uid| uid == old.uid);
        let same_group = group == Kept::Yes && wanted.group.is_none_or(|gid| gid == old.gid);
        if !(same_owner && same_group) {
            mode &= !SET_ID;
        }
        if let (Some(list), Kept::No) = (&old.acl, acl) {
            // The group's bits were the ACL's mask: without the list they would be the group's own.
            mode = mode & !0o070 | list.group() << 3;
        }
        if group == Kept::No && (old.acl.is_none() || acl == Kept::No) {
            mode &= !0o070 | (mode & 0o007) << 3;
        }
        self.chmod(now.mode, self.changed(mode))
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
        now: &sys::Metadata,
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

    /// Sets the old ACL, or takes away what the directory gave to a file whose old one has none.
    fn put_acl(&mut self, old: &Old, group: Kept) -> Result<Kept> {
        let Some(acl) = &old.acl else {
            // To ask first is cheaper: a removal is a transaction of the filesystem even if there is nothing to remove.
            return sys::has_attribute(self.file, acl::ACCESS)
                .and_then(|inherited| {
                    if inherited {
                        sys::remove_attribute(self.file, acl::ACCESS)
                    } else {
                        Ok(())
                    }
                })
                .map(|()| Kept::Yes)
                .with_context(|| self.cannot("remove the inherited ACL of"));
        };
        let mut acl = acl.clone();
        if group == Kept::No {
            acl.limit_group();
        }
        match sys::set_attribute(self.file, acl::ACCESS, acl.as_bytes()) {
            Ok(()) => Ok(Kept::Yes),
            Err(errno) => self.lose("ACL", errno),
        }
    }

    fn chmod(&mut self, now: u32, mode: u32) -> Result<()> {
        let touched = self
            .attributes
            .old
            .as_ref()
            .is_some_and(|old| old.acl.is_some());
        if mode == now && !touched {
            return Ok(());
        }
        match sys::set_mode(self.file, mode) {
            Ok(()) => Ok(()),
            Err(errno) if self.attributes.change.is_some() => {
                Err(errno).with_context(|| self.cannot("set the mode of"))
            }
            Err(errno) => self.lose("mode", errno).map(|_| ()),
        }
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

    /// Something cannot be kept: a warning, or a failure if all was to be kept, or if it is more than a lack of
    /// permission or of support.
    fn lose(&mut self, what: &str, errno: Errno) -> Result<Kept> {
        let lack = matches!(
            errno,
            Errno::PERM
                | Errno::ACCESS
                | Errno::INVAL
                | Errno::OPNOTSUPP
                | Errno::NOSYS
                | Errno::OVERFLOW
        );
        let error = anyhow!(errno).context(self.cannot(&format!("keep the {what} of")));
        if self.attributes.strict || !lack {
            return Err(error);
        }
        self.warnings.push(Chain(&error).to_string());
        Ok(Kept::No)
    }

    fn cannot(&self, verb: &str) -> String {
        format!("cannot {verb} {}", self.destination.typed())
    }
}
