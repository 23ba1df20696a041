//! `--validate-all CMD`, with `-t`: all new files are checked together, once.
//!
//! CMD runs when all files are staged and each has passed `--validate`. `$1` is a preview directory
//! in which the new files are copies under their names and every other entry of DIR is a symbolic
//! link, `$2` is DIR, and stdin is /dev/null. A refusal is status 3, and no file of DIR is touched.
//! CMD runs even if `-C` leaves all files alone.

use std::fs;
use std::path::{Path, PathBuf};

use rustix::process::Signal;

use crate::harness::{NOBODY, Run, Running, Sandbox, can_be_others, kill, needs_tool, tool};
use crate::options::many::{and, check_new, furnish, ground, leaves_dir, words};
use crate::options::validate::{is_empty, seen, temporary_directory, wait_for};

/// A run that writes a, b and c into d, and asks this program, which finds the place aside in
/// $ASIDE.
fn checked<'s>(sandbox: &'s Sandbox, options: &[&str], program: &str) -> Run<'s> {
    let options = [options, &["--validate-all", program]].concat();
    let run = sandbox.atomwrite(words(&options));
    run.env("ASIDE", sandbox.aside(""))
}

/// The program finds all three new.
const SEES_NEW: &str = "test \"$(cat \"$1/a\" \"$1/b\" \"$1/c\")\" = 'new anew bnew c'";

// ---- What it sees ----

#[test]
fn the_validator_runs_once_and_sees_the_directory_as_it_will_be() {
    needs_tool!("stat", "ls", "readlink");
    let sandbox = ground();
    sandbox.mkdir("d/sub");
    sandbox.write("d/sub/deep", "deep");
    sandbox.write("d/.hidden", "hidden");
    sandbox.chmod("d/b", 0o600);
    let program = format!(
        "echo asked >>\"$ASIDE/seen\"
        {SEES_NEW} && test $# = 2 && test \"$2\" = \"$PWD/d\" &&
        test \"$(readlink /proc/self/fd/0)\" = /dev/null &&
        test \"$(cat \"$2/a\" \"$2/b\")\" = 'old aold b' && test ! -e \"$2/c\" || exit 1
        cd \"$1\" && test \"$(stat -c %a . a b)\" = \"$(printf '700\\n644\\n600')\" || exit 2
        test \"$(ls -A | tr '\\n' ' ')\" = '.hidden a b c sub ' || exit 3
        for name in a b c; do test ! -L $name || exit 4; done
        test -L sub && test -L .hidden && test \"$(cat sub/deep .hidden)\" = deephidden"
    );
    checked(&sandbox, &[], &program)
        .stdin("not for it")
        .leaves(and(&sandbox, &["d/c"]))
        .succeeds();
    check_new(&sandbox);
    assert_eq!(seen(&sandbox, "seen"), "asked\n");
}

#[test]
fn a_name_that_is_a_link_is_a_copy_and_so_is_what_it_leads_to_in_the_directory() {
    let sandbox = ground();
    sandbox.mkdir("far");
    sandbox.write("far/target", "old");
    fs::remove_file(sandbox.path("d/a")).unwrap();
    sandbox.symlink("../far/target", "d/a");
    sandbox.write("d/own", "old");
    // Not by its name alone, which any link in a preview would follow.
    sandbox.symlink("../d/own", "d/c");
    sandbox.symlink("own", "d/other");
    let program = format!(
        "{SEES_NEW} && test ! -L \"$1/a\" && test ! -L \"$1/own\" && test -L \"$1/c\" &&
        test \"$(cat \"$1/own\" \"$1/other\")\" = 'new cnew c'"
    );
    let names = sandbox.names();
    checked(&sandbox, &[], &program).leaves(names).succeeds();
    check_new(&sandbox);
    assert_eq!(sandbox.text("far/target"), "new a");
    assert_eq!(sandbox.text("d/own"), "new c");
}

#[test]
fn every_other_entry_is_a_link_however_many_files_are_new() {
    let sandbox = Sandbox::new();
    sandbox.mkdir("s");
    sandbox.mkdir("d");
    let mut list = String::new();
    for file in 0..1100 {
        sandbox.write(format!("s/{file}"), "new");
        sandbox.write(format!("d/{file}"), "old");
        list.extend(["s/", &file.to_string(), "\n"]);
    }
    sandbox.write("d/include", "included");
    let program = "test -L \"$1/include\" && test \"$(cat \"$1\"/*99)\" = \"$(cat s/*99)\"; exit";
    let run = |end: &str| {
        let program = format!("{program} {end}");
        let run = sandbox.atomwrite(["-t", "d", "--files-from=-", "--validate-all", &program]);
        // No descriptor is held for any of them.
        let limited = ["sh", "-c", "ulimit -n 64; exec \"$0\" \"$@\""];
        run.stdin(list.as_str()).through(limited)
    };
    let done = run("7").output();
    assert_eq!(done.code(), Some(3), "{done:?}");
    assert!(!done.stderr.contains("left out"), "{done:?}");
    assert_eq!(sandbox.text("d/99"), "old");
    run("").leaves(sandbox.names()).succeeds();
    assert_eq!(sandbox.text("d/99"), "new");
}

#[test]
fn the_preview_is_in_tmpdir_where_another_user_could_rename_it() {
    for (mode, beside) in [(0o755, true), (0o777, false)] {
        let sandbox = ground();
        sandbox.write("d/include", "included");
        sandbox.chmod("d", mode);
        let tmp = temporary_directory(&sandbox);
        let program = format!(
            "printf %s \"$1\" >\"$ASIDE/seen\"; {SEES_NEW} && test \"$(cat \"$1/include\")\" = included"
        );
        checked(&sandbox, &[], &program)
            .env("TMPDIR", &tmp)
            .leaves(and(&sandbox, &["d/c"]))
            .succeeds();
        let preview = PathBuf::from(seen(&sandbox, "seen"));
        let parent = fs::canonicalize(preview.parent().unwrap()).unwrap();
        let place = if beside { sandbox.path("d") } else { tmp };
        assert_eq!(parent, fs::canonicalize(&place).unwrap());
        assert!(beside || is_empty(&place));
    }
}

// ---- What it refuses ----

#[test]
fn a_refusal_leaves_all_files_unchanged() {
    for (program, status, part) in [
        ("exit 1", 3, "the validator exited with status 1"),
        ("exit 255", 3, "the validator exited with status 255"),
        ("ulimit -c 0; kill -9 $$", 3, "was killed by signal 9"),
        ("ulimit -c 0; kill -15 $$", 3, "was killed by signal 15"),
        // It cannot be run: no refusal.
        (
            "exec 2>/dev/null; no-such-program",
            1,
            "could not be run (status 127)",
        ),
        (
            "exec 2>/dev/null; ./s/a",
            1,
            "could not be run (status 126)",
        ),
    ] {
        let sandbox = ground();
        let run = checked(&sandbox, &[], program);
        leaves_dir(run.says("the files of 'd': ").says(part), "d", status);
        // Nor is a directory made, or a backup.
        let made = [
            "-D",
            "-t",
            "one/two",
            "s/a",
            "s/b",
            "--validate-all",
            program,
        ];
        let run = sandbox.atomwrite(made).refuses_the_way();
        run.says("the files of 'one/two': ").fails(status);
        leaves_dir(checked(&sandbox, &["-b"], program), "d", status);
    }
    let sandbox = ground();
    let run = checked(&sandbox, &[], "true").env("PATH", sandbox.path("nowhere"));
    leaves_dir(run.says("cannot run 'sh'"), "d", 1);
}

#[test]
fn changes_by_the_validator_never_reach_a_file() {
    for write in [
        "echo more >>\"$1/a\"; chmod 4777 \"$1/a\"",
        "rm \"$1\"/[abc]",
        "rm -r \"$1\"",
        "for file in a b c; do echo more >\"$1/new\"; mv \"$1/new\" \"$1/$file\"; done",
        "ln \"$1/a\" \"$1/e\"; echo more >>\"$1/e\"",
        "rm \"$1/a\"; ln -s ../b \"$1/a\"",
        "mkdir -p \"$1/x/y\"; : >\"$1/x/y/z\"; chmod 0 \"$1/x\"",
    ] {
        for (end, status) in [("exit 0", 0), ("exit 1", 3)] {
            let sandbox = ground();
            let run = checked(&sandbox, &[], &format!("{write}; {end}"));
            if status == 0 {
                run.leaves(and(&sandbox, &["d/c"])).succeeds();
                check_new(&sandbox);
                assert_eq!(sandbox.mode("d/a"), 0o644);
            } else {
                leaves_dir(run, "d", status);
            }
        }
    }
}

// ---- With other options ----

#[test]
fn the_validator_of_each_file_runs_first_and_its_changes_are_not_seen() {
    let sandbox = ground();
    let each = "echo ${2##*/} >>\"$ASIDE/seen\"; echo edited >\"$1\"; rm -f \"${1%/*}\"/[ab]";
    let all = format!("echo all >>\"$ASIDE/seen\"; {SEES_NEW}");
    checked(&sandbox, &["--validate", each], &all)
        .leaves(and(&sandbox, &["d/c"]))
        .succeeds();
    check_new(&sandbox);
    assert_eq!(seen(&sandbox, "seen"), "a\nb\nc\nall\n");
    // If --validate refuses, the program of --validate-all does not run.
    let sandbox = ground();
    let each = "test \"${2##*/}\" != b";
    let run = checked(&sandbox, &["--validate", each], ": >\"$ASIDE/seen\"");
    leaves_dir(run.says("cannot write 'd/b': "), "d", 3);
    assert!(!sandbox.aside("seen").exists());
}

#[test]
fn the_validator_runs_even_if_all_files_are_equal() {
    let sandbox = ground();
    sandbox.write("d/a", "new a");
    let options = ["-C", "--unchanged-status", "7"];
    // A file that is left alone is one of the other entries.
    let program = format!("{SEES_NEW} && test -L \"$1/a\" && test ! -L \"$1/b\"");
    checked(&sandbox, &options, &program)
        .leaves(and(&sandbox, &["d/c"]))
        .succeeds();
    check_new(&sandbox);
    checked(&sandbox, &options, SEES_NEW).leaves_alone(7);
    leaves_dir(checked(&sandbox, &options, "exit 1"), "d", 3);
}

#[test]
fn the_validator_runs_for_a_directory_that_cannot_be_written_to() {
    let sandbox = ground();
    for name in ["a", "b", "c"] {
        sandbox.write(format!("d/{name}"), format!("new {name}"));
    }
    let tmp = temporary_directory(&sandbox);
    sandbox.chmod("d", 0o555);
    let run = |program| {
        let run = checked(&sandbox, &["-C"], program).env("TMPDIR", &tmp);
        // Root may write to it.
        if can_be_others() {
            run.user(NOBODY, NOBODY, &[])
        } else {
            run
        }
    };
    run(SEES_NEW).leaves_alone(0);
    leaves_dir(run("exit 1"), "d", 3);
    assert!(is_empty(&tmp));
}

#[test]
fn the_validator_runs_for_an_empty_list_too() {
    let sandbox = ground();
    let run = |program| {
        let list = ["--allow-empty", "-t", "d", "--files-from=-"];
        sandbox.atomwrite(list.iter().chain(&["--validate-all", program]))
    };
    run("test \"$(cat \"$1/a\" \"$1/b\")\" = 'old aold b'").leaves_alone(0);
    leaves_dir(run("exit 1"), "d", 3);
}

#[test]
fn validate_all_works_with_other_options() {
    for options in [
        &["-m", "640"][..],
        &["--keep=all"],
        &["--keep=none"],
        &["--sync=none"],
        &["--sync=file", "-f"],
        &["--no-dereference"],
        &["--min-size=5"],
    ] {
        let sandbox = ground();
        checked(&sandbox, options, SEES_NEW)
            .leaves(and(&sandbox, &["d/c"]))
            .succeeds();
        check_new(&sandbox);
    }
    let sandbox = ground();
    checked(&sandbox, &["-b"], &format!("{SEES_NEW} && test ! -e d/a~"))
        .leaves(and(&sandbox, &["d/a~", "d/b~", "d/c"]))
        .succeeds();
    assert_eq!(sandbox.text("d/a~"), "old a");
    // If a guard refuses earlier, the validator does not run.
    let sandbox = ground();
    let run = checked(&sandbox, &["-n"], ": >\"$ASIDE/seen\"");
    leaves_dir(run.says("'d/a': it exists"), "d", 3);
    assert!(!sandbox.aside("seen").exists());
    let new = ["-n", "-t", "d", "s/c", "--validate-all", "test -s \"$1/c\""];
    let run = sandbox.atomwrite(new).leaves(and(&sandbox, &["d/c"]));
    run.succeeds();
}

#[test]
fn preserved_times_are_not_those_of_the_preview() {
    let sandbox = ground();
    let times = |name: &str| {
        let seen = sandbox.stat(name);
        (seen.accessed().unwrap(), seen.modified().unwrap())
    };
    let before = times("s/a");
    // Comparing the files, as the harness does after other runs, would read them.
    let done = checked(&sandbox, &["-p"], SEES_NEW).output();
    assert_eq!(done.code(), Some(0), "{done:?}");
    assert_eq!(times("d/a"), before);
}

#[test]
fn a_directory_that_is_missing_has_a_preview_without_links() {
    needs_tool!("ls");
    let sandbox = ground();
    let program = "test \"$2\" = \"$PWD/one/two\" && test ! -e one && test \"$(ls -A \"$1\")\" = a";
    sandbox
        .atomwrite(["-D", "-t", "one/two", "--validate-all", program, "s/a"])
        .leaves(and(&sandbox, &["one", "one/two", "one/two/a"]))
        .succeeds();
}

// ---- Signals and kills ----

/// Starts a run whose program waits for ever.
fn start_waiting(sandbox: &Sandbox, trap: &str) -> Running {
    tool("mkfifo", [sandbox.aside("go")]);
    let program =
        format!("{trap}; : >\"$ASIDE/up\"; while :; do read _ <\"$ASIDE/go\"; done 2>/dev/null");
    let running = checked(sandbox, &["--validate", "true"], &program).start();
    wait_for(sandbox, "up");
    running
}

#[test]
fn a_signal_is_forwarded_to_the_validator_of_all_and_leaves_nothing() {
    for signal in [Signal::TERM, Signal::INT, Signal::HUP] {
        for trap in [":", "trap ': >\"$ASIDE/got\"; exit 0' TERM INT HUP"] {
            let sandbox = ground();
            let names = sandbox.names();
            let running = start_waiting(&sandbox, trap);
            running.signal(signal);
            let done = running.wait();
            assert_eq!(done.signal(), Some(signal.as_raw()), "{trap} {done:?}");
            assert_eq!(done.stderr, "");
            assert_eq!(sandbox.aside("got").exists(), trap != ":");
            assert_eq!(sandbox.text("d/a"), "old a");
            assert_eq!(sandbox.names(), names);
        }
    }
}

#[test]
fn a_kill_while_the_validator_runs_leaves_two_private_directories_and_all_files_unchanged() {
    let sandbox = ground();
    let names = sandbox.names();
    let running = start_waiting(&sandbox, ":");
    let id = running.id().to_string();
    let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap();
    kill(&id, Signal::KILL);
    // The program too: it would wait for ever.
    kill(&children, Signal::KILL);
    running.wait();
    let left = sandbox.names();
    let is_private =
        |name: &&std::ffi::OsString| name.to_string_lossy().starts_with("d/.atomwrite");
    let (private, rest): (Vec<_>, Vec<_>) = left.iter().partition(is_private);
    assert!(rest.into_iter().eq(&names), "{left:?}");
    let top: Vec<_> = private
        .into_iter()
        .filter(|name| Path::new(name).components().count() == 2)
        .collect();
    assert_eq!(top.len(), 2, "{left:?}");
    assert!(top.iter().all(|name| sandbox.mode(name) == 0o700));
    for name in ["d/a", "d/b"] {
        assert_eq!(sandbox.text(name), format!("old {}", &name[2..]));
    }
    checked(&sandbox, &[], SEES_NEW)
        .leaves(and(&sandbox, &["d/c"]))
        .succeeds();
}

// ---- A real validator ----

/// nginx, with the path of a configuration that is not its own.
const NGINX: &str = "nginx -t -q -e stderr -g \"pid $ASIDE/pid;\" -c";

/// Directives that have it leave the machine's own directories alone, into which only root may
/// write.
fn local(sandbox: &Sandbox) -> String {
    let kinds = ["client_body", "proxy", "fastcgi", "scgi", "uwsgi"];
    let paths = kinds.map(|kind| {
        let path = sandbox.aside(kind);
        format!("{kind}_temp_path {};\n", path.display())
    });
    "access_log off;\n".to_owned() + &paths.concat()
}

/// Writes these files into `d`, and returns the status and the messages.
fn deploys(sandbox: &Sandbox, options: &[&str], files: &[(&str, &str)]) -> (Option<i32>, String) {
    let mut arguments: Vec<String> = options.iter().map(|&option| option.to_owned()).collect();
    arguments.extend(["-t".to_owned(), "d".to_owned()]);
    for (name, content) in files {
        sandbox.write(format!("s/{name}"), content);
        arguments.push(format!("s/{name}"));
    }
    let run = sandbox.atomwrite(arguments);
    let done = run.env("ASIDE", sandbox.aside("")).output();
    (done.code(), done.stderr.clone())
}

#[test]
fn nginx_accepts_a_configuration_and_a_new_file_that_it_includes_only_together() {
    needs_tool!("nginx");
    let sandbox = Sandbox::new();
    furnish(&sandbox);
    sandbox.mkdir("d/sites");
    sandbox.write("d/local.conf", local(&sandbox));
    sandbox.write(
        "d/sites/one.conf",
        "server { location / { proxy_pass http://app; } }\n",
    );
    let old = "events {}\n";
    sandbox.write("d/nginx.conf", old);
    let main =
        "events {}\nhttp { include local.conf; include upstreams.conf; include sites/*.conf; }\n";
    let good = "upstream app { server 127.0.0.1:81; }\n";
    // The name that the site asks for is not there.
    let bad = "upstream other { server 127.0.0.1:81; }\n";
    let each = format!("case $1 in *nginx.conf) {NGINX} \"$1\" ;; esac");
    let all = format!("{NGINX} \"$1/nginx.conf\"");
    let files = |include| [("nginx.conf", main), ("upstreams.conf", include)];
    let (status, stderr) = deploys(&sandbox, &["--validate", &each], &files(good));
    assert_eq!(status, Some(3), "{stderr}");
    let (status, stderr) = deploys(&sandbox, &["--validate-all", &all], &files(bad));
    assert_eq!(status, Some(3), "{stderr}");
    let refusal = "atomwrite: cannot write the files of 'd': the validator exited with status 1; 'd' is unchanged\n";
    assert!(stderr.ends_with(refusal), "{stderr}");
    assert_eq!(sandbox.text("d/nginx.conf"), old);
    assert!(!sandbox.path("d/upstreams.conf").exists());
    let (status, stderr) = deploys(&sandbox, &["--validate-all", &all], &files(good));
    assert_eq!((status, stderr.as_str()), (Some(0), ""));
    assert_eq!(sandbox.text("d/nginx.conf"), main);
    assert_eq!(sandbox.text("d/upstreams.conf"), good);
}

#[test]
fn nginx_checks_new_files_of_conf_d_with_the_old_ones() {
    needs_tool!("nginx");
    let sandbox = Sandbox::new();
    furnish(&sandbox);
    sandbox.write("d/local.conf", local(&sandbox));
    sandbox.write("d/zone.conf", "limit_req_zone $uri zone=z:1m rate=1r/s;\n");
    // What includes them is not among them, so the program writes one of its own beside them.
    let program = format!(
        "echo \"events {{}} http {{ include $1/*.conf; }}\" >\"$1/main\" && {NGINX} \"$1/main\""
    );
    let options = ["--validate-all", &program];
    let upstream = ("app.conf", "upstream app { server 127.0.0.1:81; }\n");
    let site = "server { limit_req zone=z; location / { proxy_pass http://app; } }\n";
    let deploy = |files: &[(&str, &str)]| deploys(&sandbox, &options, files);
    // Either of the new files alone, and with one that contradicts an old file.
    let (status, stderr) = deploy(&[("site.conf", site)]);
    assert_eq!(status, Some(3), "{stderr}");
    let (status, stderr) = deploy(&[
        upstream,
        ("site.conf", site),
        ("zone2.conf", "limit_req_zone $uri zone=z:2m rate=1r/s;\n"),
    ]);
    assert_eq!(status, Some(3), "{stderr}");
    assert!(!sandbox.path("d/app.conf").exists());
    let (status, stderr) = deploy(&[upstream, ("site.conf", site)]);
    assert_eq!((status, stderr.as_str()), (Some(0), ""));
    assert_eq!(sandbox.text("d/site.conf"), site);
    // An old file that another one needs is replaced by one without it.
    let (status, stderr) = deploy(&[("zone.conf", "\n")]);
    assert_eq!(status, Some(3), "{stderr}");
    let names = sandbox.names();
    let is_ours = |name: &&std::ffi::OsString| name.to_string_lossy().contains(".atomwrite");
    assert_eq!(names.iter().find(is_ours), None);
}
