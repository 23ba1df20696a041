//! Extended attributes, ACLs and flags.

use std::ffi::{CStr, CString};
use std::os::fd::AsFd;
use std::path::Path;

use rustix::buffer::spare_capacity;
use rustix::fs::{self, IFlags, XattrFlags};
use rustix::io::retry_on_intr;

use super::super::acl::{self, Acl};
use super::super::{Errno, OpenDirectory, Readable, Result};
use super::directory::proc_path;

/// Never listed, because these attributes vouch for the old content or give it privileges.
const NEVER_KEPT: [&CStr; 3] = [c"security.capability", c"security.ima", c"security.evm"];

/// Not listed either: the attributes by which overlayfs describes the old file, such as that its
/// content is in another layer.
const OF_OVERLAYFS: [&[u8]; 2] = [b"trusted.overlay.", b"user.overlay."];

/// Returns the names of the extended attributes that a new file may have too; none if the filesystem
/// has none (EOPNOTSUPP).
pub(crate) fn list_attributes(file: Readable<'_>) -> Result<Vec<CString>> {
    let names = match grow(|buffer| match file {
        Readable::File(fd) => fs::flistxattr(fd, spare_capacity(buffer)),
        Readable::Handle(handle) => fs::listxattr(handle.proc_path(), spare_capacity(buffer)),
    }) {
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => return Ok(Vec::new()),
        names => names?,
    };
    Ok(names
        .split_inclusive(|byte| *byte == 0)
        .filter_map(|name| CString::from_vec_with_nul(name.to_vec()).ok())
        .filter(|name| !NEVER_KEPT.contains(&name.as_c_str()) && !acl::is_copy(name))
        .filter(|name| {
            !OF_OVERLAYFS
                .iter()
                .any(|prefix| name.as_bytes().starts_with(prefix))
        })
        .collect())
}

/// Returns true if the attribute is the file's ACL, whose value [`Acl::parse`] takes.
pub(crate) fn is_acl(name: &CStr) -> bool {
    name == acl::ACCESS
}

/// Reads an extended attribute. `None` if the file has none by that name.
pub(crate) fn read_attribute(file: Readable<'_>, name: &CStr) -> Result<Option<Vec<u8>>> {
    match file {
        Readable::File(fd) => read(|buffer| fs::fgetxattr(fd, name, spare_capacity(buffer))),
        Readable::Handle(handle) => read_by_path(&handle.proc_path(), name),
    }
}

fn read_by_path(path: &Path, name: &CStr) -> Result<Option<Vec<u8>>> {
    read(|buffer| fs::getxattr(path, name, spare_capacity(buffer)))
}

fn read(call: impl Fn(&mut Vec<u8>) -> Result<usize>) -> Result<Option<Vec<u8>>> {
    match grow(call) {
        Err(Errno::NODATA) => Ok(None),
        value => value.map(Some),
    }
}

/// Calls with a small buffer, then with one of the maximum size of an attribute or a list (64 KiB,
/// xattr(7)).
fn grow(call: impl Fn(&mut Vec<u8>) -> Result<usize>) -> Result<Vec<u8>> {
    let mut buffer = Vec::with_capacity(256);
    match call(&mut buffer) {
        Err(Errno::RANGE) => {
            let mut buffer = Vec::with_capacity(64 * 1024);
            call(&mut buffer)?;
            Ok(buffer)
        }
        read => read.map(|_| buffer),
    }
}

/// Returns the chattr(1) letters of the flags that a new file may have too; none if the filesystem
/// has no flags.
pub(crate) fn chattr_flags(file: impl AsFd) -> String {
    const LETTERS: [(IFlags, char); 10] = [
        (IFlags::SECURE_REMOVAL, 's'),
        (IFlags::UNRM, 'u'),
        (IFlags::SYNC, 'S'),
        (IFlags::NODUMP, 'd'),
        (IFlags::NOATIME, 'A'),
        (IFlags::COMPRESSED, 'c'),
        (IFlags::JOURNALING, 'j'),
        (IFlags::NOTAIL, 't'),
        (IFlags::PROJECT_INHERIT, 'P'),
        (IFlags::NOCOW, 'C'),
    ];
    let flags = fs::ioctl_getflags(file).unwrap_or(IFlags::empty());
    let set = LETTERS.iter().filter(|(flag, _)| flags.contains(*flag));
    set.map(|(_, letter)| letter).collect()
}

/// Sets the ACL, and with it the permission bits.
pub(crate) fn set_acl(file: impl AsFd, acl: &Acl) -> Result<()> {
    set_attribute(file, acl::ACCESS, acl.as_bytes())
}

/// Removes the ACL, if the file has one.
pub(crate) fn remove_acl(file: impl AsFd) -> Result<()> {
    // Asking first is cheaper: a removal is a filesystem transaction even if nothing is removed.
    match fs::fgetxattr_query(&file, acl::ACCESS) {
        Err(Errno::NODATA | Errno::OPNOTSUPP | Errno::NOSYS) => Ok(()),
        found => found.and_then(|_| remove_attribute(file, acl::ACCESS)),
    }
}

/// Returns the ACL from which a new file in a directory gets its own. `None` if there is none, or
/// if its format is unknown.
pub(crate) fn default_acl(directory: &OpenDirectory) -> Result<Option<Acl>> {
    let value = if directory.readable {
        read_attribute(Readable::File(directory.fd.as_fd()), acl::DEFAULT)
    } else {
        read_by_path(&proc_path(&directory.fd), acl::DEFAULT)
    };
    match value {
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => Ok(None),
        value => Ok(value?.and_then(Acl::parse)),
    }
}

/// Sets an extended attribute.
pub(crate) fn set_attribute(file: impl AsFd, name: &CStr, value: &[u8]) -> Result<()> {
    retry_on_intr(|| fs::fsetxattr(&file, name, value, XattrFlags::empty()))
}

/// Removes an extended attribute.
pub(crate) fn remove_attribute(file: impl AsFd, name: &CStr) -> Result<()> {
    fs::fremovexattr(file, name)
}

/// Returns the effective user ID.
///
/// It comes from the auxiliary vector, which saves a system call (getauxval(3)); this process never
/// changes it.
pub(crate) fn effective_uid() -> u32 {
    #[expect(unsafe_code, reason = "neither std nor rustix has this call")]
    // SAFETY: takes a number, returns a number, and reads what the kernel has put beside the
    // environment.
    let uid = unsafe { libc::getauxval(libc::AT_EUID) };
    u32::try_from(uid).unwrap_or_else(|_| rustix::process::geteuid().as_raw())
}
