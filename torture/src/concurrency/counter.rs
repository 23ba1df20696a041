//! Writers that read a number and write the next one: with `--lock`, no update is lost.

use std::ffi::OsString;
use std::fs;

use anyhow::Result;

use super::aftermath::{Scene, Task, check, ours, shown, words_for};
use super::writers::Watch;
use super::{Kills, Outcome, runs};
use crate::ground::Ground;
use crate::programs::Program;
use crate::report::{Harm, Tally};

fn read(content: &[u8]) -> Option<u64> {
    std::str::from_utf8(content)
        .ok()?
        .strip_suffix('\n')?
        .parse()
        .ok()
}

/// It is a number, and never a smaller one than before.
fn watch() -> Watch {
    let mut before = None;
    Box::new(
        move |content| match content.map(|content| (content, read(content))) {
            None if before.is_none() => None,
            None => Some((Harm::Missing, "no such file".to_owned())),
            Some((content, None)) => Some((Harm::Torn, shown(content))),
            Some((_, Some(number))) => {
                let older = before.replace(number).filter(|before| *before > number);
                older.map(|older| (Harm::Lost, format!("{number} after {older}")))
            }
        },
    )
}

pub(super) fn run(
    ground: &Ground,
    program: Program,
    round: usize,
    kills: Kills,
) -> Result<Outcome> {
    let old: Option<&[u8]> = (round % 2 == 0 || program != Program::Atomwrite).then_some(b"0\n");
    let test = format!("--lock, round {round}");
    let mut scene = Scene::set(ground, program, kills, &test, old)?;
    let writers = scene.writers(runs(ground, program), |stamp, source, chance| {
        let words = if program == Program::Atomwrite {
            let next = "echo $(( $(cat o 2>/dev/null || echo 0) + 1 ))";
            ours(ground, chance, &["--lock", "o", "--", "sh", "-c", next])
        } else {
            let next = format!("n=$(cat o) && echo $((n + 1)) >{source} && \"$@\" <{source}");
            let mut words = ["sh", "-c", &next, "sh"].map(OsString::from).to_vec();
            words.extend(words_for(program, ground, source));
            words
        };
        Task {
            words,
            stamp,
            content: Vec::new(),
            reads_stdin: false,
        }
    })?;
    let (done, seen) = scene.perform(writers, |_| ("o", watch()))?;
    let label = scene.label.as_str();
    let mut runs = Tally::default();
    let (mut counted, mut killed) = (0, 0);
    for done in &done {
        counted += u64::from(check(done, &[], label, &mut runs));
        killed += u64::from(done.was_killed());
    }
    match fs::read(scene.place.path("o")).map(|content| (read(&content), content)) {
        Err(_) if counted == 0 => {}
        Err(_) => runs.harmed(Harm::Missing, || {
            format!("{label}: at the end there is no file")
        }),
        Ok((None, content)) => runs.harmed(Harm::Torn, || {
            format!("{label}: at the end it is {}", shown(&content))
        }),
        Ok((Some(number), _)) => {
            for lost in number..counted {
                runs.harmed(Harm::Lost, || {
                    format!("{label}: {counted} runs were done, and not {}", lost + 1)
                });
            }
            if number > counted + killed {
                runs.harmed(Harm::Torn, || {
                    format!("{label}: {number} with {counted} runs done, {killed} killed")
                });
            }
        }
    }
    scene.end(|_| false, runs, seen)
}
