//! A call that fails at the worst moment leaves DEST, the directories and the lock file as they
//! were.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

use crate::harness::{
    COMMIT, Call, Mount, NOBODY, Sandbox, Strace, can_be_others, linux_only, needs_mounts,
    needs_tool, os, tool,
};

#[test]
fn a_rename_that_fails_leaves_none_of_the_directories_that_were_made() {
    needs_tool!("strace");
    for (words, at) in [
        ("-D a/b/c/out", "out"),
        ("-D --lock -q out", "out"),
        ("-D -t a/b/c in", "d0/in"),
    ] {
        let sandbox = Sandbox::with("in", "new");
        sandbox.mkdir("kept");
        let names = sandbox.names();
        let strace = Strace::new().at(at).inject(&format!("{COMMIT}:error=EIO"));
        let done = sandbox.run(words).stdin("new").under(&strace).output();
        assert!(strace.has_injected(), "{words:?} {done:?}");
        assert_eq!(done.code(), Some(1), "{done:?}");
        assert_eq!(sandbox.names(), names, "{words:?} {done:?}");
    }
}

#[test]
fn only_the_link_of_the_backup_stands_before_the_rename_to_dest() {
    linux_only!("unnamed files");
    needs_tool!("strace");
    for (options, backups) in [
        ("--backup=numbered", "out.~1~ out.~2~ out.~7~"),
        ("--backup=existing", "out.~1~"),
        ("--backup=numbered", ""),
        ("--backup=existing", ""),
        ("--backup=simple", ""),
        ("--lock -q --backup=numbered", "out.~1~"),
    ] {
        let sandbox = Sandbox::with("out", "old");
        for name in backups.split_whitespace() {
            sandbox.write(name, "older");
        }
        let strace = Strace::new().every_call();
        let done = sandbox
            .run(&format!("{options} out"))
            .stdin("new")
            .under(&strace)
            .output();
        assert_eq!(done.code(), Some(0), "{done:?}");
        let trace = strace.trace();
        let link = trace.only("link of the new file", Call::links);
        let rename = trace.only("rename", Call::renames);
        let between = &trace.own()[link + 1..rename];
        let links = between.iter().filter(|call| call.is("linkat")).count();
        assert_eq!(links, 1, "{trace}");
        // By one name each, whatever the size of the directory.
        let allowed = ["linkat", "statx", "newfstatat"];
        for call in between {
            assert!(
                allowed.contains(&call.name.as_str()),
                "{} in {trace}",
                call.name
            );
        }
    }
}

#[test]
fn no_lock_file_stays_in_an_append_only_directory() {
    linux_only!("the flags of chattr(1)");
    needs_mounts!();
    needs_tool!("mkfs.ext4", "chattr");
    let mount = Mount::ext4(16, &[]);
    let sandbox = Sandbox::in_dir(mount.path());
    sandbox.write("out", "old");
    let chattr = |flag: &str| {
        tool(
            "chattr",
            [os(flag.as_bytes()).as_os_str(), sandbox.root().as_os_str()],
        )
    };
    chattr("+a");
    for options in ["--lock", "-a"] {
        sandbox
            .run(&format!("{options} -q --inplace=auto out"))
            .stdin("new")
            .succeeds();
        // Without the option nothing can be locked, and nothing can be renamed.
        let run = sandbox.run(&format!("{options} out")).stdin("newer");
        run.fails_with(1, "append-only");
    }
    chattr("-a");
    assert_eq!(sandbox.text("out"), "newnew");
}

#[test]
fn a_validator_works_with_a_umask_of_777() {
    for existing in [true, false] {
        let sandbox = Sandbox::new();
        // A new file gets mode 0, so that only standard input can be read.
        let validator = if existing {
            sandbox.write("out", "old");
            "test \"$(cat)\" = new && test \"$(cat \"$1\")\" = new && test \"$(cat \"$2\")\" = old"
        } else {
            "test \"$(cat)\" = new"
        };
        let words = ["--validate", validator, "out"];
        let mut run = sandbox.atomwrite(words).stdin("new").umask(0o777);
        if can_be_others() {
            sandbox.give_to(NOBODY, NOBODY);
            if existing {
                sandbox.chown("out", NOBODY, NOBODY);
            }
            run = run.by_nobody();
        }
        run.succeeds();
        assert_eq!(sandbox.mode("out"), if existing { 0o644 } else { 0 });
        fs::set_permissions(sandbox.path("out"), Permissions::from_mode(0o600)).unwrap();
        assert_eq!(sandbox.text("out"), "new");
    }
}
