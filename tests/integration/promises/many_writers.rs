//! Many writers and readers of one name at once.
//!
//! At every moment, for every other process, DEST is exactly the old file or exactly the new one:
//! never empty, never partial, never missing. `-n` is decided atomically. No temporary file is
//! left. These tests are small; the torture suite has more writers, in every form and with kills
//! among them.

use std::sync::atomic::{AtomicBool, Ordering};
use std::{fs, thread};

use rustix::process::Signal;

use crate::harness::{Done, Sandbox};

/// The content of a writer: one byte, repeated as often as its value says, so that a torn file is
/// recognized.
fn content_of(writer: u8) -> Vec<u8> {
    vec![writer; 100_000 + usize::from(writer) * 997]
}

#[track_caller]
fn check_whole(content: &[u8]) {
    let writer = *content.first().expect("DEST is empty");
    assert!(
        content == content_of(writer),
        "torn: {} bytes, beginning with those of writer {writer}",
        content.len()
    );
}

/// Runs `writers` in a few threads at once while others read, and returns the result of each.
fn write_concurrently(
    sandbox: &Sandbox,
    writers: u8,
    write: impl Fn(u8) -> Done + Sync,
) -> Vec<Done> {
    const HANDS: u8 = 6;
    sandbox.write("out", content_of(0));
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let readers: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    let mut reads = 0;
                    while !over.load(Ordering::Relaxed) {
                        let content = fs::read(sandbox.path("out"));
                        check_whole(&content.expect("DEST is missing"));
                        reads += 1;
                    }
                    reads
                })
            })
            .collect();
        let write = &write;
        let hands: Vec<_> = (0..HANDS)
            .map(|hand| {
                scope.spawn(move || {
                    let mine = (1..=writers).filter(move |writer| writer % HANDS == hand);
                    mine.map(write).collect::<Vec<_>>()
                })
            })
            .collect();
        let mut done = Vec::new();
        let mut panicked = false;
        for hand in hands {
            match hand.join() {
                Ok(some) => done.extend(some),
                Err(_) => panicked = true,
            }
        }
        over.store(true, Ordering::Relaxed);
        for reader in readers {
            let reads: usize = reader.join().expect("a reader saw what it must not see");
            assert!(reads > 0);
        }
        assert!(!panicked, "a writer's check failed");
        check_whole(&sandbox.read("out"));
        done
    })
}

#[test]
fn no_reader_ever_sees_a_torn_or_missing_file() {
    let sandbox = Sandbox::new();
    let done = write_concurrently(&sandbox, 90, |writer| {
        let line = ["--sync=none out", "--sync=none out", "out"][usize::from(writer % 3)];
        sandbox.run(line).stdin(content_of(writer)).output()
    });
    assert_eq!(done.len(), 90);
    for done in done {
        assert_eq!(done.code(), Some(0), "{done:?}");
        assert_eq!(done.stderr, "");
    }
    assert_eq!(sandbox.names(), ["out"]);
}

#[test]
fn one_of_many_writers_with_no_clobber_creates_the_file() {
    const WRITERS: u8 = 30;
    // Once with input that waits, so that all of them have seen that there is none yet.
    for held in [false, true] {
        let sandbox = Sandbox::new();
        let done: Vec<_> = if held {
            let mut running: Vec<_> = (0..WRITERS)
                .map(|_| sandbox.run("-n out").stdin_held().start())
                .collect();
            for (writer, running) in (0..).zip(&mut running) {
                running.feed([writer]);
            }
            for one in &mut running {
                one.close_stdin();
            }
            running.into_iter().map(|one| one.wait()).collect()
        } else {
            let running: Vec<_> = (0..WRITERS)
                .map(|writer| sandbox.run("-n out").stdin([writer]).start())
                .collect();
            running.into_iter().map(|one| one.wait()).collect()
        };
        let codes: Vec<_> = done.iter().map(Done::code).collect();
        let winners = codes.iter().filter(|code| **code == Some(0)).count();
        let refused = codes.iter().filter(|code| **code == Some(3)).count();
        assert_eq!(
            (winners, refused),
            (1, usize::from(WRITERS) - 1),
            "{done:?}"
        );
        let winner = codes.iter().position(|code| *code == Some(0)).unwrap();
        assert_eq!(sandbox.read("out"), [u8::try_from(winner).unwrap()]);
        assert_eq!(sandbox.names(), ["out"]);
    }
}

#[test]
fn many_interrupted_writers_leave_nothing() {
    let sandbox = Sandbox::new();
    let signals = [Signal::TERM, Signal::INT, Signal::HUP];
    write_concurrently(&sandbox, 60, |writer| {
        let mut running = sandbox.run("--sync=none out").stdin_held().start();
        running.feed(content_of(writer));
        running.close_stdin();
        running.signal(signals[usize::from(writer % 3)]);
        running.wait()
    });
    assert_eq!(sandbox.names(), ["out"]);
}
