//! A disk that remembers everything: one file in a FUSE filesystem of the suite, behind a loop
//! device.
//!
//! Invariant: everything that the block layer sends is in the log, in its order, before it is
//! answered. The kernel holds nothing back: FUSE is in write-through mode, and the loop device
//! turns each flush into an fsync and each discard into a hole.
//!
//! What these tests cannot see: two concurrent writes are logged one after the other, so a
//! filesystem that sends a flush without waiting for a write appears safer here than it is.

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
