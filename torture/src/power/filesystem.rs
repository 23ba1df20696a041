//! The filesystems that lose power.
//!
//! Invariant: each is small, with a small journal, so that blocks are soon reused and the journal
//! wraps around. Each is mounted with the default options, except for the one option that its name
//! contains.

use std::fs::File;
use std::path::Path;

use anyhow::Result;

use crate::image::{self, Mounted};

/// The sector size of the disk: less than a sector is never written, and a sector is never torn.
pub(crate) const SECTOR: usize = 4096;

/// A kind of filesystem, and how it is mounted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Filesystem {
    Ext4,
    Ext4NoAutoDaAlloc,
    Ext4Writeback,
    Xfs,
    Btrfs,
}

impl Filesystem {
    pub(crate) const ALL: [Self; 5] = [
        Self::Ext4,
        Self::Ext4NoAutoDaAlloc,
        Self::Ext4Writeback,
        Self::Xfs,
        Self::Btrfs,
    ];

    pub(crate) fn shown(self) -> &'static str {
        match self {
            Self::Ext4 => "ext4",
            Self::Ext4NoAutoDaAlloc => "ext4 `noauto_da_alloc`",
            Self::Ext4Writeback => "ext4 `data=writeback`",
            Self::Xfs => "xfs",
            Self::Btrfs => "btrfs",
        }
    }

    /// Returns a word for names of files.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Ext4 => "ext4",
            Self::Ext4NoAutoDaAlloc => "ext4-noauto",
            Self::Ext4Writeback => "ext4-writeback",
            Self::Xfs => "xfs",
            Self::Btrfs => "btrfs",
        }
    }

    /// As mount(2) knows it.
    fn kind(self) -> &'static str {
        match self {
            Self::Ext4 | Self::Ext4NoAutoDaAlloc | Self::Ext4Writeback => "ext4",
            Self::Xfs => "xfs",
            Self::Btrfs => "btrfs",
        }
    }

    fn options(self) -> &'static str {
        match self {
            Self::Ext4 | Self::Btrfs => "",
            Self::Ext4NoAutoDaAlloc => "noauto_da_alloc",
            Self::Ext4Writeback => "data=writeback",
            // Another cut of the same filesystem may still be mounted.
            Self::Xfs => "nouuid",
        }
    }

    /// Returns whether an old version that has just been replaced may be torn: its blocks can be
    /// used again before the rename is on the disk. The manual says so.
    pub(crate) fn tears_what_was_replaced(self) -> bool {
        self == Self::Ext4Writeback
    }

    /// Returns a command, given a new name, that has all names put on the disk, and not the data:
    /// what the kernel does by itself every 30 seconds, which is too long to wait for. On the
    /// other filesystems, any fsync does it.
    pub(crate) fn commit(self) -> Option<&'static [&'static str]> {
        match self {
            Self::Btrfs => Some(&["btrfs", "subvolume", "create"]),
            _ => None,
        }
    }

    /// In bytes; xfs takes no less, and on a smaller one btrfs writes back early.
    fn size(self) -> u64 {
        match self {
            Self::Ext4 | Self::Ext4NoAutoDaAlloc | Self::Ext4Writeback => 96 << 20,
            Self::Xfs => 300 << 20,
            Self::Btrfs => 8 << 30,
        }
    }

    /// Makes an empty one.
    pub(crate) fn make(self) -> Result<File> {
        let options: &[&str] = match self {
            Self::Ext4 | Self::Ext4NoAutoDaAlloc | Self::Ext4Writeback => &[
                "-q",
                "-F",
                "-b",
                "4096",
                "-N",
                "4096",
                "-J",
                "size=4",
                "-E",
                "nodiscard,lazy_itable_init=0,lazy_journal_init=0",
            ],
            Self::Xfs => &["-q", "-f", "-K", "-s", "size=4096"],
            Self::Btrfs => &["-q", "-f", "-K"],
        };
        image::make(self.kind(), self.size(), options)
    }

    pub(crate) fn mount(self, image: &File, on: &Path) -> Result<Mounted> {
        let sector = u32::try_from(SECTOR)?;
        Mounted::image(image, sector, on, self.kind(), self.options())
    }
}
