//! COMMAND, whose output is the new content.
//!
//! Invariant: the output counts only if COMMAND exits with 0. It comes through a pipe, so atomwrite
//! sees every write error, and no process can add to the file afterwards. If a process outlives
//! COMMAND and keeps the output open, that is an error. atomwrite does not wait for it, because it
//! may never end.

mod executable;

use std::ffi::OsStr;
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, OwnedFd};
use std::process::{self, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};

use self::executable::Interpreter;
use crate::copy_error::CopyError;
use crate::destination::Destination;
use crate::message::{Chain, Quoted};
use crate::outcome::Failure;
use crate::program::{self, CANNOT_RUN, NOT_FOUND, Program, describe, exit_status};
use crate::request::Command;
use crate::signals::{self, Interrupted};
use crate::sys::{self, Errno, Event};
use crate::transfer::{Available, PIPE_SIZE, ReadMethod, Reader, Transfer};

/// How long a process that COMMAND started may take to close the output after COMMAND has ended. A
/// process that is about to end, like the reader in a shell's `>(...)`, needs some milliseconds.
const GRACE_PERIOD: Duration = Duration::from_secs(1);

/// The number of reads between two checks whether COMMAND has ended.
const READS: usize = 64;

/// Runs COMMAND to its end and appends its output.
pub(crate) fn run(
    command: &Command,
    transfer: &mut Transfer<'_, '_>,
    destination: &Destination,
    explain: &impl Fn(CopyError) -> Failure,
) -> Result<(), Failure> {
    let cannot_run = || format!("cannot run {command}");
    let (output, write) = pipe().with_context(cannot_run)?;
    let metadata = sys::metadata(&output).with_context(cannot_run)?;
    let program = match command {
        Command::Program(words) => start(words, write)?,
        Command::Pipeline(pipeline) => start_shell(pipeline, write)?,
    };
    let reader = Reader {
        file: output.as_fd(),
        metadata,
        method: ReadMethod::Read,
    };
    let (status, end) = match drain(program, &reader, transfer)? {
        Drained::Ended(status, end) => (status, end),
        Drained::Failed(program, error) => {
            program.give_up(output);
            return Err(explain(error));
        }
    };
    signals::check()?;
    if !status.success() {
        return Err(Failure::Command {
            status: exit_status(status),
            error: anyhow!("{command} {}{}", describe(status), hint(command, status))
                .context(destination.cannot("write")),
        });
    }
    if end == Available::End {
        return Ok(());
    }
    Err(anyhow!(
        "cannot write {}: {} has ended, but a process that it started still has its output open; \
         let the command wait for it, or redirect the output of that process",
        destination.display(),
        command
    )
    .into())
}

/// Makes a pipe whose reading end is non-blocking.
fn pipe() -> Result<(OwnedFd, OwnedFd), sys::Errno> {
    let (read, write) = sys::pipe()?;
    sys::enlarge_pipe(read.as_fd(), PIPE_SIZE);
    sys::set_nonblocking(&read)?;
    Ok((read, write))
}

/// Returns what a pipeline's exit status may mean, or nothing.
fn hint(command: &Command, status: ExitStatus) -> &'static str {
    const KILLED_BY_SIGPIPE: u8 = 128 + 13;
    match command {
        Command::Pipeline(_) if exit_status(status) == KILLED_BY_SIGPIPE => {
            " (a part of the pipeline died of SIGPIPE, because a later part stopped reading)"
        }
        _ => "",
    }
}

/// Starts a program as execvp(3) does.
fn start(words: &[impl AsRef<OsStr>], output: OwnedFd) -> Result<Program, Failure> {
    let name = words[0].as_ref();
    let copy = output
        .try_clone()
        .with_context(|| format!("cannot run {}", Quoted(name)))?;
    let error = match Program::start(process(words, copy))? {
        Ok(program) => return Ok(program),
        Err(error) => error,
    };
    let script = match Errno::from_io_error(&error) {
        Some(Errno::NOEXEC) => executable::script(name),
        _ => None,
    };
    if let Some(script) = script {
        let by_shell = ["/bin/sh".as_ref(), "--".as_ref(), script.as_os_str()];
        let rest = words[1..].iter().map(AsRef::as_ref);
        let words: Vec<&OsStr> = by_shell.into_iter().chain(rest).collect();
        return match Program::start(process(&words, output))? {
            Ok(program) => Ok(program),
            Err(error) => Err(cannot_run(words[0], error)),
        };
    }
    signals::check()?;
    Err(cannot_run(name, error))
}

/// Explains why a program could not be executed.
fn cannot_run(name: &OsStr, error: io::Error) -> Failure {
    let cannot_run = format!("cannot run {}", Quoted(name));
    let is_path = || name.as_encoded_bytes().contains(&b'/');
    let is_missing = error.kind() == ErrorKind::NotFound;
    // ENOMEM, E2BIG and the like are not about the file.
    let is_of_file = matches!(
        Errno::from_io_error(&error),
        Some(Errno::NOENT | Errno::NOTDIR | Errno::ACCESS | Errno::LOOP | Errno::NOEXEC)
    );
    let interpreter = is_of_file.then(|| executable::interpreter(name));
    let error = match interpreter.flatten() {
        Some(Interpreter::Named(interpreter)) => {
            anyhow!(error).context(format!("its interpreter {}", Quoted(&interpreter)))
        }
        Some(Interpreter::Loader) if is_missing => {
            anyhow!("the loader of shared libraries that it needs does not exist")
        }
        None if is_missing => {
            let error = if is_path() {
                anyhow!(error)
            } else {
                anyhow!("command not found")
            };
            let error = error.context(cannot_run);
            return Failure::Command {
                status: NOT_FOUND,
                error: if executable::is_for_a_shell(name) {
                    anyhow!("{}; use --command to run it in a shell", Chain(&error))
                } else {
                    error
                },
            };
        }
        Some(Interpreter::Loader) | None => anyhow!(error),
    };
    Failure::Command {
        status: CANNOT_RUN,
        error: error.context(cannot_run),
    }
}

/// Starts a shell that fails if any part of a pipeline fails: bash, or an sh with pipefail
/// (POSIX.1-2024).
fn start_shell(pipeline: &OsStr, output: OwnedFd) -> Result<Program, Failure> {
    // Without `--`, a pipeline that begins with a dash would be an option, and the shell would run
    // its standard input.
    let [set, pipefail, run, end] = ["-o", "pipefail", "-c", "--"].map(OsStr::new);
    let bash = [OsStr::new("bash"), set, pipefail, run, end, pipeline];
    let copy = output
        .try_clone()
        .with_context(|| format!("cannot run {}", Quoted(bash[0])))?;
    match Program::start(process(&bash, copy))? {
        Ok(program) => return Ok(program),
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(_) => return start(&bash, output),
    }
    let sh = |string| [OsStr::new("sh"), set, pipefail, run, end, string];
    let mut probe = process(&sh(OsStr::new(":")), Stdio::null());
    probe.stdin(Stdio::null()).stderr(Stdio::null());
    match program::output(probe)? {
        Ok((status, _)) if status.success() => start(&sh(pipeline), output),
        _ => Err(anyhow!(
            "cannot run the command: --command needs bash, or an sh that has pipefail"
        )
        .into()),
    }
}

fn process(words: &[impl AsRef<OsStr>], output: impl Into<Stdio>) -> process::Command {
    let mut process = process::Command::new(&words[0]);
    process.args(&words[1..]).stdout(output);
    process
}

/// How the copying of COMMAND's output ended.
enum Drained {
    /// COMMAND has ended. [`Available::End`] if its output has ended too.
    Ended(ExitStatus, Available),
    /// The output cannot be copied. COMMAND still runs.
    Failed(Program, CopyError),
}

/// Copies the output until no process has it open for writing, or until [`GRACE_PERIOD`] after
/// COMMAND has ended.
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

/// Copies what is available, with at most [`READS`] reads.
fn copy_some(output: &Reader<'_>, transfer: &mut Transfer<'_, '_>) -> Result<Available, CopyError> {
    for _ in 0..READS {
        match transfer.copy_available(output)? {
            Available::Some => {}
            other => return Ok(other),
        }
    }
    Ok(Available::Some)
}
