//! ACLs as Linux stores them: in extended attributes (acl(5)).

use std::ffi::CStr;
use std::os::fd::AsFd;

use rustix::fs;

use super::xattr::{is_for_none, remove_attribute, set_attribute};
use super::{Acl, Errno, Result};

/// A file's ACL.
const ACCESS: &CStr = c"system.posix_acl_access";
/// A directory's default ACL, from which new files get theirs.
pub(super) const DEFAULT: &CStr = c"system.posix_acl_default";

/// Returns true if the attribute is the file's ACL, whose value [`Acl::parse`] takes.
pub(crate) fn is_acl(name: &CStr) -> bool {
    name == ACCESS
}

/// Sets the ACL, and with it the permission bits.
pub(crate) fn set_acl(file: impl AsFd, acl: &Acl) -> Result<()> {
    set_attribute(file, ACCESS, acl.as_bytes())
}

/// Removes the ACL, if the file has one.
pub(crate) fn remove_acl(file: impl AsFd) -> Result<()> {
    // Asking first is cheaper: a removal is a filesystem transaction even if nothing is removed.
    match fs::fgetxattr_query(&file, ACCESS) {
        Err(errno) if is_for_none(errno) => Ok(()),
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => Ok(()),
        found => found.and_then(|_| remove_attribute(file, ACCESS)),
    }
}

/// Returns the default ACL that was read from a directory. `None` if there is none, or if its
/// format is unknown.
pub(super) fn parse_default(value: Result<Option<Vec<u8>>>) -> Result<Option<Acl>> {
    match value {
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => Ok(None),
        value => Ok(value?.and_then(Acl::parse)),
    }
}
