//! Many concurrent runs with `--lock`, also in place: no update is lost.

use rustix::process::Signal;

use crate::harness::{Mount, NOBODY, Sandbox, local_sandboxes, lock_name, needs_fuse, needs_root};
use crate::options::lock::{check_lines, check_succeeded, wait_until_locked};

// ---- In place ----

#[test]
fn a_file_that_is_overwritten_in_place_is_locked_itself_too() {
    let sandbox = Sandbox::with("out", "old\n");
    let words = ["-q", "--lock", "--inplace=always", "out"];
    let mut holder = sandbox.atomwrite(words).stdin_held().start();
    holder.feed("held\n");
    let name = lock_name("out");
    assert_eq!(sandbox.names_besides_drafts(), [name.as_str(), "out"]);
    for file in ["out", &name] {
        wait_until_locked(&sandbox, file);
    }
    // Those that replace it respect the lock as well.
    sandbox
        .run("--lock=0 out -- echo new")
        .fails_with(125, "locked by another process");
    check_succeeded([holder]);
    assert_eq!(sandbox.listing(), "out=held\n");
}

#[test]
fn a_user_who_cannot_write_to_the_directory_locks_dest_only() {
    needs_root!();
    let sandbox = Sandbox::new();
    sandbox.write_with_mode("out", "old\n", 0o666);
    let run = |option: &'static str| {
        let words = ["-q", option, "--inplace", "out"];
        sandbox.atomwrite(words).by_nobody()
    };
    let mut holder = run("--lock").stdin_held().start();
    holder.feed("held\n");
    assert_eq!(sandbox.names(), ["out"]);
    run("--lock=0")
        .reads_nothing()
        .fails_with(1, "cannot lock 'out': it is locked by another process");
    check_succeeded([holder]);
    assert_eq!(sandbox.listing(), "out=held\n");
}

// ---- Many at once ----

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
    // A killed run may have committed before.
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
        assert_eq!(sandbox.names_besides_drafts(), ["n"]);
    }
}

#[test]
fn forty_counters_with_kills_lose_no_count() {
    for (sandbox, _mount) in local_sandboxes() {
        count_with_kills(&sandbox, &["-q"], false);
    }
    let sandbox = Sandbox::with("n", "0\n");
    count_with_kills(&sandbox, &["--sync=none", "-q"], false);
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
            let done = sandbox.run("-q -a out").stdin("end\n").output();
            assert_eq!((done.code(), &*done.stderr), (Some(0), ""));
            assert_eq!(sandbox.names_besides_drafts(), ["out"]);
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
        let done = sandbox.run("-q --lock oUt -- echo new").output();
        assert_eq!((done.code(), &*done.stderr), (Some(0), ""));
        assert_eq!(sandbox.names_besides_drafts(), ["OUT", "oUt", "out"]);
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
