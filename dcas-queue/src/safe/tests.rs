//! The safe layer: what it promises, one thread at a time. `tests/safe_threads.rs` has the threads.

use std::mem;
use std::vec::Vec;

use static_assertions::{assert_impl_all, assert_not_impl_any};

use super::{ONE, Section, Slot, Ticket, Tracker};
use crate::Overflow;
use core::num::NonZeroU64;

assert_impl_all!(Tracker: Send, Sync);
#[cfg(feature = "std")]
assert_impl_all!(Ticket<'static>: Send, Sync);
#[cfg(feature = "std")]
assert_impl_all!(Slot<'static>: Send, Sync);
#[cfg(feature = "std")]
assert_impl_all!(Section<'static, 'static>: Send, Sync);
// The handle at the tracker's collector is the registering thread's.
#[cfg(not(feature = "std"))]
assert_not_impl_any!(Ticket<'static>: Send, Sync);
#[cfg(not(feature = "std"))]
assert_not_impl_any!(Slot<'static>: Send, Sync);
// Nobody ends a section twice.
assert_not_impl_any!(Ticket<'static>: Clone, Copy);
assert_not_impl_any!(Section<'static, 'static>: Clone, Copy);

fn step(n: u64) -> NonZeroU64 {
    NonZeroU64::new(n).expect("not zero")
}

#[test]
fn tickets_complete_in_any_order() -> Result<(), Overflow> {
    let tracker = Tracker::new(10);
    let mut tickets = (1..=4).map(|n| tracker.append(step(n))).collect::<Result<Vec<_>, _>>()?;
    let ranges: Vec<_> = tickets.iter().map(|ticket| (ticket.start(), ticket.end())).collect();
    assert_eq!(ranges, [(10, 11), (11, 13), (13, 16), (16, 20)]);
    for (index, watermark) in [(2, 10), (0, 11), (0, 16), (0, 20)] {
        let removed = tickets.remove(index).complete();
        assert!(!removed.helped);
        assert_eq!(tracker.watermark(), watermark);
    }
    assert!(tracker.is_idle() && tracker.is_complete(20) && !tracker.is_complete(21));
    Ok(())
}

#[test]
fn a_slot_serves_one_section_after_the_other() -> Result<(), Overflow> {
    let tracker = Tracker::new(0);
    let mut slot = tracker.slot();
    for round in 1..=100 {
        let section = slot.append(ONE)?;
        assert_eq!((section.start(), section.end()), (round - 1, round));
        assert_eq!(tracker.watermark(), round - 1);
        if round % 2 == 0 {
            assert!(section.complete().watermark_advanced);
        } else {
            drop(section);
        }
        assert_eq!(tracker.watermark(), round);
    }
    Ok(())
}

#[test]
fn a_forgotten_ticket_stops_the_watermark_and_nothing_else() -> Result<(), Overflow> {
    let tracker = Tracker::new(0);
    mem::forget(tracker.append(ONE)?);
    for _ in 0..10 {
        drop(tracker.append(ONE)?);
    }
    assert_eq!((tracker.settle(), tracker.append(ONE)?.end()), (0, 12));
    // The tracker moves while a node is linked: nothing points to it.
    let moved = std::boxed::Box::new(tracker);
    drop(moved.append(ONE)?);
    assert!(!moved.is_idle());
    Ok(())
}

#[test]
fn a_slot_whose_section_was_forgotten_takes_a_new_node() -> Result<(), Overflow> {
    let tracker = Tracker::new(0);
    let mut slot = tracker.slot();
    mem::forget(slot.append(ONE)?);
    let again = slot.append(ONE)?;
    assert_eq!(again.end(), 2);
    mem::forget(again);
    drop(slot);
    assert_eq!(tracker.watermark(), 0);
    Ok(())
}

/// A node cannot be offered to a second queue: whatever safe code swaps, a slot takes its tracker along, and a tracker its
/// nodes, those of forgotten sections included.
#[test]
fn slots_and_trackers_that_are_swapped_keep_what_is_theirs() -> Result<(), Overflow> {
    let (mut here, mut there) = (Tracker::new(0), Tracker::new(100));
    {
        let (mut slot, mut other) = (here.slot(), there.slot());
        assert_eq!((slot.append(ONE)?.end(), other.append(ONE)?.end()), (1, 101));
        mem::swap(&mut slot, &mut other);
        assert_eq!((slot.append(ONE)?.end(), other.append(ONE)?.end()), (102, 2));
        assert!(core::ptr::eq(slot.tracker(), &raw const there));
        // One with a section that nobody will end.
        mem::forget(slot.append(ONE)?);
        mem::swap(&mut slot, &mut other);
        assert_eq!((slot.append(ONE)?.end(), other.append(ONE)?.end()), (3, 104));
        assert_eq!((here.watermark(), there.watermark()), (3, 102));
    }
    mem::swap(&mut here, &mut there);
    assert_eq!((here.append(ONE)?.end(), there.append(ONE)?.end()), (105, 4));
    // The node of the forgotten section went with its queue, and is freed with it.
    assert_eq!((here.settle(), there.settle()), (102, 4));
    assert!(!here.is_idle() && there.is_idle());
    Ok(())
}

#[test]
fn a_panic_completes_the_section() {
    let tracker = Tracker::new(0);
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let _ticket = tracker.append(ONE).expect("small");
        panic!("the work failed");
    }));
    assert!(result.is_err());
    assert!(tracker.is_complete(1) && tracker.is_idle());
}

#[test]
fn overflow_issues_nothing() -> Result<(), Overflow> {
    let tracker = Tracker::new(u64::MAX - 2);
    let mut slot = tracker.slot();
    slot.append(step(3)).expect_err("one too many");
    tracker.append(step(3)).expect_err("one too many");
    assert_eq!(slot.append(step(2))?.end(), u64::MAX);
    Ok(())
}

/// Counts the nodes that are freed late, by watching a slot's memory through the collector: a node that was retired is
/// freed only after every guard that was there before is gone.
#[test]
#[cfg(feature = "std")]
fn a_retired_node_outlives_the_walks_that_may_know_it() -> Result<(), Overflow> {
    let tracker = Tracker::new(0);
    // Stands for a walk that was preempted.
    let walk = crossbeam_epoch::pin();
    let ticket = tracker.append(ONE)?;
    let address = tracker.queue().head.load_link();
    drop(ticket);
    for _ in 0..1000 {
        // Were the node freed, one of these would most probably get its memory.
        let ticket = tracker.append(ONE)?;
        assert_ne!(tracker.queue().head.load_link(), address);
        drop(ticket);
    }
    drop(walk);
    Ok(())
}
