//! `--inplace`, the one way that is not atomic.
//!
//! What the contract says: where a rename cannot work (a file that is mounted by itself, a directory that is read-only or
//! not ours, a device, a FIFO), and only there, the input is taken in whole, the space is reserved, and then DEST is
//! overwritten; one warning says that it is not atomic. `always` keeps the inode. Without the option such a DEST fails
//! before any input is read, and the message names both cures. Never for ENOSPC or EIO. Status 4 if it broke off.

use std::fs::{self, File, Permissions};
use std::io::{Read, Seek, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::thread;

use rustix::fs::{CWD, FileType, makedev, mknodat};
use rustix::process::Signal;

use crate::input::terminal;
use crate::mounts::{Cover, Mount, needs_mounts};
use crate::sandbox::{
    NOBODY, Sandbox, Witness, check_message, needs_root, needs_tool, skip, tool, wait_until,
};
use crate::strace::Strace;

/// A part of the warning.
const WARNING: &str = "overwriting 'out' in place";

/// A directory in which a user may write to `out`, and do nothing else.
fn closed_to_others() -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.write_with_mode("out", "old content", 0o666);
    sandbox
}

// ---- Where it is needed ---------------------------------------------------------------------------------------

#[test]
fn a_file_that_is_mounted_by_itself_is_overwritten() {
    needs_mounts!();
    let sandbox = Sandbox::new();
    let elsewhere = Sandbox::new();
    let shown = elsewhere.write("shown", "old content");
    let target = sandbox.write("out", "hidden");
    let cover = Cover::bind(&shown, &target);
    let inode = elsewhere.inode("shown");
    sandbox
        .atomwrite(["--inplace", "out"])
        .stdin("new")
        .warns(WARNING)
        .succeeds();
    assert_eq!(sandbox.text("out"), "new");
    assert_eq!(elsewhere.text("shown"), "new");
    assert_eq!(elsewhere.inode("shown"), inode);
    sandbox
        .atomwrite(["--inplace=always", "-v", "out"])
        .stdin("newer")
        .warns(WARNING)
        .says("written in place: 'out' (5 bytes)")
        .succeeds();
    assert_eq!(elsewhere.text("shown"), "newer");
    drop(cover);
    assert_eq!(sandbox.text("out"), "hidden");
}

#[test]
fn a_file_that_is_mounted_by_itself_fails_before_any_input_is_read() {
    needs_mounts!();
    let sandbox = Sandbox::new();
    let elsewhere = Sandbox::new();
    let shown = elsewhere.write("shown", "old content");
    let target = sandbox.write("out", "hidden");
    let _cover = Cover::bind(&shown, &target);
    for options in [
        &[][..],
        &["--inplace=never"],
        &["--inplace", "--inplace=never"],
    ] {
        let witness = Witness::new();
        sandbox
            .atomwrite(options.iter().copied().chain(["out"]))
            .stdin_from(witness.input())
            .says(
                "it is a mount point, and nothing can be renamed to it; mount its directory instead, or let --inplace \
                 overwrite it; ",
            )
            .fails(1);
        witness.has_not_been_read();
        sandbox
            .atomwrite(options.iter().copied().chain(["out", "--", "touch", "ran"]))
            .says("--inplace")
            .fails(125);
    }
}

#[test]
fn a_file_in_a_directory_that_is_not_ours_is_overwritten() {
    needs_root!();
    let sandbox = closed_to_others();
    let inode = sandbox.inode("out");
    sandbox
        .atomwrite(["--inplace", "out"])
        .stdin("new")
        .user(NOBODY, NOBODY, &[])
        .warns(WARNING)
        .succeeds();
    assert_eq!(sandbox.text("out"), "new");
    assert_eq!(sandbox.inode("out"), inode);
    assert_eq!(sandbox.owner("out"), (0, 0));
    assert_eq!(sandbox.mode("out"), 0o666);
    let witness = Witness::new();
    sandbox
        .atomwrite(["out"])
        .stdin_from(witness.input())
        .user(NOBODY, NOBODY, &[])
        .says("permission denied")
        .says("--inplace")
        .fails(1);
    witness.has_not_been_read();
    // A new file cannot be written in place of nothing.
    sandbox
        .atomwrite(["--inplace", "new"])
        .stdin("new")
        .user(NOBODY, NOBODY, &[])
        .says("permission denied")
        .fails(1);
}

#[test]
fn a_file_in_a_sticky_directory_is_overwritten() {
    needs_root!();
    let sandbox = closed_to_others();
    sandbox.chmod("", 0o1777);
    let inode = sandbox.inode("out");
    sandbox
        .atomwrite(["--inplace", "out"])
        .stdin("new")
        .user(NOBODY, NOBODY, &[])
        .warns(WARNING)
        .succeeds();
    assert_eq!(sandbox.text("out"), "new");
    assert_eq!(sandbox.inode("out"), inode);
    let witness = Witness::new();
    sandbox
        .atomwrite(["out"])
        .stdin_from(witness.input())
        .user(NOBODY, NOBODY, &[])
        .says("sticky")
        .says("--inplace")
        .fails(1);
    witness.has_not_been_read();
}

#[test]
fn a_file_in_an_immutable_directory_is_overwritten() {
    needs_mounts!();
    needs_tool!("mkfs.ext4", "chattr");
    let mount = Mount::ext4(16, &[]);
    let sandbox = Sandbox::in_dir(mount.path());
    sandbox.write("out", "old content");
    tool("chattr", ["+i".as_ref(), sandbox.root().as_os_str()]);
    sandbox
        .atomwrite(["out"])
        .stdin("new")
        .says("--inplace")
        .fails(1);
    sandbox
        .atomwrite(["--inplace", "out"])
        .stdin("new")
        .warns(WARNING)
        .succeeds();
    assert_eq!(sandbox.text("out"), "new");
    tool("chattr", ["-i".as_ref(), sandbox.root().as_os_str()]);
    // The file itself: nothing helps.
    tool("chattr", ["+i".as_ref(), sandbox.path("out").as_os_str()]);
    sandbox
        .atomwrite(["--inplace=always", "out"])
        .stdin("newer")
        .says("'out'")
        .fails(1);
    tool("chattr", ["-i".as_ref(), sandbox.path("out").as_os_str()]);
}

#[test]
fn a_file_on_a_read_only_filesystem_stays_as_it_is() {
    needs_mounts!();
    let mount = Mount::tmpfs("size=1m");
    let sandbox = Sandbox::in_dir(mount.path());
    sandbox.write("out", "old content");
    mount.remount("ro");
    for option in ["--inplace", "--inplace=always", "--inplace=never"] {
        let witness = Witness::new();
        sandbox
            .atomwrite([option, "out"])
            .stdin_from(witness.input())
            .says("read-only")
            .fails(1);
        witness.has_not_been_read();
    }
    mount.remount("rw");
}

#[test]
fn where_a_rename_works_auto_renames() {
    let sandbox = Sandbox::new();
    sandbox.write("out", "old content");
    let inode = sandbox.inode("out");
    sandbox
        .atomwrite(["--inplace", "-v", "out"])
        .stdin("new")
        .says("replaced 'out'")
        .succeeds();
    assert_ne!(sandbox.inode("out"), inode);
    sandbox
        .atomwrite(["--inplace=always", "-v", "new"])
        .stdin("new")
        .says("created 'new'")
        .succeeds();
}

#[test]
fn always_keeps_the_inode_and_its_names() {
    let sandbox = Sandbox::new();
    sandbox.write_with_mode("out", "old content", 0o604);
    sandbox.set_xattr("out", "user.one", b"1");
    sandbox.hard_link("out", "other");
    sandbox.symlink("out", "link");
    let inode = sandbox.inode("out");
    sandbox
        .atomwrite(["--inplace=always", "link"])
        .stdin("new")
        .warns("overwriting 'link' in place")
        .succeeds();
    assert_eq!(sandbox.text("other"), "new");
    assert_eq!(sandbox.inode("out"), inode);
    assert_eq!(sandbox.mode("out"), 0o604);
    assert!(sandbox.stat("link").is_symlink());
    let attribute = sandbox.xattr("out", "user.one");
    assert!(attribute.is_none_or(|value| value == b"1"));
}

#[test]
fn no_space_is_no_reason_to_overwrite() {
    needs_mounts!();
    let mount = Mount::tmpfs("size=512k");
    let sandbox = Sandbox::in_dir(mount.path());
    sandbox.write("out", vec![b'o'; 300_000]);
    sandbox
        .atomwrite(["--inplace", "out"])
        .stdin(vec![b'n'; 290_000])
        .says("no space left")
        .fails(1);
    // In its place there is room.
    sandbox
        .atomwrite(["--inplace=always", "out"])
        .stdin(vec![b'n'; 290_000])
        .warns(WARNING)
        .succeeds();
    assert!(sandbox.read("out") == vec![b'n'; 290_000]);
}

// ---- Devices and FIFOs ----------------------------------------------------------------------------------------

#[test]
fn a_fifo_gets_the_whole_input() {
    let sandbox = Sandbox::new();
    let fifo = sandbox.fifo("out");
    for content in [vec![b'n'; 3], vec![b'n'; 300_000], Vec::new()] {
        let reader = {
            let fifo = fifo.clone();
            thread::spawn(move || fs::read(fifo).unwrap())
        };
        sandbox
            .atomwrite(["--inplace", "out"])
            .stdin(content.clone())
            .warns(WARNING)
            .succeeds();
        assert!(reader.join().unwrap() == content);
    }
    let witness = Witness::new();
    sandbox
        .atomwrite(["out"])
        .stdin_from(witness.input())
        .says("FIFO")
        .says("--inplace")
        .fails(1);
    witness.has_not_been_read();
    assert!(sandbox.stat("out").file_type().is_fifo());
}

#[test]
fn a_fifo_gets_nothing_of_what_fails() {
    let sandbox = Sandbox::new();
    let fifo = sandbox.fifo("out");
    // Nobody reads: to open it would wait for ever.
    sandbox
        .atomwrite(["--inplace", "out", "--", "sh", "-c", "echo half; exit 9"])
        .says("status 9")
        .fails(9);
    sandbox
        .atomwrite(["--inplace", "--sha256", &"0".repeat(64), "out"])
        .stdin("new")
        .says("SHA-256")
        .fails(3);
    sandbox
        .atomwrite(["--inplace", "--validate", "false", "out"])
        .stdin("new")
        .says("validator")
        .fails(3);
    // One that waits for a reader can be ended.
    for signal in [Signal::TERM, Signal::INT] {
        let run = sandbox
            .atomwrite(["--inplace", "-q", "out"])
            .stdin("new")
            .start();
        let id = run.id();
        wait_until("it waits for a reader", || {
            let call = fs::read_to_string(format!("/proc/{id}/syscall")).unwrap_or_default();
            let state = fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
            // ppoll
            call.starts_with("271 ") && state.contains(") S ")
                || !cfg!(target_arch = "x86_64") && state.contains(") S ")
        });
        run.signal(signal);
        assert_eq!(run.wait().signal(), Some(signal.as_raw()));
    }
    assert!(fs::symlink_metadata(fifo).unwrap().file_type().is_fifo());
    assert_eq!(sandbox.names(), ["out"]);
}

#[test]
fn a_fifo_whose_reader_goes_away_is_told() {
    needs_tool!("strace");
    let sandbox = Sandbox::new();
    let fifo = sandbox.fifo("out");
    let reader = thread::spawn(move || {
        let mut one = [0];
        File::open(fifo).unwrap().read_exact(&mut one).unwrap();
    });
    let done = sandbox
        .atomwrite(["--inplace", "-q", "out"])
        .stdin(vec![b'n'; 1 << 20])
        .output();
    reader.join().unwrap();
    assert_eq!(done.code(), Some(4), "{done:?}");
    assert!(done.stderr.contains("broken pipe"), "{done:?}");
    check_message(done.stderr.trim_end());
}

/// Makes a device file in the sandbox, where that may be opened.
fn device(sandbox: &Sandbox, minor: u32) -> bool {
    let path = sandbox.path("out");
    let made = mknodat(
        CWD,
        &path,
        FileType::CharacterDevice,
        0o666.into(),
        makedev(1, minor),
    );
    made.is_ok() && File::options().write(true).open(path).is_ok()
}

#[test]
fn devices_take_the_input() {
    needs_root!();
    let sandbox = Sandbox::new();
    // /dev/null
    if !device(&sandbox, 3) {
        skip!("needs a directory where devices may be");
    }
    let before = sandbox.inode("out");
    sandbox
        .atomwrite(["--inplace", "-v", "out"])
        .stdin("new")
        .warns(WARNING)
        .says("written in place: 'out' (3 bytes)")
        .succeeds();
    assert_eq!(sandbox.inode("out"), before);
    assert!(sandbox.stat("out").file_type().is_char_device());
    let witness = Witness::new();
    sandbox
        .atomwrite(["out"])
        .stdin_from(witness.input())
        .says("cannot replace 'out': it is a device; --inplace writes to it; ")
        .fails(1);
    witness.has_not_been_read();
    // /dev/full
    fs::remove_file(sandbox.path("out")).unwrap();
    assert!(device(&sandbox, 7));
    sandbox
        .atomwrite(["--inplace", "-q", "out"])
        .stdin("new")
        .says("no space left")
        .says("'out' is unchanged")
        .fails(1);
}

#[test]
fn a_terminal_shows_the_input() {
    let (mut screen, theirs) = terminal();
    let path = fs::read_link(format!("/proc/self/fd/{}", theirs.as_raw_fd())).unwrap();
    let sandbox = Sandbox::new();
    sandbox
        .atomwrite(["--inplace".as_ref(), path.as_os_str()])
        .stdin("new\n")
        .warns("in place")
        .leaves::<&str>([])
        .succeeds();
    let mut shown = [0; 5];
    screen.read_exact(&mut shown).unwrap();
    assert_eq!(&shown, b"new\r\n");
}

/// A file as a block device, until it is dropped.
struct LoopDevice(PathBuf);

impl LoopDevice {
    fn of(file: &Path) -> Self {
        let words = ["--find".as_ref(), "--show".as_ref(), file.as_os_str()];
        Self(tool("losetup", words).trim().into())
    }
}

impl Drop for LoopDevice {
    fn drop(&mut self) {
        tool("losetup", ["--detach".as_ref(), self.0.as_os_str()]);
    }
}

#[test]
fn a_block_device_keeps_what_is_behind_the_input() {
    needs_mounts!();
    needs_tool!("losetup");
    let sandbox = Sandbox::new();
    let image = sandbox.write("image", vec![b'o'; 65536]);
    let device = LoopDevice::of(&image);
    let done = sandbox
        .atomwrite(["--inplace".as_ref(), device.0.as_os_str()])
        .stdin(vec![b'n'; 1000])
        .output();
    assert_eq!(done.code(), Some(0), "{done:?}");
    assert!(done.stderr.contains("warning"), "{done:?}");
    drop(device);
    let image = sandbox.read("image");
    assert!(image[..1000].iter().all(|byte| *byte == b'n'));
    assert!(image[1000..].iter().all(|byte| *byte == b'o'));
}

#[test]
fn a_block_device_that_is_smaller_than_the_input_is_not_changed() {
    needs_mounts!();
    needs_tool!("losetup", "head");
    let sandbox = Sandbox::new();
    let image = sandbox.write("image", vec![b'o'; 65536]);
    sandbox.write("source", vec![b'n'; 65537]);
    let device = LoopDevice::of(&image);
    let path = device.0.to_str().unwrap();
    let unchanged = |words: &[&str], status| {
        let run = sandbox.atomwrite(words.iter().copied());
        let done = run.stdin(vec![b'n'; 65537]).output();
        assert_eq!(done.code(), Some(status), "{done:?}");
        check_message(done.stderr.trim_end());
        let why = format!("cannot write '{path}': it has 65536 bytes, and the input has ");
        assert!(done.stderr.contains(&why), "{done:?}");
        assert!(fs::read(path).unwrap() == vec![b'o'; 65536], "{words:?}");
    };
    unchanged(&["--inplace", "-q", path], 1);
    unchanged(&["--inplace", "-q", "source", path], 1);
    unchanged(&["--inplace=always", "-q", "--sync=none", path], 1);
    let command = ["--", "head", "-c", "70000", "/dev/zero"];
    unchanged(&[&["--inplace", "-q", path], &command[..]].concat(), 125);
    // What just fits is written.
    let done = sandbox
        .atomwrite(["--inplace", "-q", path])
        .stdin(vec![b'n'; 65536])
        .output();
    assert_eq!((done.code(), &*done.stderr), (Some(0), ""), "{done:?}");
    drop(device);
    assert!(sandbox.read("image") == vec![b'n'; 65536]);
}

// ---- How ------------------------------------------------------------------------------------------------------

/// A shorthand: `--inplace=always` in a sandbox with an old `out`.
fn always<'a>(sandbox: &'a Sandbox, options: &[&str]) -> crate::sandbox::Run<'a> {
    sandbox.atomwrite(["--inplace=always"].iter().chain(options).copied())
}

#[test]
fn shorter_and_longer_content_is_whole() {
    let sandbox = Sandbox::new();
    for (old, new) in [
        (0, 10),
        (10, 0),
        (100_000, 3),
        (3, 100_000),
        (700_000, 1_500_000),
        (1_500_000, 700_000),
    ] {
        sandbox.write("out", vec![b'o'; old]);
        always(&sandbox, &["--allow-empty", "out"])
            .stdin(vec![b'n'; new])
            .warns(WARNING)
            .succeeds();
        assert!(sandbox.read("out") == vec![b'n'; new], "{old} {new}");
    }
}

#[test]
fn holes_of_the_source_are_zeros() {
    let sandbox = Sandbox::new();
    let source = File::create(sandbox.path("src")).unwrap();
    source.set_len(2 << 20).unwrap();
    source.write_all_at(b"data", 1 << 20).unwrap();
    source.sync_all().unwrap();
    sandbox.write("out", vec![b'o'; 3 << 20]);
    always(&sandbox, &["src", "out"]).warns(WARNING).succeeds();
    assert!(sandbox.read("out") == sandbox.read("src"));
}

#[test]
fn a_file_can_be_its_own_source() {
    let sandbox = Sandbox::new();
    let content: Vec<u8> = (0_u8..=255).cycle().take(1_000_000).collect();
    sandbox.write("out", &content);
    always(&sandbox, &["out", "out"]).warns(WARNING).succeeds();
    assert!(sandbox.read("out") == content);
    always(&sandbox, &["-a", "out", "out"])
        .warns(WARNING)
        .succeeds();
    assert!(sandbox.read("out") == [&content[..], &content[..]].concat());
}

#[test]
fn quiet_silences_the_warning() {
    let sandbox = Sandbox::new();
    sandbox.write("out", "old content");
    always(&sandbox, &["-q", "out"]).stdin("new").succeeds();
    assert_eq!(sandbox.text("out"), "new");
}

#[test]
fn whatever_fails_before_it_begins_leaves_the_file_untouched() {
    let sandbox = Sandbox::new();
    sandbox.write("out", "old content");
    always(&sandbox, &["out"])
        .stdin("")
        .says("--allow-empty")
        .fails(3);
    always(&sandbox, &["-n", "out"])
        .stdin("new")
        .says("--no-clobber")
        .fails(3);
    always(&sandbox, &["--sha256", &"0".repeat(64), "out"])
        .stdin("new")
        .says("SHA-256")
        .fails(3);
    always(&sandbox, &["out", "--", "sh", "-c", "echo half; exit 5"])
        .says("status 5")
        .fails(5);
    always(
        &sandbox,
        &["out", "--", "sh", "-c", "echo half; kill -9 $$"],
    )
    .says("signal 9")
    .fails(137);
    always(&sandbox, &["nothing", "out"])
        .says("'nothing'")
        .fails(1);
    always(&sandbox, &["--validate", "grep -q good", "out"])
        .stdin("bad")
        .says("validator")
        .fails(3);
    // There is nothing to do, and so nothing to warn of.
    always(&sandbox, &["-C", "out"])
        .stdin("old content")
        .leaves_alone(0);
    let witness = Witness::new();
    always(&sandbox, &["out"])
        .stdin_from(witness.input())
        .env("TMPDIR", "/nowhere")
        .says("/nowhere")
        .fails(1);
    witness.has_not_been_read();
}

#[test]
fn a_command_and_a_validator_that_agree_are_heard() {
    let sandbox = Sandbox::new();
    sandbox.write("out", "old content");
    always(&sandbox, &["out", "--", "printf", "new"])
        .warns(WARNING)
        .succeeds();
    assert_eq!(sandbox.text("out"), "new");
    // The validator sees the content under DEST's own name, and DEST as it is still.
    let validator = "grep -q good && grep -q good \"$1\" && grep -q '^new' \"$2\" && \
                     test \"${1##*/}\" = out && test \"$1\" != \"$2\"";
    always(&sandbox, &["--validate", validator, "out"])
        .stdin("good")
        .warns(WARNING)
        .succeeds();
    assert_eq!(sandbox.text("out"), "good");
}

#[test]
fn a_dest_that_is_replaced_while_the_validator_runs_is_left_alone() {
    let sandbox = Sandbox::new();
    sandbox.write("out", "old content");
    sandbox.write("other", "theirs");
    // Written to the file that had the name, the content would be lost with it.
    let done = always(&sandbox, &["-q", "--validate", "mv other \"$2\"", "out"])
        .stdin("new")
        .output();
    assert_eq!(done.code(), Some(1), "{done:?}");
    let why = "cannot write 'out': it is not the file that was checked; ";
    assert!(done.stderr.contains(why), "{done:?}");
    assert_eq!(sandbox.text("out"), "theirs");
    assert_eq!(sandbox.names(), ["out"]);
}

#[test]
fn backups_are_copies() {
    needs_root!();
    let sandbox = Sandbox::new();
    for older in [false, true] {
        sandbox.write_with_mode("out", "old content", 0o640);
        sandbox.chown("out", NOBODY, NOBODY);
        let inode = sandbox.inode("out");
        if older {
            sandbox.write("out~", "older");
        }
        always(&sandbox, &["-b", "out"])
            .stdin("new")
            .warns(WARNING)
            .leaves(["out", "out~"])
            .succeeds();
        assert_eq!(sandbox.inode("out"), inode);
        assert_eq!(sandbox.text("out"), "new");
        assert_eq!(sandbox.text("out~"), "old content");
        assert_eq!(sandbox.mode("out~"), 0o640);
        assert_eq!(sandbox.owner("out~"), (NOBODY, NOBODY));
        assert_eq!(sandbox.stat("out~").nlink(), 1);
    }
    // In a directory where nothing can be made there is none, and so no write either.
    let sandbox = closed_to_others();
    sandbox
        .atomwrite(["--inplace", "-b", "out"])
        .stdin("new")
        .user(NOBODY, NOBODY, &[])
        .says("back up")
        .fails(1);
}

#[test]
fn attributes_that_were_asked_for_are_set() {
    needs_root!();
    let sandbox = Sandbox::new();
    sandbox.write_with_mode("out", "old content", 0o640);
    let inode = sandbox.inode("out");
    always(
        &sandbox,
        &["-m", "g+w,o=r", "-o", "65534", "-g", "1", "out"],
    )
    .stdin("new")
    .warns(WARNING)
    .succeeds();
    assert_eq!(sandbox.mode("out"), 0o664);
    assert_eq!(sandbox.owner("out"), (NOBODY, 1));
    assert_eq!(sandbox.inode("out"), inode);
    always(&sandbox, &["-m", "400", "out"])
        .stdin("newer")
        .warns(WARNING)
        .succeeds();
    assert_eq!(sandbox.mode("out"), 0o400);
    assert_eq!(sandbox.text("out"), "newer");
    // What may not be set fails, before the first byte. The space has been reserved by then, which tells the file's
    // time, and only its owner can put that back.
    let sandbox = closed_to_others();
    let done = sandbox
        .atomwrite(["--inplace", "-q", "-m", "600", "out"])
        .stdin("new")
        .user(NOBODY, NOBODY, &[])
        .output();
    assert_eq!(done.code(), Some(1), "{done:?}");
    assert!(
        done.stderr
            .ends_with("operation not permitted; 'out' is unchanged\n"),
        "{done:?}"
    );
    assert_eq!(sandbox.text("out"), "old content");
    assert_eq!(sandbox.mode("out"), 0o666);
}

#[test]
fn is_put_on_the_disk_unless_that_is_not_wanted() {
    needs_tool!("strace");
    for (sync, wanted) in [("none", 0), ("file", 1), ("full", 1)] {
        let sandbox = Sandbox::new();
        sandbox.write("out", "old content");
        let strace = Strace::new();
        always(&sandbox, &["-q", "--sync", sync, "out"])
            .stdin("new")
            .through(strace.command())
            .succeeds();
        let trace = strace.trace();
        let synced = trace.places(|call| call.is("fsync") && call.args.contains("/out>"));
        assert_eq!(synced.len(), wanted, "{sync} {trace}");
        let written = trace.places(|call| call.is("write") && call.args.contains("/out>"));
        let sized = trace.places(|call| call.is("ftruncate") && call.args.contains("/out>"));
        assert_eq!((written.len(), sized.len()), (1, 1), "{trace}");
        assert!(written[0] < sized[0], "{trace}");
        assert!(synced.iter().all(|at| sized[0] < *at), "{trace}");
        // The space is reserved before anything changes, and nothing is renamed or linked.
        let reserved = trace.only("fallocate", |call| call.is("fallocate"));
        assert!(reserved < written[0], "{trace}");
        assert_eq!(trace.count(|call| call.renames() || call.is("linkat")), 0);
    }
}

#[test]
fn the_spool_is_where_temporary_files_go_and_has_no_name() {
    let sandbox = Sandbox::new();
    let spool = Sandbox::new();
    sandbox.write("out", "old content");
    let mut run = always(&sandbox, &["-q", "out"])
        .env("TMPDIR", spool.root())
        .stdin_held()
        .start();
    run.feed("new");
    let id = run.id();
    let mut open = fs::read_dir(format!("/proc/{id}/fd"))
        .unwrap()
        .filter_map(|entry| fs::read_link(entry.unwrap().path()).ok());
    assert!(open.any(|path| path.starts_with(spool.root())));
    assert_eq!(spool.names().len(), 0);
    assert_eq!(sandbox.text("out"), "old content");
    run.signal(Signal::TERM);
    assert_eq!(run.wait().signal(), Some(libc::SIGTERM));
    assert_eq!(sandbox.text("out"), "old content");
    assert_eq!(spool.names().len(), 0);
    assert_eq!(sandbox.names(), ["out"]);
}

// ---- What can go wrong ----------------------------------------------------------------------------------------

#[test]
fn space_that_cannot_be_reserved_leaves_the_file_untouched() {
    needs_mounts!();
    needs_tool!("mkfs.ext4");
    for mount in [Mount::tmpfs("size=512k"), Mount::ext4(8, &[])] {
        let sandbox = Sandbox::in_dir(mount.path());
        sandbox.write("out", "old content");
        sandbox.write("src", "");
        fs::set_permissions(sandbox.path("src"), Permissions::from_mode(0o600)).unwrap();
        let before = sandbox.stat("out");
        let done = always(&sandbox, &["-q", "out"])
            .stdin(vec![b'n'; 16 << 20])
            .output();
        assert_eq!(done.code(), Some(1), "{done:?}");
        assert!(
            done.stderr
                .ends_with("no space left on device; 'out' is unchanged\n"),
            "{done:?}"
        );
        check_message(done.stderr.trim_end());
        let after = sandbox.stat("out");
        assert_eq!(sandbox.text("out"), "old content");
        let look = |stat: &fs::Metadata| (stat.ino(), stat.mode(), stat.mtime(), stat.mtime_nsec());
        assert_eq!(look(&before), look(&after));
        assert_eq!(before.blocks(), after.blocks(), "the space stays reserved");
    }
}

#[test]
fn only_an_error_of_the_disk_stops_the_preallocation() {
    needs_tool!("strace");
    for (error, stops) in [
        ("ENOSPC", true),
        ("EDQUOT", true),
        ("EFBIG", true),
        ("EIO", true),
        ("EPERM", false),
        ("ENOSYS", false),
        ("EOPNOTSUPP", false),
        ("EINVAL", false),
        ("ENODEV", false),
    ] {
        let sandbox = Sandbox::new();
        sandbox.write("out", "old content");
        let strace = Strace::new().inject(&format!("fallocate:error={error}"));
        let done = always(&sandbox, &["-q", "out"])
            .stdin(vec![b'n'; 100_000])
            .through(strace.command())
            .output();
        assert_eq!(done.code(), Some(i32::from(stops)), "{error} {done:?}");
        let new = sandbox.read("out") == vec![b'n'; 100_000];
        let old = sandbox.read("out") == b"old content";
        assert!(if stops { old } else { new }, "{error}");
    }
}

/// Input that always comes in the same pieces, which that of a pipe does not.
fn in_a_file(content: &[u8]) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(content).unwrap();
    file.rewind().unwrap();
    file
}

/// The second write to DEST in such a run with this much input, as strace counts.
fn second_write(content: &[u8], options: &[&str]) -> usize {
    let sandbox = Sandbox::new();
    sandbox.write("out", "old content");
    let strace = Strace::new();
    let done = always(&sandbox, options)
        .stdin_from(in_a_file(content))
        .through(strace.command())
        .output();
    assert_eq!(done.code(), Some(0), "{done:?}");
    let trace = strace.trace();
    let writes = trace.places(|call| call.is("write") && call.args.contains("/out>"));
    assert!(writes.len() > 2, "{trace}");
    trace.own()[writes[1]].nth
}

#[test]
fn a_failure_midway_says_how_much_is_written() {
    needs_tool!("strace");
    let content = vec![b'n'; 1 << 20];
    let source = tempfile::NamedTempFile::new().unwrap();
    fs::write(source.path(), &content).unwrap();
    let source = format!("if={}", source.path().display());
    // Strace counts the writes of COMMAND for themselves; this one makes one write.
    let command = ["-q", "out", "--", "dd", "status=none", "bs=1M", &source];
    for (options, status) in [(&["-q", "out"][..], 4), (&command, 124)] {
        let nth = second_write(&content, options);
        for (errno, text) in [
            ("EIO", "input/output error"),
            ("ENOSPC", "no space left on device"),
            ("EDQUOT", "quota exceeded"),
        ] {
            let sandbox = Sandbox::new();
            sandbox.write("out", "old content");
            let strace = Strace::new().inject(&format!("write:error={errno}:when={nth}"));
            let done = always(&sandbox, options)
                .stdin_from(in_a_file(&content))
                .through(strace.command())
                .output();
            assert_eq!(done.code(), Some(status), "{done:?}");
            assert!(done.stderr.contains(text), "{done:?}");
            assert!(!done.stderr.contains("unchanged"), "{done:?}");
            check_message(done.stderr.trim_end());
            let written = sandbox.read("out");
            assert!(!written.is_empty() && written.iter().all(|byte| *byte == b'n'));
            let told = format!("{} of 1048576 bytes", written.len());
            assert!(done.stderr.contains(&told), "{told}: {done:?}");
            assert_eq!(sandbox.names(), ["out"]);
        }
    }
}

#[test]
fn a_write_that_breaks_off_leaves_the_backup() {
    needs_tool!("strace");
    let content = vec![b'n'; 1 << 20];
    let nth = second_write(&content, &["-q", "-b", "out"]);
    let sandbox = Sandbox::new();
    sandbox.write("out", "old content");
    let strace = Strace::new().inject(&format!("write:error=EIO:when={nth}"));
    let done = always(&sandbox, &["-q", "-b", "out"])
        .stdin_from(in_a_file(&content))
        .through(strace.command())
        .output();
    assert_eq!(done.code(), Some(4), "{done:?}");
    assert_eq!(sandbox.text("out~"), "old content");
    assert_eq!(sandbox.names(), ["out", "out~"]);
}

#[test]
fn a_signal_waits_for_the_end_of_the_writing() {
    needs_tool!("strace");
    let content = vec![b'n'; 1 << 20];
    let nth = second_write(&content, &["-q", "out"]);
    for signal in ["SIGTERM", "SIGINT", "SIGHUP"] {
        let sandbox = Sandbox::new();
        sandbox.write("out", "old content");
        let strace = Strace::new().inject(&format!("write:signal={signal}:when={nth}"));
        let done = always(&sandbox, &["-q", "out"])
            .stdin_from(in_a_file(&content))
            .through(strace.command())
            .output();
        assert!(done.signal().is_some(), "{done:?}");
        assert!(sandbox.read("out") == content);
        assert_eq!(sandbox.names(), ["out"]);
    }
}

#[test]
fn the_file_size_limit_leaves_the_file_untouched() {
    let sandbox = Sandbox::new();
    sandbox.write("out", "old content");
    always(&sandbox, &["out"])
        .stdin(vec![b'n'; 100_000])
        .file_size_limit(4096)
        .says("file too large")
        .fails(1);
}

#[test]
fn appenders_and_counters_in_place_lose_nothing() {
    let sandbox = Sandbox::new();
    sandbox.write("out", "old\n");
    let inode = sandbox.inode("out");
    let running: Vec<_> = (0..20)
        .map(|writer| {
            always(&sandbox, &["-q", "-a", "--sync=none", "out"])
                .stdin(format!("{writer}\n"))
                .start()
        })
        .collect();
    for one in running {
        let done = one.wait();
        assert_eq!(done.code(), Some(0), "{done:?}");
    }
    assert_eq!(sandbox.text("out").lines().count(), 21);
    assert_eq!(sandbox.inode("out"), inode);
}
