//! The output of COMMAND: always through a pipe, so that atomwrite sees every error, even one that
//! COMMAND ignores.

use std::ffi::OsStr;
use std::fs::OpenOptions;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::harness::{
    Cover, Mount, Sandbox, Strace, WAYS, Way, binary, needs_mounts, needs_tool, open, tool,
};
use crate::input::command::{fifo_aside, let_go, script};

// ---- A full disk ----

#[test]
fn a_full_disk_leaves_dest_unchanged_even_if_the_command_exits_with_0() {
    needs_mounts!();
    needs_tool!("strace", "head");
    let mount = Mount::tmpfs("size=256k");
    let sandbox = Sandbox::in_dir(mount.path());
    sandbox.write("out", "old");
    for way in WAYS {
        for command in [
            "exec head -c 1M /dev/zero",
            "head -c 1M /dev/zero 2>/dev/null; exit 0",
            // It would write for ever.
            "exec cat /dev/zero",
            // The error that the command gets is ours as well.
            "trap '' PIPE; head -c 1M /dev/zero 2>/dev/null; exit 0",
        ] {
            script(&sandbox, "", way, command).fails_with(125, "no space left on device");
        }
    }
    script(&sandbox, "", Way::Unnamed, "head -c 100k /dev/zero").succeeds();
    assert_eq!(sandbox.stat("out").len(), 100 << 10);
}

#[test]
fn a_disk_that_is_full_only_while_the_command_writes_is_an_error() {
    needs_mounts!();
    needs_tool!("head", "seq", "mkfs.ext4");
    for mount in [Mount::ext4(16, &[]), Mount::tmpfs("size=16m")] {
        let sandbox = Sandbox::in_dir(mount.path());
        sandbox.write("out", "old");
        // 7 MB of output: more than any pipe holds.
        let command = "head -c 20M /dev/zero >../t 2>/dev/null; seq 1000000; rm ../t; exit 0";
        script(&sandbox, "", Way::Unnamed, command).fails_with(125, "no space left on device");
        // If space is freed in time, the output is complete.
        let command = "head -c 20M /dev/zero >../t 2>/dev/null; rm ../t; seq 1000000";
        script(&sandbox, "", Way::Unnamed, command).succeeds();
        assert!(sandbox.text("out").ends_with("\n999999\n1000000\n"));
        assert_eq!(sandbox.text("out").lines().count(), 1_000_000);
    }
}

#[test]
fn a_file_size_limit_of_ours_is_an_error_though_the_command_ignores_it() {
    needs_tool!("strace", "head", "seq");
    let sandbox = Sandbox::with("out", "old");
    for way in WAYS {
        for command in [
            "exec head -c 1M /dev/zero",
            "trap '' XFSZ; seq 100000 2>/dev/null; exit 0",
            "seq 100000 2>/dev/null; exit 0",
        ] {
            script(&sandbox, "", way, command)
                .file_size_limit(100_000)
                .fails_with(125, "too large");
        }
    }
}

#[test]
fn a_file_size_limit_of_the_commands_own_does_not_cut_its_output() {
    needs_tool!("strace", "seq");
    for way in WAYS {
        let sandbox = Sandbox::with("out", "old");
        script(
            &sandbox,
            "",
            way,
            "ulimit -f 1; trap '' XFSZ; seq 100000; exit 0",
        )
        .succeeds();
        assert_eq!(sandbox.text("out").lines().count(), 100_000);
    }
}

// ---- stdin, stdout, stderr, descriptors ----

#[test]
fn the_command_has_our_stdin() {
    needs_tool!("strace", "dd");
    for way in WAYS {
        let sandbox = Sandbox::new();
        script(&sandbox, "", way, "tr a-z A-Z")
            .stdin("through us")
            .writes("THROUGH US");
        // And it is left where the command left it.
        sandbox.write("in", "abc");
        let mut input = open(sandbox.path("in"));
        script(&sandbox, "", way, "dd bs=1 count=1 2>/dev/null")
            .stdin_from(input.try_clone().unwrap())
            .writes("a");
        let mut rest = String::new();
        std::io::Read::read_to_string(&mut input, &mut rest).unwrap();
        assert_eq!(rest, "bc");
    }
}

#[test]
fn nothing_is_read_that_the_command_does_not_read() {
    let sandbox = Sandbox::new();
    script(&sandbox, "-C", Way::Unnamed, "echo x")
        .reads_nothing()
        .succeeds();
}

#[test]
fn a_command_can_run_with_a_closed_stdin() {
    let sandbox = Sandbox::new();
    for closed in [&[0][..], &[1], &[0, 1], &[0, 1, 2]] {
        script(&sandbox, "", Way::Unnamed, "echo x; cat")
            .closed(closed)
            .succeeds();
        assert_eq!(sandbox.text("out"), "x\n", "{closed:?}");
    }
}

#[test]
fn the_command_shares_our_stderr_and_stdout_stays_empty() {
    needs_tool!("strace");
    for way in WAYS {
        let sandbox = Sandbox::new();
        script(&sandbox, "-v", way, "echo out; echo to stderr >&2")
            .hears("to stderr")
            .says("created 'out' (4 bytes)")
            .succeeds();
        assert_eq!(sandbox.text("out"), "out\n");
        script(&sandbox, "", way, "echo why >&2; exit 3")
            .hears("why")
            .fails(3);
        let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
        script(&sandbox, "", way, "echo new")
            .stdout_to(full)
            .writes("new\n");
    }
}

#[test]
fn the_command_inherits_no_descriptor_of_ours() {
    needs_tool!("strace", "ls");
    // The process that runs the tests may pass some on, and ls opens one itself.
    let without_us = tool("ls", ["/proc/self/fd"]);
    assert!(without_us.lines().count() >= 4, "{without_us}");
    for way in WAYS {
        let sum = format!("--sha256={:064}", 0);
        for options in ["", "-C", "-b", "--lock", "-a", "-D", &sum] {
            let sandbox = Sandbox::with("out", "0\n");
            // On stderr, for the cases that are refused.
            let command = "exec ls /proc/self/fd >&2";
            let done = script(&sandbox, options, way, command).output();
            let seen: Vec<_> = done
                .stderr
                .lines()
                .take_while(|line| line.bytes().all(|byte| byte.is_ascii_digit()))
                .collect();
            let without_us: Vec<_> = without_us.lines().collect();
            assert_eq!(seen, without_us, "{way:?} {options:?} {done:?}");
        }
    }
}

#[test]
fn the_command_inherits_the_descriptors_of_the_caller() {
    let sandbox = Sandbox::new();
    sandbox.write("in", "of the caller\n");
    let caller = ["sh", "-c", "exec 7<in; exec \"$@\"", "sh"];
    sandbox
        .atomwrite(["out", "--", "sh", "-c", "cat <&7"])
        .through(caller)
        .succeeds();
    assert_eq!(sandbox.text("out"), "of the caller\n");
}

#[test]
fn a_command_that_opens_its_output_again_loses_nothing() {
    // As scripts do that write to /dev/stdout: if it were a file, that would empty it.
    needs_tool!("strace");
    for way in WAYS {
        let sandbox = Sandbox::new();
        let command = "echo one; echo two >/dev/stdout; echo three";
        script(&sandbox, "", way, command).writes("one\ntwo\nthree\n");
        sandbox.write("out", "old\n");
        script(&sandbox, "-a", way, command).writes("old\none\ntwo\nthree\n");
    }
}

// ---- The pipe ----

#[test]
fn the_output_is_always_a_pipe() {
    needs_tool!("strace", "readlink");
    for way in WAYS {
        for options in ["", "-a", "-C", "--sync=none", "-q --inplace=always"] {
            let sandbox = Sandbox::with("old", "");
            for dest in ["new", "old"] {
                let line = format!("{options} {dest} -- readlink /proc/self/fd/1");
                let run = sandbox.run(&line);
                let done = way.take(run).output();
                assert_eq!(done.code(), Some(0), "{done:?}");
                let kind = sandbox.text(dest);
                assert!(kind.starts_with("pipe:"), "{way:?} {options:?} {kind}");
            }
        }
    }
}

#[test]
fn an_output_that_cannot_be_spliced_is_written_whole() {
    needs_tool!("strace", "seq");
    for error in ["EINVAL", "ENOSYS", "EPERM"] {
        let sandbox = Sandbox::new();
        let strace = Strace::new()
            .alone()
            .inject(&format!("splice:error={error}"));
        sandbox.run("out -- seq 100000").under(&strace).succeeds();
        assert!(sandbox.text("out").ends_with("\n99999\n100000\n"));
        assert_eq!(sandbox.text("out").lines().count(), 100_000);
    }
}

#[test]
fn a_commands_output_is_complete_without_proc() {
    needs_mounts!();
    let sandbox = Sandbox::with("out", "old");
    let _hidden = Cover::proc();
    let run = |script: &str| sandbox.atomwrite(["out", "--", "sh", "-c", script]);
    run("echo half; exit 3").fails(3);
    run("echo x; test -p /dev/fd/1 || test ! -e /proc/self && echo new").succeeds();
    assert_eq!(sandbox.text("out"), "x\nnew\n");
    let done = run("echo x; tail -f /dev/null 2>/dev/null & echo $! >&2").output();
    assert_eq!(done.code(), Some(125), "{done:?}");
    assert_eq!(sandbox.text("out"), "x\nnew\n");
    let left = done.stderr.lines().next().unwrap().to_owned();
    tool("sh", ["-c".to_owned(), format!("kill {left}")]);
}

#[test]
fn a_filesystem_of_any_kind_takes_a_commands_output() {
    needs_mounts!();
    let kinds: [(&str, &dyn Fn() -> Mount); 5] = [
        ("tmpfs", &|| Mount::tmpfs("size=4m")),
        ("ramfs", &Mount::ramfs),
        ("xfs", &Mount::xfs),
        ("btrfs", &Mount::btrfs),
        ("overlay", &|| Mount::overlay(Mount::ext4(16, &[]), |_| {})),
    ];
    for (name, make) in kinds {
        let mount = make();
        let sandbox = Sandbox::in_dir(mount.path());
        script(&sandbox, "", Way::Unnamed, "echo new").writes("new\n");
        script(&sandbox, "", Way::Unnamed, "echo half; exit 3").fails(3);
        let done = script(&sandbox, "", Way::Unnamed, "exec cat >&2 <out").output();
        assert_eq!((done.code(), &*done.stderr), (Some(0), "new\n"), "{name}");
        fifo_aside(&sandbox, "go");
        let command = "echo x; (read _ <\"$ASIDE/go\"; echo late) 2>/dev/null & exit 0";
        let done = script(&sandbox, "", Way::Unnamed, command).output();
        assert_eq!(done.code(), Some(125), "{name} {done:?}");
        let_go(&sandbox);
        assert_eq!(sandbox.text("out"), "", "{name}");
        assert_eq!(sandbox.names(), ["out"]);
    }
}

// ---- With other options ----

#[test]
fn append_puts_the_output_after_the_old_content() {
    needs_tool!("strace");
    for way in WAYS {
        let sandbox = Sandbox::new();
        script(&sandbox, "-a", way, "echo one").succeeds();
        script(&sandbox, "-a", way, "echo two").succeeds();
        script(&sandbox, "-a", way, "echo three; exit 1").fails(1);
        assert_eq!(sandbox.text("out"), "one\ntwo\n", "{way:?}");
        script(&sandbox, "-a", way, ":").writes("one\ntwo\n");
        script(&sandbox, "-a --no-empty", way, ":").fails(125);
    }
}

#[test]
fn a_command_may_be_atomwrite_itself() {
    let sandbox = Sandbox::with("in", "new");
    let program = binary().to_str().unwrap();
    let run = sandbox.atomwrite(["out", "--", program, "in", "copy"]);
    run.leaves(["copy", "in", "out"]).succeeds();
    assert_eq!((&*sandbox.text("copy"), &*sandbox.text("out")), ("new", ""));
    let run = sandbox.atomwrite(["-v", "out", "--", program, "--version"]);
    run.says("replaced").succeeds();
    assert!(sandbox.text("out").starts_with("atomwrite "));
}

#[test]
fn no_hint_is_given_when_stdin_is_a_terminal() {
    needs_tool!("script");
    let sandbox = Sandbox::new();
    let said = Command::new("script")
        .args(["-qec", "exec \"$BIN\" out -- echo new", "/dev/null"])
        .env("BIN", binary())
        .env("SHELL", "/bin/sh")
        .current_dir(sandbox.root())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(said.status.success(), "{said:?}");
    assert_eq!(String::from_utf8_lossy(&said.stdout), "");
    assert_eq!(sandbox.text("out"), "new\n");
}

#[test]
fn a_command_of_any_bytes_is_named_in_the_message() {
    let sandbox = Sandbox::new();
    let name = OsStr::from_bytes(b"./a\n\xff");
    let done = sandbox
        .atomwrite([OsStr::new("out"), OsStr::new("--"), name])
        .fails(127);
    assert!(done.stderr.contains(r"'./a'$'\n\xff'"), "{done:?}");
    assert!(!Path::new(&sandbox.path("out")).exists());
}
