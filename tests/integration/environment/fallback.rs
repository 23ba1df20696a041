//! Without O_TMPFILE, or if an unnamed file cannot get a name, the temporary file has a name from
//! the start; every other promise holds.
//!
//! The file is in DEST's directory, and has mode 0600 until it is sealed, whatever its mode will
//! be. What the kernel does for a new file on its own (umask, default ACL, a set-gid directory)
//! must have the same result. The tests make linkat fail; filesystems without O_TMPFILE have a
//! module of their own.
//!
//! A filter (seccomp) that refuses fallocate or renameat2 does not fail a run that does not need
//! them.

use std::fs;

use rustix::process::Signal;

use crate::harness::{Sandbox, Strace, kill, needs_tool, skip, wait_until};

/// The temporary names in the sandbox.
fn temporary(sandbox: &Sandbox) -> Vec<String> {
    let names = sandbox.names().into_iter();
    let names = names.map(|name| name.into_string().unwrap());
    names.filter(|name| name.contains(".atomwrite.")).collect()
}

#[test]
fn the_temporary_file_is_hidden_and_private_until_the_commit() {
    needs_tool!("strace");
    for dest in ["old", "new"] {
        let sandbox = Sandbox::new();
        sandbox.write_with_mode("old", "old", 0o666);
        let mut run = sandbox
            .atomwrite(["-m", "777", dest])
            .umask(0)
            .without_linkat()
            .stdin_held()
            .start();
        run.feed("half");
        let names = temporary(&sandbox);
        assert_eq!(names.len(), 1, "{names:?}");
        assert_eq!(sandbox.mode(&names[0]), 0o600);
        assert_eq!(sandbox.text("old"), "old");
        let done = run.wait();
        assert_eq!((done.code(), done.stderr.as_str()), (Some(0), ""));
        assert_eq!(sandbox.text(dest), "half");
        assert_eq!(sandbox.mode(dest), 0o777);
        assert!(temporary(&sandbox).is_empty());
    }
}

#[test]
fn both_inputs_and_all_guards_work() {
    needs_tool!("strace");
    let sandbox = Sandbox::with("in", "from source");
    sandbox.write("empty", "");
    let run = |arguments: &[&str]| sandbox.atomwrite(arguments.to_vec()).without_linkat();
    run(&["out"]).stdin("from stdin").succeeds();
    assert_eq!(sandbox.text("out"), "from stdin");
    run(&["in", "out"]).succeeds();
    assert_eq!(sandbox.text("out"), "from source");
    run(&["out"]).stdin("").fails_with(3, "empty");
    run(&["--no-empty", "empty", "new"]).fails_with(3, "empty");
    run(&["-n", "out"]).stdin("new").fails_with(3, "exists");
    run(&["-n", "new"]).stdin("new").succeeds();
    run(&["missing", "out"]).fails(1);
    run(&["out"])
        .stdin(vec![b'x'; 4096])
        .file_size_limit(1000)
        .fails_with(1, "too large");
    sandbox.symlink("out", "link");
    run(&["link"]).stdin("through the link").succeeds();
    assert_eq!(sandbox.text("out"), "through the link");
    run(&["--no-dereference", "link"]).stdin("new").succeeds();
    assert!(sandbox.stat("link").is_file());
}

#[test]
fn missing_parents_are_created_at_the_commit() {
    needs_tool!("strace");
    let sandbox = Sandbox::new();
    let mut run = sandbox
        .run("-D a/b/out")
        .without_linkat()
        .stdin_held()
        .start();
    run.feed("new");
    assert!(!sandbox.path("a").exists());
    assert_eq!(run.wait().code(), Some(0));
    assert_eq!(sandbox.names(), ["a", "a/b", "a/b/out"]);

    let sandbox = Sandbox::new();
    sandbox
        .run("-D --no-empty a/b/out")
        .without_linkat()
        .fails(3);
}

#[test]
fn a_signal_removes_the_name() {
    needs_tool!("strace");
    for signal in [Signal::TERM, Signal::INT, Signal::HUP] {
        let sandbox = Sandbox::with("out", "old");
        let mut run = sandbox.run("out").without_linkat().stdin_held().start();
        run.feed("half");
        assert_eq!(temporary(&sandbox).len(), 1);
        // strace waits for its child, which must get the signal.
        let children = format!("/proc/{0}/task/{0}/children", run.id());
        let child = fs::read_to_string(children).unwrap();
        kill(&child, signal);
        let done = run.wait();
        assert_eq!(done.signal(), Some(signal.as_raw()), "{done:?}");
        assert_eq!(sandbox.listing(), "out=old");
    }
}

#[test]
fn a_mode_that_is_asked_for_is_applied_to_what_the_file_would_get() {
    needs_tool!("strace");
    for (option, umask, expected) in [("+x", 0o022, 0o755), ("g=u", 0o077, 0o660)] {
        let sandbox = Sandbox::new();
        let run = sandbox.atomwrite(["-m", option, "out"]).umask(umask);
        run.without_linkat().stdin("new").succeeds();
        assert_eq!(sandbox.mode("out"), expected, "{option}");
    }
}

#[test]
fn an_acl_never_gives_more_than_the_mode_that_was_asked_for() {
    // The file has a name: a user whom the ACL names could open it between the ACL and the mode.
    needs_tool!("strace", "setfacl", "getfacl");
    let sandbox = Sandbox::with("out", "old");
    if !sandbox.setfacl("out", &["-m", "u:1000:rw,g:1001:rw,m::rw"]) {
        skip!("the filesystem has no ACLs");
    }
    for (option, mode, mask) in [("600", 0o600, "mask::---"), ("g=r", 0o640, "mask::r--")] {
        // It stops when it has set the list.
        let strace = Strace::new()
            .inject("linkat:error=EOPNOTSUPP")
            .inject("fsetxattr:signal=SIGSTOP");
        let running = sandbox
            .atomwrite(["-m", option, "out"])
            .stdin("new")
            .under(&strace)
            .start();
        wait_until("it has set the ACL", || strace.has_stopped());
        let names = temporary(&sandbox);
        assert_eq!(names.len(), 1, "{names:?}");
        let acl = sandbox.acl(&names[0]);
        assert!(acl.contains("user:1000:rw-"), "{acl}");
        assert!(acl.lines().any(|line| line.starts_with(mask)), "{acl}");
        let program = fs::read_to_string(format!("/proc/{0}/task/{0}/children", running.id()));
        kill(&program.unwrap(), Signal::CONT);
        assert_eq!(running.wait().code(), Some(0));
        assert_eq!(sandbox.mode("out"), mode);
        assert_eq!(sandbox.text("out"), "new");
        sandbox.setfacl("out", &["-m", "m::rw"]);
    }
}

/// Every form of a write, each to a DEST that is there and to one that is not.
fn writes_in_every_form(sandbox: &Sandbox, refused: &str) {
    let large = "new\n".repeat(100_000);
    sandbox.mkdir("s");
    sandbox.mkdir("d");
    sandbox.write("s/src", &large);
    sandbox.write("d/src", "old");
    let written = |words: &[&str], dest: &str| {
        let strace = Strace::new().alone().inject(refused);
        let run = sandbox.atomwrite(words.iter().copied());
        let done = run.stdin(&*large).under(&strace).output();
        let case = format!("{refused} {words:?}");
        assert_eq!((done.code(), &*done.stderr), (Some(0), ""), "{case}");
        assert!(sandbox.text(dest).ends_with(&large), "{case}");
    };
    for dest in ["one", "one"] {
        written(&[dest], dest);
        written(&["s/src", dest], dest);
        written(&[dest, "--", "cat", "s/src"], dest);
        written(&["-q", "--inplace=always", dest], dest);
        written(&["-q", "--lock", dest], dest);
        written(&["-a", dest], dest);
        written(&["--validate", "test -s \"$1\"", dest], dest);
        for backup in ["--backup=simple", "--backup=numbered"] {
            written(&[backup, dest], dest);
        }
    }
    assert_eq!(sandbox.read("one~"), sandbox.read("one"));
    written(&["-t", "d", "s/src"], "d/src");
    written(&["-b", "-t", "d", "s/src"], "d/src");
    written(&["-D", "a/b/out"], "a/b/out");
}

#[test]
fn a_refused_fallocate_does_not_fail_the_run() {
    needs_tool!("strace");
    for error in ["EPERM", "ENOSYS", "EINVAL", "EOPNOTSUPP"] {
        writes_in_every_form(&Sandbox::new(), &format!("fallocate:error={error}"));
    }
}

#[test]
fn a_refused_renameat2_does_not_fail_a_run_that_needs_no_flag() {
    needs_tool!("strace");
    for error in ["EPERM", "ENOSYS", "EINVAL"] {
        writes_in_every_form(&Sandbox::new(), &format!("renameat2:error={error}"));
    }
}

#[test]
fn no_clobber_works_without_rename_flags() {
    needs_tool!("strace");
    for error in ["ENOSYS", "EINVAL"] {
        let sandbox = Sandbox::new();
        let renames = format!("renameat2:error={error}");
        let strace = || Strace::new().inject(&renames);
        sandbox
            .run("-n out")
            .stdin("new")
            .through(strace().command())
            .succeeds();
        sandbox
            .run("-n out")
            .stdin("newer")
            .through(strace().command())
            .fails_with(3, "exists");
        // A DEST that appears while the input is read.
        fs::remove_file(sandbox.path("out")).unwrap();
        let strace = strace();
        let mut run = sandbox.run("-n out").under(&strace).stdin_held().start();
        run.feed("late");
        sandbox.write("out", "first");
        assert_eq!(run.wait().code(), Some(3));
        assert_eq!(sandbox.listing(), "out=first");
    }
}
