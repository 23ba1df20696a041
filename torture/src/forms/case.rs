//! A case: one act on one system call of one form.

use std::path::Path;

use anyhow::{Context, Result};
use rand::rngs::StdRng;
use rand::seq::SliceRandom;

use super::{Field, Form, Kit, Rehearsed, Scene, Seen, of_program, rehearsed, with_each};
use crate::ground::{Ground, Length};
use crate::programs::Program;
use crate::report::{Harm, Promise, Report, Tally};
use crate::tracer::{Act, Aim, Call, Run};

/// The harms, each with its evidence.
pub(crate) type Harms = Vec<(Harm, String)>;

/// The limit of cases of each form and kind for another program: an interpreter makes a thousand
/// calls before it reads its work. Of atomwrite, all are tried.
const MOST_OF_OTHERS: usize = 250;
const MOST_OF_OTHERS_IN_SHORT: usize = 20;

/// A row of the report.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Kind {
    pub(crate) row: &'static str,
    /// What is done at a call, which is the `usize`th of the run.
    pub(crate) acts: fn(&Form, usize, &Call, Length) -> Vec<Act>,
}

/// Tries every act at every call of every form of every program.
pub(crate) fn try_all(
    ground: &Ground,
    report: &mut Report,
    kinds: &[Kind],
    check: impl Fn(&Case<'_>, &Kit, &Run, &Seen, &Seen) -> Harms + Sync,
) -> Result<()> {
    let fields = Field::all(ground)?;
    for program in Program::ALL {
        let forms = rehearsed(program, ground, &fields)?;
        report_missing(program, ground);
        for kind in kinds {
            let row = kind.row;
            let mut chance = ground.chance(&format!("{row} {program:?}"));
            let cases: Vec<Case<'_>> = forms
                .iter()
                .flat_map(|form| Case::of(form, kind, ground.length, &mut chance))
                .collect();
            if cases.is_empty() {
                continue;
            }
            let tally = with_each(&cases, &fields, |case, directories, tally| {
                let kit = &fields[case.field].kit;
                case.try_it(ground, kit, directories[case.field].path(), tally, &check)
                    .with_context(|| case.shown(ground))
            })?;
            report.add(row, Promise::Made, program, tally);
        }
    }
    Ok(())
}

/// Says which forms are left out, and why.
fn report_missing(program: Program, ground: &Ground) {
    let forms = of_program(program);
    let missing: Vec<String> = forms
        .iter()
        .filter_map(|form| Some(format!("{}: {}", form.shown(), form.is_missing(ground)?)))
        .collect();
    if missing.is_empty() {
        return;
    }
    println!(
        "torture: SKIPPED {} of {} forms of {}, which root can run:",
        missing.len(),
        forms.len(),
        program.shown()
    );
    for form in missing {
        println!("torture:     {form}");
    }
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Case<'f> {
    pub(crate) form: &'f Form,
    /// All calls of an undisturbed run, and which of them this is.
    pub(crate) calls: &'f [Call],
    pub(crate) at: usize,
    pub(crate) call: Call,
    pub(crate) act: Act,
    field: usize,
}

impl<'f> Case<'f> {
    /// Returns all cases of a form; of another program, a choice of them by chance.
    fn of(rehearsed: &'f Rehearsed, kind: &Kind, length: Length, chance: &mut StdRng) -> Vec<Self> {
        let mut cases = Vec::new();
        let Rehearsed { form, field, calls } = rehearsed;
        for (at, call) in calls.iter().enumerate() {
            let acts = (kind.acts)(form, at, call, length).into_iter();
            cases.extend(acts.map(|act| Self {
                form,
                calls,
                at,
                call: *call,
                act,
                field: *field,
            }));
        }
        let most = match (form.program, length) {
            (Program::Atomwrite, _) => usize::MAX,
            (_, Length::Short) => MOST_OF_OTHERS_IN_SHORT,
            (_, Length::Long) => MOST_OF_OTHERS,
        };
        if cases.len() > most {
            cases.shuffle(chance);
            cases.truncate(most);
        }
        cases
    }

    fn shown(&self, ground: &Ground) -> String {
        let Self {
            form, call, act, ..
        } = self;
        format!("{}: {act:?} at {call}, seed {}", form.shown(), ground.seed)
    }

    fn try_it(
        &self,
        ground: &Ground,
        kit: &Kit,
        above: &Path,
        tally: &mut Tally,
        check: &impl Fn(&Self, &Kit, &Run, &Seen, &Seen) -> Harms,
    ) -> Result<()> {
        let scene = Scene::make(self.form, kit, above)?;
        let before = scene.snapshot()?;
        let aim = Aim {
            number: self.call.number(),
            nth: self.call.nth(),
            act: self.act,
        };
        let run = self.form.run(&scene, ground, Some(aim))?;
        if !run.reached {
            // The order of several processes is not the same each time.
            if self.form.program == Program::Atomwrite && !self.form.starts_others() {
                let what = || format!("the call was not made: {}", self.shown(ground));
                tally.harmed(Harm::Answer, what);
            }
            return Ok(());
        }
        tally.tried();
        let after = scene.snapshot()?;
        let mut harms = check(self, kit, &run, &before, &after);
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
