//! The check of DEST and its directory after a signal.

use std::path::PathBuf;

use nix::sys::signal::Signal;

use crate::forms::{Case, FileState, Form, Harms, Kit, NewName, Owner, Seen, State};
use crate::programs::Program;
use crate::report::Harm;
use crate::tracer::{Act, End, Run};

/// Holds what is there after a death to what was promised.
pub(super) fn check(case: &Case<'_>, kit: &Kit, run: &Run, before: &Seen, after: &Seen) -> Harms {
    if run.end == End::Hung {
        return vec![(Harm::Hung, "it does not end".into())];
    }
    let form = case.form;
    let state = form.state(kit, before, after);
    let mut harms = form.harms_to_destination(kit, state, before, after);
    let is_kill = matches!(case.act, Act::Kill | Act::KillAfter | Act::KillMain);
    if is_kill && form.is_in_place() {
        harms.retain(|(harm, _)| *harm == Harm::Missing);
        harms.extend(form.harms_in_place(kit, before, after));
        if let (Some(old), Some(now)) = (&before.destination, &after.destination) {
            let (old, now) = (old.appearance(), now.appearance());
            if !form.is_between(kit, old, now) {
                harms.push((Harm::Attributes, format!("DEST is {now:?}")));
            }
        }
    }
    if run.end == End::Exited(0) && !form.is_done(state) {
        harms.push((Harm::Lost, "status 0, and DEST is not new".into()));
    }
    if form.program == Program::Atomwrite {
        harms.extend(form.harms_to_all(kit, before, after));
        harms.extend(answer(case, run));
        if is_kill {
            harms.extend(left_by_kill(form, kit, before, after));
        } else {
            let renamed = form.states_of_renamed(kit, before, after);
            if renamed.windows(2).any(|two| two[0] != two[1]) {
                harms.push((
                    Harm::Answer,
                    format!("neither all new nor all old: {renamed:?}"),
                ));
            }
            harms.extend(left_by_signal(form, kit, state, before, after));
        }
        harms.extend(form.harms_to_backups(kit, before, after));
    } else {
        harms.extend(
            after
                .harmed(before)
                .into_iter()
                .map(|name| (Harm::Foreign, format!("{}", name.display()))),
        );
    }
    harms
}

/// It dies by the signal, and does not talk about it.
fn answer(case: &Case<'_>, run: &Run) -> Harms {
    let signal = match case.act {
        Act::Signal(signal) | Act::SignalAll(signal) => signal,
        _ => Signal::SIGKILL,
    };
    // It may be too late for any.
    let ends = case.call.name() == "exit_group" && run.end == End::Exited(0);
    let mut harms = Vec::new();
    if run.end != End::Killed(signal) && !ends {
        harms.push((Harm::Answer, format!("it ends with {:?}", run.end)));
    }
    if !run.stderr.is_empty() {
        harms.push((Harm::Answer, format!("it says {:?}", run.stderr)));
    }
    harms
}

/// Only hidden names, and no more than the manual says. A backup of a DEST that is not new yet, and
/// directories that were asked for, may be there too.
fn left_by_kill(form: &Form, kit: &Kit, before: &Seen, after: &Seen) -> Harms {
    let mut harms = Vec::new();
    let (mut derived, mut random, mut locks) = (0, 0, 0);
    for name in after.beyond(before, form.expected_names()) {
        let file = &after.others[&name];
        match form.kind_of(&name) {
            NewName::Derived if file.is_file() => derived += 1,
            NewName::Random => {
                random += 1;
                let (user, group) = kit.id(Owner::Runner);
                if file.is_directory() && file.appearance() != (0o700, user, group) {
                    let what = format!("{} is {:?}", name.display(), file.appearance());
                    harms.push((Harm::Attributes, what));
                }
            }
            NewName::Inside => {}
            NewName::Lock if file.is_file() && file.content.is_empty() => locks += 1,
            _ => harms.push((Harm::Litter, format!("{} is left", name.display()))),
        }
    }
    let may = (
        usize::from(form.takes_derived_name()),
        form.stays,
        usize::from(form.locks()),
    );
    if derived > may.0 || random > may.1 || locks > may.2 {
        let what = format!("left: {derived} derived, {random} random, {locks} locks");
        harms.push((Harm::Litter, format!("{what}, and may be {may:?}")));
    }
    for name in after.harmed(before) {
        if form.backup.is_some_and(|backup| name.as_os_str() == backup) {
            harms.extend(not_a_backup(kit, after.others.get(&name)));
        } else {
            harms.push((Harm::Foreign, format!("{} has changed", name.display())));
        }
    }
    harms
}

/// Checks that an older backup is replaced in one step, and only by the old file.
fn not_a_backup(kit: &Kit, now: Option<&FileState>) -> Option<(Harm, String)> {
    let is_old = now.is_some_and(|now| now.is_file() && now.content == kit.old());
    (!is_old).then(|| (Harm::Lost, "the older backup is lost".into()))
}

/// Checks that everything is as it was, or as it is after a run without a signal. In place, an
/// older backup can have been replaced by the old file, though DEST is not overwritten any more.
fn left_by_signal(form: &Form, kit: &Kit, state: State, before: &Seen, after: &Seen) -> Harms {
    let (may, must): (&[&str], &[&str]) = match state {
        State::New => (form.expected_names(), form.expected_names()),
        _ => (&[], &[]),
    };
    let mut harms: Harms = form
        .unexpected(before, after, may)
        .into_iter()
        .map(|name| {
            let file = after.others[&name].appearance();
            (
                Harm::Litter,
                format!("{} is left, {file:?}", name.display()),
            )
        })
        .collect();
    for name in must
        .iter()
        .filter(|name| !after.others.contains_key(&PathBuf::from(name)))
    {
        harms.push((Harm::Lost, format!("{name} is missing")));
    }
    for name in after
        .harmed(before)
        .iter()
        .filter(|name| !may.iter().any(|may| name.as_os_str() == *may))
    {
        let is_backup = form.backup.is_some_and(|backup| name.as_os_str() == backup);
        if form.is_in_place() && is_backup {
            harms.extend(not_a_backup(kit, after.others.get(name)));
            continue;
        }
        harms.push((Harm::Foreign, format!("{} has changed", name.display())));
    }
    harms
}
