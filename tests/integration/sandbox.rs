//! The ground of every test: a directory of its own, and runs of the real binary in it that are checked whole.
//!
//! Every run that ends in `succeeds` or `fails` is held to this, whether the test speaks of it or not:
//!
//! * stdout is empty, unless `stdout_says` tells otherwise (`--help`, `--version`);
//! * stderr is empty after a success; a failure is one line of the form in [`check_message`], and ends by saying that
//!   DEST is unchanged where a regular DEST was there before. `says` asks for a part of that line (and that there is
//!   one), `warns` for one more line that is a warning, `hears` for one more that is not of atomwrite at all;
//! * exactly the expected names are in the sandbox, in all its directories: those of before, and DEST after a success
//!   (the last argument, or the one before `-- COMMAND`). `leaves` tells otherwise;
//! * after a failure (all but status 4, and 124 with COMMAND) every file is what it was: inode, content, mode, owner,
//!   times; so it is after a success that `leaves_alone`;
//! * it ends within [`BOUND`].

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File, Permissions};
use std::io::{self, Read, Seek, Write};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{MetadataExt, PermissionsExt, lchown, symlink};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Component, Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Output, Stdio};
use std::sync::{Mutex, OnceLock};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify;
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, kill_process_group, pidfd_open};
use tempfile::TempDir;

/// The longest that a run or a condition is waited for; nothing that is right comes near it.
pub(crate) const BOUND: Duration = Duration::from_secs(120);

/// A user and a group that own nothing.
pub(crate) const NOBODY: u32 = 65534;

// ---- What a test needs of the machine -------------------------------------------------------------------------

/// Ends the test, and says so on the real stderr; fails it where ATOMWRITE_TESTS=all asks for every test.
macro_rules! skip {
    ($($reason:tt)+) => {{
        $crate::sandbox::report_skipped(&format!($($reason)+));
        return;
    }};
}

/// Skips the test unless it can give files away and be another user: root's rights.
macro_rules! needs_root {
    () => {
        if !$crate::sandbox::can_be_others() {
            $crate::sandbox::skip!("needs root");
        }
    };
}

/// Skips the test unless the named programs are on PATH, and strace(1) can do its work here.
macro_rules! needs_tool {
    ($($tool:expr),+) => {
        $(if !$crate::sandbox::has_tool($tool) {
            $crate::sandbox::skip!("needs {}", $tool);
        })+
    };
}

pub(crate) use {needs_root, needs_tool, skip};

/// How often each reason was given.
static SKIPPED: Mutex<BTreeMap<String, usize>> = Mutex::new(BTreeMap::new());

/// Says on the real stderr that the test, or a part of it, does not run here, and counts it for the summary.
pub(crate) fn report_skipped(reason: &str) {
    let thread = thread::current();
    let name = thread.name().unwrap_or("?");
    assert!(
        std::env::var_os("ATOMWRITE_TESTS").is_none_or(|which| which != "all"),
        "{name} cannot run, and ATOMWRITE_TESTS=all asks for every test: {reason}"
    );
    // Not eprintln!, which the test runner holds back.
    let line = format!("SKIPPED {name}: {reason}\n");
    drop(io::stderr().write_all(line.as_bytes()));
    let mut skipped = SKIPPED.lock().unwrap();
    if skipped.is_empty() {
        #[expect(unsafe_code, reason = "the test runner has no other end")]
        // SAFETY: the handler lives as long as the program, and does not unwind.
        unsafe {
            libc::atexit(sum_up_skipped);
        }
    }
    *skipped.entry(reason.to_owned()).or_default() += 1;
}

/// The last words of a run in which something was skipped.
extern "C" fn sum_up_skipped() {
    let Ok(skipped) = SKIPPED.lock() else { return };
    let mut reasons: Vec<_> = skipped.iter().collect();
    reasons.sort_by_key(|(_, times)| std::cmp::Reverse(**times));
    let all: usize = skipped.values().sum();
    let reasons: Vec<_> = reasons
        .iter()
        .map(|(reason, times)| format!("{times} {reason}"))
        .collect();
    let text = format!(
        "{all} tests, or parts of them, were skipped (with ATOMWRITE_TESTS=all they fail):\n{}\n",
        reasons.join("; ")
    );
    drop(io::stderr().write_all(text.as_bytes()));
}

pub(crate) fn has_tool(name: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let there = std::env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/sbin".into()])
        .any(|directory| directory.join(name).is_file());
    there && (name != "strace" || can_trace())
}

/// Tells whether a file can be given to another user, and a program be run as one.
pub(crate) fn can_be_others() -> bool {
    static CAN: OnceLock<bool> = OnceLock::new();
    *CAN.get_or_init(|| {
        let file = tempfile::NamedTempFile::new().unwrap();
        lchown(file.path(), Some(NOBODY), Some(NOBODY)).is_ok()
            && works(Command::new("true").uid(NOBODY).gid(NOBODY))
    })
}

/// Tells whether an ordinary user may make a user namespace, and mount something in it.
pub(crate) fn has_user_namespaces() -> bool {
    static CAN: OnceLock<bool> = OnceLock::new();
    *CAN.get_or_init(|| {
        let words = ["-Urm", "mount", "--bind", "/bin/sh", "/bin/sh"];
        works(Command::new("unshare").args(words))
    })
}

/// Tells whether strace(1) may trace: not in every container.
fn can_trace() -> bool {
    static CAN: OnceLock<bool> = OnceLock::new();
    *CAN.get_or_init(|| works(Command::new("strace").args(["-o", "/dev/null", "true"])))
}

/// Tries a command that shows what this machine allows.
pub(crate) fn works(command: &mut Command) -> bool {
    let tried = command.stdin(Stdio::null()).output();
    tried.is_ok_and(|output| output.status.success())
}

/// Sends a signal to a process that is known by its number as text, as a shell writes it.
#[track_caller]
pub(crate) fn kill(id: &str, signal: Signal) {
    let id = id.trim().parse().unwrap();
    kill_process(Pid::from_raw(id).expect("no process is 0"), signal).unwrap();
}

/// Runs a tool, which must succeed, and gives its stdout.
#[track_caller]
pub(crate) fn tool<S: AsRef<OsStr>>(name: &str, args: impl IntoIterator<Item = S>) -> String {
    let output = Command::new(name)
        .args(args)
        .env("LC_ALL", "C")
        .env("PATH", path_with_sbin())
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| panic!("{name} cannot be run: {error}"));
    assert!(
        output.status.success(),
        "{name}: {}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn path_with_sbin() -> OsString {
    let mut path = std::env::var_os("PATH").unwrap_or_default();
    path.push(":/usr/sbin:/sbin");
    path
}

/// Waits for a condition, not for a time; panics when it does not come.
#[track_caller]
pub(crate) fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < BOUND, "waited in vain until {what}");
        thread::yield_now();
    }
}

/// The binary under test, where whoever built it can reach it.
pub(crate) fn binary() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_atomwrite"))
}

// ---- The directory --------------------------------------------------------------------------------------------

/// A directory for one test, removed at its end.
pub(crate) struct Sandbox {
    ground: TempDir,
    root: PathBuf,
    aside: TempDir,
    reachable: OnceLock<PathBuf>,
}

impl Sandbox {
    /// In $ATOMWRITE_TEST_DIR, or where temporary files go.
    pub(crate) fn new() -> Self {
        let parent =
            std::env::var_os("ATOMWRITE_TEST_DIR").map_or_else(std::env::temp_dir, PathBuf::from);
        Self::in_dir(&parent)
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

    /// Gives a name (a link itself, not what it names) to another owner. Set-id bits go, as they always do.
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

    /// Sets an extended attribute; false where the filesystem has none of that kind, or root may not set it.
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

    /// Every name in the sandbox and its directories, hidden ones too, sorted, as paths from its root.
    pub(crate) fn names(&self) -> Vec<OsString> {
        self.census().into_keys().collect()
    }

    fn census(&self) -> BTreeMap<OsString, Entry> {
        let mut census = BTreeMap::new();
        self.count_names_below(Path::new(""), &mut census);
        census
    }

    fn count_names_below(&self, directory: &Path, census: &mut BTreeMap<OsString, Entry>) {
        let path = self.path(directory);
        let entries = match fs::read_dir(&path) {
            Ok(entries) => entries,
            // A test took its own right to look; root has it always, and then sees all.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return,
            Err(error) => panic!("{}: {error}", path.display()),
        };
        for entry in entries {
            let name = directory.join(entry.unwrap().file_name());
            let path = self.path(&name);
            // In a crowd a name may go while it is looked at.
            let Ok(stat) = fs::symlink_metadata(&path) else {
                continue;
            };
            census.insert(name.clone().into_os_string(), Entry::of(&path, &stat));
            if stat.is_dir() && stat.dev() == fs::metadata(&self.root).unwrap().dev() {
                self.count_names_below(&name, census);
            }
        }
    }

    /// Starts to describe a run of atomwrite in this sandbox.
    pub(crate) fn atomwrite<S: Into<OsString>>(
        &self,
        arguments: impl IntoIterator<Item = S>,
    ) -> Run<'_> {
        Run::new(self, arguments.into_iter().map(Into::into).collect())
    }

    /// The binary, where every user can reach it.
    pub(crate) fn reachable_binary(&self) -> &Path {
        self.reachable.get_or_init(|| {
            let open = |path: &Path| fs::metadata(path).is_ok_and(|stat| stat.mode() & 0o001 != 0);
            if binary().ancestors().all(open) {
                return binary().to_owned();
            }
            let copy = self.aside("atomwrite");
            // By cp: were the copy open for writing here, a child that another thread forks meanwhile would hold it
            // open as well, and to execute it would give ETXTBSY.
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
            // What cannot be removed then stays: it is only a test's.
            drop(chmod.args(["-R", "u+rwX"]).arg(self.ground.path()).output());
        }
    }
}

/// What must not change about a file that a failed run left alone.
#[derive(Debug, PartialEq, Eq)]
struct Entry {
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

// ---- The run --------------------------------------------------------------------------------------------------

/// A run of the binary, described; it happens in `succeeds`, `fails`, `output` or `start`.
#[must_use = "a run happens when its end is told: succeeds, fails, output or start"]
pub(crate) struct Run<'a> {
    sandbox: &'a Sandbox,
    arguments: Vec<OsString>,
    prefix: Vec<OsString>,
    directory: PathBuf,
    stdin: Input,
    stdout: Option<OwnedFd>,
    stderr: Option<OwnedFd>,
    closed: Vec<i32>,
    umask: u32,
    environment: Vec<(OsString, OsString)>,
    user: Option<(u32, u32, Vec<u32>)>,
    file_size: Option<u64>,
    session: bool,
    says: Vec<String>,
    warns: Vec<String>,
    hears: Vec<String>,
    stdout_says: Vec<String>,
    leaves: Option<Vec<OsString>>,
    reaches_dest: bool,
    replaces: bool,
}

/// What stdin is.
enum Input {
    /// /dev/null.
    Nothing,
    /// Written into a pipe by a thread, so that no size blocks.
    Bytes(Vec<u8>),
    /// Whatever the test opened: a file at an offset, a socket, a terminal.
    Open(OwnedFd),
    /// A pipe whose other end the test holds.
    Held,
}

impl<'a> Run<'a> {
    fn new(sandbox: &'a Sandbox, arguments: Vec<OsString>) -> Self {
        Self {
            sandbox,
            arguments,
            prefix: Vec::new(),
            directory: sandbox.root.clone(),
            stdin: Input::Nothing,
            stdout: None,
            stderr: None,
            closed: Vec::new(),
            umask: 0o022,
            environment: Vec::new(),
            user: None,
            file_size: None,
            session: false,
            says: Vec::new(),
            warns: Vec::new(),
            hears: Vec::new(),
            stdout_says: Vec::new(),
            leaves: None,
            reaches_dest: true,
            replaces: true,
        }
    }

    /// Gives it these bytes through a pipe. Without any `stdin`, it is /dev/null.
    pub(crate) fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.stdin = Input::Bytes(bytes.into());
        self
    }

    /// Gives it an open descriptor as stdin.
    pub(crate) fn stdin_from(mut self, descriptor: impl Into<OwnedFd>) -> Self {
        self.stdin = Input::Open(descriptor.into());
        self
    }

    /// Makes stdin a pipe that stays open until the test ends it; for `start`.
    pub(crate) fn stdin_held(mut self) -> Self {
        self.stdin = Input::Held;
        self
    }

    /// Sends stdout elsewhere than to the test, which then sees an empty one.
    pub(crate) fn stdout_to(mut self, descriptor: impl Into<OwnedFd>) -> Self {
        self.stdout = Some(descriptor.into());
        self
    }

    /// Sends stderr elsewhere than to the test; its checks are off then.
    pub(crate) fn stderr_to(mut self, descriptor: impl Into<OwnedFd>) -> Self {
        self.stderr = Some(descriptor.into());
        self
    }

    /// Closes these of 0, 1 and 2 before the program starts.
    pub(crate) fn closed(mut self, descriptors: &[i32]) -> Self {
        self.closed = descriptors.to_vec();
        self
    }

    /// Starts it in another directory than the sandbox's root.
    pub(crate) fn current_dir(mut self, directory: impl AsRef<Path>) -> Self {
        self.directory = self.sandbox.path(directory);
        self
    }

    /// 022 if not told.
    pub(crate) fn umask(mut self, umask: u32) -> Self {
        self.umask = umask;
        self
    }

    pub(crate) fn env(mut self, key: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.environment.push((key.into(), value.into()));
        self
    }

    /// Runs it as another user, with these supplementary groups; needs root.
    pub(crate) fn user(mut self, uid: u32, gid: u32, groups: &[u32]) -> Self {
        self.user = Some((uid, gid, groups.to_vec()));
        self
    }

    /// Limits the size of files that it may write (RLIMIT_FSIZE).
    pub(crate) fn file_size_limit(mut self, bytes: u64) -> Self {
        self.file_size = Some(bytes);
        self
    }

    /// Makes the terminal that is its stdin the one that controls it: Ctrl-C typed there is SIGINT.
    pub(crate) fn controlled(mut self) -> Self {
        self.session = true;
        self
    }

    /// Puts a command before the binary: `["strace", "-f", "-o", trace]`.
    pub(crate) fn through<S: Into<OsString>>(
        mut self,
        command: impl IntoIterator<Item = S>,
    ) -> Self {
        self.prefix = command.into_iter().map(Into::into).collect();
        self
    }

    /// Makes every linkat fail, so that a file without a name could get none and a named one must do.
    ///
    /// Needs strace.
    pub(crate) fn without_linkat(self) -> Self {
        self.through([
            "strace",
            "-qq",
            "-o",
            "/dev/null",
            "-e",
            "trace=linkat",
            "-e",
            "inject=linkat:error=ENOENT",
        ])
    }

    /// Expects one line on stderr, with this in it. May be told more than once of the same line.
    pub(crate) fn says(mut self, part: impl Into<String>) -> Self {
        self.says.push(part.into());
        self
    }

    /// Expects one more line on stderr: a warning, with this in it.
    pub(crate) fn warns(mut self, part: impl Into<String>) -> Self {
        self.warns.push(part.into());
        self
    }

    /// Expects one more line on stderr, exactly this, from a program that runs for atomwrite.
    pub(crate) fn hears(mut self, line: impl Into<String>) -> Self {
        self.hears.push(line.into());
        self
    }

    /// Expects this on stdout; without, nothing may be there.
    pub(crate) fn stdout_says(mut self, part: impl Into<String>) -> Self {
        self.stdout_says.push(part.into());
        self
    }

    /// Expects exactly these names in the sandbox afterwards, in place of the rule above.
    pub(crate) fn leaves<S: Into<OsString>>(mut self, names: impl IntoIterator<Item = S>) -> Self {
        let mut names: Vec<_> = names.into_iter().map(Into::into).collect();
        names.sort();
        self.leaves = Some(names);
        self
    }

    /// Expects it to refuse the way to DEST, so that it cannot know whether there is one that is unchanged.
    pub(crate) fn refuses_the_way(mut self) -> Self {
        self.reaches_dest = false;
        self
    }

    /// Runs, and expects status 0.
    #[track_caller]
    pub(crate) fn succeeds(self) -> Done {
        self.ends(0)
    }

    /// Runs, and expects this status.
    #[track_caller]
    pub(crate) fn fails(self, status: i32) -> Done {
        assert_ne!(status, 0);
        self.ends(status)
    }

    /// Runs, and expects it to find nothing to do: this status, and no file is touched. Not a word, but for `says`.
    #[track_caller]
    pub(crate) fn leaves_alone(mut self, status: i32) -> Done {
        self.replaces = false;
        self.ends(status)
    }

    #[track_caller]
    fn ends(mut self, status: i32) -> Done {
        let sandbox = self.sandbox;
        let before = sandbox.census();
        let old_destination = self.reaches_dest && self.destination_is_a_file();
        let replaced = self.replaces && self.means_replaced(status);
        let name = self.destination_name();
        let expected = std::mem::take(&mut self.leaves).unwrap_or_else(|| {
            let mut names: Vec<_> = before.keys().cloned().collect();
            if let Some(name) = name.filter(|_| replaced) {
                names.push(name);
            }
            names.sort();
            names.dedup();
            names
        });
        let says = std::mem::take(&mut self.says);
        let warns = std::mem::take(&mut self.warns);
        let hears = std::mem::take(&mut self.hears);
        let may_change = self.replaces;
        let stdout_says = std::mem::take(&mut self.stdout_says);
        let shown = self.shown();
        let sees_stderr = self.stderr.is_none() && !self.closed.contains(&2);
        let typed = self.destination().cloned().unwrap_or_default();

        let done = self.output();
        let story = format!("{shown}\n{done:?}");

        assert_eq!(done.status.code(), Some(status), "the status of {story}");
        if stdout_says.is_empty() {
            assert!(done.stdout.is_empty(), "stdout is not empty: {story}");
        }
        for part in stdout_says {
            assert!(
                done.stdout.contains(&part),
                "no {part:?} on stdout: {story}"
            );
        }
        if sees_stderr {
            let (warnings, mut lines): (Vec<_>, Vec<_>) = done
                .stderr
                .lines()
                .partition(|line| line.starts_with("atomwrite: warning: "));
            for heard in hears {
                let place = lines.iter().position(|line| *line == heard);
                lines.remove(place.unwrap_or_else(|| panic!("no {heard:?} on stderr: {story}")));
            }
            let one = status != 0 && may_change || !says.is_empty();
            assert_eq!(
                lines.len(),
                usize::from(one),
                "the lines on stderr: {story}"
            );
            assert!(
                done.stderr.is_empty() || done.stderr.ends_with('\n'),
                "the last line does not end: {story}"
            );
            for line in &lines {
                check_message(line);
                for part in &says {
                    assert!(line.contains(part), "no {part:?} on stderr: {story}");
                }
            }
            assert_eq!(
                warnings.len(),
                warns.len(),
                "the warnings on stderr: {story}"
            );
            for line in &warnings {
                check_message(line);
            }
            for part in &warns {
                assert!(
                    warnings.iter().any(|line| line.contains(part)),
                    "no warning of {part:?}: {story}"
                );
            }
            let failed = status != 0 && status != 2 && !replaced && may_change;
            if old_destination && failed {
                let typed = typed.to_string_lossy();
                let end =
                    if typed.contains(|c: char| c.is_control() || c == '\'' || c == '\u{fffd}') {
                        "' is unchanged".to_owned()
                    } else {
                        format!("; '{typed}' is unchanged")
                    };
                assert!(
                    lines[0].ends_with(&end),
                    "does not end with {end:?}: {story}"
                );
            }
        }
        let after = sandbox.census();
        let names: Vec<_> = after.keys().cloned().collect();
        assert_eq!(names, expected, "the names afterwards: {story}");
        if !replaced {
            assert_eq!(after, before, "something has changed: {story}");
        }
        done
    }

    /// Runs, and leaves every check to the test.
    #[track_caller]
    pub(crate) fn output(self) -> Done {
        self.start().wait()
    }

    /// Starts the run and does not wait for it.
    #[track_caller]
    pub(crate) fn start(self) -> Running {
        let shown = self.shown();
        let program = match self.user {
            Some(_) => self.sandbox.reachable_binary(),
            None => binary(),
        };
        let mut command = match self.prefix.split_first() {
            Some((first, rest)) => {
                let mut command = Command::new(first);
                command.args(rest).arg(program);
                command
            }
            None => Command::new(program),
        };
        command
            .args(&self.arguments)
            .current_dir(&self.directory)
            .env_remove("ATOMWRITE_SYNC")
            .env_remove("VERSION_CONTROL")
            .env_remove("SIMPLE_BACKUP_SUFFIX")
            .env_remove("COLUMNS")
            .env_remove("CLICOLOR_FORCE")
            .env("LC_ALL", "C")
            .env("PATH", path_with_sbin())
            .envs(self.environment.iter().map(|(key, value)| (key, value)));
        if !self.session {
            command.process_group(0);
        }
        let (mut bytes, mut held) = (None, false);
        command.stdin(match self.stdin {
            Input::Nothing => Stdio::null(),
            Input::Bytes(content) => {
                bytes = Some(content);
                Stdio::piped()
            }
            Input::Open(descriptor) => descriptor.into(),
            Input::Held => {
                held = true;
                Stdio::piped()
            }
        });
        command.stdout(self.stdout.map_or_else(Stdio::piped, Stdio::from));
        command.stderr(self.stderr.map_or_else(Stdio::piped, Stdio::from));
        let birth = Birth {
            umask: self.umask,
            user: self.user,
            file_size: self.file_size,
            session: self.session,
            closed: self.closed,
        };
        #[expect(unsafe_code, reason = "there is no safe way to close a child's stdin")]
        // SAFETY: between fork and exec only async-signal-safe system calls are made, and nothing is allocated.
        unsafe {
            command.pre_exec(move || birth.apply());
        }
        let mut child = command
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {shown}: {error}"));
        let mut stdin = child.stdin.take();
        let feeder = bytes.map(|bytes| {
            let mut pipe = stdin.take().expect("it was asked for");
            thread::spawn(move || {
                // EPIPE: it failed before it had read all, which the status will tell.
                drop(pipe.write_all(&bytes));
            })
        });
        let stdout = child.stdout.take().map(collect);
        let stderr = child.stderr.take().map(collect);
        Running {
            shown,
            stdin: stdin.filter(|_| held),
            child: Some(child),
            feeder,
            stdout,
            stderr,
        }
    }

    fn shown(&self) -> String {
        let words = self.prefix.iter().chain(&self.arguments);
        let words: Vec<_> = words.map(|word| format!("{word:?}")).collect();
        format!("atomwrite {}", words.join(" "))
    }

    /// Where the `--` stands that begins COMMAND: behind a first operand. A test that has options behind DEST, and then
    /// COMMAND, is not understood.
    fn dash_before_command(&self) -> Option<usize> {
        let dash = self.arguments.iter().position(|word| word == "--")?;
        let before = &self.arguments[dash.checked_sub(1)?];
        let is_command = !before.as_bytes().starts_with(b"-") && dash + 1 < self.arguments.len();
        is_command.then_some(dash)
    }

    fn means_replaced(&self, status: i32) -> bool {
        match self.dash_before_command() {
            None => matches!(status, 0 | 4),
            Some(_) => matches!(status, 0 | 124),
        }
    }

    fn destination(&self) -> Option<&OsString> {
        match self.dash_before_command() {
            Some(dash) => self.arguments.get(dash - 1),
            None => self.arguments.last(),
        }
    }

    fn destination_is_a_file(&self) -> bool {
        self.destination()
            .is_some_and(|destination| self.directory.join(destination).is_file())
    }

    /// DEST as a path from the sandbox's root, if it lies there.
    fn destination_name(&self) -> Option<OsString> {
        let path = self.directory.join(self.destination()?);
        let mut name = PathBuf::new();
        for component in path.strip_prefix(&self.sandbox.root).ok()?.components() {
            match component {
                Component::ParentDir => {
                    name.pop();
                }
                other => name.push(other),
            }
        }
        Some(name.into_os_string()).filter(|name| !name.is_empty())
    }
}

/// What the child does to itself before the program starts.
struct Birth {
    umask: u32,
    user: Option<(u32, u32, Vec<u32>)>,
    file_size: Option<u64>,
    session: bool,
    closed: Vec<i32>,
}

impl Birth {
    #[expect(unsafe_code, reason = "std has no way to do these in a child")]
    fn apply(&self) -> io::Result<()> {
        let check = |result: i32| match result {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        };
        // SAFETY: plain system calls; every pointer is to memory that lives until the call returns.
        unsafe {
            libc::umask(self.umask);
            if let Some(bytes) = self.file_size {
                let limit = libc::rlimit {
                    rlim_cur: bytes,
                    rlim_max: bytes,
                };
                check(libc::setrlimit(libc::RLIMIT_FSIZE, &raw const limit))?;
            }
            if let Some((uid, gid, groups)) = &self.user {
                check(libc::setgroups(groups.len(), groups.as_ptr()))?;
                check(libc::setresgid(*gid, *gid, *gid))?;
                check(libc::setresuid(*uid, *uid, *uid))?;
            }
            if self.session {
                check(libc::setsid().min(0))?;
                check(libc::ioctl(0, libc::TIOCSCTTY, 0))?;
            }
            for &descriptor in &self.closed {
                check(libc::close(descriptor))?;
            }
        }
        Ok(())
    }
}

fn collect(mut pipe: impl Read + Send + 'static) -> JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut all = Vec::new();
        drop(pipe.read_to_end(&mut all));
        all
    })
}

/// A run under way.
pub(crate) struct Running {
    shown: String,
    stdin: Option<ChildStdin>,
    child: Option<Child>,
    feeder: Option<JoinHandle<()>>,
    stdout: Option<JoinHandle<Vec<u8>>>,
    stderr: Option<JoinHandle<Vec<u8>>>,
}

impl Running {
    /// The id of what was started: the prefix's, where there is one.
    pub(crate) fn id(&self) -> u32 {
        self.child.as_ref().expect("it runs").id()
    }

    pub(crate) fn pid(&self) -> Pid {
        Pid::from_child(self.child.as_ref().expect("it runs"))
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).unwrap();
    }

    /// Writes to the held stdin and waits until all of it has been read: the program awaits more input then.
    #[track_caller]
    pub(crate) fn feed(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        let pipe = self.stdin.as_mut().expect("stdin is held");
        pipe.write_all(bytes.as_ref()).unwrap();
        wait_until("the input has been read", || {
            rustix::io::ioctl_fionread(&*pipe).unwrap() == 0
        });
        self
    }

    /// Writes to the held stdin, and waits only for room in the pipe.
    pub(crate) fn feed_on(&mut self, bytes: &[u8]) {
        let pipe = self.stdin.as_mut().expect("stdin is held");
        pipe.write_all(bytes).unwrap();
    }

    /// Ends the held input.
    pub(crate) fn close_stdin(&mut self) {
        self.stdin = None;
    }

    /// Ends the held input, if there is one, and waits for the end.
    #[track_caller]
    pub(crate) fn wait(mut self) -> Done {
        self.close_stdin();
        self.wait_with_input_open()
    }

    /// Waits for the end, which the end of the input must not bring about.
    #[track_caller]
    pub(crate) fn wait_with_input_open(mut self) -> Done {
        let pidfd = pidfd_open(self.pid(), PidfdFlags::empty()).unwrap();
        let start = Instant::now();
        loop {
            let left = BOUND.saturating_sub(start.elapsed());
            let timeout = Timespec {
                tv_sec: left.as_secs().try_into().unwrap(),
                tv_nsec: left.subsec_nanos().into(),
            };
            match poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(&timeout)) {
                Ok(0) => panic!("{} hangs", self.shown),
                Ok(_) => break,
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => panic!("poll: {error}"),
            }
        }
        let status = self.child.take().expect("it ran").wait().unwrap();
        if let Some(feeder) = self.feeder.take() {
            feeder.join().unwrap();
        }
        let gather = |handle: Option<JoinHandle<Vec<u8>>>| {
            handle.map_or_else(Vec::new, |handle| handle.join().unwrap())
        };
        let output = Output {
            status,
            stdout: gather(self.stdout.take()),
            stderr: gather(self.stderr.take()),
        };
        Done {
            status: output.status,
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

impl Drop for Running {
    /// A test that panics leaves no process behind.
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = kill_process_group(Pid::from_child(&child), Signal::KILL);
            drop(child.wait());
        }
    }
}

/// A run that has ended.
pub(crate) struct Done {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Done {
    pub(crate) fn code(&self) -> Option<i32> {
        self.status.code()
    }

    /// The signal that it died by.
    pub(crate) fn signal(&self) -> Option<i32> {
        self.status.signal()
    }
}

impl std::fmt::Debug for Done {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.status)?;
        if !self.stdout.is_empty() {
            write!(f, "\nstdout: {}", self.stdout)?;
        }
        if !self.stderr.is_empty() {
            write!(f, "\nstderr: {}", self.stderr)?;
        }
        Ok(())
    }
}

/// Holds one line of stderr to the form of all messages.
#[track_caller]
pub(crate) fn check_message(line: &str) {
    let text = line
        .strip_prefix("atomwrite: ")
        .unwrap_or_else(|| panic!("does not begin with the program's name: {line}"));
    assert!(!text.ends_with('.'), "ends with a full stop: {line}");
    assert!(
        !text.contains("os error"),
        "names an errno by number: {line}"
    );
    assert!(
        !text.contains("failed to"),
        "not in the words of the contract: {line}"
    );
    assert!(
        !line.contains(|c: char| c.is_control()),
        "has a control character: {line:?}"
    );
    // A word all in capitals is a name: DEST.
    let mut letters = text.chars();
    let capital = letters.next().is_none_or(char::is_uppercase)
        && letters.next().is_none_or(char::is_lowercase);
    assert!(!capital, "does not begin in lower case: {line}");
    assert!(
        line.matches('\'').count() != 1,
        "a quote is not closed: {line}"
    );
}

/// A name of any bytes.
pub(crate) fn os(bytes: &[u8]) -> OsString {
    OsStr::from_bytes(bytes).to_owned()
}

/// Input that tells whether anything has been read of it: a file, whose offset the program shares.
pub(crate) struct Witness(File);

impl Witness {
    pub(crate) fn new() -> Self {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"new").unwrap();
        file.rewind().unwrap();
        Self(file)
    }

    /// The program's end of it.
    pub(crate) fn input(&self) -> File {
        self.0.try_clone().unwrap()
    }

    #[track_caller]
    pub(crate) fn has_not_been_read(mut self) {
        assert_eq!(self.0.stream_position().unwrap(), 0, "input has been read");
    }
}

/// What inotify(7) tells of some files or directories.
pub(crate) struct Watch(OwnedFd);

impl Watch {
    pub(crate) fn of(path: impl AsRef<Path>, events: inotify::WatchFlags) -> Self {
        let flags = inotify::CreateFlags::NONBLOCK | inotify::CreateFlags::CLOEXEC;
        let queue = inotify::init(flags).unwrap();
        inotify::add_watch(&queue, path.as_ref(), events).unwrap();
        Self(queue)
    }

    /// What has happened so far, with the name in the directory where there is one.
    pub(crate) fn events(&self) -> Vec<(inotify::ReadFlags, String)> {
        let mut buffer = [const { MaybeUninit::uninit() }; 4096];
        let mut reader = inotify::Reader::new(&self.0, &mut buffer);
        let mut events = Vec::new();
        while let Ok(event) = reader.next() {
            let name = event.file_name().unwrap_or_default();
            events.push((event.events(), name.to_string_lossy().into_owned()));
        }
        events
    }
}

/// A file open for reading, at its start.
#[track_caller]
pub(crate) fn open(path: impl AsRef<Path>) -> File {
    let path = path.as_ref();
    File::open(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The temporary name that a new file has between link and rename, on a local filesystem.
///
/// Made by FNV-1a, which must stay the same from release to release.
pub(crate) fn derived_name(dest: &str) -> String {
    format!(".atomwrite.{:016x}.tmp", fnv_1a(dest))
}

/// The name of the lock file of a DEST: names that differ only in case share one.
pub(crate) fn lock_name(dest: &str) -> String {
    format!(".atomwrite.{:016x}.lock", fnv_1a(&dest.to_lowercase()))
}

fn fnv_1a(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// Tells whether a name, which may have directories before it, is a temporary one of the program.
pub(crate) fn is_temporary(name: &OsStr) -> bool {
    let name = Path::new(name).file_name().unwrap_or_default();
    name.as_bytes().starts_with(b".atomwrite.")
}

/// Waits until a program of ours sleeps: in `wait` of its own, or in a call that blocks.
pub(crate) fn wait_until_it_sleeps(program: Pid) {
    let id = program.as_raw_nonzero();
    wait_until("it sleeps", || {
        let runs = fs::read_link(format!("/proc/{id}/exe"))
            .is_ok_and(|exe| exe.file_name() == binary().file_name());
        let stat = fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
        runs && stat
            .rsplit(") ")
            .next()
            .is_some_and(|state| state.starts_with('S'))
    });
}

/// Waits until a process has ended.
pub(crate) fn wait_until_gone(id: &str) {
    wait_until("the process has ended", || {
        let stat = fs::read_to_string(format!("/proc/{id}/stat"));
        stat.is_err() || stat.is_ok_and(|stat| stat.rsplit(") ").next().unwrap().starts_with('Z'))
    });
}
