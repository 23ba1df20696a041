//! Input through ssh(1), from a real sshd on the loopback interface. To the reader of a pipe, a
//! broken connection is the end of the input. `--min-size` refuses the truncated input, and
//! COMMAND's exit status shows the failure.

use std::fs;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;

use rustix::process::{Pid, Signal, kill_process_group};

use crate::harness::{Feeder, Sandbox, can_mount, needs_tool, skip, tool, wait_until};

/// An sshd that lets its own user in, on a port of its own; each connection has a process of its
/// own.
struct Server {
    /// For `ssh -F`; the host is called `host`.
    config: PathBuf,
    /// Those that serve a connection.
    sessions: Arc<Mutex<Vec<Child>>>,
}

impl Server {
    /// `None` if no user can log in here.
    fn start(sandbox: &Sandbox) -> Option<Self> {
        let aside = |name: &str| sandbox.aside(name).display().to_string();
        let (key, host_key) = (aside("key"), aside("host_key"));
        for file in [&key, &host_key] {
            tool(
                "ssh-keygen",
                ["-q", "-t", "ed25519", "-N", "", "-f", file.as_str()],
            );
        }
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let user = tool("id", ["-un"]);
        let server_config = sandbox.aside("sshd_config");
        fs::write(
            &server_config,
            format!(
                "HostKey {host_key}\nAuthorizedKeysFile {key}.pub\nStrictModes no\nUsePAM no\n\
                 PasswordAuthentication no\nKbdInteractiveAuthentication no\nPidFile none\nLogLevel QUIET\n"
            ),
        )
        .unwrap();
        let config = sandbox.aside("ssh_config");
        fs::write(
            &config,
            format!(
                "Host host\nHostName 127.0.0.1\nPort {port}\nUser {user}IdentityFile {key}\nIdentitiesOnly yes\n\
                 UserKnownHostsFile /dev/null\nStrictHostKeyChecking no\nBatchMode yes\nLogLevel QUIET\n"
            ),
        )
        .unwrap();
        let sessions = Arc::new(Mutex::new(Vec::new()));
        let all = Arc::clone(&sessions);
        thread::spawn(move || {
            // Until the tests end.
            while let Ok((connection, _)) = listener.accept() {
                let end = || Stdio::from(OwnedFd::from(connection.try_clone().unwrap()));
                let session = sshd(&server_config)
                    .stdin(end())
                    .stdout(end())
                    .stderr(Stdio::null())
                    .process_group(0)
                    .spawn();
                all.lock().unwrap().push(session.unwrap());
            }
        });
        let server = Self { config, sessions };
        let output = server.ssh(["echo", "hello"]).output().unwrap();
        (output.stdout == b"hello\n").then_some(server)
    }

    fn ssh<'a>(&self, words: impl IntoIterator<Item = &'a str>) -> Command {
        let mut ssh = Command::new("ssh");
        ssh.arg("-F").arg(&self.config).arg("host").args(words);
        ssh.stdin(Stdio::null());
        ssh
    }

    /// Ends all connections from the server's side.
    fn cut(&self) {
        for mut session in self.sessions.lock().unwrap().drain(..) {
            // ESRCH: it has ended by itself.
            let _ = kill_process_group(Pid::from_child(&session), Signal::KILL);
            session.wait().unwrap();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.cut();
    }
}

/// sshd for one connection, which is its standard input.
fn sshd(config: &Path) -> Command {
    let words = ["/usr/sbin/sshd", "-i", "-f"];
    let is_root = rustix::process::geteuid().is_root();
    let mut command = if is_root && !Path::new("/run/sshd").exists() {
        // Started by root, it insists on this directory, which Debian makes at boot.
        let run = "mount -t tmpfs -o mode=755 tmpfs /run && mkdir /run/sshd && exec \"$@\"";
        let mut unshare = Command::new("unshare");
        unshare.args(["--mount", "sh", "-c", run, "sh"]).args(words);
        unshare
    } else {
        let mut sshd = Command::new(words[0]);
        sshd.args(&words[1..]);
        sshd
    };
    command.arg(config);
    command
}

macro_rules! server {
    ($sandbox:expr) => {{
        needs_tool!("ssh", "ssh-keygen", "sshd", "tee", "unshare");
        let is_root = rustix::process::geteuid().is_root();
        if is_root && !can_mount() && !Path::new("/run/sshd").exists() {
            skip!("needs /run/sshd");
        }
        match Server::start($sandbox) {
            Some(server) => server,
            None => skip!("needs a user who may log in by ssh"),
        }
    }};
}

/// A file on the other side that comes slowly: a FIFO, which no other cat has read.
fn big(sandbox: &Sandbox, name: &str) -> (PathBuf, String) {
    let big = sandbox.fifo(sandbox.aside(name));
    let name = big.display().to_string();
    (big, name)
}

/// `ssh host cat big | tee seen`, and what comes out of it.
fn piped(server: &Server, big: &str, seen: &Path) -> (Child, Child, ChildStdout) {
    let mut ssh = server
        .ssh(["cat", big])
        .stdout(Stdio::piped())
        // ssh reports the lost connection there.
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut tee = Command::new("tee")
        .arg(seen)
        .stdin(ssh.stdout.take().unwrap())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let output = tee.stdout.take().unwrap();
    (ssh, tee, output)
}

#[test]
fn a_connection_that_is_cut_is_refused_by_the_size_that_is_expected() {
    let sandbox = Sandbox::new();
    let server = server!(&sandbox);
    let seen = sandbox.aside("seen");
    for (name, options, status, content) in [
        ("one", &["--min-size=12"][..], 3, "old"),
        // Without --min-size, the part that has arrived is written.
        ("two", &[], 0, "begun\n"),
    ] {
        let (fifo, big) = big(&sandbox, name);
        sandbox.write("out", "old");
        let (mut ssh, mut tee, output) = piped(&server, &big, &seen);
        let words = options.iter().copied().chain(["out"]);
        let running = sandbox.atomwrite(words).stdin_from(output).start();
        let feeder = Feeder::open(&fifo);
        // tee has written it into the pipe before.
        wait_until("a part of it has come", || {
            fs::read(&seen).is_ok_and(|seen| seen == b"begun\n")
        });
        server.cut();
        assert_eq!(ssh.wait().unwrap().code(), Some(255));
        assert!(tee.wait().unwrap().success());
        let done = running.wait();
        drop(feeder);
        assert_eq!(done.code(), Some(status), "{done:?}");
        let says = "atomwrite: cannot write 'out': the input is truncated: 6 bytes, and --min-size is 12; 'out' is \
                    unchanged\n";
        assert_eq!(done.stderr, if status == 3 { says } else { "" });
        assert_eq!(sandbox.text("out"), content);
        assert_eq!(sandbox.names(), ["out"]);
        fs::remove_file(&seen).unwrap();
    }
}

#[test]
fn a_command_whose_connection_is_cut_has_failed() {
    let sandbox = Sandbox::new();
    let server = server!(&sandbox);
    let config = server.config.to_str().unwrap();
    let (one, big_one) = big(&sandbox, "one");
    let (two, big_two) = big(&sandbox, "two");
    let pipeline = format!("ssh -F {config} host cat {big_one} | cat");
    let program = ["ssh", "-F", config, "host", "cat", &big_two];
    for (fifo, words) in [
        (one, vec!["-c", &pipeline, "out"]),
        (two, [&["out", "--"], &program[..]].concat()),
    ] {
        sandbox.write("out", "old");
        let running = sandbox.atomwrite(words).start();
        let feeder = Feeder::open(&fifo);
        server.cut();
        let done = running.wait();
        drop(feeder);
        assert_eq!(done.code(), Some(255), "{done:?}");
        let end = "exited with status 255; 'out' is unchanged\n";
        assert!(done.stderr.ends_with(end), "{done:?}");
        assert_eq!(sandbox.text("out"), "old");
        assert_eq!(sandbox.names(), ["out"]);
    }
}

#[test]
fn a_complete_transfer_is_accepted() {
    let sandbox = Sandbox::new();
    let server = server!(&sandbox);
    let (fifo, big) = big(&sandbox, "big");
    let mut ssh = server
        .ssh(["cat", &big])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let output = ssh.stdout.take().unwrap();
    let running = sandbox
        .atomwrite(["--min-size=12", "out"])
        .stdin_from(output)
        .start();
    let mut feeder = Feeder::open(&fifo);
    feeder.feed(b"ended\n");
    drop(feeder);
    assert!(ssh.wait().unwrap().success());
    let done = running.wait();
    assert_eq!((done.code(), done.stderr.as_str()), (Some(0), ""));
    assert_eq!(sandbox.text("out"), "begun\nended\n");
}
