//! SOURCE, which may be DEST, and whose holes stay holes.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::thread;

use crate::harness::{NOBODY, Sandbox, each, needs_root, needs_tool, open, skip, tool};
use crate::input::stdin::noise;

#[test]
fn reads_a_source_of_any_size() {
    let sandbox = Sandbox::new();
    for length in [0, 1, 4096, 4097, 5_000_003] {
        let content = noise(length);
        sandbox.write("in", &content);
        sandbox.run("in out").succeeds();
        assert!(sandbox.read("out") == content, "{length} bytes");
    }
}

#[test]
fn reads_a_source_that_is_dest() {
    let sandbox = Sandbox::new();
    sandbox.write_with_mode("out", "same", 0o640);
    sandbox.symlink("out", "link");
    sandbox.hard_link("out", "second");
    for source in ["out", "link", "second"] {
        sandbox.atomwrite([source, "out"]).succeeds();
        assert_eq!(sandbox.text("out"), "same");
        assert_eq!(sandbox.mode("out"), 0o640);
    }
}

#[test]
fn reads_the_source_that_is_named() {
    let cases = [
        ("in out", "of in"),
        ("link out", "of in"),
        ("./- out", "of dash"),
        // Only DEST may not be a magic link.
        ("/dev/stdin out", "of stdin"),
    ];
    each(cases, |(line, content)| {
        let sandbox = Sandbox::with("in", "of in");
        sandbox.sh("printf 'of dash' >./-; ln -s in link");
        sandbox.run(line).stdin("of stdin").writes(content);
    });
    let sandbox = Sandbox::new();
    let fifo = sandbox.fifo("fifo");
    let writer = thread::spawn(move || fs::write(fifo, "from a fifo").unwrap());
    sandbox.run("fifo out").writes("from a fifo");
    writer.join().unwrap();
}

/// Whether the filesystem can tell where a file has holes.
fn tells_of_holes(path: &Path) -> bool {
    let hole = rustix::fs::seek(open(path), rustix::fs::SeekFrom::Hole(0)).unwrap();
    hole < fs::metadata(path).unwrap().len()
}

#[test]
fn keeps_holes() {
    let sandbox = Sandbox::new();
    let path = sandbox.write("in", "");
    let file = File::options().write(true).open(&path).unwrap();
    file.set_len(64 << 20).unwrap();
    file.write_all_at(b"begin", 0).unwrap();
    file.write_all_at(b"middle", 10_000_000).unwrap();
    // The end is a hole.
    drop(file);
    if !tells_of_holes(&path) {
        skip!("the filesystem does not tell of holes");
    }
    let blocks = |name: &str| {
        // Delayed allocation counts only what is on its way to the disk.
        open(sandbox.path(name)).sync_all().unwrap();
        sandbox.stat(name).blocks()
    };
    let expected = blocks("in");
    assert!(
        expected < 1000,
        "the filesystem has no holes: {expected} blocks"
    );
    for arguments in ["in out", "--sync=none in out"] {
        sandbox.run(arguments).succeeds();
        assert_eq!(sandbox.stat("out").len(), 64 << 20);
        assert!(blocks("out") <= expected + 64, "{} blocks", blocks("out"));
        tool("cmp", [&path, &sandbox.path("out")]);
    }
}

#[test]
fn keeps_holes_where_the_kernel_copies_nothing() {
    // From one filesystem to another of a different kind copy_file_range gives EXDEV (since Linux
    // 5.19).
    needs_tool!("strace");
    let sandbox = Sandbox::new();
    let path = sandbox.write("in", "");
    let file = File::options().write(true).open(&path).unwrap();
    file.write_all_at(&noise(100_000), 3_000_000).unwrap();
    file.write_all_at(b"end", 30_000_000).unwrap();
    file.set_len(40_000_000).unwrap();
    drop(file);
    if !tells_of_holes(&path) {
        skip!("the filesystem does not tell of holes");
    }
    for error in ["EXDEV", "ENOSYS", "EOPNOTSUPP"] {
        let mut run = sandbox.run("in out");
        if !cfg!(atomwrite_posix) {
            run = run
                .inject("ioctl:error=EOPNOTSUPP")
                .inject(&format!("copy_file_range:error={error}"));
        }
        run.succeeds();
        tool("cmp", [&path, &sandbox.path("out")]);
        open(sandbox.path("out")).sync_all().unwrap();
        let blocks = sandbox.stat("out").blocks();
        assert!(blocks < 1000, "{error}: {blocks} blocks");
    }
}

#[test]
fn a_wrong_answer_about_holes_neither_loses_content_nor_hangs() {
    needs_tool!("strace");
    let content = noise(300_000);
    // The calls are: where am I, where is data, where does it end; then where is more.
    for wrong in ["lseek:retval=0", "lseek:retval=0:when=4+2"] {
        let sandbox = Sandbox::with("in", &content);
        let mut run = sandbox.run("in out").inject(wrong);
        if !cfg!(atomwrite_posix) {
            run = run.inject("ioctl:error=EOPNOTSUPP");
        }
        run.succeeds();
        assert!(sandbox.read("out") == content, "{wrong}");
    }
}

#[test]
fn keeps_a_file_that_is_one_hole() {
    let sandbox = Sandbox::new();
    let path = sandbox.write("in", "");
    File::options()
        .write(true)
        .open(&path)
        .unwrap()
        .set_len(10_000_001)
        .unwrap();
    if !tells_of_holes(&path) {
        skip!("the filesystem does not tell of holes");
    }
    sandbox.run("in out").succeeds();
    assert_eq!(sandbox.stat("out").len(), 10_000_001);
    assert!(sandbox.stat("out").blocks() < 100);
    tool("cmp", [&path, &sandbox.path("out")]);
}

#[test]
fn fails_when_source_cannot_be_read() {
    let sandbox = Sandbox::with("out", "old");
    sandbox.mkdir("directory");
    sandbox.refuse_each(&[
        ("missing out", 1, "'missing': no such file"),
        ("directory out", 1, "'directory': it is a directory"),
        ("out/in out", 1, "'out/in': not a directory"),
        ("'' out", 2, "empty"),
        ("missing new", 1, "'missing'"),
    ]);
}

#[test]
fn fails_when_source_may_not_be_read() {
    needs_root!();
    let sandbox = Sandbox::new();
    sandbox.give_to(NOBODY, NOBODY);
    sandbox.write_with_mode("in", "secret", 0o600);
    sandbox.write("out", "old");
    let run = sandbox.run("-f in out").by_nobody();
    run.says("'in'").fails_with(1, "permission denied");
}
