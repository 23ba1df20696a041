//! The sandbox of a test: a directory of its own, and functions that read and set what is in it.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{MetadataExt, PermissionsExt, lchown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use tempfile::TempDir;

use crate::harness::{Run, each, is_temporary, tool, words};

/// A user and a group that own nothing.
pub(crate) const NOBODY: u32 = 65534;

// ---- What a test needs of the machine ----

/// The binary under test, at the path where it was built.
pub(crate) fn binary() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_atomwrite"))
}

// ---- The directory ----

/// A directory for one test, removed at its end.
pub(crate) struct Sandbox {
    pub(crate) ground: TempDir,
    pub(crate) root: PathBuf,
    pub(crate) aside: TempDir,
    pub(crate) reachable: OnceLock<PathBuf>,
}

impl Sandbox {
    /// In $ATOMWRITE_TEST_DIR, or where temporary files go.
    pub(crate) fn new() -> Self {
        let parent =
            std::env::var_os("ATOMWRITE_TEST_DIR").map_or_else(std::env::temp_dir, PathBuf::from);
        Self::in_dir(&parent)
    }

    /// With one file in it already.
    pub(crate) fn with(name: &str, content: impl AsRef<[u8]>) -> Self {
        let sandbox = Self::new();
        sandbox.write(name, content);
        sandbox
    }

    /// With an `out` that holds this, or without one if that is nothing.
    pub(crate) fn holding(old: &str) -> Self {
        let sandbox = Self::new();
        if !old.is_empty() {
            sandbox.write("out", old);
        }
        sandbox
    }

    /// In a given directory: a mount, for example.
    pub(crate) fn in_dir(parent: &Path) -> Self {
        let open_to_all = |parent: &Path| {
            let directory = tempfile::Builder::new()
                .prefix("atomwrite-test-")
                .tempdir_in(parent)
                .unwrap_or_else(|error| panic!("no directory in {}: {error}", parent.display()));
            fs::set_permissions(directory.path(), Permissions::from_mode(0o755)).unwrap();
            directory
        };
        let ground = open_to_all(parent);
        let root = fs::canonicalize(ground.path()).unwrap();
        let aside = open_to_all(&std::env::temp_dir());
        Self {
            ground,
            root,
            aside,
            reachable: OnceLock::new(),
        }
    }

    /// A directory that is there already: another sandbox, as another mount shows it.
    pub(crate) fn shown_at(root: PathBuf) -> Self {
        let mut sandbox = Self::new();
        sandbox.root = root;
        sandbox
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.root.join(name)
    }

    /// A path beside the sandbox, for traces and the like, that is not counted among its names.
    pub(crate) fn aside(&self, name: impl AsRef<Path>) -> PathBuf {
        self.aside.path().join(name)
    }

    /// Writes a file of mode 0644, whatever the umask.
    pub(crate) fn write(&self, name: impl AsRef<Path>, content: impl AsRef<[u8]>) -> PathBuf {
        self.write_with_mode(name, content, 0o644)
    }

    pub(crate) fn write_with_mode(
        &self,
        name: impl AsRef<Path>,
        content: impl AsRef<[u8]>,
        mode: u32,
    ) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, content).unwrap();
        self.chmod(&path, mode);
        path
    }

    /// Makes a directory of mode 0755, whatever the umask.
    pub(crate) fn mkdir(&self, name: impl AsRef<Path>) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(&path).unwrap();
        self.chmod(&path, 0o755);
        path
    }

    pub(crate) fn symlink(&self, target: impl AsRef<Path>, name: impl AsRef<Path>) -> PathBuf {
        let path = self.path(name);
        symlink(target, &path).unwrap();
        path
    }

    pub(crate) fn hard_link(&self, old: impl AsRef<Path>, new: impl AsRef<Path>) {
        fs::hard_link(self.path(old), self.path(new)).unwrap();
    }

    pub(crate) fn fifo(&self, name: impl AsRef<Path>) -> PathBuf {
        let path = self.path(name);
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &path,
            rustix::fs::FileType::Fifo,
            0o644.into(),
            0,
        )
        .unwrap();
        path
    }

    pub(crate) fn chmod(&self, name: impl AsRef<Path>, mode: u32) {
        fs::set_permissions(self.path(name), Permissions::from_mode(mode)).unwrap();
    }

    /// Gives a name (a link itself, not what it names) to another owner. Set-id bits go, as they
    /// always do.
    pub(crate) fn chown(&self, name: impl AsRef<Path>, uid: u32, gid: u32) {
        lchown(self.path(name), Some(uid), Some(gid)).unwrap();
    }

    /// Gives the sandbox itself to a user, who may then write in it.
    pub(crate) fn give_to(&self, uid: u32, gid: u32) {
        self.chown("", uid, gid);
    }

    #[track_caller]
    pub(crate) fn read(&self, name: impl AsRef<Path>) -> Vec<u8> {
        let path = self.path(name);
        fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    /// The content as text, for assertions that can be read.
    #[track_caller]
    pub(crate) fn text(&self, name: impl AsRef<Path>) -> String {
        String::from_utf8_lossy(&self.read(name)).into_owned()
    }

    /// What lstat says.
    #[track_caller]
    pub(crate) fn stat(&self, name: impl AsRef<Path>) -> fs::Metadata {
        let path = self.path(name);
        fs::symlink_metadata(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    /// The twelve bits that chmod sets.
    #[track_caller]
    pub(crate) fn mode(&self, name: impl AsRef<Path>) -> u32 {
        self.stat(name).mode() & 0o7777
    }

    #[track_caller]
    pub(crate) fn owner(&self, name: impl AsRef<Path>) -> (u32, u32) {
        let stat = self.stat(name);
        (stat.uid(), stat.gid())
    }

    #[track_caller]
    pub(crate) fn inode(&self, name: impl AsRef<Path>) -> u64 {
        self.stat(name).ino()
    }

    /// An extended attribute, if it is there.
    #[track_caller]
    pub(crate) fn xattr(&self, name: impl AsRef<Path>, attribute: &str) -> Option<Vec<u8>> {
        let mut value = vec![0; 65536];
        match rustix::fs::lgetxattr(self.path(name), attribute, &mut value[..]) {
            Ok(length) => {
                value.truncate(length);
                Some(value)
            }
            Err(rustix::io::Errno::NODATA | rustix::io::Errno::OPNOTSUPP) => None,
            Err(error) => panic!("{attribute}: {error}"),
        }
    }

    /// Sets an extended attribute; false where the filesystem has none of that kind, or root may
    /// not set it.
    #[track_caller]
    pub(crate) fn set_xattr(&self, name: impl AsRef<Path>, attribute: &str, value: &[u8]) -> bool {
        let flags = rustix::fs::XattrFlags::empty();
        match rustix::fs::lsetxattr(self.path(name), attribute, value, flags) {
            Ok(()) => true,
            Err(rustix::io::Errno::OPNOTSUPP) => false,
            Err(rustix::io::Errno::PERM) if attribute.starts_with("trusted.") => false,
            Err(error) => panic!("{attribute}: {error}"),
        }
    }

    /// `setfacl SPEC... NAME`; false where the filesystem has no ACLs.
    #[track_caller]
    pub(crate) fn setfacl(&self, name: impl AsRef<Path>, arguments: &[&str]) -> bool {
        let output = Command::new("setfacl")
            .args(arguments)
            .arg(self.path(name))
            .env("LC_ALL", "C")
            .output()
            .unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        if stderr.contains("not supported") {
            return false;
        }
        assert!(output.status.success(), "setfacl: {stderr}");
        true
    }

    /// What getfacl shows, without its header.
    #[track_caller]
    pub(crate) fn acl(&self, name: impl AsRef<Path>) -> String {
        let path = self.path(name);
        tool("getfacl", [OsStr::new("-cnpE"), path.as_os_str()])
            .trim()
            .to_owned()
    }

    /// Every name in the sandbox and its directories, hidden ones too, sorted, as paths from its
    /// root.
    pub(crate) fn names(&self) -> Vec<OsString> {
        self.census().into_keys().collect()
    }

    /// The same, but for the new file of a run that waits or was killed, which has a name over the
    /// POSIX backend.
    pub(crate) fn names_besides_drafts(&self) -> Vec<OsString> {
        let mut census = self.census();
        census.retain(|name, entry| {
            let is_draft =
                entry.kind.is_file() && is_temporary(name) && name.as_bytes().ends_with(b".tmp");
            !(cfg!(atomwrite_posix) && is_draft)
        });
        census.into_keys().collect()
    }

    pub(crate) fn census(&self) -> BTreeMap<OsString, Entry> {
        let mut census = BTreeMap::new();
        self.count_names_below(Path::new(""), &mut census);
        census
    }

    /// All that is in it, in one line: `dir/ dir/file=content link->target other?`.
    pub(crate) fn listing(&self) -> String {
        let census = self.census();
        let shown = census.iter().map(|(name, entry)| {
            let (name, content) = (
                name.to_string_lossy(),
                String::from_utf8_lossy(&entry.content),
            );
            if entry.kind.is_dir() {
                format!("{name}/")
            } else if entry.kind.is_file() {
                format!("{name}={content}")
            } else if entry.kind.is_symlink() {
                format!("{name}->{content}")
            } else {
                format!("{name}?")
            }
        });
        shown.collect::<Vec<_>>().join(" ")
    }

    /// Has a shell do something in it.
    #[track_caller]
    pub(crate) fn sh(&self, script: &str) {
        let mut shell = Command::new("sh");
        shell.args(["-c", script]).current_dir(&self.root);
        assert!(shell.status().unwrap().success(), "{script}");
    }

    pub(crate) fn count_names_below(
        &self,
        directory: &Path,
        census: &mut BTreeMap<OsString, Entry>,
    ) {
        let path = self.path(directory);
        let entries = match fs::read_dir(&path) {
            Ok(entries) => entries,
            // A test removed its own permission to read; root always has it, and then sees all
            // names.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return,
            Err(error) => panic!("{}: {error}", path.display()),
        };
        for entry in entries {
            let name = directory.join(entry.unwrap().file_name());
            let path = self.path(&name);
            // If other processes run, a name may go between the list and this call.
            let Ok(stat) = fs::symlink_metadata(&path) else {
                continue;
            };
            census.insert(name.clone().into_os_string(), Entry::of(&path, &stat));
            if stat.is_dir() && stat.dev() == fs::metadata(&self.root).unwrap().dev() {
                self.count_names_below(&name, census);
            }
        }
    }

    /// Returns a run of atomwrite in this sandbox, to be described and started.
    pub(crate) fn atomwrite<S: Into<OsString>>(
        &self,
        arguments: impl IntoIterator<Item = S>,
    ) -> Run<'_> {
        Run::new(self, arguments.into_iter().map(Into::into).collect())
    }

    /// The same, with the words as they would be typed: `-b out -- sh -c 'exit 3'`.
    pub(crate) fn run(&self, line: &str) -> Run<'_> {
        Run::new(self, words(line))
    }

    /// Tries command lines that must fail: each with its stdin, its status and a part of the
    /// message.
    #[track_caller]
    pub(crate) fn fail_each(&self, cases: &[(&str, &str, i32, &str)]) {
        each(cases, |(line, stdin, status, part)| {
            self.run(line).stdin(*stdin).fails_with(*status, *part);
        });
    }

    /// Tries command lines that must be refused before any input is read: each with its status and
    /// a part of the message.
    #[track_caller]
    pub(crate) fn refuse_each(&self, cases: &[(&str, i32, &str)]) {
        each(cases, |(line, status, part)| {
            self.run(line).reads_nothing().fails_with(*status, *part);
        });
    }

    /// The binary, where every user can reach it.
    pub(crate) fn reachable_binary(&self) -> &Path {
        self.reachable.get_or_init(|| {
            let open = |path: &Path| fs::metadata(path).is_ok_and(|stat| stat.mode() & 0o001 != 0);
            if binary().ancestors().all(open) {
                return binary().to_owned();
            }
            let copy = self.aside("atomwrite");
            // By cp: if the copy were open for writing here, a child that another thread forks
            // would hold it open too, and executing it would give ETXTBSY.
            tool("cp", [binary(), &copy]);
            fs::set_permissions(&copy, Permissions::from_mode(0o755)).unwrap();
            copy
        })
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        // A directory that a test locked would survive a user who is not root.
        if !rustix::process::geteuid().is_root() {
            let mut chmod = Command::new("chmod");
            // A file that cannot be removed stays: it is only a test's.
            drop(chmod.args(["-R", "u+rwX"]).arg(self.ground.path()).output());
        }
    }
}

/// What must not change about a file that a failed run left alone.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    kind: fs::FileType,
    mode: u32,
    owner: (u32, u32),
    /// None for a directory: a temporary name comes and goes in it.
    file: Option<(u64, u64, [i64; 4])>,
    content: Vec<u8>,
}

impl Entry {
    fn of(path: &Path, stat: &fs::Metadata) -> Self {
        const LARGE: u64 = 1 << 20;
        let content = if stat.is_symlink() {
            fs::read_link(path)
                .unwrap_or_default()
                .into_os_string()
                .into_vec()
        } else if stat.is_file() && stat.len() <= LARGE {
            fs::read(path).unwrap_or_default()
        } else {
            Vec::new()
        };
        let times = [
            stat.mtime(),
            stat.mtime_nsec(),
            stat.ctime(),
            stat.ctime_nsec(),
        ];
        Self {
            kind: stat.file_type(),
            mode: stat.mode(),
            owner: (stat.uid(), stat.gid()),
            file: (!stat.is_dir()).then_some((stat.ino(), stat.len(), times)),
            content,
        }
    }
}
