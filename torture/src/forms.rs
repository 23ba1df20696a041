//! The forms of the command line: the state before, the command, and the state that must follow.
//!
//! Invariant: a form is plain data. Its expected result is written here, not learnt from a run of
//! the program. Each form runs once undisturbed before it is tortured, and that run must have the
//! expected result.

mod case;
mod field;
mod scene;
mod state;
mod table;

use std::borrow::Cow;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use anyhow::{Context, Result, anyhow, ensure};
use nix::errno::Errno;
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;
use tempfile::TempDir;

pub(crate) use self::case::{Case, Harms, Kind, try_all};
use self::field::{Disk, Field};
pub(crate) use self::scene::{FileState, Kit, Scene, Seen};
pub(crate) use self::state::State;
use self::table::of_program;
use crate::ground::Ground;
use crate::programs::{Program, atomwrite, derived, is_lock, is_temporary};
use crate::report::Tally;
use crate::tracer::{self, Aim, Call, End, Line, Run, Scope, Standing};

/// A way to use a program.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Form {
    pub(crate) program: Program,
    pub(crate) name: &'static str,
    /// What follows the program's name; only for atomwrite, the others have their own.
    words: &'static [&'static str],
    /// The file that is written, where the words' DEST leads to.
    pub(crate) destination: &'static str,
    pub(crate) old: Old,
    size: Size,
    stdin: Stdin,
    /// What every run of it lacks.
    lacks: Lacks,
    disk: Disk,
    /// Mode and owner of the new file, where they are asked for.
    wanted: Option<(u32, Owner)>,
    /// Names that a run makes beside DEST, and those that it gives to another file.
    adds: &'static [&'static str],
    /// Where the old content is once DEST is new.
    pub(crate) backup: Option<&'static str>,
    /// An older backup, which it replaces.
    older: Option<&'static str>,
    /// How many random temporary names SIGKILL may leave. They stay.
    pub(crate) stays: usize,
    /// The next write to the same DEST.
    next: &'static [&'static str],
    /// The other files of a run that writes many, in the order of their renames; DEST is the
    /// first.
    pub(crate) also: &'static [Also],
}

/// One more file that is written in the same run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Also {
    pub(crate) name: &'static str,
    source: &'static str,
    old: Old,
}

/// What DEST is before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Old {
    Nothing,
    /// A file of another user, with a mode that no umask gives.
    File,
    /// The same with an ACL and attributes.
    Rich,
    /// It has the new content already.
    Equal,
    /// It differs from the new content in the last byte.
    Similar,
    /// A link, which is itself replaced.
    Link,
}

/// Whom a file belongs to, with its group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Owner {
    Runner,
    /// Whom the old DEST belonged to.
    Old,
    /// Who has nothing to do with it.
    Another,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Size {
    Small,
    /// 1.25 MiB: more than a pipe or a buffer holds.
    Large,
    /// 1 MiB, and all of it but a piece are holes.
    Spread,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stdin {
    Pipe,
    File,
    Nothing,
}

/// What the kernel and the filesystem do not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lacks {
    Nothing,
    /// Unnamed temporary files (O_TMPFILE).
    Unnamed,
    /// A way to give them one, which is found out later.
    Linking,
    /// Hard links to a file that has a name already.
    HardLinks,
    /// `RENAME_NOREPLACE`.
    NoReplace,
    /// The right to write to DEST's directory.
    Permission,
    /// Ways to move bytes within the kernel.
    Moving,
    /// The filesystem's type, so that it is not known to be local.
    Type,
}

/// What a name is that was not there before a run of atomwrite.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NewName {
    /// The new file's, between link and rename.
    Derived,
    /// Another temporary name.
    Random,
    /// In a directory with a temporary name.
    Inside,
    Lock,
    Other,
}

impl Form {
    /// Returns the content that DEST must have in the end.
    pub(crate) fn new_content<'k>(&self, kit: &'k Kit) -> Cow<'k, [u8]> {
        let input = kit.input(self.size);
        if self.words.contains(&"-a") && self.old != Old::Nothing {
            return Cow::Owned([kit.old(), input].concat());
        }
        Cow::Borrowed(input)
    }

    /// Returns what the next write to the same DEST writes: its small input, or the SOURCEs once
    /// more.
    fn next_content<'k>(&self, kit: &'k Kit) -> &'k [u8] {
        kit.input(if self.also.is_empty() {
            Size::Small
        } else {
            self.size
        })
    }

    /// Returns the line that is run, for the report.
    pub(crate) fn shown(&self) -> String {
        format!(
            "{} ({}; {})",
            self.program.shown(),
            self.words.join(" "),
            self.name
        )
    }

    /// Returns whether COMMAND's exit statuses are in force.
    pub(crate) fn has_command(&self) -> bool {
        self.words.contains(&"--")
    }

    /// Returns whether there are other processes than the one that is started.
    pub(crate) fn starts_others(&self) -> bool {
        self.has_command()
            || self.words.iter().any(|word| word.starts_with("--validate"))
            || self.program == Program::CatAndMove
    }

    /// Returns whether links lead to DEST.
    pub(crate) fn is_through_link(&self) -> bool {
        self.destination.starts_with("far/")
    }

    /// Returns whether a message has one of the words or files in quotes.
    pub(crate) fn names_an_operand(&self, message: &str) -> bool {
        let others = self.also.iter().map(|file| file.name);
        let mut words = self
            .words
            .iter()
            .copied()
            .chain([self.destination])
            .chain(others);
        words.any(|word| message.contains(&format!("'{word}'")))
    }

    pub(crate) fn expected_names(&self) -> &'static [&'static str] {
        self.adds
    }

    /// Returns whether DEST is overwritten, so that a kill can tear it.
    pub(crate) fn is_in_place(&self) -> bool {
        self.words.contains(&"--inplace=always") || self.words.contains(&"--inplace")
    }

    /// Returns whether it takes a lock.
    pub(crate) fn locks(&self) -> bool {
        self.words.contains(&"-a") || self.words.contains(&"--lock")
    }

    /// Returns whether the new file has no name until the commit, and then the derived one.
    pub(crate) fn takes_derived_name(&self) -> bool {
        let names_early = matches!(self.lacks, Lacks::Unnamed | Lacks::Linking | Lacks::Type);
        !names_early && !self.is_in_place() && self.also.is_empty()
    }

    pub(crate) fn kind_of(&self, name: &Path) -> NewName {
        let is_derived = Path::new(self.destination)
            .file_name()
            .is_some_and(|file| name.ends_with(derived(&file.to_string_lossy())));
        let last = Path::new(name.file_name().unwrap_or_default());
        match () {
            () if self.program != Program::Atomwrite => NewName::Other,
            () if is_inside_temporary(name) => NewName::Inside,
            () if is_derived => NewName::Derived,
            () if is_temporary(last) => NewName::Random,
            () if is_lock(last) => NewName::Lock,
            () => NewName::Other,
        }
    }

    /// Returns whether the filesystem is known to be local.
    pub(crate) fn is_local(&self) -> bool {
        self.lacks != Lacks::Type
    }

    /// Returns the names that are new and are not among those that may be there. Where the
    /// filesystem is not known to be local, a lock file stays.
    pub(crate) fn unexpected(&self, before: &Seen, after: &Seen, may: &[&str]) -> Vec<PathBuf> {
        let mut names = after.beyond(before, may);
        if !self.is_local() && self.locks() {
            names.retain(|name| self.kind_of(name) != NewName::Lock);
        }
        names
    }

    /// Returns what the new file must have: mode, user, group.
    pub(crate) fn expected_appearance(&self, kit: &Kit) -> (u32, u32, u32) {
        kit.appearance(self.wanted.unwrap_or(self.old.appearance_of_new()))
    }

    /// Why it cannot be run here, if it cannot.
    fn is_missing(&self, ground: &Ground) -> Option<&'static str> {
        let gives_away = self
            .wanted
            .is_some_and(|(_, owner)| owner == Owner::Another);
        match () {
            () if self.disk != Disk::Usual && !ground.mounts => {
                Some("no filesystem can be mounted")
            }
            () if gives_away && !ground.gives_away => Some("files cannot be given to other users"),
            () => None,
        }
    }

    /// Runs the form in a scene that was made for it.
    pub(crate) fn run(&self, scene: &Scene<'_>, ground: &Ground, aim: Option<Aim>) -> Result<Run> {
        let scope = if self.program == Program::Atomwrite {
            Scope::Own
        } else {
            Scope::Tree
        };
        let (stdin, feed) = scene.stdin(self)?;
        let line = Line {
            words: &self.all_words(ground, self.words),
            directory: scene.directory(),
            environment: &[("TMPDIR", scene.temporary().into())],
            stdin,
            feed,
            scope,
            standing: self.lacks.standing(),
        };
        tracer::run(line, aim).with_context(|| format!("with {}", self.shown()))
    }

    /// Returns the next write to the same DEST: with the same words where another program has no
    /// others.
    pub(crate) fn write_again(&self, scene: &Scene<'_>, ground: &Ground) -> Result<Run> {
        let (stdin, feed) = scene.small_stdin()?;
        let line = Line {
            words: &self.all_words(ground, self.next),
            directory: scene.directory(),
            environment: &[("TMPDIR", scene.temporary().into())],
            stdin,
            feed,
            scope: Scope::Own,
            // The filesystem is what it was.
            standing: self.lacks.standing(),
        };
        tracer::run(line, None).with_context(|| format!("the next write after {}", self.shown()))
    }

    fn all_words(&self, ground: &Ground, words: &[&str]) -> Vec<OsString> {
        match self.program {
            Program::Atomwrite => atomwrite(ground, words),
            other => other.words(ground),
        }
    }

    /// Runs it undisturbed, which must do what the form says; gives the calls that it made.
    fn rehearse(&self, ground: &Ground, kit: &Kit, above: &Path) -> Result<Vec<Call>> {
        let scene = Scene::make(self, kit, above)?;
        let before = scene.snapshot()?;
        let run = self.run(&scene, ground, None)?;
        let after = scene.snapshot()?;
        ensure!(
            run.end == End::Exited(0),
            "{} ends undisturbed with {:?}: {}",
            self.shown(),
            run.end,
            run.stderr
        );
        let content = after.destination.as_ref().map(|file| &*file.content);
        ensure!(
            content == Some(&*self.new_content(kit)),
            "{} does not write what it should",
            self.shown()
        );
        if self.program == Program::Atomwrite {
            ensure!(
                run.stderr.is_empty(),
                "{} says {}",
                self.shown(),
                run.stderr
            );
            let found = after.destination.as_ref().map(FileState::appearance);
            ensure!(
                found == Some(self.expected_appearance(kit)),
                "{} makes a file with {found:?}",
                self.shown()
            );
            let harms = self.harms_to_all(kit, &before, &after);
            ensure!(harms.is_empty(), "{}: {harms:?}", self.shown());
            ensure!(
                self.states(kit, &before, &after)
                    .iter()
                    .all(|state| *state == State::New),
                "{} does not write all",
                self.shown()
            );
            let expected: Vec<PathBuf> = self.adds.iter().map(PathBuf::from).collect();
            let made = self.unexpected(&before, &after, &[]);
            ensure!(
                expected.iter().all(|name| after.others.contains_key(name))
                    && made.iter().all(|name| expected.contains(name)),
                "{} makes {made:?}, and should make {expected:?}",
                self.shown()
            );
        }
        Ok(run.calls)
    }

    /// Returns whether the call gives DEST the name of a numbered backup.
    pub(crate) fn makes_numbered_backup(&self, call: &Call) -> bool {
        self.words.contains(&"--backup=numbered")
            && (links_a_name(call) || renames_with(call, libc::RENAME_NOREPLACE))
    }

    /// Returns whether the call fails in every run of the form.
    pub(crate) fn lacks(&self, call: &Call) -> bool {
        self.lacks
            .standing()
            .is_some_and(|standing| standing(call).is_some())
    }
}

impl Old {
    /// Returns the mode and owner of a new file that replaces it.
    fn appearance_of_new(self) -> (u32, Owner) {
        match self {
            Self::Nothing | Self::Link => (0o644, Owner::Runner),
            Self::File | Self::Rich | Self::Equal | Self::Similar => (0o640, Owner::Old),
        }
    }
}

impl Lacks {
    fn standing(self) -> Option<Standing> {
        let standing: Standing = match self {
            Self::Nothing => return None,
            Self::Unnamed => |call| opens_unnamed(call).then_some(Errno::EOPNOTSUPP),
            Self::Linking => |call| is(call, libc::SYS_linkat).then_some(Errno::EOPNOTSUPP),
            Self::HardLinks => |call| links_a_name(call).then_some(Errno::EPERM),
            Self::NoReplace => {
                |call| renames_with(call, libc::RENAME_NOREPLACE).then_some(Errno::EINVAL)
            }
            Self::Permission => {
                |call| (opens_unnamed(call) && !is_at_cwd(call)).then_some(Errno::EACCES)
            }
            Self::Moving => |call| {
                let moves = is(call, libc::SYS_splice) || is(call, libc::SYS_copy_file_range);
                moves.then_some(Errno::EINVAL)
            },
            Self::Type => |call| {
                let asks = is(call, libc::SYS_fstatfs) || is(call, libc::SYS_statfs);
                asks.then_some(Errno::ENOSYS)
            },
        };
        Some(standing)
    }
}

fn is(call: &Call, number: i64) -> bool {
    u64::try_from(number) == Ok(call.number())
}

fn has(argument: u64, flags: i32) -> bool {
    let flags = u64::from(flags.unsigned_abs());
    argument & flags == flags
}

fn opens_unnamed(call: &Call) -> bool {
    is(call, libc::SYS_openat) && has(call.argument(2), libc::O_TMPFILE)
}

/// As where a path is absolute, which the way to DEST is not.
#[expect(
    clippy::cast_possible_truncation,
    reason = "a descriptor is the lower half of the register"
)]
fn is_at_cwd(call: &Call) -> bool {
    call.argument(0) as i32 == libc::AT_FDCWD
}

/// Returns whether the call links a name. An unnamed file is linked with a flag.
fn links_a_name(call: &Call) -> bool {
    is(call, libc::SYS_linkat) && call.argument(4) == 0
}

fn renames_with(call: &Call, flag: u32) -> bool {
    is(call, libc::SYS_renameat2) && call.argument(4) & u64::from(flag) != 0
}

/// Returns the forms of a program, each with the calls that it makes undisturbed.
fn rehearsed(program: Program, ground: &Ground, fields: &[Field]) -> Result<Vec<Rehearsed>> {
    let mut all = Vec::new();
    for form in of_program(program) {
        let shown = form.shown();
        if ground
            .form
            .as_ref()
            .is_some_and(|text| !shown.contains(text))
        {
            continue;
        }
        let at = fields.iter().position(|field| field.disk == form.disk);
        let Some(at) = at.filter(|_| form.is_missing(ground).is_none()) else {
            continue;
        };
        let field = &fields[at];
        let directory = field.directory()?;
        let calls = form.rehearse(ground, &field.kit, directory.path())?;
        all.push(Rehearsed {
            form,
            field: at,
            calls,
        });
    }
    Ok(all)
}

/// A form that can be run here.
#[derive(Debug)]
struct Rehearsed {
    form: Form,
    /// Which one of the fields it is run in.
    field: usize,
    calls: Vec<Call>,
}

/// Returns whether a path leads through a directory with a temporary name of atomwrite's.
fn is_inside_temporary(path: &Path) -> bool {
    let mut above = path.parent().into_iter().flat_map(Path::components);
    above.any(|part| is_temporary(part.as_ref()))
}

/// Does `work` with each case and a directory in each field, on all processors; gives what all have
/// counted.
fn with_each<C: Sync>(
    cases: &[C],
    fields: &[Field],
    work: impl Fn(&C, &[TempDir], &mut Tally) -> Result<()> + Sync,
) -> Result<Tally> {
    let next = AtomicUsize::new(0);
    let worker = |processor: usize| -> Result<Tally> {
        stay_on(processor)?;
        let directories: Vec<TempDir> =
            fields.iter().map(Field::directory).collect::<Result<_>>()?;
        let mut tally = Tally::default();
        while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
            work(case, &directories, &mut tally)?;
        }
        Ok(tally)
    };
    let worker = &worker;
    thread::scope(|scope| {
        let workers: Vec<_> = processors()?
            .into_iter()
            .map(|processor| scope.spawn(move || worker(processor)))
            .collect();
        let mut all = Tally::default();
        for worker in workers {
            let tally = worker
                .join()
                .map_err(|_| anyhow!("a worker has panicked"))?;
            all.add(tally?);
        }
        Ok(all)
    })
}

fn processors() -> Result<Vec<usize>> {
    let ours = sched_getaffinity(Pid::from_raw(0)).context("cannot count the processors")?;
    Ok((0..CpuSet::count())
        .filter(|processor| ours.is_set(*processor) == Ok(true))
        .collect())
}

/// A tracer and what it traces run by turns, and on one processor a turn takes a fraction of the
/// time.
fn stay_on(processor: usize) -> Result<()> {
    let mut one = CpuSet::new();
    one.set(processor)?;
    sched_setaffinity(Pid::from_raw(0), &one).context("cannot choose a processor")
}
