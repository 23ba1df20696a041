//! The system calls of a program, as strace(1) shows them.
//!
//! Invariant: only calls that succeeded count.

use std::collections::HashMap;

use anyhow::{Context, Result};

/// A system call that has worked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Call {
    pub(super) name: String,
    pub(super) arguments: String,
}

impl Call {
    /// Returns whether it is about the file that a descriptor of its shows.
    pub(super) fn is_on(&self, path: &str) -> bool {
        self.arguments.contains(&format!("<{path}>"))
    }

    pub(super) fn syncs(&self) -> bool {
        matches!(
            self.name.as_str(),
            "fsync" | "fdatasync" | "syncfs" | "sync" | "sync_file_range" | "msync"
        )
    }

    pub(super) fn syncs_file(&self, path: &str) -> bool {
        matches!(self.name.as_str(), "fsync" | "fdatasync") && self.is_on(path)
    }

    pub(super) fn renames(&self) -> bool {
        self.name.starts_with("rename")
    }

    pub(super) fn changes(&self, path: &str) -> bool {
        let neither =
            self.syncs() || self.renames() || matches!(self.name.as_str(), "linkat" | "openat");
        !neither && self.is_on(path)
    }

    /// Returns what stands in quotation marks.
    pub(super) fn names(&self) -> Vec<&str> {
        self.arguments.split('"').skip(1).step_by(2).collect()
    }
}

/// Reads what strace has written: `PID name(arguments) = result`, and calls that were broken off by
/// another's.
pub(super) fn parse(trace: &str) -> Result<Vec<Call>> {
    let mut begun: HashMap<&str, &str> = HashMap::new();
    let mut calls = Vec::new();
    for line in trace.lines() {
        let (pid, rest) = line
            .split_once(' ')
            .with_context(|| format!("no call: {line}"))?;
        let rest = rest.trim_start();
        let whole = if let Some(first) = rest.strip_suffix(" <unfinished ...>") {
            begun.insert(pid, first);
            continue;
        } else if rest.starts_with("<... ") {
            let (_, last) = rest
                .split_once("resumed>")
                .with_context(|| format!("no call: {line}"))?;
            let first = begun
                .remove(pid)
                .with_context(|| format!("no beginning: {line}"))?;
            format!("{first}{last}")
        } else {
            rest.to_owned()
        };
        // Signals and ends of processes have no result.
        let Some((call, result)) = whole.rsplit_once(" = ") else {
            continue;
        };
        // A call that strace has answered was not made, whatever the answer.
        let was_done = !result.starts_with('-') && !result.ends_with("(INJECTED)");
        let (Some((name, arguments)), true) = (call.split_once('('), was_done) else {
            continue;
        };
        calls.push(Call {
            name: name.to_owned(),
            arguments: arguments.trim_end().trim_end_matches(')').to_owned(),
        });
    }
    Ok(calls)
}

/// Returns the path of the file that the last call gives a name: `4</d/#12>(deleted), "", 3</d>,
/// "name"` or `AT_FDCWD</>, "/proc/self/fd/4", 3</d>, "name"`, where an earlier call shows what 4
/// is.
pub(super) fn linked_path(calls: &[Call]) -> Option<String> {
    let (link, before) = calls.split_last()?;
    match link.names().first()?.strip_prefix("/proc/self/fd/") {
        None => shown_path(&link.arguments),
        Some(descriptor) => {
            let descriptor = format!("{descriptor}<");
            before
                .iter()
                .rev()
                .find(|call| call.arguments.starts_with(&descriptor))
                .and_then(|call| shown_path(&call.arguments))
        }
    }
}

/// Returns the path of the first descriptor.
pub(super) fn shown_path(arguments: &str) -> Option<String> {
    let (_, rest) = arguments.split_once('<')?;
    Some(rest.split_once('>')?.0.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn joins_calls_that_were_broken_off() {
        let calls =
            parse("7 fsync(4</d/x> <unfinished ...>\n8 sync() = 0\n7 <... fsync resumed>) = 0")
                .unwrap();
        assert_eq!(
            calls[1],
            Call {
                name: "fsync".to_owned(),
                arguments: "4</d/x>".to_owned()
            }
        );
    }

    #[test]
    fn takes_no_notice_of_what_was_not_done() {
        let trace = "7 fsync(4</d/x>) = -1 EIO (x)\n7 syncfs(4</d/x>) = 0 (INJECTED)\n7 +++ exited with 0 +++";
        assert_eq!(parse(trace).unwrap(), []);
    }
}
