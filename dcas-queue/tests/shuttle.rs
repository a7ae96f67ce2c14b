//! The real code under shuttle: longer schedules, up to six threads over whole lifetimes of nodes, chosen at random and by
//! probabilistic concurrency testing (PCT), which finds any error that needs few preemptions at the right places with a known
//! probability.
//!
//! `.ci/shuttle` runs it. `SHUTTLE_ITERATIONS` (default 2000) says how many schedules each test runs; a failure prints the schedule, which
//! `shuttle::replay` takes.
//!
//! What shuttle cannot see:
//! * *Weak memory.* It is sequentially consistent; loom has that part, for fewer threads.
//! * *Everything.* It samples. The explicit-state check is exhaustive, for three threads.
//! * *The assembly.* Pairs take the portable form here, on a 64-bit cell.
#![cfg(dcas_queue_shuttle)]

#[expect(unreachable_pub, reason = "the loom tests include the module too")]
#[path = "checked/mod.rs"]
mod checked;

use std::sync::Arc;

use checked::World;
use dcas_queue::Mutation;
use shuttle::rand::{Rng, thread_rng};
use shuttle::scheduler::{PctScheduler, RandomScheduler};
use shuttle::sync::Mutex;
use shuttle::{Config, Runner, thread};

fn iterations() -> usize {
    std::env::var("SHUTTLE_ITERATIONS")
        .ok()
        .map_or(2000, |n| n.parse().expect("SHUTTLE_ITERATIONS is a number"))
}

/// Runs a test both ways.
fn check(test: fn()) {
    shuttle::check_random(test, iterations());
    shuttle::check_pct(test, iterations(), 3);
    shuttle::check_pct(test, iterations(), 5);
}

/// `threads` threads, each with its own node for `rounds` sections, beside one that completes removals. Every other
/// thread leaves its last section to the main thread.
fn own_nodes(threads: usize, rounds: u64, mutation: Option<Mutation>) {
    let world = Arc::new(World::new(threads, mutation));
    let workers: Vec<_> = (0..threads)
        .map(|node| {
            let world = Arc::clone(&world);
            thread::spawn(move || {
                for round in 0..rounds {
                    world.append(node, 1 + (round + node as u64) % 3, thread::yield_now);
                    if round + 1 < rounds || node % 2 == 0 {
                        world.remove(node, thread::yield_now);
                    }
                }
            })
        })
        .collect();
    world.complete_removals(thread::yield_now);
    workers.into_iter().for_each(|worker| worker.join().expect("no panic"));
    (0..threads).for_each(|node| world.remove_if_open(node, thread::yield_now));
    world.drained();
}

#[test]
fn two_threads_many_rounds() {
    check(|| own_nodes(2, 12, None));
}

#[test]
fn four_threads() {
    check(|| own_nodes(4, 4, None));
}

#[test]
fn six_threads() {
    check(|| own_nodes(6, 3, None));
}

/// Nodes go from thread to thread through a pool, so a node's next stay is often another thread's; threads hold several at
/// a time and remove them in any order.
#[test]
fn six_threads_hand_nodes_around() {
    check(|| {
        let world = Arc::new(World::new(checked::NODES, None));
        let pool = Arc::new(Mutex::new((0..checked::NODES).collect::<Vec<_>>()));
        let workers: Vec<_> = (0..6)
            .map(|_| {
                let (world, pool) = (Arc::clone(&world), Arc::clone(&pool));
                thread::spawn(move || {
                    let mut held = Vec::new();
                    for _ in 0..6 {
                        let node = pool.lock().expect("no panic").pop();
                        if let Some(node) = node {
                            world.append(node, 1 + thread_rng().gen_range(0..3u64), thread::yield_now);
                            held.push(node);
                        }
                        if held.len() > 1 || node.is_none() {
                            if held.is_empty() {
                                continue;
                            }
                            let node = held.swap_remove(thread_rng().gen_range(0..held.len()));
                            world.remove(node, thread::yield_now);
                            pool.lock().expect("no panic").insert(0, node);
                        }
                    }
                    for node in held {
                        world.remove(node, thread::yield_now);
                    }
                })
            })
            .collect();
        workers.into_iter().for_each(|worker| worker.join().expect("no panic"));
        world.drained();
    });
}

/// Runs a test that has to fail, in the same schedules each time, enough of them to find one.
fn some_schedule(test: fn()) {
    const SEED: u64 = 1;
    const SCHEDULES: usize = 20_000;
    Runner::new(RandomScheduler::new_from_seed(SEED, SCHEDULES), Config::new()).run(test);
    Runner::new(PctScheduler::new_from_seed(SEED, 3, SCHEDULES), Config::new()).run(test);
}

macro_rules! noticed {
    ($($name:ident: $mutation:ident;)+) => {$(
        #[test]
        #[should_panic(expected = "INV-Q-")]
        fn $name() {
            some_schedule(|| own_nodes(3, 6, Some(Mutation::$mutation)));
        }
    )+};
}

// The real code with a rule taken away. That a helper keeps an earlier payload shows too seldom here; loom notices it.
noticed! {
    no_predecessor_recheck_is_noticed: NoRecheck;
    link_read_before_payload_is_noticed: LinkReadBeforePayload;
    link_prepared_before_payload_is_noticed: LinkPreparedBeforePayload;
    payload_read_before_mark_is_noticed: PayloadReadBeforeMark;
}
