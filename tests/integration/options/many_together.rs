//! Many files: `-t DIR SOURCE...`, all of them together.
//!
//! All files are staged, checked and on the disk before the first name changes. If anything fails
//! until then, no file of DIR is touched. The disk is flushed once for all files. Their number has
//! no limit.

use std::io::Read;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};
use std::{fs, thread};

use crate::harness::{
    Call, Cover, Feeder, Mount, NOBODY, Sandbox, Strace, Trace, linux_only, needs_mounts,
    needs_root, needs_tool, terminal, wait_until,
};
use crate::options::many::{and, check_new, furnish, ground, leaves_dir, words};

// ---- All files are ready before the first rename ----

#[test]
fn one_file_that_cannot_be_read_or_replaced_leaves_all_unchanged() {
    let sandbox = ground();
    sandbox.mkdir("d/sub");
    sandbox.write("s/sub", "");
    sandbox.mkdir("s/dir");
    sandbox.symlink("loop", "d/loop");
    sandbox.write("s/loop", "");
    let last = |name: &str| [words(&[]), vec![name.into()]].concat();
    for (source, part) in [
        ("s/missing", "'s/missing'"),
        ("s/dir", "'s/dir'"),
        ("s/sub", "'d/sub': it is a directory"),
        ("s/loop", "'d/loop': too many levels"),
    ] {
        leaves_dir(sandbox.atomwrite(last(source)).says(part), "d", 1);
    }
}

#[test]
fn a_guard_that_refuses_one_file_leaves_all_unchanged() {
    let sandbox = ground();
    leaves_dir(
        sandbox
            .atomwrite(["-n", "-t", "d", "s/c", "s/a"])
            .says("'d/a': it exists"),
        "d",
        3,
    );
    sandbox.symlink("nowhere", "d/c");
    leaves_dir(
        sandbox
            .atomwrite(["-n", "-t", "d", "s/c"])
            .says("'d/c': it exists"),
        "d",
        3,
    );
    fs::remove_file(sandbox.path("d/c")).unwrap();
    sandbox.write("s/c", "");
    leaves_dir(
        sandbox
            .atomwrite(words(&["--no-empty"]))
            .says("'d/c': the content is empty"),
        "d",
        3,
    );
    // An empty file that has a name is meant to be.
    sandbox
        .atomwrite(words(&[]))
        .leaves(and(&sandbox, &["d/c"]))
        .succeeds();
    assert_eq!(sandbox.text("d/c"), "");
    sandbox.write("s/e", "e");
    sandbox
        .atomwrite(["-n", "-t", "d", "s/e"])
        .leaves(and(&sandbox, &["d/e"]))
        .succeeds();
}

#[test]
fn a_file_that_the_user_may_not_write_to_needs_force() {
    needs_root!();
    let sandbox = ground();
    for name in ["d", "d/a", "d/b"] {
        sandbox.chown(name, NOBODY, NOBODY);
    }
    sandbox.chmod("d/b", 0o444);
    let run = |options| sandbox.atomwrite(words(options)).user(NOBODY, NOBODY, &[]);
    leaves_dir(run(&["--keep=none"]).says("'d/b'").says("--force"), "d", 1);
    run(&["--keep=none", "-f"])
        .leaves(and(&sandbox, &["d/c"]))
        .succeeds();
    check_new(&sandbox);
}

#[test]
fn a_file_that_was_created_during_the_run_is_refused_before_any_rename() {
    let sandbox = ground();
    fs::remove_file(sandbox.path("d/a")).unwrap();
    let fifo = sandbox.fifo("s/fifo");
    let run = sandbox
        .atomwrite(["-n", "-t", "d", "s/a", "s/fifo"])
        .start();
    let feeder = Feeder::open(&fifo);
    sandbox.write("d/a", "theirs");
    let names = sandbox.names().into_iter();
    let expected: Vec<_> = names
        .filter(|name| !name.to_string_lossy().contains("/."))
        .collect();
    drop(feeder);
    let done = run.wait();
    assert_eq!(done.code(), Some(3), "{done:?}");
    assert_eq!(
        done.stderr,
        "atomwrite: cannot create 'd/a': it exists, and --no-clobber was given; 'd' is unchanged\n"
    );
    assert_eq!(sandbox.text("d/a"), "theirs");
    assert_eq!(sandbox.names(), expected);
}

#[test]
fn a_validator_sees_each_file_by_its_name_and_mode_while_all_are_old() {
    let sandbox = ground();
    sandbox.chmod("d/b", 0o600);
    let seen = sandbox.aside("seen");
    // What is on stdin, at $1, and in DIR.
    let script = "test \"$2\" = \"$PWD/d/${1##*/}\" &&
        echo ${1##*/} $(stat -c %a \"$1\") $(cat) $(cat \"$1\") $(cat d/*) >>\"$SEEN\"";
    sandbox
        .atomwrite(words(&["--validate", script]))
        .env("SEEN", &seen)
        .env("ROOT", sandbox.root())
        .leaves(and(&sandbox, &["d/c"]))
        .succeeds();
    check_new(&sandbox);
    assert_eq!(sandbox.mode("d/b"), 0o600);
    assert_eq!(
        fs::read_to_string(seen).unwrap(),
        "a 644 new a new a old aold b\n\
         b 600 new b new b old aold b\n\
         c 644 new c new c old aold b\n"
    );
}

#[test]
fn a_validator_that_refuses_one_file_leaves_all_unchanged() {
    let sandbox = ground();
    let run = |script| sandbox.atomwrite(words(&["--validate", script]));
    leaves_dir(
        run("test \"${2##*/}\" != c").says("'d/c': the validator exited with status 1"),
        "d",
        3,
    );
    leaves_dir(
        run("exec 2>/dev/null; no-such-program")
            .says("cannot validate 'd/a': the validator could not be run (status 127)"),
        "d",
        1,
    );
}

#[test]
fn one_preview_serves_all_and_has_the_other_entries_as_links() {
    let sandbox = ground();
    sandbox.write("d/include", "included");
    let script = "test -L \"${1%/*}/include\" && test \"$(cat \"${1%/*}/include\")\" = included &&
        test ! -L \"$1\" && echo \"${1%/*}\" >>\"$SEEN\"";
    let seen = sandbox.aside("seen");
    sandbox
        .atomwrite(words(&["--validate", script]))
        .env("SEEN", &seen)
        .leaves(and(&sandbox, &["d/c"]))
        .succeeds();
    check_new(&sandbox);
    let seen = fs::read_to_string(seen).unwrap();
    let previews: Vec<_> = seen.lines().collect();
    assert!(
        previews.len() == 3 && previews.iter().all(|preview| *preview == previews[0]),
        "{seen}"
    );
}

#[test]
fn changes_that_a_validator_makes_to_the_previews_are_discarded() {
    for write in [
        "echo more >>\"$1\"",
        "rm -f \"${1%/*}\"/[abc]",
        "for file in a b c; do echo more >\"${1%/*}/new\"; mv \"${1%/*}/new\" \"${1%/*}/$file\"; done",
        "mkdir -p \"${1%/*}/x/y\"; : >\"${1%/*}/x/y/z\"",
    ] {
        let sandbox = ground();
        sandbox
            .atomwrite(words(&["--validate", write]))
            .leaves(and(&sandbox, &["d/c"]))
            .succeeds();
        check_new(&sandbox);
    }
}

#[test]
fn a_file_that_was_validated_has_the_time_of_its_last_write() {
    let sandbox = ground();
    let before = SystemTime::now() - Duration::from_millis(20);
    sandbox
        .atomwrite(words(&["--validate", "true"]))
        .leaves(and(&sandbox, &["d/c"]))
        .succeeds();
    let modified = fs::metadata(sandbox.path("d/a")).unwrap().modified();
    assert!(modified.unwrap() >= before, "a second was not given back");
}

// ---- Links ----

#[test]
fn a_link_is_followed_and_the_new_file_is_staged_beside_its_target() {
    needs_tool!("strace");
    let sandbox = ground();
    sandbox.mkdir("far");
    sandbox.write("far/target", "old");
    fs::remove_file(sandbox.path("d/a")).unwrap();
    sandbox.symlink("../far/target", "d/a");
    sandbox.symlink("../far/c", "d/c");
    let strace = Strace::new();
    sandbox
        .atomwrite(words(&[]))
        .through(strace.command())
        .leaves(and(&sandbox, &["far/c"]))
        .succeeds();
    check_new(&sandbox);
    assert!(sandbox.stat("d/a").is_symlink() && sandbox.stat("d/c").is_symlink());
    assert_eq!(sandbox.text("far/target"), "new a");
    let trace = strace.trace();
    let renamed = |from: &str, to: &str| {
        trace.only("rename", |call| {
            (call.renames() || call.is("linkat"))
                && call.args.contains(from)
                && call.args.contains(to)
        })
    };
    renamed("/far/.atomwrite.", "\"target\"");
    renamed("/far/.atomwrite.", "\"c\"");
    renamed("/d/.atomwrite.", "\"b\"");
    // Both have new names.
    for dir in ["/d>", "/far>"] {
        trace.only("fsync of a directory", |call| {
            call.is("fsync") && call.args.contains(dir)
        });
    }
}

#[test]
fn a_link_is_replaced_with_no_dereference() {
    let sandbox = ground();
    sandbox.mkdir("far");
    sandbox.write("far/c", "theirs");
    sandbox.symlink("../far/c", "d/c");
    let names = sandbox.names();
    sandbox
        .atomwrite(words(&["--no-dereference"]))
        .leaves(names)
        .succeeds();
    check_new(&sandbox);
    assert!(sandbox.stat("d/c").is_file());
    assert_eq!(sandbox.text("far/c"), "theirs");
}

#[test]
fn two_names_that_lead_to_one_file_are_refused() {
    for target in ["b", "../d/b", "./b", "../link/b"] {
        let sandbox = ground();
        sandbox.symlink("d", "link");
        sandbox.symlink(target, "d/c");
        let run = sandbox.atomwrite(words(&[]));
        leaves_dir(run.says("'d/c': it is the same file as 'd/b'"), "d", 1);
    }
    // Also one that is not there yet.
    let sandbox = ground();
    sandbox.mkdir("far");
    sandbox.symlink("../far/x", "d/c");
    sandbox.write("s/e", "e");
    sandbox.symlink("../far/x", "d/e");
    leaves_dir(
        sandbox
            .atomwrite(["-t", "d", "s/c", "s/e"])
            .says("the same file"),
        "d",
        1,
    );
    // Two names of one old file are two files afterwards.
    let sandbox = ground();
    sandbox.hard_link("d/a", "d/c");
    let names = sandbox.names();
    sandbox.atomwrite(words(&[])).leaves(names).succeeds();
    check_new(&sandbox);
}

// ---- One flush for all ----

/// Where the writes, the flushes and the renames of a run stand.
struct Order {
    trace: Trace,
    writes: Vec<usize>,
    drafts_synced: Vec<usize>,
    flushes: Vec<usize>,
    renames: Vec<usize>,
    names_synced: Vec<usize>,
}

impl Order {
    fn of(sandbox: &Sandbox, options: &[&str], injection: Option<&str>) -> Self {
        furnish(sandbox);
        let strace = injection.into_iter().fold(Strace::new(), Strace::inject);
        sandbox
            .atomwrite(words(options))
            .through(strace.command())
            .leaves(and(sandbox, &["d/c"]))
            .succeeds();
        check_new(sandbox);
        let trace = strace.trace();
        let writes = |call: &Call| {
            call.is("write") && call.on_draft()
                || call.is("copy_file_range")
                    && call.args.contains("/.atomwrite.")
                    && !call.result.starts_with('0')
        };
        let order = Self {
            writes: trace.places(writes),
            drafts_synced: trace.places(|call| call.is("fsync") && call.on_draft()),
            flushes: trace.places(|call| call.is("syncfs")),
            // On a filesystem that is not local, a new DEST is linked.
            renames: trace.places(|call| call.renames() || call.links()),
            names_synced: trace.places(|call| call.is("fsync") && call.args.ends_with("/d>")),
            trace,
        };
        assert_eq!(order.renames.len(), 3, "{}", order.trace);
        assert!(order.writes.len() >= 3, "{}", order.trace);
        assert!(
            order.writes.last() < order.renames.first(),
            "{}",
            order.trace
        );
        assert!(
            order
                .names_synced
                .iter()
                .all(|at| Some(at) > order.renames.last()),
            "{}",
            order.trace
        );
        order
    }

    #[track_caller]
    fn counts(&self, drafts_synced: usize, flushes: usize, names_synced: usize) {
        let counted = (
            self.drafts_synced.len(),
            self.flushes.len(),
            self.names_synced.len(),
        );
        assert_eq!(
            counted,
            (drafts_synced, flushes, names_synced),
            "{}",
            self.trace
        );
        let all = self
            .trace
            .count(|call| call.is("fsync") || call.is("fdatasync"));
        assert_eq!(all, drafts_synced + names_synced, "{}", self.trace);
        for flush in self.drafts_synced.iter().chain(&self.flushes) {
            assert!(Some(flush) < self.renames.first(), "{}", self.trace);
        }
        for flush in &self.flushes {
            assert!(Some(flush) > self.writes.last(), "{}", self.trace);
        }
    }
}

#[test]
fn the_disk_is_flushed_once_before_the_first_rename_and_the_directory_after_the_last() {
    needs_mounts!();
    needs_tool!("strace", "mkfs.ext4");
    // Without syncfs, each file by itself.
    let (files, disk) = if cfg!(atomwrite_posix) {
        (3, 0)
    } else {
        (0, 1)
    };
    let mount = Mount::ext4(32, &[]);
    let order = |options: &[&str]| Order::of(&Sandbox::in_dir(mount.path()), options, None);
    order(&[]).counts(files, disk, 1);
    order(&["--sync=full"]).counts(files, disk, 1);
    order(&["--sync=file"]).counts(files, disk, 0);
    order(&["--sync=none"]).counts(0, 0, 0);
}

#[test]
fn every_file_is_synced_if_syncfs_is_not_reliable() {
    needs_tool!("strace");
    let order = |options: &[&str]| Order::of(&Sandbox::new(), options, Some("fstatfs:error=EIO"));
    order(&[]).counts(3, 0, 1);
    order(&["--sync=file"]).counts(3, 0, 0);
    order(&["--sync=none"]).counts(0, 0, 0);
}

#[test]
fn every_file_is_synced_on_an_overlay() {
    needs_mounts!();
    needs_tool!("strace", "mkfs.ext4");
    let mount = Mount::overlay(Mount::ext4(32, &[]), |_| {});
    Order::of(&Sandbox::in_dir(mount.path()), &[], None).counts(3, 0, 1);
}

#[test]
fn every_filesystem_that_a_link_leads_to_is_synced() {
    linux_only!("syncfs");
    needs_mounts!();
    needs_tool!("strace", "mkfs.ext4");
    let (here, far) = (Mount::ext4(32, &[]), Mount::ext4(32, &[]));
    let sandbox = Sandbox::in_dir(here.path());
    sandbox.mkdir("d");
    sandbox.symlink(far.path().join("c"), "d/c");
    let order = Order::of(&sandbox, &[], None);
    assert_eq!(order.drafts_synced, [0; 0], "{}", order.trace);
    let synced = |mount: &Mount| {
        let path = mount.path().to_str().unwrap();
        order
            .trace
            .count(|call| call.is("syncfs") && call.args.contains(path))
    };
    assert_eq!((synced(&here), synced(&far)), (1, 1), "{}", order.trace);
    assert_eq!(fs::read_to_string(far.path().join("c")).unwrap(), "new c");
    // A mounted file that is equal already is synced by itself.
    sandbox.write("d/mounted", "");
    sandbox.write("mounted", "new c");
    let _cover = Cover::bind(&far.path().join("c"), &sandbox.path("d/mounted"));
    let strace = Strace::new();
    let run = sandbox.atomwrite(["-C", "-t", "d", "mounted"]);
    run.through(strace.command()).succeeds();
    strace.trace().only("fsync of the equal file", |call| {
        call.is("fsync") && call.args.ends_with("/mounted>")
    });
}

#[test]
fn thousands_of_files_need_few_descriptors() {
    const FILES: usize = 5000;
    let sandbox = Sandbox::new();
    sandbox.mkdir("s");
    sandbox.mkdir("d");
    let name = |file: usize| format!("{file:04}");
    let mut list = Vec::new();
    for file in 0..FILES {
        fs::write(sandbox.path("s").join(name(file)), name(file)).unwrap();
        list.extend(format!("s/{}\0", name(file)).bytes());
    }
    let run = |list: &[u8]| {
        sandbox
            .atomwrite(["-t", "d", "--files0-from=-"])
            .stdin(list)
            .through(["sh", "-c", "ulimit -n 64; exec \"$0\" \"$@\""])
            .output()
    };
    let inside = || fs::read_dir(sandbox.path("d")).unwrap().count();
    // The last file fails: thousands of staged files must be removed.
    let done = run(&[&list[..], b"s/missing"].concat());
    assert_eq!(done.code(), Some(1), "{done:?}");
    assert_eq!(
        done.stderr,
        "atomwrite: cannot open 's/missing': no such file or directory; 'd' is unchanged\n"
    );
    assert_eq!(inside(), 0);
    let done = run(&list);
    assert_eq!((done.code(), done.stderr.as_str()), (Some(0), ""));
    assert_eq!(inside(), FILES);
    for file in 0..FILES {
        assert_eq!(sandbox.text(Path::new("d").join(name(file))), name(file));
    }
}

#[test]
fn with_any_number_of_descriptors_nothing_is_left() {
    let mut enough = 0;
    for limit in 3..20 {
        for options in [&["-t", "d"][..], &["-D", "-t", "new"], &["-b", "-t", "d"]] {
            let sandbox = ground();
            let limited = format!("ulimit -n {limit}; exec \"$@\"");
            let done = sandbox
                .atomwrite(options.iter().chain(&["s/a", "s/b"]))
                .through(["sh", "-c", &limited, "sh"])
                .output();
            let left: Vec<_> = sandbox
                .names()
                .into_iter()
                .filter(|name| name.to_string_lossy().contains(".atomwrite"))
                .collect();
            assert!(left.is_empty(), "{limit} {options:?}: {left:?} {done:?}");
            enough += usize::from(done.code() == Some(0));
        }
    }
    assert!(enough > 20, "{enough}");
}

#[test]
fn progress_shows_files_and_bytes_and_is_erased_at_the_end() {
    let sandbox = ground();
    let fifo = sandbox.fifo("s/fifo");
    let (mut ours, theirs) = terminal();
    let written = Arc::new(Mutex::new(String::new()));
    let all = Arc::clone(&written);
    let reader = thread::spawn(move || {
        let mut buffer = [0; 4096];
        // EIO when the last of the other ends is closed.
        while let Ok(length @ 1..) = ours.read(&mut buffer) {
            all.lock()
                .unwrap()
                .push_str(&String::from_utf8_lossy(&buffer[..length]));
        }
    });
    let run = sandbox
        .atomwrite(["--progress", "-t", "d", "s/a", "s/fifo", "s/c"])
        .stderr_to(theirs)
        .start();
    let mut feeder = Feeder::open(&fifo);
    wait_until("the rate is shown", || {
        feeder.feed(b"some more\n");
        written.lock().unwrap().contains("B/s")
    });
    let shown = written.lock().unwrap().clone();
    drop(feeder);
    let done = run.wait();
    reader.join().unwrap();
    assert_eq!(done.code(), Some(0), "{done:?}");
    assert!(shown.contains("1 of 3 files, "), "{shown:?}");
    // The size of a FIFO's content is unknown.
    assert!(!shown.contains(" of 10 B"), "{shown:?}");
    let text = written.lock().unwrap().clone();
    assert!(
        text.ends_with("\u{1b}[2K") || text.ends_with('\r'),
        "something is left of {text:?}"
    );
    assert_eq!(sandbox.text("d/c"), "new c");
    assert!(sandbox.stat("d/fifo").is_file());
}
