//! The names of backups: as GNU's programs choose them.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use crate::harness::{Sandbox, Witness};

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
    sandbox
        .atomwrite(["--backup=numbered", "out"])
        .reads_nothing()
        .says("no higher number")
        .fails(1);
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
            run.says("too long").fails(1);
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
    sandbox
        .atomwrite(["-b", "out"])
        .reads_nothing()
        .says("cannot back up 'out'")
        .says("directory")
        .fails(1);
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
