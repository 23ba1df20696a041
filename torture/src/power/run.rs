//! One run of a program, with a limit to its time.

use std::ffi::OsString;
use std::io::Write;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};

use crate::lacking::Lacking;
use crate::report::Harm;

/// How it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    Exited(ExitStatus),
    Hung,
}

impl Ended {
    /// What is wrong with that, if it should have worked.
    pub(crate) fn harm(self) -> Option<Harm> {
        match self {
            Self::Exited(status) if status.success() => None,
            Self::Exited(_) => Some(Harm::Answer),
            Self::Hung => Some(Harm::Hung),
        }
    }
}

/// Nothing here takes a second.
const LIMIT: Duration = Duration::from_secs(60);
const FIRST_PAUSE: Duration = Duration::from_micros(50);
const LONGEST_PAUSE: Duration = Duration::from_millis(2);

/// Runs a program in a directory; temporary files that go elsewhere go to `aside`.
pub(crate) fn run(
    words: &[OsString],
    directory: &Path,
    aside: &Path,
    input: &[u8],
) -> Result<Ended> {
    run_lacking(None, words, directory, aside, input)
}

/// The same, with a kernel that lacks something.
pub(crate) fn run_lacking(
    lacking: Option<Lacking>,
    words: &[OsString],
    directory: &Path,
    aside: &Path,
    input: &[u8],
) -> Result<Ended> {
    if let Some(lacking) = lacking {
        // A thread of its own, since it stays so.
        let run = || {
            lacking.begin()?;
            run(words, directory, aside, input)
        };
        return thread::scope(|scope| scope.spawn(run).join())
            .map_err(|_| anyhow!("a thread panicked"))?;
    }
    let (program, arguments) = words.split_first().context("no program")?;
    let mut child = Command::new(program)
        .args(arguments)
        .current_dir(directory)
        // What stands before the real programs on a developer's path starts ten times as slowly.
        .env("PATH", "/usr/bin:/bin:/usr/sbin:/sbin")
        .env("TMPDIR", aside)
        .env_remove("ATOMWRITE_SYNC")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .with_context(|| format!("cannot run {}", program.to_string_lossy()))?;
    let pipe = child.stdin.take();
    thread::scope(|scope| {
        scope.spawn(move || {
            if let Some(mut pipe) = pipe {
                // Not every program reads it.
                drop(pipe.write_all(input));
            }
        });
        let began = Instant::now();
        let mut pause = FIRST_PAUSE;
        loop {
            if let Some(status) = child.try_wait()? {
                return Ok(Ended::Exited(status));
            }
            if began.elapsed() > LIMIT {
                child.kill()?;
                child.wait()?;
                return Ok(Ended::Hung);
            }
            thread::sleep(pause);
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    })
}
