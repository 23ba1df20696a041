//! The messages for errors that the kernel returns, word for word.
//!
//! A failure is one line, which names the path and the reason, and says that DEST is unchanged if
//! that is so. The torture suite tries every error at every system call, and checks what is there
//! afterwards.

use crate::harness::{Sandbox, Strace, Way, derived_name, each, linux_only, needs_tool, rows};

/// The command line; the call that fails, with which path, and how; the exit status and the
/// message. The path is that of a file, or `.`. `in` and `out` are there.
const FAULTS: &str = "
in out | openat | in | EACCES | 1 | cannot open 'in': permission denied; 'out' is unchanged
in out | openat | in | EMFILE | 1 | cannot open 'in': too many open files; 'out' is unchanged
in out | read,copy_file_range | in | EIO | 1 | cannot read 'in': input/output error; 'out' is unchanged
in out | openat | out | EIO | 1 | cannot open 'out': input/output error; 'out' is unchanged
in out | renameat | out | EIO | 1 | cannot write 'out': input/output error; 'out' is unchanged
in out | renameat | out | ENOSPC | 1 | cannot write 'out': no space left on device; 'out' is unchanged
in out | renameat | out | EDQUOT | 1 | cannot write 'out': disk quota exceeded; 'out' is unchanged
in out | renameat | out | EACCES | 1 | cannot write 'out': permission denied; 'out' is unchanged
in out | renameat | out | EBUSY | 1 | cannot write 'out': device or resource busy; 'out' is unchanged
in out | renameat | out | EROFS | 1 | cannot write 'out': read-only file system; 'out' is unchanged
in out | renameat | out | ESTALE | 1 | cannot write 'out': stale file handle; 'out' is unchanged
in out | fsync | . | EIO | 4 | cannot sync the directory of 'out', which is new but may not survive power loss: input/output error
in out | fsync | . | ENOSPC | 4 | cannot sync the directory of 'out', which is new but may not survive power loss: no space left on device
-D in one/two/out | mkdirat | one | ENOSPC | 1 | cannot make directory 'one' for 'one/two/out': no space left on device
-D in one/two/out | mkdirat | two | EACCES | 1 | cannot make directory 'two' for 'one/two/out': permission denied
-b in out | linkat | out | EIO | 1 | cannot back up 'out': input/output error; 'out' is unchanged
";

/// The same for what only Linux has. The path is `temporary`: the name that the new file has
/// between link and rename.
const FAULTS_OF_LINUX: &str = "
in out | linkat | temporary | EIO | 1 | cannot write 'out': input/output error; 'out' is unchanged
in out | linkat | temporary | ENOSPC | 1 | cannot write 'out': no space left on device; 'out' is unchanged
in new | renameat2 | temporary | EIO | 1 | cannot write 'new': input/output error
";

#[test]
fn a_kernel_error_is_reported_with_the_path_and_the_reason() {
    needs_tool!("strace");
    let check = |[words, call, path, error, status, message]: [&str; 6]| {
        let sandbox = Sandbox::with("in", "new");
        sandbox.write("out", "old");
        let words = words.split(' ');
        let derived = derived_name(words.clone().next_back().expect("DEST"));
        let strace = Strace::new().alone();
        let strace = match path {
            "." => strace.at(sandbox.root()),
            "temporary" => strace.at(derived),
            path => strace.at(path),
        };
        let strace = strace.inject(&format!("{call}:error={error}"));
        let run = sandbox.atomwrite(words).under(&strace).says(message);
        let done = run.fails(status.parse().unwrap());
        assert_eq!(done.stderr, format!("atomwrite: {message}\n"));
        assert!(strace.has_injected());
    };
    each(rows(FAULTS), check);
    linux_only!("a derived name for an unnamed file");
    each(rows(FAULTS_OF_LINUX), check);
}

/// A file that has a random name cannot be removed, and stays; one that has the derived name is
/// removed by the next write.
#[test]
fn a_clean_up_that_fails_does_not_hide_the_error() {
    needs_tool!("strace");
    for way in Way::all() {
        let sandbox = Sandbox::with("out", "old");
        let strace = Strace::new()
            .inject("rename,renameat,renameat2:error=EIO")
            .inject("unlink,unlinkat:error=EROFS");
        let strace = match way {
            Way::Unnamed => strace,
            Way::Named => strace.inject("linkat:error=EOPNOTSUPP"),
        };
        let done = sandbox.run("out").stdin("new").under(&strace).output();
        let message = "atomwrite: cannot write 'out': input/output error; 'out' is unchanged\n";
        assert_eq!((done.code(), &*done.stderr), (Some(1), message));
        assert_eq!(sandbox.text("out"), "old");
        let mut names = sandbox.names();
        assert_eq!(names.len(), 2, "the injection had no effect");
        names.retain(|name| name != derived_name("out").as_str());
        assert_eq!(names.len(), 1 + usize::from(matches!(way, Way::Named)));
        sandbox.run("out").stdin("new").leaves(names).succeeds();
    }
}

#[test]
fn input_that_comes_byte_by_byte_is_written_whole() {
    let sandbox = Sandbox::with("out", "old");
    let mut run = sandbox.run("out").stdin_held().start();
    let input: Vec<u8> = (0..=u8::MAX).collect();
    for byte in &input {
        run.feed([*byte]);
        assert_eq!(sandbox.text("out"), "old");
    }
    assert_eq!(run.wait().code(), Some(0));
    assert_eq!(sandbox.read("out"), input);
    assert_eq!(sandbox.names(), ["out"]);
}

#[test]
fn the_file_size_limit_causes_a_message_and_not_a_kill() {
    let content = "x".repeat(4096);
    let sandbox = Sandbox::with("out", "old");
    sandbox.write("src", format!("{content}x"));
    for words in ["out", "src out", "new", "src new"] {
        sandbox
            .run(words)
            .stdin(format!("{content}x"))
            .file_size_limit(4096)
            .fails_with(1, "file too large");
    }
    sandbox
        .run("out")
        .stdin(content.clone())
        .file_size_limit(4096)
        .succeeds();
    assert_eq!(sandbox.text("out"), content);
}
