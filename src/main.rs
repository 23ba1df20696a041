//! atomwrite replaces a file atomically and durably.
//!
//! The modules below stand from top to bottom; `write` is the pipeline. Imports go downward only:
//! the pipeline does not know the command line, and `sys` and `message` do not know the pipeline.

#![cfg_attr(not(test), no_main)]

mod cli;

mod many;

mod write;

mod staged;

mod inplace;
mod lock;

mod run_context;

mod backup;
mod checks;
mod command;
mod validate;

mod named_copy;
mod source;

mod attributes;
mod parents;
mod private_dir;

mod program;
mod temp_name;
mod transfer;

mod destination;

mod inspector;

mod request;

mod copy_error;
mod mode;
mod outcome;

mod signals;

mod message;

mod sys;

#[cfg(test)]
mod generated;

use std::ffi::{c_char, c_int};

use message::Messages;
use outcome::{Failure, Outcome};
use request::{Files, IfUnchanged, Request};

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
        Err(exit) => exit.report(),
    };
    signals::finish(status).into()
}

/// Does what the user asked for. Returns the exit status.
fn run(request: &Request) -> u8 {
    let messages = Messages::new(request.verbosity);
    if sys::has_file_size_limit() {
        sys::survive_file_size_limit();
    }
    match write_files(request, messages) {
        Ok(outcomes) => {
            for outcome in &outcomes {
                messages.report(outcome);
            }
            match request.if_unchanged {
                IfUnchanged::Skip(status) if outcomes.iter().all(Outcome::is_unchanged) => status,
                _ => 0,
            }
        }
        Err(failure) => {
            failure.report(messages);
            failure.exit_status(request.status_scheme())
        }
    }
}

fn write_files(request: &Request, messages: Messages) -> Result<Vec<Outcome>, Failure> {
    signals::guard_if_init()?;
    match &request.files {
        Files::One {
            source,
            destination,
        } => write::write(source, destination, request, messages).map(|outcome| vec![outcome]),
        Files::Into { directory, sources } => {
            many::write_all(directory, sources, request, messages)
        }
    }
}
