//! Moving the bytes, the fastest way that the two ends allow.
//!
//! The rule: how many bytes there are is known at the end only. A size that a file tells beforehand is a hint (files of
//! /proc say 0), and every fast way may stop at any point and leave the rest to read and write, which also finds out
//! whose error it is.

use std::mem;
use std::os::fd::{AsFd, BorrowedFd};

use crate::sys::{self, Errno, FileSystem, Kind, Metadata};
use crate::watch::Watch;

/// What a pipe is asked to hold, and how much is read at once: with 64 KiB each, a writer and a reader that wait for one
/// another take half as long again.
pub(crate) const PIPE: usize = 1024 * 1024;
const CHUNK: usize = 512 * 1024;
/// How much is read the first time, when nobody knows yet how much will come.
const FIRST: usize = 4096;

/// How much is written before the disk is told to begin. The wait at the end, for the fsync, is what a user feels.
const WRITEBACK: u64 = 8 * 1024 * 1024;

/// At most so much in one call that a signal cannot interrupt.
const RANGE: u64 = 64 * 1024 * 1024;

/// From how much on space is reserved, and how much at once where nobody knows how much will come.
const AHEAD: u64 = 1024 * 1024;
const LEAST: u64 = 8 * 1024 * 1024;
const MOST: u64 = 64 * 1024 * 1024;

/// Whose error it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Broken {
    Reading(Errno),
    Writing(Errno),
    /// Reading the file that is there now.
    ReadingOld(Errno),
}

impl Broken {
    pub(crate) fn errno(self) -> Errno {
        match self {
            Self::Reading(errno) | Self::Writing(errno) | Self::ReadingOld(errno) => errno,
        }
    }

    /// What was read is the file that is there now.
    pub(crate) fn of_old(self) -> Self {
        match self {
            Self::Reading(errno) => Self::ReadingOld(errno),
            other => other,
        }
    }
}

/// Whether the disk begins to work while there still is input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Writeback {
    Early,
    Late,
}

/// Space asked for in advance: a full disk fails early, and ext4 writes to it in 0.8 of the time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reserve {
    /// Nobody knows yet whether there is enough to be worth the call.
    Undecided,
    /// Up to here, in bytes.
    Until(u64),
    /// Not on this filesystem: tmpfs would zero every page, btrfs would not compress.
    Not,
}

/// The new file being written, from the front to the back.
#[derive(Debug)]
pub(crate) struct Transfer<'f, 'o> {
    file: BorrowedFd<'f>,
    size: u64,
    started: u64,
    reserve: Reserve,
    writeback: Writeback,
    watch: Watch<'o>,
    buffer: Vec<u8>,
}

impl<'f, 'o> Transfer<'f, 'o> {
    /// Begins with an empty file.
    pub(crate) fn begin(file: BorrowedFd<'f>, writeback: Writeback, watch: Watch<'o>) -> Self {
        Self {
            file,
            size: 0,
            started: 0,
            reserve: Reserve::Undecided,
            writeback,
            watch,
            buffer: Vec::new(),
        }
    }

    /// Begins at the start of a file that is there: nothing is reserved, and nothing cut off at the end.
    pub(crate) fn over(file: BorrowedFd<'f>) -> Self {
        let transfer = Self::begin(file, Writeback::Late, Watch::default());
        Self {
            reserve: Reserve::Not,
            ..transfer
        }
    }

    /// Bytes written.
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// Appends all that is left of `from`, described by `what`.
    pub(crate) fn take(&mut self, from: BorrowedFd<'_>, what: &Metadata) -> Result<(), Broken> {
        self.clone_or_read(from, what).map(|_| ())
    }

    /// As that, of a descriptor that others share: they find it at its end.
    pub(crate) fn take_shared(
        &mut self,
        from: BorrowedFd<'_>,
        what: &Metadata,
    ) -> Result<(), Broken> {
        if self.clone_or_read(from, what)? {
            sys::seek(from, self.size).map_err(Broken::Reading)?;
        }
        Ok(())
    }

    /// Says whether it was cloned: all of it as it was at one moment, and `from` stands where it stood.
    fn clone_or_read(&mut self, from: BorrowedFd<'_>, what: &Metadata) -> Result<bool, Broken> {
        match what.kind {
            // A size of 0 means nothing: files of /proc and /sys say so, and have content. A small file is read and
            // written sooner than the kernel is asked what it could do; but a block that is shared need not be written
            // to the disk at all.
            Kind::Regular if what.size >= FIRST as u64 && self.take_file(from, what.size)? => {
                return Ok(true);
            }
            _ => {}
        }
        let mut pipe = what.kind == Kind::Fifo;
        loop {
            let taken = self.take_some(from)?;
            if taken == 0 {
                return Ok(false);
            }
            if taken >= FIRST && mem::take(&mut pipe) {
                sys::enlarge_pipe(from, PIPE);
                self.take_pipe(from)?;
            }
        }
    }

    /// Reads once and appends that; gives the number of bytes, 0 at the end.
    pub(crate) fn take_some(&mut self, from: BorrowedFd<'_>) -> Result<usize, Broken> {
        // Mostly there is little, and then a large buffer costs more than it saves.
        let most = if self.buffer.len() < FIRST {
            FIRST
        } else {
            CHUNK
        };
        self.buffer.clear();
        self.buffer.reserve_exact(most);
        sys::read(from, &mut self.buffer).map_err(Broken::Reading)?;
        self.reserve_ahead(self.buffer.len() as u64);
        sys::write_all(self.file, &self.buffer).map_err(Broken::Writing)?;
        self.watch
            .see(self.size, &self.buffer)
            .map_err(Broken::ReadingOld)?;
        self.grew_to(self.size + self.buffer.len() as u64);
        Ok(self.buffer.len())
    }

    /// Somebody else writes into the file, and it matters how far that has come.
    pub(crate) fn wants_glances(&self) -> bool {
        self.writeback == Writeback::Early || self.watch.is_shown()
    }

    /// Looks how far somebody else has come who writes into the file.
    pub(crate) fn glance(&mut self) -> Result<(), Broken> {
        let size = sys::metadata(self.file).map_err(Broken::Writing)?.size;
        self.grew_to(size);
        Ok(())
    }

    /// Reserves the place of data of which the size is known.
    fn reserve(&mut self, offset: u64, length: u64) -> Result<(), Errno> {
        if length < AHEAD || !self.may_reserve() {
            return Ok(());
        }
        sys::reserve(self.file, offset, length)?;
        self.reserve = Reserve::Until(offset + length);
        Ok(())
    }

    /// Reserves more than the `coming` bytes, as nobody knows how much follows. What is too much is given back.
    fn reserve_ahead(&mut self, coming: u64) {
        let until = match self.reserve {
            Reserve::Until(until) => until,
            Reserve::Undecided | Reserve::Not => 0,
        };
        if coming == 0 || self.size + coming <= until.max(AHEAD) || !self.may_reserve() {
            return;
        }
        // As much as there is already: others want space too.
        let more = self.size.clamp(LEAST, MOST);
        let wanted = Reserve::Until(self.size + more);
        self.reserve = match sys::reserve(self.file, self.size, more) {
            Ok(()) => wanted,
            // It may be that what comes just fits; but now all that was left is reserved, and nobody else finds any.
            Err(_) => match sys::set_size(self.file, self.size) {
                Ok(()) => Reserve::Not,
                Err(_) => wanted,
            },
        };
    }

    fn may_reserve(&mut self) -> bool {
        if self.reserve == Reserve::Undecided {
            self.reserve = match sys::filesystem(self.file) {
                Ok(FileSystem::Journaling) => Reserve::Until(0),
                _ => Reserve::Not,
            };
        }
        self.reserve != Reserve::Not
    }

    fn grew_to(&mut self, size: u64) {
        self.size = size;
        self.watch.passed(size);
        if self.writeback == Writeback::Early && size.saturating_sub(self.started) >= WRITEBACK {
            sys::start_writeback(self.file, self.started, size - self.started);
            self.started = size;
        }
    }

    /// All is written: gives back what watched, and the size in bytes.
    pub(crate) fn end(self) -> Result<(Watch<'o>, u64), Broken> {
        if matches!(self.reserve, Reserve::Until(until) if until > self.size) {
            sys::set_size(self.file, self.size).map_err(Broken::Writing)?;
        }
        Ok((self.watch, self.size))
    }

    /// Moves the pages of a pipe into a pipe of our own, and writes them from there while the first is filled again:
    /// what comes is copied once, not twice, and who writes it does not wait for the disk. Two thirds of the time of
    /// read and write. Leaves the rest to them where the pages cannot be moved, or have to be looked at.
    fn take_pipe(&mut self, from: BorrowedFd<'_>) -> Result<(), Broken> {
        if self.watch.looks() {
            return Ok(());
        }
        let Ok((reader, writer)) = sys::pipe() else {
            return Ok(());
        };
        let (reader, writer) = (reader.as_fd(), writer.as_fd());
        if !sys::enlarge_pipe(writer, PIPE) {
            return Ok(());
        }
        loop {
            let mut held = match sys::splice(from, writer, PIPE) {
                Ok(moved) if moved > 0 => moved,
                // Somebody made it non-blocking, and nothing is there: read waits.
                Err(Errno::AGAIN) if self.take_some(from)? > 0 => continue,
                _ => return Ok(()),
            };
            self.reserve_ahead(held as u64);
            while held > 0 {
                held -= match sys::splice(reader, self.file, held) {
                    Ok(0) | Err(_) => self.take_some(reader)?,
                    Ok(written) => {
                        self.grew_to(self.size + written as u64);
                        written
                    }
                };
            }
        }
    }

    /// Has the kernel copy what it can, from where `from` stands, and keeps the holes. Says whether it was cloned; if not,
    /// both files stand where the rest is to be read and written.
    fn take_file(&mut self, from: BorrowedFd<'_>, size: u64) -> Result<bool, Broken> {
        // A regular file that cannot seek is none that can be copied by ranges.
        let Ok(start) = sys::position(from) else {
            return Ok(false);
        };
        let span = Span {
            start,
            base: self.size,
        };
        if start == 0 && span.base == 0 && sys::clone_file(from, self.file).is_ok() {
            let size = sys::seek_end(self.file).map_err(Broken::Writing)?;
            self.grew_to(size);
            return Ok(true);
        }
        if size > FIRST as u64 {
            self.take_ranges(from, span)?;
            sys::seek(self.file, self.size).map_err(Broken::Writing)?;
            sys::seek(from, span.there(self.size)).map_err(Broken::Reading)?;
        }
        Ok(false)
    }

    /// Copies the data between the holes.
    fn take_ranges(&mut self, from: BorrowedFd<'_>, span: Span) -> Result<(), Broken> {
        let most = match self.writeback {
            Writeback::Early => WRITEBACK,
            Writeback::Late => RANGE,
        };
        loop {
            let (data, hole) = match sys::next_data(from, span.there(self.size)) {
                Ok(Some(range)) => range,
                Ok(None) => {
                    if self.take_last_hole(from, span)? {
                        return Ok(());
                    }
                    continue;
                }
                // EINVAL: the file cannot tell where its holes are.
                Err(_) => return Ok(()),
            };
            self.reserve(span.here(data), hole - data)
                .map_err(Broken::Writing)?;
            let mut at = data;
            while at < hole {
                let copied =
                    sys::copy_range(from, at, self.file, span.here(at), (hole - at).min(most))
                        // From one filesystem to another, or not at all: by hand, and the hole after it stays one.
                        .or_else(|_| self.carry(from, at, span.here(at), hole - at))?;
                if copied == 0 {
                    // The end, earlier than it was; or a file of which the kernel cannot copy.
                    return Ok(());
                }
                at += copied;
                self.grew_to(span.here(at));
            }
        }
    }

    /// Copies up to `length` bytes from one place to another; says how many, 0 at the end.
    fn carry(
        &mut self,
        from: BorrowedFd<'_>,
        read_at: u64,
        write_at: u64,
        length: u64,
    ) -> Result<u64, Broken> {
        self.buffer.reserve_exact(CHUNK);
        sys::read_at(from, read_at, &mut self.buffer).map_err(Broken::Reading)?;
        self.buffer
            .truncate(usize::try_from(length).unwrap_or(usize::MAX));
        sys::seek(self.file, write_at).map_err(Broken::Writing)?;
        sys::write_all(self.file, &self.buffer).map_err(Broken::Writing)?;
        Ok(self.buffer.len() as u64)
    }

    /// Makes the new file as long as the old one where that ends in a hole. False if it turned out to be none.
    ///
    /// A file that grows has no data where it ended a moment ago, and is longer now; only if there still is no data after
    /// the size was seen, that much of it is a hole.
    fn take_last_hole(&mut self, from: BorrowedFd<'_>, span: Span) -> Result<bool, Broken> {
        let size = sys::metadata(from).map_err(Broken::Reading)?.size;
        if matches!(sys::next_data(from, span.there(self.size)), Ok(Some(_))) {
            return Ok(false);
        }
        let end = span.here(size.max(span.start));
        if end > self.size {
            sys::set_size(self.file, end).map_err(Broken::Writing)?;
            self.grew_to(end);
        }
        Ok(true)
    }
}

/// Where one file's content begins in the other.
#[derive(Debug, Clone, Copy)]
struct Span {
    /// The first byte that is taken.
    start: u64,
    /// Its place in the new file.
    base: u64,
}

impl Span {
    /// A place in the new file, for one in the file that is read.
    fn here(self, there: u64) -> u64 {
        there - self.start + self.base
    }

    /// A place in the file that is read, for one in the new file.
    fn there(self, here: u64) -> u64 {
        here - self.base + self.start
    }
}
