//! The course that every fault is run through: all forms of atomwrite, and the other programs, with
//! little and much content.
//!
//! Invariant: a fault that no program meets is an error of the test, not a good result. What stays
//! in the directory is checked when the fault is repaired, and again after one more write.

use std::collections::BTreeMap;
use std::fs::{self, File, FileTimes, Permissions};
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, ensure};
use rand::{Rng, RngCore};
use tempfile::TempDir;

use super::check::{Case, litter, stays};
use super::child;
use super::fault::Fault;
use super::form::{FORMS, Form, LOCKED, PLAIN, Writer};
use super::sandbox;
use crate::child::Ended;
use crate::ground::{Ground, Length};
use crate::programs::{PATH, Program};
use crate::report::{Harm, Promise, Report, Tally};
use crate::tree::{Tree, snapshot};

/// Little and much: the second is more than any pipe or buffer holds.
pub(super) const SIZES: [usize; 2] = [100, 3 << 20];

/// Content that is only one, by size.
#[derive(Debug)]
struct Content {
    old: Vec<u8>,
    input: Vec<u8>,
    older_backup: Vec<u8>,
}

/// How many runs of one row were made, and what they did.
#[derive(Debug, Default)]
pub(super) struct Row {
    tallies: BTreeMap<Program, Tally>,
}

impl Row {
    pub(super) fn report(self, name: &str, report: &mut Report) {
        for (program, tally) in self.tallies {
            report.add(name, Promise::Made, program, tally);
        }
    }
}

/// Whether a fault must be met by atomwrite.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Bite {
    /// One run at least must fail, or the fault is not there.
    Sure,
    /// It is met by some forms only, which a short run may leave out.
    BySome,
    /// It may have another way each time.
    Maybe,
}

#[derive(Debug)]
pub(super) struct Course<'g> {
    pub(super) ground: &'g Ground,
    contents: Vec<Content>,
    /// Where temporary files go: mostly on another filesystem than DEST.
    aside: TempDir,
    /// Without an unnamed file, as on a filesystem that has none.
    named: [bool; 2],
}

impl<'g> Course<'g> {
    pub(super) fn lay(ground: &'g Ground) -> Result<Self> {
        let mut chance = ground.chance("reality");
        let mut bytes = |size: usize| {
            let mut bytes = vec![0; size];
            chance.fill_bytes(&mut bytes);
            bytes
        };
        let contents = SIZES.map(|size| Content {
            // Smaller than the new content, as most files grow: overwriting in place does not free
            // enough space.
            old: bytes(size / 2),
            input: bytes(size),
            older_backup: bytes(10),
        });
        let aside = ground.directory("aside")?;
        Ok(Self {
            ground,
            contents: contents.into(),
            aside,
            named: [false, true],
        })
    }

    /// Runs all writers, little and much, through a fault.
    pub(super) fn run(&self, fault: &mut dyn Fault, bite: Bite, row: &mut Row) -> Result<()> {
        self.run_with(fault, bite, row, &self.named)
    }

    /// The same, on a filesystem without O_TMPFILE.
    pub(super) fn run_once(&self, fault: &mut dyn Fault, bite: Bite, row: &mut Row) -> Result<()> {
        self.run_with(fault, bite, row, &[false])
    }

    fn run_with(
        &self,
        fault: &mut dyn Fault,
        bite: Bite,
        row: &mut Row,
        named: &[bool],
    ) -> Result<()> {
        let ours = FORMS.iter().flat_map(|form| {
            named.iter().map(move |named| Writer::Atomwrite {
                form,
                named: *named,
            })
        });
        let others = Program::OTHERS.into_iter().map(Writer::Other);
        let mut met = 0;
        let mut chance = self.ground.chance(&fault.shown());
        for writer in ours.chain(others) {
            for content in &self.contents {
                // The simplest form with much content is always tried, because it meets every
                // fault. And each row has a case of every program.
                let is_missing = !row.tallies.contains_key(&writer.program());
                let is_first = content.input.len() > SIZES[0] && (writer.is_plain() || is_missing);
                let ours = writer.program() == Program::Atomwrite;
                let one_in = if ours {
                    fault.one_in()
                } else {
                    fault.one_in() / 4
                };
                let is_chosen = chance
                    .random_range(0..self.ground.many(one_in.max(1), one_in.div_ceil(4).max(1)))
                    == 0;
                if !fault.concerns(writer) || !(is_first || is_chosen) {
                    continue;
                }
                let tally = row.tallies.entry(writer.program()).or_default();
                let failed = self
                    .attempt(fault, writer, content, tally)
                    .with_context(|| format!("{}: {}", fault.shown(), writer.shown()))?;
                met += usize::from(failed && ours);
            }
        }
        let must_be_met = match bite {
            Bite::Sure => true,
            Bite::BySome => self.ground.length == Length::Long,
            Bite::Maybe => false,
        };
        ensure!(
            met > 0 || !must_be_met,
            "{}: no run of atomwrite has failed: the fault is not there",
            fault.shown()
        );
        Ok(())
    }

    /// Runs a program once. Returns whether it failed.
    fn attempt(
        &self,
        fault: &mut dyn Fault,
        writer: Writer,
        content: &Content,
        tally: &mut Tally,
    ) -> Result<bool> {
        lay_out(fault, writer, content)?;
        let before = snapshot(fault.directory())?;
        fault.begin()?;
        let ended = self.start(fault, writer, content, true)?;
        fault.ended()?;
        fault.mend()?;
        let after = snapshot(fault.directory())?;
        let new = writer.new_content(&content.old, &content.input);
        let case = Case {
            writer,
            before: &before,
            after: &after,
            ended: &ended,
            old: &content.old,
            new: &new,
            expect: fault.expect(writer),
            keeps_names: fault.keeps_names(),
            keeps_older: fault.keeps_older(),
            is_local: fault.is_local(),
        };
        tally.tried();
        let mut harms = case.harms();
        if !case.litter().is_empty() && !harms.iter().any(|(harm, _)| *harm == Harm::Litter) {
            harms.extend(self.write_again(fault, writer, content, &before)?);
        }
        for entry in fs::read_dir(self.aside.path())? {
            let path = entry?.path();
            harms.push((Harm::Litter, format!("left {}", path.display())));
            fs::remove_file(&path).or_else(|_| fs::remove_dir_all(&path))?;
        }
        for (harm, what) in harms {
            let size = content.input.len();
            tally.harmed(harm, || {
                format!(
                    "{}; {}, {size} bytes, seed {}; {what}; {}",
                    fault.shown(),
                    writer.shown(),
                    self.ground.seed,
                    ended.summary()
                )
            });
        }
        Ok(case.failed())
    }

    /// Checks that the next write removes what was left, except random temporary names, which must
    /// stay as they are.
    fn write_again(
        &self,
        fault: &mut dyn Fault,
        writer: Writer,
        content: &Content,
        before: &Tree,
    ) -> Result<Vec<(Harm, String)>> {
        // The next write is to a DEST that may be there now.
        let after = snapshot(fault.directory())?;
        let next = match writer {
            // With -n, it would be refused now.
            Writer::Atomwrite { form, named } if !form.makes_directories() => Writer::Atomwrite {
                form: if form.locks() && fault.is_local() {
                    &LOCKED
                } else {
                    &PLAIN
                },
                named,
            },
            as_before => as_before,
        };
        let ended = self.start(fault, next, content, false)?;
        let now = snapshot(fault.directory())?;
        let had = litter(writer, fault.is_local(), before, &after);
        let mut left = litter(writer, fault.is_local(), before, &now);
        left.retain(|name| !(had.contains(name) && stays(writer, name)));
        let lost = had
            .iter()
            .find(|name| stays(writer, name) && !now.contains_key(**name));
        if let Some(lost) = lost {
            let what = format!("the next write has removed {}", lost.display());
            return Ok(vec![(Harm::Foreign, what)]);
        }
        if left.is_empty() && ended.is_success() {
            return Ok(Vec::new());
        }
        Ok(vec![(
            Harm::Litter,
            format!(
                "left {had:?}, and after the next write ({}) {left:?}",
                ended.summary()
            ),
        )])
    }

    fn start(
        &self,
        fault: &mut dyn Fault,
        writer: Writer,
        content: &Content,
        with_fault: bool,
    ) -> Result<Ended> {
        let words = writer.words(self.ground);
        let (program, words) = words
            .split_first()
            .context("no program is nothing to run")?;
        let mut command = Command::new(program);
        command.args(words).current_dir(fault.directory());
        command.env_clear().env("PATH", PATH).env("LC_ALL", "C");
        command.env("TMPDIR", self.aside.path());
        if with_fault {
            fault.confine(&mut command)?;
        }
        if matches!(writer, Writer::Atomwrite { named: true, .. }) {
            sandbox::without_unnamed_files(&mut command)?;
        }
        let reads_stdin = match writer {
            Writer::Atomwrite { .. } => true,
            Writer::Other(program) => program.reads_stdin() || fault.comes_midway(),
        };
        let input: &[u8] = if reads_stdin { &content.input } else { &[] };
        if with_fault && fault.comes_midway() {
            child::run(command, input, Some(&mut || fault.midway()))
        } else {
            child::run(command, input, None)
        }
    }
}

/// Empties the directory, and lays out what the writer is to find there.
fn lay_out(fault: &dyn Fault, writer: Writer, content: &Content) -> Result<()> {
    let directory = fault.directory();
    for entry in fs::read_dir(directory).with_context(|| directory.display().to_string())? {
        let path = entry?.path();
        fs::remove_file(&path)
            .or_else(|_| fs::remove_dir_all(&path))
            .with_context(|| format!("cannot remove {}", path.display()))?;
    }
    let source = directory.join("src");
    if fault.comes_midway() {
        // So that what reads a file reads our pipe.
        symlink("/dev/stdin", &source).context("cannot lay out the source")?;
    } else {
        put(&source, &content.input, 0o644)?;
    }
    if writer.replaces() {
        put(&directory.join("o"), &content.old, writer.old_mode())?;
    }
    if writer.form().is_some_and(Form::backs_up) {
        put(&directory.join("o~"), &content.older_backup, 0o600)?;
    }
    Ok(())
}

/// Makes a file that was written to long ago.
fn put(path: &Path, content: &[u8], mode: u32) -> Result<()> {
    let put = || -> std::io::Result<()> {
        let mut file = File::create_new(path)?;
        file.write_all(content)?;
        file.set_permissions(Permissions::from_mode(mode))?;
        let long_ago = SystemTime::UNIX_EPOCH + Duration::from_secs(978_307_200);
        file.set_times(
            FileTimes::new()
                .set_accessed(long_ago)
                .set_modified(long_ago),
        )
    };
    put().with_context(|| format!("cannot lay out {}", path.display()))
}
