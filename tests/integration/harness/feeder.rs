//! A FIFO that a run reads from, and that the test feeds.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use crate::harness::wait_until;

/// The end of a FIFO that a run reads from; the run waits as long as it is open.
pub(crate) struct Feeder(pub(crate) File);

impl Feeder {
    /// Waits until a process has opened the FIFO for reading.
    pub(crate) fn open(fifo: &Path) -> Self {
        let mut opened = None;
        wait_until("the FIFO is read", || {
            let mut options = OpenOptions::new();
            // ENXIO until then.
            opened = options
                .write(true)
                .custom_flags(libc::O_NONBLOCK)
                .open(fifo)
                .ok();
            opened.is_some()
        });
        let mut feeder = Self(opened.expect("it was waited for"));
        feeder.feed(b"begun\n");
        feeder
    }

    /// Waits until the run has read all of it.
    pub(crate) fn feed(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).unwrap();
        wait_until("the input has been read", || {
            rustix::io::ioctl_fionread(&self.0).unwrap() == 0
        });
    }
}
