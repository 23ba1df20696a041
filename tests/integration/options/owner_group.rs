//! `-o USER[:GROUP]` and values that begin with a dash.
//!
//! The first colon ends USER. `USER:` means USER's login group, `:GROUP` the group only. Digits are
//! not looked up.

use crate::harness::{Sandbox, needs_root, needs_tool};

#[test]
fn an_owner_with_a_colon_sets_the_group_too() {
    needs_root!();
    let sandbox = Sandbox::new();
    // On Debian, games is 5 with the login group 60, and man is 6 and 12.
    for (value, owner) in [
        ("games", (5, 0)),
        ("games:man", (5, 12)),
        ("games:", (5, 60)),
        (":man", (0, 12)),
        ("5:12", (5, 12)),
        ("1234:5678", (1234, 5678)),
        (":5678", (0, 5678)),
    ] {
        sandbox.write("out", "old");
        sandbox.chown("out", 0, 0);
        let run = sandbox.atomwrite(["-o", value, "out"]).stdin("new");
        run.succeeds();
        assert_eq!(sandbox.owner("out"), owner, "-o {value}");
    }
}

#[test]
fn a_group_after_the_colon_must_exist() {
    let sandbox = Sandbox::with("out", "old");
    sandbox.refuse_each(&[
        (
            "-o root:no.such out",
            1,
            "find group 'no.such': no such group",
        ),
        ("-o :no.such out", 1, "find group 'no.such': no such group"),
        // Only the first colon ends the user.
        ("-o root:a:b out", 1, "find group 'a:b': no such group"),
        // A number has no login group, as with chown(1).
        ("-o 5: out", 1, "find user '5': no such user"),
        // A dot is a part of a name.
        ("-o root.root out", 1, "find user 'root.root': no such user"),
    ]);
}

#[test]
fn an_option_that_needs_a_value_takes_the_next_word() {
    needs_tool!("bash");
    let sandbox = Sandbox::with("out", "old");
    let run = sandbox.run("-S -v out").stdin("new");
    run.leaves(["out", "out-v"]).succeeds();
    assert_eq!(sandbox.text("out-v"), "old");
    sandbox
        .run("-t -v out")
        .says("cannot open directory '-v'")
        .leaves(["out", "out-v"])
        .refuses_the_way()
        .fails(1);
    sandbox
        .run("--command -c out")
        .stdin("touch ran")
        .leaves(["out", "out-v"])
        .hears("bash: line 1: -c: command not found")
        .fails_with(127, "the command exited with status 127");
}

#[test]
fn a_validator_that_begins_with_a_dash_does_not_run_the_content() {
    let sandbox = Sandbox::new();
    sandbox
        .run("--validate -c out")
        .stdin("touch ran")
        .stderr_to(std::fs::File::create(sandbox.aside("stderr")).unwrap())
        .leaves([""; 0])
        .fails(1);
}

#[test]
fn an_empty_suffix_is_the_usual_one() {
    let sandbox = Sandbox::with("out", "old");
    sandbox
        .run("-S '' out")
        .env("SIMPLE_BACKUP_SUFFIX", ".orig")
        .stdin("new")
        .leaves(["out", "out~"])
        .succeeds();
    assert_eq!(sandbox.text("out~"), "old");
}
