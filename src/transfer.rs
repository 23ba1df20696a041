//! Copying the bytes, as fast as both ends allow.
//!
//! Invariant: the number of bytes is known only at the end of the input. The size that a file
//! reports is a hint: files of /proc report 0. Every fast path may stop at any point and leave the
//! rest to read(2) and write(2), which also show on which side an error occurred. `signals` does
//! the waiting.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use crate::copy_error::CopyError;
use crate::inspector::ContentInspector;
use crate::signals;
use crate::sys::{self, Errno, Event, FileSystem, Kind, Metadata, Waiting};

/// The capacity requested for a pipe, in bytes. With the default of 64 KiB, a writer and a reader
/// that wait for each other take half as long again.
pub(crate) const PIPE_SIZE: usize = 1024 * 1024;

/// The size of the first read: most input is small.
const FIRST_READ: usize = 4096;
/// The size of every later read.
const CHUNK: usize = 512 * 1024;

/// How many bytes are written before writeback starts early. Early writeback shortens the fsync at
/// the end, for which the user waits.
const WRITEBACK: u64 = 8 * 1024 * 1024;

/// The maximum for one copy_file_range(2), which a signal cannot interrupt.
const MAX_COPY_RANGE: u64 = 8 * 1024 * 1024;

/// Fewer bytes than this are not preallocated.
const PREALLOC_THRESHOLD: u64 = 1024 * 1024;
/// How many bytes are preallocated ahead of input of unknown size.
const PREALLOC_MIN: u64 = 8 * 1024 * 1024;
const PREALLOC_MAX: u64 = 64 * 1024 * 1024;

/// How to read from a descriptor without waiting in the read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ReadMethod {
    /// read(2). It does not wait, or it may wait because the run is not guarded.
    Read,
    /// As `Read`, after waiting for input: a device, or a FIFO that has no writer yet.
    WaitAndRead,
    /// splice(2) into a private pipe, or as `WaitAndRead` if that is not possible. For a pipe that
    /// other processes share and that cannot be opened again.
    Splice,
    /// recv(2), for a socket that other processes share.
    Receive,
}

/// What an attempt to copy found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Available {
    Some,
    /// No input yet: wait for the non-blocking descriptor.
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

/// Whether writeback starts while input still arrives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Writeback {
    Early,
    Late,
}

/// Preallocated space: a full disk fails early, and a write on ext4 takes 0.8 of the time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Prealloc {
    /// Too few bytes so far to be worth the call.
    Undecided,
    /// Preallocated up to this offset, in bytes.
    Until(u64),
    /// The filesystem does not gain by preallocation, or refused it.
    Not,
}

/// Writes a file from its first byte to its last.
#[derive(Debug)]
pub(crate) struct Transfer<'f, 'o> {
    file: BorrowedFd<'f>,
    size: u64,
    /// Bytes that write(2) has accepted: after an error, they may be more than the size.
    written: u64,
    started: u64,
    prealloc: Prealloc,
    writeback: Writeback,
    inspector: ContentInspector<'o>,
    /// Nothing is stored, and the first byte that differs from DEST ends the transfer.
    compares_only: bool,
    buffer: Vec<u8>,
    /// A private pipe, for input that is spliced.
    pipe: Option<(OwnedFd, OwnedFd)>,
}

impl<'f, 'o> Transfer<'f, 'o> {
    /// Starts with an empty file.
    pub(crate) fn begin(
        file: BorrowedFd<'f>,
        writeback: Writeback,
        inspector: ContentInspector<'o>,
    ) -> Self {
        Self {
            file,
            size: 0,
            written: 0,
            started: 0,
            prealloc: Prealloc::Undecided,
            writeback,
            inspector,
            compares_only: false,
            buffer: Vec::new(),
            pipe: None,
        }
    }

    /// Starts at offset 0 of an existing file. Neither preallocates nor truncates.
    pub(crate) fn over(file: BorrowedFd<'f>) -> Self {
        let transfer = Self::begin(file, Writeback::Late, ContentInspector::default());
        Self {
            prealloc: Prealloc::Not,
            ..transfer
        }
    }

    /// Compares the input with DEST's content, which the inspector has. Does not write to `file`.
    pub(crate) fn compare(file: BorrowedFd<'f>, inspector: ContentInspector<'o>) -> Self {
        let transfer = Self::begin(file, Writeback::Late, inspector);
        Self {
            prealloc: Prealloc::Not,
            compares_only: true,
            ..transfer
        }
    }

    /// Returns the number of bytes written so far.
    pub(crate) fn size(&self) -> u64 {
        self.size.max(self.written)
    }

    /// Appends the rest of `from`.
    pub(crate) fn copy_from(&mut self, from: &Reader<'_>) -> Result<(), CopyError> {
        self.clone_or_read(from).map(|_| ())
    }

    /// Appends the rest of `from`, a descriptor that other processes share. Leaves its offset at
    /// the end.
    pub(crate) fn copy_from_shared(&mut self, from: &Reader<'_>) -> Result<(), CopyError> {
        if self.clone_or_read(from)? {
            sys::seek(from.file, self.size).map_err(CopyError::Reading)?;
        }
        Ok(())
    }

    /// Appends the rest of `from`. Returns true if the file is a clone of `from`: then the clone
    /// has the content of a single moment, and the offset of `from` has not moved.
    fn clone_or_read(&mut self, from: &Reader<'_>) -> Result<bool, CopyError> {
        let (file, size) = (from.file, from.metadata.size);
        // A size of 0 means nothing: files of /proc and /sys report it and have content. For a
        // small file, read and write are faster than asking the kernel for a copy. From a whole
        // block on, a clone pays, because it writes no data.
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

    /// Appends some of the available input. Waits only if the `method` of `from` does.
    pub(crate) fn copy_available(&mut self, from: &Reader<'_>) -> Result<Available, CopyError> {
        signals::check()?;
        // A private pipe costs more than it saves if the input is small.
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

    /// Reads once and appends the bytes, without checking for signals.
    pub(crate) fn read_available(&mut self, from: &Reader<'_>) -> Result<Available, CopyError> {
        // A large buffer costs more than it saves if the input is small.
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

    /// Appends the content of the buffer. Returns the number of bytes.
    fn append_buffer(&mut self) -> Result<usize, CopyError> {
        let length = self.buffer.len();
        if !self.compares_only {
            self.preallocate_ahead(length as u64);
            self.write_buffer()?;
        }
        self.inspector.update(self.size, &self.buffer);
        if self.compares_only && !self.inspector.compares() {
            return Err(CopyError::Different);
        }
        self.grew_to(self.size + length as u64);
        Ok(length)
    }

    /// Preallocates `length` bytes, all of which will be written.
    fn preallocate(&mut self, offset: u64, length: u64) -> Result<(), Errno> {
        if length < PREALLOC_THRESHOLD || !self.may_preallocate() {
            return Ok(());
        }
        sys::preallocate(self.file, offset, length)?;
        self.prealloc = Prealloc::Until(offset + length);
        Ok(())
    }

    /// Preallocates more than the `coming` bytes, because more may follow. `end` gives the excess
    /// back.
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
        // As much again as the file has already; other processes need disk space too.
        let more = self.size.clamp(PREALLOC_MIN, PREALLOC_MAX);
        let wanted = Prealloc::Until(self.size + more);
        self.prealloc = match sys::preallocate(self.file, self.size, more) {
            Ok(()) => wanted,
            // The input may still fit, but the failed call can hold all the remaining space, which
            // other processes need. Truncating gives it back.
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

    /// Ends the transfer, and gives back excess space. Returns the inspector and the size in bytes.
    pub(crate) fn end(self) -> Result<(ContentInspector<'o>, u64), CopyError> {
        if matches!(self.prealloc, Prealloc::Until(until) if until > self.size) {
            sys::set_size(self.file, self.size).map_err(CopyError::Writing)?;
        }
        Ok((self.inspector, self.size))
    }

    /// Splices the input into a private pipe and writes it from there while the first pipe is
    /// filled again. The content is copied once instead of twice, its writer does not wait for the
    /// disk, and it takes two thirds of the time of read(2) and write(2).
    ///
    /// Returns `None` if splicing is impossible and at end of file; a read then finds out which.
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
        // Unless the run is guarded, the call may wait, because a signal then ends the process.
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
            // Nothing was moved. A read finds the end of file or the error.
            Ok(_) | Err(_) => None,
        };
        self.pipe = Some(pipe);
        Ok(available)
    }

    /// Appends the `held` bytes of the private pipe.
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

    /// Has the kernel copy what it can from the offset of `from` on, and preserves holes. Returns
    /// true if the file was cloned. If not, both offsets are where read and write must continue.
    fn copy_file(&mut self, from: BorrowedFd<'_>, size: u64) -> Result<bool, CopyError> {
        // A file that cannot seek cannot be copied by ranges.
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
            let next = span.to_source(self.size);
            let (data, hole) = match sys::next_data(from, next) {
                Ok(Some((data, hole))) if next <= data && data < hole => (data, hole),
                Ok(None) => {
                    if self.copy_last_hole(from, span)? {
                        return Ok(());
                    }
                    continue;
                }
                // EINVAL, or an answer that leads nowhere: the filesystem does not report holes.
                Ok(Some(_)) | Err(_) => return Ok(()),
            };
            self.preallocate(span.to_dest(data), hole - data)
                .map_err(CopyError::Writing)?;
            let mut at = data;
            while at < hole {
                signals::check()?;
                let copied =
                    sys::copy_range(from, at, self.file, span.to_dest(at), (hole - at).min(most))
                        // Not between these filesystems, or not at all. A copy through the buffer
                        // still preserves the next hole.
                        .or_else(|_| {
                            self.copy_extent_buffered(from, at, span.to_dest(at), hole - at)
                        })?;
                if copied == 0 {
                    // The file became shorter, or the kernel cannot copy from it.
                    return Ok(());
                }
                at += copied;
                self.grew_to(span.to_dest(at));
            }
        }
    }

    /// Copies up to `length` bytes through the buffer. Returns the number of bytes, 0 at end of
    /// file.
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
        self.write_buffer()?;
        Ok(self.buffer.len() as u64)
    }

    /// Writes the whole buffer; continues after a short write.
    fn write_buffer(&mut self) -> Result<(), CopyError> {
        let mut bytes = &self.buffer[..];
        while !bytes.is_empty() {
            match sys::write(self.file, bytes) {
                Ok(written) => {
                    bytes = &bytes[written..];
                    self.written += written as u64;
                }
                Err(Errno::AGAIN) => drop(signals::wait_for(self.file, Event::Writable)?),
                Err(errno) => return Err(CopyError::Writing(errno)),
            }
        }
        Ok(())
    }

    /// Extends the new file to the size of `from`, if `from` ends in a hole. Returns false if data
    /// follows after all.
    ///
    /// A growing file shows no data at its former end and is longer by the time its size is read.
    /// So the rest counts as a hole only if there still is no data after the size was read.
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

/// Returns true if `from` is a terminal that has hung up. A hangup is not an end of file, because
/// the typed content is incomplete. isatty(3) is false after a hangup, so all character devices are
/// checked; only terminals hang up.
fn has_hung_up(from: &Reader<'_>) -> Result<bool, CopyError> {
    if from.metadata.kind != Kind::CharacterDevice {
        return Ok(false);
    }
    let wanted = [(from.file, Event::Readable)];
    let [ready] = signals::wait(wanted, Some(Duration::ZERO))?;
    Ok(ready.has_hung_up())
}

/// Maps offsets between the source and the new file.
#[derive(Debug, Clone, Copy)]
struct OffsetMap {
    /// The offset of the first copied byte in the source.
    start: u64,
    /// The offset of that byte in the new file.
    base: u64,
}

impl OffsetMap {
    /// Returns the offset in the new file of a byte of the source.
    fn to_dest(self, source: u64) -> u64 {
        source - self.start + self.base
    }

    /// Returns the offset in the source of a byte of the new file.
    fn to_source(self, dest: u64) -> u64 {
        dest - self.base + self.start
    }
}
