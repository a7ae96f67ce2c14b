//! The tracker: a queue whose nodes it and its slots own.

use core::num::NonZeroU64;

use crossbeam_epoch::Guard;
#[cfg(not(feature = "std"))]
use crossbeam_epoch::{Collector, LocalHandle};

use super::node::free_linked;
use super::{Slot, Ticket};
use crate::pair::MARK;
use crate::walk::pair_at;
use crate::{Overflow, Queue};

/// Issues tickets in order and knows the completed prefix, however the tickets complete.
///
/// See the [module](super) for what it guarantees. The head, which all threads share, is on a pair of cache lines of
/// its own, so a tracker takes 128 bytes.
#[derive(Debug)]
#[repr(align(128))]
pub struct Tracker {
    queue: Queue,
    #[cfg(not(feature = "std"))]
    collector: Collector,
}

/// What an operation pins with: with `std` the thread's handle, which needs no storage here.
#[cfg(feature = "std")]
pub(super) struct Pinner;

/// What an operation pins with: a handle at the tracker's own collector.
#[cfg(not(feature = "std"))]
pub(super) struct Pinner(LocalHandle);

impl Pinner {
    /// Pins: until the guard is dropped, nodes that are retired from now on stay readable.
    #[inline]
    #[cfg_attr(feature = "std", expect(clippy::unused_self, reason = "without `std` the handle is in it"))]
    pub(super) fn pin(&self) -> Guard {
        #[cfg(feature = "std")]
        return crossbeam_epoch::pin();
        #[cfg(not(feature = "std"))]
        self.0.pin()
    }
}

impl Tracker {
    /// A tracker with no open section and the watermark `watermark`; the first ticket ends above it.
    #[cfg(feature = "std")]
    #[must_use]
    pub const fn new(watermark: u64) -> Self {
        Self { queue: Queue::new(watermark) }
    }

    /// A tracker with no open section and the watermark `watermark`; the first ticket ends above it. (`const` with
    /// the feature `std`.)
    #[cfg(not(feature = "std"))]
    #[must_use]
    pub fn new(watermark: u64) -> Self {
        Self { queue: Queue::new(watermark), collector: Collector::new() }
    }

    /// Opens a section that covers the next `n` numbers: the ticket's [`end`](Ticket::end) is the end of the last ticket
    /// issued plus `n`.
    ///
    /// Allocates a node; a [`Slot`] does so once. Lock-free but for the allocator; O(open sections).
    ///
    /// # Errors
    /// [`Overflow`] if the end would exceed `u64::MAX`; nothing was issued then.
    pub fn append(&self, n: NonZeroU64) -> Result<Ticket<'_>, Overflow> {
        Ticket::new(self.slot(), n)
    }

    /// A slot: a node for one section after the other.
    #[must_use]
    pub fn slot(&self) -> Slot<'_> {
        Slot::new(self)
    }

    /// The watermark: every section that ends at this number or below is complete. One load, Acquire: what was done
    /// before those sections were completed happens-before the return.
    ///
    /// A section completed by a thread that was stopped in the middle of that shows after the next operation of any other
    /// thread, or after [`settle`](Self::settle).
    #[inline]
    #[must_use]
    pub fn watermark(&self) -> u64 {
        self.queue.watermark()
    }

    /// Whether everything up to and including `number` is complete; see [`watermark`](Self::watermark).
    #[inline]
    #[must_use]
    pub fn is_complete(&self, number: u64) -> bool {
        self.watermark() >= number
    }

    /// Whether no section is open.
    #[inline]
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.queue.is_empty()
    }

    /// Finishes what threads that were stopped while completing a section left undone, and returns the watermark.
    /// To be called by whoever is about to sleep until the watermark advances.
    pub fn settle(&self) -> u64 {
        let pinner = self.pinner();
        let _guard = pinner.pin();
        // SAFETY: as `queue` says: pinned.
        unsafe { self.queue.complete_removals(()) };
        self.watermark()
    }

    /// The queue, for slots.
    ///
    /// What its safety section asks for holds for operations under a guard of this tracker's [`Pinner`]s: (1) nodes are freed by
    /// `HeapNode::retire` when no such guard is left, or when the tracker is dropped; (2) a slot keeps to its tracker; (3) a
    /// slot is borrowed mutably while its node is used.
    pub(super) const fn queue(&self) -> &Queue {
        &self.queue
    }

    #[cfg(feature = "std")]
    #[expect(clippy::unused_self, reason = "without `std` the collector is in it")]
    pub(super) const fn pinner(&self) -> Pinner {
        Pinner
    }

    #[cfg(not(feature = "std"))]
    pub(super) fn pinner(&self) -> Pinner {
        Pinner(self.collector.register())
    }
}

impl Drop for Tracker {
    /// Frees the nodes of forgotten sections. No other is linked: tickets and slots borrow the tracker.
    fn drop(&mut self) {
        let mut next = self.queue.head.load_link() & !MARK;
        while next != 0 {
            // SAFETY: linked, so not retired; and `free_linked` below frees a node after its link was read.
            let link = unsafe { pair_at(next) }.load_link();
            // SAFETY: `&mut self`: every borrow of the tracker is over, so the owner of this node was forgotten and
            // no walk runs. It is linked, so nobody retired it (INV-S-2).
            unsafe { free_linked(next) };
            next = link & !MARK;
        }
    }
}
