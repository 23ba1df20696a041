//! A DEST that is a link.
//!
//! It is written through: it stays, its target is replaced, the temporary file is beside the target; chains, relative and
//! dangling links work, a loop does not, a link in a sticky world-writable directory is followed by the kernel's rule
//! only, magic links never. `--no-dereference` replaces the link.

use std::fs;

use rustix::fs::inotify::{ReadFlags, WatchFlags};

use crate::harness::{Sandbox, Watch, Witness, needs_root};

// ---- Links -----------------------------------------------------------------------------------------------------

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

// ---- Links in sticky directories -------------------------------------------------------------------------------

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
