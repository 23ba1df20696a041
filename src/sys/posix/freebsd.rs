//! Attributes and ACLs of FreeBSD. Compiled, and never run.
//!
//! An ACL is refused and not kept: on ZFS, chmod(2) replaces it, and without it the mode would mean
//! more than it did.

#![expect(unsafe_code, reason = "neither std nor rustix has these calls")]

use std::ffi::{CStr, CString, c_int, c_void};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::ptr;

use super::super::signal::last_errno;
use super::super::{Acl, Errno, Result};

/// The namespace of attributes that every user may have. The other one, of the system, holds ACLs
/// and labels (extattr(9)).
const USER: c_int = libc::EXTATTR_NAMESPACE_USER;

/// Returns the names of the attributes: each is a byte with its length, and then the name
/// (extattr(2)).
pub(super) fn list(file: BorrowedFd<'_>) -> Result<Vec<CString>> {
    let file = file.as_raw_fd();
    let listed = fill(|start, length| {
        // SAFETY: takes an open descriptor, and a buffer of this length or none.
        unsafe { libc::extattr_list_fd(file, USER, start, length) }
    });
    let listed = match listed {
        Err(Errno::OPNOTSUPP) => Vec::new(),
        listed => listed?,
    };
    let mut names = Vec::new();
    let mut rest = listed.as_slice();
    while let Some((length, after)) = rest.split_first() {
        let (name, next) = after
            .split_at_checked((*length).into())
            .ok_or(Errno::INVAL)?;
        names.push(CString::new(name).map_err(|_| Errno::INVAL)?);
        rest = next;
    }
    Ok(names)
}

/// Reads an attribute. `None` if the file has none by that name (ENOATTR).
pub(super) fn read(file: BorrowedFd<'_>, name: &CStr) -> Result<Option<Vec<u8>>> {
    let file = file.as_raw_fd();
    let value = fill(|start, length| {
        // SAFETY: takes an open descriptor, a string, and a buffer of this length or none.
        unsafe { libc::extattr_get_fd(file, USER, name.as_ptr(), start, length) }
    });
    match value {
        Err(errno) if errno.raw_os_error() == libc::ENOATTR => Ok(None),
        value => value.map(Some),
    }
}

/// Asks for the length, and then for the bytes.
fn fill(call: impl Fn(*mut c_void, usize) -> isize) -> Result<Vec<u8>> {
    let length = length_of(call(ptr::null_mut(), 0))?;
    let mut bytes = vec![0; length];
    let length = length_of(call(bytes.as_mut_ptr().cast(), length))?;
    bytes.truncate(length);
    Ok(bytes)
}

fn length_of(returned: isize) -> Result<usize> {
    usize::try_from(returned).map_err(|_| last_errno())
}

/// Sets an attribute.
pub(crate) fn set_attribute(file: impl AsFd, name: &CStr, value: &[u8]) -> Result<()> {
    let (start, length) = (value.as_ptr().cast(), value.len());
    // SAFETY: takes an open descriptor, a string, and bytes of this length.
    let set = unsafe {
        let file = file.as_fd().as_raw_fd();
        libc::extattr_set_fd(file, USER, name.as_ptr(), start, length)
    };
    match length_of(set)? {
        written if written == length => Ok(()),
        _ => Err(Errno::IO),
    }
}

/// Removes an attribute.
pub(crate) fn remove_attribute(file: impl AsFd, name: &CStr) -> Result<()> {
    // SAFETY: takes an open descriptor and a string.
    match unsafe { libc::extattr_delete_fd(file.as_fd().as_raw_fd(), USER, name.as_ptr()) } {
        0 => Ok(()),
        _ => Err(last_errno()),
    }
}

/// ACL_TYPE_ACCESS and ACL_TYPE_NFS4 of sys/acl.h.
const ACCESS: c_int = 2;
const NFS4: c_int = 4;

// acl_get(3), acl_set(3), acl_is_trivial_np(3), acl_strip_np(3), acl_free(3).
unsafe extern "C" {
    fn acl_get_fd_np(file: c_int, kind: c_int) -> *mut c_void;
    fn acl_set_fd_np(file: c_int, acl: *mut c_void, kind: c_int) -> c_int;
    fn acl_is_trivial_np(acl: *mut c_void, trivial: *mut c_int) -> c_int;
    fn acl_strip_np(acl: *mut c_void, recalculate_mask: c_int) -> *mut c_void;
    fn acl_free(object: *mut c_void) -> c_int;
}

/// An ACL that says more than the mode, and its type.
struct NativeAcl(*mut c_void, c_int);

impl NativeAcl {
    /// Returns the ACL of a file. `None` if it says no more than the mode, or if the filesystem has
    /// no ACLs (EOPNOTSUPP, or EINVAL for the type).
    fn of(file: c_int) -> Result<Option<Self>> {
        for kind in [NFS4, ACCESS] {
            // SAFETY: takes an open descriptor and a number.
            let acl = Self(unsafe { acl_get_fd_np(file, kind) }, kind);
            if acl.0.is_null() {
                match last_errno() {
                    Errno::OPNOTSUPP | Errno::INVAL => continue,
                    errno => return Err(errno),
                }
            }
            let mut is_trivial = 0;
            // SAFETY: `acl` is an ACL, and the number lives until the call returns.
            if unsafe { acl_is_trivial_np(acl.0, &raw mut is_trivial) } != 0 {
                return Err(last_errno());
            }
            return Ok((is_trivial == 0).then_some(acl));
        }
        Ok(None)
    }
}

impl Drop for NativeAcl {
    fn drop(&mut self) {
        // SAFETY: null, or an ACL from one of the calls above, which is freed once.
        unsafe { acl_free(self.0) };
    }
}

/// Refuses a file whose ACL says more than its mode. Errors: EOPNOTSUPP.
pub(super) fn refuse_acl(file: BorrowedFd<'_>) -> Result<()> {
    match NativeAcl::of(file.as_raw_fd())? {
        Some(_) => Err(Errno::OPNOTSUPP),
        None => Ok(()),
    }
}

/// Removes what an ACL that the file inherited from its directory says more than the mode.
pub(crate) fn remove_acl(file: impl AsFd) -> Result<()> {
    let file = file.as_fd().as_raw_fd();
    let Some(acl) = NativeAcl::of(file)? else {
        return Ok(());
    };
    // SAFETY: takes an ACL and a number.
    let stripped = NativeAcl(unsafe { acl_strip_np(acl.0, 0) }, acl.1);
    if stripped.0.is_null() {
        return Err(last_errno());
    }
    // SAFETY: takes an open descriptor, an ACL that lives until the call returns, and a number.
    match unsafe { acl_set_fd_np(file, stripped.0, stripped.1) } {
        0 => Ok(()),
        _ => Err(last_errno()),
    }
}

/// Returns false: no attribute is an ACL of Linux.
pub(crate) fn is_acl(_name: &CStr) -> bool {
    false
}

/// Never called.
pub(crate) fn set_acl(_file: impl AsFd, _acl: &Acl) -> Result<()> {
    Err(Errno::OPNOTSUPP)
}
