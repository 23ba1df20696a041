//! Input through a pipe, in the same pieces each time.
//!
//! Two processes that write and read at their own pace would make other calls in each run. So the
//! tracer is the writer, and fills the pipe whenever the program has stopped: what the program
//! reads depends only on what it has done.

use std::fs::File;
use std::io::{ErrorKind, Write};

use anyhow::{Context, Result};
use nix::fcntl::OFlag;
use nix::fcntl::{FcntlArg, fcntl};
use nix::unistd::pipe2;

/// The writing end, and what is still to be written.
#[derive(Debug)]
pub(crate) struct Feed<'i> {
    writer: Option<File>,
    rest: &'i [u8],
}

impl<'i> Feed<'i> {
    /// Also returns the reading end.
    pub(crate) fn through_pipe(input: &'i [u8]) -> Result<(Self, File)> {
        let (reader, writer) = pipe2(OFlag::O_CLOEXEC).context("cannot make a pipe")?;
        // The reader's end waits as usual.
        fcntl(&writer, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).context("cannot set up a pipe")?;
        let mut feed = Self {
            writer: Some(writer.into()),
            rest: input,
        };
        feed.fill()?;
        Ok((feed, reader.into()))
    }

    /// Returns whether all has been put in.
    pub(super) fn is_done(&self) -> bool {
        self.writer.is_none()
    }

    /// Writes as much as fits into the pipe. Closes the pipe when everything is in it, or when it
    /// has no reader.
    pub(super) fn fill(&mut self) -> Result<()> {
        while let Some(writer) = &mut self.writer {
            if self.rest.is_empty() {
                self.writer = None;
                break;
            }
            match writer.write(self.rest) {
                Ok(written) => self.rest = &self.rest[written..],
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::BrokenPipe => self.writer = None,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error).context("cannot fill a pipe"),
            }
        }
        Ok(())
    }
}
