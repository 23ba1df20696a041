//! Fuzzing: random command lines, environments, modes and suffixes.
//!
//! Invariant: whatever the command line, the exit status is a documented one, each failure has a
//! message, and only the files that were named change. Modes are compared with chmod(1), and
//! backups with cp(1).

mod grammar;

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, anyhow, ensure};
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use tempfile::TempDir;

use self::grammar::{Call, Stdin, call, is_known, mode, shown, suffix};
use crate::child::{Ended, Running};
use crate::ground::Ground;
use crate::image;
use crate::place::Place;
use crate::programs::{Program, atomwrite, is_ours};
use crate::report::{Harm, Promise, Report, Tally};
use crate::tree::{Tree, differences, snapshot};

/// What was found about one call; nothing, mostly.
type Found = Vec<(Harm, String)>;

/// How often a call that does harm is made simpler, for the report.
const SIMPLER: usize = 60;

pub(crate) fn run(ground: &Ground, report: &mut Report) -> Result<()> {
    every_option_is_known(ground)?;
    let tests: [(&str, Tally); 3] = [
        (
            "random command lines and environments",
            search(ground, "call", ground.many(2500, 9000), call(), one_call)?,
        ),
        (
            "random `-m`, compared with chmod",
            search(ground, "mode", ground.many(700, 3000), modes(), one_mode)?,
        ),
        (
            "random `-b`, `-S` and their variables, compared with cp",
            search(
                ground,
                "suffix",
                ground.many(500, 2000),
                backups(),
                one_backup,
            )?,
        ),
    ];
    for (test, tally) in tests {
        report.add(test, Promise::Made, Program::Atomwrite, tally);
    }
    Ok(())
}

/// An option that the grammar does not know would never be tried.
fn every_option_is_known(ground: &Ground) -> Result<()> {
    let mut command = Command::new(&ground.binary);
    let ended = Running::start(command.arg("-h").stdin(Stdio::null()))?.end()?;
    let help = String::from_utf8(ended.stdout)?;
    let mut seen = 0;
    for line in help.lines().filter(|line| line.starts_with("  ")) {
        let mut words = line.split_whitespace().take(2);
        for option in words.by_ref().filter(|word| word.starts_with("--")) {
            let name = option.split(['[', '=']).next().unwrap_or(option);
            ensure!(
                is_known(name),
                "{name} is not in the grammar of the command line"
            );
            seen += 1;
        }
    }
    ensure!(seen > 20, "-h names no options: {help}");
    Ok(())
}

/// Tries `many` random values, and simplifies those that do harm.
fn search<S: Strategy>(
    ground: &Ground,
    name: &str,
    many: usize,
    strategy: S,
    try_it: impl Fn(&Ground, &S::Value) -> Result<(String, Found)>,
) -> Result<Tally> {
    let mut seed = [0; 32];
    seed[..8].copy_from_slice(&ground.seed.to_le_bytes());
    seed[8..8 + name.len()].copy_from_slice(name.as_bytes());
    let config = Config {
        failure_persistence: None,
        ..Config::default()
    };
    let mut runner =
        TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &seed));
    let mut tally = Tally::default();
    for at in 0..many {
        tally.tried();
        let mut tree = strategy
            .new_tree(&mut runner)
            .map_err(|error| anyhow!("no value for {name}: {error}"))?;
        let (mut shown_as, mut found) = try_it(ground, &tree.current())?;
        if found.is_empty() {
            continue;
        }
        let mut left = SIMPLER;
        while left > 0 && tree.simplify() {
            loop {
                left = left.saturating_sub(1);
                let simpler = try_it(ground, &tree.current())?;
                if !simpler.1.is_empty() {
                    (shown_as, found) = simpler;
                    break;
                }
                if left == 0 || !tree.complicate() {
                    break;
                }
            }
        }
        for (harm, what) in found {
            tally.harmed(harm, || {
                format!("{what}: {shown_as} (number {at}, seed {})", ground.seed)
            });
        }
    }
    Ok(tally)
}

/// Runs a program in a directory, with a umask and the wanted stdin.
fn perform(
    directory: &Path,
    words: &[OsString],
    umask: u32,
    stdin: Stdin,
    set: &[(&str, OsString)],
) -> Result<Ended> {
    let closed = if stdin == Stdin::Closed { " <&-" } else { "" };
    let mut command = Command::new("/bin/sh");
    command
        .arg("-c")
        .arg(format!("umask {umask:o}; exec \"$0\" \"$@\"{closed}"))
        .args(words)
        .current_dir(directory);
    for variable in [
        "ATOMWRITE_SYNC",
        "VERSION_CONTROL",
        "SIMPLE_BACKUP_SUFFIX",
        "POSIXLY_CORRECT",
    ] {
        command.env_remove(variable);
    }
    command.envs(set.iter().map(|(name, value)| (name, value)));
    command.stdin(match stdin {
        Stdin::Closed | Stdin::Empty => Stdio::null(),
        Stdin::Short => content(b"new\n")?.into(),
        Stdin::Long => content(&vec![b'x'; 100_000])?.into(),
        Stdin::Directory => File::open(directory)?.into(),
    });
    Running::start(&mut command)?.end()
}

fn content(bytes: &[u8]) -> Result<File> {
    let mut file = image::in_memory()?;
    file.write_all(bytes)?;
    std::io::Seek::rewind(&mut file)?;
    Ok(file)
}

/// Returns the directory in which a call is made; its names come from the grammar.
fn furnish(place: &Place) -> Result<PathBuf> {
    let d = place.path("d");
    fs::create_dir(d.join("dir"))?;
    let files: [(&str, &[u8], u32); 6] = [
        ("d/o", b"old\n", 0o640),
        ("d/src", b"source\n", 0o644),
        ("d/empty", b"", 0o644),
        ("d/readonly", b"x\n", 0o444),
        ("d/list", b"src\0empty\0", 0o644),
        ("d/dir/o", b"old\n", 0o600),
    ];
    for (name, content, mode) in files {
        place.file(name, content, mode, 0)?;
    }
    for (link, target) in [("link", "o"), ("dangling", "lost"), ("loop", "loop")] {
        symlink(target, d.join(link))?;
    }
    drop(UnixListener::bind(d.join("socket"))?);
    Ok(d)
}

fn one_call(ground: &Ground, call: &Call) -> Result<(String, Found)> {
    let place = Place::make(ground)?;
    let d = furnish(&place)?;
    let before = snapshot(&d)?;
    let words = atomwrite(ground, &call.words);
    let ended = perform(&d, &words, 0o022, call.stdin, &call.environment)?;
    let after = snapshot(&d)?;
    let mut found = Found::new();
    found.extend(
        place
            .changes_to_victim()?
            .into_iter()
            .map(|what| (Harm::Foreign, format!("the victim's {what}"))),
    );
    answer(call, &ended, &mut found);
    changes(call, &ended, &before, &after, &mut found);
    let environment: Vec<String> = call
        .environment
        .iter()
        .map(|(name, value)| format!("{name}=$'{}'", value.as_bytes().escape_ascii()))
        .collect();
    let shown_as = format!(
        "{} atomwrite {} (stdin: {:?}; {})",
        environment.join(" "),
        shown(&call.words),
        call.stdin,
        ended.summary()
    );
    Ok((shown_as, found))
}

/// Status, and what was printed.
fn answer(call: &Call, ended: &Ended, found: &mut Found) {
    let mut wrong = |what: &str| found.push((Harm::Answer, what.to_owned()));
    let Some(code) = ended.code() else {
        let harm = if ended.status.is_none() {
            Harm::Hung
        } else {
            Harm::Answer
        };
        found.push((harm, "it died, or did not end".to_owned()));
        return;
    };
    let has = |option: &str| {
        call.words
            .iter()
            .any(|word| word.as_bytes().starts_with(option.as_bytes()))
    };
    // COMMAND's own: `false`, an exit with 7, a kill, and the statuses of `env`.
    let is_known = match code {
        0..=4 => true,
        7 | 124..=127 | 137 => has("--") || has("-c"),
        101 | 134 => false,
        _ => has("--unchanged"),
    };
    if !is_known {
        wrong("there is no such status");
    }
    let stderr = String::from_utf8_lossy(&ended.stderr);
    if stderr.contains("panicked") {
        wrong("it panicked");
    }
    // Without operands, the forms follow the error.
    if stderr.lines().any(|line| {
        ![
            "atomwrite: ",
            "bash: ",
            "sh: ",
            "cat: ",
            "Usage: atomwrite ",
            "       atomwrite ",
        ]
        .iter()
        .any(|whose| line.starts_with(whose))
    }) {
        wrong("a line on stderr does not say whose it is");
    }
    if code != 0 && stderr.is_empty() && !has("--unchanged") {
        wrong("it failed without a word");
    }
    if !ended.stdout.is_empty() && (code != 0 || !has("-")) {
        wrong("something is on stdout");
    }
}

/// What is another than it was.
fn changes(call: &Call, ended: &Ended, before: &Tree, after: &Tree, found: &mut Found) {
    if let Some(left) = after
        .keys()
        .find(|path| path.components().any(|part| is_ours(part.as_ref())))
    {
        found.push((Harm::Litter, format!("'{}' stays", left.display())));
    }
    let changed: BTreeSet<&PathBuf> = before
        .keys()
        .chain(after.keys())
        .filter(|name| before.get(*name) != after.get(*name))
        .collect();
    let is_done = matches!(ended.code(), Some(0 | 4 | 124)) && ended.stdout.is_empty();
    if !is_done {
        // With a lock, the directories for it are made before all else.
        let but_for_a_lock =
            |name: &&&PathBuf| !is_directory(after, name) || before.contains_key(**name);
        if let Some(name) = changed.iter().find(but_for_a_lock) {
            found.push((
                Harm::Torn,
                format!("it failed, and '{}' is another", name.display()),
            ));
        }
        return;
    }
    let named = |name: &&&PathBuf| {
        call.words.iter().any(|word| {
            let word = word.as_bytes();
            let word = word.strip_prefix(b"./").unwrap_or(word);
            let directory = [&b"--target-directory="[..], b"-t"]
                .iter()
                .find_map(|option| word.strip_prefix(*option))
                .unwrap_or(word);
            let target: &[u8] = match word {
                b"link" => b"o",
                b"dangling" => b"lost",
                other => other,
            };
            let name = name.as_os_str().as_bytes();
            // A backup begins with the name itself.
            !target.is_empty() && name.starts_with(target)
                || name.starts_with(word) && !word.is_empty()
                || !directory.is_empty() && name.starts_with(directory)
                || target.starts_with(name)
        })
    };
    if let Some(name) = changed.iter().find(|name| !named(name)) {
        found.push((Harm::Foreign, format!("'{}' was not named", name.display())));
    }
    let files = changed
        .iter()
        .filter(|name| !is_directory(after, name))
        .count();
    let many = call
        .words
        .iter()
        .any(|word| word.as_bytes().starts_with(b"-t") || word.as_bytes().starts_with(b"--target"));
    if files > 2 && !many {
        found.push((Harm::Foreign, differences(before, after).join(", ")));
    }
}

fn is_directory(tree: &Tree, name: &Path) -> bool {
    tree.get(name)
        .is_some_and(|entry| entry.mode & libc::S_IFMT == libc::S_IFDIR)
}

/// Returns a mode, what the file has, and the umask.
fn modes() -> impl Strategy<Value = (OsString, u32, u32)> {
    (
        mode(),
        0_u32..0o10000,
        proptest::sample::select(&[0o022_u32, 0, 0o077, 0o027, 0o777][..]),
    )
}

fn one_mode(ground: &Ground, (mode, old, umask): &(OsString, u32, u32)) -> Result<(String, Found)> {
    let directory = ground.directory("mode.")?;
    let path = |name: &str| directory.path().join(name);
    for name in ["o", "f"] {
        fs::write(path(name), "old\n")?;
        fs::set_permissions(path(name), fs::Permissions::from_mode(*old))?;
    }
    let mut option = OsString::from("--mode=");
    option.push(mode);
    let words = |words: &[&OsStr]| words.iter().map(OsString::from).collect::<Vec<_>>();
    let ours = words(&[
        ground.binary.as_os_str(),
        "--sync=none".as_ref(),
        &option,
        "o".as_ref(),
    ]);
    let theirs = words(&["chmod".as_ref(), "--".as_ref(), mode, "f".as_ref()]);
    let ours = perform(directory.path(), &ours, *umask, Stdin::Short, &[])?;
    let theirs = perform(directory.path(), &theirs, *umask, Stdin::Empty, &[])?;
    let permissions =
        |name: &str| -> Result<u32> { Ok(fs::metadata(path(name))?.permissions().mode() & 0o7777) };
    let mut found = Found::new();
    match (ours.code(), theirs.code()) {
        (Some(0), Some(0)) => {
            if permissions("o")? != permissions("f")? {
                let both = format!(
                    "{:o}, and chmod makes it {:o}",
                    permissions("o")?,
                    permissions("f")?
                );
                found.push((Harm::Attributes, both));
            }
        }
        (Some(2), Some(1)) if permissions("o")? == *old => {}
        _ => found.push((
            Harm::Answer,
            format!("{}, and chmod: {}", ours.summary(), theirs.summary()),
        )),
    }
    let shown_as = format!(
        "umask {umask:o}, a file of mode {old:o}, --mode={}",
        shown(std::slice::from_ref(mode))
    );
    Ok((shown_as, found))
}

/// `--backup`, `--suffix`, the two variables, and what is there already.
type Backups = (
    Option<&'static str>,
    Option<OsString>,
    Option<&'static str>,
    Option<OsString>,
    Vec<&'static str>,
);

fn backups() -> impl Strategy<Value = Backups> {
    use proptest::option::of;
    use proptest::sample::{select, subsequence};
    let controls = &[
        "none", "off", "simple", "never", "numbered", "t", "existing", "nil",
    ][..];
    let there = vec!["o~", "o.~1~", "o.~9~", "o.~10~", "o.~x~", "o.~02~"];
    (
        of(select(controls)),
        of(suffix()),
        of(select(controls)),
        // cp 9.1 takes one from its variable that ends with a slash, and fails.
        of(suffix().prop_filter("cp fails", |ending| !ending.as_bytes().ends_with(b"/"))),
        subsequence(there, 0..4),
    )
}

fn one_backup(
    ground: &Ground,
    (control, suffix, variable, ending, there): &Backups,
) -> Result<(String, Found)> {
    let option = match control {
        Some(control) => format!("--backup={control}"),
        None => "--backup".to_owned(),
    };
    let mut options = vec![OsString::from(option)];
    if let Some(suffix) = suffix {
        let mut option = OsString::from("--suffix=");
        option.push(suffix);
        options.push(option);
    }
    let mut environment = Vec::new();
    environment.extend(variable.map(|value| ("VERSION_CONTROL", OsString::from(value))));
    environment.extend(ending.clone().map(|value| ("SIMPLE_BACKUP_SUFFIX", value)));
    let run = |program: &OsStr| -> Result<(TempDir, Ended, Tree, Tree)> {
        let directory = ground.directory("backup.")?;
        for name in there.iter().chain(&["o", "src"]) {
            fs::write(directory.path().join(name), name)?;
        }
        let before = snapshot(directory.path())?;
        let mut words = vec![program.to_owned()];
        words.extend(options.iter().cloned());
        words.extend(["src", "o"].map(OsString::from));
        let ended = perform(directory.path(), &words, 0o022, Stdin::Empty, &environment)?;
        let after = snapshot(directory.path()).context("cannot read the directory")?;
        Ok((directory, ended, before, after))
    };
    let (_ours, ours, before, after) = run(ground.binary.as_os_str())?;
    let (_theirs, theirs, _, copied) = run("cp".as_ref())?;
    let contents = |tree: Tree| -> Vec<(PathBuf, Vec<u8>)> {
        tree.into_iter()
            .map(|(name, entry)| (name, entry.content))
            .collect()
    };
    let mut found = Found::new();
    match (ours.code(), theirs.code()) {
        (Some(0), Some(0)) => {
            let (ours, theirs) = (contents(after), contents(copied));
            if ours != theirs {
                let differ: Vec<_> = ours
                    .iter()
                    .filter(|one| !theirs.contains(one))
                    .chain(theirs.iter().filter(|one| !ours.contains(one)))
                    .collect();
                found.push((Harm::Lost, format!("not as cp does it: {differ:?}")));
            }
        }
        // What cp takes and cuts, or takes no notice of, may be refused.
        (Some(1 | 2), _) => {
            let changed = differences(&before, &after);
            if !changed.is_empty() {
                found.push((Harm::Torn, format!("it failed, and {}", changed.join(", "))));
            }
        }
        _ => found.push((
            Harm::Answer,
            format!("{}, and cp: {}", ours.summary(), theirs.summary()),
        )),
    }
    let shown_as = format!(
        "{environment:?} atomwrite {} src o, with {there:?} ({})",
        grammar::shown(&options),
        ours.summary()
    );
    Ok((shown_as, found))
}
