//! `--validate` and `--validate-all`: a program of the user's checks the new content, on copies.
//!
//! Invariant: no name and no descriptor that the program gets leads to a file that will be committed. It gets copies in a
//! *preview directory*, a private one in which the other files of DEST's directory are symbolic links, so that includes by
//! a name resolve. What it writes there is thrown away with the directory.

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
use crate::outcome::Failure;
use crate::private_dir::PrivateDir;
use crate::program::{CANNOT_RUN, NOT_FOUND, Program, describe};
use crate::signals;
use crate::sys::{self, Errno, FileSystem, Metadata};
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

/// A directory with copies of new files, and links to the files beside them.
#[derive(Debug)]
struct Preview {
    /// The directory that it shows as it would be.
    of: Rc<ParentDir>,
    directory: PrivateDir,
    path: PathBuf,
    /// `None` before they are linked.
    siblings: Option<Siblings>,
    place: PreviewPlace,
}

/// Which of the files beside the new ones are in a preview directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Siblings {
    All,
    /// So many and no more: there are more.
    First,
    /// The directory cannot be read.
    None,
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

    /// Adds a copy of `content`, with this name, and the mode and owner that DEST will have; returns it, open for reading.
    fn add(
        &self,
        content: BorrowedFd<'_>,
        attributes: &Attributes,
        destination: &Destination,
        name: &Path,
    ) -> Result<OwnedFd> {
        self.copy(content, attributes, destination, name)
            .context("the new file cannot be copied")
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

    /// Links the files beside the new ones, once. Where the directory does not exist, there are none.
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
                // A link to a name beside it leads to a copy here, if there is one.
                Ok(target) if is_name(&target) => target,
                _ => originals.join(name),
            };
            match sys::symlink(&target, directory, name) {
                Ok(()) => {
                    count += 1;
                    ControlFlow::Continue(())
                }
                // A copy; where case is ignored, also a name that differs in case only.
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

    /// Has the program check what `path` names. `cannot` is the beginning of a message about that.
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

    /// What a refusal adds where other files are missing.
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

/// Asks the user's program about one new file after the other, in one preview for each directory.
#[derive(Debug)]
pub(crate) struct Validator<'r> {
    /// For `sh -c`.
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

    /// Has the program check `content`, which DEST will have with these attributes.
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

    /// The preview of a directory, made when it is first asked for.
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

/// Asks the user's program once about all files that will be new in a directory.
#[derive(Debug)]
pub(crate) struct DirectoryValidator<'r> {
    /// For `sh -c`.
    program: &'r OsStr,
    /// As the user typed it.
    directory: &'r Path,
    /// Its own, where no program has written yet.
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

    /// Adds a copy of `content`, which DEST will have. `name` leads to DEST from the directory.
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

    /// Has the program check the directory, as it will be.
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
    // A program that begins with a dash is no option of sh, which would run its standard input then: the content.
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
            .context("standard error cannot be shared")?,
    );
    let program = Program::start(command)?.context("'sh' cannot be run")?;
    Ok(program.wait()?)
}

/// Tells whether a link's target is a name in the link's own directory.
fn is_name(target: &Path) -> bool {
    let parts = target.components();
    let mut parts = parts.filter(|part| *part != Component::CurDir);
    matches!(
        (parts.next(), parts.next()),
        (Some(Component::Normal(_)), None)
    )
}

/// Tells whether a name is what NFS or FUSE gives an open file that was removed.
fn is_of_open_file(name: &[u8]) -> bool {
    name.starts_with(b".nfs") || name.starts_with(b".fuse_hidden")
}

/// Tells whether another user may put a directory of their own in the place of a preview: then the program would read that.
fn may_be_renamed_by_others(seen: &Metadata) -> bool {
    const STICKY: u32 = 0o1000;
    const WRITABLE_BY_OTHERS: u32 = 0o022;
    let is_trusted = seen.uid == 0 || seen.uid == sys::effective_uid();
    !is_trusted || (seen.mode & WRITABLE_BY_OTHERS != 0 && seen.mode & STICKY == 0)
}

fn absolute(path: &Path) -> Result<PathBuf> {
    std::path::absolute(path).context("the current directory cannot be found")
}
