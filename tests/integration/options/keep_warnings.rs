//! The warnings about attributes that cannot be kept.

use crate::harness::{
    Mount, NOBODY, Sandbox, linux_only, needs_mounts, needs_root, needs_tool, tool,
};

#[test]
fn keep_all_warns_about_the_flags_of_chattr() {
    linux_only!("the flags of chattr(1)");
    needs_mounts!();
    needs_tool!("mkfs.ext4", "chattr");
    let mount = Mount::ext4(16, &[]);
    let sandbox = Sandbox::in_dir(mount.path());
    let path = sandbox.write("out", "old");
    let set = || tool("chattr", ["+Ad".as_ref(), path.as_os_str()]);
    set();
    sandbox
        .run("--keep=all out")
        .stdin("new")
        .warns("cannot keep the chattr(1) flags dA of 'out'")
        .succeeds();
    sandbox.run("--keep=all out").stdin("newer").succeeds();
    set();
    sandbox.run("out").stdin("newest").succeeds();
}

#[test]
fn a_mode_that_was_narrowed_because_the_group_was_lost_is_named() {
    needs_root!();
    needs_tool!("setpriv");
    for (old, now, words) in [
        (0o664, "0644", "out"),
        (0o640, "0600", "out"),
        (0o660, "0610", "-m g+x out"),
    ] {
        let sandbox = Sandbox::new();
        sandbox.give_to(NOBODY, NOBODY);
        sandbox.write_with_mode("out", "old", old);
        sandbox.chown("out", NOBODY, 1234);
        let done = sandbox
            .run(words)
            .by_nobody()
            .stdin("new")
            .warns("cannot keep the group of 'out': operation not permitted; its mode is now ")
            .succeeds();
        assert!(done.stderr.ends_with(&format!("{now}\n")), "{done:?}");
        assert_eq!(format!("{:04o}", sandbox.mode("out")), now);
    }
    // Nothing is taken away.
    let sandbox = Sandbox::new();
    sandbox.give_to(NOBODY, NOBODY);
    sandbox.write_with_mode("out", "old", 0o644);
    sandbox.chown("out", NOBODY, 1234);
    let run = sandbox.run("out").by_nobody().stdin("new");
    let done = run.warns("cannot keep the group of 'out'").succeeds();
    assert!(!done.stderr.contains("its mode is now"), "{done:?}");
    // All who may set them keep an owner and a group that change during the run.
    let capable = [
        "--inh-caps=+chown,+fowner,+dac_override",
        "--ambient-caps=+chown,+fowner,+dac_override",
    ];
    for id in [0, 3000] {
        let sandbox = Sandbox::new();
        sandbox.write_with_mode("out", "old", 0o600);
        sandbox.chown("out", 1001, 1001);
        let user = [format!("--reuid={id}"), format!("--regid={id}")];
        let setpriv = ["setpriv", "--clear-groups", &user[0], &user[1]];
        sandbox
            .atomwrite(["--validate", "chown 1002:1002 \"$2\"", "out"])
            .through(setpriv.into_iter().chain(capable))
            .stdin("new")
            .succeeds();
        assert_eq!(sandbox.owner("out"), (1002, 1002), "{id}");
        assert_eq!(sandbox.mode("out"), 0o600, "{id}");
    }
}

#[test]
fn an_owner_without_an_id_in_this_user_namespace_is_reported() {
    needs_root!();
    needs_tool!("unshare");
    let inside = ["unshare", "--user", "--map-root-user"];
    if !std::process::Command::new(inside[0])
        .args(&inside[1..])
        .arg("true")
        .status()
        .is_ok_and(|status| status.success())
    {
        crate::harness::skip!("needs user namespaces");
    }
    let sandbox = Sandbox::new();
    sandbox.chmod(".", 0o777);
    sandbox
        .run("-o 77 new")
        .through(inside)
        .stdin("new")
        .fails_with(
            1,
            "cannot set the owner of 'new': this owner does not exist in this user namespace",
        );
    sandbox
        .run("-g 77 new")
        .through(inside)
        .stdin("new")
        .fails_with(
            1,
            "cannot set the group of 'new': this group does not exist in this user namespace",
        );
    sandbox.write_with_mode("out", "old", 0o666);
    sandbox.chown("out", 77, 78);
    sandbox
        .run("out")
        .through(inside)
        .stdin("new")
        .warns("cannot keep the group of 'out': this group does not exist in this user namespace")
        .warns("cannot keep the owner of 'out': this owner does not exist in this user namespace")
        .succeeds();

    // All such owners have one ID, but they are not one user: the owner of a directory like /tmp,
    // the owners of a link and a file in it, and a process that has no ID itself.
    let sandbox = Sandbox::with("out", "old");
    sandbox.sh("mkdir d; echo old >d/theirs; chmod 666 out d/theirs; ln -s ../out d/link");
    sandbox.sh("chown -h 5:5 d/theirs d/link; chown 6 d; chmod 1777 d");
    for inside in [&inside[..], &["unshare", "--user"]] {
        for line in ["d/link", "-q --inplace d/theirs"] {
            let run = sandbox.run(line).through(inside.iter().copied());
            run.stdin("new")
                .fails_with(1, "is another user's, in a world-writable directory");
        }
    }
}
