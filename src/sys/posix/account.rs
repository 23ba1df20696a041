//! User and group names, by the C library, which asks every source of the machine. macOS has no
//! getent(1).

#![expect(unsafe_code, reason = "neither std nor rustix has these calls")]
#![expect(clippy::unnecessary_wraps, reason = "as on Linux")]

use std::ffi::CStr;
use std::mem::{MaybeUninit, zeroed};
use std::ptr;

use super::super::{Errno, Result};

/// Larger than any entry: a group can have thousands of members.
const MAX_ENTRY: usize = 16 * 1024 * 1024;

/// Looks up a user. Returns the user's ID and the ID of the login group; `None` if there is no such
/// user. The outer `None` means that this process may not ask.
pub(crate) fn user(name: &CStr) -> Option<Result<Option<(u32, u32)>>> {
    Some(with_buffer(|buffer| {
        let mut found = ptr::null_mut();
        // SAFETY: all-zero is a valid structure of numbers and pointers. The pointers live until
        // the call returns, and it writes at most the buffer's length.
        let (error, entry) = unsafe {
            let mut entry: libc::passwd = zeroed();
            let (start, length) = (buffer.as_mut_ptr().cast(), buffer.len());
            let error =
                libc::getpwnam_r(name.as_ptr(), &raw mut entry, start, length, &raw mut found);
            (error, entry)
        };
        outcome(error, !found.is_null(), (entry.pw_uid, entry.pw_gid))
    }))
}

/// Looks up a group, as [`user`] does. Returns its ID.
pub(crate) fn group(name: &CStr) -> Option<Result<Option<u32>>> {
    Some(with_buffer(|buffer| {
        let mut found = ptr::null_mut();
        // SAFETY: as in `user`.
        let (error, entry) = unsafe {
            let mut entry: libc::group = zeroed();
            let (start, length) = (buffer.as_mut_ptr().cast(), buffer.len());
            let error =
                libc::getgrnam_r(name.as_ptr(), &raw mut entry, start, length, &raw mut found);
            (error, entry)
        };
        outcome(error, !found.is_null(), entry.gr_gid)
    }))
}

/// Decides what the call has said. Some systems report that there is no entry as an error
/// (getpwnam_r(3)).
fn outcome<T>(error: i32, found: bool, entry: T) -> Result<Option<T>> {
    if error == 0 {
        return Ok(found.then_some(entry));
    }
    match Errno::from_raw_os_error(error) {
        Errno::NOENT | Errno::SRCH | Errno::BADF | Errno::PERM => Ok(None),
        errno => Err(errno),
    }
}

/// Calls with a larger buffer until the entry fits (ERANGE).
fn with_buffer<T>(call: impl Fn(&mut [MaybeUninit<u8>]) -> Result<T>) -> Result<T> {
    let mut size = 4096;
    loop {
        match call(Box::new_uninit_slice(size).as_mut()) {
            Err(Errno::RANGE) if size < MAX_ENTRY => size *= 4,
            answer => return answer,
        }
    }
}
