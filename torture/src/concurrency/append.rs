//! Writers that append lines to one file: every line is there once, complete, and in its writer's
//! order.

use std::ffi::OsString;
use std::fs;

use anyhow::Result;
use rand::Rng;

use super::aftermath::{Scene, Task, check, ours, shown};
use super::content::Stamp;
use super::writers::Watch;
use super::{Kills, Outcome, runs};
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

/// Returns the writer of a line, or `None` if the line is not complete.
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

/// Checks that what has been seen stays, and that no line is partial.
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

pub(super) fn run(
    ground: &Ground,
    program: Program,
    round: usize,
    kills: Kills,
) -> Result<Outcome> {
    // Every other time there is none, and they wait for one another all the same.
    let old: Option<&[u8]> = (round % 2 == 0).then_some(b"");
    let mut scene = Scene::set(ground, program, kills, &format!("-a, round {round}"), old)?;
    let writers = scene.writers(runs(ground, program), |stamp, source, chance| {
        let mut content = String::new();
        for at in 0..LINES {
            let length = if chance.random_ratio(1, 10) {
                5000
            } else {
                chance.random_range(0..100)
            };
            content += &line(stamp, at, length);
        }
        let form = chance.random_range(0..3);
        let words: &[&str] = match form {
            0 => &["-a", "o", "--", "cat", source],
            1 => &["-a", source, "o"],
            _ => &["-a", "o"],
        };
        let is_ours = program == Program::Atomwrite;
        Task {
            words: if is_ours {
                ours(ground, chance, words)
            } else {
                ["sponge", "-a", "o"].map(OsString::from).to_vec()
            },
            stamp,
            content: content.into(),
            reads_stdin: !is_ours || form == 2,
        }
    })?;
    let (done, seen) = scene.perform(writers, |_| ("o", watch()))?;
    let label = scene.label.as_str();
    let mut runs = Tally::default();
    let content = fs::read_to_string(scene.place.path("o")).unwrap_or_default();
    let lines: Vec<Option<(Stamp, usize)>> = content.lines().map(read).collect();
    for (at, _) in lines.iter().enumerate().filter(|(_, line)| line.is_none()) {
        runs.harmed(Harm::Torn, || {
            format!("{label}: line {} is not complete", at + 1)
        });
    }
    for done in &done {
        let was_done = check(done, &[], label, &mut runs);
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
                format!("{label}: {:?}: {single} of {LINES} lines", done.job.stamp)
            });
        }
    }
    // Each round's last write replaces all of it.
    scene.end(|_| false, runs, seen)
}
