//! Death at every moment: SIGKILL, and the signals that a program may still act on.
//!
//! What the contract says: nothing is left behind by SIGINT, SIGTERM or SIGHUP. After SIGKILL at most one file is left,
//! hidden, and the next write to the same DEST removes it. A signal before the commit leaves DEST untouched, and the
//! program dies by it; one that is pending when the input ends wins over the commit; one during the commit waits for its
//! end. A signal that was ignored at the start stays ignored. SIGXFSZ is an error message, not a death.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Command;

use rustix::process::{Pid, Signal, kill_process};

use crate::sandbox::{NOBODY, Running, Sandbox, first_choice, needs_root, needs_tool, wait_until};
use crate::strace::{Call, Strace, Trace};

const DEADLY: [Signal; 3] = [Signal::INT, Signal::TERM, Signal::HUP];

/// Makes every way to link an unnamed file fail, so that the named one is taken.
const NAMED: &str = "linkat:error=EOPNOTSUPP";

/// Gives all names of the sandbox's root that are temporary ones, and panics for any that is not as promised.
fn leftovers(sandbox: &Sandbox) -> Vec<OsString> {
    let names = sandbox.names().into_iter();
    let leftovers: Vec<_> = names.filter(is_temporary).collect();
    for name in &leftovers {
        let digits = name
            .to_str()
            .and_then(|name| name.strip_prefix(".atomwrite.")?.strip_suffix(".tmp"))
            .unwrap_or_else(|| panic!("{name:?}"));
        assert!(
            digits.len() == 16 && digits.bytes().all(|digit| digit.is_ascii_alphanumeric()),
            "{name:?}"
        );
    }
    leftovers
}

fn is_temporary(name: &OsString) -> bool {
    name.to_string_lossy().starts_with('.')
}

/// The trace of a clean run, to aim by.
#[track_caller]
fn clean_trace(arguments: &[&str], always: Option<&str>) -> Trace {
    let sandbox = Sandbox::new();
    sandbox.write("out", "old");
    let strace = strace_with(always, None);
    sandbox
        .atomwrite(arguments.iter().copied())
        .stdin("new")
        .through(strace.command())
        .succeeds();
    strace.trace()
}

fn strace_with(always: Option<&str>, aim: Option<&str>) -> Strace {
    always
        .into_iter()
        .chain(aim)
        .fold(Strace::new(), Strace::inject)
}

/// Kills a run at its rename, which then does not take place, and gives the name of what is left.
#[track_caller]
fn leave_a_corpse(sandbox: &Sandbox, options: &[&str], user: Option<u32>) -> OsString {
    let strace = Strace::new().inject("rename,renameat,renameat2:signal=SIGKILL");
    let old = sandbox.read("out");
    let mut run = sandbox
        .atomwrite(options.iter().copied().chain(["out"]))
        .stdin("of the dead")
        .through(strace.command());
    if let Some(user) = user {
        run = run.user(user, user, &[]);
    }
    let done = run.output();
    assert_eq!(done.signal(), Some(libc::SIGKILL), "{done:?}");
    assert_eq!(sandbox.read("out"), old);
    match &leftovers(sandbox)[..] {
        [one] => one.clone(),
        several => panic!("{several:?} and not one, after a kill at the rename"),
    }
}

#[test]
fn a_kill_between_link_and_rename_leaves_one_file_that_the_next_write_removes() {
    needs_tool!("strace");
    for next in [vec!["out"], vec!["-n", "other"], vec!["src", "out"]] {
        let sandbox = Sandbox::new();
        sandbox.write("out", "old");
        sandbox.write("src", "new");
        let corpse = leave_a_corpse(&sandbox, &[], None);
        assert_eq!(sandbox.text(&corpse), "of the dead");
        let of_another = next.last() == Some(&"other");
        let mut names = vec!["out", "src"];
        if of_another {
            names.push("other");
            names.push(corpse.to_str().unwrap());
        }
        sandbox
            .atomwrite(next)
            .stdin("new")
            .leaves(names)
            .succeeds();
        if !of_another {
            assert_eq!(sandbox.text("out"), "new");
        }
    }
}

#[test]
fn the_second_kill_leaves_no_second_file() {
    needs_tool!("strace");
    let sandbox = Sandbox::new();
    sandbox.write("out", "old");
    let first = leave_a_corpse(&sandbox, &[], None);
    sandbox.write(&first, "of the first");
    let second = leave_a_corpse(&sandbox, &[], None);
    assert_eq!(first, second);
    assert_eq!(sandbox.text(&second), "of the dead");
    sandbox
        .atomwrite(["out"])
        .stdin("new")
        .leaves(["out"])
        .succeeds();
}

#[test]
fn a_leftover_is_removed_whatever_its_mode() {
    needs_root!();
    needs_tool!("strace");
    for mode in ["0444", "0200", "0000"] {
        for user in [None, Some(NOBODY)] {
            if mode == "0000" && user.is_some() {
                // He can open it neither way, so he cannot ask whether its writer lives.
                continue;
            }
            let sandbox = Sandbox::new();
            sandbox.write("out", "old");
            if let Some(user) = user {
                sandbox.give_to(user, user);
                sandbox.chown("out", user, user);
            }
            leave_a_corpse(&sandbox, &["-m", mode], user);
            let mut run = sandbox.atomwrite(["out"]).stdin("new").leaves(["out"]);
            if let Some(user) = user {
                run = run.user(user, user, &[]);
            }
            run.succeeds();
            assert_eq!(sandbox.text("out"), "new", "{mode} {user:?}");
        }
    }
}

#[test]
fn a_leftover_that_had_its_owner_already_is_removed() {
    needs_root!();
    needs_tool!("strace");
    let sandbox = Sandbox::new();
    sandbox.write("out", "old");
    let options = ["-o", "65534"];
    leave_a_corpse(&sandbox, &options, None);
    sandbox
        .atomwrite(options.iter().copied().chain(["out"]))
        .stdin("new")
        .leaves(["out"])
        .succeeds();
    // And from an owner that was kept.
    leave_a_corpse(&sandbox, &[], None);
    sandbox
        .atomwrite(["out"])
        .stdin("newer")
        .leaves(["out"])
        .succeeds();
    assert_eq!(sandbox.owner("out").0, NOBODY);
}

#[test]
fn a_leftover_under_the_second_choice_is_removed_too() {
    needs_tool!("strace");
    let sandbox = Sandbox::new();
    sandbox.write("out", "old");
    let first = leave_a_corpse(&sandbox, &[], None);
    assert_eq!(first, first_choice("out").as_str());
    // Of one that was killed while another had the first.
    let second = first_choice(&first_choice("out"));
    for named in [None, Some(NAMED)] {
        for left in [&[&*second][..], &[&*second, first.to_str().unwrap()]] {
            for name in left {
                sandbox.write(name, "of the dead");
            }
            let strace = strace_with(named, None);
            let mut run = sandbox.atomwrite(["out"]).stdin("new").leaves(["out"]);
            if named.is_some() {
                run = run.through(strace.command());
            }
            run.succeeds();
        }
    }
}

#[test]
fn a_leftover_that_is_a_name_of_dest_is_removed_by_the_next_backup_too() {
    needs_tool!("strace");
    let sandbox = Sandbox::new();
    sandbox.write("out", "old");
    sandbox.write("out~", "older");
    let strace = Strace::new().inject("renameat2:error=EIO:signal=SIGKILL");
    let done = sandbox
        .atomwrite(["-b", "out"])
        .stdin("never")
        .through(strace.command())
        .output();
    assert_eq!(done.signal(), Some(libc::SIGKILL), "{done:?}");
    assert_eq!(sandbox.inode("out"), sandbox.inode(first_choice("out")));
    sandbox
        .atomwrite(["-b", "out"])
        .stdin("new")
        .leaves(["out", "out~"])
        .succeeds();
    assert_eq!(sandbox.text("out~"), "old");
}

#[test]
fn a_leftover_that_is_a_running_program_is_removed_too() {
    let sandbox = Sandbox::new();
    fs::copy("/bin/sleep", sandbox.path("out")).unwrap();
    sandbox.hard_link("out", first_choice("out"));
    let mut program = Command::new(sandbox.path("out"))
        .arg("600")
        .spawn()
        .unwrap();
    let run = sandbox.atomwrite(["-q", "out"]).stdin("new");
    let done = run.output();
    program.kill().unwrap();
    program.wait().unwrap();
    assert_eq!(done.code(), Some(0), "{done:?}");
    assert_eq!(sandbox.names(), ["out"]);
}

#[test]
fn a_name_that_is_there_after_an_error_is_removed_at_once() {
    needs_tool!("strace");
    // As open leaves it where Landlock allows files to be made but not to be written.
    for (arguments, named) in [(&["new"][..], Some(NAMED)), (&["--lock", "new"], None)] {
        let trace = clean_trace(arguments, named);
        let made = trace.places(|call| call.is("openat") && call.args.contains("O_EXCL"));
        let nth = trace.own()[made[0]].nth;
        let sandbox = Sandbox::new();
        sandbox.write(first_choice("new"), "");
        let strace = strace_with(named, Some(&format!("openat:error=EACCES:when={nth}")));
        let done = sandbox
            .atomwrite(arguments.iter().copied())
            .stdin("new")
            .through(strace.command())
            .output();
        assert_eq!(done.code(), Some(1), "{done:?}");
        assert!(sandbox.names().is_empty(), "{done:?}");
        assert!(strace.trace().own().iter().any(Call::injected));
    }
}

#[test]
fn files_that_cannot_be_told_apart_keep_nobody_for_ever() {
    needs_tool!("strace");
    for named in [None, Some(NAMED)] {
        let clean = clean_trace(&["out"], named);
        let looks = clean.own().iter().filter(|call| call.is("statx"));
        let at_looks = looks.map(|call| format!("statx:error=EIO:when={}+", call.nth));
        // EAGAIN of a file with a name says that somebody else is about to remove it.
        let at_flock: &[_] = match named {
            None => &["flock:error=EAGAIN", "flock:error=EIO"],
            Some(_) => &["flock:error=EIO"],
        };
        let at_flock = at_flock.iter().copied().map(String::from);
        for always in at_looks.chain(at_flock) {
            for arguments in [&["out"][..], &["--lock", "out"], &["-n", "new"]] {
                let sandbox = Sandbox::new();
                sandbox.write("out", "old");
                let strace = strace_with(named, Some(&always));
                let done = sandbox
                    .atomwrite(arguments.iter().copied())
                    .stdin("new")
                    .through(strace.command())
                    .output();
                let last = *arguments.last().unwrap();
                match done.code() {
                    Some(0) => assert_eq!(sandbox.text(last), "new", "{always}"),
                    Some(1) => assert_eq!(sandbox.names(), ["out"], "{always}"),
                    _ => panic!("{always} {arguments:?} {done:?}"),
                }
                if last == "new" || done.code() == Some(1) {
                    assert_eq!(sandbox.text("out"), "old", "{always} {arguments:?}");
                }
                assert!(leftovers(&sandbox).is_empty(), "{always} {arguments:?}");
            }
        }
    }
}

#[test]
fn a_kill_while_a_named_file_is_filled_is_healed_too() {
    needs_tool!("strace");
    let sandbox = Sandbox::new();
    sandbox.write("out", "old");
    for next in [None, Some(NAMED)] {
        let (running, corpse) = start_named(&sandbox);
        let program = program_of(&running);
        kill_process(program, Signal::KILL).unwrap();
        assert_eq!(running.wait().signal(), Some(libc::SIGKILL));
        assert_eq!(leftovers(&sandbox), [corpse.as_os_str()]);
        let mut run = sandbox.atomwrite(["out"]).stdin("new").leaves(["out"]);
        let strace = strace_with(next, None);
        if next.is_some() {
            run = run.through(strace.command());
        }
        run.succeeds();
        assert_eq!(sandbox.text("out"), "new");
    }
}

/// Starts a writer with a named file, and gives that name; it waits for more input then.
fn start_named(sandbox: &Sandbox) -> (Running, OsString) {
    let before = leftovers(sandbox);
    let strace = Strace::new().inject(NAMED);
    let mut running = sandbox
        .atomwrite(["out"])
        .stdin_held()
        .through(strace.command())
        .start();
    running.feed("slow ");
    let mut new = leftovers(sandbox);
    new.retain(|name| !before.contains(name));
    assert_eq!(new.len(), 1, "{new:?} beside {before:?}");
    // The trace is of no interest, and strace has it open.
    drop(strace);
    (running, new.remove(0))
}

/// Finds the program below strace.
fn program_of(running: &Running) -> Pid {
    let id = running.id();
    let mut child = None;
    wait_until("strace has started the program", || {
        let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap();
        child = children.split_whitespace().next().map(str::to_owned);
        child.is_some()
    });
    let child = child.unwrap().parse().unwrap();
    Pid::from_raw(child).expect("a process")
}

#[test]
fn the_file_of_a_live_writer_is_not_touched() {
    needs_tool!("strace");
    let sandbox = Sandbox::new();
    sandbox.write("out", "old");
    let (mut first, name) = start_named(&sandbox);
    let inode = sandbox.inode(&name);
    // One with an unnamed file, and one with a name of its own.
    sandbox
        .atomwrite(["out"])
        .stdin("fast")
        .leaves([name.clone(), "out".into()])
        .succeeds();
    assert_eq!(sandbox.text("out"), "fast");
    let (second, other) = start_named(&sandbox);
    assert_ne!(name, other);
    assert_eq!(sandbox.inode(&name), inode);
    assert_eq!(second.wait().code(), Some(0));
    assert_eq!(sandbox.text("out"), "slow ");
    assert_eq!(leftovers(&sandbox), [name.as_os_str()]);
    assert_eq!(sandbox.inode(&name), inode);
    first.feed("but whole");
    assert_eq!(first.wait().code(), Some(0));
    assert_eq!(sandbox.text("out"), "slow but whole");
    assert_eq!(sandbox.names(), ["out"]);
}

#[test]
fn the_file_of_a_writer_in_its_commit_is_not_touched() {
    needs_tool!("strace");
    let sandbox = Sandbox::new();
    sandbox.write("out", "old");
    let trace = clean_trace(&["out"], None);
    let link = trace.only("linkat", Call::links);
    let nth = trace.own()[link].nth;
    // It stops when it has made the call, and has its name then.
    let strace = Strace::new().inject(&format!("linkat:signal=SIGSTOP:when={nth}"));
    let first = sandbox
        .atomwrite(["out"])
        .stdin("slow")
        .through(strace.command())
        .start();
    wait_until("it has its name", || !leftovers(&sandbox).is_empty());
    let names = sandbox.names();
    let inode = sandbox.inode(&names[0]);
    for content in ["fast", "faster"] {
        sandbox
            .atomwrite(["out"])
            .stdin(content)
            .leaves(names.clone())
            .succeeds();
        assert_eq!(sandbox.text("out"), content);
        assert_eq!(sandbox.inode(&names[0]), inode);
    }
    kill_process(program_of(&first), Signal::CONT).unwrap();
    let done = first.wait();
    assert_eq!(done.code(), Some(0), "{done:?}");
    assert_eq!(sandbox.text("out"), "slow");
    assert_eq!(sandbox.names(), ["out"]);
}

#[test]
fn what_is_not_ours_is_not_touched_under_the_leftovers_name() {
    needs_root!();
    needs_tool!("strace");
    let sandbox = Sandbox::new();
    sandbox.write("out", "old");
    let name = leave_a_corpse(&sandbox, &[], None);
    let planted: [(&str, &dyn Fn()); 7] = [
        ("a FIFO", &|| drop(sandbox.fifo(&name))),
        ("a directory", &|| drop(sandbox.mkdir(&name))),
        ("a link", &|| drop(sandbox.symlink("victim", &name))),
        ("a dangling link", &|| drop(sandbox.symlink("no", &name))),
        ("a socket", &|| {
            drop(UnixListener::bind(sandbox.path(&name)).unwrap());
        }),
        ("a stranger's file", &|| {
            sandbox.write(&name, "theirs");
            sandbox.chown(&name, NOBODY, NOBODY);
        }),
        ("a stranger's locked file", &|| {
            sandbox.write_with_mode(&name, "theirs", 0);
            sandbox.chown(&name, NOBODY, NOBODY);
        }),
    ];
    sandbox.write("victim", "theirs");
    for (what, plant) in planted {
        for named in [None, Some(NAMED)] {
            let path = sandbox.path(&name);
            fs::remove_file(&path)
                .or_else(|_| fs::remove_dir(&path))
                .unwrap();
            plant();
            let before = sandbox.stat(&name);
            let strace = strace_with(named, None);
            let mut run = sandbox.atomwrite(["out"]).stdin(what);
            if named.is_some() {
                run = run.through(strace.command());
            }
            run.leaves([name.clone(), "out".into(), "victim".into()])
                .succeeds();
            assert_eq!(sandbox.text("out"), what);
            assert_eq!(sandbox.text("victim"), "theirs");
            let after = sandbox.stat(&name);
            let id = |stat: &fs::Metadata| (stat.ino(), stat.mode(), stat.uid(), stat.ctime_nsec());
            assert_eq!(id(&before), id(&after), "{what} was touched");
        }
    }
}

#[test]
fn a_directory_with_more_in_it_than_ours_is_left_alone_under_the_leftovers_name() {
    needs_tool!("strace");
    let sandbox = Sandbox::new();
    sandbox.write("out", "old");
    let of_one = leave_a_corpse(&sandbox, &[], None);
    fs::remove_file(sandbox.path(&of_one)).unwrap();
    sandbox.mkdir("d");
    sandbox.mkdir("s");
    sandbox.write("s/file", "new");
    // Somebody who may write to the directory can give a directory of ours that name.
    let of_many = ".atomwrite.cbf29ce484222325.tmp";
    for (name, inside) in [
        (of_one.to_str().unwrap(), &["precious"][..]),
        (of_one.to_str().unwrap(), &["out", "precious"]),
        (of_many, &["precious"]),
        (of_many, &["0/file", "precious"]),
        (of_many, &["0/deep/precious"]),
    ] {
        for file in inside {
            let path = format!("{name}/{file}");
            sandbox.mkdir(Path::new(&path).parent().unwrap());
            sandbox.write(&path, "precious");
        }
        sandbox.chmod(name, 0o700);
        for words in [
            &["s/file", "out"][..],
            &["-D", "s/file", "d/out"],
            &["-t", ".", "s/file"],
            &["-D", "-t", "d", "s/file"],
        ] {
            let done = sandbox.atomwrite(words.to_vec()).output();
            assert_eq!(
                (done.code(), done.stderr.as_str()),
                (Some(0), ""),
                "{words:?}"
            );
            for file in inside {
                assert_eq!(
                    sandbox.text(format!("{name}/{file}")),
                    "precious",
                    "{words:?}"
                );
            }
        }
        fs::remove_dir_all(sandbox.path(name)).unwrap();
    }
}

#[test]
fn a_link_on_the_way_is_not_left_behind_in_the_search_for_leftovers() {
    needs_tool!("strace");
    let sandbox = Sandbox::new();
    sandbox.write("out", "old");
    let name = leave_a_corpse(&sandbox, &[], None);
    for directory in ["far/target", "near"] {
        sandbox.mkdir(directory);
    }
    sandbox.symlink("../far/target", "near/link");
    for directory in ["far", "near"] {
        sandbox.write(Path::new(directory).join(&name), "of the dead");
    }
    let done = sandbox
        .atomwrite(["-D", "near/link/out"])
        .stdin("new")
        .output();
    assert_eq!((done.code(), done.stderr.as_str()), (Some(0), ""));
    assert_eq!(sandbox.text(Path::new("far").join(&name)), "of the dead");
}

#[test]
fn a_kill_at_any_call_leaves_old_or_new_and_heals() {
    needs_tool!("strace");
    let without_rename = "renameat2:error=EINVAL";
    for (options, old, always) in [
        (&[][..], Some("old"), None),
        (&[], Some("old"), Some(NAMED)),
        (&["-n"], None, None),
        (&["-n"], None, Some(without_rename)),
    ] {
        let arguments = [options, &["out"]].concat();
        let start = || {
            let sandbox = Sandbox::new();
            if let Some(old) = old {
                sandbox.write("out", old);
            }
            sandbox
        };
        let run = |sandbox: &Sandbox, strace: &Strace| {
            sandbox
                .atomwrite(arguments.iter().copied())
                .stdin("new")
                .through(strace.command())
                .output()
        };
        let strace = strace_with(always, None);
        assert_eq!(run(&start(), &strace).code(), Some(0));
        let mut seen = Vec::new();
        for call in strace.trace().own() {
            if call.injected() || call.is("rt_sigprocmask") || call.is("exit_group") {
                continue;
            }
            let aim = format!("{}:signal=SIGKILL:when={}", call.name, call.nth);
            let sandbox = start();
            let done = run(&sandbox, &strace_with(always, Some(&aim)));
            assert_eq!(done.signal(), Some(libc::SIGKILL), "{aim}: {done:?}");
            let content = fs::read_to_string(sandbox.path("out")).ok();
            assert!(
                content.as_deref() == old || content.as_deref() == Some("new"),
                "{aim}: {content:?}"
            );
            let left = leftovers(&sandbox).len();
            assert!(left <= 1, "{aim}: {left} leftovers");
            assert_eq!(
                sandbox.names().len(),
                left + usize::from(content.is_some()),
                "{aim}"
            );
            seen.push((content.as_deref() == Some("new"), left));
            // Healed by the usual run, whichever way it goes.
            sandbox
                .atomwrite(["out"])
                .stdin("newer")
                .leaves(["out"])
                .succeeds();
            assert_eq!(sandbox.text("out"), "newer", "{aim}");
            assert_eq!(sandbox.stat("out").nlink(), 1, "{aim}");
        }
        let mut expected = vec![(false, 0), (false, 1), (true, 0)];
        if always == Some(without_rename) {
            // DEST is a second name for a moment, before the first one goes.
            expected.push((true, 1));
        }
        for moment in expected {
            assert!(
                seen.contains(&moment),
                "{arguments:?} {always:?}: no kill gave {moment:?}: the aim is wrong"
            );
        }
    }
}

#[test]
fn a_kill_with_created_directories_leaves_a_tree_that_the_next_write_heals() {
    needs_tool!("strace");
    for kill in [
        "mkdirat:signal=SIGKILL:when=",
        "rename,renameat,renameat2:signal=SIGKILL:when=",
    ] {
        for (options, always) in [
            (&[][..], None),
            (&[], Some(NAMED)),
            (&["--validate", "true"], None),
            (&["--lock"], None),
        ] {
            let words = |options: &[&'static str]| [&["-D"], options, &["one/two/out"]].concat();
            for when in 1..=4 {
                let sandbox = Sandbox::new();
                let strace = strace_with(always, Some(&format!("{kill}{when}")));
                let done = sandbox
                    .atomwrite(words(options))
                    .stdin("of the dead")
                    .through(strace.command())
                    .output();
                if done.code() == Some(0) {
                    break;
                }
                assert_eq!(done.signal(), Some(libc::SIGKILL), "{done:?}");
                sandbox
                    .atomwrite(words(&[]))
                    .stdin("new")
                    .leaves(["one", "one/two", "one/two/out"])
                    .succeeds();
                assert_eq!(sandbox.text("one/two/out"), "new");
            }
        }
    }
}

#[test]
fn a_living_writers_file_in_a_directory_above_is_not_touched() {
    needs_tool!("strace");
    let sandbox = Sandbox::new();
    sandbox.mkdir("one/two");
    let (running, name) = start_named(&sandbox);
    sandbox
        .atomwrite(["-D", "one/two/out"])
        .stdin("new")
        .leaves([name, "one".into(), "one/two".into(), "one/two/out".into()])
        .succeeds();
    assert_eq!(running.wait().code(), Some(0));
    assert_eq!(sandbox.text("out"), "slow ");
}

#[test]
fn a_deadly_signal_while_input_is_awaited_leaves_nothing() {
    for signal in DEADLY {
        for existing in [true, false] {
            let sandbox = Sandbox::new();
            if existing {
                sandbox.write("out", "old");
            }
            let before = sandbox.names();
            let mut running = sandbox.atomwrite(["out"]).stdin_held().start();
            running.feed("new");
            running.signal(signal);
            let done = running.wait();
            assert_eq!(done.signal(), Some(signal.as_raw()), "{done:?}");
            assert_eq!(sandbox.names(), before);
            if existing {
                assert_eq!(sandbox.text("out"), "old");
            }
        }
    }
}

#[test]
fn a_deadly_signal_removes_a_named_file() {
    needs_tool!("strace");
    for signal in DEADLY {
        let sandbox = Sandbox::new();
        sandbox.write("out", "old");
        let (running, _) = start_named(&sandbox);
        kill_process(program_of(&running), signal).unwrap();
        let done = running.wait();
        assert_eq!(done.signal(), Some(signal.as_raw()), "{done:?}");
        assert_eq!(sandbox.names(), ["out"]);
        assert_eq!(sandbox.text("out"), "old");
    }
}

#[test]
fn an_ignored_signal_stays_ignored() {
    needs_tool!("strace");
    let ignoring = ["sh", "-c", "trap '' INT TERM HUP; exec \"$@\"", "sh"];
    for signal in DEADLY {
        for named in [false, true] {
            let sandbox = Sandbox::new();
            sandbox.write("out", "old");
            let strace = Strace::new().inject(NAMED);
            let mut prefix: Vec<OsString> = ignoring.iter().map(OsString::from).collect();
            if named {
                prefix.extend(strace.command());
            }
            let mut running = sandbox
                .atomwrite(["out"])
                .stdin_held()
                .through(prefix)
                .start();
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
            assert_eq!(sandbox.text("out"), "still alive");
            assert_eq!(sandbox.names(), ["out"]);
        }
    }
}

#[test]
fn a_signal_at_any_call_leaves_nothing_and_kills() {
    needs_tool!("strace");
    for (arguments, old, always, signal, name) in [
        (&["out"][..], Some("old"), None, libc::SIGTERM, "SIGTERM"),
        (&["out"], Some("old"), Some(NAMED), libc::SIGINT, "SIGINT"),
        (&["-n", "out"], None, None, libc::SIGINT, "SIGINT"),
        (&["-D", "one/two/out"], None, None, libc::SIGHUP, "SIGHUP"),
        (
            &["-D", "one/out"],
            None,
            Some(NAMED),
            libc::SIGTERM,
            "SIGTERM",
        ),
    ] {
        let start = || {
            let sandbox = Sandbox::new();
            if let Some(old) = old {
                sandbox.write("out", old);
            }
            sandbox
        };
        let run = |sandbox: &Sandbox, strace: &Strace| {
            sandbox
                .atomwrite(arguments.iter().copied())
                .stdin("new")
                .through(strace.command())
                .output()
        };
        let sandbox = start();
        let before = sandbox.names();
        let strace = strace_with(always, None);
        assert_eq!(run(&sandbox, &strace).code(), Some(0));
        let after = sandbox.names();
        let trace = strace.trace();
        // Nothing is between the mask and the first deed of the commit.
        let commit = trace
            .places(|call| call.links() || call.renames() || call.is("mkdirat"))
            .remove(0);
        let masks = trace.places(|call| call.is("rt_sigprocmask"));
        let hold = masks.into_iter().rfind(|&at| at < commit).expect("a mask");
        for (place, call) in trace.own().iter().enumerate() {
            if call.injected() || call.is("exit_group") {
                continue;
            }
            let aim = format!("{}:signal={name}:when={}", call.name, call.nth);
            let sandbox = start();
            let done = run(&sandbox, &strace_with(always, Some(&aim)));
            assert_eq!(done.signal(), Some(signal), "{aim}: {done:?}");
            assert_eq!(done.stderr, "", "{aim}");
            // The signal comes with the call; from the mask on it has to wait.
            let is_new = fs::read(sandbox.path(arguments[arguments.len() - 1]))
                .is_ok_and(|content| content == b"new");
            assert!(
                is_new == (place > hold) || place == hold,
                "{aim}: {is_new}, {done:?}"
            );
            let names = if is_new { &after } else { &before };
            assert_eq!(&sandbox.names(), names, "{aim}");
            if !is_new && old.is_some() {
                assert_eq!(sandbox.text("out"), "old");
            }
        }
    }
}

#[test]
fn a_signal_during_the_commit_waits_for_its_end() {
    needs_tool!("strace");
    let trace = clean_trace(&["out"], None);
    let link = trace.only("linkat", Call::links);
    let rename = trace.only("rename", Call::renames);
    let fsyncs = trace.places(|call| call.is("fsync"));
    let directory = *fsyncs.last().expect("the directory's fsync");
    assert!(directory > rename);
    for signal in ["SIGINT", "SIGTERM", "SIGHUP"] {
        for place in [link, rename, directory] {
            for existing in [true, false] {
                let Call { name, nth, .. } = &trace.own()[place];
                let strace = Strace::new().inject(&format!("{name}:signal={signal}:when={nth}"));
                let sandbox = Sandbox::new();
                if existing {
                    sandbox.write("out", "old");
                }
                let done = sandbox
                    .atomwrite(["-v", "out"])
                    .stdin("new")
                    .through(strace.command())
                    .output();
                let number = match signal {
                    "SIGINT" => libc::SIGINT,
                    "SIGTERM" => libc::SIGTERM,
                    _ => libc::SIGHUP,
                };
                assert_eq!(done.signal(), Some(number), "{signal} at {name}: {done:?}");
                assert_eq!(sandbox.text("out"), "new", "{signal} at {name}");
                assert_eq!(sandbox.names(), ["out"], "{signal} at {name}");
                // The outcome is told before.
                let verb = if existing { "replaced" } else { "created" };
                assert!(done.stderr.contains(verb), "{done:?}");
            }
        }
    }
}

#[test]
fn a_signal_during_a_commit_that_fails_leaves_the_old_content() {
    needs_tool!("strace");
    let trace = clean_trace(&["out"], None);
    let rename = trace.only("rename", Call::renames);
    let Call { name, nth, .. } = &trace.own()[rename];
    let strace = Strace::new().inject(&format!("{name}:error=EIO:signal=SIGTERM:when={nth}"));
    let sandbox = Sandbox::new();
    sandbox.write("out", "old");
    let done = sandbox
        .atomwrite(["out"])
        .stdin("new")
        .through(strace.command())
        .output();
    assert_eq!(done.signal(), Some(libc::SIGTERM), "{done:?}");
    assert!(done.stderr.contains("; 'out' is unchanged"), "{done:?}");
    assert_eq!(sandbox.text("out"), "old");
    assert_eq!(sandbox.names(), ["out"]);
}

#[test]
fn a_signal_that_is_pending_when_the_input_ends_wins() {
    needs_tool!("strace");
    let trace = clean_trace(&["out"], None);
    let end = trace
        .places(|call| call.is("read") && call.args.starts_with("0<") && call.result == "0")
        .into_iter()
        .next_back()
        .expect("the end of the input is read");
    let nth = trace.own()[end].nth;
    for signal in ["SIGINT", "SIGTERM", "SIGHUP"] {
        for always in [None, Some(NAMED)] {
            let sandbox = Sandbox::new();
            sandbox.write("out", "old");
            let aim = format!("read:signal={signal}:when={nth}");
            let strace = strace_with(always, Some(&aim));
            let done = sandbox
                .atomwrite(["out"])
                .stdin("new")
                .through(strace.command())
                .output();
            assert!(done.signal().is_some(), "{done:?}");
            assert_eq!(sandbox.text("out"), "old");
            assert_eq!(sandbox.names(), ["out"]);
        }
    }
}

#[test]
fn the_file_size_limit_is_a_message_and_not_a_death() {
    needs_tool!("strace");
    for named in [false, true] {
        let sandbox = Sandbox::new();
        sandbox.write("out", "old");
        // Above what strace writes itself, which is under the same limit.
        let strace = Strace::new().inject(NAMED);
        let mut run = sandbox
            .atomwrite(["out"])
            .stdin(vec![b'x'; 9 << 20])
            .file_size_limit(8 << 20)
            .says("file too large");
        if named {
            run = run.through(strace.command());
        }
        run.fails(1);
        assert_eq!(sandbox.text("out"), "old");
    }
}
