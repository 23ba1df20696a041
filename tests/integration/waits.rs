//! Waits, signals and the end of the input, where each of them is easily taken for another.
//!
//! What the contract says: no error of a read is taken for the end of the input, and a terminal that goes away is an error
//! too. A SIGTERM ends a run that waits or computes, soon and wherever it is, also as PID 1 and also while standard error
//! is full. A signal that comes to atomwrite and to the program that it runs is not reported as a failure of that program.
//! A lock file that is not accessible is waited for, for about a second; a run never goes on without it.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use crate::input::terminal;
use crate::races::Stepped;
use crate::sandbox::{
    NOBODY, Run, Running, Sandbox, can_be_others, lock_name, needs_tool, report_skipped, tool,
    wait_until, wait_until_gone, wait_until_it_sleeps,
};
use crate::strace::{Strace, program_of};

/// By what standard input cannot be opened anew, so that it is read from a descriptor that others share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shared {
    /// strace refuses the open.
    Injected,
    /// Standard input belongs to root, and atomwrite runs as another user.
    OtherUser,
}

impl Shared {
    /// Both, where this user can be another one.
    fn all() -> &'static [Self] {
        if can_be_others() {
            &[Self::Injected, Self::OtherUser]
        } else {
            report_skipped("needs root");
            &[Self::Injected]
        }
    }

    /// Gives the sandbox and the run to the user, and makes strace refuse the open. `strace` injects more.
    fn apply<'s>(self, sandbox: &Sandbox, run: Run<'s>, strace: Strace) -> (Run<'s>, Strace) {
        match self {
            Self::Injected => {
                let strace = strace
                    .at("/proc/self/fd/0")
                    .inject("?open,openat:error=EACCES");
                (run, strace)
            }
            Self::OtherUser => {
                give_all(sandbox, NOBODY);
                (run.user(NOBODY, NOBODY, &[]), strace)
            }
        }
    }
}

/// Gives the sandbox and all that is in it to a user.
fn give_all(sandbox: &Sandbox, user: u32) {
    for name in sandbox.names() {
        sandbox.chown(name, user, user);
    }
    sandbox.give_to(user, user);
}

// ---- Errors that are no end of the input ------------------------------------------------------------------------

/// Writes a first part into a pipe that cannot be opened anew, and the rest when that was read. From the splice of this
/// number on, every one from that pipe fails.
fn splice_fails(sandbox: &Sandbox, shared: Shared, parts: [&[u8]; 2], failure: &str) -> Running {
    let (read, write) = pipe_with(PipeFlags::CLOEXEC).unwrap();
    let inode = rustix::fs::fstat(&read).unwrap().st_ino;
    rustix::io::write(&write, parts[0]).unwrap();
    let run = sandbox.atomwrite(["--lock", "-q", "out"]).stdin_from(read);
    let strace = Strace::new()
        .at(format!("pipe:[{inode}]"))
        .inject(&format!("splice:{failure}"));
    let (run, strace) = shared.apply(sandbox, run, strace);
    let running = run.through(strace.command()).start();
    // The open that was refused counts too.
    let has_failed = || strace.injected() > usize::from(shared == Shared::Injected);
    wait_until("the first part was read, or it has given up", || {
        has_failed() || rustix::io::ioctl_fionread(&write).unwrap() == 0
    });
    // EPIPE: it has given up.
    drop(File::from(write).write_all(parts[1]));
    wait_until("it has failed", has_failed);
    running
}

#[test]
fn a_pipe_that_cannot_be_spliced_is_read_whole() {
    needs_tool!("strace");
    let parts = [&[b'x'; 10_000][..], &[b'y'; 10_001]];
    for &shared in Shared::all() {
        for error in ["EPERM", "EINVAL", "ENOSYS", "ENOMEM", "EIO"] {
            // From the first one on, and after a part.
            for from in [1, 2] {
                let sandbox = Sandbox::new();
                sandbox.write("out", "old");
                let failure = format!("error={error}:when={from}+");
                let done = splice_fails(&sandbox, shared, parts, &failure).wait();
                assert_eq!(done.code(), Some(0), "{shared:?} {failure} {done:?}");
                assert_eq!(done.stderr, "");
                assert!(
                    sandbox.read("out") == parts.concat(),
                    "{shared:?} {failure}"
                );
                assert_eq!(sandbox.names(), ["out"]);
            }
        }
    }
}

/// Waits until what was typed was read. It is echoed when it can be read, and then it goes.
fn wait_until_read(keyboard: &File, terminal: &OwnedFd) {
    wait_until("it is echoed", || {
        rustix::io::ioctl_fionread(keyboard).unwrap() > 0
    });
    wait_until("it was read", || {
        rustix::io::ioctl_fionread(terminal).unwrap() == 0
    });
}

#[test]
fn a_terminal_of_another_user_that_goes_away_is_an_error() {
    needs_tool!("strace", "env");
    for &shared in Shared::all() {
        // What the kernel answers to the read, an error or the end of the input, is a matter of luck.
        for (options, controlled) in [
            (&["--lock"][..], true),
            (&["--lock"], false),
            (&["-a"], true),
            (&["-a"], false),
        ]
        .repeat(8)
        {
            let sandbox = Sandbox::new();
            sandbox.write("out", "old");
            let (mut keyboard, stdin) = terminal();
            let ours: OwnedFd = stdin.try_clone().unwrap();
            let words = [options, &["-q", "out"]].concat();
            let mut run = sandbox.atomwrite(words).stdin_from(stdin);
            if controlled {
                run = run.controlled();
            }
            let (run, strace) = shared.apply(&sandbox, run, Strace::new());
            let mut prefix = ["env", "--ignore-signal=HUP"].map(OsString::from).to_vec();
            if shared == Shared::Injected {
                prefix.extend(strace.command());
            }
            let running = run.through(prefix).start();
            keyboard.write_all(b"half\n").unwrap();
            wait_until_read(&keyboard, &ours);
            drop(ours);
            drop(keyboard);
            let done = running.wait();
            assert_eq!(done.code(), Some(1), "{shared:?} {options:?} {done:?}");
            assert!(
                done.stderr.contains("cannot read standard input: "),
                "{done:?}"
            );
            assert_eq!(sandbox.text("out"), "old");
            assert_eq!(sandbox.names(), ["out"]);
        }
    }
}

#[test]
fn a_list_of_files_from_a_terminal_that_goes_away_is_an_error() {
    for controlled in [true, false].repeat(8) {
        let sandbox = Sandbox::new();
        sandbox.mkdir("d");
        sandbox.write("in", "new");
        let names = sandbox.names();
        let (mut keyboard, stdin) = terminal();
        let ours: OwnedFd = stdin.try_clone().unwrap();
        let words = ["-t", "d", "--files0-from=-"];
        let mut run = sandbox.atomwrite(words).stdin_from(stdin);
        if controlled {
            run = run.controlled();
        }
        let running = run.through(["env", "--ignore-signal=HUP"]).start();
        // The name of a file, which could be the whole list; Ctrl-D within a line is no end of the input.
        keyboard.write_all(b"in\0\x04").unwrap();
        wait_until_read(&keyboard, &ours);
        drop(ours);
        drop(keyboard);
        let done = running.wait();
        assert_eq!(done.code(), Some(1), "{controlled} {done:?}");
        let reason = "cannot read the list of files from standard input: ";
        assert!(done.stderr.contains(reason), "{done:?}");
        assert_eq!(sandbox.names(), names);
    }
}

// ---- A signal during a long step --------------------------------------------------------------------------------

#[test]
fn a_signal_ends_a_run_that_reads_the_content_back() {
    // A file of holes, which is copied in no time, and which takes minutes to be read.
    const SIZE: u64 = 1 << 40;
    let sum = "0".repeat(64);
    for (options, old) in [
        (&["--lock", "--sha256", &*sum][..], 3),
        (&["--lock", "-C"], SIZE),
    ] {
        for signal in [Signal::TERM, Signal::INT, Signal::HUP] {
            let sandbox = Sandbox::new();
            for (name, size) in [("in", SIZE), ("out", old)] {
                File::create(sandbox.path(name))
                    .unwrap()
                    .set_len(size)
                    .unwrap();
            }
            let words = [options, &["in", "out"]].concat();
            let running = sandbox.atomwrite(words).start();
            let io = format!("/proc/{}/io", running.id());
            wait_until("it reads the content back", || {
                let io = fs::read_to_string(&io).unwrap();
                let read = io.lines().find_map(|line| line.strip_prefix("rchar: "));
                read.unwrap().parse::<u64>().unwrap() > 8 << 20
            });
            running.signal(signal);
            let done = running.wait();
            assert_eq!(done.signal(), Some(signal.as_raw()), "{options:?} {done:?}");
            assert_eq!(done.stderr, "");
            assert_eq!(sandbox.names(), ["in", "out"]);
            assert_eq!(sandbox.stat("out").len(), old);
        }
    }
}

/// Whether the program runs as it usually does, or as PID 1 of a new PID namespace, with default actions.
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
            report_skipped("needs root and the right to mount");
            &[Self::Usual]
        }
    }

    fn start(self, run: Run<'_>) -> (Running, Pid) {
        match self {
            Self::Usual => {
                let running = run.start();
                let program = running.pid();
                (running, program)
            }
            Self::Pid1 => {
                let unshare = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"];
                let running = run
                    .through(unshare.into_iter().chain(["env", "--default-signal"]))
                    .start();
                let program = program_of(&running);
                (running, program)
            }
        }
    }

    /// Sends SIGTERM to the program, which must end by that, although its input does not.
    #[track_caller]
    fn ends(self, (running, program): (Running, Pid)) {
        kill_process(program, Signal::TERM).unwrap();
        let done = running.wait_with_input_open();
        match self {
            Self::Usual => assert_eq!(done.signal(), Some(libc::SIGTERM), "{done:?}"),
            Self::Pid1 => assert_eq!(done.code(), Some(143), "{done:?}"),
        }
        assert_eq!(done.stderr, "");
    }
}

#[test]
fn a_signal_ends_a_run_that_awaits_the_list_of_files() {
    for &place in Place::all() {
        for words in [
            &["-t", "d", "--files0-from=fifo"][..],
            &["-t", "d", "--files0-from=-"],
            &["-t", "d", "--validate=true", "--files0-from=fifo"],
        ] {
            for has_begun in [false, true] {
                let sandbox = Sandbox::new();
                let fifo = sandbox.fifo("fifo");
                sandbox.mkdir("d");
                sandbox.write("in", "new");
                let names = sandbox.names();
                let run = sandbox.atomwrite(words.to_vec()).stdin_held();
                let mut started = place.start(run);
                // Open to read as well, so that this does not wait for the other end.
                let mut writer = None;
                if has_begun && words.contains(&"--files0-from=-") {
                    started.0.feed(b"in\0");
                } else if has_begun {
                    let mut options = File::options();
                    let mut file = options.read(true).write(true).open(&fifo).unwrap();
                    file.write_all(b"in\0").unwrap();
                    wait_until("the list is read", || {
                        rustix::io::ioctl_fionread(&file).unwrap() == 0
                    });
                    writer = Some(file);
                }
                wait_until_it_sleeps(started.1);
                place.ends(started);
                drop(writer);
                assert_eq!(sandbox.names(), names, "{place:?} {words:?}");
            }
        }
    }
}

#[test]
fn a_signal_ends_a_run_that_waits_for_getent() {
    for &place in Place::all() {
        for words in [
            &["-o", "somename", "out"][..],
            &["-g", "somename", "-t", ".", "d/in"],
        ] {
            let sandbox = Sandbox::new();
            sandbox.mkdir("d");
            sandbox.write("d/in", "new");
            sandbox.write("out", "old");
            let names = sandbox.names();
            let id = sandbox.aside("id");
            let script = format!(
                "#!/bin/sh\necho $$ >'{0}.new' && mv '{0}.new' '{0}'\nexec sleep 600\n",
                id.display()
            );
            // By a shell, so that no descriptor of the test holds the program open for writing when another thread forks.
            let getent = sandbox.aside("getent");
            tool(
                "sh",
                [
                    "-c",
                    "printf %s \"$2\" >\"$1\" && chmod 755 \"$1\"",
                    "sh",
                    getent.to_str().unwrap(),
                    &script,
                ],
            );
            let mut path = sandbox.aside("").into_os_string();
            path.push(":");
            path.push(std::env::var_os("PATH").unwrap_or_default());
            let run = sandbox.atomwrite(words.to_vec()).env("PATH", path);
            let started = place.start(run.stdin("new"));
            wait_until("getent runs", || id.exists());
            place.ends(started);
            if place == Place::Usual {
                wait_until_gone(fs::read_to_string(&id).unwrap().trim());
            }
            assert_eq!(sandbox.names(), names, "{place:?} {words:?}");
            assert_eq!(sandbox.text("out"), "old");
        }
    }
}

// ---- Standard error that is full --------------------------------------------------------------------------------

/// A pipe that takes so many more pages and then no byte.
fn pipe_with_space(pages: usize) -> (OwnedFd, OwnedFd) {
    // A page of most machines.
    let page = 4096;
    let (reader, writer) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).unwrap();
    while rustix::io::write(&writer, &vec![b'x'; page]).is_ok() {}
    for _ in 0..pages {
        assert_eq!(rustix::io::read(&reader, &mut vec![0; page]), Ok(page));
    }
    let flags = rustix::fs::fcntl_getfl(&writer).unwrap();
    rustix::fs::fcntl_setfl(&writer, flags - rustix::fs::OFlags::NONBLOCK).unwrap();
    (reader, writer)
}

/// Tells whether a process waits until it can write to standard error: in a call on it, or in ppoll.
fn waits_to_write(id: u32) -> bool {
    let call = fs::read_to_string(format!("/proc/{id}/syscall")).unwrap_or_default();
    let mut words = call.split_whitespace();
    let number = words.next().and_then(|word| word.parse().ok());
    number == Some(libc::SYS_ppoll)
        || number == Some(libc::SYS_write) && words.next() == Some("0x2")
}

#[test]
fn a_signal_ends_a_run_whose_long_message_nothing_reads() {
    // Longer than the space, and than what a pipe takes at once.
    let source = "a/".repeat(20_000);
    for pages in [0, 1, 2, 3] {
        for signal in [Signal::TERM, Signal::INT] {
            let sandbox = Sandbox::new();
            sandbox.write("out", "old");
            let (_reader, writer) = pipe_with_space(pages);
            let run = sandbox.atomwrite(["--lock", &source, "out"]);
            let running = run.stderr_to(writer).start();
            wait_until("its message has to wait", || waits_to_write(running.id()));
            running.signal(signal);
            let done = running.wait();
            assert_eq!(done.signal(), Some(signal.as_raw()), "{pages} {done:?}");
            assert_eq!(sandbox.text("out"), "old");
            assert_eq!(sandbox.names(), ["out"]);
        }
    }
}

#[test]
fn a_long_message_is_whole() {
    let sandbox = Sandbox::new();
    sandbox.write("out", "old");
    let source = "a/".repeat(20_000);
    for options in [&[][..], &["--lock"]] {
        sandbox
            .atomwrite(options.iter().copied().chain([&*source, "out"]))
            .says(format!("cannot open '{source}': file name too long"))
            .fails(1);
    }
}

// ---- A signal that comes to both --------------------------------------------------------------------------------

#[track_caller]
fn wait_until_stopped(id: u32) {
    wait_until("it is stopped", || {
        let stat = fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
        let state = stat.rsplit(") ").next().unwrap_or_default();
        state.starts_with('T')
    });
}

/// The only child of a process, which has been started.
fn child_of(id: u32) -> String {
    let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap();
    children.trim().to_owned()
}

#[test]
fn a_signal_to_both_is_not_a_failure_of_the_program_that_runs() {
    let sleeps = ": >\"$ASIDE/up\"; exec sleep 600";
    for words in [
        &["--validate", sleeps, "in", "out"][..],
        &["--lock", "--validate", sleeps, "in", "out"],
        &["out", "--", "sh", "-c", sleeps],
    ] {
        for signal in [Signal::INT, Signal::TERM, Signal::HUP] {
            for typed in [false, true] {
                if typed && signal != Signal::INT {
                    continue;
                }
                let sandbox = Sandbox::new();
                sandbox.write("in", "new");
                sandbox.write("out", "old");
                let run = sandbox.atomwrite(words.to_vec());
                let run = run.env("ASIDE", sandbox.aside(""));
                let mut keyboard = None;
                let running = if typed {
                    let (ours, stdin) = terminal();
                    keyboard = Some(ours);
                    run.stdin_from(stdin).controlled().start()
                } else {
                    run.start()
                };
                wait_until("the program runs", || sandbox.aside("up").exists());
                let child = child_of(running.id());
                // It sees the end of the program and its own signal at once.
                running.signal(Signal::STOP);
                wait_until_stopped(running.id());
                match &mut keyboard {
                    Some(keyboard) => keyboard.write_all(b"\x03").unwrap(),
                    None => kill_process_group(running.pid(), signal).unwrap(),
                }
                wait_until_gone(&child);
                running.signal(Signal::CONT);
                let done = running.wait();
                assert_eq!(done.signal(), Some(signal.as_raw()), "{words:?} {done:?}");
                assert_eq!(done.stderr, "", "{words:?}");
                assert_eq!(sandbox.text("out"), "old");
                assert_eq!(sandbox.names(), ["in", "out"]);
            }
        }
    }
}

// ---- A lock file that is not accessible -------------------------------------------------------------------------

const WITH_AND_WITHOUT_INPLACE: [&[&str]; 4] = [
    &["--lock", "-q"],
    &["-a", "-q"],
    &["--lock", "-q", "--inplace=auto"],
    &["--lock", "-q", "--inplace=always"],
];

/// A sandbox with a lock file that its user cannot open, and a run there.
fn run_with_refused_lock<'s>(sandbox: &'s Sandbox, options: &[&str]) -> Run<'s> {
    sandbox.write_with_mode(lock_name("out"), "", 0);
    sandbox.write_with_mode("out", "old", 0o666);
    let run = sandbox.atomwrite(options.iter().copied().chain(["out"]));
    as_ordinary_user(sandbox, run).stdin("new")
}

/// Runs as a user who is not root, and to whom `out` belongs.
fn as_ordinary_user<'s>(sandbox: &Sandbox, run: Run<'s>) -> Run<'s> {
    if !can_be_others() {
        return run;
    }
    sandbox.chown("out", NOBODY, NOBODY);
    sandbox.give_to(NOBODY, NOBODY);
    run.user(NOBODY, NOBODY, &[])
}

#[test]
fn a_lock_file_that_is_refused_for_a_moment_is_waited_for() {
    needs_tool!("strace");
    for options in WITH_AND_WITHOUT_INPLACE {
        let sandbox = Sandbox::new();
        let lock = lock_name("out");
        let run = run_with_refused_lock(&sandbox, options);
        let mut stepped = Stepped::start(run, "openat", &lock);
        assert!(stepped.has_stopped());
        // It has just been refused.
        sandbox.chmod(&lock, 0o666);
        stepped.go_on();
        assert!(stepped.has_stopped(), "{options:?}: it has not tried again");
        let done = stepped.finish();
        assert_eq!((done.code(), &*done.stderr), (Some(0), ""), "{options:?}");
        let new = if options.contains(&"-a") {
            "oldnew"
        } else {
            "new"
        };
        assert_eq!(sandbox.text("out"), new);
        assert_eq!(sandbox.names(), ["out"]);
    }
}

#[test]
fn a_lock_file_that_stays_refused_fails_after_a_second() {
    for options in WITH_AND_WITHOUT_INPLACE {
        let sandbox = Sandbox::new();
        let run = run_with_refused_lock(&sandbox, options);
        let start = Instant::now();
        run.says("no lock file can be used beside it: permission denied")
            .fails(1);
        assert!(start.elapsed() >= Duration::from_millis(900), "{options:?}");
    }
}

#[test]
fn a_lock_file_that_is_refused_after_a_long_wait_is_waited_for_all_the_same() {
    needs_tool!("strace");
    for options in [&["--lock"][..], &["--lock", "--inplace=always"]] {
        let sandbox = Sandbox::new();
        let lock = lock_name("out");
        sandbox.write_with_mode("out", "old", 0o666);
        let holder = sandbox.atomwrite(["--lock", "out"]).stdin_held();
        let mut holder = as_ordinary_user(&sandbox, holder).start();
        holder.feed("held");
        let (read, write) = pipe_with(PipeFlags::CLOEXEC).unwrap();
        let run = sandbox.atomwrite(options.iter().copied().chain(["out"]));
        let run = as_ordinary_user(&sandbox, run.stdin("new").stderr_to(write));
        let mut stepped = Stepped::start(run, "openat", &lock);
        // It says after a second that it waits.
        while rustix::io::ioctl_fionread(&read).unwrap() == 0 {
            assert!(stepped.has_stopped());
            stepped.go_on();
        }
        assert!(stepped.has_stopped());
        // Another process makes a new lock file that is not accessible yet.
        sandbox.write_with_mode("refused", "", 0);
        fs::rename(sandbox.path("refused"), sandbox.path(&lock)).unwrap();
        stepped.go_on();
        assert!(stepped.has_stopped());
        sandbox.chmod(&lock, 0o666);
        stepped.go_on();
        assert!(stepped.has_stopped(), "{options:?}: it has not tried again");
        let done = stepped.finish();
        let mut said = String::new();
        File::from(read).read_to_string(&mut said).unwrap();
        assert_eq!(done.code(), Some(0), "{options:?} {said}");
        assert!(said.contains("waiting for the lock on 'out'"), "{said}");
        assert_eq!(sandbox.text("out"), "new");
        holder.signal(Signal::TERM);
        assert_eq!(holder.wait().signal(), Some(libc::SIGTERM));
        assert_eq!(sandbox.names(), ["out"]);
    }
}
