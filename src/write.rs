//! The story of one write. Every step but the last but one leaves DEST as it is.

use std::mem;

use crate::attributes::Attributes;
use crate::backup::{Backup, Spare};
use crate::checks;
use crate::destination::{Destination, Opened};
use crate::inplace::{self, Way};
use crate::lock::Lock;
use crate::message::{Messages, Progress};
use crate::outcome::{Failure, Outcome};
use crate::request::{Equal, Links, Overwrite, Request, ShowProgress, Sync};
use crate::source::Input;
use crate::transfer::Writeback;
use crate::validate::validate;
use crate::watch::Watch;

/// Writes DEST.
pub(crate) fn write(request: &Request, messages: Messages) -> Result<Outcome, Failure> {
    // Whatever has DEST's name is in the way of --no-clobber, a link too, wherever it points.
    let links = match request.overwrite {
        Overwrite::Never => Links::Replace,
        Overwrite::Writable | Overwrite::Any => request.links,
    };
    let resolve = || Destination::resolve(&request.destination, links, request.parents);
    let (_lock, destination) = Lock::take(request.locking, resolve)
        .map_err(|error| Destination::unresolved(&request.destination, error))?;
    let done =
        replace(&destination, request, messages).map_err(|failure| destination.unchanged(failure));
    // The directory is closed when the process ends, without a call for it.
    mem::forget(destination);
    done
}

fn replace(
    destination: &Destination,
    request: &Request,
    messages: Messages,
) -> Result<Outcome, Failure> {
    let admit = |in_place| checks::admit_destination(destination, request.overwrite, in_place);
    let plan_backup = || Backup::plan(destination, request.backups.as_ref(), request.locking);
    admit(request.in_place)?;
    drop(plan_backup()?);
    let old = if request.reads_old_content() {
        destination.open()?
    } else {
        None
    };
    let input = Input::open(&request.source, request.start, destination, old.as_ref())?;
    let mut attributes = Attributes::plan(&request.look, &input)?;
    let (way, draft) = inplace::stage(destination, &attributes, request.in_place)?;
    if input.is_typed() {
        messages.notice("reading from the terminal; end with Ctrl-D, give up with Ctrl-C");
    }
    let watch = watch(request, &input, old.as_ref());
    let filled = draft.fill(&input, watch, writeback(request))?;
    // Hours may have passed.
    let before = destination.existing();
    attributes.take_over(destination)?;
    if destination.existing() != before {
        admit(way.policy(request.in_place))?;
        checks::still_begins_with(destination, request.start, old.as_ref())?;
    }
    checks::admit_content(destination, &input, filled.content(), &request.guards)?;
    let sealed = match &request.guards.validator {
        None => filled.seal(&attributes)?,
        Some(program) => {
            let sealed = filled.show()?.seal(&attributes)?;
            validate(&sealed, destination, program)?;
            checks::still_looks_so(destination, request.overwrite)?;
            sealed
        }
    };
    if checks::is_equal(destination, old.as_ref(), sealed.content(), &attributes)? {
        return checks::leave_equal(destination, old.as_ref(), sealed.content(), request.sync);
    }
    let mut backup = plan_backup()?;
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
            for warning in warnings {
                messages.warn(warning);
            }
            done
        }
    }
}

/// What is to be known of the content when it has come.
fn watch<'o>(request: &Request, input: &Input<'_>, old: Option<&'o Opened>) -> Watch<'o> {
    let mut watch = Watch::default();
    if request.guards.sum.is_some() {
        watch = watch.digest();
    }
    if let (Equal::Leave(_), Some(old)) = (request.equal, old) {
        if let Some(content) = old.content() {
            watch = watch.compare(content, old.metadata.size);
        }
    }
    match request.progress {
        ShowProgress::No => watch,
        ShowProgress::Yes => watch.show(Progress::on_terminal(input.size())),
    }
}

/// Content that may turn out to be there already is not worth the disk's work before that is known.
fn writeback(request: &Request) -> Writeback {
    match (request.sync, request.equal) {
        (Sync::None, _) | (_, Equal::Leave(_)) => Writeback::Late,
        (Sync::File | Sync::Full, Equal::Replace) => Writeback::Early,
    }
}
