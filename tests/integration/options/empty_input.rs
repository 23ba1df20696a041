//! Empty input, and input that is too small: both may come from a command that failed.
//!
//! Empty standard input is refused (3), whether or not DEST exists and whatever it holds, unless
//! `--allow-empty` or `-a` is given. An empty FIFO as SOURCE and an empty list of names are refused
//! too. `--min-size` refuses smaller input. Both check the input alone.

use std::fs::OpenOptions;
use std::thread;

use crate::harness::{Sandbox, each, needs_tool, open, terminal};

#[test]
fn empty_standard_input_is_refused_whatever_dest_is() {
    let sandbox = Sandbox::with("old", "old");
    sandbox.sh("touch empty; ln -s old link");
    let why = "standard input is empty (did the command before the pipe fail?)";
    for (dest, verb) in [("old", "replace"), ("empty", "replace"), ("new", "create")] {
        let message = format!("cannot {verb} '{dest}': {why}; use --allow-empty to {verb} it");
        sandbox.run(dest).stdin("").fails_with(3, message);
    }
    sandbox.fail_each(&[
        ("- old", "", 3, "empty"),
        ("-f old", "", 3, "empty"),
        ("link", "", 3, "empty"),
        // Standard input by another name.
        ("/dev/stdin old", "", 3, "empty"),
        ("/dev/fd/0 old", "", 3, "empty"),
        ("/proc/self/fd/0 old", "", 3, "empty"),
        // From any input, and over any DEST.
        ("--no-empty old", "", 3, "empty"),
        ("--no-empty empty", "", 3, "empty"),
        ("--no-empty new", "", 3, "empty"),
        ("--no-empty empty old", "", 3, "empty"),
        ("--no-empty empty empty", "", 3, "empty"),
        ("--no-empty empty new", "", 3, "empty"),
        (
            "--inplace /dev/null",
            "",
            3,
            "cannot replace '/dev/null': standard input is empty",
        ),
    ]);
    for name in ["/dev/stdin", "/dev/fd/0", "/proc/self/fd/0"] {
        let run = || sandbox.atomwrite([name, "old"]);
        run().stdin_from(open("/dev/null")).fails_with(3, "empty");
        run().closed(&[0]).fails_with(1, "standard input");
    }
}

#[test]
fn empty_content_is_written_if_it_is_allowed_or_comes_from_a_named_file() {
    let cases = [
        ("--allow-empty old", ""),
        ("--allow-empty empty", ""),
        ("--allow-empty new", ""),
        ("--allow-empty /dev/stdin old", ""),
        // The guard is against a producer that failed.
        ("empty old", ""),
        ("--no-empty old", "x"),
        ("--no-empty full old", "x"),
    ];
    each(cases, |(line, content)| {
        let sandbox = Sandbox::with("old", "old");
        sandbox.sh("touch empty; printf x >full");
        sandbox.run(line).stdin(content).writes(content);
    });
}

#[test]
fn a_process_substitution_as_source_is_guarded_like_stdin() {
    needs_tool!("bash");
    let sandbox = Sandbox::with("out", "old");
    let with_source = |command: &str| {
        let script = format!(r#"exec "$0" <({command}) "$@""#);
        let bash = ["bash", "-c", &script].map(str::to_owned);
        sandbox.run("out").through(bash)
    };
    let run = with_source("false").says("empty");
    run.fails_with(3, "--allow-empty");
    with_source("echo new").writes("new\n");
}

#[test]
fn the_message_fits_what_standard_input_is() {
    let sandbox = Sandbox::with("nothing", "");
    sandbox.write("some", "some");
    let read = open(sandbox.path("some"));
    std::io::copy(&mut read.try_clone().unwrap(), &mut std::io::sink()).unwrap();
    let (null, nothing) = (open("/dev/null"), open(sandbox.path("nothing")));
    for (input, why) in [
        (null, "standard input is empty, as /dev/null is"),
        (nothing, "standard input is an empty file"),
        (read, "standard input is already at end of file"),
    ] {
        let why = format!("cannot create 'new': {why}; use --allow-empty");
        sandbox.run("new").stdin_from(input).fails_with(3, why);
    }
}

#[test]
fn a_terminal_on_which_nothing_was_typed_is_named() {
    let sandbox = Sandbox::new();
    let (keyboard, stdin) = terminal();
    // Ctrl-D.
    rustix::io::write(&keyboard, b"\x04").unwrap();
    let done = sandbox.run("-q new").stdin_from(stdin).fails(3);
    assert_eq!(
        done.stderr,
        "atomwrite: cannot create 'new': nothing was typed; use --allow-empty to create it\n"
    );
}

#[test]
fn an_empty_fifo_as_source_is_refused() {
    let sandbox = Sandbox::new();
    let fifo = sandbox.fifo("fifo");
    let closer = thread::spawn(move || {
        OpenOptions::new().write(true).open(fifo).unwrap();
    });
    let why = "cannot create 'new': SOURCE is empty (did the command that writes it fail?)";
    sandbox.run("fifo new").fails_with(3, why);
    closer.join().unwrap();
}

#[test]
fn an_empty_list_of_names_is_refused() {
    let sandbox = Sandbox::new();
    sandbox.mkdir("d");
    let why = "cannot write files: the list of their names is empty (did the command that makes it fail?); use --allow-empty to accept it";
    let cases = [
        ("-t d --files0-from=-", ""),
        ("-t d --files0-from=-", "\0"),
        ("-t d --files-from=-", ""),
        ("-t d --files-from=-", "\n\n"),
    ];
    each(cases, |(line, list)| {
        let run = |line| sandbox.run(line).leaves(["d"]).stdin(list);
        run(line).fails_with(3, why);
        run(&format!("{line} --allow-empty")).succeeds();
    });
}

#[test]
fn input_that_is_too_small_is_refused() {
    let sandbox = Sandbox::with("in", "12345");
    sandbox.sh("printf old >out; touch empty; mkdir d");
    let why = "the input is truncated: 5 bytes, and --min-size is 6; 'out' is unchanged";
    sandbox.fail_each(&[
        ("--min-size 6 in out", "", 3, why),
        ("--min-size=6 out", "12345", 3, why),
        ("--min-size=6 out -- cat in", "", 125, why),
        // The old content does not count.
        ("-a --min-size=6 in out", "", 3, why),
        (
            "--min-size=1 empty out",
            "",
            3,
            "0 bytes, and --min-size is 1",
        ),
    ]);
    for line in [
        "--min-size 0 in out",
        "--min-size 4 in out",
        "--min-size 5 in out",
    ] {
        sandbox.run(line).succeeds();
    }
    let run = sandbox.run("-t d --min-size=4 in empty out");
    let run = run.refuses_the_way().leaves(["d", "empty", "in", "out"]);
    run.fails_with(
        3,
        "cannot write 'd/empty': the input is truncated: 0 bytes, and --min-size is 4",
    );
}

#[test]
fn a_size_has_the_units_of_dd() {
    const WRONG: [&str; 10] = [
        "",
        "K",
        "-1",
        "1.5K",
        "1B",
        "1KK",
        "1 K",
        "0x10",
        "1P",
        "99999999999T",
    ];
    let sandbox = Sandbox::new();
    for (size, bytes) in [
        ("1K", 1024),
        ("1k", 1024),
        ("1KiB", 1024),
        ("1kb", 1000),
        ("2MB", 2_000_000),
        ("1m", 1_048_576),
    ] {
        let line = format!("--min-size {size} out");
        let run = |bytes| sandbox.run(&line).stdin(vec![b'x'; bytes]);
        run(bytes).succeeds();
        run(bytes - 1).fails_with(3, format!("--min-size is {bytes}"));
    }
    each(WRONG, |size| {
        let why = "it must be a number of bytes, such as 512, 10K or 1GB";
        let run = sandbox.atomwrite(["--min-size", size, "out"]);
        run.reads_nothing().fails_with(2, why);
    });
}
