//! No call but a sync on btrfs comes between link and rename. The next write removes what many
//! writers and kills leave between them.

use std::fs;

use rustix::fs::statfs;
use rustix::process::Signal;

use crate::harness::{
    Call, Sandbox, Strace, derived_name, each, linux_only, local_sandboxes, needs_tool, open,
};

// ---- Many writers and kills ----

/// Runs many writers of one DEST, and kills some of them at various points.
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
        for name in sandbox.names_besides_drafts() {
            assert!(
                name == "out" || name == derived_name("out").as_str(),
                "{name:?}"
            );
        }
    }
    assert!(killed > 8, "only {killed} were killed in time");
    let done = sandbox.run("out").stdin("new").output();
    assert_eq!((done.code(), &*done.stderr), (Some(0), ""));
    assert_eq!(sandbox.names_besides_drafts(), ["out"]);
}

#[test]
fn many_writers_with_kills_leave_nothing_after_the_next_write() {
    for (sandbox, _mount) in local_sandboxes() {
        write_and_kill(&sandbox);
    }
}

// ---- Link and rename ----

/// Returns the calls between link and rename.
#[track_caller]
fn between(sandbox: &Sandbox, line: &str) -> Vec<String> {
    let strace = Strace::new().alone().every_call();
    let run = sandbox.run(line).stdin_from(open(sandbox.path("src")));
    let done = run.under(&strace).output();
    assert_eq!(done.code(), Some(0), "{done:?}");
    let trace = strace.trace();
    let name = derived_name("out");
    let has_name = |call: &Call| call.args.contains(&name) && call.succeeded();
    let named = trace.only("linkat", |call| call.is("linkat") && has_name(call));
    let rename = trace.only("rename", |call| call.renames() && has_name(call));
    let calls = &trace.own()[named + 1..rename];
    calls.iter().map(|call| call.name.clone()).collect()
}

const FORMS: [&str; 11] = [
    "out",
    "new/../out",
    "-n new/out",
    "src out",
    "-m 600 out",
    "--sync=none out",
    "--lock out",
    "-a out",
    "-D one/two/out",
    "--validate true out",
    "out -- echo new",
];

// On btrfs the file is synced again: https://github.com/andreacorbellini/rust-atomic-write-file/issues/6
#[test]
fn nothing_but_a_sync_on_btrfs_stands_between_link_and_rename() {
    const BTRFS: i64 = 0x9123_683e;
    linux_only!("unnamed files");
    needs_tool!("strace");
    for (sandbox, mount) in local_sandboxes() {
        sandbox.sh("mkdir new; printf new >src; printf old >out");
        let kind = mount
            .as_ref()
            .map(|mount| statfs(mount.path()).unwrap().f_type);
        each(FORMS, |line| {
            let calls = between(&sandbox, line);
            let syncs = kind == Some(BTRFS) && line != "--sync=none out";
            let expected: &[&str] = if syncs { &["fsync"] } else { &[] };
            assert_eq!(calls, expected);
        });
    }
}

#[test]
fn if_a_security_profile_refuses_linkat_the_file_has_a_name() {
    linux_only!("unnamed files");
    // AppArmor, with attach_disconnected and without mediate_deleted: the probe passes, and the
    // link is refused.
    needs_tool!("strace");
    let name = derived_name("out");
    let refusing = || {
        Strace::new()
            .alone()
            .at(&name)
            .inject("linkat:error=ENOENT")
    };
    let cases = [
        ("", 0o604, "out"),
        ("-m 640", 0o640, "out"),
        ("-a", 0o604, "out"),
        ("-b", 0o604, "out out~"),
        ("-D", 0o604, "out"),
        ("--sync=none", 0o604, "out"),
        ("--validate 'test -s \"$1\"'", 0o604, "out"),
    ];
    each(cases, |(options, mode, names)| {
        for old in [false, true] {
            for command in ["", "-- echo new"] {
                let sandbox = Sandbox::new();
                if old {
                    sandbox.write_with_mode("out", "", 0o604);
                }
                let names = if old { names } else { "out" };
                let strace = refusing();
                let run = sandbox.run(&format!("{options} out {command}"));
                let run = run.stdin("new\n").under(&strace);
                run.leaves(names.split(' ')).writes("new\n");
                assert!(strace.has_injected());
                let of_new = if options == "-m 640" { mode } else { 0o644 };
                assert_eq!(sandbox.mode("out"), if old { mode } else { of_new });
            }
        }
    });
    // And large content, with holes.
    let sandbox = Sandbox::new();
    let source = sandbox.write("src", "begin");
    let file = fs::File::options().write(true).open(source).unwrap();
    file.set_len(4 << 20).unwrap();
    sandbox.run("src out").under(&refusing()).succeeds();
    assert!(sandbox.read("out") == sandbox.read("src"));
}
