//! Empty input, and input that is too small: both may come from a command that failed.
//!
//! Empty standard input is refused (3), whether or not DEST exists and whatever it holds, unless `--allow-empty` or `-a`
//! is given; so is an empty FIFO as SOURCE, and an empty list of names. `--min-size` refuses smaller input. Both look at
//! the input alone.

use std::fs::OpenOptions;
use std::os::fd::OwnedFd;
use std::thread;

use crate::harness::terminal;
use crate::harness::{Sandbox, open};

#[test]
fn empty_standard_input_is_refused_whatever_dest_is() {
    let sandbox = Sandbox::with("old", "old");
    sandbox.write("empty", "");
    let why = "standard input is empty (did the command before the pipe fail?)";
    for (dest, verb) in [("old", "replace"), ("empty", "replace"), ("new", "create")] {
        sandbox.atomwrite([dest]).stdin("").fails_with(
            3,
            format!("cannot {verb} '{dest}': {why}; --allow-empty {verb}s it all the same"),
        );
    }
    for dest in ["old", "empty", "new"] {
        sandbox
            .atomwrite(["--allow-empty", dest])
            .stdin("")
            .succeeds();
        assert_eq!(sandbox.text(dest), "");
    }
}

#[test]
fn the_message_fits_what_standard_input_is() {
    let sandbox = Sandbox::with("nothing", "");
    sandbox.write("some", "some");
    let read = open(sandbox.path("some"));
    std::io::copy(&mut read.try_clone().unwrap(), &mut std::io::sink()).unwrap();
    let inputs: [(OwnedFd, &str); 3] = [
        (
            open("/dev/null").into(),
            "standard input is empty, as /dev/null is",
        ),
        (
            open(sandbox.path("nothing")).into(),
            "standard input is an empty file",
        ),
        (
            read.into(),
            "standard input is a file of which nothing is left to read",
        ),
    ];
    for (input, why) in inputs {
        sandbox
            .run("new")
            .stdin_from(input)
            .fails_with(3, format!("cannot create 'new': {why}; --allow-empty"));
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
        "atomwrite: cannot create 'new': nothing was typed; --allow-empty creates it all the same\n"
    );
}

#[test]
fn an_empty_fifo_as_source_is_refused_and_an_empty_file_is_not() {
    let sandbox = Sandbox::new();
    let fifo = sandbox.fifo("fifo");
    let closer = thread::spawn(move || {
        OpenOptions::new().write(true).open(fifo).unwrap();
    });
    sandbox.run("fifo new").fails_with(
        3,
        "cannot create 'new': SOURCE is empty (did the command that writes it fail?)",
    );
    closer.join().unwrap();
    sandbox.write("in", "");
    sandbox.run("in new").succeeds();
}

#[test]
fn empty_input_for_a_device_is_refused() {
    let sandbox = Sandbox::new();
    sandbox
        .run("--inplace /dev/null")
        .stdin("")
        .fails_with(3, "cannot replace '/dev/null': standard input is empty");
}

#[test]
fn an_empty_list_of_names_is_refused() {
    let sandbox = Sandbox::new();
    sandbox.mkdir("d");
    for (option, list) in [
        ("--files0-from=-", ""),
        ("--files0-from=-", "\0"),
        ("--files-from=-", ""),
        ("--files-from=-", "\n\n"),
    ] {
        let run = || {
            sandbox
                .atomwrite(["-t", "d", option])
                .leaves(["d"])
                .stdin(list)
        };
        run()
            .fails_with(3,
                "cannot write files: the list of their names is empty (did the command that makes it fail?); \
                 --allow-empty accepts it");
        sandbox
            .atomwrite(["-t", "d", option, "--allow-empty"])
            .leaves(["d"])
            .stdin(list)
            .succeeds();
    }
}

#[test]
fn input_that_is_too_small_is_refused() {
    let sandbox = Sandbox::with("in", "12345");
    sandbox.write("out", "old");
    let why = "the input is truncated: 5 bytes, and --min-size is 6; 'out' is unchanged";
    sandbox.run("--min-size 6 in out").fails_with(3, why);
    sandbox
        .run("--min-size=6 out")
        .stdin("12345")
        .fails_with(3, why);
    sandbox
        .run("--min-size=6 out -- cat in")
        .fails_with(125, why);
    // What is appended to does not count.
    sandbox.run("-a --min-size=6 in out").fails_with(3, why);
    sandbox.write("empty", "");
    sandbox
        .run("--min-size=1 empty out")
        .fails_with(3, "0 bytes, and --min-size is 1");
    for size in ["0", "4", "5"] {
        sandbox
            .atomwrite(["--min-size", size, "in", "out"])
            .succeeds();
    }
    sandbox.mkdir("d");
    sandbox
        .run("-t d --min-size=4 in empty out")
        .says("cannot write 'd/empty': the input is truncated: 0 bytes, and --min-size is 4")
        .refuses_the_way()
        .leaves(["d", "empty", "in", "out"])
        .fails(3);
}

#[test]
fn a_size_has_the_units_of_dd() {
    let sandbox = Sandbox::new();
    for (size, bytes) in [
        ("1K", 1024),
        ("1k", 1024),
        ("1KiB", 1024),
        ("1kb", 1000),
        ("2MB", 2_000_000),
        ("1m", 1_048_576),
    ] {
        let run = |bytes| {
            sandbox
                .atomwrite(["--min-size", size, "out"])
                .stdin(vec![b'x'; bytes])
        };
        run(bytes).succeeds();
        run(bytes - 1).fails_with(3, format!("--min-size is {bytes}"));
    }
    for size in [
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
    ] {
        sandbox
            .atomwrite(["--min-size", size, "out"])
            .stdin("x")
            .fails_with(2, "it must be a number of bytes, such as 512, 10K or 1GB");
    }
}
