//! ACLs of macOS (acl(3)). They do not change what the mode means, and chmod does not change them,
//! so the engine carries one as an attribute, in the form of acl_to_text(3). Compiled, and never
//! run.

#![expect(unsafe_code, reason = "neither std nor rustix has these calls")]

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::os::fd::{AsFd, AsRawFd};
use std::ptr;

use super::super::signal::last_errno;
use super::super::{Acl, Errno, Result, xattr};

/// The attribute that stands for the ACL: the one in which the filesystem keeps it, and which
/// getxattr(2) does not show.
pub(super) const ACL: &CStr = c"com.apple.system.Security";

/// ACL_TYPE_EXTENDED of sys/acl.h, the only type that macOS has.
const EXTENDED: c_int = 0x100;

// acl_get(3), acl_set(3), acl_to_text(3), acl_from_text(3), acl_init(3), acl_free(3).
unsafe extern "C" {
    fn acl_get_fd_np(file: c_int, kind: c_int) -> *mut c_void;
    fn acl_set_fd_np(file: c_int, acl: *mut c_void, kind: c_int) -> c_int;
    fn acl_to_text(acl: *mut c_void, length: *mut isize) -> *mut c_char;
    fn acl_from_text(text: *const c_char) -> *mut c_void;
    fn acl_init(count: c_int) -> *mut c_void;
    fn acl_free(object: *mut c_void) -> c_int;
}

/// What the C library has allocated.
struct Allocated(*mut c_void);

impl Allocated {
    /// Takes what a call returned. A null pointer means an error.
    fn own(object: *mut c_void) -> Result<Self> {
        if object.is_null() {
            Err(last_errno())
        } else {
            Ok(Self(object))
        }
    }
}

impl Drop for Allocated {
    fn drop(&mut self) {
        // SAFETY: it comes from one of the calls above, and is freed once.
        unsafe { acl_free(self.0) };
    }
}

/// Returns the ACL. `None` if the file has none (ENOENT), or the filesystem has no ACLs.
pub(super) fn read_acl(file: impl AsFd) -> Result<Option<Vec<u8>>> {
    let file = file.as_fd().as_raw_fd();
    // SAFETY: takes an open descriptor and a number.
    let acl = match Allocated::own(unsafe { acl_get_fd_np(file, EXTENDED) }) {
        Err(Errno::NOENT | Errno::NOTSUP | Errno::OPNOTSUPP) => return Ok(None),
        acl => acl?,
    };
    // SAFETY: `acl` is an ACL; the length may be null (acl_to_text(3)).
    let text = Allocated::own(unsafe { acl_to_text(acl.0, ptr::null_mut()) }.cast())?;
    // SAFETY: the call returned a string that ends in NUL, and it lives until it is dropped.
    let text = unsafe { CStr::from_ptr(text.0.cast()) };
    Ok(Some(text.to_bytes().to_vec()))
}

/// Sets the ACL, in the form in which it was read.
fn set(file: impl AsFd, text: &[u8]) -> Result<()> {
    let text = CString::new(text).map_err(|_| Errno::INVAL)?;
    // SAFETY: `text` is a string that lives until the call returns.
    apply(
        file,
        &Allocated::own(unsafe { acl_from_text(text.as_ptr()) })?,
    )
}

fn apply(file: impl AsFd, acl: &Allocated) -> Result<()> {
    // SAFETY: takes an open descriptor, an ACL that lives until the call returns, and a number.
    match unsafe { acl_set_fd_np(file.as_fd().as_raw_fd(), acl.0, EXTENDED) } {
        0 => Ok(()),
        _ => Err(last_errno()),
    }
}

/// Removes the ACL that the file inherited from its directory, by one without entries.
pub(crate) fn remove_acl(file: impl AsFd) -> Result<()> {
    if read_acl(&file)?.is_none() {
        return Ok(());
    }
    // SAFETY: takes a number.
    apply(file, &Allocated::own(unsafe { acl_init(0) })?)
}

/// Sets an extended attribute, or the ACL.
pub(crate) fn set_attribute(file: impl AsFd, name: &CStr, value: &[u8]) -> Result<()> {
    if name == ACL {
        set(file, value)
    } else {
        xattr::set_attribute(file, name, value)
    }
}

/// Removes an extended attribute, or the ACL.
pub(crate) fn remove_attribute(file: impl AsFd, name: &CStr) -> Result<()> {
    if name == ACL {
        remove_acl(file)
    } else {
        xattr::remove_attribute(file, name)
    }
}

/// Returns false: no attribute is an ACL of Linux.
pub(crate) fn is_acl(_name: &CStr) -> bool {
    false
}

/// Never called.
pub(crate) fn set_acl(_file: impl AsFd, _acl: &Acl) -> Result<()> {
    Err(Errno::NOTSUP)
}
