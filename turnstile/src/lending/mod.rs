//! Blocking with priority inheritance: who waits lends its priority to whoever it waits for.
//!
//! # Protocol
//!
//! A thread [blocks](PiTurnstiles::block) on an address and says, under the table's lock, who owns what it waits for: one
//! thread, nobody that can be named, or several, who have registered a [`Hold`] for the address. From then on each owner runs
//! at least at the waiter's priority, and so does, if the owner is blocked too, the owner of what *it* waits for, and so on.
//!
//! Whoever lets go takes the lock ([`PiTurnstiles::locked`]), says who owns the address now ([`Locked::claim`], with `None` to
//! disown it), and wakes those it chooses ([`Locked::wake`]); all of that is one step for everybody else.
//!
//! # Guarantee
//!
//! At every moment at which the lock is free, each thread's loan is the maximum of the priorities of those who wait for it, directly or
//! through others (INV-L-3). It is recomputed from what remains whenever a wait begins or ends (woken, timed out, cancelled or
//! unwound) or ownership or a priority changes, and never restored from a saved value: locks may be released in any order. A wait
//! that would close a cycle is refused, and the cycle reported, unless a wait on it has a time limit: that one is ended (INV-L-4).
//!
//! The ideas are those of turnstiles in Solaris (Mauro and McDougall, *Solaris Internals*, section 3.6) and of the priority
//! inheritance protocol (Sha, Rajkumar and Lehoczky, IEEE Transactions on Computers 39(9), 1990).
//!
//! # Locking
//!
//! One lock guards the table: chains of owners cross addresses, so a lock per chain would have to be taken along the chain.
//! It is taken by those who block and by those who wake, not by a lock's uncontended path. Several tables are for threads that
//! have nothing to do with each other: a thread's loan is what one table computes, and [`TableScheduler`] names it.

mod cycle;
mod graph;
mod list;
mod node;
mod report;
mod scheduler;
mod table_scheduler;
#[cfg(all(test, feature = "std"))]
mod tests;

use core::fmt;

use crossbeam_utils::CachePadded;
use lock_api::Mutex;

use self::graph::Graph;
pub use self::node::Hold;
use self::node::Waiter;
pub use self::report::{Deadlock, Edge, Link, Statistics};
pub use self::scheduler::{LendingScheduler, TimedScheduler};
pub use self::table_scheduler::TableScheduler;
use crate::fault::{Fault, omits};
use crate::{Address, Priority, Queue, ThreadId, Woken};

/// How many threads are unparked after the lock is released; more of them are unparked under it.
const BATCH: usize = 16;

/// What a thread about to block finds under the table's lock.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Decision {
    /// It need not wait.
    Proceed,
    /// It waits; it lends to the owners of the [holds](Hold) that are registered for the address, if there are any.
    Wait,
    /// It waits for this thread, and lends to it, and to the owners of holds as well.
    WaitFor(ThreadId),
}

/// How a wait ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use = "only `Woken` means that a waker chose this thread"]
pub enum Ending {
    /// The decision was [`Decision::Proceed`]: the thread neither queued nor parked.
    NotBlocked,
    /// A waker chose this thread.
    Woken,
    /// [`PiTurnstiles::cancel`] ended the wait.
    Cancelled,
    /// The deadline came first, or a wait without a deadline, or a new owner, would have closed a cycle with this wait: then it
    /// gives way at once.
    TimedOut,
}

/// A waiter, as wakers see it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Waiting {
    /// Who waits.
    pub thread: ThreadId,
    /// Its priority now, with what is lent to it.
    pub priority: Priority,
    /// The number that it brought.
    pub token: u64,
}

/// A table of waiters who lend their priority to the owners of what they wait for.
///
/// It never allocates, and can be a `static`. `CHAINS` is the number of buckets in which addresses and threads are looked up.
///
/// ```
/// # #[cfg(feature = "std")] {
/// use std::sync::atomic::{AtomicUsize, Ordering::*};
/// use turnstile::{Address, Decision, Ending, Hosted, PiTurnstiles, Queue, Scheduler, ThreadId};
///
/// static TABLE: PiTurnstiles<Hosted> = PiTurnstiles::new(Hosted);
/// /// The owner's id, or 0.
/// static LOCK: AtomicUsize = AtomicUsize::new(0);
///
/// let here = Address::of(&LOCK);
/// let me = Hosted.current().get().get();
/// let ending = TABLE.block(here, Queue::Exclusive, 0, |_| {
///     match LOCK.compare_exchange(0, me, Acquire, Relaxed) {
///         Ok(_) => Decision::Proceed,
///         Err(owner) => Decision::WaitFor(ThreadId::new(owner.try_into().unwrap())),
///     }
/// });
/// assert_eq!(ending, Ok(Ending::NotBlocked));
///
/// // Once more: the thread would wait for itself.
/// let deadlock = TABLE.block(here, Queue::Exclusive, 0, |_| Decision::WaitFor(Hosted.current())).unwrap_err();
/// assert_eq!(deadlock.length(), 1);
///
/// // Unlock: the most urgent waiter becomes the owner, and the others lend to it.
/// TABLE.locked(|table| {
///     let next = table.first(here, Queue::Exclusive).map(|waiter| waiter.thread);
///     LOCK.store(next.map_or(0, |thread| thread.get().get()), Release);
///     table.wake(here, Queue::Exclusive, 1);
///     table.claim(here, next)
/// })
/// .unwrap();
/// # }
/// ```
pub struct PiTurnstiles<S: LendingScheduler, const CHAINS: usize = 64> {
    scheduler: S,
    graph: CachePadded<Mutex<S::RawLock, Graph<CHAINS>>>,
}

impl<S: LendingScheduler, const CHAINS: usize> PiTurnstiles<S, CHAINS> {
    /// An empty table.
    ///
    /// A table of no chains is refused when the program is compiled.
    #[must_use]
    pub const fn new(scheduler: S) -> Self {
        const { assert!(CHAINS > 0, "a table of turnstiles needs at least one chain") };
        Self { scheduler, graph: CachePadded::new(Mutex::new(Graph::new())) }
    }

    /// The scheduler of this table's threads.
    #[inline]
    pub fn scheduler(&self) -> &S {
        &self.scheduler
    }

    /// Runs `action` under the table's lock; the threads that it wakes are unparked afterwards.
    ///
    /// `action` must be short, must not block, must not call this table but through what it is given, and must not reach a
    /// [scheduling point](crate::Scheduler::point). If it panics, what it did up to then stays done.
    pub fn locked<R>(&self, action: impl FnOnce(&mut Locked<'_, S, CHAINS>) -> R) -> R {
        // Declared before the lock is taken, hence dropped after it is released, in unwinding too.
        let mut unparker = Unparker { table: self, batch: Batch { threads: [None; BATCH], length: 0 } };
        self.scheduler.point();
        let graph = self.graph.lock();
        action(&mut Locked { scheduler: &self.scheduler, graph: &graph, batch: &mut unparker.batch })
    }

    /// Blocks the current thread on `address` until a waker chooses it or the wait is cancelled, if `decide` says so.
    ///
    /// `decide` runs under the table's lock, and the thread is queued under the same hold of it, so no wake-up is lost if wakers
    /// change the condition under the lock or before they take it. The rules of [`locked`](Self::locked) hold for it.
    /// The thread queues by its priority, lent ones included, behind those of the same priority; later
    /// changes of its priority move it.
    ///
    /// Spurious returns of [`Scheduler::park`](crate::Scheduler::park) are not passed on. All that the waker did before happens-before the
    /// return.
    ///
    /// # Errors
    ///
    /// [`Deadlock`] if those it would wait for wait for the current thread, or are it. The thread has not queued then. If each such
    /// cycle has a wait with a deadline on it, those waits end with [`Ending::TimedOut`] instead, and the thread queues.
    pub fn block(
        &self,
        address: Address,
        queue: Queue,
        token: u64,
        decide: impl FnOnce(&mut Locked<'_, S, CHAINS>) -> Decision,
    ) -> Result<Ending, Deadlock> {
        self.block_with(address, queue, token, false, decide, || {
            self.scheduler.park();
            false
        })
    }

    /// As [`block`](Self::block), but returns [`Ending::TimedOut`] at `deadline` if nobody ended the wait before, and earlier if
    /// somebody who has no deadline could not wait otherwise. What the thread lent has been taken back then.
    ///
    /// # Errors
    ///
    /// [`Deadlock`] if those it would wait for wait for the current thread, with a deadline or without, or are it. The thread has not
    /// queued then.
    pub fn block_until(
        &self,
        address: Address,
        queue: Queue,
        token: u64,
        deadline: S::Instant,
        decide: impl FnOnce(&mut Locked<'_, S, CHAINS>) -> Decision,
    ) -> Result<Ending, Deadlock>
    where
        S: TimedScheduler,
    {
        self.block_with(address, queue, token, true, decide, || {
            self.scheduler.park_until(deadline);
            self.scheduler.is_past(deadline)
        })
    }

    fn block_with(
        &self,
        address: Address,
        queue: Queue,
        token: u64,
        is_limited: bool,
        decide: impl FnOnce(&mut Locked<'_, S, CHAINS>) -> Decision,
        // Parks; says whether to give up.
        park: impl Fn() -> bool,
    ) -> Result<Ending, Deadlock> {
        let thread = self.scheduler.current();
        let waiter = Waiter::new(address, queue, token, thread, is_limited);
        let queued = self.locked(|table| {
            match decide(table) {
                Decision::Proceed => return Ok(false),
                Decision::Wait => {}
                Decision::WaitFor(owner) => waiter.owner.set(Some(owner)),
            }
            table.admit_waiter(&waiter)?;
            // SAFETY: the waiter is new, hence not linked. It stays on this stack frame until somebody has taken it off:
            // the loop below ends only then, and unwinding drops `Enrolled`, which does it.
            unsafe { table.graph.enrol(&self.scheduler, &waiter) };
            Ok(true)
        })?;
        if !queued {
            return Ok(Ending::NotBlocked);
        }
        let enrolled = Enrolled { table: self, waiter: &waiter };
        self.scheduler.point();
        let ending = loop {
            if let Some(ending) = waiter.ended() {
                break ending;
            }
            if park() && enrolled.withdraw(|statistics| statistics.time_outs += 1) {
                break Ending::TimedOut;
            }
        };
        // The waiter is off: there is nothing left to withdraw.
        core::mem::forget(enrolled);
        Ok(ending)
    }

    /// Wakes the most urgent waiter of `queue` at `address`, the first to arrive among equals. What it lent is taken back.
    pub fn wake_one(&self, address: Address, queue: Queue) -> Woken {
        self.locked(|table| table.wake(address, queue, 1))
    }

    /// Wakes every waiter of `queue` at `address`, the most urgent first, in order of arrival among equals.
    pub fn wake_all(&self, address: Address, queue: Queue) -> Woken {
        self.locked(|table| table.wake(address, queue, usize::MAX))
    }

    /// Makes `owner` the one whom all who wait at `address` now lend to.
    ///
    /// # Errors
    ///
    /// [`Deadlock`] if the new owner waits, directly or through others, for this address. Nothing has changed then. Waits with a
    /// deadline are ended instead, as by [`block`](Self::block).
    pub fn claim(&self, address: Address, owner: ThreadId) -> Result<(), Deadlock> {
        self.locked(|table| table.claim(address, Some(owner)))
    }

    /// Leaves `address` without a single owner: those who wait there lend only to the owners of [holds](Hold).
    pub fn disown(&self, address: Address) {
        self.locked(|table| table.disown(address));
    }

    /// Ends the wait of `thread`, if it is in one: its block returns [`Ending::Cancelled`], and what it lent is taken back.
    pub fn cancel(&self, thread: ThreadId) -> bool {
        self.locked(|table| table.cancel(thread))
    }

    /// To be called after a thread's [own priority](LendingScheduler::own_priority) changed: if it is blocked, it moves to its
    /// new place in the queue, and what it lends follows, up or down. (For an owner, the scheduler alone takes care.)
    pub fn priority_changed(&self, thread: ThreadId) {
        self.locked(|table| table.graph.propagate(table.scheduler, thread));
    }

    /// How many threads wait on `queue` at `address` at this moment: for tests and statistics.
    #[must_use]
    pub fn waiting(&self, address: Address, queue: Queue) -> usize {
        self.locked(|table| table.waiting(address, queue))
    }

    /// Every waiter with those it waits for. Fills `edges` from the front; returns how many there are, which may be more.
    pub fn edges(&self, edges: &mut [Edge]) -> usize {
        self.collect(edges, |graph, give| graph.each_edge(&mut |edge| give(edge)))
    }

    /// What `thread` waits for, what the owners of that wait for, and so on, nearest first: the way to whoever holds it up.
    /// Fills and returns as [`edges`](Self::edges) does.
    pub fn chain_of(&self, thread: ThreadId, edges: &mut [Edge]) -> usize {
        self.collect(edges, |graph, give| graph.chain_of(thread, &mut |edge| give(edge)))
    }

    /// Who waits for what `thread` owns, who waits for what those own, and so on, nearest first: everybody it holds up.
    /// Fills and returns as [`edges`](Self::edges) does. Takes time in the square of the number of waiters, under the lock.
    pub fn tree_of(&self, thread: ThreadId, edges: &mut [Edge]) -> usize {
        self.collect(edges, |graph, give| graph.tree_of(thread, &mut |edge| give(edge)))
    }

    fn collect(&self, edges: &mut [Edge], walk: impl FnOnce(&Graph<CHAINS>, &mut dyn FnMut(Edge))) -> usize {
        let mut count = 0;
        self.locked(|table| {
            walk(table.graph, &mut |edge| {
                if let Some(slot) = edges.get_mut(count) {
                    *slot = edge;
                }
                count += 1;
            });
        });
        count
    }

    /// What happened since the table was made.
    #[must_use]
    pub fn statistics(&self) -> Statistics {
        self.locked(|table| table.graph.statistics.get())
    }
}

impl<S: LendingScheduler + Default, const CHAINS: usize> Default for PiTurnstiles<S, CHAINS> {
    fn default() -> Self {
        Self::new(S::default())
    }
}

impl<S: LendingScheduler, const CHAINS: usize> fmt::Debug for PiTurnstiles<S, CHAINS> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PiTurnstiles").field("chains", &CHAINS).finish_non_exhaustive()
    }
}

/// A table under its lock: several changes made through it are one step for everybody else.
pub struct Locked<'a, S: LendingScheduler, const CHAINS: usize> {
    scheduler: &'a S,
    graph: &'a Graph<CHAINS>,
    batch: &'a mut Batch,
}

impl<S: LendingScheduler, const CHAINS: usize> Locked<'_, S, CHAINS> {
    /// The most urgent waiter of `queue` at `address`, the first to arrive among equals.
    #[must_use]
    pub fn first(&self, address: Address, queue: Queue) -> Option<Waiting> {
        self.graph.first(address, queue).map(|waiter| Waiting {
            thread: waiter.thread,
            priority: waiter.priority.get(),
            token: waiter.token,
        })
    }

    /// How many wait on `queue` at `address`.
    #[must_use]
    pub fn waiting(&self, address: Address, queue: Queue) -> usize {
        self.graph.waiters(address).filter(|waiter| waiter.queue == queue).count()
    }

    /// Whether anybody waits at `address`, on either queue.
    #[must_use]
    pub fn is_awaited(&self, address: Address) -> bool {
        self.graph.waiters(address).next().is_some()
    }

    /// Takes the `limit` most urgent waiters of `queue` at `address` off, with what they lend; they are unparked once the lock
    /// is released (from the seventeenth on, under it).
    pub fn wake(&mut self, address: Address, queue: Queue, limit: usize) -> Woken {
        self.wake_where(address, queue, limit, |_| true)
    }

    /// As [`wake`](Self::wake), only those whom `accept` takes.
    pub fn wake_where(
        &mut self,
        address: Address,
        queue: Queue,
        limit: usize,
        mut accept: impl FnMut(Waiting) -> bool,
    ) -> Woken {
        let mut woken = Woken::default();
        while woken.count < limit {
            let found = self.graph.waiters(address).find(|waiter| {
                waiter.queue == queue
                    && accept(Waiting {
                        thread: waiter.thread,
                        priority: waiter.priority.get(),
                        token: waiter.token,
                    })
            });
            let Some(waiter) = found else { break };
            // SAFETY: it was found linked, under this hold of the lock.
            unsafe { self.end(waiter, Ending::Woken) };
            woken.count += 1;
        }
        woken.remaining = self.graph.first(address, queue).is_some();
        woken
    }

    /// Makes `owner` the single owner of `address`, whom all who wait there now lend to, or leaves it without one. Owners of
    /// [holds](Hold) stay what they are.
    ///
    /// # Errors
    ///
    /// [`Deadlock`] if the new owner waits, directly or through others, for this address. Nothing has changed then. Waits with a
    /// deadline are ended instead, as by [`PiTurnstiles::block`].
    pub fn claim(&mut self, address: Address, owner: Option<ThreadId>) -> Result<(), Deadlock> {
        if let Some(owner) = owner {
            // Everybody's token is at least 0.
            self.admit_owner(owner, address, 0)?;
        }
        self.graph.claim(self.scheduler, address, owner);
        Ok(())
    }

    /// Leaves `address` without a single owner.
    pub fn disown(&mut self, address: Address) {
        self.graph.claim(self.scheduler, address, None);
    }

    /// Registers `hold`: from now on all who wait at `address` with a token of at least `level`, and all such who come
    /// later, lend to `owner`. A lock's readers have level 0.
    ///
    /// # Errors
    ///
    /// [`Deadlock`] if `owner` waits, directly or through others, for that. The hold is not registered then. Waits with a deadline
    /// are ended instead, as by [`PiTurnstiles::block`].
    ///
    /// # Safety
    ///
    /// `hold` is used with this table only; it is not registered; and it stays at its place until it has been
    /// [released](Self::release).
    pub unsafe fn hold(
        &mut self,
        hold: &Hold,
        address: Address,
        owner: ThreadId,
        level: u64,
    ) -> Result<(), Deadlock> {
        self.admit_owner(owner, address, level)?;
        // SAFETY: the caller's promise.
        unsafe { self.graph.hold(self.scheduler, hold, address, owner, level) };
        Ok(())
    }

    /// Takes back what is lent through `hold`, and unregisters it; says whether it was registered.
    ///
    /// # Safety
    ///
    /// `hold` is used with this table only.
    pub unsafe fn release(&mut self, hold: &Hold) -> bool {
        // SAFETY: the caller's promise.
        unsafe { self.graph.release(self.scheduler, hold) }
    }

    /// Whether `hold` is registered.
    ///
    /// # Safety
    ///
    /// `hold` is used with this table only.
    #[must_use]
    pub unsafe fn is_registered(&self, hold: &Hold) -> bool {
        hold.owner.get().is_some()
    }

    /// Takes a waiter off, with what it lends, and sends its thread on.
    ///
    /// # Safety
    ///
    /// `waiter` is linked.
    unsafe fn end(&mut self, waiter: &Waiter, ending: Ending) {
        let thread = waiter.thread;
        // SAFETY: the caller's promise.
        unsafe { self.graph.take_off(self.scheduler, waiter) };
        self.graph.count(|statistics| match ending {
            Ending::Cancelled => statistics.cancels += 1,
            Ending::TimedOut => statistics.time_outs += 1,
            Ending::NotBlocked | Ending::Woken => {}
        });
        waiter.end(ending);
        match self.batch.threads.get_mut(self.batch.length) {
            Some(slot) => {
                *slot = Some(thread);
                self.batch.length += 1;
            }
            None => self.scheduler.unpark(thread),
        }
    }

    /// Ends the wait of `thread`, if it is in one.
    pub fn cancel(&mut self, thread: ThreadId) -> bool {
        let Some(waiter) = self.graph.blocked(thread) else { return false };
        // SAFETY: it was found linked, under this hold of the lock.
        unsafe { self.end(waiter, Ending::Cancelled) };
        true
    }
}

impl<S: LendingScheduler, const CHAINS: usize> fmt::Debug for Locked<'_, S, CHAINS> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Locked").finish_non_exhaustive()
    }
}

/// A linked waiter: takes it off when `park` unwinds or the time is up.
struct Enrolled<'a, S: LendingScheduler, const CHAINS: usize> {
    table: &'a PiTurnstiles<S, CHAINS>,
    waiter: &'a Waiter,
}

impl<S: LendingScheduler, const CHAINS: usize> Enrolled<'_, S, CHAINS> {
    /// Takes the waiter off, with what it lends, unless somebody else has; says whether it did.
    fn withdraw(&self, count: impl FnOnce(&mut Statistics)) -> bool {
        let graph = self.table.graph.lock();
        if self.waiter.ended().is_some() {
            return false;
        }
        // SAFETY: it was enrolled, and whoever else takes it off ends it under the same lock.
        unsafe {
            if omits(Fault::NotTakenBack) {
                graph.unlink(self.waiter);
            } else {
                graph.take_off(&self.table.scheduler, self.waiter);
            }
        }
        graph.count(count);
        true
    }
}

impl<S: LendingScheduler, const CHAINS: usize> Drop for Enrolled<'_, S, CHAINS> {
    fn drop(&mut self) {
        self.withdraw(|_| {});
    }
}

/// Threads that have been taken off and are still to be unparked.
struct Batch {
    threads: [Option<ThreadId>; BATCH],
    length: usize,
}

/// Unparks a batch when it is dropped, after the lock was released; only then is this thread lowered (INV-L-8).
struct Unparker<'a, S: LendingScheduler, const CHAINS: usize> {
    table: &'a PiTurnstiles<S, CHAINS>,
    batch: Batch,
}

impl<S: LendingScheduler, const CHAINS: usize> Drop for Unparker<'_, S, CHAINS> {
    fn drop(&mut self) {
        let scheduler = &self.table.scheduler;
        for thread in self.batch.threads.iter().take(self.batch.length).flatten() {
            scheduler.unpark(*thread);
        }
        if scheduler.is_unsettled() {
            let _graph = self.table.graph.lock();
            scheduler.settle();
        }
    }
}
