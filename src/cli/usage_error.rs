//! Usage errors, in one line each.
//!
//! A message names the wrong word, and what would be right. clap finds the word; this module
//! words the message, with hints for habits from other programs: `-o FILE`, a COMMAND without `--`,
//! `-verbose`.

use std::error::Error as _;
use std::ffi::OsString;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, ArgMatches, CommandFactory};

use super::{Args, EarlyExit, summary};
use crate::message::{Escaped, Quoted};

/// Turns clap's error into one line. `words` are those that clap has parsed.
pub(super) fn early_exit(error: &clap::Error, words: &[OsString]) -> EarlyExit {
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            EarlyExit::Text(text(&error.render().to_string()))
        }
        _ => EarlyExit::Usage(with_help(&explain(error, words))),
    }
}

pub(super) fn with_help(problem: &str) -> String {
    format!("{problem} (see 'atomwrite --help')")
}

/// Explains that there is no operand. `words` are those before any `--`.
pub(super) fn no_destination(words: &[OsString]) -> String {
    let taken = match words {
        [_, .., option, value] => option_named(option)
            .filter(|option| !option.is_require_equals_set())
            .and_then(|option| {
                let placeholder = option.get_value_names()?.first()?;
                Some((value, placeholder.clone(), option.get_long()?.to_owned()))
            }),
        _ => None,
    };
    match taken {
        Some((value, placeholder, option)) => format!(
            "DEST is missing: {} was read as the {placeholder} of --{option}; name the file to write without an option",
            Quoted(value)
        ),
        None => "DEST is missing: name the file to write".to_owned(),
    }
}

/// Returns the option that a word names: a long one, or the last letter of short ones.
fn option_named(word: &OsString) -> Option<Arg> {
    let word = word.to_str()?;
    let table = Args::command();
    let is_named = |option: &&Arg| match word.strip_prefix("--") {
        Some(long) => option.get_long() == Some(long),
        None => word.starts_with('-') && option.get_short() == word.chars().last(),
    };
    table.get_arguments().find(is_named).cloned()
}

/// Returns the text that clap has rendered, or our own summary for `-h`.
fn text(rendered: &str) -> String {
    if rendered == Args::command().render_help().to_string() {
        return summary();
    }
    rendered.to_owned()
}

fn explain(error: &clap::Error, words: &[OsString]) -> String {
    let argument = string(error.get(ContextKind::InvalidArg)).unwrap_or_default();
    // As clap shows it: `--sync <WHAT>`, `--inplace[=<WHEN>]`.
    let option = argument.split([' ', '[']).next().unwrap_or_default();
    let value = string(error.get(ContextKind::InvalidValue)).unwrap_or_default();
    let choice = strings(error.get(ContextKind::ValidValue)).map(|values| choice(&values));
    match error.kind() {
        ErrorKind::UnknownArgument => unknown(&argument, words),
        ErrorKind::InvalidValue if value.is_empty() => {
            let wanted = choice.unwrap_or_else(|| {
                let (_, placeholder) = argument.split_once('<').unwrap_or_default();
                placeholder.split('>').next().unwrap_or_default().to_owned()
            });
            format!("{option} needs a value: {wanted}")
        }
        ErrorKind::InvalidValue => {
            let wanted = choice.unwrap_or_default();
            let meant = suggestions(error, ContextKind::SuggestedValue);
            format!(
                "{option} cannot be {}: it must be {wanted}{}",
                Quoted::new(&value),
                did_you_mean(&meant)
            )
        }
        ErrorKind::ValueValidation => {
            let problem = error.source().map(ToString::to_string).unwrap_or_default();
            format!("{option} cannot be {}: {problem}", Quoted::new(&value))
        }
        ErrorKind::TooManyValues => {
            format!("{option} takes no value, and got {}", Quoted::new(&value))
        }
        _ => {
            let rendered = error.render().to_string();
            let line = rendered.lines().next().unwrap_or_default();
            Escaped(line.trim_start_matches("error: ")).to_string()
        }
    }
}

/// Options of other programs, and their equivalents here.
const SYNONYMS: [(&[&str], &str); 16] = [
    (
        &["--mkdir", "--mkdirs", "--make-dirs", "--parents"],
        "use -D to create missing directories",
    ),
    (
        &["--chmod", "--perms", "--permissions"],
        "use -m to set the mode",
    ),
    (&["--chown", "--user", "-u"], "use -o to set the owner"),
    (
        &["--check", "--verify", "--test"],
        "use --validate to check the content with a program",
    ),
    (
        &["--hash", "--checksum", "--digest", "--md5", "--sha1"],
        "use --sha256 to check the digest of the content",
    ),
    (
        &["--diff", "--if-changed", "--update"],
        "use -C to leave a DEST alone that already has the content",
    ),
    (
        &["--preserve"],
        "use --keep to choose which attributes of DEST are kept, or -p to preserve SOURCE's times",
    ),
    (
        &["--null", "-0"],
        "use --files0-from for names that end with NUL",
    ),
    (
        &["--recursive", "-r", "-R"],
        "use -t to write many files, or a symbolic link to replace a whole directory",
    ),
    (
        &["--exec", "--shell", "-e"],
        "use -c to run a shell pipeline, or put '--' and a COMMAND after DEST",
    ),
    (
        &["--timeout", "--wait", "-w"],
        "use --lock=SECONDS to limit the wait for the lock, or timeout(1) to limit the time of a COMMAND",
    ),
    (
        &["--tmpdir", "--temp-dir", "--tmp-dir"],
        "the temporary file is always in DEST's directory",
    ),
    (
        &["--dry-run"],
        "there is no dry run; use --validate to inspect the content and refuse it",
    ),
    (
        &["--atomic", "--durable", "--overwrite"],
        "omit it, because that is the default",
    ),
    (
        &["--backup-dir"],
        "a backup is always in DEST's directory; use -S to set its suffix",
    ),
    (&["--silent"], "use -q to suppress warnings"),
];

/// Explains an unknown option, with what may have been meant.
fn unknown(argument: &str, words: &[OsString]) -> String {
    let (before, word, after) = around_offending_word(words);
    let word = word.to_string_lossy();
    let is_short = !argument.starts_with("--");
    if let Some(suffix) = word.strip_prefix("-b").filter(|_| argument == "-.") {
        return format!(
            "-b takes no value, and got {}; use -S {suffix} to set the suffix of a backup",
            Quoted::new(suffix)
        );
    }
    let line = if is_short && word != argument {
        format!(
            "unknown option {} in {}",
            Quoted::new(argument),
            Quoted::new(word.as_ref())
        )
    } else {
        format!("unknown option {}", Quoted::new(argument))
    };
    let long = format!("-{word}");
    if argument == "-O" || argument.starts_with("--out") {
        return line + "; name the file to write without an option";
    }
    let mut meant = Vec::new();
    if is_short && option_named(&OsString::from(&long)).is_some() {
        meant.push(Quoted::new(&long).to_string());
    }
    if !is_short {
        meant.extend(spelled_alike(argument));
    }
    let synonym = SYNONYMS.iter().find(|(names, _)| names.contains(&argument));
    // `atomwrite DEST curl --silent URL`, but not `atomwrite SOURCE DEST --mkdir`.
    if operands(before) > 1 && (is_short || synonym.is_none() || !after.is_empty()) {
        meant.push("'--' before a COMMAND".to_owned());
    }
    if meant.is_empty() {
        if let Some((_, advice)) = synonym {
            return format!("{line}; {advice}");
        }
        if is_short && word.contains('.') {
            let path = format!("./{word}");
            return format!("{line}; use {} for a file of that name", Quoted::new(&path));
        }
    }
    line + &did_you_mean(&meant)
}

/// Returns the long options that differ from a word in one letter, or in the order of two.
fn spelled_alike(word: &str) -> Vec<String> {
    let table = Args::command();
    let names = table.get_arguments().filter_map(Arg::get_long);
    let names = names.map(|name| format!("--{name}"));
    names
        .filter(|name| differ_little(word.as_bytes(), name.as_bytes()))
        .map(|name| Quoted::new(&name).to_string())
        .collect()
}

fn differ_little(one: &[u8], other: &[u8]) -> bool {
    let pairs = || one.iter().zip(other);
    let front = pairs().take_while(|(a, b)| a == b).count();
    match (&one[front..], &other[front..]) {
        ([_, rest @ ..], whole) | (whole, [_, rest @ ..]) if rest == whole => true,
        ([_, a @ ..], [_, b @ ..]) if a == b => true,
        ([a, b, rest @ ..], [c, d, others @ ..]) => a == d && b == c && rest == others,
        _ => false,
    }
}

/// Returns the word with the unknown option, and the words before and after it.
fn around_offending_word(words: &[OsString]) -> (&[OsString], OsString, &[OsString]) {
    let ends: Vec<usize> = (0..words.len()).collect();
    let is_known = |&end: &usize| {
        read(&words[..=end])
            .map_or_else(|error| error.kind() != ErrorKind::UnknownArgument, |_| true)
    };
    let (before, rest) = words.split_at(ends.partition_point(is_known));
    let (word, after) = rest
        .split_first()
        .map_or((None, rest), |(word, after)| (Some(word), after));
    (before, word.cloned().unwrap_or_default(), after)
}

/// Returns the number of operands among these words, if one may be DEST.
fn operands(words: &[OsString]) -> usize {
    let operands = read(words).ok().and_then(|matches| {
        let operands = matches.get_many::<OsString>("operands")?;
        (!matches.contains_id("target_directory")).then_some(operands.len())
    });
    operands.unwrap_or(0)
}

fn read(words: &[OsString]) -> Result<ArgMatches, clap::Error> {
    Args::command().try_get_matches_from(words)
}

fn suggestions(error: &clap::Error, kind: ContextKind) -> Vec<String> {
    let similar = strings(error.get(kind)).unwrap_or_default();
    let quoted = |word| Quoted::new(word).to_string();
    similar.iter().map(quoted).collect()
}

fn did_you_mean(meant: &[String]) -> String {
    match meant {
        [] => String::new(),
        meant => format!("; did you mean {}?", choice(meant)),
    }
}

/// Joins alternatives with commas and "or".
fn choice(values: &[String]) -> String {
    match values {
        [one] => one.clone(),
        [some @ .., last] => format!("{} or {last}", some.join(", ")),
        [] => String::new(),
    }
}

fn string(value: Option<&ContextValue>) -> Option<String> {
    strings(value)?.into_iter().next()
}

fn strings(value: Option<&ContextValue>) -> Option<Vec<String>> {
    match value? {
        ContextValue::String(text) => Some(vec![text.clone()]),
        ContextValue::Strings(texts) if !texts.is_empty() => Some(texts.clone()),
        _ => None,
    }
}
