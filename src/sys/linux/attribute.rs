//! Attributes of files that need not be readable, and flags.

use std::ffi::{CStr, CString};
use std::os::fd::AsFd;
use std::path::Path;

use rustix::buffer::spare_capacity;
use rustix::fs::{self, IFlags};

use super::super::acl_attribute::{DEFAULT, parse_default};
use super::super::{Acl, OpenDirectory, Readable, Result, xattr};
use super::directory::proc_path;

/// Returns the names of the extended attributes that a new file may have too; none if the
/// filesystem has none (EOPNOTSUPP).
pub(crate) fn list_attributes(file: Readable<'_>) -> Result<Vec<CString>> {
    xattr::list(|buffer| match file {
        Readable::File(fd) => fs::flistxattr(fd, spare_capacity(buffer)),
        Readable::Handle(handle) => fs::listxattr(handle.proc_path(), spare_capacity(buffer)),
    })
}

/// Reads an extended attribute. `None` if the file has none by that name.
pub(crate) fn read_attribute(file: Readable<'_>, name: &CStr) -> Result<Option<Vec<u8>>> {
    match file {
        Readable::File(fd) => xattr::read(|buffer| fs::fgetxattr(fd, name, spare_capacity(buffer))),
        Readable::Handle(handle) => read_by_path(&handle.proc_path(), name),
    }
}

fn read_by_path(path: &Path, name: &CStr) -> Result<Option<Vec<u8>>> {
    xattr::read(|buffer| fs::getxattr(path, name, spare_capacity(buffer)))
}

/// Returns the ACL from which a new file in a directory gets its own. `None` if there is none, or
/// if its format is unknown.
pub(crate) fn default_acl(directory: &OpenDirectory) -> Result<Option<Acl>> {
    parse_default(if directory.readable {
        read_attribute(Readable::File(directory.fd.as_fd()), DEFAULT)
    } else {
        read_by_path(&proc_path(&directory.fd), DEFAULT)
    })
}

/// Returns the chattr(1) letters of the flags that a new file may have too; none if the filesystem
/// has no flags.
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

/// Returns the effective user ID.
///
/// It comes from the auxiliary vector, which saves a system call (getauxval(3)); this process never
/// changes it.
pub(crate) fn effective_uid() -> u32 {
    #[expect(unsafe_code, reason = "neither std nor rustix has this call")]
    // SAFETY: takes a number, returns a number, and reads what the kernel has put beside the
    // environment.
    let uid = unsafe { libc::getauxval(libc::AT_EUID) };
    u32::try_from(uid).unwrap_or_else(|_| rustix::process::geteuid().as_raw())
}
