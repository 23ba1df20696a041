//! The system calls that sandboxes forbid.

use crate::lacking::{Calls, UNNAMED_FILES};

/// A call, or a kind of it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Call {
    pub(super) name: &'static str,
    pub(super) calls: Calls,
    /// The errors after which there is another way to do the same.
    replaceable: &'static [i32],
}

impl Call {
    /// Returns whether atomwrite can do without it when this is the answer.
    pub(super) fn has_another_way(&self, errno: i32) -> bool {
        self.replaceable.contains(&errno)
    }
}

const ANY: &[i32] = &[libc::EPERM, libc::ENOSYS, libc::EOPNOTSUPP];

const fn all_of(
    name: &'static str,
    numbers: &'static [libc::c_long],
    replaceable: &'static [i32],
) -> Call {
    Call {
        name,
        calls: Calls::all(numbers),
        replaceable,
    }
}

pub(super) const CALLS: [Call; 15] = [
    Call {
        name: "open with O_TMPFILE",
        calls: UNNAMED_FILES,
        replaceable: &[libc::EOPNOTSUPP],
    },
    all_of("linkat", &[libc::SYS_linkat, libc::SYS_link], &[]),
    all_of(
        "renameat2",
        &[libc::SYS_renameat2],
        &[libc::ENOSYS, libc::EOPNOTSUPP],
    ),
    all_of("copy_file_range", &[libc::SYS_copy_file_range], ANY),
    all_of(
        "splice",
        &[libc::SYS_splice, libc::SYS_tee, libc::SYS_vmsplice],
        ANY,
    ),
    all_of("sendfile", &[libc::SYS_sendfile], ANY),
    all_of("fallocate", &[libc::SYS_fallocate], ANY),
    all_of("syncfs", &[libc::SYS_syncfs], ANY),
    all_of("statx", &[libc::SYS_statx], &[libc::ENOSYS]),
    all_of("flock", &[libc::SYS_flock], &[]),
    all_of(
        "faccessat2",
        &[libc::SYS_faccessat2],
        &[libc::EPERM, libc::ENOSYS],
    ),
    all_of("sync_file_range", &[libc::SYS_sync_file_range], ANY),
    all_of("pidfd_open", &[libc::SYS_pidfd_open], ANY),
    all_of(
        "extended attributes",
        &[
            libc::SYS_flistxattr,
            libc::SYS_fgetxattr,
            libc::SYS_fsetxattr,
            libc::SYS_fremovexattr,
            libc::SYS_listxattr,
            libc::SYS_getxattr,
            libc::SYS_setxattr,
        ],
        &[libc::ENOSYS, libc::EOPNOTSUPP],
    ),
    all_of("ioctl", &[libc::SYS_ioctl], ANY),
];
