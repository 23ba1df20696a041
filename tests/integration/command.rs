//! `DEST -- COMMAND`: COMMAND's stdout is the new content, and counts only if COMMAND exits with 0.
//!
//! Otherwise the status is COMMAND's own: 126 if it cannot be run, 127 if it is not found, 128+n if signal n killed it;
//! 125 whatever atomwrite itself fails at or refuses; 124 in place of 4. DEST is untouched but for that. COMMAND has our
//! stdin and our stderr, the default dispositions and an empty mask, but for what was ignored at our start; it gets the
//! signals that we get, and we die by them when it has ended. A process that outlives it can neither hang us nor change
//! DEST afterwards. Whatever COMMAND is told on its command line is its own.
//!
//! The output always goes through a pipe: atomwrite writes every byte itself and sees every error, whatever COMMAND does
//! about its own.

use std::ffi::{OsStr, OsString};
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use crate::mounts::{Cover, Mount, needs_mounts};
use crate::sandbox::{
    BOUND, NOBODY, Run, Running, Sandbox, Witness, binary, kill, needs_root, needs_tool, open, os,
    tool, wait_until,
};
use crate::strace::Strace;

/// What the new file is until the commit.
#[derive(Clone, Copy, Debug)]
enum Way {
    /// An unnamed temporary file.
    Unnamed,
    /// A file with a temporary name.
    Named,
}

const WAYS: [Way; 2] = [Way::Unnamed, Way::Named];

impl Way {
    fn take(self, run: Run<'_>) -> Run<'_> {
        match self {
            Self::Unnamed => run,
            Self::Named => run.without_linkat(),
        }
    }
}

/// A run with a shell script as its COMMAND, that finds the place aside of the sandbox in $ASIDE.
fn script<'s>(sandbox: &'s Sandbox, options: &[&str], way: Way, script: &str) -> Run<'s> {
    let mut words: Vec<&str> = options.to_vec();
    words.extend(["out", "--", "sh", "-c", script]);
    way.take(sandbox.atomwrite(words))
        .env("ASIDE", sandbox.aside(""))
}

/// atomwrite itself, below strace or not.
fn program_of(running: &Running, way: Way) -> Pid {
    let id = running.id();
    let mut found = match way {
        Way::Unnamed => Some(id),
        Way::Named => None,
    };
    wait_until("the program has been started", || {
        found = found.or_else(|| children(id).first().copied());
        found.is_some()
    });
    let id = found.expect("it was found").try_into().unwrap();
    Pid::from_raw(id).expect("a process")
}

fn children(id: u32) -> Vec<u32> {
    fs::read_to_string(format!("/proc/{id}/task/{id}/children"))
        .unwrap_or_default()
        .split_whitespace()
        .map(|id| id.parse().unwrap())
        .collect()
}

/// Waits until a script has said something in a file aside.
fn wait_for(sandbox: &Sandbox, name: &str, content: &str) {
    let path = sandbox.aside(name);
    wait_until(&format!("{name} says {content:?}"), || {
        fs::read_to_string(&path).is_ok_and(|text| text == content)
    });
}

fn fifo_aside(sandbox: &Sandbox, name: &str) {
    tool("mkfifo", [sandbox.aside(name)]);
}

// ---- What is committed ------------------------------------------------------------------------------------------

#[test]
fn the_output_of_a_command_that_exits_with_0_is_the_content() {
    needs_tool!("strace");
    for way in WAYS {
        let sandbox = Sandbox::new();
        script(&sandbox, &[], way, "echo new; echo lines").succeeds();
        assert_eq!(sandbox.text("out"), "new\nlines\n");
        assert_eq!(sandbox.mode("out"), 0o644);
        sandbox.chmod("out", 0o640);
        script(&sandbox, &["-v"], way, "printf newer")
            .says("replaced 'out' (5 bytes)")
            .succeeds();
        assert_eq!(sandbox.text("out"), "newer");
        assert_eq!(sandbox.mode("out"), 0o640);
        script(&sandbox, &["-m", "600"], way, "cat out; echo '!'").succeeds();
        assert_eq!(sandbox.text("out"), "newer!\n");
        assert_eq!(sandbox.mode("out"), 0o600);
        // One that says that there is nothing is believed: it has exited with 0.
        script(&sandbox, &[], way, ":").succeeds();
        assert_eq!(sandbox.text("out"), "");
    }
}

#[test]
fn a_large_output_is_written_whole() {
    needs_tool!("strace", "head", "tr");
    for way in WAYS {
        for sync in ["--sync=none", "--sync=full"] {
            let sandbox = Sandbox::new();
            let command = "head -c 67108864 /dev/zero | tr '\\0' x";
            script(&sandbox, &[sync], way, command).succeeds();
            let content = sandbox.read("out");
            assert_eq!(content.len(), 64 << 20, "{way:?}");
            assert!(content.iter().all(|byte| *byte == b'x'), "{way:?}");
        }
    }
}

#[test]
fn the_arguments_are_the_commands_own_whatever_they_are() {
    let sandbox = Sandbox::new();
    let words = ["out", "--", "printf", "%s,", "", "-n", "--", "a b", "$x"];
    let words = words.iter().map(OsString::from);
    sandbox.atomwrite(words.chain([os(b"\xff\n")])).output();
    assert_eq!(sandbox.read("out"), b",-n,--,a b,$x,\xff\n,");
}

#[test]
fn the_command_runs_where_we_were_started_and_sees_the_old_content() {
    let sandbox = Sandbox::new();
    sandbox.mkdir("d");
    sandbox.write("d/out", "old");
    for dest in ["d/out", sandbox.path("d/out").to_str().unwrap()] {
        sandbox
            .atomwrite([dest, "--", "sh", "-c", "pwd -P; cat d/out; echo \"$FROM\""])
            .env("FROM", "outside")
            .succeeds();
        let directory = sandbox.root().display().to_string();
        assert_eq!(sandbox.text("d/out"), format!("{directory}\noldoutside\n"));
        sandbox.write("d/out", "old");
    }
}

#[test]
fn the_attributes_of_dest_and_its_links_are_kept() {
    needs_root!();
    needs_tool!("strace");
    for way in WAYS {
        let sandbox = Sandbox::new();
        sandbox.write("target", "old");
        sandbox.chown("target", 1000, 1001);
        sandbox.chmod("target", 0o640);
        sandbox.symlink("target", "out");
        script(&sandbox, &[], way, "printf new").succeeds();
        assert!(sandbox.stat("out").is_symlink());
        assert_eq!(sandbox.text("target"), "new");
        assert_eq!(sandbox.owner("target"), (1000, 1001));
        assert_eq!(sandbox.mode("target"), 0o640);
        script(&sandbox, &["-o0", "-g0", "-m", "+x"], way, "printf newer").succeeds();
        assert_eq!(sandbox.owner("target"), (0, 0));
        assert_eq!(sandbox.mode("target"), 0o751);
    }
}

#[test]
fn missing_parents_are_made_when_the_command_has_succeeded() {
    let sandbox = Sandbox::new();
    let run = |script: &str| sandbox.atomwrite(["-D", "a/b/out", "--", "sh", "-c", script]);
    run("echo half; exit 9").fails(9);
    run("test ! -e a && echo new")
        .leaves(["a", "a/b", "a/b/out"])
        .succeeds();
    assert_eq!(sandbox.text("a/b/out"), "new\n");
}

// ---- Statuses ---------------------------------------------------------------------------------------------------

#[test]
fn a_command_that_fails_gives_its_status_and_dest_is_untouched() {
    needs_tool!("strace");
    for way in WAYS {
        for old in [false, true] {
            let sandbox = Sandbox::new();
            if old {
                sandbox.write("out", "old");
            }
            for status in [1, 2, 3, 4, 7, 63, 125, 126, 127, 128, 254, 255] {
                script(&sandbox, &[], way, &format!("echo half; exit {status}"))
                    .says("'sh'")
                    .says(format!("status {status}"))
                    .fails(status);
            }
            // Here the harness cannot know that it is not ours.
            let done = script(&sandbox, &[], way, "echo half; exit 124").output();
            assert_eq!(done.code(), Some(124), "{done:?}");
            assert!(done.stderr.contains("status 124"), "{done:?}");
            assert_eq!(sandbox.path("out").exists(), old);
            assert!(!old || sandbox.text("out") == "old");
        }
    }
}

#[test]
fn a_command_that_a_signal_kills_gives_128_and_the_signal() {
    needs_tool!("strace");
    for way in WAYS {
        let sandbox = Sandbox::new();
        sandbox.write("out", "old");
        for signal in [1, 2, 3, 6, 9, 13, 14, 15, 24] {
            let command = format!("ulimit -c 0; echo half; kill -{signal} $$");
            script(&sandbox, &[], way, &command)
                .says("'sh'")
                .says(format!("signal {signal}"))
                .fails(128 + signal);
        }
    }
}

#[test]
fn a_command_that_is_not_found_is_127() {
    let sandbox = Sandbox::new();
    sandbox.write("out", "old");
    sandbox.write_with_mode("lost", "#!/no-such-directory/interpreter\n", 0o755);
    sandbox.symlink("nowhere", "dangling");
    for name in [
        "no-such-command",
        "./nosuch",
        "nosuch/x",
        "./lost",
        "./dangling",
    ] {
        let input = Witness::new();
        sandbox
            .atomwrite(["out", "--", name])
            .stdin_from(input.input())
            .says(format!("'{name}'"))
            .says("no such file")
            .fails(127);
        input.has_not_been_read();
    }
    sandbox.atomwrite(["out", "--", ""]).says("''").fails(127);
}

#[test]
fn a_command_that_cannot_be_run_is_126() {
    let sandbox = Sandbox::new();
    sandbox.write("out", "old");
    sandbox.mkdir("directory");
    sandbox.write_with_mode("text", "echo x\n", 0o644);
    sandbox.write_with_mode("nonsense", "\x7fELF nonsense", 0o755);
    sandbox.symlink("loop", "loop");
    for name in ["./directory", "./text", "./nonsense", "./out/x", "./loop"] {
        sandbox
            .atomwrite(["out", "--", name])
            .says(format!("'{name}'"))
            .fails(126);
    }
    let long = "x".repeat(300);
    let done = sandbox.atomwrite(["out", "--", &long]).output();
    assert!(matches!(done.code(), Some(126 | 127)), "{done:?}");
}

#[test]
fn what_fails_before_the_command_is_125_and_runs_nothing() {
    let sandbox = Sandbox::new();
    sandbox.write("out", "old");
    sandbox.mkdir("d");
    sandbox.fifo("fifo");
    sandbox.symlink("loop", "loop");
    for (words, part) in [
        (&["-n", "out"][..], "exists"),
        (&["d"], "directory"),
        (&["out/"], ""),
        (&["d/"], "directory"),
        (&["fifo"], "FIFO"),
        (&["/dev/null"], "device"),
        (&["missing/x"], "--create-dirs"),
        (&["loop"], "links"),
        (&["-o", "no-such-user", "out"], "'no-such-user'"),
        (&["-g", "no-such-group", "out"], "'no-such-group'"),
    ] {
        let input = Witness::new();
        let done = sandbox
            .atomwrite(words.iter().copied().chain(["--", "touch", "ran"]))
            .stdin_from(input.input())
            .output();
        assert_eq!(done.code(), Some(125), "{words:?} {done:?}");
        assert!(done.stderr.contains(part), "{words:?} {done:?}");
        assert_eq!(done.stderr.lines().count(), 1, "{done:?}");
        assert_eq!(sandbox.names(), ["d", "fifo", "loop", "out"]);
        assert_eq!(sandbox.text("out"), "old");
        input.has_not_been_read();
    }
}

#[test]
fn what_may_not_be_written_is_125_and_runs_nothing() {
    needs_root!();
    let sandbox = Sandbox::new();
    sandbox.give_to(NOBODY, NOBODY);
    sandbox.write_with_mode("out", "old", 0o444);
    sandbox
        .atomwrite(["out", "--", "touch", "ran"])
        .user(NOBODY, NOBODY, &[])
        .says("--force")
        .fails(125);
    sandbox
        .atomwrite(["-qf", "out", "--", "printf", "new"])
        .user(NOBODY, NOBODY, &[])
        .succeeds();
}

#[test]
fn a_refusal_of_the_content_is_125() {
    needs_tool!("strace");
    for way in WAYS {
        let sandbox = Sandbox::new();
        sandbox.write("out", "old");
        let wrong = "0".repeat(64);
        script(&sandbox, &["--no-empty"], way, ":")
            .says("empty")
            .fails(125);
        script(&sandbox, &["--sha256", &wrong], way, "echo new")
            .says("SHA-256")
            .fails(125);
        script(&sandbox, &["--validate", "exit 7"], way, "echo new")
            .says("status 7")
            .fails(125);
        // The command's own failure comes first.
        script(&sandbox, &["--no-empty"], way, "exit 8")
            .says("8")
            .fails(8);
        script(&sandbox, &["--validate", "touch ran"], way, "exit 9").fails(9);
    }
}

#[test]
fn no_clobber_is_decided_at_the_commit_and_is_125() {
    needs_tool!("strace");
    for way in WAYS {
        let sandbox = Sandbox::new();
        let done = script(&sandbox, &["-n"], way, "echo new; printf theirs >out").output();
        assert_eq!(done.code(), Some(125), "{done:?}");
        assert!(done.stderr.contains("exists"), "{done:?}");
        assert_eq!(sandbox.text("out"), "theirs");
        assert_eq!(sandbox.names(), ["out"]);
        fs::remove_file(sandbox.path("out")).unwrap();
        script(&sandbox, &["-n"], way, "printf ours").succeeds();
        assert_eq!(sandbox.text("out"), "ours");
    }
}

#[test]
fn a_directory_that_cannot_be_synced_is_124_and_a_file_that_cannot_be_is_125() {
    needs_tool!("strace");
    let sandbox = Sandbox::new();
    sandbox.write("out", "old");
    let strace = Strace::new().inject("fsync:error=EIO").at(sandbox.root());
    sandbox
        .atomwrite(["out", "--", "printf", "new"])
        .through(strace.command())
        .says("power loss")
        .fails(124);
    assert_eq!(sandbox.text("out"), "new");
    let strace = Strace::new().inject("fsync:error=EIO");
    sandbox
        .atomwrite(["--sync=file", "out", "--", "printf", "newer"])
        .through(strace.command())
        .fails(125);
}

#[test]
fn a_status_for_unchanged_is_ours() {
    let sandbox = Sandbox::new();
    sandbox.write("out", "same\n");
    script(&sandbox, &["-C"], Way::Unnamed, "echo same").leaves_alone(0);
    script(
        &sandbox,
        &["--unchanged-status=7"],
        Way::Unnamed,
        "echo same",
    )
    .leaves_alone(7);
    script(
        &sandbox,
        &["--unchanged-status=7"],
        Way::Unnamed,
        "echo other",
    )
    .succeeds();
    script(
        &sandbox,
        &["--unchanged-status=7"],
        Way::Unnamed,
        "echo other; exit 5",
    )
    .fails(5);
}

// ---- A full disk ------------------------------------------------------------------------------------------------

#[test]
fn a_full_disk_leaves_dest_untouched_whatever_the_command_makes_of_it() {
    needs_mounts!();
    needs_tool!("strace", "head");
    let mount = Mount::tmpfs("size=256k");
    let sandbox = Sandbox::in_dir(mount.path());
    sandbox.write("out", "old");
    for way in WAYS {
        for command in [
            "exec head -c 1M /dev/zero",
            "head -c 1M /dev/zero 2>/dev/null; exit 0",
            // It would write for ever.
            "exec cat /dev/zero",
            // The error that the command gets is ours as well.
            "trap '' PIPE; head -c 1M /dev/zero 2>/dev/null; exit 0",
        ] {
            script(&sandbox, &[], way, command)
                .says("no space left on device")
                .fails(125);
        }
    }
    script(&sandbox, &[], Way::Unnamed, "head -c 100k /dev/zero").succeeds();
    assert_eq!(sandbox.stat("out").len(), 100 << 10);
}

#[test]
fn a_disk_that_is_full_only_while_the_command_writes_is_an_error() {
    needs_mounts!();
    needs_tool!("head", "seq", "mkfs.ext4");
    for mount in [Mount::ext4(16, &[]), Mount::tmpfs("size=16m")] {
        let sandbox = Sandbox::in_dir(mount.path());
        sandbox.write("out", "old");
        // 7 MB of output: more than any pipe holds.
        let command = "head -c 20M /dev/zero >../t 2>/dev/null; seq 1000000; rm ../t; exit 0";
        script(&sandbox, &[], Way::Unnamed, command)
            .says("no space left on device")
            .fails(125);
        // Where the room comes back in time, all of it is there.
        let command = "head -c 20M /dev/zero >../t 2>/dev/null; rm ../t; seq 1000000";
        script(&sandbox, &[], Way::Unnamed, command).succeeds();
        assert!(sandbox.text("out").ends_with("\n999999\n1000000\n"));
        assert_eq!(sandbox.text("out").lines().count(), 1_000_000);
    }
}

#[test]
fn a_full_ext4_leaves_dest_untouched_though_the_command_does_not_look() {
    needs_mounts!();
    needs_tool!("head", "mkfs.ext4");
    let mount = Mount::ext4(16, &[]);
    let sandbox = Sandbox::in_dir(mount.path());
    sandbox.write("out", "old");
    let command = "head -c 64M /dev/zero 2>/dev/null; exit 0";
    script(&sandbox, &[], Way::Unnamed, command)
        .says("no space left on device")
        .fails(125);
}

#[test]
fn a_file_size_limit_of_ours_is_an_error_though_the_command_ignores_it() {
    needs_tool!("strace", "head", "seq");
    let sandbox = Sandbox::new();
    sandbox.write("out", "old");
    for way in WAYS {
        for command in [
            "exec head -c 1M /dev/zero",
            "trap '' XFSZ; seq 100000 2>/dev/null; exit 0",
            "seq 100000 2>/dev/null; exit 0",
        ] {
            script(&sandbox, &[], way, command)
                .file_size_limit(100_000)
                .says("too large")
                .fails(125);
        }
    }
}

#[test]
fn a_file_size_limit_of_the_commands_own_does_not_cut_its_output() {
    needs_tool!("strace", "seq");
    for way in WAYS {
        let sandbox = Sandbox::new();
        sandbox.write("out", "old");
        script(
            &sandbox,
            &[],
            way,
            "ulimit -f 1; trap '' XFSZ; seq 100000; exit 0",
        )
        .succeeds();
        assert_eq!(sandbox.text("out").lines().count(), 100_000);
    }
}

// ---- stdin, stdout, stderr, descriptors -------------------------------------------------------------------------

#[test]
fn the_command_has_our_stdin() {
    needs_tool!("strace", "dd");
    for way in WAYS {
        let sandbox = Sandbox::new();
        script(&sandbox, &[], way, "tr a-z A-Z")
            .stdin("through us")
            .succeeds();
        assert_eq!(sandbox.text("out"), "THROUGH US");
        // And it is left where the command left it.
        sandbox.write("in", "abc");
        let mut input = open(sandbox.path("in"));
        script(&sandbox, &[], way, "dd bs=1 count=1 2>/dev/null")
            .stdin_from(input.try_clone().unwrap())
            .succeeds();
        assert_eq!(sandbox.text("out"), "a");
        let mut rest = String::new();
        std::io::Read::read_to_string(&mut input, &mut rest).unwrap();
        assert_eq!(rest, "bc");
    }
}

#[test]
fn nothing_is_read_that_the_command_does_not_read() {
    let sandbox = Sandbox::new();
    let input = Witness::new();
    script(&sandbox, &["-C"], Way::Unnamed, "echo x")
        .stdin_from(input.input())
        .succeeds();
    input.has_not_been_read();
}

#[test]
fn a_closed_stdin_is_no_error_for_a_command() {
    let sandbox = Sandbox::new();
    for closed in [&[0][..], &[1], &[0, 1], &[0, 1, 2]] {
        script(&sandbox, &[], Way::Unnamed, "echo x; cat")
            .closed(closed)
            .succeeds();
        assert_eq!(sandbox.text("out"), "x\n", "{closed:?}");
    }
}

#[test]
fn the_commands_stderr_is_ours_and_our_stdout_is_nobodys() {
    needs_tool!("strace");
    for way in WAYS {
        let sandbox = Sandbox::new();
        script(&sandbox, &["-v"], way, "echo out; echo to stderr >&2")
            .hears("to stderr")
            .says("created 'out' (4 bytes)")
            .succeeds();
        assert_eq!(sandbox.text("out"), "out\n");
        script(&sandbox, &[], way, "echo why >&2; exit 3")
            .hears("why")
            .fails(3);
        let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
        script(&sandbox, &[], way, "echo new")
            .stdout_to(full)
            .succeeds();
        assert_eq!(sandbox.text("out"), "new\n");
    }
}

#[test]
fn the_command_inherits_no_descriptor_of_ours() {
    needs_tool!("strace", "ls");
    // Whoever runs the tests may hand down some; and what ls opens itself is among them.
    let without_us = tool("ls", ["/proc/self/fd"]);
    assert!(without_us.lines().count() >= 4, "{without_us}");
    for way in WAYS {
        for options in [
            &[][..],
            &["-C"],
            &["-b"],
            &["--lock"],
            &["-a"],
            &["-D"],
            &["--sha256=0000000000000000000000000000000000000000000000000000000000000000"],
        ] {
            let sandbox = Sandbox::new();
            sandbox.write("out", "0\n");
            // On stderr, for the cases that are refused.
            let command = "exec ls /proc/self/fd >&2";
            let done = script(&sandbox, options, way, command).output();
            let seen: Vec<_> = done
                .stderr
                .lines()
                .take_while(|line| line.bytes().all(|byte| byte.is_ascii_digit()))
                .collect();
            let without_us: Vec<_> = without_us.lines().collect();
            assert_eq!(seen, without_us, "{way:?} {options:?} {done:?}");
        }
    }
}

#[test]
fn a_command_that_opens_its_output_again_loses_nothing() {
    // As scripts do that write to /dev/stdout: if it were a file, that would empty it.
    needs_tool!("strace");
    for way in WAYS {
        let sandbox = Sandbox::new();
        let command = "echo one; echo two >/dev/stdout; echo three";
        script(&sandbox, &[], way, command).succeeds();
        assert_eq!(sandbox.text("out"), "one\ntwo\nthree\n", "{way:?}");
        sandbox.write("out", "old\n");
        script(&sandbox, &["-a"], way, command).succeeds();
        assert_eq!(sandbox.text("out"), "old\none\ntwo\nthree\n", "{way:?}");
    }
}

// ---- Signals ----------------------------------------------------------------------------------------------------

/// The signals that are blocked, ignored and caught, as a status of /proc tells it; without the two by which glibc has
/// threads speak to one another, which it ignores in whatever it spawns.
fn signals(status: &str) -> [u64; 3] {
    const CLASSIC: u64 = 0x7fff_ffff;
    ["SigBlk:", "SigIgn:", "SigCgt:"].map(|key| {
        let line = status.lines().find_map(|line| line.strip_prefix(key));
        u64::from_str_radix(line.unwrap().trim(), 16).unwrap() & CLASSIC
    })
}

/// Those of COMMAND, less what whoever runs the tests has handed down.
fn signals_of_command(sandbox: &Sandbox, run: Run<'_>) -> [u64; 3] {
    let done = run.output();
    assert_eq!(done.code(), Some(0), "{done:?}");
    let without_us = signals(&tool("cat", ["/proc/self/status"]));
    let mut signals = signals(&sandbox.text("out"));
    signals[1] &= !without_us[1];
    signals
}

fn bit(signal: Signal) -> u64 {
    1 << (signal.as_raw() - 1)
}

#[test]
fn the_command_starts_with_default_dispositions_and_an_empty_mask() {
    needs_tool!("strace");
    for way in WAYS {
        for options in [&[][..], &["--lock"], &["-a"], &["-b"], &["--sync=none"]] {
            let sandbox = Sandbox::new();
            let words = options.iter().copied();
            let words = words.chain(["out", "--", "cat", "/proc/self/status"]);
            // The limit has us answer SIGXFSZ.
            let run = way.take(sandbox.atomwrite(words)).file_size_limit(1 << 30);
            assert_eq!(
                signals_of_command(&sandbox, run),
                [0, 0, 0],
                "{way:?} {options:?}"
            );
        }
    }
}

#[test]
fn what_was_ignored_at_the_start_stays_ignored_and_what_was_blocked_does_not_stay() {
    needs_tool!("nohup", "env");
    let sandbox = Sandbox::new();
    let run = |prefix: &[&str]| {
        sandbox
            .atomwrite(["out", "--", "cat", "/proc/self/status"])
            .through(prefix.iter().copied())
    };
    let ignored = [0, bit(Signal::HUP), 0];
    assert_eq!(signals_of_command(&sandbox, run(&["nohup"])), ignored);
    let both = ["env", "--ignore-signal=INT", "--ignore-signal=QUIT"];
    let ignored = [0, bit(Signal::INT) | bit(Signal::QUIT), 0];
    assert_eq!(signals_of_command(&sandbox, run(&both)), ignored);
    let blocked = ["env", "--block-signal=TERM", "--block-signal=USR1"];
    assert_eq!(signals_of_command(&sandbox, run(&blocked)), [0, 0, 0]);
}

#[test]
fn a_signal_is_passed_on_and_waited_out_and_died_by() {
    needs_tool!("strace");
    for way in WAYS {
        for (signal, name) in [
            (Signal::TERM, "TERM"),
            (Signal::INT, "INT"),
            (Signal::HUP, "HUP"),
            (Signal::QUIT, "QUIT"),
        ] {
            // Whatever the command says in the end.
            for status in [0, 3] {
                let sandbox = Sandbox::new();
                sandbox.write("out", "old");
                fifo_aside(&sandbox, "go");
                let command = format!(
                    "ulimit -c 0
                    trap 'printf {name} >\"$ASIDE/got\"; read _ <\"$ASIDE/go\"; exit {status}' {name}
                    echo half
                    printf up >\"$ASIDE/up\"
                    while :; do read _ || :; done"
                );
                let running = script(&sandbox, &[], way, &command).stdin_held().start();
                wait_for(&sandbox, "up", "up");
                let program = program_of(&running, way);
                kill_process(program, signal).unwrap();
                // dash goes through a trap when its read has returned.
                wait_for(&sandbox, "got", name);
                let alive = fs::read_to_string(format!("/proc/{}/stat", program.as_raw_pid()));
                assert!(!alive.unwrap().contains(") Z "), "it has not waited");
                assert_eq!(sandbox.text("out"), "old");
                drop(
                    OpenOptions::new()
                        .write(true)
                        .open(sandbox.aside("go"))
                        .unwrap(),
                );
                let done = running.wait();
                assert_eq!(done.signal(), Some(signal.as_raw()), "{way:?} {done:?}");
                assert_eq!(sandbox.text("out"), "old");
                assert_eq!(sandbox.names(), ["out"]);
                assert_eq!(done.stderr, "");
            }
        }
    }
}

#[test]
fn a_command_that_ignores_a_signal_is_waited_for_and_its_content_is_not_taken() {
    needs_tool!("strace");
    for way in WAYS {
        let sandbox = Sandbox::new();
        sandbox.write("out", "old");
        let command = "trap '' TERM; printf up >\"$ASIDE/up\"; read _; echo new; printf done >\"$ASIDE/done\"";
        let mut running = script(&sandbox, &[], way, command).stdin_held().start();
        wait_for(&sandbox, "up", "up");
        kill_process(program_of(&running, way), Signal::TERM).unwrap();
        running.feed("go on\n");
        wait_for(&sandbox, "done", "done");
        let done = running.wait();
        assert_eq!(
            done.signal(),
            Some(Signal::TERM.as_raw()),
            "{way:?} {done:?}"
        );
        assert_eq!(sandbox.text("out"), "old");
        assert_eq!(sandbox.names(), ["out"]);
    }
}

#[test]
fn a_signal_that_kills_the_command_kills_us() {
    needs_tool!("strace");
    for way in WAYS {
        for signal in [Signal::TERM, Signal::INT, Signal::HUP] {
            let sandbox = Sandbox::new();
            sandbox.write("out", "old");
            let command = "echo half; printf up >\"$ASIDE/up\"; exec cat";
            let running = script(&sandbox, &[], way, command).stdin_held().start();
            wait_for(&sandbox, "up", "up");
            kill_process(program_of(&running, way), signal).unwrap();
            // The input is still open: nothing but the signal ends it.
            let done = wait_with_open_stdin(running);
            assert_eq!(done, Some(signal.as_raw()), "{way:?}");
            assert_eq!(sandbox.text("out"), "old");
            assert_eq!(sandbox.names(), ["out"]);
        }
    }
}

/// Waits for the end of a run whose stdin is not closed; gives the signal that it died by.
fn wait_with_open_stdin(running: Running) -> Option<i32> {
    let stat = format!("/proc/{}/stat", running.id());
    wait_until("it has ended", || {
        fs::read_to_string(&stat).is_ok_and(|stat| stat.contains(") Z "))
    });
    running.wait().signal()
}

#[test]
fn an_interrupt_for_the_whole_group_leaves_nothing() {
    needs_tool!("strace");
    for way in WAYS {
        let sandbox = Sandbox::new();
        sandbox.write("out", "old");
        let command = "echo half; printf up >\"$ASIDE/up\"; exec cat";
        let running = script(&sandbox, &[], way, command).stdin_held().start();
        wait_for(&sandbox, "up", "up");
        let group = Pid::from_raw(running.id().try_into().unwrap()).expect("a group");
        kill_process_group(group, Signal::INT).unwrap();
        let done = wait_with_open_stdin(running);
        // strace is one of the group.
        assert_eq!(done, Some(Signal::INT.as_raw()), "{way:?}");
        assert_eq!(sandbox.text("out"), "old");
        wait_until("nothing is left", || sandbox.names() == ["out"]);
    }
}

#[test]
fn an_interrupt_from_the_terminal_reaches_the_command_once() {
    needs_tool!("script");
    let sandbox = Sandbox::new();
    sandbox.write("out", "old");
    fifo_aside(&sandbox, "go");
    let command = "trap 'printf x >>\"$ASIDE/got\"' INT
        printf '%s.' $PPID >\"$ASIDE/up\"
        while test ! -s \"$ASIDE/got\"; do :; done
        read _ <\"$ASIDE/go\"
        echo new";
    let mut child = Command::new("script")
        .args([
            "-qec",
            "exec \"$BIN\" out -- sh -c \"$SCRIPT\"",
            "/dev/null",
        ])
        .env("BIN", binary())
        .env("SCRIPT", command)
        .env("ASIDE", sandbox.aside(""))
        .env("SHELL", "/bin/sh")
        .current_dir(sandbox.root())
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    // One that comes while COMMAND is being started would be passed on: nobody can tell whether it got it.
    wait_until("it waits for COMMAND", || {
        let up = fs::read_to_string(sandbox.aside("up")).unwrap_or_default();
        let stat = up
            .strip_suffix('.')
            .and_then(|process| fs::read_to_string(format!("/proc/{process}/stat")).ok());
        stat.is_some_and(|stat| stat.rsplit(") ").next().unwrap().starts_with('S'))
    });
    child.stdin.as_mut().unwrap().write_all(b"\x03").unwrap();
    wait_for(&sandbox, "got", "x");
    // A second one would have come by now: it is sent while the first is handled.
    let mut go = OpenOptions::new()
        .write(true)
        .open(sandbox.aside("go"))
        .unwrap();
    go.write_all(b"go\n").unwrap();
    drop(go);
    let status = child.wait().unwrap();
    assert_eq!(status.code(), Some(128 + 2), "{status}");
    assert_eq!(fs::read_to_string(sandbox.aside("got")).unwrap(), "x");
    assert_eq!(sandbox.text("out"), "old");
    assert_eq!(sandbox.names(), ["out"]);
}

#[test]
fn a_hangup_is_ignored_by_both_under_nohup() {
    needs_tool!("nohup");
    let sandbox = Sandbox::new();
    let mut running = sandbox
        .atomwrite([
            "out",
            "--",
            "sh",
            "-c",
            "printf up >\"$ASIDE/up\"; exec cat",
        ])
        .env("ASIDE", sandbox.aside(""))
        .through(["nohup"])
        .stdin_held()
        .start();
    wait_for(&sandbox, "up", "up");
    let group = Pid::from_raw(running.id().try_into().unwrap()).expect("a group");
    kill_process_group(group, Signal::HUP).unwrap();
    running.feed("new");
    let done = running.wait();
    assert_eq!(done.code(), Some(0), "{done:?}");
    assert_eq!(sandbox.text("out"), "new");
}

#[test]
fn a_kill_while_the_command_runs_leaves_dest_untouched() {
    let sandbox = Sandbox::new();
    sandbox.write("out", "old");
    let command = "echo half; printf up >\"$ASIDE/up\"; exec cat";
    let running = script(&sandbox, &[], Way::Unnamed, command)
        .stdin_held()
        .start();
    wait_for(&sandbox, "up", "up");
    running.signal(Signal::KILL);
    assert_eq!(running.wait().signal(), Some(Signal::KILL.as_raw()));
    assert_eq!(sandbox.text("out"), "old");
    assert_eq!(sandbox.names(), ["out"]);
}

#[test]
fn a_command_that_stops_and_goes_on_is_waited_for() {
    let sandbox = Sandbox::new();
    let command = "echo one; printf $$ >\"$ASIDE/id\"; kill -STOP $$; echo two";
    let running = script(&sandbox, &[], Way::Unnamed, command).start();
    let id = sandbox.aside("id");
    wait_until("it has stopped", || {
        let id = fs::read_to_string(&id).unwrap_or_default();
        fs::read_to_string(format!("/proc/{id}/stat")).is_ok_and(|stat| stat.contains(") T "))
    });
    kill(&fs::read_to_string(&id).unwrap(), Signal::CONT);
    let done = running.wait();
    assert_eq!(done.code(), Some(0), "{done:?}");
    assert_eq!(sandbox.text("out"), "one\ntwo\n");
}

// ---- Processes that outlive the command -------------------------------------------------------------------------

#[test]
fn a_process_that_keeps_the_output_open_is_an_error_within_a_bounded_time() {
    needs_tool!("strace");
    for way in WAYS {
        for old in [false, true] {
            let sandbox = Sandbox::new();
            if old {
                sandbox.write("out", "old");
            }
            fifo_aside(&sandbox, "go");
            let command = "echo x
                (trap '' PIPE; read _ <\"$ASIDE/go\"; echo late; printf done >\"$ASIDE/done\") 2>/dev/null &
                exit 0";
            let start = Instant::now();
            let done = script(&sandbox, &[], way, command).output();
            assert!(start.elapsed() < BOUND / 4, "{:?}", start.elapsed());
            assert_eq!(done.code(), Some(125), "{way:?} {done:?}");
            let why = "'sh' has ended, but a process that it started still has its output open; let the command wait \
                 for it, or redirect the output of that process";
            assert!(done.stderr.contains(why), "{done:?}");
            assert_eq!(done.stderr.lines().count(), 1, "{done:?}");
            let expected: &[&str] = if old { &["out"] } else { &[] };
            assert_eq!(sandbox.names(), expected);
            // What it writes then reaches no file.
            drop(
                OpenOptions::new()
                    .write(true)
                    .open(sandbox.aside("go"))
                    .unwrap(),
            );
            wait_for(&sandbox, "done", "done");
            assert_eq!(sandbox.names(), expected);
            if old {
                assert_eq!(sandbox.text("out"), "old");
            }
        }
    }
}

#[test]
fn a_process_that_has_let_go_of_the_output_is_not_waited_for() {
    needs_tool!("strace");
    for way in WAYS {
        let sandbox = Sandbox::new();
        fifo_aside(&sandbox, "go");
        let command = "echo x; (read _ <\"$ASIDE/go\") >/dev/null 2>&1 & echo y";
        script(&sandbox, &[], way, command).succeeds();
        assert_eq!(sandbox.text("out"), "x\ny\n");
        drop(
            OpenOptions::new()
                .write(true)
                .open(sandbox.aside("go"))
                .unwrap(),
        );
    }
}

#[test]
fn a_process_that_ends_soon_after_the_command_is_waited_for_and_counts() {
    needs_tool!("strace", "bash");
    for way in WAYS {
        let sandbox = Sandbox::new();
        // It ends when it sees that the shell is gone.
        let command = "echo x; (while test -e /proc/$$/fd/1; do :; done; echo late) & exit 0";
        script(&sandbox, &["-v"], way, command)
            .says("'out' (7 bytes)")
            .succeeds();
        assert_eq!(sandbox.text("out"), "x\nlate\n", "{way:?}");
        for round in 0..5 {
            let command = format!("echo {round} > >(cat)");
            way.take(sandbox.atomwrite(["out", "--", "bash", "-c", &command]))
                .succeeds();
            assert_eq!(sandbox.text("out"), format!("{round}\n"));
        }
    }
}

#[test]
fn what_comes_late_is_judged_too() {
    needs_tool!("strace", "sha256sum");
    let late = "(while test -e /proc/$$/fd/1; do :; done; echo late) & exit 0";
    for way in WAYS {
        let sandbox = Sandbox::new();
        sandbox.write("out", "x\n");
        let sum = |text: &str| {
            let path = sandbox.aside("text");
            fs::write(&path, text).unwrap();
            tool("sha256sum", [path])[..64].to_owned()
        };
        let command = format!("echo x; {late}");
        script(&sandbox, &["--sha256", &sum("x\n")], way, &command)
            .says("SHA-256")
            .fails(125);
        script(&sandbox, &["-C", "-v"], way, &command)
            .says("replaced 'out' (7 bytes)")
            .succeeds();
        script(
            &sandbox,
            &["--sha256", &sum("late\n"), "--no-empty"],
            way,
            late,
        )
        .succeeds();
        assert_eq!(sandbox.text("out"), "late\n");
    }
}

#[test]
fn no_process_can_write_to_dest_after_the_commit() {
    // A background process that has opened the output again, for reading and writing.
    let sandbox = Sandbox::new();
    sandbox.write("out", "old");
    fifo_aside(&sandbox, "go");
    let command = "echo x
        (exec 5<>/proc/self/fd/1 >/dev/null; printf x >\"$ASIDE/opened\"; read _ <\"$ASIDE/go\"; echo late >&5) 2>/dev/null &
        while test ! -s \"$ASIDE/opened\"; do :; done
        exit 0";
    let done = script(&sandbox, &[], Way::Unnamed, command).output();
    assert_eq!(done.code(), Some(125), "{done:?}");
    drop(
        OpenOptions::new()
            .write(true)
            .open(sandbox.aside("go"))
            .unwrap(),
    );
    assert_eq!(sandbox.text("out"), "old");
    assert_eq!(sandbox.names(), ["out"]);
}

// ---- The pipe --------------------------------------------------------------------------------------------------

#[test]
fn the_output_is_always_a_pipe() {
    needs_tool!("strace", "readlink");
    for way in WAYS {
        for options in [
            &[][..],
            &["-a"],
            &["-C"],
            &["--sync=none"],
            &["-q", "--inplace=always"],
        ] {
            let sandbox = Sandbox::new();
            sandbox.write("old", "");
            for dest in ["new", "old"] {
                let command = [dest, "--", "readlink", "/proc/self/fd/1"];
                let run = sandbox.atomwrite(options.iter().copied().chain(command));
                let done = way.take(run).output();
                assert_eq!(done.code(), Some(0), "{done:?}");
                let kind = sandbox.text(dest);
                assert!(kind.starts_with("pipe:"), "{way:?} {options:?} {kind}");
            }
        }
    }
}

#[test]
fn an_output_that_cannot_be_spliced_is_written_whole() {
    needs_tool!("strace", "seq");
    for error in ["EINVAL", "ENOSYS", "EPERM"] {
        let sandbox = Sandbox::new();
        let strace = Strace::new()
            .alone()
            .inject(&format!("splice:error={error}"));
        sandbox
            .atomwrite(["out", "--", "seq", "100000"])
            .through(strace.command())
            .succeeds();
        assert!(sandbox.text("out").ends_with("\n99999\n100000\n"));
        assert_eq!(sandbox.text("out").lines().count(), 100_000);
    }
}

#[test]
fn a_commands_output_is_whole_where_there_is_no_proc() {
    needs_mounts!();
    let sandbox = Sandbox::new();
    sandbox.write("out", "old");
    let _hidden = Cover::proc();
    let run = |script: &str| sandbox.atomwrite(["out", "--", "sh", "-c", script]);
    run("echo half; exit 3").fails(3);
    run("echo x; test -p /dev/fd/1 || test ! -e /proc/self && echo new").succeeds();
    assert_eq!(sandbox.text("out"), "x\nnew\n");
    let done = run("echo x; tail -f /dev/null 2>/dev/null & echo $! >&2").output();
    assert_eq!(done.code(), Some(125), "{done:?}");
    assert_eq!(sandbox.text("out"), "x\nnew\n");
    let left = done.stderr.lines().next().unwrap().to_owned();
    tool("sh", ["-c".to_owned(), format!("kill {left}")]);
}

#[test]
fn a_filesystem_of_any_kind_takes_a_commands_output() {
    needs_mounts!();
    let kinds: [(&str, &dyn Fn() -> Mount); 5] = [
        ("tmpfs", &|| Mount::tmpfs("size=4m")),
        ("ramfs", &Mount::ramfs),
        ("xfs", &Mount::xfs),
        ("btrfs", &Mount::btrfs),
        ("overlay", &|| Mount::overlay(Mount::ext4(16, &[]), |_| {})),
    ];
    for (name, make) in kinds {
        let mount = make();
        let sandbox = Sandbox::in_dir(mount.path());
        script(&sandbox, &[], Way::Unnamed, "echo new").succeeds();
        assert_eq!(sandbox.text("out"), "new\n", "{name}");
        script(&sandbox, &[], Way::Unnamed, "echo half; exit 3").fails(3);
        let done = script(&sandbox, &[], Way::Unnamed, "exec cat >&2 <out").output();
        assert_eq!((done.code(), &*done.stderr), (Some(0), "new\n"), "{name}");
        fifo_aside(&sandbox, "go");
        let command = "echo x; (read _ <\"$ASIDE/go\"; echo late) 2>/dev/null & exit 0";
        let done = script(&sandbox, &[], Way::Unnamed, command).output();
        assert_eq!(done.code(), Some(125), "{name} {done:?}");
        drop(
            OpenOptions::new()
                .write(true)
                .open(sandbox.aside("go"))
                .unwrap(),
        );
        assert_eq!(sandbox.text("out"), "", "{name}");
        assert_eq!(sandbox.names(), ["out"]);
    }
}

// ---- With other options -----------------------------------------------------------------------------------------

#[test]
fn append_puts_the_output_behind_the_old_content() {
    needs_tool!("strace");
    for way in WAYS {
        let sandbox = Sandbox::new();
        script(&sandbox, &["-a"], way, "echo one").succeeds();
        script(&sandbox, &["-a"], way, "echo two").succeeds();
        script(&sandbox, &["-a"], way, "echo three; exit 1").fails(1);
        assert_eq!(sandbox.text("out"), "one\ntwo\n", "{way:?}");
        script(&sandbox, &["-a"], way, ":").succeeds();
        assert_eq!(sandbox.text("out"), "one\ntwo\n");
        script(&sandbox, &["-a", "--no-empty"], way, ":").succeeds();
    }
}

#[test]
fn a_command_may_be_atomwrite_itself() {
    let sandbox = Sandbox::new();
    sandbox.write("in", "new");
    let program = binary().to_str().unwrap();
    sandbox
        .atomwrite(["out", "--", program, "in", "copy"])
        .leaves(["copy", "in", "out"])
        .succeeds();
    assert_eq!((&*sandbox.text("copy"), &*sandbox.text("out")), ("new", ""));
    sandbox
        .atomwrite(["-v", "out", "--", program, "--version"])
        .says("replaced")
        .succeeds();
    assert!(sandbox.text("out").starts_with("atomwrite "));
}

#[test]
fn no_hint_is_given_when_stdin_is_a_terminal() {
    needs_tool!("script");
    let sandbox = Sandbox::new();
    let said = Command::new("script")
        .args(["-qec", "exec \"$BIN\" out -- echo new", "/dev/null"])
        .env("BIN", binary())
        .env("SHELL", "/bin/sh")
        .current_dir(sandbox.root())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(said.status.success(), "{said:?}");
    assert_eq!(String::from_utf8_lossy(&said.stdout), "");
    assert_eq!(sandbox.text("out"), "new\n");
}

#[test]
fn a_command_of_any_bytes_is_named_in_the_message() {
    let sandbox = Sandbox::new();
    let name = OsStr::from_bytes(b"./a\n\xff");
    let done = sandbox
        .atomwrite([OsStr::new("out"), OsStr::new("--"), name])
        .fails(127);
    assert!(done.stderr.contains(r"'./a\n\xff'"), "{done:?}");
    assert!(!Path::new(&sandbox.path("out")).exists());
}
