//! Inspecting the content: its digest, whether DEST has the same already, and the progress.
//!
//! Invariant: what is inspected is what will be committed. Bytes that pass through this process are inspected as they pass;
//! those that the kernel copied are read back from the new file.

use std::os::fd::BorrowedFd;

use sha2::{Digest, Sha256};

use crate::copy_error::CopyError;
use crate::message::Progress;
use crate::request::Sha256Digest;
use crate::signals;
use crate::sys;

const CHUNK: usize = 256 * 1024;

/// What the content turned out to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Content {
    /// Bytes.
    pub(crate) size: u64,
    /// Those that came behind what DEST held, with `--append`.
    pub(crate) appended: Option<u64>,
    /// If it was asked for.
    pub(crate) sum: Option<Sha256Digest>,
    /// DEST has the same content already. False if that was not asked.
    pub(crate) same: bool,
}

/// Inspects content, from the first byte to the last.
#[derive(Debug, Default)]
pub(crate) struct ContentInspector<'o> {
    digest: Option<Sha256>,
    comparison: Option<Comparison<'o>>,
    progress: Option<Progress>,
    /// All bytes before this offset were inspected.
    seen: u64,
}

/// The old content, until a difference is found.
#[derive(Debug)]
struct Comparison<'o> {
    old: BorrowedFd<'o>,
    size: u64,
    same: bool,
    buffer: Vec<u8>,
}

impl<'o> ContentInspector<'o> {
    /// Computes the digest.
    pub(crate) fn digest(mut self) -> Self {
        self.digest = Some(Sha256::new());
        self
    }

    /// Compares with an old file of `size` bytes.
    pub(crate) fn compare(mut self, old: BorrowedFd<'o>, size: u64) -> Self {
        self.comparison = Some(Comparison {
            old,
            size,
            same: true,
            buffer: Vec::new(),
        });
        self
    }

    /// Shows the progress.
    pub(crate) fn show(mut self, progress: Option<Progress>) -> Self {
        self.progress = progress;
        self
    }

    /// Tells whether the bytes themselves matter, and not only their number.
    pub(crate) fn needs_bytes(&self) -> bool {
        self.digest.is_some() || self.compares()
    }

    /// Tells whether no difference was found yet.
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

    /// The file has `size` bytes now.
    pub(crate) fn advance(&mut self, size: u64) {
        if let Some(progress) = &self.progress {
            progress.at(size);
        }
    }

    /// Reads back from `file` what did not pass through here, and returns the result.
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

    /// Starts at the first byte again, but keeps that a difference was found.
    fn start_again(&mut self) {
        self.seen = 0;
        if let Some(digest) = &mut self.digest {
            digest.reset();
        }
    }
}

impl Comparison<'_> {
    /// An old file that cannot be read counts as different.
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
