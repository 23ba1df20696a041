//! Stale temporary files, and files that only seem stale.
//!
//! After SIGKILL on a local filesystem, at most one hidden regular file is left. The next write to
//! the same DEST removes it, unless its name belongs to something else or to a stopped writer. A
//! file with a random name stays. A signal that was ignored at the start stays ignored. The torture
//! suite tries SIGKILL at every system call.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::{Pid, Signal, kill_process};

use crate::harness::{
    COMMIT, NOBODY, Running, Sandbox, Strace, derived_name, is_temporary, linux_only, needs_root,
    needs_tool, program_of, tool, wait_until,
};

const DEADLY: [Signal; 4] = [Signal::INT, Signal::TERM, Signal::HUP, Signal::QUIT];

/// Makes every way to link an unnamed file fail, so that the new file has a name from its start.
const NAMED: &str = "linkat:error=EOPNOTSUPP";

/// All temporary names in the sandbox's root, each of the promised form.
fn temporary_names(sandbox: &Sandbox) -> Vec<OsString> {
    let mut names = sandbox.names();
    names.retain(|name| is_temporary(name));
    for name in &names {
        let name = name.to_str().unwrap();
        let letters = name.strip_prefix(".atomwrite.");
        let letters = letters.and_then(|name| name.strip_suffix(".tmp"));
        let right = |letters: &str| {
            letters.len() == 16 && letters.bytes().all(|letter| letter.is_ascii_alphanumeric())
        };
        assert!(letters.is_some_and(right), "{name}");
    }
    names
}

/// Kills a run between link and rename.
#[track_caller]
fn kill_before_rename(sandbox: &Sandbox, options: &[&str], user: Option<u32>) {
    let strace = Strace::new()
        .at(derived_name("out"))
        .inject("rename,renameat,renameat2:error=EIO:signal=SIGKILL");
    let old = sandbox.read("out");
    let mut run = sandbox
        .atomwrite(options.iter().copied().chain(["out"]))
        .stdin("of the killed run")
        .under(&strace);
    if let Some(user) = user {
        run = run.user(user, user, &[]);
    }
    let done = run.output();
    assert_eq!(done.signal(), Some(libc::SIGKILL), "{done:?}");
    assert_eq!(sandbox.read("out"), old);
    assert_eq!(temporary_names(sandbox), [derived_name("out").as_str()]);
}

#[test]
fn a_kill_between_link_and_rename_leaves_one_file_that_the_next_write_removes() {
    linux_only!("a derived name for an unnamed file");
    needs_tool!("strace");
    let stale = derived_name("out");
    for next in ["out", "src out", "-b out", "-a out", "out -- echo new"] {
        let sandbox = Sandbox::with("out", "old");
        sandbox.write("src", "new");
        // Whatever the number of killed runs.
        for _ in 0..3 {
            kill_before_rename(&sandbox, &[], None);
            assert_eq!(sandbox.text(&stale), "of the killed run");
        }
        // A write to another DEST has nothing to do with it.
        sandbox.run("other").stdin("new").succeeds();
        let mut names = vec!["other", "out", "src"];
        if next == "-b out" {
            names.push("out~");
        }
        let run = sandbox.run(next).stdin("new");
        run.leaves(names).succeeds();
    }
}

#[test]
fn a_stale_file_is_removed_whatever_its_mode() {
    linux_only!("a derived name for an unnamed file");
    needs_root!();
    needs_tool!("strace");
    for mode in ["0444", "0200", "0000"] {
        for user in [None, Some(NOBODY)] {
            if mode == "0000" && user.is_some() {
                // This user cannot open the file, so cannot tell whether its writer is alive.
                continue;
            }
            let sandbox = Sandbox::with("out", "old");
            if let Some(user) = user {
                sandbox.give_to(user, user);
                sandbox.chown("out", user, user);
            }
            kill_before_rename(&sandbox, &["-m", mode], user);
            let mut run = sandbox.run("out").stdin("new").leaves(["out"]);
            if let Some(user) = user {
                run = run.user(user, user, &[]);
            }
            run.succeeds();
            assert_eq!(sandbox.text("out"), "new", "{mode} {user:?}");
        }
    }
}

#[test]
fn a_stale_file_that_had_its_owner_already_is_removed() {
    linux_only!("a derived name for an unnamed file");
    needs_root!();
    needs_tool!("strace");
    let sandbox = Sandbox::with("out", "old");
    let options = ["-o", "65534"];
    kill_before_rename(&sandbox, &options, None);
    sandbox
        .atomwrite(options.iter().copied().chain(["out"]))
        .stdin("new")
        .leaves(["out"])
        .succeeds();
    // And from an owner that was kept.
    kill_before_rename(&sandbox, &[], None);
    sandbox.run("out").stdin("newer").leaves(["out"]).succeeds();
    assert_eq!(sandbox.owner("out").0, NOBODY);
}

#[test]
fn a_file_under_that_name_that_cannot_be_locked_is_not_touched() {
    linux_only!("a derived name for an unnamed file");
    needs_tool!("strace");
    for error in ["EAGAIN", "EIO", "ENOLCK"] {
        let sandbox = Sandbox::with("out", "old");
        let name = derived_name("out");
        let stale = sandbox.write(&name, "of another run");
        let strace = Strace::new()
            .at(&stale)
            .inject(&format!("flock:error={error}"));
        let run = sandbox.run("out").stdin("new").under(&strace);
        run.leaves([name.as_str(), "out"]).succeeds();
        assert!(strace.injected() > 0, "{error}");
        assert_eq!(sandbox.text(&name), "of another run");
        assert_eq!(sandbox.text("out"), "new");
    }
}

#[test]
fn the_file_of_a_writer_in_its_commit_is_not_touched() {
    linux_only!("a derived name for an unnamed file");
    needs_tool!("strace");
    let sandbox = Sandbox::with("out", "old");
    let name = derived_name("out");
    // It stops when it has made the call.
    let strace = Strace::new().at(&name).inject("linkat:signal=SIGSTOP");
    let first = sandbox.run("out").stdin("slow").under(&strace).start();
    wait_until("it has its name", || sandbox.path(&name).exists());
    let inode = sandbox.inode(&name);
    for content in ["fast", "faster"] {
        let run = sandbox.run("out").stdin(content);
        run.leaves([name.as_str(), "out"]).succeeds();
        assert_eq!(sandbox.text("out"), content);
        assert_eq!(sandbox.inode(&name), inode);
    }
    kill_process(program_of(&first), Signal::CONT).unwrap();
    let done = first.wait();
    assert_eq!(done.code(), Some(0), "{done:?}");
    assert_eq!(sandbox.listing(), "out=slow");
}

/// Starts a writer whose file has a name, and returns that name; the writer waits for more input
/// then.
fn start_named(sandbox: &Sandbox) -> (Running, OsString) {
    let before = temporary_names(sandbox);
    let strace = Strace::new().inject(NAMED);
    let mut running = sandbox.run("out").stdin_held().under(&strace).start();
    running.feed("slow ");
    let mut new = temporary_names(sandbox);
    new.retain(|name| !before.contains(name));
    assert_eq!(new.len(), 1, "{new:?} beside {before:?}");
    // The trace is of no interest, and strace has it open.
    drop(strace);
    (running, new.remove(0))
}

#[test]
fn the_file_of_a_live_writer_is_not_touched() {
    needs_tool!("strace");
    let sandbox = Sandbox::with("out", "old");
    let (mut first, name) = start_named(&sandbox);
    let inode = sandbox.inode(&name);
    // One with an unnamed file, and one with a name of its own.
    let run = sandbox.run("out").stdin("fast");
    run.leaves([name.clone(), "out".into()]).writes("fast");
    let (second, other) = start_named(&sandbox);
    assert_ne!(name, other);
    assert_eq!(sandbox.inode(&name), inode);
    assert_eq!(second.wait().code(), Some(0));
    assert_eq!(sandbox.text("out"), "slow ");
    assert_eq!(temporary_names(&sandbox), [name.as_os_str()]);
    assert_eq!(sandbox.inode(&name), inode);
    first.feed("but whole");
    assert_eq!(first.wait().code(), Some(0));
    assert_eq!(sandbox.listing(), "out=slow but whole");
}

#[test]
fn the_find_command_of_the_manual_lists_what_killed_runs_left_and_nothing_else() {
    needs_tool!("find", "strace", "touch");
    let manual = include_str!("../../../man/atomwrite.1");
    let line = manual.lines().find(|line| line.contains("\"find conf.d "));
    let line = line.unwrap().replace("\\-", "-").replace("\\(aq", "'");
    let (_, command) = line.trim_end_matches('"').rsplit_once('"').unwrap();

    let sandbox = Sandbox::new();
    sandbox.write("in", "new");
    sandbox.mkdir("conf.d");
    let kill = ["--validate", "kill -9 $PPID"];
    let killed = |words: &[&str], strace: Option<&Strace>| {
        let mut run = sandbox.atomwrite(words.to_vec()).stdin("new");
        if let Some(strace) = strace {
            run = run.through(strace.command());
        }
        let done = run.output();
        assert_eq!(done.signal(), Some(libc::SIGKILL), "{words:?} {done:?}");
    };
    let left = || {
        let names = sandbox.names().into_iter();
        let names = names.filter(|name| is_temporary(name));
        names.collect::<BTreeSet<_>>()
    };
    // The file between link and rename.
    let at = Strace::new().at("out");
    let strace = at.inject(&format!("{COMMIT}:error=EIO:signal=SIGKILL"));
    killed(&["conf.d/out"], Some(&strace));
    // The preview directory; the staging directory; a new file that has a name.
    killed(&[&kill[..], &["conf.d/out"]].concat(), None);
    killed(&[&kill[..], &["-t", "conf.d", "in"]].concat(), None);
    let strace = Strace::new().inject(NAMED);
    killed(&[&kill[..], &["conf.d/out"]].concat(), Some(&strace));
    let stale = left();
    assert!(stale.len() >= 6, "{stale:?}");
    // Files of the same age with other names.
    for name in [
        ".atomwrite.0123456789abcdef.lock",
        ".atomwrite",
        "atomwrite.0123456789abcdef.tmp",
        "out~",
        ".out.tmp",
    ] {
        sandbox.write(Path::new("conf.d").join(name), "");
    }
    let old = sandbox.names().into_iter().map(|name| sandbox.path(name));
    let arguments = ["-hd", "2 days ago"].map(OsString::from).into_iter();
    tool("touch", arguments.chain(old.map(PathBuf::into_os_string)));
    // A run that may still be at work.
    killed(&[&kill[..], &["conf.d/out"]].concat(), None);
    assert!(left().len() > stale.len());

    let output = Command::new("sh")
        .args(["-c", command])
        .current_dir(sandbox.root())
        .env("LC_ALL", "C")
        .output()
        .unwrap();
    let listed = String::from_utf8(output.stdout).unwrap();
    let listed = listed.lines().map(|line| line.split_whitespace().last());
    let listed: BTreeSet<OsString> = listed.map(|name| name.unwrap().into()).collect();
    assert_eq!(listed, stale, "{command}");
}

#[test]
fn an_ignored_signal_stays_ignored() {
    needs_tool!("strace");
    let ignoring = ["sh", "-c", "trap '' INT TERM HUP QUIT; exec \"$@\"", "sh"];
    for signal in DEADLY {
        for named in [false, true] {
            let sandbox = Sandbox::with("out", "old");
            let strace = Strace::new().inject(NAMED);
            let mut prefix: Vec<OsString> = ignoring.iter().map(OsString::from).collect();
            if named {
                prefix.extend(strace.command());
            }
            let mut running = sandbox.run("out").stdin_held().through(prefix).start();
            running.feed("still ");
            let program = if named {
                program_of(&running)
            } else {
                Pid::from_raw(running.id().try_into().unwrap()).expect("a process")
            };
            kill_process(program, signal).unwrap();
            running.feed("alive");
            let done = running.wait();
            assert_eq!(done.code(), Some(0), "{signal:?} {named}: {done:?}");
            assert_eq!(sandbox.listing(), "out=still alive");
        }
    }
}
