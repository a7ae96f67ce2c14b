//! The coherence protocols under loom: the functions of `src/pcid.rs` (an activation and an invalidation, H-17) and `src/mailbox.rs`
//! (several initiators at once), compiled here a second time on loom's atomics, in all interleavings up to the bounds below and with all
//! values that the orderings permit.
//!
//! `.ci/loom` runs it: `RUSTFLAGS="--cfg pmap_loom" cargo test --release -p amd64-pmap --no-default-features --test loom`.
//!
//! What loom cannot see: it takes SeqCst accesses for AcqRel ones, so that what is shown here rests on the two fences alone. The
//! hardware is a model: a walk is a load of the table entry, made after the activation. Errors that need more preemptions than the bounds
//! stay hidden; `LOOM_MAX_PREEMPTIONS` raises them. (Tried by hand: each of the mailbox's four Acquire and Release orderings, made Relaxed,
//! fails here.)
#![cfg(pmap_loom)]

use std::sync::Arc;

use loom::cell::UnsafeCell;
use loom::sync::atomic::AtomicU64 as Loom;
use loom::thread;
use primitive::{AtomicU64, Ordering};

/// In place of `crate::primitive`.
mod primitive {
    use std::sync::OnceLock;

    use loom::sync::atomic::AtomicU64 as Loom;
    pub(crate) use loom::sync::atomic::{AtomicU32, Ordering, fence};

    /// loom's atomic, made at its first use, so that it can be initialised by a constant. Whoever makes a structure of them uses
    /// each of them once before there are other threads.
    #[derive(Debug)]
    pub(crate) struct AtomicU64 {
        value: u64,
        atomic: OnceLock<Loom>,
    }

    impl AtomicU64 {
        pub(crate) const fn new(value: u64) -> Self {
            Self { value, atomic: OnceLock::new() }
        }
    }

    impl std::ops::Deref for AtomicU64 {
        type Target = Loom;

        fn deref(&self) -> &Loom {
            self.atomic.get_or_init(|| Loom::new(self.value))
        }
    }
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
#[expect(unreachable_pub, reason = "public in the library")]
#[path = "../src/cpuset.rs"]
mod cpuset;
#[path = "../src/mailbox.rs"]
mod mailbox;
#[expect(dead_code, reason = "a part is used")]
#[path = "../src/pcid.rs"]
mod pcid;

use cpuset::{CpuId, CpuSet};
use mailbox::Mailbox;
use mutation::{Mutation, Switch};
use pcid::{Allocator, activate, revoke};

const MAPPED: u64 = 1;

/// One address space, one CPU that activates it, and others that take its only page away.
struct World {
    entry: Loom,
    active: Loom,
    tags: [AtomicU64; 1],
    cpu: Allocator,
    switch: Switch,
}

impl World {
    fn new(switch: Switch) -> Self {
        Self {
            entry: Loom::new(MAPPED),
            active: Loom::new(0),
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
        let interrupted =
            others.into_iter().map(|other| other.join().unwrap()).filter(|hit| *hit).count() > 0;
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

/// CPUs with mailboxes, and for each a word that stands for what the others have cached of it: whoever does a message of an initiator
/// writes its word, and when the message is done the initiator, who writes it too, must be alone with it.
struct Cpus<const N: usize> {
    mailboxes: [Mailbox; N],
    done: [UnsafeCell<u64>; N],
}

// SAFETY: the words are in loom's cells, which report every access at the same time as another; to find those is what this is for.
unsafe impl<const N: usize> Send for Cpus<N> {}
// SAFETY: as above.
unsafe impl<const N: usize> Sync for Cpus<N> {}

impl<const N: usize> Cpus<N> {
    fn new() -> Self {
        let cpus = Self {
            mailboxes: [const { Mailbox::new() }; N],
            done: std::array::from_fn(|_| UnsafeCell::new(0)),
        };
        for mailbox in &cpus.mailboxes {
            // Makes loom's atomics.
            mailbox.write([0; mailbox::WORDS], &CpuSet::EMPTY);
            assert!(mailbox.is_done() && mailbox.collect().is_empty());
            mailbox.notify(id(0));
            assert!(!mailbox.collect().is_empty());
        }
        cpus
    }

    /// Does what CPU `me` has been asked; returns by how many.
    fn serve(&self, me: usize) -> usize {
        let initiators = self.mailboxes[me].collect();
        for initiator in initiators.iter() {
            let mailbox = &self.mailboxes[initiator.index()];
            let message = mailbox.read();
            assert_eq!(
                (message[0], message[7]),
                (initiator.index() as u64 + 1, 70 + message[0]),
                "all of it"
            );
            // SAFETY: loom checks that nobody else is at it: the targets of one message take turns in these tests.
            self.done[initiator.index()].with_mut(|word| unsafe { *word += 1 });
            mailbox.acknowledge(id(me));
        }
        initiators.len()
    }

    /// CPU `me` asks `target`.
    fn send(&self, me: usize, target: usize) {
        let number = me as u64 + 1;
        self.mailboxes[me]
            .write([number, 0, 0, 0, 0, 0, 0, 70 + number], &[id(target)].into_iter().collect());
        self.mailboxes[target].notify(id(me));
    }

    /// What the initiator of a message that is done relies on.
    fn take_done(&self, me: usize) {
        // SAFETY: loom checks that the target is through with it.
        assert_eq!(self.done[me].with_mut(|word| unsafe { std::mem::replace(&mut *word, 0) }), 1);
    }

    /// CPU `me` asks `target`, and serves others while it waits.
    fn ask(&self, me: usize, target: usize) {
        self.send(me, target);
        while !self.mailboxes[me].is_done() {
            self.serve(me);
            thread::yield_now();
        }
        self.take_done(me);
    }
}

fn id(cpu: usize) -> CpuId {
    CpuId::new(cpu).unwrap()
}

fn check<const N: usize>(
    preemptions: usize,
    program: impl Fn(&Cpus<N>, usize) + Send + Sync + Copy + 'static,
) {
    let mut builder = loom::model::Builder::new();
    if builder.preemption_bound.is_none() {
        builder.preemption_bound = Some(preemptions);
    }
    builder.max_branches = 20_000;
    builder.check(move || {
        let cpus = Arc::new(Cpus::<N>::new());
        let others: Vec<_> = (1..N)
            .map(|me| {
                let cpus = Arc::clone(&cpus);
                thread::spawn(move || program(&cpus, me))
            })
            .collect();
        program(&cpus, 0);
        others.into_iter().for_each(|other| other.join().unwrap());
    });
}

/// The box is used again, too.
#[test]
fn a_message_is_read_whole_and_done_before_its_initiator_goes_on() {
    check::<2>(2, |cpus, me| {
        let mut served = 0;
        while me == 1 && served < 2 {
            served += cpus.serve(me);
            thread::yield_now();
        }
        if me == 0 {
            cpus.ask(0, 1);
            cpus.ask(0, 1);
        }
    });
}

#[test]
fn two_initiators_that_ask_each_other_both_go_on() {
    check::<2>(2, |cpus, me| {
        cpus.ask(me, 1 - me);
        // The other one may have asked only now.
        cpus.serve(me);
    });
}

/// Nobody waits here: loom cannot bound what three that wait may do.
#[test]
fn two_initiators_ask_the_same_target_at_once() {
    check::<3>(3, |cpus, me| {
        if me == 0 {
            let served = cpus.serve(0) + cpus.serve(0);
            assert!(served <= 2);
        } else {
            cpus.send(me, 0);
            if cpus.mailboxes[me].is_done() {
                cpus.take_done(me);
            }
        }
    });
}
