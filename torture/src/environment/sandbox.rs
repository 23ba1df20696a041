//! Sandboxes: a process with fewer rights, as in a container or under systemd.
//!
//! The size of its files and the number of its descriptors are limited; seccomp filters fail single
//! calls; Landlock rules allow some changes in some directories only; or /proc or /dev is missing.
//! Where atomwrite has a fallback, it must use it. Otherwise it must fail cleanly.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, ensure};
use landlock::{
    ABI, Access, AccessFs, BitFlags, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset,
    RulesetAttr, RulesetCreatedAttr,
};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::sys::resource::{Resource, setrlimit};

use super::calls::{CALLS, Call};
use super::child;
use super::course::{Bite, Course, Row};
use super::disk::Disk;
use super::fault::{Expect, Fault, before_exec};
use super::form::Writer;
use crate::ground::Ground;
use crate::lacking::{Calls, UNNAMED_FILES, refusing};
use crate::report::Report;

pub(super) fn run(course: &Course<'_>, report: &mut Report) -> Result<()> {
    bare(course)?.report("No /proc, no /dev", report);
    filters(course)?.report("Seccomp forbids calls", report);
    rules(course)?.report("Landlock forbids changes", report);
    Ok(())
}

/// As on a filesystem without O_TMPFILE.
pub(super) fn without_unnamed_files(command: &mut Command) -> Result<()> {
    forbid(command, [UNNAMED_FILES], libc::EOPNOTSUPP)
}

/// From none but the three that every program has, to what each form can do with.
const DESCRIPTORS: std::ops::Range<u64> = 3..16;

pub(super) fn limits(course: &Course<'_>, report: &mut Report) -> Result<()> {
    let mut sizes = Row::default();
    for size in [0, 10, 64 << 10, 2 << 20] {
        let name = format!("file size limit of {size} bytes");
        let walls = Walls::Limit(Resource::RLIMIT_FSIZE, size);
        course.run(
            &mut Sandbox::new(course.ground, name, walls)?,
            Bite::Sure,
            &mut sizes,
        )?;
    }
    sizes.report("File size limit", report);

    let mut descriptors = Row::default();
    for number in DESCRIPTORS {
        let name = format!("at most {number} descriptors");
        let walls = Walls::Limit(Resource::RLIMIT_NOFILE, number);
        let bite = if number == DESCRIPTORS.start {
            Bite::Sure
        } else {
            Bite::Maybe
        };
        course.run(
            &mut Sandbox::new(course.ground, name, walls)?,
            bite,
            &mut descriptors,
        )?;
    }
    descriptors.report("No descriptors left", report);
    Ok(())
}

fn bare(course: &Course<'_>) -> Result<Row> {
    let mut row = Row::default();
    for (name, missing) in [
        ("no /proc", &["/proc"][..]),
        ("an empty /dev", &["/dev"]),
        ("no /proc, and an empty /dev", &["/proc", "/dev"]),
    ] {
        let mut fault = Sandbox::new(course.ground, name.to_owned(), Walls::Missing(missing))?;
        fault.prove_bare(missing)?;
        course.run(&mut fault, Bite::Maybe, &mut row)?;
    }
    Ok(row)
}

fn filters(course: &Course<'_>) -> Result<Row> {
    let mut row = Row::default();
    for errno in [libc::EPERM, libc::ENOSYS, libc::EOPNOTSUPP] {
        let shown = io::Error::from_raw_os_error(errno);
        let alone = CALLS
            .iter()
            .map(|call| (call.name, std::slice::from_ref(call)));
        for (name, calls) in alone.chain([("all of them at once", &CALLS[..])]) {
            let name = format!("{name}: {shown}");
            let walls = Walls::Filter(calls, errno);
            course.run(
                &mut Sandbox::new(course.ground, name, walls)?,
                Bite::Maybe,
                &mut row,
            )?;
        }
    }
    Ok(row)
}

fn rules(course: &Course<'_>) -> Result<Row> {
    let mut row = Row::default();
    let all = AccessFs::from_all(ABI::V3);
    let read = AccessFs::from_read(ABI::V3);
    for (name, here, file, bite) in [
        (
            "nothing outside DEST's directory may change",
            all,
            read,
            Bite::Maybe,
        ),
        (
            "no moves between directories",
            all & !AccessFs::Refer,
            read,
            Bite::BySome,
        ),
        ("no new files", all & !AccessFs::MakeReg, read, Bite::Sure),
        (
            "no new directories",
            all & !AccessFs::MakeDir,
            read,
            Bite::BySome,
        ),
        (
            "no file may be removed",
            all & !AccessFs::RemoveFile,
            read,
            Bite::BySome,
        ),
        (
            "no file may be shortened",
            all & !AccessFs::Truncate,
            read,
            Bite::Maybe,
        ),
        (
            "no file may be written",
            all & !AccessFs::WriteFile,
            read,
            Bite::Sure,
        ),
        (
            "the directory may not be read",
            all & !AccessFs::ReadDir,
            read,
            Bite::Maybe,
        ),
        (
            "only DEST itself may be written",
            read,
            read | AccessFs::WriteFile | AccessFs::Truncate,
            Bite::Sure,
        ),
        ("all may be read only", read, read, Bite::Sure),
    ] {
        let walls = Walls::Rules { here, file };
        course.run(
            &mut Sandbox::new(course.ground, name.to_owned(), walls)?,
            bite,
            &mut row,
        )?;
    }
    Ok(row)
}

#[derive(Debug, Clone, Copy)]
enum Walls {
    /// No more of it than so.
    Limit(Resource, u64),
    /// These are not mounted, or empty.
    Missing(&'static [&'static str]),
    /// These calls give this error.
    Filter(&'static [Call], i32),
    /// All may be read everywhere; beyond that, what may be done in DEST's directory, and with
    /// DEST.
    Rules {
        here: BitFlags<AccessFs>,
        file: BitFlags<AccessFs>,
    },
}

#[derive(Debug)]
struct Sandbox {
    name: String,
    directory: PathBuf,
    _disk: Disk,
    walls: Walls,
}

impl Sandbox {
    fn new(ground: &Ground, name: String, walls: Walls) -> Result<Self> {
        let disk = Disk::memory(ground, "size=64m")?;
        Ok(Self {
            name,
            directory: disk.work(),
            _disk: disk,
            walls,
        })
    }

    /// A test of something that is there after all would see nothing.
    fn prove_bare(&self, missing: &[&str]) -> Result<()> {
        let mut command = Command::new("/bin/sh");
        command.args([
            "-c",
            "for name; do set -- \"$name\"/*; test ! -e \"$1\" || exit 1; done",
            "sh",
        ]);
        command.args(missing);
        self.confine(&mut command)?;
        let ended = child::run(command, &[], None)?;
        ensure!(
            ended.is_success(),
            "{}: it is not so: {}",
            self.name,
            ended.summary()
        );
        Ok(())
    }
}

impl Fault for Sandbox {
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
        match self.walls {
            Walls::Limit(resource, most) => {
                before_exec(command, move || Ok(setrlimit(resource, most, most)?));
                Ok(())
            }
            Walls::Missing(names) => {
                before_exec(command, move || {
                    unshare(CloneFlags::CLONE_NEWNS)?;
                    for name in names {
                        if *name == "/proc" {
                            umount2(*name, MntFlags::MNT_DETACH)?;
                        } else {
                            let none = None::<&str>;
                            mount(none, *name, Some("tmpfs"), MsFlags::empty(), none)?;
                        }
                    }
                    Ok(())
                });
                Ok(())
            }
            Walls::Filter(calls, errno) => {
                forbid(command, calls.iter().map(|call| call.calls), errno)
            }
            Walls::Rules { here, file } => self.fence(command, here, file),
        }
    }

    fn keeps_names(&self) -> bool {
        // What has a name, and may not be removed, stays. So does a lock file that was made by an
        // open(2) that failed: it may be another run's by now.
        match self.walls {
            Walls::Rules { here, .. } => {
                !here.contains(AccessFs::RemoveFile) || !here.contains(AccessFs::WriteFile)
            }
            Walls::Limit(..) | Walls::Missing(_) | Walls::Filter(..) => false,
        }
    }

    fn expect(&self, writer: Writer) -> Expect {
        let Some(form) = writer.form() else {
            return Expect::Contract;
        };
        let has_another_way = match self.walls {
            Walls::Limit(..) => false,
            // What COMMAND and the shell need of the machine is not ours to say.
            Walls::Missing(_) => !form.runs_command() && !form.validates(),
            Walls::Filter(calls, errno) => {
                calls.iter().all(|call| call.has_another_way(errno)) && !form.runs_command()
            }
            Walls::Rules { here, .. } => here.is_all() || here == AccessFs::from_all(ABI::V3),
        };
        if has_another_way {
            Expect::Success
        } else {
            Expect::Contract
        }
    }
}

impl Sandbox {
    fn fence(
        &self,
        command: &mut Command,
        here: BitFlags<AccessFs>,
        file: BitFlags<AccessFs>,
    ) -> Result<()> {
        let all = AccessFs::from_all(ABI::V3);
        let of_files = AccessFs::from_file(ABI::V3);
        let directory = PathFd::new(&self.directory)?;
        let mut ruleset = Ruleset::default()
            .set_compatibility(CompatLevel::HardRequirement)
            .handle_access(all)?
            .create()?
            .add_rule(PathBeneath::new(
                PathFd::new("/")?,
                AccessFs::from_read(ABI::V3),
            ))?
            .add_rule(PathBeneath::new(PathFd::new("/dev")?, AccessFs::WriteFile))?
            .add_rule(PathBeneath::new(directory, here))?;
        let destination = self.directory.join("o");
        if destination.exists() {
            ruleset = ruleset.add_rule(PathBeneath::new(
                PathFd::new(&destination)?,
                file & of_files,
            ))?;
        }
        let mut ruleset = Some(ruleset);
        before_exec(command, move || {
            let not_twice = || io::Error::from_raw_os_error(libc::EALREADY);
            let restricted = ruleset.take().ok_or_else(not_twice)?.restrict_self();
            restricted
                .map(|_| ())
                .map_err(|_| io::Error::from_raw_os_error(libc::EPERM))
        });
        Ok(())
    }
}

/// Has calls fail with an error, and do nothing.
fn forbid(command: &mut Command, calls: impl IntoIterator<Item = Calls>, errno: i32) -> Result<()> {
    let program = refusing(calls, errno)?;
    before_exec(command, move || {
        let cannot = |_| io::Error::from_raw_os_error(libc::EPERM);
        seccompiler::apply_filter(&program).map_err(cannot)
    });
    Ok(())
}
