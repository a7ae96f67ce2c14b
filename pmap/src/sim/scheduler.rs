//! The threads' scheduler that delayed invalidation blocks with: a thread is a CPU.

use core::num::NonZeroUsize;
use std::sync::Arc;

use turnstile::{LendingScheduler, PiTurnstiles, Priority, Scheduler, ThreadId};

use super::baton::Event;
use super::context::{self, FIRST_UNBOUND};
use super::doorbell::Doorbells;
use super::lock::RawMutex;

/// A machine's CPUs as threads, with the table that they wait in.
pub type SimScheduler = Arc<PiTurnstiles<SimThreads>>;

/// A machine's CPUs as threads.
///
/// CPU `n` is thread `n + 1`, whichever host thread runs it: one run of a CPU ends before the next
/// begins, and what it did happens-before that. Host threads that are no CPU have names of their own,
/// so a domain can be made and dropped anywhere. Parking takes interrupts; all threads have the same
/// priority, so what they lend each other changes nothing.
pub struct SimThreads {
    pub(super) doorbells: Arc<Doorbells>,
}

impl core::fmt::Debug for SimThreads {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("SimThreads").field("cpus", &self.doorbells.bells.len()).finish()
    }
}

// SAFETY: rule 1: a CPU is run by one host thread at a time (its binding is taken by compare-exchange),
// a host thread that is no CPU has a name from a counter, and successive runs of one CPU are ordered by
// the Release and Acquire of the binding; the name of a host thread changes when it becomes a CPU or
// ceases to be one, and a participant is used by CPUs only. Rule 2: `RawMutex` excludes. Rule 3:
// nothing here knows turnstiles. Rule 4: points do not unwind, nor does a quiet `RawMutex`.
unsafe impl Scheduler for SimThreads {
    type RawLock = RawMutex<true>;

    fn current(&self) -> ThreadId {
        let id = context::with(|here| match here {
            Some(here) if Arc::ptr_eq(&here.machine.doorbells, &self.doorbells) => here.cpu + 1,
            _ => context::unbound_id(),
        });
        ThreadId::new(NonZeroUsize::new(id).unwrap_or(NonZeroUsize::MAX))
    }

    fn priority(&self, _: ThreadId) -> Priority {
        Priority::NORMAL
    }

    fn park(&self) {
        context::park("delayed invalidation", false);
    }

    fn unpark(&self, thread: ThreadId) {
        let id = thread.get().get();
        if id >= FIRST_UNBOUND {
            context::ring_unbound(id);
        } else {
            self.doorbells.ring(id - 1);
        }
    }

    #[inline]
    fn point(&self) {
        context::point(Event::Point);
    }

    fn relax(&self, _: u32) {
        context::relax();
    }
}

// SAFETY: does nothing.
unsafe impl LendingScheduler for SimThreads {
    fn own_priority(&self, thread: ThreadId) -> Priority {
        self.priority(thread)
    }

    fn lend(&self, _: ThreadId, _: Priority) {}

    fn unlend(&self, _: ThreadId) {}
}
