//! The errors that a system call on files can have.

use nix::errno::Errno::{
    self, E2BIG, EACCES, EAGAIN, EBADF, EBUSY, EDQUOT, EEXIST, EFBIG, EINTR, EINVAL, EIO, EISDIR,
    ELOOP, EMFILE, EMLINK, ENFILE, ENOENT, ENOLCK, ENOMEM, ENOSPC, ENOSYS, ENOTTY, EOPNOTSUPP,
    EPERM, ERANGE, EROFS, ESPIPE, ESTALE, ETXTBSY, EXDEV,
};

/// As the manual pages and the filesystems have them, one of each meaning. None for calls that are
/// not about files. No ENOENT for a name that exists, in a call that reads, moves or removes it.
pub(super) fn errors_of(call: &str) -> &'static [Errno] {
    match call {
        "open" | "openat" | "openat2" | "creat" => &[
            EACCES, EDQUOT, EEXIST, EINTR, EINVAL, EIO, EISDIR, ELOOP, EMFILE, ENFILE, ENOENT,
            ENOMEM, ENOSPC, ENOSYS, EOPNOTSUPP, EPERM, EROFS, ESTALE, ETXTBSY,
        ],
        "read" | "pread64" | "readv" => &[EIO, EINTR, ENOMEM, EISDIR, EINVAL, ESTALE, EAGAIN],
        "write" | "pwrite64" | "writev" => {
            &[EIO, EINTR, ENOSPC, EDQUOT, EFBIG, EPERM, ENOMEM, ESTALE]
        }
        "close" => &[EIO, EINTR, ENOSPC, EDQUOT],
        "dup" | "dup2" | "dup3" | "fcntl" => &[EMFILE, EINVAL, EPERM, EAGAIN],
        "pipe" | "pipe2" => &[EMFILE, ENFILE],
        "stat" | "lstat" | "fstat" | "statx" | "newfstatat" => {
            &[EIO, ENOMEM, EACCES, ESTALE, ENOSYS]
        }
        "statfs" | "fstatfs" => &[EIO, ENOSYS, EINTR],
        "access" | "faccessat" | "faccessat2" => &[EIO, EACCES, EPERM, EROFS, ENOSYS, ETXTBSY],
        "readlink" | "readlinkat" => &[EIO, EACCES, EINVAL, ENOMEM],
        "getdents64" => &[EIO, ENOENT],
        "lseek" => &[EINVAL, EIO, ESPIPE],
        "chmod" | "fchmod" | "fchmodat" | "chown" | "lchown" | "fchown" | "fchownat" => &[
            EPERM, EIO, EROFS, ENOSPC, EDQUOT, EINVAL, ENOSYS, EOPNOTSUPP, EINTR,
        ],
        "setxattr" | "lsetxattr" | "fsetxattr" | "removexattr" | "lremovexattr"
        | "fremovexattr" => &[
            EPERM, EIO, ENOSPC, EDQUOT, EOPNOTSUPP, EINVAL, ENOSYS, ERANGE, E2BIG,
        ],
        // One that has none says EOPNOTSUPP or ENOSYS; then there is nothing to keep.
        "listxattr" | "llistxattr" | "flistxattr" => &[EIO, EPERM, ENOMEM, EACCES],
        "getxattr" | "lgetxattr" | "fgetxattr" => {
            &[EIO, EPERM, ENOMEM, EOPNOTSUPP, ENOSYS, ERANGE, EACCES]
        }
        "fsync" | "fdatasync" | "syncfs" => &[
            EIO, EINTR, ENOSPC, EDQUOT, EINVAL, EROFS, EOPNOTSUPP, EBADF, ESTALE,
        ],
        "sync_file_range" | "fadvise64" => &[EIO, EINVAL, ENOSPC, ENOSYS],
        "link" | "linkat" => &[
            EIO, ENOSPC, EDQUOT, EPERM, EACCES, ENOENT, EOPNOTSUPP, ENOSYS, EINVAL, EXDEV, EMLINK,
            EEXIST, EINTR, EROFS, ESTALE,
        ],
        "rename" | "renameat" | "renameat2" => &[
            EIO, ENOSPC, EDQUOT, EPERM, EACCES, ENOMEM, EINVAL, ENOSYS, EBUSY, EXDEV, EEXIST,
            EROFS, EINTR, EISDIR, ESTALE,
        ],
        "unlink" | "unlinkat" | "rmdir" => &[EIO, EPERM, EACCES, EROFS, EBUSY, EINTR],
        "mkdir" | "mkdirat" => &[EIO, ENOSPC, EDQUOT, EACCES, EROFS, EEXIST, EMLINK, ENOENT],
        "splice" | "sendfile" => &[
            EIO, ENOSPC, EDQUOT, EINTR, EAGAIN, EINVAL, ENOMEM, ENOSYS, EPERM,
        ],
        "copy_file_range" => &[
            EIO, ENOSPC, EDQUOT, EINTR, ENOSYS, EOPNOTSUPP, EXDEV, EINVAL, EPERM, EFBIG, ETXTBSY,
            ENOMEM,
        ],
        "ioctl" => &[EIO, ENOTTY, EOPNOTSUPP, EXDEV, EINVAL, ENOSPC, ETXTBSY],
        "flock" => &[EINTR, ENOLCK, EOPNOTSUPP, EAGAIN, ENOSYS, EIO],
        "fallocate" => &[EIO, ENOSPC, EDQUOT, EINTR, EOPNOTSUPP, EFBIG, ENOSYS],
        "truncate" | "ftruncate" => &[EIO, ENOSPC, EINTR, EPERM, EFBIG, EROFS],
        "utimensat" => &[EIO, EPERM, EROFS, ENOSYS],
        "symlink" | "symlinkat" => &[EIO, ENOSPC, EDQUOT, EPERM, EROFS, EEXIST],
        "poll" | "ppoll" => &[EINTR, ENOMEM],
        "pidfd_open" => &[EMFILE, ENOSYS, EPERM],
        _ => &[],
    }
}
