//! What follows when all writers have ended: one more write, then the check of what stays.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rand::Rng;
use rand::rngs::StdRng;
use rustix::process::Signal;
use tempfile::TempDir;

use super::content::{AFTER, BEFORE, SMALLEST, Stamp, make, read};
use super::writers::{Done, Job, Kill, Moment, READERS, WRITERS, Watch, Writer, perform};
use super::{Kills, Outcome};
use crate::ground::Ground;
use crate::programs::{Program, atomwrite, derived, is_temporary, lock_file};
use crate::report::{Harm, Tally};

/// A directory for the writers, and one beside it for temporary files.
#[derive(Debug)]
pub(crate) struct Place {
    _above: TempDir,
    pub(crate) directory: PathBuf,
    tmp: PathBuf,
}

impl Place {
    /// Creates the file `o` if there is an old content.
    pub(crate) fn make(ground: &Ground, old: Option<&[u8]>) -> Result<Self> {
        let above = ground.directory("writers.")?;
        let (directory, tmp) = (above.path().join("work"), above.path().join("tmp"));
        fs::create_dir(&directory)?;
        fs::create_dir(&tmp)?;
        if let Some(old) = old {
            fs::write(directory.join("o"), old)?;
        }
        Ok(Self {
            _above: above,
            directory,
            tmp,
        })
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    pub(crate) fn names(&self) -> Result<Vec<String>> {
        names(&self.directory)
    }
}

fn names(directory: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(directory).context("cannot read the directory")? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

/// Returns what a run is, in an example: its writer, its number, its words, when it was to be
/// killed.
pub(crate) fn summary(done: &Done) -> String {
    let Stamp { writer, number } = done.job.stamp;
    let kill = done
        .job
        .kill
        .map(|kill| format!(", to get {:?} {:?}", kill.signal, kill.moment))
        .unwrap_or_default();
    let words: Vec<_> = done.job.words.iter().skip(1).collect();
    format!(
        "writer {writer}, run {number}, {words:?}{kill}: {}",
        done.ended.summary()
    )
}

/// For a fourth of all runs, a moment for a SIGKILL: mostly a time of which short ones are as
/// likely as long ones.
pub(crate) fn fate(chance: &mut StdRng) -> Option<Kill> {
    let is_victim = chance.random_ratio(1, 4);
    let at_name = chance.random_ratio(1, 4);
    let doubled = chance.random_range(6..18);
    let micros = chance.random_range(1 << doubled..2 << doubled);
    let moment = if at_name {
        Moment::AtName
    } else {
        Moment::After(std::time::Duration::from_micros(micros))
    };
    let signal = Signal::KILL;
    is_victim.then_some(Kill { moment, signal })
}

/// Counts a run that hung, or that failed although only the other writers were in its way. Returns
/// whether it wrote.
pub(crate) fn check(done: &Done, allowed: &[i32], label: &str, tally: &mut Tally) -> bool {
    tally.tried();
    match done.ended.code() {
        Some(0) => return true,
        Some(code) if allowed.contains(&code) => {}
        None if done.was_killed() => {}
        _ => {
            let harm = if done.ended.status.is_none() {
                Harm::Hung
            } else {
                Harm::Answer
            };
            tally.harmed(harm, || format!("{label}: {}", summary(done)));
        }
    }
    false
}

/// Returns the words of a program that writes `o`, with a file of its own to read, if it reads one.
pub(crate) fn words_for(program: Program, ground: &Ground, source: &str) -> Vec<OsString> {
    let own = |word: OsString| if word == "src" { source.into() } else { word };
    program.words(ground).into_iter().map(own).collect()
}

/// Returns the words of a run of atomwrite. The disk is mostly not waited for, because that is not
/// what is tested here.
pub(crate) fn ours(ground: &Ground, chance: &mut StdRng, words: &[&str]) -> Vec<OsString> {
    let sync = match chance.random_range(0..20) {
        0 => "--sync=full",
        1 => "--sync=file",
        _ => "--sync=none",
    };
    atomwrite(ground, [sync].iter().chain(words))
}

/// What one run does.
#[derive(Debug)]
pub(crate) struct Task {
    pub(crate) words: Vec<OsString>,
    pub(crate) stamp: Stamp,
    pub(crate) content: Vec<u8>,
    /// Or its source.
    pub(crate) reads_stdin: bool,
}

/// What all groups of writers have in common.
#[derive(Debug)]
pub(crate) struct Scene<'a> {
    ground: &'a Ground,
    program: Program,
    kills: Kills,
    pub(crate) place: Place,
    /// Begins every example.
    pub(crate) label: String,
    pub(crate) chance: StdRng,
}

impl<'a> Scene<'a> {
    /// Creates the file `o` if there is an old content.
    pub(crate) fn set(
        ground: &'a Ground,
        program: Program,
        kills: Kills,
        test: &str,
        old: Option<&[u8]>,
    ) -> Result<Self> {
        let label = format!("{test}, {kills:?}, seed {}", ground.seed);
        Ok(Self {
            ground,
            program,
            kills,
            place: Place::make(ground, old)?,
            chance: ground.chance(&label),
            label,
        })
    }

    /// Returns all writers, each with its runs. `task` says what a run does, given whose it is and
    /// where its source will be. Every fourth writer has no O_TMPFILE.
    pub(crate) fn writers(
        &mut self,
        runs: usize,
        mut task: impl FnMut(Stamp, &str, &mut StdRng) -> Task,
    ) -> Result<Vec<Writer>> {
        let mut writers = Vec::new();
        for writer in 0..WRITERS {
            let mut jobs = Vec::new();
            for number in 0..u16::try_from(runs)? {
                let source = format!("src.{writer}.{number}");
                let task = task(Stamp { writer, number }, &source, &mut self.chance);
                if !task.reads_stdin {
                    fs::write(self.place.path(&source), &task.content)?;
                }
                jobs.push(Job {
                    words: task.words,
                    stdin: task.reads_stdin.then_some(task.content),
                    stamp: task.stamp,
                    kill: fate(&mut self.chance).filter(|_| self.kills == Kills::Some),
                });
            }
            writers.push(Writer {
                jobs,
                unnamed_files: writer % 4 > 0,
            });
        }
        Ok(writers)
    }

    /// Runs all writers. `reader` returns the file of a reader, and its check.
    pub(crate) fn perform(
        &self,
        writers: Vec<Writer>,
        reader: impl Fn(usize) -> (&'static str, Watch),
    ) -> Result<(Vec<Done>, Tally)> {
        let readers = (0..READERS).map(reader).collect();
        perform(&self.place.directory, writers, readers, &self.label)
    }

    /// Writes once more, and checks what stays.
    pub(crate) fn end(
        &self,
        expected: impl Fn(&str) -> bool,
        mut runs: Tally,
        seen: Tally,
    ) -> Result<Outcome> {
        let random = clear_up(
            self.ground,
            &self.place,
            self.program,
            self.kills == Kills::Some,
            expected,
            &self.label,
            &mut runs,
        )?;
        Ok(Outcome { runs, seen, random })
    }
}

/// One more write of `o`, and then: is there anything that is not `expected`?
///
/// Returns how many random temporary names there are. The manual says that a killed run can leave
/// them, and that atomwrite does not remove them; without a kill they are litter as all else. A
/// stale lock file goes with the next run that locks.
fn clear_up(
    ground: &Ground,
    place: &Place,
    program: Program,
    killed: bool,
    expected: impl Fn(&str) -> bool,
    label: &str,
    tally: &mut Tally,
) -> Result<usize> {
    let expected = &|name: &str| name == "o" || expected(name);
    let derived = derived("o");
    let may_stay = |name: &str| {
        killed && program == Program::Atomwrite && is_temporary(Path::new(name)) && name != derived
    };
    if !killed {
        let label = format!("{label}: before one more write");
        litter(place, expected, may_stay, &label, tally)?;
    }
    let content = make(AFTER, 1000);
    fs::write(place.path("src"), &content)?;
    let is_locked = place.path(&lock_file("o")).exists();
    let job = Job {
        words: match program {
            Program::Atomwrite if is_locked => atomwrite(ground, ["--lock", "o"]),
            _ => program.words(ground),
        },
        stdin: program.reads_stdin().then(|| content.clone()),
        stamp: AFTER,
        kill: None,
    };
    if once_more(place, job, label, tally)?
        && fs::read(place.path("o")).ok().as_ref() != Some(&content)
    {
        tally.harmed(Harm::Lost, || {
            format!("{label}: one more write: it is not there")
        });
    }
    let label = format!("{label}: after one more write");
    litter(place, expected, may_stay, &label, tally)
}

/// Writes once more, alone. Returns whether that succeeded.
pub(crate) fn once_more(place: &Place, job: Job, label: &str, tally: &mut Tally) -> Result<bool> {
    let writer = Writer {
        jobs: vec![job],
        unnamed_files: true,
    };
    let label = format!("{label}: one more write");
    let (done, _) = perform(&place.directory, vec![writer], Vec::new(), &label)?;
    Ok(done.iter().all(|done| check(done, &[], &label, tally)))
}

/// Counts names that must not be there. Returns how many there are that may stay; a directory among
/// them must be private.
pub(crate) fn litter(
    place: &Place,
    expected: impl Fn(&str) -> bool,
    may_stay: impl Fn(&str) -> bool,
    label: &str,
    tally: &mut Tally,
) -> Result<usize> {
    let mut staying = 0;
    let in_directory = names(&place.directory)?;
    let unexpected = in_directory
        .iter()
        .filter(|name| !name.starts_with("src") && !expected(name));
    for name in unexpected.chain(&names(&place.tmp)?) {
        if may_stay(name) {
            staying += 1;
            // One in the other directory is a file.
            let mode = fs::symlink_metadata(place.path(name)).map_or(0, |found| found.mode());
            if mode & libc::S_IFMT == libc::S_IFDIR && mode & 0o7777 != 0o700 {
                tally.harmed(Harm::Attributes, || {
                    format!("{label}: {name} has mode {mode:o}")
                });
            }
        } else {
            tally.harmed(Harm::Litter, || format!("{label}: {name}"));
        }
    }
    Ok(staying)
}

/// Counts an `o` that is missing or incomplete. Returns its writer.
pub(crate) fn last(place: &Place, label: &str, tally: &mut Tally) -> Option<Stamp> {
    let Ok(content) = fs::read(place.path("o")) else {
        tally.harmed(Harm::Missing, || {
            format!("{label}: at the end there is no file")
        });
        return None;
    };
    let stamp = read(&content);
    if stamp.is_none() {
        tally.harmed(Harm::Torn, || {
            format!("{label}: at the end it is {}", shown(&content))
        });
    }
    stamp
}

/// Describes incomplete content, for an example.
pub(crate) fn shown(content: &[u8]) -> String {
    let head: Vec<String> = content
        .iter()
        .take(16)
        .map(|byte| format!("{byte:02x}"))
        .collect();
    format!("{} bytes, {}", content.len(), head.join(" "))
}

/// Returns what is there before.
pub(crate) fn before() -> Vec<u8> {
    make(BEFORE, SMALLEST)
}
