//! A run with `--backup` that fails: no backup has changed, or what the contract says has.

use crate::harness::{NOBODY, Sandbox, Strace, needs_root, needs_tool, open};
use crate::options::backup::without_the_rename_to_dest;

#[test]
fn a_source_that_is_the_file_of_the_backups_name_is_refused() {
    let sandbox = Sandbox::new();
    sandbox.write("out", "old");
    sandbox.mkdir("far");
    sandbox.write("far/target", "old");
    for name in ["out~", "out.orig", "far/target~"] {
        sandbox.write(name, "older");
    }
    sandbox.symlink("out~", "to-backup");
    sandbox.symlink("to-backup", "far-to-backup");
    sandbox.symlink("far/target", "to-target");
    let absolute = sandbox.path("out~");
    let absolute = absolute.to_str().unwrap();
    for words in [
        &["-b", "out~", "out"][..],
        &["--backup=existing", "out~", "out"],
        &["-S", ".orig", "out.orig", "out"],
        &["-ab", "out~", "out"],
        &["-b", "to-backup", "out"],
        &["-b", "far-to-backup", "out"],
        &["-b", "./out~", "out"],
        &["-b", "far/../out~", "./out"],
        &["-b", absolute, "out"],
        &["-b", "out~", sandbox.path("out").to_str().unwrap()],
        &["-b", "far/target~", "to-target"],
        &["-q", "--inplace=always", "-b", "out~", "out"],
    ] {
        sandbox
            .atomwrite(words.iter().copied())
            .says("would destroy SOURCE")
            .fails(1);
    }
    for name in ["out~", "to-backup"] {
        sandbox
            .atomwrite(["-b", "out"])
            .stdin_from(open(sandbox.path(name)))
            .says("would destroy SOURCE")
            .fails(1);
    }
}

#[test]
fn a_source_that_is_a_backup_which_stays_is_written() {
    let sandbox = Sandbox::new();
    sandbox.write("out", "old");
    sandbox.write("out.~1~", "older");
    sandbox
        .atomwrite(["--backup=numbered", "out.~1~", "out"])
        .leaves(["out", "out.~1~", "out.~2~"])
        .succeeds();
    assert_eq!(sandbox.text("out"), "older");
    assert_eq!(sandbox.text("out.~1~"), "older");
    assert_eq!(sandbox.text("out.~2~"), "old");
    // There is nothing to back up.
    sandbox.write("new~", "older");
    sandbox.atomwrite(["-b", "new~", "new"]).succeeds();
    assert_eq!(sandbox.text("new"), "older");
    // Nor is a backup made.
    sandbox.write("new", "old");
    sandbox.atomwrite(["new~", "new"]).succeeds();
    assert_eq!(sandbox.text("new"), "older");
}

#[test]
fn a_last_rename_that_fails_takes_a_new_backup_back_and_leaves_an_older_one_replaced() {
    needs_tool!("strace");
    for copied in [false, true] {
        for (control, name, older) in [
            ("simple", "out~", false),
            ("simple", "out~", true),
            ("numbered", "out.~1~", false),
            ("numbered", "out.~2~", true),
        ] {
            let sandbox = Sandbox::new();
            sandbox.write("out", "old");
            if older {
                sandbox.write(
                    if control == "simple" {
                        "out~"
                    } else {
                        "out.~1~"
                    },
                    "older",
                );
            }
            let inode = sandbox.inode("out");
            let before = sandbox.names();
            let mut strace = without_the_rename_to_dest("EIO");
            if copied {
                strace = strace.inject("linkat:error=EPERM");
            }
            let done = sandbox
                .atomwrite(["-q", &format!("--backup={control}"), "out"])
                .stdin("new")
                .through(strace.command())
                .output();
            assert_eq!(done.code(), Some(1), "{done:?}");
            assert_eq!(
                done.stderr,
                "atomwrite: cannot write 'out': input/output error; 'out' is unchanged\n"
            );
            let case = format!("{copied} {control} {older}");
            assert_eq!(sandbox.names(), before, "{case}");
            assert_eq!(sandbox.text("out"), "old", "{case}");
            assert_eq!(sandbox.inode("out"), inode, "{case}");
            match name {
                "out~" if older => assert_eq!(sandbox.text("out~"), "old", "{case}"),
                "out.~2~" => assert_eq!(sandbox.text("out.~1~"), "older", "{case}"),
                _ => {}
            }
        }
    }
}

#[test]
fn a_kill_at_the_rename_loses_nothing_and_the_next_run_goes_on() {
    needs_tool!("strace");
    for (control, backups) in [
        ("simple", &["out~"][..]),
        ("numbered", &["out.~1~", "out.~2~"]),
    ] {
        let sandbox = Sandbox::new();
        sandbox.write("out", "old");
        let control = format!("--backup={control}");
        let renames = "rename,renameat,renameat2:signal=SIGKILL:error=EIO";
        let strace = Strace::new().inject(renames).at("out");
        let done = sandbox
            .atomwrite([&control, "out"])
            .stdin("lost")
            .through(strace.command())
            .output();
        assert_eq!(done.signal(), Some(libc::SIGKILL), "{done:?}");
        // Both names are one file until the next run.
        assert_eq!(sandbox.text("out"), "old");
        assert_eq!(sandbox.inode("out"), sandbox.inode(backups[0]));
        let names = ["out"].iter().chain(backups).copied();
        sandbox
            .atomwrite([&control, "out"])
            .stdin("new")
            .leaves(names)
            .succeeds();
        assert_eq!(sandbox.text("out"), "new");
        for backup in backups {
            assert_eq!(sandbox.text(backup), "old");
        }
    }
}

#[test]
fn an_older_one_is_not_touched_by_a_run_that_fails_before() {
    needs_tool!("strace");
    for (injection, options) in [
        ("fsync:error=EIO", &["--sync=file"][..]),
        ("fsync:error=EIO", &["--sync=file", "--backup=numbered"]),
    ] {
        let sandbox = Sandbox::new();
        sandbox.write("out", "old");
        sandbox.write("out~", "older");
        let strace = Strace::new().inject(injection);
        sandbox
            .atomwrite(["-b"].iter().chain(options).chain(&["out"]).copied())
            .stdin("new")
            .through(strace.command())
            .says("input/output error")
            .fails(1);
    }
}

#[test]
fn a_second_name_that_is_the_backups_already_stays_it() {
    needs_root!();
    // As a run leaves it that was killed in its commit; then the two are one file.
    for user in [0, NOBODY] {
        let sandbox = Sandbox::new();
        sandbox.chmod("", 0o777);
        sandbox.write_with_mode("out", "old", 0o666);
        sandbox.hard_link("out", "out~");
        let old = sandbox.inode("out");
        let done = sandbox
            .atomwrite(["-q", "-b", "out"])
            .stdin("new")
            .user(user, user, &[])
            .output();
        assert_eq!(done.code(), Some(0), "{done:?}");
        assert_eq!(sandbox.names(), ["out", "out~"]);
        assert_eq!(sandbox.inode("out~"), old);
        assert_eq!(sandbox.text("out"), "new");
        assert_eq!(sandbox.text("out~"), "old");
    }
}
