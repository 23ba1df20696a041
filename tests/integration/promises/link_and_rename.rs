//! Nothing stands between link and rename, and what many writers and kills leave there, the next write removes.

use std::fs;

use rustix::process::Signal;

use crate::harness::{Call, Mount, Sandbox, Strace, derived_name, needs_mounts, needs_tool, open};

// ---- Many writers and kills ------------------------------------------------------------------------------------

/// Has many write one DEST, and kills some of them wherever they are.
#[track_caller]
fn write_and_kill(sandbox: &Sandbox) {
    const WRITERS: u8 = 80;
    const AT_ONCE: u8 = 10;
    let content = |writer: u8| vec![writer; 20_000 + usize::from(writer)];
    sandbox.write("out", content(0));
    let mut killed = 0;
    for start in (0..WRITERS).step_by(usize::from(AT_ONCE)) {
        let mut batch: Vec<_> = (start..start + AT_ONCE)
            .map(|writer| {
                let sync = ["--sync=none", "--sync=full"][usize::from(writer / 2 % 2)];
                let run = sandbox.atomwrite([sync, "out"]).stdin_held();
                let mut running = run.start();
                running.feed(content(writer));
                (writer, running)
            })
            .collect();
        for (writer, one) in &mut batch {
            // The end of its input: the commit follows.
            one.close_stdin();
            if *writer % 2 == 1 {
                for _ in 0..u32::from(*writer % 40) * 100 {
                    std::hint::spin_loop();
                }
                one.signal(Signal::KILL);
            }
        }
        for (_, one) in batch {
            let done = one.wait();
            killed += usize::from(done.signal() == Some(libc::SIGKILL));
            assert!(
                done.signal() == Some(libc::SIGKILL) || done.code() == Some(0),
                "{done:?}"
            );
            let found = sandbox.read("out");
            assert!(found == content(found[0]), "torn: {} bytes", found.len());
        }
        for name in sandbox.names() {
            assert!(
                name == "out" || name == derived_name("out").as_str(),
                "{name:?}"
            );
        }
    }
    assert!(killed > 8, "only {killed} were killed in time");
    sandbox
        .atomwrite(["out"])
        .stdin("new")
        .leaves(["out"])
        .succeeds();
}

#[test]
fn many_writers_with_kills_leave_nothing_after_the_next_write() {
    write_and_kill(&Sandbox::new());
}

#[test]
fn many_writers_with_kills_leave_nothing_on_each_local_filesystem() {
    needs_mounts!();
    needs_tool!("mkfs.ext4", "mkfs.btrfs", "mkfs.xfs");
    for mount in [
        Mount::tmpfs("size=32m"),
        Mount::ext4(32, &[]),
        Mount::btrfs(),
        Mount::xfs(),
    ] {
        write_and_kill(&Sandbox::in_dir(mount.path()));
    }
}

// ---- Link and rename -------------------------------------------------------------------------------------------

/// What stands between link and rename.
#[track_caller]
fn between(sandbox: &Sandbox, words: &[&str]) -> Vec<String> {
    let strace = Strace::new().alone().every_call();
    let done = sandbox
        .atomwrite(words.iter().copied())
        .stdin_from(open(sandbox.path("src")))
        .through(strace.command())
        .output();
    assert_eq!(done.code(), Some(0), "{words:?}: {done:?}");
    let trace = strace.trace();
    let name = derived_name("out");
    let has_name = |call: &Call| call.args.contains(&name) && call.succeeded();
    let link = trace.only("linkat", |call| call.is("linkat") && has_name(call));
    let rename = trace.only("rename", |call| call.renames() && has_name(call));
    let calls = &trace.own()[link + 1..rename];
    calls.iter().map(|call| call.name.clone()).collect()
}

const FORMS: [&[&str]; 11] = [
    &["out"],
    &["new/../out"],
    &["-n", "new/out"],
    &["src", "out"],
    &["-m", "600", "out"],
    &["--sync=none", "out"],
    &["--lock", "out"],
    &["-a", "out"],
    &["-D", "one/two/out"],
    &["--validate", "true", "out"],
    &["out", "--", "echo", "new"],
];

fn furnish(sandbox: &Sandbox) {
    sandbox.mkdir("new");
    sandbox.write("src", "new");
    sandbox.write("out", "old");
}

#[test]
fn nothing_stands_between_link_and_rename() {
    needs_tool!("strace");
    let mut mounts = Vec::new();
    if crate::harness::can_mount() {
        mounts.extend([Mount::tmpfs("size=32m"), Mount::ext4(32, &[])]);
        if crate::harness::has_tool("mkfs.xfs") {
            mounts.push(Mount::xfs());
        }
    }
    let mut sandboxes: Vec<_> = mounts
        .iter()
        .map(|mount| Sandbox::in_dir(mount.path()))
        .collect();
    sandboxes.push(Sandbox::new());
    for sandbox in &sandboxes {
        furnish(sandbox);
        for words in FORMS {
            let calls = between(sandbox, words);
            assert!(calls.is_empty(), "{words:?}: {calls:?}");
        }
    }
}

// https://github.com/andreacorbellini/rust-atomic-write-file/issues/6
#[test]
fn only_a_sync_stands_between_link_and_rename_on_btrfs() {
    needs_mounts!();
    needs_tool!("strace", "mkfs.btrfs");
    let mount = Mount::btrfs();
    let sandbox = Sandbox::in_dir(mount.path());
    furnish(&sandbox);
    for words in FORMS {
        let calls = between(&sandbox, words);
        let expected = if words.contains(&"--sync=none") {
            &[][..]
        } else {
            &["fsync"]
        };
        assert_eq!(calls, expected, "{words:?}");
    }
}

#[test]
fn a_link_that_a_profile_refuses_gives_a_file_that_has_a_name() {
    // AppArmor, with attach_disconnected and without mediate_deleted: the probe passes, and the link is refused.
    needs_tool!("strace");
    let name = derived_name("out");
    for old in [false, true] {
        for options in [
            &[][..],
            &["-m", "640"],
            &["-a"],
            &["-b"],
            &["-D"],
            &["--sync=none"],
            &["--validate", "test -s \"$1\""],
        ] {
            for command in [&[][..], &["--", "echo", "new"]] {
                let sandbox = Sandbox::new();
                if old {
                    sandbox.write_with_mode("out", "", 0o604);
                }
                let strace = Strace::new()
                    .alone()
                    .at(&name)
                    .inject("linkat:error=ENOENT");
                let mut names = vec!["out"];
                if old && options == ["-b"] {
                    names.push("out~");
                }
                sandbox
                    .atomwrite([options, &["out"], command].concat())
                    .stdin("new\n")
                    .through(strace.command())
                    .leaves(names)
                    .succeeds();
                assert!(strace.injected() > 0, "{options:?}");
                assert_eq!(sandbox.text("out"), "new\n");
                let mode = match (options, old) {
                    (["-m", ..], _) => 0o640,
                    (_, true) => 0o604,
                    (_, false) => 0o644,
                };
                assert_eq!(sandbox.mode("out"), mode, "{options:?}");
            }
        }
    }
    // And large content, with holes.
    let sandbox = Sandbox::new();
    let source = sandbox.write("src", "begin");
    let file = fs::File::options().write(true).open(source).unwrap();
    file.set_len(4 << 20).unwrap();
    let strace = Strace::new().at(&name).inject("linkat:error=ENOENT");
    sandbox
        .atomwrite(["src", "out"])
        .through(strace.command())
        .succeeds();
    assert!(sandbox.read("out") == sandbox.read("src"));
}
