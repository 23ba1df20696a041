//! The functions of `linux` for systems that have POSIX and little more.
//!
//! They do without unnamed files, so a new file has a random name from the start. They do not keep
//! apart what Linux can: a link of /proc that is followed, a file that another is mounted on. What
//! they cannot do at all, they refuse.
//!
//! The tests run over this module on Linux. What only macOS or FreeBSD has is compiled and linked,
//! and was never run: it says where it is documented.

mod account;
mod attribute;
mod bytes;
mod directory;
#[cfg(target_os = "freebsd")]
mod freebsd;
#[cfg(target_os = "macos")]
mod macos;
mod process;
mod signal;
mod status;

use rustix::fs::OFlags;

#[cfg(target_os = "linux")]
pub(crate) use super::acl_attribute::{is_acl, remove_acl, set_acl};
#[cfg(target_os = "linux")]
pub(crate) use super::xattr::{remove_attribute, set_attribute};

pub(crate) use self::account::*;
pub(crate) use self::attribute::*;
pub(crate) use self::bytes::*;
pub(crate) use self::directory::*;
#[cfg(target_os = "freebsd")]
pub(crate) use self::freebsd::*;
#[cfg(target_os = "macos")]
pub(crate) use self::macos::*;
pub(crate) use self::process::*;
pub(super) use self::signal::*;
pub(crate) use self::status::*;

/// Opens what can be neither read nor written: a directory.
pub(super) const NO_ACCESS: OFlags = OFlags::DIRECTORY;

/// What `--version` says of this build.
pub(crate) const VERSION: &str = concat!(
    env!("CARGO_PKG_VERSION"),
    "\n",
    "Experimental here: it builds, and its logic is tested on Linux. It was never",
    "\n",
    "run on macOS or FreeBSD."
);
