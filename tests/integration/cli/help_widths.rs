//! `-h` and `--help` in terminals of any width: lines are filled, and none is too long.

use crate::harness::Sandbox;

/// The help, from the operands on: before them stand the forms, one to a line.
fn help(option: &str, columns: &str) -> Vec<String> {
    let sandbox = Sandbox::new();
    let done = sandbox
        .atomwrite([option])
        .env("COLUMNS", columns)
        .stdout_says("Exit status")
        .leaves([""; 0])
        .succeeds();
    let lines = done.stdout.lines().map(str::to_owned);
    lines.skip_while(|line| line != "Arguments:").collect()
}

#[test]
fn no_line_is_too_long() {
    for columns in ["40", "60", "79", "80", "200"] {
        let most = columns.parse::<usize>().unwrap().min(80);
        for option in ["-h", "--help"] {
            for line in help(option, columns) {
                let length = line.chars().count();
                assert!(length <= most, "{option} at {columns} columns: {line}");
            }
        }
    }
}

#[test]
fn examples_and_exit_statuses_fill_their_lines() {
    for columns in ["40", "60", "79", "80"] {
        for option in ["-h", "--help"] {
            let lines = help(option, columns);
            let end = lines.iter().skip_while(|line| *line != "Examples:");
            let words = end.clone().map(|line| line.split_whitespace().count());
            // The end of a sentence may stand alone, but not one word after the other.
            let words: Vec<usize> = words.collect();
            let narrow = words.windows(2).filter(|pair| pair == &[1, 1]).count();
            assert_eq!(narrow, 0, "{option} at {columns} columns: {lines:#?}");
            assert!(end.clone().any(|line| line == "Exit status:"));
        }
    }
}
