//! Tests of the real binary. Where does a test go, and where is it found?
//!
//! `options/` has a file for each option. `input/` is about the content, also from COMMAND, and
//! `destination/` about DEST. `cli/` is about the command line and the messages, and `docs/` checks
//! what the documents say. `promises/` has the promises that every run keeps: atomic, durable,
//! unchanged, no temporary files, attributes. `environment/` has filesystems, signals, and other
//! processes that work at the same time. `harness/` has the tools of the tests: a sandbox, runs in
//! it that are checked completely, strace, mounts.

#![expect(clippy::unwrap_used, reason = "in a test, a panic is the message")]
#![expect(
    clippy::disallowed_methods,
    reason = "what the program must not do, its surroundings do"
)]

mod harness {
    mod feeder;
    mod mounts;
    mod needs;
    mod run;
    mod running;
    mod sandbox;
    mod stepped;
    mod strace;
    mod table;
    mod terminal;
    mod way;
    mod witness;

    pub(crate) use feeder::*;
    pub(crate) use mounts::*;
    pub(crate) use needs::*;
    pub(crate) use run::*;
    pub(crate) use running::*;
    pub(crate) use sandbox::*;
    pub(crate) use stepped::*;
    pub(crate) use strace::*;
    pub(crate) use table::*;
    pub(crate) use terminal::*;
    pub(crate) use way::*;
    pub(crate) use witness::*;
}

mod input {
    pub(crate) mod command;
    mod command_output;
    mod command_signals;
    mod pipeline;
    mod source;
    mod ssh;
    pub(crate) mod stdin;
}

mod destination {
    mod links;
    mod names;
    mod refused;
}

mod options {
    mod append;
    pub(crate) mod backup;
    mod backup_failures;
    mod backup_names;
    mod compare;
    mod compare_unreplaceable;
    mod create_dirs;
    mod empty_input;
    mod files_from;
    pub(crate) mod inplace;
    pub(crate) mod inplace_devices;
    mod inplace_failures;
    pub(crate) mod keep;
    mod keep_warnings;
    pub(crate) mod lock;
    mod lock_file;
    mod lock_together;
    pub(crate) mod many;
    mod many_failures;
    mod many_list;
    mod many_together;
    mod mode;
    mod no_clobber;
    mod owner;
    mod owner_group;
    mod preserve_timestamps;
    mod progress;
    mod progress_tmux;
    mod progress_widths;
    mod sha256;
    mod sync;
    pub(crate) mod validate;
    mod validate_all;
    mod validate_effects;
    mod validate_preview;
    mod verbose;
}

mod cli {
    mod completions;
    mod faults;
    mod help;
    mod help_widths;
    pub(crate) mod hints;
    mod hints_for_words;
    mod messages;
    mod mistakes;
    pub(crate) mod shells;
    mod synonyms;
    pub(crate) mod usage;
    mod vocabulary;
    pub(crate) mod wording;
    mod wording_failures;
}

mod promises {
    mod attributes;
    mod durable;
    mod figures;
    mod link_and_rename;
    mod many_writers;
    mod stale;
    mod temp_names;
    mod textfile;
    mod unchanged;
    mod watchers;
}

mod environment {
    mod concurrent_changes;
    mod fallback;
    mod filesystems;
    mod limits;
    mod old_kernels;
    mod other_processes;
    pub(crate) mod races;
    pub(crate) mod signals;
    mod signals_at_commit;
    pub(crate) mod signals_to_command;
    mod signals_while_busy;
    mod waits;
}

mod docs {
    mod comparison;
    pub(crate) mod examples;
    mod language;
    mod manual;
    mod project;
    mod readme;
    mod recording;
    mod sponge;
}
