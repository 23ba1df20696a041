//! The completions, as clap_complete makes them, and better where it knows less than the shell could do.
//!
//! The rule: files where an operand stands, commands after `DEST --`, an option's values where it has some, and nothing
//! anywhere else.

use clap::Command;
use clap::builder::PossibleValue;
use clap_complete::{Generator, Shell, generate};

use crate::cli;

/// The options whose value, if they have one, comes after an equals sign.
const OPTIONAL: [&str; 2] = ["backup", "inplace"];

/// Each shell's script, by the file name that the shell expects.
pub(super) fn all() -> Vec<(String, String)> {
    let table = table();
    let script = |shell: Shell, improve: fn(String) -> String| {
        let mut script = Vec::new();
        generate(shell, &mut table.clone(), "atomwrite", &mut script);
        let script = String::from_utf8(script).expect("names and help are text");
        (shell.file_name("atomwrite"), improve(script))
    };
    vec![
        script(Shell::Bash, better_bash),
        script(Shell::Elvish, |script| script),
        script(Shell::Fish, better_fish),
        script(Shell::PowerShell, |script| script),
        script(Shell::Zsh, better_zsh),
    ]
}

/// The table, with what people are told in other words.
fn table() -> Command {
    let controls = [
        ("none", "No backup"),
        ("simple", "DEST~"),
        ("existing", "Numbered if there are such, else simple"),
        ("numbered", "DEST.~1~, DEST.~2~ and so on"),
    ];
    cli::command().mut_args(|argument| match argument.get_id().as_str() {
        "operands" => argument.hide(false),
        "backup" => {
            argument.value_parser(controls.map(|(name, help)| PossibleValue::new(name).help(help)))
        }
        _ => argument,
    })
}

/// Puts `new` in place of `old`, which must be there once.
fn replace(script: &mut String, old: &str, new: &str) {
    assert_eq!(
        script.matches(old).count(),
        1,
        "clap_complete's script has changed: {old}"
    );
    *script = script.replace(old, new);
}

/// Has bash offer files where an operand stands, commands and their words after `DEST --`, users to --owner, and values
/// after an equals sign.
fn better_bash(mut script: String) -> String {
    replace(
        &mut script,
        "    prev=\"$3\"\n",
        r#"    prev="$3"
    # To bash, '--sync=none' is three words.
    if [[ ${prev} == "=" ]]; then
        prev="${COMP_WORDS[COMP_CWORD-2]}"
    elif [[ ${cur} == "=" ]]; then
        cur=""
    elif [[ ${prev} == -b || ${prev} == --backup || ${prev} == --inplace ]]; then
        # Their value comes after an equals sign, or not at all.
        prev=""
    fi
    # After DEST and '--' comes COMMAND, with words of its own; but not with -t.
    local dest=""
    for ((i = 1; i < COMP_CWORD; i++)); do
        case "${COMP_WORDS[i]}" in
            --)
                [[ ${dest} ]] || break
                if declare -F _comp_command_offset >/dev/null; then
                    _comp_command_offset $((i + 1))
                elif declare -F _command_offset >/dev/null; then
                    _command_offset $((i + 1))
                elif ((i + 1 == COMP_CWORD)); then
                    COMPREPLY=($(compgen -c -- "${cur}"))
                fi
                return 0
                ;;
            -t*|--target-directory*)
                break
                ;;
            =)
                ((i++))
                ;;
            -*)
                ;;
            *)
                dest="${COMP_WORDS[i]}"
                ;;
        esac
    done
"#,
    );
    replace(&mut script, " || ${COMP_CWORD} -eq 1 ]]", " ]]");
    // Nothing to offer: bash then offers files.
    replace(
        &mut script,
        "            esac\n            COMPREPLY=( $(compgen -W \"${opts}\" -- \"${cur}\") )\n",
        "            esac\n",
    );
    for option in ["-o", "--owner"] {
        let offering = |offer: &str| {
            format!("{option})\n                    COMPREPLY=($(compgen {offer}\"${{cur}}\"))")
        };
        replace(&mut script, &offering("-f "), &offering("-u -- "));
    }
    // Directories and nothing else: without a match, bash would offer files.
    for option in ["-t", "--target-directory"] {
        let case = |offer: &str| format!("                {option})\n{offer}");
        replace(
            &mut script,
            &case(
                r#"                    COMPREPLY=()
                    if [[ "${BASH_VERSINFO[0]}" -ge 4 ]]; then
                        compopt -o plusdirs
                    fi
"#,
            ),
            &case(
                r#"                    local IFS=$'\n'
                    COMPREPLY=($(compgen -d -- "${cur}"))
                    [[ ${COMPREPLY[*]} ]] || compopt +o default
                    compopt -o filenames
"#,
            ),
        );
    }
    replace(
        &mut script,
        "--validate)\n                    COMPREPLY=($(compgen -f \"${cur}\"))",
        "--validate)\n                    COMPREPLY=($(compgen -c -- \"${cur}\"))",
    );
    script
}

/// Has zsh offer commands and their words after `DEST --`, and values of some options only after an equals sign.
fn better_zsh(mut script: String) -> String {
    replace(
        &mut script,
        "_atomwrite() {\n",
        r#"_atomwrite() {
    # After DEST and '--' comes COMMAND, with words of its own; but not with -t.
    local -i at=${words[(i)--]}
    if (( at < CURRENT )) && [[ -n ${(M)words[2,at-1]:#[^-]*} ]] &&
        [[ -z ${(M)words[2,at-1]:#(-t|--target-directory)*} ]]; then
        words=("${(@)words[at+1,-1]}")
        (( CURRENT -= at ))
        _normal
        return
    fi

"#,
    );
    for option in OPTIONAL {
        let start = |end: &str| format!("'--{option}={end}[");
        replace(&mut script, &start(""), &start("-"));
    }
    // -b has no value at all.
    let (before, option) = script.split_once("'-b+[").expect("-b is there");
    let (help, value) = option.split_once("]::").expect("clap gives it a value");
    let (_, after) = value.split_once("))'").expect("which is one of some");
    format!("{before}'-b[{help}]'{after}")
}

/// Has fish offer commands and their words after `DEST --`, and values of some options only after an equals sign.
fn better_fish(mut script: String) -> String {
    for option in OPTIONAL {
        let option = script
            .find(&format!(" -l {option} "))
            .expect("it is there, in a line of its own");
        let value = " -r -f -a ";
        let value_follows = option + script[option..].find(value).expect("clap gives it a value");
        script.replace_range(value_follows..value_follows + value.len(), " -f -a ");
    }
    script.insert_str(
        0,
        r"# After DEST and '--' comes COMMAND, with words of its own; but not with -t.
function __atomwrite_command
    set -l words (commandline -opc)
    set -l at (contains -i -- -- $words)
    and test $at -gt 2
    and string match -qr '^[^-]' -- $words[2..(math $at - 1)]
    and not string match -qr '^(-t|--target-directory)' -- $words[2..(math $at - 1)]
    or return
    set -e words[1..$at]
    # One word alone is no failure.
    string join ' ' -- (string escape -- $words) (commandline -ct)
    or true
end
complete -c atomwrite -n __atomwrite_command -x -a '(complete -C (__atomwrite_command))'
",
    );
    script
}
