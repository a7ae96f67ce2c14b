//! Locks whose waiters take interrupts.
//!
//! One word per lock. Waiters that a short spin does not help register in a table of wait queues that is
//! keyed by the lock's address, and park on their doorbell; an interrupt rings the same doorbell, so
//! whoever waits serves shootdowns. Two CPUs that shoot at each other while each waits for a lock that the
//! other holds both go on.
//!
//! No lost wake-up (INV-M-11): a waiter registers and sets `WAITERS`, then tries again, then parks. An unlock
//! clears the lock and reads `WAITERS` in one atomic operation, so either the waiter's second try sees
//! the lock free or the unlock sees the waiter. After that operation an unlock does not touch the lock
//! any more: its next owner may free it at once. That is why the queues lie elsewhere.
//!
//! Locks can be barged, but a waiter that has been woken in vain for the eighth time reserves the lock;
//! then only it can take it.
//!
//! Threads that are no CPU may use these locks too; they sleep on a doorbell of their own.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex as HostMutex, MutexGuard as HostGuard, PoisonError};
use std::vec::Vec;

use lock_api::GuardNoSend;

use super::baton::Event;
use super::context;
use super::doorbell::Bell;
use super::fault::Fallible;

/// Held exclusively.
const LOCKED: u32 = 1;
/// Somebody is registered in the table.
const WAITERS: u32 = 2;
/// Only the waiter that set this may take the lock.
const RESERVED: u32 = 4;
/// One reader; the bits from here on count them.
const READER: u32 = 8;

/// Looks before the first sleep.
const SPINS: u32 = 40;
/// Sleeps in vain before a waiter reserves the lock.
const PATIENCE: u32 = 8;

/// A mutex for what simulated CPUs share. See [`RawMutex`].
pub type Mutex<T> = lock_api::Mutex<RawMutex, T>;
/// Guard of a [`Mutex`].
pub type MutexGuard<'a, T> = lock_api::MutexGuard<'a, RawMutex, T>;
/// A reader-writer lock for what simulated CPUs share. See [`RawRwLock`].
pub type RwLock<T> = lock_api::RwLock<RawRwLock, T>;
/// Shared guard of an [`RwLock`].
pub type RwLockReadGuard<'a, T> = lock_api::RwLockReadGuard<'a, RawRwLock, T>;
/// Exclusive guard of an [`RwLock`].
pub type RwLockWriteGuard<'a, T> = lock_api::RwLockWriteGuard<'a, RawRwLock, T>;

type Queue = Vec<(usize, Bell)>;

/// Wait queues of all locks of the process, by a hash of the lock's address; in order of arrival.
static QUEUES: [HostMutex<Queue>; 64] = [const { HostMutex::new(Vec::new()) }; 64];

fn queue(lock: usize) -> HostGuard<'static, Queue> {
    let hash = (lock as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 58;
    QUEUES[hash as usize].lock().unwrap_or_else(PoisonError::into_inner)
}

/// Wakes the first waiter for the lock at this address, or all.
#[cold]
fn wake(lock: usize, all: bool) {
    let bells: Vec<Bell> = {
        let queue = queue(lock);
        let waiting = queue.iter().filter(|(at, _)| *at == lock).map(|(_, bell)| bell.clone());
        waiting.take(if all { usize::MAX } else { 1 }).collect()
    };
    bells.iter().for_each(Bell::ring);
}

/// One thread's wait for one lock.
struct Waiter<'a> {
    word: &'a AtomicU32,
    registered: Option<Bell>,
    reserved: bool,
}

impl Waiter<'_> {
    fn address(&self) -> usize {
        core::ptr::from_ref(self.word).addr()
    }

    fn register(&mut self) {
        let bell = context::bell();
        let mut queue = queue(self.address());
        queue.push((self.address(), bell.clone()));
        // ORD: SeqCst; see the module documentation: set before the try that precedes the park.
        self.word.fetch_or(WAITERS, Ordering::SeqCst);
        self.registered = Some(bell);
    }

    /// Keeps the lock for this waiter, unless another one has done so.
    fn reserve(&mut self) -> bool {
        // ORD: Relaxed; only a permission among those who take the lock with Acquire.
        self.reserved = self.word.fetch_or(RESERVED, Ordering::Relaxed) & RESERVED == 0;
        self.reserved
    }

    fn deregister(&mut self) {
        if let Some(own) = self.registered.take() {
            let mut queue = queue(self.address());
            if let Some(at) = queue.iter().position(|(at, bell)| *at == self.address() && bell.is(&own)) {
                queue.remove(at);
            }
            if !queue.iter().any(|(at, _)| *at == self.address()) {
                // ORD: Relaxed; under the queue's lock, as every registration.
                self.word.fetch_and(!WAITERS, Ordering::Relaxed);
            }
        }
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        let abandoned = self.registered.is_some();
        if core::mem::take(&mut self.reserved) {
            // ORD: Relaxed, as in `reserve`.
            self.word.fetch_and(!RESERVED, Ordering::Relaxed);
        }
        self.deregister();
        if abandoned {
            // The wake-up that was meant for this waiter, or the lock that it reserved, is for others now.
            wake(self.address(), true);
        }
    }
}

/// Tries once: `next` gives the word's value after taking the lock, or `None` while it cannot be taken.
#[inline]
fn attempt(word: &AtomicU32, reserved: bool, next: impl Fn(u32) -> Option<u32>) -> bool {
    let permitted = |state: u32| {
        let state = if reserved { state & !RESERVED } else { state };
        if state & RESERVED != 0 { None } else { next(state) }
    };
    // ORD: SeqCst on success, which includes Acquire: pairs with the Release in the unlock; SeqCst on
    // the load for the order against `register`.
    word.try_update(Ordering::SeqCst, Ordering::SeqCst, permitted).is_ok()
}

#[cold]
fn wait(word: &AtomicU32, why: &'static str, quiet: bool, next: impl Fn(u32) -> Option<u32>) {
    let mut waiter = Waiter { word, registered: None, reserved: false };
    let mut spins = if context::may_spin() { SPINS } else { 0 };
    let mut in_vain = 0;
    loop {
        if attempt(word, waiter.reserved, &next) {
            // Taking a reserved lock has cleared the reservation.
            waiter.reserved = false;
            waiter.deregister();
            return;
        }
        if spins > 0 {
            spins -= 1;
            core::hint::spin_loop();
            continue;
        }
        if waiter.registered.is_none() {
            waiter.register();
            continue;
        }
        if in_vain >= PATIENCE && !waiter.reserved && waiter.reserve() {
            continue;
        }
        context::park(why, quiet);
        in_vain += 1;
    }
}

/// A mutual-exclusion lock for simulated CPUs.
///
/// # Panics
///
/// Locking panics if the machine is poisoned (another of its CPUs has panicked) and the lock does not
/// come free; so does locking in deterministic mode when that makes a deadlock complete. With `QUIET`
/// it never panics: for leaf locks, whose holders wait for nothing and so let go whatever happens.
#[derive(Debug)]
pub struct RawMutex<const QUIET: bool = false>(AtomicU32);

impl<const QUIET: bool> RawMutex<QUIET> {
    fn next(state: u32) -> Option<u32> {
        (state & LOCKED == 0).then_some(state | LOCKED)
    }
}

// SAFETY: the lock is taken by a compare-exchange that requires LOCKED clear and sets it (`attempt`), with
// Acquire, and released with Release; guards carry no state. `wait` unwinds only from `park`, without the
// lock. The lock word is not touched after its release and so may be moved or dropped by the next owner;
// its address is a key only, and a registered waiter borrows it.
unsafe impl<const QUIET: bool> lock_api::RawMutex for RawMutex<QUIET> {
    const INIT: Self = Self(AtomicU32::new(0));

    type Guard = GuardNoSend;

    #[inline]
    fn lock(&self) -> GuardNoSend {
        context::point(Event::Lock);
        if !attempt(&self.0, false, Self::next) {
            wait(&self.0, "lock", QUIET, Self::next);
        }
        GuardNoSend::new()
    }

    #[inline]
    fn try_lock(&self) -> Option<GuardNoSend> {
        context::point(Event::Lock);
        if context::with(|here| here.is_some_and(|here| here.machine.faults.strikes(Fallible::TryLock))) {
            return None;
        }
        attempt(&self.0, false, Self::next).then(GuardNoSend::new)
    }

    #[inline]
    unsafe fn unlock(&self, _: GuardNoSend) {
        let address = core::ptr::from_ref(&self.0).addr();
        // ORD: SeqCst, which includes Release for the next owner's Acquire; orders it against `register`.
        let old = self.0.fetch_and(!LOCKED, Ordering::SeqCst);
        if old & WAITERS != 0 {
            wake(address, old & RESERVED != 0);
        }
        context::point(Event::Unlock);
    }

    fn is_locked(&self) -> bool {
        // ORD: Relaxed; a snapshot.
        self.0.load(Ordering::Relaxed) & LOCKED != 0
    }
}

/// A reader-writer lock for simulated CPUs. Not recursive: a reader that locks again can wait for a
/// writer that waits for it.
///
/// # Panics
///
/// As [`RawMutex`].
#[derive(Debug)]
pub struct RawRwLock(AtomicU32);

impl RawRwLock {
    fn next_shared(state: u32) -> Option<u32> {
        // The count has 29 bits and a CPU holds few locks; the check keeps an overflow from unlocking.
        if state & LOCKED == 0 { state.checked_add(READER) } else { None }
    }

    fn next_exclusive(state: u32) -> Option<u32> {
        (state & LOCKED == 0 && state < READER).then_some(state | LOCKED)
    }
}

// SAFETY: as `RawMutex`; besides, a reader requires LOCKED clear and counts itself, a writer requires
// the count to be zero, all in one compare-exchange.
unsafe impl lock_api::RawRwLock for RawRwLock {
    const INIT: Self = Self(AtomicU32::new(0));

    type SharedGuard = GuardNoSend;
    type ExclusiveGuard = GuardNoSend;

    #[inline]
    fn lock_shared(&self) -> GuardNoSend {
        context::point(Event::Lock);
        if !attempt(&self.0, false, Self::next_shared) {
            wait(&self.0, "shared lock", false, Self::next_shared);
        }
        GuardNoSend::new()
    }

    #[inline]
    fn try_lock_shared(&self) -> Option<GuardNoSend> {
        context::point(Event::Lock);
        attempt(&self.0, false, Self::next_shared).then(GuardNoSend::new)
    }

    #[inline]
    unsafe fn unlock_shared(&self, _: GuardNoSend) {
        let address = core::ptr::from_ref(&self.0).addr();
        // ORD: SeqCst, as in `RawMutex::unlock`.
        let old = self.0.fetch_sub(READER, Ordering::SeqCst);
        if old / READER == 1 && old & WAITERS != 0 {
            wake(address, true);
        }
        context::point(Event::Unlock);
    }

    #[inline]
    fn lock_exclusive(&self) -> GuardNoSend {
        context::point(Event::Lock);
        if !attempt(&self.0, false, Self::next_exclusive) {
            wait(&self.0, "exclusive lock", false, Self::next_exclusive);
        }
        GuardNoSend::new()
    }

    #[inline]
    fn try_lock_exclusive(&self) -> Option<GuardNoSend> {
        context::point(Event::Lock);
        attempt(&self.0, false, Self::next_exclusive).then(GuardNoSend::new)
    }

    #[inline]
    unsafe fn unlock_exclusive(&self, _: GuardNoSend) {
        let address = core::ptr::from_ref(&self.0).addr();
        // ORD: SeqCst, as in `RawMutex::unlock`.
        let old = self.0.fetch_and(!LOCKED, Ordering::SeqCst);
        if old & WAITERS != 0 {
            wake(address, true);
        }
        context::point(Event::Unlock);
    }

    fn is_locked(&self) -> bool {
        // ORD: Relaxed; a snapshot.
        self.0.load(Ordering::Relaxed) & !(WAITERS | RESERVED) != 0
    }

    fn is_locked_exclusive(&self) -> bool {
        // ORD: Relaxed; a snapshot.
        self.0.load(Ordering::Relaxed) & LOCKED != 0
    }
}
