//! `--verbose` and `--quiet`.

use crate::harness::Sandbox;

#[test]
fn verbose_tells_what_was_done_and_the_size() {
    let sandbox = Sandbox::with("in", "0123456789ab");
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
        .run("-v one")
        .stdin("1")
        .says("created 'one' (1 byte")
        .succeeds();
    sandbox
        .run("-v --allow-empty none")
        .stdin("")
        .says("created 'none' (0 bytes)")
        .succeeds();
}

#[test]
fn verbose_speaks_of_dest_as_it_was_typed() {
    let sandbox = Sandbox::with("target", "old");
    sandbox.symlink("target", "link");
    sandbox.symlink("nowhere", "dangling");
    sandbox
        .run("-v ./link")
        .stdin("new")
        .leaves(["dangling", "link", "target"])
        .says("replaced './link' (3 bytes)")
        .succeeds();
    sandbox
        .run("-v dangling")
        .stdin("new")
        .says("created 'dangling' (3 bytes)")
        .leaves(["dangling", "link", "nowhere", "target"])
        .succeeds();
}

#[test]
fn verbose_names_the_backup() {
    let sandbox = Sandbox::new();
    sandbox.mkdir("d");
    sandbox.write("d/out", "old");
    sandbox.symlink("d/out", "link");
    let says = |options: &[&str], dest: &str, told: &str| {
        let done = sandbox
            .atomwrite(options.iter().chain([&dest]))
            .stdin("new")
            .output();
        assert_eq!(done.code(), Some(0), "{done:?}");
        let line = done.stderr.lines().last().unwrap();
        assert_eq!(line, format!("atomwrite: {told}"));
    };
    let absolute = sandbox.path("d/out").display().to_string();
    for (options, dest, told) in [
        (
            &["-vb"][..],
            "d/out",
            "replaced 'd/out' (3 bytes); the backup is 'd/out~'",
        ),
        (
            &["-v", "-S", ".old"],
            "./d/out",
            "replaced './d/out' (3 bytes); the backup is 'd/out.old'",
        ),
        (
            &["-vb"],
            "link",
            "replaced 'link' (3 bytes); the backup is 'd/out~'",
        ),
        (
            &["-v", "--backup=t"],
            "d/out",
            "replaced 'd/out' (3 bytes); the backup is 'd/out.~1~'",
        ),
        (
            &["-vb", "--inplace=always"],
            "d/out",
            "written in place: 'd/out' (3 bytes); the backup is 'd/out.~2~'",
        ),
        (
            &["-vb"],
            &absolute,
            &format!("replaced '{absolute}' (3 bytes); the backup is '{absolute}.~3~'"),
        ),
        // There was no old file.
        (&["-vb"], "d/fresh", "created 'd/fresh' (3 bytes)"),
        (&["-vbC"], "d/fresh", "unchanged 'd/fresh' (3 bytes)"),
    ] {
        says(options, dest, told);
    }
    sandbox.write("out", "newer");
    let done = sandbox.run("-vb -t d out").output();
    let told = "replaced 'd/out' (5 bytes); the backup is 'd/out.~4~'";
    assert_eq!(done.stderr, format!("atomwrite: {told}\n"));
    assert_eq!(done.code(), Some(0), "{done:?}");
}

#[test]
fn verbose_tells_how_much_was_appended() {
    let sandbox = Sandbox::new();
    for (options, input, told) in [
        ("-va", "first", "created 'out' (5 bytes)"),
        ("-va", ",second", "appended 7 bytes to 'out' (12 bytes)"),
        ("-va", "", "appended 0 bytes to 'out' (12 bytes)"),
        ("-vaC", "", "unchanged 'out' (12 bytes)"),
        (
            "-vab",
            "!",
            "appended 1 byte to 'out' (13 bytes); the backup is 'out~'",
        ),
    ] {
        let done = sandbox.atomwrite([options, "out"]).stdin(input).output();
        assert_eq!(done.stderr, format!("atomwrite: {told}\n"));
        assert_eq!(done.code(), Some(0), "{done:?}");
    }
    sandbox
        .run("-va --inplace=always out -- echo '?'")
        .warns("overwriting 'out' in place")
        .says("written in place: 'out' (15 bytes); appended 2 bytes")
        .leaves(["out", "out~"])
        .succeeds();
    assert_eq!(sandbox.text("out"), "first,second!?\n");
}

#[test]
fn verbose_names_the_directories_that_were_made() {
    let sandbox = Sandbox::new();
    sandbox.mkdir("a");
    sandbox.write("in", "new");
    for (words, told) in [
        (
            &["-vD", "in", "a/b/out"][..],
            "created 'a/b/out' (3 bytes); made directory 'a/b'",
        ),
        (
            &["-vD", "in", "a/b/c/d/out"],
            "created 'a/b/c/d/out' (3 bytes); made directories 'a/b/c', 'a/b/c/d'",
        ),
        (
            &["-vD", "in", "a/b/c/d/out"],
            "replaced 'a/b/c/d/out' (3 bytes)",
        ),
        (
            &["-vD", "--lock", "in", "e/f/out"],
            "created 'e/f/out' (3 bytes); made directories 'e', 'e/f'",
        ),
        (
            &["-vD", "-t", "g/h", "in"],
            "created 'g/h/in' (3 bytes); made directories 'g', 'g/h'",
        ),
    ] {
        let done = sandbox.atomwrite(words).output();
        assert_eq!(done.stderr, format!("atomwrite: {told}\n"));
        assert_eq!(done.code(), Some(0), "{done:?}");
    }
    let absolute = sandbox.path("i").display().to_string();
    let done = sandbox
        .atomwrite(["-vD", "in", &format!("{absolute}/out")])
        .output();
    let told = format!("made directory '{absolute}'\n");
    assert!(done.stderr.ends_with(&told), "{done:?}");
}

#[test]
fn verbose_says_nothing_of_a_success_that_did_not_come() {
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
