//! Waiting with pselect(2), because macOS has no ppoll.

use std::mem::MaybeUninit;
use std::ptr;
use std::time::Duration;

use super::super::signal::{Mask, last_errno, with_mask};
use super::super::{Errno, Result, are_signals_pending, signal_count};

/// Waits until one of the files is ready, for at most `timeout`, with a signal mask. Delivers
/// signals that the mask allows, even with a timeout of zero.
pub(crate) fn wait(
    files: &mut [libc::pollfd],
    timeout: Option<Duration>,
    mask: Option<&Mask>,
) -> Result<()> {
    if mask.is_some_and(deliver) {
        return Err(Errno::INTR);
    }
    let timeout = timeout.map(|time| libc::timespec {
        tv_sec: time.as_secs().try_into().unwrap_or(libc::time_t::MAX),
        // The type is 32 bits wide on some machines, and the value is below 10⁹.
        tv_nsec: i32::try_from(time.subsec_nanos()).unwrap_or(0).into(),
    });
    let mut readable = set(files, libc::POLLIN)?;
    let mut writable = set(files, libc::POLLOUT)?;
    let highest = files.iter().map(|file| file.fd).max().unwrap_or(-1);
    #[expect(unsafe_code, reason = "rustix has no call with a signal mask")]
    // SAFETY: the sets are initialised, and no descriptor in them is as high as FD_SETSIZE. The
    // pointers to the timeout and the mask are null or live until the call returns.
    let ready = unsafe {
        libc::pselect(
            highest + 1,
            &raw mut readable,
            &raw mut writable,
            ptr::null_mut(),
            timeout.as_ref().map_or(ptr::null(), ptr::from_ref),
            mask.map_or(ptr::null(), ptr::from_ref),
        )
    };
    match ready {
        ..=-1 => Err(last_errno()),
        0 => Ok(()),
        _ => {
            look(files, &readable, &writable);
            Ok(())
        }
    }
}

/// Delivers a pending signal: sigprocmask delivers at least one before it returns (POSIX), and
/// pselect may not, if it does not wait. Returns true if a handler ran.
fn deliver(mask: &Mask) -> bool {
    let before = signal_count();
    if are_signals_pending() {
        with_mask(mask, || {});
    }
    signal_count() != before
}

/// Returns the set of the files that wait for an event. Errors: EINVAL for a descriptor that is too
/// high for a set.
fn set(files: &[libc::pollfd], event: libc::c_short) -> Result<libc::fd_set> {
    let mut set = MaybeUninit::<libc::fd_set>::uninit();
    let chosen = files.iter().filter(|file| file.events & event != 0);
    #[expect(unsafe_code, reason = "the set is a structure of the C library")]
    // SAFETY: FD_ZERO initialises the set, and each descriptor is below FD_SETSIZE.
    unsafe {
        libc::FD_ZERO(set.as_mut_ptr());
        for file in chosen {
            if usize::try_from(file.fd).is_ok_and(|fd| fd < libc::FD_SETSIZE) {
                libc::FD_SET(file.fd, set.as_mut_ptr());
            } else {
                return Err(Errno::INVAL);
            }
        }
        Ok(set.assume_init())
    }
}

/// Finds out what is ready: poll(2) knows whether the other end has hung up. Where it does not
/// support a device (macOS), the sets count.
fn look(files: &mut [libc::pollfd], readable: &libc::fd_set, writable: &libc::fd_set) {
    let count = libc::nfds_t::try_from(files.len()).unwrap_or(0);
    #[expect(unsafe_code, reason = "the same structure as in the call before")]
    // SAFETY: `files` has so many entries, and the descriptors were in the sets that were made.
    unsafe {
        libc::poll(files.as_mut_ptr(), count, 0);
        for file in files {
            let is_set = libc::FD_ISSET(file.fd, readable) || libc::FD_ISSET(file.fd, writable);
            if file.revents & libc::POLLNVAL != 0 || (file.revents == 0 && is_set) {
                file.revents = if is_set { file.events } else { 0 };
            }
        }
    }
}

/// Returns true for the si_code of a signal that the kernel sent.
#[cfg(target_os = "linux")]
pub(crate) fn is_from_kernel(code: i32) -> bool {
    code == libc::SI_KERNEL
}

/// Returns true for the si_code of a signal that the kernel sent: SI_KERNEL in FreeBSD's
/// sys/signal.h.
#[cfg(target_os = "freebsd")]
pub(crate) fn is_from_kernel(code: i32) -> bool {
    code == 0x10006
}

/// Returns false: macOS does not tell. A program that has a signal of the terminal already gets it
/// once more.
#[cfg(target_os = "macos")]
pub(crate) fn is_from_kernel(_code: i32) -> bool {
    false
}
