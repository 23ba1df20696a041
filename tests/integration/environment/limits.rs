//! Filesystems at their limits: full, over quota, read-only, immutable. Each causes one clear
//! message, and DEST is unchanged.
//!
//! There is one test of each kind. The torture suite has other filesystems, and filesystems that
//! are full at other moments.

use std::fs::{self, File};

use crate::harness::{Mount, Sandbox, each, linux_only, needs_mounts, needs_tool};

/// More than fits on the filesystem.
const LARGE: usize = 4 << 20;

/// Tries every form of a write, which must fail for this reason.
#[track_caller]
fn every_form_fails(sandbox: &Sandbox, why: &str) {
    let source = sandbox.aside("src");
    fs::write(&source, vec![b'x'; LARGE]).unwrap();
    let source = source.display();
    let cases = [
        ("out".to_owned(), 1),
        ("new".to_owned(), 1),
        ("--sync=none out".to_owned(), 1),
        (format!("{source} out"), 1),
        (format!("--sync=none {source} new"), 1),
        ("-D one/two/out".to_owned(), 1),
        // Whatever COMMAND does about the error.
        (
            "out -- sh -c 'head -c 4M /dev/zero; exit 0'".to_owned(),
            125,
        ),
    ];
    each(&cases, |(line, status)| {
        let run = sandbox.run(line).stdin(vec![b'x'; LARGE]);
        run.fails_with(*status, why);
    });
}

#[test]
fn a_full_disk_leaves_the_destination_unchanged() {
    needs_mounts!();
    needs_tool!("strace");
    let mount = Mount::tmpfs("size=64k");
    let sandbox = Sandbox::in_dir(mount.path());
    sandbox.write("out", "old");
    every_form_fails(&sandbox, "no space left on device");
    // Where the new file has a name, too. A short write comes first: 65536 bytes of them fit.
    let run = sandbox.run("out").stdin(vec![b'x'; 100_000]);
    run.without_linkat()
        .fails_with(1, "no space left on device");
    // The space has been freed.
    sandbox.run("out").stdin(vec![b'x'; 50_000]).succeeds();
}

#[test]
fn no_inodes_left_leaves_the_destination_unchanged() {
    needs_mounts!();
    let mount = Mount::tmpfs("nr_inodes=32");
    let sandbox = Sandbox::in_dir(mount.path());
    sandbox.write("out", "old");
    while File::create(sandbox.path(format!("filler{}", sandbox.names().len()))).is_ok() {}
    sandbox.fail_each(&[
        ("out", "new", 1, "'out': no space left on device"),
        ("new", "new", 1, "'new': no space left on device"),
        ("-D one/two/out", "new", 1, "no space left on device"),
    ]);
}

// ext4's quota is the same errno from the same calls; btrfs's needs no format that the kernel may
// not know.
#[test]
fn an_exceeded_quota_leaves_the_destination_unchanged() {
    needs_mounts!();
    needs_tool!("mkfs.btrfs");
    let mount = Mount::btrfs();
    let top = Sandbox::in_dir(mount.path());
    top.sh("btrfs quota enable . && btrfs subvolume create volume && btrfs qgroup limit 2M volume");
    let sandbox = Sandbox::in_dir(&top.path("volume"));
    sandbox.write("out", "old");
    every_form_fails(&sandbox, "quota exceeded");
    sandbox.run("out").stdin("new").succeeds();
}

#[test]
fn a_read_only_filesystem_leaves_the_destination_unchanged() {
    needs_mounts!();
    let mount = Mount::tmpfs("size=1m");
    let sandbox = Sandbox::in_dir(mount.path());
    sandbox.write("out", "old");
    mount.remount("ro");
    sandbox.fail_each(&[
        ("out", "new", 1, "'out': read-only file system"),
        ("new", "new", 1, "'new': read-only file system"),
        ("-D one/two/out", "new", 1, "read-only file system"),
    ]);
    mount.remount("rw");
}

#[test]
fn an_immutable_file_or_directory_is_unchanged() {
    linux_only!("the flags of chattr(1)");
    needs_mounts!();
    needs_tool!("mkfs.ext4", "chattr");
    let mount = Mount::ext4(16, &[]);
    let immutable = "cannot replace 'out': it is immutable (chattr(1) can change that); ";
    let append_only =
        "cannot replace 'out': it can only be appended to (chattr(1) can change that); ";
    let cases = [
        ("+i out", "out", 1, immutable),
        ("+i out", "-f out", 1, immutable),
        ("+i out", "-n --no-dereference out", 3, "--no-clobber"),
        ("+a out", "out", 1, append_only),
        ("+a out", "-f out", 1, append_only),
        ("+a out", "-n --no-dereference out", 3, "--no-clobber"),
        ("+i .", "out", 1, "'out': operation not permitted"),
        ("+i .", "new", 1, "'new': operation not permitted"),
    ];
    each(cases, |(flag, line, status, why)| {
        let sandbox = Sandbox::in_dir(mount.path());
        sandbox.write("out", "old");
        sandbox.sh(&format!("chattr {flag}"));
        let done = sandbox.run(line).stdin("new").output();
        sandbox.sh(&format!("chattr {}", flag.replace('+', "-")));
        assert_eq!(done.code(), Some(status), "{done:?}");
        assert!(done.stderr.contains(why), "{done:?}");
        assert_eq!(sandbox.listing(), "out=old");
    });
}
