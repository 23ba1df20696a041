//! `--progress` in terminals of any width: one row, whose figures are true from the first line on.

use super::progress::{Screen, slow_copies};
use crate::harness::{Sandbox, needs_tool};

/// The lines that were drawn, without what moves the cursor.
fn drawn(text: &str) -> Vec<String> {
    let mut lines = Vec::new();
    for line in text.split('\r') {
        let mut parts = line.split('\u{1b}');
        let mut shown = parts.next().unwrap_or_default().to_owned();
        for part in parts {
            let end = part.find(|letter: char| letter.is_ascii_alphabetic());
            shown += &part[end.map_or(part.len(), |end| end + 1)..];
        }
        if !shown.trim().is_empty() {
            lines.push(shown);
        }
    }
    lines
}

/// Runs it on a terminal, with slow copies, and returns the lines.
fn lines(columns: u16, arguments: &[&str]) -> Vec<String> {
    let sandbox = Sandbox::new();
    sandbox.mkdir("d");
    for name in ["a", "b"] {
        sandbox.write(name, vec![b'x'; 32 << 20]);
    }
    let (screen, stderr) = Screen::with_columns(columns);
    let strace = slow_copies();
    let done = sandbox
        .atomwrite(arguments.to_vec())
        .stderr_to(stderr)
        .through(strace.command())
        .output();
    assert_eq!(done.code(), Some(0), "{done:?}");
    let lines = drawn(&screen.written());
    assert!(!lines.is_empty(), "nothing was drawn");
    for line in &lines {
        let length = line.chars().count();
        assert!(length <= usize::from(columns), "{columns} columns: {line}");
    }
    lines
}

#[test]
fn every_line_fits_the_terminal() {
    needs_tool!("strace");
    let one = ["--progress", "a", "out"];
    let many = ["--progress", "-t", "d", "a", "b"];
    for (columns, arguments, parts) in [
        (30, &one[..], ["%", " left"]),
        (50, &one, ["% of 32.00 MiB, ", " left"]),
        (200, &one, [" of 32.00 MiB [", " left"]),
        (30, &many, ["/2, ", " left"]),
        (60, &many, ["/2, ", "% of 64.00 MiB, "]),
        (80, &many, [" of 2 files, ", " of 64.00 MiB ["]),
    ] {
        let lines = lines(columns, arguments);
        for part in parts {
            assert!(
                lines.iter().all(|line| line.contains(part)),
                "no {part:?} at {columns} columns: {lines:?}"
            );
        }
    }
}

#[test]
fn the_rate_counts_the_time_before_the_line_was_shown() {
    needs_tool!("strace");
    let lines = lines(80, &["--progress", "a", "out"]);
    // 32 MiB took more than a third of a second.
    for line in lines {
        assert!(line.contains(" MiB/s") || line.contains(" KiB/s"), "{line}");
    }
}
