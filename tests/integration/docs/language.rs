//! All that people read is in plain technical English: none of the words that this project once
//! used in their place is left. People read the documents, the help, and in sources and scripts the
//! comments, messages and names.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::harness::{binary, needs_tool};

/// The files and directories that people read.
const READ: [&str; 18] = [
    ".ci",
    ".github",
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "Cargo.toml",
    "Makefile",
    "README.md",
    "RELEASING.md",
    "SECURITY.md",
    "benches",
    "completions",
    "docs",
    "man",
    "packaging",
    "src",
    "tests",
    "torture",
];

/// Files and directories that are left out, and why.
const LEFT_OUT: [(&str, &str); 4] = [
    ("docs/language.rs", "has the words"),
    ("debian/copyright", "has the text of a license"),
    ("results", "is made from the strings of a source"),
    ("target", "is made by the compiler"),
];

/// Phrases that have such a word, and why they stay.
const ALLOWED: [(&str, &str); 8] = [
    ("NOBODY", USER_NOBODY),
    ("by_nobody", USER_NOBODY),
    ("user nobody", USER_NOBODY),
    ("-u nobody", USER_NOBODY),
    ("\"nobody\"", USER_NOBODY),
    ("nobody:", USER_NOBODY),
    ("\nnobody | ", USER_NOBODY),
    (
        "<!-- make torture: all from here",
        "the results below are made from the strings of a source",
    ),
];
const USER_NOBODY: &str = "a user has that name";

/// Words that must not be used, as regular expressions for grep -E, and what to say instead.
const WORDS: [(&str, &str); 15] = [
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
    (
        r"\bhalf a file\b|\bhalf of (it|them)\b|\bhalf is\b",
        "partial file",
    ),
    (r"\buntouched\b", "unchanged"),
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
    (
        r"\btold\b|\bstrangers?\b|\bcrowds?\b",
        "reported, another user, concurrent writers",
    ),
];

#[test]
fn all_that_people_read_uses_plain_words() {
    needs_tool!("grep");
    let top = Path::new(env!("CARGO_MANIFEST_DIR"));
    let help = Command::new(binary()).arg("--help").output().unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    let mut lines = named("--help", &prose(&help));
    for file in READ.iter().flat_map(|name| files(&top.join(name))) {
        let text = without_allowed(&fs::read_to_string(&file).unwrap());
        let text = if is_prose(&file) {
            prose(&text)
        } else {
            comments_and_code(&text)
        };
        let name = file.strip_prefix(top).unwrap();
        lines += &named(&name.to_string_lossy(), &text);
    }
    let found = WORDS.iter().flat_map(|(word, instead)| {
        let hits = grep(word, &lines);
        hits.into_iter()
            .map(move |hit| format!("say: {instead}: {hit}"))
    });
    let found: Vec<String> = found.collect();
    assert!(found.is_empty(), "{}", found.join("\n"));
}

/// Puts the name of its file before each line.
fn named(file: &str, text: &str) -> String {
    let lines = text.lines().filter(|line| !line.is_empty());
    lines.fold(String::new(), |named, line| {
        named + file + ": " + line + "\n"
    })
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
        "DEST is untouched.",
        "It writes what it reads.",
        "It looks\nat DEST.",
        "the mode is that of DEST, and that of SOURCE",
        "A room for each.",
        "The user is told.",
    ];
    for ((word, _), sentence) in WORDS.iter().zip(sentences) {
        assert!(!grep(word, &prose(sentence)).is_empty(), "{sentence}");
    }
}

/// Returns a file, or all files of a directory that are text.
fn files(path: &Path) -> Vec<PathBuf> {
    if LEFT_OUT
        .iter()
        .any(|(left_out, _)| path.ends_with(left_out))
    {
        return Vec::new();
    }
    if path.is_dir() {
        let entries = fs::read_dir(path).unwrap();
        return entries
            .flat_map(|entry| files(&entry.unwrap().path()))
            .collect();
    }
    let is_picture = path.extension().is_some_and(|extension| extension == "svg");
    Vec::from_iter((!is_picture).then(|| path.to_owned()))
}

fn is_prose(file: &Path) -> bool {
    let extension = file.extension().and_then(|extension| extension.to_str());
    matches!(extension, Some("md" | "1" | "roff"))
}

fn without_allowed(text: &str) -> String {
    let (text, _) = text
        .split_once("<!-- make torture: all from here")
        .unwrap_or((text, ""));
    let mut text = text.to_owned();
    for (phrase, _) in ALLOWED {
        text = text.replace(phrase, "X");
    }
    text
}

/// Puts each comment of a source or script on a line, and each line of code, with the words of its
/// names set apart.
fn comments_and_code(text: &str) -> String {
    let mut joined = String::new();
    let mut was_comment = false;
    for line in text.lines().map(str::trim) {
        let comment = ["///", "//!", "//", "#"]
            .iter()
            .find_map(|marker| line.strip_prefix(marker));
        let continues = was_comment && comment.is_some() || joined.ends_with('\\');
        joined.push(if continues { ' ' } else { '\n' });
        joined.push_str(comment.map_or(line, str::trim));
        was_comment = comment.is_some();
    }
    joined.replace("\\ ", "").replace('_', " ")
}

/// Puts each paragraph of a document on a line, without code in backquotes and without the macros
/// and escapes of roff.
fn prose(text: &str) -> String {
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

/// Returns the lines that match.
fn grep(pattern: &str, text: &str) -> Vec<String> {
    let mut grep = Command::new("grep")
        .args(["-E", "-i", "-e", pattern])
        .env("LC_ALL", "C")
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
