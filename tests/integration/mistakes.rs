//! What people type who come from sponge, tee, install, cp, curl or a shell, and what they read then.
//!
//! A usage error is status 2, touches nothing and reads nothing, and names what was meant where that can be guessed.

use crate::sandbox::{Sandbox, Witness};

/// What each usage error says, without what all of them begin and end with.
const USAGE: &[(&[&str], &str)] = &[
    // Mistyped options.
    (
        &["--valdate", "true", "out"],
        "unknown option '--valdate'; did you mean '--validate'?",
    ),
    (&["-Z", "out"], "unknown option '-Z'"),
    (&["-nZ", "out"], "unknown option '-Z' in '-nZ'"),
    (
        &["-verbose", "out"],
        "unknown option '-e' in '-verbose'; did you mean '--verbose'?",
    ),
    (
        &["-x.json"],
        "unknown option '-x' in '-x.json'; a file of that name is './-x.json'",
    ),
    // Values.
    (
        &["--sync=ful", "out"],
        "--sync cannot be 'ful': it must be none, file or full; did you mean 'full'?",
    ),
    (
        &["--sync", "out"],
        "--sync cannot be 'out': it must be none, file or full",
    ),
    (
        &["out", "--sync"],
        "--sync needs a value: none, file or full",
    ),
    (
        &["--keep=al", "out"],
        "--keep cannot be 'al': it must be try, all or none; did you mean 'all'?",
    ),
    (
        &["--inplace=alway", "out"],
        "--inplace cannot be 'alway': it must be never, auto or always; did you mean 'always'?",
    ),
    (
        &["--backup=number", "out"],
        "--backup cannot be 'number': it must be none, simple, numbered or existing",
    ),
    (
        &["--fsync=full", "out"],
        "--fsync takes no value, and got 'full'",
    ),
    (
        &["-m", "rw-r--r--", "out"],
        "--mode cannot be 'rw-r--r--': it must be octal like 640, or symbolic like u=rw,go=r, as for chmod(1)",
    ),
    (
        &["--unchanged-status=256", "out"],
        "--unchanged-status cannot be '256': it must be a number from 0 to 255",
    ),
    (
        &["-o", "", "out"],
        "--owner cannot be '': it must be a name or a number",
    ),
    (
        &["-S", "a/b", "out"],
        "--suffix cannot be 'a/b': it has a slash, and a backup stays in DEST's directory",
    ),
    (
        &["-S", "", "out"],
        "--suffix cannot be '': a backup needs another name than DEST",
    ),
    (
        &["--validate", "", "out"],
        "--validate needs a command, and got an empty one",
    ),
    // A digest that is short, one with its algorithm, and the file that it is in.
    (
        &["--sha256", "22ce69", "out"],
        "--sha256 cannot be '22ce69': a SHA-256 digest is 64 hexadecimal digits, and these are 6",
    ),
    (
        &[
            "--sha256",
            "sha256:5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03",
            "out",
        ],
        "--sha256 cannot be 'sha256:5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03': \
         a SHA-256 digest is 64 hexadecimal digits, and nothing else",
    ),
    (
        &["--sha256", "SHA256SUMS", "out"],
        "--sha256 cannot be 'SHA256SUMS': a SHA-256 digest is 64 hexadecimal digits, and not the name of a file",
    ),
    // `curl -o FILE`, `sort -o FILE`, `gcc -o FILE`, `wget -O FILE`.
    (
        &["-o", "out.json"],
        "DEST is missing: 'out.json' was read as the USER of --owner, and the file to write is named without an option",
    ),
    (
        &["-vo", "out.json"],
        "DEST is missing: 'out.json' was read as the USER of --owner, and the file to write is named without an option",
    ),
    (
        &["--output", "out.json", "in"],
        "unknown option '--output'; the file to write is named without an option",
    ),
    (
        &["-O", "out", "in"],
        "unknown option '-O'; the file to write is named without an option",
    ),
    (
        &["--validate", "out"],
        "DEST is missing: 'out' was read as the CMD of --validate, and the file to write is named without an option",
    ),
    (&[], "DEST is missing: which file shall be written?"),
    (&["-v"], "DEST is missing: which file shall be written?"),
    // A COMMAND without `--`, and `--` where cp and rm have it.
    (
        &["out", "cat", "in"],
        "too many operands: 'in' is one more than SOURCE and DEST; -t DIR writes many files, and a COMMAND needs '--' \
         before it",
    ),
    (
        &["out", "sort", "-r", "in"],
        "unknown option '-r'; did you mean '--' before a COMMAND?",
    ),
    (
        &["-m", "644", "out", "curl", "-fsS", "http://localhost"],
        "unknown option '-s' in '-fsS'; did you mean '--' before a COMMAND?",
    ),
    (
        &["out", "curl", "--silent", "http://localhost"],
        "unknown option '--silent'; did you mean '--quiet' or '--' before a COMMAND?",
    ),
    (
        &["in", "out", "--"],
        "'--' after SOURCE and DEST: put it before them to end the options, or leave SOURCE out to run a COMMAND",
    ),
    (
        &["in", "out", "--", "cat", "in"],
        "'--' after SOURCE and DEST: put it before them to end the options, or leave SOURCE out to run a COMMAND",
    ),
    (&["out", "--"], "COMMAND is missing after '--'"),
    // `cp a b dir/`
    (
        &["in", "in2", "dir/"],
        "too many operands: 'dir/' is one more than SOURCE and DEST; -t DIR writes many files, and a COMMAND needs '--' \
         before it",
    ),
    // `tee -`, `cmd | atomwrite -t DIR`, and an unset variable.
    (&["-"], "DEST cannot be '-': a file of that name is './-'"),
    (
        &["in", ""],
        "DEST is empty: a file in this directory is './NAME'",
    ),
    (&["", "out"], "SOURCE is empty: standard input is '-'"),
    (&["-t", "", "in"], "DIR is empty: this directory is '.'"),
    (&["in", "-t"], "--target-directory needs a value: DIR"),
    (
        &["-t", "dir"],
        "SOURCE is missing: -t writes files into 'dir' under their own names, and standard input has none",
    ),
    (
        &["-t", "dir", "--lock", "in"],
        "--lock does not go with --target-directory",
    ),
    (
        &["--files0-from=-", "out"],
        "--files0-from needs --target-directory",
    ),
    (
        &["-t", "dir", "--files0-from=-", "in"],
        "operand 'in' does not go with --files0-from",
    ),
];

/// A sandbox with what those names may stand for.
fn sandbox() -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.write("in", "new");
    sandbox.write("in2", "newer");
    sandbox.write("out", "old");
    sandbox.mkdir("dir");
    sandbox
}

#[test]
fn a_usage_error_says_which_word_and_what_would_be_right() {
    let sandbox = sandbox();
    for (arguments, problem) in USAGE {
        let input = Witness::new();
        let done = sandbox
            .atomwrite(arguments.to_vec())
            .stdin_from(input.input())
            .fails(2);
        let expected = format!("atomwrite: {problem} (see 'atomwrite --help')\n");
        assert_eq!(done.stderr, expected, "{arguments:?}");
        input.has_not_been_read();
    }
}

#[test]
fn an_unknown_option_behind_ten_thousand_files_is_found_at_once() {
    let sandbox = sandbox();
    // To read the words again for each of them would take longer than a run may.
    let files = std::iter::repeat_n("in", 10_000);
    let arguments = ["-t", "dir"].into_iter().chain(files).chain(["-Z.x"]);
    sandbox
        .atomwrite(arguments)
        .says("unknown option '-Z' in '-Z.x'; a file of that name is './-Z.x' (see")
        .fails(2);
}
