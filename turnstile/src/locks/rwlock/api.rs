//! The reader-writer lock as `lock_api` wants it.

use core::marker::PhantomData;

use lock_api::{GuardNoSend, RawRwLock, RawRwLockDowngrade, RawRwLockFair, RawRwLockTimed};

use super::{ONE, READERS, RawPiRwLock, ReaderScheduler, Share, Table, WAITERS};
use crate::locks::deadlocked;
use crate::primitive::{AtomicUsize, Relaxed, Release};
use crate::{Decision, TimedScheduler};

// SAFETY: readers enter by exchanges from 0 or from a word that counts readers, or are counted by whoever hands over; a writer enters by an
// exchange from a word without owner, or is stored by whoever hands over; the word is changed only by those inside, or under the table's lock
// with nobody inside. Acquire and Release as commented. `INIT` is free. Guards cannot be sent.
unsafe impl<S: ReaderScheduler> RawRwLock for RawPiRwLock<S> {
    const INIT: Self = Self { word: AtomicUsize::new(0), scheduler: PhantomData };

    type SharedGuard = Share;
    type ExclusiveGuard = GuardNoSend;

    /// # Panics
    ///
    /// If it would wait for ever, because those inside wait for the current thread without a time limit; or because it is inside
    /// already, and a writer waits, with a limit or without.
    #[inline]
    fn lock_shared(&self) -> Share {
        if let Some(share) = self.share_quickly() {
            return share;
        }
        match self.share_slowly(self.block()) {
            Ok(Some(share)) => share,
            Ok(None) => unreachable!("there was no time limit"),
            Err(deadlock) => deadlocked(self.address(), &deadlock),
        }
    }

    /// Fails while writers wait, too.
    #[inline]
    fn try_lock_shared(&self) -> Option<Share> {
        self.share_quickly()
    }

    #[inline]
    unsafe fn unlock_shared(&self, share: Share) {
        let holds = Self::holds(Self::me());
        // ORD: Relaxed: what is done about it is a compare-exchange.
        let mut word = self.word.load(Relaxed);
        while word & WAITERS == 0 {
            let left = if word - ONE == READERS { 0 } else { word - ONE };
            // ORD: Release pairs with the Acquire of the next writer; Relaxed on failure.
            match self.word.compare_exchange_weak(word, left, Release, Relaxed) {
                Ok(_) => return self.clear(holds, share.slot),
                Err(now) => word = now,
            }
        }
        self.leave_shared_slowly(holds, share.slot);
    }

    /// # Panics
    ///
    /// As [`lock_shared`](Self::lock_shared); that a reader wants to write as well is one of the cases.
    #[inline]
    fn lock_exclusive(&self) -> GuardNoSend {
        let me = Self::me();
        if !self.take_free(me)
            && let Err(deadlock) = self.take_slowly(me, self.block())
        {
            deadlocked(self.address(), &deadlock);
        }
        GuardNoSend::new()
    }

    #[inline]
    fn try_lock_exclusive(&self) -> Option<GuardNoSend> {
        self.take_free(Self::me()).then(GuardNoSend::new)
    }

    #[inline]
    unsafe fn unlock_exclusive(&self, _guard: GuardNoSend) {
        // ORD: Relaxed: the caller owns it, so the id is known; a waiters' bit set since makes the exchange fail.
        let word = self.word.load(Relaxed);
        // ORD: Release pairs with the Acquire of whoever enters next; Relaxed on failure: nothing is read then.
        if word & WAITERS != 0 || self.word.compare_exchange(word, 0, Release, Relaxed).is_err() {
            S::table().locked(|table| self.hand_over(table));
        }
    }

    #[inline]
    fn is_locked(&self) -> bool {
        // ORD: Relaxed: a snapshot, stale by the time it is returned.
        self.word.load(Relaxed) & !WAITERS != 0
    }

    #[inline]
    fn is_locked_exclusive(&self) -> bool {
        // ORD: Relaxed: a snapshot, stale by the time it is returned.
        let word = self.word.load(Relaxed) & !WAITERS;
        word != 0 && word & READERS == 0
    }
}

// SAFETY: as for `RawRwLock`; every unlock with waiters hands over.
unsafe impl<S: ReaderScheduler> RawRwLockFair for RawPiRwLock<S> {
    unsafe fn unlock_shared_fair(&self, share: Share) {
        // SAFETY: the caller's promise.
        unsafe { self.unlock_shared(share) };
    }

    unsafe fn unlock_exclusive_fair(&self, guard: GuardNoSend) {
        // SAFETY: the caller's promise.
        unsafe { self.unlock_exclusive(guard) };
    }
}

// SAFETY: as for `RawRwLock`: the only thread inside exchanges its id for a count of one reader (Release), or does so under the table's lock.
unsafe impl<S: ReaderScheduler> RawRwLockDowngrade for RawPiRwLock<S> {
    unsafe fn downgrade(&self, _guard: GuardNoSend) -> Share {
        let me = Self::me();
        let slot = Self::holds(me).and_then(|holds| holds.reserve(Some(self.place())));
        // ORD: Release pairs with the Acquire of the readers that enter, and publishes the slot to `announce`. Relaxed on failure.
        if self.word.compare_exchange(S::to_word(me), READERS | ONE, Release, Relaxed).is_err() {
            self.downgrade_slowly();
        }
        Share::new(slot)
    }
}

// SAFETY: as for `RawRwLock`.
unsafe impl<S: ReaderScheduler + TimedScheduler> RawRwLockTimed for RawPiRwLock<S> {
    type Duration = S::Duration;
    type Instant = S::Instant;

    fn try_lock_shared_for(&self, timeout: S::Duration) -> Option<Share> {
        match S::table().scheduler().after(timeout) {
            Some(deadline) => self.try_lock_shared_until(deadline),
            None => Some(self.lock_shared()),
        }
    }

    /// Gives up at `deadline`, and at once if the wait would close a cycle, or somebody without a time limit could not wait otherwise.
    fn try_lock_shared_until(&self, deadline: S::Instant) -> Option<Share> {
        self.share_quickly().or_else(|| {
            self.share_slowly(|queue, token, decide: &mut dyn FnMut(&mut Table<'_, S>) -> Decision| {
                S::table().block_until(self.address(), queue, token, deadline, decide)
            })
            .unwrap_or(None)
        })
    }

    fn try_lock_exclusive_for(&self, timeout: S::Duration) -> Option<GuardNoSend> {
        match S::table().scheduler().after(timeout) {
            Some(deadline) => self.try_lock_exclusive_until(deadline),
            None => Some(self.lock_exclusive()),
        }
    }

    /// Gives up at `deadline`, and at once if the wait would close a cycle, or somebody without a time limit could not wait otherwise.
    fn try_lock_exclusive_until(&self, deadline: S::Instant) -> Option<GuardNoSend> {
        let me = Self::me();
        let taken = self.take_free(me)
            || self
                .take_slowly(me, |queue, token, decide: &mut dyn FnMut(&mut Table<'_, S>) -> Decision| {
                    S::table().block_until(self.address(), queue, token, deadline, decide)
                })
                .unwrap_or(false);
        taken.then(GuardNoSend::new)
    }
}
