//! What other processes do at the worst moment.
//!
//! A directory that another user puts in the place of one that this run has just made is not used.
//! No descriptor of DEST is open at the rename. A DEST that is removed and created again keeps its
//! mode. In a directory that all users may write to, another user's file does not get the content.
//! With `-a`, nothing that a validator or another process adds to DEST is lost.
//!
//! A run stops by a SIGSTOP that strace injects at calls on one path.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::inotify::WatchFlags;
use rustix::pipe::{PipeFlags, pipe_with};

use crate::harness::{
    COMMIT_NEW, Call, NOBODY, Sandbox, Stepped, Strace, Watch, needs_root, needs_tool, open,
    wait_until,
};

// ---- A directory that was just made ----

#[test]
fn a_directory_that_took_the_place_of_the_staging_directory_is_refused_and_not_touched() {
    needs_root!();
    needs_tool!("strace");
    for (owner, mode) in [(NOBODY, 0o700), (NOBODY, 0o777), (0, 0o755)] {
        let sandbox = Sandbox::with("a", "new");
        let dir = sandbox.mkdir("d");
        sandbox.write("d/a", "old");
        for name in ["d", "d/a"] {
            sandbox.chown(name, NOBODY, NOBODY);
        }
        let run = sandbox.run("-t d a");
        let mut stepped = Stepped::start(run, "mkdirat", &dir);
        assert!(stepped.has_stopped());
        let made = temporary_name(&dir);
        fs::rename(&made, dir.join("aside")).unwrap();
        fs::create_dir(&made).unwrap();
        sandbox.chown(&made, owner, owner);
        sandbox.chmod(&made, mode);
        let changes = WatchFlags::CREATE | WatchFlags::MOVED_TO | WatchFlags::ATTRIB;
        let watch = Watch::of(&made, changes);
        let done = stepped.finish();
        let in_it: Vec<_> = watch
            .events()
            .into_iter()
            .filter(|(_, name)| !name.is_empty())
            .collect();
        assert_eq!(in_it, [], "{owner} {mode:o}: {done:?}");
        assert_eq!(done.code(), Some(1), "{owner} {mode:o}: {done:?}");
        let reason = "another process has replaced a directory that was just made";
        assert!(done.stderr.contains(reason), "{done:?}");
        assert_eq!(sandbox.text("d/a"), "old");
    }
    // It may be another private directory of this user, which is not emptied.
    let sandbox = Sandbox::with("a", "new");
    let dir = sandbox.mkdir("d");
    let spool = sandbox.mkdir("d/spool");
    sandbox.chmod("d/spool", 0o700);
    let validator = "for dir in d/.atomwrite.*.tmp; do echo kept >\"$dir\"/message; done";
    let run = sandbox.atomwrite(["--validate", validator, "-t", "d", "a"]);
    let mut stepped = Stepped::start(run, "mkdirat", &dir);
    assert!(stepped.has_stopped());
    let made = temporary_name(&dir);
    fs::rename(&made, dir.join("aside")).unwrap();
    fs::rename(spool, &made).unwrap();
    let done = stepped.finish();
    assert_eq!(done.code(), Some(0), "{done:?}");
    assert_eq!(sandbox.text("d/a"), "new");
    assert_eq!(fs::read_to_string(made.join("message")).unwrap(), "kept\n");
}

/// The only temporary name in a directory.
fn temporary_name(dir: &Path) -> PathBuf {
    let mut names = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| crate::harness::is_temporary(path.as_os_str()));
    let name = names.next().expect("it was just made");
    assert_eq!(names.next(), None);
    name
}

// ---- A standard input that is DEST ----

#[test]
fn a_standard_input_that_is_dest_is_not_open_at_the_rename() {
    needs_tool!("strace");
    for words in [
        "out",
        "--lock out",
        "out -- cat",
        "--lock out -- cat",
        "out -- echo new",
        "in out",
        "--lock in out",
    ] {
        let sandbox = Sandbox::with("in", "new");
        let stdin = open(sandbox.write("out", "old"));
        let trace = sandbox.run(words).stdin_from(stdin).traced();
        let rename = trace.only("rename", Call::renames);
        let replaced = trace
            .places(|call| call.name.starts_with("dup") && call.result.starts_with("0</dev/null>"));
        assert_eq!(replaced.len(), 1, "{words:?} {trace}");
        assert!(replaced[0] < rename, "{words:?} {trace}");
    }
}

#[test]
fn a_commands_standard_input_that_was_dest_before_the_lock_is_refused() {
    for (line, status) in [("-v --lock out -- tee ran", 125), ("-v --lock in out", 3)] {
        let sandbox = Sandbox::with("in", "new");
        let old = open(sandbox.write("out", "old"));
        let mut holder = sandbox.run("--lock out").stdin_held().start();
        holder.feed("newer");
        let (read, write) = pipe_with(PipeFlags::CLOEXEC).unwrap();
        let run = sandbox.run(line).stdin_from(old);
        let waiter = run.stderr_to(write).start();
        wait_until("it says that it waits", || {
            rustix::io::ioctl_fionread(&read).unwrap() > 0
        });
        let done = holder.wait();
        assert_eq!(done.code(), Some(0), "{done:?}");
        let done = waiter.wait();
        let mut said = String::new();
        File::from(read).read_to_string(&mut said).unwrap();
        assert_eq!(done.code(), Some(status), "{done:?} {said}");
        let reason = "which another process replaced before this one had the lock; name it as an \
                      operand of COMMAND: atomwrite --lock 'out' -- COMMAND 'out'";
        assert!(said.contains(reason), "{said}");
        assert_eq!(sandbox.text("out"), "newer");
        assert_eq!(sandbox.names(), ["in", "out"]);
    }
}

// ---- A DEST that is removed and created ----

/// Runs once; removes DEST at the stop of one number and creates it again, with mode 0600, at the
/// stop of another one. Returns the number of stops, and whether DEST could be created again.
fn recreate_between(
    sandbox: &Sandbox,
    options: &[&str],
    removed: usize,
    created: usize,
) -> (usize, bool) {
    let run = sandbox.atomwrite(options.iter().copied().chain(["out"]));
    let mut stepped = Stepped::start(run.stdin("new"), "statx,openat,newfstatat", "out");
    let path = sandbox.path("out");
    let mut is_new = false;
    while stepped.has_stopped() {
        let stop = stepped.count();
        // The new file may be there already.
        if stop == removed && sandbox.text("out") == "old" {
            fs::remove_file(&path).unwrap();
        }
        if stop == created {
            let mut options = OpenOptions::new();
            let file = options.write(true).create_new(true).mode(0o600).open(&path);
            is_new = file.is_ok_and(|mut file| file.write_all(b"theirs").is_ok());
        }
        stepped.go_on();
    }
    let count = stepped.count();
    let done = stepped.wait();
    assert!(matches!(done.code(), Some(0 | 1)), "{done:?}");
    (count, is_new)
}

#[test]
fn a_dest_that_is_removed_and_created_again_keeps_its_mode() {
    needs_tool!("strace");
    for options in [&["--sync=none"][..], &["--sync=none", "-C"]] {
        let ground = || {
            let sandbox = Sandbox::new();
            sandbox.write_with_mode("out", "old", 0o600);
            sandbox
        };
        let (count, _) = recreate_between(&ground(), options, 0, 0);
        assert!(count >= 3, "{count}");
        let mut recreated = 0;
        for removed in 1..=count {
            // A missing DEST is looked up more often.
            for created in removed + 1..=count + 2 {
                let sandbox = ground();
                let (_, is_new) = recreate_between(&sandbox, options, removed, created);
                if is_new {
                    recreated += 1;
                    let mode = sandbox.mode("out");
                    assert_eq!(mode, 0o600, "{options:?}: {removed}, {created} of {count}");
                }
                // A run that fails leaves none.
                assert!(sandbox.names().iter().all(|name| name == "out"));
            }
        }
        assert!(recreated > 0);
    }
}

// ---- A directory that all users may write to ----

/// The part of a refusal that says why.
const TRAP: &str = "it is another user's, in a world-writable directory, and that user would get the \
                    content; use --keep=none or -o to replace it";

/// A sticky directory of this user that all users may write to, with a file of this owner.
fn sticky(directory_owner: u32, owner: u32) -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.write_with_mode("out", "old", 0o666);
    sandbox.chown("out", owner, owner);
    sandbox.give_to(directory_owner, directory_owner);
    sandbox.chmod("", 0o1777);
    sandbox
}

#[test]
fn another_users_file_in_a_sticky_directory_does_not_get_the_content_of_root() {
    needs_root!();
    for options in ["", "--lock", "-f", "-a", "--keep=all", "-g root"] {
        let sandbox = sticky(0, NOBODY);
        let run = sandbox.run(&format!("{options} out")).reads_nothing();
        run.fails_with(1, TRAP);
    }
    // One of many.
    let sandbox = sticky(0, NOBODY);
    let source = sandbox.aside("out");
    fs::write(&source, "new").unwrap();
    let words = ["-t".into(), sandbox.root().to_owned(), source];
    let done = sandbox.atomwrite(words).output();
    assert_eq!(done.code(), Some(1), "{done:?}");
    assert!(done.stderr.contains(TRAP), "{done:?}");
    assert_eq!(
        (sandbox.text("out"), sandbox.owner("out")),
        ("old".into(), (NOBODY, NOBODY))
    );
    assert_eq!(sandbox.names(), ["out"]);
}

#[test]
fn a_file_that_another_user_puts_into_a_sticky_directory_during_the_run_is_refused() {
    needs_root!();
    for options in [&[][..], &["--lock", "-q"]] {
        for existing in [true, false] {
            let sandbox = sticky(0, 0);
            if !existing {
                fs::remove_file(sandbox.path("out")).unwrap();
            }
            let words = options.iter().copied().chain(["out"]);
            let mut running = sandbox.atomwrite(words).stdin_held().start();
            running.feed("new");
            drop(fs::remove_file(sandbox.path("out")));
            sandbox.write_with_mode("out", "theirs", 0o600);
            sandbox.chown("out", NOBODY, NOBODY);
            let done = running.wait();
            assert_eq!(done.code(), Some(1), "{options:?} {existing} {done:?}");
            assert!(done.stderr.contains(TRAP), "{done:?}");
            assert_eq!(sandbox.listing(), "out=theirs");
        }
    }
    // The directory may be new, too.
    let sandbox = Sandbox::new();
    let command = "mkdir d; chmod 1777 d; echo theirs >d/out; chown 65534 d/out; echo secret";
    let words = ["-D", "d/out", "--", "sh", "-c", command];
    let done = sandbox.atomwrite(words).output();
    assert_eq!(done.code(), Some(125), "{done:?}");
    assert!(done.stderr.contains(TRAP), "{done:?}");
    assert_eq!(sandbox.text("d/out"), "theirs\n");
    // It may even get the inode number of the file that was checked (ext4, xfs).
    let validator = "cd \"${2%/*}\" || exit; want=$(stat -c %i out); rm out; n=0
        until n=$((n+1)); echo theirs >g$n; [ $(stat -c %i g$n) = $want ] || [ $n = 50 ]; do :; done
        chown 65534 g$n; mv g$n out; rm -f g*";
    let sandbox = sticky(0, 0);
    let words = ["-q", "--inplace=always", "--validate", validator, "out"];
    let done = sandbox.atomwrite(words).stdin("secret").output();
    assert_eq!(done.code(), Some(1), "{done:?}");
    let reason = "it is not the file that was checked";
    assert!(done.stderr.contains(reason), "{done:?}");
    assert_eq!(sandbox.listing(), "out=theirs\n");
}

#[test]
fn root_replaces_a_harmless_file_in_a_sticky_directory() {
    needs_root!();
    for (directory, owner, options, becomes) in [
        // The file gets another owner.
        (0, NOBODY, "--keep=none", 0),
        (0, NOBODY, "-o root", 0),
        // The directory's owner may do anything in it; and root's own.
        (1000, 1000, "", 1000),
        (0, 0, "", 0),
        (NOBODY, 0, "", 0),
    ] {
        let sandbox = sticky(directory, owner);
        let run = sandbox.run(&format!("{options} out")).stdin("new");
        run.succeeds();
        assert_eq!(sandbox.text("out"), "new");
        assert_eq!(sandbox.owner("out").0, becomes, "{directory} {owner}");
    }
    // No other user can put a file there.
    for mode in [0o1775, 0o1755] {
        let sandbox = sticky(0, NOBODY);
        sandbox.chmod("", mode);
        sandbox.run("out").stdin("new").succeeds();
        assert_eq!(sandbox.owner("out"), (NOBODY, NOBODY));
    }
}

// ---- A DEST that is appended to ----

#[test]
fn what_a_validator_adds_to_a_dest_that_is_overwritten_in_place_is_not_lost() {
    let sandbox = Sandbox::with("out", "old\n");
    let validator = "echo LOGLINE >>\"$2\"";
    let done = sandbox
        .atomwrite(["-a", "--inplace=always", "--validate", validator, "out"])
        .stdin("new\n")
        .output();
    assert_eq!(done.code(), Some(1), "{done:?}");
    assert!(
        done.stderr.contains("another process has changed it"),
        "{done:?}"
    );
    assert_eq!(sandbox.listing(), "out=old\nLOGLINE\n");
}

// ---- A DEST that is compared ----

/// At most so much more than its size is read of DEST, and at most so much in one call.
const CHUNK: u64 = 512 * 1024;

#[test]
fn a_dest_that_is_compared_is_read_once_in_chunks_of_one_size() {
    needs_tool!("strace");
    let content: Vec<u8> = (0..600_001_u32)
        .map(|at| u8::try_from(at % 251).unwrap())
        .collect();
    for line in [
        "-C out",
        "-C --lock -q out",
        "-C in out",
        "-C --lock in out",
    ] {
        for is_same in [true, false] {
            let sandbox = Sandbox::with("in", &content);
            let mut old = content.clone();
            if !is_same {
                *old.last_mut().unwrap() ^= 1;
            }
            let out = sandbox.write("out", &old);
            let strace = Strace::new();
            let mut running = sandbox.run(line).under(&strace).stdin_held().start();
            if !line.contains("in out") {
                // Each piece is compared before the next one comes.
                for piece in content.chunks(3001) {
                    running.feed(piece);
                }
            }
            let done = running.wait();
            assert_eq!(done.code(), Some(0), "{done:?}");
            assert!(sandbox.read("out") == content);
            let trace = strace.trace();
            // What comes through a pipe is compared then, and not read again from the new file.
            let again = |call: &Call| call.name.contains("read") && call.args.contains("(deleted)");
            assert!(
                line.contains("in out") || trace.count(again) == 0,
                "{trace}"
            );
            let dest = format!("<{}>", out.display());
            let reads: Vec<_> = trace
                .own()
                .iter()
                .filter(|call| call.name.contains("read") && call.args.contains(&dest))
                .collect();
            let bytes = |call: &&Call| call.result.parse::<u64>().unwrap();
            let read: u64 = reads.iter().map(bytes).sum();
            let size = old.len() as u64;
            assert!(
                (size..=size + CHUNK).contains(&read),
                "{read} bytes, {line}"
            );
            // What a call may take grows with a buffer that grows.
            for call in reads {
                let size = call.args.rsplit(", ").find_map(|word| word.parse().ok());
                let capacity: u64 = if call.is("read") {
                    size.unwrap()
                } else {
                    let mut words = call.args.rsplit(", ").skip(1);
                    words.next().unwrap().parse().unwrap()
                };
                assert!(capacity <= CHUNK, "{call:?}");
            }
        }
    }
}

#[test]
fn a_dest_that_cannot_be_compared_is_replaced() {
    needs_tool!("strace");
    for content in [b"same".to_vec(), vec![b'x'; 1_000_000]] {
        for form in ["-C out", "-C in out", "-C out -- cat in"] {
            let sandbox = Sandbox::new();
            let out = sandbox.write("out", &content);
            sandbox.write("in", &content);
            let inode = sandbox.inode("out");
            let strace = Strace::new()
                .at(&out)
                .inject("pread64,read,readv,preadv,preadv2:error=EIO");
            let run = sandbox.run(form).stdin(content.clone()).under(&strace);
            run.succeeds();
            assert!(strace.has_injected());
            assert_ne!(sandbox.inode("out"), inode, "{form:?}");
            assert!(sandbox.read("out") == content);
        }
    }
}

#[test]
fn a_name_that_is_taken_but_invisible_causes_no_endless_loop() {
    needs_tool!("strace");
    for words in ["new", "-t . d/new"] {
        let sandbox = Sandbox::new();
        sandbox.mkdir("d");
        sandbox.write("d/new", "content");
        let strace = Strace::new().inject(&format!("{COMMIT_NEW}:error=EEXIST"));
        let run = sandbox.run(words).stdin("content");
        let done = run.under(&strace).output();
        assert_eq!(done.code(), Some(1), "{done:?}");
        assert!(done.stderr.contains("file exists"), "{done:?}");
        assert_eq!(sandbox.names(), ["d", "d/new"]);
    }
}

#[test]
fn a_dest_that_another_process_wrote_to_is_not_reported_as_unchanged() {
    let sandbox = Sandbox::with("out", "old");
    let mut run = sandbox.run("--validate 'exit 1' out").stdin_held().start();
    run.feed("new");
    sandbox.write("out", "of another writer");
    let done = run.wait();
    assert_eq!(done.code(), Some(3), "{done:?}");
    assert!(!done.stderr.contains("unchanged"), "{done:?}");
    assert_eq!(sandbox.text("out"), "of another writer");
}
