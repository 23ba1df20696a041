//! One thing that is done to one call of one form.

use std::path::Path;

use anyhow::{Context, Result};
use rand::rngs::StdRng;
use rand::seq::SliceRandom;

use super::{Form, Kit, Scene, Seen, with_each};
use crate::ground::{Ground, Length};
use crate::programs::Program;
use crate::report::{Harm, Tally};
use crate::tracer::{Act, Aim, Call, Run};

/// What is wrong, and what tells it.
pub(crate) type Harms = Vec<(Harm, String)>;

/// So many cases of each form and kind the long run has at most. All of them would be 150,000, of which most are the same
/// call with the same answer in another form.
const MOST: usize = 400;
/// An interpreter makes a thousand calls before it looks at its work.
const MOST_OF_OTHERS: usize = 500;

#[derive(Debug, Clone, Copy)]
pub(crate) struct Case<'f> {
    pub(crate) form: &'f Form,
    pub(crate) call: Call,
    pub(crate) act: Act,
}

impl<'f> Case<'f> {
    /// All cases of a form; if time is short, or there are too many, a choice of them by chance.
    pub(crate) fn of(
        form: &'f Form,
        calls: &[Call],
        acts: impl Fn(&Form, &Call) -> Vec<Act>,
        length: Length,
        short: usize,
        chance: &mut StdRng,
    ) -> Vec<Self> {
        let at = |call: &Call| {
            acts(form, call)
                .into_iter()
                .map(|act| Self {
                    form,
                    call: *call,
                    act,
                })
                .collect()
        };
        let mut cases: Vec<Self> = calls
            .iter()
            .flat_map(|call| -> Vec<Self> { at(call) })
            .collect();
        let most = match (length, form.program) {
            (Length::Short, _) => short,
            (Length::Long, Program::Atomwrite) => MOST,
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

    /// Tries each case; gives what was counted.
    pub(crate) fn try_all(
        cases: &[Self],
        ground: &Ground,
        kit: &Kit,
        judge: impl Fn(&Self, &Run, &Seen, &Seen) -> Harms + Sync,
    ) -> Result<Tally> {
        with_each(ground, cases, |case, above, tally| {
            case.try_it(ground, kit, above, tally, &judge)
                .with_context(|| case.shown(ground))
        })
    }

    fn try_it(
        &self,
        ground: &Ground,
        kit: &Kit,
        above: &Path,
        tally: &mut Tally,
        judge: &impl Fn(&Self, &Run, &Seen, &Seen) -> Harms,
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
        let mut harms = judge(self, &run, &before, &after);
        if !after.beyond(&before, self.form.expected_names()).is_empty() {
            harms.extend(
                self.form
                    .harms_after_healing(kit, ground, &scene, &before)?,
            );
        }
        for (harm, what) in harms {
            tally.harmed(harm, || format!("{what}: {}", self.shown(ground)));
        }
        Ok(())
    }
}
