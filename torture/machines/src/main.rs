//! Tries atomwrite where this machine's own kernel cannot: on network filesystems with a server and
//! two clients, on other disks, and with a power switch. Virtual machines (QEMU without KVM) boot
//! Debian's kernels, the guest's scripts say how each check ends, and it all becomes one page.
//!
//! A promise that is broken fails the run, and so does one that was not tried.

mod archive;
mod devices;
mod known;
mod machine;
mod page;
mod plan;
mod power;
mod report;
mod root;
mod run;

use std::fs;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};

use crate::root::Boot;
use crate::run::Run;

const USAGE: &str = "machines [--short] [--publish] [--kernel old|new] [--cuts N] [--seed N] [--only PROMISE,...] \
    [NAME]...";

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

/// What the command line asks for.
#[derive(Debug, Default)]
struct Options {
    short: bool,
    publish: bool,
    boot: Option<Boot>,
    cuts: Option<u64>,
    seed: Option<u64>,
    only: String,
    names: Vec<String>,
}

impl Options {
    fn parse(mut words: impl Iterator<Item = String>) -> Result<Self> {
        let mut options = Self::default();
        while let Some(word) = words.next() {
            match word.as_str() {
                "--short" => options.short = true,
                "--publish" => options.publish = true,
                "--kernel" => {
                    options.boot = Some(match words.next().as_deref() {
                        Some("old") => Boot::Oldest,
                        Some("new") => Boot::Newest,
                        _ => bail!("--kernel is old or new; usage: {USAGE}"),
                    });
                }
                "--only" => options.only = words.next().unwrap_or_default(),
                "--cuts" => options.cuts = Some(number(words.next())?),
                "--seed" => options.seed = Some(number(words.next())?),
                name if name.starts_with('-') => bail!("what is '{name}'? usage: {USAGE}"),
                name => options.names.push(name.to_owned()),
            }
        }
        // A part that was tried in part would lose the rest of its results.
        ensure!(
            options.only.is_empty() || !options.publish,
            "--only cannot be published"
        );
        let long = !options.short && options.names.is_empty() && options.only.is_empty();
        options.publish |= long;
        Ok(options)
    }
}

/// Returns whether every promise is kept.
fn machines() -> Result<bool> {
    let options = Options::parse(std::env::args().skip(1))?;
    let parts = plan::parts(options.short, &options.names)?;
    let program = std::env::var_os("MACHINES_PROGRAM")
        .context("MACHINES_PROGRAM is not set: use 'make machines'")?;
    let program = fs::canonicalize(program).context("cannot find the program to be tested")?;
    let work = program.with_file_name("machines");
    fs::create_dir_all(&work)?;
    let began = Instant::now();
    let boot = options.boot.unwrap_or(if options.short {
        Boot::Newest
    } else {
        Boot::Each
    });
    let kernels = match root::prepare(&work, &program, boot) {
        Ok(kernels) => kernels,
        Err(error) if options.short => {
            eprintln!(
                "SKIPPED make machines: {error:#}; so nothing was tried on NFS, SMB and vfat, and no power was cut"
            );
            return Ok(true);
        }
        Err(error) => return Err(error),
    };
    println!("machines: ready to boot ({} s)", began.elapsed().as_secs());
    let run = Run {
        work,
        cuts: options.cuts.unwrap_or(if options.short { 1 } else { 50 }),
        seed: options.seed.unwrap_or(1),
        only: options.only,
    };
    let mut cells = Vec::new();
    let mut checks = 0;
    let mut is_good = true;
    run.all(&parts, &kernels, &mut |report| {
        let found = report.cells()?;
        if options.publish {
            page::publish(report.part, &report.kernel, &found)?;
        }
        cells.extend(found);
        checks += report.count();
        is_good &= report.is_good();
        Ok(())
    })?;
    println!("\n{}", page::draw(&cells));
    println!(
        "machines: {checks} checks in {} s: {}",
        began.elapsed().as_secs(),
        if is_good {
            "every promise is kept that can be"
        } else {
            "NOT every promise is kept"
        }
    );
    Ok(is_good)
}

fn number(word: Option<String>) -> Result<u64> {
    word.and_then(|word| word.parse().ok())
        .with_context(|| format!("a number is missing; usage: {USAGE}"))
}
