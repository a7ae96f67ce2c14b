//! The published algorithm, with two ways to back off.

use std::cell::Cell;
use std::hint::spin_loop;
use std::marker::PhantomData;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use dcas_queue::LONGEST_BACKOFF;

use super::runner::{Lane, Peer};
use published::{Hook, Point, Published};

#[expect(unreachable_pub, dead_code, reason = "tests and examples of the queue include the module too")]
#[path = "../../../dcas-queue/tests/published/mod.rs"]
mod published;

/// What to do between two attempts: exponential back-off, and at its end …
pub(super) trait AtCap: Send + Sync {
    /// … so many pauses, or something else.
    fn wait(pauses: u32);
}

/// … go on with pauses, as in a kernel, where the thread that one waits for is in a critical section.
pub(super) struct Spin;

impl AtCap for Spin {
    fn wait(pauses: u32) {
        pause(pauses);
    }
}

/// … give the processor up: in user space the thread that one waits for may have been preempted.
pub(super) struct Yield;

impl AtCap for Yield {
    fn wait(_: u32) {
        thread::yield_now();
    }
}

fn pause(pauses: u32) {
    for _ in 0..pauses {
        spin_loop();
    }
}

/// One operation's back-off, with the numbers that `dcas-queue` uses; they suit this algorithm as well.
struct Backoff<'lane, C> {
    pauses: Cell<u32>,
    restarts: &'lane Cell<u64>,
    at_cap: PhantomData<C>,
}

impl<'lane, C: AtCap> Backoff<'lane, C> {
    const FIRST: u32 = 32;
    const FACTOR: u32 = 4;

    #[inline]
    fn new(restarts: &'lane Cell<u64>) -> Self {
        Self { pauses: Cell::new(Self::FIRST), restarts, at_cap: PhantomData }
    }

    #[cold]
    fn wait(&self) {
        let pauses = self.pauses.get();
        if pauses < LONGEST_BACKOFF {
            pause(pauses);
            self.pauses.set((pauses * Self::FACTOR).min(LONGEST_BACKOFF));
        } else {
            C::wait(pauses);
        }
    }
}

impl<C: AtCap> Hook for Backoff<'_, C> {
    #[inline]
    fn at(&self, _: Point) {}

    #[inline]
    fn again(&self) -> bool {
        self.restarts.set(self.restarts.get() + 1);
        self.wait();
        true
    }
}

/// The list, shared.
pub(super) struct Marked<C> {
    list: Published,
    restarts: AtomicU64,
    at_cap: PhantomData<C>,
}

impl<C: AtCap> Marked<C> {
    pub(super) fn new(threads: usize) -> Self {
        Self { list: Published::new(threads), restarts: AtomicU64::new(0), at_cap: PhantomData }
    }
}

impl<C: AtCap> Peer for Marked<C> {
    const WAITS: bool = true;
    type Lane<'peer>
        = MarkedLane<'peer, C>
    where
        C: 'peer;

    fn lane(&self, thread: usize) -> MarkedLane<'_, C> {
        MarkedLane { shared: self, node: thread + 1, restarts: Cell::new(0) }
    }

    fn restarts(&self) -> u64 {
        // ORD: Relaxed: the lanes' threads have been joined.
        self.restarts.load(Ordering::Relaxed)
    }
}

pub(super) struct MarkedLane<'peer, C> {
    shared: &'peer Marked<C>,
    node: usize,
    restarts: Cell<u64>,
}

impl<C: AtCap> MarkedLane<'_, C> {
    /// One section; returns its generation.
    #[inline]
    fn section(&self) -> u64 {
        let list = &self.shared.list;
        let begun = list.begin(self.node, &Backoff::<C>::new(&self.restarts));
        let finished = list.finish(self.node, &Backoff::<C>::new(&self.restarts));
        debug_assert!(finished.is_ok(), "the hook never gives up");
        begun.unwrap_or_default()
    }
}

impl<C: AtCap> Lane for MarkedLane<'_, C> {
    #[inline]
    fn pair(&mut self) {
        self.section();
    }

    #[inline]
    fn pair_and_wait(&mut self) {
        let generation = self.section();
        let backoff = Backoff::<C>::new(&self.restarts);
        while self.shared.list.watermark() < generation {
            backoff.wait();
        }
    }
}

impl<C> Drop for MarkedLane<'_, C> {
    fn drop(&mut self) {
        // ORD: Relaxed: read after the thread has been joined.
        self.shared.restarts.fetch_add(self.restarts.get(), Ordering::Relaxed);
    }
}
