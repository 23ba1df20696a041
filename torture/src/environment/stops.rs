//! Filesystems that stop accepting writes during the input, or as soon as the program has ended.
//!
//! ext4 becomes read-only after an error (here from its own trigger in /sys), a btrfs subvolume
//! when its property says so. Neither depends on open files, as a remount would. An ioctl shuts xfs
//! and ext4 down without writing what is in memory: the next mount shows what a power cut would
//! have left. Forms that do not sync are left out there.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::course::{Bite, Course, Row};
use super::disk::{DISKS, Disk};
use super::fault::{Expect, Fault, word};
use super::form::{Form, Writer};
use crate::child::tool;
use crate::report::Report;

pub(super) fn run(course: &Course<'_>, report: &mut Report) -> Result<()> {
    let ground = course.ground;
    let mut row = Row::default();
    let (_, size, words) = DISKS[0];
    let mut disk = Disk::make_with(ground, "ext4", size, words, "errors=remount-ro")?;
    course.run(&mut Stop::new(&mut disk, Way::Error), Bite::Sure, &mut row)?;
    course.run(
        &mut Stop::new(&mut disk, Way::Remount),
        Bite::Sure,
        &mut row,
    )?;
    let mut disk = Disk::make(ground, "btrfs")?;
    let volume = disk.top().join("volume");
    tool("btrfs", &["subvolume", "create", word(&volume)?])?;
    let work = volume.join("work");
    fs::create_dir(&work).context("cannot make the directory for DEST")?;
    let mut fault = Stop {
        disk: &mut disk,
        work,
        way: Way::Property,
    };
    course.run(&mut fault, Bite::Sure, &mut row)?;
    row.report("Read-only while the input comes", report);

    let (mut midway, mut after) = (Row::default(), Row::default());
    for kind in ["xfs", "ext4"] {
        let mut disk = Disk::make(ground, kind)?;
        course.run(
            &mut Stop::new(&mut disk, Way::Shutdown(When::Midway)),
            Bite::Sure,
            &mut midway,
        )?;
        course.run(
            &mut Stop::new(&mut disk, Way::Shutdown(When::After)),
            Bite::Maybe,
            &mut after,
        )?;
    }
    midway.report("Filesystem shut down while the input comes", report);
    after.report("Filesystem shut down after the end", report);
    Ok(())
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum When {
    Midway,
    After,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// ext4 finds an error.
    Error,
    /// From the start, because no process may have a file open.
    Remount,
    /// A btrfs property makes the subvolume read-only.
    Property,
    Shutdown(When),
}

#[derive(Debug)]
struct Stop<'d> {
    disk: &'d mut Disk,
    work: PathBuf,
    way: Way,
}

impl<'d> Stop<'d> {
    fn new(disk: &'d mut Disk, way: Way) -> Self {
        let work = disk.work();
        Self { disk, work, way }
    }

    fn volume(&self) -> Result<&str> {
        word(
            self.work
                .parent()
                .context("a directory for DEST is in nothing")?,
        )
    }

    fn shut_down(&self) -> Result<()> {
        tool("xfs_io", &["-x", "-c", "shutdown", word(self.disk.top())?])?;
        // It must be down, or nothing is tested.
        if fs::write(self.disk.top().join("probe"), "").is_ok() {
            bail!(
                "{} can still be written to after its shutdown",
                self.disk.kind()
            );
        }
        Ok(())
    }
}

impl Fault for Stop<'_> {
    fn shown(&self) -> String {
        let kind = self.disk.kind();
        match self.way {
            Way::Error => format!("{kind} finds an error when half of the input is read"),
            Way::Remount => format!("{kind} is mounted read-only"),
            Way::Property => format!("{kind} becomes read-only when half of the input is read"),
            Way::Shutdown(When::Midway) => {
                format!("{kind} is shut down when half of the input is read")
            }
            Way::Shutdown(When::After) => format!("{kind} is shut down when the program has ended"),
        }
    }

    fn directory(&self) -> &Path {
        &self.work
    }

    fn begin(&mut self) -> Result<()> {
        self.disk.sync()?;
        match self.way {
            Way::Remount => tool("mount", &["-o", "remount,ro", word(self.disk.top())?]),
            _ => Ok(()),
        }
    }

    fn comes_midway(&self) -> bool {
        matches!(
            self.way,
            Way::Error | Way::Property | Way::Shutdown(When::Midway)
        )
    }

    fn midway(&mut self) -> Result<()> {
        match self.way {
            Way::Error => {
                let trigger = format!("/sys/fs/ext4/{}/trigger_fs_error", self.disk.device()?);
                fs::write(&trigger, "torture").with_context(|| format!("cannot write {trigger}"))
            }
            Way::Property => tool(
                "btrfs",
                &[
                    "property",
                    "set",
                    "-t",
                    "subvol",
                    self.volume()?,
                    "ro",
                    "true",
                ],
            ),
            Way::Remount | Way::Shutdown(_) => self.shut_down(),
        }
    }

    fn ended(&mut self) -> Result<()> {
        if self.way == Way::Shutdown(When::After) {
            return self.shut_down();
        }
        Ok(())
    }

    fn mend(&mut self) -> Result<()> {
        match self.way {
            Way::Remount => tool("mount", &["-o", "remount,rw", word(self.disk.top())?]),
            Way::Property => tool(
                "btrfs",
                &[
                    "property",
                    "set",
                    "-f",
                    "-t",
                    "subvol",
                    self.volume()?,
                    "ro",
                    "false",
                ],
            ),
            Way::Error | Way::Shutdown(_) => self.disk.mount_again(),
        }
    }

    fn keeps_names(&self) -> bool {
        self.way != Way::Remount
    }

    fn concerns(&self, writer: Writer) -> bool {
        // What is promised after a power loss.
        let is_durable = writer.form().is_none_or(Form::is_synced);
        is_durable || !matches!(self.way, Way::Shutdown(_))
    }

    fn expect(&self, _writer: Writer) -> Expect {
        match self.way {
            Way::Shutdown(When::After) => Expect::Success,
            _ => Expect::Failure,
        }
    }
}
