//! A DEST that is a symbolic link.
//!
//! The link stays, its target is replaced, and the temporary file is beside the target. Chains,
//! relative and dangling links work; a loop does not. A link in a sticky world-writable directory
//! is followed only by the kernel's rule, and magic links never. `--no-dereference` replaces the
//! link.

use std::fs;

use rustix::fs::inotify::{ReadFlags, WatchFlags};

use crate::harness::{Sandbox, Watch, each, linux_only, needs_root};

// ---- Links ----

#[test]
fn replaces_the_target_of_a_link_and_not_the_link() {
    let sandbox = Sandbox::new();
    sandbox.write_with_mode("target", "old", 0o640);
    sandbox.symlink("target", "link");
    let (link, target) = (sandbox.inode("link"), sandbox.inode("target"));
    sandbox.run("link").stdin("new").succeeds();
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
    let run = sandbox.run("first").stdin("new");
    run.leaves(before.clone()).succeeds();
    assert_eq!(sandbox.text("c/target"), "new");
    let run = sandbox.run("second").current_dir("a/b").stdin("newer");
    run.leaves(before).succeeds();
    assert_eq!(sandbox.text("c/target"), "newer");
    for link in ["first", "a/b/second", "a/third", "fourth", "directory"] {
        assert!(sandbox.stat(link).is_symlink(), "{link}");
    }
}

#[test]
fn follows_a_chain_as_long_as_the_kernel_does() {
    let sandbox = Sandbox::with("0", "old");
    for index in 1..=41 {
        sandbox.symlink((index - 1).to_string(), index.to_string());
    }
    sandbox.run("40").stdin("new").succeeds();
    assert_eq!(sandbox.text("0"), "new");
    assert!(fs::read(sandbox.path("41")).is_err());
    sandbox.run("41").stdin("newer").fails_with(1, "too many");
}

#[test]
fn makes_the_target_of_a_dangling_link() {
    let sandbox = Sandbox::new();
    sandbox.mkdir("d");
    sandbox.symlink("d/second", "first");
    sandbox.symlink("target", "d/second");
    sandbox
        .run("first")
        .umask(0o027)
        .stdin("new")
        .leaves(["d", "d/second", "d/target", "first"])
        .succeeds();
    assert_eq!(sandbox.text("d/target"), "new");
    assert_eq!(sandbox.mode("d/target"), 0o640);
    assert!(sandbox.stat("first").is_symlink());
}

#[test]
fn fails_on_a_loop_of_links_and_on_a_link_that_ends_in_no_file() {
    let sandbox = Sandbox::new();
    sandbox.sh("ln -s b a; ln -s a b; ln -s self self; mkdir directory; ln -s directory c; ln -s missing/x d");
    sandbox.sh("ln -s new/ e; ln -s . f; ln -s directory/.. g");
    sandbox.refuse_each(&[
        ("a", 1, "'a': too many"),
        ("self", 1, "'self': too many"),
        ("c", 1, "'c'"),
        ("d", 1, "'d'"),
        ("e", 1, "'e'"),
        ("f", 1, "'f'"),
        ("g", 1, "'g'"),
    ]);
}

#[test]
fn replaces_the_link_itself_with_no_dereference() {
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
fn no_dereference_changes_nothing_for_an_ordinary_file() {
    let sandbox = Sandbox::new();
    sandbox.write_with_mode("out", "old", 0o640);
    sandbox.run("--no-dereference out").stdin("new").succeeds();
    assert_eq!(
        (sandbox.text("out").as_str(), sandbox.mode("out")),
        ("new", 0o640)
    );
    let run = sandbox.run("--no-dereference out").stdin("");
    run.fails_with(3, "empty");
}

#[test]
fn follows_links_in_the_middle_of_a_path_without_dereference() {
    let sandbox = Sandbox::new();
    sandbox.mkdir("d");
    sandbox.symlink("d", "link");
    let run = sandbox.run("--no-dereference link/out").stdin("new");
    run.leaves(["d", "d/out", "link"]).succeeds();
    assert_eq!(sandbox.text("d/out"), "new");
}

#[test]
fn has_its_temporary_file_beside_the_target_and_moves_it_into_place() {
    let sandbox = Sandbox::new();
    sandbox.mkdir("links");
    sandbox.mkdir("files");
    sandbox.write("files/old", "old");
    for name in ["old", "new"] {
        if name == "new" {
            linux_only!("renameat2");
        }
        let link = format!("links/{name}");
        sandbox.symlink(format!("../files/{name}"), &link);
        let of_names = WatchFlags::CREATE | WatchFlags::MOVE | WatchFlags::DELETE;
        let here = Watch::of(sandbox.path("links"), of_names);
        let there = Watch::of(sandbox.path("files"), of_names);
        let mut after = sandbox.names();
        after.extend((name == "new").then(|| "files/new".into()));
        let run = sandbox.atomwrite([&link]).stdin("new");
        run.leaves(after).succeeds();
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
            digits.len() == 16 && digits.bytes().all(|b| b.is_ascii_alphanumeric()),
            "{temporary}"
        );
    }
}

#[test]
fn refuses_magic_links() {
    linux_only!("openat2");
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
        let done = sandbox
            .atomwrite([name])
            .reads_nothing()
            .stdout_to(stdout)
            .refuses_the_way()
            .fails(1);
        assert!(done.stderr.contains(&format!("'{name}'")), "{done:?}");
        let run = sandbox.atomwrite(["-f", "in", name]).refuses_the_way();
        run.fails(1);
    }
}

#[test]
fn refuses_a_descriptor_that_is_a_pipe() {
    let sandbox = Sandbox::new();
    sandbox.fail_each(&[
        ("/dev/stdout", "new", 1, "'/dev/stdout'"),
        ("/dev/fd/1", "new", 1, "'/dev/fd/1'"),
    ]);
}

// ---- Links in sticky directories ----

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
fn refuses_another_users_link_in_a_sticky_directory() {
    needs_root!();
    // Whatever the sysctl says: it is a rule of the program.
    for (directory, link, user) in [
        (0, 1000, 0),
        (0, 1000, 1001),
        (1000, 1001, 0),
        (1000, 0, 1001),
    ] {
        let sandbox = sticky(0o1777, directory, link);
        sandbox
            .run("d/link")
            .user(user, user, &[])
            .reads_nothing()
            .says("'d/link'")
            .refuses_the_way()
            .fails(1);
    }
}

#[test]
fn refuses_another_users_link_that_dangles_or_comes_later_in_the_chain() {
    needs_root!();
    let cases = [
        ("rm target", "d/link", "'d/link'"),
        ("rm target", "-f -D d/link", "'d/link'"),
        ("ln -s d/link first", "first", "'first'"),
    ];
    each(cases, |(set_up, line, typed)| {
        let sandbox = sticky(0o1777, 0, 1000);
        sandbox.sh(set_up);
        let run = sandbox.run(line).refuses_the_way();
        run.stdin("new").fails_with(1, typed);
    });
}

#[test]
fn follows_the_links_that_the_kernel_would_follow() {
    needs_root!();
    let cases = [
        // Mode and owner of the directory, owner of the link, user.
        // Own link; the directory owner's link; not sticky; not world-writable.
        (0o1777, 0, 0, 0),
        (0o1777, 0, 1000, 1000),
        (0o1777, 1000, 1000, 0),
        (0o1777, 1000, 1000, 1001),
        (0o0777, 0, 1000, 0),
        (0o1755, 0, 1000, 0),
        (0o1775, 0, 1000, 0),
    ];
    each(cases, |(mode, directory, link, user)| {
        let sandbox = sticky(mode, directory, link);
        sandbox.chown("target", user, user);
        let run = sandbox.run("d/link").user(user, user, &[]);
        run.stdin("new").writes("new");
    });
}

#[test]
fn root_replaces_another_users_link_in_a_sticky_directory_with_no_dereference() {
    needs_root!();
    let sandbox = sticky(0o1777, 0, 1000);
    let run = sandbox.run("--no-dereference d/link").stdin("new");
    run.succeeds();
    assert!(sandbox.stat("d/link").is_file());
    assert_eq!(sandbox.text("target"), "old");
}
