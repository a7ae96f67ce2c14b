//! What a thread sleeps on, below the scheduler.

#[cfg(feature = "std")]
use crate::primitive::{Acquire, AtomicU32, Relaxed, Release};

/// Where one thread sleeps until somebody leaves it a token: what [`Scheduler::park`](crate::Scheduler::park) and
/// [`unpark`](crate::Scheduler::unpark) are made of, one for each thread.
///
/// With feature `std` there is `HostedParker`, which sleeps in [`parking_lot_core`](https://docs.rs/parking_lot_core), and with `linux-rt`
/// `FutexParker`, on a futex of its own: nobody else's wake-up passes through it, and no lock is taken on the way. A kernel's
/// would take the thread off its run queue. `conformance::parker` says whether one keeps the rules.
///
/// # Rules
///
/// 1. After an [`unpark`](Self::unpark), the owner returns from the [`park`](Self::park) that it is in, or else from its next one at
///    once, and the token is gone. Two unparks without a return between them may count as one.
/// 2. What was done before an unpark is visible to the owner once it has returned because of it.
/// 3. Nothing here unwinds.
///
/// Only the owner parks. If two threads did, one of them could miss its token; memory safety does not depend on it.
pub trait Parker: Send + Sync {
    /// A point in time.
    type Instant: Copy;

    /// Without a token.
    const NEW: Self;

    /// Sleeps until the token is there, and takes it; may return early for no reason.
    fn park(&self);

    /// As [`park`](Self::park), but returns at `deadline` at the latest.
    fn park_until(&self, deadline: Self::Instant);

    /// Leaves the token, and wakes the owner if it sleeps.
    fn unpark(&self);
}

/// The token of a [`Parker`] that sleeps on a word of 32 bits.
#[cfg(feature = "std")]
#[derive(Debug)]
pub(crate) struct Token(AtomicU32);

#[cfg(feature = "std")]
impl Token {
    /// No token, nobody parked.
    const EMPTY: u32 = 0;
    /// The owner sleeps or is about to.
    pub(crate) const PARKED: u32 = 1;
    /// The token is there.
    const THERE: u32 = 2;

    pub(crate) const fn none() -> Self {
        Self(AtomicU32::new(Self::EMPTY))
    }

    /// Takes the token, after `sleep` if it is not there: that is to return once the word is not `PARKED` any more, or earlier.
    pub(crate) fn take(&self, sleep: impl FnOnce(&AtomicU32)) {
        // ORD: Acquire pairs with the Release swap in `leave`; Relaxed on failure: the token is taken just below.
        if self.0.compare_exchange(Self::EMPTY, Self::PARKED, Acquire, Relaxed).is_ok() {
            sleep(&self.0);
        }
        // ORD: Acquire pairs with the Release swap in `leave`.
        self.0.swap(Self::EMPTY, Acquire);
    }

    /// Leaves the token; calls `wake` if the owner sleeps.
    pub(crate) fn leave(&self, wake: impl FnOnce(&AtomicU32)) {
        // ORD: Release pairs with the Acquire of the owner's swap.
        if self.0.swap(Self::THERE, Release) == Self::PARKED {
            wake(&self.0);
        }
    }
}
