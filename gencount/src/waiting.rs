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
//! 4. under the table's lock walks once more, reads the watermark, and queues if it is still below;
//! 5. parks until it is woken.
//!
//! Whoever may have advanced the watermark (every finish, and every other walk that did) makes a full fence, reads
//! the waiter count, and if it is not 0 takes the table's lock and wakes those whose generation is reached.
//!
//! # Guarantee
//!
//! No wake-up is lost (INV-DI-8), and nobody is woken who would have to go back to sleep. There is no timer.

use turnstile::{Address, Deadlock, Decision, Ending, Locked, Queue, TableScheduler};

use crate::common::Common;
use crate::counters::OwnCounters;
use crate::fault::Fault;
use crate::limit::Limit;
use crate::operations::Points;
use crate::slot::Slot;

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
    /// A waiter's walk before it registers, or that of somebody who asks without waiting.
    FirstWalk,
    /// A waiter's walk under the table's lock.
    Recheck,
}

/// Ends a wait that cannot return an error, on a cycle.
#[cold]
pub(crate) fn deadlocked(target: u64, deadlock: &Deadlock) -> ! {
    panic!("waiting for generation {target} would never end: {deadlock}")
}

impl<S: TableScheduler> Common<S> {
    /// The slow path of every wait whose `target` was above the watermark; false if the limit came first.
    #[cold]
    pub(crate) fn wait_for(
        &self,
        target: u64,
        counters: &OwnCounters,
        limit: impl Limit<S::Threads>,
    ) -> Result<bool, Deadlock> {
        let table = self.scheduler().table();
        if self.reaches_soon(target, counters, || limit.is_past(table)) {
            return Ok(true);
        }
        self.point();
        let mut parked = false;
        let mut deadlock = None;
        let unregistered = self.omits(Fault::WaiterUnregistered) || self.omits(Fault::LendsUnregistered);
        let _registered = (!unregistered).then(|| {
            if self.operations.finishes_lightly {
                self.waiters.register_heavily()
            } else {
                self.waiters.register()
            }
        });
        let reached = loop {
            let mut advanced = false;
            let mut expired = false;
            let ending = limit.block(table, self.wait_address(), target, |table| {
                if !self.omits(Fault::NoRecheck) && !self.must_queue(target, &mut advanced) {
                    return Decision::Proceed;
                }
                expired = limit.is_past(self.scheduler().table());
                if expired {
                    return Decision::Proceed;
                }
                deadlock = self.lend(table, target, &mut advanced).err();
                // Those whose sections held it up are lent to, or somebody else has let it go meanwhile.
                let over = advanced || (!self.omits(Fault::NoRecheck) && self.watermark() >= target);
                if deadlock.is_some() || over { Decision::Proceed } else { Decision::Wait }
            });
            if advanced {
                self.wake_as_helper(Helper::Recheck);
            }
            if let Some(deadlock) = deadlock {
                return Err(deadlock);
            }
            let ending = ending?;
            parked |= ending != Ending::NotBlocked;
            self.point();
            // Cancelled or not: a wait has one condition only.
            if self.watermark() >= target {
                break true;
            }
            if expired || ending == Ending::TimedOut {
                break false;
            }
        };
        if parked {
            counters.wait_slow.add(1);
        }
        Ok(reached)
    }

    /// What a waiter does before it registers: whether the target is reached, perhaps after a bounded moment, unless
    /// `expired` says that the moment is over.
    pub(crate) fn reaches_soon(
        &self,
        target: u64,
        counters: &OwnCounters,
        expired: impl Fn() -> bool,
    ) -> bool {
        if (self.operations.reached)(self, target) {
            return true;
        }
        counters.wait.add(1);
        if self.reaches(target) {
            return true;
        }
        for pauses in MOMENTS {
            self.point();
            if (self.operations.reached)(self, target) {
                return true;
            }
            if expired() {
                break;
            }
            self.scheduler().relax(pauses);
        }
        false
    }

    /// Whether the target is reached, after all has been completed that stopped threads have left half-done: a removal
    /// that is only marked has finished as far as its section is concerned.
    pub(crate) fn reaches(&self, target: u64) -> bool {
        if (self.operations.complete)(self, target, Points::Reached) {
            self.wake_as_helper(Helper::FirstWalk);
        }
        self.watermark() >= target
    }

    /// The re-check of a registered waiter, under the lock of its queue.
    pub(crate) fn must_queue(&self, target: u64, advanced: &mut bool) -> bool {
        *advanced = (self.operations.complete)(self, target, Points::Suppressed);
        // Those whom this walk let go on must be woken before this thread sleeps.
        !*advanced && self.is_still_open(target)
    }

    /// Whether the watermark is below `target`.
    ///
    /// # Panics
    ///
    /// If nothing could ever raise it that far: `target` is no generation of this domain.
    fn is_still_open(&self, target: u64) -> bool {
        let possible = (self.operations.may_be_issued)(self, target);
        let open = self.watermark() < target;
        assert!(
            possible || !open,
            "wait: generation {target} was never issued by this domain; its word was marked in another one"
        );
        open
    }

    /// Whether somebody waits, as seen after a full fence: called by whoever may have advanced the watermark.
    #[inline]
    pub(crate) fn has_waiters(&self) -> bool {
        !self.omits(Fault::FinishBlind) && self.waiters.any()
    }

    /// What a finish finds in its two looks, after its own effect and a full fence: waiters (`any`), or a loan that is to
    /// be taken back.
    #[inline]
    pub(crate) fn owes_a_look(&self, any: bool, slot: &Slot) -> bool {
        !self.omits(Fault::FinishBlind)
            && (any || (slot.own.loan.is_set() && !self.omits(Fault::LoanIgnored)))
    }

    /// Wakes those whose generation is reached, and ends what was lent on account of the section in `slot`, which is over.
    #[cold]
    #[inline(never)]
    pub(crate) fn let_go(&self, slot: &Slot) {
        self.wake_and(|table| self.take_back(table, slot));
    }

    /// Wakes those whose generation is reached.
    #[cold]
    pub(crate) fn wake_reached(&self) {
        self.wake_and(|_| {});
    }

    /// Under one hold of the lock: wakes, does `then`, and lends on behalf of those who are left if it must.
    fn wake_and(&self, then: impl FnOnce(&mut Locked<'_, S::Threads, 64>)) {
        self.scheduler().table().locked(|table| {
            then(table);
            let mut again = true;
            while core::mem::take(&mut again) {
                let watermark = self.watermark();
                // The largest generation that somebody still waits for.
                let mut left = 0;
                table.wake_where(self.wait_address(), Queue::Shared, usize::MAX, |waiting| {
                    let reached = waiting.token <= watermark;
                    if !reached {
                        left = left.max(waiting.token);
                    }
                    reached
                });
                if left > 0
                    && self.operations.holds_up_late
                    && !self.omits(Fault::NobodyLendsForThoseLeft)
                    && !self.omits(Fault::FinishDoesNotSettle)
                {
                    // A cycle is reported to whoever closes it: a section that is just being opened blocks on nothing.
                    let _ = self.lend(table, left, &mut again);
                    again |= self.watermark() > watermark;
                }
            }
        });
    }

    /// What a walk owes that advanced the watermark on behalf of others.
    #[cold]
    #[inline(never)]
    pub(crate) fn wake_as_helper(&self, helper: Helper) {
        if self.omits(Fault::HelperBlind(helper)) {
            return;
        }
        self.point();
        if self.has_waiters() {
            self.wake_reached();
        }
    }

    /// How many are queued.
    #[cfg(all(test, feature = "std", not(gencount_shuttle)))]
    pub(crate) fn parked(&self) -> usize {
        self.scheduler().table().waiting(self.wait_address(), Queue::Shared)
    }

    pub(crate) fn wait_address(&self) -> Address {
        Address::of(&*self.waiters)
    }
}
