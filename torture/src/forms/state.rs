//! The state of DEST after a run, and the harm that it is.

use std::path::{Path, PathBuf};

use anyhow::Result;

use super::{FileState, Form, Harms, Kit, NewName, Old, Scene, Seen};
use crate::ground::Ground;
use crate::programs::Program;
use crate::report::Harm;
use crate::tracer::End;

/// What DEST is after a run, by its content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// Missing, if it was.
    Old,
    New,
    Missing,
    Torn,
}

impl State {
    fn of(old: Option<&FileState>, now: Option<&FileState>, new: &[u8]) -> Self {
        match (old, now) {
            (None, None) => Self::Old,
            (Some(_), None) => Self::Missing,
            (Some(old), Some(now)) if old.is_same_as(now) => Self::Old,
            (_, Some(now)) if now.is_file() && now.content == new => Self::New,
            (Some(old), Some(now))
                if old.is_file() == now.is_file() && old.content == now.content =>
            {
                Self::Old
            }
            _ => Self::Torn,
        }
    }
}

impl Form {
    pub(crate) fn state(&self, kit: &Kit, before: &Seen, after: &Seen) -> State {
        let (old, now) = (before.destination.as_ref(), after.destination.as_ref());
        State::of(old, now, &self.new_content(kit))
    }

    /// Returns the states of all files that the run writes, DEST's first. One that had the content
    /// already is new.
    pub(crate) fn states(&self, kit: &Kit, before: &Seen, after: &Seen) -> Vec<State> {
        let new = self.new_content(kit);
        let first = self.state(kit, before, after);
        let first = if self.is_done(first) {
            State::New
        } else {
            first
        };
        let pairs = before.also.iter().zip(&after.also);
        let others = pairs.zip(self.also).map(|((old, now), file)| {
            match State::of(old.as_ref(), now.as_ref(), &new) {
                State::Old if file.old == Old::Equal => State::New,
                state => state,
            }
        });
        std::iter::once(first).chain(others).collect()
    }

    /// Returns what is wrong with the other files that the run writes. They are renamed in their
    /// order, so that none is new before an old one.
    pub(crate) fn harms_to_all(&self, kit: &Kit, before: &Seen, after: &Seen) -> Harms {
        let mut harms = Harms::new();
        let states = self.states(kit, before, after);
        for (at, file) in self.also.iter().enumerate() {
            let name = file.name;
            let (old, now) = (&before.also[at], &after.also[at]);
            let found = now.as_ref().map(FileState::appearance);
            match states[at + 1] {
                State::Torn => harms.push((Harm::Torn, format!("{name} is torn"))),
                State::Missing => harms.push((Harm::Missing, format!("{name} is missing"))),
                State::Old if !self.is_unchanged(old.as_ref(), now.as_ref()) => {
                    harms.push((Harm::Attributes, format!("the old {name} has changed")));
                }
                State::New if found != Some(kit.appearance(file.old.appearance_of_new())) => {
                    harms.push((Harm::Attributes, format!("the new {name} is {found:?}")));
                }
                State::Old | State::New => {}
            }
        }
        let renamed = self.states_of_renamed(kit, before, after);
        if !renamed.is_sorted_by_key(|state| *state != State::New) {
            harms.push((Harm::Answer, format!("out of order: {renamed:?}")));
        }
        harms
    }

    /// Returns the states of those that did not have the content already.
    pub(crate) fn states_of_renamed(&self, kit: &Kit, before: &Seen, after: &Seen) -> Vec<State> {
        let olds = std::iter::once(self.old).chain(self.also.iter().map(|file| file.old));
        let states = olds.zip(self.states(kit, before, after));
        states
            .filter(|(old, _)| *old != Old::Equal)
            .map(|(_, state)| state)
            .collect()
    }

    /// Returns whether a file is as it was, to the time of its last change. The link that a backup
    /// is may have come and gone.
    pub(crate) fn is_unchanged(&self, old: Option<&FileState>, now: Option<&FileState>) -> bool {
        match (old, now) {
            (Some(old), Some(now)) if self.backup.is_some() => old.is_but_for_links(now),
            _ => old == now,
        }
    }

    /// Returns whether all but the first of the files are as they were.
    pub(crate) fn are_others_unchanged(&self, before: &Seen, after: &Seen) -> bool {
        let mut pairs = before.also.iter().zip(&after.also);
        pairs.all(|(old, now)| self.is_unchanged(old.as_ref(), now.as_ref()))
    }

    /// Returns what is wrong with a DEST that was being overwritten: of the new content there is
    /// the beginning, behind it what was there, or nothing.
    pub(crate) fn harms_in_place(&self, kit: &Kit, before: &Seen, after: &Seen) -> Harms {
        let (Some(old), Some(now)) = (&before.destination, &after.destination) else {
            return Harms::new();
        };
        let new = self.new_content(kit);
        let same = now.content.iter().zip(&*new);
        let begun = same.take_while(|(now, new)| now == new).count();
        let rest = &now.content[begun..];
        let is_mix = rest.is_empty() || old.content.get(begun..) == Some(rest);
        if is_mix && old.is_same_file(now) {
            return Harms::new();
        }
        let size = now.size();
        vec![(Harm::Torn, format!("DEST is no mix of both ({size} bytes)"))]
    }

    /// Returns whether a DEST that was being overwritten has mode and owner of before, or those
    /// that it must have in the end. Until then, no user has a right that either would not give.
    pub(crate) fn is_between(&self, kit: &Kit, old: (u32, u32, u32), now: (u32, u32, u32)) -> bool {
        let new = self.expected_appearance(kit);
        [old.0, new.0, old.0 & new.0].contains(&now.0)
            && [(old.1, old.2), (new.1, new.2)].contains(&(now.1, now.2))
    }

    /// Each file that has been replaced has its old content in the backup, if one was asked for.
    pub(crate) fn harms_to_backups(&self, kit: &Kit, before: &Seen, after: &Seen) -> Harms {
        let Some(first) = self.backup else {
            return Harms::new();
        };
        let first = (first.to_owned(), self.old);
        let others = self.also.iter();
        let others = others.map(|file| (format!("{}~", file.name), file.old));
        let backups = std::iter::once(first).chain(others);
        let replaced = backups
            .zip(self.states(kit, before, after))
            .filter(|(backup, state)| {
                *state == State::New && !matches!(backup.1, Old::Nothing | Old::Equal)
            });
        replaced
            .filter(|((name, _), _)| {
                let kept = after.others.get(Path::new(name));
                !kept.is_some_and(|file| file.is_file() && file.content == kit.old())
            })
            .map(|((name, _), _)| (Harm::Lost, format!("the old content is not in {name}")))
            .collect()
    }

    /// Returns whether status 0 is right.
    pub(crate) fn is_done(&self, state: State) -> bool {
        state == State::New || (self.old == Old::Equal && state == State::Old)
    }

    pub(crate) fn is_expected(&self, name: &Path) -> bool {
        self.expected_names()
            .iter()
            .any(|expected| Path::new(expected) == name)
    }

    /// Returns what is wrong with DEST itself.
    pub(crate) fn harms_to_destination(
        &self,
        kit: &Kit,
        state: State,
        before: &Seen,
        after: &Seen,
    ) -> Harms {
        match state {
            State::Torn => vec![(
                Harm::Torn,
                format!(
                    "DEST is torn ({:?})",
                    after.destination.as_ref().map(FileState::size)
                ),
            )],
            State::Missing => vec![(Harm::Missing, "DEST is missing".into())],
            State::Old => {
                let (old, now) = (before.destination.as_ref(), after.destination.as_ref());
                // Of others it is enough that no difference is seen, and in place the space is
                // allocated first, which can change the time.
                let strict = self.program == Program::Atomwrite && !self.is_in_place();
                let same = match (old, now) {
                    (Some(old), Some(now)) if !strict => old.seems(now),
                    _ => self.is_unchanged(old, now),
                };
                if same {
                    Vec::new()
                } else {
                    vec![(Harm::Attributes, "the old DEST has changed".into())]
                }
            }
            State::New => {
                let kept = (self.old == Old::Rich)
                    .then_some(before.destination.as_ref())
                    .flatten();
                let attributes = kept.map_or(&[][..], FileState::attributes);
                let Some(now) = &after.destination else {
                    return Vec::new();
                };
                if now.appearance() == self.expected_appearance(kit)
                    && now.attributes() == attributes
                {
                    return Vec::new();
                }
                vec![(
                    Harm::Attributes,
                    format!("the new DEST is {:?}", now.appearance()),
                )]
            }
        }
    }

    /// Writes to the same DEST once more. It removes the derived name and the lock file, and leaves
    /// alone what has a random name: that was made by another run.
    pub(crate) fn harms_after_next_write(
        &self,
        kit: &Kit,
        ground: &Ground,
        scene: &Scene<'_>,
        before: &Seen,
        left: &Seen,
    ) -> Result<Harms> {
        let run = self.write_again(scene, ground)?;
        let after = scene.snapshot()?;
        let mut harms = Vec::new();
        if run.end != End::Exited(0) {
            harms.push((
                Harm::Answer,
                format!("the next write ends with {:?}: {}", run.end, run.stderr),
            ));
        } else if self.program == Program::Atomwrite {
            let is_new = after
                .destination
                .as_ref()
                .is_some_and(|file| file.content == *self.next_content(kit));
            let others = after.also.iter().flatten();
            let new = others.filter(|file| file.content == *self.next_content(kit));
            if !is_new || new.count() != self.also.len() {
                harms.push((Harm::Lost, "the next write is not there".into()));
            }
        }
        let is_random =
            |name: &PathBuf| matches!(self.kind_of(name), NewName::Random | NewName::Inside);
        let mut stays = self.unexpected(before, &after, self.expected_names());
        stays.retain(|name| !(is_random(name) && left.others.contains_key(name)));
        if !stays.is_empty() {
            harms.push((Harm::Litter, format!("{stays:?} stays")));
        }
        let changed: Vec<PathBuf> = after.harmed(left).into_iter().filter(is_random).collect();
        if !changed.is_empty() {
            harms.push((
                Harm::Foreign,
                format!("the next write has changed {changed:?}, which another run has made"),
            ));
        }
        Ok(harms)
    }
}
