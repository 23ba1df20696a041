//! What DEST looks like afterwards, where nothing is asked for.
//!
//! New: 0666 less the umask, or the directory's default ACL, as `>` gives; from SOURCE its rwx bits less the umask.
//! Existing: mode, owner, group, ACL and xattrs are kept. Never kept: security.capability and the like, and timestamps.

use std::fs;
use std::os::unix::fs::MetadataExt;

use crate::harness::{
    NOBODY, Sandbox, needs_root, needs_tool, skip, tool, wait_until, wait_until_it_sleeps,
};

// ---- New -------------------------------------------------------------------------------------------------------

#[test]
fn a_new_file_gets_0666_less_the_umask() {
    let sandbox = Sandbox::new();
    for umask in [0o000, 0o002, 0o022, 0o027, 0o077, 0o777] {
        let name = format!("{umask:o}");
        sandbox
            .atomwrite([&name])
            .umask(umask)
            .stdin("new")
            .succeeds();
        assert_eq!(sandbox.mode(&name), 0o666 & !umask, "{umask:o}");
    }
}

#[test]
fn a_new_file_gets_the_rwx_bits_of_source_less_the_umask() {
    let sandbox = Sandbox::new();
    for mode in [
        0o644, 0o755, 0o700, 0o600, 0o400, 0o777, 0o4755, 0o2755, 0o1777, 0o7777,
    ] {
        for umask in [0o000, 0o022, 0o077] {
            let name = format!("{mode:o}-{umask:o}");
            sandbox.write_with_mode("in", "new", mode);
            sandbox.atomwrite(["in", &name]).umask(umask).succeeds();
            // Without the right to write, it could not be written again.
            fs::remove_file(sandbox.path("in")).unwrap();
            assert_eq!(
                sandbox.mode(&name),
                mode & 0o777 & !umask,
                "{mode:o} {umask:o}"
            );
        }
    }
}

#[test]
fn a_new_file_gets_the_directorys_default_acl_as_a_redirection_gives() {
    needs_tool!("setfacl", "getfacl");
    let sandbox = Sandbox::new();
    sandbox.mkdir("d");
    if !sandbox.setfacl("d", &["-d", "-m", "u::rwx,g::r-x,o::---,u:1000:rwx"]) {
        skip!("the filesystem has no ACLs");
    }
    sandbox.write_with_mode("private", "new", 0o700);
    for umask in [0o022, 0o077] {
        for sync in ["--sync=full", "--sync=none"] {
            let redirection =
                format!("umask {umask:o}; rm -f \"$0/d/reference\"; echo >\"$0/d/reference\"");
            tool("sh", ["-c", &redirection, sandbox.root().to_str().unwrap()]);
            let expected = (sandbox.mode("d/reference"), sandbox.acl("d/reference"));
            sandbox
                .atomwrite([sync, "d/out"])
                .umask(umask)
                .stdin("new")
                .succeeds();
            assert_eq!((sandbox.mode("d/out"), sandbox.acl("d/out")), expected);
            fs::remove_file(sandbox.path("d/out")).unwrap();

            // From SOURCE as cp gives.
            let copy = format!(
                "umask {umask:o}; rm \"$0/d/reference\"; cp \"$0/private\" \"$0/d/reference\""
            );
            tool("sh", ["-c", &copy, sandbox.root().to_str().unwrap()]);
            let expected = (sandbox.mode("d/reference"), sandbox.acl("d/reference"));
            sandbox
                .atomwrite([sync, "private", "d/out"])
                .umask(umask)
                .succeeds();
            assert_eq!((sandbox.mode("d/out"), sandbox.acl("d/out")), expected);
            fs::remove_file(sandbox.path("d/out")).unwrap();
        }
    }
}

#[test]
fn a_new_file_belongs_to_the_user_and_to_the_group_of_a_set_gid_directory() {
    needs_root!();
    let sandbox = Sandbox::new();
    sandbox.mkdir("d");
    sandbox.chown("d", NOBODY, 1001);
    sandbox.chmod("d", 0o2755);
    sandbox.atomwrite(["d/root"]).stdin("new").succeeds();
    assert_eq!(sandbox.owner("d/root"), (0, 1001));
    sandbox
        .atomwrite(["d/nobody"])
        .user(NOBODY, NOBODY, &[])
        .stdin("new")
        .succeeds();
    assert_eq!(sandbox.owner("d/nobody"), (NOBODY, 1001));
}

// ---- Existing --------------------------------------------------------------------------------------------------

#[test]
fn an_existing_files_mode_is_kept_whatever_the_umask_and_source() {
    let sandbox = Sandbox::new();
    sandbox.write_with_mode("in", "new", 0o755);
    for mode in [
        0o644, 0o600, 0o666, 0o444, 0o000, 0o755, 0o4755, 0o2755, 0o6711, 0o1777, 0o1644,
    ] {
        for arguments in [
            &["-f", "out"][..],
            &["-f", "in", "out"],
            &["-f", "--keep=all", "out"],
        ] {
            sandbox.write("out", "old");
            sandbox.chmod("out", mode);
            sandbox
                .atomwrite(arguments.to_vec())
                .umask(0o077)
                .stdin("new")
                .succeeds();
            assert_eq!(sandbox.mode("out"), mode, "{mode:o} {arguments:?}");
            fs::remove_file(sandbox.path("out")).unwrap();
        }
    }
}

#[test]
fn owner_and_group_are_kept_by_root_and_set_id_bits_with_them() {
    needs_root!();
    let sandbox = Sandbox::new();
    for mode in [0o644, 0o4755, 0o2755, 0o6750] {
        sandbox.write("out", "old");
        sandbox.chown("out", 1000, 1001);
        sandbox.chmod("out", mode);
        sandbox.atomwrite(["out"]).stdin("new").succeeds();
        assert_eq!(
            (sandbox.owner("out"), sandbox.mode("out")),
            ((1000, 1001), mode)
        );
    }
}

#[test]
fn an_acl_is_kept() {
    needs_tool!("setfacl", "getfacl");
    let sandbox = Sandbox::new();
    for acl in [
        "u:1000:rw,g:1001:r",
        "u:1000:rwx,m::r",
        "u:1000:---,g::---,o::---",
        "u::r,g:1001:rwx,o::x",
    ] {
        sandbox.write("out", "old");
        if !sandbox.setfacl("out", &["-m", acl]) {
            skip!("the filesystem has no ACLs");
        }
        let expected = (sandbox.acl("out"), sandbox.mode("out"));
        assert!(expected.0.contains("mask"));
        sandbox
            .atomwrite(["-f", "out"])
            .umask(0o077)
            .stdin("new")
            .succeeds();
        assert_eq!((sandbox.acl("out"), sandbox.mode("out")), expected);
        fs::remove_file(sandbox.path("out")).unwrap();
    }
}

#[test]
fn a_directorys_default_acl_does_not_fall_on_an_existing_file() {
    needs_tool!("setfacl", "getfacl");
    let sandbox = Sandbox::new();
    sandbox.write_with_mode("out", "old", 0o640);
    sandbox.write_with_mode("shared", "old", 0o640);
    if !sandbox.setfacl("shared", &["-m", "u:1002:r"]) {
        skip!("the filesystem has no ACLs");
    }
    sandbox.setfacl("", &["-d", "-m", "u:1000:rwx,o::rwx"]);
    let expected = (sandbox.acl("out"), sandbox.acl("shared"));
    assert!(!expected.0.contains("mask"));
    for name in ["out", "shared"] {
        sandbox.atomwrite([name]).stdin("new").succeeds();
        assert_eq!(sandbox.mode(name), 0o640);
    }
    assert_eq!((sandbox.acl("out"), sandbox.acl("shared")), expected);
    assert_eq!(sandbox.xattr("out", "system.posix_acl_access"), None);
}

#[test]
fn extended_attributes_are_kept() {
    let sandbox = Sandbox::new();
    sandbox.write("out", "old");
    if !sandbox.set_xattr("out", "user.origin", b"somewhere") {
        skip!("the filesystem has no extended attributes");
    }
    sandbox.set_xattr("out", "user.empty", b"");
    sandbox.set_xattr("out", "user.bytes", &[0, 255, 10]);
    sandbox.set_xattr("out", "user.long", &[b'x'; 2000]);
    sandbox.atomwrite(["out"]).stdin("new").succeeds();
    assert_eq!(sandbox.xattr("out", "user.origin").unwrap(), b"somewhere");
    assert_eq!(sandbox.xattr("out", "user.empty").unwrap(), b"");
    assert_eq!(sandbox.xattr("out", "user.bytes").unwrap(), [0, 255, 10]);
    assert_eq!(sandbox.xattr("out", "user.long").unwrap(), [b'x'; 2000]);
}

#[test]
fn what_will_be_private_is_private_from_its_first_byte() {
    let sandbox = Sandbox::new();
    sandbox.write_with_mode("out", "old", 0o600);
    let mut run = sandbox.atomwrite(["out"]).umask(0).stdin_held().start();
    run.feed("secret");
    let open_files = fs::read_dir(format!("/proc/{}/fd", run.id())).unwrap();
    let modes: Vec<_> = open_files
        .map(|file| file.unwrap().path())
        .filter(|file| fs::read_link(file).is_ok_and(|path| path.starts_with(sandbox.root())))
        .map(|file| fs::metadata(file).unwrap())
        .filter(|file| file.is_file() && file.nlink() == 0)
        .map(|file| file.mode() & 0o7777)
        .collect();
    assert_eq!(modes, [0o600]);
    assert_eq!(run.wait().code(), Some(0));
}

#[test]
fn extended_attributes_are_kept_however_long_their_list_is() {
    let sandbox = Sandbox::new();
    sandbox.write("out", "old");
    let names: Vec<_> = (0..12).map(|index| format!("user.{index:0200}")).collect();
    for name in &names {
        if !sandbox.set_xattr("out", name, &name.as_bytes()[100..]) {
            skip!("the filesystem has no extended attributes");
        }
    }
    sandbox.atomwrite(["out"]).stdin("new").succeeds();
    for name in &names {
        let value = sandbox.xattr("out", name).unwrap();
        assert_eq!(value, &name.as_bytes()[100..]);
    }
}

#[test]
fn extended_attributes_are_those_of_dest_and_not_of_source() {
    let sandbox = Sandbox::new();
    sandbox.write("in", "new");
    sandbox.write("out", "old");
    if !sandbox.set_xattr("in", "user.source", b"1") {
        skip!("the filesystem has no extended attributes");
    }
    sandbox.set_xattr("out", "user.dest", b"2");
    sandbox.atomwrite(["in", "out"]).succeeds();
    assert_eq!(sandbox.xattr("out", "user.source"), None);
    assert_eq!(sandbox.xattr("out", "user.dest").unwrap(), b"2");
    sandbox.atomwrite(["in", "new"]).succeeds();
    assert_eq!(sandbox.xattr("new", "user.source"), None);
}

#[test]
fn extended_attributes_of_an_unwritable_file_are_kept_for_its_owner() {
    // They must be set while the new file is still open for writing by its mode.
    needs_root!();
    let sandbox = Sandbox::new();
    sandbox.give_to(NOBODY, NOBODY);
    for mode in [0o444, 0o400, 0o000] {
        sandbox.write("out", "old");
        if !sandbox.set_xattr("out", "user.origin", b"somewhere") {
            skip!("the filesystem has no extended attributes");
        }
        sandbox.chown("out", NOBODY, NOBODY);
        sandbox.chmod("out", mode);
        // What may not be read cannot be kept: a mode of 0000 hides the attributes from their owner.
        let run = sandbox
            .atomwrite(["-f", "out"])
            .user(NOBODY, NOBODY, &[])
            .stdin("new");
        if mode == 0 {
            let strictly = sandbox
                .atomwrite(["-f", "--keep=all", "out"])
                .user(NOBODY, NOBODY, &[]);
            strictly.stdin("new").says("'out'").fails(1);
            run.warns("'out'").succeeds();
        } else {
            run.succeeds();
            assert_eq!(
                sandbox.xattr("out", "user.origin").unwrap(),
                b"somewhere",
                "{mode:o}"
            );
        }
        assert_eq!(sandbox.mode("out"), mode);
        fs::remove_file(sandbox.path("out")).unwrap();
    }
}

#[test]
fn trusted_attributes_are_kept_by_root() {
    needs_root!();
    let sandbox = Sandbox::new();
    sandbox.write("out", "old");
    if !sandbox.set_xattr("out", "trusted.origin", b"somewhere") {
        skip!("needs trusted attributes");
    }
    sandbox.atomwrite(["out"]).stdin("new").succeeds();
    assert_eq!(
        sandbox.xattr("out", "trusted.origin").unwrap(),
        b"somewhere"
    );
}

#[test]
fn capabilities_are_not_kept_and_nobody_is_warned() {
    needs_root!();
    let sandbox = Sandbox::new();
    // cap_net_raw, permitted and effective.
    let capability = [1, 0, 0, 2, 0, 32, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    for keep in ["try", "all", "none"] {
        sandbox.write_with_mode("out", "old", 0o755);
        if !sandbox.set_xattr("out", "security.capability", &capability) {
            skip!("the filesystem has no capabilities");
        }
        assert!(sandbox.xattr("out", "security.capability").is_some());
        sandbox
            .atomwrite([&format!("--keep={keep}"), "out"])
            .stdin("new")
            .succeeds();
        assert_eq!(sandbox.xattr("out", "security.capability"), None, "{keep}");
        fs::remove_file(sandbox.path("out")).unwrap();
    }
}

#[test]
fn timestamps_are_not_kept() {
    let sandbox = Sandbox::new();
    let path = sandbox.write("out", "old");
    tool(
        "touch",
        ["-d".as_ref(), "2001-01-01".as_ref(), path.as_os_str()],
    );
    let long_ago = sandbox.stat("out").mtime();
    for keep in ["try", "all", "none"] {
        sandbox
            .atomwrite([&format!("--keep={keep}"), "out"])
            .stdin("new")
            .succeeds();
        assert!(sandbox.stat("out").mtime() > long_ago, "{keep}");
        tool(
            "touch",
            ["-d".as_ref(), "2001-01-01".as_ref(), path.as_os_str()],
        );
    }
    // Nor are SOURCE's.
    let source = sandbox.write("in", "new");
    tool(
        "touch",
        ["-d".as_ref(), "2001-01-01".as_ref(), source.as_os_str()],
    );
    sandbox.atomwrite(["in", "out"]).succeeds();
    assert!(sandbox.stat("out").mtime() > long_ago);
}

#[test]
fn the_last_write_is_that_of_the_last_byte_and_the_last_change_the_rename() {
    let sandbox = Sandbox::new();
    let times = |name: &str| {
        let seen = sandbox.stat(name);
        let (written, changed) = (seen.mtime(), seen.ctime());
        ((written, seen.mtime_nsec()), (changed, seen.ctime_nsec()))
    };
    // The clock of files goes on in steps.
    let later = |name: &str| {
        sandbox.write(name, "");
        let (first, _) = times(name);
        wait_until("the clock has gone on", || {
            sandbox.write(name, "");
            times(name).0 > first
        });
    };
    let mut running = sandbox.atomwrite(["out"]).stdin_held().start();
    running.feed("new");
    wait_until_it_sleeps(running.pid());
    later("stamp");
    later("next");
    assert_eq!(running.wait().code(), Some(0));
    let (written, changed) = times("out");
    let (stamp, _) = times("stamp");
    assert!(written < stamp && stamp < changed);
}

#[test]
fn the_target_of_a_link_keeps_its_own_attributes() {
    needs_root!();
    let sandbox = Sandbox::new();
    sandbox.write("target", "old");
    sandbox.chown("target", 1000, 1001);
    sandbox.chmod("target", 0o640);
    sandbox.symlink("target", "link");
    sandbox.chown("link", 1002, 1003);
    sandbox.atomwrite(["link"]).stdin("new").succeeds();
    assert_eq!(
        (sandbox.owner("target"), sandbox.mode("target")),
        ((1000, 1001), 0o640)
    );
    assert_eq!(sandbox.owner("link"), (1002, 1003));
}
