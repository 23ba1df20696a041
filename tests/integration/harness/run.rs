//! Runs of the real binary in a sandbox, which are checked completely.
//!
//! The harness checks this for every run that ends in `succeeds` or `fails`:
//!
//! * stdout is empty, except with `stdout_says` (`--help`, `--version`);
//! * stderr is empty after a success; a failure is one line of the form in [`check_message`], and
//!   ends by saying that DEST is unchanged if a regular DEST was there before. `says` expects a
//!   part of that line (and that there is one), `warns` one more line that is a warning, and
//!   `hears` one more that is not atomwrite's;
//! * exactly the expected names are in the sandbox and all its directories: the names of before,
//!   and DEST after a success (the last argument, or the one before `-- COMMAND`), or what `leaves`
//!   expects;
//! * after a failure (all but status 4, and 124 with COMMAND), every file is unchanged: inode,
//!   content, mode, owner, times; also after a success that `leaves_alone`;
//! * it ends within [`BOUND`].
//!
//! There are short forms for frequent cases: [`Sandbox::run`] takes the command line as one text,
//! `fails_with`, `writes` and `traced` end with what is expected most often, and
//! [`Sandbox::fail_each`] and [`each`] take tables of cases.

mod start;

use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use crate::harness::{Done, NOBODY, Sandbox, Strace, Trace, Witness};

/// A run of the binary, described; it happens in `succeeds`, `fails`, `output` or `start`.
#[must_use = "a run starts with the call that expects its end: succeeds, fails, output or start"]
pub(crate) struct Run<'a> {
    sandbox: &'a Sandbox,
    arguments: Vec<OsString>,
    prefix: Vec<OsString>,
    strace: Option<Strace>,
    directory: PathBuf,
    stdin: Input,
    unread: Option<Witness>,
    stdout: Option<OwnedFd>,
    stderr: Option<OwnedFd>,
    closed: Vec<i32>,
    umask: u32,
    environment: Vec<(OsString, OsString)>,
    user: Option<(u32, u32, Vec<u32>)>,
    file_size: Option<u64>,
    session: bool,
    says: Vec<String>,
    warns: Vec<String>,
    hears: Vec<String>,
    stdout_says: Vec<String>,
    leaves: Option<Vec<OsString>>,
    reaches_dest: bool,
    replaces: bool,
}

/// What stdin is.
enum Input {
    /// /dev/null.
    Nothing,
    /// Written into a pipe by a thread, so that no size blocks.
    Bytes(Vec<u8>),
    /// Whatever the test opened: a file at an offset, a socket, a terminal.
    Open(OwnedFd),
    /// A pipe whose other end the test holds.
    Held,
}

impl<'a> Run<'a> {
    pub(crate) fn new(sandbox: &'a Sandbox, arguments: Vec<OsString>) -> Self {
        Self {
            sandbox,
            arguments,
            prefix: Vec::new(),
            strace: None,
            directory: sandbox.root.clone(),
            stdin: Input::Nothing,
            unread: None,
            stdout: None,
            stderr: None,
            closed: Vec::new(),
            umask: 0o022,
            environment: Vec::new(),
            user: None,
            file_size: None,
            session: false,
            says: Vec::new(),
            warns: Vec::new(),
            hears: Vec::new(),
            stdout_says: Vec::new(),
            leaves: None,
            reaches_dest: true,
            replaces: true,
        }
    }

    /// Sets stdin to a pipe with these bytes. Without any `stdin`, it is /dev/null.
    pub(crate) fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.stdin = Input::Bytes(bytes.into());
        self
    }

    /// Sets stdin to an open descriptor.
    pub(crate) fn stdin_from(mut self, descriptor: impl Into<OwnedFd>) -> Self {
        self.stdin = Input::Open(descriptor.into());
        self
    }

    /// Sets stdin to input of which the run must read nothing; for `succeeds` and `fails`.
    pub(crate) fn reads_nothing(mut self) -> Self {
        let witness = Witness::new();
        let input = witness.input();
        self.unread = Some(witness);
        self.stdin_from(input)
    }

    /// Makes stdin a pipe that stays open until the test ends it; for `start`.
    pub(crate) fn stdin_held(mut self) -> Self {
        self.stdin = Input::Held;
        self
    }

    /// Redirects stdout, so the test sees an empty one.
    pub(crate) fn stdout_to(mut self, descriptor: impl Into<OwnedFd>) -> Self {
        self.stdout = Some(descriptor.into());
        self
    }

    /// Redirects stderr, which is then not checked.
    pub(crate) fn stderr_to(mut self, descriptor: impl Into<OwnedFd>) -> Self {
        self.stderr = Some(descriptor.into());
        self
    }

    /// Closes these of 0, 1 and 2 before the program starts.
    pub(crate) fn closed(mut self, descriptors: &[i32]) -> Self {
        self.closed = descriptors.to_vec();
        self
    }

    /// Starts it in another directory than the sandbox's root.
    pub(crate) fn current_dir(mut self, directory: impl AsRef<Path>) -> Self {
        self.directory = self.sandbox.path(directory);
        self
    }

    /// 022 by default.
    pub(crate) fn umask(mut self, umask: u32) -> Self {
        self.umask = umask;
        self
    }

    pub(crate) fn env(mut self, key: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.environment.push((key.into(), value.into()));
        self
    }

    /// Runs it as another user, with these supplementary groups; needs root.
    pub(crate) fn user(mut self, uid: u32, gid: u32, groups: &[u32]) -> Self {
        self.user = Some((uid, gid, groups.to_vec()));
        self
    }

    /// Runs it as a user who owns nothing; needs root.
    pub(crate) fn by_nobody(self) -> Self {
        self.user(NOBODY, NOBODY, &[])
    }

    /// Limits the size of files that it may write (RLIMIT_FSIZE).
    pub(crate) fn file_size_limit(mut self, bytes: u64) -> Self {
        self.file_size = Some(bytes);
        self
    }

    /// Makes the terminal that is its stdin the one that controls it: Ctrl-C typed there is SIGINT.
    pub(crate) fn controlled(mut self) -> Self {
        self.session = true;
        self
    }

    /// Puts a command before the binary: `["strace", "-f", "-o", trace]`.
    pub(crate) fn through<S: Into<OsString>>(
        mut self,
        command: impl IntoIterator<Item = S>,
    ) -> Self {
        self.prefix = command.into_iter().map(Into::into).collect();
        self
    }

    /// Puts strace(1) before the binary.
    pub(crate) fn under(self, strace: &Strace) -> Self {
        self.through(strace.command())
    }

    /// Injects an error or a signal by strace(1), which must occur; see [`Strace::inject`].
    pub(crate) fn inject(mut self, injection: &str) -> Self {
        let strace = self.strace.take().unwrap_or_else(Strace::new);
        self.strace = Some(strace.inject(injection));
        self
    }

    /// Makes every linkat fail: an unnamed file could get no name, so the temporary file has one
    /// from the start.
    ///
    /// Needs strace. Over the POSIX backend there is no unnamed file, and linkat has other uses.
    pub(crate) fn without_linkat(self) -> Self {
        let inject = if cfg!(atomwrite_posix) {
            "inject=linkat:error=ENOENT:when=65535"
        } else {
            "inject=linkat:error=ENOENT"
        };
        self.through([
            "strace",
            "-qq",
            "-o",
            "/dev/null",
            "-e",
            "trace=linkat",
            "-e",
            inject,
        ])
    }

    /// Expects one line on stderr, with this in it. May be called more than once for the same line.
    pub(crate) fn says(mut self, part: impl Into<String>) -> Self {
        self.says.push(part.into());
        self
    }

    /// Expects one more line on stderr: a warning, with this in it.
    pub(crate) fn warns(mut self, part: impl Into<String>) -> Self {
        self.warns.push(part.into());
        self
    }

    /// Expects one more line on stderr, exactly this, from a program that runs for atomwrite.
    pub(crate) fn hears(mut self, line: impl Into<String>) -> Self {
        self.hears.push(line.into());
        self
    }

    /// Expects this on stdout; without, nothing may be there.
    pub(crate) fn stdout_says(mut self, part: impl Into<String>) -> Self {
        self.stdout_says.push(part.into());
        self
    }

    /// Expects exactly these names in the sandbox afterwards, in place of the rule above.
    pub(crate) fn leaves<S: Into<OsString>>(mut self, names: impl IntoIterator<Item = S>) -> Self {
        let mut names: Vec<_> = names.into_iter().map(Into::into).collect();
        names.sort();
        self.leaves = Some(names);
        self
    }

    /// Expects the run to refuse the path to DEST, so that it cannot know whether DEST exists and
    /// is unchanged.
    pub(crate) fn refuses_the_way(mut self) -> Self {
        self.reaches_dest = false;
        self
    }

    /// Runs, and expects status 0.
    #[track_caller]
    pub(crate) fn succeeds(self) -> Done {
        self.ends(0)
    }

    /// Runs, and expects status 0 and that DEST holds this.
    #[track_caller]
    pub(crate) fn writes(self, content: &str) -> Done {
        let sandbox = self.sandbox;
        let name = self.destination_name().expect("DEST is in the sandbox");
        let done = self.succeeds();
        assert_eq!(sandbox.text(&name), content, "in {name:?}");
        done
    }

    /// Runs below strace(1), expects status 0, and returns the calls.
    #[track_caller]
    pub(crate) fn traced(mut self) -> Trace {
        let injecting = self.strace.take();
        let must_inject = injecting.is_some();
        let strace = injecting.unwrap_or_else(Strace::new);
        self.under(&strace).succeeds();
        assert!(!must_inject || strace.has_injected());
        strace.trace()
    }

    /// Writes this input, does something while the run waits for the rest, and ends the input.
    #[track_caller]
    pub(crate) fn while_it_reads(self, input: &str, act: impl FnOnce()) -> Done {
        let mut running = self.stdin_held().start();
        running.feed(input);
        act();
        running.wait()
    }

    /// Runs, and expects this status and a message with this in it.
    #[track_caller]
    pub(crate) fn fails_with(self, status: i32, part: impl Into<String>) -> Done {
        self.says(part).fails(status)
    }

    /// Runs, and expects this status.
    #[track_caller]
    pub(crate) fn fails(self, status: i32) -> Done {
        assert_ne!(status, 0);
        self.ends(status)
    }

    /// Runs, and expects it to find nothing to do: this status, and no file is touched. Not a word,
    /// but for `says`.
    #[track_caller]
    pub(crate) fn leaves_alone(mut self, status: i32) -> Done {
        self.replaces = false;
        self.ends(status)
    }

    #[track_caller]
    pub(crate) fn ends(mut self, status: i32) -> Done {
        let sandbox = self.sandbox;
        let before = sandbox.census();
        let old_destination = self.reaches_dest && self.destination_is_a_file();
        let replaced = self.replaces && self.means_replaced(status);
        let name = self.destination_name();
        let expected = std::mem::take(&mut self.leaves).unwrap_or_else(|| {
            let mut names: Vec<_> = before.keys().cloned().collect();
            if let Some(name) = name.filter(|_| replaced) {
                names.push(name);
            }
            names.sort();
            names.dedup();
            names
        });
        let says = std::mem::take(&mut self.says);
        let warns = std::mem::take(&mut self.warns);
        let hears = std::mem::take(&mut self.hears);
        let may_change = self.replaces;
        let stdout_says = std::mem::take(&mut self.stdout_says);
        let shown = self.shown();
        let sees_stderr = self.stderr.is_none() && !self.closed.contains(&2);
        let typed = self.destination().cloned().unwrap_or_default();

        let strace = self.strace.take();
        if let Some(strace) = &strace {
            self = self.under(strace);
        }
        let unread = self.unread.take();
        let done = self.output();
        if let Some(witness) = unread {
            witness.has_not_been_read();
        }
        let context = format!("{shown}\n{done:?}");
        if let Some(strace) = strace {
            assert!(strace.has_injected(), "nothing was injected: {context}");
        }

        assert_eq!(done.status.code(), Some(status), "the status of {context}");
        if stdout_says.is_empty() {
            assert!(done.stdout.is_empty(), "stdout is not empty: {context}");
        }
        for part in stdout_says {
            assert!(
                done.stdout.contains(&part),
                "no {part:?} on stdout: {context}"
            );
        }
        if sees_stderr {
            let (warnings, mut lines): (Vec<_>, Vec<_>) = done
                .stderr
                .lines()
                .partition(|line| line.starts_with("atomwrite: warning: "));
            for heard in hears {
                let place = lines.iter().position(|line| *line == heard);
                lines.remove(place.unwrap_or_else(|| panic!("no {heard:?} on stderr: {context}")));
            }
            let one = status != 0 && may_change || !says.is_empty();
            assert_eq!(
                lines.len(),
                usize::from(one),
                "the lines on stderr: {context}"
            );
            assert!(
                done.stderr.is_empty() || done.stderr.ends_with('\n'),
                "the last line does not end: {context}"
            );
            for line in &lines {
                check_message(line);
                for part in &says {
                    assert!(line.contains(part), "no {part:?} on stderr: {context}");
                }
            }
            assert_eq!(
                warnings.len(),
                warns.len(),
                "the warnings on stderr: {context}"
            );
            for line in &warnings {
                check_message(line);
            }
            for part in &warns {
                assert!(
                    warnings.iter().any(|line| line.contains(part)),
                    "no warning of {part:?}: {context}"
                );
            }
            let failed = status != 0 && status != 2 && !replaced && may_change;
            if old_destination && failed {
                let end = end_of_unchanged(&typed.to_string_lossy());
                let ends = lines[0].ends_with(&end);
                assert!(ends, "does not end with {end:?}: {context}");
            }
        }
        let after = sandbox.census();
        let names: Vec<_> = after.keys().cloned().collect();
        assert_eq!(names, expected, "the names afterwards: {context}");
        if !replaced {
            assert_eq!(after, before, "something has changed: {context}");
        }
        done
    }

    /// Runs without checks, and returns the result to the test.
    #[track_caller]
    pub(crate) fn output(mut self) -> Done {
        let strace = self.strace.take();
        let run = match &strace {
            Some(strace) => self.under(strace),
            None => self,
        };
        run.start().wait()
    }

    pub(crate) fn shown(&self) -> String {
        let words = self.prefix.iter().chain(&self.arguments);
        let words: Vec<_> = words.map(|word| format!("{word:?}")).collect();
        format!("atomwrite {}", words.join(" "))
    }

    /// Where the `--` stands that begins COMMAND: behind a first operand. A test that has options
    /// behind DEST, and then COMMAND, is not understood.
    pub(crate) fn dash_before_command(&self) -> Option<usize> {
        let dash = self.arguments.iter().position(|word| word == "--")?;
        let before = &self.arguments[dash.checked_sub(1)?];
        let is_command = !before.as_bytes().starts_with(b"-") && dash + 1 < self.arguments.len();
        is_command.then_some(dash)
    }

    pub(crate) fn means_replaced(&self, status: i32) -> bool {
        match self.dash_before_command() {
            None => matches!(status, 0 | 4),
            Some(_) => matches!(status, 0 | 124),
        }
    }

    pub(crate) fn destination(&self) -> Option<&OsString> {
        match self.dash_before_command() {
            Some(dash) => self.arguments.get(dash - 1),
            None => self.arguments.last(),
        }
    }

    pub(crate) fn destination_is_a_file(&self) -> bool {
        self.destination()
            .is_some_and(|destination| self.directory.join(destination).is_file())
    }

    /// DEST as a path from the sandbox's root, if it lies there.
    pub(crate) fn destination_name(&self) -> Option<OsString> {
        let path = self.directory.join(self.destination()?);
        let mut name = PathBuf::new();
        for component in path.strip_prefix(&self.sandbox.root).ok()?.components() {
            match component {
                Component::ParentDir => {
                    name.pop();
                }
                other => name.push(other),
            }
        }
        Some(name.into_os_string()).filter(|name| !name.is_empty())
    }
}

/// How a failure ends that leaves DEST as it is.
fn end_of_unchanged(typed: &str) -> String {
    if typed.contains(|c: char| c.is_control() || c == '\'' || c == '\u{fffd}') {
        "' is unchanged".to_owned()
    } else {
        format!("; '{typed}' is unchanged")
    }
}

/// Checks that a line of stderr has the form of a message.
#[track_caller]
pub(crate) fn check_message(line: &str) {
    let text = line
        .strip_prefix("atomwrite: ")
        .unwrap_or_else(|| panic!("does not begin with the program's name: {line}"));
    assert!(!text.ends_with('.'), "ends with a full stop: {line}");
    assert!(
        !text.contains("os error"),
        "names an errno by number: {line}"
    );
    assert!(
        !text.contains("failed to"),
        "not in the form of a message: {line}"
    );
    assert!(
        !line.contains(|c: char| c.is_control()),
        "has a control character: {line:?}"
    );
    // A word all in capitals is a name: DEST.
    let mut letters = text.chars();
    let capital = letters.next().is_none_or(char::is_uppercase)
        && letters.next().is_none_or(char::is_lowercase);
    assert!(!capital, "does not begin in lower case: {line}");
    assert!(
        line.matches('\'').count() != 1,
        "a quote is not closed: {line}"
    );
}
