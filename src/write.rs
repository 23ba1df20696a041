//! The story of one write. Every step but the last but one leaves DEST as it is.

use crate::attributes::Attributes;
use crate::checks;
use crate::destination::Destination;
use crate::message::Messages;
use crate::outcome::{Failure, Outcome};
use crate::request::{Links, Overwrite, Request};
use crate::source::Input;
use crate::staged::Staged;

/// Writes DEST.
pub(crate) fn write(request: &Request, messages: Messages) -> Result<Outcome, Failure> {
    // Whatever has DEST's name is in the way of --no-clobber, a link too, wherever it points.
    let links = match request.overwrite {
        Overwrite::Never => Links::Replace,
        Overwrite::Writable | Overwrite::Any => request.links,
    };
    let destination = Destination::resolve(&request.destination, links, request.parents)
        .map_err(|error| Destination::unresolved(&request.destination, error))?;
    replace(&destination, request, messages).map_err(|failure| destination.unchanged(failure))
}

fn replace(
    destination: &Destination,
    request: &Request,
    messages: Messages,
) -> Result<Outcome, Failure> {
    checks::admit_destination(destination, request.overwrite)?;
    let input = Input::open(&request.source)?;
    let attributes = Attributes::plan(destination, &request.look, &input)?;
    let draft = Staged::beside(destination, &attributes)?;
    if input.is_typed() {
        messages.notice("reading from the terminal; end with Ctrl-D, give up with Ctrl-C");
    }
    let filled = draft.fill(&input, request.sync)?;
    checks::admit_content(destination, &input, filled.size(), request.empty)?;
    let sealed = filled.seal(&attributes, request.sync)?;
    let committed = sealed.commit(request.overwrite)?;
    committed.make_durable()
}
