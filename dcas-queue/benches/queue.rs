//! `cargo bench -p dcas-queue`: what single operations cost in one thread. Beside peers and with many threads:
//! `cargo run --release -- bench queue`.

use std::hint::black_box;
use std::num::NonZeroU64;

use criterion::{Criterion, criterion_group, criterion_main};
use dcas_queue::pair::{AtomicPair, Pair};
use dcas_queue::safe::Tracker;
use dcas_queue::{Node, Queue};

const ONE: NonZeroU64 = NonZeroU64::MIN;

/// The queue, with this many sections open before the one that is measured.
fn queue(c: &mut Criterion) {
    let mut group = c.benchmark_group("append and remove");
    for open in [0, 1, 4, 16] {
        let (queue, nodes, own) = (Queue::new(0), [const { Node::new() }; 16], Node::new());
        for node in &nodes[..open] {
            // SAFETY: nodes and queue live to the end of this turn of the loop, in one thread and one queue.
            unsafe { queue.append(node, ONE, ()) }.expect("far from overflow");
        }
        group.bench_function(format!("behind {open}"), |b| {
            b.iter(|| {
                // SAFETY: as above; idle.
                let appended = unsafe { queue.append(black_box(&own), ONE, ()) }.is_ok();
                // SAFETY: as above; just appended.
                unsafe { queue.remove(black_box(&own), ()) };
                appended
            });
        });
    }
    group.finish();
    let queue = Queue::new(0);
    c.bench_function("watermark", |b| b.iter(|| black_box(&queue).watermark()));
}

/// The pair by itself.
fn pair(c: &mut Criterion) {
    let mut group = c.benchmark_group("pair");
    let pair = AtomicPair::new(Pair::default());
    group.bench_function("load of a half", |b| b.iter(|| black_box(&pair).load_payload()));
    group.bench_function("load of both", |b| b.iter(|| black_box(&pair).load()));
    group.bench_function("compare-exchange", |b| {
        b.iter(|| {
            let seen = Pair { payload: pair.load_payload(), link: pair.load_link() };
            black_box(&pair).compare_exchange(seen, Pair { payload: seen.payload + 1, link: seen.link })
        });
    });
    group.bench_function("mark", |b| b.iter(|| black_box(&pair).mark()));
    group.finish();
}

/// What the safe layer adds.
fn safe_layer(c: &mut Criterion) {
    let mut group = c.benchmark_group("safe layer");
    let tracker = Tracker::new(0);
    let mut slot = tracker.slot();
    group.bench_function("a section of a slot", |b| b.iter(|| drop(slot.append(ONE))));
    group.bench_function("a ticket", |b| b.iter(|| drop(tracker.append(ONE))));
    group.finish();
}

criterion_group!(benches, queue, pair, safe_layer);
criterion_main!(benches);
