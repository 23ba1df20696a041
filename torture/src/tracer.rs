//! A tracer (ptrace): runs a command line with all of its children, sees each system call, and acts
//! on one of them.
//!
//! Invariant: a call has an address that is the same in each run: its name, and how many calls of
//! that name came before. An act happens at that call only, and the answer says whether the call
//! was reached. The program is the real one: nothing is loaded into it. A tree belongs to the
//! thread that started it, so two threads can each have their own.
//!
//! What it cannot see: what the kernel does within a call, and what needs no call (vDSO, mapped
//! memory). Job control is off: signals that stop a process are swallowed. The order of concurrent
//! processes is random.

mod calls;
mod feed;
mod spawn;

use std::collections::{HashMap, HashSet};
use std::ffi::OsString;
use std::fs::File;
use std::path::Path;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use libc::user_regs_struct;
use nix::errno::Errno;
use nix::sys::ptrace::{self, Options};
use nix::sys::signal::{Signal, kill, killpg};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

pub(crate) use self::calls::Call;
use self::calls::Length;
pub(crate) use self::feed::Feed;

/// The program that is run, and which of its calls are seen.
pub(crate) struct Line<'l> {
    pub(crate) words: &'l [OsString],
    pub(crate) directory: &'l Path,
    /// All of the environment but `PATH`.
    pub(crate) environment: &'l [(&'l str, OsString)],
    pub(crate) stdin: File,
    /// What writes into stdin, if that is a pipe.
    pub(crate) feed: Option<Feed<'l>>,
    pub(crate) scope: Scope,
    /// Calls that fail in every run, the clean one too.
    pub(crate) standing: Option<Standing>,
}

/// Whose calls are seen, numbered and meddled with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scope {
    /// The program and its children, until they become another program.
    Own,
    /// All of the processes.
    Tree,
}

/// Which calls fail whatever else happens, and how: `None` for those that do not.
pub(crate) type Standing = fn(&Call) -> Option<Errno>;

/// What is done, once, to which call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Aim {
    pub(crate) number: u64,
    /// How many calls of that number come before it.
    pub(crate) nth: usize,
    pub(crate) act: Act,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Act {
    /// SIGKILL to all of the tree: the call is not made.
    Kill,
    /// SIGKILL to all of the tree, when the call has been made.
    KillAfter,
    /// SIGKILL to the process that was started, and not to its children.
    KillMain,
    /// A signal to the process that was started. It arrives when the call has been made, or breaks
    /// it off if it waits.
    Signal(Signal),
    /// A signal to all, as a terminal sends it.
    SignalAll(Signal),
    /// The call is not made and fails.
    Fail(Errno),
    /// The call and the next ones of that name, [`INTERRUPTIONS`] in all, are not made and fail
    /// with EINTR.
    Interrupt,
    /// The call, and each later one that changes something, is not made and fails.
    FailEver(Errno),
    /// A read or a write is asked for at most so many bytes.
    Shorten(u64),
}

const INTERRUPTIONS: usize = 5;

impl Aim {
    fn meets(&self, call: &Call) -> bool {
        let how_many = match self.act {
            Act::Interrupt => INTERRUPTIONS,
            _ => 1,
        };
        call.number() == self.number && (self.nth..self.nth + how_many).contains(&call.nth())
    }
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Exited(i32),
    Killed(Signal),
    Hung,
}

#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) end: End,
    pub(crate) stderr: String,
    /// In the order in which they were entered. When the aim was reached, those that follow may be
    /// missing, unless it was to interrupt the call.
    pub(crate) calls: Vec<Call>,
    /// Whether the call that was aimed at was made.
    pub(crate) reached: bool,
}

/// How long a run may take. Most take some milliseconds; on a busy machine it must not be taken for
/// a hang.
const LIMIT: Duration = Duration::from_secs(if cfg!(test) { 1 } else { 60 });

/// Runs the line to the end of all of its processes.
pub(crate) fn run(mut line: Line<'_>, aim: Option<Aim>) -> Result<Run> {
    let stderr = tempfile::tempfile().context("cannot make a file for messages")?;
    let (scope, standing) = (line.scope, line.standing);
    let feed = line.feed.take();
    let main = spawn::spawn(line, &stderr)?;
    let (over, ended) = mpsc::channel::<()>();
    // A waitpid cannot have a time limit.
    let watchdog = thread::spawn(move || {
        let hung = ended.recv_timeout(LIMIT) == Err(RecvTimeoutError::Timeout);
        if hung {
            // They are gone already: then they just came in time.
            let _ = killpg(main, Signal::SIGKILL);
        }
        hung
    });
    let mut tree = Tree {
        feed,
        main,
        scope,
        standing,
        aim,
        tracees: HashMap::new(),
        early: HashSet::new(),
        counts: HashMap::new(),
        calls: Vec::new(),
        reached: false,
        dead: None,
    };
    let end = tree.follow();
    drop(over);
    let hung = watchdog.join().unwrap_or(false);
    let end = end.with_context(|| format!("cannot trace process {main}"))?;
    Ok(Run {
        end: if hung { End::Hung } else { end },
        stderr: spawn::text_of(stderr)?,
        calls: tree.calls,
        reached: tree.reached,
    })
}

/// A process, or a thread, that is traced.
#[derive(Debug)]
struct Tracee {
    /// Its calls are stopped at.
    watched: bool,
    /// It is in a call.
    inside: bool,
    /// It has not stopped for the first time, with a SIGSTOP that is ours.
    newborn: bool,
    /// What is left to be done when the call returns.
    then: Option<Then>,
}

#[derive(Debug, Clone, Copy)]
enum Then {
    Return(Errno),
    /// The compiler relies on registers that a call does not change.
    Restore(Length, u64),
    Kill,
}

struct Tree<'l> {
    feed: Option<Feed<'l>>,
    main: Pid,
    scope: Scope,
    standing: Option<Standing>,
    aim: Option<Aim>,
    tracees: HashMap<Pid, Tracee>,
    /// Processes that stopped before the stop of their parent announced them.
    early: HashSet<Pid>,
    counts: HashMap<u64, usize>,
    calls: Vec<Call>,
    reached: bool,
    /// With what all changes fail from now on.
    dead: Option<Errno>,
}

impl Tree<'_> {
    fn follow(&mut self) -> Result<End> {
        let flags = WaitPidFlag::__WALL | WaitPidFlag::__WNOTHREAD;
        match waitpid(self.main, Some(flags)).context("cannot wait for its start")? {
            WaitStatus::Stopped(..) => {}
            other => bail!("it did not stop at its start: {other:?}"),
        }
        let options = Options::PTRACE_O_TRACESYSGOOD
            | Options::PTRACE_O_TRACEFORK
            | Options::PTRACE_O_TRACEVFORK
            | Options::PTRACE_O_TRACECLONE
            | Options::PTRACE_O_TRACEEXEC
            | Options::PTRACE_O_EXITKILL;
        ptrace::setoptions(self.main, options).context("cannot set its options")?;
        self.tracees.insert(
            self.main,
            Tracee {
                watched: true,
                inside: false,
                newborn: false,
                then: None,
            },
        );
        self.resume(self.main, None)?;
        let mut end = None;
        loop {
            let status = match waitpid(None, Some(flags)) {
                Ok(status) => status,
                Err(Errno::ECHILD) => return end.context("it has ended without a status"),
                Err(Errno::EINTR) => continue,
                Err(errno) => return Err(errno).context("cannot wait for it"),
            };
            match status {
                WaitStatus::Exited(pid, code) => {
                    self.tracees.remove(&pid);
                    if pid == self.main {
                        end = Some(End::Exited(code));
                    }
                }
                WaitStatus::Signaled(pid, signal, _) => {
                    self.tracees.remove(&pid);
                    if pid == self.main {
                        end = Some(End::Killed(signal));
                    }
                }
                // One that was killed just now is not there to be spoken to; its end comes next.
                stop => match self.stopped(stop) {
                    Err(error) if error.downcast_ref() == Some(&Errno::ESRCH) => {}
                    other => other?,
                },
            }
        }
    }

    fn stopped(&mut self, stop: WaitStatus) -> Result<()> {
        match stop {
            WaitStatus::PtraceSyscall(pid) => {
                if let Some(feed) = &mut self.feed {
                    feed.fill()?;
                }
                let inside = self.tracees.get_mut(&pid).is_some_and(|tracee| {
                    tracee.inside = !tracee.inside;
                    tracee.inside
                });
                if inside {
                    self.enters(pid)?;
                } else {
                    self.leaves(pid)?;
                }
                self.resume(pid, None)
            }
            WaitStatus::PtraceEvent(pid, _, event) => {
                match event {
                    libc::PTRACE_EVENT_FORK
                    | libc::PTRACE_EVENT_VFORK
                    | libc::PTRACE_EVENT_CLONE => {
                        self.bore(pid, event_pid(pid)?)?;
                    }
                    libc::PTRACE_EVENT_EXEC => self.became_another(pid, event_pid(pid)?),
                    _ => {}
                }
                self.resume(pid, None)
            }
            WaitStatus::Stopped(pid, signal) => {
                let Some(tracee) = self.tracees.get_mut(&pid) else {
                    self.early.insert(pid);
                    return Ok(());
                };
                let first = std::mem::take(&mut tracee.newborn);
                let stops = matches!(
                    signal,
                    Signal::SIGSTOP | Signal::SIGTSTP | Signal::SIGTTIN | Signal::SIGTTOU
                );
                self.resume(pid, (!first && !stops).then_some(signal))
            }
            other => bail!("what is {other:?}?"),
        }
    }

    fn resume(&self, pid: Pid, signal: Option<Signal>) -> Result<()> {
        let stops = self
            .tracees
            .get(&pid)
            .is_some_and(|tracee| tracee.watched && (tracee.then.is_some() || !self.is_over()));
        let resumed = if stops {
            ptrace::syscall(pid, signal)
        } else {
            ptrace::cont(pid, signal)
        };
        Ok(resumed?)
    }

    /// Returns whether the rest of the run needs no stop at a call: that takes half of the time.
    fn is_over(&self) -> bool {
        let fed = self.feed.as_ref().is_none_or(Feed::is_done);
        // An interrupted call is made again, and the tracer waits for that.
        let is_interrupted = |aim: Aim| matches!(aim.act, Act::Fail(Errno::EINTR) | Act::Interrupt);
        self.reached
            && self.dead.is_none()
            && self.standing.is_none()
            && fed
            && !self.aim.is_some_and(is_interrupted)
    }

    fn bore(&mut self, parent: Pid, child: Pid) -> Result<()> {
        let watched = self
            .tracees
            .get(&parent)
            .is_some_and(|tracee| tracee.watched);
        let early = self.early.remove(&child);
        self.tracees.insert(
            child,
            Tracee {
                watched,
                inside: false,
                newborn: !early,
                then: None,
            },
        );
        if early {
            self.resume(child, None)?;
        }
        Ok(())
    }

    fn became_another(&mut self, pid: Pid, before: Pid) {
        // A thread that calls exec gets the number of its process, and all others are gone.
        if before != pid {
            if let Some(tracee) = self.tracees.remove(&before) {
                self.tracees.insert(pid, tracee);
            }
        }
        if let (Scope::Own, Some(tracee)) = (self.scope, self.tracees.get_mut(&pid)) {
            tracee.watched = false;
        }
    }

    fn enters(&mut self, pid: Pid) -> Result<()> {
        let mut registers = ptrace::getregs(pid)?;
        let number = registers.orig_rax;
        let count = self.counts.entry(number).or_default();
        let call = Call::new(*count, &registers, pid == self.main);
        *count += 1;
        self.calls.push(call);
        let standing = self.standing.and_then(|standing| standing(&call));
        let standing = standing.or(self.dead.filter(|_| call.changes()));
        if let Some(errno) = standing {
            return self.fail(pid, registers, errno);
        }
        let Some(aim) = self.aim.filter(|aim| aim.meets(&call)) else {
            return Ok(());
        };
        self.reached = true;
        match aim.act {
            Act::Kill => Ok(killpg(self.main, Signal::SIGKILL)?),
            Act::KillMain => Ok(kill(self.main, Signal::SIGKILL)?),
            Act::Signal(signal) => Ok(kill(self.main, signal)?),
            Act::SignalAll(signal) => Ok(killpg(self.main, signal)?),
            Act::KillAfter => {
                self.then(pid, Then::Kill);
                Ok(())
            }
            Act::Fail(errno) => self.fail(pid, registers, errno),
            Act::Interrupt => self.fail(pid, registers, Errno::EINTR),
            Act::FailEver(errno) => {
                self.dead = Some(errno);
                self.fail(pid, registers, errno)
            }
            Act::Shorten(most) => {
                let length = call.length().context("it is neither a read nor a write")?;
                let asked = length.of(&registers);
                length.set(&mut registers, asked.min(most));
                ptrace::setregs(pid, registers)?;
                self.then(pid, Then::Restore(length, asked));
                Ok(())
            }
        }
    }

    fn fail(&mut self, pid: Pid, mut registers: user_regs_struct, errno: Errno) -> Result<()> {
        // An error of close does not mean that it is still open.
        if registers.orig_rax != calls::CLOSE {
            registers.orig_rax = u64::MAX;
            ptrace::setregs(pid, registers)?;
        }
        self.then(pid, Then::Return(errno));
        Ok(())
    }

    fn then(&mut self, pid: Pid, then: Then) {
        if let Some(tracee) = self.tracees.get_mut(&pid) {
            tracee.then = Some(then);
        }
    }

    fn leaves(&mut self, pid: Pid) -> Result<()> {
        let Some(then) = self
            .tracees
            .get_mut(&pid)
            .and_then(|tracee| tracee.then.take())
        else {
            return Ok(());
        };
        let mut registers = ptrace::getregs(pid)?;
        match then {
            Then::Kill => return Ok(killpg(self.main, Signal::SIGKILL)?),
            Then::Return(errno) => {
                registers.rax = 0_u64.wrapping_sub(u64::from((errno as i32).unsigned_abs()));
            }
            Then::Restore(length, asked) => length.set(&mut registers, asked),
        }
        Ok(ptrace::setregs(pid, registers)?)
    }
}

fn event_pid(pid: Pid) -> Result<Pid> {
    let number = ptrace::getevent(pid)?;
    Ok(Pid::from_raw(
        i32::try_from(number).context("a process number is too large")?,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line<'l>(words: &'l [OsString], directory: &'l Path) -> Line<'l> {
        Line {
            words,
            directory,
            environment: &[],
            stdin: File::open("/dev/null").expect("it is always there"),
            feed: None,
            scope: Scope::Tree,
            standing: None,
        }
    }

    fn words(words: &[&str]) -> Vec<OsString> {
        words.iter().map(OsString::from).collect()
    }

    #[test]
    fn what_does_not_end_is_ended_with_all_its_children() {
        let words = words(&["sh", "-c", "sleep 1000 & sleep 1000"]);
        let run = run(line(&words, Path::new("/")), None).expect("it can be traced");
        assert_eq!(run.end, End::Hung);
    }

    #[test]
    fn a_call_fails_where_it_was_aimed_at_and_nowhere_else() {
        let words = words(&["sh", "-c", "cd /; cd /usr && cd /etc && exit 7"]);
        let number = u64::try_from(libc::SYS_chdir).expect("it is a number");
        for (nth, end) in [(0, 7), (1, 2), (2, 2), (3, 7)] {
            let aim = Aim {
                number,
                nth,
                act: Act::Fail(Errno::EIO),
            };
            let run = run(line(&words, Path::new("/")), Some(aim)).expect("it can be traced");
            assert_eq!(
                (run.end, run.reached),
                (End::Exited(end), nth < 3),
                "{}",
                run.stderr
            );
        }
    }
}
