//! The form of messages.
//!
//! `atomwrite: cannot <verb> <what> '<path>': <reason>`, one line on stderr, lower case, no full
//! stop, no "os error N". The path is shown as it was typed, with control characters escaped. If
//! DEST existed, a failure ends by saying that it is unchanged. A refusal names the option that
//! helps. Nothing is written to stdout. (The harness checks this form for every message of every
//! test, and that stdout is empty.)

use std::ffi::OsString;
use std::fs;
use std::os::fd::OwnedFd;

use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::Signal;

use crate::harness::{Call, NOBODY, Sandbox, Strace, each, needs_root, needs_tool, os, wait_until};

#[test]
fn a_failure_message_has_its_documented_form() {
    let sandbox = Sandbox::with("out", "old");
    let done = sandbox.run("missing out").fails(1);
    let begin = "atomwrite: cannot ";
    let end = " 'missing': no such file or directory; 'out' is unchanged\n";
    assert!(
        done.stderr.starts_with(begin) && done.stderr.ends_with(end),
        "{done:?}"
    );

    let done = sandbox
        .run("out")
        .stdin(vec![b'x'; 4096])
        .file_size_limit(1000)
        .fails(1);
    assert_eq!(
        done.stderr,
        "atomwrite: cannot write 'out': file too large; 'out' is unchanged\n"
    );
}

#[test]
fn a_failure_says_that_dest_is_unchanged_only_if_it_exists() {
    let sandbox = Sandbox::new();
    sandbox.symlink("nowhere", "dangling");
    for dest in ["new", "dangling"] {
        let done = sandbox.atomwrite(["missing", dest]).fails(1);
        assert!(!done.stderr.contains("unchanged"), "{done:?}");
    }
    // Not after a usage error: the run has not begun.
    sandbox.write("out", "old");
    let done = sandbox.run("--bogus out").fails(2);
    assert!(!done.stderr.contains("unchanged"), "{done:?}");
}

#[test]
fn a_path_is_shown_as_it_was_typed() {
    let sandbox = Sandbox::new();
    sandbox.mkdir("d");
    sandbox.write("d/target", "old");
    sandbox.symlink("d/target", "link");
    sandbox
        .run("./d/../missing ./link")
        .says("'./d/../missing'")
        .fails_with(1, "; './link' is unchanged");
    let absolute = sandbox.path("missing");
    let run = sandbox.atomwrite([&absolute, &sandbox.path("x")]);
    run.says(format!("'{}'", absolute.display())).fails(1);
    sandbox
        .run("'ein Fräulein' out")
        .fails_with(1, "'ein Fräulein'");
}

#[test]
fn control_characters_in_a_path_are_escaped() {
    let sandbox = Sandbox::new();
    for name in [
        &b"two\nlines"[..],
        b"\x1b[31mred",
        b"bell\x07",
        b"tab\t",
        b"del\x7f",
        "c1\u{9b}31m".as_bytes(),
    ] {
        // The harness looks for control characters and for a second line.
        let name = os(name);
        let (out, mode, verbose) = (os(b"out"), os(b"-m"), os(b"-v"));
        let run = |words: &[&OsString]| sandbox.atomwrite(words.iter().copied()).stdin("new");
        run(&[&name, &out]).fails_with(1, "no such file");
        sandbox.mkdir(&name);
        run(&[&name]).fails_with(1, "directory");
        run(&[&mode, &name, &out]).fails(2);
        run(&[&name, &name, &name]).fails(2);
        fs::remove_dir(sandbox.path(&name)).unwrap();
        let done = run(&[&verbose, &name]).says("created").succeeds();
        assert!(
            !done.stderr.trim_end().contains(char::is_control),
            "{done:?}"
        );
        fs::remove_file(sandbox.path(&name)).unwrap();
    }
    sandbox
        .atomwrite(["two\nlines", "out"])
        .fails_with(1, r"'two'$'\n''lines'");
}

#[test]
fn paths_that_are_not_utf8_are_shown() {
    let sandbox = Sandbox::new();
    let done = sandbox
        .atomwrite([os(b"caf\xe9"), os(b"out")])
        .fails_with(1, "'caf");
    assert!(
        !done.stderr.contains('\u{fffd}') || done.stderr.contains("caf\u{fffd}"),
        "{done:?}"
    );
    for name in [&b"\xff"[..], b"\xc3\x28", b"\xed\xa0\x80"] {
        sandbox.atomwrite([os(name), os(b"out")]).fails(1);
    }
}

#[test]
fn a_stderr_that_cannot_be_written_changes_nothing() {
    let sandbox = Sandbox::with("out", "old");
    let full = || {
        fs::OpenOptions::new()
            .write(true)
            .open("/dev/full")
            .unwrap()
    };
    // The reading end is closed: EPIPE, and SIGPIPE in a program that does not ignore it.
    let broken = || pipe_with(PipeFlags::CLOEXEC).unwrap().1;
    for round in 0..2 {
        let content = format!("new {round}");
        let run = sandbox.run("-v out").stdin(content.clone());
        match round {
            0 => run.stderr_to(full()).succeeds(),
            _ => run.stderr_to(broken()).succeeds(),
        };
        assert_eq!(sandbox.text("out"), content);
        for (arguments, status) in [("missing out", 1), ("--bogus", 2), ("out", 3)] {
            let run = sandbox.run(arguments);
            match round {
                0 => run.stderr_to(full()).fails(status),
                _ => run.stderr_to(broken()).fails(status),
            };
        }
    }
}

#[test]
fn a_message_is_one_write() {
    // So that the lines of many writers do not mix in one log.
    needs_tool!("strace");
    let sandbox = Sandbox::with("out", "old");
    let cases = [
        ("missing out", 1, "'missing'"),
        ("-v out copy", 0, "created"),
        ("--bogus out", 2, "--bogus"),
    ];
    each(cases, |(line, status, part)| {
        let strace = Strace::new();
        sandbox.run(line).under(&strace).says(part).ends(status);
        let writes = |call: &Call| call.name.starts_with("write") && call.args.starts_with("2<");
        let trace = strace.trace();
        assert_eq!(trace.count(writes), 1, "{trace}");
    });
}

#[test]
fn a_newline_in_a_mistyped_option_stays_in_one_line() {
    let sandbox = Sandbox::new();
    for arguments in [
        &["--bo\ngus", "out"][..],
        &["-m", "a\nb", "out"],
        &["--sync=a\n  [possible values", "out"],
        &["-\n", "out"],
    ] {
        let done = sandbox.atomwrite(arguments.to_vec()).stdin("new").fails(2);
        assert!(done.stderr.contains("\\n"), "{done:?}");
    }
}

/// A pipe that is full, and its reading end.
fn full_pipe() -> (OwnedFd, OwnedFd) {
    let (reader, writer) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).unwrap();
    while rustix::io::write(&writer, &[b'x'; 4096]).is_ok() {}
    while rustix::io::write(&writer, b"x").is_ok() {}
    let flags = rustix::fs::fcntl_getfl(&writer).unwrap();
    rustix::fs::fcntl_setfl(&writer, flags - rustix::fs::OFlags::NONBLOCK).unwrap();
    (reader, writer)
}

#[test]
fn signals_end_a_run_whose_messages_are_not_read() {
    for (arguments, content) in [("-v out", "new"), ("missing out", "old")] {
        for signal in [Signal::TERM, Signal::INT, Signal::HUP] {
            let sandbox = Sandbox::with("out", "old");
            let (_reader, writer) = full_pipe();
            let run = sandbox
                .run(arguments)
                .stdin("new")
                .stderr_to(writer)
                .start();
            wait_until("it has something to say", || waits_to_write(run.id()));
            run.signal(signal);
            let done = run.wait();
            let died_by = Some(signal.as_raw());
            assert_eq!(done.signal(), died_by, "{arguments:?} {done:?}");
            assert_eq!(sandbox.text("out"), content);
            assert_eq!(sandbox.names(), ["out"]);
        }
    }
}

#[test]
fn signals_end_a_run_whose_warning_is_not_read() {
    needs_root!();
    for arguments in ["s/out out", "-t . s/out"] {
        let sandbox = Sandbox::new();
        sandbox.mkdir("s");
        sandbox.write("s/out", "new");
        // The user nobody may replace it, and cannot keep its owner.
        sandbox.write_with_mode("out", "old", 0o666);
        sandbox.give_to(NOBODY, NOBODY);
        let names = sandbox.names();
        let (_reader, writer) = full_pipe();
        let run = sandbox.run(arguments).by_nobody().stderr_to(writer).start();
        wait_until("it has something to say", || waits_to_write(run.id()));
        run.signal(Signal::TERM);
        let done = run.wait();
        assert_eq!(
            done.signal(),
            Some(Signal::TERM.as_raw()),
            "{arguments:?} {done:?}"
        );
        assert_eq!(sandbox.text("out"), "new");
        assert_eq!(sandbox.names(), names);
    }
}

/// Returns whether a process waits until it can write to stderr: in the write, or in a ppoll of one
/// descriptor without a timeout.
fn waits_to_write(id: u32) -> bool {
    let call = fs::read_to_string(format!("/proc/{id}/syscall")).unwrap();
    let words: Vec<&str> = call.split_whitespace().collect();
    let number = words.first().and_then(|word| word.parse().ok());
    match (number, &words[1..]) {
        (Some(libc::SYS_write), ["0x2", ..]) => true,
        (Some(libc::SYS_ppoll), [_, count, timeout, ..]) => *count == "0x1" && *timeout == "0x0",
        // Over the POSIX backend. The first is the highest descriptor and one.
        (Some(libc::SYS_pselect6), [count, _, _, _, timeout, ..]) => {
            *count == "0x3" && *timeout == "0x0"
        }
        _ => false,
    }
}
