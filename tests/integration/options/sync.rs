//! `--sync` and its shorter names, `$ATOMWRITE_SYNC`, and what is counted of them.
//!
//! full, the default: the file is fsynced, and the directory after it. file: the file only. none: neither.
//! `--no-fsync` is none and `--fsync` is full; the last one given wins, and wins over the environment.

use std::ffi::OsString;

use Flushed::{File, FileAndDirectory, Nothing};

use crate::harness::{Run, Sandbox, needs_tool};

/// What was flushed in a run: files, directories.
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
enum Flushed {
    Nothing,
    File,
    FileAndDirectory,
}

/// Puts strace before the run and tells what it flushed.
#[track_caller]
fn flushed(sandbox: &Sandbox, run: Run<'_>) -> Flushed {
    let trace = sandbox.aside("trace");
    let strace = [
        "strace",
        "-f",
        "-y",
        "-qq",
        "-e",
        "trace=fsync,fdatasync,syncfs,sync",
        "-o",
    ];
    let strace = strace
        .map(OsString::from)
        .into_iter()
        .chain([trace.clone().into()]);
    run.through(strace).succeeds();
    let trace = std::fs::read_to_string(trace).unwrap();
    let of_directory = format!("<{}>)", sandbox.root().display());
    let calls: Vec<_> = trace.lines().filter(|line| line.contains("sync")).collect();
    let directories = calls
        .iter()
        .filter(|line| line.contains(&of_directory))
        .count();
    match (calls.len() - directories, directories) {
        (0, 0) => Nothing,
        (1.., 0) => File,
        (1.., 1..) => FileAndDirectory,
        (0, 1..) => panic!("only the directory has been flushed:\n{trace}"),
    }
}

#[test]
fn the_last_sync_option_wins_and_wins_over_the_environment() {
    needs_tool!("strace");
    let cases: &[(Option<&str>, &[&str], Flushed)] = &[
        (None, &[], FileAndDirectory),
        (None, &["--sync=full"], FileAndDirectory),
        (None, &["--sync", "file"], File),
        (None, &["--sync=none"], Nothing),
        (None, &["--fsync"], FileAndDirectory),
        (None, &["--no-fsync"], Nothing),
        (None, &["--sync=none", "--fsync"], FileAndDirectory),
        (None, &["--fsync", "--no-fsync"], Nothing),
        (None, &["--no-fsync", "--fsync"], FileAndDirectory),
        (None, &["--fsync", "--sync=file"], File),
        (None, &["--no-fsync", "--sync=file"], File),
        (None, &["--sync=file", "--no-fsync"], Nothing),
        (None, &["--sync=file", "--sync=none"], Nothing),
        (
            None,
            &["--sync=none", "--sync=file", "--fsync"],
            FileAndDirectory,
        ),
        (Some("none"), &[], Nothing),
        (Some("file"), &[], File),
        (Some("full"), &[], FileAndDirectory),
        (Some("none"), &["--fsync"], FileAndDirectory),
        (Some("none"), &["--sync=file"], File),
        (Some("full"), &["--no-fsync"], Nothing),
        (Some("full"), &["--sync=none"], Nothing),
    ];
    for &(environment, options, expected) in cases {
        let sandbox = Sandbox::new();
        for dest in ["new", "old"] {
            if dest == "old" {
                sandbox.write("old", "old");
            }
            let arguments = options.iter().copied().chain([dest]);
            let mut run = sandbox.atomwrite(arguments).stdin("new");
            if let Some(value) = environment {
                run = run.env("ATOMWRITE_SYNC", value);
            }
            assert_eq!(
                flushed(&sandbox, run),
                expected,
                "{environment:?} {options:?} {dest}"
            );
        }
    }
}

#[test]
fn an_empty_variable_is_none_and_one_that_an_option_overrules_is_not_looked_at() {
    needs_tool!("strace");
    let sandbox = Sandbox::new();
    let run = sandbox.run("out").stdin("new");
    let run = run.env("ATOMWRITE_SYNC", "");
    assert_eq!(flushed(&sandbox, run), FileAndDirectory);
    let run = sandbox.run("--sync=none out").stdin("new");
    let run = run.env("ATOMWRITE_SYNC", "bogus");
    assert_eq!(flushed(&sandbox, run), Nothing);
}

#[test]
fn every_directory_in_which_a_name_is_new_is_flushed() {
    needs_tool!("strace");
    for (sync, expected) in [
        ("full", &["", "/a", "/a/b"][..]),
        ("file", &[]),
        ("none", &[]),
    ] {
        let sandbox = Sandbox::new();
        let trace = sandbox.aside("trace");
        let strace = ["strace", "-y", "-qq", "-e", "trace=fsync,fdatasync", "-o"];
        let strace = strace
            .map(OsString::from)
            .into_iter()
            .chain([trace.clone().into()]);
        sandbox
            .atomwrite([&format!("--sync={sync}"), "-D", "a/b/out"])
            .stdin("new")
            .through(strace)
            .leaves(["a", "a/b", "a/b/out"])
            .succeeds();
        let trace = std::fs::read_to_string(trace).unwrap();
        let mut directories: Vec<_> = trace
            .lines()
            .filter_map(|line| line.split_once('<')?.1.split_once('>'))
            .filter(|(path, _)| std::path::Path::new(path).is_dir())
            .map(|(path, _)| path.strip_prefix(sandbox.root().to_str().unwrap()).unwrap())
            .collect();
        directories.sort_unstable();
        assert_eq!(directories, expected, "{sync}\n{trace}");
    }
}

#[test]
fn an_unknown_sync_is_a_usage_error() {
    let sandbox = Sandbox::with("out", "old");
    for option in [
        "--sync=bogus",
        "--sync=",
        "--sync=FULL",
        "--sync=yes",
        "--fsync=full",
    ] {
        sandbox.atomwrite([option, "out"]).reads_nothing().fails(2);
    }
    sandbox
        .run("--sync=bogus out")
        .stdin("new")
        .fails_with(2, "'bogus'");
}

#[test]
fn an_unknown_sync_in_the_environment_is_a_usage_error_that_names_it() {
    let sandbox = Sandbox::with("out", "old");
    sandbox
        .run("out")
        .env("ATOMWRITE_SYNC", "bogus")
        .reads_nothing()
        .says("ATOMWRITE_SYNC")
        .fails_with(2, "'bogus'");
    let not_utf8 = crate::harness::os(b"\xff");
    sandbox
        .run("out")
        .env("ATOMWRITE_SYNC", not_utf8)
        .stdin("new")
        .fails_with(2, "ATOMWRITE_SYNC");
}
