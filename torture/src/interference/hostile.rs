//! Another user who owns or shares the directory, and changes it as fast as the machine can while
//! root writes there.
//!
//! That user may decide what becomes of DEST, so DEST is not checked. The check is: root's program
//! changes nothing that only root may change, and it ends with a documented status. The directory
//! also holds a directory of root's, which the other user cannot empty but can rename to any
//! temporary name. It must stay as it is.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, symlink};
use std::path::Path;

use anyhow::{Context, Result, ensure};
use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
use nix::sys::stat::Mode;
use nix::unistd::{Gid, Uid, mkfifo, setfsgid, setfsuid};
use rand::Rng;
use rand::rngs::StdRng;

use super::race::Race;
use crate::ground::{Ground, OTHER_USER};
use crate::place::{Place, Runner, check_end, give, own, words};
use crate::programs::{Program, derived, is_ours, lock_file};
use crate::report::{Harm, Promise, Report, Tally};
use crate::tree::snapshot;

/// What the other one plays with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Game {
    /// Temporary names. The owner of the directory may remove root's.
    Names,
    /// And DEST, which becomes anything except a link, because root would follow a link.
    NamesAndFile,
    /// And DEST, also as a link; root's options forbid following it.
    Links,
    /// And DEST as a link, in root's directory, which is sticky and open for all: such a link is
    /// not followed.
    Sticky,
}

const GAMES: [Game; 4] = [Game::Names, Game::NamesAndFile, Game::Links, Game::Sticky];

/// The options that root gives.
const FORMS: [&[&str]; 11] = [
    &[],
    &["-a"],
    &["-t", "d"],
    &["-f"],
    &["-b"],
    &["--backup=numbered"],
    &["-C"],
    &["--lock"],
    &["--validate", "cat >/dev/null"],
    &["-m", "4755", "-o", "root", "-g", "root"],
    &["--inplace=always"],
];

pub(super) fn run(ground: &Ground, report: &mut Report) -> Result<()> {
    let mut tally = Tally::default();
    for game in GAMES {
        for form in FORMS {
            for unnamed_files in [true, false] {
                let mut options = form.to_vec();
                if game == Game::Links {
                    options.push("--no-dereference");
                }
                let last = if form.contains(&"-t") { "o" } else { "d/o" };
                let call = Call {
                    words: words(ground, &options, last),
                    names: vec![derived("o"), lock_file("o")],
                    runner: Runner {
                        unnamed_files,
                        ..Runner::ROOT
                    },
                    no_fifo: form.contains(&"--inplace=always"),
                };
                round(ground, game, &call, ground.many(20, 80), &mut tally)?;
            }
        }
    }
    let test = "A hostile owner of the directory races with the writer";
    report.add(test, Promise::Made, Program::Atomwrite, tally);
    // It has a temporary name, too, and writes to whatever has that.
    let call = Call {
        words: ["sh", "-c", "cat >d/t && mv -T d/t d/o"]
            .map(OsString::from)
            .to_vec(),
        names: vec!["t".to_owned()],
        runner: Runner::ROOT,
        no_fifo: true,
    };
    let mut tally = Tally::default();
    round(
        ground,
        Game::Links,
        &call,
        ground.many(100, 400),
        &mut tally,
    )?;
    report.add(test, Promise::Made, Program::CatAndMove, tally);
    Ok(())
}

/// What root calls.
#[derive(Debug)]
struct Call {
    words: Vec<OsString>,
    /// The temporary names that it takes.
    names: Vec<String>,
    runner: Runner,
    /// To open one for writing is to wait.
    no_fifo: bool,
}

fn round(ground: &Ground, game: Game, call: &Call, runs: usize, tally: &mut Tally) -> Result<()> {
    let label = format!(
        "{game:?}, {:?}, {:?}, seed {}",
        &call.words[1..],
        call.runner,
        ground.seed
    );
    let place = Place::make(ground)?;
    let (owner, mode) = if game == Game::Sticky {
        (0, 0o1777)
    } else {
        (OTHER_USER, 0o755)
    };
    fs::create_dir(place.path("hoard"))?;
    give(&place.path("hoard"), OTHER_USER, 0o700)?;
    // What -t reads.
    place.file("o", b"root's\n", 0o644, 0)?;
    fs::create_dir(place.path("d/roots"))?;
    place.file("d/roots/precious", PRECIOUS, 0o600, 0)?;
    give(&place.path("d/roots"), 0, 0o700)?;
    place.file("d/o", b"another's\n", 0o644, OTHER_USER)?;
    // Without a link to it, only root can read it.
    let link = place.path("hoard/link");
    symlink("../victim/v", &link)?;
    own(&link, OTHER_USER)?;
    give(&place.path("d"), owner, mode)?;
    let chance = ground.chance(&label);
    let above = place.above();
    Race::hold(
        runs,
        |race| become_another(above, game, call, race, chance),
        |at| {
            let label = format!("{label}, run {at}");
            tally.tried();
            let ended = call.runner.run(above, &call.words, b"root's\n")?;
            check_end(&ended, &[0, 1, 3, 4], &label, tally);
            place.check_victim(&label, tally)
        },
    )?;
    let is_precious = |name: &Path| name.ends_with("precious");
    let kept = snapshot(&place.path("d"))?;
    let mut kept = kept.iter().filter(|(name, _)| is_precious(name));
    if !kept.any(|(_, entry)| entry.content == PRECIOUS) {
        tally.harmed(Harm::Foreign, || {
            format!("{label}: the directory of root's is gone")
        });
    }
    Ok(())
}

const PRECIOUS: &[u8] = b"precious\n";

/// Becomes the other user, as far as files go, and changes what there is until all is over.
fn become_another(
    above: &Path,
    game: Game,
    call: &Call,
    race: &Race,
    mut chance: StdRng,
) -> Result<()> {
    // For this thread alone, and with it go root's rights to other people's files
    // (capabilities(7)).
    setfsgid(Gid::from_raw(OTHER_USER));
    setfsuid(Uid::from_raw(OTHER_USER));
    ensure!(
        fs::write(above.join("victim/v"), "").is_err(),
        "the racer is root"
    );
    let d = above.join("d");
    let hoard = above.join("hoard");
    let no_fifo = call.no_fifo;
    race.go_on(|| {
        // Most of this fails, mostly because the other process was faster.
        for entry in fs::read_dir(&d)
            .context("the racer cannot read the directory")?
            .flatten()
        {
            let name = entry.file_name();
            if is_ours(Path::new(&name)) {
                meddle(&d.join(&name), &hoard, game, no_fifo, &mut chance);
            }
        }
        for name in &call.names {
            if chance.random_ratio(1, 4) {
                meddle(&d.join(name), &hoard, game, no_fifo, &mut chance);
            }
        }
        if game != Game::Names {
            let links = matches!(game, Game::Links | Game::Sticky);
            become_something(&d.join("o"), links, no_fifo, &mut chance);
        }
        Ok(())
    })
}

/// Something happens to a temporary name.
fn meddle(path: &Path, hoard: &Path, game: Game, no_fifo: bool, chance: &mut StdRng) {
    // If DEST becomes a link, the next run follows it, as its options say.
    let links = matches!(game, Game::Links | Game::Sticky);
    match chance.random_range(0..7) {
        5 => {
            // It becomes root's directory, and that comes back some time.
            drop(fs::rename(path, path.with_file_name("away")));
            drop(fs::rename(path.with_file_name("roots"), path));
        }
        6 => drop(fs::rename(path, path.with_file_name("roots"))),
        0 => drop(fs::rename(path, hoard.join("taken"))),
        1 if links => drop(renameat2(
            AT_FDCWD,
            path,
            AT_FDCWD,
            &hoard.join("link"),
            RenameFlags::RENAME_EXCHANGE,
        )),
        2 => drop(fs::rename(path, path.with_file_name("o"))),
        1 | 3 => become_something(path, links, no_fifo, chance),
        _ => drop(fs::remove_file(path)),
    }
}

/// The name becomes another thing.
fn become_something(path: &Path, links: bool, no_fifo: bool, chance: &mut StdRng) {
    // One of the two is right.
    drop(fs::remove_file(path));
    drop(fs::remove_dir_all(path));
    match chance.random_range(0..7) {
        0 if links => drop(symlink("../victim/v", path)),
        1 if links => drop(symlink("../victim", path)),
        2 if !no_fifo => drop(mkfifo(path, Mode::from_bits_truncate(0o666))),
        3 => drop(fs::DirBuilder::new().mode(0o700).create(path)),
        4 if !no_fifo => drop(fs::hard_link(path.with_file_name("../victim/v"), path)),
        // Not what root has just moved there: if it was a FIFO, to open it is to wait for ever.
        _ => drop(File::create_new(path).and_then(|mut file| file.write_all(b"another's\n"))),
    }
}
