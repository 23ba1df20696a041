//! `--backup` and `--suffix`.
//!
//! What the contract says: GNU's none, simple, numbered, existing, and its environment (VERSION_CONTROL,
//! SIMPLE_BACKUP_SUFFIX). There is no moment without DEST and none with half a backup; a failed run leaves no backup, and
//! an older one as it was. The backup is the old file itself: a second name for it where that can be, the file under
//! another name by an exchange where not, and a copy of it only where that cannot be either.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use rustix::fs::{FlockOperation, flock};

use crate::sandbox::{Done, NOBODY, Sandbox, Witness, needs_root, needs_tool, open, skip};
use crate::strace::{Call, Strace};

// ---- Names: GNU's programs tell -------------------------------------------------------------------------------

/// What is in a directory: the content of files, the target of links, a word for the rest.
fn listing(dir: &Path) -> BTreeMap<OsString, String> {
    fs::read_dir(dir)
        .unwrap()
        .map(|entry| {
            let entry = entry.unwrap();
            let kind = entry.file_type().unwrap();
            let content = if kind.is_symlink() {
                format!("to {}", fs::read_link(entry.path()).unwrap().display())
            } else if kind.is_file() {
                fs::read_to_string(entry.path()).unwrap()
            } else {
                "neither".into()
            };
            (entry.file_name(), content)
        })
        .collect()
}

/// Has `cp` replace `out` by `new`, and atomwrite, in directories of the same content, and compares.
#[track_caller]
fn does_as_cp_does(options: &[&str], environment: &[(&str, &str)], others: &[&str]) {
    let sandboxes = [Sandbox::new(), Sandbox::new()];
    for sandbox in &sandboxes {
        sandbox.write("new", "new");
        sandbox.write("out", "old");
        for other in others {
            match other.strip_suffix('/') {
                Some(directory) => drop(sandbox.mkdir(directory)),
                None => drop(sandbox.write(other, format!("of {other}"))),
            }
        }
    }
    let [theirs, ours] = &sandboxes;
    let by_cp = Command::new("cp")
        .args(options)
        .args(["new", "out"])
        .current_dir(theirs.root())
        .env_remove("VERSION_CONTROL")
        .env_remove("SIMPLE_BACKUP_SUFFIX")
        .envs(environment.iter().copied())
        .output()
        .unwrap();
    let mut run = ours.atomwrite(options.iter().copied().chain(["new", "out"]));
    for (key, value) in environment {
        run = run.env(key, value);
    }
    let by_us = run.output();
    let case = format!("{options:?} {environment:?} {others:?}: {by_us:?}");
    assert_eq!(by_us.status.success(), by_cp.status.success(), "{case}");
    if by_us.status.success() {
        assert_eq!(by_us.stderr, "", "{case}");
    }
    assert_eq!(listing(ours.root()), listing(theirs.root()), "{case}");
}

#[test]
fn takes_the_names_that_cp_takes() {
    const WORDS: [&str; 8] = [
        "none", "off", "simple", "never", "existing", "nil", "numbered", "t",
    ];
    const OTHERS: [&[&str]; 7] = [
        &[],
        &["out~"],
        &["out.~1~"],
        &["out.~3~", "out.~7~", "out~"],
        // Not numbers of a backup, or not of this file's.
        &["out.~0~", "out.~07~", "out.~+1~", "out.~2", "ou.~9~"],
        &["out.~9~", "out.~10~"],
        &["out.~4~/"],
    ];
    for others in OTHERS {
        does_as_cp_does(&["-b"], &[], others);
        does_as_cp_does(&["--backup"], &[], others);
        does_as_cp_does(&["-S", ".orig"], &[], others);
        for word in WORDS {
            does_as_cp_does(&[&format!("--backup={word}")], &[], others);
            does_as_cp_does(&["-b"], &[("VERSION_CONTROL", word)], others);
        }
    }
}

#[test]
fn takes_the_suffix_that_cp_takes() {
    let others = &["out.orig", "out.bak"];
    let suffix = [("SIMPLE_BACKUP_SUFFIX", ".bak")];
    for control in ["simple", "numbered", "existing", "none"] {
        let backup = format!("--backup={control}");
        does_as_cp_does(&[&backup, "-S", ".orig"], &[], others);
        does_as_cp_does(&[&backup, "--suffix=.orig"], &suffix, others);
        does_as_cp_does(&[&backup], &suffix, others);
        let environment = [suffix[0], ("VERSION_CONTROL", control)];
        does_as_cp_does(&["-S", ".orig"], &environment, others);
        does_as_cp_does(&["-b"], &environment, others);
        // Without an option there is no backup, whatever the environment says.
        does_as_cp_does(&[], &environment, others);
        // The option's word wins over the environment's.
        let numbered = [("VERSION_CONTROL", "numbered")];
        does_as_cp_does(&[&backup], &numbered, others);
        does_as_cp_does(&["--suffix=.orig", &backup], &numbered, others);
    }
    for suffix in ["", "a/b", "/"] {
        does_as_cp_does(&["-b"], &[("SIMPLE_BACKUP_SUFFIX", suffix)], others);
    }
    does_as_cp_does(&["-b"], &[("VERSION_CONTROL", "")], others);
}

#[test]
fn install_agrees() {
    for options in [
        &["-b"][..],
        &["--backup=numbered"],
        &["--backup=simple", "-S", ".1"],
    ] {
        let sandboxes = [Sandbox::new(), Sandbox::new()];
        for sandbox in &sandboxes {
            sandbox.write("new", "new");
            sandbox.write_with_mode("out", "old", 0o640);
            sandbox.write("out.~2~", "older");
        }
        let [theirs, ours] = &sandboxes;
        let status = Command::new("install")
            .args(options)
            .args(["new", "out"])
            .current_dir(theirs.root())
            .env_remove("VERSION_CONTROL")
            .env_remove("SIMPLE_BACKUP_SUFFIX")
            .status()
            .unwrap();
        assert!(status.success());
        let done = ours
            .atomwrite(options.iter().copied().chain(["new", "out"]))
            .output();
        assert_eq!(done.code(), Some(0), "{done:?}");
        assert_eq!(listing(ours.root()), listing(theirs.root()), "{options:?}");
    }
}

#[test]
fn numbers_are_counted_on_as_long_as_there_are_any() {
    let sandbox = Sandbox::new();
    for (highest, next) in [
        ("99", "100"),
        ("4294967295", "4294967296"),
        ("18446744073709551614", "18446744073709551615"),
    ] {
        sandbox.write("out", "old");
        let (highest, next) = (format!("out.~{highest}~"), format!("out.~{next}~"));
        sandbox.write(&highest, "older");
        sandbox
            .atomwrite(["--backup=numbered", "out"])
            .stdin("new")
            .leaves([&highest, &next, "out"])
            .succeeds();
        assert_eq!(sandbox.text(&next), "old");
        assert_eq!(sandbox.text(&highest), "older");
        fs::remove_file(sandbox.path(next)).unwrap();
        fs::remove_file(sandbox.path(highest)).unwrap();
    }
    // The highest of all: not begun anew, where it would replace others.
    sandbox.write("out.~18446744073709551615~", "older");
    let witness = Witness::new();
    sandbox
        .atomwrite(["--backup=numbered", "out"])
        .stdin_from(witness.input())
        .says("no higher number")
        .fails(1);
    witness.has_not_been_read();
}

#[test]
fn a_word_that_is_none_is_a_usage_error() {
    let sandbox = Sandbox::new();
    sandbox.write("out", "old");
    for word in ["some", "simply", "Numbered", "1"] {
        sandbox
            .atomwrite([&format!("--backup={word}"), "out"])
            .stdin("new")
            .says(format!("'{word}'"))
            .fails(2);
        sandbox
            .atomwrite(["-b", "out"])
            .env("VERSION_CONTROL", word)
            .stdin("new")
            .says("VERSION_CONTROL")
            .says(format!("'{word}'"))
            .fails(2);
    }
    for suffix in ["", "a/b"] {
        sandbox
            .atomwrite(["-S", suffix, "out"])
            .stdin("new")
            .says("--suffix")
            .fails(2);
    }
    // Who does not ask for a backup is not asked about its kind.
    sandbox
        .atomwrite(["out"])
        .env("VERSION_CONTROL", "some")
        .stdin("new")
        .succeeds();
}

#[test]
fn is_beside_the_target_of_a_link() {
    let sandbox = Sandbox::new();
    sandbox.mkdir("far");
    sandbox.write("far/target", "old");
    sandbox.write("link.~1~", "not of the target");
    sandbox.symlink("far/target", "link");
    sandbox
        .atomwrite(["-b", "link"])
        .stdin("new")
        .leaves(["far", "far/target", "far/target~", "link", "link.~1~"])
        .succeeds();
    assert_eq!(sandbox.text("far/target~"), "old");
    assert_eq!(sandbox.text("link"), "new");
}

#[test]
fn is_the_link_itself_where_that_is_replaced() {
    let sandbox = Sandbox::new();
    sandbox.write("target", "theirs");
    for target in ["target", "nowhere"] {
        symlink(target, sandbox.path("out")).unwrap();
        sandbox
            .atomwrite(["-b", "--no-dereference", "out"])
            .stdin("new")
            .leaves(["out", "out~", "target"])
            .succeeds();
        assert_eq!(
            fs::read_link(sandbox.path("out~")).unwrap(),
            Path::new(target)
        );
        assert!(sandbox.stat("out").is_file());
        assert_eq!(sandbox.text("out"), "new");
        assert_eq!(sandbox.text("target"), "theirs");
        fs::remove_file(sandbox.path("out")).unwrap();
    }
}

#[test]
fn a_name_that_is_too_long_is_refused_before_any_input_is_read() {
    let sandbox = Sandbox::new();
    for (length, options, fits) in [
        (254, &["-b"][..], true),
        (255, &["-b"], false),
        (250, &["-S", ".orig"], true),
        (251, &["-S", ".orig"], false),
        (251, &["--backup=numbered"], true),
        (252, &["--backup=numbered"], false),
    ] {
        let name = "n".repeat(length);
        sandbox.write(&name, "old");
        let witness = Witness::new();
        let run = sandbox
            .atomwrite(options.iter().copied().chain([&*name]))
            .stdin_from(witness.input());
        if fits {
            assert_eq!(run.output().code(), Some(0), "{length} {options:?}");
            assert_eq!(sandbox.names().len(), 2);
        } else {
            run.says("too long").says("--suffix").fails(1);
            witness.has_not_been_read();
        }
        for name in sandbox.names() {
            fs::remove_file(sandbox.path(name)).unwrap();
        }
    }
    // The tenth number has one digit more.
    let name = "n".repeat(251);
    sandbox.write(&name, "old");
    sandbox.write(format!("{name}.~9~"), "older");
    sandbox
        .atomwrite(["--backup=numbered", &name])
        .stdin("new")
        .says("too long")
        .fails(1);
}

#[test]
fn a_directory_in_its_place_is_refused_before_any_input_is_read() {
    let sandbox = Sandbox::new();
    sandbox.write("out", "old");
    sandbox.mkdir("out~");
    let witness = Witness::new();
    sandbox
        .atomwrite(["-b", "out"])
        .stdin_from(witness.input())
        .says("cannot back up 'out'")
        .says("directory")
        .fails(1);
    witness.has_not_been_read();
}

#[test]
fn there_is_none_where_nothing_is_replaced() {
    let sandbox = Sandbox::new();
    sandbox.write("old~", "older");
    sandbox.write("old", "old");
    sandbox.atomwrite(["-b", "new"]).stdin("1").succeeds();
    let backup = sandbox.inode("old~");
    sandbox
        .atomwrite(["-b", "-C", "old"])
        .stdin("old")
        .leaves_alone(0);
    sandbox
        .atomwrite(["-b", "-n", "old"])
        .stdin("new")
        .says("--no-clobber")
        .fails(3);
    sandbox
        .atomwrite(["-b", "old"])
        .stdin("")
        .says("--allow-empty")
        .fails(3);
    sandbox
        .atomwrite(["-b", "old", "--", "sh", "-c", "echo half; exit 3"])
        .says("status 3")
        .fails(3);
    sandbox
        .atomwrite(["-b", "--validate", "exit 1", "old"])
        .stdin("new")
        .says("validates")
        .fails(3);
    sandbox
        .atomwrite(["-b", "-n", "newer"])
        .stdin("1")
        .succeeds();
    assert_eq!(sandbox.inode("old~"), backup);
    assert_eq!(sandbox.text("old~"), "older");
    assert_eq!(sandbox.names(), ["new", "newer", "old", "old~"]);
}

#[test]
fn is_made_by_every_form() {
    for form in [
        &["-b", "src", "out"][..],
        &["-b", "-a", "out"],
        &["-b", "--lock", "out", "--", "cat", "src"],
        &["-b", "--validate", "true", "out"],
        &["-b", "-C", "out"],
        &["-b", "--keep=none", "out"],
        &["-b", "-m", "600", "out"],
        &["-b", "--sync=none", "out"],
    ] {
        let sandbox = Sandbox::new();
        sandbox.write("src", "new");
        sandbox.write_with_mode("out", "old", 0o640);
        let old = sandbox.inode("out");
        sandbox
            .atomwrite(form.iter().copied())
            .stdin("new")
            .leaves(["out", "out~", "src"])
            .succeeds();
        assert_eq!(sandbox.text("out~"), "old", "{form:?}");
        assert_eq!(sandbox.mode("out~"), 0o640, "{form:?}");
        assert_eq!(sandbox.inode("out~"), old, "{form:?}");
        assert!(sandbox.text("out").ends_with("new"), "{form:?}");
        assert_ne!(sandbox.inode("out"), old, "{form:?}");
    }
}

// ---- The file -------------------------------------------------------------------------------------------------

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
fn is_the_old_file_itself() {
    needs_root!();
    needs_tool!("setfacl");
    let sandbox = Sandbox::new();
    adorn(&sandbox, "out");
    let before = sandbox.stat("out");
    sandbox
        .atomwrite(["-b", "out"])
        .stdin("new")
        .leaves(["out", "out~"])
        .succeeds();
    is_adorned(&sandbox, "out~");
    let after = sandbox.stat("out~");
    assert_eq!(before.ino(), after.ino());
    assert_eq!(
        (before.mtime(), before.mtime_nsec()),
        (after.mtime(), after.mtime_nsec())
    );
    // Over an older one, too.
    let old = sandbox.inode("out");
    sandbox
        .atomwrite(["-b", "out"])
        .stdin("newer")
        .leaves(["out", "out~"])
        .succeeds();
    assert_eq!(sandbox.inode("out~"), old);
    assert_eq!(sandbox.text("out~"), "new");
}

#[test]
fn says_nothing_of_its_own_link() {
    let sandbox = Sandbox::new();
    sandbox.write("out", "old");
    sandbox
        .atomwrite(["-v", "-b", "out"])
        .stdin("new")
        .says("replaced 'out' (3 bytes)")
        .leaves(["out", "out~"])
        .succeeds();
    sandbox.hard_link("out", "other");
    let done = sandbox
        .atomwrite(["-v", "-b", "out"])
        .stdin("newer")
        .output();
    assert!(done.stderr.contains("1 other hard link"), "{done:?}");
}

#[test]
fn another_users_file_is_exchanged_where_links_to_it_are_forbidden() {
    needs_root!();
    if fs::read_to_string("/proc/sys/fs/protected_hardlinks").unwrap() != "1\n" {
        skip!("fs.protected_hardlinks is off");
    }
    for older in [false, true] {
        for control in ["simple", "numbered"] {
            let sandbox = Sandbox::new();
            sandbox.chmod("", 0o777);
            // May be written but not read, and so not be copied either.
            sandbox.write_with_mode("out", "old", 0o662);
            let old = sandbox.inode("out");
            let mut name = if control == "simple" {
                "out~"
            } else {
                "out.~1~"
            };
            if older {
                sandbox.write(name, "older");
                if control == "numbered" {
                    name = "out.~2~";
                }
            }
            let control = format!("--backup={control}");
            let done = sandbox
                .atomwrite(["-q", "--sync=none", &control, "out"])
                .stdin("new")
                .user(NOBODY, NOBODY, &[])
                .output();
            assert_eq!(done.code(), Some(0), "{older} {control}: {done:?}");
            assert_eq!(sandbox.inode(name), old, "{older} {control}");
            assert_eq!(sandbox.text(name), "old");
            assert_eq!(sandbox.text("out"), "new");
            assert_eq!(sandbox.owner(name), (0, 0));
            assert_eq!(sandbox.owner("out"), (NOBODY, NOBODY));
            let extra = usize::from(older && name == "out.~2~");
            assert_eq!(sandbox.names().len(), 2 + extra, "{:?}", sandbox.names());
        }
    }
}

/// Injections that close the first way, and those that close the first two.
const NO_LINKS: &str = "linkat:error=EPERM";
const NO_EXCHANGE: &str = "renameat2:error=EINVAL";

/// The injection that keeps the old file from a second name, and the new file from nothing.
fn no_second_name(older: bool) -> String {
    let sandbox = Sandbox::new();
    sandbox.write("out", "old");
    if older {
        sandbox.write("out~", "older");
    }
    let strace = Strace::new();
    let done = sandbox
        .atomwrite(["-b", "out"])
        .stdin("new")
        .through(strace.command())
        .output();
    assert_eq!(done.code(), Some(0), "{done:?}");
    let trace = strace.trace();
    let link = trace.places(|call| call.is("linkat") && call.args.contains(", \"out~\", "));
    format!("{NO_LINKS}:when={}", trace.own()[link[0]].nth)
}

#[test]
fn is_exchanged_where_there_are_no_links() {
    needs_root!();
    needs_tool!("strace", "setfacl");
    for older in [false, true] {
        let sandbox = Sandbox::new();
        adorn(&sandbox, "out");
        if older {
            sandbox.write("out~", "older");
        }
        let old = sandbox.inode("out");
        let strace = Strace::new().inject(&no_second_name(older));
        sandbox
            .atomwrite(["-b", "out"])
            .stdin("new")
            .through(strace.command())
            .leaves(["out", "out~"])
            .succeeds();
        assert_eq!(sandbox.inode("out~"), old);
        is_adorned(&sandbox, "out~");
        assert_eq!(sandbox.text("out"), "new");
        let trace = strace.trace();
        let exchange = trace.only("exchange", |call| call.args.contains("RENAME_EXCHANGE"));
        let fsync = trace.places(|call| call.is("fsync"));
        // The new file is on the disk before it has DEST's name, and the names are after that.
        assert!(fsync[0] < exchange, "{trace}");
        assert!(fsync[fsync.len() - 1] > exchange, "{trace}");
    }
}

#[test]
fn is_a_whole_copy_where_there_is_neither_link_nor_exchange() {
    needs_root!();
    needs_tool!("strace", "setfacl");
    for older in [false, true] {
        let sandbox = Sandbox::new();
        adorn(&sandbox, "out");
        if older {
            sandbox.write("out~", "older");
        }
        let old = sandbox.inode("out");
        let strace = Strace::new()
            .inject(&no_second_name(older))
            .inject(NO_EXCHANGE);
        sandbox
            .atomwrite(["-b", "out"])
            .stdin("new")
            .through(strace.command())
            .leaves(["out", "out~"])
            .succeeds();
        is_adorned(&sandbox, "out~");
        assert_ne!(sandbox.inode("out~"), old);
        assert_eq!(sandbox.text("out"), "new");
        let trace = strace.trace();
        // Whole and on the disk before it has its name: at every fsync of a file the backup is not yet there.
        // By a second name that takes the place of the first, if nothing has it.
        let named = trace.only("name", |call| {
            call.is("renameat") && call.args.ends_with("\"out~\"")
                || call.is("linkat") && call.succeeded() && call.args.ends_with("\"out~\", 0")
        });
        let synced = trace.places(|call| call.is("fsync") && call.on_draft());
        assert!(
            synced.len() == 2 && synced.iter().all(|at| *at < named),
            "{trace}"
        );
        let replaced = trace.only("rename", |call| {
            call.is("renameat") && call.args.ends_with("\"out\"")
        });
        assert!(named < replaced, "{trace}");
    }
}

#[test]
fn a_link_that_is_there_after_an_error_is_as_good() {
    needs_tool!("strace");
    // As a filesystem leaves it that answers with an error though it has done the work.
    let sandbox = Sandbox::new();
    sandbox.write("out", "old");
    sandbox.hard_link("out", "out~");
    let old = sandbox.inode("out");
    // The first is the probe.
    let strace = Strace::new().inject("linkat:error=EIO:when=2");
    sandbox
        .atomwrite(["-q", "-b", "out"])
        .stdin("new")
        .through(strace.command())
        .leaves(["out", "out~"])
        .succeeds();
    assert_eq!(sandbox.inode("out~"), old);
    assert_eq!(sandbox.text("out"), "new");
    let trace = strace.trace();
    assert!(trace.own().iter().any(Call::injected), "{trace}");
    assert_eq!(trace.count(|call| call.args.contains("RENAME_EXCHANGE")), 0);
}

#[test]
fn an_older_one_that_somebody_has_locked_comes_back_too() {
    needs_tool!("strace");
    for (way, failing) in [
        ("--inplace=never", "renameat:error=EIO"),
        ("--inplace=always", "fallocate:error=ENOSPC"),
    ] {
        let sandbox = Sandbox::new();
        sandbox.write("out", "old");
        sandbox.write("out~", "older");
        let older = sandbox.inode("out~");
        let held = open(sandbox.path("out~"));
        flock(&held, FlockOperation::LockExclusive).unwrap();
        let strace = Strace::new().inject(failing);
        let done = sandbox
            .atomwrite(["-q", "-b", way, "out"])
            .stdin("new")
            .through(strace.command())
            .output();
        assert_eq!(done.code(), Some(1), "{done:?}");
        assert_eq!(sandbox.names(), ["out", "out~"]);
        assert_eq!(sandbox.inode("out~"), older);
        assert_eq!(sandbox.text("out"), "old");
    }
}

#[test]
fn an_older_one_comes_back_though_the_new_file_could_not_be_locked() {
    needs_tool!("strace");
    let run = |strace: &Strace| {
        let sandbox = Sandbox::new();
        sandbox.write("out", "old");
        sandbox.write("out~", "older");
        let run = sandbox
            .atomwrite(["-b", "out"])
            .stdin("new")
            .through(strace.command());
        let done = run.output();
        (sandbox, done)
    };
    let clean = Strace::new();
    run(&clean);
    let trace = clean.trace();
    let unnamed = trace.places(Call::opens_unnamed)[0];
    // Then our own name looks like a leftover, and is taken for one.
    let strace = Strace::new()
        .inject(&format!(
            "openat:error=EOPNOTSUPP:when={}",
            trace.own()[unnamed].nth
        ))
        .inject("flock:error=ENOLCK:when=1");
    let (sandbox, done) = run(&strace);
    assert_eq!(done.code(), Some(1), "{done:?}");
    assert_eq!(sandbox.names(), ["out", "out~"]);
    assert_eq!(sandbox.text("out"), "old");
    assert_eq!(sandbox.text("out~"), "older");
}

#[test]
fn a_copy_that_has_its_name_by_a_link_is_taken_back_too() {
    needs_tool!("strace");
    for control in ["simple", "numbered"] {
        let sandbox = Sandbox::new();
        sandbox.write("out", "old");
        let strace = Strace::new()
            .inject("renameat2:error=EINVAL")
            .inject("fallocate:error=ENOSPC");
        let done = sandbox
            .atomwrite([
                "-q",
                "--inplace=always",
                &format!("--backup={control}"),
                "out",
            ])
            .stdin("new")
            .through(strace.command())
            .output();
        assert_eq!(done.code(), Some(1), "{done:?}");
        assert_eq!(sandbox.names(), ["out"]);
        assert_eq!(sandbox.text("out"), "old");
    }
}

#[test]
fn is_on_the_disk_before_the_file_is_overwritten_where_the_directory_cannot_be_read() {
    needs_root!();
    needs_tool!("strace");
    let sandbox = Sandbox::new();
    sandbox.write("out", "old");
    sandbox.chown("out", NOBODY, NOBODY);
    sandbox.give_to(NOBODY, NOBODY);
    sandbox.chmod("", 0o300);
    let run = |control: &str| {
        sandbox
            .atomwrite(["-q", "--inplace=always", control, "out"])
            .stdin("new")
            .user(NOBODY, NOBODY, &[])
    };
    run("--backup=numbered")
        .says("cannot read its directory: permission denied")
        .fails(1);
    let strace = Strace::new();
    let done = run("--backup=simple").through(strace.command()).output();
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

#[test]
fn an_older_one_is_not_touched_where_the_new_file_cannot_be_locked() {
    needs_tool!("strace");
    for refused in ["EPERM", "EACCES"] {
        let sandbox = Sandbox::new();
        sandbox.write("out", "old");
        sandbox.write("out~", "older");
        let older = sandbox.inode("out~");
        let strace = Strace::new().inject(&format!("flock:error={refused}"));
        sandbox
            .atomwrite(["-b", "out"])
            .stdin("new")
            .through(strace.command())
            .says("cannot write 'out'")
            .leaves(["out", "out~"])
            .fails(1);
        assert_eq!(sandbox.inode("out~"), older);
        assert_eq!(sandbox.text("out~"), "older");
    }
}

#[test]
fn a_second_name_stays_the_backup_where_links_are_forbidden() {
    needs_tool!("strace");
    let sandbox = Sandbox::new();
    sandbox.write("out", "old");
    sandbox.hard_link("out", "out~");
    let old = sandbox.inode("out");
    // The first is the probe.
    let strace = Strace::new()
        .inject("linkat:error=EPERM:when=2")
        .inject("renameat:error=EIO");
    let done = sandbox
        .atomwrite(["-q", "-b", "out"])
        .stdin("new")
        .through(strace.command())
        .output();
    assert_eq!(done.code(), Some(1), "{done:?}");
    assert_eq!(sandbox.names(), ["out", "out~"]);
    assert_eq!(sandbox.inode("out"), old);
    assert_eq!(sandbox.inode("out~"), old);
}

#[test]
fn a_second_name_stays_the_backup_where_there_is_no_exchange() {
    needs_tool!("strace");
    for (failing, text) in [(None, "new"), (Some("renameat:error=EIO"), "old")] {
        let sandbox = Sandbox::new();
        sandbox.write("out", "old");
        sandbox.hard_link("out", "out~");
        let old = sandbox.inode("out");
        let strace = failing
            .into_iter()
            .fold(Strace::new().inject(NO_EXCHANGE), Strace::inject);
        let done = sandbox
            .atomwrite(["-q", "-b", "out"])
            .stdin("new")
            .through(strace.command())
            .output();
        assert_eq!(done.code(), Some(failing.map_or(0, |_| 1)), "{done:?}");
        assert_eq!(sandbox.names(), ["out", "out~"]);
        assert_eq!(sandbox.inode("out~"), old);
        assert_eq!(sandbox.text("out"), text);
        // A name that is gone may be another run's by the time of a second removal.
        let trace = strace.trace();
        let removes = |call: &Call| matches!(call.name.as_str(), "unlink" | "unlinkat");
        let in_vain = trace.count(|call| removes(call) && !call.succeeded());
        assert_eq!(in_vain, 0, "{trace}");
    }
}

#[test]
fn a_file_that_counts_for_another_quota_than_its_directory_is_copied() {
    needs_tool!("strace");
    for older in [false, true] {
        let sandbox = Sandbox::new();
        sandbox.write("out", "old");
        let old = sandbox.inode("out");
        if older {
            sandbox.write("out~", "older");
        }
        // The first is the probe.
        let strace = Strace::new().inject("linkat:error=EXDEV:when=2");
        sandbox
            .atomwrite(["-b", "out"])
            .stdin("new")
            .through(strace.command())
            .leaves(["out", "out~"])
            .succeeds();
        assert_eq!(sandbox.text("out"), "new");
        assert_eq!(sandbox.text("out~"), "old");
        assert_ne!(sandbox.inode("out~"), old);
    }
}

#[test]
fn an_older_one_that_counts_for_another_quota_comes_back() {
    needs_tool!("strace");
    let sandbox = Sandbox::new();
    sandbox.write("out", "old");
    sandbox.write("out~", "older");
    // xfs lets the copy change places with the older one, but not the older one with the copy, nor be renamed.
    let strace = Strace::new()
        .inject("linkat:error=EXDEV:when=2")
        .inject("renameat:error=EXDEV")
        .inject("renameat2:error=EXDEV:when=3");
    let done = sandbox
        .atomwrite(["-b", "out"])
        .stdin("new")
        .through(strace.command())
        .output();
    assert_eq!(done.code(), Some(1), "{done:?}");
    assert_eq!(sandbox.names(), ["out", "out~"]);
    assert_eq!(sandbox.text("out~"), "older");
    let trace = strace.trace();
    let refused = |call: &Call| call.args.contains("RENAME_EXCHANGE") && call.injected();
    assert_eq!(trace.count(refused), 1, "{trace}");
}

#[test]
fn an_old_file_that_only_has_a_temporary_name_is_no_leftover_to_the_next_write() {
    needs_tool!("strace");
    // The new file is named by the call before, where it is validated.
    for (validate, link) in [(&[][..], 2), (&["--validate", "true"], 3)] {
        let sandbox = Sandbox::new();
        sandbox.write("out", "old");
        // It is exchanged, gets no name, and cannot be exchanged back.
        let strace = Strace::new()
            .alone()
            .inject(&format!("linkat:error=EPERM:when={link}"))
            .inject("renameat:error=EDQUOT:when=1")
            .inject("renameat2:error=EIO:when=2");
        let done = sandbox
            .atomwrite(["-b", "out"].iter().chain(validate))
            .stdin("new")
            .through(strace.command())
            .output();
        assert_eq!(done.code(), Some(4), "{done:?}");
        sandbox.atomwrite(["out"]).stdin("newer").succeeds();
        let names = sandbox.names();
        let kept = names
            .iter()
            .find(|name| *name != "out")
            .expect("it is kept");
        assert!(
            done.stderr.contains(&*kept.to_string_lossy()),
            "{done:?}, {names:?}"
        );
        assert_eq!(sandbox.text(kept), "old");
    }
}

#[test]
fn a_failure_of_the_commit_takes_the_backup_back() {
    needs_tool!("strace");
    // The last rename to DEST fails, after the backup has its name.
    for (control, failing) in [
        ("simple", &["renameat:error=EIO"][..]),
        ("simple", &[NO_EXCHANGE, "renameat:error=EIO:when=2"]),
        ("simple", &["flock:error=ENOSYS", "renameat:error=EIO"]),
        ("numbered", &["renameat:error=EIO"]),
    ] {
        for older in [false, true] {
            if !older && failing[0] == NO_EXCHANGE {
                // The only rename of its kind is the commit's.
                continue;
            }
            let sandbox = Sandbox::new();
            sandbox.write("out", "old");
            if older {
                sandbox.write("out~", "older");
                sandbox.write("out.~1~", "oldest");
            }
            // A second name comes and goes, and with it the time of the last change of the inode, and only that.
            let look = || -> Vec<_> {
                let names = sandbox.names().into_iter();
                let look = names.map(|name| {
                    let stat = sandbox.stat(&name);
                    let times = (stat.mtime(), stat.mtime_nsec());
                    let text = sandbox.text(&name);
                    (name, stat.ino(), stat.nlink(), stat.mode(), times, text)
                });
                look.collect()
            };
            let before = look();
            let strace = failing.iter().copied().fold(Strace::new(), Strace::inject);
            let done = sandbox
                .atomwrite([&format!("--backup={control}"), "out"])
                .stdin("new")
                .through(strace.command())
                .output();
            assert_eq!(done.code(), Some(1), "{done:?}");
            assert_eq!(
                done.stderr,
                "atomwrite: cannot write 'out': input/output error; 'out' is unchanged\n"
            );
            assert_eq!(look(), before);
        }
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

// ---- No moment without ----------------------------------------------------------------------------------------

/// Writes again and again, while others look: `out` is never missing, and neither it nor `out~`, once that is there, is
/// ever anything but one of the contents.
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
fn neither_file_is_ever_missing() {
    for with_backup in [true, false] {
        let sandbox = Sandbox::new();
        is_never_missing(&sandbox, with_backup, |number| {
            sandbox
                .atomwrite(["-b", "--sync=none", "out"])
                .stdin(numbers(number))
                .output()
        });
    }
}

#[test]
fn neither_file_is_ever_missing_where_they_are_exchanged() {
    needs_tool!("strace");
    let (first, second) = (no_second_name(false), no_second_name(true));
    for also in [None, Some(NO_EXCHANGE)] {
        let sandbox = Sandbox::new();
        is_never_missing(&sandbox, false, |number| {
            let aim = if number == 1 { &first } else { &second };
            let mut strace = Strace::new().inject(aim);
            if let Some(also) = also {
                strace = strace.inject(also);
            }
            sandbox
                .atomwrite(["-b", "--sync=none", "out"])
                .stdin(numbers(number))
                .through(strace.command())
                .output()
        });
    }
}

#[test]
fn many_at_once_keep_both_whole() {
    for control in ["simple", "numbered"] {
        let sandbox = Sandbox::new();
        sandbox.write("out", numbers(0));
        sandbox.write("out~", numbers(0));
        let control = format!("--backup={control}");
        // Some without a backup, some that wait for one another: none may take another's names for leftovers.
        let running: Vec<_> = (1..=90)
            .map(|number| {
                let option =
                    ["--sync=none", &control, &control][usize::try_from(number % 3).unwrap()];
                let lock = if number % 5 == 0 {
                    "--lock"
                } else {
                    "--sync=none"
                };
                sandbox
                    .atomwrite([option, lock, "--sync=none", "out"])
                    .stdin(numbers(number))
                    .start()
            })
            .collect();
        for one in running {
            let done = one.wait();
            assert_eq!(done.code(), Some(0), "{done:?}");
            assert_eq!(done.stderr, "");
        }
        for name in sandbox.names() {
            let name = name.to_str().unwrap();
            assert!(name.starts_with("out"), "{name} is left");
            let text = sandbox.text(name);
            let words: Vec<_> = text.split(' ').collect();
            assert!(
                words.len() == 5001 && words[..5000].iter().all(|word| *word == words[0]),
                "{name} is torn"
            );
        }
    }
}

#[test]
fn with_lock_the_numbered_ones_are_a_history() {
    let sandbox = Sandbox::new();
    sandbox.write("n", "0\n");
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

#[test]
fn the_order_of_the_calls_never_leaves_dest_without_a_name() {
    needs_tool!("strace");
    let sandbox = Sandbox::new();
    sandbox.write("out", "old");
    sandbox.write("out~", "older");
    let strace = Strace::new();
    sandbox
        .atomwrite(["-b", "out"])
        .stdin("new")
        .through(strace.command())
        .leaves(["out", "out~"])
        .succeeds();
    let trace = strace.trace();
    // No call moves DEST away or removes it, or the backup's name.
    let moved_away = trace.count(|call: &Call| {
        (call.renames() && call.args.contains(", \"out\", ") && !call.args.contains("EXCHANGE"))
            || (call.name.starts_with("unlink")
                && (call.args.contains("\"out\"") || call.args.contains("\"out~\"")))
    });
    assert_eq!(moved_away, 0, "{trace}");
}
