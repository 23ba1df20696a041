//! The calls of the kernel, as the library passes them on. For all other calls the kernel has a
//! fallback or reports an error.

use std::ffi::OsStr;
use std::path::Path;
use std::time::{Duration, SystemTime};

use fuser::consts::{FUSE_FLOCK_LOCKS, FUSE_POSIX_LOCKS};
use fuser::{
    FileAttr, FileType, Filesystem, KernelConfig, ReplyAttr, ReplyCreate, ReplyData,
    ReplyDirectory, ReplyEmpty, ReplyEntry, ReplyWrite, ReplyXattr, Request, TimeOrNow,
};

use super::memory::{Answer, Memory};

fn empty(answer: Answer<()>, reply: ReplyEmpty) {
    match answer {
        Ok(()) => reply.ok(),
        Err(errno) => reply.error(errno),
    }
}

/// Replies with a file, whose name the kernel may cache for that long.
fn entry(answer: Answer<FileAttr>, cached: Duration, reply: ReplyEntry) {
    match answer {
        Ok(attr) => reply.entry(&cached, &attr, 0),
        Err(errno) => reply.error(errno),
    }
}

fn attr(answer: Answer<FileAttr>, reply: ReplyAttr) {
    match answer {
        Ok(attr) => reply.attr(&Duration::ZERO, &attr),
        Err(errno) => reply.error(errno),
    }
}

/// Replies with an attribute, or with its size alone if the caller's buffer has size 0.
fn attribute(answer: Answer<Vec<u8>>, capacity: u32, reply: ReplyXattr) {
    match answer.and_then(|value| Ok((u32::try_from(value.len()).map_err(|_| libc::E2BIG)?, value)))
    {
        Ok((size, _)) if capacity == 0 => reply.size(size),
        Ok((size, value)) if size <= capacity => reply.data(&value),
        Ok(_) => reply.error(libc::ERANGE),
        Err(errno) => reply.error(errno),
    }
}

fn owner(request: &Request<'_>) -> (u32, u32) {
    (request.uid(), request.gid())
}

impl Filesystem for Memory {
    fn init(&mut self, _: &Request<'_>, config: &mut KernelConfig) -> Result<(), i32> {
        // Without it, the kernel keeps the locks itself.
        let both = FUSE_FLOCK_LOCKS | FUSE_POSIX_LOCKS;
        let locks = self.missing.locks.map_or(0, |_| both);
        config.add_capabilities(locks).map_err(|_| libc::EPROTO)
    }

    fn lookup(&mut self, _: &Request<'_>, parent: u64, name: &OsStr, reply: ReplyEntry) {
        entry(
            self.find(parent, name).and_then(|number| self.attr(number)),
            self.cached(),
            reply,
        );
    }

    fn getattr(&mut self, _: &Request<'_>, number: u64, _: Option<u64>, reply: ReplyAttr) {
        attr(self.attr(number), reply);
    }

    fn setattr(
        &mut self,
        _: &Request<'_>,
        number: u64,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        _: Option<TimeOrNow>,
        modified: Option<TimeOrNow>,
        _: Option<SystemTime>,
        _: Option<u64>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<u32>,
        reply: ReplyAttr,
    ) {
        let mut set = || -> Answer<FileAttr> {
            let node = self.get_mut(number)?;
            if let Some(mode) = mode {
                node.mode = u16::try_from(mode & 0o7777).map_err(|_| libc::EINVAL)?;
            }
            node.owner = (uid.unwrap_or(node.owner.0), gid.unwrap_or(node.owner.1));
            if let Some(size) = size {
                self.resize(number, size)?;
            }
            if let Some(modified) = modified {
                self.set_modified(number, modified)?;
            }
            self.attr(number)
        };
        attr(set(), reply);
    }

    fn readlink(&mut self, _: &Request<'_>, number: u64, reply: ReplyData) {
        match self.get(number) {
            Ok(node) => reply.data(node.target.as_encoded_bytes()),
            Err(errno) => reply.error(errno),
        }
    }

    fn mkdir(
        &mut self,
        request: &Request<'_>,
        parent: u64,
        name: &OsStr,
        mode: u32,
        umask: u32,
        reply: ReplyEntry,
    ) {
        let kind = FileType::Directory;
        entry(
            self.make(parent, name, kind, mode & !umask, owner(request)),
            self.cached(),
            reply,
        );
    }

    fn symlink(
        &mut self,
        request: &Request<'_>,
        parent: u64,
        name: &OsStr,
        target: &Path,
        reply: ReplyEntry,
    ) {
        let mut made = || {
            let made = self.make(parent, name, FileType::Symlink, 0o777, owner(request))?;
            target
                .as_os_str()
                .clone_into(&mut self.get_mut(made.ino)?.target);
            Ok(made)
        };
        let made = made();
        entry(made, self.cached(), reply);
    }

    fn create(
        &mut self,
        request: &Request<'_>,
        parent: u64,
        name: &OsStr,
        mode: u32,
        umask: u32,
        _: i32,
        reply: ReplyCreate,
    ) {
        match self.make(
            parent,
            name,
            FileType::RegularFile,
            mode & !umask,
            owner(request),
        ) {
            Ok(attr) => reply.created(&self.cached(), &attr, 0, 0, 0),
            Err(errno) => reply.error(errno),
        }
    }

    fn unlink(&mut self, _: &Request<'_>, parent: u64, name: &OsStr, reply: ReplyEmpty) {
        empty(self.remove(parent, name), reply);
    }

    fn rmdir(&mut self, _: &Request<'_>, parent: u64, name: &OsStr, reply: ReplyEmpty) {
        empty(self.remove(parent, name), reply);
    }

    fn rename(
        &mut self,
        _: &Request<'_>,
        parent: u64,
        name: &OsStr,
        newparent: u64,
        newname: &OsStr,
        flags: u32,
        reply: ReplyEmpty,
    ) {
        empty(
            Memory::rename(self, (parent, name), (newparent, newname), flags),
            reply,
        );
    }

    fn link(
        &mut self,
        _: &Request<'_>,
        number: u64,
        newparent: u64,
        newname: &OsStr,
        reply: ReplyEntry,
    ) {
        let linked = Memory::link(self, number, newparent, newname);
        entry(linked, self.cached(), reply);
    }

    fn read(
        &mut self,
        _: &Request<'_>,
        number: u64,
        _: u64,
        offset: i64,
        size: u32,
        _: i32,
        _: Option<u64>,
        reply: ReplyData,
    ) {
        match Memory::read(self, number, offset, size) {
            Ok(content) => reply.data(&content),
            Err(errno) => reply.error(errno),
        }
    }

    fn write(
        &mut self,
        _: &Request<'_>,
        number: u64,
        _: u64,
        offset: i64,
        data: &[u8],
        _: u32,
        _: i32,
        _: Option<u64>,
        reply: ReplyWrite,
    ) {
        match Memory::write(self, number, offset, data) {
            Ok(written) => reply.written(written),
            Err(errno) => reply.error(errno),
        }
    }

    fn flush(&mut self, _: &Request<'_>, number: u64, _: u64, _: u64, reply: ReplyEmpty) {
        empty(Memory::flush(self, number), reply);
    }

    fn fsync(&mut self, _: &Request<'_>, _: u64, _: u64, _: bool, reply: ReplyEmpty) {
        empty(self.sync(), reply);
    }

    fn fsyncdir(&mut self, _: &Request<'_>, _: u64, _: u64, _: bool, reply: ReplyEmpty) {
        empty(self.sync_directory(), reply);
    }

    fn readdir(
        &mut self,
        _: &Request<'_>,
        number: u64,
        _: u64,
        offset: i64,
        mut reply: ReplyDirectory,
    ) {
        let node = match self.get(number) {
            Ok(node) => node,
            Err(errno) => return reply.error(errno),
        };
        let from = usize::try_from(offset).unwrap_or(usize::MAX);
        for (at, (name, number)) in node.names.iter().enumerate().skip(from) {
            let kind = self
                .get(*number)
                .map_or(FileType::RegularFile, |node| node.kind);
            let next = i64::try_from(at + 1).unwrap_or(i64::MAX);
            if reply.add(*number, next, kind, name) {
                break;
            }
        }
        reply.ok();
    }

    fn setxattr(
        &mut self,
        _: &Request<'_>,
        number: u64,
        name: &OsStr,
        value: &[u8],
        _: i32,
        _: u32,
        reply: ReplyEmpty,
    ) {
        let set = self.knows_attributes().and_then(|()| {
            self.get_mut(number)?
                .attributes
                .insert(name.to_owned(), value.to_owned());
            Ok(())
        });
        empty(set, reply);
    }

    fn getxattr(
        &mut self,
        _: &Request<'_>,
        number: u64,
        name: &OsStr,
        size: u32,
        reply: ReplyXattr,
    ) {
        let value = self.knows_attributes().and_then(|()| {
            self.get(number)?
                .attributes
                .get(name)
                .cloned()
                .ok_or(libc::ENODATA)
        });
        attribute(value, size, reply);
    }

    fn listxattr(&mut self, _: &Request<'_>, number: u64, size: u32, reply: ReplyXattr) {
        let names = self.knows_attributes().and_then(|()| {
            let names = self.get(number)?.attributes.keys();
            Ok(names
                .flat_map(|name| [name.as_encoded_bytes(), b"\0"].concat())
                .collect())
        });
        attribute(names, size, reply);
    }

    fn setlk(
        &mut self,
        _: &Request<'_>,
        _: u64,
        _: u64,
        _: u64,
        _: u64,
        _: u64,
        _: i32,
        _: u32,
        _: bool,
        reply: ReplyEmpty,
    ) {
        reply.error(self.missing.locks.unwrap_or(libc::ENOSYS));
    }

    fn fallocate(
        &mut self,
        _: &Request<'_>,
        number: u64,
        _: u64,
        offset: i64,
        length: i64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        empty(self.allocate(number, offset, length, mode), reply);
    }
}
