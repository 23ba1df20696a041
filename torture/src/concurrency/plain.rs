//! Writers that replace one file without a lock: the last one wins, and every read is complete.

use anyhow::Result;
use rand::Rng;
use rand::rngs::StdRng;

use super::aftermath::{Scene, Task, before, check, last, ours, shown, words_for};
use super::content::{BEFORE, LARGEST, SMALLEST, make, read};
use super::writers::{WRITERS, Watch};
use super::{Kills, Outcome, runs};
use crate::ground::Ground;
use crate::programs::Program;
use crate::report::{Harm, Tally};

/// A way to call atomwrite.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Stdin,
    Compare,
    Source,
    Command,
    Lock,
    Validate,
    ThroughALink,
    Backup,
    Named,
    NamedValidate,
    /// Each writer in a form of its own.
    Mixed,
}

impl Form {
    pub(super) const ALL: [Self; 11] = [
        Self::Stdin,
        Self::Compare,
        Self::Source,
        Self::Command,
        Self::Lock,
        Self::Validate,
        Self::ThroughALink,
        Self::Backup,
        Self::Named,
        Self::NamedValidate,
        Self::Mixed,
    ];

    fn has_unnamed_files(self) -> bool {
        !matches!(self, Self::Named | Self::NamedValidate)
    }

    fn words(self, source: &str) -> Vec<&str> {
        match self {
            Self::Stdin | Self::Named | Self::Mixed => vec!["o"],
            Self::Compare => vec!["-C", "o"],
            Self::Source => vec![source, "o"],
            Self::Command => vec!["o", "--", "cat", source],
            Self::Lock => vec!["--lock", "o"],
            Self::Validate | Self::NamedValidate => vec!["--validate", "cat >/dev/null", "o"],
            Self::ThroughALink => vec!["src.link"],
            Self::Backup => vec!["-b", "o"],
        }
    }

    fn reads_stdin(self) -> bool {
        !matches!(self, Self::Source | Self::Command)
    }
}

/// Returns a size of which the small ones are as likely as the large ones.
fn some_size(chance: &mut StdRng) -> usize {
    let most = chance.random_range(SMALLEST.ilog2()..=LARGEST.ilog2());
    chance.random_range(SMALLEST..=(2 << most).min(LARGEST))
}

/// Checks that each read is one complete content, and that the file is always there.
fn watch() -> Watch {
    Box::new(|content| match content {
        None => Some((Harm::Missing, "no such file".to_owned())),
        Some(content) if read(content).is_none() => Some((Harm::Torn, shown(content))),
        Some(_) => None,
    })
}

/// Runs one group of writers. Returns what they did, what the readers saw, and how many random
/// names stay.
pub(super) fn run(
    ground: &Ground,
    program: Program,
    form: Form,
    round: usize,
    kills: Kills,
) -> Result<Outcome> {
    let test = format!("{form:?}, round {round}");
    let mut scene = Scene::set(ground, program, kills, &test, Some(&before()))?;
    std::os::unix::fs::symlink("o", scene.place.path("src.link"))?;
    let forms: Vec<Form> = (0..WRITERS)
        .map(|_| match form {
            Form::Mixed => Form::ALL[scene.chance.random_range(0..Form::ALL.len() - 1)],
            form => form,
        })
        .collect();
    let mut writers = scene.writers(runs(ground, program), |stamp, source, chance| {
        let own = forms[usize::from(stamp.writer)];
        let mut size = some_size(chance);
        let mut stamp = stamp;
        if own == Form::Compare {
            // So that some find what they would write.
            (stamp.writer, stamp.number) = (stamp.writer % 4, 0);
            size = 1000 * usize::from(stamp.writer + 1);
        }
        let is_ours = program == Program::Atomwrite;
        Task {
            words: if is_ours {
                ours(ground, chance, &own.words(source))
            } else {
                words_for(program, ground, source)
            },
            stamp,
            content: make(stamp, size),
            reads_stdin: if is_ours {
                own.reads_stdin()
            } else {
                program.reads_stdin()
            },
        }
    })?;
    for (writer, form) in writers.iter_mut().zip(forms) {
        writer.unnamed_files = form.has_unnamed_files();
    }
    let (done, seen) = scene.perform(writers, |_| ("o", watch()))?;
    let (place, label) = (&scene.place, scene.label.as_str());
    let mut runs = Tally::default();
    let mut possible = Vec::new();
    let mut one_has_written = false;
    for done in &done {
        let was_done = check(done, &[], label, &mut runs);
        one_has_written |= was_done;
        if was_done || done.was_killed() {
            possible.push(done.job.stamp);
        }
    }
    if !one_has_written {
        possible.push(BEFORE);
    }
    if let Some(last) = last(place, label, &mut runs) {
        if !possible.contains(&last) {
            runs.harmed(Harm::Lost, || {
                format!("{label}: at the end it is {last:?}'s, which was not done last")
            });
        }
    }
    let expected = |name: &str| name == "o~" && matches!(form, Form::Backup | Form::Mixed);
    scene.end(expected, runs, seen)
}
