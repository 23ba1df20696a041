//! A SIGTERM soon ends a run that waits or computes, in every step, also as PID 1.

use std::fs::{self, File};
use std::io::Write;
use std::os::fd::OwnedFd;

use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use crate::environment::signals::{Place, wait_until_stopped};
use crate::harness::{
    Run, Running, Sandbox, linux_only, terminal, tool, wait_until, wait_until_gone,
    wait_until_it_sleeps,
};

// ---- A signal during a long step ----

#[test]
fn a_signal_ends_a_run_that_reads_the_content_back() {
    // A file of holes, which is copied at once but takes minutes to read.
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

/// Starts a run as it usually does, or as PID 1.
fn start(place: Place, run: Run<'_>) -> (Running, Pid) {
    let running = run.through(place.prefix()).start();
    let program = place.program(&running);
    (running, program)
}

/// Sends SIGTERM to the program, which must end by that, although its input does not.
#[track_caller]
fn ends(place: Place, (running, program): (Running, Pid)) {
    kill_process(program, Signal::TERM).unwrap();
    let done = running.wait_with_input_open();
    place.check_died_by(&done, Signal::TERM);
    assert_eq!(done.stderr, "");
}

#[test]
fn a_signal_ends_a_run_that_waits_for_the_list_of_files() {
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
                let mut started = start(place, run);
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
                ends(place, started);
                drop(writer);
                assert_eq!(sandbox.names(), names, "{place:?} {words:?}");
            }
        }
    }
}

#[test]
fn a_signal_ends_a_run_that_waits_for_getent() {
    linux_only!("getent(1)");
    for &place in Place::all() {
        for words in ["-o somename out", "-g somename -t . d/in"] {
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
            // By a shell, so that no descriptor of the test holds the program open for writing when
            // another thread forks.
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
            let run = sandbox.run(words).env("PATH", path);
            let started = start(place, run.stdin("new"));
            wait_until("getent runs", || id.exists());
            ends(place, started);
            if place == Place::Usual {
                wait_until_gone(fs::read_to_string(&id).unwrap().trim());
            }
            assert_eq!(sandbox.names(), names, "{place:?} {words:?}");
            assert_eq!(sandbox.text("out"), "old");
        }
    }
}

// ---- Standard error that is full ----

/// A pipe that has space for so many more pages and then for no byte.
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

/// Returns whether a process waits until it can write to standard error: in a call on it, or in
/// ppoll.
fn waits_to_write(id: u32) -> bool {
    let call = fs::read_to_string(format!("/proc/{id}/syscall")).unwrap_or_default();
    let mut words = call.split_whitespace();
    let number = words.next().and_then(|word| word.parse().ok());
    matches!(number, Some(libc::SYS_ppoll | libc::SYS_pselect6))
        || number == Some(libc::SYS_write) && words.next() == Some("0x2")
}

#[test]
fn a_signal_ends_a_run_whose_long_message_is_not_read() {
    // Longer than the space, and than what a pipe takes at once.
    let source = "a/".repeat(20_000);
    for pages in [0, 1, 2, 3] {
        for signal in [Signal::TERM, Signal::INT] {
            let sandbox = Sandbox::with("out", "old");
            let (_reader, writer) = pipe_with_space(pages);
            let run = sandbox.atomwrite(["--lock", &source, "out"]);
            let running = run.stderr_to(writer).start();
            wait_until("its message has to wait", || waits_to_write(running.id()));
            running.signal(signal);
            let done = running.wait();
            assert_eq!(done.signal(), Some(signal.as_raw()), "{pages} {done:?}");
            assert_eq!(sandbox.listing(), "out=old");
        }
    }
}

#[test]
fn a_long_message_is_written_completely() {
    let sandbox = Sandbox::with("out", "old");
    let source = "a/".repeat(20_000);
    for options in [&[][..], &["--lock"]] {
        sandbox
            .atomwrite(options.iter().copied().chain([&*source, "out"]))
            .fails_with(1, format!("cannot open '{source}': file name too long"));
    }
}

// ---- A signal to atomwrite and to its program ----

/// The only child of a process, which has been started.
fn child_of(id: u32) -> String {
    let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap();
    children.trim().to_owned()
}

#[test]
fn a_signal_to_both_is_not_reported_as_a_failure_of_the_program() {
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
                let sandbox = Sandbox::with("in", "new");
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
                wait_until_stopped(&running.id().to_string());
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
