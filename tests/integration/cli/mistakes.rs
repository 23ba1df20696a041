//! Mistakes of people who come from sponge, tee, install, cp, curl or a shell, and the messages
//! that they get.
//!
//! A usage error is status 2, touches nothing and reads nothing. It names what was meant if that
//! can be guessed.

use crate::harness::{Sandbox, Witness};

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
        "unknown option '-x' in '-x.json'; use './-x.json' for a file of that name",
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
        &["--lock=5s", "out"],
        "--lock cannot be '5s': it must be a number of seconds, such as 10 or 0.5",
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
        "--owner cannot be '': it must be a name or a number, USER, USER:GROUP or :GROUP",
    ),
    (
        &["-S", "a/b", "out"],
        "--suffix cannot be 'a/b': it has a slash, and a backup stays in DEST's directory",
    ),
    (
        &["-o", ":", "out"],
        "--owner cannot be ':': it must be a name or a number, USER, USER:GROUP or :GROUP",
    ),
    (
        &["-g", "", "out"],
        "--group cannot be '': it must be a name or a number",
    ),
    (
        &["-o", "root:root", "-g", "root", "out"],
        "the group is given twice, by --owner and by --group",
    ),
    (
        &["-g", "root", "-o", "root:", "out"],
        "the group is given twice, by --owner and by --group",
    ),
    (
        &["--min-size", "1X", "out"],
        "--min-size cannot be '1X': it must be a number of bytes, such as 512, 10K or 1GB",
    ),
    // A value may begin with a dash, but `--` is none.
    (
        &["--sync", "--fsync", "out"],
        "--sync cannot be '--fsync': it must be none, file or full",
    ),
    (
        &["--sha256", "-v", "out"],
        "--sha256 cannot be '-v': a SHA-256 digest is 64 hexadecimal digits, and not the name of a file",
    ),
    (
        &["-o", "-v"],
        "DEST is missing: '-v' was read as the USER[:GROUP] of --owner; name the file to write without an option",
    ),
    (&["-o", "--", "out"], "--owner needs a value: USER[:GROUP]"),
    (&["-S", "--", "out"], "--suffix needs a value: SUFFIX"),
    (&["-c", "--", "out"], "--command needs a value: STRING"),
    (
        &["--validate", "", "out"],
        "--validate cannot be '': it must be a command",
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
        "DEST is missing: 'out.json' was read as the USER[:GROUP] of --owner; name the file to write without an option",
    ),
    (
        &["-vo", "out.json"],
        "DEST is missing: 'out.json' was read as the USER[:GROUP] of --owner; name the file to write without an option",
    ),
    (
        &["--output", "out.json", "in"],
        "unknown option '--output'; name the file to write without an option",
    ),
    (
        &["-O", "out", "in"],
        "unknown option '-O'; name the file to write without an option",
    ),
    (
        &["--validate", "out"],
        "DEST is missing: 'out' was read as the CMD of --validate; name the file to write without an option",
    ),
    (&["-v"], "DEST is missing: name the file to write"),
    // A COMMAND without `--`, and `--` where cp and rm have it.
    (
        &["out", "cat", "in"],
        "too many operands: 'in' is one more than SOURCE and DEST; use -t DIR to write many files, or put '--' before a COMMAND",
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
        "unknown option '--silent'; did you mean '--' before a COMMAND?",
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
    // A pipeline is the input, so there is no other.
    (
        &["-c", "echo x"],
        "DEST is missing: 'echo x' was read as the STRING of --command; name the file to write without an option",
    ),
    (
        &["-c", "", "out"],
        "--command cannot be '': it must be a command",
    ),
    (
        &["-c", "touch ran", "in", "out"],
        "--command is the input, and DEST the only operand: 'out' is one more",
    ),
    (
        &["-c", "touch ran", "-", "out"],
        "--command is the input, and DEST the only operand: 'out' is one more",
    ),
    (
        &["-c", "touch ran", "out", "--", "touch", "ran"],
        "--command does not go with a COMMAND after '--'",
    ),
    (
        &["-c", "touch ran", "-t", "dir", "in"],
        "--command does not go with --target-directory",
    ),
    (
        &["-c", "touch ran", "-"],
        "DEST cannot be '-'; use './-' for a file of that name",
    ),
    // `cp a b dir/`
    (
        &["in", "in2", "dir/"],
        "too many operands: 'dir/' is one more than SOURCE and DEST; use -t DIR to write many files, or put '--' before a COMMAND",
    ),
    // `tee -`, `cmd | atomwrite -t DIR`, and an unset variable.
    (
        &["-"],
        "DEST cannot be '-'; use './-' for a file of that name",
    ),
    (
        &["in", ""],
        "DEST is empty: a file in this directory is './NAME'",
    ),
    (&["", "out"], "SOURCE is empty; use '-' for standard input"),
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
        &["--files-from=-", "out"],
        "--files-from needs --target-directory",
    ),
    (
        &["--validate-all", "true", "in", "out"],
        "--validate-all needs --target-directory",
    ),
    (
        &["-t", "dir", "--validate-all", "", "in"],
        "--validate-all cannot be '': it must be a command",
    ),
    (
        &["-t", "dir", "--files-from=-", "--files0-from=-"],
        "--files-from does not go with --files0-from",
    ),
    (
        &["-t", "dir", "--files-from=-", "in"],
        "operand 'in' does not go with --files-from",
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
    // Parsing all words again for each word would take too long.
    let files = std::iter::repeat_n("in", 10_000);
    let arguments = ["-t", "dir"].into_iter().chain(files).chain(["-Z.x"]);
    sandbox
        .atomwrite(arguments)
        .says("unknown option '-Z' in '-Z.x'; use './-Z.x' for a file of that name (see")
        .fails(2);
}

#[test]
fn for_a_directory_as_dest_the_message_names_the_option_for_many_files() {
    let sandbox = sandbox();
    let is = "it is a directory; name the file in it";
    let names = "it names a directory; name the file in it";
    for (arguments, problem) in [
        (&["dir"][..], format!("cannot replace 'dir': {is}")),
        (&["in", "dir"], format!("cannot replace 'dir': {is}")),
        (&["in", "dir/"], format!("cannot write 'dir/': {names}")),
        (&["in", "."], format!("cannot write '.': {names}")),
    ] {
        let done = sandbox.atomwrite(arguments.to_vec()).fails(1);
        let dest = arguments.last().unwrap();
        let expected = format!("atomwrite: {problem}; '{dest}' is unchanged\n");
        assert_eq!(done.stderr, expected);
    }
    // `cp -r`
    sandbox
        .atomwrite(["dir", "out"])
        .says("cannot read 'dir': it is a directory; name the file in it; ")
        .fails(1);
}

#[test]
fn for_a_file_as_dir_the_message_says_how_to_write_one_file() {
    let sandbox = sandbox();
    let done = sandbox
        .atomwrite(["-t", "out", "in"])
        .refuses_the_way()
        .fails(1);
    assert_eq!(
        done.stderr,
        "atomwrite: cannot open directory 'out': it is not a directory; omit -t to write one file\n"
    );
}

#[test]
fn for_a_user_that_looks_like_a_file_the_message_explains_the_option() {
    let sandbox = sandbox();
    for (user, way_out) in [
        (
            "out.json",
            "; name the file to write without an option (-o sets the owner)",
        ),
        ("nosuchuser:root", ""),
        ("nosuchuser:", ""),
        ("nosuchuser", ""),
    ] {
        let done = sandbox.atomwrite(["-o", user, "out"]).stdin("new").fails(1);
        assert_eq!(
            done.stderr,
            format!(
                "atomwrite: cannot find user '{}': no such user{way_out}; 'out' is unchanged\n",
                user.split(':').next().unwrap()
            )
        );
    }
    sandbox
        .atomwrite(["-g", "no.such", "out"])
        .stdin("new")
        .says("cannot find group 'no.such': no such group; 'out' is unchanged")
        .fails(1);
    sandbox
        .atomwrite(["-o", "4294967295", "out"])
        .stdin("new")
        .says("cannot use user '4294967295': the number is too large; ")
        .fails(1);
}

#[test]
fn for_a_shell_line_as_command_the_message_says_that_no_shell_runs_it() {
    let sandbox = sandbox();
    for line in ["sort in | uniq", "sort in", "LC_ALL=C"] {
        sandbox
            .atomwrite(["out", "--", line])
            .says(format!(
                "cannot run '{line}': command not found; use --command to run it in a shell; "
            ))
            .fails(127);
    }
    sandbox
        .atomwrite(["out", "--", "nosuchcommand"])
        .says("cannot run 'nosuchcommand': command not found; 'out' is unchanged")
        .fails(127);
}

#[test]
fn an_operand_without_a_file_name_gets_a_hint_to_name_the_file() {
    let sandbox = sandbox();
    for dest in ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"] {
        sandbox
            .atomwrite(["in", dest])
            .says("it leads through /proc to an open file, which has no name to replace; name the file itself; ")
            .fails(1);
    }
}

#[test]
fn a_temporary_directory_that_is_not_there_or_full_is_named() {
    let sandbox = sandbox();
    let nowhere = sandbox.path("nowhere");
    sandbox
        .atomwrite(["--inplace=always", "out"])
        .env("TMPDIR", &nowhere)
        .stdin("new")
        .says(format!(
            "cannot buffer the input in '{}' ($TMPDIR): no such file or directory; ",
            nowhere.display()
        ))
        .fails(1);
    // The input is too large, not DEST.
    sandbox
        .atomwrite(["--inplace=always", "out"])
        .env("TMPDIR", sandbox.path("dir"))
        .stdin(vec![b'x'; 4096])
        .file_size_limit(1000)
        .says(format!(
            "cannot buffer the input in '{}' ($TMPDIR): file too large; ",
            sandbox.path("dir").display()
        ))
        .fails(1);
}
