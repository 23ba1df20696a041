//! The signals that COMMAND gets, and the processes that outlive it, which can neither hang us nor
//! change DEST afterwards.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Instant;

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use crate::harness::{
    BOUND, Run, Running, Sandbox, WAYS, Way, binary, kill, needs_tool, tool, wait_until,
};
use crate::input::command::{fifo_aside, let_go, program_of, script, wait_for};

// ---- Signals ----

/// The signals that are blocked, ignored and caught, as a status of /proc tells it; without the two
/// by which glibc has threads speak to one another, which it ignores in whatever it spawns.
fn signals(status: &str) -> [u64; 3] {
    const CLASSIC: u64 = 0x7fff_ffff;
    ["SigBlk:", "SigIgn:", "SigCgt:"].map(|key| {
        let line = status.lines().find_map(|line| line.strip_prefix(key));
        u64::from_str_radix(line.unwrap().trim(), 16).unwrap() & CLASSIC
    })
}

/// The signal masks of COMMAND, without those that the tests themselves inherited.
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
        for options in ["", "--lock", "-a", "-b", "--sync=none"] {
            let sandbox = Sandbox::new();
            let run = sandbox.run(&format!("{options} out -- cat /proc/self/status"));
            // With the limit, atomwrite handles SIGXFSZ.
            let run = way.take(run).file_size_limit(1 << 30);
            assert_eq!(
                signals_of_command(&sandbox, run),
                [0, 0, 0],
                "{way:?} {options:?}"
            );
        }
    }
}

#[test]
fn ignored_signals_stay_ignored_and_blocked_signals_are_unblocked() {
    needs_tool!("nohup", "env");
    let sandbox = Sandbox::new();
    let run = |prefix: &[&str]| {
        sandbox
            .run("out -- cat /proc/self/status")
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
fn a_signal_is_forwarded_to_the_command_and_then_ends_the_run() {
    needs_tool!("strace");
    for way in WAYS {
        for (signal, name) in [
            (Signal::TERM, "TERM"),
            (Signal::INT, "INT"),
            (Signal::HUP, "HUP"),
            (Signal::QUIT, "QUIT"),
        ] {
            // Whatever the command's status is.
            for status in [0, 3] {
                let sandbox = Sandbox::with("out", "old");
                fifo_aside(&sandbox, "go");
                let command = format!(
                    "ulimit -c 0
                    trap 'printf {name} >\"$ASIDE/got\"; read _ <\"$ASIDE/go\"; exit {status}' {name}
                    echo half
                    printf up >\"$ASIDE/up\"
                    while :; do read _ || :; done"
                );
                let running = script(&sandbox, "", way, &command).stdin_held().start();
                wait_for(&sandbox, "up", "up");
                let program = program_of(&running, way);
                kill_process(program, signal).unwrap();
                // dash goes through a trap when its read has returned.
                wait_for(&sandbox, "got", name);
                let alive = fs::read_to_string(format!("/proc/{}/stat", program.as_raw_pid()));
                assert!(!alive.unwrap().contains(") Z "), "it has not waited");
                assert_eq!(sandbox.text("out"), "old");
                let_go(&sandbox);
                let done = running.wait();
                assert_eq!(done.signal(), Some(signal.as_raw()), "{way:?} {done:?}");
                assert_eq!(sandbox.listing(), "out=old");
                assert_eq!(done.stderr, "");
            }
        }
    }
}

#[test]
fn a_command_that_ignores_a_signal_is_waited_for_and_its_output_discarded() {
    needs_tool!("strace");
    for way in WAYS {
        let sandbox = Sandbox::with("out", "old");
        let command = "trap '' TERM; printf up >\"$ASIDE/up\"; read _; echo new; printf done >\"$ASIDE/done\"";
        let mut running = script(&sandbox, "", way, command).stdin_held().start();
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
        assert_eq!(sandbox.listing(), "out=old");
    }
}

#[test]
fn a_signal_that_kills_the_command_ends_the_run() {
    needs_tool!("strace");
    for way in WAYS {
        for signal in [Signal::TERM, Signal::INT, Signal::HUP] {
            let sandbox = Sandbox::with("out", "old");
            let command = "echo half; printf up >\"$ASIDE/up\"; exec cat";
            let running = script(&sandbox, "", way, command).stdin_held().start();
            wait_for(&sandbox, "up", "up");
            kill_process(program_of(&running, way), signal).unwrap();
            // The input is still open: nothing but the signal ends it.
            let done = wait_with_open_stdin(running);
            assert_eq!(done, Some(signal.as_raw()), "{way:?}");
            assert_eq!(sandbox.listing(), "out=old");
        }
    }
}

/// Waits for the end of a run whose stdin is not closed, and returns the signal that killed it.
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
        let sandbox = Sandbox::with("out", "old");
        let command = "echo half; printf up >\"$ASIDE/up\"; exec cat";
        let running = script(&sandbox, "", way, command).stdin_held().start();
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
    let sandbox = Sandbox::with("out", "old");
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
    // A signal that comes while COMMAND is being started is forwarded too, and then it is uncertain
    // whether COMMAND received it.
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
    assert_eq!(sandbox.listing(), "out=old");
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
fn a_kill_while_the_command_runs_leaves_dest_unchanged() {
    let sandbox = Sandbox::with("out", "old");
    let command = "echo half; printf up >\"$ASIDE/up\"; exec cat";
    let running = script(&sandbox, "", Way::Unnamed, command)
        .stdin_held()
        .start();
    wait_for(&sandbox, "up", "up");
    running.signal(Signal::KILL);
    assert_eq!(running.wait().signal(), Some(Signal::KILL.as_raw()));
    assert_eq!(sandbox.text("out"), "old");
    assert_eq!(sandbox.names_besides_drafts(), ["out"]);
}

#[test]
fn a_command_that_stops_and_goes_on_is_waited_for() {
    let sandbox = Sandbox::new();
    let command = "echo one; printf $$ >\"$ASIDE/id\"; kill -STOP $$; echo two";
    let running = script(&sandbox, "", Way::Unnamed, command).start();
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

// ---- Processes that outlive the command ----

#[test]
fn a_process_that_keeps_the_output_open_is_an_error_within_a_bounded_time() {
    needs_tool!("strace");
    for way in WAYS {
        for old in ["old", ""] {
            let sandbox = Sandbox::holding(old);
            fifo_aside(&sandbox, "go");
            let command = "echo x
                (trap '' PIPE; read _ <\"$ASIDE/go\"; echo late; printf done >\"$ASIDE/done\") 2>/dev/null &
                exit 0";
            let start = Instant::now();
            let done = script(&sandbox, "", way, command).output();
            assert!(start.elapsed() < BOUND / 4, "{:?}", start.elapsed());
            assert_eq!(done.code(), Some(125), "{way:?} {done:?}");
            let why = "'sh' has ended, but a process that it started still has its output open; let the command wait \
                 for it, or redirect the output of that process";
            assert!(done.stderr.contains(why), "{done:?}");
            assert_eq!(done.stderr.lines().count(), 1, "{done:?}");
            let expected: &[&str] = if old.is_empty() { &[] } else { &["out"] };
            assert_eq!(sandbox.names(), expected);
            // What it writes then reaches no file.
            let_go(&sandbox);
            wait_for(&sandbox, "done", "done");
            assert_eq!(sandbox.names(), expected);
            if !old.is_empty() {
                assert_eq!(sandbox.text("out"), "old");
            }
        }
    }
}

#[test]
fn a_background_process_that_has_closed_the_output_is_not_waited_for() {
    needs_tool!("strace");
    for way in WAYS {
        let sandbox = Sandbox::new();
        fifo_aside(&sandbox, "go");
        let command = "echo x; (read _ <\"$ASIDE/go\") >/dev/null 2>&1 & echo y";
        script(&sandbox, "", way, command).writes("x\ny\n");
        let_go(&sandbox);
    }
}

#[test]
fn the_output_of_a_process_that_ends_soon_after_the_command_counts() {
    needs_tool!("strace", "bash");
    for way in WAYS {
        let sandbox = Sandbox::new();
        // It ends when it sees that the shell has ended.
        let command = "echo x; (while test -e /proc/$$/fd/1; do :; done; echo late) & exit 0";
        script(&sandbox, "-v", way, command)
            .says("'out' (7 bytes)")
            .writes("x\nlate\n");
        for round in 0..5 {
            let command = format!("echo {round} > >(cat)");
            way.take(sandbox.atomwrite(["out", "--", "bash", "-c", &command]))
                .succeeds();
            assert_eq!(sandbox.text("out"), format!("{round}\n"));
        }
    }
}

#[test]
fn output_that_comes_after_the_exit_is_checked_too() {
    needs_tool!("strace", "sha256sum");
    let late = "(while test -e /proc/$$/fd/1; do :; done; echo late) & exit 0";
    for way in WAYS {
        let sandbox = Sandbox::with("out", "x\n");
        let sum = |text: &str| {
            let path = sandbox.aside("text");
            fs::write(&path, text).unwrap();
            tool("sha256sum", [path])[..64].to_owned()
        };
        let command = format!("echo x; {late}");
        script(&sandbox, &format!("--sha256 {}", sum("x\n")), way, &command)
            .fails_with(125, "SHA-256");
        script(&sandbox, "-C -v", way, &command)
            .says("replaced 'out' (7 bytes)")
            .succeeds();
        script(
            &sandbox,
            &format!("--sha256 {} --no-empty", sum("late\n")),
            way,
            late,
        )
        .writes("late\n");
    }
}

#[test]
fn no_process_can_write_to_dest_after_the_commit() {
    // A background process that has opened the output again, for reading and writing.
    let sandbox = Sandbox::with("out", "old");
    fifo_aside(&sandbox, "go");
    let command = "echo x
        (exec 5<>/proc/self/fd/1 >/dev/null; printf x >\"$ASIDE/opened\"; read _ <\"$ASIDE/go\"; echo late >&5) 2>/dev/null &
        while test ! -s \"$ASIDE/opened\"; do :; done
        exit 0";
    let done = script(&sandbox, "", Way::Unnamed, command).output();
    assert_eq!(done.code(), Some(125), "{done:?}");
    let_go(&sandbox);
    assert_eq!(sandbox.listing(), "out=old");
}
