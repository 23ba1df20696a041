//! `--progress` in a real terminal, tmux(1), of 30, 50, 80 and 200 columns: one row that does not
//! wrap, with plausible figures, and nothing at the end.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::progress::SLOW_COPIES;
use crate::harness::{Sandbox, binary, needs_tool, tool, wait_until};

const WIDTHS: [usize; 4] = [30, 50, 80, 200];

/// A tmux of its own, with a window for each width, in which the same runs.
struct Tmux {
    socket: PathBuf,
}

impl Tmux {
    /// `script` is for sh, in a directory of the window's own; `$ATOMWRITE` is the program. The
    /// window stays when that has ended.
    fn start(sandbox: &Sandbox, script: &str) -> Self {
        let tmux = Self {
            socket: sandbox.aside("tmux"),
        };
        for width in WIDTHS {
            let directory = sandbox.mkdir(width.to_string());
            let shown = directory.display().to_string();
            let program = binary().display().to_string();
            let atomwrite = format!("ATOMWRITE={program}");
            let script = format!("{script}; echo $? >status; exec cat");
            let columns = width.to_string();
            let words = ["new-session", "-d", "-y", "10", "-x", &columns];
            let window = ["-s", &columns, "-c", &shown, "-e", &atomwrite];
            let done = tmux
                .command()
                .args(words)
                .args(window)
                .args(["sh", "-c", &script])
                .output()
                .unwrap();
            assert!(done.status.success(), "{done:?}");
        }
        tmux
    }

    fn command(&self) -> Command {
        let mut tmux = Command::new("tmux");
        tmux.args(["-f", "/dev/null", "-S"])
            .arg(&self.socket)
            .env("LC_ALL", "C.UTF-8")
            .env("TERM", "xterm")
            .env("SHELL", "/bin/sh")
            .env_remove("TMUX")
            .env_remove("ATOMWRITE_SYNC");
        tmux
    }

    /// The rows of a window that show something.
    fn rows(&self, width: usize) -> Vec<String> {
        let window = width.to_string();
        let words = ["capture-pane", "-p", "-t", &window];
        let done = self.command().args(words).output().unwrap();
        assert!(done.status.success(), "{done:?}");
        let text = String::from_utf8(done.stdout).unwrap();
        let rows = text.lines().filter(|row| !row.is_empty());
        rows.map(str::to_owned).collect()
    }

    /// Waits until something is shown, and returns it, which must be one row.
    fn row(&self, width: usize) -> String {
        let mut rows = Vec::new();
        wait_until("progress is shown", || {
            rows = self.rows(width);
            !rows.is_empty()
        });
        assert_eq!(rows.len(), 1, "{width} columns: {rows:#?}");
        let row = rows.remove(0);
        // 96 MiB, slowed down: a higher rate would be false.
        assert!(
            !row.contains("TiB/s") && !row.contains("GiB/s"),
            "{width} columns: {row}"
        );
        row
    }

    /// Waits for the end, at which nothing is shown.
    fn ends(&self, directory: &Path, width: usize) {
        let status = directory.join("status");
        wait_until("it has ended", || {
            fs::read(&status).is_ok_and(|status| !status.is_empty())
        });
        assert_eq!(fs::read_to_string(status).unwrap(), "0\n");
        assert_eq!(self.rows(width), [""; 0], "{width} columns");
    }
}

impl Drop for Tmux {
    fn drop(&mut self) {
        drop(self.command().arg("kill-server").output());
    }
}

#[test]
fn a_pipe_is_one_row_of_bytes_and_rate() {
    needs_tool!("tmux");
    let sandbox = Sandbox::new();
    // It goes on until all windows have been read.
    let piped = "while test ! -e ../stop; do head -c 64K /dev/zero; done | $ATOMWRITE --progress --sync=none out";
    let tmux = Tmux::start(&sandbox, piped);
    for width in WIDTHS {
        let row = tmux.row(width);
        assert!(row.contains(" MiB, "), "{width} columns: {row}");
        assert_eq!(row.contains("iB/s, "), width > 30, "{width} columns: {row}");
    }
    // Longer than at the beginning, it still does not wrap.
    let first = WIDTHS.map(|width| tmux.row(width));
    for (width, first) in WIDTHS.iter().zip(first) {
        wait_until("the row is drawn again", || tmux.row(*width) != first);
    }
    sandbox.write("stop", "");
    for width in WIDTHS {
        tmux.ends(&sandbox.path(width.to_string()), width);
    }
}

#[test]
fn a_file_is_one_row_with_a_bar_where_it_fits() {
    needs_tool!("tmux", "strace", "head");
    let sandbox = Sandbox::new();
    let source = sandbox.path("src");
    let zeros = format!("head -c 96M /dev/zero >{}", source.display());
    tool("sh", ["-c", &zeros]);
    let slow = format!(
        "strace -qq -o /dev/null -e trace=copy_file_range,pread64 -e inject={SLOW_COPIES} \
         $ATOMWRITE --progress --sync=none ../src out"
    );
    let tmux = Tmux::start(&sandbox, &slow);
    for width in WIDTHS {
        let row = tmux.row(width);
        let parts: &[&str] = match width {
            30 => &["%, "],
            50 => &["% of 96.00 MiB, ", "iB/s, "],
            _ => &[" of 96.00 MiB [", "] ", "iB/s, "],
        };
        for part in parts.iter().chain(&[" left"]) {
            assert!(row.contains(part), "no {part:?} at {width} columns: {row}");
        }
    }
    for width in WIDTHS {
        tmux.ends(&sandbox.path(width.to_string()), width);
    }
}
