//! The forms of calling atomwrite in this part, and the result that each must have.
//!
//! Invariant: a form has all facts that its check needs, so no test has a form of its own.

use std::ffi::OsString;

use crate::ground::Ground;
use crate::programs::{Program, atomwrite};

/// A command line of atomwrite.
#[derive(Debug)]
pub(super) struct Form {
    words: &'static [&'static str],
    /// Whether there is a DEST before.
    pub(super) replaces: bool,
}

const fn replaces(words: &'static [&'static str]) -> Form {
    Form {
        words,
        replaces: true,
    }
}

const fn creates(words: &'static [&'static str]) -> Form {
    Form {
        words,
        replaces: false,
    }
}

pub(super) const FORMS: [Form; 16] = [
    PLAIN,
    replaces(&["src", "o"]),
    replaces(&["o", "--", "cat"]),
    replaces(&["-a", "o"]),
    replaces(&["-b", "o"]),
    replaces(&["-b", "src", "o"]),
    replaces(&["--validate", "test -s \"$1\"", "o"]),
    replaces(&["-C", "o"]),
    replaces(&["--sync=none", "o"]),
    creates(&["-n", "o"]),
    creates(&["-D", "d/e/o"]),
    creates(&["--lock", "o"]),
    LOCKED,
    replaces(&["-b", "--lock", "o"]),
    replaces(&["--validate", "test -s \"${1%/*}/src\"", "o"]),
    creates(&["-D", "-t", "d", "src"]),
];

/// The next write after any other: it must remove the derived name.
pub(super) const PLAIN: Form = replaces(&["o"]);

/// The next write after one that locks: it must remove the lock file, too.
pub(super) const LOCKED: Form = replaces(&["--lock", "o"]);

impl Form {
    fn has(&self, word: &str) -> bool {
        self.words.contains(&word)
    }

    /// Returns where DEST is, from the current directory.
    pub(super) fn destination(&self) -> &'static str {
        if self.has("d/e/o") {
            "d/e/o"
        } else if self.is_of_many() {
            "d/src"
        } else {
            "o"
        }
    }

    /// Returns whether there could be more files, of which some failures do not name one.
    pub(super) fn is_of_many(&self) -> bool {
        self.has("-t")
    }

    /// Returns whether `o~` will be the old file; before, it is an older one.
    pub(super) fn backs_up(&self) -> bool {
        self.has("-b")
    }

    /// Returns whether the content comes from a program, whose status may be ours.
    pub(super) fn runs_command(&self) -> bool {
        self.has("--")
    }

    pub(super) fn validates(&self) -> bool {
        self.has("--validate")
    }

    pub(super) fn makes_directories(&self) -> bool {
        self.has("-D")
    }

    /// Returns whether it must not replace anything.
    pub(super) fn is_exclusive(&self) -> bool {
        self.has("-n")
    }

    /// Returns whether it cannot do without locks.
    pub(super) fn locks(&self) -> bool {
        self.has("-a") || self.has("--lock")
    }

    /// Returns whether it must be on the disk at the end.
    pub(super) fn is_synced(&self) -> bool {
        !self.has("--sync=none")
    }
}

/// Who writes, and how.
#[derive(Debug, Clone, Copy)]
pub(super) enum Writer {
    Atomwrite {
        form: &'static Form,
        /// Whether the new file has a temporary name from the start, because there is no
        /// O_TMPFILE.
        named: bool,
    },
    Other(Program),
}

impl Writer {
    pub(super) fn program(self) -> Program {
        match self {
            Self::Atomwrite { .. } => Program::Atomwrite,
            Self::Other(program) => program,
        }
    }

    pub(super) fn form(self) -> Option<&'static Form> {
        match self {
            Self::Atomwrite { form, .. } => Some(form),
            Self::Other(_) => None,
        }
    }

    pub(super) fn words(self, ground: &Ground) -> Vec<OsString> {
        match self {
            Self::Atomwrite { form, .. } => atomwrite(ground, form.words),
            Self::Other(program) => program.words(ground),
        }
    }

    /// Returns whether it is atomwrite without any option.
    pub(super) fn is_plain(self) -> bool {
        matches!(self, Self::Atomwrite { form, named: false } if form.words == PLAIN.words)
    }

    /// Returns the words for an example.
    pub(super) fn shown(self) -> String {
        match self {
            Self::Atomwrite { form, named } => {
                let named = if named { ", with a temporary name" } else { "" };
                format!("atomwrite {}{named}", form.words.join(" "))
            }
            Self::Other(program) => program.shown().to_owned(),
        }
    }

    pub(super) fn destination(self) -> &'static str {
        self.form().map_or("o", Form::destination)
    }

    pub(super) fn replaces(self) -> bool {
        self.form().is_none_or(|form| form.replaces)
    }

    /// Returns the mode of the old file. The other programs are not required to keep a mode that a
    /// new file would not get.
    pub(super) fn old_mode(self) -> u32 {
        match self {
            Self::Atomwrite { .. } => 0o640,
            Self::Other(_) => 0o644,
        }
    }

    /// Returns what DEST must hold when all is well.
    pub(super) fn new_content(self, old: &[u8], input: &[u8]) -> Vec<u8> {
        if self.form().is_some_and(|form| form.has("-a")) {
            [old, input].concat()
        } else {
            input.to_vec()
        }
    }
}
