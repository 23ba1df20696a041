//! The picture: what is left of a file that was reported as written when the power goes, by who wrote it. SVG with
//! colours for a light and a dark page, narrow enough to be read on a phone.

use anyhow::{Context, Result};

use crate::programs::Program;
use crate::report::{Harm, Report};

/// As the rows of the report have them.
const FILESYSTEMS: [(&str, &str); 4] = [
    ("ext4", "ext4"),
    ("ext4 `noauto_da_alloc`", "ext4, noauto_da_alloc"),
    ("xfs", "xfs"),
    ("btrfs", "btrfs"),
];
const PROGRAMS: [(Program, &str); 3] = [
    (Program::Redirect, "&gt;"),
    (Program::Sponge, "sponge"),
    (Program::Atomwrite, "atomwrite"),
];

/// A telephone shows a page of about 330 pixels: letters of 13 are still read there.
const WIDTH: u32 = 400;
const MARGIN: u32 = 12;
/// Where the bars are.
const BEGIN: u32 = 92;
const LENGTH: u32 = 206;
const ROW: u32 = 21;

const STYLE: &str = "\
text{font:15px system-ui,-apple-system,'Segoe UI',Helvetica,Arial,sans-serif;fill:#1f2328}
.head{font-weight:600;font-size:16px}.place{font-weight:600}.small{font-size:13px}.faint{fill:#656d76}.end{text-anchor:end}
.page{fill:#fff}.whole{fill:#2da44e}.back{fill:#d4a72c}.gone{fill:#cf222e}.said{fill:#7d5a00}
@media (prefers-color-scheme:dark){
text{fill:#e6edf3}.faint{fill:#9198a1}.page{fill:#0d1117}.whole{fill:#3fb950}.back{fill:#d29922}.gone{fill:#f85149}
.said{fill:#d29922}
}";

/// What became of a file that a program had reported as written, in parts of all cuts that came then.
#[derive(Debug, Clone, Copy)]
struct Fate {
    /// Neither old nor new, or missing.
    gone: f64,
    /// An older one, or none where there had been none before.
    back: f64,
}

impl Fate {
    fn of(report: &Report, filesystem: &str, program: Program) -> Result<Self> {
        let row = format!("Power cut, {filesystem}: lost after exit status 0");
        let tally = report
            .tally(&row, program)
            .with_context(|| format!("the picture misses the row '{row}'"))?;
        Ok(Self {
            gone: tally.part(&[Harm::Torn, Harm::Missing]),
            back: tally.part(&[Harm::Lost]),
        })
    }

    fn words(self) -> String {
        match (self.gone, self.back) {
            (0.0, 0.0) => "0%".to_owned(),
            (gone, back) => format!(
                "<tspan class=\"gone\">{}</tspan> + <tspan class=\"said\">{}</tspan>",
                percent(gone),
                percent(back)
            ),
        }
    }
}

/// Not 0% for what happened.
fn percent(part: f64) -> String {
    match part * 100.0 {
        0.0 => "0%".to_owned(),
        some if some < 1.0 => "&lt; 1%".to_owned(),
        some => format!("{some:.0}%"),
    }
}

pub(crate) fn draw(report: &Report) -> Result<String> {
    let mut body = text(
        MARGIN,
        28,
        "head",
        "The power goes. What is left of the file?",
    );
    let keys = [
        ("gone", "destroyed: torn, empty, zeros, missing"),
        ("back", "the old one, though the new was reported"),
        ("whole", "the new one, as it was reported"),
    ];
    body += &text(
        MARGIN,
        48,
        "small faint",
        "In % of power cuts after it was reported as written.",
    );
    let mut y = 52;
    for (class, meaning) in keys {
        y += ROW;
        body += &bar(f64::from(MARGIN), y, 14.0, class);
        body += &text(MARGIN + 22, y, "small", meaning);
    }
    y += 8;
    for (row, filesystem) in FILESYSTEMS {
        y += ROW + 12;
        body += &text(MARGIN, y, "place", filesystem);
        for (program, name) in PROGRAMS {
            let fate = Fate::of(report, row, program)?;
            y += ROW;
            body += &text(BEGIN - 10, y, "small end", name);
            let length = f64::from(LENGTH);
            let (gone, back) = (fate.gone * length, fate.back * length);
            let begin = f64::from(BEGIN);
            body += &bar(begin, y, length, "whole");
            body += &bar(begin, y, gone + back, "back");
            body += &bar(begin, y, gone, "gone");
            body += &text(BEGIN + LENGTH + 10, y, "small faint", &fate.words());
        }
    }
    let height = y + MARGIN;
    Ok(format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" \
         height=\"{height}\" role=\"img\" aria-label=\"What is left of a file after a power cut\">\n\
         <style>\n{STYLE}\n</style>\n\
         <rect class=\"page\" width=\"100%\" height=\"100%\" rx=\"6\"/>\n{body}</svg>\n"
    ))
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
        "<rect x=\"{x:.0}\" y=\"{top}\" width=\"{length:.1}\" height=\"14\" class=\"{class}\"/>\n"
    )
}
