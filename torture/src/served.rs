//! A filesystem in memory that a thread of the suite serves to the kernel (FUSE).
//!
//! Invariant: the kernel holds nothing back and caches no answer, except names if that is tried. A
//! request is carried out, and logged if there is a log, before it is answered. There are no
//! unnamed temporary files (O_TMPFILE): the library has no such call, and many servers have none.

mod log;
mod memory;
mod server;
mod sparse;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use fuser::{BackgroundSession, MountOption};
use nix::mount::{MntFlags, umount2};

pub(crate) use self::log::{Entry, Log};
pub(crate) use self::memory::{Break, CACHED, Memory, Missing};
pub(crate) use self::sparse::Sparse;

/// As long as it is mounted.
#[derive(Debug)]
pub(crate) struct Served {
    on: PathBuf,
    _session: BackgroundSession,
}

impl Served {
    /// Mounts it on an empty directory.
    pub(crate) fn mount(memory: Memory, on: &Path) -> Result<Self> {
        let options = [
            MountOption::FSName("torture".to_owned()),
            MountOption::DefaultPermissions,
        ];
        let session =
            fuser::spawn_mount2(memory, on, &options).context("cannot mount a FUSE filesystem")?;
        Ok(Self {
            on: on.to_owned(),
            _session: session,
        })
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        // A file may be open yet, for a moment also in children that another thread starts. If this
        // fails, the session tries it once more.
        let _ = umount2(&self.on, MntFlags::MNT_DETACH);
    }
}
