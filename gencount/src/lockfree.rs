//! `lockfree`: the open sections as a [`dcas_queue::Queue`].
//!
//! # Protocol
//!
//! A section is a node; begin appends it one above the tail, finish removes it, and the removal donates its
//! generation to the predecessor in the same compare-exchange. The head's payload is the watermark. A thread that
//! is stopped inside begin or finish, for ever, holds nobody else's begin or finish up: whoever meets a removal
//! half-done completes it.
//!
//! A finish looks at the waiter count after its removal, whether it unlinked the node itself or a helper did; any
//! other walk that advanced the watermark looks too (INV-DI-8).

use core::cell::Cell;
use core::num::NonZeroU64;

use dcas_queue::{Observer, Operation, Step};
use turnstile::{Scheduler, TableScheduler};

use crate::domain::Domain;
use crate::operations::Points;
use crate::slot::Slot;
use crate::waiting::Helper;

const STEP: NonZeroU64 = NonZeroU64::MIN;

/// Watches one walk: forwards its steps to the scheduler, and counts.
struct Watch<'a, S> {
    scheduler: &'a S,
    points: Points,
    restarts: Cell<u64>,
    /// Nodes met since the walk last started at the head.
    met: Cell<u64>,
    /// The largest value of `met`.
    longest: Cell<u64>,
    advanced: Cell<bool>,
}

impl<'a, S: Scheduler> Watch<'a, S> {
    fn new(scheduler: &'a S, points: Points) -> Self {
        Self {
            scheduler,
            points,
            restarts: Cell::new(0),
            met: Cell::new(0),
            longest: Cell::new(0),
            advanced: Cell::new(false),
        }
    }
}

impl<S: Scheduler> Observer for Watch<'_, S> {
    #[inline]
    fn step(&self, step: Step) {
        match step {
            Step::ReadHeadPayload => self.met.set(0),
            Step::ReadNextPayload => {
                self.met.set(self.met.get() + 1);
                self.longest.set(self.longest.get().max(self.met.get()));
            }
            _ => {}
        }
        if self.points == Points::Reached {
            self.scheduler.point();
        }
    }

    #[inline]
    fn restarted(&self, _: Operation) {
        self.restarts.set(self.restarts.get() + 1);
    }

    #[inline]
    fn watermark_advanced(&self, _: u64) {
        self.advanced.set(true);
    }
}

/// # Safety
///
/// As [`Operations::begin`](crate::operations::Operations::begin).
pub(crate) unsafe fn begin<S: TableScheduler>(domain: &Domain<S>, slot: &Slot) -> u64 {
    let watch = Watch::new(domain.scheduler(), Points::Reached);
    // SAFETY: every node of this queue lies in a slot of this domain, which outlives all walks, and serves no other
    // domain (INV-DI-6); the slot is the caller's alone, and its node is idle, for no section is open in it.
    let generation = unsafe { domain.lockfree.append(&slot.shared.node, STEP, &watch) }
        .expect("generations are exhausted: 2^64 sections were begun");
    let counters = &slot.own.counters;
    // The new section is in the queue too.
    counters.max_qlen.raise(watch.longest.get() + 1);
    counters.start_restart.add(watch.restarts.get());
    if watch.advanced.get() {
        domain.wake_as_helper(Helper::Begin);
    }
    generation
}

/// # Safety
///
/// As [`Operations::finish`](crate::operations::Operations::finish).
pub(crate) unsafe fn finish<S: TableScheduler>(domain: &Domain<S>, slot: &Slot) {
    let watch = Watch::new(domain.scheduler(), Points::Reached);
    // SAFETY: as in `begin`; and the node is in the queue, for the slot's section is open.
    let _ = unsafe { domain.lockfree.remove(&slot.shared.node, &watch) };
    let counters = &slot.own.counters;
    counters.max_qlen.raise(watch.longest.get());
    counters.finish_restart.add(watch.restarts.get());
    // Also if a helper unlinked the node: it may have been stopped before it looked.
    domain.point();
    if domain.owes_a_look(domain.waiters.any_after_pair(), slot) {
        domain.let_go(slot);
    }
}

pub(crate) fn watermark<S: TableScheduler>(domain: &Domain<S>) -> u64 {
    domain.lockfree.watermark()
}

pub(crate) fn complete<S: TableScheduler>(domain: &Domain<S>, _: u64, points: Points) -> bool {
    let watch = Watch::new(domain.scheduler(), points);
    // SAFETY: as in `begin`.
    unsafe { domain.lockfree.complete_removals(&watch) }
}

pub(crate) fn may_be_issued<S: TableScheduler>(domain: &Domain<S>, target: u64) -> bool {
    let idle = domain.lockfree.is_empty();
    // In this order: with nothing open, the watermark is the largest generation ever issued (INV-DI-3).
    !idle || watermark(domain) >= target
}

/// Shows what a walk meets.
struct Meet<'a, S> {
    watch: Watch<'a, S>,
    visit: &'a dyn Fn(&Slot, u64),
}

impl<S: Scheduler> Observer for Meet<'_, S> {
    #[inline]
    fn watermark_advanced(&self, watermark: u64) {
        self.watch.watermark_advanced(watermark);
    }

    #[inline]
    fn open_node(&self, node: usize, predecessor: u64) {
        // SAFETY: every node of this queue lies in a slot that was added to this domain, which the walk's caller borrows.
        let slot = unsafe { Slot::of_node(node) };
        // The predecessor's payload does not change as long as the section is open, so this is what begin issued.
        (self.visit)(slot, predecessor + 1);
    }
}

pub(crate) fn each_open<S: TableScheduler>(domain: &Domain<S>, visit: &dyn Fn(&Slot, u64)) -> bool {
    let meet = Meet { watch: Watch::new(domain.scheduler(), Points::Suppressed), visit };
    // SAFETY: as in `begin`.
    unsafe { domain.lockfree.complete_removals(&meet) }
}
