//! The page: torture/results, and the README's section between its marks.
//!
//! The rule: nothing in it is written by hand, and only a whole run writes it: a long one, or one that is told to.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

const README: &str = "README.md";
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
    // Without the suffix that tells who built it.
    let kernel = kernel.trim().split('-').next().unwrap_or_default();
    let date = Command::new("date")
        .arg("+%F")
        .output()
        .context("cannot run date")?;
    let date = String::from_utf8(date.stdout)?;
    let shown = format!(
        "{sum} Linux {kernel}, {run}, {}.\n\n\
         <details>\n<summary>All tests</summary>\n\n\
         Harms, each of so many cases.\n\n{table}\n</details>\n",
        date.trim()
    );
    write(binary, Path::new("torture/results/power.svg"), picture)?;
    write(binary, Path::new("torture/results/table.md"), &shown)?;
    let readme = fs::read_to_string(README)?;
    let (before, rest) = readme
        .split_once(BEGIN)
        .context("README.md has lost the mark where its table begins")?;
    let (_, after) = rest
        .split_once(END)
        .context("README.md has lost the mark where its table ends")?;
    let readme = [before, BEGIN, "\n", &shown, "\n", END, after].concat();
    write(binary, Path::new(README), &readme)
}

/// Writes a file as this project would.
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
