//! Filesystems in files, mounted through loop devices.
//!
//! Invariant: nothing stays, however the suite ends. A loop device detaches itself after its last
//! user, and the mounts are in the namespace of the suite.

use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::memfd::{MFdFlags, memfd_create};

use crate::child::tool;

const LOOP_CONFIGURE: libc::Ioctl = 0x4C0A;
const LOOP_CTL_GET_FREE: libc::Ioctl = 0x4C82;
const LO_FLAGS_AUTOCLEAR: u32 = 4;

/// The time limit of an unmount.
const LIMIT: Duration = Duration::from_secs(10);

/// Returns an empty file in memory.
pub(crate) fn in_memory() -> Result<File> {
    let file = memfd_create(c"torture", MFdFlags::MFD_CLOEXEC);
    Ok(file.context("cannot create a file in memory")?.into())
}

/// Makes an empty filesystem of so many bytes.
pub(crate) fn make(kind: &str, size: u64, options: &[&str]) -> Result<File> {
    let image = in_memory()?;
    image.set_len(size).context("cannot make an image")?;
    let path = format!("/proc/{}/fd/{}", std::process::id(), image.as_raw_fd());
    tool(
        &format!("mkfs.{kind}"),
        &[options, &[path.as_str()]].concat(),
    )?;
    Ok(image)
}

/// `struct loop_config` of linux/loop.h.
#[repr(C)]
struct LoopConfig {
    fd: u32,
    block_size: u32,
    /// `lo_device` to `lo_sizelimit` of `struct loop_info64`.
    places: [u64; 5],
    /// `lo_number` to `lo_encrypt_key_size`.
    numbers: [u32; 3],
    flags: u32,
    /// `lo_file_name` to `lo_init`.
    names: [u8; 176],
    reserved: [u64; 8],
}

/// A loop device that is open. It detaches itself when it is neither open nor mounted any more.
#[derive(Debug)]
struct LoopDevice {
    path: PathBuf,
    _file: File,
}

impl LoopDevice {
    fn attach(backing: &File, sector: u32) -> Result<Self> {
        let control = File::open("/dev/loop-control").context("cannot open /dev/loop-control")?;
        // Another process may take the free device before it is used here.
        for _ in 0..100 {
            let number = Errno::result(ioctl(&control, LOOP_CTL_GET_FREE, None))
                .context("no free loop device")?;
            let path = PathBuf::from(format!("/dev/loop{number}"));
            let file = File::options()
                .read(true)
                .write(true)
                .open(&path)
                .with_context(|| format!("cannot open {}", path.display()))?;
            let mut config = LoopConfig {
                fd: u32::try_from(backing.as_raw_fd())?,
                block_size: sector,
                places: [0; 5],
                numbers: [0; 3],
                flags: LO_FLAGS_AUTOCLEAR,
                names: [0; 176],
                reserved: [0; 8],
            };
            match Errno::result(ioctl(&file, LOOP_CONFIGURE, Some(&mut config))) {
                Ok(_) => return Ok(Self { path, _file: file }),
                Err(Errno::EBUSY) => {}
                Err(errno) => {
                    return Err(errno)
                        .with_context(|| format!("cannot configure {}", path.display()));
                }
            }
        }
        bail!("another process takes every free loop device first")
    }
}

#[expect(
    unsafe_code,
    reason = "there is no safe function for the loop driver's requests"
)]
fn ioctl(file: &File, request: libc::Ioctl, config: Option<&mut LoopConfig>) -> libc::c_int {
    let argument = config.map_or(std::ptr::null_mut(), std::ptr::from_mut);
    // SAFETY: the descriptor is open, and the argument is null where none is read, or what
    // LOOP_CONFIGURE reads.
    unsafe { libc::ioctl(file.as_raw_fd(), request, argument) }
}

/// A filesystem that is mounted, until it is dropped.
#[derive(Debug)]
pub(crate) struct Mounted {
    path: PathBuf,
    is_mounted: bool,
}

impl Mounted {
    /// Mounts the filesystem that is in a file, which has sectors of that size for it.
    pub(crate) fn image(
        image: &File,
        sector: u32,
        on: &Path,
        kind: &str,
        options: &str,
    ) -> Result<Self> {
        let device = LoopDevice::attach(image, sector)?;
        Self::new(Some(&device.path), on, kind, options)
    }

    /// Mounts a filesystem, if need be of a device.
    pub(crate) fn new(device: Option<&Path>, on: &Path, kind: &str, options: &str) -> Result<Self> {
        fs::create_dir_all(on).with_context(|| format!("cannot make {}", on.display()))?;
        mount(device, on, Some(kind), MsFlags::empty(), Some(options))
            .with_context(|| format!("cannot mount {kind} with '{options}'"))?;
        Ok(Self {
            path: on.to_owned(),
            is_mounted: true,
        })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn unmount(mut self) -> Result<()> {
        let began = Instant::now();
        loop {
            match umount2(&self.path, MntFlags::empty()) {
                // A child that another thread starts has our open files for a moment, until its
                // exec.
                Err(Errno::EBUSY) if began.elapsed() < LIMIT => {
                    thread::sleep(Duration::from_millis(1));
                }
                unmounted => {
                    self.is_mounted = unmounted.is_err();
                    return unmounted
                        .with_context(|| format!("cannot unmount {}", self.path.display()));
                }
            }
        }
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if self.is_mounted {
            // An error is under way; this one would only hide it.
            let _ = umount2(&self.path, MntFlags::MNT_DETACH);
        }
    }
}
