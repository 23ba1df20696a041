//! What happens around a run while it is under way, which may be for hours.
//!
//! The new content is SOURCE as it was at some moment, whatever is appended to it meanwhile. DEST is looked at again when
//! the input has ended: guards, mode and attributes are those of then. A name that is planted on the way is not followed,
//! and another writer of the same DEST is neither disturbed nor waited for.
//!
//! A run is brought to a halt where a test wants it: at its input, or by a SIGSTOP that strace injects at a system call.
//! The directory is opened once: one that is renamed is followed, one that is exchanged is not.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::Path;

use rustix::process::{Signal, kill_process};

use crate::harness::{
    Call, Running, Sandbox, Strace, derived_name, needs_tool, program_of, wait_until,
};

#[test]
fn a_directory_that_vanishes_meanwhile_is_one_clear_line() {
    for existing in [false, true] {
        let sandbox = Sandbox::new();
        sandbox.mkdir("sub");
        if existing {
            sandbox.write("sub/out", "old");
        }
        let mut running = sandbox.atomwrite(["sub/out"]).stdin_held().start();
        running.feed("new");
        fs::remove_dir_all(sandbox.path("sub")).unwrap();
        let done = running.wait();
        assert_eq!(done.code(), Some(1), "{done:?}");
        assert_eq!(done.stderr.lines().count(), 1, "{done:?}");
        crate::harness::check_message(done.stderr.trim_end());
        assert!(done.stderr.contains("'sub/out'"), "{done:?}");
        assert!(sandbox.names().is_empty());
    }
}

#[test]
fn a_directory_that_is_renamed_meanwhile_is_followed() {
    for existing in [false, true] {
        let sandbox = Sandbox::new();
        sandbox.mkdir("sub");
        if existing {
            sandbox.write("sub/out", "old");
        }
        let mut running = sandbox.atomwrite(["sub/out"]).stdin_held().start();
        running.feed("new");
        // Another one takes its place, which is not the one that was meant.
        fs::rename(sandbox.path("sub"), sandbox.path("moved")).unwrap();
        sandbox.mkdir("evil");
        sandbox.symlink("evil", "sub");
        let done = running.wait();
        assert_eq!(done.code(), Some(0), "{done:?}");
        assert_eq!(sandbox.text("moved/out"), "new");
        assert_eq!(sandbox.names(), ["evil", "moved", "moved/out", "sub"]);
    }
}

#[test]
fn a_link_that_is_exchanged_meanwhile_is_not_walked_again() {
    let sandbox = Sandbox::new();
    sandbox.write("out", "old");
    sandbox.write("victim", "theirs");
    let link = sandbox.symlink("out", "link");
    let mut running = sandbox.atomwrite(["link"]).stdin_held().start();
    running.feed("new");
    fs::remove_file(link).unwrap();
    sandbox.symlink("victim", "link");
    let done = running.wait();
    assert_eq!(done.code(), Some(0), "{done:?}");
    assert_eq!(sandbox.text("out"), "new");
    assert_eq!(sandbox.text("victim"), "theirs");
    assert_eq!(sandbox.names(), ["link", "out", "victim"]);
}

#[test]
fn a_destination_that_becomes_a_link_during_the_run_is_left_alone() {
    let sandbox = Sandbox::new();
    sandbox.write("victim", "theirs");
    let out = sandbox.write("out", "old");
    let mut running = sandbox.atomwrite(["out"]).stdin_held().start();
    running.feed("new");
    fs::remove_file(out).unwrap();
    sandbox.symlink("victim", "out");
    let done = running.wait();
    assert_eq!(done.code(), Some(1), "{done:?}");
    assert_eq!(
        done.stderr,
        "atomwrite: cannot replace 'out': it has become a symbolic link; another process has \
         replaced 'out'\n"
    );
    assert_eq!(sandbox.text("victim"), "theirs");
    assert_eq!(
        fs::read_link(sandbox.path("out")).unwrap(),
        Path::new("victim")
    );
    assert_eq!(sandbox.names(), ["out", "victim"]);
}

#[test]
fn a_destination_that_becomes_a_directory_meanwhile_is_left_alone() {
    let sandbox = Sandbox::new();
    let mut running = sandbox.atomwrite(["out"]).stdin_held().start();
    running.feed("new");
    sandbox.mkdir("out");
    let done = running.wait();
    assert_eq!(done.code(), Some(1), "{done:?}");
    assert_eq!(done.stderr.lines().count(), 1, "{done:?}");
    assert_eq!(sandbox.names(), ["out"]);
    assert!(sandbox.stat("out").is_dir());
}

#[test]
fn a_named_file_that_is_taken_away_meanwhile_is_an_error() {
    needs_tool!("strace");
    let sandbox = Sandbox::new();
    sandbox.write("out", "old");
    let strace = Strace::new().inject("linkat:error=EOPNOTSUPP");
    let mut running = sandbox
        .atomwrite(["out"])
        .stdin_held()
        .through(strace.command())
        .start();
    running.feed("new");
    let names = sandbox.names();
    assert_eq!(names.len(), 2, "{names:?}");
    fs::remove_file(sandbox.path(&names[0])).unwrap();
    let done = running.wait();
    assert_eq!(done.code(), Some(1), "{done:?}");
    assert!(done.stderr.contains("; 'out' is unchanged"), "{done:?}");
    assert_eq!(sandbox.text("out"), "old");
    assert_eq!(sandbox.names(), ["out"]);
}

/// Stops a run with `--sync=file` when its new file is on the disk, and before it makes a backup.
const AT_SYNC: &str = "fsync:signal=SIGSTOP";

/// A run that stands still behind one of its calls.
struct Halted {
    running: Running,
    strace: Strace,
}

impl Halted {
    fn at(sandbox: &Sandbox, arguments: &[&str], injections: &[&str]) -> Self {
        let strace = injections
            .iter()
            .fold(Strace::new(), |strace, injection| strace.inject(injection));
        Self::below(sandbox, arguments, strace)
    }

    fn below(sandbox: &Sandbox, arguments: &[&str], strace: Strace) -> Self {
        let running = sandbox
            .atomwrite(arguments.to_vec())
            .stdin("of the one that halted")
            .through(strace.command())
            .start();
        wait_until("it has halted", || strace.has_stopped());
        Self { running, strace }
    }

    /// Lets it go on, which must end well.
    #[track_caller]
    fn goes_on(self) {
        kill_process(program_of(&self.running), Signal::CONT).unwrap();
        let done = self.running.wait();
        assert_eq!(done.code(), Some(0), "{done:?}\n{}", self.strace.trace());
        assert_eq!(done.stderr, "");
    }
}

/// Waits until a run has its file without a name, and so has looked at DEST for the first time.
fn wait_until_staged(running: &Running) {
    let descriptors = format!("/proc/{}/fd", running.id());
    wait_until("it has its new file", || {
        fs::read_dir(&descriptors)
            .unwrap()
            .filter_map(|entry| fs::read_link(entry.ok()?.path()).ok())
            .any(|target| target.to_string_lossy().ends_with(" (deleted)"))
    });
}

fn append(path: &Path, bytes: &[u8]) {
    let mut file = OpenOptions::new().append(true).open(path).unwrap();
    file.write_all(bytes).unwrap();
}

// ---- SOURCE ----------------------------------------------------------------------------------------------------

#[test]
fn a_source_that_grows_while_it_is_copied_gets_no_zeros() {
    needs_tool!("strace");
    let begin = vec![b'x'; 10_000];
    let more = vec![b'y'; 10_000];
    let trace = {
        let sandbox = Sandbox::new();
        sandbox.write("in", &begin);
        let strace = Strace::new();
        sandbox
            .atomwrite(["in", "out"])
            .through(strace.command())
            .succeeds();
        strace.trace()
    };
    let on_source = |call: &&Call| {
        let names = ["lseek", "copy_file_range", "statx", "ioctl", "read"];
        names.contains(&call.name.as_str()) && call.args.contains("/in>")
    };
    let calls: Vec<_> = trace.own().iter().filter(on_source).collect();
    assert!(calls.len() >= 4, "{trace}");
    for call in calls {
        for hole in [false, true] {
            let sandbox = Sandbox::new();
            let path = sandbox.write("in", &begin);
            let mut begin = begin.clone();
            if hole {
                begin.resize(100_000, 0);
                let file = File::options().write(true).open(&path).unwrap();
                file.set_len(100_000).unwrap();
            }
            let stop = format!("{}:signal=SIGSTOP:when={}", call.name, call.nth);
            let halted = Halted::at(&sandbox, &["in", "out"], &[&stop]);
            append(&path, &more);
            halted.goes_on();
            let content = sandbox.read("out");
            let all = [&begin[..], &more[..]].concat();
            assert!(
                content == begin || content == all,
                "{} bytes after {stop}",
                content.len()
            );
        }
    }
}

#[test]
fn a_source_that_shrinks_while_it_is_copied_leaves_no_tail_of_zeros() {
    needs_tool!("strace");
    let sandbox = Sandbox::new();
    let path = sandbox.write("in", vec![b'x'; 100_000]);
    // It knows the size by then.
    let halted = Halted::at(&sandbox, &["in", "out"], &["ioctl:signal=SIGSTOP:when=1"]);
    let file = File::options().write(true).open(&path).unwrap();
    file.set_len(50_000).unwrap();
    halted.goes_on();
    assert!(sandbox.read("out") == vec![b'x'; 50_000]);
}

// ---- DEST ------------------------------------------------------------------------------------------------------

#[test]
fn empty_stdin_does_not_replace_a_dest_that_has_got_content() {
    for empty_before in [false, true] {
        let sandbox = Sandbox::new();
        if empty_before {
            sandbox.write("out", "");
        }
        let running = sandbox.atomwrite(["out"]).stdin_held().start();
        wait_until_staged(&running);
        sandbox.write("out", "by another");
        let done = running.wait();
        assert_eq!(done.code(), Some(3), "{done:?}");
        assert!(done.stderr.contains("--allow-empty"), "{done:?}");
        assert_eq!(sandbox.text("out"), "by another");
        assert_eq!(sandbox.names(), ["out"]);
    }
}

#[test]
fn a_mode_that_dest_gets_meanwhile_is_kept() {
    for (before, meanwhile) in [(0o644, 0o600), (0o600, 0o666), (0o755, 0o400)] {
        let sandbox = Sandbox::new();
        sandbox.write_with_mode("out", "old", before);
        let mut running = sandbox.atomwrite(["-f", "out"]).stdin_held().start();
        running.feed("new");
        sandbox.chmod("out", meanwhile);
        let done = running.wait();
        assert_eq!((done.code(), done.stderr.as_str()), (Some(0), ""));
        assert_eq!(sandbox.mode("out"), meanwhile);
        assert_eq!(sandbox.text("out"), "new");
    }
}

#[test]
fn a_dest_that_comes_meanwhile_keeps_its_mode() {
    let sandbox = Sandbox::new();
    let mut running = sandbox.atomwrite(["out"]).stdin_held().start();
    running.feed("new");
    sandbox.write_with_mode("out", "by another", 0o600);
    let done = running.wait();
    assert_eq!((done.code(), done.stderr.as_str()), (Some(0), ""));
    assert_eq!(sandbox.text("out"), "new");
    assert_eq!(sandbox.mode("out"), 0o600);
}

#[test]
fn a_private_dest_that_is_removed_during_the_run_stays_private() {
    let sandbox = Sandbox::new();
    sandbox.write_with_mode("out", "old", 0o600);
    let mut running = sandbox.atomwrite(["out"]).stdin_held().start();
    running.feed("new");
    fs::remove_file(sandbox.path("out")).unwrap();
    let done = running.wait();
    assert_eq!((done.code(), done.stderr.as_str()), (Some(0), ""));
    assert_eq!(sandbox.text("out"), "new");
    assert_eq!(sandbox.mode("out"), 0o600);
}

// ---- Directories that are made ---------------------------------------------------------------------------------

#[test]
fn a_link_that_is_planted_for_a_missing_parent_is_not_followed() {
    for target in ["elsewhere", "nowhere"] {
        let sandbox = Sandbox::new();
        sandbox.mkdir("elsewhere");
        let mut running = sandbox.atomwrite(["-D", "a/b/out"]).stdin_held().start();
        running.feed("new");
        sandbox.symlink(target, "a");
        let done = running.wait();
        assert_eq!(done.code(), Some(1), "{done:?}");
        assert!(done.stderr.contains("'a/b/out'"), "{done:?}");
        assert_eq!(sandbox.names(), ["a", "elsewhere"]);
    }
}

#[test]
fn a_parent_that_another_makes_meanwhile_is_used() {
    let sandbox = Sandbox::new();
    let mut running = sandbox.atomwrite(["-D", "a/b/out"]).stdin_held().start();
    running.feed("new");
    sandbox.mkdir("a");
    sandbox.write("a/other", "");
    let done = running.wait();
    assert_eq!(done.code(), Some(0), "{done:?}");
    assert_eq!(sandbox.names(), ["a", "a/b", "a/b/out", "a/other"]);
}

// ---- Others of the same kind -----------------------------------------------------------------------------------

/// A run with these options that stands still at its last rename, which then fails.
fn halted_at_a_rename_that_fails(sandbox: &Sandbox, control: &str) -> Halted {
    let renames = "rename,renameat,renameat2:error=EIO:signal=SIGSTOP";
    let strace = Strace::new().inject(renames).at("out");
    Halted::below(sandbox, &[control, "out"], strace)
}

#[test]
fn a_run_that_fails_at_its_rename_removes_no_backup_of_another_run() {
    needs_tool!("strace");
    for (control, older, backups) in [
        ("--backup=simple", None, &["out~"][..]),
        ("--backup=simple", Some("out~"), &["out~"]),
        ("--backup=numbered", None, &["out.~2~"]),
        (
            "--backup=numbered",
            Some("out.~1~"),
            &["out.~1~", "out.~3~"],
        ),
    ] {
        let sandbox = Sandbox::new();
        sandbox.write("out", "old");
        if let Some(older) = older {
            sandbox.write(older, "older");
        }
        let halted = halted_at_a_rename_that_fails(&sandbox, control);
        let another = sandbox.atomwrite([control, "out"]).stdin("of another");
        assert_eq!(another.output().code(), Some(0));
        kill_process(program_of(&halted.running), Signal::CONT).unwrap();
        let done = halted.running.wait();
        assert_eq!(done.code(), Some(1), "{done:?}");
        assert_eq!(sandbox.text("out"), "of another");
        assert_eq!(
            sandbox.text(backups[backups.len() - 1]),
            "old",
            "{control} {older:?}"
        );
        let names = sandbox.names();
        for name in &names {
            assert!(!name.to_string_lossy().starts_with('.'), "{names:?}");
        }
        for backup in backups {
            assert!(names.iter().any(|name| name == backup), "{names:?}");
        }
    }
}

#[test]
fn a_directory_that_gets_the_name_of_dest_or_of_its_backup_is_left_alone() {
    needs_tool!("strace");
    for name in ["out", "out~"] {
        let sandbox = Sandbox::new();
        sandbox.write("out", "old");
        let halted = Halted::at(&sandbox, &["--sync=file", "-b", "out"], &[AT_SYNC]);
        if name == "out" {
            fs::remove_file(sandbox.path("out")).unwrap();
        }
        sandbox.mkdir(name);
        sandbox.write(Path::new(name).join("precious"), "theirs");
        let before = sandbox.names();
        kill_process(program_of(&halted.running), Signal::CONT).unwrap();
        let done = halted.running.wait();
        assert_eq!(done.code(), Some(1), "{done:?}");
        assert!(done.stderr.contains("directory"), "{done:?}");
        assert_eq!(sandbox.names(), before);
        assert_eq!(sandbox.text(Path::new(name).join("precious")), "theirs");
    }
}

#[test]
fn a_numbered_backup_takes_no_number_that_was_taken_concurrently() {
    needs_tool!("strace");
    let sandbox = Sandbox::new();
    sandbox.write("out", "old");
    let words = ["--sync=file", "--backup=numbered", "out"];
    let halted = Halted::at(&sandbox, &words, &[AT_SYNC]);
    sandbox.write("out.~1~", "theirs");
    halted.goes_on();
    assert_eq!(sandbox.names(), ["out", "out.~1~", "out.~2~"]);
    let contents = ["out.~1~", "out.~2~", "out"].map(|name| sandbox.text(name));
    assert_eq!(contents, ["theirs", "old", "of the one that halted"]);
}

#[test]
fn what_another_run_has_written_and_backed_up_becomes_the_backup() {
    needs_tool!("strace");
    let sandbox = Sandbox::new();
    sandbox.write("out", "old");
    let halted = Halted::at(&sandbox, &["--sync=file", "-b", "out"], &[AT_SYNC]);
    let another = sandbox.atomwrite(["-b", "out"]).stdin("of another");
    another.leaves(["out", "out~"]).succeeds();
    halted.goes_on();
    assert_eq!(sandbox.names(), ["out", "out~"]);
    assert_eq!(sandbox.text("out~"), "of another");
    assert_eq!(sandbox.text("out"), "of the one that halted");
}

#[test]
fn a_backup_outlives_a_run_that_fails_once_another_has_replaced_dest() {
    needs_tool!("strace");
    for older in [false, true] {
        let sandbox = Sandbox::new();
        sandbox.write("out", "old");
        if older {
            sandbox.write("out~", "older");
        }
        let strace = Strace::new()
            .at(derived_name("out"))
            .inject("rename,renameat,renameat2:error=EIO:signal=SIGSTOP");
        let running = sandbox
            .atomwrite(["-b", "out"])
            .stdin("never")
            .through(strace.command())
            .start();
        wait_until("it has halted", || strace.has_stopped());
        assert_eq!(sandbox.text("out~"), "old");
        let another = sandbox.atomwrite(["-b", "out"]).stdin("of another");
        assert_eq!(another.output().code(), Some(0));
        kill_process(program_of(&running), Signal::CONT).unwrap();
        assert_eq!(running.wait().code(), Some(1));
        assert_eq!(sandbox.text("out"), "of another");
        assert_eq!(sandbox.text("out~"), "old");
        assert_eq!(sandbox.names(), ["out", "out~"]);
    }
}
