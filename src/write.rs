//! The pipeline of one write, in the order of the manual. Only `commit` changes DEST.

use std::path::Path;

use crate::attributes::{Attributes, OwnerGroup};
use crate::backup::{self, Numbers};
use crate::checks::{self, Rules};
use crate::destination::{Destination, Opened};
use crate::inspector::ContentInspector;
use crate::lock::Lock;
use crate::message::{Messages, Progress};
use crate::outcome::{Failure, Outcome};
use crate::request::{IfUnchanged, InPlace, Request, Source, Sync};
use crate::source::Input;
use crate::staged::{CommitOptions, Open, Sealed, Staged};
use crate::sys::Metadata;
use crate::transfer::Writeback;
use crate::validate::{PreviewPlace, Validator};

/// Writes DEST.
pub(crate) fn write(
    source: &Source,
    typed: &Path,
    request: &Request,
    messages: Messages,
) -> Result<Outcome, Failure> {
    // getent(1) may take its time, so it runs before the lock.
    let owners = OwnerGroup::look_up(&request.attributes)
        .map_err(|error| Destination::unresolved(typed, error.into()))?;
    let resolve = || Destination::resolve(typed, request.links(), request.create_dirs);
    let (lock, destination) = Lock::acquire(request, messages, resolve)
        .map_err(|failure| Destination::unresolved(typed, failure))?;
    let before = destination
        .snapshot()
        .map_err(|error| Destination::unresolved(typed, error.into()))?;
    let context = RunContext {
        request,
        messages,
        owners,
        numbers: &Numbers::default(),
        sync_unchanged: request.sync,
    };
    let done = replace(&destination, before, source, &context);
    drop(lock);
    done.map_err(|failure| destination.left_by(failure, before))
}

fn replace(
    destination: &Destination,
    before: Option<Metadata>,
    source: &Source,
    context: &RunContext<'_>,
) -> Result<Outcome, Failure> {
    let RunContext {
        request, messages, ..
    } = *context;
    let progress = Progress::on_terminal(request.progress);
    let mut validator = request.guards.validator.as_deref().map(Validator::new);
    let create = |attributes: &_| Staged::create(destination, before, attributes, request.in_place);
    let prepared = prepare(
        destination,
        before,
        source,
        context,
        create,
        validator.as_mut(),
        progress,
    )?;
    drop(validator);
    let sealed = match prepared {
        Prepared::Unchanged(outcome) => return Ok(outcome),
        Prepared::New(sealed) => sealed,
    };
    let numbers = Numbers::default();
    let committed = sealed
        .sync(request.sync)?
        .commit(CommitOptions::new(request, &numbers, messages))?;
    let (durable, warnings) = committed.make_durable();
    for warning in warnings {
        messages.warn(warning);
    }
    durable
}

/// What is the same for every file of a run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RunContext<'r> {
    pub(crate) request: &'r Request,
    pub(crate) messages: Messages,
    pub(crate) owners: OwnerGroup,
    /// Of the backups that are there before any input is read.
    pub(crate) numbers: &'r Numbers,
    /// How a DEST that has the content already is put on the disk.
    pub(crate) sync_unchanged: Sync,
}

/// The result of all steps before anything changes.
#[expect(clippy::large_enum_variant, reason = "it is taken apart at once")]
#[derive(Debug)]
pub(crate) enum Prepared<'d> {
    /// DEST has the content already.
    Unchanged(Outcome),
    /// It will become this file.
    New(Staged<'d, Sealed>),
}

/// Makes a file of the content of `source`, and has it pass every guard. `create` creates an empty one.
pub(crate) fn prepare<'d>(
    destination: &'d Destination,
    before: Option<Metadata>,
    source: &Source,
    context: &RunContext<'_>,
    create: impl FnOnce(&Attributes) -> anyhow::Result<Staged<'d, Open>>,
    validator: Option<&mut Validator<'_>>,
    progress: Option<Progress>,
) -> Result<Prepared<'d>, Failure> {
    let request = context.request;
    let rules = Rules::of(request);
    let refused = checks::destination(destination, before, rules);
    let old = if request.reads_old_content() {
        destination.open(before)?
    } else {
        None
    };
    let old_content = old.as_ref().and_then(Opened::content);
    // With -C, a DEST that cannot be replaced need not be if it has the content already.
    let may_be_equal = request.if_unchanged != IfUnchanged::Replace && old_content.is_some();
    let refused = match refused {
        Err(Failure::Failed(error)) if may_be_equal => Some(error),
        checked => checked.map(|()| None)?,
    };
    let (backups, numbers) = (request.backups.as_ref(), context.numbers);
    backup::check(destination, before, backups, numbers)?;
    let input = Input::open(source, request.start, destination, before, old.as_ref())
        .map_err(|error| request.with_lock_hint(source, error))?;
    backup::check_source(destination, before, backups, numbers, input.metadata())?;
    let wanted = Attributes::requested(&request.attributes, context.owners, input.mode());
    let draft = match refused.map_or_else(|| create(&wanted), Err) {
        Err(error) if may_be_equal => Staged::compare_only(destination, error)?,
        created => created?,
    };
    input.announce(request, context.messages);
    let inspector = inspector(request, &input, old.as_ref(), progress);
    let filled = draft.fill(&input, inspector, writeback(request))?;
    // Reading may have taken hours. A DEST that was missing is looked up in the commit.
    let (attributes, now) = match before {
        None if filled.content().size > 0 => (wanted, None),
        _ => wanted.read_from(destination, before)?,
    };
    if !Metadata::are_same(before.as_ref(), now.as_ref()) && filled.refuse().is_ok() {
        let in_place = if filled.is_spool() {
            request.in_place
        } else {
            InPlace::Never
        };
        checks::destination(destination, now, Rules { in_place, ..rules })?;
    }
    if request.appends() {
        checks::append_base(destination, old.as_ref().map(|old| old.metadata), now)?;
    }
    checks::content(destination, now, &input, filled.content(), &request.guards)?;
    if !filled.content().same {
        filled.refuse()?;
    }
    let sealed = filled.seal(attributes, now)?;
    if let Some(validator) = validator {
        let place = if sealed.is_spool() || sealed.refuse().is_err() {
            PreviewPlace::TemporaryDirectory
        } else {
            PreviewPlace::Beside
        };
        // What was only compared is what DEST holds.
        let checked = match (sealed.refuse(), old_content) {
            (Err(_), Some(same)) => same,
            _ => sealed.file(),
        };
        sealed.collect_close_error()?;
        validator.check(checked, sealed.attributes(), destination, place)?;
    }
    let latest = if sealed.content().same {
        destination.snapshot()?
    } else {
        now
    };
    if checks::is_equal(old.as_ref(), latest, sealed.content(), sealed.attributes()) {
        let sync = context.sync_unchanged;
        return checks::leave_equal(destination, old.as_ref(), sealed.content(), sync)
            .map(Prepared::Unchanged);
    }
    sealed.refuse()?;
    drop(input);
    Input::detach(now)?;
    Ok(Prepared::New(sealed))
}

/// What must be known of the content when it is complete.
fn inspector<'o>(
    request: &Request,
    input: &Input<'_>,
    old: Option<&'o Opened>,
    progress: Option<Progress>,
) -> ContentInspector<'o> {
    let mut inspector = ContentInspector::default();
    if request.guards.sum.is_some() {
        inspector = inspector.digest();
    }
    if let (IfUnchanged::Skip(_), Some(old)) = (request.if_unchanged, old) {
        if let Some(content) = old.content() {
            inspector = inspector.compare(content, old.metadata.size);
        }
    }
    inspector.show(progress.map(|progress| progress.of_input(input.size())))
}

/// Content that may turn out to be there already is not written back before that is known.
fn writeback(request: &Request) -> Writeback {
    match (request.sync, request.if_unchanged) {
        (Sync::None, _) | (_, IfUnchanged::Skip(_)) => Writeback::Late,
        (Sync::File | Sync::Full, IfUnchanged::Replace) => Writeback::Early,
    }
}
