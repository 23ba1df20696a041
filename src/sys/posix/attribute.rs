//! Attributes.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd};

#[cfg(not(target_os = "freebsd"))]
use rustix::{buffer::spare_capacity, fs};

#[cfg(target_os = "linux")]
use super::super::acl_attribute::{DEFAULT, parse_default};
#[cfg(not(target_os = "freebsd"))]
use super::super::xattr;
use super::super::{Acl, OpenDirectory, Readable, Result};

/// Returns the names of the extended attributes that a new file may have too; none if the
/// filesystem has none. Errors: EACCES for a file that we may not read; whether it has an ACL is
/// not known.
pub(crate) fn list_attributes(file: Readable<'_>) -> Result<Vec<CString>> {
    match file {
        Readable::File(fd) => list(fd),
        Readable::Handle(handle) => list(handle.reopen()?.as_fd()),
    }
}

/// Reads an extended attribute. `None` if the file has none by that name.
pub(crate) fn read_attribute(file: Readable<'_>, name: &CStr) -> Result<Option<Vec<u8>>> {
    match file {
        Readable::File(fd) => read(fd, name),
        Readable::Handle(handle) => read(handle.reopen()?.as_fd(), name),
    }
}

#[cfg(target_os = "linux")]
fn list(file: BorrowedFd<'_>) -> Result<Vec<CString>> {
    xattr::list(|buffer| fs::flistxattr(file, spare_capacity(buffer)))
}

/// The ACL of macOS does not change what the mode means, so it counts as an attribute.
#[cfg(target_os = "macos")]
fn list(file: BorrowedFd<'_>) -> Result<Vec<CString>> {
    let mut names = xattr::list(|buffer| fs::flistxattr(file, spare_capacity(buffer)))?;
    if super::macos::read_acl(file)?.is_some() {
        names.push(super::macos::ACL.to_owned());
    }
    Ok(names)
}

#[cfg(target_os = "freebsd")]
fn list(file: BorrowedFd<'_>) -> Result<Vec<CString>> {
    super::freebsd::refuse_acl(file)?;
    super::freebsd::list(file)
}

#[cfg(not(target_os = "freebsd"))]
fn read(file: BorrowedFd<'_>, name: &CStr) -> Result<Option<Vec<u8>>> {
    #[cfg(target_os = "macos")]
    if name == super::macos::ACL {
        return super::macos::read_acl(file);
    }
    xattr::read(|buffer| fs::fgetxattr(file, name, spare_capacity(buffer)))
}

#[cfg(target_os = "freebsd")]
use super::freebsd::read;

/// Returns the ACL from which a new file in a directory gets its own. `None` if there is none, or
/// if its format is unknown.
#[cfg(target_os = "linux")]
pub(crate) fn default_acl(directory: &OpenDirectory) -> Result<Option<Acl>> {
    parse_default(read(directory.fd.as_fd(), DEFAULT))
}

/// Returns `None`: only Linux has ACLs in attributes.
#[cfg(not(target_os = "linux"))]
#[expect(clippy::unnecessary_wraps, reason = "as on Linux")]
pub(crate) fn default_acl(_directory: &OpenDirectory) -> Result<Option<Acl>> {
    Ok(None)
}

/// Returns no letter: chattr(1) is a program of Linux.
pub(crate) fn chattr_flags(_file: impl AsFd) -> String {
    String::new()
}

/// Returns the effective user ID.
pub(crate) fn effective_uid() -> u32 {
    rustix::process::geteuid().as_raw()
}
