//! Moving the bytes, the fastest way that the two ends allow.
//!
//! The rule: how many bytes there are is known at the end only. A size that a file tells beforehand is a hint (files of
//! /proc say 0), and every fast way may stop at any point and leave the rest to read and write, which also finds out
//! whose error it is.

use std::os::fd::BorrowedFd;

use crate::sys::{self, Errno, Kind, Metadata};

/// What a pipe is asked to hold, and how much is read at once: with 64 KiB each, a writer and a reader that wait for one
/// another take half as long again.
const CHUNK: usize = 512 * 1024;
const PIPE: usize = 1024 * 1024;

/// How much is written before the disk is told to begin. The wait at the end, for the fsync, is what a user feels.
const WRITEBACK: u64 = 8 * 1024 * 1024;

/// At most so much in one call that a signal cannot interrupt.
const RANGE: u64 = 64 * 1024 * 1024;

/// Whose error it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Broken {
    Reading(Errno),
    Writing(Errno),
}

/// Whether the disk begins to work while there still is input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Writeback {
    Early,
    Late,
}

/// Copies all that is left of `from`, described by `what`, into the empty file `to`. Gives the number of bytes.
pub(crate) fn copy(
    from: BorrowedFd<'_>,
    what: &Metadata,
    to: BorrowedFd<'_>,
    writeback: Writeback,
) -> Result<u64, Broken> {
    let mut sink = Sink {
        file: to,
        size: 0,
        started: 0,
        writeback,
    };
    match what.kind {
        // A size of 0 means nothing: files of /proc and /sys say so, and have content.
        Kind::Regular if what.size > 0 => copy_file(from, &mut sink)?,
        Kind::Fifo => sys::enlarge_pipe(from, PIPE),
        _ => {}
    }
    copy_stream(from, &mut sink)?;
    Ok(sink.size)
}

/// The new file, written from the front to the back.
struct Sink<'f> {
    file: BorrowedFd<'f>,
    size: u64,
    started: u64,
    writeback: Writeback,
}

impl Sink<'_> {
    fn grew_to(&mut self, size: u64) {
        self.size = size;
        if self.writeback == Writeback::Early && size - self.started >= WRITEBACK {
            sys::start_writeback(self.file, self.started, size - self.started);
            self.started = size;
        }
    }
}

/// Reads and writes until there is nothing more.
fn copy_stream(from: BorrowedFd<'_>, sink: &mut Sink<'_>) -> Result<(), Broken> {
    let mut buffer = Vec::with_capacity(CHUNK);
    loop {
        sys::read(from, &mut buffer).map_err(Broken::Reading)?;
        if buffer.is_empty() {
            return Ok(());
        }
        sys::write_all(sink.file, &buffer).map_err(Broken::Writing)?;
        sink.grew_to(sink.size + buffer.len() as u64);
    }
}

/// Has the kernel copy what it can, from where `from` stands, and keeps the holes. Leaves both files where the rest is
/// to be read and written.
fn copy_file(from: BorrowedFd<'_>, sink: &mut Sink<'_>) -> Result<(), Broken> {
    // A regular file that cannot seek is none that can be copied by ranges.
    let Ok(start) = sys::position(from) else {
        return Ok(());
    };
    if start == 0 && sys::clone_file(from, sink.file).is_ok() {
        sink.size = sys::metadata(sink.file).map_err(Broken::Writing)?.size;
    } else {
        copy_ranges(from, start, sink)?;
    }
    sys::seek(from, start + sink.size).map_err(Broken::Reading)?;
    sys::seek(sink.file, sink.size).map_err(Broken::Writing)
}

/// Copies the data between the holes. `start` is where the content begins in `from`; in the new file it begins at 0.
fn copy_ranges(from: BorrowedFd<'_>, start: u64, sink: &mut Sink<'_>) -> Result<(), Broken> {
    loop {
        let (data, hole) = match sys::next_data(from, start + sink.size) {
            Ok(Some(range)) => range,
            Ok(None) => return copy_last_hole(from, start, sink),
            // EINVAL: the file cannot tell where its holes are.
            Err(_) => return Ok(()),
        };
        let mut at = data;
        while at < hole {
            let length = (hole - at).min(if sink.writeback == Writeback::Early {
                WRITEBACK
            } else {
                RANGE
            });
            match sys::copy_range(from, at, sink.file, at - start, length) {
                // The end, earlier than it was; or a file of which the kernel cannot copy.
                Ok(0) | Err(_) => return Ok(()),
                Ok(copied) => {
                    at += copied;
                    sink.grew_to(at - start);
                }
            }
        }
    }
}

/// Makes the new file as long as the old one where that ends in a hole.
fn copy_last_hole(from: BorrowedFd<'_>, start: u64, sink: &mut Sink<'_>) -> Result<(), Broken> {
    let end = sys::metadata(from).map_err(Broken::Reading)?.size;
    if let Some(size) = end.checked_sub(start).filter(|size| *size > sink.size) {
        sys::set_size(sink.file, size).map_err(Broken::Writing)?;
        sink.size = size;
    }
    Ok(())
}
