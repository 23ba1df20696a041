//! A DEST that no file can be renamed to: `-C` compares it with the input as that arrives, and
//! `--inplace` writes into it if the filesystem refuses the rename itself. A deleted directory is
//! reported as deleted.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use crate::harness::{
    Cover, Mount, Sandbox, Strace, each, is_temporary, linux_only, needs_mounts, needs_root,
    needs_tool, tool,
};

/// Why DEST cannot be replaced; undone when dropped.
enum Obstacle {
    Flag(&'static str, PathBuf),
    Mounted(#[expect(dead_code, reason = "it is unmounted when dropped")] Cover),
    ReadOnly(Mount),
    /// A directory in which nothing can be made.
    Closed(PathBuf),
    Owner,
}

impl Drop for Obstacle {
    fn drop(&mut self) {
        match self {
            Self::Flag(flag, path) => drop(tool(
                "chattr",
                [format!("-{flag}").as_ref(), path.as_os_str()],
            )),
            Self::ReadOnly(mount) => mount.remount("rw"),
            Self::Closed(path) => {
                fs::set_permissions(path, Permissions::from_mode(0o755)).unwrap();
            }
            Self::Mounted(_) | Self::Owner => {}
        }
    }
}

/// A sandbox with `out`, which holds "old" and cannot be replaced, and what the refusal says. The
/// obstacle comes second: it is dropped first, or the sandbox could not be removed.
fn obstructed(which: &str) -> (Sandbox, Obstacle, &'static str) {
    let flagged = |flag: &'static str, reason| {
        let sandbox = Sandbox::new();
        let path = sandbox.write("out", "old");
        tool("chattr", [format!("+{flag}").as_ref(), path.as_os_str()]);
        (sandbox, Obstacle::Flag(flag, path), reason)
    };
    let of_others = |directory: u32, file: u32, reason| {
        let sandbox = Sandbox::new();
        sandbox.write_with_mode("out", "old", file);
        sandbox.chmod(".", directory);
        (sandbox, Obstacle::Owner, reason)
    };
    match which {
        "immutable" => flagged("i", "it is immutable"),
        "append-only" => flagged("a", "it can only be appended to"),
        "bind mount" => {
            let sandbox = Sandbox::new();
            let mounted = sandbox.aside("mounted");
            std::fs::write(&mounted, "old").unwrap();
            let cover = Cover::bind(&mounted, &sandbox.write("out", "below"));
            (sandbox, Obstacle::Mounted(cover), "it is a mount point")
        }
        "read-only mount" => {
            let mount = Mount::tmpfs("size=1m");
            let sandbox = Sandbox::in_dir(mount.path());
            sandbox.write("out", "old");
            mount.remount("ro");
            (sandbox, Obstacle::ReadOnly(mount), "read-only file system")
        }
        "another user's directory" => of_others(0o755, 0o666, "permission denied"),
        "mode 444" => of_others(0o777, 0o444, "permission denied"),
        other => panic!("{other}?"),
    }
}

/// The first obstacle that this user can set up.
fn obstructed_for_us() -> (Sandbox, Obstacle, &'static str) {
    if rustix::process::geteuid().is_root() {
        return obstructed(if cfg!(atomwrite_posix) {
            "read-only mount"
        } else {
            "immutable"
        });
    }
    let sandbox = Sandbox::with("out", "old");
    sandbox.chmod(".", 0o555);
    let closed = Obstacle::Closed(sandbox.root().to_owned());
    (sandbox, closed, "permission denied")
}

#[test]
fn equal_content_succeeds_and_different_content_fails() {
    needs_mounts!();
    needs_tool!("chattr", "setpriv");
    let check = |which| {
        let (sandbox, obstacle, reason) = obstructed(which);
        let run = |line: &str| {
            let run = sandbox.run(line);
            match obstacle {
                Obstacle::Owner => run.by_nobody(),
                _ => run,
            }
        };
        let same = |line, status| run(line).stdin("old").leaves_alone(status);
        same("-C out", 0);
        same("-C --unchanged-status 9 out", 9);
        same("-C --sync=file -b out", 0);
        same("-C out -- printf old", 0);
        for other in ["olD", "ol", "older", "x"] {
            run("-C out").stdin(other).fails_with(1, reason);
            run(&format!("-C out -- printf {other}")).fails_with(125, reason);
        }
        run("-C -m 1600 out").stdin("old").fails_with(1, reason);
        run("-C out").stdin("").fails_with(3, "empty");
    };
    ["read-only mount", "another user's directory", "mode 444"]
        .into_iter()
        .for_each(check);
    linux_only!("the flags of chattr(1)");
    ["immutable", "append-only", "bind mount"]
        .into_iter()
        .for_each(check);
}

#[test]
fn the_guards_are_checked_although_nothing_is_stored() {
    let (sandbox, _obstacle, _) = obstructed_for_us();
    let line = r#"-C --validate 'test "$(cat)" = old && cmp "$1" out' out"#;
    sandbox.run(line).stdin("old").leaves_alone(0);
    let sum = format!("-C --sha256 {:064} out", 0);
    sandbox.fail_each(&[
        (
            "-C --validate 'exit 1' out",
            "old",
            3,
            "the validator exited",
        ),
        (&sum, "old", 3, "SHA-256"),
    ]);
}

#[test]
fn the_refusal_follows_the_first_difference() {
    let (sandbox, _obstacle, reason) = obstructed_for_us();
    let mut run = sandbox.run("-C out").stdin_held().start();
    run.feed("oh");
    let done = run.wait_with_input_open();
    assert_eq!(done.code(), Some(1));
    assert!(done.stderr.contains(reason), "{done:?}");

    sandbox.run("-C out -- yes").fails_with(125, reason);
}

#[test]
fn without_compare_it_is_refused_before_any_input_is_read() {
    let (sandbox, _obstacle, reason) = obstructed_for_us();
    sandbox.refuse_each(&[("out", 1, reason)]);
}

#[test]
fn appending_nothing_changes_nothing() {
    linux_only!("the flags of chattr(1)");
    needs_root!();
    needs_tool!("chattr");
    let (sandbox, _obstacle, reason) = obstructed("immutable");
    sandbox.run("-a -C out").stdin("").leaves_alone(0);
    sandbox.run("-a -C out").stdin("x").fails_with(1, reason);
}

#[test]
fn many_equal_files_need_no_writable_directory() {
    needs_mounts!();
    let mount = Mount::tmpfs("size=1m");
    let sandbox = Sandbox::in_dir(mount.path());
    let source = Sandbox::new();
    for name in ["one", "two"] {
        sandbox.write(name, name);
        source.write(name, name);
    }
    mount.remount("ro");
    let run = || {
        let names = ["one", "two"].map(|name| source.path(name).into_os_string());
        let words = ["-C", "-t", "."].map(Into::into);
        sandbox.atomwrite(words.into_iter().chain(names))
    };
    run().leaves_alone(0);
    source.write("two", "changed");
    run()
        .says("read-only file system")
        .says("'.' is unchanged")
        .leaves(["one", "two"])
        .output();
    assert_eq!(sandbox.text("two"), "two");
    mount.remount("rw");
}

/// Errors that filesystems on object storage return from a rename.
const REFUSED: [&str; 4] = ["EPERM", "EXDEV", "EOPNOTSUPP", "ENOSYS"];

/// A filesystem without links and renames.
fn without_renames(error: &str) -> Strace {
    Strace::new().inject(&format!("linkat,rename,renameat,renameat2:error={error}"))
}

#[test]
fn inplace_writes_where_the_filesystem_refuses_to_rename() {
    needs_tool!("strace");
    let cases = REFUSED.into_iter().flat_map(|error| {
        [
            (error, "old", "old", 0o640),
            (error, "new", "new", 0o644),
            (error, "-m 600 new", "new", 0o600),
            (error, "-n new", "new", 0o644),
            (error, "-D a/new", "a/new", 0o644),
        ]
    });
    each(cases, |(error, line, dest, mode)| {
        for policy in ["--inplace", "--inplace=always"] {
            let sandbox = Sandbox::new();
            sandbox.write_with_mode("old", "a longer old content", 0o640);
            let inode = sandbox.inode("old");
            let run = sandbox.run(&format!("{policy} {line}")).stdin("new");
            let done = run.under(&without_renames(error)).output();
            assert_eq!(done.code(), Some(0), "{policy} {done:?}");
            let warning = "in place: readers may see";
            assert!(done.stderr.contains(warning), "{done:?}");
            assert_eq!((&*sandbox.text(dest), sandbox.mode(dest)), ("new", mode));
            assert_eq!(sandbox.inode("old"), inode);
            assert!(!sandbox.names().iter().any(|name| is_temporary(name)));
        }
    });
}

#[test]
fn a_new_file_to_which_nothing_could_be_written_is_removed() {
    needs_tool!("strace");
    let sandbox = Sandbox::new();
    let strace = without_renames("ENOSYS")
        .inject("fallocate,write:error=ENOSPC")
        .at(sandbox.path("new"))
        .at(sandbox.root());
    sandbox
        .run("--inplace new")
        .stdin("new")
        .under(&strace)
        .warns("writing 'new' in place")
        .says("no space left on device")
        .leaves(Vec::<String>::new())
        .fails(1);
}

#[test]
fn a_new_file_that_was_written_stays_after_a_later_failure() {
    needs_root!();
    needs_tool!("strace");
    let sandbox = Sandbox::new();
    let strace = without_renames("ENOSYS")
        .inject("fchmod:error=EPERM:when=2")
        .at(sandbox.path("new"))
        .at(sandbox.root());
    sandbox
        .run("--inplace -m 640 new")
        .stdin("secret")
        .under(&strace)
        .warns("writing 'new' in place")
        .says("cannot set the mode of 'new'")
        .fails_with(4, "; 6 of 6 bytes are written");
    assert_eq!(sandbox.text("new"), "secret");
    assert_eq!(
        sandbox.mode("new"),
        0o600,
        "it was private until it was complete"
    );
}

#[test]
fn a_file_that_vanishes_is_written_in_place_as_planned() {
    needs_tool!("strace");
    let sandbox = Sandbox::new();
    sandbox.write_with_mode("out", "old", 0o600);
    let strace = without_renames("EXDEV").alone();
    sandbox
        .atomwrite(["--inplace", "--validate", r#"rm "$2""#, "out"])
        .stdin("new")
        .under(&strace)
        .warns("writing 'out' in place")
        .succeeds();
    assert_eq!(sandbox.mode("out"), 0o600);

    sandbox
        .atomwrite(["--inplace=always", "-b", "--validate", r#"rm "$2""#, "out"])
        .stdin("newer")
        .says("it is not the file that was checked")
        .says("'out' no longer exists")
        .leaves(Vec::<String>::new())
        .output();
    assert!(sandbox.names().is_empty(), "{:?}", sandbox.names());
}

#[test]
fn a_failed_sync_is_not_a_success() {
    needs_tool!("strace");
    for line in ["-C --sync=file out", "--inplace=always out"] {
        let sandbox = Sandbox::with("out", "old");
        let strace = Strace::new().inject("fsync:error=EROFS");
        let done = sandbox.run(line).stdin("old").under(&strace).output();
        assert_ne!(done.code(), Some(0), "{line}: {done:?}");
    }
}

#[test]
fn an_append_only_directory_keeps_no_file_and_no_clobber_is_checked_first() {
    linux_only!("the flags of chattr(1)");
    needs_mounts!();
    needs_tool!("mkfs.ext4", "chattr");
    let mount = Mount::ext4(16, &[]);
    let sandbox = Sandbox::in_dir(mount.path());
    sandbox.write("out", "old");
    let root = sandbox.root().as_os_str();
    tool("chattr", ["+a".as_ref(), root]);
    sandbox.fail_each(&[
        ("-n -C out", "old", 3, "--no-clobber"),
        ("-b --inplace out", "new", 1, "append-only"),
    ]);
    tool("chattr", ["-a".as_ref(), root]);
}

#[test]
fn a_refused_rename_suggests_inplace_and_a_full_or_broken_disk_does_not() {
    needs_tool!("strace");
    let helps = "; use --inplace to write it in place";
    let cases = [
        ("out", "linkat,rename,renameat,renameat2:error=EXDEV", helps),
        (
            "out",
            "linkat,rename,renameat,renameat2:error=EOPNOTSUPP",
            helps,
        ),
        (
            "out",
            "linkat,rename,renameat,renameat2:error=ENOSYS",
            helps,
        ),
        (
            "--inplace out",
            "rename,renameat,renameat2:error=ENOSPC",
            "no space",
        ),
        (
            "--inplace out",
            "rename,renameat,renameat2:error=EIO",
            "input/output",
        ),
        (
            "--inplace out",
            "rename,renameat,renameat2:error=EDQUOT",
            "quota",
        ),
    ];
    each(cases, |(line, injection, part)| {
        let sandbox = Sandbox::with("out", "old");
        let run = sandbox.run(line).stdin("new").inject(injection);
        run.fails_with(1, part);
    });
}

#[test]
fn another_users_file_in_a_world_writable_directory_is_not_overwritten_in_place_either() {
    needs_root!();
    let sandbox = Sandbox::new();
    sandbox.write_with_mode("out", "old", 0o666);
    sandbox.fifo("fifo");
    sandbox.sh("chmod 1777 .; chown 65534:65534 out fifo");
    let why = "in a world-writable directory, and that user would get the content";
    let way_out = "it is another user's, in a world-writable directory, and that user would get the content; omit --inplace, and use --keep=none or -o to replace it";
    let of_fifo = "it is another user's FIFO, in a world-writable directory, and that user would get the content";
    sandbox.refuse_each(&[
        ("out", 1, why),
        ("--inplace out", 1, why),
        ("--inplace=always out", 1, why),
        ("--inplace=always --keep=none out", 1, way_out),
        ("--inplace fifo", 1, of_fifo),
    ]);
    let run = sandbox.run("out").user(1234, 1234, &[]).stdin("new");
    let why = "only its owner may replace it (the sticky bit); 'out' is unchanged";
    run.fails_with(1, why);
    let run = sandbox.run("--inplace --keep=none out");
    run.stdin("mine").succeeds();
    assert_eq!(sandbox.owner("out").0, 0);
}

#[test]
fn a_deleted_current_directory_is_reported() {
    for (words, what) in [
        ("out", "the directory of 'out'"),
        ("-D a/out", "the directory of 'a/out'"),
        ("--lock out", "the directory of 'out'"),
        ("-t . /proc/self/status", "directory '.'"),
    ] {
        let sandbox = Sandbox::new();
        sandbox.mkdir("gone");
        let inside = ["sh", "-c", r#"rmdir "$PWD" && exec "$@""#, "sh"];
        let run = sandbox.run(words).through(inside).stdin("new");
        let done = run.current_dir(sandbox.path("gone")).output();
        assert_eq!(done.code(), Some(1), "{done:?}");
        let line =
            format!("atomwrite: cannot open {what}: the current directory has been deleted\n");
        assert_eq!(done.stderr, line);
        assert!(sandbox.names().is_empty());
    }
}
