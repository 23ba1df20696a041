//! The pipeline of one file, in the order of the manual. Only `commit` changes DEST.

use std::path::Path;

use anyhow::{Context, Error, Result, anyhow};

use crate::attributes::{Attributes, OwnerGroup};
use crate::backup::{self, Numbers};
use crate::checks::{self, Rules};
use crate::destination::{Destination, Opened};
use crate::inplace;
use crate::inspector::{Content, ContentInspector};
use crate::lock::Lock;
use crate::message::{Chain, Messages, Progress};
use crate::outcome::{Change, Failure, Outcome};
use crate::request::{IfUnchanged, InPlace, Keep, Request, Source, Sync};
use crate::run_context::RunContext;
use crate::source::Input;
use crate::staged::{Filled, Open, Sealed, Staged, is_for_lack_of_permission};
use crate::sys::{self, Errno, Metadata};
use crate::transfer::Writeback;
use crate::validate::Validator;

/// Writes DEST.
pub(crate) fn write(
    source: &Source,
    typed: &Path,
    request: &Request,
    messages: Messages,
) -> Result<Outcome, Failure> {
    let unresolved = |failure| Destination::unresolved(typed, failure);
    // getent(1) may take its time, so it runs before the lock is taken.
    let owners = OwnerGroup::look_up(&request.attributes).map_err(|e| unresolved(e.into()))?;
    let resolve = || Destination::resolve(typed, request.links(), request.create_dirs);
    let (mut lock, destination) = Lock::acquire(request, messages, resolve).map_err(unresolved)?;
    let before = destination.snapshot().map_err(|e| unresolved(e.into()))?;
    let context = RunContext {
        request,
        messages,
        owners,
        numbers: &Numbers::default(),
        sync_unchanged: request.sync,
    };
    let mut done = replace(&destination, before, source, &context);
    if let (Some(lock), Ok(outcome)) = (&mut lock, &mut done) {
        outcome.directories.append(&mut lock.directories);
    }
    drop(lock);
    done.map_err(|failure| destination.left_by(failure, before))
}

fn replace(
    destination: &Destination,
    before: Option<Metadata>,
    source: &Source,
    context: &RunContext<'_>,
) -> Result<Outcome, Failure> {
    let request = context.request;
    let progress = Progress::on_terminal(request.progress);
    let mut validator = request.guards.validator.as_deref().map(Validator::new);
    let create = |wanted: &_| Staged::create(destination, before, wanted, request);
    let file = File {
        destination,
        before,
        source,
        progress,
    };
    let prepared = prepare(file, context, create, validator.as_mut())?;
    drop(validator);
    let sealed = match prepared {
        Prepared::Unchanged(outcome) => return Ok(outcome),
        Prepared::New(sealed) => sealed,
    };
    let numbers = &Numbers::default();
    let context = RunContext {
        numbers,
        ..*context
    };
    let committed = sealed.sync(request.sync)?.commit(&context)?;
    let (durable, warnings) = committed.make_durable();
    for warning in warnings {
        context.messages.warn(warning);
    }
    durable
}

/// One of the files of a run.
#[derive(Debug)]
pub(crate) struct File<'d, 's> {
    pub(crate) destination: &'d Destination,
    /// What had DEST's name at the start.
    pub(crate) before: Option<Metadata>,
    pub(crate) source: &'s Source,
    pub(crate) progress: Option<Progress>,
}

/// The result of all steps before DEST changes.
#[expect(clippy::large_enum_variant, reason = "it is taken apart at once")]
#[derive(Debug)]
pub(crate) enum Prepared<'d> {
    /// DEST has the content already.
    Unchanged(Outcome),
    /// DEST will become this file.
    New(Staged<'d, Sealed>),
}

/// Fills a new file with the content of `file.source`, and makes all checks. `create` creates the
/// empty file.
pub(crate) fn prepare<'d>(
    file: File<'d, '_>,
    context: &RunContext<'_>,
    create: impl FnOnce(&Attributes) -> Result<Staged<'d, Open>>,
    validator: Option<&mut Validator<'_>>,
) -> Result<Prepared<'d>, Failure> {
    let (destination, before, request) = (file.destination, file.before, context.request);
    let (old, refusal) = open_old(destination, before, request)?;
    let (backups, numbers) = (context.backups(), context.numbers);
    backup::check(destination, before, backups, numbers)?;
    let input = Input::open(
        file.source,
        request.start,
        destination,
        before,
        old.as_ref(),
    )
    .map_err(|error| request.with_hint(file.source, error))?;
    input.check_times(request)?;
    let is_input = |file| input.metadata().is_some_and(|input| input.identity == file);
    backup::check_source(destination, before, backups, numbers, is_input)?;
    let (mode, times) = (input.mode(), input.times());
    let wanted = Attributes::requested(&request.attributes, context.owners, mode, times);
    let draft = match refusal.map_or_else(|| create(&wanted), Err) {
        Err(error) if may_be_equal(request, old.as_ref()) => {
            Staged::compare_only(destination, error)?
        }
        created => created?,
    };
    input.announce(request, context.messages);
    let inspector = inspector(request, &input, old.as_ref(), file.progress);
    let filled = draft.fill(&input, inspector, writeback(request))?;
    let (attributes, now) = match before {
        // A DEST that was missing is looked up in the commit.
        None if filled.content().size > 0 => (wanted, None),
        _ => wanted.read_from(destination, before)?,
    };
    check_again(destination, before, now, &filled, old.as_ref(), context)?;
    checks::content(destination, now, &input, filled.content(), &request.guards)?;
    if !filled.content().same {
        filled.refuse()?;
    }
    let sealed = filled
        .seal(attributes, now)
        .map_err(|error| or_in_place(error, destination, now, request))?;
    if let Some(validator) = validator {
        sealed.validate(validator, old.as_ref())?;
    }
    if is_unchanged(destination, old.as_ref(), now, &sealed)? {
        let sync = context.sync_unchanged;
        return leave_unchanged(destination, old.as_ref(), sealed.content(), sync)
            .map(Prepared::Unchanged);
    }
    sealed.refuse()?;
    // No descriptor of DEST is open at the rename.
    drop(input);
    Input::detach(destination)?;
    Ok(Prepared::New(sealed))
}

/// Adds a hint to the error of an attribute that --keep=all cannot preserve: DEST keeps all of them
/// if it is overwritten in place.
fn or_in_place(
    error: Error,
    destination: &Destination,
    existing: Option<Metadata>,
    request: &Request,
) -> Error {
    let attributes = &request.attributes;
    if existing.is_some()
        && attributes.keep == Keep::All
        && !attributes.set_any()
        && is_for_lack_of_permission(&error)
        && checks::may_be_overwritten(destination, existing, Rules::of(request))
    {
        return anyhow!("{}; use --inplace=always to keep it", Chain(&error));
    }
    error
}

/// Opens DEST if its content is needed, and checks whether DEST can be replaced. If it cannot, but
/// may have the content already, returns the reason beside the open DEST instead of failing.
fn open_old(
    destination: &Destination,
    before: Option<Metadata>,
    request: &Request,
) -> Result<(Option<Opened>, Option<Error>), Failure> {
    let checked = checks::destination(destination, before, Rules::of(request));
    let old = if request.reads_old_content() {
        destination.open(before)?
    } else {
        None
    };
    match checked {
        Err(Failure::Failed(error)) if may_be_equal(request, old.as_ref()) => {
            Ok((old, Some(error)))
        }
        checked => checked.map(|()| (old, None)),
    }
}

/// Returns true if DEST can be read, and is left alone if it has the content already.
fn may_be_equal(request: &Request, old: Option<&Opened>) -> bool {
    request.if_unchanged != IfUnchanged::Replace && old.is_some_and(|old| old.content().is_some())
}

/// Checks DEST again, if it is something else `now`: reading the input may have taken hours.
fn check_again(
    destination: &Destination,
    before: Option<Metadata>,
    now: Option<Metadata>,
    filled: &Staged<'_, Filled>,
    old: Option<&Opened>,
    context: &RunContext<'_>,
) -> Result<(), Failure> {
    let in_place = context.rules().in_place;
    let must = |file: Option<Metadata>| checks::is_in_place(destination, file.as_ref(), in_place);
    if filled.is_spool() && must(before) && !must(now) {
        return Err(inplace::not_checked(destination));
    }
    if !Metadata::are_same(before.as_ref(), now.as_ref()) && filled.refuse().is_ok() {
        let rules = context.rules();
        let in_place = if filled.is_spool() {
            rules.in_place
        } else {
            InPlace::Never
        };
        checks::destination(destination, now, Rules { in_place, ..rules })?;
    }
    if context.request.appends() {
        checks::append_base(destination, old.map(|old| old.metadata), now)?;
    }
    Ok(())
}

/// Returns true if DEST, which was `now` a moment ago, has the content and attributes already.
fn is_unchanged(
    destination: &Destination,
    old: Option<&Opened>,
    now: Option<Metadata>,
    sealed: &Staged<'_, Sealed>,
) -> Result<bool> {
    let (content, attributes) = (sealed.content(), sealed.attributes());
    let latest = if content.same {
        destination.snapshot()?
    } else {
        now
    };
    Ok(checks::is_equal(old, latest, content, attributes))
}

/// Leaves DEST as it is, and syncs it as if it were new.
fn leave_unchanged(
    destination: &Destination,
    old: Option<&Opened>,
    content: &Content,
    sync: Sync,
) -> Result<Outcome, Failure> {
    let durable = || -> Result<(), Errno> {
        let existing = old.and_then(Opened::content);
        if let (Sync::File | Sync::Full, Some(file)) = (sync, existing) {
            sys::sync_in_place(file)?;
        }
        match (sync, existing) {
            (Sync::Full, Some(file)) => destination.directory().sync(file),
            _ => Ok(()),
        }
    };
    durable().with_context(|| destination.cannot("sync"))?;
    let path = destination.path().to_owned();
    Ok(Outcome::new(Change::Unchanged, path, content.size))
}

/// Returns the inspector for what must be known of the complete content.
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

/// Starts writeback early, unless it may turn out that DEST has the content already.
fn writeback(request: &Request) -> Writeback {
    match (request.sync, request.if_unchanged) {
        (Sync::None, _) | (_, IfUnchanged::Skip(_)) => Writeback::Late,
        (Sync::File | Sync::Full, IfUnchanged::Replace) => Writeback::Early,
    }
}
