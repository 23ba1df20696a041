//! Content that is judged before it is committed: `--sha256` and `--validate`. Refused is status 3, DEST is untouched.
//!
//! `--sha256 HEX` is checked for form before any input is read. `--validate CMD` runs `sh -c CMD` with the content on
//! stdin, `$1` the path of a file with it whose last component is DEST's own name, with the mode and the owner that it
//! will have, and `$2` DEST. Its stdout goes to stderr. It must exit with 0. What it writes to the file is not committed
//! unnoticed, and nothing is left if it or we are killed; after SIGKILL the next write removes what is left.

use std::ffi::OsString;
use std::fs::{self, OpenOptions};
use std::os::unix::fs::PermissionsExt;

use rustix::process::Signal;

use crate::sandbox::{
    NOBODY, Run, Running, Sandbox, Witness, needs_root, needs_tool, tool, wait_until,
};
use crate::strace::Strace;

/// The way that the new file takes to its name.
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

fn sum(content: &[u8]) -> String {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), content).unwrap();
    tool("sha256sum", [file.path()])[..64].to_owned()
}

fn wait_for(sandbox: &Sandbox, name: &str) {
    let path = sandbox.aside(name);
    wait_until(&format!("there is {name}"), || path.exists());
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
fn the_path_is_absolute_and_ends_in_dests_own_name() {
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
            ("link.conf", "d", "target.json"),
            (&longest, "", &longest),
        ] {
            let run = validated(&sandbox, named, &[], show, &["--", dest]).stdin("new");
            assert_eq!(run.output().code(), Some(0), "{dest}");
            let seen = fs::read_to_string(sandbox.aside("seen")).unwrap();
            let (first, second) = seen.split_once('|').unwrap();
            assert!(first.starts_with('/'), "{seen}");
            assert!(first.ends_with(&format!("/{name}")), "{seen}");
            assert_eq!(second, dest);
            // In a directory of its own, beside DEST.
            let private = std::path::Path::new(first).parent().unwrap();
            let beside = fs::canonicalize(private.parent().unwrap()).unwrap();
            assert_eq!(beside, fs::canonicalize(sandbox.path(place)).unwrap());
            assert!(!private.exists());
        }
        assert!(sandbox.stat("link.conf").is_symlink());
    }
}

#[test]
fn a_dest_of_any_bytes_is_named_as_it_is() {
    let sandbox = Sandbox::new();
    let name = crate::sandbox::os(b"a\n\xff'$x");
    let words = ["--validate", "test \"${1##*/}\" = \"$2\" && test -s \"$1\""];
    let words = words.iter().map(OsString::from).chain([name.clone()]);
    sandbox.atomwrite(words).stdin("new").succeeds();
    assert_eq!(sandbox.text(name), "new");
}

#[test]
fn mode_and_owner_are_in_place_and_nobody_else_may_look() {
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
        // By whoever runs it, even where the file will be closed to him.
        let sandbox = Sandbox::new();
        sandbox.give_to(NOBODY, NOBODY);
        validated(
            &sandbox,
            false,
            &["-m", "0"],
            "test \"$(cat)\" = new",
            &["out"],
        )
        .user(NOBODY, NOBODY, &[])
        .stdin("new")
        .succeeds();
        assert_eq!(sandbox.mode("out"), 0);
    }
}

#[test]
fn the_umask_does_not_close_the_validators_directory() {
    needs_tool!("strace");
    for named in WAYS {
        let sandbox = Sandbox::new();
        validated(&sandbox, named, &["-m", "600"], "test -s \"$1\"", &["out"])
            .umask(0o777)
            .stdin("new")
            .succeeds();
    }
}

#[test]
fn the_validators_stdout_goes_to_stderr() {
    let sandbox = Sandbox::new();
    validated(
        &sandbox,
        false,
        &["-v"],
        "echo said; echo complained >&2",
        &["out"],
    )
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
        validated(&sandbox, named, &["-C", "--lock"], look, &["out"])
            .file_size_limit(1 << 30)
            .stdin("new")
            .succeeds();
        let seen = fs::read_to_string(sandbox.aside("fds")).unwrap();
        assert_eq!(seen, without_us);
        let status = fs::read_to_string(sandbox.aside("status")).unwrap();
        for key in ["SigBlk:", "SigCgt:"] {
            let line = status.lines().find_map(|line| line.strip_prefix(key));
            assert_eq!(line.unwrap().trim(), "0000000000000000", "{key}");
        }
    }
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
                ("exit 1", "status 1"),
                ("exit 2", "status 2"),
                ("exit 255", "status 255"),
                ("ulimit -c 0; kill -9 $$", "signal 9"),
                ("ulimit -c 0; kill -15 $$", "signal 15"),
                ("ulimit -c 0; kill -6 $$", "signal 6"),
            ] {
                validated(&sandbox, named, &[], validator, &[dest])
                    .stdin("new")
                    .says(format!("'{dest}'"))
                    .says(part)
                    .fails(3);
                validated(&sandbox, named, &[], validator, &["in", dest]).fails(3);
            }
            let done = validated(&sandbox, named, &[], "no-such-program", &[dest])
                .stdin("new")
                .output();
            assert_eq!(done.code(), Some(3), "{done:?}");
            let done = validated(&sandbox, named, &[], "'", &[dest])
                .stdin("new")
                .output();
            assert_eq!(done.code(), Some(3), "{done:?}");
            assert_eq!(sandbox.names(), ["in", "link", "out"]);
            assert_eq!(sandbox.text("out"), "old");
        }
    }
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

#[test]
fn a_machine_without_a_shell_is_a_failure_and_not_a_refusal() {
    let sandbox = Sandbox::new();
    sandbox.write("out", "old");
    sandbox
        .atomwrite(["--validate", "exit 0", "out"])
        .env("PATH", "/nonexistent")
        .stdin("new")
        .says("'sh'")
        .fails(1);
}

// ---- What it does to the file -----------------------------------------------------------------------------------

#[test]
fn what_the_validator_wrote_is_not_committed() {
    needs_tool!("strace", "dd", "touch", "truncate");
    for named in WAYS {
        let sandbox = Sandbox::new();
        sandbox.write("out", "old");
        for validator in [
            "echo more >>\"$1\"",
            "printf NEW >\"$1\"",
            "printf x | dd of=\"$1\" bs=1 seek=1 conv=notrunc 2>/dev/null",
            "truncate -s 1 \"$1\"",
            "truncate -s 3 \"$1\"; truncate -s 2 \"$1\"; printf w >>\"$1\"",
            // The time is put back, too.
            "touch -r \"$1\" \"$ASIDE/time\"; printf NEW >\"$1\"; touch -r \"$ASIDE/time\" \"$1\"; printf y >>\"$1\"",
            // It is another file.
            "rm \"$1\"; printf new >\"$1\"",
            "printf NEW >\"$1.tmp\"; mv \"$1.tmp\" \"$1\"",
            "sed -i s/new/NEW/ \"$1\"",
            "rm \"$1\"",
            "mv \"$1\" \"$1.bak\"",
            "rm \"$1\"; ln -s /etc/passwd \"$1\"",
            "rm \"$1\"; mkdir \"$1\"",
        ] {
            validated(&sandbox, named, &[], validator, &["out"])
                .stdin("new")
                .says("'out'")
                .fails(3);
        }
    }
}

#[test]
fn a_validator_that_keeps_the_file_open_for_writing_is_refused() {
    let sandbox = Sandbox::new();
    sandbox.write("out", "old");
    tool("mkfifo", [sandbox.aside("go")]);
    let validator = "(exec 5>>\"$1\"; : >\"$ASIDE/open\"; read _ <\"$ASIDE/go\"; echo late >&5) >/dev/null 2>&1 &
        while test ! -e \"$ASIDE/open\"; do :; done";
    validated(&sandbox, false, &[], validator, &["out"])
        .stdin("new")
        .fails(3);
    drop(
        OpenOptions::new()
            .write(true)
            .open(sandbox.aside("go"))
            .unwrap(),
    );
    assert_eq!(sandbox.text("out"), "old");
}

#[test]
fn a_file_that_the_validator_has_exchanged_after_its_end_is_not_committed() {
    needs_tool!("strace");
    let sandbox = Sandbox::new();
    sandbox.write("out", "old");
    // Whoever waits for the validator's end acts between the look at the file and the rename: the fsync takes its time.
    let validator = "(while kill -0 $$; do :; done; echo evil >\"$1.evil\"; mv -f \"$1.evil\" \"$1\") \
        </dev/null >/dev/null 2>&1 &";
    let strace = Strace::new().alone().inject("fsync:delay_enter=1000000");
    validated(&sandbox, false, &[], validator, &["out"])
        .through(strace.command())
        .stdin("new")
        .fails(3);
    assert_eq!(sandbox.text("out"), "old");
}

#[test]
fn a_validator_that_only_reads_may_leave_somebody_behind() {
    let sandbox = Sandbox::new();
    tool("mkfifo", [sandbox.aside("go")]);
    let validator = "(exec 5<\"$1\"; : >\"$ASIDE/open\"; read _ <\"$ASIDE/go\") >/dev/null 2>&1 &
        while test ! -e \"$ASIDE/open\"; do :; done";
    validated(&sandbox, false, &[], validator, &["out"])
        .stdin("new")
        .succeeds();
    drop(
        OpenOptions::new()
            .write(true)
            .open(sandbox.aside("go"))
            .unwrap(),
    );
    assert_eq!(sandbox.text("out"), "new");
}

#[test]
fn what_the_validator_leaves_beside_the_file_is_removed() {
    needs_tool!("strace");
    for named in WAYS {
        for end in ["exit 0", "exit 1"] {
            let sandbox = Sandbox::new();
            sandbox.write("kept", "");
            let validator = format!(
                "d=$(dirname \"$1\"); : >\"$1.log\"; mkdir -p \"$d/a/b\"; : >\"$d/a/b/c\"; ln -s ../kept \"$d/l\"; {end}"
            );
            let run = validated(&sandbox, named, &[], &validator, &["out"]).stdin("new");
            match end {
                "exit 0" => run.succeeds(),
                _ => run.fails(3),
            };
            assert!(sandbox.path("kept").exists());
        }
    }
}

#[test]
fn the_time_of_the_file_is_when_it_was_written() {
    use std::os::unix::fs::MetadataExt;
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
    // A change of DEST itself meanwhile is lost, as ever.
    let sandbox = Sandbox::new();
    sandbox.write("out", "old");
    validated(
        &sandbox,
        false,
        &[],
        "cp \"$2\" kept; echo x >>\"$2\"",
        &["out"],
    )
    .stdin("new")
    .leaves(["kept", "out"])
    .succeeds();
    assert_eq!(
        (&*sandbox.text("kept"), &*sandbox.text("out")),
        ("old", "new")
    );
}

// ---- With other options -----------------------------------------------------------------------------------------

#[test]
fn missing_parents_are_made_when_it_has_approved() {
    needs_tool!("strace");
    for named in WAYS {
        let sandbox = Sandbox::new();
        let check = "test ! -e a && test \"${1##*/}\" = out.json";
        validated(&sandbox, named, &["-D"], "exit 1", &["a/b/out.json"])
            .stdin("new")
            .fails(3);
        validated(&sandbox, named, &["-D"], check, &["a/b/out.json"])
            .stdin("new")
            .leaves(["a", "a/b", "a/b/out.json"])
            .succeeds();
    }
}

#[test]
fn the_guards_at_the_commit_hold() {
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
            validated(&sandbox, named, &[option], "test -s \"$1\"", &["out"])
                .stdin("new")
                .leaves(names)
                .succeeds();
            let expected = if option == "-a" { "oldnew" } else { "new" };
            assert_eq!(sandbox.text("out"), expected, "{option}");
            validated(&sandbox, named, &[option], "exit 1", &["out"])
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
                tool("kill", [format!("-{}", signal.as_raw()), program]);
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
fn a_kill_while_the_validator_runs_is_healed_by_the_next_write() {
    needs_tool!("strace");
    for named in WAYS {
        for next in 0..4 {
            let sandbox = Sandbox::new();
            sandbox.write("out", "old");
            let running = start_waiting(&sandbox, named, ": >\"$1.junk\"");
            let program = program_of(&running, named);
            // The validator first: it is nobody's then, and would wait for ever.
            let validator = fs::read_to_string(format!("/proc/{program}/task/{program}/children"));
            tool("kill", ["-KILL", &program]);
            tool("kill", ["-KILL", validator.unwrap().trim()]);
            running.wait();
            assert_eq!(sandbox.text("out"), "old");
            let left = sandbox.names();
            assert!(left.len() > 1, "{left:?}");
            let private = left[0].to_str().unwrap();
            let name = private.strip_prefix(".atomwrite.");
            let digits = name.and_then(|name| name.strip_suffix(".tmp"));
            assert_eq!(digits.map(str::len), Some(16), "{left:?}");
            let mode = sandbox.stat(private).permissions().mode() & 0o777;
            assert_eq!(mode, 0o700);
            let run = match next {
                0 => sandbox.atomwrite(["out"]),
                1 => sandbox.atomwrite(["out"]).without_linkat(),
                2 => sandbox.atomwrite(["--lock", "out"]),
                _ => validated(&sandbox, named, &[], "test -s \"$1\"", &["out"]),
            };
            run.stdin("new").leaves(["out"]).succeeds();
            assert_eq!(sandbox.text("out"), "new");
        }
    }
}

#[test]
fn the_directory_of_a_live_validator_is_not_touched() {
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
        drop(
            OpenOptions::new()
                .write(true)
                .open(sandbox.aside("go"))
                .unwrap(),
        );
        let done = running.wait();
        assert_eq!(done.code(), Some(0), "{done:?}");
        assert_eq!(sandbox.text("out"), "slow");
        assert_eq!(sandbox.names(), ["out"]);
    }
}

// ---- Real validators --------------------------------------------------------------------------------------------

/// Lets the validator pass one content and refuse another.
fn tries(dest: &str, options: &[&str], validator: &str, good: &str, bad: &str) {
    let sandbox = Sandbox::new();
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
    assert_eq!(sandbox.names(), [dest]);
}

#[test]
fn visudo_validates_sudoers() {
    needs_root!();
    needs_tool!("visudo");
    let good = "root ALL=(ALL:ALL) ALL\n";
    tries(
        "sudoers",
        &["-m", "440"],
        "visudo -cf \"$1\"",
        good,
        "root ALL=(ALL\n",
    );
}

#[test]
fn nginx_validates_its_configuration() {
    needs_root!();
    needs_tool!("nginx");
    let good = "events {}\nhttp { server { return 204; listen unix:/nonexistent/socket; } }\n";
    let good = good.replace(" listen unix:/nonexistent/socket;", "");
    let validator = "nginx -t -e stderr -g \"pid $ASIDE/pid;\" -c \"$1\"";
    tries(
        "nginx.conf",
        &[],
        validator,
        &good,
        "events {}\nhttp { server {\n",
    );
}

#[test]
fn jq_validates_json() {
    needs_tool!("jq");
    // By stdin, and by path.
    tries("out.json", &[], "jq empty", "{\"a\": 1}\n", "{\"a\": 1\n");
    tries("out.json", &[], "jq empty \"$1\"", "[]\n", "[,]\n");
}

#[test]
fn python_validates_json() {
    needs_tool!("python3");
    let validator = "python3 -m json.tool >/dev/null";
    tries("out.json", &[], validator, "{\"a\": 1}\n", "{a: 1}\n");
}

#[test]
fn sh_validates_scripts_by_their_extension() {
    let validator = "case $1 in *.sh) sh -n \"$1\" ;; *) exit 9 ;; esac";
    tries(
        "run.sh",
        &["-m", "+x"],
        validator,
        "if :; then :; fi\n",
        "if :; then\n",
    );
    let sandbox = Sandbox::new();
    validated(&sandbox, false, &[], validator, &["run.txt"])
        .stdin(":\n")
        .says("status 9")
        .fails(3);
}

#[test]
fn a_shell_script_as_validator_may_be_run_from_its_own_path() {
    // The new file is executable already, and nobody has it open for writing: ETXTBSY otherwise.
    let sandbox = Sandbox::new();
    validated(&sandbox, false, &["-m", "755"], "\"$1\"", &["run"])
        .stdin("#!/bin/sh\nexit 0\n")
        .succeeds();
    validated(&sandbox, false, &["-m", "755"], "\"$1\"", &["run"])
        .stdin("#!/bin/sh\nexit 4\n")
        .says("status 4")
        .fails(3);
}
