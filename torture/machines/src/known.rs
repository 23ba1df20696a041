//! What a filesystem or its server cannot do. All that is not listed here must be kept.

/// How far a check may fall short.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tolerated {
    /// The program must say so, and change nothing.
    Refusal,
    /// The promise may be broken, and only the filesystem could keep it.
    Loss,
}

struct Known {
    /// What the row's name begins with.
    rows: &'static [&'static str],
    /// What the check's name begins with.
    checks: &'static [&'static str],
    tolerated: Tolerated,
    reason: &'static str,
}

const KNOWN: &[Known] = &[
    Known {
        rows: &["NFS"],
        checks: &[
            "no ESTALE for readers elsewhere: other",
            "no ESTALE for readers here, too: other",
            "no ESTALE for readers here, too: here",
        ],
        tolerated: Tolerated::Loss,
        reason: "A process on another client that has the old file open, and one on this client that is opening it, can \
                 get the error ESTALE, because the server has removed that file.",
    },
    Known {
        rows: &["NFS"],
        checks: &["can be opened by readers here, too"],
        tolerated: Tolerated::Loss,
        reason: "If a process on the client that replaces DEST has it open, the client first renames DEST to `.nfs…`, and \
                 for a moment there is no DEST. mv does the same.",
    },
    Known {
        rows: &["NFS"],
        checks: &[
            "renamed away after: eight",
            "renamed away after: all of eight",
            "renamed away after: of eight",
        ],
        tolerated: Tolerated::Loss,
        reason: "If two clients replace one file at the same time, a `.nfs…` file of the client can stay. mv leaves it, \
                 too.",
    },
    Known {
        rows: &["vfat", "exfat", "SMB"],
        checks: &["-m 600", "-m 640", "-m u+x", "-o ", "-g "],
        tolerated: Tolerated::Refusal,
        reason: "The filesystem, as it is mounted, has no modes and owners: asking for them is an error.",
    },
    Known {
        rows: &["vfat", "exfat", "SMB"],
        checks: &["symbolic links", "hard links"],
        tolerated: Tolerated::Refusal,
        reason: "The filesystem, as it is mounted, has no such links.",
    },
    Known {
        rows: &["vfat", "exfat", "SMB"],
        checks: &["a file beside DEST is seen"],
        tolerated: Tolerated::Refusal,
        reason: "Without symbolic links, the validator sees the new file only, and a refusal says so.",
    },
    Known {
        rows: &["SMB"],
        checks: &[
            "all of eight",
            "after: eight",
            "after: all of eight",
            "after: of eight",
        ],
        tolerated: Tolerated::Loss,
        reason: "If two mounts write one file at the same time, a write can fail because the file is open, and now and then \
                 the client (cifs) waits without end for the answer to an open. Such a run can only be killed, and then a \
                 temporary file can stay.",
    },
    Known {
        rows: &["SMB"],
        checks: &[
            "the caller holds DEST",
            "another process holds DEST",
            "every write succeeds with readers here, too",
            "can be opened by readers here, too",
        ],
        tolerated: Tolerated::Loss,
        reason: "The client (cifs) deletes a file that a process on this machine has open when another file is renamed to \
                 it, and then refuses the rename. The program fails if that lasts for half a second, and when the file is \
                 closed, DEST is gone. mv does the same at once.",
    },
    Known {
        rows: &["SMB"],
        checks: &[
            "eight count on two clients",
            "eight append on two clients",
            "replaced by the other client before: atomwrite -a",
            "removed by the other client before: atomwrite -a",
        ],
        tolerated: Tolerated::Loss,
        reason: "The client (cifs) keeps a file open for a second after it was closed, and answers from that what the name \
                 leads to, and how long it is. So `--lock` and `-a` are reliable within one mount only.",
    },
    Known {
        rows: &["NFS 3, nolock"],
        checks: &[
            "eight count on two clients",
            "eight append on two clients",
            "clients and the server count",
            "--lock=0 while the other client is locked out",
        ],
        tolerated: Tolerated::Loss,
        reason: "Two mounts do not share locks here. Within one mount, `--lock` holds.",
    },
    Known {
        rows: &["NFS 4.2, root_squash"],
        checks: &["-o ", "-g "],
        tolerated: Tolerated::Refusal,
        reason: "The server makes root an ordinary user, who cannot give a file away.",
    },
    Known {
        rows: &["overlayfs"],
        checks: &["left without O_TMPFILE"],
        tolerated: Tolerated::Loss,
        reason: "Before Linux 6.10, overlayfs has no unnamed files. The new file has a random name, which stays after SIGKILL.",
    },
    Known {
        rows: &["SELinux"],
        checks: &["label of a new DEST, a rule for its name"],
        tolerated: Tolerated::Loss,
        reason: "If the policy has a rule for the name of a new file, the kernel applies it when it creates the file. The \
                 new file does not have that name yet, so DEST gets the label of other new files there. restorecon(8) \
                 corrects it.",
    },
];

/// Looks up what is known of a check.
pub(crate) fn find(row: &str, check: &str) -> Option<(Tolerated, &'static str)> {
    KNOWN
        .iter()
        .find(|known| {
            known.rows.iter().any(|prefix| row.starts_with(prefix))
                && known.checks.iter().any(|prefix| check.starts_with(prefix))
        })
        .map(|known| (known.tolerated, known.reason))
}
