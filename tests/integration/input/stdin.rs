//! Standard input as the new content, without SOURCE or with `-` as SOURCE.
//!
//! It can be a pipe, a regular file from its current offset, a socket, /dev/null, a /proc file
//! whose size is 0, a nonblocking descriptor, or a terminal. For a terminal, one line says that
//! atomwrite reads it and how to end the input; `-q` omits the line. A closed stdin is an error,
//! not empty input, and atomwrite opens no file as a closed 0, 1 or 2.

use std::fs;
use std::io::{Seek, SeekFrom, Write};
use std::net::Shutdown;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::thread;

use rustix::fs::OFlags;
use rustix::pipe::{PipeFlags, pipe_with};

use crate::harness::{Run, Sandbox, open, terminal, wait_until};

/// Bytes without a period that a buffer's size could hide.
pub(crate) fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    })
    .take(length)
    .collect()
}

// ---- Stdin ----

#[test]
fn reads_a_pipe_of_any_size() {
    let sandbox = Sandbox::new();
    for length in [
        1, 4095, 4096, 65_536, 65_537, 1_048_576, 1_048_577, 9_000_001,
    ] {
        for line in ["out", "- out"] {
            let content = noise(length);
            sandbox.run(line).stdin(content.clone()).succeeds();
            assert!(sandbox.read("out") == content, "{length} bytes");
        }
    }
}

#[test]
fn reads_a_pipe_whose_bytes_come_one_by_one() {
    let sandbox = Sandbox::new();
    let mut run = sandbox.run("out").stdin_held().start();
    for byte in b"slowly" {
        run.feed([*byte]);
    }
    assert_eq!(run.wait().code(), Some(0));
    assert_eq!(sandbox.text("out"), "slowly");
}

#[test]
fn reads_a_regular_stdin_from_its_current_offset_to_its_end() {
    let content = noise(5_000_003);
    for offset in [0, 4, 4097] {
        let sandbox = Sandbox::with("in", &content);
        let mut input = open(sandbox.path("in"));
        input.seek(SeekFrom::Start(offset)).unwrap();
        let theirs = input.try_clone().unwrap();
        sandbox.run("out").stdin_from(theirs).succeeds();
        assert!(sandbox.read("out") == content[usize::try_from(offset).unwrap()..]);
        // As every reader does: a second reader of the same descriptor gets no byte twice.
        assert_eq!(input.stream_position().unwrap(), 5_000_003);
    }
    // At the end and beyond it there is nothing.
    for offset in [5_000_003, 6_000_000] {
        let sandbox = Sandbox::with("in", &content);
        sandbox.write("out", "old");
        let mut input = open(sandbox.path("in"));
        input.seek(SeekFrom::Start(offset)).unwrap();
        sandbox.run("out").stdin_from(input).fails_with(3, "empty");
    }
}

#[test]
fn reads_dest_itself_as_stdin() {
    let sandbox = Sandbox::with("out", "same");
    let input = open(sandbox.path("out"));
    sandbox.run("out").stdin_from(input).writes("same");
}

#[test]
fn reads_a_socket() {
    let sandbox = Sandbox::new();
    let (mut ours, theirs) = UnixStream::pair().unwrap();
    let content = noise(2_000_000);
    let sent = content.clone();
    let writer = thread::spawn(move || {
        ours.write_all(&sent).unwrap();
        ours.shutdown(Shutdown::Write).unwrap();
        ours
    });
    sandbox.run("out").stdin_from(theirs).succeeds();
    drop(writer.join().unwrap());
    assert!(sandbox.read("out") == content);
}

#[test]
fn refuses_a_socket_of_messages() {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
    for kind in [SocketType::SEQPACKET, SocketType::DGRAM] {
        let sandbox = Sandbox::with("out", "old");
        let flags = SocketFlags::CLOEXEC;
        let (_ours, theirs) = socketpair(AddressFamily::UNIX, kind, flags, None).unwrap();
        let run = sandbox.run("out").stdin_from(theirs);
        let why = "it is a datagram socket, and only a stream has an end";
        run.fails_with(1, format!("cannot read standard input: {why}"));
    }
}

const END_OF_INPUT: &[u8] = b"\x04";

#[test]
fn says_that_it_reads_a_terminal_and_how_to_end_the_input_unless_quiet() {
    for (line, messages) in [
        (
            "out",
            Some("reading from the terminal; end with Ctrl-D, cancel with Ctrl-C"),
        ),
        ("-q out", None),
    ] {
        let sandbox = Sandbox::new();
        let (mut keyboard, stdin) = terminal();
        keyboard.write_all(b"typed\n").unwrap();
        keyboard.write_all(END_OF_INPUT).unwrap();
        let run = sandbox.run(line).stdin_from(stdin);
        messages.into_iter().fold(run, Run::says).writes("typed\n");
    }
}

#[test]
fn says_so_before_anything_is_typed() {
    let sandbox = Sandbox::new();
    let (mut keyboard, stdin) = terminal();
    let (read, write) = pipe_with(PipeFlags::CLOEXEC).unwrap();
    let run = sandbox
        .run("out")
        .stdin_from(stdin)
        .stderr_to(write)
        .start();
    wait_until("the hint is there", || {
        rustix::io::ioctl_fionread(&read).unwrap() > 0
    });
    keyboard.write_all(b"typed\n").unwrap();
    keyboard.write_all(END_OF_INPUT).unwrap();
    assert_eq!(run.wait().code(), Some(0));
    assert_eq!(sandbox.text("out"), "typed\n");
}

#[test]
fn says_nothing_about_a_terminal_that_it_does_not_read() {
    let sandbox = Sandbox::with("in", "new");
    let (_keyboard, stdin) = terminal();
    sandbox.run("in out").stdin_from(stdin).writes("new");
    let (_keyboard, stdin) = terminal();
    sandbox.run("/dev/null empty").stdin_from(stdin).succeeds();
}

#[test]
fn reads_a_file_whose_size_is_wrong() {
    // Zero, and too large.
    for path in ["/proc/version", "/sys/class/net/lo/mtu"] {
        let sandbox = Sandbox::new();
        let expected = fs::read_to_string(path).unwrap();
        let size = fs::metadata(path).unwrap().len();
        assert_ne!(size, expected.len() as u64, "{path}");
        let run = sandbox.run("stdin").stdin_from(open(path));
        run.writes(&expected);
        sandbox.run(&format!("{path} source")).writes(&expected);
    }
}

#[test]
fn waits_for_the_input_of_a_nonblocking_pipe() {
    // From a few thousand bytes on, pages are moved and not read.
    for times in [1, 2000] {
        let sandbox = Sandbox::new();
        let (read, write) = pipe_with(PipeFlags::CLOEXEC).unwrap();
        rustix::fs::fcntl_setfl(&read, OFlags::NONBLOCK).unwrap();
        let ours = read.try_clone().unwrap();
        let run = sandbox.run("out").stdin_from(read).start();
        let asleep = || {
            let stat = fs::read_to_string(format!("/proc/{}/stat", run.id())).unwrap();
            stat.rsplit(") ").next().unwrap().starts_with('S')
        };
        let parts = ["first ", "second ", "third"].map(|part| part.repeat(times));
        for part in &parts {
            wait_until("it sleeps over an empty pipe", asleep);
            rustix::io::write(&write, part.as_bytes()).unwrap();
            wait_until("it has read", || {
                rustix::io::ioctl_fionread(&write).unwrap() == 0
            });
        }
        drop(write);
        let done = run.wait();
        assert_eq!((done.code(), done.stderr.as_str()), (Some(0), ""));
        assert_eq!(sandbox.text("out"), parts.concat());
        // The flag belongs to all who share the pipe.
        let flags = rustix::fs::fcntl_getfl(ours.as_fd()).unwrap();
        assert!(flags.contains(OFlags::NONBLOCK));
    }
}

#[test]
fn fails_when_stdin_cannot_be_read() {
    let sandbox = Sandbox::with("out", "old");
    let directory = open(sandbox.root());
    let run = sandbox.run("out").stdin_from(directory);
    run.fails_with(1, "directory");
    let write_only = fs::OpenOptions::new()
        .write(true)
        .open("/dev/null")
        .unwrap();
    let run = sandbox.run("out").stdin_from(write_only);
    run.fails_with(1, "read");
}

// ---- Closed descriptors ----

const SUBSETS: [&[i32]; 8] = [&[], &[0], &[1], &[2], &[0, 1], &[0, 2], &[1, 2], &[0, 1, 2]];

#[test]
fn a_closed_stdin_is_an_error_and_not_empty_input() {
    let sandbox = Sandbox::with("out", "old");
    sandbox.write("empty", "");
    for closed in SUBSETS.iter().filter(|closed| closed.contains(&0)) {
        for arguments in ["out", "- out", "--allow-empty out", "empty", "new"] {
            sandbox.run(arguments).closed(closed).fails(1);
        }
    }
    sandbox.run("out").closed(&[0]).fails_with(1, "closed");
}

#[test]
fn opens_no_file_as_a_closed_standard_descriptor() {
    let sandbox = Sandbox::with("in", "from source");
    for closed in SUBSETS {
        // -v has something to say, which must not land in the file.
        sandbox.write("old", "old");
        let mut run = sandbox.run("-v in old").closed(closed);
        if !closed.contains(&2) {
            run = run.says("replaced 'old' (11 bytes)");
        }
        run.succeeds();
        assert_eq!(sandbox.text("old"), "from source", "{closed:?}");
        assert_eq!(sandbox.text("in"), "from source", "{closed:?}");

        if !closed.contains(&0) {
            let run = sandbox.run("old").stdin("from stdin").closed(closed);
            run.succeeds();
            assert_eq!(sandbox.text("old"), "from stdin", "{closed:?}");
        }
    }
}

#[test]
fn keeps_its_messages_out_of_files_when_stderr_is_closed() {
    let sandbox = Sandbox::with("in", "");
    sandbox.write("out", "old");
    for closed in SUBSETS.iter().filter(|closed| closed.contains(&2)) {
        // The harness checks that every file is unchanged.
        sandbox.run("--no-empty in out").closed(closed).fails(3);
        sandbox.run("missing out").closed(closed).fails(1);
        sandbox.run("--bogus out").closed(closed).fails(2);
        if !closed.contains(&0) {
            sandbox.run("out").closed(closed).fails(3);
        }
    }
}
