//! `--backup` and `--suffix`.
//!
//! What the contract says: GNU's none, simple, numbered, existing, and its environment (VERSION_CONTROL,
//! SIMPLE_BACKUP_SUFFIX). The backup is a hard link to the old file, or a copy where no link is possible, made as late as
//! possible. There is no moment without DEST and none with a partial backup. A run that fails before that has changed no
//! backup; if the last rename fails, a new backup is removed again, and an older one that was replaced stays replaced. A
//! SOURCE or stdin that is the file of the backup's name is refused.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use crate::mounts::{Mount, needs_mounts};
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
    sandbox
        .atomwrite(["-S", "a/b", "out"])
        .stdin("new")
        .says("--suffix")
        .fails(2);
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
        .says("validator")
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
fn another_users_file_is_copied_where_links_to_it_are_forbidden() {
    needs_root!();
    if fs::read_to_string("/proc/sys/fs/protected_hardlinks").unwrap() != "1\n" {
        skip!("fs.protected_hardlinks is off");
    }
    for (control, name, older) in [
        ("simple", "out~", false),
        ("simple", "out~", true),
        ("numbered", "out.~1~", false),
        ("numbered", "out.~2~", true),
    ] {
        let sandbox = Sandbox::new();
        sandbox.chmod("", 0o777);
        sandbox.write("out", "old");
        if older {
            sandbox.write("out~", "older");
            sandbox.write("out.~1~", "older");
        }
        let old = sandbox.inode("out");
        let before = sandbox.names().len();
        let run = || {
            sandbox
                .atomwrite(["-fq", &format!("--backup={control}"), "out"])
                .stdin("new")
                .user(NOBODY, NOBODY, &[])
        };
        let done = run().output();
        assert_eq!(done.code(), Some(0), "{older} {control}: {done:?}");
        assert_ne!(sandbox.inode(name), old, "{older} {control}");
        assert_eq!(sandbox.text(name), "old");
        assert_eq!(sandbox.text("out"), "new");
        assert_eq!(sandbox.owner(name), (NOBODY, NOBODY));
        let added = usize::from(name != "out~" || !older);
        assert_eq!(sandbox.names().len(), before + added);
        // One that cannot be read can be neither linked nor copied.
        sandbox.write_with_mode("out", "old", 0o662);
        sandbox.chown("out", 0, 0);
        run().says("cannot back up 'out'").fails(1);
    }
}

/// Makes it impossible to link DEST, and nothing else.
fn without_a_link_to_dest(error: &str) -> Strace {
    Strace::new()
        .inject(&format!("linkat:error={error}"))
        .at("out")
}

/// Makes the last rename fail, and no other.
fn without_the_rename_to_dest(error: &str) -> Strace {
    let renames = format!("rename,renameat,renameat2:error={error}");
    Strace::new().inject(&renames).at("out")
}

#[test]
fn is_a_whole_copy_where_no_link_is_possible() {
    needs_root!();
    needs_tool!("strace", "setfacl");
    // EXDEV: DEST counts for another project quota than its directory.
    for error in ["EPERM", "EXDEV", "EMLINK", "EOPNOTSUPP"] {
        for older in [false, true] {
            for control in ["simple", "numbered"] {
                let sandbox = Sandbox::new();
                adorn(&sandbox, "out");
                let name = match control {
                    "simple" => "out~",
                    _ => "out.~1~",
                };
                if older {
                    sandbox.write("out~", "older");
                }
                let old = sandbox.inode("out");
                let mut names = sandbox.names();
                names.push(name.into());
                names.sort();
                names.dedup();
                let strace = without_a_link_to_dest(error);
                sandbox
                    .atomwrite([&format!("--backup={control}"), "out"])
                    .stdin("new")
                    .through(strace.command())
                    .leaves(names)
                    .succeeds();
                assert!(strace.has_injected());
                is_adorned(&sandbox, name);
                assert_ne!(sandbox.inode(name), old);
                assert_eq!(sandbox.text("out"), "new");
            }
        }
    }
}

#[test]
fn a_copy_is_private_until_it_is_whole_and_on_the_disk_before_it_has_its_name() {
    needs_tool!("strace");
    let sandbox = Sandbox::new();
    sandbox.write_with_mode("out", "old", 0o644);
    // Every link is forbidden: so the copy has a name from the start, in every form.
    let strace = Strace::new().inject("linkat:error=EPERM");
    sandbox
        .atomwrite(["-b", "out"])
        .stdin("new")
        .through(strace.command())
        .umask(0)
        .leaves(["out", "out~"])
        .succeeds();
    assert_eq!(sandbox.text("out~"), "old");
    assert_eq!(sandbox.mode("out~"), 0o644);
    let trace = strace.trace();
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
fn each_of_three_is_the_file_before_where_names_cannot_be_exchanged() {
    needs_mounts!();
    needs_tool!("bindfs");
    let mount = Mount::new_bindfs();
    let sandbox = Sandbox::in_dir(mount.path());
    sandbox.write("out", "0");
    for number in 1..=3 {
        sandbox
            .atomwrite(["-b", "out"])
            .stdin(format!("{number}"))
            .leaves(["out", "out~"])
            .succeeds();
        assert_eq!(sandbox.text("out"), format!("{number}"));
        assert_eq!(sandbox.text("out~"), format!("{}", number - 1));
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

// ---- What fails -----------------------------------------------------------------------------------------------

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
fn neither_file_is_ever_missing_where_the_backup_is_a_copy() {
    needs_tool!("strace");
    let sandbox = Sandbox::new();
    is_never_missing(&sandbox, true, |number| {
        let strace = without_a_link_to_dest("EPERM");
        sandbox
            .atomwrite(["-b", "--sync=none", "out"])
            .stdin(numbers(number))
            .through(strace.command())
            .output()
    });
}

#[test]
fn many_at_once_keep_both_whole() {
    for control in ["simple", "numbered"] {
        let sandbox = Sandbox::new();
        sandbox.write("out", numbers(0));
        sandbox.write("out~", numbers(0));
        let control = format!("--backup={control}");
        // Some without a backup, some that wait for one another: none removes another's names.
        let running: Vec<_> = (1..=90)
            .map(|number| {
                let option =
                    ["--sync=none", &control, &control][usize::try_from(number % 3).unwrap()];
                let lock = if number % 5 == 0 {
                    "--lock"
                } else {
                    "--sync=none"
                };
                // -q: with --lock, a pipe is warned of.
                sandbox
                    .atomwrite(["-q", option, lock, "--sync=none", "out"])
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

/// Checks that the new file is whole and on the disk before any backup changes, and that from there to the commit
/// nothing is written, made or synced.
fn is_made_as_late_as_possible(directory: Option<&Path>) {
    for (control, name) in [("simple", "out~"), ("numbered", "out.~1~")] {
        let sandbox = directory.map_or_else(Sandbox::new, Sandbox::in_dir);
        sandbox.write("out", "old");
        sandbox.write("out~", "older");
        let strace = Strace::new();
        let done = sandbox
            .atomwrite([&format!("--backup={control}"), "out"])
            .stdin("new")
            .through(strace.command())
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
fn is_made_when_the_new_file_is_on_the_disk() {
    needs_tool!("strace");
    is_made_as_late_as_possible(None);
}

#[test]
fn is_made_when_the_new_file_is_on_the_disk_of_a_btrfs() {
    needs_mounts!();
    needs_tool!("strace", "mkfs.btrfs");
    // There the new file is synced once more when it has a name.
    let mount = Mount::btrfs();
    is_made_as_late_as_possible(Some(mount.path()));
}

/// Runs writers of `out` at once, each with a content of its own. Returns how many contents are neither in DEST nor in a
/// backup afterwards, and checks that every file is whole and that no temporary name is left.
fn contents_lost(sandbox: &Sandbox, options: &[&str], writers: u32) -> usize {
    sandbox.write("out", numbers(0));
    let running: Vec<_> = (1..=writers)
        .map(|number| {
            // -q: with --lock, a pipe is warned of.
            let words = options.iter().chain(&["-q", "--sync=none", "out"]);
            let run = sandbox.atomwrite(words.copied());
            run.stdin(numbers(number)).start()
        })
        .collect();
    for one in running {
        let done = one.wait();
        assert_eq!((done.code(), &*done.stderr), (Some(0), ""), "{done:?}");
    }
    let mut kept = BTreeSet::new();
    for name in sandbox.names() {
        let name = name.to_str().unwrap();
        assert!(name.starts_with("out"), "{name} is left");
        let content = sandbox.read(name);
        let number = (0..=writers).find(|number| numbers(*number) == content);
        kept.insert(number.unwrap_or_else(|| panic!("{name} is torn")));
    }
    (0..=writers)
        .filter(|number| !kept.contains(number))
        .count()
}

#[test]
fn of_twenty_numbered_at_once_at_most_a_few_have_no_backup_and_with_lock_none() {
    let sandbox = Sandbox::new();
    let lost = contents_lost(&sandbox, &["--backup=numbered"], 20);
    assert!(lost <= 5, "{lost} of 20");
    let sandbox = Sandbox::new();
    let lost = contents_lost(&sandbox, &["--lock", "--backup=numbered"], 20);
    assert_eq!(lost, 0);
    assert_eq!(sandbox.names().len(), 21);
}

#[test]
fn of_two_simple_ones_at_once_each_is_whole_and_with_lock_none_is_lost() {
    for _ in 0..20 {
        for older in [false, true] {
            for (options, lost) in [(&["-b"][..], 2), (&["--lock", "-b"], 1)] {
                let sandbox = Sandbox::new();
                if older {
                    sandbox.write("out~", numbers(0));
                }
                // Of three contents, DEST and its backup hold two.
                assert!(contents_lost(&sandbox, options, 2) <= lost, "{options:?}");
                assert_eq!(sandbox.names(), ["out", "out~"]);
            }
        }
    }
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
        (call.renames() && call.args.contains(", \"out\", "))
            || (call.name.starts_with("unlink")
                && (call.args.contains("\"out\"") || call.args.contains("\"out~\"")))
    });
    assert_eq!(moved_away, 0, "{trace}");
}
