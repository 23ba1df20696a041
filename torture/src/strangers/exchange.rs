//! Two names change places as fast as the kernel can, while one of them is written: two directories, two files, a file
//! and a link.
//!
//! The rule of atomwrite: all of a run happens in one directory and with one name. So the new file is whole under one of
//! the two names, and nothing of the run stays in either directory.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::thread;

use anyhow::{Context, Result, anyhow};
use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};

use super::place::{Place, Runner, judge_end, words};
use super::tree::{look, look_at};
use crate::ground::Ground;
use crate::programs::{Program, is_temporary};
use crate::report::{Harm, Promise, Report, Tally};

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

    /// The two names that may be the new file's.
    fn files(self) -> [&'static str; 2] {
        match self {
            Self::Directories => ["d/o", "e/o"],
            Self::Files | Self::FileAndLink => ["d/o", "d/n"],
        }
    }
}

pub(super) fn run(ground: &Ground, report: &mut Report) -> Result<()> {
    let test = "DEST or its directory changes places with another all the time";
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
    let peers: [(Program, &[&str]); 2] = [
        (Program::Sponge, &["sponge", "d/o"]),
        (Program::CatAndMove, &["sh", "-c", "cat >d/t && mv d/t d/o"]),
    ];
    for (peer, words) in peers {
        let mut tally = Tally::default();
        let words: Vec<OsString> = words.iter().map(OsString::from).collect();
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
    let told_as = format!("{pair:?}, {form}, O_TMPFILE: {}", runner.unnamed_files);
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
    let (over, moves) = (AtomicBool::new(false), AtomicUsize::new(0));
    thread::scope(|scope| {
        let [one, other] = pair.names().map(|name| place.path(name));
        let (over, moves) = (&over, &moves);
        let racer = scope.spawn(move || exchange(&one, &other, over, moves));
        let outcome = (0..runs).try_for_each(|at| {
            let (seen, content) = (moves.load(Relaxed), format!("{at}\n"));
            tally.tried();
            let ended = runner.run(place.above(), words, content.as_bytes())?;
            // Who looks at DEST twice may find another thing there, and must say so.
            judge_end(&ended, &[0, 1], &told_as, tally);
            if ended.code() == Some(0) {
                // The two are looked at one after the other, and it may be once under each name.
                let is_there = (0..1000).any(|_| {
                    pair.files().iter().any(|name| {
                        look_at(&place.path(name)).is_ok_and(|found| {
                            found.is_some_and(|entry| {
                                entry.is_file() && entry.content == content.as_bytes()
                            })
                        })
                    })
                });
                if !is_there {
                    tally.harmed(Harm::Lost, || {
                        format!("{told_as}, run {at}: it says that all is done")
                    });
                }
            }
            while moves.load(Relaxed) == seen && !racer.is_finished() {
                thread::yield_now();
            }
            anyhow::Ok(())
        });
        over.store(true, Relaxed);
        racer.join().map_err(|_| anyhow!("the racer panicked"))??;
        outcome
    })?;
    place.judge_victim(&told_as, tally)?;
    for (name, entry) in look(place.above())? {
        if is_temporary(Path::new(name.file_name().unwrap_or_default())) || name.ends_with("t") {
            tally.harmed(Harm::Left, || format!("{told_as}: {}", name.display()));
        }
        let is_whole = entry.content == b"old\n" || entry.content.strip_suffix(b"\n").is_some();
        if entry.is_file() && !is_whole {
            tally.harmed(Harm::Torn, || {
                format!("{told_as}: {} is {:?}", name.display(), entry.content)
            });
        }
    }
    Ok(())
}

fn exchange(one: &Path, other: &Path, over: &AtomicBool, moves: &AtomicUsize) -> Result<()> {
    while !over.load(Relaxed) {
        renameat2(AT_FDCWD, one, AT_FDCWD, other, RenameFlags::RENAME_EXCHANGE)
            .context("cannot exchange two names")?;
        moves.fetch_add(1, Relaxed);
    }
    Ok(())
}
