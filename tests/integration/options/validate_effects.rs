//! What a validator does to its preview is discarded; what signals and kills leave of the preview.

use std::fs;
use std::os::unix::fs::MetadataExt;

use rustix::process::{Signal, geteuid};

use crate::harness::{
    Mount, NOBODY, Running, Sandbox, can_be_others, kill, needs_mounts, needs_tool, tool,
};
use crate::options::validate::{WAYS, let_go, seen, validated, wait_for};

// ---- What a validator does ----

#[test]
fn changes_by_the_validator_are_discarded() {
    needs_tool!("strace", "dd", "truncate", "sed");
    for named in WAYS {
        for options in [&[][..], &["-q", "--inplace=always"]] {
            let sandbox = Sandbox::new();
            sandbox.write("kept", "kept");
            for validator in [
                "echo more >>\"$1\"",
                "printf NEW >\"$1\"",
                "printf x | dd of=\"$1\" bs=1 seek=1 conv=notrunc 2>/dev/null",
                "truncate -s 1 \"$1\"",
                "chmod 4777 \"$1\"; touch -d @1 \"$1\"",
                "echo more >>/proc/self/fd/0",
                "rm \"$1\"; printf NEW >\"$1\"",
                "printf NEW >\"$1.tmp\"; mv \"$1.tmp\" \"$1\"",
                "sed -i s/new/NEW/ \"$1\"",
                "ln \"$1\" \"$1.l\"; echo more >>\"$1.l\"",
                "rm \"$1\"",
                "mv \"$1\" \"$1.bak\"",
                "rm \"$1\"; ln -s /etc/passwd \"$1\"",
                "rm \"$1\"; mkdir \"$1\"",
                "chmod a-w \"${1%/*}\"",
            ] {
                sandbox.write("out", "old");
                validated(&sandbox, named, options, validator, &["out"])
                    .stdin("new")
                    .succeeds();
                assert_eq!(sandbox.text("out"), "new", "{validator}");
                assert_eq!(sandbox.mode("out"), 0o644, "{validator}");
                assert_eq!(sandbox.names(), ["kept", "out"], "{validator}");
            }
        }
    }
}

#[test]
fn no_name_and_no_descriptor_of_the_validator_leads_to_the_new_file() {
    needs_tool!("strace", "stat");
    for named in WAYS {
        let sandbox = Sandbox::new();
        sandbox.write("out", "old");
        let look = "stat -Lc %d:%i \"$1\" /proc/self/fd/* 2>/dev/null >\"$ASIDE/files\"; :";
        validated(&sandbox, named, &[], look, &["out"])
            .stdin("new")
            .succeeds();
        let files = seen(&sandbox, "files");
        assert!(files.lines().count() > 1);
        let new = sandbox.stat("out");
        let new = format!("{}:{}", new.dev(), new.ino());
        assert!(!files.lines().any(|file| file == new), "{new}: {files}");
    }
}

#[test]
fn a_background_process_of_the_validator_cannot_reach_dest() {
    needs_tool!("strace");
    for (named, options) in [
        (false, &[][..]),
        (true, &[]),
        (false, &["-q", "--inplace=always"]),
    ] {
        for (open, write) in [
            ("exec 5>>\"$1\"", "echo late >&5"),
            // Not stdin itself: the shell gives a background process /dev/null.
            ("exec 5<>/proc/self/fd/6", "echo late >&5"),
            ("cd \"${1%/*}\"", "echo late >>out"),
        ] {
            let sandbox = Sandbox::new();
            sandbox.write("out", "old");
            tool("mkfifo", [sandbox.aside("go")]);
            let validator = format!(
                "exec 6<&0
                (
                    trap ': >\"$ASIDE/done\"; : >\"$ASIDE/open\"' EXIT
                    {open}
                    : >\"$ASIDE/open\"
                    read _ <\"$ASIDE/go\"
                    {write}
                ) >/dev/null 2>&1 &
                while test ! -e \"$ASIDE/open\"; do :; done"
            );
            validated(&sandbox, named, options, &validator, &["out"])
                .stdin("new")
                .succeeds();
            // It is there already if the descriptor cannot be opened for writing.
            if !sandbox.aside("done").exists() {
                let_go(&sandbox);
            }
            wait_for(&sandbox, "done");
            assert_eq!(sandbox.text("out"), "new", "{named} {open}");
            assert_eq!(sandbox.names(), ["out"]);
        }
    }
}

#[test]
fn files_that_the_validator_creates_in_the_preview_are_removed() {
    needs_tool!("strace", "mkdir");
    let users: &[u32] = if can_be_others() {
        &[0, NOBODY]
    } else {
        &[geteuid().as_raw()]
    };
    for named in WAYS {
        for (end, status) in [("exit 0", 0), ("exit 1", 3)] {
            for &user in users {
                let sandbox = Sandbox::new();
                sandbox.mkdir("sub");
                sandbox.write("sub/kept", "kept");
                sandbox.write("kept", "kept");
                if can_be_others() {
                    sandbox.give_to(user, user);
                }
                let validator = format!(
                    "cd \"${{1%/*}}\" && : >\"$1.log\" && mkdir -p a/b/c && : >a/b/c/d &&
                    ln -s \"${{2%/*}}/sub\" l && ln -s .. a/b/up && chmod 0 a/b/c a/b a || exit 9
                    {end}"
                );
                let run = validated(&sandbox, named, &["-q"], &validator, &["out"]).stdin("new");
                let run = if can_be_others() {
                    run.user(user, user, &[])
                } else {
                    run
                };
                match status {
                    0 => run.succeeds(),
                    _ => run.fails(status),
                };
                assert_eq!(sandbox.text("sub/kept"), "kept");
            }
        }
    }
}

#[test]
fn the_time_of_the_file_is_when_it_was_written() {
    let sandbox = Sandbox::new();
    let before = fs::metadata(sandbox.write("clock", "x")).unwrap();
    validated(&sandbox, false, &[], ":", &["out"])
        .stdin("new")
        .succeeds();
    let written = sandbox.stat("out");
    assert!((written.mtime(), written.mtime_nsec()) >= (before.mtime(), before.mtime_nsec()));
}

#[test]
fn a_validator_may_change_other_files() {
    // A concurrent change of DEST itself is lost, as it is without a validator.
    let sandbox = Sandbox::new();
    sandbox.write("out", "old");
    let change = "cp \"$2\" kept; echo x >>\"$2\"";
    validated(&sandbox, false, &[], change, &["out"])
        .stdin("new")
        .leaves(["kept", "out"])
        .succeeds();
    assert_eq!(
        (&*sandbox.text("kept"), &*sandbox.text("out")),
        ("old", "new")
    );
}

#[test]
fn validate_works_on_a_fuse_filesystem() {
    needs_mounts!();
    needs_tool!("bindfs");
    let mount = Mount::new_bindfs();
    let sandbox = Sandbox::in_dir(mount.path());
    sandbox.write("include", "included");
    let check = "test \"$(cat)\" = new && test \"$(cat \"${1%/*}/include\")\" = included";
    for old in [false, true] {
        assert_eq!(sandbox.path("out").exists(), old);
        validated(&sandbox, false, &[], "false", &["out"])
            .stdin("new")
            .says("status 1")
            .fails(3);
        validated(&sandbox, false, &[], check, &["out"])
            .stdin("new")
            .succeeds();
        assert_eq!(sandbox.text("out"), "new");
    }
    // A descriptor that stays open makes the server keep a hidden file in the preview for a while.
    tool("mkfifo", [sandbox.aside("go")]);
    let keep = "(exec 5<\"$1\"; : >\"$ASIDE/open\"; read _ <\"$ASIDE/go\") >/dev/null 2>&1 &
        while test ! -e \"$ASIDE/open\"; do :; done";
    let done = validated(&sandbox, false, &[], keep, &["out"])
        .stdin("newer")
        .output();
    let_go(&sandbox);
    assert_eq!(done.code(), Some(0), "{done:?}");
    assert_eq!(sandbox.text("out"), "newer");
}

// ---- Signals and kills ----

/// Starts a run whose validator waits for a signal, or for ever.
fn start_waiting(sandbox: &Sandbox, named: bool, trap: &str) -> Running {
    let validator = format!(
        "exec 2>/dev/null; {trap}; : >\"$ASIDE/up\"; while :; do read _ <\"$ASIDE/go\"; done"
    );
    tool("mkfifo", [sandbox.aside("go")]);
    let running = validated(sandbox, named, &[], &validator, &["out"])
        .stdin("new")
        .start();
    wait_for(sandbox, "up");
    running
}

fn program_of(running: &Running, named: bool) -> String {
    let id = running.id();
    if !named {
        return id.to_string();
    }
    let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap();
    children.trim().to_owned()
}

#[test]
fn a_signal_is_forwarded_to_the_validator_and_leaves_nothing() {
    needs_tool!("strace");
    for named in WAYS {
        for signal in [Signal::TERM, Signal::INT, Signal::HUP] {
            for trap in [
                ":",
                "trap ': >\"$ASIDE/got\"; exit 0' TERM INT HUP",
                "trap ': >\"$ASIDE/got\"; exit 5' TERM INT HUP",
            ] {
                let sandbox = Sandbox::new();
                sandbox.write("out", "old");
                let running = start_waiting(&sandbox, named, trap);
                let program = program_of(&running, named);
                kill(&program, signal);
                if trap != ":" {
                    wait_for(&sandbox, "got");
                }
                let done = running.wait();
                assert_eq!(
                    done.signal(),
                    Some(signal.as_raw()),
                    "{named} {trap} {done:?}"
                );
                assert_eq!(done.stderr, "");
                assert_eq!(sandbox.text("out"), "old");
                assert_eq!(sandbox.names(), ["out"]);
            }
        }
    }
}

#[test]
fn a_kill_while_the_validator_runs_leaves_a_private_preview_that_stays() {
    let sandbox = Sandbox::new();
    sandbox.write("out", "old");
    let running = start_waiting(&sandbox, false, ": >\"$1.junk\"");
    let program = running.id().to_string();
    // The validator too: it would wait for ever.
    let validator = fs::read_to_string(format!("/proc/{program}/task/{program}/children"));
    kill(&program, Signal::KILL);
    kill(&validator.unwrap(), Signal::KILL);
    running.wait();
    assert_eq!(sandbox.text("out"), "old");
    let left = sandbox.names_besides_drafts();
    let preview = left[0].to_str().unwrap();
    let name = preview.strip_prefix(".atomwrite.");
    let random = name.and_then(|name| name.strip_suffix(".tmp"));
    assert_eq!(random.map(str::len), Some(16), "{left:?}");
    assert_eq!(sandbox.mode(preview), 0o700);
    let inside = |name: &str| format!("{preview}/{name}");
    assert_eq!(left, [preview, &inside("out"), &inside("out.junk"), "out"]);
    // No run removes a directory that another has made.
    for options in [&[][..], &["-q", "--lock"], &["-b"], &["--validate", "true"]] {
        let backup = (options == ["-b"]).then(|| "out~".into());
        let names = sandbox.names().into_iter().chain(backup);
        sandbox
            .atomwrite(options.iter().copied().chain(["out"]))
            .stdin("new")
            .leaves(names)
            .succeeds();
        assert!(left.iter().all(|name| sandbox.path(name).exists()));
        drop(fs::remove_file(sandbox.path("out~")));
    }
}

#[test]
fn the_preview_of_a_live_validator_is_not_touched() {
    needs_tool!("strace");
    for named in WAYS {
        let sandbox = Sandbox::new();
        sandbox.write("out", "old");
        tool("mkfifo", [sandbox.aside("go")]);
        let validator = ": >\"$ASIDE/up\"; read _ <\"$ASIDE/go\"; test \"$(cat \"$1\")\" = slow";
        let running = validated(&sandbox, named, &[], validator, &["out"])
            .stdin("slow")
            .start();
        wait_for(&sandbox, "up");
        let names = sandbox.names();
        for _ in 0..2 {
            sandbox
                .atomwrite(["out"])
                .stdin("fast")
                .leaves(names.clone())
                .succeeds();
            validated(&sandbox, named, &[], "test -s \"$1\"", &["out"])
                .stdin("fast too")
                .leaves(names.clone())
                .succeeds();
        }
        let_go(&sandbox);
        let done = running.wait();
        assert_eq!(done.code(), Some(0), "{done:?}");
        assert_eq!(sandbox.text("out"), "slow");
        assert_eq!(sandbox.names(), ["out"]);
    }
}
