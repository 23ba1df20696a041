//! Writers of whole contents, with nothing between them: the last one wins, and nobody ever sees half of one.

use std::ffi::OsString;
use std::fs;

use anyhow::Result;
use rand::Rng;
use rand::rngs::StdRng;

use super::aftermath::{Place, Scene, before, fate, judge, last, shown, words_for};
use super::content::{BEFORE, LARGEST, SMALLEST, Stamp, make, read};
use super::crowd::{Job, READERS, WRITERS, Watch, Writer, perform};
use super::{Crowd, Kills};
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
    /// The temporary names of the one are files, those of the other directories.
    StdinAndValidate,
    /// Each writer in a form of its own.
    Mixed,
}

impl Form {
    pub(super) const ALL: [Self; 12] = [
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
        Self::StdinAndValidate,
        Self::Mixed,
    ];

    fn has_unnamed_files(self) -> bool {
        !matches!(self, Self::Named | Self::NamedValidate)
    }

    fn words(self, ground: &Ground, source: &str, sync: &str) -> Vec<OsString> {
        let tail: &[&str] = match self {
            Self::Stdin | Self::Named | Self::StdinAndValidate | Self::Mixed => &["o"],
            Self::Compare => &["-C", "o"],
            Self::Source => &[source, "o"],
            Self::Command => &["o", "--", "cat", source],
            Self::Lock => &["--lock", "o"],
            Self::Validate | Self::NamedValidate => &["--validate", "cat >/dev/null", "o"],
            Self::ThroughALink => &["src.link"],
            Self::Backup => &["-b", "o"],
        };
        let mut words = vec![ground.binary.clone().into(), sync.into()];
        words.extend(tail.iter().map(OsString::from));
        words
    }

    fn reads_stdin(self) -> bool {
        !matches!(self, Self::Source | Self::Command)
    }
}

/// How long the disk is waited for: mostly not, since that is not what is tested here.
pub(super) fn some_sync(chance: &mut StdRng) -> &'static str {
    match chance.random_range(0..20) {
        0 => "--sync=full",
        1 => "--sync=file",
        _ => "--sync=none",
    }
}

/// A size of which the small ones are as likely as the large ones.
fn some_size(chance: &mut StdRng) -> usize {
    let most = chance.random_range(SMALLEST.ilog2()..=LARGEST.ilog2());
    chance.random_range(SMALLEST..=(2 << most).min(LARGEST))
}

/// Each read is one whole content, and there always is one.
fn watch() -> Watch {
    Box::new(|content| match content {
        None => Some((Harm::Missing, "no such file".to_owned())),
        Some(content) if read(content).is_none() => Some((Harm::Torn, shown(content))),
        Some(_) => None,
    })
}

/// One crowd; gives what it did, what the readers saw, and the names with random letters.
pub(super) fn crowd(
    ground: &Ground,
    program: Program,
    form: Form,
    round: usize,
    kills: Kills,
) -> Result<Crowd> {
    let told_as = format!("{form:?}, round {round}, {kills:?}, seed {}", ground.seed);
    let mut chance = ground.chance(&format!("crowd {form:?} {round} {kills:?}"));
    let place = Place::make(ground, Some(&before()))?;
    std::os::unix::fs::symlink("o", place.path("src.link"))?;
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
        let own = match form {
            Form::Mixed => Form::ALL[chance.random_range(0..Form::ALL.len() - 2)],
            Form::StdinAndValidate if writer % 2 == 0 => Form::Validate,
            Form::StdinAndValidate => Form::Stdin,
            form => form,
        };
        let mut jobs = Vec::new();
        for number in 0..u16::try_from(ground.many(1, 2))? {
            // So that some find what they would write.
            let stamp = match own {
                Form::Compare => Stamp {
                    writer: writer % 4,
                    number: 0,
                },
                _ => Stamp { writer, number },
            };
            let size = match own {
                Form::Compare => 1000 * usize::from(stamp.writer + 1),
                _ => some_size(&mut chance),
            };
            let content = make(stamp, size);
            let source = format!("src.{writer}.{number}");
            let sync = some_sync(&mut chance);
            let kill = fate(&mut chance).filter(|_| kills == Kills::Some);
            let (words, reads_stdin) = match program {
                Program::Atomwrite => (own.words(ground, &source, sync), own.reads_stdin()),
                other => (words_for(other, ground, &source), other.reads_stdin()),
            };
            let stdin = if reads_stdin {
                Some(content)
            } else {
                fs::write(place.path(&source), content)?;
                None
            };
            jobs.push(Job {
                words,
                stdin,
                stamp,
                kill,
            });
        }
        writers.push(Writer {
            jobs,
            unnamed_files: own.has_unnamed_files(),
        });
    }
    let readers = (0..READERS).map(|_| ("o", watch())).collect();
    let (done, seen) = perform(&place.directory, writers, readers, told_as)?;
    let mut runs = Tally::default();
    let mut possible = Vec::new();
    let mut somebody_did = false;
    for done in &done {
        let was_done = judge(done, &[], told_as, &mut runs);
        somebody_did |= was_done;
        if was_done || done.was_killed() {
            possible.push(done.job.stamp);
        }
    }
    if !somebody_did {
        possible.push(BEFORE);
    }
    if let Some(last) = last(place, told_as, &mut runs) {
        if !possible.contains(&last) {
            runs.harmed(Harm::Lost, || {
                format!("{told_as}: at the end it is {last:?}'s, which was not done last")
            });
        }
    }
    let expected = |name: &str| name == "o~" && matches!(form, Form::Backup | Form::Mixed);
    scene.end(expected, runs, seen)
}
