//! Temporary names that can do no harm.
//!
//! atomwrite never removes a directory that this run did not make, or such a file on a filesystem
//! that is not local. Two processes never remove each other's temporary files. On local
//! filesystems, the new file has no name until the commit. A staging directory of `-t`, a preview
//! directory and a temporary file on other filesystems have random names; after SIGKILL they stay,
//! and no later run removes them. An append-only directory, in which nothing can be renamed or
//! removed, is refused before any input is read.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::Signal;

use crate::harness::{
    Feeder, Mount, NOBODY, Running, Sandbox, derived_name, is_temporary, linux_only, lock_name,
    needs_fuse, needs_root, needs_tool, skip, wait_until,
};

fn temporary_names(sandbox: &Sandbox) -> Vec<OsString> {
    let mut names = sandbox.names();
    names.retain(|name| is_temporary(name));
    names
}

// ---- A hostile owner of the directory ----

/// A directory of root's with precious files, and their state, which must not change.
struct Precious {
    path: PathBuf,
    files: Vec<(PathBuf, u64, String)>,
}

impl Precious {
    /// Made by root, and then moved by another user to a name below `home`.
    fn plant(sandbox: &Sandbox, name: &str, files: &[&str]) -> Self {
        let path = sandbox.mkdir("home/roots");
        let files = files.iter().map(|file| {
            let made = format!("home/roots/{file}");
            if let Some(parent) = Path::new(&made).parent() {
                sandbox.mkdir(parent);
                sandbox.chmod(parent, 0o700);
            }
            sandbox.write(&made, "precious");
            (
                PathBuf::from(file),
                sandbox.inode(&made),
                sandbox.text(&made),
            )
        });
        let files: Vec<_> = files.collect();
        sandbox.chmod("home/roots", 0o700);
        let planted = sandbox.path("home").join(name);
        fs::rename(path, &planted).unwrap();
        Self {
            path: planted,
            files,
        }
    }

    #[track_caller]
    fn is_unchanged(&self, context: &str) {
        for (file, inode, content) in &self.files {
            let path = self.path.join(file);
            let stat = fs::metadata(&path);
            let stat =
                stat.unwrap_or_else(|error| panic!("{context}: {}: {error}", path.display()));
            assert_eq!(stat.ino(), *inode, "{context}");
            assert_eq!(&fs::read_to_string(&path).unwrap(), content, "{context}");
        }
        let mode = fs::metadata(&self.path).unwrap().mode();
        assert_eq!(mode & 0o7777, 0o700, "{context}");
    }
}

#[test]
fn a_directory_that_another_user_has_given_a_temporary_name_survives() {
    needs_root!();
    let of_nothing = derived_name("");
    let names = ["backup.sql", "report"].map(derived_name);
    let names = names.into_iter().chain([
        of_nothing.clone(),
        derived_name(&derived_name("backup.sql")),
        lock_name("backup.sql"),
    ]);
    for name in names {
        for line in [
            "home/report",
            "src/backup.sql home/report",
            "-b home/report",
            "-n home/new/../report2",
            "-D home/new/deep/backup.sql",
            "--lock -q home/report",
            "-a home/report",
            "--validate true home/report",
            "-t home src/backup.sql src/other",
            "-D -t home/new/deep src/backup.sql",
        ] {
            for files in [
                &["backup.sql"][..],
                &["report", "report~"],
                &["0/payroll", "1/payroll"],
                &[],
            ] {
                let sandbox = Sandbox::new();
                sandbox.mkdir("src");
                sandbox.write("src/backup.sql", "new");
                sandbox.write("src/other", "new");
                sandbox.mkdir("home/new");
                sandbox.write("home/backup.sql", "old");
                sandbox.symlink("backup.sql", "home/report");
                let precious = Precious::plant(&sandbox, &name, files);
                for theirs in ["home", "home/new", "home/backup.sql", "home/report"] {
                    sandbox.chown(theirs, NOBODY, NOBODY);
                }
                let run = sandbox.run(line).stdin("new");
                let done = run.env("ATOMWRITE_SYNC", "none").output();
                let context = format!("{line} {files:?}: {done:?}");
                precious.is_unchanged(&context);
                // A directory is no lock file.
                let locks = line.starts_with("--lock") || line.starts_with("-a");
                let refused = locks && name == lock_name("backup.sql");
                assert_eq!(done.code(), Some(i32::from(refused)), "{context}");
            }
        }
    }
}

#[test]
fn only_the_directory_of_dest_is_searched_for_a_stale_file() {
    let sandbox = Sandbox::new();
    sandbox.mkdir("far/target");
    sandbox.mkdir("near");
    sandbox.symlink("../far/target", "near/link");
    let name = derived_name("out");
    for directory in ["", "far", "near"] {
        sandbox.write(Path::new(directory).join(&name), "of another run");
    }
    let names = sandbox.names();
    for dest in ["near/link/out", "near/link/one/out", "new/deep/out"] {
        let done = sandbox.atomwrite(["-D", dest]).stdin("new").output();
        assert_eq!((done.code(), done.stderr.as_str()), (Some(0), ""));
    }
    let now = sandbox.names();
    assert!(names.iter().all(|name| now.contains(name)), "{now:?}");
}

// ---- Random names ----

/// Kills a run that waits for a FIFO, and returns the temporary names that it leaves.
#[track_caller]
fn kill_while_staging(sandbox: &Sandbox) -> Vec<OsString> {
    let before = sandbox.names();
    let run = sandbox.run("-t d a fifo").start();
    let feeder = Feeder::open(&sandbox.path("fifo"));
    run.signal(Signal::KILL);
    assert_eq!(run.wait().signal(), Some(libc::SIGKILL));
    drop(feeder);
    let mut left = sandbox.names();
    left.retain(|name| !before.contains(name));
    left
}

#[test]
fn a_staging_directory_is_private_random_and_never_removed_by_another_run() {
    let sandbox = Sandbox::new();
    sandbox.mkdir("d");
    sandbox.write("a", "new");
    sandbox.fifo("fifo");
    let first = kill_while_staging(&sandbox);
    let second = kill_while_staging(&sandbox);
    let directory = |left: &[OsString]| {
        let mut names = left.iter().filter(|name| is_temporary(name));
        let name = names.next().expect("the staging directory stays").clone();
        assert_eq!(names.next(), None, "{left:?}");
        assert_eq!(sandbox.mode(&name), 0o700);
        assert_ne!(name, format!("d/{}", derived_name("")).as_str());
        name
    };
    assert_ne!(directory(&first), directory(&second));
    let mut names = sandbox.names();
    names.push("d/a".into());
    sandbox.run("-t d a").leaves(names.clone()).succeeds();
    sandbox.run("d/a").stdin("newer").leaves(names).succeeds();
}

#[test]
fn a_preview_directory_is_private_random_and_never_removed_by_another_run() {
    let sandbox = Sandbox::with("out", "old");
    let mut left = Vec::new();
    for _ in 0..2 {
        let done = sandbox
            .run("--validate 'kill -KILL $PPID' out")
            .stdin("new")
            .umask(0)
            .output();
        assert_eq!(done.signal(), Some(libc::SIGKILL), "{done:?}");
        let mut names = sandbox.names();
        names.retain(|name| is_temporary(name) && sandbox.stat(name).is_dir());
        for name in &names {
            assert_eq!(sandbox.mode(name), 0o700);
            assert_ne!(name, derived_name("out").as_str());
        }
        left.push(names.len());
    }
    assert_eq!(left, [1, 2]);
    let names = sandbox.names();
    for options in ["", "--validate true", "--lock -q"] {
        let words = format!("{options} out");
        let run = sandbox.run(&words).stdin("new");
        run.leaves(names.clone()).succeeds();
    }
}

// ---- FUSE ----

/// Starts a writer of `out`, whose file has a name there, and returns that name.
#[track_caller]
fn start_named(sandbox: &Sandbox, content: &str) -> (Running, OsString) {
    let before = temporary_names(sandbox);
    let mut running = sandbox.run("out").stdin_held().start();
    running.feed(content);
    let mut names = temporary_names(sandbox);
    names.retain(|name| !before.contains(name));
    assert_eq!(names.len(), 1, "{names:?}");
    (running, names.remove(0))
}

#[test]
fn two_mounts_of_one_directory_do_not_disturb_each_other() {
    // Locks are not shared by them, as on NFS with nolock, or by virtiofs and its host.
    needs_fuse!();
    let below = Sandbox::new();
    let mounts = [(); 2].map(|()| Mount::bindfs(below.root(), &[]));
    let first = Sandbox::in_dir(mounts[0].path());
    let name = first.root().file_name().unwrap();
    let second = Sandbox::shown_at(mounts[1].path().join(name));
    first.write("out", "old");
    // Both at work at once: neither takes the other's file, and each commits its own.
    let (mut one, of_one) = start_named(&first, "one ");
    let (two, of_two) = start_named(&second, "two ");
    assert_ne!(of_one, of_two);
    assert_eq!(temporary_names(&first).len(), 2);
    one.feed("whole");
    assert_eq!(one.wait().code(), Some(0));
    assert_eq!(first.text("out"), "one whole");
    assert_eq!(temporary_names(&first), [of_two]);
    assert_eq!(two.wait().code(), Some(0));
    assert_eq!(second.text("out"), "two ");
    assert_eq!(first.names(), ["out"]);
    // And one that is done while the other still reads.
    let (mut one, of_one) = start_named(&first, "one ");
    second
        .run("out")
        .stdin("two")
        .leaves([of_one.clone(), "out".into()])
        .succeeds();
    one.feed("whole");
    assert_eq!(temporary_names(&first), [of_one]);
    assert_eq!(one.wait().code(), Some(0));
    assert_eq!(first.text("out"), "one whole");
    assert_eq!(first.names(), ["out"]);
}

#[test]
fn a_killed_runs_file_on_fuse_stays() {
    needs_fuse!();
    let below = Sandbox::new();
    let mount = Mount::bindfs(below.root(), &[]);
    let sandbox = Sandbox::in_dir(mount.path());
    sandbox.write("out", "old");
    // A file of this user that has the derived name is not known to be stale.
    let planted = derived_name("out");
    sandbox.write(&planted, "of another machine");
    let (running, name) = start_named(&sandbox, "of the killed run");
    let written = || sandbox.text(&name) == "of the killed run";
    wait_until("it has written its input", written);
    running.signal(Signal::KILL);
    drop(running.wait());
    for _ in 0..2 {
        sandbox
            .run("out")
            .stdin("new")
            .leaves([planted.clone().into(), name.clone(), "out".into()])
            .succeeds();
    }
    assert_eq!(sandbox.text(&planted), "of another machine");
    assert_eq!(sandbox.text(&name), "of the killed run");
}

#[test]
fn nothing_is_left_where_nothing_can_be_renamed() {
    needs_fuse!();
    let below = Sandbox::new();
    let mount = Mount::bindfs(below.root(), &["--rename-deny"]);
    let sandbox = Sandbox::in_dir(mount.path());
    sandbox.write("src", "new");
    sandbox.mkdir("d");
    // The server learns of a close a moment later, and would rename an open file that is removed.
    let remove = |name: &str| {
        let path = sandbox.path(name);
        wait_until("it is closed", || fs::remove_file(&path).is_ok());
    };
    for options in ["", "-n", "-b", "--validate true"] {
        let line = format!("{options} src out");
        // A new file can be linked.
        let run = sandbox.run(&line).leaves(["d", "out", "src"]);
        run.writes("new");
        if options != "-n" {
            sandbox.write("out", "old");
            let done = sandbox.run(&line).output();
            assert_eq!(done.code(), Some(1), "{options}: {done:?}");
            assert_eq!(sandbox.listing(), "d/ out=old src=new", "{options}");
        }
        remove("out");
    }
    // The backup is a copy, which is linked to its name too.
    sandbox.write("out", "old");
    let done = sandbox.run("-q --inplace=always -b src out").output();
    assert_eq!(done.code(), Some(0), "{done:?}");
    assert_eq!(sandbox.listing(), "d/ out=new out~=old src=new");
    for name in ["out", "out~"] {
        remove(name);
    }
    for (old, status) in [(None, 0), (Some("old"), 1)] {
        if let Some(old) = old {
            sandbox.write("d/src", old);
        }
        let done = sandbox.run("-t d src").output();
        assert_eq!(done.code(), Some(status), "{done:?}");
        let left = format!("d/ d/src={} src=new", old.unwrap_or("new"));
        assert_eq!(sandbox.listing(), left, "{done:?}");
    }
}

// ---- An append-only directory ----

/// Sets a flag of a directory, and takes it away again.
struct Flagged(PathBuf, &'static str);

impl Flagged {
    fn new(path: PathBuf, flag: &'static str) -> Option<Self> {
        let flagged = Self(path, flag);
        flagged.chattr("+").then_some(flagged)
    }

    fn chattr(&self, sign: &str) -> bool {
        let mut chattr = Command::new("chattr");
        let chattr = chattr.arg(format!("{sign}{}", self.1)).arg(&self.0);
        chattr.output().unwrap().status.success()
    }
}

impl Drop for Flagged {
    fn drop(&mut self) {
        self.chattr("-");
    }
}

#[test]
fn an_append_only_directory_is_refused_before_any_input_is_read() {
    linux_only!("the flags of chattr(1)");
    needs_root!();
    needs_tool!("chattr");
    for old in [true, false] {
        let sandbox = Sandbox::new();
        sandbox.mkdir("d");
        sandbox.write("src", "new");
        if old {
            sandbox.write("d/out", "old");
        }
        let Some(_flag) = Flagged::new(sandbox.path("d"), "a") else {
            skip!("needs a filesystem with file attributes");
        };
        let why = "cannot write 'd/out': its directory is append-only (chattr(1) can change that)";
        sandbox.refuse_each(&[
            ("d/out", 1, why),
            ("-f d/out", 1, why),
            ("-b d/out", 1, why),
            ("-a d/out", 1, why),
            ("--lock d/out", 1, why),
            ("--validate true d/out", 1, why),
            ("--sync=none d/out", 1, why),
            ("d/out -- touch ran", 125, why),
        ]);
        let names = sandbox.names();
        let done = sandbox.run("-t d src").output();
        assert_eq!(done.code(), Some(1), "{done:?}");
        assert!(done.stderr.contains("append-only"), "{done:?}");
        assert_eq!(sandbox.names(), names);
    }
}
