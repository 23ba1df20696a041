//! The page: a file of results for each part and kernel, and the section of README.md between its
//! marks, which is drawn from all of these files.
//!
//! Invariant: nothing in them is written by hand, and a part that was run again replaces its own
//! file only.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use crate::plan;
use crate::power;
use crate::report::PROMISES;
use crate::root;

const README: &str = "torture/machines/README.md";
const RESULTS: &str = "torture/machines/results";
const BEGIN: &str =
    "<!-- make machines: all from here was measured and is not edited by hand -->\n";
const END: &str = "<!-- make machines: to here -->\n";
/// The first line of each file of results.
const FIELDS: &str = "row\tLinux\tdate\tcolumn\tresult\tnotes\n";

/// One cell of a table. Its line in a file of results has the fields in this order.
#[derive(Debug)]
pub(crate) struct Cell {
    pub(crate) row: String,
    pub(crate) kernel: String,
    pub(crate) date: String,
    /// The first half of an entry in [`PROMISES`] or [`power::COLUMNS`].
    pub(crate) column: String,
    pub(crate) result: String,
    /// Why the result is no better.
    pub(crate) notes: Vec<String>,
}

impl Cell {
    fn line(&self) -> String {
        let mut fields: Vec<&str> = vec![
            &self.row,
            &self.kernel,
            &self.date,
            &self.column,
            &self.result,
        ];
        fields.extend(self.notes.iter().map(String::as_str));
        fields.join("\t") + "\n"
    }

    /// Returns `None` if a field is missing.
    fn parse(line: &str) -> Option<Self> {
        let mut fields = line.split('\t').map(str::to_owned);
        Some(Self {
            row: fields.next()?,
            kernel: fields.next()?,
            date: fields.next()?,
            column: fields.next()?,
            result: fields.next()?,
            notes: fields.collect(),
        })
    }
}

/// Writes the file of a part that was run, and the section of README.md.
pub(crate) fn publish(part: &str, kernel: &str, cells: &[Cell]) -> Result<()> {
    let directory = Path::new(RESULTS).join(kernel);
    fs::create_dir_all(&directory)?;
    let mut text = FIELDS.to_owned();
    text.extend(cells.iter().map(Cell::line));
    fs::write(directory.join(format!("{part}.tsv")), text)?;
    let readme = fs::read_to_string(README)?;
    let (before, rest) = readme
        .split_once(BEGIN)
        .with_context(|| format!("{README} has lost the mark where its tables begin"))?;
    let (_, after) = rest
        .split_once(END)
        .with_context(|| format!("{README} has lost the mark where its tables end"))?;
    let tables = draw(&published()?);
    fs::write(
        README,
        [before, BEGIN, "\n", &tables, "\n", END, after].concat(),
    )?;
    Ok(())
}

/// Reads all files of results.
fn published() -> Result<Vec<Cell>> {
    let mut cells = Vec::new();
    for kernel in fs::read_dir(RESULTS)? {
        for part in fs::read_dir(kernel?.path())? {
            let path = part?.path();
            for line in fs::read_to_string(&path)?.lines().skip(1) {
                let cell = Cell::parse(line);
                cells.push(cell.with_context(|| format!("'{}': '{line}'", path.display()))?);
            }
        }
    }
    Ok(cells)
}

/// The tables, in Markdown. A table has no row and no column without a cell, and its notes are
/// below it.
pub(crate) fn draw(cells: &[Cell]) -> String {
    let tables = [
        table("filesystem", &PROMISES, cells),
        table(power::HEADING, &power::COLUMNS, cells),
    ];
    tables.concat().trim_end().to_owned() + "\n"
}

fn table(heading: &str, columns: &[(&str, &str)], cells: &[Cell]) -> String {
    let found = |column: &str| cells.iter().any(|cell| cell.column == column);
    let columns: Vec<_> = columns.iter().filter(|(word, _)| found(word)).collect();
    let is_here = |cell: &&Cell| columns.iter().any(|(word, _)| cell.column == *word);
    let mut rows: Vec<_> = cells
        .iter()
        .filter(is_here)
        .map(|cell| {
            let order = (plan::position(&cell.row), root::version(&cell.kernel));
            (order, &cell.row, &cell.kernel, &cell.date)
        })
        .collect();
    if rows.is_empty() {
        return String::new();
    }
    rows.sort();
    rows.dedup();
    let headings = columns.iter().map(|(_, heading)| format!(" {heading} |"));
    let headings: String = headings.collect();
    let mut lines = vec![
        format!("| {heading} | Linux | measured |{headings}"),
        format!("|---|---|---|{}", "---|".repeat(columns.len())),
    ];
    let mut notes: Vec<&str> = Vec::new();
    for (_, row, kernel, date) in rows {
        let shown = columns.iter().map(|(word, _)| {
            let cell = cells.iter().find(|cell| {
                (&cell.row, &cell.kernel, &cell.date, &*cell.column) == (row, kernel, date, *word)
            });
            cell.map_or(" |".to_owned(), |cell| shown(cell, &mut notes))
        });
        let shown: String = shown.collect();
        lines.push(format!("| {row} | {kernel} | {date} |{shown}"));
    }
    lines.push(String::new());
    if !notes.is_empty() {
        let numbered = notes.iter().zip(1..);
        lines.extend(numbered.map(|(note, number)| format!("{number}. {note}")));
        lines.push(String::new());
    }
    lines.join("\n") + "\n"
}

/// A result, and the numbers of its notes, which are added to those that are there.
fn shown<'a>(cell: &'a Cell, notes: &mut Vec<&'a str>) -> String {
    let mut shown = vec![format!(" {}", cell.result)];
    for note in &cell.notes {
        let known = notes.iter().position(|known| known == note);
        let at = known.unwrap_or(notes.len());
        if known.is_none() {
            notes.push(note);
        }
        shown.push(format!("[{}]", at + 1));
    }
    shown.join(" ") + " |"
}
