//! atomwrite replaces a file so that nobody ever sees half of it, and so that power loss does not undo or halve it.
//!
//! This is the crate's table of contents. `write` is the story; the rooms that it leads through come in its order, and
//! imports go downward only: the engine knows nothing of the command line, and `sys` and `message` know nothing of us.

mod cli;
mod request;

mod write;

mod attributes;
mod checks;
mod destination;
mod parents;
mod signals;
mod source;
mod staged;
mod temp_name;
mod transfer;

mod outcome;

mod message;
mod sys;

#[cfg(test)]
mod generated;

use std::io::ErrorKind;
use std::process::ExitCode;

use cli::NoRequest;
use message::Messages;
use outcome::Failure;

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

fn run(request: &request::Request) -> ExitCode {
    let messages = Messages::new(request.verbosity);
    signals::survive_file_size_limit();
    match write::write(request, messages) {
        Ok(outcome) => {
            for warning in &outcome.warnings {
                messages.warn(warning);
            }
            messages.report(&outcome);
            ExitCode::SUCCESS
        }
        Err(failure) => {
            message::error(&failure);
            failure.exit_status()
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
