//! What execvp(3) does, and posix_spawnp(3) does not, with a file that the kernel refuses to
//! execute. Also finds out why it refuses.
//!
//! Invariant: only a text file is given to a shell. Any other file that the kernel refuses is an
//! error.

use std::env;
use std::ffi::{OsStr, OsString};
use std::os::fd::AsFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use crate::sys;

/// The search path of execvp(3) without $PATH.
const DEFAULT_PATH: &str = "/bin:/usr/bin";

/// How many bytes the kernel reads to find the format of a file (BINPRM_BUF_SIZE).
const HEAD_SIZE: usize = 256;

/// The program that an executable file needs.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Interpreter {
    /// The interpreter after `#!`.
    Named(OsString),
    /// The loader of shared libraries.
    Loader,
}

/// Returns the script that `name` stands for, if it has no `#!` line and a shell must run it. Only
/// the first file without `#!` counts, because that is the one that the kernel refused.
pub(super) fn script(name: &OsStr) -> Option<PathBuf> {
    let with_heads = executables(name).filter_map(|path| head(&path).map(|head| (path, head)));
    let mut refused = with_heads.filter(|(_, head)| !head.starts_with(b"#!"));
    let (path, head) = refused.next()?;
    is_text(&head).then_some(path)
}

/// Returns what must run the executable file that `name` stands for.
pub(super) fn interpreter(name: &OsStr) -> Option<Interpreter> {
    executables(name).find_map(|path| interpreter_in(&head(&path)?))
}

/// Returns true if a name that no program has would mean something to a shell, as with
/// `-- "sort list | uniq"` or `-- LC_ALL=C sort list`. Without special characters, the first of
/// several words must be the name of a program.
pub(super) fn is_for_a_shell(name: &OsStr) -> bool {
    let bytes = name.as_bytes();
    let mut words = bytes.split(|byte| b" \t".contains(byte));
    let first = words.next().map(OsStr::from_bytes);
    bytes.iter().any(|byte| b"|&;<>$=".contains(byte))
        || words.next().is_some() && first.is_some_and(|word| executables(word).next().is_some())
}

/// Returns the executable files that `name` can stand for: itself if it is a path, and otherwise
/// those in $PATH.
fn executables(name: &OsStr) -> impl Iterator<Item = PathBuf> {
    let paths: Vec<PathBuf> = if name.as_bytes().contains(&b'/') {
        vec![PathBuf::from(name)]
    } else {
        let directories = env::var_os("PATH").unwrap_or_else(|| DEFAULT_PATH.into());
        env::split_paths(&directories)
            .map(|directory| directory.join(name))
            .collect()
    };
    paths.into_iter().filter(|path| sys::may_execute(path))
}

fn head(path: &Path) -> Option<Vec<u8>> {
    let file = sys::open_source(path).ok()?;
    let mut head = Vec::with_capacity(HEAD_SIZE);
    sys::read(file.as_fd(), &mut head).ok()?;
    Some(head)
}

/// Returns true if the first line has no NUL, which is bash's test for a script.
fn is_text(head: &[u8]) -> bool {
    let line = head.split(|byte| *byte == b'\n').next();
    !head.starts_with(b"#!") && line.is_none_or(|line| !line.contains(&0))
}

/// Parses the `#!` line as the kernel does: a carriage return is part of the name
/// (fs/binfmt_script.c).
fn interpreter_in(head: &[u8]) -> Option<Interpreter> {
    if head.starts_with(b"\x7fELF") {
        return Some(Interpreter::Loader);
    }
    let line = head.strip_prefix(b"#!")?;
    let ends_line = |byte: &u8| matches!(byte, b'\n' | 0);
    let mut words = line
        .split(ends_line)
        .next()?
        .split(|byte| matches!(byte, b' ' | b'\t'));
    let name = words.find(|word| !word.is_empty())?;
    Some(Interpreter::Named(OsString::from_vec(name.to_vec())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_interpreter_as_the_kernel_does() {
        let named = |name: &str| Some(Interpreter::Named(name.into()));
        for (head, interpreter) in [
            (&b"#!/bin/sh\necho"[..], named("/bin/sh")),
            (b"#! \t/bin/sh -e x\n", named("/bin/sh")),
            (b"#!/bin/sh", named("/bin/sh")),
            (b"#!/bin/sh\r\necho\r\n", named("/bin/sh\r")),
            (b"#!\n/bin/sh", None),
            (b"#!", None),
            (b"\x7fELF\x02", Some(Interpreter::Loader)),
            (b"echo", None),
            (b"", None),
        ] {
            assert_eq!(interpreter_in(head), interpreter, "{head:?}");
        }
    }

    #[test]
    fn takes_for_text_what_has_no_nul_in_its_first_line() {
        for text in [&b""[..], b"echo\n\0", b"\n", b"# comment"] {
            assert!(is_text(text), "{text:?}");
        }
        for other in [&b"\x7fELF\0"[..], b"a\0b\n", b"#!/bin/sh\n"] {
            assert!(!is_text(other), "{other:?}");
        }
    }
}
