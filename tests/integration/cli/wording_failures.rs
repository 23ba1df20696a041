//! What the messages of failing calls say, word for word.

use std::fs::{self, File};
use std::io::Write;

use rustix::process::{Signal, kill_process};

use crate::cli::wording::sandbox;
use crate::harness::{
    Feeder, NOBODY, Running, Strace, can_be_others, each, lock_name, needs_tool, open, program_of,
    rows, terminal, wait_until, wait_until_it_sleeps,
};

/// Calls that fail: the set-up; the command line; the path whose calls fail, if only its; how they
/// fail, by strace(1); what is said then. `lock` is the lock file of `out`, and standard error is a
/// file of that name. Where it is `in`, that is standard input too.
const FAULTS: &str = "
# The attributes of the new file.
| -q -m 600 --inplace=always out | | fchmod:error=EPERM | cannot set the mode of 'out': operation not permitted; 'out' is unchanged
| -o 1 out | | fchown:error=EPERM | cannot set the owner of 'out': operation not permitted; 'out' is unchanged
| -g 1 out | | fchown:error=EPERM | cannot set the group of 'out': operation not permitted; 'out' is unchanged
chmod 2755 out | -m 2755 out | | fchmod:retval=0 | cannot set the set-group-ID bit of 'out': operation not permitted; 'out' is unchanged
chmod 2755 out | out | | fchmod:retval=0 | warning: cannot keep the set-group-ID bit of 'out': operation not permitted
| out | out | flistxattr:error=EIO | cannot read the attributes of 'out': input/output error; 'out' is unchanged
setfacl -m u:1:r out | out | out | fgetxattr:retval=4 | cannot parse the ACL of 'out'; 'out' is unchanged
setfacl -d -m u:1:r dir; cp out dir/out; setfacl -b dir/out | dir/out | | fremovexattr:error=EIO | cannot remove the inherited ACL of 'dir/out': input/output error; 'dir/out' is unchanged
| --keep=none new | | linkat:error=ENOENT fgetxattr:error=EIO | cannot read the default ACL of the directory of 'new': input/output error
# The input.
| out | in | statx,fstat:error=EIO | cannot read standard input: input/output error; 'out' is unchanged
# Directories, locks, backups.
| -D new/out | | mkdirat:error=EROFS | cannot make directory 'new' for 'new/out': read-only file system
| -t dir in | | mkdirat:error=EROFS | cannot create a directory beside 'dir/in': read-only file system; 'dir' is unchanged
| --lock out | lock | fcntl,flock:error=ENOLCK | cannot lock 'out': no locks available; 'out' is unchanged
| --backup=numbered out | | getdents64:error=EIO | cannot back up 'out': cannot read its directory: input/output error; 'out' is unchanged
| -q --inplace=always -b out | . | fsync:error=EIO | cannot back up 'out': cannot sync its directory: input/output error; 'out' is unchanged
# Validators.
| --validate true out | | mkdirat:error=EROFS | cannot validate 'out': cannot make a directory in '.': read-only file system; 'out' is unchanged
| --validate true out | | lseek:error=EIO | cannot validate 'out': cannot copy the new file: input/output error; 'out' is unchanged
| --validate false out | | symlinkat:error=EIO | cannot write 'out': the validator exited with status 1; the directory's other files were left out of the preview; 'out' is unchanged
| --validate true out | | getcwd:error=ENOENT | cannot validate 'out': cannot find the current directory: no such file or directory; 'out' is unchanged
| --validate true out | stderr | fcntl:error=EMFILE | cannot validate 'out': cannot duplicate standard error: too many open files; 'out' is unchanged
ln -s ../dir/in dir/link; cp in link | -t dir --validate-all true link | | symlinkat:error=EIO | cannot validate 'dir/link': input/output error; 'dir' is unchanged
# Programs, and signals.
| out -- echo x | | waitid,wait4:error=EINVAL | cannot wait for the program that was started: invalid argument; 'out' is unchanged
| -q --inplace=always out | | rt_sigprocmask:error=EINVAL | cannot block signals: invalid argument; 'out' is unchanged
# The disk.
| out | . | fsync:error=EIO | cannot sync the directory of 'out', which is new but may not survive power loss: input/output error
| -t dir in | dir | fsync:error=EIO | cannot sync directory 'dir', whose files are new but may not survive power loss: input/output error
cp in out | -C out | out | fsync:error=EIO | cannot sync 'out': input/output error; 'out' is unchanged
| -q --inplace=always out | | ftruncate:error=EIO | cannot write 'out': input/output error; 3 of 3 bytes are written, and the file is a mix of new and old
";

#[test]
fn a_failed_call_is_reported_by_what_it_did() {
    needs_tool!("strace", "setfacl");
    each(rows(FAULTS), |[set_up, line, path, injections, message]| {
        let sandbox = sandbox(set_up);
        let stderr = sandbox.aside("stderr");
        let strace = Strace::new().alone().every_call();
        let strace = match path {
            "" => strace,
            "lock" => strace.at(sandbox.path(lock_name("out"))),
            "stderr" => strace.at(&stderr),
            path => strace.at(sandbox.path(path)),
        };
        let strace = injections.split(' ').fold(strace, Strace::inject);
        let run = sandbox.run(line).under(&strace).env("TMPDIR", "/tmp");
        let run = match path {
            "in" => run.stdin_from(open(sandbox.path("in"))),
            _ => run.stdin("new"),
        };
        run.stderr_to(File::create(&stderr).unwrap()).output();
        let said = fs::read_to_string(stderr).unwrap();
        let expected = format!("atomwrite: {message}");
        assert!(
            said.lines().any(|line| line.starts_with(&expected)),
            "{said}"
        );
        assert!(strace.has_injected());
    });
}

#[test]
fn a_directory_that_loses_its_permissions_before_the_preview_is_reported() {
    needs_tool!("strace");
    let sandbox = sandbox("");
    // It stops when the staging directory is complete.
    let strace = Strace::new().at("d0").inject("mkdirat:signal=SIGSTOP");
    let run = sandbox.run("-t dir --validate-all true in");
    let run = if can_be_others() {
        sandbox.chown("dir", NOBODY, NOBODY);
        run.by_nobody()
    } else {
        run
    };
    let done = stopped(&strace, run, || sandbox.chmod("dir", 0o555)).wait();
    assert_eq!(
        done.stderr,
        "atomwrite: cannot validate the files of 'dir': cannot make a directory in 'dir/.': permission denied; 'dir' is \
         unchanged\n"
    );
}

#[test]
fn an_output_that_cannot_be_read_is_reported_with_its_command() {
    needs_tool!("strace");
    let sandbox = sandbox("mkfifo go");
    let run = sandbox.run("-a out -- cat go").start();
    let go = Feeder::open(&sandbox.path("go"));
    wait_until_it_sleeps(run.pid());
    // From here on the reads are those of the output.
    let strace = Strace::new()
        .inject("splice:error=EINVAL")
        .inject("read:error=EIO");
    let attached = strace.attach(run.id());
    drop(go);
    let done = run.wait();
    drop(attached);
    assert_eq!(
        done.stderr,
        "atomwrite: cannot read the output of 'cat': input/output error; 'out' is unchanged\n"
    );
    assert_eq!(sandbox.text("out"), "old");
}

#[test]
fn standard_input_that_cannot_be_closed_is_an_error() {
    needs_tool!("strace");
    let sandbox = sandbox("");
    let input = open(sandbox.path("out"));
    sandbox
        .run("out")
        .stdin_from(input)
        .inject("dup2,dup3:error=EMFILE")
        .fails_with(
            1,
            "cannot close standard input: too many open files; 'out' is unchanged",
        );
}

#[test]
fn a_terminal_that_hangs_up_is_reported() {
    let sandbox = sandbox("");
    let (mut keyboard, stdin) = terminal();
    let run = sandbox.run("-q out").stdin_from(stdin).start();
    keyboard.write_all(b"half\n").unwrap();
    wait_until_it_sleeps(run.pid());
    drop(keyboard);
    let done = run.wait();
    assert_eq!(done.code(), Some(1), "{done:?}");
    assert_eq!(
        done.stderr,
        "atomwrite: cannot read standard input: the terminal has hung up; 'out' is unchanged\n"
    );
    assert_eq!(sandbox.text("out"), "old");
}

#[test]
fn a_validator_without_a_shell_cannot_be_run() {
    let sandbox = sandbox("");
    sandbox
        .run("--validate true in out")
        .env("PATH", sandbox.path("nowhere"))
        .fails_with(
            1,
            "cannot validate 'out': cannot run 'sh': no such file or directory; ",
        );
}

#[test]
fn two_names_that_differ_only_in_case_are_reported_on_a_case_insensitive_filesystem() {
    needs_tool!("strace");
    let sandbox = sandbox("cp in IN");
    // So looks a directory that ignores case: the name of the first subdirectory is there in upper
    // case too.
    let strace = Strace::new().at("D0").inject("statx,newfstatat:retval=0");
    let done = sandbox.run("-t dir in IN").under(&strace).output();
    assert!(strace.has_injected());
    assert_eq!(
        done.stderr,
        "atomwrite: cannot write 'dir/IN': it is the same file as 'dir/in', because the directory ignores case; 'dir' is \
         unchanged\n"
    );
}

/// Starts a run that stops where strace injects SIGSTOP, does something then, and continues the
/// run.
#[track_caller]
fn stopped(strace: &Strace, run: crate::harness::Run<'_>, then: impl FnOnce()) -> Running {
    let running = run.under(strace).start();
    wait_until("it has stopped", || strace.has_stopped());
    then();
    kill_process(program_of(&running), Signal::CONT).unwrap();
    running
}

#[test]
fn a_private_directory_that_its_owner_may_not_write_to_is_an_error() {
    needs_tool!("setfacl");
    let sandbox = sandbox("setfacl -d -m u::rx,g::rx,o::rx .");
    sandbox.run("--validate true in out").fails_with(
        1,
        "cannot make a directory in '.': a new directory there has mode 0500, by a default ACL",
    );
}

#[test]
fn a_private_directory_that_another_process_replaces_is_an_error() {
    needs_tool!("strace");
    let sandbox = sandbox("rmdir dir");
    let strace = Strace::new().alone().inject("mkdirat:signal=SIGSTOP");
    let run = sandbox.run("--validate true in out");
    let done = stopped(&strace, run, || {
        let names = sandbox.names_besides_drafts();
        let private = names[0].to_str().unwrap();
        assert!(private.starts_with(".atomwrite."), "{names:?}");
        fs::rename(sandbox.path(private), sandbox.path("away")).unwrap();
        sandbox.mkdir(private);
        sandbox.write(format!("{private}/precious"), "theirs");
    })
    .wait();
    assert_eq!(
        done.stderr,
        "atomwrite: cannot validate 'out': cannot make a directory in '.': another process has replaced a directory that \
         was just made; 'out' is unchanged\n"
    );
    assert_eq!(sandbox.text("out"), "old");
    // It is not emptied.
    let names = sandbox.names();
    assert!(
        names[1].to_str().unwrap().ends_with(".tmp/precious"),
        "{names:?}"
    );
}

#[test]
fn a_dest_that_another_process_makes_a_fifo_cannot_be_backed_up() {
    needs_tool!("strace");
    let sandbox = sandbox("");
    // Where no link is possible; between the link that fails and the copy.
    let strace = Strace::new()
        .alone()
        .at("out")
        .inject("linkat:error=EPERM:signal=SIGSTOP");
    let run = sandbox.run("-b in out");
    let done = stopped(&strace, run, || {
        fs::rename(sandbox.fifo("fifo"), sandbox.path("out")).unwrap();
    })
    .wait();
    assert_eq!(
        done.stderr,
        "atomwrite: cannot back up 'out': it is not a regular file; another process has replaced 'out'\n"
    );
    assert_eq!(sandbox.names(), ["dir", "in", "out"]);
}
