//! A process that watches DEST sees one event for a write, and then the file is complete. A run
//! that changes nothing causes no event.
//!
//! The tests watch by inotify(7): the directory, as programs do that reload their configuration, or
//! the file itself, as systemd does for a path unit and as `tail -F`.

use std::io::{BufRead, BufReader};
use std::mem::{self, MaybeUninit};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::{fs, thread};

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process};

use crate::harness::{BOUND, Run, Sandbox, Watch, needs_tool, skip, wait_until};

/// All that changes anything.
const CHANGES: WatchFlags = WatchFlags::MODIFY
    .union(WatchFlags::ATTRIB)
    .union(WatchFlags::CLOSE_WRITE)
    .union(WatchFlags::CREATE)
    .union(WatchFlags::DELETE)
    .union(WatchFlags::DELETE_SELF)
    .union(WatchFlags::MOVE)
    .union(WatchFlags::MOVE_SELF);

/// What systemd watches a file for, on behalf of `PathChanged=`; for `PathModified=` it is MODIFY,
/// too.
const PATH_CHANGED: WatchFlags = CHANGES.difference(WatchFlags::MODIFY);

/// Every way by which `d/out` gets this content.
fn ways<'a>(sandbox: &'a Sandbox, content: &str) -> Vec<Run<'a>> {
    let elsewhere = sandbox.aside("source");
    fs::write(&elsewhere, content).unwrap();
    let source = elsewhere.to_str().unwrap();
    let lines = [
        "--sync=full d/out",
        &format!("d/out -- cat {source}"),
        &format!("{source} d/out"),
        "d/out",
        "-q --lock d/out",
        "-m 600 d/out",
        "--keep=none d/out",
        "--validate 'grep -q .' d/out",
    ];
    // But for one, not to wait for the disk.
    let run = |line| sandbox.run(line).env("ATOMWRITE_SYNC", "none");
    lines.map(|line| run(line).stdin(content)).into()
}

/// A sandbox with a directory `d`, and `d/out` in it if there is old content.
fn ground(old: Option<&str>) -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.mkdir("d");
    if let Some(old) = old {
        let path = sandbox.write("d/out", old);
        wait_until("it is closed", || !is_open(&path));
    }
    sandbox
}

/// Whether a process has the file open for writing: a child of another test can have inherited it,
/// and its close would be an event. No lease is possible until that event has been sent.
fn is_open(path: &Path) -> bool {
    let file = fs::File::open(path).unwrap();
    #[expect(unsafe_code, reason = "rustix has no leases")]
    // SAFETY: the descriptor is open, and the call writes to no memory.
    let leased = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETLEASE, libc::F_RDLCK) };
    leased == -1 && std::io::Error::last_os_error().raw_os_error() == Some(libc::EAGAIN)
}

/// The event of a DEST that is new. The POSIX backend links it.
const NEW: ReadFlags = if cfg!(atomwrite_posix) {
    ReadFlags::CREATE
} else {
    ReadFlags::MOVED_TO
};

/// The events that have arrived, except those of names that no program watches for: a hidden one,
/// or the kernel's for an unnamed file. A named file may be closed after its rename, too.
fn events_of(watch: &Watch) -> Vec<(ReadFlags, String)> {
    let mut events = watch.events();
    events.retain(|(event, name)| {
        let is_internal = name.starts_with(".atomwrite.") || name.starts_with('#');
        let is_late = cfg!(atomwrite_posix) && *event == ReadFlags::CLOSE_WRITE;
        !is_internal && !is_late
    });
    events
}

// ---- The directory ----

#[test]
fn a_watched_directory_reports_one_event_for_dest() {
    if !has_unnamed_files(ground(None).root()) {
        skip!("needs a filesystem that has O_TMPFILE");
    }
    for old in [None, Some("old\n")] {
        for way in 0..ways(&ground(None), "").len() {
            let sandbox = ground(old);
            let watch = Watch::of(sandbox.path("d"), CHANGES);
            ways(&sandbox, "new\n").swap_remove(way).succeeds();
            let event = if old.is_none() {
                NEW
            } else {
                ReadFlags::MOVED_TO
            };
            assert_eq!(events_of(&watch), [(event, "out".to_owned())]);
            assert_eq!(sandbox.text("d/out"), "new\n");
        }
    }
}

fn has_unnamed_files(directory: &Path) -> bool {
    rustix::fs::open(directory, OFlags::TMPFILE | OFlags::RDWR, Mode::RUSR).is_ok()
}

/// If the descriptor of the written file is closed after the rename, inotify reports
/// that by the new name.
#[test]
fn a_named_temporary_file_is_complete_when_it_is_renamed() {
    needs_tool!("strace");
    let sandbox = ground(Some("old\n"));
    let watch = Watch::of(sandbox.path("d"), CHANGES);
    let run = sandbox.run("d/out").stdin("new\n");
    run.without_linkat().succeeds();
    let events = events_of(&watch);
    let moved = (ReadFlags::MOVED_TO, "out".to_owned());
    let closed = (ReadFlags::CLOSE_WRITE, "out".to_owned());
    assert!(
        events == [moved.clone()] || events == [moved, closed],
        "{events:?}"
    );
}

#[test]
fn a_watched_directory_reports_a_backup_before_dest() {
    let sandbox = ground(Some("old\n"));
    let watch = Watch::of(sandbox.path("d"), CHANGES);
    let names = ["d", "d/out", "d/out~"];
    let run = sandbox.run("-b d/out -- echo new");
    run.leaves(names).succeeds();
    let events = events_of(&watch);
    let expected = [
        (ReadFlags::CREATE, "out~".to_owned()),
        (ReadFlags::MOVED_TO, "out".to_owned()),
    ];
    assert_eq!(events, expected);
}

#[test]
fn a_watched_directory_reports_one_event_for_each_of_many_files() {
    let sandbox = ground(Some("old"));
    let sources = ["out", "b", "c"].map(|name| sandbox.aside(name));
    for source in &sources {
        fs::write(source, "new").unwrap();
    }
    let watch = Watch::of(sandbox.path("d"), CHANGES);
    let [out, b, c] = sources;
    let run = sandbox.atomwrite(["-t".into(), "d".into(), out, b, c]);
    run.leaves(["d", "d/b", "d/c", "d/out"]).succeeds();
    let events = events_of(&watch);
    let expected = [("out", ReadFlags::MOVED_TO), ("b", NEW), ("c", NEW)];
    assert_eq!(
        events,
        expected.map(|(name, event)| (event, name.to_owned()))
    );
}

#[test]
fn after_each_event_the_file_is_complete() {
    const WRITES: usize = 40;
    let content = |number: usize| format!("{number}\n").repeat(20_000);
    let sandbox = ground(Some(&content(0)));
    let watch = Watch::of(sandbox.path("d"), CHANGES);
    let over = AtomicBool::new(false);
    let reported = thread::scope(|scope| {
        let watcher = scope.spawn(|| {
            let (mut reported, mut seen) = (0, 0);
            loop {
                let last = over.load(Ordering::Acquire);
                for (event, name) in events_of(&watch) {
                    assert_eq!((event, name.as_str()), (ReadFlags::MOVED_TO, "out"));
                    reported += 1;
                    let found = sandbox.text("d/out");
                    let number = found.lines().next().expect("it is empty").parse().unwrap();
                    assert!(found == content(number), "torn: {} bytes", found.len());
                    assert!(
                        number >= reported && number >= seen,
                        "{number} after {seen}"
                    );
                    seen = number;
                }
                if last {
                    return reported;
                }
            }
        });
        for number in 1..=WRITES {
            let way = number % 2;
            ways(&sandbox, &content(number)).swap_remove(way).succeeds();
        }
        over.store(true, Ordering::Release);
        watcher.join().expect("it saw what it must not see")
    });
    assert_eq!(reported, WRITES);
}

/// Runs that leave `d/out` alone, which holds "old\n".
fn vain_runs(sandbox: &Sandbox) -> Vec<(Run<'_>, i32)> {
    let run = |line| sandbox.run(line);
    vec![
        (run("d/out -- sh -c 'echo half; exit 9'"), 9),
        (run("-a d/out -- false"), 1),
        (run("--lock d/out -- false"), 1),
        (run("-b d/out -- false"), 1),
        (run("d/out").stdin(""), 3),
        (run("-n d/out").stdin("new\n"), 3),
        (run("--validate false d/out").stdin("new\n"), 3),
    ]
}

/// Runs for which `d/out` already has the new content.
fn equal_runs(sandbox: &Sandbox) -> Vec<Run<'_>> {
    vec![
        sandbox.run("-C d/out").stdin("old\n"),
        sandbox.run("-C --sync=none d/out").stdin("old\n"),
        sandbox
            .run("-C --sync=none --inplace=always d/out")
            .stdin("old\n"),
        sandbox.run("-C --lock d/out -- echo old"),
        sandbox.run("-C -a d/out -- true"),
    ]
}

#[test]
fn a_run_that_changes_nothing_causes_no_event() {
    let sandbox = ground(Some("old\n"));
    let directory = Watch::of(sandbox.path("d"), CHANGES);
    let file = Watch::of(sandbox.path("d/out"), CHANGES);
    for (run, status) in vain_runs(&sandbox) {
        run.fails(status);
    }
    for run in equal_runs(&sandbox) {
        run.leaves_alone(0);
    }
    assert_eq!(file.events(), []);
    assert_eq!(events_of(&directory), []);
}

// ---- systemd's path units ----

/// What systemd does for `PathChanged=` and `PathModified=` (path_spec_watch and those around it in
/// src/core/path.c, <https://github.com/systemd/systemd/blob/main/src/core/path.c>).
///
/// It watches the file, and of the directories that lead to it whether they are moved; where one is
/// missing, the last one that is there for what comes into it. Any event of the file itself starts
/// the unit, and so does any other if the file has come or gone since. Each time, and when the unit
/// has ended, it begins to watch anew, by name.
struct PathUnit {
    path: PathBuf,
    events: WatchFlags,
    queue: OwnedFd,
    file: Option<i32>,
    was_there: bool,
}

impl PathUnit {
    fn of(path: PathBuf, events: WatchFlags) -> Self {
        let (queue, file) = Self::watch(&path, events);
        Self {
            was_there: path.exists(),
            path,
            events,
            queue,
            file,
        }
    }

    fn watch(path: &Path, events: WatchFlags) -> (OwnedFd, Option<i32>) {
        let on_the_way = WatchFlags::MOVE_SELF
            | WatchFlags::DELETE_SELF
            | WatchFlags::ATTRIB
            | WatchFlags::CREATE
            | WatchFlags::MOVED_TO;
        let queue = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC).unwrap();
        // Not above the sandbox, where other tests come and go: those events would only make it
        // watch anew, for ever.
        let ours = path.ancestors().take(3);
        let mut parts: Vec<&Path> = ours.collect();
        parts.reverse();
        for (at, part) in parts.iter().enumerate() {
            let is_file = *part == path;
            let events = if is_file { events } else { on_the_way };
            match inotify::add_watch(&queue, *part, events) {
                Err(Errno::NOENT) => break,
                added => {
                    if let Some(parent) = at.checked_sub(1).map(|at| parts[at]) {
                        inotify::add_watch(&queue, parent, WatchFlags::MOVE_SELF).unwrap();
                    }
                    if is_file {
                        return (queue, Some(added.unwrap()));
                    }
                }
            }
        }
        (queue, None)
    }

    fn has_come_or_gone(&mut self) -> bool {
        let there = self.path.exists();
        mem::replace(&mut self.was_there, there) != there
    }

    /// Returns whether any events have arrived, and whether one is of the file itself.
    fn wakes(&self) -> Option<bool> {
        let mut buffer = [const { MaybeUninit::uninit() }; 4096];
        let mut reader = inotify::Reader::new(&self.queue, &mut buffer);
        let mut wakes = None;
        while let Ok(event) = reader.next() {
            let of_the_file = self.file == Some(event.wd());
            wakes = Some(wakes == Some(true) || of_the_file);
        }
        wakes
    }

    /// Continues until there are no more events, and returns what the unit found in the file each
    /// time that it was started.
    fn starts(&mut self) -> Vec<String> {
        let mut starts = Vec::new();
        while let Some(of_the_file) = self.wakes() {
            if of_the_file || self.has_come_or_gone() {
                starts.push(fs::read_to_string(&self.path).unwrap());
            }
            (self.queue, self.file) = Self::watch(&self.path, self.events);
            if self.has_come_or_gone() {
                starts.push(fs::read_to_string(&self.path).unwrap());
            }
        }
        starts
    }
}

#[test]
fn a_path_unit_is_started_once_by_each_write() {
    for old in [None, Some("old\n")] {
        for way in 0..ways(&ground(None), "").len() {
            let sandbox = ground(old);
            let unit = |events| PathUnit::of(sandbox.path("d/out"), events);
            let mut units = [unit(PATH_CHANGED), unit(CHANGES)];
            // It stays with the name: the second write is to another file than the one that was
            // there at the start.
            for content in ["new\n", "newer\n"] {
                ways(&sandbox, content).swap_remove(way).succeeds();
                for unit in &mut units {
                    assert_eq!(unit.starts(), [content]);
                }
            }
        }
    }
}

#[test]
fn a_path_unit_is_not_started_by_a_run_that_changes_nothing() {
    let sandbox = ground(Some("old\n"));
    let mut unit = PathUnit::of(sandbox.path("d/out"), CHANGES);
    for (run, status) in vain_runs(&sandbox) {
        run.fails(status);
    }
    for run in equal_runs(&sandbox) {
        run.leaves_alone(0);
    }
    assert_eq!(unit.starts(), [""; 0]);

    let sandbox = ground(None);
    let mut unit = PathUnit::of(sandbox.path("d/out"), CHANGES);
    sandbox.run("d/out -- false").fails(1);
    sandbox
        .run("--validate false d/out")
        .stdin("new\n")
        .fails(3);
    assert_eq!(unit.starts(), [""; 0]);
}

// ---- tail -F ----

#[test]
fn tail_continues_with_the_new_file_if_it_follows_the_name() {
    needs_tool!("tail", "timeout");
    let sandbox = ground(Some("old\n"));
    let mut tail = Command::new("timeout")
        .args([&BOUND.as_secs().to_string(), "tail", "-n", "+1", "-F"])
        .arg(sandbox.path("d/out"))
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(tail.stdout.take().unwrap()).lines();
    let mut next = || lines.next().expect("tail has ended").unwrap();
    assert_eq!(next(), "old");
    for content in ["new", "newer"] {
        sandbox
            .atomwrite(["d/out", "--", "echo", content])
            .succeeds();
        assert_eq!(next(), content);
    }
    kill_process(Pid::from_child(&tail), Signal::TERM).unwrap();
    tail.wait().unwrap();
}
