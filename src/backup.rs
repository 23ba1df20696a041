//! `--backup`: keeps the old file under a backup name, by GNU's rules.
//!
//! Invariant: a backup has its name before DEST is new, and it is complete from its first moment.
//! It is a hard link to the old file, made as late as possible. If a link is not possible, or DEST
//! is overwritten in place, the backup is a copy that is on the disk. An older simple backup that
//! was replaced does not come back, because the new backup has DEST's content.
//!
//! Not promised: between the backup and the rename both names are one file. Without `--lock`, two
//! concurrent runs can lose the content between them.

mod names;

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};

use self::names::BackupName;
pub(crate) use self::names::{Numbers, originals};
use crate::attributes::Attributes;
use crate::destination::Destination;
use crate::message::Quoted;
use crate::named_copy::NamedCopy;
use crate::outcome::Failure;
use crate::request::{Backups, Sync};
use crate::sys::{self, Errno, Identity, Metadata};
use crate::temp_name::{Moved, TempName, has_name};

/// How often the backup is made again because another process has replaced DEST.
const MAX_BACKUPS: usize = 3;

/// How often a link is retried that fails because another process is replacing DEST.
const MAX_LINKS: usize = 1000;

/// A backup that this run has made. Removed when dropped, if it replaced no older one and DEST
/// still is the file that it is a backup of.
#[derive(Debug)]
pub(crate) struct NewBackup {
    destination: Destination,
    name: PathBuf,
    identity: Identity,
    /// DEST when the backup was made. A link may have another inode number than its file (FUSE,
    /// overlayfs).
    of: Identity,
    /// DEST's link count when the backup was made.
    links: u32,
    stays: bool,
}

/// How the backup is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum BackupMethod {
    Link,
    Copy,
}

/// Refuses a backup that cannot be made, before any input is read.
pub(crate) fn check(
    destination: &Destination,
    existing: Option<Metadata>,
    backups: Option<&Backups>,
    numbers: &Numbers,
) -> Result<()> {
    if let (Some(backups), Some(_)) = (backups, existing) {
        let name = names::choose(destination, backups, numbers)
            .and_then(|name| names::check(destination, backups, name));
        name.with_context(|| destination.cannot("back up"))?;
    }
    Ok(())
}

/// Refuses an input that has the backup's name, because the backup would destroy it.
pub(crate) fn check_source(
    destination: &Destination,
    existing: Option<Metadata>,
    backups: Option<&Backups>,
    numbers: &Numbers,
    is_source: impl FnOnce(Identity) -> bool,
) -> Result<()> {
    let (Some(backups), Some(existing)) = (backups, existing) else {
        return Ok(());
    };
    let name = names::choose(destination, backups, numbers)?.path(destination, backups);
    let directory = destination.directory().fd.as_fd();
    // A link to the input counts, as for cp.
    let older = sys::metadata_through_links(directory, &name);
    let older = older.map(|older| older.identity);
    // DEST itself may be the input, even if its backup is a hard link to it.
    if older.is_ok_and(|older| older != existing.identity && is_source(older)) {
        return Err(
            anyhow!("the backup {} would destroy SOURCE", Quoted::new(&name))
                .context(destination.cannot("back up")),
        );
    }
    Ok(())
}

/// Reads the numbers of the existing backups before the new file has a name, because a large
/// directory takes time.
pub(crate) fn read_numbers(
    destination: &Destination,
    backups: &Backups,
    numbers: &Numbers,
) -> Result<()> {
    names::choose(destination, backups, numbers)
        .map(drop)
        .with_context(|| destination.cannot("back up"))
}

/// Makes a backup of DEST just before the rename. Returns `None` if DEST is gone.
pub(crate) fn make(
    destination: &Destination,
    backups: &Backups,
    numbers: &Numbers,
) -> Result<Option<NewBackup>, Failure> {
    let mut method = BackupMethod::Link;
    let mut made: Option<NewBackup> = None;
    for _ in 0..MAX_BACKUPS {
        let Some(seen) = destination.snapshot()?.map(|now| now.identity) else {
            break;
        };
        let name = names::choose(destination, backups, numbers);
        let name = name.with_context(|| destination.cannot("back up"))?;
        let new = match method {
            BackupMethod::Link => link(destination, backups, numbers, name, seen),
            BackupMethod::Copy => match copy(destination) {
                Ok(Some(copied)) => publish(copied, destination, backups, numbers, name)
                    .map(|(made, ..)| Made::Backup(made)),
                Ok(None) => Ok(Made::NothingThere),
                Err(failure) => Err(failure),
            },
        };
        let new = match new.map_err(|failure| failure.within(&destination.cannot("back up")))? {
            Made::Backup(new) => new,
            Made::LinkRefused => {
                method = BackupMethod::Copy;
                continue;
            }
            Made::NothingThere => break,
        };
        let is_replaced = identity_of(destination).is_some_and(|now| !new.is_of(now));
        // A backup of a DEST that has been replaced may be the only name of its content.
        if let Some(before) = made.replace(new) {
            before.confirm();
        }
        if !is_replaced {
            break;
        }
    }
    Ok(made)
}

/// Makes a copy of a DEST that will be overwritten in place. `ready` may still refuse that before
/// the copy replaces an older backup. With [`Sync::Full`], syncs its name too. Returns `None` if
/// DEST is gone.
pub(crate) fn make_copy(
    destination: &Destination,
    backups: &Backups,
    numbers: &Numbers,
    sync: Sync,
    ready: impl FnOnce() -> Result<(), Failure>,
) -> Result<Option<NewBackup>, Failure> {
    let cannot = |failure: Failure| failure.within(&destination.cannot("back up"));
    let (name, copied) = names::choose(destination, backups, numbers)
        .map_err(Into::into)
        .and_then(|name| Ok((name, copy(destination)?)))
        .map_err(cannot)?;
    let Some(copied) = copied else {
        return Ok(None);
    };
    ready()?;
    let make = || -> Result<Option<NewBackup>, Failure> {
        let (made, file, name) = publish(copied, destination, backups, numbers, name)?;
        if sync == Sync::Full {
            let synced = destination.directory().sync(&file);
            synced.context("cannot sync its directory")?;
        }
        drop(file);
        drop(name);
        Ok(Some(made))
    };
    make().map_err(cannot)
}

/// The result of one attempt.
enum Made {
    Backup(NewBackup),
    /// No hard link is possible.
    LinkRefused,
    /// DEST is gone, or not a regular file.
    NothingThere,
}

/// Links DEST to the backup's name.
fn link(
    destination: &Destination,
    backups: &Backups,
    numbers: &Numbers,
    mut name: BackupName,
    seen: Identity,
) -> Result<Made, Failure> {
    loop {
        name.check_length(destination, backups)?;
        let path = name.path(destination, backups);
        match link_dest(destination, &path) {
            Ok(()) => return Ok(new_link(destination, path, seen, false)),
            Err(Errno::EXIST) => match name.next(destination, numbers)? {
                Some(next) => name = next,
                None => break,
            },
            Err(errno) => return refused(destination, errno),
        }
    }
    // An older simple backup is replaced in one call. If it already is a link to the same file, the
    // rename does nothing, and dropping `temporary` removes the new link.
    let path = name.path(destination, backups);
    let linked = TempName::random(destination.directory(), |temporary| {
        link_dest(destination, temporary)
    });
    let temporary = match linked {
        Ok((temporary, ())) => temporary,
        Err(error) => match Errno::from_io_error(&error) {
            Some(errno) => return refused(destination, errno),
            None => return Err(anyhow!(error).into()),
        },
    };
    replace(&temporary, destination, &path)?;
    drop(temporary);
    Ok(new_link(destination, path, seen, true))
}

/// A copy of DEST, and DEST as it was then.
struct Copied(NamedCopy, Metadata);

/// Copies DEST to a random name. Returns `None` if DEST is gone.
fn copy(destination: &Destination) -> Result<Option<Copied>, Failure> {
    let Some(old) = destination.open(None)? else {
        return match destination.snapshot()? {
            None => Ok(None),
            Some(_) => Err(anyhow!("it is not a regular file").into()),
        };
    };
    let content = old.content().context("it cannot be read")?;
    // From the same descriptor: the name could lead to another file by now, with other attributes.
    let attributes = Attributes::for_copy().of(destination, &old)?;
    let copy = NamedCopy::make(content, &attributes, destination, Sync::File)?;
    Ok(Some(Copied(copy, old.metadata)))
}

/// Gives a copy the backup's name. Also returns the open copy, and the temporary name that it may
/// still have, which must be removed after the file is closed.
fn publish(
    Copied(copy, old): Copied,
    destination: &Destination,
    backups: &Backups,
    numbers: &Numbers,
    mut name: BackupName,
) -> Result<(NewBackup, OwnedFd, TempName), Failure> {
    let NamedCopy {
        file,
        name: mut temporary,
        ..
    } = copy;
    let identity = sys::metadata(&file)
        .context("cannot stat the copy")?
        .identity;
    let directory = destination.directory().fd.as_fd();
    let (path, stays) = loop {
        name.check_length(destination, backups)?;
        let path = name.path(destination, backups);
        match temporary.rename_noreplace(directory, &path, destination.filesystem()) {
            Ok(Moved::Renamed) => {
                temporary.disarm();
                break (path, false);
            }
            Ok(Moved::Linked) => break (path, false),
            Err(Errno::EXIST) => {
                if let Some(next) = name.next(destination, numbers)? {
                    name = next;
                } else {
                    replace(&temporary, destination, &path)?;
                    temporary.disarm();
                    break (path, true);
                }
            }
            // The filesystem has neither links nor RENAME_NOREPLACE (FUSE).
            Err(Errno::PERM | Errno::OPNOTSUPP | Errno::NOSYS | Errno::MLINK) => {
                if sys::metadata_at(directory, &path).is_ok() {
                    if let Some(next) = name.next(destination, numbers)? {
                        name = next;
                        continue;
                    }
                }
                replace(&temporary, destination, &path)?;
                temporary.disarm();
                break (path, true);
            }
            Err(errno) => return Err(anyhow!(errno).into()),
        }
    };
    let made = NewBackup {
        destination: destination.clone(),
        name: path,
        identity,
        of: old.identity,
        links: old.links,
        stays,
    };
    Ok((made, file, temporary))
}

/// Creates a hard link to the current DEST.
fn link_dest(destination: &Destination, name: &Path) -> Result<(), Errno> {
    let directory = destination.directory().fd.as_fd();
    for _ in 1..MAX_LINKS {
        match sys::link(directory, destination.name(), directory, name) {
            // Another process replaced DEST while the kernel looked it up.
            Err(Errno::NOENT) if identity_of(destination).is_some() => {}
            linked => return linked,
        }
    }
    sys::link(directory, destination.name(), directory, name)
}

fn new_link(destination: &Destination, name: PathBuf, seen: Identity, stays: bool) -> Made {
    let linked = sys::metadata_at(destination.directory().fd.as_fd(), &name);
    let (identity, links) = match linked {
        Ok(linked) => (linked.identity, linked.links),
        // Another run has removed its own backup.
        Err(Errno::NOENT) => return Made::NothingThere,
        Err(_) => (seen, 0),
    };
    Made::Backup(NewBackup {
        destination: destination.clone(),
        name,
        identity,
        of: if destination.filesystem().numbers_links_anew() {
            seen
        } else {
            identity
        },
        links,
        stays,
    })
}

/// Decides whether to copy, after a link was refused.
fn refused(destination: &Destination, errno: Errno) -> Result<Made, Failure> {
    match errno {
        // EPERM and EACCES: fs.protected_hardlinks. EOPNOTSUPP, ENOSYS, EPERM: the filesystem has
        // no links. EMLINK: the file has as many as it can have. EXDEV: the file counts for another
        // project quota than its directory (xfs, ext4).
        Errno::PERM
        | Errno::ACCESS
        | Errno::OPNOTSUPP
        | Errno::NOSYS
        | Errno::MLINK
        | Errno::XDEV => Ok(Made::LinkRefused),
        // A security filter can answer ENOENT, too.
        Errno::NOENT if identity_of(destination).is_some() => Ok(Made::LinkRefused),
        Errno::NOENT => Ok(Made::NothingThere),
        errno => Err(anyhow!(errno).into()),
    }
}

/// Renames a file over an older backup.
fn replace(temporary: &TempName, destination: &Destination, name: &Path) -> Result<()> {
    names::check_replaceable(destination, name)?;
    let directory = destination.directory().fd.as_fd();
    Ok(temporary.rename(directory, name, destination.filesystem())?)
}

fn identity_of(destination: &Destination) -> Option<Identity> {
    Some(destination.snapshot_errno().ok()??.identity)
}

impl NewBackup {
    /// Returns whether this is a backup of the DEST that is there `now`. That can be the file of
    /// the link rather than the one that was seen before.
    fn is_of(&self, now: Identity) -> bool {
        now == self.of || now == self.identity
    }

    /// Keeps the backup, because DEST is new. Returns its path.
    pub(crate) fn confirm(mut self) -> PathBuf {
        self.stays = true;
        self.destination.directory_path().join(&self.name)
    }
}

impl Drop for NewBackup {
    fn drop(&mut self) {
        let directory = self.destination.directory().fd.as_fd();
        // cifs deletes a DEST that this machine has open, and then the rename fails. Its name is
        // still visible, but its link count is lower.
        let is_there = |now: Metadata| self.is_of(now.identity) && now.links >= self.links;
        let now = self.destination.snapshot_errno();
        if !self.stays
            && now.is_ok_and(|now| now.is_some_and(is_there))
            && has_name(directory, &self.name, self.identity)
        {
            // The first error is the one to report.
            let _ = sys::unlink(directory, &self.name);
        }
    }
}
