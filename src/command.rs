//! COMMAND, whose output is the new content.
//!
//! Invariant: its output counts only if COMMAND says that it is complete, by exiting with 0. It comes through a pipe, so
//! every error of writing is seen here, and no process can add to the file afterwards. A process that outlives COMMAND and
//! still holds its output is an error, and is not waited for: it may never end.

use std::ffi::OsString;
use std::io::ErrorKind;
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Command, ExitStatus};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};

use crate::copy_error::CopyError;
use crate::destination::Destination;
use crate::message::{Chain, Quoted};
use crate::outcome::Failure;
use crate::program::{CANNOT_RUN, NOT_FOUND, Program, describe, exit_status, is_for_a_shell};
use crate::signals::{self, Interrupted};
use crate::sys::{self, Event};
use crate::transfer::{Available, PIPE_SIZE, ReadMethod, Reader, Transfer};

/// How long a process that COMMAND left behind may take to close the output. One that is about to end, like the reading
/// end of a shell's `>(...)`, needs some milliseconds.
const GRACE_PERIOD: Duration = Duration::from_secs(1);

/// How often is read before the end of COMMAND is asked for.
const READS: usize = 64;

/// Runs COMMAND to its end, and appends its output.
pub(crate) fn run(
    words: &[OsString],
    transfer: &mut Transfer<'_, '_>,
    destination: &Destination,
    explain: &impl Fn(CopyError) -> Failure,
) -> Result<(), Failure> {
    let (name, arguments) = words.split_first().expect("COMMAND has at least one word");
    let cannot_run = || format!("cannot run {}", Quoted(name));
    let (output, write) = pipe().with_context(cannot_run)?;
    let metadata = sys::metadata(&output).with_context(cannot_run)?;
    let mut command = Command::new(name);
    command.args(arguments);
    command.stdout(write);
    let program = start(command, name)?;
    let reader = Reader {
        file: output.as_fd(),
        metadata,
        method: ReadMethod::Read,
    };
    let (status, end) = match drain(program, &reader, transfer)? {
        Drained::Ended(status, end) => (status, end),
        Drained::Failed(program, error) => {
            drop(output);
            program.give_up();
            return Err(explain(error));
        }
    };
    signals::check()?;
    if !status.success() {
        return Err(Failure::Command {
            status: exit_status(status),
            error: anyhow!("{} {}", Quoted(name), describe(status))
                .context(destination.cannot("write")),
        });
    }
    if end == Available::End {
        return Ok(());
    }
    Err(anyhow!(
        "cannot write {}: {} has ended, but a process that it started still has its output open; let the command wait for \
         it, or redirect the output of that process",
        destination.typed(),
        Quoted(name)
    )
    .into())
}

/// A pipe that is read without waiting, and written to as usual.
fn pipe() -> Result<(OwnedFd, OwnedFd), sys::Errno> {
    let (read, write) = sys::pipe()?;
    sys::enlarge_pipe(read.as_fd(), PIPE_SIZE);
    sys::set_nonblocking(&read)?;
    Ok((read, write))
}

fn start(command: Command, name: &OsString) -> Result<Program, Failure> {
    let error = match Program::start(command)? {
        Ok(program) => return Ok(program),
        Err(error) => error,
    };
    signals::check()?;
    let found = error.kind() != ErrorKind::NotFound;
    let error = anyhow!(error).context(format!("cannot run {}", Quoted(name)));
    Err(Failure::Command {
        status: if found { CANNOT_RUN } else { NOT_FOUND },
        error: if !found && is_for_a_shell(name) {
            anyhow!(
                "{}; COMMAND is not run by a shell; use 'sh -c'",
                Chain(&error)
            )
        } else {
            error
        },
    })
}

/// What became of the output.
enum Drained {
    /// COMMAND has ended. [`Available::End`] if the output has, too.
    Ended(ExitStatus, Available),
    /// It cannot be copied; COMMAND still runs.
    Failed(Program, CopyError),
}

/// Copies the output until no process is left to write to it, or until COMMAND has ended and others do not.
fn drain(
    mut program: Program,
    output: &Reader<'_>,
    transfer: &mut Transfer<'_, '_>,
) -> Result<Drained, Failure> {
    let mut ended: Option<(ExitStatus, Instant)> = None;
    loop {
        let waited = match ended {
            None => program.wait_for_output(output.file),
            Some((_, since)) => wait_after_end(output, since),
        };
        let copied = waited
            .map_err(CopyError::from)
            .and_then(|()| copy_some(output, transfer));
        let available = match copied {
            Ok(available) => available,
            Err(CopyError::Interrupted(interrupted)) => {
                return Err(program.end_by(interrupted).into());
            }
            Err(error) => return Ok(Drained::Failed(program, error)),
        };
        match (available, ended) {
            (Available::End, Some((status, _))) => return Ok(Drained::Ended(status, available)),
            (Available::End, None) => {
                return Ok(Drained::Ended(program.wait()?, available));
            }
            (_, Some((status, since))) if since.elapsed() >= GRACE_PERIOD => {
                return Ok(Drained::Ended(status, available));
            }
            (_, Some(_)) => {}
            (_, None) => ended = program.try_wait()?.map(|status| (status, Instant::now())),
        }
    }
}

fn wait_after_end(output: &Reader<'_>, since: Instant) -> Result<(), Interrupted> {
    let rest = GRACE_PERIOD.saturating_sub(since.elapsed());
    signals::wait([(output.file, Event::Readable)], Some(rest)).map(drop)
}

/// Copies what is there, but not for ever.
fn copy_some(output: &Reader<'_>, transfer: &mut Transfer<'_, '_>) -> Result<Available, CopyError> {
    for _ in 0..READS {
        match transfer.copy_available(output)? {
            Available::Some => {}
            other => return Ok(other),
        }
    }
    Ok(Available::Some)
}
