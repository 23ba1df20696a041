//! Names of DEST, and its directory, which is opened once.
//!
//! Any bytes but NUL are a name; `-` and the empty string are usage errors. A trailing slash and a
//! directory are refused.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixListener;

use rustix::fs::inotify::WatchFlags;

use crate::harness::{Sandbox, Watch, each, needs_root, open, os};

// ---- Names ----

#[test]
fn takes_any_bytes_as_a_name() {
    let sandbox = Sandbox::new();
    let longest = "n".repeat(255);
    let names = [
        os(b"caf\xe9 \xff\xfe"),
        os(b"two\nlines"),
        os(b" "),
        os(b"\x1b[31mred"),
        os(b"it's"),
        os(b"*?$HOME`id`"),
        os("ümläut".as_bytes()),
        os(b"..."),
        os(longest.as_bytes()),
    ];
    for name in &names {
        for content in ["first", "second"] {
            sandbox.atomwrite([name]).stdin(content).succeeds();
            assert_eq!(sandbox.text(name), content, "{name:?}");
        }
    }
    let sandbox = Sandbox::new();
    for name in &names {
        // And as SOURCE.
        sandbox.write(name, "content");
        sandbox.atomwrite([name.clone(), "out".into()]).succeeds();
        assert_eq!(sandbox.text("out"), "content", "{name:?}");
    }
}

#[test]
fn takes_a_name_that_begins_with_a_dash() {
    let sandbox = Sandbox::new();
    sandbox.run("-- -x").stdin("first").writes("first");
    sandbox.run("./-x").stdin("second").writes("second");
    sandbox.run("-- -x --help").writes("second");
    sandbox.run("./-").stdin("third").writes("third");
    assert_eq!(sandbox.listing(), "-=third --help=second -x=second");
}

#[test]
fn refuses_a_dash_and_an_empty_dest_and_hints_at_a_file_of_that_name() {
    let sandbox = Sandbox::with("in", "x");
    sandbox.refuse_each(&[
        ("-", 2, "./-"),
        ("in -", 2, "./-"),
        ("-- -", 2, "./-"),
        ("- -", 2, "./-"),
        ("''", 2, "empty"),
        ("in ''", 2, "empty"),
    ]);
}

#[test]
fn refuses_a_name_that_is_too_long() {
    let sandbox = Sandbox::new();
    for name in ["n".repeat(256), "n/".repeat(2500) + "x"] {
        let run = sandbox.atomwrite([name]);
        run.stdin("new").fails_with(1, "too long");
    }
}

#[test]
fn writes_to_absolute_and_relative_paths() {
    let sandbox = Sandbox::new();
    sandbox.mkdir("a/b");
    let absolute = sandbox.path("a/absolute");
    sandbox.atomwrite([absolute]).stdin("1").succeeds();
    let run = sandbox.run("a/b/../relative").stdin("2");
    run.leaves(["a", "a/absolute", "a/b", "a/relative"])
        .succeeds();
    for (line, content) in [("../beside", "3"), ("././/here", "4")] {
        let run = sandbox.run(line).current_dir("a/b");
        run.stdin(content).succeeds();
    }
    let left = "a/ a/absolute=1 a/b/ a/b/here=4 a/beside=3 a/relative=2";
    assert_eq!(sandbox.listing(), left);
}

#[test]
fn refuses_a_trailing_slash_and_a_directory() {
    const NAMES: [&str; 16] = [
        "directory",
        "directory/",
        "directory//",
        "directory/.",
        "directory/below/..",
        ".",
        "..",
        "./",
        "/",
        "link",
        "link/",
        "new/",
        "file/",
        "file/.",
        "missing/.",
        "missing/..",
    ];
    let sandbox = Sandbox::with("in", "x");
    sandbox.sh("echo old >file; mkdir -p directory/below; ln -s directory link");
    each(NAMES, |name| {
        let typed = format!("'{name}'");
        sandbox.run(name).reads_nothing().fails_with(1, typed);
        sandbox.run(&format!("in {name}")).fails(1);
        sandbox.run(&format!("-f in {name}")).fails(1);
    });
    sandbox.refuse_each(&[
        ("directory", 1, "is a directory"),
        ("--no-dereference directory", 1, "directory"),
    ]);
}

#[test]
fn refuses_a_parent_that_is_missing_or_not_a_directory() {
    let sandbox = Sandbox::with("file", "old");
    // The way out is named.
    let way_out = "'missing/out': its directory does not exist; use --create-dirs to create it";
    sandbox.refuse_each(&[
        ("missing/out", 1, way_out),
        ("file/out", 1, "not a directory"),
    ]);
}

/// Runs it on a DEST that must be refused without being opened, and before any input is read.
#[track_caller]
fn is_refused_unopened(sandbox: &Sandbox, name: &str, reason: &str) {
    sandbox.symlink(name, "to-it");
    let watch = Watch::of(sandbox.path(name), WatchFlags::OPEN | WatchFlags::ACCESS);
    for dest in [name, "to-it"] {
        for option in ["-v", "-f", "--no-empty"] {
            let run = sandbox.atomwrite([option, dest]).reads_nothing();
            run.says(format!("'{dest}'")).fails_with(1, reason);
        }
    }
    let run = sandbox.atomwrite(["--no-dereference", name]);
    run.reads_nothing().fails_with(1, reason);
    assert_eq!(watch.events(), [], "{name} has been opened");
}

#[test]
fn refuses_a_fifo_and_a_socket_unopened() {
    let sandbox = Sandbox::new();
    sandbox.fifo("special");
    is_refused_unopened(&sandbox, "special", "FIFO");
    let sandbox = Sandbox::new();
    let _listener = UnixListener::bind(sandbox.path("special")).unwrap();
    is_refused_unopened(&sandbox, "special", "socket");
}

#[test]
fn refuses_devices_unopened() {
    needs_root!();
    for device in ["c 1 3", "b 7 250"] {
        let sandbox = Sandbox::new();
        sandbox.sh(&format!("mknod special {device}"));
        is_refused_unopened(&sandbox, "special", "device");
    }
}

#[test]
fn fails_on_files_of_proc_and_sys() {
    let sandbox = Sandbox::new();
    sandbox.refuse_each(&[
        ("/proc/self/comm", 1, "'/proc/self/comm'"),
        ("/proc/version", 1, "'/proc/version'"),
        ("/proc/new", 1, "'/proc/new'"),
        ("/sys/class/net/lo/mtu", 1, "'/sys/class/net/lo/mtu'"),
        ("/sys/new", 1, "'/sys/new'"),
    ]);
    // Replacing these would create a file beside the links of a process.
    for dest in ["/proc/self/fd/1", "/dev/fd/1"] {
        let run = sandbox.atomwrite(["--no-dereference", dest]);
        let run = run.refuses_the_way();
        run.stdin("new").fails_with(1, format!("'{dest}'"));
    }
}

#[test]
fn refuses_dev_null() {
    let sandbox = Sandbox::new();
    let before = fs::metadata("/dev/null").unwrap().ino();
    sandbox.refuse_each(&[("/dev/null", 1, "device"), ("-f /dev/null", 1, "device")]);
    assert_eq!(fs::metadata("/dev/null").unwrap().ino(), before);
}

#[test]
fn leaves_the_old_file_to_a_reader_that_has_it_open() {
    let sandbox = Sandbox::with("out", "old");
    let reader = open(sandbox.path("out"));
    sandbox.run("out").stdin("new").succeeds();
    assert_eq!(std::io::read_to_string(reader).unwrap(), "old");
}
