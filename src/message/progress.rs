//! `--progress`: how much has come, how fast, and where the size is known how long it will take.
//!
//! The rule: only on a terminal, not before a moment has passed, and gone at the end.

use std::cell::RefCell;
use std::io::{self, IsTerminal};
use std::rc::Rc;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// What ends sooner needs no bar: it would only flicker.
const PATIENCE: Duration = Duration::from_millis(400);

const KNOWN: &str = "{prefix}{bytes} of {total_bytes} [{wide_bar}] {bytes_per_sec}, {eta} left";
const UNKNOWN: &str = "{prefix}{bytes}, {bytes_per_sec}, {elapsed}";

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
    /// Bytes, if that is known.
    total: Option<u64>,
    /// How many files there are, if there are many.
    files: Option<usize>,
    /// How many of them have come.
    done: usize,
    begun: Instant,
    bar: Option<ProgressBar>,
}

impl Progress {
    /// `None` unless it is wanted, and standard error is a terminal.
    pub(crate) fn on_terminal(wanted: bool) -> Option<Self> {
        (wanted && io::stderr().is_terminal()).then(|| Self {
            line: Rc::new(RefCell::new(Line {
                total: None,
                files: None,
                done: 0,
                begun: Instant::now(),
                bar: None,
            })),
            before: 0,
        })
    }

    /// There are many inputs, of so many bytes in all.
    pub(crate) fn of_many(self, files: usize, total: Option<u64>) -> Self {
        let mut line = self.line.borrow_mut();
        (line.files, line.total) = (Some(files), total);
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
        let mut line = self.line.borrow_mut();
        if line.files.is_none() {
            line.total = size;
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
    fn count(&mut self, files: usize) {
        self.done = files;
        if let Some(bar) = &self.bar {
            bar.set_prefix(self.prefix());
        }
    }

    fn prefix(&self) -> String {
        match self.files {
            Some(all) => format!("{} of {all} files, ", self.done),
            None => String::new(),
        }
    }

    fn at(&mut self, bytes: u64) {
        if self.bar.is_none() {
            if self.begun.elapsed() < PATIENCE {
                return;
            }
            self.bar = Some(self.draw());
        }
        if let Some(bar) = &self.bar {
            bar.set_position(bytes);
        }
    }

    fn draw(&self) -> ProgressBar {
        let template = if self.total.is_some() { KNOWN } else { UNKNOWN };
        let target = ProgressDrawTarget::stderr();
        let style = ProgressStyle::with_template(template).expect("the template is right");
        ProgressBar::with_draw_target(self.total, target)
            .with_style(style.progress_chars("=> "))
            .with_elapsed(self.begun.elapsed())
            .with_prefix(self.prefix())
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
