//! The page: torture/results, and the section of torture/README.md between its marks.
//!
//! Invariant: nothing in it is written by hand. Only a run of all parts writes it, if it is long or
//! has `--publish`.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

const README: &str = "torture/README.md";
const BEGIN: &str = "<!-- make torture: all from here was counted and is not edited by hand -->\n";
const END: &str = "<!-- make torture: to here -->\n";

pub(crate) fn publish(
    binary: &Path,
    sum: &str,
    table: &str,
    picture: &str,
    run: &str,
) -> Result<()> {
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    // Without the suffix, which names the builder.
    let kernel = kernel.trim().split('-').next().unwrap_or_default();
    let date = Command::new("date")
        .arg("+%F")
        .output()
        .context("cannot run date")?;
    let date = String::from_utf8(date.stdout)?;
    let shown = format!(
        "![Share of files destroyed or lost by a power cut, a kill, a full disk, or concurrent writers](results/power.svg)\n\n\
         {sum} Linux {kernel}, {run}, {}.\n\n\
         A cell counts the harms and the cases: `30 torn of 1204`.\n\n{table}",
        date.trim()
    );
    write(binary, Path::new("torture/results/power.svg"), picture)?;
    let readme = fs::read_to_string(README)?;
    let (before, rest) = readme
        .split_once(BEGIN)
        .with_context(|| format!("{README} has lost the mark where its table begins"))?;
    let (_, after) = rest
        .split_once(END)
        .with_context(|| format!("{README} has lost the mark where its table ends"))?;
    let readme = [before, BEGIN, "\n", &shown, "\n", END, after].concat();
    write(binary, Path::new(README), &readme)
}

/// Writes a file with the program under test.
fn write(binary: &Path, path: &Path, text: &str) -> Result<()> {
    let mut atomwrite = Command::new(binary)
        .arg("-D")
        .arg(path)
        .stdin(Stdio::piped())
        .spawn()
        .context("cannot run atomwrite")?;
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
