//! System calls of x86-64: their names, and the facts about them that matter here.

use std::borrow::Cow;
use std::fmt::{self, Display};

use libc::user_regs_struct;

macro_rules! numbers {
    ($($number:ident)*) => { &[$((libc::$number, stringify!($number))),*] };
}

/// Those that need a name in a report.
const NAMES: &[(i64, &str)] = numbers![
    SYS_access SYS_arch_prctl SYS_brk SYS_chdir SYS_chmod SYS_chown SYS_clone SYS_clone3 SYS_close SYS_close_range
    SYS_copy_file_range SYS_creat SYS_dup SYS_dup2 SYS_dup3 SYS_execve SYS_exit SYS_exit_group SYS_faccessat
    SYS_faccessat2 SYS_fadvise64 SYS_fallocate SYS_fchdir SYS_fchmod SYS_fchmodat SYS_fchown SYS_fchownat SYS_fcntl
    SYS_fdatasync SYS_fgetxattr SYS_flistxattr SYS_flock SYS_fork SYS_fremovexattr SYS_fsetxattr SYS_fstat SYS_fstatfs
    SYS_fsync SYS_ftruncate SYS_futex SYS_getcwd SYS_getdents64 SYS_getegid SYS_geteuid SYS_getgid SYS_getpgid
    SYS_getpgrp SYS_getpid SYS_getppid SYS_getrandom SYS_getrlimit SYS_gettid SYS_getuid SYS_getxattr SYS_ioctl SYS_kill
    SYS_lchown SYS_lgetxattr SYS_link SYS_linkat SYS_listxattr SYS_lremovexattr SYS_lseek SYS_lsetxattr SYS_lstat
    SYS_madvise SYS_mkdir SYS_mkdirat SYS_mmap SYS_mprotect SYS_mremap SYS_munmap SYS_newfstatat SYS_open SYS_openat
    SYS_openat2 SYS_pidfd_open SYS_pidfd_send_signal SYS_pipe SYS_pipe2 SYS_poll SYS_ppoll SYS_prctl SYS_pread64 SYS_preadv SYS_prlimit64
    SYS_pwrite64 SYS_pwritev SYS_read SYS_readlink SYS_readlinkat SYS_readv SYS_removexattr SYS_rename SYS_renameat
    SYS_renameat2 SYS_rmdir SYS_rseq SYS_rt_sigaction SYS_rt_sigprocmask SYS_rt_sigreturn SYS_sched_getaffinity
    SYS_sched_yield SYS_sendfile SYS_set_robust_list SYS_set_tid_address SYS_setpgid SYS_setsid SYS_setxattr
    SYS_sigaltstack SYS_socket SYS_splice SYS_stat SYS_statfs SYS_statx SYS_symlink SYS_symlinkat SYS_sync
    SYS_sync_file_range SYS_syncfs SYS_sysinfo SYS_tgkill SYS_truncate SYS_umask SYS_uname SYS_unlink SYS_unlinkat
    SYS_utimensat SYS_vfork SYS_wait4 SYS_waitid SYS_write SYS_writev
];

pub(super) const CLOSE: u64 = 3;

/// A call as it was entered.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Call {
    number: u64,
    nth: usize,
    arguments: [u64; 6],
    by_main: bool,
}

/// The register that holds how many bytes are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Length {
    Third,
    Fourth,
    Fifth,
}

impl Length {
    pub(super) fn of(self, registers: &user_regs_struct) -> u64 {
        match self {
            Self::Third => registers.rdx,
            Self::Fourth => registers.r10,
            Self::Fifth => registers.r8,
        }
    }

    pub(super) fn set(self, registers: &mut user_regs_struct, length: u64) {
        match self {
            Self::Third => registers.rdx = length,
            Self::Fourth => registers.r10 = length,
            Self::Fifth => registers.r8 = length,
        }
    }
}

impl Call {
    pub(super) fn new(nth: usize, registers: &user_regs_struct, by_main: bool) -> Self {
        Self {
            number: registers.orig_rax,
            nth,
            by_main,
            arguments: [
                registers.rdi,
                registers.rsi,
                registers.rdx,
                registers.r10,
                registers.r8,
                registers.r9,
            ],
        }
    }

    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    /// Returns how many of the same number came before it.
    pub(crate) fn nth(&self) -> usize {
        self.nth
    }

    /// Returns whether the process that was started makes it, and not a child.
    pub(crate) fn by_main(&self) -> bool {
        self.by_main
    }

    pub(crate) fn name(&self) -> Cow<'static, str> {
        let known = NAMES
            .iter()
            .find(|(number, _)| u64::try_from(*number) == Ok(self.number));
        match known {
            Some((_, name)) => Cow::Borrowed(name.trim_start_matches("SYS_")),
            None => Cow::Owned(format!("call {}", self.number)),
        }
    }

    /// Returns an argument that is a number, or flags.
    pub(crate) fn argument(&self, at: usize) -> u64 {
        self.arguments[at]
    }

    /// Returns how many bytes a read or a write asks for.
    pub(crate) fn asks_for(&self) -> Option<u64> {
        self.length().map(|length| match length {
            Length::Third => self.arguments[2],
            Length::Fourth => self.arguments[3],
            Length::Fifth => self.arguments[4],
        })
    }

    pub(super) fn length(&self) -> Option<Length> {
        match &*self.name() {
            "read" | "write" | "pread64" | "pwrite64" => Some(Length::Third),
            "sendfile" => Some(Length::Fourth),
            "splice" | "copy_file_range" => Some(Length::Fifth),
            _ => None,
        }
    }

    /// Returns whether it waits until something is on the disk.
    pub(crate) fn syncs(&self) -> bool {
        matches!(&*self.name(), "fsync" | "fdatasync" | "syncfs")
    }

    pub(crate) fn renames(&self) -> bool {
        matches!(&*self.name(), "rename" | "renameat" | "renameat2")
    }

    /// Returns whether it gives, takes or changes a name.
    pub(crate) fn names(&self) -> bool {
        match &*self.name() {
            "link" | "linkat" | "rename" | "renameat" | "renameat2" | "unlink" | "unlinkat"
            | "rmdir" | "mkdir" | "mkdirat" | "symlink" | "symlinkat" | "creat" => true,
            "open" => self.creates(1),
            "openat" => self.creates(2),
            _ => false,
        }
    }

    fn creates(&self, flags: usize) -> bool {
        self.arguments[flags] & u64::from(libc::O_CREAT.unsigned_abs()) != 0
    }

    /// Returns whether it changes something on a filesystem, or waits until a change is on the
    /// disk.
    pub(crate) fn changes(&self) -> bool {
        self.names()
            || match &*self.name() {
                // Messages are not on the filesystem.
                "write" => self.arguments[0] != 2,
                "pwrite64" | "writev" | "splice" | "sendfile" | "copy_file_range" | "fallocate"
                | "ftruncate" | "truncate" | "fsync" | "fdatasync" | "syncfs" | "fchmod"
                | "fchmodat" | "chmod" | "fchown" | "fchownat" | "chown" | "lchown"
                | "fsetxattr" | "setxattr" | "fremovexattr" | "utimensat" => true,
                _ => false,
            }
    }
}

/// As in `renameat no. 2`.
impl Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} no. {}", self.name(), self.nth + 1)
    }
}
