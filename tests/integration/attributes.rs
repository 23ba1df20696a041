//! What DEST looks like afterwards.
//!
//! New: 0666 less the umask, or the directory's default ACL, as `>` gives; from SOURCE its rwx bits less the umask.
//! Existing: mode, owner, group, ACL and xattrs are kept; `--keep=try` warns of what cannot be, `--keep=all` fails
//! then, `--keep=none` treats DEST as new. Never kept: security.capability and the like, and timestamps. Set-uid and
//! set-gid stay only if owner and group stay; a group that could not be kept loses what others do not have; where the
//! directory has a default ACL and DEST has none, the result has none. `-m`, `-o` and `-g` come on top and must succeed.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::process::Command;

use proptest::prelude::*;

use crate::sandbox::{
    NOBODY, Sandbox, Witness, has_user_namespaces, needs_root, needs_tool, report_skipped, skip,
    tool,
};

// ---- New ------------------------------------------------------------------------------------------------------

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

// ---- Existing -------------------------------------------------------------------------------------------------

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

// ---- What cannot be kept --------------------------------------------------------------------------------------

/// A directory that nobody may write in, with a file that nobody may write but not own.
fn strangers(mode: u32, owner: u32, group: u32) -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.give_to(NOBODY, NOBODY);
    sandbox.write("out", "old");
    sandbox.chown("out", owner, group);
    sandbox.chmod("out", mode);
    sandbox
}

#[test]
fn an_owner_that_cannot_be_kept_is_warned_of_once_and_the_rest_is_kept() {
    needs_root!();
    for arguments in [&["out"][..], &["--keep=try", "out"]] {
        let sandbox = strangers(0o666, 1000, NOBODY);
        let has_xattrs = sandbox.set_xattr("out", "user.origin", b"somewhere");
        sandbox
            .atomwrite(arguments.to_vec())
            .user(NOBODY, NOBODY, &[])
            .umask(0o077)
            .stdin("new")
            .warns("owner")
            .succeeds();
        assert_eq!(sandbox.text("out"), "new");
        assert_eq!(
            (sandbox.owner("out"), sandbox.mode("out")),
            ((NOBODY, NOBODY), 0o666)
        );
        if has_xattrs {
            assert_eq!(sandbox.xattr("out", "user.origin").unwrap(), b"somewhere");
        }
    }
}

#[test]
fn an_owner_that_cannot_be_kept_fails_with_keep_all() {
    needs_root!();
    let sandbox = strangers(0o666, 1000, NOBODY);
    sandbox
        .atomwrite(["--keep=all", "out"])
        .user(NOBODY, NOBODY, &[])
        .stdin("new")
        .says("owner")
        .says("'out'")
        .fails(1);
    // And with -q, too: it is no warning.
    sandbox
        .atomwrite(["--keep=all", "-q", "out"])
        .user(NOBODY, NOBODY, &[])
        .stdin("new")
        .says("owner")
        .fails(1);
}

#[test]
fn warnings_are_silent_when_quiet() {
    needs_root!();
    let sandbox = strangers(0o666, 1000, 1001);
    sandbox
        .atomwrite(["-q", "out"])
        .user(NOBODY, NOBODY, &[])
        .stdin("new")
        .succeeds();
    assert_eq!(sandbox.owner("out"), (NOBODY, NOBODY));
}

#[test]
fn keep_none_treats_dest_as_new() {
    let sandbox = Sandbox::new();
    sandbox.write_with_mode("in", "new", 0o750);
    for (arguments, mode) in [
        (&["--keep=none", "out"][..], 0o640),
        (&["--keep=none", "in", "out"], 0o750),
    ] {
        sandbox.write_with_mode("out", "old", 0o666);
        sandbox.set_xattr("out", "user.origin", b"somewhere");
        sandbox
            .atomwrite(arguments.to_vec())
            .umask(0o027)
            .stdin("new")
            .succeeds();
        assert_eq!(sandbox.mode("out"), mode, "{arguments:?}");
        assert_eq!(sandbox.xattr("out", "user.origin"), None);
    }
}

#[test]
fn keep_none_gives_the_file_to_the_user_without_a_warning() {
    needs_root!();
    let sandbox = strangers(0o6666, 1000, 1001);
    sandbox
        .atomwrite(["--keep=none", "out"])
        .user(NOBODY, NOBODY, &[])
        .stdin("new")
        .succeeds();
    assert_eq!(
        (sandbox.owner("out"), sandbox.mode("out")),
        ((NOBODY, NOBODY), 0o644)
    );
    let sandbox = strangers(0o666, 1000, 1001);
    sandbox
        .atomwrite(["--keep=none", "out"])
        .stdin("new")
        .succeeds();
    assert_eq!(sandbox.owner("out"), (0, 0));
}

#[test]
fn keep_none_takes_a_default_acl_and_drops_the_files_own() {
    needs_tool!("setfacl", "getfacl");
    let sandbox = Sandbox::new();
    sandbox.write("out", "old");
    if !sandbox.setfacl("out", &["-m", "u:1000:rw"]) {
        skip!("the filesystem has no ACLs");
    }
    sandbox
        .atomwrite(["--keep=none", "out"])
        .stdin("new")
        .succeeds();
    assert_eq!(sandbox.xattr("out", "system.posix_acl_access"), None);
    sandbox.setfacl("", &["-d", "-m", "u:1002:rw"]);
    sandbox
        .atomwrite(["--keep=none", "out"])
        .stdin("new")
        .succeeds();
    assert!(
        sandbox.acl("out").contains("user:1002:rw-"),
        "{}",
        sandbox.acl("out")
    );
}

#[test]
fn an_owner_and_a_group_that_cannot_be_kept_are_both_told() {
    needs_root!();
    let sandbox = strangers(0o666, 1000, 1001);
    sandbox
        .atomwrite(["out"])
        .user(NOBODY, NOBODY, &[])
        .stdin("new")
        .warns("owner")
        .warns("group")
        .succeeds();
    assert_eq!(sandbox.owner("out"), (NOBODY, NOBODY));
}

#[test]
fn an_acl_that_cannot_be_kept_does_not_leave_the_directorys_in_its_place() {
    // As in a user namespace, where an ACL can name users that are not mapped: EINVAL.
    needs_tool!("strace", "setfacl", "getfacl");
    for error in ["EINVAL", "EPERM", "EOPNOTSUPP"] {
        let sandbox = Sandbox::new();
        sandbox.write("out", "old");
        if !sandbox.setfacl("out", &["-m", "u:1000:r,g::rw,o::-"]) {
            skip!("the filesystem has no ACLs");
        }
        sandbox.setfacl("", &["-d", "-m", "u:1003:rwx,g::rwx,o::rwx"]);
        let inject = format!("inject=fsetxattr:error={error}");
        sandbox
            .atomwrite(["out"])
            .through([
                "strace",
                "-qq",
                "-o",
                "/dev/null",
                "-e",
                "trace=fsetxattr",
                "-e",
                &inject,
            ])
            .stdin("new")
            .warns("ACL")
            .succeeds();
        let acl = sandbox.acl("out");
        assert!(!acl.contains("1003"), "{error}: open to others now:\n{acl}");
        assert_eq!(sandbox.mode("out") & 0o007, 0);
    }
}

/// An ACL that names somebody; what the new file may be without it, given what each could do by it.
const LISTS: [(&str, u32); 4] = [
    // Whom the list shuts out would be one of the others, or of the group.
    ("u::rw,u:1000:-,g::r,o::r,m::rw", 0o600),
    ("u::rw,g::rw,g:1000:-,o::rw,m::rw", 0o600),
    ("u::rw,u:1000:rw,g::r,o::r,m::rw", 0o644),
    // The mask is no right: the owning group had none.
    ("u::rw,u:1000:rw,g::-,o::-,m::rw", 0o600),
];

#[test]
fn without_its_acl_a_file_is_open_to_nobody_who_was_shut_out() {
    needs_root!();
    needs_tool!("strace", "setfacl");
    let namespace: &[&str] = &["unshare", "-Ur"];
    let refusal: &[&str] = &[
        "strace",
        "-qq",
        "-o",
        "/dev/null",
        "-e",
        "trace=fsetxattr",
        "-e",
        "inject=fsetxattr:error=EINVAL",
    ];
    // In a user namespace that does not know whom the list names, and where the filesystem takes no list.
    let mut ways = vec![refusal];
    if has_user_namespaces() {
        ways.push(namespace);
    } else {
        report_skipped("needs user namespaces");
    }
    for through in ways {
        for (list, mode) in LISTS {
            let sandbox = Sandbox::new();
            sandbox.write("out", "old");
            if !sandbox.setfacl("out", &["--set", list]) {
                skip!("the filesystem has no ACLs");
            }
            sandbox
                .atomwrite(["out"])
                .through(through.iter().copied())
                .stdin("new")
                .warns("ACL")
                .succeeds();
            assert_eq!(sandbox.text("out"), "new");
            assert_eq!(sandbox.mode("out"), mode, "{list}\n{}", sandbox.acl("out"));
            assert!(sandbox.xattr("out", "system.posix_acl_access").is_none());

            let sandbox = Sandbox::new();
            sandbox.write("out", "old");
            sandbox.setfacl("out", &["--set", list]);
            sandbox
                .atomwrite(["--keep=all", "out"])
                .through(through.iter().copied())
                .stdin("new")
                .says("ACL")
                .fails(1);
        }
    }
}

#[test]
fn a_set_gid_bit_that_the_kernel_drops_is_told() {
    // chmod(2) drops it in silence where the caller is not in the file's group, and the group can be kept all the same:
    // the directory hands it down.
    needs_root!();
    let shared = || {
        let sandbox = Sandbox::new();
        sandbox.write("out", "old");
        sandbox.chown("out", NOBODY, 1001);
        sandbox.chmod("out", 0o2755);
        sandbox.chown("", NOBODY, 1001);
        sandbox.chmod("", 0o2755);
        sandbox
    };
    let sandbox = shared();
    let run = sandbox.atomwrite(["out"]).user(NOBODY, NOBODY, &[]);
    run.stdin("new").warns("'out'").succeeds();
    assert_eq!(
        (sandbox.owner("out"), sandbox.mode("out")),
        ((NOBODY, 1001), 0o755)
    );
    for option in ["--keep=all", "--mode=g+s", "--mode=2755"] {
        let sandbox = shared();
        let run = sandbox.atomwrite([option, "out"]).user(NOBODY, NOBODY, &[]);
        run.stdin("new").says("'out'").fails(1);
    }
}

#[test]
fn a_group_that_the_user_is_in_is_kept() {
    needs_root!();
    for mode in [0o664, 0o2775] {
        let sandbox = strangers(mode, NOBODY, 1001);
        sandbox
            .atomwrite(["--keep=all", "out"])
            .user(NOBODY, NOBODY, &[1000, 1001])
            .stdin("new")
            .succeeds();
        assert_eq!(
            (sandbox.owner("out"), sandbox.mode("out")),
            ((NOBODY, 1001), mode)
        );
    }
}

#[test]
fn a_group_is_kept_where_the_owner_cannot_be() {
    needs_root!();
    let sandbox = strangers(0o664, 1000, 1001);
    sandbox
        .atomwrite(["out"])
        .user(NOBODY, NOBODY, &[1001])
        .stdin("new")
        .warns("owner")
        .succeeds();
    assert_eq!(
        (sandbox.owner("out"), sandbox.mode("out")),
        ((NOBODY, 1001), 0o664)
    );
}

#[test]
fn a_group_that_cannot_be_kept_loses_what_others_do_not_have() {
    needs_root!();
    for (old, new) in [
        (0o664, 0o644),
        (0o640, 0o600),
        (0o660, 0o600),
        (0o670, 0o600),
        (0o666, 0o666),
        (0o675, 0o655),
        // Who was in the group is one of the others now, and may do no more than before.
        (0o646, 0o644),
        (0o604, 0o600),
    ] {
        let sandbox = strangers(old, NOBODY, 1001);
        sandbox
            .atomwrite(["out"])
            .user(NOBODY, NOBODY, &[])
            .stdin("new")
            .warns("group")
            .succeeds();
        assert_eq!(
            (sandbox.owner("out"), sandbox.mode("out")),
            ((NOBODY, NOBODY), new),
            "{old:o}"
        );
    }
}

#[test]
fn a_group_that_cannot_be_kept_fails_with_keep_all() {
    needs_root!();
    let sandbox = strangers(0o660, NOBODY, 1001);
    sandbox
        .atomwrite(["--keep=all", "out"])
        .user(NOBODY, NOBODY, &[])
        .stdin("new")
        .says("group")
        .fails(1);
}

#[test]
fn a_group_that_cannot_be_kept_loses_it_in_an_acl_too() {
    needs_root!();
    needs_tool!("setfacl", "getfacl");
    let sandbox = strangers(0o644, NOBODY, 1001);
    if !sandbox.setfacl("out", &["-m", "g::rw-,u:1000:rw-,g:1002:rw-,o::r--"]) {
        skip!("the filesystem has no ACLs");
    }
    sandbox
        .atomwrite(["out"])
        .user(NOBODY, NOBODY, &[])
        .stdin("new")
        .warns("group")
        .succeeds();
    let acl = sandbox.acl("out");
    // Those who are named keep what they were given; only the owning group is another one now.
    for line in [
        "user::rw-",
        "user:1000:rw-",
        "group::r--",
        "group:1002:rw-",
        "mask::rw-",
        "other::r--",
    ] {
        assert!(acl.lines().any(|have| have == line), "no {line} in\n{acl}");
    }
}

#[test]
fn set_id_bits_go_where_the_owner_or_the_group_goes() {
    needs_root!();
    // The owner goes, the group stays.
    let sandbox = strangers(0o6777, 1000, NOBODY);
    sandbox
        .atomwrite(["-q", "out"])
        .user(NOBODY, NOBODY, &[])
        .stdin("new")
        .succeeds();
    assert_eq!(
        (sandbox.owner("out"), sandbox.mode("out")),
        ((NOBODY, NOBODY), 0o777)
    );
    // The group goes, the owner stays.
    let sandbox = strangers(0o6777, NOBODY, 1001);
    sandbox
        .atomwrite(["-q", "out"])
        .user(NOBODY, NOBODY, &[])
        .stdin("new")
        .succeeds();
    assert_eq!(
        (sandbox.owner("out"), sandbox.mode("out")),
        ((NOBODY, NOBODY), 0o777)
    );
    // Asked for: another owner, another group.
    for option in ["-o1001", "-g1002"] {
        let sandbox = strangers(0o6755, 1000, 1001);
        sandbox.atomwrite([option, "out"]).stdin("new").succeeds();
        assert_eq!(sandbox.mode("out"), 0o755, "{option}");
    }
    // The same owner is no other.
    let sandbox = strangers(0o6755, 1000, 1001);
    sandbox
        .atomwrite(["-o1000", "-g1001", "out"])
        .stdin("new")
        .succeeds();
    assert_eq!(
        (sandbox.owner("out"), sandbox.mode("out")),
        ((1000, 1001), 0o6755)
    );
}

#[test]
fn set_id_bits_that_are_asked_for_are_set() {
    needs_root!();
    let sandbox = strangers(0o755, 1000, 1001);
    sandbox
        .atomwrite(["-m", "6755", "-o", "1002", "-g", "1003", "out"])
        .stdin("new")
        .succeeds();
    assert_eq!(
        (sandbox.owner("out"), sandbox.mode("out")),
        ((1002, 1003), 0o6755)
    );
    let sandbox = strangers(0o755, 1000, 1001);
    sandbox
        .atomwrite(["-m", "u+s", "-o", "1002", "out"])
        .stdin("new")
        .succeeds();
    assert_eq!(sandbox.mode("out"), 0o4755);
}

// ---- -m -------------------------------------------------------------------------------------------------------

#[test]
fn a_mode_is_set_as_told_on_new_and_existing_files() {
    let sandbox = Sandbox::new();
    for (option, mode) in [
        ("600", 0o600),
        ("0640", 0o640),
        ("4755", 0o4755),
        ("2711", 0o2711),
        ("1777", 0o1777),
        ("0", 0),
        ("444", 0o444),
    ] {
        sandbox.write("existing", "old");
        sandbox
            .atomwrite(["-m", option, "existing"])
            .umask(0o077)
            .stdin("new")
            .succeeds();
        assert_eq!(sandbox.mode("existing"), mode, "{option}");
        sandbox
            .atomwrite([&format!("--mode={option}"), "new"])
            .umask(0o077)
            .stdin("new")
            .succeeds();
        assert_eq!(sandbox.mode("new"), mode, "{option}");
        fs::remove_file(sandbox.path("new")).unwrap();
        fs::remove_file(sandbox.path("existing")).unwrap();
    }
}

#[test]
fn a_symbolic_mode_is_applied_to_the_mode_it_would_otherwise_get() {
    let sandbox = Sandbox::new();
    // On a new file under a umask: what it would get is 0666 less that.
    for (option, umask, mode) in [
        ("+x", 0o022, 0o755),
        ("+x", 0o077, 0o700),
        ("a+x", 0o077, 0o711),
        ("u=rw,go=", 0o022, 0o600),
        ("g=u", 0o022, 0o664),
        ("o=g", 0o027, 0o644),
        ("a+X", 0o022, 0o644),
        ("u+x,a+X", 0o022, 0o755),
        ("=", 0o022, 0o000),
        ("-w", 0o022, 0o466),
        ("+t", 0o022, 0o1644),
        ("u+s", 0o022, 0o4644),
        ("g+s", 0o022, 0o2644),
        ("ug+s,o-r", 0o022, 0o6640),
        ("u+w-r", 0o022, 0o244),
        ("go-rwx", 0o022, 0o600),
        ("+r", 0o777, 0o000),
        ("a=r", 0o777, 0o444),
    ] {
        // `-w` under umask 022 takes away what the umask lets: the owner's.
        let mode = if option == "-w" { 0o444 } else { mode };
        sandbox
            .atomwrite([&format!("--mode={option}"), "new"])
            .umask(umask)
            .stdin("new")
            .succeeds();
        assert_eq!(sandbox.mode("new"), mode, "{option} under {umask:o}");
        fs::remove_file(sandbox.path("new")).unwrap();
    }
    // On an existing one: its own.
    for (old, option, mode) in [
        (0o644, "+x", 0o755),
        (0o640, "g=u", 0o660),
        (0o744, "a+X", 0o755),
        (0o644, "a+X", 0o644),
        (0o4755, "u-s", 0o755),
        (0o4755, "go=", 0o4700),
        (0o2755, "g-x", 0o2745),
        (0o777, "=", 0o000),
        (0o6777, "=644", 0o644),
    ] {
        sandbox.write_with_mode("old", "old", old);
        sandbox
            .atomwrite([&format!("--mode={option}"), "old"])
            .stdin("new")
            .succeeds();
        assert_eq!(sandbox.mode("old"), mode, "{option} on {old:o}");
        fs::remove_file(sandbox.path("old")).unwrap();
    }
    // And from SOURCE.
    sandbox.write_with_mode("in", "new", 0o500);
    sandbox
        .atomwrite(["-m", "g+r", "in", "from-source"])
        .succeeds();
    assert_eq!(sandbox.mode("from-source"), 0o540);
}

#[test]
fn a_mode_may_begin_with_a_dash() {
    let sandbox = Sandbox::new();
    sandbox.write_with_mode("out", "old", 0o755);
    sandbox
        .atomwrite(["-m", "-x", "out"])
        .stdin("new")
        .succeeds();
    assert_eq!(sandbox.mode("out"), 0o644);
    sandbox
        .atomwrite(["--mode", "-w", "out"])
        .stdin("new")
        .succeeds();
    assert_eq!(sandbox.mode("out"), 0o444);
    sandbox.atomwrite(["-fmu+w", "out"]).stdin("new").succeeds();
    assert_eq!(sandbox.mode("out"), 0o644);
}

#[test]
fn a_mode_on_a_file_with_an_acl_is_what_chmod_makes_of_it() {
    needs_tool!("setfacl", "getfacl");
    let sandbox = Sandbox::new();
    for option in ["640", "g-w", "u=rw,go=", "+x", "777"] {
        sandbox.write("out", "old");
        if !sandbox.setfacl("out", &["-m", "u:1000:rw,g:1001:rwx,g::r"]) {
            skip!("the filesystem has no ACLs");
        }
        tool(
            "cp",
            [
                "-p".as_ref(),
                sandbox.path("out").as_os_str(),
                sandbox.path("reference").as_os_str(),
            ],
        );
        tool(
            "sh",
            [
                "-c",
                "umask 022; exec chmod -- \"$0\" \"$1\"",
                option,
                sandbox.path("reference").to_str().unwrap(),
            ],
        );
        sandbox
            .atomwrite([&format!("--mode={option}"), "out"])
            .stdin("new")
            .succeeds();
        assert_eq!(sandbox.acl("out"), sandbox.acl("reference"), "{option}");
        assert_eq!(sandbox.mode("out"), sandbox.mode("reference"), "{option}");
    }
}

#[test]
fn a_malformed_mode_is_a_usage_error() {
    let sandbox = Sandbox::new();
    sandbox.write("out", "old");
    for option in [
        "8",
        "10000",
        "+y",
        "u",
        "u=rw,",
        ",u=r",
        "u=rw,,g=r",
        "u=gr",
        "rw",
        "0x1ff",
        "",
        " 644",
        "644 ",
        "u+",
        "z=r",
        "-1",
        "77777777777777777777",
        "６４４",
    ] {
        let valid = Command::new("chmod")
            .arg("--")
            .arg(option)
            .arg(sandbox.path("out"))
            .output()
            .unwrap();
        sandbox.chmod("out", 0o644);
        if valid.status.success() {
            continue;
        }
        let input = Witness::new();
        sandbox
            .atomwrite([&format!("--mode={option}"), "out"])
            .stdin_from(input.input())
            .fails(2);
        input.has_not_been_read();
    }
    sandbox
        .atomwrite(["-m", "rwx", "out"])
        .stdin("new")
        .says("'rwx'")
        .fails(2);
}

/// Expressions as people write them, and such as nobody should.
fn mode_expressions() -> impl Strategy<Value = String> {
    let clause = (
        proptest::sample::subsequence(vec!['u', 'g', 'o', 'a'], 0..=4),
        proptest::collection::vec(
            (
                proptest::sample::select(vec!['+', '-', '=']),
                prop_oneof![
                    4 => proptest::sample::subsequence(vec!['r', 'w', 'x', 'X', 's', 't'], 0..=6)
                        .prop_map(|bits| bits.into_iter().collect::<String>()),
                    2 => proptest::sample::select(vec!["u", "g", "o"]).prop_map(String::from),
                    1 => "[0-7]{1,5}",
                ],
            ),
            1..4,
        ),
    )
        .prop_map(|(who, actions)| {
            let mut text: String = who.into_iter().collect();
            for (operator, operand) in actions {
                text.push(operator);
                text.push_str(&operand);
            }
            text
        });
    prop_oneof![
        6 => proptest::collection::vec(clause, 1..4).prop_map(|clauses| clauses.join(",")),
        1 => "[0-7]{1,6}",
        2 => "[ugoarwxXst+=,0-9 -]{0,8}",
    ]
}

#[test]
fn symbolic_modes_mean_what_chmod_means() {
    let sandbox = Sandbox::new();
    let config = ProptestConfig {
        cases: 400,
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    let modes = prop_oneof![0..=0o7777_u32, 0..=0o777_u32];
    let umasks = proptest::sample::select(vec![0o000, 0o002, 0o022, 0o027, 0o077, 0o777, 0o124]);
    proptest!(config, |(expression in mode_expressions(), old in modes, umask in umasks)| {
        // Removed first: without the right to write in it, it could not be written again by those who are not root.
        drop(fs::remove_file(sandbox.path("out")));
        drop(fs::remove_file(sandbox.path("reference")));
        sandbox.write_with_mode("out", "old", old);
        sandbox.write_with_mode("reference", "old", old);
        let script = format!("umask {umask:o}; exec chmod -- \"$0\" \"$1\"");
        let chmod = Command::new("sh")
            .args(["-c", &script, &expression])
            .arg(sandbox.path("reference"))
            .output()
            .unwrap();
        let arguments = ["--sync=none".to_owned(), "-f".to_owned(), format!("--mode={expression}"), "out".to_owned()];
        let run = sandbox.atomwrite(arguments).umask(umask).stdin("new");
        if chmod.status.success() {
            run.succeeds();
            let (ours, theirs) = (sandbox.mode("out"), sandbox.mode("reference"));
            prop_assert_eq!(ours, theirs, "{:o}, not {:o}, by {:?} on {:o} under {:o}", ours, theirs, expression, old, umask);
        } else {
            run.fails(2);
        }
    });
}

// ---- -o and -g ------------------------------------------------------------------------------------------------

/// The first user and group of the machine that are not root, by name and number.
fn somebody() -> ((String, u32), (String, u32)) {
    let first = |database: &str| {
        let entries = tool("getent", [database]);
        let mut entries = entries
            .lines()
            .map(|line| line.split(':').collect::<Vec<_>>());
        let found = entries
            .find(|entry| entry[2] != "0" && entry[0].is_ascii())
            .unwrap();
        (found[0].to_owned(), found[2].parse().unwrap())
    };
    (first("passwd"), first("group"))
}

#[test]
fn owner_and_group_are_set_by_name_and_by_number() {
    needs_root!();
    let sandbox = Sandbox::new();
    let ((user, uid), (group, gid)) = somebody();
    sandbox.write("in", "new");
    for (option, expected) in [
        (format!("-o{user}"), (uid, 0)),
        (format!("--owner={user}"), (uid, 0)),
        (format!("-g{group}"), (0, gid)),
        (format!("--group={group}"), (0, gid)),
        ("-o12345".to_owned(), (12345, 0)),
        ("-g54321".to_owned(), (0, 54321)),
        ("-o0".to_owned(), (0, 0)),
        ("-o4294967294".to_owned(), (u32::MAX - 1, 0)),
    ] {
        sandbox.atomwrite([&option, "new"]).stdin("new").succeeds();
        assert_eq!(sandbox.owner("new"), expected, "{option}");
        fs::remove_file(sandbox.path("new")).unwrap();
        sandbox.write("old", "old");
        sandbox.atomwrite([&option, "in", "old"]).succeeds();
        assert_eq!(sandbox.owner("old"), expected, "{option}");
        fs::remove_file(sandbox.path("old")).unwrap();
    }
    sandbox.write("old", "old");
    sandbox.chown("old", 1000, 1001);
    sandbox
        .atomwrite(["-o", "1002", "old"])
        .stdin("new")
        .succeeds();
    assert_eq!(sandbox.owner("old"), (1002, 1001));
    sandbox
        .atomwrite(["--keep=none", "-g", "1003", "old"])
        .stdin("new")
        .succeeds();
    assert_eq!(sandbox.owner("old"), (0, 1003));
}

#[test]
fn looking_up_a_name_takes_nothing_of_the_input() {
    needs_root!();
    let sandbox = Sandbox::new();
    let ((user, uid), (group, gid)) = somebody();
    let arguments = ["-o", &user, "-g", &group, "out"];
    let content = "line\n".repeat(50_000);
    sandbox
        .atomwrite(arguments)
        .stdin(content.clone())
        .succeeds();
    assert!(sandbox.text("out") == content);
    assert_eq!(sandbox.owner("out"), (uid, gid));
    // With nothing but /etc to ask.
    sandbox
        .atomwrite(arguments)
        .env("PATH", sandbox.path("nowhere"))
        .stdin("new")
        .succeeds();
    assert_eq!(sandbox.owner("out"), (uid, gid));
    sandbox
        .atomwrite(["-o", "no-such-user", "out"])
        .env("PATH", sandbox.path("nowhere"))
        .stdin("new")
        .says("'no-such-user'")
        .fails(1);
    // And on descriptors that were closed.
    sandbox.write("in", "from source");
    let arguments = ["-o", &user, "-g", &group, "in", "out"];
    sandbox.atomwrite(arguments).closed(&[0, 1, 2]).succeeds();
    assert_eq!(sandbox.text("out"), "from source");
    assert_eq!(sandbox.owner("out"), (uid, gid));
}

#[test]
fn an_unknown_owner_or_group_fails_before_any_input_is_read() {
    let sandbox = Sandbox::new();
    sandbox.write("out", "old");
    for option in [
        "-ono-such-user",
        "-gno-such-group",
        "-o4294967295",
        "-g4294967295",
        "-o99999999999",
        "-o",
        "-g-1",
        "-oroot:root",
    ] {
        let input = Witness::new();
        let arguments = match option {
            "-o" => vec!["-o", "", "out"],
            option => vec![option, "out"],
        };
        let done = sandbox
            .atomwrite(arguments)
            .stdin_from(input.input())
            .output();
        assert!(matches!(done.code(), Some(1 | 2)), "{option}: {done:?}");
        crate::sandbox::check_message(done.stderr.lines().next().unwrap());
        input.has_not_been_read();
        assert_eq!(sandbox.text("out"), "old");
        assert_eq!(sandbox.names(), ["out"]);
    }
    let done = sandbox
        .atomwrite(["-o", "no-such-user", "out"])
        .stdin("new")
        .output();
    assert!(done.stderr.contains("'no-such-user'"), "{done:?}");
}

#[test]
fn an_owner_or_group_that_is_asked_for_must_succeed() {
    needs_root!();
    for option in ["-o1000", "-g1001", "-o0", "-g0"] {
        for keep in ["try", "none"] {
            let sandbox = strangers(0o666, NOBODY, NOBODY);
            let arguments = [
                option.to_owned(),
                format!("--keep={keep}"),
                "out".to_owned(),
            ];
            sandbox
                .atomwrite(arguments)
                .user(NOBODY, NOBODY, &[])
                .stdin("new")
                .says("operation not permitted")
                .fails(1);
            sandbox
                .atomwrite([option, "new"])
                .user(NOBODY, NOBODY, &[])
                .stdin("new")
                .fails(1);
        }
    }
}

#[test]
fn a_user_may_give_a_file_to_a_group_that_he_is_in() {
    needs_root!();
    let sandbox = strangers(0o664, NOBODY, NOBODY);
    for dest in ["out", "new"] {
        sandbox
            .atomwrite(["-g", "1001", "-o", "65534", dest])
            .user(NOBODY, NOBODY, &[1001])
            .stdin("new")
            .succeeds();
        assert_eq!(sandbox.owner(dest), (NOBODY, 1001));
    }
}

#[test]
fn a_new_owner_on_top_of_an_acl_and_xattrs_leaves_them() {
    needs_root!();
    needs_tool!("setfacl", "getfacl");
    let sandbox = strangers(0o640, 1000, 1001);
    if !sandbox.setfacl("out", &["-m", "u:1002:rw"])
        || !sandbox.set_xattr("out", "user.origin", b"x")
    {
        skip!("the filesystem has no ACLs or xattrs");
    }
    let acl = sandbox.acl("out");
    sandbox
        .atomwrite(["-o1003", "-g1004", "out"])
        .stdin("new")
        .succeeds();
    assert_eq!(sandbox.owner("out"), (1003, 1004));
    assert_eq!(sandbox.acl("out"), acl);
    assert_eq!(sandbox.xattr("out", "user.origin").unwrap(), b"x");
}

/// A directory with a getent that does what `script` says, to be put on PATH.
fn with_getent(sandbox: &Sandbox, script: &str) -> std::path::PathBuf {
    let directory = sandbox.aside(format!("bin-{}", script.len()));
    fs::create_dir_all(&directory).unwrap();
    let program = directory.join("getent");
    // By a shell, so that no descriptor of ours holds the program open for writing when another thread forks.
    tool(
        "sh",
        [
            "-c",
            "printf '#!/bin/sh\\n%s\\n' \"$2\" >\"$1\" && chmod 755 \"$1\"",
            "sh",
            program.to_str().unwrap(),
            script,
        ],
    );
    directory
}

#[test]
fn a_name_that_comes_back_in_another_spelling_is_the_one_that_was_asked_for() {
    needs_root!();
    let sandbox = Sandbox::new();
    // As sssd answers for DOMAIN\Name.
    let getent = with_getent(
        &sandbox,
        "case $1 in passwd) echo 'name@domain:*:4321:99::/:' ;; group) echo 'staff@domain:*:4322:' ;; esac",
    );
    sandbox
        .atomwrite(["-o", "DOMAIN\\Name", "-g", "DOMAIN\\Staff", "out"])
        .env("PATH", getent)
        .stdin("new")
        .succeeds();
    assert_eq!(sandbox.owner("out"), (4321, 4322));
}

#[test]
fn a_getent_that_fails_is_replaced_by_the_files() {
    needs_root!();
    let sandbox = Sandbox::new();
    let ((user, uid), (group, gid)) = somebody();
    for script in ["exit 1", "exit 127; :", "kill -9 $$"] {
        let getent = with_getent(&sandbox, script);
        sandbox
            .atomwrite(["-o", &user, "-g", &group, "out"])
            .env("PATH", &getent)
            .stdin("new")
            .succeeds();
        assert_eq!(sandbox.owner("out"), (uid, gid), "{script}");
        fs::remove_file(sandbox.path("out")).unwrap();
        sandbox
            .atomwrite(["-o", "no-such-user", "out"])
            .env("PATH", &getent)
            .stdin("new")
            .says("'no-such-user'")
            .fails(1);
    }
}

#[test]
fn a_getent_that_knows_nobody_has_the_last_word() {
    needs_root!();
    let sandbox = Sandbox::new();
    let ((user, _), _) = somebody();
    let getent = with_getent(&sandbox, "exit 2");
    let input = Witness::new();
    sandbox
        .atomwrite(["-o", &user, "out"])
        .env("PATH", getent)
        .stdin_from(input.input())
        .says(format!("'{user}'"))
        .fails(1);
    input.has_not_been_read();
}

#[test]
fn a_getent_that_answers_nonsense_is_not_believed() {
    needs_root!();
    let sandbox = Sandbox::new();
    for script in [
        "echo",
        "echo nonsense",
        "echo a:b:c:d",
        "echo a:b:99999999999:d",
        "echo a:b:-1:d",
        "echo a:b:4294967295:d",
    ] {
        let getent = with_getent(&sandbox, script);
        let done = sandbox
            .atomwrite(["-o", "somebody", "out"])
            .env("PATH", getent)
            .stdin("new")
            .output();
        assert_eq!(done.code(), Some(1), "{script} {done:?}");
        assert!(done.stderr.contains("'somebody'"), "{script} {done:?}");
        assert!(sandbox.names().is_empty());
    }
}
