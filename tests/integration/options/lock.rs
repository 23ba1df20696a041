//! `--lock`, and the lock of `--append`.
//!
//! `--lock` takes an exclusive lock before COMMAND starts or the input is read, and holds it until
//! the commit. So commands that read, change and write DEST run one after the other, and no update
//! is lost. The lock is a lock file beside the file that will be replaced. It works for a DEST that
//! does not exist yet and for several users. Only runs with `--lock` or `-a` respect it; flock(1)
//! on DEST does not. On local filesystems, the run removes the lock file after the commit. On FUSE
//! it stays, because removing it could lose updates.

use std::fs::{self, File};
use std::io::Read;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::Signal;

use crate::harness::{
    Call, Done, Run, Running, Sandbox, Witness, kill, lock_name, needs_tool, open, wait_until,
};

pub(crate) const ENDING: [Signal; 4] = [Signal::TERM, Signal::INT, Signal::HUP, Signal::QUIT];

/// Starts a run that holds the lock of `out`, and waits for input.
pub(crate) fn start_holder(sandbox: &Sandbox, option: &str) -> Running {
    let mut holder = sandbox.atomwrite([option, "out"]).stdin_held().start();
    holder.feed("held\n");
    holder
}

/// A run that waits for a lock.
pub(crate) struct Waiter {
    pub(crate) running: Running,
    pub(crate) stderr: File,
}

impl Waiter {
    /// Starts a run that has `-v`, and so says at once that it waits.
    #[track_caller]
    pub(crate) fn start(run: Run<'_>) -> Self {
        let (read, write) = pipe_with(PipeFlags::CLOEXEC).unwrap();
        let running = run.stderr_to(write).start();
        let waiter = Self {
            running,
            stderr: File::from(read),
        };
        wait_until("it says that it waits", || waiter.has_said_something());
        waiter
    }

    pub(crate) fn has_said_something(&self) -> bool {
        rustix::io::ioctl_fionread(&self.stderr).unwrap() > 0
    }

    /// Waits for the end.
    #[track_caller]
    pub(crate) fn wait(mut self) -> Done {
        let mut done = self.running.wait();
        self.stderr.read_to_string(&mut done.stderr).unwrap();
        assert!(
            done.stderr.contains("waiting for the lock on '"),
            "it has waited for something else: {done:?}"
        );
        done
    }
}

/// Waits until /proc/locks lists an exclusive lock of an open file description on a file. It is
/// there already, but the list is read in pieces, and misses a lock if others come and go.
pub(crate) fn wait_until_locked(sandbox: &Sandbox, name: &str) {
    let inode = format!(":{} ", sandbox.inode(name));
    let kind = if cfg!(atomwrite_posix) {
        "FLOCK"
    } else {
        "OFDLCK"
    };
    wait_until(&format!("{name} is locked"), || {
        let locks = fs::read_to_string("/proc/locks").unwrap();
        locks
            .lines()
            .any(|line| line.contains(&inode) && line.contains(kind) && line.contains("WRITE"))
    });
}

#[track_caller]
pub(crate) fn check_succeeded(running: impl IntoIterator<Item = Running>) {
    for one in running {
        let done = one.wait();
        assert_eq!(done.code(), Some(0), "{done:?}");
    }
}

/// Checks that a file has each of these lines once, in any order.
#[track_caller]
pub(crate) fn check_lines(text: &str, expected: impl IntoIterator<Item = String>) {
    let mut lines: Vec<_> = text.lines().map(str::to_owned).collect();
    let mut expected: Vec<_> = expected.into_iter().collect();
    lines.sort();
    expected.sort();
    assert_eq!(lines, expected);
}

// ---- Runs that wait for each other ----

#[test]
fn a_waiter_works_on_the_file_that_the_holder_wrote() {
    for old in ["old\n", ""] {
        let sandbox = Sandbox::holding(old);
        let first = start_holder(&sandbox, "-a");
        let append = sandbox.run("-v -a out").stdin("second\n");
        let second = Waiter::start(append);
        let reverse = sandbox.run("-v --lock out -- tac out");
        let third = Waiter::start(reverse);
        check_succeeded([first]);
        for waiter in [second, third] {
            let done = waiter.wait();
            assert_eq!(done.code(), Some(0), "{done:?}");
        }
        let expected = old.lines().chain(["held", "second"]);
        check_lines(&sandbox.text("out"), expected.map(str::to_owned));
        assert_eq!(sandbox.names(), ["out"]);
    }
}

#[test]
fn a_waiter_works_on_the_file_of_a_writer_without_a_lock() {
    for old in ["old\n", ""] {
        let sandbox = Sandbox::holding(old);
        let holder = start_holder(&sandbox, "-a");
        let append = sandbox.run("-v -a out").stdin("waiter\n");
        let waiter = Waiter::start(append);
        fs::write(sandbox.path("new"), "of another\n").unwrap();
        fs::rename(sandbox.path("new"), sandbox.path("out")).unwrap();
        holder.signal(Signal::TERM);
        assert_eq!(holder.wait().signal(), Some(libc::SIGTERM));
        assert_eq!(waiter.wait().code(), Some(0));
        assert_eq!(sandbox.listing(), "out=of another\nwaiter\n");
    }
}

#[test]
fn a_waiter_creates_a_file_that_was_removed() {
    let sandbox = Sandbox::with("out", "old\n");
    let holder = start_holder(&sandbox, "-a");
    let append = sandbox.run("-v -a out").stdin("new\n");
    let waiter = Waiter::start(append);
    fs::remove_file(sandbox.path("out")).unwrap();
    holder.signal(Signal::TERM);
    assert_eq!(holder.wait().signal(), Some(libc::SIGTERM));
    assert_eq!(waiter.wait().code(), Some(0));
    assert_eq!(sandbox.listing(), "out=new\n");
}

#[test]
fn nothing_is_read_run_or_opened_before_the_lock_is_held() {
    let sandbox = Sandbox::with("out", "old\n");
    let holder = start_holder(&sandbox, "--lock");
    let witness = Witness::new();
    let reader = sandbox.run("-v --lock out").stdin_from(witness.input());
    let reader = Waiter::start(reader);
    witness.has_not_been_read();
    let script = "echo >started; cat started";
    let runner = sandbox.atomwrite(["-v", "--lock", "out", "--", "sh", "-c", script]);
    let runner = Waiter::start(runner);
    // SOURCE is not there yet.
    let copier = Waiter::start(sandbox.run("-v --lock late out"));
    assert!(!sandbox.path("started").exists());
    sandbox.write("late", "late\n");
    check_succeeded([holder]);
    for waiter in [reader, runner, copier] {
        let done = waiter.wait();
        assert_eq!(done.code(), Some(0), "{done:?}");
    }
    assert_eq!(sandbox.names(), ["late", "out", "started"]);
}

#[test]
fn a_run_without_lock_does_not_wait() {
    let sandbox = Sandbox::with("out", "old\n");
    let holder = start_holder(&sandbox, "--lock");
    let names = sandbox.names();
    let run = sandbox.run("out").stdin("quick\n");
    run.leaves(names).succeeds();
    assert_eq!(sandbox.text("out"), "quick\n");
    assert_eq!(holder.wait().code(), Some(0));
    assert_eq!(sandbox.text("out"), "held\n");
}

#[test]
fn a_lock_of_another_program_on_dest_is_not_respected() {
    let sandbox = Sandbox::with("out", "old\n");
    let lock = open(sandbox.path("out"));
    flock(&lock, FlockOperation::LockExclusive).unwrap();
    sandbox.run("-a out").stdin("new\n").writes("old\nnew\n");
}

#[test]
fn locks_in_one_directory_do_not_wait_for_each_other() {
    let sandbox = Sandbox::new();
    let command = "echo inner | \"$1\" -a b && echo outer";
    let program = crate::harness::binary().to_str().unwrap();
    sandbox
        .atomwrite(["--lock", "a", "--", "sh", "-c", command, "sh", program])
        .leaves(["a", "b"])
        .succeeds();
    assert_eq!(sandbox.text("a"), "outer\n");
    assert_eq!(sandbox.text("b"), "inner\n");
}

#[test]
fn the_lock_is_of_the_file_that_will_be_replaced_however_its_path_is_typed() {
    let sandbox = Sandbox::new();
    sandbox.mkdir("far");
    sandbox.symlink("far/out", "link");
    let mut holder = sandbox.run("-a link").stdin_held().start();
    holder.feed("held\n");
    let lock = format!("far/{}", lock_name("out"));
    assert_eq!(sandbox.names_besides_drafts(), ["far", &lock, "link"]);
    // Where a directory ignores case, the last one is the same file.
    for dest in ["link", "far/out", "far/../far/out", "far/OUT"] {
        let done = sandbox.atomwrite(["--lock=0", dest, "--", "true"]).output();
        assert_eq!(done.code(), Some(125), "{dest}: {done:?}");
    }
    sandbox
        .run("--lock=0 --no-dereference link -- echo new")
        .succeeds();
    assert_eq!(holder.wait().code(), Some(0));
    assert_eq!(sandbox.names(), ["far", "far/out", "link"]);
}

#[test]
fn the_lock_is_held_until_the_commit_and_not_by_what_command_leaves_running() {
    let sandbox = Sandbox::with("out", "old\n");
    let program = crate::harness::binary().to_str().unwrap();
    let script = r#"
        "$0" -q --lock=0 out -- true && echo free || echo held
        sleep 60 >/dev/null 2>&1 &
        echo $! >pid"#;
    sandbox
        .atomwrite(["--lock", "out", "--", "sh", "-c", script, program])
        .hears("atomwrite: cannot lock 'out': it is locked by another process; 'out' is unchanged")
        .leaves(["out", "pid"])
        .succeeds();
    assert_eq!(sandbox.text("out"), "held\n");
    let free = sandbox.run("--lock=0 out -- echo new");
    let done = free.output();
    kill(&sandbox.text("pid"), Signal::TERM);
    assert_eq!(done.code(), Some(0), "{done:?}");
}

#[test]
fn the_lock_file_goes_after_the_commit() {
    needs_tool!("strace");
    let sandbox = Sandbox::with("out", "old\n");
    sandbox.write("src", "new\n");
    let trace = sandbox.run("--lock src out").traced();
    let name = lock_name("out");
    let lock = trace.places(|call| {
        let locks = call.args.contains("F_OFD_SETLK") || call.args.contains("LOCK_EX");
        locks && call.args.contains(&name)
    });
    let source = trace.only("SOURCE is opened", |call| {
        call.name.starts_with("open") && call.args.contains("\"src\"")
    });
    let rename = trace.only("rename", Call::renames);
    let removal = trace.only("the lock file is removed", |call| {
        call.name.starts_with("unlink") && call.args.contains(&name)
    });
    assert!(
        lock[0] < source && source < rename && rename < removal,
        "{trace}"
    );
}

// ---- SECONDS ----

#[test]
fn a_run_gives_up_when_the_time_is_over() {
    let sandbox = Sandbox::with("out", "old\n");
    let holder = start_holder(&sandbox, "-a");
    for (option, least) in [
        ("--lock=0", 0),
        ("--lock=0.0", 0),
        ("--lock=0.25", 250),
        ("--lock=0.5", 500),
        ("--lock=1", 1000),
    ] {
        let start = Instant::now();
        let locked = "cannot lock 'out': it is locked by another process";
        sandbox.refuse_each(&[
            (&format!("-q {option} out"), 1, locked),
            (&format!("-a -q {option} out"), 1, locked),
            (&format!("-q {option} out -- touch ran"), 125, locked),
        ]);
        assert!(start.elapsed() >= Duration::from_millis(3 * least));
    }
    check_succeeded([holder]);
    // It waits no longer than necessary.
    sandbox.run("--lock=1000 out -- echo new").succeeds();
    sandbox.run("--lock=0 out -- echo newer").succeeds();
    assert_eq!(sandbox.names(), ["out"]);
}

#[test]
fn seconds_are_a_decimal_number_after_an_equals_sign() {
    let sandbox = Sandbox::new();
    sandbox.refuse_each(&[
        ("--lock= out", 2, "--lock"),
        ("--lock=x out", 2, "--lock"),
        ("--lock=-1 out", 2, "--lock"),
        ("--lock=1s out", 2, "--lock"),
        ("--lock=nan out", 2, "--lock"),
        // The next word is SOURCE.
        (
            "--lock 5 out",
            1,
            "cannot open '5': no such file or directory; use --lock=5 to wait",
        ),
    ]);
    sandbox.write("5", "five\n");
    sandbox.run("--lock 5 out").writes("five\n");
}

#[test]
fn the_notice_comes_after_a_second_or_at_once_or_never() {
    let sandbox = Sandbox::new();
    let holder = start_holder(&sandbox, "-a");
    let start = |options: &[&str]| {
        let words = [options, &["-a", "out"]].concat();
        let (read, write) = pipe_with(PipeFlags::CLOEXEC).unwrap();
        let run = sandbox.atomwrite(words).stdin("new\n").stderr_to(write);
        let running = run.start();
        let stderr = File::from(read);
        Waiter { running, stderr }
    };
    let quiet = start(&["-q"]);
    let begin = Instant::now();
    let usual = start(&[]);
    wait_until("it says that it waits", || usual.has_said_something());
    assert!(begin.elapsed() >= Duration::from_millis(990));
    // It waits for longer than the other one.
    assert!(!quiet.has_said_something());
    check_succeeded([holder]);
    let done = usual.wait();
    assert_eq!(
        (done.code(), done.stderr.as_str()),
        (Some(0), "atomwrite: waiting for the lock on 'out'\n")
    );
    let Waiter {
        running,
        mut stderr,
    } = quiet;
    assert_eq!(running.wait().code(), Some(0));
    let mut said = String::new();
    stderr.read_to_string(&mut said).unwrap();
    assert_eq!(said, "");
}

// ---- What was read too early ----

#[test]
fn a_pipe_as_the_input_is_warned_about() {
    let sandbox = Sandbox::new();
    let warning = "atomwrite: warning: --lock does not protect what the command before the pipe has read; run that under the \
                   lock: atomwrite --lock DEST -- COMMAND\n";
    // `jq .n+=1 j | atomwrite --lock j`, ten at once.
    let running: Vec<_> = (0..10)
        .map(|n| {
            let run = sandbox.run("--lock j").stdin(format!("{n}\n"));
            run.start()
        })
        .collect();
    for one in running {
        let done = one.wait();
        assert_eq!(done.code(), Some(0), "{done:?}");
        let waited = done.stderr.contains("waiting for the lock on 'j'");
        assert!(waited || done.stderr == warning, "{done:?}");
    }
    assert_eq!(sandbox.names(), ["j"]);
    // Nothing else is.
    let file = Witness::new();
    sandbox.write("src", "new\n");
    for run in [
        sandbox.run("-q --lock j").stdin("new\n"),
        sandbox.run("-a j").stdin("new\n"),
        sandbox.run("--lock -a j").stdin("new\n"),
        sandbox.run("--lock src j").stdin("new\n"),
        sandbox.run("--lock j").stdin_from(file.input()),
        sandbox.run("--lock j -- echo new").stdin("new\n"),
        sandbox.run("j").stdin("new\n"),
    ] {
        run.succeeds();
    }
}

#[test]
fn a_standard_input_that_was_dest_until_another_run_replaced_it_is_refused() {
    let sandbox = Sandbox::with("out", "old\n");
    for replaced in [true, false] {
        let holder = start_holder(&sandbox, "-a");
        let old = open(sandbox.path("out"));
        let run = sandbox.run("-v --lock out").stdin_from(old);
        let waiter = Waiter::start(run);
        let before = sandbox.text("out");
        if replaced {
            check_succeeded([holder]);
        } else {
            holder.signal(Signal::TERM);
            drop(holder.wait());
        }
        let done = waiter.wait();
        if replaced {
            assert_eq!(done.code(), Some(3), "{done:?}");
            let why = "atomwrite: cannot write 'out': standard input is an old 'out', which another process replaced before this \
                       one had the lock; name it as an operand of COMMAND: atomwrite --lock 'out' -- COMMAND 'out'; 'out' is \
                       unchanged\n";
            assert!(done.stderr.ends_with(why), "{done:?}");
            assert_eq!(sandbox.text("out"), format!("{before}held\n"));
        } else {
            assert_eq!(done.code(), Some(0), "{done:?}");
            assert_eq!(sandbox.text("out"), before);
        }
        assert_eq!(sandbox.names(), ["out"]);
    }
    // With no other run, what is read is DEST.
    let old = open(sandbox.path("out"));
    sandbox
        .run("--lock out")
        .stdin_from(old)
        .writes("old\nheld\n");
}
