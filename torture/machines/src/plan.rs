//! Which machines are booted, and what is tried in each.

use anyhow::{Result, bail};

/// The promises that a script of checks has to try.
const ALL: &[&str] = &[
    "replaces",
    "fails",
    "killed",
    "readers",
    "writers",
    "lock",
    "no_clobber",
    "backup",
    "compare",
    "many",
    "looks",
    "validated",
    "inplace",
    "links",
    "opened",
    "left",
    "full",
];
/// All but the one that fills a disk.
const SHARED: &[&str] = ALL.split_at(ALL.len() - 1).0;
const LABELLED: &[&str] = &[
    "replaces", "lock", "backup", "many", "looks", "inplace", "left",
];
const CONFINED: &[&str] = &["replaces", "lock", "backup", "many", "left"];
const RESTARTED: &[&str] = &["replaces", "lock", "left"];
const QUOTA: &[&str] = &["full", "left"];

/// What a machine has besides its kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Device {
    /// A disk of so many MiB.
    Disk(u64),
    /// A directory of the host, under the tag "one".
    NineP,
    /// The same.
    Virtiofs,
}

/// What is done in a machine.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Work {
    /// A script of checks, and the promises that it has to try.
    Checks(&'static [&'static str]),
    /// Power cuts of a filesystem.
    Cuts(&'static str),
}

/// What is tried in one machine.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Part {
    pub(crate) name: &'static str,
    /// The rows of a table that it has to fill.
    pub(crate) rows: &'static [&'static str],
    pub(crate) work: Work,
    pub(crate) script: &'static [&'static str],
    pub(crate) device: Device,
    /// For the kernel's command line.
    pub(crate) words: &'static str,
    /// Whether it is in the short run.
    short: bool,
}

impl Part {
    const fn checks(
        name: &'static str,
        rows: &'static [&'static str],
        script: &'static [&'static str],
    ) -> Self {
        Self {
            name,
            rows,
            work: Work::Checks(ALL),
            script,
            device: Device::Disk(64),
            words: "",
            short: false,
        }
    }

    /// The rows are the disk with a cache, and the one without.
    const fn cuts(
        name: &'static str,
        filesystem: &'static str,
        rows: &'static [&'static str; 2],
    ) -> Self {
        Self {
            name,
            rows,
            work: Work::Cuts(filesystem),
            script: &[],
            device: Device::Disk(0),
            words: "",
            short: false,
        }
    }

    const fn disk(self, size: u64) -> Self {
        Self {
            device: Device::Disk(size),
            ..self
        }
    }

    const fn words(self, words: &'static str) -> Self {
        Self { words, ..self }
    }

    const fn shared(self, device: Device) -> Self {
        Self {
            device,
            ..self.only(SHARED)
        }
    }

    const fn only(self, promises: &'static [&'static str]) -> Self {
        Self {
            work: Work::Checks(promises),
            ..self
        }
    }

    const fn short(self) -> Self {
        Self {
            short: true,
            ..self
        }
    }

    /// The promises that it has to try.
    pub(crate) fn promises(&self) -> &'static [&'static str] {
        match self.work {
            Work::Checks(promises) => promises,
            Work::Cuts(_) => &["power"],
        }
    }
}

const PARTS: [Part; 22] = [
    Part::checks("nfs-4.2", &["NFS 4.2"], &["nfs", "4.2"]).short(),
    Part::checks("smb", &["SMB 3.1.1"], &["smb"]).short(),
    Part::checks("nfs-3", &["NFS 3"], &["nfs", "3"]).short(),
    Part::checks("nfs-4.0", &["NFS 4.0"], &["nfs", "4.0"]),
    Part::checks("vfat", &["vfat"], &["disk", "vfat"]).short(),
    Part::checks("exfat", &["exfat"], &["disk", "exfat"]),
    Part::checks("f2fs", &["f2fs"], &["disk", "f2fs"]),
    Part::checks(
        "ext4",
        &["ext4", "ext4-casefold", "overlayfs"],
        &["disk", "ext4", "ext4-casefold", "overlayfs"],
    ),
    Part::checks("big", &["xfs", "btrfs"], &["disk", "xfs", "btrfs"]).disk(320),
    Part::checks("9p", &["9p"], &["shared", "9p"]).shared(Device::NineP),
    Part::checks("virtiofs", &["virtiofs"], &["shared", "virtiofs"]).shared(Device::Virtiofs),
    Part::checks(
        "idmapped",
        &["ext4, ID-mapped, root", "ext4, ID-mapped, user"],
        &["idmapped"],
    )
    .only(SHARED),
    Part::checks(
        "quota",
        &["ext4, user quota", "xfs, user quota", "xfs, project quota"],
        &["quota", "ext4", "user", "xfs", "user", "xfs", "project"],
    )
    .disk(320)
    .only(QUOTA),
    Part::checks(
        "apparmor",
        &[
            "AppArmor, plain",
            "AppArmor, attach_disconnected",
            "AppArmor, mediate_deleted",
            "AppArmor, without-k",
        ],
        &[
            "apparmor",
            "plain",
            "attach_disconnected",
            "mediate_deleted",
            "without-k",
        ],
    )
    .only(CONFINED),
    Part::checks(
        "selinux",
        &["SELinux", "SELinux, may not relabel"],
        &["selinux", "bin_t", "writer_exec_t"],
    )
    .words("security=selinux selinux=1")
    .only(LABELLED),
    Part::checks(
        "nfs-restart",
        &["NFS 4.2, restarted", "NFS 3, restarted"],
        &["nfs", "4.2,restarted", "3,restarted"],
    )
    .only(RESTARTED),
    Part::checks(
        "nfs-options",
        &["NFS 4.2, root_squash", "NFS 3, nolock"],
        &["nfs", "4.2,root_squash", "3,nolock"],
    ),
    Part::checks(
        "nfs-quota",
        &["NFS 4.2, quota", "NFS 3, quota"],
        &["nfs", "4.2,quota", "3,quota"],
    )
    .only(QUOTA),
    Part::cuts(
        "power-ext4",
        "ext4",
        &["ext4, disk with a cache", "ext4, disk without a cache"],
    )
    .short(),
    Part::cuts(
        "power-xfs",
        "xfs",
        &["xfs, disk with a cache", "xfs, disk without a cache"],
    )
    .short(),
    Part::cuts(
        "power-btrfs",
        "btrfs",
        &["btrfs, disk with a cache", "btrfs, disk without a cache"],
    ),
    Part::cuts(
        "power-f2fs",
        "f2fs",
        &["f2fs, disk with a cache", "f2fs, disk without a cache"],
    ),
];

/// Those that were asked for: by name, all of the short run, or all.
pub(crate) fn parts(short: bool, names: &[String]) -> Result<Vec<Part>> {
    let mut parts = Vec::new();
    for name in names {
        let part = PARTS.iter().find(|part| part.name == name);
        let Some(part) = part else {
            let known: Vec<&str> = PARTS.iter().map(|part| part.name).collect();
            bail!("what is '{name}'? There are: {}", known.join(", "));
        };
        parts.push(*part);
    }
    if names.is_empty() {
        parts.extend(PARTS.iter().filter(|part| !short || part.short));
    }
    Ok(parts)
}

/// Where a row has its place in the tables: those that no part fills any more are the last.
pub(crate) fn position(row: &str) -> usize {
    let mut rows = PARTS.iter().flat_map(|part| part.rows);
    let position = rows.position(|known| *known == row);
    position.unwrap_or(usize::MAX)
}
