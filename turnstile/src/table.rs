//! The table of chains: blocking on an address, and waking by address.
//!
//! # Protocol
//!
//! A thread blocks on an *address*: of a lock, of a counter, of anything that is shared by those who wait and those
//! who wake. The address is only a name; nothing is read through it. It is hashed to one of the table's chains.
//!
//! * [`Turnstiles::block`] takes the chain lock, asks the caller's `still_blocked`, and only if that says yes
//!   links the waiter. Both happen under one hold of the chain lock.
//! * A waker first makes whatever the waiters wait for true, and then calls [`Turnstiles::wake_one`],
//!   [`Turnstiles::wake_all`] or [`Turnstiles::wake_where`], which take the same chain lock.
//!
//! # Guarantee
//!
//! No wake-up is lost. If the waker's hold of the chain lock comes first, the waiter's `still_blocked` runs after
//! it and sees the condition. If the waiter's comes first, the waker finds it linked (INV-T-4).

use core::fmt;

use crossbeam_utils::CachePadded;
use lock_api::Mutex;

use crate::fault::{Fault, omits};
use crate::waiter::{Chain, Request, Waiter};
use crate::{Scheduler, ThreadId};

/// What threads wait on: a name, usually where the thing waited for lies. Nothing is read through it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(transparent)]
pub struct Address(usize);

impl Address {
    /// A number of the caller's own choice.
    #[inline]
    #[must_use]
    pub const fn new(address: usize) -> Self {
        Self(address)
    }

    /// Where `thing` lies. It must not move while threads wait on it.
    #[inline]
    #[must_use]
    pub fn of<T: ?Sized>(thing: &T) -> Self {
        Self(core::ptr::from_ref(thing).addr())
    }

    /// A chain's index below `chains`.
    pub(crate) fn bucket(self, chains: usize) -> usize {
        // Fibonacci hashing: 2^64 divided by the golden ratio spreads addresses that differ in few bits over
        // the product's upper half (Knuth, The Art of Computer Programming, volume 3, section 6.4).
        const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;
        let hash = (self.0 as u64).wrapping_mul(GOLDEN) >> 32;
        // `hash` is below 2^32, so the product shifted back is below `chains`.
        ((u128::from(hash) * chains as u128) >> 32) as usize
    }
}

/// Which of the two queues of an address: those who want it alone, and those who can have it together.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Queue {
    /// For waiters that exclude each other (writers); usually woken one at a time.
    Exclusive,
    /// For waiters that can all go on together (readers, those who wait for an event); usually woken all at once.
    Shared,
}

/// How a call of [`Turnstiles::block`] ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use = "a caller that did not park may have to look again"]
pub enum Outcome {
    /// `still_blocked` said no: the thread neither queued nor parked.
    NotBlocked,
    /// The thread waited, and a waker chose it.
    Woken,
}

/// What a waker did.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Woken {
    /// How many waiters were woken.
    pub count: usize,
    /// Whether, when the chain lock was last held, others were left in the same queue of the same address.
    pub remaining: bool,
}

/// How many threads are unparked after one hold of the chain lock.
const BATCH: usize = 16;

/// A table of `CHAINS` chains of waiters, each under a lock of its own.
///
/// Waiters lie on the stacks of the threads that wait, so the table never allocates, and it can be a `static`.
/// One chain is enough for a table that serves one address; addresses that share a chain share its lock, but
/// never each other's wake-ups.
///
/// ```
/// # #[cfg(feature = "std")] {
/// use std::sync::atomic::{AtomicBool, Ordering};
/// use turnstile::{Address, Hosted, Outcome, Queue, Turnstiles};
///
/// static TABLE: Turnstiles<Hosted> = Turnstiles::new(Hosted);
/// static READY: AtomicBool = AtomicBool::new(false);
///
/// let waiter = std::thread::spawn(|| {
///     while !READY.load(Ordering::Acquire) {
///         let _ = TABLE.block(Address::of(&READY), Queue::Shared, 0, || !READY.load(Ordering::Acquire));
///     }
/// });
/// READY.store(true, Ordering::Release);
/// TABLE.wake_all(Address::of(&READY), Queue::Shared);
/// waiter.join().unwrap();
/// # let done = TABLE.block(Address::of(&READY), Queue::Shared, 0, || false);
/// # assert_eq!(done, Outcome::NotBlocked);
/// # }
/// ```
pub struct Turnstiles<S: Scheduler, const CHAINS: usize = 64> {
    scheduler: S,
    chains: [CachePadded<Mutex<S::RawLock, Chain>>; CHAINS],
}

impl<S: Scheduler, const CHAINS: usize> Turnstiles<S, CHAINS> {
    /// An empty table.
    ///
    /// A table of no chains is refused when the program is compiled.
    #[must_use]
    pub const fn new(scheduler: S) -> Self {
        const { assert!(CHAINS > 0, "a table of turnstiles needs at least one chain") };
        Self { scheduler, chains: [const { CachePadded::new(Mutex::new(Chain::new())) }; CHAINS] }
    }

    /// The scheduler that this table parks and unparks threads with.
    #[inline]
    pub fn scheduler(&self) -> &S {
        &self.scheduler
    }

    fn chain(&self, address: Address) -> &Mutex<S::RawLock, Chain> {
        &self.chains[address.bucket(CHAINS)]
    }

    /// Blocks the current thread on `address` until a waker chooses it, if `still_blocked` says so.
    ///
    /// `still_blocked` runs under the chain lock. It must be short, must not block, must not call this table, and
    /// must not reach a [scheduling point](Scheduler::point). If it panics, nothing has been queued.
    ///
    /// The thread queues by its priority at this moment, behind those of the same priority. `token` is handed to
    /// the filter of [`wake_where`](Self::wake_where): a ticket number, say.
    ///
    /// Spurious returns of [`Scheduler::park`] are not passed on: [`Outcome::Woken`] means that a waker chose this
    /// thread. All that the waker did before happens-before the return.
    pub fn block(
        &self,
        address: Address,
        queue: Queue,
        token: u64,
        still_blocked: impl FnOnce() -> bool,
    ) -> Outcome {
        let thread = self.scheduler.current();
        let priority = self.scheduler.priority(thread);
        let waiter = Waiter::new(Request { address, queue, token, thread, priority });
        let chain = self.chain(address);

        self.scheduler.point();
        {
            let mut chain = chain.lock();
            if !omits(Fault::NoRecheck) && !still_blocked() {
                return Outcome::NotBlocked;
            }
            // SAFETY: the waiter is new, hence not linked. It stays on this stack frame until a waker has taken
            // it off or `Enrolled` has: the loop below ends only when it is woken, and unwinding drops `Enrolled`.
            unsafe { chain.insert(&waiter) };
        }
        let enrolled = Enrolled { table: self, address, queue, waiter: &waiter };
        self.scheduler.point();
        while !waiter.is_woken() {
            self.scheduler.park();
        }
        // The waker has taken the waiter off: there is nothing left to withdraw.
        core::mem::forget(enrolled);
        Outcome::Woken
    }

    /// Wakes the most urgent waiter of `queue` at `address`, the first to arrive among equals.
    pub fn wake_one(&self, address: Address, queue: Queue) -> Woken {
        self.wake(address, queue, 1, &mut |_| true)
    }

    /// Wakes every waiter of `queue` at `address`, the most urgent first, in order of arrival among equals.
    pub fn wake_all(&self, address: Address, queue: Queue) -> Woken {
        self.wake(address, queue, usize::MAX, &mut |_| true)
    }

    /// Wakes every waiter of `queue` at `address` whose token `accept` takes, in the order of
    /// [`wake_all`](Self::wake_all).
    ///
    /// `accept` runs under the chain lock, and may be asked several times about one waiter; the rules for
    /// [`block`](Self::block)'s closure hold for it too. If it panics, those it had accepted are woken before the
    /// panic travels on.
    pub fn wake_where(&self, address: Address, queue: Queue, mut accept: impl FnMut(u64) -> bool) -> Woken {
        self.wake(address, queue, usize::MAX, &mut accept)
    }

    fn wake(
        &self,
        address: Address,
        queue: Queue,
        limit: usize,
        accept: &mut dyn FnMut(u64) -> bool,
    ) -> Woken {
        let chain = self.chain(address);
        let mut result = Woken::default();
        // Those who arrive while earlier batches are being unparked are not this call's business.
        let mut before = None;
        loop {
            // Declared before the lock is taken, hence dropped after it is released, in unwinding too.
            let mut batch = Batch { scheduler: &self.scheduler, threads: [None; BATCH], length: 0 };
            self.scheduler.point();
            let mut chain = chain.lock();
            let before = *before.get_or_insert(chain.arrivals());
            let mut start = chain.first();
            while result.count < limit && batch.length < BATCH {
                // SAFETY: `start` was linked when it was read, under this very hold of the lock, and not taken since.
                let Some(waiter) = (unsafe { chain.find(start, address, queue, before, accept) }) else {
                    break;
                };
                // SAFETY: it was found linked under this very hold of the lock.
                unsafe {
                    start = chain.behind(waiter);
                    batch.push(chain.take(waiter));
                }
                result.count += 1;
            }
            if batch.length < BATCH || result.count == limit {
                let start = chain.first();
                // SAFETY: the first waiter is linked.
                result.remaining =
                    unsafe { chain.find(start, address, queue, u64::MAX, &mut |_| true) }.is_some();
                return result;
            }
        }
    }

    /// How many threads wait on `queue` at `address` at this moment: for tests and statistics.
    #[must_use]
    pub fn waiting(&self, address: Address, queue: Queue) -> usize {
        self.chain(address).lock().count(address, queue)
    }
}

impl<S: Scheduler + Default, const CHAINS: usize> Default for Turnstiles<S, CHAINS> {
    fn default() -> Self {
        Self::new(S::default())
    }
}

impl<S: Scheduler, const CHAINS: usize> fmt::Debug for Turnstiles<S, CHAINS> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Turnstiles").field("chains", &CHAINS).finish_non_exhaustive()
    }
}

/// A linked waiter: takes it off its chain when `park` unwinds.
struct Enrolled<'a, S: Scheduler, const CHAINS: usize> {
    table: &'a Turnstiles<S, CHAINS>,
    address: Address,
    queue: Queue,
    waiter: &'a Waiter,
}

impl<S: Scheduler, const CHAINS: usize> Drop for Enrolled<'_, S, CHAINS> {
    fn drop(&mut self) {
        // SAFETY: `block` inserted it in this chain before it made this value.
        let withdrawn = unsafe { self.table.chain(self.address).lock().withdraw(self.waiter) };
        // A waker has chosen this thread, which will not do what it was woken for: the next one is (INV-T-4).
        if !withdrawn && self.queue == Queue::Exclusive {
            self.table.wake_one(self.address, self.queue);
        }
    }
}

/// Threads that have been taken off a chain and are still to be unparked, once the chain lock is released.
struct Batch<'a, S: Scheduler> {
    scheduler: &'a S,
    threads: [Option<ThreadId>; BATCH],
    length: usize,
}

impl<S: Scheduler> Batch<'_, S> {
    fn push(&mut self, thread: ThreadId) {
        self.threads[self.length] = Some(thread);
        self.length += 1;
    }
}

impl<S: Scheduler> Drop for Batch<'_, S> {
    fn drop(&mut self) {
        for thread in self.threads.iter().take(self.length).flatten() {
            self.scheduler.unpark(*thread);
        }
    }
}
