//! The pictures: the ratios as dots, and how the cost grows. SVG with colours for a light and a
//! dark page, narrow enough for a phone.

use crate::chart::{Chart, Series};
use crate::contest::Results;
use crate::growth::{self, Cost};
use crate::lines::Program;
use crate::work::{Input, LARGE, MANY, SMALL, Sync, Work};

/// What is done, by which of our ways, and how else a user would do it.
type Comparison = (
    &'static str,
    Work,
    Program,
    &'static [(Program, &'static str)],
);

const SHOWN: [Comparison; 7] = [
    (
        "100 bytes from a pipe",
        Work::new(Input::Held, SMALL, Sync::None),
        Program::Atomwrite,
        &[
            (Program::Sponge, "sponge"),
            (Program::CatMv, "cat >t && mv t f"),
        ],
    ),
    (
        "100 bytes from a pipe, and sync",
        Work::new(Input::Held, SMALL, Sync::Full),
        Program::Atomwrite,
        &[
            (Program::Sponge, "sponge f && sync f ."),
            (Program::CatMv, "cat, sync, mv, sync"),
            (Program::Dd, "dd conv=fsync, not atomic"),
        ],
    ),
    (
        "100 bytes from a command",
        Work::new(Input::Produced, SMALL, Sync::None),
        Program::AtomwriteCommand,
        &[(Program::Sh, "sh -c 'cmd >t && mv t f'")],
    ),
    (
        "256 MiB from a pipe",
        Work::new(Input::Produced, LARGE, Sync::None),
        Program::Atomwrite,
        &[
            (Program::Sponge, "sponge"),
            (Program::CatMv, "cat >t && mv t f"),
            (Program::Straight, "cmd >f, not atomic"),
        ],
    ),
    (
        "256 MiB from a file",
        Work::new(Input::File, LARGE, Sync::None),
        Program::Atomwrite,
        &[
            (Program::Sponge, "sponge"),
            (Program::CpMv, "cp src t && mv t f"),
            (Program::Install, "install, not atomic"),
        ],
    ),
    (
        "2,000 new files, and sync",
        Work::files(MANY),
        Program::AtomwriteTogether,
        &[(Program::CpTogether, "cp, sync; not atomic")],
    ),
    (
        "2,000 files over old ones, and sync",
        Work::files(MANY).over_an_old_one(),
        Program::AtomwriteTogether,
        &[(Program::CpTogether, "cp, sync, mv, sync")],
    ),
];

/// A phone shows a page of about 330 pixels: letters of 13 are still legible there.
const WIDTH: f64 = 400.0;
const MARGIN: f64 = 12.0;
const ROW: f64 = 20.0;
/// Where the scale of the dots begins and ends, and its values there.
const BEGIN: f64 = 222.0;
const END: f64 = 346.0;
const LEAST: f64 = 0.03;
const MOST: f64 = 2.0;

const STYLE: &str = "\
text{font:15px system-ui,-apple-system,'Segoe UI',Helvetica,Arial,sans-serif;fill:#1f2328}
.head{font-weight:600}.small{font-size:13px}.work{font-size:13px;font-weight:600}.faint{fill:#656d76}.end{text-anchor:end}.middle{text-anchor:middle}
.page{fill:#fff}.grid{stroke:#d8dee4;fill:none}.axis{stroke:#1f2328;fill:none}
.line{fill:none;stroke-width:1.6}.spread{stroke-width:4;stroke-opacity:.45}
.ours{color:#0969da;stroke-width:3}.command{color:#1b7c8e;stroke-width:3;stroke-dasharray:8 3}
.together{color:#8250df;stroke-width:3;stroke-dasharray:8 3}
.floor{color:#8c959f;stroke-dasharray:2 3}.straight{color:#57606a;stroke-dasharray:6 3}
.sponge{color:#cf222e;stroke-dasharray:9 3 2 3}.cat{color:#bc4c00}.cp{color:#1a7f37}.install{color:#7d4e00}.dd{color:#bf3989;stroke-dasharray:2 2 6 2}.batch{color:#9a6700;stroke-dasharray:2 2}
.faster{color:#0969da}.slower{color:#bc4c00}
.hollow{fill:#fff;stroke:currentColor;stroke-width:2}
.line,.spread{stroke:currentColor}.dot{fill:currentColor;stroke:none}
@media (prefers-color-scheme:dark){
text{fill:#e6edf3}.faint{fill:#9198a1}
.page,.hollow{fill:#0d1117}.grid{stroke:#30363d}.axis{stroke:#e6edf3}
.ours{color:#58a6ff}.command{color:#56d4dd}.together{color:#bc8cff}.floor{color:#6e7681}.straight{color:#b1bac4}
.sponge{color:#ff7b72}.cat{color:#ffa657}.cp{color:#56d364}.install{color:#e3b341}.dd{color:#f778ba}.batch{color:#d29922}
.faster{color:#58a6ff}.slower{color:#ffa657}
}";

/// Draws how atomwrite compares with other programs.
pub(crate) fn speed(results: &Results) -> String {
    let mut body = text(
        MARGIN,
        26.0,
        "head",
        "Time of atomwrite / time of another program",
    );
    let explained = [
        "0.5: atomwrite takes half the time. Dot: median of all",
        "rounds, hollow where atomwrite is slower. Bar: the middle",
        "half of the rounds.",
    ];
    let mut y = 28.0;
    for words in explained {
        y += ROW;
        body += &text(MARGIN, y, "small faint", words);
    }
    let height = draw_ratios(&mut body, y + 28.0, results) + MARGIN;
    frame(
        "Time of atomwrite, divided by the time of other programs",
        height,
        &body,
    )
}

/// Draws how time and memory grow.
pub(crate) fn growth(results: &Results) -> String {
    let mut body = String::new();
    let mut y = 14.0;
    for chart in charts(results) {
        let Some(drawn) = chart.draw(MARGIN, y) else {
            continue;
        };
        body += &drawn;
        y += chart.height() + 26.0;
    }
    frame(
        "How time and memory grow with the size, the number of files, the names in the directory and the writers",
        y,
        &body,
    )
}

fn frame(label: &str, height: f64, body: &str) -> String {
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH:.0} {height:.0}\" width=\"{WIDTH:.0}\" \
         height=\"{height:.0}\" role=\"img\" aria-label=\"{label}\">\n\
         <style>\n{STYLE}\n</style>\n\
         <rect class=\"page\" width=\"100%\" height=\"100%\" rx=\"6\"/>\n{body}</svg>\n"
    )
}

/// Draws the ratios, grouped by work, and returns where they end.
fn draw_ratios(body: &mut String, top: f64, results: &Results) -> f64 {
    let at = |ratio: f64| {
        let part = (ratio.clamp(LEAST, MOST) / LEAST).ln() / (MOST / LEAST).ln();
        BEGIN + (END - BEGIN) * part
    };
    let mut rows = String::new();
    let mut y = top;
    // A line through the names would make them hard to read.
    let mut ranges: Vec<(f64, f64)> = Vec::new();
    for (what, work, ours, others) in SHOWN {
        let Some(outcome) = results.of(work) else {
            continue;
        };
        y += ROW + 6.0;
        rows += &text(MARGIN, y, "work", what);
        let begin = y + 5.0;
        for (theirs, label) in others {
            let Some(ratio) = outcome.ratio(ours, *theirs) else {
                continue;
            };
            y += ROW;
            rows += &text(BEGIN - 14.0, y, "small faint end", label);
            let (class, shape) = if ratio.median < 1.0 {
                ("faster", "dot faster")
            } else {
                ("slower", "hollow slower")
            };
            let middle = y - 4.5;
            let (low, high) = (at(ratio.low), at(ratio.high));
            rows += &path(
                &format!("spread {class}"),
                &format!("M{low:.1} {middle:.1}H{high:.1}"),
            );
            rows += &circle(at(ratio.median), middle, 5.0, shape);
            let number = format!("{:.2}", ratio.median);
            rows += &text(WIDTH - MARGIN, y, "small end", &number);
        }
        ranges.push((begin, y + 3.0));
    }
    for tick in [0.05, 0.2, 0.5, 1.0, 2.0] {
        let x = at(tick);
        let class = if (0.9..1.1).contains(&tick) {
            "axis"
        } else {
            "grid"
        };
        for (from, to) in &ranges {
            *body += &path(class, &format!("M{x:.1} {from:.1}V{to:.1}"));
        }
        *body += &text(x, top + 2.0, "small faint middle", &tick.to_string());
    }
    *body += &rows;
    y
}

fn charts(results: &Results) -> Vec<Chart> {
    let mut charts = Vec::new();
    for growth in growth::all() {
        for cost in growth.costs {
            let word = match cost {
                Cost::Time => "Time",
                Cost::Memory => "Memory",
            };
            let mut chart = Chart {
                title: format!("{word} by {}", growth.with),
                cost: *cost,
                marks: Vec::new(),
                series: Vec::new(),
            };
            for program in growth.programs {
                let costs = growth.costs(*cost, *program, results);
                if chart.marks.len() < costs.len() {
                    let marks = costs.iter();
                    chart.marks = marks
                        .map(|(amount, label, _)| (*amount, (*label).to_owned()))
                        .collect();
                }
                let points: Vec<_> = costs
                    .iter()
                    .map(|(amount, _, cost)| (*amount, *cost))
                    .collect();
                if !points.is_empty() {
                    chart.series.push(Series {
                        program: *program,
                        points,
                    });
                }
            }
            charts.push(chart);
        }
    }
    charts
}

/// Returns the class of a program's line.
pub(crate) fn class(program: Program) -> &'static str {
    match program {
        Program::Atomwrite | Program::AtomwriteLoop => "ours",
        Program::AtomwriteCommand | Program::AtomwriteBackup | Program::AtomwriteOne => "command",
        Program::AtomwriteTogether => "together",
        Program::AtomwriteAlone | Program::Floor | Program::FloorTogether => "floor",
        Program::Straight => "straight",
        Program::Sponge => "sponge",
        Program::CatMv | Program::Sh => "cat",
        Program::CpMv => "cp",
        Program::Install => "install",
        Program::Dd => "dd",
        Program::CpTogether => "batch",
    }
}

pub(crate) fn text(x: f64, y: f64, class: &str, words: &str) -> String {
    let words = words
        .replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;");
    format!("<text class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\">{words}</text>\n")
}

pub(crate) fn path(class: &str, steps: &str) -> String {
    format!("<path class=\"{class}\" d=\"{steps}\"/>\n")
}

pub(crate) fn circle(x: f64, y: f64, radius: f64, class: &str) -> String {
    format!("<circle class=\"{class}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"{radius}\"/>\n")
}
