//! The completions are scripts that their shells understand, and offer files for operands, values for options that have
//! some, commands after `DEST --`, and nothing else.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::sandbox::{Sandbox, needs_tool};

#[test]
fn bash_completes() {
    needs_tool!("bash");
    let sandbox = Sandbox::new();
    sandbox.write("some-file", "");
    let offered = |words: &[&str]| {
        let script = r#"
            source "$1"; shift
            # As readline does, a word ends at an equals sign.
            COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1))
            compopt() { :; }
            _atomwrite atomwrite "${@: -1}" "${@: -2:1}"
            # Where there is nothing, readline takes files ("complete -o default").
            [[ ${COMPREPLY[*]-} ]] || COMPREPLY=($(compgen -f -- "${@: -1}"))
            # Nor does it show one twice.
            printf '%s\n' "${COMPREPLY[@]}" | uniq
        "#;
        let mut arguments = vec!["--norc", "-c", script, "bash"];
        let file = path("atomwrite.bash");
        arguments.push(file.to_str().unwrap());
        arguments.push("atomwrite");
        arguments.extend(words);
        lines(&sandbox, "bash", &arguments)
    };
    assert_eq!(offered(&[""]), ["some-file"]);
    assert_eq!(offered(&["some-file", ""]), ["some-file"]);
    assert_eq!(offered(&["-n", "some"]), ["some-file"]);
    assert_eq!(offered(&["--sync", ""]), ["none", "file", "full"]);
    assert_eq!(offered(&["--sync", "="]), ["none", "file", "full"]);
    assert_eq!(offered(&["--sync", "=", "f"]), ["file", "full"]);
    assert_eq!(offered(&["--keep", "=", "a"]), ["all"]);
    assert_eq!(offered(&["--no-d"]), ["--no-dereference"]);
    assert_eq!(offered(&["-o", "roo"]), ["root"]);
    assert_eq!(offered(&["-m", "6"]), ["6"]);
    let controls = ["none", "simple", "existing", "numbered"];
    assert_eq!(offered(&["--backup", "="]), controls);
    assert_eq!(offered(&["--backup", "=", "s"]), ["simple"]);
    assert_eq!(offered(&["--inplace", "="]), ["never", "auto", "always"]);
    for option in ["--backup", "-b", "--inplace"] {
        assert_eq!(offered(&[option, "some"]), ["some-file"]);
    }
    // Commands; and files again where there was no DEST.
    assert_eq!(offered(&["some-file", "--", "unshar"]), ["unshare"]);
    assert_eq!(
        offered(&["--sync", "=", "none", "f", "--", "unshar"]),
        ["unshare"]
    );
    assert_eq!(
        offered(&["some-file", "--", "unshare", "some"]),
        ["some-file"]
    );
    assert_eq!(offered(&["--", "some"]), ["some-file"]);
    assert_eq!(
        offered(&["--sync", "=", "none", "--", "some"]),
        ["some-file"]
    );
    sandbox.mkdir("some-directory");
    for option in ["-t", "--target-directory"] {
        assert_eq!(offered(&[option, "some"]), ["some-directory"]);
    }
    assert_eq!(offered(&["-t", "some-directory", "some-f"]), ["some-file"]);
    assert_eq!(
        offered(&["-t", "some-directory", "--", "some-f"]),
        ["some-file"]
    );
}

#[test]
fn fish_completes() {
    needs_tool!("fish");
    let sandbox = Sandbox::new();
    sandbox.write("some-file", "");
    let offered = |line: &str| {
        let script = format!(
            "source '{}'; complete -C '{line}'",
            path("atomwrite.fish").display()
        );
        let offered = lines(&sandbox, "fish", &["--no-config", "-c", &script]);
        let words = offered.iter().map(|line| line.split('\t').next().unwrap());
        words.map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(offered("atomwrite some"), ["some-file"]);
    assert_eq!(offered("atomwrite some-file some"), ["some-file"]);
    assert_eq!(offered("atomwrite --sync fi"), ["file"]);
    assert_eq!(offered("atomwrite --keep=a"), ["--keep=all"]);
    assert_eq!(offered("atomwrite --no-d"), ["--no-dereference"]);
    assert_eq!(offered("atomwrite -m some"), [""; 0]);
    assert_eq!(offered("atomwrite -o roo"), ["root"]);
    let controls =
        ["existing", "none", "numbered", "simple"].map(|word| format!("--backup={word}"));
    assert_eq!(offered("atomwrite --backup="), controls);
    assert_eq!(offered("atomwrite --inplace=ne"), ["--inplace=never"]);
    for option in ["--backup", "-b", "--inplace"] {
        assert_eq!(offered(&format!("atomwrite {option} some")), ["some-file"]);
    }
    // Commands; and files again where there was no DEST.
    assert_eq!(offered("atomwrite some-file -- unshar"), ["unshare"]);
    assert_eq!(
        offered("atomwrite some-file -- unshare some"),
        ["some-file"]
    );
    assert_eq!(offered("atomwrite -- some"), ["some-file"]);
    sandbox.mkdir("some-directory");
    for option in ["-t ", "--target-directory "] {
        let line = format!("atomwrite {option}some");
        assert_eq!(offered(&line), ["some-directory/"]);
    }
    assert_eq!(offered("atomwrite -t some-directory some-f"), ["some-file"]);
    assert_eq!(
        offered("atomwrite -t some-directory -- some-f"),
        ["some-file"]
    );
}

#[test]
fn zsh_understands_its_script() {
    needs_tool!("zsh");
    let sandbox = Sandbox::new();
    let file = path("_atomwrite");
    assert!(lines(&sandbox, "zsh", &["-n", file.to_str().unwrap()]).is_empty());
}

#[test]
fn zsh_leaves_the_words_after_dest_to_the_command() {
    needs_tool!("zsh");
    let sandbox = Sandbox::new();
    // Without zsh's own parts, which only a terminal has: what they are called with.
    let script = r#"
        autoload() { : }; is-at-least() { : }; compdef() { : }
        _arguments() { print ours }
        _normal() { print -r -- $CURRENT $words }
        source $1; shift
        words=("$@"); CURRENT=$#
        _atomwrite
    "#;
    let offered = |words: &[&str]| {
        let file = path("_atomwrite");
        let mut arguments = vec!["-f", "-c", script, "zsh", file.to_str().unwrap()];
        arguments.push("atomwrite");
        arguments.extend(words);
        lines(&sandbox, "zsh", &arguments)
    };
    assert_eq!(offered(&["dest", "--", "unshar"]), ["1 unshar"]);
    assert_eq!(
        offered(&["-v", "dest", "--", "unshare", "some"]),
        ["2 unshare some"]
    );
    for ours in [
        &["dest", "--"][..],
        &["dest"],
        &["--", "some"],
        &["-v", "--", "some"],
        &["-t", "directory", "--", "some"],
        &["--target-directory=directory", "--", "some"],
    ] {
        assert_eq!(offered(ours), ["ours"]);
    }
}

fn path(name: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "completions", name]
        .iter()
        .collect()
}

/// Runs a shell, which must have nothing to complain of, and gives what it prints.
#[track_caller]
fn lines(sandbox: &Sandbox, shell: &str, arguments: &[&str]) -> Vec<String> {
    let output = Command::new(shell)
        .args(arguments)
        .current_dir(sandbox.root())
        .env("HOME", sandbox.aside("home"))
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    let stdout = String::from_utf8(output.stdout).unwrap();
    stdout.lines().map(str::to_owned).collect()
}
