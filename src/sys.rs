//! The kernel: one function for each system call, with its promises and the errors that mean "not
//! supported here".
//!
//! Invariant: only this module names rustix or libc, and only this module may ask for the operating
//! system. It imports nothing of the crate, so it can be read alone, beside the manual pages. It
//! decides what an errno means. The modules above decide what a name means.

mod acl;
mod attribute;
mod bytes;
mod directory;
mod linux;
mod lock;
mod process;
mod signal;
mod startup;
mod status;

pub(crate) use rustix::fs::CWD;
pub(crate) use rustix::io::Errno;

pub(crate) use self::acl::Acl;
pub(crate) use self::attribute::*;
pub(crate) use self::bytes::*;
pub(crate) use self::directory::*;
pub(crate) use self::linux::*;
pub(crate) use self::lock::*;
pub(crate) use self::process::*;
pub(crate) use self::signal::*;
pub(crate) use self::startup::*;
pub(crate) use self::status::*;

/// The result of every call here. The errno is as the kernel returned it; `message` words it.
pub(crate) type Result<T> = std::result::Result<T, Errno>;
