//! Signals that come while a run waits: for input, a lock, COMMAND, a validator, a reader or a
//! disk.
//!
//! A SIGINT, SIGTERM, SIGHUP or SIGQUIT before the commit leaves DEST unchanged and no temporary
//! file, and atomwrite dies by the signal. COMMAND gets the signal too, once; a stopped COMMAND is
//! continued; it has 2 seconds, or until a second signal. A terminal that goes away is an error,
//! not the end of input. As PID 1, where the kernel drops a signal with the default disposition,
//! atomwrite exits with 128 plus the signal's number. COMMAND starts with SIGPIPE and SIGCHLD at
//! their defaults.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, Signal, kill_process};

use crate::harness::{
    Done, Mount, Running, Sandbox, draft_of, needs_fuse, needs_tool, open, program_of, terminal,
    wait_until, wait_until_it_sleeps,
};

const ENDING: [Signal; 4] = [Signal::TERM, Signal::INT, Signal::HUP, Signal::QUIT];

/// Makes the program the first process of a new PID namespace, with the default dispositions of a
/// container's.
const AS_PID_1: [&str; 6] = [
    "unshare",
    "--pid",
    "--fork",
    "--kill-child",
    "--mount-proc",
    "env",
];

/// Whether the program runs as it usually does, or as PID 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Usual,
    Pid1,
}

impl Place {
    /// Both, where this machine has them.
    pub(crate) fn all() -> &'static [Self] {
        if crate::harness::can_mount() {
            &[Self::Usual, Self::Pid1]
        } else {
            crate::harness::report_skipped("needs root and the right to mount");
            &[Self::Usual]
        }
    }

    pub(crate) fn prefix(self) -> Vec<&'static str> {
        match self {
            Self::Usual => Vec::new(),
            Self::Pid1 => AS_PID_1.into_iter().chain(["--default-signal"]).collect(),
        }
    }

    pub(crate) fn program(self, running: &Running) -> Pid {
        match self {
            Self::Usual => running.pid(),
            Self::Pid1 => program_of(running),
        }
    }

    #[track_caller]
    pub(crate) fn check_died_by(self, done: &Done, signal: Signal) {
        match self {
            Self::Usual => assert_eq!(done.signal(), Some(signal.as_raw()), "{done:?}"),
            Self::Pid1 => assert_eq!(done.code(), Some(128 + signal.as_raw()), "{done:?}"),
        }
    }
}

/// Waits until COMMAND has written its process id to a file, and returns the id.
#[track_caller]
pub(crate) fn id_in(path: &Path) -> String {
    let mut id = String::new();
    wait_until("COMMAND has written its id", || {
        id = fs::read_to_string(path).unwrap_or_default();
        id.ends_with('\n')
    });
    id.trim().to_owned()
}

#[track_caller]
pub(crate) fn wait_until_stopped(id: &str) {
    wait_until("it is stopped", || {
        let stat = fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
        stat.rsplit(") ")
            .next()
            .is_some_and(|state| state.starts_with('T'))
    });
}

pub(crate) fn is_running_as_command(program: Pid, name: &str) -> bool {
    let id = program.as_raw_nonzero();
    let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap_or_default();
    children.split_whitespace().any(|child| {
        fs::read_to_string(format!("/proc/{child}/comm")).is_ok_and(|comm| comm.trim() == name)
    })
}

// ---- While input is awaited ----

// https://github.com/moby/moby/issues/30593
#[test]
fn a_signal_ends_a_run_that_waits_for_input_also_as_pid_1() {
    for &place in Place::all() {
        for signal in ENDING {
            for options in ["", "--lock -q", "-a"] {
                let sandbox = Sandbox::with("out", "old");
                let words = format!("{options} out");
                let run = sandbox.run(&words).through(place.prefix());
                let mut running = run.stdin_held().start();
                running.feed("new");
                kill_process(place.program(&running), signal).unwrap();
                let done = running.wait_with_input_open();
                place.check_died_by(&done, signal);
                assert_eq!(sandbox.text("out"), "old");
                assert_eq!(sandbox.names(), ["out"], "{place:?} {options:?}");
            }
        }
    }
}

#[test]
fn a_signal_ends_a_run_that_waits_for_the_writer_of_a_fifo() {
    for &place in Place::all() {
        for words in [
            "fifo out",
            "--lock fifo out",
            "-a fifo out",
            "-t d src fifo",
        ] {
            let sandbox = Sandbox::new();
            sandbox.fifo("fifo");
            sandbox.mkdir("d");
            for name in ["out", "d/src", "src"] {
                sandbox.write(name, "old");
            }
            let names = sandbox.names();
            let run = sandbox.run(words).through(place.prefix());
            let running = run.start();
            let program = place.program(&running);
            wait_until_it_sleeps(program);
            kill_process(program, Signal::TERM).unwrap();
            place.check_died_by(&running.wait(), Signal::TERM);
            assert_eq!(sandbox.names(), names, "{place:?} {words:?}");
            assert_eq!(sandbox.text("out"), "old");
        }
    }
}

#[test]
fn a_signal_ends_a_run_whose_input_never_blocks() {
    for &place in Place::all() {
        for option in ["--lock", "-a"] {
            let sandbox = Sandbox::with("out", "old");
            let running = sandbox
                .atomwrite([option, "--sync=none", "out"])
                .stdin_from(open("/dev/zero"))
                .through(place.prefix())
                .start();
            let program = place.program(&running);
            wait_until("it has its new file", || draft_of(program).is_some());
            kill_process(program, Signal::TERM).unwrap();
            place.check_died_by(&running.wait(), Signal::TERM);
            assert_eq!(sandbox.names(), ["out"], "{place:?} {option}");
            assert_eq!(sandbox.text("out"), "old");
        }
    }
}

/// Runs a test on a filesystem on which the new file has a name from its start.
fn on_fuse(test: impl FnOnce(&Sandbox)) {
    let below = Sandbox::new();
    let mount = Mount::bindfs(below.root(), &[]);
    let sandbox = Sandbox::in_dir(mount.path());
    test(&sandbox);
}

#[test]
fn a_signal_ends_a_run_with_a_named_file_whose_input_never_blocks() {
    needs_fuse!();
    on_fuse(|sandbox| {
        sandbox.write("out", "old");
        let running = sandbox
            .run("--sync=none out")
            .stdin_from(open("/dev/zero"))
            .start();
        wait_until("its new file has a name", || sandbox.names().len() > 1);
        running.signal(Signal::TERM);
        let done = running.wait();
        assert_eq!(done.signal(), Some(libc::SIGTERM), "{done:?}");
        assert_eq!(sandbox.listing(), "out=old");
    });
}

#[test]
fn a_signal_ends_a_run_whose_input_another_reader_takes() {
    needs_fuse!();
    on_fuse(|sandbox| {
        sandbox.write("out", "old");
        let (read, write) = pipe_with(PipeFlags::CLOEXEC).unwrap();
        // An open file of its own: O_NONBLOCK is the test's alone.
        let rival = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_NONBLOCK)
            .open(format!(
                "/proc/self/fd/{}",
                std::os::fd::AsRawFd::as_raw_fd(&read)
            ))
            .unwrap();
        let running = sandbox.run("out").stdin_from(read).start();
        wait_until("its new file has a name", || sandbox.names().len() > 1);
        let over = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    drop((&rival).read(&mut [0; 16]));
                }
            });
            for _ in 0..500 {
                rustix::io::write(&write, b"x").unwrap();
                wait_until("one of them has read it", || {
                    rustix::io::ioctl_fionread(&write).unwrap() == 0
                });
            }
            over.store(true, Ordering::Relaxed);
        });
        running.signal(Signal::TERM);
        let done = running.wait();
        drop(write);
        assert_eq!(done.signal(), Some(libc::SIGTERM), "{done:?}");
        assert_eq!(sandbox.listing(), "out=old");
    });
}

#[test]
fn a_signal_leaves_nothing_of_many_files_on_fuse() {
    // There a file that is open when its name is removed gets another one, `.fuse_hidden…`.
    needs_fuse!();
    for signal in ENDING {
        on_fuse(|sandbox| {
            let fifo = sandbox.fifo("fifo");
            sandbox.mkdir("d");
            sandbox.write("a", "new");
            let names = sandbox.names();
            let running = sandbox.run("-t d a fifo").start();
            let mut feeder = None;
            wait_until("the FIFO is read", || {
                let mut options = OpenOptions::new();
                options.write(true).custom_flags(libc::O_NONBLOCK);
                feeder = options.open(&fifo).ok();
                feeder.is_some()
            });
            running.signal(signal);
            let done = running.wait();
            assert_eq!(done.signal(), Some(signal.as_raw()), "{done:?}");
            assert_eq!(sandbox.names(), names);
        });
    }
}

// ---- A terminal ----

/// Types half a line at a run that reads the terminal, and waits until it has read that.
#[track_caller]
fn start_at_terminal(sandbox: &Sandbox, words: &[&str], controlled: bool) -> (Running, File) {
    let (mut keyboard, stdin) = terminal();
    let ours: OwnedFd = stdin.try_clone().unwrap();
    let mut run = sandbox.atomwrite(words.iter().copied()).stdin_from(stdin);
    if controlled {
        run = run.controlled();
    }
    let running = run.start();
    keyboard.write_all(b"half\n").unwrap();
    // What is typed is echoed when it can be read, and then it goes.
    wait_until("it is echoed", || {
        rustix::io::ioctl_fionread(&keyboard).unwrap() > 0
    });
    wait_until("it has been read", || {
        rustix::io::ioctl_fionread(&ours).unwrap() == 0
    });
    (running, keyboard)
}

#[test]
fn a_terminal_that_goes_away_is_an_error_and_not_the_end_of_input() {
    for words in [
        &["-q", "out"][..],
        &["-q", "-a", "out"],
        &["-q", "--lock", "out"],
    ] {
        // The kernel returns an error or the end of input from the read; which one is a race.
        for old in [true, false].repeat(5) {
            let sandbox = Sandbox::new();
            if old {
                sandbox.write("out", "old");
            }
            let names = sandbox.names();
            let (running, keyboard) = start_at_terminal(&sandbox, words, false);
            drop(keyboard);
            let done = running.wait();
            assert_eq!(done.code(), Some(1), "{done:?}");
            crate::harness::check_message(done.stderr.trim_end());
            assert_eq!(sandbox.names(), names);
            assert!(!old || sandbox.text("out") == "old");
        }
    }
}

#[test]
fn a_terminal_that_controls_the_run_and_goes_away_commits_nothing() {
    for words in [&["-q", "out"][..], &["-q", "-a", "out"]] {
        let sandbox = Sandbox::with("out", "old");
        let (running, keyboard) = start_at_terminal(&sandbox, words, true);
        drop(keyboard);
        let done = running.wait();
        // SIGHUP comes as well.
        assert!(
            done.signal() == Some(libc::SIGHUP) || done.code() == Some(1),
            "{done:?}"
        );
        assert_eq!(sandbox.listing(), "out=old");
    }
}

#[test]
fn ctrl_c_ends_a_run_that_reads_the_terminal() {
    for words in [
        &["-q", "out"][..],
        &["-q", "-a", "out"],
        &["-q", "--lock", "out"],
    ] {
        let sandbox = Sandbox::with("out", "old");
        let (running, mut keyboard) = start_at_terminal(&sandbox, words, true);
        keyboard.write_all(b"\x03").unwrap();
        let done = running.wait();
        assert_eq!(done.signal(), Some(libc::SIGINT), "{done:?}");
        assert_eq!(sandbox.listing(), "out=old");
    }
}

/// Counts the SIGINTs that it gets, until its parent has ended.
const COUNTING: &str = r#"
import os, signal, sys, time
directory, count, parent = sys.argv[1], [], os.getppid()
signal.signal(signal.SIGHUP, signal.SIG_IGN)
signal.signal(signal.SIGINT, lambda *_: count.append(1))
open(directory + "/started", "w").close()
while os.getppid() == parent:
    time.sleep(0.01)
with open(directory + "/new", "w") as file:
    print(len(count), file=file)
os.rename(directory + "/new", directory + "/count")
"#;

#[test]
fn ctrl_c_reaches_command_once() {
    needs_tool!("python3");
    let sandbox = Sandbox::with("out", "old");
    let (mut keyboard, stdin) = terminal();
    let aside = sandbox.aside("");
    let words = [
        "out",
        "--",
        "python3",
        "-c",
        COUNTING,
        aside.to_str().unwrap(),
    ];
    let running = sandbox
        .atomwrite(words)
        .stdin_from(stdin)
        .controlled()
        .start();
    wait_until("COMMAND has started", || sandbox.aside("started").exists());
    keyboard.write_all(b"\x03").unwrap();
    let done = running.wait();
    assert_eq!(done.signal(), Some(libc::SIGINT), "{done:?}");
    wait_until("COMMAND has counted", || sandbox.aside("count").exists());
    let count = fs::read_to_string(sandbox.aside("count")).unwrap();
    assert_eq!(count, "1\n");
    assert_eq!(sandbox.listing(), "out=old");
}
