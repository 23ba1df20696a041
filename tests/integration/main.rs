//! Tests of the real binary. One module for each part of the contract.
//!
//! `sandbox` is the harness: a directory for each test, and runs that are checked whole.

#![expect(clippy::unwrap_used, reason = "in a test, a panic is the message")]
#![expect(
    clippy::disallowed_methods,
    reason = "what the program must not do, its surroundings do"
)]

mod append;
mod attribute_warnings;
mod attributes;
mod backup;
mod command;
mod compare;
mod completions;
mod crowd;
mod death;
mod destination;
mod fallback;
mod faults;
mod figures;
mod filesystems;
mod guards;
mod inplace;
mod input;
mod kills;
mod lists;
mod lock;
mod manual;
mod many;
mod many_faults;
mod many_together;
mod meanwhile;
mod messages;
mod mistakes;
mod mounts;
mod old_kernels;
mod options;
mod owner_group;
mod pipeline;
mod progress;
mod project;
mod races;
mod readme;
mod recording;
mod sandbox;
mod signals;
mod sponge;
mod strace;
mod sync;
mod temp_names;
mod textfile;
mod unreplaceable;
mod usage;
mod validate;
mod vocabulary;
mod waits;
mod watchers;
mod wording;
