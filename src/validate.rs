//! `--validate` and `--validate-all`: a program of the user's checks copies of the new content.
//!
//! Invariant: no name and no descriptor that the program gets leads to a file that will be
//! committed. The copies are in a *preview directory*, which is private and in which the other
//! files of DEST's directory are symbolic links, so includes by name resolve. What the program
//! writes there is removed with the directory.

use std::env;
use std::ffi::OsStr;
use std::io;
use std::ops::ControlFlow;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::rc::Rc;

use anyhow::{Context, Result, anyhow};

use crate::attributes::{Attributes, InitialMode};
use crate::destination::{Destination, ParentDir};
use crate::message::{Quoted, cannot};
use crate::named_copy::copy_whole;
use crate::outcome::Failure;
use crate::private_dir::PrivateDir;
use crate::program::{CANNOT_RUN, NOT_FOUND, Program, describe};
use crate::signals;
use crate::sys::{self, Errno, FileSystem, Metadata};
use crate::temp_name::is_temporary;

/// The maximum number of entries that are linked into a preview directory.
const MAX_SIBLINGS: usize = 1024;

/// Where the preview directory is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PreviewPlace {
    /// Beside DEST, unless another user may rename the entries of that directory.
    Beside,
    /// In $TMPDIR, because DEST's directory may not be writable.
    TemporaryDirectory,
}

/// A directory with copies of new files, and links to the files beside them.
#[derive(Debug)]
struct Preview {
    /// The directory that is previewed.
    of: Rc<ParentDir>,
    directory: PrivateDir,
    path: PathBuf,
    /// `None` before the files are linked.
    siblings: Option<Siblings>,
    place: PreviewPlace,
}

/// Which of the files beside the new ones are in the preview directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Siblings {
    All,
    /// The first [`MAX_SIBLINGS`]; there are more.
    First,
    /// None, because the directory cannot be read or links are not possible.
    None,
}

impl Drop for Preview {
    fn drop(&mut self) {
        self.directory.remove_all();
    }
}

impl Preview {
    /// Makes a preview of a directory, without links yet.
    fn make(of: &Rc<ParentDir>, place: PreviewPlace) -> Result<Self> {
        let mut place = place;
        if may_be_renamed_by_others(&of.metadata) {
            place = PreviewPlace::TemporaryDirectory;
        }
        let (parent, filesystem, path) = match place {
            PreviewPlace::Beside => (Rc::clone(&of.directory), of.filesystem, of.path.clone()),
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
            of: Rc::clone(of),
            directory,
            path,
            siblings: None,
            place,
        })
    }

    /// Adds a copy of `content` under this name, with the attributes that DEST will have. Returns
    /// it, open for reading.
    fn add(
        &self,
        content: BorrowedFd<'_>,
        attributes: &Attributes,
        destination: &Destination,
        name: &Path,
    ) -> Result<OwnedFd> {
        self.copy(content, attributes, destination, name)
            .context("cannot copy the new file")
            .with_context(|| destination.cannot("validate"))
    }

    fn copy(
        &self,
        content: BorrowedFd<'_>,
        attributes: &Attributes,
        destination: &Destination,
        name: &Path,
    ) -> Result<OwnedFd> {
        let directory = self.directory.directory().fd.as_fd();
        if self.siblings.is_some() {
            // A link to the old file, or what an earlier run of the program has made.
            self.directory.remove(name);
        }
        let copy = sys::create_new(directory, name, 0o600)?;
        // The umask may deny even our own reading.
        sys::set_mode(&copy, 0o600)?;
        // Opened before the copy gets a mode that may forbid reading.
        let reader = sys::open_existing(directory, name)?;
        copy_whole(content, copy.as_fd())?;
        // The new file itself reports what cannot be preserved.
        drop(attributes.apply(copy.as_fd(), destination, InitialMode::Private));
        Ok(reader)
    }

    /// Links the files beside the new ones, once. A directory that does not exist has none.
    fn link_siblings(&mut self) -> Result<()> {
        if self.siblings.is_none() {
            self.siblings = Some(if self.of.exists() {
                self.link_all()?
            } else {
                Siblings::All
            });
        }
        Ok(())
    }

    fn link_all(&self) -> Result<Siblings> {
        let directory = self.directory.directory().fd.as_fd();
        let originals = match self.place {
            PreviewPlace::Beside => PathBuf::from(".."),
            PreviewPlace::TemporaryDirectory => absolute(&self.of.path)?,
        };
        let Ok(beside) = sys::reopen_directory(self.of.directory.fd.as_fd()) else {
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
            let name = Path::new(OsStr::from_bytes(name));
            let target = match sys::read_link(beside.as_fd(), name) {
                // The target is an entry of this directory, so the preview has it, too.
                Ok(target) if is_name(&target) => target,
                _ => originals.join(name),
            };
            match sys::symlink(&target, directory, name) {
                Ok(()) => {
                    count += 1;
                    ControlFlow::Continue(())
                }
                // A copy has the name, or one that differs only in case if case is ignored.
                Err(Errno::EXIST) => ControlFlow::Continue(()),
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

    /// Runs the program on what `path` names. `cannot` returns the beginning of a message.
    fn ask(
        &mut self,
        program: &OsStr,
        input: Stdio,
        path: &Path,
        dest: &Path,
        cannot: &dyn Fn(&str) -> String,
    ) -> Result<(), Failure> {
        let cannot_validate = || cannot("validate");
        self.link_siblings().with_context(cannot_validate)?;
        let dest = absolute(dest).with_context(cannot_validate)?;
        signals::check()?;
        let status = run(program, input, path, &dest)
            .map_err(|failure| failure.within(&cannot_validate()))?;
        let is = |number: u8| status.code() == Some(number.into());
        if status.success() {
            Ok(())
        } else if is(CANNOT_RUN) || is(NOT_FOUND) {
            Err(anyhow!(
                "{}: the validator could not be run (status {})",
                cannot_validate(),
                status.code().unwrap_or_default()
            )
            .into())
        } else {
            Err(Failure::Refused(anyhow!(
                "{}: the validator {}{}",
                cannot("write"),
                describe(status),
                self.hint()
            )))
        }
    }

    /// Returns what a refusal adds if other files are missing in the preview.
    fn hint(&self) -> &'static str {
        match self.siblings {
            None | Some(Siblings::All) => "",
            Some(Siblings::First) => {
                "; some of the directory's other files were left out of the preview"
            }
            Some(Siblings::None) => "; the directory's other files were left out of the preview",
        }
    }
}

/// Runs the user's program on each new file, with one preview for each directory.
#[derive(Debug)]
pub(crate) struct Validator<'r> {
    /// The command for `sh -c`.
    program: &'r OsStr,
    previews: Vec<Preview>,
}

impl<'r> Validator<'r> {
    pub(crate) fn new(program: &'r OsStr) -> Self {
        Self {
            program,
            previews: Vec::new(),
        }
    }

    /// Runs the program on `content`, which DEST will have with these attributes.
    pub(crate) fn check(
        &mut self,
        content: BorrowedFd<'_>,
        attributes: &Attributes,
        destination: &Destination,
        place: PreviewPlace,
    ) -> Result<(), Failure> {
        let (program, name) = (self.program, destination.name());
        let cannot = |verb: &str| destination.cannot(verb);
        let preview = self
            .preview(destination.parent(), place)
            .with_context(|| cannot("validate"))?;
        let copy = preview.add(content, attributes, destination, name)?;
        let path = preview.path.join(name);
        preview.ask(program, copy.into(), &path, destination.path(), &cannot)
    }

    /// Returns the preview of a directory, and makes it first if there is none.
    fn preview(&mut self, of: &Rc<ParentDir>, place: PreviewPlace) -> Result<&mut Preview> {
        let is_of_it = |preview: &Preview| Rc::ptr_eq(&preview.of, of);
        let index = if let Some(index) = self.previews.iter().position(is_of_it) {
            index
        } else {
            self.previews.push(Preview::make(of, place)?);
            self.previews.len() - 1
        };
        Ok(&mut self.previews[index])
    }
}

/// Runs the user's program once on all files that will be new in a directory.
#[derive(Debug)]
pub(crate) struct DirectoryValidator<'r> {
    /// The command for `sh -c`.
    program: &'r OsStr,
    /// The directory as the user typed it.
    directory: &'r Path,
    /// A preview of its own, into which no other program has written.
    preview: Preview,
}

impl<'r> DirectoryValidator<'r> {
    pub(crate) fn new(
        program: &'r OsStr,
        directory: &'r Path,
        opened: &Rc<ParentDir>,
        place: PreviewPlace,
    ) -> Result<Self> {
        let preview = Preview::make(opened, place)
            .with_context(|| cannot("validate the files of", directory))?;
        Ok(Self {
            program,
            directory,
            preview,
        })
    }

    /// Adds a copy of `content`, which DEST will have. `name` in the directory leads to DEST.
    pub(crate) fn add(
        &self,
        content: BorrowedFd<'_>,
        attributes: &Attributes,
        destination: &Destination,
        name: &Path,
    ) -> Result<()> {
        let Preview { of, directory, .. } = &self.preview;
        let is_inside = Rc::ptr_eq(of, destination.parent());
        let own = if is_inside { destination.name() } else { name };
        self.preview.add(content, attributes, destination, own)?;
        if own != name {
            sys::symlink(own, directory.directory().fd.as_fd(), name)
                .with_context(|| destination.cannot("validate"))?;
        }
        Ok(())
    }

    /// Runs the program on the directory as it will be.
    pub(crate) fn check(mut self) -> Result<(), Failure> {
        let (path, directory) = (self.preview.path.clone(), self.directory);
        let cannot = |verb: &str| cannot(&format!("{verb} the files of"), directory);
        self.preview
            .ask(self.program, Stdio::null(), &path, directory, &cannot)
    }
}

/// Runs the validator. Its output goes to standard error.
fn run(program: &OsStr, input: Stdio, path: &Path, dest: &Path) -> Result<ExitStatus, Failure> {
    let mut command = Command::new("sh");
    // Without `--`, a program that begins with a dash would be an option of sh, and sh would run
    // its standard input: the content.
    let words = [
        OsStr::new("-c"),
        OsStr::new("--"),
        program,
        OsStr::new("sh"),
    ];
    command.args(words).arg(path).arg(dest);
    command.stdin(input);
    command.stdout(
        io::stderr()
            .as_fd()
            .try_clone_to_owned()
            .context("cannot duplicate standard error")?,
    );
    let program = Program::start(command)?.context("cannot run 'sh'")?;
    Ok(program.wait()?)
}

/// Returns true if a link's target is a name in the link's own directory.
fn is_name(target: &Path) -> bool {
    let parts = target.components();
    let mut parts = parts.filter(|part| *part != Component::CurDir);
    matches!(
        (parts.next(), parts.next()),
        (Some(Component::Normal(_)), None)
    )
}

/// Returns true if NFS or FUSE gives such names to open files that were unlinked.
fn is_of_open_file(name: &[u8]) -> bool {
    name.starts_with(b".nfs") || name.starts_with(b".fuse_hidden")
}

/// Returns true if another user may replace a preview with a directory of their own, which the
/// program would then read.
fn may_be_renamed_by_others(seen: &Metadata) -> bool {
    const STICKY: u32 = 0o1000;
    const WRITABLE_BY_OTHERS: u32 = 0o022;
    let is_trusted = seen.uid == 0 || seen.uid == sys::effective_uid();
    !is_trusted || (seen.mode & WRITABLE_BY_OTHERS != 0 && seen.mode & STICKY == 0)
}

fn absolute(path: &Path) -> Result<PathBuf> {
    std::path::absolute(path).context("cannot find the current directory")
}
