//! The page: torture/results.md.
//!
//! The rule: nothing in it is written by hand, and only a whole, long run writes it.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

pub(crate) fn publish(binary: &Path, table: &str, seed: u64) -> Result<()> {
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let date = Command::new("date")
        .arg("+%F")
        .output()
        .context("cannot run date")?;
    let date = String::from_utf8(date.stdout)?;
    let shown = format!(
        "Harms, of so many cases. Linux {}, seed {seed}, {}.\n\n{table}\n",
        kernel.trim(),
        date.trim()
    );
    write(binary, Path::new("torture/results.md"), &shown)
}

/// Writes a file as this project would.
fn write(binary: &Path, path: &Path, text: &str) -> Result<()> {
    let mut atomwrite = Command::new(binary)
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
