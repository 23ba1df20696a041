//! A run that stops after each of some calls on one path, until the test lets it go on.

use std::fs;
use std::path::Path;

use rustix::process::{Signal, kill_process};

use crate::harness::{Done, Run, Running, Strace, program_of, wait_until};

/// A run that stops after each of some calls on one path, until the test lets it go on.
pub(crate) struct Stepped {
    pub(crate) running: Running,
    pub(crate) strace: Strace,
    pub(crate) stops: usize,
}

impl Stepped {
    pub(crate) fn start(run: Run<'_>, calls: &str, path: impl AsRef<Path>) -> Self {
        let strace = Strace::new()
            .at(path)
            .inject(&format!("{calls}:signal=SIGSTOP"));
        Self {
            running: run.through(strace.command()).start(),
            strace,
            stops: 0,
        }
    }

    /// Waits for the next stop. False if the run has ended instead.
    #[track_caller]
    pub(crate) fn has_stopped(&mut self) -> bool {
        let stat = format!("/proc/{}/stat", self.running.id());
        let has_ended = || {
            fs::read_to_string(&stat).is_ok_and(|stat| {
                let state = stat.rsplit(") ").next().unwrap_or_default();
                state.starts_with('Z')
            })
        };
        let mut stopped = false;
        wait_until("it has stopped or ended", || {
            stopped = self.strace.stops() > self.stops;
            stopped || has_ended()
        });
        self.stops += usize::from(stopped);
        stopped
    }

    pub(crate) fn go_on(&self) {
        kill_process(program_of(&self.running), Signal::CONT).unwrap();
    }

    /// Continues the run to its end.
    #[track_caller]
    pub(crate) fn finish(mut self) -> Done {
        self.go_on();
        while self.has_stopped() {
            self.go_on();
        }
        self.running.wait()
    }

    /// The end of a run that does not stop any more.
    #[track_caller]
    pub(crate) fn wait(self) -> Done {
        self.running.wait()
    }

    /// How often it has stopped.
    pub(crate) fn count(&self) -> usize {
        self.stops
    }
}
