//! `--sync`, its shorter names, and `$ATOMWRITE_SYNC`, by the syncs in a trace.
//!
//! full, the default: the file is fsynced, and then the directory. file: the file only. none:
//! neither. `--no-fsync` is none and `--fsync` is full. The last option wins, also over the
//! environment.

use Flushed::{File, FileAndDirectory, Nothing};

use crate::harness::{Call, Run, Sandbox, each, needs_tool, os};

/// What was flushed in a run: files, directories.
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
enum Flushed {
    Nothing,
    File,
    FileAndDirectory,
}

/// Runs below strace, and returns what was synced.
#[track_caller]
fn flushed(sandbox: &Sandbox, run: Run<'_>) -> Flushed {
    let trace = run.traced();
    let of_directory = format!("<{}>", sandbox.root().display());
    let syncs = |call: &&Call| ["fsync", "fdatasync", "syncfs", "sync"].contains(&&*call.name);
    let calls: Vec<_> = trace.own().iter().filter(syncs).collect();
    let directories = calls
        .iter()
        .filter(|call| call.args.ends_with(&of_directory));
    let directories = directories.count();
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
    let cases = [
        (None, "", FileAndDirectory),
        (None, "--sync=full", FileAndDirectory),
        (None, "--sync file", File),
        (None, "--sync=none", Nothing),
        (None, "--fsync", FileAndDirectory),
        (None, "--no-fsync", Nothing),
        (None, "--sync=none --fsync", FileAndDirectory),
        (None, "--fsync --no-fsync", Nothing),
        (None, "--no-fsync --fsync", FileAndDirectory),
        (None, "--fsync --sync=file", File),
        (None, "--no-fsync --sync=file", File),
        (None, "--sync=file --no-fsync", Nothing),
        (None, "--sync=file --sync=none", Nothing),
        (None, "--sync=none --sync=file --fsync", FileAndDirectory),
        (Some("none"), "", Nothing),
        (Some("file"), "", File),
        (Some("full"), "", FileAndDirectory),
        (Some("none"), "--fsync", FileAndDirectory),
        (Some("none"), "--sync=file", File),
        (Some("full"), "--no-fsync", Nothing),
        (Some("full"), "--sync=none", Nothing),
    ];
    each(cases, |(environment, options, expected)| {
        let sandbox = Sandbox::with("old", "old");
        for dest in ["new", "old"] {
            let mut run = sandbox.run(&format!("{options} {dest}")).stdin("new");
            if let Some(value) = environment {
                run = run.env("ATOMWRITE_SYNC", value);
            }
            assert_eq!(flushed(&sandbox, run), expected, "{dest}");
        }
    });
}

#[test]
fn the_variable_is_ignored_if_it_is_empty_or_an_option_overrides_it() {
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
fn an_unknown_sync_is_a_usage_error() {
    let sandbox = Sandbox::with("out", "old");
    sandbox.refuse_each(&[
        ("--sync=bogus out", 2, "'bogus'"),
        ("--sync= out", 2, "--sync"),
        ("--sync=FULL out", 2, "'FULL'"),
        ("--sync=yes out", 2, "'yes'"),
        ("--fsync=full out", 2, "--fsync"),
    ]);
    for (value, named) in [(os(b"bogus"), "'bogus'"), (os(b"\xff"), "ATOMWRITE_SYNC")] {
        let run = sandbox.run("out").env("ATOMWRITE_SYNC", value);
        let run = run.reads_nothing().says("ATOMWRITE_SYNC");
        run.fails_with(2, named);
    }
}
