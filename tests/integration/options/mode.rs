//! `--mode` changes the mode that DEST would otherwise get, as chmod(1) does; it must succeed.

use std::fs;
use std::process::Command;

use proptest::prelude::*;

use crate::harness::{Sandbox, each, needs_tool, skip, works};

/// The mode, the umask or the mode that a file has, and the mode that it gets.
type Modes = (&'static str, u32, u32);

const UNDER_UMASK: [Modes; 25] = [
    ("600", 0o077, 0o600),
    ("0640", 0o077, 0o640),
    ("4755", 0o077, 0o4755),
    ("2711", 0o077, 0o2711),
    ("1777", 0o077, 0o1777),
    ("0", 0o077, 0),
    ("444", 0o077, 0o444),
    ("+x", 0o022, 0o755),
    ("+x", 0o077, 0o700),
    ("a+x", 0o077, 0o711),
    ("u=rw,go=", 0o022, 0o600),
    ("g=u", 0o022, 0o664),
    ("o=g", 0o027, 0o644),
    ("a+X", 0o022, 0o644),
    ("u+x,a+X", 0o022, 0o755),
    ("=", 0o022, 0o000),
    // Under umask 022, this clears only the owner's permissions.
    ("-w", 0o022, 0o444),
    ("+t", 0o022, 0o1644),
    ("u+s", 0o022, 0o4644),
    ("g+s", 0o022, 0o2644),
    ("ug+s,o-r", 0o022, 0o6640),
    ("u+w-r", 0o022, 0o244),
    ("go-rwx", 0o022, 0o600),
    ("+r", 0o777, 0o000),
    ("a=r", 0o777, 0o444),
];

const ON_EXISTING: [Modes; 16] = [
    ("600", 0o644, 0o600),
    ("0640", 0o644, 0o640),
    ("4755", 0o644, 0o4755),
    ("2711", 0o644, 0o2711),
    ("1777", 0o644, 0o1777),
    ("0", 0o644, 0),
    ("444", 0o644, 0o444),
    ("+x", 0o644, 0o755),
    ("g=u", 0o640, 0o660),
    ("a+X", 0o744, 0o755),
    ("a+X", 0o644, 0o644),
    ("u-s", 0o4755, 0o755),
    ("go=", 0o4755, 0o4700),
    ("g-x", 0o2755, 0o2745),
    ("=", 0o777, 0o000),
    ("=644", 0o6777, 0o644),
];

#[test]
fn a_numeric_mode_is_set_and_a_symbolic_one_applied_to_the_default() {
    each(UNDER_UMASK, |(option, umask, mode)| {
        let sandbox = Sandbox::new();
        let run = sandbox.run(&format!("--mode={option} out"));
        run.umask(umask).stdin("new").succeeds();
        assert_eq!(sandbox.mode("out"), mode);
    });
    each(ON_EXISTING, |(option, old, mode)| {
        let sandbox = Sandbox::new();
        sandbox.write_with_mode("out", "old", old);
        let run = sandbox.run(&format!("-m {option} out"));
        run.stdin("new").succeeds();
        assert_eq!(sandbox.mode("out"), mode);
    });
    // And from SOURCE.
    let sandbox = Sandbox::new();
    sandbox.write_with_mode("in", "new", 0o500);
    sandbox.run("-m g+r in out").succeeds();
    assert_eq!(sandbox.mode("out"), 0o540);
}

#[test]
fn a_mode_may_begin_with_a_dash() {
    let sandbox = Sandbox::new();
    sandbox.write_with_mode("out", "old", 0o755);
    for (line, mode) in [
        ("-m -x out", 0o644),
        ("--mode -w out", 0o444),
        ("-fmu+w out", 0o644),
    ] {
        sandbox.run(line).stdin("new").succeeds();
        assert_eq!(sandbox.mode("out"), mode, "{line}");
    }
}

#[test]
fn a_mode_on_a_file_with_an_acl_is_what_chmod_makes_of_it() {
    needs_tool!("setfacl", "getfacl");
    let sandbox = Sandbox::new();
    for option in ["640", "g-w", "u=rw,go=", "+x", "777"] {
        sandbox.write("out", "old");
        if !sandbox.setfacl("out", &["-m", "u:1000:rw,g:1001:rwx,g::r"]) {
            skip!("the filesystem has no ACLs");
        }
        sandbox.sh(&format!(
            "cp -p out reference; umask 022; chmod -- {option} reference"
        ));
        let run = sandbox.run(&format!("--mode={option} out"));
        run.stdin("new").succeeds();
        assert_eq!(sandbox.acl("out"), sandbox.acl("reference"), "{option}");
        assert_eq!(sandbox.mode("out"), sandbox.mode("reference"), "{option}");
    }
}

#[test]
fn a_malformed_mode_is_a_usage_error() {
    const MALFORMED: [&str; 18] = [
        "8",
        "10000",
        "+y",
        "u",
        "u=rw,",
        ",u=r",
        "u=rw,,g=r",
        "u=gr",
        "rw",
        "0x1ff",
        "",
        " 644",
        "644 ",
        "u+",
        "z=r",
        "-1",
        "77777777777777777777",
        "６４４",
    ];
    let sandbox = Sandbox::with("out", "old");
    each(MALFORMED, |mode| {
        let mut chmod = Command::new("chmod");
        let is_valid = works(chmod.args(["--", mode]).arg(sandbox.path("out")));
        sandbox.chmod("out", 0o644);
        if !is_valid {
            let run = sandbox.atomwrite([&format!("--mode={mode}"), "out"]);
            run.reads_nothing().fails(2);
        }
    });
    sandbox.refuse_each(&[("-m rwx out", 2, "'rwx'")]);
}

/// Expressions as people write them, and odd ones.
fn mode_expressions() -> impl Strategy<Value = String> {
    let clause = (
        proptest::sample::subsequence(vec!['u', 'g', 'o', 'a'], 0..=4),
        proptest::collection::vec(
            (
                proptest::sample::select(vec!['+', '-', '=']),
                prop_oneof![
                    4 => proptest::sample::subsequence(vec!['r', 'w', 'x', 'X', 's', 't'], 0..=6)
                        .prop_map(|bits| bits.into_iter().collect::<String>()),
                    2 => proptest::sample::select(vec!["u", "g", "o"]).prop_map(String::from),
                    1 => "[0-7]{1,5}",
                ],
            ),
            1..4,
        ),
    )
        .prop_map(|(who, actions)| {
            let mut text: String = who.into_iter().collect();
            for (operator, operand) in actions {
                text.push(operator);
                text.push_str(&operand);
            }
            text
        });
    prop_oneof![
        6 => proptest::collection::vec(clause, 1..4).prop_map(|clauses| clauses.join(",")),
        1 => "[0-7]{1,6}",
        2 => "[ugoarwxXst+=,0-9 -]{0,8}",
    ]
}

#[test]
fn symbolic_modes_mean_what_chmod_means() {
    let sandbox = Sandbox::new();
    let config = ProptestConfig {
        cases: 200,
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    let modes = prop_oneof![0..=0o7777_u32, 0..=0o777_u32];
    let umasks = proptest::sample::select(vec![0o000, 0o002, 0o022, 0o027, 0o077, 0o777, 0o124]);
    proptest!(config, |(expression in mode_expressions(), old in modes, umask in umasks)| {
        // Removed first: without the right to write to it, only root could write it again.
        drop(fs::remove_file(sandbox.path("out")));
        drop(fs::remove_file(sandbox.path("reference")));
        sandbox.write_with_mode("out", "old", old);
        sandbox.write_with_mode("reference", "old", old);
        let script = format!("umask {umask:o}; exec chmod -- \"$0\" \"$1\"");
        let chmod = Command::new("sh")
            .args(["-c", &script, &expression])
            .arg(sandbox.path("reference"))
            .output()
            .unwrap();
        let arguments = ["--sync=none".to_owned(), "-f".to_owned(), format!("--mode={expression}"), "out".to_owned()];
        let run = sandbox.atomwrite(arguments).umask(umask).stdin("new");
        if chmod.status.success() {
            run.succeeds();
            let (ours, theirs) = (sandbox.mode("out"), sandbox.mode("reference"));
            prop_assert_eq!(ours, theirs, "{:o}, not {:o}, by {:?} on {:o} under {:o}", ours, theirs, expression, old, umask);
        } else {
            run.fails(2);
        }
    });
}
