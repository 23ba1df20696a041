//! Extended attributes (xattr(7)), of open files and by whatever call reads them.

use std::ffi::{CStr, CString};
use std::os::fd::AsFd;

use rustix::fs::{self, XattrFlags};
use rustix::io::retry_on_intr;

use super::{Errno, Result};

/// Never listed, because these attributes vouch for the old content or give it privileges.
const NEVER_KEPT: [&CStr; 3] = [c"security.capability", c"security.ima", c"security.evm"];

/// Not listed either: the attributes by which overlayfs describes the old file, such as that its
/// content is in another layer.
const OF_OVERLAYFS: [&[u8]; 2] = [b"trusted.overlay.", b"user.overlay."];

/// Returns the names of the extended attributes that a new file may have too; none if the
/// filesystem has none (EOPNOTSUPP).
pub(super) fn list(call: impl Fn(&mut Vec<u8>) -> Result<usize>) -> Result<Vec<CString>> {
    let names = match grow(call) {
        // ENOTSUP: macOS, where it is a number of its own.
        Err(errno) if [Errno::OPNOTSUPP, Errno::NOTSUP, Errno::NOSYS].contains(&errno) => {
            return Ok(Vec::new());
        }
        names => names?,
    };
    Ok(names
        .split_inclusive(|byte| *byte == 0)
        .filter_map(|name| CString::from_vec_with_nul(name.to_vec()).ok())
        .filter(|name| !NEVER_KEPT.contains(&name.as_c_str()) && !is_copy_of_acl(name))
        .filter(|name| {
            !OF_OVERLAYFS
                .iter()
                .any(|prefix| name.as_bytes().starts_with(prefix))
        })
        .collect())
}

/// Returns true for the second representation of the ACL that xfs shows to root.
fn is_copy_of_acl(name: &CStr) -> bool {
    name.to_bytes().starts_with(b"trusted.SGI_ACL_")
}

/// Returns the value. `None` if the file has no attribute by that name.
pub(super) fn read(call: impl Fn(&mut Vec<u8>) -> Result<usize>) -> Result<Option<Vec<u8>>> {
    match grow(call) {
        Err(errno) if is_for_none(errno) => Ok(None),
        value => value.map(Some),
    }
}

/// Returns true for the error that a file has no attribute by a name.
pub(super) fn is_for_none(errno: Errno) -> bool {
    #[cfg(target_os = "linux")]
    const NONE: i32 = libc::ENODATA;
    #[cfg(not(target_os = "linux"))]
    const NONE: i32 = libc::ENOATTR;
    errno.raw_os_error() == NONE
}

/// Calls with a small buffer, and then with one of the maximum size of an attribute or a list (64
/// KiB, xattr(7)).
///
/// Linux 6.1 translates the IDs in an ACL to those of an ID-mapped mount only if the buffer could
/// be full of entries: 4 bytes, and 8 for each (measured).
fn grow(call: impl Fn(&mut Vec<u8>) -> Result<usize>) -> Result<Vec<u8>> {
    for size in [4 + 8 * 32, 4 + 8 * 8191] {
        let mut buffer = Vec::with_capacity(size);
        match call(&mut buffer) {
            Err(Errno::RANGE) => {}
            called => return called.map(|_| buffer),
        }
    }
    let mut buffer = Vec::with_capacity(64 * 1024);
    call(&mut buffer)?;
    Ok(buffer)
}

/// Sets an extended attribute.
pub(crate) fn set_attribute(file: impl AsFd, name: &CStr, value: &[u8]) -> Result<()> {
    retry_on_intr(|| fs::fsetxattr(&file, name, value, XattrFlags::empty()))
}

/// Removes an extended attribute.
pub(crate) fn remove_attribute(file: impl AsFd, name: &CStr) -> Result<()> {
    fs::fremovexattr(file, name)
}
