//! `--progress`: how much has come, how fast, and where the size is known how long it will take.
//!
//! Invariant: the line is drawn on a terminal only, not before a moment has passed, in one row, and it is gone at the end. It
//! measures from the start, also while it is hidden: what came then is a part of the rate.

use std::cell::RefCell;
use std::io::{self, IsTerminal};
use std::os::fd::AsFd;
use std::rc::Rc;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::sys;

/// What ends sooner needs no bar: it would only flicker.
const PATIENCE: Duration = Duration::from_millis(400);

/// Where a terminal does not report its width.
const COLUMNS: u16 = 80;

/// What is shown, of one input or of many.
#[derive(Debug, Clone)]
pub(crate) struct Progress {
    line: Rc<RefCell<Line>>,
    /// Bytes of the files before this one.
    before: u64,
}

/// A line on the terminal, drawn again and again. Cleared when dropped.
#[derive(Debug)]
struct Line {
    /// How many files there are, if there are many.
    files: Option<usize>,
    /// How many of them have come.
    done: usize,
    begun: Instant,
    /// Hidden until it is worth a look.
    bar: ProgressBar,
    layout: Option<Layout>,
}

/// What fits into the width of the terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Layout {
    Full,
    WithoutBar,
    Short,
}

impl Layout {
    /// The longest line of each, with sizes of four digits, must fit.
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
    /// `None` unless it is wanted, and standard error is a terminal.
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

    /// There are many inputs, of so many bytes in all.
    pub(crate) fn of_many(self, files: usize, total: Option<u64>) -> Self {
        let mut line = self.line.borrow_mut();
        line.files = Some(files);
        line.expect(total);
        drop(line);
        self
    }

    /// So many of the many have come, of so many bytes.
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

    /// The next input has so many bytes, if that is known.
    pub(crate) fn of_input(self, size: Option<u64>) -> Self {
        let line = self.line.borrow();
        if line.files.is_none() {
            line.expect(size);
        }
        drop(line);
        self
    }

    /// So many bytes have come of this input.
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
            if self.layout.is_none() {
                self.show();
            }
            self.bar.set_position(bytes);
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

/// Tells whether the terminal takes a line without waiting. It does not after Ctrl-S, and a signal would have to wait, too.
fn takes_output() -> bool {
    let stderr = io::stderr();
    let wanted = [(stderr.as_fd(), sys::Event::Writable)];
    sys::poll(wanted, Some(Duration::ZERO)).is_ok_and(|[ready]| ready.is_any())
}
