//! Each hint about names, content and the command line is true: the tests follow it, and it works.
//! See `hints`.

use crate::cli::hints::{As, Case, NEW};
use crate::harness::{Sandbox, needs_tool};

// ---- Names ----

const NAMES: &[Case] = &[
    // A directory where a file was meant, and the reverse.
    Case {
        set_up: "mkdir d",
        words: &["d"],
        says: "cannot replace 'd': it is a directory; name the file in it; 'd' is unchanged",
        works: &[&["d/f"]],
        ..NEW
    },
    Case {
        set_up: "mkdir d",
        words: &["in", "d/"],
        says: "cannot write 'd/': it names a directory; name the file in it; 'd/' is unchanged",
        works: &[&["in", "d/f"]],
        ..NEW
    },
    Case {
        set_up: "mkdir d",
        words: &["d", "f"],
        says: "cannot read 'd': it is a directory; name the file in it; 'f' is unchanged",
        fails: &[&["d/f", "f"]],
        ..NEW
    },
    Case {
        set_up: "mkdir -p d/in",
        words: &["-t", "d", "in"],
        says: "cannot replace 'd/in': it is a directory; 'd' is unchanged",
        ..NEW
    },
    Case {
        words: &["in", "f/"],
        says: "cannot write 'f/': it is not a directory; name it without the slash",
        works: &[&["in", "f"]],
        ..NEW
    },
    Case {
        words: &["in", "f/g"],
        says: "cannot open the directory of 'f/g': not a directory",
        fails: &[&["-D", "in", "f/g"]],
        ..NEW
    },
    Case {
        words: &["-t", "f", "in"],
        says: "cannot open directory 'f': it is not a directory; omit -t to write one file",
        works: &[&["in", "f"]],
        ..NEW
    },
    Case {
        words: &["-t", "f/d", "in"],
        says: "cannot open directory 'f/d': not a directory",
        fails: &[&["in", "f/d"]],
        ..NEW
    },
    // What is missing.
    Case {
        words: &["nowhere/f"],
        says: "cannot write 'nowhere/f': its directory does not exist; use --create-dirs to create it",
        works: &[&["--create-dirs", "nowhere/f"]],
        ..NEW
    },
    Case {
        words: &["in", "nowhere/"],
        says: "cannot write 'nowhere/': it names a directory; name the file in it",
        works: &[&["-D", "in", "nowhere/in"]],
        ..NEW
    },
    Case {
        words: &["-t", "nowhere", "in"],
        says: "cannot open directory 'nowhere': it does not exist; use --create-dirs to create it",
        works: &[&["-D", "-t", "nowhere", "in"]],
        ..NEW
    },
    Case {
        set_up: "ln -s nowhere/g link",
        words: &["link"],
        says: "cannot write 'link': it leads into 'nowhere', which does not exist; use --create-dirs to create it; 'link' is \
               unchanged",
        works: &[&["-D", "link"]],
        ..NEW
    },
    Case {
        set_up: "mkdir d; ln -s ../nowhere/g d/link",
        words: &["d/link"],
        says: "cannot write 'd/link': it leads into 'd/../nowhere', which does not exist; use --create-dirs to create it; \
               'd/link' is unchanged",
        works: &[&["-D", "d/link"]],
        ..NEW
    },
    Case {
        set_up: "ln -s nowhere link",
        words: &["link/g"],
        says: "cannot write 'link/g': its directory does not exist",
        fails: &[&["-D", "link/g"]],
        ..NEW
    },
    Case {
        words: &["nowhere/../g"],
        says: "cannot write 'nowhere/../g': its directory does not exist",
        fails: &[&["-D", "nowhere/../g"]],
        ..NEW
    },
    // DEST is not a file.
    Case {
        words: &["/dev/null"],
        says: "cannot replace '/dev/null': it is a device; use --inplace to write to it; '/dev/null' is unchanged",
        works: &[&["-q", "--inplace", "/dev/null"]],
        ..NEW
    },
    Case {
        set_up: "mkdir d; mkfifo d/in",
        words: &["-t", "d", "in"],
        says: "cannot replace 'd/in': it is a FIFO; 'd' is unchanged",
        fails: &[&["-t", "d", "--inplace", "in"]],
        ..NEW
    },
    // Backups.
    Case {
        set_up: "mkdir f~",
        words: &["-b", "f"],
        says: "cannot back up 'f': its name 'f~' belongs to a directory; use another --suffix; 'f' is unchanged",
        works: &[&["--suffix=.bak", "f"]],
        ..NEW
    },
];

#[test]
fn hints_about_names_work() {
    for case in NAMES {
        case.holds(As::User);
    }
}

#[test]
fn a_suffix_is_suggested_only_if_a_shorter_one_fits() {
    let name = |length: usize| "x".repeat(length);
    for (length, options, hint) in [
        (253, &["-S", ".orig"][..], "; use a shorter --suffix"),
        (255, &["-S", ".orig"], ""),
        (255, &["-b"], ""),
        (253, &["--backup=numbered", "-S", ".orig"], ""),
    ] {
        let name = name(length);
        let sandbox = Sandbox::new();
        sandbox.write(&name, "old");
        let run = |options: &[&str]| {
            let words = options.iter().copied().chain([name.as_str()]);
            sandbox.atomwrite(words).stdin("new").output()
        };
        let done = run(options);
        assert_eq!(done.code(), Some(1));
        let said = format!("would be too long{hint}; 'x");
        assert!(done.stderr.contains(&said), "{done:?}");
        let without = [options, &["-S", "~"]].concat();
        assert_eq!(run(&without).code() == Some(0), !hint.is_empty());
    }
}

#[test]
fn no_hint_is_given_in_a_deleted_directory() {
    let sandbox = Sandbox::new();
    for words in [
        &["f"][..],
        &["nowhere/f"],
        &["-D", "nowhere/f"],
        &["-t", "nowhere", "/dev/null"],
    ] {
        sandbox.mkdir("gone");
        let gone = ["sh", "-c", "cd gone && rmdir ../gone && exec \"$@\"", "sh"];
        let done = sandbox
            .atomwrite(words.to_vec())
            .through(gone)
            .stdin("new")
            .output();
        assert_eq!(done.code(), Some(1), "{words:?}");
        let end = ": the current directory has been deleted\n";
        assert!(done.stderr.ends_with(end), "{words:?}: {done:?}");
    }
}

// ---- Content ----

const CONTENT: &[Case] = &[
    Case {
        words: &["f"],
        stdin: "",
        says: "cannot replace 'f': standard input is empty (did the command before the pipe fail?); use --allow-empty to replace it; 'f' is unchanged",
        works: &[&["--allow-empty", "f"]],
        ..NEW
    },
    Case {
        words: &["--min-size=1", "f"],
        stdin: "",
        says: "cannot replace 'f': standard input is empty (did the command before the pipe fail?); 'f' is unchanged",
        fails: &[&["--min-size=1", "--allow-empty", "f"]],
        ..NEW
    },
    Case {
        words: &[
            "--sha256=5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03",
            "f",
        ],
        stdin: "",
        says: "cannot replace 'f': standard input is empty (did the command before the pipe fail?); 'f' is unchanged",
        fails: &[&[
            "--sha256=5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03",
            "--allow-empty",
            "f",
        ]],
        ..NEW
    },
    Case {
        words: &["-t", ".", "--files-from=/dev/null"],
        says: "cannot write files: the list of their names is empty (did the command that makes it fail?); use --allow-empty to accept it",
        works: &[&["-t", ".", "--files-from=/dev/null", "--allow-empty"]],
        ..NEW
    },
    Case {
        set_up: "mkdir d; printf 'in\\0in2\\0' >list",
        words: &["-t", "d", "--files-from=list"],
        says: "cannot open 'in'$'\\x00''in2'$'\\x00': invalid argument; use --files0-from for names that end with NUL",
        works: &[&["-t", "d", "--files0-from=list"]],
        ..NEW
    },
    Case {
        set_up: "mkdir d; printf 'in\\nin2\\n' >list",
        words: &["-t", "d", "--files0-from=list"],
        says: "cannot open 'in'$'\\n''in2'$'\\n': no such file or directory; use --files-from for one name per line",
        works: &[&["-t", "d", "--files-from=list"]],
        ..NEW
    },
    Case {
        words: &["--validate", "exit 127", "f"],
        says: "cannot validate 'f': the validator could not be run (status 127); 'f' is unchanged",
        ..NEW
    },
    // COMMAND.
    Case {
        words: &["f", "--", "sort in"],
        says: "cannot run 'sort in': command not found; use --command to run it in a shell; 'f' is unchanged",
        works: &[&["--command", "sort in", "f"]],
        ..NEW
    },
    Case {
        words: &["f", "--", "LC_ALL=C", "sort", "in"],
        says: "cannot run 'LC_ALL=C': command not found; use --command to run it in a shell; 'f' is unchanged",
        works: &[&["--command", "LC_ALL=C sort in", "f"]],
        ..NEW
    },
    Case {
        words: &["f", "--", "no-such program"],
        says: "cannot run 'no-such program': command not found; 'f' is unchanged",
        fails: &[&["--command", "no-such program", "f"]],
        ..NEW
    },
    // A number that was meant for --lock.
    Case {
        words: &["--lock", "5", "f"],
        says: "cannot open '5': no such file or directory; use --lock=5 to wait at most 5 seconds; 'f' is unchanged",
        works: &[&["-q", "--lock=5", "f"]],
        ..NEW
    },
    Case {
        words: &["--lock", "inf", "f"],
        says: "cannot open 'inf': no such file or directory; 'f' is unchanged",
        fails: &[&["--lock=inf", "f"]],
        ..NEW
    },
    // A user that is a file.
    Case {
        words: &["-o", "no.user", "f"],
        says: "cannot find user 'no.user': no such user; name the file to write without an option (-o sets the owner); 'f' is unchanged",
        works: &[&["no.user"]],
        ..NEW
    },
    Case {
        words: &["-o", "nosuchuser", "f"],
        says: "cannot find user 'nosuchuser': no such user; 'f' is unchanged",
        ..NEW
    },
];

#[test]
fn hints_about_content_work() {
    needs_tool!("bash");
    for case in CONTENT {
        case.holds(As::Tester);
    }
}

// ---- The command line ----

/// The command line, the message, and a command line that follows the hint.
const USAGE: &[(&[&str], &str, &[&str])] = &[
    (
        &["in", "-x.json"],
        "unknown option '-x' in '-x.json'; use './-x.json' for a file of that name",
        &["in", "./-x.json"],
    ),
    (
        &["in", "-"],
        "DEST cannot be '-'; use './-' for a file of that name",
        &["in", "./-"],
    ),
    (
        &["", "f"],
        "SOURCE is empty; use '-' for standard input",
        &["-", "f"],
    ),
    (
        &["-t", "", "d/in"],
        "DIR is empty: this directory is '.'",
        &["-t", ".", "d/in"],
    ),
    (
        &["-b.bak", "in", "f"],
        "-b takes no value, and got '.bak'; use -S .bak to set the suffix of a backup",
        &["-S", ".bak", "in", "f"],
    ),
    (
        &["--backup", "numbered", "in", "f"],
        "--backup takes its value after an equals sign: --backup=numbered",
        &["--backup=numbered", "in", "f"],
    ),
    (
        &["f", "cat", "in"],
        "too many operands: 'in' is one more than SOURCE and DEST; use -t DIR to write many files, or put '--' before a COMMAND",
        &["f", "--", "cat", "in"],
    ),
    (
        &["in", "in2", "d"],
        "too many operands: 'd' is one more than SOURCE and DEST; use -t DIR to write many files, or put '--' before a COMMAND",
        &["-t", "d", "in", "in2"],
    ),
    (
        &["f", "sort", "-r", "in"],
        "unknown option '-r'; did you mean '--' before a COMMAND?",
        &["f", "--", "sort", "-r", "in"],
    ),
    (
        &["in", "a/b", "--mkdir"],
        "unknown option '--mkdir'; use -D to create missing directories",
        &["in", "a/b", "-D"],
    ),
    (
        &["in", "f", "--chmod=600"],
        "unknown option '--chmod'; use -m to set the mode",
        &["in", "f", "-m", "600"],
    ),
    (
        &["--verify=true", "f"],
        "unknown option '--verify'; use --validate to check the content with a program",
        &["--validate=true", "f"],
    ),
    (
        &["-p", "a/b"],
        "--preserve-timestamps gives SOURCE's times to DEST: standard input has no times to preserve; use -D to create missing directories",
        &["-D", "a/b"],
    ),
];

#[test]
fn hints_about_the_command_line_work() {
    for (words, problem, meant) in USAGE {
        let sandbox = Sandbox::new();
        for (name, content) in [("in", "new"), ("in2", "newer"), ("f", "old")] {
            sandbox.write(name, content);
        }
        sandbox.mkdir("d");
        sandbox.write("d/in", "new");
        let run = |words: &[&str]| sandbox.atomwrite(words.to_vec()).stdin("new").output();
        let done = run(words);
        let line = format!("atomwrite: {problem} (see 'atomwrite --help')\n");
        assert_eq!((done.code(), done.stderr), (Some(2), line), "{words:?}");
        let done = run(meant);
        assert_eq!(
            (done.code(), done.stderr.as_str()),
            (Some(0), ""),
            "{meant:?}"
        );
    }
}
