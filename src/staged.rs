//! The new file, from its creation to the commit.
//!
//! ```text
//! create() ─> Staged<Open> ─fill─> Staged<Filled> ─seal─> Staged<Sealed> ─sync─> Staged<Synced>
//!                   │                     │                      │                  │      │
//!                   └─────────────────────┴────── dropped ───────┴──────────────────┘   commit
//!                               nothing is left behind, and DEST is unchanged              │
//!                                                               Outcome <─make_durable─ Committed
//! ```
//!
//! Invariant: only `commit` changes DEST. Every step that can fail comes before the rename in
//! `commit`, except the fsync of the directory. The phases are types, so the compiler rejects a
//! write after the checks and a commit before the sync. Where the filesystem has O_TMPFILE, the
//! file is unnamed until `commit`. Elsewhere it has a random name from the start, and mode 0600
//! until it is sealed.

mod commit;
mod pending;
mod seal;

use std::env;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use anyhow::{Context, Result, anyhow};

pub(crate) use self::pending::{Flush, Pending};
use self::seal::Seal;
use crate::attributes::{Attributes, InitialMode};
use crate::checks::{self, Rules};
use crate::command;
use crate::copy_error::CopyError;
use crate::destination::{Destination, Opened};
use crate::inspector::{Content, ContentInspector};
use crate::message::{Chain, Quoted};
use crate::outcome::Failure;
use crate::private_dir::StagingDir;
use crate::request::{InPlace, Request, Sync};
use crate::signals;
use crate::source::{self, Input};
use crate::sys::{self, Errno, Kind, LinkBy, Metadata};
use crate::temp_name::TempName;
use crate::transfer::{Reader, Transfer, Writeback};
use crate::validate::{DirectoryValidator, PreviewPlace, Validator};

/// A new file that is not visible as DEST yet.
#[derive(Debug)]
pub(crate) struct Staged<'d, Phase> {
    destination: &'d Destination,
    /// The temporary name that `commit` gives to an unnamed file. Dropped before `file`, so that
    /// the file is still flock'ed while the name is removed.
    linked: Option<TempName>,
    /// Dropped before the name in `method`: FUSE and NFS rename an open file that is unlinked.
    file: OwnedFd,
    method: CommitMethod,
    initial: InitialMode,
    phase: Phase,
}

/// How DEST gets the content.
#[derive(Debug)]
enum CommitMethod {
    /// The file is renamed to DEST.
    Rename(Backing),
    /// The file is a spool, and its content is copied into DEST.
    InPlace,
    /// DEST cannot be written, for this reason. With `-C`, DEST may have the content already, so
    /// the input is compared with it and not stored.
    Impossible(String),
}

/// What the file is until the commit.
#[derive(Debug)]
enum Backing {
    /// An unnamed file (O_TMPFILE), and the call that can link it to a name.
    Anonymous(LinkBy),
    Named(TempName),
}

/// The file is empty.
#[derive(Debug)]
pub(crate) struct Open;

/// The file has the complete content.
#[derive(Debug)]
pub(crate) struct Filled {
    content: Content,
}

/// The file has the attributes that DEST will have.
#[derive(Debug)]
pub(crate) struct Sealed {
    content: Content,
    seal: Seal,
}

/// The file is as durable as `--sync` requires.
#[derive(Debug)]
pub(crate) struct Synced {
    content: Content,
    seal: Seal,
    sync: Sync,
}

impl<'d> Staged<'d, Open> {
    /// Creates the file in DEST's directory, or in its nearest existing ancestor. Creates a spool
    /// instead if DEST, which is `existing`, must be overwritten in place. Errors come before any
    /// input is read.
    pub(crate) fn create(
        destination: &'d Destination,
        existing: Option<Metadata>,
        attributes: &Attributes,
        request: &Request,
    ) -> Result<Self> {
        let in_place = request.in_place;
        if checks::is_in_place(destination, existing.as_ref(), in_place) {
            return Self::spool(destination, existing);
        }
        let is_regular = existing.is_some_and(|existing| existing.kind == Kind::Regular);
        match Self::beside(destination, attributes.initial_mode(existing)) {
            Err(error) if is_regular && is_for_lack_of_permission(&error) => {
                if in_place == InPlace::Auto {
                    return Self::spool(destination, existing);
                }
                if checks::may_be_overwritten(destination, existing, Rules::of(request)) {
                    let line = Chain(&error);
                    return Err(anyhow!("{line}; use --inplace to overwrite the file"));
                }
                Err(error)
            }
            created => created,
        }
    }

    /// Creates the file in DEST's directory.
    fn beside(destination: &'d Destination, initial: InitialMode) -> Result<Self> {
        let directory = destination.directory();
        let anonymous = sys::open_tmpfile(directory.fd.as_fd(), initial.bits())
            .with_context(|| destination.cannot("create a file in the directory of"))?
            .and_then(|file| {
                sys::probe_link(file.as_fd(), directory.fd.as_fd()).map(|by| (file, by))
            });
        let (file, backing, initial) = if let Some((file, by)) = anonymous {
            (file, Backing::Anonymous(by), initial)
        } else {
            let (name, file) = TempName::create(directory)
                .with_context(|| destination.cannot("create a file in the directory of"))?;
            (file, Backing::Named(name), InitialMode::Private)
        };
        Ok(Self::new(
            destination,
            file,
            CommitMethod::Rename(backing),
            initial,
        ))
    }

    /// Creates the file in a staging directory, for a DEST that is renamed together with others.
    pub(crate) fn create_in(
        destination: &'d Destination,
        existing: Option<Metadata>,
        attributes: &Attributes,
        directory: &StagingDir,
    ) -> Result<Self> {
        let initial = if destination.filesystem().is_local() {
            attributes.initial_mode(existing)
        } else {
            // The owner of its parent can exchange the staging directory for another one.
            InitialMode::Private
        };
        let created = directory.create(destination.name(), initial.bits());
        let (name, file) =
            created.with_context(|| destination.cannot("create a file in the directory of"))?;
        let method = CommitMethod::Rename(Backing::Named(name));
        Ok(Self::new(destination, file, method, initial))
    }

    /// Creates a spool, from which `commit` overwrites DEST in place.
    fn spool(destination: &'d Destination, existing: Option<Metadata>) -> Result<Self> {
        // Without opening DEST, because a watcher would take the close for a change.
        if existing.is_some_and(|existing| existing.kind == Kind::Regular) {
            sys::may_write(destination.directory().fd.as_fd(), destination.name())
                .with_context(|| destination.cannot("write"))?;
        }
        // Without O_TMPFILE, the spool has a name for a moment.
        signals::guard()?;
        let file = tempfile::tempfile().with_context(cannot_buffer_input)?;
        Ok(Self::new(
            destination,
            file.into(),
            CommitMethod::InPlace,
            InitialMode::Private,
        ))
    }

    /// Returns a stand-in for a file that cannot become DEST: the input is only compared with DEST.
    pub(crate) fn compare_only(
        destination: &'d Destination,
        refusal: anyhow::Error,
    ) -> Result<Self, Failure> {
        let refusal = match Failure::from(refusal) {
            Failure::Failed(error) => Chain(&error).to_string(),
            other => return Err(other),
        };
        let directory = destination.directory().fd.try_clone();
        Ok(Self::new(
            destination,
            directory.context(refusal.clone())?,
            CommitMethod::Impossible(refusal),
            InitialMode::Private,
        ))
    }

    fn new(
        destination: &'d Destination,
        file: OwnedFd,
        method: CommitMethod,
        initial: InitialMode,
    ) -> Self {
        Self {
            destination,
            linked: None,
            file,
            method,
            initial,
            phase: Open,
        }
    }

    /// Reads the input to its end. Fails if COMMAND does not exit with 0.
    pub(crate) fn fill(
        self,
        input: &Input<'_>,
        inspector: ContentInspector<'_>,
        writeback: Writeback,
    ) -> Result<Staged<'d, Filled>, Failure> {
        let explain = |error| self.explain(error, Some(input));
        let file = self.file.as_fd();
        let mut transfer = match self.method {
            CommitMethod::Impossible(_) => Transfer::compare(file, inspector),
            _ => Transfer::begin(file, writeback, inspector),
        };
        if let Some(old) = input.first() {
            transfer
                .copy_from(old)
                .map_err(|error| explain(error.of_old()))?;
        }
        match input.origin() {
            source::Origin::Stdin(metadata) => {
                let (reopened, method) = source::stdin_method(metadata);
                let file = reopened.as_ref().map_or(sys::stdin(), OwnedFd::as_fd);
                let metadata = *metadata;
                transfer
                    .copy_from_shared(&Reader {
                        file,
                        metadata,
                        method,
                    })
                    .map_err(explain)?;
            }
            source::Origin::File(file, metadata, _) => {
                let reader = Reader {
                    file: file.as_fd(),
                    metadata: *metadata,
                    method: source::read_method(metadata),
                };
                transfer.copy_from(&reader).map_err(explain)?;
            }
            source::Origin::Command(command) => {
                // close(2) reports a write error only once, and COMMAND's start closes a duplicate
                // of this descriptor. So the error is collected first.
                if input.first().is_some() {
                    sys::close_error(&self.file)
                        .map_err(|errno| explain(CopyError::Writing(errno)))?;
                }
                command::run(command, &mut transfer, self.destination, &explain)?;
            }
        }
        let (inspector, size) = transfer.end().map_err(explain)?;
        let mut content = inspector.finish(self.file.as_fd(), size).map_err(explain)?;
        let first = input.first().map(|old| old.metadata.size);
        content.appended = first.map(|first| size.saturating_sub(first));
        Ok(self.into_phase(Filled { content }))
    }

    /// Turns a copy error into a failure that names the side on which it occurred.
    fn explain(&self, error: CopyError, input: Option<&Input<'_>>) -> Failure {
        let errno = match error {
            CopyError::Interrupted(interrupted) => return interrupted.into(),
            CopyError::Different | CopyError::HungUp => anyhow!(error),
            CopyError::Reading(errno)
            | CopyError::ReadingOld(errno)
            | CopyError::Writing(errno) => anyhow!(errno),
        };
        if let (CopyError::Different, Err(refusal)) = (error, self.refuse()) {
            return refusal.into();
        }
        let what = match (error, input, &self.method) {
            (CopyError::Writing(_), _, CommitMethod::InPlace) => cannot_buffer_input(),
            (CopyError::Writing(_), ..) => self.destination.cannot("write"),
            (CopyError::ReadingOld(_), ..) | (_, None, _) => self.destination.cannot("read"),
            (_, Some(input), _) => input.cannot_read(),
        };
        errno.context(what).into()
    }
}

impl<'d> Staged<'d, Filled> {
    pub(crate) fn content(&self) -> &Content {
        &self.phase.content
    }

    /// Gives the file its attributes, which were read from `seen`. Nothing writes to the file after
    /// this.
    pub(crate) fn seal(
        self,
        attributes: Attributes,
        seen: Option<Metadata>,
    ) -> Result<Staged<'d, Sealed>> {
        let warnings = match &self.method {
            CommitMethod::InPlace | CommitMethod::Impossible(_) => Vec::new(),
            CommitMethod::Rename(_) => {
                attributes.apply(self.file.as_fd(), self.destination, self.initial)?
            }
        };
        let (staged, Filled { content }) = self.split();
        let seal = Seal {
            attributes,
            seen,
            warnings,
        };
        Ok(staged.into_phase(Sealed { content, seal }))
    }
}

impl<'d> Staged<'d, Sealed> {
    pub(crate) fn content(&self) -> &Content {
        &self.phase.content
    }

    pub(crate) fn attributes(&self) -> &Attributes {
        &self.phase.seal.attributes
    }

    /// Runs the user's validator on a copy of the content. If the input was only compared, the
    /// content is that of DEST, which is `old`.
    pub(crate) fn validate(
        &self,
        validator: &mut Validator<'_>,
        old: Option<&Opened>,
    ) -> Result<(), Failure> {
        let (file, place) = match &self.method {
            CommitMethod::Rename(_) => (self.file.as_fd(), PreviewPlace::Beside),
            CommitMethod::InPlace => (self.file.as_fd(), PreviewPlace::TemporaryDirectory),
            CommitMethod::Impossible(_) => (
                old.and_then(Opened::content).context("it cannot be read")?,
                PreviewPlace::TemporaryDirectory,
            ),
        };
        // close(2) reports a write error only once, and the validator's start closes a duplicate of
        // this descriptor. So the error is collected first.
        sys::close_error(&self.file).with_context(|| self.destination.cannot("write"))?;
        validator.check(file, self.attributes(), self.destination, place)?;
        if let CommitMethod::Rename(_) = self.method {
            // The copying has changed the access time.
            self.attributes().set_times(file, self.destination)?;
        }
        Ok(())
    }

    /// Adds a copy to the preview of a directory that a program will validate as a whole. `name`
    /// in that directory leads to DEST.
    pub(crate) fn preview(&self, validator: &DirectoryValidator<'_>, name: &Path) -> Result<()> {
        let file = self.file.as_fd();
        validator.add(file, self.attributes(), self.destination, name)?;
        // The copying has changed the access time.
        self.attributes().set_times(file, self.destination)
    }

    /// Syncs the file as far as `sync` requires. Collects the errors that only close(2) reports;
    /// NFS sends data at close.
    pub(crate) fn sync(self, sync: Sync) -> Result<Staged<'d, Synced>> {
        if let CommitMethod::Rename(_) = self.method {
            if sync != Sync::None {
                self.sync_file()?;
            }
            sys::close_error(&self.file).with_context(|| self.destination.cannot("write"))?;
        }
        let (staged, Sealed { content, seal }) = self.split();
        Ok(staged.into_phase(Synced {
            content,
            seal,
            sync,
        }))
    }

    /// Syncs the file. samba sets the time of the last write at a flush, so the times are set again
    /// where the filesystem is not local.
    fn sync_file(&self) -> Result<()> {
        sys::sync_file(&self.file).with_context(|| self.destination.cannot("write"))?;
        if self.destination.filesystem().is_local() {
            return Ok(());
        }
        self.attributes()
            .set_times(self.file.as_fd(), self.destination)
    }
}

impl<'d, Phase> Staged<'d, Phase> {
    /// Returns true if DEST will be overwritten in place from this file.
    pub(crate) fn is_spool(&self) -> bool {
        matches!(self.method, CommitMethod::InPlace)
    }

    /// Returns an error if this file cannot become DEST.
    pub(crate) fn refuse(&self) -> Result<()> {
        match &self.method {
            CommitMethod::Impossible(reason) => Err(anyhow!("{reason}")),
            _ => Ok(()),
        }
    }

    fn split(self) -> (Staged<'d, ()>, Phase) {
        let Self {
            destination,
            linked,
            file,
            method,
            initial,
            phase,
        } = self;
        (
            Staged {
                destination,
                linked,
                file,
                method,
                initial,
                phase: (),
            },
            phase,
        )
    }

    fn into_phase<Next>(self, phase: Next) -> Staged<'d, Next> {
        let Self {
            destination,
            linked,
            file,
            method,
            initial,
            ..
        } = self;
        Staged {
            destination,
            linked,
            file,
            method,
            initial,
            phase,
        }
    }
}

pub(crate) fn is_for_lack_of_permission(error: &anyhow::Error) -> bool {
    matches!(
        errno(error),
        Some(Errno::ROFS | Errno::ACCESS | Errno::PERM)
    )
}

/// Returns the error number in `error`, if it comes from a system call.
fn errno(error: &anyhow::Error) -> Option<Errno> {
    error.downcast_ref::<Errno>().copied().or_else(|| {
        error
            .downcast_ref::<std::io::Error>()
            .and_then(Errno::from_io_error)
    })
}

fn cannot_buffer_input() -> String {
    let directory = env::temp_dir();
    format!(
        "cannot buffer the input in {} ($TMPDIR)",
        Quoted::new(&directory)
    )
}
