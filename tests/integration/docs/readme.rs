//! The README and the guide: their examples do what they say, they name every option, and all
//! documents' links lead somewhere.

use std::fs;
use std::path::Path;

use crate::docs::examples::{behaves, blocks, mentions, options};
use crate::harness::{needs_tool, report_linux_only};

const README: &str = include_str!("../../../README.md");
const GUIDE: &str = include_str!("../../../docs/guide.md");

/// The documents whose links are followed.
const LINKED: [&str; 12] = [
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "README.md",
    "RELEASING.md",
    "benches/README.md",
    "docs/guide.md",
    "docs/kernel-notes.md",
    "docs/sponge.md",
    "packaging/README.md",
    "torture/README.md",
    "torture/machines/README.md",
];

/// The commands that the README's `sh` block may have, each with what .ci/run does in its place.
const SET_UP: [(&str, &str); 5] = [
    (
        "make deb && sudo apt install ./target/atomwrite_*_$(dpkg --print-architecture).deb",
        "make check-package",
    ),
    ("make rpm arch dist", "make check-package"),
    ("make && sudo make install", "make install"),
    ("cargo install --path . --locked", "cargo run"),
    (
        "echo '{\"ok\":true}' | cargo run -rq -- out.json",
        "| cargo run -rq",
    ),
];

#[test]
fn examples_print_what_the_readme_and_the_guide_say() {
    needs_tool!("bash", "jq", "make", "unshare");
    for (name, page, least) in [("README.md", README, 8), ("docs/guide.md", GUIDE, 15)] {
        let examples = blocks(page, "console");
        assert!(
            examples.len() >= least,
            "where have {name}'s examples gone?"
        );
        for example in examples {
            let set_up: Vec<&str> = example.set_up.iter().map(String::as_str).collect();
            if cfg!(atomwrite_posix) && example.text.contains("--mount") {
                report_linux_only("a call that shows a mount point");
                continue;
            }
            let origin = format!("{name}, below line {}", example.line);
            behaves(&origin, &set_up, &example.text);
        }
    }
}

#[test]
fn the_readme_installs_and_tests_as_continuous_integration_does() {
    let ci = include_str!("../../../.ci/run");
    for block in blocks(README, "sh") {
        for line in block.text.lines() {
            let command = line.split("    #").next().unwrap_or_default();
            let command = command.split("   # ").next().unwrap_or_default().trim();
            let known = SET_UP.iter().find(|(known, _)| *known == command);
            let (_, part) = known.unwrap_or_else(|| panic!("README.md: no test runs {command}"));
            assert!(ci.contains(part), ".ci/run does not run '{part}'");
        }
    }
    for page in [README, include_str!("../../../CONTRIBUTING.md")] {
        assert!(page.contains("make test"));
    }
    assert!(ci.contains("make test"));
}

#[test]
fn every_option_is_in_the_readme_or_the_guide() {
    // A page that names `--help` need not explain these two.
    let known = ["--help", "--version"];
    for names in options() {
        assert!(
            names.iter().any(|name| known.contains(&name.as_str())
                || mentions(README, name)
                || mentions(GUIDE, name)),
            "neither README.md nor docs/guide.md has {names:?}"
        );
    }
}

#[test]
fn links_lead_to_files_and_headings() {
    let top = Path::new(env!("CARGO_MANIFEST_DIR"));
    for name in LINKED {
        let text = fs::read_to_string(top.join(name)).unwrap();
        for link in text.split("](").skip(1) {
            let target = link.split(')').next().unwrap_or_default();
            if target.contains("://") {
                continue;
            }
            let (file, heading) = target.split_once('#').unwrap_or((target, ""));
            let path = match file {
                "" => top.join(name),
                file => top.join(name).parent().unwrap().join(file),
            };
            assert!(path.exists(), "{name}: {target}");
            if !heading.is_empty() {
                let page = fs::read_to_string(path).unwrap();
                let mut headings = page.lines().filter_map(anchor);
                assert!(headings.any(|one| one == heading), "{name}: {target}");
            }
        }
    }
}

/// Returns the anchor of a heading, or `None` for another line.
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
