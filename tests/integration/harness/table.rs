//! Tables of cases: every case is checked before the test fails, and the failure names those that
//! failed.
//!
//! A table with long rows is text: one row per line, with its cells between bars, and comments
//! after `#`.

use std::ffi::OsString;
use std::fmt::Debug;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Checks each case of a table, all of them before it fails, and names those that have failed.
#[track_caller]
pub(crate) fn each<Case: Copy + Debug>(
    cases: impl IntoIterator<Item = Case>,
    mut check: impl FnMut(Case),
) {
    let mut failed = Vec::new();
    for case in cases {
        if catch_unwind(AssertUnwindSafe(|| check(case))).is_err() {
            failed.push(format!("{case:?}"));
        }
    }
    assert!(failed.is_empty(), "failed:\n{}", failed.join("\n"));
}

/// The words of a command line as a shell takes them: single quotes keep a word together, and
/// nothing else is special.
pub(crate) fn words(line: &str) -> Vec<OsString> {
    let mut words = Vec::new();
    let mut word = None;
    for (at, piece) in line.split('\'').enumerate() {
        if at % 2 == 1 {
            word.get_or_insert_with(String::new).push_str(piece);
            continue;
        }
        for letter in piece.chars() {
            match letter {
                ' ' => words.extend(word.take().map(OsString::from)),
                _ => word.get_or_insert_with(String::new).push(letter),
            }
        }
    }
    words.extend(word.map(OsString::from));
    words
}

/// The rows of a table in text, each as its cells.
pub(crate) fn rows<const CELLS: usize>(table: &str) -> impl Iterator<Item = [&str; CELLS]> {
    let is_row = |row: &&str| !row.is_empty() && !row.starts_with('#');
    table.lines().filter(is_row).map(|row| {
        let cells: Vec<_> = row.split('|').map(str::trim).collect();
        let found = cells.try_into();
        found.unwrap_or_else(|_| panic!("not {CELLS} cells: {row}"))
    })
}
