//! `-p`, `--preserve-timestamps`: DEST gets the times that SOURCE had before it was read.
//!
//! An input that has no times is a usage error. A DEST that `-C` leaves alone keeps its own times.
//! With `--inplace`, the permission to set times is checked before the first byte is written.

use std::fs::{self, File, FileTimes};
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, SystemTime};

use crate::harness::{Sandbox, WAYS, needs_root, needs_tool};

/// The access time is the older one, so that the kernel updates it when the file is read.
const ACCESSED: (i64, i64) = (1_000_000_000, 123_456_000);
const MODIFIED: (i64, i64) = (1_100_000_000, 654_321_000);

fn set_times(sandbox: &Sandbox, name: &str) {
    let time = |(seconds, nanoseconds): (i64, i64)| {
        SystemTime::UNIX_EPOCH
            + Duration::new(seconds.try_into().unwrap(), nanoseconds.try_into().unwrap())
    };
    let times = FileTimes::new()
        .set_accessed(time(ACCESSED))
        .set_modified(time(MODIFIED));
    let file = File::open(sandbox.path(name)).unwrap();
    file.set_times(times).unwrap();
}

fn modified(sandbox: &Sandbox, name: &str) -> (i64, i64) {
    let seen = fs::metadata(sandbox.path(name)).unwrap();
    (seen.mtime(), seen.mtime_nsec())
}

fn times(sandbox: &Sandbox, name: &str) -> [(i64, i64); 2] {
    let seen = fs::metadata(sandbox.path(name)).unwrap();
    [(seen.atime(), seen.atime_nsec()), modified(sandbox, name)]
}

fn sandbox() -> Sandbox {
    let sandbox = Sandbox::with("in", "new content");
    set_times(&sandbox, "in");
    sandbox
}

#[test]
fn dest_gets_the_times_that_source_had_before_it_was_read() {
    needs_tool!("strace");
    for way in WAYS {
        for options in [
            &["-p"][..],
            &["--preserve-timestamps", "--sync=none"],
            &["-p", "--sync=file", "-m", "600"],
            &["-p", "--keep=none"],
            &["-p", "--lock", "-b"],
            &["-pC", "--min-size=1"],
            &["-p", "--validate", "grep -q new \"$1\""],
            // A later change of SOURCE does not affect DEST.
            &["-p", "--validate", "touch in"],
        ] {
            for old in [false, true] {
                let sandbox = sandbox();
                if old {
                    sandbox.write("out", "old");
                }
                let done = way
                    .take(sandbox.atomwrite(options.iter().chain(&["in", "out"])))
                    .output();
                assert_eq!(done.code(), Some(0), "{done:?}");
                assert_eq!(times(&sandbox, "out"), [ACCESSED, MODIFIED], "{done:?}");
                assert_eq!(sandbox.text("out"), "new content");
            }
        }
    }
}

#[test]
fn source_may_be_dest_or_a_link() {
    let sandbox = sandbox();
    sandbox.symlink("in", "link");
    let run = sandbox.run("-p link out");
    run.leaves(["in", "link", "out"]).succeeds();
    assert_eq!(modified(&sandbox, "out"), MODIFIED);
    set_times(&sandbox, "in");
    sandbox.run("-p in in").succeeds();
    assert_eq!(modified(&sandbox, "in"), MODIFIED);
}

#[test]
fn without_the_option_dest_has_the_time_of_the_last_write() {
    let sandbox = sandbox();
    sandbox.run("in out").leaves(["in", "out"]).succeeds();
    assert!(modified(&sandbox, "out") > MODIFIED);
}

#[test]
fn each_of_many_files_gets_its_own_times() {
    let sandbox = sandbox();
    sandbox.write("other", "newer");
    let other = modified(&sandbox, "other");
    sandbox.mkdir("d");
    sandbox.write("d/in", "old");
    sandbox
        .run("-p -t d in other")
        .leaves(["d", "d/in", "d/other", "in", "other"])
        .succeeds();
    assert_eq!(modified(&sandbox, "d/in"), MODIFIED);
    assert_eq!(modified(&sandbox, "d/other"), other);
}

#[test]
fn a_dest_that_is_overwritten_in_place_gets_the_times_too() {
    let sandbox = sandbox();
    sandbox.write("out", "old and longer content");
    let inode = sandbox.inode("out");
    for options in [&["-qp"][..], &["-qp", "-m", "600"]] {
        sandbox.write("out", "old and longer content");
        sandbox
            .atomwrite(options.iter().chain(&["--inplace=always", "in", "out"]))
            .succeeds();
        assert_eq!(modified(&sandbox, "out"), MODIFIED);
        assert_eq!(sandbox.text("out"), "new content");
        assert_eq!(sandbox.inode("out"), inode);
        set_times(&sandbox, "in");
    }
}

#[test]
fn a_file_whose_times_we_may_not_set_is_not_overwritten_in_place() {
    needs_root!();
    let sandbox = sandbox();
    sandbox.write_with_mode("out", "old", 0o666);
    let run = |options: &[&str]| {
        let words = options.iter().chain(&["--inplace=always", "in", "out"]);
        sandbox.atomwrite(words).by_nobody()
    };
    run(&["-p"]).fails_with(
        1,
        "cannot set the times of 'out': operation not permitted; 'out' is unchanged",
    );
    // It may be written to.
    run(&["-q"]).succeeds();
    assert_eq!(sandbox.text("out"), "new content");
}

#[test]
fn a_dest_that_compare_leaves_alone_keeps_its_own_times() {
    let sandbox = sandbox();
    sandbox.write("out", "new content");
    sandbox.run("-pC in out").leaves_alone(0);
    assert!(modified(&sandbox, "out") > MODIFIED);
}

#[test]
fn an_input_that_has_no_times_is_a_usage_error() {
    let sandbox = sandbox();
    sandbox.write("out", "old");
    sandbox.fifo("fifo");
    let gives = "--preserve-timestamps gives SOURCE's times to DEST: ";
    let stdin = format!(
        "{gives}standard input has no times to preserve; use -D to create missing directories"
    );
    let command = format!("{gives}the output of a command has no times to preserve");
    for (words, message) in [
        (&["-p", "out"][..], stdin.clone()),
        (&["-p", "-", "out"], stdin.clone()),
        (&["-p", "/dev/stdin", "out"], stdin),
        (&["-p", "out", "--", "touch", "ran"], command.clone()),
        (&["-p", "-c", "touch ran", "out"], command),
        (
            &["-pa", "in", "out"],
            format!("{gives}with --append, only a part of DEST is SOURCE's"),
        ),
        (
            &["-p", "fifo", "out"],
            "cannot read 'fifo': --preserve-timestamps needs a regular file".to_owned(),
        ),
        (
            &["-p", "/dev/null", "out"],
            "cannot read '/dev/null': --preserve-timestamps needs a regular file".to_owned(),
        ),
    ] {
        sandbox.atomwrite(words).fails_with(2, message);
    }
}

#[test]
fn the_times_are_set_again_after_a_sync_where_a_server_may_change_them() {
    needs_tool!("strace");
    for words in ["-p in out", "-p -t d in"] {
        let sandbox = Sandbox::new();
        sandbox.write("in", "new content");
        sandbox.mkdir("d");
        sandbox.write("d/in", "old");
        set_times(&sandbox, "in");
        // A filesystem that is not known to be local, and has no unnamed files.
        let run = sandbox.run(words).inject("fstatfs:error=EIO");
        let trace = run.inject("linkat:error=EOPNOTSUPP").traced();
        let sync = trace.only("fsync", |call| call.is("fsync") && call.on_draft());
        let set = trace.places(|call| call.is("utimensat") && call.on_draft());
        assert!(set.last() > Some(&sync), "{words}: {trace}");
    }
}
