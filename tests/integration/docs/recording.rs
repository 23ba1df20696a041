//! The README's recording of a terminal shows what the programs print today. `make recording` makes
//! it anew.

use crate::docs::examples;
use crate::harness::{Sandbox, needs_tool};

const SCENARIO: &str = include_str!("../../../docs/recording/scenario");
const RECORDING: &str = include_str!("../../../docs/recording/recording.svg");
/// As docs/recording/record.py has it.
const WIDTH: usize = 48;

#[test]
fn shows_what_the_programs_print() {
    needs_tool!("bash", "sponge");
    let sandbox = Sandbox::new();
    let commands: Vec<String> = SCENARIO.lines().map(str::to_owned).collect();
    assert!(commands.len() > 5, "where has the scenario gone?");
    let mut expected = Vec::new();
    for (command, printed) in commands.iter().zip(examples::run(&sandbox, &commands)) {
        expected.extend(rows(&format!("$ {command}")));
        expected.extend(printed.lines().flat_map(rows));
    }
    expected.push("$".to_owned());
    let shown: Vec<String> = RECORDING.lines().filter_map(text).collect();
    assert_eq!(
        shown, expected,
        "docs/recording/recording.svg is old; make recording"
    );
}

/// Breaks a line between words, as the picture does.
fn rows(line: &str) -> Vec<String> {
    let mut rows = Vec::new();
    let mut rest = line.trim_end();
    while rest.len() > WIDTH {
        let space = rest[..=WIDTH].rfind(' ').expect("a word fits");
        rows.push(rest[..space].to_owned());
        rest = &rest[space + 1..];
    }
    rows.push(rest.to_owned());
    rows
}

/// Returns the text of a row of the picture, or `None` for another line.
fn text(element: &str) -> Option<String> {
    let inner = element.strip_prefix("<text ")?.strip_suffix("</text>")?;
    let (_, inner) = inner.split_once('>')?;
    let parts = inner.split('<').enumerate();
    let words: String = parts
        .map(|(n, part)| match part.split_once('>') {
            Some((_, words)) if n > 0 => words,
            _ => part,
        })
        .collect();
    let words = words.replace("&lt;", "<").replace("&gt;", ">");
    Some(words.replace("&amp;", "&"))
}
