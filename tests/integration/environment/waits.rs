//! Errors and signals that are easily mistaken for the end of the input, or for a failure of a
//! program that runs.
//!
//! A read error is never taken for the end of the input, and a terminal that goes away is an error
//! too. A SIGTERM ends a run even if standard error is full. A signal that comes to atomwrite and
//! to the program that it runs is not reported as a failure of that program.

use std::ffi::OsString;
use std::fs::File;
use std::io::Write;
use std::os::fd::OwnedFd;

use rustix::pipe::{PipeFlags, pipe_with};

use crate::harness::{
    NOBODY, Run, Sandbox, Strace, can_be_others, each, linux_only, needs_tool, report_skipped,
    terminal, wait_until,
};

/// By what standard input cannot be opened anew, so that it is read from a descriptor that others
/// share.
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

    /// Gives the sandbox and the run to the user, and makes strace refuse the open. `strace`
    /// injects more.
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
                (run.by_nobody(), strace)
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

/// Where the first splice fails: at the start, or when a part of the input was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Failing {
    Start,
    Part,
}

#[test]
fn a_pipe_that_cannot_be_spliced_is_read_whole() {
    linux_only!("splice");
    needs_tool!("strace");
    let kinds = Shared::all();
    let mut cases = Vec::new();
    for error in ["EPERM", "EINVAL", "ENOSYS", "ENOMEM", "EIO"] {
        for &shared in kinds {
            cases.push((Some(shared), error, Failing::Start));
        }
        // A process that strace runs already cannot be traced by another strace.
        let shared = can_be_others().then_some(Shared::OtherUser);
        cases.push((shared, error, Failing::Part));
    }
    each(cases, |(shared, error, from)| {
        let sandbox = Sandbox::with("out", "old");
        let (read, write) = pipe_with(PipeFlags::CLOEXEC).unwrap();
        let inode = rustix::fs::fstat(&read).unwrap().st_ino;
        let run = sandbox.run("--lock -q out").stdin_from(read);
        let strace = Strace::new()
            .at(format!("pipe:[{inode}]"))
            .inject(&format!("splice:error={error}"));
        let (run, strace) = match shared {
            Some(shared) => shared.apply(&sandbox, run, strace),
            None => (run, strace),
        };
        let parts = [&[b'x'; 10_000][..], &[b'y'; 10_001]];
        rustix::io::write(&write, parts[0]).unwrap();
        let was_read = || rustix::io::ioctl_fionread(&write).unwrap() == 0;
        let (running, attached) = match from {
            Failing::Start => (run.under(&strace).start(), None),
            Failing::Part => {
                let running = run.start();
                wait_until("the first part was read", was_read);
                let attached = strace.attach(running.id());
                (running, Some(attached))
            }
        };
        // The open that was refused counts too.
        let has_failed = || strace.injected() > usize::from(shared == Some(Shared::Injected));
        wait_until("it was read, or it has given up", || {
            has_failed() || was_read()
        });
        // EPIPE: it has given up.
        drop(File::from(write).write_all(parts[1]));
        let done = running.wait();
        drop(attached);
        assert_eq!((done.code(), &*done.stderr), (Some(0), ""));
        assert!(sandbox.read("out") == parts.concat());
        assert_eq!(sandbox.names(), ["out"]);
        assert!(has_failed(), "no splice has failed");
    });
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
        // What the kernel answers to the read, an error or the end of the input, is a matter of
        // luck.
        for (options, controlled) in [
            (&["--lock"][..], true),
            (&["--lock"], false),
            (&["-a"], true),
            (&["-a"], false),
        ]
        .repeat(4)
        {
            let sandbox = Sandbox::with("out", "old");
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
            assert_eq!(sandbox.listing(), "out=old");
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
        // The name of a file, which could be the whole list; Ctrl-D within a line is no end of the
        // input.
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
