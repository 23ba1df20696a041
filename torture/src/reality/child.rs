//! One run of one program: its input comes through a pipe that we hold, and its time is limited.
//!
//! The rule: nothing is timed but the end. That half of the input was read is seen at the pipe, which is empty then.

use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

/// Nothing that is right comes near it.
const LONGEST: Duration = Duration::from_secs(30);

/// How a program ended.
#[derive(Debug)]
pub(super) struct Ended {
    /// None if it had to be killed.
    pub(super) status: Option<ExitStatus>,
    pub(super) errors: String,
}

impl Ended {
    pub(super) fn is_success(&self) -> bool {
        self.status.is_some_and(|status| status.success())
    }

    /// As an example tells it.
    pub(super) fn shown(&self) -> String {
        let status = match self.status.map(|status| (status.code(), status.signal())) {
            Some((Some(code), _)) => format!("status {code}"),
            Some((None, signal)) => format!("signal {}", signal.unwrap_or(0)),
            None => "no end".to_owned(),
        };
        format!("{status}, stderr {:?}", self.errors.trim_end())
    }
}

/// Runs a program with this input. When it has read half of it, `meanwhile` is done.
pub(super) fn run(
    command: Command,
    input: &[u8],
    meanwhile: Option<&mut dyn FnMut() -> Result<()>>,
) -> Result<Ended> {
    run_for(LONGEST, command, input, meanwhile)
}

fn run_for(
    longest: Duration,
    mut command: Command,
    input: &[u8],
    meanwhile: Option<&mut dyn FnMut() -> Result<()>>,
) -> Result<Ended> {
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    command.process_group(0);
    let mut child = command
        .spawn()
        .with_context(|| format!("cannot start {command:?}"))?;
    let began = Instant::now();
    let group = Pid::from_raw(i32::try_from(child.id()).context("a process id is too large")?);
    let stdin = child.stdin.take().context("there is no pipe to stdin")?;
    let mut stderr = child
        .stderr
        .take()
        .context("there is no pipe from stderr")?;
    thread::scope(|scope| {
        let (says_ended, ended) = channel();
        scope.spawn(move || says_ended.send(child.wait()));
        let (says_errors, errors) = channel();
        scope.spawn(move || {
            let mut bytes = Vec::new();
            let read = stderr.read_to_end(&mut bytes);
            says_errors.send(read.map(|_| bytes))
        });
        // Whatever happens, nobody who holds our pipes is left when the scope ends.
        let guard = Group(group);
        let mut status = None;
        let (go, may_go) = channel();
        let (says_half, half) = channel();
        if let Some(meanwhile) = meanwhile {
            let pipe = stdin.as_raw_fd();
            scope.spawn(move || feed(stdin, input, &says_half, &may_go));
            let mut is_half = false;
            loop {
                is_half = is_half || half.try_recv().is_ok();
                if (is_half && unread(pipe)? == 0) || began.elapsed() > longest {
                    break;
                }
                status = ended.try_recv().ok();
                if status.is_some() {
                    break;
                }
                thread::yield_now();
            }
            meanwhile()?;
            // Nobody waits for it any more if the program has ended.
            let _ = go.send(());
        } else {
            let _ = go.send(());
            scope.spawn(move || feed(stdin, input, &says_half, &may_go));
        }
        let status = match status {
            Some(status) => Ok(status),
            None => ended.recv_timeout(longest.saturating_sub(began.elapsed())),
        };
        let status = match status {
            Ok(status) => Some(status.context("cannot wait for a program")?),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => anyhow::bail!("a thread of ours has ended"),
        };
        // What the program started may live on; it gets no more time than the program.
        let bytes = errors.recv_timeout(longest.saturating_sub(began.elapsed()));
        drop(guard);
        let bytes = match bytes {
            Ok(bytes) => bytes,
            Err(_) => errors.recv().context("a thread of ours has ended")?,
        }
        .context("cannot read what a program says")?;
        Ok(Ended {
            status,
            errors: String::from_utf8_lossy(&bytes).into_owned(),
        })
    })
}

/// Writes half of the input, says so, waits, and writes the rest. A program that reads no more is no error here.
fn feed(mut stdin: ChildStdin, input: &[u8], says_half: &Sender<()>, may_go: &Receiver<()>) {
    let (first, second) = input.split_at(input.len() / 2);
    let written = stdin.write_all(first);
    let _ = says_half.send(());
    if may_go.recv().is_ok() && written.is_ok() {
        drop(stdin.write_all(second));
    }
}

/// How many bytes are in a pipe.
fn unread(pipe: i32) -> Result<i32> {
    let mut bytes: libc::c_int = 0;
    #[expect(unsafe_code, reason = "neither std nor nix has this call")]
    // SAFETY: the call writes one int, to an int of ours; that a descriptor is closed is an error that it gives.
    let done = unsafe { libc::ioctl(pipe, libc::FIONREAD, &raw mut bytes) };
    ensure!(
        done == 0,
        "cannot see how much was read: {}",
        std::io::Error::last_os_error()
    );
    Ok(bytes)
}

/// The processes of one run; those that are left are killed.
struct Group(Pid);

impl Drop for Group {
    fn drop(&mut self) {
        // Mostly nobody is left.
        let _ = killpg(self.0, Signal::SIGKILL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Ended {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        run_for(Duration::from_secs(1), command, b"input", None).expect("a shell can be run")
    }

    #[test]
    fn what_does_not_end_is_ended() {
        let ended = shell("echo here >&2; sleep 1000; :");
        assert!(ended.status.is_none(), "{}", ended.shown());
        assert_eq!(ended.errors, "here\n");
    }

    #[test]
    fn what_lives_on_is_not_waited_for() {
        let ended = shell("sleep 1000 & exit 3");
        assert_eq!(
            ended.status.and_then(|status| status.code()),
            Some(3),
            "{}",
            ended.shown()
        );
    }
}
