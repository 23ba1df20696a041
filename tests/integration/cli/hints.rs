//! Each hint is true: it is printed only if it works. Every case sets up a situation, reads the
//! message, and follows the hint, which must succeed. If a message has no hint, the hints of other
//! messages must fail there.
//!
//! This module has what permissions and filesystems forbid; `hints_for_words` has names, content
//! and the command line.

use std::fs;
use std::os::unix::process::CommandExt;
use std::process::Command;

use crate::harness::{
    Cover, Done, Mount, NOBODY, Sandbox, linux_only, needs_mounts, needs_root, needs_tool, tool,
};

pub(crate) struct Case {
    /// For sh, in a directory of the user's with the files `in`, `in2` and `f`.
    pub(crate) set_up: &'static str,
    pub(crate) words: &'static [&'static str],
    pub(crate) stdin: &'static str,
    pub(crate) says: &'static str,
    /// The command lines that follow the hint.
    pub(crate) works: &'static [&'static [&'static str]],
    /// Command lines that no hint suggests, and that fail.
    pub(crate) fails: &'static [&'static [&'static str]],
}

pub(crate) const NEW: Case = Case {
    set_up: "",
    words: &[],
    stdin: "new",
    says: "",
    works: &[],
    fails: &[],
};

/// Who runs it.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum As {
    /// The user who runs the tests; root, if the case needs root.
    Tester,
    /// An ordinary user: another one if root runs the tests.
    User,
    /// The same, after root has set up the case.
    Guest,
}

impl Case {
    #[track_caller]
    fn run(&self, who: As, words: &[&str]) -> Done {
        let is_root = rustix::process::geteuid().is_root();
        let sandbox = Sandbox::new();
        for (name, content) in [("in", "new"), ("in2", "newer"), ("f", "old")] {
            sandbox.write(name, content);
        }
        if is_root && who != As::Tester {
            let owner = format!("{NOBODY}:{NOBODY}");
            let root = sandbox.root().as_os_str();
            tool("chown", ["-R".as_ref(), owner.as_ref(), root]);
        }
        let mut set_up = Command::new("sh");
        set_up
            .args(["-euc", self.set_up])
            .current_dir(sandbox.root());
        if is_root && who == As::User {
            set_up.uid(NOBODY).gid(NOBODY);
        }
        assert!(set_up.status().unwrap().success(), "{}", self.set_up);
        run_in(&sandbox, who, words, self.stdin)
    }

    #[track_caller]
    pub(crate) fn holds(&self, who: As) {
        let shown = format!("{}; atomwrite {}", self.set_up, self.words.join(" "));
        let done = self.run(who, self.words);
        let says = format!("atomwrite: {}\n", self.says);
        assert_eq!(done.stderr, says, "{shown}");
        assert_ne!(done.code(), Some(0), "{shown}");
        for words in self.works {
            let done = self.run(who, words);
            let shown = format!("{}; atomwrite {}", self.set_up, words.join(" "));
            assert_eq!(
                (done.code(), done.stderr.as_str()),
                (Some(0), ""),
                "{shown}"
            );
        }
        for words in self.fails {
            let done = self.run(who, words);
            let shown = format!("{}; atomwrite {}", self.set_up, words.join(" "));
            assert_ne!(done.code(), Some(0), "{shown}");
        }
    }
}

#[track_caller]
fn run_in(sandbox: &Sandbox, who: As, words: &[&str], stdin: &str) -> Done {
    let run = sandbox.atomwrite(words.to_vec()).stdin(stdin);
    let is_root = rustix::process::geteuid().is_root();
    if is_root && who != As::Tester {
        run.user(NOBODY, NOBODY, &[]).output()
    } else {
        run.output()
    }
}

// ---- Permissions ----

const PERMISSIONS: &[Case] = &[
    Case {
        set_up: "chmod 444 f",
        words: &["f"],
        says: "cannot write 'f': permission denied; use --force to replace it; 'f' is unchanged",
        works: &[&["--force", "f"]],
        ..NEW
    },
    Case {
        set_up: "chmod 444 f",
        words: &["-ab", "f"],
        says: "cannot write 'f': permission denied; use --force to replace it; 'f' is unchanged",
        works: &[&["-fab", "f"]],
        ..NEW
    },
    Case {
        set_up: "chmod 0 f",
        words: &["-a", "f"],
        says: "cannot write 'f': permission denied; 'f' is unchanged",
        fails: &[&["-fa", "f"]],
        ..NEW
    },
    Case {
        set_up: "chmod 444 f",
        words: &["--inplace=always", "f"],
        says: "cannot write 'f': permission denied; 'f' is unchanged",
        fails: &[&["-f", "--inplace=always", "f"]],
        ..NEW
    },
    Case {
        set_up: "mkdir d; mv f d; chmod 555 d",
        words: &["d/f"],
        says: "cannot create a file in the directory of 'd/f': permission denied; use --inplace to overwrite the file; 'd/f' is unchanged",
        works: &[&["-q", "--inplace", "d/f"]],
        fails: &[&["-f", "d/f"]],
        ..NEW
    },
    Case {
        set_up: "mkdir d; mv f d; chmod 555 d",
        words: &["-b", "d/f"],
        says: "cannot create a file in the directory of 'd/f': permission denied; 'd/f' is unchanged",
        fails: &[&["-b", "--inplace", "d/f"]],
        ..NEW
    },
    Case {
        set_up: "mkdir d; mv f d; chmod 444 d/f; chmod 555 d",
        words: &["d/f"],
        says: "cannot write 'd/f': permission denied; 'd/f' is unchanged",
        fails: &[
            &["-f", "d/f"],
            &["--inplace", "d/f"],
            &["-f", "--inplace", "d/f"],
        ],
        ..NEW
    },
    Case {
        set_up: "mkdir d; cp in2 d/in; chmod 555 d",
        words: &["-t", "d", "in"],
        says: "cannot create a directory beside 'd/in': permission denied; 'd' is unchanged",
        fails: &[&["-t", "d", "--inplace", "in"]],
        ..NEW
    },
    Case {
        set_up: "mkdir d; chmod 555 d",
        words: &["d/nowhere/f"],
        says: "cannot write 'd/nowhere/f': its directory does not exist",
        fails: &[&["-D", "d/nowhere/f"]],
        ..NEW
    },
];

#[test]
fn hints_for_a_user_work_within_the_permissions() {
    for case in PERMISSIONS {
        case.holds(As::User);
    }
}

// ---- Files of other users ----

const OTHERS: &[Case] = &[
    // The message of --force once named --inplace, and the message of --inplace --force.
    Case {
        set_up: "mkdir d; mv f d; chown -R 0:0 d",
        words: &["d/f"],
        says: "cannot write 'd/f': permission denied; 'd/f' is unchanged",
        fails: &[&["-f", "d/f"], &["--inplace", "d/f"]],
        ..NEW
    },
    Case {
        set_up: "mkdir d; mv f d; chown -R 0:0 d",
        words: &["-f", "d/f"],
        says: "cannot create a file in the directory of 'd/f': permission denied; 'd/f' is unchanged",
        fails: &[&["-f", "--inplace", "d/f"]],
        ..NEW
    },
    Case {
        set_up: "mkdir d; mv f d; chown -R 0:0 d",
        words: &["--inplace", "d/f"],
        says: "cannot write 'd/f': permission denied; 'd/f' is unchanged",
        fails: &[&["-f", "--inplace", "d/f"]],
        ..NEW
    },
    Case {
        set_up: "mkdir d; mv f d; chown -R 0:0 d; chmod 666 d/f",
        words: &["d/f"],
        says: "cannot create a file in the directory of 'd/f': permission denied; use --inplace to overwrite the file; 'd/f' is unchanged",
        works: &[&["-q", "--inplace", "d/f"]],
        ..NEW
    },
    // Only the owner of a file sets its mode.
    Case {
        set_up: "mkdir d; mv f d; chown -R 0:0 d; chmod 666 d/f",
        words: &["-m", "600", "d/f"],
        says: "cannot create a file in the directory of 'd/f': permission denied; 'd/f' is unchanged",
        fails: &[&["-m", "600", "--inplace", "d/f"]],
        ..NEW
    },
    Case {
        set_up: "chown 0:0 f",
        words: &["f"],
        says: "cannot write 'f': permission denied; use --force to replace it; 'f' is unchanged",
        works: &[&["-qf", "f"]],
        fails: &[&["--inplace", "f"]],
        ..NEW
    },
    Case {
        set_up: "chown 0:0 f",
        words: &["--keep=all", "f"],
        says: "cannot write 'f': permission denied; 'f' is unchanged",
        fails: &[&["--keep=all", "-f", "f"]],
        ..NEW
    },
    Case {
        set_up: "chown 0:0 f; chmod 666 f",
        words: &["--keep=all", "f"],
        says: "cannot keep the group of 'f': operation not permitted; use --inplace=always to keep it; 'f' is unchanged",
        works: &[&["-q", "--keep=all", "--inplace=always", "f"]],
        ..NEW
    },
    // Nor the mode.
    Case {
        set_up: "chown 0:0 f; chmod 666 f",
        words: &["--keep=all", "-m", "600", "f"],
        says: "cannot keep the group of 'f': operation not permitted; 'f' is unchanged",
        fails: &[&["--keep=all", "-m", "600", "--inplace=always", "f"]],
        ..NEW
    },
    Case {
        set_up: "mkdir d; mv f d; chmod 1777 d; chown -R 0:0 d; chmod 666 d/f",
        words: &["d/f"],
        says: "cannot replace 'd/f': it is another user's, in a directory where only its owner may replace it (the \
               sticky bit); use --inplace to overwrite it; 'd/f' is unchanged",
        works: &[&["-q", "--inplace", "d/f"], &["-qb", "--inplace", "d/f"]],
        fails: &[&["-f", "d/f"]],
        ..NEW
    },
    Case {
        set_up: "mkdir d; mv f d; chmod 1777 d; chown -R 0:0 d",
        words: &["d/f"],
        says: "cannot replace 'd/f': it is another user's, in a directory where only its owner may replace it (the \
               sticky bit); 'd/f' is unchanged",
        fails: &[&["-f", "d/f"], &["--inplace", "d/f"]],
        ..NEW
    },
    Case {
        set_up: "mkdir d; mv f d; chmod 1777 d; chown -R 0:0 d",
        words: &["--inplace", "d/f"],
        says: "cannot write 'd/f': permission denied; 'd/f' is unchanged",
        fails: &[&["-f", "--inplace", "d/f"]],
        ..NEW
    },
    Case {
        set_up: "mkdir d; cp in2 d/in; chmod 1777 d; chown -R 0:0 d; chmod 666 d/in",
        words: &["-t", "d", "in"],
        says: "cannot replace 'd/in': it is another user's, in a directory where only its owner may replace it (the \
               sticky bit); 'd' is unchanged",
        fails: &[&["--inplace", "-t", "d", "in"], &["-f", "-t", "d", "in"]],
        ..NEW
    },
];

#[test]
fn hints_for_a_user_work_for_files_of_other_users() {
    needs_root!();
    for case in OTHERS {
        case.holds(As::Guest);
    }
}

#[test]
fn root_gets_a_hint_that_replaces_a_planted_file() {
    needs_root!();
    Case {
        set_up: "mkdir d; mv f d; chmod 1777 d; chown 1:1 d/f",
        words: &["d/f"],
        says: "cannot replace 'd/f': it is another user's, in a world-writable directory, and that user would \
               get the content; use --keep=none or -o to replace it; 'd/f' is unchanged",
        works: &[&["--keep=none", "d/f"], &["-o", "0", "d/f"]],
        ..NEW
    }
    .holds(As::Tester);
}

#[test]
fn no_hint_suggests_a_backup_of_an_unreadable_file() {
    needs_root!();
    let rule = fs::read_to_string("/proc/sys/fs/protected_hardlinks").unwrap_or_default();
    let says = "cannot write 'f': permission denied; 'f' is unchanged";
    let case = Case {
        set_up: "chmod 600 f; chown 0:0 f",
        words: &["-b", "f"],
        says,
        works: &[],
        // By a hard link there would be one.
        fails: if rule == "1\n" { &[&["-bf", "f"]] } else { &[] },
        ..NEW
    };
    case.holds(As::Guest);
}

// ---- Filesystems ----

#[test]
fn no_hint_is_given_on_a_read_only_filesystem() {
    needs_mounts!();
    let mount = Mount::tmpfs("size=1m");
    let sandbox = Sandbox::in_dir(mount.path());
    sandbox.write_with_mode("f", "old", 0o666);
    mount.remount("ro");
    for (words, says) in [
        (
            &["f"][..],
            "cannot write 'f': read-only file system; 'f' is unchanged",
        ),
        (
            &["-f", "f"],
            "cannot create a file in the directory of 'f': read-only file system; 'f' is unchanged",
        ),
        (
            &["nowhere/f"],
            "cannot write 'nowhere/f': its directory does not exist",
        ),
    ] {
        for who in [As::Tester, As::User] {
            let done = run_in(&sandbox, who, words, "new");
            assert_eq!(done.stderr, format!("atomwrite: {says}\n"));
        }
    }
    for words in [&["--inplace", "f"][..], &["-D", "nowhere/f"]] {
        assert_eq!(run_in(&sandbox, As::Tester, words, "new").code(), Some(1));
    }
    mount.remount("rw");
}

#[test]
fn an_immutable_file_is_replaced_after_the_hint_to_use_chattr() {
    linux_only!("the flags of chattr(1)");
    needs_mounts!();
    needs_tool!("chattr");
    let mount = Mount::ext4(16, &[]);
    let sandbox = Sandbox::in_dir(mount.path());
    sandbox.write("f", "old");
    sandbox.mkdir("d");
    sandbox.write("d/f", "old");
    let chattr = |flag: &str, name: &str| {
        tool("chattr", [flag.as_ref(), sandbox.path(name).as_os_str()]);
    };
    let says = |words: &[&str], line: &str| {
        let done = run_in(&sandbox, As::Tester, words, "new");
        assert_eq!(done.stderr, format!("atomwrite: {line}\n"));
    };
    let works = |words: &[&str]| {
        let done = run_in(&sandbox, As::Tester, words, "new");
        assert_eq!((done.code(), done.stderr.as_str()), (Some(0), ""));
    };
    for (flag, what) in [
        ("i", "it is immutable"),
        ("a", "it can only be appended to"),
    ] {
        chattr(&format!("+{flag}"), "f");
        says(
            &["f"],
            &format!("cannot replace 'f': {what} (chattr(1) can change that); 'f' is unchanged"),
        );
        chattr(&format!("-{flag}"), "f");
        works(&["f"]);
    }
    chattr("+a", "d");
    says(
        &["d/f"],
        "cannot write 'd/f': its directory is append-only (chattr(1) can change that); 'd/f' is unchanged",
    );
    says(
        &["d/nowhere/f"],
        "cannot write 'd/nowhere/f': its directory does not exist",
    );
    chattr("-a", "d");
    works(&["d/f"]);
    chattr("+i", "d");
    says(
        &["d/f"],
        "cannot create a file in the directory of 'd/f': operation not permitted; use --inplace to overwrite the file; 'd/f' is unchanged",
    );
    works(&["-q", "--inplace", "d/f"]);
    says(
        &["d/nowhere/f"],
        "cannot write 'd/nowhere/f': its directory does not exist",
    );
    chattr("-i", "d");
}

#[test]
fn both_hints_for_a_mounted_file_work() {
    linux_only!("a call that shows a mount point");
    needs_mounts!();
    let sandbox = Sandbox::new();
    sandbox.mkdir("d");
    sandbox.write("d/f", "old");
    sandbox.write("m", "");
    let cover = Cover::bind(&sandbox.path("d/f"), &sandbox.path("m"));
    let mounted = "cannot replace 'm': it is a mount point, and nothing can be renamed to it; mount its directory \
                   instead";
    let done = run_in(&sandbox, As::Tester, &["m"], "new");
    let or_in_place = ", or use --inplace to overwrite it; 'm' is unchanged";
    assert_eq!(done.stderr, format!("atomwrite: {mounted}{or_in_place}\n"));
    let done = run_in(&sandbox, As::User, &["m"], "new");
    assert_eq!(
        done.stderr,
        format!("atomwrite: {mounted}; 'm' is unchanged\n")
    );
    let done = run_in(&sandbox, As::User, &["--inplace", "m"], "new");
    assert_eq!(done.code(), Some(1));
    let done = run_in(&sandbox, As::Tester, &["-q", "--inplace", "m"], "new");
    assert_eq!((done.code(), done.stderr.as_str()), (Some(0), ""));
    drop(cover);
    sandbox.mkdir("e");
    let cover = Cover::bind(&sandbox.path("d"), &sandbox.path("e"));
    let done = run_in(&sandbox, As::Tester, &["e/f"], "newer");
    assert_eq!((done.code(), done.stderr.as_str()), (Some(0), ""));
    assert_eq!(sandbox.text("d/f"), "newer");
    drop(cover);
}
