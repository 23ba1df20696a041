//! The command line: both forms, `--`, help and version, and no panic on any argument vector.
//!
//! `--` before any operand only ends the options. After exactly one operand it starts COMMAND.
//! After two operands it is a usage error. Help and version go to stdout; a usage error is status
//! 2, touches nothing and is reported before any input is read or any program is run.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use proptest::prelude::*;

use crate::harness::{Done, Sandbox, check_message, each};

pub(crate) const OPTIONS: [&str; 30] = [
    "--min-size",
    "--command",
    "--append",
    "--lock",
    "--allow-empty",
    "--no-empty",
    "--no-clobber",
    "--sha256",
    "--validate",
    "--compare",
    "--unchanged-status",
    "--keep",
    "--mode",
    "--owner",
    "--group",
    "--preserve-timestamps",
    "--no-dereference",
    "--force",
    "--create-dirs",
    "--backup",
    "--suffix",
    "--sync",
    "--fsync",
    "--no-fsync",
    "--inplace",
    "--progress",
    "--verbose",
    "--quiet",
    "--help",
    "--version",
];

#[test]
fn both_forms_work_with_options_anywhere() {
    const FORMS: [&str; 6] = [
        "-m600 in out",
        "in -m600 out",
        "in out -m600",
        "in out -m 600",
        "-m600 -- in out",
        "-vqm600 in out",
    ];
    each(FORMS, |line| {
        let sandbox = Sandbox::with("in", "new");
        let done = sandbox.run(line).output();
        assert_eq!(done.code(), Some(0), "{done:?}");
        assert_eq!(sandbox.listing(), "in=new out=new");
        assert_eq!(sandbox.mode("out"), 0o600);
    });
}

#[test]
fn two_dashes_end_the_options_before_an_operand_and_start_the_command_after_one() {
    let cases = [
        ("-- out", "out=stdin"),
        ("-- - out", "out=stdin"),
        ("-- out copy", "copy= out="),
        ("out -- printf %s x", "out=x"),
        ("-m644 out -- printf %s x", "out=x"),
        ("out -m644 -- printf %s x", "out=x"),
        // The options had ended already.
        ("-- out -- printf %s x", "out=x"),
        ("-m644 -- out -- printf %s x", "out=x"),
        // What follows is COMMAND's: a word like an option, `--` and what stands for stdin are not
        // ours.
        ("out -- printf %s -m600", "out=-m600"),
        ("out -- printf -- x", "out=x"),
        ("out -- printf %s x -- - -h", "out=x----h"),
        ("out -- env -- printf x", "out=x"),
        // A DEST like an option.
        ("-- -n -- printf x", "-n=x"),
    ];
    each(cases, |(line, left)| {
        let sandbox = Sandbox::new();
        if left.contains("copy") {
            sandbox.write("out", "");
        }
        let done = sandbox.run(line).stdin("stdin").output();
        assert_eq!(done.code(), Some(0), "{done:?}");
        assert_eq!((&*done.stdout, &*done.stderr), ("", ""));
        assert_eq!(sandbox.listing(), left);
        assert!(
            sandbox
                .names()
                .iter()
                .all(|name| sandbox.mode(name) == 0o644)
        );
    });
    // And a COMMAND of that name is one that is not found.
    let sandbox = Sandbox::new();
    sandbox.run("out -- --").fails_with(127, "'--'");
}

#[test]
fn usage_errors_touch_nothing_run_nothing_and_read_nothing() {
    let sandbox = Sandbox::with("in", "new");
    sandbox.write("out", "old");
    sandbox.refuse_each(&[
        ("in out -- touch ran", 2, "--"),
        ("- out -- touch ran", 2, "--"),
        ("in out more -- touch ran", 2, "--"),
        ("-- in out -- touch ran", 2, "too many"),
        ("- -- touch ran", 2, "./-"),
        ("'' -- touch ran", 2, "empty"),
        ("--bogus out -- touch ran", 2, "--bogus"),
        ("-m bogus out -- touch ran", 2, "bogus"),
        ("in out --", 2, "'--'"),
        ("out --", 2, "COMMAND"),
        ("-- out --", 2, "COMMAND"),
        ("in out -- out", 2, "--"),
        ("--", 2, ""),
        ("-v", 2, ""),
        ("a b third", 2, "'third'"),
        ("-- a b third", 2, "'third'"),
        ("--sha256 00 out", 2, "--sha256"),
        ("--sha256 '' out", 2, "--sha256"),
        ("--unchanged-status 256 out", 2, "256"),
        ("--unchanged-status=-1 out", 2, "-1"),
        ("--unchanged-status x out", 2, "'x'"),
        ("--backup=bogus out", 2, "'bogus'"),
        ("-S a/b out", 2, "--suffix"),
        ("--inplace=bogus out", 2, "'bogus'"),
        ("out --validate", 2, "--validate"),
        ("--bogus out", 2, "--bogus"),
        ("-Z out", 2, "-Z"),
        ("-nZ out", 2, "-Z"),
        ("--no-clobber=yes out", 2, "--no-clobber"),
        ("-m", 2, ""),
        ("out --owner", 2, "--owner"),
        ("out --sync", 2, "--sync"),
        ("''", 2, "empty"),
        ("in ''", 2, "empty"),
        // A mistyped option is answered by the right one.
        ("--allow-emty out", 2, "'--allow-empty'"),
        ("--no-clober out", 2, "'--no-clobber'"),
        ("--create-dir out", 2, "'--create-dirs'"),
        ("--nofsync out", 2, "'--no-fsync'"),
        ("--ower=root out", 2, "'--owner'"),
        ("--xyzzy out", 2, "'--xyzzy'"),
    ]);
}

/// Checks on arbitrary arguments what must hold for every run.
fn is_sane(arguments: &[OsString], done: &Done) -> Result<(), TestCaseError> {
    let context = format!("{arguments:?}\n{done:?}");
    let Some(code) = done.code() else {
        return Err(TestCaseError::fail(format!("died by a signal: {context}")));
    };
    // The forms are shown, in lines of their own.
    if arguments.is_empty() {
        prop_assert_eq!(code, 2);
        return Ok(());
    }
    // COMMAND is never found: PATH leads to nothing.
    let with_command = arguments.iter().any(|word| {
        let word = word.as_bytes();
        word == b"--" || word.starts_with(b"-") && word.contains(&b'c')
    });
    let unchanged = done.stderr.is_empty() || done.stderr.starts_with("atomwrite: unchanged ");
    let allowed = matches!(code, 0..=4)
        || with_command && matches!(code, 125..=127)
        || unchanged && mentions(arguments, "--unchanged-status");
    prop_assert!(allowed, "{}", context);
    // Help and version are the only way to stdout.
    let shown = done.stdout.contains("Usage") || done.stdout.starts_with("atomwrite ");
    prop_assert!(
        done.stdout.is_empty() || (shown && code == 0),
        "{}",
        context
    );
    let (warnings, errors): (Vec<_>, Vec<_>) = done
        .stderr
        .lines()
        .partition(|line| line.starts_with("atomwrite: warning: "));
    if code == 0 {
        let said = ["created", "replaced", "unchanged", "written in place"];
        let verbose = errors
            .iter()
            .all(|line| said.iter().any(|word| line.contains(word)));
        prop_assert!(verbose, "{}", context);
    } else {
        let one = usize::from(!unchanged);
        prop_assert_eq!(errors.len().max(one), one, "{}", context);
    }
    for line in errors.iter().chain(&warnings) {
        check_message(line);
    }
    Ok(())
}

fn mentions(arguments: &[OsString], option: &str) -> bool {
    let mut arguments = arguments.iter();
    arguments.any(|word| word.as_bytes().starts_with(option.as_bytes()))
}

/// Bytes without NUL, which no argument can have, and without a slash, so that nothing escapes the
/// sandbox.
fn words() -> impl Strategy<Value = OsString> {
    let bytes = |length| proptest::collection::vec(prop_oneof![1..=46_u8, 48..=255_u8], length);
    let options: Vec<String> = OPTIONS
        .iter()
        .map(|&option| option.to_owned())
        .chain("anCmogfDbSvqhV".chars().map(|letter| format!("-{letter}")))
        .chain(
            [
                "-",
                "--",
                "--=",
                "-=",
                "---",
                "--keep=",
                "--sync=file",
                "--mode=+x",
                "--backup=t",
                "--inplace=auto",
                "--unchanged-status=7",
                "a",
                ".",
            ]
            .map(String::from),
        )
        .collect();
    let option = proptest::sample::select(options).prop_map(String::into_bytes);
    prop_oneof![
        3 => bytes(0..12_usize),
        3 => option.clone(),
        1 => (option.clone(), bytes(0..4_usize)).prop_map(|(mut option, tail)| { option.extend(tail); option }),
        1 => (option, bytes(0..4_usize)).prop_map(|(option, value)| [&option[..], b"=", &value[..]].concat()),
        1 => bytes(1..4_usize).prop_map(|tail| [b"-", &tail[..]].concat()),
        1 => bytes(200..300_usize),
    ]
    .prop_map(OsString::from_vec)
}

#[test]
fn no_argument_vector_makes_it_panic() {
    let config = ProptestConfig {
        cases: 250,
        failure_persistence: None,
        max_shrink_iters: 200,
        ..ProptestConfig::default()
    };
    let vectors = proptest::collection::vec(words(), 0..6);
    let nowhere = tempfile::tempdir().unwrap();
    proptest!(config, |(arguments in vectors, stdin in proptest::collection::vec(any::<u8>(), 0..3))| {
        let sandbox = Sandbox::with("a", "old");
        let done = sandbox
            .atomwrite(arguments.clone())
            .env("ATOMWRITE_SYNC", "none")
            // No COMMAND, no validator and no getent is found.
            .env("PATH", nowhere.path())
            .stdin(stdin)
            .output();
        is_sane(&arguments, &done)?;
        let names = sandbox.names();
        let left = names.iter().any(|name| name.as_bytes().starts_with(b".atomwrite."));
        prop_assert!(!left, "{:?} {:?}", arguments, names);
        // DEST, and a backup of what was there.
        let more = if done.code() == Some(0) { 2 } else { 0 };
        prop_assert!(names.len() <= 1 + more, "{:?} {:?}", arguments, names);
    });
}

#[test]
fn no_value_of_an_option_makes_it_panic() {
    let config = ProptestConfig {
        cases: 100,
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    // Not --validate, of which every value is a program.
    let option = proptest::sample::select(vec![
        "--mode",
        "--owner",
        "--group",
        "--keep",
        "--sync",
        "--sha256",
        "--unchanged-status",
        "--backup",
        "--suffix",
        "--inplace",
    ]);
    let value = proptest::collection::vec(1..=255_u8, 0..20);
    proptest!(config, |(option in option, value in value, joined in any::<bool>())| {
        let sandbox = Sandbox::new();
        let value = OsString::from_vec(value);
        let mut arguments = vec![OsString::from(option)];
        if joined {
            arguments[0].push("=");
            arguments[0].push(value);
        } else {
            arguments.push(value);
        }
        arguments.push("out".into());
        let done = sandbox.atomwrite(arguments.clone()).env("ATOMWRITE_SYNC", "none").stdin("new").output();
        is_sane(&arguments, &done)?;
    });
}
