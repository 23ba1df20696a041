//! A child process of a test, with a time limit.
//!
//! Invariant: every child has its own process group. If it does not end in time, it is killed with
//! all processes that it started. Its output goes to a file in memory and its messages to a long
//! pipe, so it never waits for a reader. A file size limit does not apply to a pipe, so the
//! messages about it are not lost.

use std::borrow::Cow;
use std::fs::File;
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::fd::OwnedFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::unistd::pipe2;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open, pidfd_send_signal};

use crate::image;
use crate::programs::PATH;
use crate::report::Harm;

/// What nothing that a test starts takes, on a machine that is busy with other tests.
pub(crate) const LONGEST: Duration = Duration::from_secs(60);

/// One that has been started.
#[derive(Debug)]
pub(crate) struct Running {
    child: Child,
    pid: Pid,
    pidfd: OwnedFd,
    stdout: File,
    stderr: File,
}

/// One that has ended.
#[derive(Debug)]
pub(crate) struct Ended {
    /// `None`: it did not end in time, and was killed.
    pub(crate) status: Option<ExitStatus>,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: Vec<u8>,
}

/// What becomes of those that a program has started, if it ends in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Others {
    GoOn,
    Die,
}

impl Running {
    /// Starts it; what its stdin and its directory are is the caller's to say.
    pub(crate) fn start(command: &mut Command) -> Result<Self> {
        let stdout = image::in_memory()?;
        let (stderr, writer) = messages()?;
        let child = command
            .process_group(0)
            .stdout(stdout.try_clone()?)
            .stderr(writer)
            .spawn()
            .with_context(|| format!("cannot start {}", command.get_program().to_string_lossy()))?;
        let pid = Pid::from_child(&child);
        let pidfd = pidfd_open(pid, PidfdFlags::empty()).context("cannot open a process")?;
        Ok(Self {
            child,
            pid,
            pidfd,
            stdout,
            stderr,
        })
    }

    /// Returns its stdin, if that is a pipe, the first time. Errors: it is no pipe, or was returned
    /// before.
    pub(crate) fn stdin(&mut self) -> Result<ChildStdin> {
        self.child.stdin.take().context("its stdin is no pipe")
    }

    /// The pipe again, for who goes on with it later.
    pub(crate) fn give_back(&mut self, stdin: ChildStdin) {
        self.child.stdin = Some(stdin);
    }

    /// Waits for its end, up to the limit. It can still be killed then, because its process ID is
    /// not reused yet.
    pub(crate) fn ends_within(&self, limit: Duration) -> Result<bool> {
        let limit = Timespec::try_from(limit).context("too long a time")?;
        loop {
            match poll(&mut [PollFd::new(&self.pidfd, PollFlags::IN)], Some(&limit)) {
                Ok(ready) => return Ok(ready > 0),
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno).context("cannot wait for a process"),
            }
        }
    }

    /// A signal for it alone: what it has started goes on.
    pub(crate) fn signal(&self, signal: Signal) -> Result<()> {
        // No other process gets its ID before its end has been waited for.
        pidfd_send_signal(&self.pidfd, signal).or_else(|errno| match errno {
            Errno::SRCH => Ok(()),
            errno => Err(errno).context("cannot send a signal"),
        })
    }

    /// Writes its whole input, and waits for its end.
    pub(crate) fn end_after(mut self, input: &[u8]) -> Result<Ended> {
        let mut pipe = self.stdin()?;
        thread::scope(|scope| {
            // A thread of its own: who does not read must not keep us from seeing that it hangs.
            scope.spawn(move || {
                // EPIPE: it was killed, or has refused without reading.
                drop(pipe.write_all(input));
            });
            self.end()
        })
    }

    /// Waits for its end.
    pub(crate) fn end(self) -> Result<Ended> {
        self.end_within(LONGEST)
    }

    /// Waits for its end, and kills it if that takes longer than so.
    pub(crate) fn end_within(self, limit: Duration) -> Result<Ended> {
        self.end_and(limit, Others::GoOn)
    }

    /// The same; and what it has started ends with it in any case.
    pub(crate) fn end_with_all(self, limit: Duration) -> Result<Ended> {
        self.end_and(limit, Others::Die)
    }

    fn end_and(mut self, limit: Duration, others: Others) -> Result<Ended> {
        drop(self.child.stdin.take());
        let in_time = self.ends_within(limit)?;
        if !in_time || others == Others::Die {
            // It may just have ended; and until it has been waited for, no other process group gets
            // its ID.
            let _ = kill_process_group(self.pid, Signal::KILL);
        }
        let status = self.child.wait().context("cannot wait for a process")?;
        Ok(Ended {
            status: in_time.then_some(status),
            stdout: contents(self.stdout)?,
            stderr: all_there_is(self.stderr)?,
        })
    }
}

impl Ended {
    /// Returns its exit status, if it has one.
    pub(crate) fn code(&self) -> Option<i32> {
        self.status.and_then(|status| status.code())
    }

    /// Returns the signal that it died by, if it did.
    pub(crate) fn signal(&self) -> Option<i32> {
        self.status.and_then(|status| status.signal())
    }

    pub(crate) fn is_success(&self) -> bool {
        self.status.is_some_and(|status| status.success())
    }

    /// Returns what is wrong with that, if it should have worked.
    pub(crate) fn harm(&self) -> Option<Harm> {
        match self.status {
            Some(status) if status.success() => None,
            Some(_) => Some(Harm::Answer),
            None => Some(Harm::Hung),
        }
    }

    /// Returns its messages.
    pub(crate) fn messages(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.stderr)
    }

    /// For an example: how it ended, and its last words.
    pub(crate) fn summary(&self) -> String {
        match self.status {
            Some(status) => format!("{status}, stderr {:?}", self.messages().trim_end()),
            None => "no end".to_owned(),
        }
    }
}

/// Runs what comes with the system, which must succeed.
pub(crate) fn tool(name: &str, words: &[&str]) -> Result<()> {
    let mut command = Command::new(name);
    command.args(words).env("PATH", PATH).env("LC_ALL", "C");
    let ended = Running::start(command.stdin(Stdio::null()))?.end()?;
    ensure!(
        ended.is_success(),
        "{name} {}: {}",
        words.join(" "),
        ended.summary()
    );
    Ok(())
}

/// Makes a pipe that is read at the end.
fn messages() -> Result<(File, OwnedFd)> {
    let (reader, writer) = pipe2(OFlag::O_CLOEXEC).context("cannot make a pipe")?;
    fcntl(&writer, FcntlArg::F_SETPIPE_SZ(1 << 20)).context("cannot make a pipe longer")?;
    // What it has started may have it open for ever, and so have we.
    fcntl(&reader, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).context("cannot set up a pipe")?;
    Ok((reader.into(), writer))
}

fn all_there_is(mut pipe: File) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    match pipe.read_to_end(&mut bytes) {
        Err(error) if error.kind() != ErrorKind::WouldBlock => {
            Err(error).context("cannot read what a program says")
        }
        _ => Ok(bytes),
    }
}

fn contents(mut file: File) -> Result<Vec<u8>> {
    let mut contents = Vec::new();
    file.seek(SeekFrom::Start(0))?;
    file.read_to_end(&mut contents)?;
    Ok(contents)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Ended {
        let mut command = Command::new("sh");
        command.args(["-c", script]).stdin(Stdio::null());
        let running = Running::start(&mut command).expect("a shell can be run");
        running
            .end_with_all(Duration::from_secs(1))
            .expect("it ends")
    }

    #[test]
    fn what_does_not_end_is_ended() {
        let ended = shell("echo here >&2; sleep 1000; :");
        assert!(ended.status.is_none(), "{}", ended.summary());
        assert_eq!(ended.messages(), "here\n");
    }

    #[test]
    fn what_lives_on_is_not_waited_for() {
        let ended = shell("sleep 1000 & exit 3");
        assert_eq!(ended.code(), Some(3), "{}", ended.summary());
    }
}
