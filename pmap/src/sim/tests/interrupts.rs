//! Interrupts reach every CPU: running, waiting, idle, or run by nobody.

use std::sync::atomic::AtomicBool;

use super::super::Mutex;
use super::*;
use crate::shootdown::{Invalidation, Scope};

fn shoot(machine: &SimMachine, root: Frame, target: usize) {
    let targets = [cpu(target)].into_iter().collect();
    let what = Invalidation::of_page(VA);
    Pinned::run(machine, |here| {
        machine.shootdowns().invalidate(machine, here, Scope::Root(root), what, &targets, true, false);
    });
}

fn modes() -> [Config; 2] {
    let deterministic = Config { mode: super::super::Mode::Deterministic, ..tame(2) };
    let late = Adversary { interrupt_delay: 8, ..Adversary::tame() };
    [Config { adversary: late, ..tame(2) }, Config { adversary: late, ..deterministic }]
}

#[test]
fn a_cpu_that_nobody_runs_is_served_in_its_name() {
    let machine = machine(tame(2));
    let tables = Tables::new(&machine);
    let frame = tables.map_value(VA, 1, P | U);
    machine.run_cpu(cpu(1), || {
        tables.activate();
        machine.read(VA).unwrap();
    });
    machine.run_cpu(cpu(0), || {
        tables.activate();
        tables.entry(VA, 1).store(0, SeqCst);
        shoot(&machine, tables.root, 1);
        machine.free_data_frame(frame);
    });
    let report = machine.report();
    assert!(report.is_clean(), "{:?}", report.first_failures);
    assert_eq!((report.ipis, report.ipis_taken), (1, 1));
}

#[test]
fn an_idle_cpu_sleeps_and_is_woken() {
    for config in modes() {
        let machine = machine(config);
        let tables = Tables::new(&machine);
        let done = AtomicBool::new(false);
        machine
            .run_cpus(|id| {
                tables.activate();
                if id.index() == 1 {
                    return machine.wait_until(|| done.load(SeqCst));
                }
                for _ in 0..50 {
                    shoot(&machine, tables.root, 1);
                }
                done.store(true, SeqCst);
                machine.wake(cpu(1));
            })
            .unwrap();
        assert_eq!(machine.report().ipis, 50);
    }
}

#[test]
fn two_cpus_shoot_at_each_other_while_each_wants_the_others_lock() {
    for config in modes() {
        let machine = machine(config);
        let tables = Tables::new(&machine);
        let locks = [Mutex::new(0_u32), Mutex::new(0)];
        let (held, done) = (AtomicU64::new(0), AtomicU64::new(0));
        machine
            .run_cpus(|id| {
                tables.activate();
                let me = id.index();
                for round in 1..=50 {
                    {
                        let _own = locks[me].lock();
                        // Both hold their locks before either shoots.
                        held.fetch_add(1, SeqCst);
                        machine.wake_all();
                        machine.wait_until(|| held.load(SeqCst) >= 2 * round);
                        shoot(&machine, tables.root, 1 - me);
                    }
                    *locks[1 - me].lock() += 1;
                    // Nobody takes its own lock for the next round before the other has been through it.
                    done.fetch_add(1, SeqCst);
                    machine.wake_all();
                    machine.wait_until(|| done.load(SeqCst) >= 2 * round);
                }
            })
            .unwrap();
        assert_eq!(locks.map(Mutex::into_inner), [50, 50]);
    }
}

#[test]
fn a_waiter_for_a_lock_serves_its_holder() {
    for config in modes() {
        let machine = machine(config);
        let tables = Tables::new(&machine);
        let lock = Mutex::new(());
        let (held, wanted) = (AtomicBool::new(false), AtomicBool::new(false));
        machine
            .run_cpus(|id| {
                tables.activate();
                if id.index() == 0 {
                    let _guard = lock.lock();
                    held.store(true, SeqCst);
                    machine.wake_all();
                    machine.wait_until(|| wanted.load(SeqCst));
                    for _ in 0..100 {
                        shoot(&machine, tables.root, 1);
                    }
                } else {
                    machine.wait_until(|| held.load(SeqCst));
                    wanted.store(true, SeqCst);
                    machine.wake_all();
                    drop(lock.lock());
                }
            })
            .unwrap();
    }
}

#[test]
fn interrupts_wait_until_they_are_on_again() {
    let machine = machine(tame(2));
    let tables = Tables::new(&machine);
    tables.map_value(VA, 1, P | U);
    machine.run_cpu(cpu(1), || {
        tables.activate();
        machine.read(VA).unwrap();
        tables.map_value(VA, 2, P | U);
        std::thread::scope(|scope| {
            let sender = machine.without_interrupts(|| {
                let sender = scope.spawn(|| machine.run_cpu(cpu(0), || shoot(&machine, tables.root, 1)));
                while machine.report().ipis == 0 {
                    std::thread::yield_now();
                }
                for _ in 0..100 {
                    assert_eq!(machine.read(VA), Ok(1), "not before interrupts are on");
                }
                sender
            });
            assert_eq!(machine.read(VA), Ok(2));
            sender.join().unwrap();
        });
    });
}

#[test]
fn a_running_cpu_takes_an_interrupt_after_a_bounded_number_of_accesses() {
    let adversary = Adversary { interrupt_delay: 20, ..Adversary::tame() };
    let machine = machine(Config { adversary, ..tame(2) });
    let tables = Tables::new(&machine);
    tables.map_value(VA, 1, P | U);
    let mut late = 0;
    for _ in 0..20 {
        machine.run_cpu(cpu(1), || {
            tables.activate();
            machine.read(VA).unwrap();
            std::thread::scope(|scope| {
                let before = machine.report();
                scope.spawn(|| machine.run_cpu(cpu(0), || shoot(&machine, tables.root, 1)));
                while machine.report().ipis == before.ipis {
                    std::thread::yield_now();
                }
                // The flag follows the counter within the sender's next instructions; give it time.
                std::thread::sleep(std::time::Duration::from_millis(2));
                let mut accesses = 0;
                while machine.report().ipis_taken == before.ipis_taken {
                    machine.read(VA).unwrap();
                    accesses += 1;
                }
                assert!(accesses <= 20 + 1, "{accesses}");
                late += u32::from(accesses > 1);
            });
        });
    }
    assert!(late > 0, "never late");
}

#[test]
fn a_panic_stops_the_other_cpus() {
    for config in modes() {
        let machine = machine(Config { cpus: 4, ..config });
        let lock = Mutex::new(());
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            machine.run_cpus(|id| match id.index() {
                0 => {
                    let _guard = lock.lock();
                    machine.wait_until(|| false);
                }
                1 => loop {
                    let _ = machine.read(VA);
                },
                2 => loop {
                    machine.relax();
                    drop(lock.try_lock());
                },
                _ => panic!("the reason"),
            })
        }));
        let payload = result.unwrap_err();
        assert_eq!(payload.downcast_ref::<&str>(), Some(&"the reason"));
        assert!(machine.is_poisoned());
    }
}

#[test]
fn a_cpu_is_run_by_one_thread() {
    let machine = machine(tame(2));
    machine.run_cpu(cpu(0), || {
        assert_eq!(machine.try_run_cpu(cpu(1), || ()), Err(super::super::SimError::AlreadyBound { cpu: 0 }));
        std::thread::scope(|scope| {
            let other = scope.spawn(|| machine.try_run_cpu(cpu(0), || ()));
            assert_eq!(other.join().unwrap(), Err(super::super::SimError::CpuBusy { cpu: 0 }));
        });
    });
    assert_eq!(machine.try_run_cpu(cpu(2), || ()), Err(super::super::SimError::NoSuchCpu { cpu: 2 }));
    assert_eq!(machine.try_run_cpu(cpu(0), || 5), Ok(5));
}

#[test]
fn two_machines_fit_in_one_process_and_one_thread() {
    let (outer, inner) = (machine(tame(2)), machine(tame(2)));
    outer.run_cpu(cpu(1), || {
        inner.run_cpu(cpu(0), || {
            assert_eq!(inner.current_cpu(), cpu(0));
            let lock = Mutex::new(1);
            assert_eq!(*lock.lock(), 1);
        });
        assert_eq!(outer.current_cpu(), cpu(1));
    });
}
