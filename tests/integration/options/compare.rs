//! `-C, --compare`: a DEST that has the content already, and the mode, owner and group asked for, is left alone.
//!
//! Inode and mtime stay; status 0, or N with `--unchanged-status N`. With `--sync` not `none` the existing DEST is fsynced,
//! and with `full` its directory, so that status 0 means durable here too. It is compared while the input comes; a SOURCE
//! of another size is not read twice.

use crate::harness::{Call, NOBODY, Sandbox, Strace, Trace, needs_root, needs_tool, skip};

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
        sandbox
            .run("-C --allow-empty out")
            .stdin(content.clone())
            .leaves_alone(0);
        sandbox.run("--compare in out").leaves_alone(0);
        sandbox.run("-C out out").leaves_alone(0);
        sandbox
            .run("-C --allow-empty out")
            .stdin_from(crate::harness::open(sandbox.path("in")))
            .leaves_alone(0);
        sandbox.run("-C out -- cat in").leaves_alone(0);
        let said = format!("unchanged 'out' ({} bytes)", content.len());
        sandbox.run("-vC in out").says(said).leaves_alone(0);
        sandbox.run("-aC out").stdin("").leaves_alone(0);
    }
}

#[test]
fn other_content_replaces() {
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
        for form in ["stdin", "SOURCE", "a regular stdin", "COMMAND"] {
            let sandbox = Sandbox::with("out", &old);
            sandbox.write("in", &new);
            let inode = sandbox.inode("out");
            let run = match form {
                "stdin" => sandbox.run("-vC out").stdin(new.clone()),
                "SOURCE" => sandbox.run("-vC in out"),
                "COMMAND" => sandbox.run("-vC out -- cat in"),
                _ => sandbox
                    .run("-vC out")
                    .stdin_from(crate::harness::open(sandbox.path("in"))),
            };
            run.says("replaced").succeeds();
            assert!(sandbox.read("out") == new, "{form}");
            assert_ne!(sandbox.inode("out"), inode);
        }
    }
}

#[test]
fn a_dest_that_does_not_exist_is_made() {
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
        let option = format!("--unchanged-status={status}");
        // It implies -C.
        sandbox
            .atomwrite([&*option, "out"])
            .stdin("same")
            .leaves_alone(status);
        sandbox
            .atomwrite(["-Cv", &*option, "out"])
            .stdin("same")
            .says("unchanged 'out' (4 bytes)")
            .leaves_alone(status);
    }
    sandbox
        .run("--unchanged-status=7 out")
        .stdin("other")
        .succeeds();
    sandbox.run("--unchanged-status=7 missing out").fails(1);
}

#[test]
fn a_link_is_followed_and_kept() {
    let sandbox = Sandbox::with("target", "same");
    sandbox.symlink("target", "out");
    sandbox.run("-C out").stdin("same").leaves_alone(0);
    // The link itself is not that content.
    sandbox
        .run("-C --no-dereference out")
        .stdin("same")
        .succeeds();
    assert!(sandbox.stat("out").is_file());
}

#[test]
fn guards_hold_for_equal_content_too() {
    let sandbox = Sandbox::with("out", "same");
    sandbox.run("-nC out").stdin("same").fails_with(3, "exists");
    sandbox
        .run("-C --validate 'exit 1' out")
        .stdin("same")
        .fails(3);
    sandbox
        .atomwrite(["-C", "--sha256", &"0".repeat(64), "out"])
        .stdin("same")
        .fails(3);
    sandbox
        .run("-C --validate 'exit 0' out")
        .stdin("same")
        .leaves_alone(0);
    sandbox.write("out", "");
    sandbox.run("-C --no-empty out").stdin("").fails(3);
    sandbox.run("-C out -- sh -c 'exit 9'").fails(9);
}

#[test]
fn a_mode_that_differs_replaces() {
    let sandbox = Sandbox::with("out", "same");
    sandbox.run("-C -m 644 out").stdin("same").leaves_alone(0);
    sandbox.run("-C -m go=r out").stdin("same").leaves_alone(0);
    let inode = sandbox.inode("out");
    sandbox.run("-C -m 600 out").stdin("same").succeeds();
    assert_ne!(sandbox.inode("out"), inode);
    assert_eq!(sandbox.mode("out"), 0o600);
    // What was not asked for does not count: the umask, or SOURCE's mode.
    sandbox.write_with_mode("in", "same", 0o755);
    sandbox.run("-C in out").leaves_alone(0);
    sandbox
        .run("-C --keep=none out")
        .stdin("same")
        .leaves_alone(0);
}

#[test]
fn an_owner_or_a_group_that_differs_replaces() {
    needs_root!();
    let sandbox = Sandbox::with("out", "same");
    sandbox.chown("out", 1000, 1001);
    for same in [
        &["-o", "1000"][..],
        &["-g", "1001"],
        &["-o", "1000", "-g", "1001", "-m", "644"],
    ] {
        let words = same.iter().copied().chain(["-C", "out"]);
        sandbox.atomwrite(words).stdin("same").leaves_alone(0);
    }
    for (other, owner) in [
        (&["-o", "1002"][..], (1002, 1001)),
        (&["-g", "1003"], (1002, 1003)),
        (&["-o", "0", "-g", "0"], (0, 0)),
    ] {
        let inode = sandbox.inode("out");
        let words = other.iter().copied().chain(["-C", "out"]);
        sandbox.atomwrite(words).stdin("same").succeeds();
        assert_eq!(sandbox.owner("out"), owner);
        assert_ne!(sandbox.inode("out"), inode);
    }
}

#[test]
fn what_is_left_alone_makes_no_backup() {
    let sandbox = Sandbox::with("out", "same");
    sandbox.run("-Cb out").stdin("same").leaves_alone(0);
    sandbox
        .run("-Cb out")
        .stdin("other")
        .leaves(["out", "out~"])
        .succeeds();
}

#[test]
fn a_dest_that_cannot_be_read_is_replaced() {
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
fn a_dest_that_fails_to_be_read_is_an_error() {
    needs_tool!("strace");
    let sandbox = Sandbox::with("out", "same");
    let strace = Strace::new().inject("pread64:error=EIO");
    let done = sandbox.run("-C out").stdin("same").under(&strace).output();
    // The loader reads by the same call, before `main`; so it may not even start.
    assert_ne!(done.code(), Some(0), "{done:?}");
    assert_eq!(sandbox.text("out"), "same");
    assert_eq!(sandbox.names(), ["out"]);
}

// ---- Calls -----------------------------------------------------------------------------------------------------

fn trace(sandbox: &Sandbox, words: &[&str], stdin: Option<&[u8]>, unchanged: bool) -> Trace {
    let strace = Strace::new();
    let run = sandbox.atomwrite(words.to_vec()).under(&strace);
    let run = match stdin {
        Some(stdin) => run.stdin(stdin),
        None => run,
    };
    if unchanged {
        run.leaves_alone(0);
    } else {
        run.succeeds();
    }
    strace.trace()
}

#[test]
fn what_is_left_alone_is_synced_as_what_is_new() {
    needs_tool!("strace");
    for (option, file, directory) in [
        ("--sync=full", 1, 1),
        ("--sync=file", 1, 0),
        ("--sync=none", 0, 0),
    ] {
        let sandbox = Sandbox::with("out", "same");
        let trace = trace(&sandbox, &["-C", option, "out"], Some(b"same"), true);
        let of_dest = |call: &Call| call.is("fsync") && call.args.ends_with("/out>");
        let root = format!("{}>", sandbox.root().display());
        let of_directory = |call: &Call| call.is("fsync") && call.args.ends_with(&root);
        assert_eq!(trace.count(of_dest), file, "{option} {trace}");
        assert_eq!(trace.count(of_directory), directory, "{option} {trace}");
        // And nothing is made durable that is thrown away.
        assert_eq!(
            trace.count(|call| call.is("fsync")),
            file + directory,
            "{option} {trace}"
        );
        assert_eq!(trace.count(|call| call.is("sync_file_range")), 0);
        assert_eq!(trace.count(Call::renames), 0);
        assert_eq!(trace.count(Call::links), 0);
    }
}

#[test]
fn what_cannot_be_made_durable_is_not_reported_as_unchanged() {
    needs_tool!("strace");
    for directory in [false, true] {
        let sandbox = Sandbox::new();
        let dest = sandbox.write("out", "same");
        let path = if directory { sandbox.root() } else { &dest };
        let strace = Strace::new().at(path).inject("fsync:error=EIO");
        sandbox
            .run("-C out")
            .stdin("same")
            .under(&strace)
            .fails_with(1, "'out'");
    }
}

#[test]
fn a_pipe_is_compared_while_it_comes_and_neither_file_is_read_twice() {
    needs_tool!("strace");
    let sandbox = Sandbox::new();
    let content = large();
    sandbox.write("out", &content);
    let trace = trace(
        &sandbox,
        &["-C", "--sync=none", "out"],
        Some(&content),
        true,
    );
    let bytes = |name: &str, part: &str| -> u64 {
        let calls = trace.own().iter();
        let calls = calls.filter(|call| call.is(name) && call.args.contains(part));
        calls.map(|call| call.result.parse::<u64>().unwrap()).sum()
    };
    let size = content.len() as u64;
    assert_eq!(bytes("read", "0<pipe"), size, "{trace}");
    // DEST is read once, up to where the pieces do not fit together.
    assert!(bytes("pread64", "/out>") <= size * 2, "{trace}");
    assert_eq!(bytes("pread64", "(deleted)"), 0, "{trace}");
}

#[test]
fn a_source_of_another_size_is_not_read_twice() {
    needs_tool!("strace");
    let sandbox = Sandbox::new();
    let content = large();
    sandbox.write("in", &content);
    sandbox.write("out", &content[1..]);
    let trace = trace(&sandbox, &["-C", "--sync=none", "in", "out"], None, false);
    let reads = |call: &Call| call.is("read") || call.is("pread64");
    let read = trace
        .own()
        .iter()
        .filter(|call| reads(call) && call.args.contains("out>"))
        .count();
    assert_eq!(read, 0, "{trace}");
    let of_new = trace
        .own()
        .iter()
        .filter(|call| reads(call) && call.args.contains("(deleted)"))
        .count();
    assert_eq!(of_new, 0, "{trace}");
}

#[test]
fn a_first_difference_ends_the_reading_of_dest() {
    needs_tool!("strace");
    let sandbox = Sandbox::new();
    let content = vec![b'x'; 8 << 20];
    let mut old = content.clone();
    old[10] = b'y';
    sandbox.write("out", &old);
    let trace = trace(
        &sandbox,
        &["-C", "--sync=none", "out"],
        Some(&content),
        false,
    );
    let read: u64 = trace
        .own()
        .iter()
        .filter(|call| call.is("pread64") && call.args.contains("out>"))
        .map(|call| call.result.parse::<u64>().unwrap())
        .sum();
    assert!(read <= 1 << 20, "{read} bytes");
}

#[test]
fn an_acl_is_no_obstacle() {
    needs_tool!("setfacl");
    let sandbox = Sandbox::with("out", "same");
    if !sandbox.setfacl("out", &["-m", "u:1000:rw"]) {
        skip!("the filesystem has no ACLs");
    }
    sandbox.run("-C out").stdin("same").leaves_alone(0);
    let mode = format!("{:o}", sandbox.mode("out"));
    sandbox
        .atomwrite(["-C", "-m", &mode, "out"])
        .stdin("same")
        .leaves_alone(0);
}
