//! Messages: one line each, on standard error. No other module prints.
//!
//! Invariant: `atomwrite: cannot <verb> <what> '<path>': <reason>`, lower case, no full stop, no "os error". A line is one
//! write, so that the lines of two programs in a pipeline do not mix. A standard error that is closed or full is no reason
//! to fail: the exit status still reports it. This module imports only `sys`.

mod progress;

use std::ffi::OsStr;
use std::fmt::{self, Display, Write as _};
use std::io::{self, Write as _};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

use anyhow::Context;

pub(crate) use self::progress::Progress;
use crate::sys;

/// How much the user wants to read. Errors are printed always.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verbosity {
    /// Errors only.
    Quiet,
    /// Errors and warnings.
    Normal,
    /// What was done, too.
    Verbose,
}

/// The way to the user.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Messages {
    verbosity: Verbosity,
}

impl Messages {
    pub(crate) fn new(verbosity: Verbosity) -> Self {
        Self { verbosity }
    }

    pub(crate) fn are_verbose(self) -> bool {
        self.verbosity == Verbosity::Verbose
    }

    /// Says what could not be done as the user might expect.
    pub(crate) fn warn(self, warning: impl Display) {
        if self.verbosity != Verbosity::Quiet {
            say(format_args!("warning: {warning}"));
        }
    }

    /// Says what is going on where the user would wonder.
    pub(crate) fn notice(self, notice: impl Display) {
        if self.verbosity != Verbosity::Quiet {
            say(format_args!("{notice}"));
        }
    }

    /// Says what was done.
    pub(crate) fn report(self, outcome: impl Display) {
        if self.verbosity == Verbosity::Verbose {
            say(format_args!("{outcome}"));
        }
    }
}

/// Says why nothing, or not all, was done.
pub(crate) fn error(error: impl Display) {
    say(format_args!("{error}"));
}

/// Says of each file what it is now, one to a line.
pub(crate) fn list(what: &str, files: &[impl AsRef<OsStr>]) {
    for file in files {
        say(format_args!("{what}: {}", Quoted::new(file)));
    }
}

/// Bytes that a pipe takes at once, without waiting, when poll calls it writable (PIPE_BUF).
const ATOMIC: usize = 4096;

fn say(text: fmt::Arguments<'_>) {
    let mut line = String::with_capacity(128);
    line.push_str("atomwrite: ");
    // Writing to a String cannot fail; a Display that does leaves what it wrote.
    let _ = line.write_fmt(text);
    line.push('\n');
    sys::ignore_broken_pipes();
    for part in line.as_bytes().chunks(ATOMIC) {
        // Blocked signals are delivered while a full pipe is waited for; then the line is given up.
        let is_interrupted = sys::are_signals_blocked() && !is_writable();
        // An error cannot be reported; the exit status stays as it is.
        if is_interrupted || io::stderr().write_all(part).is_err() {
            return;
        }
    }
}

/// Waits until standard error takes a line. False if a signal came.
fn is_writable() -> bool {
    let stderr = io::stderr();
    // After a signal nothing is waited for.
    let timeout = sys::first_signal().map(|_| Duration::ZERO);
    match sys::poll([(stderr.as_fd(), sys::Event::Writable)], timeout) {
        Ok([ready]) => ready.is_any(),
        Err(errno) => errno != sys::Errno::INTR,
    }
}

/// Prints what was asked for with `--help` or `--version`: the only text for stdout.
pub(crate) fn print(text: &str) -> anyhow::Result<()> {
    sys::ignore_broken_pipes();
    let mut stdout = io::stdout().lock();
    let written = stdout.write_all(text.as_bytes());
    match written.and_then(|()| stdout.flush()) {
        // A reader that has seen enough, like head.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written.context("cannot write to standard output"),
    }
}

/// An error with its causes, each after a colon.
pub(crate) struct Chain<'e>(pub(crate) &'e anyhow::Error);

impl Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (depth, cause) in self.0.chain().enumerate() {
            if depth > 0 {
                f.write_str(": ")?;
            }
            f.write_str(&reason(&cause.to_string()))?;
        }
        Ok(())
    }
}

/// The system's text for an errno, as it reads in the middle of a line: `No such file or directory (os error 2)` is for
/// programmers.
fn reason(text: &str) -> String {
    // The crate tempfile adds a name that nobody has chosen.
    let named = text
        .strip_suffix('"')
        .and_then(|text| text.rsplit_once(" at path \""));
    let of_system = |text| without_number(text).is_some();
    let text = match named {
        Some((before, _)) if of_system(before) => before,
        _ => text,
    };
    let text = without_number(text).unwrap_or(text);
    let mut letters = text.chars();
    match (letters.next(), letters.next()) {
        (Some(first), Some(second)) if first.is_uppercase() && second.is_lowercase() => {
            first.to_lowercase().chain(text.chars().skip(1)).collect()
        }
        _ => text.to_owned(),
    }
}

/// The text before ` (os error 2)`, if that is its end.
fn without_number(text: &str) -> Option<&str> {
    let (before, number) = text.strip_suffix(')')?.rsplit_once(" (os error ")?;
    number
        .bytes()
        .all(|digit| digit.is_ascii_digit())
        .then_some(before)
}

/// A path as the user typed it, quoted so that it can be pasted into a shell, as coreutils' shell-escape-always does it.
/// What a terminal would act on, and what is not UTF-8, is escaped.
pub(crate) struct Quoted<'p>(pub(crate) &'p OsStr);

impl<'p> Quoted<'p> {
    pub(crate) fn new(path: &'p (impl AsRef<OsStr> + ?Sized)) -> Self {
        Self(path.as_ref())
    }
}

impl Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut is_escaped = false;
        // Ends one kind of quotes and begins the other: '...' takes all bytes as they are, $'...' escapes.
        let mut escape = |f: &mut fmt::Formatter<'_>, wanted| match (is_escaped, wanted) {
            (false, true) | (true, false) => {
                is_escaped = wanted;
                f.write_str(if wanted { "'$'" } else { "''" })
            }
            _ => Ok(()),
        };
        f.write_char('\'')?;
        for chunk in self.0.as_bytes().utf8_chunks() {
            for letter in chunk.valid().chars() {
                escape(f, is_acted_on(letter))?;
                match letter {
                    '\'' => f.write_str(r"'\''")?,
                    letter => Escaped(letter.encode_utf8(&mut [0; 4])).fmt(f)?,
                }
            }
            for byte in chunk.invalid() {
                escape(f, true)?;
                write!(f, r"\x{byte:02x}")?;
            }
        }
        f.write_char('\'')
    }
}

/// Tells whether a terminal would act on it. The overrides of the writing direction can make a name look like another one.
fn is_acted_on(letter: char) -> bool {
    letter.is_control() || matches!(letter, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// A text without the characters that a terminal would act on.
pub(crate) struct Escaped<'t>(pub(crate) &'t str);

impl Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for letter in self.0.chars() {
            match letter {
                '\n' => f.write_str("\\n")?,
                '\t' => f.write_str("\\t")?,
                '\r' => f.write_str("\\r")?,
                control if is_acted_on(control) => {
                    let mut bytes = [0; 4];
                    for byte in control.encode_utf8(&mut bytes).bytes() {
                        write!(f, "\\x{byte:02x}")?;
                    }
                }
                other => f.write_char(other)?,
            }
        }
        Ok(())
    }
}

/// The beginning of a message.
pub(crate) fn cannot(verb: &str, path: &Path) -> String {
    format!("cannot {verb} {}", Quoted::new(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_a_path_as_it_was_typed() {
        assert_eq!(Quoted::new("a b/ç.json").to_string(), "'a b/ç.json'");
    }

    #[test]
    fn escapes_what_a_terminal_would_act_on() {
        let name = OsStr::from_bytes(b"a\n\x1b[31m\xff\xc2\x9b");
        assert_eq!(
            Quoted(name).to_string(),
            r"'a'$'\n\x1b''[31m'$'\xff\xc2\x9b'"
        );
        assert_eq!(
            Quoted::new("a\u{202e}b").to_string(),
            r"'a'$'\xe2\x80\xae''b'"
        );
        assert_eq!(Quoted::new("\tit's").to_string(), r"''$'\t''it'\''s'");
        assert_eq!(Quoted::new("").to_string(), "''");
    }

    #[test]
    fn words_an_errno_for_people() {
        assert_eq!(
            reason("No space left on device (os error 28)"),
            "no space left on device"
        );
        assert_eq!(
            reason("Permission denied (os error 13) at path \"/tmp/.tmpIni6A4\""),
            "permission denied"
        );
        assert_eq!(
            reason("Permission denied (os error 13) at path \"/tmp/.tmpx\""),
            "permission denied"
        );
        for typed in [
            "cannot write 'a) at path \"b/o'",
            "cannot write 'a (os error 2) at path \"b'",
        ] {
            assert_eq!(reason(typed), typed);
        }
        assert_eq!(reason("RPC failed"), "RPC failed");
        assert_eq!(reason("it is a directory"), "it is a directory");
    }
}
