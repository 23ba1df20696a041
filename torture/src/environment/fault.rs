//! A fault: what is wrong with the environment before, while or after a program runs.
//!
//! Invariant: the value that causes a fault also repairs it. A check comes after the repair.

use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use super::form::Writer;

/// What atomwrite has to make of a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Expect {
    /// Whatever the contract allows.
    Contract,
    /// There is another way, and it must find that.
    Success,
    /// It must notice.
    Failure,
    /// DEST is new, and that cannot be vouched for.
    Changed,
}

/// Something that is wrong, in one directory.
pub(super) trait Fault {
    /// Returns the words for an example.
    fn shown(&self) -> String;

    /// Returns where DEST is, and nothing else.
    fn directory(&self) -> &Path;

    /// All is laid out; the program is about to start.
    fn begin(&mut self) -> Result<()> {
        Ok(())
    }

    /// What is done to the program alone.
    fn confine(&self, _command: &mut Command) -> Result<()> {
        Ok(())
    }

    /// Returns whether `midway` does anything.
    fn comes_midway(&self) -> bool {
        false
    }

    /// The program has read half of its input.
    fn midway(&mut self) -> Result<()> {
        Ok(())
    }

    /// The program has ended.
    fn ended(&mut self) -> Result<()> {
        Ok(())
    }

    /// Removes the fault, so that the directory can be checked and used.
    fn mend(&mut self) -> Result<()> {
        Ok(())
    }

    /// Returns whether a temporary name or a lock file cannot be removed while it lasts.
    fn keeps_names(&self) -> bool {
        false
    }

    /// Returns whether it comes before an older backup is replaced. After that, the older one is
    /// not restored.
    fn keeps_older(&self) -> bool {
        true
    }

    /// Returns whether the filesystem is known to be local. On others, lock files stay.
    fn is_local(&self) -> bool {
        true
    }

    /// Of so many cases, one is tried in a short run; and of a quarter of that, with the other
    /// programs.
    fn one_in(&self) -> usize {
        4
    }

    /// Returns whether it says anything about this writer.
    fn concerns(&self, _writer: Writer) -> bool {
        true
    }

    fn expect(&self, _writer: Writer) -> Expect {
        Expect::Contract
    }
}

/// Has `prepare` run in the new process, before the program does.
pub(super) fn before_exec(
    command: &mut Command,
    prepare: impl FnMut() -> io::Result<()> + Send + Sync + 'static,
) {
    #[expect(unsafe_code, reason = "std has no other way to limit a child")]
    // SAFETY: all that is given to this makes system calls only, with values that were made before,
    // and allocates nothing.
    unsafe {
        command.pre_exec(prepare);
    }
}

/// Returns a path as a word of a command line; all of ours are UTF-8.
pub(super) fn word(path: &Path) -> Result<&str> {
    path.to_str().context("a path of ours is not UTF-8")
}
