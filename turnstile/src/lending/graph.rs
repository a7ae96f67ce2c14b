//! Who waits for whom, and what follows for the priorities.
//!
//! Threads and the records between them form a graph: a waiter points at the owners of its address. An owner's loan is
//! the maximum of the priorities of the waiters that point at it; a waiter's priority is the maximum of its thread's own
//! priority and its thread's loan. The graph has no cycle (INV-L-4), so these equations have one solution, and
//! [`Graph::propagate`] restores it after every change: it recomputes the owners of each waiter whose priority changed,
//! until none does (INV-L-3). No priority is ever saved to be restored later.
//!
//! Nothing recurses and nothing allocates: work that is left to do is queued through the waiters themselves.

use core::cell::Cell;
use core::ptr::NonNull;

use super::list::List;
use super::node::{ByAddress, ByOwner, ByThread, Hold, Waiter};
use super::report::{Edge, Statistics};
use crate::fault::{Fault, omits};
use crate::{Address, LendingScheduler, Priority, Queue, ThreadId};

/// The lists of one bucket. Addresses and threads are hashed into the same array, for brevity only.
struct Bucket {
    /// By priority, the most urgent first, then by arrival (INV-L-2).
    waiters: List<Waiter, ByAddress>,
    holds: List<Hold, ByAddress>,
    /// The waiters whose single owner is hashed here.
    lenders: List<Waiter, ByOwner>,
    /// The holds whose owner is hashed here.
    held: List<Hold, ByOwner>,
    /// The waiters whose thread is hashed here.
    blocked: List<Waiter, ByThread>,
}

impl Bucket {
    const fn new() -> Self {
        Self {
            waiters: List::new(),
            holds: List::new(),
            lenders: List::new(),
            held: List::new(),
            blocked: List::new(),
        }
    }
}

/// All records of a table. Shared references suffice, because the table's lock is held by whoever has one.
pub(super) struct Graph<const CHAINS: usize> {
    buckets: [Bucket; CHAINS],
    arrivals: Cell<u64>,
    pub(super) searches: Cell<u64>,
    work_head: Cell<Option<NonNull<Waiter>>>,
    work_tail: Cell<Option<NonNull<Waiter>>>,
    pub(super) statistics: Cell<Statistics>,
}

// SAFETY: a graph is reached only through its table's lock; the records that it points to are alive while linked, and
// their cells are touched under that lock only.
unsafe impl<const CHAINS: usize> Send for Graph<CHAINS> {}

impl<const CHAINS: usize> Graph<CHAINS> {
    pub(super) const fn new() -> Self {
        Self {
            buckets: [const { Bucket::new() }; CHAINS],
            arrivals: Cell::new(0),
            searches: Cell::new(0),
            work_head: Cell::new(None),
            work_tail: Cell::new(None),
            statistics: Cell::new(Statistics { blocks: 0, hops: 0, deadlocks: 0, time_outs: 0, cancels: 0 }),
        }
    }

    fn at(&self, address: Address) -> &Bucket {
        &self.buckets[address.bucket(CHAINS)]
    }

    fn of(&self, thread: ThreadId) -> &Bucket {
        self.at(Address::new(thread.get().get()))
    }

    pub(super) fn count(&self, change: impl FnOnce(&mut Statistics)) {
        let mut statistics = self.statistics.get();
        change(&mut statistics);
        self.statistics.set(statistics);
    }

    /// The waiters at `address`, the most urgent first, then by arrival.
    pub(super) fn waiters(&self, address: Address) -> impl Iterator<Item = &Waiter> {
        // SAFETY: the references live as long as this borrow, and callers stop using one once they unlinked it.
        unsafe { self.at(address).waiters.iter() }.filter(move |waiter| waiter.address == address)
    }

    /// Every waiter.
    pub(super) fn all(&self) -> impl Iterator<Item = &Waiter> {
        // SAFETY: as in `waiters`.
        self.buckets.iter().flat_map(|bucket| unsafe { bucket.waiters.iter() })
    }

    /// The wait that `thread` is in.
    pub(super) fn blocked(&self, thread: ThreadId) -> Option<&Waiter> {
        // SAFETY: as in `waiters`.
        unsafe { self.of(thread).blocked.iter() }.find(|waiter| waiter.thread == thread)
    }

    /// Those whom `waiter` lends to; may name one several times.
    pub(super) fn owners(&self, waiter: &Waiter) -> impl Iterator<Item = ThreadId> + '_ {
        let (address, token) = (waiter.address, waiter.token);
        // SAFETY: holds are unlinked under the table's lock, and no user of this iterator does it.
        let holds = unsafe { self.at(address).holds.iter() };
        waiter.owner.get().into_iter().chain(
            holds
                .filter(move |hold| hold.address.get() == Some(address) && hold.level.get() <= token)
                .filter_map(|hold| hold.owner.get()),
        )
    }

    /// What `thread` is lent: the maximum over everybody who waits for what it owns.
    pub(super) fn loan(&self, thread: ThreadId) -> Option<Priority> {
        let bucket = self.of(thread);
        // SAFETY: nothing is unlinked while these iterate.
        let (lenders, held) = unsafe { (bucket.lenders.iter(), bucket.held.iter()) };
        let single = lenders
            .filter(|waiter| waiter.owner.get() == Some(thread))
            .map(|waiter| waiter.priority.get())
            .max();
        let shared = held
            .filter(|hold| hold.owner.get() == Some(thread))
            .filter_map(|hold| {
                let address = hold.address.get()?;
                // The first is the most urgent.
                self.waiters(address).find(|waiter| waiter.token >= hold.level.get())
            })
            .map(|waiter| waiter.priority.get())
            .max();
        single.max(shared)
    }

    fn rank(&self, waiter: &Waiter, priority: Priority) {
        waiter.priority.set(priority);
        let key = (core::cmp::Reverse(priority), waiter.arrival.get());
        // SAFETY: callers took the waiter out of this list, or had not yet put it in.
        unsafe {
            self.at(waiter.address).waiters.insert(waiter, |other| {
                (core::cmp::Reverse(other.priority.get()), other.arrival.get()) < key
            });
        }
    }

    /// Recomputes what is lent to `thread`; if it is blocked and its priority changes by that, its own owners are
    /// queued for [`propagate`](Self::propagate).
    fn refresh<S: LendingScheduler>(&self, scheduler: &S, thread: ThreadId) {
        let loan = self.loan(thread);
        match loan {
            Some(priority) => scheduler.lend(thread, priority),
            None => scheduler.unlend(thread),
        }
        let Some(waiter) = self.blocked(thread) else { return };
        let priority =
            loan.map_or(scheduler.own_priority(thread), |loan| loan.max(scheduler.own_priority(thread)));
        if priority != waiter.priority.get() {
            // SAFETY: `blocked` finds linked waiters only; `rank` puts it back.
            unsafe { self.at(waiter.address).waiters.unlink(waiter) };
            if omits(Fault::ArrivesAnew) {
                waiter.arrival.set(self.arrivals.replace(self.arrivals.get() + 1));
            }
            self.rank(waiter, priority);
            self.count(|statistics| statistics.hops += 1);
            if !omits(Fault::NotTransitive) {
                self.push_work(waiter);
            }
        }
    }

    pub(super) fn push_work(&self, waiter: &Waiter) {
        if waiter.has_work.replace(true) {
            return;
        }
        let this = Some(NonNull::from(waiter));
        waiter.work.set(None);
        match self.work_tail.replace(this) {
            // SAFETY: what is in the queue of work is linked, hence alive: nothing is unlinked before it is empty.
            Some(tail) => unsafe { tail.as_ref() }.work.set(this),
            None => self.work_head.set(this),
        }
    }

    pub(super) fn pop_work(&self) -> Option<&Waiter> {
        // SAFETY: as in `push_work`.
        let waiter = unsafe { self.work_head.get()?.as_ref() };
        self.work_head.set(waiter.work.take());
        if self.work_head.get().is_none() {
            self.work_tail.set(None);
        }
        waiter.has_work.set(false);
        Some(waiter)
    }

    /// Restores INV-L-3 from `thread` on, after something changed among those who lend to it.
    pub(super) fn propagate<S: LendingScheduler>(&self, scheduler: &S, thread: ThreadId) {
        self.refresh(scheduler, thread);
        while let Some(waiter) = self.pop_work() {
            for owner in self.owners(waiter) {
                self.refresh(scheduler, owner);
            }
        }
    }

    /// Links a waiter; its owners' loans follow.
    ///
    /// # Safety
    ///
    /// `waiter` is not linked, and stays at its place, alive, until it has been taken off.
    pub(super) unsafe fn enrol<S: LendingScheduler>(&self, scheduler: &S, waiter: &Waiter) {
        waiter.arrival.set(self.arrivals.get());
        self.arrivals.set(self.arrivals.get() + 1);
        let own = scheduler.own_priority(waiter.thread);
        self.rank(waiter, self.loan(waiter.thread).map_or(own, |loan| loan.max(own)));
        // SAFETY: the caller's promise.
        unsafe { self.of(waiter.thread).blocked.push(waiter) };
        if let Some(owner) = waiter.owner.get() {
            // SAFETY: the caller's promise.
            unsafe { self.of(owner).lenders.push(waiter) };
        }
        self.count(|statistics| statistics.blocks += 1);
        for owner in self.owners(waiter) {
            self.propagate(scheduler, owner);
        }
    }

    /// Unlinks a waiter, and leaves what it lent to the caller.
    ///
    /// # Safety
    ///
    /// `waiter` is linked in this graph.
    pub(super) unsafe fn unlink(&self, waiter: &Waiter) {
        // SAFETY: it is linked in all three: `enrol` did that, and `claim` keeps the second up to date.
        unsafe {
            self.at(waiter.address).waiters.unlink(waiter);
            self.of(waiter.thread).blocked.unlink(waiter);
            if let Some(owner) = waiter.owner.get() {
                self.of(owner).lenders.unlink(waiter);
            }
        }
    }

    /// Unlinks a waiter, and takes back what it lent.
    ///
    /// # Safety
    ///
    /// `waiter` is linked in this graph.
    pub(super) unsafe fn take_off<S: LendingScheduler>(&self, scheduler: &S, waiter: &Waiter) {
        // SAFETY: the caller's promise.
        unsafe { self.unlink(waiter) };
        for owner in self.owners(waiter) {
            if omits(Fault::NotRecomputed) {
                scheduler.unlend(owner);
            } else {
                self.propagate(scheduler, owner);
            }
        }
    }

    /// Makes `owner` the single owner of `address`, for all who wait there now, or leaves it without one. It closes no cycle.
    pub(super) fn claim<S: LendingScheduler>(
        &self,
        scheduler: &S,
        address: Address,
        owner: Option<ThreadId>,
    ) {
        // Usually all have the same old owner, and this goes round once.
        while let Some(old) =
            self.waiters(address).map(|waiter| waiter.owner.get()).find(|current| *current != owner)
        {
            for waiter in self.waiters(address).filter(|waiter| waiter.owner.get() == old) {
                // SAFETY: a waiter with an owner is in that owner's list, and in no other.
                unsafe {
                    if let Some(old) = old {
                        self.of(old).lenders.unlink(waiter);
                    }
                    waiter.owner.set(owner);
                    if let Some(owner) = owner {
                        self.of(owner).lenders.push(waiter);
                    }
                }
            }
            if let Some(old) = old {
                self.propagate(scheduler, old);
            }
        }
        if let Some(owner) = owner {
            self.propagate(scheduler, owner);
        }
    }

    /// Registers a hold, which closes no cycle.
    ///
    /// # Safety
    ///
    /// `hold` is used with this graph only, is not registered, and stays at its place until it has been released.
    pub(super) unsafe fn hold<S: LendingScheduler>(
        &self,
        scheduler: &S,
        hold: &Hold,
        address: Address,
        owner: ThreadId,
        level: u64,
    ) {
        hold.owner.set(Some(owner));
        hold.address.set(Some(address));
        hold.level.set(level);
        // SAFETY: the caller's promise.
        unsafe {
            self.at(address).holds.push(hold);
            self.of(owner).held.push(hold);
        }
        self.propagate(scheduler, owner);
    }

    /// Unregisters a hold and takes back what was lent through it; says whether it was registered.
    ///
    /// # Safety
    ///
    /// `hold` is used with this graph only.
    pub(super) unsafe fn release<S: LendingScheduler>(&self, scheduler: &S, hold: &Hold) -> bool {
        let (Some(owner), Some(address)) = (hold.owner.take(), hold.address.take()) else { return false };
        // SAFETY: a hold with an owner is linked in both.
        unsafe {
            self.at(address).holds.unlink(hold);
            self.of(owner).held.unlink(hold);
        }
        self.propagate(scheduler, owner);
        true
    }

    /// Hands the edges of `waiter` to `give`.
    fn edges_of(&self, waiter: &Waiter, depth: usize, give: &mut impl FnMut(Edge)) {
        let mut edge = Edge {
            thread: waiter.thread,
            address: waiter.address,
            queue: waiter.queue,
            token: waiter.token,
            priority: waiter.priority.get(),
            owner: None,
            depth,
        };
        let mut owned = false;
        for owner in self.owners(waiter) {
            owned = true;
            edge.owner = Some(owner);
            give(edge);
        }
        if !owned {
            give(edge);
        }
    }

    /// Every edge of the graph.
    pub(super) fn each_edge(&self, give: &mut impl FnMut(Edge)) {
        for waiter in self.all() {
            self.edges_of(waiter, 0, give);
        }
    }

    /// What `thread` waits for, and what the owners of that wait for, and so on; nearest first.
    pub(super) fn chain_of(&self, thread: ThreadId, give: &mut impl FnMut(Edge)) {
        // A waiter without owners ends its branch, and `search` does not show it: it is given by the one before.
        if let Some(first) = self.blocked(thread) {
            self.edges_of(first, 0, give);
        }
        let mark = self.searches.get() + 1;
        self.search(
            thread,
            |_| true,
            |waiter, owner| {
                if let Some(next) = self.blocked(owner)
                    && next.seen.get() != mark
                {
                    self.edges_of(next, waiter.depth.get() + 1, give);
                }
                true
            },
        );
    }

    /// Those who wait for what `thread` owns, and those who wait for what those own, and so on; nearest first.
    pub(super) fn tree_of(&self, thread: ThreadId, give: &mut impl FnMut(Edge)) {
        let search = self.searches.get() + 1;
        self.searches.set(search);
        let enter = |owner: ThreadId, depth: usize| {
            for waiter in self.all() {
                if waiter.seen.get() != search && self.owners(waiter).any(|of| of == owner) {
                    waiter.seen.set(search);
                    waiter.depth.set(depth);
                    self.push_work(waiter);
                }
            }
        };
        enter(thread, 0);
        while let Some(waiter) = self.pop_work() {
            self.edges_of(waiter, waiter.depth.get(), give);
            enter(waiter.thread, waiter.depth.get() + 1);
        }
    }

    /// The most urgent waiter of a queue.
    pub(super) fn first(&self, address: Address, queue: Queue) -> Option<&Waiter> {
        self.waiters(address).find(|waiter| waiter.queue == queue)
    }
}
