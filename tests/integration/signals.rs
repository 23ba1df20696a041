//! Signals that come while a run waits: for input, for a lock, for COMMAND, for a validator, for a reader, for a disk.
//!
//! What the contract says: a SIGINT, SIGTERM, SIGHUP or SIGQUIT before the commit leaves DEST untouched and nothing behind,
//! and atomwrite dies by it. COMMAND gets the signal too, once; a stopped COMMAND is continued; it has 2 seconds, or until a
//! second signal. A terminal that goes away is an error, not the end of input. As PID 1, where the kernel drops a signal
//! with the default disposition, atomwrite exits with 128 plus the signal's number. COMMAND starts with SIGPIPE and SIGCHLD
//! at their defaults.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use crate::input::terminal;
use crate::mounts::{Mount, needs_fuse};
use crate::sandbox::{
    Done, Running, Sandbox, derived_name, needs_root, needs_tool, open, skip, wait_until,
    wait_until_gone, wait_until_it_sleeps,
};
use crate::strace::{Strace, program_of};

const ENDING: [Signal; 4] = [Signal::TERM, Signal::INT, Signal::HUP, Signal::QUIT];

/// Makes the program the first process of a new PID namespace, with the default dispositions of a container's.
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
enum Place {
    Usual,
    Pid1,
}

impl Place {
    /// Both, where this machine has them.
    fn all() -> &'static [Self] {
        if crate::mounts::can_mount() {
            &[Self::Usual, Self::Pid1]
        } else {
            crate::sandbox::report_skipped("needs root and the right to mount");
            &[Self::Usual]
        }
    }

    fn prefix(self) -> Vec<&'static str> {
        match self {
            Self::Usual => Vec::new(),
            Self::Pid1 => AS_PID_1.into_iter().chain(["--default-signal"]).collect(),
        }
    }

    fn program(self, running: &Running) -> Pid {
        match self {
            Self::Usual => running.pid(),
            Self::Pid1 => program_of(running),
        }
    }

    #[track_caller]
    fn check_died_by(self, done: &Done, signal: Signal) {
        match self {
            Self::Usual => assert_eq!(done.signal(), Some(signal.as_raw()), "{done:?}"),
            Self::Pid1 => assert_eq!(done.code(), Some(128 + signal.as_raw()), "{done:?}"),
        }
    }
}

/// Waits until COMMAND has written its process id to a file, and gives it.
#[track_caller]
fn id_in(path: &Path) -> String {
    let mut id = String::new();
    wait_until("COMMAND has told its id", || {
        id = fs::read_to_string(path).unwrap_or_default();
        id.ends_with('\n')
    });
    id.trim().to_owned()
}

#[track_caller]
fn wait_until_stopped(id: &str) {
    wait_until("it is stopped", || {
        let stat = fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
        stat.rsplit(") ")
            .next()
            .is_some_and(|state| state.starts_with('T'))
    });
}

fn is_running_as_command(program: Pid, name: &str) -> bool {
    let id = program.as_raw_nonzero();
    let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap_or_default();
    children.split_whitespace().any(|child| {
        fs::read_to_string(format!("/proc/{child}/comm")).is_ok_and(|comm| comm.trim() == name)
    })
}

// ---- While input is awaited -------------------------------------------------------------------------------------

// https://github.com/moby/moby/issues/30593
#[test]
fn ends_a_run_that_awaits_input_as_pid_1_too() {
    for &place in Place::all() {
        for signal in ENDING {
            for options in [&[][..], &["--lock", "-q"], &["-a"]] {
                let sandbox = Sandbox::new();
                sandbox.write("out", "old");
                let words = [options, &["out"]].concat();
                let run = sandbox.atomwrite(words).through(place.prefix());
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
fn ends_a_run_that_awaits_the_writer_of_a_fifo() {
    for &place in Place::all() {
        for words in [
            &["fifo", "out"][..],
            &["--lock", "fifo", "out"],
            &["-a", "fifo", "out"],
            &["-t", "d", "src", "fifo"],
        ] {
            let sandbox = Sandbox::new();
            sandbox.fifo("fifo");
            sandbox.mkdir("d");
            for name in ["out", "d/src", "src"] {
                sandbox.write(name, "old");
            }
            let names = sandbox.names();
            let run = sandbox.atomwrite(words.to_vec()).through(place.prefix());
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
fn ends_a_run_whose_input_is_always_there() {
    for &place in Place::all() {
        for option in ["--lock", "-a"] {
            let sandbox = Sandbox::new();
            sandbox.write("out", "old");
            let running = sandbox
                .atomwrite([option, "--sync=none", "out"])
                .stdin_from(open("/dev/zero"))
                .through(place.prefix())
                .start();
            let program = place.program(&running);
            let io = format!("/proc/{}/fd", program.as_raw_nonzero());
            wait_until("it has its new file", || {
                fs::read_dir(&io).is_ok_and(|descriptors| {
                    descriptors
                        .filter_map(|entry| fs::read_link(entry.ok()?.path()).ok())
                        .any(|target| target.to_string_lossy().ends_with(" (deleted)"))
                })
            });
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
fn ends_a_run_whose_new_file_has_a_name_and_whose_input_is_always_there() {
    needs_fuse!();
    on_fuse(|sandbox| {
        sandbox.write("out", "old");
        let running = sandbox
            .atomwrite(["--sync=none", "out"])
            .stdin_from(open("/dev/zero"))
            .start();
        wait_until("its new file has a name", || sandbox.names().len() > 1);
        running.signal(Signal::TERM);
        let done = running.wait();
        assert_eq!(done.signal(), Some(libc::SIGTERM), "{done:?}");
        assert_eq!(sandbox.names(), ["out"]);
        assert_eq!(sandbox.text("out"), "old");
    });
}

#[test]
fn ends_a_run_from_which_another_reader_takes_the_input() {
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
        let running = sandbox.atomwrite(["out"]).stdin_from(read).start();
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
        assert_eq!(sandbox.names(), ["out"]);
        assert_eq!(sandbox.text("out"), "old");
    });
}

#[test]
fn leaves_nothing_of_many_files_that_wait_on_fuse() {
    // There a file that is open when its name is removed gets another one, `.fuse_hidden…`.
    needs_fuse!();
    for signal in ENDING {
        on_fuse(|sandbox| {
            let fifo = sandbox.fifo("fifo");
            sandbox.mkdir("d");
            sandbox.write("a", "new");
            let names = sandbox.names();
            let running = sandbox.atomwrite(["-t", "d", "a", "fifo"]).start();
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

// ---- A terminal -------------------------------------------------------------------------------------------------

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
        // What the kernel answers to the read, an error or the end of input, is a matter of luck.
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
            crate::sandbox::check_message(done.stderr.trim_end());
            assert_eq!(sandbox.names(), names);
            assert!(!old || sandbox.text("out") == "old");
        }
    }
}

#[test]
fn a_terminal_that_controls_the_run_and_goes_away_commits_nothing() {
    for words in [&["-q", "out"][..], &["-q", "-a", "out"]] {
        let sandbox = Sandbox::new();
        sandbox.write("out", "old");
        let (running, keyboard) = start_at_terminal(&sandbox, words, true);
        drop(keyboard);
        let done = running.wait();
        // SIGHUP comes as well.
        assert!(
            done.signal() == Some(libc::SIGHUP) || done.code() == Some(1),
            "{done:?}"
        );
        assert_eq!(sandbox.names(), ["out"]);
        assert_eq!(sandbox.text("out"), "old");
    }
}

#[test]
fn ctrl_c_ends_a_run_that_reads_the_terminal() {
    for words in [
        &["-q", "out"][..],
        &["-q", "-a", "out"],
        &["-q", "--lock", "out"],
    ] {
        let sandbox = Sandbox::new();
        sandbox.write("out", "old");
        let (running, mut keyboard) = start_at_terminal(&sandbox, words, true);
        keyboard.write_all(b"\x03").unwrap();
        let done = running.wait();
        assert_eq!(done.signal(), Some(libc::SIGINT), "{done:?}");
        assert_eq!(sandbox.names(), ["out"]);
        assert_eq!(sandbox.text("out"), "old");
    }
}

/// Counts the SIGINTs that it gets, until its parent is gone.
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
    let sandbox = Sandbox::new();
    sandbox.write("out", "old");
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
    assert_eq!(sandbox.text("out"), "old");
    assert_eq!(sandbox.names(), ["out"]);
}

// ---- While COMMAND runs -----------------------------------------------------------------------------------------

#[test]
fn ends_a_command_as_pid_1_too() {
    for &place in Place::all() {
        for signal in [Signal::TERM, Signal::INT, Signal::HUP] {
            let sandbox = Sandbox::new();
            sandbox.write("out", "old");
            let running = sandbox
                .atomwrite(["out", "--", "sleep", "600"])
                .through(place.prefix())
                .start();
            let program = place.program(&running);
            wait_until("COMMAND runs", || is_running_as_command(program, "sleep"));
            kill_process(program, signal).unwrap();
            place.check_died_by(&running.wait(), signal);
            assert_eq!(sandbox.text("out"), "old");
            assert_eq!(sandbox.names(), ["out"]);
        }
    }
}

#[test]
fn a_signal_of_another_process_reaches_command_and_a_stopped_one_is_continued() {
    for signal in [Signal::TERM, Signal::INT, Signal::HUP] {
        for stopped in [false, true] {
            let sandbox = Sandbox::new();
            sandbox.write("out", "old");
            let file = sandbox.aside("id");
            let script = "echo $$ >\"$0\"; exec sleep 600";
            let words = ["out", "--", "sh", "-c", script, file.to_str().unwrap()];
            let running = sandbox.atomwrite(words).start();
            let id = id_in(&file);
            let command = Pid::from_raw(id.parse().unwrap()).unwrap();
            if stopped {
                kill_process(command, Signal::STOP).unwrap();
                wait_until_stopped(&id);
            }
            running.signal(signal);
            let done = running.wait();
            assert_eq!(done.signal(), Some(signal.as_raw()), "{done:?}");
            wait_until_gone(&id);
            assert_eq!(sandbox.text("out"), "old");
            assert_eq!(sandbox.names(), ["out"]);
        }
    }
}

/// Starts a COMMAND that ignores SIGTERM and goes on until the test ends it, which the handle does.
fn start_deaf(sandbox: &Sandbox, options: &[&str]) -> (Running, Deaf) {
    let file = sandbox.aside("id");
    drop(fs::remove_file(&file));
    let script = "trap '' TERM; echo $$ >\"$0\"; exec sleep 600 >/dev/null 2>&1";
    let command = ["out", "--", "sh", "-c", script, file.to_str().unwrap()];
    let running = sandbox.atomwrite([options, &command].concat()).start();
    let id = id_in(&file).parse().unwrap();
    (running, Deaf(Pid::from_raw(id).unwrap()))
}

struct Deaf(Pid);

impl Drop for Deaf {
    fn drop(&mut self) {
        // It may be gone.
        let _ = kill_process(self.0, Signal::KILL);
    }
}

#[test]
fn a_command_that_ignores_the_signal_is_not_waited_for_for_ever() {
    for options in [&[][..], &["--lock"]] {
        let sandbox = Sandbox::new();
        sandbox.write("out", "old");
        let (running, _deaf) = start_deaf(&sandbox, options);
        let start = Instant::now();
        running.signal(Signal::TERM);
        let done = running.wait();
        assert_eq!(done.signal(), Some(libc::SIGTERM), "{done:?}");
        assert!(start.elapsed() >= Duration::from_millis(1900));
        assert_eq!(sandbox.text("out"), "old");
        assert_eq!(sandbox.names(), ["out"]);
    }
}

#[test]
fn a_second_signal_ends_the_wait_for_a_command() {
    let sandbox = Sandbox::new();
    sandbox.write("out", "old");
    // A machine that is slow once is not slow five times.
    let at_once = (0..5).any(|_| {
        let (running, _deaf) = start_deaf(&sandbox, &[]);
        let start = Instant::now();
        running.signal(Signal::TERM);
        // The first one is not pending any more.
        let pending = format!("/proc/{}/status", running.id());
        wait_until("it has got the first one", || {
            let status = fs::read_to_string(&pending).unwrap_or_default();
            status
                .lines()
                .all(|line| !line.starts_with("ShdPnd:") || line.ends_with("0000000000000000"))
        });
        running.signal(Signal::HUP);
        let done = running.wait();
        assert_eq!(done.signal(), Some(libc::SIGTERM), "{done:?}");
        assert_eq!(sandbox.text("out"), "old");
        assert_eq!(sandbox.names(), ["out"]);
        start.elapsed() < Duration::from_millis(1500)
    });
    assert!(at_once);
}

#[test]
fn a_command_has_time_to_clean_up() {
    let sandbox = Sandbox::new();
    sandbox.write("out", "old");
    let ready = sandbox.aside("ready");
    let cleaned = sandbox.aside("cleaned");
    let script = r#"
        trap 'sleep 0.3; echo done >"$1"; exit 1' TERM
        echo $$ >"$0"
        while :; do sleep 0.01; done"#;
    let running = sandbox
        .atomwrite(
            ["out", "--", "sh", "-c", script]
                .map(Into::into)
                .into_iter()
                .chain([&ready, &cleaned].map(|path| path.clone().into_os_string())),
        )
        .start();
    id_in(&ready);
    running.signal(Signal::TERM);
    let done = running.wait();
    assert_eq!(done.signal(), Some(libc::SIGTERM), "{done:?}");
    assert_eq!(fs::read_to_string(cleaned).unwrap(), "done\n");
    assert_eq!(sandbox.text("out"), "old");
    assert_eq!(sandbox.names(), ["out"]);
}

#[test]
fn a_whole_job_that_is_stopped_goes_on() {
    let sandbox = Sandbox::new();
    sandbox.write("out", "old");
    let file = sandbox.aside("id");
    let fifo = sandbox.aside("fifo");
    crate::sandbox::tool("mkfifo", [&fifo]);
    let script = "echo $$ >\"$0\"; echo begun; exec cat \"$1\"";
    for options in [&[][..], &["--lock"]] {
        drop(fs::remove_file(&file));
        let command = ["out", "--", "sh", "-c", script];
        let paths = [&file, &fifo].map(|path| path.clone().into_os_string());
        let words = options.iter().chain(&command).map(Into::into).chain(paths);
        let running = sandbox.atomwrite(words).start();
        let id = id_in(&file);
        kill_process_group(running.pid(), Signal::TSTP).unwrap();
        wait_until_stopped(&running.id().to_string());
        wait_until_stopped(&id);
        assert_eq!(sandbox.text("out"), "old");
        kill_process_group(running.pid(), Signal::CONT).unwrap();
        fs::write(&fifo, "ended\n").unwrap();
        let done = running.wait();
        assert_eq!((done.code(), done.stderr.as_str()), (Some(0), ""));
        assert_eq!(sandbox.text("out"), "begun\nended\n");
        assert_eq!(sandbox.names(), ["out"]);
        sandbox.write("out", "old");
    }
}

#[test]
fn a_job_that_reads_input_and_is_stopped_goes_on() {
    for options in [&[][..], &["-a"]] {
        let sandbox = Sandbox::new();
        let words = [options, &["out"]].concat();
        let mut running = sandbox.atomwrite(words).stdin_held().start();
        running.feed("begun\n");
        kill_process_group(running.pid(), Signal::TSTP).unwrap();
        wait_until_stopped(&running.id().to_string());
        kill_process_group(running.pid(), Signal::CONT).unwrap();
        running.feed("ended\n");
        let done = running.wait();
        assert_eq!((done.code(), done.stderr.as_str()), (Some(0), ""));
        assert_eq!(sandbox.text("out"), "begun\nended\n");
    }
}

// ---- Dispositions -----------------------------------------------------------------------------------------------

#[test]
fn a_parent_that_ignores_the_end_of_its_children_changes_nothing() {
    let sandbox = Sandbox::new();
    sandbox.write("out", "old");
    let run = |words: &[&str]| {
        let run = sandbox.atomwrite(words.iter().copied()).stdin("new\n");
        run.through(["env", "--ignore-signal=CHLD"])
    };
    run(&["out", "--", "sh", "-c", "exit 7"])
        .says("status 7")
        .fails(7);
    run(&["out", "--", "false"]).says("status 1").fails(1);
    run(&["--validate", "false", "out"]).says("'out'").fails(3);
    run(&["--validate", "true", "out"]).succeeds();
    run(&["out", "--", "echo", "newer"]).succeeds();
    assert_eq!(sandbox.text("out"), "newer\n");
}

#[test]
fn a_command_starts_with_sigpipe_and_sigchld_at_their_defaults() {
    let sandbox = Sandbox::new();
    for options in [&[][..], &["--lock"]] {
        let words = [options, &["out", "--", "cat", "/proc/self/status"]].concat();
        sandbox
            .atomwrite(words)
            .through([
                "env",
                "--ignore-signal=CHLD",
                "--ignore-signal=PIPE",
                "--ignore-signal=USR1",
            ])
            .succeeds();
        let status = sandbox.text("out");
        let set = |key: &str| {
            let line = status.lines().find(|line| line.starts_with(key)).unwrap();
            u64::from_str_radix(line.split_whitespace().last().unwrap(), 16).unwrap()
        };
        let bit = |signal: i32| 1_u64 << (signal - 1);
        let ignored = set("SigIgn:");
        assert_eq!(ignored & bit(libc::SIGPIPE), 0, "{status}");
        assert_eq!(ignored & bit(libc::SIGCHLD), 0, "{status}");
        assert_ne!(ignored & bit(libc::SIGUSR1), 0, "{status}");
        assert_eq!(set("SigBlk:"), 0, "{status}");
    }
}

#[test]
fn a_reader_that_goes_away_does_not_kill() {
    let sandbox = Sandbox::new();
    // Of the messages.
    let (read, write) = pipe_with(PipeFlags::CLOEXEC).unwrap();
    drop(read);
    let run = sandbox.atomwrite(["-v", "out"]).stdin("new");
    let done = run.stderr_to(write).output();
    assert_eq!(done.code(), Some(0), "{done:?}");
    assert_eq!(sandbox.text("out"), "new");
    // Of DEST.
    let fifo = sandbox.fifo("fifo");
    let reader = open_fifo(&fifo);
    let running = sandbox
        .atomwrite(["-q", "--inplace=always", "fifo"])
        .stdin(vec![b'x'; 1 << 20])
        .start();
    wait_until("DEST is written to", || {
        rustix::io::ioctl_fionread(&reader).unwrap() >= 4096
    });
    drop(reader);
    let done = running.wait();
    assert_eq!(done.code(), Some(4), "{done:?}");
    assert!(done.stderr.contains("'fifo'"), "{done:?}");
}

fn open_fifo(fifo: &Path) -> File {
    let mut options = OpenOptions::new();
    options.read(true).custom_flags(libc::O_NONBLOCK);
    options.open(fifo).unwrap()
}

// ---- Between the input and the commit ---------------------------------------------------------------------------

#[test]
fn wins_over_the_end_of_the_input_that_comes_at_once() {
    for &place in Place::all() {
        for options in [&[][..], &["-a"], &["--lock", "-q"], &["-b"]] {
            let sandbox = Sandbox::new();
            sandbox.write("out", "old");
            let words = [options, &["out"]].concat();
            let run = sandbox.atomwrite(words).through(place.prefix());
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
fn wins_over_the_commit_just_after_a_validator() {
    for &place in Place::all() {
        for options in [&[][..], &["-C"], &["--lock", "-q"], &["-b"]] {
            let sandbox = Sandbox::new();
            sandbox.write("out", "old");
            // The last thing that it does.
            let words = [options, &["--validate", "kill -TERM $PPID", "out"]].concat();
            let run = sandbox.atomwrite(words).stdin("new");
            let done = run.through(place.prefix()).output();
            place.check_died_by(&done, Signal::TERM);
            assert_eq!(sandbox.text("out"), "old", "{options:?}");
            assert_eq!(sandbox.names(), ["out"], "{place:?} {options:?}");
        }
    }
}

#[test]
fn during_the_fsync_of_the_new_file_leaves_the_old_one() {
    needs_tool!("strace");
    for options in [&[][..], &["-a"], &["--validate", "true"], &["-b"]] {
        for named in [false, true] {
            let sandbox = Sandbox::new();
            sandbox.write("out", "old");
            // The only fsync.
            let mut strace = Strace::new().alone().inject("fsync:signal=SIGTERM");
            if named {
                strace = strace.inject("linkat:error=EOPNOTSUPP");
            }
            let words = [options, &["--sync=file", "out"]].concat();
            let run = sandbox.atomwrite(words).stdin("new");
            let done = run.through(strace.command()).output();
            assert_eq!(done.signal(), Some(libc::SIGTERM), "{done:?}");
            assert_eq!(sandbox.text("out"), "old", "{options:?} {named}");
            assert_eq!(sandbox.names(), ["out"], "{options:?} {named}");
        }
    }
}

#[test]
fn during_the_commit_takes_effect_after_it() {
    needs_tool!("strace");
    let temporary = derived_name("out");
    for signal in ["SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT"] {
        for (call, at) in [
            ("linkat", temporary.as_str()),
            ("rename,renameat,renameat2", &temporary),
            ("fsync", "."),
        ] {
            for existing in [true, false] {
                let sandbox = Sandbox::new();
                if existing {
                    sandbox.write("out", "old");
                }
                let strace = Strace::new()
                    .at(at)
                    .inject(&format!("{call}:signal={signal}"));
                let done = sandbox
                    .atomwrite(["-v", "out"])
                    .stdin("new")
                    .through(strace.command())
                    .output();
                assert!(done.signal().is_some(), "{signal} at {call}: {done:?}");
                assert_eq!(sandbox.text("out"), "new", "{signal} at {call}");
                assert_eq!(sandbox.names(), ["out"], "{signal} at {call}");
                // The outcome is reported before.
                let verb = if existing { "replaced" } else { "created" };
                assert!(done.stderr.contains(verb), "{done:?}");
            }
        }
    }
}

#[test]
fn during_a_commit_that_fails_leaves_the_old_file() {
    needs_tool!("strace");
    let sandbox = Sandbox::new();
    sandbox.write("out", "old");
    let strace = Strace::new()
        .at(derived_name("out"))
        .inject("rename,renameat,renameat2:error=EIO:signal=SIGTERM");
    let done = sandbox
        .atomwrite(["out"])
        .stdin("new")
        .through(strace.command())
        .output();
    assert_eq!(done.signal(), Some(libc::SIGTERM), "{done:?}");
    assert!(done.stderr.contains("; 'out' is unchanged"), "{done:?}");
    assert_eq!(sandbox.text("out"), "old");
    assert_eq!(sandbox.names(), ["out"]);
}

// ---- In place ---------------------------------------------------------------------------------------------------

#[test]
fn ends_a_run_that_waits_for_the_reader_of_dest() {
    for &place in Place::all() {
        for options in [&[][..], &["--lock"]] {
            let sandbox = Sandbox::new();
            let fifo = sandbox.fifo("fifo");
            let reader = open_fifo(&fifo);
            let words = [options, &["-q", "--inplace=always", "fifo"]].concat();
            let running = sandbox
                .atomwrite(words)
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
    if !crate::mounts::can_mount() {
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
    run(&["out", "--", "sh", "-c", "exit 7"])
        .says("status 7")
        .fails(7);
}
