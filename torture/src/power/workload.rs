//! The workload while the disk keeps its log: every author has its own directories and does one run
//! after the other, and two groups of authors work at once. `many` chooses what `-t` writes.
//!
//! Invariant: what a run must write is known before it begins, and no two versions are equal. In
//! between, other files are written, synced and removed, so that the journal is written before the
//! data that it describes. A run may write more than one file (see [`Step`]); each of them is
//! checked by itself.

use std::ffi::OsString;
use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};
use nix::unistd::syncfs;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::filesystem::Filesystem;
use super::history::{Author, Failed, History, Record, Sync, Synced, Version};
use super::many;
use super::run::{run, run_lacking};
use crate::ground::Ground;
use crate::lacking::Lacking;
use crate::programs::atomwrite;
use crate::served::Log;

/// How many directories, and so DESTs, each author has in each group.
const DIRECTORIES: usize = 3;
/// Bits that a new file does not get by itself, so that they must have been kept.
const MODE: u32 = 0o640;
const LARGEST: usize = 300 * 1024;

/// How atomwrite is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    Stdin,
    Source,
    Command,
    Append,
    Backup,
    NoClobber,
    CreateDirs,
}

impl Form {
    pub(crate) const ALL: [Self; 7] = [
        Self::Stdin,
        Self::Source,
        Self::Command,
        Self::Append,
        Self::Backup,
        Self::NoClobber,
        Self::CreateDirs,
    ];

    /// Returns the words after the program and its `--sync`, for a DEST that is `o` unless the form
    /// wants a new one.
    pub(crate) fn words(self, new: &str) -> Vec<String> {
        let words: &[&str] = match self {
            Self::Stdin => &["o"],
            Self::Source => &["src", "o"],
            Self::Command => &["o", "--", "cat", "src"],
            Self::Append => &["-a", "o"],
            Self::Backup => &["-b", "o"],
            Self::NoClobber => &["-n", new],
            Self::CreateDirs => &["-D", new],
        };
        words.iter().map(ToString::to_string).collect()
    }
}

/// One run, and what each file that it writes is to hold afterwards.
struct Step {
    words: Vec<OsString>,
    shown: String,
    input: Vec<u8>,
    lacking: Option<Lacking>,
    changes: Vec<Change>,
}

/// What a file is to hold.
#[derive(Debug)]
pub(crate) struct Change {
    /// In the directory.
    pub(crate) name: String,
    pub(crate) content: Vec<u8>,
    /// Whether the file has that content already: the test writes it to the directory just before,
    /// without a flush, and no promise covers it until the run is done.
    pub(crate) is_laid: bool,
}

impl Change {
    pub(crate) fn new(name: impl Into<String>, content: &[u8]) -> Self {
        Self {
            name: name.into(),
            content: content.to_vec(),
            is_laid: false,
        }
    }
}

/// One directory of one author.
struct Desk {
    author: Author,
    /// From the root of the filesystem.
    path: PathBuf,
    histories: Vec<History>,
    failed: Vec<Failed>,
}

impl Desk {
    fn open(root: &Path, author: Author, path: PathBuf, chance: &mut StdRng) -> Result<Self> {
        let mut desk = Self {
            author,
            path,
            histories: Vec::new(),
            failed: Vec::new(),
        };
        fs::create_dir_all(root.join(&desk.path))?;
        let names: &[&str] = match author {
            Author::Many(_) => &many::NAMES,
            _ => &["o"],
        };
        for name in names {
            let is_there =
                !matches!(author, Author::Many(_)) || many::is_there_from_the_beginning(name);
            let path = desk.path.join(name);
            let mode = author.sync().filter(|_| is_there).map(|_| MODE);
            let mut history = History::new(&path, author, mode);
            if is_there {
                let first = content(chance);
                fs::write(root.join(&path), &first)?;
                fs::set_permissions(root.join(&path), PermissionsExt::from_mode(MODE))?;
                history.versions.push(Version {
                    content: first,
                    by: "the first".to_owned(),
                    begun: 0,
                    done: Some(0),
                });
            }
            desk.histories.push(history);
        }
        Ok(desk)
    }

    fn newest(&self) -> &[u8] {
        self.histories[0].newest().unwrap_or_default()
    }

    /// Returns where the sources of `-t` are; not in the directory that is written to.
    fn sources(&self, aside: &Path) -> PathBuf {
        many::sources(aside, &self.path)
    }

    fn step(
        &self,
        ground: &Ground,
        root: &Path,
        aside: &Path,
        number: usize,
        chance: &mut StdRng,
    ) -> Result<Step> {
        match self.author {
            Author::Many(sync) => self.step_of_many(ground, sync, root, aside, number, chance),
            _ => Ok(self.step_of_one(ground, number, chance)),
        }
    }

    /// Lays out the sources, and what is there already.
    fn step_of_many(
        &self,
        ground: &Ground,
        sync: Sync,
        root: &Path,
        aside: &Path,
        number: usize,
        chance: &mut StdRng,
    ) -> Result<Step> {
        let sources = self.sources(aside);
        fs::create_dir_all(&sources)?;
        let run = many::Run::choose(&self.histories, number, chance);
        for Change {
            name,
            content,
            is_laid,
        } in &run.changes
        {
            fs::write(sources.join(name), content)?;
            if *is_laid {
                fs::write(root.join(&self.path).join(name), content)?;
            }
        }
        Ok(Step {
            words: run.words(ground, sync, &sources),
            shown: run.shown(sync),
            input: Vec::new(),
            lacking: run.flush.lacking(),
            changes: run.changes,
        })
    }

    fn step_of_one(&self, ground: &Ground, number: usize, chance: &mut StdRng) -> Step {
        let input = content(chance);
        let Author::Atomwrite(sync) = self.author else {
            let words = self.author.program().words(ground);
            let shown = self.author.program().shown().to_owned();
            return Step {
                words,
                shown,
                lacking: None,
                changes: vec![Change::new("o", &input)],
                input,
            };
        };
        let form = Form::ALL[chance.random_range(0..Form::ALL.len())];
        let new = match form {
            Form::CreateDirs => format!("new{number}/o"),
            _ => format!("new{number}"),
        };
        let words = form.words(&new);
        let changes = match form {
            Form::Stdin | Form::Source | Form::Command => vec![Change::new("o", &input)],
            Form::Append => vec![Change::new("o", &[self.newest(), &input].concat())],
            Form::Backup => vec![Change::new("o~", self.newest()), Change::new("o", &input)],
            Form::NoClobber | Form::CreateDirs => vec![Change::new(new, &input)],
        };
        let shown = format!("atomwrite {} {}", sync.option(), words.join(" "));
        Step {
            words: atomwrite(ground, [sync.option().to_owned()].into_iter().chain(words)),
            shown,
            input,
            lacking: None,
            changes,
        }
    }

    fn take(&mut self, root: &Path, aside: &Path, step: Step, log: &Log) -> Result<()> {
        let directory = root.join(&self.path);
        if !matches!(self.author, Author::Many(_)) {
            fs::write(directory.join("src"), &step.input)?;
        }
        let begun = log.position();
        let ended = run_lacking(step.lacking, &step.words, &directory, aside, &step.input)?;
        let done = log.position();
        let harm = ended.harm();
        if let Some(harm) = harm {
            let shown = format!(
                "'{}' in {}: {}",
                step.shown,
                self.path.display(),
                ended.summary()
            );
            self.failed.push(Failed {
                author: self.author,
                harm,
                shown,
            });
        }
        for change in step.changes {
            let path = self.path.join(change.name);
            let at = self
                .histories
                .iter()
                .position(|history| history.path == path)
                .unwrap_or_else(|| {
                    self.histories.push(History::new(&path, self.author, None));
                    self.histories.len() - 1
                });
            let version = Version {
                content: change.content,
                by: step.shown.clone(),
                begun: if change.is_laid { done } else { begun },
                done: harm.is_none().then_some(done),
            };
            self.histories[at].versions.push(version);
        }
        Ok(())
    }
}

/// Authors that take turns.
pub(crate) struct Writers<'a> {
    ground: &'a Ground,
    filesystem: Filesystem,
    root: &'a Path,
    log: Log,
    path: PathBuf,
    desks: Vec<Desk>,
    chance: StdRng,
    synced: Vec<Synced>,
}

impl<'a> Writers<'a> {
    /// Makes the directories and the first versions.
    pub(crate) fn prepare(
        ground: &'a Ground,
        filesystem: Filesystem,
        root: &'a Path,
        log: Log,
        name: &str,
        seed: u64,
    ) -> Result<Self> {
        let mut chance = StdRng::seed_from_u64(seed);
        let path = PathBuf::from(name);
        let mut desks = Vec::new();
        fs::create_dir_all(root.join(&path).join("aside"))?;
        for author in Author::all() {
            for number in 0..DIRECTORIES {
                let name = match author {
                    Author::Atomwrite(sync) => format!("{sync:?}{number}"),
                    Author::Many(sync) => format!("many{sync:?}{number}"),
                    Author::Other(program) => format!("{program:?}{number}"),
                };
                desks.push(Desk::open(root, author, path.join(name), &mut chance)?);
            }
        }
        Ok(Self {
            ground,
            filesystem,
            root,
            log,
            path,
            desks,
            chance,
            synced: Vec::new(),
        })
    }

    /// Runs `steps` programs, one after the other.
    pub(crate) fn work(&mut self, steps: usize) -> Result<()> {
        let aside = self.root.join(&self.path).join("aside");
        for number in 0..steps {
            let at = self.choose_desk();
            let desk = &mut self.desks[at];
            let step = desk.step(self.ground, self.root, &aside, number, &mut self.chance)?;
            desk.take(self.root, &aside, step, &self.log)?;
            self.other_activity(number)
                .context("what others do on the filesystem")?;
        }
        Ok(())
    }

    fn choose_desk(&mut self) -> usize {
        loop {
            let at = self.chance.random_range(0..self.desks.len());
            let weight = match self.desks[at].author {
                Author::Atomwrite(Sync::None) | Author::Many(Sync::None) => 0.5,
                Author::Atomwrite(_) | Author::Many(_) => 1.0,
                // It takes twenty times as long to start as all others.
                Author::Other(crate::programs::Program::Python) => 0.15,
                Author::Other(_) => 0.4,
            };
            if self.chance.random_bool(weight) {
                return at;
            }
        }
    }

    /// Does what other programs and the kernel do: writes and syncs other files, and writes back
    /// dirty pages.
    fn other_activity(&mut self, number: usize) -> Result<()> {
        let other = self
            .root
            .join(&self.path)
            .join(format!("aside/{}", self.chance.random_range(0..8)));
        match self.chance.random_range(0..100) {
            0..25 => fs::write(&other, content(&mut self.chance))?,
            25..40 => {
                fs::write(&other, content(&mut self.chance))?;
                File::open(&other)?.sync_all()?;
            }
            40..50 if other.exists() => fs::remove_file(&other)?,
            50..60 => {
                let desk = &self.desks[self.chance.random_range(0..self.desks.len())];
                let file = File::open(self.root.join(&desk.histories[0].path))?;
                // Begins to write what is dirty.
                posix_fadvise(&file, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED)?;
            }
            60..62 => {
                let begun = self.log.position();
                syncfs(&File::open(self.root)?)?;
                self.synced.push(Synced {
                    begun,
                    done: self.log.position(),
                });
            }
            62..72 => {
                if let Some(command) = self.filesystem.commit() {
                    let name = format!("commit{number}");
                    self.call(command.iter().copied().chain([name.as_str()]))?;
                }
            }
            // As a timer does it once a week.
            72 => self.call(["fstrim", "."].into_iter())?,
            _ => {}
        }
        Ok(())
    }

    /// Runs a tool of the filesystem.
    fn call<'w>(&self, words: impl Iterator<Item = &'w str>) -> Result<()> {
        let words: Vec<OsString> = words.map(OsString::from).collect();
        let aside = self.root.join(&self.path).join("aside");
        let ended = run(&words, &aside, &aside, &[])?;
        ensure!(ended.is_success(), "{words:?}: {}", ended.summary());
        Ok(())
    }

    pub(crate) fn into_record(self) -> Record {
        let mut record = Record {
            synced: self.synced,
            ..Record::default()
        };
        for desk in self.desks {
            record.add(Record {
                histories: desk.histories,
                synced: Vec::new(),
                failed: desk.failed,
            });
        }
        record
    }
}

/// From 100 bytes to 300 KiB, small ones more often; none of them is zero.
pub(crate) fn content(chance: &mut StdRng) -> Vec<u8> {
    let size = 2_f64.powf(chance.random_range(100_f64.log2()..307_200_f64.log2()));
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "it is between 100 and LARGEST"
    )]
    let size = (size as usize).min(LARGEST);
    let number: u64 = chance.random();
    let mut content = format!("version {number:016x} of {size} bytes\n").into_bytes();
    let pattern: Vec<u8> = (0..1021)
        .map(|_| chance.random_range(b'!'..=b'~'))
        .collect();
    content.extend(
        pattern
            .iter()
            .cycle()
            .take(size.saturating_sub(content.len())),
    );
    content
}
