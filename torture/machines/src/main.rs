//! Tries atomwrite where this machine's own kernel cannot: on network filesystems with a server and
//! two clients, on other disks, and with a power switch. Virtual machines (QEMU without KVM) boot
//! Debian's kernels, the guest's scripts say how each check ends, and it all becomes one table.
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
mod run;

use std::fs;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::report::Report;
use crate::run::Run;

const USAGE: &str =
    "machines [--short] [--publish] [--cuts N] [--seed N] [--only PROMISE,...] [NAME]...";

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
    let mut publish = false;
    let mut cuts = None;
    let mut seed = 1;
    let mut only = String::new();
    let mut names = Vec::new();
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        match word.as_str() {
            "--short" => short = true,
            "--publish" => publish = true,
            "--only" => only = words.next().unwrap_or_default(),
            "--cuts" => cuts = Some(number(words.next())?),
            "--seed" => seed = number(words.next())?,
            name if name.starts_with('-') => bail!("what is '{name}'? usage: {USAGE}"),
            name => names.push(name.to_owned()),
        }
    }
    publish |= !short && names.is_empty() && only.is_empty();
    let parts = plan::parts(short, &names)?;
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
                "SKIPPED make machines: {error:#}; so nothing was tried on NFS and vfat, and no power was cut"
            );
            return Ok(true);
        }
        Err(error) => return Err(error),
    };
    println!("machines: ready to boot ({} s)", began.elapsed().as_secs());
    let run = Run {
        work,
        kernels,
        cuts: cuts.unwrap_or(if short { 1 } else { 50 }),
        seed,
        only,
        report: Report::default(),
    };
    run.all(&parts);
    let table = run.report.table();
    println!("\n{table}");
    let is_good = run.report.is_good();
    println!(
        "machines: {} checks in {} s: {}",
        run.report.count(),
        began.elapsed().as_secs(),
        if is_good {
            "every promise is kept that can be"
        } else {
            "NOT every promise is kept"
        }
    );
    if publish {
        fs::create_dir_all("torture/machines/results")?;
        fs::write("torture/machines/results/table.md", &table)?;
    }
    Ok(is_good)
}

fn number(word: Option<String>) -> Result<u64> {
    word.and_then(|word| word.parse().ok())
        .with_context(|| format!("a number is missing; usage: {USAGE}"))
}
