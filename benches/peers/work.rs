//! Work: the kinds of work that are measured, each once for every size, and their order.

use std::fmt;

use crate::contest::Effort;
use crate::ground::Place;

pub(crate) const KIB: u64 = 1024;
pub(crate) const MIB: u64 = 1024 * KIB;

/// The sizes, in bytes. The limits are for the first and the fourth.
pub(crate) const SIZES: [u64; 5] = [100, MIB, 64 * MIB, 256 * MIB, 512 * MIB];
pub(crate) const SMALL: u64 = SIZES[0];
pub(crate) const LARGE: u64 = SIZES[3];

/// A slow producer: its bytes, and its bytes a second.
pub(crate) const PACED: u64 = 96 * MIB;
pub(crate) const PACE: u64 = 250 * MIB;

/// The size of each of many files.
pub(crate) const EACH: u64 = 4 * KIB;
pub(crate) const COUNTS: [usize; 5] = [10, 100, 2000, 10_000, 100_000];
/// The number of files that the limits are for.
pub(crate) const MANY: usize = COUNTS[2];

/// Where the content comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Input {
    /// A pipe that already holds all of it, so no program waits for another process.
    Held,
    /// A program that writes it as fast as it can, into a pipe or as COMMAND.
    Produced,
    /// The same program, writing 4 KiB at a time, as stdio does.
    ProducedInPages,
    /// The same program, at `PACE`. The time begins at its end.
    Paced,
    /// A file.
    File,
    /// As many files, each written under its own name.
    Files(usize),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sync {
    None,
    Full,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Old {
    /// DEST is removed before each run, outside the measured time.
    Removed,
    /// Each run replaces what the last one wrote.
    Replaced,
}

/// One kind of work, which several programs do in turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Work {
    pub(crate) input: Input,
    pub(crate) size: u64,
    pub(crate) sync: Sync,
    pub(crate) place: Place,
    pub(crate) old: Old,
}

impl Work {
    pub(crate) const fn new(input: Input, size: u64, sync: Sync) -> Self {
        Self {
            input,
            size,
            sync,
            place: Place::Disk,
            old: Old::Removed,
        }
    }

    pub(crate) const fn on(self, place: Place) -> Self {
        Self { place, ..self }
    }

    pub(crate) const fn over_an_old_one(self) -> Self {
        Self {
            old: Old::Replaced,
            ..self
        }
    }
}

/// Returns all work. Small work comes first, because large work warms the machine up.
pub(crate) fn all(effort: Effort) -> Vec<Work> {
    let (sizes, counts) = match effort {
        Effort::Full | Effort::Draw => (&SIZES[..], &COUNTS[..]),
        Effort::Quick => (&SIZES[..4], &COUNTS[..3]),
    };
    let mut all = Vec::new();
    for sync in [Sync::None, Sync::Full] {
        let held = Work::new(Input::Held, SMALL, sync);
        all.extend([held, held.over_an_old_one()]);
    }
    for &count in counts {
        all.push(Work::new(Input::Files(count), EACH, Sync::Full).on(Place::Ext4));
    }
    for place in [Place::Xfs, Place::Btrfs] {
        all.push(Work::new(Input::Files(MANY), EACH, Sync::Full).on(place));
    }
    for place in [Place::Btrfs, Place::Xfs] {
        all.push(Work::new(Input::File, LARGE, Sync::None).on(place));
    }
    all.push(Work::new(Input::ProducedInPages, LARGE, Sync::None));
    all.push(Work::new(Input::Paced, PACED, Sync::Full));
    for &size in sizes {
        for sync in [Sync::None, Sync::Full] {
            all.push(Work::new(Input::Produced, size, sync));
            all.push(Work::new(Input::File, size, sync));
        }
    }
    all
}

/// Formats a size, as in "256 MiB".
pub(crate) fn human(bytes: u64) -> String {
    if bytes < KIB {
        format!("{bytes} B")
    } else if bytes < MIB {
        format!("{} KiB", bytes / KIB)
    } else {
        format!("{} MiB", bytes / MIB)
    }
}

impl fmt::Display for Sync {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "no fsync",
            Self::Full => "full sync",
        })
    }
}

impl fmt::Display for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let size = human(self.size);
        match self.input {
            Input::Held => write!(f, "{size} from a full pipe")?,
            Input::Produced => write!(f, "{size} from a producer")?,
            Input::ProducedInPages => write!(f, "{size} from a producer of 4 KiB a write")?,
            Input::Paced => write!(f, "{size} at {}/s", human(PACE))?,
            Input::File => write!(f, "{size} from a file")?,
            Input::Files(count) => write!(f, "{count} files of {size}")?,
        }
        write!(f, ", {}", self.sync)?;
        match self.place {
            Place::Disk => {}
            Place::Ext4 => f.write_str(", ext4")?,
            Place::Btrfs => f.write_str(", btrfs")?,
            Place::Xfs => f.write_str(", xfs")?,
        }
        match self.old {
            Old::Removed => Ok(()),
            Old::Replaced => f.write_str(", over an old file"),
        }
    }
}
