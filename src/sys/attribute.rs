//! Owner, mode, extended attributes.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd};

use rustix::buffer::spare_capacity;
use rustix::fs::{self, Gid, IFlags, Mode, Uid, XattrFlags};
use rustix::io::retry_on_intr;

use super::{Errno, Result, proc_path};

/// An open file whose attributes can be read.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Readable<'f> {
    /// Opened for reading.
    File(BorrowedFd<'f>),
    /// Opened as a handle (O_PATH), since we may not read it: its attributes are asked for through /proc.
    Handle(BorrowedFd<'f>),
}

/// Names the extended attributes of a file. None where the filesystem knows no such thing (EOPNOTSUPP).
pub(crate) fn list_attributes(file: Readable<'_>) -> Result<Vec<CString>> {
    let names = match grow(|buffer| match file {
        Readable::File(fd) => fs::flistxattr(fd, spare_capacity(buffer)),
        Readable::Handle(fd) => fs::listxattr(proc_path(fd), spare_capacity(buffer)),
    }) {
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => return Ok(Vec::new()),
        names => names?,
    };
    Ok(names
        .split_inclusive(|byte| *byte == 0)
        .filter_map(|name| CString::from_vec_with_nul(name.to_vec()).ok())
        .collect())
}

/// Reads an extended attribute; ENODATA if there is none by that name.
pub(crate) fn read_attribute(file: Readable<'_>, name: &CStr) -> Result<Vec<u8>> {
    grow(|buffer| match file {
        Readable::File(fd) => fs::fgetxattr(fd, name, spare_capacity(buffer)),
        Readable::Handle(fd) => fs::getxattr(proc_path(fd), name, spare_capacity(buffer)),
    })
}

/// Calls with a buffer that grows up to what an attribute or a list may hold at most (64 KiB, xattr(7)).
fn grow(call: impl Fn(&mut Vec<u8>) -> Result<usize>) -> Result<Vec<u8>> {
    let mut buffer = Vec::with_capacity(256);
    match call(&mut buffer) {
        Err(Errno::RANGE) => {
            let mut buffer = Vec::with_capacity(64 * 1024);
            call(&mut buffer)?;
            Ok(buffer)
        }
        read => read.map(|_| buffer),
    }
}

/// The flags that chattr(1) can set and a new file may have too, by its letters. None where there is no such thing.
pub(crate) fn chattr_flags(file: impl AsFd) -> String {
    const LETTERS: [(IFlags, char); 10] = [
        (IFlags::SECURE_REMOVAL, 's'),
        (IFlags::UNRM, 'u'),
        (IFlags::SYNC, 'S'),
        (IFlags::NODUMP, 'd'),
        (IFlags::NOATIME, 'A'),
        (IFlags::COMPRESSED, 'c'),
        (IFlags::JOURNALING, 'j'),
        (IFlags::NOTAIL, 't'),
        (IFlags::PROJECT_INHERIT, 'P'),
        (IFlags::NOCOW, 'C'),
    ];
    let flags = fs::ioctl_getflags(file).unwrap_or(IFlags::empty());
    let set = LETTERS.iter().filter(|(flag, _)| flags.contains(*flag));
    set.map(|(_, letter)| letter).collect()
}

/// Tells whether a file has an extended attribute by that name.
pub(crate) fn has_attribute(file: impl AsFd, name: &CStr) -> Result<bool> {
    match fs::fgetxattr_query(file, name) {
        Err(Errno::NODATA | Errno::OPNOTSUPP | Errno::NOSYS) => Ok(false),
        found => found.map(|_| true),
    }
}

/// Sets an extended attribute.
pub(crate) fn set_attribute(file: impl AsFd, name: &CStr, value: &[u8]) -> Result<()> {
    retry_on_intr(|| fs::fsetxattr(&file, name, value, XattrFlags::empty()))
}

/// Removes an extended attribute.
pub(crate) fn remove_attribute(file: impl AsFd, name: &CStr) -> Result<()> {
    fs::fremovexattr(file, name)
}

/// Changes owner and group; `None` leaves that one alone. Clears the set-id bits and security.capability.
pub(crate) fn set_owner(file: impl AsFd, uid: Option<u32>, gid: Option<u32>) -> Result<()> {
    retry_on_intr(|| fs::fchown(&file, uid.map(Uid::from_raw), gid.map(Gid::from_raw)))
}

/// Changes the permission bits, 07777; where there is an ACL, the group's bits are its mask.
pub(crate) fn set_mode(file: impl AsFd, mode: u32) -> Result<()> {
    retry_on_intr(|| fs::fchmod(&file, Mode::from_raw_mode(mode)))
}

/// Changes the permission bits of a file that was opened as a handle (O_PATH).
pub(crate) fn set_mode_of_handle(handle: impl AsFd, mode: u32) -> Result<()> {
    fs::chmod(proc_path(handle), Mode::from_raw_mode(mode))
}

/// The bits that new files are denied. Only to be called while there is one thread: to read it is to set it twice.
pub(crate) fn umask() -> u32 {
    let mask = rustix::process::umask(Mode::empty());
    rustix::process::umask(mask);
    mask.as_raw_mode()
}

/// The user that we act as, by whom the kernel judges.
///
/// The kernel has told it at the start (getauxval(3)), and nothing here changes it: to ask would be one more call.
pub(crate) fn effective_uid() -> u32 {
    #[expect(unsafe_code, reason = "neither std nor rustix tells it")]
    // SAFETY: takes a number, gives a number, and reads what the kernel has put beside the environment.
    let told = unsafe { libc::getauxval(libc::AT_EUID) };
    u32::try_from(told).unwrap_or_else(|_| rustix::process::geteuid().as_raw())
}

/// The group that new files belong to.
pub(crate) fn effective_gid() -> u32 {
    rustix::process::getegid().as_raw()
}

/// Tells whether this process may give a file of its own to a group (chown(2)).
pub(crate) fn is_in_group(gid: u32) -> bool {
    let supplementary = rustix::process::getgroups().unwrap_or_default();
    gid == effective_gid() || supplementary.iter().any(|group| group.as_raw() == gid)
}
