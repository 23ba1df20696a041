//! What users read is in plain technical English: none of the words that this project once used in
//! their place is left.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::harness::{binary, needs_tool};

/// The documents that are read, and the help.
const DOCUMENTS: [&str; 13] = [
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "README.md",
    "RELEASING.md",
    "SECURITY.md",
    "benches/README.md",
    "docs/guide.md",
    "docs/kernel-notes.md",
    "docs/sponge.md",
    "man/atomwrite.1",
    "packaging/README.md",
    "torture/machines/README.md",
];

/// Words that are not to be used, as regular expressions for grep -E, and what to say instead.
const WORDS: [(&str, &str); 13] = [
    (
        r"\b(no|some|any)body\b|\bwhoever\b",
        "no process, another process, a user who",
    ),
    (r"\bmeanwhile\b", "concurrently"),
    (
        r"\bshall\b|\b(is|are|has|have) to be\b|\bcannot be had\b",
        "must, can, is not available",
    ),
    (
        r"\bleftovers?\b|\bof the dead\b|\bhealed\b",
        "stale temporary file, and what removes it",
    ),
    (r"\b(a second|another) name (of|for) ", "hard link"),
    (
        r"\bfiles? without a name\b",
        "unnamed temporary file (O_TMPFILE)",
    ),
    (r"\bsignals? waits?\b", "signals are blocked"),
    (r"\breserv(e|es|ed|ing) (the )?space\b", "preallocate"),
    (r"\bhalf a file\b|\bhalf (of it )?is\b", "partial file"),
    (
        r"\bwhat it (has )?reads?\b|\bhow far it has come\b",
        "the input, progress",
    ),
    (r"\blook(s|ed)? at\b|\bsecond look\b", "checks"),
    (
        r"\b(that|those) of [^.;:|]*\b(that|those) of\b",
        "repeat the noun",
    ),
    (
        r"\b(rooms?|houses?|story|stories|shelf|shelves|judge[sd]?)\b",
        "module, project, pipeline, staging directory, check",
    ),
];

#[test]
fn documents_and_help_use_plain_words() {
    needs_tool!("grep");
    let top = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut texts: Vec<(&str, String)> = DOCUMENTS
        .iter()
        .map(|&name| (name, std::fs::read_to_string(top.join(name)).unwrap()))
        .collect();
    let help = Command::new(binary()).arg("--help").output().unwrap();
    texts.push(("--help", String::from_utf8(help.stdout).unwrap()));
    let mut found = Vec::new();
    for (name, text) in &texts {
        let text = paragraphs(text);
        for (word, instead) in WORDS {
            for hit in grep(&format!(".{{0,30}}({word}).{{0,30}}"), &text) {
                found.push(format!("{name}: \"{hit}\"; say: {instead}"));
            }
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn each_word_is_found_in_a_sentence_that_has_it() {
    needs_tool!("grep");
    let sentences: [&str; WORDS.len()] = [
        "Nobody reads it.",
        "DEST may change\nmeanwhile.",
        "It is to be\nsynced.",
        "A leftover stays.",
        "a second name for the file",
        "A file without a name is opened.",
        "signals wait until then",
        "It reserves the space.",
        "Readers see half a file.",
        "It writes what it reads.",
        "It looks\nat DEST.",
        "the mode is that of DEST, and that of SOURCE",
        "A room for each.",
    ];
    for ((word, _), sentence) in WORDS.iter().zip(sentences) {
        assert!(!grep(word, &paragraphs(sentence)).is_empty(), "{sentence}");
    }
}

/// Puts each paragraph on a line, without code in backquotes and without the macros and escapes of
/// roff.
fn paragraphs(text: &str) -> String {
    let mut joined = String::new();
    for line in text.lines() {
        let words = match line.strip_prefix('.') {
            Some(macro_line) => macro_line.split_once(' ').map_or("\n", |(_, words)| words),
            None if line.trim().is_empty() || line.starts_with(['*', '|', '#']) => {
                joined.push('\n');
                line
            }
            None => line,
        };
        joined.push_str(words.trim_start_matches(' '));
        joined.push(' ');
    }
    let prose: Vec<&str> = joined.split('`').step_by(2).collect();
    prose.join("X").replace("\\-", "-").replace("\\(aq", "'")
}

/// Returns the parts of lines that match.
fn grep(pattern: &str, text: &str) -> Vec<String> {
    let mut grep = Command::new("grep")
        .args(["-E", "-i", "-o", "-e", pattern])
        .env("LC_ALL", "C.UTF-8")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = grep.stdin.take().unwrap();
    let text = text.to_owned();
    let feeder = std::thread::spawn(move || drop(input.write_all(text.as_bytes())));
    let output = grep.wait_with_output().unwrap();
    feeder.join().unwrap();
    assert!(
        output.status.code().is_some_and(|code| code < 2),
        "{pattern}"
    );
    let hits = String::from_utf8_lossy(&output.stdout).into_owned();
    hits.lines().map(|hit| hit.trim().to_owned()).collect()
}
