//! The names that atomwrite would use exist already, and belong to the same user or to another one.
//!
//! Invariant of atomwrite: a regular file of the same user that is not locked and has the derived
//! name is stale, and is removed. A file with the lock file's name is the lock file, and is neither
//! written nor changed. Everything else is left alone, and the new file gets a random name. Without
//! a lock file, a run that needs one fails.

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use nix::fcntl::{Flock, FlockArg};
use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use nix::unistd::mkfifo;

use crate::ground::{Ground, OTHER_USER};
use crate::place::{Place, Runner, check_end, give, own, words};
use crate::programs::{Program, derived, is_ours, lock_file};
use crate::report::{Harm, Promise, Report, Tally};
use crate::tree::{Entry, read_entry, snapshot};

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

/// The options, and the last operand. `o` exists, `n` does not.
const FORMS: [(&[&str], &str); 12] = [
    (&[], "d/o"),
    (&[], "d/n"),
    (&["-b"], "d/o"),
    (&["-C", "--keep=all"], "d/o"),
    (&["--validate", "cat >/dev/null"], "d/o"),
    (&["-n"], "d/n"),
    (&["-D"], "d/n"),
    (&["--lock"], "d/o"),
    (&["--lock"], "d/n"),
    (&["-b", "--lock"], "d/o"),
    (&["-a"], "d/n"),
    (&["-t", "d"], "o"),
];

/// A name that something is planted under.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Name {
    Derived,
    /// What 0.1 took for the staging directory of -t.
    OfNothing,
    Lock,
}

const NAMES: [Name; 3] = [Name::Derived, Name::OfNothing, Name::Lock];

impl Name {
    fn of(self, file: &str) -> String {
        match self {
            Self::Derived => derived(file),
            Self::OfNothing => derived(""),
            Self::Lock => lock_file(file),
        }
    }
}

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
            Self::RootInAnothers | Self::AnotherInItsOwn => (OTHER_USER, 0o755),
        }
    }

    fn writer(self) -> u32 {
        match self {
            Self::RootInItsOwn | Self::RootInASticky | Self::RootInAnothers => 0,
            Self::AnotherInASticky | Self::AnotherInItsOwn => OTHER_USER,
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

    /// Returns whether a run of `writer` may remove it from that name.
    fn may_go(self, name: Name, locks: bool, owner: u32, writer: u32) -> bool {
        match (name, self) {
            (Name::Derived, Self::File) => owner == writer,
            // The name goes, and the file stays: it is root's.
            (Name::Derived, Self::HardLink) => writer == 0,
            (Name::Lock, Self::File | Self::LockedFile | Self::HardLink) => locks,
            _ => false,
        }
    }
}

pub(super) fn run(ground: &Ground, report: &mut Report) -> Result<()> {
    let mut tally = Tally::default();
    for setting in SETTINGS {
        for planted in PLANTED {
            for owner in [0, OTHER_USER] {
                for (at, form) in FORMS.into_iter().enumerate() {
                    // Of the two, each form has one in each setting.
                    let unnamed_files = (at + setting as usize + planted as usize) % 2 == 0;
                    // A locked file is waited for, one second.
                    if planted == Planted::LockedFile && at > 2 {
                        continue;
                    }
                    one(
                        ground,
                        setting,
                        planted,
                        owner,
                        form,
                        unnamed_files,
                        &mut tally,
                    )?;
                }
            }
        }
    }
    report.add(
        "Files, links and FIFOs planted under temporary names",
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
    (options, last): (&[&str], &str),
    unnamed_files: bool,
    tally: &mut Tally,
) -> Result<()> {
    tally.tried();
    let label = format!(
        "{setting:?}, {planted:?} of {owner}, {options:?} {last}, O_TMPFILE: {unnamed_files}"
    );
    let file = last.trim_start_matches("d/");
    let locks = options.contains(&"--lock") || options.contains(&"-a");
    let is_of_many = options.contains(&"-t");
    let place = Place::make(ground)?;
    let (owner_of_directory, mode) = setting.directory();
    let writer = setting.writer();
    place.file("d/o", b"old\n", 0o640, writer)?;
    place.file("d/o~", b"older\n", 0o640, writer)?;
    // What -t reads.
    place.file("o", b"new\n", 0o644, writer)?;
    let mut guards = Vec::new();
    let mut before: Vec<(Name, PathBuf, Entry)> = Vec::new();
    for name in NAMES {
        let path = place.path("d").join(name.of(file));
        guards.push(planted.plant(&path, owner)?);
        let entry = read_entry(&path)?.context("nothing was planted")?;
        before.push((name, path, entry));
    }
    let inside = snapshot(&place.path("d"))?;
    give(&place.path("d"), owner_of_directory, mode)?;
    let runner = Runner {
        uid: writer,
        unnamed_files,
    };
    let ended = runner.run(place.above(), &words(ground, options, last), b"new\n")?;
    // Only a file can be the lock file, and only one that the writer may open for writing.
    let has_lock = match planted {
        Planted::File | Planted::LockedFile => writer == 0 || owner == writer,
        Planted::HardLink => writer == 0,
        _ => false,
    };
    let allowed: &[i32] = if locks && !has_lock { &[1] } else { &[0] };
    check_end(&ended, allowed, &label, tally);
    place.check_victim(&label, tally)?;
    let written = read_entry(&place.path("d").join(file))?;
    let is_new = written
        .as_ref()
        .is_some_and(|entry| entry.is_file() && entry.content == b"new\n");
    if ended.code() == Some(0) && !is_new {
        tally.harmed(Harm::Lost, || format!("{label}: {written:?}"));
    }
    for (name, path, before) in &before {
        let after = read_entry(path)?;
        let may_go = planted.may_go(*name, locks, owner, writer);
        if after.as_ref() != Some(before) && !(may_go && after.is_none()) {
            tally.harmed(Harm::Foreign, || {
                format!("{label}: what was planted as {name:?} is {after:?}")
            });
        }
        let must_go = *name == Name::Derived && unnamed_files && !is_of_many;
        if must_go && may_go && after.is_some() && ended.code() == Some(0) {
            tally.harmed(Harm::Litter, || format!("{label}: a stale file stays"));
        }
    }
    let now = snapshot(&place.path("d"))?;
    let is_inside = |name: &&PathBuf| name.parent().is_some_and(is_ours);
    if let Some(lost) = inside
        .keys()
        .filter(is_inside)
        .find(|name| !now.contains_key(*name))
    {
        tally.harmed(Harm::Foreign, || {
            format!("{label}: {} is gone", lost.display())
        });
    }
    for entry in fs::read_dir(place.path("d"))? {
        let found = entry?.file_name().to_string_lossy().into_owned();
        let is_planted = NAMES.into_iter().any(|name| name.of(file) == found);
        if is_ours(Path::new(&found)) && !is_planted {
            tally.harmed(Harm::Litter, || format!("{label}: {found}"));
        }
    }
    drop(guards);
    Ok(())
}
