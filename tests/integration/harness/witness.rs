//! Signs from which a test learns that something has happened: a file offset, inotify(7), names.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{Seek, Write};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::inotify;

/// A name of any bytes.
pub(crate) fn os(bytes: &[u8]) -> OsString {
    OsStr::from_bytes(bytes).to_owned()
}

/// Input that tells whether anything has been read of it: a file, whose offset the program shares.
pub(crate) struct Witness(pub(crate) File);

impl Witness {
    pub(crate) fn new() -> Self {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"new").unwrap();
        file.rewind().unwrap();
        Self(file)
    }

    /// The program's end of it.
    pub(crate) fn input(&self) -> File {
        self.0.try_clone().unwrap()
    }

    #[track_caller]
    pub(crate) fn has_not_been_read(mut self) {
        assert_eq!(self.0.stream_position().unwrap(), 0, "input has been read");
    }
}

/// What inotify(7) tells of some files or directories.
pub(crate) struct Watch(pub(crate) OwnedFd);

impl Watch {
    pub(crate) fn of(path: impl AsRef<Path>, events: inotify::WatchFlags) -> Self {
        let flags = inotify::CreateFlags::NONBLOCK | inotify::CreateFlags::CLOEXEC;
        let queue = inotify::init(flags).unwrap();
        inotify::add_watch(&queue, path.as_ref(), events).unwrap();
        Self(queue)
    }

    /// What has happened so far, with the name in the directory where there is one.
    pub(crate) fn events(&self) -> Vec<(inotify::ReadFlags, String)> {
        let mut buffer = [const { MaybeUninit::uninit() }; 4096];
        let mut reader = inotify::Reader::new(&self.0, &mut buffer);
        let mut events = Vec::new();
        while let Ok(event) = reader.next() {
            let name = event.file_name().unwrap_or_default();
            events.push((event.events(), name.to_string_lossy().into_owned()));
        }
        events
    }
}

/// A file open for reading, at its start.
#[track_caller]
pub(crate) fn open(path: impl AsRef<Path>) -> File {
    let path = path.as_ref();
    File::open(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The temporary name that a new file has between link and rename, on a local filesystem.
///
/// Made by FNV-1a, which must stay the same from release to release.
pub(crate) fn derived_name(dest: &str) -> String {
    format!(".atomwrite.{:016x}.tmp", fnv_1a(dest))
}

/// The name of the lock file of a DEST: names that differ only in case share one.
pub(crate) fn lock_name(dest: &str) -> String {
    format!(".atomwrite.{:016x}.lock", fnv_1a(&dest.to_lowercase()))
}

fn fnv_1a(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// Returns whether a name, which may have directories before it, is a temporary one of the program.
pub(crate) fn is_temporary(name: &OsStr) -> bool {
    let name = Path::new(name).file_name().unwrap_or_default();
    name.as_bytes().starts_with(b".atomwrite.")
}
