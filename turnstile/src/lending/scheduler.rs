//! What lending and time-outs ask of a scheduler, beyond blocking and waking.

use crate::{Priority, Scheduler, ThreadId};

/// A scheduler whose threads can run at a priority that others lend them.
///
/// A thread has its *own* priority, and at most one *loan*; it runs, and [`Scheduler::priority`] reports it, at the
/// larger of the two. The table computes the loan as the maximum over all that is lent, and tells the scheduler the
/// result: nothing has to be counted or saved here.
///
/// # Safety
///
/// The rules of [`Scheduler`] hold for these methods too: none unwinds, none calls a table. In addition they, and
/// [`Scheduler::unpark`], are called **with the table's lock held**: they must not wait for a thread that may want
/// it, and are no [scheduling points](Scheduler::point).
pub unsafe trait LendingScheduler: Scheduler {
    /// The thread's own priority, without what is lent to it. For a thread that has ended any value will do.
    ///
    /// After changing it, call [`PiTurnstiles::priority_changed`](crate::PiTurnstiles::priority_changed).
    fn own_priority(&self, thread: ThreadId) -> Priority;

    /// From now on `thread` runs at least at `priority`. Replaces the loan it had; may repeat it.
    fn lend(&self, thread: ThreadId, priority: Priority);

    /// Nothing is lent to `thread` any more. It may have had no loan.
    fn unlend(&self, thread: ThreadId);

    /// Whether the calling thread is to be lowered by [`settle`](Self::settle).
    ///
    /// A thread that lets go lowers itself, and has still to wake those it lets go on. If it can be preempted at the moment at which it
    /// is lowered, [`lend`](Self::lend) and [`unlend`](Self::unlend) must put that off when they lower the *calling* thread, or somebody in between
    /// holds up the most urgent: then this says true until `settle` was called. The default, never, is for schedulers that preempt only at
    /// points of their own.
    fn is_unsettled(&self) -> bool {
        false
    }

    /// Lowers the calling thread to what it is lent now. Called with the table's lock held, after those it woke were unparked, if
    /// [`is_unsettled`](Self::is_unsettled).
    fn settle(&self) {}
}

/// A scheduler with a clock.
///
/// # Safety
///
/// The rules of [`Scheduler`] hold for these methods too; [`park_until`](Self::park_until) may unwind as
/// [`Scheduler::park`] may.
pub unsafe trait TimedScheduler: Scheduler {
    /// A point in time.
    type Instant: Copy;
    /// A length of time.
    type Duration;

    /// The point in time `duration` from now, or nothing if it lies beyond what can be said: for ever.
    fn after(&self, duration: Self::Duration) -> Option<Self::Instant>;

    /// Whether `deadline` has been reached.
    fn is_past(&self, deadline: Self::Instant) -> bool;

    /// As [`Scheduler::park`], but returns at `deadline` at the latest.
    fn park_until(&self, deadline: Self::Instant);
}
