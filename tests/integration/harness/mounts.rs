//! Filesystems of many kinds, each mounted for one test alone.
//!
//! A mount is made in a mount namespace of the test's own thread. No other test sees it, and the
//! kernel removes it and its loop device when the thread ends, even if it panics.

use std::cell::Cell;
use std::ffi::{CString, OsStr};
use std::fs::{self, File, Permissions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

use tempfile::TempDir;

use crate::harness::{Sandbox, has_tool, report_skipped, tool, wait_until, works};

/// Skips the test unless it can mount: root, outside of most containers.
macro_rules! needs_mounts {
    () => {
        if !$crate::harness::can_mount() {
            $crate::harness::skip!("needs root and the right to mount");
        }
    };
}

/// Skips the test unless it can mount by bindfs(1).
macro_rules! needs_fuse {
    () => {
        $crate::harness::needs_mounts!();
        $crate::harness::needs_tool!("bindfs", "setpriv");
        if !std::path::Path::new("/dev/fuse").exists() {
            $crate::harness::skip!("needs /dev/fuse");
        }
    };
}

pub(crate) use {needs_fuse, needs_mounts};

pub(crate) fn can_mount() -> bool {
    static CAN: OnceLock<bool> = OnceLock::new();
    *CAN.get_or_init(|| {
        let words = ["--mount", "mount", "-t", "tmpfs", "tmpfs", "/mnt"];
        Path::new("/dev/loop-control").exists() && works(Command::new("unshare").args(words))
    })
}

/// A sandbox where temporary files go, and one on each local filesystem that can be mounted here.
pub(crate) fn local_sandboxes() -> Vec<(Sandbox, Option<Mount>)> {
    let mut sandboxes = vec![(Sandbox::new(), None)];
    let makers = ["mkfs.ext4", "mkfs.btrfs", "mkfs.xfs"];
    if !can_mount() || !makers.iter().all(|maker| has_tool(maker)) {
        report_skipped("needs root, the right to mount, and mkfs of ext4, btrfs and xfs");
        return sandboxes;
    }
    let tmpfs = Mount::tmpfs("size=32m");
    for mount in [tmpfs, Mount::ext4(32, &[]), Mount::btrfs(), Mount::xfs()] {
        sandboxes.push((Sandbox::in_dir(mount.path()), Some(mount)));
    }
    sandboxes
}

/// The type that statfs(2) returns for every FUSE filesystem.
const FUSE: i64 = 0x6573_5546;

/// A mounted filesystem; its root is open to all.
pub(crate) struct Mount {
    pub(crate) point: PathBuf,
    /// What serves it, where that is a process.
    pub(crate) server: Option<Child>,
    /// What it stands on, where that is a mount too.
    pub(crate) _below: Option<Box<Mount>>,
    pub(crate) _home: TempDir,
}

impl Mount {
    pub(crate) fn tmpfs(options: &str) -> Self {
        Self::new(&["-t", "tmpfs", "-o", options, "tmpfs"], home(), None)
    }

    pub(crate) fn ramfs() -> Self {
        Self::new(&["-t", "ramfs", "ramfs"], home(), None)
    }

    /// Mounts a new ext4 of that many MiB; `mkfs` are further words for mkfs.ext4.
    pub(crate) fn ext4(mebibytes: u64, mkfs: &[&str]) -> Self {
        // Nothing is reserved for root, so that "full" means the same for every user.
        let mut words = vec!["-q", "-F", "-m", "0"];
        words.extend(mkfs);
        Self::image(mebibytes, "mkfs.ext4", &words)
    }

    pub(crate) fn xfs() -> Self {
        Self::image(300, "mkfs.xfs", &["-q"])
    }

    pub(crate) fn btrfs() -> Self {
        Self::image(128, "mkfs.btrfs", &["-q"])
    }

    /// Mounts an overlay whose lower and upper directories are on `below`; `lower` fills the lower
    /// one first.
    pub(crate) fn overlay(below: Self, lower: impl FnOnce(&Path)) -> Self {
        let low = below.path().join("lower");
        fs::create_dir(&low).unwrap();
        lower(&low);
        Self::overlay_over(&low, below)
    }

    /// Mounts an overlay of a lower directory whose upper directory is on `below`.
    pub(crate) fn overlay_over(lower: &Path, below: Self) -> Self {
        let [up, work] = ["upper", "work"].map(|name| below.path().join(name));
        for dir in [&up, &work] {
            fs::create_dir(dir).unwrap();
        }
        let options = format!(
            "lowerdir={},upperdir={},workdir={}",
            lower.display(),
            up.display(),
            work.display()
        );
        Self::new(
            &["-t", "overlay", "-o", &options, "overlay"],
            home(),
            Some(below),
        )
    }

    /// Shows a directory once more through FUSE, by bindfs(1) with these options.
    ///
    /// The kernel does not know there what the filesystem below can do, and two such mounts share
    /// no locks.
    pub(crate) fn bindfs(source: &Path, options: &[&str]) -> Self {
        Self::bindfs_in(home(), source, options)
    }

    /// Shows a new directory through FUSE, where names cannot be exchanged and a removed file that
    /// is open stays under another name.
    pub(crate) fn new_bindfs() -> Self {
        let home = home();
        let source = home.path().join("shown");
        fs::create_dir(&source).unwrap();
        open_to_all(&source);
        Self::bindfs_in(home, &source, &[])
    }

    pub(crate) fn bindfs_in(home: TempDir, source: &Path, options: &[&str]) -> Self {
        leave_the_others();
        let point = home.path().join("mount");
        fs::create_dir(&point).unwrap();
        // bindfs ends with this thread, even if that panics: otherwise it would keep the mount
        // namespace alive.
        let mut server = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "bindfs", "-f"])
            .args(options)
            .args([source, &point])
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        wait_until("bindfs has mounted", || {
            let ended = server.try_wait().unwrap();
            assert!(ended.is_none(), "bindfs {options:?}: {ended:?}");
            rustix::fs::statfs(&point).is_ok_and(|seen| seen.f_type == FUSE)
        });
        Self {
            point,
            server: Some(server),
            _below: None,
            _home: home,
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.point
    }

    pub(crate) fn remount(&self, options: &str) {
        mount(["-o", &format!("remount,{options}")], &self.point);
    }

    pub(crate) fn image(mebibytes: u64, mkfs: &str, words: &[&str]) -> Self {
        let home = home();
        let image = home.path().join("image");
        File::create(&image)
            .unwrap()
            .set_len(mebibytes << 20)
            .unwrap();
        let words = words.iter().map(OsStr::new);
        tool(mkfs, words.chain([image.as_os_str()]));
        let image = image.to_str().expect("temporary paths are text").to_owned();
        Self::new(&["-o", "loop", &image], home, None)
    }

    pub(crate) fn new(words: &[&str], home: TempDir, below: Option<Self>) -> Self {
        leave_the_others();
        let point = home.path().join("mount");
        fs::create_dir(&point).unwrap();
        mount(words, &point);
        open_to_all(&point);
        Self {
            point,
            server: None,
            _below: below.map(Box::new),
            _home: home,
        }
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // Before its directory is removed, which must not reach through the mount.
        unmount(&self.point);
        if let Some(mut server) = self.server.take() {
            // It has ended already if nothing has a file open there.
            drop(server.kill());
            drop(server.wait());
        }
    }
}

/// A mount over something that was there, taken away at its end.
#[must_use = "it is gone when this is dropped"]
pub(crate) struct Cover(pub(crate) PathBuf);

impl Cover {
    /// Shows `source` at `target` too, for this test alone.
    pub(crate) fn bind(source: &Path, target: &Path) -> Self {
        leave_the_others();
        mount([OsStr::new("--bind"), source.as_os_str()], target);
        Self(target.to_owned())
    }

    /// Hides /proc from this test's thread and from what it starts.
    pub(crate) fn proc() -> Self {
        leave_the_others();
        mount(["-t", "tmpfs", "tmpfs"], Path::new("/proc"));
        Self("/proc".into())
    }
}

impl Drop for Cover {
    fn drop(&mut self) {
        unmount(&self.0);
    }
}

/// Gives the calling thread a mount namespace of its own.
fn leave_the_others() {
    thread_local!(static LEFT: Cell<bool> = const { Cell::new(false) });
    if LEFT.replace(true) {
        return;
    }
    unshare_mounts();
    mount(["--make-rprivate"], Path::new("/"));
}

#[expect(unsafe_code, reason = "rustix calls unshare unsafe as well")]
fn unshare_mounts() {
    // SAFETY: CLONE_NEWNS unshares the mounts, the working directory and the umask of this thread
    // only; descriptors and memory stay shared.
    let status = unsafe { libc::unshare(libc::CLONE_NEWNS) };
    assert_eq!(status, 0, "unshare: {}", std::io::Error::last_os_error());
}

/// Takes a mount away, still in use or not. By the system call: umount(8) needs the /proc that it
/// may have to uncover.
#[expect(
    unsafe_code,
    reason = "rustix's call is not among the features that we need"
)]
fn unmount(point: &Path) {
    let path = CString::new(point.as_os_str().as_bytes()).expect("no path has a NUL");
    // SAFETY: the string lives until the call returns.
    let status = unsafe { libc::umount2(path.as_ptr(), libc::MNT_DETACH) };
    let error = std::io::Error::last_os_error();
    // In a test that fails already, this would abort all.
    assert!(
        status == 0 || std::thread::panicking(),
        "umount {}: {error}",
        point.display()
    );
}

fn mount<Word: AsRef<OsStr>>(words: impl AsRef<[Word]>, point: &Path) {
    let words = words.as_ref().iter().map(AsRef::as_ref);
    tool("mount", words.chain([point.as_os_str()]));
}

fn home() -> TempDir {
    let home = tempfile::tempdir().unwrap();
    fs::set_permissions(home.path(), Permissions::from_mode(0o755)).unwrap();
    home
}

fn open_to_all(dir: &Path) {
    fs::set_permissions(dir, Permissions::from_mode(0o777)).unwrap();
}
