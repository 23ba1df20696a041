//! Programs that run for this one: COMMAND, and validators.
//!
//! Invariant: while one runs, the run is guarded. The first signal is for the program too; it has some time to end, and then
//! this process ends by the same signal.

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

/// How often the end is asked for where there are no process descriptors.
const INTERVAL: Duration = Duration::from_millis(10);

/// Cannot be run; not found (POSIX, "env").
pub(crate) const CANNOT_RUN: u8 = 126;
pub(crate) const NOT_FOUND: u8 = 127;

/// A program that was started.
#[derive(Debug)]
pub(crate) struct Program {
    child: Child,
    /// Becomes readable when it ends.
    end: Option<OwnedFd>,
    /// A signal came before it was started, or while it was.
    missed_signal: bool,
}

impl Program {
    /// Starts a program with default actions for SIGPIPE and SIGCHLD, and an empty mask.
    ///
    /// The command is taken and dropped, and with it our copies of what the program writes to. Errors: those of
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

    /// Waits for the end.
    pub(crate) fn wait(mut self) -> Result<ExitStatus> {
        loop {
            if let Some(status) = self.try_wait()? {
                // A signal that came to both is not what the program has to say.
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

    /// Waits for output, or for the end.
    pub(crate) fn wait_for_output(&self, output: BorrowedFd<'_>) -> Result<(), Interrupted> {
        match &self.end {
            Some(end) => {
                let wanted = [(output, Event::Readable), (end.as_fd(), Event::Readable)];
                signals::wait(wanted, None).map(drop)
            }
            None => signals::wait([(output, Event::Readable)], Some(INTERVAL)).map(drop),
        }
    }

    /// The status, if it has ended. It is collected at once: there are those who wait for its process id to be gone.
    pub(crate) fn try_wait(&mut self) -> Result<Option<ExitStatus>> {
        self.child
            .try_wait()
            .context("cannot wait for the program that was started")
    }

    /// Passes the signal on, and waits for the end, but not for ever.
    pub(crate) fn end_by(mut self, interrupted: Interrupted) -> Interrupted {
        if self.has_ended() {
            return interrupted;
        }
        let (child, Interrupted(signal)) = (self.child.id(), interrupted);
        // A terminal sends its signals to the whole foreground process group; only a hangup goes to the session leader alone.
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

    /// Asks the program to end, whose output is of no use any more, and waits for the end, but not for ever. The output is
    /// closed after the program was asked: before, a shell could go on when a part of it died of SIGPIPE.
    pub(crate) fn give_up(mut self, output: OwnedFd) {
        if self.has_ended() {
            return;
        }
        sys::send_signal(self.child.id(), sys::SIGTERM);
        drop(output);
        self.wait_patiently();
    }

    /// Tells whether it has ended. Its process id may then be another process's, which must not get a signal.
    fn has_ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }

    /// Waits for the end for some time, or until another signal comes.
    fn wait_patiently(&mut self) {
        // A stopped process would never handle what it was sent.
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

/// Runs a program to its end; returns its status, and what it has written.
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

/// The status as a shell gives it.
pub(crate) fn exit_status(status: ExitStatus) -> u8 {
    match (status.code(), status.signal()) {
        (Some(code), _) => u8::try_from(code).unwrap_or(u8::MAX),
        (None, Some(signal)) => signals::exit_status(signal),
        (None, None) => 1,
    }
}

/// How a program ended, after its name.
pub(crate) fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exited with status {code}"),
        (None, Some(signal)) => format!("was killed by signal {signal}"),
        (None, None) => "did not end".to_owned(),
    }
}
