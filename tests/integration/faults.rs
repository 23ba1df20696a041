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
use std::io::Write;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

use rustix::pipe::{PipeFlags, pipe_with};

use crate::harness::{Call, Strace, Trace};
use crate::harness::{Mount, needs_mounts};
use crate::harness::{NOBODY, Sandbox, check_message, derived_name, needs_root, needs_tool, open};

/// A way to use the program.
struct Form {
    /// Up to DEST.
    arguments: &'static [&'static str],
    /// What comes behind `--`.
    command: &'static [&'static str],
    prepare: fn(&Sandbox),
    errors: Errors,
    /// What is injected in every run of it, the clean one too: `linkat:error=EOPNOTSUPP` gives the named file.
    always: Option<&'static str>,
    /// Whether a warning may stand in for an attribute that was not kept.
    may_warn: bool,
}

/// Which errors a call is made to have.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Errors {
    All,
    /// One of each kind: for what the form has in common with others, that is enough.
    Few,
}

/// The form that most others change in one point.
const PLAIN: Form = Form {
    arguments: &["out"],
    command: &[],
    prepare: |_| {},
    errors: Errors::All,
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

/// The form that those of the other options change.
const OTHER: Form = Form {
    prepare: |sandbox| {
        sandbox.write("out", "old");
    },
    errors: Errors::Few,
    may_warn: true,
    ..PLAIN
};

/// What COMMAND prints.
fn command_source(sandbox: &Sandbox) {
    sandbox.write("out", "old");
    sandbox.write("src", input());
}

#[test]
fn a_command_survives_every_error() {
    needs_tool!("strace");
    Form {
        command: &["cat", "src"],
        prepare: command_source,
        ..OTHER
    }
    .survives_every_error();
}

#[test]
fn a_command_through_a_pipe_survives_every_error() {
    needs_tool!("strace");
    Form {
        command: &["cat", "src"],
        prepare: command_source,
        always: Some("linkat:error=EOPNOTSUPP"),
        ..OTHER
    }
    .survives_every_error();
}

#[test]
fn a_command_for_a_new_name_survives_every_error() {
    needs_tool!("strace");
    Form {
        arguments: &["--lock", "one/two/out"],
        command: &["cat", "src"],
        prepare: |sandbox| {
            sandbox.mkdir("one/two");
            sandbox.write("src", input());
        },
        ..OTHER
    }
    .survives_every_error();
}

#[test]
fn appending_survives_every_error() {
    needs_tool!("strace");
    Form {
        arguments: &["-a", "out"],
        prepare: |sandbox| {
            sandbox.write("out", "old");
        },
        ..OTHER
    }
    .survives_every_error();
}

#[test]
fn appending_to_a_large_file_survives_every_error() {
    needs_tool!("strace");
    Form {
        arguments: &["-a", "out"],
        prepare: |sandbox| {
            sandbox.write("out", "old\n".repeat(5000));
        },
        ..OTHER
    }
    .survives_every_error();
}

#[test]
fn appending_to_a_new_name_survives_every_error() {
    needs_tool!("strace");
    Form {
        arguments: &["-a", "out"],
        prepare: |_| {},
        ..OTHER
    }
    .survives_every_error();
}

#[test]
fn a_backup_over_an_older_one_survives_every_error() {
    needs_tool!("strace");
    Form {
        arguments: &["-b", "out"],
        prepare: |sandbox| {
            sandbox.write("out", "old");
            sandbox.write("out~", "older");
        },
        ..OTHER
    }
    .survives_every_error();
}

#[test]
fn a_numbered_backup_survives_every_error() {
    needs_tool!("strace");
    Form {
        arguments: &["--backup=numbered", "out"],
        prepare: |sandbox| {
            sandbox.write("out", "old");
            sandbox.write("out.~1~", "older");
        },
        ..OTHER
    }
    .survives_every_error();
}

#[test]
fn a_backup_where_nothing_can_be_linked_survives_every_error() {
    needs_tool!("strace");
    Form {
        arguments: &["-b", "out"],
        prepare: |sandbox| {
            sandbox.write("out", "old");
            sandbox.write("out~", "older");
        },
        always: Some("linkat:error=EPERM"),
        ..OTHER
    }
    .survives_every_error();
}

#[test]
fn equal_content_survives_every_error() {
    needs_tool!("strace");
    Form {
        arguments: &["-C", "out"],
        prepare: |sandbox| {
            sandbox.write("out", input());
        },
        ..OTHER
    }
    .survives_every_error();
}

#[test]
fn unequal_content_survives_every_error() {
    needs_tool!("strace");
    Form {
        arguments: &["-C", "-m", "600", "out"],
        prepare: |sandbox| {
            let mut other = input();
            other[9_000] ^= 1;
            sandbox.write("out", other);
        },
        ..OTHER
    }
    .survives_every_error();
}

#[test]
fn a_validated_write_survives_every_error() {
    needs_tool!("strace");
    Form {
        arguments: &["--validate", "test -s \"$1\"", "out"],
        ..OTHER
    }
    .survives_every_error();
}

#[test]
fn a_validated_file_with_a_name_survives_every_error() {
    needs_tool!("strace");
    Form {
        arguments: &["--validate", "test -s \"$1\"", "out"],
        always: Some("linkat:error=EOPNOTSUPP"),
        ..OTHER
    }
    .survives_every_error();
}

#[test]
fn a_write_in_place_survives_every_error_by_its_own_promise() {
    needs_tool!("strace");
    Form {
        arguments: &["-q", "--inplace=always", "out"],
        ..OTHER
    }
    .survives_every_error();
}

#[test]
fn a_write_in_place_with_a_backup_survives_every_error_by_its_own_promise() {
    needs_tool!("strace");
    Form {
        arguments: &["-q", "--inplace=always", "-b", "out"],
        prepare: |sandbox| {
            sandbox.write("out", "old");
            sandbox.write("out~", "older");
        },
        ..OTHER
    }
    .survives_every_error();
}

#[test]
fn a_clean_up_that_fails_does_not_hide_the_error() {
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
        let mut names = sandbox.names();
        assert_eq!(names.len(), 2, "the injection had no effect");
        // What has the derived name is removed by the next write; what has a random one stays.
        names.retain(|name| name != derived_name("out").as_str());
        assert_eq!(names.len(), 1 + usize::from(named.is_some()));
        sandbox
            .atomwrite(["out"])
            .stdin("new")
            .leaves(names)
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
    for name in ["read", "write", "splice", "flock", "openat"] {
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
        let old = fs::read(sandbox.path("out")).unwrap_or_default();
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
            others: others(&sandbox),
        };
        let mut expected = input_of(&sandbox);
        if self.has("-a") {
            expected.splice(0..0, old);
        }
        assert_eq!(clean.look.content, Content(expected));
        drop(sandbox);

        // One entry for all errors of a call that the same can be said of.
        let mut complaints: BTreeMap<String, Vec<String>> = BTreeMap::new();
        let mut runs = 0;
        for (place, call) in clean.trace.own().iter().enumerate() {
            if call.injected() {
                continue;
            }
            for errno in errors_of(&call.name) {
                if self.errors == Errors::Few && !FEW.contains(&errno) {
                    continue;
                }
                runs += 1;
                let sandbox = make_sandbox();
                (self.prepare)(&sandbox);
                let before = (Look::at(&sandbox), others(&sandbox));
                let aim = format!("{}:error={errno}:when={}", call.name, call.nth);
                let done = self.run(&sandbox, Some(&aim));
                let after = (Look::at(&sandbox), others(&sandbox));
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
        let verdict = match done.trace.count(aimed_at) {
            1 => self.verdict(place, errno, &clean.trace),
            // This run did not need the call, and then it must end as the clean one.
            0 if call.depends_on_timing() => Some(0),
            _ => return vec!["the call was not made to fail, the test cannot aim".into()],
        };
        let mut complaints = Vec::new();
        let mut complain = |what: String| complaints.push(what);
        if let Some(must) = verdict {
            if done.status != Some(must) {
                complain(format!("the status must be {must}"));
            }
        }
        let in_place = self.has("--inplace=always");
        match (done.status, &after.0) {
            (Some(0 | 4), None) => complain("missing".into()),
            // It broke off.
            (Some(4), Some(look)) if in_place => {
                let Some(Look { inode, .. }) = before.0 else {
                    return vec!["DEST was not there".into()];
                };
                let touched = |call: &Call| call.args.contains("/out>") && call.is("write");
                let written = clean.trace.places(touched).first().copied();
                if look.inode != inode || written.is_none_or(|written| place < written) {
                    complain("changed before it was written to".into());
                }
                if names_and_content(&after.1) != names_and_content(&clean.others) {
                    complain(format!("left behind, {:?}", after.1));
                }
            }
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
                let mut left = self.without_what_may_stay(call, &after.1);
                // The number is taken, so the backup has the next one.
                if call.is("linkat") && errno == "EEXIST" && call.args.contains("\"out.~2~\"") {
                    for other in left.iter_mut().filter(|other| other.name == "out.~3~") {
                        other.name = "out.~2~".into();
                    }
                }
                if names_and_content(&left) != names_and_content(&clean.others) {
                    complain(format!("left behind, {left:?}"));
                }
            }
            (Some(1), _) => {
                let changes = self.check_unchanged(place, clean, before, after);
                changes.into_iter().for_each(&mut complain);
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

    /// Says what a run has changed that failed before the commit.
    fn check_unchanged(
        &self,
        place: usize,
        clean: &Clean,
        before: &State,
        after: &State,
    ) -> Vec<String> {
        // A hard link that comes and goes, or preallocated blocks, leave a trace in the ctime.
        let but_for_ctime = ["-b", "--backup=numbered", "--inplace=always"]
            .iter()
            .any(|option| self.has(option));
        // The backup has replaced an older one, which stays so: it is a link to DEST, or a copy of it.
        let renames = clean
            .trace
            .places(|call| call.renames() && call.succeeded());
        let backed_up = self.has("-b")
            && renames.first().is_some_and(|first| *first < place)
            && before.1.iter().any(|other| other.name == "out~");
        let same = match (&after.0, &before.0) {
            (Some(after), Some(before)) if but_for_ctime => {
                let more = after.links.checked_sub(before.links);
                (more == Some(0) || backed_up && more == Some(1))
                    && after.is_but_for_links_and_ctime(before)
            }
            (after, before) => after == before,
        };
        let mut complaints = Vec::new();
        if !same {
            complaints.push(format!("DEST has changed, {:?}", after.0));
        }
        let left = self.without_what_may_stay(&clean.trace.own()[place], &after.1);
        let same = if backed_up {
            names_and_content(&left) == names_and_content(&clean.others)
        } else {
            left == before.1
        };
        if !same {
            complaints.push(format!("left behind, {:?}", after.1));
        }
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

    fn words(&self) -> Vec<&'static str> {
        let mut words = self.arguments.to_vec();
        if !self.command.is_empty() {
            words.push("--");
            words.extend(self.command);
        }
        words
    }

    fn has(&self, option: &str) -> bool {
        self.arguments.contains(&option)
    }

    /// Takes away the names that may stay because this call failed: one that is not removed, what is in a preview directory
    /// that is not read, or a lock file of which nothing is known.
    fn without_what_may_stay(&self, call: &Call, others: &[Other]) -> Vec<Other> {
        let reads = [
            "openat",
            "getdents64",
            "lseek",
            "fstat",
            "statx",
            "newfstatat",
            "fchmod",
        ];
        let removes = call.name.starts_with("unlink");
        let reads = self.has("--validate") && reads.contains(&call.name.as_str());
        // On an unknown filesystem the lock file always stays.
        let locks = call.is("fstatfs") || call.args.contains(".lock");
        let mut left = others.to_vec();
        left.retain(|other| {
            let may_stay = if other.is_lock() {
                locks
            } else {
                removes || reads
            };
            !(other.is_temporary() && may_stay)
        });
        left
    }

    fn runs_a_program(&self) -> bool {
        !self.command.is_empty() || self.has("--validate")
    }

    /// The status that a call which fails must lead to, if only one is right.
    fn verdict(&self, place: usize, errno: &str, clean: &Trace) -> Option<i32> {
        let call = &clean.own()[place];
        if self.has("--inplace=always") {
            // A spool has nothing to tell when it is closed, and DEST is not renamed to.
            return (call.is("write") && call.on_draft() && errno != "EINTR").then_some(1);
        }
        // Of what a program got, std closes our copies, and what that tells the next close tells too. And one that
        // injects an error does not close: what stays open for writing is a writer.
        // And a file that is only locked has nothing to tell.
        if call.is("close") && (self.runs_a_program() || self.has("-a") || self.has("-b")) {
            return None;
        }
        // The first renames are the backup's.
        let committing = clean.places(Call::renames).len() > 1;
        if committing && (call.renames() || call.is("flock")) {
            return None;
        }
        verdict(place, errno, clean)
    }

    fn run(&self, sandbox: &Sandbox, aim: Option<&str>) -> Done {
        let mut strace = Strace::new();
        if self.runs_a_program() {
            strace = strace.alone();
        }
        for injection in self.always.into_iter().chain(aim) {
            strace = strace.inject(injection);
        }
        let run = sandbox.atomwrite(self.words()).through(strace.command());
        let stdin = sandbox.aside("stdin");
        let done = if stdin.exists() {
            run.stdin_from(open(stdin)).output()
        } else {
            // All of it is there before the run begins, so that the run never waits for it.
            let (read, write) = pipe_with(PipeFlags::CLOEXEC).unwrap();
            File::from(write).write_all(&input()).unwrap();
            run.stdin_from(read).output()
        };
        assert_eq!(done.stdout, "");
        // COMMAND's form has numbers of its own for the same. A validator may refuse a copy that it cannot read whole.
        let status = match done.code() {
            Some(124) if !self.command.is_empty() => Some(4),
            Some(125 | 126) if !self.command.is_empty() => Some(1),
            other => other,
        };
        Done {
            status,
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
            || line.contains("standard input")
            || self
                .command
                .iter()
                .any(|word| line.contains(&format!("'{word}'")));
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
    others: Vec<Other>,
}

/// DEST, if it is there, and all else in the sandbox.
type State = (Option<Look>, Vec<Other>);

/// What else has a name in the sandbox.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Other {
    name: OsString,
    inode: u64,
    /// Of a file.
    content: Option<String>,
}

impl Other {
    fn is_temporary(&self) -> bool {
        self.name.to_string_lossy().contains(".atomwrite.")
    }

    fn is_lock(&self) -> bool {
        self.name.to_string_lossy().ends_with(".lock")
    }
}

/// A directory that was made anew is another one.
fn names_and_content(others: &[Other]) -> Vec<(&OsString, Option<&String>)> {
    let others = others.iter();
    others
        .map(|other| (&other.name, other.content.as_ref()))
        .collect()
}

fn others(sandbox: &Sandbox) -> Vec<Other> {
    let names = sandbox.names().into_iter();
    names
        .map(|name| {
            let stat = sandbox.stat(&name);
            let is_dest = ["out", "far/target", "one/two/out"].contains(&name.to_str().unwrap());
            let content = (stat.is_file() && !is_dest).then(|| {
                let mut text = sandbox.text(&name);
                text.truncate(64);
                format!("{text} {}", stat.len())
            });
            Other {
                inode: if is_dest { 0 } else { stat.ino() },
                name,
                content,
            }
        })
        .collect()
}

/// The content that the form's run must give.
fn input_of(sandbox: &Sandbox) -> Vec<u8> {
    [sandbox.path("src"), sandbox.aside("stdin")]
        .into_iter()
        .find_map(|file| fs::read(file).ok())
        .unwrap_or_else(input)
}

/// The kinds of errors: the disk's, the filesystem's, a signal's, a permission's, what cannot be.
const FEW: [&str; 7] = [
    "EIO", "ENOSPC", "EINTR", "EPERM", "EINVAL", "EEXIST", "EAGAIN",
];

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
            "EIO ENOSPC EDQUOT EPERM EACCES ENOMEM EINVAL ENOSYS EOPNOTSUPP EBUSY EXDEV EROFS EINTR"
        }
        "splice" => "EIO ENOSPC EDQUOT EINTR EAGAIN EINVAL ENOMEM ENOSYS EPERM",
        "copy_file_range" => "EIO ENOSPC EDQUOT EINTR ENOSYS EOPNOTSUPP EXDEV EINVAL EPERM",
        "flock" => "EINTR ENOLCK EOPNOTSUPP EAGAIN",
        "fallocate" => "EIO ENOSPC EDQUOT EINTR EOPNOTSUPP EFBIG EPERM ENOSYS",
        "ftruncate" => "EIO ENOSPC EINTR EPERM",
        "utimensat" => "EIO EPERM",
        "poll" | "ppoll" => "EINTR ENOMEM",
        "pipe2" => "EMFILE ENFILE",
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
        .places(|call| {
            call.on_draft() && (call.is("write") || call.is("copy_file_range"))
                || call.is("splice") && call.args.contains("/.atomwrite.")
        })
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
        // What it moves, read and write can carry too, and whose error it is they find out.
        "splice" => Some(0),
        "fallocate" if !full && errno != "EFBIG" => Some(0),
        "fsync" if committed => Some(if full { 4 } else { 0 }),
        _ if committed => Some(0),
        "write" if call.on_draft() => Some(1),
        // One that is closed before anything is in it has nothing to lose.
        "close" if call.on_draft() && written < Some(place) => Some(1),
        "fsync" if call.on_draft() && full => Some(1),
        "read" if call.args.starts_with("0<") => Some(1),
        // A link, or where there are none a plain rename, does the same.
        "renameat2" if matches!(errno, "EPERM" | "EINVAL" | "ENOSYS" | "EOPNOTSUPP") => Some(0),
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

    fn is_but_for_links_and_ctime(&self, other: &Self) -> bool {
        let key = |look: &Self| (look.inode, look.times[0], look.times[1]);
        key(self) == key(other) && self.content == other.content && self.has_attributes_of(other)
    }

    fn has_attributes_of(&self, other: &Self) -> bool {
        (self.mode, self.owner, &self.attributes) == (other.mode, other.owner, &other.attributes)
    }
}
