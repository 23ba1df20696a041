//! `-C, --compare`: a DEST that already has the content, and the requested mode, owner and group,
//! is left alone.
//!
//! Its inode and mtime stay, and the status is 0, or N with `--unchanged-status N`. Unless `--sync`
//! is `none`, the existing DEST is fsynced, and with `full` its directory too, so that status 0
//! means durable here as well. DEST is compared while the input arrives; a SOURCE of another size
//! is not read twice.

use crate::harness::{
    Call, NOBODY, Run, Sandbox, Strace, Trace, linux_only, needs_root, needs_tool, open, skip,
};

/// 3 MiB that are not all the same: more than any buffer.
fn large() -> Vec<u8> {
    (0..3_000_001_u32)
        .map(|at| u8::try_from(at % 251).unwrap())
        .collect()
}

#[test]
fn equal_content_leaves_dest_alone() {
    for content in [b"same".to_vec(), Vec::new(), large()] {
        let sandbox = Sandbox::with("out", &content);
        sandbox.write("in", &content);
        let run = |line| sandbox.run(line);
        let piped = run("-C --allow-empty out").stdin(content.clone());
        piped.leaves_alone(0);
        let redirected = run("-C --allow-empty out");
        let redirected = redirected.stdin_from(open(sandbox.path("in")));
        redirected.leaves_alone(0);
        run("--compare in out").leaves_alone(0);
        run("-C out out").leaves_alone(0);
        run("-C out -- cat in").leaves_alone(0);
        let said = format!("unchanged 'out' ({} bytes)", content.len());
        run("-vC in out").says(said).leaves_alone(0);
        run("-aC out").stdin("").leaves_alone(0);
    }
}

#[test]
fn different_content_replaces_dest() {
    let large = large();
    let mut end = large.clone();
    *end.last_mut().unwrap() ^= 1;
    let mut begin = large.clone();
    begin[0] ^= 1;
    for (old, new) in [
        (b"old".to_vec(), b"new".to_vec()),
        (b"old".to_vec(), b"older".to_vec()),
        (b"older".to_vec(), b"old".to_vec()),
        (Vec::new(), b"new".to_vec()),
        (large.clone(), end),
        (large.clone(), begin),
        (large.clone(), large[..large.len() - 1].to_vec()),
        (large.clone(), [&large[..], b"x"].concat()),
        (large.clone(), b"x".to_vec()),
        (b"x".to_vec(), large),
    ] {
        for (line, is_piped) in [
            ("-vC out", true),
            ("-vC out", false),
            ("-vC in out", false),
            ("-vC out -- cat in", false),
        ] {
            let sandbox = Sandbox::with("out", &old);
            let redirected = open(sandbox.write("in", &new));
            let inode = sandbox.inode("out");
            let run = sandbox.run(line).says("replaced");
            if is_piped {
                run.stdin(new.clone()).succeeds();
            } else {
                run.stdin_from(redirected).succeeds();
            }
            assert!(sandbox.read("out") == new, "{line}");
            assert_ne!(sandbox.inode("out"), inode);
        }
    }
}

#[test]
fn a_dest_that_does_not_exist_is_created() {
    let sandbox = Sandbox::new();
    sandbox.run("-C out").stdin("new").succeeds();
    sandbox.run("-C /dev/null empty").succeeds();
    sandbox
        .run("-CD a/b/out")
        .stdin("new")
        .leaves(["a", "a/b", "a/b/out", "empty", "out"])
        .succeeds();
    sandbox.symlink("target", "dangling");
    sandbox
        .run("-C dangling")
        .stdin("new")
        .leaves(["a", "a/b", "a/b/out", "dangling", "empty", "out", "target"])
        .succeeds();
}

#[test]
fn the_status_for_unchanged_is_the_one_that_was_asked_for() {
    let sandbox = Sandbox::with("out", "same");
    for status in [0, 1, 3, 7, 255] {
        // It implies -C.
        for (line, said) in [
            ("out", None),
            ("-Cv out", Some("unchanged 'out' (4 bytes)")),
        ] {
            let line = format!("--unchanged-status={status} {line}");
            let run = sandbox.run(&line).stdin("same");
            let run = said.into_iter().fold(run, Run::says);
            run.leaves_alone(status);
        }
    }
    let run = |line| sandbox.run(line).stdin("other");
    run("--unchanged-status=7 out").succeeds();
    run("--unchanged-status=7 missing out").fails(1);
}

#[test]
fn a_link_is_followed_and_kept() {
    let sandbox = Sandbox::with("target", "same");
    sandbox.symlink("target", "out");
    sandbox.run("-C out").stdin("same").leaves_alone(0);
    // The link itself is not that content.
    let run = sandbox.run("-C --no-dereference out").stdin("same");
    run.succeeds();
    assert!(sandbox.stat("out").is_file());
}

#[test]
fn guards_hold_for_equal_content_too() {
    let sandbox = Sandbox::with("out", "same");
    sandbox.write("empty", "");
    let sum = format!("-C --sha256 {:064} out", 0);
    sandbox.fail_each(&[
        ("-nC out", "same", 3, "exists"),
        ("-C --validate 'exit 1' out", "same", 3, "validator"),
        (&sum, "same", 3, "SHA-256"),
        ("-C --no-empty empty", "", 3, "--no-empty"),
        ("-C empty -- sh -c 'exit 9'", "", 9, "status 9"),
    ]);
    let run = sandbox.run("-C --validate 'exit 0' out");
    run.stdin("same").leaves_alone(0);
}

#[test]
fn a_different_mode_replaces_dest() {
    let sandbox = Sandbox::with("out", "same");
    // Only requested attributes count, not the umask or SOURCE's mode.
    sandbox.write_with_mode("in", "same", 0o755);
    for line in [
        "-C -m 644 out",
        "-C -m go=r out",
        "-C in out",
        "-C --keep=none out",
    ] {
        sandbox.run(line).stdin("same").leaves_alone(0);
    }
    let inode = sandbox.inode("out");
    sandbox.run("-C -m 600 out").stdin("same").succeeds();
    assert_ne!(sandbox.inode("out"), inode);
    assert_eq!(sandbox.mode("out"), 0o600);
}

#[test]
fn a_different_owner_or_group_replaces_dest() {
    needs_root!();
    let sandbox = Sandbox::with("out", "same");
    sandbox.chown("out", 1000, 1001);
    for same in ["-o 1000", "-g 1001", "-o 1000 -g 1001 -m 644"] {
        let run = sandbox.run(&format!("{same} -C out"));
        run.stdin("same").leaves_alone(0);
    }
    for (other, owner) in [
        ("-o 1002", (1002, 1001)),
        ("-g 1003", (1002, 1003)),
        ("-o 0 -g 0", (0, 0)),
    ] {
        let inode = sandbox.inode("out");
        let run = sandbox.run(&format!("{other} -C out"));
        run.stdin("same").succeeds();
        assert_eq!(sandbox.owner("out"), owner);
        assert_ne!(sandbox.inode("out"), inode);
    }
}

#[test]
fn an_unchanged_dest_gets_no_backup() {
    let sandbox = Sandbox::with("out", "same");
    sandbox.run("-Cb out").stdin("same").leaves_alone(0);
    let run = sandbox.run("-Cb out").stdin("other");
    run.leaves(["out", "out~"]).succeeds();
}

#[test]
fn a_dest_that_cannot_be_read_is_replaced() {
    linux_only!("ways to what may not be read");
    needs_root!();
    let sandbox = Sandbox::new();
    sandbox.give_to(NOBODY, NOBODY);
    for new in ["same", "other"] {
        sandbox.write_with_mode("out", "same", 0o200);
        sandbox.chown("out", NOBODY, NOBODY);
        let inode = sandbox.inode("out");
        sandbox.run("-C out").by_nobody().stdin(new).succeeds();
        assert_eq!(sandbox.text("out"), new);
        assert_ne!(sandbox.inode("out"), inode);
        assert_eq!(sandbox.mode("out"), 0o200);
    }
}

#[test]
fn a_read_error_of_dest_is_an_error() {
    needs_tool!("strace");
    let sandbox = Sandbox::with("out", "same");
    let strace = Strace::new().inject("pread64:error=EIO");
    let done = sandbox.run("-C out").stdin("same").under(&strace).output();
    // The loader reads by the same call, before `main`; so it may not even start.
    assert_ne!(done.code(), Some(0), "{done:?}");
    assert_eq!(sandbox.listing(), "out=same");
}

// ---- Calls ----

/// How many bytes the calls of that name return that have this among their arguments.
fn bytes(trace: &Trace, name: &str, part: &str) -> u64 {
    let calls = trace.own().iter();
    let calls = calls.filter(|call| call.is(name) && call.args.contains(part));
    calls.map(|call| call.result.parse::<u64>().unwrap()).sum()
}

#[test]
fn an_unchanged_dest_is_synced_like_a_new_one() {
    needs_tool!("strace");
    for (option, file, directory) in [
        ("--sync=full", 1, 1),
        ("--sync=file", 1, 0),
        ("--sync=none", 0, 0),
    ] {
        let sandbox = Sandbox::with("out", "same");
        let run = sandbox.run(&format!("-C {option} out"));
        let trace = run.stdin("same").traced();
        let root = format!("{}>", sandbox.root().display());
        let syncs = |path: &str| trace.count(|call| call.is("fsync") && call.args.ends_with(path));
        assert_eq!((syncs("/out>"), syncs(&root)), (file, directory), "{trace}");
        // A file that is discarded is not synced.
        assert_eq!(syncs(""), file + directory, "{trace}");
        let others = |call: &Call| call.is("sync_file_range") || call.renames() || call.links();
        assert_eq!(trace.count(others), 0, "{trace}");
    }
}

#[test]
fn an_unchanged_dest_that_cannot_be_synced_is_an_error() {
    needs_tool!("strace");
    for path in ["", "out"] {
        let sandbox = Sandbox::with("out", "same");
        let path = sandbox.path(path);
        let strace = Strace::new().at(path).inject("fsync:error=EIO");
        let run = sandbox.run("-C out").stdin("same").under(&strace);
        run.fails_with(1, "'out'");
    }
}

#[test]
fn a_source_of_another_size_is_not_read_twice() {
    needs_tool!("strace");
    let content = large();
    let sandbox = Sandbox::with("out", &content[1..]);
    sandbox.write("in", &content);
    let trace = sandbox.run("-C --sync=none in out").traced();
    for call in ["read", "pread64"] {
        assert_eq!(bytes(&trace, call, "out>"), 0, "{trace}");
        assert_eq!(bytes(&trace, call, "(deleted)"), 0, "{trace}");
    }
}

#[test]
fn a_first_difference_ends_the_reading_of_dest() {
    needs_tool!("strace");
    let content = vec![b'x'; 8 << 20];
    let mut old = content.clone();
    old[10] = b'y';
    let sandbox = Sandbox::with("out", old);
    let trace = sandbox.run("-C --sync=none out").stdin(content).traced();
    assert!(bytes(&trace, "pread64", "out>") <= 1 << 20, "{trace}");
}

#[test]
fn an_equal_file_with_an_acl_is_left_alone() {
    needs_tool!("setfacl");
    let sandbox = Sandbox::with("out", "same");
    if !sandbox.setfacl("out", &["-m", "u:1000:rw"]) {
        skip!("the filesystem has no ACLs");
    }
    sandbox.run("-C out").stdin("same").leaves_alone(0);
    let mode = format!("{:o}", sandbox.mode("out"));
    let run = sandbox.run(&format!("-C -m {mode} out"));
    run.stdin("same").leaves_alone(0);
}
