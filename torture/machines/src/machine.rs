//! One virtual machine: QEMU without KVM, a kernel, an archive as its root, disks, and two serial
//! lines: the console, which goes to a file, and what the guest's scripts say.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::root::Kernel;

/// The memory of a machine, in MiB.
pub(crate) const MEMORY: u32 = 1536;
/// How long a machine may take to come up. With TCG, a kernel now and then does not, on a busy
/// host.
const BOOT: Duration = Duration::from_secs(240);
const BOOTS: usize = 3;
/// No check takes as long as that.
const SILENCE: Duration = Duration::from_secs(600);

/// What a machine consists of.
#[derive(Debug)]
pub(crate) struct Plan<'a> {
    pub(crate) kernel: &'a Kernel,
    /// A name for its files.
    pub(crate) name: &'a str,
    /// A script of the guest, and its arguments.
    pub(crate) script: &'a [String],
    /// More of the kernel's command line.
    pub(crate) words: &'a str,
    /// The only promises to try, for the guest's environment; empty for all.
    pub(crate) only: &'a str,
    /// What QEMU gets besides: disks, and shared directories.
    pub(crate) devices: &'a [String],
}

/// A machine that runs. It is killed when it is dropped.
#[derive(Debug)]
pub(crate) struct Machine {
    qemu: Child,
    lines: Receiver<String>,
    /// What the kernel and QEMU say.
    said: [PathBuf; 2],
}

/// What a machine says next.
#[derive(Debug)]
pub(crate) enum Said {
    Line(String),
    /// It has switched itself off.
    Off,
}

impl Machine {
    /// Boots it, and returns when its first script starts.
    pub(crate) fn boot(work: &Path, plan: &Plan) -> Result<Self> {
        for _ in 1..BOOTS {
            match Self::boot_once(work, plan) {
                Ok(machine) => return Ok(machine),
                Err(error) => println!("machines: {}: booting again: {error:#}", plan.name),
            }
        }
        Self::boot_once(work, plan)
    }

    fn boot_once(work: &Path, plan: &Plan) -> Result<Self> {
        let console = work.join(format!("console-{}", plan.name));
        let errors = work.join(format!("qemu-{}", plan.name));
        // It does not outlive this run, however that ends.
        let mut qemu = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "qemu-system-x86_64"])
            .args(["-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2"])
            .args(["-m", &MEMORY.to_string()])
            .args(["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"])
            .arg("-kernel")
            .arg(&plan.kernel.image)
            .arg("-initrd")
            .arg(&plan.kernel.archive)
            .arg("-append")
            .arg(format!(
                "console=ttyS0 panic=-1 mitigations=off no_timer_check loglevel=5 {} only={} rdinit=/machines/init -- {}",
                plan.words,
                plan.only,
                plan.script.join(" ")
            ))
            .arg("-serial")
            .arg(format!("file:{}", console.display()))
            .args(["-serial", "stdio"])
            .args(plan.devices)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(File::create(&errors)?)
            .spawn()
            .context("cannot run qemu-system-x86_64")?;
        let output = qemu.stdout.take().context("QEMU has no output")?;
        let mut log = File::create(work.join(format!("said-{}", plan.name)))?;
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || {
            let mut output = BufReader::new(output);
            let mut line = Vec::new();
            while matches!(output.read_until(b'\n', &mut line), Ok(length) if length > 0) {
                let text = String::from_utf8_lossy(&line);
                let text = text.trim_end_matches(['\r', '\n']).to_owned();
                // To be read by people, if something is wrong.
                drop(writeln!(log, "{text}"));
                if sender.send(text).is_err() {
                    break;
                }
                line.clear();
            }
        });
        let machine = Self {
            qemu,
            lines,
            said: [console, errors],
        };
        let began = Instant::now();
        loop {
            let left = BOOT.saturating_sub(began.elapsed());
            match machine.next_within(left)? {
                Said::Line(line) if line.starts_with("READY ") => return Ok(machine),
                Said::Line(_) => {}
                Said::Off => bail!("the machine has not come up{}", machine.last_words()),
            }
        }
    }

    /// Waits for the next line.
    pub(crate) fn next(&self) -> Result<Said> {
        self.next_within(SILENCE)
    }

    fn next_within(&self, limit: Duration) -> Result<Said> {
        match self.lines.recv_timeout(limit) {
            Ok(line) => Ok(Said::Line(line)),
            Err(RecvTimeoutError::Disconnected) => Ok(Said::Off),
            Err(RecvTimeoutError::Timeout) => bail!(
                "the machine has said nothing for {} s{}",
                limit.as_secs(),
                self.last_words()
            ),
        }
    }

    /// Cuts its power: what is in the memory of guest or QEMU is gone. Returns what it had said
    /// until then.
    pub(crate) fn cut(mut self) -> Result<Vec<String>> {
        self.qemu.kill().context("cannot kill QEMU")?;
        self.qemu.wait().context("cannot wait for QEMU")?;
        Ok(self.lines.iter().collect())
    }

    /// Waits until it has switched itself off.
    pub(crate) fn end(mut self) -> Result<()> {
        while let Said::Line(_) = self.next()? {}
        self.qemu.wait().context("cannot wait for QEMU")?;
        Ok(())
    }

    /// The end of what its kernel and QEMU have said.
    pub(crate) fn last_words(&self) -> String {
        let mut words = String::from("; it ends with:");
        for path in &self.said {
            let text = fs::read(path).unwrap_or_default();
            let text = String::from_utf8_lossy(&text);
            let lines: Vec<&str> = text.lines().collect();
            for line in &lines[lines.len().saturating_sub(15)..] {
                words.push('\n');
                words.push_str(line);
            }
        }
        words
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // It may have ended already, and then both calls fail.
        drop(self.qemu.kill());
        drop(self.qemu.wait());
    }
}
