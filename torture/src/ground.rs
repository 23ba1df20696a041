//! What all tests share: the program, a directory on a real disk, and the seed of all random
//! choices.

use std::fs;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, ensure};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use rand::SeedableRng;
use rand::rngs::StdRng;
use tempfile::TempDir;

/// How much time there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Length {
    /// For every change: what is left out is chosen by the seed, and no kind of test is left out.
    Short,
    /// Everything.
    Long,
}

/// What a part must be allowed to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Needs {
    /// What an ordinary user may do. What needs more is left out, and counted.
    Little,
    /// What root may do, mounts among it.
    Root,
}

/// Owns the files that are not the runner's: the user nobody.
pub(crate) const OTHER_USER: u32 = 65_534;
/// One more user of that kind.
pub(crate) const THIRD_USER: u32 = 1;

/// What all tests share.
#[derive(Debug)]
pub(crate) struct Ground {
    /// The atomwrite that is tested.
    pub(crate) binary: PathBuf,
    pub(crate) seed: u64,
    pub(crate) length: Length,
    /// Of the forms of the command line, only those are tried that have this in what is shown of
    /// them.
    pub(crate) form: Option<String>,
    /// Whether filesystems can be mounted.
    pub(crate) mounts: bool,
    /// Whether files can be given to other users.
    pub(crate) gives_away: bool,
    work: TempDir,
}

impl Ground {
    /// Goes into a mount namespace of its own if it can, so that nothing stays mounted however this
    /// ends.
    pub(crate) fn prepare(
        seed: u64,
        length: Length,
        form: Option<String>,
        needs: Needs,
    ) -> Result<Self> {
        let binary = std::env::var_os("TORTURE_PROGRAM")
            .context("TORTURE_PROGRAM is not set: use 'make torture'")?;
        let binary = fs::canonicalize(binary).context("cannot find the program to be tested")?;
        let mounts = enter_namespace();
        if needs == Needs::Root {
            mounts.as_ref().map_err(|error| {
                anyhow!("only 'death' and 'failure' can be run here: {error:#}")
            })?;
        }
        let above = binary.parent().context("the program is nowhere")?;
        let work = tempfile::Builder::new()
            .prefix("torture.")
            .tempdir_in(above)?;
        // Some tests run as another user.
        fs::set_permissions(
            work.path(),
            std::os::unix::fs::PermissionsExt::from_mode(0o755),
        )?;
        let gives_away = can_give_away(work.path())?;
        Ok(Self {
            binary,
            seed,
            length,
            form,
            mounts: mounts.is_ok(),
            gives_away,
            work,
        })
    }

    /// Returns a new, empty directory.
    pub(crate) fn directory(&self, name: &str) -> Result<TempDir> {
        Ok(tempfile::Builder::new()
            .prefix(name)
            .tempdir_in(self.work.path())?)
    }

    /// Chance that is the same in each run with the same seed, whatever other tests do.
    pub(crate) fn chance(&self, test: &str) -> StdRng {
        let name = test.bytes().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        StdRng::seed_from_u64(self.seed ^ name)
    }

    /// Returns one of two numbers, by how much time there is.
    pub(crate) fn many(&self, short: usize, long: usize) -> usize {
        match self.length {
            Length::Short => short,
            Length::Long => long,
        }
    }
}

fn enter_namespace() -> Result<()> {
    ensure!(nix::unistd::geteuid().is_root(), "it is not run by root");
    unshare(CloneFlags::CLONE_NEWNS).context("cannot have a mount namespace")?;
    mount(
        None::<&str>,
        "/",
        None::<&str>,
        MsFlags::MS_REC | MsFlags::MS_PRIVATE,
        None::<&str>,
    )
    .context("cannot make the mounts private")
}

/// Root in a container can be without that right.
fn can_give_away(work: &Path) -> Result<bool> {
    let file = tempfile::NamedTempFile::new_in(work).context("cannot make a file")?;
    Ok(chown(file.path(), Some(THIRD_USER), Some(THIRD_USER)).is_ok())
}
