//! The command line: names, help, forms. Touches no file.
//!
//! The rule: help, man page and completions all come from the one table below (see `generated`), and whatever can be
//! known to be wrong from the words alone is said here, with status 2, before anything is opened.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use clap::builder::{OsStringValueParser, TypedValueParser};
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{CommandFactory, FromArgMatches, Parser, ValueEnum, ValueHint};

use crate::attributes::ModeChange;
use crate::message::{Escaped, Quoted, Verbosity};
use crate::request::{Empty, Keep, Links, Look, Overwrite, Parents, Request, Source, Sync};

/// The variable that says how durable, where no option does.
const SYNC_VARIABLE: &str = "ATOMWRITE_SYNC";

const USAGE: &str = "\
atomwrite [OPTIONS] [SOURCE] DEST
       COMMAND | atomwrite [OPTIONS] DEST";

/// The order of the help. The operands are one argument to clap, and two to people.
const TEMPLATE: &str = "\
{about-with-newline}
{usage-heading} {usage}

Arguments:
  SOURCE  The file to read; '-' or none: standard input
  DEST    The file to write

{all-args}{after-help}";

const EXAMPLES: &str = "\
Examples:
  sort list | atomwrite list            Read and replace one and the same file
  atomwrite -v new.conf /etc/app.conf   Replace a file by what another one holds
  date | atomwrite -D -m 640 log/start  Make the directory too, and set the mode

Exit status: 0 done; 1 failed, 2 usage, 3 refused by a guard: DEST is untouched;
4 DEST is new, but may not survive power loss.";

const GUARDS: &str = "Guards (DEST is untouched, status 3)";
const LOOKS: &str = "What DEST looks like";
const WRITING: &str = "How it is written";
const MESSAGES: &str = "Messages";

/// Replaces a file at once: DEST is the whole old file or the whole new one
///
/// It is so at every moment, and after a power loss too. atomwrite reads standard input, or SOURCE, to its end, and
/// writes it to a new file in DEST's directory. When all of it has arrived, the new file gets the owner, mode and
/// attributes of the old one, is put on the disk, and is renamed to DEST. If anything fails before that, DEST is
/// untouched, and nothing is left behind.
#[expect(
    clippy::struct_excessive_bools,
    reason = "options are; they become enums below"
)]
#[derive(Debug, Parser)]
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

    /// Refuse to replace DEST, whatever has that name
    ///
    /// A file, a directory or a link, dangling or not, is in the way. It is looked for before any input is read, and
    /// once more in the very call that gives the new file its name, so that of two such writers one is refused.
    #[arg(
        short = 'n',
        long,
        help_heading = GUARDS
    )]
    no_clobber: bool,

    /// Let an empty standard input replace a DEST with content
    ///
    /// Without it, such input is refused: it mostly comes from a command that failed. An empty SOURCE, and an empty
    /// DEST, need no permission.
    #[arg(
        long,
        overrides_with = "no_empty",
        help_heading = GUARDS
    )]
    allow_empty: bool,

    /// Refuse empty content from any input, for a new DEST too
    #[arg(
        long,
        overrides_with = "allow_empty",
        help_heading = GUARDS
    )]
    no_empty: bool,

    /// Which attributes an old DEST hands on [default: try]
    ///
    /// Attributes are the owner, the group, the mode, the ACL, the security label and the other extended attributes.
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
    #[arg(short, long, value_name = "USER", value_parser = OsStringValueParser::new().try_map(parse_owner), value_hint = ValueHint::Username, help_heading = LOOKS)]
    owner: Option<OsString>,

    /// Set the group, by name or number
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
    /// They are made when all of the input has been read: a run that fails before that leaves none.
    #[arg(short = 'D', long, help_heading = LOOKS)]
    create_dirs: bool,

    /// What survives power loss [default: $ATOMWRITE_SYNC or full]
    #[arg(long, value_name = "WHAT", value_enum, overrides_with_all = ["fsync", "no_fsync"], help_heading = WRITING)]
    sync: Option<SyncArg>,

    /// The same as --sync=full
    #[arg(long, overrides_with_all = ["sync", "no_fsync"], help_heading = WRITING)]
    fsync: bool,

    /// The same as --sync=none
    #[arg(long, overrides_with_all = ["sync", "fsync"], help_heading = WRITING)]
    no_fsync: bool,

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
    /// What can be kept, with a warning about the rest
    Try,
    /// All of them; if one cannot be kept, fail
    All,
    /// None, as if DEST were new
    None,
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

impl From<SyncArg> for Sync {
    fn from(level: SyncArg) -> Self {
        match level {
            SyncArg::None => Self::None,
            SyncArg::File => Self::File,
            SyncArg::Full => Self::Full,
        }
    }
}

/// Why there is no request: the user asked for a text, or the words make no sense.
#[derive(Debug)]
pub(crate) enum NoRequest {
    /// `--help` or `--version`: for stdout.
    Text(String),
    /// One line for stderr.
    Usage(String),
}

/// Reads the words of the command line, the program's own name first.
pub(crate) fn parse(words: impl IntoIterator<Item = OsString>) -> Result<Request, NoRequest> {
    let words = Words::split(words);
    let args = Args::command()
        .try_get_matches_from(words.before)
        .and_then(|matches| Args::from_arg_matches(&matches))
        .map_err(|error| no_request(&error))?;
    request(args, words.after).map_err(|problem| NoRequest::Usage(with_help(&problem)))
}

/// The command line, cut at the first `--`.
struct Words {
    before: Vec<OsString>,
    after: Option<Vec<OsString>>,
}

impl Words {
    fn split(words: impl IntoIterator<Item = OsString>) -> Self {
        let mut before: Vec<OsString> = words.into_iter().collect();
        let after = before
            .iter()
            .skip(1)
            .position(|word| word == "--")
            .map(|at| {
                let after = before.split_off(at + 2);
                before.pop();
                after
            });
        Self { before, after }
    }
}

fn request(args: Args, after: Option<Vec<OsString>>) -> Result<Request, String> {
    let (source, destination) = operands(args.operands, after)?;
    let sync = match (args.sync, args.fsync, args.no_fsync) {
        (Some(level), ..) => level.into(),
        (None, true, _) => Sync::Full,
        (None, _, true) => Sync::None,
        _ => sync_of_environment()?,
    };
    Ok(Request {
        destination: PathBuf::from(destination),
        source,
        overwrite: if args.no_clobber {
            Overwrite::Never
        } else if args.force {
            Overwrite::Any
        } else {
            Overwrite::Writable
        },
        empty: match (args.allow_empty, args.no_empty) {
            (true, _) => Empty::Allow,
            (_, true) => Empty::Refuse,
            _ => Empty::Suspect,
        },
        links: if args.no_dereference {
            Links::Replace
        } else {
            Links::Follow
        },
        parents: if args.create_dirs {
            Parents::Create
        } else {
            Parents::MustExist
        },
        look: Look {
            keep: match args.keep {
                None | Some(KeepArg::Try) => Keep::Try,
                Some(KeepArg::All) => Keep::All,
                Some(KeepArg::None) => Keep::None,
            },
            mode: args.mode,
            owner: args.owner,
            group: args.group,
        },
        sync,
        verbosity: match (args.verbose, args.quiet) {
            (true, _) => Verbosity::Verbose,
            (_, true) => Verbosity::Quiet,
            _ => Verbosity::Normal,
        },
    })
}

/// Tells SOURCE from DEST. A `--` before any operand only ends the options; after two it is a mistake.
fn operands(
    before: Vec<OsString>,
    after: Option<Vec<OsString>>,
) -> Result<(Source, OsString), String> {
    let all = match (before.len(), after) {
        (_, None) => before,
        (0, Some(after)) => after,
        (1, Some(_)) => {
            return Err("nothing may follow the operand by '--'".to_owned());
        }
        (_, Some(_)) => {
            return Err(
                "'--' after two operands: put it before them, to end the options".to_owned(),
            );
        }
    };
    let (source, destination) = match <[OsString; 2]>::try_from(all) {
        Ok([source, destination]) => (source, destination),
        Err(mut other) => match (other.pop(), other.len()) {
            (Some(destination), 0) => (OsString::from("-"), destination),
            (None, _) => return Err("DEST is missing: which file shall be written?".to_owned()),
            (Some(last), _) => {
                return Err(format!(
                    "too many operands: {} is one more than SOURCE and DEST",
                    Quoted(if other.len() > 2 { &other[2] } else { &last })
                ));
            }
        },
    };
    if destination.is_empty() {
        return Err("DEST is empty: a file in this directory is './NAME'".to_owned());
    }
    if destination == "-" {
        return Err("DEST cannot be '-': a file of that name is './-'".to_owned());
    }
    let source = match source {
        source if source == "-" => Source::Stdin,
        source if source.is_empty() => {
            return Err("SOURCE is empty: standard input is '-'".to_owned());
        }
        source => Source::File(PathBuf::from(source)),
    };
    Ok((source, destination))
}

fn sync_of_environment() -> Result<Sync, String> {
    let Some(value) = std::env::var_os(SYNC_VARIABLE).filter(|value| !value.is_empty()) else {
        return Ok(Sync::Full);
    };
    value
        .to_str()
        .and_then(|value| SyncArg::from_str(value, false).ok())
        .map(Sync::from)
        .ok_or_else(|| {
            format!(
                "${SYNC_VARIABLE} is {}: it must be none, file or full",
                Quoted(&value)
            )
        })
}

fn parse_mode(text: impl AsRef<OsStr>) -> Result<ModeChange, String> {
    ModeChange::parse(text.as_ref())
        .ok_or_else(|| "as for chmod: octal like 640, or symbolic like u=rw,go=r".to_owned())
}

fn parse_owner(name: OsString) -> Result<OsString, &'static str> {
    if name.is_empty() {
        Err("a name or a number")
    } else {
        Ok(name)
    }
}

/// Says in one line what clap says in several.
fn no_request(error: &clap::Error) -> NoRequest {
    if matches!(
        error.kind(),
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion
    ) {
        return NoRequest::Text(error.render().to_string());
    }
    let rendered = error.render().to_string();
    let mut line = rendered
        .lines()
        .next()
        .unwrap_or_default()
        .trim_start_matches("error: ")
        .to_owned();
    if let Some(values) = strings(error.get(ContextKind::ValidValue)) {
        line.extend([" (one of ", &values, ")"]);
    }
    for suggestion in [ContextKind::SuggestedArg, ContextKind::SuggestedValue] {
        if let Some(similar) = strings(error.get(suggestion)) {
            line.extend(["; did you mean '", &similar, "'?"]);
        }
    }
    NoRequest::Usage(with_help(&Escaped(&line).to_string()))
}

fn strings(value: Option<&ContextValue>) -> Option<String> {
    match value? {
        ContextValue::String(text) => Some(text.clone()),
        ContextValue::Strings(texts) if !texts.is_empty() => Some(texts.join(", ")),
        _ => None,
    }
}

fn with_help(problem: &str) -> String {
    format!("{problem} (see 'atomwrite --help')")
}

/// The table, for what is made from it.
#[cfg(test)]
pub(crate) fn command() -> clap::Command {
    Args::command()
}
