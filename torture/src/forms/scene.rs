//! A directory that was made for one run, and what is found in it.

use std::collections::BTreeMap;
use std::fs::{self, File, Permissions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use nix::sys::stat::{Mode, umask};
use nix::unistd::{getegid, geteuid};
use rustix::fs::{XattrFlags, lgetxattr, llistxattr, lsetxattr};
use tempfile::TempDir;

use super::{Also, Form, Old, Owner, Size, Stdin};
use crate::ground::{Ground, OTHER_USER, THIRD_USER};
use crate::tracer::Feed;

/// The directory for temporary files, on the same filesystem: the best case for those who rename
/// from there.
const TEMPORARY: &str = "tmp";

/// What all runs share: the contents, and files that hold the new one.
#[derive(Debug)]
pub(crate) struct Kit {
    old: Vec<u8>,
    small: Vec<u8>,
    large: Vec<u8>,
    spread: Vec<u8>,
    files: TempDir,
    /// User and group of the runner, and of an old DEST.
    own: (u32, u32),
    old_owner: (u32, u32),
}

/// Before the piece of a spread file, a hole, and a larger one behind.
const HOLE: usize = 1 << 19;

impl Kit {
    /// Makes it beside the scenes, which have links to its files.
    pub(super) fn make(ground: &Ground, above: &Path) -> Result<Self> {
        // What a new file gets depends on it.
        umask(Mode::from_bits_truncate(0o022));
        let own = (geteuid().as_raw(), getegid().as_raw());
        let piece = lines("new", 10_000);
        let mut spread = vec![0; 2 * HOLE];
        spread[HOLE..HOLE + piece.len()].copy_from_slice(&piece);
        let kit = Self {
            old: lines("old", 20_000),
            small: lines("new", 600),
            large: lines("new", 5 << 18),
            spread,
            files: tempfile::Builder::new().prefix("kit.").tempdir_in(above)?,
            own,
            old_owner: if ground.gives_away {
                (OTHER_USER, OTHER_USER)
            } else {
                own
            },
        };
        for size in [Size::Small, Size::Large] {
            fs::write(kit.file(size), kit.input(size)).context("cannot write a source")?;
        }
        kit.write_spread(&piece)
            .context("cannot write a source with holes")?;
        Ok(kit)
    }

    fn write_spread(&self, piece: &[u8]) -> Result<()> {
        let file = File::create(self.file(Size::Spread))?;
        file.write_all_at(piece, HOLE as u64)?;
        file.set_len(self.spread.len() as u64)?;
        // Only then does every filesystem report the holes.
        Ok(file.sync_all()?)
    }

    /// Mode, user and group.
    pub(super) fn appearance(&self, (mode, owner): (u32, Owner)) -> (u32, u32, u32) {
        let (user, group) = self.id(owner);
        (mode, user, group)
    }

    /// User and group.
    pub(crate) fn id(&self, owner: Owner) -> (u32, u32) {
        match owner {
            Owner::Runner => self.own,
            Owner::Old => self.old_owner,
            Owner::Another => (THIRD_USER, THIRD_USER),
        }
    }

    pub(super) fn input(&self, size: Size) -> &[u8] {
        match size {
            Size::Small => &self.small,
            Size::Large => &self.large,
            Size::Spread => &self.spread,
        }
    }

    pub(crate) fn old(&self) -> &[u8] {
        &self.old
    }

    fn file(&self, size: Size) -> PathBuf {
        self.files.path().join(format!("{size:?}"))
    }
}

/// Returns numbered lines, so no two parts of it are equal.
fn lines(word: &str, length: usize) -> Vec<u8> {
    let mut content: Vec<u8> = (0..=length / 12)
        .flat_map(|number| format!("{word} {number:07}\n").into_bytes())
        .collect();
    content.truncate(length);
    content
}

/// Removed when dropped.
pub(crate) struct Scene<'k> {
    kit: &'k Kit,
    destination: &'static str,
    also: &'static [Also],
    directory: TempDir,
}

impl<'k> Scene<'k> {
    pub(crate) fn make(form: &Form, kit: &'k Kit, above: &Path) -> Result<Self> {
        let directory = tempfile::Builder::new()
            .prefix("scene.")
            .tempdir_in(above)?;
        let scene = Self {
            kit,
            destination: form.destination,
            also: form.also,
            directory,
        };
        scene
            .furnish(form)
            .with_context(|| format!("cannot prepare {}", form.shown()))?;
        Ok(scene)
    }

    fn furnish(&self, form: &Form) -> Result<()> {
        let at = |name: &str| self.directory.path().join(name);
        fs::create_dir(self.temporary())?;
        fs::hard_link(self.kit.file(form.size), at("src"))?;
        if form.is_through_link() {
            fs::create_dir(at("far"))?;
            symlink("far/hop", at("o"))?;
            symlink("o", at("far/hop"))?;
        }
        if let Some(older) = form.older {
            let older = at(older);
            older.parent().map_or(Ok(()), fs::create_dir_all)?;
            fs::write(older, "older")?;
        }
        if !form.also.is_empty() {
            fs::create_dir(at("s"))?;
        }
        for file in form.also {
            fs::hard_link(self.kit.file(form.size), at(file.source))?;
            self.furnish_with(file.old, form.size, file.name)?;
        }
        self.furnish_with(form.old, form.size, form.destination)
    }

    /// Makes what is there before.
    fn furnish_with(&self, old: Old, size: Size, name: &str) -> Result<()> {
        let at = |name: &str| self.directory.path().join(name);
        let destination = at(name);
        if let (true, Some(above)) = (old != Old::Nothing, destination.parent()) {
            fs::create_dir_all(above)?;
        }
        let content = match old {
            Old::Nothing => return Ok(()),
            Old::Link => {
                fs::write(at("target"), "another's")?;
                return Ok(symlink("target", destination)?);
            }
            Old::File | Old::Rich => self.kit.old.clone(),
            Old::Equal => self.kit.input(size).to_vec(),
            Old::Similar => {
                let mut content = self.kit.input(size).to_vec();
                *content.last_mut().context("there is no input")? ^= 1;
                content
            }
        };
        fs::write(&destination, content)?;
        let (user, group) = self.kit.id(Owner::Old);
        chown(&destination, Some(user), Some(group))?;
        fs::set_permissions(&destination, Permissions::from_mode(0o640))?;
        if old == Old::Rich {
            for (name, value) in [("user.one", &b"1"[..]), ("user.two", b"2"), (ACL, &acl())] {
                lsetxattr(&destination, name, value, XattrFlags::empty()).with_context(|| name)?;
            }
        }
        Ok(())
    }

    pub(super) fn directory(&self) -> &Path {
        self.directory.path()
    }

    pub(super) fn temporary(&self) -> PathBuf {
        self.directory.path().join(TEMPORARY)
    }

    pub(super) fn stdin(&self, form: &Form) -> Result<(File, Option<Feed<'k>>)> {
        match form.stdin {
            Stdin::Pipe => self.piped(form.size),
            Stdin::File => {
                let file = self.kit.file(form.size);
                Ok((File::open(file).context("cannot open the input")?, None))
            }
            Stdin::Nothing => {
                let nothing = File::open("/dev/null").context("cannot open /dev/null")?;
                Ok((nothing, None))
            }
        }
    }

    /// Returns a small content, which fits into the pipe at once.
    pub(super) fn small_stdin(&self) -> Result<(File, Option<Feed<'k>>)> {
        self.piped(Size::Small)
    }

    fn piped(&self, size: Size) -> Result<(File, Option<Feed<'k>>)> {
        let (feed, reader) = Feed::through_pipe(self.kit.input(size))?;
        Ok((reader, Some(feed)))
    }

    /// Reads everything that is there.
    pub(crate) fn snapshot(&self) -> Result<Seen> {
        let mut others = BTreeMap::new();
        read_into(self.directory.path(), Path::new(""), &mut others)
            .context("cannot read the scene")?;
        let destination = others.remove(Path::new(self.destination));
        let also = self
            .also
            .iter()
            .map(|file| others.remove(Path::new(file.name)))
            .collect();
        Ok(Seen {
            destination,
            also,
            others,
        })
    }
}

/// What is seen of a scene.
#[derive(Debug)]
pub(crate) struct Seen {
    pub(crate) destination: Option<FileState>,
    /// The other files that are written, in their order.
    pub(crate) also: Vec<Option<FileState>>,
    /// All else, by its path; the directory for temporary files itself too.
    pub(crate) others: BTreeMap<PathBuf, FileState>,
}

impl Seen {
    /// Returns the names that are there now, were not there before, and are not among those that
    /// may be there.
    pub(crate) fn beyond(&self, before: &Self, may: &[&str]) -> Vec<PathBuf> {
        let new = self
            .others
            .keys()
            .filter(|name| !before.others.contains_key(*name));
        new.filter(|name| !may.iter().any(|may| Path::new(may) == name.as_path()))
            .cloned()
            .collect()
    }

    /// Returns the names that were there before, and are not there or are another file now.
    pub(crate) fn harmed(&self, before: &Self) -> Vec<PathBuf> {
        let same = |name: &PathBuf, state: &FileState| {
            self.others
                .get(name)
                .is_some_and(|now| now.inode == state.inode && now.content == state.content)
        };
        before
            .others
            .iter()
            .filter(|(name, state)| !same(name, state))
            .map(|(name, _)| name.clone())
            .collect()
    }
}

/// The attributes of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FileState {
    inode: u64,
    /// With the kind.
    mode: u32,
    owner: (u32, u32),
    pub(crate) modified: (i64, i64),
    changed: (i64, i64),
    links: u64,
    attributes: Vec<(String, Vec<u8>)>,
    /// Of a link, what it points to.
    pub(crate) content: Vec<u8>,
}

impl FileState {
    /// Mode, user and group.
    pub(crate) fn appearance(&self) -> (u32, u32, u32) {
        (self.mode & 0o7777, self.owner.0, self.owner.1)
    }

    pub(crate) fn attributes(&self) -> &[(String, Vec<u8>)] {
        &self.attributes
    }

    /// Returns whether a user sees no difference: but for inode and times.
    pub(crate) fn seems(&self, other: &Self) -> bool {
        let with_our_own = Self {
            inode: self.inode,
            modified: self.modified,
            ..other.clone()
        };
        self.is_but_for_links(&with_our_own)
    }

    /// Returns whether nothing has changed except hard links and the time of the last change.
    pub(crate) fn is_but_for_links(&self, other: &Self) -> bool {
        let with_our_own = Self {
            changed: self.changed,
            links: self.links,
            ..other.clone()
        };
        *self == with_our_own
    }

    pub(crate) fn is_same_as(&self, other: &Self) -> bool {
        self.inode == other.inode && self.content == other.content
    }

    pub(crate) fn is_same_file(&self, other: &Self) -> bool {
        self.inode == other.inode
    }

    pub(crate) fn size(&self) -> usize {
        self.content.len()
    }

    pub(crate) fn is_file(&self) -> bool {
        self.mode & libc::S_IFMT == libc::S_IFREG
    }

    pub(crate) fn is_directory(&self) -> bool {
        self.mode & libc::S_IFMT == libc::S_IFDIR
    }
}

fn read_into(
    directory: &Path,
    inside: &Path,
    all: &mut BTreeMap<PathBuf, FileState>,
) -> Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let (path, name) = (entry.path(), inside.join(entry.file_name()));
        let seen = fs::symlink_metadata(&path)?;
        let content = match seen.file_type() {
            // The sources are the same for all, and are not read each time.
            kind if kind.is_file() && (name == Path::new("src") || name.starts_with("s")) => {
                seen.len().to_string().into_bytes()
            }
            kind if kind.is_file() => fs::read(&path)?,
            kind if kind.is_symlink() => fs::read_link(&path)?.as_os_str().as_bytes().to_vec(),
            kind if kind.is_dir() => {
                read_into(&path, &name, all)?;
                Vec::new()
            }
            _ => Vec::new(),
        };
        let state = FileState {
            inode: seen.ino(),
            mode: seen.mode(),
            owner: (seen.uid(), seen.gid()),
            modified: (seen.mtime(), seen.mtime_nsec()),
            changed: (seen.ctime(), seen.ctime_nsec()),
            links: seen.nlink(),
            attributes: attributes(&path)?,
            content,
        };
        all.insert(name, state);
    }
    Ok(())
}

fn attributes(path: &Path) -> Result<Vec<(String, Vec<u8>)>> {
    let mut names = vec![0; 4096];
    let length = llistxattr(path, &mut names).context("cannot list attributes")?;
    let mut all = Vec::new();
    for name in names[..length]
        .split(|byte| *byte == 0)
        .filter(|name| !name.is_empty())
    {
        let mut value = vec![0; 4096];
        let length = lgetxattr(path, name, &mut value).context("cannot read an attribute")?;
        value.truncate(length);
        all.push((String::from_utf8_lossy(name).into_owned(), value));
    }
    all.sort();
    Ok(all)
}

const ACL: &str = "system.posix_acl_access";

/// `u::rw-,u:1:rw-,g::r--,m::r--,o::---` as the kernel takes it. The mask is the mode's group bits.
fn acl() -> Vec<u8> {
    let entry = |tag: u16, may: u16, whom: u32| {
        [
            &tag.to_le_bytes()[..],
            &may.to_le_bytes(),
            &whom.to_le_bytes(),
        ]
        .concat()
    };
    let no_id = u32::MAX;
    let entries = [
        entry(0x01, 6, no_id),
        entry(0x02, 6, 1),
        entry(0x04, 4, no_id),
        entry(0x10, 4, no_id),
        entry(0x20, 0, no_id),
    ];
    [&2_u32.to_le_bytes()[..], &entries.concat()].concat()
}
