//! What a disk may hold when the power goes.
//!
//! Invariant: everything before the last flush is there. Of what came after it, each write is
//! there, or is not, or is torn: some of its sectors of 4 KiB are there. Later writes overwrite
//! earlier ones.
//!
//! What these tests cannot see: a disk that ignores a flush, or that tears a sector. A random cut
//! rarely loses exactly the one write out of hundreds that matters, so the order of the calls is
//! checked as well (see `order`).

use std::fs::File;

use anyhow::{Context, Result};
use rand::Rng;
use rand::rngs::StdRng;

use super::filesystem::SECTOR;
use super::history::Record;
use crate::image;
use crate::served::{Entry, Sparse};

/// A moment, and what of the unflushed writes is on the disk.
#[derive(Debug)]
pub(crate) struct Cut {
    pub(crate) position: usize,
    /// One behind the last flush.
    pub(crate) flushed: usize,
    /// Of the entries from `flushed` to `position`: which sectors are there.
    kept: Vec<Kept>,
}

#[derive(Debug)]
enum Kept {
    Whole,
    Nothing,
    Sectors(Vec<bool>),
}

impl Cut {
    pub(crate) fn choose(log: &[Entry], position: usize, chance: &mut StdRng) -> Self {
        let flushed = log[..position]
            .iter()
            .rposition(|entry| matches!(entry, Entry::Flush))
            .map_or(0, |at| at + 1);
        // All and nothing are as likely in life as any mixture.
        let share = [0.0, 0.2, 0.5, 0.8, 1.0][chance.random_range(0..5)];
        let torn = [0.0, 0.3][chance.random_range(0..2)];
        let kept = log[flushed..position]
            .iter()
            .map(|entry| match chance.random_bool(share) {
                _ if chance.random_bool(torn) => Kept::Sectors(
                    (0..entry.sectors())
                        .map(|_| chance.random_bool(0.5))
                        .collect(),
                ),
                true => Kept::Whole,
                false => Kept::Nothing,
            })
            .collect();
        Self {
            position,
            flushed,
            kept,
        }
    }
}

/// Chooses moments between two places in the log, in their order. A third of them are those at
/// which a program has just returned, when nothing may be left to be done; a third are in the midst
/// of a run.
pub(crate) fn choose(
    log: &[Entry],
    record: &Record,
    begin: usize,
    count: usize,
    chance: &mut StdRng,
) -> Vec<Cut> {
    let runs: Vec<(usize, usize)> = record
        .histories
        .iter()
        .flat_map(|history| {
            history
                .versions
                .iter()
                .filter_map(|version| Some((version.begun, version.done?)))
        })
        .filter(|(begun, _)| *begun >= begin)
        .collect();
    let mut positions: Vec<usize> = (0..count)
        .map(|at| match (at % 3, runs.len()) {
            (0, many) if many > 0 => runs[chance.random_range(0..many)].1,
            (1, many) if many > 0 => {
                let (from, to) = runs[chance.random_range(0..many)];
                chance.random_range(from..=to)
            }
            _ => chance.random_range(begin..=log.len()),
        })
        .collect();
    positions.sort_unstable();
    positions
        .into_iter()
        .map(|position| Cut::choose(log, position, chance))
        .collect()
}

impl Entry {
    /// Returns how many sectors it touches.
    fn sectors(&self) -> usize {
        let (offset, length) = self.place();
        (offset + length).div_ceil(SECTOR) - offset / SECTOR
    }

    fn place(&self) -> (usize, usize) {
        match self {
            Self::Write { offset, data } => (*offset, data.len()),
            Self::Zero { offset, length } => (*offset, *length),
            Self::Flush => (0, 0),
        }
    }

    /// Puts on the disk those bytes of it that are from `begin` to `end`.
    fn apply(&self, content: &mut Sparse, begin: usize, end: usize) {
        let (offset, length) = self.place();
        let (begin, end) = (begin.max(offset), end.min(offset + length));
        if begin >= end {
            return;
        }
        match self {
            Self::Write { data, .. } => content.write(begin, &data[begin - offset..end - offset]),
            Self::Zero { .. } => content.zero(begin, end - begin),
            Self::Flush => {}
        }
    }
}

/// A disk that goes forward in the log from flush to flush.
pub(crate) struct Platter<'l> {
    content: Sparse,
    log: &'l [Entry],
    reached: usize,
}

impl<'l> Platter<'l> {
    pub(crate) fn new(content: Sparse, log: &'l [Entry]) -> Self {
        Self {
            content,
            log,
            reached: 0,
        }
    }

    /// Returns what is on the disk after a cut, in a new file. Cuts must come in their order.
    pub(crate) fn image(&mut self, cut: &Cut) -> Result<File> {
        for entry in &self.log[self.reached..cut.flushed] {
            entry.apply(&mut self.content, 0, usize::MAX);
        }
        self.reached = cut.flushed;
        let image = image::in_memory()?;
        let mut content = self.content.clone();
        for (entry, kept) in self.log[cut.flushed..cut.position].iter().zip(&cut.kept) {
            match kept {
                Kept::Whole => entry.apply(&mut content, 0, usize::MAX),
                Kept::Nothing => {}
                Kept::Sectors(there) => {
                    let first = entry.place().0 / SECTOR;
                    for (sector, _) in there.iter().enumerate().filter(|(_, there)| **there) {
                        let begin = (first + sector) * SECTOR;
                        entry.apply(&mut content, begin, begin + SECTOR);
                    }
                }
            }
        }
        content.write_to(&image).context("cannot write an image")?;
        Ok(image)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use rand::SeedableRng;

    use super::*;

    fn write(sector: usize, byte: u8, sectors: usize) -> Entry {
        Entry::Write {
            offset: sector * SECTOR,
            data: vec![byte; sectors * SECTOR].into(),
        }
    }

    fn read(mut image: File) -> Vec<u8> {
        let mut content = Vec::new();
        image.read_to_end(&mut content).unwrap();
        content.chunks(SECTOR).map(|sector| sector[0]).collect()
    }

    #[test]
    fn keeps_what_was_flushed_and_any_part_of_the_rest() {
        let log = [write(0, 1, 2), Entry::Flush, write(0, 2, 1), write(1, 3, 3)];
        let mut chance = StdRng::seed_from_u64(1);
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..2000 {
            let mut platter = Platter::new(Sparse::from(5 * SECTOR), &log);
            let cut = Cut::choose(&log, 4, &mut chance);
            assert_eq!(cut.flushed, 2);
            seen.insert(read(platter.image(&cut).unwrap()));
            assert_eq!(
                platter.content.read(0, 1),
                [1],
                "the next cut is made of what was flushed"
            );
        }
        // Four sectors, each old or new.
        assert_eq!(seen.len(), 16, "{seen:?}");
        assert!(seen.contains(&vec![1, 1, 0, 0, 0]) && seen.contains(&vec![2, 3, 3, 3, 0]));
    }

    #[test]
    fn loses_nothing_that_came_before_a_flush() {
        let log = [
            write(0, 1, 2),
            Entry::Zero {
                offset: SECTOR,
                length: SECTOR,
            },
            Entry::Flush,
            write(3, 9, 1),
        ];
        let mut chance = StdRng::seed_from_u64(1);
        let mut platter = Platter::new(Sparse::from(5 * SECTOR), &log);
        let cut = Cut::choose(&log, 3, &mut chance);
        assert_eq!(read(platter.image(&cut).unwrap()), [1, 0, 0, 0, 0]);
    }
}
