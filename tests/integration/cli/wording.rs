//! What every message says, word for word: what failed, for which file, and what to do; and that
//! DEST is unchanged, if it exists and that is so.
//!
//! Usage errors are in `mistakes`. `vocabulary` checks that no message of the source is missing in
//! these tests.

use std::fs;

use crate::harness::{Sandbox, each, linux_only, needs_root, needs_tool, rows};

/// A sandbox with a file to be replaced, one to replace it, and a directory.
pub(crate) fn sandbox(set_up: &str) -> Sandbox {
    let sandbox = Sandbox::with("in", "new");
    sandbox.write("out", "old");
    sandbox.mkdir("dir");
    sandbox.sh(set_up);
    sandbox
}

/// A refusal says why, and what to do: the set-up; the command line, its exit status and
/// its message.
const REFUSALS: &str = r#"
# What DEST is.
ln -s loop loop | loop | 1 | cannot follow 'loop': too many levels of symbolic links; 'loop' is unchanged
| nowhere/out | 1 | cannot write 'nowhere/out': its directory does not exist; use --create-dirs to create it
| in/out | 1 | cannot open the directory of 'in/out': not a directory
mkfifo fifo | fifo | 1 | cannot replace 'fifo': it is a FIFO; use --inplace to write into it; 'fifo' is unchanged
python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind("socket")' | socket | 1 | cannot replace 'socket': it is a socket; only a regular file can be replaced; 'socket' is unchanged
| -n out | 3 | cannot create 'out': it exists, and --no-clobber was given; 'out' is unchanged
# What SOURCE is.
| nothing out | 1 | cannot open 'nothing': no such file or directory; 'out' is unchanged
| --lock 5 out | 1 | cannot open '5': no such file or directory; use --lock=5 to wait at most 5 seconds; 'out' is unchanged
# What the content is.
| /dev/null --no-empty new | 3 | cannot write 'new': the content is empty, and --no-empty was given
| /dev/stdin out | 3 | cannot replace 'out': standard input is empty, as /dev/null is; use --allow-empty to replace it; 'out' is unchanged
| --sha256 0000000000000000000000000000000000000000000000000000000000000000 in out | 3 | cannot write 'out': the content's SHA-256 is 11507a0e2f5e69d5dfa40a62a1bd7b6ee57e6bcd85c67c9b8431b36fff21c437, and not the one that was given; 'out' is unchanged
| --validate 'exit 7' in out | 3 | cannot write 'out': the validator exited with status 7; 'out' is unchanged
| --validate 'ulimit -c 0; kill -9 $$' in out | 3 | cannot write 'out': the validator was killed by signal 9; 'out' is unchanged
| --validate 'exit 127' in out | 1 | cannot validate 'out': the validator could not be run (status 127); 'out' is unchanged
# What COMMAND does.
| out -- sh -c 'kill -9 $$' | 137 | cannot write 'out': 'sh' was killed by signal 9; 'out' is unchanged
# What other processes do.
| -a out -- sh -c 'echo more >>out' | 125 | cannot append to 'out': another process has changed it without taking the lock
| --validate 'cp in y; mv y out; exit 7' in out | 3 | cannot write 'out': the validator exited with status 7; another process has replaced 'out'
| --validate 'rm out; exit 7' in out | 3 | cannot write 'out': the validator exited with status 7; 'out' no longer exists
# What a validator has not seen.
touch $(seq 1100) | --validate 'exit 7' in out | 3 | cannot write 'out': the validator exited with status 7; some of the directory's other files were left out of the preview; 'out' is unchanged
# Backups.
ln -s out out~ | -b in out~ | 1 | cannot back up 'out~': its name 'out~' belongs to a symbolic link to it; use another --suffix; 'out~' is unchanged
mkdir out~ | -b in out | 1 | cannot back up 'out': its name 'out~' belongs to a directory; use another --suffix; 'out' is unchanged
touch out.~18446744073709551615~ | --backup=numbered in out | 1 | cannot back up 'out': there is no higher number; 'out' is unchanged
# Many files.
| -t nowhere in | 1 | cannot open directory 'nowhere': it does not exist; use --create-dirs to create it
| -t dir /dev/stdin | 2 | SOURCE '/dev/stdin': standard input does not go with -t
| -t dir -- cat in | 1 | cannot open 'cat': no such file or directory; name SOURCEs after -t, not a COMMAND; 'dir' is unchanged
| -t dir cat in | 1 | cannot open 'cat': no such file or directory; 'dir' is unchanged
| -t dir - | 2 | SOURCE '-': standard input has no name; use './-' for a file of that name
| -t dir dir/.. | 2 | SOURCE 'dir/..': it names a directory, not a file
printf '\0in' >list | -t dir --files0-from=list | 2 | SOURCE 1 has an empty name
| -t dir in ./in | 2 | 'in' and './in' have the same base name
| -t dir --files0-from=nothing | 1 | cannot read the list of files 'nothing': no such file or directory
ln -s ../out dir/in; ln -s ../out dir/out | -t dir in out | 1 | cannot write 'dir/out': it is the same file as 'dir/in'; 'dir' is unchanged
| -t dir --validate-all 'exit 7' in | 3 | cannot write the files of 'dir': the validator exited with status 7; 'dir' is unchanged
| -t dir --validate-all 'exit 127' in | 1 | cannot validate the files of 'dir': the validator could not be run (status 127); 'dir' is unchanged
echo >in~ | -b -t dir in in~ | 1 | cannot write 'dir/in~': its name is the backup name of 'dir/in'; 'dir' is unchanged
"#;

/// The same if the user matters, who comes first in each row.
const REFUSALS_OF_USERS: &str = "
nobody | chown 65534 . out; chmod 400 out | in out | 1 | cannot write 'out': permission denied; use --force to replace it; 'out' is unchanged
nobody | chown 65534 . out; chmod 200 out | -a in out | 1 | cannot append to 'out': it cannot be read; 'out' is unchanged
nobody | chown 65534 out; chmod 666 out | in out | 1 | cannot create a file in the directory of 'out': permission denied; use --inplace to overwrite the file; 'out' is unchanged
nobody | chown 65534 out | --lock in out | 1 | cannot lock 'out': cannot use a lock file beside it: permission denied; 'out' is unchanged
nobody | chmod 1777 .; chmod 666 out | in out | 1 | cannot replace 'out': it is another user's, in a directory where only its owner may replace it (the sticky bit); use --inplace to overwrite it; 'out' is unchanged
nobody | chmod 1777 .; chown 0 .; ln -s out link; chown -h 1 link | in link | 1 | cannot follow 'link': the link is another user's, in a world-writable directory; name the file that it points to; 'link' is unchanged
root | mkdir sticky; chmod 1777 sticky; cp out sticky; chown 1 sticky/out | in sticky/out | 1 | cannot replace 'sticky/out': it is another user's, in a world-writable directory, and that user would get the content; use --keep=none or -o to replace it; 'sticky/out' is unchanged
";

/// The same if something is not readable that the POSIX backend has to open.
const REFUSALS_OF_THE_UNREADABLE: &str = "
nobody | chown 65534 . out; chmod 200 out | -q -b --inplace=always in out | 1 | cannot back up 'out': it cannot be read; 'out' is unchanged
nobody | chown 65534 . in out; chmod 300 . | --validate 'exit 7' in out | 3 | cannot write 'out': the validator exited with status 7; the directory's other files were left out of the preview; 'out' is unchanged
";

#[test]
fn a_refusal_says_why_and_what_to_do() {
    needs_tool!("python3");
    each(rows(REFUSALS), |[set_up, line, status, message]| {
        let done = sandbox(set_up).run(line).output();
        assert_eq!(done.stderr, format!("atomwrite: {message}\n"));
        assert_eq!(done.code(), status.parse().ok());
    });
}

#[test]
fn a_refusal_for_lack_of_permission_says_what_would_help() {
    needs_root!();
    let check = |[who, set_up, line, status, message]: [&str; 5]| {
        let sandbox = sandbox(set_up);
        let run = sandbox.run(line);
        let run = if who == "root" { run } else { run.by_nobody() };
        let done = run.output();
        assert_eq!(done.stderr, format!("atomwrite: {message}\n"));
        assert_eq!(done.code(), status.parse().ok());
    };
    each(rows(REFUSALS_OF_USERS), check);
    linux_only!("ways to what may not be read");
    each(rows(REFUSALS_OF_THE_UNREADABLE), check);
}

#[test]
fn two_dashes_before_the_files_of_a_directory_only_end_the_options() {
    let sandbox = sandbox("");
    let run = sandbox.run("-t dir -- in");
    run.leaves(["dir", "dir/in", "in", "out"]).succeeds();
}

#[test]
fn a_getent_that_cannot_be_run_is_an_error() {
    linux_only!("getent(1)");
    let sandbox = sandbox("mkdir path; touch path/getent");
    let done = sandbox
        .run("-o no-such-user in out")
        .env("PATH", sandbox.path("path"))
        .fails(1);
    assert_eq!(
        done.stderr,
        "atomwrite: cannot look up user 'no-such-user': permission denied; 'out' is unchanged\n"
    );
}

#[test]
fn a_backup_name_that_would_be_too_long_is_reported() {
    let sandbox = sandbox("");
    let suffix = "x".repeat(254);
    sandbox
        .atomwrite(["-S", &suffix, "in", "out"])
        .fails_with(1, format!(
            "cannot back up 'out': its name 'out{suffix}' would be too long; use a shorter --suffix; "
        ));
}

#[test]
fn a_list_from_a_closed_stdin_is_an_error() {
    let sandbox = sandbox("");
    let run = sandbox.run("-t dir --files0-from=-");
    assert_eq!(
        run.closed(&[0])
            .leaves(["dir", "in", "out"])
            .fails(1)
            .stderr,
        "atomwrite: cannot read the list of files from standard input: it is closed\n"
    );
}

#[test]
fn help_that_cannot_be_printed_is_an_error() {
    let sandbox = sandbox("");
    let full = fs::OpenOptions::new().write(true).open("/dev/full");
    let run = sandbox.run("--help").stdout_to(full.unwrap());
    assert_eq!(
        run.fails(1).stderr,
        "atomwrite: cannot write to standard output: no space left on device\n"
    );
}
