//! The portable scheduler for hosted programs: it orders wake-ups, and parks on `parking_lot_core`.

mod mutex;
mod threads;

pub use mutex::RawParkingMutex;

use crate::{Priority, Scheduler, ThreadId};

/// The portable scheduler: every thread of the process, parked through [`parking_lot_core`].
///
/// A thread's priority is the number it last gave to [`set_priority`](Self::set_priority), and orders wake-ups
/// only: the operating system is not told. All values of this type are the same scheduler.
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
        threads::priority(thread)
    }

    fn park(&self) {
        threads::park();
    }

    fn unpark(&self, thread: ThreadId) {
        threads::unpark(thread);
    }
}
