//! `--sha256 HEX`: content with another digest is refused, and a malformed one before any input is read.

use std::fs::OpenOptions;

use crate::harness::{Run, Sandbox, needs_tool};
use crate::options::validate::{WAYS, sum};

#[test]
fn content_with_the_digest_is_written() {
    needs_tool!("sha256sum", "strace");
    let large = vec![b'x'; 3_000_001];
    for named in WAYS {
        for content in [&b"new"[..], b"", &large] {
            let sandbox = Sandbox::new();
            let take = |words: &[&str]| {
                let run = sandbox.atomwrite(words.to_vec());
                if named { run.without_linkat() } else { run }
            };
            let sum = sum(content);
            sandbox.write("in", content);
            take(&["--allow-empty", "--sha256", &sum, "a"])
                .stdin(content)
                .succeeds();
            take(&["--sha256", &sum, "in", "b"]).succeeds();
            take(&["--sha256", &sum.to_uppercase(), "in", "c"]).succeeds();
            take(&["--sha256", &sum, "d", "--", "cat", "in"]).succeeds();
            take(&["--sha256", &sum, "-C", "in", "d"]).leaves_alone(0);
            for name in ["a", "b", "c", "d"] {
                assert!(sandbox.read(name) == content, "{name}");
            }
        }
    }
}

#[test]
fn content_with_another_digest_is_refused() {
    needs_tool!("sha256sum");
    let sandbox = Sandbox::with("in", "new");
    sandbox.write("out", "old");
    let wrong = sum(b"other");
    for dest in ["out", "new"] {
        let refused = |run: Run<'_>, status| run.says("SHA-256").fails_with(status, sum(b"new"));
        refused(
            sandbox.atomwrite(["--sha256", &wrong, dest]).stdin("new"),
            3,
        );
        refused(sandbox.atomwrite(["--sha256", &wrong, "in", dest]), 3);
        refused(
            sandbox.atomwrite(["--sha256", &wrong, dest, "--", "cat", "in"]),
            125,
        );
    }
}

#[test]
fn the_digest_is_that_of_the_whole_new_content() {
    needs_tool!("sha256sum");
    let sandbox = Sandbox::with("out", "old");
    sandbox
        .atomwrite(["-a", "--sha256", &sum(b"new"), "out"])
        .stdin("new")
        .fails_with(3, "SHA-256");
    sandbox
        .atomwrite(["-a", "--sha256", &sum(b"oldnew"), "out"])
        .stdin("new")
        .succeeds();
    sandbox
        .atomwrite([
            "-a",
            "--sha256",
            &sum(b"oldnew!"),
            "out",
            "--",
            "printf",
            "!",
        ])
        .succeeds();
    assert_eq!(sandbox.text("out"), "oldnew!");
}

#[test]
fn the_digest_of_a_file_with_holes_is_right() {
    needs_tool!("sha256sum");
    let sandbox = Sandbox::new();
    let path = sandbox.write("in", "begin");
    let file = OpenOptions::new().write(true).open(path).unwrap();
    file.set_len(5_000_000).unwrap();
    sandbox
        .atomwrite(["--sha256", &sum(&sandbox.read("in")), "in", "out"])
        .succeeds();
    assert!(sandbox.read("out") == sandbox.read("in"));
}

#[test]
fn a_malformed_digest_is_a_usage_error() {
    let sandbox = Sandbox::new();
    for hex in [
        "",
        "00",
        &"0".repeat(63),
        &"0".repeat(65),
        &"g".repeat(64),
        &format!("0x{}", "0".repeat(62)),
        &format!(" {}", "0".repeat(63)),
        &format!("{}-", "0".repeat(64)),
        &"\u{0661}".repeat(32),
    ] {
        sandbox
            .atomwrite(["--sha256", hex, "out"])
            .reads_nothing()
            .fails_with(2, "--sha256");
    }
}
