//! The check of a filesystem after a power cut.
//!
//! Invariant: each file is checked twice. Is it complete: one of its versions, and there at all if
//! it must be? And is it the version of the last program that has returned, or a later one? Then
//! the check searches for names that must not be there, before and after the next write to each
//! DEST. Random temporary names stay.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::filesystem::Filesystem;
use super::history::{Author, Expected, Found, History, Record, Sync, describe};
use super::many;
use super::run::run;
use crate::ground::Ground;
use crate::programs::{atomwrite, derived, is_lock, is_temporary};
use crate::report::{Harm, Tally};

/// What an author did on one filesystem.
#[derive(Debug, Default)]
pub(crate) struct Verdict {
    /// Torn, empty, zeroed, missing, or with another mode. For `--sync=none`, older as well.
    pub(crate) whole: Tally,
    /// Not what the last program that had returned had written, but an older version (lost), or
    /// none.
    pub(crate) kept: Tally,
    /// Whether the next write removes what is left.
    pub(crate) left: Tally,
    pub(crate) harms: Harms,
}

/// How often each was seen, for those who want to know whether the test sees anything.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Harms {
    pub(crate) torn: usize,
    pub(crate) lost: usize,
    /// Temporary names and lock files that were there after a cut.
    pub(crate) names: usize,
}

/// One power cut, mounted again.
pub(crate) struct Scene<'a> {
    pub(crate) ground: &'a Ground,
    pub(crate) filesystem: Filesystem,
    pub(crate) record: &'a Record,
    pub(crate) position: usize,
    pub(crate) root: &'a Path,
    /// How to see it again.
    pub(crate) shown: &'a str,
}

/// By author, in an order.
pub(crate) type Verdicts = BTreeMap<String, (Author, Verdict)>;

/// Returns the results of an author so far.
pub(crate) fn of(verdicts: &mut Verdicts, author: Author) -> &mut Verdict {
    &mut verdicts
        .entry(format!("{author:?}"))
        .or_insert_with(|| (author, Verdict::default()))
        .1
}

impl Scene<'_> {
    /// Checks all files. Returns whether one of those is harmed for which a promise was made.
    pub(crate) fn check(&self, verdicts: &mut Verdicts) -> Result<bool> {
        let mut broken = false;
        for history in &self.record.histories {
            if let Some(expected) = history.expected(self.position, &self.record.synced) {
                broken |= self.check_file(history, expected, of(verdicts, history.author))?;
            }
        }
        let mut desks: BTreeMap<&Path, Vec<&History>> = BTreeMap::new();
        for history in &self.record.histories {
            // DEST may be in a directory that was made for it.
            let desk: &Path = desk(&history.path);
            desks.entry(desk).or_default().push(history);
        }
        for (desk, histories) in desks {
            broken |= self.check_names(desk, &histories, verdicts)?;
        }
        Ok(broken)
    }

    fn check_file(
        &self,
        history: &History,
        expected: Expected,
        verdict: &mut Verdict,
    ) -> Result<bool> {
        let path = self.root.join(&history.path);
        let (content, trouble) = match fs::read(&path) {
            Ok(content) => (Some(content), None),
            Err(error) if error.kind() == io::ErrorKind::NotFound => (None, None),
            Err(error) => (None, Some(error)),
        };
        let found = match &trouble {
            Some(_) => Found::Torn,
            None => history.find(expected, content.as_deref()),
        };
        let example = || {
            let what = match (&trouble, &content) {
                (Some(error), _) => error.to_string(),
                (None, None) => "missing".to_owned(),
                (None, Some(content)) => describe(content),
            };
            let newest = &history.versions[expected.begun - 1];
            format!(
                "{}: {} is {what} ({found:?}, {expected:?}, {} bytes by '{}')",
                self.shown,
                history.path.display(),
                newest.content.len(),
                newest.by
            )
        };
        let full_or_file = matches!(history.author.sync(), Some(Sync::File | Sync::Full));
        let mut broken = false;
        verdict.whole.tried();
        match found {
            Found::Torn => {
                verdict.harms.torn += 1;
                verdict.whole.harmed(Harm::Torn, example);
                broken |= full_or_file;
            }
            Found::Nothing if expected.synced.is_some() => {
                verdict.whole.harmed(Harm::Missing, example);
                broken |= full_or_file;
            }
            Found::Version(number) => {
                if full_or_file && expected.synced.is_some_and(|synced| number < synced) {
                    verdict.whole.harmed(Harm::Lost, example);
                    broken = true;
                }
                if let Some(mode) = history.mode {
                    let now = fs::metadata(&path)
                        .context("cannot read the attributes of a file")?
                        .permissions()
                        .mode();
                    if now & 0o7777 != mode {
                        verdict.whole.harmed(Harm::Attributes, || {
                            format!("{:o}: {}", now & 0o7777, example())
                        });
                        broken |= full_or_file;
                    }
                }
            }
            Found::Nothing => {}
        }
        if let Some(returned) = expected.returned {
            verdict.kept.tried();
            let harm = match found {
                Found::Version(number) => (number < returned).then_some(Harm::Lost),
                Found::Nothing if expected.synced.is_some() => Some(Harm::Missing),
                // It has never come to the disk.
                Found::Nothing => Some(Harm::Lost),
                // What was replaced, and that is not on the disk yet, is another matter.
                Found::Torn => {
                    let replaced =
                        self.filesystem.tears_what_was_replaced() && expected.is_being_written();
                    (!replaced).then_some(Harm::Torn)
                }
            };
            if let Some(harm) = harm {
                verdict.harms.lost += 1;
                if history.author.sync() == Some(Sync::None) && found != Found::Torn {
                    verdict.whole.harmed(Harm::Lost, example);
                }
                verdict.kept.harmed(harm, example);
                broken |= history.author.sync() == Some(Sync::Full);
            }
        }
        Ok(broken)
    }

    /// Finds names that were not asked for, and checks whether the next write to each DEST removes
    /// them.
    fn check_names(
        &self,
        desk: &Path,
        histories: &[&History],
        verdicts: &mut Verdicts,
    ) -> Result<bool> {
        let Some(author) = histories.first().map(|history| history.author) else {
            return Ok(false);
        };
        let known: BTreeSet<PathBuf> = histories
            .iter()
            .map(|history| history.path.clone())
            .chain([desk.join("src")])
            .collect();
        let unexpected_names = || unexpected(self.root, desk, &known);
        let before = unexpected_names()?;
        let verdict = of(verdicts, author);
        verdict.left.tried();
        if before.is_empty() {
            return Ok(false);
        }
        verdict.harms.names += before.len();
        let is_atomwrite = author.sync().is_some();
        let aside = self.root.join(desk.parent().unwrap_or(desk)).join("aside");
        let mut broken = false;
        // One run was under way, and the other name is the backup or the lock file.
        if is_atomwrite && before.len() > 2 {
            verdict.left.harmed(Harm::Litter, || {
                format!("{}: {before:?} at once", self.shown)
            });
            broken = true;
        }
        let is_locked = before.iter().any(|name| is_lock(last(name)));
        for (directory, words) in self.next_writes(desk, author, histories, &aside, is_locked)? {
            let ended = run(&words, &directory, &aside, b"next")?;
            if let Some(harm) = ended.harm() {
                verdict.left.harmed(harm, || {
                    format!("{}: the next write: {}", self.shown, ended.summary())
                });
            }
        }
        let mut after = unexpected_names()?;
        if is_atomwrite {
            let stays = |name: &PathBuf| before.contains(name) && is_random(name, histories);
            if let Some(lost) = before
                .iter()
                .find(|name| is_random(name, histories) && !after.contains(*name))
            {
                verdict.left.harmed(Harm::Foreign, || {
                    format!("{}: {} is gone", self.shown, lost.display())
                });
                broken = true;
            }
            after.retain(|name| !stays(name));
        }
        if !after.is_empty() {
            verdict
                .left
                .harmed(Harm::Litter, || format!("{}: {after:?}", self.shown));
            broken |= is_atomwrite;
        }
        Ok(broken)
    }

    /// Returns where and with which words each DEST, or the set of files, is written once more.
    fn next_writes(
        &self,
        desk: &Path,
        author: Author,
        histories: &[&History],
        aside: &Path,
        is_locked: bool,
    ) -> Result<Vec<(PathBuf, Vec<OsString>)>> {
        if let Author::Many(_) = author {
            let words = many::next_words(self.ground, &many::sources(aside, desk))?;
            return Ok(vec![(self.root.join(desk), words)]);
        }
        fs::write(self.root.join(desk).join("src"), "next")?;
        let mut writes = Vec::new();
        for history in histories {
            // A backup is not written to.
            if history.path.to_string_lossy().ends_with('~') {
                continue;
            }
            let path = self.root.join(&history.path);
            let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else {
                continue;
            };
            if !directory.exists() {
                continue;
            }
            let words = if let Author::Other(program) = author {
                program.words(self.ground)
            } else {
                let lock = is_locked.then_some("--lock").map(OsStr::new);
                let words = [OsStr::new("--sync=none")].into_iter().chain(lock);
                atomwrite(self.ground, words.chain([name]))
            };
            writes.push((directory.to_owned(), words));
        }
        Ok(writes)
    }
}

fn last(path: &Path) -> &Path {
    path.file_name().unwrap_or_default().as_ref()
}

/// Returns whether it is a temporary name that no later write removes.
fn is_random(path: &Path, histories: &[&History]) -> bool {
    let is_derived = histories
        .iter()
        .any(|history| Path::new(&derived(&last(&history.path).to_string_lossy())) == last(path));
    is_temporary(last(path)) && !is_derived
}

/// Returns the author's directory: the second on the path.
fn desk(path: &Path) -> &Path {
    let depth = path.components().count();
    path.ancestors()
        .nth(depth.saturating_sub(2))
        .unwrap_or(path)
}

/// Returns files in a directory, and in those below it, that are not known. A temporary directory
/// counts as one, whatever is in it, and if nothing is.
fn unexpected(root: &Path, directory: &Path, known: &BTreeSet<PathBuf>) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let entries = match fs::read_dir(root.join(directory)) {
        // A missing file is reported when its files are checked.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(found),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        let path = directory.join(entry.file_name());
        let is_temporary = is_temporary(Path::new(&entry.file_name()));
        if entry.file_type()?.is_dir() && !is_temporary {
            found.extend(self::unexpected(root, &path, known)?);
        } else if !known.contains(&path) {
            found.push(path);
        }
    }
    Ok(found)
}
