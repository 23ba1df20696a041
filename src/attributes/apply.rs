//! Applying attributes to the new file.
//!
//! Invariant: what the user asked for is applied and verified, or the run fails. If an attribute of
//! the old file cannot be preserved, that is reported, and the file loses every permission that it
//! would wrongly grant without that attribute.

use std::ffi::CStr;
use std::fmt::Write;
use std::os::fd::BorrowedFd;

use anyhow::{Context, Result, anyhow};

use super::{Attributes, InitialMode, Old, SET_ID, is_grave};
use crate::destination::Destination;
use crate::message::{Chain, Quoted};
use crate::request::Keep;
use crate::sys::{self, Errno, Metadata};

/// Applies attributes to one file.
pub(super) struct Applier<'a> {
    attributes: &'a Attributes,
    file: BorrowedFd<'a>,
    destination: &'a Destination,
    /// The mode that `--mode` results in.
    mode_wanted: Option<u32>,
    pub(super) warnings: Vec<String>,
}

/// Whether the new file has an attribute of the old one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kept {
    Yes,
    No,
}

impl<'a> Applier<'a> {
    pub(super) fn new(
        attributes: &'a Attributes,
        file: BorrowedFd<'a>,
        destination: &'a Destination,
    ) -> Self {
        Self {
            attributes,
            file,
            destination,
            mode_wanted: None,
            warnings: Vec::new(),
        }
    }

    pub(super) fn metadata(&self) -> Result<Metadata> {
        sys::metadata(self.file).with_context(|| self.destination.cannot("stat"))
    }

    /// Checks that the file has what the user asked for. NFS and FUSE can report success wrongly.
    pub(super) fn verify(&self) -> Result<()> {
        let wanted = self.attributes;
        if !wanted.asks_for_any() {
            return Ok(());
        }
        let now = self.metadata()?;
        if wanted.owner.is_some_and(|uid| uid != now.uid) {
            return Err(Errno::PERM).with_context(|| self.destination.cannot("set the owner of"));
        }
        if wanted.group.is_some_and(|gid| gid != now.gid) {
            return Err(Errno::PERM).with_context(|| self.destination.cannot("set the group of"));
        }
        if self.mode_wanted.is_some_and(|mode| mode != now.mode) {
            return Err(Errno::PERM).with_context(|| self.destination.cannot("set the mode of"));
        }
        Ok(())
    }

    /// Applies the attributes for a new DEST, or for one that keeps nothing (`--keep=none`).
    pub(super) fn make_new(&mut self, now: &Metadata, initial: InitialMode) -> Result<()> {
        let wanted = self.attributes;
        self.chown(now, now.uid, now.gid)?;
        let base = match initial {
            InitialMode::FromUmask(_) => now.mode,
            InitialMode::Private => self.mode_of_new()?,
        };
        let mode = self.changed(base);
        if mode == now.mode {
            return Ok(());
        }
        match sys::set_mode(self.file, mode) {
            Err(errno) if wanted.change.is_some() || is_grave(errno) => {
                Err(errno).with_context(|| self.destination.cannot("set the mode of"))
            }
            Err(errno) if now.mode == InitialMode::Private.bits() => {
                let error = anyhow!(errno).context(self.destination.cannot("set the mode of"));
                self.warnings.push(Chain(&error).to_string());
                Ok(())
            }
            // The filesystem has fixed modes (vfat, SMB), and the user asked for no mode.
            _ => Ok(()),
        }
    }

    /// Applies the attributes of the old file.
    pub(super) fn make_like(&mut self, old: &Old, now: &Metadata) -> Result<()> {
        let wanted = self.attributes;
        let (owner, group) = self.chown(now, old.uid, old.gid)?;
        if old.is_gone {
            let warning = self.destination.cannot("keep the attributes of");
            self.warnings.push(format!("{warning}: it has vanished"));
        }
        for (name, value) in &old.others {
            self.set_attribute(name, value)?;
        }
        for (name, errno) in &old.unreadable {
            self.attribute_not_preserved(name, *errno)?;
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
                old_mode = revoke_group(old_mode);
            }
            let mode = self.changed(old_mode);
            self.add_mode_to_warning(old.mode, mode);
            // On NFS 4, one of the attributes is the ACL, and it has set the mode.
            return if old.others.is_empty() {
                self.chmod(now.mode, mode)
            } else {
                self.chmod_always(mode)
            };
        };
        let mut acl = acl.clone();
        if group == Kept::No {
            acl.revoke_group();
        }
        let mode = self.changed(old_mode & !0o007 | acl.others());
        // The ACL must not allow more than the final mode.
        acl.set_mode(mode);
        match sys::set_acl(self.file, &acl) {
            // The group bits of the mode are the ACL's mask; chmod sets both.
            Ok(()) => {
                self.add_mode_to_warning(old.mode, mode);
                self.chmod_always(mode)
            }
            Err(errno) => {
                self.not_preserved("ACL", errno)?;
                self.remove_acl()?;
                let mode = self.changed(old_mode & !0o077 | acl.most_restrictive_mode());
                self.add_mode_to_warning(old.mode, mode);
                self.chmod_always(mode)
            }
        }
    }

    /// Adds the resulting mode to the warning that the group could not be preserved.
    fn add_mode_to_warning(&mut self, old: u32, mode: u32) {
        let begin = self.destination.cannot("keep the group of");
        let of_group = |warning: &&mut String| warning.starts_with(&begin);
        if let (true, Some(warning)) = (
            self.attributes.changed(old) != mode,
            self.warnings.iter_mut().find(of_group),
        ) {
            let _ = write!(warning, "; its mode is now {mode:04o}");
        }
    }

    /// Adds a warning that names the chattr(1) flags that are lost.
    pub(super) fn warn_of_flags(&mut self, old: &Old) {
        if old.flags.is_empty() {
            return;
        }
        let now = sys::chattr_flags(self.file);
        let lost: String = old
            .flags
            .chars()
            .filter(|flag| !now.contains(*flag))
            .collect();
        if !lost.is_empty() {
            let cannot = self
                .destination
                .cannot(&format!("keep the chattr(1) flags {lost} of"));
            self.warnings.push(cannot);
        }
    }

    /// Applies `--mode` to a mode, and remembers the result for `verify`.
    fn changed(&mut self, mode: u32) -> u32 {
        let mode = self.attributes.changed(mode);
        if self.attributes.change.is_some() {
            self.mode_wanted = Some(mode);
        }
        mode
    }

    /// Sets the owner and the group that the user asked for, both or neither.
    pub(super) fn chown_as_asked(&self, now: &Metadata) -> Result<()> {
        let Attributes { owner, group, .. } = *self.attributes;
        let uid = owner.filter(|uid| *uid != now.uid);
        let gid = group.filter(|gid| *gid != now.gid);
        if uid.is_none() && gid.is_none() {
            return Ok(());
        }
        let what = if uid.is_some() { "owner" } else { "group" };
        sys::set_owner(self.file, uid, gid).map_err(|errno| {
            reason(errno, what).context(self.destination.cannot(&format!("set the {what} of")))
        })
    }

    /// Changes owner and group. Fails if one that the user asked for cannot be set.
    pub(super) fn chown(
        &mut self,
        now: &Metadata,
        old_owner: u32,
        old_group: u32,
    ) -> Result<(Kept, Kept)> {
        let Attributes { owner, group, .. } = *self.attributes;
        let uid = Some(owner.unwrap_or(old_owner)).filter(|uid| *uid != now.uid);
        let gid = Some(group.unwrap_or(old_group)).filter(|gid| *gid != now.gid);
        if uid.is_none() && gid.is_none() || sys::set_owner(self.file, uid, gid).is_ok() {
            return Ok((Kept::Yes, Kept::Yes));
        }
        // Try each alone. The group first, because we cannot change the file of another owner.
        let group_kept = match gid.map(|gid| sys::set_owner(self.file, None, Some(gid))) {
            Some(Err(errno)) if group.is_some() => {
                return Err(
                    reason(errno, "group").context(self.destination.cannot("set the group of"))
                );
            }
            Some(Err(errno)) => self.not_preserved("group", errno)?,
            _ => Kept::Yes,
        };
        let owner_kept = match uid.map(|uid| sys::set_owner(self.file, Some(uid), None)) {
            Some(Err(errno)) if owner.is_some() => {
                return Err(
                    reason(errno, "owner").context(self.destination.cannot("set the owner of"))
                );
            }
            Some(Err(errno)) => self.not_preserved("owner", errno)?,
            _ => Kept::Yes,
        };
        Ok((owner_kept, group_kept))
    }

    fn set_attribute(&mut self, name: &CStr, value: &[u8]) -> Result<()> {
        match sys::set_attribute(self.file, name, value) {
            Ok(()) => Ok(()),
            // A security module may refuse to set even the value that is there already.
            Err(_)
                if sys::read_attribute(sys::Readable::File(self.file), name)
                    .is_ok_and(|now| now.as_deref() == Some(value)) =>
            {
                Ok(())
            }
            Err(errno) => self.attribute_not_preserved(name, errno),
        }
    }

    fn attribute_not_preserved(&mut self, name: &CStr, errno: Errno) -> Result<()> {
        let name = name.to_string_lossy();
        self.not_preserved(&format!("attribute {}", Quoted::new(name.as_ref())), errno)
            .map(|_| ())
    }

    /// Removes the ACL that the file inherited from the directory.
    fn remove_acl(&mut self) -> Result<()> {
        sys::remove_acl(self.file)
            .with_context(|| self.destination.cannot("remove the inherited ACL of"))
    }

    /// Applies `--mode` to the mode that the file had `before` it was written to. The kernel may
    /// have cleared the set-id bits since.
    pub(super) fn change_mode(&mut self, before: &Metadata) -> Result<()> {
        let now = self.metadata()?.mode;
        let restricted = self.attributes.restricted(before);
        // A different mode was set by another process.
        let base = if now & !SET_ID == restricted & !SET_ID {
            before.mode & !SET_ID | now & SET_ID
        } else {
            now
        };
        let mode = self.changed(base);
        self.chmod(now, mode)?;
        match self.warnings.pop() {
            Some(warning) => Err(anyhow!(warning)),
            None => Ok(()),
        }
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
                Err(errno).with_context(|| self.destination.cannot("set the mode of"))
            }
            Err(errno) => self.not_preserved("mode", errno).map(|_| ()),
            // The kernel clears the set-gid bit without an error if we are not in the group
            // (chmod(2)).
            Ok(()) if mode & SET_ID != 0 => {
                let now =
                    sys::metadata(self.file).with_context(|| self.destination.cannot("stat"))?;
                match (now.mode == mode, &self.attributes.change) {
                    (true, _) => Ok(()),
                    (false, Some(_)) => Err(Errno::PERM)
                        .with_context(|| self.destination.cannot("set the set-group-ID bit of")),
                    (false, None) => self
                        .not_preserved("set-group-ID bit", Errno::PERM)
                        .map(|_| ()),
                }
            }
            Ok(()) => Ok(()),
        }
    }

    /// Returns the mode that the kernel would have given to a new file that was not created with
    /// 0600.
    fn mode_of_new(&self) -> Result<u32> {
        let mode = self.attributes.mode_of_new;
        let default = sys::default_acl(self.destination.directory()).with_context(|| {
            self.destination
                .cannot("read the default ACL of the directory of")
        })?;
        Ok(match default {
            Some(default) => default.mode_of_new(mode),
            None => mode & !sys::umask(),
        })
    }

    /// Adds a warning that `what` cannot be preserved. Fails with `--keep=all`, and if the error is
    /// a grave one.
    fn not_preserved(&mut self, what: &str, errno: Errno) -> Result<Kept> {
        let error =
            reason(errno, what).context(self.destination.cannot(&format!("keep the {what} of")));
        if self.attributes.keep == Keep::All || is_grave(errno) {
            return Err(error);
        }
        self.warnings.push(Chain(&error).to_string());
        Ok(Kept::No)
    }
}

/// Explains EINVAL for an owner or a group (user_namespaces(7)).
fn reason(errno: Errno, what: &str) -> anyhow::Error {
    match what {
        "owner" | "group" if errno == Errno::INVAL => {
            anyhow!("this {what} does not exist in this user namespace")
        }
        _ => anyhow!(errno),
    }
}

/// Returns the mode for a file whose owning group could not be preserved. The new group gets no
/// more than others have. Others, who now include the old group's members, get no more than that
/// group had.
pub(super) fn revoke_group(mode: u32) -> u32 {
    let (group, others) = (mode >> 3 & 7, mode & 7);
    mode & !0o077 | (group & others) << 3 | (group & others)
}
