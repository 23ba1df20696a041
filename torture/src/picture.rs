//! The picture: what a power cut, a kill, a full disk and concurrent readers do to a file, by the
//! program that wrote it.
//!
//! SVG with colours for a light and a dark page, narrow enough for a phone, and with patterns for
//! readers who cannot see the colours.

use anyhow::{Context, Result};

use crate::concurrency;
use crate::death;
use crate::environment;
use crate::power::window::{AGES, FILESYSTEMS, PROGRAMS, row};
use crate::programs::Program;
use crate::report::{Harm, Report};

/// The other ways to lose a file: the report's row, and the head of the column.
const OTHERS: [(&str, &str); 3] = [
    (death::KILLED, "killed"),
    (environment::DISK_FULL, "disk full"),
    (concurrency::READERS, "readers"),
];

/// A phone shows a page of about 330 pixels: letters of 13 are still legible there.
const WIDTH: u32 = 400;
const MARGIN: u32 = 12;
const LINE: u32 = 19;
const ROW: u32 = 22;
/// Where the bars begin, how long one is, and where the next column begins.
const BEGIN: u32 = 84;
const LENGTH: u32 = 30;
const COLUMN: u32 = 79;
const WIDE_COLUMN: u32 = 100;

const STYLE: &str = "\
text{font:15px system-ui,-apple-system,'Segoe UI',Helvetica,Arial,sans-serif;fill:#1f2328}
.head{font-weight:600}.place{font-weight:600}.small{font-size:13px}.faint{fill:#59636e}.end{text-anchor:end}
.page{fill:#fff}.frame{fill:none;stroke:#8c959f}.gone{fill:#cf222e}.back{fill:url(#stripes)}.stripe{stroke:#9a6700;stroke-width:3}
.bad{font-weight:600}
@media (prefers-color-scheme:dark){
text{fill:#e6edf3}.faint{fill:#9198a1}.page{fill:#0d1117}.frame{stroke:#6e7681}.gone{fill:#f85149}.stripe{stroke:#d29922}
}";

const STRIPES: &str = "<defs><pattern id=\"stripes\" width=\"5\" height=\"5\" patternUnits=\"userSpaceOnUse\" \
                       patternTransform=\"rotate(45)\"><path class=\"stripe\" d=\"M0 0V5\"/></pattern></defs>\n";

/// What became of a file, in parts of all cases.
#[derive(Debug, Clone, Copy)]
struct Fate {
    /// Neither old nor new, or missing.
    gone: f64,
    /// Still old, although the program has reported success.
    back: f64,
}

impl Fate {
    fn of(report: &Report, row: &str, program: Program) -> Result<Self> {
        let tally = report.tally(row, program).with_context(|| {
            format!("the picture misses the row '{row}' of {}", program.shown())
        })?;
        Ok(Self {
            gone: tally.part(&[Harm::Torn, Harm::Missing]),
            back: tally.part(&[Harm::Lost]),
        })
    }

    /// Returns a bar and the share of both harms together.
    fn draw(self, x: u32, y: u32) -> String {
        let length = f64::from(LENGTH);
        let all = (self.gone + self.back).min(1.0);
        let class = if all > 0.0 { "small bad" } else { "small" };
        [
            bar(f64::from(x), y, self.gone * length, "gone"),
            bar(
                f64::from(x) + self.gone * length,
                y,
                (all - self.gone) * length,
                "back",
            ),
            bar(f64::from(x), y, length, "frame"),
            text(x + LENGTH + 4, y, class, &percent(all)),
        ]
        .concat()
    }
}

/// Not 0% for what happened, nor 100% for what did not always happen.
fn percent(part: f64) -> String {
    match part * 100.0 {
        0.0 => "0".to_owned(),
        some if some < 1.0 => "&lt;1%".to_owned(),
        some if some < 100.0 => format!("{:.0}%", some.min(99.0)),
        _ => "100%".to_owned(),
    }
}

fn name(program: Program) -> &'static str {
    match program {
        Program::Redirect => "&gt;",
        Program::CatAndMove => "mv",
        Program::Sponge => "sponge",
        Program::Atomwrite => "atomwrite",
        other => other.shown(),
    }
}

pub(crate) fn draw(report: &Report) -> Result<String> {
    let mut body = STRIPES.to_owned();
    let mut y = 28;
    body += &text(
        MARGIN,
        y,
        "head",
        "The power fails after a write. What is lost?",
    );
    y += 3;
    for words in [
        "Share of files destroyed or lost, by the time from",
        "exit status 0 to the power cut. mv: cat >t && mv t o.",
    ] {
        y += LINE;
        body += &text(MARGIN, y, "small faint", &escaped(words));
    }
    y += 5;
    for (class, meaning) in [
        ("gone", "destroyed: partial, empty, zeros or missing"),
        ("back", "lost: still the old content"),
    ] {
        y += ROW;
        body += &bar(f64::from(MARGIN), y, f64::from(LENGTH), class);
        body += &bar(f64::from(MARGIN), y, f64::from(LENGTH), "frame");
        body += &text(MARGIN + LENGTH + 8, y, "small", meaning);
    }
    for filesystem in FILESYSTEMS {
        y += ROW + 12;
        body += &text(MARGIN, y, "place", filesystem.shown());
        for (x, age) in columns(COLUMN).zip(AGES) {
            body += &text(x, y, "small faint", age.shown);
        }
        for program in PROGRAMS {
            y += ROW;
            body += &text(BEGIN - 8, y, "small end", name(program));
            for (x, age) in columns(COLUMN).zip(AGES) {
                body += &Fate::of(report, &row(filesystem, age), program)?.draw(x, y);
            }
        }
    }
    y += ROW + 20;
    body += &text(MARGIN, y, "head", "The power stays on. What is lost?");
    y += 3;
    for words in [
        "killed: by SIGKILL, at each system call in turn.",
        "readers: what 8 readers see while 200 writers write.",
    ] {
        y += LINE;
        body += &text(MARGIN, y, "small faint", words);
    }
    y += ROW + 4;
    for (x, (_, head)) in columns(WIDE_COLUMN).zip(OTHERS) {
        body += &text(x, y, "small faint", head);
    }
    for program in PROGRAMS {
        y += ROW;
        body += &text(BEGIN - 8, y, "small end", name(program));
        for (x, (row, _)) in columns(WIDE_COLUMN).zip(OTHERS) {
            body += &Fate::of(report, row, program)?.draw(x, y);
        }
    }
    let height = y + MARGIN;
    Ok(format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" \
         height=\"{height}\" role=\"img\" aria-label=\"Share of files that are destroyed or lost by a power cut, a kill, \
         a full disk, or concurrent writers\">\n\
         <style>\n{STYLE}\n</style>\n\
         <rect class=\"page\" width=\"100%\" height=\"100%\" rx=\"6\"/>\n{body}</svg>\n"
    ))
}

fn columns(width: u32) -> impl Iterator<Item = u32> {
    (0..).map(move |number| BEGIN + number * width)
}

fn escaped(words: &str) -> String {
    words.replace('&', "&amp;").replace('>', "&gt;")
}

fn text(x: u32, y: u32, class: &str, words: &str) -> String {
    format!("<text x=\"{x}\" y=\"{y}\" class=\"{class}\">{words}</text>\n")
}

fn bar(x: f64, y: u32, length: f64, class: &str) -> String {
    if length <= 0.0 {
        return String::new();
    }
    let top = y - 12;
    format!(
        "<rect x=\"{x:.1}\" y=\"{top}\" width=\"{length:.1}\" height=\"14\" class=\"{class}\"/>\n"
    )
}
