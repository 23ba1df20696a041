//! The manual's examples do what it says.
//!
//! An example is between `.EX` and `.EE`, in the form of the README's examples. The comments just
//! above it, `.\" $ seq 3 >list`, set up the files that the reader already has.

use crate::docs::examples::{behaves, mentions, options};
use crate::harness::{needs_tool, report_linux_only};

const MANUAL: &str = include_str!("../../../man/atomwrite.1");

/// Options that no example helps to understand, or that are another's opposite.
const NOT_SHOWN: [&str; 6] = [
    "--force",
    "--fsync",
    "--help",
    "--no-fsync",
    "--sync",
    "--version",
];

struct Example {
    /// Of the manual.
    line: usize,
    set_up: Vec<&'static str>,
    text: String,
}

#[test]
fn examples_print_what_the_manual_says() {
    needs_tool!("bash", "jq", "unshare", "getent");
    let examples = examples();
    assert!(examples.len() > 15, "where have all the examples gone?");
    for example in examples {
        if cfg!(atomwrite_posix) && example.set_up.concat().contains("mount") {
            report_linux_only("a call that shows a mount point");
            continue;
        }
        let origin = format!("man/atomwrite.1, line {}", example.line);
        behaves(&origin, &example.set_up, &example.text);
    }
}

#[test]
fn examples_fit_a_terminal_of_80_columns() {
    // The text begins in column 7, and an example 4 behind that.
    for example in examples() {
        for line in example.text.lines() {
            assert!(line.chars().count() + 11 <= 80, "too long: {line}");
        }
    }
}

#[test]
fn name_has_the_words_that_people_search_for() {
    // As apropos(1) reads it: `man -k atomic`.
    let name = format!("atomwrite \\- {}\n", env!("CARGO_PKG_DESCRIPTION"));
    assert!(MANUAL.contains(&format!(".SH NAME\n{name}")), "{name}");
    assert!(name.contains("write files atomically and durably"));
}

#[test]
fn every_option_has_an_example_where_one_helps() {
    let examples: String = examples().into_iter().map(|example| example.text).collect();
    for names in options() {
        let shown = names.iter().any(|name| mentions(&examples, name));
        let needs_none = names.iter().any(|name| NOT_SHOWN.contains(&name.as_str()));
        assert!(shown != needs_none, "{names:?}: {shown}");
    }
}

fn examples() -> Vec<Example> {
    let mut examples: Vec<Example> = Vec::new();
    let mut set_up = Vec::new();
    let mut inside = false;
    for (number, line) in MANUAL.lines().enumerate() {
        if let Some(command) = line.strip_prefix(r#".\" $ "#) {
            set_up.push(command);
        } else if line == ".EX" {
            inside = true;
            examples.push(Example {
                line: number + 1,
                set_up: std::mem::take(&mut set_up),
                text: String::new(),
            });
        } else if line == ".EE" {
            inside = false;
        } else if let (true, Some(example)) = (inside, examples.last_mut()) {
            example.text.push_str(&plain(line));
            example.text.push('\n');
        }
    }
    assert!(set_up.is_empty(), "set up for no example: {set_up:?}");
    examples
}

/// A line of roff as it is shown; `.RB "$ " "command"` is one with a command in bold.
fn plain(line: &str) -> String {
    let line = match line.strip_prefix(".RB ") {
        Some(words) => words.trim_matches('"').replace("\" \"", ""),
        None => line.to_owned(),
    };
    let escapes = [
        (r"\-", "-"),
        (r"\(aq", "'"),
        (r"\(dq", "\""),
        (r"\(ti", "~"),
        (r"\(rs", "\\"),
    ];
    escapes
        .iter()
        .fold(line, |line, (roff, shown)| line.replace(roff, shown))
}
