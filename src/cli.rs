//! The command line: names, help, forms. Touches no file.
//!
//! The rule: help, man page and completions all come from the one table below (see `generated`), and whatever can be
//! known to be wrong from the words alone is said here, with status 2, before anything is opened.

mod mistakes;
mod parse;
mod quick;
mod values;

use std::ffi::OsString;

use clap::builder::{OsStringValueParser, TypedValueParser};
use clap::{Parser, ValueEnum, ValueHint};

pub(crate) use self::parse::{NoRequest, parse};
use self::values::{
    Control, parse_control, parse_mode, parse_owner, parse_status, parse_suffix, parse_sum,
};
use crate::attributes::ModeChange;
use crate::watch::Sum;

const USAGE: &str = "\
atomwrite [OPTIONS] [SOURCE] DEST
       atomwrite [OPTIONS] DEST -- COMMAND [ARG]...
       atomwrite [OPTIONS] -t DIR SOURCE...";

/// The order of the help. The operands are one argument to clap, and two to people.
const TEMPLATE: &str = "\
{about-with-newline}
{usage-heading} {usage}

Arguments:
  SOURCE   The file to read; '-' or none: standard input
  DEST     The file to write
  COMMAND  What to run; its output is the content, if it exits with 0
  DIR      The directory to write files into, each under its own name

{all-args}{after-help}";

const EXAMPLES: &str = r#"Examples:
  sort list | atomwrite list            Read and replace one and the same file
  atomwrite -v new.conf app.conf        Replace a file by what another one holds
  atomwrite out.json -- curl -fsS URL   Replace it only if the command succeeds
  atomwrite --validate 'visudo -cf "$1"' new /etc/sudoers
                                        Replace it only if a program approves
  atomwrite -a log -- date              Add to it, one writer after the other
  atomwrite -t conf.d new/*.conf        Replace many files, all or none

Exit status: 0 done; 1 failed, 2 usage, 3 refused by a guard: DEST is untouched;
4 DEST was changed, but cannot be vouched for, or only some of many files are
new. With COMMAND: its own if it fails, 125 for 1 and 3, 124 for 4."#;

const INPUT: &str = "Input";
const MANY: &str = "Many files";
const GUARDS: &str = "Guards (DEST stays as it is; a refusal is status 3)";
const LOOKS: &str = "What DEST looks like";
const WRITING: &str = "How it is written";
const MESSAGES: &str = "Messages";

/// Replaces a file at once: DEST is the whole old file or the whole new one
///
/// It is so at every moment, and after a power loss too. atomwrite reads standard input, SOURCE, or what COMMAND prints,
/// to its end, and writes it to a new file in DEST's directory. When all of it has arrived, and COMMAND has exited with
/// 0, the new file gets the owner, mode and attributes of the old one, is put on the disk, and is renamed to DEST. If
/// anything fails before that, DEST is untouched, and nothing is left behind.
#[expect(
    clippy::struct_excessive_bools,
    reason = "options are; they become enums below"
)]
#[derive(Debug, Default, Parser)]
#[command(
    name = "atomwrite",
    version,
    override_usage = USAGE,
    help_template = TEMPLATE,
    after_help = EXAMPLES,
    args_override_self = true,
    max_term_width = 80,
    next_line_help = false,
    disable_help_flag = true,
    disable_version_flag = true
)]
pub(crate) struct Args {
    /// The file to read, "-" for standard input (the default), and the file to write
    #[arg(value_name = "[SOURCE] DEST", num_args = 0.., value_hint = ValueHint::FilePath, hide = true)]
    operands: Vec<OsString>,

    /// Put the new content behind what DEST holds now
    ///
    /// The old content and the input become one new file, which replaces DEST as a whole. The guards look at all of it.
    /// Implies --lock, so that of two that append at once neither loses anything.
    #[arg(short, long, help_heading = INPUT)]
    append: bool,

    /// Wait for a lock on DEST before reading, and hold it
    ///
    /// The lock is taken before COMMAND starts, or before the input is read, and held until DEST is replaced: of several
    /// commands that read DEST, change it and write it, one runs after the other. DEST need not exist yet. The lock
    /// binds only those who ask for it: atomwrite with --lock or --append, and flock(1) on DEST.
    #[arg(long, help_heading = INPUT)]
    lock: bool,

    /// Write every SOURCE into DIR, in one commit
    ///
    /// Each gets its own base name. All new files are complete, judged, and on the disk, which is flushed once for all
    /// of them, before the first name in DIR changes; what fails until then leaves DIR as it was. Then they are
    /// renamed, one right after the other. If a rename fails after others have been done, the exit status is 4, and a
    /// line for each file says whether it is new or old. The other options hold for each file; -a, --lock, --sha256,
    /// --inplace, standard input and COMMAND do not go with -t.
    #[arg(short, long, value_name = "DIR", value_hint = ValueHint::DirPath, help_heading = MANY)]
    target_directory: Option<OsString>,

    /// With -t, read the SOURCEs' names from F
    ///
    /// F is a file, in which each name is ended by a NUL, as find -print0 writes them; a newline is a part of a name. "-"
    /// is standard input.
    #[arg(long, value_name = "F", value_hint = ValueHint::FilePath, help_heading = MANY)]
    files0_from: Option<OsString>,

    /// Refuse if DEST exists, whatever it is
    ///
    /// A file, a directory or a link, dangling or not, is in the way. It is looked for before any input is read, and
    /// once more in the very call that gives the new file its name, so that of two such writers one is refused.
    #[arg(
        short = 'n',
        long,
        help_heading = GUARDS
    )]
    no_clobber: bool,

    /// Let empty standard input replace DEST's content
    ///
    /// Without it, such input is refused: it mostly comes from a command that failed. So is a SOURCE that is an empty
    /// FIFO or socket, as a shell's <(command) is. Any other empty SOURCE, a COMMAND that prints nothing and exits with
    /// 0, and a DEST that is empty or new need no permission.
    #[arg(
        long,
        overrides_with = "no_empty",
        help_heading = GUARDS
    )]
    allow_empty: bool,

    /// Refuse empty content from any input
    ///
    /// From SOURCE and COMMAND, too, and for a new DEST.
    #[arg(
        long,
        overrides_with = "allow_empty",
        help_heading = GUARDS
    )]
    no_empty: bool,

    /// Refuse content with another SHA-256 digest
    ///
    /// HEX is 64 hexadecimal digits, as sha256sum(1) prints them. With --append, it is the digest of the whole.
    #[arg(long, value_name = "HEX", value_parser = OsStringValueParser::new().try_map(parse_sum), value_hint = ValueHint::Other, help_heading = GUARDS)]
    sha256: Option<Sum>,

    /// Refuse content unless sh -c CMD exits with 0
    ///
    /// CMD may be 'jq empty', or 'visudo -cf "$1"'. It has the new content on standard input, and $1 is the path of
    /// the new file: it has DEST's own name, the mode and the owner that DEST will have, and is in a directory of its own
    /// beside DEST. $2 is DEST. What CMD prints goes to standard error. If it writes to the file, that is refused, too.
    #[arg(long, value_name = "CMD", value_hint = ValueHint::CommandString, help_heading = GUARDS)]
    validate: Option<OsString>,

    /// Leave DEST alone if it has this content already
    ///
    /// It keeps its inode and its times, so that nothing that depends on it is made or loaded again. With -m, -o or -g,
    /// it is left alone only if it also has the mode, owner and group that it would get. Unless --sync is none, it is put
    /// on the disk all the same.
    #[arg(short = 'C', long, help_heading = GUARDS)]
    compare: bool,

    /// Exit with N if -C left DEST alone; implies -C
    ///
    /// With -t, if it left all files alone.
    #[arg(long, value_name = "N", value_parser = OsStringValueParser::new().try_map(parse_status), value_hint = ValueHint::Other, help_heading = GUARDS)]
    unchanged_status: Option<u8>,

    /// Attributes to keep: try (the default), all or none
    ///
    /// They are the owner, the group, the mode, the ACL, the security label and the other extended attributes.
    /// Timestamps, security.capability, security.ima and security.evm are never kept. The set-user-ID and set-group-ID
    /// bits are kept only with the owner and the group.
    #[arg(
        long,
        value_name = "WHAT",
        value_enum,
        help_heading = LOOKS
    )]
    keep: Option<KeepArg>,

    /// Set the mode, octal or symbolic as for chmod(1)
    ///
    /// A symbolic mode such as g+w,o= changes the mode that DEST would get without this option: that of an old DEST, or
    /// what the umask or the directory's default ACL leave for a new one.
    #[arg(short, long, value_name = "MODE", value_parser = OsStringValueParser::new().try_map(parse_mode), value_hint = ValueHint::Other, allow_hyphen_values = true, help_heading = LOOKS)]
    mode: Option<ModeChange>,

    /// Set the owner, by name or number
    ///
    /// A USER who is not known, or cannot be made the owner, is an error, and DEST is untouched.
    #[arg(short, long, value_name = "USER", value_parser = OsStringValueParser::new().try_map(parse_owner), value_hint = ValueHint::Username, help_heading = LOOKS)]
    owner: Option<OsString>,

    /// Set the group, by name or number
    ///
    /// As with --owner, it must succeed.
    #[arg(short, long, value_name = "GROUP", value_parser = OsStringValueParser::new().try_map(parse_owner), value_hint = ValueHint::Other, help_heading = LOOKS)]
    group: Option<OsString>,

    /// Replace a symbolic link itself, not what it leads to
    ///
    /// Without it, the link stays, and the file that it leads to is replaced, or created if it is missing.
    #[arg(long, help_heading = LOOKS)]
    no_dereference: bool,

    /// Replace a DEST that you may not write to
    ///
    /// A rename needs the right to write to the directory only. Without this option, a file that is protected by its
    /// mode is not replaced.
    #[arg(short, long, help_heading = LOOKS)]
    force: bool,

    /// Make missing parent directories of DEST
    ///
    /// They are made when all of the input has been read: a run that fails before that leaves none. With --lock or
    /// --append they are made at once, for the lock to be in, and stay.
    #[arg(short = 'D', long, help_heading = LOOKS)]
    create_dirs: bool,

    /// Keep the old file under another name
    ///
    /// CONTROL is simple (or never) for DEST~, numbered (t) for DEST.~1~, DEST.~2~ and so on, existing (nil) for numbered
    /// if there are such backups already and simple otherwise, none (off) for no backup. Without CONTROL, and with -b,
    /// $VERSION_CONTROL says it; if that is not set, it is existing. A simple backup replaces an older one. A run that
    /// fails leaves no backup.
    #[arg(short, long, value_name = "CONTROL", num_args = 0..=1, require_equals = true, default_missing_value = "", value_parser = OsStringValueParser::new().try_map(parse_control), hide_possible_values = true, value_hint = ValueHint::Other, help_heading = LOOKS)]
    backup: Option<Control>,

    /// End a simple backup with SUFFIX, not ~; implies -b
    ///
    /// Without this option, $SIMPLE_BACKUP_SUFFIX says it.
    #[arg(short = 'S', long, value_name = "SUFFIX", value_parser = OsStringValueParser::new().try_map(parse_suffix), value_hint = ValueHint::Other, help_heading = LOOKS)]
    suffix: Option<OsString>,

    /// What survives power loss: none, file, full (default)
    ///
    /// Without this option, $ATOMWRITE_SYNC says it.
    #[arg(long, value_name = "WHAT", value_enum, overrides_with_all = ["fsync", "no_fsync"], help_heading = WRITING)]
    sync: Option<SyncArg>,

    /// The same as --sync=full
    #[arg(long, overrides_with_all = ["sync", "no_fsync"], help_heading = WRITING)]
    fsync: bool,

    /// The same as --sync=none
    #[arg(long, overrides_with_all = ["sync", "fsync"], help_heading = WRITING)]
    no_fsync: bool,

    /// Overwrite a DEST that cannot be replaced; not atomic
    ///
    /// For a file that is mounted by itself, one in a directory that is read-only or not yours, a device, a FIFO. All of
    /// the input is taken in ($TMPDIR says where), all guards have looked, and the space is reserved before the first
    /// byte is written; but whoever reads DEST meanwhile can see half of it, and half is what is left if it breaks off
    /// then. Without WHEN, it is auto.
    #[arg(long, value_name = "WHEN", value_enum, num_args = 0..=1, require_equals = true, default_missing_value = "auto", help_heading = WRITING)]
    inplace: Option<InPlaceArg>,

    /// Show how far it has come, if standard error is a terminal
    ///
    /// How much has been read and how fast, and where the size is known, a bar and the time that is left. The line
    /// disappears at the end, and a short write has none.
    #[arg(long, help_heading = MESSAGES)]
    progress: bool,

    /// Say what was done, in one line on standard error
    #[arg(short, long, overrides_with = "quiet", help_heading = MESSAGES)]
    verbose: bool,

    /// Print errors only, no warnings
    #[arg(short, long, overrides_with = "verbose", help_heading = MESSAGES)]
    quiet: bool,

    /// Print a summary (-h) or all of this help (--help)
    #[arg(short, long, action = clap::ArgAction::Help, help_heading = MESSAGES)]
    help: Option<bool>,

    /// Print the version
    #[arg(short = 'V', long, action = clap::ArgAction::Version, help_heading = MESSAGES)]
    version: Option<bool>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum KeepArg {
    /// Those that can be kept, with a warning about the rest
    Try,
    /// All of them; where one cannot be kept, fail
    All,
    /// None of them, as if DEST were new
    None,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum InPlaceArg {
    /// Not at all: it is an error (the default)
    Never,
    /// Only where DEST cannot be replaced
    Auto,
    /// Wherever DEST exists: it keeps its inode and its hard links
    Always,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum SyncArg {
    /// No promise; DEST may then be empty, or full of zeros
    None,
    /// DEST, as the whole old file or the whole new one
    File,
    /// The new file, once atomwrite has ended with status 0
    Full,
}

/// The summary of `-h`.
#[cfg(test)]
pub(crate) fn summary() -> String {
    parse::summary()
}

/// The table, for what is made from it.
#[cfg(test)]
pub(crate) fn command() -> clap::Command {
    <Args as clap::CommandFactory>::command()
}
