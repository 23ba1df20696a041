//! The programs under test: atomwrite, and what people use instead.

use std::ffi::OsString;
use std::path::Path;

use crate::ground::Ground;

/// Where all programs are. A wrapper before them on a developer's machine may take longer to start
/// than they run.
pub(crate) const PATH: &str = "/usr/sbin:/usr/bin:/sbin:/bin";

/// A way to write the file `o` in the current directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Program {
    Atomwrite,
    Redirect,
    Sponge,
    CatAndMove,
    Copy,
    Install,
    Python,
}

/// As the documentation of tempfile and os.replace suggests it.
const PYTHON: &str = "\
import os, sys, tempfile
fd, name = tempfile.mkstemp(dir='.')
with os.fdopen(fd, 'wb') as f:
    f.write(sys.stdin.buffer.read())
os.replace(name, 'o')
";

impl Program {
    pub(crate) const ALL: [Self; 7] = [
        Self::Atomwrite,
        Self::Redirect,
        Self::Sponge,
        Self::CatAndMove,
        Self::Copy,
        Self::Install,
        Self::Python,
    ];

    /// The programs that people use instead of atomwrite.
    pub(crate) const OTHERS: [Self; 6] = [
        Self::Redirect,
        Self::Sponge,
        Self::CatAndMove,
        Self::Copy,
        Self::Install,
        Self::Python,
    ];

    /// Returns the name in the tables.
    pub(crate) fn shown(self) -> &'static str {
        match self {
            Self::Atomwrite => "`atomwrite`",
            Self::Redirect => "`cat >o`",
            Self::Sponge => "`sponge`",
            Self::CatAndMove => "`cat >t && mv t o`",
            Self::Copy => "`cp src o`",
            Self::Install => "`install src o`",
            Self::Python => "Python's `os.replace`",
        }
    }

    /// Returns the words that write `o` in the current directory. `cp` and `install` read the file
    /// `src`, all others stdin, which must be given the same bytes.
    pub(crate) fn words(self, ground: &Ground) -> Vec<OsString> {
        let words = |words: &[&str]| words.iter().map(OsString::from).collect();
        match self {
            Self::Atomwrite => atomwrite(ground, ["o"]),
            Self::Redirect => words(&["sh", "-c", "exec cat >o"]),
            Self::Sponge => words(&["sponge", "o"]),
            Self::CatAndMove => words(&["sh", "-c", "cat >t && mv t o"]),
            Self::Copy => words(&["cp", "src", "o"]),
            Self::Install => words(&["install", "-m", "644", "src", "o"]),
            Self::Python => words(&["python3", "-c", PYTHON]),
        }
    }

    /// Returns whether it reads stdin; the others read `src`.
    pub(crate) fn reads_stdin(self) -> bool {
        !matches!(self, Self::Copy | Self::Install)
    }
}

/// Returns a call of atomwrite with these words.
pub(crate) fn atomwrite<W: Into<OsString>>(
    ground: &Ground,
    words: impl IntoIterator<Item = W>,
) -> Vec<OsString> {
    let program = ground.binary.clone().into_os_string();
    let words = words.into_iter().map(Into::into);
    std::iter::once(program).chain(words).collect()
}

/// Returns whether a name is a temporary one of atomwrite's: of a file, of a link, or of a
/// directory.
pub(crate) fn is_temporary(name: &Path) -> bool {
    has_form(name, ".tmp")
}

/// Returns whether a name is a lock file's.
pub(crate) fn is_lock(name: &Path) -> bool {
    has_form(name, ".lock")
}

/// Returns whether atomwrite has made the name beside DEST, and must remove it.
pub(crate) fn is_ours(name: &Path) -> bool {
    is_temporary(name) || is_lock(name)
}

fn has_form(name: &Path, end: &str) -> bool {
    let name = name.to_string_lossy();
    name.starts_with(".atomwrite.") && name.ends_with(end)
}

/// Returns the temporary name that a local filesystem sees between link and rename. The next write
/// to the same DEST removes it; all other temporary names are random, and stay after a kill.
pub(crate) fn derived(destination: &str) -> String {
    format!(".atomwrite.{:016x}.tmp", fnv(destination))
}

/// Returns the name of the lock file of a DEST.
pub(crate) fn lock_file(destination: &str) -> String {
    format!(".atomwrite.{:016x}.lock", fnv(&destination.to_lowercase()))
}

/// FNV-1a.
fn fnv(name: &str) -> u64 {
    name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}
