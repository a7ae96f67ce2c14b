//! The lock of a table on a simulated machine.

use lock_api::{GuardNoSend, RawMutex};

use crate::primitive::{Acquire, AtomicBool, Relaxed, Release};

/// A lock that is never contended: one processor runs all threads of a [`Machine`](super::Machine), and is not taken away from a thread
/// that holds a table's lock (INV-L-7).
///
/// So a second attempt is an error of the code under test, a scheduling point or a park under the lock, and panics.
#[derive(Debug)]
pub struct RawUncontendedMutex(AtomicBool);

// SAFETY: it excludes by refusing: only a transition from false enters (Acquire), and the holder's unlock is a Release.
unsafe impl RawMutex for RawUncontendedMutex {
    const INIT: Self = Self(AtomicBool::new(false));

    type Guard = GuardNoSend;

    /// # Panics
    ///
    /// If it is held.
    fn lock(&self) -> GuardNoSend {
        match self.try_lock() {
            Some(guard) => guard,
            None => panic!("a scheduling point, or a call of the table, under the table's lock"),
        }
    }

    fn try_lock(&self) -> Option<GuardNoSend> {
        // ORD: Acquire pairs with the Release of `unlock`.
        (!self.0.swap(true, Acquire)).then(GuardNoSend::new)
    }

    unsafe fn unlock(&self, _: GuardNoSend) {
        // ORD: Release pairs with the Acquire of the next holder.
        self.0.store(false, Release);
    }

    fn is_locked(&self) -> bool {
        // ORD: Relaxed: a snapshot.
        self.0.load(Relaxed)
    }
}
