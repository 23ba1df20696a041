//! What only Linux has.
//!
//! Invariant: everything in here that the modules above call has a counterpart of the same name for
//! other systems.

mod attribute;
mod bytes;
mod directory;
mod lock;
mod process;
mod signal;
mod status;

use rustix::fs::OFlags;

pub(crate) use super::acl_attribute::{is_acl, remove_acl, set_acl};
pub(crate) use super::xattr::{remove_attribute, set_attribute};

pub(crate) use self::attribute::*;
pub(crate) use self::bytes::*;
pub(crate) use self::directory::*;
pub(crate) use self::lock::*;
pub(crate) use self::process::*;
pub(super) use self::signal::*;
pub(crate) use self::status::*;

/// Opens what can be neither read nor written.
pub(super) const NO_ACCESS: OFlags = OFlags::PATH;

/// What `--version` says of this build.
pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");
