//! The shells whose completions are tested, by a key on a terminal.

use std::cell::RefCell;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;

use rustix::termios::{Winsize, tcsetwinsize};

use crate::harness::{Sandbox, binary, terminal, tool, wait_until};

pub(crate) trait Shell {
    /// Returns what the shell offers for the beginning of a word, after these words.
    fn answer(&self, before: &str, word: &str) -> Vec<String>;

    /// The same, sorted, and without marks that only say that more may follow.
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
pub(crate) struct Machine {
    pub(crate) sandbox: Sandbox,
}

impl Machine {
    pub(crate) fn new() -> Self {
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
    pub(crate) fn errors(&self) -> PathBuf {
        self.sandbox.aside("errors")
    }

    /// A shell that looks for its completions where `make install` puts them, and knows nothing of
    /// its user.
    pub(crate) fn shell(&self, program: &str) -> Command {
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

    /// Starts bash with a `.bashrc`. The key M-m counts the words, M-* types all that is offered,
    /// M-p tells.
    pub(crate) fn bash(&self, startup: &str) -> Interactive {
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
    pub(crate) fn zsh(&self) -> Interactive {
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

/// A shell at a terminal, and the keyboard of its user.
pub(crate) struct Interactive {
    child: Child,
    keyboard: File,
    screen: Arc<Mutex<Vec<u8>>>,
    answer: PathBuf,
    /// The beginning of an error message of the shell itself.
    complaint: String,
}

impl Interactive {
    pub(crate) fn start(machine: &Machine, shell: &str, option: &str) -> Self {
        let (keyboard, theirs) = terminal();
        // Wide enough for the longest line that is typed.
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

    pub(crate) fn screen(&self) -> String {
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

/// fish, which prints its completions without a terminal.
pub(crate) struct Fish {
    pub(crate) child: Child,
    pub(crate) lines: ChildStdin,
    pub(crate) offered: RefCell<BufReader<ChildStdout>>,
}

impl Fish {
    pub(crate) fn start(machine: &Machine) -> Self {
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
