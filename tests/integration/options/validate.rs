//! Content that is checked before it is committed: `--sha256` and `--validate`. A refusal is status
//! 3, and DEST is unchanged.
//!
//! `--sha256 HEX` is checked for form before any input is read. `--validate CMD` runs `sh -c CMD`,
//! which must exit with 0. `$1` is a copy of the new file in a private preview directory, stdin is
//! that copy, and `$2` is DEST as an absolute path. The copy has the name, the mode and the owner
//! that the new file will have. Every other entry of DEST's directory is a symbolic link there.
//! What CMD writes to the copy or creates in the preview is discarded, and no name and no
//! descriptor that CMD gets leads to the file that will be committed. CMD's stdout goes to stderr.
//! After SIGKILL, the preview stays.

use std::fs::{self, OpenOptions, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::harness::{Run, Sandbox, needs_root, needs_tool, tool, wait_until};

/// Whether the new file has a temporary name from the start.
pub(crate) const WAYS: [bool; 2] = [false, true];

/// A run with a validator, which finds the place aside of the sandbox in $ASIDE; below strace with
/// a named file.
pub(crate) fn validated<'s>(
    sandbox: &'s Sandbox,
    named: bool,
    options: &[&str],
    validator: &str,
    operands: &[&str],
) -> Run<'s> {
    let option = ["--validate", validator];
    let words = options.iter().chain(&option).chain(operands);
    let run = sandbox.atomwrite(words.copied());
    let run = if named { run.without_linkat() } else { run };
    run.env("ASIDE", sandbox.aside(""))
}

pub(crate) fn wait_for(sandbox: &Sandbox, name: &str) {
    let path = sandbox.aside(name);
    wait_until(&format!("there is {name}"), || path.exists());
}

/// What a validator has written to a file aside.
pub(crate) fn seen(sandbox: &Sandbox, name: &str) -> String {
    fs::read_to_string(sandbox.aside(name)).unwrap()
}

/// Lets every user write to the place aside.
pub(crate) fn open_aside(sandbox: &Sandbox) {
    fs::set_permissions(sandbox.aside(""), Permissions::from_mode(0o777)).unwrap();
}

/// A directory aside for $TMPDIR, which every user can enter and write to.
pub(crate) fn temporary_directory(sandbox: &Sandbox) -> PathBuf {
    let path = sandbox.aside("tmp");
    fs::create_dir(&path).unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o1777)).unwrap();
    path
}

pub(crate) fn is_empty(directory: &Path) -> bool {
    fs::read_dir(directory).unwrap().next().is_none()
}

/// Releases the processes that read from the FIFO `go` aside.
pub(crate) fn let_go(sandbox: &Sandbox) {
    let fifo = sandbox.aside("go");
    drop(OpenOptions::new().write(true).open(fifo).unwrap());
}

pub(crate) fn sum(content: &[u8]) -> String {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), content).unwrap();
    tool("sha256sum", [file.path()])[..64].to_owned()
}

// ---- Accepted and refused content ----

#[test]
fn content_that_the_validator_refuses_is_not_written() {
    needs_tool!("strace");
    for named in WAYS {
        for dest in ["out", "new", "link"] {
            let sandbox = Sandbox::new();
            sandbox.write("out", "old");
            sandbox.write("in", "x");
            sandbox.symlink("out", "link");
            for (validator, part) in [
                ("exit 1", "the validator exited with status 1"),
                ("exit 2", "the validator exited with status 2"),
                ("exit 255", "the validator exited with status 255"),
                // A syntax error.
                ("exec 2>/dev/null; eval \"'\"", "status 2"),
                (
                    "ulimit -c 0; kill -9 $$",
                    "the validator was killed by signal 9",
                ),
                ("ulimit -c 0; kill -15 $$", "signal 15"),
                ("ulimit -c 0; kill -6 $$", "signal 6"),
            ] {
                validated(&sandbox, named, &[], validator, &[dest])
                    .stdin("new")
                    .says(format!("cannot write '{dest}': "))
                    .says(part)
                    .fails(3);
                validated(&sandbox, named, &[], validator, &["in", dest]).fails(3);
            }
        }
    }
}

#[test]
fn a_validator_that_cannot_be_run_is_a_failure_and_not_a_refusal() {
    let sandbox = Sandbox::new();
    sandbox.write("out", "old");
    sandbox.write_with_mode("text", "", 0o644);
    for (validator, status) in [
        ("exec 2>/dev/null; no-such-program", 127),
        ("exec 2>/dev/null; ./no-such-program", 127),
        ("exec 2>/dev/null; ./text", 126),
    ] {
        let part = format!("the validator could not be run (status {status})");
        for dest in ["out", "new"] {
            validated(&sandbox, false, &[], validator, &[dest])
                .stdin("new")
                .says(format!("cannot validate '{dest}': "))
                .says(&part)
                .fails(1);
        }
        validated(&sandbox, false, &[], validator, &["out", "--", "echo", "x"])
            .says(&part)
            .fails(125);
    }
    // There is no shell.
    sandbox
        .atomwrite(["--validate", "exit 0", "out"])
        .env("PATH", sandbox.path("nowhere"))
        .stdin("new")
        .says("'sh'")
        .fails(1);
}

#[test]
fn the_other_guards_are_checked_before_the_validator() {
    needs_tool!("sha256sum");
    let sandbox = Sandbox::new();
    sandbox.write("out", "old");
    let ran = "touch \"$ASIDE/ran\"";
    validated(&sandbox, false, &[], ran, &["out"])
        .stdin("")
        .says("empty")
        .fails(3);
    validated(&sandbox, false, &["--sha256", &sum(b"x")], ran, &["out"])
        .stdin("new")
        .fails(3);
    validated(&sandbox, false, &["-n"], ran, &["out"])
        .stdin("new")
        .fails(3);
    assert!(!sandbox.aside("ran").exists());
}

// ---- With other options ----

#[test]
fn no_clobber_is_decided_at_the_commit() {
    needs_tool!("strace");
    for named in WAYS {
        let sandbox = Sandbox::new();
        let done = validated(&sandbox, named, &["-n"], "printf theirs >\"$2\"", &["out"])
            .stdin("new")
            .output();
        assert_eq!(done.code(), Some(3), "{done:?}");
        assert_eq!(sandbox.text("out"), "theirs");
        assert_eq!(sandbox.names(), ["out"]);
    }
}

#[test]
fn validate_works_with_backups_links_and_locks() {
    needs_tool!("strace");
    for named in WAYS {
        for option in [
            "-b",
            "--lock",
            "-a",
            "-C",
            "--sync=none",
            "--no-dereference",
        ] {
            if named && option == "-b" {
                // The backup would need the linkat that is made to fail here.
                continue;
            }
            let sandbox = Sandbox::new();
            sandbox.write("out", "old");
            let mut names = vec!["out"];
            if option == "-b" {
                names.push("out~");
            }
            let options = if option == "--lock" {
                // With it, a pipe is warned of.
                &["-q", option][..]
            } else {
                &[option]
            };
            validated(&sandbox, named, options, "test -s \"$1\"", &["out"])
                .stdin("new")
                .leaves(names)
                .succeeds();
            let expected = if option == "-a" { "oldnew" } else { "new" };
            assert_eq!(sandbox.text("out"), expected, "{option}");
            validated(&sandbox, named, options, "exit 1", &["out"])
                .stdin("newer")
                .fails(3);
        }
    }
}

// ---- Real validators ----

/// Lets the validator pass one content and refuse another, with these files beside it.
fn tries(
    dest: &str,
    options: &[&str],
    beside: &[(&str, &str)],
    validator: &str,
    good: &str,
    bad: &str,
) {
    let sandbox = Sandbox::new();
    for (name, content) in beside {
        sandbox.mkdir(Path::new(name).parent().unwrap());
        sandbox.write(name, content);
    }
    let mut names = sandbox.names();
    names.push(dest.into());
    names.sort();
    let run = |content: &str| {
        let run = validated(&sandbox, false, options, validator, &[dest]);
        run.stdin(content).output()
    };
    let done = run(good);
    assert_eq!(done.code(), Some(0), "{validator} {done:?}");
    assert_eq!(sandbox.text(dest), good);
    let done = run(bad);
    assert_eq!(done.code(), Some(3), "{validator} {done:?}");
    assert!(done.stderr.ends_with("is unchanged\n"), "{done:?}");
    assert_eq!(sandbox.text(dest), good);
    assert_eq!(sandbox.names(), names);
}

#[test]
fn visudo_validates_sudoers_with_an_include_beside_it() {
    needs_root!();
    needs_tool!("visudo");
    tries(
        "sudoers",
        &["-m", "440"],
        &[("admins", "%admin ALL=(ALL) ALL\n")],
        "visudo -cf \"$1\"",
        "root ALL=(ALL:ALL) ALL\n@include admins\n",
        "root ALL=(ALL:ALL) ALL\n@include missing\n",
    );
}

#[test]
fn nginx_validates_its_configuration_with_includes_beside_it() {
    needs_root!();
    needs_tool!("nginx");
    let validator = "nginx -t -e stderr -g \"pid $ASIDE/pid;\" -c \"$1\"";
    let configuration = |include: &str| {
        format!("events {{}}\nhttp {{ include {include}; include sites/*.conf; }}\n")
    };
    tries(
        "nginx.conf",
        &[],
        &[
            ("mime.types", "types { text/html html; }\n"),
            ("sites/one.conf", "server { return 204; }\n"),
        ],
        validator,
        &configuration("mime.types"),
        &configuration("missing.types"),
    );
}

#[test]
fn jq_validates_json() {
    needs_tool!("jq");
    // By stdin, and by path.
    let dest = "out.json";
    tries(dest, &[], &[], "jq empty", "{\"a\": 1}\n", "{\"a\": 1\n");
    tries(dest, &[], &[], "jq empty \"$1\"", "[]\n", "[,]\n");
}

#[test]
fn python_validates_json() {
    needs_tool!("python3");
    let validator = "python3 -m json.tool >/dev/null";
    tries("out.json", &[], &[], validator, "{\"a\": 1}\n", "{a: 1}\n");
}

#[test]
fn sh_validates_scripts_by_their_extension() {
    let validator = "case $1 in *.sh) sh -n \"$1\" ;; *) exit 9 ;; esac";
    let (good, bad) = ("if :; then :; fi\n", "if :; then\n");
    tries("run.sh", &["-m", "+x"], &[], validator, good, bad);
    let sandbox = Sandbox::new();
    validated(&sandbox, false, &[], validator, &["run.txt"])
        .stdin(":\n")
        .says("status 9")
        .fails(3);
}

#[test]
fn a_shell_script_as_validator_may_be_run_from_its_own_path() {
    // The copy is executable already, and no process has it open for writing: ETXTBSY otherwise.
    let sandbox = Sandbox::new();
    validated(&sandbox, false, &["-m", "755"], "\"$1\"", &["run"])
        .stdin("#!/bin/sh\nexit 0\n")
        .succeeds();
    validated(&sandbox, false, &["-m", "755"], "\"$1\"", &["run"])
        .stdin("#!/bin/sh\nexit 4\n")
        .says("status 4")
        .fails(3);
}
