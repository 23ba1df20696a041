//! The table of the forms.

use super::{Also, Disk, Form, Lacks, Old, Owner, Size, Stdin};
use crate::programs::Program;

/// What most forms change in a point or two: a small input from a pipe, over a file.
const PLAIN: Form = Form {
    program: Program::Atomwrite,
    name: "over a file",
    words: &["o"],
    destination: "o",
    old: Old::File,
    size: Size::Small,
    stdin: Stdin::Pipe,
    lacks: Lacks::Nothing,
    disk: Disk::Usual,
    wanted: None,
    adds: &[],
    backup: None,
    older: None,
    stays: 0,
    next: &["o"],
    also: &[],
};

const LARGE: Form = Form {
    size: Size::Large,
    ..PLAIN
};
const COMMAND: Form = Form {
    name: "COMMAND",
    words: &["o", "--", "cat", "src"],
    stdin: Stdin::Nothing,
    ..PLAIN
};
const SOURCE: Form = Form {
    name: "SOURCE",
    words: &["src", "o"],
    stdin: Stdin::Nothing,
    ..PLAIN
};
/// The next write must take the lock, so that it removes the lock file.
const LOCK: Form = Form {
    name: "--lock",
    words: &["--lock", "o"],
    // With a pipe there is a warning.
    stdin: Stdin::File,
    next: &["--lock", "o"],
    ..PLAIN
};
const APPEND: Form = Form {
    name: "-a",
    words: &["-a", "o"],
    next: LOCK.next,
    ..PLAIN
};
const BACKUP: Form = Form {
    name: "-b",
    words: &["-b", "o"],
    adds: &["o~"],
    backup: Some("o~"),
    ..PLAIN
};
const VALIDATE: Form = Form {
    name: "--validate",
    words: &["--validate", "cat >/dev/null", "o"],
    // The preview directory.
    stays: 1,
    ..PLAIN
};
const IN_PLACE: Form = Form {
    name: "in place",
    // With a warning otherwise.
    words: &["-q", "--inplace=always", "o"],
    ..PLAIN
};
const CREATE: Form = Form {
    name: "-D",
    words: &["-D", "one/two/o"],
    destination: "one/two/o",
    old: Old::Nothing,
    adds: &["one", "one/two"],
    next: &["-D", "one/two/o"],
    ..PLAIN
};

/// There it clones, and flushes once more when the file has its name.
const BTRFS: Form = Form {
    name: "on btrfs",
    disk: Disk::Btrfs,
    ..PLAIN
};

const fn also(name: &'static str, source: &'static str, old: Old) -> Also {
    Also { name, source, old }
}

const MANY: Form = Form {
    name: "-t",
    words: &["-t", "d", "src", "s/two", "s/three"],
    destination: "d/src",
    stdin: Stdin::Nothing,
    // The staging directory.
    stays: 1,
    next: &["-t", "d", "src", "s/two", "s/three"],
    also: &[
        also("d/two", "s/two", Old::Nothing),
        also("d/three", "s/three", Old::File),
    ],
    ..PLAIN
};
const MANY_NEW: Form = Form {
    old: Old::Nothing,
    also: &[
        also("d/two", "s/two", Old::Nothing),
        also("d/three", "s/three", Old::Nothing),
    ],
    words: &["-D", "-t", "d", "src", "s/two", "s/three"],
    adds: &["d"],
    next: &["-D", "-t", "d", "src", "s/two", "s/three"],
    ..MANY
};

/// All forms of atomwrite. Those in place promise less.
const ATOMWRITE: &[Form] = &[
    PLAIN,
    Form {
        name: "new",
        old: Old::Nothing,
        ..PLAIN
    },
    Form {
        name: "named",
        lacks: Lacks::Unnamed,
        stays: 1,
        ..PLAIN
    },
    Form {
        name: "named, as there is no linking",
        lacks: Lacks::Linking,
        stays: 1,
        ..PLAIN
    },
    Form {
        name: "new, named",
        old: Old::Nothing,
        lacks: Lacks::Unnamed,
        stays: 1,
        ..PLAIN
    },
    Form {
        name: "1.25 MiB",
        ..LARGE
    },
    Form {
        name: "1.25 MiB, new, named",
        old: Old::Nothing,
        lacks: Lacks::Unnamed,
        stays: 1,
        ..LARGE
    },
    Form {
        name: "1.25 MiB without splice",
        lacks: Lacks::Moving,
        ..LARGE
    },
    Form {
        name: "1.25 MiB from a file",
        stdin: Stdin::File,
        ..LARGE
    },
    SOURCE,
    Form {
        name: "SOURCE, new",
        old: Old::Nothing,
        ..SOURCE
    },
    Form {
        name: "SOURCE of 1.25 MiB",
        size: Size::Large,
        ..SOURCE
    },
    Form {
        name: "SOURCE of 1.25 MiB, named",
        size: Size::Large,
        lacks: Lacks::Unnamed,
        stays: 1,
        ..SOURCE
    },
    Form {
        name: "SOURCE of 1.25 MiB by hand",
        size: Size::Large,
        lacks: Lacks::Moving,
        ..SOURCE
    },
    Form {
        name: "SOURCE with holes, --keep=all of all",
        words: &["--keep=all", "src", "o"],
        old: Old::Rich,
        size: Size::Spread,
        ..SOURCE
    },
    Form {
        name: "a file with holes",
        size: Size::Spread,
        stdin: Stdin::File,
        ..PLAIN
    },
    BTRFS,
    Form {
        name: "new, on btrfs",
        old: Old::Nothing,
        ..BTRFS
    },
    Form {
        name: "SOURCE with holes, --keep=all of all, on btrfs",
        words: &["--keep=all", "src", "o"],
        old: Old::Rich,
        size: Size::Spread,
        stdin: Stdin::Nothing,
        ..BTRFS
    },
    Form {
        name: "on a filesystem that is not known to be local",
        lacks: Lacks::Type,
        stays: 1,
        ..PLAIN
    },
    COMMAND,
    Form {
        name: "COMMAND, new",
        old: Old::Nothing,
        ..COMMAND
    },
    Form {
        name: "COMMAND of 1.25 MiB",
        size: Size::Large,
        ..COMMAND
    },
    Form {
        name: "COMMAND of 1.25 MiB without splice",
        size: Size::Large,
        lacks: Lacks::Moving,
        ..COMMAND
    },
    Form {
        name: "COMMAND, named",
        lacks: Lacks::Unnamed,
        stays: 1,
        ..COMMAND
    },
    APPEND,
    Form {
        name: "-a, new",
        old: Old::Nothing,
        ..APPEND
    },
    Form {
        name: "-a, named",
        lacks: Lacks::Unnamed,
        stays: 1,
        ..APPEND
    },
    Form {
        name: "-a without copying",
        lacks: Lacks::Moving,
        ..APPEND
    },
    Form {
        name: "-a, COMMAND",
        words: &["-a", "o", "--", "cat", "src"],
        stdin: Stdin::Nothing,
        ..APPEND
    },
    Form {
        name: "-a -b",
        words: &["-a", "-b", "o"],
        next: LOCK.next,
        ..BACKUP
    },
    BACKUP,
    Form {
        name: "-b over an older one",
        older: Some("o~"),
        // The backup's temporary name.
        stays: 1,
        ..BACKUP
    },
    Form {
        name: "-b over an older one, named",
        older: Some("o~"),
        lacks: Lacks::Unnamed,
        stays: 2,
        ..BACKUP
    },
    Form {
        name: "-b over an older one, as there is no linking",
        older: Some("o~"),
        lacks: Lacks::Linking,
        stays: 2,
        ..BACKUP
    },
    Form {
        name: "-b as a copy",
        lacks: Lacks::HardLinks,
        stays: 1,
        ..BACKUP
    },
    Form {
        name: "-b as a copy over an older one",
        older: Some("o~"),
        lacks: Lacks::HardLinks,
        stays: 1,
        ..BACKUP
    },
    Form {
        name: "-b --lock over an older one",
        words: &["-b", "--lock", "o"],
        older: Some("o~"),
        stdin: Stdin::File,
        stays: 1,
        next: LOCK.next,
        ..BACKUP
    },
    Form {
        name: "-b, numbered",
        words: &["--backup=numbered", "o"],
        adds: &["o.~2~"],
        backup: Some("o.~2~"),
        older: Some("o.~1~"),
        ..BACKUP
    },
    Form {
        name: "-b, numbered, as a copy",
        words: &["--backup=numbered", "o"],
        adds: &["o.~2~"],
        backup: Some("o.~2~"),
        older: Some("o.~1~"),
        lacks: Lacks::HardLinks,
        stays: 1,
        ..BACKUP
    },
    Form {
        name: "-C, equal",
        words: &["-C", "o"],
        old: Old::Equal,
        ..PLAIN
    },
    Form {
        name: "-C, another",
        words: &["-C", "o"],
        ..PLAIN
    },
    Form {
        name: "-C, similar",
        words: &["-C", "o"],
        old: Old::Similar,
        ..PLAIN
    },
    Form {
        name: "-C -m, similar",
        words: &["-C", "-m", "600", "o"],
        old: Old::Similar,
        wanted: Some((0o600, Owner::Old)),
        ..PLAIN
    },
    Form {
        name: "-C, equal, 1.25 MiB",
        words: &["-C", "o"],
        old: Old::Equal,
        ..LARGE
    },
    Form {
        name: "-C, similar, 1.25 MiB",
        words: &["-C", "o"],
        old: Old::Similar,
        ..LARGE
    },
    Form {
        name: "-n",
        words: &["-n", "o"],
        old: Old::Nothing,
        ..PLAIN
    },
    Form {
        name: "-n, named",
        words: &["-n", "o"],
        old: Old::Nothing,
        lacks: Lacks::Unnamed,
        stays: 1,
        ..PLAIN
    },
    Form {
        name: "-n by a link",
        words: &["-n", "o"],
        old: Old::Nothing,
        lacks: Lacks::NoReplace,
        ..PLAIN
    },
    CREATE,
    Form {
        name: "-D, named",
        lacks: Lacks::Unnamed,
        stays: 1,
        ..CREATE
    },
    VALIDATE,
    Form {
        name: "--validate, new",
        old: Old::Nothing,
        ..VALIDATE
    },
    Form {
        name: "--validate, named",
        lacks: Lacks::Unnamed,
        stays: 2,
        ..VALIDATE
    },
    Form {
        name: "--validate with siblings",
        words: &[
            "--validate",
            "cmp -s - \"$1\" && cd \"${1%/*}\" && test -L src && test -s src",
            "o",
        ],
        ..VALIDATE
    },
    Form {
        name: "--validate, what the validator writes",
        words: &[
            "--validate",
            // What outlives atomwrite fails, without a word; with -p it would make a directory of
            // that name itself.
            "exec 2>/dev/null; echo more >>\"$1\" && mkdir \"${1%/*}/one\" \"${1%/*}/one/two\"",
            "o",
        ],
        ..VALIDATE
    },
    IN_PLACE,
    Form {
        name: "in place, 1.25 MiB",
        size: Size::Large,
        ..IN_PLACE
    },
    Form {
        name: "in place, -b over an older one",
        words: &["-q", "--inplace=always", "-b", "o"],
        older: Some("o~"),
        stays: 1,
        ..BACKUP
    },
    Form {
        name: "in place, -m -o -g",
        words: &[
            "-q",
            "--inplace=always",
            "-m",
            "600",
            "-o",
            "1",
            "-g",
            "1",
            "o",
        ],
        wanted: Some((0o600, Owner::Another)),
        next: &["-m", "600", "-o", "1", "-g", "1", "o"],
        ..PLAIN
    },
    Form {
        name: "in place, in a directory that may not be written to",
        words: &["-q", "--inplace", "o"],
        lacks: Lacks::Permission,
        next: &["-q", "--inplace", "o"],
        ..PLAIN
    },
    Form {
        name: "through a link",
        destination: "far/o",
        ..PLAIN
    },
    Form {
        name: "through a dangling link",
        destination: "far/o",
        old: Old::Nothing,
        ..PLAIN
    },
    Form {
        name: "a link itself",
        words: &["--no-dereference", "o"],
        old: Old::Link,
        next: &["--no-dereference", "o"],
        ..PLAIN
    },
    Form {
        name: "--sync=none",
        words: &["--sync=none", "o"],
        ..PLAIN
    },
    Form {
        name: "--sync=file",
        words: &["--sync=file", "o"],
        ..PLAIN
    },
    LOCK,
    Form {
        name: "--lock, new",
        old: Old::Nothing,
        ..LOCK
    },
    Form {
        name: "--lock, COMMAND",
        words: &["--lock", "o", "--", "cat", "src"],
        stdin: Stdin::Nothing,
        ..LOCK
    },
    Form {
        name: "--lock, COMMAND, new",
        words: &["--lock", "o", "--", "cat", "src"],
        old: Old::Nothing,
        stdin: Stdin::Nothing,
        ..LOCK
    },
    Form {
        name: "--lock on a filesystem that is not known to be local",
        lacks: Lacks::Type,
        stays: 1,
        ..LOCK
    },
    Form {
        name: "--keep=all of all",
        words: &["--keep=all", "o"],
        old: Old::Rich,
        ..PLAIN
    },
    Form {
        name: "--keep=all of all, named",
        words: &["--keep=all", "o"],
        old: Old::Rich,
        lacks: Lacks::Unnamed,
        stays: 1,
        ..PLAIN
    },
    Form {
        name: "an ACL and attributes",
        old: Old::Rich,
        ..PLAIN
    },
    Form {
        name: "-m -o -g",
        words: &["-m", "600", "-o", "1", "-g", "1", "o"],
        wanted: Some((0o600, Owner::Another)),
        // A stale file of another user than DEST's owner is removed only by a run that gives the
        // new file to that user.
        next: &["-m", "600", "-o", "1", "-g", "1", "o"],
        ..PLAIN
    },
    MANY,
    Form {
        name: "-t, 1.25 MiB each",
        size: Size::Large,
        ..MANY
    },
    Form {
        name: "-t -b",
        words: &["-b", "-t", "d", "src", "s/two", "s/three"],
        adds: &["d/src~", "d/three~"],
        backup: Some("d/src~"),
        ..MANY
    },
    Form {
        name: "-t -b over an older one",
        words: &["-b", "-t", "d", "src", "s/two", "s/three"],
        adds: &["d/src~", "d/three~"],
        backup: Some("d/src~"),
        older: Some("d/src~"),
        stays: 2,
        ..MANY
    },
    Form {
        name: "-t -C --sync=file",
        words: &["-C", "--sync=file", "-t", "d", "src", "s/two", "s/three"],
        ..MANY
    },
    Form {
        name: "-t on btrfs",
        disk: Disk::Btrfs,
        ..MANY
    },
    Form {
        name: "-t -C, one equal",
        words: &["-C", "-t", "d", "src", "s/two", "s/three"],
        also: &[
            also("d/two", "s/two", Old::Equal),
            also("d/three", "s/three", Old::File),
        ],
        ..MANY
    },
    Form {
        name: "-t --validate",
        words: &[
            "--validate",
            "cat >/dev/null",
            "-t",
            "d",
            "src",
            "s/two",
            "s/three",
        ],
        stays: 2,
        ..MANY
    },
    Form {
        name: "-t --validate-all",
        words: &[
            "--validate-all",
            "cd \"$1\" && exec cat src two three >/dev/null",
            "-t",
            "d",
            "src",
            "s/two",
            "s/three",
        ],
        stays: 2,
        ..MANY
    },
    MANY_NEW,
    Form {
        name: "-t -D -n",
        words: &["-D", "-n", "-t", "d", "src", "s/two", "s/three"],
        ..MANY_NEW
    },
    Form {
        name: "-t -D -n by a link",
        words: &["-D", "-n", "-t", "d", "src", "s/two", "s/three"],
        lacks: Lacks::NoReplace,
        ..MANY_NEW
    },
    Form {
        name: "-t -D -n on a filesystem that is not known to be local",
        words: &["-D", "-n", "-t", "d", "src", "s/two", "s/three"],
        lacks: Lacks::Type,
        ..MANY_NEW
    },
];

/// Returns the forms of a program: of others than atomwrite, over a file and to a new name, small
/// and large.
pub(super) fn of_program(program: Program) -> Vec<Form> {
    if program == Program::Atomwrite {
        return ATOMWRITE.to_vec();
    }
    let stdin = if program.reads_stdin() {
        Stdin::Pipe
    } else {
        Stdin::Nothing
    };
    // The words of install ask for that mode.
    let wanted = (program == Program::Install).then_some((0o644, Owner::Runner));
    let plain = Form {
        program,
        words: &[],
        stdin,
        wanted,
        ..PLAIN
    };
    vec![
        plain,
        Form {
            name: "new",
            old: Old::Nothing,
            ..plain
        },
        Form {
            name: "1.25 MiB",
            size: Size::Large,
            ..plain
        },
    ]
}
