//! Power cuts: QEMU is killed while the guest writes and reports each exit status 0.
//!
//! Each program writes to a disk of its own, so that no program's flush saves another's file, and
//! to two of them:
//!
//! * with a cache: a qcow2 overlay with cache=writeback. QEMU keeps the table of what was written
//!   since the last flush in its memory, so that those blocks are lost with it, as in a disk's
//!   volatile cache, and older blocks that were written again are not.
//! * without: a raw image with cache=writethrough. The guest sends no flushes, and only its own
//!   memory is lost.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use rand::Rng;
use rand::rngs::StdRng;

use crate::machine::{Machine, Plan, Said};
use crate::report::{Report, Verdict};
use crate::root::{self, Kernel};

/// The programs that write, as power.sh knows them.
const PROGRAMS: [&str; 4] = ["atomwrite", "sponge", "mv", "redirect"];
/// The second table.
pub(crate) const HEADING: &str = "torn, missing or lost after exit status 0";
pub(crate) const COLUMNS: [(&str, &str); 5] = [
    ("power", "power cut"),
    ("atomwrite", "`atomwrite`"),
    ("sponge", "`sponge`"),
    ("mv", "`cat >t && mv t o`"),
    ("redirect", "`cat >o`"),
];
/// XFS takes no less.
const SIZE: u64 = 300 << 20;
/// Each cut begins with a number that no earlier one has reached.
const STEP: u64 = 100_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cache {
    On,
    Off,
}

/// A disk, and what is known of its DEST.
#[derive(Debug)]
struct Disk {
    name: String,
    program: &'static str,
    row: &'static str,
    cache: Cache,
    image: PathBuf,
    /// What DEST was before the last cut.
    before: String,
    /// The last number that was reported as written since then.
    reported: Option<u64>,
}

impl Disk {
    /// What QEMU gets for it.
    fn device(&self) -> String {
        let image = self.image.display();
        match self.cache {
            Cache::On => format!("file={image}.cache,format=qcow2,if=virtio,cache=writeback"),
            Cache::Off => format!("file={image},format=raw,if=virtio,cache=writethrough"),
        }
    }

    /// Begins with an empty cache.
    fn switch_on(&self) -> Result<()> {
        if self.cache == Cache::Off {
            return Ok(());
        }
        let image = fs::canonicalize(&self.image)?;
        image_tool(&[
            "create",
            "-q",
            "-f",
            "qcow2",
            "-F",
            "raw",
            "-b",
            &image.to_string_lossy(),
            "-o",
            "cluster_size=4k",
            &self.overlay(),
        ])
    }

    /// What the cache has lost is lost; the rest is on the disk.
    fn settle(&self) -> Result<()> {
        if self.cache == Cache::Off {
            return Ok(());
        }
        image_tool(&["commit", "-q", "-d", &self.overlay()])?;
        fs::remove_file(self.overlay()).context("cannot remove an overlay")
    }

    fn overlay(&self) -> String {
        format!("{}.cache", self.image.display())
    }

    /// Whether DEST, as it is after a cut, is what it must be.
    fn is_whole(&self, found: &str, cut: u64) -> bool {
        let number = found.parse().ok();
        match self.reported {
            Some(reported) => number == Some(reported) || number == Some(reported + 1),
            None => found == self.before || number == Some(cut * STEP + 1),
        }
    }
}

fn image_tool(words: &[&str]) -> Result<()> {
    root::run(Command::new("qemu-img").args(words).stdout(Stdio::null()))
}

/// A machine whose power is cut.
#[derive(Debug)]
pub(crate) struct Power<'a> {
    pub(crate) work: &'a Path,
    pub(crate) name: &'a str,
    pub(crate) kernel: &'a Kernel,
    pub(crate) filesystem: &'a str,
    /// Of the table: the disk with a cache, and the one without.
    pub(crate) rows: &'static [&'static str],
}

impl Power<'_> {
    /// Cuts the power so often.
    pub(crate) fn cut(&self, cuts: u64, random: &mut StdRng, report: &mut Report) -> Result<()> {
        let mut disks = self.disks()?;
        self.start("make", 0, &disks)?.end()?;
        settle(&disks)?;
        // The last round only reads.
        for cut in 0..=cuts {
            let machine = self.start("write", cut + 1, &disks)?;
            let found = read_back(&machine)?;
            for disk in &mut disks {
                let found = found
                    .get(&disk.name)
                    .with_context(|| format!("nothing was said about {}", disk.name))?;
                if cut > 0 {
                    count_harm(disk, found, cut, report);
                }
                found.clone_into(&mut disk.before);
                disk.reported = None;
            }
            if cut == cuts {
                drop(machine);
            } else {
                write_until_cut(machine, &mut disks, random)?;
            }
            settle(&disks)?;
        }
        for disk in &disks {
            fs::remove_file(&disk.image)?;
        }
        let lost = self.rows.iter().map(|row| report.harmed(row, "redirect"));
        if lost.sum::<u64>() == 0 {
            let why = "cat >o has lost nothing, so these cuts show nothing";
            for row in self.rows {
                report.add(row, "power", Verdict::Broken, "the control", why);
            }
        }
        Ok(())
    }

    fn disks(&self) -> Result<Vec<Disk>> {
        let mut disks = Vec::new();
        for (row, cache) in self.rows.iter().zip([Cache::On, Cache::Off]) {
            for program in PROGRAMS {
                let name = format!("vd{}", char::from(b'a' + u8::try_from(disks.len())?));
                let image = self.work.join(format!("{}-{name}", self.name));
                File::create(&image)?.set_len(SIZE)?;
                disks.push(Disk {
                    name,
                    program,
                    row,
                    cache,
                    image,
                    before: "missing".to_owned(),
                    reported: None,
                });
            }
        }
        Ok(disks)
    }

    fn start(&self, what: &str, cut: u64, disks: &[Disk]) -> Result<Machine> {
        let mut script = ["power", what, self.filesystem].map(str::to_owned).to_vec();
        let mut devices = Vec::new();
        for disk in disks {
            disk.switch_on()?;
            script.push(format!("{}:{}:{}", disk.name, disk.program, cut * STEP));
            devices.extend(["-drive".to_owned(), disk.device()]);
        }
        Machine::boot(
            self.work,
            &Plan {
                kernel: self.kernel,
                name: self.name,
                script: &script,
                words: "",
                only: "",
                devices: &devices,
            },
        )
    }
}

fn settle(disks: &[Disk]) -> Result<()> {
    disks.iter().try_for_each(Disk::settle)
}

/// What each disk has after a cut.
fn read_back(machine: &Machine) -> Result<BTreeMap<String, String>> {
    let mut found = BTreeMap::new();
    loop {
        match machine.next()? {
            Said::Line(line) if line == "WRITING" => return Ok(found),
            Said::Line(line) => {
                if let Some((disk, content)) = line
                    .strip_prefix("HAS\t")
                    .and_then(|rest| rest.split_once('\t'))
                {
                    found.insert(disk.to_owned(), content.to_owned());
                }
            }
            Said::Off => bail!("a disk cannot be read after a cut{}", machine.last_words()),
        }
    }
}

fn count_harm(disk: &Disk, found: &str, cut: u64, report: &mut Report) {
    let is_whole = disk.is_whole(found, cut);
    report.add_cut(disk.row, disk.program, is_whole);
    if disk.program == "atomwrite" {
        let verdict = if is_whole {
            Verdict::Kept
        } else {
            Verdict::Broken
        };
        let reported = disk
            .reported
            .map_or("nothing".to_owned(), |number| number.to_string());
        let detail = format!(
            "{reported} was reported, and DEST is {found}; it was {}",
            disk.before
        );
        let check = format!("cut {cut}");
        report.add(disk.row, "power", verdict, &check, &detail);
    }
}

/// Lets the programs write until those with atomwrite have reported some writes, and any program
/// some more.
fn write_until_cut(machine: Machine, disks: &mut [Disk], random: &mut StdRng) -> Result<()> {
    let enough = random.random_range(1..6);
    let mut more = random.random_range(0..40_u32);
    let mut written = BTreeMap::new();
    loop {
        let Said::Line(line) = machine.next()? else {
            bail!("the writers have ended{}", machine.last_words());
        };
        let Some(name) = note(&line, disks) else {
            continue;
        };
        *written.entry(name).or_insert(0_u32) += 1;
        let waiting = disks
            .iter()
            .filter(|disk| disk.program == "atomwrite")
            .any(|disk| written.get(&disk.name).is_none_or(|count| *count < enough));
        if waiting {
            continue;
        }
        if more == 0 {
            break;
        }
        more -= 1;
    }
    for line in machine.cut()? {
        note(&line, disks);
    }
    Ok(())
}

/// Takes down what a program has reported; returns its disk.
fn note(line: &str, disks: &mut [Disk]) -> Option<String> {
    let (name, number) = line.strip_prefix("WROTE\t")?.split_once('\t')?;
    // The last line may be cut, too.
    let number = number.parse().ok().filter(|number| number % STEP > 0)?;
    let disk = disks.iter_mut().find(|disk| disk.name == name)?;
    disk.reported = disk.reported.max(Some(number));
    Some(name.to_owned())
}
