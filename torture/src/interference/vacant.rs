//! DEST is created and removed all the time, while it is written with `-n`.
//!
//! Invariant of atomwrite: a file that has the name at the moment of the commit stays. The test
//! sees a program that checks the name and then renames: it replaces the file that only the other
//! thread may remove.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use anyhow::{Context, Result};

use super::race::Race;
use crate::ground::Ground;
use crate::place::{Place, Runner, check_end, words};
use crate::programs::Program;
use crate::report::{Harm, Promise, Report, Tally};

/// The options, and what is written: `-t` has its names from `src/n`.
const FORMS: [(&[&str], &str); 5] = [
    (&["-n"], "d/n"),
    (&["-n", "--lock"], "d/n"),
    (&["-n", "--validate", "cat >/dev/null"], "d/n"),
    (&["-n", "src/n"], "d/n"),
    (&["-n", "-t", "d"], "src/n"),
];

pub(super) fn run(ground: &Ground, report: &mut Report) -> Result<()> {
    let mut tally = Tally::default();
    for (options, last) in FORMS {
        for unnamed_files in [true, false] {
            let runner = Runner {
                unnamed_files,
                ..Runner::ROOT
            };
            round(ground, runner, options, last, &mut tally)?;
        }
    }
    let test = "DEST is created and removed all the time, and written with `-n`";
    report.add(test, Promise::Made, Program::Atomwrite, tally);
    Ok(())
}

fn round(
    ground: &Ground,
    runner: Runner,
    options: &[&str],
    last: &str,
    tally: &mut Tally,
) -> Result<()> {
    let label = format!("{options:?} {last}, O_TMPFILE: {}", runner.unnamed_files);
    let place = Place::make(ground)?;
    fs::create_dir(place.path("src"))?;
    fs::write(place.path("src/n"), "new\n")?;
    fs::write(place.path("mine"), "mine\n")?;
    let (mine, name) = (place.path("mine"), place.path("d/n"));
    let replaced = AtomicU64::new(0);
    let words = words(ground, options, last);
    Race::hold(
        ground.many(100, 400),
        |race| race.go_on(|| come_and_go(&mine, &name, &replaced)),
        |at| {
            tally.tried();
            let ended = runner.run(place.above(), &words, b"new\n")?;
            check_end(&ended, &[0, 3], &label, tally);
            for _ in 0..replaced.swap(0, Relaxed) {
                tally.harmed(Harm::Foreign, || {
                    format!("{label}, run {at}: a file that was there is replaced")
                });
            }
            Ok(())
        },
    )
}

/// Creates the file if it does not exist, and removes it again. What is removed shows whether it
/// was replaced: a check before the removal would be too late, or too early.
fn come_and_go(mine: &Path, name: &Path, replaced: &AtomicU64) -> Result<()> {
    let is_mine = match fs::hard_link(mine, name) {
        Ok(()) => true,
        Err(error) if error.kind() == ErrorKind::AlreadyExists => false,
        Err(error) => return Err(error).context("cannot give a name"),
    };
    let taken = mine.with_file_name("taken");
    fs::rename(name, &taken).context("cannot take a name away")?;
    if is_mine && fs::metadata(&taken)?.ino() != fs::metadata(mine)?.ino() {
        replaced.fetch_add(1, Relaxed);
    }
    Ok(fs::remove_file(&taken)?)
}
