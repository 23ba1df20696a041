//! Lines: which programs do a work, and with which line of shell.
//!
//! The words are those of benches/launch.c. DEST is `o`, what is renamed to it `t`, SOURCE `src`;
//! of many files, `s/1` and so on become `d/1`, some by way of `stage`. Each program gets the large
//! blocks and the single call that a careful user would choose, if it has them.

use crate::ground::Place;
use crate::work::{GIB, Input, KIB, MANY, Old, PACE, SMALL, Sync, Work};

/// A way to do the work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Program {
    Atomwrite,
    /// With COMMAND in place of a pipe.
    AtomwriteCommand,
    /// Many files, one run.
    AtomwriteTogether,
    /// Many files, a run for each.
    AtomwriteLoop,
    /// In a directory that has no other names.
    AtomwriteAlone,
    AtomwriteBackup,
    /// Many writers, one DEST.
    AtomwriteOne,
    /// benches/floor.c.
    Floor,
    /// Many files, one run of it.
    FloorTogether,
    /// The producer writes to the file itself. No program that waits for the producer can be
    /// faster.
    Straight,
    Sponge,
    CatMv,
    /// A shell that starts the producer.
    Sh,
    CpMv,
    Install,
    Dd,
    /// Many files, one cp, one sync: not atomic, unless by way of a staging directory.
    CpTogether,
}

impl Program {
    pub(crate) const ALL: [Self; 17] = [
        Self::Atomwrite,
        Self::AtomwriteCommand,
        Self::AtomwriteTogether,
        Self::AtomwriteLoop,
        Self::AtomwriteAlone,
        Self::AtomwriteBackup,
        Self::AtomwriteOne,
        Self::Floor,
        Self::FloorTogether,
        Self::Straight,
        Self::Sponge,
        Self::CatMv,
        Self::Sh,
        Self::CpMv,
        Self::Install,
        Self::Dd,
        Self::CpTogether,
    ];

    pub(crate) fn is_ours(self) -> bool {
        self.label().starts_with("`atomwrite")
    }

    /// Returns the name in the table.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Atomwrite => "`atomwrite`",
            Self::AtomwriteCommand => "`atomwrite o -- command`",
            Self::AtomwriteTogether => "`atomwrite -t`",
            Self::AtomwriteLoop => "`atomwrite` in a loop",
            Self::AtomwriteAlone => "`atomwrite`, no other name there",
            Self::AtomwriteBackup => "`atomwrite --backup=numbered`",
            Self::AtomwriteOne => "`atomwrite`, all one DEST",
            Self::Floor => "the C floor",
            Self::FloorTogether => "the C floor, `-t`",
            Self::Straight => "producer straight into a file",
            Self::Sponge => "`sponge`",
            Self::CatMv => "`cat >t && mv t o`",
            Self::Sh => "`sh -c 'cmd >t && mv t o'`",
            Self::CpMv => "`cp src t && mv t o`",
            Self::Install => "`install`",
            Self::Dd => "`dd conv=fsync`",
            Self::CpTogether => "`cp`",
        }
    }

    /// The same without the marks of Markdown.
    pub(crate) fn plain(self) -> String {
        self.label().replace('`', "")
    }
}

type Line = (Program, String);

/// Returns the programs that can do this work, each with its line.
pub(crate) fn of(work: Work) -> Vec<Line> {
    let size = work.size;
    match work.input {
        Input::Held => {
            let mut all = from_pipe(work, "", &format!("<< {size}"));
            let level = level(work.sync);
            all.push((Program::Floor, format!("floor {level} o << {size}")));
            all
        }
        Input::Names(_) => vec![
            (Program::Atomwrite, small("d/o", "")),
            (Program::AtomwriteAlone, small("e/o", "")),
            (Program::AtomwriteBackup, small("d/o", "--backup=numbered ")),
        ],
        Input::Writers(count) => {
            let line = |each: &dyn Fn(usize) -> String| {
                (1..=count).map(each).collect::<Vec<_>>().join(" & ")
            };
            vec![
                (Program::Atomwrite, line(&|n| small(&format!("d/{n}"), ""))),
                (Program::AtomwriteOne, line(&|_| small("d/o", ""))),
                (
                    Program::Sponge,
                    line(&|n| format!("sponge d/{n} << {SMALL}")),
                ),
            ]
        }
        Input::Produced => produced(work, &format!("produce {size}")),
        Input::ProducedInPages => produced(work, &format!("produce {size} 0 {}", 4 * KIB)),
        Input::Paced => {
            let mut all = from_pipe(work, &format!("produce {size} {PACE} | "), "");
            all.retain(|(program, _)| matches!(program, Program::Atomwrite | Program::Dd));
            all
        }
        Input::File => from_file(work),
        Input::Foreign => owned(&[
            (Program::Atomwrite, "atomwrite --sync=none ../xfs/src o"),
            (Program::CpMv, "cp ../xfs/src t && mv t o"),
        ]),
        Input::Files(count) => many(work, count),
    }
}

fn owned(lines: &[(Program, &str)]) -> Vec<Line> {
    lines
        .iter()
        .map(|(program, line)| (*program, (*line).to_owned()))
        .collect()
}

fn level(sync: Sync) -> &'static str {
    match sync {
        Sync::None => "none",
        Sync::Full => "full",
    }
}

fn small(name: &str, options: &str) -> String {
    format!("atomwrite --sync=none {options}{name} << {SMALL}")
}

/// `before` is a pipe's other end, `held` what is in a pipe that has none.
fn from_pipe(work: Work, before: &str, held: &str) -> Vec<Line> {
    let lines: &[(Program, &str)] = match work.sync {
        Sync::None => &[
            (Program::Atomwrite, "atomwrite --sync=none o HELD"),
            (Program::Sponge, "sponge o HELD"),
            (Program::CatMv, "cat HELD > t && mv t o"),
        ],
        Sync::Full => &[
            (Program::Atomwrite, "atomwrite --sync=full o HELD"),
            (Program::Sponge, "sponge o HELD && sync o ."),
            (Program::CatMv, "cat HELD > t && sync t && mv t o && sync ."),
            (
                Program::Dd,
                "dd of=o bs=1M iflag=fullblock conv=fsync status=none HELD",
            ),
        ],
    };
    lines
        .iter()
        .map(|(program, line)| (*program, format!("{before}{}", line.replace("HELD", held))))
        .collect()
}

fn produced(work: Work, produce: &str) -> Vec<Line> {
    let command = (
        Program::AtomwriteCommand,
        format!("atomwrite --sync={} o -- {produce}", level(work.sync)),
    );
    if work.size == SMALL {
        let shell = format!("sh -c '{produce} > t && mv t o'");
        return vec![command, (Program::Sh, shell)];
    }
    let after = match work.sync {
        Sync::None => "",
        Sync::Full => " && sync o .",
    };
    let straight = (Program::Straight, format!("{produce} > o{after}"));
    let mut all = from_pipe(work, &format!("{produce} | "), "");
    all.retain(|(program, _)| match (program, work.input, work.sync) {
        (Program::Atomwrite, ..) => true,
        (_, Input::ProducedInPages, _) => false,
        (Program::Sponge, ..) => work.size < GIB,
        (_, _, sync) => sync == Sync::None,
    });
    if work.sync == Sync::None {
        all.push(command);
    }
    all.push(straight);
    all
}

fn from_file(work: Work) -> Vec<Line> {
    if work.place != Place::Disk {
        return owned(&[
            (Program::Atomwrite, "atomwrite --sync=none src o"),
            (Program::CpMv, "cp --reflink=always src t && mv t o"),
        ]);
    }
    owned(&[
        (Program::Atomwrite, "atomwrite --sync=none src o"),
        (Program::Sponge, "sponge o < src"),
        (Program::CpMv, "cp src t && mv t o"),
        (Program::Install, "install -m 644 src o"),
    ])
}

/// The words of more files than these would not fit on a command line.
const ON_A_LINE: usize = MANY;
/// A loop over more files than these takes long, and as long for each as over these.
const IN_A_LOOP: usize = 100;

fn many(work: Work, count: usize) -> Vec<Line> {
    let level = level(work.sync);
    if count > ON_A_LINE {
        let after = match work.sync {
            Sync::None => "",
            Sync::Full => " && sync -f d",
        };
        let find = "find s -type f -print0";
        let together = format!("{find} | atomwrite --sync={level} -t d --files0-from=-");
        let mut all = vec![
            (Program::AtomwriteTogether, together),
            (Program::CpTogether, format!("cp -rT s d{after}")),
        ];
        if work.sync == Sync::None {
            let floor = format!("{find} | floor {level} -t d");
            all.push((Program::FloorTogether, floor));
        }
        return all;
    }
    let each = |line: &dyn Fn(usize) -> String, between: &str| {
        (1..=count).map(line).collect::<Vec<_>>().join(between)
    };
    let sources = each(&|n| format!("s/{n}"), " ");
    let staged = each(&|n| format!("stage/{n}"), " ");
    let cp = match work.old {
        Old::Removed => format!("cp -t d {sources} && sync -f d"),
        Old::Replaced => {
            format!("cp -t stage {sources} && sync -f stage && mv -t d {staged} && sync d")
        }
    };
    let together = format!("atomwrite --sync={level} -t d {sources}");
    let mut all = vec![
        (Program::AtomwriteTogether, together),
        (Program::CpTogether, cp),
    ];
    if count == MANY {
        let floor = format!("floor {level} -t d {sources}");
        all.push((Program::FloorTogether, floor));
    }
    if count <= IN_A_LOOP {
        let one = |n| format!("atomwrite --sync={level} s/{n} d/{n}");
        all.push((Program::AtomwriteLoop, each(&one, " && ")));
    }
    all
}
