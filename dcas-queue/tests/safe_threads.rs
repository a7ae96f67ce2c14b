//! The safe layer under threads that come and go: tickets change hands, are forgotten, unwind, and outlive their
//! threads, while others walk. Each node has a page of its own, which is unmapped when the node is freed, so a walk that
//! reads a freed node kills the test.
//!
//! What this cannot see: a use after free that no interleaving of the run leads to.
#![cfg(all(feature = "std", target_os = "linux"))]

use std::alloc::{GlobalAlloc, Layout, System};
use std::num::NonZeroU64;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock, mpsc};
use std::thread;

use dcas_queue::Node;
use dcas_queue::safe::{ONE, Ticket, Tracker};

/// Gives every node a page of its own, once; a freed node's page is gone.
struct OnePageEach;

static NODES_ALLOCATED: AtomicUsize = AtomicUsize::new(0);
static NODES_FREED: AtomicUsize = AtomicUsize::new(0);

const PAGE: usize = 4096;
/// Address space for this many nodes; the run uses a tenth.
const PAGES: usize = 1 << 20;

fn is_node(layout: Layout) -> bool {
    layout == Layout::new::<Node>()
}

/// Where the pages are.
fn arena() -> *mut u8 {
    static ARENA: OnceLock<usize> = OnceLock::new();
    let base = *ARENA
        .get_or_init(|| map(std::ptr::null_mut(), PAGE * PAGES, libc::PROT_NONE, 0).expose_provenance());
    std::ptr::with_exposed_provenance_mut(base)
}

/// Maps fresh memory. With `MAP_FIXED`, only over the arena's own pages that nobody uses.
fn map(at: *mut u8, len: usize, protection: i32, flags: i32) -> *mut u8 {
    let flags = flags | libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
    // SAFETY: the callers keep to fresh addresses, or to unused pages of the arena.
    let mapped = unsafe { libc::mmap(at.cast(), len, protection, flags, -1, 0) };
    if mapped == libc::MAP_FAILED { std::ptr::null_mut() } else { mapped.cast() }
}

// SAFETY: a page from the arena is used once; everything else is `System`'s.
unsafe impl GlobalAlloc for OnePageEach {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if !is_node(layout) {
            // SAFETY: the caller's promises are `System`'s.
            return unsafe { System.alloc(layout) };
        }
        let index = NODES_ALLOCATED.fetch_add(1, Ordering::Relaxed);
        let base = arena();
        if base.is_null() || index >= PAGES {
            return std::ptr::null_mut();
        }
        let page = base.wrapping_add(index * PAGE);
        map(page, PAGE, libc::PROT_READ | libc::PROT_WRITE, libc::MAP_FIXED)
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        if is_node(layout) {
            NODES_FREED.fetch_add(1, Ordering::Relaxed);
            map(block, PAGE, libc::PROT_NONE, libc::MAP_FIXED);
        } else {
            // SAFETY: the caller's promises are `System`'s.
            unsafe { System.dealloc(block, layout) };
        }
    }
}

#[global_allocator]
static ALLOCATOR: OnePageEach = OnePageEach;

const WAVES: u64 = 60;
const THREADS: u64 = 6;
const SECTIONS: u64 = 120;

fn xorshift(x: &mut u64) -> u64 {
    *x ^= *x << 13;
    *x ^= *x >> 7;
    *x ^= *x << 17;
    *x
}

/// One short-lived thread. Its last tickets leave it by the channel.
fn worker<'t>(tracker: &'t Tracker, mut random: u64, away: &mpsc::Sender<Ticket<'t>>) -> u64 {
    let mut slot = tracker.slot();
    let mut forgotten = 0;
    for i in 0..SECTIONS {
        match xorshift(&mut random) % 8 {
            0 => away.send(tracker.append(ONE).expect("small")).expect("the receiver waits"),
            1 => {
                let unwound = std::panic::catch_unwind(|| {
                    let ticket = tracker.append(ONE).expect("small");
                    std::panic::resume_unwind(Box::new(ticket.end()));
                });
                let end = *unwound.expect_err("it unwinds").downcast::<u64>().expect("a number");
                assert!(end > 0);
            }
            2 | 3 => {
                let two = [tracker.append(ONE), tracker.append(ONE)].map(|ticket| ticket.expect("small"));
                assert!(tracker.watermark() < two[0].end() && two[0].end() < two[1].end());
                if i % 16 == 0 {
                    thread::yield_now();
                }
                drop(two);
            }
            _ => {
                let section = slot.append(NonZeroU64::new(1 + random % 3).expect("not 0")).expect("small");
                assert!(!tracker.is_complete(section.end()));
                let removed = section.complete();
                assert!(removed.payload > 0);
            }
        }
    }
    // A node is left behind, linked or not, by a thread that is gone a moment later.
    if xorshift(&mut random).is_multiple_of(64) {
        std::mem::forget(tracker.append(ONE).expect("small"));
        forgotten += 1;
    }
    forgotten
}

/// Waves of threads on one tracker; returns how many tickets were forgotten.
fn waves(tracker: &Tracker) -> u64 {
    let stop = AtomicBool::new(false);
    let forgotten = AtomicU64::new(0);
    thread::scope(|scope| {
        let walker = scope.spawn(|| {
            let mut last = 0;
            while !stop.load(Ordering::Relaxed) {
                let watermark = tracker.settle();
                assert!(watermark >= last, "the watermark went down");
                last = watermark;
                thread::yield_now();
            }
        });
        for wave in 0..WAVES {
            let (away, arrived) = mpsc::channel();
            thread::scope(|scope| {
                for t in 0..THREADS {
                    let (away, forgotten) = (away.clone(), &forgotten);
                    let seed = 0x9e37_79b9_7f4a_7c15 ^ (wave * THREADS + t);
                    scope.spawn(move || forgotten.fetch_add(worker(tracker, seed, &away), Ordering::Relaxed));
                }
                drop(away);
                // Another thread ends what they began, some of it after they are gone.
                scope.spawn(move || arrived.into_iter().for_each(drop));
            });
        }
        stop.store(true, Ordering::Relaxed);
        walker.join().expect("the walker failed");
    });
    forgotten.load(Ordering::Relaxed)
}

/// The tests count all nodes of the process.
static ALONE: Mutex<()> = Mutex::new(());

#[test]
fn threads_come_and_go() {
    let _alone = ALONE.lock();
    let tracker = Tracker::new(0);
    let forgotten = waves(&tracker);
    println!("{forgotten} tickets forgotten");
    let (allocated, freed) = (NODES_ALLOCATED.load(Ordering::Relaxed), NODES_FREED.load(Ordering::Relaxed));
    // The collector is lazy: it keeps a few bags per thread, not what the run was made of.
    assert!(allocated > 10_000 && freed > allocated / 2, "{freed} of {allocated} nodes were freed");
    assert_eq!(tracker.is_idle(), forgotten == 0);
    // What was forgotten is freed here.
    let before = NODES_FREED.load(Ordering::Relaxed);
    drop(tracker);
    assert!(NODES_FREED.load(Ordering::Relaxed) - before >= forgotten as usize);
}

/// A ticket in a thread-local value: dropped after the collector's own thread-local handle, perhaps.
#[test]
fn a_ticket_may_be_dropped_with_the_thread() {
    let _alone = ALONE.lock();
    static TRACKER: Tracker = Tracker::new(0);
    thread_local! {
        static HELD: std::cell::RefCell<Option<Ticket<'static>>> = const { std::cell::RefCell::new(None) };
    }
    for i in 0..20 {
        thread::spawn(move || {
            if i % 2 == 0 {
                drop(TRACKER.append(ONE));
            }
            HELD.with(|held| *held.borrow_mut() = Some(TRACKER.append(ONE).expect("small")));
            if i % 3 == 0 {
                drop(TRACKER.append(ONE));
            }
            assert!(!TRACKER.is_idle());
        })
        .join()
        .expect("no panic");
    }
    assert!(TRACKER.is_idle());
}
