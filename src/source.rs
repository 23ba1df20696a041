//! The source of the new content: standard input, SOURCE or COMMAND.
//!
//! Invariant: a closed standard input is an error and not an empty file. No open(2) or read(2)
//! blocks while signals are blocked. With `--append`, DEST's current content comes first.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};

use crate::destination::{Destination, Opened};
use crate::message::{Messages, cannot};
use crate::outcome::Failure;
use crate::request::{Command, Locking, Request, Source, Start, is_stdin};
use crate::signals;
use crate::sys::{self, Errno, Kind, Metadata, Times};
use crate::transfer::{ReadMethod, Reader};

/// The pause between two attempts to open a SOURCE on which another process has a lease.
const LEASE_PAUSE: Duration = Duration::from_millis(20);

/// The open input.
#[derive(Debug)]
pub(crate) struct Input<'d> {
    first: Option<Reader<'d>>,
    origin: Origin<'d>,
}

/// Where the new bytes come from.
#[derive(Debug)]
pub(crate) enum Origin<'d> {
    /// Standard input.
    Stdin(Metadata),
    File(OwnedFd, Metadata, &'d Path),
    /// COMMAND, which starts when there is a file for its output.
    Command(&'d Command),
}

impl<'d> Input<'d> {
    /// Opens the input and reads nothing yet. `old` is DEST, if this run reads it.
    pub(crate) fn open(
        source: &'d Source,
        start: Start,
        destination: &Destination,
        existing: Option<Metadata>,
        old: Option<&'d Opened>,
    ) -> Result<Self> {
        let first = match (start, existing) {
            (Start::Old, Some(existing)) => {
                let readable = old.and_then(|old| Some((old.content()?, old.metadata)));
                let Some((file, metadata)) = readable else {
                    bail!(
                        "cannot append to {}: {}",
                        destination.display(),
                        if existing.kind == Kind::Regular {
                            "it cannot be read"
                        } else {
                            "it is not a regular file"
                        }
                    );
                };
                Some(Reader {
                    file,
                    metadata,
                    method: ReadMethod::Read,
                })
            }
            _ => None,
        };
        let origin = match source {
            // `/dev/stdin` and the like are standard input, so the same checks apply.
            Source::File(path) if is_stdin(path) => {
                return Self::open(&Source::Stdin, start, destination, existing, old);
            }
            Source::Stdin if sys::stdin_was_closed() => bail!("{STDIN}: it is closed"),
            Source::Stdin => Origin::Stdin(check_stdin()?),
            Source::File(path) => {
                let file = open(path)?;
                let metadata = sys::metadata(&file).with_context(|| cannot("read", path))?;
                Origin::File(file, metadata, path)
            }
            Source::Command(command) => Origin::Command(command),
        };
        if origin
            .metadata()
            .is_some_and(|metadata| metadata.kind == Kind::Directory)
        {
            bail!(
                "{}: it is a directory; name the file in it",
                origin.cannot_read()
            );
        }
        Ok(Self { first, origin })
    }

    /// Returns DEST's current content, which comes before the input with `--append`.
    pub(crate) fn first(&self) -> Option<&Reader<'d>> {
        self.first.as_ref()
    }

    pub(crate) fn origin(&self) -> &Origin<'d> {
        &self.origin
    }

    pub(crate) fn is_stdin(&self) -> bool {
        matches!(self.origin, Origin::Stdin(_))
    }

    /// Returns the metadata of the file that is read; `None` for COMMAND.
    pub(crate) fn metadata(&self) -> Option<&Metadata> {
        self.origin.metadata()
    }

    /// Returns how to describe an empty input that may come from a failed command whose exit status
    /// this process does not see: standard input, or a pipe such as a shell's `<(command)`.
    pub(crate) fn empty_because_of_failure(&self) -> Option<&'static str> {
        match &self.origin {
            Origin::Stdin(_) if self.is_typed() => Some("nothing was typed"),
            Origin::Stdin(metadata) => Some(match metadata.kind {
                Kind::Regular if metadata.size == 0 => "standard input is an empty file",
                Kind::Regular => "standard input is already at end of file",
                Kind::Fifo | Kind::Socket => {
                    "standard input is empty (did the command before the pipe fail?)"
                }
                _ => "standard input is empty, as /dev/null is",
            }),
            Origin::File(_, metadata, _) if matches!(metadata.kind, Kind::Fifo | Kind::Socket) => {
                Some("SOURCE is empty (did the command that writes it fail?)")
            }
            Origin::File(..) | Origin::Command(_) => None,
        }
    }

    /// Returns true if a person is expected to type the content.
    pub(crate) fn is_typed(&self) -> bool {
        match &self.origin {
            Origin::Stdin(metadata) => {
                metadata.kind == Kind::CharacterDevice && sys::is_terminal(sys::stdin())
            }
            _ => false,
        }
    }

    /// Tells the user that atomwrite reads from the terminal, and that `--lock` does not protect
    /// what the command before a pipe has read.
    pub(crate) fn announce(&self, request: &Request, messages: Messages) {
        if self.is_typed() {
            messages.notice("reading from the terminal; end with Ctrl-D, cancel with Ctrl-C");
        }
        let is_pipe = self.is_stdin()
            && self
                .metadata()
                .is_some_and(|metadata| metadata.kind == Kind::Fifo);
        if is_pipe && request.locking != Locking::None && !request.appends() {
            messages.warn(
                "--lock does not protect what the command before the pipe has read; \
                 run that under the lock: atomwrite --lock DEST -- COMMAND",
            );
        }
    }

    /// Replaces a standard input that may be DEST, because no descriptor of DEST may be open at the
    /// rename. On SMB neither the inode number nor the name identifies a file, so every regular
    /// file on DEST's filesystem counts.
    pub(crate) fn detach(destination: &Destination) -> Result<()> {
        let directory = destination.directory_metadata();
        let may_be_dest =
            |stdin: Metadata| stdin.kind == Kind::Regular && stdin.is_on_filesystem_of(directory);
        if sys::metadata(sys::stdin()).is_ok_and(may_be_dest) {
            sys::detach_stdin().context("cannot close standard input")?;
        }
        Ok(())
    }

    /// Returns how many bytes a regular file will supply; `None` if that is unknown.
    pub(crate) fn size(&self) -> Option<u64> {
        let (file, metadata) = match &self.origin {
            Origin::Stdin(metadata) => (sys::stdin(), metadata),
            Origin::File(file, metadata, _) => (file.as_fd(), metadata),
            Origin::Command(_) => return None,
        };
        if metadata.kind != Kind::Regular || metadata.size == 0 {
            return None;
        }
        let rest = metadata.size.saturating_sub(sys::position(file).ok()?);
        Some(rest + self.first.map_or(0, |old| old.metadata.size))
    }

    /// Returns the mode for a new DEST, before the umask: SOURCE's mode, as with cp, and otherwise
    /// 0666, as with a shell's `>`.
    pub(crate) fn mode(&self) -> u32 {
        match &self.origin {
            Origin::File(_, metadata, _) => metadata.mode & 0o777,
            Origin::Stdin(_) | Origin::Command(_) => 0o666,
        }
    }

    /// Returns the times for `--preserve-timestamps`, taken before the input is read. `None` unless
    /// SOURCE is a regular file.
    pub(crate) fn times(&self) -> Option<Times> {
        match &self.origin {
            Origin::File(_, metadata, _) if metadata.kind == Kind::Regular => {
                Some(metadata.times())
            }
            Origin::File(..) | Origin::Stdin(_) | Origin::Command(_) => None,
        }
    }

    /// Refuses `--preserve-timestamps` for an input that has no times.
    pub(crate) fn check_times(&self, request: &Request) -> Result<(), Failure> {
        if request.attributes.preserve_times && self.times().is_none() {
            return Err(Failure::Usage(anyhow!(
                "{}: --preserve-timestamps needs a regular file",
                self.cannot_read()
            )));
        }
        Ok(())
    }

    pub(crate) fn cannot_read(&self) -> String {
        self.origin.cannot_read()
    }
}

const STDIN: &str = "cannot read standard input";

impl Origin<'_> {
    fn metadata(&self) -> Option<&Metadata> {
        match self {
            Self::Stdin(metadata) | Self::File(_, metadata, _) => Some(metadata),
            Self::Command(_) => None,
        }
    }

    fn cannot_read(&self) -> String {
        match self {
            Self::Stdin(_) => STDIN.to_owned(),
            Self::File(_, _, path) => cannot("read", path),
            Self::Command(command) => format!("cannot read the output of {command}"),
        }
    }
}

/// Returns the status of standard input. Refuses a socket of messages: it has no end, and a message
/// that does not fit into the buffer loses its rest.
pub(crate) fn check_stdin() -> Result<Metadata> {
    let metadata = sys::metadata(sys::stdin()).context(STDIN)?;
    if metadata.kind == Kind::Socket && !sys::is_stream(sys::stdin()).context(STDIN)? {
        bail!("{STDIN}: it is a datagram socket, and only a stream has an end");
    }
    Ok(metadata)
}

/// Opens SOURCE. Waits while another process has a lease on it, which the kernel ends after 45 s.
fn open(path: &Path) -> Result<OwnedFd> {
    loop {
        match sys::open_source(path) {
            Err(Errno::AGAIN) => signals::pause(LEASE_PAUSE)?,
            opened => return opened.with_context(|| cannot("open", path)),
        }
    }
}

/// Returns how to read SOURCE, which is open with O_NONBLOCK.
pub(crate) fn read_method(metadata: &Metadata) -> ReadMethod {
    match metadata.kind {
        // Reading a FIFO without a writer returns 0, as at end of file.
        Kind::Fifo => ReadMethod::WaitAndRead,
        _ => ReadMethod::Read,
    }
}

/// Returns how to read standard input, and another descriptor for it if one is needed. Other
/// processes share the flags of standard input, so it never gets O_NONBLOCK.
pub(crate) fn stdin_method(metadata: &Metadata) -> (Option<OwnedFd>, ReadMethod) {
    if !signals::is_guarded() {
        return (None, ReadMethod::Read);
    }
    let stdin = sys::stdin();
    match metadata.kind {
        Kind::Fifo => match sys::reopen_nonblocking(stdin) {
            Ok(reopened) => (Some(reopened), ReadMethod::Read),
            Err(_) => (None, ReadMethod::Splice),
        },
        Kind::Socket => (None, ReadMethod::Receive),
        Kind::CharacterDevice if sys::is_terminal(stdin) => {
            (sys::reopen_nonblocking(stdin).ok(), ReadMethod::WaitAndRead)
        }
        // Opening another device again can have side effects.
        Kind::CharacterDevice => (None, ReadMethod::WaitAndRead),
        // Files that the kernel generates have no size, and reading some of them waits, such as
        // /proc/kmsg.
        Kind::Regular if metadata.size == 0 => (None, ReadMethod::WaitAndRead),
        _ => (None, ReadMethod::Read),
    }
}
