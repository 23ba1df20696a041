//! Content that is checked before it is committed: `--sha256` and `--validate`. Refused is status 3, DEST is untouched.
//!
//! `--sha256 HEX` is checked for form before any input is read. `--validate CMD` runs `sh -c CMD`, which must exit with 0.
//! `$1` is a copy of the new file in a private preview directory, stdin is that copy, `$2` is DEST, absolute. The copy has
//! the name, the mode and the owner that the new file will have. Every other entry of DEST's directory is there as a
//! symbolic link. What CMD writes to the copy or makes in the preview is thrown away, and no name and no descriptor that
//! CMD gets leads to the file that will be committed. CMD's stdout goes to stderr. After SIGKILL the preview stays.

use std::ffi::OsString;
use std::fs::{self, OpenOptions, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::process::{Signal, geteuid};

use crate::mounts::{Mount, needs_mounts};
use crate::sandbox::{
    NOBODY, Run, Running, Sandbox, Witness, can_be_others, kill, needs_root, needs_tool, os, tool,
    wait_until,
};
use crate::strace::Strace;

/// Whether the new file has a temporary name from the start.
const WAYS: [bool; 2] = [false, true];

/// A run with a validator, which finds the place aside of the sandbox in $ASIDE; below strace with a named file.
fn validated<'s>(
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

fn wait_for(sandbox: &Sandbox, name: &str) {
    let path = sandbox.aside(name);
    wait_until(&format!("there is {name}"), || path.exists());
}

/// What a validator has written to a file aside.
fn seen(sandbox: &Sandbox, name: &str) -> String {
    fs::read_to_string(sandbox.aside(name)).unwrap()
}

/// Lets every user write to the place aside.
fn open_aside(sandbox: &Sandbox) {
    fs::set_permissions(sandbox.aside(""), Permissions::from_mode(0o777)).unwrap();
}

/// A directory aside for $TMPDIR, which every user can enter and write to.
fn temporary_directory(sandbox: &Sandbox) -> PathBuf {
    let path = sandbox.aside("tmp");
    fs::create_dir(&path).unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o1777)).unwrap();
    path
}

fn is_empty(directory: &Path) -> bool {
    fs::read_dir(directory).unwrap().next().is_none()
}

/// Lets go the processes that read from the FIFO `go` aside.
fn let_go(sandbox: &Sandbox) {
    let fifo = sandbox.aside("go");
    drop(OpenOptions::new().write(true).open(fifo).unwrap());
}

fn sum(content: &[u8]) -> String {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), content).unwrap();
    tool("sha256sum", [file.path()])[..64].to_owned()
}

// ---- --sha256 ---------------------------------------------------------------------------------------------------

#[test]
fn content_with_the_digest_is_written() {
    needs_tool!("sha256sum", "strace");
    let large = vec![b'x'; 3_000_001];
    for named in WAYS {
        for content in [&b"new"[..], b"", &large] {
            let sandbox = Sandbox::new();
            let take = |words: &[&str]| {
                let run = sandbox.atomwrite(words.to_vec());
                if named { run.without_linkat() } else { run }
            };
            let sum = sum(content);
            sandbox.write("in", content);
            take(&["--sha256", &sum, "a"]).stdin(content).succeeds();
            take(&["--sha256", &sum, "in", "b"]).succeeds();
            take(&["--sha256", &sum.to_uppercase(), "in", "c"]).succeeds();
            take(&["--sha256", &sum, "d", "--", "cat", "in"]).succeeds();
            take(&["--sha256", &sum, "-C", "in", "d"]).leaves_alone(0);
            for name in ["a", "b", "c", "d"] {
                assert!(sandbox.read(name) == content, "{name}");
            }
        }
    }
}

#[test]
fn content_with_another_digest_is_refused() {
    needs_tool!("sha256sum");
    let sandbox = Sandbox::new();
    sandbox.write("in", "new");
    sandbox.write("out", "old");
    let wrong = sum(b"other");
    for dest in ["out", "new"] {
        let refused = |run: Run<'_>, status| run.says("SHA-256").says(sum(b"new")).fails(status);
        refused(
            sandbox.atomwrite(["--sha256", &wrong, dest]).stdin("new"),
            3,
        );
        refused(sandbox.atomwrite(["--sha256", &wrong, "in", dest]), 3);
        refused(
            sandbox.atomwrite(["--sha256", &wrong, dest, "--", "cat", "in"]),
            125,
        );
    }
}

#[test]
fn the_digest_is_that_of_the_whole_new_content() {
    needs_tool!("sha256sum");
    let sandbox = Sandbox::new();
    sandbox.write("out", "old");
    sandbox
        .atomwrite(["-a", "--sha256", &sum(b"new"), "out"])
        .stdin("new")
        .says("SHA-256")
        .fails(3);
    sandbox
        .atomwrite(["-a", "--sha256", &sum(b"oldnew"), "out"])
        .stdin("new")
        .succeeds();
    sandbox
        .atomwrite([
            "-a",
            "--sha256",
            &sum(b"oldnew!"),
            "out",
            "--",
            "printf",
            "!",
        ])
        .succeeds();
    assert_eq!(sandbox.text("out"), "oldnew!");
}

#[test]
fn the_digest_of_a_file_with_holes_is_right() {
    needs_tool!("sha256sum");
    let sandbox = Sandbox::new();
    let path = sandbox.write("in", "begin");
    let file = OpenOptions::new().write(true).open(path).unwrap();
    file.set_len(5_000_000).unwrap();
    sandbox
        .atomwrite(["--sha256", &sum(&sandbox.read("in")), "in", "out"])
        .succeeds();
    assert!(sandbox.read("out") == sandbox.read("in"));
}

#[test]
fn a_malformed_digest_is_a_usage_error() {
    let sandbox = Sandbox::new();
    for hex in [
        "",
        "00",
        &"0".repeat(63),
        &"0".repeat(65),
        &"g".repeat(64),
        &format!("0x{}", "0".repeat(62)),
        &format!(" {}", "0".repeat(63)),
        &format!("{}-", "0".repeat(64)),
        &"\u{0661}".repeat(32),
    ] {
        let input = Witness::new();
        sandbox
            .atomwrite(["--sha256", hex, "out"])
            .stdin_from(input.input())
            .says("--sha256")
            .fails(2);
        input.has_not_been_read();
    }
}

// ---- What the validator sees ------------------------------------------------------------------------------------

#[test]
fn the_validator_sees_the_content_by_stdin_and_by_path() {
    needs_tool!("strace", "cmp");
    for named in WAYS {
        let sandbox = Sandbox::new();
        sandbox.write("in", "new");
        let check = "cmp - \"$1\" && test \"$(cat \"$1\")\" = new && test $# = 2";
        validated(&sandbox, named, &[], check, &["out"])
            .stdin("new")
            .succeeds();
        validated(&sandbox, named, &[], check, &["in", "b"]).succeeds();
        validated(&sandbox, named, &[], check, &["c", "--", "cat", "in"]).succeeds();
        sandbox.write("d", "n");
        validated(&sandbox, named, &["-a"], check, &["d"])
            .stdin("ew")
            .succeeds();
        for name in ["out", "b", "c", "d"] {
            assert_eq!(sandbox.text(name), "new", "{named} {name}");
        }
    }
}

#[test]
fn both_paths_are_absolute_and_the_copy_has_the_name_of_the_file_that_is_replaced() {
    needs_tool!("strace");
    let longest = "x".repeat(255);
    for named in WAYS {
        let sandbox = Sandbox::new();
        sandbox.mkdir("d");
        sandbox.symlink("d/target.json", "link.conf");
        let show = "printf '%s|%s' \"$1\" \"$2\" >\"$ASIDE/seen\"";
        for (dest, place, name) in [
            ("out.json", "", "out.json"),
            ("./out.json", "", "out.json"),
            ("d/app.conf", "d", "app.conf"),
            ("d/../d/app.conf", "d", "app.conf"),
            ("-- a b", "", "-- a b"),
            ("-rf", "", "-rf"),
            ("link.conf", "d", "target.json"),
            (&longest, "", &longest),
        ] {
            let run = validated(&sandbox, named, &[], show, &["--", dest]).stdin("new");
            let done = run.output();
            assert_eq!(done.code(), Some(0), "{dest}: {done:?}");
            let seen = seen(&sandbox, "seen");
            let (first, second) = seen.split_once('|').unwrap();
            let (first, second) = (Path::new(first), Path::new(second));
            assert!(first.is_absolute() && second.is_absolute(), "{seen}");
            assert_eq!(first.file_name().unwrap(), name);
            // DEST as it was given: a link is not followed.
            assert_eq!(second.file_name(), Path::new(dest).file_name());
            let same = |one: &Path, other: &Path| {
                assert_eq!(
                    fs::canonicalize(one).unwrap(),
                    fs::canonicalize(other).unwrap(),
                    "{seen}"
                );
            };
            let typed = sandbox.path(dest);
            same(second.parent().unwrap(), typed.parent().unwrap());
            // The preview is beside the file that is replaced.
            let preview = first.parent().unwrap();
            same(preview.parent().unwrap(), &sandbox.path(place));
            assert!(!preview.exists());
        }
        assert!(sandbox.stat("link.conf").is_symlink());
    }
}

#[test]
fn a_dest_of_any_bytes_is_named_as_it_is() {
    let sandbox = Sandbox::new();
    let name = os(b"a\n\xff'$x");
    let words = [
        "--validate",
        "test \"${1##*/}\" = \"${2##*/}\" && test -s \"$1\"",
    ];
    let words = words.iter().map(OsString::from).chain([name.clone()]);
    sandbox.atomwrite(words).stdin("new").succeeds();
    assert_eq!(sandbox.text(name), "new");
}

#[test]
fn the_copy_has_the_mode_and_the_owner_that_the_new_file_will_have() {
    needs_root!();
    needs_tool!("strace", "stat");
    for named in WAYS {
        let sandbox = Sandbox::new();
        sandbox.write_with_mode("out", "old", 0o640);
        sandbox.chown("out", 1000, 1001);
        sandbox.set_xattr("out", "user.origin", b"somewhere");
        let look = "stat -c '%a %u %g' \"$1\" && stat -c %a \"$(dirname \"$1\")\"";
        validated(&sandbox, named, &[], look, &["out"])
            .stdin("new")
            .hears("640 1000 1001")
            .hears("700")
            .succeeds();
        assert_eq!(
            (sandbox.mode("out"), sandbox.owner("out")),
            (0o640, (1000, 1001))
        );
        validated(&sandbox, named, &["-m", "444", "-o", "0"], look, &["out"])
            .stdin("new")
            .hears("444 0 1001")
            .hears("700")
            .succeeds();
        validated(&sandbox, named, &[], look, &["new"])
            .umask(0o027)
            .stdin("new")
            .hears("640 0 0")
            .hears("700")
            .succeeds();
    }
    // The user who runs it can read stdin though the mode forbids to open the copy.
    let sandbox = Sandbox::new();
    sandbox.give_to(NOBODY, NOBODY);
    let check = "test \"$(cat)\" = new && test ! -r \"$1\"";
    validated(&sandbox, false, &["-m", "0"], check, &["out"])
        .user(NOBODY, NOBODY, &[])
        .stdin("new")
        .succeeds();
    assert_eq!(sandbox.mode("out"), 0);
}

#[test]
fn no_other_user_can_read_the_copy_whatever_the_umask() {
    needs_root!();
    needs_tool!("setpriv", "stat");
    // The validator tries it as another user, who can read what is aside.
    let check =
        "as_another() { setpriv --reuid=65534 --regid=65534 --clear-groups \"$@\" 2>/dev/null; }
        as_another cat \"$ASIDE/open\" >/dev/null && ! as_another cat \"$1\" &&
        test \"$(stat -c %a \"$1\")\" = 644 && test \"$(stat -c %a \"${1%/*}\")\" = 700";
    for umask in [0o022, 0o000, 0o777] {
        for inplace in ["--inplace=always", "--inplace=never"] {
            let sandbox = Sandbox::new();
            sandbox.mkdir("private");
            sandbox.chmod("private", 0o700);
            sandbox.write("private/conf", "old");
            fs::write(sandbox.aside("open"), "").unwrap();
            let tmp = temporary_directory(&sandbox);
            validated(&sandbox, false, &["-q", inplace], check, &["private/conf"])
                .env("TMPDIR", &tmp)
                .umask(umask)
                .stdin("new")
                .succeeds();
            assert_eq!(sandbox.text("private/conf"), "new");
            assert!(is_empty(&tmp), "{umask:o} {inplace}");
        }
    }
}

#[test]
fn a_validator_that_becomes_another_user_reads_stdin() {
    needs_root!();
    needs_tool!("setpriv");
    let sandbox = Sandbox::new();
    sandbox.write_with_mode("out", "old", 0o600);
    let check = "setpriv --reuid=65534 --regid=65534 --clear-groups grep -q new";
    validated(&sandbox, false, &[], check, &["out"])
        .stdin("new")
        .succeeds();
}

#[test]
fn the_preview_and_the_copy_are_private_from_the_moment_that_they_are_made() {
    needs_tool!("strace");
    for option in ["--inplace=always", "--inplace=never"] {
        let sandbox = Sandbox::new();
        sandbox.write("out", "old");
        let strace = Strace::new().alone();
        validated(&sandbox, false, &["-q", option], "true", &["out"])
            .through(strace.command())
            .umask(0)
            .stdin("new")
            .succeeds();
        let trace = strace.trace();
        // Not the spool of --inplace: it never has a name by which another user could open it.
        let files = trace.places(|call| {
            let beside_dest = call.args.contains("O_TMPFILE") && call.args.contains(", \".\", ");
            call.is("openat") && (beside_dest || call.args.contains("O_CREAT"))
        });
        let directories = trace.places(|call| call.name.starts_with("mkdir") && call.succeeded());
        assert!(!files.is_empty() && directories.len() == 1, "{trace}");
        for (places, mode) in [(files, ", 0600"), (directories, ", 0700")] {
            for at in places {
                assert!(trace.own()[at].args.ends_with(mode), "{trace}");
            }
        }
    }
}

#[test]
fn the_validators_stdout_goes_to_stderr() {
    let sandbox = Sandbox::new();
    let say = "echo said; echo complained >&2";
    validated(&sandbox, false, &["-v"], say, &["out"])
        .stdin("new")
        .hears("said")
        .hears("complained")
        .says("created")
        .succeeds();
}

#[test]
fn the_validator_starts_with_default_dispositions_and_no_descriptor_of_ours() {
    needs_tool!("strace", "ls", "env");
    let without_us = tool("ls", ["/proc/self/fd"]);
    for named in WAYS {
        let sandbox = Sandbox::new();
        let look = "ls /proc/self/fd >\"$ASIDE/fds\"; cat /proc/self/status >\"$ASIDE/status\"";
        validated(&sandbox, named, &["-q", "-C", "--lock"], look, &["out"])
            .file_size_limit(1 << 30)
            .stdin("new")
            .succeeds();
        assert_eq!(seen(&sandbox, "fds"), without_us);
        let status = seen(&sandbox, "status");
        for key in ["SigBlk:", "SigCgt:"] {
            let line = status.lines().find_map(|line| line.strip_prefix(key));
            assert_eq!(line.unwrap().trim(), "0000000000000000", "{key}");
        }
    }
}

#[test]
fn the_copy_is_a_clone_where_the_filesystem_can_clone() {
    needs_mounts!();
    needs_tool!("strace", "mkfs.xfs");
    let mount = Mount::xfs();
    let sandbox = Sandbox::in_dir(mount.path());
    let strace = Strace::new().alone();
    validated(&sandbox, false, &[], "test -s \"$1\"", &["out"])
        .through(strace.command())
        .stdin(vec![b'x'; 1 << 20])
        .succeeds();
    let trace = strace.trace();
    trace.only("a clone", |call| {
        call.args.contains("FICLONE") && call.succeeded()
    });
}

// ---- Where the preview is, and what is beside the copy -----------------------------------------------------------

#[test]
fn the_preview_is_in_tmpdir_where_another_user_could_rename_it_and_with_inplace() {
    needs_root!();
    let in_place = &["--inplace=always"][..];
    let (root, user) = (0, NOBODY);
    for (mode, owner, runner, options, beside) in [
        (0o755, root, root, &[][..], true),
        (0o700, user, user, &[], true),
        (0o1777, root, root, &[], true),
        (0o1777, root, user, &[], true),
        (0o777, root, root, &[], false),
        (0o775, root, root, &[], false),
        (0o777, user, user, &[], false),
        (0o755, user, root, &[], false),
        (0o755, root, root, in_place, false),
        (0o700, root, root, in_place, false),
    ] {
        let sandbox = Sandbox::new();
        open_aside(&sandbox);
        let tmp = temporary_directory(&sandbox);
        sandbox.write("include", "included");
        sandbox.write("out", "old");
        sandbox.chown("out", runner, runner);
        sandbox.give_to(owner, owner);
        sandbox.chmod("", mode);
        let check = "printf %s \"${1%/*}\" >\"$ASIDE/seen\" && test -L \"${1%/*}/include\" &&
            test \"$(cat \"${1%/*}/include\")\" = included";
        let options = [&["-q"], options].concat();
        validated(&sandbox, false, &options, check, &["out"])
            .env("TMPDIR", &tmp)
            .user(runner, runner, &[])
            .stdin("new")
            .succeeds();
        let case = format!("{mode:o} of {owner}, run by {runner}, {options:?}");
        let preview = PathBuf::from(seen(&sandbox, "seen"));
        let expected = if beside { sandbox.root() } else { &tmp };
        assert_eq!(preview.parent().unwrap(), expected, "{case}");
        assert!(!preview.exists() && is_empty(&tmp), "{case}");
    }
}

#[test]
fn with_create_dirs_the_preview_is_in_the_nearest_directory_and_has_no_links() {
    needs_tool!("strace", "ls");
    for named in WAYS {
        let sandbox = Sandbox::new();
        sandbox.mkdir("have");
        sandbox.write("have/sibling", "");
        let check = "test ! -e have/a && printf %s \"${1%/*}\" >\"$ASIDE/seen\" &&
            test \"$(ls -A \"${1%/*}\")\" = out.json";
        let dest = ["have/a/b/out.json"];
        validated(&sandbox, named, &["-D"], "exit 1", &dest)
            .stdin("new")
            .fails(3);
        validated(&sandbox, named, &["-D"], check, &dest)
            .stdin("new")
            .leaves([
                "have",
                "have/a",
                "have/a/b",
                "have/a/b/out.json",
                "have/sibling",
            ])
            .succeeds();
        let preview = PathBuf::from(seen(&sandbox, "seen"));
        assert_eq!(preview.parent().unwrap(), sandbox.path("have"));
    }
}

#[test]
fn every_other_entry_is_there_as_a_link_to_the_original() {
    needs_tool!("strace", "ls", "readlink");
    for named in WAYS {
        let sandbox = Sandbox::new();
        sandbox.mkdir("d/sub");
        for name in ["d/out", "d/file", "d/.hidden", "d/sub/deep"] {
            sandbox.write(name, name);
        }
        // Not these: they come and go.
        for name in [
            ".atomwrite.0123456789abcdef.tmp",
            ".atomwrite.0123456789abcdef.lock",
            ".nfs000000000000beef",
            ".fuse_hidden000beef",
        ] {
            sandbox.write(Path::new("d").join(name), "");
        }
        sandbox.symlink("file", "d/link");
        sandbox.symlink("nowhere", "d/dangling");
        sandbox.fifo("d/fifo");
        let check = "d=$PWD/d; cd \"${1%/*}\" || exit 9
            ls -A >\"$ASIDE/names\"
            for name in .hidden dangling fifo file link sub; do test -L $name || exit 8; done
            for name in file fifo sub; do test \"$(readlink -f $name)\" = \"$d/$name\" || exit 7; done
            test ! -L out && test -f out && test \"$(cat link .hidden sub/deep)\" = d/filed/.hiddend/sub/deep";
        validated(&sandbox, named, &[], check, &["d/out"])
            .stdin("new")
            .succeeds();
        let names = seen(&sandbox, "names");
        let mut names: Vec<_> = names.lines().collect();
        names.sort_unstable();
        let expected = [".hidden", "dangling", "fifo", "file", "link", "out", "sub"];
        assert_eq!(names, expected);
    }
}

#[test]
fn a_link_as_dest_has_the_entries_beside_its_target() {
    let sandbox = Sandbox::new();
    sandbox.mkdir("far");
    sandbox.write("far/include", "far");
    sandbox.write("include", "near");
    sandbox.write("far/target", "old");
    sandbox.symlink("far/target", "link");
    let check = "test \"$(cat \"${1%/*}/include\")\" = far && test \"$(cat \"$2\")\" = old";
    validated(&sandbox, false, &[], check, &["link"])
        .stdin("new")
        .succeeds();
}

#[test]
fn an_entry_that_the_validator_writes_to_is_the_original() {
    let sandbox = Sandbox::new();
    sandbox.write("out", "old");
    sandbox.write("other", "other");
    let check = "echo ' more' >>\"${1%/*}/other\"";
    validated(&sandbox, false, &[], check, &["out"])
        .stdin("new")
        .succeeds();
    assert_eq!(sandbox.text("other"), "other more\n");
}

#[test]
fn of_more_than_1024_entries_some_are_left_out_and_a_refusal_says_so() {
    needs_tool!("find");
    for (entries, all) in [(900, true), (1100, false)] {
        let sandbox = Sandbox::new();
        sandbox.write("out", "old");
        for entry in 0..entries {
            sandbox.write(format!("{entry}"), "");
        }
        let count = "find \"${1%/*}\" -type l | wc -l >\"$ASIDE/links\"; exit";
        let done = validated(&sandbox, false, &[], &format!("{count} 1"), &["out"])
            .stdin("new")
            .fails(3);
        assert_ne!(done.stderr.contains("left out"), all, "{done:?}");
        let links: usize = seen(&sandbox, "links").trim().parse().unwrap();
        if all {
            assert_eq!(links, entries);
        } else {
            assert!(links <= 1024 && links > 1000, "{links}");
        }
        validated(&sandbox, false, &[], &format!("{count} 0"), &["out"])
            .stdin("new")
            .succeeds();
    }
}

#[test]
fn the_entries_of_a_directory_that_cannot_be_read_are_left_out_and_a_refusal_says_so() {
    needs_root!();
    needs_tool!("ls");
    let sandbox = Sandbox::new();
    sandbox.write("out", "old");
    sandbox.write("other", "");
    sandbox.chown("out", NOBODY, NOBODY);
    sandbox.give_to(NOBODY, NOBODY);
    sandbox.chmod("", 0o300);
    let run = |check| {
        validated(&sandbox, false, &["-q", "--sync=none"], check, &["out"])
            .user(NOBODY, NOBODY, &[])
            .stdin("new")
    };
    run("exit 1").says("left out").fails(3);
    run("test \"$(ls -A \"${1%/*}\")\" = out").succeeds();
}

// ---- Its verdict ------------------------------------------------------------------------------------------------

#[test]
fn what_the_validator_does_not_approve_is_refused() {
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
fn other_guards_come_first() {
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

// ---- What it does -----------------------------------------------------------------------------------------------

#[test]
fn what_the_validator_writes_is_thrown_away() {
    needs_tool!("strace", "dd", "truncate", "sed");
    for named in WAYS {
        for options in [&[][..], &["-q", "--inplace=always"]] {
            let sandbox = Sandbox::new();
            sandbox.write("kept", "kept");
            for validator in [
                "echo more >>\"$1\"",
                "printf NEW >\"$1\"",
                "printf x | dd of=\"$1\" bs=1 seek=1 conv=notrunc 2>/dev/null",
                "truncate -s 1 \"$1\"",
                "chmod 4777 \"$1\"; touch -d @1 \"$1\"",
                "echo more >>/proc/self/fd/0",
                "rm \"$1\"; printf NEW >\"$1\"",
                "printf NEW >\"$1.tmp\"; mv \"$1.tmp\" \"$1\"",
                "sed -i s/new/NEW/ \"$1\"",
                "ln \"$1\" \"$1.l\"; echo more >>\"$1.l\"",
                "rm \"$1\"",
                "mv \"$1\" \"$1.bak\"",
                "rm \"$1\"; ln -s /etc/passwd \"$1\"",
                "rm \"$1\"; mkdir \"$1\"",
            ] {
                sandbox.write("out", "old");
                validated(&sandbox, named, options, validator, &["out"])
                    .stdin("new")
                    .succeeds();
                assert_eq!(sandbox.text("out"), "new", "{validator}");
                assert_eq!(sandbox.mode("out"), 0o644, "{validator}");
            }
        }
    }
}

#[test]
fn no_name_and_no_descriptor_of_the_validator_leads_to_the_new_file() {
    needs_tool!("strace", "stat");
    for named in WAYS {
        let sandbox = Sandbox::new();
        sandbox.write("out", "old");
        let look = "stat -Lc %d:%i \"$1\" /proc/self/fd/* 2>/dev/null >\"$ASIDE/files\"; :";
        validated(&sandbox, named, &[], look, &["out"])
            .stdin("new")
            .succeeds();
        let files = seen(&sandbox, "files");
        assert!(files.lines().count() > 1);
        let new = sandbox.stat("out");
        let new = format!("{}:{}", new.dev(), new.ino());
        assert!(!files.lines().any(|file| file == new), "{new}: {files}");
    }
}

#[test]
fn a_background_process_of_the_validator_cannot_reach_dest() {
    needs_tool!("strace");
    for (named, options) in [
        (false, &[][..]),
        (true, &[]),
        (false, &["-q", "--inplace=always"]),
    ] {
        for (open, write) in [
            ("exec 5>>\"$1\"", "echo late >&5"),
            // Not stdin itself: the shell gives a background process /dev/null.
            ("exec 5<>/proc/self/fd/6", "echo late >&5"),
            ("cd \"${1%/*}\"", "echo late >>out"),
        ] {
            let sandbox = Sandbox::new();
            sandbox.write("out", "old");
            tool("mkfifo", [sandbox.aside("go")]);
            let validator = format!(
                "exec 6<&0
                (
                    trap ': >\"$ASIDE/done\"; : >\"$ASIDE/open\"' EXIT
                    {open}
                    : >\"$ASIDE/open\"
                    read _ <\"$ASIDE/go\"
                    {write}
                ) >/dev/null 2>&1 &
                while test ! -e \"$ASIDE/open\"; do :; done"
            );
            validated(&sandbox, named, options, &validator, &["out"])
                .stdin("new")
                .succeeds();
            // It is there already if the descriptor cannot be opened for writing.
            if !sandbox.aside("done").exists() {
                let_go(&sandbox);
            }
            wait_for(&sandbox, "done");
            assert_eq!(sandbox.text("out"), "new", "{named} {open}");
            assert_eq!(sandbox.names(), ["out"]);
        }
    }
}

#[test]
fn what_the_validator_makes_in_the_preview_is_removed() {
    needs_tool!("strace", "mkdir");
    let users: &[u32] = if can_be_others() {
        &[0, NOBODY]
    } else {
        &[geteuid().as_raw()]
    };
    for named in WAYS {
        for (end, status) in [("exit 0", 0), ("exit 1", 3)] {
            for &user in users {
                let sandbox = Sandbox::new();
                sandbox.mkdir("sub");
                sandbox.write("sub/kept", "kept");
                sandbox.write("kept", "kept");
                if can_be_others() {
                    sandbox.give_to(user, user);
                }
                let validator = format!(
                    "cd \"${{1%/*}}\" && : >\"$1.log\" && mkdir -p a/b/c && : >a/b/c/d &&
                    ln -s \"${{2%/*}}/sub\" l && ln -s .. a/b/up && chmod 0 a/b/c a/b a || exit 9
                    {end}"
                );
                let run = validated(&sandbox, named, &["-q"], &validator, &["out"]).stdin("new");
                let run = if can_be_others() {
                    run.user(user, user, &[])
                } else {
                    run
                };
                match status {
                    0 => run.succeeds(),
                    _ => run.fails(status),
                };
                assert_eq!(sandbox.text("sub/kept"), "kept");
            }
        }
    }
}

#[test]
fn the_time_of_the_file_is_when_it_was_written() {
    let sandbox = Sandbox::new();
    let before = fs::metadata(sandbox.write("clock", "x")).unwrap();
    validated(&sandbox, false, &[], ":", &["out"])
        .stdin("new")
        .succeeds();
    let written = sandbox.stat("out");
    assert!((written.mtime(), written.mtime_nsec()) >= (before.mtime(), before.mtime_nsec()));
}

#[test]
fn a_validator_may_change_what_is_not_the_file() {
    // A concurrent change of DEST itself is lost, as it is without a validator.
    let sandbox = Sandbox::new();
    sandbox.write("out", "old");
    let change = "cp \"$2\" kept; echo x >>\"$2\"";
    validated(&sandbox, false, &[], change, &["out"])
        .stdin("new")
        .leaves(["kept", "out"])
        .succeeds();
    assert_eq!(
        (&*sandbox.text("kept"), &*sandbox.text("out")),
        ("old", "new")
    );
}

#[test]
fn a_fuse_filesystem_is_validated_on_too() {
    needs_mounts!();
    needs_tool!("bindfs");
    let mount = Mount::new_bindfs();
    let sandbox = Sandbox::in_dir(mount.path());
    sandbox.write("include", "included");
    let check = "test \"$(cat)\" = new && test \"$(cat \"${1%/*}/include\")\" = included";
    for old in [false, true] {
        assert_eq!(sandbox.path("out").exists(), old);
        validated(&sandbox, false, &[], "false", &["out"])
            .stdin("new")
            .says("status 1")
            .fails(3);
        validated(&sandbox, false, &[], check, &["out"])
            .stdin("new")
            .succeeds();
        assert_eq!(sandbox.text("out"), "new");
    }
    // A descriptor that stays open makes the server keep a hidden file in the preview for a while.
    tool("mkfifo", [sandbox.aside("go")]);
    let keep = "(exec 5<\"$1\"; : >\"$ASIDE/open\"; read _ <\"$ASIDE/go\") >/dev/null 2>&1 &
        while test ! -e \"$ASIDE/open\"; do :; done";
    let done = validated(&sandbox, false, &[], keep, &["out"])
        .stdin("newer")
        .output();
    let_go(&sandbox);
    assert_eq!(done.code(), Some(0), "{done:?}");
    assert_eq!(sandbox.text("out"), "newer");
}

// ---- With other options -----------------------------------------------------------------------------------------

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
fn backups_links_and_locks_go_with_it() {
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

// ---- Death ------------------------------------------------------------------------------------------------------

/// Starts a run whose validator waits for a signal, or for ever.
fn start_waiting(sandbox: &Sandbox, named: bool, trap: &str) -> Running {
    let validator = format!(
        "exec 2>/dev/null; {trap}; : >\"$ASIDE/up\"; while :; do read _ <\"$ASIDE/go\"; done"
    );
    tool("mkfifo", [sandbox.aside("go")]);
    let running = validated(sandbox, named, &[], &validator, &["out"])
        .stdin("new")
        .start();
    wait_for(sandbox, "up");
    running
}

fn program_of(running: &Running, named: bool) -> String {
    let id = running.id();
    if !named {
        return id.to_string();
    }
    let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap();
    children.trim().to_owned()
}

#[test]
fn a_signal_while_the_validator_runs_is_passed_on_and_leaves_nothing() {
    needs_tool!("strace");
    for named in WAYS {
        for signal in [Signal::TERM, Signal::INT, Signal::HUP] {
            for trap in [
                ":",
                "trap ': >\"$ASIDE/got\"; exit 0' TERM INT HUP",
                "trap ': >\"$ASIDE/got\"; exit 5' TERM INT HUP",
            ] {
                let sandbox = Sandbox::new();
                sandbox.write("out", "old");
                let running = start_waiting(&sandbox, named, trap);
                let program = program_of(&running, named);
                kill(&program, signal);
                if trap != ":" {
                    wait_for(&sandbox, "got");
                }
                let done = running.wait();
                assert_eq!(
                    done.signal(),
                    Some(signal.as_raw()),
                    "{named} {trap} {done:?}"
                );
                assert_eq!(done.stderr, "");
                assert_eq!(sandbox.text("out"), "old");
                assert_eq!(sandbox.names(), ["out"]);
            }
        }
    }
}

#[test]
fn a_kill_while_the_validator_runs_leaves_a_private_preview_that_stays() {
    let sandbox = Sandbox::new();
    sandbox.write("out", "old");
    let running = start_waiting(&sandbox, false, ": >\"$1.junk\"");
    let program = running.id().to_string();
    // The validator too: it would wait for ever.
    let validator = fs::read_to_string(format!("/proc/{program}/task/{program}/children"));
    kill(&program, Signal::KILL);
    kill(&validator.unwrap(), Signal::KILL);
    running.wait();
    assert_eq!(sandbox.text("out"), "old");
    let left = sandbox.names();
    let preview = left[0].to_str().unwrap();
    let name = preview.strip_prefix(".atomwrite.");
    let random = name.and_then(|name| name.strip_suffix(".tmp"));
    assert_eq!(random.map(str::len), Some(16), "{left:?}");
    assert_eq!(sandbox.mode(preview), 0o700);
    let inside = |name: &str| format!("{preview}/{name}");
    assert_eq!(left, [preview, &inside("out"), &inside("out.junk"), "out"]);
    // No run removes a directory that another has made.
    for options in [&[][..], &["-q", "--lock"], &["-b"], &["--validate", "true"]] {
        let names = left.iter().cloned();
        let backup = (options == ["-b"]).then(|| "out~".into());
        sandbox
            .atomwrite(options.iter().copied().chain(["out"]))
            .stdin("new")
            .leaves(names.chain(backup))
            .succeeds();
        drop(fs::remove_file(sandbox.path("out~")));
    }
}

#[test]
fn the_preview_of_a_live_validator_is_not_touched() {
    needs_tool!("strace");
    for named in WAYS {
        let sandbox = Sandbox::new();
        sandbox.write("out", "old");
        tool("mkfifo", [sandbox.aside("go")]);
        let validator = ": >\"$ASIDE/up\"; read _ <\"$ASIDE/go\"; test \"$(cat \"$1\")\" = slow";
        let running = validated(&sandbox, named, &[], validator, &["out"])
            .stdin("slow")
            .start();
        wait_for(&sandbox, "up");
        let names = sandbox.names();
        for _ in 0..2 {
            sandbox
                .atomwrite(["out"])
                .stdin("fast")
                .leaves(names.clone())
                .succeeds();
            validated(&sandbox, named, &[], "test -s \"$1\"", &["out"])
                .stdin("fast too")
                .leaves(names.clone())
                .succeeds();
        }
        let_go(&sandbox);
        let done = running.wait();
        assert_eq!(done.code(), Some(0), "{done:?}");
        assert_eq!(sandbox.text("out"), "slow");
        assert_eq!(sandbox.names(), ["out"]);
    }
}

// ---- Real validators --------------------------------------------------------------------------------------------

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
