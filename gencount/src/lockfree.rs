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

use core::num::NonZeroU64;

use dcas_queue::{Observer, Operation, Step};
use turnstile::TableScheduler;

use crate::common::Common;
use crate::operations::Points;
use crate::slot::Slot;
use crate::waiting::Helper;

const STEP: NonZeroU64 = NonZeroU64::MIN;

/// Spins, always: the walk may be one under the table's lock, where nobody may give the processor up. (The queue does it with its own
/// feature `std`, and only where it would pause the longest.)
fn spin(pauses: u32) {
    ().backoff(pauses.min(dcas_queue::LONGEST_BACKOFF - 1));
}

/// Watches the walk of somebody who opens or closes nothing.
struct Passing<'a, S: TableScheduler> {
    domain: &'a Common<S>,
    points: Points,
}

impl<S: TableScheduler> Observer for Passing<'_, S> {
    #[inline]
    fn step(&self, _: Step) {
        if self.points == Points::Reached {
            self.domain.point();
        }
    }

    fn backoff(&self, pauses: u32) {
        spin(pauses);
    }
}

/// Watches a begin or a finish. Two words that the queue passes on in registers: what it finds goes to the slot at once.
struct Watch<'a, S: TableScheduler, const BEGIN: bool> {
    domain: &'a Common<S>,
    slot: &'a Slot,
}

impl<S: TableScheduler, const BEGIN: bool> Clone for Watch<'_, S, BEGIN> {
    #[inline]
    fn clone(&self) -> Self {
        *self
    }
}

impl<S: TableScheduler, const BEGIN: bool> Copy for Watch<'_, S, BEGIN> {}

impl<S: TableScheduler, const BEGIN: bool> Observer for Watch<'_, S, BEGIN> {
    #[inline]
    fn step(&self, _: Step) {
        self.domain.point();
    }

    fn restarted(&self, _: Operation) {
        let counters = &self.slot.own.counters;
        (if BEGIN { &counters.start_restart } else { &counters.finish_restart }).add(1);
    }

    #[inline]
    fn backoff(&self, pauses: u32) {
        // As the queue does it with its own feature `std`.
        #[cfg(all(feature = "std", not(gencount_shuttle)))]
        if pauses >= dcas_queue::LONGEST_BACKOFF {
            std::thread::yield_now();
            return;
        }
        ().backoff(pauses);
    }

    #[inline]
    fn walked(&self, nodes: u64) {
        // The own section is in the queue too.
        self.slot.own.counters.max_qlen.raise(nodes + 1);
    }

    #[inline]
    fn watermark_advanced(&self, _: u64) {
        // A finish looks for waiters anyway, after its walk.
        if BEGIN {
            self.domain.wake_as_helper(Helper::Begin);
        }
    }
}

/// # Safety
///
/// As [`Operations::begin`](crate::operations::Operations::begin).
#[inline]
pub(crate) unsafe fn begin<S: TableScheduler>(domain: &Common<S>, slot: &Slot) -> u64 {
    let watch = Watch::<S, true> { domain, slot };
    // SAFETY: every node of this queue lies in a slot of this domain, which outlives all walks, and serves no other
    // domain (INV-DI-6); the slot is the caller's alone, and its node is idle, for no section is open in it.
    unsafe { domain.lockfree.append(&slot.shared.node, STEP, watch) }
        .expect("generations are exhausted: 2^64 sections were begun")
}

/// # Safety
///
/// As [`Operations::finish`](crate::operations::Operations::finish).
#[inline]
pub(crate) unsafe fn finish<S: TableScheduler>(domain: &Common<S>, slot: &Slot) {
    let watch = Watch::<S, false> { domain, slot };
    // SAFETY: as in `begin`; and the node is in the queue, for the slot's section is open.
    let _ = unsafe { domain.lockfree.remove(&slot.shared.node, watch) };
    // Also if a helper unlinked the node: it may have been stopped before it looked.
    domain.point();
    if domain.owes_a_look(domain.waiters.any_after_pair(), slot) {
        domain.let_go(slot);
    }
}

#[inline]
pub(crate) fn watermark<S: TableScheduler>(domain: &Common<S>) -> u64 {
    domain.lockfree.watermark()
}

pub(crate) fn complete<S: TableScheduler>(domain: &Common<S>, _: u64, points: Points) -> bool {
    // SAFETY: as in `begin`.
    unsafe { domain.lockfree.complete_removals(&Passing { domain, points }) }
}

pub(crate) fn may_be_issued<S: TableScheduler>(domain: &Common<S>, target: u64) -> bool {
    let idle = domain.lockfree.is_empty();
    // In this order: with nothing open, the watermark is the largest generation ever issued (INV-DI-3).
    !idle || watermark(domain) >= target
}

/// Shows what a walk meets.
struct Meet<'a>(&'a dyn Fn(&Slot, u64));

impl Observer for Meet<'_> {
    #[inline]
    fn open_node(&self, node: usize, predecessor: u64) {
        // SAFETY: every node of this queue lies in a slot that was added to this domain, which the walk's caller borrows.
        let slot = unsafe { Slot::of_node(node) };
        // The predecessor's payload does not change as long as the section is open, so this is what begin issued.
        (self.0)(slot, predecessor + 1);
    }

    fn backoff(&self, pauses: u32) {
        spin(pauses);
    }
}

pub(crate) fn each_open<S: TableScheduler>(domain: &Common<S>, visit: &dyn Fn(&Slot, u64)) -> bool {
    // SAFETY: as in `begin`.
    unsafe { domain.lockfree.complete_removals(&Meet(visit)) }
}

#[cfg(all(test, feature = "std", target_os = "linux", not(any(gencount_loom, gencount_shuttle, miri))))]
mod tests {
    use core::cell::Cell;

    use super::*;

    std::thread_local! {
        static YIELDS: Cell<u32> = const { Cell::new(0) };
    }

    /// Stands in for the C library's, and counts.
    // SAFETY: it has that one's signature and does what that one does.
    #[unsafe(no_mangle)]
    extern "C" fn sched_yield() -> libc::c_int {
        YIELDS.set(YIELDS.get() + 1);
        // SAFETY: this system call takes nothing, and always succeeds.
        unsafe { libc::syscall(libc::SYS_sched_yield) as libc::c_int }
    }

    /// With the queue's own feature `std` too (`--features dcas-queue/std`), with which its default would yield.
    #[test]
    fn a_walk_under_the_tables_lock_only_spins() {
        std::thread::yield_now();
        assert_eq!(YIELDS.get(), 1, "a yield is not seen here");
        let domain = Common::new(crate::Implementation::Lockfree, crate::Hosted);
        Passing { domain: &domain, points: Points::Suppressed }.backoff(dcas_queue::LONGEST_BACKOFF);
        Meet(&|_, _| {}).backoff(dcas_queue::LONGEST_BACKOFF);
        assert_eq!(YIELDS.get(), 1);
    }
}
