//! Tries atomwrite where this machine's own kernel cannot: on network filesystems with a server and two clients, on other
//! disks, and with a power switch. Virtual machines (QEMU without KVM) boot Debian's kernels, the guest's scripts say how each
//! check ends, and it all becomes one table.
//!
//! A promise that is broken fails the run, and so does one that was not tried.

mod archive;
mod devices;
mod known;
mod machine;
mod plan;
mod power;
mod report;
mod root;

use std::fs;
use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use rand::SeedableRng;
use rand::rngs::StdRng;

use crate::devices::Devices;
use crate::machine::{Machine, Plan, Said};
use crate::plan::{Part, Work};
use crate::report::{Report, Verdict};
use crate::root::Kernel;

const USAGE: &str = "machines [--short] [--cuts N] [--seed N] [NAME]...";

fn main() -> ExitCode {
    match machines() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("machines: {error:#}");
            ExitCode::from(2)
        }
    }
}

/// Returns whether every promise is kept.
fn machines() -> Result<bool> {
    let mut short = false;
    let mut cuts = None;
    let mut seed = 1;
    let mut names = Vec::new();
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        match word.as_str() {
            "--short" => short = true,
            "--cuts" => cuts = Some(number(words.next())?),
            "--seed" => seed = number(words.next())?,
            name if name.starts_with('-') => bail!("what is '{name}'? usage: {USAGE}"),
            name => names.push(name.to_owned()),
        }
    }
    let parts = plan::parts(short, &names)?;
    let cuts = cuts.unwrap_or(if short { 1 } else { 50 });
    let program = std::env::var_os("MACHINES_PROGRAM")
        .context("MACHINES_PROGRAM is not set: use 'make machines'")?;
    let program = fs::canonicalize(program).context("cannot find the program to be tested")?;
    let work = program.with_file_name("machines");
    fs::create_dir_all(&work)?;
    let began = Instant::now();
    let kernels = match root::prepare(&work, &program) {
        Ok(kernels) => kernels,
        Err(error) if short => {
            eprintln!(
                "SKIPPED make machines: {error:#}; so nothing was tried on NFS, SMB and vfat, and no power was cut"
            );
            return Ok(true);
        }
        Err(error) => return Err(error),
    };
    println!("machines: ready to boot ({} s)", began.elapsed().as_secs());
    let mut report = Report::default();
    let mut random = StdRng::seed_from_u64(seed);
    let mut harms = String::new();
    for part in parts {
        let kernel = part.kernel(&kernels);
        println!(
            "machines: {} with Linux {} ({} s)",
            part.name,
            kernel.series(),
            began.elapsed().as_secs()
        );
        match part.work {
            Work::Checks(rows, promises) => {
                for row in rows {
                    report.begin(row, promises);
                }
                if let Err(error) = check(&work, kernel, &part, &mut report) {
                    let why = format!("{error:#}");
                    report.add(rows[0], promises[0], Verdict::Missing, "the machine", &why);
                }
            }
            Work::Cuts(filesystem) => {
                match power::run(&work, kernel, filesystem, cuts, &mut random, &mut report) {
                    Ok(found) => harms.push_str(&power::row(filesystem, &found)),
                    Err(error) => {
                        let why = format!("{error:#}");
                        report.add(filesystem, "power", Verdict::Broken, "the machine", &why);
                    }
                }
            }
        }
    }
    let table = format!("{}\n{}{harms}", report.table(), power::HEADING);
    println!("\n{table}");
    println!(
        "machines: {} checks in {} s: {}",
        report.count(),
        began.elapsed().as_secs(),
        if report.is_good() {
            "every promise is kept that can be"
        } else {
            "NOT every promise is kept"
        }
    );
    if !short && names.is_empty() {
        fs::create_dir_all("torture/machines/results")?;
        fs::write("torture/machines/results/table.md", &table)?;
    }
    Ok(report.is_good())
}

fn number(word: Option<String>) -> Result<u64> {
    word.and_then(|word| word.parse().ok())
        .with_context(|| format!("a number is missing; usage: {USAGE}"))
}

/// Runs a script of checks to its end.
fn check(work: &Path, kernel: &Kernel, part: &Part, report: &mut Report) -> Result<()> {
    let devices = Devices::prepare(work, part)?;
    let script: Vec<String> = part.script.iter().map(|&word| word.to_owned()).collect();
    let machine = Machine::boot(
        work,
        &Plan {
            kernel,
            name: part.name,
            script: &script,
            devices: devices.words(),
        },
    )?;
    let mut ended = false;
    while let Said::Line(line) = machine.next()? {
        let words: Vec<&str> = line.splitn(6, '\t').collect();
        match words[..] {
            ["CELL", row, promise, verdict, check, detail] => {
                let verdict = match verdict {
                    "kept" => Verdict::Kept,
                    "cannot" => Verdict::SaidNo,
                    _ => Verdict::Broken,
                };
                report.add(row, promise, verdict, check, detail);
            }
            _ => ended |= line.starts_with("END "),
        }
    }
    ensure!(ended, "it has not come to its end{}", machine.last_words());
    Ok(())
}
