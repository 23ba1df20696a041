//! `--validate`: a program of the user's judges the new file.
//!
//! The rule: it sees what will be committed, under DEST's own name, with the mode and owner that DEST will have, in a
//! directory that only we can look into. What it writes into the file is not committed unnoticed: afterwards nobody else
//! has the file open for writing, and it has not been written to.

use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, anyhow};

use crate::checks;
use crate::command::{Running, describe};
use crate::destination::Destination;
use crate::outcome::Failure;
use crate::signals::{self, Attending};
use crate::staged::{Sealed, Staged, temporary_directory};
use crate::sys::{self, Metadata, Writers};

/// Asks the user's program.
pub(crate) fn validate(
    sealed: &Staged<'_, Sealed>,
    destination: &Destination,
    program: &OsStr,
) -> Result<(), Failure> {
    let done = match sealed.path() {
        Some(name) => validate_itself(sealed, &name, destination, program),
        None => validate_copy(sealed, destination, program),
    };
    done.map_err(|failure| match failure {
        Failure::Failed(error) => {
            Failure::Failed(error.context(format!("cannot validate {}", destination.typed())))
        }
        other => other,
    })
}

fn validate_itself(
    sealed: &Staged<'_, Sealed>,
    name: &Path,
    destination: &Destination,
    program: &OsStr,
) -> Result<(), Failure> {
    let path = absolute(&destination.directory_path().join(name))?;
    let content = sealed
        .file()
        .try_clone_to_owned()
        .context("the new file cannot be shown")?;
    let stamp = Stamp::put_on(sealed.file()).context("the new file's time cannot be set")?;
    ask(program, content, &path, destination)?;
    stamp.check(sealed, destination)
}

/// What will be written in place is not in DEST's directory: there may be no writing to that. So the program sees a copy.
fn validate_copy(
    sealed: &Staged<'_, Sealed>,
    destination: &Destination,
    program: &OsStr,
) -> Result<(), Failure> {
    // A signal waits for the copy too, which is then removed.
    let attending = Attending::begin()?;
    let directory = tempfile::tempdir().with_context(|| {
        format!(
            "no directory for it can be made in {}",
            temporary_directory()
        )
    })?;
    let path = directory.path().join(destination.name());
    sealed.copy_to(&path)?;
    let content = File::open(&path).context("the new file cannot be shown")?;
    if let Some(signal) = signals::caught() {
        return Err(Failure::Interrupted(signal));
    }
    ask(program, content.into(), &path, destination)?;
    drop(directory);
    drop(attending);
    Ok(())
}

/// Runs the program, with the content on stdin.
fn ask(
    program: &OsStr,
    content: OwnedFd,
    path: &Path,
    destination: &Destination,
) -> Result<(), Failure> {
    sys::seek(content.as_fd(), 0).context("the new file cannot be shown")?;
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
            .context("stderr cannot be passed on")?,
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
    std::path::absolute(path).context("the current directory cannot be found")
}

/// What the file looks like to the program, with a time of modification that it would not have after a write.
///
/// A clock that ticks every 4 ms can give a write that follows another the same time; so the file's is put back by a
/// second, and checked, and put right.
struct Stamp {
    seen: Metadata,
}

impl Stamp {
    fn put_on(file: BorrowedFd<'_>) -> Result<Self> {
        let seen = sys::metadata(file)?;
        sys::set_modified(file, seen.modified.second_before())?;
        Ok(Self { seen })
    }

    /// Refuses a file that was changed, exchanged, or may yet be written to; puts the time right of one that was not.
    fn check(self, sealed: &Staged<'_, Sealed>, destination: &Destination) -> Result<(), Failure> {
        let file = sealed.file();
        let now = sys::metadata(file).context("the new file cannot be looked at")?;
        let expected = Metadata {
            modified: self.seen.modified.second_before(),
            ..self.seen
        };
        let may_change = || sys::is_read_only(file) && sys::writers(file) == Writers::Somebody;
        if now != expected || !sealed.has_its_name() || may_change() {
            return Err(checks::was_changed_by_validator(destination));
        }
        sys::set_modified(file, self.seen.modified).context("the new file's time cannot be set")?;
        Ok(())
    }
}
