//! The README's comparison with other programs: each cell is true of the program of its column on
//! this machine.
//!
//! The head of a column is the line that is run, with another command in place of `cmd`. `sponge`
//! is run twice: with `$TMPDIR` on the file's filesystem, so that it renames, and on another one,
//! so that it copies. Ansible's cells are not run.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::fs::inotify::{ReadFlags, WatchFlags};
use rustix::process::{Pid, Signal, kill_process_group};

use crate::docs::examples::run;
use crate::harness::{
    Mount, NOBODY, Sandbox, Watch, can_be_others, can_mount, needs_tool, path_with_sbin,
    report_skipped, skip, wait_until,
};

const README: &str = include_str!("../../../README.md");

/// A place on another filesystem than the sandboxes.
const ELSEWHERE: &str = "/dev/shm";

struct Row {
    /// The first cell.
    label: &'static str,
    /// Returns whether this machine can try it.
    is_possible: fn() -> bool,
    /// Tries it, and returns whether the label is true of this program.
    holds: fn(&Way) -> bool,
}

/// One of the programs, and where its `$TMPDIR` is.
struct Way {
    line: String,
    renames: bool,
}

const ROWS: [Row; 11] = [
    Row {
        label: "Readers never see `f` partial or missing",
        is_possible: always,
        holds: shows_readers_complete_files,
    },
    Row {
        label: "`f` survives a command that fails",
        is_possible: always,
        holds: |way| keeps_old_content(way, "(echo part; exit 1)"),
    },
    Row {
        label: "`f` survives a failure inside a pipeline",
        is_possible: always,
        holds: |way| keeps_old_content(way, "(echo part; exit 1) | cat"),
    },
    Row {
        label: "`f` survives a full disk",
        is_possible: can_mount,
        holds: survives_a_full_disk,
    },
    Row {
        label: "Syncs the new file before the rename, so `f` is complete after a power loss",
        is_possible: always,
        holds: |way| {
            let calls = calls(way);
            let rename = calls.iter().position(|call| call.contains(" rename"));
            let before = &calls[..rename.unwrap_or(calls.len())];
            before.iter().any(|call| call.contains("sync("))
        },
    },
    Row {
        label: "Syncs the directory, so the new file survives a power loss",
        is_possible: always,
        holds: |way| {
            let calls = calls(way);
            let rename = calls.iter().position(|call| call.contains(" rename"));
            let after = &calls[rename.unwrap_or(calls.len())..];
            after.iter().any(|call| call.contains("sync("))
        },
    },
    Row {
        label: "Keeps the mode",
        is_possible: always,
        holds: keeps_mode,
    },
    Row {
        label: "Keeps owner and group, if run as root",
        is_possible: can_be_others,
        holds: keeps_owner,
    },
    Row {
        label: "Keeps the ACL and extended attributes",
        is_possible: has_attributes,
        holds: keeps_attributes,
    },
    Row {
        label: "Writes through a symbolic link",
        is_possible: always,
        holds: writes_through_a_link,
    },
    Row {
        label: "SIGTERM leaves no temporary file",
        is_possible: always,
        holds: leaves_nothing_after_sigterm,
    },
];

#[test]
fn each_cell_says_what_the_program_does() {
    needs_tool!("bash", "getfacl", "install", "setfacl", "sponge", "strace");
    let device = |directory: &Path| fs::metadata(directory).map(|stat| stat.dev()).ok();
    if [None, device(Sandbox::new().root())].contains(&device(ELSEWHERE.as_ref())) {
        skip!("needs {ELSEWHERE}, and that it is another filesystem");
    }
    let mut table = table().into_iter();
    let lines = table.next().expect("the table has a head");
    let labels: Vec<String> = table.clone().map(|row| row[0].clone()).collect();
    assert_eq!(labels, ROWS.each_ref().map(|row| row.label));
    for (row, cells) in ROWS.iter().zip(table) {
        if !(row.is_possible)() {
            report_skipped(&format!("cannot try here: {}", row.label));
            continue;
        }
        for (head, cell) in lines.iter().zip(cells).skip(1) {
            let Some(line) = head
                .strip_prefix('`')
                .and_then(|head| head.strip_suffix('`'))
            else {
                assert!(head.starts_with("Ansible"), "{head}");
                continue;
            };
            let holds = |renames| {
                (row.holds)(&Way {
                    line: line.to_owned(),
                    renames,
                })
            };
            let holds_if_renamed = holds(true);
            let holds_if_copied = if line.contains("sponge") {
                holds(false)
            } else {
                holds_if_renamed
            };
            let expected = match (holds_if_renamed, holds_if_copied) {
                (true, true) => "yes",
                (false, false) => "no",
                (true, false) => "if renamed",
                (false, true) => "if copied",
            };
            assert_eq!(cell, expected, "{}: {line}", row.label);
        }
    }
}

// ---- The rows ----

fn always() -> bool {
    true
}

/// Returns whether, by inotify(7), only a rename has the file's name.
fn shows_readers_complete_files(way: &Way) -> bool {
    let sandbox = with_old_file();
    let watch = Watch::of(
        sandbox.root(),
        WatchFlags::CREATE | WatchFlags::MODIFY | WatchFlags::DELETE | WatchFlags::MOVE,
    );
    way.run(&sandbox, "echo new");
    assert_eq!(sandbox.text("f"), "new\n", "{}", way.line);
    let events = watch.events();
    let mut events = events.iter().filter(|(_, name)| name == "f");
    events.all(|(event, _)| event.contains(ReadFlags::MOVED_TO))
}

fn keeps_old_content(way: &Way, command: &str) -> bool {
    let sandbox = with_old_file();
    way.run(&sandbox, command);
    sandbox.text("f") == "old\n"
}

/// Tries a file that does not fit, and one that does not fit twice.
fn survives_a_full_disk(way: &Way) -> bool {
    [1_200_000, 600_000].iter().all(|&size| {
        let mount = Mount::tmpfs("size=1000k");
        let sandbox = Sandbox::in_dir(mount.path());
        sandbox.write("f", "old\n");
        way.run(&sandbox, &format!("head -c {size} /dev/zero"));
        let has_new_content = || sandbox.read("f") == vec![0; size];
        sandbox.path("f").exists() && (sandbox.text("f") == "old\n" || has_new_content())
    })
}

/// Returns the calls that sync something, or rename.
fn calls(way: &Way) -> Vec<String> {
    let sandbox = with_old_file();
    let [line, trace] = ["line", "trace"].map(|name| sandbox.aside(name));
    fs::write(&line, way.line.replace("cmd", "echo new")).unwrap();
    let strace = "strace -f -qq -e trace=fsync,fdatasync,sync,syncfs,rename,renameat,renameat2";
    way.run_line(
        &sandbox,
        &format!("{strace} -o {} bash {}", trace.display(), line.display()),
    );
    assert_eq!(sandbox.text("f"), "new\n", "{}", way.line);
    let trace = fs::read_to_string(trace).unwrap();
    trace.lines().map(str::to_owned).collect()
}

fn keeps_mode(way: &Way) -> bool {
    let sandbox = with_old_file();
    sandbox.chmod("f", 0o640);
    way.run(&sandbox, "echo new");
    sandbox.mode("f") == 0o640
}

fn keeps_owner(way: &Way) -> bool {
    let sandbox = with_old_file();
    sandbox.chown("f", NOBODY, 1);
    way.run(&sandbox, "echo new");
    sandbox.owner("f") == (NOBODY, 1)
}

fn has_attributes() -> bool {
    let sandbox = with_old_file();
    sandbox.setfacl("f", &["-m", "u:1:rw"]) && sandbox.set_xattr("f", "user.note", b"kept")
}

fn keeps_attributes(way: &Way) -> bool {
    let sandbox = with_old_file();
    assert!(sandbox.setfacl("f", &["-m", "u:1:rw"]));
    assert!(sandbox.set_xattr("f", "user.note", b"kept"));
    let acl = sandbox.acl("f");
    way.run(&sandbox, "echo new");
    sandbox.acl("f") == acl && sandbox.xattr("f", "user.note").as_deref() == Some(b"kept")
}

fn writes_through_a_link(way: &Way) -> bool {
    let sandbox = Sandbox::new();
    sandbox.write("target", "old\n");
    sandbox.symlink("target", "f");
    way.run(&sandbox, "echo new");
    sandbox.path("f").is_symlink() && sandbox.text("target") == "new\n"
}

/// Ends the whole line, as a shutdown does, when a part of the content has arrived.
fn leaves_nothing_after_sigterm(way: &Way) -> bool {
    let sandbox = with_old_file();
    let fifo = sandbox.fifo("fifo");
    let before = sandbox.names();
    let mut line = way.bash(&sandbox, &way.line.replace("cmd", "cat fifo"));
    let mut line = line
        .process_group(0)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = fs::OpenOptions::new().write(true).open(fifo).unwrap();
    input.write_all(b"part").unwrap();
    wait_until("the content has arrived", || {
        rustix::io::ioctl_fionread(&input).unwrap() == 0
    });
    let group = Pid::from_child(&line);
    kill_process_group(group, Signal::TERM).unwrap();
    // It ends when no process of the line has it open.
    line.stderr
        .take()
        .unwrap()
        .read_to_end(&mut Vec::new())
        .unwrap();
    line.wait().unwrap();
    sandbox.names() == before
}

// ---- How a line is run ----

fn with_old_file() -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.write("f", "old\n");
    sandbox
}

impl Way {
    /// Runs the line with a command in place of `cmd`, to its end, whatever its status.
    fn run(&self, sandbox: &Sandbox, command: &str) {
        self.run_line(sandbox, &self.line.replace("cmd", command));
    }

    fn run_line(&self, sandbox: &Sandbox, line: &str) {
        let commands = [self.set_up(sandbox), format!("{{ {line}\n}} 2>/dev/null")];
        run(sandbox, &commands);
    }

    /// Starts to describe a bash that runs the line.
    fn bash(&self, sandbox: &Sandbox, line: &str) -> Command {
        let mut path = sandbox
            .reachable_binary()
            .parent()
            .unwrap()
            .as_os_str()
            .to_owned();
        path.push(":");
        path.push(path_with_sbin());
        let mut bash = Command::new("bash");
        bash.args(["--norc", "-c", &format!("{}; {line}", self.set_up(sandbox))])
            .current_dir(sandbox.root())
            .env("PATH", path)
            .stdin(Stdio::null());
        bash
    }

    fn set_up(&self, sandbox: &Sandbox) -> String {
        let near = sandbox.root().display().to_string();
        format!(
            "export TMPDIR='{}'",
            if self.renames { &near } else { ELSEWHERE }
        )
    }
}

/// Parses the table into its head, which has the lines, and its rows.
fn table() -> Vec<Vec<String>> {
    let (_, section) = README.split_once("## Compared with").expect("the table");
    let lines = section.lines().skip_while(|line| !line.starts_with('|'));
    lines
        .take_while(|line| line.starts_with('|'))
        .filter(|line| !line.starts_with("|---"))
        .map(|line| {
            let line = line.replace(r"\|", "\0");
            let cells = line.trim_matches('|').split('|');
            cells.map(|cell| cell.trim().replace('\0', "|")).collect()
        })
        .collect()
}
