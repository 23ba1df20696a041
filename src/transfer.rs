//! Copying the bytes, the fastest way that both ends allow.
//!
//! Invariant: the number of bytes is known only at the end of the input. A size that a file reports beforehand is a hint
//! (files of /proc report 0), and every fast path may stop at any point and leave the rest to read and write, which also
//! find out on which side an error was. Waiting is left to `signals`.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use crate::copy_error::CopyError;
use crate::inspector::ContentInspector;
use crate::signals;
use crate::sys::{self, Errno, Event, FileSystem, Kind, Metadata, Waiting};

/// What a pipe is asked to hold, and how much is read at once: with 64 KiB each, a writer and a reader that wait for one
/// another take half as long again.
pub(crate) const PIPE_SIZE: usize = 1024 * 1024;
const CHUNK: usize = 512 * 1024;
/// How much is read the first time, when nobody knows yet how much will come.
const FIRST_READ: usize = 4096;

/// How much is written before the disk is told to begin. The wait at the end, for the fsync, is what a user feels.
const WRITEBACK: u64 = 8 * 1024 * 1024;

/// At most so much in one call, which a signal cannot interrupt.
const MAX_COPY_RANGE: u64 = 8 * 1024 * 1024;

/// From how many bytes on they are preallocated, and how many at once where the size of the input is not known.
const PREALLOC_THRESHOLD: u64 = 1024 * 1024;
const PREALLOC_MIN: u64 = 8 * 1024 * 1024;
const PREALLOC_MAX: u64 = 64 * 1024 * 1024;

/// How to read from a descriptor without waiting in the read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ReadMethod {
    /// read(2): the descriptor never waits, is non-blocking, or may wait because the run is not guarded.
    Read,
    /// As `Read`, once something is there: a FIFO without a writer yet, a device.
    WaitAndRead,
    /// A pipe that other processes share and that cannot be opened anew: splice(2) into a pipe of our own; where that is
    /// not possible, as `WaitAndRead`.
    Splice,
    /// A socket that other processes share: recv(2).
    Receive,
}

/// What was there to be copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Available {
    Some,
    /// Nothing yet: a non-blocking descriptor must be waited for.
    Nothing,
    End,
}

/// A descriptor to read from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reader<'f> {
    pub(crate) file: BorrowedFd<'f>,
    pub(crate) metadata: Metadata,
    pub(crate) method: ReadMethod,
}

/// Whether the disk begins to work while there still is input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Writeback {
    Early,
    Late,
}

/// Preallocated space: a full disk fails early, and ext4 writes to it in 0.8 of the time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Prealloc {
    /// It is not known yet whether there are enough bytes to be worth the call.
    Undecided,
    /// Up to this offset, in bytes.
    Until(u64),
    /// Not on this filesystem.
    Not,
}

/// The new file being written, from the front to the back.
#[derive(Debug)]
pub(crate) struct Transfer<'f, 'o> {
    file: BorrowedFd<'f>,
    size: u64,
    started: u64,
    prealloc: Prealloc,
    writeback: Writeback,
    inspector: ContentInspector<'o>,
    /// Nothing is stored, and the first difference from the old content is the end.
    compares_only: bool,
    buffer: Vec<u8>,
    /// Of our own, for what comes from a pipe.
    pipe: Option<(OwnedFd, OwnedFd)>,
}

impl<'f, 'o> Transfer<'f, 'o> {
    /// Begins with an empty file.
    pub(crate) fn begin(
        file: BorrowedFd<'f>,
        writeback: Writeback,
        inspector: ContentInspector<'o>,
    ) -> Self {
        Self {
            file,
            size: 0,
            started: 0,
            prealloc: Prealloc::Undecided,
            writeback,
            inspector,
            compares_only: false,
            buffer: Vec::new(),
            pipe: None,
        }
    }

    /// Begins at the start of an existing file: nothing is preallocated, and nothing is cut off at the end.
    pub(crate) fn over(file: BorrowedFd<'f>) -> Self {
        let transfer = Self::begin(file, Writeback::Late, ContentInspector::default());
        Self {
            prealloc: Prealloc::Not,
            ..transfer
        }
    }

    /// Compares with the old content that the inspector has, and leaves `file` alone.
    pub(crate) fn compare(file: BorrowedFd<'f>, inspector: ContentInspector<'o>) -> Self {
        let transfer = Self::begin(file, Writeback::Late, inspector);
        Self {
            prealloc: Prealloc::Not,
            compares_only: true,
            ..transfer
        }
    }

    /// Bytes written.
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// Appends all that is left of `from`.
    pub(crate) fn copy_from(&mut self, from: &Reader<'_>) -> Result<(), CopyError> {
        self.clone_or_read(from).map(|_| ())
    }

    /// The same from a descriptor that other processes share: it is left at its end.
    pub(crate) fn copy_from_shared(&mut self, from: &Reader<'_>) -> Result<(), CopyError> {
        if self.clone_or_read(from)? {
            sys::seek(from.file, self.size).map_err(CopyError::Reading)?;
        }
        Ok(())
    }

    /// Returns true if the file was cloned: then it has all of `from` as it was at one moment, and the offset of `from` has
    /// not moved.
    fn clone_or_read(&mut self, from: &Reader<'_>) -> Result<bool, CopyError> {
        let (file, size) = (from.file, from.metadata.size);
        // A size of 0 means nothing: files of /proc and /sys report it, and have content. A small file is read and written
        // sooner than the kernel is asked what it can do; but a block that is shared need not be written at all.
        if from.metadata.kind == Kind::Regular
            && size >= FIRST_READ as u64
            && !self.compares_only
            && self.copy_file(file, size)?
        {
            return Ok(true);
        }
        loop {
            match self.copy_available(from)? {
                Available::Some => {}
                Available::Nothing => drop(signals::wait_for(file, Event::Readable)?),
                Available::End => return Ok(false),
            }
        }
    }

    /// Appends what is there now, some of it at least. Waits only if a read of `from` does.
    pub(crate) fn copy_available(&mut self, from: &Reader<'_>) -> Result<Available, CopyError> {
        signals::check()?;
        // Mostly there is little, and a pipe of our own costs more than it saves.
        let is_worth_it = from.metadata.kind == Kind::Fifo
            && self.size >= FIRST_READ as u64
            && !self.inspector.needs_bytes();
        if is_worth_it || from.method == ReadMethod::Splice {
            if let Some(available) = self.splice_available(from)? {
                return Ok(available);
            }
        }
        self.read_available(from)
    }

    /// Reads once and appends that, and lets no signal come in between.
    pub(crate) fn read_available(&mut self, from: &Reader<'_>) -> Result<Available, CopyError> {
        // Mostly there is little, and then a large buffer costs more than it saves.
        let size = if self.buffer.len() < FIRST_READ {
            FIRST_READ
        } else {
            CHUNK
        };
        self.buffer.clear();
        self.buffer.reserve_exact(size);
        if matches!(from.method, ReadMethod::WaitAndRead | ReadMethod::Splice) {
            signals::wait_for(from.file, Event::Readable)?;
        }
        let read = match from.method {
            ReadMethod::Receive => sys::receive(from.file, &mut self.buffer),
            _ => sys::read(from.file, &mut self.buffer),
        };
        match read {
            Err(Errno::AGAIN) => return Ok(Available::Nothing),
            Err(Errno::IO) if has_hung_up(from)? => return Err(CopyError::HungUp),
            read => read.map_err(CopyError::Reading)?,
        }
        if !self.buffer.is_empty() {
            return self.append_buffer().map(|_| Available::Some);
        }
        if has_hung_up(from)? {
            return Err(CopyError::HungUp);
        }
        Ok(Available::End)
    }

    /// Appends what is in the buffer; returns the number of bytes.
    fn append_buffer(&mut self) -> Result<usize, CopyError> {
        let length = self.buffer.len();
        if !self.compares_only {
            self.preallocate_ahead(length as u64);
            write_all(self.file, &self.buffer)?;
        }
        self.inspector.update(self.size, &self.buffer);
        if self.compares_only && !self.inspector.compares() {
            return Err(CopyError::Different);
        }
        self.grew_to(self.size + length as u64);
        Ok(length)
    }

    /// Preallocates data whose size is known.
    fn preallocate(&mut self, offset: u64, length: u64) -> Result<(), Errno> {
        if length < PREALLOC_THRESHOLD || !self.may_preallocate() {
            return Ok(());
        }
        sys::preallocate(self.file, offset, length)?;
        self.prealloc = Prealloc::Until(offset + length);
        Ok(())
    }

    /// Reserves more than the `coming` bytes, as nobody knows how much follows. What is too much is given back.
    fn preallocate_ahead(&mut self, coming: u64) {
        let until = match self.prealloc {
            Prealloc::Until(until) => until,
            Prealloc::Undecided | Prealloc::Not => 0,
        };
        if coming == 0
            || self.size + coming <= until.max(PREALLOC_THRESHOLD)
            || !self.may_preallocate()
        {
            return;
        }
        // As much as there is already: others want space too.
        let more = self.size.clamp(PREALLOC_MIN, PREALLOC_MAX);
        let wanted = Prealloc::Until(self.size + more);
        self.prealloc = match sys::preallocate(self.file, self.size, more) {
            Ok(()) => wanted,
            // It may be that what comes just fits; but now all that was left is reserved, and nobody else finds any.
            Err(_) => match sys::set_size(self.file, self.size) {
                Ok(()) => Prealloc::Not,
                Err(_) => wanted,
            },
        };
    }

    fn may_preallocate(&mut self) -> bool {
        if self.prealloc == Prealloc::Undecided {
            let gains = sys::filesystem(self.file).is_ok_and(FileSystem::gains_by_preallocation);
            self.prealloc = if gains {
                Prealloc::Until(0)
            } else {
                Prealloc::Not
            };
        }
        self.prealloc != Prealloc::Not
    }

    fn grew_to(&mut self, size: u64) {
        self.size = size;
        self.inspector.advance(size);
        if self.writeback == Writeback::Early && size.saturating_sub(self.started) >= WRITEBACK {
            sys::start_writeback(self.file, self.started, size - self.started);
            self.started = size;
        }
    }

    /// All is written: returns the inspector and the size in bytes.
    pub(crate) fn end(self) -> Result<(ContentInspector<'o>, u64), CopyError> {
        if matches!(self.prealloc, Prealloc::Until(until) if until > self.size) {
            sys::set_size(self.file, self.size).map_err(CopyError::Writing)?;
        }
        Ok((self.inspector, self.size))
    }

    /// Moves the pages of a pipe into a pipe of our own, and writes them from there while the first is filled again: the
    /// content is copied once, not twice, and its writer does not wait for the disk. Two thirds of the time of read and
    /// write. `None` where the pages cannot be moved, and at end of file, which a read finds too.
    fn splice_available(&mut self, from: &Reader<'_>) -> Result<Option<Available>, CopyError> {
        let pipe = if let Some(pipe) = self.pipe.take() {
            pipe
        } else {
            sys::enlarge_pipe(from.file, PIPE_SIZE);
            let Ok(pipe) = sys::pipe() else {
                return Ok(None);
            };
            sys::enlarge_pipe(pipe.1.as_fd(), PIPE_SIZE);
            pipe
        };
        // Not guarded, the call itself may wait: a signal kills.
        let waiting = if signals::is_guarded() {
            Waiting::Never
        } else {
            Waiting::Allowed
        };
        let available = match sys::splice(from.file, pipe.1.as_fd(), PIPE_SIZE, waiting) {
            Ok(moved) if moved > 0 => {
                self.write_from_pipe(pipe.0.as_fd(), moved)?;
                Some(Available::Some)
            }
            Err(Errno::AGAIN) => Some(Available::Nothing),
            Ok(_) if from.method == ReadMethod::Splice => Some(Available::End),
            // Nothing was moved. A read finds out whether the pipe is at its end, or what is wrong.
            Ok(_) | Err(_) => None,
        };
        self.pipe = Some(pipe);
        Ok(available)
    }

    /// Appends what is in a pipe of our own.
    fn write_from_pipe(&mut self, pipe: BorrowedFd<'_>, mut held: usize) -> Result<(), CopyError> {
        self.preallocate_ahead(held as u64);
        while held > 0 {
            let spliced = if self.inspector.needs_bytes() {
                Ok(0)
            } else {
                sys::splice(pipe, self.file, held, Waiting::Allowed)
            };
            held -= match spliced {
                Ok(0) | Err(_) => {
                    self.buffer.clear();
                    self.buffer.reserve_exact(CHUNK);
                    sys::read(pipe, &mut self.buffer).map_err(CopyError::Reading)?;
                    self.append_buffer()?
                }
                Ok(written) => {
                    self.grew_to(self.size + written as u64);
                    written
                }
            };
        }
        Ok(())
    }

    /// Has the kernel copy what it can, from where `from` stands, and keeps the holes. Says whether it was cloned; if not,
    /// both files stand where the rest is to be read and written.
    fn copy_file(&mut self, from: BorrowedFd<'_>, size: u64) -> Result<bool, CopyError> {
        // A regular file that cannot seek is none that can be copied by ranges.
        let Ok(start) = sys::position(from) else {
            return Ok(false);
        };
        let span = OffsetMap {
            start,
            base: self.size,
        };
        if start == 0 && span.base == 0 && sys::clone_file(from, self.file).is_ok() {
            let size = sys::seek_end(self.file).map_err(CopyError::Writing)?;
            self.grew_to(size);
            return Ok(true);
        }
        if size > FIRST_READ as u64 {
            self.copy_extents(from, span)?;
            sys::seek(self.file, self.size).map_err(CopyError::Writing)?;
            sys::seek(from, span.to_source(self.size)).map_err(CopyError::Reading)?;
        }
        Ok(false)
    }

    /// Copies the data between the holes.
    fn copy_extents(&mut self, from: BorrowedFd<'_>, span: OffsetMap) -> Result<(), CopyError> {
        let most = match self.writeback {
            Writeback::Early => WRITEBACK,
            Writeback::Late => MAX_COPY_RANGE,
        };
        loop {
            let (data, hole) = match sys::next_data(from, span.to_source(self.size)) {
                Ok(Some(range)) => range,
                Ok(None) => {
                    if self.copy_last_hole(from, span)? {
                        return Ok(());
                    }
                    continue;
                }
                // EINVAL: the file cannot tell where its holes are.
                Err(_) => return Ok(()),
            };
            self.preallocate(span.to_dest(data), hole - data)
                .map_err(CopyError::Writing)?;
            let mut at = data;
            while at < hole {
                signals::check()?;
                let copied =
                    sys::copy_range(from, at, self.file, span.to_dest(at), (hole - at).min(most))
                        // From one filesystem to another, or not at all: by hand, and the hole after it stays one.
                        .or_else(|_| {
                            self.copy_extent_buffered(from, at, span.to_dest(at), hole - at)
                        })?;
                if copied == 0 {
                    // The end, earlier than it was; or a file of which the kernel cannot copy.
                    return Ok(());
                }
                at += copied;
                self.grew_to(span.to_dest(at));
            }
        }
    }

    /// Copies up to `length` bytes from one place to another; says how many, 0 at the end.
    fn copy_extent_buffered(
        &mut self,
        from: BorrowedFd<'_>,
        read_at: u64,
        write_at: u64,
        length: u64,
    ) -> Result<u64, CopyError> {
        self.buffer.clear();
        self.buffer.reserve_exact(CHUNK);
        sys::read_at(from, read_at, &mut self.buffer).map_err(CopyError::Reading)?;
        self.buffer
            .truncate(usize::try_from(length).unwrap_or(usize::MAX));
        sys::seek(self.file, write_at).map_err(CopyError::Writing)?;
        write_all(self.file, &self.buffer)?;
        Ok(self.buffer.len() as u64)
    }

    /// Makes the new file as long as the old one where that ends in a hole. False if it turned out to be none.
    ///
    /// A file that grows has no data where it ended a moment ago, and is longer now; only if there still is no data after
    /// the size was seen, that much of it is a hole.
    fn copy_last_hole(&mut self, from: BorrowedFd<'_>, span: OffsetMap) -> Result<bool, CopyError> {
        let size = sys::metadata(from).map_err(CopyError::Reading)?.size;
        if matches!(sys::next_data(from, span.to_source(self.size)), Ok(Some(_))) {
            return Ok(false);
        }
        let end = span.to_dest(size.max(span.start));
        if end > self.size {
            sys::set_size(self.file, end).map_err(CopyError::Writing)?;
            self.grew_to(end);
        }
        Ok(true)
    }
}

/// Copies a file from its first byte to its last.
pub(crate) fn copy_whole(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> Result<(), CopyError> {
    let reader = Reader {
        file: from,
        metadata: sys::metadata(from).map_err(CopyError::Reading)?,
        method: ReadMethod::Read,
    };
    sys::seek(from, 0).map_err(CopyError::Reading)?;
    let mut transfer = Transfer::begin(to, Writeback::Late, ContentInspector::default());
    transfer.copy_from(&reader)?;
    transfer.end().map(drop)
}

/// Writes all of the bytes: a short write is no error, the rest follows.
fn write_all(file: BorrowedFd<'_>, mut bytes: &[u8]) -> Result<(), CopyError> {
    while !bytes.is_empty() {
        match sys::write(file, bytes) {
            Ok(written) => bytes = &bytes[written..],
            Err(Errno::AGAIN) => drop(signals::wait_for(file, Event::Writable)?),
            Err(errno) => return Err(CopyError::Writing(errno)),
        }
    }
    Ok(())
}

/// Tells whether this is a terminal that is gone. That is no end of file: what was typed is not complete. isatty(3) answers
/// no by then; no other device hangs up.
fn has_hung_up(from: &Reader<'_>) -> Result<bool, CopyError> {
    if from.metadata.kind != Kind::CharacterDevice {
        return Ok(false);
    }
    let wanted = [(from.file, Event::Readable)];
    let [ready] = signals::wait(wanted, Some(Duration::ZERO))?;
    Ok(ready.has_hung_up())
}

/// Where one file's content begins in the other.
#[derive(Debug, Clone, Copy)]
struct OffsetMap {
    /// The first byte that is taken.
    start: u64,
    /// Its place in the new file.
    base: u64,
}

impl OffsetMap {
    /// A place in the new file, for one in the file that is read.
    fn to_dest(self, there: u64) -> u64 {
        there - self.start + self.base
    }

    /// A place in the file that is read, for one in the new file.
    fn to_source(self, here: u64) -> u64 {
        here - self.base + self.start
    }
}
