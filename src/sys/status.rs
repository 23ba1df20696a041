//! What the kernel tells of a file: statx, and fstatat where statx is not to be had.

use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use rustix::fs::{
    self, AtFlags, FileType, StatxAttributes, StatxFlags, Timespec, Timestamps, UTIME_OMIT,
};

use super::{Errno, Result};

/// The kind of thing that a name leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Regular,
    Directory,
    Symlink,
    Fifo,
    Socket,
    CharacterDevice,
    BlockDevice,
}

/// Which file it is: no two files that exist at one time have the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Identity {
    device: (u32, u32),
    inode: u64,
}

/// A point in time, from 1970 on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Time {
    seconds: i64,
    nanoseconds: i64,
}

impl Time {
    pub(crate) fn second_before(self) -> Self {
        Self {
            seconds: self.seconds - 1,
            ..self
        }
    }
}

/// Sets the time of the last write.
pub(crate) fn set_modified(file: impl AsFd, time: Time) -> Result<()> {
    fs::futimens(file, &modified_at(time))
}

/// Sets the time of the last write of what has a name, a link itself and not what it points to.
pub(crate) fn set_modified_at(directory: BorrowedFd<'_>, name: &Path, time: Time) -> Result<()> {
    fs::utimensat(
        directory,
        name,
        &modified_at(time),
        AtFlags::SYMLINK_NOFOLLOW,
    )
}

fn modified_at(time: Time) -> Timestamps {
    Timestamps {
        last_access: Timespec {
            tv_sec: 0,
            tv_nsec: UTIME_OMIT,
        },
        last_modification: Timespec {
            tv_sec: time.seconds,
            tv_nsec: time.nanoseconds,
        },
    }
}

/// What is known of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Metadata {
    pub(crate) kind: Kind,
    /// The permission bits, 07777.
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) links: u32,
    /// Bytes.
    pub(crate) size: u64,
    pub(crate) identity: Identity,
    /// The time of the last write.
    pub(crate) modified: Time,
    /// chattr(1) +i: it can be neither changed nor replaced.
    pub(crate) is_immutable: bool,
    /// chattr(1) +a: it can be appended to, but not be replaced.
    pub(crate) is_append_only: bool,
    /// Something is mounted here: a rename over it gives EBUSY. Always false before Linux 5.8.
    pub(crate) mount_root: bool,
}

impl Metadata {
    pub(crate) fn is_on_filesystem_of(&self, other: &Self) -> bool {
        self.identity.device == other.identity.device
    }

    /// Whether two looks saw the same file, and nobody wrote to it in between.
    pub(crate) fn is_same_content(&self, other: &Self) -> bool {
        let key = |seen: &Self| (seen.identity, seen.size, seen.modified);
        key(self) == key(other)
    }
}

/// Looks at what `name` is in `directory`, a link itself and not what it points to.
pub(crate) fn metadata_at(directory: BorrowedFd<'_>, name: &Path) -> Result<Metadata> {
    look(directory, name, AtFlags::SYMLINK_NOFOLLOW)
}

/// Looks at an open file.
pub(crate) fn metadata(file: impl AsFd) -> Result<Metadata> {
    look(file.as_fd(), Path::new(""), AtFlags::EMPTY_PATH)
}

/// Looks at what `path` leads to, through any links.
pub(crate) fn metadata_through_links(at: BorrowedFd<'_>, path: &Path) -> Result<Metadata> {
    look(at, path, AtFlags::empty())
}

fn look(directory: BorrowedFd<'_>, name: &Path, flags: AtFlags) -> Result<Metadata> {
    let seen = match fs::statx(directory, name, flags, StatxFlags::BASIC_STATS) {
        Ok(seen) => seen,
        // ENOSYS before Linux 4.11; EPERM from seccomp filters that are older than the call.
        Err(Errno::NOSYS | Errno::PERM) => return look_the_old_way(directory, name, flags),
        Err(errno) => return Err(errno),
    };
    Ok(Metadata {
        kind: kind(u32::from(seen.stx_mode)),
        mode: u32::from(seen.stx_mode) & 0o7777,
        uid: seen.stx_uid,
        gid: seen.stx_gid,
        links: seen.stx_nlink,
        size: seen.stx_size,
        identity: Identity {
            device: (seen.stx_dev_major, seen.stx_dev_minor),
            inode: seen.stx_ino,
        },
        modified: Time {
            seconds: seen.stx_mtime.tv_sec,
            nanoseconds: seen.stx_mtime.tv_nsec.into(),
        },
        is_immutable: seen.stx_attributes.contains(StatxAttributes::IMMUTABLE),
        is_append_only: seen.stx_attributes.contains(StatxAttributes::APPEND),
        mount_root: seen.stx_attributes.contains(StatxAttributes::MOUNT_ROOT),
    })
}

fn look_the_old_way(directory: BorrowedFd<'_>, name: &Path, flags: AtFlags) -> Result<Metadata> {
    let seen = fs::statat(directory, name, flags)?;
    Ok(Metadata {
        kind: kind(seen.st_mode),
        mode: seen.st_mode & 0o7777,
        uid: seen.st_uid,
        gid: seen.st_gid,
        links: u32::try_from(seen.st_nlink).unwrap_or(u32::MAX),
        size: u64::try_from(seen.st_size).unwrap_or(0),
        identity: Identity {
            device: (fs::major(seen.st_dev), fs::minor(seen.st_dev)),
            inode: seen.st_ino,
        },
        modified: Time {
            seconds: seen.st_mtime,
            nanoseconds: i64::try_from(seen.st_mtime_nsec).unwrap_or(0),
        },
        is_immutable: false,
        is_append_only: false,
        mount_root: false,
    })
}

fn kind(mode: u32) -> Kind {
    match FileType::from_raw_mode(mode) {
        FileType::Directory => Kind::Directory,
        FileType::Symlink => Kind::Symlink,
        FileType::Fifo => Kind::Fifo,
        FileType::Socket => Kind::Socket,
        FileType::CharacterDevice => Kind::CharacterDevice,
        FileType::BlockDevice => Kind::BlockDevice,
        _ => Kind::Regular,
    }
}

/// What a filesystem is, as far as it matters for the promise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FileSystem {
    /// ext2, ext3, ext4 and xfs. fsync of a file that has no name yet makes its content durable, and space that was
    /// reserved is written to faster.
    Journaling,
    /// tmpfs and ramfs: there is nothing to make durable.
    Memory,
    /// /proc.
    Proc,
    /// Anything else. btrfs is known to do nothing at an fsync of a file without a name, so that power loss after the
    /// rename leaves an empty file (andreacorbellini/rust-atomic-write-file#6); of the rest we do not know.
    Other,
}

/// Whether one syncfs puts files and names on the disk as surely as an fsync of each, and tells of every error.
///
/// It tells of errors since Linux 5.8 (syncfs(2)). On FUSE it may do nothing at all; of network filesystems we do not
/// know.
pub(crate) fn flushes_at_once(file: impl AsFd) -> bool {
    const BTRFS: u64 = 0x9123_683e;
    let tells = || {
        let name = rustix::system::uname();
        let mut numbers = name
            .release()
            .to_bytes()
            .split(|byte| !byte.is_ascii_digit());
        let mut number =
            || -> Option<u32> { std::str::from_utf8(numbers.next()?).ok()?.parse().ok() };
        (number(), number()) >= (Some(5), Some(8))
    };
    let is_known = matches!(magic(&file), Ok(BTRFS))
        || matches!(
            filesystem(&file),
            Ok(FileSystem::Journaling | FileSystem::Memory)
        );
    is_known && tells()
}

/// Tells what filesystem the open file is on.
pub(crate) fn filesystem(file: impl AsFd) -> Result<FileSystem> {
    const EXT: u64 = 0xef53;
    const XFS: u64 = 0x5846_5342;
    const TMPFS: u64 = 0x0102_1994;
    const RAMFS: u64 = 0x8584_58f6;
    const PROC: u64 = 0x9fa0;
    Ok(match magic(file)? {
        EXT | XFS => FileSystem::Journaling,
        TMPFS | RAMFS => FileSystem::Memory,
        PROC => FileSystem::Proc,
        _ => FileSystem::Other,
    })
}

/// The number by which a filesystem is known (statfs(2)).
fn magic(file: impl AsFd) -> Result<u64> {
    // The field's type differs between architectures; the magic numbers are 32 bits wide on all.
    #[expect(clippy::cast_sign_loss, reason = "compared as the 32 bits that it is")]
    let magic = fs::fstatfs(file)?.f_type as u64 & 0xffff_ffff;
    Ok(magic)
}
