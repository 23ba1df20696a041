//! What another process does to DEST during a run, and what a run must not do to another process.
//!
//! The manual: changes that another process makes to DEST's attributes are kept; a run that fails
//! leaves DEST alone; a signal before the commit ends the run.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};

use rustix::process::Signal;

use crate::harness::{
    Call, LOCK, Mount, NOBODY, Running, Sandbox, Strace, linux_only, lock_name, needs_fuse,
    needs_mounts, needs_root, needs_tool, program_of, skip, terminal, wait_until, wait_until_gone,
    wait_until_it_sleeps,
};

/// A validator that waits until [`let_go`].
fn validator_that_waits(sandbox: &Sandbox) -> String {
    let go = sandbox.aside("go");
    let mode = 0o600.into();
    let fifo = rustix::fs::FileType::Fifo;
    rustix::fs::mknodat(rustix::fs::CWD, &go, fifo, mode, 0).unwrap();
    format!("cat '{}'", go.display())
}

/// Waits until the validator runs, calls `change`, and lets the validator end.
fn during_validation(sandbox: &Sandbox, change: impl FnOnce()) {
    let mut go: Option<File> = None;
    wait_until("the validator runs", || {
        let mut options = OpenOptions::new();
        let options = options.write(true).custom_flags(libc::O_NONBLOCK);
        go = options.open(sandbox.aside("go")).ok();
        go.is_some()
    });
    change();
}

#[test]
fn changes_of_extended_attributes_are_kept() {
    let sandbox = Sandbox::new();
    sandbox.write("out", "old");
    if !sandbox.set_xattr("out", "user.changed", b"1") {
        skip!("needs extended attributes");
    }
    sandbox.set_xattr("out", "user.removed", b"1");
    let validator = validator_that_waits(&sandbox);
    let run = sandbox.atomwrite(["--keep=all", "--validate", &validator, "out"]);
    let running = run.stdin("new").start();
    during_validation(&sandbox, || {
        sandbox.set_xattr("out", "user.changed", b"2");
        sandbox.set_xattr("out", "user.added", b"3");
        rustix::fs::removexattr(sandbox.path("out"), "user.removed").unwrap();
    });
    let done = running.wait();
    assert_eq!((done.code(), done.stderr.as_str()), (Some(0), ""));
    assert_eq!(sandbox.text("out"), "new");
    let attribute = |name: &str| sandbox.xattr("out", name);
    assert_eq!(attribute("user.changed").as_deref(), Some(&b"2"[..]));
    assert_eq!(attribute("user.added").as_deref(), Some(&b"3"[..]));
    assert_eq!(attribute("user.removed"), None);
}

#[test]
fn a_full_disk_is_found_before_dest_is_touched_in_place() {
    needs_mounts!();
    for mount in [
        Mount::tmpfs("size=256k"),
        Mount::ext4(8, &[]),
        Mount::btrfs(),
    ] {
        let sandbox = Sandbox::in_dir(mount.path());
        let out = sandbox.write_with_mode("out", "old", 0o640);
        let input = sandbox.aside("input");
        File::create(&input).unwrap().set_len(1 << 34).unwrap();
        let before = fs::metadata(&out).unwrap();
        sandbox
            .atomwrite(["-q", "--inplace=always", input.to_str().unwrap(), "out"])
            .says("no space left on device; 'out' is unchanged")
            .fails(1);
        let now = fs::metadata(&out).unwrap();
        let key = |seen: &fs::Metadata| {
            let changed = (seen.ctime(), seen.ctime_nsec());
            (seen.mode(), seen.len(), seen.blocks(), changed)
        };
        assert_eq!(key(&now), key(&before), "{}", mount.path().display());
    }
}

#[test]
fn a_preallocation_that_fails_undoes_nothing_that_another_process_does() {
    linux_only!("fallocate");
    needs_tool!("strace");
    let sandbox = Sandbox::new();
    let out = sandbox.write("out", "old\n");
    let validator = validator_that_waits(&sandbox);
    let strace = Strace::new()
        .only("fallocate")
        .at(&out)
        .inject("fallocate:error=EDQUOT");
    let running = sandbox
        .atomwrite(["-q", "--inplace=always", "--validate", &validator, "out"])
        .stdin("new")
        .through(strace.command())
        .start();
    during_validation(&sandbox, || {
        fs::set_permissions(&out, Permissions::from_mode(0o600)).unwrap();
        let mut log = OpenOptions::new().append(true).open(&out).unwrap();
        log.write_all(b"appended\n").unwrap();
    });
    let modified = fs::metadata(&out).unwrap().modified().unwrap();
    let done = running.wait();
    assert!(strace.has_injected());
    assert_eq!(done.code(), Some(1), "{done:?}");
    assert_eq!(sandbox.text("out"), "old\nappended\n");
    assert_eq!(sandbox.mode("out"), 0o600);
    assert!(fs::metadata(&out).unwrap().modified().unwrap() >= modified);
}

/// A pipe that is full; its writing end is the second.
fn full_pipe() -> (OwnedFd, OwnedFd) {
    let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
    rustix::io::ioctl_fionbio(&write, true).unwrap();
    while rustix::io::write(&write, b"x").is_ok() {}
    rustix::io::ioctl_fionbio(&write, false).unwrap();
    (read, write)
}

#[test]
fn a_signal_while_the_warning_waits_leaves_dest_alone() {
    let sandbox = Sandbox::new();
    sandbox.write("out", "old");
    sandbox.write("in", "new");
    let (_read, write) = full_pipe();
    let running = sandbox
        .atomwrite(["--inplace=always", "in", "out"])
        .stderr_to(write)
        .start();
    wait_until_it_sleeps(running.pid());
    running.signal(Signal::TERM);
    let done = running.wait();
    assert_eq!(done.signal(), Some(libc::SIGTERM), "{done:?}");
    assert_eq!(sandbox.text("out"), "old");
}

#[test]
fn a_signal_while_the_warning_waits_leaves_no_new_file() {
    needs_tool!("strace");
    let sandbox = Sandbox::new();
    let (_read, write) = full_pipe();
    let strace = Strace::new().inject("linkat,rename,renameat,renameat2:error=ENOSYS");
    let running = sandbox
        .atomwrite(["--inplace", "new"])
        .stdin("new")
        .through(strace.command())
        .stderr_to(write)
        .start();
    wait_until("the file exists", || sandbox.path("new").exists());
    let program = program_of(&running);
    wait_until_it_sleeps(program);
    rustix::process::kill_process(program, Signal::TERM).unwrap();
    let done = running.wait();
    assert_eq!(done.signal(), Some(libc::SIGTERM), "{done:?}");
    assert_eq!(sandbox.names(), [""; 0]);
}

/// Waits until COMMAND, which writes its process id into a file, has ended and was waited for.
fn wait_until_command_is_gone(sandbox: &Sandbox) {
    let id = sandbox.aside("id");
    wait_until("COMMAND runs", || {
        fs::read_to_string(&id).is_ok_and(|id| id.ends_with('\n'))
    });
    wait_until_gone(fs::read_to_string(&id).unwrap().trim());
}

#[test]
fn no_signal_is_sent_to_a_command_that_has_ended() {
    needs_tool!("strace");
    let sandbox = Sandbox::new();
    sandbox.write("out", "old");
    let strace = Strace::new().alone().only("kill,ppoll,fcntl");
    let id = sandbox.aside("id");
    let command = format!(
        "echo $$ >'{}'; sleep 100 2>/dev/null & exit 0",
        id.display()
    );
    let running: Running = sandbox
        .atomwrite(["out", "--", "sh", "-c", &command])
        .through(strace.command())
        .start();
    wait_until_command_is_gone(&sandbox);
    rustix::process::kill_process(program_of(&running), Signal::TERM).unwrap();
    let done = running.wait();
    assert_eq!(done.signal(), Some(libc::SIGTERM), "{done:?}");
    assert_eq!(strace.trace().count(|call| call.is("kill")), 0);
    assert_eq!(sandbox.text("out"), "old");
}

#[test]
fn a_list_that_is_typed_ends_with_one_control_d() {
    let sandbox = Sandbox::new();
    sandbox.write("in", "new");
    sandbox.mkdir("dir");
    let (mut keyboard, stdin) = terminal();
    keyboard.write_all(b"in\n\x04").unwrap();
    sandbox
        .atomwrite(["-t", "dir", "--files-from=-"])
        .stdin_from(stdin)
        .leaves(["dir", "dir/in", "in"])
        .succeeds();
    assert_eq!(sandbox.text("dir/in"), "new");
}

#[test]
fn a_stopped_terminal_does_not_hold_up_a_signal() {
    let sandbox = Sandbox::new();
    let (mut keyboard, screen) = terminal();
    // Ctrl-S.
    keyboard.write_all(b"\x13").unwrap();
    let mut running = sandbox
        .atomwrite(["--progress", "--lock", "-q", "out"])
        .stdin_held()
        .stderr_to(screen)
        .start();
    let begun = std::time::Instant::now();
    // Nothing is shown before.
    while begun.elapsed() < std::time::Duration::from_secs(1) {
        running.feed("more");
    }
    running.signal(Signal::TERM);
    let done = running.wait_with_input_open();
    assert_eq!(done.signal(), Some(libc::SIGTERM), "{done:?}");
    assert_eq!(sandbox.names(), [""; 0]);
}

#[test]
fn another_users_file_passes_no_attributes_on_if_the_owner_changes() {
    needs_root!();
    let sandbox = Sandbox::new();
    sandbox.mkdir("shared");
    sandbox.chmod("shared", 0o1777);
    sandbox.write_with_mode("shared/out", "bait", 0o666);
    sandbox.chown("shared/out", NOBODY, NOBODY);
    sandbox.setfacl("shared/out", &["-m", "u:1234:rw"]);
    sandbox
        .atomwrite(["-o", "root", "shared/out"])
        .stdin("secret")
        .succeeds();
    assert_eq!(sandbox.mode("shared/out"), 0o644);
    assert_eq!(sandbox.owner("shared/out"), (0, 0));
    assert_eq!(sandbox.xattr("shared/out", "system.posix_acl_access"), None);
}

#[test]
fn a_lock_that_does_not_wait_does_not_wait_for_a_refused_lock_file_either() {
    needs_root!();
    needs_tool!("strace");
    let sandbox = Sandbox::new();
    sandbox.chmod("", 0o777);
    sandbox.write_with_mode(lock_name("out"), "", 0o600);
    let strace = Strace::new().only("ppoll,pselect6,fcntl");
    sandbox
        .atomwrite(["--lock=0", "-q", "out"])
        .stdin("new")
        .user(NOBODY, NOBODY, &[])
        .through(strace.command())
        .says("cannot use a lock file beside it")
        .fails(1);
    let is_pause = |call: &Call| {
        call.is("ppoll") && call.args.starts_with("NULL")
            || call.is("pselect6") && call.args.starts_with("0, ")
    };
    assert_eq!(strace.trace().count(is_pause), 0);
}

#[test]
fn a_failed_first_rename_is_reported_together_with_the_backup() {
    needs_tool!("strace");
    let sandbox = Sandbox::new();
    sandbox.write("in", "new");
    sandbox.mkdir("dir");
    sandbox.write("dir/in", "old");
    sandbox.write("dir/in~", "older");
    let strace = Strace::new()
        .at("d0/in")
        .inject("rename,renameat,renameat2:error=EIO");
    let done = sandbox
        .atomwrite(["-b", "-t", "dir", "in"])
        .through(strace.command())
        .output();
    assert!(strace.has_injected());
    assert_eq!(done.code(), Some(1), "{done:?}");
    assert!(
        done.stderr.ends_with("; 'dir/in' is unchanged\n"),
        "{done:?}"
    );
    assert_eq!(sandbox.text("dir/in"), "old");
    assert_eq!(sandbox.text("dir/in~"), "old");
}

#[test]
fn attributes_of_overlayfs_are_not_handed_on() {
    let sandbox = Sandbox::with("out", "old");
    if !sandbox.set_xattr("out", "user.overlay.metacopy", b"") {
        skip!("needs extended attributes");
    }
    sandbox.set_xattr("out", "user.other", b"1");
    sandbox.run("--keep=all out").stdin("new").succeeds();
    assert_eq!(sandbox.xattr("out", "user.overlay.metacopy"), None);
    assert_eq!(
        sandbox.xattr("out", "user.other").as_deref(),
        Some(&b"1"[..])
    );
}

#[test]
fn a_lock_file_that_changes_with_each_look_ends_with_the_timeout() {
    needs_tool!("strace");
    let sandbox = Sandbox::with("out", "old");
    let run = sandbox.run("--lock=0.2 out -- echo new");
    let run = run.inject(&format!("{LOCK}:error=ESTALE"));
    let done = run.output();
    assert_eq!(done.code(), Some(125), "{done:?}");
    assert!(done.stderr.contains("it is locked by another process"));
    assert_eq!(sandbox.text("out"), "old");
}

#[test]
fn a_dest_in_place_is_not_open_while_the_input_is_read() {
    let sandbox = Sandbox::new();
    sandbox.sh("cp /bin/sh out");
    let run = sandbox.run("-q --inplace=always out").stdin_held();
    let mut running = run.start();
    running.feed("new");
    sandbox.sh("./out -c true");
    assert_eq!(running.wait().code(), Some(0));
    assert_eq!(sandbox.text("out"), "new");
}

#[test]
fn a_first_call_that_fails_in_place_may_have_changed_dest() {
    needs_tool!("strace");
    let writes = "write,pwrite64,splice,sendfile,copy_file_range";
    for (calls, content) in [("ftruncate", ""), (writes, "new")] {
        let sandbox = Sandbox::new();
        sandbox.write_with_mode("out", "old", 0o666);
        let strace = Strace::new()
            .at(sandbox.path("out"))
            .inject(&format!("{calls}:error=EIO"));
        let run = sandbox.run("-q -b -m 600 --inplace=always --allow-empty out");
        let done = run.stdin(content).under(&strace).output();
        assert!(strace.has_injected());
        assert_eq!(done.code(), Some(4), "{done:?}");
        let says = "input/output error; the file may be a mix of new and old\n";
        assert!(done.stderr.ends_with(says), "{done:?}");
        assert_eq!(sandbox.text("out~"), "old", "{calls}");
        assert_eq!(sandbox.mode("out"), 0o600, "{calls}");
    }
    // Reading the input again has changed nothing.
    let sandbox = Sandbox::new();
    sandbox.write_with_mode("out", "old", 0o666);
    let run = sandbox.run("-q -m 600 --inplace=always out").stdin("new");
    let done = run.inject("lseek:error=EIO").output();
    assert_eq!(done.code(), Some(1), "{done:?}");
    assert_eq!((&*sandbox.text("out"), sandbox.mode("out")), ("old", 0o666));
}

#[test]
fn a_removed_file_with_an_acl_gives_its_group_no_rights() {
    let sandbox = Sandbox::new();
    sandbox.write_with_mode("out", "old", 0o600);
    if !sandbox.setfacl("out", &["-m", "u:1234:rw"]) {
        skip!("needs ACLs");
    }
    assert_eq!(sandbox.mode("out"), 0o660);
    let mut running = sandbox.atomwrite(["out"]).stdin_held().start();
    running.feed("secret");
    fs::remove_file(sandbox.path("out")).unwrap();
    assert_eq!(running.wait().code(), Some(0));
    assert_eq!(sandbox.mode("out"), 0o600);
}

#[test]
fn a_link_that_took_the_place_of_a_private_file_is_replaced_by_a_private_file() {
    let sandbox = Sandbox::new();
    sandbox.write_with_mode("out", "old", 0o600);
    let validator = validator_that_waits(&sandbox);
    let run = sandbox.atomwrite(["--no-dereference", "--validate", &validator, "out"]);
    let running = run.stdin("secret").start();
    during_validation(&sandbox, || {
        fs::rename(sandbox.path("out"), sandbox.path("elsewhere")).unwrap();
        sandbox.symlink("elsewhere", "out");
    });
    assert_eq!(running.wait().code(), Some(0));
    assert_eq!(sandbox.text("out"), "secret");
    assert_eq!(sandbox.mode("out"), 0o600);
    assert_eq!(sandbox.text("elsewhere"), "old");
}

#[test]
fn an_attribute_is_removed_from_a_file_that_may_not_be_written_to() {
    let sandbox = Sandbox::new();
    sandbox.write("out", "old");
    if !sandbox.set_xattr("out", "user.removed", b"1") {
        skip!("needs extended attributes");
    }
    sandbox.chmod("out", 0o444);
    let validator = validator_that_waits(&sandbox);
    let run = sandbox.atomwrite(["--force", "--validate", &validator, "out"]);
    let running = run.stdin("new").start();
    during_validation(&sandbox, || {
        sandbox.chmod("out", 0o644);
        rustix::fs::removexattr(sandbox.path("out"), "user.removed").unwrap();
        sandbox.chmod("out", 0o444);
    });
    assert_eq!(running.wait().code(), Some(0));
    assert_eq!(sandbox.text("out"), "new");
    assert_eq!(sandbox.mode("out"), 0o444);
    assert_eq!(sandbox.xattr("out", "user.removed"), None);
}

#[test]
fn a_mode_that_another_process_sets_while_dest_is_written_in_place_is_kept() {
    needs_tool!("strace");
    let sandbox = Sandbox::new();
    let out = sandbox.write("out", "old");
    // Of all calls at DEST, only the one that sets its size comes after the content.
    let strace = Strace::new()
        .only("ftruncate")
        .at(&out)
        .inject("ftruncate:signal=STOP");
    let running = sandbox
        .atomwrite(["-q", "--inplace=always", "-m", "u+x", "out"])
        .stdin("new")
        .through(strace.command())
        .start();
    wait_until("it has stopped", || strace.has_stopped());
    sandbox.chmod("out", 0o600);
    rustix::process::kill_process(program_of(&running), Signal::CONT).unwrap();
    let done = running.wait();
    assert_eq!(done.code(), Some(0), "{done:?}");
    assert_eq!(sandbox.text("out"), "new");
    assert_eq!(sandbox.mode("out"), 0o700);
}

#[test]
fn an_append_in_place_notices_what_is_appended_while_its_backup_is_made() {
    needs_tool!("strace");
    let sandbox = Sandbox::new();
    let out = sandbox.write("out", "old\n");
    let strace = Strace::new()
        .only("fsync")
        .alone()
        .inject("fsync:signal=STOP");
    let running = sandbox
        .atomwrite(["-q", "-a", "--inplace=always", "-b", "--sync=file", "out"])
        .stdin("new\n")
        .through(strace.command())
        .start();
    wait_until("the backup is synced", || strace.has_stopped());
    let mut log = OpenOptions::new().append(true).open(&out).unwrap();
    log.write_all(b"other\n").unwrap();
    rustix::process::kill_process(program_of(&running), Signal::CONT).unwrap();
    let done = running.wait();
    assert_eq!(done.code(), Some(1), "{done:?}");
    assert!(
        done.stderr.contains("another process has changed it"),
        "{done:?}"
    );
    assert_eq!(sandbox.text("out"), "old\nother\n");
}

#[test]
fn space_for_a_hole_in_dest_is_allocated_before_any_write() {
    needs_mounts!();
    let mount = Mount::ext4(16, &[]);
    let sandbox = Sandbox::in_dir(mount.path());
    let out = sandbox.write("out", "");
    let file = OpenOptions::new().write(true).open(&out).unwrap();
    file.set_len(8 << 20).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, &vec![1; 4 << 20], 8 << 20).unwrap();
    // Space for the blocks that the input has and DEST does not, but not for the hole.
    let seen = rustix::fs::statvfs(mount.path()).unwrap();
    let filler = seen.f_bavail * seen.f_frsize - (13 << 19);
    let file = File::create(sandbox.path("filler")).unwrap();
    rustix::fs::fallocate(file, rustix::fs::FallocateFlags::empty(), 0, filler).unwrap();
    let input = sandbox.aside("input");
    File::create(&input).unwrap().set_len(9 << 20).unwrap();
    let blocks = fs::metadata(&out).unwrap().blocks();
    sandbox
        .atomwrite(["-q", "--inplace=always", input.to_str().unwrap(), "out"])
        .says("no space left on device; 'out' is unchanged")
        .fails(1);
    assert_eq!(fs::metadata(&out).unwrap().blocks(), blocks);
}

#[test]
fn a_rename_that_a_server_refuses_for_a_moment_is_retried() {
    needs_fuse!();
    needs_tool!("strace");
    let mount = Mount::new_bindfs();
    let local = Sandbox::new();
    let served = Sandbox::in_dir(mount.path());
    for (sandbox, error, message, is_repeated) in [
        (&local, "ETXTBSY", "text file busy", true),
        (&served, "ETXTBSY", "text file busy", true),
        (&served, "EACCES", "permission denied", true),
        (&local, "EACCES", "permission denied", false),
    ] {
        sandbox.write("out", "old");
        let strace = Strace::new()
            .only("rename,renameat,renameat2")
            .inject(&format!("rename,renameat,renameat2:error={error}"));
        sandbox
            .atomwrite(["out"])
            .stdin("new")
            .through(strace.command())
            .says(format!("cannot write 'out': {message}; 'out' is unchanged"))
            .fails(1);
        assert_eq!(strace.injected() > 1, is_repeated, "{error}");
    }
}
