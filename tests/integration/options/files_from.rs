//! `--files-from` and `--files0-from`: lists of names for `-t`.
//!
//! A name ends at a newline or at NUL, and every other byte is a part of it. Empty lines are
//! skipped; there are no comments and no quoting. If the list has the other separator, the error
//! names the other option.

use crate::harness::Sandbox;

/// A sandbox with a directory for the files, which are in another one.
fn sandbox() -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.mkdir("d");
    sandbox.mkdir("s");
    for name in ["a", " b ", "#c", "'d'", "e\\n"] {
        sandbox.write(format!("s/{name}"), name);
    }
    sandbox
}

const SOURCES: [&str; 7] = ["d", "s", "s/ b ", "s/#c", "s/'d'", "s/a", "s/e\\n"];

#[test]
fn a_line_is_a_name() {
    for through in ["stdin", "file"] {
        let sandbox = sandbox();
        let list = "\ns/a\n\ns/ b \ns/#c\ns/'d'\ns/e\\n";
        let run = if through == "stdin" {
            sandbox.run("-t d --files-from=-").stdin(list)
        } else {
            std::fs::write(sandbox.aside("list"), list).unwrap();
            let list = sandbox.aside("list");
            sandbox.atomwrite([
                "-t".as_ref(),
                "d".as_ref(),
                "--files-from".as_ref(),
                list.as_os_str(),
            ])
        };
        let new = ["d/ b ", "d/#c", "d/'d'", "d/a", "d/e\\n"];
        run.leaves(SOURCES.iter().chain(&new).copied()).succeeds();
        for name in new {
            assert_eq!(sandbox.text(name), name[2..], "{through}");
        }
    }
}

#[test]
fn names_are_relative_to_the_current_directory() {
    let sandbox = sandbox();
    sandbox.write("s/list", "a\n");
    sandbox
        .run("-t ../d --files-from=list")
        .current_dir("s")
        .leaves(SOURCES.iter().chain(&["d/a", "s/list"]).copied())
        .succeeds();
}

#[test]
fn a_carriage_return_belongs_to_the_name() {
    let sandbox = sandbox();
    let run = |list: &str| sandbox.run("-t d --files-from=-").stdin(list);
    run("s/a\r\ns/b\r\n")
        .says("no such file or directory; the lines of the list end with CR LF")
        .leaves(SOURCES)
        .fails(1);
    sandbox.write("s/f\r", "f");
    run("s/f\r\n")
        .leaves(SOURCES.iter().chain(&["d/f\r", "s/f\r"]).copied())
        .succeeds();
}

#[test]
fn a_list_with_the_other_separator_gets_a_hint_to_its_option() {
    let sandbox = sandbox();
    sandbox
        .run("-t d --files0-from=-")
        .stdin("s/a\ns/ b \n")
        .says("no such file or directory; use --files-from for one name per line")
        .leaves(SOURCES)
        .fails(1);
    sandbox
        .run("-t d --files-from=-")
        .stdin("s/a\0s/ b \0")
        .says("use --files0-from for names that end with NUL")
        .leaves(SOURCES)
        .fails(1);
}
