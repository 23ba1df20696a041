//! What a death has done to DEST and to what is around it.

use std::path::PathBuf;

use nix::sys::signal::Signal;

use crate::forms::{Case, Form, Harms, Kit, Seen, State, is_inside_temporary, is_temporary_path};
use crate::programs::Program;
use crate::report::Harm;
use crate::tracer::{Act, End, Run};

/// Holds what is there after a death to what was promised.
pub(super) fn judge(case: &Case<'_>, kit: &Kit, run: &Run, before: &Seen, after: &Seen) -> Harms {
    if run.end == End::Hung {
        return vec![(Harm::Hung, "it does not end".into())];
    }
    let form = case.form;
    let state = form.state(kit, before, after);
    let mut harms = form.harms_to_destination(state, before, after);
    if run.end == End::Exited(0) && !form.is_done(state) {
        harms.push((Harm::Lost, "status 0, and DEST is not new".into()));
    }
    if form.program == Program::Atomwrite {
        harms.extend(form.harms_to_all(kit, before, after));
        harms.extend(answer(case, run));
        match case.act {
            Act::Kill | Act::KillAfter | Act::KillMain => {
                harms.extend(left_by_kill(form, before, after));
            }
            _ => {
                let renamed = form.states_of_renamed(kit, before, after);
                if renamed.windows(2).any(|two| two[0] != two[1]) {
                    harms.push((
                        Harm::Answer,
                        format!("neither all new nor all old: {renamed:?}"),
                    ));
                }
                harms.extend(left_by_signal(form, state, before, after));
            }
        }
        harms.extend(backup(form, kit, state, after));
    } else {
        harms.extend(
            after
                .harmed(before)
                .into_iter()
                .map(|name| (Harm::Stranger, format!("{}", name.display()))),
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

/// Only hidden temporary names, and no more than the manual says. A backup of a DEST that is not new yet, and directories
/// that were asked for, may be there too.
fn left_by_kill(form: &Form, before: &Seen, after: &Seen) -> Harms {
    let mut harms = Vec::new();
    let mut temporary = 0;
    for name in after.beyond(before, form.expected_names()) {
        if is_temporary_path(&name) {
            temporary += 1;
        } else if !is_inside_temporary(&name) {
            harms.push((Harm::Left, format!("{} is left", name.display())));
        }
    }
    if temporary > form.leaves {
        harms.push((Harm::Left, format!("{temporary} temporary names are left")));
    }
    let may_be_replaced =
        |name: &PathBuf| form.backup.is_some_and(|backup| name.as_os_str() == backup);
    for name in after
        .harmed(before)
        .into_iter()
        .filter(|name| !may_be_replaced(name))
    {
        harms.push((Harm::Stranger, format!("{} has changed", name.display())));
    }
    harms
}

/// All is as it was, or as it is after a run without a signal.
fn left_by_signal(form: &Form, state: State, before: &Seen, after: &Seen) -> Harms {
    let (may, must): (&[&str], &[&str]) = match state {
        State::New => (form.expected_names(), form.expected_names()),
        _ => (&[], &[]),
    };
    let mut harms: Harms = after
        .beyond(before, may)
        .into_iter()
        .map(|name| (Harm::Left, format!("{} is left", name.display())))
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
        harms.push((Harm::Stranger, format!("{} has changed", name.display())));
    }
    harms
}

/// The old content is not lost: it is the backup, or at the worst has a temporary name still.
fn backup(form: &Form, kit: &Kit, state: State, after: &Seen) -> Harms {
    let (Some(backup), State::New) = (form.backup, state) else {
        return Vec::new();
    };
    let kept = after.others.iter().any(|(name, look)| {
        (name.as_os_str() == backup || is_temporary_path(name))
            && look.is_file()
            && look.content == kit.old()
    });
    if kept {
        Vec::new()
    } else {
        vec![(Harm::Lost, "the old content is lost".into())]
    }
}
