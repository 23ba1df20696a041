//! `--create-dirs` makes missing parents.

use std::ffi::OsString;
use std::path::Path;

use rustix::process::Signal;

use crate::harness::{NOBODY, Sandbox, Witness, needs_root, needs_tool, tool};

#[test]
fn makes_missing_parents_when_told() {
    let sandbox = Sandbox::new();
    sandbox
        .atomwrite(["-D", "a/b/c/out"])
        .umask(0o027)
        .stdin("new")
        .leaves(["a", "a/b", "a/b/c", "a/b/c/out"])
        .succeeds();
    assert_eq!(sandbox.text("a/b/c/out"), "new");
    for directory in ["a", "a/b", "a/b/c"] {
        assert_eq!(sandbox.mode(directory), 0o750, "{directory}");
    }
    assert_eq!(sandbox.mode("a/b/c/out"), 0o640);
    // They are there now.
    sandbox
        .atomwrite(["--create-dirs", "a/b/c/out"])
        .stdin("newer")
        .succeeds();
    sandbox
        .atomwrite(["--create-dirs", "out"])
        .stdin("here")
        .succeeds();
    sandbox
        .atomwrite(["-D", "out", "a/x/y"])
        .leaves(["a", "a/b", "a/b/c", "a/b/c/out", "a/x", "a/x/y", "out"])
        .succeeds();
    assert_eq!(sandbox.text("a/x/y"), "here");
}

#[test]
fn makes_missing_parents_with_every_sync_and_an_absolute_path() {
    for sync in ["none", "file", "full"] {
        let sandbox = Sandbox::new();
        let dest = sandbox.path("a/b/out");
        sandbox
            .atomwrite([
                OsString::from(format!("--sync={sync}")),
                "-D".into(),
                dest.into(),
            ])
            .stdin("new")
            .leaves(["a", "a/b", "a/b/out"])
            .succeeds();
        assert_eq!(sandbox.text("a/b/out"), "new");
    }
}

#[test]
fn makes_missing_parents_of_a_dangling_links_target() {
    let sandbox = Sandbox::new();
    sandbox.mkdir("d");
    sandbox.symlink("../e/f/target", "d/link");
    sandbox
        .atomwrite(["-D", "d/link"])
        .stdin("new")
        .leaves(["d", "d/link", "e", "e/f", "e/f/target"])
        .succeeds();
    assert_eq!(sandbox.text("e/f/target"), "new");
}

#[test]
fn makes_missing_parents_in_a_path_with_dots() {
    let sandbox = Sandbox::new();
    sandbox.mkdir("a/b");
    sandbox
        .atomwrite(["-D", "a/b/../c/./d//out"])
        .stdin("new")
        .leaves(["a", "a/b", "a/c", "a/c/d", "a/c/d/out"])
        .succeeds();
    assert_eq!(sandbox.text("a/c/d/out"), "new");
}

#[test]
fn does_not_go_back_from_a_parent_that_is_missing() {
    // What is above a directory that does not exist? To write elsewhere would be a guess, so it is refused.
    let sandbox = Sandbox::new();
    sandbox.mkdir("there");
    for dest in [
        "nosuch/../out",
        "nosuch/../b/out",
        "there/nosuch/../../out",
        "a/b/../../c/out",
    ] {
        let input = Witness::new();
        sandbox
            .atomwrite(["-D", dest])
            .stdin_from(input.input())
            .says(format!("'{dest}'"))
            .fails(1);
        input.has_not_been_read();
    }
}

#[test]
fn fails_with_a_file_in_the_way_of_a_parent() {
    let sandbox = Sandbox::new();
    sandbox.write("file", "old");
    sandbox.symlink("nowhere", "dangling");
    for dest in ["file/out", "file/a/out"] {
        let input = Witness::new();
        sandbox
            .atomwrite(["-D", dest])
            .stdin_from(input.input())
            .says("not a directory")
            .fails(1);
        input.has_not_been_read();
    }
    // A link to nowhere is no directory, and not ours to make one.
    sandbox
        .atomwrite(["-D", "dangling/out"])
        .stdin("new")
        .fails(1);
}

#[test]
fn makes_no_parents_when_the_run_fails() {
    let sandbox = Sandbox::new();
    sandbox.write("empty", "");
    sandbox
        .atomwrite(["-D", "missing", "a/b/out"])
        .says("'missing'")
        .fails(1);
    sandbox
        .atomwrite(["-D", "--no-empty", "a/b/out"])
        .stdin("")
        .fails(3);
    sandbox
        .atomwrite(["-D", "--no-empty", "empty", "a/b/out"])
        .fails(3);
    sandbox.atomwrite(["-D", "a/b/"]).stdin("new").fails(1);
    sandbox.atomwrite(["-D", "a/b/."]).stdin("new").fails(1);
    sandbox
        .atomwrite(["-D", "a/b/out"])
        .stdin(vec![b'x'; 100_000])
        .file_size_limit(50_000)
        .says("too large")
        .fails(1);
}

#[test]
fn makes_no_parents_before_the_commit() {
    for signal in [Signal::TERM, Signal::INT, Signal::HUP, Signal::KILL] {
        let sandbox = Sandbox::new();
        let mut run = sandbox.atomwrite(["-D", "a/b/out"]).stdin_held().start();
        run.feed("half");
        assert!(sandbox.names().is_empty());
        run.signal(signal);
        assert_eq!(run.wait().signal(), Some(signal.as_raw()));
        assert!(sandbox.names().is_empty());
    }
}

#[test]
fn fails_where_parents_may_not_be_made() {
    needs_root!();
    let sandbox = Sandbox::new();
    sandbox
        .atomwrite(["-D", "a/b/out"])
        .user(NOBODY, NOBODY, &[])
        .stdin("new")
        .says("'a/b/out'")
        .says("permission denied")
        .fails(1);
}

#[test]
fn leaves_no_parents_where_the_umask_shuts_it_out_of_them() {
    needs_root!();
    let sandbox = Sandbox::new();
    sandbox.give_to(NOBODY, NOBODY);
    for umask in [0o777, 0o333] {
        let run = sandbox.atomwrite(["-D", "a/b/c/out"]).umask(umask);
        let done = run.user(NOBODY, NOBODY, &[]).stdin("new").output();
        // mkdir -p opens those on the way to their owner, and so it may succeed; but it may not break off halfway.
        if done.code() == Some(0) {
            assert_eq!(sandbox.names(), ["a", "a/b", "a/b/c", "a/b/c/out"]);
            tool("rm", ["-r".as_ref(), sandbox.path("a").as_os_str()]);
        } else {
            assert_eq!(done.code(), Some(1), "{done:?}");
            assert!(sandbox.names().is_empty());
        }
    }
}

#[test]
fn makes_the_same_missing_parents_for_many_at_once() {
    let sandbox = Sandbox::new();
    let mut runs: Vec<_> = (0..20)
        .map(|index| {
            let dest = format!("a/b/c/{index:02}");
            let run = sandbox.atomwrite(["--sync=none", "-D", &dest]);
            run.stdin_held().start()
        })
        .collect();
    for run in &mut runs {
        run.feed("new");
    }
    for run in &mut runs {
        run.close_stdin();
    }
    for run in runs {
        let done = run.wait();
        assert_eq!((done.code(), done.stderr.as_str()), (Some(0), ""));
    }
    assert_eq!(sandbox.names().len(), 3 + 20);
}

#[test]
fn gives_missing_parents_what_their_parent_hands_down() {
    needs_root!();
    needs_tool!("setfacl");
    let sandbox = Sandbox::new();
    sandbox.mkdir("d");
    sandbox.chown("d", 0, 1001);
    sandbox.chmod("d", 0o2755);
    if !sandbox.setfacl("d", &["-d", "-m", "u:1000:rwx"]) {
        crate::harness::skip!("the filesystem has no ACLs");
    }
    sandbox.mkdir("reference");
    tool(
        "cp",
        [
            Path::new("-a"),
            &sandbox.path("d"),
            &sandbox.path("reference"),
        ],
    );
    tool(
        "sh",
        [
            "-c",
            "umask 027; mkdir -p \"$0/a/b\"; : >\"$0/a/b/out\"",
            sandbox.path("reference/d").to_str().unwrap(),
        ],
    );
    let mut expected = sandbox.names();
    expected.extend(["d/a", "d/a/b", "d/a/b/out"].map(OsString::from));
    sandbox
        .atomwrite(["-D", "d/a/b/out"])
        .umask(0o027)
        .stdin("new")
        .leaves(expected)
        .succeeds();
    for name in ["d/a", "d/a/b", "d/a/b/out"] {
        let reference = format!("reference/{name}");
        assert_eq!(sandbox.owner(name), sandbox.owner(&reference), "{name}");
        assert_eq!(sandbox.mode(name), sandbox.mode(&reference), "{name}");
        assert_eq!(sandbox.acl(name), sandbox.acl(&reference), "{name}");
    }
}
