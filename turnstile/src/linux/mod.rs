//! The scheduler of Linux's real-time and nice priorities: loans really change how threads run.
//!
//! A loan is carried out with `sched_setscheduler(2)` or `setpriority(2)` on the borrowing thread, so a thread that nobody
//! would run gets the processor that its lender would have. The table's lock must not break that chain: it is a
//! priority-inheriting futex (`FUTEX_LOCK_PI`), since a low thread that is preempted inside an ordinary lock would hold up a high one.

mod lock;
mod parker;
mod policy;
mod threads;

pub use lock::RawFutexPiMutex;
pub use parker::FutexParker;
pub use policy::Policy;
pub(crate) use threads::{RealTime, forget_current};

use core::fmt;
use std::io;
use std::time::{Duration, Instant};

use crate::{
    LendingScheduler, LockScheduler, PiTurnstiles, Priority, ReadHolds, ReaderScheduler, Scheduler, ThreadId,
    TimedScheduler,
};

/// The scheduler that lends real priorities, on Linux. All values of this type are the same scheduler.
///
/// It needs the capability `CAP_SYS_NICE`. [`new`](Self::new) says so if it is missing; locks that are used without it
/// panic when a thread first touches one.
///
/// | policy of the thread | level of its [`Priority`] |
/// |---|---|
/// | `SCHED_IDLE` | 0 |
/// | `SCHED_OTHER`, `SCHED_BATCH` with nice 19 to −20 | 1 to 40 |
/// | `SCHED_FIFO`, `SCHED_RR` with priority 1 to 99 | 101 to 199 |
/// | `SCHED_DEADLINE` | 200; lends as `SCHED_FIFO` with 99, and is never changed itself |
///
/// A thread's own policy is read when it first uses the scheduler; afterwards it is changed with
/// [`set_policy`](Self::set_policy), and not behind the scheduler's back. A loan, and what is undone with it, reaches a thread through **one** table,
/// that of [`LockScheduler::table`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LinuxRt(());

static TABLE: PiTurnstiles<LinuxRt> = PiTurnstiles::new(LinuxRt(()));

impl LinuxRt {
    /// The scheduler.
    ///
    /// # Errors
    ///
    /// [`MissingCapability`] if this thread may not change the priorities of others.
    pub fn new() -> Result<Self, MissingCapability> {
        if policy::may_change_others() { Ok(Self(())) } else { Err(MissingCapability(())) }
    }

    /// Gives the current thread another policy of its own; what it is lent stays, and what it lends follows.
    ///
    /// # Errors
    ///
    /// If the policy's number is out of range ([`io::ErrorKind::InvalidInput`]), or the system refuses; nothing has changed then.
    pub fn set_policy(self, policy: Policy) -> io::Result<()> {
        if !policy.is_valid() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "real-time priorities are 1 to 99, nice values -20 to 19",
            ));
        }
        let me = self.current();
        let old = threads::set_own(me, policy);
        let refused = threads::refused(me);
        TABLE.priority_changed(me);
        if threads::refused(me) == refused {
            return Ok(());
        }
        let error = io::Error::last_os_error();
        if let Some(old) = old {
            threads::set_own(me, old);
            TABLE.priority_changed(me);
        }
        Err(error)
    }

    /// How often the system refused to change the current thread's priority: not 0 means that loans are not honoured, say
    /// because the capability was dropped or a control group has no real-time budget.
    #[must_use]
    pub fn refusals(self) -> u32 {
        threads::refused(self.current())
    }
}

/// The process may not change the priorities of other threads.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MissingCapability(());

impl fmt::Display for MissingCapability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "lending real priorities needs the capability CAP_SYS_NICE: run as root, or grant it with \
             `setcap cap_sys_nice+ep` on the program, or use the portable scheduler `Hosted`",
        )
    }
}

impl core::error::Error for MissingCapability {}

// SAFETY: rule 1: ids are those of the hosted registry. Rule 2: see `RawFutexPiMutex`. Rule 3: nothing below knows of the table.
// Rule 4: only the first call of a thread, which is one of `current`, may panic, before anything is done.
unsafe impl Scheduler for LinuxRt {
    type RawLock = RawFutexPiMutex;

    #[inline]
    fn current(&self) -> ThreadId {
        threads::current()
    }

    fn priority(&self, thread: ThreadId) -> Priority {
        threads::priority(thread)
    }

    fn park(&self) {
        threads::park(None);
    }

    fn unpark(&self, thread: ThreadId) {
        threads::unpark(thread);
    }
}

// SAFETY: nothing below knows of the table, waits, or panics.
unsafe impl LendingScheduler for LinuxRt {
    fn own_priority(&self, thread: ThreadId) -> Priority {
        threads::own_priority(thread)
    }

    fn lend(&self, thread: ThreadId, priority: Priority) {
        threads::set_loan(thread, Some(priority));
    }

    fn unlend(&self, thread: ThreadId) {
        threads::set_loan(thread, None);
    }

    fn is_unsettled(&self) -> bool {
        threads::is_unsettled()
    }

    fn settle(&self) {
        threads::settle();
    }
}

// SAFETY: nothing below knows of the table, or panics.
unsafe impl TimedScheduler for LinuxRt {
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

// SAFETY: rule 1: a static. Rule 2: the registry's ids are small.
unsafe impl LockScheduler for LinuxRt {
    #[inline]
    fn table() -> &'static PiTurnstiles<Self> {
        &TABLE
    }
}

// SAFETY: every record of the registry has a `ReadHolds` of its own for this scheduler, and `each` visits all records.
unsafe impl ReaderScheduler for LinuxRt {
    fn read_holds(&self, thread: ThreadId) -> Option<&'static ReadHolds> {
        // Also while a thread ends: what it still holds for reading is given back by destructors that run late.
        crate::hosted::threads::record(thread).map(|record| &record.real_time.read_holds)
    }

    fn each_thread(&self, visit: &mut dyn FnMut(ThreadId, &'static ReadHolds)) {
        crate::hosted::threads::each(&mut |thread, record| visit(thread, &record.real_time.read_holds));
    }
}
