//! Writers of many files: each run writes the same names into one directory.
//!
//! Invariant: a reader sees each file complete and under its own name. The files of one run do not
//! switch together, so one file may be of this run and the next of another. With `-n`, all files
//! are of the same run. The staging directory of a killed run stays, and is private.

use std::ffi::OsString;
use std::fs;

use anyhow::{Context, Result};
use rand::Rng;
use rand::rngs::StdRng;
use rustix::process::Signal;

use super::aftermath::{Place, Scene, check, fate, litter, once_more, ours, shown};
use super::content::{SMALLEST, Stamp, make, read};
use super::writers::{Done, Job, Kill, Watch, Writer};
use super::{Kills, Outcome};
use crate::ground::Ground;
use crate::programs::{Program, atomwrite, derived, is_temporary};
use crate::report::{Harm, Tally};

/// With the backups, more than one per reader.
const NAMES: [&str; 5] = ["o0", "o1", "o2", "o3", "o4"];
const BACKUPS: [&str; 5] = ["o0~", "o1~", "o2~", "o3~", "o4~"];

const WRITERS: u16 = 60;

/// A guard has refused.
const REFUSED: [i32; 1] = [3];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Plain,
    /// Every other writer writes a single one of the files.
    BesideSingle,
    NoClobber,
    Backup,
}

impl Form {
    pub(super) const ALL: [Self; 4] = [
        Self::Plain,
        Self::BesideSingle,
        Self::NoClobber,
        Self::Backup,
    ];

    pub(super) fn test(self, kills: Kills) -> &'static str {
        match (self, kills) {
            (Self::Plain, Kills::None) => "60 writers with `-t` of the same files",
            (Self::Plain, Kills::Some) => {
                "60 writers with `-t` of the same files, SIGKILL and SIGTERM among them"
            }
            (Self::BesideSingle, _) => "Writers with `-t` beside writers of single files",
            (Self::NoClobber, _) => "Writers with `-t -n`: one wins, with all files",
            (Self::Backup, _) => {
                "Writers with `-t -b`, SIGTERM among them: every backup is complete"
            }
        }
    }

    /// Without SIGKILL.
    fn leaves_nothing(self) -> bool {
        self == Self::Backup
    }

    fn options(self) -> &'static [&'static str] {
        match self {
            Self::Plain | Self::BesideSingle => &[],
            Self::NoClobber => &["-n"],
            Self::Backup => &["-b"],
        }
    }
}

/// The content also names its file.
fn stamp(writer: u16, run: u16, at: u16) -> Stamp {
    Stamp {
        writer,
        number: run * NAMES_NUMBER + at,
    }
}

const NAMES_NUMBER: u16 = 5;
const _: () = assert!(NAMES.len() == NAMES_NUMBER as usize);

/// Neither has a writer.
const BEFORE: (u16, u16) = (u16::MAX, 0);
const AFTER: (u16, u16) = (u16::MAX, 1);

/// Returns the writer, if the content is complete and of this name.
fn read_of(content: &[u8], at: u16) -> Option<Stamp> {
    read(content).filter(|stamp| stamp.number % NAMES_NUMBER == at)
}

/// Checks that each read is complete, and that the file stays once it is there; with `-n`, also
/// that it stays the same.
fn watch(at: u16, mut was_there: bool, form: Form) -> Watch {
    let mut first = None;
    Box::new(move |content| {
        let Some(content) = content else {
            return was_there.then(|| (Harm::Missing, "no such file".to_owned()));
        };
        let Some(now) = read_of(content, at) else {
            return Some((Harm::Torn, shown(content)));
        };
        was_there = true;
        let first = *first.get_or_insert(now);
        (form == Form::NoClobber && first != now)
            .then(|| (Harm::Lost, format!("{now:?}'s in place of {first:?}'s")))
    })
}

/// Makes the sources of a run of `-t`, and returns the run.
fn job_of_set(
    ground: &Ground,
    place: &Place,
    (writer, run): (u16, u16),
    options: &[&str],
    chance: &mut StdRng,
) -> Result<Job> {
    let mut words = ours(ground, chance, &["-t", "."]);
    words.extend(options.iter().map(OsString::from));
    let sources = format!("src.{writer}.{run}");
    fs::create_dir(place.path(&sources)).context("cannot make a directory for sources")?;
    for (at, name) in (0..).zip(NAMES) {
        let source = format!("{sources}/{name}");
        let size = chance.random_range(SMALLEST..20_000);
        fs::write(place.path(&source), make(stamp(writer, run, at), size))?;
        words.push(source.into());
    }
    Ok(Job {
        words,
        stdin: None,
        stamp: stamp(writer, run, 0),
        kill: None,
    })
}

/// Returns a run that writes one of the files.
fn job_of_one(ground: &Ground, (writer, run): (u16, u16), chance: &mut StdRng) -> Job {
    let at = chance.random_range(0..NAMES_NUMBER);
    let stamp = stamp(writer, run, at);
    Job {
        words: ours(ground, chance, &[NAMES[usize::from(at)]]),
        stdin: Some(make(stamp, chance.random_range(SMALLEST..20_000))),
        stamp,
        kill: None,
    }
}

/// Half of the victims get a SIGTERM, which leaves nothing; where all of them do, that can be seen.
fn some_fate(form: Form, chance: &mut StdRng) -> Option<Kill> {
    let signal = match chance.random_range(0..2) {
        0 if !form.leaves_nothing() => Signal::KILL,
        _ => Signal::TERM,
    };
    fate(chance).map(|kill| Kill { signal, ..kill })
}

pub(super) fn run(ground: &Ground, form: Form, round: usize, kills: Kills) -> Result<Outcome> {
    let test = format!("-t, {form:?}, round {round}");
    let mut scene = Scene::set(ground, Program::Atomwrite, kills, &test, None)?;
    let Scene { place, chance, .. } = &mut scene;
    let is_there = form != Form::NoClobber;
    if is_there {
        for (at, name) in (0..).zip(NAMES) {
            let content = make(stamp(BEFORE.0, BEFORE.1, at), SMALLEST);
            fs::write(place.path(name), content)?;
        }
    }
    let runs = match form {
        // The first one creates it, all others only check.
        Form::NoClobber => 1,
        _ => ground.many(2, 3),
    };
    let mut writers = Vec::new();
    for writer in 0..WRITERS {
        let mut jobs = Vec::new();
        for run in 0..u16::try_from(runs)? {
            let run = (writer, run);
            let mut job = if form == Form::BesideSingle && writer % 2 == 0 {
                job_of_one(ground, run, chance)
            } else {
                job_of_set(ground, place, run, form.options(), chance)?
            };
            job.kill = some_fate(form, chance).filter(|_| kills == Kills::Some);
            jobs.push(job);
        }
        writers.push(Writer {
            jobs,
            unnamed_files: writer % 4 > 1,
        });
    }
    let (done, seen) = scene.perform(writers, |reader| {
        let at = reader % NAMES.len();
        let number = u16::try_from(at).unwrap_or_default();
        match reader / NAMES.len() {
            1 if form == Form::Backup => (BACKUPS[at], watch(number, false, form)),
            _ => (NAMES[at], watch(number, is_there, form)),
        }
    })?;
    let label = scene.label.as_str();
    let mut runs = Tally::default();
    let allowed: &[i32] = if is_there { &[] } else { &REFUSED };
    let (mut winners, mut killed) = (Vec::new(), Vec::new());
    for done in &done {
        if check(done, allowed, label, &mut runs) {
            winners.push(done);
        } else if done.was_killed() {
            killed.push(done);
        }
    }
    if form == Form::NoClobber && winners.len() > 1 {
        runs.harmed(Harm::Answer, || {
            format!("{label}: {} have made the files", winners.len())
        });
    }
    check_end(&scene.place, form, (&winners, &killed), label, &mut runs);
    let may_leave = kills == Kills::Some && !form.leaves_nothing();
    let random = clear_up(ground, &mut scene, may_leave, &mut runs)?;
    Ok(Outcome { runs, seen, random })
}

/// Whose each file is, and each backup.
fn check_end(
    place: &Place,
    form: Form,
    (winners, killed): (&[&Done], &[&Done]),
    label: &str,
    runs: &mut Tally,
) {
    // A run that was killed after its first file may have made them, but no other run.
    let by: Vec<&Done> = match form {
        Form::NoClobber if !winners.is_empty() => winners.to_vec(),
        _ => winners.iter().chain(killed).copied().collect(),
    };
    let writes = |done: &Done, at: u16, stamp: Stamp| {
        let Stamp { writer, number } = done.job.stamp;
        let first = number - number % NAMES_NUMBER;
        let is_single = done.job.stdin.is_some();
        writer == stamp.writer
            && first + at == stamp.number
            && (!is_single || number == stamp.number)
    };
    for (at, name) in (0..).zip(NAMES) {
        let found = fs::read(place.path(name)).ok();
        let Some(content) = found else {
            if form != Form::NoClobber || !winners.is_empty() {
                runs.harmed(Harm::Missing, || {
                    format!("{label}: at the end there is no {name}")
                });
            }
            continue;
        };
        let Some(stamp) = read_of(&content, at) else {
            runs.harmed(Harm::Torn, || {
                format!("{label}: at the end {name} is {}", shown(&content))
            });
            continue;
        };
        let is_old = winners.is_empty() && stamp.writer == BEFORE.0;
        if !is_old && !by.iter().any(|done| writes(done, at, stamp)) {
            runs.harmed(Harm::Lost, || {
                format!("{label}: at the end {name} is {stamp:?}'s, which was not done")
            });
        }
    }
    for (at, name) in (0..).zip(BACKUPS) {
        match fs::read(place.path(name)) {
            Ok(content) if read_of(&content, at).is_none() => runs.harmed(Harm::Torn, || {
                format!("{label}: {name} is {}", shown(&content))
            }),
            Err(_) if form == Form::Backup && !winners.is_empty() => {
                runs.harmed(Harm::Missing, || format!("{label}: there is no {name}"));
            }
            _ => {}
        }
    }
}

/// One more run of the same set, and one of each file whose derived name is there. Then only random
/// names of killed runs are left.
fn clear_up(
    ground: &Ground,
    scene: &mut Scene<'_>,
    may_leave: bool,
    runs: &mut Tally,
) -> Result<usize> {
    let (place, label) = (&scene.place, scene.label.as_str());
    let expected = |name: &str| NAMES.contains(&name) || BACKUPS.contains(&name);
    if !may_leave {
        let label = format!("{label}: before one more run");
        litter(place, expected, |_| false, &label, runs)?;
    }
    let job = job_of_set(ground, place, AFTER, &[], &mut scene.chance)?;
    if once_more(place, job, label, runs)? {
        for (at, name) in (0..).zip(NAMES) {
            let content = fs::read(place.path(name)).unwrap_or_default();
            if read(&content) != Some(stamp(AFTER.0, AFTER.1, at)) {
                runs.harmed(Harm::Lost, || {
                    format!("{label}: one more run: no new {name}")
                });
            }
        }
    }
    for name in NAMES {
        if place.path(&derived(name)).exists() {
            let job = Job {
                words: atomwrite(ground, [name]),
                stdin: Some(make(stamp(AFTER.0, AFTER.1, 0), SMALLEST)),
                stamp: stamp(AFTER.0, AFTER.1, 0),
                kill: None,
            };
            once_more(place, job, label, runs)?;
        }
    }
    let is_random = |name: &str| {
        is_temporary(name.as_ref()) && !NAMES.into_iter().any(|one| derived(one) == name)
    };
    let may_stay = |name: &str| may_leave && is_random(name);
    let label = format!("{label}: after one more run");
    litter(place, expected, may_stay, &label, runs)
}
