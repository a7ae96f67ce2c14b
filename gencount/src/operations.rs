//! What an implementation is: a table of functions, one static table each.
//!
//! A domain copies its implementation's table when it is made, so every operation is one indirect call whose target
//! never changes: the branch predictor knows it after the first.

use turnstile::TableScheduler;

use crate::common::Common;
use crate::implementation::Implementation;
use crate::slot::Slot;
use crate::{locked, lockfree, sharded};

/// Whether a walk may reach scheduling points: not under a lock.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Points {
    Reached,
    Suppressed,
}

/// The type of [`Operations::each_open`].
type EachOpen<S> = fn(&Common<S>, &dyn Fn(&Slot, u64)) -> bool;

/// One implementation of the contract.
pub(crate) struct Operations<S: TableScheduler> {
    /// Opens a section and returns its generation.
    ///
    /// # Safety
    ///
    /// The slot is of this domain, the caller alone uses it, and it has no open section.
    pub(crate) begin: unsafe fn(&Common<S>, &Slot) -> u64,
    /// Closes the section, and wakes whom that lets go on.
    ///
    /// # Safety
    ///
    /// The slot is of this domain, the caller alone uses it, and its section is open.
    pub(crate) finish: unsafe fn(&Common<S>, &Slot),
    /// The watermark: all sections of this generation or an earlier one have finished, and what they did
    /// happens-before the return.
    pub(crate) watermark: fn(&Common<S>) -> u64,
    /// Brings the watermark as far towards the target as it can go without waiting: completes what stopped threads left
    /// half-done, looks at what is open. Says whether that advanced the watermark, in which case the caller owes a
    /// [`Common::wake_as_helper`].
    pub(crate) complete: fn(&Common<S>, u64, Points) -> bool,
    /// Whether the watermark has reached the target, as a waiter asks that hopes not to have to park. Wakes whom that lets
    /// go on.
    pub(crate) reached: fn(&Common<S>, u64) -> bool,
    /// Whether the target may be a generation of this domain; no only if no section that could have it is open.
    pub(crate) may_be_issued: fn(&Common<S>, u64) -> bool,
    /// As [`complete`](Self::complete), without raising the clock; and shows every section that is open from before the
    /// call until it returns, with its level (see [`lending`](crate::lending)), and perhaps others, each of which was open
    /// at a moment after the call began. If the watermark was not advanced, what holds it where it is was shown.
    ///
    /// Called under the table's lock. The visitor does not call the domain.
    pub(crate) each_open: EachOpen<S>,
    /// Whether a section may come to hold up somebody who has queued before.
    pub(crate) holds_up_late: bool,
    /// Whether finishes may leave the fence to waiters (see [`barrier`](crate::barrier)).
    pub(crate) finishes_lightly: bool,
}

impl<S: TableScheduler> Operations<S> {
    const LOCKED: Self = Self {
        begin: locked::begin,
        finish: locked::finish,
        watermark: locked::watermark,
        complete: locked::complete,
        reached: Common::watermark_is_at,
        may_be_issued: locked::may_be_issued,
        each_open: locked::each_open,
        holds_up_late: false,
        finishes_lightly: false,
    };
    const LOCKFREE: Self = Self {
        begin: lockfree::begin,
        finish: lockfree::finish,
        watermark: lockfree::watermark,
        complete: lockfree::complete,
        reached: Common::watermark_is_at,
        may_be_issued: lockfree::may_be_issued,
        each_open: lockfree::each_open,
        holds_up_late: false,
        finishes_lightly: false,
    };
    const SHARDED: Self = Self {
        begin: sharded::begin,
        finish: sharded::finish,
        watermark: sharded::watermark,
        complete: sharded::complete,
        reached: sharded::reached,
        may_be_issued: sharded::may_be_issued,
        each_open: sharded::each_open,
        holds_up_late: true,
        finishes_lightly: true,
    };

    pub(crate) const fn of(implementation: Implementation) -> Self {
        match implementation {
            Implementation::Locked => Self::LOCKED,
            Implementation::Lockfree => Self::LOCKFREE,
            Implementation::Sharded => Self::SHARDED,
        }
    }
}
