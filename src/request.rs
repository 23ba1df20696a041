//! What the user asked for: plain data, with the policies as enums, so that no room below has to know an option's name.

use std::ffi::OsString;
use std::path::PathBuf;

use crate::attributes::ModeChange;
use crate::message::Verbosity;

/// One run.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) destination: PathBuf,
    pub(crate) source: Source,
    pub(crate) overwrite: Overwrite,
    pub(crate) empty: Empty,
    pub(crate) links: Links,
    pub(crate) parents: Parents,
    pub(crate) look: Look,
    pub(crate) sync: Sync,
    pub(crate) verbosity: Verbosity,
}

/// Where the new content comes from.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Source {
    Stdin,
    File(PathBuf),
}

/// What may be replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Overwrite {
    /// A file that the user may write to.
    Writable,
    /// A file that the user may not write to, too, where the directory lets him.
    Any,
    /// Nothing: DEST must be new.
    Never,
}

/// What to think of content of no bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Empty {
    /// It is fine, but for an empty stdin that would replace something.
    Suspect,
    /// It is fine.
    Allow,
    /// It is never right.
    Refuse,
}

/// What to do where DEST is a symbolic link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Links {
    /// The link stays, and what it points to is replaced.
    Follow,
    /// The link itself is replaced.
    Replace,
}

/// What to do where DEST's directory is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Parents {
    MustExist,
    Create,
}

/// What the new file shall look like.
#[derive(Debug)]
pub(crate) struct Look {
    pub(crate) keep: Keep,
    pub(crate) mode: Option<ModeChange>,
    /// A name or a number.
    pub(crate) owner: Option<OsString>,
    /// A name or a number.
    pub(crate) group: Option<OsString>,
}

/// What of an existing DEST the new file takes over: mode, owner, group, ACL, extended attributes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Keep {
    /// All that can be; a warning for the rest.
    Try,
    /// All, or fail.
    All,
    /// Nothing, as if DEST were new.
    None,
}

/// What is on the disk when atomwrite returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sync {
    /// Nothing in particular.
    None,
    /// After power loss DEST is old or new, and whole.
    File,
    /// DEST is new, also after power loss.
    Full,
}
