//! atomwrite replaces a file so that nobody ever sees half of it, and so that power loss does not undo or halve it.
//!
//! This is the crate's table of contents. `write` is the story; the rooms that it leads through come in its order, and
//! imports go downward only: the engine knows nothing of the command line, and `sys` and `message` know nothing of us.

#![cfg_attr(not(test), no_main)]

mod cli;
mod request;

mod many;
mod write;

mod prepare;

mod attributes;
mod backup;
mod checks;
mod command;
mod destination;
mod inplace;
mod lock;
mod parents;
mod signals;
mod source;
mod staged;
mod temp_name;
mod transfer;
mod validate;
mod watch;

mod outcome;

mod message;
mod sys;

#[cfg(test)]
mod generated;

use std::ffi::{c_char, c_int};
use std::io::ErrorKind;

use cli::NoRequest;
use message::Messages;
use outcome::{Failure, Outcome};
use request::{Equal, Files, Request};

#[cfg_attr(not(test), unsafe(no_mangle))]
#[cfg_attr(
    not(test),
    expect(
        unsafe_code,
        reason = "the C library calls what has this name (see sys::startup)"
    )
)]
extern "C" fn main(count: c_int, values: *const *const c_char) -> c_int {
    sys::occupy_standard_streams();
    let status = match cli::parse(sys::arguments(count, values)) {
        Ok(request) => run(&request),
        Err(NoRequest::Text(text)) => print(&text),
        Err(NoRequest::Usage(problem)) => {
            message::error(problem);
            Failure::USAGE
        }
    };
    signals::release();
    status.into()
}

/// Does what was asked for; gives the exit status.
fn run(request: &Request) -> u8 {
    let messages = Messages::new(request.verbosity);
    signals::survive_file_size_limit();
    let done = match &request.files {
        Files::One {
            source,
            destination,
        } => write::write(source, destination, request, messages).map(|outcome| vec![outcome]),
        Files::Into { directory, sources } => {
            many::write_all(directory, sources, request, messages)
        }
    };
    match done {
        Ok(outcomes) => {
            if messages.are_verbose() {
                signals::release_if_nobody_listens();
            }
            for outcome in &outcomes {
                messages.report(outcome);
            }
            match request.equal {
                Equal::Leave(status) if outcomes.iter().all(Outcome::is_unchanged) => status,
                _ => 0,
            }
        }
        Err(failure) => {
            if let Failure::Interrupted(signal) = failure {
                signals::die(signal);
            }
            signals::release_if_nobody_listens();
            message::error(&failure);
            if let Failure::Partly {
                new, old, warnings, ..
            } = &failure
            {
                for warning in warnings {
                    messages.warn(warning);
                }
                message::list("new", new);
                message::list("old", old);
            }
            failure.exit_status(request.form())
        }
    }
}

fn print(text: &str) -> u8 {
    match message::print(text) {
        // A reader that has seen enough, like head.
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            message::error(message::Chain(
                &anyhow::Error::from(error).context("cannot write to standard output"),
            ));
            1
        }
        _ => 0,
    }
}
