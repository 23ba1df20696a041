//! Writers with `-n`: one of them creates the file, and no other changes it.

use anyhow::Result;
use rand::Rng;

use super::aftermath::{Scene, Task, check, last, ours, shown};
use super::content::{make, read};
use super::writers::Watch;
use super::{Kills, Outcome};
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

pub(super) fn run(ground: &Ground, round: usize, kills: Kills) -> Result<Outcome> {
    let test = format!("-n, round {round}");
    let mut scene = Scene::set(ground, Program::Atomwrite, kills, &test, None)?;
    let writers = scene.writers(1, |stamp, source, chance| {
        let form = chance.random_range(0..8);
        let words: &[&str] = match form {
            0 => &["-n", "o", "--", "cat", source],
            1 => &["-n", source, "o"],
            2 => &["-n", "--validate", "cat >/dev/null", "o"],
            3 => &["-n", "--lock", "o"],
            _ => &["-n", "o"],
        };
        Task {
            words: ours(ground, chance, words),
            stamp,
            content: make(stamp, chance.random_range(0..20_000)),
            reads_stdin: form > 1,
        }
    })?;
    let (done, seen) = scene.perform(writers, |_| ("o", watch()))?;
    let label = scene.label.as_str();
    let mut runs = Tally::default();
    let (mut winners, mut killed, mut refused) = (Vec::new(), Vec::new(), 0);
    for done in &done {
        if check(done, &REFUSED, label, &mut runs) {
            winners.push(done.job.stamp);
        } else if done.was_killed() {
            killed.push(done.job.stamp);
        } else {
            refused += 1;
        }
    }
    if winners.len() > 1 {
        runs.harmed(Harm::Answer, || {
            format!("{label}: {} have made it: {winners:?}", winners.len())
        });
    }
    // Who was killed may have made it, but who was refused must have seen it.
    if !winners.is_empty() || refused > 0 {
        let made = last(&scene.place, label, &mut runs);
        let by = if winners.is_empty() {
            &killed
        } else {
            &winners
        };
        if made.is_some_and(|made| !by.contains(&made)) {
            runs.harmed(Harm::Lost, || {
                format!("{label}: {winners:?} made it, and it is {made:?}'s")
            });
        }
    }
    scene.end(|_| false, runs, seen)
}
