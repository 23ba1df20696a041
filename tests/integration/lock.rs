//! `--lock` and what `--append` takes of it.
//!
//! What the contract says: `--lock` takes an exclusive lock before COMMAND starts or the input is read, and holds it until
//! the commit, so that commands that read, change and write run one after the other and none is lost. The lock is a lock
//! file beside the file that will be replaced. It works for a DEST that does not exist yet and for several users. Only runs
//! with `--lock` or `-a` respect it; flock(1) on DEST does not. On local filesystems the lock file goes after the commit; on
//! FUSE it stays, because without it updates could be lost.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixListener;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::Signal;

use crate::mounts::{Mount, needs_fuse, needs_mounts};
use crate::sandbox::{
    Done, NOBODY, Run, Running, Sandbox, Witness, kill, lock_name, needs_root, needs_tool, open,
    wait_until,
};
use crate::strace::{Call, Strace};

const ENDING: [Signal; 4] = [Signal::TERM, Signal::INT, Signal::HUP, Signal::QUIT];

/// Starts a run that holds the lock of `out`, and waits for input.
fn start_holder(sandbox: &Sandbox, option: &str) -> Running {
    let mut holder = sandbox.atomwrite([option, "out"]).stdin_held().start();
    holder.feed("held\n");
    holder
}

/// A run that waits for a lock.
struct Waiter {
    running: Running,
    stderr: File,
}

impl Waiter {
    /// Starts a run that has `-v`, and so says at once that it waits.
    #[track_caller]
    fn start(run: Run<'_>) -> Self {
        let (read, write) = pipe_with(PipeFlags::CLOEXEC).unwrap();
        let running = run.stderr_to(write).start();
        let waiter = Self {
            running,
            stderr: File::from(read),
        };
        wait_until("it says that it waits", || waiter.has_said_something());
        waiter
    }

    fn has_said_something(&self) -> bool {
        rustix::io::ioctl_fionread(&self.stderr).unwrap() > 0
    }

    /// Waits for the end.
    #[track_caller]
    fn wait(mut self) -> Done {
        let mut done = self.running.wait();
        self.stderr.read_to_string(&mut done.stderr).unwrap();
        assert!(
            done.stderr.contains("waiting for the lock on '"),
            "it has waited for something else: {done:?}"
        );
        done
    }
}

/// Waits until /proc/locks lists an exclusive lock of an open file description on a file. It is there already, but the list
/// is read in pieces, and misses a lock if others come and go.
fn wait_until_locked(sandbox: &Sandbox, name: &str) {
    let inode = format!(":{} ", sandbox.inode(name));
    wait_until(&format!("{name} is locked"), || {
        let locks = fs::read_to_string("/proc/locks").unwrap();
        locks
            .lines()
            .any(|line| line.contains(&inode) && line.contains("OFDLCK") && line.contains("WRITE"))
    });
}

#[track_caller]
fn check_succeeded(running: impl IntoIterator<Item = Running>) {
    for one in running {
        let done = one.wait();
        assert_eq!(done.code(), Some(0), "{done:?}");
    }
}

/// Checks that a file has each of these lines once, in any order.
#[track_caller]
fn check_lines(text: &str, expected: impl IntoIterator<Item = String>) {
    let mut lines: Vec<_> = text.lines().map(str::to_owned).collect();
    let mut expected: Vec<_> = expected.into_iter().collect();
    lines.sort();
    expected.sort();
    assert_eq!(lines, expected);
}

// ---- One after the other ----------------------------------------------------------------------------------------

#[test]
fn a_waiter_works_on_what_the_holder_has_made() {
    for existing in [true, false] {
        let sandbox = Sandbox::new();
        if existing {
            sandbox.write("out", "old\n");
        }
        let first = start_holder(&sandbox, "-a");
        let append = sandbox.atomwrite(["-v", "-a", "out"]).stdin("second\n");
        let second = Waiter::start(append);
        let reverse = sandbox.atomwrite(["-v", "--lock", "out", "--", "tac", "out"]);
        let third = Waiter::start(reverse);
        check_succeeded([first]);
        for waiter in [second, third] {
            let done = waiter.wait();
            assert_eq!(done.code(), Some(0), "{done:?}");
        }
        let old = existing.then_some("old");
        let expected = old.into_iter().chain(["held", "second"]);
        check_lines(&sandbox.text("out"), expected.map(str::to_owned));
        assert_eq!(sandbox.names(), ["out"]);
    }
}

#[test]
fn a_waiter_takes_what_a_writer_without_a_lock_has_made() {
    for existing in [true, false] {
        let sandbox = Sandbox::new();
        if existing {
            sandbox.write("out", "old\n");
        }
        let holder = start_holder(&sandbox, "-a");
        let append = sandbox.atomwrite(["-v", "-a", "out"]).stdin("waiter\n");
        let waiter = Waiter::start(append);
        fs::write(sandbox.path("new"), "of another\n").unwrap();
        fs::rename(sandbox.path("new"), sandbox.path("out")).unwrap();
        holder.signal(Signal::TERM);
        assert_eq!(holder.wait().signal(), Some(libc::SIGTERM));
        assert_eq!(waiter.wait().code(), Some(0));
        assert_eq!(sandbox.text("out"), "of another\nwaiter\n");
        assert_eq!(sandbox.names(), ["out"]);
    }
}

#[test]
fn a_waiter_makes_a_file_that_was_removed_anew() {
    let sandbox = Sandbox::new();
    sandbox.write("out", "old\n");
    let holder = start_holder(&sandbox, "-a");
    let append = sandbox.atomwrite(["-v", "-a", "out"]).stdin("new\n");
    let waiter = Waiter::start(append);
    fs::remove_file(sandbox.path("out")).unwrap();
    holder.signal(Signal::TERM);
    assert_eq!(holder.wait().signal(), Some(libc::SIGTERM));
    assert_eq!(waiter.wait().code(), Some(0));
    assert_eq!(sandbox.text("out"), "new\n");
    assert_eq!(sandbox.names(), ["out"]);
}

#[test]
fn nothing_is_read_run_or_opened_before_the_lock_is_held() {
    let sandbox = Sandbox::new();
    sandbox.write("out", "old\n");
    let holder = start_holder(&sandbox, "--lock");
    let witness = Witness::new();
    let reader = sandbox
        .atomwrite(["-v", "--lock", "out"])
        .stdin_from(witness.input());
    let reader = Waiter::start(reader);
    witness.has_not_been_read();
    let script = "echo >started; cat started";
    let runner = sandbox.atomwrite(["-v", "--lock", "out", "--", "sh", "-c", script]);
    let runner = Waiter::start(runner);
    // SOURCE is not there yet.
    let copier = Waiter::start(sandbox.atomwrite(["-v", "--lock", "late", "out"]));
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
    let sandbox = Sandbox::new();
    sandbox.write("out", "old\n");
    let holder = start_holder(&sandbox, "--lock");
    let names = sandbox.names();
    let run = sandbox.atomwrite(["out"]).stdin("quick\n");
    run.leaves(names).succeeds();
    assert_eq!(sandbox.text("out"), "quick\n");
    assert_eq!(holder.wait().code(), Some(0));
    assert_eq!(sandbox.text("out"), "held\n");
}

#[test]
fn a_lock_of_another_program_on_dest_is_not_respected() {
    let sandbox = Sandbox::new();
    sandbox.write("out", "old\n");
    let lock = open(sandbox.path("out"));
    flock(&lock, FlockOperation::LockExclusive).unwrap();
    sandbox.atomwrite(["-a", "out"]).stdin("new\n").succeeds();
    assert_eq!(sandbox.text("out"), "old\nnew\n");
}

#[test]
fn locks_in_one_directory_do_not_wait_for_each_other() {
    let sandbox = Sandbox::new();
    let command = "echo inner | \"$1\" -a b && echo outer";
    let program = crate::sandbox::binary().to_str().unwrap();
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
    let mut holder = sandbox.atomwrite(["-a", "link"]).stdin_held().start();
    holder.feed("held\n");
    let lock = format!("far/{}", lock_name("out"));
    assert_eq!(sandbox.names(), ["far", &lock, "link"]);
    // Where a directory ignores case, the last one is the same file.
    for dest in ["link", "far/out", "far/../far/out", "far/OUT"] {
        let done = sandbox.atomwrite(["--lock=0", dest, "--", "true"]).output();
        assert_eq!(done.code(), Some(125), "{dest}: {done:?}");
    }
    sandbox
        .atomwrite(["--lock=0", "--no-dereference", "link", "--", "echo", "new"])
        .succeeds();
    assert_eq!(holder.wait().code(), Some(0));
    assert_eq!(sandbox.names(), ["far", "far/out", "link"]);
}

#[test]
fn the_lock_is_held_until_the_commit_and_not_by_what_command_leaves_running() {
    let sandbox = Sandbox::new();
    sandbox.write("out", "old\n");
    let program = crate::sandbox::binary().to_str().unwrap();
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
    let free = sandbox.atomwrite(["--lock=0", "out", "--", "echo", "new"]);
    let done = free.output();
    kill(&sandbox.text("pid"), Signal::TERM);
    assert_eq!(done.code(), Some(0), "{done:?}");
}

#[test]
fn the_lock_file_goes_after_the_commit() {
    needs_tool!("strace");
    let sandbox = Sandbox::new();
    sandbox.write("out", "old\n");
    sandbox.write("src", "new\n");
    let strace = Strace::new();
    sandbox
        .atomwrite(["--lock", "src", "out"])
        .through(strace.command())
        .succeeds();
    let trace = strace.trace();
    let name = lock_name("out");
    let lock = trace.places(|call| {
        call.is("fcntl") && call.args.contains("F_OFD_SETLK") && call.args.contains(&name)
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

// ---- SECONDS ----------------------------------------------------------------------------------------------------

#[test]
fn a_run_gives_up_when_the_time_is_over() {
    let sandbox = Sandbox::new();
    sandbox.write("out", "old\n");
    let holder = start_holder(&sandbox, "-a");
    for (option, least) in [
        ("--lock=0", 0),
        ("--lock=0.0", 0),
        ("--lock=0.25", 250),
        ("--lock=0.5", 500),
        ("--lock=1", 1000),
    ] {
        let start = Instant::now();
        for append in [&[][..], &["-a"]] {
            let witness = Witness::new();
            let words = [append, &["-q", option, "out"]].concat();
            sandbox
                .atomwrite(words)
                .stdin_from(witness.input())
                .says("cannot lock 'out': it is locked by another process")
                .fails(1);
            witness.has_not_been_read();
        }
        assert!(start.elapsed() >= Duration::from_millis(2 * least));
        sandbox
            .atomwrite(["-q", option, "out", "--", "touch", "ran"])
            .says("cannot lock 'out': it is locked by another process")
            .fails(125);
    }
    check_succeeded([holder]);
    // And waits no longer than it must.
    sandbox
        .atomwrite(["--lock=1000", "out", "--", "echo", "new"])
        .succeeds();
    sandbox
        .atomwrite(["--lock=0", "out", "--", "echo", "newer"])
        .succeeds();
    assert_eq!(sandbox.names(), ["out"]);
}

#[test]
fn seconds_are_a_decimal_number_behind_an_equals_sign() {
    let sandbox = Sandbox::new();
    for option in [
        "--lock=",
        "--lock=x",
        "--lock=-1",
        "--lock=1s",
        "--lock=nan",
    ] {
        let witness = Witness::new();
        sandbox
            .atomwrite([option, "out"])
            .stdin_from(witness.input())
            .says("--lock")
            .fails(2);
        witness.has_not_been_read();
    }
    // The next word is SOURCE.
    sandbox
        .atomwrite(["--lock", "5", "out"])
        .says("'5'")
        .says("--lock=5")
        .fails(1);
    sandbox.write("5", "five\n");
    sandbox.atomwrite(["--lock", "5", "out"]).succeeds();
    assert_eq!(sandbox.text("out"), "five\n");
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

// ---- What was read too early ------------------------------------------------------------------------------------

#[test]
fn a_pipe_as_the_input_is_warned_about() {
    let sandbox = Sandbox::new();
    let warning = |done: &Done| {
        let lines: Vec<_> = done.stderr.lines().collect();
        assert_eq!(lines.len(), 1, "{done:?}");
        assert!(lines[0].starts_with("atomwrite: warning: "), "{done:?}");
        assert!(lines[0].contains("--lock"), "{done:?}");
        assert!(lines[0].contains("-- COMMAND"), "{done:?}");
    };
    // `jq .n+=1 j | atomwrite --lock j`, ten at once.
    let running: Vec<_> = (0..10)
        .map(|n| {
            let run = sandbox.atomwrite(["--lock", "j"]).stdin(format!("{n}\n"));
            run.start()
        })
        .collect();
    for one in running {
        let done = one.wait();
        assert_eq!(done.code(), Some(0), "{done:?}");
        let locked = "waiting for the lock on 'j'";
        if !done.stderr.contains(locked) {
            warning(&done);
        }
    }
    assert_eq!(sandbox.names(), ["j"]);
    // Nothing else is.
    let file = Witness::new();
    sandbox.write("src", "new\n");
    for run in [
        sandbox.atomwrite(["-q", "--lock", "j"]).stdin("new\n"),
        sandbox.atomwrite(["-a", "j"]).stdin("new\n"),
        sandbox.atomwrite(["--lock", "-a", "j"]).stdin("new\n"),
        sandbox.atomwrite(["--lock", "src", "j"]).stdin("new\n"),
        sandbox.atomwrite(["--lock", "j"]).stdin_from(file.input()),
        sandbox
            .atomwrite(["--lock", "j", "--", "echo", "new"])
            .stdin("new\n"),
        sandbox.atomwrite(["j"]).stdin("new\n"),
    ] {
        run.succeeds();
    }
}

#[test]
fn a_standard_input_that_was_dest_and_is_not_any_more_is_refused() {
    let sandbox = Sandbox::new();
    sandbox.write("out", "old\n");
    for replaced in [true, false] {
        let holder = start_holder(&sandbox, "-a");
        let old = open(sandbox.path("out"));
        let run = sandbox.atomwrite(["-v", "--lock", "out"]).stdin_from(old);
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
            assert!(done.stderr.contains("standard input"), "{done:?}");
            assert!(done.stderr.ends_with("; 'out' is unchanged\n"), "{done:?}");
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
        .atomwrite(["--lock", "out"])
        .stdin_from(old)
        .succeeds();
    assert_eq!(sandbox.text("out"), "old\nheld\n");
}

// ---- The lock file ----------------------------------------------------------------------------------------------

#[test]
fn the_lock_file_is_hidden_empty_and_locked_for_writing() {
    let sandbox = Sandbox::new();
    for option in ["--lock", "-a"] {
        let holder = start_holder(&sandbox, option);
        let name = lock_name("out");
        assert_eq!(sandbox.names(), [name.as_str()], "{option}");
        assert_eq!(sandbox.text(&name), "");
        wait_until_locked(&sandbox, &name);
        holder.signal(Signal::TERM);
        drop(holder.wait());
        assert!(sandbox.names().is_empty());
    }
}

#[test]
fn the_lock_file_is_for_others_only_where_others_may_write() {
    for (mode, expected) in [
        (0o755, 0o600),
        (0o700, 0o600),
        (0o775, 0o666),
        (0o777, 0o666),
        (0o1777, 0o666),
    ] {
        for umask in [0o022, 0o077, 0o777] {
            let sandbox = Sandbox::new();
            sandbox.mkdir("d");
            sandbox.chmod("d", mode);
            let run = sandbox.atomwrite(["-a", "d/out"]).umask(umask);
            let mut holder = run.stdin_held().start();
            holder.feed("held\n");
            let name = format!("d/{}", lock_name("out"));
            assert_eq!(sandbox.mode(&name), expected, "{mode:o} {umask:o}");
            check_succeeded([holder]);
            assert_eq!(sandbox.names(), ["d", "d/out"]);
        }
    }
}

#[test]
fn the_lock_file_is_for_the_owner_of_the_directory_too() {
    needs_root!();
    for (user, expected) in [(NOBODY, 0o600), (0, 0o666)] {
        let sandbox = Sandbox::new();
        sandbox.give_to(NOBODY, NOBODY);
        let run = sandbox.atomwrite(["-a", "out"]).user(user, user, &[]);
        let mut holder = run.umask(0o077).stdin_held().start();
        holder.feed("held\n");
        assert_eq!(sandbox.mode(lock_name("out")), expected, "{user}");
        assert_eq!(sandbox.owner(lock_name("out")), (user, user));
        check_succeeded([holder]);
    }
}

#[test]
fn no_run_that_ends_leaves_its_lock_file() {
    for existing in [true, false] {
        let sandbox = Sandbox::new();
        sandbox.write("src", "new\n");
        if existing {
            sandbox.write("out", "old\n");
        }
        sandbox
            .atomwrite(["--lock", "out", "--", "sh", "-c", "echo half; exit 7"])
            .says("status 7")
            .fails(7);
        sandbox
            .atomwrite(["--lock", "missing", "out"])
            .says("'missing'")
            .fails(1);
        sandbox
            .atomwrite(["--lock", "--sha256", &"0".repeat(64), "src", "out"])
            .says("'out'")
            .fails(3);
        sandbox
            .atomwrite(["--lock", "--validate", "false", "src", "out"])
            .says("'out'")
            .fails(3);
        sandbox.atomwrite(["--lock", "src", "out"]).succeeds();
        sandbox
            .atomwrite(["-C", "--lock", "src", "out"])
            .leaves_alone(0);
        sandbox
            .atomwrite(["-n", "--lock", "src", "out"])
            .says("--no-clobber")
            .fails(3);
    }
}

#[test]
fn a_signal_to_a_waiter_leaves_nothing_of_it() {
    for existing in [true, false] {
        for signal in ENDING {
            let sandbox = Sandbox::new();
            if existing {
                sandbox.write("out", "old\n");
            }
            let holder = start_holder(&sandbox, "-a");
            let names = sandbox.names();
            let append = sandbox.atomwrite(["-v", "-a", "out"]).stdin("waiter\n");
            let waiter = Waiter::start(append);
            waiter.running.signal(signal);
            let done = waiter.wait();
            assert_eq!(done.signal(), Some(signal.as_raw()), "{done:?}");
            assert_eq!(sandbox.names(), names);
            check_succeeded([holder]);
            let old = if existing { "old\n" } else { "" };
            assert_eq!(sandbox.text("out"), format!("{old}held\n"));
            assert_eq!(sandbox.names(), ["out"]);
        }
    }
}

#[test]
fn a_signal_to_a_holder_leaves_nothing_and_lets_the_next_one_go_on() {
    for existing in [true, false] {
        for signal in ENDING.into_iter().chain([Signal::KILL]) {
            let sandbox = Sandbox::new();
            if existing {
                sandbox.write("out", "old\n");
            }
            let before = sandbox.names();
            let holder = start_holder(&sandbox, "-a");
            holder.signal(signal);
            assert_eq!(holder.wait().signal(), Some(signal.as_raw()));
            if signal == Signal::KILL {
                assert!(sandbox.path(lock_name("out")).exists());
            } else {
                assert_eq!(sandbox.names(), before);
            }
            sandbox
                .atomwrite(["-a", "out"])
                .stdin("next\n")
                .leaves(["out"])
                .succeeds();
            let old = if existing { "old\n" } else { "" };
            assert_eq!(sandbox.text("out"), format!("{old}next\n"));
        }
    }
}

#[test]
fn waiters_go_on_when_the_holder_is_killed() {
    for existing in [true, false] {
        let sandbox = Sandbox::new();
        if existing {
            sandbox.write("out", "old\n");
        }
        let holder = start_holder(&sandbox, "-a");
        let waiters: Vec<_> = (0..5)
            .map(|waiter| {
                let append = sandbox.atomwrite(["-v", "-a", "out"]);
                Waiter::start(append.stdin(format!("{waiter}\n")))
            })
            .collect();
        holder.signal(Signal::KILL);
        assert_eq!(holder.wait().signal(), Some(libc::SIGKILL));
        for waiter in waiters {
            let done = waiter.wait();
            assert_eq!(done.code(), Some(0), "{done:?}");
        }
        let old = existing.then(|| "old".to_owned());
        let expected = (0..5).map(|waiter| waiter.to_string()).chain(old);
        check_lines(&sandbox.text("out"), expected);
        assert_eq!(sandbox.names(), ["out"]);
    }
}

#[test]
fn what_is_no_lock_file_is_not_touched_under_its_name() {
    let sandbox = Sandbox::new();
    sandbox.write("victim", "theirs");
    let name = lock_name("out");
    let planted: [(&str, &dyn Fn()); 5] = [
        ("a FIFO", &|| drop(sandbox.fifo(&name))),
        ("a directory", &|| drop(sandbox.mkdir(&name))),
        ("a link", &|| drop(sandbox.symlink("victim", &name))),
        ("a dangling link", &|| drop(sandbox.symlink("no", &name))),
        ("a socket", &|| {
            drop(UnixListener::bind(sandbox.path(&name)).unwrap());
        }),
    ];
    for (what, plant) in planted {
        plant();
        for words in [&["-a", "out"][..], &["--lock=0", "-q", "out"]] {
            let witness = Witness::new();
            // The harness compares all files with what they were.
            let done = sandbox
                .atomwrite(words.to_vec())
                .stdin_from(witness.input())
                .says("cannot lock 'out'")
                .fails(1);
            witness.has_not_been_read();
            assert!(!done.stderr.contains("another process"), "{what}: {done:?}");
        }
        let path = sandbox.path(&name);
        fs::remove_file(&path)
            .or_else(|_| fs::remove_dir(&path))
            .unwrap();
    }
}

#[test]
fn only_a_file_that_this_run_has_made_gets_another_mode() {
    needs_root!();
    for mode in [0o777, 0o1777] {
        let sandbox = Sandbox::new();
        sandbox.chmod("", mode);
        // A user who may write to the directory can give a file of root's the lock's name.
        sandbox.write_with_mode("secret", "of root", 0o600);
        let secret = open(sandbox.path("secret"));
        fs::rename(sandbox.path("secret"), sandbox.path(lock_name("out"))).unwrap();
        let running: Vec<_> = (0..4)
            .map(|n| {
                let run = sandbox.atomwrite(["-a", "out"]).stdin(format!("{n}\n"));
                run.umask(0o077).start()
            })
            .collect();
        check_succeeded(running);
        let stat = secret.metadata().unwrap();
        assert_eq!(stat.mode() & 0o7777, 0o600, "{mode:o}");
        assert_eq!(std::io::read_to_string(secret).unwrap(), "of root");
        check_lines(&sandbox.text("out"), (0..4).map(|n| n.to_string()));
    }
}

#[test]
fn a_lock_file_of_another_user_is_opened_and_not_made() {
    // fs.protected_regular refuses O_CREAT on another user's file in a sticky directory, even to root.
    needs_root!();
    needs_tool!("strace");
    let sandbox = Sandbox::new();
    sandbox.chmod("", 0o1777);
    let run = sandbox.atomwrite(["-a", "out"]).user(NOBODY, NOBODY, &[]);
    let mut holder = run.umask(0o077).stdin_held().start();
    holder.feed("held\n");
    holder.signal(Signal::KILL);
    drop(holder.wait());
    let name = lock_name("out");
    assert_eq!(sandbox.names(), [name.as_str()]);
    let creates = |call: &Call| {
        call.name.starts_with("open") && call.args.contains(&name) && call.args.contains("O_CREAT")
    };
    for user in [1234, 0] {
        let strace = Strace::new();
        let done = sandbox
            .atomwrite(["-a", "OUT"])
            .stdin("new\n")
            .user(user, user, &[])
            .through(strace.command())
            .output();
        assert_eq!(done.code(), Some(0), "{user}: {done:?}");
        let trace = strace.trace();
        assert_eq!(trace.count(creates), 0, "{trace}");
        assert_eq!(sandbox.text("OUT"), "new\n");
        fs::remove_file(sandbox.path("OUT")).unwrap();
        // It stays until its owner or root comes.
        assert_eq!(sandbox.path(&name).exists(), user != 0);
    }
    // One that is made never is another's.
    let strace = Strace::new();
    sandbox
        .atomwrite(["-a", "out"])
        .stdin("new\n")
        .through(strace.command())
        .succeeds();
    let trace = strace.trace();
    let made = trace.only("the lock file is made", creates);
    assert!(trace.own()[made].args.contains("O_EXCL"), "{trace}");
}

#[test]
fn where_there_are_no_locks_a_run_says_so_and_does_nothing() {
    needs_tool!("strace");
    for error in ["ENOLCK", "EOPNOTSUPP", "EINVAL"] {
        for existing in [true, false] {
            let sandbox = Sandbox::new();
            if existing {
                sandbox.write("out", "old\n");
            }
            let strace = Strace::new()
                .at(sandbox.path(lock_name("out")))
                .inject(&format!("fcntl:error={error}"));
            let witness = Witness::new();
            let done = sandbox
                .atomwrite(["-a", "out"])
                .stdin_from(witness.input())
                .through(strace.command())
                .output();
            assert_eq!(done.code(), Some(1), "{error}: {done:?}");
            assert!(done.stderr.contains("cannot lock 'out'"), "{done:?}");
            witness.has_not_been_read();
            assert_eq!(sandbox.path("out").exists(), existing);
            assert!(strace.injected() > 0, "{error}");
        }
    }
}

// ---- In place ---------------------------------------------------------------------------------------------------

#[test]
fn what_is_overwritten_in_place_is_locked_itself_too() {
    let sandbox = Sandbox::new();
    sandbox.write("out", "old\n");
    let words = ["-q", "--lock", "--inplace=always", "out"];
    let mut holder = sandbox.atomwrite(words).stdin_held().start();
    holder.feed("held\n");
    let name = lock_name("out");
    assert_eq!(sandbox.names(), [name.as_str(), "out"]);
    for file in ["out", &name] {
        wait_until_locked(&sandbox, file);
    }
    // Those that replace it respect the lock as well.
    sandbox
        .atomwrite(["--lock=0", "out", "--", "echo", "new"])
        .says("locked by another process")
        .fails(125);
    check_succeeded([holder]);
    assert_eq!(sandbox.text("out"), "held\n");
    assert_eq!(sandbox.names(), ["out"]);
}

#[test]
fn a_user_who_cannot_write_to_the_directory_locks_dest_only() {
    needs_root!();
    let sandbox = Sandbox::new();
    sandbox.write_with_mode("out", "old\n", 0o666);
    let run = |option: &'static str| {
        let words = ["-q", option, "--inplace", "out"];
        sandbox.atomwrite(words).user(NOBODY, NOBODY, &[])
    };
    let mut holder = run("--lock").stdin_held().start();
    holder.feed("held\n");
    assert_eq!(sandbox.names(), ["out"]);
    let witness = Witness::new();
    run("--lock=0")
        .stdin_from(witness.input())
        .says("cannot lock 'out': it is locked by another process")
        .fails(1);
    witness.has_not_been_read();
    check_succeeded([holder]);
    assert_eq!(sandbox.text("out"), "held\n");
    assert_eq!(sandbox.names(), ["out"]);
}

// ---- Many at once -----------------------------------------------------------------------------------------------

/// Starts 40 that count in `n`, of which some are killed, and checks what is left.
#[track_caller]
fn count_with_kills(sandbox: &Sandbox, options: &[&str], lock_file_stays: bool) {
    const COUNTERS: usize = 40;
    let count = "n=$(cat n 2>/dev/null); echo $((n + 1))";
    let words = [options, &["--lock", "n", "--", "sh", "-c", count]].concat();
    let running: Vec<_> = (0..COUNTERS)
        .map(|_| sandbox.atomwrite(words.iter().copied()).start())
        .collect();
    // Holders and waiters.
    let killed = |counter: usize| counter % 8 == 3;
    for (counter, one) in running.iter().enumerate() {
        if killed(counter) {
            one.signal(Signal::KILL);
        }
    }
    let mut sure = 0;
    for one in running {
        let done = one.wait();
        if done.signal().is_none() {
            assert_eq!(done.code(), Some(0), "{done:?}");
            sure += 1;
        }
    }
    // One that was killed may have been done with it.
    let counted: usize = sandbox.text("n").trim().parse().unwrap();
    assert!(
        (sure..=COUNTERS).contains(&counted) && sure >= COUNTERS - COUNTERS.div_ceil(8),
        "{counted} of {sure}"
    );
    sandbox.atomwrite(words.iter().copied()).output();
    assert_eq!(sandbox.text("n").trim(), (counted + 1).to_string());
    let lock = lock_name("n");
    if lock_file_stays {
        assert_eq!(sandbox.text(&lock), "");
        assert!(sandbox.path(&lock).is_file());
    } else {
        assert_eq!(sandbox.names(), ["n"]);
    }
}

#[test]
fn forty_counters_with_kills_lose_no_count() {
    for existing in [true, false] {
        let sandbox = Sandbox::new();
        if existing {
            sandbox.write("n", "0\n");
        }
        count_with_kills(&sandbox, &["--sync=none", "-q"], false);
    }
}

#[test]
fn forty_counters_with_kills_lose_no_count_on_each_local_filesystem() {
    needs_mounts!();
    needs_tool!("mkfs.ext4", "mkfs.btrfs", "mkfs.xfs");
    for mount in [
        Mount::tmpfs("size=32m"),
        Mount::ext4(32, &[]),
        Mount::btrfs(),
        Mount::xfs(),
    ] {
        let sandbox = Sandbox::in_dir(mount.path());
        count_with_kills(&sandbox, &["-q"], false);
    }
}

#[test]
fn forty_counters_with_kills_lose_no_count_on_fuse_and_the_lock_file_stays() {
    needs_fuse!();
    let below = Sandbox::new();
    let mount = Mount::bindfs(below.root(), &[]);
    let sandbox = Sandbox::in_dir(mount.path());
    count_with_kills(&sandbox, &["--sync=none", "-q"], true);
}

/// Starts 40 appends, each by one of these users to one of these files, and checks what they hold.
#[track_caller]
fn append_as(sandbox: &Sandbox, users: &[u32], dests: &[&str], killed: impl Fn(usize) -> bool) {
    const WRITERS: usize = 40;
    let running: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let user = users[writer % users.len()];
            let dest = dests[writer % dests.len()];
            let run = sandbox
                .atomwrite(["-q", "-a", "--sync=none", "-m", "666", dest])
                .user(user, user, &[])
                .umask(0o077);
            if killed(writer) {
                let mut one = run.stdin_held().start();
                one.feed_on(b"never\n");
                one.signal(Signal::KILL);
                one
            } else {
                run.stdin(format!("{writer}\n")).start()
            }
        })
        .collect();
    for (writer, one) in running.into_iter().enumerate() {
        let done = one.wait();
        if !killed(writer) {
            assert_eq!(done.code(), Some(0), "{done:?}");
        }
    }
    for (number, dest) in dests.iter().enumerate() {
        let mine = |writer: &usize| writer % dests.len() == number && !killed(*writer);
        let mut text = sandbox.text(dest);
        if let Some(behind) = text.strip_prefix("old\n") {
            text = behind.to_owned();
        }
        let expected = (0..WRITERS).filter(mine).map(|writer| writer.to_string());
        check_lines(&text, expected);
    }
}

#[test]
fn users_with_any_umask_lose_nothing_of_each_other() {
    needs_root!();
    for existing in [true, false] {
        for kills in [false, true] {
            let sandbox = Sandbox::new();
            sandbox.chmod("", 0o777);
            if existing {
                sandbox.write_with_mode("out", "old\n", 0o666);
            }
            let users = [NOBODY, 1234, 4321, 0];
            append_as(&sandbox, &users, &["out"], |writer| {
                kills && writer % 10 == 3
            });
            sandbox
                .atomwrite(["-q", "-a", "out"])
                .stdin("end\n")
                .leaves(["out"])
                .succeeds();
        }
    }
}

#[test]
fn users_of_a_sticky_directory_share_a_lock_file() {
    needs_root!();
    for kills in [false, true] {
        let sandbox = Sandbox::new();
        sandbox.chmod("", 0o1777);
        // Each may replace only their own file, and the names share a lock.
        append_as(&sandbox, &[NOBODY, 1234], &["out", "OUT"], |writer| {
            kills && writer % 10 >= 8
        });
        // Root may remove another user's lock file.
        sandbox
            .atomwrite(["-q", "--lock", "oUt", "--", "echo", "new"])
            .leaves(["OUT", "oUt", "out"])
            .succeeds();
    }
}

#[test]
fn users_on_fuse_lose_nothing_of_each_other() {
    needs_fuse!();
    let below = Sandbox::new();
    let mount = Mount::bindfs(below.root(), &[]);
    let sandbox = Sandbox::in_dir(mount.path());
    sandbox.chmod("", 0o777);
    append_as(&sandbox, &[NOBODY, 1234], &["out"], |writer| {
        writer % 10 == 3
    });
    assert!(sandbox.path(lock_name("out")).is_file());
}
