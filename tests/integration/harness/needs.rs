//! What a test needs of the machine. The harness tries it out, and skips the test if it is missing;
//! the last lines of the run say so.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io::{self, Write};
use std::os::unix::fs::lchown;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::sync::{Mutex, OnceLock};
use std::thread;

use crate::harness::NOBODY;

/// Ends the test, and says so on the real stderr; fails it where ATOMWRITE_TESTS=all asks for every
/// test.
macro_rules! skip {
    ($($reason:tt)+) => {{
        $crate::harness::report_skipped(&format!($($reason)+));
        return;
    }};
}

/// Skips the test unless it can give files away and be another user: root's rights.
macro_rules! needs_root {
    () => {
        if !$crate::harness::can_be_others() {
            $crate::harness::skip!("needs root");
        }
    };
}

/// Skips the test unless the named programs are on PATH, and strace(1) can do its work here.
macro_rules! needs_tool {
    ($($tool:expr),+) => {
        $(if !$crate::harness::has_tool($tool) {
            $crate::harness::skip!("needs {}", $tool);
        })+
    };
}

/// Ends the test over the POSIX backend (src/sys/posix.rs): the rest is about what only Linux has.
macro_rules! linux_only {
    ($what:literal) => {
        if cfg!(atomwrite_posix) {
            $crate::harness::report_linux_only($what);
            return;
        }
    };
}

pub(crate) use {linux_only, needs_root, needs_tool, skip};

/// How often each reason was given.
static SKIPPED: Mutex<BTreeMap<String, usize>> = Mutex::new(BTreeMap::new());

/// Says that the test, or a part of it, does not run here. Fails where ATOMWRITE_TESTS=all asks for
/// it.
pub(crate) fn report_skipped(reason: &str) {
    let thread = thread::current();
    let name = thread.name().unwrap_or("?");
    assert!(
        std::env::var_os("ATOMWRITE_TESTS").is_none_or(|which| which != "all"),
        "{name} cannot run, and ATOMWRITE_TESTS=all asks for every test: {reason}"
    );
    report(reason);
}

/// Says that the test, or a part of it, does not run over the POSIX backend, whatever is asked for.
pub(crate) fn report_linux_only(what: &str) {
    report(&format!("only Linux has {what}"));
}

/// Says it on the real stderr, and counts it for the summary.
fn report(reason: &str) {
    let thread = thread::current();
    let name = thread.name().unwrap_or("?");
    // Not eprintln!, which the test runner captures.
    let line = format!("SKIPPED {name}: {reason}\n");
    drop(io::stderr().write_all(line.as_bytes()));
    let mut skipped = SKIPPED.lock().unwrap();
    if skipped.is_empty() {
        #[expect(unsafe_code, reason = "the test runner has no other end")]
        // SAFETY: the handler lives as long as the program, and does not unwind.
        unsafe {
            libc::atexit(sum_up_skipped);
        }
    }
    *skipped.entry(reason.to_owned()).or_default() += 1;
}

/// The last words of a run in which something was skipped.
extern "C" fn sum_up_skipped() {
    let Ok(skipped) = SKIPPED.lock() else { return };
    let mut reasons: Vec<_> = skipped.iter().collect();
    reasons.sort_by_key(|(_, times)| std::cmp::Reverse(**times));
    let all: usize = skipped.values().sum();
    let reasons: Vec<_> = reasons
        .iter()
        .map(|(reason, times)| format!("{times} {reason}"))
        .collect();
    let text = format!(
        "{all} tests, or parts of them, were skipped (with ATOMWRITE_TESTS=all they fail, unless only Linux has what they \
         are about):\n{}\n",
        reasons.join("; ")
    );
    drop(io::stderr().write_all(text.as_bytes()));
}

pub(crate) fn has_tool(name: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let there = std::env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/sbin".into()])
        .any(|directory| directory.join(name).is_file());
    there && (name != "strace" || can_trace())
}

/// Returns whether a file can be given to another user, and a program be run as one.
pub(crate) fn can_be_others() -> bool {
    static CAN: OnceLock<bool> = OnceLock::new();
    *CAN.get_or_init(|| {
        let file = tempfile::NamedTempFile::new().unwrap();
        // Two, because one of them may run the tests.
        [1, NOBODY]
            .iter()
            .all(|&id| lchown(file.path(), Some(id), Some(id)).is_ok())
            && works(Command::new("true").uid(NOBODY).gid(NOBODY))
    })
}

/// Returns whether an ordinary user may make a user namespace, and mount something in it.
pub(crate) fn has_user_namespaces() -> bool {
    static CAN: OnceLock<bool> = OnceLock::new();
    *CAN.get_or_init(|| {
        let words = ["-Urm", "mount", "--bind", "/bin/sh", "/bin/sh"];
        works(Command::new("unshare").args(words))
    })
}

/// Returns whether strace(1) may trace: not in every container.
fn can_trace() -> bool {
    static CAN: OnceLock<bool> = OnceLock::new();
    *CAN.get_or_init(|| works(Command::new("strace").args(["-o", "/dev/null", "true"])))
}

/// Tries a command that shows what this machine allows.
pub(crate) fn works(command: &mut Command) -> bool {
    let tried = command.stdin(Stdio::null()).output();
    tried.is_ok_and(|output| output.status.success())
}

/// Runs a tool, which must succeed, and returns its stdout.
#[track_caller]
pub(crate) fn tool<S: AsRef<OsStr>>(name: &str, args: impl IntoIterator<Item = S>) -> String {
    let output = Command::new(name)
        .args(args)
        .env("LC_ALL", "C")
        .env("PATH", path_with_sbin())
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| panic!("{name} cannot be run: {error}"));
    assert!(
        output.status.success(),
        "{name}: {}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

pub(crate) fn path_with_sbin() -> OsString {
    let mut path = std::env::var_os("PATH").unwrap_or_default();
    path.push(":/usr/sbin:/sbin");
    path
}
