//! The portable scheduler for hosted programs: it orders wake-ups, and parks on `parking_lot_core`.

mod mutex;
mod parker;
pub(crate) mod threads;

pub use mutex::RawParkingMutex;
pub use parker::HostedParker;

use std::time::{Duration, Instant};

use crate::{
    LendingScheduler, LockScheduler, PiTurnstiles, Priority, ReadHolds, ReaderScheduler, Scheduler, ThreadId,
    TimedScheduler,
};

/// The portable scheduler: every thread of the process, parked through [`parking_lot_core`].
///
/// A thread's priority is the number it last gave to [`set_priority`](Self::set_priority), and orders wake-ups
/// and lending only: the operating system is not told. All values of this type are the same scheduler.
///
/// ```
/// use turnstile::{Hosted, Priority, Scheduler};
///
/// Hosted.set_priority(Priority::new(200));
/// assert_eq!(Hosted.priority(Hosted.current()), Priority::new(200));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Hosted;

impl Hosted {
    /// Sets the current thread's priority, for waits that start later. Threads start at [`Priority::NORMAL`].
    pub fn set_priority(self, priority: Priority) {
        threads::set_priority(threads::current(), priority);
    }
}

// SAFETY: rule 1: an id is a record's place and the number of its use, which no two threads have in common; a thread
// keeps it to its end, destructors of thread-local values included. Rule 2: see `RawParkingMutex`. Rule 3:
// nothing here knows of a table. Rule 4: nothing here panics.
unsafe impl Scheduler for Hosted {
    type RawLock = RawParkingMutex;

    #[inline]
    fn current(&self) -> ThreadId {
        threads::current()
    }

    #[inline]
    fn priority(&self, thread: ThreadId) -> Priority {
        threads::priority(thread).max(threads::lent(thread))
    }

    fn park(&self) {
        threads::park(None);
    }

    fn unpark(&self, thread: ThreadId) {
        threads::unpark(thread);
    }
}

// SAFETY: nothing here knows of a table, waits, or panics.
unsafe impl LendingScheduler for Hosted {
    fn own_priority(&self, thread: ThreadId) -> Priority {
        threads::priority(thread)
    }

    fn lend(&self, thread: ThreadId, priority: Priority) {
        threads::set_lent(thread, priority);
    }

    fn unlend(&self, thread: ThreadId) {
        threads::set_lent(thread, Priority::LOWEST);
    }
}

// SAFETY: nothing here knows of a table, or panics.
unsafe impl TimedScheduler for Hosted {
    type Instant = Instant;
    type Duration = Duration;

    fn after(&self, duration: Duration) -> Option<Instant> {
        Instant::now().checked_add(duration)
    }

    fn is_past(&self, deadline: Instant) -> bool {
        Instant::now() >= deadline
    }

    fn park_until(&self, deadline: Instant) {
        threads::park(Some(deadline));
    }
}

static TABLE: PiTurnstiles<Hosted> = PiTurnstiles::new(Hosted);

// SAFETY: rule 1: a static. Rule 2: the registry's ids are small.
unsafe impl LockScheduler for Hosted {
    #[inline]
    fn table() -> &'static PiTurnstiles<Self> {
        &TABLE
    }
}

// SAFETY: every record of the registry has a `ReadHolds` of its own, and `each` visits all records.
unsafe impl ReaderScheduler for Hosted {
    fn read_holds(&self, thread: ThreadId) -> Option<&'static ReadHolds> {
        threads::record(thread).map(|record| &record.read_holds)
    }

    fn each_thread(&self, visit: &mut dyn FnMut(ThreadId, &'static ReadHolds)) {
        threads::each(&mut |thread, record| visit(thread, &record.read_holds));
    }
}
