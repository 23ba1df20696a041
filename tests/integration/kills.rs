//! Death at every call of the other forms: COMMAND, `-a`, `-b`, `-C`, `--validate`, `--inplace`.
//!
//! What the contract says: the same as for the plain form, which the room `death` looks at. After SIGKILL, DEST is the
//! old file or the new one, whole, and what is left is hidden and removed by the next write to the same DEST; where a
//! backup was asked for, the old content is never lost once DEST is new. A signal that the program can act on leaves
//! nothing, and the program dies by it. Only `--inplace` may leave half a file, and only after SIGKILL.

use std::ffi::OsString;
use std::fs;

use crate::sandbox::{Done, Sandbox, needs_tool};
use crate::strace::{Call, Strace};

/// A way to use the program.
struct Form {
    /// All words; DEST is always `out`.
    words: &'static [&'static str],
    /// The files that are there before, DEST among them if it is not new.
    files: &'static [(&'static str, &'static str)],
    /// What is injected in every run.
    always: Option<&'static str>,
    /// The content of DEST afterwards.
    new: &'static str,
    /// The backup, if one is made.
    backup: Option<&'static str>,
    /// How many names may be left by SIGKILL, directories in which there is one counted once.
    most: usize,
}

const OLD: (&str, &str) = ("out", "old");
const NAMED: Option<&str> = Some("linkat:error=EOPNOTSUPP");

const BASE: Form = Form {
    words: &["out"],
    files: &[OLD],
    always: None,
    new: "new",
    backup: None,
    most: 1,
};

#[test]
fn of_a_command() {
    Form {
        words: &["out", "--", "cat", "src"],
        files: &[OLD, ("src", "new")],
        ..BASE
    }
    .dies_well();
}

#[test]
fn of_a_command_through_a_pipe() {
    Form {
        words: &["out", "--", "cat", "src"],
        files: &[OLD, ("src", "new")],
        always: NAMED,
        ..BASE
    }
    .dies_well();
}

#[test]
fn of_an_append() {
    Form {
        words: &["-a", "out"],
        new: "oldnew",
        ..BASE
    }
    .dies_well();
}

#[test]
fn of_an_append_to_a_new_file() {
    Form {
        words: &["-a", "out"],
        files: &[],
        // The lock has a name too.
        most: 2,
        ..BASE
    }
    .dies_well();
}

#[test]
fn of_a_backup_over_an_older_one() {
    Form {
        words: &["-b", "out"],
        files: &[OLD, ("out~", "older")],
        backup: Some("out~"),
        // The older backup, and the new file.
        most: 2,
        ..BASE
    }
    .dies_well();
}

#[test]
fn of_a_backup_over_an_older_one_where_names_cannot_be_exchanged() {
    Form {
        words: &["-b", "out"],
        files: &[OLD, ("out~", "older")],
        always: Some("renameat2:error=EINVAL"),
        backup: Some("out~"),
        most: 2,
        ..BASE
    }
    .dies_well();
}

#[test]
fn of_a_numbered_backup() {
    Form {
        words: &["--backup=numbered", "out"],
        files: &[OLD, ("out.~1~", "older")],
        backup: Some("out.~2~"),
        ..BASE
    }
    .dies_well();
}

#[test]
fn of_a_backup_by_exchange() {
    Form {
        words: &["-b", "out"],
        // The first is the probe, the second the backup's, the third the new file's.
        always: Some("linkat:error=EPERM:when=2"),
        backup: Some("out~"),
        ..BASE
    }
    .dies_well();
}

#[test]
fn of_equal_content() {
    Form {
        words: &["-C", "out"],
        files: &[("out", "new")],
        ..BASE
    }
    .dies_well();
}

#[test]
fn of_unequal_content() {
    Form {
        words: &["-C", "out"],
        ..BASE
    }
    .dies_well();
}

#[test]
fn of_a_validated_write() {
    Form {
        words: &["--validate", "test -s \"$1\"", "out"],
        ..BASE
    }
    .dies_well();
}

#[test]
fn of_a_validated_file_with_a_name() {
    Form {
        words: &["--validate", "test -s \"$1\"", "out"],
        always: NAMED,
        most: 2,
        ..BASE
    }
    .dies_well();
}

#[test]
fn of_a_write_in_place() {
    Form {
        words: &["-q", "--inplace=always", "out"],
        ..BASE
    }
    .dies_well();
}

impl Form {
    fn dies_well(&self) {
        needs_tool!("strace");
        let sandbox = self.sandbox();
        let before = sandbox.names();
        let strace = self.strace(None);
        let done = self.run(&sandbox, &strace);
        assert_eq!(done.code(), Some(0), "{done:?}");
        assert_eq!(sandbox.text("out"), self.new);
        let after = sandbox.names();
        let trace = strace.trace();
        let mut seen_new = false;
        for call in trace.own() {
            if call.injected() || call.is("exit_group") {
                continue;
            }
            // The mask is of no interest to SIGKILL.
            if !call.is("rt_sigprocmask") {
                seen_new |= self.is_killed_at(call);
            }
            self.is_ended_at(call, &before, &after);
        }
        let same = self.files.contains(&("out", self.new));
        assert!(seen_new || same, "no kill came after the commit in {trace}");
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
        files.find_map(|(name, content)| (*name == "out").then_some(*content))
    }

    fn in_place(&self) -> bool {
        self.words.contains(&"--inplace=always")
    }

    /// COMMAND and the validator are left alone: the signal is for us.
    fn strace(&self, aim: Option<&str>) -> Strace {
        let injections = self.always.into_iter().chain(aim);
        injections.fold(Strace::new().alone(), Strace::inject)
    }

    fn run(&self, sandbox: &Sandbox, strace: &Strace) -> Done {
        sandbox
            .atomwrite(self.words.iter().copied())
            .stdin("new")
            .through(strace.command())
            .output()
    }

    /// Tells whether DEST was new.
    fn is_killed_at(&self, call: &Call) -> bool {
        let aim = format!("{}:signal=SIGKILL:when={}", call.name, call.nth);
        let sandbox = self.sandbox();
        let done = self.run(&sandbox, &self.strace(Some(&aim)));
        assert_eq!(done.signal(), Some(libc::SIGKILL), "{aim}: {done:?}");
        let content = fs::read_to_string(sandbox.path("out")).ok();
        let is_new = content.as_deref() == Some(self.new);
        let begun = |content: &str| self.new.starts_with(content);
        let half = self.in_place() && content.as_deref().is_some_and(begun);
        assert!(
            is_new || half || content.as_deref() == self.old(),
            "{aim}: {content:?}"
        );
        let left = leftovers(&sandbox);
        assert!(left.len() <= self.most, "{aim}: {left:?}");
        if let (Some(backup), true) = (self.backup, is_new) {
            // At the worst it has its temporary name still.
            let mut names = left.iter().map(|name| name.to_str().unwrap());
            let kept =
                |name: &str| fs::read_to_string(sandbox.path(name)).ok().as_deref() == self.old();
            assert!(
                kept(backup) || names.any(kept),
                "{aim}: the old content is lost, {:?}",
                sandbox.names()
            );
        }
        // Healed by the usual run.
        let mut names: Vec<OsString> = sandbox.names();
        names.retain(|name| !is_temporary(name));
        names.push("out".into());
        names.sort();
        names.dedup();
        sandbox
            .atomwrite(["out"])
            .stdin("newer")
            .leaves(names)
            .succeeds();
        assert_eq!(sandbox.text("out"), "newer", "{aim}");
        is_new
    }

    fn is_ended_at(&self, call: &Call, before: &[OsString], after: &[OsString]) {
        let aim = format!("{}:signal=SIGTERM:when={}", call.name, call.nth);
        let sandbox = self.sandbox();
        let done = self.run(&sandbox, &self.strace(Some(&aim)));
        assert_eq!(done.signal(), Some(libc::SIGTERM), "{aim}: {done:?}");
        assert_eq!(done.stderr, "", "{aim}");
        let content = fs::read_to_string(sandbox.path("out")).ok();
        if content.as_deref() == Some(self.new) {
            let same = self.old() == Some(self.new);
            assert!(sandbox.names() == after || same && sandbox.names() == before);
        } else {
            assert_eq!(content.as_deref(), self.old(), "{aim}");
            assert_eq!(sandbox.names(), before, "{aim}");
            for (name, content) in self.files {
                assert_eq!(sandbox.text(name), *content, "{aim}");
            }
        }
    }
}

fn is_temporary(name: &OsString) -> bool {
    name.to_string_lossy().starts_with('.')
}

/// The temporary names beside DEST; not what is in a directory of such a name.
fn leftovers(sandbox: &Sandbox) -> Vec<OsString> {
    let mut names = sandbox.names();
    names.retain(|name| is_temporary(name) && !name.to_string_lossy().contains('/'));
    names
}
