//! The README's examples do what it says, it names every option, and its links lead somewhere.

use std::fs;
use std::path::Path;

use crate::docs::examples::{behaves, blocks, mentions, options};
use crate::harness::needs_tool;

const README: &str = include_str!("../../../README.md");

/// What a `sh` block may say.
const SET_UP: [&str; 5] = [
    "echo '{\"ok\":true}' | cargo run -rq -- out.json",
    "make test",
    "make && sudo make install",
    "make deb && sudo apt install ./target/atomwrite_*_$(dpkg --print-architecture).deb",
    "cargo install --path . --locked",
];

#[test]
fn examples_print_what_the_readme_says() {
    needs_tool!("bash", "make", "unshare");
    let examples = blocks(README, "console");
    assert!(examples.len() > 10, "where have all the examples gone?");
    for (line, block) in examples {
        behaves(&format!("README.md, below line {line}"), &[], &block);
    }
}

#[test]
fn set_up_is_what_continuous_integration_does() {
    for (line, block) in blocks(README, "sh") {
        assert!(
            SET_UP.contains(&block.trim()),
            "README.md, below line {line}: nobody runs {block}"
        );
    }
    let ci = include_str!("../../../.ci/run");
    for part in [
        "| cargo run -rq",
        "make test",
        "make install",
        "make check-package",
    ] {
        assert!(ci.contains(part), ".ci/run does not run '{part}'");
    }
}

#[test]
fn names_every_option() {
    // Nobody has to be told of these two by a page that names the first of them.
    let known = ["--help", "--version"];
    for names in options() {
        assert!(
            names
                .iter()
                .any(|name| known.contains(&name.as_str()) || mentions(README, name)),
            "README.md does not speak of {names:?}"
        );
    }
}

#[test]
fn links_lead_to_files_and_headings() {
    let top = Path::new(env!("CARGO_MANIFEST_DIR"));
    let headings: Vec<String> = README.lines().filter_map(anchor).collect();
    for link in README.split("](").skip(1) {
        let target = link.split(')').next().unwrap_or_default();
        match target.strip_prefix('#') {
            Some(heading) => assert!(headings.iter().any(|one| one == heading), "{target}"),
            None if target.contains("://") => {}
            None => assert!(fs::exists(top.join(target)).unwrap(), "{target}"),
        }
    }
}

/// What a heading is called in a link, if the line is one.
fn anchor(line: &str) -> Option<String> {
    let (marks, words) = line.split_once(' ')?;
    if marks.is_empty() || !marks.chars().all(|mark| mark == '#') {
        return None;
    }
    let words = words.to_lowercase().replace(' ', "-");
    Some(words.replace(
        |letter: char| !letter.is_alphanumeric() && !"-_".contains(letter),
        "",
    ))
}
