//! Signals between the input and the commit, during the commit, and in place.

use rustix::process::{Signal, kill_process};

use crate::environment::signals::{Place, wait_until_stopped};
use crate::environment::signals_to_command::open_fifo;
use crate::harness::{
    COMMIT, Sandbox, Strace, derived_name, needs_root, needs_tool, skip, wait_until,
    wait_until_it_sleeps,
};

// ---- Between the input and the commit ----

#[test]
fn a_signal_wins_over_an_end_of_input_at_the_same_time() {
    for &place in Place::all() {
        for options in ["", "-a", "--lock -q", "-b"] {
            let sandbox = Sandbox::with("out", "old");
            let words = format!("{options} out");
            let run = sandbox.run(&words).through(place.prefix());
            let mut running = run.stdin_held().start();
            running.feed("new");
            let program = place.program(&running);
            // While it is stopped, both come.
            kill_process(program, Signal::STOP).unwrap();
            wait_until_stopped(&program.as_raw_nonzero().to_string());
            running.close_stdin();
            kill_process(program, Signal::TERM).unwrap();
            kill_process(program, Signal::CONT).unwrap();
            place.check_died_by(&running.wait(), Signal::TERM);
            assert_eq!(sandbox.text("out"), "old", "{place:?} {options:?}");
            assert_eq!(sandbox.names(), ["out"], "{place:?} {options:?}");
        }
    }
}

#[test]
fn a_signal_just_after_the_validator_prevents_the_commit() {
    for &place in Place::all() {
        for options in ["", "-C", "--lock -q", "-b"] {
            let sandbox = Sandbox::with("out", "old");
            // The last step of the run.
            let words = format!("{options} --validate 'kill -TERM $PPID' out");
            let run = sandbox.run(&words).stdin("new");
            let done = run.through(place.prefix()).output();
            place.check_died_by(&done, Signal::TERM);
            assert_eq!(sandbox.text("out"), "old", "{options:?}");
            assert_eq!(sandbox.names(), ["out"], "{place:?} {options:?}");
        }
    }
}

#[test]
fn a_signal_during_the_fsync_of_the_new_file_leaves_the_old_one() {
    needs_tool!("strace");
    for options in ["", "-a", "--validate true", "-b"] {
        for named in [false, true] {
            let sandbox = Sandbox::with("out", "old");
            // The only fsync.
            let mut strace = Strace::new().alone().inject("fsync:signal=SIGTERM");
            if named {
                strace = strace.inject("linkat:error=EOPNOTSUPP");
            }
            let words = format!("{options} --sync=file out");
            let run = sandbox.run(&words).stdin("new");
            let done = run.under(&strace).output();
            assert_eq!(done.signal(), Some(libc::SIGTERM), "{done:?}");
            assert_eq!(sandbox.text("out"), "old", "{options:?} {named}");
            assert_eq!(sandbox.names(), ["out"], "{options:?} {named}");
        }
    }
}

#[test]
fn a_signal_during_the_commit_takes_effect_after_it() {
    needs_tool!("strace");
    let temporary = derived_name("out");
    let calls = [
        // Only of an unnamed file.
        ("linkat", temporary.as_str()),
        (COMMIT, "out"),
        ("fsync", "."),
    ];
    let calls = &calls[usize::from(cfg!(atomwrite_posix))..];
    for signal in ["SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT"] {
        for &(call, at) in calls {
            for old in ["old", ""] {
                let sandbox = Sandbox::holding(old);
                let strace = Strace::new()
                    .at(at)
                    .inject(&format!("{call}:signal={signal}"));
                let done = sandbox.run("-v out").stdin("new").under(&strace).output();
                assert!(done.signal().is_some(), "{signal} at {call}: {done:?}");
                assert_eq!(sandbox.text("out"), "new", "{signal} at {call}");
                assert_eq!(sandbox.names(), ["out"], "{signal} at {call}");
                // The outcome is reported before.
                let verb = if old.is_empty() {
                    "created"
                } else {
                    "replaced"
                };
                assert!(done.stderr.contains(verb), "{done:?}");
            }
        }
    }
}

#[test]
fn a_signal_during_a_commit_that_fails_leaves_the_old_file() {
    needs_tool!("strace");
    let sandbox = Sandbox::with("out", "old");
    let strace = Strace::new()
        .at("out")
        .inject("rename,renameat,renameat2:error=EIO:signal=SIGTERM");
    let done = sandbox.run("out").stdin("new").under(&strace).output();
    assert_eq!(done.signal(), Some(libc::SIGTERM), "{done:?}");
    assert!(done.stderr.contains("; 'out' is unchanged"), "{done:?}");
    assert_eq!(sandbox.listing(), "out=old");
}

// ---- In place ----

#[test]
fn a_signal_ends_a_run_that_waits_for_the_reader_of_dest() {
    for &place in Place::all() {
        for options in ["", "--lock"] {
            let sandbox = Sandbox::new();
            let fifo = sandbox.fifo("fifo");
            let reader = open_fifo(&fifo);
            let words = format!("{options} -q --inplace=always fifo");
            let running = sandbox
                .run(&words)
                .stdin(vec![b'x'; 1 << 20])
                .through(place.prefix())
                .start();
            // It has begun to write, and cannot go on.
            wait_until("DEST is written to", || {
                rustix::io::ioctl_fionread(&reader).unwrap() >= 4096
            });
            let program = place.program(&running);
            wait_until_it_sleeps(program);
            kill_process(program, Signal::TERM).unwrap();
            let done = running.wait();
            place.check_died_by(&done, Signal::TERM);
            assert_eq!(sandbox.names(), ["fifo"], "{place:?} {options:?}");
        }
    }
}

#[test]
fn the_first_process_of_a_container_works_as_any_other() {
    needs_root!();
    if !crate::harness::can_mount() {
        skip!("needs the right to mount");
    }
    let sandbox = Sandbox::new();
    let run = |words: &[&str]| {
        let run = sandbox.atomwrite(words.iter().copied()).stdin("new\n");
        run.through(Place::Pid1.prefix())
    };
    run(&["out"]).succeeds();
    run(&["-a", "out"]).succeeds();
    run(&["out", "--", "sh", "-c", "cat out; exit 0"]).succeeds();
    assert_eq!(sandbox.text("out"), "new\nnew\n");
    run(&["out", "--", "sh", "-c", "exit 7"]).fails_with(7, "status 7");
}
