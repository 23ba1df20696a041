//! The ground: directories on the filesystems that are measured.
//!
//! ext4 is the machine's own disk if that is ext4, otherwise an image like the others. The mounts
//! are in a mount namespace of this program, so nothing stays mounted, however it ends.

use std::env;
use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, anyhow};
use rustix::fs::{statfs, statvfs};
use rustix::process::geteuid;

use crate::launch::check;
use crate::work::{Input, MIB, Work};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    Disk,
    /// An image of its own, on which nothing was ever removed.
    Ext4,
    Btrfs,
    Xfs,
}

/// Set in the process that has its own mount namespace.
const INSIDE: &str = "BENCH_INSIDE";
const EXT4: i64 = 0xef53;

/// Starts this program again in a mount namespace, if it is root. Otherwise only the machine's own
/// disk is measured.
pub(crate) fn have_own_mounts() -> Result<()> {
    if !geteuid().is_root() || env::var_os(INSIDE).is_some() {
        return Ok(());
    }
    let error = Command::new("unshare")
        .arg("--mount")
        .arg(env::current_exe()?)
        .args(env::args_os().skip(1))
        .env(INSIDE, "1")
        .exec();
    Err(anyhow!(error).context("cannot run unshare"))
}

/// Returns an empty directory on the machine's own disk, for all files of the run.
pub(crate) fn target() -> Result<PathBuf> {
    let target = env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into());
    let target = PathBuf::from(target).join("bench");
    if target.exists() {
        fs::remove_dir_all(&target).context("cannot remove the files of the last run")?;
    }
    fs::create_dir_all(&target)?;
    Ok(target.canonicalize()?)
}

#[derive(Debug)]
pub(crate) struct Ground {
    disk: PathBuf,
    words: &'static str,
    btrfs: Option<PathBuf>,
    xfs: Option<PathBuf>,
}

impl Ground {
    pub(crate) fn prepare(target: &Path) -> Result<Self> {
        let own = target.join("ext4");
        fs::create_dir(&own)?;
        let words = match (statfs(&own)?.f_type == EXT4, geteuid().is_root()) {
            (true, true) => "ext4 on the machine's own disk, btrfs and xfs on loop devices",
            (true, false) => "ext4 on the machine's own disk",
            (false, _) => {
                mount(target, "ext4", 4096)?
                    .context("the disk is not ext4, and no image can be mounted without root")?;
                "ext4, btrfs and xfs on loop devices"
            }
        };
        Ok(Self {
            disk: own,
            words,
            btrfs: mount(target, "btrfs", 1536)?,
            xfs: mount(target, "xfs", 1536)?,
        })
    }

    /// Describes the disks.
    pub(crate) fn words(&self) -> &'static str {
        self.words
    }

    /// Returns the directory for a work. `None` if a filesystem for it is not available.
    pub(crate) fn at(&self, work: Work) -> Option<&Path> {
        match (work.place, work.input) {
            (Place::Disk, Input::Foreign) => self.xfs.as_ref().map(|_| self.disk.as_path()),
            (Place::Disk | Place::Ext4, _) => Some(&self.disk),
            (Place::Btrfs, _) => self.btrfs.as_deref(),
            (Place::Xfs, _) => self.xfs.as_deref(),
        }
    }

    /// Checks whether two files of that size, or one and what a run leaves, fit on the disk.
    pub(crate) fn has_space(&self, work: Work) -> Result<bool> {
        let disk = statvfs(&self.disk)?;
        Ok(work.size * 2 <= disk.f_bavail * disk.f_frsize)
    }
}

/// A filesystem for one contest alone. For each new inode, ext4 searches the inodes that were freed
/// in the last minutes, so later programs would pay for files that were removed before.
#[derive(Debug)]
pub(crate) struct Fresh {
    path: PathBuf,
}

impl Fresh {
    /// Returns `None` without root.
    pub(crate) fn mount(place: Place, target: &Path) -> Result<Option<Self>> {
        let filesystem = match place {
            Place::Disk | Place::Ext4 => "ext4",
            Place::Btrfs => "btrfs",
            Place::Xfs => "xfs",
        };
        let target = target.join("fresh");
        fs::create_dir_all(&target)?;
        Ok(mount(&target, filesystem, 8192)?.map(|path| Self { path }))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Fresh {
    fn drop(&mut self) {
        // If that fails, the mount ends with the namespace.
        drop(Command::new("umount").arg(&self.path).status());
    }
}

/// Mounts an image of `size` MiB. Returns `None` without root.
fn mount(target: &Path, filesystem: &str, size: u64) -> Result<Option<PathBuf>> {
    if !geteuid().is_root() {
        return Ok(None);
    }
    let image = target.join(format!("{filesystem}.img"));
    File::create(&image)?.set_len(size * MIB)?;
    let mut make = Command::new(format!("mkfs.{filesystem}"));
    if filesystem == "ext4" {
        // Inodes for small files.
        make.args(["-i", "4096"]);
    }
    check(make.arg("-q").arg(&image))?;
    let place = target.join(filesystem);
    fs::create_dir_all(&place)?;
    check(
        Command::new("mount")
            .args(["-o", "loop"])
            .arg(&image)
            .arg(&place),
    )?;
    // It is freed when the mount ends.
    fs::remove_file(&image)?;
    Ok(Some(place))
}
