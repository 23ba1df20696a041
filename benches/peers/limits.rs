//! The limits: how large the ratio of two times may be.

use crate::contest::Results;
use crate::ground::Place;
use crate::lines::Program;
use crate::statistics::Spread;
use crate::work::{Input, LARGE, MANY, PACED, SMALL, Sync, Work};

/// The time of `ours` divided by the time of `theirs` must be `most` or less.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limit {
    pub(crate) what: &'static str,
    /// What takes the time.
    pub(crate) measures: &'static str,
    pub(crate) work: Work,
    pub(crate) ours: Program,
    pub(crate) theirs: Program,
    /// Describes `theirs` more exactly than its label.
    pub(crate) against: &'static str,
    pub(crate) most: f64,
    /// Says why the ratio is above the limit. Only then it is printed.
    pub(crate) why: &'static str,
}

/// Peak memory of one file, in KiB.
pub(crate) const MEMORY: u64 = 6 * 1024;

const NEW: Work = Work::new(Input::Held, SMALL, Sync::None);
const NEW_FULL: Work = Work::new(Input::Held, SMALL, Sync::Full);
const BLOCKS: Work = Work::new(Input::Produced, LARGE, Sync::None);
const PAGES: Work = Work::new(Input::ProducedInPages, LARGE, Sync::None);
const FILE: Work = Work::new(Input::File, LARGE, Sync::None);
const WAIT: Work = Work::new(Input::Paced, PACED, Sync::Full);
const FILES: Work = Work::files(MANY);

/// The rows below say what differs from this one.
const ROW: Limit = Limit {
    what: "100 B, no fsync, a new file",
    measures: "start-up and checks",
    work: NEW,
    ours: Program::Atomwrite,
    theirs: Program::Floor,
    against: "the C floor",
    most: 1.08,
    why: "",
};

const OLD: &str = "`atomwrite` looks up the old file three times and reads its attributes, which the floor does not. \
                   Runs differ by 0.03.";

const COMMAND: Limit = Limit {
    ours: Program::AtomwriteCommand,
    ..ROW
};

const PIPE: Limit = Limit {
    measures: "two copies at once",
    theirs: Program::Straight,
    against: "producer straight into a file",
    ..ROW
};

const COPY: Limit = Limit {
    theirs: Program::CpMv,
    against: "`cp src t && mv t o`",
    ..ROW
};

const CLONE: Limit = Limit {
    measures: "start-up and one clone",
    against: "`cp --reflink=always src t && mv t o`",
    most: 0.55,
    ..COPY
};

const LAST: Limit = Limit {
    measures: "what is not on the disk yet",
    theirs: Program::Dd,
    against: "`dd of=o bs=1M iflag=fullblock conv=fsync`",
    ..ROW
};

const TOGETHER: Limit = Limit {
    measures: "calls for each file",
    ours: Program::AtomwriteTogether,
    theirs: Program::CpTogether,
    against: "`cp -t d s/* && sync -f d`, not atomic",
    most: 1.00,
    why: "`cp` makes each file under its own name, so others can see it before it is complete. A file that is made \
          under another name and then renamed changes directories twice: the C floor is as slow.",
    ..ROW
};

const TOGETHER_OLD: Limit = Limit {
    against: "`cp -t stage s/* && sync -f stage && mv -t d stage/* && sync d`",
    most: 0.70,
    why: "The filesystem makes, renames and frees as many files for either. The C floor, which starts one process and \
          keeps no attributes, saves a sixth on ext4 and nothing on xfs.",
    ..TOGETHER
};

const TOGETHER_FLOOR: Limit = Limit {
    theirs: Program::FloorTogether,
    against: "the C floor, `-t`",
    most: 1.05,
    why: "",
    ..TOGETHER
};

const TOGETHER_OLD_FLOOR: Limit = Limit {
    measures: "the attributes of each old file",
    most: 1.20,
    ..TOGETHER_FLOOR
};

pub(crate) const LIMITS: [Limit; 25] = [
    ROW,
    Limit {
        what: "100 B, no fsync, over an old file",
        work: NEW.over_an_old_one(),
        most: 1.06,
        why: OLD,
        ..ROW
    },
    Limit {
        what: "100 B, no fsync, over an old file",
        work: NEW.over_an_old_one(),
        theirs: Program::Sponge,
        against: "`sponge`",
        most: 0.84,
        ..ROW
    },
    Limit {
        what: "100 B, full sync, a new file",
        measures: "start-up, checks and two flushes of the disk",
        work: NEW_FULL,
        most: 1.05,
        ..ROW
    },
    Limit {
        what: "100 B, full sync, over an old file",
        measures: "start-up, checks and two flushes of the disk",
        work: NEW_FULL.over_an_old_one(),
        most: 1.05,
        why: OLD,
        ..ROW
    },
    Limit {
        what: "100 B by COMMAND, no fsync",
        measures: "processes",
        work: Work::new(Input::Produced, SMALL, Sync::None),
        theirs: Program::Sh,
        against: "`sh -c 'cmd >t && mv t o'`",
        most: 0.55,
        ..COMMAND
    },
    Limit {
        what: "256 MiB from a pipe, 64 KiB a write",
        work: BLOCKS,
        most: 1.10,
        ..PIPE
    },
    Limit {
        what: "256 MiB from a pipe, 4 KiB a write",
        work: PAGES,
        most: 0.40,
        ..PIPE
    },
    Limit {
        what: "256 MiB by COMMAND, 64 KiB a write",
        work: BLOCKS,
        ours: Program::AtomwriteCommand,
        most: 1.15,
        ..PIPE
    },
    Limit {
        what: "256 MiB by COMMAND, 4 KiB a write",
        work: PAGES,
        ours: Program::AtomwriteCommand,
        most: 0.45,
        ..PIPE
    },
    Limit {
        what: "256 MiB file, no fsync",
        measures: "one copy",
        work: FILE,
        most: 0.98,
        ..COPY
    },
    Limit {
        what: "256 MiB file on btrfs",
        work: FILE.on(Place::Btrfs),
        ..CLONE
    },
    Limit {
        what: "256 MiB file on xfs",
        work: FILE.on(Place::Xfs),
        ..CLONE
    },
    Limit {
        what: "wait after the last of 96 MiB, a new file",
        work: WAIT,
        most: 0.60,
        ..LAST
    },
    Limit {
        what: "wait after the last of 96 MiB, over an old file",
        measures: "the same, and freeing the old file (`dd` does that at first)",
        work: WAIT.over_an_old_one(),
        most: 1.00,
        ..LAST
    },
    Limit {
        what: "2,000 files of 4 KiB, full sync, new names, ext4",
        work: FILES,
        ..TOGETHER
    },
    Limit {
        what: "2,000 files of 4 KiB, full sync, new names, ext4",
        work: FILES,
        ..TOGETHER_FLOOR
    },
    Limit {
        what: "2,000 files of 4 KiB, full sync, new names, xfs",
        work: FILES.on(Place::Xfs),
        ..TOGETHER
    },
    Limit {
        what: "2,000 files of 4 KiB, full sync, new names, xfs",
        work: FILES.on(Place::Xfs),
        ..TOGETHER_FLOOR
    },
    Limit {
        what: "2,000 files of 4 KiB, full sync, over old ones, ext4",
        work: FILES.over_an_old_one(),
        ..TOGETHER_OLD
    },
    Limit {
        what: "2,000 files of 4 KiB, full sync, over old ones, ext4",
        work: FILES.over_an_old_one(),
        ..TOGETHER_OLD_FLOOR
    },
    Limit {
        what: "2,000 files of 4 KiB, full sync, over old ones, xfs",
        work: FILES.on(Place::Xfs).over_an_old_one(),
        ..TOGETHER_OLD
    },
    Limit {
        what: "2,000 files of 4 KiB, full sync, over old ones, xfs",
        work: FILES.on(Place::Xfs).over_an_old_one(),
        ..TOGETHER_OLD_FLOOR
    },
    Limit {
        what: "100,000 files of 1 KiB, no fsync, new names, ext4",
        work: Work::most_files(),
        against: "`cp -rT s d`, not atomic",
        most: 1.10,
        ..TOGETHER
    },
    Limit {
        what: "100,000 files of 1 KiB, no fsync, new names, ext4",
        work: Work::most_files(),
        ..TOGETHER_FLOOR
    },
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
