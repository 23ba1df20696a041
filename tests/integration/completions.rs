//! The completions, asked for as a user asks: by a key, in a shell that finds them where `make install` puts them.
//!
//! Every shell offers the same: all options, an option's values where it has some (users, groups, files, directories,
//! commands, words) in each form that takes one, files where an operand stands, commands and then the command's own
//! completion after `DEST --`, and nothing anywhere else. A name with blanks or quotes comes out as that name. Nothing is
//! offered twice, and no shell complains.

use std::cell::RefCell;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;

use rustix::termios::{Winsize, tcsetwinsize};

use crate::input::terminal;
use crate::sandbox::{Sandbox, binary, needs_tool, skip, tool, wait_until};

/// Where Debian has it.
const BASH_COMPLETION: &str = "/usr/share/bash-completion/bash_completion";

// ---- What is offered ------------------------------------------------------------------------------------------

#[test]
fn bash_offers_what_fits() {
    needs_tool!("bash", "make", "setsid");
    if !Path::new(BASH_COMPLETION).is_file() {
        skip!("needs bash-completion");
    }
    let machine = Machine::new();
    let shell = machine.bash(&format!("source {BASH_COMPLETION}"));
    offers_what_fits(&shell);
    offers_what_the_command_takes(&shell);
}

#[test]
fn bash_offers_what_fits_without_bash_completion() {
    needs_tool!("bash", "make", "setsid");
    let machine = Machine::new();
    // COMMAND's own completion, too, where the user has one.
    let shell = machine.bash(
        r#"source "$INSTALLED/bash-completion/completions/atomwrite"
        make_targets() {
            [[ $1 == make && ${COMP_WORDS[*]} == "make $2" && $COMP_CWORD == 1 && $3 == make ]] || return
            [[ $COMP_LINE == "make $2" && $COMP_POINT == ${#COMP_LINE} ]] || return
            COMPREPLY=($(compgen -W "release report" -- "$2"))
        }
        complete -o nospace -F make_targets make"#,
    );
    offers_what_fits(&shell);
    offers_what_the_command_takes(&shell);
    // One without a completion takes files.
    shell.offers("some-file -- unshare", "some-f", &["some-file"]);
}

#[test]
fn zsh_offers_what_fits() {
    needs_tool!("zsh", "make", "setsid");
    let machine = Machine::new();
    let shell = machine.zsh();
    offers_what_fits(&shell);
    offers_what_the_command_takes(&shell);
    assert_eq!(fs::read_to_string(machine.errors()).unwrap(), "");
}

#[test]
fn fish_offers_what_fits() {
    needs_tool!("fish", "make");
    let machine = Machine::new();
    let shell = Fish::start(&machine);
    offers_what_fits(&shell);
    offers_what_the_command_takes(&shell);
    assert_eq!(fs::read_to_string(machine.errors()).unwrap(), "");
}

/// Asks for all that every shell has to offer.
#[track_caller]
fn offers_what_fits(shell: &impl Shell) {
    offers_options(shell);
    offers_words(shell);
    offers_users_and_groups(shell);
    offers_directories(shell);
    offers_files_and_commands_for_values(shell);
    offers_nothing_where_nobody_can_guess(shell);
    offers_files_for_operands(shell);
    offers_commands(shell);
}

#[track_caller]
fn offers_options(shell: &impl Shell) {
    let all = options_of_the_help();
    assert_eq!(shell.offered("", "-"), all);
    // zsh leaves out what has been given.
    let given = "-v --verbose -m --mode --sync -t --target-directory";
    let without_given = |mut options: Vec<String>| {
        options.retain(|option| !given.split(' ').any(|given| given == option));
        options
    };
    for before in ["-v", "--sync=none", "-m 600 some-file", "-t some-directory"] {
        let offered = shell.offered(before, "-");
        assert_eq!(
            without_given(offered),
            without_given(all.clone()),
            "after: {before}"
        );
    }
    shell.offers("", "--no-d", &["--no-dereference"]);
    shell.offers("some-file", "--fsy", &["--fsync"]);
    // It ends the options.
    shell.offers("--", "-", &[]);
}

#[track_caller]
fn offers_words(shell: &impl Shell) {
    for (option, values) in [
        ("--sync", &["file", "full", "none"][..]),
        ("--keep", &["all", "none", "try"]),
        ("--backup", &["existing", "none", "numbered", "simple"]),
        ("--inplace", &["always", "auto", "never"]),
    ] {
        let first = &values[0][..2];
        shell.offers("", &format!("{option}="), values);
        shell.offers("-v some-file", &format!("{option}={first}"), &values[..1]);
        shell.offers("", &format!("{option}=nosuch"), &[]);
        if ["--sync", "--keep"].contains(&option) {
            shell.offers(option, "", values);
            shell.offers(option, first, &values[..1]);
        } else {
            // Without an equals sign it has no value, and an operand follows.
            shell.offers(option, "some-f", &["some-file"]);
        }
    }
    shell.offers("-b", "some-f", &["some-file"]);
    // A number follows its equals sign, or none does.
    shell.offers("", "--lo", &["--lock"]);
    shell.offers("--lock", "some-f", &["some-file"]);
    shell.offers("", "--lock=", &[]);
    shell.offers("", "--lock=some", &[]);
}

#[track_caller]
fn offers_users_and_groups(shell: &impl Shell) {
    // Debian has both of this name.
    let (begun, name) = ("daem", "daemon");
    for (short, long) in [("-o", "--owner"), ("-g", "--group")] {
        let among_others = format!("-v{}", &short[1..]);
        for option in [short, long, &among_others] {
            shell.offers(option, begun, &[name]);
            shell.offers(option, "nosuch", &[]);
        }
        shell.offers("", &format!("{long}={begun}"), &[name]);
        for option in [short, &among_others] {
            let whole = format!("{option}{name}");
            shell.offers("", &format!("{option}{begun}"), &[&whole]);
        }
    }
}

#[track_caller]
fn offers_directories(shell: &impl Shell) {
    let directories = &["some other", "some-directory"];
    for option in ["-t", "--target-directory", "-vt"] {
        shell.offers(option, "some", directories);
        shell.offers(option, r"some\ ", &["some other"]);
        shell.offers(option, "nosuch", &[]);
        shell.offers(option, "some-directory/", &["some-directory/inner"]);
    }
    shell.offers("", "--target-directory=some", directories);
    shell.offers("", r"--target-directory=some\ o", &["some other"]);
    shell.offers("", "-tsome", &["-tsome other", "-tsome-directory"]);
    shell.offers("", r"-tsome\ o", &["-tsome other"]);
}

#[track_caller]
fn offers_files_and_commands_for_values(shell: &impl Shell) {
    for option in ["--files-from", "--files0-from"] {
        shell.offers(option, "some-f", &["some-file"]);
        shell.offers("", &format!("{option}=some-f"), &["some-file"]);
    }
    for option in ["--command", "--validate"] {
        shell.offers(option, "unshar", &["unshare"]);
        shell.offers("", &format!("{option}=unshar"), &["unshare"]);
    }
    shell.offers("-c", "unshar", &["unshare"]);
}

#[track_caller]
fn offers_nothing_where_nobody_can_guess(shell: &impl Shell) {
    for option in [
        "-m",
        "-S",
        "--mode",
        "--suffix",
        "--sha256",
        "--unchanged-status",
    ] {
        shell.offers(option, "", &[]);
        shell.offers(option, "some", &[]);
        if option.starts_with("--") {
            shell.offers("", &format!("{option}=some"), &[]);
        }
    }
}

#[track_caller]
fn offers_files_for_operands(shell: &impl Shell) {
    let some = &["some file", "some other", "some-directory", "some-file"];
    for before in [
        "",
        "some-file",
        "-n",
        "--",
        // No DEST yet: what stands there are values.
        "-m 600 --",
        // No COMMAND, either.
        "-t some-directory",
        "-t some-directory --",
        "-vt some-directory some-file --",
        "--target-directory=some-directory some-file --",
    ] {
        shell.offers(before, "some", some);
    }
    shell.offers("", r"some\ f", &["some file"]);
    shell.offers("", "'some f", &["some file"]);
    shell.offers("", "\"some f", &["some file"]);
    shell.offers("", "it", &["it's $1"]);
    shell.offers("", "quo", &["quo\"te"]);
    shell.offers("", "some-directory/inn", &["some-directory/inner"]);
    shell.offers("", "nosuch", &[]);
}

#[track_caller]
fn offers_commands(shell: &impl Shell) {
    for before in [
        "some-file --",
        r"some\ file --",
        "'some file' --",
        "-v some-file --",
        "--sync=none -m 600 some-file --",
        "--keep try -o root some-file --",
        "-- -dest --",
    ] {
        shell.offers(before, "unshar", &["unshare"]);
    }
}

/// Asks for what make's own completion has to offer, once the command is make.
#[track_caller]
fn offers_what_the_command_takes(shell: &impl Shell) {
    for before in [
        "some-file -- make",
        "'some file' -- make",
        "-m 600 -- -dest -- make",
    ] {
        shell.offers(before, "re", &["release", "report"]);
    }
}

/// Every option that --help names.
fn options_of_the_help() -> Vec<String> {
    let help = tool(binary().to_str().unwrap(), ["--help"]);
    let mut options = Vec::new();
    for line in help.lines() {
        // A list of values is deeper.
        let text = line.trim_start();
        if text.starts_with('-') && line.len() - text.len() <= "  -a, ".len() {
            let words = text.split([' ', ',', '[', '=']);
            options.extend(
                words
                    .filter(|word| word.starts_with('-'))
                    .map(str::to_owned),
            );
        }
    }
    options.sort();
    assert!(options.len() > 40, "{help}");
    options
}

// ---- The shells -----------------------------------------------------------------------------------------------

trait Shell {
    /// Gives what the shell offers for a word that is begun, after these words.
    fn answer(&self, before: &str, word: &str) -> Vec<String>;

    /// The same without what only says that more may follow, sorted.
    #[track_caller]
    fn offered(&self, before: &str, word: &str) -> Vec<String> {
        let before = format!("atomwrite {before}");
        let mut offered = self.answer(before.trim_end(), word);
        offered.sort();
        for pair in offered.windows(2) {
            assert_ne!(pair[0], pair[1], "offered twice after: {before} {word}");
        }
        let option = word.split_inclusive('=').next().unwrap_or_default();
        for offered in &mut offered {
            // bash has the value for a word of its own.
            if option.starts_with("--") && option.ends_with('=') {
                *offered = offered.strip_prefix(option).unwrap_or(offered).to_owned();
            }
            *offered = offered.trim_end_matches(['/', '=']).to_owned();
        }
        // fish has '--backup' and '--backup='.
        offered.dedup();
        offered.sort();
        offered
    }

    #[track_caller]
    fn offers(&self, before: &str, word: &str, expected: &[&str]) {
        let offered = self.offered(before, word);
        assert_eq!(offered, expected, "after: atomwrite {before} {word}");
    }
}

/// A machine on which `make install` has been run, and a directory with some files.
struct Machine {
    sandbox: Sandbox,
}

impl Machine {
    fn new() -> Self {
        let sandbox = Sandbox::new();
        for name in ["some-file", "some file", "it's $1", "quo\"te"] {
            sandbox.write(name, "");
        }
        sandbox.write("Makefile", "report:\n\ttrue\nrelease:\n\ttrue\n");
        sandbox.mkdir("some-directory/inner");
        sandbox.mkdir("some other");
        for directory in ["home", "installed"] {
            fs::create_dir(sandbox.aside(directory)).unwrap();
        }
        let top = env!("CARGO_MANIFEST_DIR");
        let destdir = sandbox.aside("installed");
        let destdir = format!("DESTDIR={}", destdir.display());
        let program = format!("BINARY={}", binary().display());
        tool("make", ["-s", "-C", top, "install", &destdir, &program]);
        Self { sandbox }
    }

    /// Where a shell's stderr goes that has a terminal for the rest.
    fn errors(&self) -> PathBuf {
        self.sandbox.aside("errors")
    }

    /// A shell that looks for its completions where `make install` puts them, and knows nothing of its user.
    fn shell(&self, program: &str) -> Command {
        let installed = self.sandbox.aside("installed/usr/local");
        let (programs, data) = (installed.join("bin"), installed.join("share"));
        let mut path = programs.into_os_string();
        path.push(":");
        path.push(std::env::var_os("PATH").unwrap_or_default());
        let mut shell = Command::new(program);
        shell
            .current_dir(self.sandbox.root())
            .env_clear()
            .env("PATH", path)
            .env(
                "XDG_DATA_DIRS",
                format!("{}:/usr/local/share:/usr/share", data.display()),
            )
            .env("HOME", self.sandbox.aside("home"))
            .env("ZDOTDIR", self.sandbox.aside("home"))
            .env("TERM", "dumb")
            .env("LC_ALL", "C.UTF-8")
            .env("DESTDIR", self.sandbox.aside("installed"))
            .env("INSTALLED", data)
            .env("ANSWER", self.sandbox.aside("answer"))
            .env("ERRORS", self.errors());
        shell
    }

    /// Starts bash with a `.bashrc`. The key M-m counts the words, M-* types all that is offered, M-p tells.
    fn bash(&self, startup: &str) -> Interactive {
        let keys = r#"
            PS1=
            bind 'set enable-bracketed-paste off'
            mark() { eval "set -- $READLINE_LINE"; marked=$#; }
            answer() {
                local line=$READLINE_LINE
                eval "set -- $line"
                shift "$marked"
                printf '%s\0' "$line" "$@" >"$ANSWER.new"
                mv "$ANSWER.new" "$ANSWER"
                READLINE_LINE=
            }
            bind -x '"\em": mark'
            bind -x '"\ep": answer'
        "#;
        let file = self.sandbox.aside("home/.bashrc");
        fs::write(file, format!("{startup}\n{keys}")).unwrap();
        Interactive::start(self, "bash", "--noprofile")
    }

    /// Starts zsh with a `.zshrc` that starts the completion system, and the same keys.
    fn zsh(&self) -> Interactive {
        // Its own path, below what was installed: so that is where it would look.
        let startup = r#"
            fpath=($DESTDIR${^fpath} $fpath)
            # -u: it does not matter here who else may write to these directories.
            autoload -Uz compinit && compinit -u -D
            PS1=
            unsetopt prompt_sp
            bindkey -e
            zstyle ':completion:all-matches:*' completer _all_matches _complete
            zstyle ':completion:all-matches:*' insert yes
            zle -C all-matches complete-word _generic
            mark() { local -a all=("${(@z)BUFFER}"); marked=$#all }
            answer() {
                local -a all=("${(@Q)${(@z)BUFFER}}")
                print -rNn -- "$BUFFER" "${(@)all[marked+1,-1]}" >$ANSWER.new
                mv $ANSWER.new $ANSWER
                BUFFER=
            }
            zle -N mark && zle -N answer
            bindkey '\e*' all-matches '\em' mark '\ep' answer
            exec 2>$ERRORS
        "#;
        fs::write(self.sandbox.aside("home/.zshrc"), startup).unwrap();
        Interactive::start(self, "zsh", "-d")
    }
}

/// A shell at a terminal, with somebody who types.
struct Interactive {
    child: Child,
    keyboard: File,
    screen: Arc<Mutex<Vec<u8>>>,
    answer: PathBuf,
    /// What a complaint of the shell's own begins with.
    complaint: String,
}

impl Interactive {
    fn start(machine: &Machine, shell: &str, option: &str) -> Self {
        let (keyboard, theirs) = terminal();
        // Room for all that is typed in one line.
        let size = Winsize {
            ws_row: 100,
            ws_col: 10_000,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        tcsetwinsize(theirs.as_fd(), size).unwrap();
        let end = || Stdio::from(theirs.try_clone().unwrap());
        let child = machine
            .shell("setsid")
            .args(["--ctty", shell, option, "-i"])
            .stdin(end())
            .stdout(end())
            .stderr(end())
            .spawn()
            .unwrap();
        let screen = Arc::new(Mutex::new(Vec::new()));
        let (mut shown, all) = (keyboard.try_clone().unwrap(), Arc::clone(&screen));
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            // EIO when the shell has ended.
            while let Ok(length @ 1..) = shown.read(&mut buffer) {
                all.lock().unwrap().extend_from_slice(&buffer[..length]);
            }
        });
        Self {
            child,
            keyboard,
            screen,
            answer: machine.sandbox.aside("answer"),
            complaint: format!("{shell}: "),
        }
    }

    fn screen(&self) -> String {
        String::from_utf8_lossy(&self.screen.lock().unwrap()).into_owned()
    }
}

impl Shell for Interactive {
    #[track_caller]
    fn answer(&self, before: &str, word: &str) -> Vec<String> {
        let typed = format!("{before} {word}");
        let keys = format!("{before}\x1bm {word}\x1b*\x1bp");
        (&self.keyboard).write_all(keys.as_bytes()).unwrap();
        wait_until(&format!("the shell answers to: {typed}"), || {
            self.answer.exists()
        });
        let answer = fs::read_to_string(&self.answer).unwrap();
        fs::remove_file(&self.answer).unwrap();
        let screen = self.screen();
        assert!(!screen.contains(&self.complaint), "{typed}\n{screen}");
        let mut fields = answer.split_terminator('\0').map(str::to_owned);
        if fields.next().as_ref() == Some(&typed) {
            return Vec::new();
        }
        fields.collect()
    }
}

impl Drop for Interactive {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// fish, which tells without a terminal what it would offer.
struct Fish {
    child: Child,
    lines: ChildStdin,
    offered: RefCell<BufReader<ChildStdout>>,
}

impl Fish {
    fn start(machine: &Machine) -> Self {
        let asked = "while read line; complete -C $line; echo; end";
        let mut child = machine
            .shell("fish")
            .args(["-c", asked])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(File::create(machine.errors()).unwrap())
            .spawn()
            .unwrap();
        Self {
            lines: child.stdin.take().unwrap(),
            offered: RefCell::new(BufReader::new(child.stdout.take().unwrap())),
            child,
        }
    }
}

impl Shell for Fish {
    fn answer(&self, before: &str, word: &str) -> Vec<String> {
        writeln!(&self.lines, "{before} {word}").unwrap();
        let mut lines = self.offered.borrow_mut();
        let lines = lines.by_ref().lines().map(Result::unwrap);
        // With a description behind each, and an empty line behind all.
        let lines = lines.take_while(|line| !line.is_empty());
        lines
            .map(|line| line.split('\t').next().unwrap().to_owned())
            .collect()
    }
}

impl Drop for Fish {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
