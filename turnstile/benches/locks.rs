//! `cargo bench -p pi-turnstile`: what the locks cost when nobody else wants them. Contended, and beside a pthread mutex
//! with priority inheritance: `cargo run --release -- bench turnstile`.

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use lock_api::{RawMutex, RawRwLock};
use turnstile::{Hosted, RawPiMutex, RawPiRwLock};

fn mutex<R: RawMutex>() -> lock_api::Mutex<R, u64> {
    lock_api::Mutex::new(0)
}

fn rwlock<R: RawRwLock>() -> lock_api::RwLock<R, u64> {
    lock_api::RwLock::new(0)
}

fn mutexes(c: &mut Criterion) {
    let mut group = c.benchmark_group("lock and unlock");
    let lock = mutex::<RawPiMutex<Hosted>>();
    group.bench_function("RawPiMutex", |b| b.iter(|| *black_box(&lock).lock() += 1));
    let lock = mutex::<parking_lot::RawMutex>();
    group.bench_function("parking_lot", |b| b.iter(|| *black_box(&lock).lock() += 1));
    let lock = std::sync::Mutex::new(0_u64);
    group.bench_function("std", |b| b.iter(|| *black_box(&lock).lock().expect("not poisoned") += 1));
    group.finish();
}

fn rwlocks(c: &mut Criterion) {
    let mut group = c.benchmark_group("read and unlock");
    let lock = rwlock::<RawPiRwLock<Hosted>>();
    group.bench_function("RawPiRwLock", |b| b.iter(|| *black_box(&lock).read()));
    let lock = rwlock::<parking_lot::RawRwLock>();
    group.bench_function("parking_lot", |b| b.iter(|| *black_box(&lock).read()));
    group.finish();
    let mut group = c.benchmark_group("write and unlock");
    let lock = rwlock::<RawPiRwLock<Hosted>>();
    group.bench_function("RawPiRwLock", |b| b.iter(|| *black_box(&lock).write() += 1));
    let lock = rwlock::<parking_lot::RawRwLock>();
    group.bench_function("parking_lot", |b| b.iter(|| *black_box(&lock).write() += 1));
    group.finish();
}

criterion_group!(benches, mutexes, rwlocks);
criterion_main!(benches);
