//! What should not have happened: counted, and the first few kept as text.

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;
use core::sync::atomic::{AtomicU64, Ordering};

use crate::sched::Mutex;

/// Texts that are kept; after the first few the rest is more of the same.
const KEPT: usize = 8;

/// A list of broken promises.
#[derive(Default)]
pub(crate) struct Violations {
    count: AtomicU64,
    texts: Mutex<Vec<String>>,
}

impl Violations {
    /// Notes one.
    pub(crate) fn note(&self, what: fmt::Arguments<'_>) {
        // ORD: Relaxed; a count, read again and again.
        if self.count.fetch_add(1, Ordering::Relaxed) < KEPT as u64 {
            let text = what.to_string();
            self.texts.lock().push(text);
        }
    }

    /// How many there are.
    #[must_use]
    pub(crate) fn count(&self) -> u64 {
        // ORD: Relaxed; as in `note`.
        self.count.load(Ordering::Relaxed)
    }

    /// The first few.
    #[must_use]
    pub(crate) fn texts(&self) -> Vec<String> {
        self.texts.lock().clone()
    }
}
