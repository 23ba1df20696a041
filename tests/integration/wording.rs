//! What every message says, word for word.
//!
//! What went wrong, with which file, and what to do; and that DEST is unchanged, if there is one and that is so. Usage
//! errors are in `mistakes`. That no message of the source is missing in all of these tests is seen to by `vocabulary`.

use std::fs;
use std::process::Command;

use crate::sandbox::{NOBODY, Sandbox, needs_root, needs_tool};

/// A sandbox with a file to be replaced, one to replace it, and a directory.
fn sandbox(set_up: &str) -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.write("in", "new");
    sandbox.write("out", "old");
    sandbox.mkdir("dir");
    let status = Command::new("sh")
        .args(["-c", set_up])
        .current_dir(sandbox.root())
        .status()
        .unwrap();
    assert!(status.success(), "{set_up}");
    sandbox
}

/// Whoever is refused reads why, and what to do.
const REFUSALS: &[(&str, &[&str], i32, &str)] = &[
    // What DEST is.
    (
        "ln -s loop loop",
        &["loop"],
        1,
        "cannot follow 'loop': too many levels of symbolic links; 'loop' is unchanged",
    ),
    (
        "",
        &["nowhere/out"],
        1,
        "cannot write 'nowhere/out': its directory does not exist; --create-dirs makes it",
    ),
    (
        "",
        &["in/out"],
        1,
        "cannot open the directory of 'in/out': not a directory",
    ),
    (
        "mkfifo fifo",
        &["fifo"],
        1,
        "cannot replace 'fifo': it is a FIFO; --inplace writes into it; 'fifo' is unchanged",
    ),
    (
        "python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind(\"socket\")'",
        &["socket"],
        1,
        "cannot replace 'socket': it is a socket; only a regular file can be replaced; 'socket' is unchanged",
    ),
    (
        "",
        &["-n", "out"],
        3,
        "cannot create 'out': it exists, and --no-clobber was given; 'out' is unchanged",
    ),
    // What SOURCE is.
    (
        "",
        &["nothing", "out"],
        1,
        "cannot open 'nothing': no such file or directory; 'out' is unchanged",
    ),
    // What the content is.
    (
        "",
        &["/dev/null", "--no-empty", "new"],
        3,
        "cannot write 'new': the content is empty, and --no-empty was given",
    ),
    (
        "",
        &["/dev/stdin", "out"],
        3,
        "cannot replace 'out': standard input is empty (did the command before the pipe fail?); --allow-empty replaces it \
         all the same; 'out' is unchanged",
    ),
    (
        "",
        &[
            "--sha256",
            "0000000000000000000000000000000000000000000000000000000000000000",
            "in",
            "out",
        ],
        3,
        "cannot write 'out': the content's SHA-256 is 11507a0e2f5e69d5dfa40a62a1bd7b6ee57e6bcd85c67c9b8431b36fff21c437, \
         and not the one that was given; 'out' is unchanged",
    ),
    (
        "",
        &["--validate", "exit 7", "in", "out"],
        3,
        "cannot write 'out': the program that validates it exited with status 7; 'out' is unchanged",
    ),
    (
        "",
        &["--validate", "echo more >>\"$1\"", "in", "out"],
        3,
        "cannot write 'out': the program that validates it changed it; 'out' is unchanged",
    ),
    // What COMMAND does.
    (
        "",
        &["out", "--", "sh", "-c", "kill -9 $$"],
        137,
        "cannot write 'out': 'sh' was killed by signal 9; 'out' is unchanged",
    ),
    // What happens meanwhile.
    (
        "",
        &["-a", "out", "--", "sh", "-c", "echo more >>out"],
        125,
        "cannot append to 'out': somebody has changed it meanwhile, who did not wait for the lock; 'out' is unchanged",
    ),
    (
        "",
        &["--validate", "touch new", "in", "new"],
        1,
        "cannot write 'new': somebody has made it meanwhile; 'new' is unchanged",
    ),
    (
        "",
        &["--validate", "rm out", "in", "out"],
        1,
        "cannot write 'out': somebody has removed it meanwhile",
    ),
    (
        "",
        &["--validate", "chmod 600 out", "in", "out"],
        1,
        "cannot write 'out': its mode or owner has changed meanwhile; 'out' is unchanged",
    ),
    (
        "",
        &[
            "-D",
            "new/out",
            "--",
            "sh",
            "-c",
            "mkdir new; echo >new/out",
        ],
        125,
        "cannot write 'new/out': somebody else has made it, and its directory, meanwhile; 'new/out' is unchanged",
    ),
    (
        "",
        &[
            "-q",
            "--inplace=always",
            "--validate",
            "mv dir x; cp in y; mv y out",
            "in",
            "out",
        ],
        1,
        "cannot write 'out': somebody has replaced it meanwhile; 'out' is unchanged",
    ),
    // Backups.
    (
        "mkdir out~",
        &["-b", "in", "out"],
        1,
        "cannot back up 'out': its name 'out~' is that of a directory; another --suffix may do; 'out' is unchanged",
    ),
    (
        "touch out.~18446744073709551615~",
        &["--backup=numbered", "in", "out"],
        1,
        "cannot back up 'out': there is no higher number; 'out' is unchanged",
    ),
    // Many files.
    (
        "",
        &["-t", "nowhere", "in"],
        1,
        "cannot open directory 'nowhere': it does not exist; --create-dirs makes it",
    ),
    (
        "",
        &["-t", "dir", "/dev/stdin"],
        2,
        "SOURCE '/dev/stdin': standard input does not go with -t",
    ),
    (
        "",
        &["-t", "dir", "-"],
        2,
        "SOURCE '-': standard input has no name; a file of that name is './-'",
    ),
    (
        "",
        &["-t", "dir", "dir/.."],
        2,
        "SOURCE 'dir/..': it names a directory, not a file",
    ),
    (
        "printf '\\0in' >list",
        &["-t", "dir", "--files0-from=list"],
        2,
        "SOURCE 1 has an empty name",
    ),
    (
        "",
        &["-t", "dir", "in", "./in"],
        2,
        "'in' and './in' have the same base name",
    ),
    (
        "",
        &["-t", "dir", "--files0-from=nothing"],
        1,
        "cannot read the list of files 'nothing': no such file or directory",
    ),
    (
        "ln -s ../out dir/in; ln -s ../out dir/out",
        &["-t", "dir", "in", "out"],
        1,
        "cannot write 'dir/out': it is the same file as 'dir/in'; 'dir' is unchanged",
    ),
    (
        "echo >in~",
        &["-b", "-t", "dir", "in", "in~"],
        1,
        "cannot write 'dir/in~': its name is that of a backup of 'dir/in'; 'dir' is unchanged",
    ),
];

#[test]
fn a_refusal_says_why_and_what_to_do() {
    needs_tool!("python3");
    for (set_up, arguments, status, line) in REFUSALS {
        let done = sandbox(set_up).atomwrite(arguments.to_vec()).output();
        assert_eq!(done.stderr, format!("atomwrite: {line}\n"), "{arguments:?}");
        assert_eq!(done.code(), Some(*status), "{arguments:?} {done:?}");
    }
}

#[test]
fn who_may_not_is_told_what_would_help() {
    needs_root!();
    for (set_up, arguments, line) in [
        (
            "chown 65534 . out; chmod 400 out",
            &["in", "out"][..],
            "cannot write 'out': permission denied; --force replaces it all the same; 'out' is unchanged",
        ),
        (
            "chown 65534 . out; chmod 200 out",
            &["-a", "in", "out"],
            "cannot append to 'out': it cannot be read; 'out' is unchanged",
        ),
        (
            "chown 65534 out; chmod 666 out",
            &["in", "out"],
            "cannot create a file in the directory of 'out': permission denied; --inplace overwrites the file where it is; \
             'out' is unchanged",
        ),
        (
            "chown 65534 . out; chmod 200 out",
            &["-q", "-b", "--inplace=always", "in", "out"],
            "cannot back up 'out': it cannot be read; 'out' is unchanged",
        ),
        (
            "chmod 1777 .; chmod 666 out",
            &["in", "out"],
            "cannot replace 'out': it is another user's, in a directory where only its owner may replace it (the sticky \
             bit); --inplace overwrites it; 'out' is unchanged",
        ),
        (
            "chmod 1777 .; chown 0 .; ln -s out link; chown -h 1 link",
            &["in", "link"],
            "cannot follow 'link': the link is another user's, in a directory that all may write to; name the file that it \
             points to; 'link' is unchanged",
        ),
    ] {
        let sandbox = sandbox(set_up);
        let run = sandbox.atomwrite(arguments.to_vec());
        let done = run.user(NOBODY, NOBODY, &[]).output();
        assert_eq!(done.stderr, format!("atomwrite: {line}\n"), "{set_up}");
        assert_eq!(done.code(), Some(1), "{done:?}");
    }
}

#[test]
fn a_program_that_cannot_be_asked_for_a_name_is_an_error() {
    let sandbox = sandbox("mkdir path; touch path/getent");
    let done = sandbox
        .atomwrite(["-o", "somebody", "in", "out"])
        .env("PATH", sandbox.path("path"))
        .fails(1);
    assert_eq!(
        done.stderr,
        "atomwrite: cannot look up user 'somebody': permission denied; 'out' is unchanged\n"
    );
}

#[test]
fn a_backup_whose_name_would_be_too_long_is_told_so() {
    let sandbox = sandbox("");
    let suffix = "x".repeat(254);
    sandbox
        .atomwrite(["-S", &suffix, "in", "out"])
        .says(format!(
            "cannot back up 'out': its name 'out{suffix}' would be too long; a shorter --suffix may do; "
        ))
        .fails(1);
}

#[test]
fn a_list_from_a_closed_stdin_is_an_error() {
    let sandbox = sandbox("");
    let run = sandbox.atomwrite(["-t", "dir", "--files0-from=-"]);
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
    let run = sandbox.atomwrite(["--help"]).stdout_to(full.unwrap());
    assert_eq!(
        run.fails(1).stderr,
        "atomwrite: cannot write to standard output: no space left on device\n"
    );
}

/// One call that fails: how the run is set up, its words, what is injected besides, what fails, and what is said then.
const FAULTS: &[(&str, &[&str], &str, &str, &str)] = &[
    // The look of the new file.
    (
        "",
        &["-q", "-m", "600", "--inplace=always", "out"],
        "",
        "fchmod:error=EPERM",
        "cannot set the mode of 'out': operation not permitted; 'out' is unchanged",
    ),
    (
        "",
        &["-o", "1", "out"],
        "",
        "fchown:error=EPERM:when=1+",
        "cannot set the owner of 'out': operation not permitted; 'out' is unchanged",
    ),
    (
        "",
        &["-g", "1", "out"],
        "",
        "fchown:error=EPERM:when=1+",
        "cannot set the group of 'out': operation not permitted; 'out' is unchanged",
    ),
    (
        "chmod 2755 out",
        &["-m", "2755", "out"],
        "",
        "fchmod:retval=0",
        "cannot set the set-group-ID bit of 'out': operation not permitted; 'out' is unchanged",
    ),
    (
        "chmod 2755 out",
        &["out"],
        "",
        "fchmod:retval=0",
        "warning: cannot keep the set-group-ID bit of 'out': operation not permitted",
    ),
    (
        "",
        &["out"],
        "",
        "flistxattr:error=EIO",
        "cannot read the attributes of 'out': input/output error; 'out' is unchanged",
    ),
    (
        "setfacl -m u:1:r out",
        &["out"],
        "",
        "fgetxattr:retval=4",
        "cannot understand the ACL of 'out'; 'out' is unchanged",
    ),
    (
        "setfacl -d -m u:1:r dir; cp out dir/out; setfacl -b dir/out",
        &["dir/out"],
        "",
        "fremovexattr:error=EIO",
        "cannot remove the inherited ACL of 'dir/out': input/output error; 'dir/out' is unchanged",
    ),
    (
        "",
        &["--keep=none", "new"],
        "linkat:error=ENOENT",
        "fgetxattr:error=EIO",
        "cannot look at the directory of 'new': input/output error",
    ),
    // The input.
    (
        "",
        &["out"],
        "",
        "statx:error=EIO",
        "cannot read standard input: input/output error; 'out' is unchanged",
    ),
    // Directories, locks, backups.
    (
        "",
        &["-D", "new/out"],
        "",
        "mkdirat:error=EROFS",
        "cannot make directory 'new' for 'new/out': read-only file system",
    ),
    (
        "",
        &["-t", "dir", "in"],
        "",
        "mkdirat:error=EROFS",
        "cannot create a directory beside 'dir/in': read-only file system; 'dir' is unchanged",
    ),
    (
        "",
        &["--lock", "out"],
        "",
        "flock:error=ENOLCK",
        "cannot lock 'out': no locks available; 'out' is unchanged",
    ),
    (
        "",
        &["--backup=numbered", "out"],
        "",
        "getdents64:error=EIO",
        "cannot back up 'out': cannot read its directory: input/output error; 'out' is unchanged",
    ),
    (
        "",
        &["-b", "out"],
        "linkat:error=EPERM renameat2:error=EIO:when=2",
        "renameat:error=EIO",
        "cannot back up 'out': input/output error; the file is new, and the old one is beside it as '.atomwrite.",
    ),
    // Programs, and signals.
    (
        "",
        &["-a", "out", "--", "echo", "x"],
        "splice:error=EINVAL",
        "read:error=EIO",
        "cannot read the output of 'echo': input/output error; 'out' is unchanged",
    ),
    (
        "",
        &["-a", "out", "--", "echo", "x"],
        "",
        "ppoll:error=EIO",
        "cannot wait for output: input/output error; 'out' is unchanged",
    ),
    (
        "",
        &["out", "--", "echo", "x"],
        "",
        "waitid:error=EINVAL",
        "cannot wait for the program that was started: invalid argument; 'out' is unchanged",
    ),
    (
        "",
        &["out", "--", "sh", "-c", "rm .atomwrite.*"],
        "",
        "linkat:error=ENOENT:when=1+",
        "cannot write 'out': somebody has removed the new file; 'out' is unchanged",
    ),
    (
        "",
        &["out"],
        "",
        "rt_sigprocmask:error=EINVAL",
        "cannot hold back signals: invalid argument; 'out' is unchanged",
    ),
    (
        "",
        &["out", "--", "echo", "x"],
        "",
        "rt_sigprocmask:error=EINVAL",
        "cannot let signals come: invalid argument; 'out' is unchanged",
    ),
    // Validation.
    (
        "",
        &["--validate", "true", "out"],
        "",
        "lseek:error=EIO",
        "cannot validate 'out': the new file cannot be shown: input/output error; 'out' is unchanged",
    ),
    (
        "",
        &["--validate", "true", "out"],
        "",
        "utimensat:error=EPERM",
        "cannot validate 'out': the new file's time cannot be set: operation not permitted; 'out' is unchanged",
    ),
    (
        "",
        &["--validate", "true", "out"],
        "",
        "statx:error=EIO",
        "cannot validate 'out': the new file cannot be looked at: input/output error; 'out' is unchanged",
    ),
    (
        "",
        &["--validate", "true", "out"],
        "",
        "getcwd:error=ENOENT",
        "cannot validate 'out': the current directory cannot be found: no such file or directory; 'out' is unchanged",
    ),
    (
        "",
        &["--validate", "true", "out"],
        "",
        "fcntl:error=EMFILE",
        "cannot validate 'out': stderr cannot be passed on: too many open files; 'out' is unchanged",
    ),
    (
        "",
        &["--validate", "true", "--inplace=always", "out"],
        "",
        "mkdir:error=EACCES",
        "cannot validate 'out': no directory for it can be made in '/tmp', which $TMPDIR chooses: permission denied; \
         'out' is unchanged",
    ),
    (
        "",
        &["--validate", "true", "--inplace=always", "out"],
        "",
        "copy_file_range:error=EIO",
        "cannot validate 'out': the content cannot be copied to a temporary file: input/output error; 'out' is unchanged",
    ),
    // The disk.
    (
        "",
        &["out"],
        "",
        "fsync:error=EIO",
        "cannot sync the directory of 'out', which is new but may not survive power loss: input/output error",
    ),
    (
        "",
        &["-t", "dir", "in"],
        "",
        "fsync:error=EIO",
        "cannot sync directory 'dir', whose files are new but may not survive power loss: input/output error",
    ),
    (
        "cp in out",
        &["-C", "out"],
        "",
        "fsync:error=EIO",
        "cannot sync 'out': input/output error; 'out' is unchanged",
    ),
    (
        "",
        &["-q", "--inplace=always", "out"],
        "",
        "ftruncate:error=EIO",
        "cannot write 'out': input/output error; 3 of 3 bytes are written, and the file is not what it was",
    ),
];

/// strace(1), put before the program, not before what that starts.
fn strace<'i>(injections: impl IntoIterator<Item = &'i str>) -> Vec<String> {
    let mut words = ["strace", "-qq", "-o", "/dev/null"]
        .map(String::from)
        .to_vec();
    for injection in injections {
        words.extend(["-e".to_owned(), format!("inject={injection}")]);
    }
    words
}

#[test]
fn a_call_that_fails_is_told_for_what_it_is() {
    needs_tool!("strace", "setfacl");
    for (set_up, arguments, always, call, line) in FAULTS {
        let expected = format!("atomwrite: {line}");
        // Which one of those calls it is differs from one build to the next.
        let told = (1..=40).any(|nth| {
            let sandbox = sandbox(set_up);
            let call = if call.contains(":when=") {
                (*call).to_owned()
            } else {
                format!("{call}:when={nth}")
            };
            let injections = always.split_whitespace().chain([call.as_str()]);
            let run = sandbox.atomwrite(arguments.to_vec()).stdin("new");
            let run = run.env("TMPDIR", "/tmp").through(strace(injections));
            let stderr = run.output().stderr;
            stderr.lines().any(|line| line.starts_with(&expected))
        });
        assert!(told, "no {call} makes {arguments:?} say: {line}");
    }
}

#[test]
fn an_owner_that_cannot_be_kept_is_a_warning() {
    needs_root!();
    needs_tool!("strace");
    let sandbox = sandbox("chown 1:1 out");
    sandbox
        .atomwrite(["in", "out"])
        .through(strace(["fchown:error=EPERM"]))
        .warns("warning: cannot keep the group of 'out': operation not permitted")
        .warns("warning: cannot keep the owner of 'out': operation not permitted")
        .succeeds();
}

#[test]
fn a_write_in_place_says_what_it_means() {
    let sandbox = sandbox("");
    sandbox
        .atomwrite(["--inplace=always", "in", "out"])
        .warns(
            "warning: 'out' is overwritten in place: who reads it now can see half of it, and if this breaks off, half is \
             what is left",
        )
        .succeeds();
}
