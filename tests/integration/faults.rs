//! Every system call that can fail, made to fail, one call and one error at a time.
//!
//! What the contract says: any failure before the commit leaves DEST, its attributes and its mtime as they were; nothing
//! is left behind, no temporary file and no directory; status 0 means new, 1 and 3 untouched, 4 new but not vouched for;
//! each failure is one line that names the path.
//!
//! A clean run under strace tells which calls a form of the program makes. Then each of them fails in turn, with each
//! error that it may have, in a run of its own, and whatever the program makes of it must keep those rules. Where it has
//! no choice ([`verdict`]), the status must be that one.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

use crate::mounts::{Mount, needs_mounts};
use crate::sandbox::{NOBODY, Sandbox, check_message, needs_root, needs_tool, open};
use crate::strace::{Call, Strace, Trace};

/// A way to use the program.
struct Form {
    arguments: &'static [&'static str],
    prepare: fn(&Sandbox),
    /// What is injected in every run of it, the clean one too: `linkat:error=EOPNOTSUPP` gives the named file.
    always: Option<&'static str>,
    /// Whether a warning may stand in for an attribute that was not kept.
    may_warn: bool,
}

/// The form that most others change in one point.
const PLAIN: Form = Form {
    arguments: &["out"],
    prepare: |_| {},
    always: None,
    may_warn: false,
};

const INPUT_SIZE: usize = 10_000;

fn input() -> Vec<u8> {
    b"new\n".repeat(INPUT_SIZE / 4)
}

#[test]
fn stdin_to_a_new_name_survives_every_error() {
    needs_tool!("strace");
    PLAIN.survives_every_error();
}

#[test]
fn stdin_to_an_existing_name_survives_every_error() {
    needs_root!();
    needs_tool!("strace", "setfacl");
    Form {
        arguments: &["--keep=all", "out"],
        prepare: adorned_destination,
        ..PLAIN
    }
    .survives_every_error();
}

#[test]
fn keep_try_survives_every_error_with_a_warning_at_most() {
    needs_root!();
    needs_tool!("strace", "setfacl");
    Form {
        prepare: adorned_destination,
        may_warn: true,
        ..PLAIN
    }
    .survives_every_error();
}

#[test]
fn a_source_with_holes_survives_every_error() {
    needs_root!();
    needs_tool!("strace", "setfacl");
    Form {
        arguments: &["--keep=all", "src", "out"],
        prepare: |sandbox| {
            adorned_destination(sandbox);
            sandbox.write("src", input());
            spread(&sandbox.path("src"));
        },
        ..PLAIN
    }
    .survives_every_error();
}

#[test]
fn a_file_as_stdin_survives_every_error() {
    needs_tool!("strace");
    Form {
        prepare: |sandbox| {
            sandbox.write("out", "old");
            fs::write(sandbox.aside("stdin"), input()).unwrap();
            spread(&sandbox.aside("stdin"));
        },
        may_warn: true,
        ..PLAIN
    }
    .survives_every_error();
}

/// Makes a file of two pieces with a hole between them and one behind.
fn spread(file: &Path) {
    let file = File::options().write(true).open(file).unwrap();
    file.write_all_at(&input(), 1 << 19).unwrap();
    file.set_len(1 << 20).unwrap();
    // Only then does every filesystem tell of the holes.
    file.sync_all().unwrap();
}

#[test]
fn no_clobber_survives_every_error() {
    needs_tool!("strace");
    Form {
        arguments: &["-n", "out"],
        ..PLAIN
    }
    .survives_every_error();
}

#[test]
fn created_directories_survive_every_error() {
    needs_tool!("strace");
    Form {
        arguments: &["-D", "one/two/out"],
        ..PLAIN
    }
    .survives_every_error();
}

#[test]
fn a_write_without_sync_survives_every_error() {
    needs_tool!("strace");
    Form {
        arguments: &["--sync=none", "out"],
        prepare: |sandbox| {
            sandbox.write("out", "old");
        },
        may_warn: true,
        ..PLAIN
    }
    .survives_every_error();
}

#[test]
fn a_file_with_a_name_survives_every_error() {
    needs_root!();
    needs_tool!("strace", "setfacl");
    Form {
        arguments: &["--keep=all", "out"],
        prepare: adorned_destination,
        always: Some("linkat:error=EOPNOTSUPP"),
        ..PLAIN
    }
    .survives_every_error();
}

// There it clones, and syncs once more when the file has its name.
#[test]
fn a_source_on_btrfs_survives_every_error() {
    needs_mounts!();
    needs_tool!("strace", "setfacl", "mkfs.btrfs");
    let mount = Mount::btrfs();
    Form {
        arguments: &["--keep=all", "src", "out"],
        prepare: |sandbox| {
            adorned_destination(sandbox);
            sandbox.write("src", input());
            spread(&sandbox.path("src"));
        },
        ..PLAIN
    }
    .survives_every_error_in(|| Sandbox::in_dir(mount.path()));
}

#[test]
fn a_file_with_a_name_in_created_directories_survives_every_error() {
    needs_tool!("strace");
    Form {
        arguments: &["-D", "one/two/out"],
        always: Some("linkat:error=EOPNOTSUPP"),
        may_warn: true,
        ..PLAIN
    }
    .survives_every_error();
}

#[test]
fn a_chain_of_links_and_chosen_attributes_survive_every_error() {
    needs_root!();
    needs_tool!("strace");
    Form {
        arguments: &["-m", "u=rw,go=", "-o", "65534", "-g", "65534", "out"],
        prepare: |sandbox| {
            sandbox.mkdir("far");
            sandbox.write("far/target", "old");
            sandbox.symlink("target", "far/hop");
            sandbox.symlink("far/hop", "out");
        },
        ..PLAIN
    }
    .survives_every_error();
}

#[test]
fn a_replaced_link_survives_every_error() {
    needs_tool!("strace");
    Form {
        arguments: &["--no-dereference", "out"],
        prepare: |sandbox| {
            sandbox.write("target", "theirs");
            sandbox.symlink("target", "out");
        },
        ..PLAIN
    }
    .survives_every_error();
}

#[test]
fn a_clean_up_that_fails_does_not_hide_the_error_and_is_made_up_for() {
    needs_tool!("strace");
    for named in [None, Some("linkat:error=EOPNOTSUPP")] {
        let sandbox = Sandbox::new();
        sandbox.write("out", "old");
        let mut strace = Strace::new()
            .inject("rename,renameat,renameat2:error=EIO")
            .inject("unlink,unlinkat:error=EROFS");
        if let Some(named) = named {
            strace = strace.inject(named);
        }
        let done = sandbox
            .atomwrite(["out"])
            .stdin("new")
            .through(strace.command())
            .output();
        assert_eq!(done.code(), Some(1), "{done:?}");
        assert_eq!(done.stderr.lines().count(), 1, "{done:?}");
        assert!(
            done.stderr
                .ends_with(": input/output error; 'out' is unchanged\n"),
            "{done:?}"
        );
        assert_eq!(sandbox.text("out"), "old");
        assert_eq!(sandbox.names().len(), 2, "the injection had no effect");
        sandbox
            .atomwrite(["out"])
            .stdin("new")
            .leaves(["out"])
            .succeeds();
    }
}

#[test]
fn calls_that_are_interrupted_again_and_again_are_made_again() {
    needs_tool!("strace");
    let sandbox = Sandbox::new();
    let clean = Strace::new();
    sandbox
        .atomwrite(["out"])
        .stdin(input())
        .through(clean.command())
        .succeeds();
    let trace = clean.trace();
    for name in ["read", "write", "flock", "openat"] {
        let first = trace
            .own()
            .iter()
            .find(|call| call.is(name) && (name != "write" || call.on_draft()))
            .unwrap_or_else(|| panic!("no {name} in {trace}"));
        let last = first.nth + 4;
        let strace =
            Strace::new().inject(&format!("{name}:error=EINTR:when={}..{last}", first.nth));
        sandbox.write("out", "old");
        sandbox
            .atomwrite(["out"])
            .stdin(input())
            .through(strace.command())
            .succeeds();
        assert_eq!(sandbox.read("out"), input(), "{name}");
        assert_eq!(strace.trace().count(Call::injected), 5, "{name}");
    }
}

#[test]
fn input_that_comes_byte_by_byte_is_written_whole() {
    let sandbox = Sandbox::new();
    sandbox.write("out", "old");
    let mut run = sandbox.atomwrite(["out"]).stdin_held().start();
    for byte in &input()[..300] {
        run.feed([*byte]);
        assert_eq!(sandbox.text("out"), "old");
    }
    assert_eq!(run.wait().code(), Some(0));
    assert_eq!(sandbox.read("out"), &input()[..300]);
    assert_eq!(sandbox.names(), ["out"]);
}

#[test]
fn a_write_cut_short_by_the_file_size_limit_fails_whole() {
    for existing in [true, false] {
        let sandbox = Sandbox::new();
        if existing {
            sandbox.write("out", "old");
        }
        sandbox.write("src", input());
        for arguments in [vec!["out"], vec!["src", "out"]] {
            sandbox
                .atomwrite(arguments)
                .stdin(input())
                .file_size_limit(4096)
                .says("'out'")
                .says("file too large")
                .fails(1);
        }
    }
}

#[test]
fn a_file_at_the_file_size_limit_is_written() {
    let sandbox = Sandbox::new();
    let limit = u64::try_from(input().len()).unwrap();
    sandbox
        .atomwrite(["out"])
        .stdin(input())
        .file_size_limit(limit)
        .succeeds();
    assert_eq!(sandbox.read("out"), input());
}

/// Makes a DEST with all that a file can have: another owner, an ACL, attributes.
fn adorned_destination(sandbox: &Sandbox) {
    sandbox.write_with_mode("out", "old content", 0o640);
    sandbox.chown("out", NOBODY, NOBODY);
    sandbox.setfacl("out", &["-m", "u:1:rw"]);
    sandbox.set_xattr("out", "user.one", b"1");
    sandbox.set_xattr("out", "user.two", b"2");
}

impl Form {
    fn survives_every_error(&self) {
        self.survives_every_error_in(Sandbox::new);
    }

    /// The same somewhere else: each run has a sandbox of its own.
    fn survives_every_error_in(&self, make_sandbox: impl Fn() -> Sandbox) {
        let sandbox = make_sandbox();
        (self.prepare)(&sandbox);
        let Done {
            status,
            stderr,
            trace,
        } = self.run(&sandbox, None);
        assert_eq!(status, Some(0), "the clean run: {stderr}{trace}");
        assert_eq!(stderr, "", "of the clean run");
        let clean = Clean {
            known_from: self.first_look(&trace),
            trace,
            look: Look::at(&sandbox).expect("the clean run has made it"),
            names: sandbox.names(),
        };
        assert_eq!(clean.look.content, Content(input_of(&sandbox)));
        drop(sandbox);

        // One entry for all errors of a call that the same can be said of.
        let mut complaints: BTreeMap<String, Vec<String>> = BTreeMap::new();
        let mut runs = 0;
        for (place, call) in clean.trace.own().iter().enumerate() {
            if call.injected() {
                continue;
            }
            for errno in errors_of(&call.name) {
                runs += 1;
                let sandbox = make_sandbox();
                (self.prepare)(&sandbox);
                let before = (Look::at(&sandbox), sandbox.names());
                let aim = format!("{}:error={errno}:when={}", call.name, call.nth);
                let done = self.run(&sandbox, Some(&aim));
                let after = (Look::at(&sandbox), sandbox.names());
                for what in self.judge(place, errno, &clean, &done, &before, &after) {
                    let Call { name, args, .. } = call;
                    let status = done.status;
                    complaints
                        .entry(format!("{what}: {name}({args}), status {status:?}"))
                        .or_default()
                        .push(format!("{errno}: {}", done.stderr.trim_end()));
                }
            }
        }
        assert!(
            runs > 50,
            "only {runs} runs: the clean run was not seen whole"
        );
        assert!(
            complaints.is_empty(),
            "{:?}, {runs} runs: {complaints:#?}",
            self.arguments
        );
    }

    /// Says what is wrong about a run whose call at `place` was made to fail.
    fn judge(
        &self,
        place: usize,
        errno: &str,
        clean: &Clean,
        done: &Done,
        before: &State,
        after: &State,
    ) -> Vec<String> {
        let call = &clean.trace.own()[place];
        let aimed_at =
            |other: &Call| other.is(&call.name) && other.nth == call.nth && other.injected();
        if done.trace.count(aimed_at) != 1 {
            return vec!["the call was not made to fail, the test cannot aim".into()];
        }
        let mut complaints = Vec::new();
        let mut complain = |what: String| complaints.push(what);
        if let Some(must) = verdict(place, errno, &clean.trace) {
            if done.status != Some(must) {
                complain(format!("the status must be {must}"));
            }
        }
        match (done.status, &after.0) {
            (Some(0 | 4), None) => complain("missing".into()),
            (Some(0 | 4), Some(look)) => {
                if look.content != clean.look.content {
                    complain(format!("torn: {:?}", look.content));
                }
                let warned = self.may_warn && done.stderr.contains("atomwrite: warning: ");
                if !look.has_attributes_of(&clean.look) && !warned {
                    let (mode, owner) = (look.mode, look.owner);
                    complain(format!(
                        "not as it should be, {mode:o} {owner:?} {:?}",
                        look.attributes
                    ));
                }
                if after.1 != clean.names {
                    complain(format!("left behind, {:?}", after.1));
                }
            }
            (Some(1), _) => {
                if after.0 != before.0 {
                    complain(format!("DEST has changed, {:?}", after.0));
                }
                if after.1 != before.1 {
                    complain(format!("left behind, {:?}", after.1));
                }
            }
            _ => complain("no such status".into()),
        }
        let count_synced = |trace: &Trace| trace.count(|call| call.is("fsync") && call.succeeded());
        if call.is("fsync")
            && errno == "EINTR"
            && done.status == Some(0)
            && count_synced(&done.trace) < count_synced(&clean.trace)
        {
            complain("not synced after all".into());
        }
        let existed = before.0.is_some();
        // Before it has looked, it cannot know what is there.
        let knows = existed && clean.known_from.is_some_and(|known| known < place);
        complaints.extend(self.check_stderr(done, existed, knows).err());
        complaints
    }

    /// Finds the call that tells the program that DEST is there.
    fn first_look(&self, clean: &Trace) -> Option<usize> {
        let last = if self.arguments.contains(&"--no-dereference") {
            "S_IFLNK"
        } else {
            "S_IFREG"
        };
        let looks = clean.places(|call| {
            call.args.contains(last)
                && (call.args.contains(", \"out\", ") || call.args.contains(", \"target\", "))
        });
        looks.first().copied()
    }

    fn run(&self, sandbox: &Sandbox, aim: Option<&str>) -> Done {
        let mut strace = Strace::new();
        for injection in self.always.into_iter().chain(aim) {
            strace = strace.inject(injection);
        }
        let run = sandbox
            .atomwrite(self.arguments.iter().copied())
            .through(strace.command());
        let stdin = sandbox.aside("stdin");
        let done = if stdin.exists() {
            run.stdin_from(open(stdin)).output()
        } else {
            run.stdin(input()).output()
        };
        assert_eq!(done.stdout, "");
        Done {
            status: done.code(),
            stderr: done.stderr,
            trace: strace.trace(),
        }
    }

    /// Holds stderr to the form: warnings, and one line for a failure, which names a path.
    fn check_stderr(&self, done: &Done, existed: bool, knows: bool) -> Result<(), String> {
        let Done { status, stderr, .. } = done;
        let form = std::panic::catch_unwind(|| stderr.lines().for_each(check_message));
        if form.is_err() {
            return Err("a line out of form".into());
        }
        let (warnings, lines): (Vec<_>, Vec<_>) = stderr
            .lines()
            .partition(|line| line.starts_with("atomwrite: warning: "));
        if warnings.len() > 1 {
            return Err(format!("{} warnings", warnings.len()));
        }
        let line = match (status, &lines[..]) {
            (Some(0), []) => return Ok(()),
            (Some(0), _) => return Err("a message that is no warning".into()),
            (_, [line]) => line,
            _ => return Err(format!("{} lines beside warnings", lines.len())),
        };
        let last = self.arguments.last().expect("DEST");
        let names_one = line.contains(&format!("'{last}'"))
            || line.contains("'src'")
            || line.contains("standard input");
        if !names_one {
            return Err("names no path".into());
        }
        let unchanged = line.ends_with(&format!("; '{last}' is unchanged"));
        if knows && *status == Some(1) && !unchanged {
            return Err("does not say that DEST is unchanged".into());
        }
        if unchanged && (!existed || *status != Some(1)) {
            return Err("says unchanged and must not".into());
        }
        Ok(())
    }
}

/// What came of a run.
struct Done {
    status: Option<i32>,
    stderr: String,
    trace: Trace,
}

/// What came of the run without an error, by which the others are judged.
struct Clean {
    trace: Trace,
    /// The call by which the program learns that DEST exists, if it does.
    known_from: Option<usize>,
    look: Look,
    names: Vec<OsString>,
}

/// DEST, if it is there, and all names in the sandbox.
type State = (Option<Look>, Vec<OsString>);

/// The content that the form's run must give.
fn input_of(sandbox: &Sandbox) -> Vec<u8> {
    [sandbox.path("src"), sandbox.aside("stdin")]
        .into_iter()
        .find_map(|file| fs::read(file).ok())
        .unwrap_or_else(input)
}

/// The errors that a call may have, as far as they differ in what they mean to us.
fn errors_of(call: &str) -> impl Iterator<Item = &'static str> {
    let errors = match call {
        // Memory, and the mask, which cannot fail.
        "mmap" | "munmap" | "rt_sigprocmask" | "sigaltstack" | "execve" => "",
        "open" | "openat" | "openat2" => {
            "EIO ENOSPC EDQUOT EINTR EMFILE ENOMEM EACCES EPERM ENOSYS EOPNOTSUPP EINVAL"
        }
        "read" | "pread64" => "EIO EINTR ENOMEM EBADF",
        "write" | "pwrite64" => "EIO ENOSPC EDQUOT EINTR EFBIG EPERM",
        "close" => "EIO ENOSPC EDQUOT EINTR",
        "dup" | "fcntl" => "EMFILE EINVAL EPERM",
        "fchown" | "fchownat" | "fchmod" | "fchmodat" | "fsetxattr" | "fremovexattr" => {
            "EPERM EIO ENOSPC EDQUOT EOPNOTSUPP ENOMEM EINVAL ENOSYS"
        }
        "fgetxattr" => "EIO EPERM ENOMEM EOPNOTSUPP ENOSYS",
        // With EOPNOTSUPP and ENOSYS there is nothing to keep.
        "flistxattr" => "EIO EPERM ENOMEM",
        "fsync" | "fdatasync" | "syncfs" => "EIO ENOSPC EDQUOT EINTR EINVAL EOPNOTSUPP EBADF",
        "linkat" => {
            "EIO ENOSPC EDQUOT EPERM EACCES ENOENT EOPNOTSUPP ENOSYS EINVAL EXDEV EMLINK EEXIST EINTR"
        }
        "rename" | "renameat" | "renameat2" => {
            "EIO ENOSPC EDQUOT EPERM EACCES ENOMEM EINVAL ENOSYS EBUSY EXDEV EROFS EINTR"
        }
        "copy_file_range" => "EIO ENOSPC EDQUOT EINTR ENOSYS EOPNOTSUPP EXDEV EINVAL EPERM",
        "flock" => "EINTR ENOLCK EOPNOTSUPP EAGAIN",
        "mkdir" | "mkdirat" => "EIO ENOSPC EDQUOT EACCES EROFS EEXIST",
        "statx" | "fstat" | "newfstatat" => "EIO ENOMEM EACCES",
        _ => "EIO EINVAL ENOSYS",
    };
    errors.split_whitespace()
}

/// Gives the status of a run whose call at `place` fails, where only one is right.
fn verdict(place: usize, errno: &str, clean: &Trace) -> Option<i32> {
    let call = &clean.own()[place];
    let committed = clean.places(Call::renames).last().copied()? < place;
    let written = clean
        .places(|call| call.on_draft() && (call.is("write") || call.is("copy_file_range")))
        .last()
        .copied();
    let full = matches!(errno, "EIO" | "ENOSPC" | "EDQUOT");
    match call.name.as_str() {
        "read" | "write" | "openat" | "openat2" | "flock" | "close" | "copy_file_range"
            if errno == "EINTR" =>
        {
            Some(0)
        }
        // After the commit only the directory's fsync counts.
        "fsync" if errno == "EINTR" => None,
        "fsync" if committed => Some(if full { 4 } else { 0 }),
        _ if committed => Some(0),
        "write" if call.on_draft() => Some(1),
        // One that is closed before anything is in it has nothing to lose.
        "close" if call.on_draft() && written < Some(place) => Some(1),
        "fsync" if call.on_draft() && full => Some(1),
        "read" if call.args.starts_with("0<") => Some(1),
        "rename" | "renameat" | "renameat2"
            if full || matches!(errno, "EPERM" | "EACCES" | "EBUSY" | "EXDEV" | "EROFS") =>
        {
            Some(1)
        }
        _ => None,
    }
}

/// What can be told of DEST from outside.
#[derive(Debug, PartialEq, Eq)]
struct Look {
    inode: u64,
    links: u64,
    times: [i64; 4],
    mode: u32,
    owner: (u32, u32),
    attributes: Vec<(String, Option<Vec<u8>>)>,
    content: Content,
}

/// So many bytes that no message should show them.
#[derive(PartialEq, Eq)]
struct Content(Vec<u8>);

impl std::fmt::Debug for Content {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let start = String::from_utf8_lossy(&self.0[..self.0.len().min(16)]);
        write!(out, "{} bytes: {start:?}", self.0.len())
    }
}

impl Look {
    /// Looks at the file that `out` leads to.
    fn at(sandbox: &Sandbox) -> Option<Self> {
        let name = ["far/target", "one/two/out", "out"]
            .into_iter()
            .find(|name| fs::symlink_metadata(sandbox.path(name)).is_ok())?;
        let stat = sandbox.stat(name);
        let attributes = ["user.one", "user.two", "system.posix_acl_access"]
            .map(|attribute| (attribute.to_owned(), sandbox.xattr(name, attribute)));
        Some(Self {
            inode: stat.ino(),
            links: stat.nlink(),
            times: [
                stat.mtime(),
                stat.mtime_nsec(),
                stat.ctime(),
                stat.ctime_nsec(),
            ],
            mode: stat.mode(),
            owner: (stat.uid(), stat.gid()),
            attributes: attributes.into(),
            content: Content(sandbox.read(name)),
        })
    }

    fn has_attributes_of(&self, other: &Self) -> bool {
        (self.mode, self.owner, &self.attributes) == (other.mode, other.owner, &other.attributes)
    }
}
