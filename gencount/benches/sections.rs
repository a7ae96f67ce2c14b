//! `cargo bench -p gencount`: what single operations cost in one thread. Beside peers and with many threads:
//! `cargo run --release -- bench di`.

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, criterion_group, criterion_main};
use crossbeam_epoch::Collector;
use gencount::{
    Domain, GenerationWord, Hosted, Implementation, Locked, Lockfree, Participant, Sharded, Static,
};

fn participant(implementation: Implementation) -> Participant<Hosted> {
    Arc::new(Domain::new(implementation, Hosted)).join()
}

/// The implementation found when the program is compiled.
fn fixed<D: Static>() -> Participant<Hosted, D> {
    Arc::new(Domain::<Hosted, D>::fixed(Hosted)).join()
}

/// Dispatched and, beside it, called directly: the difference is what dispatch costs.
fn begin_and_finish(c: &mut Criterion) {
    fn pair<D: Static>(group: &mut BenchmarkGroup<'_, WallTime>) {
        let name = D::IMPLEMENTATION.name();
        let dispatched = participant(D::IMPLEMENTATION);
        group.bench_function(name, |b| b.iter(|| drop(black_box(&dispatched).begin())));
        let direct = fixed::<D>();
        group.bench_function(format!("{name}, fixed"), |b| b.iter(|| drop(black_box(&direct).begin())));
    }
    let mut group = c.benchmark_group("begin and finish");
    pair::<Locked>(&mut group);
    pair::<Lockfree>(&mut group);
    pair::<Sharded>(&mut group);
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
    let participant = fixed::<Lockfree>();
    let word = GenerationWord::new();
    participant.begin().mark(&word);
    participant.wait(&word);
    group.bench_function("lockfree, fixed", |b| b.iter(|| black_box(&participant).wait(black_box(&word))));
    group.finish();
}

criterion_group!(benches, begin_and_finish, wait_with_nothing_to_wait_for);
criterion_main!(benches);
