//! A process changes DEST or its directory while the input is held back.
//!
//! Invariant of atomwrite: a path is resolved once, and from then on everything happens in the open
//! directory. A directory that is renamed is followed, one that is exchanged is not, and no link is
//! followed that was not there at the beginning.

use std::ffi::OsString;
use std::fs;
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

use crate::ground::Ground;
use crate::place::{Place, Runner, check_end, peers, words};
use crate::programs::{Program, is_lock, is_ours};
use crate::report::{Harm, Promise, Report, Tally};
use crate::tree::{differences, read_entry, snapshot};

/// More than a pipe holds: when all but its end is written, the program has begun to read.
const SIZE: usize = 200_000;

/// No process to wait for.
const LONGEST_HERE: Duration = Duration::from_secs(10);

/// What the other process does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Act {
    Nothing,
    FileBecomesALink,
    FileBecomesADanglingLink,
    FileIsRemoved,
    FileIsReplaced,
    FileBecomesADirectory,
    FileBecomesAFifo,
    FileBecomesASocket,
    FileBecomesAMount,
    FileBecomesAHardLink,
    FileGetsAnotherMode,
    DirectoryIsRenamed,
    DirectoryBecomesALink,
    DirectoryIsReplaced,
    DirectoryIsRemoved,
}

const ACTS: [Act; 15] = [
    Act::Nothing,
    Act::FileBecomesALink,
    Act::FileBecomesADanglingLink,
    Act::FileIsRemoved,
    Act::FileIsReplaced,
    Act::FileBecomesADirectory,
    Act::FileBecomesAFifo,
    Act::FileBecomesASocket,
    Act::FileBecomesAMount,
    Act::FileBecomesAHardLink,
    Act::FileGetsAnotherMode,
    Act::DirectoryIsRenamed,
    Act::DirectoryBecomesALink,
    Act::DirectoryIsReplaced,
    Act::DirectoryIsRemoved,
];

/// The options, and the name that is written; `o` exists, `n` does not.
const FORMS: [(&[&str], &str); 15] = [
    (&[], "o"),
    (&["--lock"], "o"),
    (&["-a"], "o"),
    (&["-b"], "o"),
    (&["--backup=numbered"], "o"),
    (&["-C"], "o"),
    (&["--no-dereference"], "o"),
    (&["-m", "600"], "o"),
    (&["--keep=all"], "o"),
    (&["--validate", "cat >/dev/null"], "o"),
    (&["-f"], "o"),
    (&[], "n"),
    (&["-n"], "n"),
    (&["--lock"], "n"),
    (&["-D"], "n"),
];

const OLD: &[u8] = b"old\n";

impl Act {
    /// Returns the present path of the directory that was `d`.
    fn perform(self, place: &Place, name: &str) -> Result<Option<PathBuf>> {
        let (d, moved, file) = (
            place.path("d"),
            place.path("moved"),
            place.path("d").join(name),
        );
        let remove = || match fs::remove_file(&file) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        };
        if !matches!(
            self,
            Self::Nothing
                | Self::FileBecomesAMount
                | Self::FileGetsAnotherMode
                | Self::DirectoryIsRenamed
                | Self::DirectoryBecomesALink
                | Self::DirectoryIsReplaced
                | Self::DirectoryIsRemoved
        ) {
            remove()?;
        }
        match self {
            Self::Nothing | Self::FileIsRemoved => {}
            Self::FileBecomesALink => symlink("../victim/v", &file)?,
            Self::FileBecomesADanglingLink => symlink("../victim/new", &file)?,
            Self::FileIsReplaced => fs::write(&file, "another's\n")?,
            Self::FileBecomesADirectory => fs::create_dir(&file)?,
            Self::FileBecomesAFifo => mkfifo(&file, Mode::S_IRUSR | Mode::S_IWUSR)?,
            Self::FileBecomesASocket => drop(UnixListener::bind(&file)?),
            Self::FileBecomesAMount => {
                fs::OpenOptions::new()
                    .append(true)
                    .create(true)
                    .open(&file)?;
                let victim = place.path("victim/v");
                mount(
                    Some(&victim),
                    &file,
                    None::<&str>,
                    MsFlags::MS_BIND,
                    None::<&str>,
                )
                .context("cannot mount")?;
            }
            Self::FileBecomesAHardLink => fs::hard_link(place.path("victim/v"), &file)?,
            Self::FileGetsAnotherMode => {
                fs::OpenOptions::new()
                    .append(true)
                    .create(true)
                    .open(&file)?;
                fs::set_permissions(&file, fs::Permissions::from_mode(0o604))?;
            }
            Self::DirectoryIsRenamed => fs::rename(&d, &moved)?,
            Self::DirectoryBecomesALink => {
                fs::rename(&d, &moved)?;
                symlink("victim", &d)?;
            }
            Self::DirectoryIsReplaced => {
                fs::rename(&d, &moved)?;
                fs::create_dir(&d)?;
                fs::write(d.join("o"), "another's\n")?;
            }
            Self::DirectoryIsRemoved => {
                fs::remove_dir_all(&d)?;
                return Ok(None);
            }
        }
        Ok(Some(match self {
            Self::DirectoryIsRenamed | Self::DirectoryBecomesALink | Self::DirectoryIsReplaced => {
                moved
            }
            _ => d,
        }))
    }

    /// Returns whether the run must succeed nevertheless: DEST has other attributes, has appeared,
    /// or is gone. With `-a` it may fail, because DEST has another content than it has read,
    /// and with `-n`, because DEST exists.
    fn is_no_reason_to_fail(self, options: &[&str]) -> bool {
        let depends_on_content = options.contains(&"-a") || options.contains(&"-n");
        match self {
            Self::Nothing => true,
            Self::FileIsRemoved
            | Self::FileIsReplaced
            | Self::FileBecomesAHardLink
            | Self::FileGetsAnotherMode => !depends_on_content,
            _ => false,
        }
    }

    /// Returns the mode of the new file: DEST's mode when the input ended or, if it changed later,
    /// at the commit. A DEST that is gone by the end of the input grants no more than it did.
    fn mode(self, options: &[&str], name: &str) -> Option<u32> {
        match self {
            _ if options.contains(&"-m") => Some(0o600),
            Self::FileGetsAnotherMode => Some(0o604),
            // It was private to a group, whose bits may have been the mask of an ACL.
            Self::FileIsRemoved if name == "o" => Some(0o600),
            Self::FileIsReplaced | Self::FileBecomesAHardLink | Self::FileIsRemoved => Some(0o644),
            Self::Nothing
            | Self::DirectoryIsRenamed
            | Self::DirectoryBecomesALink
            | Self::DirectoryIsReplaced
                if name == "o" =>
            {
                Some(0o640)
            }
            _ => None,
        }
    }
}

pub(super) fn run(ground: &Ground, report: &mut Report) -> Result<()> {
    let test = "DEST or its directory is changed or replaced during a write";
    let mut tally = Tally::default();
    for unnamed_files in [true, false] {
        for (options, name) in FORMS {
            for act in ACTS {
                let runner = Runner {
                    unnamed_files,
                    ..Runner::ROOT
                };
                let words = words(ground, options, &format!("d/{name}"));
                let label = format!("{options:?} d/{name}, {act:?}, O_TMPFILE: {unnamed_files}");
                one(
                    ground,
                    runner,
                    &words,
                    (options, name),
                    act,
                    &label,
                    &mut tally,
                )?;
            }
        }
    }
    parents(ground, &mut tally)?;
    report.add(test, Promise::Made, Program::Atomwrite, tally);
    // They name the file twice or write to what they find, so that it matters what is there by
    // then.
    for (peer, words) in peers() {
        let mut tally = Tally::default();
        for act in ACTS {
            one(
                ground,
                Runner::ROOT,
                &words,
                (&[], "o"),
                act,
                &format!("{act:?}"),
                &mut tally,
            )?;
        }
        report.add(test, Promise::Made, peer, tally);
    }
    Ok(())
}

fn one(
    ground: &Ground,
    runner: Runner,
    words: &[OsString],
    (options, name): (&[&str], &str),
    act: Act,
    label: &str,
    tally: &mut Tally,
) -> Result<()> {
    tally.tried();
    let place = Place::make(ground)?;
    place.file("d/o", OLD, 0o640, 0)?;
    let new = vec![b'x'; SIZE];
    let mut running = runner.start(place.above(), words)?;
    let mut pipe = running.stdin()?;
    let begun = new[..SIZE - 1].to_owned();
    // Full until it is read.
    let feed = thread::spawn(move || pipe.write_all(&begun).map(|()| pipe));
    while !feed.is_finished() && !running.ends_within(Duration::from_millis(1))? {}
    for (mode, name) in too_open(&place)? {
        tally.harmed(Harm::Attributes, || {
            format!("{label}: {name} has mode {mode:o} while it is written")
        });
    }
    let now = act.perform(&place, name)?;
    let before = now.as_ref().map(|now| snapshot(now)).transpose()?;
    if let Ok(Ok(mut pipe)) = feed.join() {
        // EPIPE: it has refused already.
        drop(pipe.write_all(b"x"));
    }
    let ended = running.end_within(LONGEST_HERE)?;
    let is_atomwrite = words[0] == ground.binary;
    let allowed: &[i32] = if is_atomwrite && act.is_no_reason_to_fail(options) {
        &[0]
    } else {
        &[0, 1, 3]
    };
    check_end(&ended, allowed, label, tally);
    place.check_victim(label, tally)?;
    let Some(now) = now else {
        if ended.code() == Some(0) {
            tally.harmed(Harm::Lost, || {
                format!("{label}: its directory is gone, and it says that all is done")
            });
        }
        return Ok(());
    };
    let after = snapshot(&now)?;
    let is_litter = |path: &&PathBuf| is_ours(path) || path.as_os_str() == "t";
    if let Some(left) = after.keys().find(is_litter) {
        tally.harmed(Harm::Litter, || format!("{label}: {}", left.display()));
    }
    if ended.code() == Some(0) {
        let wanted = if options.contains(&"-a") {
            [OLD, &new].concat()
        } else {
            new
        };
        // A program that does not hold on to the directory has to write where the path leads now.
        let at = if is_atomwrite {
            now.join(name)
        } else {
            place.path("d").join(name)
        };
        match read_entry(&at)? {
            Some(entry) if entry.is_file() && entry.content == wanted => {
                let mode = act.mode(options, name);
                if mode.is_some_and(|mode| entry.mode & 0o7777 != mode) {
                    tally.harmed(Harm::Attributes, || {
                        format!("{label}: {:o}, not {mode:?}", entry.mode)
                    });
                }
            }
            found => {
                let found = found.map(|entry| (entry.mode, entry.content.len()));
                tally.harmed(Harm::Lost, || {
                    format!("{label}: it says that all is done, and there is {found:?}")
                });
            }
        }
    } else if let Some(mut before) = before {
        let mut after = after;
        before.retain(|path, _| !is_ours(path));
        after.retain(|path, _| !is_ours(path));
        let changed = differences(&before, &after);
        if !changed.is_empty() {
            tally.harmed(Harm::Torn, || {
                format!("{label}: {}, yet {}", ended.summary(), changed.join(", "))
            });
        }
    }
    if act == Act::FileBecomesAMount {
        // It may have been refused before there was one.
        umount2(&now.join(name), MntFlags::MNT_DETACH).context("cannot unmount")?;
    }
    Ok(())
}

/// Returns new files that another user could open by their temporary names before they have DEST's
/// mode, and lock files that are not private or not empty. The directory is only root's.
fn too_open(place: &Place) -> Result<Vec<(u32, String)>> {
    let mut found = Vec::new();
    for (name, entry) in snapshot(&place.path("d"))? {
        let is_open = entry.mode & 0o077 != 0;
        let is_full_lock = is_lock(&name) && !entry.content.is_empty();
        if entry.is_file() && (is_ours(&name) && is_open || is_full_lock) {
            found.push((entry.mode & 0o7777, name.display().to_string()));
        }
    }
    Ok(found)
}

/// With `-D`, a directory that was missing is there at the end: another process made it, as a link.
fn parents(ground: &Ground, tally: &mut Tally) -> Result<()> {
    for (link, unnamed_files) in [
        ("../victim", true),
        ("../victim", false),
        ("../victim/p", true),
        (".", true),
    ] {
        tally.tried();
        let place = Place::make(ground)?;
        let label = format!("-D d/p/o, d/p becomes a link to {link}, O_TMPFILE: {unnamed_files}");
        let runner = Runner {
            unnamed_files,
            ..Runner::ROOT
        };
        let mut running = runner.start(place.above(), &words(ground, &["-D"], "d/p/o"))?;
        let mut pipe = running.stdin()?;
        pipe.write_all(&vec![b'x'; SIZE])?;
        symlink(link, place.path("d/p"))?;
        drop(pipe);
        check_end(&running.end()?, &[1], &label, tally);
        place.check_victim(&label, tally)?;
        let left: Vec<PathBuf> = snapshot(&place.path("d"))?
            .into_keys()
            .filter(|name| name.as_os_str() != "p")
            .collect();
        if left.len() > 1 {
            tally.harmed(Harm::Litter, || format!("{label}: {left:?}"));
        }
    }
    Ok(())
}
