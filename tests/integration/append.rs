//! `--append` and `--lock`.
//!
//! What the contract says: with `-a` the new content is what DEST holds now followed by the input, and two `atomwrite -a`
//! at once lose nothing of either. `--lock` takes an exclusive lock on DEST before COMMAND starts, or before the input is
//! read, and holds it until the commit, so that commands that read, change and write run one after the other and none is
//! lost. It waits, and it works for a DEST that does not exist yet.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::process::Command;

use rustix::fs::{FlockOperation, flock};
use rustix::process::Signal;

use crate::mounts::{Mount, needs_mounts};
use crate::sandbox::{
    NOBODY, Running, Sandbox, Witness, needs_root, needs_tool, open, tool, wait_until,
};
use crate::strace::{Call, Strace};

// ---- What the content is --------------------------------------------------------------------------------------

#[test]
fn puts_the_input_behind_what_is_there() {
    let sandbox = Sandbox::new();
    sandbox.write("out", "old\n");
    sandbox.write("src", "from a file\n");
    sandbox
        .atomwrite(["-a", "out"])
        .stdin("from a pipe\n")
        .succeeds();
    sandbox
        .atomwrite(["--append", "-v", "src", "out"])
        .says("replaced 'out' (28 bytes)")
        .succeeds();
    sandbox
        .atomwrite(["-a", "out", "--", "echo", "from a command"])
        .succeeds();
    assert_eq!(
        sandbox.text("out"),
        "old\nfrom a pipe\nfrom a file\nfrom a command\n"
    );
}

#[test]
fn makes_a_new_file_of_the_input_alone() {
    let sandbox = Sandbox::new();
    sandbox.write_with_mode("src", "new\n", 0o700);
    sandbox.atomwrite(["-a", "one"]).stdin("new\n").succeeds();
    sandbox.atomwrite(["-a", "src", "two"]).succeeds();
    sandbox
        .atomwrite(["-a", "three", "--", "echo", "new"])
        .succeeds();
    for (name, mode) in [("one", 0o644), ("two", 0o700), ("three", 0o644)] {
        assert_eq!(sandbox.text(name), "new\n", "{name}");
        assert_eq!(sandbox.mode(name), mode, "{name}");
    }
    sandbox
        .atomwrite(["-a", "-D", "far/off/four"])
        .stdin("new\n")
        .leaves([
            "one",
            "two",
            "three",
            "src",
            "far",
            "far/off",
            "far/off/four",
        ])
        .succeeds();
}

#[test]
fn directories_that_the_lock_is_in_are_made_at_once_and_stay() {
    for option in ["-a", "--lock"] {
        let sandbox = Sandbox::new();
        let run = sandbox.atomwrite([option, "-D", "far/off/five", "--", "false"]);
        assert_eq!(run.output().code(), Some(1), "{option}");
        assert_eq!(sandbox.names(), ["far", "far/off"], "{option}");
    }
}

#[test]
fn empty_input_is_no_danger_to_what_is_there() {
    let sandbox = Sandbox::new();
    sandbox.write("out", "old\n");
    sandbox.atomwrite(["-a", "out"]).stdin("").succeeds();
    sandbox
        .atomwrite(["-a", "--no-empty", "out"])
        .stdin("")
        .succeeds();
    sandbox.atomwrite(["-a", "/dev/null", "out"]).succeeds();
    sandbox.atomwrite(["-a", "out", "--", "true"]).succeeds();
    assert_eq!(sandbox.text("out"), "old\n");
    let before = sandbox.inode("out");
    sandbox
        .atomwrite(["-a", "-C", "out"])
        .stdin("")
        .leaves_alone(0);
    assert_eq!(sandbox.inode("out"), before);
    sandbox.atomwrite(["-a", "new"]).stdin("").succeeds();
    assert_eq!(sandbox.text("new"), "");
    sandbox
        .atomwrite(["-a", "--no-empty", "newer"])
        .stdin("")
        .says("--no-empty")
        .fails(3);
}

#[test]
fn keeps_every_byte_at_every_size() {
    let sandbox = Sandbox::new();
    let sizes = [0, 1, 4095, 4096, 4097, 524_288, 1_048_577];
    for old in sizes {
        for new in sizes {
            let (old, new) = (vec![b'o'; old], vec![b'n'; new]);
            let both = [&old[..], &new[..]].concat();
            sandbox.write("out", &old);
            sandbox.write("src", &new);
            sandbox
                .atomwrite(["-a", "--sync=none", "out"])
                .stdin(new.clone())
                .succeeds();
            assert!(sandbox.read("out") == both, "{} {}", old.len(), new.len());
            sandbox.write("out", &old);
            sandbox
                .atomwrite(["-a", "--sync=none", "src", "out"])
                .succeeds();
            assert!(sandbox.read("out") == both, "{} {}", old.len(), new.len());
        }
    }
    sandbox.write("out", vec![b'o'; 100_000]);
    sandbox
        .atomwrite(["-a", "out", "--", "head", "-c", "200000", "/dev/zero"])
        .succeeds();
    let both = [vec![b'o'; 100_000], vec![0; 200_000]].concat();
    assert!(sandbox.read("out") == both);
}

#[test]
fn appends_a_file_to_itself() {
    let sandbox = Sandbox::new();
    for size in [10, 10_000] {
        let old: Vec<u8> = (0_u8..=255).cycle().take(size).collect();
        sandbox.write("out", &old);
        sandbox.atomwrite(["-a", "out", "out"]).succeeds();
        assert!(sandbox.read("out") == [&old[..], &old[..]].concat());
    }
}

#[test]
fn leaves_the_file_alone_when_the_input_breaks_off() {
    let sandbox = Sandbox::new();
    for out in ["old", "new"] {
        if out == "old" {
            sandbox.write(out, "old\n");
        }
        sandbox
            .atomwrite(["-a", out, "--", "sh", "-c", "echo half; exit 7"])
            .says("exited with status 7")
            .fails(7);
        sandbox
            .atomwrite(["-a", "nothing", out])
            .says("'nothing'")
            .fails(1);
    }
    sandbox
        .atomwrite(["-a", "-n", "old"])
        .stdin("new")
        .says("--no-clobber")
        .fails(3);
    sandbox.atomwrite(["-a", "-n", "new"]).stdin("1").succeeds();
    assert_eq!(sandbox.text("new"), "1");
}

#[test]
fn appends_through_a_link_and_keeps_the_looks() {
    let sandbox = Sandbox::new();
    sandbox.mkdir("far");
    sandbox.write_with_mode("far/out", "old\n", 0o604);
    sandbox.symlink("far/out", "link");
    sandbox
        .atomwrite(["-a", "link"])
        .stdin("new\n")
        .leaves(["far", "far/out", "link"])
        .succeeds();
    assert_eq!(sandbox.text("far/out"), "old\nnew\n");
    assert_eq!(sandbox.mode("far/out"), 0o604);
}

#[test]
fn an_unreadable_file_is_refused_before_any_input_is_read() {
    needs_root!();
    let sandbox = Sandbox::new();
    sandbox.give_to(NOBODY, NOBODY);
    sandbox.write_with_mode("out", "old", 0o200);
    sandbox.chown("out", NOBODY, NOBODY);
    for options in [&["-a"][..], &["-a", "-f"]] {
        let witness = Witness::new();
        sandbox
            .atomwrite(options.iter().copied().chain(["out"]))
            .stdin_from(witness.input())
            .user(NOBODY, NOBODY, &[])
            .says("cannot append to 'out'")
            .fails(1);
        witness.has_not_been_read();
    }
    // To lock it, it need not be read.
    sandbox
        .atomwrite(["--lock", "out"])
        .stdin("new")
        .user(NOBODY, NOBODY, &[])
        .succeeds();
    assert_eq!(sandbox.text("out"), "new");
}

// ---- How it comes there ---------------------------------------------------------------------------------------

/// Makes a file of 4 MiB with data at its start and its end only.
fn spread(path: &Path) {
    let file = File::create(path).unwrap();
    file.write_all_at(&vec![b'a'; 100_000], 0).unwrap();
    file.set_len(4 << 20).unwrap();
    file.write_all_at(b"end", (4 << 20) - 3).unwrap();
    // Only then does every filesystem tell of the holes.
    file.sync_all().unwrap();
}

#[test]
fn the_kernel_copies_what_is_there() {
    needs_tool!("strace");
    let sandbox = Sandbox::new();
    copies_without_reading(&sandbox, "copy_file_range");
}

#[test]
fn btrfs_and_xfs_share_what_is_there() {
    needs_mounts!();
    needs_tool!("strace", "mkfs.btrfs", "mkfs.xfs");
    for mount in [Mount::btrfs(), Mount::xfs()] {
        copies_without_reading(&Sandbox::in_dir(mount.path()), "ioctl");
    }
}

#[track_caller]
fn copies_without_reading(sandbox: &Sandbox, by: &str) {
    spread(&sandbox.path("out"));
    let expected = [&sandbox.read("out")[..], b"new"].concat();
    let strace = Strace::new();
    sandbox
        .atomwrite(["-a", "out"])
        .stdin("new")
        .through(strace.command())
        .succeeds();
    assert!(sandbox.read("out") == expected);
    let blocks = sandbox.stat("out").blocks();
    assert!(blocks < 1024, "the hole has become {blocks} blocks");
    let trace = strace.trace();
    let reads = trace.count(|call| {
        matches!(call.name.as_str(), "read" | "pread64")
            && call.args.contains("/out>")
            && call.result != "0"
    });
    assert_eq!(reads, 0, "reads of the old content in {trace}");
    let copied = trace.count(|call| call.is(by) && call.succeeded());
    assert!(copied > 0, "no {by} in {trace}");
}

// ---- Many at once ---------------------------------------------------------------------------------------------

#[test]
fn forty_appenders_at_once_lose_nothing() {
    for existing in [true, false] {
        let sandbox = Sandbox::new();
        if existing {
            sandbox.write("out", "old\n");
        }
        sandbox.write("src", "from a file\n");
        let mut expected: Vec<String> = (0..40).map(|writer| format!("line {writer}")).collect();
        let running: Vec<_> = expected
            .iter()
            .enumerate()
            .map(|(writer, line)| {
                let line = format!("{line}\n");
                match writer % 4 {
                    0 => sandbox
                        .atomwrite(["-a", "out", "--", "printf", &line])
                        .start(),
                    1 => sandbox
                        .atomwrite(["-a", "--sync=none", "out"])
                        .stdin(line)
                        .start(),
                    _ => sandbox.atomwrite(["-a", "out"]).stdin(line).start(),
                }
            })
            .collect();
        for one in running {
            let done = one.wait();
            assert_eq!(done.code(), Some(0), "{done:?}");
            assert_eq!(done.stderr, "");
        }
        let text = sandbox.text("out");
        let mut lines: Vec<_> = text.lines().map(str::to_owned).collect();
        if existing {
            assert_eq!(lines[0], "old");
            lines.remove(0);
        }
        lines.sort();
        expected.sort();
        assert_eq!(lines, expected);
        assert_eq!(sandbox.names(), ["out", "src"]);
    }
}

#[test]
fn twenty_five_counters_end_at_twenty_five() {
    for existing in [true, false] {
        let sandbox = Sandbox::new();
        if existing {
            sandbox.write("n", "0\n");
        }
        let count = "n=$(cat n 2>/dev/null); echo $((n + 1))";
        let running: Vec<_> = (0..25)
            .map(|_| {
                sandbox
                    .atomwrite(["--lock", "n", "--", "sh", "-c", count])
                    .start()
            })
            .collect();
        for one in running {
            let done = one.wait();
            assert_eq!(done.code(), Some(0), "{done:?}");
        }
        assert_eq!(sandbox.text("n"), "25\n", "existing: {existing}");
        assert_eq!(sandbox.names(), ["n"]);
    }
}

#[test]
fn appenders_in_two_directories_by_two_ways_lose_nothing() {
    // The lock is of the file that the path leads to, not of the path.
    let sandbox = Sandbox::new();
    sandbox.mkdir("far");
    sandbox.symlink("far/out", "link");
    let running: Vec<_> = (0..20)
        .map(|writer| {
            let way = ["link", "far/out", "far/../far/out"][writer % 3];
            sandbox
                .atomwrite(["-a", "--sync=none", way])
                .stdin(format!("{writer}\n"))
                .start()
        })
        .collect();
    for one in running {
        assert_eq!(one.wait().code(), Some(0));
    }
    let text = sandbox.text("far/out");
    assert_eq!(text.lines().collect::<BTreeSet<_>>().len(), 20, "{text}");
    assert_eq!(sandbox.names(), ["far", "far/out", "link"]);
}

#[test]
fn two_users_lose_nothing_of_each_other() {
    needs_root!();
    for existing in [true, false] {
        let sandbox = Sandbox::new();
        sandbox.chmod("", 0o777);
        if existing {
            sandbox.write_with_mode("out", "", 0o666);
        }
        let running: Vec<_> = (0..20)
            .map(|writer| {
                let user = [NOBODY, 1234][writer % 2];
                sandbox
                    .atomwrite(["-q", "-a", "--sync=none", "-m", "666", "out"])
                    .stdin(format!("{writer}\n"))
                    .user(user, user, &[])
                    .start()
            })
            .collect();
        for one in running {
            let done = one.wait();
            assert_eq!(done.code(), Some(0), "{done:?}");
        }
        let text = sandbox.text("out");
        assert_eq!(text.lines().collect::<BTreeSet<_>>().len(), 20, "{text}");
        assert_eq!(sandbox.names(), ["out"]);
    }
}

// ---- The lock -------------------------------------------------------------------------------------------------

/// Waits until a program waits for a lock.
fn wait_until_it_waits(running: &Running) {
    let id = running.id().to_string();
    wait_until("it waits for the lock", || {
        let locks = fs::read_to_string("/proc/locks").unwrap();
        locks
            .lines()
            .any(|line| line.contains("-> FLOCK") && line.split_whitespace().any(|word| word == id))
    });
}

/// Starts a run that holds the lock, and waits for input.
fn start_holder(sandbox: &Sandbox, option: &str) -> Running {
    let mut holder = sandbox.atomwrite([option, "out"]).stdin_held().start();
    holder.feed("held\n");
    holder
}

#[test]
fn a_waiter_works_on_what_the_holder_has_made() {
    for existing in [true, false] {
        let sandbox = Sandbox::new();
        if existing {
            sandbox.write("out", "old\n");
        }
        let first = start_holder(&sandbox, "-a");
        // The second waits for a file that is dead when it gets it; the third for that, or for the one after it.
        let second = sandbox.atomwrite(["-a", "out"]).stdin("second\n").start();
        wait_until_it_waits(&second);
        let third = sandbox
            .atomwrite(["--lock", "out", "--", "tac", "out"])
            .start();
        wait_until_it_waits(&third);
        for one in [first, second, third] {
            let done = one.wait();
            assert_eq!(done.code(), Some(0), "{done:?}");
        }
        let mut lines: Vec<_> = sandbox.text("out").lines().map(str::to_owned).collect();
        assert!(lines.iter().any(|line| line == "second"), "{lines:?}");
        assert!(lines.iter().any(|line| line == "held"), "{lines:?}");
        lines.retain(|line| line != "second" && line != "held");
        assert_eq!(lines, if existing { &["old"][..] } else { &[] });
        assert_eq!(sandbox.names(), ["out"]);
    }
}

#[test]
fn a_waiter_takes_what_a_writer_without_a_lock_has_made() {
    for existing in [true, false] {
        let sandbox = Sandbox::new();
        if existing {
            sandbox.write("out", "old\n");
        }
        let holder = start_holder(&sandbox, "--lock");
        let waiter = sandbox.atomwrite(["-a", "out"]).stdin("waiter\n").start();
        wait_until_it_waits(&waiter);
        fs::write(sandbox.path("out.new"), "stranger\n").unwrap();
        fs::rename(sandbox.path("out.new"), sandbox.path("out")).unwrap();
        holder.signal(Signal::TERM);
        assert_eq!(holder.wait().signal(), Some(libc::SIGTERM));
        assert_eq!(waiter.wait().code(), Some(0));
        assert_eq!(sandbox.text("out"), "stranger\nwaiter\n");
        assert_eq!(sandbox.names(), ["out"]);
    }
}

#[test]
fn a_waiter_takes_the_removal_of_the_file_as_a_new_start() {
    let sandbox = Sandbox::new();
    sandbox.write("out", "old\n");
    let lock = open(sandbox.path("out"));
    flock(&lock, FlockOperation::LockExclusive).unwrap();
    let waiter = sandbox.atomwrite(["-a", "out"]).stdin("new\n").start();
    wait_until_it_waits(&waiter);
    fs::remove_file(sandbox.path("out")).unwrap();
    drop(lock);
    assert_eq!(waiter.wait().code(), Some(0));
    assert_eq!(sandbox.text("out"), "new\n");
    assert_eq!(sandbox.names(), ["out"]);
}

#[test]
fn waits_for_flock_before_it_reads_or_runs_anything() {
    let sandbox = Sandbox::new();
    sandbox.write("out", "old\n");
    for kind in [FlockOperation::LockExclusive, FlockOperation::LockShared] {
        let lock = open(sandbox.path("out"));
        flock(&lock, kind).unwrap();
        let witness = Witness::new();
        let reader = sandbox
            .atomwrite(["--lock", "out"])
            .stdin_from(witness.input())
            .start();
        wait_until_it_waits(&reader);
        witness.has_not_been_read();
        let runner = sandbox
            .atomwrite([
                "--lock",
                "out",
                "--",
                "sh",
                "-c",
                "echo >started; cat started",
            ])
            .start();
        wait_until_it_waits(&runner);
        assert_eq!(sandbox.names(), ["out"]);
        flock(&lock, FlockOperation::Unlock).unwrap();
        assert_eq!(reader.wait().code(), Some(0));
        assert_eq!(runner.wait().code(), Some(0));
        assert_eq!(sandbox.names(), ["out", "started"]);
        fs::remove_file(sandbox.path("started")).unwrap();
    }
}

#[test]
fn holds_against_flock_until_the_commit() {
    needs_tool!("flock");
    let sandbox = Sandbox::new();
    sandbox.write("out", "old\n");
    let holder = start_holder(&sandbox, "--lock");
    let is_free = || {
        Command::new("flock")
            .args(["-n".as_ref(), sandbox.path("out").as_os_str()])
            .arg("true")
            .status()
            .unwrap()
            .success()
    };
    assert!(!is_free());
    assert_eq!(holder.wait().code(), Some(0));
    assert!(is_free());
    // COMMAND is within the lock, and does not inherit it: what it leaves behind in the background must not hold it.
    sandbox
        .atomwrite([
            "--lock",
            "out",
            "--",
            "sh",
            "-c",
            "flock -n out true && echo free || echo held; sleep 60 >/dev/null 2>&1 & echo $! >pid",
        ])
        .leaves(["out", "pid"])
        .succeeds();
    assert_eq!(sandbox.text("out"), "held\n");
    let is_free = is_free();
    tool("kill", [sandbox.text("pid").trim()]);
    assert!(is_free);
}

#[test]
fn without_lock_nobody_waits() {
    let sandbox = Sandbox::new();
    sandbox.write("out", "old\n");
    let holder = start_holder(&sandbox, "--lock");
    sandbox.atomwrite(["out"]).stdin("quick\n").succeeds();
    assert_eq!(sandbox.text("out"), "quick\n");
    assert_eq!(holder.wait().code(), Some(0));
    assert_eq!(sandbox.text("out"), "held\n");
}

#[test]
fn locks_of_one_directory_do_not_wait_for_each_other() {
    let sandbox = Sandbox::new();
    let command = "echo inner | \"$1\" -a b && echo outer";
    let program = crate::sandbox::binary().to_str().unwrap();
    sandbox
        .atomwrite(["--lock", "a", "--", "sh", "-c", command, "sh", program])
        .leaves(["a", "b"])
        .succeeds();
    assert_eq!(sandbox.text("a"), "outer\n");
    assert_eq!(sandbox.text("b"), "inner\n");
}

#[test]
fn works_where_the_filesystem_has_no_locks_to_give() {
    needs_tool!("strace");
    // The write is done or refused with a word; it never waits for ever, and never does half.
    for errno in ["ENOLCK", "EOPNOTSUPP", "ENOSYS", "EBADF"] {
        for existing in [true, false] {
            let sandbox = Sandbox::new();
            if existing {
                sandbox.write("out", "old\n");
            }
            let before = sandbox.names();
            let strace = Strace::new().inject(&format!("flock:error={errno}"));
            let done = sandbox
                .atomwrite(["-a", "out"])
                .stdin("new\n")
                .through(strace.command())
                .output();
            match done.code() {
                Some(0) => assert!(sandbox.text("out").ends_with("new\n")),
                Some(1) => {
                    assert!(done.stderr.contains("cannot lock 'out'"), "{done:?}");
                    assert_eq!(sandbox.names(), before);
                }
                _ => panic!("{errno} {existing}: {done:?}"),
            }
        }
    }
}

#[test]
fn the_named_fallback_appends_too() {
    needs_tool!("strace");
    for existing in [true, false] {
        let sandbox = Sandbox::new();
        if existing {
            sandbox.write("out", "old\n");
        }
        let runs: Vec<_> = (0..6)
            .map(|writer| {
                sandbox
                    .atomwrite(["-a", "out"])
                    .stdin(format!("{writer}\n"))
                    .without_linkat()
                    .start()
            })
            .collect();
        for one in runs {
            let done = one.wait();
            assert_eq!(done.code(), Some(0), "{done:?}");
        }
        let lines = sandbox.text("out").lines().count();
        assert_eq!(lines, 6 + usize::from(existing));
        assert_eq!(sandbox.names(), ["out"]);
    }
}

// ---- Death ----------------------------------------------------------------------------------------------------

#[test]
fn a_signal_to_a_waiter_leaves_nothing_of_it() {
    for existing in [true, false] {
        for signal in [Signal::TERM, Signal::INT, Signal::HUP] {
            let sandbox = Sandbox::new();
            if existing {
                sandbox.write("out", "old\n");
            }
            let holder = start_holder(&sandbox, "-a");
            let names = sandbox.names();
            let waiter = sandbox.atomwrite(["-a", "out"]).stdin("waiter\n").start();
            wait_until_it_waits(&waiter);
            waiter.signal(signal);
            let done = waiter.wait();
            assert_eq!(done.signal(), Some(signal.as_raw()), "{done:?}");
            assert_eq!(sandbox.names(), names);
            assert_eq!(holder.wait().code(), Some(0));
            let old = if existing { "old\n" } else { "" };
            assert_eq!(sandbox.text("out"), format!("{old}held\n"));
            assert_eq!(sandbox.names(), ["out"]);
        }
    }
}

#[test]
fn a_signal_to_a_holder_leaves_nothing_and_lets_the_next_one_go_on() {
    for existing in [true, false] {
        for signal in [Signal::TERM, Signal::INT, Signal::HUP, Signal::KILL] {
            let sandbox = Sandbox::new();
            if existing {
                sandbox.write("out", "old\n");
            }
            let before = sandbox.names();
            let holder = start_holder(&sandbox, "-a");
            holder.signal(signal);
            assert_eq!(holder.wait().signal(), Some(signal.as_raw()));
            if signal == Signal::KILL {
                let left = sandbox.names().len() - before.len();
                assert_eq!(left, usize::from(!existing));
            } else {
                assert_eq!(sandbox.names(), before);
            }
            sandbox
                .atomwrite(["-a", "out"])
                .stdin("next\n")
                .leaves(["out"])
                .succeeds();
            let old = if existing { "old\n" } else { "" };
            assert_eq!(sandbox.text("out"), format!("{old}next\n"));
        }
    }
}

#[test]
fn waiters_go_on_when_the_holder_is_killed() {
    for existing in [true, false] {
        let sandbox = Sandbox::new();
        if existing {
            sandbox.write("out", "old\n");
        }
        let holder = start_holder(&sandbox, "-a");
        let waiters: Vec<_> = (0..5)
            .map(|waiter| {
                sandbox
                    .atomwrite(["-a", "out"])
                    .stdin(format!("{waiter}\n"))
                    .start()
            })
            .collect();
        waiters.iter().for_each(wait_until_it_waits);
        holder.signal(Signal::KILL);
        assert_eq!(holder.wait().signal(), Some(libc::SIGKILL));
        for waiter in waiters {
            let done = waiter.wait();
            assert_eq!(done.code(), Some(0), "{done:?}");
        }
        let lines = sandbox.text("out").lines().count();
        assert_eq!(lines, 5 + usize::from(existing));
        assert_eq!(sandbox.names(), ["out"]);
    }
}

#[test]
fn a_lock_that_was_left_is_removed_by_a_write_without_a_lock_too() {
    for option in ["--sync=full", "-n"] {
        let sandbox = Sandbox::new();
        let holder = start_holder(&sandbox, "--lock");
        holder.signal(Signal::KILL);
        drop(holder.wait());
        assert_eq!(sandbox.names().len(), 1);
        sandbox
            .atomwrite([option, "out"])
            .stdin("next\n")
            .leaves(["out"])
            .succeeds();
    }
}

/// The name of the lock of a DEST `out` that does not exist.
fn lock_name(sandbox: &Sandbox) -> std::ffi::OsString {
    let holder = start_holder(sandbox, "--lock");
    let name = sandbox.names().remove(0);
    holder.signal(Signal::TERM);
    drop(holder.wait());
    name
}

#[test]
fn another_users_lock_that_was_left_does_not_stop_anybody() {
    needs_root!();
    for mode in [0o777, 0o1777] {
        let sandbox = Sandbox::new();
        sandbox.chmod("", mode);
        let mut holder = sandbox
            .atomwrite(["--lock", "out"])
            .stdin_held()
            .user(NOBODY, NOBODY, &[])
            .start();
        holder.feed("held\n");
        let waiter = sandbox
            .atomwrite(["-a", "out"])
            .stdin("new\n")
            .user(1234, 1234, &[])
            .start();
        wait_until_it_waits(&waiter);
        holder.signal(Signal::KILL);
        drop(holder.wait());
        let done = waiter.wait();
        assert_eq!(done.code(), Some(0), "{mode:o}: {done:?}");
        assert_eq!(sandbox.text("out"), "new\n");
        fs::remove_file(sandbox.path("out")).unwrap();
        // What cannot be removed (the sticky bit) is removed by him whose it is.
        sandbox
            .atomwrite(["-a", "out"])
            .stdin("new\n")
            .user(NOBODY, NOBODY, &[])
            .leaves(["out"])
            .succeeds();
    }
}

#[test]
fn what_is_not_ours_is_not_touched_under_the_locks_name() {
    needs_root!();
    let sandbox = Sandbox::new();
    sandbox.write("victim", "theirs");
    let name = {
        let other = Sandbox::new();
        lock_name(&other)
    };
    let planted: [(&str, &dyn Fn()); 5] = [
        ("a FIFO", &|| drop(sandbox.fifo(&name))),
        ("a directory", &|| {
            sandbox.mkdir(&name);
            sandbox.chown(&name, NOBODY, NOBODY);
        }),
        ("a link", &|| drop(sandbox.symlink("victim", &name))),
        ("a dangling link", &|| drop(sandbox.symlink("no", &name))),
        ("a stranger's file", &|| {
            sandbox.write(&name, "theirs");
            sandbox.chown(&name, NOBODY, NOBODY);
        }),
    ];
    for (what, plant) in planted {
        plant();
        let before = sandbox.stat(&name);
        let done = sandbox.atomwrite(["-a", "out"]).stdin(what).output();
        // It may go on without, or say that it cannot lock.
        match done.code() {
            Some(0) => {
                assert_eq!(sandbox.text("out"), what);
                fs::remove_file(sandbox.path("out")).unwrap();
            }
            Some(1) => assert!(done.stderr.contains("cannot lock 'out'"), "{done:?}"),
            _ => panic!("{what}: {done:?}"),
        }
        let id = |stat: &fs::Metadata| (stat.ino(), stat.mode(), stat.uid(), stat.ctime_nsec());
        assert!(
            fs::symlink_metadata(sandbox.path(&name)).is_ok(),
            "{what} was removed"
        );
        assert_eq!(id(&before), id(&sandbox.stat(&name)), "{what} was touched");
        assert_eq!(sandbox.text("victim"), "theirs");
        let path = sandbox.path(&name);
        fs::remove_file(&path)
            .or_else(|_| fs::remove_dir(&path))
            .unwrap();
    }
}

#[test]
fn the_lock_is_taken_before_the_content_is_looked_at() {
    needs_tool!("strace");
    let sandbox = Sandbox::new();
    sandbox.write("out", "old\n");
    let strace = Strace::new();
    sandbox
        .atomwrite(["-a", "out"])
        .stdin("new\n")
        .through(strace.command())
        .succeeds();
    let trace = strace.trace();
    let locks = trace.places(|call| call.is("flock") && call.args.contains("/out>"));
    let reads = trace.places(|call: &Call| call.is("read") && call.args.contains("/out>"));
    assert!(locks[0] < reads[0], "{trace}");
    // The new file is locked before it has DEST's name, so that there is no moment without a lock.
    let locks = trace.places(|call| call.is("flock") && call.on_draft());
    let rename = trace.only("rename", Call::renames);
    assert!(locks[0] < rename, "{trace}");
}
