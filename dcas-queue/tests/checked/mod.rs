//! A queue whose invariants are looked at before every step of every thread: shared by the loom and shuttle tests.
//!
//! The looking is not a step. It sees the newest value of every pair, which checkers keep beside the one that they schedule; the
//! bookkeeping here is in plain atomics that no checker knows, so it adds neither steps nor happens-before edges.

use std::num::NonZeroU64;
use std::sync::atomic::{AtomicU64, Ordering};

use dcas_queue::{Entry, Mutation, Node, Observer, Queue, Removed, Step};

/// How many nodes a world has at most.
pub const NODES: usize = 8;

/// A queue, its nodes, and what the threads have been told.
pub struct World {
    pub queue: Queue,
    nodes: Vec<Node>,
    /// Per node: the payload of the open section, or 0. Set when append returns, cleared before the mark.
    open: [AtomicU64; NODES],
    /// The largest payload that an append returned.
    issued: AtomicU64,
    /// The largest payload seen at the tail.
    tail: AtomicU64,
    watermark: AtomicU64,
    /// The rule that all operations do without.
    mutation: Option<Mutation>,
}

/// The hook: checks, and backs off by letting others run.
pub struct Watch<'w> {
    world: &'w World,
    yield_now: fn(),
}

impl Observer for Watch<'_> {
    fn step(&self, _: Step) {
        self.world.check();
    }

    fn backoff(&self, _: u32) {
        (self.yield_now)();
    }

    fn mutation(&self) -> Option<Mutation> {
        self.world.mutation
    }
}

impl World {
    /// An empty queue and its nodes; operations do without the rule, if one is named.
    pub fn new(nodes: usize, mutation: Option<Mutation>) -> Self {
        Self {
            queue: Queue::new(0),
            nodes: (0..nodes).map(|_| Node::new()).collect(),
            open: Default::default(),
            issued: AtomicU64::new(0),
            tail: AtomicU64::new(0),
            watermark: AtomicU64::new(0),
            mutation,
        }
    }

    /// INV-Q-1 to INV-Q-3, and that watermark and tail never go down, of the newest values.
    fn check(&self) {
        let mut out = [Entry::default(); NODES];
        // SAFETY: nodes live as long as the queue.
        let picture = unsafe { self.queue.newest(&mut out) };
        let entries = &out[..picture.len];
        let mut last = picture.watermark;
        for entry in entries {
            assert!(entry.payload > last, "INV-Q-1: {picture:?} {entries:?}");
            last = entry.payload;
        }
        assert!(last >= self.tail.swap(last, Ordering::Relaxed), "INV-Q-2: the tail went down");
        assert!(last >= self.issued.load(Ordering::Relaxed), "INV-Q-2: an issued payload is lost");
        assert!(picture.watermark >= self.watermark.swap(picture.watermark, Ordering::Relaxed));
        for (node, open) in self.nodes.iter().zip(&self.open) {
            let payload = open.load(Ordering::Relaxed);
            if payload != 0 {
                assert!(picture.watermark < payload, "INV-Q-3: the watermark passed an open section");
                let address = std::ptr::from_ref(node).addr();
                let entry = entries.iter().find(|entry| entry.address == address);
                assert!(entry.is_some_and(|entry| entry.payload >= payload), "an open section is lost");
            }
        }
    }

    pub fn append(&self, node: usize, n: u64, yield_now: fn()) -> u64 {
        let n = NonZeroU64::new(n).expect("at least 1");
        let watch = Watch { world: self, yield_now };
        // SAFETY: nodes live as long as the queue, know no other, and each has one thread at a time.
        let payload = unsafe { self.queue.append(&self.nodes[node], n, &watch) }.expect("small");
        self.open[node].store(payload, Ordering::Relaxed);
        self.issued.fetch_max(payload, Ordering::Relaxed);
        self.check();
        payload
    }

    pub fn remove(&self, node: usize, yield_now: fn()) -> Removed {
        self.check();
        let payload = self.open[node].swap(0, Ordering::Relaxed);
        let watch = Watch { world: self, yield_now };
        // SAFETY: as for `append`; appended before.
        let removed = unsafe { self.queue.remove(&self.nodes[node], &watch) };
        assert!(removed.payload >= payload);
        self.check();
        removed
    }

    pub fn remove_if_open(&self, node: usize, yield_now: fn()) {
        if self.open[node].load(Ordering::Relaxed) != 0 {
            self.remove(node, yield_now);
        }
    }

    pub fn complete_removals(&self, yield_now: fn()) -> bool {
        // SAFETY: as for `append`.
        unsafe { self.queue.complete_removals(&Watch { world: self, yield_now }) }
    }

    /// After the last operation: everything was removed.
    pub fn drained(&self) {
        self.check();
        assert!(self.queue.is_empty(), "INV-Q-9");
        assert_eq!(self.queue.watermark(), self.issued.load(Ordering::Relaxed), "INV-Q-3");
    }
}
