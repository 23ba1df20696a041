//! `--create-dirs` creates missing parents.

use std::ffi::OsString;

use rustix::process::Signal;

use crate::harness::{NOBODY, Sandbox, each, needs_root, needs_tool, tool};

#[test]
fn creates_missing_parents() {
    let sandbox = Sandbox::new();
    let run = sandbox.run("-D a/b/c/out").umask(0o027).stdin("new");
    run.leaves(["a", "a/b", "a/b/c", "a/b/c/out"]).writes("new");
    for directory in ["a", "a/b", "a/b/c"] {
        assert_eq!(sandbox.mode(directory), 0o750, "{directory}");
    }
    assert_eq!(sandbox.mode("a/b/c/out"), 0o640);
    // The parents exist now.
    let run = sandbox.run("--create-dirs a/b/c/out").stdin("newer");
    run.succeeds();
    sandbox.run("--create-dirs out").stdin("here").succeeds();
    sandbox
        .run("-D out a/x/y")
        .leaves(["a", "a/b", "a/b/c", "a/b/c/out", "a/x", "a/x/y", "out"])
        .writes("here");
}

#[test]
fn creates_the_missing_parents_of_any_path() {
    let root = "$PWD";
    let cases = [
        ("", "--sync=none -D $PWD/a/b/out", "a/ a/b/ a/b/out=new"),
        ("", "--sync=file -D $PWD/a/b/out", "a/ a/b/ a/b/out=new"),
        ("", "--sync=full -D $PWD/a/b/out", "a/ a/b/ a/b/out=new"),
        // A dangling link, and a path with dots.
        (
            "mkdir d; ln -s ../e/f/target d/link",
            "-D d/link",
            "d/ d/link->../e/f/target e/ e/f/ e/f/target=new",
        ),
        (
            "mkdir -p a/b",
            "-D a/b/../c/./d//out",
            "a/ a/b/ a/c/ a/c/d/ a/c/d/out=new",
        ),
    ];
    each(cases, |(set_up, line, left)| {
        let sandbox = Sandbox::new();
        sandbox.sh(set_up);
        let line = line.replace(root, sandbox.root().to_str().unwrap());
        let done = sandbox.run(&line).stdin("new").output();
        assert_eq!((done.code(), &*done.stderr), (Some(0), ""));
        assert_eq!(sandbox.listing(), left);
    });
}

#[test]
fn refuses_dot_dot_after_a_missing_parent_and_a_file_as_parent() {
    let sandbox = Sandbox::with("file", "old");
    sandbox.sh("mkdir there; ln -s nowhere dangling");
    sandbox.refuse_each(&[
        // A directory that does not exist has no parent. Writing elsewhere would be a guess.
        ("-D nosuch/../out", 1, "'nosuch/../out'"),
        ("-D nosuch/../b/out", 1, "'nosuch/../b/out'"),
        ("-D there/nosuch/../../out", 1, "'there/nosuch/../../out'"),
        ("-D a/b/../../c/out", 1, "'a/b/../../c/out'"),
        ("-D file/out", 1, "not a directory"),
        ("-D file/a/out", 1, "not a directory"),
    ]);
    // A dangling link is not a directory, and atomwrite does not create its target.
    sandbox.fail_each(&[("-D dangling/out", "new", 1, "'dangling/out'")]);
}

#[test]
fn creates_no_parents_if_the_run_fails() {
    let sandbox = Sandbox::with("empty", "");
    sandbox.fail_each(&[
        ("-D missing a/b/out", "", 1, "'missing'"),
        ("-D --no-empty a/b/out", "", 3, "empty"),
        ("-D --no-empty empty a/b/out", "", 3, "empty"),
        ("-D a/b/", "new", 1, "'a/b/'"),
        ("-D a/b/.", "new", 1, "'a/b/.'"),
    ]);
    let run = sandbox.run("-D a/b/out").stdin(vec![b'x'; 100_000]);
    run.file_size_limit(50_000).fails_with(1, "too large");
}

#[test]
fn creates_no_parents_before_the_commit() {
    for signal in [Signal::TERM, Signal::INT, Signal::HUP, Signal::KILL] {
        let sandbox = Sandbox::new();
        let mut run = sandbox.run("-D a/b/out").stdin_held().start();
        run.feed("half");
        assert_eq!(sandbox.names_besides_drafts(), [""; 0]);
        run.signal(signal);
        assert_eq!(run.wait().signal(), Some(signal.as_raw()));
        assert_eq!(sandbox.names_besides_drafts(), [""; 0]);
    }
}

#[test]
fn fails_if_parents_may_not_be_created() {
    needs_root!();
    let sandbox = Sandbox::new();
    let run = sandbox.run("-D a/b/out").by_nobody().stdin("new");
    run.says("'a/b/out'").fails_with(1, "permission denied");
}

#[test]
fn removes_parents_that_the_umask_makes_inaccessible() {
    needs_root!();
    let sandbox = Sandbox::new();
    sandbox.give_to(NOBODY, NOBODY);
    for umask in [0o777, 0o333] {
        let run = sandbox.run("-D a/b/c/out").umask(umask);
        let done = run.by_nobody().stdin("new").output();
        // mkdir -p opens those on the way to their owner, and so it may succeed; but it may not
        // break off halfway.
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
fn concurrent_runs_create_the_same_missing_parents() {
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
fn missing_parents_inherit_group_and_default_acl() {
    needs_root!();
    needs_tool!("setfacl");
    let sandbox = Sandbox::new();
    sandbox.mkdir("d");
    sandbox.chown("d", 0, 1001);
    sandbox.chmod("d", 0o2755);
    if !sandbox.setfacl("d", &["-d", "-m", "u:1000:rwx"]) {
        crate::harness::skip!("the filesystem has no ACLs");
    }
    sandbox.sh("mkdir reference; cp -a d reference; umask 027; mkdir -p reference/d/a/b; : >reference/d/a/b/out");
    let mut expected = sandbox.names();
    expected.extend(["d/a", "d/a/b", "d/a/b/out"].map(OsString::from));
    let run = sandbox.run("-D d/a/b/out").umask(0o027).stdin("new");
    run.leaves(expected).succeeds();
    for name in ["d/a", "d/a/b", "d/a/b/out"] {
        let reference = format!("reference/{name}");
        assert_eq!(sandbox.owner(name), sandbox.owner(&reference), "{name}");
        assert_eq!(sandbox.mode(name), sandbox.mode(&reference), "{name}");
        assert_eq!(sandbox.acl(name), sandbox.acl(&reference), "{name}");
    }
}
