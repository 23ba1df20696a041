//! atomwrite replaces a file so that nobody ever sees half of it, and so that power loss does not undo or halve it.
//!
//! This is the crate's table of contents. `write` is the story; the rooms that it leads through come in its order, and
//! imports go downward only: the engine knows nothing of the command line, and `sys` and `message` know nothing of us.

mod cli;
mod request;

mod write;

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

use std::io::ErrorKind;
use std::process::ExitCode;

use cli::NoRequest;
use message::Messages;
use outcome::{Change, Failure, Form};
use request::{Equal, Request, Source};

fn main() -> ExitCode {
    let status = match cli::parse(std::env::args_os()) {
        Ok(request) => run(&request),
        Err(NoRequest::Text(text)) => print(&text),
        Err(NoRequest::Usage(problem)) => {
            message::error(problem);
            ExitCode::from(Failure::USAGE)
        }
    };
    signals::release();
    status
}

fn run(request: &Request) -> ExitCode {
    let messages = Messages::new(request.verbosity);
    signals::survive_file_size_limit();
    match write::write(request, messages) {
        Ok(outcome) => {
            if messages.are_verbose() {
                signals::release_if_nobody_listens();
            }
            messages.report(&outcome);
            match (outcome.change, request.equal) {
                (Change::Unchanged, Equal::Leave(status)) => ExitCode::from(status),
                _ => ExitCode::SUCCESS,
            }
        }
        Err(failure) => {
            if let Failure::Interrupted(signal) = failure {
                signals::die(signal);
            }
            signals::release_if_nobody_listens();
            message::error(&failure);
            failure.exit_status(match request.source {
                Source::Command(_) => Form::Command,
                Source::Stdin | Source::File(_) => Form::Plain,
            })
        }
    }
}

fn print(text: &str) -> ExitCode {
    match message::print(text) {
        // A reader that has seen enough, like head.
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            message::error(message::Chain(
                &anyhow::Error::from(error).context("cannot write to standard output"),
            ));
            ExitCode::FAILURE
        }
        _ => ExitCode::SUCCESS,
    }
}
