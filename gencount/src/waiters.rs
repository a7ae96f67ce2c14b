//! How many wait, and the two fences that keep a wake-up from being lost.
//!
//! # Protocol
//!
//! Two sides each write, fence, and read what the other wrote (INV-DI-8): a waiter registers here, and then looks once
//! more whether it has to wait; whoever finished or advanced something does so, and then looks here.

use crate::barrier::{heavy_fence, light_fence};
use crate::primitive::{Acquire, AtomicUsize, Release, SeqCst, fence_between_seqcst, full_fence};

/// The number of threads that wait or are about to.
pub(crate) struct WaiterCount(AtomicUsize);

impl WaiterCount {
    #[cfg(not(gencount_loom))]
    pub(crate) const fn new() -> Self {
        Self(AtomicUsize::new(0))
    }

    #[cfg(gencount_loom)]
    pub(crate) fn new() -> Self {
        Self(AtomicUsize::new(0))
    }

    /// Registers the caller, for as long as the result lives. What it reads afterwards comes after that.
    pub(crate) fn register(&self) -> Registered<'_> {
        self.add();
        full_fence();
        Registered(self)
    }

    /// As [`register`](Self::register), where finishes may look with [`any_lightly`](Self::any_lightly).
    pub(crate) fn register_heavily(&self) -> Registered<'_> {
        self.add();
        heavy_fence();
        Registered(self)
    }

    /// Without the fence, for a test that must notice.
    #[cfg(all(test, gencount_loom))]
    pub(crate) fn register_unfenced(&self) -> Registered<'_> {
        self.add();
        Registered(self)
    }

    fn add(&self) {
        // ORD: SeqCst, and the fence after it: the waiter's half of the Dekker pair with the looks below (INV-DI-8).
        self.0.fetch_add(1, SeqCst);
    }

    /// Whether somebody waits, as seen after all that the caller has written.
    #[inline]
    pub(crate) fn any(&self) -> bool {
        full_fence();
        self.look()
    }

    /// As [`any`](Self::any), for a caller that has just made a SeqCst read-modify-write.
    #[inline]
    pub(crate) fn any_after_seqcst(&self) -> bool {
        fence_between_seqcst();
        // ORD: SeqCst, like the caller's write and both accesses of the partner, `register` and the waiter's scan.
        self.0.load(SeqCst) != 0
    }

    /// As [`any`](Self::any), for a caller that leaves the fence to the waiters ([`register_heavily`](Self::register_heavily)).
    #[inline]
    pub(crate) fn any_lightly(&self) -> bool {
        light_fence();
        self.look()
    }

    /// As [`any`](Self::any), for a caller that has just changed a pair of a `dcas_queue`.
    #[cfg(any(not(gencount_loom), dcas_queue_loom))]
    #[inline]
    pub(crate) fn any_after_pair(&self) -> bool {
        crate::primitive::fence_after_pair();
        self.look()
    }

    /// The look itself, after the fence.
    #[inline]
    fn look(&self) -> bool {
        // ORD: after the fence, the other half of the Dekker pair with `register` (INV-DI-8). Acquire pairs with the
        // withdrawal of those who are not in the count any more: what they have lent is visible (INV-DI-12).
        self.0.load(Acquire) != 0
    }

    /// Without a fence, for a test that must notice.
    #[cfg(all(test, gencount_loom))]
    pub(crate) fn any_unfenced(&self) -> bool {
        // ORD: none that would do: that is the fault.
        self.0.load(SeqCst) != 0
    }
}

/// A registration in the waiter count, withdrawn when it is dropped.
pub(crate) struct Registered<'a>(&'a WaiterCount);

#[cfg(all(test, gencount_loom))]
impl Registered<'_> {
    /// Withdraws without releasing, for a test that must notice.
    pub(crate) fn withdraw_relaxed(self) {
        // ORD: none that would do: that is the fault.
        self.0.0.fetch_sub(1, crate::primitive::Relaxed);
        core::mem::forget(self);
    }
}

impl Drop for Registered<'_> {
    fn drop(&mut self) {
        // ORD: Release pairs with the look of a finish that reads 0, whose thread the waiter may have lent to.
        self.0.0.fetch_sub(1, Release);
    }
}
