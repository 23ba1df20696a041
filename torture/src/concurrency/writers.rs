//! Many programs and many readers at once, in one directory.
//!
//! Invariant: a writer does its runs one after the other. All writers begin together: their input
//! is held back until each of them runs. Which runs are killed, and when, is decided before
//! anything runs.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{ErrorKind, Read, Seek, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use rustix::process::{Signal, setpriority_process};

use super::content::Stamp;
use crate::child::{Ended, Running};
use crate::lacking::Lacking;
use crate::programs::{PATH, is_temporary};
use crate::report::{Harm, Tally};

pub(crate) const WRITERS: u16 = 200;
pub(crate) const READERS: usize = 8;

/// What a pipe accepts without a reader: a page.
const HELD: usize = 4096;

/// When a victim is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Moment {
    /// So long after it could begin.
    After(Duration),
    /// When a temporary name is seen in the directory, of this run or of another one.
    AtName,
}

/// What happens to a victim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Kill {
    pub(crate) moment: Moment,
    pub(crate) signal: Signal,
}

/// One run of a program.
#[derive(Debug, Clone)]
pub(crate) struct Job {
    pub(crate) words: Vec<OsString>,
    /// `None`: it has no stdin.
    pub(crate) stdin: Option<Vec<u8>>,
    pub(crate) stamp: Stamp,
    pub(crate) kill: Option<Kill>,
}

/// A job that is done.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) job: Job,
    pub(crate) ended: Ended,
}

impl Done {
    /// Returns whether it died by the signal that it was sent.
    pub(crate) fn was_killed(&self) -> bool {
        let kill = self.job.kill.map(|kill| kill.signal.as_raw());
        kill.is_some() && kill == self.ended.signal()
    }
}

/// The jobs of a writer, and whether the kernel gives it O_TMPFILE.
#[derive(Debug)]
pub(crate) struct Writer {
    pub(crate) jobs: Vec<Job>,
    pub(crate) unnamed_files: bool,
}

/// Checks what a reader has read; the content is `None` if there was no such file.
pub(crate) type Watch = Box<dyn FnMut(Option<&[u8]>) -> Option<(Harm, String)> + Send>;

/// Runs all writers, and the readers, each on its file. `label` begins every example.
pub(crate) fn perform(
    directory: &Path,
    writers: Vec<Writer>,
    readers: Vec<(&'static str, Watch)>,
    label: &str,
) -> Result<(Vec<Done>, Tally)> {
    let barrier = Barrier::new(writers.len());
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let readers: Vec<_> = readers
            .into_iter()
            .map(|(name, watch)| {
                let over = &over;
                scope.spawn(move || read_on(&directory.join(name), watch, over, label))
            })
            .collect();
        let writers: Vec<_> = writers
            .into_iter()
            .map(|writer| {
                let barrier = &barrier;
                scope.spawn(move || write_on(directory, writer, barrier))
            })
            .collect();
        let mut done = Vec::new();
        let mut failed = None;
        for writer in writers {
            match writer.join() {
                Ok(Ok(jobs)) => done.extend(jobs),
                Ok(Err(error)) => failed = Some(error),
                Err(_) => failed = Some(anyhow!("a writer's thread panicked")),
            }
        }
        over.store(true, Relaxed);
        let mut seen = Tally::default();
        for reader in readers {
            seen.add(
                reader
                    .join()
                    .map_err(|_| anyhow!("a reader's thread panicked"))??,
            );
        }
        match failed {
            Some(error) => Err(error),
            None => Ok((done, seen)),
        }
    })
}

fn write_on(directory: &Path, writer: Writer, barrier: &Barrier) -> Result<Vec<Done>> {
    let refused = if writer.unnamed_files {
        Ok(())
    } else {
        Lacking::UnnamedFiles.begin()
    };
    let mut jobs = writer.jobs.into_iter();
    let first = jobs.next();
    let held = match (&first, refused) {
        (Some(job), Ok(())) => begin(directory, job),
        (None, Ok(())) => Err(anyhow!("a writer has nothing to do")),
        (_, Err(error)) => Err(error),
    };
    // Whatever went wrong: the others wait.
    barrier.wait();
    let mut done = Vec::new();
    if let Some(job) = first {
        done.push(go_on(directory, held?, job)?);
    }
    for job in jobs {
        let held = begin(directory, &job)?;
        done.push(go_on(directory, held, job)?);
    }
    Ok(done)
}

/// Starts a program that waits for its input; one without input is started when it may begin.
fn begin(directory: &Path, job: &Job) -> Result<Option<Running>> {
    let Some(stdin) = &job.stdin else {
        return Ok(None);
    };
    let mut running = Running::start(command(directory, job).stdin(Stdio::piped()))?;
    let mut pipe = running.stdin()?;
    let held = stdin.len().saturating_sub(1).min(HELD);
    pipe.write_all(&stdin[..held])
        .context("cannot write to a pipe")?;
    running.give_back(pipe);
    Ok(Some(running))
}

fn go_on(directory: &Path, held: Option<Running>, job: Job) -> Result<Done> {
    let mut running = match held {
        Some(running) => running,
        None => Running::start(command(directory, &job).stdin(Stdio::null()))?,
    };
    let stdin = job.stdin.as_deref().unwrap_or_default();
    let rest = &stdin[stdin.len().saturating_sub(1).min(HELD)..];
    let pipe = job.stdin.is_some().then(|| running.stdin()).transpose()?;
    let ended = thread::scope(|scope| {
        // A thread of its own: who does not read must not keep us from seeing that it hangs.
        scope.spawn(move || {
            if let Some(mut pipe) = pipe {
                // EPIPE: it was killed, or has refused already.
                drop(pipe.write_all(rest));
            }
        });
        if let Some(Kill { moment, signal }) = job.kill {
            let comes = match moment {
                Moment::After(time) => !running.ends_within(time)?,
                Moment::AtName => comes_to_a_name(directory, &running)?,
            };
            if comes {
                running.signal(signal)?;
            }
        }
        running.end()
    })?;
    Ok(Done { job, ended })
}

/// Waits until there is a temporary name, or until it has ended: then false.
fn comes_to_a_name(directory: &Path, running: &Running) -> Result<bool> {
    while !running.ends_within(Duration::ZERO)? {
        for entry in fs::read_dir(directory).context("cannot read the directory")? {
            if is_temporary(Path::new(&entry?.file_name())) {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

fn command(directory: &Path, job: &Job) -> Command {
    let mut command = Command::new(&job.words[0]);
    command
        .args(&job.words[1..])
        .current_dir(directory)
        .env("TMPDIR", directory.join("../tmp"))
        .env("PATH", PATH);
    command
}

fn read_on(path: &Path, mut watch: Watch, over: &AtomicBool, label: &str) -> Result<Tally> {
    // This thread alone (setpriority(2), "C library/kernel differences"): a reader must not keep
    // the writers from their work.
    setpriority_process(None, 10).context("cannot be nice")?;
    let mut tally = Tally::default();
    let (mut content, mut again) = (Vec::new(), Vec::new());
    loop {
        // One last read when all writers have ended.
        let last = over.load(Relaxed);
        tally.tried();
        let found = match File::open(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => watch(None),
            opened => {
                let mut file = opened.with_context(|| format!("cannot open {}", path.display()))?;
                content.clear();
                again.clear();
                file.read_to_end(&mut content)?;
                file.rewind()?;
                file.read_to_end(&mut again)?;
                // Who has a file open keeps it as it is: the new one is another file.
                if content == again {
                    watch(Some(&content))
                } else {
                    Some((Harm::Torn, "it changed while it was open".to_owned()))
                }
            }
        };
        if let Some((harm, what)) = found {
            tally.harmed(harm, || format!("{label}: a reader: {what}"));
        }
        if last {
            return Ok(tally);
        }
    }
}
