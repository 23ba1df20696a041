//! `-c STRING`: a shell pipeline, whose output counts only if every part of it succeeds.
//!
//! bash runs it, or an sh that has pipefail. All promises about COMMAND hold.

use std::os::unix::fs::symlink;
use std::path::PathBuf;

use crate::harness::{Sandbox, needs_tool, tool};

#[test]
fn the_output_of_a_pipeline_becomes_the_content() {
    needs_tool!("bash");
    let sandbox = Sandbox::new();
    for (arguments, content) in [
        ("-c 'seq 3 | sort -r' out", "3\n2\n1\n"),
        ("out -c 'echo a; echo b'", "a\nb\n"),
        ("'--command=cat | tr a-z A-Z' out", "TYPED\n"),
        ("'-vqctr a-z A-Z' -- out", "TYPED\n"),
        // The list's last command counts.
        ("-c 'false; echo x' out", "x\n"),
    ] {
        let run = sandbox.run(arguments).stdin("typed\n");
        run.leaves(["out"]).succeeds();
        assert_eq!(sandbox.text("out"), content, "{arguments:?}");
    }
}

#[test]
fn a_pipeline_fails_if_one_of_its_commands_fails() {
    needs_tool!("bash");
    let sandbox = Sandbox::with("out", "old");
    for (pipeline, status) in [
        ("(echo half; exit 7) | cat", 7),
        ("echo x | false", 1),
        ("exit 3", 3),
        ("exit 4", 4),
    ] {
        sandbox.atomwrite(["-c", pipeline, "out"]).fails_with(
            status,
            format!(
                "cannot write 'out': the command exited with status {status}; 'out' is unchanged"
            ),
        );
    }
    sandbox.run("-c 'kill -9 $$' out").fails_with(
        137,
        "cannot write 'out': the command was killed by signal 9",
    );
    sandbox
        .run("-c 'no-such-program | cat' out")
        .hears("bash: line 1: no-such-program: command not found")
        .fails_with(127, "the command exited with status 127");
}

#[test]
fn a_command_that_sigpipe_ends_is_named_as_the_reason() {
    needs_tool!("bash");
    let sandbox = Sandbox::with("out", "old");
    sandbox
        .run("-c 'yes | head -n 1' out")
        .fails_with(141,
            "the command exited with status 141 (a part of the pipeline died of SIGPIPE, because a later part stopped \
             reading)");
}

#[test]
fn a_pipeline_works_with_the_options_of_a_command() {
    needs_tool!("bash");
    let sandbox = Sandbox::with("out", "old\n");
    sandbox
        .run("--no-empty -c true out")
        .fails_with(125, "the content is empty, and --no-empty was given");
    sandbox
        .run("-a -c 'sed s/old/new/ out | cat' out")
        .succeeds();
    assert_eq!(sandbox.text("out"), "old\nnew\n");
    sandbox
        .run("-c 'sleep 9 2>/dev/null & echo x' out")
        .fails_with(
            125,
            "the command has ended, but a process that it started still has its output open",
        );
}

/// A directory for PATH that has these names only, each of them the program that is given.
fn path_with(sandbox: &Sandbox, programs: &[(&str, &str)]) -> PathBuf {
    let directory = sandbox.aside("path");
    std::fs::create_dir(&directory).unwrap();
    for (name, program) in programs {
        let found = tool("sh", ["-c", &format!("command -v {program}")]);
        symlink(found.trim_end(), directory.join(name)).unwrap();
    }
    directory
}

#[test]
fn without_bash_an_sh_that_has_pipefail_runs_it() {
    needs_tool!("bash");
    let sandbox = Sandbox::new();
    let path = path_with(&sandbox, &[("sh", "bash")]);
    let run = |pipeline| {
        sandbox
            .atomwrite(["-c", pipeline, "out"])
            .env("PATH", path.clone())
    };
    run("echo \"$0\"").succeeds();
    assert_eq!(sandbox.text("out"), "sh\n");
    run("(echo half; exit 7) | while read -r line; do echo \"$line\"; done")
        .fails_with(7, "the command exited with status 7");
}

#[test]
fn without_any_shell_that_has_pipefail_nothing_runs() {
    needs_tool!("dash");
    let sandbox = Sandbox::with("out", "old");
    let missing = "cannot run the command: --command needs bash, or an sh that has pipefail";
    let run = |path: PathBuf| {
        sandbox
            .run("-c 'echo ran >ran' out")
            .env("PATH", path)
            .fails_with(125, missing);
    };
    run(sandbox.aside("no-such-directory"));
    if std::process::Command::new("dash")
        .args(["-o", "pipefail", "-c", ":"])
        .output()
        .is_ok_and(|done| !done.status.success())
    {
        run(path_with(&sandbox, &[("sh", "dash")]));
    }
}
