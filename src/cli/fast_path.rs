//! Parses the most frequent command lines without clap.
//!
//! Invariant: returns the same as clap, or nothing. Building the table of all options takes a fifth
//! of the time of a small write. So this module parses command lines of operands and of the few
//! options below, and leaves a line with any other word to clap. A test compares the two.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;

use super::Args;
use crate::request::Sync;

/// Parses the words after the program's name. `None` if clap must parse them.
pub(super) fn read(words: &[OsString]) -> Option<Args> {
    let mut args = Args::default();
    for word in words {
        match word.as_bytes() {
            b"--sync=none" => args.set_sync(Some(Sync::None), false, false),
            b"--sync=file" => args.set_sync(Some(Sync::File), false, false),
            b"--sync=full" => args.set_sync(Some(Sync::Full), false, false),
            b"--fsync" => args.set_sync(None, true, false),
            b"--no-fsync" => args.set_sync(None, false, true),
            b"-v" | b"--verbose" => (args.verbose, args.quiet) = (true, false),
            b"-q" | b"--quiet" => (args.verbose, args.quiet) = (false, true),
            [b'-', _, ..] => return None,
            _ => args.operands.push(word.clone()),
        }
    }
    Some(args)
}

impl Args {
    /// Sets the value of --sync. The last option counts.
    fn set_sync(&mut self, level: Option<Sync>, fsync: bool, no_fsync: bool) {
        (self.sync, self.fsync, self.no_fsync) = (level, fsync, no_fsync);
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn leaves_all_else_to_clap() {
        for word in ["-", "a", "", "--sync=none", "-v"] {
            assert!(read(&[word.into()]).is_some(), "{word}");
        }
        for word in [
            "--",
            "-n",
            "-vq",
            "--sync",
            "--sync=",
            "--sync=no",
            "--quie",
            "-m",
            "-\u{e4}",
        ] {
            assert!(read(&[word.into()]).is_none(), "{word}");
        }
    }

    proptest! {
        #[test]
        fn reads_what_clap_reads(words in proptest::collection::vec(
            proptest::sample::select(vec![
                "--sync=none", "--sync=file", "--sync=full", "--fsync", "--no-fsync", "-v",
                "--verbose", "-q", "--quiet", "-", "a", "", "b c", "=",
            ]),
            0..8,
        )) {
            let words: Vec<OsString> = words.into_iter().map(OsString::from).collect();
            let quick = read(&words).expect("words that are known");
            let named = [OsString::from("atomwrite")].into_iter().chain(words);
            let slow = Args::try_parse_from(named).expect("words that are known");
            prop_assert_eq!(format!("{quick:?}"), format!("{slow:?}"));
        }
    }
}
