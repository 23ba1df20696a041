//! Options of other programs, and names with odd letters: the suggestion can be used as it stands.
//!
//! An option that people know from cp, install, rsync, curl or flock gets the option that does it;
//! a guess by spelling is one letter or one transposition off. A name in a message can be pasted
//! into a shell.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::process::Command;

use proptest::prelude::*;

use crate::harness::{Sandbox, Witness, has_tool};

const SYNONYMS: &[(&str, &str)] = &[
    ("--mkdir", "-D makes missing directories"),
    ("--mkdirs", "-D makes missing directories"),
    ("--parents", "-D makes missing directories"),
    ("--chmod=600", "-m sets the mode"),
    ("--perms=600", "-m sets the mode"),
    ("--permissions=600", "-m sets the mode"),
    ("--chown=root", "-o sets the owner"),
    ("-u", "-o sets the owner"),
    ("--check", "--validate has a program check the content"),
    ("--verify", "--validate has a program check the content"),
    ("--test", "--validate has a program check the content"),
    ("--md5=0", "--sha256 checks the digest of the content"),
    ("--checksum", "--sha256 checks the digest of the content"),
    ("--hash", "--sha256 checks the digest of the content"),
    (
        "--diff",
        "-C leaves a DEST alone that has the content already",
    ),
    (
        "--update",
        "-C leaves a DEST alone that has the content already",
    ),
    (
        "--if-changed",
        "-C leaves a DEST alone that has the content already",
    ),
    (
        "--preserve",
        "--keep says which attributes of DEST are kept, and -p gives it SOURCE's times",
    ),
    ("-0", "--files0-from takes names that end with NUL"),
    ("--null", "--files0-from takes names that end with NUL"),
    (
        "-r",
        "-t writes many files, and a whole directory is replaced by a symbolic link that leads to it",
    ),
    (
        "--recursive",
        "-t writes many files, and a whole directory is replaced by a symbolic link that leads to it",
    ),
    (
        "-e",
        "-c runs a shell pipeline, and a COMMAND stands after DEST and '--'",
    ),
    (
        "--shell",
        "-c runs a shell pipeline, and a COMMAND stands after DEST and '--'",
    ),
    (
        "--wait=5",
        "--lock=SECONDS limits the wait for the lock, and timeout(1) the time of a COMMAND",
    ),
    (
        "--temp-dir=d",
        "the temporary file is always in DEST's directory",
    ),
    ("--durable", "that is the default"),
    ("--overwrite", "that is the default"),
    (
        "--exec",
        "-c runs a shell pipeline, and a COMMAND stands after DEST and '--'",
    ),
    (
        "--timeout=5",
        "--lock=SECONDS limits the wait for the lock, and timeout(1) the time of a COMMAND",
    ),
    (
        "--tmpdir=d",
        "the temporary file is always in DEST's directory",
    ),
    (
        "--dry-run",
        "there is no dry run, but --validate can refuse any content",
    ),
    ("--atomic", "that is the default"),
    (
        "--backup-dir=d",
        "a backup is always in DEST's directory; -S sets its suffix",
    ),
    ("--silent", "-q leaves out warnings"),
    // No guess from a word that is not alike.
    ("--xyzzy", ""),
    ("--validation=true", ""),
];

#[test]
fn an_option_of_another_program_gets_the_one_that_does_it() {
    let sandbox = Sandbox::new();
    for (word, advice) in SYNONYMS {
        let done = sandbox.atomwrite([word, "out"]).fails(2);
        let option = word.split('=').next().unwrap();
        let advice = if advice.is_empty() {
            String::new()
        } else {
            format!("; {advice}")
        };
        assert_eq!(
            done.stderr,
            format!("atomwrite: unknown option '{option}'{advice} (see 'atomwrite --help')\n")
        );
    }
}

#[test]
fn an_option_after_source_and_dest_gets_no_hint_about_command() {
    let sandbox = Sandbox::new();
    for (words, advice) in [
        (&["s", "f", "--mkdir"][..], "-D makes missing directories"),
        (
            &["f", "install", "--mkdir", "s"],
            "did you mean '--' before a COMMAND?",
        ),
        (&["f", "ls", "-r"], "did you mean '--' before a COMMAND?"),
    ] {
        let done = sandbox.atomwrite(words.to_vec()).fails(2);
        let end = format!("; {advice} (see 'atomwrite --help')\n");
        assert!(done.stderr.ends_with(&end), "{done:?}");
    }
}

#[test]
fn a_suggestion_is_at_most_one_letter_or_one_transposition_off() {
    let sandbox = Sandbox::new();
    for (word, meant) in [
        ("--snyc=none", "'--sync'"),
        ("--syncs=none", "'--sync'"),
        ("--snc=none", "'--sync'"),
        ("--sink=none", ""),
        ("--moed=600", "'--mode'"),
        ("--node=600", "'--mode'"),
        ("--file-from=list", "'--files-from'"),
    ] {
        let done = sandbox.atomwrite([word, "out"]).fails(2);
        let option = word.split('=').next().unwrap();
        let guess = if meant.is_empty() {
            String::new()
        } else {
            format!("; did you mean {meant}?")
        };
        assert_eq!(
            done.stderr,
            format!("atomwrite: unknown option '{option}'{guess} (see 'atomwrite --help')\n")
        );
    }
}

#[test]
fn the_backup_option_of_another_program_is_explained() {
    let sandbox = Sandbox::new();
    for (words, line) in [
        (
            &["-b.bak", "s", "f"][..],
            "-b takes no value, and got '.bak'; -S .bak sets the suffix of a backup",
        ),
        (
            &["--backup=.bak", "s", "f"],
            "--backup cannot be '.bak': it must be none, simple, numbered or existing; -S sets the suffix",
        ),
        (
            &["--backup", "numbered", "s", "f"],
            "--backup takes its value after an equals sign: --backup=numbered",
        ),
    ] {
        let done = sandbox.atomwrite(words.to_vec()).fails(2);
        assert_eq!(
            done.stderr,
            format!("atomwrite: {line} (see 'atomwrite --help')\n")
        );
    }
}

#[test]
fn without_arguments_the_forms_are_shown() {
    let sandbox = Sandbox::new();
    let input = Witness::new();
    let done = sandbox
        .atomwrite([""; 0])
        .stdin_from(input.input())
        .output();
    assert_eq!(done.code(), Some(2));
    assert_eq!(
        done.stderr,
        "\
atomwrite: DEST is missing: name the file to write (see 'atomwrite --help')
Usage: atomwrite [OPTIONS] [SOURCE] DEST
       atomwrite [OPTIONS] DEST -- COMMAND [ARG]...
       atomwrite [OPTIONS] -c STRING DEST
       atomwrite [OPTIONS] -t DIR SOURCE...
"
    );
    input.has_not_been_read();
}

/// What is between `cannot open ` and the reason.
fn quoted(name: &OsStr) -> String {
    let sandbox = Sandbox::new();
    let words = [OsStr::new("--"), name, OsStr::new("out")];
    let done = sandbox.atomwrite(words).output();
    assert_eq!(done.code(), Some(1), "{done:?}");
    let line = done.stderr.strip_prefix("atomwrite: cannot open ").unwrap();
    let (quoted, _) = line.rsplit_once(": ").unwrap();
    quoted.to_owned()
}

#[test]
fn a_name_is_quoted_as_a_shell_reads_it() {
    for (name, expected) in [
        (&b"a b"[..], "'a b'"),
        (b"it's", r"'it'\''s'"),
        (b"a\nb", r"'a'$'\n''b'"),
        (b"\t\n", r"''$'\t\n'"),
        (b"\xff", r"''$'\xff'"),
        ("\u{202e}x".as_bytes(), r"''$'\xe2\x80\xae''x'"),
        (b"$HOME \\n", r"'$HOME \n'"),
    ] {
        assert_eq!(quoted(OsStr::from_bytes(name)), expected);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn a_quoted_name_can_be_pasted(name in proptest::collection::vec(
        prop_oneof![
            proptest::sample::select(&b"'$\"\\\n\tabc 07xf\x1b\xff\xc3\xa4"[..]),
            1..=255_u8,
        ],
        1..20,
    )) {
        let name: Vec<u8> = name.into_iter().filter(|byte| *byte != b'/').collect();
        prop_assume!(!name.is_empty() && has_tool("bash"));
        let name = OsString::from_vec([&b"no-such "[..], &name].concat());
        let pasted = Command::new("bash")
            .args(["-c", &format!("printf %s {}", quoted(&name))])
            .output()
            .unwrap();
        prop_assert_eq!(pasted.stdout, name.into_vec());
    }
}
