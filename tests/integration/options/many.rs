//! Many files: `-t DIR SOURCE...`, and the result for each.
//!
//! Every SOURCE arrives in DIR under its own base name. The options apply to each file, but `-a`,
//! `--lock`, `--sha256`, `--inplace`, stdin and COMMAND do not go with `-t`. Two SOURCEs with one
//! base name are a usage error.

use std::ffi::OsString;
use std::fs;

use crate::harness::{
    COMMIT_NEW, Call, NOBODY, Run, Sandbox, Strace, can_be_others, linux_only, needs_root,
    needs_tool, os, skip,
};

pub(crate) const NAMES: [&str; 3] = ["a", "b", "c"];

/// New files in `s`, and in `d` old ones by the names of the first two.
pub(crate) fn furnish(sandbox: &Sandbox) {
    sandbox.mkdir("s");
    sandbox.mkdir("d");
    for name in NAMES {
        sandbox.write(format!("s/{name}"), format!("new {name}"));
    }
    for name in &NAMES[..2] {
        sandbox.write(format!("d/{name}"), format!("old {name}"));
    }
}

pub(crate) fn ground() -> Sandbox {
    let sandbox = Sandbox::new();
    furnish(&sandbox);
    sandbox
}

/// The words that write all three.
pub(crate) fn words(options: &[&str]) -> Vec<OsString> {
    let words = options
        .iter()
        .chain(&["-t", "d", "s/a", "s/b", "s/c"])
        .map(OsString::from);
    words.collect()
}

/// The names that are there now, and these.
pub(crate) fn and(sandbox: &Sandbox, more: &[&str]) -> Vec<OsString> {
    let mut names = sandbox.names();
    names.extend(more.iter().map(OsString::from));
    names.sort();
    names.dedup();
    names
}

#[track_caller]
pub(crate) fn check_new(sandbox: &Sandbox) {
    for name in NAMES {
        assert_eq!(sandbox.text(format!("d/{name}")), format!("new {name}"));
    }
}

/// Expects a failure that leaves DIR, of that name, as it was and says so.
#[track_caller]
pub(crate) fn leaves_dir(run: Run<'_>, dir: &str, status: i32) {
    let done = run.refuses_the_way().fails(status);
    let end = format!("; '{dir}' is unchanged\n");
    assert!(done.stderr.ends_with(&end), "{done:?}");
}

/// A list as `find -print0` writes it.
pub(crate) fn list(names: &[&[u8]]) -> Vec<u8> {
    names
        .iter()
        .flat_map(|name| [name, &b"\0"[..]])
        .flatten()
        .copied()
        .collect()
}

// ---- Each file ----

#[test]
fn every_source_arrives_under_its_base_name_and_is_reported_in_order() {
    let sandbox = ground();
    sandbox.mkdir("s/deep");
    sandbox.write("s/deep/e.json", "deep");
    let odd = os(b"s/\xff\n");
    sandbox.write(&odd, "odd");
    sandbox.write("-x", "");
    let mut names = and(&sandbox, &["d/c", "d/e.json", "d/-x"]);
    names.push(os(b"d/\xff\n"));
    let mut words = vec!["-v".into(), "-t".into(), "d".into(), "s/c".into()];
    words.push(sandbox.path("s/deep/../deep/e.json").into_os_string());
    words.extend([odd, "./s//a".into(), "--".into(), "-x".into()]);
    let lines = [
        "atomwrite: created 'd/c' (5 bytes)",
        "atomwrite: created 'd/e.json' (4 bytes)",
        r"atomwrite: created 'd/'$'\xff\n' (3 bytes)",
        "atomwrite: replaced 'd/a' (5 bytes)",
        "atomwrite: created 'd/-x' (0 bytes)",
    ];
    let run = sandbox.atomwrite(words).leaves(names);
    let done = lines.into_iter().fold(run, Run::hears).succeeds();
    assert_eq!(done.stderr, lines.join("\n") + "\n");
    assert_eq!(sandbox.text("d/c"), "new c");
    assert_eq!(sandbox.text("d/e.json"), "deep");
    assert_eq!(sandbox.read(os(b"d/\xff\n")), b"odd");
    assert_eq!(sandbox.text("d/a"), "new a");
    assert_eq!(sandbox.text("d/-x"), "");
    assert_eq!(sandbox.text("d/b"), "old b");
}

#[test]
fn existing_files_keep_their_attributes_and_new_ones_get_the_mode_of_source() {
    needs_root!();
    needs_tool!("setfacl", "getfacl");
    let sandbox = ground();
    sandbox.chmod("d/a", 0o640);
    sandbox.chown("d/a", NOBODY, NOBODY);
    sandbox.set_xattr("d/b", "user.one", b"1");
    if !sandbox.setfacl("d/b", &["-m", "u:1:rw"]) {
        skip!("needs ACLs");
    }
    sandbox.chmod("s/a", 0o777);
    sandbox.chmod("s/c", 0o775);
    let acl = sandbox.acl("d/b");
    sandbox
        .atomwrite(words(&[]))
        .umask(0o027)
        .leaves(and(&sandbox, &["d/c"]))
        .succeeds();
    check_new(&sandbox);
    assert_eq!(sandbox.mode("d/a"), 0o640);
    assert_eq!(sandbox.owner("d/a"), (NOBODY, NOBODY));
    assert_eq!(sandbox.acl("d/b"), acl);
    assert_eq!(sandbox.xattr("d/b", "user.one").unwrap(), b"1");
    assert_eq!(sandbox.mode("d/c"), 0o750);
}

#[test]
fn new_files_inherit_from_their_directory() {
    // Through the directories in which they wait.
    needs_root!();
    needs_tool!("setfacl", "getfacl");
    let sandbox = ground();
    sandbox.chown("d", 0, NOBODY);
    sandbox.chmod("d", 0o2755);
    if !sandbox.setfacl("d", &["-d", "-m", "u:1:rw"]) {
        skip!("needs ACLs");
    }
    let old = sandbox.acl("d/a");
    sandbox
        .atomwrite(words(&[]))
        .leaves(and(&sandbox, &["d/c"]))
        .succeeds();
    check_new(&sandbox);
    assert_eq!(sandbox.owner("d/c"), (0, NOBODY));
    assert!(sandbox.acl("d/c").contains("user:1:rw-"));
    assert_eq!(sandbox.acl("d/a"), old);
}

#[test]
fn chosen_attributes_apply_to_each_file_and_names_are_resolved_once() {
    needs_root!();
    needs_tool!("strace", "getent");
    let asked = |sources: &[&str]| {
        let sandbox = ground();
        let trace = sandbox.aside("trace");
        let options = ["-m", "u=rw,go=", "-o", "nobody", "-g", "nogroup", "-t", "d"];
        sandbox
            .atomwrite(options.iter().chain(sources).copied())
            .through([
                "strace".as_ref(),
                "-fqq".as_ref(),
                "-e".as_ref(),
                "trace=execve".as_ref(),
                "-o".as_ref(),
                trace.as_os_str(),
            ])
            .leaves(and(&sandbox, &["d/c"]))
            .succeeds();
        for source in sources {
            let file = source.replace('s', "d");
            assert_eq!(sandbox.mode(&file), 0o600);
            assert_eq!(sandbox.owner(&file), (NOBODY, NOBODY));
        }
        let trace = fs::read_to_string(trace).unwrap();
        // One is an attempt for each directory of PATH; the last of them succeeds.
        let ran = |line: &&str| line.contains("getent") && line.ends_with(" = 0");
        trace.lines().filter(ran).count()
    };
    let (once, many) = (asked(&["s/c"]), asked(&["s/a", "s/b", "s/c"]));
    linux_only!("getent(1)");
    assert!(once > 0, "the test cannot see who is asked");
    assert_eq!(many, once);
}

#[test]
fn equal_files_are_left_alone_and_the_status_says_so_only_if_all_are() {
    let sandbox = ground();
    sandbox.write("d/a", "new a");
    let (inode, time) = (
        sandbox.inode("d/a"),
        sandbox.stat("d/a").modified().unwrap(),
    );
    let options = ["--unchanged-status", "7"];
    sandbox
        .atomwrite(words(&options))
        .leaves(and(&sandbox, &["d/c"]))
        .succeeds();
    check_new(&sandbox);
    assert_eq!(sandbox.inode("d/a"), inode);
    assert_eq!(sandbox.stat("d/a").modified().unwrap(), time);
    sandbox.atomwrite(words(&options)).leaves_alone(7);
    sandbox.atomwrite(words(&["-C"])).leaves_alone(0);
    // The mode is compared too.
    sandbox.chmod("d/b", 0o600);
    let inodes = NAMES.map(|name| sandbox.inode(format!("d/{name}")));
    sandbox
        .atomwrite(words(&["-C", "-m", "644"]))
        .leaves(sandbox.names())
        .succeeds();
    assert_eq!(sandbox.mode("d/b"), 0o644);
    let now = NAMES.map(|name| sandbox.inode(format!("d/{name}")));
    assert!(now[0] == inodes[0] && now[1] != inodes[1] && now[2] == inodes[2]);
}

#[test]
fn equal_files_are_synced_with_the_others() {
    needs_tool!("strace");
    let sandbox = ground();
    sandbox
        .atomwrite(words(&[]))
        .leaves(and(&sandbox, &["d/c"]))
        .succeeds();
    let trace = |injections: &[&str]| {
        let strace = injections
            .iter()
            .fold(Strace::new(), |strace, injection| strace.inject(injection));
        sandbox
            .atomwrite(words(&["-C"]))
            .through(strace.command())
            .leaves_alone(0);
        strace.trace()
    };
    let once = trace(&[]);
    if once.count(|call| call.is("syncfs")) == 0 && !cfg!(atomwrite_posix) {
        skip!("needs a filesystem that is flushed at once");
    }
    // Each by itself if syncfs is not reliable.
    let each = trace(&["fstatfs:error=EIO"]);
    for name in NAMES {
        let file = format!("/d/{name}>");
        each.only("fsync of an equal file", |call| {
            call.is("fsync") && call.args.contains(&file)
        });
    }
}

#[test]
fn each_old_file_has_its_backup() {
    let sandbox = ground();
    sandbox.write("d/a~", "older a");
    sandbox
        .atomwrite(words(&["-b"]))
        .leaves(and(&sandbox, &["d/b~", "d/c"]))
        .succeeds();
    check_new(&sandbox);
    assert_eq!(sandbox.text("d/a~"), "old a");
    assert_eq!(sandbox.text("d/b~"), "old b");
    sandbox
        .atomwrite(words(&["--backup=numbered"]))
        .leaves(and(&sandbox, &["d/a.~1~", "d/b.~1~", "d/c.~1~"]))
        .succeeds();
    for name in NAMES {
        assert_eq!(sandbox.text(format!("d/{name}.~1~")), format!("new {name}"));
    }
}

#[test]
fn numbered_backups_of_any_number_of_files_read_the_directory_twice() {
    needs_tool!("strace");
    let sandbox = ground();
    sandbox.write("d/b.~7~", "older b");
    let strace = Strace::new();
    sandbox
        .atomwrite(words(&["--backup=numbered"]))
        .through(strace.command())
        .leaves(and(&sandbox, &["d/a.~1~", "d/b.~8~", "d/c"]))
        .succeeds();
    check_new(&sandbox);
    assert_eq!(sandbox.text("d/b.~8~"), "old b");
    let trace = strace.trace();
    // Each reading ends with a call that finds nothing more. That the staging directory is empty is
    // checked by another.
    let ends = |call: &Call| {
        call.is("getdents64") && call.result == "0" && !call.args.contains(".atomwrite.")
    };
    let flushes = trace.places(|call| call.is("syncfs") || call.is("fsync") && call.on_draft());
    let before = *flushes.last().expect("nothing was flushed");
    let readings = trace.places(ends);
    let early = readings.iter().filter(|at| **at < before).count();
    let removal = trace
        .places(Call::renames)
        .pop()
        .expect("no file was renamed");
    let late = readings
        .iter()
        .filter(|at| **at > before && **at < removal)
        .count();
    assert_eq!((early, late), (1, 1), "{trace}");
}

#[test]
fn a_umask_of_777_changes_nothing() {
    let sandbox = ground();
    let mut run = sandbox.atomwrite(words(&["-m", "640"]));
    // Root may do everything in any case.
    if can_be_others() {
        for name in ["", "d", "s", "d/a", "d/b"] {
            sandbox.chown(name, NOBODY, NOBODY);
        }
        run = run.user(NOBODY, NOBODY, &[]);
    }
    run.umask(0o777).leaves(and(&sandbox, &["d/c"])).succeeds();
    check_new(&sandbox);
    assert_eq!(sandbox.mode("d/c"), 0o640);
}

#[test]
fn a_backup_does_not_take_the_place_of_another_of_the_files() {
    // In both orders: the one that is written last must not undo the other, nor a backup of this
    // run.
    for sources in [["s/a", "s/a~"], ["s/a~", "s/a"]] {
        let sandbox = ground();
        sandbox.write("s/a~", "new a~");
        let done = sandbox
            .atomwrite(["-b", "-t", "d"].iter().chain(&sources))
            .output();
        let content = |name: &str| fs::read_to_string(sandbox.path("d").join(name)).ok();
        let (file, other) = (content("a").unwrap(), content("a~"));
        if done.code() == Some(0) {
            assert_eq!(
                (file.as_str(), other.as_deref()),
                ("new a", Some("new a~")),
                "{sources:?}"
            );
            let names = sandbox.names();
            let mut inside = names
                .iter()
                .filter(|name| name.to_string_lossy().starts_with("d/a"));
            assert!(
                inside.any(|name| sandbox.text(name) == "old a"),
                "{sources:?}: no backup in {names:?}"
            );
        } else {
            assert_eq!(
                (file.as_str(), other),
                ("old a", None),
                "{sources:?}: {done:?}"
            );
        }
    }
}

// ---- DIR ----

#[test]
fn the_directory_may_be_typed_in_any_way() {
    for (dir, at) in [
        ("link", ""),
        ("d/", ""),
        ("d/../d/.", ""),
        ("../d", "s"),
        (".", "d"),
    ] {
        let sandbox = ground();
        sandbox.symlink("d", "link");
        let source = sandbox.path("s/c").into_os_string();
        sandbox
            .atomwrite(["-t".into(), dir.into(), source])
            .current_dir(at)
            .leaves(and(&sandbox, &["d/c"]))
            .succeeds();
        assert_eq!(sandbox.text("d/c"), "new c");
        assert!(sandbox.stat("link").is_symlink());
    }
}

#[test]
fn a_missing_directory_is_created_with_create_dirs() {
    let sandbox = ground();
    let into = |options: &[&'static str], last: &'static str| {
        let words = [options, &["-t", "one/two", "s/a", last]].concat();
        sandbox.atomwrite(words)
    };
    let missing = into(&[], "s/b").says("'one/two'").says("--create-dirs");
    missing.refuses_the_way().fails(1);
    into(&["-D"], "s/missing").says("'s/missing'").fails(1);
    into(&["-D", "--validate", "test \"${2##*/}\" != b"], "s/b")
        .refuses_the_way()
        .says("'one/two/b'")
        .fails(3);
    into(&["-D"], "s/b")
        .leaves(and(&sandbox, &["one", "one/two", "one/two/a", "one/two/b"]))
        .succeeds();
    assert_eq!(sandbox.text("one/two/b"), "new b");
}

#[test]
fn a_created_directory_is_removed_again_if_no_file_is_committed() {
    needs_tool!("strace");
    let sandbox = ground();
    let strace = Strace::new().inject(&format!("{COMMIT_NEW}:error=EIO"));
    sandbox
        .atomwrite(["-D", "-t", "one/two", "s/a", "s/b"])
        .through(strace.command())
        .refuses_the_way()
        .says("'one/two/a'")
        .fails(1);
    // And where links lead into each other's.
    sandbox.mkdir("far");
    sandbox.symlink("../far/one/x", "d/x");
    sandbox.symlink("../far/one/two/y", "d/y");
    sandbox.write("s/x", "x");
    sandbox.write("s/y", "y");
    for sources in [["s/x", "s/y"], ["s/y", "s/x"]] {
        let strace = Strace::new().inject(&format!("{COMMIT_NEW}:error=EIO"));
        let run = sandbox.atomwrite(["-D", "-t", "d"].iter().chain(&sources).copied());
        let first = sources[0].replace('s', "d");
        run.through(strace.command())
            .refuses_the_way()
            .fails_with(1, format!("cannot write '{first}': input/output error"));
    }
}

#[test]
fn a_dir_that_is_not_a_directory_is_refused() {
    let sandbox = ground();
    sandbox.symlink("nowhere", "dangling");
    for (dir, reason) in [("s/a", "not a directory"), ("dangling", "does not exist")] {
        sandbox
            .atomwrite(["-t", dir, "s/b"])
            .refuses_the_way()
            .says(format!("'{dir}'"))
            .says(reason)
            .fails(1);
    }
}
