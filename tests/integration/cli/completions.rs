//! Completions, requested as a user does it: by a key, in a shell that finds them where `make
//! install` puts them.
//!
//! Every shell offers the same: all options; the values of an option in each form that takes one
//! (users, groups, files, directories, commands, words); files for an operand; commands after `DEST
//! --`, and then the command's own completion; and nothing anywhere else. A name with blanks or
//! quotes is completed to that name. Nothing is offered twice, and no shell complains.

use std::fs;
use std::path::Path;

use crate::cli::shells::{Fish, Machine, Shell};
use crate::harness::{binary, needs_tool, skip, tool};

/// Where Debian has it.
const BASH_COMPLETION: &str = "/usr/share/bash-completion/bash_completion";

#[test]
fn bash_offers_what_fits() {
    needs_tool!("bash", "make", "setsid");
    if !Path::new(BASH_COMPLETION).is_file() {
        skip!("needs bash-completion");
    }
    let machine = Machine::new();
    let shell = machine.bash(&format!("source {BASH_COMPLETION}"));
    offers_what_fits(&shell);
    offers_what_the_command_takes(&shell);
}

#[test]
fn bash_offers_what_fits_without_bash_completion() {
    needs_tool!("bash", "make", "setsid");
    let machine = Machine::new();
    // COMMAND's own completion, too, where the user has one.
    let shell = machine.bash(
        r#"source "$INSTALLED/bash-completion/completions/atomwrite"
        make_targets() {
            [[ $1 == make && ${COMP_WORDS[*]} == "make $2" && $COMP_CWORD == 1 && $3 == make ]] || return
            [[ $COMP_LINE == "make $2" && $COMP_POINT == ${#COMP_LINE} ]] || return
            COMPREPLY=($(compgen -W "release report" -- "$2"))
        }
        complete -o nospace -F make_targets make"#,
    );
    offers_what_fits(&shell);
    offers_what_the_command_takes(&shell);
    // A command without a completion takes files.
    shell.offers("some-file -- unshare", "some-f", &["some-file"]);
}

#[test]
fn bash_offers_groups_if_a_colon_does_not_end_a_word() {
    needs_tool!("bash", "make", "setsid");
    let machine = Machine::new();
    let shell = machine.bash(
        r#"source "$INSTALLED/bash-completion/completions/atomwrite"
        COMP_WORDBREAKS=${COMP_WORDBREAKS//:}"#,
    );
    offers_users_and_groups(&shell);
}

#[test]
fn zsh_offers_what_fits() {
    needs_tool!("zsh", "make", "setsid");
    let machine = Machine::new();
    let shell = machine.zsh();
    offers_what_fits(&shell);
    offers_what_the_command_takes(&shell);
    assert_eq!(fs::read_to_string(machine.errors()).unwrap(), "");
}

#[test]
fn fish_offers_what_fits() {
    needs_tool!("fish", "make");
    let machine = Machine::new();
    let shell = Fish::start(&machine);
    offers_what_fits(&shell);
    offers_what_the_command_takes(&shell);
    assert_eq!(fs::read_to_string(machine.errors()).unwrap(), "");
}

/// Checks what every shell must offer.
#[track_caller]
fn offers_what_fits(shell: &impl Shell) {
    offers_options(shell);
    offers_words(shell);
    offers_users_and_groups(shell);
    offers_directories(shell);
    offers_files_and_commands_for_values(shell);
    offers_nothing_where_no_value_can_be_guessed(shell);
    offers_files_for_operands(shell);
    offers_commands(shell);
}

#[track_caller]
fn offers_options(shell: &impl Shell) {
    let all = options_of_the_help();
    assert_eq!(shell.offered("", "-"), all);
    // zsh leaves out what has been given.
    let given = "-v --verbose -m --mode --sync -t --target-directory";
    let without_given = |mut options: Vec<String>| {
        options.retain(|option| !given.split(' ').any(|given| given == option));
        options
    };
    for before in ["-v", "--sync=none", "-m 600 some-file", "-t some-directory"] {
        let offered = shell.offered(before, "-");
        assert_eq!(
            without_given(offered),
            without_given(all.clone()),
            "after: {before}"
        );
    }
    shell.offers("", "--no-d", &["--no-dereference"]);
    shell.offers("some-file", "--fsy", &["--fsync"]);
    // `--` ends the options.
    shell.offers("--", "-", &[]);
}

#[track_caller]
fn offers_words(shell: &impl Shell) {
    for (option, values) in [
        ("--sync", &["file", "full", "none"][..]),
        ("--keep", &["all", "none", "try"]),
        ("--backup", &["existing", "none", "numbered", "simple"]),
        ("--inplace", &["always", "auto", "never"]),
    ] {
        let first = &values[0][..2];
        shell.offers("", &format!("{option}="), values);
        shell.offers("-v some-file", &format!("{option}={first}"), &values[..1]);
        shell.offers("", &format!("{option}=nosuch"), &[]);
        if ["--sync", "--keep"].contains(&option) {
            shell.offers(option, "", values);
            shell.offers(option, first, &values[..1]);
        } else {
            // Without an equals sign it has no value, and an operand follows.
            shell.offers(option, "some-f", &["some-file"]);
        }
    }
    shell.offers("-b", "some-f", &["some-file"]);
    // A number follows the equals sign, or there is no number.
    shell.offers("", "--lo", &["--lock"]);
    shell.offers("--lock", "some-f", &["some-file"]);
    shell.offers("", "--lock=", &[]);
    shell.offers("", "--lock=some", &[]);
}

#[track_caller]
fn offers_users_and_groups(shell: &impl Shell) {
    // Debian has a user and a group of this name.
    let (begun, name) = ("daem", "daemon");
    for (short, long) in [("-o", "--owner"), ("-g", "--group")] {
        let among_others = format!("-v{}", &short[1..]);
        for option in [short, long, &among_others] {
            shell.offers(option, begun, &[name]);
            shell.offers(option, "nosuch", &[]);
        }
        shell.offers("", &format!("{long}={begun}"), &[name]);
        for option in [short, &among_others] {
            let whole = format!("{option}{name}");
            shell.offers("", &format!("{option}{begun}"), &[&whole]);
        }
    }
    let (begun, both) = ("daemon:daem", "daemon:daemon");
    for option in ["-o", "--owner", "-vo"] {
        shell.offers(option, begun, &[both]);
        shell.offers(option, ":daem", &[":daemon"]);
        shell.offers(option, "daemon:nosuch", &[]);
    }
    shell.offers("", &format!("--owner={begun}"), &[both]);
    shell.offers("", &format!("-o{begun}"), &[&format!("-o{both}")]);
    // The group alone has no colon.
    shell.offers("-g", begun, &[]);
    // A group, and no user.
    let offered = shell.offered("-o", "daemon:");
    assert!(offered.iter().any(|offered| offered.ends_with("audio")));
}

#[track_caller]
fn offers_directories(shell: &impl Shell) {
    let directories = &["some other", "some-directory"];
    for option in ["-t", "--target-directory", "-vt"] {
        shell.offers(option, "some", directories);
        shell.offers(option, r"some\ ", &["some other"]);
        shell.offers(option, "nosuch", &[]);
        shell.offers(option, "some-directory/", &["some-directory/inner"]);
    }
    shell.offers("", "--target-directory=some", directories);
    shell.offers("", r"--target-directory=some\ o", &["some other"]);
    shell.offers("", "-tsome", &["-tsome other", "-tsome-directory"]);
    shell.offers("", r"-tsome\ o", &["-tsome other"]);
}

#[track_caller]
fn offers_files_and_commands_for_values(shell: &impl Shell) {
    for option in ["--files-from", "--files0-from"] {
        shell.offers(option, "some-f", &["some-file"]);
        shell.offers("", &format!("{option}=some-f"), &["some-file"]);
    }
    for option in ["--command", "--validate", "--validate-all"] {
        shell.offers(option, "unshar", &["unshare"]);
        shell.offers("", &format!("{option}=unshar"), &["unshare"]);
    }
    shell.offers("-c", "unshar", &["unshare"]);
}

#[track_caller]
fn offers_nothing_where_no_value_can_be_guessed(shell: &impl Shell) {
    for option in [
        "-m",
        "-S",
        "--mode",
        "--suffix",
        "--min-size",
        "--sha256",
        "--unchanged-status",
    ] {
        shell.offers(option, "", &[]);
        shell.offers(option, "some", &[]);
        if option.starts_with("--") {
            shell.offers("", &format!("{option}=some"), &[]);
        }
    }
}

#[track_caller]
fn offers_files_for_operands(shell: &impl Shell) {
    let some = &["some file", "some other", "some-directory", "some-file"];
    for before in [
        "",
        "some-file",
        "-n",
        "--",
        // No DEST yet: what stands there are values.
        "-m 600 --",
        // No COMMAND, either.
        "-t some-directory",
        "-t some-directory --",
        "-vt some-directory some-file --",
        "--target-directory=some-directory some-file --",
    ] {
        shell.offers(before, "some", some);
    }
    shell.offers("", r"some\ f", &["some file"]);
    shell.offers("", "'some f", &["some file"]);
    shell.offers("", "\"some f", &["some file"]);
    shell.offers("", "it", &["it's $1"]);
    shell.offers("", "quo", &["quo\"te"]);
    shell.offers("", "some-directory/inn", &["some-directory/inner"]);
    shell.offers("", "nosuch", &[]);
}

#[track_caller]
fn offers_commands(shell: &impl Shell) {
    for before in [
        "some-file --",
        r"some\ file --",
        "'some file' --",
        "-v some-file --",
        "--sync=none -m 600 some-file --",
        "--keep try -o root some-file --",
        "-o root:root some-file --",
        "--owner=root:root some-file --",
        "-- -dest --",
    ] {
        shell.offers(before, "unshar", &["unshare"]);
    }
    // A pipeline is the input already.
    for before in [
        "-c true some-file --",
        "-ctrue some-file --",
        "-vc true some-file --",
        "--command true some-file --",
        "--command=true some-file --",
    ] {
        shell.offers(before, "unshar", &[]);
    }
}

/// Asks for what make's own completion has to offer, once the command is make.
#[track_caller]
fn offers_what_the_command_takes(shell: &impl Shell) {
    for before in [
        "some-file -- make",
        "'some file' -- make",
        "-m 600 -- -dest -- make",
    ] {
        shell.offers(before, "re", &["release", "report"]);
    }
}

/// Every option that --help names.
fn options_of_the_help() -> Vec<String> {
    let help = tool(binary().to_str().unwrap(), ["--help"]);
    let mut options = Vec::new();
    for line in help.lines() {
        // A list of values is deeper.
        let text = line.trim_start();
        if text.starts_with('-') && line.len() - text.len() <= "  -a, ".len() {
            let words = text.split([' ', ',', '[', '=']);
            options.extend(
                words
                    .filter(|word| word.starts_with('-'))
                    .map(str::to_owned),
            );
        }
    }
    options.sort();
    assert!(options.len() > 40, "{help}");
    options
}
