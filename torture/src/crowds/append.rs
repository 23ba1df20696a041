//! Writers that add lines to one file: every line is there once, whole, and in its writer's order.

use std::ffi::OsString;
use std::fs;

use anyhow::Result;
use rand::Rng;

use super::aftermath::{Place, Scene, fate, judge, shown};
use super::content::Stamp;
use super::crowd::{Job, WRITERS, Watch};
use super::plain::some_sync;
use super::{Crowd, Kills};
use crate::ground::Ground;
use crate::programs::Program;
use crate::report::{Harm, Tally};

/// How many lines a run adds.
const LINES: usize = 3;

fn line(stamp: Stamp, number: usize, length: usize) -> String {
    let body = char::from(b'a' + (stamp.writer % 26) as u8)
        .to_string()
        .repeat(length);
    format!(
        "{} {} {number} {length} {body}\n",
        stamp.writer, stamp.number
    )
}

/// Whose line it is; `None` if it is none, or not whole.
fn read(line: &str) -> Option<(Stamp, usize)> {
    let mut words = line.split(' ');
    let mut number = || words.next()?.parse::<usize>().ok();
    let (writer, run, at, length) = (number()?, number()?, number()?, number()?);
    let stamp = Stamp {
        writer: writer.try_into().ok()?,
        number: run.try_into().ok()?,
    };
    (self::line(stamp, at, length).strip_suffix('\n') == Some(line)).then_some((stamp, at))
}

/// What has been seen stays, and there is no half of a line.
fn watch() -> Watch {
    let mut before = Vec::new();
    Box::new(move |content| {
        let content = content.unwrap_or_default();
        let harm = if !content.starts_with(&before) {
            Some((
                Harm::Lost,
                format!("what was there is not there: {}", shown(content)),
            ))
        } else if content.last().is_some_and(|last| *last != b'\n') {
            Some((Harm::Torn, "half a line".to_owned()))
        } else {
            None
        };
        content.clone_into(&mut before);
        harm
    })
}

pub(super) fn crowd(
    ground: &Ground,
    program: Program,
    round: usize,
    kills: Kills,
) -> Result<Crowd> {
    let told_as = format!("-a, round {round}, {kills:?}, seed {}", ground.seed);
    let mut chance = ground.chance(&format!("append {round} {kills:?}"));
    // Every other time there is none, and they wait for one another all the same.
    let place = Place::make(ground, (round % 2 == 0).then_some(b""))?;
    let scene = Scene {
        ground,
        place,
        program,
        kills,
        told_as,
    };
    let (place, told_as) = (&scene.place, scene.told_as.as_str());
    let mut writers = Vec::new();
    for writer in 0..WRITERS {
        let mut jobs = Vec::new();
        for number in 0..ground.many(1, 2) {
            let stamp = Stamp {
                writer,
                number: u16::try_from(number)?,
            };
            let content: String = (0..LINES)
                .map(|at| {
                    line(
                        stamp,
                        at,
                        if chance.random_ratio(1, 10) {
                            5000
                        } else {
                            chance.random_range(0..100)
                        },
                    )
                })
                .collect();
            let source = format!("src.{writer}.{number}");
            let (sync, form) = (some_sync(&mut chance), chance.random_range(0..3));
            let kill = fate(&mut chance).filter(|_| kills == Kills::Some);
            let tail: &[&str] = match form {
                0 => &["-a", "o", "--", "cat", &source],
                1 => &["-a", &source, "o"],
                _ => &["-a", "o"],
            };
            let (mut words, stdin): (Vec<OsString>, bool) = match program {
                Program::Sponge => (vec!["sponge".into(), "-a".into(), "o".into()], true),
                _ => (vec![ground.binary.clone().into(), sync.into()], form == 2),
            };
            if program == Program::Atomwrite {
                words.extend(tail.iter().map(OsString::from));
            }
            fs::write(place.path(&source), &content)?;
            jobs.push(Job {
                words,
                stdin: stdin.then(|| content.into_bytes()),
                stamp,
                kill,
            });
        }
        writers.push(jobs);
    }
    let (done, seen) = scene.perform(writers, watch)?;
    let mut runs = Tally::default();
    let content = fs::read_to_string(place.path("o")).unwrap_or_default();
    let lines: Vec<Option<(Stamp, usize)>> = content.lines().map(read).collect();
    for (at, _) in lines.iter().enumerate().filter(|(_, line)| line.is_none()) {
        runs.harmed(Harm::Torn, || {
            format!("{told_as}: line {} is not whole", at + 1)
        });
    }
    for done in &done {
        let was_done = judge(done, &[], told_as, &mut runs);
        let whole: Vec<Option<(Stamp, usize)>> =
            (0..LINES).map(|at| Some((done.job.stamp, at))).collect();
        let times = lines
            .windows(LINES)
            .filter(|window| *window == whole)
            .count();
        let single = lines
            .iter()
            .flatten()
            .filter(|(stamp, _)| *stamp == done.job.stamp)
            .count();
        let is_right = single == times * LINES && (times == 1 || times == 0 && !was_done);
        if !is_right {
            let harm = if single < LINES {
                Harm::Lost
            } else {
                Harm::Torn
            };
            runs.harmed(harm, || {
                format!("{told_as}: {:?}: {single} of {LINES} lines", done.job.stamp)
            });
        }
    }
    // Each round's last write replaces all of it.
    scene.end(|_| false, runs, seen)
}
