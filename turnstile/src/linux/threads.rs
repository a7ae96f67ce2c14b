//! What is kept for a thread under the real-time scheduler, in the records of the hosted registry.

use core::cell::Cell;
use core::num::NonZeroUsize;
use std::thread_local;
use std::time::{Duration, Instant};

use super::{FutexParker, LinuxRt, MissingCapability, Policy};
use crate::hosted::threads as registry;
use crate::primitive::{Acquire, AtomicU32, Relaxed, Release};
use crate::{LockScheduler as _, Parker as _, Priority, ReadHolds, ThreadId};

/// No loan; `RealTime::loan`.
const NO_LOAN: u32 = u32::MAX;

/// A thread's part of its record. All zero until it first uses the scheduler.
pub(crate) struct RealTime {
    parker: FutexParker,
    /// The system's number for the thread, 0 before its first use.
    tid: AtomicU32,
    own: AtomicU32,
    /// A priority's level, or `NO_LOAN`.
    loan: AtomicU32,
    /// What the system was last told.
    applied: AtomicU32,
    refused: AtomicU32,
    pub(super) read_holds: ReadHolds,
}

impl RealTime {
    pub(crate) const fn new() -> Self {
        Self {
            parker: FutexParker::NEW,
            tid: AtomicU32::new(0),
            own: AtomicU32::new(0),
            loan: AtomicU32::new(NO_LOAN),
            applied: AtomicU32::new(0),
            refused: AtomicU32::new(0),
            read_holds: ReadHolds::new(),
        }
    }

    fn own(&self) -> Policy {
        // ORD: Relaxed: a number on its own.
        Policy::unpack(self.own.load(Relaxed))
    }

    fn loan(&self) -> Option<Priority> {
        // ORD: Relaxed: a number on its own.
        let loan = self.loan.load(Relaxed);
        (loan != NO_LOAN).then(|| Priority::new(loan as u8))
    }

    /// Has the thread run as its own policy and its loan say. Called under the table's lock, so one at a time.
    fn apply(&self) {
        let policy = self.own().with(self.loan());
        // ORD: Relaxed: written under the table's lock only.
        if self.applied.load(Relaxed) == policy.pack() {
            return;
        }
        // ORD: Relaxed: set once, before the Release that `of` saw.
        if policy.apply(self.tid.load(Relaxed).cast_signed()) {
            // ORD: Relaxed: written under the table's lock only.
            self.applied.store(policy.pack(), Relaxed);
        } else {
            // ORD: Relaxed: a count.
            self.refused.fetch_add(1, Relaxed);
        }
    }
}

/// How long a thread without a record sleeps at a time.
const WITHOUT_RECORD: Duration = Duration::from_micros(200);

thread_local! {
    /// The thread's id once it has used this scheduler, else 0.
    static CURRENT: Cell<usize> = const { Cell::new(0) };
    /// Whether this thread has still to lower itself.
    static UNSETTLED: Cell<bool> = const { Cell::new(false) };
    static TID: Cell<u32> = const { Cell::new(0) };
}

/// The system's number for the current thread.
#[inline]
pub(super) fn tid() -> u32 {
    match TID.get() {
        0 => {
            // SAFETY: takes nothing.
            let tid = unsafe { libc::gettid() }.cast_unsigned();
            TID.set(tid);
            tid
        }
        tid => tid,
    }
}

#[inline]
pub(super) fn current() -> ThreadId {
    match NonZeroUsize::new(CURRENT.get()) {
        Some(id) => ThreadId::new(id),
        None => register(),
    }
}

/// The current thread's record is given back: its number in the system may soon be another thread's, of any process, whose
/// priority is none of our business. What runs later on this thread has no record.
pub(crate) fn forget_current() {
    if let Some(real_time) = NonZeroUsize::new(CURRENT.get()).and_then(|id| of(ThreadId::new(id))) {
        // ORD: Relaxed: read under the table's lock where it is told to the system.
        LinuxRt::table().locked(|_| real_time.tid.store(0, Relaxed));
    }
    CURRENT.set(0);
}

pub(super) fn of(thread: ThreadId) -> Option<&'static RealTime> {
    // ORD: Acquire pairs with the Release store in `register`: the other fields are this thread's then.
    registry::record(thread)
        .map(|record| &record.real_time)
        .filter(|real_time| real_time.tid.load(Acquire) != 0)
}

#[cold]
fn register() -> ThreadId {
    if let Err(missing) = LinuxRt::new() {
        refuse(missing);
    }
    let thread = registry::current();
    if let Some(record) = registry::record(thread).filter(|_| !registry::is_gone()) {
        let real_time = &record.real_time;
        // ORD: Relaxed: published by the store of `tid`. An older thread of the same record has ended.
        real_time.own.store(Policy::of_current().pack(), Relaxed);
        // ORD: Relaxed: as above.
        real_time.loan.store(NO_LOAN, Relaxed);
        // ORD: Relaxed: as above. Nothing needs to be told about what the thread has already.
        real_time.applied.store(Policy::of_current().pack(), Relaxed);
        // ORD: Relaxed: as above.
        real_time.refused.store(0, Relaxed);
        // ORD: Release pairs with the Acquire in `of`.
        real_time.tid.store(tid(), Release);
    }
    CURRENT.set(thread.get().get());
    thread
}

#[cold]
fn refuse(missing: MissingCapability) -> ! {
    panic!("{missing}")
}

pub(super) fn own_priority(thread: ThreadId) -> Priority {
    of(thread).map_or(Priority::LOWEST, |real_time| Priority::new(real_time.own().level()))
}

pub(super) fn priority(thread: ThreadId) -> Priority {
    of(thread).map_or(Priority::LOWEST, |real_time| {
        Priority::new(real_time.own().level()).max(real_time.loan().unwrap_or(Priority::LOWEST))
    })
}

pub(super) fn refused(thread: ThreadId) -> u32 {
    // ORD: Relaxed: a count.
    of(thread).map_or(0, |real_time| real_time.refused.load(Relaxed))
}

/// Writes a thread's own policy down; returns the old one. The system is told with the next loan or its absence.
pub(super) fn set_own(thread: ThreadId, policy: Policy) -> Option<Policy> {
    // ORD: Relaxed: a number on its own.
    of(thread).map(|real_time| Policy::unpack(real_time.own.swap(policy.pack(), Relaxed)))
}

/// Writes the loan down and has the thread run accordingly, at once, or with `settle` if it lowers the calling thread.
/// Called under the table's lock.
pub(super) fn set_loan(thread: ThreadId, loan: Option<Priority>) {
    let Some(real_time) = of(thread) else { return };
    // ORD: Relaxed: a number on its own.
    real_time.loan.store(loan.map_or(NO_LOAN, |loan| u32::from(loan.level())), Relaxed);
    // ORD: Relaxed: written under the table's lock only.
    let applied = Policy::unpack(real_time.applied.load(Relaxed));
    let lowered = real_time.own().with(loan).level() < applied.level();
    if lowered && thread.get().get() == CURRENT.get() {
        // Whom this thread is about to wake must not wait for whoever is more urgent than this thread by itself.
        UNSETTLED.set(true);
    } else {
        real_time.apply();
    }
}

pub(super) fn is_unsettled() -> bool {
    UNSETTLED.get()
}

/// Called under the table's lock, like `set_loan`.
pub(super) fn settle() {
    UNSETTLED.set(false);
    if let Some(real_time) = NonZeroUsize::new(CURRENT.get()).and_then(|id| of(ThreadId::new(id))) {
        real_time.apply();
    }
}

pub(super) fn park(deadline: Option<Instant>) {
    match (of(current()), deadline) {
        (Some(real_time), Some(deadline)) => real_time.parker.park_until(deadline),
        (Some(real_time), None) => real_time.parker.park(),
        // A destructor that runs after the record was given back: it must not sleep where another thread does.
        (None, _) => std::thread::sleep(WITHOUT_RECORD),
    }
}

pub(super) fn unpark(thread: ThreadId) {
    if let Some(real_time) = of(thread) {
        real_time.parker.unpark();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The system gives the number of a thread that has ended to others.
    #[test]
    fn nothing_is_lent_by_the_number_of_a_thread_that_has_ended() {
        if LinuxRt::new().is_err() {
            std::println!("skipped: needs CAP_SYS_NICE");
            return;
        }
        struct Late(std::sync::mpsc::Sender<bool>);
        impl Drop for Late {
            fn drop(&mut self) {
                // Whichever of the thread's values goes first: here the registry's has gone.
                self.0.send(registry::is_gone() && of(current()).is_none()).unwrap();
            }
        }
        thread_local!(static LATE: core::cell::OnceCell<Late> = const { core::cell::OnceCell::new() });
        let (send, receive) = std::sync::mpsc::channel();
        let ended = std::thread::spawn(move || {
            LATE.with(|late| {
                let id = current();
                assert!(of(id).is_some());
                let _ = late.set(Late(send));
                id
            })
        })
        .join()
        .unwrap();
        assert!(receive.recv().unwrap(), "a thread without a record took it up again");
        assert!(of(ended).is_none(), "a thread that has ended is known by its number in the system");
    }

    /// A guard in a thread-local value that is destroyed late still empties its slot, which the record's next thread may need.
    #[test]
    fn a_hold_for_reading_can_be_given_back_late() {
        use crate::{RawPiRwLock, ReaderScheduler as _};
        type Lock = lock_api::RwLock<RawPiRwLock<LinuxRt>, ()>;
        static LOCK: Lock = Lock::new(());
        type Guard = lock_api::RwLockReadGuard<'static, RawPiRwLock<LinuxRt>, ()>;
        thread_local!(static LATE: core::cell::OnceCell<Guard> = const { core::cell::OnceCell::new() });

        let Ok(scheduler) = LinuxRt::new() else {
            std::println!("skipped: needs CAP_SYS_NICE");
            return;
        };
        let ended = std::thread::spawn(|| {
            // The value first, so that it is destroyed last.
            LATE.with(|late| {
                late.set(LOCK.read()).map_err(drop).expect("set once");
            });
            current()
        });
        let ended = ended.join().unwrap();
        assert!(LOCK.try_write().is_some(), "the guard was dropped");
        // Nothing, if another test has taken the record by now.
        if let Some(holds) = scheduler.read_holds(ended) {
            assert!(holds.is_empty(), "a slot names a lock that nobody holds");
        }
    }
}
