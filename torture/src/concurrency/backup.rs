//! Writers with `-b`: each backup is complete, and with `--lock` no content is lost.
//!
//! Without `--lock`, two runs may keep the same old file and replace each other's new file. The
//! test then knows only that each backup is complete, and that there are as many numbered backups
//! as runs.

use std::collections::BTreeMap;
use std::fs;

use anyhow::Result;
use rand::Rng;

use super::aftermath::{Place, Scene, Task, before, check, last, ours, shown};
use super::content::{BEFORE, Stamp, make, read};
use super::writers::{Done, Watch};
use super::{Kills, Outcome};
use crate::ground::Ground;
use crate::programs::Program;
use crate::report::{Harm, Tally};

/// What is kept, and whether they wait for one another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Numbered,
    NumberedLocked,
    Simple,
    SimpleLocked,
}

impl Form {
    pub(super) const ALL: [Self; 4] = [
        Self::Numbered,
        Self::NumberedLocked,
        Self::Simple,
        Self::SimpleLocked,
    ];

    fn is_numbered(self) -> bool {
        matches!(self, Self::Numbered | Self::NumberedLocked)
    }

    fn words(self) -> &'static [&'static str] {
        match self {
            Self::Numbered => &["--backup=numbered", "o"],
            Self::NumberedLocked => &["--backup=numbered", "--lock", "o"],
            Self::Simple => &["--backup=simple", "o"],
            Self::SimpleLocked => &["--backup=simple", "--lock", "o"],
        }
    }
}

/// Checks that each read is complete, and that the file stays once it is there. A simple backup is
/// not there from the beginning.
fn watch(mut was_there: bool) -> Watch {
    Box::new(
        move |content| match content.map(|content| (content, read(content))) {
            None if was_there => Some((Harm::Missing, "no such file".to_owned())),
            None => None,
            Some((content, None)) => Some((Harm::Torn, shown(content))),
            Some((_, Some(_))) => {
                was_there = true;
                None
            }
        },
    )
}

pub(super) fn run(ground: &Ground, form: Form, round: usize, kills: Kills) -> Result<Outcome> {
    let test = format!("-b, {form:?}, round {round}");
    let mut scene = Scene::set(ground, Program::Atomwrite, kills, &test, Some(&before()))?;
    let writers = scene.writers(1, |stamp, _, chance| Task {
        words: ours(ground, chance, form.words()),
        stamp,
        content: make(stamp, chance.random_range(0..20_000)),
        reads_stdin: true,
    })?;
    let (done, seen) = scene.perform(writers, |reader| match reader % 2 {
        1 if !form.is_numbered() => ("o~", watch(false)),
        _ => ("o", watch(true)),
    })?;
    let (place, label) = (&scene.place, scene.label.as_str());
    let mut runs = Tally::default();
    let mut written = vec![BEFORE];
    let mut killed = Vec::new();
    for done in &done {
        if check(done, &[], label, &mut runs) {
            written.push(done.job.stamp);
        } else if done.was_killed() {
            killed.push(done.job.stamp);
        }
    }
    let kept = kept(place, form, label, &mut runs)?;
    if form.is_numbered() {
        let backups = kept.values().sum::<usize>();
        let least = written.len() - 1;
        // A killed run may have made one already. Without a lock, a run that sees another DEST
        // before its rename makes one more.
        let most = match form {
            Form::NumberedLocked => least + killed.len(),
            _ => usize::MAX,
        };
        if !(least..=most).contains(&backups) {
            runs.harmed(Harm::Lost, || {
                format!("{label}: {backups} backups, and there must be {least} to {most}")
            });
        }
    } else if kept.is_empty() && written.len() > 1 {
        runs.harmed(Harm::Lost, || format!("{label}: there is no backup"));
    }
    let now = last(place, label, &mut runs);
    if form == Form::NumberedLocked {
        every_one_once(kept, now, &written, &killed, &done, label, &mut runs);
    } else if form == Form::SimpleLocked
        && kills == Kills::None
        && now.is_some_and(|now| kept.contains_key(&now))
    {
        runs.harmed(Harm::Lost, || {
            format!("{label}: the backup is the file itself")
        });
    }
    let expected = |name: &str| name == "o~" || name.starts_with("o.~");
    scene.end(expected, runs, seen)
}

/// Returns how often each writer's content is in the backups. An incomplete backup is counted as a
/// harm.
fn kept(
    place: &Place,
    form: Form,
    label: &str,
    runs: &mut Tally,
) -> Result<BTreeMap<Stamp, usize>> {
    let mut kept = BTreeMap::new();
    for name in place.names()? {
        let is_backup = if form.is_numbered() {
            name.starts_with("o.~")
        } else {
            name == "o~"
        };
        if !is_backup {
            continue;
        }
        let content = fs::read(place.path(&name))?;
        match read(&content) {
            Some(stamp) => *kept.entry(stamp).or_default() += 1,
            None => runs.harmed(Harm::Torn, || {
                format!("{label}: {name} is {}", shown(&content))
            }),
        }
    }
    Ok(kept)
}

/// With a lock, each content that was there is in one backup or still there. Each run that was
/// killed may have made one backup more.
fn every_one_once(
    mut kept: BTreeMap<Stamp, usize>,
    now: Option<Stamp>,
    written: &[Stamp],
    killed: &[Stamp],
    done: &[Done],
    label: &str,
    runs: &mut Tally,
) {
    if let Some(now) = now {
        *kept.entry(now).or_default() += 1;
    }
    for stamp in written.iter().filter(|stamp| !kept.contains_key(stamp)) {
        runs.harmed(Harm::Lost, || {
            format!("{label}: {stamp:?}'s is in no backup")
        });
    }
    let twice: usize = kept.values().map(|times| times - 1).sum();
    if twice > killed.len() {
        runs.harmed(Harm::Answer, || {
            format!(
                "{label}: {twice} backups too many, {} were killed",
                killed.len()
            )
        });
    }
    for stamp in kept
        .keys()
        .filter(|stamp| !written.contains(stamp) && !killed.contains(stamp))
    {
        let known = done.iter().any(|done| done.job.stamp == *stamp);
        runs.harmed(Harm::Answer, || {
            format!("{label}: a backup of {stamp:?}'s, known: {known}")
        });
    }
}
