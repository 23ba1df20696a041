//! `--sha256 HEX`: content with another digest is refused, and a malformed digest is refused before
//! any input is read.

use std::fs::OpenOptions;

use crate::harness::{Sandbox, each, needs_tool};
use crate::options::validate::{WAYS, sum};

#[test]
fn content_with_the_digest_is_written() {
    needs_tool!("sha256sum", "strace");
    let large = vec![b'x'; 3_000_001];
    for named in WAYS {
        for content in [&b"new"[..], b"", &large] {
            let sandbox = Sandbox::new();
            let sum = sum(content);
            let take = |sum: &str, rest: &str| {
                let run = sandbox.run(&format!("--sha256 {sum} {rest}"));
                if named { run.without_linkat() } else { run }
            };
            sandbox.write("in", content);
            take(&sum, "--allow-empty a").stdin(content).succeeds();
            take(&sum, "in b").succeeds();
            take(&sum.to_uppercase(), "in c").succeeds();
            take(&sum, "d -- cat in").succeeds();
            take(&sum, "-C in d").leaves_alone(0);
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
    let (wrong, right) = (sum(b"other"), sum(b"new"));
    let cases = [
        ("out", 3),
        ("new", 3),
        ("in out", 3),
        ("in new", 3),
        ("out -- cat in", 125),
        ("new -- cat in", 125),
    ];
    each(cases, |(rest, status)| {
        let run = sandbox.run(&format!("--sha256 {wrong} {rest}"));
        let run = run.stdin("new").says("SHA-256");
        run.fails_with(status, &*right);
    });
}

#[test]
fn the_digest_is_that_of_the_whole_new_content() {
    needs_tool!("sha256sum");
    let sandbox = Sandbox::with("out", "old");
    let run = |content: &[u8], rest: &str| {
        let line = format!("-a --sha256 {} {rest}", sum(content));
        sandbox.run(&line).stdin("new")
    };
    run(b"new", "out").fails_with(3, "SHA-256");
    run(b"oldnew", "out").writes("oldnew");
    run(b"oldnew!", "out -- printf !").writes("oldnew!");
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
    let zeros = |count: usize| "0".repeat(count);
    let malformed = [
        "",
        "00",
        &zeros(63),
        &zeros(65),
        &"g".repeat(64),
        &format!("0x{}", zeros(62)),
        &format!(" {}", zeros(63)),
        &format!("{}-", zeros(64)),
        &"\u{0661}".repeat(32),
    ];
    each(malformed, |hex| {
        let run = sandbox.atomwrite(["--sha256", hex, "out"]);
        run.reads_nothing().fails_with(2, "--sha256");
    });
}
