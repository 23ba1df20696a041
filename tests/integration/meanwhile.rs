//! What happens around a run while it is under way, which may be for hours.
//!
//! The new content is SOURCE as it was at some moment, whatever is appended to it meanwhile. DEST is looked at again when
//! the input has ended: guards, mode and attributes are those of then. A name that is planted on the way is not followed,
//! and another writer of the same DEST is neither disturbed nor waited for.
//!
//! A run is brought to a halt where a test wants it: at its input, or by a SIGSTOP that strace injects at a system call.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::Path;

use rustix::process::{Pid, Signal, kill_process};

use crate::sandbox::{Running, Sandbox, needs_tool, wait_until};
use crate::strace::{Call, Strace};

/// Makes every way to link an unnamed file fail, so that the named one is taken.
const NAMED: &str = "linkat:error=EOPNOTSUPP";

/// The program below strace.
fn program_of(running: &Running) -> Pid {
    let id = running.id();
    let children = format!("/proc/{id}/task/{id}/children");
    let mut child = None;
    wait_until("strace has started the program", || {
        child = fs::read_to_string(&children)
            .unwrap()
            .split_whitespace()
            .next()
            .and_then(|id| Pid::from_raw(id.parse().unwrap()));
        child.is_some()
    });
    child.expect("it was found")
}

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

// ---- SOURCE -----------------------------------------------------------------------------------------------------

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

// ---- DEST -------------------------------------------------------------------------------------------------------

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
fn empty_stdin_replaces_a_dest_that_has_become_empty() {
    let sandbox = Sandbox::new();
    sandbox.write("out", "old");
    let inode = sandbox.inode("out");
    let running = sandbox.atomwrite(["out"]).stdin_held().start();
    wait_until_staged(&running);
    sandbox.write("out", "");
    let done = running.wait();
    assert_eq!(done.code(), Some(0), "{done:?}");
    assert_ne!(sandbox.inode("out"), inode);
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
fn a_dest_that_goes_meanwhile_is_made_anew() {
    let sandbox = Sandbox::new();
    sandbox.write_with_mode("out", "old", 0o600);
    let mut running = sandbox.atomwrite(["out"]).stdin_held().start();
    running.feed("new");
    fs::remove_file(sandbox.path("out")).unwrap();
    let done = running.wait();
    assert_eq!((done.code(), done.stderr.as_str()), (Some(0), ""));
    assert_eq!(sandbox.text("out"), "new");
    assert_eq!(sandbox.mode("out"), 0o644);
}

// ---- Directories that are made ----------------------------------------------------------------------------------

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

// ---- Another writer ---------------------------------------------------------------------------------------------

#[test]
fn a_writer_that_is_taken_for_dead_before_it_has_its_lock_starts_again() {
    needs_tool!("strace");
    let creates = |call: &Call| call.is("openat") && call.args.contains("O_EXCL");
    let nth = {
        let sandbox = Sandbox::new();
        let strace = Strace::new().inject(NAMED);
        sandbox
            .atomwrite(["out"])
            .stdin("new")
            .through(strace.command())
            .succeeds();
        let trace = strace.trace();
        trace.own()[trace.only("a file with a name", |call| {
            creates(call) && !call.args.contains("O_TMPFILE")
        })]
        .nth
    };
    for old in [false, true] {
        let sandbox = Sandbox::new();
        if old {
            sandbox.write("out", "old");
        }
        // The old file's opening comes later: the call is the same.
        let stop = format!("openat:signal=SIGSTOP:when={nth}");
        let halted = Halted::at(&sandbox, &["out"], &[NAMED, &stop]);
        let temporary = || {
            let mut names = sandbox.names();
            names.retain(|name| name != "out");
            names
        };
        assert_eq!(temporary().len(), 1);
        sandbox
            .atomwrite(["out"])
            .stdin("of another")
            .leaves(["out"])
            .succeeds();
        assert_eq!(sandbox.text("out"), "of another");
        halted.goes_on();
        assert_eq!(sandbox.text("out"), "of the one that halted");
        assert_eq!(sandbox.names(), ["out"]);
    }
}

#[test]
fn a_writer_whose_file_another_has_locked_to_remove_it_takes_another() {
    needs_tool!("strace");
    let sandbox = Sandbox::new();
    let nth = |injection: Option<&str>, kind: &dyn Fn(&Call) -> bool| {
        let strace = injection.into_iter().fold(Strace::new(), Strace::inject);
        let run = sandbox.atomwrite(["out"]).stdin("new");
        assert_eq!(run.through(strace.command()).output().code(), Some(0));
        let trace = strace.trace();
        let found = trace.own().iter().find(|call| kind(call));
        found
            .unwrap_or_else(|| panic!("no such call in {trace}"))
            .nth
    };
    let creation = nth(Some(NAMED), &|call: &Call| {
        call.is("openat") && call.args.contains("O_EXCL") && call.args.contains("O_CREAT")
    });
    fs::remove_file(sandbox.path("out")).unwrap();
    let stop = format!("openat:signal=SIGSTOP:when={creation}");
    let first = Halted::at(&sandbox, &["out"], &[NAMED, &stop]);
    assert_eq!(sandbox.names().len(), 1);
    // The other meets that name, opens it, and halts with its lock.
    let second = Halted::at(&sandbox, &["out"], &[NAMED, "flock:signal=SIGSTOP:when=1"]);
    first.goes_on();
    assert_eq!(sandbox.text("out"), "of the one that halted");
    second.goes_on();
    assert_eq!(sandbox.names(), ["out"]);
}

#[test]
fn a_validator_gets_a_directory_though_another_takes_it_for_a_leftover_and_its_name_for_a_file() {
    needs_tool!("strace");
    let sandbox = Sandbox::new();
    // When it has made the directory, and has not locked it yet.
    let first = Halted::at(
        &sandbox,
        &["--validate", "true", "out"],
        &["mkdirat:signal=SIGSTOP:when=1"],
    );
    let directory = sandbox.names();
    // The other locks it, removes it, has a file by its name, and halts when that is locked.
    let second = Halted::at(&sandbox, &["out"], &[NAMED, "flock:signal=SIGSTOP:when=2"]);
    assert_eq!(sandbox.names(), directory);
    assert!(sandbox.path(&directory[0]).is_file());
    first.goes_on();
    assert_eq!(sandbox.text("out"), "of the one that halted");
    second.goes_on();
    assert_eq!(sandbox.names(), ["out"]);
}

// ---- Others of the same kind ------------------------------------------------------------------------------------

#[test]
fn a_backup_that_another_run_has_made_of_the_same_file_is_not_taken_for_ones_own() {
    needs_tool!("strace");
    for fails in [false, true] {
        let sandbox = Sandbox::new();
        sandbox.write("out", "old");
        sandbox.write("out~", "older");
        // When it has asked whether the backup's name is free.
        let stop = "renameat2:signal=SIGSTOP:when=1";
        let halted = if fails {
            Halted::at(
                &sandbox,
                &["-b", "out"],
                &[stop, "renameat:error=EIO:when=1"],
            )
        } else {
            Halted::at(&sandbox, &["-b", "out"], &[stop])
        };
        let done = sandbox
            .atomwrite(["-b", "out"])
            .stdin("of another")
            .output();
        assert_eq!(done.code(), Some(0), "{done:?}");
        assert_eq!(sandbox.text("out~"), "old");
        if fails {
            kill_process(program_of(&halted.running), Signal::CONT).unwrap();
            assert_eq!(halted.running.wait().code(), Some(1));
            assert_eq!(sandbox.text("out"), "of another");
        } else {
            halted.goes_on();
            assert_eq!(sandbox.text("out"), "of the one that halted");
        }
        assert_eq!(sandbox.text("out~"), "old");
        assert_eq!(sandbox.names(), ["out", "out~"]);
    }
}

#[test]
fn a_backup_that_another_run_has_made_outlives_a_run_that_fails() {
    needs_tool!("strace");
    for older in [false, true] {
        let sandbox = Sandbox::new();
        sandbox.write("out", "old");
        if older {
            sandbox.write("out~", "older");
        }
        let stop = "renameat:error=EIO:signal=SIGSTOP:when=1";
        let halted = Halted::at(&sandbox, &["-b", "out"], &[stop]);
        assert_eq!(sandbox.text("out~"), "old");
        let done = sandbox
            .atomwrite(["-b", "out"])
            .stdin("of another")
            .output();
        assert_eq!(done.code(), Some(0), "{done:?}");
        kill_process(program_of(&halted.running), Signal::CONT).unwrap();
        assert_eq!(halted.running.wait().code(), Some(1));
        assert_eq!(sandbox.text("out"), "of another");
        assert_eq!(sandbox.text("out~"), "old");
        assert_eq!(sandbox.names(), ["out", "out~"]);
    }
}

#[test]
fn a_directory_that_gets_the_name_of_dest_or_of_its_backup_is_left_alone() {
    needs_tool!("strace");
    for name in ["out", "out~"] {
        let sandbox = Sandbox::new();
        sandbox.write("out", "old");
        let halted = Halted::at(&sandbox, &["-b", "out"], &["fsync:signal=SIGSTOP:when=1"]);
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
fn a_numbered_backup_by_exchange_takes_no_number_that_was_taken_meanwhile() {
    needs_tool!("strace");
    let sandbox = Sandbox::new();
    sandbox.write("out", "old");
    // The first is the probe, the second the backup's.
    let stop = "linkat:error=EPERM:signal=SIGSTOP:when=2";
    let halted = Halted::at(&sandbox, &["--backup=numbered", "out"], &[stop]);
    let done = sandbox
        .atomwrite(["--backup=numbered", "out"])
        .stdin("of another")
        .output();
    assert_eq!(done.code(), Some(0), "{done:?}");
    halted.goes_on();
    assert_eq!(sandbox.names(), ["out", "out.~1~", "out.~2~"]);
    let contents = ["out.~1~", "out.~2~", "out"].map(|name| sandbox.text(name));
    assert_eq!(contents, ["old", "of another", "of the one that halted"]);
}

#[test]
fn a_numbered_backup_without_rename_flags_takes_no_number_that_was_taken_meanwhile() {
    needs_tool!("strace");
    let sandbox = Sandbox::new();
    sandbox.write("out", "old");
    let stop = "renameat2:error=EINVAL:signal=SIGSTOP:when=1";
    let words = ["-q", "--inplace=always", "--backup=numbered", "out"];
    let halted = Halted::at(&sandbox, &words, &[stop]);
    sandbox.write("out.~1~", "theirs");
    halted.goes_on();
    assert_eq!(sandbox.names(), ["out", "out.~1~", "out.~2~"]);
    let contents = ["out.~1~", "out.~2~", "out"].map(|name| sandbox.text(name));
    assert_eq!(contents, ["theirs", "old", "of the one that halted"]);
}

#[test]
fn a_link_that_was_done_and_interrupted_is_the_backup() {
    needs_tool!("strace");
    for (control, name) in [("simple", "out~"), ("numbered", "out.~1~")] {
        let sandbox = Sandbox::new();
        sandbox.write("out", "old");
        let backup = format!("--backup={control}");
        // The first is the probe.
        let stop = "linkat:error=EINTR:signal=SIGSTOP:when=2";
        let halted = Halted::at(&sandbox, &[&backup, "out"], &[stop]);
        sandbox.hard_link("out", name);
        halted.goes_on();
        assert_eq!(sandbox.names(), ["out", name]);
        assert_eq!(sandbox.text(name), "old");
    }
}

#[test]
fn what_has_replaced_dest_before_the_exchange_is_no_leftover_to_others() {
    needs_tool!("strace");
    let sandbox = Sandbox::new();
    sandbox.write("out", "old");
    // The second lock is that of the old file, before the exchange; the third, after it, that of what was DEST by then.
    let injections = [
        "linkat:error=EPERM:when=2",
        "flock:signal=SIGSTOP:when=2..3",
    ];
    let halted = Halted::at(&sandbox, &["-b", "out"], &injections);
    sandbox.atomwrite(["out"]).stdin("of another").succeeds();
    kill_process(program_of(&halted.running), Signal::CONT).unwrap();
    wait_until("it has halted again", || halted.strace.stops() == 2);
    sandbox.atomwrite(["out"]).stdin("of a third").succeeds();
    halted.goes_on();
    assert_eq!(sandbox.names(), ["out", "out~"]);
    assert_eq!(sandbox.text("out~"), "of another");
    assert_eq!(sandbox.text("out"), "of a third");
}

#[test]
fn a_second_name_that_the_old_file_gets_before_the_exchange_leaves_no_third() {
    needs_tool!("strace");
    let sandbox = Sandbox::new();
    sandbox.write("out", "old");
    let injections = ["linkat:error=EPERM:when=2", "flock:signal=SIGSTOP:when=2"];
    let halted = Halted::at(&sandbox, &["-b", "out"], &injections);
    sandbox.hard_link("out", "out~");
    halted.goes_on();
    assert_eq!(sandbox.names(), ["out", "out~"]);
    assert_eq!(sandbox.text("out~"), "old");
}

#[test]
fn a_backup_that_a_run_that_fails_takes_back_is_made_again_by_one_that_needs_it() {
    needs_tool!("strace");
    // At which call the new file of the second run gets its temporary name: by then its backup has its own.
    for (older, exchange, naming) in [
        (false, true, 5),
        (false, false, 8),
        (true, true, 4),
        (true, false, 6),
    ] {
        let sandbox = Sandbox::new();
        sandbox.write("out", "old");
        if older {
            sandbox.write("out~", "older");
        }
        let fails = ["renameat:error=EIO:signal=SIGSTOP:when=1"];
        let first = Halted::at(&sandbox, &["-b", "out"], &fails);
        let stop = format!("linkat:signal=SIGSTOP:when={naming}");
        let injections = [stop.as_str(), "renameat2:error=EINVAL"];
        let injections = &injections[..if exchange { 1 } else { 2 }];
        let second = Halted::at(&sandbox, &["-q", "-b", "out"], injections);
        kill_process(program_of(&first.running), Signal::CONT).unwrap();
        assert_eq!(first.running.wait().code(), Some(1));
        second.goes_on();
        assert_eq!(sandbox.names(), ["out", "out~"]);
        assert_eq!(sandbox.text("out~"), "old", "{older} {exchange}");
        assert_eq!(sandbox.text("out"), "of the one that halted");
    }
}

#[test]
fn what_another_run_has_written_and_backed_up_meanwhile_becomes_the_backup() {
    needs_tool!("strace");
    for flags in [&[][..], &["renameat2:error=EINVAL"]] {
        let sandbox = Sandbox::new();
        sandbox.write("out", "old");
        let injections: Vec<_> = flags
            .iter()
            .copied()
            .chain(["fsync:signal=SIGSTOP:when=1"])
            .collect();
        let halted = Halted::at(&sandbox, &["-b", "out"], &injections);
        let another = sandbox.atomwrite(["-b", "out"]).stdin("of another");
        another.leaves(["out", "out~"]).succeeds();
        halted.goes_on();
        assert_eq!(sandbox.names(), ["out", "out~"]);
        assert_eq!(sandbox.text("out~"), "of another");
        assert_eq!(sandbox.text("out"), "of the one that halted");
    }
}

#[test]
fn a_run_that_fails_leaves_what_another_has_written_and_backed_up_meanwhile() {
    needs_tool!("strace");
    let sandbox = Sandbox::new();
    sandbox.write("out", "old");
    // The last link is that of the new file.
    let injections = ["fsync:signal=SIGSTOP:when=1", "linkat:error=ENOSPC:when=5"];
    let halted = Halted::at(&sandbox, &["-b", "out"], &injections);
    let another = sandbox.atomwrite(["-b", "out"]).stdin("of another");
    another.leaves(["out", "out~"]).succeeds();
    kill_process(program_of(&halted.running), Signal::CONT).unwrap();
    let done = halted.running.wait();
    assert_eq!(done.code(), Some(1), "{done:?}");
    assert_eq!(sandbox.names(), ["out", "out~"]);
    assert_eq!(sandbox.text("out~"), "old");
    assert_eq!(sandbox.text("out"), "of another");
}

#[test]
fn a_later_backup_is_not_replaced_by_an_earlier_one() {
    needs_tool!("strace");
    let sandbox = Sandbox::new();
    sandbox.write("out", "old");
    let of_first = ["linkat:signal=SIGSTOP:when=2"];
    let first = Halted::at(&sandbox, &["-b", "out"], &of_first);
    let of_second = ["linkat:signal=SIGSTOP:when=5"];
    let second = Halted::at(&sandbox, &["-q", "-b", "out"], &of_second);
    first.goes_on();
    let third = sandbox.atomwrite(["-b", "out"]).stdin("of a third");
    third.succeeds();
    assert_eq!(sandbox.text("out~"), "of the one that halted");
    second.goes_on();
    assert_eq!(sandbox.names(), ["out", "out~"]);
    assert_eq!(sandbox.text("out~"), "of the one that halted");
}

#[test]
fn what_replaces_dest_in_spite_of_the_lock_is_locked_for_its_backup_too() {
    needs_tool!("strace");
    let sandbox = Sandbox::new();
    sandbox.write("out", "old");
    sandbox.write("out~", "older");
    let strace = Strace::new();
    let mut running = sandbox
        .atomwrite(["--lock", "-b", "out"])
        .stdin_held()
        .through(strace.command())
        .start();
    running.feed("new");
    wait_until("it reads", || {
        fs::read_dir(format!(
            "/proc/{}/fd",
            program_of(&running).as_raw_nonzero()
        ))
        .unwrap()
        .filter_map(|entry| fs::read_link(entry.ok()?.path()).ok())
        .any(|target| target.to_string_lossy().ends_with(" (deleted)"))
    });
    sandbox.atomwrite(["out"]).stdin("of another").succeeds();
    let done = running.wait();
    assert_eq!(done.code(), Some(0), "{done:?}");
    assert_eq!(sandbox.text("out~"), "of another");
    assert_eq!(sandbox.names(), ["out", "out~"]);
    let trace = strace.trace();
    let locks = trace.count(|call| call.is("flock") && call.args.contains("/out>"));
    assert_eq!(locks, 2, "{trace}");
}

#[test]
fn many_files_get_a_directory_though_others_take_each_for_a_leftover() {
    needs_tool!("strace");
    let sandbox = Sandbox::new();
    for directory in ["s", "d"] {
        sandbox.mkdir(directory);
    }
    for name in ["s/a", "s/b"] {
        sandbox.write(name, "new");
    }
    // When it has made a directory, and has not locked it yet.
    let strace = Strace::new().inject("mkdirat:signal=SIGSTOP:when=1..3");
    let running = sandbox
        .atomwrite(["-t", "d", "s/a"])
        .through(strace.command())
        .start();
    for stop in 1..=3 {
        wait_until("it has halted", || strace.stops() == stop);
        let done = sandbox.atomwrite(["-t", "d", "s/b"]).output();
        assert_eq!(done.code(), Some(0), "{done:?}");
        assert_eq!(sandbox.names(), ["d", "d/b", "s", "s/a", "s/b"]);
        kill_process(program_of(&running), Signal::CONT).unwrap();
    }
    let done = running.wait();
    assert_eq!((done.code(), done.stderr.as_str()), (Some(0), ""));
    assert_eq!(sandbox.names(), ["d", "d/a", "d/b", "s", "s/a", "s/b"]);
}
