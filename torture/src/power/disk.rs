//! A disk that remembers everything: one file in a FUSE filesystem, behind a loop device.
//!
//! The rule: what the block layer sends is in the log, in the order in which it came, before it is answered. A flush that
//! is in the log covers all writes before it. The kernel keeps nothing back: FUSE writes through here, and the loop
//! device makes an fsync of each flush and a hole of each discard.
//!
//! What it cannot see: two writes that are under way at once come one after the other, so a filesystem that sends a flush
//! without having waited for a write looks better here than it is.

use std::ffi::OsStr;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, UNIX_EPOCH};

use anyhow::{Context, Result};
use fuser::{
    BackgroundSession, FileAttr, FileType, Filesystem, MountOption, ReplyAttr, ReplyData,
    ReplyEmpty, ReplyEntry, ReplyWrite, Request,
};
use nix::mount::{MntFlags, umount2};

use super::sparse::Sparse;

/// What the disk was told.
#[derive(Debug)]
pub(crate) enum Entry {
    Write {
        offset: usize,
        data: Box<[u8]>,
    },
    /// A discard, or a request for zeros.
    Zero {
        offset: usize,
        length: usize,
    },
    Flush,
}

#[derive(Debug, Default)]
struct Memory {
    content: Sparse,
    log: Vec<Entry>,
}

impl Memory {
    fn write(&mut self, offset: usize, data: &[u8]) {
        self.content.write(offset, data);
        self.log.push(Entry::Write {
            offset,
            data: data.into(),
        });
    }

    fn zero(&mut self, offset: usize, length: usize) {
        self.content.zero(offset, length);
        self.log.push(Entry::Zero { offset, length });
    }
}

/// The log, while it is written.
#[derive(Debug, Clone, Default)]
pub(crate) struct Log(Arc<Mutex<Memory>>);

impl Log {
    /// How many entries there are. Whatever was sent before the call is among them.
    pub(crate) fn position(&self) -> usize {
        self.memory().log.len()
    }

    /// All entries; what comes later begins a new log.
    pub(crate) fn take(&self) -> Vec<Entry> {
        std::mem::take(&mut self.memory().log)
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        // A panic in another thread cannot leave half an entry.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The FUSE filesystem, as long as it is mounted.
#[derive(Debug)]
pub(crate) struct Disk {
    log: Log,
    on: PathBuf,
    file: File,
    _session: BackgroundSession,
}

impl Disk {
    /// Mounts it on an empty directory.
    pub(crate) fn mount(content: Sparse, on: &Path) -> Result<Self> {
        let log = Log(Arc::new(Mutex::new(Memory {
            content,
            log: Vec::new(),
        })));
        let options = [MountOption::FSName("torture".to_owned())];
        let server = Server { log: log.clone() };
        let session =
            fuser::spawn_mount2(server, on, &options).context("cannot mount a FUSE filesystem")?;
        let file = File::options()
            .read(true)
            .write(true)
            .open(on.join(NAME))
            .context("cannot open the file in the FUSE filesystem")?;
        Ok(Self {
            log,
            on: on.to_owned(),
            file,
            _session: session,
        })
    }

    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    pub(crate) fn log(&self) -> Log {
        self.log.clone()
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // The file is still open, by us and for a moment by children that another thread starts. If this fails, the
        // session tries it once more.
        let _ = umount2(&self.on, MntFlags::MNT_DETACH);
    }
}

const NAME: &str = "disk";
const ROOT: u64 = 1;
const FILE: u64 = 2;
const FOREVER: Duration = Duration::from_secs(86400);

struct Server {
    log: Log,
}

impl Server {
    fn attributes(&self, inode: u64) -> FileAttr {
        let (kind, perm, size) = match inode {
            FILE => (
                FileType::RegularFile,
                0o600,
                self.log.memory().content.size() as u64,
            ),
            _ => (FileType::Directory, 0o700, 0),
        };
        FileAttr {
            ino: inode,
            size,
            blocks: size / 512,
            atime: UNIX_EPOCH,
            mtime: UNIX_EPOCH,
            ctime: UNIX_EPOCH,
            crtime: UNIX_EPOCH,
            kind,
            perm,
            nlink: 1,
            uid: 0,
            gid: 0,
            rdev: 0,
            blksize: 4096,
            flags: 0,
        }
    }
}

impl Filesystem for Server {
    fn lookup(&mut self, _: &Request<'_>, parent: u64, name: &OsStr, reply: ReplyEntry) {
        if parent == ROOT && name == NAME {
            reply.entry(&FOREVER, &self.attributes(FILE), 0);
        } else {
            reply.error(libc::ENOENT);
        }
    }

    fn getattr(&mut self, _: &Request<'_>, inode: u64, _: Option<u64>, reply: ReplyAttr) {
        reply.attr(&FOREVER, &self.attributes(inode));
    }

    fn read(
        &mut self,
        _: &Request<'_>,
        _: u64,
        _: u64,
        offset: i64,
        size: u32,
        _: i32,
        _: Option<u64>,
        reply: ReplyData,
    ) {
        match usize::try_from(offset) {
            Ok(offset) => reply.data(&self.log.memory().content.read(offset, size as usize)),
            Err(_) => reply.error(libc::EINVAL),
        }
    }

    fn write(
        &mut self,
        _: &Request<'_>,
        _: u64,
        _: u64,
        offset: i64,
        data: &[u8],
        _: u32,
        _: i32,
        _: Option<u64>,
        reply: ReplyWrite,
    ) {
        let written = usize::try_from(offset).map(|offset| self.log.memory().write(offset, data));
        match (written, u32::try_from(data.len())) {
            (Ok(()), Ok(size)) => reply.written(size),
            _ => reply.error(libc::EINVAL),
        }
    }

    fn fsync(&mut self, _: &Request<'_>, _: u64, _: u64, _: bool, reply: ReplyEmpty) {
        self.log.memory().log.push(Entry::Flush);
        reply.ok();
    }

    fn fallocate(
        &mut self,
        _: &Request<'_>,
        _: u64,
        _: u64,
        offset: i64,
        length: i64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        if mode & (libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_ZERO_RANGE) == 0 {
            return reply.error(libc::EOPNOTSUPP);
        }
        match (usize::try_from(offset), usize::try_from(length)) {
            (Ok(offset), Ok(length)) => {
                self.log.memory().zero(offset, length);
                reply.ok();
            }
            _ => reply.error(libc::EINVAL),
        }
    }
}
