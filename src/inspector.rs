//! Inspection of the content: its digest, whether it equals DEST's, and the progress.
//!
//! Invariant: the inspected content is the content that will be committed. Bytes that pass through
//! this process are inspected as they pass. Bytes that the kernel copied are read back from the new
//! file.

use std::os::fd::BorrowedFd;

use sha2::{Digest, Sha256};

use crate::copy_error::CopyError;
use crate::message::Progress;
use crate::request::Sha256Digest;
use crate::signals;
use crate::sys;

const CHUNK: usize = 256 * 1024;

/// The result of the inspection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Content {
    /// Bytes.
    pub(crate) size: u64,
    /// The number of bytes that `--append` added to DEST's content.
    pub(crate) appended: Option<u64>,
    /// The digest, if the user gave an expected one.
    pub(crate) sum: Option<Sha256Digest>,
    /// DEST has the same content already. False if it was not compared.
    pub(crate) same: bool,
}

/// Inspects content from the first byte to the last.
#[derive(Debug, Default)]
pub(crate) struct ContentInspector<'o> {
    digest: Option<Sha256>,
    comparison: Option<Comparison<'o>>,
    progress: Option<Progress>,
    /// All bytes before this offset have been inspected.
    seen: u64,
}

/// DEST's content, to compare with.
#[derive(Debug)]
struct Comparison<'o> {
    old: BorrowedFd<'o>,
    size: u64,
    same: bool,
    buffer: Vec<u8>,
}

impl<'o> ContentInspector<'o> {
    /// Makes the inspector compute the digest.
    pub(crate) fn digest(mut self) -> Self {
        self.digest = Some(Sha256::new());
        self
    }

    /// Makes the inspector compare with an old file of `size` bytes.
    pub(crate) fn compare(mut self, old: BorrowedFd<'o>, size: u64) -> Self {
        self.comparison = Some(Comparison {
            old,
            size,
            same: true,
            buffer: Vec::new(),
        });
        self
    }

    /// Makes the inspector show the progress.
    pub(crate) fn show(mut self, progress: Option<Progress>) -> Self {
        self.progress = progress;
        self
    }

    /// Returns true if the inspector needs the bytes, not just their number.
    pub(crate) fn needs_bytes(&self) -> bool {
        self.digest.is_some() || self.compares()
    }

    /// Returns true if a comparison is under way and has found no difference.
    pub(crate) fn compares(&self) -> bool {
        self.comparison
            .as_ref()
            .is_some_and(|comparison| comparison.same)
    }

    /// Inspects bytes that are written at `offset`.
    pub(crate) fn update(&mut self, offset: u64, bytes: &[u8]) {
        if offset != self.seen {
            return;
        }
        if let Some(digest) = &mut self.digest {
            digest.update(bytes);
        }
        if let Some(comparison) = &mut self.comparison {
            comparison.update(offset, bytes);
        }
        self.seen += bytes.len() as u64;
    }

    /// Shows that the file has `size` bytes now.
    pub(crate) fn advance(&mut self, size: u64) {
        if let Some(progress) = &self.progress {
            progress.at(size);
        }
    }

    /// Inspects the bytes of `file` that did not pass through this process. Returns the result.
    pub(crate) fn finish(mut self, file: BorrowedFd<'_>, size: u64) -> Result<Content, CopyError> {
        if let Some(comparison) = &mut self.comparison {
            comparison.same &= comparison.size == size;
        }
        if self.seen != size && self.needs_bytes() {
            self.start_again();
            let mut buffer = Vec::with_capacity(CHUNK);
            while self.seen < size {
                signals::check()?;
                sys::read_at(file, self.seen, &mut buffer).map_err(CopyError::Writing)?;
                if buffer.is_empty() {
                    break;
                }
                buffer.truncate(usize::try_from(size - self.seen).unwrap_or(usize::MAX));
                self.update(self.seen, &buffer);
            }
        }
        Ok(Content {
            size,
            appended: None,
            sum: self.digest.map(|digest| digest.finalize().into()),
            same: self.comparison.is_some_and(|comparison| comparison.same),
        })
    }

    /// Starts again at the first byte. A difference that was found still counts.
    fn start_again(&mut self) {
        self.seen = 0;
        if let Some(digest) = &mut self.digest {
            digest.reset();
        }
    }
}

impl Comparison<'_> {
    /// Compares `bytes` with the old file, which counts as different if it cannot be read.
    fn update(&mut self, mut offset: u64, mut bytes: &[u8]) {
        while self.same && !bytes.is_empty() {
            self.buffer.resize(bytes.len().min(CHUNK), 0);
            let read = sys::read_into(self.old, offset, &mut self.buffer).unwrap_or(0);
            self.same = read > 0 && self.buffer[..read] == bytes[..read];
            offset += read as u64;
            bytes = &bytes[read..];
        }
    }
}
