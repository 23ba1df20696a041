//! The staging directories of `-t`, beside the files that will be replaced.
//!
//! Invariant: there is one staging directory for each directory in which a name will change. That
//! is DIR, and the directories to which links in DIR lead, if links are followed.

use std::collections::HashMap;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use anyhow::{Context, Error, Result, anyhow, bail};

use crate::backup::originals;
use crate::checks::{self, Rules};
use crate::destination::{Destination, Opened, ParentDir};
use crate::message::{Chain, Quoted};
use crate::outcome::Failure;
use crate::parents::Parents;
use crate::private_dir::StagingDir;
use crate::request::{Backups, IfUnchanged, Request, Sync};
use crate::staged::{Flush, Pending};
use crate::sys::{self, Errno};
use crate::validate::PreviewPlace;

/// The new files of one directory.
#[derive(Debug)]
pub(super) struct Staging<'d> {
    /// One of the files that are staged here.
    first: &'d Destination,
    /// The staging directory, or why it cannot be made: with `-C`, each file may have the content
    /// already.
    pub(super) directory: Result<StagingDir, String>,
    pub(super) flush: Flush,
}

impl<'d> Staging<'d> {
    /// Makes a staging directory beside each directory that has one of the files.
    pub(super) fn beside(destinations: &'d [Destination], request: &Request) -> Result<Vec<Self>> {
        let create = |first: &Destination| -> Result<StagingDir> {
            checks::directory(first, None, Rules::of(request))?;
            StagingDir::make(first.directory(), first.filesystem())
                .with_context(|| first.cannot("create a directory beside"))
        };
        let mut all: Vec<Self> = Vec::new();
        for first in destinations {
            if all.iter().any(|staging| staging.is_for(first)) {
                continue;
            }
            let directory = match create(first) {
                Err(error) if request.if_unchanged != IfUnchanged::Replace => {
                    Err(Chain(&error).to_string())
                }
                made => Ok(made?),
            };
            let syncs_all_at_once = directory.is_ok() && first.filesystem().syncs_all_at_once();
            let flush = match request.sync {
                Sync::None => Flush::Never,
                Sync::File | Sync::Full if syncs_all_at_once => Flush::Once,
                Sync::File | Sync::Full => Flush::Each,
            };
            all.push(Self {
                first,
                directory,
                flush,
            });
        }
        Ok(all)
    }

    /// Returns the index in `all` of the staging directory for this file.
    pub(super) fn index(all: &[Self], destination: &Destination) -> usize {
        all.iter()
            .position(|staging| staging.is_for(destination))
            .expect("there is one for each directory")
    }

    fn is_for(&self, destination: &Destination) -> bool {
        Rc::ptr_eq(self.first.parent(), destination.parent())
    }

    /// Returns where the preview of DIR can be: beside the staging directory, if DIR has one.
    pub(super) fn preview_place(all: &[Self], directory: &Rc<ParentDir>) -> PreviewPlace {
        let is_in = |staging: &Self| Rc::ptr_eq(staging.first.parent(), directory);
        match all.iter().find(|staging| is_in(staging)) {
            Some(staging) if staging.directory.is_ok() => PreviewPlace::Beside,
            _ => PreviewPlace::TemporaryDirectory,
        }
    }

    /// Makes the missing directories, if any.
    pub(super) fn make_parents(&self) -> Result<Parents> {
        Parents::make(self.first)
    }
}

/// Refuses two names that lead to one file, and a file whose name is a backup name of another one.
pub(super) fn refuse_clashes(
    destinations: &[Destination],
    all: &[Staging<'_>],
    backups: Option<&Backups>,
) -> Result<()> {
    let key = |destination: &Destination, name: &Path| {
        let staging = &all[Staging::index(all, destination)].directory;
        let ignores_case = staging.as_ref().is_ok_and(|staging| staging.ignores_case);
        let name = match name.to_str() {
            Some(text) if ignores_case => PathBuf::from(text.to_lowercase()),
            _ => name.to_owned(),
        };
        (Rc::as_ptr(destination.parent()), name)
    };
    let mut seen = HashMap::with_capacity(destinations.len());
    for destination in destinations {
        if let Some(other) = seen.insert(key(destination, destination.name()), destination) {
            let reason = if other.name() == destination.name() {
                ""
            } else {
                ", because the directory ignores case"
            };
            bail!(
                "cannot write {}: it is the same file as {}{reason}",
                destination.display(),
                Destination::display(other)
            );
        }
    }
    let Some(backups) = backups else {
        return Ok(());
    };
    for destination in destinations {
        for original in originals(destination.name(), backups) {
            if let Some(other) = seen.get(&key(destination, original)) {
                bail!(
                    "cannot write {}: its name is the backup name of {}",
                    destination.display(),
                    Destination::display(other)
                );
            }
        }
    }
    Ok(())
}

/// Explains why a file already exists in a staging directory, where each has its own name.
pub(super) fn explain(error: Error, destination: &Destination, directory: &StagingDir) -> Error {
    if directory.ignores_case && error.downcast_ref() == Some(&Errno::EXIST) {
        return anyhow!(
            "cannot write {}: it is the same file as another one, because the directory ignores case",
            destination.display()
        );
    }
    error
}

/// Refuses a file whose name is a backup name of another one, where the filesystem takes more than
/// one spelling for the same name (such as a sharp s and SS). All files are in the staging
/// directory under their names, so a lookup there shows it.
pub(super) fn refuse_backup_clashes(
    destinations: &[Destination],
    all: &[Staging<'_>],
    backups: Option<&Backups>,
) -> Result<()> {
    let Some(backups) = backups else {
        return Ok(());
    };
    for destination in destinations {
        let Ok(staging) = &all[Staging::index(all, destination)].directory else {
            continue;
        };
        let directory = staging.directory().fd.as_fd();
        let mut originals = originals(destination.name(), backups);
        if staging.ignores_case && originals.any(|name| sys::metadata_at(directory, name).is_ok()) {
            bail!(
                "cannot write {}: its name is the backup name of another one, because the directory ignores case",
                destination.display()
            );
        }
    }
    Ok(())
}

/// Syncs the content of all files that are not synced yet. A file that has the content already has
/// no new one.
pub(super) fn flush<'d, 'f, Files>(all: &[Staging<'d>], files: impl Fn() -> Files) -> Result<()>
where
    'd: 'f,
    Files: Iterator<Item = (&'d Destination, Option<&'f Pending<'d>>)>,
{
    for staging in all.iter().filter(|staging| staging.flush == Flush::Once) {
        let Ok(directory) = &staging.directory else {
            continue;
        };
        let cannot = || format!("cannot write {}", staging.first.display());
        match sys::sync_filesystem(&directory.directory().fd) {
            // A seccomp filter forbids the call.
            Err(Errno::NOSYS | Errno::OPNOTSUPP | Errno::PERM | Errno::ACCESS | Errno::INVAL) => {
                files()
                    .filter(|(destination, _)| staging.is_for(destination))
                    .try_for_each(|(destination, new)| match new {
                        Some(new) => new.sync(),
                        None => sync_equal(destination),
                    })?;
            }
            synced => synced.with_context(cannot)?,
        }
    }
    Ok(())
}

fn sync_equal(destination: &Destination) -> Result<()> {
    let old = destination.open(None)?;
    match old.as_ref().and_then(Opened::content) {
        Some(file) => sys::sync_in_place(file).with_context(|| destination.cannot("sync")),
        None => Ok(()),
    }
}

/// Removes the staging directories and syncs the new names. After an error the files are new.
pub(super) fn end(
    all: Vec<Staging<'_>>,
    parents: &[Parents],
    sync: Sync,
    directory: &Path,
) -> Result<(), Failure> {
    let mut durable = Ok(());
    for (staging, parents) in all.into_iter().zip(parents) {
        let inside = match &staging.directory {
            Ok(directory) => sys::reopen_directory(directory.directory().fd.as_fd()),
            // Nothing is new here, so a directory that cannot be synced is left out.
            Err(_) if !staging.first.directory().readable => continue,
            Err(_) => sys::reopen_directory(staging.first.directory().fd.as_fd()),
        };
        drop(staging);
        if sync == Sync::Full && durable.is_ok() {
            durable = inside.and_then(|inside| {
                let mut changed = parents.changed();
                changed.try_for_each(|directory| directory.sync(&inside))
            });
        }
    }
    durable.map_err(|errno| {
        Failure::Uncertain(anyhow!(errno).context(format!(
            "cannot sync directory {}, whose files are new but may not survive power loss",
            Quoted::new(directory)
        )))
    })
}
