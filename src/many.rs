//! The pipeline over many files, with one sync for all.
//!
//! Invariant: all files are staged, checked and synced before the first name changes. A failure
//! before that leaves every file unchanged. Closed files wait in a staging directory beside the
//! files that they replace, so their number is not limited by open descriptors. Signals are blocked
//! from the first rename on, and a failure lists which files are new and which are old.

mod list;
mod staging;

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use anyhow::{Result, anyhow};

use self::list::SourceEntry;
use self::staging::Staging;
use crate::attributes::OwnerGroup;
use crate::backup::{self, Numbers};
use crate::destination::{Destination, ParentDir};
use crate::message::{Messages, Progress};
use crate::outcome::{Failure, Outcome};
use crate::parents::Parents;
use crate::request::{Request, Source, Sources, Sync};
use crate::run_context::RunContext;
use crate::signals;
use crate::staged::{Flush, Pending, Staged};
use crate::sys::{self, Identity, Kind};
use crate::validate::{DirectoryValidator, Validator};
use crate::write::{File, Prepared, prepare};

/// Writes files into a directory.
pub(crate) fn write_all(
    directory: &Path,
    sources: &Sources,
    request: &Request,
    messages: Messages,
) -> Result<Vec<Outcome>, Failure> {
    let files = list::read(sources, request.guards.empty)?;
    let context = RunContext {
        request,
        messages,
        owners: OwnerGroup::look_up(&request.attributes)?,
        numbers: &Numbers::default(),
        sync_unchanged: Sync::None,
    };
    let parent = Destination::resolve_directory(directory, request.create_dirs)?;
    replace(directory, &parent, &files, &context).map_err(|failure| {
        // After a failed rename, the failure says what its file is.
        if parent.exists() && !signals::are_held() {
            failure.leaving(directory.as_os_str())
        } else {
            failure
        }
    })
}

fn replace(
    directory: &Path,
    parent: &Rc<ParentDir>,
    files: &[SourceEntry],
    context: &RunContext<'_>,
) -> Result<Vec<Outcome>, Failure> {
    let RunContext {
        request, messages, ..
    } = *context;
    let destinations = resolve(directory, parent, files, request)?;
    let staging = Staging::beside(&destinations, request)?;
    staging::refuse_clashes(&destinations, &staging, request.backups.as_ref())?;
    refuse_sources(files, &destinations, context)?;
    let validator = request.guards.directory_validator.as_deref();
    let validator = validator
        .map(|program| {
            let place = Staging::preview_place(&staging, parent);
            DirectoryValidator::new(program, directory, parent, place)
        })
        .transpose()?;
    let steps = stage(files, &destinations, &staging, validator.as_ref(), context)?;
    staging::refuse_backup_clashes(&destinations, &staging, request.backups.as_ref())?;
    if let Some(validator) = validator {
        validator.check()?;
    }
    let staged = || {
        destinations.iter().zip(steps.iter().map(|step| match step {
            Step::Rename(file) => Some(file),
            Step::None(_) => None,
        }))
    };
    staging::flush(&staging, staged)?;
    let numbers = &Numbers::default();
    let context = RunContext {
        numbers,
        ..*context
    };
    let AllCommitted {
        outcomes,
        warnings,
        parents,
    } = commit(steps, &staging, &context)?;
    let durable = staging::end(staging, &parents, request.sync, directory);
    for warning in warnings {
        messages.warn(warning);
    }
    durable.map(|()| outcomes)
}

/// Finds what each name leads to.
fn resolve(
    directory: &Path,
    parent: &Rc<ParentDir>,
    files: &[SourceEntry],
    request: &Request,
) -> Result<Vec<Destination>> {
    let mut destinations: Vec<Destination> = Vec::with_capacity(files.len());
    let mut parents = vec![Rc::clone(parent)];
    for file in files {
        let typed = directory.join(&file.name);
        let links = request.links();
        let mut destination =
            Destination::resolve_in(parent, &file.name, &typed, links, request.create_dirs)?;
        // A link may lead to another directory, or to another name in this one.
        if !Rc::ptr_eq(destination.parent(), parent)
            && !parents.iter().any(|known| destination.share(known))
        {
            parents.push(Rc::clone(destination.parent()));
        }
        destinations.push(destination);
    }
    Ok(destinations)
}

/// Refuses a SOURCE that has the name of a backup, even if another file has that backup.
fn refuse_sources(
    files: &[SourceEntry],
    destinations: &[Destination],
    context: &RunContext<'_>,
) -> Result<()> {
    let backups = context.backups();
    if backups.is_none() {
        return Ok(());
    }
    let source = |file: &SourceEntry| sys::metadata_through_links(sys::CWD, &file.source);
    let sources = files.iter().filter_map(|file| source(file).ok());
    let sources: HashSet<Identity> = sources.map(|source| source.identity).collect();
    for destination in destinations {
        let (before, numbers) = (destination.snapshot()?, context.numbers);
        let is_source = |file| sources.contains(&file);
        backup::check_source(destination, before, backups, numbers, is_source)?;
    }
    Ok(())
}

/// What to do for one of the files.
#[expect(clippy::large_enum_variant, reason = "it is taken apart at once")]
#[derive(Debug)]
enum Step<'d> {
    /// Nothing: DEST has the content already.
    None(Outcome),
    Rename(Pending<'d>),
}

/// The state after all renames.
#[derive(Debug)]
struct AllCommitted {
    outcomes: Vec<Outcome>,
    /// The attributes that could not be preserved, as warnings.
    warnings: Vec<String>,
    /// The directories in which a name is new, for each staging directory.
    parents: Vec<Parents>,
}

/// Fills all new files, checks each of them, and adds them to the preview for `--validate-all`.
fn stage<'d>(
    files: &[SourceEntry],
    destinations: &'d [Destination],
    all: &'d [Staging<'d>],
    directory_validator: Option<&DirectoryValidator<'_>>,
    context: &RunContext<'_>,
) -> Result<Vec<Step<'d>>, Failure> {
    let request = context.request;
    let progress = show(files, request);
    let mut validator = request.guards.validator.as_deref().map(Validator::new);
    let mut bytes = 0;
    let mut steps = Vec::with_capacity(files.len());
    for (file, destination) in files.iter().zip(destinations) {
        signals::check()?;
        let staging = &all[Staging::index(all, destination)];
        let before = destination.snapshot()?;
        let context = RunContext {
            sync_unchanged: match staging.flush {
                Flush::Each => Sync::File,
                // It can be on another filesystem than the directory.
                Flush::Once if before.is_some_and(|seen| seen.mount_root) => Sync::File,
                Flush::Never | Flush::Once => Sync::None,
            },
            ..*context
        };
        let create = |attributes: &_| match &staging.directory {
            Ok(directory) => Staged::create_in(destination, before, attributes, directory)
                .map_err(|error| staging::explain(error, destination, directory)),
            Err(reason) => Err(anyhow!("{reason}")),
        };
        let progress = progress
            .as_ref()
            .map(|progress| progress.behind(steps.len(), bytes));
        if progress.is_some() {
            bytes += size(file).unwrap_or(0);
        }
        let (name, source) = (&file.name, Source::File(file.source.clone()));
        let file = File {
            destination,
            before,
            source: &source,
            progress,
        };
        let prepared = prepare(file, &context, create, validator.as_mut())?;
        steps.push(match prepared {
            Prepared::Unchanged(outcome) => Step::None(outcome),
            Prepared::New(sealed) => {
                if let Some(validator) = directory_validator {
                    sealed.preview(validator, name)?;
                }
                Step::Rename(sealed.close_staged(staging.flush)?)
            }
        });
    }
    Ok(steps)
}

/// Shows the number of files and bytes, and their totals.
fn show(files: &[SourceEntry], request: &Request) -> Option<Progress> {
    let progress = Progress::on_terminal(request.progress)?;
    Some(progress.of_many(files.len(), files.iter().map(size).sum()))
}

/// Returns the size in bytes. `None` unless the file is a regular one.
fn size(file: &SourceEntry) -> Option<u64> {
    let seen = sys::metadata_through_links(sys::CWD, &file.source).ok()?;
    (seen.kind == Kind::Regular).then_some(seen.size)
}

/// Renames all files. An error before the first rename leaves all of them unchanged. A later one
/// lists the new files.
fn commit(
    mut steps: Vec<Step<'_>>,
    all: &[Staging<'_>],
    context: &RunContext<'_>,
) -> Result<AllCommitted, Failure> {
    signals::guard()?;
    let mut made = MadeParents(Vec::with_capacity(all.len()));
    for staging in all {
        made.0.push(staging.make_parents()?);
    }
    for step in &mut steps {
        if let Step::Rename(file) = step {
            signals::check()?;
            let parents = &made.0[Staging::index(all, file.destination())];
            let destination = within(file.destination(), parents);
            file.reseal(&destination, context)?;
        }
    }
    signals::check()?;
    signals::hold();
    let mut outcomes = Vec::with_capacity(steps.len());
    let mut warnings = Vec::new();
    let mut steps = steps.into_iter();
    while let Some(step) = steps.next() {
        let file = match step {
            Step::None(outcome) => {
                outcomes.push(outcome);
                continue;
            }
            Step::Rename(file) => file,
        };
        let destination = file.destination();
        let warnings_of_file = file.warnings().to_vec();
        let parents = &mut made.0[Staging::index(all, destination)];
        let (own, before) = (within(destination, parents), file.seen());
        match file.commit(&own, context) {
            Ok(mut outcome) => {
                outcome.directories = parents.disarm();
                outcomes.push(outcome);
                warnings.extend(warnings_of_file);
            }
            Err(failure) => {
                let is_certain = !matches!(failure, Failure::Uncertain(_));
                return if is_certain && outcomes.iter().all(Outcome::is_unchanged) {
                    Err(own.left_by(failure, before))
                } else {
                    Err(partial(failure, outcomes, warnings, destination, steps))
                };
            }
        }
    }
    Ok(AllCommitted {
        outcomes,
        warnings,
        parents: std::mem::take(&mut made.0),
    })
}

/// The directories that were made for all files. Those that were made last are removed first.
struct MadeParents(Vec<Parents>);

impl Drop for MadeParents {
    fn drop(&mut self) {
        while let Some(parents) = self.0.pop() {
            drop(parents);
        }
    }
}

/// Returns the file in its own directory.
fn within(destination: &Destination, parents: &Parents) -> Destination {
    destination.moved_to(parents.destination())
}

/// Adds to a failure what it means for each of the files.
fn partial<'d>(
    failure: Failure,
    before: Vec<Outcome>,
    warnings: Vec<String>,
    failed: &Destination,
    behind: impl Iterator<Item = Step<'d>>,
) -> Failure {
    let mut new: Vec<PathBuf> = before.into_iter().map(|done| done.destination).collect();
    let mut old = Vec::new();
    if !matches!(failure, Failure::Uncertain(_)) {
        old.push(failed.path().to_owned());
    }
    for step in behind {
        match step {
            Step::None(outcome) => new.push(outcome.destination),
            Step::Rename(file) => old.push(file.destination().path().to_owned()),
        }
    }
    Failure::PartialCommit {
        error: failure.into_error(),
        new,
        old,
        warnings,
    }
}
