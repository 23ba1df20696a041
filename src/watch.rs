//! What is to be known of the content: its digest, whether DEST has the same already, how far it has come.
//!
//! The rule: bytes that pass through us are looked at as they pass. Those that the kernel copied, or that COMMAND wrote
//! itself, are read back, once, from the new file: what is judged is what will be committed.

use std::os::fd::BorrowedFd;

use sha2::{Digest, Sha256};

use crate::message::Progress;
use crate::sys::{self, Errno};
use crate::transfer::Broken;

const CHUNK: usize = 256 * 1024;

/// A SHA-256 digest.
pub(crate) type Sum = [u8; 32];

/// What the content turned out to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Content {
    /// Bytes.
    pub(crate) size: u64,
    /// If it was asked for.
    pub(crate) sum: Option<Sum>,
    /// DEST has the same content already. False if that was not asked.
    pub(crate) same: bool,
}

/// Looks at content, from the front to the back.
#[derive(Debug, Default)]
pub(crate) struct Watch<'o> {
    digest: Option<Sha256>,
    comparison: Option<Comparison<'o>>,
    progress: Option<Progress>,
    /// All bytes before this were looked at.
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

impl<'o> Watch<'o> {
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

    /// Shows how far it has come.
    pub(crate) fn show(mut self, progress: Option<Progress>) -> Self {
        self.progress = progress;
        self
    }

    /// Whether the bytes themselves matter, and not only how many there are.
    pub(crate) fn looks(&self) -> bool {
        self.digest.is_some() || self.comparison.is_some()
    }

    pub(crate) fn is_shown(&self) -> bool {
        self.progress.is_some()
    }

    /// Looks at bytes that are written at `offset`. An error is one of reading the old content.
    pub(crate) fn see(&mut self, offset: u64, bytes: &[u8]) -> Result<(), Errno> {
        if offset != self.seen {
            return Ok(());
        }
        if let Some(digest) = &mut self.digest {
            digest.update(bytes);
        }
        if let Some(comparison) = &mut self.comparison {
            comparison.see(offset, bytes)?;
        }
        self.seen += bytes.len() as u64;
        Ok(())
    }

    /// The file has `size` bytes now.
    pub(crate) fn passed(&mut self, size: u64) {
        if let Some(progress) = &self.progress {
            progress.at(size);
        }
    }

    /// Looks at what was missed, in `file`, and says what it is.
    pub(crate) fn finish(mut self, file: BorrowedFd<'_>, size: u64) -> Result<Content, Broken> {
        if let Some(comparison) = &mut self.comparison {
            comparison.same &= comparison.size == size;
        }
        let compares = self
            .comparison
            .as_ref()
            .is_some_and(|comparison| comparison.same);
        if self.seen != size && (self.digest.is_some() || compares) {
            self.start_again();
            let mut buffer = Vec::with_capacity(CHUNK);
            while self.seen < size {
                sys::read_at(file, self.seen, &mut buffer).map_err(Broken::Writing)?;
                if buffer.is_empty() {
                    break;
                }
                buffer.truncate(usize::try_from(size - self.seen).unwrap_or(usize::MAX));
                self.see(self.seen, &buffer).map_err(Broken::ReadingOld)?;
            }
        }
        Ok(Content {
            size,
            sum: self.digest.map(|digest| digest.finalize().into()),
            same: self.comparison.is_some_and(|comparison| comparison.same),
        })
    }

    /// Forgets what was seen, but not that a difference was.
    fn start_again(&mut self) {
        self.seen = 0;
        if let Some(digest) = &mut self.digest {
            digest.reset();
        }
    }
}

impl Comparison<'_> {
    fn see(&mut self, mut offset: u64, mut bytes: &[u8]) -> Result<(), Errno> {
        while self.same && !bytes.is_empty() {
            self.buffer.reserve_exact(CHUNK);
            sys::read_at(self.old, offset, &mut self.buffer)?;
            let both = self.buffer.len().min(bytes.len());
            self.same = both > 0 && self.buffer[..both] == bytes[..both];
            offset += both as u64;
            bytes = &bytes[both..];
        }
        Ok(())
    }
}
