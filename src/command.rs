//! Programs that run for us: COMMAND, and what `--validate` names.
//!
//! The rule: COMMAND's output counts only if COMMAND says that it is whole, by exiting with 0, and only if nobody can add
//! to it any more. COMMAND writes straight into the new file where a lease can prove that afterwards, and else into a
//! pipe. A process that outlives COMMAND and still holds its output is an error, and is not waited for: it may never end.

use std::ffi::{OsStr, OsString};
use std::io::ErrorKind;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};

use crate::destination::Destination;
use crate::message::{Chain, Quoted};
use crate::outcome::Failure;
use crate::signals::{self, Attending};
use crate::sys::{self, Writers};
use crate::transfer::{self, Broken, Transfer};

/// How long a process that COMMAND left behind may take to let go of the output. One that is about to end, like the
/// reading end of a shell's `>(...)`, needs some milliseconds.
const GRACE: Duration = Duration::from_secs(1);

/// How often the size is looked at while COMMAND writes, if somebody wants to see it.
const GLANCE: Duration = Duration::from_millis(100);

/// Cannot be run; not found (POSIX, "env").
const CANNOT_RUN: u8 = 126;
const NOT_FOUND: u8 = 127;

/// Which way COMMAND's output takes.
#[derive(Debug)]
pub(crate) enum Output {
    /// Straight into the new file, which can only be read by this descriptor.
    Straight(OwnedFd),
    /// Through us.
    Piped,
}

impl Output {
    /// Finds out which way is open. `file` is the new file, open for writing.
    pub(crate) fn choose(file: &OwnedFd) -> Self {
        match sys::reopen_for_reading(file) {
            // Our own descriptor is a writer: a filesystem that knows leases tells us so.
            Ok(reader) if sys::writers(&reader) == Writers::Somebody => Self::Straight(reader),
            _ => Self::Piped,
        }
    }
}

/// Runs COMMAND to its end, with its output going into `file`.
pub(crate) fn run(
    words: &[OsString],
    file: &OwnedFd,
    output: &Output,
    transfer: &mut Transfer<'_, '_>,
    destination: &Destination,
    explain: &impl Fn(Broken) -> Failure,
) -> Result<(), Failure> {
    let (program, arguments) = words.split_first().expect("COMMAND has at least one word");
    let cannot_run = || format!("cannot run {}", Quoted(program));
    let mut command = Command::new(program);
    command.args(arguments);
    let mut reader = None;
    match output {
        Output::Straight(_) => {
            command.stdout(file.try_clone().with_context(cannot_run)?);
        }
        Output::Piped => {
            let (read, write) = sys::pipe().with_context(cannot_run)?;
            sys::enlarge_pipe(read.as_fd(), transfer::PIPE);
            command.stdout(write);
            reader = Some(read);
        }
    }
    let running = Running::start(command, program)?;
    let (status, alone) = if let Some(reader) = reader {
        drain(running, &reader, transfer, explain)?
    } else {
        while transfer.wants_glances() && !running.ends_within(GLANCE)? {
            transfer.glance().map_err(explain)?;
        }
        (running.wait()?, true)
    };
    if !status.success() {
        return Err(Failure::Command {
            status: exit_status(status),
            error: anyhow!("{} {}", Quoted(program), describe(status))
                .context(format!("cannot write {}", destination.typed())),
        });
    }
    if alone {
        Ok(())
    } else {
        Err(left_behind(words, destination).into())
    }
}

/// Takes what the program writes, until nobody is left to write. Gives its status; and false if the program has ended and
/// others go on.
fn drain(
    running: Running,
    reader: &OwnedFd,
    transfer: &mut Transfer<'_, '_>,
    explain: &impl Fn(Broken) -> Failure,
) -> Result<(ExitStatus, bool), Failure> {
    let mut program = Program::Runs(running);
    let alone = loop {
        if sys::is_readable_within(reader, GLANCE).context("cannot wait for output")? {
            match transfer.take_some(reader.as_fd()) {
                Ok(0) => break true,
                Ok(_) => {}
                Err(broken) => {
                    program.give_up();
                    let failure = || explain(broken);
                    return Err(signals::caught().map_or_else(failure, Failure::Interrupted));
                }
            }
        }
        if matches!(program, Program::Ended(_, since) if since.elapsed() >= GRACE) {
            break false;
        }
        program = match program {
            // Collected at once: there are those who wait for its process id to be gone.
            Program::Runs(running) if running.ends_within(Duration::ZERO)? => {
                Program::Ended(running.wait()?, Instant::now())
            }
            as_before => as_before,
        };
    };
    let status = match program {
        Program::Runs(running) => running.wait()?,
        Program::Ended(status, _) => status,
    };
    Ok((status, alone))
}

/// A program whose output is read.
#[derive(Debug)]
enum Program {
    Runs(Running),
    Ended(ExitStatus, Instant),
}

impl Program {
    /// What it does is of no use any more: asks it to end, and does not wait for ever.
    fn give_up(self) {
        if let Self::Runs(running) = self {
            sys::pass_on(sys::PLEASE_END);
            // Whether it has listened or not, there is no more to be done.
            drop(running.ends_within(GRACE));
        }
    }
}

/// Closes the descriptor by which COMMAND wrote into the new file, and makes sure that it was the last such.
pub(crate) fn close(
    written: OwnedFd,
    reader: &OwnedFd,
    words: &[OsString],
    destination: &Destination,
) -> Result<(), Failure> {
    sys::close(written).with_context(|| format!("cannot write {}", destination.typed()))?;
    let mut waited = Duration::ZERO;
    let mut pause = Duration::from_millis(1);
    while sys::writers(reader) != Writers::Nobody {
        if waited >= GRACE {
            return Err(left_behind(words, destination).into());
        }
        sys::pause(pause);
        waited += pause;
        pause *= 2;
    }
    Ok(())
}

/// A program that was started.
#[derive(Debug)]
pub(crate) struct Running {
    child: Child,
    attending: Attending,
}

impl Running {
    /// Starts a program, with default dispositions of signals and an empty mask.
    ///
    /// The command is taken and dropped, and with it our copies of what the program writes to.
    pub(crate) fn start(mut command: Command, name: &OsStr) -> Result<Self, Failure> {
        let attending = Attending::begin()?;
        // The mask is inherited: rust-lang/rust#101077.
        let child = match signals::with_none_held(|| command.spawn())? {
            Ok(child) => child,
            Err(error) => {
                if let Some(signal) = signals::caught() {
                    return Err(Failure::Interrupted(signal));
                }
                let found = error.kind() != ErrorKind::NotFound;
                let error = anyhow!(error).context(format!("cannot run {}", Quoted(name)));
                return Err(Failure::Command {
                    status: if found { CANNOT_RUN } else { NOT_FOUND },
                    error: if !found && is_for_a_shell(name) {
                        anyhow!(
                            "{}; no shell reads it, but with 'sh -c' before it one does",
                            Chain(&error)
                        )
                    } else {
                        error
                    },
                });
            }
        };
        Ok(Self {
            attending: attending.to(child.id()),
            child,
        })
    }

    /// Waits for the end. A signal that came meanwhile ends us too.
    pub(crate) fn wait(mut self) -> Result<ExitStatus, Failure> {
        // Seen, but not collected: its process id is its own until signals are not passed on any more.
        sys::wait_for_end(self.child.id())
            .context("cannot wait for the program that was started")?;
        drop(self.attending);
        let status = self
            .child
            .wait()
            .context("cannot wait for the program that was started")?;
        match signals::caught() {
            Some(signal) => Err(Failure::Interrupted(signal)),
            None => Ok(status),
        }
    }

    fn ends_within(&self, time: Duration) -> Result<bool, Failure> {
        Ok(sys::ends_within(self.child.id(), time)
            .context("cannot wait for the program that was started")?)
    }
}

/// Whether somebody expects a shell to read the name: `-- "sort list | uniq"`, `-- LC_ALL=C sort list`.
fn is_for_a_shell(name: &OsStr) -> bool {
    let special = |byte: &u8| b" \t|&;<>$=".contains(byte);
    name.as_bytes().iter().any(special)
}

fn left_behind(words: &[OsString], destination: &Destination) -> anyhow::Error {
    anyhow!(
        "cannot write {}: {} has ended, but a process that it started still has its output open; \
         let the command wait for it, or send that process's output elsewhere",
        destination.typed(),
        Quoted(&words[0])
    )
}

/// The status as a shell gives it.
fn exit_status(status: ExitStatus) -> u8 {
    let number = status
        .code()
        .or(status.signal().map(|signal| 128 + signal))
        .unwrap_or(1);
    u8::try_from(number).unwrap_or(u8::MAX)
}

/// How a program ended, after its name.
pub(crate) fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exited with status {code}"),
        (None, Some(signal)) => format!("was killed by signal {signal}"),
        (None, None) => "did not end".to_owned(),
    }
}
