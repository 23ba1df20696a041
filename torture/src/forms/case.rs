//! One thing that is done to one call of one form.

use std::path::Path;

use anyhow::{Context, Result};
use rand::rngs::StdRng;
use rand::seq::SliceRandom;

use super::{Form, Kit, Scene, Seen, rehearsed, with_each};
use crate::ground::{Ground, Length};
use crate::programs::Program;
use crate::report::{Harm, Promise, Report, Tally};
use crate::tracer::{Act, Aim, Call, Run};

/// What is wrong, and what tells it.
pub(crate) type Harms = Vec<(Harm, String)>;

/// At most so many cases of each form and kind, of another program: an interpreter makes a thousand calls before it looks at
/// its work. Of atomwrite, the long run has all.
const MOST_OF_OTHERS: usize = 250;

/// A row of the report.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Kind {
    pub(crate) row: &'static str,
    /// What is done at a call.
    pub(crate) acts: fn(&Form, &Call) -> Vec<Act>,
    /// How many of each form are tried if time is short.
    pub(crate) short: usize,
}

/// Tries all that is to be done at every call of every form of every program.
pub(crate) fn try_all(
    ground: &Ground,
    report: &mut Report,
    kinds: &[Kind],
    judge: impl Fn(&Case<'_>, &Kit, &Run, &Seen, &Seen) -> Harms + Sync,
) -> Result<()> {
    let kit = Kit::make(ground)?;
    for program in Program::ALL {
        let forms = rehearsed(program, ground, &kit)?;
        for kind in kinds {
            let row = kind.row;
            let mut chance = ground.chance(&format!("{row} {program:?}"));
            let cases: Vec<Case<'_>> = forms
                .iter()
                .flat_map(|(form, calls)| Case::of(form, calls, kind, ground.length, &mut chance))
                .collect();
            let tally = with_each(ground, &cases, |case, above, tally| {
                case.try_it(ground, &kit, above, tally, &judge)
                    .with_context(|| case.shown(ground))
            })?;
            report.add(row, Promise::Made, program, tally);
        }
    }
    Ok(())
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Case<'f> {
    pub(crate) form: &'f Form,
    pub(crate) call: Call,
    pub(crate) act: Act,
}

impl<'f> Case<'f> {
    /// All cases of a form; if time is short, or there are too many, a choice of them by chance.
    fn of(
        form: &'f Form,
        calls: &[Call],
        kind: &Kind,
        length: Length,
        chance: &mut StdRng,
    ) -> Vec<Self> {
        let mut cases = Vec::new();
        for call in calls {
            let acts = (kind.acts)(form, call).into_iter();
            cases.extend(acts.map(|act| Self {
                form,
                call: *call,
                act,
            }));
        }
        let most = match (length, form.program) {
            (Length::Short, _) => kind.short,
            (Length::Long, Program::Atomwrite) => usize::MAX,
            (Length::Long, _) => MOST_OF_OTHERS,
        };
        if cases.len() > most {
            cases.shuffle(chance);
            cases.truncate(most);
        }
        cases
    }

    fn shown(&self, ground: &Ground) -> String {
        let Self { form, call, act } = self;
        format!("{}: {act:?} at {call}, seed {}", form.shown(), ground.seed)
    }

    fn try_it(
        &self,
        ground: &Ground,
        kit: &Kit,
        above: &Path,
        tally: &mut Tally,
        judge: &impl Fn(&Self, &Kit, &Run, &Seen, &Seen) -> Harms,
    ) -> Result<()> {
        let scene = Scene::make(self.form, kit, above)?;
        let before = scene.look()?;
        let aim = Aim {
            number: self.call.number(),
            nth: self.call.nth(),
            act: self.act,
        };
        let run = self.form.run(&scene, ground, Some(aim))?;
        if !run.reached {
            // The order of several processes is not the same each time.
            return Ok(());
        }
        tally.tried();
        let after = scene.look()?;
        let mut harms = judge(self, kit, &run, &before, &after);
        let may = self.form.expected_names();
        if !self.form.unexpected(&before, &after, may).is_empty() {
            let next = self
                .form
                .harms_after_next_write(kit, ground, &scene, &before, &after);
            harms.extend(next?);
        }
        for (harm, what) in harms {
            tally.harmed(harm, || format!("{what}: {}", self.shown(ground)));
        }
        Ok(())
    }
}
