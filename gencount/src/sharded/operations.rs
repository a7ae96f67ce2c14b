//! The protocol's steps as one implementation of the contract.

use core::ptr::NonNull;

use turnstile::TableScheduler;

use super::protocol::{Clock, Raised, oldest};
use crate::barrier;
use crate::common::Common;
use crate::fault::Fault;
use crate::operations::Points;
use crate::primitive::{AtomicPtr, SeqCst, full_fence};
use crate::slot::Slot;

/// The state of a domain that uses this implementation.
pub(crate) struct State {
    clock: Clock,
    /// The slot that was added last; the others hang on it. Slots are never taken off (INV-DI-6).
    slots: AtomicPtr<Slot>,
}

impl State {
    pub(crate) const fn new() -> Self {
        Self { clock: Clock::new(), slots: AtomicPtr::new(core::ptr::null_mut()) }
    }

    /// Adds a slot to those that are scanned, before its first section.
    ///
    /// # Safety
    ///
    /// The caller holds the lock of the domain's pool, has just added the slot to it, and the slot stays alive as long
    /// as the domain.
    pub(crate) unsafe fn add(&self, slot: NonNull<Slot>) {
        // ORD: SeqCst pairs with the load in `scan`: the slot and its link are complete. A scan that misses this store
        // misses what is published in the slot later, and precedes both in the total order: the argument for
        // the publication itself covers it.
        self.slots.store(slot.as_ptr(), SeqCst);
    }

    /// Every slot of the domain; a scheduling point before each.
    fn scan(&self, point: impl Fn()) -> impl Iterator<Item = &Slot> {
        point();
        // ORD: SeqCst pairs with the store in `add`.
        let mut at = NonNull::new(self.slots.load(SeqCst));
        core::iter::from_fn(move || {
            // SAFETY: slots live as long as the domain (INV-DI-6), which `self` is part of.
            let slot = unsafe { at?.as_ref() };
            // SAFETY: `next` was written before the slot was added, and never again.
            at = unsafe { (*slot.membership.get()).next };
            point();
            Some(slot)
        })
    }
}

/// # Safety
///
/// As [`Operations::begin`](crate::operations::Operations::begin).
#[inline]
pub(crate) unsafe fn begin<S: TableScheduler>(domain: &Common<S>, slot: &Slot) -> u64 {
    let clock = &domain.sharded.clock;
    domain.point();
    let reading = clock.first_reading();
    domain.point();
    clock.publish(&slot.shared.published, reading);
    domain.point();
    if domain.omits(Fault::FirstReading) {
        return reading;
    }
    let generation = clock.second_reading();
    if generation != reading {
        publish_again(domain, slot, generation);
    }
    generation
}

/// The clock moved while the section was being opened: what it published holds up those who wait for less than its
/// generation, and must not any longer.
#[cold]
#[inline(never)]
fn publish_again<S: TableScheduler>(domain: &Common<S>, slot: &Slot, generation: u64) {
    domain.point();
    slot.shared.published.raise(generation);
    domain.point();
    look(domain, slot);
}

/// # Safety
///
/// As [`Operations::finish`](crate::operations::Operations::finish).
#[inline]
pub(crate) unsafe fn finish<S: TableScheduler>(domain: &Common<S>, slot: &Slot) {
    domain.point();
    if barrier::is_light() {
        slot.shared.published.close_lightly();
        domain.point();
        if domain.owes_a_look(domain.waiters.any_lightly(), slot) {
            let_go(domain, slot);
        }
    } else {
        slot.shared.published.close();
        domain.point();
        look(domain, slot);
    }
}

/// The look for waiters of whoever has changed what its slot publishes.
#[inline]
fn look<S: TableScheduler>(domain: &Common<S>, slot: &Slot) {
    if domain.owes_a_look(domain.waiters.any_after_seqcst(), slot) {
        let_go(domain, slot);
    }
}

/// What follows if there are waiters, or a loan.
#[cold]
#[inline(never)]
fn let_go<S: TableScheduler>(domain: &Common<S>, slot: &Slot) {
    // A light finish has not made one. Of several finishes that scan, one has to see all of them closed.
    full_fence();
    if !domain.omits(Fault::FinishDoesNotSettle) {
        settle(domain, Points::Reached);
    }
    domain.point();
    domain.let_go(slot);
}

#[inline]
pub(crate) fn watermark<S: TableScheduler>(domain: &Common<S>) -> u64 {
    domain.sharded.clock.watermark()
}

/// Raises the watermark as far as the slots allow; the clock stays where it is.
fn settle<S: TableScheduler>(domain: &Common<S>, points: Points) -> bool {
    settle_and(domain, points, |_, _| {})
}

/// Settles, and shows every open section with its reading.
fn settle_and<S: TableScheduler>(domain: &Common<S>, points: Points, visit: impl Fn(&Slot, u64)) -> bool {
    let point = || {
        if points == Points::Reached {
            domain.point();
        }
    };
    let clock = &domain.sharded.clock;
    point();
    let mut limit = clock.limit();
    if domain.omits(Fault::NotRaised) {
        limit += 1;
    }
    let readings = domain.sharded.scan(point).filter_map(|slot| {
        let reading = slot.shared.published.read()?;
        visit(slot, reading);
        Some(reading)
    });
    let limit = oldest(limit, readings);
    point();
    clock.advance(limit)
}

pub(crate) fn complete<S: TableScheduler>(domain: &Common<S>, target: u64, points: Points) -> bool {
    if points == Points::Reached {
        domain.point();
    }
    let raised =
        if domain.omits(Fault::NotRaised) { Raised::Past } else { domain.sharded.clock.raise(target) };
    raised == Raised::Past && settle(domain, points)
}

#[cold]
pub(crate) fn reached<S: TableScheduler>(domain: &Common<S>, target: u64) -> bool {
    if complete(domain, target, Points::Reached) {
        domain.wake_as_helper(crate::waiting::Helper::FirstWalk);
    }
    watermark(domain) >= target
}

pub(crate) fn may_be_issued<S: TableScheduler>(domain: &Common<S>, target: u64) -> bool {
    domain.sharded.clock.has_issued(target)
}

/// Whoever has raised the clock past a target knows from this who holds up those who wait for it.
pub(crate) fn each_open<S: TableScheduler>(domain: &Common<S>, visit: &dyn Fn(&Slot, u64)) -> bool {
    settle_and(domain, Points::Suppressed, visit)
}
