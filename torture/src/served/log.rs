//! The log of what was done to files, in order. A flush covers all writes before it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A request to the filesystem.
#[derive(Debug)]
pub(crate) enum Entry {
    Write {
        offset: usize,
        data: Box<[u8]>,
    },
    /// A discard, or a request for zeros.
    Zero {
        offset: usize,
        length: usize,
    },
    Flush,
}

/// The log, while it is written.
#[derive(Debug, Clone, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<Entry>>>);

impl Log {
    /// Returns how many entries there are. Whatever was sent before the call is among them.
    pub(crate) fn position(&self) -> usize {
        self.entries().len()
    }

    /// Returns all entries; what comes later begins a new log.
    pub(crate) fn take(&self) -> Vec<Entry> {
        std::mem::take(&mut self.entries())
    }

    pub(super) fn add(&self, entry: Entry) {
        self.entries().push(entry);
    }

    fn entries(&self) -> MutexGuard<'_, Vec<Entry>> {
        // A panic in another thread cannot leave half an entry.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
