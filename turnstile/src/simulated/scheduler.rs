//! The machine as the tables see it.

use super::{Machine, RawUncontendedMutex, State, name, number};
use crate::{LendingScheduler, Priority, Scheduler, ThreadId, TimedScheduler};

// SAFETY: rule 1: `spawn` numbers the threads, and one of them runs. Rule 2: see `RawUncontendedMutex`. Rule 3: nothing here
// knows of a table. Rule 4: `park`, `relax` and `point` hold nothing and may unwind a thread that will never go on; the other
// methods panic on another thread of the host only, before they have done anything, as `current` does outside of the machine's threads.
unsafe impl Scheduler for Machine {
    type RawLock = RawUncontendedMutex;

    /// # Panics
    ///
    /// If no thread of the machine is running.
    fn current(&self) -> ThreadId {
        name(self.inside().running.expect("a thread of the machine runs"))
    }

    fn priority(&self, thread: ThreadId) -> Priority {
        self.inside().urgency(self.honours_loans, thread)
    }

    fn park(&self) {
        self.wait(None);
    }

    fn unpark(&self, thread: ThreadId) {
        let (mut inside, number) = (self.inside(), number(thread));
        if let Some(thread) = inside.threads.get_mut(number) {
            thread.token = true;
            if matches!(thread.state, State::Parked { .. }) {
                inside.make_ready(number);
            }
        }
    }

    fn point(&self) {
        self.pass();
    }

    fn relax(&self, _: u32) {
        self.pass();
    }
}

// SAFETY: as above.
unsafe impl LendingScheduler for Machine {
    fn own_priority(&self, thread: ThreadId) -> Priority {
        self.inside().threads.get(number(thread)).map_or(Priority::LOWEST, |thread| thread.own)
    }

    fn lend(&self, thread: ThreadId, priority: Priority) {
        if let Some(thread) = self.inside().threads.get_mut(number(thread)) {
            thread.loan = Some(priority);
        }
    }

    fn unlend(&self, thread: ThreadId) {
        if let Some(thread) = self.inside().threads.get_mut(number(thread)) {
            thread.loan = None;
        }
    }
}

// SAFETY: as above.
unsafe impl TimedScheduler for Machine {
    type Instant = u64;
    type Duration = u64;

    fn after(&self, duration: u64) -> Option<u64> {
        self.now().checked_add(duration)
    }

    fn is_past(&self, deadline: u64) -> bool {
        self.now() >= deadline
    }

    fn park_until(&self, deadline: u64) {
        self.wait(Some(deadline));
    }
}
