//! The grammar of random command lines, both plausible and absurd.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

/// Every option, and values for it: for most, such as it takes and such as it does not.
pub(super) const OPTIONS: [(&str, &[&str]); 39] = [
    ("--append", &[]),
    ("--command", COMMAND_STRINGS),
    ("-c", COMMAND_STRINGS),
    ("--lock", &["0", "0.1", "x", ""]),
    ("--no-clobber", &[]),
    ("--allow-empty", &[]),
    ("--no-empty", &[]),
    (
        "--min-size",
        &["0", "1", "3k", "1KiB", "1MB", "x", "-1", ""],
    ),
    (
        "--sha256",
        &[
            "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03",
            "5891",
            "",
            "x",
        ],
    ),
    (
        "--validate",
        &[
            "true",
            "false",
            "exit 9",
            "cat >/dev/null",
            "grep -q x \"$1\"",
            "kill $$",
            "no-such-program",
            "",
        ],
    ),
    (
        "--validate-all",
        &[
            "true",
            "false",
            "cat \"$1\"/* >/dev/null 2>&1",
            "kill $$",
            "no-such-program",
            "",
        ],
    ),
    ("--compare", &[]),
    (
        "--unchanged-status",
        &["0", "10", "255", "256", "-1", "x", ""],
    ),
    ("--keep", &["try", "all", "none", "some", ""]),
    (
        "--mode",
        &[
            "644",
            "0",
            "4755",
            "u=rw,go=",
            "g+X",
            "=",
            "u+s,+t",
            "999",
            "u",
            "",
            "77777777777777777777",
        ],
    ),
    (
        "--owner",
        &[
            "root",
            "0",
            "nobody",
            "root:root",
            "root:",
            ":root",
            ":",
            "nobody:no-such-group",
            "no-such-user",
            "-1",
            "4294967295",
            "4294967296",
            "",
        ],
    ),
    (
        "--group",
        &["root", "0", "nogroup", "no-such-group", "-1", ""],
    ),
    ("--preserve-timestamps", &[]),
    ("--no-dereference", &[]),
    ("--force", &[]),
    ("--create-dirs", &[]),
    (
        "--backup",
        &[
            "none", "off", "simple", "never", "numbered", "t", "existing", "nil", "all", "", "num",
        ],
    ),
    ("--suffix", &[".bak", "~", "x", "/", "a/b", "", "\u{e4}"]),
    ("--sync", &["none", "file", "full", "half", ""]),
    ("--fsync", &[]),
    ("--no-fsync", &[]),
    ("--inplace", &["never", "auto", "always", "maybe", ""]),
    ("--progress", &[]),
    ("--verbose", &[]),
    ("--quiet", &[]),
    ("--help", &[]),
    ("--version", &[]),
    ("--target-directory", &["dir", "none", "o", ""]),
    ("--files-from", &["list", "-", "none", ""]),
    ("--files0-from", &["list", "-", "none", ""]),
    ("-t", &["dir", "none"]),
    ("-m", &["600", "a=r", "-x"]),
    ("-S", &[".orig", "-", "--"]),
    ("-b", &[]),
];

const COMMAND_STRINGS: &[&str] = &[
    "echo x",
    "echo x | false",
    "false | cat",
    "cat",
    "exit 7",
    "kill -9 $$",
    "no-such-program",
    "",
];

/// Letters that may stand together.
const LETTERS: [&str; 13] = [
    "a", "n", "C", "p", "f", "D", "b", "v", "q", "h", "V", "z", "-",
];

/// What is in the directory, and what is not.
const OPERANDS: [&str; 16] = [
    "o",
    "src",
    "empty",
    "link",
    "dangling",
    "loop",
    "socket",
    "dir",
    "dir/o",
    "dir/",
    "new",
    "missing/new",
    "-",
    "./-",
    "",
    "readonly",
];

const COMMANDS: [&[&str]; 9] = [
    &["true"],
    &["false"],
    &["echo", "x"],
    &["cat"],
    &["sh", "-c", "echo x; exit 7"],
    &["sh", "-c", "kill -9 $$"],
    &["no-such-program"],
    &["./src"],
    &[],
];

/// One call: its words but the first, its stdin, and what its environment says.
#[derive(Debug, Clone)]
pub(super) struct Call {
    pub(super) words: Vec<OsString>,
    pub(super) stdin: Stdin,
    pub(super) environment: Vec<(&'static str, OsString)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stdin {
    Closed,
    Empty,
    Short,
    Long,
    Directory,
}

fn owned(words: &[&str]) -> Vec<OsString> {
    words.iter().map(OsString::from).collect()
}

/// Bytes that are no path to the outside: no NUL, no '/', and not "..".
fn garbage() -> impl Strategy<Value = OsString> {
    let byte = prop_oneof![3 => select(&b"-=~,.+%\n\t abcdefxX0o17"[..]), 1 => 1_u8..];
    vec(byte, 0..12)
        .prop_map(|bytes| {
            bytes
                .into_iter()
                .filter(|byte| *byte != b'/')
                .collect::<Vec<u8>>()
        })
        .prop_filter("it leads out", |bytes| bytes != b"..")
        .prop_map(OsString::from_vec)
}

fn option() -> impl Strategy<Value = Vec<OsString>> {
    // These are programs: no garbage for them.
    let plain = select(&OPTIONS[..]).prop_flat_map(|(name, values)| {
        let takes_garbage = !values.is_empty()
            && !name.starts_with("--validate")
            && !["--command", "-c"].contains(&name);
        let from: Vec<OsString> = owned(values);
        let value = if from.is_empty() {
            Just(None).boxed()
        } else {
            select(from).prop_map(Some).boxed()
        };
        let value = if takes_garbage {
            prop_oneof![6 => value, 1 => garbage().prop_map(Some)].boxed()
        } else {
            value
        };
        (value, 0..8).prop_map(move |(value, how)| {
            let mut word = OsString::from(name);
            match (value, how) {
                // Given to one that takes none, or forgotten.
                (None, 1) => {
                    word.push("=x");
                    vec![word]
                }
                (None, _) | (_, 0) => vec![word],
                (Some(value), 1..4) => vec![word, value],
                (Some(value), _) => {
                    word.push(if name.starts_with("--") { "=" } else { "" });
                    word.push(value);
                    vec![word]
                }
            }
        })
    });
    let letters = vec(select(&LETTERS[..]), 1..4)
        .prop_map(|letters| vec![OsString::from(format!("-{}", letters.concat()))]);
    let rubbish = garbage().prop_map(|garbage| {
        let mut word = OsString::from("--");
        word.push(garbage);
        vec![word]
    });
    prop_oneof![12 => plain, 2 => letters, 1 => rubbish]
}

/// Options, operands and a command in any order.
pub(super) fn call() -> impl Strategy<Value = Call> {
    let operand = prop_oneof![8 => select(&OPERANDS[..]).prop_map(OsString::from), 1 => garbage()];
    let operands = vec(operand, 0..4).prop_map(|mut operands| {
        // Mostly one, which is DEST.
        operands.truncate(3);
        operands
    });
    let command = prop_oneof![3 => Just(None), 1 => select(&COMMANDS[..]).prop_map(Some)];
    let stdin = select(
        &[
            Stdin::Closed,
            Stdin::Empty,
            Stdin::Short,
            Stdin::Short,
            Stdin::Long,
            Stdin::Directory,
        ][..],
    );
    let variable = |name: &'static str, values: &'static [&'static str]| {
        let value = prop_oneof![3 => select(values).prop_map(OsString::from), 1 => garbage()];
        prop_oneof![6 => Just(None), 1 => value.prop_map(move |value| Some((name, value)))]
    };
    let environment = (
        variable("ATOMWRITE_SYNC", &["none", "file", "full", "", "x"]),
        variable("VERSION_CONTROL", &["none", "simple", "t", "nil", "", "x"]),
        variable("SIMPLE_BACKUP_SUFFIX", &[".bak", "", "/", "a/b"]),
    );
    (
        vec(option(), 0..5),
        operands,
        command,
        stdin,
        environment,
        any::<u64>(),
    )
        .prop_map(
            |(options, operands, command, stdin, (sync, control, suffix), order)| {
                let mut words = Vec::new();
                let mut operands = operands.into_iter();
                for (at, option) in options.into_iter().enumerate() {
                    // An operand between the options, for some.
                    if (order >> at).trailing_zeros() >= 2 {
                        words.extend(operands.next());
                    }
                    words.extend(option);
                }
                words.extend(operands);
                if let Some(command) = command {
                    words.push("--".into());
                    words.extend(owned(command));
                }
                Call {
                    words,
                    stdin,
                    environment: [sync, control, suffix].into_iter().flatten().collect(),
                }
            },
        )
}

/// Strings for `--mode`: such as chmod(1) takes, and such as it nearly takes.
pub(super) fn mode() -> impl Strategy<Value = OsString> {
    let clause = "[ugoa]{0,3}([-+=]([rwxXst]{0,4}|[ugo]|[0-7]{1,5})){1,3}";
    let clauses = format!("{clause}(,{clause}){{0,2}}");
    prop_oneof![
        4 => proptest::string::string_regex(&clauses).expect("it is a regular expression").prop_map(OsString::from),
        2 => "[0-8]{1,6}".prop_map(OsString::from),
        2 => "[-+=,ugoarwxXst0-9 ]{0,8}".prop_map(OsString::from),
        1 => garbage(),
    ]
}

/// Strings for `--suffix` and for the variables of backups.
pub(super) fn suffix() -> impl Strategy<Value = OsString> {
    prop_oneof![
        2 => "[a-z~.]{0,4}".prop_map(OsString::from),
        1 => "[/a]{1,3}".prop_map(OsString::from),
        // Well below what a name can be, and above: in between cp cuts it, at a length of its own.
        1 => prop_oneof![100_usize..200, 255_usize..260].prop_map(|long| OsString::from("x".repeat(long))),
        2 => garbage(),
    ]
}

/// Returns whether an option has been named in the grammar.
pub(super) fn is_known(option: &str) -> bool {
    OPTIONS.iter().any(|(name, _)| *name == option)
}

/// As a shell would take it.
pub(super) fn shown(words: &[OsString]) -> String {
    let word = |word: &OsString| format!("$'{}'", OsStr::as_bytes(word).escape_ascii());
    words.iter().map(word).collect::<Vec<_>>().join(" ")
}
