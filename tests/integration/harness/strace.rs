//! Runs the program under strace(1): parses the trace into calls, and injects errors and signals.
//!
//! This module checks no rule of the manual; other modules use it. strace runs with `-y`, so a call
//! shows which file its descriptor stands for.

use std::ffi::OsString;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use rustix::process::Pid;
use tempfile::TempDir;

use crate::harness::{Running, binary, wait_until};

/// All that touches files, names, descriptors or the signal mask.
const TRACED: &str = "trace=%file,%desc,rt_sigprocmask";

/// The calls that give the new file DEST's name, for an injection. The POSIX backend links a DEST
/// that is new.
pub(crate) const COMMIT: &str = if cfg!(atomwrite_posix) {
    "linkat,rename,renameat,renameat2"
} else {
    "rename,renameat,renameat2"
};

/// The call that gives the new file the name of a DEST that is new.
pub(crate) const COMMIT_NEW: &str = if cfg!(atomwrite_posix) {
    "linkat"
} else {
    "renameat2"
};

/// The call that takes the lock of `--lock`, for an injection.
pub(crate) const LOCK: &str = if cfg!(atomwrite_posix) {
    "flock"
} else {
    "fcntl"
};

/// strace(1) put before the program, with a place for its trace outside of the sandbox.
pub(crate) struct Strace {
    pub(crate) dir: TempDir,
    pub(crate) follow: bool,
    pub(crate) traced: String,
    pub(crate) options: Vec<String>,
}

impl Strace {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        // strace may run as another user.
        std::fs::set_permissions(dir.path(), Permissions::from_mode(0o777)).unwrap();
        Self {
            dir,
            follow: true,
            traced: TRACED.to_owned(),
            options: Vec::new(),
        }
    }

    /// Traces only the program itself: otherwise an error is injected into COMMAND's calls too.
    pub(crate) fn alone(mut self) -> Self {
        self.follow = false;
        self
    }

    /// Adds one of strace's injections, such as `fsync:error=EIO`.
    pub(crate) fn inject(mut self, injection: &str) -> Self {
        self.options.push(format!("inject={injection}"));
        self
    }

    /// Traces every call, for tests in which no call may come between two others.
    pub(crate) fn every_call(mut self) -> Self {
        "trace=all".clone_into(&mut self.traced);
        self
    }

    /// Traces this call only, which is faster.
    pub(crate) fn only(mut self, call: &str) -> Self {
        self.traced = format!("trace={call}");
        self
    }

    /// Injects only into calls that have this path as an argument, word for word, or a descriptor
    /// of it.
    ///
    /// The calls without it are not traced, so there is no [`Trace`], only [`Strace::injected`].
    pub(crate) fn at(mut self, path: impl AsRef<Path>) -> Self {
        let path = path.as_ref().to_str().expect("temporary paths are text");
        self.options.push(format!("trace-path={path}"));
        self
    }

    /// Counts the injections that have taken place.
    pub(crate) fn injected(&self) -> usize {
        let text = std::fs::read(self.file()).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        text.matches("(INJECTED)").count()
    }

    /// Returns whether an injection has taken place.
    pub(crate) fn has_injected(&self) -> bool {
        self.injected() > 0
    }

    /// Returns the words that come before the program's own.
    pub(crate) fn command(&self) -> Vec<OsString> {
        let mut words: Vec<OsString> = [
            "strace",
            "-y",
            "--quiet=all",
            "-s",
            "64",
            "-e",
            &self.traced,
        ]
        .iter()
        .map(OsString::from)
        .collect();
        if self.follow {
            words.push("-f".into());
        }
        for option in &self.options {
            match option.strip_prefix("trace-path=") {
                Some(path) => words.extend(["-P".into(), path.into()]),
                None => words.extend(["-e".into(), option.into()]),
            }
        }
        words.push("-o".into());
        words.push(self.file().into());
        words
    }

    /// Traces a process that runs already, from now on.
    pub(crate) fn attach(&self, process: u32) -> Attached {
        let words = self.command();
        let tracer = Command::new(&words[0])
            .args(&words[1..])
            .args(["-p", &process.to_string()])
            .spawn()
            .unwrap();
        let status = format!("/proc/{process}/status");
        wait_until("it is traced", || {
            let status = std::fs::read_to_string(&status).unwrap();
            !status.contains("TracerPid:\t0\n")
        });
        Attached(tracer)
    }

    /// Reads the trace of the run.
    pub(crate) fn trace(&self) -> Trace {
        let text = std::fs::read(self.file()).expect("strace has written its trace");
        Trace::parse(&String::from_utf8_lossy(&text))
    }

    /// Returns whether an injected SIGSTOP has stopped the program; it lasts until SIGCONT.
    pub(crate) fn has_stopped(&self) -> bool {
        self.stops() > 0
    }

    /// How many of them have.
    pub(crate) fn stops(&self) -> usize {
        let text = std::fs::read(self.file()).unwrap_or_default();
        String::from_utf8_lossy(&text)
            .matches("stopped by SIGSTOP")
            .count()
    }

    pub(crate) fn file(&self) -> PathBuf {
        self.dir.path().join("trace")
    }
}

/// strace(1) that traces what another has started; it ends with this.
#[must_use = "it traces no longer than this lives"]
pub(crate) struct Attached(Child);

impl Drop for Attached {
    fn drop(&mut self) {
        // It has ended already if what it traced has.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// Finds the program below strace, or below another one that has a single child. strace has others
/// for a moment, at its start.
pub(crate) fn program_of(running: &Running) -> Pid {
    let id = running.id();
    let children = format!("/proc/{id}/task/{id}/children");
    let mut child = None;
    wait_until("the program has been started", || {
        child = std::fs::read_to_string(&children)
            .unwrap()
            .split_whitespace()
            .find(|id| {
                std::fs::read_link(format!("/proc/{id}/exe"))
                    .is_ok_and(|exe| exe.file_name() == binary().file_name())
            })
            .and_then(|id| Pid::from_raw(id.parse().unwrap()));
        child.is_some()
    });
    child.expect("it was found")
}

/// One system call of the trace.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) name: String,
    pub(crate) args: String,
    /// What stands behind the equals sign: `0`, `3</tmp/x>`, `-1 EIO (Input/output error)
    /// (INJECTED)`, `?`.
    pub(crate) result: String,
}

impl Call {
    pub(crate) fn succeeded(&self) -> bool {
        !self.result.starts_with("-1 ") && !self.result.starts_with('?')
    }

    pub(crate) fn is(&self, name: &str) -> bool {
        self.name == name
    }

    /// Returns whether its descriptor is the new file, unnamed or under its temporary name.
    pub(crate) fn on_draft(&self) -> bool {
        let (descriptor, _) = self.args.split_once(", ").unwrap_or((&self.args, ""));
        descriptor.contains("/.atomwrite.") && !descriptor.ends_with(".lock>")
            || descriptor.ends_with(">(deleted)")
    }

    /// Returns whether it is one of the calls that rename, whatever their generation.
    pub(crate) fn renames(&self) -> bool {
        matches!(self.name.as_str(), "rename" | "renameat" | "renameat2")
    }

    /// Returns whether it opens an unnamed file.
    pub(crate) fn opens_unnamed(&self) -> bool {
        self.name.starts_with("open") && self.args.contains("O_TMPFILE")
    }

    /// Returns whether it gives an unnamed file a name; the probe, which must fail, does not.
    pub(crate) fn links(&self) -> bool {
        self.is("linkat") && self.args.contains(".atomwrite.") && self.succeeded()
    }
}

/// The calls of one run, in their order.
#[derive(Debug)]
pub(crate) struct Trace {
    pub(crate) calls: Vec<Call>,
    /// Where the program's own part begins; before it the loader and the runtime open files too.
    pub(crate) start: usize,
}

impl Trace {
    pub(crate) fn parse(text: &str) -> Self {
        let mut calls: Vec<Call> = Vec::new();
        let mut first_process = None;
        for line in text.lines() {
            let mut line = line;
            if line.starts_with(|digit: char| digit.is_ascii_digit()) {
                let Some((process, rest)) = line.split_once(' ') else {
                    continue;
                };
                // getent and the like: counted by strace for themselves.
                if *first_process.get_or_insert(process) != process {
                    continue;
                }
                line = rest.trim_start();
            }
            if line.starts_with("---") || line.starts_with("+++") || line.starts_with("<...") {
                continue;
            }
            let Some((name, rest)) = line.split_once('(') else {
                continue;
            };
            let (args, result) = match rest.rfind(" = ") {
                Some(at) => (rest[..at].trim_end(), rest[at + 3..].trim()),
                None => (rest, "?"),
            };
            calls.push(Call {
                name: name.to_owned(),
                args: args.strip_suffix(')').unwrap_or(args).to_owned(),
                result: result.to_owned(),
            });
        }
        // `main` begins by checking the standard streams; the calls before that are the loader's.
        let start = 1 + calls
            .iter()
            .position(|call| {
                if cfg!(atomwrite_posix) {
                    call.name == "fcntl"
                        && call.args.starts_with('2')
                        && call.args.ends_with("F_GETFD")
                } else {
                    call.name.ends_with("poll") && call.args.contains("events=0}], 3")
                }
            })
            .unwrap_or_else(|| panic!("no sign of `main` in the trace:\n{text}"));
        Self { calls, start }
    }

    /// Returns the program's own calls, without the loader's and the runtime's.
    pub(crate) fn own(&self) -> &[Call] {
        &self.calls[self.start..]
    }

    /// Returns the index of the only own call of that kind.
    pub(crate) fn only(&self, what: &str, kind: impl Fn(&Call) -> bool) -> usize {
        let places = self.places(kind);
        match places[..] {
            [place] => place,
            _ => panic!("{} times {what}, not once, in {self}", places.len()),
        }
    }

    /// Returns the indices of the own calls of that kind.
    pub(crate) fn places(&self, kind: impl Fn(&Call) -> bool) -> Vec<usize> {
        (0..self.own().len())
            .filter(|&at| kind(&self.own()[at]))
            .collect()
    }

    pub(crate) fn count(&self, kind: impl Fn(&Call) -> bool) -> usize {
        self.places(kind).len()
    }
}

impl std::fmt::Display for Trace {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(out, "the trace:")?;
        for call in self.own() {
            writeln!(out, "  {}({}) = {}", call.name, call.args, call.result)?;
        }
        Ok(())
    }
}
