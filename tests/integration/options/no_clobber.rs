//! `--no-clobber`: any file with DEST's name is refused, even a dangling link. atomwrite checks
//! early if possible, and decides at the commit.

use rustix::process::{Signal, kill_process};

use crate::harness::{
    Sandbox, Strace, Way, derived_name, each, linux_only, needs_tool, program_of, wait_until,
};

#[test]
fn no_clobber_writes_a_new_dest() {
    let sandbox = Sandbox::new();
    sandbox.run("-n a").stdin("new").writes("new");
    sandbox.run("--no-clobber a b").writes("new");
}

#[test]
fn no_clobber_refuses_what_exists_before_any_input_is_read() {
    let sandbox = Sandbox::with("full", "old");
    sandbox
        .sh("touch empty; ln -s full link; ln -s nowhere dangling; mkdir directory; mkfifo fifo");
    sandbox.refuse_each(&[
        ("-n full", 3, "'full': it exists"),
        ("-n empty", 3, "'empty': it exists"),
        ("-n link", 3, "'link': it exists"),
        ("-n dangling", 3, "'dangling'"),
        ("-n --no-dereference dangling", 3, "'dangling'"),
        ("-nf dangling", 3, "'dangling'"),
        ("-n directory", 3, "'directory'"),
        ("-n fifo", 3, "'fifo'"),
    ]);
}

#[test]
fn no_clobber_is_decided_at_the_commit() {
    for &way in Way::all() {
        // A file that came while the input was awaited, and a link.
        let cases = [
            ("-n out", "printf first >out", "out=first"),
            ("-n --no-dereference out", "printf first >out", "out=first"),
            ("-n out", "ln -s nowhere out", "out->nowhere"),
            (
                "-n --no-dereference out",
                "ln -s nowhere out",
                "out->nowhere",
            ),
        ];
        each(cases, |(line, change, left)| {
            let sandbox = Sandbox::new();
            let run = way.take(sandbox.run(line));
            let done = run.while_it_reads("late", || sandbox.sh(change));
            assert_eq!(done.code(), Some(3), "{way:?} {done:?}");
            assert_eq!(sandbox.listing(), left);
        });
    }
}

#[test]
fn no_clobber_is_decided_by_the_rename() {
    linux_only!("a derived name for an unnamed file");
    needs_tool!("strace");
    let sandbox = Sandbox::new();
    let name = derived_name("out");
    // It stops when the new file has its temporary name: nothing is looked up any more before the
    // rename.
    let strace = Strace::new().at(&name).inject("linkat:signal=SIGSTOP");
    let running = sandbox.run("-n out").stdin("late").under(&strace).start();
    wait_until("it has its name", || strace.has_stopped());
    sandbox.write("out", "first");
    kill_process(program_of(&running), Signal::CONT).unwrap();
    let done = running.wait();
    assert_eq!(done.code(), Some(3), "{done:?}");
    assert_eq!(sandbox.listing(), "out=first");
}
