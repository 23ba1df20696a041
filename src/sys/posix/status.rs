//! The status of a file: fstatat and fstat.

use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use rustix::fs::{self, AtFlags, Stat};

use super::super::status::from_stat;
use super::super::{Metadata, Result};

/// Returns the status of `name` in `directory`, without following a symbolic link.
pub(crate) fn metadata_at(directory: BorrowedFd<'_>, name: &Path) -> Result<Metadata> {
    fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW).map(|seen| with_flags(&seen))
}

/// Returns the status of an open file.
pub(crate) fn metadata(file: impl AsFd) -> Result<Metadata> {
    fs::fstat(file).map(|seen| with_flags(&seen))
}

/// Returns the status of the file that `path` leads to, following symbolic links.
pub(crate) fn metadata_through_links(at: BorrowedFd<'_>, path: &Path) -> Result<Metadata> {
    fs::statat(at, path, AtFlags::empty()).map(|seen| with_flags(&seen))
}

/// Adds the flags of chflags(2), which are the same in sys/stat.h of macOS and FreeBSD.
#[cfg(not(target_os = "linux"))]
fn with_flags(seen: &Stat) -> Metadata {
    const IMMUTABLE: u32 = 0x2 | 0x2_0000;
    const APPEND: u32 = 0x4 | 0x4_0000;
    Metadata {
        is_immutable: seen.st_flags & IMMUTABLE != 0,
        is_append_only: seen.st_flags & APPEND != 0,
        ..from_stat(seen)
    }
}

/// Has 9p taken for its server's filesystem: only statx tells them apart.
#[cfg(target_os = "linux")]
fn with_flags(seen: &Stat) -> Metadata {
    Metadata {
        knows_append_only: true,
        ..from_stat(seen)
    }
}

/// Returns false: there is no syncfs(2).
pub(crate) fn syncs_filesystems() -> bool {
    false
}

/// Returns false: mount options such as FreeBSD's nosymfollow are not asked for.
pub(crate) fn forbids_following_links(_directory: BorrowedFd<'_>) -> bool {
    false
}
