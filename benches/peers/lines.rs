//! Lines: which programs do a work, and with which line of shell.
//!
//! The words are those of benches/launch.c. DEST is `o`, what is renamed to it `t`, SOURCE `src`;
//! of many files, `s/1` and so on become `d/1`. Each program
//! gets the large blocks and the single call that a careful user would choose, if it has them.

use crate::ground::Place;
use crate::work::{Input, PACE, Sync, Work};

/// A way to do the work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Program {
    Atomwrite,
    /// With COMMAND in place of a pipe.
    AtomwriteCommand,
    /// Many files, one run.
    AtomwriteTogether,
    /// benches/floor.c.
    Floor,
    /// The producer writes to the file itself. No program that waits for the producer can be
    /// faster.
    Straight,
    Sponge,
    /// `cat >o`: not atomic.
    Cat,
    CatMv,
    CpMv,
    Install,
    Dd,
    /// Many files, one cp, one sync: not atomic.
    CpTogether,
}

impl Program {
    pub(crate) const ALL: [Self; 12] = [
        Self::Atomwrite,
        Self::AtomwriteCommand,
        Self::AtomwriteTogether,
        Self::Floor,
        Self::Straight,
        Self::Sponge,
        Self::Cat,
        Self::CatMv,
        Self::CpMv,
        Self::Install,
        Self::Dd,
        Self::CpTogether,
    ];

    pub(crate) fn is_ours(self) -> bool {
        matches!(
            self,
            Self::Atomwrite | Self::AtomwriteCommand | Self::AtomwriteTogether
        )
    }

    /// Returns the name in the table.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Atomwrite => "`atomwrite`",
            Self::AtomwriteCommand => "`atomwrite o -- command`",
            Self::AtomwriteTogether => "`atomwrite -t`",
            Self::Floor => "the C floor",
            Self::Straight => "producer straight into a file",
            Self::Sponge => "`sponge`",
            Self::Cat => "`cat >o`",
            Self::CatMv => "`cat >t && mv t o`",
            Self::CpMv => "`cp src t && mv t o`",
            Self::Install => "`install`",
            Self::Dd => "`dd conv=fsync`",
            Self::CpTogether => "`cp -t d s/*`",
        }
    }

    /// The same without the marks of Markdown.
    pub(crate) fn plain(self) -> String {
        self.label().replace('`', "")
    }
}

/// Returns the programs that can do this work, each with its line.
pub(crate) fn of(work: Work) -> Vec<(Program, String)> {
    match work.input {
        Input::Held => from_pipe(work, "", &format!("<< {}", work.size)),
        Input::Produced | Input::ProducedInPages => {
            let produce = match work.input {
                Input::ProducedInPages => format!("produce {} 0 4096", work.size),
                _ => format!("produce {}", work.size),
            };
            let mut all = from_pipe(work, &format!("{produce} | "), "");
            let (option, after) = match work.sync {
                Sync::None => ("--sync=none", ""),
                Sync::Full => ("--sync=full", " && sync o ."),
            };
            all.push((
                Program::AtomwriteCommand,
                format!("atomwrite {option} o -- {produce}"),
            ));
            all.push((Program::Straight, format!("{produce} > o{after}")));
            all
        }
        Input::Paced => from_pipe(work, &format!("produce {} {PACE} | ", work.size), ""),
        Input::File => from_file(work),
        Input::Files(count) => many(count),
    }
}

/// `before` is a pipe's other end, `held` what is in a pipe that has none.
fn from_pipe(work: Work, before: &str, held: &str) -> Vec<(Program, String)> {
    match work.sync {
        Sync::None => vec![
            (
                Program::Atomwrite,
                format!("{before}atomwrite --sync=none o {held}"),
            ),
            (Program::Floor, format!("{before}floor none o {held}")),
            (Program::Sponge, format!("{before}sponge o {held}")),
            (Program::Cat, format!("{before}cat {held} > o")),
            (Program::CatMv, format!("{before}cat {held} > t && mv t o")),
        ],
        Sync::Full => vec![
            (
                Program::Atomwrite,
                format!("{before}atomwrite --sync=full o {held}"),
            ),
            (Program::Floor, format!("{before}floor full o {held}")),
            (
                Program::Sponge,
                format!("{before}sponge o {held} && sync o ."),
            ),
            (
                Program::CatMv,
                format!("{before}cat {held} > t && sync t && mv t o && sync ."),
            ),
            (
                Program::Dd,
                format!("{before}dd of=o bs=1M iflag=fullblock conv=fsync status=none {held}"),
            ),
        ],
    }
}

fn from_file(work: Work) -> Vec<(Program, String)> {
    let mut all: Vec<(Program, &str)> = Vec::new();
    if work.place != Place::Disk {
        all.push((Program::Atomwrite, "atomwrite --sync=none src o"));
        all.push((Program::CpMv, "cp --reflink=always src t && mv t o"));
    } else if work.sync == Sync::None {
        all.push((Program::Atomwrite, "atomwrite --sync=none src o"));
        all.push((Program::Floor, "floor none o < src"));
        all.push((Program::Sponge, "sponge o < src"));
        all.push((Program::CpMv, "cp src t && mv t o"));
        all.push((Program::Install, "install -m 644 src o"));
    } else {
        all.push((Program::Atomwrite, "atomwrite --sync=full src o"));
        all.push((Program::Floor, "floor full o < src"));
        all.push((Program::Sponge, "sponge o < src && sync o ."));
        all.push((Program::CpMv, "cp src t && sync t && mv t o && sync ."));
        all.push((Program::Install, "install -m 644 src o && sync o ."));
        all.push((Program::Dd, "dd if=src of=o bs=1M conv=fsync status=none"));
    }
    all.into_iter()
        .map(|(program, line)| (program, line.to_owned()))
        .collect()
}

/// The words of more files than these would not fit on a command line.
const ON_A_LINE: usize = 2000;

fn many(count: usize) -> Vec<(Program, String)> {
    if count > ON_A_LINE {
        return vec![
            (
                Program::AtomwriteTogether,
                "atomwrite --sync=full -t d --files0-from=list".to_owned(),
            ),
            (Program::CpTogether, "cp -r s/. d && sync -f d".to_owned()),
        ];
    }
    let each = |line: fn(usize) -> String| {
        let lines: Vec<String> = (1..=count).map(line).collect();
        lines.join(" && ")
    };
    let sources: Vec<String> = (1..=count).map(|n| format!("s/{n}")).collect();
    let sources = sources.join(" ");
    vec![
        (
            Program::AtomwriteTogether,
            format!("atomwrite --sync=full -t d {sources}"),
        ),
        (
            Program::Atomwrite,
            each(|n| format!("atomwrite --sync=full s/{n} d/{n}")),
        ),
        (
            Program::CpTogether,
            format!("cp -t d {sources} && sync -f d"),
        ),
    ]
}
