//! The runs with `-t` while the disk keeps its log: some of a set of files, old and new, and some
//! that are equal already.
//!
//! Invariant: each file of a run has its history, as if it was written alone. So once a run has
//! returned, all its files must be there. Half of the runs compare: a file that is equal is not
//! written, and is then as durable as any other, even if another process has just written it.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::Result;
use rand::Rng;
use rand::rngs::StdRng;

use super::history::{History, Sync};
use super::workload::{Change, content};
use crate::ground::Ground;
use crate::lacking::Lacking;
use crate::programs::atomwrite;

/// The files that are written again and again. The first three exist from the beginning.
pub(crate) const NAMES: [&str; 6] = ["s0", "s1", "s2", "s3", "s4", "s5"];

pub(crate) fn is_there_from_the_beginning(name: &str) -> bool {
    NAMES[..NAMES.len() / 2].contains(&name)
}

/// How the files of a run are put on the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flush {
    /// All at once, where atomwrite knows the filesystem.
    AsItIs,
    /// Each by itself, as where it does not.
    Each,
}

impl Flush {
    pub(crate) const ALL: [Self; 2] = [Self::AsItIs, Self::Each];

    pub(crate) fn lacking(self) -> Option<Lacking> {
        match self {
            Self::AsItIs => None,
            Self::Each => Some(Lacking::Statfs),
        }
    }
}

/// One run.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) changes: Vec<Change>,
    pub(crate) flush: Flush,
    compares: bool,
}

impl Run {
    /// Returns which files, and what they are to hold.
    pub(crate) fn choose(histories: &[History], number: usize, chance: &mut StdRng) -> Self {
        let compares = chance.random_bool(0.5);
        let flush = Flush::ALL[usize::from(chance.random_ratio(1, 3))];
        let mut changes = Vec::new();
        let one_at_least = chance.random_range(0..NAMES.len());
        for (at, name) in NAMES.into_iter().enumerate() {
            if at != one_at_least && chance.random_bool(0.4) {
                continue;
            }
            let newest = histories
                .iter()
                .find(|history| history.path.ends_with(name))
                .and_then(History::newest);
            let content = match newest {
                Some(newest) if compares && chance.random_bool(0.4) => newest.to_vec(),
                _ => content(chance),
            };
            changes.push(Change::new(name, &content));
        }
        if chance.random_bool(0.5) {
            changes.push(Change {
                is_laid: compares,
                ..Change::new(format!("new{number}"), &content(chance))
            });
        }
        Self {
            changes,
            flush,
            compares,
        }
    }

    /// Returns the words; the sources are in another directory, under the same names.
    pub(crate) fn words(&self, ground: &Ground, sync: Sync, sources: &Path) -> Vec<OsString> {
        let mut words = words(ground, sync);
        words.extend(self.compares.then(|| "-C".into()));
        let sources = self.changes.iter().map(|change| sources.join(&change.name));
        words.extend(sources.map(PathBuf::into_os_string));
        words
    }

    pub(crate) fn shown(&self, sync: Sync) -> String {
        let names: Vec<&str> = self.changes.iter().map(|one| one.name.as_str()).collect();
        let compares = if self.compares { " -C" } else { "" };
        format!(
            "atomwrite {} -t .{compares} {} ({:?})",
            sync.option(),
            names.join(" "),
            self.flush
        )
    }
}

/// Returns where the sources are for one of the directories that are written to.
pub(crate) fn sources(aside: &Path, desk: &Path) -> PathBuf {
    aside
        .join("sources")
        .join(desk.file_name().unwrap_or_default())
}

fn words(ground: &Ground, sync: Sync) -> Vec<OsString> {
    atomwrite(ground, [sync.option(), "-t", "."])
}

/// Makes the sources of the next write of the same set, and returns the write.
pub(crate) fn next_words(ground: &Ground, sources: &Path) -> Result<Vec<OsString>> {
    std::fs::create_dir_all(sources)?;
    let mut words = words(ground, Sync::None);
    for name in NAMES {
        let source = sources.join(name);
        std::fs::write(&source, "next")?;
        words.push(source.into());
    }
    Ok(words)
}
