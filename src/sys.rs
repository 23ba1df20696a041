//! The kernel: one function for each system call, with its promises and the errors that mean "not
//! supported here".
//!
//! Invariant: only this module names rustix or libc, and only this module may ask for the operating
//! system. It imports nothing of the crate, so it can be read alone, beside the manual pages. It
//! decides what an errno means. The modules above decide what a name means.
//!
//! `linux` and `posix` have the same functions. `posix` does without what only Linux has: it is for
//! macOS and FreeBSD, and with `--cfg atomwrite_posix` the tests run over it on Linux.

mod acl;
#[cfg(target_os = "linux")]
mod acl_attribute;
mod attribute;
mod bytes;
mod directory;
#[cfg(all(target_os = "linux", not(atomwrite_posix)))]
mod linux;
mod lock;
#[cfg(not(all(target_os = "linux", not(atomwrite_posix))))]
mod posix;
mod process;
mod signal;
mod startup;
mod status;
#[cfg(any(target_os = "linux", target_os = "macos"))]
mod xattr;

pub(crate) use rustix::fs::CWD;
pub(crate) use rustix::io::Errno;

pub(crate) use self::acl::Acl;
pub(crate) use self::attribute::*;
pub(crate) use self::bytes::*;
pub(crate) use self::directory::*;
#[cfg(all(target_os = "linux", not(atomwrite_posix)))]
pub(crate) use self::linux::*;
pub(crate) use self::lock::*;
#[cfg(not(all(target_os = "linux", not(atomwrite_posix))))]
pub(crate) use self::posix::*;
pub(crate) use self::process::*;
pub(crate) use self::signal::*;
pub(crate) use self::startup::*;
pub(crate) use self::status::*;

/// The result of every call here. The errno is as the kernel returned it; `message` words it.
pub(crate) type Result<T> = std::result::Result<T, Errno>;
