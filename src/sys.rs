//! The kernel: one function a system call, each with what it promises and with the errors that mean "not supported here".
//!
//! Invariant: only this module names rustix or libc, and only this one may ask for the operating system. It imports nothing
//! of the engine, so it can be read alone, beside the manual pages. What a name means is left to the modules above; what an
//! errno means is decided here.

mod attribute;
mod bytes;
mod directory;
mod lock;
mod process;
mod signal;
mod startup;
mod status;

pub(crate) use rustix::fs::CWD;
pub(crate) use rustix::io::Errno;

pub(crate) use self::attribute::*;
pub(crate) use self::bytes::*;
pub(crate) use self::directory::*;
pub(crate) use self::lock::*;
pub(crate) use self::process::*;
pub(crate) use self::signal::*;
pub(crate) use self::startup::*;
pub(crate) use self::status::*;

/// What every call here returns: the errno is kept as the kernel gave it, and worded by `message`.
pub(crate) type Result<T> = std::result::Result<T, Errno>;
