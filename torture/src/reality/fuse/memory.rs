//! A filesystem in memory that we serve ourselves, and that fails as it is told.
//!
//! The rule: what is told to be missing is missing from the first call on; what is told to break does so only while it is
//! armed, so that a directory can be laid out and looked at. There are no files without a name: the server's library has
//! no such call, and many servers have none.

use std::collections::{BTreeMap, HashMap};
use std::ffi::{OsStr, OsString};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use fuser::{FileAttr, FileType, TimeOrNow};

/// What the filesystem cannot do, each with the error that it gives then.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Missing {
    /// RENAME_NOREPLACE and RENAME_EXCHANGE.
    pub(super) rename_flags: Option<i32>,
    pub(super) attributes: Option<i32>,
    pub(super) links: Option<i32>,
    pub(super) fallocate: Option<i32>,
    pub(super) locks: Option<i32>,
}

/// What breaks while it is armed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Break {
    Nothing,
    /// The close of a file that was written to.
    Close(i32),
    /// The same, and what was written is gone; that is told once.
    CloseAndLose(i32),
    Sync(i32),
    SyncDirectory(i32),
    Rename(i32),
    /// It is done, and the answer says that it is not.
    RenameDone(i32),
    /// The second rename of a run.
    SecondRename(i32),
    LinkDone(i32),
    Remove(i32),
    /// Every write that goes beyond this size.
    WriteBeyond(u64, i32),
}

pub(super) type Answer<T> = Result<T, i32>;

#[derive(Debug)]
pub(super) struct Node {
    pub(super) kind: FileType,
    pub(super) mode: u16,
    pub(super) owner: (u32, u32),
    pub(super) modified: SystemTime,
    changed: SystemTime,
    links: u32,
    pub(super) content: Vec<u8>,
    /// What it was when it was last closed or synced well.
    kept: Option<Vec<u8>>,
    pub(super) names: BTreeMap<OsString, u64>,
    pub(super) target: OsString,
    pub(super) attributes: BTreeMap<OsString, Vec<u8>>,
}

/// Names do not stay known: a rename that was done and not told of must be seen.
pub(super) const FOR_NOW: Duration = Duration::ZERO;
pub(super) const TOP: u64 = 1;

#[derive(Debug)]
pub(super) struct Memory {
    pub(super) missing: Missing,
    breaks: Break,
    armed: Arc<AtomicBool>,
    renames: usize,
    nodes: HashMap<u64, Node>,
    next: u64,
}

impl Memory {
    pub(super) fn new(missing: Missing, breaks: Break, armed: Arc<AtomicBool>) -> Self {
        let mut memory = Self {
            missing,
            breaks,
            armed,
            renames: 0,
            nodes: HashMap::new(),
            next: TOP,
        };
        let top = memory.node(FileType::Directory, 0o755, (0, 0));
        debug_assert_eq!(top, TOP, "the first number is that of the top");
        memory
    }

    /// What breaks now.
    pub(super) fn breaks(&mut self) -> Break {
        if self.armed.load(Ordering::SeqCst) {
            return self.breaks;
        }
        self.renames = 0;
        Break::Nothing
    }

    fn node(&mut self, kind: FileType, mode: u16, owner: (u32, u32)) -> u64 {
        let (number, now) = (self.next, SystemTime::now());
        self.next += 1;
        let node = Node {
            kind,
            mode,
            owner,
            modified: now,
            changed: now,
            links: if kind == FileType::Directory { 2 } else { 1 },
            content: Vec::new(),
            kept: None,
            names: BTreeMap::new(),
            target: OsString::new(),
            attributes: BTreeMap::new(),
        };
        self.nodes.insert(number, node);
        number
    }

    pub(super) fn get(&self, number: u64) -> Answer<&Node> {
        self.nodes.get(&number).ok_or(libc::ESTALE)
    }

    pub(super) fn get_mut(&mut self, number: u64) -> Answer<&mut Node> {
        self.nodes.get_mut(&number).ok_or(libc::ESTALE)
    }

    pub(super) fn find(&self, directory: u64, name: &OsStr) -> Answer<u64> {
        self.get(directory)?
            .names
            .get(name)
            .copied()
            .ok_or(libc::ENOENT)
    }

    pub(super) fn make(
        &mut self,
        directory: u64,
        name: &OsStr,
        kind: FileType,
        mode: u32,
        owner: (u32, u32),
    ) -> Answer<FileAttr> {
        if self.find(directory, name).is_ok() {
            return Err(libc::EEXIST);
        }
        let mode = u16::try_from(mode & 0o7777).map_err(|_| libc::EINVAL)?;
        let number = self.node(kind, mode, owner);
        self.enter(directory, name, number)?;
        self.attr(number)
    }

    fn enter(&mut self, directory: u64, name: &OsStr, number: u64) -> Answer<()> {
        let directory = self.get_mut(directory)?;
        directory.names.insert(name.to_owned(), number);
        directory.modified = SystemTime::now();
        Ok(())
    }

    /// The node stays, for those who have it open: no test makes so many that it matters.
    fn leave(&mut self, number: u64) {
        if let Some(node) = self.nodes.get_mut(&number) {
            node.links = node.links.saturating_sub(1);
        }
    }

    pub(super) fn remove(&mut self, directory: u64, name: &OsStr) -> Answer<()> {
        if let Break::Remove(errno) = self.breaks() {
            return Err(errno);
        }
        let number = self.find(directory, name)?;
        if !self.get(number)?.names.is_empty() {
            return Err(libc::ENOTEMPTY);
        }
        self.get_mut(directory)?.names.remove(name);
        self.leave(number);
        Ok(())
    }

    pub(super) fn link(&mut self, number: u64, directory: u64, name: &OsStr) -> Answer<FileAttr> {
        if let Some(errno) = self.missing.links {
            return Err(errno);
        }
        if self.find(directory, name).is_ok() {
            return Err(libc::EEXIST);
        }
        self.enter(directory, name, number)?;
        self.get_mut(number)?.links += 1;
        if let Break::LinkDone(errno) = self.breaks() {
            return Err(errno);
        }
        self.attr(number)
    }

    pub(super) fn rename(
        &mut self,
        from: (u64, &OsStr),
        to: (u64, &OsStr),
        flags: u32,
    ) -> Answer<()> {
        if let (1.., Some(errno)) = (flags, self.missing.rename_flags) {
            return Err(errno);
        }
        let breaks = self.breaks();
        self.renames += 1;
        match breaks {
            Break::Rename(errno) => return Err(errno),
            Break::SecondRename(errno) if self.renames == 2 => return Err(errno),
            _ => {}
        }
        let (moved, met) = (self.find(from.0, from.1)?, self.find(to.0, to.1).ok());
        match (flags, met) {
            (libc::RENAME_EXCHANGE, Some(met)) => {
                self.enter(from.0, from.1, met)?;
                self.enter(to.0, to.1, moved)?;
            }
            (libc::RENAME_EXCHANGE, None) => return Err(libc::ENOENT),
            (libc::RENAME_NOREPLACE, Some(_)) => return Err(libc::EEXIST),
            // Two names of one file (rename(2)).
            (_, Some(met)) if met == moved => {}
            (_, met) => {
                self.get_mut(from.0)?.names.remove(from.1);
                self.enter(to.0, to.1, moved)?;
                if let Some(met) = met {
                    self.leave(met);
                }
            }
        }
        match breaks {
            Break::RenameDone(errno) => Err(errno),
            _ => Ok(()),
        }
    }

    pub(super) fn write(&mut self, number: u64, offset: i64, data: &[u8]) -> Answer<u32> {
        let start = usize::try_from(offset).map_err(|_| libc::EINVAL)?;
        let end = start + data.len();
        if let Break::WriteBeyond(most, errno) = self.breaks() {
            if end as u64 > most {
                return Err(errno);
            }
        }
        self.touch(number)?;
        let content = &mut self.get_mut(number)?.content;
        if content.len() < start {
            content.resize(start, 0);
        }
        let within = data.len().min(content.len() - start);
        content[start..start + within].copy_from_slice(&data[..within]);
        content.extend_from_slice(&data[within..]);
        u32::try_from(data.len()).map_err(|_| libc::EINVAL)
    }

    pub(super) fn resize(&mut self, number: u64, size: u64) -> Answer<()> {
        let size = usize::try_from(size).map_err(|_| libc::EFBIG)?;
        self.touch(number)?;
        self.get_mut(number)?.content.resize(size, 0);
        Ok(())
    }

    /// The content is about to change: until it is kept, it may be lost.
    fn touch(&mut self, number: u64) -> Answer<()> {
        let armed = self.armed.load(Ordering::SeqCst);
        let node = self.get_mut(number)?;
        if armed && node.kept.is_none() {
            node.kept = Some(node.content.clone());
        }
        node.modified = SystemTime::now();
        Ok(())
    }

    /// What close(2) asks for, of whatever descriptor.
    pub(super) fn flush(&mut self, number: u64) -> Answer<()> {
        let breaks = self.breaks();
        let node = self.get_mut(number)?;
        match (breaks, node.kept.is_some()) {
            (Break::Close(errno), true) => Err(errno),
            (Break::CloseAndLose(errno), true) => {
                // That much was written before the server had no more room.
                let half = node.content.len() / 2;
                node.content.truncate(half);
                node.kept = None;
                Err(errno)
            }
            _ => Ok(()),
        }
    }

    pub(super) fn knows_attributes(&self) -> Answer<()> {
        self.missing.attributes.map_or(Ok(()), Err)
    }

    pub(super) fn sync(&mut self) -> Answer<()> {
        match self.breaks() {
            Break::Sync(errno) => Err(errno),
            _ => Ok(()),
        }
    }

    pub(super) fn sync_directory(&mut self) -> Answer<()> {
        match self.breaks() {
            Break::SyncDirectory(errno) => Err(errno),
            _ => Ok(()),
        }
    }

    pub(super) fn set_modified(&mut self, number: u64, time: TimeOrNow) -> Answer<()> {
        self.get_mut(number)?.modified = match time {
            TimeOrNow::Now => SystemTime::now(),
            TimeOrNow::SpecificTime(time) => time,
        };
        Ok(())
    }

    pub(super) fn attr(&self, number: u64) -> Answer<FileAttr> {
        let node = self.get(number)?;
        let size = node.content.len() as u64;
        Ok(FileAttr {
            ino: number,
            size,
            blocks: size.div_ceil(512),
            atime: node.modified,
            mtime: node.modified,
            ctime: node.changed,
            crtime: node.changed,
            kind: node.kind,
            perm: node.mode,
            nlink: node.links,
            uid: node.owner.0,
            gid: node.owner.1,
            rdev: 0,
            blksize: 4096,
            flags: 0,
        })
    }
}
