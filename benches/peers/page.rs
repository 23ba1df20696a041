//! The pages: benches/results, and the README's section between its marks.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use crate::launch::Launcher;

const README: &str = "README.md";
const BEGIN: &str = "<!-- make bench: all from here was measured and is not edited by hand -->\n";
const END: &str = "<!-- make bench: to here -->\n";
const SPEED: &str = "benches/results/speed.svg";
const GROWTH: &str = "benches/results/growth.svg";

/// Both, as SVG.
pub(crate) struct Pictures {
    pub(crate) speed: String,
    pub(crate) growth: String,
}

/// Where the project's readers look.
pub(crate) fn publish(launcher: &Launcher, table: &str, pictures: &Pictures) -> Result<()> {
    write(launcher, Path::new(SPEED), &pictures.speed)?;
    write(launcher, Path::new(GROWTH), &pictures.growth)?;
    write(launcher, Path::new("benches/results/table.md"), table)?;
    let readme = fs::read_to_string(README)?;
    let (before, rest) = readme
        .split_once(BEGIN)
        .context("README.md has lost the mark where its figures begin")?;
    let (_, after) = rest
        .split_once(END)
        .context("README.md has lost the mark where its figures end")?;
    let shown = format!(
        "\n![Times of atomwrite divided by those of others]({SPEED})\n\n\
         <details>\n<summary>How the time grows with the size</summary>\n\n\
         ![Times of atomwrite and of others, from 100 bytes to 512 MiB]({GROWTH})\n\n</details>\n\n{table}\n"
    );
    let readme = [before, BEGIN, &shown, END, after].concat();
    write(launcher, Path::new(README), &readme)
}

/// Where only who tries something looks.
pub(crate) fn try_out(
    launcher: &Launcher,
    target: &Path,
    table: &str,
    pictures: &Pictures,
) -> Result<()> {
    write(launcher, &target.join("speed.svg"), &pictures.speed)?;
    write(launcher, &target.join("growth.svg"), &pictures.growth)?;
    write(launcher, &target.join("table.md"), table)
}

/// Writes a file as this project would.
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
