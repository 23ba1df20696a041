//! The check of one run: the state before, the state after, and what the program reported.
//!
//! Invariant: atomwrite is checked by its contract, with its exit statuses and messages. The other
//! programs are checked by what any user expects: exit status 0 means that the file is written, and
//! the file is never torn or lost, nor does its mode change. If another program fails after the
//! file has the complete new content, that is no harm.

use std::path::{Path, PathBuf};

use super::fault::Expect;
use super::form::{Form, Writer};
use crate::child::Ended;
use crate::programs::{derived, is_lock, is_ours, is_temporary};
use crate::report::Harm;
use crate::tree::{Entry, Tree};

/// One run, and what it was to do.
#[derive(Debug)]
pub(super) struct Case<'c> {
    pub(super) writer: Writer,
    pub(super) before: &'c Tree,
    pub(super) after: &'c Tree,
    pub(super) ended: &'c Ended,
    pub(super) old: &'c [u8],
    pub(super) new: &'c [u8],
    pub(super) expect: Expect,
    /// Whether temporary names and lock files may stay.
    pub(super) keeps_names: bool,
    /// Whether an older backup must be what it was after a failure.
    pub(super) keeps_older: bool,
    /// Whether a lock file must go.
    pub(super) is_local: bool,
}

/// What harm was done.
pub(super) type Harms = Vec<(Harm, String)>;

/// After the statuses of programs that were killed, 128 and a signal's number.
const LAST: i32 = 128 + 65;

impl Case<'_> {
    pub(super) fn harms(&self) -> Harms {
        let mut harms = Harms::new();
        let Some(status) = self.ended.status else {
            return vec![(Harm::Hung, "it did not end".to_owned())];
        };
        match self.writer {
            Writer::Other(_) => self.check_other(status.success(), &mut harms),
            Writer::Atomwrite { form, .. } => match status.code() {
                None => harms.push((Harm::Answer, "it was killed".to_owned())),
                Some(code) => self.check_atomwrite(form, code, &mut harms),
            },
        }
        self.check_others(&mut harms);
        harms
    }

    fn destination(&self, tree: &Tree) -> Option<Entry> {
        tree.get(Path::new(self.writer.destination())).cloned()
    }

    /// Returns names that must not be there.
    pub(super) fn litter(&self) -> Vec<&Path> {
        litter(self.writer, self.is_local, self.before, self.after)
    }

    /// DEST must be new.
    fn check_new(&self, harms: &mut Harms) {
        match self.destination(self.after) {
            None => harms.push((Harm::Missing, "there is no DEST".to_owned())),
            Some(now) if now.content == self.new => {
                let takes_mode = self.writer.form().is_some_and(Form::is_of_many);
                let source = self.before.get(Path::new("src"));
                let mode = if self.writer.replaces() {
                    self.writer.old_mode()
                } else if takes_mode && source.is_some_and(|source| !source.is_file()) {
                    // The mode of a pipe, as with cp.
                    0o600
                } else {
                    0o644
                };
                if now.mode & 0o7777 != mode || now.owner != (0, 0) {
                    let seen = format!("mode {:o}, owner {:?}", now.mode & 0o7777, now.owner);
                    harms.push((Harm::Attributes, seen));
                }
            }
            Some(now) if self.writer.replaces() && now.content == self.old => {
                harms.push((Harm::Lost, "DEST is old".to_owned()));
            }
            Some(now) => harms.push((Harm::Torn, torn(&now))),
        }
    }

    fn check_other(&self, success: bool, harms: &mut Harms) {
        if success {
            return self.check_new(harms);
        }
        match (self.destination(self.before), self.destination(self.after)) {
            (Some(_), None) => harms.push((Harm::Missing, "there is no DEST".to_owned())),
            (Some(before), Some(now)) => {
                if now.content != self.old && now.content != self.new {
                    harms.push((Harm::Torn, torn(&now)));
                } else if (now.mode, now.owner) != (before.mode, before.owner) {
                    harms.push((Harm::Attributes, format!("mode {:o}", now.mode & 0o7777)));
                }
            }
            (None, _) => {}
        }
    }

    fn check_atomwrite(&self, form: &Form, code: i32, harms: &mut Harms) {
        let (failed, refused, changed) = if form.runs_command() {
            (125, 125, 124)
        } else {
            (1, 3, 4)
        };
        let is_of_program = (1..124).contains(&code) || (126..LAST).contains(&code);
        let by_command = form.runs_command() && is_of_program;
        let said = if code == 0 {
            if self.ended.messages().contains("atomwrite: cannot") {
                harms.push((Harm::Answer, "a success complains".to_owned()));
            }
            self.check_new(harms);
            self.check_backup(form, harms);
            Expect::Success
        } else if code == changed {
            self.check_new(harms);
            self.check_message(form, false, harms);
            Expect::Changed
        } else {
            if code != failed && code != refused && !by_command {
                harms.push((Harm::Answer, format!("status {code} is not one of its own")));
            }
            self.check_unchanged(harms);
            self.check_message(form, true, harms);
            Expect::Failure
        };
        if self.expect != Expect::Contract && self.expect != said {
            harms.push((
                Harm::Answer,
                format!("{:?} was to be expected", self.expect),
            ));
        }
        let litter = self.litter();
        let destination = Path::new(self.writer.destination());
        // The directories that were made for DEST cannot go before a name in them.
        let excused = |name: &Path| {
            is_ours(name.file_name().unwrap_or_default().as_ref())
                || stays(self.writer, name)
                || destination.starts_with(name)
        };
        let may_stay = self.keeps_names && litter.iter().all(|name| excused(name));
        if !litter.is_empty() && !may_stay {
            harms.push((Harm::Litter, format!("left {litter:?}")));
        }
    }

    fn check_unchanged(&self, harms: &mut Harms) {
        match (self.destination(self.before), self.destination(self.after)) {
            (None, None) => {}
            (None, Some(now)) => {
                let harm = if now.content == self.new {
                    Harm::Answer
                } else {
                    Harm::Torn
                };
                harms.push((harm, "DEST is there after a failure".to_owned()));
            }
            (Some(_), None) => harms.push((Harm::Missing, "there is no DEST".to_owned())),
            (Some(before), Some(now)) if now.content == before.content => {
                if now.mode != before.mode || now.owner != before.owner {
                    harms.push((
                        Harm::Attributes,
                        "DEST has other attributes after a failure".to_owned(),
                    ));
                } else if now != before {
                    let what = "DEST has another inode or time after a failure";
                    harms.push((Harm::Answer, what.to_owned()));
                }
            }
            (Some(_), Some(now)) if now.content == self.new => {
                harms.push((Harm::Answer, "DEST is new after a failure".to_owned()));
            }
            (Some(_), Some(now)) => harms.push((Harm::Torn, torn(&now))),
        }
        // The backup is part of what is unchanged.
        let backup = Path::new("o~");
        let after = self.after.get(backup);
        let is_copy = after.is_some_and(|after| after.content == self.old);
        if self.before.get(backup) != after && (self.keeps_older || !is_copy) {
            harms.push((
                Harm::Foreign,
                "the older backup is not what it was".to_owned(),
            ));
        }
    }

    fn check_backup(&self, form: &Form, harms: &mut Harms) {
        let kept = self.after.get(Path::new("o~"));
        if form.backs_up() && kept.is_none_or(|kept| kept.content != self.old) {
            harms.push((Harm::Answer, "the backup is not the old file".to_owned()));
        }
    }

    /// One line that names DEST, and says that it is unchanged where there was one.
    fn check_message(&self, form: &Form, unchanged: bool, harms: &mut Harms) {
        let messages = self.ended.messages();
        let lines: Vec<&str> = messages
            .lines()
            .filter(|line| line.starts_with("atomwrite: "))
            .filter(|line| !line.starts_with("atomwrite: warning: "))
            .collect();
        let runs_programs = form.runs_command() || form.validates();
        let others = messages
            .lines()
            .filter(|line| !line.starts_with("atomwrite: "));
        if !runs_programs && others.count() > 0 {
            harms.push((Harm::Answer, "it says more than a line".to_owned()));
        }
        let quoted = format!("'{}'", self.writer.destination());
        let [line] = lines.as_slice() else {
            harms.push((
                Harm::Answer,
                format!("{} lines say what failed", lines.len()),
            ));
            return;
        };
        let names_other =
            form.is_of_many() && (line.contains("'d'") || line.contains("cannot open 'src'"));
        if !(line.contains(&quoted) || names_other) || line.contains("os error") {
            harms.push((Harm::Answer, "the message does not name DEST".to_owned()));
        }
        let end = format!("; {quoted} is unchanged");
        if unchanged && self.writer.replaces() && !line.ends_with(&end) {
            harms.push((
                Harm::Answer,
                "the message does not say 'unchanged'".to_owned(),
            ));
        }
    }

    fn check_others(&self, harms: &mut Harms) {
        for (name, before) in self.before {
            let own = [Path::new(self.writer.destination()), Path::new("o~")];
            if own.contains(&name.as_path()) {
                continue;
            }
            if self.after.get(name) != Some(before) {
                harms.push((Harm::Foreign, format!("{} was changed", name.display())));
            }
        }
    }

    /// Returns whether what was asked for was not done, and said so: the fault has been met.
    pub(super) fn failed(&self) -> bool {
        !self.ended.is_success()
    }
}

/// Returns names that are new, and that were not asked for.
pub(super) fn litter<'p>(
    writer: Writer,
    is_local: bool,
    before: &Tree,
    after: &'p Tree,
) -> Vec<&'p Path> {
    let destination = Path::new(writer.destination());
    let was_made = after.contains_key(destination);
    let asked_for = |name: &Path| {
        name == destination
            || was_made && destination.starts_with(name)
            || name == Path::new("o~") && writer.form().is_some_and(Form::backs_up)
            || is_lock_of(name) && !is_local && writer.form().is_some_and(Form::locks)
    };
    let names = after.keys().map(PathBuf::as_path);
    names
        .filter(|name| !before.contains_key(*name) && !asked_for(name))
        .collect()
}

/// Returns whether it is a lock file.
pub(super) fn is_lock_of(name: &Path) -> bool {
    name.file_name().is_some_and(|last| is_lock(last.as_ref()))
}

/// Returns whether a name stays for good once it has been left: a random temporary name, or one in
/// a directory that has one.
pub(super) fn stays(writer: Writer, name: &Path) -> bool {
    let destination = Path::new(writer.destination()).file_name();
    let derived = destination.map(|file| derived(&file.to_string_lossy()));
    name.components().any(|part| {
        let part = part.as_os_str();
        is_temporary(part.as_ref()) && derived.as_ref().is_none_or(|derived| part != &**derived)
    })
}

fn torn(now: &Entry) -> String {
    format!("DEST has {} bytes, neither old nor new", now.content.len())
}
