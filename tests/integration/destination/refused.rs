//! A DEST that is not replaced: a device, a FIFO, a socket, and without `-f` a file that the user
//! may not write to. Hard links are split.

use std::os::unix::fs::MetadataExt;

use crate::harness::{NOBODY, Sandbox, linux_only, needs_root, needs_tool};

// ---- What may not be written ----

#[test]
fn refuses_a_file_that_the_user_may_not_write_and_names_the_option() {
    needs_root!();
    let sandbox = Sandbox::new();
    sandbox.give_to(NOBODY, NOBODY);
    for (name, owner, mode) in [
        ("own", NOBODY, 0o444),
        ("none", NOBODY, 0),
        ("roots", 0, 0o644),
    ] {
        sandbox.write_with_mode(name, "old", mode);
        sandbox.chown(name, owner, owner);
    }
    for name in ["own", "roots", "none"] {
        let run = sandbox.run(name).by_nobody().reads_nothing();
        let way_out = "permission denied; use --force to replace it";
        run.fails_with(1, format!("'{name}': {way_out}"));
    }
    sandbox.run("-f own").by_nobody().stdin("new").writes("new");
    assert_eq!(sandbox.mode("own"), 0o444);
    // And root may always.
    sandbox.run("none").stdin("newer").writes("newer");
    assert_eq!(sandbox.mode("none"), 0);
    linux_only!("ways to what may not be read");
    let run = sandbox.run("--force none").by_nobody();
    run.stdin("newest").writes("newest");
    assert_eq!(sandbox.mode("none"), 0);
}

#[test]
fn replaces_what_a_group_or_an_acl_lets_the_user_write() {
    needs_root!();
    needs_tool!("setfacl");
    let sandbox = Sandbox::new();
    sandbox.chmod("", 0o777);
    sandbox.write_with_mode("group", "old", 0o664);
    sandbox.chown("group", 0, 1001);
    let run = sandbox.run("-q group").user(NOBODY, NOBODY, &[1001]);
    run.stdin("new").writes("new");
    sandbox.write("acl", "old");
    if sandbox.setfacl("acl", &["-m", "u:65534:rw"]) {
        let run = sandbox.run("-q acl").by_nobody();
        run.stdin("new").writes("new");
    }
}

#[test]
fn refuses_another_users_file_in_a_sticky_directory_before_any_input_is_read() {
    needs_root!();
    let sandbox = Sandbox::new();
    sandbox.sh("umask 0; mkdir sticky; cd sticky; printf old >theirs; printf old >ours; chown 65534:65534 ours; chmod 1777 .");
    for line in ["-f sticky/theirs", "-v sticky/theirs"] {
        let run = sandbox.run(line).by_nobody().reads_nothing();
        run.says("sticky").fails_with(1, "--inplace");
    }
    // Their own, and a new one.
    for line in ["sticky/ours", "sticky/new"] {
        sandbox.run(line).by_nobody().stdin("new").succeeds();
    }
    // The directory's owner may replace it, but not for its owner.
    sandbox.chown("sticky", NOBODY, NOBODY);
    let run = |line| sandbox.run(line).by_nobody().stdin("new");
    run("sticky/theirs").fails_with(1, "--keep=none");
    run("--keep=none sticky/theirs").succeeds();
}

#[test]
fn checks_the_permission_in_another_way_if_seccomp_forbids_faccessat2() {
    // seccomp filters that are older than faccessat2 answer EPERM.
    needs_root!();
    needs_tool!("strace");
    let sandbox = Sandbox::new();
    sandbox.give_to(NOBODY, NOBODY);
    for error in ["EPERM", "ENOSYS"] {
        sandbox.write_with_mode("out", "old", 0o644);
        sandbox.chown("out", NOBODY, NOBODY);
        let refused = format!("faccessat2:error={error}");
        let run = || sandbox.run("out").by_nobody().inject(&refused).stdin("new");
        run().writes("new");
        sandbox.chmod("out", 0o444);
        run().fails_with(1, "--force");
    }
}

#[test]
fn fails_in_a_directory_that_the_user_may_not_write() {
    needs_root!();
    let sandbox = Sandbox::new();
    sandbox.write_with_mode("out", "old", 0o666);
    for name in ["out", "new"] {
        let run = sandbox.run(name).by_nobody().reads_nothing();
        run.fails_with(1, format!("'{name}': permission denied"));
    }
}

// ---- Hard links ----

#[test]
fn splits_hard_links_and_says_so_when_verbose() {
    let sandbox = Sandbox::with("out", "old");
    sandbox.hard_link("out", "second");
    sandbox.hard_link("out", "third");
    let run = |line| sandbox.run(line).stdin("new");
    let done = run("-v out").says("replaced 'out' (3 bytes)").succeeds();
    assert!(done.stderr.contains("link"), "{done:?}");
    assert_eq!(sandbox.listing(), "out=new second=old third=old");
    assert_eq!(sandbox.inode("second"), sandbox.inode("third"));
    let links = ["out", "second"].map(|name| sandbox.stat(name).nlink());
    assert_eq!(links, [1, 2]);

    // And nothing of links when there are none, or no word at all without -v.
    let done = run("-v out").says("replaced").succeeds();
    assert!(!done.stderr.contains("link"), "{done:?}");
    run("second").succeeds();
    assert_eq!(sandbox.text("third"), "old");
}
