//! The baton: order by seed, and words instead of hangs.

use std::string::String;
use std::vec::Vec;

use super::super::{Mode, Mutex};
use super::*;

fn config(cpus: usize, seed: u64) -> Config {
    Config { mode: Mode::Deterministic, seed, ..tame(cpus) }
}

fn order(seed: u64) -> Vec<usize> {
    let machine = machine(config(4, seed));
    let order = Mutex::new(Vec::new());
    machine
        .run_cpus(|id| {
            for _ in 0..20 {
                order.lock().push(id.index());
                machine.point();
            }
        })
        .unwrap();
    order.into_inner()
}

#[test]
fn the_seed_fixes_the_order_and_another_seed_changes_it() {
    let first = order(1);
    assert_eq!(first.len(), 80);
    assert!(first.windows(2).filter(|pair| pair[0] != pair[1]).count() > 10, "{first:?}");
    for _ in 0..5 {
        assert_eq!(order(1), first);
    }
    assert!((2..6).all(|seed| order(seed) != first));
}

fn panic_of(f: impl FnOnce()) -> String {
    let payload = std::panic::catch_unwind(std::panic::AssertUnwindSafe(f)).unwrap_err();
    let text = payload.downcast_ref::<&str>().map(|text| String::from(*text));
    text.or_else(|| payload.downcast_ref::<String>().cloned()).unwrap()
}

#[test]
fn a_deadlock_is_reported_with_everybodys_state() {
    let words = panic_of(|| {
        let machine = machine(config(3, 5));
        let locks = [Mutex::new(()), Mutex::new(())];
        let held = AtomicU64::new(0);
        let _ = machine.run_cpus(|id| {
            if id.index() == 2 {
                return;
            }
            let _own = locks[id.index()].lock();
            held.fetch_add(1, SeqCst);
            machine.wake_all();
            machine.wait_until(|| held.load(SeqCst) == 2);
            drop(locks[1 - id.index()].lock());
        });
    });
    for part in ["deadlock", "cpu 0 waits in lock", "cpu 1 waits in lock", "cpu 2 has ended", "seed 5"] {
        assert!(words.contains(part), "{words}");
    }
}

#[test]
fn a_wait_for_a_cpu_that_has_ended_is_a_deadlock() {
    let words = panic_of(|| {
        let machine = machine(config(2, 5));
        let _ = machine.run_cpus(|id| {
            if id.index() == 0 {
                machine.wait_until(|| false);
            }
        });
    });
    assert!(words.contains("cpu 0 waits in wait_until"), "{words}");
}

#[test]
fn relaxing_for_ever_is_reported() {
    let words = panic_of(|| {
        let machine = machine(config(1, 5));
        let _ = machine.run_cpus(|_| {
            loop {
                machine.relax();
            }
        });
    });
    assert!(words.contains("livelock") && words.contains("cpu 0 relaxes"), "{words}");
}

#[test]
fn single_cpus_can_be_run_before_all() {
    let machine = machine(config(3, 1));
    for index in 0..3 {
        machine.run_cpu(cpu(index), || machine.point());
    }
    assert_eq!(machine.run_cpus(|id| id.index()).unwrap(), [0, 1, 2]);
    machine.run_cpu(cpu(1), || machine.point());
}

#[test]
fn threads_started_by_hand_share_the_baton_too() {
    let machine = machine(config(3, 1));
    let counter = Mutex::new(0);
    std::thread::scope(|scope| {
        for index in 0..3 {
            let (machine, counter) = (&machine, &counter);
            scope.spawn(move || {
                machine.run_cpu(cpu(index), || (0..100).for_each(|_| *counter.lock() += 1));
            });
        }
    });
    assert_eq!(counter.into_inner(), 300);
}
