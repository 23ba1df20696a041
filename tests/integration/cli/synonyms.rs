//! Options of other programs, and names with odd letters: the suggestion can be used as it stands.
//!
//! For an option of cp, install, rsync, curl or flock, the message names the option that does the
//! same here. A suggestion by spelling is at most one letter or one transposition off. A name in a
//! message can be pasted into a shell.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::process::Command;

use proptest::prelude::*;

use crate::harness::{Sandbox, Witness, has_tool};

const SYNONYMS: &[(&str, &str)] = &[
    ("--mkdir", "use -D to create missing directories"),
    ("--mkdirs", "use -D to create missing directories"),
    ("--parents", "use -D to create missing directories"),
    ("--chmod=600", "use -m to set the mode"),
    ("--perms=600", "use -m to set the mode"),
    ("--permissions=600", "use -m to set the mode"),
    ("--chown=root", "use -o to set the owner"),
    ("-u", "use -o to set the owner"),
    (
        "--check",
        "use --validate to check the content with a program",
    ),
    (
        "--verify",
        "use --validate to check the content with a program",
    ),
    (
        "--test",
        "use --validate to check the content with a program",
    ),
    ("--md5=0", "use --sha256 to check the digest of the content"),
    (
        "--checksum",
        "use --sha256 to check the digest of the content",
    ),
    ("--hash", "use --sha256 to check the digest of the content"),
    (
        "--diff",
        "use -C to leave a DEST alone that already has the content",
    ),
    (
        "--update",
        "use -C to leave a DEST alone that already has the content",
    ),
    (
        "--if-changed",
        "use -C to leave a DEST alone that already has the content",
    ),
    (
        "--preserve",
        "use --keep to choose which attributes of DEST are kept, or -p to preserve SOURCE's times",
    ),
    ("-0", "use --files0-from for names that end with NUL"),
    ("--null", "use --files0-from for names that end with NUL"),
    (
        "-r",
        "use -t to write many files, or a symbolic link to replace a whole directory",
    ),
    (
        "--recursive",
        "use -t to write many files, or a symbolic link to replace a whole directory",
    ),
    (
        "-e",
        "use -c to run a shell pipeline, or put '--' and a COMMAND after DEST",
    ),
    (
        "--shell",
        "use -c to run a shell pipeline, or put '--' and a COMMAND after DEST",
    ),
    (
        "--wait=5",
        "use --lock=SECONDS to limit the wait for the lock, or timeout(1) to limit the time of a COMMAND",
    ),
    (
        "--temp-dir=d",
        "the temporary file is always in DEST's directory",
    ),
    ("--durable", "omit it, because that is the default"),
    ("--overwrite", "omit it, because that is the default"),
    (
        "--exec",
        "use -c to run a shell pipeline, or put '--' and a COMMAND after DEST",
    ),
    (
        "--timeout=5",
        "use --lock=SECONDS to limit the wait for the lock, or timeout(1) to limit the time of a COMMAND",
    ),
    (
        "--tmpdir=d",
        "the temporary file is always in DEST's directory",
    ),
    (
        "--dry-run",
        "there is no dry run; use --validate to inspect the content and refuse it",
    ),
    ("--atomic", "omit it, because that is the default"),
    (
        "--backup-dir=d",
        "a backup is always in DEST's directory; use -S to set its suffix",
    ),
    ("--silent", "use -q to suppress warnings"),
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
        (
            &["s", "f", "--mkdir"][..],
            "use -D to create missing directories",
        ),
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
            "-b takes no value, and got '.bak'; use -S .bak to set the suffix of a backup",
        ),
        (
            &["--backup=.bak", "s", "f"],
            "--backup cannot be '.bak': it must be none, simple, numbered or existing; use -S to set the suffix",
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
