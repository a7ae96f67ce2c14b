//! The real code under loom: all interleavings of a few threads, at each access to half a pair, and all values that a
//! load may return under the orderings given.
//!
//! `.ci/loom` runs it: `RUSTFLAGS="--cfg dcas_queue_loom" cargo test --release -p dcas-queue --no-default-features
//! --test loom`. `LOOM_MAX_PREEMPTIONS` raises the bound that each test sets.
//!
//! What loom cannot see:
//! * *More preemptions than the bound*, where a test has one (the number beside it): errors that need more stay hidden. The explicit-state
//!   check has no such bound. The missing never-down rule takes three threads and two rounds, which is too much here. Loads without
//!   Acquire, which no run-time switch can make, were noticed when tried by hand.
//! * *SeqCst.* loom treats SeqCst accesses as AcqRel, so what needs the total order of marks and unlinks (the users'
//!   store-then-load protocols) is not shown here; nor is it needed by the queue itself.
//! * *The assembly.* Pairs take the portable form here, on a 64-bit cell. The assembly's accesses are the same ones, and
//!   stronger.
//! * *Stale values without end.* loom lets a load return an old value only while coherence permits.
#![cfg(dcas_queue_loom)]

#[expect(unreachable_pub, reason = "the shuttle tests include the module too")]
#[path = "checked/mod.rs"]
mod checked;
#[path = "loom/pair.rs"]
mod pair;

use std::sync::Arc;

use checked::World;
use dcas_queue::Mutation;
use loom::sync::atomic::{AtomicU64, Ordering};
use loom::thread;

/// All interleavings of `threads` on a world that `prepare` made, with at most so many preemptions; operations do without the
/// rule, if one is named.
fn check(
    preemptions: Option<usize>,
    nodes: usize,
    mutation: Option<Mutation>,
    prepare: fn(&World),
    threads: &'static [fn(&World)],
) {
    let mut builder = loom::model::Builder::new();
    if builder.preemption_bound.is_none() {
        builder.preemption_bound = preemptions;
    }
    builder.max_branches = 10_000;
    builder.check(move || {
        let world = Arc::new(World::new(nodes, mutation));
        prepare(&world);
        let (first, others) = threads.split_first().expect("some thread");
        let spawned: Vec<_> = others
            .iter()
            .map(|other| {
                let world = Arc::clone(&world);
                thread::spawn(move || other(&world))
            })
            .collect();
        first(&world);
        for thread in spawned {
            thread.join().expect("no panic");
        }
        for node in 0..nodes {
            world.remove_if_open(node, thread::yield_now);
        }
        world.drained();
    });
}

fn append<const NODE: usize>(world: &World) {
    world.append(NODE, 1, thread::yield_now);
}

fn append_two<const NODE: usize>(world: &World) {
    world.append(NODE, 2, thread::yield_now);
}

fn remove<const NODE: usize>(world: &World) {
    world.remove(NODE, thread::yield_now);
}

fn section<const NODE: usize>(world: &World) {
    append::<NODE>(world);
    remove::<NODE>(world);
}

fn complete(world: &World) {
    world.complete_removals(thread::yield_now);
}

fn appended<const N: usize>(world: &World) {
    for node in 0..N {
        world.append(node, 1, thread::yield_now);
    }
}

/// One thread's node is used again while the other has a section too.
const USED_AGAIN: [fn(&World); 2] = [
    |world| {
        remove::<0>(world);
        section::<0>(world);
    },
    section::<1>,
];

macro_rules! interleavings {
    ($($(#[$doc:meta])* $name:ident: $preemptions:expr, $nodes:literal nodes, after $prepare:expr, $threads:expr;)+) => {$(
        $(#[$doc])*
        #[test]
        fn $name() {
            check($preemptions, $nodes, None, $prepare, &$threads);
        }
    )+};
}

interleavings! {
    append_append: None, 2 nodes, after appended::<0>, [append::<0>, append_two::<1>];
    append_append_append: Some(4), 3 nodes, after appended::<0>, [append::<0>, append_two::<1>, append::<2>];
    append_remove: None, 2 nodes, after appended::<1>, [remove::<0>, append::<1>];
    remove_remove_of_neighbours: None, 2 nodes, after appended::<2>, [remove::<0>, remove::<1>];
    remove_remove_of_neighbours_and_append: Some(2), 3 nodes, after appended::<2>, [remove::<0>, remove::<1>, append::<2>];
    three_neighbours_removed: Some(2), 3 nodes, after appended::<3>, [remove::<0>, remove::<1>, remove::<2>];
    remove_while_a_stranger_helps: None, 1 nodes, after appended::<1>, [remove::<0>, complete];
    removes_while_a_stranger_helps: Some(2), 2 nodes, after appended::<2>, [remove::<0>, remove::<1>, complete];
    remove_and_append_while_a_stranger_helps: Some(3), 2 nodes, after appended::<1>, [remove::<0>, append::<1>, complete];
    /// A node is prepared again while a slow walker still has it from its last stay.
    nodes_used_again: Some(3), 2 nodes, after appended::<1>, USED_AGAIN;
    sections_of_three: Some(1), 3 nodes, after appended::<0>, [section::<0>, section::<1>, section::<2>];
}

/// What the watermark promises beyond a number: all that was done in the sections up to it is visible to whoever reads it, also
/// when a helper moved it.
#[test]
fn work_before_a_removal_is_visible_at_the_watermark() {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = builder.preemption_bound.or(Some(5));
    builder.check(|| {
        let world = Arc::new((World::new(2, None), [AtomicU64::new(0), AtomicU64::new(0)]));
        appended::<2>(&world.0);
        let workers: Vec<_> = (0..2)
            .map(|node| {
                let world = Arc::clone(&world);
                thread::spawn(move || {
                    // ORD: Relaxed: the queue alone has to order it.
                    world.1[node].store(1, Ordering::Relaxed);
                    world.0.remove(node, thread::yield_now);
                })
            })
            .collect();
        let watermark = world.0.queue.watermark();
        for node in 0..watermark as usize {
            // ORD: Relaxed: as above.
            assert_eq!(world.1[node].load(Ordering::Relaxed), 1, "at the watermark {watermark}");
        }
        for worker in workers {
            worker.join().expect("no panic");
        }
        world.0.drained();
    });
}

macro_rules! noticed {
    ($($name:ident: $mutation:ident in $preemptions:expr, $nodes:literal nodes, after $prepare:expr, $threads:expr;)+) => {$(
        #[test]
        #[should_panic(expected = "INV-Q-")]
        fn $name() {
            check($preemptions, $nodes, Some(Mutation::$mutation), $prepare, &$threads);
        }
    )+};
}

// The real code with a rule taken away.
noticed! {
    no_predecessor_recheck_is_noticed: NoRecheck in Some(3), 2 nodes, after appended::<1>, USED_AGAIN;
    link_read_before_payload_is_noticed: LinkReadBeforePayload in Some(3), 2 nodes, after appended::<1>, USED_AGAIN;
    link_prepared_before_payload_is_noticed: LinkPreparedBeforePayload in Some(3), 2 nodes, after appended::<1>, USED_AGAIN;
    payload_read_before_mark_is_noticed: PayloadReadBeforeMark in None, 2 nodes, after appended::<2>, [remove::<0>, remove::<1>];
    helper_keeps_earlier_payload_is_noticed: HelperKeepsEarlierPayload
        in Some(2), 2 nodes, after appended::<2>, [remove::<0>, remove::<1>, complete];
}
