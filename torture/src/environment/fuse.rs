//! FUSE filesystems that lack something that Linux has, or that fail at one kind of call.
//!
//! A thread of the suite answers the kernel, which passes the answer to the program. The program
//! itself is not changed. If something is missing, atomwrite must use a fallback; if something
//! fails, it must report that.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use anyhow::{Context, Result};
use rand::Rng;
use tempfile::TempDir;

use super::course::{Bite, Course, Row};
use super::fault::{Expect, Fault};
use super::form::{Form, Writer};
use crate::ground::Ground;
use crate::report::Report;
use crate::served::{Break, CACHED, Memory, Missing, Served};

pub(super) fn run(course: &Course<'_>, report: &mut Report) -> Result<()> {
    missing(course)?.report("FUSE without rename flags, links, locks, ...", report);
    breaking(course)?.report("FUSE: errors at close, fsync and rename", report);
    Ok(())
}

/// There are so many of them that each can have few cases in a short run.
const MANY: usize = 8;

type Lack = fn(&mut Missing);

const LACKS: [(&str, Lack); 12] = [
    ("O_TMPFILE", |_| {}),
    ("rename flags (EINVAL)", |it| {
        it.rename_flags = Some(libc::EINVAL);
    }),
    ("rename flags (ENOSYS)", |it| {
        it.rename_flags = Some(libc::ENOSYS);
    }),
    ("attributes (EOPNOTSUPP)", |it| {
        it.attributes = Some(libc::EOPNOTSUPP);
    }),
    ("attributes (ENOSYS)", |it| {
        it.attributes = Some(libc::ENOSYS);
    }),
    ("links (EPERM)", |it| it.links = Some(libc::EPERM)),
    ("links (ENOSYS)", |it| it.links = Some(libc::ENOSYS)),
    ("fallocate (EOPNOTSUPP)", |it| {
        it.fallocate = Some(libc::EOPNOTSUPP);
    }),
    ("fallocate (ENOSYS)", |it| it.fallocate = Some(libc::ENOSYS)),
    ("locks (ENOSYS)", |it| it.locks = Some(libc::ENOSYS)),
    ("locks (ENOLCK)", |it| it.locks = Some(libc::ENOLCK)),
    ("all of it", |it| *it = ALL),
];

fn missing(course: &Course<'_>) -> Result<Row> {
    let mut row = Row::default();
    for (name, lack) in LACKS {
        let name = format!("FUSE without {name}");
        let mut missing = Missing::default();
        lack(&mut missing);
        let mut fault = Fuse::mount(course.ground, name, missing, Break::Nothing)?;
        course.run_once(&mut fault, Bite::Maybe, &mut row)?;
    }
    Ok(row)
}

const ALL: Missing = Missing {
    rename_flags: Some(libc::EINVAL),
    attributes: Some(libc::EOPNOTSUPP),
    links: Some(libc::EPERM),
    fallocate: Some(libc::EOPNOTSUPP),
    locks: Some(libc::ENOSYS),
};

fn breaking(course: &Course<'_>) -> Result<Row> {
    let mut row = Row::default();
    let all = [
        Break::Close(libc::EIO),
        Break::CloseAndLose(libc::ENOSPC),
        Break::CloseAndLose(libc::EDQUOT),
        Break::Sync(libc::EIO),
        Break::Sync(libc::ENOSPC),
        Break::SyncDirectory(libc::EIO),
        Break::SyncDirectory(libc::EINVAL),
        Break::SyncDirectory(libc::ENOSYS),
        Break::Rename(libc::EIO),
        Break::SecondRename(libc::EIO),
        Break::RenameDone(libc::EIO),
        Break::RenameDoneAndCached(libc::EIO),
        Break::LinkDone(libc::EIO),
        Break::Remove(libc::EIO),
        Break::WriteBeyond(10, libc::ENOSPC),
        Break::WriteBeyond(1 << 20, libc::EIO),
    ];
    for breaks in all {
        let name = format!("FUSE with {breaks:?}");
        let mut fault = Fuse::mount(course.ground, name, Missing::default(), breaks)?;
        course.run_once(&mut fault, fault_bite(breaks), &mut row)?;
    }
    // Where much is missing, other ways are gone, and they break as well.
    let mut chance = course.ground.chance("FUSE");
    for _ in 0..course.ground.many(1, 2) {
        for breaks in all {
            if chance.random_range(0..course.ground.many(2, 1)) > 0 {
                continue;
            }
            let mut lacks = || chance.random_range(0..2) == 0;
            let missing = Missing {
                rename_flags: ALL.rename_flags.filter(|_| lacks()),
                attributes: None,
                links: ALL.links.filter(|_| lacks()),
                fallocate: ALL.fallocate,
                locks: ALL.locks.filter(|_| lacks()),
            };
            let name = format!("FUSE with {breaks:?}, and {missing:?}");
            let mut fault = Fuse::mount(course.ground, name, missing, breaks)?;
            course.run_once(&mut fault, fault_bite(breaks), &mut row)?;
        }
    }
    Ok(row)
}

/// Returns whether a fault must make a run fail. It need not, if there is a fallback or if it is no
/// error.
fn fault_bite(breaks: Break) -> Bite {
    match breaks {
        Break::Nothing
        | Break::SyncDirectory(libc::EINVAL | libc::ENOSYS)
        | Break::SecondRename(_)
        | Break::RenameDone(_)
        | Break::RenameDoneAndCached(_)
        | Break::LinkDone(_)
        | Break::Remove(_) => Bite::Maybe,
        _ => Bite::Sure,
    }
}

/// A filesystem that we serve, while this lives.
struct Fuse {
    name: String,
    work: PathBuf,
    missing: Missing,
    breaks: Break,
    armed: Arc<AtomicBool>,
    // Unmounts, and is dropped before the mount point.
    _served: Served,
    _place: TempDir,
}

impl Fuse {
    fn mount(ground: &Ground, name: String, missing: Missing, breaks: Break) -> Result<Self> {
        let place = ground.directory("fuse")?;
        let armed = Arc::new(AtomicBool::new(false));
        let memory = Memory::new(missing, breaks, Arc::clone(&armed));
        let served = Served::mount(memory, place.path())?;
        let work = place.path().join("work");
        fs::create_dir(&work).context("cannot make the directory for DEST")?;
        Ok(Self {
            name,
            work,
            missing,
            breaks,
            armed,
            _served: served,
            _place: place,
        })
    }

    /// Returns whether a form is impossible: `--lock` needs a lock, and `-n` needs a call that
    /// gives a name only if it is free.
    fn cannot_serve(&self, form: &Form) -> bool {
        let Missing {
            rename_flags,
            links,
            locks,
            ..
        } = self.missing;
        form.locks() && locks.is_some()
            || form.is_exclusive() && rename_flags.is_some() && links.is_some()
    }
}

impl Fault for Fuse {
    fn shown(&self) -> String {
        self.name.clone()
    }

    fn directory(&self) -> &Path {
        &self.work
    }

    fn begin(&mut self) -> Result<()> {
        self.armed.store(true, Ordering::SeqCst);
        Ok(())
    }

    fn mend(&mut self) -> Result<()> {
        self.armed.store(false, Ordering::SeqCst);
        if let Break::RenameDoneAndCached(_) = self.breaks {
            // The kernel counts in ticks.
            thread::sleep(2 * CACHED);
        }
        Ok(())
    }

    fn keeps_names(&self) -> bool {
        matches!(self.breaks, Break::Remove(_))
    }

    fn keeps_older(&self) -> bool {
        !matches!(
            self.breaks,
            Break::Rename(_)
                | Break::SecondRename(_)
                | Break::RenameDone(_)
                | Break::RenameDoneAndCached(_)
                | Break::LinkDone(_)
                | Break::Remove(_)
        )
    }

    fn is_local(&self) -> bool {
        false
    }

    fn expect(&self, writer: Writer) -> Expect {
        let Some(form) = writer.form() else {
            return Expect::Contract;
        };
        let synced = form.is_synced();
        if self.cannot_serve(form) {
            return Expect::Contract;
        }
        match self.breaks {
            Break::Nothing | Break::SyncDirectory(libc::EINVAL | libc::ENOSYS) => Expect::Success,
            Break::Close(_) | Break::CloseAndLose(_) => Expect::Failure,
            Break::Sync(_) if synced => Expect::Failure,
            Break::SyncDirectory(_) if synced => Expect::Changed,
            _ => Expect::Contract,
        }
    }

    fn one_in(&self) -> usize {
        MANY
    }
}
