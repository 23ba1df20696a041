//! Filesystems in memory for the scenes, because tens of thousands of runs would wait for a disk's
//! flushes.
//!
//! If nothing can be mounted, the scenes are in `/dev/shm`, or beside the program if that is
//! missing.

use std::path::Path;

use anyhow::Result;
use tempfile::TempDir;

use super::Kit;
use crate::ground::Ground;
use crate::image::{self, Mounted};

/// The filesystem that a form needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Disk {
    /// tmpfs, or any other that has all that the forms need: unnamed files, links, attributes (on
    /// tmpfs since Linux 6.6).
    Usual,
    /// It clones, and it needs a second flush when a new file has its name.
    Btrfs,
}

/// Where the scenes of some forms are made, and what they share.
#[derive(Debug)]
pub(super) struct Field {
    pub(super) disk: Disk,
    pub(super) kit: Kit,
    directory: TempDir,
    // In this order: what is in it, the filesystem, what it is mounted on.
    _mounted: Option<Mounted>,
    _place: TempDir,
}

/// As most disks have them.
const SECTOR: u32 = 512;

/// Large enough for the scenes of many processors; only what is written takes memory.
const SIZE: u64 = 4 << 30;

/// In memory, on most machines.
const SHARED_MEMORY: &str = "/dev/shm";

impl Field {
    /// Makes all fields that are possible here.
    pub(super) fn all(ground: &Ground) -> Result<Vec<Self>> {
        let mut fields = vec![Self::make(ground, Disk::Usual)?];
        if ground.mounts {
            fields.push(Self::make(ground, Disk::Btrfs)?);
        }
        Ok(fields)
    }

    fn make(ground: &Ground, disk: Disk) -> Result<Self> {
        let place = if ground.mounts {
            ground.directory("field.")?
        } else {
            let shared = tempfile::tempdir_in(Path::new(SHARED_MEMORY));
            shared.or_else(|_| ground.directory("field."))?
        };
        let mounted = match disk {
            Disk::Btrfs => {
                let image = image::make("btrfs", SIZE, &["-q", "-f"])?;
                Some(Mounted::image(&image, SECTOR, place.path(), "btrfs", "")?)
            }
            Disk::Usual if ground.mounts => Some(Mounted::new(
                None,
                place.path(),
                "tmpfs",
                "mode=755,size=90%",
            )?),
            Disk::Usual => None,
        };
        let directory = tempfile::Builder::new()
            .prefix("scenes.")
            .tempdir_in(place.path())?;
        Ok(Self {
            disk,
            kit: Kit::make(ground, directory.path())?,
            directory,
            _mounted: mounted,
            _place: place,
        })
    }

    /// Returns a new, empty directory.
    pub(super) fn directory(&self) -> Result<TempDir> {
        Ok(tempfile::tempdir_in(self.directory.path())?)
    }
}
