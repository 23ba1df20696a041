//! The attributes of DEST without any option for them.
//!
//! A new DEST has mode 0666 less the umask, or the directory's default ACL, as with `>`; from
//! SOURCE, its rwx bits less the umask. An existing DEST keeps mode, owner, group, ACL and extended
//! attributes. security.capability, similar attributes and timestamps are never kept.

use std::fs;
use std::os::unix::fs::MetadataExt;

use crate::harness::{
    NOBODY, Sandbox, Way, draft_of, needs_root, needs_tool, skip, wait_until, wait_until_it_sleeps,
};

// ---- New ----

#[test]
fn a_new_file_gets_0666_or_the_rwx_bits_of_source_less_the_umask() {
    for &way in Way::all() {
        for umask in [0o000, 0o002, 0o022, 0o027, 0o077, 0o777] {
            let sandbox = Sandbox::new();
            let run = way.take(sandbox.run("out")).umask(umask);
            run.stdin("new").succeeds();
            assert_eq!(sandbox.mode("out"), 0o666 & !umask, "{way:?} {umask:o}");
        }
        for mode in [
            0o644, 0o755, 0o700, 0o600, 0o400, 0o777, 0o4755, 0o2755, 0o1777, 0o7777,
        ] {
            for umask in [0o000, 0o022, 0o077] {
                let sandbox = Sandbox::new();
                sandbox.write_with_mode("in", "new", mode);
                way.take(sandbox.run("in out")).umask(umask).succeeds();
                let expected = mode & 0o777 & !umask;
                let case = format!("{way:?} {mode:o} {umask:o}");
                assert_eq!(sandbox.mode("out"), expected, "{case}");
            }
        }
    }
}

#[test]
fn a_new_file_gets_the_directorys_default_acl_as_a_redirection_and_cp_give() {
    needs_tool!("setfacl", "getfacl");
    for default in [
        "u::rwx,g::r-x,o::---,u:1000:rwx",
        "u::rw,g::r,o::r",
        "u::rwx,g::rwx,o::rwx,g:1001:r,m::rx",
        "u::r,g::-,o::rwx,m::-,u:1000:rwx",
    ] {
        let sandbox = Sandbox::with("in", "new");
        sandbox.mkdir("d");
        if !sandbox.setfacl("d", &["-d", "-m", default]) {
            skip!("the filesystem has no ACLs");
        }
        let look = |name: &str| (sandbox.mode(name), sandbox.acl(name));
        for umask in [0o022, 0o077] {
            for (theirs, ours, mode) in [
                ("echo >d/theirs", "--sync=none d/out", 0o644),
                ("echo >d/theirs", "d/out", 0o644),
                ("cp in d/theirs", "--sync=none -f in d/out", 0o700),
                ("cp in d/theirs", "-f in d/out", 0o700),
                ("cp in d/theirs", "-f in d/out", 0o755),
                ("cp in d/theirs", "-f in d/out", 0o640),
                ("cp in d/theirs", "-f in d/out", 0o666),
            ] {
                sandbox.chmod("in", mode);
                sandbox.sh(&format!("umask {umask:o}; rm -f d/theirs; {theirs}"));
                for &way in Way::all() {
                    let run = way.take(sandbox.run(ours)).umask(umask);
                    run.stdin("new").succeeds();
                    let case = format!("{default} {way:?} {umask:o} {ours} {mode:o}");
                    assert_eq!(look("d/out"), look("d/theirs"), "{case}");
                    fs::remove_file(sandbox.path("d/out")).unwrap();
                }
            }
        }
    }
}

#[test]
fn a_new_file_belongs_to_the_user_and_to_the_group_of_a_set_gid_directory() {
    needs_root!();
    for &way in Way::all() {
        let sandbox = Sandbox::new();
        sandbox.mkdir("d");
        sandbox.chown("d", NOBODY, 1001);
        sandbox.chmod("d", 0o2755);
        for user in [0, NOBODY] {
            let run = sandbox.run("d/out").user(user, user, &[]);
            way.take(run).stdin("new").succeeds();
            assert_eq!(sandbox.owner("d/out"), (user, 1001), "{way:?}");
            fs::remove_file(sandbox.path("d/out")).unwrap();
        }
    }
}

// ---- Existing ----

#[test]
fn an_existing_files_mode_is_kept_whatever_the_umask_and_source() {
    for &way in Way::all() {
        for mode in [
            0o644, 0o600, 0o666, 0o444, 0o000, 0o755, 0o4755, 0o2755, 0o6711, 0o1777, 0o1644,
        ] {
            for line in ["-f out", "-f in out", "-f --keep=all out"] {
                let sandbox = Sandbox::with("out", "old");
                sandbox.write_with_mode("in", "new", 0o755);
                sandbox.chmod("out", mode);
                let run = way.take(sandbox.run(line)).umask(0o077);
                run.stdin("new").succeeds();
                assert_eq!(sandbox.mode("out"), mode, "{way:?} {mode:o} {line}");
            }
        }
    }
}

#[test]
fn all_attributes_are_kept_by_root_and_set_id_bits_with_them() {
    needs_root!();
    needs_tool!("setfacl", "getfacl");
    for &way in Way::all() {
        for mode in [0o644, 0o600, 0o444, 0o000, 0o4755, 0o2755, 0o6750, 0o6755] {
            for (default, own) in [
                ("", ""),
                ("u:1003:rwx,o::rwx", ""),
                ("u:1003:rwx", "u:1002:rw,g::r,o::-"),
            ] {
                let sandbox = Sandbox::new();
                sandbox.mkdir("d");
                sandbox.write("d/out", "old");
                sandbox.set_xattr("d/out", "user.origin", b"somewhere");
                sandbox.chown("d/out", 1000, 1001);
                sandbox.chmod("d/out", mode);
                if !default.is_empty() && !sandbox.setfacl("d", &["-d", "-m", default]) {
                    skip!("the filesystem has no ACLs");
                }
                if !own.is_empty() {
                    sandbox.setfacl("d/out", &["-m", own]);
                }
                let look = || {
                    let origin = sandbox.xattr("d/out", "user.origin");
                    let (owner, mode) = (sandbox.owner("d/out"), sandbox.mode("d/out"));
                    (owner, mode, origin, sandbox.acl("d/out"))
                };
                let expected = look();
                let run = way.take(sandbox.run("d/out")).umask(0o077);
                run.stdin("new").succeeds();
                assert_eq!(look(), expected, "{way:?} {mode:o} {default} {own}");
            }
        }
        // Also if they change together during the run.
        let sandbox = Sandbox::new();
        sandbox.write_with_mode("out", "old", 0o4755);
        let change = r#"chgrp 1 "$2"; chmod 4755 "$2""#;
        let run = sandbox.atomwrite(["--validate", change, "out"]);
        way.take(run).stdin("new").succeeds();
        let now = (sandbox.owner("out"), sandbox.mode("out"));
        assert_eq!(now, ((0, 1), 0o4755), "{way:?}");
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
        sandbox.run("-f out").umask(0o077).stdin("new").succeeds();
        assert_eq!((sandbox.acl("out"), sandbox.mode("out")), expected);
        fs::remove_file(sandbox.path("out")).unwrap();
    }
}

#[test]
fn a_directorys_default_acl_does_not_apply_to_an_existing_file() {
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
    let sandbox = Sandbox::with("out", "old");
    if !sandbox.set_xattr("out", "user.origin", b"somewhere") {
        skip!("the filesystem has no extended attributes");
    }
    sandbox.set_xattr("out", "user.empty", b"");
    sandbox.set_xattr("out", "user.bytes", &[0, 255, 10]);
    sandbox.set_xattr("out", "user.long", &[b'x'; 2000]);
    sandbox.run("out").stdin("new").succeeds();
    assert_eq!(sandbox.xattr("out", "user.origin").unwrap(), b"somewhere");
    assert_eq!(sandbox.xattr("out", "user.empty").unwrap(), b"");
    assert_eq!(sandbox.xattr("out", "user.bytes").unwrap(), [0, 255, 10]);
    assert_eq!(sandbox.xattr("out", "user.long").unwrap(), [b'x'; 2000]);
}

#[test]
fn a_file_that_will_be_private_is_private_from_its_first_byte() {
    let sandbox = Sandbox::new();
    sandbox.write_with_mode("out", "old", 0o600);
    let mut run = sandbox.run("out").umask(0).stdin_held().start();
    run.feed("secret");
    let draft = draft_of(run.pid()).unwrap();
    assert_eq!(fs::metadata(draft).unwrap().mode() & 0o7777, 0o600);
    assert_eq!(run.wait().code(), Some(0));
}

#[test]
fn extended_attributes_are_kept_however_long_their_list_is() {
    let sandbox = Sandbox::with("out", "old");
    let names: Vec<_> = (0..12).map(|index| format!("user.{index:0200}")).collect();
    for name in &names {
        if !sandbox.set_xattr("out", name, &name.as_bytes()[100..]) {
            skip!("the filesystem has no extended attributes");
        }
    }
    sandbox.run("out").stdin("new").succeeds();
    for name in &names {
        let value = sandbox.xattr("out", name).unwrap();
        assert_eq!(value, &name.as_bytes()[100..]);
    }
}

#[test]
fn extended_attributes_are_those_of_dest_and_not_of_source() {
    let sandbox = Sandbox::with("in", "new");
    sandbox.write("out", "old");
    if !sandbox.set_xattr("in", "user.source", b"1") {
        skip!("the filesystem has no extended attributes");
    }
    sandbox.set_xattr("out", "user.dest", b"2");
    sandbox.run("in out").succeeds();
    assert_eq!(sandbox.xattr("out", "user.source"), None);
    assert_eq!(sandbox.xattr("out", "user.dest").unwrap(), b"2");
    sandbox.run("in new").succeeds();
    assert_eq!(sandbox.xattr("new", "user.source"), None);
}

#[test]
fn extended_attributes_of_an_unwritable_file_are_kept_for_its_owner() {
    // They must be set while the new file is still open for writing by its mode.
    needs_root!();
    let modes = [0o444, 0o400, 0o000];
    let cases = Way::all()
        .iter()
        .flat_map(|&way| modes.map(|mode| (way, mode)));
    for (way, mode) in cases {
        let sandbox = Sandbox::with("out", "old");
        sandbox.give_to(NOBODY, NOBODY);
        if !sandbox.set_xattr("out", "user.origin", b"somewhere") {
            skip!("the filesystem has no extended attributes");
        }
        sandbox.chown("out", NOBODY, NOBODY);
        sandbox.chmod("out", mode);
        // What may not be read cannot be kept: a mode of 0000 hides the attributes from their
        // owner.
        let run = |line| way.take(sandbox.run(line).by_nobody()).stdin("new");
        if mode == 0 {
            let strictly = run("-f --keep=all out");
            strictly.fails_with(1, "'out'");
            let run = run("-f out");
            if cfg!(atomwrite_posix) {
                run.fails_with(1, "cannot read the attributes of 'out'");
            } else {
                run.warns("'out'").succeeds();
            }
        } else {
            run("-f out").succeeds();
            let origin = sandbox.xattr("out", "user.origin");
            assert_eq!(origin.unwrap(), b"somewhere", "{way:?} {mode:o}");
        }
        assert_eq!(sandbox.mode("out"), mode);
    }
}

#[test]
fn trusted_attributes_are_kept_by_root() {
    needs_root!();
    let sandbox = Sandbox::with("out", "old");
    if !sandbox.set_xattr("out", "trusted.origin", b"somewhere") {
        skip!("needs trusted attributes");
    }
    sandbox.run("out").stdin("new").succeeds();
    assert_eq!(
        sandbox.xattr("out", "trusted.origin").unwrap(),
        b"somewhere"
    );
}

#[test]
fn capabilities_are_dropped_without_a_warning() {
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
    sandbox.write("out", "old");
    sandbox.sh("touch -d 2001-01-01 out");
    let long_ago = sandbox.stat("out").mtime();
    for keep in ["try", "all", "none"] {
        sandbox
            .atomwrite([&format!("--keep={keep}"), "out"])
            .stdin("new")
            .succeeds();
        assert!(sandbox.stat("out").mtime() > long_ago, "{keep}");
        sandbox.sh("touch -d 2001-01-01 out");
    }
    // Nor are SOURCE's.
    sandbox.write("in", "new");
    sandbox.sh("touch -d 2001-01-01 in");
    sandbox.run("in out").succeeds();
    assert!(sandbox.stat("out").mtime() > long_ago);
}

#[test]
fn mtime_is_the_last_write_and_ctime_the_rename() {
    let sandbox = Sandbox::new();
    let times = |name: &str| {
        let seen = sandbox.stat(name);
        let (written, changed) = (seen.mtime(), seen.ctime());
        ((written, seen.mtime_nsec()), (changed, seen.ctime_nsec()))
    };
    // The clock of file times advances in steps.
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
    let sandbox = Sandbox::with("target", "old");
    sandbox.chown("target", 1000, 1001);
    sandbox.chmod("target", 0o640);
    sandbox.symlink("target", "link");
    sandbox.chown("link", 1002, 1003);
    sandbox.run("link").stdin("new").succeeds();
    assert_eq!(
        (sandbox.owner("target"), sandbox.mode("target")),
        ((1000, 1001), 0o640)
    );
    assert_eq!(sandbox.owner("link"), (1002, 1003));
}
