//! What is not written: a device, a FIFO, a socket, and what the user may not write, unless `-f`. Hard links are split.

use std::fs;
use std::os::unix::fs::MetadataExt;

use crate::harness::{NOBODY, Sandbox, Witness, needs_root, needs_tool};

// ---- What may not be written -----------------------------------------------------------------------------------

#[test]
fn refuses_what_the_user_may_not_write_and_names_the_way_out() {
    needs_root!();
    let sandbox = Sandbox::new();
    sandbox.give_to(NOBODY, NOBODY);
    sandbox.write_with_mode("own", "old", 0o444);
    sandbox.chown("own", NOBODY, NOBODY);
    sandbox.write_with_mode("roots", "old", 0o644);
    sandbox.write_with_mode("none", "old", 0o000);
    for name in ["own", "roots", "none"] {
        let input = Witness::new();
        sandbox
            .atomwrite([name])
            .user(NOBODY, NOBODY, &[])
            .stdin_from(input.input())
            .says(format!("'{name}'"))
            .says("--force")
            .fails(1);
        input.has_not_been_read();
    }
}

#[test]
fn force_replaces_what_the_user_may_not_write() {
    needs_root!();
    let sandbox = Sandbox::new();
    sandbox.give_to(NOBODY, NOBODY);
    for (option, mode) in [("-f", 0o444), ("--force", 0o000)] {
        sandbox.write_with_mode("out", "old", mode);
        sandbox.chown("out", NOBODY, NOBODY);
        sandbox
            .atomwrite([option, "out"])
            .user(NOBODY, NOBODY, &[])
            .stdin("new")
            .succeeds();
        assert_eq!(
            (sandbox.text("out").as_str(), sandbox.mode("out")),
            ("new", mode)
        );
        fs::remove_file(sandbox.path("out")).unwrap();
    }
}

#[test]
fn replaces_what_a_group_or_an_acl_lets_the_user_write() {
    needs_root!();
    needs_tool!("setfacl");
    let sandbox = Sandbox::new();
    sandbox.chmod("", 0o777);
    sandbox.write_with_mode("group", "old", 0o664);
    sandbox.chown("group", 0, 1001);
    sandbox
        .atomwrite(["-q", "group"])
        .user(NOBODY, NOBODY, &[1001])
        .stdin("new")
        .succeeds();
    assert_eq!(sandbox.text("group"), "new");
    sandbox.write("acl", "old");
    if sandbox.setfacl("acl", &["-m", "u:65534:rw"]) {
        sandbox
            .atomwrite(["-q", "acl"])
            .user(NOBODY, NOBODY, &[])
            .stdin("new")
            .succeeds();
        assert_eq!(sandbox.text("acl"), "new");
    }
}

#[test]
fn writes_as_root_whatever_the_mode_says() {
    needs_root!();
    let sandbox = Sandbox::new();
    sandbox.write_with_mode("out", "old", 0o000);
    sandbox.atomwrite(["out"]).stdin("new").succeeds();
    assert_eq!(
        (sandbox.text("out").as_str(), sandbox.mode("out")),
        ("new", 0o000)
    );
}

#[test]
fn refuses_a_strangers_file_in_a_sticky_directory_before_any_input_is_read() {
    needs_root!();
    let sandbox = Sandbox::new();
    sandbox.mkdir("sticky");
    sandbox.chmod("sticky", 0o1777);
    sandbox.write_with_mode("sticky/theirs", "old", 0o666);
    sandbox.write_with_mode("sticky/ours", "old", 0o644);
    sandbox.chown("sticky/ours", NOBODY, NOBODY);
    let input = Witness::new();
    for option in ["-f", "-v"] {
        sandbox
            .atomwrite([option, "sticky/theirs"])
            .user(NOBODY, NOBODY, &[])
            .stdin_from(input.input())
            .says("sticky")
            .says("--inplace")
            .fails(1);
    }
    input.has_not_been_read();
    // Their own, and a new one.
    for dest in ["sticky/ours", "sticky/new"] {
        sandbox
            .atomwrite([dest])
            .user(NOBODY, NOBODY, &[])
            .stdin("new")
            .succeeds();
    }
    // The directory's owner may replace it, but not for its owner.
    sandbox.chown("sticky", NOBODY, NOBODY);
    sandbox
        .atomwrite(["sticky/theirs"])
        .user(NOBODY, NOBODY, &[])
        .stdin("new")
        .says("--keep=none")
        .fails(1);
    sandbox
        .atomwrite(["--keep=none", "sticky/theirs"])
        .user(NOBODY, NOBODY, &[])
        .stdin("new")
        .succeeds();
}

#[test]
fn asks_in_another_way_where_a_filter_forbids_the_first() {
    // seccomp filters that are older than faccessat2 answer EPERM.
    needs_root!();
    needs_tool!("strace");
    let sandbox = Sandbox::new();
    sandbox.give_to(NOBODY, NOBODY);
    for error in ["EPERM", "ENOSYS"] {
        sandbox.write_with_mode("out", "old", 0o644);
        sandbox.chown("out", NOBODY, NOBODY);
        let inject = format!("inject=faccessat2:error={error}");
        let run = || {
            sandbox
                .atomwrite(["out"])
                .user(NOBODY, NOBODY, &[])
                .through(["strace", "-qq", "-o", "/dev/null", "-e", &inject].map(str::to_owned))
                .stdin("new")
        };
        run().succeeds();
        assert_eq!(sandbox.text("out"), "new");
        sandbox.chmod("out", 0o444);
        run().says("--force").fails(1);
    }
}

#[test]
fn fails_in_a_directory_that_the_user_may_not_write() {
    needs_root!();
    let sandbox = Sandbox::new();
    sandbox.write_with_mode("out", "old", 0o666);
    for name in ["out", "new"] {
        let input = Witness::new();
        sandbox
            .atomwrite([name])
            .user(NOBODY, NOBODY, &[])
            .stdin_from(input.input())
            .says(format!("'{name}'"))
            .says("permission denied")
            .fails(1);
        input.has_not_been_read();
    }
}

#[test]
fn fails_on_an_immutable_file() {
    needs_root!();
    needs_tool!("chattr");
    let sandbox = Sandbox::new();
    let path = sandbox.write("out", "old");
    let chattr = |flag: &str| {
        let output = std::process::Command::new("chattr")
            .arg(flag)
            .arg(&path)
            .output()
            .unwrap();
        output.status.success()
    };
    for flag in ["i", "a"] {
        if !chattr(&format!("+{flag}")) {
            crate::harness::skip!("the filesystem has no file attributes");
        }
        let done = [
            &["out"][..],
            &["-f", "out"],
            &["-n", "--no-dereference", "out"],
        ]
        .map(|arguments| sandbox.atomwrite(arguments.to_vec()).stdin("new").output());
        assert!(chattr(&format!("-{flag}")));
        assert_eq!(
            done.each_ref().map(|done| done.code().unwrap()),
            [1, 1, 3],
            "{done:?}"
        );
        for done in &done[..2] {
            crate::harness::check_message(done.stderr.trim_end());
            assert!(done.stderr.ends_with("; 'out' is unchanged\n"), "{done:?}");
        }
        assert_eq!(sandbox.text("out"), "old");
        assert_eq!(sandbox.names(), ["out"]);
    }
}

// ---- Hard links ------------------------------------------------------------------------------------------------

#[test]
fn splits_hard_links_and_says_so_when_verbose() {
    let sandbox = Sandbox::new();
    sandbox.write("out", "old");
    sandbox.hard_link("out", "second");
    sandbox.hard_link("out", "third");
    let done = sandbox
        .atomwrite(["-v", "out"])
        .stdin("new")
        .says("replaced 'out' (3 bytes)")
        .succeeds();
    assert!(done.stderr.contains("link"), "{done:?}");
    assert_eq!(sandbox.text("out"), "new");
    assert_eq!(sandbox.text("second"), "old");
    assert_eq!(sandbox.inode("second"), sandbox.inode("third"));
    assert_eq!(
        (sandbox.stat("out").nlink(), sandbox.stat("second").nlink()),
        (1, 2)
    );

    // And nothing of links when there are none, or no word at all without -v.
    let done = sandbox
        .atomwrite(["-v", "out"])
        .stdin("newer")
        .says("replaced")
        .succeeds();
    assert!(!done.stderr.contains("link"), "{done:?}");
    sandbox.atomwrite(["second"]).stdin("new").succeeds();
    assert_eq!(sandbox.text("third"), "old");
}
