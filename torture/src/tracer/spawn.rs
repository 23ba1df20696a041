//! Starting the traced program.

use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use anyhow::{Context, Result};
use nix::sys::ptrace;
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::{SigHandler, Signal, signal};
use nix::unistd::Pid;

use super::Line;

/// Starts it in a process group of its own; it stops before its first call.
pub(super) fn spawn(line: Line<'_>, stderr: &File) -> Result<Pid> {
    let (program, arguments) = line
        .words
        .split_first()
        .context("there is nothing to run")?;
    let mut command = Command::new(program);
    command
        .args(arguments)
        .current_dir(line.directory)
        .env_clear()
        // Not what a user's own directories put before the real programs.
        .env("PATH", "/usr/bin:/bin")
        .env("LC_ALL", "C")
        .envs(line.environment.iter().map(|(name, value)| (name, value)))
        .stdin(line.stdin)
        .stdout(Stdio::null())
        .stderr(stderr.try_clone()?)
        .process_group(0);
    be_traced(&mut command);
    let child = command
        .spawn()
        .with_context(|| format!("cannot run {program:?}"))?;
    Ok(Pid::from_raw(
        i32::try_from(child.id()).context("a process number is too large")?,
    ))
}

#[expect(
    unsafe_code,
    reason = "only the child itself can say that it wants to be traced"
)]
fn be_traced(command: &mut Command) {
    let prepare = || {
        // A shell starts what is in the background with these ignored, and it would stay so.
        for ending in [
            Signal::SIGINT,
            Signal::SIGQUIT,
            Signal::SIGTERM,
            Signal::SIGHUP,
            Signal::SIGXCPU,
            Signal::SIGALRM,
            Signal::SIGUSR1,
            Signal::SIGUSR2,
        ] {
            // SAFETY: SIG_DFL is a disposition that needs no function of ours.
            unsafe { signal(ending, SigHandler::SigDfl) }?;
        }
        // A core file would be a new name in the scene.
        setrlimit(Resource::RLIMIT_CORE, 0, 0)?;
        ptrace::traceme().map_err(io::Error::from)
    };
    // SAFETY: between fork and exec this makes plain system calls only; nothing is allocated, no
    // lock is taken.
    unsafe { command.pre_exec(prepare) };
}

pub(super) fn text_of(mut file: File) -> Result<String> {
    let mut bytes = Vec::new();
    file.rewind()
        .and_then(|()| file.read_to_end(&mut bytes))
        .context("cannot read the messages")?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
