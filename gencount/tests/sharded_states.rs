//! `sharded`, state by state: every interleaving of two threads that open sections and two that wait, each step one
//! access to shared memory; and the same for the algorithm with a step left out, which must be rejected.
//!
//! Checked in every state: the watermark is below the generation of every open section (INV-DI-1). At every return of a
//! wait: the sections that had marked the word before are closed (INV-DI-5). At the end: nobody is left waiting
//! (INV-DI-8).
//!
//! What this cannot see: that the code follows the model (the seeded schedules of the library's own tests run the
//! code), and reorderings other than those that a variant spells out (the loom tests see them).

use std::collections::HashSet;
use std::hash::{BuildHasherDefault, Hasher};

#[path = "sharded_states/model.rs"]
mod model;

use model::{Next, SECTIONS, State, Variant, WAITERS};

/// Multiply and rotate: states are small and many, and nobody attacks this table.
#[derive(Default)]
struct Mix(u64);

impl Hasher for Mix {
    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.write_u8(byte);
        }
    }

    fn write_u8(&mut self, byte: u8) {
        self.0 = (self.0.rotate_left(5) ^ u64::from(byte)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// Those of the algorithm, and for each section what brings its stores to the others.
const THREADS: usize = SECTIONS + WAITERS + SECTIONS;

/// Set in the environment, this makes the search larger: twenty million states, two gigabytes.
const LONG: &str = "SHARDED_STATES_LONG";

/// Visits every state; the number of states, or what is wrong with one of them.
fn search(variant: Variant, rounds: [u8; SECTIONS], waits: [u8; WAITERS]) -> Result<usize, &'static str> {
    let start = State::new(rounds, waits);
    let mut seen: HashSet<State, BuildHasherDefault<Mix>> = HashSet::default();
    seen.insert(start);
    let mut open = vec![start];
    while let Some(state) = open.pop() {
        let (mut done, mut moved) = (0, false);
        for thread in 0..THREADS {
            match state.step(thread, variant) {
                Next::Done => done += 1,
                Next::Blocked => {}
                Next::Wrong(what) => return Err(what),
                Next::To(next) => {
                    moved = true;
                    if seen.insert(next) {
                        open.push(next);
                    }
                }
            }
        }
        if !moved && done < THREADS {
            return Err("a waiter sleeps for ever");
        }
    }
    Ok(seen.len())
}

const UNSAFE: [Result<usize, &str>; 2] = [
    Err("the watermark passed an open section"),
    Err("a wait returned while a section that it owes to is open"),
];
const STUCK: [Result<usize, &str>; 1] = [Err("a waiter sleeps for ever")];

#[test]
fn every_interleaving_keeps_the_contract() {
    let mut bounds = vec![([1, 1], [2, 1]), ([2, 1], [1, 1])];
    if std::env::var_os(LONG).is_some() {
        bounds.extend([([1, 1], [2, 2]), ([2, 2], [1, 1])]);
    }
    for (rounds, waits) in bounds {
        let states = search(Variant::Faithful, rounds, waits);
        println!("{rounds:?} sections and {waits:?} waits: {states:?} states");
        assert!(states.unwrap() > 100_000);
    }
}

/// A mark may as well read the clock itself: the section's generation is good enough, and spares the reading.
#[test]
fn a_mark_with_a_later_reading_is_as_safe() {
    assert!(search(Variant::MarkReadsTheClock, [1, 1], [1, 1]).is_ok());
}

/// Finishes that store and leave the fence to the waiters.
#[test]
fn light_finishes_keep_the_contract() {
    let states = search(Variant::Light, [1, 1], [1, 1]).unwrap();
    println!("{states} states");
    assert!(states > 100_000);
}

#[test]
fn light_finishes_need_the_waiters_fence_and_their_own_before_they_scan() {
    for variant in [Variant::LightWithoutHeavyFence, Variant::LightScanWithoutFence] {
        assert!(STUCK.contains(&search(variant, [1, 1], [1, 1])), "{variant:?}");
    }
}

/// Publishing the second reading spares waiters; what is safe does not depend on it.
#[test]
fn a_section_that_leaves_its_first_reading_published_is_as_safe() {
    assert!(search(Variant::PublishesOnce, [1, 1], [2, 1]).is_ok());
}

#[test]
fn a_section_needs_a_reading_after_its_publication() {
    for variant in [Variant::FirstReading, Variant::PublishDelayed] {
        assert!(UNSAFE.contains(&search(variant, [1, 1], [2, 1])), "{variant:?}");
    }
}

#[test]
fn a_waiter_needs_the_clock_raised_and_then_the_slots() {
    for variant in [Variant::NotRaised, Variant::NoScan, Variant::SlotsBeforeClock] {
        assert!(UNSAFE.contains(&search(variant, [1, 1], [2, 1])), "{variant:?}");
    }
}

#[test]
fn a_waiter_needs_every_step_of_going_to_sleep_and_being_woken() {
    for variant in [
        Variant::NoRecheck,
        Variant::RegistersLate,
        Variant::LooksEarly,
        Variant::FinishBlind,
        Variant::FinishDoesNotSettle,
    ] {
        assert!(STUCK.contains(&search(variant, [1, 1], [1, 1])), "{variant:?}");
    }
}
