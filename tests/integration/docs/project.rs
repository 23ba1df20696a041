//! The project around the program: its crates, and make's targets that install and package it.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use crate::harness::{NOBODY, Sandbox, needs_tool, skip, tool};

const TOP: &str = env!("CARGO_MANIFEST_DIR");

/// The rules for crates, which `cargo deny` reads as well.
const RULES: &str = include_str!("../../../deny.toml");

// ---- Crates ----

#[test]
fn crates_have_licenses_that_are_allowed_and_come_from_the_registry() {
    needs_tool!("jq");
    let crates = match crates() {
        Ok(crates) => crates,
        Err(reason) => skip!("needs cargo, and all crates downloaded: {reason}"),
    };
    let allowed: Vec<&str> = rule("allow").split('"').skip(1).step_by(2).collect();
    assert!(allowed.contains(&"MIT"), "{allowed:?}");
    assert!(crates.len() > 50, "{crates:?}");
    for [name, version, license, source] in crates {
        let ours = name.starts_with("atomwrite");
        assert!(
            is_allowed(&license, &allowed),
            "{name} {version} has the license '{license}'; deny.toml allows {allowed:?}"
        );
        assert_eq!(
            source,
            if ours { "" } else { REGISTRY },
            "{name} {version} comes from elsewhere"
        );
    }
}

#[test]
fn no_crate_is_used_in_two_versions_without_a_reason() {
    let lock = include_str!("../../../Cargo.lock");
    let mut versions: BTreeMap<&str, usize> = BTreeMap::new();
    for line in lock.lines() {
        if let Some(name) = line.strip_prefix("name = ") {
            *versions.entry(name.trim_matches('"')).or_default() += 1;
        }
    }
    versions.retain(|_, count| *count > 1);
    // Both ways: a reason that is no longer needed is an error.
    let twice: Vec<&str> = versions.into_keys().collect();
    let known: Vec<&str> = rule("skip")
        .split("crate = \"")
        .skip(1)
        .map(|entry| entry.split('@').next().unwrap())
        .collect();
    assert_eq!(twice, known, "Cargo.lock, and `skip` in deny.toml");
}

#[test]
fn a_license_expression_is_allowed_if_one_of_each_choice_is() {
    let allowed = ["MIT", "Zlib"];
    for license in [
        "MIT",
        "MIT OR GPL-3.0",
        "GPL-3.0/MIT",
        "(MIT OR X) AND Zlib",
    ] {
        assert!(is_allowed(license, &allowed), "{license}");
    }
    for license in ["", "GPL-3.0", "MIT AND GPL-3.0", "MIT WITH exception"] {
        assert!(!is_allowed(license, &allowed), "{license}");
    }
}

const REGISTRY: &str = "registry+https://github.com/rust-lang/crates.io-index";

/// Returns name, version, license and source of each crate that a build for one of our machines
/// takes; the source of our own is empty. Err says why cargo cannot tell.
fn crates() -> Result<Vec<[String; 4]>, String> {
    let cargo = std::env::var_os("CARGO").unwrap_or("cargo".into());
    let machines = [
        "x86_64-unknown-linux-gnu",
        "aarch64-unknown-linux-gnu",
        "armv7-unknown-linux-gnueabihf",
    ];
    // Offline: a test downloads nothing.
    let output = Command::new(cargo)
        .args(["metadata", "--locked", "--offline", "--format-version=1"])
        .args(machines.map(|machine| format!("--filter-platform={machine}")))
        .current_dir(TOP)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| error.to_string())?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).replace('\n', " "));
    }
    let sandbox = Sandbox::new();
    let metadata = sandbox.write("metadata", output.stdout);
    let filter = ".packages[] | [.name, .version, .license // \"\", .source // \"\"] | @tsv";
    let table = tool("jq", [OsStr::new("-r"), filter.as_ref(), metadata.as_ref()]);
    Ok(table
        .lines()
        .map(|line| {
            let mut fields = line.split('\t').map(str::to_owned);
            [(); 4].map(|()| fields.next().unwrap())
        })
        .collect())
}

/// Evaluates an SPDX expression of the forms that crates use. Every AND is evaluated last, which
/// can only refuse too much.
fn is_allowed(license: &str, allowed: &[&str]) -> bool {
    license.split(" AND ").all(|choice| {
        choice
            .replace('/', " OR ")
            .split(" OR ")
            .any(|name| allowed.contains(&name.trim_matches(['(', ')', ' '])))
    })
}

/// Returns what is in the brackets of a list in deny.toml.
fn rule(key: &str) -> &'static str {
    let start = format!("\n{key} = [");
    let (_, list) = RULES.split_once(&start).unwrap();
    list.split(']').next().unwrap()
}

// ---- make install and uninstall ----

#[test]
fn install_and_uninstall_refuse_places_that_are_not_absolute() {
    needs_tool!("make");
    let tree = Tree::new();
    let names = tree.sandbox.names();
    for target in ["install", "uninstall"] {
        for (name, value) in [
            ("PREFIX", "relative"),
            ("DESTDIR", "../relative"),
            ("FISH_COMPLETIONS", "./relative"),
        ] {
            tree.make([target, &format!("{name}={value}")])
                .fails(&format!(
                    "install.sh: {name} must be an absolute path, not '{value}'"
                ));
        }
        // As dash and zsh leave it.
        tree.make([target, "PREFIX=~/.local"]).fails(
            "install.sh: PREFIX must be an absolute path: \
             your shell has not expanded '~/.local'; use \"$HOME\" instead of ~",
        );
    }
    assert_eq!(tree.sandbox.names(), names);
}

#[test]
fn install_without_the_right_to_installs_nothing_and_says_so() {
    needs_tool!("make");
    let tree = Tree::new();
    tree.sandbox.mkdir("prefix/share");
    tree.sandbox.chmod("prefix/share", 0o555);
    let names = tree.sandbox.names();
    let share = tree.sandbox.path("prefix/share");
    let share = share.display();
    tree.make(["install", &tree.prefix()]).fails(&format!(
        "install.sh: cannot install '{share}/man/man1/atomwrite.1': '{share}' is not writable; \
         use sudo, or a PREFIX of your own"
    ));
    assert_eq!(tree.sandbox.names(), names);
}

#[test]
fn uninstall_without_the_right_to_removes_nothing_and_says_so() {
    needs_tool!("make");
    let tree = Tree::new();
    tree.make(["install", &tree.prefix()]).succeeds();
    tree.sandbox.chmod("prefix/share/man/man1", 0o555);
    let names = tree.sandbox.names();
    let manual = tree.sandbox.path("prefix/share/man/man1");
    let manual = manual.display();
    tree.make(["uninstall", &tree.prefix()]).fails(&format!(
        "install.sh: cannot uninstall '{manual}/atomwrite.1': '{manual}' is not writable; \
         use sudo, or the PREFIX that it was installed with"
    ));
    assert_eq!(tree.sandbox.names(), names);
}

#[test]
fn uninstall_removes_every_file_and_needs_no_right_where_there_is_none() {
    needs_tool!("make");
    let tree = Tree::new();
    let files = || {
        let names = tree.sandbox.names().into_iter();
        names
            .filter(|name| {
                Path::new(name).starts_with("prefix") && tree.sandbox.path(name).is_file()
            })
            .count()
    };
    tree.make(["install", &tree.prefix()]).succeeds();
    assert_eq!(files(), 5);
    tree.make(["uninstall", &tree.prefix()]).succeeds();
    assert_eq!(files(), 0);
    tree.sandbox.chmod("prefix/bin", 0o555);
    tree.make(["uninstall", &tree.prefix()]).succeeds();
}

// ---- make deb and dist ----

#[test]
fn deb_names_every_program_that_is_missing_before_it_builds() {
    needs_tool!("make");
    let tree = Tree::new();
    tree.sandbox.mkdir("tree/.git");
    let programs = tree.programs_without(&["git", "xz", "dpkg-deb"]);
    let mut make = tree.command("make", ["-j4", "deb"]);
    let output = Finished(make.env("PATH", programs).output().unwrap());
    output.fails(
        "packaging/needs.sh: missing: xz dpkg-deb git; \
         install these Debian packages first: xz-utils dpkg git",
    );
    // The output of make has the commands that it runs.
    assert_eq!(output.stdout(), "");
}

#[test]
fn a_package_of_a_tree_without_git_has_the_time_of_its_files_and_its_user() {
    let tree = Tree::new();
    let file = tree.sandbox.path("tree/Cargo.toml");
    tool("touch", [OsStr::new("-d@1234567890"), file.as_os_str()]);
    let release = |variables: &[(&str, &str)]| {
        let script = ". packaging/release.sh; echo \"$SOURCE_DATE_EPOCH $maintainer\"";
        let mut sh = tree.command("sh", ["-euc", script]);
        let output = Finished(sh.envs(variables.iter().copied()).output().unwrap());
        output.succeeds();
        output.stdout()
    };
    let of =
        |program, argument| Finished(tree.command(program, [argument]).output().unwrap()).stdout();
    let (user, machine) = (of("id", "-un"), of("uname", "-n"));
    let (user, machine) = (user.trim(), machine.trim());
    assert_eq!(
        release(&[]),
        format!("1234567890 {user} <{user}@{machine}>\n")
    );
    let given = [
        ("SOURCE_DATE_EPOCH", "5"),
        ("DEBFULLNAME", "Jo Doe"),
        ("DEBEMAIL", "jo@example.org"),
    ];
    assert_eq!(release(&given), "5 Jo Doe <jo@example.org>\n");
}

// ---- A tree to make in ----

/// The part of the source tree that installs and packages, with a program that seems to be built.
/// Its owner, who is not root, runs everything.
struct Tree {
    sandbox: Sandbox,
}

impl Tree {
    fn new() -> Self {
        let sandbox = Sandbox::new();
        let tree = sandbox.mkdir("tree");
        for name in ["Makefile", "Cargo.toml", "packaging", "man", "completions"] {
            let from = Path::new(TOP).join(name);
            tool("cp", ["-r".as_ref(), from.as_os_str(), tree.as_os_str()]);
        }
        sandbox.mkdir("tree/target");
        sandbox.write_with_mode("tree/target/atomwrite", "#!/bin/sh\n", 0o755);
        Self { sandbox }
    }

    fn prefix(&self) -> String {
        format!("PREFIX={}", self.sandbox.path("prefix").display())
    }

    #[track_caller]
    fn make<const N: usize>(&self, arguments: [&str; N]) -> Finished {
        Finished(self.command("make", arguments).output().unwrap())
    }

    /// Returns a command that runs in the tree, with an empty environment.
    fn command<const N: usize>(&self, program: &str, arguments: [&str; N]) -> Command {
        let mut command = Command::new(program);
        command
            .args(arguments)
            .current_dir(self.sandbox.path("tree"))
            .env_clear()
            .env("LC_ALL", "C")
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .stdin(Stdio::null());
        if rustix::process::geteuid().is_root() {
            let owner = format!("{NOBODY}:{NOBODY}");
            let root = self.sandbox.root().as_os_str();
            tool("chown", ["-R".as_ref(), owner.as_ref(), root]);
            command.uid(NOBODY).gid(NOBODY);
        }
        command
    }

    /// Makes a directory of all of the machine's programs but some, for PATH.
    fn programs_without(&self, missing: &[&str]) -> PathBuf {
        let programs = self.sandbox.aside("programs");
        fs::create_dir(&programs).unwrap();
        for directory in ["/usr/bin", "/bin"] {
            for program in fs::read_dir(directory).unwrap() {
                let program = program.unwrap();
                let link = programs.join(program.file_name());
                if !missing.iter().any(|name| program.file_name() == *name) && !link.is_symlink() {
                    symlink(program.path(), link).unwrap();
                }
            }
        }
        programs
    }
}

/// A program that has ended.
struct Finished(Output);

impl Finished {
    fn stdout(&self) -> String {
        String::from_utf8_lossy(&self.0.stdout).into_owned()
    }

    fn stderr(&self) -> String {
        String::from_utf8_lossy(&self.0.stderr).into_owned()
    }

    #[track_caller]
    fn succeeds(&self) {
        assert!(self.0.status.success(), "{}", self.stderr());
        assert_eq!(self.stderr(), "");
    }

    /// It fails with one line, and what make says of that.
    #[track_caller]
    fn fails(&self, message: &str) {
        assert!(!self.0.status.success(), "{}", self.stdout());
        let stderr = self.stderr();
        let lines: Vec<&str> = stderr
            .lines()
            .filter(|line| !line.starts_with("make: *** "))
            .collect();
        assert_eq!(lines, [message]);
    }
}

#[test]
fn comments_are_no_wider_than_the_code() {
    const COLUMNS: usize = 100;
    let mut files = Vec::new();
    let mut directories = ["src", "tests", "torture", "benches"]
        .map(|name| Path::new(TOP).join(name))
        .to_vec();
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                directories.push(path);
            } else if path.extension() == Some(OsStr::new("rs")) {
                files.push(path);
            }
        }
    }
    assert!(files.len() > 200, "where have all the files gone?");
    let mut wide = Vec::new();
    for file in files {
        for line in fs::read_to_string(&file).unwrap().lines() {
            // A link cannot be broken.
            let is_comment = line.trim_start().starts_with("//") && !line.contains("https://");
            if is_comment && line.chars().count() > COLUMNS {
                wide.push(format!("{}: {line}", file.display()));
            }
        }
    }
    assert!(
        wide.is_empty(),
        "wider than {COLUMNS}:\n{}",
        wide.join("\n")
    );
}
