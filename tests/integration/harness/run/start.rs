//! How a run is started: what stands before the binary, its environment, its three streams, and
//! what the child does to itself.

use std::io::{self, Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::thread::{self, JoinHandle};

use super::{Input, Run};
use crate::harness::{Running, binary, path_with_sbin};

impl Run<'_> {
    /// Starts the run and does not wait for it.
    #[track_caller]
    pub(crate) fn start(self) -> Running {
        assert!(self.unread.is_none(), "who would check that it is unread?");
        assert!(self.strace.is_none(), "who would keep its directory?");
        let shown = self.shown();
        let program = match self.user {
            Some(_) => self.sandbox.reachable_binary(),
            None => binary(),
        };
        let mut command = match self.prefix.split_first() {
            Some((first, rest)) => {
                let mut command = Command::new(first);
                command.args(rest).arg(program);
                command
            }
            None => Command::new(program),
        };
        command
            .args(&self.arguments)
            .current_dir(&self.directory)
            .env_remove("ATOMWRITE_SYNC")
            .env_remove("VERSION_CONTROL")
            .env_remove("SIMPLE_BACKUP_SUFFIX")
            .env_remove("COLUMNS")
            .env_remove("CLICOLOR_FORCE")
            .env("LC_ALL", "C")
            .env("PATH", path_with_sbin())
            .envs(self.environment.iter().map(|(key, value)| (key, value)));
        if !self.session {
            command.process_group(0);
        }
        let (mut bytes, mut held) = (None, false);
        command.stdin(match self.stdin {
            Input::Nothing => Stdio::null(),
            Input::Bytes(content) => {
                bytes = Some(content);
                Stdio::piped()
            }
            Input::Open(descriptor) => descriptor.into(),
            Input::Held => {
                held = true;
                Stdio::piped()
            }
        });
        command.stdout(self.stdout.map_or_else(Stdio::piped, Stdio::from));
        command.stderr(self.stderr.map_or_else(Stdio::piped, Stdio::from));
        let birth = Birth {
            umask: self.umask,
            user: self.user,
            file_size: self.file_size,
            session: self.session,
            closed: self.closed,
        };
        #[expect(unsafe_code, reason = "there is no safe way to close a child's stdin")]
        // SAFETY: between fork and exec only async-signal-safe system calls are made, and nothing
        // is allocated.
        unsafe {
            command.pre_exec(move || birth.apply());
        }
        let mut child = command
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {shown}: {error}"));
        let mut stdin = child.stdin.take();
        let feeder = bytes.map(|bytes| {
            let mut pipe = stdin.take().expect("it was asked for");
            thread::spawn(move || {
                // EPIPE: the run failed before it had read all, as its status will show.
                drop(pipe.write_all(&bytes));
            })
        });
        let stdout = child.stdout.take().map(collect);
        let stderr = child.stderr.take().map(collect);
        Running {
            shown,
            stdin: stdin.filter(|_| held),
            child: Some(child),
            feeder,
            stdout,
            stderr,
        }
    }
}

/// What the child does to itself before the program starts.
struct Birth {
    umask: u32,
    user: Option<(u32, u32, Vec<u32>)>,
    file_size: Option<u64>,
    session: bool,
    closed: Vec<i32>,
}

impl Birth {
    #[expect(unsafe_code, reason = "std has no way to do these in a child")]
    fn apply(&self) -> io::Result<()> {
        let check = |result: i32| match result {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        };
        // SAFETY: plain system calls; every pointer is to memory that lives until the call returns.
        unsafe {
            libc::umask(self.umask);
            if let Some(bytes) = self.file_size {
                let limit = libc::rlimit {
                    rlim_cur: bytes,
                    rlim_max: bytes,
                };
                check(libc::setrlimit(libc::RLIMIT_FSIZE, &raw const limit))?;
            }
            if let Some((uid, gid, groups)) = &self.user {
                check(libc::setgroups(groups.len(), groups.as_ptr()))?;
                check(libc::setresgid(*gid, *gid, *gid))?;
                check(libc::setresuid(*uid, *uid, *uid))?;
            }
            if self.session {
                check(libc::setsid().min(0))?;
                check(libc::ioctl(0, libc::TIOCSCTTY, 0))?;
            }
            for &descriptor in &self.closed {
                check(libc::close(descriptor))?;
            }
        }
        Ok(())
    }
}

fn collect(mut pipe: impl Read + Send + 'static) -> JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut all = Vec::new();
        drop(pipe.read_to_end(&mut all));
        all
    })
}
