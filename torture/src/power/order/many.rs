//! The order of the calls of `-t`: all files are written, then all are flushed, then all are
//! renamed, then the directory is synced.
//!
//! Invariant: the flush comes after the last change of every file, and before the first rename: one
//! syncfs, or an fsync of each file. A file that is equal is flushed like the others, and not
//! renamed.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};

use super::calls::{Call, shown_path};
use super::{Broken, Stage, Sync, check, missing, needless};
use crate::power::many::Flush;
use crate::programs::atomwrite;
use crate::report::{Harm, Tally};

pub(super) const TEST: &str =
    "Order of the calls with `-t`: write all, flush, rename all, fsync of the directory";

/// As [`Flush::Each`] has it.
pub(super) const NO_STATFS: &str = "inject=fstatfs:error=ENOSYS";

/// The options, and what of [`NAMES`] is there before.
const FORMS: [(&[&str], &[&str]); 6] = [
    (&[], &["m0", "m1"]),
    (&["-C"], &["m0", "m1", "equal"]),
    (&["-b"], &["m0", "m1", "m2"]),
    (&["--validate", "cat >/dev/null"], &["m0"]),
    (&["-n"], &[]),
    (&["-D"], &[]),
];

/// `equal` is, where it is there.
const NAMES: [&str; 4] = ["m0", "m1", "m2", "equal"];

impl Stage<'_> {
    pub(super) fn try_many(&self) -> Result<Tally> {
        let mut tally = Tally::default();
        for (form, flush, sync) in FORMS.into_iter().flat_map(|form| {
            Flush::ALL
                .into_iter()
                .flat_map(move |flush| Sync::ALL.map(|sync| (form, flush, sync)))
        }) {
            let (options, there) = form;
            let shown = format!(
                "{}, {flush:?}, {} -t {}",
                self.filesystem.shown(),
                sync.option(),
                options.join(" ")
            );
            let calls = self
                .trace_many(options, there, flush, sync)
                .with_context(|| shown.clone())?;
            let directory = self.directory();
            let is_equal = options == ["-C"];
            let (into, changed) = if options == ["-D"] {
                let made = ["", "new", "new/er"].map(|name| directory.join(name));
                (directory.join("new/er"), made.to_vec())
            } else {
                (directory.clone(), vec![directory])
            };
            let expected = Expected {
                equal: is_equal.then(|| into.join("equal")),
                renamed: NAMES[..NAMES.len() - usize::from(is_equal)].to_vec(),
                changed,
            };
            check(
                sync,
                &shown,
                |sync| expected.broken(sync, &calls),
                &mut tally,
            )?;
            if flush == Flush::Each && sync != Sync::None {
                ensure!(
                    !calls.iter().any(|call| call.name == "syncfs"),
                    "{shown}: it calls syncfs: the other way is not tested"
                );
            }
        }
        Ok(tally)
    }

    fn trace_many(
        &self,
        options: &[&str],
        there: &[&str],
        flush: Flush,
        sync: Sync,
    ) -> Result<Vec<Call>> {
        let directory = self.lay_out(there)?;
        let sources = self.place.join("sources");
        fs::create_dir_all(&sources)?;
        let into = if options == ["-D"] { "new/er" } else { "." };
        let first = [sync.option(), "-t", into];
        let mut words = atomwrite(self.ground, first.iter().chain(options));
        for name in NAMES {
            let content = if name == "equal" { "old" } else { "new" };
            fs::write(sources.join(name), content)?;
            words.push(sources.join(name).into());
        }
        // Only here is it known that both are on one filesystem.
        ensure!(directory.starts_with(self.root), "nothing is tested");
        let inject = match flush {
            Flush::AsItIs => None,
            Flush::Each => Some(NO_STATFS),
        };
        self.strace(words, inject)
    }
}

#[derive(Debug)]
struct Expected {
    equal: Option<PathBuf>,
    renamed: Vec<&'static str>,
    /// The directories that have a new name in them.
    changed: Vec<PathBuf>,
}

impl Expected {
    fn broken(&self, sync: Sync, calls: &[Call]) -> Broken {
        let torn = |what: String| Some((Harm::Torn, what));
        let mut renames = Vec::new();
        for name in &self.renamed {
            let is_its = |call: &Call| gives_name(call) && call.names().last() == Some(name);
            match calls.iter().position(is_its) {
                Some(at) => renames.push(at),
                None => return torn(format!("{name} is not renamed")),
            }
        }
        let first_rename = renames.iter().copied().min()?;
        // With --backup there may be one more, of an old file.
        let last_rename = calls.iter().rposition(gives_name)?;
        let equal = self
            .equal
            .as_ref()
            .map(|path| path.to_string_lossy().into_owned());
        if sync == Sync::None {
            return needless(calls);
        }
        for at in renames {
            let call = &calls[at];
            let Some(draft) = draft(call) else {
                return torn(format!("{}: the new file is not found", call.arguments));
            };
            let Some(change) = calls.iter().rposition(|call| call.changes(&draft)) else {
                return torn(format!("nothing is written to {draft}"));
            };
            if change > first_rename {
                return torn(format!("{draft} is changed after the first rename"));
            }
            if !is_flushed(&calls[change + 1..first_rename], &draft) {
                return torn(format!(
                    "{draft} is not flushed between its last change and the first rename"
                ));
            }
        }
        if let Some(equal) = equal {
            if !is_flushed(&calls[..first_rename], &equal) {
                return Some((Harm::Lost, format!("{equal} is not flushed")));
            }
        }
        match sync {
            Sync::Full => missing(&self.changed, &calls[last_rename + 1..]),
            _ => needless(&calls[first_rename..]),
        }
    }
}

/// Returns whether a call gives a file another name. On a filesystem that is not local, and all are
/// taken for that where fstatfs fails, a new DEST is linked.
fn gives_name(call: &Call) -> bool {
    call.renames() || call.name == "linkat"
}

/// Everything is on one filesystem here, so any syncfs covers all files.
fn is_flushed(calls: &[Call], path: &str) -> bool {
    calls
        .iter()
        .any(|call| call.name == "syncfs" || call.syncs_file(path))
}

/// Returns the path of the file that a call renames.
fn draft(rename: &Call) -> Option<String> {
    let directory = shown_path(&rename.arguments)?;
    Some(format!("{directory}/{}", rename.names().first()?))
}

#[cfg(test)]
mod tests {
    use super::super::calls::parse;
    use super::*;

    const AT_ONCE: [&str; 6] = [
        "7 write(5</d/.x.tmp/0/a>, \"hi\", 2) = 2",
        "7 write(5</d/.x.tmp/0/b>, \"ho\", 2) = 2",
        "7 syncfs(4</d/.x.tmp>) = 0",
        "7 renameat(4</d/.x.tmp>, \"0/a\", 3</d>, \"a\") = 0",
        "7 renameat(4</d/.x.tmp>, \"0/b\", 3</d>, \"b\") = 0",
        "7 fsync(3</d>) = 0",
    ];

    const EACH: [&str; 7] = [
        AT_ONCE[0],
        "7 fsync(5</d/.x.tmp/0/a>) = 0",
        AT_ONCE[1],
        "7 fsync(5</d/.x.tmp/0/b>) = 0",
        AT_ONCE[3],
        AT_ONCE[4],
        AT_ONCE[5],
    ];

    fn broken(lines: &[&str], sync: Sync) -> Option<Harm> {
        let expected = Expected {
            equal: None,
            renamed: vec!["a", "b"],
            changed: vec!["/d".into()],
        };
        expected
            .broken(sync, &parse(&lines.join("\n")).unwrap())
            .map(|(harm, _)| harm)
    }

    #[test]
    fn takes_the_right_orders_for_right() {
        for lines in [&AT_ONCE[..], &EACH] {
            assert_eq!(broken(lines, Sync::Full), None);
            assert_eq!(broken(&lines[..lines.len() - 1], Sync::File), None);
        }
        let unsynced = [0, 1, 3, 4].map(|at| AT_ONCE[at]);
        assert_eq!(broken(&unsynced, Sync::None), None);
    }

    #[test]
    fn sees_each_call_that_is_missing_or_late() {
        for lines in [&AT_ONCE[..], &EACH] {
            for at in 0..lines.len() {
                let mut fewer = lines.to_vec();
                fewer.remove(at);
                assert!(
                    broken(&fewer, Sync::Full).is_some(),
                    "without {}",
                    lines[at]
                );
            }
        }
        for (lines, one, other) in [
            (&AT_ONCE[..], 1, 2),
            (&AT_ONCE, 2, 3),
            (&AT_ONCE, 4, 5),
            (&EACH, 0, 1),
            (&EACH, 3, 4),
            (&EACH, 5, 6),
        ] {
            let mut swapped = lines.to_vec();
            swapped.swap(one, other);
            assert!(
                broken(&swapped, Sync::Full).is_some(),
                "{} late",
                lines[one]
            );
        }
        assert_eq!(broken(&AT_ONCE, Sync::File), Some(Harm::Answer));
        assert_eq!(broken(&EACH, Sync::None), Some(Harm::Answer));
    }

    #[test]
    fn sees_an_equal_file_that_is_not_flushed() {
        let expected = Expected {
            equal: Some("/d/c".into()),
            renamed: vec!["a", "b"],
            changed: vec!["/d".into()],
        };
        let broken =
            |lines: &[&str]| expected.broken(Sync::Full, &parse(&lines.join("\n")).unwrap());
        assert!(broken(&EACH).is_some());
        let mut lines = EACH.to_vec();
        lines.insert(0, "7 fsync(6</d/c>) = 0");
        assert!(broken(&lines).is_none());
        assert!(broken(&AT_ONCE).is_none());
    }
}
