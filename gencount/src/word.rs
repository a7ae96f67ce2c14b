//! The word that says how long somebody who needs a page must wait.

use crate::primitive::{Acquire, AtomicU64, Relaxed, Release};

/// The largest generation that a section has marked here: one word for a page, or for a set of pages that share a
/// lock.
///
/// # Protocol
///
/// The word is only ever raised. It is marked under the lock that guards what it stands for, held exclusively (for a
/// page: its PV-list lock in write mode), so marks never race with each other. It is read without the lock, by
/// somebody who has held that lock since the marks of interest and so is ordered after them (INV-DI-4).
///
/// The word starts at 0, which is complete in every domain. A word belongs to one
/// [`Domain`](crate::Domain): generations of different domains cannot be compared.
#[derive(Debug, Default)]
#[repr(transparent)]
pub struct GenerationWord(AtomicU64);

impl GenerationWord {
    /// A word that nobody has marked.
    #[inline]
    #[must_use]
    pub const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// The largest generation marked so far; 0 if none.
    #[inline]
    #[must_use]
    pub fn get(&self) -> u64 {
        // ORD: Acquire pairs with the Release store in `raise`.
        self.0.load(Acquire)
    }

    /// Raises the word to `generation`, unless it is there already.
    ///
    /// Callers exclude each other (see the type). A debug build panics if they do not: a mark could get lost.
    #[inline]
    pub(crate) fn raise(&self, generation: u64) {
        // ORD: Relaxed: the lock that the caller holds orders this after the previous mark (INV-DI-4).
        let marked = self.0.load(Relaxed);
        if marked >= generation {
            return;
        }
        if cfg!(debug_assertions) {
            // ORD: Release pairs with the Acquire load in `get`; Relaxed on failure: it panics.
            let raised = self.0.compare_exchange(marked, generation, Release, Relaxed);
            assert!(
                raised.is_ok(),
                "a generation word was marked by two threads at once: hold its lock exclusively while marking"
            );
        } else {
            // ORD: Release pairs with the Acquire load in `get`.
            self.0.store(generation, Release);
        }
    }
}
