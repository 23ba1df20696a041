//! `--validate`: a program of the user's checks the new content, on a copy.
//!
//! Invariant: no name and no descriptor that the program gets leads to the file that will be committed. It gets a copy in a
//! *preview directory*, a private one in which the other files of DEST's directory are symbolic links, so that includes by
//! a name resolve. What it writes there is thrown away with the directory.

use std::env;
use std::ffi::OsStr;
use std::io;
use std::ops::ControlFlow;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::rc::Rc;

use anyhow::{Context, Result, anyhow};

use crate::attributes::{Attributes, InitialMode};
use crate::destination::{Destination, ParentDir};
use crate::message::Quoted;
use crate::outcome::Failure;
use crate::private_dir::PrivateDir;
use crate::program::{CANNOT_RUN, NOT_FOUND, Program, describe};
use crate::signals;
use crate::sys::{self, Errno, FileSystem};
use crate::temp_name::is_temporary;
use crate::transfer::copy_whole;

/// At most so many entries of a directory are linked.
const MAX_SIBLINGS: usize = 1024;

/// Where copies are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PreviewPlace {
    /// Beside DEST, unless another user may rename the entries of that directory.
    Beside,
    /// In $TMPDIR: it may not be possible to write to DEST's directory.
    TemporaryDirectory,
}

/// A directory with copies of new files, and links to the files beside DEST.
#[derive(Debug)]
pub(crate) struct Preview {
    directory: PrivateDir,
    path: PathBuf,
    /// `None` before they are linked.
    siblings: Option<Siblings>,
    place: PreviewPlace,
}

/// Which of the files beside DEST are in a preview directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Siblings {
    All,
    /// So many and no more: there are more.
    First,
    /// The directory cannot be read.
    None,
}

impl Preview {
    /// Makes a preview directory for DEST, without links yet.
    fn make(destination: &Destination, place: PreviewPlace) -> Result<Self> {
        let mut place = place;
        if may_be_renamed_by_others(destination) {
            place = PreviewPlace::TemporaryDirectory;
        }
        let (parent, filesystem, path) = match place {
            PreviewPlace::Beside => (
                Rc::clone(destination.directory()),
                destination.filesystem(),
                destination.directory_path().to_owned(),
            ),
            PreviewPlace::TemporaryDirectory => {
                let path = env::temp_dir();
                let directory = sys::open_directory(sys::CWD, &path)
                    .with_context(|| format!("cannot open {} ($TMPDIR)", Quoted::new(&path)))?;
                let filesystem = sys::filesystem(&directory.fd).unwrap_or(FileSystem::Other);
                (Rc::new(directory), filesystem, path)
            }
        };
        let directory = PrivateDir::make(&parent, filesystem)
            .with_context(|| format!("cannot make a directory in {}", Quoted::new(&path)))?;
        let path = absolute(&path)?.join(directory.name());
        Ok(Self {
            directory,
            path,
            siblings: None,
            place,
        })
    }

    /// Adds a copy of `content`, with the name, mode and owner that DEST will have; returns it, open for reading.
    fn add(
        &self,
        content: BorrowedFd<'_>,
        attributes: &Attributes,
        destination: &Destination,
    ) -> Result<OwnedFd> {
        let directory = self.directory.directory().fd.as_fd();
        let name = destination.name();
        if self.siblings.is_some() {
            // The link to the old file, or what an earlier call of the program has put there.
            self.directory.remove(name);
        }
        let copy = sys::create_new(directory, name, 0o600)?;
        // The umask may have taken even the right to read it.
        sys::set_mode(&copy, 0o600)?;
        // Before it gets a mode that may forbid it.
        let reader = sys::open_existing(directory, name)?;
        copy_whole(content, copy.as_fd())?;
        // What cannot be had for the copy is reported of the new file itself.
        drop(attributes.apply(copy.as_fd(), destination, InitialMode::Private));
        Ok(reader)
    }

    /// Links the files beside DEST, once. Where DEST's directory does not exist, there are none.
    fn link_siblings(&mut self, destination: &Destination) -> Result<()> {
        if self.siblings.is_none() {
            self.siblings = Some(if destination.missing().is_empty() {
                self.link_all(destination)?
            } else {
                Siblings::All
            });
        }
        Ok(())
    }

    fn link_all(&self, destination: &Destination) -> Result<Siblings> {
        let directory = self.directory.directory().fd.as_fd();
        let originals = match self.place {
            PreviewPlace::Beside => PathBuf::from(".."),
            PreviewPlace::TemporaryDirectory => absolute(destination.directory_path())?,
        };
        let Ok(beside) = sys::reopen_directory(destination.directory().fd.as_fd()) else {
            return Ok(Siblings::None);
        };
        let mut count = 0;
        let mut siblings = Siblings::All;
        let mut linked = Ok(());
        let read = sys::for_each_name(beside.as_fd(), |name| {
            if is_temporary(name) || is_of_open_file(name) {
                return ControlFlow::Continue(());
            }
            if count == MAX_SIBLINGS {
                siblings = Siblings::First;
                return ControlFlow::Break(());
            }
            count += 1;
            let name = Path::new(OsStr::from_bytes(name));
            match sys::symlink(&originals.join(name), directory, name) {
                // The copy itself; where case is ignored, also a name that differs in case only.
                Ok(()) | Err(Errno::EXIST) => ControlFlow::Continue(()),
                Err(errno) => {
                    linked = Err(errno);
                    ControlFlow::Break(())
                }
            }
        });
        // vfat and SMB have no symbolic links.
        Ok(if linked.is_err() || read.is_err() {
            Siblings::None
        } else {
            siblings
        })
    }

    /// What a refusal adds where files beside DEST are missing.
    fn hint(&self) -> &'static str {
        match self.siblings {
            None | Some(Siblings::All) => "",
            Some(Siblings::First) => "; some of the files beside it were left out of its directory",
            Some(Siblings::None) => "; the files beside it were left out of its directory",
        }
    }
}

/// Asks the user's program about one new file after the other, in one preview for each directory.
#[derive(Debug)]
pub(crate) struct Validator<'r> {
    /// For `sh -c`.
    program: &'r OsStr,
    previews: Vec<(Rc<ParentDir>, Preview)>,
}

impl<'r> Validator<'r> {
    pub(crate) fn new(program: &'r OsStr) -> Self {
        Self {
            program,
            previews: Vec::new(),
        }
    }

    /// Has the program check `content`, which DEST will have with these attributes.
    pub(crate) fn check(
        &mut self,
        content: BorrowedFd<'_>,
        attributes: &Attributes,
        destination: &Destination,
        place: PreviewPlace,
    ) -> Result<(), Failure> {
        let cannot = || destination.cannot("validate");
        let program = self.program;
        let preview = self.preview(destination, place).with_context(cannot)?;
        let copy = preview
            .add(content, attributes, destination)
            .context("the new file cannot be copied")
            .with_context(cannot)?;
        preview.link_siblings(destination).with_context(cannot)?;
        let path = preview.path.join(destination.name());
        let dest = absolute(destination.path()).with_context(cannot)?;
        signals::check()?;
        let status = run(program, copy, &path, &dest).map_err(|failure| match failure {
            Failure::Failed(error) => error.context(cannot()).into(),
            other => other,
        })?;
        let is = |number: u8| status.code() == Some(number.into());
        if status.success() {
            Ok(())
        } else if is(CANNOT_RUN) || is(NOT_FOUND) {
            Err(anyhow!(
                "{}: the validator could not be run (status {})",
                cannot(),
                status.code().unwrap_or_default()
            )
            .into())
        } else {
            Err(Failure::Refused(anyhow!(
                "cannot write {}: the validator {}{}",
                destination.typed(),
                describe(status),
                preview.hint()
            )))
        }
    }

    /// The preview for DEST's directory, made when it is first asked for.
    fn preview(&mut self, destination: &Destination, place: PreviewPlace) -> Result<&mut Preview> {
        let is_for =
            |(parent, _): &(Rc<ParentDir>, Preview)| Rc::ptr_eq(parent, destination.parent());
        let index = if let Some(index) = self.previews.iter().position(is_for) {
            index
        } else {
            let preview = Preview::make(destination, place)?;
            self.previews
                .push((Rc::clone(destination.parent()), preview));
            self.previews.len() - 1
        };
        Ok(&mut self.previews[index].1)
    }
}

/// Runs the validator with the copy on standard input. Its output goes to standard error.
fn run(program: &OsStr, copy: OwnedFd, path: &Path, dest: &Path) -> Result<ExitStatus, Failure> {
    let mut command = Command::new("sh");
    // A program that begins with a dash is no option of sh, which would run its standard input then: the content.
    let words = [
        OsStr::new("-c"),
        OsStr::new("--"),
        program,
        OsStr::new("sh"),
    ];
    command.args(words).arg(path).arg(dest);
    command.stdin(copy);
    command.stdout(
        io::stderr()
            .as_fd()
            .try_clone_to_owned()
            .context("standard error cannot be shared")?,
    );
    let program = Program::start(command)?.context("'sh' cannot be run")?;
    Ok(program.wait()?)
}

/// Tells whether a name is what NFS or FUSE gives an open file that was removed.
fn is_of_open_file(name: &[u8]) -> bool {
    name.starts_with(b".nfs") || name.starts_with(b".fuse_hidden")
}

/// Tells whether another user may put a directory of their own in the place of a preview: then the program would read that.
fn may_be_renamed_by_others(destination: &Destination) -> bool {
    const STICKY: u32 = 0o1000;
    const WRITABLE_BY_OTHERS: u32 = 0o022;
    let seen = destination.directory_metadata();
    let is_trusted = seen.uid == 0 || seen.uid == sys::effective_uid();
    !is_trusted || (seen.mode & WRITABLE_BY_OTHERS != 0 && seen.mode & STICKY == 0)
}

fn absolute(path: &Path) -> Result<PathBuf> {
    std::path::absolute(path).context("the current directory cannot be found")
}
