//! The tables, in Markdown: the limits, the usual ways, and how the cost grows.

use crate::contest::Results;
use crate::growth::{self, Cost, STEEPEST};
use crate::limits::{LIMITS, Limit, MEMORY};
use crate::lines::Program;
use crate::statistics::Spread;
use crate::work::{Input, LARGE, MIB, NAMES, SMALL, Sync, Work, grouped};

/// Returns what stands below the picture of the ratios.
pub(crate) fn draw(results: &Results, machine: &str) -> String {
    let limits = limits(results);
    let usual = usual(results);
    let growth = growth(results);
    format!(
        "{machine}\n\n\
         ### The limits\n\n\
         Time and memory: `atomwrite` / the other program. A ratio above its limit is bold.\n\n\
         {limits}\n\
         ### The usual ways\n\n\
         In the columns of the other programs: the time of `atomwrite` divided by the program's (quartiles), and the \
         program's peak memory.\n\n\
         {usual}\n\
         ### Growth\n\n\
         ![Times and memory, by size, number of files, names in the directory and writers](results/growth.svg)\n\n\
         The steepest step: how many times the time or memory for each byte, file, name or writer rises from one \
         mark of the picture to the next, divided by the rise of a program that only writes. 1.00 is linear; less is \
         better.\n\n\
         {growth}"
    )
}

/// Returns a line for all that is above its limit.
pub(crate) fn missed(results: &Results) -> Vec<String> {
    let tables = [limits(results), growth(results)].concat();
    let rows = tables.lines().filter(|row| row.contains("**"));
    rows.map(|row| format!("above its limit: {row}")).collect()
}

fn limits(results: &Results) -> String {
    let mut table = "\
        | work | it measures | against | time | ratio (quartiles) | at most | memory | rounds |\n\
        |---|---|---|--:|--:|--:|--:|--:|\n"
        .to_owned();
    let mut reasons = Vec::new();
    for limit in &LIMITS {
        let Some(ratio) = limit.ratio(results) else {
            continue;
        };
        table += &row(limit, ratio, results).unwrap_or_default();
        if !limit.is_kept(ratio) && !limit.why.is_empty() {
            let reason = format!("* Against {}: {}\n", limit.against, limit.why);
            if !reasons.contains(&reason) {
                reasons.push(reason);
            }
        }
    }
    if let Some(peak) = results.peak() {
        let peak = bold_unless(peak <= MEMORY, memory(peak));
        let most = memory(MEMORY);
        let what = "peak memory of one file, any work of this page";
        table += &join::<&str>(&[what, "memory", "", "", "", &most, &peak, ""]);
    }
    if !reasons.is_empty() {
        table += "\nWhy these rows are above their limits:\n\n";
        table += &reasons.concat();
    }
    table
}

fn row(limit: &Limit, ratio: Spread, results: &Results) -> Option<String> {
    let outcome = results.of(limit.work)?;
    Some(format!(
        "| {} | {} | {} | {} / {} | {} | {:.2} | {} / {} | {} |\n",
        limit.what,
        limit.measures,
        limit.against,
        duration(outcome.time(limit.ours)?),
        duration(outcome.time(limit.theirs)?),
        bold_unless(limit.is_kept(ratio), spread(ratio)),
        limit.most,
        memory(outcome.peak(limit.ours)?),
        memory(outcome.peak(limit.theirs)?),
        outcome.rounds,
    ))
}

/// The works for which there are several usual programs.
const USUAL: [Work; 8] = [
    Work::new(Input::Held, SMALL, Sync::None),
    Work::new(Input::Held, SMALL, Sync::Full),
    Work::new(Input::Produced, MIB, Sync::None),
    Work::new(Input::Produced, LARGE, Sync::None),
    Work::new(Input::File, SMALL, Sync::None),
    Work::new(Input::File, MIB, Sync::None),
    Work::new(Input::File, LARGE, Sync::None),
    Work::new(Input::Foreign, LARGE, Sync::None),
];

const OTHERS: [Program; 5] = [
    Program::Sponge,
    Program::CatMv,
    Program::CpMv,
    Program::Install,
    Program::Dd,
];

fn usual(results: &Results) -> String {
    let mut head = vec!["work", "`atomwrite`", "memory", "rounds"];
    head.extend(OTHERS.iter().map(|program| program.label()));
    let mut table = join(&head);
    table += "|---|--:|--:|--:|";
    table += &"--:|".repeat(OTHERS.len());
    table.push('\n');
    for work in USUAL {
        table += &line(work, results).unwrap_or_default();
    }
    table
}

fn line(work: Work, results: &Results) -> Option<String> {
    let outcome = results.of(work)?;
    let ours = Program::Atomwrite;
    let mut cells = vec![
        work.to_string(),
        duration(outcome.time(ours)?),
        memory(outcome.peak(ours)?),
        outcome.rounds.to_string(),
    ];
    cells.extend(OTHERS.map(|theirs| {
        let ratio = outcome.ratio(ours, theirs).map(spread);
        let peak = outcome.peak(theirs).map(memory);
        ratio
            .zip(peak)
            .map_or_else(String::new, |(ratio, peak)| format!("{ratio}, {peak}"))
    }));
    Some(join(&cells))
}

fn growth(results: &Results) -> String {
    let mut table = "\
        | what grows | with | from | to | steepest step | at most |\n\
        |---|---|--:|--:|--:|--:|\n"
        .to_owned();
    let most = format!("{STEEPEST:.2}");
    for growth in &growth::all() {
        for cost in growth.costs {
            for program in growth.programs.iter().filter(|program| program.is_ours()) {
                let costs = growth.costs(*cost, *program, results);
                let (Some(first), Some(last), Some(step)) = (
                    costs.first(),
                    costs.last(),
                    growth.steepest(*cost, *program, results),
                ) else {
                    continue;
                };
                let (word, format): (_, fn(f64) -> String) = match cost {
                    Cost::Time => ("time", duration),
                    Cost::Memory => ("memory", mebibytes),
                };
                let rise = bold_unless(step.rise <= STEEPEST, format!("{:.2}", step.rise));
                table += &join::<&str>(&[
                    &format!("{word} of {}", program.label()),
                    growth.with,
                    &format!("{}: {}", first.1, format(first.2)),
                    &format!("{}: {}", last.1, format(last.2)),
                    &format!("{rise} ({} to {})", step.from, step.to),
                    &most,
                ]);
            }
        }
    }
    table += &crowded(results).unwrap_or_default();
    table
}

/// Returns whether a small write costs the same in a directory of many names.
fn crowded(results: &Results) -> Option<String> {
    let count = *NAMES.last()?;
    let outcome = results.of(Work::among(count))?;
    let ratio = outcome.ratio(Program::Atomwrite, Program::AtomwriteAlone)?;
    let shown = bold_unless(ratio.low <= 1.0, spread(ratio));
    Some(format!(
        "\nA small write in a directory of {} names takes {shown} of the same in a directory without other names. The \
         lower quartile must not exceed 1.\n",
        grouped(count)
    ))
}

fn join<S: AsRef<str>>(cells: &[S]) -> String {
    let cells: Vec<&str> = cells.iter().map(AsRef::as_ref).collect();
    format!("| {} |\n", cells.join(" | "))
}

fn bold_unless(kept: bool, cell: String) -> String {
    if kept { cell } else { format!("**{cell}**") }
}

fn spread(spread: Spread) -> String {
    let Spread { low, median, high } = spread;
    format!("{median:.2} ({low:.2} to {high:.2})")
}

/// Formats a time, as in "3.1 ms".
pub(crate) fn duration(seconds: f64) -> String {
    let (value, unit) = if seconds < 1e-3 {
        (seconds * 1e6, "µs")
    } else if seconds < 1.0 {
        (seconds * 1e3, "ms")
    } else {
        (seconds, "s")
    };
    let digits = if value < 9.995 {
        2
    } else {
        usize::from(value < 99.95)
    };
    format!("{value:.digits$} {unit}")
}

/// Formats an amount of memory, as in "1.6 MiB".
#[expect(
    clippy::cast_precision_loss,
    reason = "2^53 KiB are no machine's memory"
)]
fn memory(kib: u64) -> String {
    if kib == 0 {
        return "–".to_owned();
    }
    mebibytes(kib as f64)
}

fn mebibytes(kib: f64) -> String {
    let mib = kib / 1024.0;
    let digits = usize::from(mib < 99.95);
    format!("{mib:.digits$} MiB")
}
