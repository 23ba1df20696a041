//! `--verbose` and `--quiet`.

use crate::harness::Sandbox;

#[test]
fn verbose_tells_what_was_done_and_the_size() {
    let sandbox = Sandbox::new();
    sandbox.write("in", "0123456789ab");
    for option in ["-v", "--verbose"] {
        let done = sandbox
            .atomwrite([option, "in", "x"])
            .says("bytes")
            .succeeds();
        assert_eq!(done.stderr, "atomwrite: created 'x' (12 bytes)\n");
        let done = sandbox
            .atomwrite([option, "x"])
            .stdin("0123456")
            .says("bytes")
            .succeeds();
        assert_eq!(done.stderr, "atomwrite: replaced 'x' (7 bytes)\n");
        std::fs::remove_file(sandbox.path("x")).unwrap();
    }
    sandbox
        .atomwrite(["-v", "one"])
        .stdin("1")
        .says("created 'one' (1 byte")
        .succeeds();
    sandbox
        .atomwrite(["-v", "--allow-empty", "none"])
        .stdin("")
        .says("created 'none' (0 bytes)")
        .succeeds();
}

#[test]
fn verbose_speaks_of_dest_as_it_was_typed() {
    let sandbox = Sandbox::new();
    sandbox.write("target", "old");
    sandbox.symlink("target", "link");
    sandbox.symlink("nowhere", "dangling");
    sandbox
        .atomwrite(["-v", "./link"])
        .stdin("new")
        .leaves(["dangling", "link", "target"])
        .says("replaced './link' (3 bytes)")
        .succeeds();
    sandbox
        .atomwrite(["-v", "dangling"])
        .stdin("new")
        .says("created 'dangling' (3 bytes)")
        .leaves(["dangling", "link", "nowhere", "target"])
        .succeeds();
}

#[test]
fn verbose_says_nothing_of_a_success_that_did_not_come() {
    let sandbox = Sandbox::new();
    sandbox.write("out", "old");
    let done = sandbox.atomwrite(["-v", "missing", "out"]).fails(1);
    assert!(!done.stderr.contains("replaced"), "{done:?}");
}

#[test]
fn quiet_hides_no_error() {
    let sandbox = Sandbox::new();
    sandbox.write("out", "old");
    sandbox
        .atomwrite(["-q", "missing", "out"])
        .says("'missing'")
        .fails(1);
    sandbox
        .atomwrite(["--quiet", "out"])
        .stdin("")
        .says("empty")
        .fails(3);
    sandbox.atomwrite(["-q"]).fails(2);
}
