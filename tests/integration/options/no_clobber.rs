//! `--no-clobber`: anything by DEST's name is refused, a dangling link too; seen early where possible, and decided at the
//! commit.

use crate::harness::{Sandbox, needs_tool};

#[test]
fn no_clobber_writes_a_new_dest() {
    let sandbox = Sandbox::new();
    sandbox.run("-n a").stdin("new").writes("new");
    sandbox.run("--no-clobber a b").writes("new");
}

#[test]
fn no_clobber_refuses_what_exists_before_any_input_is_read() {
    let sandbox = Sandbox::with("full", "old");
    sandbox.write("empty", "");
    sandbox.symlink("full", "link");
    for name in ["full", "empty", "link"] {
        sandbox
            .atomwrite(["-n", name])
            .reads_nothing()
            .says(format!("'{name}'"))
            .fails_with(3, "exists");
    }
}

#[test]
fn no_clobber_refuses_a_dangling_link() {
    let sandbox = Sandbox::new();
    sandbox.symlink("nowhere", "link");
    for arguments in ["-n link", "-n --no-dereference link", "-nf link"] {
        sandbox.run(arguments).stdin("new").fails_with(3, "'link'");
    }
}

#[test]
fn no_clobber_refuses_whatever_kind_it_is() {
    let sandbox = Sandbox::new();
    sandbox.mkdir("directory");
    sandbox.fifo("fifo");
    for name in ["directory", "fifo"] {
        let done = sandbox.atomwrite(["-n", name]).stdin("new").output();
        assert!(matches!(done.code(), Some(1 | 3)), "{done:?}");
    }
    assert_eq!(sandbox.names(), ["directory", "fifo"]);
}

#[test]
fn no_clobber_is_decided_at_the_commit() {
    let sandbox = Sandbox::new();
    for arguments in ["-n out", "-n --no-dereference out"] {
        // A file that came while the input was awaited.
        let mut run = sandbox.run(arguments).stdin_held().start();
        run.feed("late");
        sandbox.write("out", "first");
        let done = run.wait();
        assert_eq!(done.code(), Some(3), "{done:?}");
        assert_eq!(sandbox.listing(), "out=first");
        std::fs::remove_file(sandbox.path("out")).unwrap();

        // And a link.
        let mut run = sandbox.run(arguments).stdin_held().start();
        run.feed("late");
        sandbox.symlink("nowhere", "out");
        let done = run.wait();
        assert_eq!(done.code(), Some(3), "{done:?}");
        assert_eq!(sandbox.names(), ["out"]);
        std::fs::remove_file(sandbox.path("out")).unwrap();
    }
}

#[test]
fn no_clobber_lets_exactly_one_of_many_writers_win() {
    let sandbox = Sandbox::new();
    for round in 0..3 {
        let name = format!("out{round}");
        let mut runs: Vec<_> = (0..30)
            .map(|_| sandbox.atomwrite(["-n", &name]).stdin_held().start())
            .collect();
        // All have passed the early look before the first may commit.
        for (index, run) in runs.iter_mut().enumerate() {
            run.feed(format!("writer {index}"));
        }
        for run in &mut runs {
            run.close_stdin();
        }
        let codes: Vec<_> = runs
            .into_iter()
            .map(|run| run.wait().code().unwrap())
            .collect();
        let winners: Vec<_> = (0..codes.len())
            .filter(|&index| codes[index] == 0)
            .collect();
        assert_eq!(winners.len(), 1, "{codes:?}");
        assert!(codes.iter().all(|code| matches!(code, 0 | 3)), "{codes:?}");
        assert_eq!(sandbox.text(&name), format!("writer {}", winners[0]));
        assert_eq!(sandbox.names().len(), round + 1);
    }
}

#[test]
fn no_clobber_refuses_where_renameat2_is_not_known() {
    // NFS gives EINVAL, and link(2) decides there.
    needs_tool!("strace");
    let sandbox = Sandbox::new();
    for error in ["EINVAL", "ENOSYS"] {
        let trace = sandbox.aside("trace");
        let strace = |arguments: &[&str]| {
            let inject = format!("inject=renameat2:error={error}");
            sandbox.atomwrite(arguments.to_vec()).through([
                "strace".as_ref(),
                "-f".as_ref(),
                "-e".as_ref(),
                inject.as_ref(),
                "-o".as_ref(),
                trace.as_os_str(),
            ])
        };
        strace(&["-n", error]).stdin("new").succeeds();
        assert_eq!(sandbox.text(error), "new");
        assert_eq!(sandbox.stat(error).len(), 3);

        let mut run = strace(&["-n", "out"]).stdin_held().start();
        run.feed("late");
        sandbox.write("out", "first");
        let done = run.wait();
        assert_eq!(done.code(), Some(3), "{done:?}");
        assert_eq!(sandbox.text("out"), "first");
        std::fs::remove_file(sandbox.path("out")).unwrap();
    }
    assert_eq!(sandbox.names(), ["EINVAL", "ENOSYS"]);
}
