//! The queue alone: `dcas-queue`'s append and remove beside those who keep the same order another way.

use std::cell::Cell;
use std::num::NonZeroU64;
use std::sync::atomic::{AtomicU64, Ordering};

use crossbeam_utils::CachePadded;
use dcas_queue::{Node, Observer, Operation, Queue};

use super::list::{GenerationList, ParkingLot, Std};
use super::marked_list::{Marked, Spin, Yield};
use super::runner::{Contender, Lane, Peer};

/// The queue with a node for each thread, each on lines of its own.
struct Nodes {
    queue: CachePadded<Queue>,
    nodes: Vec<CachePadded<Node>>,
    restarts: AtomicU64,
}

impl Nodes {
    fn new(threads: usize) -> Self {
        let nodes = (0..threads).map(|_| CachePadded::default()).collect();
        Self { queue: CachePadded::new(Queue::new(0)), nodes, restarts: AtomicU64::new(0) }
    }
}

impl Peer for Nodes {
    const WAITS: bool = false;
    type Lane<'peer> = NodeLane<'peer>;

    fn lane(&self, thread: usize) -> NodeLane<'_> {
        NodeLane { shared: self, node: &self.nodes[thread], restarts: Restarts::default() }
    }

    fn restarts(&self) -> u64 {
        // ORD: Relaxed: the lanes' threads have been joined.
        self.restarts.load(Ordering::Relaxed)
    }
}

/// Counts restarts.
#[derive(Default)]
struct Restarts(Cell<u64>);

impl Observer for Restarts {
    fn restarted(&self, _: Operation) {
        self.0.set(self.0.get() + 1);
    }
}

struct NodeLane<'peer> {
    shared: &'peer Nodes,
    node: &'peer Node,
    restarts: Restarts,
}

impl Lane for NodeLane<'_> {
    #[inline]
    fn pair(&mut self) {
        let queue = &self.shared.queue;
        // SAFETY: nodes and queue live until all threads have ended; each node is one thread's and in one queue.
        let appended = unsafe { queue.append(self.node, NonZeroU64::MIN, &self.restarts) };
        debug_assert!(appended.is_ok(), "far from overflow");
        // SAFETY: as above; just appended.
        unsafe { queue.remove(self.node, &self.restarts) };
    }
}

impl Drop for NodeLane<'_> {
    fn drop(&mut self) {
        // ORD: Relaxed: read after the thread has been joined.
        self.shared.restarts.fetch_add(self.restarts.0.get(), Ordering::Relaxed);
    }
}

pub(super) fn contenders() -> Vec<Contender> {
    vec![
        Contender::new("published", Marked::<Spin>::new),
        Contender::new("published-yield", Marked::<Yield>::new),
        Contender::new("lockfree", Nodes::new),
        Contender::new("mutex-std", GenerationList::<Std>::new),
        Contender::new("mutex-parking_lot", GenerationList::<ParkingLot>::new),
    ]
}
