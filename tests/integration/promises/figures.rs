//! The figures that are promised: at most 6 MiB of memory for any size of input, and for 100 bytes
//! with `--sync=none` at most 30 system calls more than an empty Rust program.

use std::fs::{self, File};
use std::iter;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::harness::{Sandbox, linux_only, needs_tool, open, skip};

const MIB: u64 = 1 << 20;

/// Runs its arguments after the first, and writes the peak of their memory, in KiB, to the file
/// named first.
///
/// A program of its own: what a process used before exec counts as well, and a test runner uses
/// more than 6 MiB.
const MEASURE: &str = r#"
#[repr(C)]
struct Usage { times: [i64; 4], peak: i64, rest: [i64; 13] }
unsafe extern "C" { fn wait4(pid: i32, status: *mut i32, options: i32, usage: *mut Usage) -> i32; }
fn main() {
    let mut arguments = std::env::args_os().skip(1);
    let report = arguments.next().unwrap();
    let child = std::process::Command::new(arguments.next().unwrap()).args(arguments).spawn().unwrap();
    let mut usage = Usage { times: [0; 4], peak: 0, rest: [0; 13] };
    let mut status = 0;
    assert!(unsafe { wait4(child.id() as i32, &mut status, 0, &mut usage) } > 0);
    std::fs::write(report, usage.peak.to_string()).unwrap();
    std::process::exit(if status == 0 { 0 } else { 1 });
}
"#;

/// Compiles a program of one file, with the compiler that tests are built with; None where there is
/// none.
fn compile(sandbox: &Sandbox, name: &str, source: &str) -> Option<PathBuf> {
    let program = sandbox.aside(name);
    let file = sandbox.aside(format!("{name}.rs"));
    fs::write(&file, source).unwrap();
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(rustc)
        .args(["--edition=2024", "-O", "-Cpanic=abort", "-o"])
        .args([&program, &file])
        .output()
        .ok()?;
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    Some(program)
}

#[test]
fn memory_stays_within_6_mib_for_any_size_of_input() {
    linux_only!("copies by the kernel");
    let sandbox = Sandbox::new();
    let Some(measure) = compile(&sandbox, "measure", MEASURE) else {
        skip!("needs rustc");
    };
    let report = sandbox.aside("report");
    let through = || [measure.clone(), report.clone()];
    let check = |what: &str| {
        let peak: u64 = fs::read_to_string(&report).unwrap().parse().unwrap();
        assert!(peak <= 6 * 1024, "{what}: {peak} KiB");
        assert!(peak > 500, "{what}: {peak} KiB cannot be");
    };

    let sparse = sandbox.write("sparse", "");
    let file = File::options().write(true).open(&sparse).unwrap();
    file.set_len(512 * MIB).unwrap();
    sandbox
        .run("--sync=none sparse out")
        .through(through())
        .succeeds();
    check("a sparse SOURCE of 512 MiB");
    sandbox
        .run("--sync=none out")
        .stdin_from(File::open(&sparse).unwrap())
        .through(through())
        .succeeds();
    check("a sparse stdin of 512 MiB");
    fs::remove_file(&sparse).unwrap();

    let chunk = vec![b'x'; 1 << 20];
    let mut run = sandbox
        .run("--sync=none out")
        .stdin_held()
        .through(through())
        .start();
    for _ in 0..256 {
        run.feed_on(&chunk);
    }
    assert_eq!(run.wait().code(), Some(0));
    assert_eq!(sandbox.stat("out").len(), 256 * MIB);
    check("a pipe of 256 MiB");

    // And SOURCE with its bytes, where nothing can be cloned.
    sandbox
        .run("--sync=none out copy")
        .through(through())
        .succeeds();
    check("a SOURCE of 256 MiB");

    // From another filesystem, of which the kernel copies nothing.
    let memory = Path::new("/dev/shm");
    if !memory.is_dir() {
        skip!("needs /dev/shm");
    }
    let other = Sandbox::in_dir(memory);
    let source = other.write("source", vec![b'x'; 64 << 20]);
    let source = source.to_str().unwrap();
    for options in [
        &[][..],
        &["-C"],
        &["-b"],
        &["--validate=true"],
        &["--inplace=always"],
    ] {
        let words = options
            .iter()
            .copied()
            .chain(["--sync=none", source, "out"]);
        let done = sandbox.atomwrite(words).through(through()).output();
        assert_eq!(done.code(), Some(0), "{options:?}: {done:?}");
        check(&format!("{options:?} from another filesystem"));
    }
    assert!(sandbox.read("out") == other.read("source"));
}

/// The system calls in a trace.
fn calls(trace: &Path) -> Vec<String> {
    let text = fs::read_to_string(trace).unwrap();
    let calls = text.lines().filter(|line| line.contains(" = "));
    // With debug assertions std asks before each close whether the descriptor is open.
    let of_release = |line: &&str| !(cfg!(debug_assertions) && line.contains("F_GETFD) "));
    calls.filter(of_release).map(String::from).collect()
}

#[test]
fn a_small_write_takes_few_system_calls() {
    linux_only!("so few system calls");
    needs_tool!("strace");
    let sandbox = Sandbox::new();
    let Some(empty) = compile(&sandbox, "empty", "fn main() {}") else {
        skip!("needs rustc");
    };
    let trace = sandbox.aside("trace");
    let options = ["-f", "-qq", "-o"].map(PathBuf::from);
    let options: Vec<_> = options.into_iter().chain([trace.clone()]).collect();
    let output = Command::new("strace").args(&options).arg(&empty).output();
    assert!(output.unwrap().status.success());
    let least = calls(&trace).len();
    assert!(least > 20, "an empty program makes more than {least} calls");

    let content = [b'x'; 100];
    sandbox.write("in", content);
    let mut too_many = Vec::new();
    for dest in ["new", "old"] {
        for input in ["a pipe", "a regular stdin", "SOURCE"] {
            if dest == "old" {
                sandbox.write("old", "old");
            }
            let command = iter::once("strace".into()).chain(options.iter().cloned());
            let run = match input {
                "SOURCE" => sandbox.atomwrite(["--sync=none", "in", dest]),
                "a pipe" => sandbox.atomwrite(["--sync=none", dest]).stdin(content),
                _ => sandbox
                    .atomwrite(["--sync=none", dest])
                    .stdin_from(open(sandbox.path("in"))),
            };
            run.through(command).succeeds();
            let calls = calls(&trace);
            let more = calls.len() - least;
            if more > 30 {
                let calls = calls.join("\n");
                too_many.push(format!("from {input} to {dest}: {more} more\n{calls}\n"));
            }
            fs::remove_file(sandbox.path(dest)).unwrap();
        }
    }
    assert!(too_many.is_empty(), "{}", too_many.concat());
}
