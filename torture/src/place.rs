//! A directory `d` to write in, and beside it the directories `victim`, in which nothing may
//! change, and `tmp` for temporary files, in which nothing may stay.

use std::cell::RefCell;
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;

use anyhow::{Context, Result, anyhow};
use tempfile::TempDir;

use crate::child::{Ended, Running};
use crate::ground::Ground;
use crate::lacking::Lacking;
use crate::programs::{Program, atomwrite};
use crate::report::{Harm, Tally};
use crate::tree::{Tree, differences, snapshot};

#[derive(Debug)]
pub(crate) struct Place {
    above: TempDir,
    /// As the last check has found it: each change counts once.
    victim: RefCell<Tree>,
}

impl Place {
    /// Makes the directories. The victim is root's, and no other user may write to it.
    pub(crate) fn make(ground: &Ground) -> Result<Self> {
        let above = ground.directory("place.")?;
        fs::set_permissions(above.path(), fs::Permissions::from_mode(0o755))?;
        for directory in ["d", "victim", "victim/p"] {
            fs::create_dir(above.path().join(directory))?;
        }
        for (file, mode) in [("v", 0o644), ("o", 0o640), ("n", 0o600), ("p/o", 0o4755)] {
            let path = above.path().join("victim").join(file);
            fs::write(&path, format!("the victim's {file}\n"))?;
            fs::set_permissions(&path, fs::Permissions::from_mode(mode))?;
        }
        fs::create_dir(above.path().join("tmp"))?;
        fs::set_permissions(above.path().join("tmp"), fs::Permissions::from_mode(0o1777))?;
        let victim = snapshot(&above.path().join("victim"))?;
        Ok(Self {
            above,
            victim: RefCell::new(victim),
        })
    }

    pub(crate) fn above(&self) -> &Path {
        self.above.path()
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.above.path().join(name)
    }

    /// Makes a file; its mode does not depend on the umask.
    pub(crate) fn file(&self, name: &str, content: &[u8], mode: u32, owner: u32) -> Result<()> {
        let path = self.path(name);
        fs::write(&path, content).with_context(|| format!("cannot make {name}"))?;
        own(&path, owner)?;
        Ok(fs::set_permissions(
            &path,
            fs::Permissions::from_mode(mode),
        )?)
    }

    /// Counts a victim that is not as it was, and what is left in the directory for temporary
    /// files.
    pub(crate) fn check_victim(&self, label: &str, tally: &mut Tally) -> Result<()> {
        let changed = self.changes_to_victim()?;
        if !changed.is_empty() {
            tally.harmed(Harm::Foreign, || {
                format!("{label}: in the victim's directory {}", changed.join(", "))
            });
        }
        for entry in fs::read_dir(self.path("tmp"))? {
            let path = entry?.path();
            tally.harmed(Harm::Litter, || format!("{label}: {}", path.display()));
            fs::remove_file(&path).or_else(|_| fs::remove_dir_all(&path))?;
        }
        Ok(())
    }

    /// Returns the changes since the last check.
    pub(crate) fn changes_to_victim(&self) -> Result<Vec<String>> {
        let now = snapshot(&self.path("victim"))?;
        Ok(differences(&self.victim.replace(now.clone()), &now))
    }
}

/// Gives a file or a link to a user.
pub(crate) fn own(path: &Path, owner: u32) -> Result<()> {
    std::os::unix::fs::lchown(path, Some(owner), Some(owner))
        .with_context(|| format!("cannot give {} away", path.display()))
}

/// Gives a directory to a user, with a mode.
pub(crate) fn give(path: &Path, owner: u32, mode: u32) -> Result<()> {
    chown(path, Some(owner), Some(owner))?;
    Ok(fs::set_permissions(path, fs::Permissions::from_mode(mode))?)
}

/// Who runs it, and what the kernel gives it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Runner {
    pub(crate) uid: u32,
    pub(crate) unnamed_files: bool,
}

impl Runner {
    pub(crate) const ROOT: Self = Self {
        uid: 0,
        unnamed_files: true,
    };

    /// Starts it with a pipe for stdin.
    pub(crate) fn start(self, directory: &Path, words: &[OsString]) -> Result<Running> {
        // A thread of its own, because a filter stays.
        let start = move || -> Result<Running> {
            if !self.unnamed_files {
                Lacking::UnnamedFiles.begin()?;
            }
            let mut command = Command::new(words.first().context("no words")?);
            command
                .args(&words[1..])
                .current_dir(directory)
                .env("TMPDIR", directory.join("tmp"))
                .stdin(Stdio::piped());
            if self.uid != 0 {
                command.uid(self.uid).gid(self.uid);
            }
            Running::start(&mut command)
        };
        thread::scope(|scope| scope.spawn(start).join())
            .map_err(|_| anyhow!("a thread panicked"))?
    }

    /// Runs it with that as its stdin.
    pub(crate) fn run(self, directory: &Path, words: &[OsString], stdin: &[u8]) -> Result<Ended> {
        self.start(directory, words)?.end_after(stdin)
    }
}

/// Counts one that hangs, panics or has a status that there is not.
pub(crate) fn check_end(ended: &Ended, allowed: &[i32], label: &str, tally: &mut Tally) {
    match ended.code() {
        None if ended.status.is_none() => tally.harmed(Harm::Hung, || label.to_owned()),
        Some(code) if allowed.contains(&code) && !ended.messages().contains("panicked") => {}
        _ => tally.harmed(Harm::Answer, || format!("{label}: {}", ended.summary())),
    }
}

/// Returns the words of a call of atomwrite.
pub(crate) fn words(ground: &Ground, options: &[&str], destination: &str) -> Vec<OsString> {
    let words = ["--sync=none"].iter().chain(options);
    atomwrite(ground, words.chain([&destination]))
}

/// Returns what others call to write `d/o`.
pub(crate) fn peers() -> [(Program, Vec<OsString>); 2] {
    let words = |words: &[&str]| words.iter().map(OsString::from).collect();
    [
        (Program::Sponge, words(&["sponge", "d/o"])),
        (
            Program::CatAndMove,
            words(&["sh", "-c", "cat >d/t && mv d/t d/o"]),
        ),
    ]
}
