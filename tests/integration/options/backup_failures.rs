//! A run with `--backup` that fails changes no backup, except as the manual says.

use crate::harness::{NOBODY, Sandbox, Strace, each, needs_root, needs_tool, open};
use crate::options::backup::without_the_rename_to_dest;

#[test]
fn a_source_that_the_backup_would_replace_is_refused() {
    let sandbox = Sandbox::with("out", "old");
    sandbox.sh(
        "mkdir far; echo old >far/target; for name in out~ out.orig far/target~; do echo older >$name; done
        ln -s far/target out.link; ln -s out~ to-backup; ln -s to-backup far-to-backup; ln -s far/target to-target",
    );
    let root = sandbox.root().display();
    let lines = [
        "-b out~ out",
        "--backup=existing out~ out",
        "-S .orig out.orig out",
        "-ab out~ out",
        "-S .link far/target out",
        "-b to-backup out",
        "-b far-to-backup out",
        "-b ./out~ out",
        "-b far/../out~ ./out",
        &format!("-b {root}/out~ out"),
        &format!("-b out~ {root}/out"),
        "-b far/target~ to-target",
        "-q --inplace=always -b out~ out",
    ];
    each(lines, |line| {
        sandbox.run(line).fails_with(1, "would destroy SOURCE");
    });
    // Nor is the link that leads to DEST replaced.
    sandbox.sh("echo new >new; ln -s out out.dest; ln -s out.dest chain");
    let lines = [
        "-S .dest new out",
        "-S .dest new out.dest",
        "-S .dest new chain",
        "-S .dest -a new out.dest",
        "-S .dest -q --inplace=always new out.dest",
    ];
    each(lines, |line| {
        sandbox
            .run(line)
            .fails_with(1, "belongs to a symbolic link to it; use another --suffix");
    });
    for name in ["out~", "to-backup"] {
        let run = sandbox.run("-b out").stdin_from(open(sandbox.path(name)));
        run.fails_with(1, "would destroy SOURCE");
    }
}

#[test]
fn a_source_that_is_the_file_of_another_ones_backup_is_refused() {
    let sandbox = Sandbox::new();
    sandbox.sh(
        "mkdir d s other; echo old >d/a; echo precious >d/a~; echo new >s/a; ln -s ../d/a~ s/b
        echo old >other/real; echo precious >other/real~; ln -s ../other/real d/link; echo new >s/link
        ln -s ../other/real~ s/c; echo x >d/c",
    );
    let before = sandbox.listing();
    each(["-b -t d s/a s/b", "-b -t d s/c s/link"], |line| {
        let done = sandbox.run(line).output();
        assert_eq!(done.code(), Some(1), "{done:?}");
        assert!(done.stderr.contains("~' would destroy SOURCE"), "{done:?}");
        assert_eq!(sandbox.listing(), before);
    });
}

#[test]
fn a_source_that_is_an_older_numbered_backup_is_accepted() {
    let cases = [
        (
            "--backup=numbered out.~1~ out",
            "out=older out.~1~=older out.~2~=old out~=oldest",
        ),
        // There is nothing to back up, or no backup is made.
        (
            "-b out~ new",
            "new=oldest out=old out.~1~=older out~=oldest",
        ),
        ("out~ out", "out=oldest out.~1~=older out~=oldest"),
    ];
    each(cases, |(line, left)| {
        let sandbox = Sandbox::with("out", "old");
        sandbox.sh("printf older >out.~1~; printf oldest >out~");
        let done = sandbox.run(line).output();
        assert_eq!((done.code(), &*done.stderr), (Some(0), ""));
        assert_eq!(sandbox.listing(), left);
    });
}

#[test]
fn a_failed_last_rename_removes_a_new_backup_but_cannot_restore_a_replaced_one() {
    needs_tool!("strace");
    let cases = [
        ("simple", "", "out=old"),
        ("simple", "out~", "out=old out~=old"),
        ("numbered", "", "out=old"),
        ("numbered", "out.~1~", "out=old out.~1~=older"),
    ];
    each(cases, |(control, older, left)| {
        for is_copied in [false, true] {
            let sandbox = Sandbox::with("out", "old");
            if !older.is_empty() {
                sandbox.write(older, "older");
            }
            let inode = sandbox.inode("out");
            let mut strace = without_the_rename_to_dest("EIO");
            if is_copied {
                strace = strace.inject("linkat:error=EPERM");
            }
            let run = sandbox.run(&format!("-q --backup={control} out"));
            let done = run.stdin("new").under(&strace).output();
            let why = "atomwrite: cannot write 'out': input/output error; 'out' is unchanged\n";
            assert_eq!((done.code(), &*done.stderr), (Some(1), why));
            assert_eq!(sandbox.listing(), left, "{is_copied}");
            assert_eq!(sandbox.inode("out"), inode);
        }
    });
}

#[test]
fn a_kill_at_the_rename_loses_nothing_and_the_next_run_succeeds() {
    needs_tool!("strace");
    for (control, backups) in [
        ("simple", &["out~"][..]),
        ("numbered", &["out.~1~", "out.~2~"]),
    ] {
        let sandbox = Sandbox::with("out", "old");
        let control = format!("--backup={control}");
        let renames = "rename,renameat,renameat2:signal=SIGKILL:error=EIO";
        let strace = Strace::new().inject(renames).at("out");
        let done = sandbox
            .atomwrite([&control, "out"])
            .stdin("lost")
            .under(&strace)
            .output();
        assert_eq!(done.signal(), Some(libc::SIGKILL), "{done:?}");
        // Both names are one file until the next run.
        assert_eq!(sandbox.text("out"), "old");
        assert_eq!(sandbox.inode("out"), sandbox.inode(backups[0]));
        let run = sandbox.atomwrite([&control, "out"]).stdin("new");
        let done = run.output();
        assert_eq!((done.code(), &*done.stderr), (Some(0), ""));
        assert_eq!(sandbox.names_besides_drafts(), [&["out"], backups].concat());
        assert_eq!(sandbox.text("out"), "new");
        for backup in backups {
            assert_eq!(sandbox.text(backup), "old");
        }
    }
}

#[test]
fn an_older_backup_is_not_touched_by_a_run_that_fails_earlier() {
    needs_tool!("strace");
    for line in ["-b --sync=file out", "--sync=file --backup=numbered out"] {
        let sandbox = Sandbox::with("out", "old");
        sandbox.write("out~", "older");
        let run = sandbox.run(line).stdin("new").inject("fsync:error=EIO");
        run.fails_with(1, "input/output error");
    }
}

#[test]
fn a_backup_that_is_already_a_link_to_dest_stays() {
    needs_root!();
    // As after a kill in the commit: both names are one file.
    for user in [0, NOBODY] {
        let sandbox = Sandbox::new();
        sandbox.chmod("", 0o777);
        sandbox.write_with_mode("out", "old", 0o666);
        sandbox.hard_link("out", "out~");
        let old = sandbox.inode("out");
        let done = sandbox
            .run("-q -b out")
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
