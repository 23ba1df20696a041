//! `--progress`: how much has come, how fast, and where the size is known how long it will take.
//!
//! The rule: only on a terminal, not before a moment has passed, and gone at the end.

use std::io::{self, IsTerminal};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// What ends sooner needs no bar: it would only flicker.
const PATIENCE: Duration = Duration::from_millis(400);

const KNOWN: &str = "{bytes} of {total_bytes} [{wide_bar}] {bytes_per_sec}, {eta} left";
const UNKNOWN: &str = "{bytes}, {bytes_per_sec}, {elapsed}";

/// A line on the terminal, drawn again and again. Cleared when dropped.
#[derive(Debug)]
pub(crate) struct Progress {
    /// Bytes, if that is known.
    total: Option<u64>,
    begun: Instant,
    bar: Option<ProgressBar>,
}

impl Progress {
    /// `None` where stderr is no terminal.
    pub(crate) fn on_terminal(total: Option<u64>) -> Option<Self> {
        io::stderr().is_terminal().then(|| Self {
            total,
            begun: Instant::now(),
            bar: None,
        })
    }

    /// So many bytes have come.
    pub(crate) fn at(&mut self, bytes: u64) {
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
    }
}

#[expect(
    unsafe_code,
    reason = "the attribute gives the function the name that the C library's has"
)]
// SAFETY: the signature is that of C's pow, and so is what it does.
/// Stands in for the C library's, which indicatif needs for its estimates and nothing else here does: to load libm is a
/// quarter of all system calls of a small write, in every run, with a progress bar or without.
#[unsafe(no_mangle)]
extern "C" fn pow(base: f64, exponent: f64) -> f64 {
    libm::pow(base, exponent)
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
