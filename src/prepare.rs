//! The new file, made ready: all that comes before anything changes.
//!
//! The rule: DEST is looked at before the input, to refuse early, and after it, since input may take hours. What is ready
//! has been judged by every guard and looks as DEST shall look.

use anyhow::Result;

use crate::attributes::{Attributes, Owners};
use crate::backup::Backup;
use crate::checks;
use crate::destination::{Destination, Opened};
use crate::inplace::Way;
use crate::message::{Messages, Progress};
use crate::outcome::{Failure, Outcome};
use crate::request::{Equal, Request, Source, Sync};
use crate::source::Input;
use crate::staged::{Open, Sealed, Staged};
use crate::transfer::Writeback;
use crate::validate::validate;
use crate::watch::Watch;

/// What there is to be done about DEST.
#[expect(clippy::large_enum_variant, reason = "it is taken apart at once")]
#[derive(Debug)]
pub(crate) enum Ready<'d> {
    /// Nothing: it has the content already.
    Unchanged(Outcome),
    /// It is to become this file.
    New(Attributes, Way, Staged<'d, Sealed>),
}

/// What is the same for every file of a run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Terms<'r> {
    pub(crate) request: &'r Request,
    pub(crate) messages: Messages,
    /// How a DEST that has the content already is put on the disk.
    pub(crate) sync_of_equal: Sync,
    pub(crate) second_look: SecondLook,
    owners: Owners,
}

/// When a DEST that was not there is looked for again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SecondLook {
    AfterInput,
    /// All of many are looked at before the first of them is renamed.
    InCommit,
}

impl<'r> Terms<'r> {
    pub(crate) fn of(request: &'r Request, messages: Messages) -> Result<Self> {
        Ok(Self {
            request,
            messages,
            sync_of_equal: request.sync,
            second_look: SecondLook::AfterInput,
            owners: Owners::look_up(&request.look)?,
        })
    }
}

/// Makes a file of the content of `source`. `stage` makes an empty one.
pub(crate) fn prepare<'d>(
    destination: &'d Destination,
    source: &Source,
    terms: &Terms<'_>,
    stage: impl FnOnce(&Attributes) -> Result<(Way, Staged<'d, Open>)>,
    progress: Option<Progress>,
) -> Result<Ready<'d>, Failure> {
    let request = terms.request;
    let admit = |in_place| checks::admit_destination(destination, request.overwrite, in_place);
    admit(request.in_place)?;
    drop(Backup::plan(destination, request.backups.as_ref(), || {
        None
    })?);
    let old = if request.reads_old_content() {
        destination.open()?
    } else {
        None
    };
    let input = Input::open(source, request.start, destination, old.as_ref())?;
    let mut attributes = Attributes::plan(&request.look, terms.owners, &input);
    let (way, draft) = stage(&attributes)?;
    if input.is_typed() {
        terms
            .messages
            .notice("reading from the terminal; end with Ctrl-D, give up with Ctrl-C");
    }
    let watch = watch(request, &input, old.as_ref(), progress);
    let filled = draft.fill(&input, watch, writeback(request))?;
    // Hours may have passed.
    let before = destination.existing();
    if before.is_some() || terms.second_look == SecondLook::AfterInput {
        attributes.take_over(destination)?;
    }
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
        return checks::leave_equal(
            destination,
            old.as_ref(),
            sealed.content(),
            terms.sync_of_equal,
        )
        .map(Ready::Unchanged);
    }
    Ok(Ready::New(attributes, way, sealed))
}

/// What is to be known of the content when it has come.
fn watch<'o>(
    request: &Request,
    input: &Input<'_>,
    old: Option<&'o Opened>,
    progress: Option<Progress>,
) -> Watch<'o> {
    let mut watch = Watch::default();
    if request.guards.sum.is_some() {
        watch = watch.digest();
    }
    if let (Equal::Leave(_), Some(old)) = (request.equal, old) {
        if let Some(content) = old.content() {
            watch = watch.compare(content, old.metadata.size);
        }
    }
    watch.show(progress.map(|progress| progress.of_input(input.size())))
}

/// Content that may turn out to be there already is not worth the disk's work before that is known.
fn writeback(request: &Request) -> Writeback {
    match (request.sync, request.equal) {
        (Sync::None, _) | (_, Equal::Leave(_)) => Writeback::Late,
        (Sync::File | Sync::Full, Equal::Replace) => Writeback::Early,
    }
}
