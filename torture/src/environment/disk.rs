//! Filesystems of the suite: in memory, and in images on loop devices.
//!
//! They are in the mount namespace of this process, and end with it, however it ends.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, fallocate};
use tempfile::TempDir;

use crate::ground::Ground;
use crate::image::{self, Mounted};

/// A mounted filesystem; `work` in it is for DEST, all else is for those who make trouble.
#[derive(Debug)]
pub(super) struct Disk {
    kind: &'static str,
    options: &'static str,
    /// `None`: it has no disk.
    image: Option<File>,
    top: PathBuf,
    /// `None`: it could not be mounted again.
    mounted: Option<Mounted>,
    // Removed last.
    _place: TempDir,
}

/// As most disks have them.
const SECTOR: u32 = 512;

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
        Self::make_with(ground, kind, *size, words, "")
    }

    pub(super) fn make_with(
        ground: &Ground,
        kind: &'static str,
        mebibytes: u64,
        words: &[&str],
        options: &'static str,
    ) -> Result<Self> {
        let image = image::make(kind, mebibytes << 20, words)?;
        Self::begin(ground, kind, options, Some(image))
    }

    /// In memory; the options are as for mount(8).
    pub(super) fn memory(ground: &Ground, options: &'static str) -> Result<Self> {
        Self::begin(ground, "tmpfs", options, None)
    }

    fn begin(
        ground: &Ground,
        kind: &'static str,
        options: &'static str,
        image: Option<File>,
    ) -> Result<Self> {
        let place = ground.directory(kind)?;
        let mut disk = Self {
            kind,
            options,
            image,
            top: place.path().join("top"),
            mounted: None,
            _place: place,
        };
        disk.mount_again()?;
        fs::create_dir(disk.work()).context("cannot make the directory for DEST")?;
        Ok(disk)
    }

    /// Mounts it, after an end to the mount that there was.
    pub(super) fn mount_again(&mut self) -> Result<()> {
        if let Some(mounted) = self.mounted.take() {
            mounted.unmount()?;
        }
        let (top, kind, options) = (&self.top, self.kind, self.options);
        self.mounted = Some(match &self.image {
            Some(image) => Mounted::image(image, SECTOR, top, kind, options)?,
            None => Mounted::new(None, top, kind, options)?,
        });
        Ok(())
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

    /// Puts all on the image.
    pub(super) fn sync(&self) -> Result<()> {
        let top = File::open(&self.top).context("cannot open a mount point")?;
        nix::unistd::syncfs(&top).context("cannot sync a filesystem")
    }

    /// Returns the name of the loop device.
    pub(super) fn device(&self) -> Result<String> {
        let device = fs::metadata(&self.top)
            .context("cannot read the attributes of a mount point")?
            .dev();
        let (major, minor) = (libc::major(device), libc::minor(device));
        let link = fs::read_link(format!("/sys/dev/block/{major}:{minor}"))
            .context("cannot find the loop device in /sys")?;
        let name = link.file_name().context("a device has no name")?;
        Ok(name.to_string_lossy().into_owned())
    }
}

/// A file that takes the free space.
#[derive(Debug)]
pub(super) struct Ballast(PathBuf);

impl Ballast {
    pub(super) fn new(directory: &Path) -> Self {
        Self(directory.join("ballast"))
    }

    /// Takes all free space except `left` bytes.
    pub(super) fn fill(&self, left: u64) -> Result<()> {
        let cannot = "cannot fill a filesystem";
        let file = File::create(&self.0).context(cannot)?;
        let mut size = 0;
        loop {
            // The space of removed files is free only after the next commit.
            nix::unistd::syncfs(&file).context(cannot)?;
            let before = size;
            fill(&file, &mut size).context(cannot)?;
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

fn fill(file: &File, size: &mut i64) -> Result<()> {
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
