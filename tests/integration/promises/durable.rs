//! The order of the system calls, read from a trace.
//!
//! Before the commit, nothing that DEST names is touched. All attributes are in place before the
//! new file is visible as DEST. `--sync=file` is an fsync before the rename, `full` (the default)
//! also one of the directory after it, and `none` is no fsync. A directory without fsync, because
//! the filesystem has none, is not an error. A directory that may not be opened for reading is made
//! durable with syncfs. Status 4 is only for a DEST that was changed and then could not be made
//! durable.

use crate::harness::{
    Call, Mount, NOBODY, Sandbox, Strace, Trace, linux_only, needs_mounts, needs_root, needs_tool,
};

/// Runs it on `out`, expects success, and returns the trace.
#[track_caller]
fn trace_of(sandbox: &Sandbox, options: &[&str]) -> Trace {
    let strace = Strace::new();
    sandbox
        .atomwrite(options.iter().copied().chain(["out"]))
        .stdin("new")
        .under(&strace)
        .succeeds();
    assert_eq!(sandbox.text("out"), "new");
    strace.trace()
}

fn is_fsync(call: &Call) -> bool {
    matches!(
        call.name.as_str(),
        "fsync" | "fdatasync" | "syncfs" | "sync" | "sync_file_range"
    )
}

fn syncs_draft(call: &Call) -> bool {
    call.is("fsync") && call.on_draft()
}

fn syncs_directory(call: &Call) -> bool {
    call.is("fsync") && !call.on_draft()
}

#[track_caller]
fn in_order(trace: &Trace, places: &[(&str, usize)]) {
    for pair in places.windows(2) {
        let [(first, at), (second, then)] = pair else {
            unreachable!("windows of two");
        };
        assert!(at < then, "{second} comes before {first} in {trace}");
    }
}

#[test]
fn writes_seals_syncs_links_renames_and_syncs_the_directory_in_that_order() {
    needs_tool!("strace");
    let sandbox = Sandbox::new();
    sandbox.write_with_mode("out", "old", 0o640);
    sandbox.set_xattr("out", "user.one", b"1");
    let trace = trace_of(&sandbox, &[]);
    let open = trace.only("the new file is opened", |call| {
        let opens_named = call.name.starts_with("open") && call.args.contains(".atomwrite.");
        (call.opens_unnamed() || opens_named) && call.succeeded()
    });
    let writes = trace.places(|call| call.is("write") && call.on_draft());
    let xattr = trace.only("fsetxattr", |call| call.is("fsetxattr"));
    let mode = trace.only("fchmod", |call| call.is("fchmod"));
    let fsync = trace.only("the file is synced", syncs_draft);
    let links = trace.places(Call::links);
    assert_eq!(links.len(), usize::from(!cfg!(atomwrite_posix)), "{trace}");
    let rename = trace.only("rename", Call::renames);
    let directory = trace.only("the directory is synced", syncs_directory);
    let root = sandbox.root().display();
    assert!(
        trace.own()[directory].args.contains(&format!("<{root}>")),
        "another directory is synced in {trace}"
    );
    let last_write = *writes.last().expect("something is written");
    in_order(
        &trace,
        &[
            ("the open", open),
            ("the last write", last_write),
            ("fsetxattr", xattr),
            ("fchmod", mode),
            ("fsync", fsync),
            ("rename", rename),
            ("the directory's fsync", directory),
        ],
    );
    for link in links {
        in_order(
            &trace,
            &[("fsync", fsync), ("linkat", link), ("rename", rename)],
        );
    }
}

#[test]
fn changes_the_owner_before_the_mode_and_the_attributes() {
    needs_root!();
    needs_tool!("strace");
    let sandbox = Sandbox::new();
    sandbox.write_with_mode("out", "old", 0o640);
    sandbox.chown("out", NOBODY, NOBODY);
    sandbox.chmod("out", 0o4750);
    sandbox.set_xattr("out", "user.one", b"1");
    let trace = trace_of(&sandbox, &[]);
    let owner = trace.only("fchown", |call| call.is("fchown"));
    let xattr = trace.only("fsetxattr", |call| call.is("fsetxattr"));
    let modes = trace.places(|call| call.is("fchmod"));
    let mode = *modes.last().expect("fchmod");
    let fsync = trace.only("the file is synced", syncs_draft);
    in_order(&trace, &[("fchown", owner), ("fsetxattr", xattr)]);
    in_order(&trace, &[("fchown", owner), ("fchmod", mode)]);
    in_order(&trace, &[("fsetxattr", xattr), ("fsync", fsync)]);
    in_order(&trace, &[("fchmod", mode), ("fsync", fsync)]);
    assert_eq!(sandbox.mode("out"), 0o4750);
}

#[test]
fn a_new_file_gets_its_name_by_rename_too() {
    linux_only!("renameat2");
    needs_tool!("strace");
    let sandbox = Sandbox::new();
    let trace = trace_of(&sandbox, &[]);
    let link = trace.only("linkat", Call::links);
    let rename = trace.only("rename", Call::renames);
    in_order(&trace, &[("linkat", link), ("rename", rename)]);
}

#[test]
fn closes_the_written_file_and_sees_its_error_before_the_commit() {
    needs_tool!("strace");
    for sync in ["--sync=none", "--sync=file", "--sync=full"] {
        let sandbox = Sandbox::new();
        let trace = trace_of(&sandbox, &[sync]);
        let closes = trace.places(|call| call.is("close") && call.on_draft());
        let writes = trace.places(|call| call.is("write") && call.on_draft());
        let link = trace.only("linkat", Call::links);
        let between = |close: &&usize| writes.iter().all(|write| write < close) && **close < link;
        assert!(
            closes.iter().any(|close| between(&close)),
            "not closed between the last write and linkat with {sync}: {trace}"
        );
    }
}

/// A watcher of DEST takes the close of a writable file for a change of it, and has time to react
/// while the directory is synced.
#[test]
fn closes_the_new_file_before_it_syncs_the_directory() {
    needs_tool!("strace");
    let sandbox = Sandbox::new();
    let trace = trace_of(&sandbox, &[]);
    let closes = trace.places(|call| call.is("close") && call.on_draft());
    let last = trace.only("fsync", |call| call.is("fsync") && !call.on_draft());
    assert!(closes.iter().all(|close| *close < last), "{trace}");
}

#[test]
fn sync_file_leaves_the_directory_alone() {
    needs_tool!("strace");
    let sandbox = Sandbox::with("out", "old");
    let trace = trace_of(&sandbox, &["--sync=file"]);
    let fsync = trace.only("something is synced", |call| {
        is_fsync(call) && !call.is("sync_file_range")
    });
    let rename = trace.only("rename", Call::renames);
    assert!(trace.own()[fsync].on_draft(), "{trace}");
    in_order(&trace, &[("fsync", fsync), ("rename", rename)]);
}

#[test]
fn sync_none_syncs_nothing() {
    needs_tool!("strace");
    let sandbox = Sandbox::with("out", "old");
    let trace = trace_of(&sandbox, &["--sync=none"]);
    assert_eq!(trace.count(is_fsync), 0, "{trace}");
    trace.only("rename", Call::renames);
}

#[test]
fn a_named_file_is_synced_before_the_rename_as_well() {
    needs_tool!("strace");
    let sandbox = Sandbox::with("out", "old");
    let mut run = sandbox.run("out").stdin("new");
    if !cfg!(atomwrite_posix) {
        run = run.inject("linkat:error=EOPNOTSUPP");
    }
    let trace = run.traced();
    let open = trace.only("a named file is made", |call| {
        call.name.starts_with("open") && call.args.contains(".atomwrite.")
    });
    let args = &trace.own()[open].args;
    assert!(
        args.contains("O_EXCL") && args.contains("0600"),
        "not for us alone: {args}"
    );
    let last_write = trace.places(|call| call.is("write") && call.on_draft());
    let fsync = trace.only("the file is synced", syncs_draft);
    let rename = trace.only("rename", Call::renames);
    let directory = trace.only("the directory is synced", syncs_directory);
    in_order(
        &trace,
        &[
            ("the open", open),
            ("the last write", *last_write.last().expect("a write")),
            ("fsync", fsync),
            ("rename", rename),
            ("the directory's fsync", directory),
        ],
    );
}

// An fsync of an unnamed file does nothing on btrfs; power loss then leaves it empty:
// https://github.com/andreacorbellini/rust-atomic-write-file/issues/6
#[test]
fn btrfs_syncs_the_file_again_once_it_has_a_name() {
    linux_only!("unnamed files");
    needs_mounts!();
    needs_tool!("strace", "mkfs.btrfs");
    let mount = Mount::btrfs();
    let sandbox = Sandbox::in_dir(mount.path());
    sandbox.write("out", "old");
    let trace = trace_of(&sandbox, &[]);
    let link = trace.only("linkat", Call::links);
    let rename = trace.only("rename", Call::renames);
    let syncs = trace.places(|call| {
        call.is("fsync")
            && !call
                .args
                .contains(&format!("<{}>", sandbox.root().display()))
    });
    assert!(
        syncs.iter().any(|sync| (link..rename).contains(sync)),
        "no fsync between linkat and rename in {trace}"
    );
    let trace = trace_of(&sandbox, &["--sync=none"]);
    assert_eq!(trace.count(is_fsync), 0, "{trace}");
}

#[test]
fn a_directory_without_fsync_is_not_an_error() {
    needs_tool!("strace");
    for errno in ["EINVAL", "EOPNOTSUPP", "EBADF"] {
        let sandbox = Sandbox::with("out", "old");
        let strace = fail_directory(&sandbox, errno);
        sandbox.run("out").stdin("new").under(&strace).writes("new");
        assert_eq!(strace.injected(), 1, "{errno}");
    }
}

#[test]
fn a_directory_whose_fsync_fails_gives_status_4_with_the_new_content() {
    needs_tool!("strace");
    for (errno, words) in [
        ("EIO", "input/output error"),
        ("ENOSPC", "no space left on device"),
        ("EDQUOT", "disk quota exceeded"),
    ] {
        for existed in [true, false] {
            let sandbox = Sandbox::new();
            let strace = fail_directory(&sandbox, errno);
            if existed {
                sandbox.write("out", "old");
            }
            let done = sandbox
                .run("out")
                .stdin("new")
                .under(&strace)
                .says("'out'")
                .says(words)
                .leaves(["out"])
                .fails(4);
            assert!(!done.stderr.contains("unchanged"), "{done:?}");
            assert_eq!(sandbox.text("out"), "new");
            assert_eq!(strace.injected(), 1, "{errno}");
        }
    }
}

/// Makes the directory's fsync fail.
fn fail_directory(sandbox: &Sandbox, errno: &str) -> Strace {
    Strace::new()
        .at(sandbox.root())
        .inject(&format!("fsync:error={errno}"))
}

#[test]
fn a_directory_that_may_not_be_read_is_made_durable_with_syncfs() {
    linux_only!("syncfs");
    needs_root!();
    needs_tool!("strace");
    let sandbox = Sandbox::new();
    sandbox.mkdir("closed");
    sandbox.chown("closed", NOBODY, NOBODY);
    sandbox.chmod("closed", 0o300);
    let strace = Strace::new();
    sandbox
        .run("closed/out")
        .stdin("new")
        .by_nobody()
        .under(&strace)
        .writes("new");
    let trace = strace.trace();
    let rename = trace.only("rename", Call::renames);
    let whole = trace.only("syncfs", |call| call.is("syncfs") && call.succeeded());
    in_order(&trace, &[("rename", rename), ("syncfs", whole)]);
    // Only --sync=full asks for it.
    let strace = Strace::new();
    sandbox
        .run("--sync=file closed/out")
        .stdin("newer")
        .by_nobody()
        .under(&strace)
        .succeeds();
    assert_eq!(strace.trace().count(|call| call.is("syncfs")), 0);
}

#[test]
fn created_directories_are_synced_with_full_only() {
    needs_tool!("strace");
    for (sync, expected) in [
        ("--sync=full", true),
        ("--sync=file", false),
        ("--sync=none", false),
    ] {
        for lock in [&[][..], &["-q", "--lock"], &["-a"]] {
            let sandbox = Sandbox::new();
            let trace = sandbox
                .atomwrite([lock, &[sync, "-D", "one/two/out"]].concat())
                .stdin("new")
                .leaves(["one", "one/two", "one/two/out"])
                .traced();
            for directory in ["", "/one", "/one/two"] {
                let path = format!("<{}{directory}>", sandbox.root().display());
                let synced = trace.count(|call| call.is("fsync") && call.args.ends_with(&path));
                let context = format!("{lock:?} {sync}: {directory:?} in {trace}");
                assert_eq!(synced > 0, expected, "{context}");
            }
        }
    }
}

#[test]
fn nothing_that_the_destination_names_is_touched_before_the_commit() {
    needs_tool!("strace");
    let sandbox = Sandbox::with("out", "old");
    let trace = trace_of(&sandbox, &[]);
    let rename = trace.only("rename", Call::renames);
    for call in &trace.own()[..rename] {
        let opens_for_writing = call.name.starts_with("open")
            && call.args.contains("\"out\"")
            && ["O_WRONLY", "O_RDWR", "O_TRUNC", "O_CREAT"]
                .iter()
                .any(|flag| call.args.contains(flag));
        let removes = matches!(
            call.name.as_str(),
            "unlink" | "unlinkat" | "rename" | "renameat" | "truncate" | "ftruncate"
        ) && call.args.contains("\"out\"");
        assert!(!opens_for_writing && !removes, "{call:?} in {trace}");
    }
}
