//! The check after a failure: whether the report agrees with what is there.

use std::iter;

use nix::errno::Errno;

use super::may_leave;
use super::verdict::{Verdict, verdict};
use crate::forms::{Case, Form, Harms, Kit, NewName, Seen, State};
use crate::programs::Program;
use crate::report::Harm;
use crate::tracer::{Act, Call, End, Run};

/// What an exit status says about DEST.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Said {
    Done,
    Unchanged,
    /// Changed, and not vouched for.
    Doubtful,
}

pub(super) fn check(case: &Case<'_>, kit: &Kit, run: &Run, before: &Seen, after: &Seen) -> Harms {
    if run.end == End::Hung {
        return vec![(Harm::Hung, "it does not end".into())];
    }
    let form = case.form;
    let state = form.state(kit, before, after);
    if form.program != Program::Atomwrite {
        let mut harms = form.harms_to_destination(kit, state, before, after);
        if run.end == End::Exited(0) && !form.is_done(state) {
            harms.push((Harm::Lost, "status 0, and DEST is not new".into()));
        }
        return harms;
    }
    // A warning may stand in for what could not be kept; --keep=all is for those who do not want
    // that.
    let warned = run.stderr.contains("atomwrite: warning: ");
    let mut harms = form.harms_to_destination(kit, state, before, after);
    harms.extend(form.harms_to_all(kit, before, after));
    harms.retain(|(harm, _)| !(*harm == Harm::Attributes && warned && state == State::New));
    let said = said(case, run.end);
    if form.is_in_place() && said == Some(Said::Doubtful) {
        harms.retain(|(harm, _)| *harm == Harm::Missing);
        harms.extend(form.harms_in_place(kit, before, after));
    }
    let Some(said) = said else {
        harms.push((
            Harm::Answer,
            format!("it ends with {:?}: {}", run.end, run.stderr),
        ));
        return harms;
    };
    let states = form.states(kit, before, after);
    let reported = reported(form, &run.stderr);
    let agrees = match said {
        Said::Done => states.iter().all(|state| *state == State::New),
        // One that had the content already counts as new, and is not touched.
        Said::Unchanged => state == State::Old && form.are_others_unchanged(before, after),
        Said::Doubtful if form.is_in_place() => true,
        Said::Doubtful if reported.is_empty() => states.iter().all(|state| *state == State::New),
        Said::Doubtful => reported == states,
    };
    if !agrees {
        let harm = if said == Said::Done {
            Harm::Lost
        } else {
            Harm::Answer
        };
        harms.push((
            harm,
            format!("{:?}, and DEST is {states:?}: {}", run.end, run.stderr),
        ));
    }
    match verdict(case) {
        Some(Verdict::MustSucceed) if said != Said::Done => harms.push((
            Harm::Answer,
            format!("that is no reason to fail: {}", run.stderr),
        )),
        Some(Verdict::MustFail) if said == Said::Done => {
            harms.push((Harm::Lost, "that was no success".into()));
        }
        _ => {}
    }
    if said == Said::Done && case.act == Act::Fail(Errno::EINTR) && case.call.syncs() {
        let syncs = |calls: &[Call]| calls.iter().filter(|call| call.syncs()).count();
        if syncs(&run.calls) <= syncs(case.calls) {
            harms.push((Harm::Lost, "it was not flushed after all".into()));
        }
    }
    harms.extend(wrong_words(said, reported.len(), &run.stderr));
    if said != Said::Done {
        harms.extend(wrong_names(case, said, before, after, &run.stderr));
    }
    harms.extend(form.harms_to_backups(kit, before, after));
    harms.extend(left(case, kit, &states, before, after));
    harms
}

fn said(case: &Case<'_>, end: End) -> Option<Said> {
    let End::Exited(status) = end else {
        return None;
    };
    match (status, case.form.has_command()) {
        (0, _) => Some(Said::Done),
        (1 | 3, false) | (125 | 126, true) => Some(Said::Unchanged),
        (4, false) | (124, true) => Some(Said::Doubtful),
        _ => None,
    }
}

/// Returns what the lines of a failure among many renames say of each file, in the order of the
/// renames; nothing if there are none.
fn reported(form: &Form, stderr: &str) -> Vec<State> {
    let names = iter::once(form.destination).chain(form.also.iter().map(|file| file.name));
    let reported = names.map(|name| {
        let says = |what: &str| stderr.contains(&format!("atomwrite: {what}: '{name}'\n"));
        match (says("new"), says("old")) {
            (true, false) => Some(State::New),
            (false, true) => Some(State::Old),
            _ => None,
        }
    });
    reported.collect::<Option<_>>().unwrap_or_default()
}

/// Checks the number of lines: one for a failure and one for each file, none for a success except
/// warnings. No line may be for programmers.
fn wrong_words(said: Said, reported: usize, stderr: &str) -> Harms {
    let expected = usize::from(said != Said::Done) + reported;
    let lines = stderr
        .lines()
        .filter(|line| !line.starts_with("atomwrite: warning: "))
        .count();
    let mut harms = Vec::new();
    if stderr.lines().count() > lines + 1 {
        harms.push((Harm::Answer, format!("several warnings: {stderr:?}")));
    }
    if lines != expected {
        harms.push((Harm::Answer, format!("{lines} lines: {stderr:?}")));
    }
    if stderr.lines().any(|line| {
        !line.starts_with("atomwrite: ") || line.contains("os error") || line.ends_with('.')
    }) {
        harms.push((Harm::Answer, format!("out of form: {stderr:?}")));
    }
    harms
}

/// Checks that a failure names a file or the input, and says that DEST is unchanged if there is a
/// DEST and that is so.
fn wrong_names(case: &Case<'_>, said: Said, before: &Seen, after: &Seen, stderr: &str) -> Harms {
    let mut harms = Harms::new();
    let named = case.form.names_an_operand(stderr) || stderr.contains("standard input");
    if !named {
        harms.push((Harm::Answer, format!("it names nothing: {stderr:?}")));
    }
    let existed = before.destination.is_some();
    // A link that leads nowhere is there, too.
    let is_named = existed || case.form.is_through_link();
    // Until it has begun to make something, it may not know what is there.
    let knows = case.calls[..case.at].iter().any(Call::changes) && case.form.also.is_empty();
    let says = stderr.contains("' is unchanged\n");
    // In place, the space was reserved, and a disk that is gone does not take the old time back.
    let time = |seen: &Seen| seen.destination.as_ref().map(|file| file.modified);
    let must = existed && said == Said::Unchanged && knows && time(before) == time(after);
    let may = is_named && said == Said::Unchanged;
    if must && !says || says && !may {
        harms.push((Harm::Answer, format!("unchanged or not: {stderr:?}")));
    }
    harms
}

/// Returns whether the call that fails takes the lock, examines an open file, as its own before the
/// lock, or warns of the filesystem on which the lock file may be removed.
fn concerns_lock(case: &Case<'_>) -> bool {
    let call = case.call;
    let has = |at: usize, flag: i32| call.argument(at) & u64::from(flag.unsigned_abs()) != 0;
    case.form.locks()
        && match &*call.name() {
            "fstatfs" => true,
            "fcntl" => call.argument(1) == u64::from(libc::F_OFD_SETLK.unsigned_abs()),
            "statx" => has(2, libc::AT_EMPTY_PATH),
            _ => false,
        }
}

/// Finds files that stay and were not asked for. If one could not be removed, the check comes after
/// the next write.
fn left(case: &Case<'_>, kit: &Kit, states: &[State], before: &Seen, after: &Seen) -> Harms {
    let form = case.form;
    let state = states[0];
    let may = if state == State::New {
        form.expected_names()
    } else {
        &[]
    };
    let mut harms = Harms::new();
    for name in form.unexpected(before, after, may) {
        let is_ours = form.kind_of(&name) != NewName::Other;
        if form.kind_of(&name) == NewName::Lock && concerns_lock(case) {
            // Without the lock, or the knowledge that it counts, its file may be another run's.
            continue;
        }
        if !(may_leave(case) && (is_ours || form.is_expected(&name))) {
            harms.push((Harm::Litter, format!("{} is left", name.display())));
        }
    }
    // An older backup that was replaced before the failure stays replaced, by the old file.
    for name in after.harmed(before) {
        let now = after.others.get(&name);
        let is_kept = now.is_some_and(|now| now.is_file() && now.content == kit.old());
        if !(form.is_expected(&name) && is_kept) {
            harms.push((Harm::Foreign, format!("{} has changed", name.display())));
        }
    }
    // Of many, a file that is old still has no backup.
    let others = form.also.iter().zip(&states[1..]);
    let has_none_yet = |name: &str| {
        others
            .clone()
            .any(|(file, state)| *state == State::Old && name.starts_with(file.name))
    };
    for name in may
        .iter()
        .filter(|name| !has_none_yet(name))
        .filter(|name| !after.others.contains_key(std::path::Path::new(name)))
    {
        harms.push((Harm::Lost, format!("{name} is missing")));
    }
    harms
}
