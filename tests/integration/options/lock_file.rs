//! The lock file: where it is, which users may open it, and when it is removed.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixListener;
use std::time::{Duration, Instant};

use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::Signal;

use crate::harness::{
    Call, LOCK, NOBODY, Run, Sandbox, Stepped, Strace, Witness, can_be_others, lock_name,
    needs_root, needs_tool, open,
};
use crate::options::lock::{
    ENDING, Waiter, check_lines, check_succeeded, start_holder, wait_until_locked,
};

// ---- The lock file ----

#[test]
fn the_lock_file_is_hidden_empty_and_locked_for_writing() {
    let sandbox = Sandbox::new();
    for option in ["--lock", "-a"] {
        let holder = start_holder(&sandbox, option);
        let name = lock_name("out");
        assert_eq!(sandbox.names_besides_drafts(), [name.as_str()], "{option}");
        assert_eq!(sandbox.text(&name), "");
        wait_until_locked(&sandbox, &name);
        holder.signal(Signal::TERM);
        drop(holder.wait());
        assert!(sandbox.names().is_empty());
    }
}

#[test]
fn the_lock_file_is_open_to_others_only_if_they_may_write_to_the_directory() {
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
            let run = sandbox.run("-a d/out").umask(umask);
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
fn the_lock_file_is_open_to_the_owner_of_the_directory_too() {
    needs_root!();
    for (user, expected) in [(NOBODY, 0o600), (0, 0o666)] {
        let sandbox = Sandbox::new();
        sandbox.give_to(NOBODY, NOBODY);
        let run = sandbox.run("-a out").user(user, user, &[]);
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
        let sandbox = Sandbox::with("src", "new\n");
        if existing {
            sandbox.write("out", "old\n");
        }
        let sum = format!("--lock --sha256 {:064} src out", 0);
        sandbox.fail_each(&[
            ("--lock out -- sh -c 'echo half; exit 7'", "", 7, "status 7"),
            ("--lock missing out", "", 1, "'missing'"),
            (&sum, "", 3, "'out'"),
            ("--lock --validate false src out", "", 3, "'out'"),
        ]);
        sandbox.run("--lock src out").succeeds();
        sandbox.run("-C --lock src out").leaves_alone(0);
        let run = sandbox.run("-n --lock src out");
        run.fails_with(3, "--no-clobber");
    }
}

#[test]
fn a_signal_to_a_waiter_leaves_no_file_of_it() {
    for old in ["old\n", ""] {
        for signal in ENDING {
            let sandbox = Sandbox::holding(old);
            let holder = start_holder(&sandbox, "-a");
            let names = sandbox.names();
            let append = sandbox.run("-v -a out").stdin("waiter\n");
            let waiter = Waiter::start(append);
            waiter.running.signal(signal);
            let done = waiter.wait();
            assert_eq!(done.signal(), Some(signal.as_raw()), "{done:?}");
            assert_eq!(sandbox.names(), names);
            check_succeeded([holder]);
            assert_eq!(sandbox.text("out"), format!("{old}held\n"));
            assert_eq!(sandbox.names(), ["out"]);
        }
    }
}

#[test]
fn a_signal_to_a_holder_leaves_nothing_and_releases_the_lock() {
    for old in ["old\n", ""] {
        for signal in ENDING.into_iter().chain([Signal::KILL]) {
            let sandbox = Sandbox::holding(old);
            let before = sandbox.names();
            let holder = start_holder(&sandbox, "-a");
            holder.signal(signal);
            assert_eq!(holder.wait().signal(), Some(signal.as_raw()));
            if signal == Signal::KILL {
                assert!(sandbox.path(lock_name("out")).exists());
            } else {
                assert_eq!(sandbox.names(), before);
            }
            let done = sandbox.run("-a out").stdin("next\n").output();
            assert_eq!((done.code(), &*done.stderr), (Some(0), ""));
            assert_eq!(sandbox.names_besides_drafts(), ["out"]);
            assert_eq!(sandbox.text("out"), format!("{old}next\n"));
        }
    }
}

#[test]
fn waiters_go_on_when_the_holder_is_killed() {
    for old in ["old\n", ""] {
        let sandbox = Sandbox::holding(old);
        let holder = start_holder(&sandbox, "-a");
        let waiters: Vec<_> = (0..5)
            .map(|waiter| {
                let append = sandbox.run("-v -a out");
                Waiter::start(append.stdin(format!("{waiter}\n")))
            })
            .collect();
        holder.signal(Signal::KILL);
        assert_eq!(holder.wait().signal(), Some(libc::SIGKILL));
        for waiter in waiters {
            let done = waiter.wait();
            assert_eq!(done.code(), Some(0), "{done:?}");
        }
        let old = old.lines().map(str::to_owned);
        let expected = (0..5).map(|waiter| waiter.to_string()).chain(old);
        check_lines(&sandbox.text("out"), expected);
        assert_eq!(sandbox.names_besides_drafts(), ["out"]);
    }
}

#[test]
fn another_file_under_the_lock_files_name_is_not_touched() {
    let sandbox = Sandbox::with("victim", "theirs");
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
        for words in ["-a out", "--lock=0 -q out"] {
            // The harness checks that all files are unchanged.
            let done = sandbox
                .run(words)
                .reads_nothing()
                .fails_with(1, "cannot lock 'out'");
            assert!(!done.stderr.contains("another process"), "{what}: {done:?}");
        }
        let path = sandbox.path(&name);
        fs::remove_file(&path)
            .or_else(|_| fs::remove_dir(&path))
            .unwrap();
    }
}

#[test]
fn only_a_lock_file_that_this_run_has_created_gets_another_mode() {
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
                let run = sandbox.run("-a out").stdin(format!("{n}\n"));
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
    // fs.protected_regular refuses O_CREAT on another user's file in a sticky directory, even to
    // root.
    needs_root!();
    needs_tool!("strace");
    let sandbox = Sandbox::new();
    sandbox.chmod("", 0o1777);
    let run = sandbox.run("-a out").by_nobody();
    let mut holder = run.umask(0o077).stdin_held().start();
    holder.feed("held\n");
    holder.signal(Signal::KILL);
    drop(holder.wait());
    let name = lock_name("out");
    assert_eq!(sandbox.names_besides_drafts(), [name.as_str()]);
    let creates = |call: &Call| {
        call.name.starts_with("open") && call.args.contains(&name) && call.args.contains("O_CREAT")
    };
    for user in [1234, 0] {
        let strace = Strace::new();
        let done = sandbox
            .run("-a OUT")
            .stdin("new\n")
            .user(user, user, &[])
            .under(&strace)
            .output();
        assert_eq!(done.code(), Some(0), "{user}: {done:?}");
        let trace = strace.trace();
        assert_eq!(trace.count(creates), 0, "{trace}");
        assert_eq!(sandbox.text("OUT"), "new\n");
        fs::remove_file(sandbox.path("OUT")).unwrap();
        // It stays until its owner or root removes it.
        assert_eq!(sandbox.path(&name).exists(), user != 0);
    }
    // A lock file that this run creates never belongs to another user.
    let trace = sandbox.run("-a out").stdin("new\n").traced();
    let made = trace.only("the lock file is made", creates);
    assert!(trace.own()[made].args.contains("O_EXCL"), "{trace}");
}

#[test]
fn a_filesystem_without_locks_is_reported_before_anything_is_done() {
    needs_tool!("strace");
    // EACCES: a security module forbids it.
    for error in ["ENOLCK", "EOPNOTSUPP", "EINVAL", "EACCES"] {
        for old in ["old\n", ""] {
            let sandbox = Sandbox::holding(old);
            let strace = Strace::new()
                .at(sandbox.path(lock_name("out")))
                .inject(&format!("{LOCK}:error={error}"));
            let witness = Witness::new();
            let done = sandbox
                .run("-a out")
                .stdin_from(witness.input())
                .under(&strace)
                .output();
            assert_eq!(done.code(), Some(1), "{error}: {done:?}");
            assert!(done.stderr.contains("cannot lock 'out'"), "{done:?}");
            witness.has_not_been_read();
            assert_eq!(sandbox.path("out").exists(), !old.is_empty());
            assert!(strace.injected() > 0, "{error}");
        }
    }
}

#[test]
fn a_lock_that_is_forbidden_on_a_server_is_not_waited_for() {
    needs_tool!("strace");
    let sandbox = Sandbox::new();
    // Nothing is known of the filesystem.
    let strace = Strace::new().inject("fstatfs:error=EIO");
    let strace = strace.inject(&format!("{LOCK}:error=EACCES"));
    let done = sandbox.run("--lock out").under(&strace).output();
    assert_eq!(done.code(), Some(1), "{done:?}");
    assert_eq!(
        done.stderr,
        "atomwrite: cannot lock 'out': permission denied\n"
    );
}

#[test]
fn a_lock_file_that_loses_its_name_before_dest_is_resolved_does_not_count() {
    needs_tool!("strace");
    let sandbox = Sandbox::with("out", "old");
    let (name, others) = (lock_name("out"), lock_name("other"));
    let mut holder = sandbox.run("--lock other").stdin_held().start();
    holder.feed("held");
    wait_until_locked(&sandbox, &others);
    let run = sandbox.run("--lock=0 -q out").stdin("new");
    let mut stepped = Stepped::start(run, "statx,newfstatat", &name);
    assert!(stepped.has_stopped());
    // It has just seen that the file it has locked has the name.
    assert!(sandbox.path(&name).exists());
    fs::rename(sandbox.path(others), sandbox.path(&name)).unwrap();
    let done = stepped.finish();
    assert_eq!(done.code(), Some(1), "{done:?}");
    let expected = "it is locked by another process";
    assert!(done.stderr.contains(expected), "{done:?}");
    assert_eq!(sandbox.text("out"), "old");
    assert!(sandbox.path(name).exists(), "the other's lock file is gone");
    check_succeeded([holder]);
}

#[test]
fn a_dest_that_leads_elsewhere_at_each_attempt_is_not_waited_for_any_longer() {
    needs_tool!("strace");
    let sandbox = Sandbox::new();
    for dir in ["a", "b"] {
        sandbox.mkdir(dir);
        sandbox.write(format!("{dir}/f"), "old");
    }
    sandbox.symlink("a/f", "out");
    let run = sandbox.run("--lock=0 -q out").stdin("new");
    let mut stepped = Stepped::start(run, "statx,newfstatat", lock_name("f"));
    assert!(stepped.has_stopped());
    sandbox.symlink("b/f", "other");
    fs::rename(sandbox.path("other"), sandbox.path("out")).unwrap();
    let done = stepped.finish();
    assert_eq!(done.code(), Some(1), "{done:?}");
    let expected = "it is locked by another process";
    assert!(done.stderr.contains(expected), "{done:?}");
    for dir in ["a", "b"] {
        assert_eq!(sandbox.text(format!("{dir}/f")), "old");
    }
}

// ---- A lock file that is not accessible ----

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
    run.by_nobody()
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
        run.fails_with(1, "cannot use a lock file beside it: permission denied");
        assert!(start.elapsed() >= Duration::from_millis(900), "{options:?}");
    }
}

#[test]
fn a_lock_file_that_is_refused_after_a_long_wait_is_waited_for_all_the_same() {
    needs_tool!("strace");
    for options in ["--lock", "--lock --inplace=always"] {
        let sandbox = Sandbox::new();
        let lock = lock_name("out");
        sandbox.write_with_mode("out", "old", 0o666);
        let holder = sandbox.run("--lock out").stdin_held();
        let mut holder = as_ordinary_user(&sandbox, holder).start();
        holder.feed("held");
        let (read, write) = pipe_with(PipeFlags::CLOEXEC).unwrap();
        let run = sandbox.run(&format!("{options} out"));
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
