//! Two names are exchanged as fast as the kernel can, while one of them is written: two
//! directories, two files, or a file and a link.
//!
//! Invariant of atomwrite: a run works in one directory and with one name. So the new file is
//! complete under one of the two names, and nothing of the run stays in either directory.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use anyhow::{Context, Result};
use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};

use super::race::Race;
use crate::ground::Ground;
use crate::place::{Place, Runner, check_end, peers, words};
use crate::programs::{Program, is_ours};
use crate::report::{Harm, Promise, Report, Tally};
use crate::tree::{read_entry, snapshot};

/// What changes places with what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pair {
    Directories,
    Files,
    /// `o` and a link to the victim; written with `--no-dereference`.
    FileAndLink,
}

const PAIRS: [Pair; 3] = [Pair::Directories, Pair::Files, Pair::FileAndLink];

const FORMS: [&[&str]; 6] = [
    &[],
    &["-b"],
    &["-C"],
    &["--lock"],
    &["--validate", "cat >/dev/null"],
    &["--keep=all"],
];

impl Pair {
    fn names(self) -> [&'static str; 2] {
        match self {
            Self::Directories => ["d", "e"],
            Self::Files | Self::FileAndLink => ["d/o", "d/n"],
        }
    }

    /// Returns the two names that may be the new file's.
    fn files(self) -> [&'static str; 2] {
        match self {
            Self::Directories => ["d/o", "e/o"],
            Self::Files | Self::FileAndLink => ["d/o", "d/n"],
        }
    }
}

pub(super) fn run(ground: &Ground, report: &mut Report) -> Result<()> {
    let test = "DEST or its directory is exchanged with another all the time";
    let mut tally = Tally::default();
    for pair in PAIRS {
        for form in FORMS {
            for unnamed_files in [true, false] {
                let mut options = form.to_vec();
                if pair == Pair::FileAndLink {
                    options.push("--no-dereference");
                }
                let words = words(ground, &options, "d/o");
                let runner = Runner {
                    unnamed_files,
                    ..Runner::ROOT
                };
                round(
                    ground,
                    pair,
                    runner,
                    &words,
                    ground.many(40, 150),
                    &format!("{options:?}"),
                    &mut tally,
                )?;
            }
        }
    }
    report.add(test, Promise::Made, Program::Atomwrite, tally);
    for (peer, words) in peers() {
        let mut tally = Tally::default();
        for pair in PAIRS {
            round(
                ground,
                pair,
                Runner::ROOT,
                &words,
                ground.many(40, 150),
                "",
                &mut tally,
            )?;
        }
        report.add(test, Promise::Made, peer, tally);
    }
    Ok(())
}

fn round(
    ground: &Ground,
    pair: Pair,
    runner: Runner,
    words: &[OsString],
    runs: usize,
    form: &str,
    tally: &mut Tally,
) -> Result<()> {
    let label = format!("{pair:?}, {form}, O_TMPFILE: {}", runner.unnamed_files);
    let place = Place::make(ground)?;
    place.file("d/o", b"old\n", 0o640, 0)?;
    match pair {
        Pair::Directories => {
            fs::create_dir(place.path("e"))?;
            place.file("e/o", b"old\n", 0o640, 0)?;
        }
        Pair::Files => place.file("d/n", b"old\n", 0o640, 0)?,
        Pair::FileAndLink => symlink("../victim/v", place.path("d/n"))?,
    }
    let [one, other] = pair.names().map(|name| place.path(name));
    let exchange = || {
        renameat2(
            AT_FDCWD,
            &one,
            AT_FDCWD,
            &other,
            RenameFlags::RENAME_EXCHANGE,
        )
        .context("cannot exchange two names")
    };
    Race::hold(
        runs,
        |race| race.go_on(exchange),
        |at| {
            let content = format!("{at}\n");
            tally.tried();
            let ended = runner.run(place.above(), words, content.as_bytes())?;
            // A program that checks DEST twice may find another file there, and must report that.
            check_end(&ended, &[0, 1], &label, tally);
            if ended.code() == Some(0) && !comes_up(&place, pair, content.as_bytes()) {
                tally.harmed(Harm::Lost, || {
                    format!("{label}, run {at}: it says that all is done")
                });
            }
            Ok(())
        },
    )?;
    place.check_victim(&label, tally)?;
    for (name, entry) in snapshot(place.above())? {
        if is_ours(Path::new(name.file_name().unwrap_or_default())) || name.ends_with("t") {
            tally.harmed(Harm::Litter, || format!("{label}: {}", name.display()));
        }
        let is_whole = entry.content == b"old\n" || entry.content.strip_suffix(b"\n").is_some();
        if entry.is_file() && !is_whole {
            tally.harmed(Harm::Torn, || {
                format!("{label}: {} is {:?}", name.display(), entry.content)
            });
        }
    }
    Ok(())
}

/// Returns whether one of the two names has the content. They are read one after the other, and may
/// be exchanged in between.
fn comes_up(place: &Place, pair: Pair, content: &[u8]) -> bool {
    let has_it = |name: &&str| {
        let found = read_entry(&place.path(name));
        found.is_ok_and(|found| {
            found.is_some_and(|entry| entry.is_file() && entry.content == content)
        })
    };
    (0..1000).any(|_| pair.files().iter().any(has_it))
}
