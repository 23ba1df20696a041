//! Empty content: standard input that is empty is refused, unless `--allow-empty`; `--no-empty` refuses it from any input.

use crate::harness::{Sandbox, needs_tool, open};

#[test]
fn empty_stdin_does_not_replace_a_dest_that_is_not_empty() {
    let sandbox = Sandbox::with("out", "old");
    sandbox
        .run("out")
        .stdin("")
        .says("empty")
        .says("--allow-empty")
        .fails_with(3, "'out'");
    sandbox.run("- out").stdin("").fails_with(3, "empty");
    sandbox
        .run("out")
        .stdin_from(open("/dev/null"))
        .fails_with(3, "empty");
    sandbox.run("-f out").stdin("").fails_with(3, "empty");
}

#[test]
fn empty_stdin_does_not_replace_what_a_link_names() {
    let sandbox = Sandbox::with("out", "old");
    sandbox.symlink("out", "link");
    sandbox.run("link").stdin("").fails_with(3, "empty");
}

#[test]
fn stdin_by_another_name_is_guarded_like_stdin() {
    let sandbox = Sandbox::with("out", "old");
    for name in ["/dev/stdin", "/dev/fd/0", "/proc/self/fd/0"] {
        let run = || sandbox.atomwrite([name, "out"]);
        run().stdin("").fails_with(3, "empty");
        run().stdin_from(open("/dev/null")).fails_with(3, "empty");
        run().closed(&[0]).fails_with(1, "standard input");
    }
    sandbox
        .run("--allow-empty /dev/stdin out")
        .stdin("")
        .succeeds();
}

#[test]
fn a_command_that_a_shell_puts_in_sources_place_is_guarded_like_stdin() {
    needs_tool!("bash");
    let sandbox = Sandbox::with("out", "old");
    let with_source = |command: &str| {
        let script = format!(r#"exec "$0" <({command}) "$@""#);
        sandbox
            .run("out")
            .through(["bash", "-c", &script].map(str::to_owned))
    };
    with_source("false")
        .says("empty")
        .fails_with(3, "--allow-empty");
    with_source("echo new").succeeds();
    assert_eq!(sandbox.text("out"), "new\n");
}

#[test]
fn an_empty_fifo_as_source_is_guarded_like_stdin() {
    let sandbox = Sandbox::with("out", "old");
    let fifo = sandbox.fifo("fifo");
    let closer = std::thread::spawn(move || {
        std::fs::OpenOptions::new().write(true).open(fifo).unwrap();
    });
    sandbox.run("fifo out").fails_with(3, "empty");
    closer.join().unwrap();
}

#[test]
fn allow_empty_lets_empty_stdin_replace() {
    let sandbox = Sandbox::with("out", "old");
    sandbox.run("--allow-empty out").stdin("").writes("");
}

#[test]
fn an_empty_source_replaces() {
    // Somebody named it; what is guarded against is a producer that died.
    let sandbox = Sandbox::with("in", "");
    sandbox.write("out", "old");
    sandbox.run("in out").writes("");
}

#[test]
fn no_empty_refuses_empty_content_from_any_input() {
    let sandbox = Sandbox::with("in", "");
    sandbox.write("full", "old");
    sandbox.write("empty", "");
    for dest in ["full", "empty", "new"] {
        sandbox
            .atomwrite(["--no-empty", dest])
            .stdin("")
            .fails_with(3, "empty");
        sandbox
            .atomwrite(["--no-empty", "in", dest])
            .fails_with(3, "empty");
    }
}

#[test]
fn no_empty_lets_other_content_pass() {
    let sandbox = Sandbox::with("in", "x");
    sandbox.run("--no-empty a").stdin("x").succeeds();
    sandbox.run("--no-empty in b").succeeds();
    assert_eq!(
        (sandbox.text("a"), sandbox.text("b")),
        ("x".into(), "x".into())
    );
}
