//! The names of backups are those that GNU's programs choose.

use std::process::Command;

use crate::harness::{Sandbox, each};

#[track_caller]
fn does_as_cp_does(options: &[&str], environment: &[(&str, &str)], others: &[&str]) {
    does_as("cp", options, environment, others);
}

/// Replaces `out` with `new` by `cp` or `install` and by atomwrite, in directories of the same
/// content, and compares the directories.
#[track_caller]
fn does_as(program: &str, options: &[&str], environment: &[(&str, &str)], others: &[&str]) {
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
    let by_them = Command::new(program)
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
    assert_eq!(by_us.status.success(), by_them.status.success(), "{case}");
    if by_us.status.success() {
        assert_eq!(by_us.stderr, "", "{case}");
    }
    assert_eq!(ours.listing(), theirs.listing(), "{case}");
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
fn install_makes_the_same_backups() {
    for options in [
        &["-b"][..],
        &["--backup=numbered"],
        &["--backup=simple", "-S", ".1"],
    ] {
        does_as("install", options, &[], &["out.~2~"]);
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
fn backup_numbers_continue_up_to_the_largest_number() {
    let cases = [
        ("99", "100"),
        ("4294967295", "4294967296"),
        ("18446744073709551614", "18446744073709551615"),
    ];
    each(cases, |(highest, next)| {
        let sandbox = Sandbox::with("out", "old");
        let (highest, next) = (format!("out.~{highest}~"), format!("out.~{next}~"));
        sandbox.write(&highest, "older");
        let run = sandbox.run("--backup=numbered out").stdin("new");
        run.leaves([&highest, &next, "out"]).succeeds();
        assert_eq!(
            (&*sandbox.text(&next), &*sandbox.text(&highest)),
            ("old", "older")
        );
    });
    // The highest number: numbers do not start again, which would replace other backups.
    let sandbox = Sandbox::with("out", "old");
    sandbox.write("out.~18446744073709551615~", "older");
    sandbox.refuse_each(&[("--backup=numbered out", 1, "no higher number")]);
}

#[test]
fn an_unknown_backup_method_is_a_usage_error() {
    let sandbox = Sandbox::with("out", "old");
    each(["some", "simply", "Numbered", "1"], |word| {
        let typed = format!("'{word}'");
        let run = sandbox.run(&format!("--backup={word} out"));
        run.reads_nothing().fails_with(2, &*typed);
        let run = sandbox.run("-b out").env("VERSION_CONTROL", word);
        let run = run.reads_nothing().says("VERSION_CONTROL");
        run.fails_with(2, typed);
    });
    sandbox.refuse_each(&[("-S a/b out", 2, "--suffix")]);
    // Without --backup, the variable is not checked.
    let run = sandbox.run("out").env("VERSION_CONTROL", "some");
    run.stdin("new").succeeds();
}

#[test]
fn the_backup_is_beside_the_target_or_is_the_replaced_link() {
    let cases = [
        (
            "mkdir far; printf old >far/target; ln -s far/target link; printf no >link.~1~",
            "-b link",
            "far/ far/target=new far/target~=old link->far/target link.~1~=no",
        ),
        (
            "printf theirs >target; ln -s target out",
            "-b --no-dereference out",
            "out=new out~->target target=theirs",
        ),
        (
            "printf old >out; printf theirs >target; ln -s target out~",
            "-b out",
            "out=new out~=old target=theirs",
        ),
        (
            "ln -s nowhere out",
            "-b --no-dereference out",
            "out=new out~->nowhere",
        ),
    ];
    each(cases, |(set_up, line, left)| {
        let sandbox = Sandbox::new();
        sandbox.sh(set_up);
        let done = sandbox.run(line).stdin("new").output();
        assert_eq!((done.code(), &*done.stderr), (Some(0), ""));
        assert_eq!(sandbox.listing(), left);
    });
}

#[test]
fn a_name_that_is_too_long_is_refused_before_any_input_is_read() {
    let cases = [
        (254, "-b", true),
        (255, "-b", false),
        (250, "-S .orig", true),
        (251, "-S .orig", false),
        (251, "--backup=numbered", true),
        (252, "--backup=numbered", false),
    ];
    each(cases, |(length, options, fits)| {
        let name = "n".repeat(length);
        let sandbox = Sandbox::with(&name, "old");
        let run = sandbox.run(&format!("{options} {name}"));
        if fits {
            let done = run.stdin("new").output();
            assert_eq!((done.code(), sandbox.names().len()), (Some(0), 2));
        } else {
            run.reads_nothing().fails_with(1, "too long");
        }
    });
    // The tenth number has one digit more.
    let name = "n".repeat(251);
    let sandbox = Sandbox::with(&name, "old");
    sandbox.write(format!("{name}.~9~"), "older");
    let run = sandbox.atomwrite(["--backup=numbered", &name]);
    run.stdin("new").fails_with(1, "too long");
}

#[test]
fn a_directory_under_the_backups_name_is_refused_before_any_input_is_read() {
    let sandbox = Sandbox::with("out", "old");
    sandbox.mkdir("out~");
    let run = sandbox.run("-b out").reads_nothing();
    run.says("cannot back up 'out'").fails_with(1, "directory");
}

#[test]
fn no_backup_is_made_if_nothing_is_replaced() {
    let sandbox = Sandbox::with("old", "old");
    sandbox.write("old~", "older");
    sandbox.run("-b new").stdin("1").succeeds();
    sandbox.run("-b -n newer").stdin("1").succeeds();
    sandbox.run("-b -C old").stdin("old").leaves_alone(0);
    sandbox.fail_each(&[
        ("-b -n old", "new", 3, "--no-clobber"),
        ("-b old", "", 3, "--allow-empty"),
        ("-b old -- sh -c 'echo half; exit 3'", "", 3, "status 3"),
        ("-b --validate 'exit 1' old", "new", 3, "validator"),
    ]);
    assert_eq!(sandbox.listing(), "new=1 newer=1 old=old old~=older");
}

#[test]
fn every_form_makes_a_backup() {
    const FORMS: [&str; 8] = [
        "-b src out",
        "-b -a out",
        "-b --lock out -- cat src",
        "-b --validate true out",
        "-b -C out",
        "-b --keep=none out",
        "-b -m 600 out",
        "-b --sync=none out",
    ];
    each(FORMS, |form| {
        let sandbox = Sandbox::with("src", "new");
        sandbox.write_with_mode("out", "old", 0o640);
        let old = sandbox.inode("out");
        let run = sandbox.run(form).stdin("new");
        run.leaves(["out", "out~", "src"]).succeeds();
        assert_eq!(sandbox.text("out~"), "old");
        assert_eq!((sandbox.mode("out~"), sandbox.inode("out~")), (0o640, old));
        assert!(sandbox.text("out").ends_with("new"));
        assert_ne!(sandbox.inode("out"), old);
    });
}
