//! Empty content: standard input that is empty is refused, unless `--allow-empty`; `--no-empty` refuses it from any input.

use crate::harness::{Sandbox, needs_tool, open};

#[test]
fn empty_stdin_does_not_replace_a_dest_that_is_not_empty() {
    let sandbox = Sandbox::new();
    sandbox.write("out", "old");
    sandbox
        .atomwrite(["out"])
        .stdin("")
        .says("empty")
        .says("--allow-empty")
        .says("'out'")
        .fails(3);
    sandbox
        .atomwrite(["-", "out"])
        .stdin("")
        .says("empty")
        .fails(3);
    sandbox
        .atomwrite(["out"])
        .stdin_from(open("/dev/null"))
        .says("empty")
        .fails(3);
    sandbox
        .atomwrite(["-f", "out"])
        .stdin("")
        .says("empty")
        .fails(3);
}

#[test]
fn empty_stdin_does_not_replace_what_a_link_names() {
    let sandbox = Sandbox::new();
    sandbox.write("out", "old");
    sandbox.symlink("out", "link");
    sandbox.atomwrite(["link"]).stdin("").says("empty").fails(3);
}

#[test]
fn stdin_by_another_name_is_guarded_like_stdin() {
    let sandbox = Sandbox::new();
    sandbox.write("out", "old");
    for name in ["/dev/stdin", "/dev/fd/0", "/proc/self/fd/0"] {
        let run = || sandbox.atomwrite([name, "out"]);
        run().stdin("").says("empty").fails(3);
        run().stdin_from(open("/dev/null")).says("empty").fails(3);
        run().closed(&[0]).says("standard input").fails(1);
    }
    sandbox
        .atomwrite(["--allow-empty", "/dev/stdin", "out"])
        .stdin("")
        .succeeds();
}

#[test]
fn a_command_that_a_shell_puts_in_sources_place_is_guarded_like_stdin() {
    needs_tool!("bash");
    let sandbox = Sandbox::new();
    sandbox.write("out", "old");
    let with_source = |command: &str| {
        let script = format!(r#"exec "$0" <({command}) "$@""#);
        sandbox
            .atomwrite(["out"])
            .through(["bash", "-c", &script].map(str::to_owned))
    };
    with_source("false")
        .says("empty")
        .says("--allow-empty")
        .fails(3);
    with_source("echo new").succeeds();
    assert_eq!(sandbox.text("out"), "new\n");
}

#[test]
fn an_empty_fifo_as_source_is_guarded_like_stdin() {
    let sandbox = Sandbox::new();
    sandbox.write("out", "old");
    let fifo = sandbox.fifo("fifo");
    let closer = std::thread::spawn(move || {
        std::fs::OpenOptions::new().write(true).open(fifo).unwrap();
    });
    sandbox.atomwrite(["fifo", "out"]).says("empty").fails(3);
    closer.join().unwrap();
}

#[test]
fn allow_empty_lets_empty_stdin_replace() {
    let sandbox = Sandbox::new();
    sandbox.write("out", "old");
    sandbox
        .atomwrite(["--allow-empty", "out"])
        .stdin("")
        .succeeds();
    assert_eq!(sandbox.text("out"), "");
}

#[test]
fn an_empty_source_replaces() {
    // Somebody named it; what is guarded against is a producer that died.
    let sandbox = Sandbox::new();
    sandbox.write("in", "");
    sandbox.write("out", "old");
    sandbox.atomwrite(["in", "out"]).succeeds();
    assert_eq!(sandbox.text("out"), "");
}

#[test]
fn no_empty_refuses_empty_content_from_any_input() {
    let sandbox = Sandbox::new();
    sandbox.write("in", "");
    sandbox.write("full", "old");
    sandbox.write("empty", "");
    for dest in ["full", "empty", "new"] {
        sandbox
            .atomwrite(["--no-empty", dest])
            .stdin("")
            .says("empty")
            .fails(3);
        sandbox
            .atomwrite(["--no-empty", "in", dest])
            .says("empty")
            .fails(3);
    }
}

#[test]
fn no_empty_lets_other_content_pass() {
    let sandbox = Sandbox::new();
    sandbox.write("in", "x");
    sandbox.atomwrite(["--no-empty", "a"]).stdin("x").succeeds();
    sandbox.atomwrite(["--no-empty", "in", "b"]).succeeds();
    assert_eq!(
        (sandbox.text("a"), sandbox.text("b")),
        ("x".into(), "x".into())
    );
}
