//! The locks: exclusion, no lost wake-up, no starvation, on CPUs and on other threads.

use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use super::super::{Mode, Mutex, RwLock};
use super::*;

#[test]
fn many_cpus_count_together() {
    for mode in [Mode::Parallel, Mode::Deterministic] {
        let rounds = if mode == Mode::Parallel { 3000 } else { 300 };
        let machine = machine(Config { mode, adversary: Adversary::fierce(), ..tame(6) });
        let counter = Mutex::new((0_u64, 0_u64));
        machine
            .run_cpus(|_| {
                for _ in 0..rounds {
                    let mut both = counter.lock();
                    both.0 += 1;
                    machine.point();
                    both.1 += 1;
                    assert_eq!(both.0, both.1);
                }
            })
            .unwrap();
        assert_eq!(counter.into_inner().0, 6 * rounds);
    }
}

#[test]
fn readers_share_and_writers_exclude() {
    for mode in [Mode::Parallel, Mode::Deterministic] {
        let rounds = if mode == Mode::Parallel { 2000 } else { 200 };
        let machine = machine(Config { mode, adversary: Adversary::fierce(), ..tame(5) });
        let pair = RwLock::new((0_u64, 0_u64));
        let writes = machine
            .run_cpus(|id| {
                let mut writes = 0;
                for round in 0..rounds {
                    if (round + id.index()).is_multiple_of(3) {
                        let mut pair = pair.write();
                        pair.0 += 1;
                        machine.point();
                        pair.1 += 1;
                        writes += 1;
                    } else {
                        let pair = pair.read();
                        let first = pair.0;
                        machine.point();
                        assert_eq!((first, first), *pair);
                    }
                }
                writes
            })
            .unwrap();
        assert_eq!(pair.into_inner().0, writes.iter().sum::<u64>());
    }
}

#[test]
fn try_lock_never_waits() {
    let mutex = Mutex::new(());
    let guard = mutex.lock();
    assert!(mutex.try_lock().is_none() && mutex.is_locked());
    drop(guard);
    assert!(mutex.try_lock().is_some());
    let lock = RwLock::new(());
    let first = lock.read();
    assert!(lock.try_read().is_some() && lock.try_write().is_none());
    assert!(lock.is_locked() && !lock.is_locked_exclusive());
    drop(first);
    let writer = lock.write();
    assert!(lock.try_read().is_none() && lock.is_locked_exclusive());
    drop(writer);
    assert!(!lock.is_locked());
}

#[test]
fn threads_that_are_no_cpu_take_part() {
    let machine = machine(tame(2));
    let counter = Mutex::new(0_u64);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| (0..5000).for_each(|_| *counter.lock() += 1));
        }
        machine.run_cpus(|_| (0..5000).for_each(|_| *counter.lock() += 1)).unwrap();
    });
    assert_eq!(counter.into_inner(), 20_000);
}

#[test]
fn a_greedy_owner_does_not_starve_a_waiter() {
    for shared in [false, true] {
        let machine = machine(tame(3));
        let lock = RwLock::new(());
        let (served, stop) = (AtomicBool::new(false), AtomicBool::new(false));
        machine
            .run_cpus(|id| {
                if id.index() == 0 {
                    machine.relax();
                    drop(lock.write());
                    served.store(true, SeqCst);
                    return;
                }
                let begin = Instant::now();
                while !served.load(SeqCst) && !stop.load(SeqCst) {
                    if shared {
                        drop(lock.read())
                    } else {
                        drop(lock.write())
                    }
                    if begin.elapsed() > Duration::from_secs(20) {
                        stop.store(true, SeqCst);
                    }
                }
            })
            .unwrap();
        assert!(!stop.load(SeqCst), "20 seconds without the lock");
    }
}

#[test]
fn a_lock_may_be_dropped_by_its_next_owner() {
    // The unlocker must not touch the lock after the release: the next owner frees it at once.
    let machine = machine(tame(2));
    for _ in 0..300 {
        let lock = std::sync::Arc::new(Mutex::new(0));
        let both = std::sync::Mutex::new(std::vec![std::sync::Arc::clone(&lock), lock]);
        machine
            .run_cpus(|_| {
                let own = both.lock().unwrap().pop().unwrap();
                *own.lock() += 1;
            })
            .unwrap();
    }
}
