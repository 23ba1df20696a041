//! Where the tests run: the program, a directory on a real disk, and the seed of all that is left to chance.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
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

/// What all tests share.
#[derive(Debug)]
pub(crate) struct Ground {
    /// The atomwrite that is tested.
    pub(crate) binary: PathBuf,
    pub(crate) seed: u64,
    pub(crate) length: Length,
    work: TempDir,
}

impl Ground {
    /// Goes into a mount namespace of its own, so that nothing stays mounted however this ends.
    pub(crate) fn prepare(seed: u64, length: Length) -> Result<Self> {
        ensure!(nix::unistd::geteuid().is_root(), "it has to be run by root");
        let binary = std::env::var_os("TORTURE_PROGRAM")
            .context("TORTURE_PROGRAM is not set: use 'make torture'")?;
        let binary = fs::canonicalize(binary).context("cannot find the program to be tested")?;
        unshare(CloneFlags::CLONE_NEWNS).context("cannot have a mount namespace")?;
        mount(
            None::<&str>,
            "/",
            None::<&str>,
            MsFlags::MS_REC | MsFlags::MS_PRIVATE,
            None::<&str>,
        )
        .context("cannot make the mounts private")?;
        let above = binary.parent().context("the program is nowhere")?;
        let work = tempfile::Builder::new()
            .prefix("torture.")
            .tempdir_in(above)?;
        // Some tests run as somebody else.
        fs::set_permissions(
            work.path(),
            std::os::unix::fs::PermissionsExt::from_mode(0o755),
        )?;
        Ok(Self {
            binary,
            seed,
            length,
            work,
        })
    }

    /// A new, empty directory.
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

    /// One of two numbers, by how much time there is.
    pub(crate) fn many(&self, short: usize, long: usize) -> usize {
        match self.length {
            Length::Short => short,
            Length::Long => long,
        }
    }
}
