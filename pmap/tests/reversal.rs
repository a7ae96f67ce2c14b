//! From a page to its mappings, against lock order, while address spaces end and their cores serve others.

mod support;

use std::mem::ManuallyDrop;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use pmap::mutation::Mutation;
use pmap::{Access, EnterFlags, Frame, Machine, Statistics, VirtAddr};

use support::replay::{each, seeds};
use support::{READ_WRITE, assert_clean, cpu, deterministic, system};

const PAGES: usize = 4;
const MAPPERS: usize = 2;
const ROUNDS: usize = 10;

fn va(page: usize) -> VirtAddr {
    VirtAddr(0x7000_0000 + page as u64 * 0x1000)
}

/// Two CPUs make address spaces, map pages and take the spaces down; two others take the pages away from whatever
/// maps them, and free them at once.
fn play(seed: u64, mutation: Option<Mutation>) -> Statistics {
    let system = system(deterministic(MAPPERS + 2, 256, seed));
    system.set_mutation(mutation);
    let machine = system.machine();
    // Frames that are mapped perhaps; whoever takes one out of its place frees it.
    let pages: [AtomicU64; PAGES * MAPPERS] = std::array::from_fn(|_| AtomicU64::new(0));
    let take = |place: usize| Some(Frame(pages[place].swap(0, Ordering::AcqRel))).filter(|f| f.0 != 0);
    let mapping = AtomicUsize::new(MAPPERS);
    let free = |frame| {
        system.remove_all(system.page(frame).expect("managed memory"));
        machine.free_data_frame(frame);
    };
    let mapper = |me: usize| {
        for _ in 0..ROUNDS {
            // After a panic nothing in the machine can be taken down properly.
            let space = ManuallyDrop::new(system.create().expect("memory"));
            for page in 0..PAGES {
                let frame = machine.allocate_data_frame(true).expect("memory");
                space.enter(va(page), frame, READ_WRITE, Access::Write, EnterFlags::empty()).expect("memory");
                pages[me * PAGES + page].store(frame.0, Ordering::Release);
            }
            ManuallyDrop::into_inner(space).destroy().expect("active nowhere");
            (0..PAGES).filter_map(|page| take(me * PAGES + page)).for_each(free);
        }
        mapping.fetch_sub(1, Ordering::AcqRel);
    };
    let thief = || {
        while mapping.load(Ordering::Acquire) > 0 {
            (0..pages.len()).filter_map(take).for_each(free);
            machine.relax();
        }
    };
    machine
        .run_cpus(|id| {
            system.start_cpu();
            if id.index() < MAPPERS {
                mapper(id.index())
            } else {
                thief()
            }
            system.stop_cpu();
        })
        .expect("all CPUs are free");
    machine.run_cpu(cpu(0), || assert_clean(&system));
    system.statistics()
}

#[test]
fn an_address_space_may_end_while_somebody_waits_for_its_lock() {
    let mut restarts = 0;
    let made = each(seeds(0..16), |seed| {
        let statistics = play(seed, None);
        assert_eq!((statistics.pv_entries, statistics.pv_chunks), (0, 0));
        restarts += statistics.reversal_restarts;
    });
    assert!(made < 16 || restarts > 8, "{restarts}: hardly ever did anything change behind the dropped lock");
}

#[test]
fn a_generation_that_is_not_compared_is_noticed_with_every_seed() {
    each(seeds(0..16), |seed| {
        let outcome = catch_unwind(AssertUnwindSafe(|| play(seed, Some(Mutation::StaleReversal))));
        assert!(outcome.is_err(), "seed {seed}: the harness cannot see a stale PV entry");
    });
}
