//! One run of one program: its input comes through a pipe of the test, and its time is limited.
//!
//! Invariant: nothing is timed except the end. The test sees that half of the input was read when
//! the pipe is empty.

use std::io::Write;
use std::os::fd::AsRawFd;
use std::process::{ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use crate::child::{Ended, Running};

/// Nothing that is right comes near it.
const LONGEST: Duration = Duration::from_secs(30);

/// Runs a program with this input. When it has read the first half, `midway` is done. What it has
/// started ends with it, so that no process has a file open when the filesystem is checked.
pub(super) fn run(
    mut command: Command,
    input: &[u8],
    midway: Option<&mut dyn FnMut() -> Result<()>>,
) -> Result<Ended> {
    let mut running = Running::start(command.stdin(Stdio::piped()))?;
    let stdin = running.stdin()?;
    let pipe = stdin.as_raw_fd();
    thread::scope(|scope| {
        let (go, may_go) = channel();
        let (says_half, half) = channel();
        scope.spawn(move || feed(stdin, input, &says_half, &may_go));
        let mut done = Ok(());
        if let Some(midway) = midway {
            done = wait_for_half(&running, pipe, &half).and_then(|()| midway());
        }
        // The result does not matter if the program has ended.
        let _ = go.send(());
        let ended = running.end_with_all(LONGEST);
        done.and(ended)
    })
}

/// Waits until half of the input is read, or the program has ended.
fn wait_for_half(running: &Running, pipe: i32, half: &Receiver<()>) -> Result<()> {
    let began = Instant::now();
    let mut is_half = false;
    while began.elapsed() < LONGEST && !running.ends_within(Duration::ZERO)? {
        is_half = is_half || half.try_recv().is_ok();
        if is_half && unread(pipe)? == 0 {
            break;
        }
        thread::yield_now();
    }
    Ok(())
}

/// Writes half of the input, says so, waits, and writes the rest. A program that reads no more is
/// no error here.
fn feed(mut stdin: ChildStdin, input: &[u8], says_half: &Sender<()>, may_go: &Receiver<()>) {
    let (first, second) = input.split_at(input.len() / 2);
    let written = stdin.write_all(first);
    let _ = says_half.send(());
    if may_go.recv().is_ok() && written.is_ok() {
        drop(stdin.write_all(second));
    }
}

/// Returns how many bytes are in a pipe.
fn unread(pipe: i32) -> Result<i32> {
    let mut bytes: libc::c_int = 0;
    #[expect(unsafe_code, reason = "neither std nor nix has this call")]
    // SAFETY: the call writes one int, to an int of ours; that a descriptor is closed is an error
    // that it gives.
    let done = unsafe { libc::ioctl(pipe, libc::FIONREAD, &raw mut bytes) };
    ensure!(
        done == 0,
        "cannot see how much was read: {}",
        std::io::Error::last_os_error()
    );
    Ok(bytes)
}
