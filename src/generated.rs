//! The files that are generated from the table in `cli` and checked in: the completions, and the
//! manual's options.
//!
//! Do not edit them. The tests here fail if a file does not match the table, and
//! `BLESS=1 cargo test generated` writes it again. The manual's prose is in generated/manual.roff.

mod completions;

use std::ffi::OsStr;
use std::fs;
use std::path::Path;

use clap::Command;
use clap_mangen::Man;

use crate::cli;

/// The manual without what comes from the table: {version}, and {options} on a line of its own.
const MANUAL: &str = include_str!("generated/manual.roff");

/// The longest source line that `mandoc -T lint` accepts.
const LINE: usize = 80;

#[test]
fn completions_are_what_the_table_says() {
    for (name, script) in completions::all() {
        check(Path::new("completions").join(name), &script);
    }
}

#[test]
fn manual_is_what_the_table_says() {
    let table = cli::command();
    let manual = MANUAL
        .replace("{version}", env!("CARGO_PKG_VERSION"))
        .replace("{options}\n", &options(&table));
    check("man/atomwrite.1", &manual);
}

#[test]
fn help_fits_a_terminal_of_80_columns() {
    for help in [
        cli::summary(),
        cli::command().render_long_help().to_string(),
    ] {
        for line in help.lines() {
            assert!(line.chars().count() <= 80, "too long: {line}");
        }
    }
}

#[test]
fn summary_has_one_line_for_each_option() {
    let summary = cli::summary();
    let options = summary
        .lines()
        .skip_while(|line| !line.starts_with("Input:"))
        .take_while(|line| !line.starts_with("Examples:"))
        .filter(|line| !line.is_empty() && !line.ends_with(':'));
    for option in options {
        assert!(
            option.trim_start().starts_with('-'),
            "a second line: {option}"
        );
    }
}

/// Compares a file with its expected content. With $BLESS, writes it.
#[track_caller]
fn check(path: impl AsRef<Path>, wanted: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    if std::env::var_os("BLESS").is_some_and(|value| value != OsStr::new("0")) {
        #[expect(
            clippy::disallowed_methods,
            reason = "the program under test is no tool to make itself with"
        )]
        fs::write(&path, wanted).expect("the tree can be written");
        return;
    }
    let found = fs::read_to_string(&path).unwrap_or_default();
    let differing = found
        .lines()
        .zip(wanted.lines())
        .position(|(found, wanted)| found != wanted)
        .unwrap_or_else(|| found.lines().count().min(wanted.lines().count()));
    assert!(
        found == wanted,
        "{} is not what src/cli.rs says, from line {} on; 'BLESS=1 cargo test generated' writes it anew",
        path.display(),
        differing + 1
    );
}

/// Returns the options as roff, each group under its heading.
fn options(table: &Command) -> String {
    let mut headings: Vec<&str> = Vec::new();
    for heading in table
        .get_arguments()
        .filter_map(clap::Arg::get_help_heading)
    {
        if !headings.contains(&heading) {
            headings.push(heading);
        }
    }
    let mut roff = String::new();
    for heading in headings {
        roff.extend([".SS ", heading, "\n"]);
        let group = table.clone().mut_args(|argument| {
            let hidden = argument.is_hide_set() || argument.get_help_heading() != Some(heading);
            argument.help_heading(None).hide(hidden)
        });
        let mut rendered = Vec::new();
        Man::new(group)
            .render_options_section(&mut rendered)
            .expect("a Vec takes all");
        let rendered = String::from_utf8(rendered).expect("roff is text");
        for line in rendered.lines() {
            tidy(line, &mut roff);
        }
    }
    roff
}

/// Rewrites a line of clap_mangen's roff so that it reads well and passes `mandoc -T lint`.
fn tidy(line: &str, roff: &mut String) {
    match line {
        // There is another heading, the apostrophe needs no definition, and the list of values no
        // extra space.
        ".SH OPTIONS" | ".br" | "\\fIPossible values:\\fR" => {}
        line if line.starts_with(".ie ") || line.starts_with(".el ") => {}
        ".RS 14" => roff.push_str(".RS 7\n.PD 0\n"),
        ".RE" => roff.push_str(".PD\n.RE\n"),
        "" => roff.push_str(".sp\n"),
        line => wrap(
            &line
                .replace("\\*(Aq", "\\(aq")
                .replace("\\fI<", "\\fI")
                .replace(">\\fR", "\\fR"),
            roff,
        ),
    }
}

/// Breaks a line of text between words. The formatter fills the lines again.
fn wrap(line: &str, roff: &mut String) {
    let mut length = 0;
    for word in line.split(' ') {
        if length > 0 && length + 1 + word.len() > LINE && !line.starts_with('.') {
            roff.push('\n');
            length = 0;
            if word.starts_with(['.', '\'']) {
                roff.push_str("\\&");
            }
        } else if length > 0 {
            roff.push(' ');
            length += 1;
        }
        roff.push_str(word);
        length += word.len();
    }
    roff.push('\n');
}
