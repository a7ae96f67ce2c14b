//! Waiting for a generation, and waking those whose generation is reached.
//!
//! # Protocol
//!
//! A waiter that finds the watermark below its generation
//!
//! 1. walks and completes every removal that is marked but not done, so that it never sleeps because somebody stopped
//!    in between;
//! 2. lets a bounded moment pass, for sections are short and parking is not;
//! 3. registers in the waiter count, then a full fence;
//! 4. under the chain lock walks once more, reads the watermark, and queues if it is still below;
//! 5. parks until it is woken.
//!
//! Whoever may have advanced the watermark (every finish, and every other walk that did) makes a full fence, reads
//! the waiter count, and if it is not 0 takes the chain lock and wakes those whose generation is reached.
//!
//! # Guarantee
//!
//! No wake-up is lost (INV-DI-8), and nobody is woken who would have to go back to sleep. There is no timer.

use turnstile::{Address, Outcome, Queue, Scheduler};

use crate::counters::OwnCounters;
use crate::domain::Domain;
use crate::operations::Points;
use crate::primitive::{AtomicUsize, Relaxed, SeqCst, full_fence};

/// How long a waiter hopes before it registers and parks, in pauses: about the time that parking and being woken
/// would take, some tens of microseconds.
#[cfg(not(test))]
const MOMENTS: [u32; 10] = [4, 8, 16, 32, 64, 128, 256, 256, 256, 256];
/// Short, so that the tests' schedules reach what comes after it.
#[cfg(test)]
const MOMENTS: [u32; 1] = [4];

/// The walks that may complete somebody else's removal, and then owe the look at the waiter count.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Helper {
    /// The walk of a begin.
    Begin,
    /// A waiter's walk before it registers.
    FirstWalk,
    /// A waiter's walk under the chain lock.
    Recheck,
}

/// A registration in the waiter count, withdrawn when it is dropped.
struct Registered<'a>(&'a AtomicUsize);

impl<'a> Registered<'a> {
    fn new(waiters: &'a AtomicUsize) -> Self {
        // ORD: SeqCst, and the fence: the waiter's half of the Dekker pair with `Domain::has_waiters` (INV-DI-8).
        waiters.fetch_add(1, SeqCst);
        full_fence();
        Self(waiters)
    }
}

impl Drop for Registered<'_> {
    fn drop(&mut self) {
        // ORD: Relaxed: one who reads the old count wakes nobody, at the cost of the chain lock.
        self.0.fetch_sub(1, Relaxed);
    }
}

impl<S: Scheduler> Domain<S> {
    /// The slow path of [`Participant::wait`](crate::Participant::wait): `target` was above the watermark.
    #[cold]
    pub(crate) fn wait_for(&self, target: u64, counters: &OwnCounters) {
        counters.wait.add(1);
        // A removal that is only marked has finished as far as its section is concerned.
        if (self.operations.complete)(self, Points::Reached) {
            self.wake_as_helper(Helper::FirstWalk);
        }
        for pauses in MOMENTS {
            self.point();
            if self.watermark() >= target {
                return;
            }
            self.scheduler().relax(pauses);
        }

        let mut parked = false;
        {
            self.point();
            #[cfg(all(test, feature = "std"))]
            let _registered = (self.fault != crate::tests::Fault::WaiterUnregistered)
                .then(|| Registered::new(&self.waiters));
            #[cfg(not(all(test, feature = "std")))]
            let _registered = Registered::new(&self.waiters);
            loop {
                let mut advanced = false;
                let outcome = self.turnstiles.block(self.wait_address(), Queue::Shared, target, || {
                    #[cfg(all(test, feature = "std"))]
                    if self.fault == crate::tests::Fault::NoRecheck {
                        return true;
                    }
                    advanced = (self.operations.complete)(self, Points::Suppressed);
                    // Those whom this walk let go on must be woken before this thread sleeps.
                    !advanced && self.is_still_open(target)
                });
                parked |= outcome == Outcome::Woken;
                if advanced {
                    self.wake_as_helper(Helper::Recheck);
                }
                self.point();
                if self.watermark() >= target {
                    break;
                }
            }
        }
        if parked {
            counters.wait_slow.add(1);
        }
    }

    /// Whether the watermark is below `target`.
    ///
    /// # Panics
    ///
    /// If nothing could ever raise it that far: no section is open, so `target` is no generation of this domain.
    fn is_still_open(&self, target: u64) -> bool {
        // In this order: with nothing open, the watermark is the largest generation ever issued (INV-DI-3).
        let idle = (self.operations.is_idle)(self);
        let open = self.watermark() < target;
        assert!(
            !(idle && open),
            "wait: generation {target} was never issued by this domain; its word was marked in another one"
        );
        open
    }

    /// Whether somebody waits, as seen after a full fence: called by whoever may have advanced the watermark.
    #[inline]
    pub(crate) fn has_waiters(&self) -> bool {
        #[cfg(all(test, feature = "std"))]
        if self.fault == crate::tests::Fault::FinishBlind {
            return false;
        }
        full_fence();
        // ORD: Relaxed after the fence: the other half of the Dekker pair with `Registered::new` (INV-DI-8).
        self.waiters.load(Relaxed) != 0
    }

    /// Wakes those whose generation is reached.
    #[cold]
    pub(crate) fn wake_reached(&self) {
        self.turnstiles.wake_where(self.wait_address(), Queue::Shared, |target| target <= self.watermark());
    }

    /// What a walk owes that advanced the watermark on behalf of others.
    #[cold]
    pub(crate) fn wake_as_helper(
        &self,
        #[cfg_attr(
            not(all(test, feature = "std")),
            expect(unused_variables, reason = "lets a test leave one out")
        )]
        helper: Helper,
    ) {
        #[cfg(all(test, feature = "std"))]
        if self.fault == crate::tests::Fault::HelperBlind(helper) {
            return;
        }
        self.point();
        if self.has_waiters() {
            self.wake_reached();
        }
    }

    /// How many are queued on the chain.
    #[cfg(all(test, feature = "std"))]
    pub(crate) fn parked(&self) -> usize {
        self.turnstiles.waiting(self.wait_address(), Queue::Shared)
    }

    fn wait_address(&self) -> Address {
        Address::of(&self.waiters)
    }
}
