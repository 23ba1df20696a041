//! The status of a file: statx, or fstatat if statx is not available.

use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use rustix::fs::{self, AtFlags, StatxAttributes, StatxFlags};

use super::super::status::{BLOCK, Identity, Time, from_stat, kind};
use super::super::{Errno, Metadata, Result};

/// Returns the status of `name` in `directory`, without following a symbolic link.
pub(crate) fn metadata_at(directory: BorrowedFd<'_>, name: &Path) -> Result<Metadata> {
    stat(directory, name, AtFlags::SYMLINK_NOFOLLOW)
}

/// Returns the status of an open file.
pub(crate) fn metadata(file: impl AsFd) -> Result<Metadata> {
    stat(file.as_fd(), Path::new(""), AtFlags::EMPTY_PATH)
}

/// Returns the status of the file that `path` leads to, following symbolic links.
pub(crate) fn metadata_through_links(at: BorrowedFd<'_>, path: &Path) -> Result<Metadata> {
    stat(at, path, AtFlags::empty())
}

/// Asks the server, if there is one (AT_STATX_FORCE_SYNC). Otherwise cifs trusts its cache for one
/// second, and a file that another client has just replaced is read up to the old size.
fn stat(directory: BorrowedFd<'_>, name: &Path, flags: AtFlags) -> Result<Metadata> {
    let asking = flags | AtFlags::STATX_FORCE_SYNC;
    let seen = match fs::statx(directory, name, asking, StatxFlags::BASIC_STATS) {
        Ok(seen) => seen,
        // ENOSYS before Linux 4.11; EPERM from seccomp filters that are older than the call.
        Err(Errno::NOSYS | Errno::PERM) => {
            return Ok(from_stat(&fs::statat(directory, name, flags)?));
        }
        Err(errno) => return Err(errno),
    };
    Ok(Metadata {
        kind: kind(u32::from(seen.stx_mode)),
        mode: u32::from(seen.stx_mode) & 0o7777,
        uid: seen.stx_uid,
        gid: seen.stx_gid,
        links: seen.stx_nlink,
        size: seen.stx_size,
        allocated: seen.stx_blocks.saturating_mul(BLOCK),
        identity: Identity {
            device: (seen.stx_dev_major, seen.stx_dev_minor),
            inode: seen.stx_ino,
        },
        accessed: Time {
            seconds: seen.stx_atime.tv_sec,
            nanoseconds: seen.stx_atime.tv_nsec.into(),
        },
        modified: Time {
            seconds: seen.stx_mtime.tv_sec,
            nanoseconds: seen.stx_mtime.tv_nsec.into(),
        },
        changed: Time {
            seconds: seen.stx_ctime.tv_sec,
            nanoseconds: seen.stx_ctime.tv_nsec.into(),
        },
        is_immutable: seen.stx_attributes.contains(StatxAttributes::IMMUTABLE),
        is_append_only: seen.stx_attributes.contains(StatxAttributes::APPEND),
        mount_root: seen.stx_attributes.contains(StatxAttributes::MOUNT_ROOT),
        knows_append_only: seen.stx_attributes_mask.contains(StatxAttributes::APPEND),
    })
}

/// Returns true if syncfs reports errors, as it does since Linux 5.8 (syncfs(2)).
pub(crate) fn syncs_filesystems() -> bool {
    let name = rustix::system::uname();
    let mut numbers = name
        .release()
        .to_bytes()
        .split(|byte| !byte.is_ascii_digit());
    let mut number = || -> Option<u32> { std::str::from_utf8(numbers.next()?).ok()?.parse().ok() };
    (number(), number()) >= (Some(5), Some(8))
}

/// Returns true if the directory's mount has the option nosymfollow.
pub(crate) fn forbids_following_links(directory: BorrowedFd<'_>) -> bool {
    const ST_NOSYMFOLLOW: u64 = 0x2000;
    let flags = rustix::fs::fstatvfs(directory).map(|seen| seen.f_flag.bits());
    flags.is_ok_and(|flags| flags & ST_NOSYMFOLLOW != 0)
}
