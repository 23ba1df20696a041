//! Writers that read a number, and write the next one: none is lost where they wait for one another.

use std::ffi::OsString;
use std::fs;

use anyhow::Result;

use super::aftermath::{Place, Scene, fate, judge, shown, words_for};
use super::content::Stamp;
use super::crowd::{Job, WRITERS, Watch};
use super::plain::some_sync;
use super::{Crowd, Kills};
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

pub(super) fn crowd(
    ground: &Ground,
    program: Program,
    round: usize,
    kills: Kills,
) -> Result<Crowd> {
    let told_as = format!("--lock, round {round}, {kills:?}, seed {}", ground.seed);
    let mut chance = ground.chance(&format!("counter {round} {kills:?}"));
    let place = Place::make(
        ground,
        (round % 2 == 0 || program != Program::Atomwrite).then_some(b"0\n"),
    )?;
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
            let source = format!("src.{writer}.{number}");
            let sync = some_sync(&mut chance);
            let kill = fate(&mut chance).filter(|_| kills == Kills::Some);
            let words: Vec<OsString> = match program {
                Program::Atomwrite => {
                    let next = "echo $(( $(cat o 2>/dev/null || echo 0) + 1 ))";
                    let words = [sync, "--lock", "o", "--", "sh", "-c", next];
                    std::iter::once(ground.binary.clone().into())
                        .chain(words.map(OsString::from))
                        .collect()
                }
                other => {
                    let next =
                        format!("n=$(cat o) && echo $((n + 1)) >{source} && \"$@\" <{source}");
                    let shell = ["sh", "-c", &next, "sh"].map(OsString::from);
                    shell
                        .into_iter()
                        .chain(words_for(other, ground, &source))
                        .collect()
                }
            };
            jobs.push(Job {
                words,
                stdin: None,
                stamp,
                kill,
            });
        }
        writers.push(jobs);
    }
    let (done, seen) = scene.perform(writers, watch)?;
    let mut runs = Tally::default();
    let (mut counted, mut killed) = (0, 0);
    for done in &done {
        counted += u64::from(judge(done, &[], told_as, &mut runs));
        killed += u64::from(done.was_killed());
    }
    match fs::read(place.path("o")).map(|content| (read(&content), content)) {
        Err(_) if counted == 0 => {}
        Err(_) => runs.harmed(Harm::Missing, || {
            format!("{told_as}: at the end there is no file")
        }),
        Ok((None, content)) => runs.harmed(Harm::Torn, || {
            format!("{told_as}: at the end it is {}", shown(&content))
        }),
        Ok((Some(number), _)) => {
            for lost in number..counted {
                runs.harmed(Harm::Lost, || {
                    format!("{told_as}: {counted} runs were done, and not {}", lost + 1)
                });
            }
            if number > counted + killed {
                runs.harmed(Harm::Torn, || {
                    format!("{told_as}: {number} with {counted} runs done, {killed} killed")
                });
            }
        }
    }
    scene.end(|_| false, runs, seen)
}
