//! `--sync` and its shorter names, `$ATOMWRITE_SYNC`, and what is counted of them; `-v` and `-q`.
//!
//! full, the default: the file is fsynced, and the directory after it. file: the file only. none: neither.
//! `--no-fsync` is none and `--fsync` is full; the last one given wins, and wins over the environment.

use std::ffi::OsString;

use crate::sandbox::{Run, Sandbox, Witness, needs_tool};

/// What was flushed in a run: files, directories.
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
enum Flushed {
    Nothing,
    File,
    FileAndDirectory,
}

use Flushed::{File, FileAndDirectory, Nothing};

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
    let run = sandbox.atomwrite(["out"]).stdin("new");
    let run = run.env("ATOMWRITE_SYNC", "");
    assert_eq!(flushed(&sandbox, run), FileAndDirectory);
    let run = sandbox.atomwrite(["--sync=none", "out"]).stdin("new");
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
    let sandbox = Sandbox::new();
    sandbox.write("out", "old");
    for option in [
        "--sync=bogus",
        "--sync=",
        "--sync=FULL",
        "--sync=yes",
        "--fsync=full",
    ] {
        let input = Witness::new();
        sandbox
            .atomwrite([option, "out"])
            .stdin_from(input.input())
            .fails(2);
        input.has_not_been_read();
    }
    sandbox
        .atomwrite(["--sync=bogus", "out"])
        .stdin("new")
        .says("'bogus'")
        .fails(2);
}

#[test]
fn an_unknown_sync_in_the_environment_is_a_usage_error_that_names_it() {
    let sandbox = Sandbox::new();
    sandbox.write("out", "old");
    let input = Witness::new();
    sandbox
        .atomwrite(["out"])
        .env("ATOMWRITE_SYNC", "bogus")
        .stdin_from(input.input())
        .says("ATOMWRITE_SYNC")
        .says("'bogus'")
        .fails(2);
    input.has_not_been_read();
    let not_utf8 = crate::sandbox::os(b"\xff");
    sandbox
        .atomwrite(["out"])
        .env("ATOMWRITE_SYNC", not_utf8)
        .stdin("new")
        .says("ATOMWRITE_SYNC")
        .fails(2);
}

#[test]
fn keep_takes_three_words() {
    let sandbox = Sandbox::new();
    for word in ["try", "all", "none"] {
        sandbox
            .atomwrite(["--keep", word, "out"])
            .stdin("new")
            .succeeds();
    }
    for option in ["--keep=bogus", "--keep=", "--keep=ALL"] {
        sandbox.atomwrite([option, "out"]).stdin("new").fails(2);
    }
}

// ---- -v and -q ------------------------------------------------------------------------------------------------

#[test]
fn verbose_tells_what_was_done_and_the_size() {
    let sandbox = Sandbox::new();
    sandbox.write("in", "0123456789ab");
    for option in ["-v", "--verbose"] {
        let done = sandbox
            .atomwrite([option, "in", "x"])
            .says("bytes")
            .succeeds();
        assert_eq!(done.stderr, "atomwrite: created 'x' (12 bytes)\n");
        let done = sandbox
            .atomwrite([option, "x"])
            .stdin("0123456")
            .says("bytes")
            .succeeds();
        assert_eq!(done.stderr, "atomwrite: replaced 'x' (7 bytes)\n");
        std::fs::remove_file(sandbox.path("x")).unwrap();
    }
    sandbox
        .atomwrite(["-v", "one"])
        .stdin("1")
        .says("created 'one' (1 byte")
        .succeeds();
    sandbox
        .atomwrite(["-v", "none"])
        .stdin("")
        .says("created 'none' (0 bytes)")
        .succeeds();
}

#[test]
fn verbose_speaks_of_dest_as_it_was_typed() {
    let sandbox = Sandbox::new();
    sandbox.write("target", "old");
    sandbox.symlink("target", "link");
    sandbox.symlink("nowhere", "dangling");
    sandbox
        .atomwrite(["-v", "./link"])
        .stdin("new")
        .leaves(["dangling", "link", "target"])
        .says("replaced './link' (3 bytes)")
        .succeeds();
    sandbox
        .atomwrite(["-v", "dangling"])
        .stdin("new")
        .says("created 'dangling' (3 bytes)")
        .leaves(["dangling", "link", "nowhere", "target"])
        .succeeds();
}

#[test]
fn verbose_says_nothing_of_a_success_that_did_not_come() {
    let sandbox = Sandbox::new();
    sandbox.write("out", "old");
    let done = sandbox.atomwrite(["-v", "missing", "out"]).fails(1);
    assert!(!done.stderr.contains("replaced"), "{done:?}");
}

#[test]
fn quiet_hides_no_error() {
    let sandbox = Sandbox::new();
    sandbox.write("out", "old");
    sandbox
        .atomwrite(["-q", "missing", "out"])
        .says("'missing'")
        .fails(1);
    sandbox
        .atomwrite(["--quiet", "out"])
        .stdin("")
        .says("empty")
        .fails(3);
    sandbox.atomwrite(["-q"]).fails(2);
}
