//! `--owner` and `--group`: by name or number; they must succeed.

use std::fs;

use crate::harness::{NOBODY, Sandbox, each, linux_only, needs_root, needs_tool, skip, tool};
use crate::options::keep::another_users_file;

/// The first user and group of the machine that are not root, by name and number.
fn ordinary_user_and_group() -> ((String, u32), (String, u32)) {
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
    let ((user, uid), (group, gid)) = ordinary_user_and_group();
    sandbox.write("in", "new");
    let cases = [
        (&*format!("-o{user}"), (uid, 0)),
        (&format!("--owner={user}"), (uid, 0)),
        (&format!("-g{group}"), (0, gid)),
        (&format!("--group={group}"), (0, gid)),
        ("-o12345", (12345, 0)),
        ("-g54321", (0, 54321)),
        ("-o0", (0, 0)),
        ("-o4294967294", (u32::MAX - 1, 0)),
    ];
    each(cases, |(option, expected)| {
        for line in ["new", "in old"] {
            let sandbox = Sandbox::with("in", "new");
            sandbox.write("old", "old");
            let run = sandbox.run(&format!("{option} {line}"));
            run.stdin("new").writes("new");
            let dest = line.rsplit(' ').next().expect("DEST");
            assert_eq!(sandbox.owner(dest), expected);
        }
    });
    sandbox.write("old", "old");
    sandbox.chown("old", 1000, 1001);
    for (line, owner) in [
        ("-o 1002 old", (1002, 1001)),
        ("--keep=none -g 1003 old", (0, 1003)),
    ] {
        sandbox.run(line).stdin("new").succeeds();
        assert_eq!(sandbox.owner("old"), owner);
    }
}

#[test]
fn looking_up_a_name_takes_nothing_of_the_input() {
    needs_root!();
    let sandbox = Sandbox::new();
    let ((user, uid), (group, gid)) = ordinary_user_and_group();
    let arguments = ["-o", &user, "-g", &group, "out"];
    let content = "line\n".repeat(50_000);
    let run = sandbox.atomwrite(arguments).stdin(content.clone());
    run.succeeds();
    assert!(sandbox.text("out") == content);
    assert_eq!(sandbox.owner("out"), (uid, gid));
    // With /etc as the only source.
    sandbox
        .atomwrite(arguments)
        .env("PATH", sandbox.path("nowhere"))
        .stdin("new")
        .succeeds();
    assert_eq!(sandbox.owner("out"), (uid, gid));
    sandbox
        .run("-o no-such-user out")
        .env("PATH", sandbox.path("nowhere"))
        .stdin("new")
        .fails_with(1, "'no-such-user'");
    // And on descriptors that were closed.
    sandbox.write("in", "from source");
    let arguments = ["-o", &user, "-g", &group, "in", "out"];
    sandbox.atomwrite(arguments).closed(&[0, 1, 2]).succeeds();
    assert_eq!(sandbox.text("out"), "from source");
    assert_eq!(sandbox.owner("out"), (uid, gid));
}

#[test]
fn an_unknown_owner_or_group_fails_before_any_input_is_read() {
    let sandbox = Sandbox::with("out", "old");
    sandbox.refuse_each(&[
        ("-ono-such-user out", 1, "'no-such-user'"),
        ("-gno-such-group out", 1, "'no-such-group'"),
        ("-o4294967295 out", 1, "4294967295"),
        ("-g4294967295 out", 1, "4294967295"),
        ("-o99999999999 out", 1, "99999999999"),
        ("-o '' out", 2, "-o"),
        ("-g-1 out", 1, "-1"),
        ("-oroot:no-such-group out", 1, "'no-such-group'"),
    ]);
}

#[test]
fn an_owner_or_group_that_cannot_be_set_is_an_error() {
    needs_root!();
    each(["-o1000", "-g1001", "-o0", "-g0"], |option| {
        for rest in ["--keep=try out", "--keep=none out", "new"] {
            let sandbox = another_users_file(0o666, NOBODY, NOBODY);
            let run = sandbox.run(&format!("{option} {rest}")).by_nobody();
            run.stdin("new").fails_with(1, "operation not permitted");
        }
    });
}

#[test]
fn users_may_give_a_file_to_a_group_that_they_are_in() {
    needs_root!();
    let sandbox = another_users_file(0o664, NOBODY, NOBODY);
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
    let sandbox = another_users_file(0o640, 1000, 1001);
    if !sandbox.setfacl("out", &["-m", "u:1002:rw"])
        || !sandbox.set_xattr("out", "user.origin", b"x")
    {
        skip!("the filesystem has no ACLs or xattrs");
    }
    let acl = sandbox.acl("out");
    sandbox.run("-o1003 -g1004 out").stdin("new").succeeds();
    assert_eq!(sandbox.owner("out"), (1003, 1004));
    assert_eq!(sandbox.acl("out"), acl);
    assert_eq!(sandbox.xattr("out", "user.origin").unwrap(), b"x");
}

/// A directory with a getent that does what `script` says, to be put on PATH.
fn with_getent(sandbox: &Sandbox, script: &str) -> std::path::PathBuf {
    let directory = sandbox.aside(format!("bin-{}", script.len()));
    fs::create_dir_all(&directory).unwrap();
    let program = directory.join("getent");
    // By a shell, so that no descriptor of ours holds the program open for writing when another
    // thread forks.
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
    linux_only!("getent(1)");
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
    linux_only!("getent(1)");
    needs_root!();
    let sandbox = Sandbox::new();
    let ((user, uid), (group, gid)) = ordinary_user_and_group();
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
            .run("-o no-such-user out")
            .env("PATH", &getent)
            .stdin("new")
            .fails_with(1, "'no-such-user'");
    }
}

#[test]
fn a_user_whom_getent_does_not_know_is_an_error() {
    linux_only!("getent(1)");
    needs_root!();
    let sandbox = Sandbox::new();
    let ((user, _), _) = ordinary_user_and_group();
    let getent = with_getent(&sandbox, "exit 2");
    sandbox
        .atomwrite(["-o", &user, "out"])
        .env("PATH", getent)
        .reads_nothing()
        .fails_with(1, format!("'{user}'"));
}

#[test]
fn a_getent_that_answers_nonsense_is_not_believed() {
    linux_only!("getent(1)");
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
            .run("-o someone out")
            .env("PATH", getent)
            .stdin("new")
            .output();
        assert_eq!(done.code(), Some(1), "{script} {done:?}");
        assert!(done.stderr.contains("'someone'"), "{script} {done:?}");
        assert!(sandbox.names().is_empty());
    }
}
