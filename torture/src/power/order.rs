//! The order of the system calls, because a random power cut rarely sees an fsync that comes too
//! late.
//!
//! Invariant: the last change of the new file, its fsync, its name, the rename, the fsync of the
//! directory, and of each directory that was made for it. btrfs forgets a file that was synced
//! before it had a name, so there one more fsync comes between the name and the rename. With `-t`
//! (see `many`), all of this comes once for all files, or each part of it for all files before the
//! next part. `--sync=file` does not sync directories, `--sync=none` syncs nothing.
//!
//! What these tests cannot see: whether the kernel does what the calls ask for.

mod calls;
mod many;

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use self::calls::{Call, linked_path, parse, shown_path};
use super::filesystem::Filesystem;
use super::history::Sync;
use super::run::run as run_program;
use super::workload::Form;
use crate::ground::Ground;
use crate::programs::{Program, atomwrite};
use crate::report::{Harm, Promise, Report, Tally};

const TEST: &str = "Order of the calls: write, fsync, rename, fsync of the directory";

/// All that changes a file, names one, or puts one on the disk.
const CALLS: &str = "trace=write,pwrite64,writev,pwritev,pwritev2,copy_file_range,sendfile,splice,vmsplice,ioctl,\
ftruncate,fallocate,fchmod,fchmodat,fchown,fchownat,fsetxattr,fremovexattr,openat,linkat,rename,renameat,renameat2,\
fsync,fdatasync,syncfs,sync,sync_file_range,msync";

pub(crate) fn run(ground: &Ground, report: &mut Report) -> Result<()> {
    for filesystem in [Filesystem::Ext4, Filesystem::Xfs, Filesystem::Btrfs] {
        let place = ground.directory("order")?;
        let image = filesystem.make()?;
        let on = place.path().join("fs");
        let mounted = filesystem.mount(&image, &on)?;
        let stage = Stage {
            ground,
            filesystem,
            place: place.path(),
            root: mounted.path(),
        };
        report.add(
            TEST,
            Promise::Made,
            Program::Atomwrite,
            stage.try_atomwrite()?,
        );
        report.add(
            many::TEST,
            Promise::Made,
            Program::Atomwrite,
            stage.try_many()?,
        );
        for program in Program::OTHERS {
            report.add(TEST, Promise::Made, program, stage.try_other(program)?);
        }
        mounted.unmount()?;
    }
    Ok(())
}

/// How the new file gets its first name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Birth {
    /// By its descriptor.
    Unnamed,
    /// Through /proc, because linkat takes no descriptor.
    ThroughProc,
    /// From the start, because nothing can be linked. So a backup is a copy.
    Named,
}

struct Stage<'a> {
    ground: &'a Ground,
    filesystem: Filesystem,
    place: &'a Path,
    root: &'a Path,
}

impl Stage<'_> {
    fn try_atomwrite(&self) -> Result<Tally> {
        let mut tally = Tally::default();
        for (form, birth, sync) in Form::ALL.into_iter().flat_map(|form| {
            let births = [Birth::Unnamed, Birth::ThroughProc, Birth::Named];
            births
                .into_iter()
                .flat_map(move |birth| Sync::ALL.map(|sync| (form, birth, sync)))
        }) {
            if (form, birth, sync) == (Form::Backup, Birth::Named, Sync::None) {
                // A backup that is a copy is on the disk before DEST changes, whatever is asked
                // for.
                continue;
            }
            let words = form.words("new/er/o");
            let shown = format!(
                "{}, {birth:?}, {} {}",
                self.filesystem.shown(),
                sync.option(),
                words.join(" ")
            );
            let words = [sync.option().to_owned()].into_iter().chain(words);
            let calls = self
                .trace(atomwrite(self.ground, words), birth, form)
                .with_context(|| shown.clone())?;
            let expected = Expected {
                directories: match form {
                    Form::CreateDirs => ["", "new", "new/er"]
                        .map(|name| self.directory().join(name))
                        .to_vec(),
                    Form::NoClobber => vec![self.directory().join("new/er")],
                    _ => vec![self.directory()],
                },
                forgets_unnamed: self.filesystem == Filesystem::Btrfs,
            };
            check(
                sync,
                &shown,
                |sync| expected.broken(sync, &calls),
                &mut tally,
            )?;
        }
        Ok(tally)
    }

    /// None of them syncs anything. If one begins to, its order must be checked as well.
    fn try_other(&self, program: Program) -> Result<Tally> {
        let mut tally = Tally::default();
        let calls = self.trace(program.words(self.ground), Birth::Unnamed, Form::Stdin)?;
        tally.tried();
        if !calls.iter().any(Call::syncs) {
            tally.harmed(Harm::Torn, || {
                format!("{}: no fsync", self.filesystem.shown())
            });
        }
        Ok(tally)
    }

    fn directory(&self) -> PathBuf {
        self.root.join("d")
    }

    fn trace(&self, words: Vec<OsString>, birth: Birth, form: Form) -> Result<Vec<Call>> {
        let directory = self.lay_out(&["o"])?;
        if form == Form::NoClobber {
            fs::create_dir_all(directory.join("new/er"))?;
        }
        let inject = match birth {
            Birth::Unnamed => None,
            Birth::ThroughProc => Some("inject=linkat:error=EOPNOTSUPP:when=1"),
            Birth::Named => Some("inject=linkat:error=EOPNOTSUPP"),
        };
        self.strace(words, inject)
    }

    /// Makes the directory anew, with old files in it.
    fn lay_out(&self, names: &[&str]) -> Result<PathBuf> {
        let directory = self.directory();
        if directory.exists() {
            fs::remove_dir_all(&directory)?;
        }
        fs::create_dir(&directory)?;
        for name in names {
            fs::write(directory.join(name), "old")?;
        }
        fs::write(directory.join("src"), "new")?;
        Ok(directory)
    }

    fn strace(&self, words: Vec<OsString>, inject: Option<&str>) -> Result<Vec<Call>> {
        let to = self.place.join("trace");
        // What is injected must be traced.
        let traced = match inject {
            Some(many::NO_STATFS) => format!("{CALLS},fstatfs"),
            _ => CALLS.to_owned(),
        };
        let mut strace: Vec<OsString> = ["strace", "-f", "-y", "-q", "-s", "64", "-e", &traced]
            .map(OsString::from)
            .to_vec();
        strace.extend(
            inject
                .into_iter()
                .flat_map(|inject| ["-e", inject])
                .map(OsString::from),
        );
        strace.extend(["-o".into(), to.clone().into_os_string(), "--".into()]);
        strace.extend(words);
        let ended = run_program(&strace, &self.directory(), self.place, b"new")?;
        ensure!(
            ended.is_success(),
            "it should have worked: {}",
            ended.summary()
        );
        parse(&fs::read_to_string(&to).context("cannot read what strace has written")?)
    }
}

/// What is wrong with the calls, and what it can do.
type Broken = Option<(Harm, String)>;

/// Counts what is wrong with the order, given what was asked for.
fn check(
    sync: Sync,
    shown: &str,
    broken: impl Fn(Sync) -> Broken,
    tally: &mut Tally,
) -> Result<()> {
    tally.tried();
    if let Some((harm, what)) = broken(sync) {
        tally.harmed(harm, || format!("{shown}: {what}"));
    }
    // What would be wrong if more had been asked for must be seen.
    for more in Sync::ALL.into_iter().filter(|more| *more > sync) {
        ensure!(
            broken(more).is_some(),
            "{shown} passes for {}: the test sees nothing",
            more.option()
        );
    }
    Ok(())
}

/// Returns the broken order if anything is synced.
fn needless(calls: &[Call]) -> Broken {
    let sync = calls.iter().find(|call| call.syncs())?;
    Some((Harm::Answer, format!("{}({})", sync.name, sync.arguments)))
}

/// Returns the broken order if one of the directories is not synced.
fn missing(directories: &[PathBuf], calls: &[Call]) -> Broken {
    let lost = directories.iter().find(|directory| {
        let path = directory.to_string_lossy();
        let path = path.trim_end_matches('/');
        !calls.iter().any(|call| call.syncs_file(path))
    })?;
    Some((Harm::Lost, format!("{} is not synced", lost.display())))
}

#[derive(Debug)]
struct Expected {
    /// That have a new name in them.
    directories: Vec<PathBuf>,
    /// Returns whether a file that was synced before it had a name must be synced again.
    forgets_unnamed: bool,
}

impl Expected {
    fn broken(&self, sync: Sync, calls: &[Call]) -> Broken {
        let torn = |what: &str| Some((Harm::Torn, what.to_owned()));
        let Some(rename) = calls
            .iter()
            .position(|call| call.renames() && call.names().last() == Some(&"o"))
        else {
            return torn("no rename");
        };
        // With --backup there may be one more, of the old file.
        let last_rename = calls.iter().rposition(Call::renames).unwrap_or(rename);
        let temporary = calls[rename].names()[0];
        let link = calls[..rename]
            .iter()
            .rposition(|call| call.name == "linkat" && call.names().last() == Some(&temporary));
        let draft = match link {
            Some(link) => linked_path(&calls[..=link]),
            None => shown_path(&calls[rename].arguments)
                .map(|directory| format!("{directory}/{temporary}")),
        };
        let Some(draft) = draft else {
            return torn("the new file is not found");
        };
        let Some(change) = calls.iter().rposition(|call| call.changes(&draft)) else {
            return torn("nothing is written");
        };
        if sync == Sync::None {
            return needless(calls);
        }
        let synced_between = |from: usize, to: usize| {
            from < to
                && calls[from + 1..to]
                    .iter()
                    .any(|call| call.syncs_file(&draft))
        };
        if change > rename {
            return torn("it is changed after the rename");
        }
        if !synced_between(change, rename) {
            return torn("it is not synced between the last change and the rename");
        }
        if let Some(link) = link.filter(|_| self.forgets_unnamed) {
            if !synced_between(link, rename) {
                return torn("it is not synced after it has a name");
            }
        }
        let after = &calls[last_rename + 1..];
        match sync {
            Sync::Full => missing(&self.directories, after),
            _ => needless(after),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: [&str; 6] = [
        "7 write(4</d/#12>(deleted), \"hi\", 2) = 2",
        "7 fsync(4</d/#12>(deleted)) = 0",
        "7 linkat(4</d/#12>(deleted), \"\", 3</d>, \".x.tmp\", AT_EMPTY_PATH) = 0",
        "7 fsync(4</d/#12>(deleted)) = 0",
        "7 renameat(3</d>, \".x.tmp\", 3</d>, \"o\") = 0",
        "7 fsync(3</d>)               = 0",
    ];

    fn broken(lines: &[&str], sync: Sync) -> Option<Harm> {
        let expected = Expected {
            directories: vec!["/d".into()],
            forgets_unnamed: true,
        };
        expected
            .broken(sync, &parse(&lines.join("\n")).unwrap())
            .map(|(harm, _)| harm)
    }

    #[test]
    fn takes_the_right_order_for_right() {
        assert_eq!(broken(&GOOD, Sync::Full), None);
        assert_eq!(broken(&GOOD[..5], Sync::File), None);
        assert_eq!(broken(&[GOOD[0], GOOD[2], GOOD[4]], Sync::None), None);
    }

    #[test]
    fn sees_each_call_that_is_missing_or_late() {
        for (left_out, harm) in [(1, Harm::Torn), (3, Harm::Torn), (5, Harm::Lost)] {
            let mut lines = GOOD.to_vec();
            lines.remove(left_out);
            // The second fsync stands for the first.
            let harm = (left_out != 1).then_some(harm);
            assert_eq!(broken(&lines, Sync::Full), harm, "without {left_out}");
        }
        for (one, other) in [(0, 4), (3, 4), (4, 5)] {
            let mut lines = GOOD.to_vec();
            lines.swap(one, other);
            assert!(
                broken(&lines, Sync::Full).is_some(),
                "{one} and {other} exchanged"
            );
        }
        let failed =
            GOOD.map(|line| line.replace("(3</d>)               = 0", "(3</d>) = -1 EIO (x)"));
        assert_eq!(
            broken(&failed.each_ref().map(String::as_str), Sync::Full),
            Some(Harm::Lost)
        );
        assert_eq!(broken(&GOOD, Sync::File), Some(Harm::Answer));
        assert_eq!(broken(&GOOD, Sync::None), Some(Harm::Answer));
    }
}
