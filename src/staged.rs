//! The new file, from its first byte to its name.
//!
//! ```text
//! beside() ─> Staged<Open> ─fill─> Staged<Filled> ─seal─> Staged<Sealed> ─sync─> Staged<Synced> ─commit─> Committed
//!                  │                    │                      │                      │                      │
//!                  └────────────────────┴────── dropped ───────┴──────────────────────┘                 make_durable
//!                               nothing is left, DEST is as it was                                           │
//!                                                                                                         Outcome
//! ```
//!
//! The rule: DEST changes in one call, the rename in `commit`, and everything that can fail comes before it, but for the
//! directory's fsync. The phases are types, so that nothing is written after the guards have looked, and nothing is
//! committed that is not on the disk. The file has no name until `commit`, where the filesystem can do that (O_TMPFILE);
//! otherwise it has a temporary one from the start, with mode 0600 until it is sealed.

mod commit;
mod shelf;

use std::env;
use std::fs::{File, Permissions};
use std::io::{self, Seek};
use std::mem;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};

pub(crate) use self::shelf::{Flush, Shelved};
use crate::attributes::{Attributes, Birth};
use crate::command::{self, Output};
use crate::destination::Destination;
use crate::message::Quoted;
use crate::outcome::Failure;
use crate::request::Sync;
use crate::source::{self, Input};
use crate::sys::{self, Errno, LinkBy, Metadata};
use crate::temp_name::{PrivateDirectory, TempName};
use crate::transfer::{Broken, Transfer, Writeback};
use crate::watch::{Content, Watch};

/// A new file that nobody can see as DEST yet.
#[derive(Debug)]
pub(crate) struct Staged<'d, Phase> {
    destination: &'d Destination,
    // Before the file, and so dropped before it: a name goes while its lock is still held.
    origin: Origin<'d>,
    file: OwnedFd,
    birth: Birth,
    phase: Phase,
}

/// What the file is called.
#[derive(Debug)]
enum Origin<'d> {
    Unnamed(LinkBy),
    Named(TempName<'d>),
    /// It will never be DEST: its content will be written to DEST in place.
    Elsewhere,
}

/// Nothing is in it.
#[derive(Debug)]
pub(crate) struct Open;

/// All of the content is in it.
#[derive(Debug)]
pub(crate) struct Filled {
    content: Content,
}

/// It looks as DEST shall look.
#[derive(Debug)]
pub(crate) struct Sealed {
    content: Content,
    warnings: Vec<String>,
}

/// It is as durable as was asked for.
#[derive(Debug)]
pub(crate) struct Synced {
    content: Content,
    warnings: Vec<String>,
    sync: Sync,
}

impl<'d> Staged<'d, Open> {
    /// Makes the file in DEST's directory, or where that is missing in the nearest one above it.
    pub(crate) fn beside(destination: &'d Destination, attributes: &Attributes) -> Result<Self> {
        let directory = destination.directory().fd.as_fd();
        let owner = || attributes.owner(destination);
        TempName::remove_leftovers_from(
            directory,
            destination.searched(),
            destination.name(),
            owner,
        );
        let mut birth = attributes.birth(destination);
        let unnamed =
            unnamed(directory, birth.mode()).with_context(|| cannot_create(destination))?;
        let (origin, file) = if let Some((link_by, file)) = unnamed {
            (Origin::Unnamed(link_by), file)
        } else {
            birth = Birth::Private;
            let (name, file) = TempName::create(directory, destination.name(), owner())
                .with_context(|| cannot_create(destination))?;
            (Origin::Named(name), file)
        };
        Ok(Self {
            destination,
            origin,
            file,
            birth,
            phase: Open,
        })
    }

    /// Makes the file in a directory with others, all of which get their names together.
    pub(crate) fn among_others(
        destination: &'d Destination,
        attributes: &Attributes,
        directory: &'d PrivateDirectory<'d>,
    ) -> Result<Self> {
        let birth = attributes.birth(destination);
        let (name, file) = TempName::create_in(directory, destination.name(), birth.mode())
            .with_context(|| cannot_create(destination))?;
        Ok(Self {
            destination,
            origin: Origin::Named(name),
            file,
            birth,
            phase: Open,
        })
    }

    /// Takes a file that is somewhere else, from which DEST will be written in place.
    pub(crate) fn elsewhere(destination: &'d Destination, file: OwnedFd) -> Self {
        Self {
            destination,
            origin: Origin::Elsewhere,
            file,
            birth: Birth::Private,
            phase: Open,
        }
    }

    /// Reads the input to its end; COMMAND must have exited with 0.
    pub(crate) fn fill(
        mut self,
        input: &Input<'_>,
        watch: Watch<'_>,
        writeback: Writeback,
    ) -> Result<Staged<'d, Filled>, Failure> {
        let destination = self.destination;
        let explain = |broken| match broken {
            Broken::Writing(errno) if matches!(self.origin, Origin::Elsewhere) => {
                Failure::Failed(anyhow!(errno).context(cannot_take_in()))
            }
            broken => explain(broken, destination, Some(input)),
        };
        let mut transfer = Transfer::begin(self.file.as_fd(), writeback, watch);
        if let Some((old, metadata)) = input.first() {
            transfer
                .take(*old, metadata)
                .map_err(|broken| explain(broken.of_old()))?;
        }
        let (watch, size) = match input.origin() {
            source::Origin::Stdin(metadata) => {
                transfer
                    .take_shared(sys::stdin(), metadata)
                    .map_err(explain)?;
                transfer.end().map_err(explain)?
            }
            source::Origin::File(file, metadata, _) => {
                transfer.take(file.as_fd(), metadata).map_err(explain)?;
                transfer.end().map_err(explain)?
            }
            source::Origin::Command(words) => {
                // The lock of a file with a name would go with the descriptor that COMMAND writes to. And a COMMAND that
                // opens /dev/stdout anew empties it, which must not cost the old content.
                let output = match self.origin {
                    Origin::Unnamed(_) if input.first().is_none() => Output::choose(&self.file),
                    _ => Output::Piped,
                };
                command::run(
                    words,
                    &self.file,
                    &output,
                    &mut transfer,
                    destination,
                    &explain,
                )?;
                let (watch, mut size) = transfer.end().map_err(explain)?;
                if let Output::Straight(reader) = output {
                    let written = mem::replace(&mut self.file, reader);
                    command::close(written, &self.file, words, destination)?;
                    // Only now nobody can add to it any more.
                    size = self.metadata()?.size;
                    // COMMAND may have exited with 0 and not have looked whether its writes succeeded.
                    sys::probe_room(destination.directory().fd.as_fd())
                        .map_err(|errno| explain(Broken::Writing(errno)))?;
                }
                (watch, size)
            }
        };
        let content = watch.finish(self.file.as_fd(), size).map_err(explain)?;
        Ok(self.into_phase(Filled { content }))
    }

    /// Copies the old file.
    pub(crate) fn fill_from_existing(self) -> Result<Staged<'d, Filled>> {
        let destination = self.destination;
        let mut transfer = Transfer::begin(self.file.as_fd(), Writeback::Late, Watch::default());
        let opened = destination
            .open()?
            .context("it is not a regular file any more")?;
        let old = opened.content().context("it cannot be read")?;
        transfer
            .take(old, &opened.metadata)
            .map_err(Broken::errno)?;
        let (watch, size) = transfer.end().map_err(Broken::errno)?;
        let content = watch
            .finish(self.file.as_fd(), size)
            .map_err(Broken::errno)?;
        Ok(self.into_phase(Filled { content }))
    }
}

impl<'d> Staged<'d, Filled> {
    pub(crate) fn content(&self) -> &Content {
        &self.phase.content
    }

    /// Gives the file DEST's own name in a directory of its own, where a program of ours can find it, and closes it for
    /// writing where that can be. For a file that is elsewhere there is nothing to do.
    pub(crate) fn show(mut self) -> Result<Self> {
        let destination = self.destination;
        let (directory, name) = (destination.directory().fd.as_fd(), destination.name());
        // What is told only once is not to be told to somebody who opens and closes it in passing.
        sys::close_error(&self.file).with_context(|| cannot_write(destination))?;
        let named = match mem::replace(&mut self.origin, Origin::Elsewhere) {
            Origin::Elsewhere => return Ok(self),
            Origin::Named(temporary) => temporary.move_private(directory, name),
            Origin::Unnamed(by) => TempName::link_private(&self.file, by, directory, name),
        };
        self.origin = Origin::Named(named.with_context(|| cannot_write(destination))?);
        // The directory's lock stands for that of the file, which goes with the descriptor.
        if let Ok(reader) = sys::reopen_for_reading(&self.file) {
            sys::close(mem::replace(&mut self.file, reader))
                .with_context(|| cannot_write(destination))?;
        }
        Ok(self)
    }

    /// Gives the file what DEST shall look like. From here on nobody writes to it.
    pub(crate) fn seal(self, attributes: &Attributes) -> Result<Staged<'d, Sealed>> {
        let destination = self.destination;
        let warnings = match &self.origin {
            Origin::Elsewhere => Vec::new(),
            Origin::Named(_) | Origin::Unnamed(_) => {
                attributes.put_on(self.file.as_fd(), destination, self.birth)?
            }
        };
        let (staged, Filled { content }) = self.split();
        Ok(staged.into_phase(Sealed { content, warnings }))
    }
}

impl<'d> Staged<'d, Sealed> {
    pub(crate) fn content(&self) -> &Content {
        &self.phase.content
    }

    pub(crate) fn file(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    /// Where a program can find the file, from DEST's directory; `None` for a file that is elsewhere.
    pub(crate) fn path(&self) -> Option<PathBuf> {
        match &self.origin {
            Origin::Named(name) => Some(name.path()),
            Origin::Unnamed(_) | Origin::Elsewhere => None,
        }
    }

    /// Whether the name still is the file's: a program may have put another in its place.
    pub(crate) fn has_its_name(&self) -> bool {
        match &self.origin {
            Origin::Named(name) => name.is_of(&self.file),
            Origin::Unnamed(_) | Origin::Elsewhere => true,
        }
    }

    /// Copies the content to a file that another program can look at, with the permissions that DEST has.
    pub(crate) fn copy_to(&self, path: &Path) -> Result<()> {
        let copy = || -> io::Result<()> {
            let mut to = File::create_new(path)?;
            let mut from = File::from(self.file.try_clone()?);
            from.rewind()?;
            io::copy(&mut from, &mut to)?;
            let mode = self
                .destination
                .existing()
                .map_or(0o600, |old| old.mode & 0o777);
            to.set_permissions(Permissions::from_mode(mode))
        };
        copy().context("the content cannot be copied to a temporary file")
    }

    /// Puts the file on the disk, as far as that was asked for, and takes what errors are left to be told.
    pub(crate) fn sync(self, sync: Sync) -> Result<Staged<'d, Synced>> {
        let destination = self.destination;
        if sync != Sync::None {
            sys::sync_file(&self.file).with_context(|| cannot_write(destination))?;
        }
        sys::close_error(&self.file).with_context(|| cannot_write(destination))?;
        if let Origin::Unnamed(_) = self.origin {
            // Not left to the commit: where it cannot be locked, no backup is to be touched.
            TempName::lock_before(&self.file).with_context(|| cannot_write(destination))?;
        }
        let (staged, Sealed { content, warnings }) = self.split();
        Ok(staged.into_phase(Synced {
            content,
            warnings,
            sync,
        }))
    }
}

impl<'d, Phase> Staged<'d, Phase> {
    pub(crate) fn metadata(&self) -> Result<Metadata> {
        sys::metadata(&self.file).with_context(|| cannot_write(self.destination))
    }

    fn split(self) -> (Staged<'d, ()>, Phase) {
        let Self {
            destination,
            origin,
            file,
            birth,
            phase,
        } = self;
        (
            Staged {
                destination,
                origin,
                file,
                birth,
                phase: (),
            },
            phase,
        )
    }

    fn into_phase<Next>(self, phase: Next) -> Staged<'d, Next> {
        let Self {
            destination,
            origin,
            file,
            birth,
            ..
        } = self;
        Staged {
            destination,
            origin,
            file,
            birth,
            phase,
        }
    }
}

/// Opens a file without a name and makes sure that it can get one; `None` where either cannot be had.
fn unnamed(directory: BorrowedFd<'_>, mode: u32) -> Result<Option<(LinkBy, OwnedFd)>, Errno> {
    let Some(file) = sys::open_unnamed(directory, mode)? else {
        return Ok(None);
    };
    Ok(sys::probe_link(file.as_fd(), directory).map(|by| (by, file)))
}

fn cannot_create(destination: &Destination) -> String {
    format!(
        "cannot create a file in the directory of {}",
        destination.typed()
    )
}

/// The input's way leads through a file elsewhere.
pub(crate) fn cannot_take_in() -> String {
    format!("cannot take in the input in {}", temporary_directory())
}

/// For messages.
pub(crate) fn temporary_directory() -> String {
    let directory = env::temp_dir();
    format!("{}, which $TMPDIR chooses", Quoted::new(&directory))
}

fn cannot_write(destination: &Destination) -> String {
    format!("cannot write {}", destination.typed())
}

/// Says whose error it was.
fn explain(broken: Broken, destination: &Destination, input: Option<&Input<'_>>) -> Failure {
    let what = match (broken, input) {
        (Broken::Reading(_), Some(input)) => input.cannot_read(),
        (Broken::Reading(_) | Broken::ReadingOld(_), _) => {
            format!("cannot read {}", destination.typed())
        }
        (Broken::Writing(_), _) => cannot_write(destination),
    };
    Failure::Failed(anyhow!(broken.errno()).context(what))
}
