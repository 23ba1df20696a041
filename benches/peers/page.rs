//! The page: benches/results, and the section of benches/README.md between its marks.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use crate::contest::Results;
use crate::launch::Launcher;
use crate::{picture, record, table};

const README: &str = "benches/README.md";
const BEGIN: &str = "<!-- make bench: all from here was measured and is not edited by hand -->\n";
const END: &str = "<!-- make bench: to here -->\n";
const RESULTS: &str = "benches/results";
const RECORD: &str = "figures.tsv";

/// Writes the section of benches/README.md, the pictures, and the record from which `redraw` can do
/// so again.
pub(crate) fn publish(launcher: &Launcher, results: &Results, machine: &str) -> Result<()> {
    let directory = Path::new(RESULTS);
    write(
        launcher,
        &directory.join(RECORD),
        &record::write(results, machine),
    )?;
    draw(launcher, results, machine)
}

/// Writes the section and the pictures from the record of the last run.
pub(crate) fn redraw(launcher: &Launcher) -> Result<()> {
    let path = Path::new(RESULTS).join(RECORD);
    let text = fs::read_to_string(&path)
        .with_context(|| format!("cannot read the record of a run, {}", path.display()))?;
    let (results, machine) = record::read(&text)?;
    draw(launcher, &results, &machine)
}

fn draw(launcher: &Launcher, results: &Results, machine: &str) -> Result<()> {
    pictures(launcher, Path::new(RESULTS), results)?;
    let readme = fs::read_to_string(README)?;
    let (before, rest) = readme
        .split_once(BEGIN)
        .with_context(|| format!("{README} has lost the mark where its figures begin"))?;
    let (_, after) = rest
        .split_once(END)
        .with_context(|| format!("{README} has lost the mark where its figures end"))?;
    let shown = format!(
        "\n![Times of atomwrite divided by those of other programs](results/speed.svg)\n\n{}\n",
        table::draw(results, machine)
    );
    let readme = [before, BEGIN, &shown, END, after].concat();
    write(launcher, Path::new(README), &readme)
}

/// Writes the results of a partial or quick run to `target` only.
pub(crate) fn try_out(
    launcher: &Launcher,
    target: &Path,
    results: &Results,
    machine: &str,
) -> Result<()> {
    pictures(launcher, target, results)?;
    write(
        launcher,
        &target.join(RECORD),
        &record::write(results, machine),
    )?;
    write(
        launcher,
        &target.join("table.md"),
        &table::draw(results, machine),
    )
}

fn pictures(launcher: &Launcher, directory: &Path, results: &Results) -> Result<()> {
    write(
        launcher,
        &directory.join("speed.svg"),
        &picture::speed(results),
    )?;
    write(
        launcher,
        &directory.join("growth.svg"),
        &picture::growth(results),
    )
}

/// Writes a file with the program under test.
fn write(launcher: &Launcher, path: &Path, text: &str) -> Result<()> {
    let mut atomwrite = Command::new(launcher.program("atomwrite"))
        .arg("-D")
        .arg(path)
        .stdin(Stdio::piped())
        .spawn()?;
    let mut input = atomwrite.stdin.take().context("no pipe")?;
    input.write_all(text.as_bytes())?;
    drop(input);
    ensure!(
        atomwrite.wait()?.success(),
        "cannot write {}",
        path.display()
    );
    Ok(())
}
