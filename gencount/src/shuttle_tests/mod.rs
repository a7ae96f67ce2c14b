//! Whole lifetimes under shuttle: up to six threads that join, begin, mark, finish, wait, wait with a time limit, ask, leave and
//! join again, in schedules chosen at random and by probabilistic concurrency testing (PCT), which finds any error that needs few
//! preemptions at the right places with a known probability. All three implementations; with a step left out it must be noticed.
//!
//! `.ci/shuttle` runs it: `RUSTFLAGS="--cfg gencount_shuttle" cargo test --release -p gencount --lib`. `SHUTTLE_ITERATIONS` (default
//! 2000) says how many schedules are run of each test, implementation and strategy; a failure prints the schedule, which `shuttle::replay`
//! takes.
//!
//! In this build every atomic of the crate is shuttle's, so a thread may be preempted at each access to one, also where the code has no
//! scheduling point, under a lock for example; and at each step of `dcas-queue`, which has points of its own.
//!
//! # What shuttle cannot see
//!
//! * *Weak memory.* It is sequentially consistent; loom has that part, for fewer threads.
//! * *Everything.* It samples. `tests/sharded_states.rs` and the queue's explicit-state check are exhaustive, for fewer threads.
//! * *The inside of the table of turnstiles*, whose critical sections are one step each but for the re-check that runs in them.
//! * *Real time.* A time limit is a number of points.

mod scheduler;

use std::panic::catch_unwind;
use std::sync::Arc;
use std::vec::Vec;

use shuttle::rand::{Rng, thread_rng};
use shuttle::scheduler::{PctScheduler, RandomScheduler, Scheduler};
use shuttle::{Config, Runner, thread};

use crate::fault::Fault;
use crate::shuttle_tests::scheduler::{Shuttled, Table};
use crate::world::World;
use crate::{Domain, Implementation};

fn iterations() -> usize {
    std::env::var("SHUTTLE_ITERATIONS")
        .map_or(2000, |number| number.parse().expect("SHUTTLE_ITERATIONS is a number"))
}

/// So many threads with so many random operations each.
fn lifetimes(implementation: Implementation, fault: Fault, threads: usize, operations: usize) {
    let scheduler = Arc::new(Shuttled::default());
    let mut domain: Domain<Arc<Table>> =
        Domain::new(implementation, Arc::new(Table::new(Arc::clone(&scheduler))));
    domain.common.fault = fault;
    let world = Arc::new(World::new(domain, threads));
    let weak = Arc::downgrade(&world);
    scheduler.check_at_points(move || weak.upgrade().expect("the threads have it").check());
    let workers: Vec<_> = (0..threads)
        .map(|number| {
            let world = Arc::clone(&world);
            thread::spawn(move || {
                let program: Vec<u8> = (0..operations).map(|_| thread_rng().r#gen()).collect();
                world.run(number, &program);
            })
        })
        .collect();
    for worker in workers {
        worker.join().expect("no panic");
    }
    world.at_the_end();
    scheduler.assert_no_loans();
}

/// Runs a test with one strategy.
fn run(strategy: impl Scheduler + 'static, test: impl Fn() + Copy + Send + Sync + 'static) {
    let mut config = Config::new();
    // The table's critical section has room for all whom it wakes on the stack.
    config.stack_size = 0x4_0000;
    // It warns of every ordering but SeqCst, which it takes for SeqCst.
    config.silence_warnings = true;
    Runner::new(strategy, config).run(test);
}

/// Runs a test with all strategies.
fn check(test: impl Fn() + Copy + Send + Sync + 'static) {
    run(RandomScheduler::new(iterations()), test);
    run(PctScheduler::new(3, iterations()), test);
    run(PctScheduler::new(5, iterations()), test);
}

macro_rules! suite {
    ($($module:ident: $implementation:ident;)+) => {$(
        mod $module {
            use super::{Fault, Implementation, check, lifetimes};

            #[test]
            fn two_threads_many_operations() {
                check(|| lifetimes(Implementation::$implementation, Fault::None, 2, 16));
            }

            #[test]
            fn four_threads() {
                check(|| lifetimes(Implementation::$implementation, Fault::None, 4, 6));
            }

            #[test]
            fn six_threads() {
                check(|| lifetimes(Implementation::$implementation, Fault::None, 6, 4));
            }
        }
    )+};
}

suite! {
    locked: Locked;
    lockfree: Lockfree;
    sharded: Sharded;
}

/// Whether some schedule shows that a step is left out. The same schedules each time, enough of them to find it.
fn noticed(implementation: Implementation, fault: Fault) -> bool {
    const SEED: u64 = 1;
    const SCHEDULES: usize = 10_000;
    let test = move || lifetimes(implementation, fault, 3, 8);
    catch_unwind(|| run(RandomScheduler::new_from_seed(SEED, SCHEDULES), test)).is_err()
        || catch_unwind(|| run(PctScheduler::new_from_seed(SEED, 3, SCHEDULES), test)).is_err()
}

#[test]
fn without_registration_or_recheck_or_look_a_waiter_sleeps_for_ever() {
    for implementation in Implementation::ALL {
        for fault in [Fault::NoRecheck, Fault::WaiterUnregistered, Fault::FinishBlind] {
            assert!(noticed(implementation, fault), "{implementation}: {fault:?}");
        }
    }
}

#[test]
fn what_keeps_sharded_right_is_noticed_when_it_is_missing() {
    for fault in [Fault::FirstReading, Fault::NotRaised] {
        assert!(noticed(Implementation::Sharded, fault), "{fault:?}");
    }
}
