//! `--backup` and `--suffix`.
//!
//! The methods are GNU's none, simple, numbered and existing, with its environment
//! (VERSION_CONTROL, SIMPLE_BACKUP_SUFFIX). The backup is a hard link to the old file, or a copy if
//! no link is possible, and is made as late as possible. DEST is never missing, and a backup never
//! partial. A run that fails before that changes no backup. If the last rename fails, a new backup
//! is removed again, and an older one that was replaced stays replaced. A SOURCE or stdin that has
//! the backup's name is refused.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::{fs, thread};

use crate::harness::{
    Call, Done, Mount, NOBODY, Sandbox, Strace, each, linux_only, needs_mounts, needs_root,
    needs_tool, skip,
};

// ---- The file ----

/// A DEST with all that a file can have.
fn adorn(sandbox: &Sandbox, name: &str) {
    sandbox.write_with_mode(name, "old content", 0o640);
    sandbox.chown(name, NOBODY, NOBODY);
    sandbox.setfacl(name, &["-m", "u:1:rw"]);
    sandbox.set_xattr(name, "user.one", b"1");
}

#[track_caller]
fn is_adorned(sandbox: &Sandbox, name: &str) {
    assert_eq!(sandbox.text(name), "old content");
    assert_eq!(sandbox.owner(name), (NOBODY, NOBODY));
    assert!(sandbox.acl(name).contains("user:1:rw-"));
    assert_eq!(sandbox.xattr(name, "user.one").as_deref(), Some(&b"1"[..]));
    assert_eq!(sandbox.stat(name).nlink(), 1);
}

#[test]
fn the_backup_is_the_old_file_itself() {
    needs_root!();
    needs_tool!("setfacl");
    let sandbox = Sandbox::new();
    adorn(&sandbox, "out");
    let before = sandbox.stat("out");
    let run = sandbox.run("-b out").stdin("new");
    run.leaves(["out", "out~"]).succeeds();
    is_adorned(&sandbox, "out~");
    let after = sandbox.stat("out~");
    assert_eq!(before.ino(), after.ino());
    assert_eq!(
        (before.mtime(), before.mtime_nsec()),
        (after.mtime(), after.mtime_nsec())
    );
    // Over an older one, too.
    let old = sandbox.inode("out");
    let run = sandbox.run("-b out").stdin("newer");
    run.leaves(["out", "out~"]).succeeds();
    assert_eq!(sandbox.inode("out~"), old);
    assert_eq!(sandbox.text("out~"), "new");
}

#[test]
fn the_backups_own_link_is_not_reported_as_a_hard_link() {
    let sandbox = Sandbox::with("out", "old");
    sandbox
        .run("-v -b out")
        .stdin("new")
        .says("replaced 'out' (3 bytes)")
        .leaves(["out", "out~"])
        .succeeds();
    sandbox.hard_link("out", "other");
    let done = sandbox.run("-v -b out").stdin("newer").output();
    assert!(done.stderr.contains("1 other hard link"), "{done:?}");
}

#[test]
fn another_users_file_is_copied_if_links_to_it_are_forbidden() {
    needs_root!();
    if fs::read_to_string("/proc/sys/fs/protected_hardlinks").unwrap() != "1\n" {
        skip!("fs.protected_hardlinks is off");
    }
    let cases = [
        ("simple", "out~", "", "out=new out~=old"),
        ("simple", "out~", "out~", "out=new out~=old"),
        ("numbered", "out.~1~", "", "out=new out.~1~=old"),
        (
            "numbered",
            "out.~2~",
            "out.~1~",
            "out=new out.~1~=older out.~2~=old",
        ),
    ];
    each(cases, |(control, name, older, left)| {
        let sandbox = Sandbox::with("out", "old");
        sandbox.chmod("", 0o777);
        if !older.is_empty() {
            sandbox.write(older, "older");
        }
        let old = sandbox.inode("out");
        let line = format!("-fq --backup={control} out");
        let run = || sandbox.run(&line).stdin("new").by_nobody();
        let done = run().output();
        assert_eq!(done.code(), Some(0), "{done:?}");
        assert_eq!(sandbox.listing(), left);
        assert_ne!(sandbox.inode(name), old);
        assert_eq!(sandbox.owner(name), (NOBODY, NOBODY));
        // A file that cannot be read can be neither linked nor copied.
        sandbox.write_with_mode("out", "old", 0o662);
        sandbox.chown("out", 0, 0);
        let what = if cfg!(atomwrite_posix) {
            "cannot read the attributes of 'out'"
        } else {
            "cannot back up 'out'"
        };
        run().fails_with(1, what);
    });
}

/// Makes it impossible to link DEST, and nothing else.
fn without_a_link_to_dest(error: &str) -> Strace {
    Strace::new()
        .inject(&format!("linkat:error={error}"))
        .at("out")
}

/// Makes the last rename fail, and no other.
pub(crate) fn without_the_rename_to_dest(error: &str) -> Strace {
    let renames = format!("rename,renameat,renameat2:error={error}");
    Strace::new().inject(&renames).at("out")
}

#[test]
fn the_backup_is_a_complete_copy_if_no_link_is_possible() {
    needs_root!();
    needs_tool!("strace", "setfacl");
    // EXDEV: DEST counts for another project quota than its directory.
    for error in ["EPERM", "EXDEV", "EMLINK", "EOPNOTSUPP"] {
        let cases = [
            ("simple", false, "out~", 2),
            ("simple", true, "out~", 2),
            ("numbered", false, "out.~1~", 2),
            ("numbered", true, "out.~1~", 3),
        ];
        each(cases, |(control, older, name, count)| {
            let sandbox = Sandbox::new();
            adorn(&sandbox, "out");
            if older {
                sandbox.write("out~", "older");
            }
            let old = sandbox.inode("out");
            let strace = without_a_link_to_dest(error);
            let run = sandbox.run(&format!("--backup={control} out"));
            let done = run.stdin("new").under(&strace).output();
            assert_eq!((done.code(), &*done.stderr), (Some(0), ""), "{error}");
            assert!(strace.has_injected());
            is_adorned(&sandbox, name);
            assert_ne!(sandbox.inode(name), old);
            assert_eq!(sandbox.text("out"), "new");
            assert_eq!(sandbox.names().len(), count);
        });
    }
}

#[test]
fn a_copy_is_private_until_it_is_complete_and_synced_before_it_has_its_name() {
    needs_tool!("strace");
    let sandbox = Sandbox::new();
    sandbox.write_with_mode("out", "old", 0o644);
    // Every link is forbidden: so the copy has a name from the start, in every form.
    let trace = sandbox
        .run("-b out")
        .stdin("new")
        .inject("linkat:error=EPERM")
        .umask(0)
        .leaves(["out", "out~"])
        .traced();
    assert_eq!(sandbox.listing(), "out=new out~=old");
    assert_eq!(sandbox.mode("out~"), 0o644);
    let makes_files = |args: &str| args.contains("O_CREAT") || args.contains("O_TMPFILE");
    for at in trace.places(|call| call.is("openat") && makes_files(&call.args)) {
        assert!(trace.own()[at].args.ends_with(", 0600"), "{trace}");
    }
    let renamed_to = |name: &str| {
        let end = format!(", \"{name}\"");
        trace.only("rename", |call| {
            call.renames() && call.succeeded() && call.args.contains(&end)
        })
    };
    let named = renamed_to("out~");
    let synced = trace.places(|call| call.is("fsync") && call.on_draft());
    assert!(
        synced.len() >= 2 && synced.iter().all(|at| *at < named),
        "{trace}"
    );
    assert!(named < renamed_to("out"), "{trace}");
}

#[test]
fn each_of_three_backups_is_the_previous_file_even_without_rename_exchange() {
    needs_mounts!();
    needs_tool!("bindfs");
    let mount = Mount::new_bindfs();
    let sandbox = Sandbox::in_dir(mount.path());
    sandbox.write("out", "0");
    for number in 1..=3 {
        let run = sandbox.run("-b out").stdin(format!("{number}"));
        run.leaves(["out", "out~"]).succeeds();
        assert_eq!(sandbox.text("out"), format!("{number}"));
        assert_eq!(sandbox.text("out~"), format!("{}", number - 1));
    }
}

#[test]
fn the_backup_is_synced_before_the_file_is_overwritten_in_an_unreadable_directory() {
    linux_only!("ways to what may not be read");
    needs_root!();
    needs_tool!("strace");
    let sandbox = Sandbox::with("out", "old");
    sandbox.chown("out", NOBODY, NOBODY);
    sandbox.give_to(NOBODY, NOBODY);
    sandbox.chmod("", 0o300);
    let run = |control: &str| {
        sandbox
            .atomwrite(["-q", "--inplace=always", control, "out"])
            .stdin("new")
            .by_nobody()
    };
    run("--backup=numbered").fails_with(1, "cannot read its directory: permission denied");
    let strace = Strace::new();
    let done = run("--backup=simple").under(&strace).output();
    assert_eq!(done.code(), Some(0), "{done:?}");
    sandbox.chmod("", 0o700);
    assert_eq!(sandbox.text("out~"), "old");
    let trace = strace.trace();
    let synced = trace.places(|call| call.is("syncfs"));
    let written = trace.only("overwriting", |call| {
        call.is("write") && call.args.contains("/out>")
    });
    assert!(synced.iter().any(|at| *at < written), "{trace}");
}

// ---- Always a DEST and a backup ----

/// Writes again and again, while others look: `out` is never missing, and neither it nor `out~`,
/// once that is there, is ever anything but one of the contents.
fn is_never_missing(sandbox: &Sandbox, with_backup: bool, mut write: impl FnMut(u32) -> Done) {
    let content = |number: u32| format!("{number} ").repeat(5000);
    sandbox.write("out", content(0));
    if with_backup {
        sandbox.write("out~", content(0));
    }
    let check = |content: String| {
        let words: Vec<_> = content.split(' ').collect();
        assert!(words.len() == 5001 && words[..5000].iter().all(|word| *word == words[0]));
    };
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut reads = 0;
            while !over.load(Ordering::Relaxed) {
                check(fs::read_to_string(sandbox.path("out")).expect("DEST is missing"));
                match fs::read_to_string(sandbox.path("out~")) {
                    Ok(content) => check(content),
                    Err(error) => assert!(!with_backup, "the backup is missing: {error}"),
                }
                reads += 1;
            }
            reads
        });
        let mut codes = Vec::new();
        for number in 1..=60 {
            codes.push(write(number).code());
        }
        over.store(true, Ordering::Relaxed);
        let reads: u32 = reader.join().expect("a reader saw what it must not see");
        assert!(reads > 60);
        assert_eq!(codes, [Some(0); 60]);
    });
    assert_eq!(sandbox.text("out"), content(60));
    assert_eq!(sandbox.text("out~"), content(59));
    assert_eq!(sandbox.names(), ["out", "out~"]);
}

fn numbers(number: u32) -> Vec<u8> {
    format!("{number} ").repeat(5000).into_bytes()
}

#[test]
fn dest_and_backup_are_never_missing() {
    for with_backup in [true, false] {
        let sandbox = Sandbox::new();
        is_never_missing(&sandbox, with_backup, |number| {
            let run = sandbox.run("-b --sync=none out");
            run.stdin(numbers(number)).output()
        });
    }
}

#[test]
fn dest_and_backup_are_never_missing_if_the_backup_is_a_copy() {
    needs_tool!("strace");
    let sandbox = Sandbox::new();
    is_never_missing(&sandbox, true, |number| {
        let strace = without_a_link_to_dest("EPERM");
        let run = sandbox.run("-b --sync=none out").under(&strace);
        run.stdin(numbers(number)).output()
    });
}

#[test]
fn with_lock_numbered_backups_are_a_history() {
    let sandbox = Sandbox::with("n", "0\n");
    let count = "echo $(($(cat n) + 1))";
    let running: Vec<_> = (0..12)
        .map(|_| {
            sandbox
                .atomwrite(["--lock", "--backup=t", "n", "--", "sh", "-c", count])
                .start()
        })
        .collect();
    for one in running {
        let done = one.wait();
        assert_eq!(done.code(), Some(0), "{done:?}");
    }
    assert_eq!(sandbox.text("n"), "12\n");
    for number in 1..=12 {
        let backup = sandbox.text(format!("n.~{number}~"));
        assert_eq!(backup, format!("{}\n", number - 1));
    }
    assert_eq!(sandbox.names().len(), 13);
}

/// Checks that the new file is whole and on the disk before any backup changes, and that from there
/// to the commit nothing is written, made or synced.
fn is_made_as_late_as_possible(directory: Option<&Path>) {
    for (control, name) in [("simple", "out~"), ("numbered", "out.~1~")] {
        let sandbox = directory.map_or_else(Sandbox::new, Sandbox::in_dir);
        sandbox.write("out", "old");
        sandbox.write("out~", "older");
        let strace = Strace::new();
        let done = sandbox
            .atomwrite([&format!("--backup={control}"), "out"])
            .stdin("new")
            .under(&strace)
            .output();
        assert_eq!(done.code(), Some(0), "{done:?}");
        let trace = strace.trace();
        let names = |call: &Call, name: &str| call.args.contains(&format!(", \"{name}\""));
        let first = trace.places(|call| {
            (call.is("linkat") || call.renames()) && (names(call, name) || names(call, "out"))
        })[0];
        let last = trace.only("commit", |call| {
            call.renames() && call.args.ends_with(", \"out\"")
        });
        let synced = trace.places(|call| call.is("fsync") && call.on_draft());
        assert!(!synced.is_empty(), "{trace}");
        assert!(synced.iter().all(|at| *at < first), "{trace}");
        for call in &trace.own()[first..last] {
            let changes = ["write", "fsync", "fchmod", "fchown", "fsetxattr"];
            assert!(!changes.contains(&call.name.as_str()), "{trace}");
        }
    }
}

#[test]
fn the_backup_is_made_after_the_new_file_is_synced() {
    needs_tool!("strace");
    is_made_as_late_as_possible(None);
}

#[test]
fn the_backup_is_made_after_the_new_file_is_synced_on_btrfs() {
    needs_mounts!();
    needs_tool!("strace", "mkfs.btrfs");
    // There the new file is synced once more when it has a name.
    let mount = Mount::btrfs();
    is_made_as_late_as_possible(Some(mount.path()));
}

#[test]
fn the_order_of_the_calls_never_leaves_dest_without_a_name() {
    needs_tool!("strace");
    let sandbox = Sandbox::with("out", "old");
    sandbox.write("out~", "older");
    let trace = sandbox
        .run("-b out")
        .stdin("new")
        .leaves(["out", "out~"])
        .traced();
    // No call moves DEST away or removes it, or the backup's name.
    let moved_away = trace.count(|call: &Call| {
        (call.renames() && call.args.contains(", \"out\", "))
            || (call.name.starts_with("unlink")
                && (call.args.contains("\"out\"") || call.args.contains("\"out~\"")))
    });
    assert_eq!(moved_away, 0, "{trace}");
}
