//! One run of a program on the filesystem that will lose power.

use std::ffi::OsString;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;

use anyhow::{Context, Result, anyhow};

use crate::child::{Ended, Running};
use crate::lacking::Lacking;
use crate::programs::PATH;

/// Runs a program in a directory; temporary files that go elsewhere go to `aside`.
pub(crate) fn run(
    words: &[OsString],
    directory: &Path,
    aside: &Path,
    input: &[u8],
) -> Result<Ended> {
    let (program, arguments) = words.split_first().context("no program")?;
    let mut command = Command::new(program);
    command
        .args(arguments)
        .current_dir(directory)
        .env("PATH", PATH)
        .env("TMPDIR", aside)
        .env_remove("ATOMWRITE_SYNC")
        .stdin(Stdio::piped());
    Running::start(&mut command)?.end_after(input)
}

/// The same, with a kernel that lacks something.
pub(crate) fn run_lacking(
    lacking: Option<Lacking>,
    words: &[OsString],
    directory: &Path,
    aside: &Path,
    input: &[u8],
) -> Result<Ended> {
    let Some(lacking) = lacking else {
        return run(words, directory, aside, input);
    };
    // A thread of its own, because it stays so.
    let run = || {
        lacking.begin()?;
        run(words, directory, aside, input)
    };
    thread::scope(|scope| scope.spawn(run).join()).map_err(|_| anyhow!("a thread panicked"))?
}
