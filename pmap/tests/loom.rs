//! The race between an activation and an invalidation (H-17), under loom: the functions of `src/pcid.rs`, compiled here a second time on
//! loom's atomics, in all interleavings and with all values that the orderings permit.
//!
//! `.ci/loom` runs it: `RUSTFLAGS="--cfg pmap_loom" cargo test --release -p amd64-pmap --no-default-features --test loom`.
//!
//! What loom cannot see: it takes SeqCst accesses for AcqRel ones, so that what is shown here rests on the two fences alone. And the
//! hardware is a model: a walk is a load of the table entry, made after the activation.
#![cfg(pmap_loom)]

use std::sync::Arc;

use loom::sync::atomic::{AtomicU64, Ordering};
use loom::thread;

/// In place of `crate::primitive`.
mod primitive {
    pub(crate) use loom::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};
}

/// In place of `crate::mutation`: a switch that is made by value.
mod mutation {
    #[derive(Clone, Copy, PartialEq)]
    pub(crate) enum Mutation {
        NoRevocation,
        ReusedPcid,
        GenerationZero,
        TagBeforeActive,
        NoActivationFence,
    }

    #[derive(Clone, Copy)]
    pub(crate) struct Switch(pub(crate) Option<Mutation>);

    impl Switch {
        pub(crate) fn is(&self, mutation: Mutation) -> bool {
            self.0 == Some(mutation)
        }
    }
}

#[expect(dead_code, reason = "a part is used")]
#[path = "../src/pcid.rs"]
mod pcid;

use mutation::{Mutation, Switch};
use pcid::{Allocator, activate, revoke};

const MAPPED: u64 = 1;

/// One address space, one CPU that activates it, and others that take its only page away.
struct World {
    entry: AtomicU64,
    active: AtomicU64,
    tags: [AtomicU64; 1],
    cpu: Allocator,
    switch: Switch,
}

impl World {
    fn new(switch: Switch) -> Self {
        Self {
            entry: AtomicU64::new(MAPPED),
            active: AtomicU64::new(0),
            tags: [AtomicU64::new(0)],
            cpu: Allocator::new(),
            switch,
        }
    }

    fn activate(&self) -> pcid::Assigned {
        let join = || {
            self.active.fetch_or(1, Ordering::SeqCst);
        };
        activate(&self.tags[0], &self.cpu, 8, &self.switch, join)
    }

    fn leave(&self) {
        self.active.fetch_and(!1, Ordering::SeqCst);
    }

    /// A walk, by which the CPU would cache what it finds.
    fn walk(&self) -> bool {
        self.entry.load(Ordering::Relaxed) == MAPPED
    }

    /// Whether the CPU is interrupted.
    fn take_away(&self) -> bool {
        self.entry.swap(0, Ordering::SeqCst);
        revoke(&self.tags, None, &self.switch, |_| {}, || self.active.load(Ordering::SeqCst) != 0)
    }
}

/// The CPU has the translation cached under a good tag, and has left. Then it comes back, perhaps twice, while others take the page
/// away. If none of them interrupts the CPU, the CPU must neither keep what it has nor find it again.
fn race(mutation: Option<Mutation>, initiators: usize, activations: usize) {
    let mut builder = loom::model::Builder::new();
    if builder.preemption_bound.is_none() {
        builder.preemption_bound = Some(3);
    }
    builder.check(move || {
        let world = Arc::new(World::new(Switch(mutation)));
        world.activate();
        world.leave();
        let others: Vec<_> = (0..initiators)
            .map(|_| {
                let world = Arc::clone(&world);
                thread::spawn(move || world.take_away())
            })
            .collect();
        let mut holds = true;
        for round in 0..activations {
            if round > 0 {
                world.leave();
            }
            holds = (holds && world.activate().kept) || world.walk();
        }
        let interrupted = others.into_iter().fold(false, |any, other| other.join().unwrap() || any);
        assert!(interrupted || !holds, "a stale translation, and no interrupt");
    });
}

fn must_fail(mutation: Mutation) {
    let outcome = std::panic::catch_unwind(|| race(Some(mutation), 1, 1));
    assert!(outcome.is_err(), "loom does not notice the mutation");
}

#[test]
fn an_activation_and_an_invalidation_do_not_miss_each_other() {
    race(None, 1, 1);
}

#[test]
fn nor_do_two_activations_in_a_row() {
    race(None, 1, 2);
}

#[test]
fn nor_do_two_initiators() {
    race(None, 2, 1);
}

#[test]
fn without_the_fences_they_do() {
    must_fail(Mutation::NoActivationFence);
}

#[test]
fn with_the_tag_read_too_early_they_do() {
    must_fail(Mutation::TagBeforeActive);
}

#[test]
fn without_the_revocation_they_do() {
    must_fail(Mutation::NoRevocation);
}
