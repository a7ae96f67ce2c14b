//! The table's lending against a plain model of it: who owns what, who waits for what, and the priorities that follow,
//! computed from scratch after every step. The source of both sides lies in `tests/reference`, which the fuzz target shares.

#[path = "../../../tests/reference/mod.rs"]
mod reference;

use core::num::NonZeroUsize;
use std::sync::Arc;
use std::vec::Vec;

use proptest::collection::vec;
use proptest::prelude::*;

use self::reference::step::{Ask, Step};
use self::reference::world::World;
use crate::fault::{Fault, without};
use crate::simulated::Machine;
use crate::{Address, Decision, PiTurnstiles, Priority, Queue, Scheduler as _, ThreadId};

fn thread(number: usize) -> ThreadId {
    ThreadId::new(NonZeroUsize::new(number + 1).unwrap())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, failure_persistence: None, ..ProptestConfig::default() })]

    /// In one bucket (what is looked up must be told apart by more than the bucket) and in three.
    #[test]
    fn lending_is_the_maximum_over_what_remains(bytes in vec(any::<u8>(), 0..600)) {
        reference::run(&bytes);
    }
}

/// The oracle's own test: each of these faults is a wrong loan, a wrong order or a missed cycle, and is found by random bytes.
#[test]
fn every_fault_is_found() {
    let mut state = 1_u64;
    let mut byte = move || {
        // Marsaglia's xorshift, so that the bytes are the same everywhere.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    let strings: Vec<Vec<u8>> = (0..200).map(|_| (0..600).map(|_| byte()).collect()).collect();
    for fault in [
        Fault::NotRecomputed,
        Fault::NotTransitive,
        Fault::ArrivesAnew,
        Fault::NotSearched,
        Fault::LimitedNotEnded,
        Fault::NotTakenBack,
    ] {
        let found = strings
            .iter()
            .any(|bytes| std::panic::catch_unwind(|| without(fault, || reference::run(bytes))).is_err());
        assert!(found, "{fault:?} was not noticed");
    }
}

/// The corpus of the fuzz target, and so every finding that was added to it.
#[test]
fn corpus() {
    let fuzz = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz");
    if !fuzz.exists() {
        std::println!("skipped: a published crate comes without its fuzz targets");
        return;
    }
    let mut run = 0;
    for file in std::fs::read_dir(fuzz.join("corpus/turnstile")).expect("the committed corpus") {
        reference::run(&std::fs::read(file.expect("readable").path()).expect("readable"));
        run += 1;
    }
    assert!(run > 0, "the corpus is empty");
}

fn block(thread: usize, address: usize, owner: usize) -> Step {
    let ask = Ask { address, shared: false, token: 0, owner: Some(owner), patience: None };
    Step::Block { thread, ask, runs: 3 }
}

/// A second lock's release must not drop a boost that the first still needs.
#[test]
fn locks_released_in_any_order() {
    for order in [[0, 1], [1, 0]] {
        let mut world = World::<4>::new();
        let level = |world: &World<4>| world.machine.priority(thread(0)).level();
        for (thread, own) in [(0, 1), (1, 3), (2, 5)] {
            world.apply(Step::Priority { thread, own });
        }
        // Thread 0 owns addresses 0 and 1; thread 1 waits for the first, thread 2 for the second.
        world.apply(block(1, 0, 0));
        world.apply(block(2, 1, 0));
        assert_eq!(level(&world), 5);
        world.apply(Step::Wake { address: order[0], shared: false, limit: 1, least_token: 0 });
        assert_eq!(level(&world), if order[0] == 0 { 5 } else { 3 });
        world.apply(Step::Wake { address: order[1], shared: false, limit: 1, least_token: 0 });
        assert_eq!(level(&world), 1);
        world.play([]);
    }
}

/// Thread 1 begins to wait for two threads that wait for it with a limit: both give way. If it is in a cycle of another kind too, it is
/// refused, and those with a limit stay.
#[test]
fn several_waits_with_a_limit_give_way() {
    let mut world = World::<1>::new();
    let limited = |thread, address, owner| {
        let ask = Ask { address, shared: false, token: 0, owner: Some(owner), patience: Some(30) };
        Step::Block { thread, ask, runs: 3 }
    };
    let counts = |world: &World<1>| {
        let statistics = world.table.statistics();
        (statistics.time_outs, statistics.deadlocks)
    };
    world.apply(limited(0, 0, 1));
    world.apply(limited(2, 1, 1));
    for (name, owner) in [(0, 0), (1, 2)] {
        world.apply(Step::Hold { name, owner, address: 3, level: 0 });
    }
    world.apply(block(1, 3, 4));
    assert_eq!(counts(&world), (2, 0));
    // Threads 3, without a limit, and 5, with one, wait for 4, who would wait for both.
    world.apply(block(3, 2, 1));
    world.apply(limited(5, 0, 4));
    world.apply(Step::Hold { name: 2, owner: 5, address: 1, level: 0 });
    world.apply(block(4, 1, 3));
    assert_eq!(counts(&world), (2, 1));
    // With a limit of its own it would be refused for the sake of thread 5 alone.
    world.apply(Step::Claim { address: 3, owner: Some(5) });
    world.apply(limited(4, 3, 1));
    assert_eq!(counts(&world), (2, 2));
    // Thread 5 gives way to a new owner of what it waits for.
    world.apply(Step::Claim { address: 0, owner: Some(1) });
    assert_eq!(counts(&world), (3, 2));
    world.play([]);
}

/// Longer than a report has room for.
#[test]
fn a_long_cycle_is_reported_with_its_length() {
    const LONG: usize = 40;
    let machine = Arc::new(Machine::new());
    let table = Arc::new(PiTurnstiles::<_, 8>::new(machine.clone()));
    for who in 0..LONG {
        let (machine, table) = (machine.clone(), table.clone());
        machine.clone().spawn(Priority::new(1), move || {
            let wait = || {
                let owner = thread((who + 1) % LONG);
                table.block(Address::new(who), Queue::Exclusive, 0, |_| Decision::WaitFor(owner))
            };
            if who == LONG - 1 {
                // The others wait by now.
                machine.sleep(1);
                let deadlock = wait().unwrap_err();
                assert_eq!(deadlock.length(), LONG);
                assert_eq!(deadlock.links().next().unwrap().thread, thread(who));
                assert_eq!(deadlock.links().count(), 7);
                // The loan travels the whole chain, and back.
                for level in [200, 1] {
                    machine.set_own_priority(thread(0), Priority::new(level));
                    table.priority_changed(thread(0));
                    assert_eq!(machine.priority(thread(who)).level(), level);
                }
                assert!((0..LONG - 1).all(|other| table.cancel(thread(other))));
            } else {
                assert_eq!(wait(), Ok(crate::Ending::Cancelled));
            }
        });
    }
    assert_eq!(machine.run(), Ok(()));
}
