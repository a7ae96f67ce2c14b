//! A mutex of one word whose waiters lend their priority to its owner.
//!
//! # Protocol
//!
//! The word is the owner's id, or 0, and a bit that says that there may be waiters. Without that bit, locking is one
//! compare-exchange from 0, and unlocking one to 0. With it, every change of the word is made under the table's lock; so is setting it.
//!
//! Whoever finds the mutex owned sets the bit and queues, under one hold of the table's lock. An unlock with the bit set takes the
//! most urgent waiter off and either makes it the owner at once (*handing over*), or frees the mutex and lets it compete with
//! those who happen to come by. It hands over if it is asked to ([`RawMutexFair`]), if the waiter is more urgent than the unlocking
//! thread's own priority, or if the waiter has lost the competition often enough. So among equals the mutex is fast and nobody starves, and an
//! urgent waiter waits for no section but the one that runs.
//!
//! The waiters that remain lend to the new owner from the same hold of the lock on (INV-M-2).

use core::fmt;
use core::marker::PhantomData;

use lock_api::{GuardNoSend, RawMutex, RawMutexFair, RawMutexTimed};

use super::{LockScheduler, deadlocked};
use crate::fault::{Fault, omits};
use crate::primitive::{Acquire, AtomicUsize, Relaxed, Release};
use crate::{Address, Deadlock, Decision, Ending, Locked, Queue, TimedScheduler};

/// Set while there may be waiters.
const WAITERS: usize = 1;
/// How often a woken waiter may lose the mutex to others before it is handed over.
const PATIENCE: u64 = 4;
/// How often a free mutex is hoped for before queueing; the pauses double each time.
const SPINS: u32 = if cfg!(any(turnstile_loom, turnstile_shuttle)) { 1 } else { 7 };

/// A mutex for [`lock_api::Mutex`] that inherits priorities, in one word.
///
/// Not recursive: locking it twice is a [`Deadlock`] of one thread.
///
/// ```
/// # #[cfg(feature = "std")] {
/// use turnstile::{Hosted, RawPiMutex};
///
/// type Mutex<T> = lock_api::Mutex<RawPiMutex<Hosted>, T>;
///
/// static COUNT: Mutex<u64> = Mutex::new(0);
/// *COUNT.lock() += 1;
/// assert_eq!(*COUNT.lock(), 1);
/// # }
/// ```
pub struct RawPiMutex<S: LockScheduler> {
    word: AtomicUsize,
    scheduler: PhantomData<fn() -> S>,
}

impl<S: LockScheduler> RawPiMutex<S> {
    pub(crate) fn address(&self) -> Address {
        Address::of(&self.word)
    }

    #[inline]
    fn me() -> usize {
        S::to_word(S::table().scheduler().current())
    }

    #[inline]
    fn take_free(&self, me: usize) -> bool {
        // ORD: Acquire pairs with the Release of `unlock` and `unlock_slowly`; Relaxed on failure: nothing is read then.
        self.word.compare_exchange(0, me, Acquire, Relaxed).is_ok()
    }

    /// Locks it, or reports the cycle that makes it impossible; `lock` panics then.
    ///
    /// # Errors
    ///
    /// [`Deadlock`] if the owner waits, directly or through others, for the current thread, or is it. If one of those waits has a
    /// time limit, it is given up at once instead.
    pub fn lock_or_deadlock(&self) -> Result<GuardNoSend, Deadlock> {
        let me = Self::me();
        if !self.take_free(me) {
            self.lock_slowly(me, |tries, decide| {
                S::table().block(self.address(), Queue::Exclusive, tries, decide)
            })?;
        }
        Ok(GuardNoSend::new())
    }

    /// Takes the mutex if it has no owner, else says whom to wait for, with the waiters' bit set.
    fn decide(&self, me: usize, table: &mut Locked<'_, S, 64>) -> Decision {
        loop {
            // ORD: Relaxed: what is done about it is a compare-exchange.
            let word = self.word.load(Relaxed);
            if let Some(owner) = S::from_word(word & !WAITERS) {
                // ORD: Relaxed both: the bit is read again under the table's lock, by the unlock that it sends there.
                if word & WAITERS != 0
                    || omits(Fault::NoWaitersBit)
                    || self.word.compare_exchange(word, word | WAITERS, Relaxed, Relaxed).is_ok()
                {
                    return Decision::WaitFor(owner);
                }
            } else {
                let awaited = table.is_awaited(self.address());
                // ORD: Acquire pairs with the Release of `unlock` and `unlock_slowly`; Relaxed on failure: nothing is read then.
                if self.word.compare_exchange(word, me | usize::from(awaited), Acquire, Relaxed).is_ok() {
                    if awaited {
                        // The thread that takes it does not wait, so there is no cycle, hence no error.
                        let _ = table.claim(self.address(), S::from_word(me));
                    }
                    return Decision::Proceed;
                }
            }
        }
    }

    /// Blocks, as `block` does it, until the mutex is this thread's; says whether it is, or the time was up.
    #[cold]
    fn lock_slowly(
        &self,
        me: usize,
        block: impl Fn(u64, &mut dyn FnMut(&mut Locked<'_, S, 64>) -> Decision) -> Result<Ending, Deadlock>,
    ) -> Result<bool, Deadlock> {
        for spin in 0..SPINS {
            // ORD: Relaxed: only looked at.
            let word = self.word.load(Relaxed);
            if word == 0 && self.take_free(me) {
                return Ok(true);
            }
            if word & WAITERS != 0 {
                break;
            }
            S::table().scheduler().relax(1 << spin);
        }
        for tries in 0.. {
            match block(tries, &mut |table| self.decide(me, table))? {
                Ending::NotBlocked => return Ok(true),
                // ORD: Acquire pairs with the Release store of the unlock that handed over.
                Ending::Woken if self.word.load(Acquire) & !WAITERS == me => return Ok(true),
                Ending::Woken | Ending::Cancelled => {}
                Ending::TimedOut => return Ok(false),
            }
        }
        unreachable!("2^64 tries");
    }

    #[cold]
    fn unlock_slowly(&self, fair: bool) {
        let (here, scheduler) = (self.address(), S::table().scheduler());
        S::table().locked(|table| {
            // In this order, so that waking changes nobody's loan but this thread's, once.
            table.disown(here);
            let Some(next) = table.first(here, Queue::Exclusive) else {
                // ORD: Release pairs with the Acquire of whoever takes it.
                self.word.store(0, Release);
                return;
            };
            let hand_over =
                fair || next.token >= PATIENCE || next.priority > scheduler.own_priority(scheduler.current());
            let remaining = usize::from(table.waiting(here, Queue::Exclusive) > 1);
            let owner = hand_over.then_some(next.thread);
            // ORD: Release pairs with the Acquire of whoever takes it, or has it handed over.
            self.word.store(owner.map_or(0, S::to_word) | remaining, Release);
            table.wake(here, Queue::Exclusive, 1);
            if !omits(Fault::NotClaimed) {
                // A thread that was just woken does not wait, so there is no cycle, hence no error.
                let _ = table.claim(here, owner);
            }
        });
    }
}

// SAFETY: a thread gets in only by a compare-exchange from no owner to its id, or by an unlock that stores its id; only
// the owner's unlock removes an id. So owners exclude each other, and each sees what its predecessor did (Acquire, Release). `INIT` has no owner.
// Guards cannot be sent. Nothing unwinds with the mutex half locked.
unsafe impl<S: LockScheduler> RawMutex for RawPiMutex<S> {
    const INIT: Self = Self { word: AtomicUsize::new(0), scheduler: PhantomData };

    type Guard = GuardNoSend;

    /// # Panics
    ///
    /// If it would wait for ever, because the owner waits for the current thread without a time limit, or is it. Those who take locks in
    /// another order use [`lock_or_deadlock`](RawPiMutex::lock_or_deadlock), or limits: a wait with a limit gives way.
    #[inline]
    fn lock(&self) -> GuardNoSend {
        match self.lock_or_deadlock() {
            Ok(guard) => guard,
            Err(deadlock) => deadlocked(self.address(), &deadlock),
        }
    }

    #[inline]
    fn try_lock(&self) -> Option<GuardNoSend> {
        let me = Self::me();
        // ORD: Relaxed: only looked at. Free, but with waiters, who must learn of their new owner.
        let taken = self.take_free(me)
            || self.word.load(Relaxed) == WAITERS
                && S::table().locked(|table| {
                    // ORD: Relaxed: without an owner, and under the table's lock, `decide` is not asked to wait.
                    self.word.load(Relaxed) & !WAITERS == 0 && self.decide(me, table) == Decision::Proceed
                });
        taken.then(GuardNoSend::new)
    }

    #[inline]
    unsafe fn unlock(&self, _guard: GuardNoSend) {
        // ORD: Relaxed: the caller owns it, so the id is known; a waiters' bit set since makes the exchange fail.
        let word = self.word.load(Relaxed);
        // ORD: Release pairs with the Acquire of whoever takes it next; Relaxed is what a test must notice.
        let order = if omits(Fault::UnlockRelaxed) { Relaxed } else { Release };
        // ORD: as above; Relaxed on failure: nothing is read then.
        if word & WAITERS != 0 || self.word.compare_exchange(word, 0, order, Relaxed).is_err() {
            self.unlock_slowly(false);
        }
    }

    #[inline]
    fn is_locked(&self) -> bool {
        // ORD: Relaxed: a snapshot, stale by the time it is returned.
        self.word.load(Relaxed) & !WAITERS != 0
    }
}

// SAFETY: as for `RawMutex`.
unsafe impl<S: LockScheduler> RawMutexFair for RawPiMutex<S> {
    #[inline]
    unsafe fn unlock_fair(&self, _guard: GuardNoSend) {
        // ORD: Relaxed and Release as in `unlock`.
        let word = self.word.load(Relaxed);
        // ORD: Release as in `unlock`.
        if word & WAITERS != 0 || self.word.compare_exchange(word, 0, Release, Relaxed).is_err() {
            self.unlock_slowly(true);
        }
    }
}

// SAFETY: as for `RawMutex`.
unsafe impl<S: LockScheduler + TimedScheduler> RawMutexTimed for RawPiMutex<S> {
    type Duration = S::Duration;
    type Instant = S::Instant;

    fn try_lock_for(&self, timeout: S::Duration) -> Option<GuardNoSend> {
        match S::table().scheduler().after(timeout) {
            Some(deadline) => self.try_lock_until(deadline),
            None => self.lock_or_deadlock().ok(),
        }
    }

    /// Gives up at `deadline`, and at once if the wait would close a cycle, or somebody without a time limit could not wait otherwise.
    fn try_lock_until(&self, deadline: S::Instant) -> Option<GuardNoSend> {
        let me = Self::me();
        let taken = self.take_free(me)
            || self
                .lock_slowly(me, |tries, decide| {
                    S::table().block_until(self.address(), Queue::Exclusive, tries, deadline, decide)
                })
                .unwrap_or(false);
        taken.then(GuardNoSend::new)
    }
}

impl<S: LockScheduler> fmt::Debug for RawPiMutex<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // ORD: Relaxed: a snapshot.
        let word = self.word.load(Relaxed);
        f.debug_struct("RawPiMutex")
            .field("owner", &S::from_word(word & !WAITERS))
            .field("waiters", &(word & WAITERS != 0))
            .finish()
    }
}
