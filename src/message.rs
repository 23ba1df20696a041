//! Messages: one line each, on standard error. No other module prints.
//!
//! Invariant: `atomwrite: cannot VERB 'PATH': REASON`, lower case, no full stop, no "os error". A
//! line is one write, so that the lines of two programs in a pipeline do not mix. A closed or full
//! standard error does not make the run fail, because the exit status still reports the result.
//! This module imports only `sys`.

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

/// Which messages the user wants. Errors are always printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verbosity {
    /// Errors only.
    Quiet,
    /// Errors and warnings.
    Normal,
    /// Errors, warnings, and what was done.
    Verbose,
}

/// Prints messages, as far as the user wants them.
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

    /// Warns that something was not done as the user may expect.
    pub(crate) fn warn(self, warning: impl Display) {
        if self.verbosity != Verbosity::Quiet {
            say(format_args!("warning: {warning}"));
        }
    }

    /// Explains what atomwrite is doing, when the user would otherwise wonder.
    pub(crate) fn notice(self, notice: impl Display) {
        if self.verbosity != Verbosity::Quiet {
            say(format_args!("{notice}"));
        }
    }

    /// Reports what was done.
    pub(crate) fn report(self, outcome: impl Display) {
        if self.verbosity == Verbosity::Verbose {
            say(format_args!("{outcome}"));
        }
    }
}

/// Prints why the run did not do everything.
pub(crate) fn error(error: impl Display) {
    say(format_args!("{error}"));
}

/// Prints each file on a line of its own, after `what`.
pub(crate) fn list(what: &str, files: &[impl AsRef<OsStr>]) {
    for file in files {
        say(format_args!("{what}: {}", Quoted::new(file)));
    }
}

/// How many bytes a pipe takes without waiting when poll reports it writable (PIPE_BUF).
const ATOMIC: usize = 4096;

fn say(text: fmt::Arguments<'_>) {
    let mut line = String::with_capacity(128);
    line.push_str("atomwrite: ");
    // Writing to a String cannot fail. If a Display fails, what it wrote remains.
    let _ = line.write_fmt(text);
    line.push('\n');
    sys::ignore_broken_pipes();
    for part in line.as_bytes().chunks(ATOMIC) {
        // A signal during the wait for a full pipe ends the line.
        let is_interrupted = sys::are_signals_blocked() && !is_writable();
        // There is no way to report this error. The exit status stays as it is.
        if is_interrupted || io::stderr().write_all(part).is_err() {
            return;
        }
    }
}

/// Waits until standard error is writable. Returns false if a signal came.
fn is_writable() -> bool {
    let stderr = io::stderr();
    loop {
        // After a signal, do not wait.
        let timeout = sys::first_signal().map(|_| Duration::ZERO);
        match sys::poll([(stderr.as_fd(), sys::Event::Writable)], timeout) {
            Ok([ready]) => return ready.is_any(),
            // With a signal mask, a system may deliver a signal before it finds out what is ready.
            Err(sys::Errno::INTR) if timeout.is_none() => {}
            Err(errno) => return errno != sys::Errno::INTR,
        }
    }
}

/// Prints the text of `--help` or `--version`, the only output on stdout.
pub(crate) fn print(text: &str) -> anyhow::Result<()> {
    sys::ignore_broken_pipes();
    let mut stdout = io::stdout().lock();
    let written = stdout.write_all(text.as_bytes());
    match written.and_then(|()| stdout.flush()) {
        // The reader has stopped reading, as head(1) does.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written.context("cannot write to standard output"),
    }
}

/// Displays an error and its causes, separated by colons.
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

/// Rewrites the system's text for an errno for the middle of a line: in lower case, and without
/// `(os error 2)`.
fn reason(text: &str) -> String {
    // The crate tempfile adds a random path, which means nothing to the user.
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

/// Returns the text before ` (os error 2)`, if it ends so.
fn without_number(text: &str) -> Option<&str> {
    let (before, number) = text.strip_suffix(')')?.rsplit_once(" (os error ")?;
    number
        .bytes()
        .all(|digit| digit.is_ascii_digit())
        .then_some(before)
}

/// Displays a path as the user typed it, quoted so that it can be pasted into a shell, as
/// coreutils' shell-escape-always does. Escapes control characters, and bytes that are not UTF-8.
pub(crate) struct Quoted<'p>(pub(crate) &'p OsStr);

impl<'p> Quoted<'p> {
    pub(crate) fn new(path: &'p (impl AsRef<OsStr> + ?Sized)) -> Self {
        Self(path.as_ref())
    }
}

impl Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut is_escaped = false;
        // Switches between two kinds of quotes: '...' takes all bytes literally, $'...' has
        // escapes.
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

/// Returns true for a character that a terminal acts on. Directional overrides can make a name look
/// like another one.
fn is_acted_on(letter: char) -> bool {
    letter.is_control() || matches!(letter, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Displays a text with all characters escaped that a terminal acts on.
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

/// Returns the beginning of a message.
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
