//! The completions: clap_complete's, with improvements where a shell can do more than clap_complete
//! knows. bash's script is our own, because too little of clap_complete's would remain.
//!
//! Invariant: the completions offer files for operands, commands and their own completions after
//! `DEST --`, the values of options that have a fixed set, and nothing else.
//! tests/integration/cli/completions.rs tests them in the shells.

use clap::builder::PossibleValue;
use clap::{Arg, Command, ValueHint};
use clap_complete::{Shell, generate};

use crate::cli;

/// bash's script, with placeholders in braces for what comes from the table.
const BASH: &str = include_str!("atomwrite.bash");

/// Returns each shell's script, with the file name that the shell expects.
pub(super) fn all() -> Vec<(&'static str, String)> {
    let table = table();
    let script = |shell: Shell| {
        let mut script = Vec::new();
        generate(shell, &mut table.clone(), "atomwrite", &mut script);
        String::from_utf8(script).expect("names and help are text")
    };
    vec![
        ("atomwrite.bash", bash(&table)),
        ("atomwrite.elv", script(Shell::Elvish)),
        ("atomwrite.fish", better_fish(script(Shell::Fish), &table)),
        ("_atomwrite.ps1", script(Shell::PowerShell)),
        ("_atomwrite", better_zsh(script(Shell::Zsh), &table)),
    ]
}

/// Returns the table, with changes for the completions.
fn table() -> Command {
    let controls = [
        ("none", "No backup"),
        ("simple", "DEST~"),
        ("existing", "Numbered if there are such, else simple"),
        ("numbered", "DEST.~1~, DEST.~2~ and so on"),
    ];
    cli::command().mut_args(|argument| match argument.get_id().as_str() {
        "operands" => argument.hide(false),
        // A colon would end the name in zsh.
        "owner" => argument.value_name("USER"),
        "backup" => {
            argument.value_parser(controls.map(|(name, help)| PossibleValue::new(name).help(help)))
        }
        _ => argument,
    })
}

/// Returns an option's names as they are typed, the short one first.
fn names(option: &Arg) -> Vec<String> {
    let short = option.get_short().map(|letter| format!("-{letter}"));
    let long = option.get_long().map(|name| format!("--{name}"));
    short.into_iter().chain(long).collect()
}

fn options(table: &Command) -> impl Iterator<Item = &Arg> {
    table
        .get_arguments()
        .filter(|argument| !argument.is_positional())
}

/// Returns the options whose value may be the next word.
fn with_value(table: &Command) -> impl Iterator<Item = &Arg> {
    options(table)
        .filter(|option| option.get_action().takes_values() && !option.is_require_equals_set())
}

/// Returns the options whose value, if any, comes after an equals sign.
fn with_optional_value(table: &Command) -> impl Iterator<Item = &str> {
    options(table)
        .filter(|option| option.is_require_equals_set())
        .map(|option| option.get_long().expect("it has a long name"))
}

/// Returns the letters of the options whose value may be the next word, or the rest of this one.
fn letters(table: &Command) -> String {
    with_value(table).filter_map(Arg::get_short).collect()
}

/// Returns the long names of the options whose value may be the next word.
fn long_names(table: &Command) -> Vec<String> {
    let names = with_value(table).filter_map(Arg::get_long);
    names.map(|name| format!("--{name}")).collect()
}

fn is_group(option: &Arg) -> bool {
    option.get_id() == "group"
}

/// Replaces `old`, which must occur once, with `new`.
fn replace(script: &mut String, old: &str, new: &str) {
    assert_eq!(
        script.matches(old).count(),
        1,
        "clap_complete's script has changed: {old}"
    );
    *script = script.replace(old, new);
}

/// Returns bash's script.
fn bash(table: &Command) -> String {
    let words: Vec<String> = options(table).flat_map(names).collect();
    let mut values = Vec::new();
    for option in options(table).filter(|option| option.get_action().takes_values()) {
        let offer = match option.get_value_hint() {
            // Completed like operands.
            ValueHint::FilePath => continue,
            ValueHint::DirPath => "_atomwrite_directories".to_owned(),
            ValueHint::Username => "_atomwrite_owners".to_owned(),
            _ => match bash_values(option) {
                Some(which) => format!("COMPREPLY=($(compgen -P \"$prefix\" {which} -- \"$cur\"))"),
                None => ":".to_owned(),
            },
        };
        let names = names(option).join(" | ");
        values.push(format!("        {names}) {offer} ;;"));
    }
    let mut script = BASH.to_owned();
    replace(&mut script, "{options}", &words.join(" "));
    replace(
        &mut script,
        "{long_with_value}",
        &long_names(table).join(" | "),
    );
    replace(&mut script, "{values}", &values.join("\n"));
    script.replace("{letters}", &letters(table))
}

/// Returns the arguments of bash's compgen; `None` for a value that cannot be completed.
fn bash_values(option: &Arg) -> Option<String> {
    let possible = option.get_possible_values();
    let possible: Vec<&str> = possible.iter().map(PossibleValue::get_name).collect();
    match option.get_value_hint() {
        _ if !possible.is_empty() => Some(format!("-W \"{}\"", possible.join(" "))),
        _ if is_group(option) => Some("-g".to_owned()),
        ValueHint::CommandString => Some("-c".to_owned()),
        _ => None,
    }
}

/// Makes zsh offer commands and their completions after `DEST --`, groups (also after `USER:`), and
/// values of some options only after an equals sign.
fn better_zsh(mut script: String, table: &Command) -> String {
    let reader = ZSH
        .replace("{letters}", &letters(table))
        .replace("{long_with_value}", &long_names(table).join("|"));
    replace(&mut script, "_atomwrite() {\n", &reader);
    // With two colons, zsh would offer no option after the first operand.
    replace(&mut script, "'*::operands ", "'*:operands ");
    for option in ["-g+", "--group="] {
        let (before, rest) = script
            .split_once(&format!("'{option}["))
            .expect("it is there");
        let rest = rest.replacen(":GROUP:'", ":GROUP:_groups'", 1);
        script = format!("{before}'{option}[{rest}");
    }
    script = script.replace(":USER:_users'", ":USER:_atomwrite_owners'");
    for option in with_optional_value(table) {
        let start = |end: &str| format!("'--{option}={end}[");
        replace(&mut script, &start(""), &start("-"));
    }
    // -b has no value.
    let (before, option) = script.split_once("'-b+[").expect("-b is there");
    let (help, value) = option.split_once("]::").expect("clap gives it a value");
    let (_, after) = value.split_once("))'").expect("which is one of some");
    format!("{before}'-b[{help}]'{after}")
}

/// The beginning of zsh's function, in which extendedglob is set.
const ZSH: &str = r#"_atomwrite_owners() {
    if compset -P '*:'; then
        _groups
    else
        _users
    fi
}

_atomwrite() {
    # After DEST and '--' comes COMMAND, with words of its own; but not with -t or -c.
    local ended
    local -i i operands
    for (( i = 2; i < CURRENT; i++ )); do
        case $ended$words[i] in
            (--|ended--)
                if (( operands == 1 )); then
                    words=("${(@)words[i+1,-1]}")
                    (( CURRENT -= i ))
                    _normal
                    return
                fi
                ended=ended
                ;;
            (-[^-{letters}]#[ct]*|--target-directory*|--command*) break ;;
            ({long_with_value}|-[^-{letters}]#[{letters}]) (( i++ )) ;;
            (-?*) ;;
            (*) (( operands++ )) ;;
        esac
    done

"#;

/// Makes fish offer commands and their completions after `DEST --`, groups (also after `USER:`),
/// and values of some options only after an equals sign.
fn better_fish(mut script: String, table: &Command) -> String {
    for option in with_optional_value(table) {
        let start = script
            .find(&format!(" -l {option} "))
            .expect("it is there, in a line of its own");
        let length = script[start..].find('\n').expect("a line ends");
        let mut line = script[start..start + length].to_owned();
        replace(&mut line, " -r -f", " -f");
        script.replace_range(start..start + length, &line);
    }
    replace(
        &mut script,
        "(__fish_complete_directories)",
        "(__atomwrite_directories)",
    );
    replace(
        &mut script,
        "(__fish_complete_users)",
        "(__atomwrite_owners)",
    );
    let group = script.lines().find(|line| line.contains(" -l group "));
    let group = group.expect("it is there, in a line of its own").to_owned();
    replace(
        &mut script,
        &group,
        &format!("{group} -a \"(__fish_complete_groups)\""),
    );
    let reader = FISH
        .replace("{letters}", &letters(table))
        .replace("{long_with_value}", &long_names(table).join(" "));
    reader + &script
}

/// Precedes fish's rules.
const FISH: &str = r#"# Prints COMMAND and its words, which come after DEST and '--'; but not with -t or -c.
function __atomwrite_command
    set -l words (commandline -opc)
    set -l ended
    set -l value
    set -l operands 0
    set -e words[1]
    while set -q words[1]
        set -l word $words[1]
        set -e words[1]
        if set -q value[1]
            set -e value[1]
            continue
        end
        if contains -- "$ended$word" -- ended--
            if test $operands -eq 1
                # One word alone is no failure.
                string join ' ' -- (string escape -- $words) (commandline -ct)
                or true
                return
            end
            set ended ended
            continue
        end
        switch "$ended$word"
            case '--target-directory*' '--command*'
                return 1
            case {long_with_value}
                set value follows
            case '--*'
            case '-?*'
                string match -qr '^-[^{letters}]*[ct]' -- $word
                and return 1
                string match -qr '^-[^{letters}]*[{letters}]$' -- $word
                and set value follows
            case '*'
                set operands (math $operands + 1)
        end
    end
    return 1
end
# Directories, for '-tDIR' too.
function __atomwrite_directories
    __fish_complete_directories (commandline -ct | string replace -r -- '^-[^-{letters}]*t' '')
end
# Users, and after a colon groups, for '-oUSER' and '--owner=USER' too.
function __atomwrite_owners
    set -l value (commandline -ct | string replace -r -- '^(-[^-{letters}]*o|--owner=)' '')
    set -l user (string match -r -- '^[^:]*:' $value)
    if set -q user[1]
        for group in (__fish_complete_groups)
            echo $user$group
        end
    else
        __fish_complete_users
    end
end
complete -c atomwrite -n __atomwrite_command -x -a '(complete -C (__atomwrite_command))'
"#;
