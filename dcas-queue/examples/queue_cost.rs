//! What an append and its remove cost on this machine: alone, behind open sections, and with threads at once.
//!
//! `cargo run --release -p dcas-queue --example queue_cost`

use std::num::NonZeroU64;
use std::thread;
use std::time::Instant;

use dcas_queue::pair::is_lock_free;
use dcas_queue::{Node, Observer, Operation, Queue};

/// Counts restarts.
#[derive(Default)]
struct Restarts(std::cell::Cell<u64>);

impl Observer for Restarts {
    fn restarted(&self, _: Operation) {
        self.0.set(self.0.get() + 1);
    }
}

const PAIRS: u32 = 1_000_000;
const ONE: NonZeroU64 = NonZeroU64::MIN;

/// `PAIRS` appends and removes of one node; returns the restarts.
fn pairs(queue: &Queue, node: &Node) -> u64 {
    let restarts = Restarts::default();
    for _ in 0..PAIRS {
        // SAFETY: node and queue live to the end of `main`; one thread per node; one queue.
        unsafe { queue.append(node, ONE, &restarts) }.expect("far from overflow");
        // SAFETY: as above; just appended.
        unsafe { queue.remove(node, &restarts) };
    }
    restarts.0.get()
}

/// The safe layer's two ways to a section.
#[cfg(feature = "std")]
fn safe_layer() {
    use dcas_queue::safe::Tracker;

    let tracker = Tracker::new(0);
    let mut slot = tracker.slot();
    let start = Instant::now();
    for _ in 0..PAIRS {
        drop(slot.append(ONE).expect("far from overflow"));
    }
    println!("safe layer, one thread: {} ns per section of a slot", (start.elapsed() / PAIRS).as_nanos());
    let start = Instant::now();
    for _ in 0..PAIRS {
        drop(tracker.append(ONE).expect("far from overflow"));
    }
    println!("safe layer, one thread: {} ns per ticket", (start.elapsed() / PAIRS).as_nanos());
}

fn main() {
    println!("lock-free: {}", is_lock_free());
    #[cfg(feature = "std")]
    safe_layer();
    let queue = Queue::new(0);
    let nodes = [const { Node::new() }; 16];
    for open in [0, 1, 4, 15] {
        for node in &nodes[..open] {
            // SAFETY: as in `pairs`.
            unsafe { queue.append(node, ONE, ()) }.expect("far from overflow");
        }
        let start = Instant::now();
        pairs(&queue, &nodes[open]);
        let each = start.elapsed() / PAIRS;
        println!("one thread behind {open:2} open sections: {} ns per append and remove", each.as_nanos());
        for node in &nodes[..open] {
            // SAFETY: as in `pairs`; appended above.
            unsafe { queue.remove(node, ()) };
        }
    }
    let parallelism = thread::available_parallelism().map_or(1, usize::from).min(nodes.len());
    let start = Instant::now();
    let restarts: u64 = thread::scope(|scope| {
        let threads: Vec<_> =
            (nodes[..parallelism].iter()).map(|node| scope.spawn(|| pairs(&queue, node))).collect();
        threads.into_iter().map(|thread| thread.join().expect("no panic")).sum()
    });
    let each = start.elapsed() / PAIRS;
    println!(
        "{parallelism} threads at once: {} ns per append and remove of each thread, {:.3} restarts",
        each.as_nanos(),
        restarts as f64 / f64::from(PAIRS) / parallelism as f64
    );
}
