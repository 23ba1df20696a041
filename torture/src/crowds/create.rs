//! Writers with `-n`: one of them makes the file, and it stays as that one has made it.

use std::ffi::OsString;
use std::fs;

use anyhow::Result;
use rand::Rng;

use super::aftermath::{Place, Scene, fate, judge, last, shown};
use super::content::{Stamp, make, read};
use super::crowd::{Job, WRITERS, Watch};
use super::plain::some_sync;
use super::{Crowd, Kills};
use crate::ground::Ground;
use crate::programs::Program;
use crate::report::{Harm, Tally};

/// A guard has refused; the second is for a run with a command.
const REFUSED: [i32; 2] = [3, 125];

/// Once it is there, it is always the same.
fn watch() -> Watch {
    let mut first = None;
    Box::new(
        move |content| match (content.map(|content| (content, read(content))), first) {
            (None, None) => None,
            (None, Some(_)) => Some((Harm::Missing, "no such file any more".to_owned())),
            (Some((content, None)), _) => Some((Harm::Torn, shown(content))),
            (Some((_, Some(now))), Some(first)) if now != first => {
                Some((Harm::Lost, format!("{now:?}'s in place of {first:?}'s")))
            }
            (Some((_, now)), _) => {
                first = now;
                None
            }
        },
    )
}

pub(super) fn crowd(ground: &Ground, round: usize, kills: Kills) -> Result<Crowd> {
    let told_as = format!("-n, round {round}, {kills:?}, seed {}", ground.seed);
    let mut chance = ground.chance(&format!("create {round} {kills:?}"));
    let place = Place::make(ground, None)?;
    let scene = Scene {
        ground,
        place,
        program: Program::Atomwrite,
        kills,
        told_as,
    };
    let (place, told_as) = (&scene.place, scene.told_as.as_str());
    let mut writers = Vec::new();
    for writer in 0..WRITERS {
        let stamp = Stamp { writer, number: 0 };
        let content = make(stamp, chance.random_range(0..20_000));
        let source = format!("src.{writer}");
        let (sync, form) = (some_sync(&mut chance), chance.random_range(0..8));
        let kill = fate(&mut chance).filter(|_| kills == Kills::Some);
        let tail: &[&str] = match form {
            0 => &["-n", "o", "--", "cat", &source],
            1 => &["-n", &source, "o"],
            2 => &["-n", "--validate", "cat >/dev/null", "o"],
            3 => &["-n", "--lock", "o"],
            _ => &["-n", "o"],
        };
        let mut words: Vec<OsString> = vec![ground.binary.clone().into(), sync.into()];
        words.extend(tail.iter().map(OsString::from));
        fs::write(place.path(&source), &content)?;
        let job = Job {
            words,
            stdin: (form > 1).then_some(content),
            stamp,
            kill,
        };
        writers.push(vec![job]);
    }
    let (done, seen) = scene.perform(writers, watch)?;
    let mut runs = Tally::default();
    let (mut winners, mut killed, mut refused) = (Vec::new(), Vec::new(), 0);
    for done in &done {
        if judge(done, &REFUSED, told_as, &mut runs) {
            winners.push(done.job.stamp);
        } else if done.was_killed() {
            killed.push(done.job.stamp);
        } else {
            refused += 1;
        }
    }
    if winners.len() > 1 {
        runs.harmed(Harm::Answer, || {
            format!("{told_as}: {} have made it: {winners:?}", winners.len())
        });
    }
    // Who was killed may have made it, but who was refused must have seen it.
    if !winners.is_empty() || refused > 0 {
        let made = last(place, told_as, &mut runs);
        let by = if winners.is_empty() {
            &killed
        } else {
            &winners
        };
        if made.is_some_and(|made| !by.contains(&made)) {
            runs.harmed(Harm::Lost, || {
                format!("{told_as}: {winners:?} made it, and it is {made:?}'s")
            });
        }
    }
    scene.end(|_| false, runs, seen)
}
