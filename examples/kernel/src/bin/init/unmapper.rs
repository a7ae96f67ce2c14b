//! The workload of the counter-proofs: one thread unmaps an arena in long batches while others store to it without pause, and stamps
//! new pages, which get the arena's frames.
//!
//! If the unmapping returns before all CPUs have forgotten the arena, or somebody else frees its frames before, the stores go to the new
//! pages, or to frames that are free.

use core::sync::atomic::{AtomicU64, Ordering};

use crate::abi::{Backing, READ, Tally, WRITE};
use crate::access::{store, store_if_possible};
use crate::call;
use crate::lane::{self, MAX_THREADS, STACK_PAGES};
use crate::stamp::{PAGE, Stamp};

/// Pages of the arena, and of the pages that take its frames: a batch long enough to be stopped in the middle of.
const PAGES: u64 = 256;
/// The usual priority of user threads.
const PRIORITY: u8 = 100;
/// Sweeps that every writer makes before the arena goes: its CPU knows all of it then.
const SWEEPS: u64 = 2;

const ARENA: u64 = lane::arena(0);
const OWN: u64 = lane::file(0);

/// Sweeps over the arena that each writer has made.
static SWEPT: [AtomicU64; MAX_THREADS as usize] = [const { AtomicU64::new(0) }; MAX_THREADS as usize];
static STOP: AtomicU64 = AtomicU64::new(0);

/// The thread that unmaps; it starts the writers.
pub(crate) fn run(process: u64, writers: u64, until: u64) -> ! {
    let writers = writers.clamp(1, MAX_THREADS - 1);
    for writer in 1..=writers {
        let top = lane::stack_top(writer);
        let mapped = call::map(top - STACK_PAGES * PAGE, STACK_PAGES, READ | WRITE, Backing::Anonymous, 0);
        if mapped.and_then(|()| call::spawn(write, top, writer, PRIORITY)).is_err() {
            call::fail();
        }
    }
    let mut version = 0;
    while call::ticks() < until {
        version += 1;
        offer_arena(writers);
        if call::unmap(ARENA, PAGES).is_err() {
            call::fail();
        }
        check_own_pages(process, version);
    }
    STOP.store(1, Ordering::Relaxed); // ORD: Relaxed; looked at again and again
    call::tally(Tally::Steps, version);
    call::exit(0)
}

/// Maps the arena and waits until every writer's CPU knows it.
fn offer_arena(writers: u64) {
    if call::map(ARENA, PAGES, READ | WRITE, Backing::Anonymous, 0).is_err() {
        call::fail();
    }
    (0..PAGES).for_each(|page| store(ARENA + page * PAGE, page));
    for writer in 1..=writers {
        let swept = &SWEPT[writer as usize];
        // ORD: Relaxed, both; only progress counts.
        let goal = swept.load(Ordering::Relaxed) + SWEEPS;
        while swept.load(Ordering::Relaxed) < goal {
            call::yield_now();
        }
    }
}

/// Stamps new pages, looks at them while the writers go on, and unmaps them.
fn check_own_pages(process: u64, version: u64) {
    if call::map(OWN, PAGES, READ | WRITE, Backing::Anonymous, 0).is_err() {
        call::fail();
    }
    let stamp = Stamp::Made { owner: process, version };
    (0..PAGES).for_each(|page| stamp.put(OWN + page * PAGE));
    let mut intact = true;
    for page in 0..PAGES {
        intact = intact && stamp.check(OWN + page * PAGE);
    }
    call::tally(Tally::PagesChecked, PAGES);
    if call::unmap(OWN, PAGES).is_err() {
        call::fail();
    }
}

/// A writer: stores to each page of the arena, over and over, whether it is there or not.
extern "C" fn write(writer: u64) -> ! {
    let (mut stores, mut faults) = (0, 0);
    let mut round = 0;
    // ORD: Relaxed; looked at again and again.
    while STOP.load(Ordering::Relaxed) == 0 {
        round += 1;
        for page in 0..PAGES {
            let word = ARENA + page * PAGE + round % (PAGE / 8) * 8;
            if store_if_possible(word, !0) {
                stores += 1;
            } else {
                faults += 1;
            }
        }
        SWEPT[writer as usize].fetch_add(1, Ordering::Relaxed); // ORD: Relaxed; only progress counts
    }
    call::tally(Tally::WildStores, stores);
    call::tally(Tally::WildFaults, faults);
    call::exit(0)
}
