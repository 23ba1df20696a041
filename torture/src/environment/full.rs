//! No space left: on the disk, in the quota, in the inode table.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::course::{Bite, Course, Row};
use super::disk::{Ballast, DISKS, Disk};
use super::fault::{Fault, word};
use super::form::Writer;
use crate::child::tool;
use crate::report::Report;

/// The report's row.
pub(crate) const DISK_FULL: &str = "Disk full";

pub(super) fn run(course: &Course<'_>, report: &mut Report) -> Result<()> {
    let ground = course.ground;
    let mut disks = vec![Disk::memory(ground, "size=16m")?];
    for (kind, ..) in DISKS {
        disks.push(Disk::make(ground, kind)?);
    }
    let (mut before, mut midway) = (Row::default(), Row::default());
    for disk in &disks {
        for when in [When::Before { left: 0 }, When::Before { left: 1 << 20 }] {
            course.run(&mut Full::of(disk, when), Bite::Sure, &mut before)?;
        }
        // Disks reserve more for a growing file than it asks for, up to 8 MiB: it may not notice.
        let bite = if disk.kind() == "tmpfs" {
            Bite::Sure
        } else {
            Bite::Maybe
        };
        course.run(&mut Full::of(disk, When::Midway), bite, &mut midway)?;
    }
    drop(disks);
    before.report(DISK_FULL, report);
    midway.report("Disk full while the input comes", report);
    quota(course)?.report("Quota used up", report);

    let mut inodes = Row::default();
    let disks = [
        Disk::memory(ground, "size=64m,nr_inodes=64")?,
        Disk::make_with(ground, "ext4", 64, &["-q", "-F", "-m", "0", "-N", "16"], "")?,
    ];
    for disk in &disks {
        for left in 0..3 {
            let bite = if left == 0 { Bite::Sure } else { Bite::Maybe };
            course.run(&mut NoInodes::of(disk, left), bite, &mut inodes)?;
        }
    }
    inodes.report("No inodes left", report);
    Ok(())
}

/// By btrfs, which has its own quotas. The quotas of ext4 and xfs are not in every kernel.
fn quota(course: &Course<'_>) -> Result<Row> {
    let disk = Disk::make(course.ground, "btrfs")?;
    let volume = disk.top().join("volume");
    tool("btrfs", &["quota", "enable", word(disk.top())?])?;
    tool("btrfs", &["subvolume", "create", word(&volume)?])?;
    tool("btrfs", &["qgroup", "limit", "16M", word(&volume)?])?;
    let work = volume.join("work");
    fs::create_dir(&work).context("cannot make the directory for DEST")?;
    let mut row = Row::default();
    for when in [
        When::Before { left: 0 },
        When::Before { left: 1 << 20 },
        When::Midway,
    ] {
        let ballast = Ballast::new(&volume);
        let name = format!("quota of btrfs, {}", when.shown());
        let mut fault = Full {
            name,
            directory: work.clone(),
            ballast,
            when,
        };
        course.run(&mut fault, Bite::Sure, &mut row)?;
    }
    Ok(row)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum When {
    Before { left: u64 },
    Midway,
}

impl When {
    fn shown(self) -> String {
        match self {
            Self::Before { left } => format!("{left} bytes left"),
            Self::Midway => "used up when half of the input is read".to_owned(),
        }
    }
}

/// Another file takes all the space.
#[derive(Debug)]
struct Full {
    name: String,
    directory: PathBuf,
    ballast: Ballast,
    when: When,
}

impl Full {
    fn of(disk: &Disk, when: When) -> Self {
        Self {
            name: format!("full {}, {}", disk.kind(), when.shown()),
            directory: disk.work(),
            ballast: Ballast::new(disk.top()),
            when,
        }
    }
}

impl Fault for Full {
    fn shown(&self) -> String {
        self.name.clone()
    }

    fn directory(&self) -> &Path {
        &self.directory
    }

    fn begin(&mut self) -> Result<()> {
        match self.when {
            When::Before { left } => self.ballast.fill(left),
            When::Midway => Ok(()),
        }
    }

    fn comes_midway(&self) -> bool {
        self.when == When::Midway
    }

    fn midway(&mut self) -> Result<()> {
        self.ballast.fill(0)
    }

    fn mend(&mut self) -> Result<()> {
        self.ballast.empty()
    }
}

/// Other files take all the inodes.
#[derive(Debug)]
struct NoInodes {
    name: String,
    directory: PathBuf,
    others: PathBuf,
    left: usize,
}

/// More than any filesystem of ours has.
const MANY: usize = 10_000;

impl NoInodes {
    fn of(disk: &Disk, left: usize) -> Self {
        Self {
            name: format!("{} with {left} inodes left", disk.kind()),
            directory: disk.work(),
            others: disk.top().join("others"),
            left,
        }
    }
}

impl Fault for NoInodes {
    fn shown(&self) -> String {
        self.name.clone()
    }

    fn directory(&self) -> &Path {
        &self.directory
    }

    fn begin(&mut self) -> Result<()> {
        fs::create_dir(&self.others).context("cannot use up inodes")?;
        let name = |number: usize| self.others.join(number.to_string());
        for number in 0..MANY {
            match File::create_new(name(number)) {
                Ok(_) => {}
                Err(error) if error.kind() == std::io::ErrorKind::StorageFull => {
                    for last in number.saturating_sub(self.left)..number {
                        fs::remove_file(name(last)).context("cannot leave an inode")?;
                    }
                    return Ok(());
                }
                Err(error) => return Err(error).context("cannot use up inodes"),
            }
        }
        bail!("the inodes do not end")
    }

    fn mend(&mut self) -> Result<()> {
        fs::remove_dir_all(&self.others).context("cannot give inodes back")
    }

    fn concerns(&self, writer: Writer) -> bool {
        // The same for each of the others, with one inode or two.
        self.left == 0 || writer.form().is_some()
    }
}
