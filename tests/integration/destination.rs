//! What DEST may be, and which file is replaced.
//!
//! DEST is any bytes but NUL; `-` and the empty string are usage errors. A trailing slash, a directory, a device, a
//! FIFO and a socket are refused, and not opened. A link is written through: it stays, its target is replaced, the
//! temporary file is beside the target; chains, relative and dangling links work, a loop does not, a link in a sticky
//! world-writable directory is followed by the kernel's rule only, magic links never. `--no-dereference` replaces the
//! link. What the user may not write is refused, unless `-f`. Hard links are split. `-D` makes missing parents.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixListener;
use std::path::Path;

use rustix::fs::inotify::{ReadFlags, WatchFlags};
use rustix::process::Signal;

use crate::sandbox::{NOBODY, Sandbox, Watch, Witness, needs_root, needs_tool, open, os, tool};

// ---- Names ----------------------------------------------------------------------------------------------------

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

// ---- Links ----------------------------------------------------------------------------------------------------

#[test]
fn replaces_the_target_of_a_link_and_not_the_link() {
    let sandbox = Sandbox::new();
    sandbox.write_with_mode("target", "old", 0o640);
    sandbox.symlink("target", "link");
    let (link, target) = (sandbox.inode("link"), sandbox.inode("target"));
    sandbox.atomwrite(["link"]).stdin("new").succeeds();
    assert_eq!(sandbox.text("target"), "new");
    assert_eq!(sandbox.mode("target"), 0o640);
    assert_eq!(sandbox.inode("link"), link);
    assert_ne!(sandbox.inode("target"), target);
}

#[test]
fn follows_chains_through_directories() {
    let sandbox = Sandbox::new();
    sandbox.mkdir("a/b");
    sandbox.mkdir("c");
    sandbox.write("c/target", "old");
    sandbox.symlink("a/b/second", "first");
    // Relative to the directory that the link is in.
    sandbox.symlink("../third", "a/b/second");
    sandbox.symlink(sandbox.path("fourth"), "a/third");
    sandbox.symlink("directory/./target", "fourth");
    sandbox.symlink("c", "directory");
    let before = sandbox.names();
    sandbox
        .atomwrite(["first"])
        .stdin("new")
        .leaves(before.clone())
        .succeeds();
    assert_eq!(sandbox.text("c/target"), "new");
    sandbox
        .atomwrite(["second"])
        .current_dir("a/b")
        .stdin("newer")
        .leaves(before)
        .succeeds();
    assert_eq!(sandbox.text("c/target"), "newer");
    for link in ["first", "a/b/second", "a/third", "fourth", "directory"] {
        assert!(sandbox.stat(link).is_symlink(), "{link}");
    }
}

#[test]
fn follows_a_chain_as_long_as_the_kernel_does() {
    let sandbox = Sandbox::new();
    sandbox.write("0", "old");
    for index in 1..=41 {
        sandbox.symlink((index - 1).to_string(), index.to_string());
    }
    sandbox.atomwrite(["40"]).stdin("new").succeeds();
    assert_eq!(sandbox.text("0"), "new");
    assert!(fs::read(sandbox.path("41")).is_err());
    sandbox
        .atomwrite(["41"])
        .stdin("newer")
        .says("too many")
        .fails(1);
}

#[test]
fn makes_the_target_of_a_dangling_link() {
    let sandbox = Sandbox::new();
    sandbox.mkdir("d");
    sandbox.symlink("d/second", "first");
    sandbox.symlink("target", "d/second");
    sandbox
        .atomwrite(["first"])
        .umask(0o027)
        .stdin("new")
        .leaves(["d", "d/second", "d/target", "first"])
        .succeeds();
    assert_eq!(sandbox.text("d/target"), "new");
    assert_eq!(sandbox.mode("d/target"), 0o640);
    assert!(sandbox.stat("first").is_symlink());
}

#[test]
fn fails_on_a_loop_of_links() {
    let sandbox = Sandbox::new();
    sandbox.symlink("b", "a");
    sandbox.symlink("a", "b");
    sandbox.symlink("self", "self");
    for name in ["a", "self"] {
        let input = Witness::new();
        sandbox
            .atomwrite([name])
            .stdin_from(input.input())
            .says(format!("'{name}'"))
            .says("too many")
            .fails(1);
        input.has_not_been_read();
    }
}

#[test]
fn fails_on_a_link_that_ends_in_no_file() {
    let sandbox = Sandbox::new();
    sandbox.mkdir("directory");
    for (target, link) in [
        ("directory", "a"),
        ("missing/x", "b"),
        ("new/", "c"),
        (".", "d"),
        ("directory/..", "e"),
    ] {
        sandbox.symlink(target, link);
        let input = Witness::new();
        sandbox
            .atomwrite([link])
            .stdin_from(input.input())
            .says(format!("'{link}'"))
            .fails(1);
        input.has_not_been_read();
    }
}

#[test]
fn replaces_the_link_itself_when_told() {
    let sandbox = Sandbox::new();
    sandbox.write_with_mode("target", "old", 0o600);
    sandbox.symlink("target", "link");
    sandbox.symlink("nowhere", "dangling");
    sandbox.symlink("loop", "loop");
    sandbox.symlink("/proc/self/cwd/x", "magic");
    for name in ["link", "dangling", "loop", "magic"] {
        sandbox
            .atomwrite(["--no-dereference", name])
            .umask(0o027)
            .stdin("new")
            .succeeds();
        assert!(sandbox.stat(name).is_file(), "{name}");
        assert_eq!(sandbox.text(name), "new");
        // A link has no mode to keep.
        assert_eq!(sandbox.mode(name), 0o640, "{name}");
    }
    assert_eq!(sandbox.text("target"), "old");
}

#[test]
fn replaces_an_ordinary_file_without_dereference_as_ever() {
    let sandbox = Sandbox::new();
    sandbox.write_with_mode("out", "old", 0o640);
    sandbox
        .atomwrite(["--no-dereference", "out"])
        .stdin("new")
        .succeeds();
    assert_eq!(
        (sandbox.text("out").as_str(), sandbox.mode("out")),
        ("new", 0o640)
    );
    sandbox
        .atomwrite(["--no-dereference", "out"])
        .stdin("")
        .says("empty")
        .fails(3);
}

#[test]
fn follows_links_in_the_middle_of_a_path_without_dereference() {
    let sandbox = Sandbox::new();
    sandbox.mkdir("d");
    sandbox.symlink("d", "link");
    sandbox
        .atomwrite(["--no-dereference", "link/out"])
        .stdin("new")
        .leaves(["d", "d/out", "link"])
        .succeeds();
    assert_eq!(sandbox.text("d/out"), "new");
}

#[test]
fn has_its_temporary_file_beside_the_target_and_moves_it_into_place() {
    let sandbox = Sandbox::new();
    sandbox.mkdir("links");
    sandbox.mkdir("files");
    sandbox.write("files/old", "old");
    for name in ["old", "new"] {
        let link = format!("links/{name}");
        sandbox.symlink(format!("../files/{name}"), &link);
        let of_names = WatchFlags::CREATE | WatchFlags::MOVE | WatchFlags::DELETE;
        let here = Watch::of(sandbox.path("links"), of_names);
        let there = Watch::of(sandbox.path("files"), of_names);
        let expected = [
            "files",
            "files/new",
            "files/old",
            "links",
            "links/new",
            "links/old",
        ];
        let after = expected
            .into_iter()
            .filter(|path| name == "new" || !path.ends_with("new"));
        sandbox
            .atomwrite([&link])
            .stdin("new")
            .leaves(after)
            .succeeds();
        assert_eq!(here.events(), []);
        let events = there.events();
        let [(created, temporary), (from, old_name), (to, new_name)] = &events[..] else {
            panic!("{events:?}");
        };
        // A watcher of DEST sees one thing: a file moved to its name.
        assert_eq!(*created, ReadFlags::CREATE);
        assert_eq!((*from, old_name), (ReadFlags::MOVED_FROM, temporary));
        assert_eq!((*to, new_name.as_str()), (ReadFlags::MOVED_TO, name));
        let digits = temporary
            .strip_prefix(".atomwrite.")
            .and_then(|rest| rest.strip_suffix(".tmp"));
        let digits = digits.unwrap_or_else(|| panic!("{temporary}"));
        assert!(
            digits.len() == 16 && digits.bytes().all(|b| b.is_ascii_hexdigit()),
            "{temporary}"
        );
    }
}

#[test]
fn refuses_magic_links() {
    let sandbox = Sandbox::new();
    let log = sandbox.write("log", "old");
    sandbox.write("in", "new");
    sandbox.symlink("/dev/stdout", "link");
    sandbox.symlink("/proc/self/cwd/x", "beyond");
    let names = [
        "/dev/stdout",
        "/dev/stderr",
        "/dev/stdin",
        "/dev/fd/1",
        "/proc/self/fd/1",
        "/proc/thread-self/fd/1",
        "/proc/self/cwd/x",
        "/proc/self/cwd/log",
        concat!("/proc/self/root", "/x"),
        "/proc/self/exe",
        "/dev/fd/../../cwd/x",
        "link",
        "beyond",
    ];
    for name in names {
        let stdout = fs::OpenOptions::new().append(true).open(&log).unwrap();
        let input = Witness::new();
        let done = sandbox
            .atomwrite([name])
            .stdin_from(input.input())
            .stdout_to(stdout)
            .refuses_the_way()
            .fails(1);
        assert!(done.stderr.contains(&format!("'{name}'")), "{done:?}");
        input.has_not_been_read();
        sandbox
            .atomwrite(["-f", "in", name])
            .refuses_the_way()
            .fails(1);
    }
}

#[test]
fn refuses_a_descriptor_that_is_a_pipe() {
    let sandbox = Sandbox::new();
    sandbox
        .atomwrite(["/dev/stdout"])
        .stdin("new")
        .says("'/dev/stdout'")
        .fails(1);
    sandbox
        .atomwrite(["/dev/fd/1"])
        .stdin("new")
        .says("'/dev/fd/1'")
        .fails(1);
}

// ---- Links in sticky directories ------------------------------------------------------------------------------

/// A sandbox with the link `d/link` to the file `target`, and who owns `d` and the link.
fn sticky(mode: u32, directory: u32, link: u32) -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.chmod("", 0o777);
    sandbox.write_with_mode("target", "old", 0o666);
    sandbox.mkdir("d");
    sandbox.symlink("../target", "d/link");
    sandbox.chown("d/link", link, link);
    sandbox.chown("d", directory, directory);
    sandbox.chmod("d", mode);
    sandbox
}

#[test]
fn refuses_a_strangers_link_in_a_sticky_directory() {
    needs_root!();
    // Whatever the sysctl says: it is a rule of the program.
    for (directory, link, user) in [
        (0, 1000, 0),
        (0, 1000, 1001),
        (1000, 1001, 0),
        (1000, 0, 1001),
    ] {
        let sandbox = sticky(0o1777, directory, link);
        let input = Witness::new();
        sandbox
            .atomwrite(["d/link"])
            .user(user, user, &[])
            .stdin_from(input.input())
            .says("'d/link'")
            .refuses_the_way()
            .fails(1);
        input.has_not_been_read();
    }
}

#[test]
fn refuses_a_strangers_dangling_link_in_a_sticky_directory() {
    needs_root!();
    let sandbox = sticky(0o1777, 0, 1000);
    fs::remove_file(sandbox.path("target")).unwrap();
    sandbox
        .atomwrite(["d/link"])
        .stdin("new")
        .says("'d/link'")
        .refuses_the_way()
        .fails(1);
    sandbox
        .atomwrite(["-f", "-D", "d/link"])
        .stdin("new")
        .says("'d/link'")
        .refuses_the_way()
        .fails(1);
}

#[test]
fn refuses_a_strangers_link_later_in_the_chain() {
    needs_root!();
    let sandbox = sticky(0o1777, 0, 1000);
    sandbox.symlink("d/link", "first");
    sandbox
        .atomwrite(["first"])
        .stdin("new")
        .says("'first'")
        .refuses_the_way()
        .fails(1);
}

#[test]
fn follows_the_links_that_the_kernel_would_follow() {
    needs_root!();
    let cases = [
        // Own link; the directory owner's link; not sticky; not world-writable.
        (0o1777, 0, 0, 0),
        (0o1777, 0, 1000, 1000),
        (0o1777, 1000, 1000, 0),
        (0o1777, 1000, 1000, 1001),
        (0o0777, 0, 1000, 0),
        (0o1755, 0, 1000, 0),
        (0o1775, 0, 1000, 0),
    ];
    for (mode, directory, link, user) in cases {
        let sandbox = sticky(mode, directory, link);
        sandbox.chown("target", user, user);
        sandbox
            .atomwrite(["d/link"])
            .user(user, user, &[])
            .stdin("new")
            .succeeds();
        assert_eq!(
            sandbox.text("target"),
            "new",
            "{mode:o} {directory} {link} {user}"
        );
    }
}

#[test]
fn replaces_a_strangers_link_in_a_sticky_directory_as_root_when_told() {
    needs_root!();
    let sandbox = sticky(0o1777, 0, 1000);
    sandbox
        .atomwrite(["--no-dereference", "d/link"])
        .stdin("new")
        .succeeds();
    assert!(sandbox.stat("d/link").is_file());
    assert_eq!(sandbox.text("target"), "old");
}

// ---- What may not be written ----------------------------------------------------------------------------------

#[test]
fn refuses_what_the_user_may_not_write_and_names_the_way_out() {
    needs_root!();
    let sandbox = Sandbox::new();
    sandbox.give_to(NOBODY, NOBODY);
    sandbox.write_with_mode("own", "old", 0o444);
    sandbox.chown("own", NOBODY, NOBODY);
    sandbox.write_with_mode("roots", "old", 0o644);
    sandbox.write_with_mode("none", "old", 0o000);
    for name in ["own", "roots", "none"] {
        let input = Witness::new();
        sandbox
            .atomwrite([name])
            .user(NOBODY, NOBODY, &[])
            .stdin_from(input.input())
            .says(format!("'{name}'"))
            .says("--force")
            .fails(1);
        input.has_not_been_read();
    }
}

#[test]
fn force_replaces_what_the_user_may_not_write() {
    needs_root!();
    let sandbox = Sandbox::new();
    sandbox.give_to(NOBODY, NOBODY);
    for (option, mode) in [("-f", 0o444), ("--force", 0o000)] {
        sandbox.write_with_mode("out", "old", mode);
        sandbox.chown("out", NOBODY, NOBODY);
        sandbox
            .atomwrite([option, "out"])
            .user(NOBODY, NOBODY, &[])
            .stdin("new")
            .succeeds();
        assert_eq!(
            (sandbox.text("out").as_str(), sandbox.mode("out")),
            ("new", mode)
        );
        fs::remove_file(sandbox.path("out")).unwrap();
    }
}

#[test]
fn replaces_what_a_group_or_an_acl_lets_the_user_write() {
    needs_root!();
    needs_tool!("setfacl");
    let sandbox = Sandbox::new();
    sandbox.chmod("", 0o777);
    sandbox.write_with_mode("group", "old", 0o664);
    sandbox.chown("group", 0, 1001);
    sandbox
        .atomwrite(["-q", "group"])
        .user(NOBODY, NOBODY, &[1001])
        .stdin("new")
        .succeeds();
    assert_eq!(sandbox.text("group"), "new");
    sandbox.write("acl", "old");
    if sandbox.setfacl("acl", &["-m", "u:65534:rw"]) {
        sandbox
            .atomwrite(["-q", "acl"])
            .user(NOBODY, NOBODY, &[])
            .stdin("new")
            .succeeds();
        assert_eq!(sandbox.text("acl"), "new");
    }
}

#[test]
fn writes_as_root_whatever_the_mode_says() {
    needs_root!();
    let sandbox = Sandbox::new();
    sandbox.write_with_mode("out", "old", 0o000);
    sandbox.atomwrite(["out"]).stdin("new").succeeds();
    assert_eq!(
        (sandbox.text("out").as_str(), sandbox.mode("out")),
        ("new", 0o000)
    );
}

#[test]
fn refuses_a_strangers_file_in_a_sticky_directory_before_any_input_is_read() {
    needs_root!();
    let sandbox = Sandbox::new();
    sandbox.mkdir("sticky");
    sandbox.chmod("sticky", 0o1777);
    sandbox.write_with_mode("sticky/theirs", "old", 0o666);
    sandbox.write_with_mode("sticky/ours", "old", 0o644);
    sandbox.chown("sticky/ours", NOBODY, NOBODY);
    let input = Witness::new();
    for option in ["-f", "-v"] {
        sandbox
            .atomwrite([option, "sticky/theirs"])
            .user(NOBODY, NOBODY, &[])
            .stdin_from(input.input())
            .says("sticky")
            .says("--inplace")
            .fails(1);
    }
    input.has_not_been_read();
    // Their own, and a new one.
    for dest in ["sticky/ours", "sticky/new"] {
        sandbox
            .atomwrite([dest])
            .user(NOBODY, NOBODY, &[])
            .stdin("new")
            .succeeds();
    }
    // The directory's owner may replace it, but not for its owner.
    sandbox.chown("sticky", NOBODY, NOBODY);
    sandbox
        .atomwrite(["sticky/theirs"])
        .user(NOBODY, NOBODY, &[])
        .stdin("new")
        .says("--keep=none")
        .fails(1);
    sandbox
        .atomwrite(["--keep=none", "sticky/theirs"])
        .user(NOBODY, NOBODY, &[])
        .stdin("new")
        .succeeds();
}

#[test]
fn asks_in_another_way_where_a_filter_forbids_the_first() {
    // seccomp filters that are older than faccessat2 answer EPERM.
    needs_root!();
    needs_tool!("strace");
    let sandbox = Sandbox::new();
    sandbox.give_to(NOBODY, NOBODY);
    for error in ["EPERM", "ENOSYS"] {
        sandbox.write_with_mode("out", "old", 0o644);
        sandbox.chown("out", NOBODY, NOBODY);
        let inject = format!("inject=faccessat2:error={error}");
        let run = || {
            sandbox
                .atomwrite(["out"])
                .user(NOBODY, NOBODY, &[])
                .through(["strace", "-qq", "-o", "/dev/null", "-e", &inject].map(str::to_owned))
                .stdin("new")
        };
        run().succeeds();
        assert_eq!(sandbox.text("out"), "new");
        sandbox.chmod("out", 0o444);
        run().says("--force").fails(1);
    }
}

#[test]
fn fails_in_a_directory_that_the_user_may_not_write() {
    needs_root!();
    let sandbox = Sandbox::new();
    sandbox.write_with_mode("out", "old", 0o666);
    for name in ["out", "new"] {
        let input = Witness::new();
        sandbox
            .atomwrite([name])
            .user(NOBODY, NOBODY, &[])
            .stdin_from(input.input())
            .says(format!("'{name}'"))
            .says("permission denied")
            .fails(1);
        input.has_not_been_read();
    }
}

#[test]
fn fails_on_an_immutable_file() {
    needs_root!();
    needs_tool!("chattr");
    let sandbox = Sandbox::new();
    let path = sandbox.write("out", "old");
    let chattr = |flag: &str| {
        let output = std::process::Command::new("chattr")
            .arg(flag)
            .arg(&path)
            .output()
            .unwrap();
        output.status.success()
    };
    for flag in ["i", "a"] {
        if !chattr(&format!("+{flag}")) {
            crate::sandbox::skip!("the filesystem has no file attributes");
        }
        let done = [
            &["out"][..],
            &["-f", "out"],
            &["-n", "--no-dereference", "out"],
        ]
        .map(|arguments| sandbox.atomwrite(arguments.to_vec()).stdin("new").output());
        assert!(chattr(&format!("-{flag}")));
        assert_eq!(
            done.each_ref().map(|done| done.code().unwrap()),
            [1, 1, 3],
            "{done:?}"
        );
        for done in &done[..2] {
            crate::sandbox::check_message(done.stderr.trim_end());
            assert!(done.stderr.ends_with("; 'out' is unchanged\n"), "{done:?}");
        }
        assert_eq!(sandbox.text("out"), "old");
        assert_eq!(sandbox.names(), ["out"]);
    }
}

// ---- Hard links -----------------------------------------------------------------------------------------------

#[test]
fn splits_hard_links_and_says_so_when_verbose() {
    let sandbox = Sandbox::new();
    sandbox.write("out", "old");
    sandbox.hard_link("out", "second");
    sandbox.hard_link("out", "third");
    let done = sandbox
        .atomwrite(["-v", "out"])
        .stdin("new")
        .says("replaced 'out' (3 bytes)")
        .succeeds();
    assert!(done.stderr.contains("link"), "{done:?}");
    assert_eq!(sandbox.text("out"), "new");
    assert_eq!(sandbox.text("second"), "old");
    assert_eq!(sandbox.inode("second"), sandbox.inode("third"));
    assert_eq!(
        (sandbox.stat("out").nlink(), sandbox.stat("second").nlink()),
        (1, 2)
    );

    // And nothing of links when there are none, or no word at all without -v.
    let done = sandbox
        .atomwrite(["-v", "out"])
        .stdin("newer")
        .says("replaced")
        .succeeds();
    assert!(!done.stderr.contains("link"), "{done:?}");
    sandbox.atomwrite(["second"]).stdin("new").succeeds();
    assert_eq!(sandbox.text("third"), "old");
}

// ---- Missing parents ------------------------------------------------------------------------------------------

#[test]
fn makes_missing_parents_when_told() {
    let sandbox = Sandbox::new();
    sandbox
        .atomwrite(["-D", "a/b/c/out"])
        .umask(0o027)
        .stdin("new")
        .leaves(["a", "a/b", "a/b/c", "a/b/c/out"])
        .succeeds();
    assert_eq!(sandbox.text("a/b/c/out"), "new");
    for directory in ["a", "a/b", "a/b/c"] {
        assert_eq!(sandbox.mode(directory), 0o750, "{directory}");
    }
    assert_eq!(sandbox.mode("a/b/c/out"), 0o640);
    // They are there now.
    sandbox
        .atomwrite(["--create-dirs", "a/b/c/out"])
        .stdin("newer")
        .succeeds();
    sandbox
        .atomwrite(["--create-dirs", "out"])
        .stdin("here")
        .succeeds();
    sandbox
        .atomwrite(["-D", "out", "a/x/y"])
        .leaves(["a", "a/b", "a/b/c", "a/b/c/out", "a/x", "a/x/y", "out"])
        .succeeds();
    assert_eq!(sandbox.text("a/x/y"), "here");
}

#[test]
fn makes_missing_parents_with_every_sync_and_an_absolute_path() {
    for sync in ["none", "file", "full"] {
        let sandbox = Sandbox::new();
        let dest = sandbox.path("a/b/out");
        sandbox
            .atomwrite([
                OsString::from(format!("--sync={sync}")),
                "-D".into(),
                dest.into(),
            ])
            .stdin("new")
            .leaves(["a", "a/b", "a/b/out"])
            .succeeds();
        assert_eq!(sandbox.text("a/b/out"), "new");
    }
}

#[test]
fn makes_missing_parents_of_a_dangling_links_target() {
    let sandbox = Sandbox::new();
    sandbox.mkdir("d");
    sandbox.symlink("../e/f/target", "d/link");
    sandbox
        .atomwrite(["-D", "d/link"])
        .stdin("new")
        .leaves(["d", "d/link", "e", "e/f", "e/f/target"])
        .succeeds();
    assert_eq!(sandbox.text("e/f/target"), "new");
}

#[test]
fn makes_missing_parents_in_a_path_with_dots() {
    let sandbox = Sandbox::new();
    sandbox.mkdir("a/b");
    sandbox
        .atomwrite(["-D", "a/b/../c/./d//out"])
        .stdin("new")
        .leaves(["a", "a/b", "a/c", "a/c/d", "a/c/d/out"])
        .succeeds();
    assert_eq!(sandbox.text("a/c/d/out"), "new");
}

#[test]
fn does_not_go_back_from_a_parent_that_is_missing() {
    // What is above a directory that does not exist? To write elsewhere would be a guess, so it is refused.
    let sandbox = Sandbox::new();
    sandbox.mkdir("there");
    for dest in [
        "nosuch/../out",
        "nosuch/../b/out",
        "there/nosuch/../../out",
        "a/b/../../c/out",
    ] {
        let input = Witness::new();
        sandbox
            .atomwrite(["-D", dest])
            .stdin_from(input.input())
            .says(format!("'{dest}'"))
            .fails(1);
        input.has_not_been_read();
    }
}

#[test]
fn fails_with_a_file_in_the_way_of_a_parent() {
    let sandbox = Sandbox::new();
    sandbox.write("file", "old");
    sandbox.symlink("nowhere", "dangling");
    for dest in ["file/out", "file/a/out"] {
        let input = Witness::new();
        sandbox
            .atomwrite(["-D", dest])
            .stdin_from(input.input())
            .says("not a directory")
            .fails(1);
        input.has_not_been_read();
    }
    // A link to nowhere is no directory, and not ours to make one.
    sandbox
        .atomwrite(["-D", "dangling/out"])
        .stdin("new")
        .fails(1);
}

#[test]
fn makes_no_parents_when_the_run_fails() {
    let sandbox = Sandbox::new();
    sandbox.write("empty", "");
    sandbox
        .atomwrite(["-D", "missing", "a/b/out"])
        .says("'missing'")
        .fails(1);
    sandbox
        .atomwrite(["-D", "--no-empty", "a/b/out"])
        .stdin("")
        .fails(3);
    sandbox
        .atomwrite(["-D", "--no-empty", "empty", "a/b/out"])
        .fails(3);
    sandbox.atomwrite(["-D", "a/b/"]).stdin("new").fails(1);
    sandbox.atomwrite(["-D", "a/b/."]).stdin("new").fails(1);
    sandbox
        .atomwrite(["-D", "a/b/out"])
        .stdin(vec![b'x'; 100_000])
        .file_size_limit(50_000)
        .says("too large")
        .fails(1);
}

#[test]
fn makes_no_parents_before_the_commit() {
    for signal in [Signal::TERM, Signal::INT, Signal::HUP, Signal::KILL] {
        let sandbox = Sandbox::new();
        let mut run = sandbox.atomwrite(["-D", "a/b/out"]).stdin_held().start();
        run.feed("half");
        assert!(sandbox.names().is_empty());
        run.signal(signal);
        assert_eq!(run.wait().signal(), Some(signal.as_raw()));
        assert!(sandbox.names().is_empty());
    }
}

#[test]
fn fails_where_parents_may_not_be_made() {
    needs_root!();
    let sandbox = Sandbox::new();
    sandbox
        .atomwrite(["-D", "a/b/out"])
        .user(NOBODY, NOBODY, &[])
        .stdin("new")
        .says("'a/b/out'")
        .says("permission denied")
        .fails(1);
}

#[test]
fn leaves_no_parents_where_the_umask_shuts_it_out_of_them() {
    needs_root!();
    let sandbox = Sandbox::new();
    sandbox.give_to(NOBODY, NOBODY);
    for umask in [0o777, 0o333] {
        let run = sandbox.atomwrite(["-D", "a/b/c/out"]).umask(umask);
        let done = run.user(NOBODY, NOBODY, &[]).stdin("new").output();
        // mkdir -p opens those on the way to their owner, and so it may succeed; but it may not break off halfway.
        if done.code() == Some(0) {
            assert_eq!(sandbox.names(), ["a", "a/b", "a/b/c", "a/b/c/out"]);
            tool("rm", ["-r".as_ref(), sandbox.path("a").as_os_str()]);
        } else {
            assert_eq!(done.code(), Some(1), "{done:?}");
            assert!(sandbox.names().is_empty());
        }
    }
}

#[test]
fn makes_the_same_missing_parents_for_many_at_once() {
    let sandbox = Sandbox::new();
    let mut runs: Vec<_> = (0..20)
        .map(|index| {
            let dest = format!("a/b/c/{index:02}");
            let run = sandbox.atomwrite(["--sync=none", "-D", &dest]);
            run.stdin_held().start()
        })
        .collect();
    for run in &mut runs {
        run.feed("new");
    }
    for run in &mut runs {
        run.close_stdin();
    }
    for run in runs {
        let done = run.wait();
        assert_eq!((done.code(), done.stderr.as_str()), (Some(0), ""));
    }
    assert_eq!(sandbox.names().len(), 3 + 20);
}

#[test]
fn gives_missing_parents_what_their_parent_hands_down() {
    needs_root!();
    needs_tool!("setfacl");
    let sandbox = Sandbox::new();
    sandbox.mkdir("d");
    sandbox.chown("d", 0, 1001);
    sandbox.chmod("d", 0o2755);
    if !sandbox.setfacl("d", &["-d", "-m", "u:1000:rwx"]) {
        crate::sandbox::skip!("the filesystem has no ACLs");
    }
    sandbox.mkdir("reference");
    tool(
        "cp",
        [
            Path::new("-a"),
            &sandbox.path("d"),
            &sandbox.path("reference"),
        ],
    );
    tool(
        "sh",
        [
            "-c",
            "umask 027; mkdir -p \"$0/a/b\"; : >\"$0/a/b/out\"",
            sandbox.path("reference/d").to_str().unwrap(),
        ],
    );
    let mut expected = sandbox.names();
    expected.extend(["d/a", "d/a/b", "d/a/b/out"].map(OsString::from));
    sandbox
        .atomwrite(["-D", "d/a/b/out"])
        .umask(0o027)
        .stdin("new")
        .leaves(expected)
        .succeeds();
    for name in ["d/a", "d/a/b", "d/a/b/out"] {
        let reference = format!("reference/{name}");
        assert_eq!(sandbox.owner(name), sandbox.owner(&reference), "{name}");
        assert_eq!(sandbox.mode(name), sandbox.mode(&reference), "{name}");
        assert_eq!(sandbox.acl(name), sandbox.acl(&reference), "{name}");
    }
}

// ---- A directory that moves -----------------------------------------------------------------------------------

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
    crate::sandbox::check_message(done.stderr.trim_end());
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
        ("new", 0o644),
        "a file that is gone hands on nothing"
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
