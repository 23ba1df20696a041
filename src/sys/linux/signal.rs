//! Waiting with ppoll.

use std::ptr;
use std::time::Duration;

use super::super::Result;
use super::super::signal::{Mask, last_errno};

/// Waits until one of the files is ready, for at most `timeout`, with a signal mask. Delivers
/// signals that the mask allows, even with a timeout of zero.
pub(crate) fn wait(
    files: &mut [libc::pollfd],
    timeout: Option<Duration>,
    mask: Option<&Mask>,
) -> Result<()> {
    let timeout = timeout.map(|time| libc::timespec {
        tv_sec: time.as_secs().try_into().unwrap_or(libc::time_t::MAX),
        // The type is 32 bits wide on some machines, and the value is below 10⁹.
        tv_nsec: i32::try_from(time.subsec_nanos()).unwrap_or(0).into(),
    });
    let count = libc::nfds_t::try_from(files.len()).unwrap_or(0);
    #[expect(unsafe_code, reason = "rustix has no stable call with a signal mask")]
    // SAFETY: `files` has so many entries. The pointers to the timeout and the mask are null or
    // live until the call returns.
    let done = unsafe {
        libc::ppoll(
            files.as_mut_ptr(),
            count,
            timeout.as_ref().map_or(ptr::null(), ptr::from_ref),
            mask.map_or(ptr::null(), ptr::from_ref),
        )
    };
    if done < 0 {
        return Err(last_errno());
    }
    Ok(())
}

/// Returns true for the si_code of a signal that the kernel sent.
pub(crate) fn is_from_kernel(code: i32) -> bool {
    code == libc::SI_KERNEL
}
