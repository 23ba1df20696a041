//! No message of the source is missing in the tests.
//!
//! Messages are the string literals in src that have more than one word. For each, a test must
//! contain the longest piece between placeholders; that test has then seen the message come from
//! the real program. Messages that no test can provoke are listed here, with the reason.

use std::fs;
use std::path::{Path, PathBuf};

/// Messages that no test provokes, and why.
const UNSEEN: [(&str, &str); 10] = [
    (
        "interrupted by signal",
        "only if that signal cannot kill us",
    ),
    (
        "it is the same file as another one, because the directory ignores case",
        "only where names can be equal that differ in more than case",
    ),
    (
        "its name is the backup name of another one, because the directory ignores case",
        "only where names can be equal that differ in more than case",
    ),
    (
        "cannot stat the copy",
        "a copy that was just made and is open; torture fails that call",
    ),
    ("did not end", "a process that was waited for has ended"),
    (
        "the file may be new",
        "FUSE with a cache of names; torture has it",
    ),
    (
        "it has no name",
        "a file gets its name before it is renamed",
    ),
    (
        "the content is not the same",
        "the reason why DEST cannot be replaced is reported instead",
    ),
    ("(os error", "it is taken out of messages"),
    ("at path \"", "it is taken out of messages"),
];

#[test]
fn every_message_is_met_by_a_test() {
    let top = Path::new(env!("CARGO_MANIFEST_DIR"));
    let tests: String = rust_files(&top.join("tests/integration"))
        .iter()
        .filter(|file| !file.ends_with("vocabulary.rs"))
        .flat_map(|file| literals(&fs::read_to_string(file).unwrap()))
        .map(|literal| literal + "\n")
        .collect();
    let mut messages = 0;
    let mut missing = Vec::new();
    let mut gone = UNSEEN.map(|(unseen, _)| unseen).to_vec();
    for file in rust_files(&top.join("src")) {
        // The help, which other tests read, and what makes the manual.
        if file.ends_with("src/cli.rs") || file.to_string_lossy().contains("/generated") {
            continue;
        }
        let source = fs::read_to_string(&file).unwrap();
        for literal in literals(&source) {
            let words = longest_piece(&literal);
            if !words.contains(' ') {
                continue;
            }
            messages += 1;
            gone.retain(|unseen| *unseen != words);
            let is_unseen = UNSEEN.iter().any(|(unseen, _)| *unseen == words);
            if tests.contains(words) == is_unseen {
                missing.push(format!("{}: {words}", file.display()));
            }
        }
    }
    assert!(messages > 100, "where have all the messages gone?");
    assert!(
        missing.is_empty(),
        "no test reads these, or one that UNSEEN names:\n{}",
        missing.join("\n")
    );
    assert!(gone.is_empty(), "UNSEEN names what src does not: {gone:?}");
}

fn rust_files(directory: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files.sort();
    files
}

/// Returns the string literals of a file's own code, except those that only a programmer reads.
fn literals(source: &str) -> Vec<String> {
    let code = source.split("#[cfg(test)]\nmod tests").next().unwrap();
    let code: String = code
        .split_inclusive('\n')
        .filter(|line| !line.trim_start().starts_with("//"))
        .collect();
    let mut literals = Vec::new();
    let mut rest = code.as_str();
    while let Some((before, behind)) = rest.split_once('"') {
        // `'"'` is no beginning.
        if before.ends_with('\'') {
            rest = behind;
            continue;
        }
        let hashes = before.len() - before.trim_end_matches('#').len();
        let (literal, behind) = if before.trim_end_matches('#').ends_with('r') {
            let end = format!("\"{}", "#".repeat(hashes));
            let (literal, behind) = behind.split_once(&end).expect("a raw literal ends");
            (literal.to_owned(), behind)
        } else {
            unescape(behind)
        };
        let for_programmers = ["expect(", "unreachable!(", "must_use = ", "reason = "];
        if !for_programmers.iter().any(|word| before.ends_with(word)) {
            literals.push(literal);
        }
        rest = behind;
    }
    literals
}

/// Reads a literal to its end, and returns the rest of the text.
fn unescape(code: &str) -> (String, &str) {
    let mut literal = String::new();
    let mut letters = code.chars();
    loop {
        match letters.next().expect("a literal ends") {
            '"' => return (literal, letters.as_str()),
            '\\' => match letters.next().expect("something is escaped") {
                // It goes on in the next line.
                '\n' => letters = letters.as_str().trim_start().chars(),
                letter => literal.push(letter),
            },
            letter => literal.push(letter),
        }
    }
}

/// Returns the text between placeholders, without the punctuation around them.
fn longest_piece(literal: &str) -> &str {
    literal
        .split(['{', '}'])
        .step_by(2)
        .map(|piece| piece.trim_matches([' ', ';', ':', '\'', ',']))
        .max_by_key(|piece| piece.len())
        .unwrap_or_default()
}
