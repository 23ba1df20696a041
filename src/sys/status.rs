//! The status of a file, and of its filesystem.

use std::io::ErrorKind;
use std::os::fd::AsFd;
#[cfg(target_os = "linux")]
use std::os::fd::BorrowedFd;

use rustix::fs::{self, FileType, Mode, RawMode, Timespec, Timestamps, UTIME_OMIT};

use super::{Result, metadata};

/// The type of a file.
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

/// Identifies a file: no two files that exist at the same time have the same identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Identity {
    pub(super) device: (u32, u32),
    pub(super) inode: u64,
}

impl Identity {
    /// Returns false if the file has the inode number 0, which some FUSE filesystems give to all.
    pub(crate) fn is_unique(self) -> bool {
        self.inode != 0
    }
}

/// A point in time, since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Time {
    pub(super) seconds: i64,
    pub(super) nanoseconds: i64,
}

impl From<Time> for Timespec {
    fn from(time: Time) -> Self {
        Self {
            tv_sec: time.seconds,
            tv_nsec: time.nanoseconds,
        }
    }
}

/// Sets the modification time.
pub(crate) fn set_modified(file: impl AsFd, time: Time) -> Result<()> {
    let times = Timestamps {
        last_access: Timespec {
            tv_sec: 0,
            tv_nsec: UTIME_OMIT,
        },
        last_modification: time.into(),
    };
    fs::futimens(file, &times)
}

/// The access and modification times.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Times {
    accessed: Time,
    modified: Time,
}

/// Sets the access and modification times. Errors: EPERM if the file is another user's, even for
/// the times that the file has already.
pub(crate) fn set_times(file: impl AsFd, times: Times) -> Result<()> {
    let times = Timestamps {
        last_access: times.accessed.into(),
        last_modification: times.modified.into(),
    };
    fs::futimens(file, &times)
}

/// The unit in which statx(2) and stat(2) count blocks on any filesystem, in bytes.
pub(super) const BLOCK: u64 = 512;

/// The status of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "they are what statx reports")]
pub(crate) struct Metadata {
    pub(crate) kind: Kind,
    /// The permission bits, 07777.
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) links: u32,
    /// Bytes.
    pub(crate) size: u64,
    /// Bytes allocated on the disk.
    pub(crate) allocated: u64,
    pub(crate) identity: Identity,
    /// The access time, which the kernel may not have updated.
    pub(super) accessed: Time,
    /// The modification time.
    pub(crate) modified: Time,
    /// The time of the last change of content, attributes or links (ctime).
    pub(crate) changed: Time,
    /// chattr(1) +i: the file can be neither changed nor replaced.
    pub(crate) is_immutable: bool,
    /// chattr(1) +a: the file can be appended to, but not replaced.
    pub(crate) is_append_only: bool,
    /// The file is a mount point: renaming over it fails with EBUSY. Always false before Linux 5.8.
    pub(crate) mount_root: bool,
    /// The filesystem reports whether the file is append-only.
    pub(super) knows_append_only: bool,
}

/// All users that this user namespace, or an ID-mapped mount, does not map are shown with this ID
/// (user_namespaces(7)); the default of /proc/sys/kernel/overflowuid.
const OVERFLOW: u32 = 65534;

/// Returns whether this user namespace has a user with that ID, who may be us.
fn maps_overflow() -> bool {
    let is_in = |line: &str| {
        let numbers = line.split_whitespace().map_while(|word| word.parse().ok());
        let numbers: Vec<u64> = numbers.collect();
        matches!(numbers[..], [first, _, count] if (first..first + count).contains(&OVERFLOW.into()))
    };
    match std::fs::read_to_string("/proc/self/uid_map") {
        Ok(map) => map.lines().any(is_in),
        // The kernel has no user namespaces.
        Err(error) => {
            error.kind() == ErrorKind::NotFound && std::fs::exists("/proc/self").unwrap_or(false)
        }
    }
}

impl Metadata {
    pub(crate) fn times(&self) -> Times {
        Times {
            accessed: self.accessed,
            modified: self.modified,
        }
    }

    pub(crate) fn is_on_filesystem_of(&self, other: &Self) -> bool {
        self.identity.device == other.identity.device
    }

    /// Returns true for a directory like /tmp, sticky and writable by all.
    pub(crate) fn is_shared(&self) -> bool {
        const STICKY_AND_WRITABLE_BY_ALL: u32 = 0o1002;
        self.mode & STICKY_AND_WRITABLE_BY_ALL == STICKY_AND_WRITABLE_BY_ALL
    }

    /// Returns true if the entry may be a trap: `directory` is one like /tmp, sticky and writable
    /// by all, and the entry belongs neither to its owner nor to us. That is the kernel's rule for
    /// fs.protected_symlinks and fs.protected_regular (proc_sys_fs(5)).
    pub(crate) fn may_be_trap_in(&self, directory: &Self) -> bool {
        let is_ours = self.uid == super::effective_uid();
        directory.is_shared()
            && !(is_ours && (self.uid != OVERFLOW || maps_overflow()))
            && !(self.uid == directory.uid && self.uid != OVERFLOW)
    }

    /// Returns true if both are of one file, which was not written to in between.
    pub(crate) fn is_same_content(&self, other: &Self) -> bool {
        let key = |seen: &Self| (seen.identity, seen.size, seen.modified);
        key(self) == key(other)
    }

    /// Returns true if the filesystem keeps times in whole seconds, as ext4 with inodes of 128
    /// bytes.
    pub(crate) fn counts_seconds(&self) -> bool {
        self.changed.nanoseconds == 0
    }

    /// Returns true if both are of one file, which did not change in any way in between, or if both
    /// are `None`. The inode number alone is not enough, because a new file can get the number of a
    /// removed one.
    pub(crate) fn are_same(one: Option<&Self>, other: Option<&Self>) -> bool {
        let key = |seen: &Self| {
            let owners = (seen.uid, seen.gid);
            (seen.identity, seen.changed, seen.kind, seen.mode, owners)
        };
        one.map(key) == other.map(key)
    }
}

/// Returns what fstatat(2) and fstat(2) tell.
pub(super) fn from_stat(seen: &fs::Stat) -> Metadata {
    Metadata {
        kind: kind(seen.st_mode),
        mode: bits(seen.st_mode),
        uid: seen.st_uid,
        gid: seen.st_gid,
        links: u32::try_from(seen.st_nlink).unwrap_or(u32::MAX),
        size: u64::try_from(seen.st_size).unwrap_or(0),
        allocated: u64::try_from(seen.st_blocks)
            .unwrap_or(0)
            .saturating_mul(BLOCK),
        identity: Identity {
            device: (fs::major(seen.st_dev), fs::minor(seen.st_dev)),
            inode: seen.st_ino,
        },
        accessed: Time {
            seconds: seen.st_atime,
            nanoseconds: i64::try_from(seen.st_atime_nsec).unwrap_or(0),
        },
        modified: Time {
            seconds: seen.st_mtime,
            nanoseconds: i64::try_from(seen.st_mtime_nsec).unwrap_or(0),
        },
        changed: Time {
            seconds: seen.st_ctime,
            nanoseconds: i64::try_from(seen.st_ctime_nsec).unwrap_or(0),
        },
        is_immutable: false,
        is_append_only: false,
        mount_root: false,
        knows_append_only: false,
    }
}

/// Returns the permission bits of a mode, which is 16 bits wide on some systems.
pub(super) fn bits(mode: impl Into<u32>) -> u32 {
    mode.into() & 0o7777
}

/// Returns the permission bits as rustix takes them.
pub(super) fn permissions(bits: u32) -> Mode {
    fn narrow<T: TryFrom<u32> + Default>(bits: u32) -> T {
        bits.try_into().unwrap_or_default()
    }
    Mode::from_raw_mode(narrow(bits & 0o7777))
}

pub(super) fn kind(mode: RawMode) -> Kind {
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

/// The filesystem types that differ for the promise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(
    not(target_os = "linux"),
    expect(dead_code, reason = "these are Linux's")
)]
pub(crate) enum FileSystem {
    /// ext2, ext3 and ext4.
    Ext,
    Xfs,
    Btrfs,
    F2fs,
    /// tmpfs and ramfs.
    Memory,
    Overlay,
    Udf,
    /// /proc.
    Proc,
    /// Local, as another system says it.
    #[cfg(not(target_os = "linux"))]
    Local,
    /// cifs and smb3.
    Smb,
    /// NFS, 9p, FUSE, FAT and all others.
    Other,
}

impl FileSystem {
    /// Returns true if only this kernel changes the filesystem, so that flock shows every live
    /// process.
    ///
    /// FUSE and newer cifs have O_TMPFILE too, but two mounts of one directory do not share locks.
    pub(crate) fn is_local(self) -> bool {
        !matches!(self, Self::Proc | Self::Smb | Self::Other)
    }

    /// Returns true if fsync makes the content of an unnamed file durable. On btrfs it does not,
    /// and the file is empty after a power loss (andreacorbellini/rust-atomic-write-file#6). The
    /// layers of overlayfs may be on btrfs.
    pub(crate) fn syncs_unnamed_files(self) -> bool {
        matches!(self, Self::Ext | Self::Xfs | Self::F2fs | Self::Memory)
    }

    /// Returns true if writing to preallocated blocks is faster. tmpfs would zero every page, and
    /// btrfs would not compress.
    pub(crate) fn gains_by_preallocation(self) -> bool {
        matches!(self, Self::Ext | Self::Xfs)
    }

    /// Returns true if a hard link may have another inode number than its file.
    pub(crate) fn numbers_links_anew(self) -> bool {
        self == Self::Overlay || !self.is_local()
    }

    /// Returns true if one syncfs is as safe as an fsync of each file and directory, and reports
    /// every error.
    ///
    /// On FUSE, syncfs may do nothing at all.
    pub(crate) fn syncs_all_at_once(self) -> bool {
        matches!(self, Self::Ext | Self::Xfs | Self::Btrfs | Self::Memory)
            && super::syncs_filesystems()
    }
}

/// Returns how many bytes this process can write to an open file without `beyond` bytes at its end:
/// the free space, and the file's own. `None` if that is not known.
pub(crate) fn available_space(file: impl AsFd, beyond: u64) -> Option<u64> {
    let (filesystem, now) = (filesystem(&file).ok()?, metadata(&file).ok()?);
    let seen = fs::fstatvfs(&file).ok()?;
    // ext4 reserves some blocks for root. Other filesystems may report their space wrongly.
    let blocks = match filesystem {
        FileSystem::Ext if super::effective_uid() == 0 => seen.f_bfree,
        found if found.is_local() => seen.f_bavail,
        _ => return None,
    };
    // Overwritten content needs new space. The layers of overlayfs may be on btrfs.
    let copies_on_write = match filesystem {
        FileSystem::Btrfs => !super::chattr_flags(file.as_fd()).contains('C'),
        FileSystem::Overlay => true,
        #[cfg(not(target_os = "linux"))]
        FileSystem::Local => true,
        _ => false,
    };
    // Blocks beyond the end do not count, and a hole has none.
    let reused = if copies_on_write {
        0
    } else {
        let size = now.size.next_multiple_of(seen.f_frsize.max(1));
        now.allocated.min(size).saturating_sub(beyond)
    };
    (seen.f_blocks > 0).then(|| blocks.saturating_mul(seen.f_frsize).saturating_add(reused))
}

/// Returns the type of the filesystem that an open file is on: whether it is local (statfs(2) of
/// macOS and FreeBSD).
#[cfg(not(target_os = "linux"))]
pub(crate) fn filesystem(file: impl AsFd) -> Result<FileSystem> {
    // In the width of FreeBSD's field.
    #[expect(clippy::cast_sign_loss, reason = "a flag")]
    let is_local = u64::from(fs::fstatfs(file)?.f_flags) & libc::MNT_LOCAL as u64 != 0;
    Ok(if is_local {
        FileSystem::Local
    } else {
        FileSystem::Other
    })
}

/// Returns the type of the filesystem that an open file is on, from statfs(2).
///
/// 9p reports the type of its server's filesystem. It has no block device (major number 0). btrfs
/// has none either, but reports whether a file is append-only (measured, Linux 6.12). What has no
/// disk is not worth a difference.
#[cfg(target_os = "linux")]
pub(crate) fn filesystem(file: impl AsFd) -> Result<FileSystem> {
    let found = filesystem_by_magic(file.as_fd())?;
    let now = metadata(file)?;
    let is_9p = match found {
        FileSystem::Ext | FileSystem::Xfs | FileSystem::F2fs | FileSystem::Udf => {
            now.identity.device.0 == 0
        }
        FileSystem::Btrfs => !now.knows_append_only,
        _ => false,
    };
    Ok(if is_9p { FileSystem::Other } else { found })
}

#[cfg(target_os = "linux")]
fn filesystem_by_magic(file: BorrowedFd<'_>) -> Result<FileSystem> {
    // The field's type differs between architectures; the magic numbers are 32 bits wide on all.
    #[expect(clippy::cast_sign_loss, reason = "compared as the 32 bits that it is")]
    let magic = fs::fstatfs(file)?.f_type as u64 & 0xffff_ffff;
    Ok(match magic {
        0xef53 => FileSystem::Ext,
        0x5846_5342 => FileSystem::Xfs,
        0x9123_683e => FileSystem::Btrfs,
        0xf2f5_2010 => FileSystem::F2fs,
        // tmpfs and ramfs.
        0x0102_1994 | 0x8584_58f6 => FileSystem::Memory,
        0x794c_7630 => FileSystem::Overlay,
        0x1501_3346 => FileSystem::Udf,
        0x9fa0 => FileSystem::Proc,
        0xff53_4d42 | 0xfe53_4d42 => FileSystem::Smb,
        _ => FileSystem::Other,
    })
}
