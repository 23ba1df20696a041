//! The machine, and the versions of the programs, in a line.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result};

use crate::launch::{Launcher, check};

/// Returns processor, memory, kernel, versions and date, for the page.
pub(crate) fn describe(launcher: &Launcher, ground: &str) -> Result<String> {
    let processors = fs::read_to_string("/proc/cpuinfo")?;
    let values = |name: &str| -> Vec<String> {
        let lines = processors.lines().filter(|line| line.starts_with(name));
        lines
            .filter_map(|line| Some(line.split_once(": ")?.1.trim().to_owned()))
            .collect()
    };
    let model = values("model name");
    let memory = fs::read_to_string("/proc/meminfo")?;
    let memory: u64 = memory
        .split_whitespace()
        .nth(1)
        .context("no memory")?
        .parse()?;
    let release = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let kernel = release.split('-').next().unwrap_or_default().trim();
    Ok(format!(
        "{}, {} cores, {} GiB; Linux {kernel}, Debian {}; {ground}. {}, a static binary; moreutils {}, coreutils {}, \
         gcc {}. Measured on {}.",
        model.first().map_or("an unknown processor", String::as_str),
        model.len(),
        (memory + (1 << 19)) >> 20,
        fs::read_to_string("/etc/debian_version")?.trim(),
        words(Command::new(launcher.program("atomwrite")).arg("--version"))?,
        package("moreutils")?,
        package("coreutils")?,
        words(Command::new("gcc").arg("-dumpfullversion"))?,
        words(Command::new("date").args(["-u", "+%F"]))?,
    ))
}

fn package(name: &str) -> Result<String> {
    words(Command::new("dpkg-query").args(["-W", "-f", "${Version}", name]))
}

fn words(command: &mut Command) -> Result<String> {
    Ok(String::from_utf8(check(command)?.stdout)?.trim().to_owned())
}

/// Returns the load of the last minute.
pub(crate) fn load() -> Result<f64> {
    let load = fs::read_to_string("/proc/loadavg")?;
    let load = load.split(' ').next().context("no load")?;
    Ok(load.parse()?)
}
