//! Under the names that atomwrite would take there is something already, of ours or of somebody else's.
//!
//! The rule of atomwrite: what a run of ours has left is removed, and nothing else; then random letters are taken.

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::Path;

use anyhow::{Context, Result};
use nix::fcntl::{Flock, FlockArg};
use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use nix::unistd::mkfifo;

use super::place::{NOBODY, Place, Runner, give, judge_end, own, words};
use crate::ground::Ground;
use crate::programs::{Program, choices, is_temporary};
use crate::report::{Harm, Promise, Report, Tally};
use crate::tree::{Entry, look_at};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Planted {
    File,
    LockedFile,
    LinkToAFile,
    LinkToADirectory,
    DanglingLink,
    HardLink,
    Fifo,
    Socket,
    Device,
    Directory,
    FullDirectory,
}

const PLANTED: [Planted; 11] = [
    Planted::File,
    Planted::LockedFile,
    Planted::LinkToAFile,
    Planted::LinkToADirectory,
    Planted::DanglingLink,
    Planted::HardLink,
    Planted::Fifo,
    Planted::Socket,
    Planted::Device,
    Planted::Directory,
    Planted::FullDirectory,
];

/// As in `held`: the options, and `o`, which exists, or `n`, which does not.
const FORMS: [(&[&str], &str); 8] = [
    (&[], "o"),
    (&[], "n"),
    (&["-b"], "o"),
    (&["-C", "--keep=all"], "o"),
    (&["--validate", "cat >/dev/null"], "o"),
    (&["-n"], "n"),
    (&["--lock"], "o"),
    (&["--lock"], "n"),
];

/// Whose directory it is, and who writes there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Setting {
    RootInItsOwn,
    RootInASticky,
    RootInAnothers,
    AnotherInASticky,
    AnotherInItsOwn,
}

const SETTINGS: [Setting; 5] = [
    Setting::RootInItsOwn,
    Setting::RootInASticky,
    Setting::RootInAnothers,
    Setting::AnotherInASticky,
    Setting::AnotherInItsOwn,
];

impl Setting {
    fn directory(self) -> (u32, u32) {
        match self {
            Self::RootInItsOwn => (0, 0o755),
            Self::RootInASticky | Self::AnotherInASticky => (0, 0o1777),
            Self::RootInAnothers | Self::AnotherInItsOwn => (NOBODY, 0o755),
        }
    }

    fn writer(self) -> u32 {
        match self {
            Self::RootInItsOwn | Self::RootInASticky | Self::RootInAnothers => 0,
            Self::AnotherInASticky | Self::AnotherInItsOwn => NOBODY,
        }
    }
}

impl Planted {
    /// Makes it; the lock lasts as long as what is given.
    fn plant(self, path: &Path, owner: u32) -> Result<Option<Flock<File>>> {
        match self {
            Self::File | Self::LockedFile => fs::write(path, "planted")?,
            Self::LinkToAFile => symlink("../victim/v", path)?,
            Self::LinkToADirectory => symlink("../victim", path)?,
            Self::DanglingLink => symlink("../victim/new", path)?,
            Self::HardLink => {
                fs::hard_link(path.with_file_name("../victim/v"), path)?;
                return Ok(None);
            }
            Self::Fifo => mkfifo(path, Mode::from_bits_truncate(0o600))?,
            Self::Socket => drop(UnixListener::bind(path)?),
            Self::Device => mknod(
                path,
                SFlag::S_IFCHR,
                Mode::from_bits_truncate(0o600),
                makedev(1, 3),
            )?,
            Self::Directory => fs::create_dir(path)?,
            Self::FullDirectory => {
                fs::create_dir(path)?;
                symlink("../../victim", path.join("link"))?;
                give(path, owner, 0o700)?;
            }
        }
        own(path, owner)?;
        if self != Self::LockedFile {
            return Ok(None);
        }
        let lock = Flock::lock(File::open(path)?, FlockArg::LockExclusiveNonblock);
        Ok(Some(
            lock.map_err(|(_, errno)| errno).context("cannot lock")?,
        ))
    }

    /// Whether it may be taken for what a killed run of `writer` has left, or of the user whose file DEST is.
    fn may_go(self, owner: u32, writer: u32, destination: u32) -> bool {
        match self {
            Self::File | Self::FullDirectory => owner == writer || owner == destination,
            // The name goes, and the file stays: it is root's.
            Self::HardLink => writer == 0 || destination == 0,
            _ => false,
        }
    }
}

pub(super) fn run(ground: &Ground, report: &mut Report) -> Result<()> {
    let mut tally = Tally::default();
    for setting in SETTINGS {
        for planted in PLANTED {
            for owner in [0, NOBODY] {
                for (form, (options, name)) in FORMS.into_iter().enumerate() {
                    // Of the two, each form has one in each setting.
                    let unnamed_files = (form + setting as usize + planted as usize) % 2 == 0;
                    // A lock is waited for, by all who ask for one: that is what it is for.
                    if planted == Planted::LockedFile && (options, name) == (&["--lock"], "n") {
                        continue;
                    }
                    one(
                        ground,
                        setting,
                        planted,
                        owner,
                        (options, name),
                        unnamed_files,
                        &mut tally,
                    )?;
                }
            }
        }
    }
    report.add(
        "planted under its temporary names: files, links, FIFOs",
        Promise::Made,
        Program::Atomwrite,
        tally,
    );
    Ok(())
}

fn one(
    ground: &Ground,
    setting: Setting,
    planted: Planted,
    owner: u32,
    (options, name): (&[&str], &str),
    unnamed_files: bool,
    tally: &mut Tally,
) -> Result<()> {
    tally.tried();
    let told_as = format!(
        "{setting:?}, {planted:?} of {owner}, {options:?} d/{name}, O_TMPFILE: {unnamed_files}"
    );
    let place = Place::make(ground)?;
    let (owner_of_directory, mode) = setting.directory();
    let writer = setting.writer();
    place.file("d/o", b"old\n", 0o640, writer)?;
    place.file("d/o~", b"older\n", 0o640, writer)?;
    let names = choices(name);
    let mut locks = Vec::new();
    let mut before: Vec<Entry> = Vec::new();
    for name in &names {
        let path = place.path("d").join(name);
        locks.push(planted.plant(&path, owner)?);
        before.push(look_at(&path)?.context("nothing was planted")?);
    }
    give(&place.path("d"), owner_of_directory, mode)?;
    let runner = Runner {
        uid: writer,
        unnamed_files,
    };
    let ended = runner.run(
        place.above(),
        &words(ground, options, &format!("d/{name}")),
        b"new\n",
    )?;
    // A lock that cannot be had, since its name is not a file's, is no answer of ours.
    let allowed: &[i32] = if (options, name) == (&["--lock"], "n") {
        &[0, 1]
    } else {
        &[0]
    };
    judge_end(&ended, allowed, &told_as, tally);
    place.judge_victim(&told_as, tally)?;
    let written = look_at(&place.path("d").join(name))?;
    let is_new = written
        .as_ref()
        .is_some_and(|entry| entry.is_file() && entry.content == b"new\n");
    if ended.code() == Some(0) && !is_new {
        tally.harmed(Harm::Lost, || format!("{told_as}: {written:?}"));
    }
    for (name, before) in names.iter().zip(before) {
        let after = look_at(&place.path("d").join(name))?;
        let may_go = planted.may_go(owner, writer, writer);
        if after.as_ref() != Some(&before) && !(may_go && after.is_none()) {
            tally.harmed(Harm::Stranger, || {
                format!("{told_as}: what was planted is {after:?}")
            });
        }
        if may_go && after.is_some() && ended.code() == Some(0) && planted == Planted::File {
            tally.harmed(Harm::Left, || {
                format!("{told_as}: a leftover of ours stays")
            });
        }
    }
    for entry in fs::read_dir(place.path("d"))? {
        let found = entry?.file_name().to_string_lossy().into_owned();
        if is_temporary(Path::new(&found)) && !names.contains(&found) {
            tally.harmed(Harm::Left, || format!("{told_as}: {found}"));
        }
    }
    drop(locks);
    Ok(())
}
