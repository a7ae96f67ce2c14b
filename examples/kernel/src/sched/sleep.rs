//! Threads with a deadline, the earliest first.
//!
//! The clock is the boot CPU's timer, in ticks.

use core::cell::Cell;
use core::sync::atomic::{AtomicU64, Ordering};

use super::thread::{Held, Thread};

static TICKS: AtomicU64 = AtomicU64::new(0);

/// Ticks in a second.
pub(crate) const TICKS_PER_SECOND: u64 = 100;

/// Ticks since the scheduler started.
pub(crate) fn ticks() -> u64 {
    // ORD: Relaxed: a clock.
    TICKS.load(Ordering::Relaxed)
}

/// The boot CPU's timer interrupt.
pub(super) fn count_tick() -> u64 {
    // ORD: Relaxed: a clock, and only this CPU sets it.
    TICKS.fetch_add(1, Ordering::Relaxed) + 1
}

/// The list through the field `next_other`.
pub(super) struct Sleepers(Cell<Option<&'static Thread>>);

impl Sleepers {
    pub(super) const fn new() -> Self {
        Self(Cell::new(None))
    }

    /// Puts a thread in its place, behind those with the same deadline.
    pub(super) fn insert(&self, held: &Held, thread: &'static Thread, deadline: u64) {
        thread.scheduling(held).deadline.set(Some(deadline));
        let mut link = &self.0;
        while let Some(other) = link.get()
            && other.scheduling(held).deadline.get() <= Some(deadline)
        {
            link = &other.scheduling(held).next_other;
        }
        thread.scheduling(held).next_other.set(link.replace(Some(thread)));
    }

    /// Takes a thread out if it is in.
    pub(super) fn remove(&self, held: &Held, thread: &'static Thread) {
        if thread.scheduling(held).deadline.take().is_none() {
            return;
        }
        let mut link = &self.0;
        while let Some(other) = link.get() {
            if other == thread {
                link.set(thread.scheduling(held).next_other.take());
                return;
            }
            link = &other.scheduling(held).next_other;
        }
    }

    /// The first whose deadline has come; it stays in.
    pub(super) fn due(&self, held: &Held, now: u64) -> Option<&'static Thread> {
        self.0.get().filter(|thread| thread.scheduling(held).deadline.get() <= Some(now))
    }
}
