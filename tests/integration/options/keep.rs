//! `--keep`, and what cannot be kept.
//!
//! `try` warns of that, `all` fails then, `none` treats DEST as new. Set-uid and set-gid stay only if owner and group stay;
//! a group that could not be kept loses what others do not have; where the directory has a default ACL and DEST has none,
//! the result has none.

use crate::harness::{
    NOBODY, Sandbox, has_user_namespaces, needs_root, needs_tool, report_skipped, skip,
};

/// A directory that nobody may write in, with a file that nobody may write but not own.
pub(crate) fn strangers(mode: u32, owner: u32, group: u32) -> Sandbox {
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

#[test]
fn keep_takes_three_words() {
    let sandbox = Sandbox::new();
    for word in ["try", "all", "none"] {
        sandbox
            .atomwrite(["--keep", word, "out"])
            .stdin("new")
            .succeeds();
    }
    for option in ["--keep=bogus", "--keep=", "--keep=ALL"] {
        sandbox.atomwrite([option, "out"]).stdin("new").fails(2);
    }
}
