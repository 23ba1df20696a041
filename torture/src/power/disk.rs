//! A disk that remembers everything: one file in a filesystem that we serve, behind a loop device.
//!
//! The rule: what the block layer sends is in the log, in the order in which it came, before it is answered. The kernel
//! keeps nothing back: FUSE writes through here, and the loop device makes an fsync of each flush and a hole of each
//! discard.
//!
//! What it cannot see: two writes that are under way at once come one after the other, so a filesystem that sends a flush
//! without having waited for a write looks better here than it is.

use std::fs::File;
use std::path::Path;

use anyhow::{Context, Result};

use crate::served::{Log, Memory, Served, Sparse};

const NAME: &str = "disk";

#[derive(Debug)]
pub(crate) struct Disk {
    file: File,
    log: Log,
    _served: Served,
}

impl Disk {
    /// Mounts the filesystem that has it on an empty directory.
    pub(crate) fn mount(content: Sparse, on: &Path) -> Result<Self> {
        let log = Log::default();
        let served = Served::mount(Memory::with_log(NAME, content, log.clone()), on)?;
        let file = File::options()
            .read(true)
            .write(true)
            .open(on.join(NAME))
            .context("cannot open the file in the FUSE filesystem")?;
        Ok(Self {
            file,
            log,
            _served: served,
        })
    }

    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    pub(crate) fn log(&self) -> Log {
        self.log.clone()
    }
}
