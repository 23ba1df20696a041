//! Signals while COMMAND runs, and the dispositions that it starts with.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use crate::environment::signals::{Place, id_in, is_running_as_command, wait_until_stopped};
use crate::harness::{Running, Sandbox, wait_until, wait_until_gone};

// ---- While COMMAND runs ----

#[test]
fn a_signal_ends_a_command_also_as_pid_1() {
    for &place in Place::all() {
        for signal in [Signal::TERM, Signal::INT, Signal::HUP] {
            let sandbox = Sandbox::with("out", "old");
            let running = sandbox
                .run("out -- sleep 600")
                .through(place.prefix())
                .start();
            let program = place.program(&running);
            wait_until("COMMAND runs", || is_running_as_command(program, "sleep"));
            kill_process(program, signal).unwrap();
            place.check_died_by(&running.wait(), signal);
            assert_eq!(sandbox.listing(), "out=old");
        }
    }
}

#[test]
fn a_signal_of_another_process_reaches_command_and_a_stopped_one_is_continued() {
    for signal in [Signal::TERM, Signal::INT, Signal::HUP] {
        for stopped in [false, true] {
            let sandbox = Sandbox::with("out", "old");
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
            assert_eq!(sandbox.listing(), "out=old");
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
fn the_wait_for_a_command_that_ignores_the_signal_is_bounded() {
    for options in [&[][..], &["--lock"]] {
        let sandbox = Sandbox::with("out", "old");
        let (running, _deaf) = start_deaf(&sandbox, options);
        let start = Instant::now();
        running.signal(Signal::TERM);
        let done = running.wait();
        assert_eq!(done.signal(), Some(libc::SIGTERM), "{done:?}");
        assert!(start.elapsed() >= Duration::from_millis(1900));
        assert_eq!(sandbox.listing(), "out=old");
    }
}

#[test]
fn a_second_signal_ends_the_wait_for_a_command() {
    let sandbox = Sandbox::with("out", "old");
    // A machine that is slow once is seldom slow five times.
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
        assert_eq!(sandbox.listing(), "out=old");
        start.elapsed() < Duration::from_millis(1500)
    });
    assert!(at_once);
}

#[test]
fn a_command_has_time_to_clean_up() {
    let sandbox = Sandbox::with("out", "old");
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
    assert_eq!(sandbox.listing(), "out=old");
}

#[test]
fn a_stopped_job_resumes_as_a_whole() {
    let sandbox = Sandbox::with("out", "old");
    let file = sandbox.aside("id");
    let fifo = sandbox.aside("fifo");
    crate::harness::tool("mkfifo", [&fifo]);
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
        assert_eq!(sandbox.listing(), "out=begun\nended\n");
        sandbox.write("out", "old");
    }
}

#[test]
fn a_stopped_job_that_reads_input_resumes() {
    for options in ["", "-a"] {
        let sandbox = Sandbox::new();
        let words = format!("{options} out");
        let mut running = sandbox.run(&words).stdin_held().start();
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

// ---- Dispositions ----

#[test]
fn a_parent_that_ignores_the_end_of_its_children_changes_nothing() {
    let sandbox = Sandbox::with("out", "old");
    let run = |words: &[&str]| {
        let run = sandbox.atomwrite(words.iter().copied()).stdin("new\n");
        run.through(["env", "--ignore-signal=CHLD"])
    };
    run(&["out", "--", "sh", "-c", "exit 7"]).fails_with(7, "status 7");
    run(&["out", "--", "false"]).fails_with(1, "status 1");
    run(&["--validate", "false", "out"]).fails_with(3, "'out'");
    run(&["--validate", "true", "out"]).succeeds();
    run(&["out", "--", "echo", "newer"]).succeeds();
    assert_eq!(sandbox.text("out"), "newer\n");
}

#[test]
fn a_command_starts_with_sigpipe_and_sigchld_at_their_defaults() {
    let sandbox = Sandbox::new();
    for options in ["", "--lock"] {
        let words = format!("{options} out -- cat /proc/self/status");
        sandbox
            .run(&words)
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
fn a_closed_reader_does_not_kill_the_run_with_sigpipe() {
    let sandbox = Sandbox::new();
    // Of the messages.
    let (read, write) = pipe_with(PipeFlags::CLOEXEC).unwrap();
    drop(read);
    let run = sandbox.run("-v out").stdin("new");
    let done = run.stderr_to(write).output();
    assert_eq!(done.code(), Some(0), "{done:?}");
    assert_eq!(sandbox.text("out"), "new");
    // Of DEST.
    let fifo = sandbox.fifo("fifo");
    let reader = open_fifo(&fifo);
    let running = sandbox
        .run("-q --inplace=always fifo")
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

pub(crate) fn open_fifo(fifo: &Path) -> File {
    let mut options = OpenOptions::new();
    options.read(true).custom_flags(libc::O_NONBLOCK);
    options.open(fifo).unwrap()
}
