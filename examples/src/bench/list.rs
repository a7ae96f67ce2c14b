//! The generation list under a mutex: sections in order, doubly linked, each finish in constant time.
//!
//! It is what anybody would write first. It barges, as its mutex does, and stands still when the thread that holds the mutex does.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};

use crossbeam_utils::CachePadded;

use super::runner::{Lane, Peer};

/// Where the list ends, in both directions.
const HEAD: usize = 0;

/// An open section; node 0 is the head, whose `newer` is the oldest.
#[derive(Clone, Copy, Default)]
struct Node {
    generation: u64,
    newer: usize,
    older: usize,
}

/// What the mutex guards.
pub(super) struct Sections {
    nodes: Vec<CachePadded<Node>>,
    /// How many wait.
    waiting: usize,
}

impl Sections {
    fn new(threads: usize) -> Self {
        Self { nodes: vec![CachePadded::default(); threads + 1], waiting: 0 }
    }

    #[inline]
    fn begin(&mut self, node: usize) -> u64 {
        // The newest has the largest generation; the head keeps that of the last one that finished.
        let newest = self.nodes[HEAD].older;
        let generation = self.nodes[newest].generation + 1;
        *self.nodes[node] = Node { generation, newer: HEAD, older: newest };
        self.nodes[newest].newer = node;
        self.nodes[HEAD].older = node;
        generation
    }

    /// Takes a section out; its generation goes to the one before it. Whether the watermark moved.
    #[inline]
    fn finish(&mut self, node: usize, watermark: &AtomicU64) -> bool {
        let Node { generation, newer, older } = *self.nodes[node];
        self.nodes[older].generation = generation;
        self.nodes[older].newer = newer;
        self.nodes[newer].older = older;
        let advanced = older == HEAD;
        if advanced {
            // ORD: Release pairs with the Acquire of `GenerationList::watermark`.
            watermark.store(generation, Ordering::Release);
        }
        advanced
    }
}

/// A mutex around the list, with a condition variable.
pub(super) trait Guarded: Send + Sync {
    fn new(sections: Sections) -> Self;

    fn with<R>(&self, act: impl FnOnce(&mut Sections) -> R) -> R;

    /// Blocks as long as `blocked` says so.
    fn wait(&self, blocked: impl Fn() -> bool);

    fn wake(&self);
}

/// The mutex of std.
pub(super) struct Std(Mutex<Sections>, Condvar);

impl Guarded for Std {
    fn new(sections: Sections) -> Self {
        Self(Mutex::new(sections), Condvar::new())
    }

    #[inline]
    fn with<R>(&self, act: impl FnOnce(&mut Sections) -> R) -> R {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn wait(&self, blocked: impl Fn() -> bool) {
        let mut sections = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        sections.waiting += 1;
        while blocked() {
            sections = self.1.wait(sections).unwrap_or_else(PoisonError::into_inner);
        }
        sections.waiting -= 1;
    }

    fn wake(&self) {
        self.1.notify_all();
    }
}

/// The mutex of parking_lot.
pub(super) struct ParkingLot(parking_lot::Mutex<Sections>, parking_lot::Condvar);

impl Guarded for ParkingLot {
    fn new(sections: Sections) -> Self {
        Self(parking_lot::Mutex::new(sections), parking_lot::Condvar::new())
    }

    #[inline]
    fn with<R>(&self, act: impl FnOnce(&mut Sections) -> R) -> R {
        act(&mut self.0.lock())
    }

    fn wait(&self, blocked: impl Fn() -> bool) {
        let mut sections = self.0.lock();
        sections.waiting += 1;
        self.1.wait_while(&mut sections, |_| blocked());
        sections.waiting -= 1;
    }

    fn wake(&self) {
        self.1.notify_all();
    }
}

/// The list and its watermark, which is read without the mutex.
pub(super) struct GenerationList<G> {
    sections: CachePadded<G>,
    watermark: CachePadded<AtomicU64>,
}

impl<G: Guarded> GenerationList<G> {
    pub(super) fn new(threads: usize) -> Self {
        Self { sections: CachePadded::new(G::new(Sections::new(threads))), watermark: CachePadded::default() }
    }

    #[inline]
    fn watermark(&self) -> u64 {
        // ORD: Acquire pairs with the Release in `Sections::finish`.
        self.watermark.load(Ordering::Acquire)
    }
}

impl<G: Guarded> Peer for GenerationList<G> {
    const WAITS: bool = true;
    type Lane<'peer>
        = ListLane<'peer, G>
    where
        G: 'peer;

    fn lane(&self, thread: usize) -> ListLane<'_, G> {
        ListLane { list: self, node: thread + 1 }
    }
}

pub(super) struct ListLane<'peer, G> {
    list: &'peer GenerationList<G>,
    node: usize,
}

impl<G: Guarded> ListLane<'_, G> {
    /// One section; returns its generation.
    #[inline]
    fn section(&self) -> u64 {
        let GenerationList { sections, watermark } = self.list;
        let generation = sections.with(|sections| sections.begin(self.node));
        let wakes = sections.with(|sections| sections.finish(self.node, watermark) && sections.waiting > 0);
        if wakes {
            sections.wake();
        }
        generation
    }
}

impl<G: Guarded> Lane for ListLane<'_, G> {
    #[inline]
    fn pair(&mut self) {
        self.section();
    }

    #[inline]
    fn pair_and_wait(&mut self) {
        let generation = self.section();
        if self.list.watermark() < generation {
            self.list.sections.wait(|| self.list.watermark() < generation);
        }
    }
}
