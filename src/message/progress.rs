//! `--progress`: bytes so far, their rate, and the remaining time if the size is known.
//!
//! Invariant: the progress line is drawn only on a terminal, only after a moment, and in one row.
//! It is cleared at the end. The rate counts from the start, when the line is still hidden.

use std::cell::RefCell;
use std::io::{self, IsTerminal};
use std::os::fd::AsFd;
use std::rc::Rc;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::sys;

/// The delay before the line is shown. On a shorter run it would only flicker.
const PATIENCE: Duration = Duration::from_millis(400);

/// The width for a terminal that reports none.
const COLUMNS: u16 = 80;

/// The progress of one input or of many.
#[derive(Debug, Clone)]
pub(crate) struct Progress {
    line: Rc<RefCell<Line>>,
    /// The size in bytes of the files before this one.
    before: u64,
}

/// A line on the terminal that is redrawn. Cleared when dropped.
#[derive(Debug)]
struct Line {
    /// The number of files, if there are many.
    files: Option<usize>,
    /// The number of files that are complete.
    done: usize,
    begun: Instant,
    /// Hidden until [`PATIENCE`] is over.
    bar: ProgressBar,
    layout: Option<Layout>,
}

/// How much fits into the width of the terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Layout {
    Full,
    WithoutBar,
    Short,
}

impl Layout {
    /// The longest line of each layout must fit, with sizes of four digits.
    fn of(columns: u16, has_files: bool) -> Self {
        let (full, without_bar) = if has_files { (80, 60) } else { (60, 45) };
        match columns {
            columns if columns >= full => Self::Full,
            columns if columns >= without_bar => Self::WithoutBar,
            _ => Self::Short,
        }
    }

    fn template(self, size_is_known: bool) -> &'static str {
        match (self, size_is_known) {
            (Self::Full, true) => {
                "{prefix}{bytes} of {total_bytes} [{wide_bar}] {bytes_per_sec}, {eta} left"
            }
            (Self::WithoutBar, true) => {
                "{prefix}{percent}% of {total_bytes}, {bytes_per_sec}, {eta} left"
            }
            (Self::Short, true) => "{prefix}{percent}%, {eta} left",
            (Self::Full | Self::WithoutBar, false) => "{prefix}{bytes}, {bytes_per_sec}, {elapsed}",
            (Self::Short, false) => "{prefix}{bytes}, {elapsed}",
        }
    }
}

impl Progress {
    /// Returns `None` unless the user wants progress and standard error is a terminal.
    pub(crate) fn on_terminal(wanted: bool) -> Option<Self> {
        (wanted && io::stderr().is_terminal()).then(|| Self {
            line: Rc::new(RefCell::new(Line {
                files: None,
                done: 0,
                begun: Instant::now(),
                bar: ProgressBar::hidden(),
                layout: None,
            })),
            before: 0,
        })
    }

    /// Announces many inputs, and their total size in bytes if it is known.
    pub(crate) fn of_many(self, files: usize, total: Option<u64>) -> Self {
        let mut line = self.line.borrow_mut();
        line.files = Some(files);
        line.expect(total);
        drop(line);
        self
    }

    /// Reports that `files` of the inputs are complete, with `before` bytes. Returns the progress
    /// of the next input.
    pub(crate) fn behind(&self, files: usize, before: u64) -> Self {
        let mut line = self.line.borrow_mut();
        line.at(before);
        line.count(files);
        drop(line);
        Self {
            line: Rc::clone(&self.line),
            before,
        }
    }

    /// Announces the size of the next input, if it is known.
    pub(crate) fn of_input(self, size: Option<u64>) -> Self {
        let line = self.line.borrow();
        if line.files.is_none() {
            line.expect(size);
        }
        drop(line);
        self
    }

    /// Reports how many bytes of this input have arrived.
    pub(crate) fn at(&self, bytes: u64) {
        self.line.borrow_mut().at(self.before + bytes);
    }
}

impl Line {
    fn expect(&self, total: Option<u64>) {
        if let Some(total) = total {
            self.bar.set_length(total);
        }
    }

    fn count(&mut self, files: usize) {
        self.done = files;
        if let Some(layout) = self.layout.filter(|_| takes_output()) {
            self.bar.set_prefix(self.prefix(layout));
        }
    }

    fn prefix(&self, layout: Layout) -> String {
        match (self.files, layout) {
            (Some(all), Layout::Full) => format!("{} of {all} files, ", self.done),
            (Some(all), Layout::WithoutBar | Layout::Short) => format!("{}/{all}, ", self.done),
            (None, _) => String::new(),
        }
    }

    fn at(&mut self, bytes: u64) {
        if self.layout.is_none() && self.begun.elapsed() < PATIENCE {
            self.bar.set_position(bytes);
        } else if takes_output() {
            // Before the first line, so that it does not say 0 bytes.
            self.bar.set_position(bytes);
            if self.layout.is_none() {
                self.show();
            }
        }
    }

    fn show(&mut self) {
        let columns = sys::terminal_columns(io::stderr()).unwrap_or(COLUMNS);
        let layout = Layout::of(columns, self.files.is_some());
        let template = layout.template(self.bar.length().is_some());
        let style = ProgressStyle::with_template(template).expect("the template is right");
        self.bar.set_draw_target(ProgressDrawTarget::stderr());
        self.bar.set_style(style.progress_chars("=> "));
        self.bar.set_prefix(self.prefix(layout));
        self.layout = Some(layout);
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        if self.layout.is_some() {
            if !takes_output() {
                self.bar.set_draw_target(ProgressDrawTarget::hidden());
            }
            self.bar.finish_and_clear();
        }
    }
}

/// Returns true if the terminal takes a line without waiting. After Ctrl-S it does not, and a
/// signal would have to wait, too.
fn takes_output() -> bool {
    let stderr = io::stderr();
    let wanted = [(stderr.as_fd(), sys::Event::Writable)];
    sys::poll(wanted, Some(Duration::ZERO)).is_ok_and(|[ready]| ready.is_any())
}
