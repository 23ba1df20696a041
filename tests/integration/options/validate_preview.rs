//! What a validator sees: a copy of the new file, in a preview directory with links to the other
//! entries of DEST's directory.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use crate::harness::{
    Mount, NOBODY, Sandbox, Strace, linux_only, needs_mounts, needs_root, needs_tool, os, tool,
};
use crate::options::validate::{WAYS, is_empty, open_aside, seen, temporary_directory, validated};

// ---- What the validator sees ----

#[test]
fn the_validator_sees_the_content_by_stdin_and_by_path() {
    needs_tool!("strace", "cmp");
    for named in WAYS {
        let sandbox = Sandbox::new();
        sandbox.write("in", "new");
        let check = "cmp - \"$1\" && test \"$(cat \"$1\")\" = new && test $# = 2";
        validated(&sandbox, named, &[], check, &["out"])
            .stdin("new")
            .succeeds();
        validated(&sandbox, named, &[], check, &["in", "b"]).succeeds();
        validated(&sandbox, named, &[], check, &["c", "--", "cat", "in"]).succeeds();
        sandbox.write("d", "n");
        validated(&sandbox, named, &["-a"], check, &["d"])
            .stdin("ew")
            .succeeds();
        for name in ["out", "b", "c", "d"] {
            assert_eq!(sandbox.text(name), "new", "{named} {name}");
        }
    }
}

#[test]
fn both_paths_are_absolute_and_the_copy_has_the_name_of_the_file_that_is_replaced() {
    needs_tool!("strace");
    let longest = "x".repeat(255);
    for named in WAYS {
        let sandbox = Sandbox::new();
        sandbox.mkdir("d");
        sandbox.symlink("d/target.json", "link.conf");
        let show = "printf '%s|%s' \"$1\" \"$2\" >\"$ASIDE/seen\"";
        for (dest, place, name) in [
            ("out.json", "", "out.json"),
            ("./out.json", "", "out.json"),
            ("d/app.conf", "d", "app.conf"),
            ("d/../d/app.conf", "d", "app.conf"),
            ("-- a b", "", "-- a b"),
            ("-rf", "", "-rf"),
            ("link.conf", "d", "target.json"),
            (&longest, "", &longest),
        ] {
            let run = validated(&sandbox, named, &[], show, &["--", dest]).stdin("new");
            let done = run.output();
            assert_eq!(done.code(), Some(0), "{dest}: {done:?}");
            let seen = seen(&sandbox, "seen");
            let (first, second) = seen.split_once('|').unwrap();
            let (first, second) = (Path::new(first), Path::new(second));
            assert!(first.is_absolute() && second.is_absolute(), "{seen}");
            assert_eq!(first.file_name().unwrap(), name);
            // DEST as it was given: a link is not followed.
            assert_eq!(second.file_name(), Path::new(dest).file_name());
            let same = |one: &Path, other: &Path| {
                assert_eq!(
                    fs::canonicalize(one).unwrap(),
                    fs::canonicalize(other).unwrap(),
                    "{seen}"
                );
            };
            let typed = sandbox.path(dest);
            same(second.parent().unwrap(), typed.parent().unwrap());
            // The preview is beside the file that is replaced.
            let preview = first.parent().unwrap();
            same(preview.parent().unwrap(), &sandbox.path(place));
            assert!(!preview.exists());
        }
        assert!(sandbox.stat("link.conf").is_symlink());
    }
}

#[test]
fn a_dest_of_any_bytes_is_named_as_it_is() {
    let sandbox = Sandbox::new();
    let name = os(b"a\n\xff'$x");
    let words = [
        "--validate",
        "test \"${1##*/}\" = \"${2##*/}\" && test -s \"$1\"",
    ];
    let words = words.iter().map(OsString::from).chain([name.clone()]);
    sandbox.atomwrite(words).stdin("new").succeeds();
    assert_eq!(sandbox.text(name), "new");
}

#[test]
fn the_copy_has_the_mode_and_the_owner_that_the_new_file_will_have() {
    needs_root!();
    needs_tool!("strace", "stat");
    for named in WAYS {
        let sandbox = Sandbox::new();
        sandbox.write_with_mode("out", "old", 0o640);
        sandbox.chown("out", 1000, 1001);
        sandbox.set_xattr("out", "user.origin", b"somewhere");
        let look = "stat -c '%a %u %g' \"$1\" && stat -c %a \"$(dirname \"$1\")\"";
        validated(&sandbox, named, &[], look, &["out"])
            .stdin("new")
            .hears("640 1000 1001")
            .hears("700")
            .succeeds();
        assert_eq!(
            (sandbox.mode("out"), sandbox.owner("out")),
            (0o640, (1000, 1001))
        );
        validated(&sandbox, named, &["-m", "444", "-o", "0"], look, &["out"])
            .stdin("new")
            .hears("444 0 1001")
            .hears("700")
            .succeeds();
        validated(&sandbox, named, &[], look, &["new"])
            .umask(0o027)
            .stdin("new")
            .hears("640 0 0")
            .hears("700")
            .succeeds();
    }
    // The user who runs it can read stdin though the mode forbids to open the copy.
    let sandbox = Sandbox::new();
    sandbox.give_to(NOBODY, NOBODY);
    let check = "test \"$(cat)\" = new && test ! -r \"$1\"";
    validated(&sandbox, false, &["-m", "0"], check, &["out"])
        .user(NOBODY, NOBODY, &[])
        .stdin("new")
        .succeeds();
    assert_eq!(sandbox.mode("out"), 0);
}

#[test]
fn no_other_user_can_read_the_copy_whatever_the_umask() {
    needs_root!();
    needs_tool!("setpriv", "stat");
    // The validator tries it as another user, who can read what is aside.
    let check =
        "as_another() { setpriv --reuid=65534 --regid=65534 --clear-groups \"$@\" 2>/dev/null; }
        as_another cat \"$ASIDE/open\" >/dev/null && ! as_another cat \"$1\" &&
        test \"$(stat -c %a \"$1\")\" = 644 && test \"$(stat -c %a \"${1%/*}\")\" = 700";
    for umask in [0o022, 0o000, 0o777] {
        for inplace in ["--inplace=always", "--inplace=never"] {
            let sandbox = Sandbox::new();
            sandbox.mkdir("private");
            sandbox.chmod("private", 0o700);
            sandbox.write("private/conf", "old");
            fs::write(sandbox.aside("open"), "").unwrap();
            let tmp = temporary_directory(&sandbox);
            validated(&sandbox, false, &["-q", inplace], check, &["private/conf"])
                .env("TMPDIR", &tmp)
                .umask(umask)
                .stdin("new")
                .succeeds();
            assert_eq!(sandbox.text("private/conf"), "new");
            assert!(is_empty(&tmp), "{umask:o} {inplace}");
        }
    }
}

#[test]
fn a_validator_that_becomes_another_user_reads_stdin() {
    needs_root!();
    needs_tool!("setpriv");
    let sandbox = Sandbox::new();
    sandbox.write_with_mode("out", "old", 0o600);
    let check = "setpriv --reuid=65534 --regid=65534 --clear-groups grep -q new";
    validated(&sandbox, false, &[], check, &["out"])
        .stdin("new")
        .succeeds();
}

#[test]
fn the_preview_and_the_copy_are_private_from_the_moment_that_they_are_made() {
    needs_tool!("strace");
    for option in ["--inplace=always", "--inplace=never"] {
        let sandbox = Sandbox::new();
        sandbox.write("out", "old");
        let strace = Strace::new().alone();
        validated(&sandbox, false, &["-q", option], "true", &["out"])
            .through(strace.command())
            .umask(0)
            .stdin("new")
            .succeeds();
        let trace = strace.trace();
        // Not the spool of --inplace: it never has a name by which another user could open it.
        let files = trace.places(|call| {
            let beside_dest = call.args.contains("O_TMPFILE") && call.args.contains(", \".\", ");
            call.is("openat") && (beside_dest || call.args.contains("O_CREAT"))
        });
        let directories = trace.places(|call| call.name.starts_with("mkdir") && call.succeeded());
        assert!(!files.is_empty() && directories.len() == 1, "{trace}");
        for (places, mode) in [(files, ", 0600"), (directories, ", 0700")] {
            for at in places {
                assert!(trace.own()[at].args.ends_with(mode), "{trace}");
            }
        }
    }
}

#[test]
fn the_validators_stdout_goes_to_stderr() {
    let sandbox = Sandbox::new();
    let say = "echo said; echo complained >&2";
    validated(&sandbox, false, &["-v"], say, &["out"])
        .stdin("new")
        .hears("said")
        .hears("complained")
        .says("created")
        .succeeds();
}

#[test]
fn the_validator_starts_with_default_dispositions_and_no_descriptor_of_ours() {
    needs_tool!("strace", "ls", "env");
    let without_us = tool("ls", ["/proc/self/fd"]);
    for named in WAYS {
        let sandbox = Sandbox::new();
        let look = "ls /proc/self/fd >\"$ASIDE/fds\"; cat /proc/self/status >\"$ASIDE/status\"";
        validated(&sandbox, named, &["-q", "-C", "--lock"], look, &["out"])
            .file_size_limit(1 << 30)
            .stdin("new")
            .succeeds();
        assert_eq!(seen(&sandbox, "fds"), without_us);
        let status = seen(&sandbox, "status");
        for key in ["SigBlk:", "SigCgt:"] {
            let line = status.lines().find_map(|line| line.strip_prefix(key));
            assert_eq!(line.unwrap().trim(), "0000000000000000", "{key}");
        }
    }
}

#[test]
fn the_copy_is_a_clone_where_the_filesystem_can_clone() {
    linux_only!("copies by the kernel");
    needs_mounts!();
    needs_tool!("strace", "mkfs.xfs");
    let mount = Mount::xfs();
    let sandbox = Sandbox::in_dir(mount.path());
    let strace = Strace::new().alone();
    validated(&sandbox, false, &[], "test -s \"$1\"", &["out"])
        .through(strace.command())
        .stdin(vec![b'x'; 1 << 20])
        .succeeds();
    let trace = strace.trace();
    trace.only("a clone", |call| {
        call.args.contains("FICLONE") && call.succeeded()
    });
}

// ---- Where the preview is, and what is beside the copy ----

#[test]
fn the_preview_is_in_tmpdir_where_another_user_could_rename_it_and_with_inplace() {
    needs_root!();
    let in_place = &["--inplace=always"][..];
    let (root, user) = (0, NOBODY);
    for (mode, owner, runner, options, beside) in [
        (0o755, root, root, &[][..], true),
        (0o700, user, user, &[], true),
        (0o1777, root, root, &[], true),
        (0o1777, root, user, &[], true),
        (0o777, root, root, &[], false),
        (0o775, root, root, &[], false),
        (0o777, user, user, &[], false),
        (0o755, user, root, &[], false),
        (0o755, root, root, in_place, false),
        (0o700, root, root, in_place, false),
    ] {
        let sandbox = Sandbox::new();
        open_aside(&sandbox);
        let tmp = temporary_directory(&sandbox);
        sandbox.write("include", "included");
        sandbox.write("out", "old");
        sandbox.chown("out", runner, runner);
        sandbox.give_to(owner, owner);
        sandbox.chmod("", mode);
        let check = "printf %s \"${1%/*}\" >\"$ASIDE/seen\" && test -L \"${1%/*}/include\" &&
            test \"$(cat \"${1%/*}/include\")\" = included";
        let options = [&["-q"], options].concat();
        validated(&sandbox, false, &options, check, &["out"])
            .env("TMPDIR", &tmp)
            .user(runner, runner, &[])
            .stdin("new")
            .succeeds();
        let case = format!("{mode:o} of {owner}, run by {runner}, {options:?}");
        let preview = PathBuf::from(seen(&sandbox, "seen"));
        let expected = if beside { sandbox.root() } else { &tmp };
        assert_eq!(preview.parent().unwrap(), expected, "{case}");
        assert!(!preview.exists() && is_empty(&tmp), "{case}");
    }
}

#[test]
fn with_create_dirs_the_preview_is_in_the_nearest_directory_and_has_no_links() {
    needs_tool!("strace", "ls");
    for named in WAYS {
        let sandbox = Sandbox::new();
        sandbox.mkdir("have");
        sandbox.write("have/sibling", "");
        let check = "test ! -e have/a && printf %s \"${1%/*}\" >\"$ASIDE/seen\" &&
            test \"$(ls -A \"${1%/*}\")\" = out.json";
        let dest = ["have/a/b/out.json"];
        validated(&sandbox, named, &["-D"], "exit 1", &dest)
            .stdin("new")
            .fails(3);
        validated(&sandbox, named, &["-D"], check, &dest)
            .stdin("new")
            .leaves([
                "have",
                "have/a",
                "have/a/b",
                "have/a/b/out.json",
                "have/sibling",
            ])
            .succeeds();
        let preview = PathBuf::from(seen(&sandbox, "seen"));
        assert_eq!(preview.parent().unwrap(), sandbox.path("have"));
    }
}

#[test]
fn every_other_entry_is_there_as_a_link_to_the_original() {
    needs_tool!("strace", "ls", "readlink");
    for named in WAYS {
        let sandbox = Sandbox::new();
        sandbox.mkdir("d/sub");
        for name in ["d/out", "d/file", "d/.hidden", "d/sub/deep"] {
            sandbox.write(name, name);
        }
        // Not these: they come and go.
        for name in [
            ".atomwrite.0123456789abcdef.tmp",
            ".atomwrite.0123456789abcdef.lock",
            ".nfs000000000000beef",
            ".fuse_hidden000beef",
        ] {
            sandbox.write(Path::new("d").join(name), "");
        }
        sandbox.symlink("file", "d/link");
        sandbox.symlink("nowhere", "d/dangling");
        sandbox.fifo("d/fifo");
        let check = "d=$PWD/d; cd \"${1%/*}\" || exit 9
            ls -A >\"$ASIDE/names\"
            for name in .hidden dangling fifo file link sub; do test -L $name || exit 8; done
            for name in file fifo sub; do test \"$(readlink -f $name)\" = \"$d/$name\" || exit 7; done
            test ! -L out && test -f out && test \"$(cat link .hidden sub/deep)\" = d/filed/.hiddend/sub/deep";
        validated(&sandbox, named, &[], check, &["d/out"])
            .stdin("new")
            .succeeds();
        let names = seen(&sandbox, "names");
        let mut names: Vec<_> = names.lines().collect();
        names.sort_unstable();
        let expected = [".hidden", "dangling", "fifo", "file", "link", "out", "sub"];
        assert_eq!(names, expected);
    }
}

#[test]
fn a_link_as_dest_has_the_entries_beside_its_target() {
    let sandbox = Sandbox::new();
    sandbox.mkdir("far");
    sandbox.write("far/include", "far");
    sandbox.write("include", "near");
    sandbox.write("far/target", "old");
    sandbox.symlink("far/target", "link");
    let check = "test \"$(cat \"${1%/*}/include\")\" = far && test \"$(cat \"$2\")\" = old";
    validated(&sandbox, false, &[], check, &["link"])
        .stdin("new")
        .succeeds();
}

#[test]
fn a_link_beside_dest_that_leads_to_it_leads_to_the_copy() {
    for option in ["--no-dereference", "--inplace=always"] {
        let sandbox = Sandbox::new();
        sandbox.mkdir("sub");
        sandbox.write("out", "old");
        sandbox.write("sub/out", "other");
        sandbox.symlink("out", "current");
        sandbox.symlink("current", "default");
        // These links lead elsewhere.
        sandbox.symlink("..", "up");
        sandbox.symlink("sub/out", "deep");
        sandbox.symlink(sandbox.path("out"), "absolute");
        let check = "cd \"${1%/*}\" && test \"$(cat current default)\" = newnew &&
            test \"$(cat deep absolute)\" = otherold && test up -ef \"${2%/*}/..\"";
        validated(&sandbox, false, &["-q", option], check, &["out"])
            .stdin("new")
            .succeeds();
        assert_eq!(sandbox.text("default"), "new");
    }
}

#[test]
fn an_entry_that_the_validator_writes_to_is_the_original() {
    let sandbox = Sandbox::new();
    sandbox.write("out", "old");
    sandbox.write("other", "other");
    let check = "echo ' more' >>\"${1%/*}/other\"";
    validated(&sandbox, false, &[], check, &["out"])
        .stdin("new")
        .succeeds();
    assert_eq!(sandbox.text("other"), "other more\n");
}

#[test]
fn of_more_than_1024_entries_some_are_left_out_and_a_refusal_says_so() {
    needs_tool!("find");
    for (entries, all) in [(900, true), (1100, false)] {
        let sandbox = Sandbox::new();
        sandbox.write("out", "old");
        for entry in 0..entries {
            sandbox.write(format!("{entry}"), "");
        }
        let count = "find \"${1%/*}\" -type l | wc -l >\"$ASIDE/links\"; exit";
        let done = validated(&sandbox, false, &[], &format!("{count} 1"), &["out"])
            .stdin("new")
            .fails(3);
        assert_ne!(done.stderr.contains("left out"), all, "{done:?}");
        let links: usize = seen(&sandbox, "links").trim().parse().unwrap();
        if all {
            assert_eq!(links, entries);
        } else {
            assert!(links <= 1024 && links > 1000, "{links}");
        }
        validated(&sandbox, false, &[], &format!("{count} 0"), &["out"])
            .stdin("new")
            .succeeds();
    }
}

#[test]
fn the_entries_of_a_directory_that_cannot_be_read_are_left_out_and_a_refusal_says_so() {
    linux_only!("ways to what may not be read");
    needs_root!();
    needs_tool!("ls");
    let sandbox = Sandbox::new();
    sandbox.write("out", "old");
    sandbox.write("other", "");
    sandbox.chown("out", NOBODY, NOBODY);
    sandbox.give_to(NOBODY, NOBODY);
    sandbox.chmod("", 0o300);
    let run = |check| {
        validated(&sandbox, false, &["-q", "--sync=none"], check, &["out"])
            .user(NOBODY, NOBODY, &[])
            .stdin("new")
    };
    run("exit 1").says("left out").fails(3);
    run("test \"$(ls -A \"${1%/*}\")\" = out").succeeds();
}

#[test]
fn what_a_validator_has_mounted_in_the_preview_is_not_emptied() {
    linux_only!("mounts of one filesystem in itself");
    needs_mounts!();
    let sandbox = Sandbox::new();
    sandbox.write("out", "old");
    let other = Sandbox::new();
    other.write("precious", "content");
    other.chmod(".", 0o755);
    let program = format!(
        r#"d=${{1%/*}}; mkdir "$d/m" && mount --bind '{}' "$d/m""#,
        other.root().display()
    );
    let done = sandbox
        .atomwrite(["--validate", &program, "out"])
        .through(["unshare", "--mount", "--propagation", "private"])
        .stdin("new")
        .output();
    assert_eq!(done.code(), Some(0), "{done:?}");
    assert_eq!(sandbox.text("out"), "new");
    assert_eq!(other.text("precious"), "content");
    assert_eq!(other.mode("."), 0o755);
}
