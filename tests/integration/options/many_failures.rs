//! Many files: the messages if one fails, and what two runs or a signal leave.
//!
//! A failure among the renames is status 4, and a line for each file says whether it is new or old.
//! A signal before the commit leaves nothing. The torture suite tries errors and kills at every
//! system call.

use std::ffi::OsString;
use std::fs;

use rustix::process::Signal;

use crate::harness::{COMMIT, COMMIT_NEW, Feeder, NOBODY, Sandbox, Strace, needs_root, needs_tool};
use crate::options::many::{NAMES, and, check_new, ground, words};

/// The temporary names in DIR; not what is in a directory of such a name.
fn temporary_names(sandbox: &Sandbox) -> Vec<OsString> {
    let mut names = sandbox.names();
    names.retain(|name| {
        let name = name.to_string_lossy();
        name.contains(".atomwrite.") && name.matches('/').count() <= 1
    });
    names
}

/// What a name in DIR has: `None` if it is not there.
fn content(sandbox: &Sandbox, name: &str) -> Option<String> {
    fs::read_to_string(sandbox.path("d").join(name)).ok()
}

/// Whether each of the files is new; torn ones are a panic.
fn is_new(sandbox: &Sandbox, case: &str) -> [bool; 3] {
    NAMES.map(|name| {
        let content = content(sandbox, name);
        let old = (name != "c").then(|| format!("old {name}"));
        let is_new = content == Some(format!("new {name}"));
        assert!(is_new || content == old, "{case}: {name} is {content:?}");
        is_new
    })
}

#[test]
fn a_failure_among_the_renames_lists_the_new_and_the_old_files() {
    needs_tool!("strace");
    // The second replaces a file, the third is a new one.
    for (failed, new) in [("b", &["a"][..]), ("c", &["a", "b"])] {
        let sandbox = ground();
        let strace = Strace::new()
            .at(failed)
            .inject(&format!("{COMMIT}:error=EIO"));
        let mut run = sandbox
            .atomwrite(words(&["-v"]))
            .through(strace.command())
            .says(format!("cannot write 'd/{failed}': input/output error"));
        for name in NAMES {
            let what = if new.contains(&name) { "new" } else { "old" };
            run = run.hears(format!("atomwrite: {what}: 'd/{name}'"));
        }
        // The third name is new, too.
        let names = sandbox.names();
        let done = run.leaves(names).fails(4);
        let is_new = is_new(&sandbox, "after the failure");
        assert_eq!(is_new, NAMES.map(|name| new.contains(&name)));
        let last: Vec<_> = done.stderr.lines().skip(1).collect();
        assert_eq!(last.len(), 3, "the reason is not the first line: {done:?}");
        sandbox
            .atomwrite(words(&[]))
            .leaves(and(&sandbox, &["d/c"]))
            .succeeds();
        check_new(&sandbox);
    }
}

#[test]
fn a_file_that_was_equal_already_counts_as_new() {
    needs_tool!("strace");
    let sandbox = ground();
    sandbox.write("d/b", "new b");
    let [first, last] = ["a", "c"].map(|name| {
        Strace::new()
            .at(name)
            .inject(&format!("{COMMIT}:error=EIO"))
    });
    let run = |strace: &Strace| sandbox.atomwrite(words(&["-C"])).through(strace.command());
    // The first rename: nothing has changed yet.
    run(&first)
        .refuses_the_way()
        .says("input/output error; 'd/a' is unchanged")
        .fails(1);
    let reports = ["new: 'd/a'", "new: 'd/b'", "old: 'd/c'"];
    let run = run(&last).says("'d/c'").leaves(sandbox.names());
    reports
        .iter()
        .fold(run, |run, report| run.hears(format!("atomwrite: {report}")))
        .fails(4);
    assert_eq!(is_new(&sandbox, "-C"), [true, true, false]);
}

#[test]
fn a_name_that_was_taken_among_the_renames_is_not_replaced() {
    needs_tool!("strace");
    let sandbox = ground();
    for name in ["d/a", "d/b"] {
        fs::remove_file(sandbox.path(name)).unwrap();
    }
    let strace = Strace::new()
        .at("b")
        .inject(&format!("{COMMIT_NEW}:error=EEXIST"));
    sandbox
        .atomwrite(words(&["-n"]))
        .through(strace.command())
        .says("cannot create 'd/b': it exists")
        .hears("atomwrite: new: 'd/a'")
        .hears("atomwrite: old: 'd/b'")
        .hears("atomwrite: old: 'd/c'")
        .leaves(and(&sandbox, &["d/a"]))
        .fails(4);
}

#[test]
fn lost_attributes_are_reported_for_the_new_files_only() {
    needs_root!();
    needs_tool!("strace");
    let sandbox = ground();
    // The names in it are new to this user, and an owner cannot be kept.
    for name in ["", "d"] {
        sandbox.chown(name, NOBODY, NOBODY);
    }
    for name in ["d/a", "d/b"] {
        sandbox.write_with_mode(name, format!("old {}", &name[2..]), 0o666);
    }
    let strace = Strace::new()
        .at("b")
        .inject("rename,renameat,renameat2:error=EIO");
    let done = sandbox
        .atomwrite(words(&[]))
        .user(NOBODY, NOBODY, &[])
        .through(strace.command())
        .output();
    assert_eq!(done.code(), Some(4), "{done:?}");
    assert_eq!(is_new(&sandbox, "a warning"), [true, false, false]);
    let lines = done.stderr.lines();
    let warnings: Vec<_> = lines
        .filter(|line| line.starts_with("atomwrite: warning: "))
        .collect();
    assert!(
        warnings.len() == 2 && warnings.iter().all(|line| line.contains("'d/a'")),
        "{done:?}"
    );
}

#[test]
fn names_in_the_lists_are_one_to_a_line() {
    needs_tool!("strace");
    let sandbox = ground();
    sandbox.write("s/new\nold: x'", "odd");
    let strace = Strace::new()
        .at("a")
        .inject("rename,renameat,renameat2:error=EIO");
    sandbox
        .atomwrite(["-t", "d", "s/new\nold: x'", "s/a"])
        .through(strace.command())
        .says("'d/a'")
        .hears(r"atomwrite: new: 'd/new'$'\n''old: x'\'''")
        .hears("atomwrite: old: 'd/a'")
        .leaves(and(&sandbox, &["d/new\nold: x'"]))
        .fails(4);
}

#[test]
fn only_the_new_files_have_backups() {
    needs_tool!("strace");
    for older in [false, true] {
        let sandbox = ground();
        if older {
            sandbox.write("d/b~", "older b");
        }
        let renames = "rename,renameat,renameat2:error=EIO";
        let strace = Strace::new().inject(renames).at("b");
        let done = sandbox
            .atomwrite(words(&["-b"]))
            .through(strace.command())
            .output();
        assert_eq!(done.code(), Some(4), "{done:?}");
        assert_eq!(is_new(&sandbox, "-b"), [true, false, false]);
        assert_eq!(content(&sandbox, "a~").as_deref(), Some("old a"));
        // An older one that was replaced stays replaced.
        let replaced = older.then_some("old b");
        assert_eq!(content(&sandbox, "b~").as_deref(), replaced);
        assert_eq!(temporary_names(&sandbox), [""; 0]);
    }
}

#[test]
fn each_file_is_synced_by_itself_where_syncfs_is_refused() {
    needs_tool!("strace");
    for error in ["ENOSYS", "EPERM", "EINVAL"] {
        let sandbox = ground();
        let strace = Strace::new().inject(&format!("syncfs:error={error}"));
        sandbox
            .atomwrite(words(&[]))
            .through(strace.command())
            .leaves(and(&sandbox, &["d/c"]))
            .succeeds();
        check_new(&sandbox);
        let trace = strace.trace();
        let first =
            trace.places(|call| call.renames() && call.succeeded() && call.args.ends_with("\"a\""));
        for name in NAMES {
            let synced = trace.places(|call| {
                call.is("fsync") && call.succeeded() && call.args.ends_with(&format!("/{name}>"))
            });
            assert!(synced.iter().any(|at| *at < first[0]), "{name} {trace}");
        }
    }
}

#[test]
fn an_equal_file_is_synced_by_itself_where_syncfs_is_refused() {
    needs_tool!("strace");
    let sandbox = ground();
    sandbox.sh("cp s/a d/a");
    let strace = Strace::new().inject("syncfs:error=ENOSYS");
    let run = sandbox.atomwrite(words(&["-C"]));
    let run = run.through(strace.command());
    run.leaves(and(&sandbox, &["d/c"])).succeeds();
    let trace = strace.trace();
    trace.only("fsync of the equal file", |call| {
        call.is("fsync") && call.args.ends_with("/d/a>")
    });
}

#[test]
fn a_signal_leaves_nothing_of_many_directories_full() {
    // More than one staging subdirectory of files.
    let sandbox = ground();
    let fifo = sandbox.fifo("s/fifo");
    let mut list = Vec::new();
    for file in 0..300 {
        sandbox.write(format!("s/{file}"), "x");
        list.extend(format!("s/{file}\0").bytes());
    }
    list.extend(b"s/fifo");
    let names = sandbox.names();
    let run = sandbox
        .atomwrite(["-t", "d", "--files0-from=-"])
        .stdin(list)
        .start();
    let feeder = Feeder::open(&fifo);
    assert!(sandbox.names().len() >= names.len() + 300);
    run.signal(Signal::TERM);
    let done = run.wait();
    drop(feeder);
    assert_eq!(done.signal(), Some(libc::SIGTERM), "{done:?}");
    assert_eq!(sandbox.names(), names);
}

#[test]
fn two_runs_that_wait_at_once_do_not_disturb_each_other() {
    let sandbox = ground();
    let fifos = ["s/one", "s/two"].map(|name| sandbox.fifo(name));
    let names = and(&sandbox, &["d/one", "d/two"]);
    let start = |fifo: &'static str| sandbox.atomwrite(["-t", "d", "s/a", fifo]).start();
    let first = start("s/one");
    let first_feeder = Feeder::open(&fifos[0]);
    let second = start("s/two");
    let second_feeder = Feeder::open(&fifos[1]);
    assert_eq!(temporary_names(&sandbox).len(), 2);
    drop(first_feeder);
    let done = first.wait();
    assert_eq!((done.code(), done.stderr.as_str()), (Some(0), ""));
    assert_eq!(temporary_names(&sandbox).len(), 1);
    drop(second_feeder);
    let done = second.wait();
    assert_eq!((done.code(), done.stderr.as_str()), (Some(0), ""));
    assert_eq!(sandbox.names(), names);
    assert_eq!(sandbox.text("d/one"), "begun\n");
    assert_eq!(sandbox.text("d/two"), "begun\n");
}

#[test]
fn only_a_backup_name_of_the_chosen_kind_is_taken() {
    for (option, names, is_taken) in [
        ("-b", ["a", "a~"], true),
        ("--backup=numbered", ["a", "a~"], false),
        ("--backup=numbered", ["a", "a.~1~"], true),
        ("--backup=simple", ["a", "a.~1~"], false),
        ("--backup=existing", ["a", "a.~1~"], true),
    ] {
        let sandbox = Sandbox::new();
        sandbox.mkdir("d");
        for name in names {
            sandbox.write(name, "new");
        }
        let done = sandbox
            .atomwrite([option, "-t", "d", names[0], names[1]])
            .output();
        let is_refused = done.stderr.contains("its name is the backup name of 'd/a'");
        assert_eq!(is_refused, is_taken, "{option}: {done:?}");
        assert_eq!(done.code(), Some(i32::from(is_taken)), "{done:?}");
    }
}
