//! Filesystems at their limits: full, over quota, read-only, immutable. Each is one clear line, and DEST is unchanged.

use std::fs::{self, File};
use std::io::{Seek, Write};
use std::path::Path;

use crate::harness::{Cover, Mount, Sandbox, Strace, needs_mounts, needs_tool, open, tool};

#[test]
fn a_full_tmpfs_leaves_the_destination_unchanged() {
    needs_mounts!();
    needs_tool!("strace");
    let mount = Mount::tmpfs("size=64k");
    let sandbox = Sandbox::in_dir(mount.path());
    let source = sandbox.aside("src");
    fs::write(&source, vec![b'x'; 100_000]).unwrap();
    for existing in [false, true] {
        if existing {
            sandbox.write("out", "old");
        }
        // A short write comes first: 65536 bytes of them fit.
        sandbox
            .run("out")
            .stdin(vec![b'x'; 100_000])
            .says("'out'")
            .fails_with(1, "no space left on device");
        sandbox
            .atomwrite([source.as_os_str(), "out".as_ref()])
            .fails_with(1, "no space left on device");
        let strace = Strace::new().inject("linkat:error=EOPNOTSUPP");
        sandbox
            .run("out")
            .stdin(vec![b'x'; 100_000])
            .under(&strace)
            .fails_with(1, "no space left on device");
        sandbox
            .run("-D one/two/out")
            .stdin(vec![b'x'; 100_000])
            .fails_with(1, "no space left on device");
    }
    // What was taken has been given back.
    sandbox.run("out").stdin(vec![b'x'; 50_000]).succeeds();
}

#[test]
fn a_full_ext4_leaves_the_destination_unchanged() {
    needs_mounts!();
    needs_tool!("mkfs.ext4");
    let mount = Mount::ext4(16, &[]);
    let sandbox = Sandbox::in_dir(mount.path());
    sandbox.write("out", "old");
    sandbox.write("small", "");
    fill(&sandbox.path("filler"));
    let source = sandbox.aside("src");
    fs::write(&source, vec![b'x'; 2 << 20]).unwrap();
    for sync in ["--sync=none", "--sync=full"] {
        for name in ["out", "new"] {
            sandbox
                .atomwrite([sync, name])
                .stdin(vec![b'x'; 2 << 20])
                .fails_with(1, "no space left on device");
            sandbox
                .atomwrite([sync.as_ref(), source.as_os_str(), name.as_ref()])
                .fails_with(1, "no space left on device");
        }
    }
    fs::remove_file(sandbox.path("filler")).unwrap();
    sandbox.run("out").stdin(vec![b'x'; 2 << 20]).succeeds();
}

/// Writes until nothing more fits.
fn fill(path: &Path) {
    let mut filler = File::create(path).unwrap();
    for size in [1 << 16, 1 << 10, 1] {
        while filler.write_all(&vec![b'f'; size]).is_ok() {}
        // Delayed allocation has to know how much it really takes.
        drop(filler.sync_all());
    }
}

#[test]
fn no_inodes_left_leaves_the_destination_unchanged() {
    needs_mounts!();
    needs_tool!("mkfs.ext4");
    let ext4 = Mount::ext4(16, &["-N", "32"]);
    let tmpfs = Mount::tmpfs("nr_inodes=32");
    for mount in [ext4, tmpfs] {
        let sandbox = Sandbox::in_dir(mount.path());
        sandbox.write("out", "old");
        while File::create(sandbox.path(format!("filler{}", sandbox.names().len()))).is_ok() {}
        for name in ["out", "new"] {
            sandbox
                .atomwrite([name])
                .stdin("new")
                .says(format!("'{name}'"))
                .fails_with(1, "no space left on device");
        }
        sandbox
            .run("-D one/two/out")
            .stdin("new")
            .fails_with(1, "no space left on device");
    }
}

// ext4's quota is the same errno from the same calls; btrfs's needs no format that the kernel may not know.
#[test]
fn an_exceeded_quota_leaves_the_destination_unchanged() {
    needs_mounts!();
    needs_tool!("mkfs.btrfs");
    let mount = Mount::btrfs();
    let volume = mount.path().join("volume");
    let volume_text = volume.to_str().unwrap();
    tool("btrfs", ["quota", "enable", mount.path().to_str().unwrap()]);
    tool("btrfs", ["subvolume", "create", volume_text]);
    tool("btrfs", ["qgroup", "limit", "2M", volume_text]);
    let sandbox = Sandbox::in_dir(&volume);
    sandbox.write("out", "old");
    let source = sandbox.aside("src");
    fs::write(&source, vec![b'x'; 4 << 20]).unwrap();
    for sync in ["--sync=none", "--sync=full"] {
        for name in ["out", "new"] {
            sandbox
                .atomwrite([sync, name])
                .stdin(vec![b'x'; 4 << 20])
                .says(format!("'{name}'"))
                .fails_with(1, "quota exceeded");
            sandbox
                .atomwrite([sync.as_ref(), source.as_os_str(), name.as_ref()])
                .fails_with(1, "quota exceeded");
        }
    }
    // Whatever COMMAND makes of it.
    for sync in ["--sync=none", "--sync=full"] {
        let command = "head -c 4M /dev/zero; exit 0";
        sandbox
            .atomwrite([sync, "out", "--", "sh", "-c", command])
            .fails_with(125, "quota exceeded");
    }
    sandbox.run("out").stdin("new").succeeds();
}

#[test]
fn a_read_only_filesystem_leaves_the_destination_unchanged() {
    needs_mounts!();
    let mount = Mount::tmpfs("size=1m");
    let sandbox = Sandbox::in_dir(mount.path());
    sandbox.write("out", "old");
    mount.remount("ro");
    for name in ["out", "new"] {
        sandbox
            .atomwrite([name])
            .stdin("new")
            .says(format!("'{name}'"))
            .fails_with(1, "read-only file system");
    }
    sandbox
        .run("-D one/two/out")
        .stdin("new")
        .fails_with(1, "read-only file system");
    mount.remount("rw");
}

#[test]
fn an_immutable_file_is_unchanged() {
    needs_mounts!();
    needs_tool!("mkfs.ext4", "chattr");
    let mount = Mount::ext4(16, &[]);
    for (flag, reason) in [
        ("i", "it is immutable (chattr(1) can change that)"),
        (
            "a",
            "it can only be appended to (chattr(1) can change that)",
        ),
    ] {
        let sandbox = Sandbox::in_dir(mount.path());
        let out = sandbox.write("out", "old");
        let out = out.to_str().unwrap();
        tool("chattr", [&format!("+{flag}"), out]);
        for options in [vec!["out"], vec!["-f", "out"]] {
            sandbox
                .atomwrite(options)
                .stdin("new")
                .fails_with(1, format!("cannot replace 'out': {reason}; "));
        }
        tool("chattr", [&format!("-{flag}"), out]);
        sandbox.run("out").stdin("new").succeeds();
    }
}

#[test]
fn a_file_in_an_immutable_directory_is_unchanged() {
    needs_mounts!();
    needs_tool!("mkfs.ext4", "chattr");
    let mount = Mount::ext4(16, &[]);
    let sandbox = Sandbox::in_dir(mount.path());
    sandbox.write("out", "old");
    let root = sandbox.root().to_str().unwrap().to_owned();
    tool("chattr", ["+i", &root]);
    for name in ["out", "new"] {
        sandbox
            .atomwrite([name])
            .stdin("new")
            .fails_with(1, format!("'{name}'"));
    }
    tool("chattr", ["-i", &root]);
    sandbox.run("out").stdin("new").succeeds();
}

#[test]
fn a_bind_mounted_file_is_refused_before_any_input_is_read() {
    needs_mounts!();
    let sandbox = Sandbox::with("mounted", "old");
    let out = sandbox.write("out", "below");
    let _bound = Cover::bind(&sandbox.path("mounted"), &out);
    assert_eq!(sandbox.text("out"), "old");
    let input = sandbox.aside("input");
    fs::write(&input, "new").unwrap();
    let mut input = open(&input);
    for options in [vec!["out"], vec!["-f", "out"]] {
        sandbox
            .atomwrite(options)
            .stdin_from(input.try_clone().unwrap())
            .says("'out'")
            .fails_with(1, "mount");
        assert_eq!(input.stream_position().unwrap(), 0, "input was read");
    }
    sandbox.run("mounted out").fails_with(1, "mount");
    assert_eq!(sandbox.text("mounted"), "old");
}
