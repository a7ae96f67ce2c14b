//! The workload of the counter-proofs: one thread unmaps an arena in batches while others store to it, and stamps new pages, which get
//! the arena's frames.
//!
//! If the unmapping returns before all CPUs have forgotten the arena, or somebody else gives its frames away before it has, the stores go
//! to the new pages, or to frames that are free. The writers are more urgent than the thread that unmaps and run at every tick: so they
//! come in between wherever it is, in the middle of a batch above all.

use core::sync::atomic::{AtomicU64, Ordering};

use crate::abi::{Backing, READ, Tally, WRITE};
use crate::access::{store, store_if_possible};
use crate::call;
use crate::lane::{self, MAX_THREADS, STACK_PAGES};
use crate::stamp::{PAGE, Stamp};

/// Pages with stamps.
const OWN_PAGES: u64 = 64;
/// Priority of the writers; the thread that unmaps has 100.
const URGENT: u8 = 120;
/// Sweeps that a writer makes at every tick, as long as it finds everything there: about as long as the page daemon is at work.
const SWEEPS: u64 = 200;
/// Pages that writers store to, those that are unmapped first: not more than the TLB of an emulated CPU keeps, or a sweep would drive its own
/// beginning out.
const HOT_PAGES: u64 = 128;

const ARENA: u64 = lane::arena(0);
const OWN: u64 = lane::file(0);

/// What a writer has done.
struct Progress {
    /// Sweeps in which all pages were there: the CPU knows them then.
    whole: AtomicU64,
    /// All sweeps.
    tried: AtomicU64,
}

static PROGRESS: [Progress; MAX_THREADS as usize] =
    [const { Progress { whole: AtomicU64::new(0), tried: AtomicU64::new(0) } }; MAX_THREADS as usize];
static STOP: AtomicU64 = AtomicU64::new(0);
/// Pages of the arena that writers store to.
static SWEPT: AtomicU64 = AtomicU64::new(0);

/// The thread that unmaps an arena of `pages`, `batch` at a time; it starts the writers.
pub(crate) fn run(process: u64, pages: u64, writers: u64, until: u64, batch: u64) -> ! {
    let writers = writers.clamp(1, MAX_THREADS - 1);
    SWEPT.store(pages.min(HOT_PAGES), Ordering::Relaxed); // ORD: Relaxed; the call that begins a thread orders it
    for writer in 1..=writers {
        let top = lane::stack_top(writer);
        let mapped = call::map(top - STACK_PAGES * PAGE, STACK_PAGES, READ | WRITE, Backing::Anonymous, 0);
        if mapped.and_then(|()| call::spawn(write, top, writer, URGENT)).is_err() {
            call::fail();
        }
    }
    let mut version = 0;
    while call::ticks() < until {
        version += 1;
        map(ARENA, pages);
        (0..pages).for_each(|page| store(ARENA + page * PAGE, page));
        wait_for(writers, |progress| &progress.whole);
        (0..pages / batch).for_each(|number| unmap(ARENA + number * batch * PAGE, batch));
        check_own_pages(process, version, writers);
    }
    STOP.store(1, Ordering::Relaxed); // ORD: Relaxed; looked at again and again
    call::tally(Tally::Steps, version);
    call::exit(0)
}

fn map(at: u64, pages: u64) {
    if call::map(at, pages, READ | WRITE, Backing::Anonymous, 0).is_err() {
        call::fail();
    }
}

fn unmap(at: u64, pages: u64) {
    if call::unmap(at, pages).is_err() {
        call::fail();
    }
}

/// Waits until every writer has begun and ended a sweep.
fn wait_for(writers: u64, counter: impl Fn(&Progress) -> &AtomicU64) {
    for progress in &PROGRESS[1..=writers as usize] {
        // ORD: Relaxed, both; only progress counts.
        let goal = counter(progress).load(Ordering::Relaxed) + 2;
        while counter(progress).load(Ordering::Relaxed) < goal {
            call::yield_now();
        }
    }
}

/// Stamps new pages, looks at them after the writers have been there, and unmaps them.
fn check_own_pages(process: u64, version: u64, writers: u64) {
    map(OWN, OWN_PAGES);
    let stamp = Stamp::Made { owner: process, version };
    let pages = || (0..OWN_PAGES).map(|page| OWN + page * PAGE);
    pages().for_each(|page| stamp.put(page));
    wait_for(writers, |progress| &progress.tried);
    // One report is enough: all of them would take long.
    let _intact = pages().all(|page| stamp.check(page));
    call::tally(Tally::PagesChecked, OWN_PAGES);
    // A shootdown more in every other round: so it is not always the same one of a round that is the sixteenth.
    if version.is_multiple_of(2) && call::protect(OWN, OWN_PAGES, READ).is_err() {
        call::fail();
    }
    unmap(OWN, OWN_PAGES);
}

/// A writer: stores to the arena, whether it is there or not, at every tick.
extern "C" fn write(writer: u64) -> ! {
    let progress = &PROGRESS[writer as usize];
    let (mut sweeps, mut faults) = (0, 0);
    // ORD: Relaxed; looked at again and again.
    while STOP.load(Ordering::Relaxed) == 0 {
        for _ in 0..SWEEPS {
            let missed = sweep(sweeps);
            faults += missed;
            sweeps += 1;
            // ORD: Relaxed, both; only progress counts.
            progress.whole.fetch_add(u64::from(missed == 0), Ordering::Relaxed);
            progress.tried.fetch_add(1, Ordering::Relaxed);
            if missed > 0 {
                break;
            }
        }
        call::sleep(0);
    }
    // ORD: Relaxed; as in `run`.
    call::tally(Tally::WildStores, sweeps * SWEPT.load(Ordering::Relaxed));
    call::tally(Tally::WildFaults, faults);
    call::exit(0)
}

/// Stores to each page once, and to another word of it in every round; says how many were not there.
fn sweep(round: u64) -> u64 {
    let mut missed = 0;
    // ORD: Relaxed; as in `run`.
    for page in 0..SWEPT.load(Ordering::Relaxed) {
        let word = ARENA + page * PAGE + round % (PAGE / 8) * 8;
        missed += u64::from(!store_if_possible(word, !0));
    }
    missed
}
