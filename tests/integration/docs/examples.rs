//! Examples in documents.
//!
//! bash runs a `console` block in a sandbox of its own. Each line that begins with `$ ` is a
//! command, and lines with `> ` continue it. The lines below it are all that it prints, on stdout
//! and stderr. `(...)` stands for anything in parentheses. A comment on the line above the block,
//! `<!-- $ seq 3 > list -->`, sets up the files that the reader already has. .ci/run runs the
//! commands of `sh` blocks, which set up the machine.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::process::{Command, Stdio};

use crate::harness::{BOUND, Sandbox, binary, has_user_namespaces, report_skipped};

/// Stands between the outputs of two commands.
const BORDER: char = '\u{1}';

/// Runs an example in a sandbox of its own, behind what sets that up, which prints nothing.
#[track_caller]
pub(crate) fn behaves(origin: &str, set_up: &[&str], block: &str) {
    let mounts = |text: &str| text.contains("unshare");
    if (mounts(block) || set_up.iter().any(|line| mounts(line))) && !has_user_namespaces() {
        report_skipped("needs user namespaces");
        return;
    }
    let sandbox = Sandbox::new();
    let set_up = set_up.iter().map(|&line| (line.to_owned(), String::new()));
    let (commands, expected): (Vec<_>, Vec<_>) = set_up.chain(steps(block)).unzip();
    let printed = run(&sandbox, &commands);
    assert_eq!(printed.len(), expected.len(), "{origin}: {printed:?}");
    for ((command, expected), printed) in commands.iter().zip(expected).zip(printed) {
        let printed = if expected.contains("(...)") {
            without_parenthesis(&printed)
        } else {
            printed
        };
        assert_eq!(printed, expected, "{origin}: $ {command}");
    }
    for name in sandbox.names() {
        assert!(!name.as_bytes().starts_with(b".atomwrite"), "{name:?}");
    }
}

/// The names of each option, the short one first if there is one.
pub(crate) fn options() -> Vec<Vec<String>> {
    let output = Command::new(binary()).arg("-h").output().unwrap();
    let help = String::from_utf8(output.stdout).unwrap();
    let options: Vec<Vec<String>> = help
        .lines()
        .filter(|line| line.trim_start().starts_with('-'))
        .map(|line| {
            let names = line.split([' ', ',', '=', '[']);
            let names = names.filter(|word| word.starts_with('-'));
            names.take(2).map(str::to_owned).collect()
        })
        .collect();
    assert!(options.len() > 10, "{help}");
    options
}

/// Returns whether a text has an option's name as a word of its own.
pub(crate) fn mentions(text: &str, name: &str) -> bool {
    text.match_indices(name).any(|(at, _)| {
        let is_part = |letter: char| letter.is_alphanumeric() || letter == '-';
        !text[..at].ends_with(is_part) && !text[at + name.len()..].starts_with(is_part)
    })
}

/// A block of a page.
pub(crate) struct Block {
    /// Where it begins.
    pub(crate) line: usize,
    /// The command in the comment above it.
    pub(crate) set_up: Option<String>,
    pub(crate) text: String,
}

/// Returns a page's blocks of one kind.
pub(crate) fn blocks(page: &str, kind: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut open: Option<Block> = None;
    let mut above = "";
    for (number, line) in page.lines().enumerate() {
        match &mut open {
            Some(_) if line == "```" => blocks.extend(open.take()),
            Some(block) => block.text.extend([line, "\n"]),
            None if line.strip_prefix("```") == Some(kind) => {
                let comment = above.strip_prefix("<!-- $ ");
                let set_up = comment.and_then(|comment| comment.strip_suffix(" -->"));
                open = Some(Block {
                    line: number + 1,
                    set_up: set_up.map(str::to_owned),
                    text: String::new(),
                });
            }
            None => {}
        }
        above = line;
    }
    blocks
}

/// Parses a block into commands and their output.
fn steps(block: &str) -> Vec<(String, String)> {
    let mut steps: Vec<(String, String)> = Vec::new();
    for line in block.lines() {
        if let Some(command) = line.strip_prefix("$ ") {
            steps.push((command.to_owned(), String::new()));
            continue;
        }
        let Some((command, output)) = steps.last_mut() else {
            panic!("a block begins with a command, not with: {line}");
        };
        match line.strip_prefix("> ") {
            Some(more) if output.is_empty() => command.extend(["\n", more]),
            _ => output.extend([line, "\n"]),
        }
    }
    steps
}

/// Runs the commands in one shell, and returns the output of each.
pub(crate) fn run(sandbox: &Sandbox, commands: &[String]) -> Vec<String> {
    // The status is the next command's to ask for.
    let border = format!("{{ s=$?; printf '{BORDER}'; (exit $s); }}");
    let mut script = "exec 2>&1; umask 022\n".to_owned();
    for command in commands {
        script.extend([command, "\n", &border, "\n"]);
    }
    let directory = sandbox.reachable_binary().parent().unwrap();
    let mut path = directory.as_os_str().to_owned();
    path.push(":");
    path.push(
        std::env::var_os("PATH")
            .as_deref()
            .unwrap_or(OsStr::new("/bin")),
    );
    // If one command hangs, all end.
    let bound = BOUND.as_secs().to_string();
    let output = Command::new("timeout")
        .args([&bound, "bash", "--norc", "-c", &script])
        .current_dir(sandbox.root())
        .env("PATH", path)
        .env("LC_ALL", "C")
        .env_remove("ATOMWRITE_SYNC")
        .env_remove("VERSION_CONTROL")
        .env_remove("SIMPLE_BACKUP_SUFFIX")
        // The options of the make that runs the tests are not for the make in an example.
        .env_remove("MAKEFLAGS")
        .env_remove("MAKELEVEL")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    let mut parts: Vec<String> = printed.split(BORDER).map(str::to_owned).collect();
    assert_eq!(parts.pop().as_deref(), Some(""), "{printed}");
    parts
}

/// Replaces what stands in the last parentheses by dots.
fn without_parenthesis(text: &str) -> String {
    match (text.rfind('('), text.rfind(')')) {
        (Some(open), Some(close)) if open < close => {
            format!("{}(...){}", &text[..open], &text[close + 1..])
        }
        _ => text.to_owned(),
    }
}
