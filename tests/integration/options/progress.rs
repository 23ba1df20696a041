//! `--progress`.
//!
//! On stderr, if it is a terminal, it shows bytes, rate and, if the size is known, a bar and the
//! remaining time. A short write shows nothing, and the line is erased at the end. Without the
//! option, progress costs nothing.

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use rustix::process::Signal;
use rustix::termios::{Winsize, tcsetwinsize};

use crate::harness::{Running, Sandbox, Strace, has_tool, needs_tool, terminal, wait_until};

const COLUMNS: u16 = 80;

/// A terminal and all that was written to it.
pub(crate) struct Screen {
    written: Arc<Mutex<Vec<u8>>>,
    reader: JoinHandle<()>,
}

impl Screen {
    /// Returns the end of the program, too.
    fn new() -> (Self, OwnedFd) {
        Self::with_columns(COLUMNS)
    }

    /// The same, of another width.
    pub(crate) fn with_columns(columns: u16) -> (Self, OwnedFd) {
        let (mut ours, theirs) = terminal();
        let size = Winsize {
            ws_row: 24,
            ws_col: columns,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        tcsetwinsize(theirs.as_fd(), size).unwrap();
        let written = Arc::new(Mutex::new(Vec::new()));
        let all = Arc::clone(&written);
        let reader = thread::spawn(move || {
            let mut buffer = [0; 4096];
            // EIO when the last of the other ends is closed.
            while let Ok(length @ 1..) = ours.read(&mut buffer) {
                all.lock().unwrap().extend_from_slice(&buffer[..length]);
            }
        });
        (Self { written, reader }, theirs)
    }

    /// All that has been written, as text.
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.written.lock().unwrap()).into_owned()
    }

    /// Waits for the end, and returns all that was written.
    pub(crate) fn written(self) -> String {
        self.reader.join().unwrap();
        let written = Arc::try_unwrap(self.written).unwrap().into_inner().unwrap();
        String::from_utf8(written).unwrap()
    }

    /// Waits for the end, and returns all that was written, and the lines that the screen then
    /// shows.
    fn end(self) -> (String, Vec<String>) {
        let text = self.written();
        let seen = show(&text);
        (text, seen)
    }
}

/// What a terminal shows of a text: its lines up to the last that is not empty, and what is at the
/// cursor's place.
fn show(text: &str) -> Vec<String> {
    let mut lines = vec![Vec::new()];
    let (mut row, mut column) = (0, 0);
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            '\r' => column = 0,
            '\n' => row += 1,
            '\u{1b}' => {
                assert_eq!(letters.next(), Some('['), "in {text:?}");
                let mut number = String::new();
                while let Some(digit) = letters.next_if(|letter| !letter.is_ascii_alphabetic()) {
                    number.push(digit);
                }
                let count: usize = number.parse().unwrap_or(0);
                match letters.next() {
                    Some('K') => match count {
                        0 => lines[row].truncate(column),
                        _ => lines[row].clear(),
                    },
                    Some('A') => row = row.saturating_sub(count.max(1)),
                    Some('B') => row += count.max(1),
                    Some('J' | 'm') => {}
                    other => panic!("the test's terminal does not know {other:?}: {text:?}"),
                }
            }
            letter => {
                let line: &mut Vec<char> = &mut lines[row];
                while line.len() <= column {
                    line.push(' ');
                }
                line[column] = letter;
                column += 1;
                // It would wrap, and could not be removed any more. A message may.
                let fits = column <= usize::from(COLUMNS);
                assert!(fits || line[0] == 'a', "too long: {text:?}");
            }
        }
        while lines.len() <= row {
            lines.push(Vec::new());
        }
    }
    assert_eq!(
        column, 0,
        "the cursor is not at the start of a line: {text:?}"
    );
    let mut shown: Vec<String> = lines
        .into_iter()
        .map(|line| line.into_iter().collect::<String>().trim_end().to_owned())
        .collect();
    while shown.last().is_some_and(String::is_empty) {
        shown.pop();
    }
    shown
}

/// Feeds a run until its screen shows this.
fn feed_until(running: &mut Running, screen: &Screen, part: &str) -> u64 {
    let mut fed = 0;
    wait_until(&format!("{part:?} is shown"), || {
        running.feed("a line of input\n");
        fed += 16;
        screen.text().contains(part)
    });
    fed
}

#[test]
fn bytes_and_rate_are_shown_and_erased_at_the_end() {
    let sandbox = Sandbox::new();
    let (screen, stderr) = Screen::new();
    let mut running = sandbox
        .run("--progress out")
        .stdin_held()
        .stderr_to(stderr)
        .start();
    let fed = feed_until(&mut running, &screen, "B/s");
    assert!(!screen.text().contains("left"), "how can it know?");
    let done = running.wait();
    assert_eq!(done.code(), Some(0), "{done:?}");
    assert_eq!(sandbox.stat("out").len(), fed);
    let (text, seen) = screen.end();
    assert!(seen.is_empty(), "{seen:?} is left of {text:?}");
}

#[test]
fn progress_of_a_command_is_shown_too() {
    // Straight into the file, and through a pipe.
    let sandbox = Sandbox::new();
    let script = "while ! test -e stop; do echo a line of output; done";
    for linkless in [false, true] {
        let (screen, stderr) = Screen::new();
        let mut run = sandbox
            .atomwrite(["--progress", "out", "--", "sh", "-c", script])
            .stderr_to(stderr);
        if linkless {
            if !has_tool("strace") {
                continue;
            }
            run = run.without_linkat();
        }
        let running = run.start();
        wait_until("the rate is shown", || screen.text().contains("B/s"));
        sandbox.write("stop", "");
        let done = running.wait();
        assert_eq!(done.code(), Some(0), "{done:?}");
        let (text, seen) = screen.end();
        assert!(seen.is_empty(), "{seen:?} is left of {text:?}");
        std::fs::remove_file(sandbox.path("stop")).unwrap();
    }
}

/// Delays each copy, in microseconds, so that 32 MiB take longer than a second.
pub(crate) const SLOW_COPIES: &str = if cfg!(atomwrite_posix) {
    "pread64:delay_enter=20000"
} else {
    "copy_file_range:delay_enter=300000"
};

/// strace(1) with these delays.
pub(crate) fn slow_copies() -> Strace {
    Strace::new().inject(SLOW_COPIES)
}

fn large_source(sandbox: &Sandbox) {
    // Data and no hole, which would be done in a moment too.
    sandbox.write("src", vec![b'x'; 32 << 20]);
}

#[test]
fn a_bar_and_the_time_left_are_shown_where_the_size_is_known() {
    needs_tool!("strace");
    let sandbox = Sandbox::new();
    large_source(&sandbox);
    let forms: [(&[&str], bool); 2] = [
        (&["--progress", "src", "out"], false),
        (&["--progress", "out"], true),
    ];
    for (arguments, as_stdin) in forms {
        let (screen, stderr) = Screen::new();
        let mut run = sandbox
            .atomwrite(arguments.iter().copied())
            .stderr_to(stderr);
        if as_stdin {
            run = run.stdin_from(File::open(sandbox.path("src")).unwrap());
        }
        let strace = slow_copies();
        let done = run.under(&strace).output();
        assert_eq!(done.code(), Some(0), "{done:?}");
        assert_eq!(sandbox.stat("out").len(), 32 << 20);
        let (text, seen) = screen.end();
        for part in ["of 32.00 MiB", "MiB/s", "[", "=", "]", "left"] {
            assert!(text.contains(part), "no {part:?} in {text:?}");
        }
        assert!(seen.is_empty(), "{seen:?} is left of {text:?}");
    }
}

#[test]
fn nothing_is_shown_where_stderr_is_no_terminal() {
    needs_tool!("strace");
    let sandbox = Sandbox::new();
    large_source(&sandbox);
    let strace = slow_copies();
    sandbox.run("--progress src out").under(&strace).succeeds();
}

#[test]
fn nothing_is_shown_for_a_short_run() {
    let sandbox = Sandbox::with("src", "small");
    for arguments in [
        "--progress out",
        "--progress src out",
        "--progress out -- echo small",
        "--progress -C src src",
    ] {
        let (screen, stderr) = Screen::new();
        let done = sandbox
            .run(arguments)
            .stdin("small")
            .stderr_to(stderr)
            .output();
        assert_eq!(done.code(), Some(0), "{done:?}");
        let (text, _) = screen.end();
        assert_eq!(text, "", "{arguments:?}");
    }
}

#[test]
fn messages_come_after_the_line_is_erased() {
    let sandbox = Sandbox::new();
    for (options, message) in [
        (&["-v"][..], "atomwrite: created 'out'"),
        (
            &["--sha256", &"0".repeat(64)],
            "atomwrite: cannot write 'out'",
        ),
    ] {
        let (screen, stderr) = Screen::new();
        let mut running = sandbox
            .atomwrite(
                ["--progress"]
                    .iter()
                    .chain(options)
                    .chain(&["out"])
                    .copied(),
            )
            .stdin_held()
            .stderr_to(stderr)
            .start();
        feed_until(&mut running, &screen, "B/s");
        drop(running.wait());
        let (text, seen) = screen.end();
        // A long message takes more than one line of the terminal, where that wraps it.
        assert_eq!(seen.len(), 1, "{text:?}");
        assert!(seen[0].starts_with(message), "{seen:?}");
    }
}

#[test]
fn a_signal_ends_a_run_with_progress_and_leaves_nothing() {
    let sandbox = Sandbox::with("out", "old");
    for signal in [Signal::INT, Signal::TERM] {
        let (screen, stderr) = Screen::new();
        let mut running = sandbox
            .run("--progress out")
            .stdin_held()
            .stderr_to(stderr)
            .start();
        feed_until(&mut running, &screen, "B/s");
        running.signal(signal);
        let done = running.wait();
        assert_eq!(done.signal(), Some(signal.as_raw()), "{done:?}");
        assert_eq!(sandbox.listing(), "out=old");
    }
}

#[test]
fn without_the_option_progress_makes_no_system_calls() {
    needs_tool!("strace");
    let sandbox = Sandbox::new();
    let trace = |options: &[&str]| {
        let (screen, stderr) = Screen::new();
        let strace = Strace::new();
        let done = sandbox
            .atomwrite(options.iter().chain(&["out"]).copied())
            .stdin("small")
            .stderr_to(stderr)
            .under(&strace)
            .output();
        assert_eq!(done.code(), Some(0), "{done:?}");
        drop(screen.end());
        strace.trace()
    };
    drop(trace(&[]));
    let without = trace(&[]);
    // Without --progress, no call asks whether stderr is a terminal.
    let asked = without.count(|call| call.is("ioctl") && call.args.starts_with("2<"));
    assert_eq!(asked, 0, "{without}");
    let with = trace(&["--progress"]);
    assert!(with.own().len() > without.own().len(), "{with}");
    assert!(with.own().len() <= without.own().len() + 2, "{with}");
}
