//! The story of many files: the same as of one, over a list, with one flush of the disk for all.
//!
//! The rule: everything is staged, judged and on the disk before the first name changes, and what fails until then
//! leaves all of them as they were. The new files wait in a directory that nobody else can look into, beside those that
//! they replace; no descriptor is held for them, so there can be any number. From the first rename on, signals wait, and
//! a failure tells which files are new and which are old.

mod list;
mod shelf;

use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use anyhow::Result;

use self::list::Listed;
use self::shelf::Shelf;
use crate::backup::{Backup, Spare, forget_numbers};
use crate::checks;
use crate::destination::{Destination, Place};
use crate::inplace::Way;
use crate::message::{Messages, Progress};
use crate::outcome::{Failure, Outcome};
use crate::parents::Parents;
use crate::prepare::{Ready, SecondLook, Terms, prepare};
use crate::request::{Request, ShowProgress, Source, Sources, Sync};
use crate::signals;
use crate::staged::{Flush, Shelved, Staged};
use crate::sys::{self, Kind};

/// Writes files into a directory.
pub(crate) fn write_all(
    directory: &Path,
    sources: &Sources,
    request: &Request,
    messages: Messages,
) -> Result<Vec<Outcome>, Failure> {
    let files = list::read(sources)?;
    let place = Destination::resolve_directory(directory, request.parents)?;
    replace(directory, &place, &files, request, messages).map_err(|failure| {
        if place.is_there() {
            failure.leaving(directory.as_os_str())
        } else {
            failure
        }
    })
}

fn replace(
    directory: &Path,
    place: &Rc<Place>,
    files: &[Listed],
    request: &Request,
    messages: Messages,
) -> Result<Vec<Outcome>, Failure> {
    let destinations = resolve(directory, place, files, request)?;
    let shelves = Shelf::beside(&destinations, request.sync)?;
    let steps = stage(files, &destinations, &shelves, request, messages)?;
    for step in &steps {
        if let Step::Rename(file) = step {
            file.still_as_judged()?;
        }
    }
    shelf::flush(&shelves)?;
    let Committed {
        outcomes,
        warnings,
        parents,
    } = commit(steps, &shelves, request)?;
    let durable = shelf::end(shelves, &parents, request.sync, directory);
    if !warnings.is_empty() {
        signals::release_if_nobody_listens();
    }
    for warning in warnings {
        messages.warn(warning);
    }
    durable.map(|()| outcomes)
}

/// Finds what every name leads to; no two may lead to the same.
fn resolve(
    directory: &Path,
    place: &Rc<Place>,
    files: &[Listed],
    request: &Request,
) -> Result<Vec<Destination>> {
    let mut destinations: Vec<Destination> = Vec::with_capacity(files.len());
    let mut places = vec![Rc::clone(place)];
    for file in files {
        let typed = directory.join(&file.name);
        let links = request.links();
        let mut destination =
            Destination::resolve_in(place, &file.name, &typed, links, request.parents)?;
        // A link may lead to another directory, or to another name in this one.
        if !Rc::ptr_eq(destination.place(), place)
            && !places.iter().any(|known| destination.share(known))
        {
            places.push(Rc::clone(destination.place()));
        }
        destinations.push(destination);
    }
    shelf::find_same(&destinations, request.backups.as_ref())?;
    Ok(destinations)
}

/// What there is to be done about one of the files.
#[derive(Debug)]
enum Step<'d> {
    /// It has the content already.
    None(Outcome),
    Rename(Shelved<'d>),
}

/// All files are new.
#[derive(Debug)]
struct Committed<'d> {
    outcomes: Vec<Outcome>,
    /// What could not be done as the user might expect.
    warnings: Vec<String>,
    /// For each shelf, the directories in which a name is new.
    parents: Vec<Parents<'d>>,
}

/// Fills all new files, and has them judged.
fn stage<'d>(
    files: &[Listed],
    destinations: &'d [Destination],
    shelves: &'d [Shelf<'d>],
    request: &Request,
    messages: Messages,
) -> Result<Vec<Step<'d>>, Failure> {
    let mut terms = Terms::of(request, messages)?;
    terms.second_look = SecondLook::InCommit;
    let progress = show(files, request);
    let mut bytes = 0;
    let mut steps = Vec::with_capacity(files.len());
    for (file, destination) in files.iter().zip(destinations) {
        let shelf = &shelves[Shelf::position(shelves, destination)];
        terms.sync_of_equal = match shelf.flush {
            Flush::Each => Sync::File,
            Flush::Never | Flush::Once => Sync::None,
        };
        let stage = |attributes: &_| {
            let draft = Staged::among_others(destination, attributes, &shelf.waiting)?;
            Ok((Way::Rename, draft))
        };
        let progress = progress
            .as_ref()
            .map(|progress| progress.behind(steps.len(), bytes));
        let source = Source::File(file.source.clone());
        if progress.is_some() {
            bytes += size(file).unwrap_or(0);
        }
        let step = match prepare(destination, &source, &terms, stage, progress)? {
            Ready::Unchanged(outcome) => Step::None(outcome),
            Ready::New(_, _, sealed) => Step::Rename(sealed.shelve(shelf.flush)?),
        };
        steps.push(step);
    }
    Ok(steps)
}

/// Shows how many files and bytes have come, of how many.
fn show(files: &[Listed], request: &Request) -> Option<Progress> {
    let progress = match request.progress {
        ShowProgress::No => None,
        ShowProgress::Yes => Progress::on_terminal(),
    }?;
    Some(progress.of_many(files.len(), files.iter().map(size).sum()))
}

/// Bytes; `None` for what does not tell.
fn size(file: &Listed) -> Option<u64> {
    let seen = sys::metadata_through_links(sys::CWD, &file.source).ok()?;
    (seen.kind == Kind::Regular).then_some(seen.size)
}

/// Renames all files. An error before the first rename leaves all as they were; a later one says what is new.
fn commit<'d>(
    steps: Vec<Step<'_>>,
    shelves: &[Shelf<'d>],
    request: &Request,
) -> Result<Committed<'d>, Failure> {
    signals::hold()?;
    // One that came while a program ran for us wins over the commit.
    if let Some(signal) = signals::caught() {
        return Err(Failure::Interrupted(signal));
    }
    for step in &steps {
        if let Step::Rename(file) = step {
            checks::still_looks_so(file.destination(), request.overwrite)?;
            forget_numbers(file.destination());
        }
    }
    let mut parents_of_all = Vec::with_capacity(shelves.len());
    for shelf in shelves {
        parents_of_all.push(shelf.make_parents()?);
    }
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
        let of_file = file.warnings().to_vec();
        let parents = &mut parents_of_all[Shelf::position(shelves, destination)];
        match rename(file, parents.innermost().fd.as_fd(), request) {
            Ok(outcome) => {
                parents.keep();
                outcomes.push(outcome);
                warnings.extend(of_file);
            }
            Err(failure) => {
                if let Failure::Changed(_) = &failure {
                    warnings.extend(of_file);
                }
                // What was made last goes first.
                parents_of_all.into_iter().rev().for_each(drop);
                return Err(partly(failure, outcomes, warnings, destination, steps));
            }
        }
    }
    Ok(Committed {
        outcomes,
        warnings,
        parents: parents_of_all,
    })
}

/// Renames one file, and gives the old one its backup's name.
fn rename(
    file: Shelved<'_>,
    directory: BorrowedFd<'_>,
    request: &Request,
) -> Result<Outcome, Failure> {
    let mut backup = Backup::plan(file.destination(), request.backups.as_ref(), || None)?;
    if let Some(backup) = &mut backup {
        backup.keep(Spare::TheFile)?;
    }
    let outcome = file.commit(directory, request.overwrite, |name| match &mut backup {
        Some(backup) => backup.exchange(name),
        None => Ok(Some(name)),
    })?;
    if let Some(backup) = backup {
        backup.confirm();
    }
    Ok(outcome)
}

/// A failure, with what it means for all of the files.
fn partly<'d>(
    failure: Failure,
    before: Vec<Outcome>,
    warnings: Vec<String>,
    failed: &Destination,
    behind: impl Iterator<Item = Step<'d>>,
) -> Failure {
    let is_new = matches!(failure, Failure::Changed(_));
    if !is_new && before.iter().all(Outcome::is_unchanged) {
        return failure;
    }
    let mut new: Vec<PathBuf> = before.into_iter().map(|done| done.destination).collect();
    let mut old = Vec::new();
    let of_failed = if is_new { &mut new } else { &mut old };
    of_failed.push(failed.path().to_owned());
    for step in behind {
        match step {
            Step::None(outcome) => new.push(outcome.destination),
            Step::Rename(file) => old.push(file.destination().path().to_owned()),
        }
    }
    Failure::Partly {
        error: failure.into_error(),
        new,
        old,
        warnings,
    }
}
