//! What a machine of checks has besides its kernel: a disk, or a directory of the host.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::machine::MEMORY;
use crate::plan::Device;

/// Where Debian has the server of virtiofs.
const VIRTIOFSD: [&str; 2] = ["/usr/lib/qemu/virtiofsd", "/usr/libexec/virtiofsd"];
const SERVER_START: Duration = Duration::from_secs(60);

/// The devices, and the files and processes that end with the machine.
#[derive(Debug)]
pub(crate) struct Devices {
    words: Vec<String>,
    path: PathBuf,
    server: Option<Child>,
}

impl Devices {
    pub(crate) fn prepare(work: &Path, machine: &str, device: Device) -> Result<Self> {
        let path = work.join(format!("device-{machine}"));
        let mut devices = Self {
            words: Vec::new(),
            path,
            server: None,
        };
        devices.remove();
        match device {
            Device::Disk(size) => devices.disk(size)?,
            Device::NineP => devices.nine_p()?,
            Device::Virtiofs => devices.virtiofs()?,
        }
        Ok(devices)
    }

    /// For QEMU's command line.
    pub(crate) fn words(&self) -> &[String] {
        &self.words
    }

    fn add(&mut self, option: &str, value: String) {
        self.words.extend([option.to_owned(), value]);
    }

    fn disk(&mut self, size: u64) -> Result<()> {
        File::create(&self.path)?.set_len(size << 20)?;
        let value = format!(
            "file={},format=raw,if=virtio,cache=unsafe",
            self.path.display()
        );
        self.add("-drive", value);
        Ok(())
    }

    fn nine_p(&mut self) -> Result<()> {
        self.directory()?;
        let path = self.path.display();
        let value = format!("local,path={path},mount_tag=one,security_model=passthrough");
        self.add("-virtfs", value);
        Ok(())
    }

    fn virtiofs(&mut self) -> Result<()> {
        self.directory()?;
        let Some(program) = VIRTIOFSD.iter().find(|path| Path::new(path).exists()) else {
            bail!("there is no virtiofsd; Debian has it in qemu-system-common, or in virtiofsd");
        };
        let socket = PathBuf::from(format!("{}.socket", self.path.display()));
        if socket.exists() {
            fs::remove_file(&socket)?;
        }
        let log = File::create(format!("{}.log", self.path.display()))?;
        let server = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", program])
            .arg(format!("--socket-path={}", socket.display()))
            .args([
                "-o",
                &format!("source={}", self.path.display()),
                "-o",
                "xattr",
                "-o",
                "posix_acl",
            ])
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("cannot run virtiofsd")?;
        self.server = Some(server);
        let began = Instant::now();
        while !socket.exists() {
            ensure!(began.elapsed() < SERVER_START, "virtiofsd does not come up");
            thread::sleep(Duration::from_millis(50));
        }
        self.add(
            "-object",
            format!("memory-backend-memfd,id=memory,size={MEMORY}M,share=on"),
        );
        self.add("-numa", "node,memdev=memory".to_owned());
        self.add(
            "-chardev",
            format!("socket,id=socket,path={}", socket.display()),
        );
        self.add(
            "-device",
            "vhost-user-fs-pci,chardev=socket,tag=one".to_owned(),
        );
        Ok(())
    }

    fn directory(&self) -> Result<()> {
        fs::create_dir_all(&self.path)?;
        fs::set_permissions(&self.path, PermissionsExt::from_mode(0o755))?;
        Ok(())
    }

    /// What an earlier run has left may be there, or nothing.
    fn remove(&self) {
        drop(fs::remove_file(&self.path));
        drop(fs::remove_dir_all(&self.path));
    }
}

impl Drop for Devices {
    fn drop(&mut self) {
        if let Some(server) = &mut self.server {
            // It may have ended with the machine.
            drop(server.kill());
            drop(server.wait());
        }
        self.remove();
    }
}
