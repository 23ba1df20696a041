//! The same promises on every kind of filesystem.
//!
//! DEST is the old file or the new one; it keeps its mode, owner, ACL and attributes; holes stay
//! holes; nothing is left behind.

use std::fs::{self, File};
use std::io::{Seek, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::harness::{
    Call, Cover, Mount, NOBODY, Sandbox, Strace, linux_only, needs_mounts, needs_tool, open,
};

/// What a filesystem can do.
#[derive(Clone, Copy)]
struct Able {
    /// `O_TMPFILE`; None where it depends on the kernel and either is right.
    unnamed: Option<bool>,
    attributes: bool,
    holes: bool,
    clones: bool,
}

const FULLY: Able = Able {
    unnamed: Some(true),
    attributes: true,
    holes: true,
    clones: false,
};

const CLONING: Able = Able {
    clones: true,
    ..FULLY
};

/// What must hold everywhere.
fn keeps_the_promise(dir: &Path, able: Able) {
    makes_and_replaces(dir);
    keeps_attributes(dir, able);
    keeps_holes(dir, able);
    serves_every_user(dir);
    linux_only!("unnamed files");
    heals(dir);
    takes_the_best_way(dir, able);
}

fn makes_and_replaces(dir: &Path) {
    let sandbox = Sandbox::in_dir(dir);
    sandbox.run("out").stdin("one").umask(0o027).writes("one");
    assert_eq!(sandbox.mode("out"), 0o640);
    let held = open(sandbox.path("out"));
    for sync in ["none", "file", "full"] {
        let large = sync.repeat(700_000);
        sandbox
            .atomwrite([&format!("--sync={sync}"), "out"])
            .stdin(large.clone())
            .succeeds();
        assert_eq!(sandbox.text("out"), large);
        assert_eq!(sandbox.mode("out"), 0o640);
    }
    assert_eq!(held.metadata().unwrap().nlink(), 0, "written in place");
    sandbox.run("-n out").stdin("no").fails(3);
    sandbox.run("-n new").stdin("yes").succeeds();
    sandbox
        .run("-D one/two/out")
        .stdin("deep")
        .leaves(["new", "one", "one/two", "one/two/out", "out"])
        .succeeds();
    sandbox.symlink("out", "link");
    sandbox.run("link").stdin("through").succeeds();
    assert_eq!(sandbox.text("out"), "through");
    assert!(sandbox.stat("link").is_symlink());
    let run = sandbox.run("--no-dereference link").stdin("over");
    run.succeeds();
    assert_eq!(sandbox.text("out"), "through");
    assert!(sandbox.stat("link").is_file());
    // From a file here, and from one on another filesystem.
    sandbox.run("new copy").writes("yes");
    let far = sandbox.aside("far");
    fs::write(&far, "afar".repeat(500_000)).unwrap();
    sandbox
        .atomwrite([far.as_os_str(), "copy".as_ref()])
        .succeeds();
    assert_eq!(sandbox.text("copy"), "afar".repeat(500_000));
}

fn keeps_attributes(dir: &Path, able: Able) {
    let sandbox = Sandbox::in_dir(dir);
    sandbox.write_with_mode("out", "old", 0o604);
    sandbox.chown("out", NOBODY, NOBODY);
    let xattr = sandbox.set_xattr("out", "user.one", b"1");
    let acl = sandbox.setfacl("out", &["-m", "u:1:rw"]);
    assert_eq!(
        (xattr, acl),
        (able.attributes, able.attributes),
        "the test's table is wrong"
    );
    let before = acl.then(|| sandbox.acl("out"));
    let mode = sandbox.mode("out");
    sandbox.run("--keep=all out").stdin("new").writes("new");
    assert_eq!(sandbox.mode("out"), mode);
    assert_eq!(sandbox.owner("out"), (NOBODY, NOBODY));
    if able.attributes {
        assert_eq!(sandbox.xattr("out", "user.one").unwrap(), b"1");
        assert_eq!(Some(sandbox.acl("out")), before);
        // A new file takes the directory's default ACL, as `>` does.
        sandbox.setfacl("", &["-d", "-m", "u:1:rwx,g::r,o::-"]);
        sandbox.run("new").stdin("new").succeeds();
        let run = sandbox.run("named").stdin("new");
        run.without_linkat().succeeds();
        sandbox.sh("umask 022; : >shell");
        assert_eq!(sandbox.acl("new"), sandbox.acl("shell"));
        assert_eq!(sandbox.acl("named"), sandbox.acl("shell"));
    }
}

fn keeps_holes(dir: &Path, able: Able) {
    const SIZE: u64 = 16 << 20;
    let sandbox = Sandbox::in_dir(dir);
    let source = File::create(sandbox.path("src")).unwrap();
    source.set_len(SIZE).unwrap();
    (&source).write_all(b"begin").unwrap();
    (&source).seek(std::io::SeekFrom::Start(SIZE / 2)).unwrap();
    (&source).write_all(b"middle").unwrap();
    source.sync_all().unwrap();
    drop(source);
    sandbox.run("src out").succeeds();
    assert!(sandbox.read("src") == sandbox.read("out"), "not the same");
    let blocks = |name| sandbox.stat(name).blocks();
    if able.holes {
        assert!(blocks("src") * 512 < SIZE / 4, "the source has no holes");
        assert!(
            blocks("out") <= blocks("src") + 64,
            "{} blocks from {}",
            blocks("out"),
            blocks("src")
        );
    }
}

fn heals(dir: &Path) {
    let sandbox = Sandbox::in_dir(dir);
    sandbox.write("out", "old");
    let strace = Strace::new().inject("rename,renameat,renameat2:signal=SIGKILL");
    let done = sandbox
        .run("out")
        .stdin("of the killed run")
        .under(&strace)
        .output();
    assert_eq!(done.signal(), Some(libc::SIGKILL), "{done:?}");
    assert_eq!(sandbox.text("out"), "old");
    assert_eq!(sandbox.names().len(), 2);
    let run = sandbox.run("out").stdin("new");
    run.leaves(["out"]).writes("new");
}

fn takes_the_best_way(dir: &Path, able: Able) {
    let sandbox = Sandbox::in_dir(dir);
    sandbox.write("src", "new".repeat(100_000));
    let trace = sandbox.run("src out").traced();
    if let Some(unnamed) = able.unnamed {
        assert_eq!(trace.count(Call::links) == 1, unnamed, "{trace}");
    }
    let cloned = trace.count(|call| call.args.contains("FICLONE") && call.succeeded());
    assert_eq!(cloned == 1, able.clones, "{trace}");
    // And if an unnamed file cannot be linked.
    let strace = Strace::new().inject("linkat:error=ENOENT");
    let run = sandbox.run("out").stdin("named").under(&strace);
    run.writes("named");
    assert_eq!(strace.trace().count(Call::links), 0);
    sandbox
        .run("new")
        .stdin("named")
        .umask(0o027)
        .inject("linkat:error=ENOENT")
        .succeeds();
    assert_eq!(sandbox.mode("new"), 0o640);
}

fn serves_every_user(dir: &Path) {
    let sandbox = Sandbox::in_dir(dir);
    sandbox.give_to(NOBODY, NOBODY);
    for content in ["one", "two"] {
        sandbox.run("out").stdin(content).by_nobody().succeeds();
        assert_eq!(sandbox.text("out"), content);
        assert_eq!(sandbox.owner("out"), (NOBODY, NOBODY));
    }
}

/// No link is followed where the mount forbids it.
fn follows_no_link(mount: &Mount) {
    let elsewhere = Sandbox::with("target", "old");
    let sandbox = Sandbox::in_dir(mount.path());
    sandbox.symlink(elsewhere.path("target"), "link");
    mount.remount("nosymfollow");
    let run = sandbox.run("link").stdin("new");
    run.fails_with(1, "cannot follow 'link': too many levels of symbolic links");
    assert_eq!(elsewhere.text("target"), "old");
}

/// A change within the second of another one is noticed, although the times are the same.
fn notices_changes_within_a_second(dir: &Path) {
    let sandbox = Sandbox::in_dir(dir);
    sandbox.write("out", "old\n");
    let during = |change: &str, line: &str| {
        let line = format!("--sync=none {line} out");
        let words = line.split(' ').map(String::from);
        let words = ["--validate".to_owned(), change.to_owned()]
            .into_iter()
            .chain(words);
        sandbox.atomwrite(words).stdin("new\n").output()
    };
    let done = during(r#"setfacl -m u:1:- "$2""#, "-q");
    assert_eq!(done.code(), Some(0), "{done:?}");
    sandbox.sh("getfacl -c out | grep -q '^user:daemon:---'");
    let done = during(r#"echo theirs >>"$2""#, "-a");
    assert_eq!(done.code(), Some(1), "{done:?}");
    assert_eq!(sandbox.text("out"), "new\ntheirs\n");
}

#[test]
fn tmpfs_keeps_the_promise() {
    needs_mounts!();
    needs_tool!("strace", "setfacl");
    let mount = Mount::tmpfs("size=64m");
    keeps_the_promise(mount.path(), FULLY);
    linux_only!("nosymfollow");
    follows_no_link(&mount);
}

#[test]
fn ext4_keeps_the_promise() {
    needs_mounts!();
    needs_tool!("strace", "setfacl", "mkfs.ext4");
    let mount = Mount::ext4(64, &[]);
    keeps_the_promise(mount.path(), FULLY);
    // Inodes of 128 bytes keep times in whole seconds.
    notices_changes_within_a_second(Mount::ext4(8, &["-I", "128"]).path());
}

#[test]
fn xfs_keeps_the_promise() {
    needs_mounts!();
    needs_tool!("strace", "setfacl", "mkfs.xfs");
    let mount = Mount::xfs();
    keeps_the_promise(mount.path(), CLONING);
}

#[test]
fn btrfs_keeps_the_promise() {
    needs_mounts!();
    needs_tool!("strace", "setfacl", "mkfs.btrfs");
    let mount = Mount::btrfs();
    keeps_the_promise(mount.path(), CLONING);
}

#[test]
fn ramfs_keeps_the_promise() {
    needs_mounts!();
    needs_tool!("strace", "setfacl");
    let mount = Mount::ramfs();
    keeps_the_promise(
        mount.path(),
        Able {
            attributes: false,
            // It counts no blocks.
            holes: false,
            ..FULLY
        },
    );
}

#[test]
fn overlayfs_keeps_the_promise() {
    needs_mounts!();
    needs_tool!("strace", "setfacl", "mkfs.ext4");
    let mount = Mount::overlay(Mount::ext4(64, &[]), |_| ());
    keeps_the_promise(
        mount.path(),
        Able {
            unnamed: None,
            ..FULLY
        },
    );
}

#[test]
fn a_file_of_an_overlays_lower_layer_is_replaced_and_backed_up() {
    needs_mounts!();
    needs_tool!("mkfs.ext4", "strace");
    let mut lower = None;
    let mount = Mount::overlay(Mount::ext4(64, &[]), |dir| {
        fs::create_dir(dir.join("sub")).unwrap();
        fs::write(dir.join("sub/out"), "old").unwrap();
        lower = Some(dir.to_owned());
    });
    let lower = lower.unwrap();
    let sandbox = Sandbox::in_dir(mount.path());
    let out = mount.path().join("sub/out");
    let mode = fs::metadata(&out).unwrap().mode();
    let run = sandbox.atomwrite([out.as_os_str()]).stdin("new");
    run.leaves([""; 0]).succeeds();
    assert_eq!(fs::read(&out).unwrap(), b"new");
    assert_eq!(fs::metadata(&out).unwrap().mode(), mode);
    assert_eq!(fs::read(lower.join("sub/out")).unwrap(), b"old");
    assert_eq!(fs::read_dir(mount.path().join("sub")).unwrap().count(), 1);

    // overlayfs gives a link to a file of the lower layer a new number, if the upper one cannot
    // refer to that file.
    let disk = Mount::ramfs();
    for directory in ["fails", "succeeds"].map(|name| disk.path().join(name)) {
        fs::create_dir(&directory).unwrap();
        fs::write(directory.join("out"), "old").unwrap();
    }
    let mount = Mount::overlay_over(disk.path(), Mount::tmpfs("size=32m"));
    let sandbox = Sandbox::in_dir(mount.path());
    let run = |directory| {
        let words = format!("-q --sync=none --backup=numbered ../{directory}/out");
        sandbox.run(&words).stdin("new").leaves([""; 0])
    };
    let names = |directory| {
        let entries = fs::read_dir(mount.path().join(directory)).unwrap();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    };
    run("succeeds").succeeds();
    assert_eq!(names("succeeds"), ["out", "out.~1~"]);
    run("fails")
        .inject("rename,renameat,renameat2:error=EIO")
        .fails_with(1, "cannot write '../fails/out'");
    assert_eq!(names("fails"), ["out"]);
}

#[test]
fn the_promise_is_kept_without_proc() {
    needs_mounts!();
    needs_tool!("strace", "setfacl", "mkfs.ext4");
    let mount = Mount::ext4(64, &[]);
    let _hidden = Cover::proc();
    keeps_attributes(mount.path(), FULLY);
    keeps_holes(mount.path(), FULLY);
    makes_and_replaces(mount.path());
    serves_every_user(mount.path());
    linux_only!("unnamed files");
    // Neither by its descriptor nor through /proc: what older kernels give to those who are not
    // root.
    let sandbox = Sandbox::in_dir(mount.path());
    for content in ["new", "newer"] {
        let run = || sandbox.run("out").inject("linkat:error=ENOENT");
        run().stdin(content).writes(content);
        // Its name is taken away again without /proc, too.
        let failing = run().inject("rename,renameat,renameat2:error=EIO");
        failing.stdin("no").fails_with(1, "input/output error");
    }
}

#[test]
fn a_destination_that_can_be_written_but_not_read_is_replaced() {
    linux_only!("ways to what may not be read");
    needs_mounts!();
    let sandbox = Sandbox::new();
    sandbox.give_to(NOBODY, NOBODY);
    sandbox.write_with_mode("out", "old", 0o200);
    sandbox.chown("out", NOBODY, NOBODY);
    sandbox.run("out").stdin("new").by_nobody().writes("new");
    assert_eq!(sandbox.mode("out"), 0o200);
    // What else it has cannot be asked for then.
    let _hidden = Cover::proc();
    let done = sandbox.run("out").stdin("newer").by_nobody().output();
    // To fail is as right as to warn: an ACL that cannot be seen may forbid what the mode alone
    // would allow.
    if done.code() == Some(0) {
        assert!(done.stderr.starts_with("atomwrite: warning: "), "{done:?}");
        assert_eq!(sandbox.text("out"), "newer");
    } else {
        assert_eq!(done.code(), Some(1), "{done:?}");
        assert!(done.stderr.ends_with("; 'out' is unchanged\n"), "{done:?}");
        assert_eq!(sandbox.text("out"), "new");
    }
    assert_eq!(sandbox.mode("out"), 0o200);
    assert_eq!(sandbox.names(), ["out"]);
}
