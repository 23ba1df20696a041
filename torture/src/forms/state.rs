//! What DEST is after a run, and what harm that is.

use std::path::Path;

use anyhow::Result;

use super::{Form, Harms, Kit, Look, Old, Scene, Seen, Size};
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

impl Form {
    pub(crate) fn state(&self, kit: &Kit, before: &Seen, after: &Seen) -> State {
        let (old, now) = (before.destination.as_ref(), after.destination.as_ref());
        match (old, now) {
            (None, None) => State::Old,
            (Some(_), None) => State::Missing,
            (Some(old), Some(now)) if old.is_same_as(now) => State::Old,
            (_, Some(now)) if now.is_file() && now.content == *self.new_content(kit) => State::New,
            (Some(old), Some(now))
                if old.is_file() == now.is_file() && old.content == now.content =>
            {
                State::Old
            }
            _ => State::Torn,
        }
    }

    /// Whether status 0 is right.
    pub(crate) fn is_done(&self, state: State) -> bool {
        state == State::New || (self.old == Old::Equal && state == State::Old)
    }

    pub(crate) fn is_expected(&self, name: &Path) -> bool {
        self.expected_names()
            .iter()
            .any(|expected| Path::new(expected) == name)
    }

    /// What is wrong with DEST itself.
    pub(crate) fn harms_to_destination(&self, state: State, before: &Seen, after: &Seen) -> Harms {
        match state {
            State::Torn => vec![(
                Harm::Torn,
                format!(
                    "DEST is torn ({:?})",
                    after.destination.as_ref().map(Look::size)
                ),
            )],
            State::Missing => vec![(Harm::Missing, "DEST is missing".into())],
            State::Old => {
                let (old, now) = (before.destination.as_ref(), after.destination.as_ref());
                // Of others it is enough that nobody sees a difference.
                let strict = self.program == Program::Atomwrite;
                let same = match (old, now) {
                    (Some(old), Some(now)) if !strict => old.seems(now),
                    _ => old == now,
                };
                if same {
                    Vec::new()
                } else {
                    vec![(Harm::Looks, "the old DEST has changed".into())]
                }
            }
            State::New => {
                let kept = (self.old == Old::Rich)
                    .then_some(before.destination.as_ref())
                    .flatten();
                let attributes = kept.map_or(&[][..], Look::attributes);
                let Some(now) = &after.destination else {
                    return Vec::new();
                };
                if now.appearance() == self.expected_look() && now.attributes() == attributes {
                    return Vec::new();
                }
                vec![(
                    Harm::Looks,
                    format!("the new DEST looks like {:?}", now.appearance()),
                )]
            }
        }
    }

    /// Writes to the same DEST once more: nothing is left then.
    pub(crate) fn harms_after_healing(
        &self,
        kit: &Kit,
        ground: &Ground,
        scene: &Scene<'_>,
        before: &Seen,
    ) -> Result<Harms> {
        let run = self.heal(scene, ground)?;
        let after = scene.look()?;
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
                .is_some_and(|file| file.content == kit.input(Size::Small));
            if !is_new {
                harms.push((Harm::Lost, "the next write is not there".into()));
            }
        }
        let left = after.beyond(before, self.expected_names());
        if !left.is_empty() {
            harms.push((Harm::Left, format!("{left:?} stays")));
        }
        Ok(harms)
    }
}
