//! The files and directories of the filesystem in memory, and the failures that a test asks for.
//!
//! Invariant: what must be missing is missing from the first call on. What must fail fails only
//! while it is armed, so that a test can prepare and check a directory.

use std::collections::{BTreeMap, HashMap};
use std::ffi::{OsStr, OsString};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use fuser::{FileAttr, FileType, TimeOrNow};

use super::log::{Entry, Log};
use super::sparse::Sparse;

/// What the filesystem cannot do, each with the error that it gives then.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Missing {
    /// RENAME_NOREPLACE and RENAME_EXCHANGE.
    pub(crate) rename_flags: Option<i32>,
    pub(crate) attributes: Option<i32>,
    pub(crate) links: Option<i32>,
    pub(crate) fallocate: Option<i32>,
    pub(crate) locks: Option<i32>,
}

/// What breaks while it is armed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Break {
    Nothing,
    /// The close of a file that was written to.
    Close(i32),
    /// The same, and what was written is gone; the error is reported once.
    CloseAndLose(i32),
    Sync(i32),
    SyncDirectory(i32),
    Rename(i32),
    /// It is done, and the answer says that it is not.
    RenameDone(i32),
    /// The same, while the kernel answers from its cache of names.
    RenameDoneAndCached(i32),
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
    pub(super) content: Sparse,
    /// Whether it was changed while armed: until it is kept, that may be lost.
    is_dirty: bool,
    pub(super) names: BTreeMap<OsString, u64>,
    pub(super) target: OsString,
    pub(super) attributes: BTreeMap<OsString, Vec<u8>>,
}

/// How long the kernel may cache names for [`Break::RenameDoneAndCached`]. It caches none
/// otherwise, so that it sees a rename that was done and reported as failed.
pub(crate) const CACHED: Duration = Duration::from_millis(300);
const TOP: u64 = 1;

#[derive(Debug)]
pub(crate) struct Memory {
    pub(super) missing: Missing,
    breaks: Break,
    armed: Arc<AtomicBool>,
    renames: usize,
    nodes: HashMap<u64, Node>,
    next: u64,
    log: Option<Log>,
}

impl Memory {
    /// How long the kernel may cache a name.
    pub(super) fn cached(&self) -> Duration {
        match self.breaks {
            Break::RenameDoneAndCached(_) => CACHED,
            _ => Duration::ZERO,
        }
    }

    pub(crate) fn new(missing: Missing, breaks: Break, armed: Arc<AtomicBool>) -> Self {
        let mut memory = Self {
            missing,
            breaks,
            armed,
            renames: 0,
            nodes: HashMap::new(),
            next: TOP,
            log: None,
        };
        let top = memory.node(FileType::Directory, 0o755, (0, 0));
        debug_assert_eq!(top, TOP, "the top has the first number");
        memory
    }

    /// With one file, and a log of what is done to it.
    pub(crate) fn with_log(name: &str, content: Sparse, log: Log) -> Self {
        // Where there are attributes, the kernel asks for one before each write.
        let missing = Missing {
            attributes: Some(libc::ENOSYS),
            ..Missing::default()
        };
        let mut memory = Self::new(missing, Break::Nothing, Arc::default());
        let file = memory.node(FileType::RegularFile, 0o600, (0, 0));
        memory.nodes.entry(TOP).and_modify(|top| {
            top.names.insert(name.into(), file);
        });
        memory
            .nodes
            .entry(file)
            .and_modify(|node| node.content = content);
        memory.log = Some(log);
        memory
    }

    /// Returns what breaks now.
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
            content: Sparse::default(),
            is_dirty: false,
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
            Break::RenameDone(errno) | Break::RenameDoneAndCached(errno) => Err(errno),
            _ => Ok(()),
        }
    }

    pub(super) fn read(&self, number: u64, offset: i64, size: u32) -> Answer<Vec<u8>> {
        Ok(self
            .get(number)?
            .content
            .read(place(offset)?, size as usize))
    }

    pub(super) fn write(&mut self, number: u64, offset: i64, data: &[u8]) -> Answer<u32> {
        let offset = place(offset)?;
        let end = offset + data.len();
        if let Break::WriteBeyond(most, errno) = self.breaks() {
            if end as u64 > most {
                return Err(errno);
            }
        }
        let content = self.changing(number)?;
        content.resize(content.size().max(end));
        content.write(offset, data);
        self.record(|| Entry::Write {
            offset,
            data: data.into(),
        });
        u32::try_from(data.len()).map_err(|_| libc::EINVAL)
    }

    pub(super) fn resize(&mut self, number: u64, size: u64) -> Answer<()> {
        let size = usize::try_from(size).map_err(|_| libc::EFBIG)?;
        self.changing(number)?.resize(size);
        Ok(())
    }

    pub(super) fn allocate(
        &mut self,
        number: u64,
        offset: i64,
        length: i64,
        mode: i32,
    ) -> Answer<()> {
        if let Some(errno) = self.missing.fallocate {
            return Err(errno);
        }
        let (offset, length) = (place(offset)?, place(length)?);
        match mode {
            libc::FALLOC_FL_KEEP_SIZE => {}
            0 => {
                let content = self.changing(number)?;
                content.resize(content.size().max(offset + length));
            }
            mode if mode & (libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_ZERO_RANGE) != 0 => {
                self.changing(number)?.zero(offset, length);
                self.record(|| Entry::Zero { offset, length });
            }
            _ => return Err(libc::EOPNOTSUPP),
        }
        Ok(())
    }

    /// Returns the content, which is about to change.
    fn changing(&mut self, number: u64) -> Answer<&mut Sparse> {
        let armed = self.armed.load(Ordering::SeqCst);
        let node = self.get_mut(number)?;
        node.is_dirty |= armed;
        node.modified = SystemTime::now();
        Ok(&mut node.content)
    }

    fn record(&self, entry: impl FnOnce() -> Entry) {
        if let Some(log) = &self.log {
            log.add(entry());
        }
    }

    /// Does what close(2) asks for, of any descriptor.
    pub(super) fn flush(&mut self, number: u64) -> Answer<()> {
        let breaks = self.breaks();
        let node = self.get_mut(number)?;
        match (breaks, node.is_dirty) {
            (Break::Close(errno), true) => Err(errno),
            (Break::CloseAndLose(errno), true) => {
                // That much was written before the server had no space left.
                node.content.resize(node.content.size() / 2);
                node.is_dirty = false;
                Err(errno)
            }
            _ => Ok(()),
        }
    }

    pub(super) fn knows_attributes(&self) -> Answer<()> {
        self.missing.attributes.map_or(Ok(()), Err)
    }

    pub(super) fn sync(&mut self) -> Answer<()> {
        if let Break::Sync(errno) = self.breaks() {
            return Err(errno);
        }
        self.record(|| Entry::Flush);
        Ok(())
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
        let size = node.content.size() as u64;
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

fn place(at: i64) -> Answer<usize> {
    usize::try_from(at).map_err(|_| libc::EINVAL)
}
