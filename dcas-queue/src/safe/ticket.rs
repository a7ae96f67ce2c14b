//! A ticket: a section that owns its slot.

use core::num::NonZeroU64;

use super::Slot;
use crate::{Overflow, Removed};

/// An open section with a node of its own. It ends when it is completed or dropped, in whichever thread that is (with the
/// feature `std`).
#[must_use = "dropping a ticket completes it"]
#[derive(Debug)]
pub struct Ticket<'tracker> {
    slot: Slot<'tracker>,
    end: u64,
    n: NonZeroU64,
}

impl<'tracker> Ticket<'tracker> {
    pub(super) fn new(mut slot: Slot<'tracker>, n: NonZeroU64) -> Result<Self, Overflow> {
        let end = slot.open(n)?;
        Ok(Self { slot, end, n })
    }

    /// The ticket's number, the last that it covers: the watermark stays below until the ticket is complete.
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

    /// The tracker that issued it.
    #[must_use]
    pub const fn tracker(&self) -> &'tracker super::Tracker {
        self.slot.tracker()
    }

    /// Completes the ticket, as dropping it does, and tells what that did to the watermark.
    pub fn complete(mut self) -> Removed {
        // `drop` sees that nothing is left to do.
        self.slot.close()
    }
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        if self.slot.is_open() {
            self.slot.close();
        }
    }
}
