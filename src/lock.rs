//! `--lock` and `--append`: one writer at a time, by a lock file beside DEST.
//!
//! Invariant: a lock counts only while the locked file has the lock file's name in DEST's
//! directory. A lock file can exist without DEST, and it is not replaced when DEST is. Its lock
//! belongs to the open file description (fcntl_locking(2)), and holds between NFS clients. DEST is
//! resolved again under the lock.
//!
//! A DEST that is overwritten in place is locked itself as well. A process that cannot make a lock
//! file then locks DEST only.

use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};

use crate::checks::{self, Rules};
use crate::destination::Destination;
use crate::message::Messages;
use crate::outcome::Failure;
use crate::parents::Parents;
use crate::request::{InPlace, Locking, Request};
use crate::signals;
use crate::sys::{self, Errno, FileSystem, Identity, Kind, OpenDirectory};
use crate::temp_name::{has_name, jitter, lock_name};

/// After this time the user learns what atomwrite waits for. A permission error counts only after
/// the same time, because another process may be making the lock file.
const PATIENCE: Duration = Duration::from_secs(1);

const SHORTEST_PAUSE: Duration = Duration::from_millis(1);
const LONGEST_PAUSE: Duration = Duration::from_millis(50);

/// A held lock. Must be dropped after the commit.
#[derive(Debug)]
pub(crate) struct Lock {
    file: Option<LockFile>,
    /// DEST itself, if it is overwritten in place.
    _in_place: Option<OwnedFd>,
    /// The directories that were made for the lock file, the outermost first.
    pub(crate) directories: Vec<PathBuf>,
}

#[derive(Debug)]
struct LockFile {
    directory: Rc<OpenDirectory>,
    name: PathBuf,
    identity: Identity,
    /// Closing it releases the lock, so it is dropped after the name is removed.
    _file: OwnedFd,
    /// True unless the filesystem is local, because removing the lock file loses updates on SMB.
    stays: bool,
}

/// The result of one attempt to lock.
enum Attempt<T> {
    Held(T),
    /// Another process has the lock, or has just changed the name.
    Busy,
    /// We may not open the lock file; another process may be making it.
    Refused(Errno),
    /// No lock file can be made in this directory.
    Unavailable(Errno),
}

impl Lock {
    /// Takes the lock, and resolves DEST under it. The lock is `None` without `--lock`.
    pub(crate) fn acquire(
        request: &Request,
        messages: Messages,
        resolve: impl Fn() -> Result<Destination>,
    ) -> Result<(Option<Self>, Destination), Failure> {
        let mut destination = resolve()?;
        let Locking::Exclusive(timeout) = request.locking else {
            return Ok((None, destination));
        };
        let stdin = Stdin::if_dest(&destination);
        checks::directory(&destination, destination.snapshot()?, Rules::of(request))?;
        signals::guard()?;
        let mut directories = Vec::new();
        if !destination.missing().is_empty() {
            // A lock file needs its directory, so the missing ones are made before the commit and
            // stay.
            directories = Parents::make(&destination)?.keep(request.sync)?;
            destination = resolve()?;
        }
        let mut wait = Wait::new(timeout, messages);
        loop {
            let tried = Self::attempt(&destination, request.in_place)
                .with_context(|| destination.cannot("lock"))?;
            match tried {
                Attempt::Held(mut lock) => {
                    let now = resolve()?;
                    if destination.is_same_place(&now) && lock.counts_in(&now) {
                        stdin.still_is(&now)?;
                        lock.directories = directories;
                        return Ok((Some(lock), now));
                    }
                    drop(lock);
                    destination = now;
                    wait.until_free(&destination)?;
                }
                Attempt::Busy => wait.until_free(&destination)?,
                Attempt::Refused(errno) => wait.until_allowed(&destination, errno)?,
                Attempt::Unavailable(errno) => return Err(no_lock_file(&destination, errno)),
            }
        }
    }

    /// Returns whether the lock file has its name in the directory of DEST, which was opened under
    /// the lock. On NFS, the name may have been found in the cache before.
    fn counts_in(&self, destination: &Destination) -> bool {
        let directory = destination.directory().fd.as_fd();
        let has_name = |file: &LockFile| has_name(directory, &file.name, file.identity);
        self.file.as_ref().is_none_or(has_name)
    }

    fn attempt(destination: &Destination, in_place: InPlace) -> Result<Attempt<Self>, Errno> {
        let existing = destination.snapshot_errno()?;
        let regular = existing.filter(|existing| existing.kind == Kind::Regular);
        // On SMB, no other descriptor could read DEST then, so the lock file must do.
        let can_be_locked = destination.filesystem() != FileSystem::Smb;
        let file = match LockFile::attempt(destination)? {
            Attempt::Held(file) => Some(file),
            Attempt::Busy => return Ok(Attempt::Busy),
            Attempt::Refused(errno) => return Ok(Attempt::Refused(errno)),
            Attempt::Unavailable(errno)
                if in_place == InPlace::Never || regular.is_none() || !can_be_locked =>
            {
                return Ok(Attempt::Unavailable(errno));
            }
            Attempt::Unavailable(_) => None,
        };
        let is_overwritten = |regular| {
            let in_place = || checks::is_in_place(destination, Some(&regular), in_place);
            file.is_none() || (can_be_locked && in_place())
        };
        if !regular.is_some_and(is_overwritten) {
            return Ok(Attempt::Held(Self {
                file,
                _in_place: None,
                directories: Vec::new(),
            }));
        }
        let directory = destination.directory().fd.as_fd();
        let dest = match sys::open_in_place(directory, destination.name()) {
            // Another process has just replaced DEST, or has a lease on it (EAGAIN).
            Err(Errno::NOENT | Errno::STALE | Errno::AGAIN) => return Ok(Attempt::Busy),
            opened => opened?,
        };
        match sys::try_lock(&dest) {
            Err(errno) if is_busy(errno, destination) => return Ok(Attempt::Busy),
            locked => locked?,
        }
        let locked = sys::metadata(&dest)?.identity;
        if !has_name(directory, destination.name(), locked) {
            return Ok(Attempt::Busy);
        }
        Ok(Attempt::Held(Self {
            file,
            _in_place: Some(dest),
            directories: Vec::new(),
        }))
    }
}

impl LockFile {
    fn attempt(destination: &Destination) -> Result<Attempt<Self>, Errno> {
        let open_directory = destination.directory();
        let directory = open_directory.fd.as_fd();
        let name = lock_name(destination.name());
        if destination.directory_metadata().is_append_only {
            // A lock file here could never be removed.
            return Ok(Attempt::Unavailable(Errno::PERM));
        }
        let file = match sys::open_lock_file(directory, &name) {
            Err(Errno::NOENT) => match sys::create_lock_file(directory, &name, mode(destination)) {
                Err(Errno::EXIST | Errno::STALE) => return Ok(Attempt::Busy),
                Err(errno @ (Errno::ACCESS | Errno::PERM | Errno::ROFS)) => {
                    return Ok(Attempt::Unavailable(errno));
                }
                created => created?,
            },
            // EAGAIN: another client must give the file up first.
            Err(Errno::STALE | Errno::AGAIN) => return Ok(Attempt::Busy),
            Err(Errno::ACCESS) => return Ok(Attempt::Refused(Errno::ACCESS)),
            Err(Errno::ROFS) => return Ok(Attempt::Unavailable(Errno::ROFS)),
            opened => opened?,
        };
        let seen = match sys::metadata(&file) {
            Err(Errno::STALE) => return Ok(Attempt::Busy),
            seen => seen?,
        };
        if seen.kind != Kind::Regular {
            return Err(Errno::EXIST);
        }
        match sys::try_lock(&file) {
            Err(errno) if is_busy(errno, destination) => return Ok(Attempt::Busy),
            Err(Errno::STALE) => return Ok(Attempt::Busy),
            locked => locked?,
        }
        // The last owner may have removed the file before this process locked it.
        if !has_name(directory, &name, seen.identity) {
            return Ok(Attempt::Busy);
        }
        Ok(Attempt::Held(Self {
            directory: Rc::clone(open_directory),
            name,
            identity: seen.identity,
            _file: file,
            stays: !destination.filesystem().is_local(),
        }))
    }
}

/// Returns whether another process holds the lock. cifs reports that as EACCES. Elsewhere EACCES
/// means that a security module forbids the lock, such as an AppArmor profile without the
/// permission k.
fn is_busy(errno: Errno, destination: &Destination) -> bool {
    errno == Errno::AGAIN || (errno == Errno::ACCESS && destination.filesystem() == FileSystem::Smb)
}

impl Drop for LockFile {
    fn drop(&mut self) {
        let directory = self.directory.fd.as_fd();
        // After any other error, the name still counts as ours.
        let is_ours = || match sys::metadata_at(directory, &self.name) {
            Ok(seen) => seen.identity == self.identity,
            Err(errno) => errno != Errno::NOENT,
        };
        if !self.stays && is_ours() {
            // The name is ours under the lock. EPERM is normal in a sticky directory, where another
            // user's lock file stays until its owner or root takes the lock.
            let _ = sys::unlink(directory, &self.name);
        }
    }
}

/// Returns the lock file's mode. Other users must be able to lock it, unless only we may write to
/// the directory.
fn mode(destination: &Destination) -> u32 {
    let directory = destination.directory_metadata();
    let is_ours_alone = directory.uid == sys::effective_uid() && directory.mode & 0o022 == 0;
    if is_ours_alone { 0o600 } else { 0o666 }
}

/// The state of waiting for the lock, with pauses that become longer.
struct Wait {
    since: Instant,
    timeout: Option<Duration>,
    next: Duration,
    messages: Messages,
    notified: bool,
    refused_since: Option<Instant>,
}

impl Wait {
    fn new(timeout: Option<Duration>, messages: Messages) -> Self {
        Self {
            since: Instant::now(),
            timeout,
            next: SHORTEST_PAUSE,
            messages,
            notified: false,
            refused_since: None,
        }
    }

    /// Pauses because another process has the lock. Errors: the timeout is over.
    fn until_free(&mut self, destination: &Destination) -> Result<(), Failure> {
        self.refused_since = None;
        let waited = self.since.elapsed();
        if self.is_over() {
            return Err(anyhow!("it is locked by another process")
                .context(destination.cannot("lock"))
                .into());
        }
        if !self.notified && (self.messages.are_verbose() || waited >= PATIENCE) {
            self.notified = true;
            self.messages.notice(format_args!(
                "waiting for the lock on {}",
                destination.display()
            ));
        }
        self.pause()
    }

    /// Pauses because the lock file is not accessible. Errors: it has not been for [`PATIENCE`].
    fn until_allowed(&mut self, destination: &Destination, errno: Errno) -> Result<(), Failure> {
        let since = self.refused_since.get_or_insert_with(Instant::now);
        if since.elapsed() >= PATIENCE || self.is_over() {
            return Err(no_lock_file(destination, errno));
        }
        self.pause()
    }

    fn is_over(&self) -> bool {
        self.timeout
            .is_some_and(|timeout| self.since.elapsed() >= timeout)
    }

    fn pause(&mut self) -> Result<(), Failure> {
        let pause = self.next / 2 + jitter(self.next.subsec_millis());
        let rest = self
            .timeout
            .map(|timeout| timeout.saturating_sub(self.since.elapsed()));
        signals::pause(rest.map_or(pause, |rest| rest.min(pause)))?;
        self.next = (self.next * 2).min(LONGEST_PAUSE);
        Ok(())
    }
}

fn no_lock_file(destination: &Destination, errno: Errno) -> Failure {
    anyhow!(errno)
        .context("cannot use a lock file beside it")
        .context(destination.cannot("lock"))
        .into()
}

/// The file on standard input, if it is DEST.
struct Stdin(Option<Identity>);

impl Stdin {
    fn if_dest(destination: &Destination) -> Self {
        let dest = || Some(destination.snapshot_errno().ok()??.identity);
        let stdin = sys::metadata(sys::stdin()).ok().map(|stdin| stdin.identity);
        Self(stdin.filter(|stdin| dest() == Some(*stdin)))
    }

    /// Refuses input that the shell opened before another process replaced DEST, because the update
    /// of that process would be lost.
    fn still_is(&self, destination: &Destination) -> Result<(), Failure> {
        let Some(before) = self.0 else {
            return Ok(());
        };
        if destination
            .snapshot()?
            .is_some_and(|now| now.identity == before)
        {
            return Ok(());
        }
        let typed = destination.display();
        Err(Failure::Refused(anyhow!(
            "cannot write {typed}: standard input is an old {typed}, which another process \
             replaced before this one had the lock; name it as an operand of COMMAND: \
             atomwrite --lock {typed} -- COMMAND {typed}"
        )))
    }
}
