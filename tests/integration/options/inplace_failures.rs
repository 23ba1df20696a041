//! `--inplace` that fails before it begins to write, or is interrupted.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use rustix::process::{Resource, Rlimit, prlimit};

use crate::harness::{
    Done, Mount, NOBODY, Sandbox, Stepped, Strace, can_be_others, check_message, linux_only,
    needs_mounts, needs_tool, program_of,
};
use crate::options::inplace::always;

#[test]
fn space_that_cannot_be_preallocated_leaves_the_file_unchanged() {
    needs_mounts!();
    needs_tool!("mkfs.ext4");
    for mount in [Mount::tmpfs("size=512k"), Mount::ext4(8, &[])] {
        let sandbox = Sandbox::in_dir(mount.path());
        sandbox.write("out", "old content");
        sandbox.write("src", "");
        fs::set_permissions(sandbox.path("src"), Permissions::from_mode(0o600)).unwrap();
        let before = sandbox.stat("out");
        let done = always(&sandbox, "-q out")
            .stdin(vec![b'n'; 16 << 20])
            .output();
        assert_eq!(done.code(), Some(1), "{done:?}");
        assert!(
            done.stderr
                .ends_with("no space left on device; 'out' is unchanged\n"),
            "{done:?}"
        );
        check_message(done.stderr.trim_end());
        let after = sandbox.stat("out");
        assert_eq!(sandbox.text("out"), "old content");
        let look = |stat: &fs::Metadata| (stat.ino(), stat.mode(), stat.mtime(), stat.mtime_nsec());
        assert_eq!(look(&before), look(&after));
        assert_eq!(before.blocks(), after.blocks(), "the space stays reserved");
    }
}

#[test]
fn only_an_error_of_the_disk_stops_the_preallocation() {
    linux_only!("fallocate");
    needs_tool!("strace");
    for (error, stops) in [
        ("ENOSPC", true),
        ("EDQUOT", true),
        ("EFBIG", true),
        ("EIO", true),
        ("EPERM", false),
        ("ENOSYS", false),
        ("EOPNOTSUPP", false),
        ("EINVAL", false),
        ("ENODEV", false),
    ] {
        let sandbox = Sandbox::with("out", "old content");
        let strace = Strace::new().inject(&format!("fallocate:error={error}"));
        let done = always(&sandbox, "-q out")
            .stdin(vec![b'n'; 100_000])
            .under(&strace)
            .output();
        assert_eq!(done.code(), Some(i32::from(stops)), "{error} {done:?}");
        let new = sandbox.read("out") == vec![b'n'; 100_000];
        let old = sandbox.read("out") == b"old content";
        assert!(if stops { old } else { new }, "{error}");
    }
    // A new owner may have opened the file by then. A set-user-ID bit must not come back.
    if can_be_others() {
        let sandbox = Sandbox::new();
        sandbox.write_with_mode("out", "old content", 0o4755);
        let run = always(&sandbox, "-q -o 1 -m 755 out").stdin("new");
        let strace = Strace::new().inject("fallocate:error=EIO");
        let done = run.under(&strace).output();
        assert_eq!(done.code(), Some(4), "{done:?}");
        let says =
            "input/output error; the content is old, and the mode, owner or group may be new\n";
        assert!(done.stderr.ends_with(says), "{done:?}");
        assert_eq!(sandbox.text("out"), "old content");
        assert_eq!((sandbox.owner("out").0, sandbox.mode("out")), (1, 0o755));
    }
}

/// 1 MiB: more than one write.
fn large() -> Vec<u8> {
    vec![b'n'; 1 << 20]
}

/// Makes a run write only a part of [`large`] to `out`: then it is at the limit of a file's
/// size.
#[track_caller]
fn breaks_off(sandbox: &Sandbox, line: &str) -> Done {
    let run = sandbox.run(line).stdin(large()).file_size_limit(1 << 30);
    let mut stepped = Stepped::start(run, "write", sandbox.path("out"));
    assert!(stepped.has_stopped());
    let written = sandbox.stat("out").len();
    let limit = Rlimit {
        current: Some(written),
        maximum: Some(1 << 30),
    };
    prlimit(Some(program_of(&stepped.running)), Resource::Fsize, limit).unwrap();
    stepped.finish()
}

#[test]
fn a_failure_midway_says_how_much_is_written() {
    needs_tool!("strace");
    for (line, status) in [
        ("--inplace=always -q out", 4),
        ("--inplace=always -q out -- cat", 124),
    ] {
        let sandbox = Sandbox::with("out", "old content");
        let done = breaks_off(&sandbox, line);
        assert_eq!(done.code(), Some(status), "{done:?}");
        let written = sandbox.read("out");
        assert!(!written.is_empty() && written.iter().all(|byte| *byte == b'n'));
        let message = format!(
            "atomwrite: cannot write 'out': file too large; {} of 1048576 bytes are written, and the file is a mix of new and \
             old\n",
            written.len()
        );
        assert_eq!(done.stderr, message);
        assert_eq!(sandbox.names(), ["out"]);
    }
}

#[test]
fn a_write_that_breaks_off_leaves_the_backup() {
    needs_tool!("strace");
    let sandbox = Sandbox::with("out", "old content");
    let done = breaks_off(&sandbox, "--inplace=always -q -b out");
    assert_eq!(done.code(), Some(4), "{done:?}");
    assert_eq!(sandbox.text("out~"), "old content");
    assert_eq!(sandbox.names(), ["out", "out~"]);

    // As on NFS, where the answer to a call that succeeded can get lost.
    let sandbox = Sandbox::with("out", "old content");
    let run = always(&sandbox, "-q -b --allow-empty out").stdin("");
    let mut stepped = Stepped::start(run, "ftruncate:error=EIO", sandbox.path("out"));
    assert!(stepped.has_stopped());
    sandbox.write("out", "");
    let done = stepped.finish();
    assert_eq!(done.code(), Some(4), "{done:?}");
    assert_eq!(sandbox.text("out~"), "old content");
}

#[test]
fn a_signal_takes_effect_after_the_write_in_place() {
    needs_tool!("strace");
    for signal in ["SIGTERM", "SIGINT", "SIGHUP"] {
        let sandbox = Sandbox::with("out", "old content");
        let strace = Strace::new()
            .at(sandbox.path("out"))
            .inject(&format!("write:signal={signal}"));
        let run = sandbox.run("--inplace=always -q out").stdin(large());
        let done = run.under(&strace).output();
        assert!(done.signal().is_some(), "{done:?}");
        assert!(sandbox.read("out") == large());
        assert_eq!(sandbox.names(), ["out"]);
    }
}

#[test]
fn the_file_size_limit_leaves_the_file_unchanged() {
    let sandbox = Sandbox::with("out", "old content");
    always(&sandbox, "out")
        .stdin(vec![b'n'; 100_000])
        .file_size_limit(4096)
        .fails_with(1, "file too large");
}

#[test]
fn appenders_and_counters_in_place_lose_nothing() {
    let sandbox = Sandbox::with("out", "old\n");
    let inode = sandbox.inode("out");
    let running: Vec<_> = (0..20)
        .map(|writer| {
            always(&sandbox, "-q -a --sync=none out")
                .stdin(format!("{writer}\n"))
                .start()
        })
        .collect();
    for one in running {
        let done = one.wait();
        assert_eq!(done.code(), Some(0), "{done:?}");
    }
    assert_eq!(sandbox.text("out").lines().count(), 21);
    assert_eq!(sandbox.inode("out"), inode);
}

#[test]
fn an_owner_that_cannot_be_set_leaves_the_file_unchanged() {
    let is_root = can_be_others();
    for (owner, options, what) in [
        (NOBODY, "-o 0 -m 600", "owner"),
        (0, "-o 1", "owner"),
        (0, "-g 1", "group"),
    ] {
        if !is_root && owner == 0 {
            continue;
        }
        let sandbox = Sandbox::new();
        sandbox.write_with_mode("out", "old content", 0o664);
        if is_root {
            sandbox.chown("out", owner, NOBODY);
        }
        let owners = sandbox.owner("out");
        let modified = || sandbox.stat("out").modified().unwrap();
        let before = modified();
        let run = sandbox.run(&format!("--inplace=always -q {options} out"));
        let run = if is_root { run.by_nobody() } else { run };
        let done = run.stdin("new").output();
        assert_eq!(done.code(), Some(1), "{done:?}");
        assert_eq!(
            done.stderr,
            format!(
                "atomwrite: cannot set the {what} of 'out': operation not permitted; 'out' is unchanged\n"
            )
        );
        assert_eq!(sandbox.text("out"), "old content");
        assert_eq!((sandbox.mode("out"), modified()), (0o664, before));
        assert_eq!(sandbox.owner("out"), owners);
    }
    // Nothing is overwritten if the mode could not be set in the end, with a set-group-ID bit too.
    if is_root {
        for mode in [0o666, 0o2666] {
            let sandbox = Sandbox::new();
            sandbox.write("out", "old content");
            sandbox.chmod("out", mode);
            let run = sandbox.run("--inplace=always -q -m a+x out").by_nobody();
            let says = "cannot set the mode of 'out': operation not permitted; 'out' is unchanged";
            run.stdin("new").fails_with(1, says);
            assert_eq!(sandbox.mode("out"), mode);
        }
    }
    // The kernel takes set-ID bits away before a write fails.
    let sandbox = Sandbox::new();
    sandbox.write_with_mode("out", "old content", 0o6755);
    if is_root {
        sandbox.give_to(NOBODY, NOBODY);
        sandbox.chown("out", NOBODY, NOBODY);
        sandbox.chmod("out", 0o6755);
    }
    let run = always(&sandbox, "-q out").stdin("new");
    let run = if is_root { run.by_nobody() } else { run };
    let done = run.file_size_limit(0).output();
    assert_eq!(done.code(), Some(1), "{done:?}");
    assert_eq!(sandbox.mode("out"), 0o6755);
    // A set-group-ID bit of a group that the user is not in is lost if the mode is put back.
    if is_root {
        let sandbox = Sandbox::new();
        sandbox.write("out", "old content");
        sandbox.chown("out", NOBODY, 777);
        sandbox.chmod("out", 0o2755);
        let run = sandbox.run("--inplace=always -q -b -m g-x out").by_nobody();
        run.stdin("new").fails_with(
            1,
            "cannot back up 'out': permission denied; 'out' is unchanged",
        );
        assert_eq!(sandbox.mode("out"), 0o2755);
        let run = sandbox.run("--inplace=always -q -g 0 out").by_nobody();
        let done = run.stdin("new").output();
        assert_eq!(done.code(), Some(4), "{done:?}");
        let says = "operation not permitted; the content is old, and the mode, owner or group may be new\n";
        assert!(done.stderr.ends_with(says), "{done:?}");
        assert_eq!(
            (sandbox.text("out").as_str(), sandbox.mode("out")),
            ("old content", 0o755)
        );
    }
}

#[test]
fn a_failure_after_the_last_byte_is_reported_precisely() {
    needs_tool!("strace");
    let sandbox = Sandbox::new();
    sandbox.write_with_mode("out", "old content", 0o644);
    let run = sandbox.run("--inplace=always -q -m 646 out").stdin("new");
    let done = run.inject("fchmod:error=EPERM:when=2").output();
    assert_eq!(done.code(), Some(4), "{done:?}");
    assert_eq!(
        done.stderr,
        "atomwrite: cannot set the mode of 'out': operation not permitted; the content is new\n"
    );
    assert_eq!(sandbox.text("out"), "new");

    let strace = Strace::new().inject("fsync:error=EIO");
    let done = sandbox
        .run("--inplace=always -q out")
        .under(&strace)
        .stdin("newer")
        .output();
    assert_eq!(done.code(), Some(4), "{done:?}");
    assert_eq!(
        done.stderr,
        "atomwrite: cannot write 'out': input/output error; the file may be a mix of new and old\n"
    );
}

#[test]
fn a_run_that_fails_before_it_writes_leaves_an_older_backup_alone() {
    needs_mounts!();
    let mount = Mount::tmpfs("size=256k");
    let sandbox = Sandbox::in_dir(mount.path());
    sandbox.write("out", "old");
    sandbox.write("out~", "older");
    let run = |validator: &'static str| {
        sandbox.atomwrite([
            "-q",
            "--backup=simple",
            "--inplace=always",
            "--validate",
            validator,
            "out",
        ])
    };
    let done = run("true").stdin(vec![b'n'; 1 << 20]).output();
    assert_eq!(done.code(), Some(1), "{done:?}");
    assert!(done.stderr.contains("no space left on device"), "{done:?}");
    assert_eq!(sandbox.text("out~"), "older");

    let done = run(r#"echo other >"$2.new"; mv "$2.new" "$2""#)
        .stdin("new")
        .output();
    assert_eq!(done.code(), Some(1), "{done:?}");
    assert!(
        done.stderr.contains("it is not the file that was checked"),
        "{done:?}"
    );
    assert_eq!(sandbox.text("out~"), "older");
    assert_eq!(sandbox.text("out"), "other\n");
}
