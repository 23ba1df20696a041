//! The launcher: builds the C programs, finds the others, and lets benches/launch.c run lines and
//! measure their time.
//!
//! Invariant: the measured time and memory include nothing of this program.

use std::collections::HashMap;
use std::env;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result, bail, ensure};

/// What one run of a line needed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sample {
    /// From before the first process to the end of the last, in seconds.
    pub(crate) whole: f64,
    /// From the end of the first process on.
    pub(crate) wait: f64,
    /// The largest peak of any process but the producer, in KiB; 0 if there is no other.
    pub(crate) peak: u64,
}

#[derive(Debug)]
pub(crate) struct Launcher {
    programs: HashMap<&'static str, PathBuf>,
}

/// What the lines and the preparations call.
const PROGRAMS: [&str; 9] = [
    "cat", "cp", "dd", "find", "install", "mv", "sh", "sponge", "sync",
];
const SOURCES: [&str; 3] = ["floor", "launch", "produce"];

impl Launcher {
    /// Compiles the C programs into `target`.
    pub(crate) fn build(target: &Path) -> Result<Self> {
        let mut programs = HashMap::new();
        for name in SOURCES {
            let program = target.join(name);
            let source = Path::new("benches").join(format!("{name}.c"));
            let mut compile = Command::new("gcc");
            compile.args(["-O2", "-static", "-Wall", "-o"]);
            check(compile.arg(&program).arg(source))?;
            programs.insert(name, program);
        }
        for name in PROGRAMS {
            programs.insert(name, find(name)?);
        }
        let program = env::var_os("BENCH_PROGRAM").unwrap_or_else(|| "target/atomwrite".into());
        let program = PathBuf::from(program)
            .canonicalize()
            .context("there is no atomwrite to measure; run 'make bench'")?;
        programs.insert("atomwrite", program);
        Ok(Self { programs })
    }

    pub(crate) fn program(&self, name: &str) -> &Path {
        &self.programs[name]
    }

    /// Runs a line in a directory.
    pub(crate) fn run(&self, line: &str, place: &Path) -> Result<Sample> {
        let mut command = Command::new(self.program("launch"));
        // Between quotes is a shell's line, one word of this one.
        for (n, part) in line.split('\'').enumerate() {
            let words = self.words(part);
            if n % 2 == 0 {
                command.args(words);
            } else {
                command.arg(words.join(OsStr::new(" ")));
            }
        }
        // sponge puts its temporary file here, and renames it only on the same filesystem.
        command
            .current_dir(place)
            .env_clear()
            .env("LC_ALL", "C")
            .env("TMPDIR", ".");
        let output = check(&mut command)?;
        self.read(&String::from_utf8(output.stdout)?)
            .with_context(|| format!("cannot understand what '{line}' gave"))
    }

    /// Replaces the names of programs by their paths.
    fn words<'a>(&'a self, line: &'a str) -> Vec<&'a OsStr> {
        let mut begins = true;
        let mut words = Vec::new();
        for word in line.split_whitespace() {
            words.push(match self.programs.get(word) {
                Some(program) if begins => program.as_os_str(),
                _ => OsStr::new(word),
            });
            begins = matches!(word, "|" | "&" | "&&" | "--");
        }
        words
    }

    fn read(&self, report: &str) -> Result<Sample> {
        let mut processes = Vec::new();
        for line in report.lines() {
            let mut fields = line.splitn(4, ' ');
            let mut number = || -> Result<u64> { Ok(fields.next().context("no number")?.parse()?) };
            let (began, ended, peak) = (number()?, number()?, number()?);
            let program = Path::new(fields.next().context("no program")?);
            let peak = if program == self.program("produce") {
                0
            } else {
                peak
            };
            processes.push((began, ended, peak));
        }
        let first = processes.first().context("no process")?;
        let ended = processes.iter().map(|p| p.1).max();
        let ended = ended.context("no end")?;
        Ok(Sample {
            whole: seconds(ended - first.0),
            wait: seconds(ended - first.1),
            peak: processes.iter().map(|p| p.2).max().unwrap_or(0),
        })
    }
}

#[expect(clippy::cast_precision_loss, reason = "2^53 ns are a hundred days")]
fn seconds(nanoseconds: u64) -> f64 {
    nanoseconds as f64 / 1e9
}

/// Finds a program as a shell would, so that the search is not in the measured time.
fn find(name: &str) -> Result<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    for directory in env::split_paths(&path) {
        let program = directory.join(name);
        if program.is_file() {
            return Ok(program);
        }
    }
    bail!("there is no '{name}' here; run 'tests/setup.sh bench'")
}

/// Runs a command that has to succeed.
pub(crate) fn check(command: &mut Command) -> Result<Output> {
    let name = Path::new(command.get_program())
        .file_name()
        .unwrap_or(OsStr::new("?"))
        .to_string_lossy()
        .into_owned();
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot run {name}"))?;
    ensure!(
        output.status.success(),
        "{} failed: {}",
        name,
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(output)
}
