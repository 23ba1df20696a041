//! What was written to each file, when, and by which author; and what may be there after a power
//! cut.
//!
//! Invariant: a version begins before its program starts, and is done after the program has ended,
//! so no program is blamed for what lies between. Times are positions in the disk's log.

use std::path::{Path, PathBuf};

use crate::programs::Program;
use crate::report::Harm;

/// What atomwrite's `--sync` is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Sync {
    None,
    File,
    Full,
}

impl Sync {
    pub(crate) const ALL: [Self; 3] = [Self::None, Self::File, Self::Full];

    pub(crate) fn option(self) -> &'static str {
        match self {
            Self::None => "--sync=none",
            Self::File => "--sync=file",
            Self::Full => "--sync=full",
        }
    }
}

/// The program that writes a file, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Author {
    Atomwrite(Sync),
    /// atomwrite with `-t`: several files in one run.
    Many(Sync),
    Other(Program),
}

impl Author {
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        Sync::ALL
            .into_iter()
            .flat_map(|sync| [Self::Atomwrite(sync), Self::Many(sync)])
            .chain(Program::OTHERS.into_iter().map(Self::Other))
    }

    pub(crate) fn program(self) -> Program {
        match self {
            Self::Atomwrite(_) | Self::Many(_) => Program::Atomwrite,
            Self::Other(program) => program,
        }
    }

    /// Returns the mode of syncing that was asked for, or `None` for other programs.
    pub(crate) fn sync(self) -> Option<Sync> {
        match self {
            Self::Atomwrite(sync) | Self::Many(sync) => Some(sync),
            Self::Other(_) => None,
        }
    }
}

/// A content that a file was to have.
#[derive(Debug)]
pub(crate) struct Version {
    pub(crate) content: Vec<u8>,
    /// How it was written, to be shown.
    pub(crate) by: String,
    pub(crate) begun: usize,
    /// `None` if the program failed.
    pub(crate) done: Option<usize>,
}

/// A file and its versions, oldest first.
#[derive(Debug)]
pub(crate) struct History {
    /// From the root of the filesystem.
    pub(crate) path: PathBuf,
    pub(crate) author: Author,
    /// Bits that every version has, where the author promises to keep them.
    pub(crate) mode: Option<u32>,
    pub(crate) versions: Vec<Version>,
}

/// A moment at which all of the filesystem was put on the disk.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Synced {
    pub(crate) begun: usize,
    pub(crate) done: usize,
}

/// A run that should have worked, because nothing was wrong with the disk.
#[derive(Debug)]
pub(crate) struct Failed {
    pub(crate) author: Author,
    pub(crate) harm: Harm,
    pub(crate) shown: String,
}

/// All that was done with a filesystem.
#[derive(Debug, Default)]
pub(crate) struct Record {
    pub(crate) histories: Vec<History>,
    pub(crate) synced: Vec<Synced>,
    pub(crate) failed: Vec<Failed>,
}

impl Record {
    pub(crate) fn add(&mut self, other: Self) {
        self.histories.extend(other.histories);
        self.synced.extend(other.synced);
        self.failed.extend(other.failed);
    }
}

/// What is found of a file after a power cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Found {
    /// The version with this number.
    Version(usize),
    Nothing,
    /// Something that it never was.
    Torn,
}

/// What may be found of a file after a power cut.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Expected {
    /// How many versions had been begun.
    pub(crate) begun: usize,
    /// The newest that a sync of the whole filesystem had put on the disk.
    pub(crate) synced: Option<usize>,
    /// The newest whose program had ended with status 0.
    pub(crate) returned: Option<usize>,
}

impl Expected {
    /// Returns whether a run was under way.
    pub(crate) fn is_being_written(self) -> bool {
        self.returned
            .is_none_or(|returned| returned + 1 < self.begun)
    }
}

impl History {
    pub(crate) fn new(path: &Path, author: Author, mode: Option<u32>) -> Self {
        Self {
            path: path.to_owned(),
            author,
            mode,
            versions: Vec::new(),
        }
    }

    /// Returns what the last successful program has written.
    pub(crate) fn newest(&self) -> Option<&[u8]> {
        let done = self.versions.iter().rfind(|version| version.done.is_some());
        done.map(|version| version.content.as_slice())
    }

    /// Returns `None` if no program had begun to write it.
    pub(crate) fn expected(&self, cut: usize, synced: &[Synced]) -> Option<Expected> {
        let begun = self
            .versions
            .iter()
            .take_while(|version| version.begun <= cut)
            .count();
        let last_done = |before: usize| {
            self.versions[..begun]
                .iter()
                .rposition(|version| version.done.is_some_and(|done| done <= before))
        };
        // Of what was done before a sync began, all is on the disk when the sync is done.
        let synced = synced
            .iter()
            .filter(|sync| sync.done <= cut)
            .map(|sync| sync.begun)
            .max();
        (begun > 0).then(|| Expected {
            begun,
            synced: synced.and_then(last_done),
            returned: last_done(cut),
        })
    }

    pub(crate) fn find(&self, expected: Expected, content: Option<&[u8]>) -> Found {
        let Some(content) = content else {
            return Found::Nothing;
        };
        self.versions[..expected.begun]
            .iter()
            .rposition(|version| version.content == content)
            .map_or(Found::Torn, Found::Version)
    }
}

/// Says in words what a torn file holds.
pub(crate) fn describe(content: &[u8]) -> String {
    let (all, rest) = (
        content.len(),
        content.iter().filter(|byte| **byte != 0).count(),
    );
    let zeros = all - rest;
    let first = content
        .split(|byte| *byte == b'\n')
        .next()
        .unwrap_or_default();
    let head = String::from_utf8_lossy(&first[..first.len().min(40)]).into_owned();
    match (content.len(), zeros) {
        (0, _) => "empty".to_owned(),
        (all, zeros) if zeros == all => format!("{all} zeros"),
        (all, 0) => format!("{all} bytes that begin with '{head}'"),
        (all, zeros) => format!("{all} bytes, {zeros} of them zero, that begin with '{head}'"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn history() -> History {
        let mut history = History::new(Path::new("o"), Author::Atomwrite(Sync::Full), None);
        for (begun, done) in [(0, 0), (10, 20), (30, 40)] {
            let content = format!("version of {begun}").into_bytes();
            history.versions.push(Version {
                content,
                by: String::new(),
                begun,
                done: Some(done),
            });
        }
        history
    }

    #[test]
    fn knows_what_had_begun_and_what_had_returned() {
        let synced = [Synced {
            begun: 25,
            done: 28,
        }];
        for (cut, begun, returned, writing) in [
            (5, 1, Some(0), false),
            (15, 2, Some(0), true),
            (20, 2, Some(1), false),
            (39, 3, Some(1), true),
        ] {
            let expected = history().expected(cut, &synced).unwrap();
            assert_eq!(
                (
                    expected.begun,
                    expected.returned,
                    expected.is_being_written()
                ),
                (begun, returned, writing)
            );
        }
        assert_eq!(history().expected(27, &synced).unwrap().synced, None);
        assert_eq!(history().expected(50, &synced).unwrap().synced, Some(1));
    }

    #[test]
    fn takes_nothing_for_whole_that_is_not() {
        let history = history();
        let expected = history.expected(15, &[]).unwrap();
        assert_eq!(
            history.find(expected, Some(b"version of 10")),
            Found::Version(1)
        );
        assert_eq!(history.find(expected, Some(b"version of 30")), Found::Torn);
        assert_eq!(history.find(expected, Some(b"version of 1\0")), Found::Torn);
        assert_eq!(history.find(expected, Some(b"")), Found::Torn);
        assert_eq!(history.find(expected, None), Found::Nothing);
    }
}
