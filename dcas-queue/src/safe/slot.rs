//! A slot: a node that a worker uses for one section after the other.

use core::num::NonZeroU64;

use super::Tracker;
use super::node::HeapNode;
use super::tracker::Pinner;
use crate::{Overflow, Removed};

/// A node of a [`Tracker`] for one section after the other, typically one per worker: opening and
/// completing a section allocates nothing.
///
/// It belongs to the tracker that made it, for life. Dropping it gives the node to the collector.
pub struct Slot<'tracker> {
    tracker: &'tracker Tracker,
    node: HeapNode,
    /// Whether the node is linked. Still so when a section was forgotten.
    open: bool,
    pinner: Pinner,
}

impl<'tracker> Slot<'tracker> {
    pub(super) fn new(tracker: &'tracker Tracker) -> Self {
        Self { tracker, node: HeapNode::new(), open: false, pinner: tracker.pinner() }
    }

    /// The tracker that it belongs to.
    #[must_use]
    pub const fn tracker(&self) -> &'tracker Tracker {
        self.tracker
    }

    /// Opens a section that covers the next `n` numbers, until the [`Section`] is completed or dropped.
    ///
    /// Lock-free; O(open sections). If the slot's last section was forgotten, the slot takes a new node first.
    ///
    /// # Errors
    /// [`Overflow`] if the section's end would exceed `u64::MAX`; nothing was issued then.
    pub fn append(&mut self, n: NonZeroU64) -> Result<Section<'_, 'tracker>, Overflow> {
        let end = self.open(n)?;
        Ok(Section { slot: self, end, n })
    }

    pub(super) const fn is_open(&self) -> bool {
        self.open
    }

    /// Links the node and returns its payload.
    pub(super) fn open(&mut self, n: NonZeroU64) -> Result<u64, Overflow> {
        if self.open {
            // The section was forgotten and stays open; its node is the tracker's from now on (INV-S-2).
            self.node = HeapNode::new();
            self.open = false;
        }
        let _guard = self.pinner.pin();
        // SAFETY: as `Tracker::queue` says: pinned, the node is this slot's alone; it is idle, as `open` says.
        let end = unsafe { self.tracker.queue().append(self.node.get(), n, ()) }?;
        self.open = true;
        Ok(end)
    }

    /// Unlinks the node, which is linked.
    pub(super) fn close(&mut self) -> Removed {
        debug_assert!(self.open);
        let _guard = self.pinner.pin();
        // SAFETY: as `Tracker::queue` says: pinned, the node is this slot's alone; it is in the queue: `open` set this
        // flag, and the callers are `Section` and `Ticket`, which exist while it is set, and end.
        let removed = unsafe { self.tracker.queue().remove(self.node.get(), ()) };
        self.open = false;
        removed
    }
}

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        // The node of a forgotten section stays linked, and is the tracker's (INV-S-2).
        if !self.open {
            // SAFETY: never linked, or its remove returned, so not in the queue (INV-Q-9); all walks pin with this
            // tracker's collector; a slot is dropped once.
            unsafe { self.node.retire(&self.pinner.pin()) };
        }
    }
}

impl core::fmt::Debug for Slot<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Slot").field("open", &self.open).finish_non_exhaustive()
    }
}

/// An open section of a [`Slot`]. It ends when it is completed or dropped.
#[must_use = "dropping a section completes it"]
#[derive(Debug)]
pub struct Section<'slot, 'tracker> {
    slot: &'slot mut Slot<'tracker>,
    end: u64,
    n: NonZeroU64,
}

impl Section<'_, '_> {
    /// The section's number, the last that it covers: the watermark stays below until the section is complete.
    #[must_use]
    pub const fn end(&self) -> u64 {
        self.end
    }

    /// The end of the ticket or section issued before: this one covers the `n` numbers above, or, as an
    /// offset into a log, the bytes `start..end`.
    #[must_use]
    pub const fn start(&self) -> u64 {
        self.end - self.n.get()
    }

    /// Completes the section, as dropping it does, and tells what that did to the watermark.
    pub fn complete(self) -> Removed {
        // Not dropped, which would close it again.
        let mut section = core::mem::ManuallyDrop::new(self);
        section.slot.close()
    }
}

impl Drop for Section<'_, '_> {
    fn drop(&mut self) {
        self.slot.close();
    }
}
