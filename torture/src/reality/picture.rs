//! What a directory holds, so that it can be told what a run has changed.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// One file or directory. The content of a directory and of a link is empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) content: Vec<u8>,
    pub(super) mode: u32,
    pub(super) owner: (u32, u32),
    pub(super) inode: u64,
    modified: (i64, i64),
}

impl Entry {
    /// Directories change when names in them do, and change back.
    pub(super) fn is_untouched(&self, now: &Self) -> bool {
        self.mode & libc::S_IFMT == libc::S_IFDIR || self == now
    }
}

/// All names below a directory.
pub(super) type Picture = BTreeMap<PathBuf, Entry>;

pub(super) fn take(directory: &Path) -> Result<Picture> {
    let mut picture = Picture::new();
    look(directory, Path::new(""), &mut picture)?;
    Ok(picture)
}

fn look(top: &Path, below: &Path, picture: &mut Picture) -> Result<()> {
    let directory = top.join(below);
    let cannot = || format!("cannot look at {}", directory.display());
    for entry in fs::read_dir(&directory).with_context(cannot)? {
        let entry = entry.with_context(cannot)?;
        let name = below.join(entry.file_name());
        let metadata = entry.metadata().with_context(cannot)?;
        let content = if metadata.is_file() {
            fs::read(entry.path()).with_context(cannot)?
        } else {
            Vec::new()
        };
        if metadata.is_dir() {
            look(top, &name, picture)?;
        }
        let entry = Entry {
            content,
            mode: metadata.mode(),
            owner: (metadata.uid(), metadata.gid()),
            inode: metadata.ino(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
        };
        picture.insert(name, entry);
    }
    Ok(())
}
