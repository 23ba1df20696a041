//! Many files, one commit: errors, signals and death at every call, and two runs at once.
//!
//! What the contract says: a failure before the first rename leaves DIR as it was, and nothing is left behind. A failure
//! among the renames is status 4, and a line for each file says whether it is new or old. After SIGKILL each file is the
//! old one or the new one, whole, and what is left is hidden, has a random name, and stays. Other signals leave nothing
//! before the commit, and take effect after it from there on.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use rustix::process::Signal;

use crate::harness::{Call, Strace};
use crate::harness::{Done, Sandbox, check_message, needs_tool, skip};
use crate::harness::{Feeder, Mount, can_mount};
use crate::options::many::{NAMES, and, check_new, furnish, ground, leaves_dir, words};

/// The temporary names in DIR; not what is in a directory of such a name.
fn leftovers(sandbox: &Sandbox) -> Vec<OsString> {
    let mut names = sandbox.names();
    names.retain(|name| {
        let name = name.to_string_lossy();
        name.contains(".atomwrite.") && name.matches('/').count() <= 1
    });
    names
}

/// What a name in DIR has: `None` if it is not there.
fn content(sandbox: &Sandbox, name: &str) -> Option<String> {
    fs::read_to_string(sandbox.path("d").join(name)).ok()
}

/// Whether each of the files is new; torn ones are a panic.
fn is_new(sandbox: &Sandbox, story: &str) -> [bool; 3] {
    NAMES.map(|name| {
        let content = content(sandbox, name);
        let old = (name != "c").then(|| format!("old {name}"));
        let is_new = content == Some(format!("new {name}"));
        assert!(is_new || content == old, "{story}: {name} is {content:?}");
        is_new
    })
}

/// What the lines of a failure among the renames say of each file.
fn told(stderr: &str) -> BTreeMap<String, bool> {
    stderr
        .lines()
        .filter_map(|line| {
            let (is_new, file) = match line.strip_prefix("atomwrite: new: ") {
                Some(file) => (true, file),
                None => (false, line.strip_prefix("atomwrite: old: ")?),
            };
            let name = file
                .strip_prefix("'d/")
                .and_then(|name| name.strip_suffix('\''));
            Some((name.unwrap_or_else(|| panic!("{line}")).to_owned(), is_new))
        })
        .collect()
}

// ---- Errors ---------------------------------------------------------------------------------------------------

#[test]
fn a_failure_at_the_first_rename_leaves_all_as_they_were() {
    needs_tool!("strace");
    for injection in [
        "renameat:error=EIO:when=1",
        "syncfs:error=EIO",
        "syncfs:error=ENOSPC",
    ] {
        let sandbox = ground();
        let strace = Strace::new().inject(injection);
        let run = sandbox.atomwrite(words(&[])).through(strace.command());
        leaves_dir(run.says("'d/a'"), "d", 1);
        assert_eq!(strace.trace().count(Call::injected), 1, "{injection}");
    }
}

#[test]
fn a_failure_among_the_renames_tells_what_is_new_and_what_is_old() {
    needs_tool!("strace");
    // The second replaces a file, the third is a new one.
    for (failed, new) in [("b", &["a"][..]), ("c", &["a", "b"])] {
        let sandbox = ground();
        let strace = Strace::new()
            .at(failed)
            .inject("rename,renameat,renameat2:error=EIO");
        let mut run = sandbox
            .atomwrite(words(&["-v"]))
            .through(strace.command())
            .says(format!("cannot write 'd/{failed}': input/output error"));
        for name in NAMES {
            let what = if new.contains(&name) { "new" } else { "old" };
            run = run.hears(format!("atomwrite: {what}: 'd/{name}'"));
        }
        // The third is new as a name, too.
        let names = sandbox.names();
        let done = run.leaves(names).fails(4);
        let is_new = is_new(&sandbox, "after the failure");
        assert_eq!(is_new, NAMES.map(|name| new.contains(&name)));
        let last: Vec<_> = done.stderr.lines().skip(1).collect();
        assert_eq!(last.len(), 3, "the reason is not the first line: {done:?}");
        sandbox
            .atomwrite(words(&[]))
            .leaves(and(&sandbox, &["d/c"]))
            .succeeds();
        check_new(&sandbox);
    }
}

#[test]
fn a_file_that_was_equal_already_counts_as_new() {
    needs_tool!("strace");
    let sandbox = ground();
    sandbox.write("d/b", "new b");
    let [first, last] = ["a", "c"].map(|name| {
        Strace::new()
            .at(name)
            .inject("rename,renameat,renameat2:error=EIO")
    });
    let run = |strace: &Strace| sandbox.atomwrite(words(&["-C"])).through(strace.command());
    // The first rename: nothing has changed yet.
    leaves_dir(run(&first), "d", 1);
    let told_of = ["new: 'd/a'", "new: 'd/b'", "old: 'd/c'"];
    let run = run(&last).says("'d/c'").leaves(sandbox.names());
    told_of
        .iter()
        .fold(run, |run, told| run.hears(format!("atomwrite: {told}")))
        .fails(4);
    assert_eq!(is_new(&sandbox, "-C"), [true, true, false]);
}

#[test]
fn a_name_that_was_taken_among_the_renames_is_not_replaced() {
    needs_tool!("strace");
    let sandbox = Sandbox::new();
    furnish(&sandbox);
    for name in ["d/a", "d/b"] {
        fs::remove_file(sandbox.path(name)).unwrap();
    }
    let strace = Strace::new().inject("renameat2:error=EEXIST:when=2");
    sandbox
        .atomwrite(words(&["-n"]))
        .through(strace.command())
        .says("cannot create 'd/b': it exists")
        .hears("atomwrite: new: 'd/a'")
        .hears("atomwrite: old: 'd/b'")
        .hears("atomwrite: old: 'd/c'")
        .leaves(and(&sandbox, &["d/a"]))
        .fails(4);
}

#[test]
fn names_in_the_lists_are_one_to_a_line() {
    needs_tool!("strace");
    let sandbox = ground();
    sandbox.write("s/new\nold: x'", "odd");
    let strace = Strace::new()
        .at("a")
        .inject("rename,renameat,renameat2:error=EIO");
    sandbox
        .atomwrite(["-t", "d", "s/new\nold: x'", "s/a"])
        .through(strace.command())
        .says("'d/a'")
        .hears(r"atomwrite: new: 'd/new\nold: x\''")
        .hears("atomwrite: old: 'd/a'")
        .leaves(and(&sandbox, &["d/new\nold: x'"]))
        .fails(4);
}

#[test]
fn new_backups_are_those_of_the_new_files_only() {
    needs_tool!("strace");
    for older in [false, true] {
        let sandbox = ground();
        if older {
            sandbox.write("d/b~", "older b");
        }
        let renames = "rename,renameat,renameat2:error=EIO";
        let strace = Strace::new().inject(renames).at("b");
        let done = sandbox
            .atomwrite(words(&["-b"]))
            .through(strace.command())
            .output();
        assert_eq!(done.code(), Some(4), "{done:?}");
        assert_eq!(is_new(&sandbox, "-b"), [true, false, false]);
        assert_eq!(content(&sandbox, "a~").as_deref(), Some("old a"));
        // An older one that was replaced stays replaced.
        let replaced = older.then_some("old b");
        assert_eq!(content(&sandbox, "b~").as_deref(), replaced);
        assert_eq!(leftovers(&sandbox), [""; 0]);
    }
}

#[test]
fn each_file_is_synced_by_itself_where_syncfs_is_refused() {
    needs_tool!("strace");
    for error in ["ENOSYS", "EPERM", "EINVAL"] {
        let sandbox = ground();
        let strace = Strace::new().inject(&format!("syncfs:error={error}"));
        sandbox
            .atomwrite(words(&[]))
            .through(strace.command())
            .leaves(and(&sandbox, &["d/c"]))
            .succeeds();
        check_new(&sandbox);
        let trace = strace.trace();
        let first =
            trace.places(|call| call.renames() && call.succeeded() && call.args.ends_with("\"a\""));
        for name in NAMES {
            let synced = trace.places(|call| {
                call.is("fsync") && call.succeeded() && call.args.ends_with(&format!("/{name}>"))
            });
            assert!(synced.iter().any(|at| *at < first[0]), "{name} {trace}");
        }
    }
}

#[test]
fn what_could_not_be_kept_of_the_new_files_is_told_when_a_later_one_fails() {
    needs_tool!("strace");
    let sandbox = ground();
    for name in ["d/a", "d/b"] {
        if !sandbox.set_xattr(name, "user.colour", b"red") {
            skip!("needs extended attributes");
        }
    }
    // The second of those that replace a file.
    let strace = Strace::new()
        .inject("fsetxattr:error=EOPNOTSUPP")
        .inject("renameat:error=EIO:when=2");
    let done = sandbox
        .atomwrite(words(&[]))
        .through(strace.command())
        .output();
    assert_eq!(done.code(), Some(4), "{done:?}");
    assert_eq!(is_new(&sandbox, "a warning"), [true, false, false]);
    let warnings: Vec<_> = done
        .stderr
        .lines()
        .filter(|line| line.starts_with("atomwrite: warning: "))
        .collect();
    assert!(
        matches!(warnings[..], [one] if one.contains("'d/a'")),
        "{done:?}"
    );
}

#[test]
fn a_directory_that_cannot_be_flushed_makes_all_new_and_not_vouched_for() {
    needs_tool!("strace");
    let sandbox = ground();
    let strace = Strace::new().inject("fsync:error=EIO:when=1");
    sandbox
        .atomwrite(words(&[]))
        .through(strace.command())
        .says("cannot sync directory 'd'")
        .says("may not survive power loss")
        .leaves(and(&sandbox, &["d/c"]))
        .fails(4);
    check_new(&sandbox);
}

// ---- Every call -----------------------------------------------------------------------------------------------

/// A way to write the three files.
struct Form {
    options: &'static [&'static str],
    /// What is injected in every run.
    always: Option<&'static str>,
}

const FORMS: [Form; 5] = [
    Form {
        options: &[],
        always: None,
    },
    Form {
        options: &["-b"],
        always: None,
    },
    Form {
        options: &["-C", "--sync=file"],
        always: None,
    },
    Form {
        options: &["--validate", "test -s \"$1\""],
        always: None,
    },
    // As where one flush cannot be trusted.
    Form {
        options: &["-n"],
        always: Some("fstatfs:error=EIO"),
    },
];

impl Form {
    /// Does it in memory, where that can be: thousands of runs would wait for a disk.
    fn on_fast_ground(&self, test: impl FnOnce(&Self, Option<&Path>)) {
        if can_mount() {
            let mount = Mount::tmpfs("size=32m");
            test(self, Some(mount.path()));
        } else {
            test(self, None);
        }
    }

    fn sandbox(&self, place: Option<&Path>) -> Sandbox {
        let sandbox = place.map_or_else(Sandbox::new, Sandbox::in_dir);
        furnish(&sandbox);
        if self.options == ["-n"] {
            for name in ["d/a", "d/b"] {
                fs::remove_file(sandbox.path(name)).unwrap();
            }
        }
        sandbox
    }

    /// A validator is left alone.
    fn run(&self, sandbox: &Sandbox, aim: Option<&str>) -> (Done, Strace) {
        let injections = self.always.into_iter().chain(aim);
        let strace = injections.fold(Strace::new().alone(), Strace::inject);
        let run = sandbox
            .atomwrite(words(self.options))
            .through(strace.command());
        (run.output(), strace)
    }

    /// The calls of a run in which nothing fails.
    fn calls(&self, place: Option<&Path>) -> Vec<Call> {
        let sandbox = self.sandbox(place);
        let (done, strace) = self.run(&sandbox, None);
        assert_eq!(
            (done.code(), done.stderr.as_str()),
            (Some(0), ""),
            "{:?}",
            self.options
        );
        check_new(&sandbox);
        let trace = strace.trace();
        let calls = trace.own().iter();
        calls
            .filter(|call| !call.injected() && !call.is("exit_group"))
            .cloned()
            .collect()
    }

    /// Whether each of the files is new. In the form with `-n` there are no old ones.
    fn is_new(&self, sandbox: &Sandbox, story: &str) -> [bool; 3] {
        if self.options != ["-n"] {
            return is_new(sandbox, story);
        }
        NAMES.map(|name| {
            let content = content(sandbox, name);
            let is_new = content == Some(format!("new {name}"));
            assert!(
                is_new || content.is_none(),
                "{story}: {name} is {content:?}"
            );
            is_new
        })
    }

    /// Where a backup was asked for, the old content of a new file has a name.
    fn check_backups(&self, sandbox: &Sandbox, is_new: [bool; 3], story: &str) {
        if self.options != ["-b"] {
            return;
        }
        for (name, _) in NAMES[..2].iter().zip(is_new).filter(|(_, is_new)| *is_new) {
            let backup = content(sandbox, &format!("{name}~"));
            assert_eq!(backup, Some(format!("old {name}")), "{story}");
        }
    }

    /// The next write to the same DIR succeeds, and touches nothing that is left.
    fn next_write_succeeds(sandbox: &Sandbox) {
        let names = and(sandbox, &["d/a", "d/b", "d/c"]);
        sandbox.atomwrite(words(&[])).leaves(names).succeeds();
        check_new(sandbox);
    }

    fn is_killed_at_every_call(&self, place: Option<&Path>) {
        let (mut mixed, mut left_some) = (0, 0);
        for call in self.calls(place) {
            // The mask is of no interest to SIGKILL.
            if call.is("rt_sigprocmask") || call.depends_on_timing() {
                continue;
            }
            let aim = format!("{}:signal=SIGKILL:when={}", call.name, call.nth);
            let story = format!("{:?}, {aim}", self.options);
            let sandbox = self.sandbox(place);
            let (done, _) = self.run(&sandbox, Some(&aim));
            assert_eq!(done.signal(), Some(libc::SIGKILL), "{story}: {done:?}");
            let is_new = self.is_new(&sandbox, &story);
            self.check_backups(&sandbox, is_new, &story);
            let left = leftovers(&sandbox);
            // The staging directory, and a preview directory or the temporary name of a backup.
            let most = if ["-b", "--validate"].contains(self.options.first().unwrap_or(&"")) {
                2
            } else {
                1
            };
            assert!(left.len() <= most, "{story}: {left:?}");
            mixed += usize::from(is_new[0] && !is_new[2]);
            left_some += left.len();
            Self::next_write_succeeds(&sandbox);
        }
        assert!(
            mixed > 0 && left_some > 10,
            "{:?}: no kill came among the renames",
            self.options
        );
    }

    fn is_ended_at_every_call(&self, place: Option<&Path>) {
        let mut came = [false; 2];
        for call in self.calls(place) {
            if call.depends_on_timing() {
                continue;
            }
            let aim = format!("{}:signal=SIGTERM:when={}", call.name, call.nth);
            let story = format!("{:?}, {aim}", self.options);
            let sandbox = self.sandbox(place);
            let before = sandbox.names();
            let (done, _) = self.run(&sandbox, Some(&aim));
            assert_eq!(done.signal(), Some(libc::SIGTERM), "{story}: {done:?}");
            assert_eq!(done.stderr, "", "{story}");
            let is_new = self.is_new(&sandbox, &story);
            assert!(
                is_new[0] == is_new[1] && is_new[1] == is_new[2],
                "{story}: {is_new:?}"
            );
            self.check_backups(&sandbox, is_new, &story);
            came[usize::from(is_new[0])] = true;
            if is_new[0] {
                assert_eq!(leftovers(&sandbox), [""; 0], "{story}");
            } else {
                assert_eq!(sandbox.names(), before, "{story}");
            }
        }
        assert_eq!(came, [true; 2], "{:?}", self.options);
    }

    fn survives_every_error(&self, place: Option<&Path>) {
        // The disk's, the filesystem's, a permission's, a signal's, what cannot be, and what is there already.
        const ERRORS: [&str; 6] = ["EIO", "ENOSPC", "EPERM", "EINTR", "EINVAL", "EEXIST"];
        let mut complaints: BTreeMap<String, Vec<String>> = BTreeMap::new();
        let mut statuses: BTreeMap<i32, usize> = BTreeMap::new();
        for call in self.calls(place) {
            // The mask cannot fail, nor can memory or a program of the user's be at fault.
            if matches!(
                call.name.as_str(),
                "rt_sigprocmask" | "mmap" | "munmap" | "execve"
            ) {
                continue;
            }
            for error in ERRORS {
                let aim = format!("{}:error={error}:when={}", call.name, call.nth);
                let sandbox = self.sandbox(place);
                let before = Look::at(&sandbox);
                let (done, strace) = self.run(&sandbox, Some(&aim));
                let aimed_at = |other: &Call| {
                    other.is(&call.name) && other.nth == call.nth && other.injected()
                };
                // Whether a validator is waited for depends on timing.
                assert!(
                    strace.trace().count(aimed_at) == 1 || call.depends_on_timing(),
                    "{aim}: the test cannot aim"
                );
                let judged =
                    std::panic::catch_unwind(|| self.judge(&call, error, &done, &sandbox, &before));
                if let Err(what) = judged {
                    let what = what.downcast_ref::<String>().cloned().unwrap_or_default();
                    let key = format!("{}({})", call.name, call.args);
                    complaints
                        .entry(key)
                        .or_default()
                        .push(format!("{error}: {done:?}: {what}"));
                }
                *statuses.entry(done.code().unwrap_or(-1)).or_default() += 1;
            }
        }
        assert!(complaints.is_empty(), "{:?}: {complaints:#?}", self.options);
        for status in [0, 1, 4] {
            assert!(
                statuses.contains_key(&status),
                "{:?}: no status {status} in {statuses:?}",
                self.options
            );
        }
    }

    fn judge(&self, call: &Call, error: &str, done: &Done, sandbox: &Sandbox, before: &Look) {
        done.stderr.lines().for_each(check_message);
        let (warnings, lines): (Vec<_>, Vec<_>) = done
            .stderr
            .lines()
            .partition(|line| line.starts_with("atomwrite: warning: "));
        assert!(warnings.len() <= 1, "too many warnings");
        let is_new = self.is_new(sandbox, "torn");
        let told = told(&done.stderr);
        match done.code() {
            Some(0) => {
                assert_eq!(lines.len(), 0, "a message that is no warning");
                assert_eq!(is_new, [true; 3], "status 0, and not done");
            }
            Some(4) => {
                assert_eq!(lines.len(), 1 + told.len(), "lines");
                for (name, is_new) in NAMES.iter().zip(is_new) {
                    let told = if told.is_empty() {
                        Some(&true)
                    } else {
                        told.get(*name)
                    };
                    assert_eq!(told, Some(&is_new), "{name} is not what is told of it");
                }
                assert_ne!(is_new, [false; 3], "status 4, and nothing is new");
            }
            Some(status @ (1 | 3)) => {
                assert_eq!(lines.len(), 1, "lines");
                let guards = ["-n", "--validate"];
                let guarded = self.options.iter().any(|option| guards.contains(option));
                assert!(status == 1 || guarded, "refused by what?");
                // A second name that comes and goes leaves a trace there.
                let now = Look::at(sandbox);
                assert!(
                    now.files(self.options == ["-b"]) == before.files(self.options == ["-b"]),
                    "changed: {now:?}"
                );
            }
            other => panic!("status {other:?}"),
        }
        self.check_backups(sandbox, is_new, "backup");
        let on_file = call.on_draft()
            && NAMES
                .iter()
                .any(|name| call.args.contains(&format!("/{name}>")));
        let full = matches!(error, "EIO" | "ENOSPC");
        let must_fail = match call.name.as_str() {
            "write" => on_file && error != "EINTR",
            "syncfs" | "fsync" => full,
            // A validator's form closes before, and opens anew.
            "close" => on_file && full && !self.options.contains(&"--validate"),
            _ => false,
        };
        if must_fail {
            assert_ne!(done.code(), Some(0), "an error that was not told");
        }
        let left = leftovers(sandbox);
        // What cannot be read or removed stays.
        let cleaning = matches!(
            call.name.as_str(),
            "unlinkat"
                | "unlink"
                | "rmdir"
                | "lseek"
                | "getdents64"
                | "openat"
                | "fstat"
                | "statx"
                | "newfstatat"
                | "fchmod"
        );
        assert!(left.is_empty() || cleaning, "left behind: {left:?}");
        Self::next_write_succeeds(sandbox);
    }
}

/// What must not change in DIR.
#[derive(Debug)]
struct Look(BTreeMap<OsString, (u64, String, i64, i64, i64)>);

impl Look {
    fn at(sandbox: &Sandbox) -> Self {
        let names = sandbox.names().into_iter();
        let files = names.filter(|name| {
            sandbox.stat(name).is_file() && name.to_string_lossy().starts_with("d/")
        });
        Self(
            files
                .map(|name| {
                    let stat = sandbox.stat(&name);
                    let seen = (
                        stat.ino(),
                        sandbox.text(&name),
                        stat.mtime(),
                        stat.mtime_nsec(),
                        stat.ctime_nsec(),
                    );
                    (name, seen)
                })
                .filter(|(name, _)| !name.to_string_lossy().contains(".atomwrite."))
                .collect(),
        )
    }

    fn files(&self, but_for_ctime: bool) -> BTreeMap<OsString, (u64, String, i64, i64, i64)> {
        let mut files = self.0.clone();
        if but_for_ctime {
            for file in files.values_mut() {
                file.4 = 0;
            }
        }
        files
    }
}

#[test]
fn death_at_every_call_leaves_each_file_whole() {
    needs_tool!("strace");
    for form in &FORMS {
        form.on_fast_ground(Form::is_killed_at_every_call);
    }
}

#[test]
fn a_signal_at_every_call_leaves_all_old_or_makes_all_new() {
    needs_tool!("strace");
    for form in &FORMS {
        form.on_fast_ground(Form::is_ended_at_every_call);
    }
}

#[test]
fn the_plain_form_survives_every_error() {
    needs_tool!("strace");
    FORMS[0].on_fast_ground(Form::survives_every_error);
}

#[test]
fn backups_survive_every_error() {
    needs_tool!("strace");
    FORMS[1].on_fast_ground(Form::survives_every_error);
}

#[test]
fn comparing_survives_every_error() {
    needs_tool!("strace");
    FORMS[2].on_fast_ground(Form::survives_every_error);
}

#[test]
fn validating_survives_every_error() {
    needs_tool!("strace");
    FORMS[3].on_fast_ground(Form::survives_every_error);
}

#[test]
fn no_clobber_with_a_flush_for_each_survives_every_error() {
    needs_tool!("strace");
    FORMS[4].on_fast_ground(Form::survives_every_error);
}

// ---- Signals --------------------------------------------------------------------------------------------------

/// Runs until `s/a` waits for the others and a FIFO is being read; then sends the signal.
fn ends_while_staging(sandbox: &Sandbox, signal: Signal) {
    let fifo = sandbox.path("s/fifo");
    let run = sandbox
        .atomwrite(["-t", "d", "s/a", "s/fifo", "s/c"])
        .start();
    let feeder = Feeder::open(&fifo);
    assert_eq!(
        leftovers(sandbox).len(),
        1,
        "nothing waits: {:?}",
        sandbox.names()
    );
    run.signal(signal);
    let done = run.wait();
    drop(feeder);
    assert_eq!(done.signal(), Some(signal.as_raw()), "{done:?}");
    assert_eq!(done.stderr, "");
    assert_eq!(is_new(sandbox, "a signal"), [false; 3]);
}

#[test]
fn a_signal_while_files_are_staged_leaves_nothing() {
    let sandbox = ground();
    sandbox.fifo("s/fifo");
    let names = sandbox.names();
    for signal in [Signal::TERM, Signal::INT, Signal::HUP] {
        ends_while_staging(&sandbox, signal);
        assert_eq!(sandbox.names(), names);
    }
}

#[test]
fn a_signal_leaves_nothing_of_many_directories_full() {
    // More than one room of them.
    let sandbox = ground();
    let fifo = sandbox.fifo("s/fifo");
    let mut list = Vec::new();
    for file in 0..300 {
        sandbox.write(format!("s/{file}"), "x");
        list.extend(format!("s/{file}\0").bytes());
    }
    list.extend(b"s/fifo");
    let names = sandbox.names();
    let run = sandbox
        .atomwrite(["-t", "d", "--files0-from=-"])
        .stdin(list)
        .start();
    let feeder = Feeder::open(&fifo);
    assert!(sandbox.names().len() >= names.len() + 300);
    run.signal(Signal::TERM);
    let done = run.wait();
    drop(feeder);
    assert_eq!(done.signal(), Some(libc::SIGTERM), "{done:?}");
    assert_eq!(sandbox.names(), names);
}

#[test]
fn a_kill_among_the_parents_or_the_renames_does_not_hinder_the_next_write() {
    needs_tool!("strace");
    for (call, at) in [
        ("mkdir,mkdirat", "one"),
        ("mkdir,mkdirat", "two"),
        ("rename,renameat,renameat2", "a"),
        ("rename,renameat,renameat2", "b"),
    ] {
        let sandbox = ground();
        let words = ["-D", "-t", "one/two", "s/a", "s/b"];
        let strace = Strace::new()
            .at(at)
            .inject(&format!("{call}:signal=SIGKILL"));
        let done = sandbox.atomwrite(words).through(strace.command()).output();
        assert_eq!(done.signal(), Some(libc::SIGKILL), "{at}: {done:?}");
        let names = and(&sandbox, &["one", "one/two", "one/two/a", "one/two/b"]);
        sandbox.atomwrite(words).leaves(names).succeeds();
    }
}

#[test]
fn a_signal_during_the_renames_waits_for_the_last() {
    needs_tool!("strace");
    // Two files are replaced, and the last is new.
    for rename in ["renameat:when=1", "renameat:when=2", "renameat2:when=1"] {
        let sandbox = ground();
        let strace = Strace::new().inject(&format!("{rename}:signal=SIGTERM"));
        let names = and(&sandbox, &["d/c"]);
        let done = sandbox
            .atomwrite(words(&[]))
            .through(strace.command())
            .output();
        assert_eq!(done.signal(), Some(libc::SIGTERM), "{done:?}");
        check_new(&sandbox);
        assert_eq!(sandbox.names(), names);
        // On the disk, too.
        assert_eq!(
            strace
                .trace()
                .count(|call| call.is("fsync") && call.succeeded()),
            1
        );
    }
}

// ---- Two at once ----------------------------------------------------------------------------------------------

#[test]
fn of_two_runs_at_once_each_file_is_one_of_the_two() {
    const ROUNDS: usize = 30;
    let sandbox = Sandbox::new();
    sandbox.mkdir("d");
    let whole = |writer: usize| {
        char::from(b'0' + u8::try_from(writer).unwrap())
            .to_string()
            .repeat(20_000)
    };
    let files: Vec<_> = (0..20).map(|file| format!("f{file}")).collect();
    for writer in 0..3 {
        sandbox.mkdir(format!("s{writer}"));
        for file in &files {
            sandbox.write(format!("s{writer}/{file}"), whole(writer));
        }
    }
    for file in &files {
        sandbox.write(format!("d/{file}"), whole(0));
    }
    let names = sandbox.names();
    let contents: Vec<_> = (0..3).map(whole).collect();
    let check = |file: &String| {
        let content = fs::read_to_string(sandbox.path("d").join(file)).expect("it is missing");
        assert!(
            contents.contains(&content),
            "{file} is torn: {} bytes",
            content.len()
        );
    };
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let reader = scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                files.iter().for_each(check);
            }
        });
        let done: Vec<_> = (0..ROUNDS)
            .flat_map(|_| {
                let runs = [1, 2].map(|writer| {
                    let sources = files.iter().map(|file| format!("s{writer}/{file}"));
                    let options = ["--sync=none", "-t", "d"].map(str::to_owned);
                    sandbox
                        .atomwrite(options.into_iter().chain(sources))
                        .start()
                });
                runs.map(|run| run.wait())
            })
            .collect();
        over.store(true, Ordering::Relaxed);
        reader.join().expect("a reader saw what it must not see");
        for done in done {
            assert_eq!((done.code(), done.stderr.as_str()), (Some(0), ""));
        }
    });
    assert!(
        files
            .iter()
            .all(|file| sandbox.text(Path::new("d").join(file)) != contents[0])
    );
    assert_eq!(sandbox.names(), names);
}

#[test]
fn two_that_wait_at_once_do_not_disturb_each_other() {
    let sandbox = ground();
    let fifos = ["s/one", "s/two"].map(|name| sandbox.fifo(name));
    let names = and(&sandbox, &["d/one", "d/two"]);
    let start = |fifo: &'static str| sandbox.atomwrite(["-t", "d", "s/a", fifo]).start();
    let first = start("s/one");
    let first_feeder = Feeder::open(&fifos[0]);
    let second = start("s/two");
    let second_feeder = Feeder::open(&fifos[1]);
    assert_eq!(leftovers(&sandbox).len(), 2);
    drop(first_feeder);
    let done = first.wait();
    assert_eq!((done.code(), done.stderr.as_str()), (Some(0), ""));
    assert_eq!(leftovers(&sandbox).len(), 1);
    drop(second_feeder);
    let done = second.wait();
    assert_eq!((done.code(), done.stderr.as_str()), (Some(0), ""));
    assert_eq!(sandbox.names(), names);
    assert_eq!(sandbox.text("d/one"), "begun\n");
    assert_eq!(sandbox.text("d/two"), "begun\n");
}
