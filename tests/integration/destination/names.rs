//! What DEST may be called, and the directory that it is in, which is opened once.
//!
//! Any bytes but NUL; `-` and the empty string are usage errors. A trailing slash and a directory are refused.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixListener;
use std::path::Path;

use rustix::fs::inotify::WatchFlags;

use crate::harness::{Sandbox, Watch, Witness, needs_root, open, os, tool};

// ---- Names -----------------------------------------------------------------------------------------------------

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
    sandbox.atomwrite(["--", "-x"]).stdin("first").succeeds();
    assert_eq!(sandbox.text("-x"), "first");
    sandbox.atomwrite(["./-x"]).stdin("second").succeeds();
    assert_eq!(sandbox.text("-x"), "second");
    sandbox.atomwrite(["--", "-x", "--help"]).succeeds();
    assert_eq!(sandbox.text("--help"), "second");
    sandbox.atomwrite(["./-"]).stdin("third").succeeds();
    assert_eq!(sandbox.text("-"), "third");
}

#[test]
fn refuses_a_dash_as_dest_and_hints_at_a_file_of_that_name() {
    let sandbox = Sandbox::new();
    sandbox.write("in", "x");
    let input = Witness::new();
    sandbox
        .atomwrite(["-"])
        .stdin_from(input.input())
        .says("./-")
        .fails(2);
    sandbox
        .atomwrite(["in", "-"])
        .stdin_from(input.input())
        .says("./-")
        .fails(2);
    sandbox
        .atomwrite(["--", "-"])
        .stdin_from(input.input())
        .says("./-")
        .fails(2);
    sandbox
        .atomwrite(["-", "-"])
        .stdin_from(input.input())
        .says("./-")
        .fails(2);
    input.has_not_been_read();
}

#[test]
fn refuses_an_empty_dest() {
    let sandbox = Sandbox::new();
    sandbox.write("in", "x");
    sandbox.atomwrite([""]).stdin("new").says("empty").fails(2);
    sandbox.atomwrite(["in", ""]).says("empty").fails(2);
}

#[test]
fn refuses_a_name_that_is_too_long() {
    let sandbox = Sandbox::new();
    sandbox
        .atomwrite(["n".repeat(256)])
        .stdin("new")
        .says("too long")
        .fails(1);
    sandbox
        .atomwrite(["n/".repeat(2500) + "x"])
        .stdin("new")
        .says("too long")
        .fails(1);
}

#[test]
fn writes_to_absolute_and_relative_paths() {
    let sandbox = Sandbox::new();
    sandbox.mkdir("a/b");
    let absolute = sandbox.path("a/absolute");
    sandbox.atomwrite([absolute]).stdin("1").succeeds();
    sandbox
        .atomwrite(["a/b/../relative"])
        .stdin("2")
        .leaves(["a", "a/absolute", "a/b", "a/relative"])
        .succeeds();
    sandbox
        .atomwrite(["../beside"])
        .current_dir("a/b")
        .stdin("3")
        .succeeds();
    sandbox
        .atomwrite(["././/here"])
        .current_dir("a/b")
        .stdin("4")
        .succeeds();
    for (name, content) in [
        ("absolute", "1"),
        ("relative", "2"),
        ("beside", "3"),
        ("b/here", "4"),
    ] {
        assert_eq!(sandbox.text(Path::new("a").join(name)), content);
    }
}

#[test]
fn refuses_a_trailing_slash_and_a_directory() {
    let sandbox = Sandbox::new();
    sandbox.write("in", "x");
    sandbox.write("file", "old");
    sandbox.mkdir("directory/below");
    sandbox.symlink("directory", "link");
    let names = [
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
    for name in names {
        let input = Witness::new();
        let done = sandbox.atomwrite([name]).stdin_from(input.input()).fails(1);
        assert!(done.stderr.contains(&format!("'{name}'")), "{done:?}");
        input.has_not_been_read();
        sandbox.atomwrite(["in", name]).fails(1);
        sandbox.atomwrite(["-f", "in", name]).fails(1);
    }
    sandbox
        .atomwrite(["directory"])
        .stdin("new")
        .says("is a directory")
        .fails(1);
}

#[test]
fn refuses_a_directory_without_dereference_too() {
    let sandbox = Sandbox::new();
    sandbox.mkdir("directory");
    sandbox
        .atomwrite(["--no-dereference", "directory"])
        .stdin("new")
        .says("directory")
        .fails(1);
}

#[test]
fn refuses_a_parent_that_is_missing_or_no_directory() {
    let sandbox = Sandbox::new();
    sandbox.write("file", "old");
    let input = Witness::new();
    // The way out is named.
    sandbox
        .atomwrite(["missing/out"])
        .stdin_from(input.input())
        .says("'missing/out'")
        .says("--create-dirs")
        .fails(1);
    sandbox
        .atomwrite(["file/out"])
        .stdin_from(input.input())
        .says("not a directory")
        .fails(1);
    input.has_not_been_read();
}

/// Runs it on a DEST that must be refused without being opened, and before any input is read.
#[track_caller]
fn is_refused_unopened(sandbox: &Sandbox, name: &str, reason: &str) {
    sandbox.symlink(name, "to-it");
    let watch = Watch::of(sandbox.path(name), WatchFlags::OPEN | WatchFlags::ACCESS);
    for dest in [name, "to-it"] {
        for option in ["-v", "-f", "--no-empty"] {
            let input = Witness::new();
            sandbox
                .atomwrite([option, dest])
                .stdin_from(input.input())
                .says(format!("'{dest}'"))
                .says(reason)
                .fails(1);
            input.has_not_been_read();
        }
    }
    let input = Witness::new();
    sandbox
        .atomwrite(["--no-dereference", name])
        .stdin_from(input.input())
        .says(reason)
        .fails(1);
    assert_eq!(watch.events(), [], "{name} has been opened");
}

#[test]
fn refuses_a_fifo_unopened() {
    let sandbox = Sandbox::new();
    sandbox.fifo("special");
    is_refused_unopened(&sandbox, "special", "FIFO");
}

#[test]
fn refuses_a_socket_unopened() {
    let sandbox = Sandbox::new();
    let _listener = UnixListener::bind(sandbox.path("special")).unwrap();
    is_refused_unopened(&sandbox, "special", "socket");
}

#[test]
fn refuses_devices_unopened() {
    needs_root!();
    let sandbox = Sandbox::new();
    tool(
        "mknod",
        [
            sandbox.path("special").as_os_str(),
            "c".as_ref(),
            "1".as_ref(),
            "3".as_ref(),
        ],
    );
    is_refused_unopened(&sandbox, "special", "device");
    let sandbox = Sandbox::new();
    tool(
        "mknod",
        [
            sandbox.path("special").as_os_str(),
            "b".as_ref(),
            "7".as_ref(),
            "250".as_ref(),
        ],
    );
    is_refused_unopened(&sandbox, "special", "device");
}

#[test]
fn fails_on_files_that_the_kernel_makes_up() {
    let sandbox = Sandbox::new();
    for dest in [
        "/proc/self/comm",
        "/proc/version",
        "/proc/new",
        "/sys/class/net/lo/mtu",
        "/sys/new",
    ] {
        let input = Witness::new();
        sandbox
            .atomwrite([dest])
            .stdin_from(input.input())
            .says(format!("'{dest}'"))
            .fails(1);
        input.has_not_been_read();
    }
    // These would have to be made beside the links of a process.
    for dest in ["/proc/self/fd/1", "/dev/fd/1"] {
        let run = sandbox.atomwrite(["--no-dereference", dest]);
        let run = run.refuses_the_way();
        run.stdin("new").says(format!("'{dest}'")).fails(1);
    }
}

#[test]
fn refuses_dev_null() {
    let sandbox = Sandbox::new();
    let before = fs::metadata("/dev/null").unwrap().ino();
    sandbox
        .atomwrite(["/dev/null"])
        .stdin("new")
        .says("device")
        .fails(1);
    sandbox
        .atomwrite(["-f", "/dev/null"])
        .stdin("new")
        .says("device")
        .fails(1);
    assert_eq!(fs::metadata("/dev/null").unwrap().ino(), before);
}

// ---- A directory that moves ------------------------------------------------------------------------------------

#[test]
fn follows_a_directory_that_is_renamed_meanwhile() {
    let sandbox = Sandbox::new();
    sandbox.mkdir("d");
    let mut run = sandbox.atomwrite(["d/out"]).stdin_held().start();
    run.feed("new");
    fs::rename(sandbox.path("d"), sandbox.path("e")).unwrap();
    sandbox.mkdir("d");
    assert_eq!(run.wait().code(), Some(0));
    assert_eq!(sandbox.names(), ["d", "e", "e/out"]);
}

#[test]
fn fails_when_dest_has_become_a_directory_meanwhile() {
    let sandbox = Sandbox::new();
    let mut run = sandbox.atomwrite(["out"]).stdin_held().start();
    run.feed("new");
    sandbox.mkdir("out");
    let done = run.wait();
    assert_eq!(done.code(), Some(1), "{done:?}");
    crate::harness::check_message(done.stderr.trim_end());
    assert!(done.stderr.contains("'out'"), "{done:?}");
    assert_eq!(sandbox.names(), ["out"]);
}

#[test]
fn replaces_what_has_come_and_makes_what_has_gone_meanwhile() {
    let sandbox = Sandbox::new();
    let mut run = sandbox.atomwrite(["came"]).stdin_held().start();
    run.feed("new");
    sandbox.write("came", "old");
    assert_eq!(run.wait().code(), Some(0));
    assert_eq!(sandbox.text("came"), "new");

    sandbox.write_with_mode("went", "old", 0o640);
    let mut run = sandbox.atomwrite(["went"]).stdin_held().start();
    run.feed("new");
    fs::remove_file(sandbox.path("went")).unwrap();
    assert_eq!(run.wait().code(), Some(0));
    assert_eq!(
        (sandbox.text("went").as_str(), sandbox.mode("went")),
        ("new", 0o600),
        "a file that is gone may have been private"
    );
    assert_eq!(sandbox.names(), ["came", "went"]);
}

#[test]
fn leaves_the_old_file_to_a_reader_that_has_it_open() {
    let sandbox = Sandbox::new();
    sandbox.write("out", "old");
    let reader = open(sandbox.path("out"));
    sandbox.atomwrite(["out"]).stdin("new").succeeds();
    assert_eq!(std::io::read_to_string(reader).unwrap(), "old");
}
