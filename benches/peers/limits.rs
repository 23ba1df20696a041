//! The limits: how large the ratio of two times may be.

use crate::contest::Results;
use crate::ground::Place;
use crate::lines::Program;
use crate::statistics::Spread;
use crate::work::{EACH, Input, LARGE, MANY, PACED, SMALL, Sync, Work};

/// The time of `ours` divided by the time of `theirs` must be `most` or less.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limit {
    pub(crate) what: &'static str,
    pub(crate) work: Work,
    pub(crate) ours: Program,
    pub(crate) theirs: Program,
    /// Describes `theirs` more exactly than its label.
    pub(crate) against: &'static str,
    pub(crate) most: f64,
}

const fn limit(
    what: &'static str,
    work: Work,
    theirs: Program,
    against: &'static str,
    most: f64,
) -> Limit {
    let ours = Program::Atomwrite;
    Limit {
        what,
        work,
        ours,
        theirs,
        against,
        most,
    }
}

/// Peak memory, in KiB, and system calls for 100 bytes.
pub(crate) const MEMORY: u64 = 6 * 1024;
pub(crate) const CALLS: usize = 45;

const fn none(input: Input, size: u64) -> Work {
    Work::new(input, size, Sync::None)
}

const fn full(input: Input, size: u64) -> Work {
    Work::new(input, size, Sync::Full)
}

const SMALL_NONE: &str = "100 B, no fsync";
const PIPE_NONE: &str = "256 MiB from a pipe, no fsync";
const FILE_NONE: &str = "256 MiB file, no fsync";

const MANY_FULL: &str = "2,000 files of 4 KiB, full sync";
const MANY_XFS: &str = "the same on xfs";

/// Returns a limit for many files in one run.
const fn together(
    what: &'static str,
    place: Place,
    theirs: Program,
    against: &'static str,
    most: f64,
) -> Limit {
    let work = full(Input::Files(MANY), EACH).on(place);
    Limit {
        ours: Program::AtomwriteTogether,
        ..limit(what, work, theirs, against, most)
    }
}

pub(crate) const LIMITS: [Limit; 19] = [
    limit(
        SMALL_NONE,
        none(Input::Held, SMALL),
        Program::Sponge,
        "`sponge`",
        0.80,
    ),
    limit(
        SMALL_NONE,
        none(Input::Held, SMALL),
        Program::Floor,
        "the static C floor",
        1.25,
    ),
    limit(
        "100 B, full sync",
        full(Input::Held, SMALL),
        Program::Floor,
        "the static C floor with fsync and directory fsync",
        1.20,
    ),
    limit(
        PIPE_NONE,
        none(Input::Produced, LARGE),
        Program::Cat,
        "`cat >o`",
        0.65,
    ),
    limit(
        PIPE_NONE,
        none(Input::Produced, LARGE),
        Program::Sponge,
        "`sponge`",
        0.25,
    ),
    limit(
        PIPE_NONE,
        none(Input::Produced, LARGE),
        Program::Straight,
        "producer straight into a file",
        1.55,
    ),
    Limit {
        ours: Program::AtomwriteCommand,
        ..limit(
            "256 MiB by COMMAND, 64 KiB a write, no fsync",
            none(Input::Produced, LARGE),
            Program::Straight,
            "producer straight into a file",
            1.35,
        )
    },
    Limit {
        ours: Program::AtomwriteCommand,
        ..limit(
            "256 MiB by COMMAND, 4 KiB a write, no fsync",
            none(Input::ProducedInPages, LARGE),
            Program::Straight,
            "producer straight into a file",
            0.70,
        )
    },
    limit(
        FILE_NONE,
        none(Input::File, LARGE),
        Program::CpMv,
        "`cp src t && mv t o`",
        0.98,
    ),
    limit(
        FILE_NONE,
        none(Input::File, LARGE),
        Program::Sponge,
        "`sponge o <src`",
        0.35,
    ),
    limit(
        "256 MiB file on btrfs",
        none(Input::File, LARGE).on(Place::Btrfs),
        Program::CpMv,
        "`cp --reflink=always src t && mv t o`",
        0.55,
    ),
    limit(
        "256 MiB file on xfs",
        none(Input::File, LARGE).on(Place::Xfs),
        Program::CpMv,
        "`cp --reflink=always src t && mv t o`",
        0.55,
    ),
    limit(
        "256 MiB from a pipe, full sync",
        full(Input::Produced, LARGE),
        Program::Dd,
        "`dd of=o bs=1M iflag=fullblock conv=fsync`",
        0.40,
    ),
    limit(
        "256 MiB file, full sync",
        full(Input::File, LARGE),
        Program::CpMv,
        "`cp src t && sync t && mv t o && sync .`",
        0.70,
    ),
    limit(
        "wait after the last of 96 MiB, full sync",
        full(Input::Paced, PACED),
        Program::Dd,
        "`dd of=o bs=1M iflag=fullblock conv=fsync`",
        0.60,
    ),
    together(
        MANY_FULL,
        Place::Ext4,
        Program::CpTogether,
        "`cp -t d s/* && sync -f d`",
        1.30,
    ),
    together(
        MANY_FULL,
        Place::Ext4,
        Program::Atomwrite,
        "a loop of `atomwrite`",
        0.20,
    ),
    together(
        MANY_XFS,
        Place::Xfs,
        Program::CpTogether,
        "`cp -t d s/* && sync -f d`",
        1.30,
    ),
    together(
        MANY_XFS,
        Place::Xfs,
        Program::Atomwrite,
        "a loop of `atomwrite`",
        0.20,
    ),
];

impl Limit {
    /// Returns `None` if it was not measured.
    pub(crate) fn ratio(&self, results: &Results) -> Option<Spread> {
        results.of(self.work)?.ratio(self.ours, self.theirs)
    }

    pub(crate) fn is_kept(&self, ratio: Spread) -> bool {
        ratio.median <= self.most
    }
}
