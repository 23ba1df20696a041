//! Help and version go to stdout, and do nothing else.

use std::fs;

use rustix::pipe::{PipeFlags, pipe_with};

use crate::cli::usage::OPTIONS;
use crate::harness::{Sandbox, Witness};

#[test]
fn help_goes_to_stdout_and_can_be_read() {
    let sandbox = Sandbox::new();
    let help = sandbox
        .atomwrite(["--help"])
        .stdout_says("Usage")
        .leaves([""; 0])
        .succeeds()
        .stdout;
    for option in OPTIONS {
        assert!(help.contains(option), "{option} is not in the help");
    }
    for word in [
        "SOURCE",
        "DEST",
        "ATOMWRITE_SYNC",
        "Examples",
        "none",
        "file",
        "full",
        "try",
        "all",
    ] {
        assert!(help.contains(word), "{word} is not in the help");
    }
    // Two usage lines, and examples that begin with a command.
    let usage = help
        .lines()
        .filter(|line| line.contains("atomwrite [OPTIONS]"));
    assert!(
        usage.count() >= 2 || help.contains("[SOURCE] DEST"),
        "{help}"
    );
    assert!(help.contains("| atomwrite "), "{help}");
    let widest = help
        .lines()
        .max_by_key(|line| line.chars().count())
        .unwrap();
    assert!(widest.chars().count() <= 100, "too wide: {widest}");
    assert!(!help.contains('\x1b'), "colours in a pipe: {help}");
    // Headings: the options are not one list.
    let headings = help
        .lines()
        .filter(|line| line.ends_with(':') && !line.starts_with(' '));
    assert!(headings.count() >= 4, "{help}");
}

#[test]
fn short_help_is_not_longer_than_the_long_help() {
    let sandbox = Sandbox::new();
    let short = sandbox
        .atomwrite(["-h"])
        .stdout_says("Usage")
        .leaves([""; 0])
        .succeeds()
        .stdout;
    let long = sandbox
        .atomwrite(["--help"])
        .stdout_says("Usage")
        .leaves([""; 0])
        .succeeds()
        .stdout;
    assert!(short.len() <= long.len());
}

#[test]
fn version_goes_to_stdout() {
    let sandbox = Sandbox::new();
    let mut expected = format!("atomwrite {}\n", env!("CARGO_PKG_VERSION"));
    if cfg!(atomwrite_posix) {
        expected += "Experimental here: it builds, and its logic is tested on Linux. It was never\n\
                     run on macOS or FreeBSD.\n";
    }
    for option in ["-V", "--version"] {
        let done = sandbox
            .atomwrite([option])
            .stdout_says("atomwrite")
            .leaves([""; 0])
            .succeeds();
        assert_eq!(done.stdout, expected);
    }
}

#[test]
fn help_and_version_read_and_write_nothing() {
    let sandbox = Sandbox::new();
    sandbox.write("out", "old");
    for option in ["--help", "--version", "-h", "-V"] {
        let input = Witness::new();
        let inode = sandbox.inode("out");
        sandbox
            .atomwrite([option, "out"])
            .stdin_from(input.input())
            .stdout_says("atomwrite")
            .succeeds();
        sandbox
            .atomwrite(["out", option])
            .stdin_from(input.input())
            .stdout_says("atomwrite")
            .leaves(["out"])
            .succeeds();
        input.has_not_been_read();
        assert_eq!(sandbox.inode("out"), inode);
    }
}

#[test]
fn help_without_a_stdout_does_not_panic() {
    let sandbox = Sandbox::new();
    for option in ["--help", "--version"] {
        let broken = pipe_with(PipeFlags::CLOEXEC).unwrap().1;
        let full = fs::OpenOptions::new()
            .write(true)
            .open("/dev/full")
            .unwrap();
        for run in [
            sandbox.atomwrite([option]).stdout_to(broken),
            sandbox.atomwrite([option]).stdout_to(full),
            sandbox.atomwrite([option]).closed(&[1]),
            sandbox.atomwrite([option]).closed(&[0, 1, 2]),
        ] {
            let done = run.output();
            assert!(matches!(done.code(), Some(0 | 1)), "{done:?}");
            assert!(!done.stderr.contains("panicked"), "{done:?}");
        }
    }
}
