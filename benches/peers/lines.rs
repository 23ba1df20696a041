//! Lines: who does the work, and the line of shell by which.
//!
//! The words are those of benches/launch.c. DEST is `o`, what is renamed to it `t`, SOURCE `src`; of many files, `s/1`
//! and so on become `d/1`. Everybody who can gets the large blocks and the single call that a careful user would give.

use crate::ground::Place;
use crate::work::{Input, PACE, Sync, Work};

/// Somebody who does the work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Who {
    Atomwrite,
    /// With COMMAND in place of a pipe.
    AtomwriteCommand,
    /// Many files, one run.
    AtomwriteTogether,
    /// benches/floor.c.
    Floor,
    /// The producer writes to the file itself: nobody can be faster than what he waits for.
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

impl Who {
    /// As the table calls him.
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

/// Everybody who can do this work, with his line.
pub(crate) fn of(work: Work) -> Vec<(Who, String)> {
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
                Who::AtomwriteCommand,
                format!("atomwrite {option} o -- {produce}"),
            ));
            all.push((Who::Straight, format!("{produce} > o{after}")));
            all
        }
        Input::Paced => from_pipe(work, &format!("produce {} {PACE} | ", work.size), ""),
        Input::File => from_file(work),
        Input::Files(count) => many(count),
    }
}

/// `before` is a pipe's other end, `held` what is in a pipe that has none.
fn from_pipe(work: Work, before: &str, held: &str) -> Vec<(Who, String)> {
    match work.sync {
        Sync::None => vec![
            (
                Who::Atomwrite,
                format!("{before}atomwrite --sync=none o {held}"),
            ),
            (Who::Floor, format!("{before}floor none o {held}")),
            (Who::Sponge, format!("{before}sponge o {held}")),
            (Who::Cat, format!("{before}cat {held} > o")),
            (Who::CatMv, format!("{before}cat {held} > t && mv t o")),
        ],
        Sync::Full => vec![
            (
                Who::Atomwrite,
                format!("{before}atomwrite --sync=full o {held}"),
            ),
            (Who::Floor, format!("{before}floor full o {held}")),
            (Who::Sponge, format!("{before}sponge o {held} && sync o .")),
            (
                Who::CatMv,
                format!("{before}cat {held} > t && sync t && mv t o && sync ."),
            ),
            (
                Who::Dd,
                format!("{before}dd of=o bs=1M iflag=fullblock conv=fsync status=none {held}"),
            ),
        ],
    }
}

fn from_file(work: Work) -> Vec<(Who, String)> {
    let mut all: Vec<(Who, &str)> = Vec::new();
    if work.place != Place::Disk {
        all.push((Who::Atomwrite, "atomwrite --sync=none src o"));
        all.push((Who::CpMv, "cp --reflink=always src t && mv t o"));
    } else if work.sync == Sync::None {
        all.push((Who::Atomwrite, "atomwrite --sync=none src o"));
        all.push((Who::Floor, "floor none o < src"));
        all.push((Who::Sponge, "sponge o < src"));
        all.push((Who::CpMv, "cp src t && mv t o"));
        all.push((Who::Install, "install -m 644 src o"));
    } else {
        all.push((Who::Atomwrite, "atomwrite --sync=full src o"));
        all.push((Who::Floor, "floor full o < src"));
        all.push((Who::Sponge, "sponge o < src && sync o ."));
        all.push((Who::CpMv, "cp src t && sync t && mv t o && sync ."));
        all.push((Who::Install, "install -m 644 src o && sync o ."));
        all.push((Who::Dd, "dd if=src of=o bs=1M conv=fsync status=none"));
    }
    all.into_iter()
        .map(|(who, line)| (who, line.to_owned()))
        .collect()
}

/// The words of more files than these would not fit on a command line.
const ON_A_LINE: usize = 2000;

fn many(count: usize) -> Vec<(Who, String)> {
    if count > ON_A_LINE {
        return vec![
            (
                Who::AtomwriteTogether,
                "atomwrite --sync=full -t d --files0-from=list".to_owned(),
            ),
            (Who::CpTogether, "cp -r s/. d && sync -f d".to_owned()),
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
            Who::AtomwriteTogether,
            format!("atomwrite --sync=full -t d {sources}"),
        ),
        (
            Who::Atomwrite,
            each(|n| format!("atomwrite --sync=full s/{n} d/{n}")),
        ),
        (Who::CpTogether, format!("cp -t d {sources} && sync -f d")),
    ]
}
