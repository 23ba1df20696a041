//! The table, in Markdown: first the limits, then every size.

use crate::contest::{Calls, Outcome, Results};
use crate::limits::{CALLS, LIMITS, Limit, MEMORY};
use crate::lines::Program;
use crate::statistics::Spread;
use crate::work::{Input, Old, SIZES, SMALL, Sync, Work, human};

/// Returns what stands below the pictures.
pub(crate) fn draw(results: &Results, machine: &str) -> String {
    let limits = limits(results);
    let sizes = sizes(results);
    format!(
        "{machine}\n\n\
         ### The limits\n\n\
         Time, system calls and memory: `atomwrite` / the other program. A ratio above its limit is bold.\n\n\
         {limits}\n\
         ### All sizes\n\n\
         In the columns of the other programs: the time of `atomwrite` divided by the program's (quartiles), and the \
         program's peak memory.\n\n\
         {sizes}"
    )
}

fn limits(results: &Results) -> String {
    let mut table = "\
        | work | against | time, calls | ratio (quartiles) | at most | memory | rounds |\n\
        |---|---|--:|--:|--:|--:|--:|\n"
        .to_owned();
    for limit in &LIMITS {
        table += &row(limit, results).unwrap_or_default();
    }
    if let Some(peak) = results.peak() {
        let peak = bold_unless(peak <= MEMORY, memory(peak));
        let most = memory(MEMORY);
        let what = "peak memory, any size";
        table += &join(&[what, "", "", "", &most, &peak, ""]);
    }
    for old in [Old::Removed, Old::Replaced] {
        table += &calls(&results.calls, old).unwrap_or_default();
    }
    table
}

fn row(limit: &Limit, results: &Results) -> Option<String> {
    let outcome = results.of(limit.work)?;
    let ratio = limit.ratio(results)?;
    Some(format!(
        "| {} | {} | {} / {} | {} | {:.2} | {} / {} | {} |\n",
        limit.what,
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

fn calls(calls: &[Calls], old: Old) -> Option<String> {
    let of = |program| {
        Some(
            calls
                .iter()
                .find(|one| one.program == program && one.old == old)?
                .count,
        )
    };
    let count = of(Program::Atomwrite)?;
    let what = match old {
        Old::Removed => "a new file",
        Old::Replaced => "over an old file",
    };
    Some(format!(
        "| system calls, 100 B, no fsync, {what} | `sponge`, the floor | {} / {}, {} | | {CALLS} | | |\n",
        bold_unless(count <= CALLS, count.to_string()),
        of(Program::Sponge)?,
        of(Program::Floor)?,
    ))
}

const OTHERS: [Program; 7] = [
    Program::Floor,
    Program::Straight,
    Program::Sponge,
    Program::CatMv,
    Program::CpMv,
    Program::Install,
    Program::Dd,
];

fn sizes(results: &Results) -> String {
    let mut head = vec!["input", "size", "sync", "`atomwrite`", "memory", "rounds"];
    head.extend(OTHERS.iter().map(|program| program.label()));
    let mut table = join(&head);
    table += "|---|--:|---|--:|--:|--:|";
    table += &"--:|".repeat(OTHERS.len());
    table.push('\n');
    for sync in [Sync::None, Sync::Full] {
        for size in SIZES {
            let from = if size == SMALL {
                Input::Held
            } else {
                Input::Produced
            };
            let pipe = Work::new(from, size, sync);
            table += &line("pipe", pipe, Program::Atomwrite, results).unwrap_or_default();
            if size == SMALL {
                let work = pipe.over_an_old_one();
                table += &line("pipe, over an old file", work, Program::Atomwrite, results)
                    .unwrap_or_default();
            }
        }
        for size in SIZES {
            let work = Work::new(Input::File, size, sync);
            table += &line("file", work, Program::Atomwrite, results).unwrap_or_default();
        }
        for size in SIZES {
            let work = Work::new(Input::Produced, size, sync);
            table += &line("COMMAND", work, Program::AtomwriteCommand, results).unwrap_or_default();
        }
    }
    table
}

fn line(input: &str, work: Work, ours: Program, results: &Results) -> Option<String> {
    let outcome = results.of(work)?;
    let mut cells = vec![
        input.to_owned(),
        human(work.size),
        work.sync.to_string(),
        duration(outcome.time(ours)?),
        memory(outcome.peak(ours)?),
        outcome.rounds.to_string(),
    ];
    let others = OTHERS.iter();
    cells.extend(others.map(|theirs| cell(outcome, ours, *theirs).unwrap_or_default()));
    Some(join(&cells))
}

fn cell(outcome: &Outcome, ours: Program, theirs: Program) -> Option<String> {
    let ratio = outcome.ratio(ours, theirs)?;
    let peak = outcome.peak(theirs)?;
    Some(format!("{}, {}", spread(ratio), memory(peak)))
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
    let mib = kib as f64 / 1024.0;
    let digits = usize::from(mib < 99.95);
    format!("{mib:.digits$} MiB")
}
