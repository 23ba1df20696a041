//! The command line: names, help, forms. Touches no file.
//!
//! Invariant: help, man page and completions all come from the one table below (see `generated`).
//! An error that the words alone show is reported here, with status 2, before any file is opened.

mod fast_path;
mod parse;
mod usage_error;
mod values;

use std::ffi::OsString;
use std::time::Duration;

use clap::builder::{OsStringValueParser, TypedValueParser};
use clap::{CommandFactory, Parser, ValueHint};

pub(crate) use self::parse::parse;
use self::values::{
    Control, Owner, parse_command, parse_control, parse_group, parse_mode, parse_owner, parse_size,
    parse_status, parse_suffix, parse_sum, parse_timeout,
};
use crate::message::{self, Chain};
use crate::mode::ModeChange;
use crate::outcome::Failure;
use crate::request::{InPlace, Keep, Sha256Digest, Sync};
use crate::sys;

const USAGE: &str = "\
atomwrite [OPTIONS] [SOURCE] DEST
       atomwrite [OPTIONS] DEST -- COMMAND [ARG]...
       atomwrite [OPTIONS] -c STRING DEST
       atomwrite [OPTIONS] -t DIR SOURCE...";

/// The order of the help.
const TEMPLATE: &str = "\
{about-with-newline}
{usage-heading} {usage}

{before-help}{all-args}{after-help}";

/// clap sees the operands as one argument, the user sees several.
const OPERANDS: &str = "\
Arguments:
  SOURCE   The file to read; '-' or none: standard input
  DEST     The file to write
  COMMAND  What to run; its output is the content, if it exits with 0
  DIR      The directory to write files into, each under its own name";

/// No line is broken or aligned here, because clap fills the lines to the width of the terminal.
const EXAMPLES: &str = r#"Examples:
  sort list | atomwrite list
      Edit a file in place
  atomwrite -v new.conf app.conf
      Replace a file with another one
  atomwrite out.json -- curl -fsS URL
      Replace it only if the command succeeds
  atomwrite -c 'zcat a.gz | sort' list
      Replace it only if both commands do
  atomwrite --validate 'visudo -cf "$1"' new /etc/sudoers
      Replace it only if a program approves
  atomwrite -a log -- date
      Append to it; concurrent runs lose no data
  atomwrite -t conf.d new/*.conf
      Replace many files in one commit

Exit status:
  0  Done
  1  Failed; DEST is unchanged
  2  Wrong usage; DEST is unchanged
  3  Refused by a guard; DEST is unchanged
  4  DEST has changed, and may not be durable or complete; or only some of many
     files are new

If COMMAND fails, the exit status is COMMAND's. With COMMAND or -c, 125 replaces
1 and 3, and 124 replaces 4."#;

const INPUT: &str = "Input";
const MANY: &str = "Many files";
const GUARDS: &str = "Guards (a refusal is status 3)";
const LOOKS: &str = "Attributes, links and backups";
const WRITING: &str = "Durability and writing in place";
const MESSAGES: &str = "Messages";

/// Replaces a file atomically and durably
///
/// Other processes see the complete old file or the complete new one, even after a power loss.
/// atomwrite reads standard input, SOURCE, or the output of COMMAND to its end, and writes it to a
/// new file in DEST's directory. When the input is complete, and COMMAND has exited with 0, the new
/// file gets the owner, mode and attributes of the old one, is synced to the disk, and is renamed
/// to DEST. If anything fails before that, DEST is unchanged, and no temporary file is left.
#[expect(
    clippy::struct_excessive_bools,
    reason = "options are; they become enums below"
)]
#[derive(Debug, Default, Parser)]
#[command(
    name = "atomwrite",
    version = sys::VERSION,
    override_usage = USAGE,
    help_template = TEMPLATE,
    before_help = OPERANDS,
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

    /// Run a shell pipeline for the content
    ///
    /// STRING is run by bash -o pipefail -c, or by sh -o pipefail -c if there is no bash and sh has
    /// pipefail. DEST is replaced only if every command of the pipeline exits with 0; the shell
    /// alone would take the status of the last one. In a list such as 'a; b', the status of the
    /// last command counts. Otherwise STRING works as COMMAND does.
    #[arg(short, long, value_name = "STRING", value_parser = OsStringValueParser::new().try_map(parse_command), value_hint = ValueHint::CommandString, allow_hyphen_values = true, help_heading = INPUT)]
    command: Option<OsString>,

    /// Append the input to what DEST holds now
    ///
    /// The old content and the input become one new file, which replaces DEST as a whole. The
    /// guards check all of it. Implies --lock, so concurrent runs with -a never lose data.
    #[arg(short, long, help_heading = INPUT)]
    append: bool,

    /// Lock DEST before reading, until the commit
    ///
    /// Only one run with --lock or --append works on DEST at a time, even if DEST does not exist
    /// yet. The lock is taken before COMMAND starts or the input is read, so a COMMAND that reads
    /// DEST, changes it and writes it loses no update; a pipeline that has read DEST before can.
    /// Waits as long as it takes, or at most SECONDS, with a decimal fraction if needed; 0 does not
    /// wait. The lock is a hidden file beside DEST. flock(1) on DEST does not respect it.
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, require_equals = true, value_parser = OsStringValueParser::new().try_map(parse_timeout), value_hint = ValueHint::Other, help_heading = INPUT)]
    #[expect(clippy::option_option, reason = "clap's form of an optional value")]
    lock: Option<Option<Duration>>,

    /// Write every SOURCE into DIR, in one commit
    ///
    /// Each file keeps its base name. All new files are complete, have passed every guard, and are
    /// on the disk before the first name in DIR changes. The disk is flushed once for all of them.
    /// A failure until then leaves DIR as it was. Then atomwrite renames the files, one right after
    /// the other. If a rename fails after others have succeeded, the exit status is 4, and a line
    /// for each file says whether it is new or old. The other options apply to each file; -a,
    /// --lock, --sha256, --inplace, -c, standard input and COMMAND do not go with -t.
    #[arg(short, long, value_name = "DIR", value_hint = ValueHint::DirPath, allow_hyphen_values = true, help_heading = MANY)]
    target_directory: Option<OsString>,

    /// With -t, read the names of SOURCEs from F
    ///
    /// F is a file with one name per line. Every byte of a line is a part of the name; there are no
    /// comments and no quoting. Empty lines are skipped. "-" is standard input. Names are relative
    /// to the current directory.
    #[arg(long, value_name = "F", value_hint = ValueHint::FilePath, allow_hyphen_values = true, help_heading = MANY)]
    files_from: Option<OsString>,

    /// The same, with NUL-terminated names
    ///
    /// F is a file in which each name ends with a NUL, as find -print0 writes them; a newline is a
    /// part of a name. "-" is standard input.
    #[arg(long, value_name = "F", value_hint = ValueHint::FilePath, allow_hyphen_values = true, help_heading = MANY)]
    files0_from: Option<OsString>,

    /// Refuse if DEST exists, whatever it is
    ///
    /// Any file, directory or symbolic link counts, even a dangling link. atomwrite checks this
    /// before it reads any input, and once more in the call that gives the new file its name, so if
    /// two runs race, at most one succeeds.
    #[arg(
        short = 'n',
        long,
        help_heading = GUARDS
    )]
    no_clobber: bool,

    /// Accept empty standard input
    ///
    /// Without this option, atomwrite refuses empty standard input, whatever DEST is, because it
    /// mostly comes from a command that failed. It also refuses a SOURCE that is an empty FIFO or
    /// socket, as a shell's <(command) is, and an empty list of names. It accepts any other empty
    /// SOURCE, a COMMAND that prints nothing and exits with 0, and empty input with --append.
    #[arg(
        long,
        overrides_with = "no_empty",
        help_heading = GUARDS
    )]
    allow_empty: bool,

    /// Refuse empty input, also from SOURCE and COMMAND
    ///
    /// With --append, only the input counts, not the content of DEST.
    #[arg(
        long,
        overrides_with = "allow_empty",
        help_heading = GUARDS
    )]
    no_empty: bool,

    /// Refuse truncated input: fewer than SIZE bytes
    ///
    /// SIZE is a number of bytes, or one followed by K, M, G or T for powers of 1024 (also KiB), or
    /// KB, MB, GB or TB for powers of 1000. With --append, only the input counts; with -t, each
    /// file. A broken connection looks like the end of the input: ssh host atomwrite --min-size
    /// $(stat -c %s f) f <f
    #[arg(long, value_name = "SIZE", value_parser = OsStringValueParser::new().try_map(parse_size), value_hint = ValueHint::Other, allow_hyphen_values = true, help_heading = GUARDS)]
    min_size: Option<u64>,

    /// Refuse content with another SHA-256 digest
    ///
    /// HEX is 64 hexadecimal digits, as sha256sum(1) prints them. With --append, it is the digest
    /// of the whole new content.
    #[arg(long, value_name = "HEX", value_parser = OsStringValueParser::new().try_map(parse_sum), value_hint = ValueHint::Other, allow_hyphen_values = true, help_heading = GUARDS)]
    sha256: Option<Sha256Digest>,

    /// Refuse content unless sh -c CMD exits with 0
    ///
    /// CMD may be 'jq empty', or 'visudo -cf "$1"'. It gets a copy of the new file on standard
    /// input, and the path of the copy as $1. The copy has DEST's name, and the mode and owner that
    /// DEST will have. It is in a private directory in which the other files of DEST's directory
    /// are symbolic links, so includes by name work. $2 is the absolute path of DEST. What CMD
    /// writes to the copy is discarded, and its output goes to standard error.
    #[arg(long, value_name = "CMD", value_parser = OsStringValueParser::new().try_map(parse_command), value_hint = ValueHint::CommandString, allow_hyphen_values = true, help_heading = GUARDS)]
    validate: Option<OsString>,

    /// With -t, refuse all unless sh -c CMD exits with 0
    ///
    /// For files that are valid only together, such as a configuration and what it includes: 'nginx
    /// -t -c "$1/nginx.conf"'. CMD runs once, when all new files are complete and each has passed
    /// --validate. $1 is a private directory that shows DIR as it will be: each new file is a copy,
    /// with its name, mode and owner, and every other entry is a symbolic link. An absolute path
    /// leads to the old file. $2 is the absolute path of DIR, and standard input is /dev/null. What
    /// CMD writes to the copies is discarded, and its output goes to standard error.
    #[arg(long, value_name = "CMD", value_parser = OsStringValueParser::new().try_map(parse_command), value_hint = ValueHint::CommandString, allow_hyphen_values = true, help_heading = GUARDS)]
    validate_all: Option<OsString>,

    /// Leave DEST alone if it has this content already
    ///
    /// DEST keeps its inode and its times, so nothing that depends on it is rebuilt or reloaded.
    /// With -m, -o or -g, it is left alone only if it also has the mode, owner and group that it
    /// would get. Unless --sync is none, it is synced to the disk anyway. A DEST that cannot be
    /// replaced (immutable, on a read-only filesystem, another user's) is an error only if the
    /// content differs.
    #[arg(short = 'C', long, help_heading = GUARDS)]
    compare: bool,

    /// Exit with N if -C left DEST alone; implies -C
    ///
    /// With -t, if it left all files alone.
    #[arg(long, value_name = "N", value_parser = OsStringValueParser::new().try_map(parse_status), value_hint = ValueHint::Other, allow_hyphen_values = true, help_heading = GUARDS)]
    unchanged_status: Option<u8>,

    /// Attributes to keep: try (the default), all or none
    ///
    /// The attributes are the owner, the group, the mode, the ACL, the security label and the other
    /// extended attributes. Changes that another process makes to them during the run are kept,
    /// too. Timestamps, security.capability, security.ima and security.evm are never kept. The
    /// set-user-ID and set-group-ID bits are kept only with the owner and the group. Flags of
    /// chattr(1) are not kept; --keep=all gives a warning for them. If another process removes
    /// DEST during the run, the new file still gets its owner, group and mode, but no rights that
    /// only its group had; there is a warning if that may lose something.
    #[arg(
        long,
        value_name = "WHAT",
        value_enum,
        allow_hyphen_values = true, help_heading = LOOKS
    )]
    keep: Option<Keep>,

    /// Set the mode, octal or symbolic as for chmod(1)
    ///
    /// A symbolic mode such as g+w,o= changes the mode that DEST would get without this option: the
    /// mode of an old DEST, or what the umask or the directory's default ACL leave for a new one.
    #[arg(short, long, value_name = "MODE", value_parser = OsStringValueParser::new().try_map(parse_mode), value_hint = ValueHint::Other, allow_hyphen_values = true, help_heading = LOOKS)]
    mode: Option<ModeChange>,

    /// Set the owner, and the group, by name or number
    ///
    /// USER: with nothing after the colon sets USER's login group, and :GROUP the group only, as
    /// with chown(1). If a name is not known, or the owner or the group cannot be set, that is an
    /// error, and DEST is unchanged.
    #[arg(short, long, value_name = "USER[:GROUP]", value_parser = OsStringValueParser::new().try_map(parse_owner), value_hint = ValueHint::Username, allow_hyphen_values = true, help_heading = LOOKS)]
    owner: Option<Owner>,

    /// Set the group, by name or number
    ///
    /// As with --owner, it must succeed.
    #[arg(short, long, value_name = "GROUP", value_parser = OsStringValueParser::new().try_map(parse_group), value_hint = ValueHint::Other, allow_hyphen_values = true, help_heading = LOOKS)]
    group: Option<OsString>,

    /// Preserve the timestamps of SOURCE
    ///
    /// DEST gets the times of the last read and the last write that SOURCE had before atomwrite
    /// read it. SOURCE must be a regular file, so the option does not work with standard input,
    /// COMMAND and --append. A DEST that -C leaves alone keeps its own times. Without this option,
    /// the time is when the last byte was written, as with >, and can be earlier than the rename.
    #[arg(short, long, help_heading = LOOKS)]
    preserve_timestamps: bool,

    /// Replace a symbolic link itself, not its target
    ///
    /// Without this option, the link stays, and its target is replaced, or created if it is
    /// missing.
    #[arg(long, help_heading = LOOKS)]
    no_dereference: bool,

    /// Replace a DEST that you may not write to
    ///
    /// A rename needs write permission for the directory only. Without this option, atomwrite does
    /// not replace a file that its mode protects.
    #[arg(short, long, help_heading = LOOKS)]
    force: bool,

    /// Create missing parent directories of DEST
    ///
    /// atomwrite creates them at the commit, so a run that fails earlier leaves none. With --lock
    /// or --append, it creates them before it takes the lock, and they stay if the run fails.
    #[arg(short = 'D', long, help_heading = LOOKS)]
    create_dirs: bool,

    /// Keep a backup of the old file
    ///
    /// CONTROL is simple (or never) for DEST~, numbered (t) for DEST.~1~, DEST.~2~ and so on,
    /// existing (nil) for numbered if there are such backups already and simple otherwise, none
    /// (off) for no backup. Without CONTROL, and with -b, $VERSION_CONTROL sets it; the default is
    /// existing. A simple backup replaces an older one. The backup is a hard link to the old file,
    /// or a copy if no link is possible, and is made just before the rename. If two runs replace
    /// DEST at once, only --lock ensures that each content has a backup.
    #[arg(short, long, value_name = "CONTROL", num_args = 0..=1, require_equals = true, default_missing_value = "", value_parser = OsStringValueParser::new().try_map(parse_control), hide_possible_values = true, value_hint = ValueHint::Other, help_heading = LOOKS)]
    backup: Option<Control>,

    /// End a simple backup with SUFFIX, not ~; implies -b
    ///
    /// An empty SUFFIX counts as ~. Without this option, $SIMPLE_BACKUP_SUFFIX sets the suffix.
    #[arg(short = 'S', long, value_name = "SUFFIX", value_parser = OsStringValueParser::new().try_map(parse_suffix), value_hint = ValueHint::Other, allow_hyphen_values = true, help_heading = LOOKS)]
    suffix: Option<OsString>,

    /// What survives power loss: none, file, full (default)
    ///
    /// Without this option, $ATOMWRITE_SYNC sets the value.
    #[arg(long, value_name = "WHAT", value_enum, overrides_with_all = ["fsync", "no_fsync"], allow_hyphen_values = true, help_heading = WRITING)]
    sync: Option<Sync>,

    /// The same as --sync=full
    #[arg(long, overrides_with_all = ["sync", "no_fsync"], help_heading = WRITING)]
    fsync: bool,

    /// The same as --sync=none
    #[arg(long, overrides_with_all = ["sync", "fsync"], help_heading = WRITING)]
    no_fsync: bool,

    /// Overwrite a DEST that cannot be replaced; not atomic
    ///
    /// For a file that is itself a mount point, a file in a directory that is read-only or not
    /// yours, a device, a FIFO, and for filesystems that cannot rename. Before the first byte is
    /// written, the whole input is buffered, all guards have passed, and the space is preallocated
    /// if the filesystem can do that. But concurrent readers of DEST can see a partial file, and an
    /// interruption leaves a mix of new and old content. -o and -g come before the content, so a
    /// new owner can read the old content. Without WHEN, it is auto.
    #[arg(long, value_name = "WHEN", value_enum, num_args = 0..=1, require_equals = true, default_missing_value = "auto", help_heading = WRITING)]
    inplace: Option<InPlace>,

    /// Show progress on standard error, if it is a terminal
    ///
    /// The line shows the size and speed of the input so far and, if the total size is known, a bar
    /// and the remaining time. It disappears at the end. A short write shows none.
    #[arg(long, help_heading = MESSAGES)]
    progress: bool,

    /// Say what was done, in one line on standard error
    ///
    /// The line has the size of DEST and of the appended input, and names the backup and the
    /// directories that were made.
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

/// Why there is no request: the user asked for a text, or the words make no sense.
#[derive(Debug)]
pub(crate) enum EarlyExit {
    /// Of `--help` or `--version`: for stdout.
    Text(String),
    /// One line for stderr.
    Usage(String),
}

impl EarlyExit {
    /// Prints it, and returns the exit status.
    pub(crate) fn report(self) -> u8 {
        match self {
            Self::Text(text) => match message::print(&text) {
                Ok(()) => 0,
                Err(error) => {
                    message::error(Chain(&error));
                    1
                }
            },
            Self::Usage(problem) => {
                message::error(problem);
                Failure::USAGE
            }
        }
    }
}

/// The summary of `-h`: one line for each option. The lines name the values that there are to
/// choose from; clap would name them once more.
pub(crate) fn summary() -> String {
    let mut table = Args::command().mut_args(|argument| {
        let has_value = argument.get_action().takes_values();
        argument.hide_possible_values(has_value)
    });
    table.render_help().to_string()
}

/// The table, for what is made from it.
#[cfg(test)]
pub(crate) fn command() -> clap::Command {
    Args::command()
}
