//! docs/sponge.md: each line of its table, run by the real sponge(1) or by us, does what the page
//! says.

use std::fs;
use std::os::unix::fs::MetadataExt;

use crate::docs::examples::{blocks, run};
use crate::harness::{Sandbox, has_user_namespaces, needs_root, needs_tool, skip};

const PAGE: &str = include_str!("../../../docs/sponge.md");

/// A line of the table, what its status is, the command behind it, and what both print.
struct Row {
    number: usize,
    line: String,
    status: String,
    look: String,
    shows: String,
}

#[test]
fn every_line_does_what_the_page_says() {
    needs_root!();
    needs_tool!("bash", "getfacl", "setfacl", "setpriv", "sponge", "unshare");
    if !has_user_namespaces() {
        skip!("needs user namespaces");
    }
    let device = |directory| fs::metadata(directory).map(|stat| stat.dev()).ok();
    if [None, device(Sandbox::new().root())].contains(&device("/dev/shm".as_ref())) {
        skip!("needs /dev/shm, and that it is another filesystem");
    }
    let set_up = blocks(PAGE, "sh").remove(0).text;
    for row in rows() {
        let sandbox = Sandbox::new();
        let commands = [
            set_up.clone(),
            format!("({}\n) 2>/dev/null", row.line),
            "echo $?".to_owned(),
            row.look,
        ];
        let [prepared, printed, status, looked] =
            <[String; 4]>::try_from(run(&sandbox, &commands)).unwrap();
        assert_eq!(prepared, "");
        let shows = format!("{printed}{looked}");
        let shows: Vec<&str> = shows.split_whitespace().collect();
        assert_eq!(
            (status.trim(), shows.join(" ")),
            (row.status.as_str(), row.shows),
            "docs/sponge.md, line {}: {}",
            row.number,
            row.line
        );
    }
}

#[test]
fn each_use_of_sponge_has_its_form_of_atomwrite() {
    let mut uses = 0;
    let mut answered = true;
    for row in rows() {
        let has = |program| row.line.split([' ', '|']).any(|word| word == program);
        assert_ne!(has("sponge"), has("atomwrite"), "{}", row.line);
        if has("sponge") {
            assert!(answered, "above line {}: no atomwrite", row.number);
            uses += 1;
        }
        answered = has("atomwrite");
    }
    assert!(answered && uses > 25, "{uses} uses");
}

/// Parses the table.
fn rows() -> Vec<Row> {
    let lines = PAGE.lines().enumerate();
    let table = lines.filter(|(_, line)| line.starts_with("| ") && line.contains('`'));
    table
        .map(|(at, line)| {
            let line = line.replace(r"\|", "\0");
            let cells: Vec<String> = line
                .trim_matches('|')
                .split('|')
                .map(|cell| cell.trim().replace('\0', "|"))
                .collect();
            let [_, line, status, look, shows] = <[String; 5]>::try_from(cells).unwrap();
            let code = |cell: &str| match cell {
                "nothing" => String::new(),
                cell => cell.trim_matches('`').to_owned(),
            };
            Row {
                number: at + 1,
                line: code(&line),
                status,
                look: code(&look),
                shows: code(&shows),
            }
        })
        .collect()
}
