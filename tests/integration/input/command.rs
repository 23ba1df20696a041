//! `DEST -- COMMAND`: COMMAND's stdout is the new content, and counts only if COMMAND exits with 0.
//!
//! Otherwise the status is COMMAND's own, 126 if it cannot be run, 127 if it is not found, or 128+n
//! if signal n killed it, and DEST is unchanged. 125 is any failure or refusal of atomwrite itself,
//! and 124 replaces 4. COMMAND has our stdin and our stderr. It starts with an empty signal mask
//! and the default dispositions, except for signals that were ignored when atomwrite started. It
//! gets the signals that we get, and after its end we die by them. A process that outlives it can
//! neither hang us nor change DEST afterwards. All arguments after COMMAND are COMMAND's own.
//!
//! The output always goes through a pipe: atomwrite writes every byte itself and sees every error,
//! even one that COMMAND ignores.

use std::ffi::OsString;
use std::fs;

use rustix::process::Pid;

use crate::harness::{
    NOBODY, Run, Running, Sandbox, Strace, WAYS, Way, Witness, needs_root, needs_tool, os, tool,
    wait_until, words,
};

/// A run with a shell script as its COMMAND, that finds the place aside of the sandbox in $ASIDE.
pub(crate) fn script<'s>(sandbox: &'s Sandbox, options: &str, way: Way, script: &str) -> Run<'s> {
    let mut words = words(options);
    words.extend(["out", "--", "sh", "-c", script].map(OsString::from));
    way.take(sandbox.atomwrite(words))
        .env("ASIDE", sandbox.aside(""))
}

/// atomwrite itself, below strace or not.
pub(crate) fn program_of(running: &Running, way: Way) -> Pid {
    let id = running.id();
    let mut found = match way {
        Way::Unnamed => Some(id),
        Way::Named => None,
    };
    wait_until("the program has been started", || {
        found = found.or_else(|| children(id).first().copied());
        found.is_some()
    });
    let id = found.expect("it was found").try_into().unwrap();
    Pid::from_raw(id).expect("a process")
}

fn children(id: u32) -> Vec<u32> {
    fs::read_to_string(format!("/proc/{id}/task/{id}/children"))
        .unwrap_or_default()
        .split_whitespace()
        .map(|id| id.parse().unwrap())
        .collect()
}

/// Waits until a script has said something in a file aside.
pub(crate) fn wait_for(sandbox: &Sandbox, name: &str, content: &str) {
    let path = sandbox.aside(name);
    wait_until(&format!("{name} says {content:?}"), || {
        fs::read_to_string(&path).is_ok_and(|text| text == content)
    });
}

pub(crate) fn fifo_aside(sandbox: &Sandbox, name: &str) {
    tool("mkfifo", [sandbox.aside(name)]);
}

/// Lets a script go on that reads the FIFO `go`.
pub(crate) fn let_go(sandbox: &Sandbox) {
    let go = sandbox.aside("go");
    drop(fs::OpenOptions::new().write(true).open(go).unwrap());
}

// ---- What is committed ----

#[test]
fn the_output_of_a_command_that_exits_with_0_is_the_content() {
    needs_tool!("strace");
    for way in WAYS {
        let sandbox = Sandbox::new();
        script(&sandbox, "", way, "echo new; echo lines").succeeds();
        assert_eq!(sandbox.text("out"), "new\nlines\n");
        assert_eq!(sandbox.mode("out"), 0o644);
        sandbox.chmod("out", 0o640);
        script(&sandbox, "-v", way, "printf newer")
            .says("replaced 'out' (5 bytes)")
            .writes("newer");
        assert_eq!(sandbox.mode("out"), 0o640);
        script(&sandbox, "-m 600", way, "cat out; echo '!'").succeeds();
        assert_eq!(sandbox.text("out"), "newer!\n");
        assert_eq!(sandbox.mode("out"), 0o600);
        // One that says that there is nothing is believed: it has exited with 0.
        script(&sandbox, "", way, ":").writes("");
    }
}

#[test]
fn a_large_output_is_written_whole() {
    needs_tool!("strace", "head", "tr");
    for way in WAYS {
        for sync in ["--sync=none", "--sync=full"] {
            let sandbox = Sandbox::new();
            let command = "head -c 67108864 /dev/zero | tr '\\0' x";
            script(&sandbox, sync, way, command).succeeds();
            let content = sandbox.read("out");
            assert_eq!(content.len(), 64 << 20, "{way:?}");
            assert!(content.iter().all(|byte| *byte == b'x'), "{way:?}");
        }
    }
}

#[test]
fn all_arguments_after_the_command_are_the_commands_own() {
    let sandbox = Sandbox::new();
    let words = ["out", "--", "printf", "%s,", "", "-n", "--", "a b", "$x"];
    let words = words.iter().map(OsString::from);
    sandbox.atomwrite(words.chain([os(b"\xff\n")])).output();
    assert_eq!(sandbox.read("out"), b",-n,--,a b,$x,\xff\n,");
}

#[test]
fn the_command_runs_in_the_current_directory_and_sees_the_old_content() {
    let sandbox = Sandbox::new();
    sandbox.mkdir("d");
    sandbox.write("d/out", "old");
    for dest in ["d/out", sandbox.path("d/out").to_str().unwrap()] {
        sandbox
            .atomwrite([dest, "--", "sh", "-c", "pwd -P; cat d/out; echo \"$FROM\""])
            .env("FROM", "outside")
            .succeeds();
        let directory = sandbox.root().display().to_string();
        assert_eq!(sandbox.text("d/out"), format!("{directory}\noldoutside\n"));
        sandbox.write("d/out", "old");
    }
}

#[test]
fn the_attributes_of_dest_and_its_links_are_kept() {
    needs_root!();
    needs_tool!("strace");
    for way in WAYS {
        let sandbox = Sandbox::with("target", "old");
        sandbox.chown("target", 1000, 1001);
        sandbox.chmod("target", 0o640);
        sandbox.symlink("target", "out");
        script(&sandbox, "", way, "printf new").succeeds();
        assert!(sandbox.stat("out").is_symlink());
        assert_eq!(sandbox.text("target"), "new");
        assert_eq!(sandbox.owner("target"), (1000, 1001));
        assert_eq!(sandbox.mode("target"), 0o640);
        script(&sandbox, "-o0 -g0 -m +x", way, "printf newer").succeeds();
        assert_eq!(sandbox.owner("target"), (0, 0));
        assert_eq!(sandbox.mode("target"), 0o751);
    }
}

#[test]
fn missing_parents_are_created_after_the_command_has_succeeded() {
    let sandbox = Sandbox::new();
    let run = |script: &str| sandbox.atomwrite(["-D", "a/b/out", "--", "sh", "-c", script]);
    run("echo half; exit 9").fails(9);
    run("test ! -e a && echo new")
        .leaves(["a", "a/b", "a/b/out"])
        .succeeds();
    assert_eq!(sandbox.text("a/b/out"), "new\n");
}

// ---- Statuses ----

#[test]
fn a_command_that_fails_gives_its_status_and_dest_is_unchanged() {
    needs_tool!("strace");
    for way in WAYS {
        for old in ["old", ""] {
            let sandbox = Sandbox::holding(old);
            for status in [1, 2, 3, 4, 7, 63, 125, 126, 127, 128, 254, 255] {
                script(&sandbox, "", way, &format!("echo half; exit {status}"))
                    .says("'sh'")
                    .fails_with(status, format!("status {status}"));
            }
            // Here the harness cannot know that it is not ours.
            let done = script(&sandbox, "", way, "echo half; exit 124").output();
            assert_eq!(done.code(), Some(124), "{done:?}");
            assert!(done.stderr.contains("status 124"), "{done:?}");
            assert_eq!(sandbox.path("out").exists(), !old.is_empty());
            assert!(old.is_empty() || sandbox.text("out") == old);
        }
    }
}

#[test]
fn a_command_that_a_signal_kills_gives_128_and_the_signal() {
    needs_tool!("strace");
    for way in WAYS {
        let sandbox = Sandbox::with("out", "old");
        for signal in [1, 2, 3, 6, 9, 13, 14, 15, 24] {
            let command = format!("ulimit -c 0; echo half; kill -{signal} $$");
            script(&sandbox, "", way, &command)
                .says("'sh'")
                .says(format!("signal {signal}"))
                .fails(128 + signal);
        }
    }
}

#[test]
fn a_command_that_is_not_found_is_127() {
    let sandbox = Sandbox::with("out", "old");
    sandbox.symlink("nowhere", "dangling");
    for (name, reason) in [
        ("no-such-command", "command not found"),
        ("cd", "command not found"),
        ("./nosuch", "no such file or directory"),
        ("nosuch/x", "no such file or directory"),
        ("./dangling", "no such file or directory"),
    ] {
        sandbox
            .atomwrite(["out", "--", name])
            .env("PATH", sandbox.root())
            .reads_nothing()
            .fails_with(127, format!("cannot run '{name}': {reason}; "));
    }
    sandbox.run("out -- ''").fails_with(127, "''");
}

#[test]
fn a_command_that_cannot_be_run_is_126() {
    let sandbox = Sandbox::with("out", "old");
    sandbox.mkdir("directory");
    sandbox.write_with_mode("text", "echo x\n", 0o644);
    sandbox.write_with_mode("nonsense", "\x7fELF\0nonsense", 0o755);
    sandbox.write_with_mode("zeros", "\0\0\0\0", 0o755);
    sandbox.symlink("loop", "loop");
    for name in [
        "./directory",
        "./text",
        "./nonsense",
        "./zeros",
        "./out/x",
        "./loop",
    ] {
        sandbox
            .atomwrite(["out", "--", name])
            .fails_with(126, format!("cannot run '{name}': "));
    }
    let long = "x".repeat(300);
    let done = sandbox.atomwrite(["out", "--", &long]).output();
    assert!(matches!(done.code(), Some(126 | 127)), "{done:?}");
}

#[test]
fn an_interpreter_that_is_missing_is_126_and_is_named() {
    let sandbox = Sandbox::with("out", "old");
    for (content, named) in [
        ("#!/no/such\n", "'/no/such': no such file or directory"),
        ("#! ./nosuch -e\n", "'./nosuch': no such file or directory"),
        (
            "#!/bin/sh\r\n",
            "'/bin/sh'$'\\r': no such file or directory",
        ),
        ("#!./out\n", "'./out': permission denied"),
    ] {
        sandbox.write_with_mode("lost", content, 0o755);
        for name in ["./lost", "lost"] {
            sandbox
                .atomwrite(["out", "--", name, "word"])
                .env("PATH", sandbox.root())
                .fails_with(
                    126,
                    format!("cannot run '{name}': its interpreter {named}; "),
                );
        }
    }
}

#[test]
fn a_loader_that_is_missing_is_126() {
    let sandbox = Sandbox::new();
    let mut program = fs::read("/bin/sh").unwrap();
    let at = program.windows(4).position(|word| word == b"/ld-");
    program[at.expect("sh has a loader") + 1] = b'x';
    sandbox.write_with_mode("lost", program, 0o755);
    sandbox.run("out -- ./lost").fails_with(
        126,
        "cannot run './lost': the loader of shared libraries that it needs does not exist",
    );
}

#[test]
fn a_script_without_an_interpreter_line_is_run_by_sh() {
    let sandbox = Sandbox::new();
    sandbox.write_with_mode("script", "echo \"$0,$#,$2\"; exit $3\n", 0o755);
    sandbox.write_with_mode("-dash", "echo dash\n", 0o755);
    sandbox.write_with_mode("nothing", "", 0o755);
    let run = |words: &[&str]| {
        let words = ["out", "--"].iter().chain(words);
        sandbox.atomwrite(words).env("PATH", sandbox.root())
    };
    run(&["./script", "-c", "a b", "0"]).succeeds();
    assert_eq!(sandbox.text("out"), "./script,3,a b\n");
    run(&["script", "", "-", "0"]).succeeds();
    let path = sandbox.path("script").display().to_string();
    assert_eq!(sandbox.text("out"), format!("{path},3,-\n"));
    run(&["-dash"]).env("PATH", "").succeeds();
    assert_eq!(sandbox.text("out"), "dash\n");
    run(&["./script", "", "", "7"]).fails_with(7, "'./script' exited with status 7");
    run(&["./nothing"]).succeeds();
    assert_eq!(sandbox.text("out"), "");
}

#[test]
fn a_failure_before_the_command_is_125_and_runs_nothing() {
    let sandbox = Sandbox::with("out", "old");
    sandbox.mkdir("d");
    sandbox.fifo("fifo");
    sandbox.symlink("loop", "loop");
    for (words, part) in [
        ("-n out", "exists"),
        ("d", "directory"),
        ("out/", ""),
        ("d/", "directory"),
        ("fifo", "FIFO"),
        ("/dev/null", "device"),
        ("missing/x", "--create-dirs"),
        ("loop", "links"),
        ("-o no-such-user out", "'no-such-user'"),
        ("-g no-such-group out", "'no-such-group'"),
    ] {
        let input = Witness::new();
        let done = sandbox
            .run(&format!("{words} -- touch ran"))
            .stdin_from(input.input())
            .output();
        assert_eq!(done.code(), Some(125), "{words:?} {done:?}");
        assert!(done.stderr.contains(part), "{words:?} {done:?}");
        assert_eq!(done.stderr.lines().count(), 1, "{done:?}");
        assert_eq!(sandbox.names(), ["d", "fifo", "loop", "out"]);
        assert_eq!(sandbox.text("out"), "old");
        input.has_not_been_read();
    }
}

#[test]
fn a_dest_that_may_not_be_written_is_125_and_runs_nothing() {
    needs_root!();
    let sandbox = Sandbox::new();
    sandbox.give_to(NOBODY, NOBODY);
    sandbox.write_with_mode("out", "old", 0o444);
    let run = sandbox.run("out -- touch ran").by_nobody();
    run.fails_with(125, "--force");
    sandbox.run("-qf out -- printf new").by_nobody().succeeds();
}

#[test]
fn a_refusal_of_the_content_is_125() {
    needs_tool!("strace");
    for way in WAYS {
        let sandbox = Sandbox::with("out", "old");
        let wrong = "0".repeat(64);
        script(&sandbox, "--no-empty", way, ":").fails_with(125, "empty");
        script(&sandbox, &format!("--sha256 {wrong}"), way, "echo new").fails_with(125, "SHA-256");
        script(&sandbox, "--validate 'exit 7'", way, "echo new").fails_with(125, "status 7");
        // The command's own failure comes first.
        script(&sandbox, "--no-empty", way, "exit 8").fails_with(8, "8");
        script(&sandbox, "--validate 'touch ran'", way, "exit 9").fails(9);
    }
}

#[test]
fn no_clobber_is_decided_at_the_commit_and_is_125() {
    needs_tool!("strace");
    for way in WAYS {
        let sandbox = Sandbox::new();
        let done = script(&sandbox, "-n", way, "echo new; printf theirs >out").output();
        assert_eq!(done.code(), Some(125), "{done:?}");
        assert!(done.stderr.contains("exists"), "{done:?}");
        assert_eq!(sandbox.listing(), "out=theirs");
        fs::remove_file(sandbox.path("out")).unwrap();
        script(&sandbox, "-n", way, "printf ours").writes("ours");
    }
}

#[test]
fn a_directory_that_cannot_be_synced_is_124_and_a_file_that_cannot_be_is_125() {
    needs_tool!("strace");
    let sandbox = Sandbox::with("out", "old");
    let strace = Strace::new().inject("fsync:error=EIO").at(sandbox.root());
    let run = sandbox.run("out -- printf new").under(&strace);
    run.fails_with(124, "power loss");
    assert_eq!(sandbox.text("out"), "new");
    sandbox
        .run("--sync=file out -- printf newer")
        .inject("fsync:error=EIO")
        .fails(125);
}

#[test]
fn the_status_for_unchanged_is_not_the_commands() {
    let sandbox = Sandbox::with("out", "same\n");
    script(&sandbox, "-C", Way::Unnamed, "echo same").leaves_alone(0);
    script(&sandbox, "--unchanged-status=7", Way::Unnamed, "echo same").leaves_alone(7);
    script(&sandbox, "--unchanged-status=7", Way::Unnamed, "echo other").succeeds();
    script(
        &sandbox,
        "--unchanged-status=7",
        Way::Unnamed,
        "echo other; exit 5",
    )
    .fails(5);
}

#[test]
fn a_binary_that_cannot_be_run_does_not_cause_a_later_script_of_that_name_to_run() {
    let sandbox = Sandbox::new();
    for (directory, content) in [("one", "ab\0cd"), ("two", "echo from two")] {
        sandbox.mkdir(directory);
        sandbox.write_with_mode(format!("{directory}/program"), content, 0o755);
    }
    let path = format!(
        "{}:{}",
        sandbox.path("one").display(),
        sandbox.path("two").display()
    );
    let run = sandbox.run("out -- program").env("PATH", path);
    run.fails_with(126, "cannot run 'program'");
}
