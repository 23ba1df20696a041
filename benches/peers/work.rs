//! Work: the kinds of work that are measured, and their order.

use std::fmt;

use crate::contest::Effort;
use crate::ground::Place;

pub(crate) const KIB: u64 = 1024;
pub(crate) const MIB: u64 = 1024 * KIB;
pub(crate) const GIB: u64 = 1024 * MIB;

/// The sizes that are compared with other programs, in bytes.
pub(crate) const SMALL: u64 = 100;
pub(crate) const LARGE: u64 = 256 * MIB;

/// A slow producer: its bytes, and its bytes a second.
pub(crate) const PACED: u64 = 96 * MIB;
pub(crate) const PACE: u64 = 250 * MIB;

/// The size of each of many files, and their number.
pub(crate) const EACH: u64 = 4 * KIB;
pub(crate) const MANY: usize = 2000;
pub(crate) const MOST: usize = 100_000;

/// How the cost grows: with the size, the number of files, the number of names in DEST's directory,
/// and the number of writers.
pub(crate) const SIZES: [u64; 7] = [1, KIB, 64 * KIB, MIB, 64 * MIB, 512 * MIB, 8 * GIB];
pub(crate) const COUNTS: [usize; 6] = [1, 10, 100, MANY, 10_000, MOST];
pub(crate) const NAMES: [usize; 6] = [1, 10, 100, 1000, 10_000, 100_000];
pub(crate) const WRITERS: [usize; 7] = [1, 2, 4, 8, 16, 32, 64];

/// Where the content comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Input {
    /// A pipe that already holds all of it, so no program waits for another process.
    Held,
    /// The same, in a directory of so many names.
    Names(usize),
    /// The same, by so many processes at once.
    Writers(usize),
    /// A program that writes it as fast as it can, into a pipe or as COMMAND.
    Produced,
    /// The same program, writing 4 KiB at a time, as stdio does.
    ProducedInPages,
    /// The same program, at `PACE`. The time begins at its end.
    Paced,
    /// A file.
    File,
    /// A file on xfs, for a DEST on ext4.
    Foreign,
    /// So many files, each written under its own name.
    Files(usize),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sync {
    None,
    Full,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Old {
    /// There is no DEST before a run; it is removed outside the measured time.
    Removed,
    /// Each run replaces an old file.
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

    /// Returns whether it makes so many files that they would slow down what is measured later.
    pub(crate) fn needs_fresh_ground(self) -> bool {
        matches!(self.input, Input::Files(_) | Input::Names(_))
    }

    /// 100 bytes, in a directory of so many names.
    pub(crate) const fn among(names: usize) -> Self {
        Self::new(Input::Names(names), SMALL, Sync::None)
            .on(Place::Ext4)
            .over_an_old_one()
    }

    /// 100 bytes, by so many processes at once.
    pub(crate) const fn by(writers: usize) -> Self {
        Self::new(Input::Writers(writers), SMALL, Sync::None).over_an_old_one()
    }

    /// New files of 4 KiB, on ext4.
    pub(crate) const fn files(count: usize) -> Self {
        Self::new(Input::Files(count), EACH, Sync::Full).on(Place::Ext4)
    }

    /// As many new files, small ones and without fsync.
    pub(crate) const fn most_files() -> Self {
        Self::new(Input::Files(MOST), KIB, Sync::None).on(Place::Ext4)
    }
}

/// Returns all work. Small work comes first, because large work warms the machine up.
pub(crate) fn all(effort: Effort) -> Vec<Work> {
    let full = effort != Effort::Quick;
    let mut all = Vec::new();
    for sync in [Sync::None, Sync::Full] {
        let held = Work::new(Input::Held, SMALL, sync);
        all.extend([held, held.over_an_old_one()]);
    }
    all.push(Work::new(Input::Produced, SMALL, Sync::None));
    all.extend(WRITERS.map(Work::by));
    all.extend(
        NAMES
            .iter()
            .take(if full { 6 } else { 4 })
            .map(|n| Work::among(*n)),
    );
    all.extend(
        COUNTS
            .iter()
            .take(if full { 6 } else { 4 })
            .map(|n| Work::files(*n)),
    );
    let many = Work::files(MANY);
    all.extend([
        many.on(Place::Xfs),
        many.over_an_old_one(),
        many.on(Place::Xfs).over_an_old_one(),
    ]);
    if full {
        all.push(Work::most_files());
    }
    let file = |size| Work::new(Input::File, size, Sync::None);
    all.extend([file(LARGE).on(Place::Btrfs), file(LARGE).on(Place::Xfs)]);
    all.push(file(SMALL));
    for size in [MIB, LARGE] {
        all.extend([Work::new(Input::Produced, size, Sync::None), file(size)]);
    }
    all.push(Work::new(Input::ProducedInPages, LARGE, Sync::None));
    all.push(Work::new(Input::Foreign, LARGE, Sync::None));
    let paced = Work::new(Input::Paced, PACED, Sync::Full);
    all.extend([paced, paced.over_an_old_one()]);
    let sizes = SIZES.iter().take(if full { 7 } else { 5 });
    all.extend(sizes.map(|size| Work::new(Input::Produced, *size, Sync::Full)));
    all
}

/// Formats a size, as in "256 MiB".
pub(crate) fn human(bytes: u64) -> String {
    let units = [(GIB, "GiB"), (MIB, "MiB"), (KIB, "KiB"), (1, "B")];
    let fits = units.iter().find(|(unit, _)| bytes >= *unit);
    let (unit, name) = fits.unwrap_or(&(1, "B"));
    format!("{} {name}", bytes / unit)
}

/// Formats a number, as in "100,000".
pub(crate) fn grouped(number: usize) -> String {
    if number < 1000 {
        number.to_string()
    } else {
        format!("{},{:03}", number / 1000, number % 1000)
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
            Input::Names(count) => write!(f, "{size} in a directory of {} names", grouped(count))?,
            Input::Writers(count) => write!(f, "{size} by {count} writers at once")?,
            Input::Produced => write!(f, "{size} from a producer")?,
            Input::ProducedInPages => write!(f, "{size} from a producer of 4 KiB a write")?,
            Input::Paced => write!(f, "{size} at {}/s", human(PACE))?,
            Input::File => write!(f, "{size} from a file")?,
            Input::Foreign => write!(f, "{size} from a file on another filesystem")?,
            Input::Files(count) => write!(f, "{} files of {size}", grouped(count))?,
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
