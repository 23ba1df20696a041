//! Errors and signals that are easily taken for the end of the input, or for a failure of a program that runs.
//!
//! No error of a read is taken for the end of the input, and a terminal that goes away is an error too. A SIGTERM ends a
//! run also while standard error is full. A signal that comes to atomwrite and to the program that it runs is not
//! reported as a failure of that program.

use std::ffi::OsString;
use std::fs::File;
use std::io::Write;
use std::os::fd::OwnedFd;

use rustix::pipe::{PipeFlags, pipe_with};

use crate::harness::{
    NOBODY, Run, Running, Sandbox, Strace, can_be_others, needs_tool, report_skipped, terminal,
    wait_until,
};

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
            // From the first splice from this pipe on, and from the second: after a part.
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
        .repeat(4)
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
