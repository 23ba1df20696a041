//! Old kernels, and filters (seccomp) that do not know new calls: every form works without these
//! calls, or says what is missing.

use std::ffi::OsString;

use crate::harness::{Sandbox, Strace, linux_only, lock_name, needs_tool};

/// Calls that some kernel from 4.11 on does not have, or that a filter forbids.
const CALLS: [&str; 12] = [
    "openat2",
    "statx",
    "faccessat2",
    "copy_file_range",
    "renameat2",
    "memfd_create",
    "clone3",
    "pidfd_open",
    "splice",
    "fallocate",
    "fstatfs",
    "flock",
];

/// The words, and the names and contents that are new afterwards.
type Form = (
    &'static [&'static str],
    &'static [(&'static str, &'static str)],
);

const FORMS: [Form; 14] = [
    (&["old"], &[("old", "new")]),
    (&["missing"], &[("missing", "new")]),
    (&["src", "old"], &[("old", "source")]),
    (&["-a", "old"], &[("old", "oldnew")]),
    (&["--lock", "src", "old"], &[("old", "source")]),
    (&["-b", "old"], &[("old", "new"), ("old~", "old")]),
    (
        &["--backup=numbered", "old"],
        &[("old", "new"), ("old.~1~", "old")],
    ),
    (&["-C", "old"], &[("old", "new")]),
    (&["-D", "a/b/missing"], &[("a/b/missing", "new")]),
    (
        &["--no-dereference", "link"],
        &[("link", "new"), ("old", "old")],
    ),
    (&["--inplace=always", "old"], &[("old", "new")]),
    (
        &["-t", "d", "src", "old"],
        &[("d/src", "source"), ("d/old", "old")],
    ),
    (&["--validate", "cat", "old"], &[("old", "new")]),
    (&["old", "--", "printf", "new"], &[("old", "new")]),
];

#[test]
fn every_form_works_without_a_call_or_says_what_is_missing() {
    linux_only!("calls that it can do without");
    needs_tool!("strace");
    for call in CALLS {
        for error in ["ENOSYS", "EPERM"] {
            for (words, expected) in FORMS {
                let sandbox = Sandbox::with("old", "old");
                sandbox.write("src", "source");
                sandbox.symlink("old", "link");
                sandbox.mkdir("d");
                let strace = Strace::new()
                    .only(call)
                    .inject(&format!("{call}:error={error}"));
                let done = sandbox
                    .atomwrite(words.to_vec())
                    .stdin("new")
                    .under(&strace)
                    .output();
                let context = format!("{call} {error} {words:?}: {done:?}");
                // The C library starts programs by an older call only if this one does not exist.
                let starts_a_program = words.contains(&"--validate") || words.contains(&"--");
                if (call, error) == ("clone3", "EPERM") && starts_a_program {
                    assert!(
                        done.stderr.contains("cannot be run") || done.stderr.contains("cannot run"),
                        "{context}"
                    );
                    assert!(done.stderr.contains("operation not permitted"), "{context}");
                    assert_eq!(sandbox.text("old"), "old", "{context}");
                    continue;
                }
                assert_eq!(done.code(), Some(0), "{context}");
                for (name, content) in expected {
                    assert_eq!(sandbox.text(name), *content, "{context}");
                }
                // The type of the filesystem is unknown, so the lock file may have to stay.
                let stays = OsString::from(lock_name("old"));
                let left = |name: &OsString| {
                    name.to_string_lossy().contains(".atomwrite.")
                        && !(call == "fstatfs" && *name == stays)
                };
                let names = sandbox.names();
                assert!(!names.iter().any(left), "{context}: {names:?}");
            }
        }
    }
}
