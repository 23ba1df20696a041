//! From the words of the command line to a request.

use std::ffi::OsString;
use std::mem;
use std::path::PathBuf;

use clap::{CommandFactory, FromArgMatches};

use super::usage_error::{early_exit, no_destination, with_help};
use super::values::{Owner, backups, parse_control, sync_of_environment};
use super::{Args, EarlyExit, USAGE, fast_path};
use crate::message::{Quoted, Verbosity};
use crate::request::{
    AttributeOptions, Command, CreateDirs, EmptyInput, Files, Group, Guards, IfUnchanged, InPlace,
    Links, Locking, Overwrite, Request, Separator, Source, Sources, Start, Sync, is_stdin,
};

/// Parses the words of the command line, the program's own name first.
pub(crate) fn parse(words: impl IntoIterator<Item = OsString>) -> Result<Request, EarlyExit> {
    let Words { before, after } = Words::split(words);
    let args = match fast_path::read(before.get(1..).unwrap_or_default()) {
        Some(args) => args,
        None => slow(&before).map_err(|error| early_exit(&error, &before))?,
    };
    let is_bare = before.len() <= 1 && after.is_none();
    request(args, &before, after).map_err(|problem| {
        let problem = with_help(&problem);
        EarlyExit::Usage(if is_bare {
            format!("{problem}\nUsage: {USAGE}")
        } else {
            problem
        })
    })
}

/// Parses the words with clap.
fn slow(words: &[OsString]) -> Result<Args, clap::Error> {
    let mut table = Args::command();
    let mut matches = table.try_get_matches_from_mut(words)?;
    Args::from_arg_matches_mut(&mut matches)
}

/// The command line, split at the first `--`.
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

fn request(
    mut args: Args,
    words: &[OsString],
    after: Option<Vec<OsString>>,
) -> Result<Request, String> {
    let files = match args.target_directory.take() {
        Some(directory) => many(directory, &mut args, after)?,
        None if args.files0_from.is_some() => return Err(needs_directory("--files0-from")),
        None if args.files_from.is_some() => return Err(needs_directory("--files-from")),
        None if args.validate_all.is_some() => return Err(needs_directory("--validate-all")),
        None => match args.command.take() {
            Some(pipeline) => of_pipeline(pipeline, mem::take(&mut args.operands), after, words)?,
            None => one(mem::take(&mut args.operands), after, words)?,
        },
    };
    if args.preserve_timestamps {
        check_times(&files, args.append)?;
    }
    let Owner { user, group } = args.owner.unwrap_or_default();
    let group = match (group, args.group) {
        (Some(_), Some(_)) => {
            return Err("the group is given twice, by --owner and by --group".to_owned());
        }
        (group, name) => group.or(name.map(Group::Named)),
    };
    let sync = match (args.sync, args.fsync, args.no_fsync) {
        (Some(level), ..) => level,
        (None, true, _) => Sync::Full,
        (None, _, true) => Sync::None,
        _ => sync_of_environment()?,
    };
    Ok(Request {
        files,
        start: if args.append {
            Start::Old
        } else {
            Start::Empty
        },
        locking: match args.lock {
            Some(timeout) => Locking::Exclusive(timeout),
            None if args.append => Locking::Exclusive(None),
            None => Locking::None,
        },
        overwrite: match (args.no_clobber, args.force) {
            (true, _) => Overwrite::Never,
            (_, true) => Overwrite::Any,
            _ => Overwrite::Writable,
        },
        guards: Guards {
            empty: match (args.allow_empty, args.no_empty) {
                (true, _) => EmptyInput::Allow,
                (_, true) => EmptyInput::Refuse,
                _ if args.append => EmptyInput::Allow,
                _ => EmptyInput::RejectStdin,
            },
            min_size: args.min_size,
            sum: args.sha256,
            validator: args.validate,
            directory_validator: args.validate_all,
        },
        if_unchanged: match (args.compare, args.unchanged_status) {
            (_, Some(status)) => IfUnchanged::Skip(status),
            (true, None) => IfUnchanged::Skip(0),
            (false, None) => IfUnchanged::Replace,
        },
        links: if args.no_dereference {
            Links::Replace
        } else {
            Links::Follow
        },
        create_dirs: if args.create_dirs {
            CreateDirs::Yes
        } else {
            CreateDirs::No
        },
        attributes: AttributeOptions {
            keep: args.keep.unwrap_or_default(),
            mode: args.mode,
            owner: user,
            group,
            preserve_times: args.preserve_timestamps,
        },
        backups: backups(args.backup, args.suffix)?,
        in_place: args.inplace.unwrap_or_default(),
        sync,
        progress: args.progress,
        verbosity: match (args.verbose, args.quiet) {
            (true, _) => Verbosity::Verbose,
            (_, true) => Verbosity::Quiet,
            _ => Verbosity::Normal,
        },
    })
}

fn needs_directory(option: &str) -> String {
    format!("{option} needs --target-directory")
}

/// Refuses `--preserve-timestamps` for an input that has no times, as far as the words show.
fn check_times(files: &Files, appends: bool) -> Result<(), String> {
    let reason = match files {
        _ if appends => "with --append, only a part of DEST is SOURCE's",
        Files::One {
            source: Source::Command(_),
            ..
        } => "the output of a command has no times to preserve",
        Files::One {
            source: Source::File(path),
            ..
        } if !is_stdin(path) => return Ok(()),
        Files::One { .. } => {
            "standard input has no times to preserve; use -D to create missing directories"
        }
        Files::Into { .. } => return Ok(()),
    };
    Err(format!(
        "--preserve-timestamps gives SOURCE's times to DEST: {reason}"
    ))
}

/// Takes all operands as SOURCEs.
fn many(
    directory: OsString,
    args: &mut Args,
    after: Option<Vec<OsString>>,
) -> Result<Files, String> {
    let wrong = [
        (args.command.is_some(), "--command"),
        (args.append, "--append"),
        (args.lock.is_some(), "--lock"),
        (args.sha256.is_some(), "--sha256"),
        (
            matches!(args.inplace, Some(InPlace::Auto | InPlace::Always)),
            "--inplace",
        ),
    ];
    if let Some((_, option)) = wrong.iter().find(|(given, _)| *given) {
        return Err(format!("{option} does not go with --target-directory"));
    }
    if directory.is_empty() {
        return Err("DIR is empty: this directory is '.'".to_owned());
    }
    let mut operands = mem::take(&mut args.operands);
    let named = if operands.is_empty() && after.is_some() {
        Sources::BehindDashes
    } else {
        Sources::Named
    };
    operands.extend(after.unwrap_or_default());
    let listed = |list: OsString, separator| Sources::Listed {
        list: (list != "-").then(|| PathBuf::from(list)),
        separator,
    };
    let sources = match (
        args.files_from.take(),
        args.files0_from.take(),
        operands.first(),
    ) {
        (Some(_), Some(_), _) => {
            return Err("--files-from does not go with --files0-from".to_owned());
        }
        (None, None, None) => {
            return Err(format!(
                "SOURCE is missing: -t writes files into {} under their own names, and standard input has none",
                Quoted(&directory)
            ));
        }
        (None, None, Some(_)) => named(operands),
        (Some(list), None, None) => listed(list, Separator::Newline),
        (None, Some(list), None) => listed(list, Separator::Nul),
        (lines, _, Some(extra)) => {
            let option = if lines.is_some() {
                "--files-from"
            } else {
                "--files0-from"
            };
            return Err(format!(
                "operand {} does not go with {option}",
                Quoted(extra)
            ));
        }
    };
    Ok(Files::Into {
        directory: PathBuf::from(directory),
        sources,
    })
}

/// Finds SOURCE, DEST and COMMAND. A `--` before any operand only ends the options. After one
/// operand it starts COMMAND, and after two it is an error. `words` are all words before the first
/// `--`.
fn one(
    before: Vec<OsString>,
    after: Option<Vec<OsString>>,
    words: &[OsString],
) -> Result<Files, String> {
    let (source, destination) = match (before.len(), after) {
        (_, None) => source_and_destination(before, words)?,
        // The options had ended already: `-- -DEST -- COMMAND`.
        (0, Some(mut after)) if after.get(1).is_some_and(|word| word == "--") => {
            let words = after.split_off(2);
            (command(words)?, after.swap_remove(0))
        }
        (0, Some(after)) => source_and_destination(after, words)?,
        (1, Some(words)) => {
            let [destination] = <[OsString; 1]>::try_from(before).expect("one operand");
            (command(words)?, destination)
        }
        (_, Some(_)) => {
            return Err(
                "'--' after SOURCE and DEST: put it before them to end the options, or leave SOURCE out to run a COMMAND"
                    .to_owned(),
            );
        }
    };
    checked(source, destination)
}

/// Returns the files for a shell pipeline, whose only operand is DEST.
fn of_pipeline(
    pipeline: OsString,
    before: Vec<OsString>,
    after: Option<Vec<OsString>>,
    words: &[OsString],
) -> Result<Files, String> {
    let operands = match after {
        None => before,
        Some(after) if before.is_empty() => after,
        Some(_) => return Err("--command does not go with a COMMAND after '--'".to_owned()),
    };
    match <[OsString; 1]>::try_from(operands) {
        Ok([destination]) => checked(Source::Command(Command::Pipeline(pipeline)), destination),
        Err(operands) => match operands.get(1) {
            None => Err(no_destination(words)),
            Some(extra) => Err(format!(
                "--command is the input, and DEST the only operand: {} is one more",
                Quoted(extra)
            )),
        },
    }
}

/// Refuses a destination that cannot be DEST.
fn checked(source: Source, destination: OsString) -> Result<Files, String> {
    if destination.is_empty() {
        return Err("DEST is empty: a file in this directory is './NAME'".to_owned());
    }
    if destination == "-" {
        return Err("DEST cannot be '-'; use './-' for a file of that name".to_owned());
    }
    Ok(Files::One {
        source,
        destination: PathBuf::from(destination),
    })
}

fn command(words: Vec<OsString>) -> Result<Source, String> {
    if words.is_empty() {
        return Err("COMMAND is missing after '--'".to_owned());
    }
    Ok(Source::Command(Command::Program(words)))
}

/// Returns true if an operand was meant as the value of --backup: `--backup numbered SOURCE DEST`.
fn follows_backup(operand: &OsString, words: &[OsString]) -> bool {
    let pair = words.windows(2).find(|pair| pair[1] == *operand);
    pair.is_some_and(|pair| pair[0] == "--backup") && parse_control(operand).is_ok()
}

fn source_and_destination(
    operands: Vec<OsString>,
    words: &[OsString],
) -> Result<(Source, OsString), String> {
    let mut operands = operands.into_iter();
    match (operands.next(), operands.next(), operands.next()) {
        (None, ..) => Err(no_destination(words)),
        (Some(destination), None, _) => Ok((Source::Stdin, destination)),
        (Some(source), Some(destination), None) => match source {
            source if source.is_empty() => {
                Err("SOURCE is empty; use '-' for standard input".to_owned())
            }
            source if source == "-" => Ok((Source::Stdin, destination)),
            source => Ok((Source::File(PathBuf::from(source)), destination)),
        },
        (Some(first), Some(_), Some(_)) if follows_backup(&first, words) => Err(format!(
            "--backup takes its value after an equals sign: --backup={}",
            first.to_string_lossy()
        )),
        (_, _, Some(third)) => Err(format!(
            "too many operands: {} is one more than SOURCE and DEST; use -t DIR to write many files, \
             or put '--' before a COMMAND",
            Quoted(&third)
        )),
    }
}
