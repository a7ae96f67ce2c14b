//! The second Dekker pair: a waiter registers and looks again; a finish advances and looks at the waiter count. If both
//! missed each other, the waiter would sleep for ever, which loom reports as a deadlock.

use loom::sync::atomic::{AtomicU64, Ordering};
use loom::sync::{Arc, Condvar, Mutex};
use loom::thread;

use super::fails;
use crate::sharded::protocol::{Clock, Published, Raised, oldest};
use crate::waiters::{Registered, WaiterCount};

/// Which fence is missing.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Missing {
    Nothing,
    Waiters,
    Finishers,
}

/// Stands in for the turnstile: the table's lock, and a place to park.
pub(super) struct Parking {
    pub(super) count: WaiterCount,
    table: Mutex<()>,
    wake: Condvar,
}

impl Parking {
    pub(super) fn new() -> Self {
        Self { count: WaiterCount::new(), table: Mutex::new(()), wake: Condvar::new() }
    }

    fn register(&self, missing: Missing) -> Registered<'_> {
        if missing == Missing::Waiters { self.count.register_unfenced() } else { self.count.register() }
    }

    /// Registers, and sleeps as long as `is_open` says so under the table's lock.
    pub(super) fn wait(&self, missing: Missing, is_open: impl Fn() -> bool) {
        let _registered = self.register(missing);
        let mut table = self.table.lock().expect("no panic");
        while is_open() {
            table = self.wake.wait(table).expect("no panic");
        }
    }

    pub(super) fn wake(&self) {
        drop(self.table.lock().expect("no panic"));
        self.wake.notify_all();
    }
}

/// `locked` and `lockfree`: the finish moves the watermark, fences, and looks.
fn wait_against_finish(missing: Missing) {
    let state = Arc::new((AtomicU64::new(0), Parking::new()));
    let finisher = {
        let state = state.clone();
        thread::spawn(move || {
            let (watermark, parking) = &*state;
            // ORD: Release, as the watermarks of `locked` and `lockfree`; the look after it fences.
            watermark.store(1, Ordering::Release);
            let any = if missing == Missing::Finishers {
                parking.count.any_unfenced()
            } else {
                parking.count.any()
            };
            if any {
                parking.wake();
            }
        })
    };
    let (watermark, parking) = &*state;
    // ORD: Acquire pairs with the Release above; `register` has fenced.
    parking.wait(missing, || watermark.load(Ordering::Acquire) < 1);
    finisher.join().expect("no panic");
}

#[test]
fn no_wake_up_is_lost_between_watermark_and_waiter_count() {
    loom::model(|| wait_against_finish(Missing::Nothing));
}

#[test]
fn without_either_fence_a_wake_up_is_lost() {
    assert!(fails(|| wait_against_finish(Missing::Waiters)));
    assert!(fails(|| wait_against_finish(Missing::Finishers)));
}

struct Sharded {
    clock: Clock,
    slots: [Published; 2],
    parking: Parking,
}

impl Sharded {
    /// A domain with that many sections open, all of the first generation.
    fn with_open(sections: usize) -> Self {
        let domain = Self {
            clock: Clock::new(),
            slots: [Published::new(), Published::new()],
            parking: Parking::new(),
        };
        for slot in &domain.slots[..sections] {
            domain.clock.publish(slot, domain.clock.first_reading());
        }
        domain
    }

    fn settle(&self) {
        self.clock.advance(oldest(self.clock.limit(), self.slots.iter().filter_map(Published::read)));
    }

    fn finish(&self, slot: usize, missing: Missing) {
        self.slots[slot].close();
        let count = &self.parking.count;
        let any = if missing == Missing::Finishers { count.any_unfenced() } else { count.any_after_seqcst() };
        if any {
            self.settle();
            self.parking.wake();
        }
    }

    fn wait(&self, missing: Missing) {
        assert_eq!(self.clock.raise(1), Raised::Past);
        self.parking.wait(missing, || {
            self.settle();
            self.clock.watermark() < 1
        });
    }
}

/// `sharded`: the finish closes its slot, looks, and settles for the waiter.
fn wait_against_closing(sections: usize, missing: Missing) {
    let domain = Arc::new(Sharded::with_open(sections));
    let finishers: std::vec::Vec<_> = (0..sections)
        .map(|slot| {
            let domain = domain.clone();
            thread::spawn(move || domain.finish(slot, missing))
        })
        .collect();
    domain.wait(missing);
    for finisher in finishers {
        finisher.join().expect("no panic");
    }
}

#[test]
fn no_wake_up_is_lost_between_slot_and_waiter_count() {
    loom::model(|| wait_against_closing(1, Missing::Nothing));
}

/// The waiter has two fences: its registration's, and the one before it reads the slots. One of them is enough, so only the
/// finish's is missed.
#[test]
fn without_the_finishers_fence_a_closed_slot_wakes_nobody() {
    loom::model(|| wait_against_closing(1, Missing::Waiters));
    assert!(fails(|| wait_against_closing(1, Missing::Finishers)));
}

/// The later of two finishes sees both slots closed, and wakes.
#[test]
fn of_two_finishes_one_wakes() {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(2);
    model.check(|| wait_against_closing(2, Missing::Nothing));
}
