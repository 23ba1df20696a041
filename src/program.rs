//! The programs that atomwrite runs: COMMAND, and validators.
//!
//! Invariant: the run is guarded while a program runs. atomwrite forwards the first signal to the
//! program and gives it some time to end. Then atomwrite dies of the same signal.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::signals::{self, Interrupted};
use crate::sys::{self, Errno, Event};

/// How long a program may take to end after a signal.
const GRACE_PERIOD: Duration = Duration::from_secs(2);

/// How often to check whether a program has ended, where the kernel has no pidfd.
const INTERVAL: Duration = Duration::from_millis(10);

/// The exit statuses for a command that cannot be run, and for one that is not found (POSIX,
/// "env").
pub(crate) const CANNOT_RUN: u8 = 126;
pub(crate) const NOT_FOUND: u8 = 127;

/// A running program.
#[derive(Debug)]
pub(crate) struct Program {
    child: Child,
    /// A pidfd, which becomes readable when the program ends. `None` if the kernel has none.
    end: Option<OwnedFd>,
    /// A signal came before the program started, or while it was being started.
    missed_signal: bool,
}

impl Program {
    /// Starts a program with an empty signal mask and default actions for SIGPIPE and SIGCHLD.
    ///
    /// Drops the command, and with it this process's copies of the program's output. Errors: as
    /// [`std::process::Command::spawn`].
    pub(crate) fn start(mut command: Command) -> Result<io::Result<Self>> {
        signals::guard()?;
        sys::handle_signals();
        sys::keep_child_status();
        Ok(sys::with_empty_mask(|| command.spawn()).map(|child| {
            let end = sys::open_process(child.id());
            let missed_signal = sys::first_signal().is_some();
            Self {
                child,
                end,
                missed_signal,
            }
        }))
    }

    /// Waits until the program ends.
    pub(crate) fn wait(mut self) -> Result<ExitStatus> {
        loop {
            if let Some(status) = self.try_wait()? {
                // If a signal came to both, the program's status does not matter.
                signals::check()?;
                return Ok(status);
            }
            let waited = match &self.end {
                Some(end) => signals::wait_for(end.as_fd(), Event::Readable).map(drop),
                None => signals::pause(INTERVAL),
            };
            if let Err(interrupted) = waited {
                return Err(self.end_by(interrupted).into());
            }
        }
    }

    /// Waits for output, or until the program ends.
    pub(crate) fn wait_for_output(&self, output: BorrowedFd<'_>) -> Result<(), Interrupted> {
        match &self.end {
            Some(end) => {
                let wanted = [(output, Event::Readable), (end.as_fd(), Event::Readable)];
                signals::wait(wanted, None).map(drop)
            }
            None => signals::wait([(output, Event::Readable)], Some(INTERVAL)).map(drop),
        }
    }

    /// Returns the exit status if the program has ended. Reaps the program at once, because other
    /// processes may wait for its process ID to disappear.
    pub(crate) fn try_wait(&mut self) -> Result<Option<ExitStatus>> {
        self.child
            .try_wait()
            .context("cannot wait for the program that was started")
    }

    /// Forwards the signal, and waits up to [`GRACE_PERIOD`] for the program to end.
    pub(crate) fn end_by(mut self, interrupted: Interrupted) -> Interrupted {
        if self.has_ended() {
            return interrupted;
        }
        let (child, Interrupted(signal)) = (self.child.id(), interrupted);
        // A terminal sends its signals to the whole foreground process group. Only a hangup goes to
        // the session leader alone.
        let has_it_already = !self.missed_signal
            && sys::first_signal_is_from_kernel()
            && signal != sys::SIGHUP
            && sys::is_in_our_group(child);
        if !has_it_already {
            sys::send_signal(child, signal);
        }
        self.wait_patiently();
        interrupted
    }

    /// Sends SIGTERM to a program whose output is no longer needed, and waits up to
    /// [`GRACE_PERIOD`] for it to end. Closes the output after the signal is sent; otherwise a
    /// shell could go on after a part of it has died of SIGPIPE.
    pub(crate) fn give_up(mut self, output: OwnedFd) {
        if self.has_ended() {
            return;
        }
        sys::send_signal(self.child.id(), sys::SIGTERM);
        drop(output);
        self.wait_patiently();
    }

    /// Returns true if the program has ended. Another process may then have its process ID, and
    /// must not get a signal.
    fn has_ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }

    /// Waits up to [`GRACE_PERIOD`] for the program to end, or until another signal comes.
    fn wait_patiently(&mut self) {
        // A stopped process would never handle the signal.
        sys::send_signal(self.child.id(), sys::SIGCONT);
        let (since, signals) = (Instant::now(), sys::signal_count());
        loop {
            let rest = GRACE_PERIOD.saturating_sub(since.elapsed());
            if rest.is_zero() || self.has_ended() {
                return;
            }
            let polled = match &self.end {
                Some(end) => sys::poll([(end.as_fd(), Event::Readable)], Some(rest)).map(drop),
                None => sys::poll([], Some(rest.min(INTERVAL))).map(|[]| ()),
            };
            if polled == Err(Errno::INTR) && sys::signal_count() != signals {
                return;
            }
        }
    }
}

/// Runs a program to its end. Returns its exit status and its output.
pub(crate) fn output(mut command: Command) -> Result<io::Result<(ExitStatus, Vec<u8>)>> {
    let (read, write) = sys::pipe()?;
    command.stdout(write);
    let program = match Program::start(command)? {
        Ok(program) => program,
        Err(error) => return Ok(Err(error)),
    };
    let (mut output, mut chunk) = (Vec::new(), Vec::with_capacity(64 * 1024));
    loop {
        if let Err(interrupted) = signals::wait_for(read.as_fd(), Event::Readable) {
            return Err(program.end_by(interrupted).into());
        }
        sys::read(read.as_fd(), &mut chunk)?;
        if chunk.is_empty() {
            return Ok(Ok((program.wait()?, output)));
        }
        output.extend_from_slice(&chunk);
    }
}

/// Returns the exit status as a shell reports it.
pub(crate) fn exit_status(status: ExitStatus) -> u8 {
    match (status.code(), status.signal()) {
        (Some(code), _) => u8::try_from(code).unwrap_or(u8::MAX),
        (None, Some(signal)) => signals::exit_status(signal),
        (None, None) => 1,
    }
}

/// Describes how a program ended, to follow its name.
pub(crate) fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exited with status {code}"),
        (None, Some(signal)) => format!("was killed by signal {signal}"),
        (None, None) => "did not end".to_owned(),
    }
}
