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

#[cfg(all(test, feature = "std", not(gencount_shuttle)))]
mod tests {
    use super::GenerationWord;

    /// H-76: a mark never lowers the word.
    #[test]
    fn marks_only_rise() {
        let word = GenerationWord::new();
        for (mark, expected) in [(3, 3), (1, 3), (3, 3), (7, 7), (0, 7), (u64::MAX - 1, u64::MAX - 1)] {
            word.raise(mark);
            assert_eq!(word.get(), expected);
        }
    }

    /// H-76: two threads that mark one word at once, which its lock should have prevented, are told.
    #[test]
    #[cfg(debug_assertions)]
    fn marks_without_the_lock_are_reported() {
        use std::panic::catch_unwind;
        use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
        use std::time::{Duration, Instant};

        let (word, reported) = (GenerationWord::new(), AtomicBool::new(false));
        let start = Instant::now();
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    while !reported.load(Relaxed) && start.elapsed() < Duration::from_secs(30) {
                        if let Err(panic) = catch_unwind(|| word.raise(word.get() + 1)) {
                            let message = panic.downcast::<&str>().expect("a message");
                            assert!(message.contains("hold its lock exclusively"), "{message}");
                            reported.store(true, Relaxed);
                        }
                    }
                });
            }
        });
        assert!(
            reported.into_inner(),
            "three threads marked without a lock for half a minute, and nothing was said"
        );
    }
}
