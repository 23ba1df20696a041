//! What other processes do while a run is under way, which may be for hours.
//!
//! The new content is SOURCE as it was at some moment, even if another process appends to it. After
//! the end of the input, DEST is checked again: its guards, mode and attributes at that time count.
//! A name that another process plants is not followed. Two writers of the same DEST neither disturb
//! each other nor wait.
//!
//! A test stops a run at its input, or by a SIGSTOP that strace injects at a system call. The
//! directory is opened once: a directory that is renamed is followed, one that is exchanged is not.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::Path;

use rustix::process::{Signal, kill_process};

use crate::harness::{
    Done, Running, Sandbox, Stepped, Strace, check_message, draft_of, each, linux_only, needs_tool,
    program_of, rows, wait_until,
};

/// What is there; the command line; what another process does while the run waits for more than
/// `new`; the exit status, and a part of the message; what is there afterwards.
const CHANGES: &str = "
# A directory that vanishes is an error. One that is renamed is followed, and not what takes its place.
mkdir s | s/out | rm -r s | 1 | 's/out' |
mkdir s; printf old >s/out | s/out | rm -r s | 1 | 's/out' |
mkdir s | s/out | mv s moved; mkdir evil; ln -s evil s | 0 | | evil/ moved/ moved/out=new s->evil
mkdir s; printf old >s/out | s/out | mv s moved; mkdir evil; ln -s evil s | 0 | | evil/ moved/ moved/out=new s->evil
mkdir s | s/out | mv s moved; mkdir s | 0 | | moved/ moved/out=new s/
# A link that is exchanged is not followed again, and a DEST that becomes a link is left alone.
printf old >out; printf theirs >victim; ln -s out link | link | ln -sf victim link | 0 | | link->victim out=new victim=theirs
printf old >out; printf theirs >victim | out | ln -sf victim out | 1 | cannot replace 'out': it has become a symbolic link; another process has replaced 'out' | out->victim victim=theirs
# A DEST that becomes a directory or a FIFO is left alone, one that comes is replaced, and one that goes is made anew.
| out | mkdir out | 1 | 'out': it is a directory | out/
printf old >out | out | rm out; mkfifo out | 1 | it is a FIFO | out?
printf old >out | --lock -q out | rm out; mkfifo out | 1 | it is a FIFO | out?
| out | printf theirs >out | 0 | | out=new
printf old >out | out | rm out | 0 | | out=new
# What -C has compared must still be DEST: written to, appended to, exchanged, removed.
printf new >out | -C out | printf nem >out | 0 | | out=new
printf new >out | -C out | printf er >>out | 0 | | out=new
printf new >out | -C out | printf other >other; mv other out | 0 | | out=new
printf new >out | -C out | rm out | 0 | | out=new
printf old >out | -C out | printf new >out | 0 | | out=new
# A link that is planted for a missing parent is not followed; a directory is used.
mkdir evil | -D a/b/out | ln -s evil a | 1 | 'a/b/out' | a->evil evil/
| -D a/b/out | ln -s nowhere a | 1 | 'a/b/out' | a->nowhere
| -D a/b/out | mkdir a; printf theirs >a/other | 0 | | a/ a/b/ a/b/out=new a/other=theirs
";

#[test]
fn changes_by_another_process_are_noticed_and_planted_names_not_followed() {
    each(
        rows(CHANGES),
        |[set_up, line, change, status, part, left]| {
            let sandbox = Sandbox::new();
            sandbox.sh(set_up);
            let run = sandbox.run(line);
            let done = run.while_it_reads("new", || sandbox.sh(change));
            assert_eq!(done.code(), status.parse().ok(), "{done:?}");
            assert_eq!(done.stderr.is_empty(), part.is_empty(), "{done:?}");
            assert!(done.stderr.contains(part), "{done:?}");
            done.stderr.lines().for_each(check_message);
            assert!(done.stderr.lines().count() < 2, "{done:?}");
            assert_eq!(sandbox.listing(), left);
        },
    );
}

#[test]
fn the_mode_is_that_of_dest_at_the_end_of_the_input() {
    let changes = [
        (Some(0o644), "chmod 600 out", 0o600),
        (Some(0o600), "chmod 666 out", 0o666),
        (Some(0o755), "chmod 400 out", 0o400),
        (None, "umask 077; echo theirs >out", 0o600),
        // A file that was removed may have been private.
        (Some(0o600), "rm out", 0o600),
    ];
    each(changes, |(before, change, after)| {
        let sandbox = Sandbox::new();
        if let Some(mode) = before {
            sandbox.write_with_mode("out", "old", mode);
        }
        let run = sandbox.run("-f out");
        let done = run.while_it_reads("new", || sandbox.sh(change));
        assert_eq!((done.code(), &*done.stderr), (Some(0), ""));
        assert_eq!(
            (&*sandbox.listing(), sandbox.mode("out")),
            ("out=new", after)
        );
    });
}

#[test]
fn what_cannot_be_kept_of_a_file_that_was_removed_is_reported() {
    for (option, before, after) in [("--keep=try", 0o640, 0o600), ("--keep=all", 0o600, 0o600)] {
        let sandbox = Sandbox::new();
        sandbox.write_with_mode("out", "old", before);
        let run = sandbox.run(&format!("{option} out"));
        let done = run.while_it_reads("new", || sandbox.sh("mv out out.1"));
        assert_eq!(done.code(), Some(0), "{done:?}");
        assert_eq!(
            done.stderr,
            "atomwrite: warning: cannot keep the attributes of 'out': it has vanished\n"
        );
        assert_eq!(sandbox.mode("out"), after);
    }
}

#[test]
fn the_mode_is_the_last_one_even_if_it_changes_at_each_sync() {
    needs_tool!("strace");
    let sandbox = Sandbox::new();
    sandbox.write_with_mode("out", "old", 0o664);
    let strace = Strace::new().inject("fsync:signal=SIGSTOP");
    let running = sandbox
        .run("--sync=file out")
        .stdin("new")
        .under(&strace)
        .start();
    let mut stepped = Stepped {
        running,
        strace,
        stops: 0,
    };
    let mut mode = 0o600;
    while stepped.has_stopped() {
        mode ^= 0o040;
        sandbox.chmod("out", mode);
        stepped.go_on();
    }
    assert!(stepped.count() >= 3, "{}", stepped.count());
    assert_eq!(stepped.wait().code(), Some(0));
    assert_eq!(sandbox.mode("out"), mode);
}

#[test]
fn empty_stdin_does_not_replace_a_dest_that_got_content_during_the_run() {
    for empty_before in [false, true] {
        let sandbox = Sandbox::new();
        if empty_before {
            sandbox.write("out", "");
        }
        let running = sandbox.run("out").stdin_held().start();
        // It has checked DEST for the first time then.
        wait_until("it has its new file", || draft_of(running.pid()).is_some());
        sandbox.write("out", "theirs");
        let done = running.wait();
        assert_eq!(done.code(), Some(3), "{done:?}");
        assert!(done.stderr.contains("--allow-empty"), "{done:?}");
        assert_eq!(sandbox.listing(), "out=theirs");
    }
}

#[test]
fn a_named_temporary_file_that_another_process_removes_is_an_error() {
    needs_tool!("strace");
    let sandbox = Sandbox::with("out", "old");
    let strace = Strace::new().inject("linkat:error=EOPNOTSUPP");
    let run = sandbox.run("out").under(&strace);
    let done = run.while_it_reads("new", || sandbox.sh("rm .atomwrite.*"));
    assert_eq!(done.code(), Some(1), "{done:?}");
    assert!(done.stderr.contains("; 'out' is unchanged"), "{done:?}");
    assert_eq!(sandbox.listing(), "out=old");
}

/// Stops a run with `--sync=file` when its new file is on the disk, and before it makes a backup.
const AT_SYNC: &str = "fsync:signal=SIGSTOP";

/// A run that is stopped after one of its calls.
struct Halted {
    running: Running,
    strace: Strace,
}

impl Halted {
    fn at(sandbox: &Sandbox, line: &str, injection: &str) -> Self {
        Self::below(sandbox, line, Strace::new().inject(injection))
    }

    fn below(sandbox: &Sandbox, line: &str, strace: Strace) -> Self {
        let run = sandbox.run(line).stdin("of the one that halted");
        let running = run.under(&strace).start();
        wait_until("it has halted", || strace.has_stopped());
        Self { running, strace }
    }

    /// Continues the run to its end.
    fn ends(self) -> Done {
        kill_process(program_of(&self.running), Signal::CONT).unwrap();
        self.running.wait()
    }

    /// The same, and expects success.
    #[track_caller]
    fn goes_on(self) {
        kill_process(program_of(&self.running), Signal::CONT).unwrap();
        let done = self.running.wait();
        assert_eq!(done.code(), Some(0), "{done:?}\n{}", self.strace.trace());
        assert_eq!(done.stderr, "");
    }
}

fn append(path: &Path, bytes: &[u8]) {
    let mut file = OpenOptions::new().append(true).open(path).unwrap();
    file.write_all(bytes).unwrap();
}

// ---- SOURCE ----

#[test]
fn a_source_that_grows_while_it_is_copied_gets_no_zeros() {
    needs_tool!("strace");
    let more = vec![b'y'; 10_000];
    for hole in [false, true] {
        // After each of its calls on SOURCE, until it makes no more.
        for earlier in 0.. {
            let sandbox = Sandbox::new();
            let path = sandbox.write("in", vec![b'x'; 10_000]);
            if hole {
                let file = File::options().write(true).open(&path).unwrap();
                file.set_len(100_000).unwrap();
            }
            let begin = sandbox.read("in");
            let calls = "lseek,statx,read";
            let mut stepped = Stepped::start(sandbox.run("in out"), calls, "in");
            let mut has_stopped = stepped.has_stopped();
            for _ in 0..earlier {
                if has_stopped {
                    stepped.go_on();
                    has_stopped = stepped.has_stopped();
                }
            }
            if !has_stopped {
                assert!(earlier >= 4, "it has stopped {earlier} times only");
                break;
            }
            append(&path, &more);
            let done = stepped.finish();
            assert_eq!((done.code(), &*done.stderr), (Some(0), ""));
            let content = sandbox.read("out");
            let all = [&begin[..], &more[..]].concat();
            assert!(
                content == begin || content == all,
                "{} bytes when it grew after {earlier} calls",
                content.len()
            );
        }
    }
}

#[test]
fn a_source_that_grows_after_it_was_copied_gets_no_zeros() {
    linux_only!("copies by the kernel");
    needs_tool!("strace");
    // A stop would make the kernel begin this call again. On a machine that is slow the moment may
    // be over; not always.
    let met = (0..20).any(|_| {
        let sandbox = Sandbox::new();
        let path = sandbox.write("in", vec![b'x'; 10_000]);
        let strace = Strace::new().inject("copy_file_range:delay_exit=300000");
        let running = sandbox.run("in out").under(&strace).start();
        let program = program_of(&running);
        let mut is_copied = false;
        wait_until("it is copied, or has ended", || {
            is_copied = draft_of(program)
                .is_some_and(|file| fs::metadata(file).is_ok_and(|stat| stat.len() > 0));
            is_copied || sandbox.path("out").exists()
        });
        append(&path, b"more");
        let done = running.wait();
        assert_eq!((done.code(), &*done.stderr), (Some(0), ""));
        let content = sandbox.text("out");
        assert!(content == "x".repeat(10_000) || content == sandbox.text("in"));
        is_copied
    });
    assert!(met, "it was never seen between the copy and the end");
}

#[test]
fn a_source_that_shrinks_while_it_is_copied_leaves_no_tail_of_zeros() {
    linux_only!("copies by the kernel");
    needs_tool!("strace");
    let sandbox = Sandbox::new();
    let path = sandbox.write("in", vec![b'x'; 100_000]);
    // The run knows the size by then.
    let halted = Halted::at(&sandbox, "in out", "ioctl:signal=SIGSTOP");
    let file = File::options().write(true).open(&path).unwrap();
    file.set_len(50_000).unwrap();
    halted.goes_on();
    assert!(sandbox.read("out") == vec![b'x'; 50_000]);
}

// ---- Others of the same kind ----

#[test]
fn a_run_that_fails_at_its_rename_removes_no_backup_of_another_run() {
    needs_tool!("strace");
    let cases = [
        ("simple", "", "out=theirs out~=old"),
        ("simple", "out~", "out=theirs out~=old"),
        ("numbered", "", "out=theirs out.~1~=old out.~2~=old"),
        (
            "numbered",
            "out.~1~",
            "out=theirs out.~1~=older out.~2~=old out.~3~=old",
        ),
    ];
    each(cases, |(control, older, left)| {
        let sandbox = Sandbox::with("out", "old");
        if !older.is_empty() {
            sandbox.write(older, "older");
        }
        let renames = "rename,renameat,renameat2:error=EIO:signal=SIGSTOP";
        let strace = Strace::new().inject(renames).at("out");
        let line = format!("--backup={control} out");
        let halted = Halted::below(&sandbox, &line, strace);
        let another = sandbox.run(&line).stdin("theirs").output();
        assert_eq!(another.code(), Some(0), "{another:?}");
        let done = halted.ends();
        assert_eq!(done.code(), Some(1), "{done:?}");
        assert_eq!(sandbox.listing(), left);
    });
}

#[test]
fn a_directory_that_gets_the_name_of_dest_or_of_its_backup_is_left_alone() {
    needs_tool!("strace");
    for (change, left) in [
        ("rm out; mkdir out; : >out/precious", "out/ out/precious="),
        (
            "mkdir out~; : >out~/precious",
            "out=old out~/ out~/precious=",
        ),
    ] {
        let sandbox = Sandbox::with("out", "old");
        let halted = Halted::at(&sandbox, "--sync=file -b out", AT_SYNC);
        sandbox.sh(change);
        let done = halted.ends();
        assert_eq!(done.code(), Some(1), "{done:?}");
        assert!(done.stderr.contains("directory"), "{done:?}");
        assert_eq!(sandbox.listing(), left);
    }
}

#[test]
fn a_numbered_backup_takes_no_number_that_was_taken_concurrently() {
    needs_tool!("strace");
    let sandbox = Sandbox::with("out", "old");
    let halted = Halted::at(&sandbox, "--sync=file --backup=numbered out", AT_SYNC);
    sandbox.write("out.~1~", "theirs");
    halted.goes_on();
    assert_eq!(
        sandbox.listing(),
        "out=of the one that halted out.~1~=theirs out.~2~=old"
    );
}

#[test]
fn what_another_run_has_written_and_backed_up_becomes_the_backup() {
    needs_tool!("strace");
    let sandbox = Sandbox::with("out", "old");
    let halted = Halted::at(&sandbox, "--sync=file -b out", AT_SYNC);
    let another = sandbox.run("-b out").stdin("theirs").output();
    assert_eq!((another.code(), &*another.stderr), (Some(0), ""));
    halted.goes_on();
    assert_eq!(sandbox.listing(), "out=of the one that halted out~=theirs");
}
