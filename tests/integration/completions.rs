//! The completions are scripts that their shells understand, and offer files for operands, values for options that have
//! some, and nothing else.

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
            printf '%s\n' "${COMPREPLY[@]}"
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
}

#[test]
fn zsh_understands_its_script() {
    needs_tool!("zsh");
    let sandbox = Sandbox::new();
    let file = path("_atomwrite");
    assert!(lines(&sandbox, "zsh", &["-n", file.to_str().unwrap()]).is_empty());
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
