//! What an implementation is: a table of functions, one static table each.
//!
//! A domain copies its implementation's table when it is made, so every operation is one indirect call whose target
//! never changes: the branch predictor knows it after the first.

use turnstile::Scheduler;

use crate::domain::Domain;
use crate::implementation::Implementation;
use crate::slot::Slot;
use crate::{locked, lockfree};

/// Whether a walk may reach scheduling points: not under a lock.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Points {
    Reached,
    Suppressed,
}

/// One implementation of the contract.
pub(crate) struct Operations<S: Scheduler> {
    /// Opens a section and returns its generation.
    ///
    /// # Safety
    ///
    /// The slot is of this domain, the caller alone uses it, and it has no open section.
    pub(crate) begin: unsafe fn(&Domain<S>, &Slot) -> u64,
    /// Closes the section, and wakes whom that lets go on.
    ///
    /// # Safety
    ///
    /// The slot is of this domain, the caller alone uses it, and its section is open.
    pub(crate) finish: unsafe fn(&Domain<S>, &Slot),
    /// The watermark: all sections of this generation or an earlier one have finished, and what they did
    /// happens-before the return.
    pub(crate) watermark: fn(&Domain<S>) -> u64,
    /// Completes what stopped threads left half-done; says whether that advanced the watermark, in which case the caller
    /// owes a [`Domain::wake`].
    pub(crate) complete: fn(&Domain<S>, Points) -> bool,
    /// Whether no section is open, at some moment during the call.
    pub(crate) is_idle: fn(&Domain<S>) -> bool,
}

impl<S: Scheduler> Operations<S> {
    const LOCKED: Self = Self {
        begin: locked::begin,
        finish: locked::finish,
        watermark: locked::watermark,
        complete: locked::complete,
        is_idle: locked::is_idle,
    };
    const LOCKFREE: Self = Self {
        begin: lockfree::begin,
        finish: lockfree::finish,
        watermark: lockfree::watermark,
        complete: lockfree::complete,
        is_idle: lockfree::is_idle,
    };

    pub(crate) const fn of(implementation: Implementation) -> Self {
        match implementation {
            Implementation::Locked => Self::LOCKED,
            Implementation::Lockfree => Self::LOCKFREE,
        }
    }
}
