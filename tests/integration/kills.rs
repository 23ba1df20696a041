//! A kill at every call of every form: plain, `-n`, `-D`, COMMAND, `-a`, `-b`, `-C`, `--validate`, `--inplace`.
//!
//! What the contract says: after SIGKILL, DEST is the old file or the new one, whole, and all that is left is hidden. Of
//! that, the next write to the same DEST removes the file that has the derived name; what has a random name stays, and so
//! may a lock file. Where a backup was asked for, the old content is never lost once DEST is new. SIGTERM leaves nothing,
//! and atomwrite dies by it. Only `--inplace` may leave a partial file, and only after SIGKILL.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::Write;

use rustix::pipe::{PipeFlags, pipe_with};

use crate::harness::{Call, Strace};
use crate::harness::{Done, Sandbox, derived_name, is_temporary, needs_tool};

/// A way to use the program.
struct Form {
    words: &'static [&'static str],
    dest: &'static str,
    /// The files that are there before, DEST among them if it is not new.
    files: &'static [(&'static str, &'static str)],
    /// What is injected in every run.
    always: Option<&'static str>,
    /// The content of DEST afterwards.
    new: &'static str,
    /// The backup, if one is made.
    backup: Option<&'static str>,
    /// The most names that SIGKILL may leave; the files in a directory are not counted.
    most: usize,
}

const OLD: (&str, &str) = ("out", "old");
const NAMED: Option<&str> = Some("linkat:error=EOPNOTSUPP");

const PLAIN: Form = Form {
    words: &["out"],
    dest: "out",
    files: &[OLD],
    always: None,
    new: "new",
    backup: None,
    most: 1,
};

#[test]
fn of_the_plain_form() {
    PLAIN.is_killed_at_every_call();
}

#[test]
fn of_a_new_file() {
    Form {
        files: &[],
        ..PLAIN
    }
    .is_killed_at_every_call();
}

#[test]
fn of_a_file_that_has_a_name_from_its_start() {
    Form {
        always: NAMED,
        ..PLAIN
    }
    .is_killed_at_every_call();
}

#[test]
fn of_no_clobber() {
    // The second filesystem cannot rename without replacing.
    for always in [None, NAMED, Some("renameat2:error=EINVAL")] {
        Form {
            words: &["-n", "out"],
            files: &[],
            always,
            ..PLAIN
        }
        .is_killed_at_every_call();
    }
}

#[test]
fn of_created_directories() {
    for always in [None, NAMED] {
        Form {
            words: &["-D", "one/two/out"],
            dest: "one/two/out",
            files: &[],
            always,
            ..PLAIN
        }
        .is_killed_at_every_call();
    }
}

#[test]
fn of_a_command() {
    for always in [None, NAMED] {
        Form {
            words: &["out", "--", "cat", "src"],
            files: &[OLD, ("src", "new")],
            always,
            ..PLAIN
        }
        .is_killed_at_every_call();
    }
}

#[test]
fn of_an_append() {
    for always in [None, NAMED] {
        Form {
            words: &["-a", "out"],
            new: "oldnew",
            always,
            // The lock file, and the new file.
            most: 2,
            ..PLAIN
        }
        .is_killed_at_every_call();
    }
}

#[test]
fn of_an_append_to_a_new_file() {
    Form {
        words: &["-a", "out"],
        files: &[],
        most: 2,
        ..PLAIN
    }
    .is_killed_at_every_call();
}

#[test]
fn of_a_backup() {
    for (words, backup, older) in [
        (&["-b", "out"][..], "out~", None),
        (&["-b", "out"], "out~", Some(&[OLD, ("out~", "older")])),
        (
            &["--backup=numbered", "out"],
            "out.~2~",
            Some(&[OLD, ("out.~1~", "older")]),
        ),
    ] {
        // The second is a copy, because no link can be made.
        for always in [None, NAMED] {
            Form {
                words,
                files: older.map_or(&[OLD], |files| files),
                backup: Some(backup),
                always,
                // The new file, and the backup under its temporary name.
                most: 2,
                ..PLAIN
            }
            .is_killed_at_every_call();
        }
    }
}

#[test]
fn of_equal_content() {
    Form {
        words: &["-C", "out"],
        files: &[("out", "new")],
        ..PLAIN
    }
    .is_killed_at_every_call();
}

#[test]
fn of_unequal_content() {
    Form {
        words: &["-C", "out"],
        ..PLAIN
    }
    .is_killed_at_every_call();
}

#[test]
fn of_a_validated_write() {
    for (always, most) in [(None, 1), (NAMED, 2)] {
        Form {
            words: &["--validate", "test -s \"$1\"", "out"],
            always,
            // The preview directory, and the new file.
            most,
            ..PLAIN
        }
        .is_killed_at_every_call();
    }
}

#[test]
fn of_a_write_in_place() {
    Form {
        words: &["-q", "--inplace=always", "out"],
        ..PLAIN
    }
    .is_killed_at_every_call();
}

impl Form {
    fn is_killed_at_every_call(&self) {
        needs_tool!("strace");
        let sandbox = self.sandbox();
        let before = sandbox.names();
        let strace = self.strace(None);
        let done = self.run(&sandbox, &strace);
        assert_eq!(done.code(), Some(0), "{done:?}");
        assert_eq!(sandbox.text(self.dest), self.new);
        let after = sandbox.names();
        let trace = strace.trace();
        let (mut killed_new, mut ended_new) = (false, false);
        // How often these are made depends on when a program ends, and so does the number of each that follows.
        let mut uncertain = BTreeSet::new();
        for call in trace.own() {
            if self.runs_a_program() && call.depends_on_timing() {
                uncertain.insert(&call.name);
            }
            if call.injected() || call.is("exit_group") || uncertain.contains(&call.name) {
                continue;
            }
            // The mask is of no interest to SIGKILL.
            if !call.is("rt_sigprocmask") {
                killed_new |= self.is_killed_at(call, &before);
            }
            ended_new |= self.is_ended_at(call, &before, &after);
        }
        let same = self.files.contains(&("out", self.new));
        assert!(
            same || killed_new && ended_new,
            "no signal came after the commit in {trace}"
        );
    }

    fn sandbox(&self) -> Sandbox {
        let sandbox = Sandbox::new();
        for (name, content) in self.files {
            sandbox.write(name, content);
        }
        sandbox
    }

    fn old(&self) -> Option<&'static str> {
        let mut files = self.files.iter();
        files.find_map(|(name, content)| (*name == self.dest).then_some(*content))
    }

    fn content(&self, sandbox: &Sandbox) -> Option<String> {
        fs::read_to_string(sandbox.path(self.dest)).ok()
    }

    fn in_place(&self) -> bool {
        self.words.contains(&"--inplace=always")
    }

    fn runs_a_program(&self) -> bool {
        let program = |word: &&str| ["--", "--validate"].contains(word);
        self.words.iter().any(program)
    }

    /// COMMAND and the validator are left alone: the signal is for us.
    fn strace(&self, aim: Option<&str>) -> Strace {
        let injections = self.always.into_iter().chain(aim);
        injections.fold(Strace::new().alone(), Strace::inject)
    }

    fn run(&self, sandbox: &Sandbox, strace: &Strace) -> Done {
        // It is there before the run begins, so that the run never waits for it.
        let (read, write) = pipe_with(PipeFlags::CLOEXEC).unwrap();
        File::from(write).write_all(b"new").unwrap();
        sandbox
            .atomwrite(self.words.iter().copied())
            .stdin_from(read)
            .through(strace.command())
            .output()
    }

    /// Tells whether DEST was new.
    fn is_killed_at(&self, call: &Call, before: &[OsString]) -> bool {
        let aim = format!("{}:signal=SIGKILL:when={}", call.name, call.nth);
        let sandbox = self.sandbox();
        let done = self.run(&sandbox, &self.strace(Some(&aim)));
        assert_eq!(done.signal(), Some(libc::SIGKILL), "{aim}: {done:?}");
        let content = self.content(&sandbox);
        let is_new = content.as_deref() == Some(self.new);
        let begun = |content: &str| self.new.starts_with(content);
        let partial = self.in_place() && content.as_deref().is_some_and(begun);
        assert!(
            is_new || partial || content.as_deref() == self.old(),
            "{aim}: {content:?}"
        );
        let left: Vec<_> = sandbox.names().into_iter().filter(is_left).collect();
        assert!(left.len() <= self.most, "{aim}: {left:?}");
        if let (Some(backup), true) = (self.backup, is_new) {
            let kept = fs::read_to_string(sandbox.path(backup)).ok();
            assert_eq!(
                kept.as_deref(),
                self.old(),
                "{aim}: the old content is lost"
            );
        }
        // An older one has its content still, or that of DEST.
        if let Some((name, older)) = self
            .files
            .iter()
            .find(|(name, _)| self.backup == Some(name))
        {
            let content = fs::read_to_string(sandbox.path(name)).ok();
            let whole = content.as_deref() == Some(older) || content.as_deref() == self.old();
            assert!(whole, "{aim}: the backup is {content:?}");
        }
        // All else is as it was, or new.
        let mut names = sandbox.names();
        names.retain(|name| !is_below_temporary(name));
        let known = |name: &OsString| {
            let path = name.to_str().unwrap();
            before.contains(name) || Some(path) == self.backup || self.dest.starts_with(path)
        };
        assert!(names.iter().all(known), "{aim}: {names:?}");

        // The next write removes what has the derived name, and nothing else.
        let derived = derived_name("out");
        let mut names = sandbox.names();
        names.retain(|name| !name.to_str().unwrap().ends_with(&derived));
        for (end, _) in self.dest.match_indices('/').chain([(self.dest.len(), "")]) {
            names.push(self.dest[..end].into());
        }
        names.sort();
        names.dedup();
        sandbox
            .atomwrite(["-D", self.dest])
            .stdin("newer")
            .leaves(names)
            .succeeds();
        assert_eq!(sandbox.text(self.dest), "newer", "{aim}");
        is_new
    }

    /// Tells whether DEST was new.
    fn is_ended_at(&self, call: &Call, before: &[OsString], after: &[OsString]) -> bool {
        let aim = format!("{}:signal=SIGTERM:when={}", call.name, call.nth);
        let sandbox = self.sandbox();
        let done = self.run(&sandbox, &self.strace(Some(&aim)));
        assert_eq!(done.signal(), Some(libc::SIGTERM), "{aim}: {done:?}");
        assert_eq!(done.stderr, "", "{aim}");
        let content = self.content(&sandbox);
        let is_new = content.as_deref() == Some(self.new);
        if is_new {
            let same = self.old() == Some(self.new);
            assert!(
                sandbox.names() == after || same && sandbox.names() == before,
                "{aim}: {:?}",
                sandbox.names()
            );
        } else {
            assert_eq!(content.as_deref(), self.old(), "{aim}");
            assert_eq!(sandbox.names(), before, "{aim}");
            for (name, content) in self.files {
                assert_eq!(sandbox.text(name), *content, "{aim}");
            }
        }
        is_new
    }
}

/// Whether a temporary name is in a path.
fn is_below_temporary(name: &OsString) -> bool {
    name.to_string_lossy().contains(".atomwrite.")
}

/// Whether a name is a temporary one, and not in a directory that has one.
fn is_left(name: &OsString) -> bool {
    is_temporary(name) && name.to_string_lossy().matches(".atomwrite.").count() == 1
}
