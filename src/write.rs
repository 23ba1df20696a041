//! The story of one write. Every step but the last but one leaves DEST as it is.

use std::mem;
use std::path::Path;

use crate::backup::{Backup, Spare, forget_numbers};
use crate::destination::Destination;
use crate::inplace::{self, Way};
use crate::lock::Lock;
use crate::message::{Messages, Progress};
use crate::outcome::{Failure, Outcome};
use crate::prepare::{Ready, Terms, prepare};
use crate::request::{Request, ShowProgress, Source};
use crate::signals;

/// Writes DEST.
pub(crate) fn write(
    source: &Source,
    typed: &Path,
    request: &Request,
    messages: Messages,
) -> Result<Outcome, Failure> {
    let resolve = || Destination::resolve(typed, request.links(), request.parents);
    let (lock, destination) = Lock::take(request.locking, resolve)
        .map_err(|error| Destination::unresolved(typed, error))?;
    let done = replace(&destination, lock.as_ref(), source, request, messages)
        .map_err(|failure| destination.unchanged(failure));
    // The directory is closed when the process ends, without a call for it.
    mem::forget(destination);
    done
}

fn replace(
    destination: &Destination,
    lock: Option<&Lock>,
    source: &Source,
    request: &Request,
    messages: Messages,
) -> Result<Outcome, Failure> {
    let progress = match request.progress {
        ShowProgress::No => None,
        ShowProgress::Yes => Progress::on_terminal(),
    };
    let stage = |attributes: &_| inplace::stage(destination, attributes, request.in_place);
    let ready = prepare(
        destination,
        source,
        &Terms::of(request, messages)?,
        stage,
        progress,
    )?;
    let (attributes, way, sealed) = match ready {
        Ready::Unchanged(outcome) => return Ok(outcome),
        Ready::New(attributes, way, sealed) => (attributes, way, sealed),
    };
    forget_numbers(destination);
    let held = || lock.and_then(Lock::share);
    let mut backup = Backup::plan(destination, request.backups.as_ref(), held)?;
    match way {
        Way::Overwrite(file) => {
            if let Some(backup) = &mut backup {
                backup.keep(Spare::ACopy(request.sync))?;
            }
            let done = inplace::overwrite(
                &sealed,
                file,
                destination,
                &attributes,
                request.sync,
                messages,
            );
            if let (Some(backup), Ok(_) | Err(Failure::Changed(_))) = (backup, &done) {
                backup.confirm();
            }
            done
        }
        Way::Rename => {
            let synced = sealed.sync(request.sync)?;
            if let Some(backup) = &mut backup {
                backup.keep(Spare::TheFile)?;
            }
            let committed = synced.commit(request.overwrite, |name| match &mut backup {
                Some(backup) => backup.exchange(name),
                None => Ok(Some(name)),
            })?;
            if let Some(backup) = backup {
                backup.confirm();
            }
            let warnings = committed.warnings().to_vec();
            let done = committed.make_durable();
            if !warnings.is_empty() {
                signals::release_if_nobody_listens();
            }
            for warning in warnings {
                messages.warn(warning);
            }
            done
        }
    }
}
