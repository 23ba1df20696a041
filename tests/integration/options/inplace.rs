//! `--inplace`, the one way that is not atomic.
//!
//! It is for a DEST to which no file can be renamed: a file that is mounted by itself, a file in a
//! directory that is read-only or not ours, a device, a FIFO. The whole input is buffered and the
//! space is preallocated; then DEST is overwritten, with one warning. `always` keeps the inode.
//! Without the option, such a DEST is an error before any input is read, and the message names the
//! remedies. A full or broken disk is no reason to write in place. Status 4 means that the write
//! was interrupted.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt};

use rustix::process::Signal;

use crate::harness::{
    Cover, Mount, NOBODY, Run, Sandbox, each, linux_only, needs_mounts, needs_root, needs_tool,
};

pub(crate) const WARNING: &str = "overwriting 'out' in place: readers may see partial content, and an interruption will leave it";

/// A directory in which a user may write to `out`, and do nothing else.
fn closed_to_others() -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.write_with_mode("out", "old content", 0o666);
    sandbox
}

// ---- When it is needed ----

#[test]
fn a_file_that_is_mounted_by_itself_is_overwritten_if_that_is_allowed() {
    linux_only!("a call that shows a mount point");
    needs_mounts!();
    let sandbox = Sandbox::new();
    let elsewhere = Sandbox::with("shown", "old content");
    let target = sandbox.write("out", "hidden");
    let cover = Cover::bind(&elsewhere.path("shown"), &target);
    let inode = elsewhere.inode("shown");
    let why = "it is a mount point, and nothing can be renamed to it; mount its directory instead, or use --inplace to overwrite it; ";
    sandbox.refuse_each(&[
        ("out", 1, why),
        ("-f out", 1, why),
        ("/dev/null out", 1, why),
        ("--inplace=never out", 1, why),
        ("--inplace --inplace=never out", 1, why),
        ("out -- touch ran", 125, "--inplace"),
        ("--inplace=never out -- touch ran", 125, "--inplace"),
    ]);
    let run = |line| sandbox.run(line).stdin("new").warns(WARNING);
    run("--inplace out").writes("new");
    assert_eq!(elsewhere.text("shown"), "new");
    let done = "written in place: 'out' (3 bytes)";
    run("--inplace=always -v out").says(done).writes("new");
    assert_eq!(elsewhere.inode("shown"), inode);
    drop(cover);
    assert_eq!(sandbox.text("out"), "hidden");
}

#[test]
fn a_file_in_a_directory_that_is_not_ours_or_is_sticky_is_overwritten() {
    needs_root!();
    let cases = [(0o755, "permission denied"), (0o1777, "sticky")];
    each(cases, |(mode, why)| {
        let sandbox = closed_to_others();
        sandbox.chmod("", mode);
        let inode = sandbox.inode("out");
        let run = |line| sandbox.run(line).by_nobody();
        let allowed = run("--inplace out").warns(WARNING);
        allowed.stdin("new").writes("new");
        assert_eq!(sandbox.inode("out"), inode);
        assert_eq!((sandbox.owner("out"), sandbox.mode("out")), ((0, 0), 0o666));
        let refused = run("out").reads_nothing().says("--inplace");
        refused.fails_with(1, why);
    });
    // A missing DEST cannot be overwritten.
    let sandbox = closed_to_others();
    let run = sandbox.run("--inplace new").by_nobody();
    run.stdin("new").fails_with(1, "permission denied");
}

#[test]
fn a_file_in_an_immutable_directory_is_overwritten() {
    needs_mounts!();
    needs_tool!("mkfs.ext4", "chattr");
    let mount = Mount::ext4(16, &[]);
    let sandbox = Sandbox::in_dir(mount.path());
    sandbox.write("out", "old content");
    sandbox.sh("chattr +i .");
    let run = |line| sandbox.run(line).stdin("new");
    run("out").fails_with(1, "--inplace");
    run("--inplace out").warns(WARNING).writes("new");
    // The file itself: nothing helps.
    sandbox.sh("chattr -i .; chattr +i out");
    run("--inplace=always out").fails_with(1, "'out'");
    sandbox.sh("chattr -i out");
}

#[test]
fn a_file_on_a_read_only_filesystem_stays_as_it_is() {
    needs_mounts!();
    let mount = Mount::tmpfs("size=1m");
    let sandbox = Sandbox::in_dir(mount.path());
    sandbox.write("out", "old content");
    mount.remount("ro");
    sandbox.refuse_each(&[
        ("--inplace out", 1, "read-only"),
        ("--inplace=always out", 1, "read-only"),
        ("--inplace=never out", 1, "read-only"),
    ]);
    mount.remount("rw");
}

#[test]
fn where_a_rename_works_auto_renames() {
    let sandbox = Sandbox::with("out", "old content");
    let inode = sandbox.inode("out");
    let run = sandbox.run("--inplace -v out").stdin("new");
    run.says("replaced 'out'").succeeds();
    assert_ne!(sandbox.inode("out"), inode);
    let run = sandbox.run("--inplace=always -v new").stdin("new");
    run.says("created 'new'").succeeds();
}

#[test]
fn always_keeps_the_inode_and_its_hard_links() {
    let sandbox = Sandbox::new();
    sandbox.write_with_mode("out", "old content", 0o604);
    sandbox.set_xattr("out", "user.one", b"1");
    sandbox.hard_link("out", "other");
    sandbox.symlink("out", "link");
    let inode = sandbox.inode("out");
    let run = sandbox.run("--inplace=always link").stdin("new");
    run.warns("overwriting 'link' in place").succeeds();
    assert_eq!(sandbox.text("other"), "new");
    assert_eq!(sandbox.inode("out"), inode);
    assert_eq!(sandbox.mode("out"), 0o604);
    assert!(sandbox.stat("link").is_symlink());
    let attribute = sandbox.xattr("out", "user.one");
    assert!(attribute.is_none_or(|value| value == b"1"));
}

#[test]
fn no_space_is_no_reason_to_overwrite() {
    needs_mounts!();
    let mount = Mount::tmpfs("size=512k");
    let sandbox = Sandbox::in_dir(mount.path());
    sandbox.write("out", vec![b'o'; 300_000]);
    let run = sandbox.run("--inplace out").stdin(vec![b'n'; 290_000]);
    run.fails_with(1, "no space left");
    // In place, there is enough space.
    sandbox
        .run("--inplace=always out")
        .stdin(vec![b'n'; 290_000])
        .warns(WARNING)
        .succeeds();
    assert!(sandbox.read("out") == vec![b'n'; 290_000]);
}

// ---- How ----

/// A shorthand: `--inplace=always` in a sandbox with an old `out`.
pub(crate) fn always<'a>(sandbox: &'a Sandbox, rest: &str) -> Run<'a> {
    sandbox.run(&format!("--inplace=always {rest}"))
}

#[test]
fn shorter_and_longer_content_is_written_completely() {
    let sandbox = Sandbox::new();
    for (old, new) in [
        (0, 10),
        (10, 0),
        (100_000, 3),
        (3, 100_000),
        (700_000, 1_500_000),
        (1_500_000, 700_000),
    ] {
        sandbox.write("out", vec![b'o'; old]);
        let run = always(&sandbox, "--allow-empty out").warns(WARNING);
        run.stdin(vec![b'n'; new]).succeeds();
        assert!(sandbox.read("out") == vec![b'n'; new], "{old} {new}");
    }
}

#[test]
fn holes_of_the_source_are_zeros() {
    let sandbox = Sandbox::new();
    let source = File::create(sandbox.path("src")).unwrap();
    source.set_len(2 << 20).unwrap();
    source.write_all_at(b"data", 1 << 20).unwrap();
    source.sync_all().unwrap();
    sandbox.write("out", vec![b'o'; 3 << 20]);
    always(&sandbox, "src out").warns(WARNING).succeeds();
    assert!(sandbox.read("out") == sandbox.read("src"));
}

#[test]
fn a_file_can_be_its_own_source() {
    let sandbox = Sandbox::new();
    let content: Vec<u8> = (0_u8..=255).cycle().take(1_000_000).collect();
    sandbox.write("out", &content);
    always(&sandbox, "out out").warns(WARNING).succeeds();
    assert!(sandbox.read("out") == content);
    always(&sandbox, "-a out out").warns(WARNING).succeeds();
    assert!(sandbox.read("out") == [&content[..], &content[..]].concat());
}

#[test]
fn quiet_silences_the_warning() {
    let sandbox = Sandbox::with("out", "old content");
    always(&sandbox, "-q out").stdin("new").succeeds();
    assert_eq!(sandbox.text("out"), "new");
}

#[test]
fn whatever_fails_before_it_begins_leaves_the_file_unchanged() {
    let sandbox = Sandbox::with("out", "old content");
    let line = |rest: &str| format!("--inplace=always {rest}");
    sandbox.fail_each(&[
        (&line("out"), "", 3, "--allow-empty"),
        (&line("-n out"), "new", 3, "--no-clobber"),
        (
            &line(&format!("--sha256 {:064} out", 0)),
            "new",
            3,
            "SHA-256",
        ),
        (&line("out -- sh -c 'echo half; exit 5'"), "", 5, "status 5"),
        (
            &line("out -- sh -c 'echo half; kill -9 $$'"),
            "",
            137,
            "signal 9",
        ),
        (&line("nothing out"), "", 1, "'nothing'"),
        (
            &line("--validate 'grep -q good' out"),
            "bad",
            3,
            "validator",
        ),
    ]);
    // There is nothing to do, and so nothing to warn of.
    let run = |rest| sandbox.run(&line(rest));
    run("-C out").stdin("old content").leaves_alone(0);
    let nowhere = run("out").env("TMPDIR", "/nowhere");
    nowhere.reads_nothing().fails_with(1, "/nowhere");
}

#[test]
fn a_command_and_a_validator_that_succeed_let_the_write_happen() {
    let sandbox = Sandbox::with("out", "old content");
    let run = always(&sandbox, "out -- printf new");
    run.warns(WARNING).writes("new");
    // The validator sees the content under DEST's own name, and DEST as it is still.
    let validator = "grep -q good && grep -q good \"$1\" && grep -q '^new' \"$2\" && \
                     test \"${1##*/}\" = out && test \"$1\" != \"$2\"";
    let words = ["--inplace=always", "--validate", validator, "out"];
    let run = sandbox.atomwrite(words).stdin("good");
    run.warns(WARNING).writes("good");
}

#[test]
fn a_dest_that_is_replaced_while_the_validator_runs_is_left_alone() {
    let sandbox = Sandbox::with("out", "old content");
    sandbox.write("other", "theirs");
    // Content written to the file that had the name would be lost with that file.
    let done = always(&sandbox, "-q --validate 'mv other \"$2\"' out")
        .stdin("new")
        .output();
    assert_eq!(done.code(), Some(1), "{done:?}");
    let why = "cannot write 'out': it is not the file that was checked; ";
    assert!(done.stderr.contains(why), "{done:?}");
    assert_eq!(sandbox.listing(), "out=theirs");
}

#[test]
fn backups_are_copies() {
    needs_root!();
    let sandbox = Sandbox::new();
    for older in [false, true] {
        sandbox.write_with_mode("out", "old content", 0o640);
        sandbox.chown("out", NOBODY, NOBODY);
        let inode = sandbox.inode("out");
        if older {
            sandbox.write("out~", "older");
        }
        always(&sandbox, "-b out")
            .stdin("new")
            .warns(WARNING)
            .leaves(["out", "out~"])
            .succeeds();
        assert_eq!(sandbox.inode("out"), inode);
        assert_eq!(sandbox.text("out"), "new");
        assert_eq!(sandbox.text("out~"), "old content");
        assert_eq!(sandbox.mode("out~"), 0o640);
        assert_eq!(sandbox.owner("out~"), (NOBODY, NOBODY));
        assert_eq!(sandbox.stat("out~").nlink(), 1);
    }
    // In a directory where no file can be created, there is no backup, and so no write.
    let sandbox = closed_to_others();
    let run = sandbox.run("--inplace -b out").stdin("new").by_nobody();
    run.fails_with(1, "back up");
}

#[test]
fn attributes_that_were_asked_for_are_set() {
    needs_root!();
    needs_tool!("strace");
    let sandbox = Sandbox::new();
    sandbox.write_with_mode("out", "old content", 0o640);
    let inode = sandbox.inode("out");
    always(&sandbox, "-m g+w,o=r -o 65534 -g 1 out")
        .stdin("new")
        .warns(WARNING)
        .succeeds();
    assert_eq!(sandbox.mode("out"), 0o664);
    assert_eq!(sandbox.owner("out"), (NOBODY, 1));
    assert_eq!(sandbox.inode("out"), inode);
    always(&sandbox, "-m 400 out")
        .stdin("newer")
        .warns(WARNING)
        .succeeds();
    assert_eq!(sandbox.mode("out"), 0o400);
    assert_eq!(sandbox.text("out"), "newer");
    // Until the end, the old group can read nothing.
    let run = |name| {
        sandbox.write_with_mode(name, "old content", 0o2750);
        let line = format!("-q -g 1 {name}");
        always(&sandbox, &line).stdin("new")
    };
    let what = |name| {
        (
            sandbox.text(name),
            sandbox.owner(name).1,
            sandbox.mode(name),
        )
    };
    run("done").succeeds();
    assert_eq!(what("done"), ("new".to_owned(), 1, 0o750));
    let done = run("killed").inject("ftruncate:signal=SIGKILL").output();
    assert_eq!(done.signal(), Some(libc::SIGKILL), "{done:?}");
    // Before the end of the old content was cut off.
    assert_eq!(what("killed"), ("new content".to_owned(), 1, 0o700));
    // What may not be set fails, before the first byte. The space has been reserved by then, which
    // tells the file's time, and only its owner can put that back.
    let sandbox = closed_to_others();
    let done = sandbox
        .run("--inplace -q -m 600 out")
        .stdin("new")
        .by_nobody()
        .output();
    assert_eq!(done.code(), Some(1), "{done:?}");
    assert!(
        done.stderr
            .ends_with("operation not permitted; 'out' is unchanged\n"),
        "{done:?}"
    );
    assert_eq!(sandbox.text("out"), "old content");
    assert_eq!(sandbox.mode("out"), 0o666);
}

#[test]
fn dest_is_synced_except_with_sync_none() {
    needs_tool!("strace");
    for (sync, wanted) in [("none", 0), ("file", 1), ("full", 1)] {
        let sandbox = Sandbox::with("out", "old content");
        let run = always(&sandbox, &format!("-q --sync {sync} out"));
        let trace = run.stdin("new").traced();
        let synced = trace.places(|call| call.is("fsync") && call.args.contains("/out>"));
        assert_eq!(synced.len(), wanted, "{sync} {trace}");
        let written = trace.places(|call| call.is("write") && call.args.contains("/out>"));
        let sized = trace.places(|call| call.is("ftruncate") && call.args.contains("/out>"));
        assert_eq!((written.len(), sized.len()), (1, 1), "{trace}");
        assert!(written[0] < sized[0], "{trace}");
        assert!(synced.iter().all(|at| sized[0] < *at), "{trace}");
        // The space is reserved before anything changes, where that is possible, and nothing is
        // renamed or linked.
        let reserved = trace.places(|call| call.is("fallocate"));
        assert_eq!(
            reserved.len(),
            usize::from(!cfg!(atomwrite_posix)),
            "{trace}"
        );
        assert!(reserved.iter().all(|at| *at < written[0]), "{trace}");
        assert_eq!(trace.count(|call| call.renames() || call.is("linkat")), 0);
    }
}

#[test]
fn the_spool_is_an_unnamed_file_in_tmpdir() {
    let sandbox = Sandbox::new();
    let spool = Sandbox::new();
    sandbox.write("out", "old content");
    let mut run = always(&sandbox, "-q out")
        .env("TMPDIR", spool.root())
        .stdin_held()
        .start();
    run.feed("new");
    let id = run.id();
    let mut open = fs::read_dir(format!("/proc/{id}/fd"))
        .unwrap()
        .filter_map(|entry| fs::read_link(entry.unwrap().path()).ok());
    assert!(open.any(|path| path.starts_with(spool.root())));
    assert_eq!(spool.names().len(), 0);
    assert_eq!(sandbox.text("out"), "old content");
    run.signal(Signal::TERM);
    assert_eq!(run.wait().signal(), Some(libc::SIGTERM));
    assert_eq!(sandbox.text("out"), "old content");
    assert_eq!(spool.names().len(), 0);
    assert_eq!(sandbox.names(), ["out"]);
}

#[test]
fn a_symbolic_mode_is_applied_to_the_old_mode() {
    for (mode, change, wanted) in [
        (0o640, "o=g,g=", 0o604),
        (0o644, "o=u,u-w", 0o446),
        (0o600, "g=u", 0o660),
    ] {
        let sandbox = Sandbox::new();
        sandbox.write_with_mode("out", "old", mode);
        let run = always(&sandbox, &format!("-m {change} out"));
        run.stdin("new").warns(WARNING).writes("new");
        assert_eq!(sandbox.mode("out"), wanted, "{change}");
    }
}
