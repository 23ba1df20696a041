//! Limits of the process itself: the size of its files, the number of its descriptors.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;
use nix::sys::resource::{Resource, setrlimit};

use super::course::{Bite, Course, Row};
use super::disk::Disk;
use super::fault::{Fault, before_exec};
use crate::report::Report;

/// From none but the three that every program has, to what each form can do with.
const DESCRIPTORS: std::ops::Range<u64> = 3..16;

pub(super) fn run(course: &Course<'_>, report: &mut Report) -> Result<()> {
    let mut sizes = Row::default();
    for size in [0, 10, 64 << 10, 2 << 20] {
        let name = format!("file size limit of {size} bytes");
        let mut fault = Limit::new(course, name, Resource::RLIMIT_FSIZE, size)?;
        course.run(&mut fault, Bite::Sure, &mut sizes)?;
    }
    sizes.report("File size limit", report);

    let mut descriptors = Row::default();
    for number in DESCRIPTORS {
        let name = format!("at most {number} descriptors");
        let mut fault = Limit::new(course, name, Resource::RLIMIT_NOFILE, number)?;
        let bite = if number == DESCRIPTORS.start {
            Bite::Sure
        } else {
            Bite::Maybe
        };
        course.run(&mut fault, bite, &mut descriptors)?;
    }
    descriptors.report("No descriptors left", report);
    Ok(())
}

#[derive(Debug)]
struct Limit {
    name: String,
    directory: PathBuf,
    _disk: Disk,
    resource: Resource,
    most: u64,
}

impl Limit {
    fn new(course: &Course<'_>, name: String, resource: Resource, most: u64) -> Result<Self> {
        let disk = Disk::memory(course.ground, "size=64m")?;
        Ok(Self {
            name,
            directory: disk.work(),
            _disk: disk,
            resource,
            most,
        })
    }
}

impl Fault for Limit {
    fn shown(&self) -> String {
        self.name.clone()
    }

    fn directory(&self) -> &Path {
        &self.directory
    }

    fn one_in(&self) -> usize {
        12
    }

    fn confine(&self, command: &mut Command) -> Result<()> {
        let (resource, most) = (self.resource, self.most);
        before_exec(command, move || Ok(setrlimit(resource, most, most)?));
        Ok(())
    }
}
