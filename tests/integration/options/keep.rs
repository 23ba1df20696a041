//! `--keep`, and attributes that cannot be kept.
//!
//! `try` gives a warning, `all` fails, and `none` gives DEST the attributes of a new file. Set-uid
//! and set-gid stay only if owner and group stay. A group that could not be kept loses the rights
//! that others do not have. If the directory has a default ACL and DEST has none, the new file has
//! none.

use std::ffi::OsString;

use crate::harness::{
    NOBODY, Run, Sandbox, Strace, each, has_user_namespaces, needs_root, needs_tool,
    report_skipped, rows, skip,
};

/// A directory of the user nobody, with a file of another user that everyone may write to.
pub(crate) fn another_users_file(mode: u32, owner: u32, group: u32) -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.give_to(NOBODY, NOBODY);
    sandbox.write("out", "old");
    sandbox.chown("out", owner, group);
    sandbox.chmod("out", mode);
    sandbox
}

/// The command line; the groups of the user nobody, or `root`; mode, owner and group
/// before; what is warned of, or the reason for which it fails; mode, owner and group afterwards.
const KEPT: &str = "
# An owner that cannot be kept is warned of once, and the rest is kept.
out | - | 666 1000 65534 | owner | 666 65534 65534
--keep=try out | - | 666 1000 65534 | owner | 666 65534 65534
out | - | 666 1000 1001 | owner group | 666 65534 65534
-q out | - | 666 1000 1001 | | 666 65534 65534
# With --keep=all that fails, and with -q too: it is no warning.
--keep=all out | - | 666 1000 65534 | owner | fails
--keep=all -q out | - | 666 1000 65534 | owner | fails
--keep=all out | - | 660 65534 1001 | group | fails
# With --keep=none the file is the user's, and nothing is warned of.
--keep=none out | - | 6666 1000 1001 | | 644 65534 65534
--keep=none out | root | 666 1000 1001 | | 644 0 0
# A group that the user is in is kept, also where the owner cannot be.
--keep=all out | 1000,1001 | 664 65534 1001 | | 664 65534 1001
--keep=all out | 1000,1001 | 2775 65534 1001 | | 2775 65534 1001
out | 1001 | 664 1000 1001 | owner | 664 65534 1001
# One that cannot be kept loses what others do not have. Who was in the group is one of the others now, and may do no more.
out | - | 664 65534 1001 | group | 644 65534 65534
out | - | 640 65534 1001 | group | 600 65534 65534
out | - | 660 65534 1001 | group | 600 65534 65534
out | - | 670 65534 1001 | group | 600 65534 65534
out | - | 666 65534 1001 | group | 666 65534 65534
out | - | 675 65534 1001 | group | 655 65534 65534
out | - | 646 65534 1001 | group | 644 65534 65534
out | - | 604 65534 1001 | group | 600 65534 65534
# Set-ID bits go where the owner or the group goes, and those that are asked for are set.
-q out | - | 6777 1000 65534 | | 777 65534 65534
-q out | - | 6777 65534 1001 | | 777 65534 65534
-o1001 out | root | 6755 1000 1001 | | 755 1001 1001
-g1002 out | root | 6755 1000 1001 | | 755 1000 1002
-o1000 -g1001 out | root | 6755 1000 1001 | | 6755 1000 1001
-m 6755 -o 1002 -g 1003 out | root | 755 1000 1001 | | 6755 1002 1003
-m u+s -o 1002 out | root | 755 1000 1001 | | 4755 1002 1001
";

#[test]
fn mode_owner_and_group_are_kept_as_far_as_that_is_possible_and_safe() {
    needs_root!();
    each(rows(KEPT), |[line, user, before, lost, after]| {
        let mut old = before.split(' ');
        let mode = u32::from_str_radix(old.next().unwrap(), 8).unwrap();
        let [owner, group] = [(); 2].map(|()| old.next().unwrap().parse().unwrap());
        let sandbox = another_users_file(mode, owner, group);
        let groups = user.split(',').filter_map(|group| group.parse().ok());
        let groups: Vec<_> = groups.collect();
        let run = sandbox.run(line).stdin("new");
        let run = match user {
            "root" => run,
            _ => run.user(NOBODY, NOBODY, &groups),
        };
        let lost = lost.split_whitespace();
        let mut lost =
            lost.map(|what| format!("cannot keep the {what} of 'out': operation not permitted"));
        if after == "fails" {
            run.fails_with(1, lost.next().unwrap());
            return;
        }
        lost.fold(run, Run::warns).writes("new");
        let (uid, gid) = sandbox.owner("out");
        assert_eq!(format!("{:o} {uid} {gid}", sandbox.mode("out")), after);
    });
}

#[test]
fn attributes_are_kept_where_the_owner_cannot_be() {
    needs_root!();
    let sandbox = another_users_file(0o666, 1000, NOBODY);
    if !sandbox.set_xattr("out", "user.origin", b"somewhere") {
        skip!("the filesystem has no extended attributes");
    }
    let run = sandbox.run("out").by_nobody().umask(0o077);
    run.stdin("new").warns("owner").succeeds();
    assert_eq!(sandbox.mode("out"), 0o666);
    assert_eq!(sandbox.xattr("out", "user.origin").unwrap(), b"somewhere");
}

#[test]
fn keep_none_gives_dest_the_attributes_of_a_new_file() {
    let sandbox = Sandbox::new();
    sandbox.write_with_mode("in", "new", 0o750);
    for (arguments, mode) in [("--keep=none out", 0o640), ("--keep=none in out", 0o750)] {
        sandbox.write_with_mode("out", "old", 0o666);
        sandbox.set_xattr("out", "user.origin", b"somewhere");
        sandbox.run(arguments).umask(0o027).stdin("new").succeeds();
        assert_eq!(sandbox.mode("out"), mode, "{arguments:?}");
        assert_eq!(sandbox.xattr("out", "user.origin"), None);
    }
}

#[test]
fn keep_none_takes_a_default_acl_and_drops_the_files_own() {
    needs_tool!("setfacl", "getfacl");
    let sandbox = Sandbox::with("out", "old");
    if !sandbox.setfacl("out", &["-m", "u:1000:rw"]) {
        skip!("the filesystem has no ACLs");
    }
    sandbox.run("--keep=none out").stdin("new").succeeds();
    assert_eq!(sandbox.xattr("out", "system.posix_acl_access"), None);
    sandbox.setfacl("", &["-d", "-m", "u:1002:rw"]);
    sandbox.run("--keep=none out").stdin("new").succeeds();
    assert!(
        sandbox.acl("out").contains("user:1002:rw-"),
        "{}",
        sandbox.acl("out")
    );
}

#[test]
fn an_acl_that_cannot_be_kept_does_not_leave_the_directorys_in_its_place() {
    // As in a user namespace, where an ACL can name users that are not mapped: EINVAL.
    needs_tool!("strace", "setfacl", "getfacl");
    for error in ["EINVAL", "EPERM", "EOPNOTSUPP"] {
        let sandbox = Sandbox::with("out", "old");
        if !sandbox.setfacl("out", &["-m", "u:1000:r,g::rw,o::-"]) {
            skip!("the filesystem has no ACLs");
        }
        sandbox.setfacl("", &["-d", "-m", "u:1003:rwx,g::rwx,o::rwx"]);
        let run = sandbox.run("out").stdin("new").warns("ACL");
        run.inject(&format!("fsetxattr:error={error}")).succeeds();
        let acl = sandbox.acl("out");
        assert!(!acl.contains("1003"), "{error}: open to others now:\n{acl}");
        assert_eq!(sandbox.mode("out") & 0o007, 0);
    }
}

/// An ACL that names a user or group, and the widest mode that the new file may have without it.
const LISTS: [(&str, u32); 4] = [
    // A user or group that the ACL excludes would be one of the others, or of the group.
    ("u::rw,u:1000:-,g::r,o::r,m::rw", 0o600),
    ("u::rw,g::rw,g:1000:-,o::rw,m::rw", 0o600),
    ("u::rw,u:1000:rw,g::r,o::r,m::rw", 0o644),
    // The mask is no right: the owning group had none.
    ("u::rw,u:1000:rw,g::-,o::-,m::rw", 0o600),
];

#[test]
fn a_file_that_loses_its_acl_stays_closed_to_those_whom_the_acl_excluded() {
    needs_root!();
    needs_tool!("strace", "setfacl");
    let namespace = ["unshare", "-Ur"].map(OsString::from).to_vec();
    let strace = Strace::new().inject("fsetxattr:error=EINVAL");
    let refusal = strace.command();
    // In a user namespace that does not know whom the list names, and where the filesystem takes no
    // list.
    let mut ways = vec![refusal];
    if has_user_namespaces() {
        ways.push(namespace);
    } else {
        report_skipped("needs user namespaces");
    }
    for through in &ways {
        for (list, mode) in LISTS {
            let sandbox = Sandbox::with("out", "old");
            if !sandbox.setfacl("out", &["--set", list]) {
                skip!("the filesystem has no ACLs");
            }
            let run = sandbox.run("out").through(through.iter()).stdin("new");
            run.warns("ACL").writes("new");
            assert_eq!(sandbox.mode("out"), mode, "{list}\n{}", sandbox.acl("out"));
            assert!(sandbox.xattr("out", "system.posix_acl_access").is_none());

            let sandbox = Sandbox::with("out", "old");
            sandbox.setfacl("out", &["--set", list]);
            sandbox
                .run("--keep=all out")
                .through(through.iter())
                .stdin("new")
                .fails_with(1, "ACL");
        }
    }
}

#[test]
fn a_set_gid_bit_that_the_kernel_drops_is_reported() {
    // chmod(2) drops it in silence where the caller is not in the file's group, and the group can
    // be kept all the same: the directory hands it down.
    needs_root!();
    let shared = || {
        let sandbox = Sandbox::with("out", "old");
        sandbox.chown("out", NOBODY, 1001);
        sandbox.chmod("out", 0o2755);
        sandbox.chown("", NOBODY, 1001);
        sandbox.chmod("", 0o2755);
        sandbox
    };
    let sandbox = shared();
    let run = sandbox.run("out").by_nobody();
    run.stdin("new").warns("'out'").succeeds();
    assert_eq!(
        (sandbox.owner("out"), sandbox.mode("out")),
        ((NOBODY, 1001), 0o755)
    );
    for option in ["--keep=all", "--mode=g+s", "--mode=2755"] {
        let sandbox = shared();
        let run = sandbox.atomwrite([option, "out"]).by_nobody();
        run.stdin("new").fails_with(1, "'out'");
    }
}

#[test]
fn a_group_that_cannot_be_kept_loses_it_in_an_acl_too() {
    needs_root!();
    needs_tool!("setfacl", "getfacl");
    let sandbox = another_users_file(0o644, NOBODY, 1001);
    if !sandbox.setfacl("out", &["-m", "g::rw-,u:1000:rw-,g:1002:rw-,o::r--"]) {
        skip!("the filesystem has no ACLs");
    }
    let run = sandbox.run("out").by_nobody().stdin("new");
    run.warns("group").succeeds();
    let acl = sandbox.acl("out");
    // Named users and groups keep their permissions; only the owning group has changed.
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
fn keep_takes_three_words() {
    let sandbox = Sandbox::new();
    for line in ["--keep try out", "--keep all out", "--keep none out"] {
        sandbox.run(line).stdin("new").succeeds();
    }
    sandbox.refuse_each(&[
        ("--keep=bogus out", 2, "'bogus'"),
        ("--keep= out", 2, "--keep"),
        ("--keep=ALL out", 2, "'ALL'"),
    ]);
}
