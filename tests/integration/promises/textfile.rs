//! Prometheus' textfile collector: the real one reads a directory while scripts write to it as fast
//! as they can.
//!
//! It never reads a partial, empty or temporary file, and a file that existed is never missing. A
//! script that fails changes nothing.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use crate::harness::{Run, Sandbox, needs_tool, wait_until};

const COLLECTOR: &str = "prometheus-node-exporter";

/// The collector, which serves what it finds in `textfile`.
struct Collector {
    child: Child,
    address: String,
}

impl Collector {
    fn start(sandbox: &Sandbox) -> Self {
        let log = sandbox.aside("log");
        let child = Command::new(COLLECTOR)
            .args(["--collector.disable-defaults", "--collector.textfile"])
            .arg("--collector.textfile.directory")
            .arg(sandbox.path("textfile"))
            // Port 0 is one that is free.
            .args([
                "--web.disable-exporter-metrics",
                "--web.listen-address=127.0.0.1:0",
            ])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&log).unwrap())
            .spawn()
            .unwrap();
        let mut address = None;
        wait_until("the collector listens", || {
            let log = fs::read_to_string(&log).unwrap();
            let listens = log.lines().find(|line| line.contains("\"Listening on\""));
            let word = listens.and_then(|line| line.split("address=").nth(1));
            address = word.map(str::to_owned).filter(|_| log.ends_with('\n'));
            address.is_some()
        });
        Self {
            child,
            address: address.expect("it was waited for"),
        }
    }

    /// The samples of one scrape, without comments.
    fn scrape(&self) -> Vec<(String, String)> {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.0 200 "), "{answer}");
        let (_, body) = answer.split_once("\r\n\r\n").unwrap();
        body.lines()
            .filter(|line| !line.starts_with('#'))
            .map(|line| {
                let (name, value) = line.rsplit_once(' ').unwrap();
                (name.to_owned(), value.to_owned())
            })
            .collect()
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// What a script prints in its n-th run: the same number in every line.
fn metrics(script: &str, number: usize) -> String {
    let line = |at| format!("{script}{{line=\"{at}\"}} {number}\n");
    (0..LINES).map(line).collect()
}

/// Enough for many pages.
const LINES: usize = 3000;

/// Checks a scrape: each script's file, complete, of a run that is not before the one seen
/// last, and no other file.
#[track_caller]
fn check(samples: &[(String, String)], scripts: &[&str], seen: &mut [usize]) {
    let value_of = |name: &str| &samples.iter().find(|(of, _)| of == name).unwrap().1;
    assert_eq!(value_of("node_textfile_scrape_error"), "0");
    let mut files: Vec<&str> = samples
        .iter()
        .filter(|(name, _)| name.starts_with("node_textfile_mtime_seconds{"))
        .map(|(name, _)| name.rsplit('/').next().unwrap())
        .collect();
    files.sort_unstable();
    let mut expected: Vec<_> = scripts
        .iter()
        .map(|script| format!("{script}.prom\"}}"))
        .collect();
    expected.sort_unstable();
    assert_eq!(files, expected);
    for (script, seen) in scripts.iter().zip(seen) {
        let own = samples
            .iter()
            .filter(|(name, _)| name.starts_with(&format!("{script}{{")));
        let numbers: Vec<usize> = own.map(|(_, value)| value.parse().unwrap()).collect();
        assert_eq!(numbers, vec![numbers[0]; LINES], "{script}");
        assert!(numbers[0] >= *seen, "{script}: {} after {seen}", numbers[0]);
        *seen = numbers[0];
    }
}

#[test]
fn the_collector_reads_only_complete_files() {
    const RUNS: usize = 40;
    // The last two succeed only once, at the start.
    const SCRIPTS: [&str; 4] = ["piped", "ran", "failing", "silent"];
    needs_tool!(COLLECTOR);
    let sandbox = Sandbox::new();
    sandbox.mkdir("textfile");
    let write = |script: &str, number: usize| {
        let text = metrics(script, number);
        let file = sandbox.aside(script);
        fs::write(&file, &text).unwrap();
        let dest = format!("textfile/{script}.prom");
        let run = |words: &[&str]| -> Run<'_> { sandbox.atomwrite(words.iter().copied()) };
        match script {
            "silent" if number > 0 => run(&["--sync=file", &dest]).stdin("").output(),
            "piped" | "silent" => run(&["--sync=file", &dest]).stdin(text).output(),
            "failing" if number > 0 => {
                let half = format!("head -c 1000 '{}'; exit 1", file.display());
                run(&["--sync=file", &dest, "--", "sh", "-c", &half]).output()
            }
            _ => run(&["-m", "644", &dest, "--", "cat", file.to_str().unwrap()]).output(),
        }
    };
    for script in SCRIPTS {
        assert_eq!(write(script, 0).code(), Some(0));
    }
    let collector = Collector::start(&sandbox);
    let running = AtomicUsize::new(SCRIPTS.len());
    let scrapes = thread::scope(|scope| {
        let (running, write) = (&running, &write);
        let writers = SCRIPTS.map(|script| {
            scope.spawn(move || {
                let codes = (1..=RUNS).map(|number| write(script, number).code());
                let codes: Vec<_> = codes.collect();
                running.fetch_sub(1, Ordering::Release);
                codes
            })
        });
        let mut scrapes = 0;
        let mut seen = SCRIPTS.map(|_| 0);
        while running.load(Ordering::Acquire) > 0 {
            check(&collector.scrape(), &SCRIPTS, &mut seen);
            scrapes += 1;
        }
        for (writer, code) in writers.into_iter().zip([0, 0, 1, 3]) {
            assert_eq!(writer.join().unwrap(), [Some(code); RUNS]);
        }
        check(&collector.scrape(), &SCRIPTS, &mut seen);
        assert_eq!(seen, [RUNS, RUNS, 0, 0]);
        scrapes
    });
    assert!(scrapes > 0);
}
