//! What the machines boot: Debian's kernels and programs, unpacked from their packages and not
//! installed, and an archive of them for each kernel.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

use crate::archive::Archive;

/// Debian's packages; what they depend on comes with them.
const PACKAGES: &str = "acl apparmor attr bash bsdextrautils btrfs-progs cifs-utils coreutils dash diffutils dosfstools \
    e2fsprogs exfatprogs f2fs-tools findutils grep iproute2 kmod linux-image-amd64 moreutils mount nfs-common \
    nfs-kernel-server perl-base policycoreutils procps quota rpcbind samba sed selinux-policy-default selinux-utils \
    strace util-linux xfsprogs";

/// A second kernel, where apt knows it.
const SECOND_KERNEL: &str = "linux-image-6.12-amd64";

/// Builds the policy of SELinux, as the package's own script would, with a module of ours.
const POLICY: &str = "echo SELINUXTYPE=default >/etc/selinux/config && cd /usr/share/selinux/default && \
    semodule -n -s default -X 100 -i $(sed 's/$/.pp.bz2/' .modules) -X 400 -i /writer.cil";
const MODULE: &str = include_str!("writer.cil");

/// The guest's scripts.
const GUEST: &str = "torture/machines/guest";

const PASSWD: &str = "\
root:x:0:0:root:/root:/bin/sh
ann:x:1000:1000::/tmp:/bin/sh
statd:x:101:65534::/var/lib/nfs:/usr/sbin/nologin
_rpc:x:102:65534::/run/rpcbind:/usr/sbin/nologin
nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin
";
const GROUP: &str = "root:x:0:\nann:x:1000:\nnogroup:x:65534:\n";

/// A kernel that can be booted.
#[derive(Debug, Clone)]
pub(crate) struct Kernel {
    /// As `uname -r` says it.
    pub(crate) release: String,
    pub(crate) image: PathBuf,
    pub(crate) archive: PathBuf,
}

impl Kernel {
    /// The first two numbers of its version.
    pub(crate) fn series(&self) -> &str {
        let end = self
            .release
            .char_indices()
            .filter(|(_, c)| !c.is_ascii_digit())
            .nth(1)
            .map_or(self.release.len(), |(at, _)| at);
        &self.release[..end]
    }
}

/// Which of the kernels are booted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Boot {
    Oldest,
    Newest,
    Each,
}

/// Unpacks the packages, unless that was done before, and makes the archives; returns the kernels,
/// the oldest first.
pub(crate) fn prepare(work: &Path, program: &Path, boot: Boot) -> Result<Vec<Kernel>> {
    for needed in ["qemu-system-x86_64", "qemu-img", "mmdebstrap"] {
        run(Command::new(needed).arg("--version").stdout(Stdio::null()))?;
    }
    let root = work.join("root");
    let mut packages: Vec<&str> = PACKAGES.split_whitespace().collect();
    // What the root was made from.
    let made_from = [PACKAGES, POLICY, MODULE].join("\n");
    let list = work.join("made-from");
    if !root.exists() || fs::read_to_string(&list).unwrap_or_default() != made_from {
        println!(
            "machines: unpacking Debian's packages into {}",
            root.display()
        );
        run(Command::new("apt-get").args(["update", "-q"]))?;
        if knows(SECOND_KERNEL)? {
            packages.push(SECOND_KERNEL);
        }
        unpack(work, &root, &packages)?;
        fs::write(&list, made_from)?;
    }
    let mut kernels = Vec::new();
    for entry in fs::read_dir(root.join("lib/modules"))? {
        let release = entry?.file_name().to_string_lossy().into_owned();
        let kernel = Kernel {
            image: root.join("boot").join(format!("vmlinuz-{release}")),
            archive: work.join(format!("archive-{release}.cpio")),
            release,
        };
        kernels.push(kernel);
    }
    kernels.sort_by_key(|kernel| version(kernel.series()));
    ensure!(!kernels.is_empty(), "the packages have no kernel");
    match boot {
        Boot::Oldest => kernels.truncate(1),
        Boot::Newest => drop(kernels.drain(..kernels.len() - 1)),
        Boot::Each => {}
    }
    for kernel in &kernels {
        archive(&root, kernel, program)?;
    }
    Ok(kernels)
}

/// A version, to be compared as numbers.
pub(crate) fn version(series: &str) -> Vec<u32> {
    series
        .split('.')
        .map(|number| number.parse().unwrap_or(0))
        .collect()
}

fn knows(package: &str) -> Result<bool> {
    let status = Command::new("apt-cache")
        .args(["show", package])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .context("cannot run apt-cache")?;
    Ok(status.success())
}

fn unpack(work: &Path, root: &Path, packages: &[&str]) -> Result<()> {
    // A part of a root is none.
    let new = work.join("new");
    for old in [&new, &root.to_path_buf()] {
        if old.exists() {
            fs::remove_dir_all(old)?;
        }
    }
    run(Command::new("packaging/debian-root.sh")
        .arg(&new)
        .args(["--quiet", "--mode=root", "--variant=extract"])
        .arg(format!("--include={}", packages.join(","))))?;
    for entry in fs::read_dir(new.join("lib/modules"))? {
        // What the package's own script would do.
        run(Command::new("chroot")
            .arg(&new)
            .arg("/sbin/depmod")
            .arg(entry?.file_name()))?;
    }
    fs::write(new.join("writer.cil"), MODULE)?;
    run(Command::new("chroot").arg(&new).args(["sh", "-c", POLICY]))?;
    fs::rename(&new, root)?;
    Ok(())
}

fn archive(root: &Path, kernel: &Kernel, program: &Path) -> Result<()> {
    // Another run may be booting the old one.
    let new = kernel.archive.with_extension("new");
    let mut archive = Archive::create(&new)?;
    archive.add_tree(root, Path::new(""), &|path| {
        is_wanted(path, &kernel.release)
    })?;
    archive.add_console()?;
    archive.add_directory("machines")?;
    archive.add_tree(Path::new(GUEST), Path::new("machines"), &|path| {
        !path.starts_with(".shellcheckrc")
    })?;
    let program =
        fs::read(program).with_context(|| format!("cannot read '{}'", program.display()))?;
    archive.add_file("usr/bin/atomwrite", 0o755, &program)?;
    archive.add_file("etc/passwd", 0o644, PASSWD.as_bytes())?;
    archive.add_file("etc/group", 0o644, GROUP.as_bytes())?;
    archive.finish()?;
    fs::rename(new, &kernel.archive)?;
    Ok(())
}

/// Leaves out what no test needs: most of the drivers, and what interpreters and documents take.
fn is_wanted(path: &Path, release: &str) -> bool {
    const LEFT_OUT: [&str; 19] = [
        "boot",
        "etc/selinux/default/contexts/files",
        "usr/share/doc",
        "usr/share/info",
        "usr/share/locale",
        "usr/share/man",
        "usr/share/perl",
        "usr/share/perl5",
        "usr/share/zoneinfo",
        "usr/share/samba",
        "usr/share/selinux",
        "usr/lib/python3",
        "usr/lib/python3.11",
        "usr/lib/x86_64-linux-gnu/perl",
        "usr/lib/x86_64-linux-gnu/perl-base",
        "usr/lib/udev",
        "lib/udev",
        "var/cache",
        "var/lib/selinux",
    ];
    const MODULES: [&str; 9] = [
        "drivers/block/virtio_blk",
        "drivers/net/veth",
        "drivers/virtio",
        "net/9p",
        "net/dns_resolver",
        "net/ipv6",
        "net/core",
        "net/netfs",
        "net/sunrpc",
    ];
    if LEFT_OUT.iter().any(|prefix| path.starts_with(prefix)) {
        return false;
    }
    let Ok(module) = path.strip_prefix("lib/modules") else {
        return true;
    };
    let Ok(module) = module.strip_prefix(release) else {
        // Another kernel's, or the directory itself.
        return module.as_os_str().is_empty();
    };
    let Ok(module) = module.strip_prefix("kernel") else {
        return true;
    };
    let module = module.to_string_lossy();
    ["arch", "crypto", "fs", "lib"].iter().any(|wanted| module.starts_with(wanted))
        // The directories above a module, too.
        || MODULES.iter().any(|wanted| module.starts_with(wanted) || wanted.starts_with(&*module))
}

/// Runs a program, which must succeed.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let status = command
        .stdin(Stdio::null())
        .status()
        .with_context(|| format!("cannot run {}", command.get_program().to_string_lossy()))?;
    if !status.success() {
        bail!("{command:?}: {status}");
    }
    Ok(())
}
