//! The loan word: tells a finish that somebody has lent to its thread.

use crate::primitive::{AtomicU64, Relaxed};

/// The level at which a section's thread is lent to, or 0. Written under the table's lock.
pub(crate) struct LoanWord(AtomicU64);

impl LoanWord {
    #[cfg(not(gencount_loom))]
    pub(crate) const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    #[cfg(gencount_loom)]
    pub(crate) fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// Says that the section's thread is lent to, by a waiter that is in the waiter count.
    pub(crate) fn set(&self, level: u64) {
        // ORD: Relaxed: the waiter's withdrawal from the count releases it (see the module above).
        self.0.store(level, Relaxed);
    }

    /// Says that nothing is lent any more, as is the case under this hold of the table's lock.
    pub(crate) fn clear(&self) {
        // ORD: Relaxed: of interest to later holders of the lock, and to the thread whose section it was.
        self.0.store(0, Relaxed);
    }

    /// What a finish reads after its look at the waiter count: whether there is something to take back.
    #[inline]
    pub(crate) fn is_set(&self) -> bool {
        // ORD: Relaxed: the look at the count, before this, has acquired what those released who are not in it any more.
        self.0.load(Relaxed) != 0
    }
}
