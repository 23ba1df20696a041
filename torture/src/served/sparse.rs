//! The bytes of a disk, most of which are zero.
//!
//! Invariant: only what was written takes memory. btrfs writes back early when it is nearly full,
//! and behaves as in practice only on a disk that is far larger than its content.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;

use nix::errno::Errno;
use nix::unistd::{Whence, lseek};

const PIECE: usize = 64 * 1024;

/// Bytes that can be written to and read at any place.
#[derive(Debug, Clone, Default)]
pub(crate) struct Sparse {
    size: usize,
    /// By number. What is not there is zero.
    pieces: BTreeMap<usize, Box<[u8]>>,
}

impl Sparse {
    pub(crate) fn size(&self) -> usize {
        self.size
    }

    pub(crate) fn read_from(file: &File) -> io::Result<Self> {
        let size = usize::try_from(file.metadata()?.len()).map_err(io::Error::other)?;
        let mut sparse = Self {
            size,
            pieces: BTreeMap::new(),
        };
        let mut buffer = vec![0; PIECE];
        let mut offset = 0;
        while let Some(data) = next_data(file, offset)? {
            let begin = data / PIECE * PIECE;
            let length = PIECE.min(size - begin);
            file.read_exact_at(&mut buffer[..length], begin as u64)?;
            if buffer[..length].iter().any(|byte| *byte != 0) {
                sparse.write(begin, &buffer[..length]);
            }
            offset = begin + length;
        }
        Ok(sparse)
    }

    /// Leaves holes for what is not there.
    pub(crate) fn write_to(&self, file: &File) -> io::Result<()> {
        file.set_len(self.size as u64)?;
        for (number, piece) in &self.pieces {
            let begin = number * PIECE;
            file.write_all_at(&piece[..PIECE.min(self.size - begin)], begin as u64)?;
        }
        Ok(())
    }

    /// What is cut off is gone: if it grows again, zeros come.
    pub(crate) fn resize(&mut self, size: usize) {
        self.zero(size, self.size.saturating_sub(size));
        self.size = size;
    }

    /// What is beyond the end is lost.
    pub(crate) fn write(&mut self, offset: usize, data: &[u8]) {
        for (number, within, at) in pieces(offset, data.len().min(self.size.saturating_sub(offset)))
        {
            let length = within.len();
            let piece = self
                .pieces
                .entry(number)
                .or_insert_with(|| vec![0; PIECE].into());
            piece[within].copy_from_slice(&data[at..at + length]);
        }
    }

    pub(crate) fn zero(&mut self, offset: usize, length: usize) {
        for (number, within, _) in pieces(offset, length) {
            if within.len() == PIECE {
                self.pieces.remove(&number);
            } else if let Some(piece) = self.pieces.get_mut(&number) {
                piece[within].fill(0);
            }
        }
    }

    pub(crate) fn read(&self, offset: usize, length: usize) -> Vec<u8> {
        let mut data = vec![0; length.min(self.size.saturating_sub(offset))];
        for (number, within, at) in pieces(offset, data.len()) {
            if let Some(piece) = self.pieces.get(&number) {
                let length = within.len();
                data[at..at + length].copy_from_slice(&piece[within]);
            }
        }
        data
    }
}

impl From<usize> for Sparse {
    fn from(size: usize) -> Self {
        Self {
            size,
            pieces: BTreeMap::new(),
        }
    }
}

/// Returns where the next data of a file is, after its holes.
fn next_data(file: &File, from: usize) -> io::Result<Option<usize>> {
    let from = i64::try_from(from).map_err(io::Error::other)?;
    match lseek(file, from, Whence::SeekData) {
        Ok(data) => Ok(Some(usize::try_from(data).map_err(io::Error::other)?)),
        Err(Errno::ENXIO) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}

/// Returns the pieces that a place goes over: which, what of it, and where that is in the place.
fn pieces(offset: usize, length: usize) -> impl Iterator<Item = (usize, Range<usize>, usize)> {
    let end = offset.saturating_add(length);
    (offset / PIECE..end.div_ceil(PIECE)).map(move |number| {
        let begin = number * PIECE;
        let (from, to) = (offset.max(begin), end.min(begin + PIECE));
        (number, from - begin..to - begin, from - offset)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_was_written_over_the_edges_of_pieces() {
        let mut sparse = Sparse::from(4 * PIECE);
        let data: Vec<u8> = (1..=250).cycle().take(2 * PIECE).collect();
        sparse.write(PIECE / 2, &data);
        assert_eq!(sparse.read(PIECE / 2, 2 * PIECE), data);
        sparse.zero(PIECE - 1, PIECE + 2);
        let all = sparse.read(0, usize::MAX);
        assert_eq!(all.len(), 4 * PIECE);
        assert_eq!(all[PIECE - 2], data[PIECE / 2 - 2]);
        assert!(all[PIECE - 1..=2 * PIECE].iter().all(|byte| *byte == 0));
        assert_eq!(all[2 * PIECE + 1], data[3 * PIECE / 2 + 1]);
    }

    #[test]
    fn forgets_what_is_cut_off() {
        let mut sparse = Sparse::from(10);
        sparse.write(0, b"0123456789");
        sparse.resize(4);
        assert_eq!(sparse.read(0, usize::MAX), b"0123");
        sparse.resize(6);
        assert_eq!(sparse.read(0, usize::MAX), b"0123\0\0");
    }
}
