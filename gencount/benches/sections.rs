//! `cargo bench -p gencount`: what single operations cost in one thread. Beside peers and with many threads:
//! `cargo run --release -- bench di`.

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use criterion::{Criterion, criterion_group, criterion_main};
use crossbeam_epoch::Collector;
use gencount::{Domain, GenerationWord, Hosted, Implementation, Participant};

fn participant(implementation: Implementation) -> Participant<Hosted> {
    Arc::new(Domain::new(implementation, Hosted)).join()
}

fn begin_and_finish(c: &mut Criterion) {
    let mut group = c.benchmark_group("begin and finish");
    for implementation in Implementation::ALL {
        let participant = participant(implementation);
        group.bench_function(implementation.name(), |b| b.iter(|| drop(black_box(&participant).begin())));
    }
    // What others call pin and unpin: a participant that writes its own line, but for whom nobody can wait.
    let epoch = Collector::new().register();
    group.bench_function("crossbeam-epoch", |b| b.iter(|| drop(black_box(&epoch).pin())));
    group.finish();
}

fn wait_with_nothing_to_wait_for(c: &mut Criterion) {
    let mut group = c.benchmark_group("wait with nothing to wait for");
    let number = AtomicU64::new(1);
    // ORD: Acquire, as the watermark is read.
    group.bench_function("an atomic load", |b| b.iter(|| black_box(&number).load(Ordering::Acquire)));
    for implementation in Implementation::ALL {
        let participant = participant(implementation);
        let word = GenerationWord::new();
        participant.begin().mark(&word);
        participant.wait(&word);
        group.bench_function(implementation.name(), |b| {
            b.iter(|| black_box(&participant).wait(black_box(&word)));
        });
    }
    group.finish();
}

criterion_group!(benches, begin_and_finish, wait_with_nothing_to_wait_for);
criterion_main!(benches);
