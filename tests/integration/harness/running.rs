//! A run under way and a run that has ended; waiting for a condition, never for a time.

use std::fs;
use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ExitStatus, Output};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, kill_process_group, pidfd_open};

use crate::harness::binary;

/// The longest wait for a run or a condition; a correct run never comes near it.
pub(crate) const BOUND: Duration = Duration::from_secs(120);

// ---- What a test needs of the machine ----

/// Sends a signal to a process that is known by its number as text, as a shell writes it.
#[track_caller]
pub(crate) fn kill(id: &str, signal: Signal) {
    let id = id.trim().parse().unwrap();
    kill_process(Pid::from_raw(id).expect("no process is 0"), signal).unwrap();
}

/// Waits for a condition, not for a time; panics when it does not come.
#[track_caller]
pub(crate) fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < BOUND, "waited in vain until {what}");
        // A pause, so that the other process gets the processor.
        thread::sleep(Duration::from_micros(500));
    }
}

// ---- The run ----

/// A run under way.
pub(crate) struct Running {
    pub(crate) shown: String,
    pub(crate) stdin: Option<ChildStdin>,
    pub(crate) child: Option<Child>,
    pub(crate) feeder: Option<JoinHandle<()>>,
    pub(crate) stdout: Option<JoinHandle<Vec<u8>>>,
    pub(crate) stderr: Option<JoinHandle<Vec<u8>>>,
}

impl Running {
    /// The id of what was started: the prefix's, where there is one.
    pub(crate) fn id(&self) -> u32 {
        self.child.as_ref().expect("it runs").id()
    }

    pub(crate) fn pid(&self) -> Pid {
        Pid::from_child(self.child.as_ref().expect("it runs"))
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).unwrap();
    }

    /// Writes to the held stdin and waits until all of it has been read: the program awaits more
    /// input then.
    #[track_caller]
    pub(crate) fn feed(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        let pipe = self.stdin.as_mut().expect("stdin is held");
        pipe.write_all(bytes.as_ref()).unwrap();
        wait_until("the input has been read", || {
            rustix::io::ioctl_fionread(&*pipe).unwrap() == 0
        });
        self
    }

    /// Writes to the held stdin, and waits only while the pipe is full.
    pub(crate) fn feed_on(&mut self, bytes: &[u8]) {
        let pipe = self.stdin.as_mut().expect("stdin is held");
        pipe.write_all(bytes).unwrap();
    }

    /// Ends the held input.
    pub(crate) fn close_stdin(&mut self) {
        self.stdin = None;
    }

    /// Ends the held input, if there is one, and waits for the end.
    #[track_caller]
    pub(crate) fn wait(mut self) -> Done {
        self.close_stdin();
        self.wait_with_input_open()
    }

    /// Waits for the end of the run, while its input stays open.
    #[track_caller]
    pub(crate) fn wait_with_input_open(mut self) -> Done {
        let pidfd = pidfd_open(self.pid(), PidfdFlags::empty()).unwrap();
        let start = Instant::now();
        loop {
            let left = BOUND.saturating_sub(start.elapsed());
            let timeout = Timespec {
                tv_sec: left.as_secs().try_into().unwrap(),
                tv_nsec: left.subsec_nanos().into(),
            };
            match poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(&timeout)) {
                Ok(0) => panic!("{} hangs", self.shown),
                Ok(_) => break,
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => panic!("poll: {error}"),
            }
        }
        let status = self.child.take().expect("it ran").wait().unwrap();
        if let Some(feeder) = self.feeder.take() {
            feeder.join().unwrap();
        }
        let gather = |handle: Option<JoinHandle<Vec<u8>>>| {
            handle.map_or_else(Vec::new, |handle| handle.join().unwrap())
        };
        let output = Output {
            status,
            stdout: gather(self.stdout.take()),
            stderr: gather(self.stderr.take()),
        };
        Done {
            status: output.status,
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

impl Drop for Running {
    /// A test that panics leaves no process behind.
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = kill_process_group(Pid::from_child(&child), Signal::KILL);
            drop(child.wait());
        }
    }
}

/// A run that has ended.
pub(crate) struct Done {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Done {
    pub(crate) fn code(&self) -> Option<i32> {
        self.status.code()
    }

    /// The signal that it died by.
    pub(crate) fn signal(&self) -> Option<i32> {
        self.status.signal()
    }
}

impl std::fmt::Debug for Done {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.status)?;
        if !self.stdout.is_empty() {
            write!(f, "\nstdout: {}", self.stdout)?;
        }
        if !self.stderr.is_empty() {
            write!(f, "\nstderr: {}", self.stderr)?;
        }
        Ok(())
    }
}

/// Waits until a program of ours sleeps: in `wait` of its own, or in a call that blocks.
pub(crate) fn wait_until_it_sleeps(program: Pid) {
    let id = program.as_raw_nonzero();
    wait_until("it sleeps", || {
        let runs = fs::read_link(format!("/proc/{id}/exe"))
            .is_ok_and(|exe| exe.file_name() == binary().file_name());
        let stat = fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
        runs && stat
            .rsplit(") ")
            .next()
            .is_some_and(|state| state.starts_with('S'))
    });
}

/// Finds a run's new file, unnamed or under its temporary name, among the descriptors in /proc.
pub(crate) fn draft_of(program: Pid) -> Option<PathBuf> {
    let descriptors = format!("/proc/{}/fd", program.as_raw_nonzero());
    let mut descriptors = fs::read_dir(descriptors).ok()?.flatten();
    let draft = descriptors.find(|descriptor| {
        fs::read_link(descriptor.path()).is_ok_and(|path| {
            let path = path.to_string_lossy();
            path.ends_with(" (deleted)") || path.contains("/.atomwrite.") && path.ends_with(".tmp")
        })
    });
    draft.map(|descriptor| descriptor.path())
}

/// Waits until a process has ended.
pub(crate) fn wait_until_gone(id: &str) {
    wait_until("the process has ended", || {
        let stat = fs::read_to_string(format!("/proc/{id}/stat"));
        stat.is_err() || stat.is_ok_and(|stat| stat.rsplit(") ").next().unwrap().starts_with('Z'))
    });
}
