//! `--verbose` and `--quiet`.

use crate::harness::{Sandbox, each, rows};

/// The set-up, the command line, and the messages; the input is `new`.
const MESSAGES: &str = "
| -v out | created 'out' (3 bytes)
| --verbose out | created 'out' (3 bytes)
touch out | -v out | replaced 'out' (3 bytes)
printf 1 >in | -v in out | created 'out' (1 byte)
touch in | -v in out | created 'out' (0 bytes)
# DEST as it was typed.
touch target; ln -s target link | -v ./link | replaced './link' (3 bytes)
ln -s nowhere dangling | -v dangling | created 'dangling' (3 bytes)
# The backup.
mkdir d; touch d/out | -vb d/out | replaced 'd/out' (3 bytes); the backup is 'd/out~'
mkdir d; touch d/out | -v -S .old ./d/out | replaced './d/out' (3 bytes); the backup is 'd/out.old'
mkdir d; touch d/out; ln -s d/out link | -vb link | replaced 'link' (3 bytes); the backup is 'd/out~'
touch out | -v --backup=t out | replaced 'out' (3 bytes); the backup is 'out.~1~'
touch out out.~1~ | -v --backup=existing --inplace=always out | written in place: 'out' (3 bytes); the backup is 'out.~2~'
touch out | -vb $PWD/out | replaced '$PWD/out' (3 bytes); the backup is '$PWD/out~'
| -vb out | created 'out' (3 bytes)
printf new >out | -vbC out | unchanged 'out' (3 bytes)
mkdir d; touch d/in in | -vb -t d in | replaced 'd/in' (0 bytes); the backup is 'd/in~'
# How much was appended.
| -va out | created 'out' (3 bytes)
printf first >out | -va out | appended 3 bytes to 'out' (8 bytes)
printf first >out; touch in | -va in out | appended 0 bytes to 'out' (5 bytes)
printf first >out; touch in | -vaC in out | unchanged 'out' (5 bytes)
printf first >out; printf 1 >in | -vab in out | appended 1 byte to 'out' (6 bytes); the backup is 'out~'
# The directories that were made.
mkdir a | -vD a/b/out | created 'a/b/out' (3 bytes); made directory 'a/b'
mkdir a | -vD a/b/c/out | created 'a/b/c/out' (3 bytes); made directories 'a/b', 'a/b/c'
mkdir a; touch a/out | -vD a/out | replaced 'a/out' (3 bytes)
touch in | -vD --lock in e/f/out | created 'e/f/out' (0 bytes); made directories 'e', 'e/f'
touch in | -vD -t g/h in | created 'g/h/in' (0 bytes); made directories 'g', 'g/h'
| -vD $PWD/i/out | created '$PWD/i/out' (3 bytes); made directory '$PWD/i'
";

#[test]
fn verbose_says_what_was_done() {
    each(rows(MESSAGES), |[set_up, line, message]| {
        let sandbox = Sandbox::new();
        sandbox.sh(set_up);
        let root = sandbox.root().to_str().unwrap();
        let done = sandbox
            .run(&line.replace("$PWD", root))
            .stdin("new")
            .output();
        assert_eq!(done.code(), Some(0), "{done:?}");
        let expected = format!("atomwrite: {}\n", message.replace("$PWD", root));
        let warning = |line: &&str| line.starts_with("atomwrite: warning: ");
        let said = done
            .stderr
            .split_inclusive('\n')
            .filter(|line| !warning(line));
        assert_eq!(said.collect::<String>(), expected);
    });
}

#[test]
fn verbose_says_how_much_was_appended_in_place() {
    let sandbox = Sandbox::with("out", "first");
    sandbox
        .run("-va --inplace=always out -- printf '?'")
        .warns("overwriting 'out' in place")
        .says("written in place: 'out' (6 bytes); appended 1 byte")
        .writes("first?");
}

#[test]
fn verbose_reports_no_success_after_a_failure() {
    let sandbox = Sandbox::with("out", "old");
    let done = sandbox.run("-v missing out").fails(1);
    assert!(!done.stderr.contains("replaced"), "{done:?}");
}

#[test]
fn quiet_hides_no_error() {
    let sandbox = Sandbox::with("out", "old");
    sandbox.fail_each(&[
        ("-q missing out", "", 1, "'missing'"),
        ("--quiet out", "", 3, "empty"),
    ]);
    sandbox.run("-q").fails(2);
}
