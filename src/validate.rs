//! `--validate`: a program of the user's judges the new file.
//!
//! The rule: it sees what will be committed, under DEST's own name, with the mode and owner that DEST will have, in a
//! directory that only we can look into. What it writes into the file is not committed unnoticed: afterwards nobody else
//! has the file open for writing, and it has not been written to.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, anyhow};

use crate::command::{Running, describe};
use crate::destination::Destination;
use crate::outcome::Failure;
use crate::staged::{Sealed, Staged};
use crate::sys::{self, Time, Writers};

/// Asks the user's program, if there is one. Gives the file back as it was.
pub(crate) fn validate<'d>(
    sealed: Staged<'d, Sealed>,
    destination: &Destination,
    program: Option<&OsStr>,
) -> Result<Staged<'d, Sealed>, Failure> {
    let Some(program) = program else {
        return Ok(sealed);
    };
    let (shown, name) = sealed.show()?;
    let content = || {
        shown
            .file()
            .try_clone_to_owned()
            .context("cannot show the content")
    };
    let Some(name) = name else {
        // What will be written in place is not in DEST's directory: there may be no writing to that.
        let directory = tempfile::tempdir().context("cannot make a temporary directory")?;
        let path = directory.path().join(destination.name());
        shown.copy_to(&path)?;
        ask(program, content()?, &path, destination)?;
        return Ok(shown);
    };
    let path = absolute(&destination.directory_path().join(name))?;
    let stamp = Stamp::put_on(shown.file()).context("cannot mark the new file")?;
    ask(program, content()?, &path, destination)?;
    stamp.check(shown.file(), destination)?;
    Ok(shown)
}

/// Runs the program, with the content on stdin.
fn ask(
    program: &OsStr,
    content: OwnedFd,
    path: &Path,
    destination: &Destination,
) -> Result<(), Failure> {
    sys::seek(content.as_fd(), 0).context("cannot show the content")?;
    let mut command = Command::new("sh");
    command
        .arg("-c")
        .arg(program)
        .arg("sh")
        .arg(path)
        .arg(destination.path());
    command.stdin(content);
    command.stdout(
        std::io::stderr()
            .as_fd()
            .try_clone_to_owned()
            .context("cannot pass on stderr")?,
    );
    let running = Running::start(command, OsStr::new("sh")).map_err(|failure| match failure {
        // Not COMMAND, and so none of its statuses.
        Failure::Command { error, .. } => Failure::Failed(error),
        other => other,
    })?;
    let status = running.wait()?;
    if status.success() {
        return Ok(());
    }
    Err(Failure::Refused(anyhow!(
        "cannot write {}: the program that validates it {}",
        destination.typed(),
        describe(status)
    )))
}

fn absolute(path: &Path) -> Result<PathBuf> {
    std::path::absolute(path).context("cannot find the current directory")
}

/// A time of modification that the file would not have after a write.
///
/// A clock that ticks every 4 ms can give a write that follows another the same time; so the file's is put back by a
/// second, and checked, and put right.
struct Stamp {
    time: Time,
    size: u64,
}

impl Stamp {
    fn put_on(file: BorrowedFd<'_>) -> Result<Self> {
        let now = sys::metadata(file)?;
        sys::set_modified(file, now.modified.second_before())?;
        Ok(Self {
            time: now.modified,
            size: now.size,
        })
    }

    /// Refuses a file that was written to, or may yet be; puts the time right of one that was not.
    fn check(self, file: BorrowedFd<'_>, destination: &Destination) -> Result<(), Failure> {
        let now = sys::metadata(file).context("cannot look at the new file")?;
        let untouched = now.modified == self.time.second_before() && now.size == self.size;
        if !untouched || sys::is_read_only(file) && sys::writers(file) == Writers::Somebody {
            return Err(Failure::Refused(anyhow!(
                "cannot write {}: the program that validates it wrote to it",
                destination.typed()
            )));
        }
        sys::set_modified(file, self.time).context("cannot set the time of the new file")?;
        Ok(())
    }
}
