//! What the user asked for: plain data, with the policies as enums, so that no room below has to know an option's name.

use std::ffi::OsString;
use std::path::PathBuf;

use crate::attributes::ModeChange;
use crate::message::Verbosity;
use crate::outcome::Form;
use crate::watch::Sum;

/// One run.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) files: Files,
    pub(crate) start: Start,
    pub(crate) locking: Locking,
    pub(crate) overwrite: Overwrite,
    pub(crate) guards: Guards,
    pub(crate) equal: Equal,
    pub(crate) links: Links,
    pub(crate) parents: Parents,
    pub(crate) look: Look,
    pub(crate) backups: Option<Backups>,
    pub(crate) in_place: InPlace,
    pub(crate) sync: Sync,
    pub(crate) progress: ShowProgress,
    pub(crate) verbosity: Verbosity,
}

impl Request {
    /// What to do where DEST is a link. Whatever has DEST's name is in the way of --no-clobber, a link too, wherever it
    /// points.
    pub(crate) fn links(&self) -> Links {
        match self.overwrite {
            Overwrite::Never => Links::Replace,
            Overwrite::Writable | Overwrite::Any => self.links,
        }
    }

    /// Whose exit statuses count.
    pub(crate) fn form(&self) -> Form {
        match &self.files {
            Files::One {
                source: Source::Command(_),
                ..
            } => Form::Command,
            Files::One { .. } | Files::Into { .. } => Form::Plain,
        }
    }

    /// Whether the old content is needed: to begin with, or to compare with.
    pub(crate) fn reads_old_content(&self) -> bool {
        self.start == Start::Old || self.equal != Equal::Replace
    }
}

/// What is to be written, and from what.
#[derive(Debug)]
pub(crate) enum Files {
    One {
        source: Source,
        destination: PathBuf,
    },
    /// Each source under its own base name.
    Into {
        directory: PathBuf,
        sources: Sources,
    },
}

/// The files that go into a directory.
#[derive(Debug)]
pub(crate) enum Sources {
    Named(Vec<OsString>),
    /// Their names are in this file, each ended by NUL; `None` for standard input.
    ListedIn(Option<PathBuf>),
}

/// Where the new content comes from.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Source {
    Stdin,
    File(PathBuf),
    /// A program and its arguments: what it prints.
    Command(Vec<OsString>),
}

/// What the new content starts with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Start {
    Empty,
    /// What DEST holds now.
    Old,
}

/// Whether others who ask for the lock wait until we are done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Locking {
    None,
    Exclusive,
}

/// What the content must be, or DEST stays as it is.
#[derive(Debug)]
pub(crate) struct Guards {
    pub(crate) empty: Empty,
    pub(crate) sum: Option<Sum>,
    /// For `sh -c`.
    pub(crate) validator: Option<OsString>,
}

/// What to do if DEST has the same content already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Equal {
    /// Replace it all the same; nobody looks.
    Replace,
    /// Leave it alone, and exit with this status.
    Leave(u8),
}

/// What the old file is called afterwards.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Backups {
    pub(crate) naming: Naming,
    pub(crate) suffix: OsString,
}

/// How GNU's programs name backups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Naming {
    /// NAME and the suffix.
    Simple,
    /// NAME.~N~.
    Numbered,
    /// Numbered if there are numbered ones already, else simple.
    Existing,
}

/// Whether DEST may be overwritten where it is, which is not atomic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum InPlace {
    Never,
    /// Where nothing can be renamed to it.
    Auto,
    /// Wherever it exists.
    Always,
}

/// Whether to show how far it has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ShowProgress {
    No,
    /// On a terminal.
    Yes,
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
