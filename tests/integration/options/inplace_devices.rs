//! `--inplace` to devices and FIFOs.

use std::fs::{self, File};
use std::io::Read;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::thread;

use rustix::fs::{CWD, FileType, makedev, mknodat};
use rustix::process::Signal;

use crate::harness::{
    Sandbox, check_message, needs_mounts, needs_root, needs_tool, skip, terminal, tool, wait_until,
};
use crate::options::inplace::WARNING;

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
            .run("--inplace --allow-empty out")
            .stdin(content.clone())
            .warns(WARNING)
            .succeeds();
        assert!(reader.join().unwrap() == content);
    }
    let run = sandbox.run("out").reads_nothing();
    run.says("FIFO").fails_with(1, "--inplace");
    assert!(sandbox.stat("out").file_type().is_fifo());
}

#[test]
fn a_fifo_gets_nothing_of_what_fails() {
    let sandbox = Sandbox::new();
    let fifo = sandbox.fifo("out");
    // The FIFO has no reader: opening it would block for ever.
    let sum = format!("--inplace --sha256 {:064} out", 0);
    sandbox.fail_each(&[
        (
            "--inplace out -- sh -c 'echo half; exit 9'",
            "",
            9,
            "status 9",
        ),
        (&sum, "new", 3, "SHA-256"),
        ("--inplace --validate false out", "new", 3, "validator"),
    ]);
    // A run that waits for a reader ends by a signal.
    for signal in [Signal::TERM, Signal::INT] {
        let run = sandbox.run("--inplace -q out").stdin("new").start();
        let id = run.id();
        wait_until("it waits for a reader", || {
            let call = fs::read_to_string(format!("/proc/{id}/syscall")).unwrap_or_default();
            let state = fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
            // pselect6 over the POSIX backend, and ppoll
            (call.starts_with("270 ") || call.starts_with("271 ")) && state.contains(") S ")
                || !cfg!(target_arch = "x86_64") && state.contains(") S ")
        });
        run.signal(signal);
        assert_eq!(run.wait().signal(), Some(signal.as_raw()));
    }
    assert!(fs::symlink_metadata(fifo).unwrap().file_type().is_fifo());
    assert_eq!(sandbox.names(), ["out"]);
}

#[test]
fn a_fifo_whose_reader_goes_away_is_reported() {
    needs_tool!("strace");
    let sandbox = Sandbox::new();
    let fifo = sandbox.fifo("out");
    let reader = thread::spawn(move || {
        let mut one = [0];
        File::open(fifo).unwrap().read_exact(&mut one).unwrap();
    });
    let done = sandbox
        .run("--inplace -q out")
        .stdin(vec![b'n'; 1 << 20])
        .output();
    reader.join().unwrap();
    assert_eq!(done.code(), Some(4), "{done:?}");
    assert!(done.stderr.contains("broken pipe"), "{done:?}");
    check_message(done.stderr.trim_end());
}

/// Makes a device file in the sandbox, where that may be opened.
pub(crate) fn device(sandbox: &Sandbox, minor: u32) -> bool {
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
        .run("--inplace -v out")
        .stdin("new")
        .warns(WARNING)
        .says("written in place: 'out' (3 bytes)")
        .succeeds();
    assert_eq!(sandbox.inode("out"), before);
    assert!(sandbox.stat("out").file_type().is_char_device());
    sandbox.run("out").reads_nothing().fails_with(
        1,
        "cannot replace 'out': it is a device; use --inplace to write to it; ",
    );
    // /dev/full
    fs::remove_file(sandbox.path("out")).unwrap();
    assert!(device(&sandbox, 7));
    sandbox
        .run("--inplace -q out")
        .stdin("new")
        .says("no space left")
        .fails_with(1, "'out' is unchanged");
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
    // It goes away when it has a part of the first write.
    let run = sandbox.atomwrite(["--inplace".as_ref(), "-q".as_ref(), path.as_os_str()]);
    let running = run.stdin(vec![b'n'; 1 << 20]).start();
    wait_until("it has a part", || {
        rustix::io::ioctl_fionread(&screen).is_ok_and(|bytes| bytes > 0)
    });
    drop(screen);
    let done = running.wait();
    assert_eq!(done.code(), Some(4), "{done:?}");
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
fn a_block_device_keeps_the_bytes_after_the_input() {
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
