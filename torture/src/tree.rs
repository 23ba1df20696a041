//! The content of a directory, for comparison with its content before.

use std::collections::BTreeMap;
use std::fs::{self, Metadata};
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// What has a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    /// The kind and the permissions.
    pub(crate) mode: u32,
    pub(crate) owner: (u32, u32),
    /// Of a directory it says nothing: names come and go in it.
    modified: Option<(i64, i64)>,
    /// The device has another number when it is mounted again.
    inode: u64,
    /// Of a file its content, of a link where it leads.
    pub(crate) content: Vec<u8>,
}

impl Entry {
    pub(crate) fn is_file(&self) -> bool {
        self.mode & libc::S_IFMT == libc::S_IFREG
    }
}

/// All names below a directory.
pub(crate) type Tree = BTreeMap<PathBuf, Entry>;

/// Reads the attributes and contents of a directory and of everything below it.
pub(crate) fn snapshot(top: &Path) -> Result<Tree> {
    let mut tree = Tree::new();
    let mut open = vec![top.to_owned()];
    while let Some(path) = open.pop() {
        let Some(metadata) = there(&path, fs::symlink_metadata(&path))? else {
            continue;
        };
        if metadata.is_dir() {
            for entry in
                fs::read_dir(&path).with_context(|| format!("cannot read {}", path.display()))?
            {
                open.push(entry?.path());
            }
        }
        let entry = entry(&path, &metadata)?;
        tree.insert(path.strip_prefix(top)?.to_owned(), entry);
    }
    Ok(tree)
}

/// Returns what has a name now; `None` if nothing has.
pub(crate) fn read_entry(path: &Path) -> Result<Option<Entry>> {
    there(path, fs::symlink_metadata(path))?
        .map(|metadata| entry(path, &metadata))
        .transpose()
}

fn there<T>(path: &Path, found: std::io::Result<T>) -> Result<Option<T>> {
    match found {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        found => found
            .map(Some)
            .with_context(|| format!("cannot read {}", path.display())),
    }
}

fn entry(path: &Path, metadata: &Metadata) -> Result<Entry> {
    let content = if metadata.is_file() {
        fs::read(path).with_context(|| format!("cannot read {}", path.display()))?
    } else if metadata.is_symlink() {
        fs::read_link(path)?.as_os_str().as_bytes().to_owned()
    } else {
        Vec::new()
    };
    Ok(Entry {
        mode: metadata.mode(),
        owner: (metadata.uid(), metadata.gid()),
        modified: (!metadata.is_dir()).then(|| (metadata.mtime(), metadata.mtime_nsec())),
        inode: metadata.ino(),
        content,
    })
}

/// Returns the first names that differ, for an example.
pub(crate) fn differences(before: &Tree, after: &Tree) -> Vec<String> {
    let mut names: Vec<&PathBuf> = before.keys().chain(after.keys()).collect();
    names.sort();
    names.dedup();
    let differs = |name: &&PathBuf| before.get(*name) != after.get(*name);
    let shown = |name: &PathBuf| {
        let what = match (before.get(name), after.get(name)) {
            (None, _) => "is new",
            (_, None) => "is gone",
            (Some(old), Some(new)) if old.content != new.content => "has other content",
            (Some(old), Some(new)) if old.mode != new.mode => "has another mode",
            (Some(old), Some(new)) if old.owner != new.owner => "has another owner",
            _ => "is another file",
        };
        format!("'{}' {what}", name.display())
    };
    names
        .into_iter()
        .filter(differs)
        .map(shown)
        .take(3)
        .collect()
}
