//! Filesystems of our own: in memory, and in images on loop devices.
//!
//! They are in the mount namespace of this process, and are gone with it however it ends.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, fallocate};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use tempfile::TempDir;

use super::fault::{tool, word};
use crate::ground::Ground;

/// A mounted filesystem; `work` in it is for DEST, all else is for those who make trouble.
#[derive(Debug)]
pub(super) struct Disk {
    kind: &'static str,
    options: &'static str,
    image: PathBuf,
    top: PathBuf,
    // Removed last.
    _place: TempDir,
}

/// The sizes in MiB are those that the tools of each filesystem take at least.
pub(super) const DISKS: [(&str, u64, &[&str]); 3] = [
    ("ext4", 64, &["-q", "-F", "-m", "0"]),
    ("xfs", 300, &["-q", "-f"]),
    ("btrfs", 128, &["-q", "-f"]),
];

impl Disk {
    pub(super) fn make(ground: &Ground, kind: &'static str) -> Result<Self> {
        let disk = DISKS.iter().find(|(name, ..)| *name == kind);
        let (_, size, words) = disk.with_context(|| format!("no disk is made with {kind}"))?;
        Self::make_with(ground, kind, *size, words, "loop")
    }

    pub(super) fn make_with(
        ground: &Ground,
        kind: &'static str,
        mebibytes: u64,
        words: &[&str],
        options: &'static str,
    ) -> Result<Self> {
        let place = ground.directory(kind)?;
        let image = place.path().join("image");
        let top = place.path().join("top");
        let file = File::create_new(&image).context("cannot make an image")?;
        file.set_len(mebibytes << 20)
            .context("cannot make an image")?;
        let mut all = words.to_vec();
        all.push(word(&image)?);
        tool(&format!("mkfs.{kind}"), &all)?;
        fs::create_dir(&top).context("cannot make a mount point")?;
        let disk = Self {
            kind,
            options,
            image,
            top,
            _place: place,
        };
        disk.mount()?;
        fs::create_dir(disk.work()).context("cannot make the directory for DEST")?;
        Ok(disk)
    }

    /// In memory; the options are those of mount(8).
    pub(super) fn memory(ground: &Ground, options: &'static str) -> Result<Self> {
        let place = ground.directory("tmpfs")?;
        let top = place.path().join("top");
        fs::create_dir(&top).context("cannot make a mount point")?;
        let disk = Self {
            kind: "tmpfs",
            options,
            image: PathBuf::new(),
            top,
            _place: place,
        };
        let none = None::<&str>;
        mount(
            none,
            &disk.top,
            Some("tmpfs"),
            MsFlags::empty(),
            Some(options),
        )
        .context("cannot mount a tmpfs")?;
        fs::create_dir(disk.work()).context("cannot make the directory for DEST")?;
        Ok(disk)
    }

    pub(super) fn kind(&self) -> &'static str {
        self.kind
    }

    pub(super) fn top(&self) -> &Path {
        &self.top
    }

    pub(super) fn work(&self) -> PathBuf {
        self.top.join("work")
    }

    pub(super) fn mount(&self) -> Result<()> {
        tool(
            "mount",
            &[
                "-t",
                self.kind,
                "-o",
                self.options,
                word(&self.image)?,
                word(&self.top)?,
            ],
        )
    }

    pub(super) fn unmount(&self) -> Result<()> {
        tool("umount", &[word(&self.top)?])
    }

    /// Puts all on the image.
    pub(super) fn sync(&self) -> Result<()> {
        let top = File::open(&self.top).context("cannot open a mount point")?;
        nix::unistd::syncfs(&top).context("cannot sync a filesystem")
    }

    /// What the kernel calls the loop device.
    pub(super) fn device(&self) -> Result<String> {
        let device = fs::metadata(&self.top)
            .context("cannot look at a mount point")?
            .dev();
        let (major, minor) = (libc::major(device), libc::minor(device));
        let link = fs::read_link(format!("/sys/dev/block/{major}:{minor}"))
            .context("cannot find the loop device in /sys")?;
        let name = link.file_name().context("a device has no name")?;
        Ok(name.to_string_lossy().into_owned())
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // It may be unmounted already, after an error.
        let _ = umount2(&self.top, MntFlags::MNT_DETACH);
    }
}

/// A file that takes what room there is.
#[derive(Debug)]
pub(super) struct Ballast(PathBuf);

impl Ballast {
    pub(super) fn new(directory: &Path) -> Self {
        Self(directory.join("ballast"))
    }

    /// Takes all room but `left` bytes.
    pub(super) fn fill(&self, left: u64) -> Result<()> {
        let cannot = "cannot fill a filesystem";
        let file = File::create(&self.0).context(cannot)?;
        let mut size = 0;
        loop {
            // What others have just removed is room only after the next commit.
            nix::unistd::syncfs(&file).context(cannot)?;
            let before = size;
            take_room(&file, &mut size).context(cannot)?;
            if size == before {
                break;
            }
        }
        let size = u64::try_from(size).context(cannot)?;
        file.set_len(size.saturating_sub(left)).context(cannot)?;
        nix::unistd::syncfs(&file).context(cannot)
    }

    pub(super) fn empty(&self) -> Result<()> {
        match fs::remove_file(&self.0) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).context("cannot empty a filesystem")
            }
            _ => Ok(()),
        }
    }
}

fn take_room(file: &File, size: &mut i64) -> Result<()> {
    for step in [32 << 20, 1 << 20, 64 << 10, 4 << 10] {
        loop {
            match fallocate(file, FallocateFlags::empty(), *size, step) {
                Ok(()) => *size += step,
                Err(Errno::ENOSPC | Errno::EDQUOT) => break,
                Err(Errno::EINTR) => {}
                Err(errno) => bail!(errno),
            }
        }
    }
    Ok(())
}
