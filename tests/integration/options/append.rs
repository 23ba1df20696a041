//! `--append`.
//!
//! With `-a`, the new content is the current content of DEST followed by the input. `-a` implies
//! `--lock`, which the module `lock` checks, so concurrent runs with `-a` never lose data.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::process::{Command, Stdio};

use crate::harness::{
    Mount, NOBODY, Sandbox, Strace, linux_only, needs_mounts, needs_root, needs_tool,
};

// ---- The content ----

#[test]
fn puts_the_input_after_the_old_content() {
    let sandbox = Sandbox::with("out", "old\n");
    sandbox.write("src", "from a file\n");
    let piped = sandbox.run("-a out").stdin("from a pipe\n");
    piped.succeeds();
    let copied = sandbox.run("--append -v src out");
    let said = "appended 12 bytes to 'out' (28 bytes)";
    copied.says(said).succeeds();
    let made = sandbox.run("-a out -- echo 'from a command'");
    made.writes("old\nfrom a pipe\nfrom a file\nfrom a command\n");
}

#[test]
fn what_is_not_a_regular_file_gets_nothing() {
    let sandbox = Sandbox::with("out", "old\n");
    sandbox.symlink("out", "link");
    let run = sandbox.run("-a --no-dereference link").stdin("new\n");
    run.fails_with(1, "cannot append to 'link': it is not a regular file");
}

#[test]
fn waits_while_another_process_has_a_lease() {
    linux_only!("leases");
    needs_tool!("perl");
    let sandbox = Sandbox::with("out", "old\n");
    // F_SETLEASE, F_WRLCK; F_UNLCK when the kernel asks for the lease.
    let script = "open F, '+<', 'out'; $SIG{IO} = sub { fcntl(F, 1024, 2); exit };
        fcntl(F, 1024, 1) or die; $| = 1; print \"leased\\n\"; sleep 600";
    let mut holder = Command::new("perl")
        .args(["-e", script])
        .current_dir(sandbox.root())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let stdout = holder.stdout.take().unwrap();
    BufReader::new(stdout).read_line(&mut line).unwrap();
    assert_eq!(line, "leased\n");
    sandbox.run("-a out").stdin("new\n").succeeds();
    assert!(holder.wait().unwrap().success());
    assert_eq!(sandbox.text("out"), "old\nnew\n");
}

#[test]
fn creates_a_new_file_from_the_input_alone() {
    let sandbox = Sandbox::new();
    sandbox.write_with_mode("src", "new\n", 0o700);
    let cases = [
        ("-a one", "one", 0o644),
        ("-a src two", "two", 0o700),
        ("-a three -- echo new", "three", 0o644),
        ("-a -D far/off/four", "far/off/four", 0o644),
    ];
    for (line, name, mode) in cases {
        let done = sandbox.run(line).stdin("new\n").output();
        assert_eq!((done.code(), &*done.stderr), (Some(0), ""), "{line}");
        assert_eq!((&*sandbox.text(name), sandbox.mode(name)), ("new\n", mode));
    }
}

#[test]
fn directories_for_the_lock_file_are_created_at_once_and_stay() {
    for option in ["-a", "--lock"] {
        let sandbox = Sandbox::new();
        let run = sandbox.atomwrite([option, "-D", "far/off/five", "--", "false"]);
        assert_eq!(run.output().code(), Some(1), "{option}");
        assert_eq!(sandbox.names(), ["far", "far/off"], "{option}");
    }
}

#[test]
fn empty_input_leaves_the_old_content() {
    let sandbox = Sandbox::with("out", "old\n");
    for line in ["-a out", "-a /dev/null out", "-a out -- true"] {
        sandbox.run(line).stdin("").writes("old\n");
    }
    sandbox.run("-a -C out").stdin("").leaves_alone(0);
    sandbox.run("-a new").stdin("").writes("");
    // The option means the input, whatever DEST holds.
    sandbox.fail_each(&[
        (
            "-a --no-empty out",
            "",
            3,
            "the content is empty, and --no-empty was given",
        ),
        ("-a --no-empty newer", "", 3, "--no-empty"),
    ]);
}

#[test]
fn keeps_every_byte_at_every_size() {
    let sandbox = Sandbox::new();
    let sizes = [0, 1, 4095, 4096, 4097, 524_288, 1_048_577];
    for old in sizes {
        for new in sizes {
            let (old, new) = (vec![b'o'; old], vec![b'n'; new]);
            let both = [&old[..], &new[..]].concat();
            sandbox.write("src", &new);
            for line in ["-a --sync=none out", "-a --sync=none src out"] {
                sandbox.write("out", &old);
                sandbox.run(line).stdin(new.clone()).succeeds();
                assert!(sandbox.read("out") == both, "{} {}", old.len(), new.len());
            }
        }
    }
    sandbox.write("out", vec![b'o'; 100_000]);
    sandbox.run("-a out -- head -c 200000 /dev/zero").succeeds();
    let both = [vec![b'o'; 100_000], vec![0; 200_000]].concat();
    assert!(sandbox.read("out") == both);
}

#[test]
fn appends_a_file_to_itself() {
    let sandbox = Sandbox::new();
    for size in [10, 10_000] {
        let old: Vec<u8> = (0_u8..=255).cycle().take(size).collect();
        sandbox.write("out", &old);
        sandbox.run("-a out out").succeeds();
        assert!(sandbox.read("out") == [&old[..], &old[..]].concat());
    }
}

#[test]
fn leaves_the_file_alone_when_the_input_breaks_off() {
    let sandbox = Sandbox::with("old", "old\n");
    sandbox.fail_each(&[
        (
            "-a old -- sh -c 'echo half; exit 7'",
            "",
            7,
            "exited with status 7",
        ),
        (
            "-a new -- sh -c 'echo half; exit 7'",
            "",
            7,
            "exited with status 7",
        ),
        ("-a nothing old", "", 1, "'nothing'"),
        ("-a nothing new", "", 1, "'nothing'"),
        ("-a -n old", "new", 3, "--no-clobber"),
    ]);
    sandbox.run("-a -n new").stdin("1").writes("1");
}

#[test]
fn appends_through_a_link_and_keeps_the_attributes() {
    let sandbox = Sandbox::new();
    sandbox.mkdir("far");
    sandbox.write_with_mode("far/out", "old\n", 0o604);
    sandbox.symlink("far/out", "link");
    let run = sandbox.run("-a link").stdin("new\n");
    run.leaves(["far", "far/out", "link"]).succeeds();
    assert_eq!(sandbox.text("far/out"), "old\nnew\n");
    assert_eq!(sandbox.mode("far/out"), 0o604);
}

#[test]
fn an_unreadable_file_is_refused_before_any_input_is_read() {
    needs_root!();
    let sandbox = Sandbox::new();
    sandbox.give_to(NOBODY, NOBODY);
    sandbox.write_with_mode("out", "old", 0o200);
    sandbox.chown("out", NOBODY, NOBODY);
    for options in ["-a", "-a -f"] {
        sandbox
            .run(&format!("{options} out"))
            .reads_nothing()
            .by_nobody()
            .fails_with(1, "cannot append to 'out'");
    }
    linux_only!("ways to what may not be read");
    // To lock it, it need not be read.
    let run = sandbox.run("-q --lock out").stdin("new").by_nobody();
    run.writes("new");
}

// ---- How the content is copied ----

/// Makes a file of 4 MiB with data at its start and its end only.
fn spread(path: &Path) {
    let file = File::create(path).unwrap();
    file.write_all_at(&vec![b'a'; 100_000], 0).unwrap();
    file.set_len(4 << 20).unwrap();
    file.write_all_at(b"end", (4 << 20) - 3).unwrap();
    // Only then does every filesystem report the holes.
    file.sync_all().unwrap();
}

#[test]
fn the_kernel_copies_the_old_content() {
    linux_only!("copies by the kernel");
    needs_tool!("strace");
    let sandbox = Sandbox::new();
    copies_without_reading(&sandbox, "copy_file_range");
}

#[test]
fn btrfs_and_xfs_share_the_blocks_of_the_old_content() {
    linux_only!("copies by the kernel");
    needs_mounts!();
    needs_tool!("strace", "mkfs.btrfs", "mkfs.xfs");
    for mount in [Mount::btrfs(), Mount::xfs()] {
        copies_without_reading(&Sandbox::in_dir(mount.path()), "ioctl");
    }
}

#[track_caller]
fn copies_without_reading(sandbox: &Sandbox, by: &str) {
    spread(&sandbox.path("out"));
    let expected = [&sandbox.read("out")[..], b"new"].concat();
    let strace = Strace::new();
    sandbox.run("-a out").stdin("new").under(&strace).succeeds();
    assert!(sandbox.read("out") == expected);
    let blocks = sandbox.stat("out").blocks();
    assert!(blocks < 1024, "the hole has become {blocks} blocks");
    let trace = strace.trace();
    let reads = trace.count(|call| {
        matches!(call.name.as_str(), "read" | "pread64")
            && call.args.contains("/out>")
            && call.result != "0"
    });
    assert_eq!(reads, 0, "reads of the old content in {trace}");
    let copied = trace.count(|call| call.is(by) && call.succeeded());
    assert!(copied > 0, "no {by} in {trace}");
}

// ---- Many at once ----

#[test]
fn forty_appenders_at_once_lose_nothing() {
    for old in ["old\n", ""] {
        let sandbox = Sandbox::holding(old);
        sandbox.write("src", "from a file\n");
        let mut expected: Vec<String> = (0..40).map(|writer| format!("line {writer}")).collect();
        let running: Vec<_> = expected
            .iter()
            .enumerate()
            .map(|(writer, line)| {
                let line = format!("{line}\n");
                match writer % 4 {
                    0 => sandbox
                        .atomwrite(["-qa", "out", "--", "printf", &line])
                        .start(),
                    1 => sandbox.run("-qa --sync=none out").stdin(line).start(),
                    _ => sandbox.run("-qa out").stdin(line).start(),
                }
            })
            .collect();
        for one in running {
            let done = one.wait();
            assert_eq!(done.code(), Some(0), "{done:?}");
            assert_eq!(done.stderr, "");
        }
        let text = sandbox.text("out");
        let mut lines: Vec<_> = text.lines().map(str::to_owned).collect();
        if !old.is_empty() {
            assert_eq!(lines[0], "old");
            lines.remove(0);
        }
        lines.sort();
        expected.sort();
        assert_eq!(lines, expected);
        assert_eq!(sandbox.names(), ["out", "src"]);
    }
}

#[test]
fn appenders_in_two_directories_by_two_ways_lose_nothing() {
    // The lock is of the file that the path leads to, not of the path.
    let sandbox = Sandbox::new();
    sandbox.mkdir("far");
    sandbox.symlink("far/out", "link");
    let running: Vec<_> = (0..20)
        .map(|writer| {
            let way = ["link", "far/out", "far/../far/out"][writer % 3];
            sandbox
                .atomwrite(["-a", "--sync=none", way])
                .stdin(format!("{writer}\n"))
                .start()
        })
        .collect();
    for one in running {
        assert_eq!(one.wait().code(), Some(0));
    }
    let text = sandbox.text("far/out");
    assert_eq!(text.lines().collect::<BTreeSet<_>>().len(), 20, "{text}");
    assert_eq!(sandbox.names(), ["far", "far/out", "link"]);
}

#[test]
fn the_named_fallback_appends_too() {
    needs_tool!("strace");
    for old in ["old\n", ""] {
        let sandbox = Sandbox::holding(old);
        let runs: Vec<_> = (0..6)
            .map(|writer| {
                sandbox
                    .run("-a out")
                    .stdin(format!("{writer}\n"))
                    .without_linkat()
                    .start()
            })
            .collect();
        for one in runs {
            let done = one.wait();
            assert_eq!(done.code(), Some(0), "{done:?}");
        }
        let lines = sandbox.text("out").lines().count();
        assert_eq!(lines, 6 + usize::from(!old.is_empty()));
        assert_eq!(sandbox.names(), ["out"]);
    }
}
